//! Filters of routes between BGP peers.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Spec;
use crate::{
    Kind,
    value::{AsNumber, Cidr, Community, absent_if_empty},
};

/// Filters of routes, in and out: for each, the first rule that matches decides, and without one the
/// route passes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BgpFilterSpec {
    /// For IPv4 routes told to the peer.
    pub export_v4: Vec<BgpFilterRule>,
    /// For IPv6 routes told to the peer.
    pub export_v6: Vec<BgpFilterRule>,
    /// For IPv4 routes told by the peer.
    pub import_v4: Vec<BgpFilterRule>,
    /// For IPv6 routes told by the peer.
    pub import_v6: Vec<BgpFilterRule>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Spec for BgpFilterSpec {
    const KIND: Kind = Kind::BgpFilter;
}

/// One rule of a filter: it matches when each of its fields does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BgpFilterRule {
    /// What becomes of a route that matches.
    pub action: FilterAction,
    /// ASes that the route's path begins with.
    #[serde(default)]
    pub as_path_prefix: Vec<AsNumber>,
    /// The prefix that `matchOperator` compares the route's with.
    #[serde(default, deserialize_with = "absent_if_empty")]
    pub cidr: Option<Cidr>,
    /// Communities that the route carries.
    pub communities: Option<CommunityMatch>,
    /// The interface that the route leads to, with `*` for any ending.
    #[serde(default, deserialize_with = "absent_if_empty")]
    pub interface: Option<String>,
    /// How the route's prefix is compared with `cidr`.
    #[serde(default, deserialize_with = "absent_if_empty")]
    pub match_operator: Option<MatchOperator>,
    /// What is done to an accepted route, in order.
    #[serde(default)]
    pub operations: Vec<RouteOperation>,
    /// The sort of the peer.
    #[serde(default, deserialize_with = "absent_if_empty")]
    pub peer_type: Option<PeerType>,
    /// The length of the route's prefix.
    pub prefix_length: Option<PrefixLengthRange>,
    /// The route's metric in the kernel.
    pub priority: Option<u32>,
    /// Where the route comes from.
    #[serde(default, deserialize_with = "absent_if_empty")]
    pub source: Option<RouteSource>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// What becomes of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub enum FilterAction {
    Accept,
    Reject,
}

/// Communities that a route carries.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CommunityMatch {
    /// All of these.
    pub values: Vec<Community>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

super::words! {
    /// How the prefix of a route is compared with a rule's.
    pub enum MatchOperator {
        /// It is the same.
        Equal,
        /// It is another.
        NotEqual,
        /// It lies inside.
        In,
        /// It does not lie inside.
        NotIn,
    }

    /// The sort of a peer.
    pub enum PeerType {
        /// Of another AS.
        External = "eBGP",
        /// Of the same AS.
        Internal = "iBGP",
    }

    /// Where a route comes from.
    pub enum RouteSource {
        /// From BGP peers.
        RemotePeers,
    }
}

/// A change of a route; one of its fields is there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RouteOperation {
    /// Adds a community.
    pub add_community: Option<AddCommunity>,
    /// Puts ASes before the path.
    #[serde(rename = "prependASPath")]
    pub prepend_as_path: Option<PrependAsPath>,
    /// Sets the metric in the kernel.
    pub set_priority: Option<SetPriority>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Adds a community.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddCommunity {
    /// The community.
    pub value: Community,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Puts ASes before the path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrependAsPath {
    /// The ASes, in the order they will stand.
    pub prefix: Vec<AsNumber>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Sets the metric in the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetPriority {
    /// The metric.
    pub value: u32,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Lengths of prefixes, both ends included.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PrefixLengthRange {
    /// The shortest; absent means that of the rule's prefix.
    pub min: Option<u8>,
    /// The longest; absent means the longest there is.
    pub max: Option<u8>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}
