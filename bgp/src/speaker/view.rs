//! Answers for people.

use std::collections::BTreeMap;
use std::time::Instant;

use ipnet::IpNet;

use super::Speaker;
use super::peer::{Peer, describe};
use crate::rib::SourceId;
use crate::status::{
    FamilyStatus, LastError, PeerStatus, RouteFilter, RouteTable, RouteView, SessionInfo,
    SpeakerStatus,
};
use crate::wire::Attributes;
use crate::{Family, PeerAddress};

impl Speaker {
    /// Every configured peer, in the order of addresses.
    pub fn peers(&self, now: Instant) -> Vec<PeerStatus> {
        self.peers
            .values()
            .map(|peer| self.peer_status(peer, now))
            .collect()
    }

    /// The routes that pass the filter, in the order of prefixes.
    pub fn routes(&self, filter: &RouteFilter) -> Vec<RouteView> {
        let limit = filter.limit.unwrap_or(usize::MAX);
        let mut views: Vec<RouteView> = match filter.table {
            RouteTable::Advertised => self.advertised(filter).take(limit).collect(),
            RouteTable::Received | RouteTable::Accepted | RouteTable::Best => {
                let known: Box<dyn Iterator<Item = &IpNet>> = match &filter.prefix {
                    Some(prefix) => Box::new(std::iter::once(prefix)),
                    None => Box::new(self.rib.prefixes()),
                };
                let shown = known.filter(|prefix| passes_family(filter, prefix));
                shown
                    .flat_map(|prefix| self.known(prefix, filter))
                    .take(limit)
                    .collect()
            }
        };
        views.sort_by_key(|view| (view.prefix, view.peer));
        views
    }

    /// The speaker as a whole, without its listeners.
    pub fn status(&self) -> SpeakerStatus {
        SpeakerStatus {
            router_id: self.config.router_id,
            local_as: self.config.local_as,
            converged: self.converged,
            listeners: Vec::new(),
            prefixes: self.rib.len(),
            originated: self.originated.as_ref().map_or(0, BTreeMap::len),
            attribute_sets: self.rib.attribute_sets(),
        }
    }

    fn peer_status(&self, peer: &Peer, now: Instant) -> PeerStatus {
        let live = peer.up.as_ref();
        let families = Family::ALL
            .into_iter()
            .filter(|family| peer.config.families.contains(family))
            .map(|family| {
                let count = self.rib.count(peer.source, family);
                let status = FamilyStatus {
                    negotiated: live
                        .is_some_and(|live| live.negotiated.context.families.contains(&family)),
                    received: count.received,
                    accepted: count.accepted,
                    stale: count.stale,
                    advertised: peer.out.count(family),
                    end_of_rib_received: live
                        .is_some_and(|live| live.end_of_rib_received.contains(&family)),
                    end_of_rib_sent: live
                        .is_some_and(|live| live.end_of_rib_sent.contains(&family)),
                };
                (family, status)
            });
        PeerStatus {
            address: peer.address,
            remote_as: peer.config.remote_as,
            local_as: peer.session.settings().local_as(),
            state: peer.state,
            since: now.saturating_duration_since(peer.state_since),
            shutdown: peer.config.shutdown.is_some(),
            session: live.map(|live| SessionInfo {
                local: live.ends.local,
                remote: live.ends.remote,
                remote_id: live.negotiated.remote_id,
                hold_time: live.negotiated.hold_time,
                keepalive: live.negotiated.keepalive,
                four_octet_as: live.negotiated.context.four_octet_as,
                route_refresh: live.negotiated.route_refresh,
                extended_message: live.negotiated.context.max_len > crate::wire::MAX_LEN,
                graceful_restart: live
                    .negotiated
                    .restart
                    .as_ref()
                    .map(|restart| restart.restart_time),
                notification_restart: live
                    .negotiated
                    .restart
                    .as_ref()
                    .is_some_and(|restart| restart.notification),
            }),
            families: families.collect(),
            restarting: peer.restart.is_some(),
            established_count: peer.counters.established,
            messages_received: peer.counters.messages_received,
            messages_sent: peer.counters.messages_sent,
            update_errors: peer.counters.update_errors,
            last_update_error: peer.counters.last_update_error.clone(),
            last_error: peer.last_error.as_ref().map(|(cause, at)| LastError {
                by: cause.by,
                code: cause
                    .notification
                    .as_ref()
                    .map(|notification| notification.code),
                subcode: cause
                    .notification
                    .as_ref()
                    .map(|notification| notification.subcode),
                text: describe(cause),
                communication: cause
                    .notification
                    .as_ref()
                    .and_then(|notification| notification.inner().communication()),
                ago: now.saturating_duration_since(*at),
            }),
        }
    }

    fn known(&self, prefix: &IpNet, filter: &RouteFilter) -> Vec<RouteView> {
        let (paths, decision) = self.rib.explain(prefix);
        let mut candidate = 0;
        let mut views = Vec::new();
        for path in paths {
            let mut view = view(*prefix, self.address_of(path.source), &path.attributes);
            if path.source == SourceId::LOCAL {
                view.next_hop = None;
            }
            view.stale = path.stale;
            view.rejected = path.rejected;
            view.multipath = path.multipath;
            if path.rejected.is_none() {
                if let Some(decision) = &decision {
                    view.best = decision.best == candidate;
                    view.reason = decision.removed_by[candidate].or(Some(decision.reason));
                }
                candidate += 1;
            }
            let in_table = match filter.table {
                RouteTable::Received => true,
                RouteTable::Accepted => path.rejected.is_none(),
                RouteTable::Best | RouteTable::Advertised => path.multipath,
            };
            if in_table && filter.peer.is_none_or(|peer| view.peer == Some(peer)) {
                views.push(view);
            }
        }
        views
    }

    fn advertised<'a>(&'a self, filter: &'a RouteFilter) -> impl Iterator<Item = RouteView> + 'a {
        let peers = self
            .peers
            .values()
            .filter(|peer| filter.peer.is_none_or(|wanted| wanted == peer.address));
        peers.flat_map(move |peer| {
            let wanted = |prefix: &IpNet| {
                passes_family(filter, prefix)
                    && filter.prefix.is_none_or(|wanted| wanted == *prefix)
            };
            let sent = peer.out.sent().filter(move |(prefix, _)| wanted(prefix));
            sent.map(|(prefix, attributes)| view(*prefix, Some(peer.address), attributes))
        })
    }

    fn address_of(&self, source: SourceId) -> Option<PeerAddress> {
        // A walk over few peers; routes do not carry the address so that they stay small.
        self.peers
            .values()
            .find(|peer| peer.source == source)
            .map(|peer| peer.address)
    }
}

fn passes_family(filter: &RouteFilter, prefix: &IpNet) -> bool {
    filter
        .family
        .is_none_or(|family| family == Family::of(prefix))
}

fn view(prefix: IpNet, peer: Option<PeerAddress>, attributes: &Attributes) -> RouteView {
    let community = |community: &u32| format!("{}:{}", community >> 16, community & 0xffff);
    let large = |[global, first, second]: &[u32; 3]| format!("{global}:{first}:{second}");
    RouteView {
        prefix,
        peer,
        next_hop: Some(attributes.next_hop.address),
        as_path: attributes.as_path.to_string(),
        origin: attributes.origin.as_str(),
        med: attributes.med,
        local_pref: attributes.local_pref,
        communities: attributes.communities.iter().map(community).collect(),
        large_communities: attributes.large_communities.iter().map(large).collect(),
        best: false,
        multipath: false,
        stale: false,
        reason: None,
        rejected: None,
    }
}
