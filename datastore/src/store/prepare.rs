//! What an object gets on its way into a store: identity, defaults, and the names of its policy.

use serde_json::Map;

use super::{Entry, StoreError};
use crate::{
    Key, Kind, Problem, Resource,
    resource::{
        AllowedUse, AssignmentMode, EncapMode, EntityRule, IpPoolSpec, Metadata, Object,
        PolicyType, Profile, ProfileSpec, Rule, StagedAction, TierAction, change, policy_name,
    },
    selector::Selector,
    time::Timestamp,
    value::Action,
};

/// The profile that lets everything through.
pub(super) const DEFAULT_ALLOW: &str = "projectcalico-default-allow";
/// The tiers that are always there.
const FIXED_TIERS: [&str; 3] = ["default", "kube-admin", "kube-baseline"];

/// The profile that lets everything through. It is in every store and is stored in none.
pub fn default_allow() -> Profile {
    let allow = Rule {
        action: Action::Allow,
        ip_version: None,
        protocol: None,
        not_protocol: None,
        icmp: None,
        not_icmp: None,
        source: EntityRule::default(),
        destination: EntityRule::default(),
        http: None,
        metadata: None,
        extra: Map::new(),
    };
    Object {
        metadata: Metadata {
            name: DEFAULT_ALLOW.to_owned(),
            ..Metadata::default()
        },
        spec: ProfileSpec {
            ingress: vec![allow.clone()],
            egress: vec![allow],
            ..ProfileSpec::default()
        },
        extra: Map::new(),
    }
}

pub(super) fn is_default_allow(key: &Key) -> bool {
    key.kind() == Some(Kind::Profile) && key.name() == DEFAULT_ALLOW
}

/// Whether nobody may delete the object.
pub fn is_fixed(key: &Key) -> bool {
    is_default_allow(key) || (key.kind() == Some(Kind::Tier) && FIXED_TIERS.contains(&key.name()))
}

/// The key of an object that someone wants to store.
pub(super) fn key(resource: &Resource) -> Result<Key, StoreError> {
    let Some(key) = resource.key() else {
        let reason = "is no resource: those who assign addresses and subnets write it";
        return Err(Problem::new("", "", reason).into());
    };
    if is_default_allow(&key) {
        return Err(StoreError::Fixed(key));
    }
    Ok(key)
}

/// An object that was not there before.
pub(super) fn new(resource: &Resource) -> Result<(Key, Resource), StoreError> {
    let key = key(resource)?;
    let mut resource = resource.clone();
    default_fields(&mut resource);
    if let Some(metadata) = resource.metadata_mut() {
        metadata.uid = Some(uuid::Uuid::new_v4().to_string());
        metadata.creation_timestamp = Some(Timestamp::now().to_string());
        metadata.resource_version = None;
    }
    name_policy(&mut resource, key.name());
    Ok((key, resource))
}

/// An object that comes back from elsewhere.
pub(super) fn restored(resource: &Resource) -> Resource {
    let mut resource = resource.clone();
    if let Some(metadata) = resource.metadata_mut() {
        metadata
            .uid
            .get_or_insert_with(|| uuid::Uuid::new_v4().to_string());
        metadata
            .creation_timestamp
            .get_or_insert_with(|| Timestamp::now().to_string());
    }
    resource
}

/// An object in place of the one that is there. With `keep_status`, a status that only the old one has
/// stays.
pub(super) fn replacement(
    resource: &Resource,
    current: &Entry,
    keep_status: bool,
) -> Result<(Key, Resource), StoreError> {
    let user_key = key(resource)?;
    let mut resource = resource.clone();
    default_fields(&mut resource);
    let old = current.resource.as_deref().ok();
    let old_metadata = old.and_then(Resource::metadata);
    if let Some(metadata) = resource.metadata_mut() {
        current.key.name().clone_into(&mut metadata.name);
        metadata.resource_version = None;
        let old_uid = old_metadata.and_then(|old| old.uid.clone());
        metadata.uid = old_uid
            .or(metadata.uid.take())
            .or_else(|| Some(uuid::Uuid::new_v4().to_string()));
        let old_time = old_metadata.and_then(|old| old.creation_timestamp.clone());
        metadata.creation_timestamp = old_time
            .or(metadata.creation_timestamp.take())
            .or_else(|| Some(Timestamp::now().to_string()));
    }
    if keep_status
        && let Some(status) = old.and_then(|old| old.extra()?.get("status"))
        && let Some(extra) = resource.extra_mut()
    {
        extra.entry("status").or_insert_with(|| status.clone());
    }
    name_policy(&mut resource, user_key.name());
    if let Some(old) = old
        && let Some(problem) = change(&current.key, old, &resource).into_iter().next()
    {
        return Err(problem.into());
    }
    Ok((current.key.clone(), resource))
}

/// Defaults that Calico's clients write out, so that every reader sees the same object.
fn default_fields(resource: &mut Resource) {
    match resource {
        Resource::GlobalNetworkPolicy(policy) => {
            let spec = &mut policy.spec;
            default_policy(&mut spec.tier, &mut spec.types, &spec.ingress, &spec.egress);
        }
        Resource::NetworkPolicy(policy) => {
            let spec = &mut policy.spec;
            default_policy(&mut spec.tier, &mut spec.types, &spec.ingress, &spec.egress);
        }
        // A policy that is to be deleted says nothing more.
        Resource::StagedGlobalNetworkPolicy(staged)
            if staged.spec.action() != StagedAction::Delete =>
        {
            let spec = &mut staged.spec.policy;
            default_policy(&mut spec.tier, &mut spec.types, &spec.ingress, &spec.egress);
        }
        Resource::StagedNetworkPolicy(staged) if staged.spec.action() != StagedAction::Delete => {
            let spec = &mut staged.spec.policy;
            default_policy(&mut spec.tier, &mut spec.types, &spec.ingress, &spec.egress);
        }
        Resource::IpPool(pool) => default_pool(&mut pool.spec),
        Resource::Tier(tier) => {
            tier.spec.default_action.get_or_insert(TierAction::Deny);
        }
        Resource::WorkloadEndpoint(endpoint) => {
            let labels = &mut endpoint.metadata.labels;
            let mut set = |name: &str, value: Option<&str>| {
                if let Some(value) = value {
                    labels.insert(format!("projectcalico.org/{name}"), value.to_owned());
                }
            };
            set("namespace", endpoint.metadata.namespace.as_deref());
            set("orchestrator", Some(&endpoint.spec.orchestrator));
            set(
                "serviceaccount",
                endpoint.spec.service_account_name.as_deref(),
            );
        }
        Resource::BgpConfiguration(_)
        | Resource::BgpFilter(_)
        | Resource::BgpPeer(_)
        | Resource::BlockAffinity(_)
        | Resource::CalicoNodeStatus(_)
        | Resource::ClusterInformation(_)
        | Resource::EndpointSlice(_)
        | Resource::FelixConfiguration(_)
        | Resource::GlobalNetworkSet(_)
        | Resource::HostEndpoint(_)
        | Resource::IpReservation(_)
        | Resource::IpamBlock(_)
        | Resource::IpamConfig(_)
        | Resource::IpamConfiguration(_)
        | Resource::IpamHandle(_)
        | Resource::IpamHost(_)
        | Resource::KubeControllersConfiguration(_)
        | Resource::LiveMigration(_)
        | Resource::NetworkSet(_)
        | Resource::Node(_)
        | Resource::Profile(_)
        | Resource::Service(_)
        | Resource::StagedGlobalNetworkPolicy(_)
        | Resource::StagedKubernetesNetworkPolicy(_)
        | Resource::StagedNetworkPolicy(_)
        | Resource::Subnet(_) => {}
    }
}

fn default_policy(
    tier: &mut Option<String>,
    types: &mut Vec<PolicyType>,
    ingress: &[Rule],
    egress: &[Rule],
) {
    tier.get_or_insert_with(|| "default".to_owned());
    if types.is_empty() {
        *types = match (ingress.is_empty(), egress.is_empty()) {
            (_, true) => vec![PolicyType::Ingress],
            (true, false) => vec![PolicyType::Egress],
            (false, false) => vec![PolicyType::Ingress, PolicyType::Egress],
        };
    }
}

fn default_pool(spec: &mut IpPoolSpec) {
    spec.block_size = Some(spec.block_len());
    spec.ipip_mode.get_or_insert(EncapMode::Never);
    spec.vxlan_mode.get_or_insert(EncapMode::Never);
    spec.node_selector.get_or_insert_with(Selector::all);
    spec.assignment_mode
        .get_or_insert(AssignmentMode::Automatic);
    if spec.allowed_uses.is_empty() {
        spec.allowed_uses = vec![AllowedUse::Workload, AllowedUse::Tunnel];
    }
}

/// Notes the name that the user knows a policy by, and its tier, where newer clients look for them.
fn name_policy(resource: &mut Resource, user_name: &str) {
    let Some(tier) = resource.tier().map(str::to_owned) else {
        return;
    };
    if let Some(metadata) = resource.metadata_mut() {
        policy_name::write(metadata, user_name, Some(&tier));
    }
}
