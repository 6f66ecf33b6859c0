//! What changed in the kernel, by kind and not by event.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::Duration;

use netlink_packet_core::NetlinkPayload;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::socket::split;

/// A socket that hears of changes.
pub struct Watch {
    socket: Socket,
    /// The number may become another while the watch runs.
    protocol: Arc<AtomicU8>,
    own: Vec<u32>,
}

/// What changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// Links.
    pub links: bool,
    /// Addresses.
    pub addresses: bool,
    /// Routes of others, by which packets may now go another way.
    pub routes: bool,
    /// Routes of our protocol, changed by somebody else.
    pub own_routes: bool,
    /// Neighbours.
    pub neighbours: bool,
    /// Events were lost.
    pub lost: bool,
}

impl Seen {
    /// Everything may have changed.
    pub const LOST: Self = Self {
        links: true,
        addresses: true,
        routes: true,
        own_routes: true,
        neighbours: true,
        lost: true,
    };

    /// Whether anything changed.
    pub fn any(self) -> bool {
        self != Self::default()
    }
}

impl Watch {
    /// Listens in the calling thread's network namespace. Routes are ours by `protocol`; changes that came from the ports in
    /// `own` are known already.
    pub fn open(protocol: Arc<AtomicU8>, own: Vec<u32>) -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        for group in GROUPS {
            socket.add_membership(group)?;
        }
        socket.set_rx_buf_sz(RECEIVE_BUFFER)?;
        socket.set_non_blocking(true)?;
        Ok(Self {
            socket,
            protocol,
            own,
        })
    }

    /// What changed since the last call; does not wait.
    pub fn read(&mut self) -> io::Result<Seen> {
        let mut seen = Seen::default();
        // Bounded, so that a storm of events cannot hold the caller.
        for _ in 0..BATCH {
            match self.socket.recv_from_full() {
                Ok((bytes, _)) => {
                    for message in split(&bytes) {
                        self.note(&mut seen, message.header.port_number, &message.payload);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The kernel had no room for an event.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => seen = Seen::LOST,
                Err(error) => return Err(error),
            }
        }
        Ok(seen)
    }

    /// Waits until something changed, or until the time is over.
    pub fn wait(&mut self, timeout: Duration) -> io::Result<Seen> {
        let timeout = Timespec::try_from(timeout)
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        match poll(
            &mut [PollFd::new(&self.socket, PollFlags::IN)],
            Some(&timeout),
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => self.read(),
            Err(error) => Err(error.into()),
        }
    }

    /// Leaves room for few events, so that a test can lose some.
    #[cfg(test)]
    pub(super) fn shrink_buffer(&self) {
        self.socket
            .set_rx_buf_sz(4096_usize)
            .expect("a smaller buffer is always allowed");
    }

    fn note(&self, seen: &mut Seen, port: u32, payload: &NetlinkPayload<RouteNetlinkMessage>) {
        use RouteNetlinkMessage as M;
        match payload {
            NetlinkPayload::InnerMessage(M::NewLink(_) | M::DelLink(_)) => seen.links = true,
            NetlinkPayload::InnerMessage(M::NewAddress(_) | M::DelAddress(_)) => {
                seen.addresses = true;
            }
            NetlinkPayload::InnerMessage(M::NewNeighbour(_) | M::DelNeighbour(_)) => {
                seen.neighbours = true;
            }
            NetlinkPayload::InnerMessage(M::NewRoute(route) | M::DelRoute(route)) => {
                if u8::from(route.header.protocol) != self.protocol.load(Relaxed) {
                    seen.routes = true;
                } else if !self.own.contains(&port) {
                    seen.own_routes = true;
                }
            }
            NetlinkPayload::Overrun(_) => *seen = Seen::LOST,
            _ => {}
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// RTNLGRP_LINK, NEIGH, IPV4_IFADDR, IPV4_ROUTE, IPV6_IFADDR, IPV6_ROUTE of linux/rtnetlink.h.
const GROUPS: [u32; 6] = [1, 3, 5, 7, 9, 11];
const RECEIVE_BUFFER: usize = 1 << 20;
const BATCH: usize = 1024;
