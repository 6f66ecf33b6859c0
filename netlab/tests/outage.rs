//! The store goes away, comes back with changes, or comes back empty.
#![cfg(feature = "lab")]
#![allow(clippy::unwrap_used, reason = "helpers of tests panic like tests")]

use netlab::{
    Expect::{Reaches, Silent},
    Host, House,
    Proto::Tcp,
    eventually,
    house::EXAMPLE_MATRIX,
    secs,
    steady::finish,
};
use serde::Deserialize;

/// What `cleat store status` says, as far as it is asked for here.
#[derive(Deserialize)]
struct Status {
    store: Store,
    kept: Kept,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Store {
    in_sync: bool,
    #[serde(default)]
    held: Option<Held>,
    #[serde(default)]
    snapshot: Option<Snapshot>,
}

#[derive(Deserialize)]
struct Held {
    known: u64,
    missing: u64,
}

#[derive(Deserialize)]
struct Snapshot {
    objects: u64,
}

#[derive(Deserialize)]
struct Kept {
    objects: u64,
}

/// Closes `web` to everybody.
const CLOSED: &str = "\
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: closed}
spec: {order: 1, selector: app == 'web', types: [Ingress], ingress: [{action: Deny}]}
";

/// Asks whatever the exit status: a held store has one of its own.
fn status(host: &Host) -> Result<Status, String> {
    let output = host
        .command(&["store", "status", "-o", "json"], "")
        .map_err(|error| format!("{error:#}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))
}

fn until(host: &Host, what: &str, holds: impl Fn(&Status) -> bool) -> Status {
    eventually(&format!("{what} on {}", host.name), secs(20), || {
        let status = status(host)?;
        let words = format!(
            "in sync: {}, held: {}, from disk: {}, on disk: {} objects",
            status.store.in_sync,
            status.store.held.is_some(),
            status.store.snapshot.is_some(),
            status.kept.objects
        );
        if holds(&status) {
            Ok(status)
        } else {
            Err(words)
        }
    })
    .unwrap()
}

/// Waits until both hosts have the whole state on disk, and gives the number of its objects.
fn kept(house: &House) -> u64 {
    let objects = house
        .etcd
        .dump()
        .unwrap()
        .iter()
        .filter(|(key, _)| !key.starts_with("/calico/felix/"))
        .count() as u64;
    for host in [&house.alpha, &house.beta] {
        until(host, "the whole state on disk", |status| {
            status.kept.objects == objects
        });
    }
    objects
}

#[test]
fn a_daemon_that_starts_while_the_store_is_away_is_missed_by_no_packet() {
    let house = House::running("outage").unwrap();
    house.expect(EXAMPLE_MATRIX, secs(15)).unwrap();
    let objects = kept(&house);
    let streams = house.streams().unwrap();
    house.etcd.process().kill();
    house.alpha.process().unwrap().kill();
    house.alpha.start(&house.lab).unwrap();
    house.alpha.wait_ready(secs(20)).unwrap();
    house.wait_sessions(secs(30)).unwrap();
    house.expect(EXAMPLE_MATRIX, secs(10)).unwrap();
    let found = until(&house.alpha, "the state from disk", |status| {
        !status.store.in_sync && status.store.snapshot.is_some()
    });
    assert_eq!(found.store.snapshot.unwrap().objects, objects);

    // The store is back, and with it nothing that is the same.
    house.etcd.restart(&house.lab).unwrap();
    for host in [&house.alpha, &house.beta] {
        until(host, "the store", |status| {
            status.store.in_sync && status.store.snapshot.is_none()
        });
    }
    house.expect(EXAMPLE_MATRIX, secs(10)).unwrap();
    let report = finish(streams).unwrap();
    assert_eq!(report.lost(), 0, "{report}");
    assert!(report.sent > 1000, "{report}");

    // What changes now takes hold.
    house
        .alpha
        .cleat_with(&["apply", "-f", "-"], CLOSED)
        .unwrap();
    house
        .expect(
            &[
                ("client", "web", Tcp(80), Silent),
                ("client", "app", Tcp(8080), Reaches),
            ],
            secs(15),
        )
        .unwrap();
}

#[test]
fn a_store_that_is_wiped_takes_nothing_from_hosts_that_run_or_start() {
    let house = House::running("wiped").unwrap();
    house.expect(EXAMPLE_MATRIX, secs(15)).unwrap();
    let objects = kept(&house);
    let streams = house.streams().unwrap();
    let everything = house.etcd.dump().unwrap();
    house.etcd.etcdctl(&["del", "--prefix", "/"]).unwrap();
    for host in [&house.alpha, &house.beta] {
        let found = until(host, "a hold", |status| status.store.held.is_some());
        let held = found.store.held.unwrap();
        assert_eq!((held.known, held.missing), (objects, objects));
    }
    house.expect(EXAMPLE_MATRIX, secs(10)).unwrap();
    // One that starts now is not taken in either.
    let status = house.alpha.process().unwrap().terminate(secs(10)).unwrap();
    assert!(status.success(), "{status}");
    house.alpha.start(&house.lab).unwrap();
    house.alpha.wait_ready(secs(20)).unwrap();
    house.wait_sessions(secs(30)).unwrap();
    until(&house.alpha, "a hold", |status| status.store.held.is_some());
    house.expect(EXAMPLE_MATRIX, secs(10)).unwrap();

    // Whoever puts the store back need not tell the hosts.
    for (key, value) in &everything {
        house.etcd.put(key, value).unwrap();
    }
    for host in [&house.alpha, &house.beta] {
        until(host, "no hold", |status| {
            status.store.held.is_none() && status.store.in_sync && status.store.snapshot.is_none()
        });
    }
    house.expect(EXAMPLE_MATRIX, secs(10)).unwrap();
    let report = finish(streams).unwrap();
    assert_eq!(report.lost(), 0, "{report}");
}
