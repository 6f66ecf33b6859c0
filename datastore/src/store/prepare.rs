//! What an object gets on its way into a store: identity, defaults, and the names of its policy.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Map;

use super::{Entry, StoreError};
use crate::{
    Key, Kind, Problem, Resource,
    resource::{
        AllowedUse, AssignmentMode, EncapMode, EntityRule, IpPoolSpec, Metadata, Object,
        PolicyType, Profile, ProfileSpec, Rule, TierAction, policy_name,
    },
    selector::Selector,
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
pub(super) fn is_fixed(key: &Key) -> bool {
    is_default_allow(key) || (key.kind() == Some(Kind::Tier) && FIXED_TIERS.contains(&key.name()))
}

/// The key of an object that someone wants to store.
pub(super) fn key(resource: &Resource) -> Result<Key, StoreError> {
    let Some(key) = resource.key() else {
        let reason = "is kept by address management alone";
        return Err(Problem::new("BlockAffinity", "", reason).into());
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
        metadata.creation_timestamp = Some(timestamp(seconds_since_epoch()));
        metadata.resource_version = None;
    }
    name_policy(&mut resource, key.name());
    Ok((key, resource))
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
            .or_else(|| Some(timestamp(seconds_since_epoch())));
    }
    if keep_status
        && let Some(status) = old.and_then(|old| old.extra()?.get("status"))
        && let Some(extra) = resource.extra_mut()
    {
        extra.entry("status").or_insert_with(|| status.clone());
    }
    name_policy(&mut resource, user_key.name());
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
        | Resource::BgpPeer(_)
        | Resource::BlockAffinity(_)
        | Resource::GlobalNetworkSet(_)
        | Resource::NetworkSet(_)
        | Resource::Node(_)
        | Resource::Profile(_) => {}
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
    let block_len = spec.block_len();
    spec.block_size.get_or_insert(block_len);
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
    let tier = match resource {
        Resource::GlobalNetworkPolicy(policy) => &policy.spec.tier,
        Resource::NetworkPolicy(policy) => &policy.spec.tier,
        Resource::BgpConfiguration(_)
        | Resource::BgpPeer(_)
        | Resource::BlockAffinity(_)
        | Resource::GlobalNetworkSet(_)
        | Resource::IpPool(_)
        | Resource::NetworkSet(_)
        | Resource::Node(_)
        | Resource::Profile(_)
        | Resource::Tier(_)
        | Resource::WorkloadEndpoint(_) => return,
    };
    let tier = tier.clone();
    if let Some(metadata) = resource.metadata_mut() {
        policy_name::write(metadata, user_name, tier.as_deref());
    }
}

fn seconds_since_epoch() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs())
}

/// RFC 3339 to the second, in UTC.
fn timestamp(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Years begin in March here, so that the day that some years have comes last.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_rfc_3339_has_them() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_795_310_272, "2026-11-22T01:17:52Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(timestamp(seconds), text);
        }
    }
}
