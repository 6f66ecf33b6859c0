//! Splitting a pool into smaller ones of one size. Blocks and addresses stay as they are: each is
//! in one of the new pools. All pools change in one transaction, so that nobody needs to be locked
//! out meanwhile.

use serde_json::Value;

use super::{
    IpamError,
    addr::Subnets,
    kv::Want,
    pools::{all_pools, pools_root, resource_key},
    view::{Draft, Stop},
};
use crate::{Kind, Problem};

/// Into how many pools one can be split: all of them must go into one transaction.
pub const MAX_PARTS: u32 = 64;
/// The longest name of an object.
const MAX_NAME: usize = 253;

/// Decides the split; returns the names of the new pools.
pub(super) fn split(draft: &mut Draft<'_>, name: &str, parts: u32) -> Result<Vec<String>, Stop> {
    draft.need([Want::Prefix(pools_root())])?;
    let key = resource_key(Kind::IpPool, name);
    let pools = all_pools(draft)?;
    let pool = pools
        .iter()
        .find(|pool| pool.name == name)
        .ok_or_else(|| IpamError::UnknownPool(name.to_owned()))?;
    if !(2..=MAX_PARTS).contains(&parts) || !parts.is_power_of_two() {
        return Err(IpamError::BadSplit(parts).into());
    }
    let len = pool.net.prefix_len().saturating_add(parts.ilog2() as u8);
    let subnets = Subnets::new(pool.net, len)
        .filter(|_| len <= pool.block_len)
        .ok_or(IpamError::SplitsBlocks {
            parts,
            block_len: pool.block_len,
        })?;
    let bytes = draft.value(&key.path())?.unwrap_or_default();
    let stored: Value = super::model::decode(&key.path(), bytes)?;
    draft.delete(key.path());
    let base: String = name.chars().take(MAX_NAME - "split--99".len()).collect();
    let mut names = Vec::new();
    for number in 0..parts {
        let name = format!("split-{base}-{number}");
        let part_key = resource_key(Kind::IpPool, &name).path();
        if draft.value(&part_key)?.is_some() {
            return Err(IpamError::PoolExists(name).into());
        }
        let cidr = subnets
            .at(u128::from(number))
            .ok_or(IpamError::BadSplit(parts))?;
        let mut part = stored.clone();
        let missing = |field: &str| Problem::new(&key, field, "is no object");
        let spec = part
            .get_mut("spec")
            .and_then(Value::as_object_mut)
            .ok_or_else(|| missing("spec"))?;
        spec.insert("cidr".to_owned(), cidr.to_string().into());
        let metadata = part
            .get_mut("metadata")
            .and_then(Value::as_object_mut)
            .ok_or_else(|| missing("metadata"))?;
        for of_the_whole in ["resourceVersion", "generation", "selfLink", "generateName"] {
            metadata.remove(of_the_whole);
        }
        metadata.insert("name".to_owned(), name.as_str().into());
        metadata.insert("uid".to_owned(), uuid::Uuid::new_v4().to_string().into());
        metadata.insert(
            "creationTimestamp".to_owned(),
            draft.now().to_string().into(),
        );
        draft.put(part_key, &part);
        names.push(name);
    }
    Ok(names)
}
