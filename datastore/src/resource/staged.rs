//! Policies that are not yet enforced: what they would do is told, and nothing is done.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    GlobalNetworkPolicySpec, NetworkPolicySpec, PolicyType, Spec, TransportProtocol, words,
};
use crate::{
    Kind,
    value::{Cidr, absent_if_empty},
};

words! {
    /// What enforcing a staged policy would do.
    pub enum StagedAction {
        /// It would create or replace the policy of its name.
        Set,
        /// It would delete the policy of its name.
        Delete,
        /// It was made of traffic that was seen, and is to be looked at.
        Learn,
        /// It was looked at, and is of no use.
        Ignore,
    }
}

/// A policy for any namespace, not yet enforced.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StagedGlobalNetworkPolicySpec {
    /// The policy that would be enforced. What enforcing it would do is among its `extra`.
    pub policy: GlobalNetworkPolicySpec,
}

impl Spec for StagedGlobalNetworkPolicySpec {
    const KIND: Kind = Kind::StagedGlobalNetworkPolicy;
}

/// A policy for a namespace, not yet enforced.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StagedNetworkPolicySpec {
    /// The policy that would be enforced. What enforcing it would do is among its `extra`.
    pub policy: NetworkPolicySpec,
}

impl Spec for StagedNetworkPolicySpec {
    const KIND: Kind = Kind::StagedNetworkPolicy;
}

/// A policy in the form of Kubernetes' API, not yet enforced.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StagedKubernetesNetworkPolicySpec {
    /// What enforcing it would do; absent means `Set`.
    #[serde(deserialize_with = "absent_if_empty")]
    pub staged_action: Option<StagedAction>,
    /// The pods it applies to; absent and empty mean all of the namespace.
    pub pod_selector: Option<LabelSelector>,
    /// Rules for traffic to the pods.
    pub ingress: Vec<KubernetesIngressRule>,
    /// Rules for traffic from the pods.
    pub egress: Vec<KubernetesEgressRule>,
    /// The directions it governs.
    pub policy_types: Vec<PolicyType>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Spec for StagedKubernetesNetworkPolicySpec {
    const KIND: Kind = Kind::StagedKubernetesNetworkPolicy;
}

/// Traffic to pods.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct KubernetesIngressRule {
    /// From any of these; none named means all.
    pub from: Vec<KubernetesPeer>,
    /// At any of these ports; none named means all.
    pub ports: Vec<KubernetesPort>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Traffic from pods.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct KubernetesEgressRule {
    /// To any of these; none named means all.
    pub to: Vec<KubernetesPeer>,
    /// At any of these ports; none named means all.
    pub ports: Vec<KubernetesPort>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The other side of a pod's traffic.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubernetesPeer {
    /// Addresses.
    pub ip_block: Option<IpBlock>,
    /// Pods in namespaces with these labels.
    pub namespace_selector: Option<LabelSelector>,
    /// Pods with these labels.
    pub pod_selector: Option<LabelSelector>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Addresses without some.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IpBlock {
    /// The addresses.
    pub cidr: Cidr,
    /// Those that are not meant.
    #[serde(default)]
    pub except: Vec<Cidr>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Ports of a rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubernetesPort {
    /// The first port, or the name of one.
    pub port: Option<super::TargetPort>,
    /// The last port, if there is more than one.
    pub end_port: Option<u16>,
    /// The protocol; absent means TCP.
    #[serde(deserialize_with = "absent_if_empty")]
    pub protocol: Option<TransportProtocol>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Labels to be chosen by; everything must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelSelector {
    /// Labels with these values.
    pub match_labels: BTreeMap<String, String>,
    /// Conditions on labels.
    pub match_expressions: Vec<LabelRequirement>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A condition on a label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelRequirement {
    /// The label.
    pub key: String,
    /// What must hold.
    pub operator: LabelOperator,
    /// The values it speaks of.
    #[serde(default)]
    pub values: Vec<String>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

words! {
    /// What must hold of a label.
    pub enum LabelOperator {
        /// It is there and has one of the values.
        In,
        /// It is not there, or has none of the values.
        NotIn,
        /// It is there.
        Exists,
        /// It is not there.
        DoesNotExist,
    }
}

impl StagedGlobalNetworkPolicySpec {
    /// What enforcing it would do.
    pub fn action(&self) -> StagedAction {
        staged_action(&self.policy.extra)
    }
}

impl StagedNetworkPolicySpec {
    /// What enforcing it would do.
    pub fn action(&self) -> StagedAction {
        staged_action(&self.policy.extra)
    }
}

impl StagedKubernetesNetworkPolicySpec {
    /// What enforcing it would do.
    pub fn action(&self) -> StagedAction {
        self.staged_action.unwrap_or(StagedAction::Set)
    }
}

/// The name of the field that is not the enforced policy's.
pub(super) const STAGED_ACTION: &str = "stagedAction";

fn staged_action(extra: &Map<String, Value>) -> StagedAction {
    // Decoding has refused other values; an object made by hand may have one.
    let word = extra.get(STAGED_ACTION).and_then(Value::as_str);
    word.and_then(|word| word.parse().ok())
        .unwrap_or(StagedAction::Set)
}
