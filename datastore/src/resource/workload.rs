//! Interfaces of workloads.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Spec;
use crate::{
    Kind,
    value::{Cidr, Dscp, MacAddr, Protocol, absent_if_empty},
};

/// An interface of a workload.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadEndpointSpec {
    /// Who made the workload: `k8s`, `cni`, `openstack`, and so on.
    #[serde(default)]
    pub orchestrator: String,
    /// The workload, for orchestrators that have one name for it.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "absent_if_empty"
    )]
    pub workload: Option<String>,
    /// The node it runs on.
    #[serde(default)]
    pub node: String,
    /// The container, for `cni` and Kubernetes.
    #[serde(
        default,
        rename = "containerID",
        skip_serializing_if = "Option::is_none",
        deserialize_with = "absent_if_empty"
    )]
    pub container_id: Option<String>,
    /// The pod, for Kubernetes.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "absent_if_empty"
    )]
    pub pod: Option<String>,
    /// The interface's name among those of the workload.
    #[serde(default)]
    pub endpoint: String,
    /// The account it runs under.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "absent_if_empty"
    )]
    pub service_account_name: Option<String>,
    /// Its addresses, one each. Without any, the endpoint is not served.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ip_networks: Vec<Cidr>,
    /// Addresses that others know it by.
    #[serde(default, rename = "ipNATs", skip_serializing_if = "Vec::is_empty")]
    pub ip_nats: Vec<IpNat>,
    /// The gateway it uses for IPv4.
    #[serde(
        default,
        rename = "ipv4Gateway",
        skip_serializing_if = "Option::is_none",
        deserialize_with = "absent_if_empty"
    )]
    pub ipv4_gateway: Option<Ipv4Addr>,
    /// The gateway it uses for IPv6.
    #[serde(
        default,
        rename = "ipv6Gateway",
        skip_serializing_if = "Option::is_none",
        deserialize_with = "absent_if_empty"
    )]
    pub ipv6_gateway: Option<Ipv6Addr>,
    /// The profiles it takes labels and rules from, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<String>,
    /// The host's side of the interface; at most 15 characters.
    pub interface_name: String,
    /// The workload's side's MAC address.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "absent_if_empty"
    )]
    pub mac: Option<MacAddr>,
    /// Ports with names, and ports opened on the host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<EndpointPort>,
    /// Sources that it may use beside its own addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_spoofed_source_prefixes: Vec<Cidr>,
    /// Limits and marks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qos_controls: Option<Box<QosControls>>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Spec for WorkloadEndpointSpec {
    const KIND: Kind = Kind::WorkloadEndpoint;
}

/// An address that others know a workload by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpNat {
    /// One of the workload's addresses.
    #[serde(rename = "internalIP")]
    pub internal_ip: IpAddr,
    /// The address that stands for it, of the same family.
    #[serde(rename = "externalIP")]
    pub external_ip: IpAddr,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A port of a workload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointPort {
    /// The name that rules can use; empty if there is only a port of the host.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The protocol.
    pub protocol: PortProtocol,
    /// The port.
    pub port: u16,
    /// A port of the host that leads to it; 0 for none.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    pub host_port: u16,
    /// The host's address that has the port; absent means any.
    #[serde(
        default,
        rename = "hostIP",
        skip_serializing_if = "Option::is_none",
        deserialize_with = "absent_if_empty"
    )]
    pub host_ip: Option<IpAddr>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A protocol that has ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PortProtocol(pub Protocol);

/// Limits of a workload's traffic, in bits, packets and connections; and the mark on its packets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(
    missing_docs,
    reason = "the names say it; units are in the type's sentence"
)]
pub struct QosControls {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress_bandwidth: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress_bandwidth: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress_burst: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress_burst: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress_peakrate: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress_peakrate: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress_minburst: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress_minburst: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress_packet_rate: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress_packet_rate: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress_packet_burst: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress_packet_burst: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress_max_connections: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress_max_connections: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dscp: Option<Dscp>,
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}
