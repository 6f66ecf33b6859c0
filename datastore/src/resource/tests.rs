#![allow(
    clippy::wildcard_enum_match_arm,
    clippy::needless_pass_by_value,
    reason = "tests take what they are given"
)]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::value::Cidr;

mod full;
mod rows;
mod samples;

use full::{all, manifest};

#[test]
fn what_networking_calico_writes_is_read_and_written_back_whole() {
    let text = include_str!("../../tests/vectors/networking-calico.json");
    let cases: Vec<Value> = serde_json::from_str(text).unwrap();
    for case in &cases {
        let key = Key::parse(case["path"].as_str().unwrap()).unwrap();
        let resource = decode(&key, case["value"].to_string().as_bytes()).unwrap();
        let written: Value = serde_json::from_slice(&resource.encode()).unwrap();
        assert_eq!(written, case["value"]);
        match resource {
            Resource::WorkloadEndpoint(endpoint) => {
                let nets: Vec<String> = endpoint
                    .spec
                    .ip_networks
                    .iter()
                    .map(Cidr::to_string)
                    .collect();
                assert_eq!(nets, ["10.65.0.2/32"]);
                assert_eq!(endpoint.spec.interface_name, "tapport-1");
            }
            Resource::NetworkPolicy(policy) => {
                assert_eq!(policy.spec.types, []);
                assert_eq!(
                    (policy.spec.ingress.len(), policy.spec.egress.len()),
                    (1, 2)
                );
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(cases.len(), 2);
}

#[test]
fn every_field_of_every_kind_survives() {
    let kinds: std::collections::BTreeSet<Kind> = all().iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds.len(), Kind::ALL.len());
    for (kind, spec) in all() {
        let manifest = manifest(kind, spec);
        let (key, resource) = from_manifest(manifest.clone()).unwrap();
        assert_eq!(resource.kind(), Some(kind));
        assert_eq!(resource.key(), Some(key.clone()));
        let bytes = resource.encode();
        assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap(), manifest);
        assert_eq!(decode(&key, &bytes).unwrap(), resource);
    }
}

#[test]
fn nulls_are_absent_and_names_come_from_the_key() {
    let key = Key::namespaced(Kind::NetworkPolicy, "ns", "x");
    let bytes = br#"{"metadata": {"creationTimestamp": null, "labels": null},
        "spec": {"order": null, "ingress": null, "egress": [{"action": "Allow", "source": null, "icmp": null}]}}"#;
    let Ok(Resource::NetworkPolicy(policy)) = decode(&key, bytes) else {
        panic!("a policy");
    };
    assert_eq!(policy.metadata.name, "x");
    assert_eq!(policy.metadata.namespace.as_deref(), Some("ns"));
    assert_eq!(policy.spec.egress.len(), 1);
}

#[test]
fn an_endpoint_of_a_workload_is_named_by_its_fields() {
    let manifest = json!({"apiVersion": "projectcalico.org/v3", "kind": "WorkloadEndpoint", "metadata": {"namespace": "ns"},
        "spec": {"node": "node-1", "orchestrator": "cni", "containerID": "c0", "endpoint": "eth0", "interfaceName": "cali1"}});
    let (key, resource) = from_manifest(manifest).unwrap();
    assert_eq!(
        key,
        Key::namespaced(Kind::WorkloadEndpoint, "ns", "node--1-cni-c0-eth0")
    );
    assert_eq!(resource.key(), Some(key));
}

#[test]
fn affinities_are_read_in_their_older_forms_too() {
    let key = Key::parse("/calico/ipam/v2/host/oldhost.io/ipv4/block/172.29.128.128-26").unwrap();
    let vectors: Value =
        serde_json::from_str(include_str!("../../tests/vectors/keys.json")).unwrap();
    for case in vectors["values"].as_array().unwrap() {
        let Ok(Resource::BlockAffinity(affinity)) =
            decode(&key, case["value"].as_str().unwrap().as_bytes())
        else {
            panic!("{case}");
        };
        let wanted = match case["parsed"]["state"].as_str() {
            None => AffinityState::Confirmed,
            Some("pending") => AffinityState::Pending,
            Some(other) => panic!("{other}"),
        };
        assert_eq!(affinity.state, wanted, "{case}");
    }
    let bytes = br#"{"state":"pendingDeletion","deleted":true,"x":1}"#;
    let resource = decode(&key, bytes).unwrap();
    assert_eq!(
        serde_json::from_slice::<Value>(&resource.encode()).unwrap(),
        serde_json::from_slice::<Value>(bytes).unwrap()
    );
    let problem = decode(&key, br#"{"state":"lost"}"#).unwrap_err();
    assert_eq!(
        (problem.object.as_str(), problem.field.as_str()),
        ("BlockAffinity(oldhost.io/172.29.128.128/26)", "state")
    );
}

#[test]
fn size_and_depth_are_bounded() {
    let key = Key::global(Kind::Tier, "x");
    let large = format!(
        "{{\"spec\":{{\"later\":\"{}\"}}}}",
        "x".repeat(MAX_VALUE_LEN)
    );
    assert!(
        decode(&key, large.as_bytes())
            .unwrap_err()
            .reason
            .contains("larger")
    );
    let deep = |depth: usize| {
        format!(
            "{{\"spec\":{{\"later\":{}{}}}}}",
            "[".repeat(depth),
            "]".repeat(depth)
        )
    };
    assert!(decode(&key, deep(100).as_bytes()).is_ok());
    assert!(decode(&key, deep(200).as_bytes()).is_err());
    assert!(decode(&key, deep(500_000).as_bytes()).is_err());
    let mut value = json!(1);
    for _ in 0..200 {
        value = json!({ "x": value });
    }
    let problem = decode_value(&key, json!({ "spec": value })).unwrap_err();
    assert!(problem.reason.contains("deeper"), "{problem}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Takes a good object and spoils it in one place.
    #[test]
    fn spoiled_objects_are_refused_or_read_but_never_panic(
        which in any::<prop::sample::Index>(), place in any::<prop::sample::Index>(), by in 0..8usize,
    ) {
        let mut all = all();
        let (kind, spec) = all.swap_remove(which.index(all.len()));
        let mut manifest = manifest(kind, spec);
        let pointers = pointers(&manifest);
        let pointer = &pointers[place.index(pointers.len())];
        *manifest.pointer_mut(pointer).unwrap() = [
            json!(null), json!(true), json!(-1), json!(1e300), json!(""), json!("\u{0}é/:-"), json!([[]]), json!({"x": {}}),
        ][by].clone();
        if let Ok((key, resource)) = from_manifest(manifest) {
            prop_assert_eq!(decode(&key, &resource.encode()), Ok(resource));
        }
    }
}

fn pointers(value: &Value) -> Vec<String> {
    let mut found = vec![String::new()];
    let inner: Vec<(String, &Value)> = match value {
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| (key.replace('~', "~0").replace('/', "~1"), value))
            .collect(),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(index, value)| (index.to_string(), value))
            .collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    };
    for (key, value) in inner {
        found.extend(
            pointers(value)
                .into_iter()
                .map(|rest| format!("/{key}{rest}")),
        );
    }
    found
}

/// There are many more endpoints than anything else, and all kinds share one type.
#[test]
fn no_kind_makes_the_others_large() {
    assert!(size_of::<Resource>() <= 640, "{}", size_of::<Resource>());
}
