//! What is wanted of the speaker. It is always given whole; the speaker finds the difference.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Family, PeerAddress};

/// The whole desired configuration of a speaker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The BGP identifier. A change resets every session.
    pub router_id: Ipv4Addr,
    /// The AS of this speaker where a peer does not ask for another. A change resets the sessions that use it.
    pub local_as: u32,
    /// Where to accept connections. Default: port 179 of both families. Empty: nowhere.
    pub listen: Vec<SocketAddr>,
    /// The forwarding state of an earlier process is still in the kernel: sets the R and F bits (RFC 4724 §3) of the
    /// first session with each peer.
    pub restarting: bool,
    /// How long after the start routes of an earlier process may wait for this one to converge. Default: 60 s.
    pub deferral: Duration,
    /// How many equal paths may share the load.
    pub multipath: Multipath,
    /// The peers. One that is gone from here is shut down.
    pub peers: BTreeMap<PeerAddress, PeerConfig>,
}

impl Config {
    /// A speaker without peers, listening on port 179.
    pub fn new(router_id: Ipv4Addr, local_as: u32) -> Self {
        Self {
            router_id,
            local_as,
            listen: vec![
                SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), PORT),
                SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), PORT),
            ],
            restarting: false,
            deferral: Duration::from_mins(1),
            multipath: Multipath::default(),
            peers: BTreeMap::new(),
        }
    }
}

/// The rules of equal-cost multipath.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Multipath {
    /// Most paths for one prefix. Default: 16. One turns multipath off.
    pub max_paths: u8,
    /// AS paths of equal length share the load even when they differ. Default: true, as the routers of a rack pair may
    /// have two AS numbers.
    pub relax: bool,
}

impl Default for Multipath {
    fn default() -> Self {
        Self {
            max_paths: 16,
            relax: true,
        }
    }
}

/// One peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerConfig {
    /// The peer's AS. Equal to our own: iBGP.
    pub remote_as: u32,
    /// Our AS towards this peer, instead of the global one.
    pub local_as: Option<u32>,
    /// The peer's TCP port. Default: 179.
    pub port: u16,
    /// The source address of our connections. Default: what the kernel picks.
    pub local_address: Option<IpAddr>,
    /// The families to offer. Default: both.
    pub families: BTreeSet<Family>,
    /// The next hop to announce for a family, needed where the session runs over the other family.
    /// Default for the session's own family: its local address.
    pub next_hops: BTreeMap<Family, IpAddr>,
    /// The hold time to propose; 0 turns keepalives off, 1 and 2 s become 3 s (RFC 4271 §4.2). Default: 90 s.
    pub hold_time: Duration,
    /// The longest time between keepalives. Default: a third of the negotiated hold time.
    pub keepalive: Option<Duration>,
    /// The longest time between two attempts to connect; each is shortened by up to a quarter. Default: 5 s.
    pub connect_retry: Duration,
    /// Do not connect, only accept.
    pub passive: bool,
    /// The session is administratively down, with a text for the peer (RFC 9003).
    pub shutdown: Option<String>,
    /// The IP TTL of what we send. Default: the kernel's, so that the peer may be several hops away.
    pub ttl: Option<u8>,
    /// Graceful restart (RFC 4724). `None` does not announce it.
    pub graceful_restart: Option<GracefulRestart>,
    /// Accept IPv4 prefixes with IPv6 next hops (RFC 8950). Default: false, since the one who installs the routes must
    /// know them.
    pub extended_next_hop: bool,
    /// How often our own AS may stand in a received AS path. Default: 0.
    pub allow_own_as: u8,
    /// The first AS of a path from an eBGP peer must be the peer's (RFC 4271 §6.3). Default: true; route servers need
    /// false.
    pub enforce_first_as: bool,
    /// What this peer is told. Default: what this speaker originates and nothing else.
    pub export: Export,
}

impl PeerConfig {
    /// A peer with every default.
    pub fn new(remote_as: u32) -> Self {
        Self {
            remote_as,
            local_as: None,
            port: PORT,
            local_address: None,
            families: Family::ALL.into(),
            next_hops: BTreeMap::new(),
            hold_time: Duration::from_secs(90),
            keepalive: None,
            connect_retry: Duration::from_secs(5),
            passive: false,
            shutdown: None,
            ttl: None,
            graceful_restart: Some(GracefulRestart::default()),
            extended_next_hop: false,
            allow_own_as: 0,
            enforce_first_as: true,
            export: Export::Originated,
        }
    }
}

/// How graceful restart is announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GracefulRestart {
    /// How long the peer shall keep our routes while we are away; 4095 s at most. Default: 120 s.
    pub restart_time: Duration,
    /// How long after its return the peer's old routes are kept while it has not sent End-of-RIB. Default: 360 s.
    pub stale_time: Duration,
}

impl Default for GracefulRestart {
    fn default() -> Self {
        Self {
            restart_time: Duration::from_mins(2),
            stale_time: Duration::from_mins(6),
        }
    }
}

/// Which routes a peer is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Export {
    /// Only what this speaker originates: a host is never the way from one router to another.
    #[default]
    Originated,
    /// Every best path that the rules of iBGP and eBGP allow.
    Best,
}

/// How an originated prefix is announced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    /// Communities (RFC 1997), as `high << 16 | low`.
    pub communities: Vec<u32>,
    /// Large communities (RFC 8092).
    pub large_communities: Vec<[u32; 3]>,
    /// The MULTI_EXIT_DISC, if any.
    pub med: Option<u32>,
    /// The LOCAL_PREF towards iBGP peers. Default: 100.
    pub local_pref: Option<u32>,
}

/// How the speaker ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Another process takes over soon: connections are closed without a word, so that peers keep our routes.
    Restart,
    /// Peers drop our routes: Cease, Administrative Shutdown, with this text (RFC 9003).
    Shutdown(String),
}

/// The registered port of BGP (RFC 4271 §8.2.1).
pub const PORT: u16 = 179;
