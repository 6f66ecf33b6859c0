//! Pools, sets of nets, profiles and tiers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Rule, Spec};
use crate::{
    Kind,
    selector::Selector,
    value::{Cidr, absent_if_empty, write_order},
};

/// A range of addresses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IpPoolSpec {
    /// The range.
    pub cidr: Cidr,
    /// The prefix length of the blocks that nodes claim; absent means 26 or 122.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_size: Option<u8>,
    /// Which traffic between nodes goes through IP in IP.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "mode_if_there"
    )]
    pub ipip_mode: Option<EncapMode>,
    /// Which traffic between nodes goes through VXLAN.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "mode_if_there"
    )]
    pub vxlan_mode: Option<EncapMode>,
    /// Whether traffic that leaves the pools takes the node's address.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub nat_outgoing: bool,
    /// Whether no address is taken from it any more.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub disabled: bool,
    /// Whether its routes are kept from BGP peers.
    #[serde(
        default,
        rename = "disableBGPExport",
        skip_serializing_if = "super::is_false"
    )]
    pub disable_bgp_export: bool,
    /// The nodes that use it; absent means all.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "absent_if_empty"
    )]
    pub node_selector: Option<Selector>,
    /// The namespaces that use it; absent means all.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "absent_if_empty"
    )]
    pub namespace_selector: Option<Selector>,
    /// What its addresses are for; absent means workloads and tunnels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_uses: Vec<AllowedUse>,
    /// Whether addresses are taken from it unasked; absent means so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignment_mode: Option<AssignmentMode>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Spec for IpPoolSpec {
    const KIND: Kind = Kind::IpPool;
}

impl IpPoolSpec {
    /// The prefix length of its blocks.
    pub fn block_len(&self) -> u8 {
        self.block_size
            .filter(|len| *len != 0)
            .unwrap_or(if self.cidr.is_v4() { 26 } else { 122 })
    }

    /// Whether addresses are taken from it unasked.
    pub fn assignment(&self) -> AssignmentMode {
        self.assignment_mode.unwrap_or(AssignmentMode::Automatic)
    }

    /// The nodes that use it.
    pub fn nodes(&self) -> Selector {
        self.node_selector.clone().unwrap_or_else(Selector::all)
    }
}

/// Which traffic between nodes is wrapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum EncapMode {
    /// None.
    #[default]
    Never,
    /// All.
    Always,
    /// Only what leaves the subnet.
    CrossSubnet,
}

impl EncapMode {
    /// Whether any traffic is wrapped.
    pub fn is_on(self) -> bool {
        self != EncapMode::Never
    }
}

/// Older writers leave an empty text for "never".
fn mode_if_there<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<EncapMode>, D::Error> {
    #[derive(Deserialize)]
    enum Written {
        #[serde(rename = "")]
        Empty,
        Never,
        Always,
        CrossSubnet,
    }
    Ok(match Written::deserialize(deserializer)? {
        Written::Empty => None,
        Written::Never => Some(EncapMode::Never),
        Written::Always => Some(EncapMode::Always),
        Written::CrossSubnet => Some(EncapMode::CrossSubnet),
    })
}

/// What addresses of a pool are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub enum AllowedUse {
    Workload,
    Tunnel,
    LoadBalancer,
}

/// Whether addresses are taken from a pool unasked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub enum AssignmentMode {
    Automatic,
    Manual,
}

/// Nets that the object's labels stand for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NetworkSetSpec {
    /// The nets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nets: Vec<Cidr>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Spec for NetworkSetSpec {
    const KIND: Kind = Kind::NetworkSet;
}

/// Nets that the object's labels stand for, in no namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GlobalNetworkSetSpec {
    /// The nets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nets: Vec<Cidr>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Spec for GlobalNetworkSetSpec {
    const KIND: Kind = Kind::GlobalNetworkSet;
}

/// What endpoints take over from what they belong to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProfileSpec {
    /// Rules for traffic to the endpoints, after all tiers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<Rule>,
    /// Rules for traffic from the endpoints, after all tiers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<Rule>,
    /// Labels of endpoints that have none of the name themselves.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels_to_apply: BTreeMap<String, String>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Spec for ProfileSpec {
    const KIND: Kind = Kind::Profile;
}

/// A layer of policies.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TierSpec {
    /// The place among the tiers, low first; absent is last.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "write_order"
    )]
    pub order: Option<f64>,
    /// What becomes of a packet that policies of the tier apply to and none of them decides; absent
    /// means deny.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_action: Option<TierAction>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Spec for TierSpec {
    const KIND: Kind = Kind::Tier;
}

/// What becomes of a packet at the end of a tier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TierAction {
    /// It is dropped.
    #[default]
    Deny,
    /// It goes on to the next tier.
    Pass,
}
