//! Where a host tells its own state and that of its endpoints, as Felix does: paths in etcd beside the objects, and files
//! on the host. Neutron's driver, the CNI plugin and confd read them.
//!
//! | what | path | value |
//! | --- | --- | --- |
//! | the host lives | `/calico/felix/v2/REGION/host/HOST/status`, under a lease | [`Life`] |
//! | the host lived | `/calico/felix/v2/REGION/host/HOST/last_reported_status` | [`Life`] |
//! | a workload's endpoint | `/calico/felix/v2/REGION/host/HOST/workload/ORCHESTRATOR/WORKLOAD/endpoint/ENDPOINT` | [`EndpointState`] |
//! | a host endpoint | `/calico/felix/v1/host/HOST/endpoint/NAME` | [`EndpointState`] |
//! | a workload's endpoint | the file `endpoint-status/ORCHESTRATOR WORKLOAD ENDPOINT` | [`EndpointFile`] |

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::{resource::WorkloadEndpointSpec, wep_name::Fields};

/// The directory of the files, below the configured one.
pub const FILES: &str = "endpoint-status";

/// What names a workload's endpoint on its host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EndpointId {
    /// Who made the workload.
    pub orchestrator: String,
    /// The workload, its namespace before it.
    pub workload: String,
    /// The interface among those of the workload.
    pub endpoint: String,
}

impl EndpointId {
    /// The name of an endpoint in a namespace; `None` if its fields make none.
    pub fn of(namespace: &str, spec: &WorkloadEndpointSpec) -> Option<Self> {
        let fields = Fields::of(spec);
        let workload = fields.workload();
        let whole = ![&fields.orchestrator, workload, &fields.endpoint]
            .iter()
            .any(|field| field.is_empty());
        whole.then(|| Self {
            workload: format!("{namespace}/{workload}"),
            orchestrator: fields.orchestrator.clone(),
            endpoint: fields.endpoint.clone(),
        })
    }

    /// The file in [`FILES`].
    pub fn file_name(&self) -> String {
        [&self.orchestrator, &self.workload, &self.endpoint]
            .map(|field| path_escape(field))
            .join(" ")
    }
}

/// The segment that a region has in paths; without one it says so.
pub fn region(name: Option<&str>) -> String {
    match name.filter(|name| !name.is_empty()) {
        Some(name) => format!("region-{name}"),
        None => "no-region".to_owned(),
    }
}

/// The path of what is only there while the host lives.
pub fn alive(region: &str, host: &str) -> String {
    format!("{V2}{region}/host/{host}/status")
}

/// The path of when the host last lived.
pub fn last_alive(region: &str, host: &str) -> String {
    format!("{V2}{region}/host/{host}/last_reported_status")
}

/// What all paths of a host's workload endpoints begin with.
pub fn workloads(region: &str, host: &str) -> String {
    format!("{V2}{region}/host/{host}/workload/")
}

/// The path of a workload's endpoint.
pub fn workload(region: &str, host: &str, id: &EndpointId) -> String {
    let [orchestrator, workload, endpoint] =
        [&id.orchestrator, &id.workload, &id.endpoint].map(|field| escape(field));
    format!(
        "{}{orchestrator}/{workload}/endpoint/{endpoint}",
        workloads(region, host)
    )
}

/// What all paths of a host's own endpoints begin with.
pub fn host_endpoints(host: &str) -> String {
    format!("{V1}{host}/endpoint/")
}

/// The path of a host endpoint.
pub fn host_endpoint(host: &str, name: &str) -> String {
    format!("{}{}", host_endpoints(host), escape(name))
}

/// A sign of life of a host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Life {
    /// When it was given, RFC 3339 in UTC.
    pub time: String,
    /// For how many seconds the process has run.
    pub uptime: f64,
    /// It is the process's first.
    pub first_update: bool,
}

/// The state of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "status")]
pub enum EndpointState {
    /// Its interface is up and its policy is in place.
    Up,
    /// Its interface is not there, or not up.
    Down,
    /// It could not be programmed.
    Error,
}

/// What the file of an endpoint says. That it is there says that the endpoint's policy is in place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointFile {
    /// The host's side of the interface.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub iface_name: String,
    /// The workload's MAC address.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mac: String,
    /// Its IPv4 addresses, with their lengths.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ipv4_nets: Vec<String>,
    /// Its IPv6 addresses, with their lengths.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ipv6_nets: Vec<String>,
    /// The BGPPeer by which the host peers with the workload, if one does.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub bgp_peer_name: String,
}

/// A field as a segment of a path in etcd.
fn escape(field: &str) -> String {
    field.replace('%', "%25").replace('/', "%2f")
}

/// A field as Go's `url.PathEscape` writes it.
fn path_escape(field: &str) -> String {
    let mut escaped = String::with_capacity(field.len());
    for byte in field.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => escaped.push(char::from(byte)),
            _ if PLAIN.contains(&byte) => escaped.push(char::from(byte)),
            _ => {
                let _ = write!(escaped, "%{byte:02X}");
            }
        }
    }
    escaped
}

/// Bytes that stand for themselves in a segment of a URL's path, for Go, beside letters and digits.
const PLAIN: &[u8] = b"-_.~$&+=:@";
const V1: &str = "/calico/felix/v1/host/";
const V2: &str = "/calico/felix/v2/";

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn id(orchestrator: &str, workload: &str, endpoint: &str) -> EndpointId {
        EndpointId {
            orchestrator: orchestrator.to_owned(),
            workload: workload.to_owned(),
            endpoint: endpoint.to_owned(),
        }
    }

    #[test]
    fn files_have_calicos_names() {
        let text = include_str!("../tests/vectors/names.json");
        let vectors: Value = serde_json::from_str(text).unwrap();
        let mut seen = 0;
        for case in vectors["statusFilename"].as_array().unwrap() {
            let key = &case["key"];
            if key.is_null() {
                continue;
            }
            let field = |name: &str| key[name].as_str().unwrap();
            let id = id(
                field("orchestratorID"),
                field("workloadID"),
                field("endpointID"),
            );
            assert_eq!(id.file_name(), case["filename"], "{}", case["name"]);
            seen += 1;
        }
        assert!(seen > 0);
        for (id, name) in [
            (
                id("k8/s", "defaul/t/testp/od1", "eth/0"),
                "k8%2Fs defaul%2Ft%2Ftestp%2Fod1 eth%2F0",
            ),
            (
                id("k8s", "default/t est pod1", "eth0"),
                "k8s default%2Ft%20est%20pod1 eth0",
            ),
            (
                id("a$&+=:@-_.~", "b;,?#%\"", "ü"),
                "a$&+=:@-_.~ b%3B%2C%3F%23%25%22 %C3%BC",
            ),
        ] {
            assert_eq!(id.file_name(), name);
        }
    }

    #[test]
    fn paths_are_felixs() {
        let text = include_str!("../tests/vectors/keys.json");
        let vectors: Value = serde_json::from_str(text).unwrap();
        let europe = region(Some("Europe"));
        for (name, path) in [
            ("Felix active status", alive(&europe, "h1")),
            ("Felix last reported status", last_alive(&europe, "h1")),
        ] {
            let cases = vectors["paths"].as_array().unwrap();
            let case = cases.iter().find(|case| case["name"] == name).unwrap();
            assert_eq!(path, case["path"], "{name}");
        }
        let none = region(None);
        for (made, path) in [
            (
                workload(&europe, "h1", &id("openstack", "openstack/vm-1", "port-1")),
                "/calico/felix/v2/region-Europe/host/h1/workload/openstack/openstack%2fvm-1/endpoint/port-1",
            ),
            (
                workload(&none, "h", &id("a/b", "100%/x", "e%2fp")),
                "/calico/felix/v2/no-region/host/h/workload/a%2fb/100%25%2fx/endpoint/e%252fp",
            ),
            (
                host_endpoint("foo", "bar"),
                "/calico/felix/v1/host/foo/endpoint/bar",
            ),
            (region(Some("")), "no-region"),
        ] {
            assert_eq!(made, path);
        }
    }

    #[test]
    fn an_endpoint_is_named_by_what_its_orchestrator_has() {
        let spec = |mut value: Value| {
            value["interfaceName"] = "tap1".into();
            serde_json::from_value::<WorkloadEndpointSpec>(value).unwrap()
        };
        for (fields, expected) in [
            (
                json!({"orchestrator": "k8s", "pod": "p", "containerID": "c", "endpoint": "eth0"}),
                Some(id("k8s", "ns/p", "eth0")),
            ),
            (
                json!({"orchestrator": "cni", "containerID": "c", "endpoint": "eth0"}),
                Some(id("cni", "ns/c", "eth0")),
            ),
            (
                json!({"orchestrator": "openstack", "workload": "vm", "endpoint": "port"}),
                Some(id("openstack", "ns/vm", "port")),
            ),
            (
                json!({"orchestrator": "openstack", "endpoint": "port"}),
                None,
            ),
        ] {
            assert_eq!(
                EndpointId::of("ns", &spec(fields.clone())),
                expected,
                "{fields}"
            );
        }
    }

    #[test]
    fn values_are_as_felix_writes_them() {
        assert_eq!(
            serde_json::to_string(&EndpointState::Up).unwrap(),
            r#"{"status":"up"}"#
        );
        let life = Life {
            time: "2026-08-22T10:00:00Z".to_owned(),
            uptime: 123.4,
            first_update: false,
        };
        assert_eq!(
            serde_json::to_string(&life).unwrap(),
            r#"{"time":"2026-08-22T10:00:00Z","uptime":123.4,"first_update":false}"#
        );
        let file = EndpointFile {
            iface_name: "cali0".to_owned(),
            ipv4_nets: vec!["10.0.0.1/32".to_owned()],
            ..EndpointFile::default()
        };
        assert_eq!(
            serde_json::to_string(&file).unwrap(),
            r#"{"ifaceName":"cali0","ipv4Nets":["10.0.0.1/32"]}"#
        );
    }
}
