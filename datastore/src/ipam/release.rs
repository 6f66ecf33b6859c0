//! Giving addresses back, by address or by handle. A block and the counts of its handles change in
//! one transaction.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;

use super::{
    IpamError,
    addr::address_version,
    keys::{self, Owner},
    kv::Want,
    model::{AllocationBlock, clean_handle},
    pools::{all_pools, is_unselected, node_of, pools_root, resource_key},
    settings,
    view::{Draft, Stop},
};
use crate::Kind;

/// An address to give back, and what the caller believes about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseRequest {
    /// The address.
    pub address: IpAddr,
    /// The handle it must be assigned by, if given.
    pub handle: Option<String>,
    /// The number it must have been assigned under, if given: an address that has been assigned
    /// anew since the caller looked has another.
    pub sequence_number: Option<u64>,
}

impl From<IpAddr> for ReleaseRequest {
    fn from(address: IpAddr) -> Self {
        Self {
            address,
            handle: None,
            sequence_number: None,
        }
    }
}

/// What became of addresses that were to be given back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// They were assigned and are not any more.
    pub released: Vec<IpAddr>,
    /// They were not assigned, or have been given back already and cool down.
    pub not_assigned: Vec<IpAddr>,
}

impl Released {
    pub(super) fn extend(&mut self, more: Released) {
        self.released.extend(more.released);
        self.not_assigned.extend(more.not_assigned);
    }
}

/// How many addresses, or blocks of a handle, one transaction gives back; each may change a block
/// and a handle.
pub(super) const CHUNK: usize = 30;

/// Decides the release of no more than [`CHUNK`] addresses.
pub(super) fn release(
    draft: &mut Draft<'_>,
    requests: &[ReleaseRequest],
) -> Result<Released, Stop> {
    draft.need(
        settings::wants()
            .into_iter()
            .chain([Want::Prefix(pools_root())]),
    )?;
    let cooldown = settings::config(draft)?.ip_cooldown_seconds;
    let mut by_block: BTreeMap<IpNet, BTreeMap<IpAddr, &ReleaseRequest>> = BTreeMap::new();
    let mut result = Released::default();
    let found = find_blocks(draft, requests.iter().map(|request| request.address))?;
    for request in requests {
        match found.get(&request.address) {
            Some(cidr) => {
                by_block
                    .entry(*cidr)
                    .or_default()
                    .insert(request.address, request);
            }
            None => result.not_assigned.push(request.address),
        }
    }
    for (cidr, requests) in by_block {
        let Some(mut block) = draft.block(cidr)? else {
            result.not_assigned.extend(requests.into_keys());
            continue;
        };
        let mut places = Vec::new();
        let mut counts: BTreeMap<String, i64> = BTreeMap::new();
        for (address, request) in requests {
            let assigned = block.place(address).and_then(|place| {
                let attribute = block.attribute_of(place)?;
                (!attribute.is_released()).then_some((place, attribute))
            });
            let Some((place, attribute)) = assigned else {
                result.not_assigned.push(address);
                continue;
            };
            if let Some(expected) = request.sequence_number
                && expected != block.sequence_of(place)
            {
                return Err(IpamError::BadSequenceNumber {
                    address,
                    expected,
                    actual: block.sequence_of(place),
                }
                .into());
            }
            if let Some(expected) = &request.handle
                && attribute.handle() != Some(clean_handle(expected))
            {
                return Err(IpamError::BadHandle {
                    address,
                    expected: expected.clone(),
                    actual: attribute.handle().map(str::to_owned),
                }
                .into());
            }
            if let Some(handle) = attribute.handle() {
                *counts.entry(handle.to_owned()).or_default() += 1;
            }
            places.push(place);
            result.released.push(address);
        }
        if places.is_empty() {
            continue;
        }
        block.give_back(&places, draft.now());
        block.collect(draft.now(), cooldown);
        draft.need(counts.keys().map(|handle| Want::Key(keys::handle(handle))))?;
        for (handle, count) in counts {
            // A handle that is gone or cannot be read must not keep an address from being released.
            match draft.handle(&handle) {
                Ok(Some(_)) => draft.count_handle(&handle, cidr, -count)?,
                Err(Stop::Read(wants)) => return Err(Stop::Read(wants)),
                Ok(None) | Err(Stop::Failed(_)) => {}
            }
        }
        store_after_release(draft, block)?;
    }
    Ok(result)
}

/// Decides the release of a handle's addresses in its blocks after `after`, no more than [`CHUNK`]
/// of them; also says which was the last if there may be more.
pub(super) fn release_handle(
    draft: &mut Draft<'_>,
    id: &str,
    sequence_number: Option<u64>,
    after: Option<IpNet>,
) -> Result<(Vec<IpAddr>, Option<IpNet>), Stop> {
    let id = clean_handle(id);
    draft.need(
        settings::wants()
            .into_iter()
            .chain([Want::Key(keys::handle(id))]),
    )?;
    let cooldown = settings::config(draft)?.ip_cooldown_seconds;
    let Some(mut handle) = draft.handle(id)? else {
        // Further chunks find the handle gone when none of its blocks held anything.
        return match after {
            Some(_) => Ok((Vec::new(), None)),
            None => Err(IpamError::UnknownHandle(id.to_owned()).into()),
        };
    };
    let blocks: BTreeSet<IpNet> = handle
        .block
        .keys()
        .filter_map(|cidr| cidr.parse().ok())
        .filter(|cidr| after.is_none_or(|after| *cidr > after))
        .collect();
    let chunk: Vec<IpNet> = blocks.iter().take(CHUNK).copied().collect();
    draft.need(chunk.iter().map(|cidr| Want::Key(keys::block(*cidr))))?;
    let mut released = Vec::new();
    for cidr in &chunk {
        // The block has the last word on what the handle has of it: a client that stopped between
        // its two writes has left a count that is too high.
        let mut left = 0;
        if let Some(mut block) = draft.block(*cidr)? {
            let (places, kept): (Vec<u32>, Vec<u32>) =
                block.places_of_handle(id).into_iter().partition(|place| {
                    sequence_number.is_none_or(|expected| expected == block.sequence_of(*place))
                });
            left = kept.len() as i64;
            if !places.is_empty() {
                released.extend(places.iter().filter_map(|place| block.address(*place)));
                block.give_back(&places, draft.now());
                block.collect(draft.now(), cooldown);
                store_after_release(draft, block)?;
            }
        }
        handle.block.insert(cidr.to_string(), left);
    }
    // What names no block cannot be released by anyone.
    handle
        .block
        .retain(|cidr, count| *count > 0 && cidr.parse::<IpNet>().is_ok());
    draft.put_handle(id, &handle, true);
    let more = chunk.last().copied().filter(|_| blocks.len() > chunk.len());
    Ok((released, more))
}

/// Decides that a block gives up what has cooled down.
pub(super) fn collect_block(draft: &mut Draft<'_>, cidr: IpNet) -> Result<bool, Stop> {
    draft.need(
        settings::wants()
            .into_iter()
            .chain([Want::Key(keys::block(cidr))]),
    )?;
    let cooldown = settings::config(draft)?.ip_cooldown_seconds;
    let Some(mut block) = draft.block(cidr)? else {
        return Ok(false);
    };
    let changed = block.collect(draft.now(), cooldown);
    if changed {
        store_after_release(draft, block)?;
    }
    Ok(changed)
}

/// Stores a block that was given something back. One that is empty then goes if nobody needs it to
/// be kept: if it is kept for nobody, for load balancers, or for a host that its pool does not
/// select any more.
fn store_after_release(draft: &mut Draft<'_>, block: AllocationBlock) -> Result<(), Stop> {
    if !block.is_empty() {
        draft.put_block(block);
        return Ok(());
    }
    let goes = match block.owner() {
        None => block.affinity.is_none(),
        Some(Owner::Virtual(name)) => name == LOAD_BALANCER,
        Some(owner @ Owner::Host(_)) => {
            draft.need([
                Want::Prefix(pools_root()),
                Want::Key(resource_key(Kind::Node, owner.name()).path()),
            ])?;
            match node_of(draft, &owner) {
                Ok(node) => is_unselected(&all_pools(draft)?, block.cidr, node.as_ref()),
                // Without its node there is no telling what is for it.
                Err(Stop::Failed(_)) => false,
                Err(stop) => return Err(stop),
            }
        }
    };
    if !goes {
        draft.put_block(block);
        return Ok(());
    }
    if let Some(owner) = block.owner() {
        let affinity = keys::affinity(&owner, block.cidr);
        if draft.value(&affinity)?.is_some() {
            draft.delete(affinity);
        }
    }
    draft.delete(keys::block(block.cidr));
    Ok(())
}

/// The owner of blocks that load balancers' addresses come from.
pub const LOAD_BALANCER: &str = "load-balancer";

/// The blocks of addresses: those that their pools would have, or else any there are around them.
pub(super) fn find_blocks(
    draft: &Draft<'_>,
    addresses: impl Iterator<Item = IpAddr>,
) -> Result<BTreeMap<IpAddr, IpNet>, Stop> {
    let pools = all_pools(draft)?;
    let guesses: Vec<(IpAddr, Option<IpNet>)> = addresses
        .map(|address| {
            let guess = pools.iter().find_map(|pool| pool.block_of(address));
            (address, guess)
        })
        .collect();
    draft.need(
        guesses
            .iter()
            .filter_map(|(_, guess)| Some(Want::Key(keys::block((*guess)?)))),
    )?;
    let mut found = BTreeMap::new();
    for (address, guess) in guesses {
        if let Some(cidr) = guess
            && draft.value(&keys::block(cidr))?.is_some()
        {
            found.insert(address, cidr);
            continue;
        }
        let around = draft
            .keys_under(&keys::blocks(address_version(address)))?
            .iter()
            .filter_map(|key| keys::parse_block(key))
            .find(|cidr| cidr.contains(&address));
        if let Some(cidr) = around {
            found.insert(address, cidr);
        }
    }
    Ok(found)
}
