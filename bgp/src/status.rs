//! What the speaker tells about itself: routes for the kernel, and answers for people.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use serde::{Serialize, Serializer};

use crate::decision::Reason;
use crate::policy::Rejection;
use crate::{Family, PeerAddress};

/// The next hops by which a prefix is reached now; none: the prefix is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FibChange {
    /// The destination.
    pub prefix: IpNet,
    /// Sorted and without repetition. More than one share the load.
    pub next_hops: Vec<IpAddr>,
}

/// What changed since the last one. The first one of a subscription holds the complete state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FibUpdate {
    /// At most one for each prefix.
    pub changes: Vec<FibChange>,
    /// Every peer has told its routes, or the deferral is over. Until then a route of an earlier process that is not
    /// among the changes may only not have been told yet, and must stay. Never becomes false again.
    pub converged: bool,
}

/// The state of a session, in the words of RFC 4271 §8.2.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum SessionState {
    /// Nothing is tried: shut down, or waiting after an error.
    Idle,
    /// A TCP connection is being made.
    Connect,
    /// Waiting for the peer to connect, or for the next attempt.
    Active,
    /// Our OPEN is sent.
    OpenSent,
    /// The peer's OPEN is accepted.
    OpenConfirm,
    /// Routes are exchanged.
    Established,
}

/// A peer as `bgp peers` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PeerStatus {
    /// Who it is.
    pub address: PeerAddress,
    /// The AS it is configured with.
    pub remote_as: u32,
    /// Our AS towards it.
    pub local_as: u32,
    /// The state of its session.
    pub state: SessionState,
    /// How long it is in this state, in seconds.
    #[serde(rename = "since_seconds", serialize_with = "seconds")]
    pub since: Duration,
    /// It is administratively down.
    pub shutdown: bool,
    /// What was agreed on; only while Established.
    pub session: Option<SessionInfo>,
    /// Counters by family.
    pub families: BTreeMap<Family, FamilyStatus>,
    /// Its routes are kept although it is away, because it restarts.
    pub restarting: bool,
    /// How often the session was Established.
    pub established_count: u64,
    /// Messages from it, without KEEPALIVE.
    pub messages_received: u64,
    /// Messages to it, without KEEPALIVE.
    pub messages_sent: u64,
    /// UPDATE errors that did not end the session (RFC 7606).
    pub update_errors: u64,
    /// The last of them.
    pub last_update_error: Option<String>,
    /// Why the session last went down, or why it does not come up.
    pub last_error: Option<LastError>,
}

/// What both sides agreed on in their OPENs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SessionInfo {
    /// Our side of the connection.
    pub local: SocketAddr,
    /// The peer's side.
    pub remote: SocketAddr,
    /// The peer's BGP identifier.
    pub remote_id: Ipv4Addr,
    /// The hold time, in seconds; 0: none.
    pub hold_time: u16,
    /// The time between keepalives in seconds; 0: none.
    pub keepalive: u16,
    /// AS numbers are four octets wide (RFC 6793).
    pub four_octet_as: bool,
    /// Routes may be asked for again (RFC 2918).
    pub route_refresh: bool,
    /// Messages may be up to 65,535 octets long (RFC 8654).
    pub extended_message: bool,
    /// The peer's restart time in seconds, if both sides announced graceful restart.
    pub graceful_restart: Option<u16>,
    /// A NOTIFICATION keeps routes as well (RFC 8538).
    pub notification_restart: bool,
}

/// The counters of one family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FamilyStatus {
    /// Both sides offered it.
    pub negotiated: bool,
    /// Routes the peer has announced.
    pub received: usize,
    /// Of these, the ones that may become best.
    pub accepted: usize,
    /// Of the received ones, those kept only because the peer restarts.
    pub stale: usize,
    /// Routes the peer was told.
    pub advertised: usize,
    /// The peer has sent End-of-RIB.
    pub end_of_rib_received: bool,
    /// We have sent End-of-RIB.
    pub end_of_rib_sent: bool,
}

/// An error of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LastError {
    /// Who ended it.
    pub by: ErrorSide,
    /// The error code of the NOTIFICATION; `None`: there was none.
    pub code: Option<u8>,
    /// The error subcode of the NOTIFICATION.
    pub subcode: Option<u8>,
    /// The code and subcode in the RFC's words, or what happened to the connection.
    pub text: String,
    /// The shutdown communication (RFC 9003), if there was one.
    pub communication: Option<String>,
    /// How long ago, in seconds.
    #[serde(rename = "ago_seconds", serialize_with = "seconds")]
    pub ago: Duration,
}

/// Who found an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorSide {
    /// We sent a NOTIFICATION or closed the connection.
    Local,
    /// The peer did.
    Remote,
    /// Neither: the connection broke or could not be made.
    Transport,
}

/// The speaker as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SpeakerStatus {
    /// The BGP identifier.
    pub router_id: Ipv4Addr,
    /// Our AS.
    pub local_as: u32,
    /// See [`FibUpdate::converged`].
    pub converged: bool,
    /// Where connections are accepted.
    pub listeners: Vec<ListenerStatus>,
    /// Prefixes known.
    pub prefixes: usize,
    /// Prefixes originated here.
    pub originated: usize,
    /// Distinct attribute sets in memory.
    pub attribute_sets: usize,
}

/// A listening socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ListenerStatus {
    /// Where it listens, or should.
    pub address: SocketAddr,
    /// Why it does not; it is tried again.
    pub error: Option<String>,
}

/// Which routes to show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouteFilter {
    /// From which table.
    pub table: RouteTable,
    /// Only from, or to, this peer.
    pub peer: Option<PeerAddress>,
    /// Only of this family.
    pub family: Option<Family>,
    /// Only this very prefix.
    pub prefix: Option<IpNet>,
    /// At most so many.
    pub limit: Option<usize>,
}

/// A table of routes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RouteTable {
    /// Everything peers announced and we originate, rejected or not.
    Received,
    /// What import accepted.
    Accepted,
    /// The chosen paths, with all that share the load.
    #[default]
    Best,
    /// What peers were told.
    Advertised,
}

/// A route as `bgp routes` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RouteView {
    /// The destination.
    pub prefix: IpNet,
    /// The peer it came from or, among the advertised, goes to. `None`: originated here.
    pub peer: Option<PeerAddress>,
    /// The next hop; `None` for what is originated here.
    pub next_hop: Option<IpAddr>,
    /// The AS path as text, sets in braces.
    pub as_path: String,
    /// IGP, EGP or incomplete.
    pub origin: &'static str,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// LOCAL_PREF.
    pub local_pref: Option<u32>,
    /// Communities as text.
    pub communities: Vec<String>,
    /// Large communities as text.
    pub large_communities: Vec<String>,
    /// This is the best path of its prefix.
    pub best: bool,
    /// This path shares the load.
    pub multipath: bool,
    /// Kept because its peer restarts.
    pub stale: bool,
    /// The step of the decision process that chose the best path, or put this one behind it.
    pub reason: Option<Reason>,
    /// Why import refused it.
    pub rejected: Option<Rejection>,
}

fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(duration.as_secs())
}
