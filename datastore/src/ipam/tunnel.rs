//! The addresses of a host on its tunnel interfaces.
//!
//! A host has an address on a tunnel as long as a pool that selects it wants that tunnel. The
//! address is assigned by a handle of its own and stands in the host's node; both change in one
//! transaction. [`super::Ipam::ensure_tunnel_address`] looks at what there is and makes it what it
//! should be, so that it may be called at any time and as often as one likes.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use serde_json::{Map, Value};

use super::{
    IpamError,
    assign::{AssignRequest, assign},
    block::Assignee,
    keys::{self, Owner},
    kv::Want,
    model,
    pools::{Pool, all_pools, node_of, pools_root, resource_key},
    release::{self, ReleaseRequest, find_blocks},
    settings,
    view::{Draft, Stop},
};
use crate::{
    Kind, Problem,
    resource::{AllowedUse, EncapMode},
    value::IpVersion,
};

/// A kind of tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TunnelKind {
    /// IP in IP.
    Ipip,
    /// VXLAN over IPv4.
    Vxlan,
    /// VXLAN over IPv6.
    VxlanV6,
    /// WireGuard's IPv4 interface.
    Wireguard,
    /// WireGuard's IPv6 interface.
    WireguardV6,
}

/// The facts of a kind.
struct Facts {
    /// The `type` in the attributes of its addresses.
    attribute: &'static str,
    /// What the handle begins with.
    handle: &'static str,
    /// Where the address stands in a node's spec.
    field: &'static [&'static str],
    version: IpVersion,
}

impl TunnelKind {
    /// All kinds, in the order in which Calico goes through them.
    pub const ALL: [TunnelKind; 5] = [
        TunnelKind::Wireguard,
        TunnelKind::WireguardV6,
        TunnelKind::Ipip,
        TunnelKind::Vxlan,
        TunnelKind::VxlanV6,
    ];

    /// The `type` in the attributes of its addresses.
    pub fn attribute(self) -> &'static str {
        self.facts().attribute
    }

    /// The kind that a `type` in attributes names.
    pub fn from_attribute(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.attribute() == text)
    }

    /// The handle of a node's address.
    pub fn handle(self, node: &str) -> String {
        format!("{}-tunnel-addr-{node}", self.facts().handle)
    }

    /// What a node's address is assigned to.
    pub fn assignee(self, node: &str) -> Assignee {
        Assignee {
            handle: Some(self.handle(node)),
            attributes: BTreeMap::from([
                ("node".to_owned(), node.to_owned()),
                ("type".to_owned(), self.attribute().to_owned()),
            ]),
        }
    }

    /// The family of its addresses.
    pub fn version(self) -> IpVersion {
        self.facts().version
    }

    fn facts(self) -> Facts {
        use IpVersion::{V4, V6};
        let (attribute, handle, field, version): (_, _, &[_], _) = match self {
            TunnelKind::Ipip => (
                "ipipTunnelAddress",
                "ipip",
                &["bgp", "ipv4IPIPTunnelAddr"],
                V4,
            ),
            TunnelKind::Vxlan => ("vxlanTunnelAddress", "vxlan", &["ipv4VXLANTunnelAddr"], V4),
            TunnelKind::VxlanV6 => (
                "vxlanV6TunnelAddress",
                "vxlan-v6",
                &["ipv6VXLANTunnelAddr"],
                V6,
            ),
            TunnelKind::Wireguard => (
                "wireguardTunnelAddress",
                "wireguard",
                &["wireguard", "interfaceIPv4Address"],
                V4,
            ),
            TunnelKind::WireguardV6 => (
                "wireguardV6TunnelAddress",
                "wireguard-v6",
                &["wireguard", "interfaceIPv6Address"],
                V6,
            ),
        };
        Facts {
            attribute,
            handle,
            field,
            version,
        }
    }

    /// The pools that want a node to have an address on such a tunnel.
    fn wanted_by(self, pool: &Pool, wireguard: bool) -> Option<&IpNet> {
        let wanted = match self {
            TunnelKind::Ipip => is_on(pool.spec.ipip_mode),
            TunnelKind::Vxlan | TunnelKind::VxlanV6 => is_on(pool.spec.vxlan_mode),
            TunnelKind::Wireguard | TunnelKind::WireguardV6 => wireguard,
        };
        let usable = !pool.spec.disabled
            && pool.allows(AllowedUse::Tunnel)
            && super::addr::version(pool.net) == self.version();
        (wanted && usable).then_some(&pool.net)
    }

    /// Whether the node runs WireGuard, so that its interface may have an address.
    fn has_wireguard_key(self, node: &Value) -> bool {
        let field = match self {
            TunnelKind::Wireguard => "wireguardPublicKey",
            TunnelKind::WireguardV6 => "wireguardPublicKeyV6",
            TunnelKind::Ipip | TunnelKind::Vxlan | TunnelKind::VxlanV6 => return false,
        };
        node["status"][field]
            .as_str()
            .is_some_and(|key| !key.is_empty())
    }
}

fn is_on(mode: Option<EncapMode>) -> bool {
    matches!(mode, Some(EncapMode::Always | EncapMode::CrossSubnet))
}

/// What became of a tunnel's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunnelAddress {
    /// No pool wants one, and there is none.
    NotNeeded,
    /// No pool wants one any more; the node has none now.
    Removed,
    /// It was right already.
    Kept(IpAddr),
    /// It is new, or is the node's again.
    Assigned(IpAddr),
}

/// Decides what a node's address on a tunnel is to be.
pub(super) fn ensure(
    draft: &mut Draft<'_>,
    name: &str,
    kind: TunnelKind,
    host_encryption: bool,
) -> Result<TunnelAddress, Stop> {
    let owner = Owner::host(name);
    let node_key = resource_key(Kind::Node, name).path();
    let handle = kind.handle(name);
    if !keys::is_segment(name) {
        return Err(IpamError::BadName(name.to_owned()).into());
    }
    draft.need(settings::wants().into_iter().chain([
        Want::Key(node_key.clone()),
        Want::Key(keys::handle(&handle)),
        Want::Prefix(pools_root()),
    ]))?;
    let node = node_of(draft, &owner)?;
    let mut stored: Value = model::decode(&node_key, draft.value(&node_key)?.unwrap_or_default())?;
    let wireguard = !host_encryption && kind.has_wireguard_key(&stored);
    let pools: Vec<IpNet> = all_pools(draft)?
        .iter()
        .filter(|pool| pool.selects(node.as_ref()))
        .filter_map(|pool| kind.wanted_by(pool, wireguard).copied())
        .collect();
    let written = address_in(&stored, kind.facts().field);
    let current: Option<IpAddr> = written.and_then(|text| text.parse().ok());
    // What the handle has, and what the node says it has, may be two things.
    let assigned = assigned_to(draft, name, kind, current)?;
    let good = |address: &IpAddr| pools.iter().any(|pool| pool.contains(address));
    let keep = current
        .filter(|current| assigned.contains(current))
        .or_else(|| assigned.iter().copied().find(|address| good(address)))
        .filter(good);
    let surplus: Vec<IpAddr> = assigned
        .iter()
        .copied()
        .filter(|address| Some(*address) != keep)
        .collect();
    if !surplus.is_empty() {
        let requests: Vec<ReleaseRequest> = surplus
            .into_iter()
            .take(release::CHUNK)
            .map(ReleaseRequest::from)
            .collect();
        release::release(draft, &requests)?;
    }
    let address = match keep {
        Some(address) => {
            adopt(draft, name, kind, address)?;
            Some(address)
        }
        None if pools.is_empty() => None,
        None => {
            let (v4, v6) = match kind.version() {
                IpVersion::V4 => (1, 0),
                IpVersion::V6 => (0, 1),
            };
            let request = AssignRequest {
                allowed_use: AllowedUse::Tunnel,
                pools: pools.clone(),
                ..AssignRequest::workload(name, v4, v6, kind.assignee(name))
            };
            assign(draft, &request)?.first().map(IpNet::addr)
        }
    };
    if address != current || (address.is_none() && written.is_some()) {
        set_address(&mut stored, kind.facts().field, address)
            .ok_or_else(|| Problem::new(&node_key, "spec", "is no object"))?;
        draft.put(node_key, &stored);
    }
    Ok(match (address, keep) {
        (Some(address), Some(_)) if current == Some(address) => TunnelAddress::Kept(address),
        (Some(address), _) => TunnelAddress::Assigned(address),
        (None, _) if current.is_some() || !assigned.is_empty() => TunnelAddress::Removed,
        (None, _) => TunnelAddress::NotNeeded,
    })
}

/// The node's addresses of this kind: those that its handle or their attributes say, and one that
/// the node has from the time before there were either.
fn assigned_to(
    draft: &Draft<'_>,
    name: &str,
    kind: TunnelKind,
    current: Option<IpAddr>,
) -> Result<Vec<IpAddr>, Stop> {
    let handle = kind.handle(name);
    let mut blocks: Vec<IpNet> = draft
        .handle(&handle)?
        .unwrap_or_default()
        .block
        .keys()
        .filter_map(|cidr| cidr.parse().ok())
        .collect();
    if let Some(address) = current {
        blocks.extend(find_blocks(draft, std::iter::once(address))?.into_values());
    }
    blocks.sort_unstable();
    blocks.dedup();
    draft.need(blocks.iter().map(|cidr| Want::Key(keys::block(*cidr))))?;
    let mut addresses = Vec::new();
    for cidr in blocks {
        let Some(block) = draft.block(cidr)? else {
            continue;
        };
        for (place, attribute) in block.attributes_in_use() {
            let address = block.address(place);
            let is_ours = match attribute.handle() {
                Some(found) => found == handle,
                // An address without a handle is no workload's: those always had one.
                None => {
                    !attribute.is_released() && attribute.owner.is_empty() && address == current
                }
            };
            if is_ours {
                addresses.extend(address);
            }
        }
    }
    Ok(addresses)
}

/// Gives an address that is the node's the handle and the attributes that it should have.
fn adopt(draft: &mut Draft<'_>, name: &str, kind: TunnelKind, address: IpAddr) -> Result<(), Stop> {
    let assignee = kind.assignee(name);
    let Some(cidr) = find_blocks(draft, std::iter::once(address))?.remove(&address) else {
        return Ok(());
    };
    let Some(mut block) = draft.block(cidr)? else {
        return Ok(());
    };
    if block.assign_to(address, &assignee) {
        let handle = kind.handle(name);
        let count = block.places_of_handle(&handle).len() as i64;
        let counted = draft
            .handle(&handle)?
            .and_then(|stored| stored.block.get(&cidr.to_string()).copied());
        if counted != Some(count) {
            draft.count_handle(&handle, cidr, count - counted.unwrap_or(0))?;
        }
        draft.put_block(block);
    }
    Ok(())
}

fn address_in<'v>(node: &'v Value, field: &[&str]) -> Option<&'v str> {
    let mut value = &node["spec"];
    for name in field {
        value = &value[*name];
    }
    value.as_str().filter(|text| !text.is_empty())
}

/// Writes or removes a field of a node's spec; an object that is empty then goes as well.
fn set_address(node: &mut Value, field: &[&str], address: Option<IpAddr>) -> Option<()> {
    fn set(object: &mut Map<String, Value>, field: &[&str], address: Option<IpAddr>) -> Option<()> {
        match (field, address) {
            ([], _) => {}
            ([name], Some(address)) => {
                object.insert((*name).to_owned(), address.to_string().into());
            }
            ([name], None) => {
                object.remove(*name);
            }
            ([name, rest @ ..], address) => {
                let inner = object
                    .entry(*name)
                    .or_insert_with(|| Map::new().into())
                    .as_object_mut()?;
                set(inner, rest, address)?;
                if inner.is_empty() {
                    object.remove(*name);
                }
            }
        }
        Some(())
    }
    let spec = node
        .as_object_mut()?
        .entry("spec")
        .or_insert_with(|| Map::new().into());
    set(spec.as_object_mut()?, field, address)
}
