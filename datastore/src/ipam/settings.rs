//! Where the settings of IPAM are, of which the store may have two.
//!
//! Calico's clients of etcd go by `/calico/ipam/v2/config` alone, which `calicoctl ipam configure`
//! writes; the resource `IPAMConfiguration` that users apply lies elsewhere, and those clients do not
//! look at it. In clusters without etcd both are one thing. So that one user's word holds for all
//! clients, the key decides where it is, the resource where there is no key, and whoever changes one
//! by our means changes the other with it.

use super::{
    keys,
    kv::Want,
    model::{self, IpamConfig},
    pools::resource_key,
    view::{Draft, Stop},
};
use crate::{
    Key, Kind, Problem,
    resource::{Enabled, IpamConfiguration, IpamConfigurationSpec, Resource, decode},
};

/// What to read for the settings.
pub(super) fn wants() -> [Want; 2] {
    [
        Want::Key(keys::CONFIG.to_owned()),
        Want::Key(resource().path()),
    ]
}

/// The settings, or what holds without any.
pub(super) fn config(draft: &Draft<'_>) -> Result<IpamConfig, Stop> {
    let config = stored(draft)?;
    config.check()?;
    Ok(config)
}

/// Makes the transaction depend on the settings being as they were read.
pub(super) fn rely(draft: &mut Draft<'_>) -> Result<(), Stop> {
    draft.rely_on(keys::CONFIG);
    if draft.value(keys::CONFIG)?.is_none() {
        draft.rely_on(&resource().path());
    }
    Ok(())
}

/// Changes the settings, in both places if there are two.
pub(super) fn configure(
    draft: &mut Draft<'_>,
    change: &impl Fn(&mut IpamConfig),
) -> Result<IpamConfig, Stop> {
    draft.need(wants())?;
    let mut config = stored(draft)?;
    change(&mut config);
    config.check()?;
    draft.put(keys::CONFIG.to_owned(), &config);
    // One that cannot be read says nothing, and is left to those who can.
    if let Ok(Some(mut applied)) = applied(draft)
        && settings_of(&applied.spec, IpamConfig::default())
            != settings_of(&spec_of(&config), IpamConfig::default())
    {
        let extra = std::mem::take(&mut applied.spec.extra);
        applied.spec = spec_of(&config);
        applied.spec.extra = extra;
        let bytes = Resource::IpamConfiguration(applied).encode();
        draft.put_bytes(resource().path(), bytes);
    }
    Ok(config)
}

/// Makes the key say what the resource says, or takes it away with the resource.
pub(super) fn adopt(draft: &mut Draft<'_>) -> Result<IpamConfig, Stop> {
    draft.need(wants())?;
    let Some(applied) = applied(draft)? else {
        draft.rely_on(&resource().path());
        draft.delete(keys::CONFIG.to_owned());
        return Ok(IpamConfig::default());
    };
    // One that cannot be read is replaced whole.
    let before = match draft.value(keys::CONFIG)? {
        Some(bytes) => model::decode(keys::CONFIG, bytes).unwrap_or_default(),
        None => IpamConfig::default(),
    };
    let config = settings_of(&applied.spec, before);
    config.check()?;
    draft.rely_on(&resource().path());
    draft.put(keys::CONFIG.to_owned(), &config);
    Ok(config)
}

/// The settings that a resource stands for, over others of which it does not know every field.
fn settings_of(spec: &IpamConfigurationSpec, before: IpamConfig) -> IpamConfig {
    IpamConfig {
        strict_affinity: spec.strict_affinity,
        auto_allocate_blocks: spec.claims_blocks(),
        max_blocks_per_host: spec.max_blocks_per_host.unwrap_or(0),
        vm_address_persistence: spec
            .vm_address_persistence
            .map(|enabled| enabled.word().to_owned()),
        ip_cooldown_seconds: spec.ip_cooldown_seconds.unwrap_or(0),
        extra: before.extra,
    }
}

/// The settings as a resource has them.
fn spec_of(config: &IpamConfig) -> IpamConfigurationSpec {
    IpamConfigurationSpec {
        strict_affinity: config.strict_affinity,
        auto_allocate_blocks: Some(config.auto_allocate_blocks),
        max_blocks_per_host: Some(config.max_blocks_per_host),
        vm_address_persistence: match config.vm_address_persistence.as_deref() {
            Some("Enabled") => Some(Enabled::Enabled),
            Some("Disabled") => Some(Enabled::Disabled),
            _ => None,
        },
        ip_cooldown_seconds: Some(config.ip_cooldown_seconds),
        extra: serde_json::Map::new(),
    }
}

impl TryFrom<&IpamConfigurationSpec> for IpamConfig {
    type Error = Problem;

    /// The settings that a resource stands for, if they go together.
    fn try_from(spec: &IpamConfigurationSpec) -> Result<Self, Problem> {
        let config = settings_of(spec, IpamConfig::default());
        config.check()?;
        Ok(config)
    }
}

fn stored(draft: &Draft<'_>) -> Result<IpamConfig, Stop> {
    if let Some(bytes) = draft.value(keys::CONFIG)? {
        return Ok(model::decode(keys::CONFIG, bytes)?);
    }
    let default = IpamConfig::default();
    Ok(match applied(draft)? {
        Some(resource) => settings_of(&resource.spec, default),
        None => default,
    })
}

fn applied(draft: &Draft<'_>) -> Result<Option<IpamConfiguration>, Stop> {
    let key = resource();
    let Some(bytes) = draft.value(&key.path())? else {
        return Ok(None);
    };
    if let Resource::IpamConfiguration(resource) = decode(&key, bytes)? {
        Ok(Some(resource))
    } else {
        Ok(None)
    }
}

/// The one resource there can be.
fn resource() -> Key {
    resource_key(Kind::IpamConfiguration, "default")
}
