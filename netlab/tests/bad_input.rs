//! Input that is wrong: refused where it is offered, listed where it is found, and nothing else changes.
#![cfg(feature = "lab")]

use netlab::{House, eventually, house::EXAMPLE_MATRIX, secs};
use serde_json::Value;

/// What is wrong, the key's end, the value, and a word that the report must contain.
const BAD: &[(&str, &str, &str, &str)] = &[
    (
        "no JSON at all",
        "globalnetworkpolicies/bad-json",
        "{\"kind\": \"GlobalNetworkPolicy\", ",
        "bad-json",
    ),
    (
        "a selector that does not parse",
        "globalnetworkpolicies/bad-selector",
        r#"{"kind":"GlobalNetworkPolicy","apiVersion":"projectcalico.org/v3","metadata":{"name":"bad-selector"},"spec":{"selector":"app ==","order":1,"types":["Ingress"],"ingress":[{"action":"Deny"}]}}"#,
        "bad-selector",
    ),
    (
        "a CIDR that is none",
        "globalnetworksets/bad-cidr",
        r#"{"kind":"GlobalNetworkSet","apiVersion":"projectcalico.org/v3","metadata":{"name":"bad-cidr","labels":{"feed":"blocked"}},"spec":{"nets":["10.99.0.0/33"]}}"#,
        "bad-cidr",
    ),
    (
        "a wrong type",
        "globalnetworkpolicies/bad-type",
        r#"{"kind":"GlobalNetworkPolicy","apiVersion":"projectcalico.org/v3","metadata":{"name":"bad-type"},"spec":{"selector":"all()","order":"first","types":["Ingress"],"ingress":[{"action":"Deny"}]}}"#,
        "bad-type",
    ),
    (
        "a pool without its network",
        "ippools/bad-pool",
        r#"{"kind":"IPPool","apiVersion":"projectcalico.org/v3","metadata":{"name":"bad-pool"},"spec":{"blockSize":26}}"#,
        "bad-pool",
    ),
    (
        "an action that is none",
        "networkpolicies/shop/bad-action",
        r#"{"kind":"NetworkPolicy","apiVersion":"projectcalico.org/v3","metadata":{"name":"bad-action","namespace":"shop"},"spec":{"selector":"all()","order":1,"types":["Ingress"],"ingress":[{"action":"Explode"}]}}"#,
        "bad-action",
    ),
    (
        "a peer whose address is none",
        "bgppeers/bad-peer",
        r#"{"kind":"BGPPeer","apiVersion":"projectcalico.org/v3","metadata":{"name":"bad-peer"},"spec":{"node":"alpha","peerIP":"10.0.1.999","asNumber":65001}}"#,
        "bad-peer",
    ),
    (
        "an endpoint whose interface is absent",
        "workloadendpoints/shop/alpha-k8s-ghost-eth0",
        r#"{"kind":"WorkloadEndpoint","apiVersion":"projectcalico.org/v3","metadata":{"name":"alpha-k8s-ghost-eth0","namespace":"shop"},"spec":{"orchestrator":"k8s","node":"alpha","pod":"ghost","endpoint":"eth0","containerID":"dead","interfaceName":"cali0ghost","ipNetworks":["10.65.1.9/32"]}}"#,
        "ghost",
    ),
    (
        "an endpoint with an address that another has",
        "workloadendpoints/shop/alpha-k8s-twin-eth0",
        r#"{"kind":"WorkloadEndpoint","apiVersion":"projectcalico.org/v3","metadata":{"name":"alpha-k8s-twin-eth0","namespace":"shop"},"spec":{"orchestrator":"k8s","node":"alpha","pod":"twin","endpoint":"eth0","containerID":"beef","interfaceName":"cali0twin","ipNetworks":["10.65.1.2/32"]}}"#,
        "twin",
    ),
    (
        "a policy in a tier that is absent",
        "globalnetworkpolicies/nowhere.bad-tier",
        r#"{"kind":"GlobalNetworkPolicy","apiVersion":"projectcalico.org/v3","metadata":{"name":"nowhere.bad-tier"},"spec":{"tier":"nowhere","selector":"app == 'nobody'","types":["Ingress"],"ingress":[{"action":"Deny"}]}}"#,
        "bad-tier",
    ),
];

const PREFIX: &str = "/calico/resources/v3/projectcalico.org/";

#[test]
fn bad_input_in_the_store_is_listed_and_disturbs_nothing() {
    let house = House::running("bad").unwrap();
    house.expect(EXAMPLE_MATRIX, secs(15)).unwrap();
    for (_, key, value, _) in BAD {
        house.etcd.put(&format!("{PREFIX}{key}"), value).unwrap();
    }
    for (what, _, _, word) in BAD {
        eventually(&format!("{what} to be listed"), secs(5), || {
            let status: Value = house
                .alpha
                .json(&["status"])
                .map_err(|error| format!("{error:#}"))?;
            let problems = status["problems"].as_array().cloned().unwrap_or_default();
            let found = problems.iter().find(|problem| {
                problem["object"]
                    .as_str()
                    .is_some_and(|object| object.contains(word))
            });
            match found {
                Some(problem)
                    if problem["reason"]
                        .as_str()
                        .is_some_and(|reason| !reason.is_empty()) =>
                {
                    Ok(())
                }
                Some(problem) => Err(format!("without a reason: {problem}")),
                None => Err(format!("{} problems: {problems:?}", problems.len())),
            }
        })
        .unwrap();
    }
    house.expect(EXAMPLE_MATRIX, secs(5)).unwrap();
    house.wait_sessions(secs(5)).unwrap();
    for (_, key, _, _) in BAD {
        house.etcd.delete(&format!("{PREFIX}{key}")).unwrap();
    }
    eventually("the list to be empty again", secs(5), || {
        let status: Value = house
            .alpha
            .json(&["status"])
            .map_err(|error| format!("{error:#}"))?;
        let problems = status["problems"].as_array().cloned().unwrap_or_default();
        if problems.is_empty() {
            Ok(())
        } else {
            Err(format!("{problems:?}"))
        }
    })
    .unwrap();
}

#[test]
fn what_is_wrong_is_refused_with_object_field_and_reason() {
    let house = House::new("bad-apply").unwrap();
    house.populate().unwrap();
    for (what, field, text) in [
        (
            "a selector that does not parse",
            "selector",
            "kind: GlobalNetworkPolicy\nmetadata: {name: offender}\nspec: {selector: 'app ==', types: [Ingress]}\n",
        ),
        (
            "a CIDR that is none",
            "nets",
            "kind: GlobalNetworkSet\nmetadata: {name: offender}\nspec: {nets: [10.0.0.0/33]}\n",
        ),
        (
            "a missing field",
            "cidr",
            "kind: IPPool\nmetadata: {name: offender}\nspec: {blockSize: 26}\n",
        ),
        (
            "a wrong type",
            "order",
            "kind: Tier\nmetadata: {name: offender}\nspec: {order: first}\n",
        ),
        (
            "a peer without a number",
            "asNumber",
            "kind: BGPPeer\nmetadata: {name: offender}\nspec: {peerIP: 10.0.1.1, asNumber: many}\n",
        ),
    ] {
        let text = format!("apiVersion: projectcalico.org/v3\n{text}");
        for verb in ["validate", "apply"] {
            let output = house.alpha.command(&[verb, "-f", "-"], &text).unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned()
                + &String::from_utf8_lossy(&output.stdout);
            assert_eq!(output.status.code(), Some(1), "{verb} of {what}: {said}");
            assert!(
                said.contains("offender") && said.contains(field),
                "{verb} of {what}: {said}"
            );
        }
        let keys = house
            .etcd
            .etcdctl(&["get", "--prefix", "--keys-only", PREFIX])
            .unwrap();
        assert!(!keys.contains("offender"), "{what} was written:\n{keys}");
    }
}
