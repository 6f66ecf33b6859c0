#![allow(
    clippy::wildcard_enum_match_arm,
    clippy::needless_pass_by_value,
    reason = "tests take what they are given"
)]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::value::Cidr;

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

/// A value of every field of every kind, in the form in which it is written.
fn full() -> Vec<(Kind, Value)> {
    let entity = json!({"nets": ["10.0.0.0/8", "10.1.2.3"], "notNets": ["10.9.0.0/16"], "selector": "a == 'b'",
        "notSelector": "has(c)", "namespaceSelector": "global()", "ports": [80, "100:200", "http"],
        "notPorts": ["x"], "serviceAccounts": {"names": ["sa"], "selector": "has(x)"}, "later": 1});
    let rules = json!([
        {"action": "Allow", "ipVersion": 4, "protocol": "TCP", "source": entity, "destination": entity,
            "http": {"methods": ["GET"], "paths": [{"exact": "/a"}, {"prefix": "/b"}]},
            "metadata": {"annotations": {"a": "b"}}, "later": {}},
        {"action": "Log", "protocol": 58, "icmp": {"type": 128, "code": 0}, "notICMP": {"type": 1}},
        {"action": "Pass", "notProtocol": "UDPLite"},
        {"action": "Deny", "source": {"services": {"name": "s", "namespace": "n"}}},
    ]);
    let egress = json!([{"action": "Deny"}]);
    vec![
        (
            Kind::BgpConfiguration,
            json!({"asNumber": 64513, "bindMode": "NodeIP",
            "communities": [{"name": "c", "value": "1:2"}, {"name": "d", "value": "1:2:3"}],
            "ignoredInterfaces": ["eth*"], "ipv4NormalRoutePriority": 1, "ipv6NormalRoutePriority": 2,
            "listenPort": 1790, "localWorkloadPeeringIPV4": "169.254.1.1", "localWorkloadPeeringIPV6": "fe80::1",
            "logSeverityScreen": "info", "nodeMeshMaxRestartTime": "3m20s",
            "nodeMeshPassword": {"secretKeyRef": {"name": "s", "key": "k", "optional": true}},
            "nodeToNodeMeshEnabled": true, "prefixAdvertisements": [{"cidr": "10.0.0.0/8", "communities": ["c", "9:9"]}],
            "programClusterRoutes": "EnabledIPIPOnly", "serviceClusterIPs": [{"cidr": "10.96.0.0/12"}],
            "serviceExternalIPs": [{"cidr": "192.0.2.1"}], "serviceLoadBalancerAggregation": "Disabled",
            "serviceLoadBalancerIPs": [{"cidr": "fd00::/64"}], "later": [1]}),
        ),
        (
            Kind::BgpPeer,
            json!({"asNumber": 65001, "filters": ["f"], "keepOriginalNextHop": false,
            "keepaliveTime": "30s", "localASNumber": 65002, "maxRestartTime": "120s", "nextHopMode": "Self",
            "nodeSelector": "all()", "numAllowedLocalASNumbers": 1,
            "password": {"secretKeyRef": {"name": "s", "key": "k"}}, "peerIP": "[fd00::1]:1790",
            "reachableBy": "fd00::2", "reversePeering": "Manual", "sourceAddress": "UseNodeIP", "ttlSecurity": 1,
            "later": 1}),
        ),
        (
            Kind::GlobalNetworkPolicy,
            json!({"tier": "sec", "order": 10.5, "selector": "all()",
            "namespaceSelector": "has(a)", "types": ["Ingress", "Egress"], "ingress": rules, "egress": egress,
            "serviceAccountSelector": "has(b)", "doNotTrack": true, "applyOnForward": true,
            "performanceHints": ["AssumeNeededOnEveryNode"], "later": 1}),
        ),
        (
            Kind::GlobalNetworkSet,
            json!({"nets": ["10.0.0.0/8", "fd00::1"], "later": 1}),
        ),
        (
            Kind::IpPool,
            json!({"cidr": "10.0.0.0/16", "blockSize": 26, "ipipMode": "Never", "vxlanMode": "CrossSubnet",
            "natOutgoing": true, "disabled": true, "disableBGPExport": true, "nodeSelector": "all()",
            "namespaceSelector": "has(x)", "allowedUses": ["Workload"], "assignmentMode": "Manual", "later": 1}),
        ),
        (
            Kind::NetworkPolicy,
            json!({"tier": "sec", "order": 10, "selector": "all()", "types": ["Ingress"],
            "ingress": rules, "egress": egress, "serviceAccountSelector": "has(b)",
            "performanceHints": ["AssumeNeededOnEveryNode"], "later": 1}),
        ),
        (
            Kind::NetworkSet,
            json!({"nets": ["10.0.0.0/8"], "later": 1}),
        ),
        (
            Kind::Node,
            json!({"bgp": {"asNumber": 64513, "ipv4Address": "10.0.0.1/24", "ipv6Address": "fd00::1/64",
            "ipv4IPIPTunnelAddr": "192.168.1.1", "routeReflectorClusterID": "224.0.0.1", "later": 1},
            "ipv4VXLANTunnelAddr": "192.168.1.2", "ipv6VXLANTunnelAddr": "fd00::2",
            "vxlanTunnelMACAddr": "66:00:00:00:00:01", "vxlanTunnelMACAddrV6": "66:00:00:00:00:02",
            "orchRefs": [{"nodeName": "n", "orchestrator": "k8s"}],
            "wireguard": {"interfaceIPv4Address": "192.168.1.3", "interfaceIPv6Address": "fd00::3"},
            "addresses": [{"address": "10.0.0.1", "type": "CalicoNodeIP"}, {"address": "10.0.0.2/24", "type": "InternalIP"}],
            "interfaces": [{"name": "eth0", "addresses": ["10.0.0.1"]}], "later": 1}),
        ),
        (
            Kind::Profile,
            json!({"ingress": rules, "egress": egress, "labelsToApply": {"a/b": ""}, "later": 1}),
        ),
        (
            Kind::Tier,
            json!({"order": 100, "defaultAction": "Pass", "later": 1}),
        ),
        (
            Kind::WorkloadEndpoint,
            json!({"orchestrator": "k8s", "workload": "w", "node": "node-1", "containerID": "c0",
            "pod": "pod-1", "endpoint": "eth0", "serviceAccountName": "sa", "ipNetworks": ["10.0.0.5/32", "fd00::5/128"],
            "ipNATs": [{"internalIP": "10.0.0.5", "externalIP": "192.0.2.1"}], "ipv4Gateway": "169.254.1.1",
            "ipv6Gateway": "fe80::1", "profiles": ["p"], "interfaceName": "cali1", "mac": "66:00:00:00:00:01",
            "ports": [{"name": "http", "protocol": "TCP", "port": 80, "hostPort": 8080, "hostIP": "10.0.0.1"}],
            "allowSpoofedSourcePrefixes": ["10.9.0.0/16"],
            "qosControls": {"ingressBandwidth": 1000, "egressBandwidth": 1000, "ingressBurst": 1000, "egressBurst": 1000,
                "ingressPeakrate": 1010, "egressPeakrate": 1010, "ingressMinburst": 1000, "egressMinburst": 1000,
                "ingressPacketRate": 1, "egressPacketRate": 1, "ingressPacketBurst": 1, "egressPacketBurst": 1,
                "ingressMaxConnections": 1, "egressMaxConnections": 1, "dscp": "AF11", "later": 1}, "later": 1}),
        ),
        (Kind::BgpFilter, json!({"later": 1})),
        (Kind::CalicoNodeStatus, json!({"later": 1})),
        (Kind::ClusterInformation, json!({"later": 1})),
        (Kind::EndpointSlice, json!({"later": 1})),
        (Kind::FelixConfiguration, json!({"later": 1})),
        (Kind::HostEndpoint, json!({"later": 1})),
        (Kind::IpReservation, json!({"later": 1})),
        (Kind::IpamConfiguration, json!({"later": 1})),
        (Kind::KubeControllersConfiguration, json!({"later": 1})),
        (Kind::LiveMigration, json!({"later": 1})),
        (Kind::Service, json!({"later": 1})),
        (Kind::StagedGlobalNetworkPolicy, json!({"later": 1})),
        (Kind::StagedKubernetesNetworkPolicy, json!({"later": 1})),
        (Kind::StagedNetworkPolicy, json!({"later": 1})),
    ]
}

fn manifest(kind: Kind, spec: Value) -> Value {
    let name = match kind {
        Kind::WorkloadEndpoint => "node--1-k8s-pod--1-eth0",
        Kind::BgpConfiguration => "default",
        Kind::BgpPeer
        | Kind::GlobalNetworkPolicy
        | Kind::GlobalNetworkSet
        | Kind::IpPool
        | Kind::NetworkPolicy
        | Kind::NetworkSet
        | Kind::Node
        | Kind::Profile
        | Kind::Tier
        | Kind::BgpFilter
        | Kind::CalicoNodeStatus
        | Kind::ClusterInformation
        | Kind::EndpointSlice
        | Kind::FelixConfiguration
        | Kind::HostEndpoint
        | Kind::IpReservation
        | Kind::IpamConfiguration
        | Kind::KubeControllersConfiguration
        | Kind::LiveMigration
        | Kind::Service
        | Kind::StagedGlobalNetworkPolicy
        | Kind::StagedKubernetesNetworkPolicy
        | Kind::StagedNetworkPolicy => "thing",
    };
    let mut manifest = json!({"kind": kind.name(), "apiVersion": "projectcalico.org/v3",
        "metadata": {"name": name, "uid": "u", "creationTimestamp": "2026-11-22T01:17:52Z",
            "labels": {"a": "b"}, "annotations": {"c": "d"}, "generation": 3},
        "spec": spec, "status": {"conditions": []}});
    manifest["apiVersion"] = kind.api_version().into();
    if kind.namespaced() {
        manifest["metadata"]["namespace"] = "ns".into();
    }
    if !kind.has_spec()
        && let Some(Value::Object(fields)) = manifest.as_object_mut().unwrap().remove("spec")
    {
        manifest.as_object_mut().unwrap().extend(fields);
    }
    if kind == Kind::Node {
        manifest["status"] = json!({"wireguardPublicKey": "jlkVyQYooZYzI2wFfNhSZez5eWh44yfq1wKVjLvSXgY=",
            "podCIDRs": ["10.0.0.0/24"]});
    }
    manifest
}

#[test]
fn every_field_of_every_kind_survives() {
    let all = full();
    assert_eq!(all.len(), Kind::ALL.len());
    for (kind, spec) in all {
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
        which in 0..Kind::ALL.len(), place in any::<prop::sample::Index>(), by in 0..8usize,
    ) {
        let (kind, spec) = full().swap_remove(which);
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
