//! The speaker's settings and peers on this node.
//!
//! Peers come from BGPPeer resources (for this node by name, by label or for all; by address, or by a selector over nodes) and
//! from the mesh of all nodes that are not route reflectors. One session is wanted per address; where several resources ask
//! for it, the more specific one decides.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use cleat_datastore::resource::{
    BgpConfiguration, BgpPeer, BgpPeerSpec, NextHopMode, Node, ReversePeering, SourceAddress,
};
use cleat_datastore::value::Community;
use cleat_datastore::{Key, Kind, Problem};
use ipnet::IpNet;

use crate::config::Level;

/// What is wanted of the speaker here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bgp {
    /// The BGP identifier: the node's IPv4 address. Without one it is for the daemon to choose.
    pub router_id: Option<Ipv4Addr>,
    /// This node's AS number.
    pub local_as: u32,
    /// The TCP port to listen on.
    pub listen_port: u16,
    /// This node's addresses towards peers.
    pub addresses: NodeAddresses,
    /// The peers by address and port.
    pub peers: BTreeMap<(IpAddr, u16), PeerWish>,
    /// How severe a message of the speaker must be for the log, if anybody said.
    pub log_severity: Option<Level>,
    /// Communities by the prefix inside of which routes get them.
    pub communities: BTreeMap<IpNet, BTreeSet<Community>>,
}

/// The addresses of a node, one per family at most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NodeAddresses {
    /// Its IPv4 address.
    pub v4: Option<IpAddr>,
    /// Its IPv6 address.
    pub v6: Option<IpAddr>,
}

/// A session that a resource asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerWish {
    /// The resource: a BGPPeer, or the Node at the other end of a mesh session.
    pub resource: Key,
    /// The kind of session in words: `node-to-node mesh`, `node specific` or `global`.
    pub kind: &'static str,
    /// The peer's AS number.
    pub remote_as: u32,
    /// Our AS number towards this peer, if it is another one.
    pub local_as: Option<u32>,
    /// The address to connect from.
    pub source: Option<IpAddr>,
    /// Only accept: the other end connects.
    pub passive: bool,
    /// Routes to this peer keep the next hop they came with.
    pub keep_next_hop: bool,
    /// How long the peer keeps our routes while we restart.
    pub restart_time: Option<Duration>,
    /// The longest time between keepalives.
    pub keepalive: Option<Duration>,
    /// The hops the peer is away, for TTL security (RFC 5082).
    pub ttl_security: Option<u8>,
    /// How often our AS number may stand in a path from this peer.
    pub allow_own_as: u8,
}

/// The resources the settings are computed from.
pub(crate) struct Input<'a> {
    pub(crate) host: &'a str,
    pub(crate) nodes: &'a BTreeMap<String, Arc<Node>>,
    pub(crate) configurations: &'a BTreeMap<String, Arc<BgpConfiguration>>,
    pub(crate) peers: &'a BTreeMap<String, Arc<BgpPeer>>,
}

impl NodeAddresses {
    fn of(node: &Node) -> Self {
        let bgp = node.spec.bgp.as_ref();
        Self {
            v4: bgp.and_then(|bgp| bgp.ipv4_address).map(|cidr| cidr.addr()),
            v6: bgp.and_then(|bgp| bgp.ipv6_address).map(|cidr| cidr.addr()),
        }
    }

    /// Both, as far as there are two.
    pub fn iter(self) -> impl Iterator<Item = IpAddr> {
        self.v4.into_iter().chain(self.v6)
    }

    /// The one of the same family.
    pub fn like(self, other: IpAddr) -> Option<IpAddr> {
        if other.is_ipv4() { self.v4 } else { self.v6 }
    }
}

impl Input<'_> {
    /// The settings, and what in the resources cannot be followed.
    pub(crate) fn settings(&self) -> (Bgp, Vec<(Key, Problem)>) {
        let mut problems = Vec::new();
        let Some(node) = self.nodes.get(self.host) else {
            return (Bgp::default(), problems);
        };
        let addresses = NodeAddresses::of(node);
        let mut bgp = Bgp {
            router_id: addresses.v4.and_then(|address| match address {
                IpAddr::V4(address) => Some(address),
                IpAddr::V6(_) => None,
            }),
            local_as: self.as_number(node),
            listen_port: self.own(listen_port).unwrap_or(PORT),
            addresses,
            peers: BTreeMap::new(),
            log_severity: self.own(|spec| spec.log_severity_screen.as_deref().and_then(level)),
            communities: self.communities(),
        };
        self.node_levels(&mut problems);
        // From the least to the most specific, so that the last to ask for an address decides.
        self.mesh(node, &mut bgp);
        let specificity =
            |peer: &BgpPeer| (peer.spec.node.is_some(), peer.spec.node_selector.is_some());
        let mut peers: Vec<(&String, &Arc<BgpPeer>)> = self.peers.iter().collect();
        peers.sort_by(|a, b| specificity(a.1).cmp(&specificity(b.1)).then(b.0.cmp(a.0)));
        for (name, peer) in peers {
            self.explicit(name, peer, node, &mut bgp, &mut problems);
        }
        (bgp, problems)
    }

    fn mesh(&self, node: &Node, bgp: &mut Bgp) {
        let enabled = self
            .global(|spec| spec.node_to_node_mesh_enabled)
            .unwrap_or(true);
        if !enabled || is_reflector(node) {
            return;
        }
        let restart_time = self.global(|spec| {
            spec.node_mesh_max_restart_time
                .as_ref()
                .map(cleat_datastore::value::GoDuration::value)
        });
        for (name, other) in self
            .nodes
            .iter()
            .filter(|(name, other)| *name != self.host && !is_reflector(other))
        {
            for address in NodeAddresses::of(other).iter() {
                let Some(own) = bgp.addresses.like(address) else {
                    continue;
                };
                let wish = PeerWish {
                    kind: "node-to-node mesh",
                    remote_as: self.as_number(other),
                    source: Some(own),
                    // One end connects, or two connections would collide each time.
                    passive: address > own,
                    restart_time,
                    ..PeerWish::new(Key::global(Kind::Node, name.as_str()))
                };
                bgp.peers.insert((address, self.port_of(name)), wish);
            }
        }
    }

    fn explicit(
        &self,
        name: &str,
        peer: &BgpPeer,
        node: &Node,
        bgp: &mut Bgp,
        problems: &mut Vec<(Key, Problem)>,
    ) {
        let spec = &peer.spec;
        let here = speaks_for(spec, self.host, node);
        let selected = |node: &Node| {
            let selector = spec
                .peer_selector
                .as_ref()
                .filter(|_| spec.peer_ip.is_none());
            selector.is_some_and(|selector| selector.matches(&node.metadata.labels))
        };
        // A session has two ends: whom the selector selects peers back, unless that is left to another resource.
        let back = selected(node) && spec.reverse_peering != Some(ReversePeering::Manual);
        if !here && !back {
            return;
        }
        let key = Key::global(Kind::BgpPeer, name);
        let mut problem = |field: &str, reason: &str| {
            problems.push((key.clone(), Problem::new(&key, field, reason)));
        };
        if spec.password.is_some() {
            problem(
                "spec.password",
                "passwords are not supported: the session is not started",
            );
            return;
        }
        if spec.local_workload_selector.is_some() {
            problem(
                "spec.localWorkloadSelector",
                "sessions with workloads are not supported",
            );
            return;
        }
        if !spec.filters.is_empty() {
            problem(
                "spec.filters",
                "filters are not supported: the session is not started",
            );
            return;
        }
        let mut ends: Vec<(IpAddr, u16, u32)> = Vec::new();
        if let Some(address) = spec.peer_ip {
            match spec.as_number {
                Some(number) => ends.push((address.addr, address.port.unwrap_or(PORT), number.0)),
                None => problem("spec.asNumber", "is needed beside peerIP"),
            }
        } else {
            for (other_name, other) in self.nodes.iter().filter(|(name, _)| *name != self.host) {
                let wanted =
                    (here && selected(other)) || (back && speaks_for(spec, other_name, other));
                let addresses = NodeAddresses::of(other).iter();
                let reachable =
                    addresses.filter(|address| wanted && bgp.addresses.like(*address).is_some());
                ends.extend(
                    reachable
                        .map(|address| (address, self.port_of(other_name), self.as_number(other))),
                );
            }
        }
        for (address, port, remote_as) in ends {
            if NodeAddresses::of(node).iter().any(|own| own == address) {
                continue;
            }
            let use_node_ip = spec
                .source_address
                .is_none_or(|source| source == SourceAddress::UseNodeIp);
            let wish = PeerWish {
                kind: if spec.node.is_some() || spec.node_selector.is_some() {
                    "node specific"
                } else {
                    "global"
                },
                remote_as,
                local_as: spec
                    .local_as_number
                    .map(|number| number.0)
                    .filter(|number| *number != bgp.local_as),
                source: use_node_ip.then(|| bgp.addresses.like(address)).flatten(),
                keep_next_hop: spec.keep_original_next_hop.unwrap_or(false)
                    || spec.next_hop_mode == Some(NextHopMode::Keep),
                restart_time: spec
                    .max_restart_time
                    .as_ref()
                    .map(cleat_datastore::value::GoDuration::value),
                keepalive: spec
                    .keepalive_time
                    .as_ref()
                    .map(cleat_datastore::value::GoDuration::value),
                ttl_security: spec.ttl_security,
                allow_own_as: u8::try_from(spec.num_allowed_local_as_numbers.unwrap_or(0))
                    .unwrap_or(u8::MAX),
                ..PeerWish::new(key.clone())
            };
            bgp.peers.insert((address, port), wish);
        }
    }

    /// Communities for prefixes: those of the node's own configuration, or else those of all nodes. Names are of either.
    fn communities(&self) -> BTreeMap<IpNet, BTreeSet<Community>> {
        let levels = [format!("node.{}", self.host), DEFAULT.to_owned()];
        let specs = || {
            levels
                .iter()
                .filter_map(|name| Some(&self.configurations.get(name)?.spec))
        };
        let named: BTreeMap<&str, Community> = specs()
            .find(|spec| !spec.communities.is_empty())
            .into_iter()
            .flat_map(|spec| &spec.communities)
            .map(|community| (community.name.as_str(), community.value))
            .collect();
        let advertisements = specs().find(|spec| !spec.prefix_advertisements.is_empty());
        let mut communities: BTreeMap<IpNet, BTreeSet<Community>> = BTreeMap::new();
        for advertisement in advertisements
            .into_iter()
            .flat_map(|spec| &spec.prefix_advertisements)
        {
            let values = advertisement.communities.iter().filter_map(|value| {
                value
                    .parse()
                    .ok()
                    .or_else(|| named.get(value.as_str()).copied())
            });
            communities
                .entry(advertisement.cidr.net())
                .or_default()
                .extend(values);
        }
        communities
    }

    /// What a configuration of one node says in vain, since only `default` is asked for it.
    fn node_levels(&self, problems: &mut Vec<(Key, Problem)>) {
        for (name, configuration) in self.configurations {
            let key = Key::global(Kind::BgpConfiguration, name.as_str());
            if name == DEFAULT {
                continue;
            }
            let mut add = |field: String, reason: &str| {
                problems.push((key.clone(), Problem::new(&key, field, reason)));
            };
            if !name.starts_with("node.") {
                add(
                    "metadata.name".to_owned(),
                    "is neither default nor node.NAME: it concerns no node",
                );
                continue;
            }
            let spec = serde_json::to_value(&configuration.spec).unwrap_or_default();
            let fields = spec.as_object().into_iter().flatten();
            for (field, _) in fields.filter(|(field, _)| !OF_ONE_NODE.contains(&field.as_str())) {
                add(
                    format!("spec.{field}"),
                    "is read from the configuration named default only",
                );
            }
        }
    }

    fn as_number(&self, node: &Node) -> u32 {
        let own = node.spec.bgp.as_ref().and_then(|bgp| bgp.as_number);
        own.or_else(|| self.global(|spec| spec.as_number))
            .map_or(DEFAULT_AS, |number| number.0)
    }

    fn port_of(&self, node: &str) -> u16 {
        self.of_node(node, listen_port).unwrap_or(PORT)
    }

    /// A setting of all nodes.
    fn global<T>(
        &self,
        field: impl Fn(&cleat_datastore::resource::BgpConfigurationSpec) -> Option<T>,
    ) -> Option<T> {
        self.configurations
            .get(DEFAULT)
            .and_then(|configuration| field(&configuration.spec))
    }

    fn own<T>(
        &self,
        field: impl Fn(&cleat_datastore::resource::BgpConfigurationSpec) -> Option<T>,
    ) -> Option<T> {
        self.of_node(self.host, field)
    }

    /// A setting that a node may have for itself.
    fn of_node<T>(
        &self,
        node: &str,
        field: impl Fn(&cleat_datastore::resource::BgpConfigurationSpec) -> Option<T>,
    ) -> Option<T> {
        let own = self
            .configurations
            .get(&format!("node.{node}"))
            .and_then(|configuration| field(&configuration.spec));
        own.or_else(|| self.global(field))
    }
}

impl PeerWish {
    fn new(resource: Key) -> Self {
        Self {
            resource,
            kind: "global",
            remote_as: DEFAULT_AS,
            local_as: None,
            source: None,
            passive: false,
            keep_next_hop: false,
            restart_time: None,
            keepalive: None,
            ttl_security: None,
            allow_own_as: 0,
        }
    }
}

/// Whether the resource speaks for all nodes, or for this one.
fn speaks_for(spec: &BgpPeerSpec, name: &str, node: &Node) -> bool {
    spec.node.as_ref().is_none_or(|wanted| wanted == name)
        && spec
            .node_selector
            .as_ref()
            .is_none_or(|selector| selector.matches(&node.metadata.labels))
}

fn is_reflector(node: &Node) -> bool {
    node.spec
        .bgp
        .as_ref()
        .is_some_and(|bgp| bgp.route_reflector_cluster_id.is_some())
}

/// The level of a severity in Calico's words, in any case of letters.
fn level(text: &str) -> Option<Level> {
    match text.to_ascii_lowercase().as_str() {
        "trace" => Some(Level::Trace),
        "debug" => Some(Level::Debug),
        "info" => Some(Level::Info),
        "warning" => Some(Level::Warn),
        "error" | "fatal" => Some(Level::Error),
        _ => None,
    }
}

/// The name of the configuration of all nodes.
const DEFAULT: &str = "default";
/// What a configuration of one node is asked for.
const OF_ONE_NODE: [&str; 4] = [
    "communities",
    "listenPort",
    "logSeverityScreen",
    "prefixAdvertisements",
];
const DEFAULT_AS: u32 = 64_512;
const PORT: u16 = 179;

/// Port 0 is as good as none: it would be another one at each start.
fn listen_port(spec: &cleat_datastore::resource::BgpConfigurationSpec) -> Option<u16> {
    spec.listen_port.filter(|port| *port != 0)
}
