//! Routers that other people wrote: one description of what they should do, and one form of what they say.

use std::{fmt, net::IpAddr};

use ipnet::IpNet;

pub mod bird;
pub mod frr;
pub mod gobgp;

/// What a router should do, in no vendor's language.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Its autonomous system.
    pub asn: u32,
    /// Its router id, written as an IPv4 address.
    pub router_id: String,
    /// Its eBGP neighbours. Each session carries both families.
    pub neighbors: Vec<Neighbor>,
    /// The prefixes it announces as its own.
    pub originates: Vec<IpNet>,
}

/// A BGP neighbour.
#[derive(Clone, Debug)]
pub struct Neighbor {
    /// A name for configurations and output, made of letters and digits.
    pub name: String,
    /// Its address on the shared link.
    pub address: IpAddr,
    /// The router's own address on that link.
    pub local: IpAddr,
    /// The router's own IPv6 address on that link: the next hop of the IPv6 routes sent over an IPv4 session.
    pub local_v6: IpAddr,
    /// Its autonomous system.
    pub asn: u32,
}

/// A BGP session as a router reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The neighbour's address.
    pub peer: IpAddr,
    /// The state in the words of RFC 4271 (`Established`, `Active` ..).
    pub state: String,
}

/// A route as a router reports it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouteEntry {
    /// Where it leads.
    pub prefix: IpNet,
    /// The addresses of the routers it goes through, sorted; empty for its own.
    pub next_hops: Vec<IpAddr>,
    /// The AS paths of all its ways, the best first.
    pub paths: Vec<Vec<u32>>,
}

impl RouteEntry {
    /// A route without ways.
    pub fn new(prefix: IpNet) -> Self {
        Self {
            prefix,
            next_hops: Vec::new(),
            paths: Vec::new(),
        }
    }
}

impl fmt::Display for RouteEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = |list: &mut dyn Iterator<Item = String>| list.collect::<Vec<_>>().join(" ");
        let paths: Vec<String> = self
            .paths
            .iter()
            .map(|path| words(&mut path.iter().map(u32::to_string)))
            .collect();
        let via = match self.next_hops.as_slice() {
            [] => "local".to_owned(),
            hops => words(&mut hops.iter().map(IpAddr::to_string)),
        };
        write!(
            f,
            "{:<22} via {via:<34} as-path {}",
            self.prefix.to_string(),
            paths.join(" | ")
        )
    }
}

/// A routing daemon of any make.
#[cfg(feature = "lab")]
pub trait Router {
    /// The name and version of the make, for people.
    fn make(&self) -> &'static str;
    /// Its sessions.
    fn sessions(&self) -> anyhow::Result<Vec<Session>>;
    /// Its routes of both families, sorted, one entry for a prefix.
    fn routes(&self) -> anyhow::Result<Vec<RouteEntry>>;

    /// The state of one session, or that there is none.
    fn session_state(&self, peer: IpAddr) -> Result<String, String> {
        let sessions = self.sessions().map_err(|error| format!("{error:#}"))?;
        let found = sessions.into_iter().find(|session| session.peer == peer);
        found
            .map(|session| session.state)
            .ok_or_else(|| format!("no session with {peer}"))
    }
}
