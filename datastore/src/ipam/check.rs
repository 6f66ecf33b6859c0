//! Whether everything IPAM holds fits together, and fits what endpoints and nodes use.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use serde::Serialize;

use super::{
    affinity::all_claims,
    keys::{self, Owner},
    kv::Want,
    model::{AffinityState, AllocationBlock, Attribute, Handle},
    pools::{all_pools, pools_root},
    settings,
    view::{Draft, Stop},
};
use crate::{
    Key, Kind, Problem,
    resource::{Node, Resource, decode},
};

/// Something that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(
    tag = "finding",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum Finding {
    /// What is stored under a key cannot be read. Nobody can take from such a block.
    Unreadable {
        /// The key.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Places are both free and assigned, or neither, or free twice. The free list is not trusted
    /// for the first, and the second are lost until the block is mended.
    FreeListWrong {
        /// The block.
        block: IpNet,
        /// The places.
        places: Vec<u32>,
    },
    /// Two blocks have addresses in common, which may be given twice.
    Overlap {
        /// The larger block.
        block: IpNet,
        /// The block in it.
        inner: IpNet,
    },
    /// A block is in no pool.
    OutsidePools {
        /// The block.
        block: IpNet,
    },
    /// A block is kept for an owner that has no claim on it. The next claim mends it.
    Unclaimed {
        /// The block.
        block: IpNet,
        /// The owner it names.
        affinity: String,
    },
    /// A claim is on a block that is not there or not the owner's, or it is half-done. The owner's
    /// next assignment mends it.
    StaleClaim {
        /// The block.
        block: IpNet,
        /// Who claims it.
        owner: String,
        /// How far the claim has come.
        state: String,
    },
    /// A handle counts other addresses than the block says. Releasing the handle mends it.
    HandleCount {
        /// The handle.
        handle: String,
        /// The block.
        block: String,
        /// What the handle says.
        counted: i64,
        /// What the block says.
        assigned: i64,
    },
    /// An address is assigned, but no endpoint and no node uses it.
    Leaked {
        /// The address.
        address: IpAddr,
        /// The handle it is assigned by.
        handle: Option<String>,
        /// The node that has it, as its attributes say.
        node: Option<String>,
        /// The number it was assigned under, to release it by.
        sequence_number: u64,
        /// When it was assigned, if its attributes say.
        assigned_at: Option<String>,
        /// How sure that is.
        leak: Leak,
    },
    /// A block without addresses is kept for a host that has no node any more.
    Orphaned {
        /// The block.
        block: IpNet,
        /// The host.
        owner: String,
    },
    /// An endpoint or a node uses an address of a pool that is not assigned.
    NotAssigned {
        /// The address.
        address: IpAddr,
        /// Who uses it.
        user: String,
    },
    /// Several endpoints or nodes use one address.
    UsedTwice {
        /// The address.
        address: IpAddr,
        /// Who uses it.
        users: Vec<String>,
    },
}

/// Why nobody seems to use an assigned address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Leak {
    /// The node it was assigned on is gone.
    NoNode,
    /// It was assigned to a pod that has no endpoint with it.
    NoEndpoint,
    /// There is no telling: nothing says what it was assigned to, or it is a virtual machine's or a
    /// load balancer's, which keep theirs when there is no endpoint, or a tunnel's of a node.
    Unknown,
}

/// Decides nothing: everything that does not fit.
pub(super) fn check(draft: &Draft<'_>) -> Result<Vec<Finding>, Stop> {
    draft.need(everything())?;

    let mut findings = Vec::new();
    let blocks = read_blocks(draft, &mut findings)?;
    for block in blocks.values() {
        check_free_list(block, &mut findings);
    }
    check_overlaps(&blocks, &mut findings);
    check_claims(draft, &blocks, &mut findings)?;
    check_handles(draft, &blocks, &mut findings)?;
    let pools: Vec<IpNet> = all_pools(draft)?.iter().map(|pool| pool.net).collect();
    let in_pools = |net: &IpNet| pools.iter().any(|pool| pool.contains(net));
    for cidr in blocks.keys().filter(|cidr| !in_pools(cidr)) {
        findings.push(Finding::OutsidePools { block: *cidr });
    }
    let mut users = users(draft, &mut findings)?;
    users.retain(|address, _| in_pools(&IpNet::from(*address)));
    let nodes: BTreeSet<String> = draft
        .keys_under(&Kind::Node.prefix())?
        .iter()
        .filter_map(|key| Some(Key::parse(key)?.name().to_owned()))
        .collect();
    for block in blocks.values().filter(|block| block.is_empty()) {
        if let Some(owner @ Owner::Host(_)) = block.owner()
            && !nodes.contains(owner.name())
        {
            findings.push(Finding::Orphaned {
                block: block.cidr,
                owner: owner.to_string(),
            });
        }
    }
    check_users(&blocks, users, &nodes, &mut findings);
    findings.sort();
    Ok(findings)
}

/// What is read to see how all of it fits.
pub(super) fn everything() -> Vec<Want> {
    let mut wants = settings::wants().to_vec();
    wants.extend([
        Want::Prefix(keys::BLOCKS.to_owned()),
        Want::Prefix(keys::HANDLES.to_owned()),
        Want::Prefix(pools_root()),
        Want::Prefix(Kind::Node.prefix()),
        Want::Prefix(Kind::WorkloadEndpoint.prefix()),
    ]);
    wants.extend(keys::all_affinities().map(Want::Prefix));
    wants
}

fn unreadable(problem: &Problem) -> Finding {
    Finding::Unreadable {
        key: problem.object.clone(),
        reason: format!("{} {}", problem.field, problem.reason)
            .trim()
            .to_owned(),
    }
}

pub(super) fn read_blocks(
    draft: &Draft<'_>,
    findings: &mut Vec<Finding>,
) -> Result<BTreeMap<IpNet, AllocationBlock>, Stop> {
    let mut blocks = BTreeMap::new();
    for key in draft.keys_under(keys::BLOCKS)? {
        let bytes = draft.value(&key)?.unwrap_or_default();
        match AllocationBlock::decode(&key, bytes) {
            Ok(block) if block.deleted => {}
            Ok(block) => {
                blocks.insert(block.cidr, block);
            }
            Err(problem) => findings.push(unreadable(&problem)),
        }
    }
    Ok(blocks)
}

fn check_free_list(block: &AllocationBlock, findings: &mut Vec<Finding>) {
    let mut listed = vec![0u32; block.size()];
    for place in &block.unallocated {
        if let Some(count) = listed.get_mut(*place as usize) {
            *count += 1;
        }
    }
    let places: Vec<u32> = (0..block.size() as u32)
        .filter(|place| {
            let wanted = u32::from(block.attribute_of(*place).is_none());
            listed[*place as usize] != wanted
        })
        .collect();
    if !places.is_empty() {
        findings.push(Finding::FreeListWrong {
            block: block.cidr,
            places,
        });
    }
}

/// Nets either hold one another or are apart, and a net sorts right before what it holds.
fn check_overlaps(blocks: &BTreeMap<IpNet, AllocationBlock>, findings: &mut Vec<Finding>) {
    let mut around: Vec<IpNet> = Vec::new();
    for cidr in blocks.keys() {
        while around.last().is_some_and(|outer| !outer.contains(cidr)) {
            around.pop();
        }
        if let Some(outer) = around.last() {
            findings.push(Finding::Overlap {
                block: *outer,
                inner: *cidr,
            });
        }
        around.push(*cidr);
    }
}

fn check_claims(
    draft: &Draft<'_>,
    blocks: &BTreeMap<IpNet, AllocationBlock>,
    findings: &mut Vec<Finding>,
) -> Result<(), Stop> {
    let mut claimed: BTreeSet<(Owner, IpNet)> = BTreeSet::new();
    for (owner, cidr) in all_claims(draft)? {
        let affinity = match draft.affinity(&owner, cidr) {
            Ok(Some(affinity)) => affinity,
            Ok(None) => continue,
            Err(Stop::Failed(super::IpamError::Unreadable(problem))) => {
                findings.push(unreadable(&problem));
                continue;
            }
            Err(stop) => return Err(stop),
        };
        let is_owned = blocks
            .get(&cidr)
            .is_some_and(|block| block.owner().as_ref() == Some(&owner));
        if !is_owned || affinity.state != AffinityState::Confirmed || affinity.deleted {
            let state = match affinity.state {
                AffinityState::Confirmed => "confirmed",
                AffinityState::Pending => "pending",
                AffinityState::PendingDeletion => "pendingDeletion",
            };
            findings.push(Finding::StaleClaim {
                block: cidr,
                owner: owner.to_string(),
                state: state.to_owned(),
            });
        }
        claimed.insert((owner, cidr));
    }
    for (cidr, block) in blocks {
        if let Some(owner) = block.owner()
            && !claimed.contains(&(owner.clone(), *cidr))
        {
            findings.push(Finding::Unclaimed {
                block: *cidr,
                affinity: owner.to_string(),
            });
        }
    }
    Ok(())
}

fn check_handles(
    draft: &Draft<'_>,
    blocks: &BTreeMap<IpNet, AllocationBlock>,
    findings: &mut Vec<Finding>,
) -> Result<(), Stop> {
    let mut counts: BTreeMap<(String, String), (i64, i64)> = BTreeMap::new();
    for (cidr, block) in blocks {
        for (handle, count) in block.handle_counts() {
            // What a host keeps for itself is assigned by a handle that is never stored.
            if !handle.eq_ignore_ascii_case(super::WINDOWS_HANDLE) {
                counts
                    .entry((handle.to_owned(), cidr.to_string()))
                    .or_default()
                    .1 = count;
            }
        }
    }
    for key in draft.keys_under(keys::HANDLES)? {
        let Some(id) = keys::parse_handle(&key) else {
            continue;
        };
        let bytes = draft.value(&key)?.unwrap_or_default();
        match super::model::decode::<Handle>(&key, bytes) {
            Ok(handle) => {
                for (cidr, count) in handle.block {
                    counts.entry((id.to_owned(), cidr)).or_default().0 = count;
                }
            }
            Err(problem) => findings.push(unreadable(&problem)),
        }
    }
    findings.extend(
        counts
            .into_iter()
            .filter(|(_, (counted, assigned))| counted != assigned)
            .map(
                |((handle, block), (counted, assigned))| Finding::HandleCount {
                    handle,
                    block,
                    counted,
                    assigned,
                },
            ),
    );
    Ok(())
}

/// Who uses which addresses: endpoints, and nodes for their tunnels.
pub(super) fn users(
    draft: &Draft<'_>,
    findings: &mut Vec<Finding>,
) -> Result<BTreeMap<IpAddr, Vec<String>>, Stop> {
    let mut users: BTreeMap<IpAddr, Vec<String>> = BTreeMap::new();
    for kind in [Kind::WorkloadEndpoint, Kind::Node] {
        for path in draft.keys_under(&kind.prefix())? {
            let Some(key) = Key::parse(&path) else {
                continue;
            };
            let bytes = draft.value(&path)?.unwrap_or_default();
            let addresses = match decode(&key, bytes) {
                Ok(Resource::WorkloadEndpoint(endpoint)) => endpoint
                    .spec
                    .ip_networks
                    .iter()
                    .filter(|net| net.is_host())
                    .map(crate::value::Cidr::addr)
                    .collect(),
                Ok(Resource::Node(node)) => tunnel_addresses(&node),
                Ok(_) => Vec::new(),
                Err(problem) => {
                    findings.push(unreadable(&problem));
                    Vec::new()
                }
            };
            for address in addresses.into_iter().collect::<BTreeSet<_>>() {
                users.entry(address).or_default().push(key.to_string());
            }
        }
    }
    Ok(users)
}

fn leak(block: &AllocationBlock, attribute: &Attribute, nodes: &BTreeSet<String>) -> Leak {
    let has = |name: &str| {
        attribute
            .owner
            .get(name)
            .is_some_and(|text| !text.is_empty())
    };
    let keeps_without_endpoint = ["vmi-name", "vmi-uid", "vm-uid", "service"]
        .iter()
        .any(|name| has(name))
        || matches!(block.owner(), Some(Owner::Virtual(_)));
    if keeps_without_endpoint {
        Leak::Unknown
    } else if attribute
        .owner
        .get("node")
        .is_some_and(|node| !nodes.contains(node))
    {
        Leak::NoNode
    } else if has("pod") && has("namespace") {
        Leak::NoEndpoint
    } else {
        Leak::Unknown
    }
}

fn tunnel_addresses(node: &Node) -> Vec<IpAddr> {
    let spec = &node.spec;
    let bgp = spec.bgp.as_ref();
    let wireguard = spec.wireguard.as_ref();
    [
        spec.ipv4_vxlan_tunnel_addr.map(IpAddr::from),
        spec.ipv6_vxlan_tunnel_addr.map(IpAddr::from),
        bgp.and_then(|bgp| bgp.ipv4_ipip_tunnel_addr)
            .map(IpAddr::from),
        wireguard
            .and_then(|wireguard| wireguard.interface_ipv4_address)
            .map(IpAddr::from),
        wireguard
            .and_then(|wireguard| wireguard.interface_ipv6_address)
            .map(IpAddr::from),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn check_users(
    blocks: &BTreeMap<IpNet, AllocationBlock>,
    users: BTreeMap<IpAddr, Vec<String>>,
    nodes: &BTreeSet<String>,
    findings: &mut Vec<Finding>,
) {
    let mut assigned = BTreeSet::new();
    for block in blocks.values() {
        for (place, attribute) in block.attributes_in_use() {
            let Some(address) = block.address(place) else {
                continue;
            };
            let kept = attribute
                .handle()
                .is_some_and(|handle| handle.eq_ignore_ascii_case(super::WINDOWS_HANDLE));
            if attribute.is_released() || kept {
                continue;
            }
            assigned.insert(address);
            if !users.contains_key(&address) {
                findings.push(Finding::Leaked {
                    address,
                    handle: attribute.handle().map(str::to_owned),
                    node: attribute.owner.get("node").cloned(),
                    sequence_number: block.sequence_of(place),
                    assigned_at: attribute.owner.get("timestamp").cloned(),
                    leak: leak(block, attribute, nodes),
                });
            }
        }
    }
    for (address, users) in users {
        if !assigned.contains(&address) {
            findings.push(Finding::NotAssigned {
                address,
                user: users.first().cloned().unwrap_or_default(),
            });
        }
        if users.len() > 1 {
            findings.push(Finding::UsedTwice { address, users });
        }
    }
}
