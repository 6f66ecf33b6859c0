//! The routes of our protocol number in the main table.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteNextHop, RouteProtocol,
    RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::Netlink;
use crate::reconcile::Table;

/// Which route: the kernel has one per prefix and metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteKey {
    /// The prefix.
    pub net: IpNet,
    /// The metric.
    pub metric: u32,
}

/// Where packets go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// To whoever is behind an interface.
    Dev {
        /// The interface.
        ifindex: u32,
        /// The source of the host's own packets there; none for what the kernel finds.
        source: Option<IpAddr>,
    },
    /// Nowhere.
    Blackhole,
    /// To these next hops, sharing the load.
    Via(BTreeSet<NextHop>),
    /// Something that is never wanted.
    Other,
}

/// A router.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NextHop {
    /// Its address.
    pub gateway: IpAddr,
    /// The interface it is behind, for a link-local address; otherwise the kernel finds it.
    pub ifindex: Option<u32>,
}

/// Our routes as a table.
pub struct Routes<'a> {
    netlink: &'a mut Netlink,
    protocol: u8,
    /// Keys known to be ours, so that a route of somebody else is not replaced.
    ours: &'a mut BTreeSet<RouteKey>,
}

impl RouteKey {
    /// The route of this prefix with the metric that ours have.
    pub fn new(net: IpNet) -> Self {
        Self {
            net,
            metric: METRIC,
        }
    }
}

impl Way {
    /// To these next hops.
    pub fn via(gateways: impl IntoIterator<Item = IpAddr>) -> Self {
        Self::Via(
            gateways
                .into_iter()
                .map(|gateway| NextHop {
                    gateway,
                    ifindex: None,
                })
                .collect(),
        )
    }
}

impl<'a> Routes<'a> {
    /// The routes under `protocol`. `ours` is kept from one use to the next and begins empty.
    pub fn new(netlink: &'a mut Netlink, protocol: u8, ours: &'a mut BTreeSet<RouteKey>) -> Self {
        Self {
            netlink,
            protocol,
            ours,
        }
    }

    fn message(&self, key: &RouteKey) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header.address_family = family(&key.net);
        message.header.destination_prefix_length = key.net.prefix_len();
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::from(self.protocol);
        message.header.kind = RouteType::Unicast;
        message
            .attributes
            .push(RouteAttribute::Destination(key.net.network().into()));
        message
            .attributes
            .push(RouteAttribute::Priority(key.metric));
        message
    }

    fn add(&mut self, message: RouteMessage, flags: u16) -> io::Result<()> {
        self.netlink
            .socket()
            .change(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | flags)
    }

    /// Whether the route of this key is ours, asked of the kernel.
    fn is_ours(&mut self, key: &RouteKey) -> io::Result<bool> {
        let found = self.read(family(&key.net))?;
        Ok(found.iter().any(|(other, _)| other == key))
    }

    fn read(&mut self, family: AddressFamily) -> io::Result<Vec<(RouteKey, Way)>> {
        let mut request = RouteMessage::default();
        request.header.address_family = family;
        request.header.protocol = RouteProtocol::from(self.protocol);
        request.header.table = RouteHeader::RT_TABLE_MAIN;
        let messages = self
            .netlink
            .socket()
            .dump(&RouteNetlinkMessage::GetRoute(request))?;
        let routes = messages.into_iter().filter_map(|message| match message {
            // The kernel filters too, but an old one may not.
            RouteNetlinkMessage::NewRoute(route)
                if u8::from(route.header.protocol) == self.protocol
                    && route.header.table == RouteHeader::RT_TABLE_MAIN =>
            {
                parse(&route)
            }
            _ => None,
        });
        Ok(routes.collect())
    }
}

impl Table<RouteKey, Way> for Routes<'_> {
    type Error = io::Error;

    fn dump(&mut self) -> io::Result<Vec<(RouteKey, Way)>> {
        let mut routes = self.read(AddressFamily::Inet)?;
        routes.extend(self.read(AddressFamily::Inet6)?);
        *self.ours = routes.iter().map(|(key, _)| *key).collect();
        Ok(routes)
    }

    fn put(&mut self, key: &RouteKey, way: &Way) -> io::Result<()> {
        let mut message = self.message(key);
        match way {
            Way::Dev { ifindex, source } => {
                message.header.scope = RouteScope::Link;
                message.attributes.push(RouteAttribute::Oif(*ifindex));
                let source = source.map(|source| RouteAttribute::PrefSource(source.into()));
                message.attributes.extend(source);
            }
            Way::Blackhole => message.header.kind = RouteType::BlackHole,
            Way::Via(next_hops) => {
                let hops: Vec<RouteNextHop> = next_hops.iter().map(next_hop).collect();
                match hops.as_slice() {
                    [] => return Err(io::Error::new(io::ErrorKind::InvalidInput, "no next hop")),
                    [only] => {
                        message.attributes.extend(only.attributes.clone());
                        if only.interface_index != 0 {
                            message
                                .attributes
                                .push(RouteAttribute::Oif(only.interface_index));
                        }
                    }
                    _ => message.attributes.push(RouteAttribute::MultiPath(hops)),
                }
            }
            Way::Other => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "not a route to write",
                ));
            }
        }
        if !self.ours.contains(key) {
            match self.add(message.clone(), NLM_F_EXCL) {
                Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
                    if !self.is_ours(key)? {
                        return Err(io::Error::new(
                            io::ErrorKind::AlreadyExists,
                            "another's route with this metric is there",
                        ));
                    }
                }
                done => {
                    done?;
                    self.ours.insert(*key);
                    return Ok(());
                }
            }
        }
        self.add(message, NLM_F_REPLACE)?;
        self.ours.insert(*key);
        Ok(())
    }

    fn delete(&mut self, key: &RouteKey) -> io::Result<()> {
        let mut message = self.message(key);
        // Of any type and scope, if only the protocol is ours.
        message.header.kind = RouteType::Unspec;
        message.header.scope = RouteScope::NoWhere;
        let done = self
            .netlink
            .socket()
            .change(RouteNetlinkMessage::DelRoute(message), 0);
        self.ours.remove(key);
        match done {
            Err(error) if matches!(error.raw_os_error(), Some(libc::ESRCH | libc::ENODEV)) => {
                Ok(())
            }
            done => done,
        }
    }
}

fn family(net: &IpNet) -> AddressFamily {
    match net {
        IpNet::V4(_) => AddressFamily::Inet,
        IpNet::V6(_) => AddressFamily::Inet6,
    }
}

fn next_hop(hop: &NextHop) -> RouteNextHop {
    let mut next = RouteNextHop::default();
    next.interface_index = hop.ifindex.unwrap_or(0);
    next.attributes = vec![RouteAttribute::Gateway(hop.gateway.into())];
    next
}

fn parse(message: &RouteMessage) -> Option<(RouteKey, Way)> {
    let header = &message.header;
    let unspecified: IpAddr = match header.address_family {
        AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let (mut destination, mut metric) = (unspecified, 0);
    let (mut oif, mut single, mut several, mut source) = (None, None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = ip(address)?,
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::Oif(index) => oif = Some(*index),
            RouteAttribute::PrefSource(address) => source = Some(ip(address)?),
            RouteAttribute::Gateway(address) => single = Some(ip(address)?),
            RouteAttribute::MultiPath(hops) => several = Some(hops),
            _ => {}
        }
    }
    let key = RouteKey {
        net: IpNet::new(destination, header.destination_prefix_length)
            .ok()?
            .trunc(),
        metric,
    };
    let way = match (header.kind, several, single, oif) {
        (RouteType::BlackHole, ..) => Way::Blackhole,
        (RouteType::Unicast, Some(hops), ..) => {
            let hops = hops.iter().map(|hop| {
                let gateway = hop.attributes.iter().find_map(|attribute| match attribute {
                    RouteAttribute::Gateway(address) => ip(address),
                    _ => None,
                });
                gateway.map(|gateway| seen(gateway, hop.interface_index))
            });
            hops.collect::<Option<BTreeSet<NextHop>>>()
                .map_or(Way::Other, Way::Via)
        }
        (RouteType::Unicast, None, Some(gateway), index) => {
            Way::Via([seen(gateway, index.unwrap_or(0))].into())
        }
        (RouteType::Unicast, None, None, Some(ifindex)) => Way::Dev { ifindex, source },
        _ => Way::Other,
    };
    Some((key, way))
}

/// A next hop as the kernel tells it. It always names the interface; only for link-local ones was it asked to.
fn seen(gateway: IpAddr, ifindex: u32) -> NextHop {
    let needs = matches!(gateway, IpAddr::V6(address) if address.is_unicast_link_local());
    NextHop {
        gateway,
        ifindex: needs.then_some(ifindex),
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

/// The metric of our routes: one above what the kernel gives IPv6 routes by default, so that a route which a CNI plugin or an
/// administrator added for the same prefix stands beside ours and is preferred, as it is in IPv4.
pub const METRIC: u32 = 1025;
