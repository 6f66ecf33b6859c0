//! The daemon on a host of its own: a network namespace with a workload and a fabric, fed from a directory.

#![cfg(feature = "host")]
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test says what went wrong by panicking"
)]

mod common;

use common::eventually;
use common::host::{ENDPOINT, Host, NODE, PATIENCE, POLICY, Store};

#[test]
fn a_killed_daemon_leaves_everything_in_place_and_the_next_one_writes_nothing() {
    let mut host = Host::new("restart", Store::Directory);
    host.put("node", NODE);
    host.put("endpoint", ENDPOINT);
    host.put("policy", POLICY);
    host.start();
    host.ready();
    assert_eq!(
        host.status()["endpoints"],
        serde_json::json!({"good": 1, "all": 1})
    );
    let routes = host.routes();
    assert!(
        routes
            .iter()
            .any(|route| route.starts_with("10.65.0.2 dev cali0")),
        "{routes:?}"
    );
    assert!(
        routes
            .iter()
            .any(|route| route.starts_with("fd65::2 dev cali0")),
        "{routes:?}"
    );
    for address in ["10.65.0.2", "fd65::2"] {
        eventually("the fabric reaches the workload", PATIENCE, || {
            host.ping("fabric", address)
        });
    }

    host.kill();
    assert_eq!(host.routes(), routes, "routes went with the process");
    for address in ["10.65.0.2", "fd65::2"] {
        host.ping("fabric", address)
            .expect("the programs went with the process");
    }

    host.start();
    host.ready();
    let status = host.status();
    assert_eq!(status["writes"], 0, "{status}");
    assert_eq!(host.routes(), routes);
    let (code, drift) = host.cleat(&["show", "drift"]);
    assert_eq!((code, drift.as_str()), (0, ""));
}

#[test]
fn what_is_wrong_in_the_store_is_listed_and_disturbs_nothing_else() {
    let mut host = Host::new("invalid", Store::Directory);
    host.put("node", NODE);
    host.put("endpoint", ENDPOINT);
    host.put("policy", POLICY);
    host.start();
    host.ready();
    eventually("the fabric reaches the workload", PATIENCE, || {
        host.ping("fabric", "10.65.0.2")
    });
    let writes = host.status()["writes"].clone();
    let invalid = [
        (
            "missing field",
            "kind: IPPool\nmetadata: {name: nocidr}\nspec: {natOutgoing: true}\n",
            "IPPool(nocidr)",
            "spec.cidr",
        ),
        (
            "wrong type",
            "kind: Tier\nmetadata: {name: word}\nspec: {order: first}\n",
            "Tier(word)",
            "spec.order",
        ),
        (
            "bad CIDR",
            "kind: GlobalNetworkSet\nmetadata: {name: badnet}\nspec: {nets: [10.0.0.0/33]}\n",
            "GlobalNetworkSet(badnet)",
            "spec.nets[0]",
        ),
        (
            "bad selector",
            "kind: GlobalNetworkPolicy\nmetadata: {name: badsel}\nspec: {selector: 'a =='}\n",
            "GlobalNetworkPolicy(badsel)",
            "spec.selector",
        ),
        (
            "unknown tier",
            "kind: GlobalNetworkPolicy\nmetadata: {name: nowhere.a}\nspec: {tier: nowhere, selector: 'x == \"y\"'}\n",
            "GlobalNetworkPolicy(nowhere.a)",
            "spec.tier",
        ),
        (
            "duplicate address",
            "kind: WorkloadEndpoint\nmetadata: {name: h2-cni-w2-eth0}\nspec: {orchestrator: cni, node: h2, containerID: w2, \
             endpoint: eth0, interfaceName: cali9, ipNetworks: [10.65.0.2/32]}\n",
            "WorkloadEndpoint(default/h2-cni-w2-eth0)",
            "spec.ipNetworks",
        ),
        (
            "absent interface",
            "kind: WorkloadEndpoint\nmetadata: {name: h1-cni-w3-eth0}\nspec: {orchestrator: cni, node: h1, containerID: w3, \
             endpoint: eth0, interfaceName: cali-absent, ipNetworks: [10.65.0.3/32]}\n",
            "WorkloadEndpoint(default/h1-cni-w3-eth0)",
            "spec.interfaceName",
        ),
    ];
    for (index, (_, manifest, _, _)) in invalid.iter().enumerate() {
        host.put(&format!("bad{index}"), manifest);
    }
    for (case, _, object, field) in invalid {
        eventually(case, PATIENCE, || {
            let status = host.status();
            let problems = status["problems"].as_array().unwrap();
            let named = problems.iter().any(|problem| {
                problem["object"].as_str().unwrap().ends_with(object)
                    && problem["field"]
                        .as_str()
                        .is_some_and(|found| found.starts_with(field))
            });
            named.then_some(()).ok_or(status["problems"].to_string())
        });
    }
    host.ping("fabric", "10.65.0.2")
        .expect("what is wrong disturbed what is right");
    host.ping("fabric", "fd65::2")
        .expect("what is wrong disturbed what is right");
    let (code, text) = host.cleat(&["status"]);
    assert!(code == 0 && text.contains("spec.cidr"), "{text}");
    let _ = writes;
}
