//! The objects of the store, typed.
//!
//! Bytes become a [`Resource`] in one step, [`decode`]: JSON of bounded size and depth, then the types
//! of the fields, then the rules between fields. What it returns holds every promise that its types
//! and docs make; what it refuses, it refuses as a [`Problem`](crate::Problem) with the path of the field.
//! [`Resource::encode`] writes the JSON back with every field it did not know.
//!
//! Left out: what a schema says of lists that no reader depends on, and the fields of other kinds.

mod addresses;
mod bgp;
mod bgp_filter;
mod blanks;
mod change;
mod check;
mod cluster;
mod codec;
mod condition;
pub mod felix;
mod host_endpoint;
pub mod kube_controllers;
mod live_migration;
mod metadata;
mod network;
mod node;
mod node_status;
mod policy;
pub(crate) mod policy_name;
mod schema;
mod service;
mod staged;
mod subnet;
mod words;
mod workload;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::{Key, Kind};
pub use crate::{
    ipam::model::{AllocationBlock, Handle, IpamConfig},
    kind::API_VERSION,
};

pub use addresses::{IpReservationSpec, IpamConfigurationSpec};
pub use bgp::{
    AdvertisedBlock, Aggregation, BgpConfigurationSpec, BgpPassword, BgpPeerSpec, BindMode,
    CommunityName, NextHopMode, PrefixAdvertisement, ProgramClusterRoutes, ReversePeering,
    SecretKeyRef, SourceAddress,
};
pub use bgp_filter::{
    AddCommunity, BgpFilterRule, BgpFilterSpec, CommunityMatch, FilterAction, MatchOperator,
    PeerType, PrefixLengthRange, PrependAsPath, RouteOperation, RouteSource, SetPriority,
};
pub use blanks::Blanks;
pub use change::{change, overlaps};
pub use cluster::ClusterInformationSpec;
pub(crate) use codec::first;
pub use codec::manifest_key;
pub use codec::{MAX_VALUE_LEN, decode, decode_value, from_manifest, unknown_fields, validate};
pub use condition::{Condition, ConditionStatus, ConditionsStatus};
pub use felix::FelixConfigurationSpec;
pub use host_endpoint::{HostEndpointPort, HostEndpointSpec};
pub use kube_controllers::KubeControllersConfigurationSpec;
pub use live_migration::{
    LiveMigrationSpec, MigrationSource, MigrationTarget, WorkloadEndpointIdentifier,
    WorkloadIdentifier,
};
pub use metadata::Metadata;
pub use network::{
    AllowedUse, AssignmentMode, EncapMode, GlobalNetworkSetSpec, IpPoolSpec, NetworkSetSpec,
    ProfileSpec, TierAction, TierSpec,
};
pub use node::{
    AddressType, BgpNode, NodeAddress, NodeInterface, NodeSpec, NodeStatus, OrchRef, WireGuard,
};
pub use node_status::{
    AgentStatus, BgpStatus, CalicoNodeStatusSpec, CalicoNodeStatusStatus, LearnedFrom, PeerOrigin,
    PeerStatus, RouteOrigin, RouteStatus, RouteTable, RoutesStatus, SessionState, SpeakerState,
    SpeakerStatus, StatusClass,
};
pub use policy::{
    EntityRule, GlobalNetworkPolicySpec, HttpMatch, HttpPath, Icmp, NetworkPolicySpec, PolicyType,
    Rule, RuleMetadata, ServiceAccounts, ServiceMatch,
};
pub use service::{
    ClientIpConfig, ClusterIp, Endpoint, EndpointConditions, EndpointHints, EndpointSliceSpec,
    IpFamily, IpFamilyPolicy, IpMode, LoadBalancerIngress, LoadBalancerStatus, NameHint,
    ObjectReference, SERVICE_NAME_LABEL, ServicePort, ServiceSpec, ServiceStatus, ServiceType,
    SessionAffinity, SessionAffinityConfig, SliceAddressType, SlicePort, TargetPort, TrafficPolicy,
    TransportProtocol,
};
pub use staged::{
    IpBlock, KubernetesEgressRule, KubernetesIngressRule, KubernetesPeer, KubernetesPort,
    LabelOperator, LabelRequirement, LabelSelector, StagedAction, StagedGlobalNetworkPolicySpec,
    StagedKubernetesNetworkPolicySpec, StagedNetworkPolicySpec,
};
pub use subnet::{HostRoute, Subnet};
pub use words::Enabled;
pub(crate) use words::words;
pub use workload::{EndpointPort, IpNat, PortProtocol, QosControls, WorkloadEndpointSpec};

/// A v3 resource: its metadata and its specification.
#[derive(Clone, Debug, PartialEq, Serialize, serde::Deserialize)]
pub struct Object<S> {
    /// Name, labels and what else all kinds share.
    pub metadata: Metadata,
    /// What the object is to be.
    pub spec: S,
    /// Fields that are not read here, kept for the next writer; `status` is among them, which kinds that
    /// have one read with a method of that name.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl<S> Object<S> {
    /// Takes out `kind` and `apiVersion`, which are no fields of the object.
    fn take_type(&mut self) -> [Option<Value>; 2] {
        let named = ["kind", "apiVersion"].map(|field| self.extra.remove(field));
        if self.extra.is_empty() {
            // An emptied map would keep its room.
            self.extra = Map::new();
        }
        named
    }
}

/// The specification of one kind.
pub trait Spec: Clone + PartialEq + Serialize + DeserializeOwned {
    /// The kind.
    const KIND: Kind;
    /// Whether an empty list says something that an absent one does not.
    const EMPTY_SAYS: bool = false;
}

/// Settings of the speaker, for all nodes (`default`) or one (`node.NAME`).
pub type BgpConfiguration = Object<BgpConfigurationSpec>;
/// Sessions of some nodes with some peers.
pub type BgpPeer = Object<BgpPeerSpec>;
/// Filters of routes between BGP peers.
pub type BgpFilter = Object<BgpFilterSpec>;
/// What a node is asked to tell of itself, and what it tells.
pub type CalicoNodeStatus = Object<CalicoNodeStatusSpec>;
/// The cluster as a whole.
pub type ClusterInformation = Object<ClusterInformationSpec>;
/// Endpoints of a service.
pub type EndpointSlice = Object<EndpointSliceSpec>;
/// Settings of what enforces policy, for all nodes (`default`), some, or one (`node.NAME`).
pub type FelixConfiguration = Object<Box<FelixConfigurationSpec>>;
/// An interface of a host, or all of them.
pub type HostEndpoint = Object<HostEndpointSpec>;
/// Addresses that are not assigned.
pub type IpReservation = Object<IpReservationSpec>;
/// Settings of IPAM, as users write them.
pub type IpamConfiguration = Object<IpamConfigurationSpec>;
/// Settings of Calico's controllers.
pub type KubeControllersConfiguration = Object<Box<KubeControllersConfigurationSpec>>;
/// A workload on its way to another host.
pub type LiveMigration = Object<LiveMigrationSpec>;
/// A service.
pub type Service = Object<ServiceSpec>;
/// A policy for any namespace, not yet enforced.
pub type StagedGlobalNetworkPolicy = Object<StagedGlobalNetworkPolicySpec>;
/// A policy of Kubernetes' form, not yet enforced.
pub type StagedKubernetesNetworkPolicy = Object<StagedKubernetesNetworkPolicySpec>;
/// A policy for a namespace, not yet enforced.
pub type StagedNetworkPolicy = Object<StagedNetworkPolicySpec>;
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

/// A note of a client that a host has had claims; there is nothing in it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, serde::Deserialize)]
pub struct IpamHost {
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Makes what follows from the list of the kinds: the sum of all objects, and what is done alike for each.
macro_rules! kinds {
    ($d:tt $($kind:ident),*) => {
        /// Any object of the store.
        #[derive(Clone, Debug, PartialEq)]
        #[expect(missing_docs, reason = "a variant is the object of that name")]
        pub enum Resource {
            $($kind($kind),)*
            BlockAffinity(BlockAffinity),
            IpamBlock(AllocationBlock),
            IpamConfig(IpamConfig),
            IpamHandle(Handle),
            IpamHost(IpamHost),
            Subnet(Subnet),
        }

        /// Does the same with the resource of whichever kind, and another thing with what is none.
        macro_rules! for_each_kind {
            ($d resource:expr, $d object:ident => $d body:expr, $d other:ident => $d rest:expr) => {
                match $d resource {
                    $($crate::resource::Resource::$kind($d object) => $d body,)*
                    $crate::resource::Resource::BlockAffinity($d other) => $d rest,
                    $crate::resource::Resource::IpamBlock($d other) => $d rest,
                    $crate::resource::Resource::IpamConfig($d other) => $d rest,
                    $crate::resource::Resource::IpamHandle($d other) => $d rest,
                    $crate::resource::Resource::IpamHost($d other) => $d rest,
                    $crate::resource::Resource::Subnet($d other) => $d rest,
                }
            };
        }

        /// The resource of a kind that a value stands for.
        fn typed_resource(kind: Kind, value: Value) -> Result<Resource, check::Fault> {
            match kind {
                $(Kind::$kind => codec::typed("", value).map(Resource::$kind),)*
            }
        }

        /// The resource of a kind that bytes stand for, and the kind and the version that they name.
        fn plain_resource(kind: Kind, text: &str) -> serde_json::Result<(Resource, [Option<Value>; 2])> {
            match kind {
                $(Kind::$kind => {
                    let mut object: $kind = serde_json::from_str(text)?;
                    let named = object.take_type();
                    Ok((Resource::$kind(object), named))
                })*
            }
        }
    };
}
kinds! {
    $
    BgpConfiguration,
    BgpFilter,
    BgpPeer,
    CalicoNodeStatus,
    ClusterInformation,
    EndpointSlice,
    FelixConfiguration,
    GlobalNetworkPolicy,
    GlobalNetworkSet,
    HostEndpoint,
    IpPool,
    IpReservation,
    IpamConfiguration,
    KubeControllersConfiguration,
    LiveMigration,
    NetworkPolicy,
    NetworkSet,
    Node,
    Profile,
    Service,
    StagedGlobalNetworkPolicy,
    StagedKubernetesNetworkPolicy,
    StagedNetworkPolicy,
    Tier,
    WorkloadEndpoint
}
use for_each_kind;

/// The status that an object carries beside its specification.
fn status_of<T: DeserializeOwned>(extra: &Map<String, Value>) -> Option<T> {
    // Decoding has refused a status of another shape; an object made by hand may have one.
    serde_json::from_value(extra.get("status")?.clone()).ok()
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands the field over so"
)]
fn is_false(flag: &bool) -> bool {
    !flag
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands the field over so"
)]
fn is_zero(port: &u16) -> bool {
    *port == 0
}

impl Resource {
    /// The kind of a resource.
    pub fn kind(&self) -> Option<Kind> {
        fn of<S: Spec>(_: &Object<S>) -> Kind {
            S::KIND
        }
        for_each_kind!(self, object => Some(of(object)), _other => None)
    }

    /// The metadata of a resource.
    pub fn metadata(&self) -> Option<&Metadata> {
        for_each_kind!(self, object => Some(&object.metadata), _other => None)
    }

    /// The metadata of a resource, to change.
    pub fn metadata_mut(&mut self) -> Option<&mut Metadata> {
        for_each_kind!(self, object => Some(&mut object.metadata), _other => None)
    }

    /// The fields of a resource that are not read here.
    pub fn extra(&self) -> Option<&Map<String, Value>> {
        for_each_kind!(self, object => Some(&object.extra), _other => None)
    }

    /// The fields of a resource that are not read here, to change.
    pub fn extra_mut(&mut self) -> Option<&mut Map<String, Value>> {
        for_each_kind!(self, object => Some(&mut object.extra), _other => None)
    }

    /// The name by which the user knows a resource; a policy may be stored under another.
    pub fn user_name(&self) -> Option<&str> {
        let metadata = self.metadata()?;
        Some(match self.tier() {
            Some(tier) => policy_name::read(metadata, Some(tier)),
            None => &metadata.name,
        })
    }

    /// The tier of a policy.
    pub fn tier(&self) -> Option<&str> {
        let tier = if let Resource::GlobalNetworkPolicy(policy) = self {
            &policy.spec.tier
        } else if let Resource::NetworkPolicy(policy) = self {
            &policy.spec.tier
        } else if let Resource::StagedGlobalNetworkPolicy(policy) = self {
            &policy.spec.policy.tier
        } else if let Resource::StagedNetworkPolicy(policy) = self {
            &policy.spec.policy.tier
        } else {
            return None;
        };
        Some(tier.as_deref().unwrap_or(policy_name::DEFAULT_TIER))
    }

    /// The key a resource belongs under, by its kind and metadata.
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
