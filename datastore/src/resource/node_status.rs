//! What a node is asked to tell of itself, and what it tells.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Spec;
use crate::Kind;

/// What a node is asked to tell of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CalicoNodeStatusSpec {
    /// What is to be told.
    pub classes: Vec<StatusClass>,
    /// The node.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub node: String,
    /// How often, in seconds; 0 means once, absent means every 10.
    pub update_period_seconds: Option<u32>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Spec for CalicoNodeStatusSpec {
    const KIND: Kind = Kind::CalicoNodeStatus;
}

/// What a node tells of itself. Lists that are empty are not written, and neither are empty texts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CalicoNodeStatusStatus {
    /// When it was told, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_updated: Option<String>,
    /// The speakers.
    pub agent: AgentStatus,
    /// The sessions.
    pub bgp: BgpStatus,
    /// The routes.
    pub routes: RoutesStatus,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The speakers of a node, one for each family.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the names say it")]
pub struct AgentStatus {
    pub bird_v4: SpeakerStatus,
    pub bird_v6: SpeakerStatus,
}

/// A speaker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SpeakerStatus {
    /// Whether it is ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<SpeakerState>,
    /// Its version.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Its router id.
    #[serde(rename = "routerID", skip_serializing_if = "String::is_empty")]
    pub router_id: String,
    /// When it was started.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub last_boot_time: String,
    /// When it was last given another configuration.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub last_reconfiguration_time: String,
}

/// The sessions of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct BgpStatus {
    #[serde(rename = "numberEstablishedV4")]
    pub number_established_v4: u32,
    #[serde(rename = "numberEstablishedV6")]
    pub number_established_v6: u32,
    #[serde(rename = "numberNotEstablishedV4")]
    pub number_not_established_v4: u32,
    #[serde(rename = "numberNotEstablishedV6")]
    pub number_not_established_v6: u32,
    #[serde(default, rename = "peersV4", skip_serializing_if = "Vec::is_empty")]
    pub peers_v4: Vec<PeerStatus>,
    #[serde(default, rename = "peersV6", skip_serializing_if = "Vec::is_empty")]
    pub peers_v6: Vec<PeerStatus>,
}

/// A session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PeerStatus {
    /// The peer's address.
    #[serde(rename = "peerIP", skip_serializing_if = "String::is_empty")]
    pub peer_ip: String,
    /// What made it a peer.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<PeerOrigin>,
    /// The state of the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<SessionState>,
    /// Since when.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub since: String,
}

/// The routes of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names say it")]
pub struct RoutesStatus {
    #[serde(rename = "routesV4", skip_serializing_if = "Vec::is_empty")]
    pub routes_v4: Vec<RouteStatus>,
    #[serde(rename = "routesV6", skip_serializing_if = "Vec::is_empty")]
    pub routes_v6: Vec<RouteStatus>,
}

/// A route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RouteStatus {
    /// Where it leads.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub destination: String,
    /// By which address.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub gateway: String,
    /// By which interface.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub interface: String,
    /// Whether it is in use.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<RouteTable>,
    /// Where it was learned.
    pub learned_from: LearnedFrom,
}

/// Where a route was learned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LearnedFrom {
    /// From what sort of source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_type: Option<RouteOrigin>,
    /// From which peer.
    #[serde(rename = "peerIP", skip_serializing_if = "String::is_empty")]
    pub peer_ip: String,
}

/// What a node tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub enum StatusClass {
    Agent,
    #[serde(rename = "BGP")]
    Bgp,
    Routes,
}

/// Whether a speaker is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub enum SpeakerState {
    Ready,
    NotReady,
}

/// What made an address a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerOrigin {
    /// The mesh of all nodes.
    NodeMesh,
    /// A `BGPPeer` of this node.
    NodePeer,
    /// A `BGPPeer` of all nodes.
    GlobalPeer,
}

/// The state of a session, RFC 4271 §8.2.2; `Close` is on its way to `Idle`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub enum SessionState {
    Idle,
    Connect,
    Active,
    OpenSent,
    OpenConfirm,
    Established,
    Close,
}

/// Whether a route is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RouteTable {
    /// It is in the kernel's table.
    #[serde(rename = "FIB")]
    Fib,
    /// It is known only.
    #[serde(rename = "RIB")]
    Rib,
}

/// What sort of source a route was learned from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub enum RouteOrigin {
    Kernel,
    Static,
    Direct,
    NodeMesh,
    #[serde(rename = "BGPPeer")]
    BgpPeer,
}

impl super::CalicoNodeStatus {
    /// What the node told.
    pub fn status(&self) -> Option<CalicoNodeStatusStatus> {
        super::status_of(&self.extra)
    }
}
