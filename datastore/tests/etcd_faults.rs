//! The store in etcd when etcd is restored, wiped, swept, filled, cut off and beheaded: what a reader
//! knows is never less than it should be, and equals a fresh listing at the end.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    clippy::needless_pass_by_value,
    reason = "tests panic, and take what they are given"
)]

mod common;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use cleat_datastore::{
    Key, Kind, Store,
    ipam::{
        AssignRequest, Assignee, EtcdKv, Finding, Ipam,
        kv::{Answer, Kv, KvError, Transaction, Want, Write},
    },
    store::{Etcd, EtcdConfig, Filter, StoreError, ensure_initialized},
};
use common::{
    EtcdServer, Mirror, config, object,
    proxy::{Proxy, Way},
    quick, started, tier, tier_json, tier_key,
};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_backup_is_told_as_differences() {
    let mut server = started();
    let store = Etcd::new(config(&server));
    let mut mirror = Mirror::new(&store);
    fill(&store, 0..12).await;
    server.back_up();
    store.apply(&tier("t0", 100)).await.unwrap();
    store.create(&tier("late", 1)).await.unwrap();
    store.delete(&tier_key("t1"), None).await.unwrap();
    mirror.until_same_as(&store).await;
    server.kill();
    server.restore();
    server.launch();
    server.ready();
    mirror
        .until("the backup's state", |mirror| {
            mirror.order_of("t0") == Some(0.0)
                && mirror.order_of("t1") == Some(1.0)
                && mirror.order_of("late").is_none()
        })
        .await;
    assert_eq!(mirror.held, []);
    mirror.until_same_as(&store).await;
}

/// The revisions of a restored store pass ours while we are away: only its elections, or its past, differ.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_backup_that_has_overtaken_us_is_noticed() {
    for elected_again in [false, true] {
        let mut server = started();
        if elected_again {
            server.kill();
            server.launch();
            server.ready();
        }
        let store = Etcd::new(config(&server));
        fill(&store, 0..12).await;
        let proxy = Proxy::start(server.port).await;
        let mut proxied = config(&server);
        proxied.endpoints = vec![proxy.endpoint()];
        let mut mirror = Mirror::new(&Etcd::new(proxied));
        server.back_up();
        store.create(&tier("late", 1)).await.unwrap();
        store.apply(&tier("t0", 100)).await.unwrap();
        mirror.until_same_as(&store).await;
        proxy.set(Way::Closed);
        mirror
            .until("in trouble", |mirror| !mirror.troubles.is_empty())
            .await;
        server.kill();
        server.restore();
        server.launch();
        server.ready();
        for order in 200..220 {
            server.put(&tier_key("t5"), &tier_json("t5", order));
        }
        proxy.set(Way::Open);
        mirror
            .until("the backup's state", |mirror| {
                mirror.order_of("t0") == Some(0.0) && mirror.order_of("late").is_none()
            })
            .await;
        let restored = |reason: &String| reason.contains("another one than before");
        assert!(
            mirror.troubles.iter().any(restored),
            "{:?}",
            mirror.troubles
        );
        let elections = |reason: &String| reason.contains("elections");
        assert_eq!(mirror.troubles.iter().any(elections), elected_again);
        mirror.until_same_as(&store).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_comes_back_empty_is_held_until_it_is_whole_again() {
    let mut server = started();
    let store = Etcd::new(config(&server));
    let mut mirror = Mirror::new(&store);
    fill(&store, 0..12).await;
    mirror.until_same_as(&store).await;
    server.back_up();
    server.kill();
    server.wipe();
    server.launch();
    server.ready();
    mirror.until("held", Mirror::is_held).await;
    assert_eq!((mirror.held[0].known, mirror.held[0].missing), (12, 12));
    // What is written to it now does not make it whole.
    let in_sync = mirror.in_sync;
    fill(&store, 0..4).await;
    let revision = store.list(&Filter::All).await.unwrap().revision;
    mirror
        .until("held with four", |mirror| {
            mirror.hold().held().is_some_and(|held| held.missing == 8)
        })
        .await;
    assert_eq!((mirror.objects.len(), mirror.in_sync), (13, in_sync));
    assert!(revision > 1 && mirror.deleted.is_empty());
    // A reader that starts now from what the other knows is held as well.
    let mut second = Mirror::starting_from(&store, mirror.objects.clone());
    fill(&store, 4..5).await;
    second
        .until("held, too", |second| {
            second.is_held() && second.hold().held().unwrap().missing == 7
        })
        .await;
    server.kill();
    server.restore();
    server.launch();
    server.ready();
    for reader in [&mut mirror, &mut second] {
        reader
            .until("in sync again", |reader| reader.hold().held().is_none())
            .await;
        reader.until_same_as(&store).await;
        assert_eq!(reader.deleted, []);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_prefix_is_held_and_can_be_accepted() {
    let server = started();
    let store = Etcd::new(config(&server));
    let mut mirror = Mirror::new(&store);
    fill(&store, 0..12).await;
    store
        .create(&object("GlobalNetworkSet", None, "set", json!({})))
        .await
        .unwrap();
    mirror.until_same_as(&store).await;
    // Three in one transaction are no sweep, nor are three, one by one.
    for name in ["t0", "t1", "t2"] {
        store.delete(&tier_key(name), None).await.unwrap();
    }
    mirror.until_same_as(&store).await;
    assert_eq!(mirror.held, []);
    server.ctl(&["del", "/calico/", "--prefix"]);
    mirror.until("held", Mirror::is_held).await;
    assert!(
        mirror.held[0].reason.contains("10 of 10 objects"),
        "{:?}",
        mirror.held
    );
    assert_eq!(
        mirror.objects.len(),
        11,
        "with the profile that is always there"
    );
    store.create(&tier("new", 5)).await.unwrap();
    let in_sync = mirror.in_sync;
    assert!(mirror.hold().accept());
    mirror
        .until("told", |mirror| mirror.in_sync > in_sync)
        .await;
    mirror.until_same_as(&store).await;
    assert_eq!(mirror.order_of("new"), Some(5.0));
    assert_eq!(mirror.objects.len(), 2);
    // It is over: what comes next is told as ever.
    store.delete(&tier_key("new"), None).await.unwrap();
    mirror.until_same_as(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_cluster_behind_the_same_address_is_held() {
    let mut server = started();
    let store = Etcd::new(config(&server));
    ensure_initialized(&store, "v1", "bare").await.unwrap();
    fill(&store, 0..3).await;
    let mut mirror = Mirror::new(&store);
    mirror.until_same_as(&store).await;
    server.kill();
    server.wipe();
    server.launch();
    server.ready();
    // All that we know, in one transaction with another name.
    for index in 0..3 {
        let name = format!("t{index}");
        server.put(&tier_key(&name), &tier_json(&name, 50));
    }
    ensure_initialized(&store, "v1", "bare").await.unwrap();
    mirror
        .until("held for its name", |mirror| {
            mirror.hold().held().is_some_and(|held| {
                held.missing == 0 || held.reason.contains("says to be of cluster")
            })
        })
        .await;
    assert_eq!(mirror.order_of("t0"), Some(0.0));
    mirror.hold().accept();
    mirror.until_same_as(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_store_is_read_and_says_why_it_takes_no_writes() {
    let server = EtcdServer::start_with(&["--quota-backend-bytes", "1000000"]);
    server.ready();
    let store = Etcd::new(config(&server));
    let mut mirror = Mirror::new(&store);
    let mut large = tier("large", 1);
    let annotations = &mut large.metadata_mut().unwrap().annotations;
    annotations.insert("x".to_owned(), "y".repeat(200_000));
    let mut refused = None;
    for _ in 0..20 {
        if let Err(error) = store.apply(&large).await {
            refused = Some(error);
            break;
        }
    }
    let refused = refused.expect("etcd is full by now");
    assert!(matches!(refused, StoreError::Unavailable(_)));
    assert!(refused.to_string().contains("etcd is full"), "{refused}");
    mirror.until_same_as(&store).await;
    assert!(store.get(&tier_key("large")).await.unwrap().is_some());
    assert_eq!(mirror.troubles, Vec::<String>::new());
    // Deleting goes on, and once there is room again, so does writing.
    store.delete(&tier_key("large"), None).await.unwrap();
    let revision = store.list(&Filter::All).await.unwrap().revision;
    server.ctl(&["compact", &revision.to_string(), "--physical"]);
    server.ctl(&["defrag"]);
    server.ctl(&["alarm", "disarm"]);
    store.create(&tier("small", 1)).await.unwrap();
    mirror.until_same_as(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_and_noise_end_no_watch_and_hang_no_request() {
    let server = started();
    let store = Etcd::new(config(&server));
    fill(&store, 0..5).await;
    let proxy = Proxy::start(server.port).await;
    let mut proxied = config(&server);
    proxied.endpoints = vec![proxy.endpoint()];
    let through = Etcd::new(proxied);
    let mut mirror = Mirror::new(&through);
    mirror.until_same_as(&store).await;
    for (round, way) in [Way::Silent, Way::Garbage, Way::Closed]
        .into_iter()
        .enumerate()
    {
        mirror.troubles.clear();
        proxy.set(way);
        store.apply(&tier("t0", 100 + round as i64)).await.unwrap();
        let since = Instant::now();
        assert!(through.list(&Filter::All).await.is_err(), "{way:?}");
        // Two tries, each connecting and asking.
        assert!(since.elapsed() < Duration::from_secs(14), "{way:?}");
        mirror
            .until("in trouble", |mirror| !mirror.troubles.is_empty())
            .await;
        assert_eq!(mirror.objects.len(), 6, "{way:?}");
        proxy.set(Way::Open);
        mirror.until_same_as(&store).await;
        assert!(through.list(&Filter::All).await.is_ok(), "{way:?}");
    }
    assert_eq!(mirror.deleted, []);
}

/// etcd replays at most 1000 revisions at once, and each watch on its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn who_is_thousands_of_revisions_behind_is_in_sync_only_at_the_end() {
    let server = started();
    let store = Etcd::new(config(&server));
    fill(&store, 0..12).await;
    let proxy = Proxy::start(server.port).await;
    let mut proxied = config(&server);
    proxied.endpoints = vec![proxy.endpoint()];
    let mut mirror = Mirror::new(&Etcd::new(proxied));
    mirror.until_same_as(&store).await;
    for round in 1..3 {
        mirror.troubles.clear();
        proxy.set(Way::Closed);
        mirror
            .until("in trouble", |mirror| !mirror.troubles.is_empty())
            .await;
        // Sixteen at a time.
        let writers = (0..16).map(|writer| {
            let client = store.client();
            async move {
                let mut kv = client.await.unwrap().kv_client();
                for index in 0..150 {
                    let name = format!("t{}", 100 + writer);
                    let order = i64::from(round * 1000 + index);
                    let text = tier_json(&name, order).to_string();
                    kv.put(tier_key(&name).path(), text, None).await.unwrap();
                }
            }
        });
        futures::future::join_all(writers).await;
        store
            .delete(&tier_key(&format!("t{round}")), None)
            .await
            .unwrap();
        let service = cleat_datastore::resource::from_manifest(json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": format!("s{round}"), "namespace": "default"},
            "spec": {"clusterIP": "10.96.0.10", "ports": [{"port": 80, "protocol": "TCP"}]},
        }))
        .unwrap()
        .1;
        store.create(&service).await.unwrap();
        let in_sync = mirror.in_sync;
        proxy.set(Way::Open);
        mirror
            .until("in sync", |mirror| mirror.in_sync > in_sync)
            .await;
        for writer in 0..16 {
            let order = mirror.order_of(&format!("t{}", 100 + writer));
            assert_eq!(order, Some(f64::from(round * 1000 + 149)));
        }
        assert_eq!(mirror.order_of(&format!("t{round}")), None);
        assert!(mirror.objects.contains_key(&service.key().unwrap()));
        mirror.until_same_as(&store).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn nothing_is_lost_when_a_leader_dies_amid_writes() {
    let mut servers = EtcdServer::cluster(3);
    let endpoints: Vec<String> = servers.iter().map(EtcdServer::endpoint).collect();
    let store = Etcd::new(quick(EtcdConfig::new(&endpoints)));
    let mut readers: Vec<Mirror> = endpoints
        .iter()
        .map(|endpoint| {
            // Each is at another member first.
            let mut sorted = vec![endpoint.clone()];
            sorted.extend(endpoints.iter().filter(|other| *other != endpoint).cloned());
            Mirror::new(&Etcd::new(quick(EtcdConfig::new(sorted))))
        })
        .collect();
    let mut written = 0;
    for round in 0..2 {
        let leader = servers
            .iter()
            .position(|server| server.is_running() && server.leads());
        let leader = leader.expect("a cluster has a leader");
        for step in 0..30 {
            if step == 10 {
                servers[leader].kill();
            }
            let name = format!("t{round}-{step}");
            let since = Instant::now();
            // A write without an answer may have been done; whoever writes again finds out.
            while let Err(error) = store.apply(&tier(&name, step)).await {
                assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
                assert!(since.elapsed() < Duration::from_secs(20), "{error}");
            }
            written += 1;
        }
        let since = Instant::now();
        for reader in &mut readers {
            reader.until_same_as(&store).await;
            assert_eq!(reader.objects.len(), written + 1);
            assert_eq!((&reader.deleted[..], &reader.held[..]), (&[][..], &[][..]));
        }
        assert!(
            since.elapsed() < Duration::from_secs(10),
            "{:?}",
            since.elapsed()
        );
        servers[leader].launch();
        servers[leader].ready();
    }
    store
        .delete(&Key::global(Kind::Tier, "t0-0"), None)
        .await
        .unwrap();
    for reader in &mut readers {
        reader.until_same_as(&store).await;
        assert_eq!(reader.deleted, [tier_key("t0-0")]);
    }
}

async fn fill(store: &Etcd, range: std::ops::Range<i64>) {
    for index in range {
        store
            .apply(&tier(&format!("t{index}"), index))
            .await
            .unwrap();
    }
}

/// What does not fit, and the addresses that are assigned, each with its handle.
async fn assigned(ipam: &Ipam<Arc<EtcdKv>>) -> (Vec<Finding>, BTreeMap<IpAddr, String>) {
    let (mut others, mut assigned) = (Vec::new(), BTreeMap::new());
    for finding in ipam.check().await.unwrap() {
        // There are no endpoints: every assigned address is reported as used by nobody.
        match finding {
            Finding::Leaked {
                address, handle, ..
            } => {
                assigned.insert(address, handle.unwrap());
            }
            other => others.push(other),
        }
    }
    (others, assigned)
}

async fn fill_ipam(store: &Etcd) {
    for name in ["a", "b"] {
        store
            .create(&object("Node", None, name, json!({})))
            .await
            .unwrap();
    }
    let pool = json!({"cidr": "10.0.0.0/22", "blockSize": 26});
    store
        .create(&object("IPPool", None, "pool", pool))
        .await
        .unwrap();
}

fn wish(number: usize) -> AssignRequest {
    let assignee = Assignee {
        handle: Some(format!("claimant-{number}")),
        attributes: BTreeMap::from([("pod".to_owned(), format!("pod-{number}"))]),
    };
    AssignRequest::workload(["a", "b"][number % 2], 1, 0, assignee)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_member_is_killed_while_addresses_are_assigned_and_none_is_lost_or_given_twice() {
    let mut servers = EtcdServer::cluster(3);
    let endpoints: Vec<String> = servers.iter().map(EtcdServer::endpoint).collect();
    let mut config = quick(EtcdConfig::new(&endpoints));
    config.request_timeout = Duration::from_secs(10);
    let etcd = Arc::new(Etcd::new(config));
    fill_ipam(&etcd).await;
    let ipam = Ipam::new(Arc::new(EtcdKv::new(etcd)));
    let mut given: BTreeMap<IpAddr, String> = BTreeMap::new();
    let leader = servers.iter().position(EtcdServer::leads).unwrap();
    for (round, kill) in (leader..leader + 3).enumerate() {
        let victim = &mut servers[kill % 3];
        let mut claimants: FuturesUnordered<_> = (round * 34..round * 34 + 34)
            .map(|number| {
                let ipam = ipam.clone();
                tokio::spawn(async move { (number, ipam.assign(&wish(number)).await) })
            })
            .collect();
        let mut answered = 0;
        while let Some(claimant) = claimants.next().await {
            let (number, result) = claimant.unwrap();
            let net = result.unwrap()[0];
            let before = given.insert(net.addr(), format!("claimant-{number}"));
            assert_eq!(before, None, "{net} was given twice");
            answered += 1;
            if answered == 5 {
                victim.kill();
            }
        }
        assert_eq!(answered, 34);
        victim.launch();
        victim.ready();
    }
    assert_eq!(assigned(&ipam).await, (Vec::new(), given));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_assignment_whose_answer_is_lost_is_found_to_have_been_done() {
    let server = started();
    let direct = Arc::new(Etcd::new(config(&server)));
    fill_ipam(&direct).await;
    let direct = Arc::new(EtcdKv::new(direct));
    let others = Ipam::new(direct.clone());
    let proxy = Proxy::start(server.port).await;
    let mut proxied = config(&server);
    proxied.endpoints = vec![proxy.endpoint()];
    proxied.request_timeout = Duration::from_secs(1);
    let ipam = Ipam::new(Arc::new(LosingKv {
        kv: EtcdKv::new(Arc::new(Etcd::new(proxied))),
        proxy,
        direct,
        others: others.clone(),
    }));
    let mut given = BTreeMap::new();
    for number in 0..4 {
        let net = ipam.assign(&wish(number)).await.unwrap()[0];
        given.insert(net.addr(), format!("claimant-{number}"));
    }
    assert_eq!(given.len(), 4);
    let (findings, mut all) = assigned(&others).await;
    all.retain(|_, handle| handle.starts_with("claimant-"));
    assert_eq!((findings, all), (Vec::new(), given));
}

/// A store that loses the answer to every transaction, and is back when somebody else has gone on from what it did.
struct LosingKv {
    kv: EtcdKv,
    proxy: Proxy,
    direct: Arc<EtcdKv>,
    others: Ipam<Arc<EtcdKv>>,
}

impl Kv for LosingKv {
    fn read<'a>(&'a self, wants: &'a [Want]) -> BoxFuture<'a, Result<Answer, KvError>> {
        self.kv.read(wants)
    }

    fn commit<'a>(&'a self, transaction: &'a Transaction) -> BoxFuture<'a, Result<bool, KvError>> {
        async move {
            self.proxy.set(Way::Mute);
            let done = self.kv.commit(transaction);
            let meanwhile = async {
                let Some(Write::Put(key, value)) = transaction.writes.first() else {
                    panic!("an assignment writes");
                };
                let deadline = Instant::now() + Duration::from_secs(20);
                loop {
                    let there = self.direct.read(&[Want::Key(key.clone())]).await.unwrap();
                    if there.entries.iter().any(|entry| entry.value == *value) {
                        break;
                    }
                    assert!(Instant::now() < deadline, "the transaction does not arrive");
                }
                let mut wish = wish(0);
                wish.assignee.handle = Some("other".to_owned());
                self.others.assign(&wish).await.unwrap();
                self.proxy.set(Way::Open);
            };
            tokio::join!(done, meanwhile).0
        }
        .boxed()
    }
}
