//! Subnets of OpenStack, as its driver writes them for its DHCP agents.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A subnet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Subnet {
    /// The network it belongs to.
    pub network_id: String,
    /// Its addresses.
    pub cidr: IpNet,
    /// Routes that its hosts are told.
    #[serde(default)]
    pub host_routes: Vec<HostRoute>,
    /// Its gateway.
    pub gateway_ip: Option<IpAddr>,
    /// Resolvers that its hosts are told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns_servers: Vec<IpAddr>,
    /// How routers advertise it; IPv6 only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_ra_mode: Option<String>,
    /// How its hosts get their addresses; IPv6 only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_address_mode: Option<String>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A route that hosts of a subnet are told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostRoute {
    /// Where it leads.
    pub destination: IpNet,
    /// By which address.
    pub nexthop: IpAddr,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}
