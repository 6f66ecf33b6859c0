//! A store of 200,000 objects: what following it costs in memory, beside what the reader keeps.

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    clippy::needless_pass_by_value,
    reason = "tests panic, and take what they are given"
)]

mod common;

use std::time::Duration;

use cleat_datastore::{
    Event, Key, Kind, Store,
    store::{Etcd, Known, Watch},
};
use common::{EtcdServer, config, started};
use etcd_client::{Client, Txn, TxnOp};
use peak_alloc::PeakAlloc;
use serde_json::json;

const OBJECTS: usize = 200_000;
const LIMIT_MB: f32 = 100.0;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_thousand_objects_are_followed_within_a_hundred_megabytes() {
    let mut server = started();
    fill(&server).await;
    let store = Etcd::new(config(&server));

    // Who knows nothing.
    let begin = measured();
    let mut watch = store.watch();
    let known = read(&mut watch, OBJECTS).await;
    let first = MEMORY.peak_usage_as_mb() - begin;
    // Lists anew, for the server went away for longer than it remembers.
    server.kill();
    server.launch();
    server.ready();
    server.put(&key(0), &object(0));
    let revision = status_revision(&server);
    server.ctl(&["compact", &revision.to_string()]);
    let begin = measured();
    assert_eq!(read(&mut watch, 1).await.len(), 1);
    let again = MEMORY.peak_usage_as_mb() - begin;
    drop(watch);

    // Who knows everything.
    let known = Known {
        objects: known.into_iter().map(|key| (key, 1)).collect(),
        cluster: None,
    };
    let begin = measured();
    let mut watch = store.watch_from(known);
    assert_eq!(read(&mut watch, OBJECTS).await.len(), OBJECTS);
    let snapshot = MEMORY.peak_usage_as_mb() - begin;
    println!("peak MB: first {first}, listed again {again}, from a snapshot {snapshot}");
    for (what, peak) in [
        ("first", first),
        ("listed again", again),
        ("from a snapshot", snapshot),
    ] {
        assert!(peak < LIMIT_MB, "{what}: {peak} MB");
    }
}

/// Reads until in sync, and forgets all but the keys, which are counted out of the measure.
async fn read(watch: &mut Watch, updates: usize) -> Vec<Key> {
    let mut keys = Vec::with_capacity(updates);
    loop {
        let event = tokio::time::timeout(Duration::from_mins(2), watch.next()).await;
        match event.expect("an event in time") {
            Event::Updates(updates) => keys.extend(
                updates
                    .into_iter()
                    .filter(|update| update.key.namespace().is_some())
                    .map(|update| {
                        assert!(update.value.is_some(), "{:?}", update.problem);
                        update.key
                    }),
            ),
            Event::InSync { .. } if keys.len() >= updates => return keys,
            Event::InSync { .. } | Event::Trouble(_) => {}
            event @ (Event::Held(_) | Event::Unreadable(_)) => panic!("{event:?}"),
        }
    }
}

fn measured() -> f32 {
    MEMORY.reset_peak_usage();
    MEMORY.current_usage_as_mb()
}

fn status_revision(server: &EtcdServer) -> i64 {
    let status = server.ctl(&["endpoint", "status", "-w", "json"]);
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    status[0]["Status"]["header"]["revision"].as_i64().unwrap()
}

async fn fill(server: &EtcdServer) {
    let client = Client::connect([server.endpoint()], None).await.unwrap();
    let indices: Vec<usize> = (0..OBJECTS).collect();
    for some in indices.chunks(128) {
        let puts: Vec<TxnOp> = some
            .iter()
            .map(|index| TxnOp::put(key(*index).path(), object(*index).to_string(), None))
            .collect();
        client
            .kv_client()
            .txn(Txn::new().and_then(puts))
            .await
            .unwrap();
    }
}

fn name(index: usize) -> (String, String) {
    let node = format!("node{}", index / 100);
    let name = format!("{node}-k8s-web--frontend--{index:06}-eth0");
    (node, name)
}

/// One in ten is an endpoint.
fn is_endpoint(index: usize) -> bool {
    index.is_multiple_of(10)
}

fn key(index: usize) -> Key {
    let kind = if is_endpoint(index) {
        Kind::WorkloadEndpoint
    } else {
        Kind::NetworkSet
    };
    Key::namespaced(kind, "production", name(index).1)
}

fn object(index: usize) -> serde_json::Value {
    if is_endpoint(index) {
        return endpoint(index);
    }
    json!({
        "apiVersion": "projectcalico.org/v3",
        "kind": "NetworkSet",
        "metadata": {
            "name": name(index).1,
            "namespace": "production",
            "uid": "5cf7a7a0-2d7b-4bd5-9a57-0d3f0a3b7a11",
            "creationTimestamp": "2026-11-22T10:00:00Z",
            "labels": {"app": "web-frontend", "team": "a-team-with-a-name"}
        },
        "spec": {"nets": ["192.0.2.0/24", "2001:db8::/64"]}
    })
}

fn endpoint(index: usize) -> serde_json::Value {
    let (node, name) = name(index);
    let address = std::net::Ipv4Addr::from(0x0a00_0000 + index as u32);
    json!({
        "apiVersion": "projectcalico.org/v3",
        "kind": "WorkloadEndpoint",
        "metadata": {
            "name": name,
            "namespace": "production",
            "uid": "5cf7a7a0-2d7b-4bd5-9a57-0d3f0a3b7a11",
            "creationTimestamp": "2026-11-22T10:00:00Z",
            "labels": {
                "app": "web-frontend",
                "projectcalico.org/namespace": "production",
                "projectcalico.org/orchestrator": "k8s",
                "projectcalico.org/serviceaccount": "default"
            }
        },
        "spec": {
            "orchestrator": "k8s",
            "node": node,
            "pod": format!("web-frontend-{index:06}"),
            "endpoint": "eth0",
            "interfaceName": format!("cali{index:011x}"),
            "ipNetworks": [format!("{address}/32")],
            "mac": "ee:ee:ee:ee:ee:ee",
            "profiles": ["kns.production", "ksa.production.default"]
        }
    })
}
