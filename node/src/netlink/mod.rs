//! The kernel's links, addresses and routes: read whole, written by difference, watched for changes.
//!
//! ```text
//! Watch (multicast events, coalesced to "these changed") -> Netlink::snapshot -> whoever computes
//! Delta -> Routes: Table of the routes under our protocol number
//! Delta -> Settings: Table of what the host's side of a workload needs (sysctls, link-local address, up)
//! ```
//!
//! Events say only that something changed; what is there now is read anew. Events lost to a full socket buffer mean that
//! everything may have changed. Routes of others, and what others set on interfaces that are not workloads', are never touched.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the kernel's enums are open: what is not known here is passed over"
)]

mod routes;
mod settings;
mod socket;
mod watch;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv6Addr};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};

pub use routes::{METRIC, NextHop, RouteKey, Routes, Way};
pub use settings::{HostSide, Settings, enable_forwarding};
pub use watch::{Seen, Watch};

use socket::Socket;

/// A connection to the kernel.
pub struct Netlink {
    socket: Socket,
}

/// What the kernel has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Links by name.
    pub links: BTreeMap<String, Link>,
    /// Addresses by ifindex.
    pub addresses: BTreeMap<u32, BTreeSet<IpAddr>>,
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its index.
    pub ifindex: u32,
    /// Its kind as `ip link` names it; empty for hardware.
    pub kind: String,
    /// Its MAC address, if it has one of six bytes.
    pub mac: Option<[u8; 6]>,
    /// Its MTU.
    pub mtu: u32,
    /// It is set up.
    pub up: bool,
    /// It can carry packets.
    pub carrier: bool,
    /// It loops back.
    pub loopback: bool,
    /// The index of the other end of a pair, or of the link below.
    pub peer: Option<u32>,
    /// The other end is in another network namespace.
    pub peer_elsewhere: bool,
    /// The bridge or bond it is a port of.
    pub controller: Option<u32>,
}

impl Netlink {
    /// Opens a connection in the calling thread's network namespace.
    pub fn open() -> io::Result<Self> {
        Ok(Self {
            socket: Socket::open()?,
        })
    }

    /// The port whose changes are this connection's own.
    pub fn port(&self) -> u32 {
        self.socket.port()
    }

    /// Reads all links and addresses.
    pub fn snapshot(&mut self) -> io::Result<Snapshot> {
        let mut snapshot = Snapshot::default();
        for message in self
            .socket
            .dump(&RouteNetlinkMessage::GetLink(LinkMessage::default()))?
        {
            if let RouteNetlinkMessage::NewLink(message) = message
                && let Some((name, link)) = link(&message)
            {
                snapshot.links.insert(name, link);
            }
        }
        for message in self
            .socket
            .dump(&RouteNetlinkMessage::GetAddress(AddressMessage::default()))?
        {
            if let RouteNetlinkMessage::NewAddress(message) = message
                && let Some(address) = address(&message)
            {
                snapshot
                    .addresses
                    .entry(message.header.index)
                    .or_default()
                    .insert(address);
            }
        }
        Ok(snapshot)
    }

    pub(crate) fn socket(&mut self) -> &mut Socket {
        &mut self.socket
    }
}

impl Snapshot {
    /// The addresses of the host: of every link but those that `is_workload`, without link-local ones, which name nobody
    /// outside their link.
    pub fn host_addresses(&self, is_workload: impl Fn(&str) -> bool) -> BTreeSet<IpAddr> {
        let links = self.links.iter().filter(|(name, _)| !is_workload(name));
        let addresses = links
            .filter_map(|(_, link)| self.addresses.get(&link.ifindex))
            .flatten()
            .copied();
        addresses
            .filter(|address| !is_link_local(*address))
            .collect()
    }

    /// The MAC address of the other end of a pair in this namespace.
    pub fn peer_mac(&self, link: &Link) -> Option<[u8; 6]> {
        let peer = link.peer.filter(|_| !link.peer_elsewhere)?;
        self.links.values().find(|other| other.ifindex == peer)?.mac
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

fn link(message: &LinkMessage) -> Option<(String, Link)> {
    let mut name = None;
    let flags = message.header.flags;
    let mut link = Link {
        ifindex: message.header.index,
        kind: String::new(),
        mac: None,
        mtu: 0,
        up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::LowerUp),
        loopback: flags.contains(LinkFlags::Loopback),
        peer: None,
        peer_elsewhere: false,
        controller: None,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = Some(text.clone()),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Address(bytes) => link.mac = bytes.as_slice().try_into().ok(),
            LinkAttribute::Link(index) => link.peer = Some(*index),
            LinkAttribute::LinkNetNsId(_) => link.peer_elsewhere = true,
            LinkAttribute::Controller(index) => link.controller = Some(*index),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    if let LinkInfo::Kind(kind) = info {
                        link.kind = match kind {
                            InfoKind::Other(text) => text.clone(),
                            kind => kind.to_string(),
                        };
                    }
                }
            }
            _ => {}
        }
    }
    Some((name?, link))
}

/// The address an interface has: `Local` where the kernel tells one, as `Address` is then the peer's.
fn address(message: &AddressMessage) -> Option<IpAddr> {
    let local = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            AddressAttribute::Local(address) => Some(*address),
            _ => None,
        });
    local.or_else(|| {
        message
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                AddressAttribute::Address(address) => Some(*address),
                _ => None,
            })
    })
}

/// The link-local address that a MAC address gives by modified EUI-64, RFC 4291 appendix A.
pub fn link_local(mac: [u8; 6]) -> Ipv6Addr {
    let mut address = [0; 16];
    address[..2].copy_from_slice(&[0xfe, 0x80]);
    address[8..11].copy_from_slice(&mac[..3]);
    address[8] ^= 2;
    address[11..13].copy_from_slice(&[0xff, 0xfe]);
    address[13..].copy_from_slice(&mac[3..]);
    Ipv6Addr::from(address)
}
