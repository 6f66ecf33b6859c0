//! A cluster as large as they come: namespaces, applications, endpoints.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// How many endpoints there are.
pub(crate) const ENDPOINTS: usize = 100_000;
/// How many selectors there are.
pub(crate) const SELECTORS: usize = 10_000;
/// How many namespaces share the endpoints, evenly but for the first, which has a tenth of them.
pub(crate) const NAMESPACES: usize = 500;

const APPLICATIONS: usize = 2_000;
const TIERS: [&str; 5] = ["web", "api", "db", "cache", "batch"];

/// The namespace of an endpoint.
pub(crate) fn namespace(endpoint: usize) -> usize {
    if endpoint.is_multiple_of(10) {
        0
    } else {
        endpoint % NAMESPACES
    }
}

/// The profile that gives endpoints the labels of their namespace.
pub(crate) fn profile(namespace: usize) -> String {
    format!("kns.ns{namespace}")
}

/// The labels that a namespace gives its endpoints.
pub(crate) fn profile_labels(namespace: usize) -> BTreeMap<String, String> {
    labels([
        ("pcns.projectcalico.org/name", format!("ns{namespace}")),
        ("pcns.kubernetes.io/metadata.name", format!("ns{namespace}")),
        ("pcns.team", format!("team{}", namespace % 40)),
    ])
}

/// The labels of an endpoint that runs this application.
pub(crate) fn endpoint_labels(endpoint: usize, application: usize) -> BTreeMap<String, String> {
    labels([
        (
            "projectcalico.org/namespace",
            format!("ns{}", namespace(endpoint)),
        ),
        ("projectcalico.org/orchestrator", "k8s".to_owned()),
        ("projectcalico.org/serviceaccount", "default".to_owned()),
        ("app", format!("app{}", application % APPLICATIONS)),
        (
            "tier",
            TIERS[hash(application) as usize % TIERS.len()].to_owned(),
        ),
        ("pod-template-hash", format!("{:x}", hash(endpoint / 3))),
        (
            "statefulset.kubernetes.io/pod-name",
            format!("app{}-{endpoint}", application % APPLICATIONS),
        ),
    ])
}

/// The selectors that policies have: most of one application, some of a tier, a namespace or a team, few of all.
pub(crate) fn selector(number: usize) -> String {
    let space = format!(
        "projectcalico.org/namespace == 'ns{}'",
        hash(number) as usize % NAMESPACES
    );
    let app = hash(number + 1) as usize % APPLICATIONS;
    match number % 20 {
        0..8 => format!("app == 'app{app}' && {space}"),
        8..12 => format!(
            "{space} && tier == '{}' && app != 'app{app}'",
            TIERS[number % 5]
        ),
        12..14 => format!("{space} && app in {{'app{app}', 'app{}'}}", app + 1),
        14 => format!("{space} && !has(quarantine-{number})"),
        15 => format!("pcns.team == 'team{}' && app == 'app{app}'", number % 40),
        16 => format!(
            "pcns.team in {{'team{}', 'team{}'}} && tier == 'db'",
            number % 40,
            app % 40
        ),
        17 => format!("has(role-{number}) || app == 'app{app}'"),
        18 => format!("app starts with 'app{app}' && {space}"),
        _ => format!("!has(exempt-{number}) && {space}"),
    }
}

/// An endpoint as it is stored, with its path.
pub(crate) fn stored(endpoint: usize) -> (String, Value) {
    let space = format!("ns{}", namespace(endpoint));
    let node = format!("worker{}", endpoint % 1_000);
    let pod = format!("app{}-{endpoint}", endpoint % APPLICATIONS);
    let name = format!("{node}-k8s-{}-eth0", pod.replace('-', "--"));
    let path = format!("/calico/resources/v3/projectcalico.org/workloadendpoints/{space}/{name}");
    let [high, low] = [endpoint / 65_536, endpoint % 65_536].map(|part| part as u64);
    let value = json!({
        "kind": "WorkloadEndpoint",
        "apiVersion": "projectcalico.org/v3",
        "metadata": {
            "name": name,
            "namespace": space,
            "uid": format!("{:08x}-5b1c-4b3f-9f0e-{endpoint:012x}", hash(endpoint)),
            "creationTimestamp": "2026-11-22T01:17:52Z",
            "generateName": format!("app{}-", endpoint % APPLICATIONS),
            "labels": endpoint_labels(endpoint, endpoint),
        },
        "spec": {
            "orchestrator": "k8s",
            "node": node,
            "containerID": format!("{:032x}{:032x}", hash(endpoint), endpoint),
            "pod": pod,
            "endpoint": "eth0",
            "serviceAccountName": "default",
            "ipNetworks": [
                format!("10.{}.{}.{}/32", 64 + high, low / 256, low % 256),
                format!("fd00:10:{high:x}::{low:x}/128"),
            ],
            "profiles": [profile(namespace(endpoint)), format!("ksa.{space}.default")],
            "interfaceName": format!("cali{:011x}", endpoint),
            "mac": "ee:ee:ee:ee:ee:ee",
            "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
        },
    });
    (path, value)
}

/// A number that looks random and is always the same.
pub(crate) fn hash(number: usize) -> u32 {
    let mixed = (number as u64)
        .wrapping_add(1)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29))
        .wrapping_mul(0xbf58_476d_1ce4_e5b9)
        .rotate_left(31) as u32
}

fn labels<const N: usize>(pairs: [(&str, String); N]) -> BTreeMap<String, String> {
    pairs.map(|(label, value)| (label.to_owned(), value)).into()
}
