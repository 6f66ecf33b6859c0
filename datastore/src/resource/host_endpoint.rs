//! Interfaces of hosts.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{PortProtocol, Spec};
use crate::{Kind, value::absent_if_empty};

/// An interface of a host, or all of them that no workload has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HostEndpointSpec {
    /// The host.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub node: String,
    /// The interface's name; `*` means all that no workload has.
    #[serde(deserialize_with = "absent_if_empty")]
    pub interface_name: Option<String>,
    /// Addresses the interface has, by which it is found if it is not named.
    #[serde(rename = "expectedIPs")]
    pub expected_ips: Vec<IpAddr>,
    /// The profiles it takes labels and rules from, in order.
    pub profiles: Vec<String>,
    /// Ports with names.
    pub ports: Vec<HostEndpointPort>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Spec for HostEndpointSpec {
    const KIND: Kind = Kind::HostEndpoint;
}

/// A port of a host that rules can name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostEndpointPort {
    /// The name.
    pub name: String,
    /// The protocol.
    pub protocol: PortProtocol,
    /// The port.
    pub port: u16,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}
