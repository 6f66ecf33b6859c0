//! Settings against Calico's verdicts, and written back as they were read.

use serde_json::{Value, json};

use super::*;
use crate::resource::{
    KubeControllersConfigurationSpec, Resource, check::Fault, codec::typed, from_manifest,
};

#[test]
fn verdicts_are_those_of_calico() {
    let text = include_str!("../../../tests/vectors/validation.json");
    let vectors: Value = serde_json::from_str(text).unwrap();
    let (mut looked_at, mut wrong) = (0, Vec::new());
    for case in vectors["cases"].as_array().unwrap() {
        let value = case["value"].clone();
        // Parts of a specification are looked at in their place.
        let spec = match case["type"].as_str().unwrap() {
            "FelixConfiguration" | "KubeControllersConfiguration" => None,
            "FelixConfigurationSpec" => Some(spec::<FelixConfigurationSpec>(value)),
            "KubeControllersConfigurationSpec" => Some(controllers(value)),
            "NodeControllerConfig" => Some(controllers(json!({"controllers": {"node": value}}))),
            "PolicyControllerConfig" => {
                Some(controllers(json!({"controllers": {"policy": value}})))
            }
            "ServiceAccountControllerConfig" => Some(controllers(
                json!({"controllers": {"serviceAccount": value}}),
            )),
            "WorkloadEndpointControllerConfig" => Some(controllers(
                json!({"controllers": {"workloadEndpoint": value}}),
            )),
            "Template" => Some(controllers(
                json!({"controllers": {"node": {"hostEndpoint": {"templates": [value]}}}}),
            )),
            "ProtoPort" => Some(spec::<FelixConfigurationSpec>(
                json!({"failsafeInboundHostPorts": [value]}),
            )),
            _ => continue,
        };
        looked_at += 1;
        let verdict = spec.unwrap_or_else(|| {
            from_manifest(case["resource"].clone())
                .map(drop)
                .map_err(|problem| Fault::new(problem.field, problem.reason))
        });
        if verdict.is_ok() != (case["valid"] == true) {
            wrong.push(format!("{}: {verdict:?}", case["name"]));
        }
    }
    assert!(wrong.is_empty(), "wrong:\n{}", wrong.join("\n"));
    assert!(looked_at > 95, "{looked_at} cases");
}

fn spec<T: serde::de::DeserializeOwned + Check>(value: Value) -> Result<(), Fault> {
    let mut faults = Faults::strict();
    typed::<T>("", value)?.check(&mut faults);
    faults.into_found().into_iter().next().map_or(Ok(()), Err)
}

fn controllers(value: Value) -> Result<(), Fault> {
    spec::<KubeControllersConfigurationSpec>(value)
}

#[test]
fn what_is_written_is_what_was_read() {
    let spec = json!({
        "defaultEndpointToHostAction": "accept",
        "failsafeInboundHostPorts": [],
        "failsafeOutboundHostPorts": [{"protocol": "udp", "port": 53, "net": "10.0.0.0/8", "new": 1}, {"port": 1}],
        "routeTableRanges": [{"min": 1, "max": 65535}],
        "bpfConntrackTimeouts": {"tcpFinsSeen": "Auto", "udpTimeout": "1m0s", "quicTimeout": "3s"},
        "bpfLogFilters": {"all": "tcp"},
        "natPortRange": "1024:2048",
        "kubeNodePortRanges": ["30000:32767", 8080],
        "istioDSCPMark": 23,
        "iptablesMarkMask": 4_294_901_760_u32,
        "reportingInterval": "1.5s",
        "nodeSelector": "rack == 'a'",
        "bpfEnabled": false,
        "nextYearsField": {"deep": [1]},
    });
    let manifest = json!({"apiVersion": "projectcalico.org/v3", "kind": "FelixConfiguration", "metadata": {"name": "x"}, "spec": spec});
    let (_, resource) = from_manifest(manifest).unwrap();
    let written: Value = serde_json::from_slice(&resource.encode()).unwrap();
    assert_eq!(written["spec"], spec);
    let Resource::FelixConfiguration(felix) = &resource else {
        panic!("{resource:?}");
    };
    let action = felix.spec.default_endpoint_to_host_action.as_ref().unwrap();
    assert_eq!(action.value(), EndpointToHostAction::Accept);
    assert_eq!(felix.spec.failsafe_inbound_host_ports, Some(vec![]));
}

#[test]
fn an_empty_text_is_an_absent_setting() {
    let read: FelixConfigurationSpec = typed(
        "",
        json!({"reportingInterval": "", "logSeverityScreen": "", "natOutgoingAddress": "", "floatingIPs": "", "openstackRegion": ""}),
    )
    .unwrap();
    assert_eq!(read, FelixConfigurationSpec::default());
}

#[test]
fn a_wrong_setting_is_named_by_its_path() {
    for (spec, field, reason) in [
        (json!({"healthPort": "http"}), "healthPort", "invalid type"),
        (
            json!({"ipv4NormalRoutePriority": 0}),
            "ipv4NormalRoutePriority",
            "not within 1 to 2147483646",
        ),
        (
            json!({"chainInsertMode": "Prepend"}),
            "chainInsertMode",
            "none of Insert, Append",
        ),
        (
            json!({"floatingIPs": "enabled"}),
            "floatingIPs",
            "unknown variant",
        ),
        (
            json!({"routeRefreshInterval": "soon"}),
            "routeRefreshInterval",
            "no duration",
        ),
        (
            json!({"bpfConntrackTimeouts": {"udpTimeout": "auto"}}),
            "bpfConntrackTimeouts.udpTimeout",
            "no duration",
        ),
        (
            json!({"failsafeInboundHostPorts": [{"port": 1}, {"port": 70000}]}),
            "failsafeInboundHostPorts[1].port",
            "invalid value",
        ),
        (
            json!({"failsafeInboundHostPorts": [{"protocol": "TCP"}]}),
            "failsafeInboundHostPorts[0].port",
            "required",
        ),
        (
            json!({"featureDetectOverride": "a=maybe"}),
            "featureDetectOverride",
            "no list such as",
        ),
        (
            json!({"featureGates": "a"}),
            "featureGates",
            "no list such as",
        ),
        (
            json!({"logActionRateLimit": "0/second"}),
            "logActionRateLimit",
            "no rate",
        ),
        (
            json!({"logActionRateLimitBurst": 10_000}),
            "logActionRateLimitBurst",
            "not within 0 to 9999",
        ),
        (json!({"logPrefix": "a$b"}), "logPrefix", "no prefix"),
        (json!({"nodeSelector": "a = b"}), "nodeSelector", "selector"),
        (
            json!({"routeTableRange": {"min": 1, "max": 251}}),
            "routeTableRange",
            "1..250",
        ),
    ] {
        let fault = spec_of(spec.clone()).unwrap_err();
        assert_eq!(fault.field, field, "{spec}: {fault:?}");
        assert!(fault.reason.contains(reason), "{spec}: {fault:?}");
    }
}

fn spec_of(value: Value) -> Result<FelixConfigurationSpec, Fault> {
    typed("", value)
}

#[test]
fn the_status_of_controllers_is_typed_too() {
    let manifest = |status: Value| json!({"apiVersion": "projectcalico.org/v3", "kind": "KubeControllersConfiguration", "metadata": {"name": "default"}, "spec": {"controllers": {}}, "status": status});
    let running = json!({"environmentVars": {"A": "b"}, "runningConfig": {"controllers": {"node": {"syncLabels": "Enabled"}}}});
    let (_, resource) = from_manifest(manifest(running.clone())).unwrap();
    let written: Value = serde_json::from_slice(&resource.encode()).unwrap();
    assert_eq!(written["status"], running);
    let wrong = json!({"runningConfig": {"controllers": {"node": {"syncLabels": "yes"}}}});
    let problem = from_manifest(manifest(wrong)).unwrap_err();
    assert_eq!(
        problem.field,
        "status.runningConfig.controllers.node.syncLabels"
    );
}
