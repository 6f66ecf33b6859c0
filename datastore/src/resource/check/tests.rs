use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::{
    Kind,
    resource::{
        BgpConfigurationSpec, BgpFilterRule, BgpPeerSpec, EndpointPort, EntityRule,
        HostEndpointSpec, HttpMatch, Icmp, IpNat, IpReservationSpec, NetworkSetSpec, NodeSpec,
        NodeStatus, PortProtocol, ProfileSpec, RouteOperation, Rule, WorkloadEndpointSpec,
        codec::typed, from_manifest, manifest_key, schema, validate,
    },
    value::Protocol,
};

/// Types of the vectors that are not looked at here, and why.
const SKIPPED: [(&str, &str); 8] = [
    (
        "BlockAffinitySpec",
        "kept so with a Kubernetes datastore only",
    ),
    ("FelixConfiguration", "looked at in felix/tests.rs"),
    (
        "KubeControllersConfiguration",
        "looked at in felix/tests.rs",
    ),
    (
        "NodeControllerConfig",
        "part of KubeControllersConfiguration",
    ),
    (
        "PolicyControllerConfig",
        "part of KubeControllersConfiguration",
    ),
    (
        "ServiceAccountControllerConfig",
        "part of KubeControllersConfiguration",
    ),
    ("Template", "part of KubeControllersConfiguration"),
    (
        "WorkloadEndpointControllerConfig",
        "part of KubeControllersConfiguration",
    ),
];

#[test]
fn verdicts_are_those_of_calico() {
    let text = include_str!("../../../tests/vectors/validation.json");
    let vectors: Value = serde_json::from_str(text).unwrap();
    let (mut looked_at, mut wrong) = (0, Vec::new());
    for case in vectors["cases"].as_array().unwrap() {
        let of_type = case["type"].as_str().unwrap();
        if SKIPPED
            .iter()
            .any(|(name, _)| of_type == *name || of_type == format!("{name}Spec"))
        {
            continue;
        }
        looked_at += 1;
        let verdict = match case.get("resource") {
            Some(resource) => from_manifest(resource.clone())
                .map(drop)
                .map_err(|problem| problem.to_string()),
            None => match of_value(of_type, &case["value"]).first() {
                None => Ok(()),
                Some(fault) => Err(format!("{}: {}", fault.field, fault.reason)),
            },
        };
        if verdict.is_ok() != (case["valid"] == true) {
            wrong.push(format!("{}: {verdict:?}", case["name"]));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(looked_at > 280, "{looked_at} cases");
}

/// What is wrong with a part of an object.
fn of_value(of_type: &str, value: &Value) -> Vec<Fault> {
    fn check<T: DeserializeOwned + Check>(
        part: Option<(&str, &'static str)>,
        value: &Value,
    ) -> Vec<Fault> {
        with(part, value, |value: T, faults| value.check(faults))
    }
    fn with<T: DeserializeOwned>(
        part: Option<(&str, &'static str)>,
        value: &Value,
        look: impl FnOnce(T, &mut Faults),
    ) -> Vec<Fault> {
        let mut faults = Faults::strict();
        if let Some((object, path)) = part {
            schema::check_part(object, path, value, &mut faults);
        }
        match typed::<T>("", value.clone()) {
            Ok(value) => look(value, &mut faults),
            Err(fault) => faults.take(fault),
        }
        faults.into_found()
    }
    match of_type {
        "BGPConfigurationSpec" => {
            check::<BgpConfigurationSpec>(Some(("BGPConfiguration", "")), value)
        }
        "BGPFilterOperation" => {
            with::<RouteOperation>(Some(("@FilterRuleV4", "operations[]")), value, |_, _| {})
        }
        "BGPFilterRuleV4" => with(
            Some(("BGPFilter", "importV4[]")),
            value,
            |rule: BgpFilterRule, faults| rule.check_family(true, faults),
        ),
        "BGPFilterRuleV6" => with(
            Some(("BGPFilter", "importV6[]")),
            value,
            |rule: BgpFilterRule, faults| rule.check_family(false, faults),
        ),
        "BGPPeerSpec" => check::<BgpPeerSpec>(Some(("BGPPeer", "")), value),
        "EntityRule" => check::<EntityRule>(Some(("@Rule", "source")), value),
        "HostEndpointSpec" => check::<HostEndpointSpec>(Some(("HostEndpoint", "")), value),
        "HTTPMatch" => check::<HttpMatch>(Some(("@Rule", "http")), value),
        "ICMPFields" => check::<Icmp>(Some(("@Rule", "icmp")), value),
        "IPNAT" => check::<IpNat>(None, value),
        "IPReservationSpec" => check::<IpReservationSpec>(Some(("IPReservation", "")), value),
        "NetworkSetSpec" => check::<NetworkSetSpec>(Some(("NetworkSet", "")), value),
        "NodeSpec" => check::<NodeSpec>(None, value),
        "NodeStatus" => check::<NodeStatus>(None, value),
        "ProfileSpec" => check::<ProfileSpec>(Some(("Profile", "")), value),
        // A port of a failsafe: only its protocol has rules.
        "ProtoPort" => with(
            None,
            &value["protocol"],
            |protocol: PortProtocol, faults| {
                faults.require(protocol.0.supports_ports(), "protocol", || "has no ports");
            },
        ),
        "Protocol" => check::<Protocol>(None, value),
        "Rule" => check::<Rule>(Some(("Profile", "ingress[]")), value),
        "WorkloadEndpointPort" => check::<EndpointPort>(None, value),
        "WorkloadEndpointSpec" => check::<WorkloadEndpointSpec>(None, value),
        other => panic!("{other} is neither looked at nor skipped"),
    }
}

#[test]
fn a_problem_names_the_object_and_the_field() {
    let policy = |ingress: Value| {
        (
            Kind::NetworkPolicy,
            json!({ "ingress": [{"action": "Allow"}, ingress] }),
        )
    };
    for ((kind, spec), field, reason) in [
        (policy(json!({})), "spec.ingress[1].action", "is required"),
        (
            policy(json!({"action": "allow"})),
            "spec.ingress[1].action",
            "is none of",
        ),
        (
            policy(json!({"action": "Allow", "source": {"nets": ["10.0.0.0/8", 5]}})),
            "spec.ingress[1].source.nets[1]",
            "is not",
        ),
        (
            policy(json!({"action": "Allow", "source": {"nets": ["10.0.0.0/8", "10.0.0.0/33"]}})),
            "spec.ingress[1].source.nets[1]",
            "is no CIDR",
        ),
        (
            policy(
                json!({"action": "Allow", "source": {"nets": ["10.0.0.0/8"]}, "destination": {"nets": ["fd00::/8"]}}),
            ),
            "spec.ingress[1].destination.nets[0]",
            "another IP version",
        ),
        (
            policy(json!({"action": "Allow", "source": {"nets": ["10.0.0.0/8", "fd00::/8"]}})),
            "spec.ingress[1].source.nets[1]",
            "another IP version",
        ),
        (
            policy(json!({"action": "Allow", "destination": {"selector": "a = b"}})),
            "spec.ingress[1].destination.selector",
            "unexpected '=' at character 2",
        ),
        (
            policy(json!({"action": "Allow", "destination": {"ports": [80]}})),
            "spec.ingress[1].destination.ports",
            "needs protocol",
        ),
        (
            policy(
                json!({"action": "Allow", "protocol": "TCP", "destination": {"ports": [1, "9:8"]}}),
            ),
            "spec.ingress[1].destination.ports[1]",
            "ends before it begins",
        ),
        (
            policy(json!({"action": "Allow", "icmp": {"type": 8}})),
            "spec.ingress[1].icmp",
            "needs protocol",
        ),
        (
            (Kind::NetworkPolicy, json!({"order": "1"})),
            "spec.order",
            "is not",
        ),
        (
            (Kind::NetworkPolicy, json!({"selector": "has(a"})),
            "spec.selector",
            "is no selector",
        ),
        (
            (
                Kind::NetworkPolicy,
                json!({"types": ["Ingress", "Ingress"]}),
            ),
            "spec.types[1]",
            "twice",
        ),
        (
            (Kind::NetworkPolicy, json!({"tier": "No Tier"})),
            "spec.tier",
            "is no name",
        ),
        (
            (
                Kind::GlobalNetworkPolicy,
                json!({"preDNAT": true, "doNotTrack": true, "applyOnForward": true}),
            ),
            "spec.preDNAT",
            "excludes doNotTrack",
        ),
        ((Kind::IpPool, json!({})), "spec.cidr", "is required"),
        (
            (Kind::IpPool, json!({"cidr": "10.0.0.1/24"})),
            "spec.cidr",
            "should be 10.0.0.0/24",
        ),
        (
            (Kind::IpPool, json!({"cidr": "fe80::/64"})),
            "spec.cidr",
            "link-local",
        ),
        (
            (Kind::IpPool, json!({"cidr": "fd00::/64", "blockSize": 26})),
            "spec.blockSize",
            "not within 116 to 128",
        ),
        (
            (
                Kind::IpPool,
                json!({"cidr": "fd00::/64", "ipipMode": "Always"}),
            ),
            "spec.ipipMode",
            "IPv4 pools only",
        ),
        (
            (Kind::NetworkSet, json!({"nets": "10.0.0.0/8"})),
            "spec.nets",
            "is not",
        ),
        (
            (Kind::GlobalNetworkSet, json!({"nets": ["x"]})),
            "spec.nets[0]",
            "is no CIDR",
        ),
        (
            (Kind::Tier, json!({"defaultAction": "Allow"})),
            "spec.defaultAction",
            "`Deny` or `Pass`",
        ),
        (
            (Kind::Node, json!({"bgp": {"ipv4Address": "x"}})),
            "spec.bgp.ipv4Address",
            "is no CIDR",
        ),
        (
            (Kind::Node, json!({"bgp": {"asNumber": -1}})),
            "spec.bgp.asNumber",
            "invalid type",
        ),
        (
            (Kind::Profile, json!({"labelsToApply": {"a b": ""}})),
            "spec.labelsToApply[\"a b\"]",
            "is no key",
        ),
        (
            (Kind::Profile, json!({"egress": [{}]})),
            "spec.egress[0].action",
            "is required",
        ),
        (
            (Kind::BgpPeer, json!({"peerIP": "tor"})),
            "spec.peerIP",
            "is no address",
        ),
        (
            (
                Kind::BgpPeer,
                json!({"peerIP": "::1", "node": "a", "nodeSelector": "all()"}),
            ),
            "spec.nodeSelector",
            "excludes node",
        ),
        (
            (Kind::BgpConfiguration, json!({"listenPort": 0})),
            "spec.listenPort",
            "not within 1 to 65535",
        ),
        (
            (
                Kind::BgpConfiguration,
                json!({"nodeToNodeMeshEnabled": true}),
            ),
            "spec.nodeToNodeMeshEnabled",
            "default only",
        ),
        (
            (Kind::WorkloadEndpoint, json!({})),
            "spec.interfaceName",
            "is required",
        ),
        (
            (Kind::WorkloadEndpoint, json!({"interfaceName": "tap1"})),
            "spec.node",
            "is required",
        ),
        (
            (
                Kind::WorkloadEndpoint,
                json!({"interfaceName": "tap1", "node": "n", "orchestrator": "k8s", "endpoint": "e"}),
            ),
            "spec.pod",
            "is required",
        ),
        (
            (
                Kind::WorkloadEndpoint,
                json!({"interfaceName": "tap1", "node": "n", "orchestrator": "k8s", "endpoint": "e", "pod": "p"}),
            ),
            "metadata.name",
            "\"n-k8s-p-e\"",
        ),
        (
            (
                Kind::WorkloadEndpoint,
                json!({"interfaceName": "tap1", "node": "thing", "orchestrator": "x", "endpoint": "e", "workload": "w", "mac": "1:2"}),
            ),
            "spec.mac",
            "is no MAC",
        ),
    ] {
        let mut manifest = json!({"apiVersion": "projectcalico.org/v3", "kind": kind.name(),
            "metadata": {"name": "thing"}, "spec": spec});
        if kind.namespaced() {
            manifest["metadata"]["namespace"] = "ns".into();
        }
        let key = manifest_key(&manifest).unwrap();
        let problems = validate(&key, manifest.clone()).unwrap_err();
        let problem = problems
            .iter()
            .find(|problem| problem.field == field)
            .unwrap_or_else(|| panic!("{field} of {manifest}: {problems:?}"));
        assert_eq!(problem.object, key.to_string());
        assert!(problem.reason.contains(reason), "{manifest}: {problem}");
    }
}

#[test]
fn lists_are_bounded() {
    let rule = json!({"action": "Allow"});
    for (spec, field) in [
        (json!({"ingress": vec![rule.clone(); 1025]}), "spec.ingress"),
        (
            json!({"egress": [{"action": "Allow", "source": {"nets": vec!["10.0.0.0/8"; 257]}}]}),
            "spec.egress[0].source.nets",
        ),
        (
            json!({"egress": [{"action": "Allow", "protocol": "TCP", "source": {"ports": vec![1; 51]}}]}),
            "spec.egress[0].source.ports",
        ),
    ] {
        let manifest = json!({"apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkPolicy",
            "metadata": {"name": "x"}, "spec": spec});
        let problem = from_manifest(manifest).unwrap_err();
        assert_eq!(problem.field, field);
    }
}
