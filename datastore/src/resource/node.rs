//! Hosts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Spec;
use crate::{
    Kind,
    value::{AsNumber, Cidr, ClusterId, MacAddr, absent_if_empty},
};

/// A host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeSpec {
    /// Its part in BGP; absent if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bgp: Option<BgpNode>,
    /// Its address in the IPv4 VXLAN.
    #[serde(
        default,
        rename = "ipv4VXLANTunnelAddr",
        skip_serializing_if = "Option::is_none",
        deserialize_with = "absent_if_empty"
    )]
    pub ipv4_vxlan_tunnel_addr: Option<Ipv4Addr>,
    /// Its address in the IPv6 VXLAN.
    #[serde(
        default,
        rename = "ipv6VXLANTunnelAddr",
        skip_serializing_if = "Option::is_none",
        deserialize_with = "absent_if_empty"
    )]
    pub ipv6_vxlan_tunnel_addr: Option<Ipv6Addr>,
    /// The MAC address of its IPv4 VXLAN interface.
    #[serde(
        default,
        rename = "vxlanTunnelMACAddr",
        skip_serializing_if = "Option::is_none",
        deserialize_with = "absent_if_empty"
    )]
    pub vxlan_tunnel_mac_addr: Option<MacAddr>,
    /// The MAC address of its IPv6 VXLAN interface.
    #[serde(
        default,
        rename = "vxlanTunnelMACAddrV6",
        skip_serializing_if = "Option::is_none",
        deserialize_with = "absent_if_empty"
    )]
    pub vxlan_tunnel_mac_addr_v6: Option<MacAddr>,
    /// Its names in orchestrators.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub orch_refs: Vec<OrchRef>,
    /// Its WireGuard addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wireguard: Option<WireGuard>,
    /// Its addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<NodeAddress>,
    /// Its interfaces and their addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<NodeInterface>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Spec for NodeSpec {
    const KIND: Kind = Kind::Node;
}

/// A host's part in BGP; it says something.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BgpNode {
    /// Its AS, if not the default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_number: Option<AsNumber>,
    /// Its IPv4 address, with the length of its subnet.
    #[serde(
        default,
        rename = "ipv4Address",
        skip_serializing_if = "Option::is_none",
        deserialize_with = "absent_if_empty"
    )]
    pub ipv4_address: Option<Cidr>,
    /// Its IPv6 address, with the length of its subnet.
    #[serde(
        default,
        rename = "ipv6Address",
        skip_serializing_if = "Option::is_none",
        deserialize_with = "absent_if_empty"
    )]
    pub ipv6_address: Option<Cidr>,
    /// Its address on the IP in IP interface.
    #[serde(
        default,
        rename = "ipv4IPIPTunnelAddr",
        skip_serializing_if = "Option::is_none",
        deserialize_with = "absent_if_empty"
    )]
    pub ipv4_ipip_tunnel_addr: Option<Ipv4Addr>,
    /// The cluster it reflects routes for, RFC 4456.
    #[serde(
        default,
        rename = "routeReflectorClusterID",
        skip_serializing_if = "Option::is_none",
        deserialize_with = "absent_if_empty"
    )]
    pub route_reflector_cluster_id: Option<ClusterId>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A host's name in an orchestrator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrchRef {
    /// The name there.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub node_name: String,
    /// The orchestrator.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub orchestrator: String,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Addresses on WireGuard interfaces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireGuard {
    /// Of the IPv4 interface.
    #[serde(
        default,
        rename = "interfaceIPv4Address",
        skip_serializing_if = "Option::is_none",
        deserialize_with = "absent_if_empty"
    )]
    pub interface_ipv4_address: Option<Ipv4Addr>,
    /// Of the IPv6 interface.
    #[serde(
        default,
        rename = "interfaceIPv6Address",
        skip_serializing_if = "Option::is_none",
        deserialize_with = "absent_if_empty"
    )]
    pub interface_ipv6_address: Option<Ipv6Addr>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// An address of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeAddress {
    /// The address, with or without the length of its subnet.
    pub address: Cidr,
    /// What it is for.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<AddressType>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// What an address of a host is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AddressType {
    /// Calico's own traffic.
    #[serde(rename = "CalicoNodeIP")]
    CalicoNodeIp,
    /// The inside of the cluster.
    #[serde(rename = "InternalIP")]
    InternalIp,
    /// The outside.
    #[serde(rename = "ExternalIP")]
    ExternalIp,
}

/// An interface of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInterface {
    /// Its name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Cidr>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// What a host says of itself, beside the specification.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// Its public key on the IPv4 WireGuard interface, base64.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "absent_if_empty"
    )]
    pub wireguard_public_key: Option<String>,
    /// Its public key on the IPv6 WireGuard interface, base64.
    #[serde(
        default,
        rename = "wireguardPublicKeyV6",
        skip_serializing_if = "Option::is_none",
        deserialize_with = "absent_if_empty"
    )]
    pub wireguard_public_key_v6: Option<String>,
    /// Ranges that an orchestrator gave it.
    #[serde(default, rename = "podCIDRs", skip_serializing_if = "Vec::is_empty")]
    pub pod_cidrs: Vec<Cidr>,
}

impl super::Node {
    /// What the host says of itself.
    pub fn status(&self) -> NodeStatus {
        // Decoding has refused a status of another shape; an object made by hand may have one.
        self.extra
            .get("status")
            .and_then(|status| serde_json::from_value(status.clone()).ok())
            .unwrap_or_default()
    }

    /// The host's own addresses, as far as it says.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let bgp = self.spec.bgp.iter();
        bgp.flat_map(|bgp| bgp.ipv4_address.iter().chain(&bgp.ipv6_address))
            .chain(self.spec.addresses.iter().map(|entry| &entry.address))
            .map(Cidr::addr)
    }
}
