//! What IPAM holds, for people to read.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use serde::Serialize;

use super::{
    block::Reservations,
    keys::{self, Owner},
    kv::Want,
    model::AllocationBlock,
    pools::{Pool, all_pools, pools_root, reservations, reservations_root},
    release::find_blocks,
    view::{Draft, Stop},
};

/// How full a pool is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolUse {
    /// Its name.
    pub name: String,
    /// Its addresses.
    pub cidr: IpNet,
    /// How many addresses it has; the largest number there is if it has more.
    pub size: u128,
    /// How many of them are assigned or cool down.
    pub in_use: u64,
    /// How many are reserved, assigned or not.
    pub reserved: u128,
    /// How many can be given unasked, in blocks that are there or may come.
    pub free: u128,
    /// How many were given back and cool down.
    pub cooling: u64,
    /// Its blocks.
    pub blocks: Vec<BlockUse>,
}

/// How full a block is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockUse {
    /// Its addresses.
    pub cidr: IpNet,
    /// Who it is kept for.
    pub affinity: Option<String>,
    /// How many addresses it has.
    pub size: usize,
    /// How many are assigned or cool down.
    pub in_use: usize,
    /// How many are reserved, assigned or not.
    pub reserved: usize,
    /// How many can be taken unasked.
    pub free: usize,
    /// How many were given back and cool down.
    pub cooling: usize,
    /// Those that others than its owner have.
    pub borrowed: Vec<Borrowed>,
}

/// An address of a block that is not kept for the one who has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Borrowed {
    /// The address.
    pub address: IpAddr,
    /// The node that has it, as its attributes say.
    pub node: String,
    /// The block it is in.
    pub block: IpNet,
    /// Who the block is kept for; empty for nobody.
    pub block_owner: String,
    /// What has it: `vmi`, `pod`, or a tunnel by its `type`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The pod or virtual machine that has it.
    pub allocated_to: String,
    /// The handle it is assigned by.
    pub handle: Option<String>,
}

/// One address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AddressInfo {
    /// The address.
    pub address: IpAddr,
    /// The block around it.
    pub block: IpNet,
    /// Who the block is kept for.
    pub affinity: Option<String>,
    /// The handle it is assigned by.
    pub handle: Option<String>,
    /// What its owner noted.
    pub attributes: BTreeMap<String, String>,
    /// What is noted of who is to have it next.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub alternate_owner: BTreeMap<String, String>,
    /// The number it was assigned under, to release it by.
    pub sequence_number: u64,
    /// When it was given back, if it cools down.
    pub released_at: Option<String>,
}

/// Decides nothing: how full the pools are, and the blocks in no pool.
pub(super) fn usage(draft: &Draft<'_>) -> Result<(Vec<PoolUse>, Vec<BlockUse>), Stop> {
    draft.need([
        Want::Prefix(pools_root()),
        Want::Prefix(reservations_root()),
        Want::Prefix(keys::BLOCKS.to_owned()),
    ])?;
    let reservations = reservations(draft)?;
    let mut pools: Vec<PoolUse> = all_pools(draft)?
        .into_iter()
        .map(|pool| empty_pool(pool, &reservations))
        .collect();
    let mut outside = Vec::new();
    for block in blocks(draft)? {
        let reserved = |place: &u32| {
            block
                .address(*place)
                .is_some_and(|address| reservations.hold(address))
        };
        let block_use = BlockUse {
            cidr: block.cidr,
            affinity: block.affinity.clone(),
            size: block.size(),
            in_use: block.attributes_in_use().count(),
            reserved: (0..block.size() as u32).filter(reserved).count(),
            free: block.free(&reservations),
            cooling: block
                .attributes_in_use()
                .filter(|(_, attribute)| attribute.is_released())
                .count(),
            borrowed: borrowed(&block),
        };
        match pools
            .iter_mut()
            .find(|pool| pool.cidr.contains(&block.cidr))
        {
            Some(pool) => {
                let both = block
                    .attributes_in_use()
                    .filter(|(place, _)| reserved(place))
                    .count();
                pool.in_use += block_use.in_use as u64;
                pool.cooling += block_use.cooling as u64;
                pool.free = pool.free.saturating_sub((block_use.in_use - both) as u128);
                pool.blocks.push(block_use);
            }
            None => outside.push(block_use),
        }
    }
    Ok((pools, outside))
}

/// Decides nothing: an address, if it is assigned or cools down.
pub(super) fn address(draft: &Draft<'_>, address: IpAddr) -> Result<Option<AddressInfo>, Stop> {
    draft.need([Want::Prefix(pools_root())])?;
    let Some(cidr) = find_blocks(draft, std::iter::once(address))?.remove(&address) else {
        return Ok(None);
    };
    Ok(draft
        .block(cidr)?
        .and_then(|block| info(&block, block.place(address)?)))
}

/// Decides nothing: the addresses of a handle.
pub(super) fn handle(draft: &Draft<'_>, id: &str) -> Result<Vec<AddressInfo>, Stop> {
    let Some(handle) = draft.handle(id)? else {
        return Err(super::IpamError::UnknownHandle(id.to_owned()).into());
    };
    let cidrs: Vec<IpNet> = handle
        .block
        .keys()
        .filter_map(|cidr| cidr.parse().ok())
        .collect();
    draft.need(cidrs.iter().map(|cidr| Want::Key(keys::block(*cidr))))?;
    let mut addresses = Vec::new();
    for cidr in cidrs {
        if let Some(block) = draft.block(cidr)? {
            addresses.extend(
                block
                    .places_of_handle(id)
                    .into_iter()
                    .filter_map(|place| info(&block, place)),
            );
        }
    }
    Ok(addresses)
}

/// All blocks that can be read, in the order of their addresses.
fn blocks(draft: &Draft<'_>) -> Result<Vec<AllocationBlock>, Stop> {
    let mut blocks = Vec::new();
    for key in draft.keys_under(keys::BLOCKS)? {
        if let Some(cidr) = keys::parse_block(&key) {
            match draft.block(cidr) {
                Ok(block) => blocks.extend(block),
                Err(Stop::Failed(_)) => {}
                Err(stop) => return Err(stop),
            }
        }
    }
    blocks.sort_by_key(|block| block.cidr);
    Ok(blocks)
}

fn empty_pool(pool: Pool, reservations: &Reservations) -> PoolUse {
    let size = size(pool.net);
    let reserved = reservations
        .within(pool.net)
        .into_iter()
        .map(self::size)
        .fold(0, u128::saturating_add);
    PoolUse {
        name: pool.name,
        cidr: pool.net,
        size,
        in_use: 0,
        reserved,
        free: size.saturating_sub(reserved),
        cooling: 0,
        blocks: Vec::new(),
    }
}

fn size(net: IpNet) -> u128 {
    let bits = u32::from(net.max_prefix_len() - net.prefix_len());
    1u128.checked_shl(bits).unwrap_or(u128::MAX)
}

fn borrowed(block: &AllocationBlock) -> Vec<Borrowed> {
    let owner = block.owner();
    let block_owner = owner.as_ref().map_or("", Owner::name);
    block
        .attributes_in_use()
        .filter_map(|(place, attribute)| {
            let note = |name: &str| attribute.owner.get(name).cloned();
            let node = note("node").filter(|node| *node != block_owner)?;
            let of = |name: String| {
                let namespace = note("namespace").unwrap_or_default();
                format!("{namespace}/{name}")
            };
            let (kind, allocated_to) = match (note("vmi-name"), note("pod"), note("type")) {
                (Some(machine), _, _) => ("vmi".to_owned(), of(machine)),
                (None, Some(pod), _) => ("pod".to_owned(), of(pod)),
                (None, None, kind) => (kind.unwrap_or_default(), String::new()),
            };
            Some(Borrowed {
                address: block.address(place)?,
                node,
                block: block.cidr,
                block_owner: block_owner.to_owned(),
                kind,
                allocated_to,
                handle: attribute.handle().map(str::to_owned),
            })
        })
        .collect()
}

fn info(block: &AllocationBlock, place: u32) -> Option<AddressInfo> {
    let attribute = block.attribute_of(place)?;
    Some(AddressInfo {
        address: block.address(place)?,
        block: block.cidr,
        affinity: block.affinity.clone(),
        handle: attribute.handle().map(str::to_owned),
        attributes: attribute.owner.clone(),
        alternate_owner: attribute.alternate_owner.clone(),
        sequence_number: block.sequence_of(place),
        released_at: attribute.released_at.clone(),
    })
}
