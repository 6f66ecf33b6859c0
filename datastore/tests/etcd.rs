//! The store in etcd when etcd is restarted, compacted, restored, silent, or wants to know who asks.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    clippy::needless_pass_by_value,
    reason = "tests panic, and take what they are given"
)]

mod common;

use std::time::{Duration, Instant};

use cleat_datastore::{
    Key, Kind, Store,
    store::{Etcd, EtcdConfig, Filter},
};
use common::{
    Mirror, config, free_port,
    proxy::{Proxy, Way},
    quick, started, tier, tier_json, tier_key,
};
use serde_json::json;

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
    let proxy = Proxy::start(server.port).await;
    let mut proxied = config(&server);
    proxied.endpoints = vec![proxy.endpoint()];
    let mut mirror = Mirror::new(&Etcd::new(proxied));
    for order in 1..=20 {
        store.apply(&tier("a", order)).await.unwrap();
        store.apply(&tier("gone", order)).await.unwrap();
    }
    mirror.until_same_as(&store).await;
    // A look at the store while it is still empty would rightly begin a hold.
    proxy.set(Way::Closed);
    server.kill();
    server.wipe();
    server.launch();
    server.ready();
    server.put(&tier_key("a"), &tier_json("a", 7));
    server.put(&tier_key("new"), &tier_json("new", 8));
    proxy.set(Way::Open);
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_go_away_unless_they_are_written_again() {
    let server = started();
    let store = Etcd::new(config(&server));
    let path = "/calico/felix/v2/no-region/host/h1/status";
    let there = || !server.ctl(&["get", path]).is_empty();
    let live = Some(Duration::from_secs(3));
    let write = async || {
        let written = store.report(path, Some(b"{}".to_vec()), live).await;
        written.unwrap();
    };
    write().await;
    // The lease of the first writing ends within this time, and takes nothing with it.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(6) {
        assert!(there(), "after {:?}", begun.elapsed());
        write().await;
    }
    let begun = Instant::now();
    while there() {
        assert!(begun.elapsed() < common::DEADLINE, "it is still there");
    }
    store
        .report(path, Some(b"last".to_vec()), None)
        .await
        .unwrap();
    assert!(server.ctl(&["lease", "list"]).starts_with("found "));
    store.report(path, None, None).await.unwrap();
    assert!(!there());
}
