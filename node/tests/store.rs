//! The daemon and its etcd: away, wiped, frozen, and back.

#![cfg(feature = "host")]
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test says what went wrong by panicking"
)]

mod common;

use common::eventually;
use common::host::{ENDPOINT, Host, NODE, PATIENCE, POLICY, Store};
use serde_json::json;

const ADDRESSES: [&str; 2] = ["10.65.0.2", "fd65::2"];
/// Objects that are there when three were applied: three tiers and ClusterInformation come by themselves.
const ALL: usize = 7;
const RESOURCES: &str = "/calico/resources/v3/projectcalico.org/";

/// Closes the workload to everybody.
const CLOSED: &str = "\
kind: GlobalNetworkPolicy
metadata: {name: web}
spec: {selector: role == 'web', types: [Ingress, Egress], egress: [{action: Allow}]}
";
/// A second workload's endpoint, whose interface is not there.
const OTHER: &str = "\
kind: WorkloadEndpoint
metadata: {name: h1-cni-w2-eth0}
spec:
  orchestrator: cni
  node: h1
  containerID: w2
  endpoint: eth0
  interfaceName: cali1
  ipNetworks: [10.65.0.3/32]
";

/// A host with an etcd, a workload that the fabric may ping, and a daemon that is ready and has it all on disk.
fn running(what: &str) -> Host {
    let mut host = Host::new(what, Store::Etcd);
    for (name, manifest) in [("node", NODE), ("endpoint", ENDPOINT), ("policy", POLICY)] {
        host.put(name, manifest);
    }
    host.start();
    host.ready();
    open(&host);
    kept(&host, ALL);
    host
}

/// Waits until the state on disk has so many objects.
fn kept(host: &Host, objects: usize) {
    eventually("the state is on disk", PATIENCE, || {
        let (_, text) = host.cleat(&["store", "status", "-o", "json"]);
        let status: serde_json::Value = serde_json::from_str(&text).map_err(|_| text.clone())?;
        (status["kept"]["objects"] == objects)
            .then_some(())
            .ok_or(text)
    });
}

fn open(host: &Host) {
    for address in ADDRESSES {
        eventually("the fabric reaches the workload", PATIENCE, || {
            host.ping("fabric", address)
        });
    }
}

fn closed(host: &Host) {
    for address in ADDRESSES {
        eventually("the fabric does not reach the workload", PATIENCE, || {
            host.ping("fabric", address).err().ok_or("it does")
        });
    }
}

/// Waits until the store is as the condition says, and gives what `cleat status` says of it.
fn store(host: &Host, what: &str, holds: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
    eventually(what, PATIENCE, || {
        let store = host.status()["store"].take();
        if holds(&store) {
            Ok(store)
        } else {
            Err(store.to_string())
        }
    })
}

fn held(host: &Host) -> serde_json::Value {
    store(host, "the store is held", |store| store["held"].is_object())
}

fn followed(host: &Host) {
    store(host, "the store is followed", |store| {
        store["held"].is_null()
            && store["snapshot"].is_null()
            && store["trouble"].is_null()
            && store["inSync"] == true
    });
}

#[test]
fn a_host_that_boots_without_etcd_goes_on_from_the_last_good_state() {
    let mut host = running("boot");
    host.stop();
    host.etcd().kill();
    host.reboot();
    // The kernel takes programs off a moment after their links are gone.
    closed(&host);

    host.start();
    host.ready();
    open(&host);
    assert!(
        host.routes()
            .iter()
            .any(|route| route.starts_with("10.65.0.2 dev cali0"))
    );
    let found = store(&host, "the trouble is told", |store| {
        store["trouble"].is_string()
    });
    assert_eq!(found["inSync"], false);
    assert_eq!(found["snapshot"]["objects"], ALL, "{found}");
    let (_, text) = host.cleat(&["status"]);
    assert!(
        text.contains("running from the state on disk of 20"),
        "{text}"
    );
    let ready = host.admin("/ready");
    assert!(
        ready.contains("store in sync: ok (from the state on disk of 20"),
        "{ready}"
    );
    let metrics = host.admin("/metrics");
    assert!(metrics.contains("cleat_store_from_snapshot 1"), "{metrics}");

    // What changes meanwhile takes hold when the store is back.
    host.etcd().restart();
    followed(&host);
    open(&host);
    host.put("policy", CLOSED);
    closed(&host);
}

#[test]
fn what_vanished_from_the_store_while_a_host_was_down_goes_when_the_store_is_back() {
    let mut host = running("vanished");
    host.put("other", OTHER);
    kept(&host, ALL + 1);
    host.stop();
    let (done, text) = host.etcd().etcdctl(&[
        "del",
        &format!("{RESOURCES}workloadendpoints/default/h1-cni-w2-eth0"),
    ]);
    assert!(done && text.starts_with('1'), "{text}");
    host.etcd().kill();
    host.start();
    host.ready();
    assert_eq!(
        host.status()["endpoints"]["all"],
        2,
        "it is known from the disk"
    );
    host.etcd().restart();
    eventually("the endpoint goes", PATIENCE, || {
        let all = host.status()["endpoints"]["all"].clone();
        (all == 1).then_some(()).ok_or(all)
    });
    open(&host);
    // The address of the endpoint that went, and nothing else.
    assert_eq!(host.status()["writes"], 1);
}

#[test]
fn a_store_that_is_wiped_under_a_running_daemon_is_held_until_it_is_refilled() {
    let mut host = running("wiped");
    let keys = host
        .etcd()
        .etcdctl(&["get", RESOURCES, "--prefix", "--keys-only"])
        .1;
    let objects: Vec<(String, String)> = keys
        .split_whitespace()
        .map(|key| (key.to_owned(), host.etcd().get(key)))
        .collect();
    assert_eq!(objects.len(), ALL, "{keys}");

    assert!(host.etcd().etcdctl(&["del", "/calico/", "--prefix"]).0);
    let found = held(&host);
    assert_eq!(
        (&found["held"]["known"], &found["held"]["missing"]),
        (&json!(ALL), &json!(ALL)),
        "{found}"
    );
    open(&host);
    let (code, text) = host.cleat(&["store", "status"]);
    assert!(code == 1 && text.contains("HELD"), "{code} {text}");
    let (code, text) = host.cleat(&["status"]);
    assert!(
        code == 0 && text.contains("7 of 7 objects are missing"),
        "{code} {text}"
    );
    assert!(host.admin("/metrics").contains("cleat_store_held 7"));
    assert!(
        host.admin("/ready")
            .contains("the store looks lost and is held")
    );

    // Who refills it ends the hold.
    for (key, value) in &objects {
        assert!(host.etcd().etcdctl(&["put", key, value]).0);
    }
    followed(&host);
    open(&host);
    assert_eq!(host.cleat(&["store", "status"]).0, 0);
    assert_eq!(
        host.cleat(&["store", "accept"]),
        (0, "nothing was held\n".to_owned())
    );
}

#[test]
fn a_store_that_was_wiped_while_a_host_was_down_is_held_until_it_is_accepted() {
    let mut host = running("emptied");
    host.stop();
    assert!(host.etcd().etcdctl(&["del", "/calico/", "--prefix"]).0);
    host.reboot();
    host.start();
    host.ready();
    held(&host);
    open(&host);
    // The state on disk outlives a second start.
    host.stop();
    host.start();
    host.ready();
    held(&host);
    open(&host);

    let (code, text) = host.cleat(&["store", "accept", "-o", "json"]);
    assert!(code == 0 && text.contains("\"accepted\": true"), "{text}");
    closed(&host);
    followed(&host);
    assert_eq!(host.routes(), Vec::<String>::new());
    kept(&host, 0);
}

#[test]
fn a_datastore_that_is_not_ready_freezes_what_is_in_force() {
    let mut host = running("frozen");
    let information = format!("{RESOURCES}clusterinformations/default");
    let as_found = host.etcd().get(&information);
    let not_ready = as_found.replace("\"datastoreReady\":true", "\"datastoreReady\":false");
    assert_ne!(as_found, not_ready);
    let say = |host: &mut Host, value: &str| {
        assert!(host.etcd().etcdctl(&["put", &information, value]).0);
    };
    say(&mut host, &not_ready);
    store(&host, "it is frozen", |store| store["frozen"] == true);
    host.put("policy", CLOSED);
    let told = host.admin("/ready");
    assert!(told.contains("datastoreReady: false"), "{told}");
    // A daemon that starts while it is so has the state on disk.
    host.stop();
    host.start();
    host.ready();
    store(&host, "it is frozen", |store| store["frozen"] == true);
    open(&host);
    say(&mut host, &as_found);
    closed(&host);
    store(&host, "it is thawed", |store| store["frozen"].is_null());

    // Without a state on disk it waits, lives, and says that it is ready, as Felix does.
    say(&mut host, &not_ready);
    host.put("policy", POLICY);
    store(&host, "it is frozen", |store| store["frozen"] == true);
    host.stop();
    std::fs::remove_dir_all(host.state()).unwrap();
    host.reboot();
    host.start();
    host.ready();
    assert_eq!(host.routes(), Vec::<String>::new());
    assert_eq!(host.status()["endpoints"]["all"], 0);
    say(&mut host, &as_found);
    open(&host);
}

#[test]
fn a_damaged_state_is_refused_and_the_host_goes_on_without_it() {
    let mut host = running("damaged");
    host.stop();
    let file = host.state().join("datastore.snapshot");
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    host.start();
    host.ready();
    open(&host);
    let log = host.log();
    assert!(
        log.contains("its checksum is not that of its content"),
        "{log}"
    );
    // The next one is good.
    kept(&host, ALL);
}

#[test]
fn neutron_and_the_cni_plugin_are_told_how_endpoints_are() {
    let mut host = running("told");
    host.put("other", OTHER);
    let felix = "kind: FelixConfiguration\nmetadata: {name: default}\n\
        spec: {endpointReportingEnabled: true, openstackRegion: europe, reportingInterval: 1s, reportingTTL: 2s, endpointReportingDelay: 100ms}\n";
    host.put("felix", felix);
    let root = "/calico/felix/v2/region-europe/host/h1/";
    let says = |host: &mut Host, path: &str, value: &str| {
        let path = format!("{root}{path}");
        eventually(&path.clone(), PATIENCE, || {
            let found = host.etcd().get(&path);
            (found == value).then_some(()).ok_or(found)
        });
    };
    let web = "workload/cni/default%2fw1/endpoint/eth0";
    says(&mut host, web, r#"{"status":"up"}"#);
    says(
        &mut host,
        "workload/cni/default%2fw2/endpoint/eth0",
        r#"{"status":"down"}"#,
    );
    let life = eventually("a sign of life", PATIENCE, || {
        let text = host.etcd().get(&format!("{root}status"));
        serde_json::from_str::<serde_json::Value>(&text).map_err(|_| text)
    });
    assert!(
        life["uptime"].is_f64() && life["first_update"].is_boolean(),
        "{life}"
    );
    eventually("it is given again", PATIENCE, || {
        let text = host.etcd().get(&format!("{root}status"));
        text.contains("\"first_update\":false")
            .then_some(())
            .ok_or(text)
    });
    // The file of the workload whose policy is in place, and no other.
    let directory = host.scratch().join("status/endpoint-status");
    eventually("the file is there", PATIENCE, || {
        let text = std::fs::read_to_string(directory.join("cni default%2Fw1 eth0"));
        let wanted =
            r#"{"ifaceName":"cali0","ipv4Nets":["10.65.0.2/32"],"ipv6Nets":["fd65::2/128"]}"#;
        text.as_ref()
            .is_ok_and(|text| text == wanted)
            .then_some(())
            .ok_or(text)
    });
    assert!(!directory.join("cni default%2Fw2 eth0").exists());

    // What happens is told.
    let h = host.space("host");
    Host::ip(&format!("-n {h} link delete cali0"));
    says(&mut host, web, r#"{"status":"down"}"#);
    // The sign of life ends with the process, and its last one stays. Endpoints that go meanwhile are cleared up.
    host.stop();
    says(&mut host, "status", "");
    assert!(
        host.etcd()
            .get(&format!("{root}last_reported_status"))
            .contains("uptime")
    );
    let key = format!("{RESOURCES}workloadendpoints/default/h1-cni-w2-eth0");
    assert!(host.etcd().etcdctl(&["del", &key]).0);
    host.start();
    says(&mut host, "workload/cni/default%2fw2/endpoint/eth0", "");
    says(&mut host, web, r#"{"status":"down"}"#);
}

#[test]
fn a_node_that_is_asked_for_its_status_answers() {
    let mut host = running("asked");
    let asks = |name: &str, node: &str| {
        format!(
            "kind: CalicoNodeStatus\nmetadata: {{name: {name}, labels: {{a: b}}}}\n\
             spec: {{node: {node}, classes: [Agent, BGP, Routes], updatePeriodSeconds: 1}}\n"
        )
    };
    host.put("theirs", &asks("theirs", "h2"));
    host.put("ours", &asks("ours", "h1"));
    let answer = |host: &mut Host, name: &str| -> serde_json::Value {
        let text = host
            .etcd()
            .get(&format!("{RESOURCES}caliconodestatuses/{name}"));
        serde_json::from_str(&text).unwrap()
    };
    let object = eventually("an answer", PATIENCE, || {
        let object = answer(&mut host, "ours");
        if object["status"].is_object() {
            Ok(object)
        } else {
            Err(object.to_string())
        }
    });
    assert_eq!(object["metadata"]["labels"]["a"], "b");
    let status = &object["status"];
    // BGP is not enabled on this host.
    assert_eq!(status["agent"]["birdV6"]["state"], "NotReady", "{status}");
    assert_eq!(status["bgp"]["numberEstablishedV4"], 0, "{status}");
    let routes = status["routes"]["routesV4"].as_array().unwrap();
    assert!(
        routes
            .iter()
            .any(|route| route["destination"] == "10.65.0.2/32" && route["interface"] == "cali0"),
        "{status}"
    );
    assert!(answer(&mut host, "theirs")["status"].is_null());
}
