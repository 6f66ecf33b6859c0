//! The store in etcd when etcd is restarted, compacted, restored, silent, or wants to know who asks.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    clippy::needless_pass_by_value,
    reason = "tests panic, and take what they are given"
)]

mod common;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use cleat_datastore::{
    Key, Kind, Store,
    store::{Etcd, EtcdConfig, Filter},
};
use common::{EtcdServer, Mirror, free_port, tier, tier_json, tier_key};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_survives_a_killed_server_and_tells_what_happened_meanwhile() {
    let mut server = started();
    let store = Etcd::new(config(&server));
    let mut mirror = Mirror::new(&store);
    store.create(&tier("a", 1)).await.unwrap();
    store.create(&tier("b", 1)).await.unwrap();
    mirror.until_same_as(&store).await;
    server.kill();
    mirror
        .until("in trouble", |mirror| !mirror.troubles.is_empty())
        .await;
    assert_eq!(
        mirror.objects.len(),
        3,
        "nothing is forgotten for want of a store"
    );
    let in_sync = mirror.in_sync;
    server.launch();
    server.ready();
    // The connection that the store had is gone; a reader need not know.
    assert!(store.get(&tier_key("a")).await.unwrap().is_some());
    server.ctl(&["del", &tier_key("a").path()]);
    server.put(&tier_key("b"), &tier_json("b", 2));
    mirror
        .until("up to date", |mirror| {
            mirror.order_of("a").is_none()
                && mirror.order_of("b") == Some(2.0)
                && mirror.in_sync > in_sync
        })
        .await;
    assert_eq!(mirror.deleted, [tier_key("a")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compaction_of_what_was_missed_is_one_relist_with_deletes() {
    let mut server = started();
    let store = Etcd::new(config(&server));
    for name in ["a", "b", "c"] {
        store.create(&tier(name, 1)).await.unwrap();
    }
    let proxy = Proxy::start(server.port).await;
    let mut proxied = config(&server);
    proxied.endpoints = vec![proxy.endpoint()];
    let mut mirror = Mirror::new(&Etcd::new(proxied));
    mirror.until_same_as(&store).await;
    proxy.set(Way::Closed);
    mirror
        .until("in trouble", |mirror| !mirror.troubles.is_empty())
        .await;
    store.delete(&tier_key("a"), None).await.unwrap();
    let revision = store.apply(&tier("b", 2)).await.unwrap().revision;
    server.ctl(&["compact", &revision.to_string()]);
    proxy.set(Way::Open);
    mirror.until_same_as(&store).await;
    assert_eq!(mirror.deleted, [tier_key("a")]);
    assert!(
        mirror
            .troubles
            .iter()
            .any(|reason| reason.contains("compacted")),
        "{:?}",
        mirror.troubles
    );
    store.apply(&tier("c", 3)).await.unwrap();
    mirror.until_same_as(&store).await;
    server.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_put_back_to_an_older_state_is_told_as_differences() {
    let mut server = started();
    let store = Etcd::new(config(&server));
    let mut mirror = Mirror::new(&store);
    for order in 1..=20 {
        store.apply(&tier("a", order)).await.unwrap();
        store.apply(&tier("gone", order)).await.unwrap();
    }
    mirror.until_same_as(&store).await;
    server.kill();
    server.wipe();
    server.launch();
    server.ready();
    server.put(&tier_key("a"), &tier_json("a", 7));
    server.put(&tier_key("new"), &tier_json("new", 8));
    mirror
        .until("the restored state", |mirror| {
            mirror.order_of("a") == Some(7.0)
                && mirror.order_of("new") == Some(8.0)
                && mirror.order_of("gone").is_none()
        })
        .await;
    assert_eq!(mirror.deleted, [tier_key("gone")]);
    mirror.until_same_as(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_connection_is_given_up_at_the_deadline() {
    let server = started();
    let store = Etcd::new(config(&server));
    let proxy = Proxy::start(server.port).await;
    let mut proxied = config(&server);
    proxied.endpoints = vec![proxy.endpoint()];
    let mut mirror = Mirror::new(&Etcd::new(proxied));
    store.create(&tier("a", 1)).await.unwrap();
    mirror.until_same_as(&store).await;
    // Peace is no silence: the deadline passes more than once without trouble.
    let calm = Instant::now() + Duration::from_millis(3500);
    let _ = tokio::time::timeout_at(calm.into(), mirror.until("never", |_| false)).await;
    assert_eq!(mirror.troubles, Vec::<String>::new());

    proxy.set(Way::Silent);
    let since = Instant::now();
    store.apply(&tier("a", 2)).await.unwrap();
    mirror
        .until("in trouble", |mirror| !mirror.troubles.is_empty())
        .await;
    assert!(
        since.elapsed() < Duration::from_secs(6),
        "{:?}",
        since.elapsed()
    );
    assert!(
        mirror.troubles[0].contains("no sign of life"),
        "{:?}",
        mirror.troubles
    );
    proxy.set(Way::Open);
    mirror
        .until("up to date", |mirror| mirror.order_of("a") == Some(2.0))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_begins_before_its_server_and_outlives_it_for_ever() {
    let port = free_port();
    let store = Etcd::new(quick(EtcdConfig::new([format!("http://127.0.0.1:{port}")])));
    let mut mirror = Mirror::new(&store);
    mirror
        .until("in trouble, again and again", |mirror| {
            mirror.troubles.len() >= 4
        })
        .await;
    let refused = store.list(&Filter::All).await;
    assert!(refused.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_others_are_left_alone_and_broken_values_are_problems() {
    let server = started();
    for (path, value) in [
        ("/calico/felix/v2/no-region/host/h/status", "{}"),
        (
            "/calico/resources/v3/projectcalico.org/unheardofs/default",
            "{}",
        ),
        ("/calico/ipam/v2/handle/x", "{}"),
        ("/calico/resources/v3/projectcalico.org/tiers/", "{}"),
        ("/calico/ipam/v2/host/h1/ipv4/block/10.0.0.0-26", ""),
        (
            "/calico/ipam/v2/host/h1/ipv6/block/fd00::-122",
            "{\"state\":\"pending\"}",
        ),
    ] {
        server.ctl(&["put", path, value]);
    }
    server.put(&tier_key("good"), &tier_json("good", 1));
    server.put(&tier_key("bad"), &json!({"spec": {"order": "first"}}));
    let store = Etcd::new(config(&server));
    let mut mirror = Mirror::new(&store);
    mirror.until("in sync", |mirror| mirror.in_sync > 0).await;
    let keys: Vec<String> = mirror.objects.keys().map(Key::to_string).collect();
    assert_eq!(
        keys,
        [
            "Profile(projectcalico-default-allow)",
            "Tier(bad)",
            "Tier(good)",
            "BlockAffinity(h1/10.0.0.0/26)",
            "BlockAffinity(h1/fd00::/122)",
        ]
    );
    let bad = &mirror.objects[&tier_key("bad")];
    assert_eq!(bad.value, None);
    assert_eq!(bad.problem.as_ref().unwrap().field, "spec.order");
    // A good value that turns bad is gone, with its problem.
    server.put(&tier_key("good"), &json!(["no", "tier"]));
    mirror
        .until("broken", |mirror| {
            mirror.objects[&tier_key("good")].problem.is_some()
        })
        .await;
    // What is broken can still be replaced and deleted.
    store.apply(&tier("good", 5)).await.unwrap();
    store.delete(&tier_key("bad"), None).await.unwrap();
    mirror.until_same_as(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_and_passwords_are_asked_for() {
    let server = started();
    for args in [
        &["user", "add", "root:secret"][..],
        &["user", "grant-role", "root", "root"],
        &["user", "add", "cleat:pass"],
        &["role", "add", "calico"],
        &[
            "role",
            "grant-permission",
            "calico",
            "--prefix=true",
            "readwrite",
            "/calico/",
        ],
        &["user", "grant-role", "cleat", "calico"],
        &["auth", "enable"],
    ] {
        server.ctl(args);
    }
    let with = |user: Option<(&str, &str)>| {
        let mut config = config(&server);
        config.user = user.map(|(name, password)| (name.to_owned(), password.to_owned()));
        Etcd::new(config)
    };
    let store = with(Some(("cleat", "pass")));
    let mut mirror = Mirror::new(&store);
    store.create(&tier("a", 1)).await.unwrap();
    mirror.until_same_as(&store).await;
    for refused in [with(None), with(Some(("cleat", "wrong")))] {
        assert!(refused.list(&Filter::All).await.is_err());
        let mut mirror = Mirror::new(&refused);
        mirror
            .until("in trouble", |mirror| !mirror.troubles.is_empty())
            .await;
        assert_eq!(mirror.in_sync, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_shown_and_looked_at() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let openssl = |args: &[&str]| {
        let output = std::process::Command::new("openssl")
            .args(args)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    std::fs::write(
        path("ext"),
        "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n",
    )
    .unwrap();
    openssl(&[
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=test-ca",
        "-keyout",
        &path("ca.key"),
        "-out",
        &path("ca.pem"),
    ]);
    openssl(&[
        "req",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=etcd",
        "-keyout",
        &path("key.pem"),
        "-out",
        &path("csr"),
    ]);
    openssl(&[
        "x509",
        "-req",
        "-days",
        "2",
        "-in",
        &path("csr"),
        "-CA",
        &path("ca.pem"),
        "-CAkey",
        &path("ca.key"),
        "-CAcreateserial",
        "-extfile",
        &path("ext"),
        "-out",
        &path("cert.pem"),
    ]);

    let server = EtcdServer::start_with(&[
        "--cert-file",
        &path("cert.pem"),
        "--key-file",
        &path("key.pem"),
        "--trusted-ca-file",
        &path("ca.pem"),
        "--client-cert-auth",
    ]);
    server.ready();
    let mut config = config(&server);
    config.ca_file = Some(path("ca.pem").into());
    let nameless = Etcd::new(config.clone());
    assert!(nameless.list(&Filter::All).await.is_err(), "no certificate");
    config.cert_file = Some(path("cert.pem").into());
    config.key_file = Some(path("key.pem").into());
    let store = Etcd::new(config);
    let mut mirror = Mirror::new(&store);
    store.create(&tier("a", 1)).await.unwrap();
    mirror.until_same_as(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_are_away_do_not_matter_while_one_answers() {
    let server = started();
    let mut config = config(&server);
    for _ in 0..2 {
        let away = format!("http://127.0.0.1:{}", free_port());
        config.endpoints.insert(0, away);
    }
    let store = Etcd::new(config);
    let mut mirror = Mirror::new(&store);
    for order in 0..10 {
        store.apply(&tier("a", order)).await.unwrap();
    }
    mirror.until_same_as(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_are_of_one_revision_and_shrink_until_they_fit() {
    let server = started();
    let mut config = config(&server);
    let store = Etcd::new(config.clone());
    // Together more than the largest answer that is taken.
    for index in 0..100 {
        let mut large = tier(&format!("t{index}"), index);
        let annotations = &mut large.metadata_mut().unwrap().annotations;
        annotations.insert("x".to_owned(), "y".repeat(200_000));
        store.create(&large).await.unwrap();
    }
    for page_size in [7, 1000] {
        config.page_size = page_size;
        let listing = Etcd::new(config.clone())
            .list(&Filter::kind(Kind::Tier))
            .await
            .unwrap();
        assert_eq!(listing.entries.len(), 100, "pages of {page_size}");
    }
}

fn started() -> EtcdServer {
    let server = EtcdServer::start();
    server.ready();
    server
}

fn config(server: &EtcdServer) -> EtcdConfig {
    quick(EtcdConfig::new([server.endpoint()]))
}

fn quick(mut config: EtcdConfig) -> EtcdConfig {
    config.request_timeout = Duration::from_secs(3);
    config.progress_interval = Duration::from_millis(300);
    config.progress_deadline = Duration::from_millis(1500);
    config.relist_spread = Duration::from_millis(200);
    config
}

/// What a proxy does with its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Open,
    Silent,
    Closed,
}

/// A proxy in front of a server that can fall silent.
struct Proxy {
    address: SocketAddr,
    way: watch::Sender<Way>,
}

impl Proxy {
    async fn start(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, way) = watch::channel(Way::Open);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *way.borrow() != Way::Open {
                    drop(client);
                    continue;
                }
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else {
                    continue;
                };
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                tokio::spawn(pump(from_client, to_server, way.clone()));
                tokio::spawn(pump(from_server, to_client, way.clone()));
            }
        });
        Self {
            address,
            way: sender,
        }
    }

    fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    fn set(&self, way: Way) {
        self.way.send(way).unwrap();
    }
}

async fn pump(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut way: watch::Receiver<Way>,
) {
    let mut buffer = vec![0; 65536];
    loop {
        tokio::select! {
            read = from.read(&mut buffer) => {
                let Ok(len @ 1..) = read else { return };
                let now = *way.borrow();
                match now {
                    Way::Open => if to.write_all(&buffer[..len]).await.is_err() { return },
                    // Swallowed: what comes later on this connection would be nonsense, but nothing does.
                    Way::Silent => {}
                    Way::Closed => return,
                }
            }
            changed = way.changed() => {
                if changed.is_err() || *way.borrow() == Way::Closed {
                    return;
                }
            }
        }
    }
}
