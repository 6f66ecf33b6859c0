//! Routes of this host that come from resources, and what it tells its BGP peers.
//!
//! Every address of a local endpoint leads to its interface. A block of addresses held by this host is told as one prefix and
//! ends in a blackhole, so that packets to addresses nobody has do not come back from the fabric. An address from elsewhere
//! (another host's block, or no block at all) is told by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use cleat_datastore::resource::{AffinityState, AllowedUse, BlockAffinity, IpPool};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// A route that a resource asks for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Route {
    /// To a workload's interface.
    Dev(Arc<str>),
    /// Nowhere.
    Blackhole,
}

/// Why a prefix is told to peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Originated {
    /// A block of this host.
    Block,
    /// An address of a local endpoint that lies in none of this host's blocks.
    Address,
}

/// The pools in force, by prefix.
#[derive(Debug, Default)]
pub(crate) struct Pools(BTreeMap<IpNet, Arc<IpPool>>);

impl Pools {
    /// Of pools with prefixes of their own.
    pub(crate) fn new<'a>(pools: impl Iterator<Item = &'a Arc<IpPool>>) -> Self {
        let pools = pools.filter(|pool| for_workloads(pool));
        Self(
            pools
                .map(|pool| (pool.spec.cidr.net(), pool.clone()))
                .collect(),
        )
    }

    /// The longest pool around a prefix.
    fn covering(&self, net: &IpNet) -> Option<&IpPool> {
        let covering = self.0.iter().filter(|(cidr, _)| cidr.contains(net));
        let longest = covering.max_by_key(|(cidr, _)| cidr.prefix_len());
        longest.map(|(_, pool)| pool.as_ref())
    }
}

/// Whether workloads have addresses from the pool.
pub(crate) fn for_workloads(pool: &IpPool) -> bool {
    let uses = &pool.spec.allowed_uses;
    uses.is_empty() || uses.iter().any(|usage| *usage != AllowedUse::LoadBalancer)
}

/// What routes and origination are computed from.
pub(crate) struct Input<'a> {
    pub(crate) pools: &'a Pools,
    pub(crate) affinities: &'a BTreeMap<IpNet, Arc<BlockAffinity>>,
    /// The addresses of local endpoints, with their interface.
    pub(crate) addresses: &'a BTreeMap<IpAddr, Arc<str>>,
}

impl Input<'_> {
    pub(crate) fn routes(&self) -> BTreeMap<IpNet, Route> {
        let held = self
            .affinities
            .iter()
            .filter(|(_, affinity)| !affinity.deleted)
            .map(|(block, _)| *block);
        let blocks = held
            .filter(|block| block.prefix_len() < block.max_prefix_len())
            .map(|block| (block, Route::Blackhole));
        let addresses = self
            .addresses
            .iter()
            .map(|(address, interface)| (IpNet::from(*address), Route::Dev(interface.clone())));
        blocks.chain(addresses).collect()
    }

    pub(crate) fn originated(&self) -> BTreeMap<IpNet, Originated> {
        let exported = |net: &IpNet| {
            self.pools
                .covering(net)
                .is_some_and(|pool| !pool.spec.disable_bgp_export)
        };
        let blocks: BTreeSet<IpNet> = self
            .affinities
            .iter()
            .filter(|(_, affinity)| affinity.state == AffinityState::Confirmed && !affinity.deleted)
            .map(|(block, _)| *block)
            .collect();
        let elsewhere = self
            .addresses
            .keys()
            .map(|address| IpNet::from(*address))
            .filter(|net| !blocks.iter().any(|block| block.contains(net)));
        // A pool that is disabled gives out no more addresses; those given out stay reachable.
        let addresses = elsewhere
            .filter(exported)
            .map(|net| (net, Originated::Address))
            .collect::<Vec<_>>();
        blocks
            .iter()
            .filter(|block| exported(block))
            .map(|block| (*block, Originated::Block))
            .chain(addresses)
            .collect()
    }
}
