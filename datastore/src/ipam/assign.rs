//! Assigning addresses: from the owner's blocks, from new ones, from others'.
//!
//! All addresses of a request, the blocks claimed for them and their handle's counts are written by
//! one transaction, so that whoever stops at whatever point leaves nothing half-done. What other
//! clients left half-done is finished or undone on the way: a claim that is pending, or was being
//! given up, becomes a confirmed one if the block is there for the owner or can be made, and goes
//! if the block is another's.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;

use super::{
    IpamError,
    addr::version,
    block::{Assignee, HostReserved, Reservations},
    keys::{self, Owner},
    kv::Want,
    model::{AffinityState, AllocationBlock, BlockAffinity, DEFAULT_MAX_BLOCKS, IpamConfig},
    pools::{
        Pool, Walk, Wanted, all_pools, choose, is_unselected, node_of, pools_root, reservations,
        reservations_root, resource_key,
    },
    settings,
    view::{Draft, Stop},
};
use crate::{
    Kind,
    resource::{AllowedUse, Node},
    value::IpVersion,
};

/// How many addresses one request may ask for.
pub const MAX_ADDRESSES: usize = 4_096;

/// A wish for any addresses.
#[derive(Clone, Debug)]
pub struct AssignRequest {
    /// Whose blocks they come from.
    pub owner: Owner,
    /// How many of IPv4.
    pub v4: usize,
    /// How many of IPv6.
    pub v6: usize,
    /// What they are assigned to.
    pub assignee: Assignee,
    /// What they are for.
    pub allowed_use: AllowedUse,
    /// The labels of the namespace they are for, if any.
    pub namespace: Option<BTreeMap<String, String>>,
    /// The pools to take them from; empty for those that select the owner.
    pub pools: Vec<IpNet>,
    /// How many blocks of a family the owner may keep; the settings' limit holds as well.
    pub max_blocks: Option<u32>,
    /// How many addresses of a family the handle may have in the end.
    pub max_per_handle: Option<u32>,
    /// What the host keeps for itself from each new block of IPv4.
    pub host_reserved_v4: Option<HostReserved>,
    /// What the host keeps for itself from each new block of IPv6.
    pub host_reserved_v6: Option<HostReserved>,
}

impl AssignRequest {
    /// A wish for addresses for a workload of a host.
    pub fn workload(host: impl Into<String>, v4: usize, v6: usize, assignee: Assignee) -> Self {
        Self {
            owner: Owner::host(host),
            v4,
            v6,
            assignee,
            allowed_use: AllowedUse::Workload,
            namespace: None,
            pools: Vec::new(),
            max_blocks: None,
            max_per_handle: None,
            host_reserved_v4: None,
            host_reserved_v6: None,
        }
    }

    fn host_reserved(&self, version: IpVersion) -> Option<&HostReserved> {
        match version {
            IpVersion::V4 => self.host_reserved_v4.as_ref(),
            IpVersion::V6 => self.host_reserved_v6.as_ref(),
        }
    }
}

/// A wish for one address by name.
#[derive(Clone, Debug)]
pub struct AddressRequest {
    /// Who claims the address's block if nobody has.
    pub owner: Owner,
    /// The address.
    pub address: IpAddr,
    /// What it is assigned to.
    pub assignee: Assignee,
    /// How many addresses of a family the handle may have in the end.
    pub max_per_handle: Option<u32>,
    /// What the host keeps for itself from a new block.
    pub host_reserved: Option<HostReserved>,
}

/// Decides a request for any addresses; what it assigns are addresses with their block's length.
pub(super) fn assign(draft: &mut Draft<'_>, request: &AssignRequest) -> Result<Vec<IpNet>, Stop> {
    check_names(&request.owner, &request.assignee)?;
    if request.v4.saturating_add(request.v6) > MAX_ADDRESSES {
        return Err(IpamError::TooMuchAtOnce.into());
    }
    let families: Vec<(IpVersion, usize)> =
        [(IpVersion::V4, request.v4), (IpVersion::V6, request.v6)]
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .collect();
    let mut family = Family::read(draft, request, families.iter().map(|(version, _)| *version))?;
    let mut assigned = Vec::new();
    for (version, count) in families {
        check_handle_limit(
            draft,
            &request.assignee,
            version,
            count,
            request.max_per_handle,
        )?;
        family.choose(version)?;
        assigned.extend(family.assign(draft, count)?);
    }
    Ok(assigned)
}

/// Decides that an owner keeps a block of each of these families, full or not.
pub(super) fn ensure_block(
    draft: &mut Draft<'_>,
    request: &AssignRequest,
    versions: &[IpVersion],
) -> Result<Vec<IpNet>, Stop> {
    check_names(&request.owner, &request.assignee)?;
    let mut family = Family::read(draft, request, versions.iter().copied())?;
    let mut blocks = Vec::new();
    for version in versions {
        family.choose(*version)?;
        blocks.push(family.ensure_block(draft)?);
    }
    Ok(blocks)
}

/// Decides a request for one address.
pub(super) fn assign_address(
    draft: &mut Draft<'_>,
    request: &AddressRequest,
) -> Result<IpNet, Stop> {
    check_names(&request.owner, &request.assignee)?;
    let address = request.address;
    draft.need(
        settings::wants()
            .into_iter()
            .chain([Want::Prefix(pools_root())]),
    )?;
    let pools = all_pools(draft)?;
    let pool = pools
        .iter()
        .find(|pool| !pool.spec.disabled && pool.net.contains(&address))
        .ok_or(IpamError::OutsidePools(address))?;
    let cidr = pool
        .block_of(address)
        .ok_or(IpamError::OutsidePools(address))?;
    let affinity = keys::affinity(&request.owner, cidr);
    let mut wants = vec![Want::Key(keys::block(cidr)), Want::Key(affinity)];
    if let Some(handle) = &request.assignee.handle {
        wants.push(Want::Key(keys::handle(handle)));
    }
    draft.need(wants)?;
    settings::rely(draft)?;
    draft.rely_on(&resource_key(Kind::IpPool, &pool.name).path());
    check_handle_limit(
        draft,
        &request.assignee,
        version(cidr),
        1,
        request.max_per_handle,
    )?;
    let config = settings::config(draft)?;
    let mut block = match draft.block(cidr)? {
        None => AllocationBlock::new(
            cidr,
            Some(&request.owner),
            request.host_reserved.as_ref(),
            draft.now(),
            draft.moment.nanoseconds,
        ),
        Some(mut block) => {
            if config.strict_affinity && block.owner().as_ref() != Some(&request.owner) {
                return Err(IpamError::NotYours {
                    block: cidr,
                    affinity: block.affinity,
                }
                .into());
            }
            block.collect(draft.now(), config.ip_cooldown_seconds);
            block
        }
    };
    if block.owner().as_ref() == Some(&request.owner) {
        confirm(draft, &request.owner, cidr)?;
    }
    block
        .take_address(address, &request.assignee)
        .map_err(|attribute| IpamError::InUse {
            address,
            handle: attribute.handle().map(str::to_owned),
        })?;
    if let Some(handle) = &request.assignee.handle {
        draft.count_handle(handle, cidr, 1)?;
    }
    draft.put_block(block);
    Ok(with_length(address, cidr))
}

/// Stores a confirmed claim, unless it is there. A claim that is made good depends on its block
/// being as it was read.
pub(super) fn confirm(draft: &mut Draft<'_>, owner: &Owner, cidr: IpNet) -> Result<(), Stop> {
    let stored = match draft.affinity(owner, cidr) {
        // What cannot be read is replaced: the block says whose it is.
        Err(Stop::Failed(_)) => None,
        other => other?,
    };
    if let Some(affinity) = &stored
        && affinity.state == AffinityState::Confirmed
        && !affinity.deleted
    {
        return Ok(());
    }
    draft.rely_on(&keys::block(cidr));
    let affinity = BlockAffinity {
        state: AffinityState::Confirmed,
        deleted: false,
        extra: stored.map(|affinity| affinity.extra).unwrap_or_default(),
    };
    draft.put(keys::affinity(owner, cidr), &affinity);
    Ok(())
}

/// A request, seen from one family at a time.
struct Family<'r> {
    request: &'r AssignRequest,
    config: IpamConfig,
    reservations: Reservations,
    all_pools: Vec<Pool>,
    node: Option<Node>,
    version: IpVersion,
    pools: Vec<Pool>,
}

impl<'r> Family<'r> {
    /// Reads at once what every request needs.
    fn read(
        draft: &mut Draft<'_>,
        request: &'r AssignRequest,
        versions: impl Iterator<Item = IpVersion>,
    ) -> Result<Self, Stop> {
        let mut wants = settings::wants().to_vec();
        wants.extend([
            Want::Prefix(pools_root()),
            Want::Prefix(reservations_root()),
        ]);
        wants.extend(
            versions.map(|version| Want::Prefix(keys::affinities(&request.owner, version))),
        );
        if let Owner::Host(name) = &request.owner {
            wants.push(Want::Key(resource_key(Kind::Node, name).path()));
        }
        if let Some(handle) = &request.assignee.handle {
            wants.push(Want::Key(keys::handle(handle)));
        }
        draft.need(wants)?;
        settings::rely(draft)?;
        Ok(Self {
            request,
            config: settings::config(draft)?,
            reservations: reservations(draft)?,
            all_pools: all_pools(draft)?,
            node: node_of(draft, &request.owner)?,
            version: IpVersion::V4,
            pools: Vec::new(),
        })
    }

    fn choose(&mut self, version: IpVersion) -> Result<(), IpamError> {
        self.version = version;
        self.pools = choose(
            &self.all_pools,
            &Wanted {
                version,
                allowed_use: self.request.allowed_use,
                namespace: self.request.namespace.as_ref(),
                node: self.node.as_ref(),
                requested: &self.request.pools,
                max_block_len: max_block_len(version, self.request.host_reserved(version)),
            },
        )?;
        Ok(())
    }

    fn assign(&self, draft: &mut Draft<'_>, count: usize) -> Result<Vec<IpNet>, Stop> {
        let mut assigned = Vec::new();
        let mut claims = self.own_claims(draft)?;
        for cidr in claims.clone() {
            if assigned.len() >= count {
                break;
            }
            match self.own_block(draft, cidr)? {
                Some((block, is_new)) => {
                    assigned.extend(self.take(draft, block, is_new, count - assigned.len())?);
                }
                None => claims.retain(|claim| *claim != cidr),
            }
        }
        while assigned.len() < count {
            let Some(block) = self.new_block(draft, &mut claims)? else {
                break;
            };
            assigned.extend(self.take(draft, block, true, count - assigned.len())?);
        }
        if assigned.len() < count {
            if self.config.strict_affinity {
                return Err(IpamError::StrictAffinityFull {
                    owner: self.request.owner.clone(),
                    version: self.version,
                }
                .into());
            }
            for cidr in self.others_blocks(draft)? {
                let Some(block) = readable(draft.block(cidr))? else {
                    continue;
                };
                assigned.extend(self.take(draft, block, false, count - assigned.len())?);
                if assigned.len() >= count {
                    break;
                }
            }
        }
        if assigned.len() < count {
            return Err(IpamError::PoolsFull {
                version: self.version,
                missing: count - assigned.len(),
            }
            .into());
        }
        Ok(assigned)
    }

    fn ensure_block(&self, draft: &mut Draft<'_>) -> Result<IpNet, Stop> {
        let mut claims = self.own_claims(draft)?;
        for cidr in claims.clone() {
            match self.own_block(draft, cidr)? {
                Some((block, is_new)) => {
                    if is_new {
                        draft.put_new_block(&block);
                    }
                    return Ok(cidr);
                }
                None => claims.retain(|claim| *claim != cidr),
            }
        }
        let block = self
            .new_block(draft, &mut claims)?
            .ok_or(IpamError::PoolsFull {
                version: self.version,
                missing: 1,
            })?;
        draft.put_new_block(&block);
        Ok(block.cidr)
    }

    /// The owner's claims in the chosen pools. Empty blocks of pools that do not select the owner
    /// any more are given up on the way.
    fn own_claims(&self, draft: &mut Draft<'_>) -> Result<Vec<IpNet>, Stop> {
        let claims = draft.claims(&self.request.owner, self.version)?;
        draft.need(claims.iter().map(|cidr| Want::Key(keys::block(*cidr))))?;
        let mut kept = Vec::new();
        for cidr in claims {
            if self.pools.iter().any(|pool| pool.net.contains(&cidr)) {
                kept.push(cidr);
                continue;
            }
            if is_unselected(&self.all_pools, cidr, self.node.as_ref()) && draft.len() < MAX_CLEANED
            {
                self.give_up_if_empty(draft, cidr)?;
            }
        }
        Ok(kept)
    }

    fn give_up_if_empty(&self, draft: &mut Draft<'_>, cidr: IpNet) -> Result<(), Stop> {
        let owner = &self.request.owner;
        match readable(draft.block(cidr))? {
            Some(mut block) if block.owner().as_ref() == Some(owner) => {
                block.collect(draft.now(), self.config.ip_cooldown_seconds);
                if block.is_empty() {
                    draft.delete(keys::block(cidr));
                    draft.delete(keys::affinity(owner, cidr));
                }
            }
            Some(_) | None => {}
        }
        Ok(())
    }

    /// The block of a claim, confirmed, and whether it is new; `None` if the claim was none.
    fn own_block(
        &self,
        draft: &mut Draft<'_>,
        cidr: IpNet,
    ) -> Result<Option<(AllocationBlock, bool)>, Stop> {
        let owner = &self.request.owner;
        if self.reservations.around(cidr).is_some() {
            return Ok(None);
        }
        let stored = match draft.block(cidr) {
            // A block that cannot be read cannot be used, and nobody can tell whose it is.
            Err(Stop::Failed(_)) => return Ok(None),
            other => other?,
        };
        match stored {
            None => {
                confirm(draft, owner, cidr)?;
                Ok(Some((self.fresh(draft, cidr), true)))
            }
            Some(block) if block.owner().as_ref() == Some(owner) => {
                confirm(draft, owner, cidr)?;
                Ok(Some((block, false)))
            }
            Some(_) => {
                if draft.len() < MAX_CLEANED {
                    draft.rely_on(&keys::block(cidr));
                    draft.delete(keys::affinity(owner, cidr));
                }
                Ok(None)
            }
        }
    }

    /// Claims a block for the owner. `None` if there is none to be had.
    fn new_block(
        &self,
        draft: &mut Draft<'_>,
        claims: &mut Vec<IpNet>,
    ) -> Result<Option<AllocationBlock>, Stop> {
        let owner = &self.request.owner;
        let limit = self.limit();
        if claims.len() >= limit as usize {
            return Err(IpamError::BlockLimit {
                owner: owner.clone(),
                limit,
            }
            .into());
        }
        if !self.config.auto_allocate_blocks {
            return Err(IpamError::NoNewBlocks(owner.clone()).into());
        }
        let found = match self.unclaimed_block(draft, claims)? {
            Some(block) => Some(block),
            None => self.abandoned_block(draft, claims)?,
        };
        if let Some(block) = &found {
            // Another claim of this owner since the claims were counted would break the limit, or
            // make this one needless.
            draft.rely_on_quiet(&keys::affinities(owner, self.version));
            confirm(draft, owner, block.cidr)?;
            claims.push(block.cidr);
            if let Some(pool) = self
                .pools
                .iter()
                .find(|pool| pool.net.contains(&block.cidr))
            {
                draft.rely_on(&resource_key(Kind::IpPool, &pool.name).path());
            }
        }
        Ok(found)
    }

    /// The first block that does not exist, or is the owner's own though nobody claims it.
    fn unclaimed_block(
        &self,
        draft: &mut Draft<'_>,
        claims: &[IpNet],
    ) -> Result<Option<AllocationBlock>, Stop> {
        // The first few are looked at one by one, which is all it takes unless pools are crowded.
        let probes: Vec<IpNet> = self
            .walks(draft)
            .take(1)
            .flat_map(|(_, walk)| walk.blocks(&self.reservations).take(PROBES))
            .collect();
        draft.need(probes.iter().map(|cidr| Want::Key(keys::block(*cidr))))?;
        for cidr in probes {
            if let Some(block) = self.if_unclaimed(draft, cidr, claims)? {
                return Ok(Some(block));
            }
        }
        draft.need([Want::Prefix(keys::blocks(self.version))])?;
        // Every block that is passed over exists or has all its addresses reserved one by one, so
        // that this ends long before a large pool does.
        for (_, walk) in self.walks(draft).collect::<Vec<_>>() {
            for cidr in walk.blocks(&self.reservations) {
                if let Some(block) = self.if_unclaimed(draft, cidr, claims)? {
                    return Ok(Some(block));
                }
            }
        }
        Ok(None)
    }

    fn if_unclaimed(
        &self,
        draft: &Draft<'_>,
        cidr: IpNet,
        claims: &[IpNet],
    ) -> Result<Option<AllocationBlock>, Stop> {
        let block = if draft.value(&keys::block(cidr))?.is_none() {
            self.fresh(draft, cidr)
        } else {
            let own = readable(draft.block(cidr))?
                .filter(|block| block.owner().as_ref() == Some(&self.request.owner))
                .filter(|_| !claims.contains(&cidr));
            let Some(mut block) = own else {
                return Ok(None);
            };
            block.collect(draft.now(), self.config.ip_cooldown_seconds);
            block.sequence_number = block.sequence_number.wrapping_add(1);
            block
        };
        Ok((block.free(&self.reservations) > 0).then_some(block))
    }

    /// Another's empty block that its owner has had for long enough to use it, to be made anew.
    fn abandoned_block(
        &self,
        draft: &mut Draft<'_>,
        claims: &[IpNet],
    ) -> Result<Option<AllocationBlock>, Stop> {
        let owner = &self.request.owner;
        let mut empty = Vec::new();
        for cidr in self.existing_blocks(draft)? {
            if claims.contains(&cidr) {
                continue;
            }
            let Some(mut block) = readable(draft.block(cidr))? else {
                continue;
            };
            block.collect(draft.now(), self.config.ip_cooldown_seconds);
            if block.owner().as_ref() == Some(owner) || block.free(&self.reservations) == 0 {
                continue;
            }
            if block.is_empty() && block.claimed_at().seconds_until(draft.now()) >= MIN_RECLAIM_AGE
            {
                empty.push(block);
            }
        }
        for block in empty {
            if let Some(other) = block.owner() {
                let affinity = keys::affinity(&other, block.cidr);
                draft.need([Want::Key(affinity.clone())])?;
                draft.delete(affinity);
            }
            let mut fresh = self.fresh(draft, block.cidr);
            fresh.sequence_number = fresh
                .sequence_number
                .max(block.sequence_number.wrapping_add(1));
            if fresh.free(&self.reservations) > 0 {
                return Ok(Some(fresh));
            }
        }
        Ok(None)
    }

    /// Blocks that are kept for others, or for nobody.
    fn others_blocks(&self, draft: &Draft<'_>) -> Result<Vec<IpNet>, Stop> {
        let claims: BTreeSet<IpNet> = draft
            .claims(&self.request.owner, self.version)?
            .into_iter()
            .collect();
        let mut blocks = self.existing_blocks(draft)?;
        blocks.retain(|cidr| !claims.contains(cidr) && self.reservations.around(*cidr).is_none());
        Ok(blocks)
    }

    /// The blocks there are in the chosen pools, in the order of the owner's walks.
    fn existing_blocks(&self, draft: &Draft<'_>) -> Result<Vec<IpNet>, Stop> {
        let existing: Vec<IpNet> = draft
            .keys_under(&keys::blocks(self.version))?
            .iter()
            .filter_map(|key| keys::parse_block(key))
            .collect();
        let mut ordered = Vec::new();
        for (pool, walk) in self.walks(draft) {
            let mut steps: Vec<(u128, IpNet)> = existing
                .iter()
                .filter(|cidr| pool.net.contains(*cidr))
                .filter_map(|cidr| Some((walk.step_of(cidr.network())?, *cidr)))
                .collect();
            steps.sort_unstable();
            ordered.extend(steps.into_iter().map(|(_, cidr)| cidr));
        }
        Ok(ordered)
    }

    fn walks<'s>(&'s self, draft: &Draft<'_>) -> impl Iterator<Item = (&'s Pool, Walk)> + use<'s> {
        let entropy = draft.moment.entropy;
        self.pools
            .iter()
            .filter_map(move |pool| Some((pool, Walk::new(pool, &self.request.owner, entropy)?)))
    }

    fn take(
        &self,
        draft: &mut Draft<'_>,
        mut block: AllocationBlock,
        is_new: bool,
        count: usize,
    ) -> Result<Vec<IpNet>, Stop> {
        block.collect(draft.now(), self.config.ip_cooldown_seconds);
        let taken = block.take(count, &self.request.assignee, &self.reservations);
        let cidr = block.cidr;
        if !taken.is_empty() {
            if block.owner().as_ref() == Some(&self.request.owner) {
                draft.rely_on(&keys::affinity(&self.request.owner, cidr));
            }
            if let Some(handle) = &self.request.assignee.handle {
                draft.count_handle(handle, cidr, taken.len() as i64)?;
            }
        }
        if !taken.is_empty() {
            draft.put_block(block);
        } else if is_new {
            draft.put_new_block(&block);
        }
        Ok(taken
            .into_iter()
            .map(|address| with_length(address, cidr))
            .collect())
    }

    fn fresh(&self, draft: &Draft<'_>, cidr: IpNet) -> AllocationBlock {
        AllocationBlock::new(
            cidr,
            Some(&self.request.owner),
            self.request.host_reserved(self.version),
            draft.now(),
            draft.moment.nanoseconds,
        )
    }

    fn limit(&self) -> u32 {
        let set = |limit: u32| (limit > 0).then_some(limit);
        let asked = self.request.max_blocks.and_then(set);
        let configured = set(self.config.max_blocks_per_host);
        match (asked, configured) {
            (Some(asked), Some(configured)) => asked.min(configured),
            (Some(limit), None) | (None, Some(limit)) => limit,
            (None, None) => DEFAULT_MAX_BLOCKS,
        }
    }
}

/// How many blocks to look at one by one before all are listed.
const PROBES: usize = 16;
/// For how many seconds nobody takes another's block however empty it is: its owner may be about to
/// use it.
pub(super) const MIN_RECLAIM_AGE: u64 = 60;
/// How much of a transaction mending and giving up may take.
const MAX_CLEANED: usize = 40;

/// Nothing, if it is there but cannot be read.
fn readable<T>(read: Result<Option<T>, Stop>) -> Result<Option<T>, Stop> {
    match read {
        Err(Stop::Failed(_)) => Ok(None),
        other => other,
    }
}

fn with_length(address: IpAddr, block: IpNet) -> IpNet {
    IpNet::new(address, block.prefix_len()).unwrap_or(block)
}

fn check_names(owner: &Owner, assignee: &Assignee) -> Result<(), IpamError> {
    if !keys::is_segment(owner.name()) {
        return Err(IpamError::BadName(owner.name().to_owned()));
    }
    match &assignee.handle {
        Some(handle) if !keys::is_segment(handle) || handle.contains('\r') => {
            Err(IpamError::BadName(handle.clone()))
        }
        _ => Ok(()),
    }
}

fn check_handle_limit(
    draft: &Draft<'_>,
    assignee: &Assignee,
    wanted: IpVersion,
    count: usize,
    limit: Option<u32>,
) -> Result<(), Stop> {
    let (Some(id), Some(limit)) = (&assignee.handle, limit.filter(|limit| *limit > 0)) else {
        return Ok(());
    };
    let has: i64 = draft
        .handle(id)?
        .unwrap_or_default()
        .block
        .iter()
        .filter_map(|(cidr, count)| Some((cidr.parse::<IpNet>().ok()?, *count)))
        .filter(|(cidr, _)| version(*cidr) == wanted)
        .map(|(_, count)| count.max(0))
        .fold(0, i64::saturating_add);
    if has.saturating_add(count as i64) > i64::from(limit) {
        return Err(IpamError::HandleLimit {
            handle: id.clone(),
            limit,
        }
        .into());
    }
    Ok(())
}

/// The longest prefix of a block that has an address left beside those kept by the host.
fn max_block_len(version: IpVersion, reserved: Option<&HostReserved>) -> u8 {
    let whole = match version {
        IpVersion::V4 => 32,
        IpVersion::V6 => 128,
    };
    let kept = reserved.map_or(0, |reserved| reserved.start.saturating_add(reserved.end));
    let bits = (0..32)
        .find(|bits| 1u64 << bits > u64::from(kept))
        .unwrap_or(32);
    whole - bits
}
