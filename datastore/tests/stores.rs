//! The contract of a store, run over every store.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    clippy::needless_pass_by_value,
    reason = "tests panic, and take what they are given"
)]

mod common;

use std::sync::Arc;

use cleat_datastore::{
    Key, Kind, Resource, Store,
    store::{
        AnyStore, Dir, Etcd, EtcdConfig, Filter, Memory, StoreError, ensure_initialized, initialize,
    },
};
use common::{EtcdServer, Mirror, object, tier, tier_key};
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_keeps_the_contract() {
    conformance(&async || (Arc::new(Memory::new()) as AnyStore, ())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_keeps_the_contract() {
    conformance(&async || {
        let directory = tempfile::tempdir().unwrap();
        let store = Dir::new(directory.path());
        (Arc::new(store) as AnyStore, directory)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_keeps_the_contract() {
    let server = EtcdServer::start();
    server.ready();
    conformance(&async || {
        server.ctl(&["del", "", "--from-key"]);
        let mut config = EtcdConfig::new([server.endpoint()]);
        config.page_size = 3;
        (Arc::new(Etcd::new(config)) as AnyStore, ())
    })
    .await;
}

/// `empty` makes an empty store, and what must live as long as the store is used.
async fn conformance<G>(empty: &impl AsyncFn() -> (AnyStore, G)) {
    macro_rules! each {
        ($($case:ident),* $(,)?) => {$(
            let (store, _guard) = empty().await;
            println!("{}", stringify!($case));
            $case(&*store).await;
        )*};
    }
    each!(
        creating_gives_an_identity,
        updating_needs_the_revision_that_is_stored,
        applying_keeps_identity_and_status,
        restoring_changes_nothing_of_the_object,
        unknown_fields_are_kept,
        deleting_takes_one_object,
        listing_filters_and_sorts,
        watching_tells_what_is_there_and_what_happens,
        a_watch_and_a_listing_agree_whatever_was_done,
        the_default_allow_profile_is_always_there,
        policies_get_defaults_and_both_names,
        what_is_not_valid_is_not_stored,
        tiers_are_made_once_and_stay,
        the_first_node_makes_the_cluster,
        a_cluster_is_completed_and_what_it_says_is_kept,
        who_starts_from_a_snapshot_is_told_what_has_gone,
        who_starts_from_a_snapshot_of_a_lost_store_is_held,
        a_cluster_of_another_name_is_held,
    );
}

async fn creating_gives_an_identity(store: &dyn Store) {
    let entry = store.create(&tier("a", 1)).await.unwrap();
    let found = store.get(&tier_key("a")).await.unwrap().unwrap();
    assert_eq!(found, entry);
    let resource = found.resource.unwrap();
    let metadata = resource.metadata().unwrap();
    assert_eq!(metadata.uid.as_ref().unwrap().len(), 36);
    assert!(metadata.creation_timestamp.as_ref().unwrap().ends_with('Z'));
    let revision = metadata.resource_version.as_ref().unwrap();
    assert_eq!(*revision, found.revision.to_string());
    let again = store.create(&tier("a", 2)).await;
    assert!(matches!(again, Err(StoreError::Exists(_))), "{again:?}");
    assert_eq!(store.get(&tier_key("b")).await.unwrap(), None);
}

async fn updating_needs_the_revision_that_is_stored(store: &dyn Store) {
    let missing = store.update(&tier("a", 1), 7).await;
    assert!(
        matches!(missing, Err(StoreError::NotFound(_))),
        "{missing:?}"
    );
    let first = store.create(&tier("a", 1)).await.unwrap();
    let second = store.update(&tier("a", 2), first.revision).await.unwrap();
    assert!(second.revision > first.revision);
    let stale = store.update(&tier("a", 3), first.revision).await;
    assert!(
        matches!(stale, Err(StoreError::Conflict { actual, .. }) if actual == second.revision),
        "{stale:?}"
    );
    assert_eq!(
        uid(&second.resource.unwrap()),
        uid(&first.resource.unwrap())
    );
    assert_eq!(order(store, "a").await, Some(2.0));
}

async fn applying_keeps_identity_and_status(store: &dyn Store) {
    let mut with_status = tier("a", 1);
    let status = json!({"conditions": [{"type": "Ready", "status": "True", "reason": "Tested",
        "message": "it is", "lastTransitionTime": "2026-11-22T10:00:00Z"}]});
    let extra = with_status.extra_mut().unwrap();
    extra.insert("status".to_owned(), status.clone());
    let first = store.apply(&with_status).await.unwrap();
    let second = store.apply(&tier("a", 2)).await.unwrap();
    let resource = second.resource.unwrap();
    assert_eq!(uid(&resource), uid(&first.resource.unwrap()));
    assert_eq!(resource.extra().unwrap()["status"], status);
    assert_eq!(order(store, "a").await, Some(2.0));
}

async fn restoring_changes_nothing_of_the_object(store: &dyn Store) {
    let created = store.create(&tier("a", 1)).await.unwrap();
    let old = created.resource.unwrap();
    store.delete(&tier_key("a"), None).await.unwrap();
    let restored = store.restore(&tier_key("a"), &old).await.unwrap();
    assert_eq!(restored.resource.unwrap().encode(), old.encode());
    // In place of another one too.
    store.delete(&tier_key("a"), None).await.unwrap();
    let other = store.create(&tier("a", 2)).await.unwrap();
    assert_ne!(uid(&other.resource.unwrap()), uid(&old));
    store.restore(&tier_key("a"), &old).await.unwrap();
    let found = store.get(&tier_key("a")).await.unwrap().unwrap();
    assert_eq!(found.resource.unwrap().encode(), old.encode());
    let made = store
        .restore(&tier_key("b"), &tier("b", 3))
        .await
        .unwrap()
        .resource
        .unwrap();
    assert_eq!(uid(&made).len(), 36, "what has no identity gets one");
}

async fn unknown_fields_are_kept(store: &dyn Store) {
    let spec = json!({"order": 1, "later": {"x": [1, {"y": "z"}]}});
    store
        .create(&object("Tier", None, "a", spec))
        .await
        .unwrap();
    let entry = store.get(&tier_key("a")).await.unwrap().unwrap();
    let mut resource = (*entry.resource.unwrap()).clone();
    let labels = &mut resource.metadata_mut().unwrap().labels;
    labels.insert("x".to_owned(), "y".to_owned());
    store.update(&resource, entry.revision).await.unwrap();
    let entry = store.get(&tier_key("a")).await.unwrap().unwrap();
    let value = entry.resource.unwrap().to_value();
    assert_eq!(value["spec"]["later"], json!({"x": [1, {"y": "z"}]}));
    assert_eq!(value["metadata"]["labels"]["x"], "y");
}

async fn deleting_takes_one_object(store: &dyn Store) {
    let a = store.create(&tier("a", 1)).await.unwrap();
    store.create(&tier("aa", 1)).await.unwrap();
    let stale = store.delete(&tier_key("a"), Some(a.revision + 1000)).await;
    assert!(
        matches!(stale, Err(StoreError::Conflict { .. })),
        "{stale:?}"
    );
    store
        .delete(&tier_key("a"), Some(a.revision))
        .await
        .unwrap();
    let missing = store.delete(&tier_key("a"), None).await;
    assert!(
        matches!(missing, Err(StoreError::NotFound(_))),
        "{missing:?}"
    );
    store.delete(&tier_key("aa"), None).await.unwrap();
    let tiers = store.list(&Filter::kind(Kind::Tier)).await.unwrap();
    assert_eq!(tiers.entries, []);
}

async fn listing_filters_and_sorts(store: &dyn Store) {
    for name in ["c", "a", "b", "d", "e"] {
        store.create(&tier(name, 1)).await.unwrap();
    }
    // Namespaces, and kinds, of which one begins like another.
    for (kind, namespace, name) in [
        ("NetworkSet", Some("ns"), "x"),
        ("NetworkSet", Some("ns-2"), "x"),
        ("NetworkPolicy", Some("ns"), "x"),
        ("GlobalNetworkSet", None, "x"),
    ] {
        store
            .create(&object(kind, namespace, name, json!({})))
            .await
            .unwrap();
    }
    let names = async |filter: &Filter| -> Vec<String> {
        let listing = store.list(filter).await.unwrap();
        listing
            .entries
            .iter()
            .map(|entry| entry.key.to_string())
            .collect()
    };
    assert_eq!(
        names(&Filter::kind(Kind::Tier)).await,
        ["Tier(a)", "Tier(b)", "Tier(c)", "Tier(d)", "Tier(e)"]
    );
    assert_eq!(
        names(&Filter::kind(Kind::NetworkSet)).await,
        ["NetworkSet(ns/x)", "NetworkSet(ns-2/x)"]
    );
    let namespace = Filter::Namespace(Kind::NetworkSet, "ns".to_owned());
    assert_eq!(names(&namespace).await, ["NetworkSet(ns/x)"]);
    assert_eq!(names(&Filter::All).await.len(), 10);
}

async fn watching_tells_what_is_there_and_what_happens(store: &dyn Store) {
    store.create(&tier("a", 1)).await.unwrap();
    let mut mirror = Mirror::new(store);
    let mut other = Mirror::new(store);
    mirror.until("in sync", |mirror| mirror.in_sync == 1).await;
    assert_eq!(mirror.order_of("a"), Some(1.0));
    store.create(&tier("b", 2)).await.unwrap();
    mirror
        .until("with b", |mirror| mirror.order_of("b") == Some(2.0))
        .await;
    store.apply(&tier("a", 3)).await.unwrap();
    mirror
        .until("changed", |mirror| mirror.order_of("a") == Some(3.0))
        .await;
    store.delete(&tier_key("a"), None).await.unwrap();
    mirror
        .until("without a", |mirror| mirror.order_of("a").is_none())
        .await;
    assert_eq!(mirror.deleted, [tier_key("a")]);
    other.until_same_as(store).await;
    assert_eq!(mirror.troubles, Vec::<String>::new());
}

async fn a_watch_and_a_listing_agree_whatever_was_done(store: &dyn Store) {
    let mut mirror = Mirror::new(store);
    let mut state = 12345_u64;
    for step in 0..60 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let name = format!("t{}", state >> 33 & 3);
        if (state >> 40).is_multiple_of(4) {
            let _ = store.delete(&tier_key(&name), None).await;
        } else {
            store.apply(&tier(&name, step)).await.unwrap();
        }
        if step % 20 == 19 {
            mirror.until_same_as(store).await;
        }
    }
}

async fn the_default_allow_profile_is_always_there(store: &dyn Store) {
    let key = Key::global(Kind::Profile, "projectcalico-default-allow");
    let entry = store.get(&key).await.unwrap().unwrap();
    let Resource::Profile(profile) = &*entry.resource.unwrap() else {
        panic!("a profile");
    };
    assert_eq!(
        (profile.spec.ingress.len(), profile.spec.egress.len()),
        (1, 1)
    );
    let listing = store.list(&Filter::kind(Kind::Profile)).await.unwrap();
    assert_eq!(listing.entries.len(), 1);
    let mut mirror = Mirror::new(store);
    mirror
        .until("with it", |mirror| mirror.objects.contains_key(&key))
        .await;
    let profile = object("Profile", None, "projectcalico-default-allow", json!({}));
    for refused in [
        store.create(&profile).await.err(),
        store.apply(&profile).await.err(),
        store.update(&profile, 0).await.err(),
        store.delete(&key, None).await.err(),
    ] {
        assert!(matches!(refused, Some(StoreError::Fixed(_))), "{refused:?}");
    }
}

async fn policies_get_defaults_and_both_names(store: &dyn Store) {
    let rule = json!([{"action": "Allow"}]);
    for (name, spec, types) in [
        ("none", json!({}), json!(["Ingress"])),
        ("in", json!({"ingress": rule}), json!(["Ingress"])),
        ("out", json!({"egress": rule}), json!(["Egress"])),
        (
            "both",
            json!({"ingress": rule, "egress": rule}),
            json!(["Ingress", "Egress"]),
        ),
        (
            "said",
            json!({"egress": rule, "types": ["Ingress"]}),
            json!(["Ingress"]),
        ),
    ] {
        let entry = store
            .create(&object("GlobalNetworkPolicy", None, name, spec))
            .await
            .unwrap();
        let resource = entry.resource.unwrap();
        assert_eq!(resource.user_name(), Some(name));
        let value = resource.to_value();
        assert_eq!(value["spec"]["types"], types, "{name}");
        assert_eq!(value["spec"]["tier"], "default");
        assert_eq!(
            value["metadata"]["labels"]["projectcalico.org/tier"],
            "default"
        );
        let noted = &value["metadata"]["annotations"]["projectcalico.org/metadata"];
        assert_eq!(*noted, format!("{{\"name\":\"{name}\"}}"));
    }
    // As older clients stored it: found and replaced by the name that the user knows.
    let policy =
        |name, order: i64| object("GlobalNetworkPolicy", None, name, json!({ "order": order }));
    let stored = store.create(&policy("default.old", 1)).await.unwrap();
    let key = |name| Key::global(Kind::GlobalNetworkPolicy, name);
    let found = store.get(&key("old")).await.unwrap().unwrap();
    assert_eq!(
        (found.key, found.revision),
        (key("default.old"), stored.revision)
    );
    let applied = store.apply(&policy("old", 2)).await.unwrap();
    assert_eq!(applied.key, key("default.old"));
    assert_eq!(applied.resource.unwrap().user_name(), Some("old"));
    store.delete(&key("old"), None).await.unwrap();
    assert_eq!(store.get(&key("default.old")).await.unwrap(), None);
}

async fn what_is_not_valid_is_not_stored(store: &dyn Store) {
    let mut broken = tier("a", 1);
    broken.metadata_mut().unwrap().name.push_str("/no-name");
    let mut large = tier("b", 1);
    let annotations = &mut large.metadata_mut().unwrap().annotations;
    annotations.insert("x".to_owned(), "y".repeat(2 << 20));
    for resource in [broken, large] {
        let refused = store.create(&resource).await;
        assert!(
            matches!(refused, Err(StoreError::Invalid(_))),
            "{refused:?}"
        );
    }
    assert_eq!(
        store.list(&Filter::kind(Kind::Tier)).await.unwrap().entries,
        []
    );
}

async fn tiers_are_made_once_and_stay(store: &dyn Store) {
    initialize(store).await.unwrap();
    let revision = store.list(&Filter::All).await.unwrap().revision;
    initialize(store).await.unwrap();
    assert_eq!(store.list(&Filter::All).await.unwrap().revision, revision);
    assert_eq!(order(store, "default").await, Some(1_000_000.0));
    for name in ["default", "kube-admin", "kube-baseline"] {
        let refused = store.delete(&tier_key(name), None).await;
        assert!(matches!(refused, Err(StoreError::Fixed(_))), "{refused:?}");
    }
}

async fn the_first_node_makes_the_cluster(store: &dyn Store) {
    store
        .create(&object("Node", None, "n1", json!({})))
        .await
        .unwrap();
    let spec = cluster(store).await;
    let guid = spec["clusterGUID"].as_str().unwrap().to_owned();
    assert_eq!(guid.len(), 32, "{guid}");
    assert!(guid.bytes().all(|byte| byte.is_ascii_hexdigit()), "{guid}");
    assert_eq!(spec["datastoreReady"], true);
    assert_eq!(order(store, "default").await, Some(1_000_000.0));
    let revision = store
        .list(&Filter::kind(Kind::Tier))
        .await
        .unwrap()
        .revision;
    store
        .apply(&object("Node", None, "n2", json!({})))
        .await
        .unwrap();
    assert_eq!(cluster(store).await["clusterGUID"], guid);
    let listing = store.list(&Filter::All).await.unwrap();
    let newer = listing
        .entries
        .iter()
        .filter(|entry| entry.revision > revision);
    assert_eq!(newer.count(), 1, "the second node alone");
}

async fn a_cluster_is_completed_and_what_it_says_is_kept(store: &dyn Store) {
    let before = json!({"clusterGUID": "0123", "clusterType": "k8s,bgp", "datastoreReady": false});
    store
        .create(&object("ClusterInformation", None, "default", before))
        .await
        .unwrap();
    ensure_initialized(store, "v0.1", "bgp,bare").await.unwrap();
    let expected = json!({"clusterGUID": "0123", "clusterType": "k8s,bgp,bare",
        "datastoreReady": false, "calicoVersion": "v0.1"});
    assert_eq!(cluster(store).await, expected);
    let revision = store.list(&Filter::All).await.unwrap().revision;
    ensure_initialized(store, "v0.1", "bare").await.unwrap();
    assert_eq!(store.list(&Filter::All).await.unwrap().revision, revision);
    ensure_initialized(store, "", "").await.unwrap();
    assert_eq!(cluster(store).await, expected);
}

async fn who_starts_from_a_snapshot_is_told_what_has_gone(store: &dyn Store) {
    for name in ["a", "b", "c"] {
        store.create(&tier(name, 1)).await.unwrap();
    }
    let mut first = Mirror::new(store);
    first.until_same_as(store).await;
    let snapshot = first.objects.clone();
    drop(first);
    store.delete(&tier_key("a"), None).await.unwrap();
    store.apply(&tier("b", 2)).await.unwrap();
    let mut second = Mirror::starting_from(store, snapshot);
    second.until_same_as(store).await;
    assert_eq!(second.deleted, [tier_key("a")]);
    assert_eq!(second.order_of("b"), Some(2.0));
    assert_eq!(second.held, []);
}

async fn who_starts_from_a_snapshot_of_a_lost_store_is_held(store: &dyn Store) {
    for index in 0..12 {
        store.create(&tier(&format!("t{index}"), 1)).await.unwrap();
    }
    let mut first = Mirror::new(store);
    first.until_same_as(store).await;
    let snapshot = first.objects.clone();
    drop(first);
    for index in 0..8 {
        store
            .delete(&tier_key(&format!("t{index}")), None)
            .await
            .unwrap();
    }
    let mut second = Mirror::starting_from(store, snapshot.clone());
    second.until("held", Mirror::is_held).await;
    assert_eq!((second.held[0].known, second.held[0].missing), (12, 8));
    assert_eq!((second.in_sync, second.objects.len()), (0, 13));
    // What happens now is held, too; it is over when someone says so.
    store.apply(&tier("t11", 5)).await.unwrap();
    assert!(second.hold().accept());
    second.until_same_as(store).await;
    assert_eq!(second.deleted.len(), 8);
    // Or when the objects are back.
    let mut third = Mirror::starting_from(store, snapshot);
    third.until("held", Mirror::is_held).await;
    for index in 0..8 {
        store.create(&tier(&format!("t{index}"), 2)).await.unwrap();
    }
    third.until_same_as(store).await;
    assert_eq!(third.deleted, []);
    assert!(!third.hold().accept(), "nothing is held");
}

async fn a_cluster_of_another_name_is_held(store: &dyn Store) {
    let named = |guid: &str| {
        let spec = json!({ "clusterGUID": guid });
        object("ClusterInformation", None, "default", spec)
    };
    store.apply(&named("aaa")).await.unwrap();
    let mut mirror = Mirror::new(store);
    mirror.until_same_as(store).await;
    store.apply(&named("bbb")).await.unwrap();
    mirror.until("held", Mirror::is_held).await;
    store.create(&tier("a", 1)).await.unwrap();
    store.apply(&named("aaa")).await.unwrap();
    mirror.until_same_as(store).await;
    assert_eq!(mirror.order_of("a"), Some(1.0));
    assert_eq!(mirror.deleted, []);
}

async fn cluster(store: &dyn Store) -> serde_json::Value {
    let key = Key::global(Kind::ClusterInformation, "default");
    let entry = store.get(&key).await.unwrap().unwrap();
    entry.resource.unwrap().to_value()["spec"].clone()
}

async fn order(store: &dyn Store, name: &str) -> Option<f64> {
    match &*store.get(&tier_key(name)).await.unwrap()?.resource.unwrap() {
        Resource::Tier(tier) => tier.spec.order,
        other => panic!("{other:?} is no tier"),
    }
}

fn uid(resource: &Resource) -> String {
    resource.metadata().unwrap().uid.clone().unwrap()
}
