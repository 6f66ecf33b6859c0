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

/// What Calico's own readers take, ours take; what its clients refuse to write, ours refuse.
#[test]
fn reading_is_laxer_than_writing() {
    let rule = json!({"action": "Allow", "source": {"nets": ["10.0.0.0/8", "fd00::/8"]}});
    for (kind, metadata, spec, field) in [
        (
            Kind::NetworkPolicy,
            json!({"labels": {"a b": "c"}}),
            json!({}),
            "metadata.labels[\"a b\"]",
        ),
        (
            Kind::NetworkPolicy,
            json!({"name": "A.b.c"}),
            json!({}),
            "metadata.name",
        ),
        (
            Kind::NetworkPolicy,
            json!({}),
            json!({"types": ["Ingress", "Ingress"]}),
            "spec.types[1]",
        ),
        (
            Kind::NetworkPolicy,
            json!({}),
            json!({"egress": [rule]}),
            "spec.egress[0].source.nets[1]",
        ),
        (
            Kind::GlobalNetworkPolicy,
            json!({}),
            json!({"ingress": vec![json!({"action": "Deny"}); 1025]}),
            "spec.ingress",
        ),
        (
            Kind::GlobalNetworkPolicy,
            json!({}),
            json!({"doNotTrack": true}),
            "spec.applyOnForward",
        ),
        (
            Kind::WorkloadEndpoint,
            json!({"name": "n-x-w-e", "annotations": {"a b": ""}}),
            json!({"node": "n", "orchestrator": "x", "workload": "w", "endpoint": "e", "interfaceName": "tap1"}),
            "metadata.annotations[\"a b\"]",
        ),
        (
            Kind::WorkloadEndpoint,
            json!({"name": "n-x-w-e"}),
            json!({"node": "n", "orchestrator": "x", "workload": "w", "endpoint": "e", "interfaceName": "tap1",
                "ports": [{"protocol": "ICMP", "port": 0}]}),
            "spec.ports[0].name",
        ),
        (
            Kind::IpPool,
            json!({}),
            json!({"cidr": "10.0.0.1/24"}),
            "spec.cidr",
        ),
        (
            Kind::BgpPeer,
            json!({}),
            json!({"node": "a", "nodeSelector": "all()"}),
            "spec.nodeSelector",
        ),
        (
            Kind::Node,
            json!({"name": "Host_1.example.org_"}),
            json!({"bgp": {}}),
            "metadata.name",
        ),
        (
            Kind::Tier,
            json!({"name": "default"}),
            json!({"order": 5}),
            "spec.order",
        ),
    ] {
        let mut manifest = json!({"apiVersion": "projectcalico.org/v3", "kind": kind.name(),
            "metadata": {"name": "thing"}, "spec": spec});
        if kind.namespaced() {
            manifest["metadata"]["namespace"] = "ns".into();
        }
        let map = manifest["metadata"].as_object_mut().unwrap();
        map.extend(metadata.as_object().unwrap().clone());
        let key = manifest_key(&manifest).unwrap();
        assert!(
            decode(&key, manifest.to_string().as_bytes()).is_ok(),
            "{manifest}"
        );
        let problems = validate(&key, manifest.clone()).unwrap_err();
        let fields: Vec<&str> = problems
            .iter()
            .map(|problem| problem.field.as_str())
            .collect();
        assert!(fields.contains(&field), "{manifest}: {problems:?}");
    }
}

/// What Calico's readers take for gone is gone here too, whoever reads.
#[test]
fn what_no_reader_takes_is_refused_on_reading() {
    for (kind, spec, field) in [
        (
            Kind::NetworkPolicy,
            json!({"ingress": [{"action": "Permit"}]}),
            "spec.ingress[0].action",
        ),
        (
            Kind::NetworkPolicy,
            json!({"ingress": [{"action": "Allow", "protocol": "TCPP"}]}),
            "spec.ingress[0].protocol",
        ),
        (
            Kind::NetworkPolicy,
            json!({"ingress": [{"action": "Allow", "destination": {"ports": [80]}}]}),
            "spec.ingress[0].destination.ports",
        ),
        (
            Kind::NetworkPolicy,
            json!({"ingress": [{"action": "Allow", "protocol": "TCP", "destination": {"ports": [0]}}]}),
            "spec.ingress[0].destination.ports[0]",
        ),
        (
            Kind::NetworkPolicy,
            json!({"selector": "a = b"}),
            "spec.selector",
        ),
        (
            Kind::GlobalNetworkPolicy,
            json!({"performanceHints": ["Faster"]}),
            "spec.performanceHints[0]",
        ),
        (
            Kind::WorkloadEndpoint,
            json!({"node": "n", "orchestrator": "x", "workload": "w", "endpoint": "e", "interfaceName": "tap1",
                "ipNetworks": ["10.0.0.0/24"]}),
            "spec.ipNetworks[0]",
        ),
        (
            Kind::WorkloadEndpoint,
            json!({"node": "n", "orchestrator": "x", "workload": "w", "endpoint": "e", "interfaceName": "tap 1"}),
            "spec.interfaceName",
        ),
        (
            Kind::HostEndpoint,
            json!({"node": "n", "interfaceName": "a/b"}),
            "spec.interfaceName",
        ),
        (
            Kind::IpPool,
            json!({"cidr": "10.0.0.0/24", "blockSize": 64}),
            "spec.blockSize",
        ),
        (
            Kind::StagedNetworkPolicy,
            json!({"stagedAction": "Perhaps"}),
            "spec.stagedAction",
        ),
    ] {
        let name = if kind == Kind::WorkloadEndpoint {
            "n-x-w-e"
        } else {
            "thing"
        };
        let key = if kind.namespaced() {
            Key::namespaced(kind, "ns", name)
        } else {
            Key::global(kind, name)
        };
        let problem = decode_value(&key, json!({ "spec": spec })).unwrap_err();
        assert_eq!(problem.field, field, "{problem}");
    }
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let manifest = json!({"apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkPolicy",
        "metadata": {"name": "Bad_Name", "labels": {"a b": "c"}},
        "spec": {"order": "first", "types": ["Ingres"], "selector": "a = b", "tier": 5,
            "ingress": [{"action": "allow"}, {"action": "Allow", "source": {"nets": "10.0.0.0/8", "ports": [1, {}]}}]}});
    let key = manifest_key(&manifest).unwrap();
    let problems = validate(&key, manifest).unwrap_err();
    let fields: Vec<&str> = problems
        .iter()
        .map(|problem| problem.field.as_str())
        .collect();
    for field in [
        "spec.ingress[0].action",
        "spec.ingress[1].source.nets",
        "spec.ingress[1].source.ports[1]",
        "spec.order",
        "spec.tier",
        "spec.types[0]",
    ] {
        assert!(fields.contains(&field), "{field}: {problems:?}");
    }
    let manifest = json!({"apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkPolicy",
        "metadata": {"name": "Bad_Name", "labels": {"a b": "c"}},
        "spec": {"preDNAT": true, "doNotTrack": true, "selector": "global()", "ingress": vec![json!({
            "action": "Allow", "icmp": {"code": 1}, "destination": {"services": {"name": ""}, "nets": ["10.0.0.0/8"]}}); 2]}});
    let key = manifest_key(&manifest).unwrap();
    let problems = validate(&key, manifest).unwrap_err();
    assert!(problems.len() >= 12, "{problems:#?}");
}

#[test]
fn what_says_nothing_is_written_as_it_was_read() {
    let written = r#"{"kind": "WorkloadEndpoint", "apiVersion": "projectcalico.org/v3",
        "metadata": {"name": "n-openstack-vm-p", "namespace": "ns", "labels": {"a": ""}, "annotations": {},
            "creationTimestamp": null},
        "spec": {"orchestrator": "openstack", "workload": "vm", "node": "n", "endpoint": "p", "pod": "",
            "interfaceName": "tap1", "ipNetworks": [], "ipNATs": [], "allowedIps": [], "qosControls": {"dscp": null},
            "ports": [{"name": "", "protocol": "TCP", "port": 80, "hostPort": 8080, "hostIP": ""}], "later": null}}"#;
    let key = Key::namespaced(Kind::WorkloadEndpoint, "ns", "n-openstack-vm-p");
    let mut resource = decode(&key, written.as_bytes()).unwrap();
    let value: Value = serde_json::from_str(written).unwrap();
    assert_eq!(resource.to_value(), value);
    // What is changed is written as it is now.
    let metadata = resource.metadata_mut().unwrap();
    metadata.labels.clear();
    metadata.annotations.insert("b".to_owned(), "c".to_owned());
    let Resource::WorkloadEndpoint(endpoint) = &mut resource else {
        panic!("{resource:?}");
    };
    endpoint.spec.pod = Some("pod".to_owned());
    endpoint.spec.ports.clear();
    let mut wanted = value;
    wanted["metadata"].as_object_mut().unwrap().remove("labels");
    wanted["metadata"]["annotations"] = json!({"b": "c"});
    wanted["spec"]["pod"] = "pod".into();
    wanted["spec"].as_object_mut().unwrap().remove("ports");
    assert_eq!(resource.to_value(), wanted);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Takes a good object, leaves some of it out, and puts in members that say nothing, known and unknown.
    #[test]
    fn a_decoded_object_is_encoded_with_every_field_it_had(
        which in any::<prop::sample::Index>(), steps in prop::collection::vec(
            (any::<prop::sample::Index>(), 0..8usize), 1..12),
    ) {
        let mut all = all();
        let (kind, spec) = all.swap_remove(which.index(all.len()));
        let mut manifest = manifest(kind, spec);
        for (place, what) in steps {
            let pointers = pointers(&manifest);
            let pointer = &pointers[place.index(pointers.len())];
            let blank = [json!(null), json!([]), json!({}), json!(""), json!(false), json!(0)];
            match (what, manifest.pointer_mut(pointer)) {
                // Names and what tells the kind stay.
                _ if pointer.len() < 6 || pointer.starts_with("/metadata/name")
                    || pointer == "/metadata" || pointer == "/apiVersion" => {}
                (6, Some(Value::Object(map))) => {
                    let last = map.keys().next_back().cloned();
                    last.and_then(|name| map.remove(&name));
                }
                (7, Some(Value::Object(map))) => {
                    map.insert("unknown".to_owned(), blank[place.index(6)].clone());
                    map.insert("unheard".to_owned(), json!({"of": [{"deep": 1}]}));
                }
                (what, Some(value)) if what < 6 => *value = blank[what].clone(),
                _ => {}
            }
        }
        let key = manifest_key(&manifest);
        if let Ok(key) = key
            && let Ok(resource) = decode_value(&key, manifest.clone())
        {
            prop_assert_eq!(resource.to_value(), manifest.clone());
            prop_assert_eq!(decode(&key, manifest.to_string().as_bytes()), Ok(resource));
        }
    }

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

#[test]
fn misspelt_fields_are_named_wherever_they_stand() {
    let unknown = |value: Value| {
        let kind = Kind::from_name(value["kind"].as_str().unwrap()).unwrap();
        let key = Key::global(kind, "a");
        let found = unknown_fields(&key, &value).into_iter();
        found.map(|problem| problem.field).collect::<Vec<_>>()
    };
    let policy = |spec: Value, more: Value| {
        let mut value = json!({"kind": "GlobalNetworkPolicy", "apiVersion": "projectcalico.org/v3",
            "metadata": {"name": "a"}, "spec": spec});
        value
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        value
    };
    let good = json!({"selector": "all()", "types": ["Egress"], "order": 1.5, "egress": [{"action": "Allow",
        "protocol": "TCP", "metadata": {"annotations": {"any": "thing"}},
        "destination": {"nets": ["10.0.0.0/8"], "ports": [80, "web"]}}]});
    assert_eq!(unknown(policy(good, json!({}))), Vec::<String>::new());
    let bad = json!({"selecter": "all()", "ingres": [], "egress": [{"acton": "Allow", "destination": {"prots": [1]}}]});
    assert_eq!(
        unknown(policy(bad, json!({"spce": {}}))),
        [
            "spce",
            "spec.egress[0].acton",
            "spec.egress[0].destination.prots",
            "spec.ingres",
            "spec.selecter"
        ]
    );
    // Nobody has told what the fields of these are, and labels have no fields.
    let peer = json!({"kind": "BGPPeer", "metadata": {"name": "a", "labels": {"x": "y"}},
        "spec": {"peerIP": "10.0.0.1", "password": {"secretKeyRef": {"name": "s", "key": "k", "optional": true}}}});
    assert_eq!(unknown(peer), Vec::<String>::new());
}
