//! The speaker as the API and the metrics see it: its answers in the terms of the resources.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use cleat_bgp::net::Speaker;
use cleat_bgp::status::{LastError, SessionState};
use cleat_bgp::{Family, PeerAddress, PeerStatus, RouteFilter, RouteTable, RouteView};
use ipnet::IpNet;
use tokio::sync::watch;

use super::metrics::ESTABLISHED;
use crate::output::answers;

/// The speaker, once there is one, and the resources its peers come from. Clones share it.
#[derive(Clone)]
pub struct Sessions {
    current: watch::Receiver<Current>,
}

/// What the owner tells of the speaker.
#[derive(Clone, Default)]
pub struct Current {
    /// The running speaker.
    pub speaker: Option<Speaker>,
    /// The resource each peer comes from.
    pub names: Arc<BTreeMap<PeerAddress, String>>,
    /// What kind of peer each is, in Calico's words.
    pub kinds: Arc<BTreeMap<PeerAddress, &'static str>>,
    /// When the speaker was last given a configuration.
    pub configured: Option<SystemTime>,
}

/// The end by which the owner tells, and the one that answers.
pub fn channel() -> (watch::Sender<Current>, Sessions) {
    let (tell, current) = watch::channel(Current::default());
    (tell, Sessions { current })
}

impl Sessions {
    /// Every peer.
    pub async fn peers(&self) -> Vec<answers::Peer> {
        let Current { speaker, names, .. } = self.current();
        let Some(speaker) = speaker else {
            return Vec::new();
        };
        let peers = speaker.peers().await;
        peers
            .iter()
            .map(|peer| describe(peer, names.get(&peer.address)))
            .collect()
    }

    /// Peers with an established session, and all.
    pub async fn count(&self) -> answers::Count {
        let peers = self.peers().await;
        let good = peers
            .iter()
            .filter(|peer| peer.state == ESTABLISHED)
            .count();
        answers::Count {
            good: good as u64,
            all: peers.len() as u64,
        }
    }

    /// What keeps the speaker from working.
    pub async fn problems(&self) -> Vec<answers::Problem> {
        let Some(speaker) = self.current().speaker else {
            return Vec::new();
        };
        let listeners = speaker
            .status()
            .await
            .map(|status| status.listeners)
            .unwrap_or_default();
        let failed = listeners
            .into_iter()
            .filter_map(|listener| Some((listener.address, listener.error?)));
        failed
            .map(|(address, error)| answers::Problem {
                object: "BGP".to_owned(),
                field: "listen".to_owned(),
                reason: format!(
                    "cannot listen on {address}: {error}; another speaker may hold the port"
                ),
            })
            .collect()
    }

    /// Routes of a table that pass the filters; `Err` tells what of the question makes no sense.
    pub async fn routes(
        &self,
        table: &str,
        peer: Option<IpAddr>,
        family: Option<&str>,
        prefix: Option<IpNet>,
        limit: usize,
    ) -> Result<Vec<answers::Route>, String> {
        let table = match table {
            "received" => RouteTable::Received,
            "accepted" => RouteTable::Accepted,
            "best" => RouteTable::Best,
            "advertised" => RouteTable::Advertised,
            other => return Err(format!("there is no table {other:?}")),
        };
        let family = match family {
            None => None,
            Some("ipv4") => Some(Family::Ipv4Unicast),
            Some("ipv6") => Some(Family::Ipv6Unicast),
            Some(other) => return Err(format!("there is no family {other:?}")),
        };
        let Some(speaker) = self.current().speaker else {
            return Ok(Vec::new());
        };
        let filter = RouteFilter {
            table,
            peer: peer.map(Into::into),
            family,
            prefix,
            limit: Some(limit),
        };
        Ok(speaker
            .routes(filter)
            .await
            .into_iter()
            .map(route)
            .collect())
    }

    /// The speaker and what the owner told of it.
    pub(super) fn current(&self) -> Current {
        self.current.borrow().clone()
    }
}

fn describe(peer: &PeerStatus, name: Option<&String>) -> answers::Peer {
    let state = match peer.state {
        _ if peer.shutdown => "Shutdown",
        SessionState::Idle => "Idle",
        SessionState::Connect => "Connect",
        SessionState::Active => "Active",
        SessionState::OpenSent => "OpenSent",
        SessionState::OpenConfirm => "OpenConfirm",
        SessionState::Established => ESTABLISHED,
    };
    let agreed = peer
        .session
        .as_ref()
        .and_then(|session| session.graceful_restart);
    let families = peer
        .families
        .iter()
        .map(|(family, counters)| answers::PeerFamily {
            family: match family {
                Family::Ipv4Unicast => "ipv4",
                Family::Ipv6Unicast => "ipv6",
            }
            .to_owned(),
            received: counters.received as u64,
            accepted: counters.accepted as u64,
            advertised: counters.advertised as u64,
        });
    answers::Peer {
        peer: peer.address.to_string(),
        name: name.cloned().unwrap_or_default(),
        remote_as: peer.remote_as,
        state: state.to_owned(),
        since_seconds: peer.since.as_secs(),
        graceful_restart: match agreed {
            _ if peer.restarting => "restarting".to_owned(),
            Some(seconds) => format!("{seconds}s"),
            None => String::new(),
        },
        families: families.collect(),
        last_error: peer.last_error.as_ref().map(error).unwrap_or_default(),
    }
}

fn error(error: &LastError) -> String {
    let code = error
        .code
        .map(|code| format!(" ({code}/{})", error.subcode.unwrap_or(0)))
        .unwrap_or_default();
    let said = error
        .communication
        .as_ref()
        .map(|text| format!(": {text:?}"))
        .unwrap_or_default();
    format!("{}{code}{said}", error.text)
}

fn route(route: RouteView) -> answers::Route {
    let mut attributes = vec![format!("origin={}", route.origin)];
    let numbers = [("med", route.med), ("localpref", route.local_pref)];
    attributes.extend(
        numbers
            .into_iter()
            .filter_map(|(name, value)| Some(format!("{name}={}", value?))),
    );
    let communities = route.communities.iter().chain(&route.large_communities);
    attributes.extend(communities.map(|community| format!("community={community}")));
    if route.stale {
        attributes.push("stale".to_owned());
    }
    let reason = match (route.rejected, route.reason) {
        (Some(rejected), _) => format!("rejected: {}", word(&rejected)),
        (None, Some(reason)) => word(&reason),
        (None, None) => String::new(),
    };
    answers::Route {
        prefix: route.prefix,
        next_hop: route.next_hop,
        peer: route
            .peer
            .map_or_else(|| "local".to_owned(), |peer| peer.to_string()),
        used: route.best || route.multipath,
        as_path: route.as_path,
        attributes: attributes.join(" "),
        reason,
    }
}

/// The name that an enum has in JSON.
fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => text,
        Ok(other) => other.to_string(),
        Err(error) => error.to_string(),
    }
}
