//! How peers reach this host, told by its links.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use super::super::speaker::Reach;
use super::Host;

impl Reach for Host {
    fn other_address(&self, peer: IpAddr, source: Option<IpAddr>) -> Option<IpAddr> {
        // A session from a loopback address goes over several links; the node's own address is reached over all of them.
        if source
            .and_then(|source| self.link_of(source))
            .is_some_and(|link| link.loopback)
        {
            return None;
        }
        // The link to the peer, and not the source's: the peer may have opened the session, to its own end of that link.
        let link = self.link_of(source_towards(peer).ok()?)?;
        let usable = |address: &&IpAddr| match address {
            IpAddr::V4(address) => !address.is_link_local() && !address.is_loopback(),
            IpAddr::V6(address) => !address.is_unicast_link_local() && !address.is_loopback(),
        };
        let of_link = self.seen.addresses.get(&link.ifindex)?.iter();
        of_link
            .filter(|other| other.is_ipv4() != peer.is_ipv4())
            .find(usable)
            .copied()
    }

    fn leaves_elsewhere(&self, peer: IpAddr, source: IpAddr) -> bool {
        let way = source_towards(peer)
            .ok()
            .and_then(|address| self.link_of(address));
        let (Some(way), Some(home)) = (way, self.link_of(source)) else {
            return false;
        };
        way.ifindex != home.ifindex && !home.loopback
    }
}

/// The address that the kernel would send from. Connecting a datagram socket sends nothing.
fn source_towards(peer: IpAddr) -> std::io::Result<IpAddr> {
    let any: IpAddr = if peer.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect((peer, cleat_bgp::config::PORT))?;
    Ok(socket.local_addr()?.ip())
}
