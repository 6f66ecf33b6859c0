//! The objects of the store, typed.
//!
//! Bytes become a [`Resource`] in one step, [`decode`]: JSON of bounded size and depth, then the types
//! of the fields, then the rules between fields. What it returns holds every promise that its types
//! and docs make; what it refuses, it refuses as a [`Problem`](crate::Problem) with the path of the field.
//! [`Resource::encode`] writes the JSON back with every field it did not know.
//!
//! Left out: what a schema says of lists that no reader depends on, and the fields of other kinds.

mod bgp;
mod check;
mod codec;
mod metadata;
mod network;
mod node;
mod policy;
pub(crate) mod policy_name;
mod workload;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::{Key, Kind};

pub use bgp::{
    AdvertisedBlock, Aggregation, BgpConfigurationSpec, BgpPassword, BgpPeerSpec, BindMode,
    CommunityName, NextHopMode, PrefixAdvertisement, ProgramClusterRoutes, ReversePeering,
    SecretKeyRef, SourceAddress,
};
pub(crate) use codec::manifest_key;
pub use codec::{API_VERSION, MAX_VALUE_LEN, decode, decode_value, from_manifest};
pub use metadata::Metadata;
pub use network::{
    AllowedUse, AssignmentMode, EncapMode, IpPoolSpec, NetworkSetSpec, ProfileSpec, TierAction,
    TierSpec,
};
pub use node::{
    AddressType, BgpNode, NodeAddress, NodeInterface, NodeSpec, NodeStatus, OrchRef, WireGuard,
};
pub use policy::{
    EntityRule, GlobalNetworkPolicySpec, HttpMatch, HttpPath, Icmp, NetworkPolicySpec, PolicyType,
    Rule, RuleMetadata, ServiceAccounts, ServiceMatch,
};
pub use workload::{EndpointPort, IpNat, PortProtocol, QosControls, WorkloadEndpointSpec};

/// A v3 resource: its metadata and its specification.
#[derive(Clone, Debug, PartialEq, Serialize, serde::Deserialize)]
pub struct Object<S> {
    /// Name, labels and what else all kinds share.
    pub metadata: Metadata,
    /// What the object is to be.
    pub spec: S,
    /// Fields that are not read here, kept for the next writer; `status` is among them.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The specification of one kind.
pub trait Spec: Clone + PartialEq + Serialize + DeserializeOwned {
    /// The kind.
    const KIND: Kind;
}

/// Settings of the speaker, for all nodes (`default`) or one (`node.NAME`).
pub type BgpConfiguration = Object<BgpConfigurationSpec>;
/// Sessions of some nodes with some peers.
pub type BgpPeer = Object<BgpPeerSpec>;
/// A policy for endpoints in any namespace, and for hosts.
pub type GlobalNetworkPolicy = Object<GlobalNetworkPolicySpec>;
/// A set of nets with labels, in no namespace.
pub type GlobalNetworkSet = Object<GlobalNetworkSetSpec>;
/// A range of addresses for workloads and tunnels.
pub type IpPool = Object<IpPoolSpec>;
/// A policy for the endpoints of a namespace.
pub type NetworkPolicy = Object<NetworkPolicySpec>;
/// A set of nets with labels, in a namespace.
pub type NetworkSet = Object<NetworkSetSpec>;
/// A host.
pub type Node = Object<NodeSpec>;
/// Rules and labels that endpoints take over from what they belong to.
pub type Profile = Object<ProfileSpec>;
/// A layer of policies.
pub type Tier = Object<TierSpec>;
/// An interface of a workload.
pub type WorkloadEndpoint = Object<WorkloadEndpointSpec>;

pub use network::GlobalNetworkSetSpec;

/// A host's claim on a block of addresses.
#[derive(Clone, Debug, PartialEq, Serialize, serde::Deserialize)]
pub struct BlockAffinity {
    /// How far the claim has come; a missing state, from before there were any, is a confirmed one.
    #[serde(default)]
    pub state: AffinityState,
    /// The claim is about to go and must be taken for gone.
    #[serde(default)]
    pub deleted: bool,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// How far a claim on a block has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
pub enum AffinityState {
    /// The block is the host's.
    #[default]
    #[serde(rename = "confirmed", alias = "")]
    Confirmed,
    /// The block is being claimed.
    #[serde(rename = "pending")]
    Pending,
    /// The claim is being given up.
    #[serde(rename = "pendingDeletion")]
    PendingDeletion,
}

/// Any object of the store.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "a variant is the object of that name")]
#[expect(
    clippy::large_enum_variant,
    reason = "objects lie behind pointers, one by one"
)]
pub enum Resource {
    BgpConfiguration(BgpConfiguration),
    BgpPeer(BgpPeer),
    BlockAffinity(BlockAffinity),
    GlobalNetworkPolicy(GlobalNetworkPolicy),
    GlobalNetworkSet(GlobalNetworkSet),
    IpPool(IpPool),
    NetworkPolicy(NetworkPolicy),
    NetworkSet(NetworkSet),
    Node(Node),
    Profile(Profile),
    Tier(Tier),
    WorkloadEndpoint(WorkloadEndpoint),
}

/// Does the same with the object of whichever v3 kind, and something else with an affinity.
macro_rules! for_each_kind {
    ($resource:expr, $object:ident => $body:expr, $affinity:pat => $other:expr) => {
        match $resource {
            $crate::resource::Resource::BgpConfiguration($object) => $body,
            $crate::resource::Resource::BgpPeer($object) => $body,
            $crate::resource::Resource::GlobalNetworkPolicy($object) => $body,
            $crate::resource::Resource::GlobalNetworkSet($object) => $body,
            $crate::resource::Resource::IpPool($object) => $body,
            $crate::resource::Resource::NetworkPolicy($object) => $body,
            $crate::resource::Resource::NetworkSet($object) => $body,
            $crate::resource::Resource::Node($object) => $body,
            $crate::resource::Resource::Profile($object) => $body,
            $crate::resource::Resource::Tier($object) => $body,
            $crate::resource::Resource::WorkloadEndpoint($object) => $body,
            $crate::resource::Resource::BlockAffinity($affinity) => $other,
        }
    };
}
use for_each_kind;

impl Resource {
    /// The kind of a v3 resource.
    pub fn kind(&self) -> Option<Kind> {
        fn of<S: Spec>(_: &Object<S>) -> Kind {
            S::KIND
        }
        for_each_kind!(self, object => Some(of(object)), _ => None)
    }

    /// The metadata of a v3 resource.
    pub fn metadata(&self) -> Option<&Metadata> {
        for_each_kind!(self, object => Some(&object.metadata), _ => None)
    }

    /// The metadata of a v3 resource, to change.
    pub fn metadata_mut(&mut self) -> Option<&mut Metadata> {
        for_each_kind!(self, object => Some(&mut object.metadata), _ => None)
    }

    /// The fields of a v3 resource that are not read here.
    pub fn extra(&self) -> Option<&Map<String, Value>> {
        for_each_kind!(self, object => Some(&object.extra), _ => None)
    }

    /// The fields of a v3 resource that are not read here, to change.
    pub fn extra_mut(&mut self) -> Option<&mut Map<String, Value>> {
        for_each_kind!(self, object => Some(&mut object.extra), _ => None)
    }

    /// The name by which the user knows a v3 resource; a policy may be stored under another.
    pub fn user_name(&self) -> Option<&str> {
        let metadata = self.metadata()?;
        Some(match self {
            Resource::GlobalNetworkPolicy(policy) => {
                policy_name::read(metadata, policy.spec.tier.as_deref())
            }
            Resource::NetworkPolicy(policy) => {
                policy_name::read(metadata, policy.spec.tier.as_deref())
            }
            Resource::BgpConfiguration(_)
            | Resource::BgpPeer(_)
            | Resource::BlockAffinity(_)
            | Resource::GlobalNetworkSet(_)
            | Resource::IpPool(_)
            | Resource::NetworkSet(_)
            | Resource::Node(_)
            | Resource::Profile(_)
            | Resource::Tier(_)
            | Resource::WorkloadEndpoint(_) => &metadata.name,
        })
    }

    /// The key a v3 resource belongs under, by its kind and metadata.
    pub fn key(&self) -> Option<Key> {
        let metadata = self.metadata()?;
        Some(Key::Resource {
            kind: self.kind()?,
            namespace: metadata.namespace.clone(),
            name: metadata.name.clone(),
        })
    }
}

#[cfg(test)]
mod tests;
