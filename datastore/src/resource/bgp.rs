//! Settings of the BGP speaker, and its peers.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Spec;
use crate::{
    Kind,
    selector::Selector,
    value::{AsNumber, Cidr, Community, GoDuration, PeerAddress, absent_if_empty},
};

/// Settings of the speaker. `default` holds for all nodes; `node.NAME` overrides some of it for one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BgpConfigurationSpec {
    /// The AS of nodes that have none of their own; absent means 64512.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_number: Option<AsNumber>,
    /// Which local addresses to listen on; absent means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bind_mode: Option<BindMode>,
    /// Names for community values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub communities: Vec<CommunityName>,
    /// Interfaces whose routes are not read, with `*` for any ending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignored_interfaces: Vec<String>,
    /// The metric of ordinary IPv4 routes to workloads.
    #[serde(
        default,
        rename = "ipv4NormalRoutePriority",
        skip_serializing_if = "Option::is_none"
    )]
    pub ipv4_normal_route_priority: Option<u32>,
    /// The metric of ordinary IPv6 routes to workloads.
    #[serde(
        default,
        rename = "ipv6NormalRoutePriority",
        skip_serializing_if = "Option::is_none"
    )]
    pub ipv6_normal_route_priority: Option<u32>,
    /// The port to listen on; absent means 179.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen_port: Option<u16>,
    /// The node's IPv4 address towards local workloads that peer with it.
    #[serde(
        default,
        rename = "localWorkloadPeeringIPV4",
        skip_serializing_if = "Option::is_none",
        deserialize_with = "absent_if_empty"
    )]
    pub local_workload_peering_ipv4: Option<std::net::Ipv4Addr>,
    /// The node's IPv6 address towards local workloads that peer with it.
    #[serde(
        default,
        rename = "localWorkloadPeeringIPV6",
        skip_serializing_if = "Option::is_none",
        deserialize_with = "absent_if_empty"
    )]
    pub local_workload_peering_ipv6: Option<std::net::Ipv6Addr>,
    /// How much to log, in any case of letters.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "absent_if_empty"
    )]
    pub log_severity_screen: Option<String>,
    /// How long the nodes of the mesh keep each other's routes over a restart.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "absent_if_empty"
    )]
    pub node_mesh_max_restart_time: Option<GoDuration>,
    /// The password of the sessions of the mesh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_mesh_password: Option<BgpPassword>,
    /// Whether every node peers with every other; absent means yes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_to_node_mesh_enabled: Option<bool>,
    /// What to add to the routes of some prefixes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefix_advertisements: Vec<PrefixAdvertisement>,
    /// Which routes between nodes the speaker programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program_cluster_routes: Option<ProgramClusterRoutes>,
    /// Blocks of cluster addresses of services to advertise.
    #[serde(
        default,
        rename = "serviceClusterIPs",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub service_cluster_ips: Vec<AdvertisedBlock>,
    /// Blocks of external addresses of services to advertise.
    #[serde(
        default,
        rename = "serviceExternalIPs",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub service_external_ips: Vec<AdvertisedBlock>,
    /// Whether load balancers' addresses are advertised as blocks; absent means yes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_load_balancer_aggregation: Option<Aggregation>,
    /// Blocks of load balancers' addresses to advertise.
    #[serde(
        default,
        rename = "serviceLoadBalancerIPs",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub service_load_balancer_ips: Vec<AdvertisedBlock>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Spec for BgpConfigurationSpec {
    const KIND: Kind = Kind::BgpConfiguration;
}

impl BgpConfigurationSpec {
    /// How much to log.
    pub fn log_severity(&self) -> &str {
        self.log_severity_screen.as_deref().unwrap_or("Info")
    }

    /// Whether load balancers' addresses are advertised as blocks.
    pub fn load_balancer_aggregation(&self) -> Aggregation {
        let said = self.service_load_balancer_aggregation;
        said.unwrap_or(Aggregation::Enabled)
    }
}

/// A block of addresses of services.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdvertisedBlock {
    /// The block.
    pub cidr: Cidr,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A name for a community.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommunityName {
    /// The name.
    pub name: String,
    /// The value it stands for.
    pub value: Community,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// What to add to the routes inside a prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrefixAdvertisement {
    /// The prefix.
    pub cidr: Cidr,
    /// Values, or names of the `communities` beside it.
    #[serde(default)]
    pub communities: Vec<String>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Where a password is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BgpPassword {
    /// The secret that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<SecretKeyRef>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A key in a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretKeyRef {
    /// The secret.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The key in it.
    pub key: String,
    /// Whether it may be missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Which addresses the speaker listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BindMode {
    /// All.
    None,
    /// The node's own.
    #[serde(rename = "NodeIP")]
    NodeIp,
}

/// Which routes between nodes the speaker programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub enum ProgramClusterRoutes {
    Enabled,
    Disabled,
    #[serde(rename = "EnabledIPIPOnly")]
    EnabledIpIpOnly,
    EnabledNoEncapOnly,
}

/// Whether addresses are advertised as blocks.
pub use super::Enabled as Aggregation;

/// Sessions of some nodes with some peers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BgpPeerSpec {
    /// The peer's AS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_number: Option<AsNumber>,
    /// Names of filters, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<String>,
    /// The older form of `nextHopMode: Keep`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_original_next_hop: Option<bool>,
    /// Time between keepalives; absent means a third of the hold time.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "absent_if_empty"
    )]
    pub keepalive_time: Option<GoDuration>,
    /// The AS to show this peer instead of the node's.
    #[serde(
        default,
        rename = "localASNumber",
        skip_serializing_if = "Option::is_none"
    )]
    pub local_as_number: Option<AsNumber>,
    /// Local workloads to peer with.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "absent_if_empty"
    )]
    pub local_workload_selector: Option<Selector>,
    /// How long to keep the peer's routes over its restart.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "absent_if_empty"
    )]
    pub max_restart_time: Option<GoDuration>,
    /// How next hops are set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_hop_mode: Option<NextHopMode>,
    /// The one node that has these sessions.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "absent_if_empty"
    )]
    pub node: Option<String>,
    /// The nodes that have these sessions; with neither this nor `node`, all.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "absent_if_empty"
    )]
    pub node_selector: Option<Selector>,
    /// How often the own AS may stand in a received path.
    #[serde(
        default,
        rename = "numAllowedLocalASNumbers",
        skip_serializing_if = "Option::is_none"
    )]
    pub num_allowed_local_as_numbers: Option<u32>,
    /// The sessions' password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<BgpPassword>,
    /// The peer.
    #[serde(
        default,
        rename = "peerIP",
        skip_serializing_if = "Option::is_none",
        deserialize_with = "absent_if_empty"
    )]
    pub peer_ip: Option<PeerAddress>,
    /// Nodes to peer with.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "absent_if_empty"
    )]
    pub peer_selector: Option<Selector>,
    /// The gateway by which the peer is reached.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "absent_if_empty"
    )]
    pub reachable_by: Option<std::net::IpAddr>,
    /// Whether nodes chosen by `peerSelector` peer back of themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reverse_peering: Option<ReversePeering>,
    /// The local address of the sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_address: Option<SourceAddress>,
    /// Hops to the peer, for RFC 5082.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_security: Option<u8>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Spec for BgpPeerSpec {
    const KIND: Kind = Kind::BgpPeer;
}

/// How the next hop of a route to a peer is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NextHopMode {
    /// As the sort of session asks.
    Auto,
    /// The node itself.
    #[serde(rename = "Self")]
    Own,
    /// As received.
    Keep,
}

/// Whether the other side of a session between nodes is made of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub enum ReversePeering {
    Auto,
    Manual,
}

/// The local address of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SourceAddress {
    /// The node's.
    #[serde(rename = "UseNodeIP")]
    UseNodeIp,
    /// The kernel's choice.
    None,
}
