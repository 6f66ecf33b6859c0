//! Keeping blocks for owners without assigning from them, and giving them up.

use ipnet::IpNet;

use super::{
    IpamError,
    addr::Subnets,
    assign::confirm,
    keys::{self, Owner},
    kv::Want,
    model::AllocationBlock,
    pools::{all_pools, pools_root, resource_key},
    settings,
    view::{Draft, Stop},
};
use crate::{Kind, value::IpVersion};

/// How many blocks one claim may be of.
const MAX_BLOCKS: u128 = 4_096;

/// What became of an attempt to give up a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivenUp {
    /// The block was empty and is gone.
    BlockDeleted,
    /// The block has addresses assigned and is kept for nobody now.
    BlockKept,
    /// Only the claim went; the block was not the owner's, or not there.
    ClaimOnly,
    /// There was no claim, nor a block of the owner.
    Nothing,
    /// The block has addresses assigned and was to be given up only if empty.
    NotEmpty,
}

/// The blocks that a net consists of.
pub(super) fn blocks_in(draft: &mut Draft<'_>, net: IpNet) -> Result<Vec<IpNet>, Stop> {
    draft.need([Want::Prefix(pools_root())])?;
    let pools = all_pools(draft)?;
    let pool = pools
        .iter()
        .find(|pool| pool.net.contains(&net))
        .ok_or(IpamError::OutsidePools(net.addr()))?;
    let blocks = Subnets::new(net, pool.block_len).ok_or(IpamError::SmallerThanBlock(net))?;
    if blocks.last() >= MAX_BLOCKS {
        return Err(IpamError::TooMuchAtOnce.into());
    }
    Ok((0..=blocks.last())
        .filter_map(|number| blocks.at(number))
        .collect())
}

/// Decides that an owner keeps a block; says whether it does, or another has it already.
pub(super) fn claim(draft: &mut Draft<'_>, owner: &Owner, cidr: IpNet) -> Result<bool, Stop> {
    if !keys::is_segment(owner.name()) {
        return Err(IpamError::BadName(owner.name().to_owned()).into());
    }
    let affinity = keys::affinity(owner, cidr);
    draft.need([
        Want::Prefix(pools_root()),
        Want::Key(keys::block(cidr)),
        Want::Key(affinity.clone()),
    ])?;
    let pools = all_pools(draft)?;
    let pool = pools
        .iter()
        .find(|pool| !pool.spec.disabled && pool.net.contains(&cidr))
        .ok_or(IpamError::OutsidePools(cidr.addr()))?;
    draft.rely_on(&resource_key(Kind::IpPool, &pool.name).path());
    match draft.block(cidr)? {
        None => {
            let block = AllocationBlock::new(
                cidr,
                Some(owner),
                None,
                draft.now(),
                draft.moment.nanoseconds,
            );
            draft.put_new_block(&block);
            confirm(draft, owner, cidr)?;
            Ok(true)
        }
        Some(block) if block.owner().as_ref() == Some(owner) => {
            confirm(draft, owner, cidr)?;
            Ok(true)
        }
        Some(_) => {
            draft.rely_on(&keys::block(cidr));
            if draft.value(&affinity)?.is_some() {
                draft.delete(affinity);
            }
            Ok(false)
        }
    }
}

/// Decides that an owner gives a block up.
pub(super) fn give_up(
    draft: &mut Draft<'_>,
    owner: &Owner,
    cidr: IpNet,
    only_if_empty: bool,
) -> Result<GivenUp, Stop> {
    let affinity = keys::affinity(owner, cidr);
    draft.need(
        settings::wants()
            .into_iter()
            .chain([Want::Key(keys::block(cidr)), Want::Key(affinity.clone())]),
    )?;
    let cooldown = settings::config(draft)?.ip_cooldown_seconds;
    let claimed = draft.value(&affinity)?.is_some();
    let given_up = match draft.block(cidr)? {
        Some(mut block) if block.owner().as_ref() == Some(owner) => {
            block.collect(draft.now(), cooldown);
            if block.is_empty() {
                draft.delete(keys::block(cidr));
                GivenUp::BlockDeleted
            } else if only_if_empty {
                return Ok(GivenUp::NotEmpty);
            } else {
                block.affinity = None;
                block.affinity_claim_time = None;
                draft.put_block(block);
                GivenUp::BlockKept
            }
        }
        _ if claimed => {
            draft.rely_on(&keys::block(cidr));
            GivenUp::ClaimOnly
        }
        _ => return Ok(GivenUp::Nothing),
    };
    if claimed {
        draft.delete(affinity);
    }
    Ok(given_up)
}

/// What an owner claims, in both families.
pub(super) fn claims_of(draft: &Draft<'_>, owner: &Owner) -> Result<Vec<IpNet>, Stop> {
    draft.need(
        [IpVersion::V4, IpVersion::V6]
            .map(|version| Want::Prefix(keys::affinities(owner, version))),
    )?;
    let mut claims = draft.claims(owner, IpVersion::V4)?;
    claims.extend(draft.claims(owner, IpVersion::V6)?);
    Ok(claims)
}

/// Every claim of every owner.
pub(super) fn all_claims(draft: &Draft<'_>) -> Result<Vec<(Owner, IpNet)>, Stop> {
    draft.need(keys::all_affinities().map(Want::Prefix))?;
    let mut claims = Vec::new();
    for root in keys::all_affinities() {
        claims.extend(
            draft
                .keys_under(&root)?
                .iter()
                .filter_map(|key| keys::parse_affinity(key)),
        );
    }
    Ok(claims)
}
