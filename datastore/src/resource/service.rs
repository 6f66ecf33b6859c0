//! Services and what stands behind them, as Kubernetes has them.

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Spec, words};
use crate::{
    Kind,
    value::{Cidr, absent_if_empty},
};

/// A service: addresses and ports that stand for those of its backends.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSpec {
    /// How it is reached; absent means `ClusterIP`.
    #[serde(rename = "type")]
    pub kind: Option<ServiceType>,
    /// Labels of the endpoints that are its backends; without any, `EndpointSlice`s tell them.
    pub selector: BTreeMap<String, String>,
    /// The first of `clusterIPs`.
    #[serde(rename = "clusterIP", deserialize_with = "absent_if_empty")]
    pub cluster_ip: Option<ClusterIp>,
    /// Its addresses, one of each family at most.
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Vec<ClusterIp>,
    /// Further addresses, which others route to the nodes.
    #[serde(rename = "externalIPs")]
    pub external_ips: Vec<IpAddr>,
    /// The name that an `ExternalName` service stands for.
    #[serde(deserialize_with = "absent_if_empty")]
    pub external_name: Option<String>,
    /// An address asked of the load balancer; `loadBalancerClass` knows better ways.
    #[serde(rename = "loadBalancerIP", deserialize_with = "absent_if_empty")]
    pub load_balancer_ip: Option<IpAddr>,
    /// Who may use the load balancer; nobody named means all.
    pub load_balancer_source_ranges: Vec<Cidr>,
    /// Whose load balancer it is.
    pub load_balancer_class: Option<String>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// What keeps a client with a backend; absent means nothing.
    #[serde(deserialize_with = "absent_if_empty")]
    pub session_affinity: Option<SessionAffinity>,
    /// For how long.
    pub session_affinity_config: Option<SessionAffinityConfig>,
    /// Which backends serve clients inside the cluster; absent means all.
    pub internal_traffic_policy: Option<TrafficPolicy>,
    /// Which backends serve clients outside the cluster; absent means all.
    #[serde(deserialize_with = "absent_if_empty")]
    pub external_traffic_policy: Option<TrafficPolicy>,
    /// Which backends to prefer.
    pub traffic_distribution: Option<String>,
    /// The port that tells load balancers whether a node has backends; 0 for none.
    #[serde(skip_serializing_if = "super::is_zero")]
    pub health_check_node_port: u16,
    /// Whether a load balancer needs ports of the nodes; absent means so.
    pub allocate_load_balancer_node_ports: Option<bool>,
    /// The families of its addresses, in order.
    pub ip_families: Vec<IpFamily>,
    /// How many families it has.
    pub ip_family_policy: Option<IpFamilyPolicy>,
    /// Whether backends that are not ready count as ready.
    #[serde(skip_serializing_if = "super::is_false")]
    pub publish_not_ready_addresses: bool,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Spec for ServiceSpec {
    const KIND: Kind = Kind::Service;
}

/// An address of a service, or that it has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClusterIp {
    /// It has this one.
    Addr(IpAddr),
    /// It has none: its name stands for its backends.
    None,
}

impl std::str::FromStr for ClusterIp {
    type Err = crate::value::ValueError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "None" {
            return Ok(ClusterIp::None);
        }
        text.parse().map(ClusterIp::Addr).map_err(|_| {
            crate::value::ValueError(format!("{text:?} is neither an address nor None"))
        })
    }
}

impl std::fmt::Display for ClusterIp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ClusterIp::Addr(addr) => addr.fmt(f),
            ClusterIp::None => f.write_str("None"),
        }
    }
}

crate::value::text_serde!(ClusterIp);

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    /// The name; required with more than one port.
    #[serde(default, deserialize_with = "absent_if_empty")]
    pub name: Option<String>,
    /// The protocol; absent means TCP.
    #[serde(default, deserialize_with = "absent_if_empty")]
    pub protocol: Option<TransportProtocol>,
    /// The protocol above it.
    #[serde(default)]
    pub app_protocol: Option<String>,
    /// The port at the service's addresses.
    pub port: u16,
    /// The port at the backends, by number or name; absent means the same.
    #[serde(default)]
    pub target_port: Option<TargetPort>,
    /// The port at the nodes' addresses; 0 for none.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    pub node_port: u16,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A port of backends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TargetPort {
    /// By number; 0 is an absent one.
    Number(u16),
    /// By the name it has at each backend.
    Name(String),
}

/// For how long a client stays with a backend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionAffinityConfig {
    /// With affinity to the client's address.
    #[serde(rename = "clientIP")]
    pub client_ip: Option<ClientIpConfig>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// For how long a client's address stays with a backend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientIpConfig {
    /// Seconds, at most a day; absent means three hours.
    pub timeout_seconds: Option<u32>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

words! {
    /// How a service is reached.
    pub enum ServiceType {
        /// At addresses of the cluster.
        ClusterIp = "ClusterIP",
        /// At ports of the nodes too.
        NodePort,
        /// At addresses of a load balancer too.
        LoadBalancer,
        /// Not at all: it is another name of something.
        ExternalName,
    }

    /// What keeps a client with a backend.
    pub enum SessionAffinity {
        /// Nothing.
        None,
        /// The client's address.
        ClientIp = "ClientIP",
    }

    /// Which backends serve.
    pub enum TrafficPolicy {
        /// All.
        Cluster,
        /// Those on the node that the client's packet reaches.
        Local,
    }

    /// A family of addresses.
    pub enum IpFamily {
        /// IPv4.
        V4 = "IPv4",
        /// IPv6.
        V6 = "IPv6",
    }

    /// How many families a service has.
    pub enum IpFamilyPolicy {
        /// One.
        SingleStack,
        /// Two, if the cluster has them.
        PreferDualStack,
        /// Two.
        RequireDualStack,
    }

    /// A protocol that services have.
    pub enum TransportProtocol {
        /// RFC 9293.
        Tcp = "TCP",
        /// RFC 768.
        Udp = "UDP",
        /// RFC 9260.
        Sctp = "SCTP",
    }

    /// What the addresses of a slice are.
    pub enum SliceAddressType {
        /// Of IPv4.
        V4 = "IPv4",
        /// Of IPv6.
        V6 = "IPv6",
        /// Names.
        Fqdn = "FQDN",
    }
}

impl ServicePort {
    /// The protocol.
    pub fn protocol(&self) -> TransportProtocol {
        self.protocol.unwrap_or(TransportProtocol::Tcp)
    }
}

impl ServiceSpec {
    /// Whether it has no address: its name stands for its backends.
    pub fn is_headless(&self) -> bool {
        self.cluster_ip == Some(ClusterIp::None)
            || self.cluster_ips.first() == Some(&ClusterIp::None)
    }

    /// Every address of the cluster that it has.
    pub fn cluster_addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let only = self
            .cluster_ip
            .iter()
            .filter(|_| self.cluster_ips.is_empty());
        self.cluster_ips
            .iter()
            .chain(only)
            .filter_map(|ip| match ip {
                ClusterIp::Addr(addr) => Some(*addr),
                ClusterIp::None => None,
            })
    }
}

/// What a load balancer says of a service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceStatus {
    /// The load balancer.
    pub load_balancer: LoadBalancerStatus,
    /// Fields that are not read here; `conditions` are among them.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A load balancer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LoadBalancerStatus {
    /// Where clients reach it.
    pub ingress: Vec<LoadBalancerIngress>,
}

/// Where clients reach a load balancer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LoadBalancerIngress {
    /// Its address.
    #[serde(
        deserialize_with = "absent_if_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub ip: Option<IpAddr>,
    /// Its name.
    #[serde(
        deserialize_with = "absent_if_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub hostname: Option<String>,
    /// Whether packets that come from it still have its address as their destination.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_mode: Option<IpMode>,
    /// Fields that are not read here; `ports` are among them.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

words! {
    /// How packets of a load balancer reach the nodes.
    pub enum IpMode {
        /// With its address as their destination.
        Vip = "VIP",
        /// With the node's.
        Proxy,
    }
}

impl super::Service {
    /// What a load balancer says of it.
    pub fn status(&self) -> Option<ServiceStatus> {
        super::status_of(&self.extra)
    }
}

/// The label of a slice that names its service.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// Endpoints of the service that the label [`SERVICE_NAME_LABEL`] names; all have the same ports.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointSliceSpec {
    /// What the addresses are.
    pub address_type: SliceAddressType,
    /// The endpoints.
    #[serde(default)]
    pub endpoints: Vec<Endpoint>,
    /// Their ports.
    #[serde(default)]
    pub ports: Vec<SlicePort>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Spec for EndpointSliceSpec {
    const KIND: Kind = Kind::EndpointSlice;
}

/// An endpoint of a service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Endpoint {
    /// Its addresses; the first counts.
    pub addresses: Vec<String>,
    /// Whether it can serve.
    pub conditions: EndpointConditions,
    /// Its name.
    pub hostname: Option<String>,
    /// The node it is on.
    pub node_name: Option<String>,
    /// The zone it is in.
    pub zone: Option<String>,
    /// Who should use it.
    pub hints: Option<EndpointHints>,
    /// The object it belongs to.
    pub target_ref: Option<ObjectReference>,
    /// Where it is, as older writers say it.
    pub deprecated_topology: BTreeMap<String, String>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Whether an endpoint can serve.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointConditions {
    /// It takes new connections; absent means that it does.
    pub ready: Option<bool>,
    /// It serves, whether or not it is on its way out; absent means what `ready` says.
    pub serving: Option<bool>,
    /// It is on its way out; absent means that it is not.
    pub terminating: Option<bool>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Who should use an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointHints {
    /// Clients in these zones.
    pub for_zones: Vec<NameHint>,
    /// Clients on these nodes.
    pub for_nodes: Vec<NameHint>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A zone or a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameHint {
    /// Its name.
    pub name: String,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Another object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the names say it")]
pub struct ObjectReference {
    pub api_version: Option<String>,
    pub kind: Option<String>,
    pub namespace: Option<String>,
    pub name: Option<String>,
    pub uid: Option<String>,
    pub resource_version: Option<String>,
    pub field_path: Option<String>,
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A port of endpoints.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SlicePort {
    /// The name of the service's port it belongs to.
    pub name: Option<String>,
    /// The protocol; absent means TCP.
    pub protocol: Option<TransportProtocol>,
    /// The protocol above it.
    pub app_protocol: Option<String>,
    /// The port; absent means every one.
    pub port: Option<u16>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}
