//! The store in etcd that wants to know who asks: users, tokens that expire, roles, certificates.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    clippy::needless_pass_by_value,
    reason = "tests panic, and take what they are given"
)]

mod common;

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use cleat_datastore::{
    Store,
    store::{Etcd, EtcdConfig, Filter, StoreError},
};
use common::{
    EtcdServer, Mirror, config, object,
    proxy::{Proxy, Way},
    started, tier, tier_key,
};
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_and_passwords_are_asked_for() {
    let server = started();
    enable_auth(&server);
    let store = Etcd::new(with_user(&server, "cleat", "pass"));
    let mut mirror = Mirror::new(&store);
    store.create(&tier("a", 1)).await.unwrap();
    mirror.until_same_as(&store).await;
    for refused in [
        Etcd::new(config(&server)),
        Etcd::new(with_user(&server, "cleat", "wrong")),
    ] {
        assert!(refused.list(&Filter::All).await.is_err());
        let mut mirror = Mirror::new(&refused);
        mirror
            .until("in trouble", |mirror| !mirror.troubles.is_empty())
            .await;
        assert_eq!(mirror.in_sync, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn simple_tokens_that_expire_and_are_forgotten_are_renewed() {
    let mut server = EtcdServer::start_with(&["--auth-token-ttl", "1"]);
    server.ready();
    enable_auth(&server);
    let store = Etcd::new(with_user(&server, "cleat", "pass"));
    let mut mirror = Mirror::new(&store);
    write_past_expiry(&store, &mut mirror).await;
    // Tokens of this sort live in the server's memory.
    server.kill();
    server.launch();
    write_past_expiry(&store, &mut mirror).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signed_tokens_that_expire_are_renewed() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    openssl(&["genrsa", "-out", &path("jwt.key"), "2048"]);
    openssl(&[
        "rsa",
        "-in",
        &path("jwt.key"),
        "-pubout",
        "-out",
        &path("jwt.pub"),
    ]);
    let token = format!(
        "jwt,pub-key={},priv-key={},sign-method=RS256,ttl=1s",
        path("jwt.pub"),
        path("jwt.key")
    );
    let mut server = EtcdServer::start_with(&["--auth-token", &token]);
    server.ready();
    enable_auth(&server);
    let store = Etcd::new(with_user(&server, "cleat", "pass"));
    let mut mirror = Mirror::new(&store);
    write_past_expiry(&store, &mut mirror).await;
    // A token of before the user's role changed is refused for its age.
    server.ctl_as_root(&["role", "add", "other"]);
    server.ctl_as_root(&["user", "grant-role", "cleat", "other"]);
    store.apply(&tier("a", 50)).await.unwrap();
    mirror.until_same_as(&store).await;
    server.kill();
    server.launch();
    write_past_expiry(&store, &mut mirror).await;
}

/// Writes for longer than a token lives, each time at once.
async fn write_past_expiry(store: &Etcd, mirror: &mut Mirror) {
    let begun = Instant::now();
    let mut order = 0;
    while begun.elapsed() < Duration::from_secs(4) {
        order += 1;
        match store.apply(&tier("a", order)).await {
            // The server is on its way up.
            Err(StoreError::Unavailable(reason)) => {
                assert!(!reason.contains("token"), "{reason}");
                assert!(begun.elapsed() < Duration::from_secs(3), "{reason}");
            }
            done => drop(done.unwrap()),
        }
        tokio::task::yield_now().await;
    }
    mirror.until_same_as(store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_read_cleats_own_root_is_told_so_and_follows_the_rest() {
    let server = started();
    enable_auth(&server);
    let root = Etcd::new(with_user(&server, "root", "secret"));
    root.create(&tier("a", 1)).await.unwrap();
    root.create(&service("s")).await.unwrap();
    let store = Etcd::new(with_user(&server, "cleat", "pass"));
    let mut mirror = Mirror::new(&store);
    mirror.until_same_as(&store).await;
    assert_eq!(mirror.order_of("a"), Some(1.0));
    assert_eq!(mirror.unreadable.len(), 1, "{:?}", mirror.unreadable);
    let problem = mirror.unreadable[0].to_string();
    assert!(
        problem.contains("/cleat/") && problem.contains("grant"),
        "{problem}"
    );
    let listing = store.list(&Filter::All).await.unwrap();
    assert_eq!(listing.unreadable.len(), 1);
    // Who is given the rights later need not do anything.
    grant(&server, "/cleat/");
    mirror
        .until("with the service", |mirror| {
            mirror.objects.contains_key(&service("s").key().unwrap())
        })
        .await;
    mirror
        .until("without a note", |mirror| mirror.unreadable.is_empty())
        .await;
    mirror.until_same_as(&root).await;
    // What is not to be read any more is not gone.
    server.ctl_as_root(&["role", "revoke-permission", "calico", "--prefix", "/cleat/"]);
    let mut second = Mirror::starting_from(&store, mirror.objects.clone());
    second.until("in sync", |second| second.in_sync > 0).await;
    assert_eq!(second.deleted, []);
    assert!(second.objects.contains_key(&service("s").key().unwrap()));
}

/// The last change that the reader saw is one that it may not look at any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_loses_cleats_own_root_while_cut_off_follows_the_rest() {
    let server = started();
    enable_auth(&server);
    grant(&server, "/cleat/");
    let root = Etcd::new(with_user(&server, "root", "secret"));
    root.create(&tier("a", 1)).await.unwrap();
    root.create(&service("s")).await.unwrap();
    let proxy = Proxy::start(server.port).await;
    let mut proxied = with_user(&server, "cleat", "pass");
    proxied.endpoints = vec![proxy.endpoint()];
    let mut mirror = Mirror::new(&Etcd::new(proxied));
    mirror.until_same_as(&root).await;
    for round in 0..2 {
        mirror.troubles.clear();
        proxy.set(Way::Closed);
        mirror
            .until("in trouble", |mirror| !mirror.troubles.is_empty())
            .await;
        if round == 0 {
            server.ctl_as_root(&["role", "revoke-permission", "calico", "--prefix", "/cleat/"]);
        }
        root.apply(&tier("a", 2 + round)).await.unwrap();
        proxy.set(Way::Open);
        let order = Some((2 + round) as f64);
        mirror
            .until("with the tier", |mirror| mirror.order_of("a") == order)
            .await;
        assert_eq!(mirror.deleted, []);
        mirror
            .until("with a note", |mirror| mirror.unreadable.len() == 1)
            .await;
        assert!(mirror.objects.contains_key(&service("s").key().unwrap()));
        let listed_again = |reason: &String| reason.contains("may read less");
        assert_eq!(mirror.troubles.iter().any(listed_again), round == 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_shown_and_looked_at_in_files_and_in_place() {
    let authority = Authority::new();
    authority.sign("etcd");
    authority.sign("client");
    let server = authority.server("ca.pem");
    let mut config = config(&server);
    config.ca_file = Some(authority.path("ca.pem").into());
    let nameless = Etcd::new(config.clone());
    assert!(nameless.list(&Filter::All).await.is_err(), "no certificate");
    config.cert_file = Some(authority.path("client.pem").into());
    let keyless = Etcd::new(config.clone())
        .list(&Filter::All)
        .await
        .unwrap_err();
    assert!(keyless.to_string().contains("without its key"), "{keyless}");
    config.key_file = Some(authority.path("client.key").into());
    let store = Etcd::new(config.clone());
    let mut mirror = Mirror::new(&store);
    store.create(&tier("a", 1)).await.unwrap();
    mirror.until_same_as(&store).await;

    let read = |name: &str| std::fs::read_to_string(authority.path(name)).unwrap();
    let mut in_place = common::config(&server);
    in_place.ca_pem = Some(read("ca.pem"));
    in_place.cert_pem = Some(read("client.pem"));
    in_place.key_pem = Some(read("client.key"));
    let found = Etcd::new(in_place).get(&tier_key("a")).await.unwrap();
    assert!(found.is_some());
}

/// The server forgets the old authority only when every client has a certificate of the new one: the
/// order in which certificates are replaced in the field.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_that_are_replaced_are_used_without_a_restart() {
    let authority = Authority::new();
    authority.sign("etcd");
    authority.sign("client");
    let mut server = authority.server("both.pem");
    let mut config = config(&server);
    config.ca_file = Some(authority.path("ca.pem").into());
    config.cert_file = Some(authority.path("client.pem").into());
    config.key_file = Some(authority.path("client.key").into());
    let store = Etcd::new(config);
    let mut mirror = Mirror::new(&store);
    store.create(&tier("a", 1)).await.unwrap();
    mirror.until_same_as(&store).await;

    // A certificate that does not fit its key yet: what runs goes on.
    let next = Authority::new();
    next.sign("client");
    std::fs::copy(next.path("client.pem"), authority.path("client.pem")).unwrap();
    store.apply(&tier("a", 2)).await.unwrap();
    mirror.until_same_as(&store).await;
    std::fs::copy(next.path("client.key"), authority.path("client.key")).unwrap();
    std::fs::write(
        authority.path("both.pem"),
        std::fs::read_to_string(next.path("ca.pem")).unwrap(),
    )
    .unwrap();
    // From here on the server knows the new authority alone.
    server.kill();
    server.launch();
    let begun = Instant::now();
    while let Err(error) = store.apply(&tier("a", 3)).await {
        assert!(begun.elapsed() < Duration::from_secs(20), "{error}");
    }
    mirror.until_same_as(&store).await;
    assert_eq!(mirror.order_of("a"), Some(3.0));
    assert_eq!(mirror.deleted, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_certificate_is_used_while_the_old_connection_lives() {
    let authority = Authority::new();
    authority.sign("etcd");
    authority.sign("client");
    let server = authority.server("ca.pem");
    let mut config = config(&server);
    config.ca_file = Some(authority.path("ca.pem").into());
    config.cert_file = Some(authority.path("client.pem").into());
    config.key_file = Some(authority.path("client.key").into());
    let store = Etcd::new(config);
    let mut mirror = Mirror::new(&store);
    store.create(&tier("a", 1)).await.unwrap();
    mirror.until_same_as(&store).await;
    // The name of a user of etcd stands in a certificate, and here the new one has all the rights.
    enable_auth_by_certificate(&server, &authority);
    authority.sign_as("client", "cleat");
    let begun = Instant::now();
    while let Err(error) = store.apply(&tier("a", 2)).await {
        assert!(begun.elapsed() < Duration::from_secs(20), "{error}");
    }
    mirror.until_same_as(&store).await;
    assert_eq!(mirror.order_of("a"), Some(2.0));
}

fn service(name: &str) -> cleat_datastore::Resource {
    cleat_datastore::resource::from_manifest(json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"clusterIP": "10.96.0.10", "ports": [{"port": 80, "protocol": "TCP"}]},
    }))
    .map_or_else(
        |_| object("Service", Some("default"), name, json!({})),
        |(_, resource)| resource,
    )
}

fn with_user(server: &EtcdServer, name: &str, password: &str) -> EtcdConfig {
    let mut config = config(server);
    config.user = Some((name.to_owned(), password.to_owned()));
    config
}

fn enable_auth(server: &EtcdServer) {
    for args in [
        &["user", "add", "root:secret"][..],
        &["user", "grant-role", "root", "root"],
        &["user", "add", "cleat:pass"],
        &["role", "add", "calico"],
        &["user", "grant-role", "cleat", "calico"],
    ] {
        server.ctl(args);
    }
    let prefix = ["--prefix=true", "readwrite", "/calico/"];
    server.ctl(&[&["role", "grant-permission", "calico"][..], &prefix].concat());
    server.ctl(&["auth", "enable"]);
}

fn enable_auth_by_certificate(server: &EtcdServer, authority: &Authority) {
    let root = [
        "--cert",
        &authority.path("root.pem"),
        "--key",
        &authority.path("root.key"),
    ];
    authority.sign("root");
    enable_auth(server);
    // Whoever has this certificate is this user.
    let args = [&root[..], &["user", "list"]].concat();
    assert!(server.ctl(&args).contains("cleat"));
}

fn grant(server: &EtcdServer, prefix: &str) {
    let args = [
        "role",
        "grant-permission",
        "calico",
        "--prefix=true",
        "readwrite",
        prefix,
    ];
    server.ctl_as_root(&args);
}

/// Who signs certificates.
struct Authority {
    directory: tempfile::TempDir,
}

impl Authority {
    fn new() -> Self {
        let authority = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        let usage = "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n";
        std::fs::write(authority.path("ext"), usage).unwrap();
        openssl(&[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            &format!("/CN=ca-{}", authority.directory.path().display()).replace("/tmp/", ""),
            "-keyout",
            &authority.path("ca.key"),
            "-out",
            &authority.path("ca.pem"),
        ]);
        std::fs::copy(authority.path("ca.pem"), authority.path("both.pem")).unwrap();
        authority
    }

    fn path(&self, name: &str) -> String {
        Path::join(self.directory.path(), name)
            .display()
            .to_string()
    }

    fn sign(&self, name: &str) {
        self.sign_as(name, name);
    }

    fn sign_as(&self, file: &str, name: &str) {
        let subject = format!("/CN={name}");
        openssl(&[
            "req",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            &subject,
            "-keyout",
            &self.path(&format!("{file}.key")),
            "-out",
            &self.path("csr"),
        ]);
        openssl(&[
            "x509",
            "-req",
            "-days",
            "2",
            "-in",
            &self.path("csr"),
            "-CA",
            &self.path("ca.pem"),
            "-CAkey",
            &self.path("ca.key"),
            "-CAcreateserial",
            "-extfile",
            &self.path("ext"),
            "-out",
            &self.path(&format!("{file}.pem")),
        ]);
    }

    fn server(&self, clients: &str) -> EtcdServer {
        let server = EtcdServer::start_with(&[
            "--cert-file",
            &self.path("etcd.pem"),
            "--key-file",
            &self.path("etcd.key"),
            "--trusted-ca-file",
            &self.path(clients),
            "--client-cert-auth",
        ]);
        server.ready_for(
            &self.path("ca.pem"),
            &self.path("etcd.pem"),
            &self.path("etcd.key"),
        );
        server
    }
}

fn openssl(args: &[&str]) {
    let output = Command::new("openssl").args(args).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {errors}");
}
