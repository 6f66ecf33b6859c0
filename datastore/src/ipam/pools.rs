//! Which pools an address may come from, and in which order their blocks are tried.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;

use super::{
    IpamError,
    addr::{Subnets, version},
    block::Reservations,
    go_rand::GoRand,
    keys::Owner,
    model::is_block_len,
    view::{Draft, Stop},
};
use crate::{
    Key, Kind, Problem,
    resource::{AllowedUse, AssignmentMode, IpPoolSpec, Node, Resource, decode},
    value::{Cidr, IpVersion},
};

/// A pool that blocks can be cut from.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    /// Its name.
    pub(super) name: String,
    /// Its addresses.
    pub(super) net: IpNet,
    /// The prefix length of its blocks.
    pub(super) block_len: u8,
    /// What else it says.
    pub(super) spec: IpPoolSpec,
}

impl Pool {
    /// The block of the pool that an address is in.
    pub(super) fn block_of(&self, address: IpAddr) -> Option<IpNet> {
        let blocks = Subnets::new(self.net, self.block_len)?;
        blocks.at(blocks.number_of(address)?)
    }

    /// Whether it is for this owner, by the labels of the owner's node.
    pub(super) fn selects(&self, node: Option<&Node>) -> bool {
        match (&self.spec.node_selector, node) {
            (Some(selector), Some(node)) => selector.matches(&node.metadata.labels),
            (None, _) | (_, None) => true,
        }
    }

    /// Whether its addresses may be used so.
    pub(super) fn allows(&self, wanted: AllowedUse) -> bool {
        if self.spec.allowed_uses.is_empty() {
            matches!(wanted, AllowedUse::Workload | AllowedUse::Tunnel)
        } else {
            self.spec.allowed_uses.contains(&wanted)
        }
    }
}

/// Whether the pool of a block is no longer for the owner of this node.
pub(super) fn is_unselected(pools: &[Pool], cidr: IpNet, node: Option<&Node>) -> bool {
    pools
        .iter()
        .find(|pool| !pool.spec.disabled && pool.net.contains(&cidr))
        .is_some_and(|pool| !pool.selects(node))
}

/// Where the pools lie.
pub(super) fn pools_root() -> String {
    Kind::IpPool.prefix()
}

/// Where the reservations lie.
pub(super) fn reservations_root() -> String {
    Kind::IpReservation.prefix()
}

/// The key of a node or a pool.
pub(super) fn resource_key(kind: Kind, name: &str) -> Key {
    Key::Resource {
        kind,
        namespace: None,
        name: name.to_owned(),
    }
}

/// All pools that can be read, disabled ones among them, in the order of their names.
pub(super) fn all_pools(draft: &Draft<'_>) -> Result<Vec<Pool>, Stop> {
    let mut pools = Vec::new();
    for path in draft.keys_under(&pools_root())? {
        let Some(bytes) = draft.value(&path)? else {
            continue;
        };
        // A pool that cannot be read is as good as gone; who watches the store tells of it.
        if let Some(key) = Key::parse(&path)
            && let Ok(Resource::IpPool(pool)) = decode(&key, bytes)
        {
            let (net, block_len) = (pool.spec.cidr.net(), pool.spec.block_len());
            if is_block_len(version(net), block_len) && Subnets::new(net, block_len).is_some() {
                pools.push(Pool {
                    name: pool.metadata.name,
                    net,
                    block_len,
                    spec: pool.spec,
                });
            }
        }
    }
    Ok(pools)
}

/// The addresses that are reserved. One reservation that cannot be read stops everything: it might
/// reserve any address.
pub(super) fn reservations(draft: &Draft<'_>) -> Result<Reservations, Stop> {
    let mut nets = Vec::new();
    for path in draft.keys_under(&reservations_root())? {
        let Some(bytes) = draft.value(&path)? else {
            continue;
        };
        let key = Key::parse(&path)
            .ok_or_else(|| Problem::new(&path, "", "is no place of an IPReservation"))?;
        if let Resource::IpReservation(reservation) = decode(&key, bytes)? {
            nets.extend(reservation.spec.reserved_cidrs.iter().map(Cidr::net));
        }
    }
    Ok(Reservations::new(nets))
}

/// The node of an owner that is a host.
pub(super) fn node_of(draft: &Draft<'_>, owner: &Owner) -> Result<Option<Node>, Stop> {
    let Owner::Host(name) = owner else {
        return Ok(None);
    };
    let key = resource_key(Kind::Node, name);
    let bytes = draft
        .value(&key.path())?
        .ok_or_else(|| IpamError::NoNode(name.clone()))?;
    if let Resource::Node(node) = decode(&key, bytes)? {
        Ok(Some(node))
    } else {
        Err(IpamError::NoNode(name.clone()).into())
    }
}

/// What a pool must be good for.
pub(super) struct Wanted<'a> {
    /// The family.
    pub(super) version: IpVersion,
    /// What the address is for.
    pub(super) allowed_use: AllowedUse,
    /// The labels of the owner's namespace, if it is in one.
    pub(super) namespace: Option<&'a BTreeMap<String, String>>,
    /// The owner's node, if it is a host.
    pub(super) node: Option<&'a Node>,
    /// The pools that the owner asks for; all if it asks for none.
    pub(super) requested: &'a [IpNet],
    /// The longest prefix of a block that leaves room for what the host keeps for itself.
    pub(super) max_block_len: u8,
}

/// The pools that are good for it, in the order in which they are tried.
pub(super) fn choose(pools: &[Pool], wanted: &Wanted<'_>) -> Result<Vec<Pool>, IpamError> {
    let usable = |pool: &&Pool| {
        !pool.spec.disabled
            && version(pool.net) == wanted.version
            && pool.block_len <= wanted.max_block_len
    };
    let selected: Vec<&Pool> = if wanted.requested.is_empty() {
        pools
            .iter()
            .filter(usable)
            .filter(|pool| pool.spec.assignment_mode != Some(AssignmentMode::Manual))
            .filter(|pool| pool.selects(wanted.node))
            .filter(|pool| match &pool.spec.namespace_selector {
                None => true,
                Some(selector) => wanted
                    .namespace
                    .is_some_and(|labels| selector.matches(labels)),
            })
            .collect()
    } else {
        // Who asks for a pool by name gets it, whatever it selects.
        let mut selected = Vec::new();
        for requested in wanted.requested {
            let pool = pools
                .iter()
                .filter(usable)
                .find(|pool| pool.net == requested.trunc())
                .ok_or(IpamError::NoSuchPool(*requested))?;
            selected.push(pool);
        }
        selected
    };
    let chosen: Vec<Pool> = selected
        .into_iter()
        .filter(|pool| pool.allows(wanted.allowed_use))
        .cloned()
        .collect();
    if chosen.is_empty() {
        return Err(IpamError::NoPool {
            version: wanted.version,
            allowed_use: wanted.allowed_use,
        });
    }
    Ok(chosen)
}

/// The order in which one owner tries the blocks of a pool: from a start that is its own, once
/// around. Owners that start apart seldom want the same block, and one owner always wants the same,
/// so that its concurrent claims meet in one block rather than take several.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk {
    blocks: Subnets,
    start: u128,
}

impl Walk {
    /// The start is drawn as Calico's clients draw it, seeded with FNV-32 of the owner's name. If
    /// blocks are of one address there is nothing to meet in, and any start will do.
    pub(super) fn new(pool: &Pool, owner: &Owner, entropy: u64) -> Option<Self> {
        let blocks = Subnets::new(pool.net, pool.block_len)?;
        let start = if pool.block_len == pool.net.max_prefix_len() {
            u128::from(entropy) & blocks.last()
        } else {
            let bits = u32::from(pool.block_len - pool.net.prefix_len());
            GoRand::new(fnv32(owner.name().as_bytes())).below_power_of_two(bits)
        };
        Some(Self { blocks, start })
    }

    /// How many steps from the start a block is.
    pub(super) fn step_of(&self, address: IpAddr) -> Option<u128> {
        let number = self.blocks.number_of(address)?;
        Some(if number >= self.start {
            number - self.start
        } else {
            // Once around: first to the end of the pool, then from its beginning.
            self.blocks.last() - self.start + 1 + number
        })
    }

    /// The block a number of steps from the start.
    fn at(&self, step: u128) -> Option<IpNet> {
        let to_end = self.blocks.last() - self.start;
        if step <= to_end {
            self.blocks.at(self.start + step)
        } else {
            let number = step - to_end - 1;
            (number < self.start).then(|| self.blocks.at(number))?
        }
    }

    /// The blocks in their order, without those that are reserved as a whole. A reservation is
    /// stepped over at once, however many blocks are in it.
    pub(super) fn blocks(self, reservations: &Reservations) -> impl Iterator<Item = IpNet> {
        let mut step = 0u128;
        std::iter::from_fn(move || {
            loop {
                let block = self.at(step)?;
                let Some(reserved) = reservations.around(block) else {
                    step = step.saturating_add(1);
                    return Some(block);
                };
                let number = self.blocks.number_of(block.network())?;
                let last = self
                    .blocks
                    .number_of(reserved.broadcast())
                    .unwrap_or(self.blocks.last());
                step = step.saturating_add(last.saturating_sub(number).saturating_add(1));
            }
        })
    }
}

/// The Fowler/Noll/Vo hash of 32 bits, the older kind that multiplies first.
fn fnv32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash: u32, byte| {
        hash.wrapping_mul(0x0100_0193) ^ u32::from(*byte)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn pool(cidr: &str, block_len: u8) -> Pool {
        let spec: IpPoolSpec =
            serde_json::from_value(serde_json::json!({"cidr": cidr, "blockSize": block_len}))
                .unwrap();
        Pool {
            name: "p".to_owned(),
            net: spec.cidr.net(),
            block_len,
            spec,
        }
    }

    #[test]
    fn a_hash_is_that_of_fowler_noll_and_vo() {
        assert_eq!(fnv32(b""), 0x811c_9dc5);
        assert_eq!(fnv32(b"a"), 0x050c_5d7e);
        assert_eq!(fnv32(b"foobar"), 0x31f0_b262);
    }

    #[test]
    fn a_walk_visits_every_block_once() {
        for (cidr, len, count) in [
            ("10.0.0.0/20", 26, 64),
            ("fd00::/116", 122, 64),
            ("10.0.0.0/26", 26, 1),
        ] {
            let pool = pool(cidr, len);
            let walk = Walk::new(&pool, &Owner::host("node-1"), 0).unwrap();
            let visited: Vec<IpNet> = walk.blocks(&Reservations::default()).collect();
            assert_eq!(visited.len(), count, "{cidr}");
            assert_eq!(
                visited.iter().collect::<BTreeSet<_>>().len(),
                count,
                "{cidr}"
            );
            for (step, block) in visited.iter().enumerate() {
                assert_eq!(walk.step_of(block.addr()), Some(step as u128), "{cidr}");
            }
        }
    }

    #[test]
    fn owners_start_apart_and_each_at_its_own_place() {
        let pool = pool("fd00::/48", 122);
        let first = |name: &str| {
            let walk = Walk::new(&pool, &Owner::host(name), 7).unwrap();
            walk.blocks(&Reservations::default()).next().unwrap()
        };
        assert_eq!(first("node-1"), first("node-1"));
        assert_ne!(first("node-1"), first("node-2"));
    }

    #[test]
    fn a_reservation_of_most_of_a_pool_is_stepped_over() {
        let pool = pool("fd00::/48", 122);
        let reserved = Reservations::new([
            "fd00::/49".parse().unwrap(),
            "fd00:0:0:8000::/50".parse().unwrap(),
        ]);
        let walk = Walk::new(&pool, &Owner::host("node-1"), 0).unwrap();
        let block = walk.blocks(&reserved).next().unwrap();
        let left: IpNet = "fd00:0:0:c000::/50".parse().unwrap();
        assert!(left.contains(&block), "{block}");
        let all = Reservations::new(["fd00::/16".parse().unwrap()]);
        assert_eq!(walk.blocks(&all).next(), None);
    }
}
