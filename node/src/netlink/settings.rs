//! What the host's side of a workload's interface needs.
//!
//! The host answers ARP and neighbour discovery for everything (the workload has no neighbours but the host), forwards, and
//! learns nothing from the workload: no router advertisements, no reverse-path guessing, which policy does better.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::{fs, io};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use netlink_packet_route::link::{LinkFlags, LinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::RouteType;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Netlink, Snapshot, link_local};
use crate::reconcile::Table;

/// What a workload's interface is to have beside what they all have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostSide {
    /// Addresses beyond the link that the host answers neighbour discovery for: the workload's IPv6 gateway.
    pub proxied: BTreeSet<Ipv6Addr>,
}

/// The settings of workloads' interfaces, by name, as a table.
pub struct Settings<'a, F> {
    netlink: &'a mut Netlink,
    is_workload: F,
    snapshot: Option<Snapshot>,
}

impl<'a, F: Fn(&str) -> bool> Settings<'a, F> {
    /// The settings of the interfaces that `is_workload`; others are never touched.
    pub fn new(netlink: &'a mut Netlink, is_workload: F) -> Self {
        Self {
            netlink,
            is_workload,
            snapshot: None,
        }
    }

    fn snapshot(&mut self) -> io::Result<&Snapshot> {
        if self.snapshot.is_none() {
            self.snapshot = Some(self.netlink.snapshot()?);
        }
        self.snapshot
            .as_ref()
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    /// The neighbours that the host answers for, by ifindex.
    fn proxied(&mut self) -> io::Result<BTreeMap<u32, BTreeSet<Ipv6Addr>>> {
        let mut request = NeighbourMessage::default();
        request.header.family = AddressFamily::Inet6;
        request.header.flags = NeighbourFlags::Proxy;
        let mut proxied: BTreeMap<u32, BTreeSet<Ipv6Addr>> = BTreeMap::new();
        for message in self
            .netlink
            .socket()
            .dump(&RouteNetlinkMessage::GetNeighbour(request))?
        {
            let RouteNetlinkMessage::NewNeighbour(message) = message else {
                continue;
            };
            for attribute in &message.attributes {
                if let NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) = attribute
                {
                    proxied
                        .entry(message.header.ifindex)
                        .or_default()
                        .insert(*address);
                }
            }
        }
        Ok(proxied)
    }
}

impl<F: Fn(&str) -> bool> Table<String, HostSide> for Settings<'_, F> {
    type Error = io::Error;

    /// The interfaces that are as they should be; one that lacks something is not told.
    fn dump(&mut self) -> io::Result<Vec<(String, HostSide)>> {
        self.snapshot = None;
        let mut proxied = self.proxied()?;
        let snapshot = self.snapshot()?;
        let ready = snapshot.links.iter().filter(|(name, link)| {
            let addresses = snapshot.addresses.get(&link.ifindex);
            let has_local = link.mac.is_none_or(|mac| {
                addresses.is_some_and(|addresses| addresses.contains(&IpAddr::V6(link_local(mac))))
            });
            link.up
                && has_local
                && sysctls(name).all(|(path, value)| read(&path).as_deref() == Some(value))
        });
        let ready: Vec<(String, u32)> = ready
            .map(|(name, link)| (name.clone(), link.ifindex))
            .collect();
        let ours = ready
            .into_iter()
            .filter(|(name, _)| (self.is_workload)(name));
        Ok(ours
            .map(|(name, index)| {
                (
                    name,
                    HostSide {
                        proxied: proxied.remove(&index).unwrap_or_default(),
                    },
                )
            })
            .collect())
    }

    fn put(&mut self, name: &String, side: &HostSide) -> io::Result<()> {
        if !(self.is_workload)(name) {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "not the interface of a workload by its name",
            ));
        }
        let Some(link) = self.snapshot()?.links.get(name).cloned() else {
            return Err(io::Error::new(io::ErrorKind::NotFound, "no such interface"));
        };
        for (path, value) in sysctls(name) {
            if read(&path).as_deref() != Some(value) {
                fs::write(&path, value)
                    .map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))?;
            }
        }
        if !link.up {
            let mut message = LinkMessage::default();
            message.header.index = link.ifindex;
            message.header.flags = LinkFlags::Up;
            message.header.change_mask = LinkFlags::Up;
            self.netlink
                .socket()
                .change(RouteNetlinkMessage::SetLink(message), 0)?;
        }
        if let Some(mac) = link.mac {
            let mut message = AddressMessage::default();
            message.header.family = AddressFamily::Inet6;
            message.header.prefix_len = 64;
            message.header.scope = AddressScope::Link;
            message.header.index = link.ifindex;
            message.attributes = vec![AddressAttribute::Address(link_local(mac).into())];
            // The kernel usually has made this very address itself; replacing it changes nothing.
            self.netlink.socket().change(
                RouteNetlinkMessage::NewAddress(message),
                NLM_F_CREATE | NLM_F_REPLACE,
            )?;
        }
        for address in &side.proxied {
            let mut message = NeighbourMessage::default();
            message.header.family = AddressFamily::Inet6;
            message.header.ifindex = link.ifindex;
            message.header.state = NeighbourState::Permanent;
            message.header.flags = NeighbourFlags::Proxy;
            message.header.kind = RouteType::Unspec;
            message.attributes = vec![NeighbourAttribute::Destination(NeighbourAddress::Inet6(
                *address,
            ))];
            self.netlink.socket().change(
                RouteNetlinkMessage::NewNeighbour(message),
                NLM_F_CREATE | NLM_F_REPLACE,
            )?;
        }
        Ok(())
    }

    /// Nothing is taken back: without an endpoint the interface drops, whatever its settings.
    fn delete(&mut self, _: &String) -> io::Result<()> {
        Ok(())
    }
}

/// Lets the host forward packets of both families.
pub fn enable_forwarding() -> io::Result<()> {
    for path in [
        "/proc/sys/net/ipv4/ip_forward",
        "/proc/sys/net/ipv6/conf/all/forwarding",
    ] {
        if read(path).as_deref() != Some("1") {
            fs::write(path, "1")
                .map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))?;
        }
    }
    Ok(())
}

/// The kernel's settings of an interface that exists; its name, having come from the kernel, is no path.
fn sysctls(name: &str) -> impl Iterator<Item = (String, &'static str)> {
    SYSCTLS.into_iter().map(move |(table, setting, value)| {
        (format!("/proc/sys/net/{table}/{name}/{setting}"), value)
    })
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path)
        .ok()
        .map(|text| text.trim().to_owned())
}

const SYSCTLS: [(&str, &str, &str); 8] = [
    ("ipv4/conf", "forwarding", "1"),
    ("ipv4/conf", "proxy_arp", "1"),
    ("ipv4/conf", "route_localnet", "1"),
    ("ipv4/conf", "rp_filter", "0"),
    ("ipv4/neigh", "proxy_delay", "0"),
    ("ipv6/conf", "accept_ra", "0"),
    ("ipv6/conf", "forwarding", "1"),
    ("ipv6/conf", "proxy_ndp", "1"),
];
