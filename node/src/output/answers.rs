//! What the API answers.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// How the daemon is, in one look.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The Node resource this host is.
    pub nodename: String,
    /// The daemon's version.
    pub version: String,
    /// Every latch is set.
    pub ready: bool,
    /// What readiness consists of.
    pub latches: Vec<Latch>,
    /// Seconds since the daemon started.
    pub uptime_seconds: u64,
    /// The store.
    pub store: Store,
    /// Workload endpoints of this host: all, and those that are programmed.
    pub endpoints: Count,
    /// BGP peers: all, and those with an established session.
    pub peers: Count,
    /// Keys that a table of the kernel does not hold as it should.
    pub unsettled: u64,
    /// Entries written to or removed from the kernel's tables since the daemon started.
    pub writes: u64,
    /// What a person should mend.
    pub problems: Vec<Problem>,
}

/// A condition of readiness.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Latch {
    /// Its name.
    pub name: String,
    /// Whether it holds.
    pub ready: bool,
    /// Why not, when it does not; when it does, what is worth knowing all the same.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub reason: String,
}

/// The store as the daemon sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Store {
    /// `etcd`, `dir` or `memory`.
    pub kind: String,
    /// Everything that was there at the start has been read.
    pub in_sync: bool,
    /// The newest revision seen.
    pub revision: u64,
    /// What is wrong with the connection, if anything.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub trouble: String,
    /// The state on disk that is in force, while the store has not told its own.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub snapshot: Option<Snapshot>,
    /// Why the store is not obeyed, while it looks lost.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub held: Option<Held>,
    /// `ClusterInformation` says that the datastore is not ready: what is in force stays as it is.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub frozen: bool,
}

/// A state of the store that was read from disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// When it was written.
    pub written: String,
    /// When it was last known to be what the store holds.
    pub confirmed: String,
    /// Seconds since then.
    pub age_seconds: u64,
    /// The revision it goes up to.
    pub revision: u64,
    /// How many objects it holds.
    pub objects: u64,
}

/// A store that looks lost: what it says is kept back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Held {
    /// How many objects are in force.
    pub known: u64,
    /// How many of them the store does not have.
    pub missing: u64,
    /// What happened.
    pub reason: String,
    /// Seconds since then.
    pub since_seconds: u64,
}

/// The file that holds the last good state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kept {
    /// The file.
    pub path: String,
    /// When it was written; empty if there is none.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub written: String,
    /// When it was last known to be what the store holds.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub confirmed: String,
    /// The revision it goes up to.
    pub revision: u64,
    /// How many objects it holds.
    pub objects: u64,
    /// Its size.
    pub bytes: u64,
    /// Why it could not be written last, if so.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub trouble: String,
}

/// The daemon's relation to its store, as `store status` shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoreStatus {
    /// How the store is.
    pub store: Store,
    /// The last good state on disk; none for a store that needs none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub kept: Option<Kept>,
}

/// What `store accept` did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Accepted {
    /// Something was held, and is obeyed now.
    pub accepted: bool,
}

/// So many of all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Count {
    /// Those that are as they should be.
    pub good: u64,
    /// All of them.
    pub all: u64,
}

/// An object that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// The object, as `Kind(namespace/name)`.
    pub object: String,
    /// Path of the field at fault; empty for the whole.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub field: String,
    /// What is wrong.
    pub reason: String,
}

/// A workload endpoint of this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The workload it belongs to.
    pub workload: String,
    /// The host-side interface.
    pub interface: String,
    /// The interface's index, when it is there.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ifindex: Option<u32>,
    /// The workload's MAC address, when the endpoint names one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mac: Option<String>,
    /// Addresses the workload may use.
    pub networks: Vec<IpNet>,
    /// Profiles.
    pub profiles: Vec<String>,
    /// Policies that apply to what it receives, in order.
    pub ingress: Vec<String>,
    /// Policies that apply to what it sends, in order.
    pub egress: Vec<String>,
    /// `up`, or what is missing.
    pub state: String,
}

/// The rules that judge an endpoint's packets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointPolicy {
    /// The endpoint, as `namespace/name`.
    pub endpoint: String,
    /// What it receives.
    pub ingress: Vec<Rule>,
    /// What it sends.
    pub egress: Vec<Rule>,
}

/// A rule in the order in which it is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// Where the rule stands: tier, policy and index, or the end of a tier.
    pub rule: String,
    /// What it does.
    pub action: String,
    /// What it asks of a packet.
    pub matches: String,
    /// Packets that opened a flow and met this rule.
    pub packets: u64,
}

/// A flow in the connection table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Flow {
    /// The protocol's name or number.
    pub protocol: String,
    /// Source address of its packets.
    pub source: IpAddr,
    /// Source port, or 0.
    pub source_port: u16,
    /// Destination address.
    pub destination: IpAddr,
    /// Destination port, or 0; of ICMP, the identifier.
    pub destination_port: u16,
    /// What is known of the connection.
    pub state: String,
    /// Packets seen in this direction.
    pub packets: u64,
    /// Bytes seen in this direction.
    pub bytes: u64,
    /// Seconds since the last packet.
    pub idle_seconds: u64,
}

/// Where a table outside this process differs from what is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Drift {
    /// The table.
    pub table: String,
    /// The key.
    pub key: String,
    /// What should be there; nothing when the entry should not exist.
    pub wanted: Option<String>,
    /// What was seen there.
    pub actual: Option<String>,
    /// Why the last write failed, if it did.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub reason: String,
}

/// A parameter of Felix as it holds on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Parameter {
    /// Its name in variables and in `felix.cfg`.
    pub name: String,
    /// The field of FelixConfiguration, if there is one.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub field: String,
    /// What holds.
    pub value: String,
    /// Who said so.
    pub source: String,
    /// Whether cleat acts on it: `live`, `at start` or `no`.
    pub used: String,
    /// What weaker levels said in vain, the strongest first.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub overridden: Vec<Overridden>,
    /// Why the default holds in place of what the source said.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub fault: Option<String>,
}

/// What a level said in vain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overridden {
    /// The level.
    pub source: String,
    /// The value as it is written there.
    pub value: String,
}

/// A BGP peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    /// Its address.
    pub peer: String,
    /// The resource it comes from.
    pub name: String,
    /// Its AS number.
    pub remote_as: u32,
    /// The session's state.
    pub state: String,
    /// Seconds in this state.
    pub since_seconds: u64,
    /// Graceful restart as agreed: `120s`, `restarting`, or empty.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub graceful_restart: String,
    /// By address family.
    pub families: Vec<PeerFamily>,
    /// The last NOTIFICATION or trouble of the transport.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub last_error: String,
}

/// What a session carries for one family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerFamily {
    /// `ipv4` or `ipv6`.
    pub family: String,
    /// Prefixes received.
    pub received: u64,
    /// Prefixes that passed the import policy.
    pub accepted: u64,
    /// Prefixes told to the peer.
    pub advertised: u64,
}

/// A BGP route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// The prefix.
    pub prefix: IpNet,
    /// Its next hop; none for one of our own.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next_hop: Option<IpAddr>,
    /// The peer it was learned from or told to, or `local`.
    pub peer: String,
    /// In use: it, perhaps with others, forwards packets.
    pub used: bool,
    /// The AS path.
    pub as_path: String,
    /// MED, local preference, communities: whatever else it carries.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub attributes: String,
    /// Why it was chosen, or not.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub reason: String,
}
