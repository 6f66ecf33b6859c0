//! The speaker without sockets: every session, the routes, and what follows from one for the other.
//!
//! `handle(event, now)` returns what to do on the connections; routes for the kernel wait in
//! [`Speaker::take_fib`]. Time comes from outside, so any number of speakers run in one test on one clock.
//! What a peer still has to be told waits in its `AdjOut` until [`Event::Sent`] makes room: nothing here grows with the
//! slowness of a peer.

mod peer;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use tracing::{debug, info};

use crate::config::{Config, Origin, PeerConfig, Stop};
use crate::family::PeerAddress;
use crate::policy::martian;
use crate::rib::{Rib, SourceId};
use crate::rng::Rng;
use crate::session::{ConnId, Cx, Ends, Output, Up};
use crate::status::{FibChange, FibUpdate};
use crate::wire::{Attributes, Notification, Update, cease, code};
use peer::Peer;

/// Something happened.
#[derive(Debug)]
pub enum Event {
    /// This is wanted now.
    Configure(Config),
    /// These prefixes are originated now.
    Originate(BTreeMap<IpNet, Origin>),
    /// A connection asked for by [`Effect::Connect`] is made.
    Connected {
        /// Which.
        conn: ConnId,
        /// Its addresses.
        ends: Ends,
    },
    /// A connection cannot be made.
    ConnectFailed {
        /// Which.
        conn: ConnId,
        /// Why.
        error: String,
    },
    /// Someone made a connection to us.
    Accepted {
        /// A name that was not used before.
        conn: ConnId,
        /// Its addresses.
        ends: Ends,
    },
    /// Bytes came.
    Received {
        /// On which connection.
        conn: ConnId,
        /// The bytes, cut anywhere.
        bytes: Vec<u8>,
    },
    /// So many bytes of [`Effect::Send`] are handed to the kernel.
    Sent {
        /// On which connection.
        conn: ConnId,
        /// How many.
        bytes: usize,
    },
    /// A connection is gone, without our closing it.
    Closed {
        /// Which.
        conn: ConnId,
        /// Why.
        error: String,
    },
    /// The end.
    Stop(Stop),
    /// The time of [`Speaker::next_deadline`] is there.
    Timeout,
}

/// What to do on connections.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Make one; answer with `Connected` or `ConnectFailed`.
    Connect {
        /// Its name.
        conn: ConnId,
        /// Whom to call.
        remote: SocketAddr,
        /// From where.
        local: Option<IpAddr>,
        /// The IP TTL.
        ttl: Option<u8>,
    },
    /// An accepted one is wanted, with this TTL.
    SetTtl {
        /// Which.
        conn: ConnId,
        /// The IP TTL.
        ttl: u8,
    },
    /// Send; answer with `Sent`.
    Send {
        /// Where.
        conn: ConnId,
        /// Whole messages.
        bytes: Vec<u8>,
    },
    /// Send a KEEPALIVE whenever nothing else was sent for so long.
    Keepalive {
        /// Where.
        conn: ConnId,
        /// How long.
        every: Duration,
    },
    /// Close once everything was sent, or stop making it.
    Close {
        /// Which.
        conn: ConnId,
    },
}

/// A BGP speaker.
#[derive(Debug)]
pub struct Speaker {
    config: Config,
    rng: Rng,
    next_conn: u64,
    rib: Rib,
    peers: BTreeMap<PeerAddress, Peer>,
    conns: BTreeMap<ConnId, PeerAddress>,
    /// Sources of removed peers, to be used again.
    free_sources: Vec<SourceId>,
    /// `None` until it is told what to originate: until then nobody is told that our routes are complete.
    originated: Option<BTreeMap<IpNet, Origin>>,
    deferred_until: Instant,
    converged: bool,
    fib_dirty: BTreeSet<IpNet>,
    fib_converged: bool,
    stopped: bool,
    effects: Vec<Effect>,
}

impl Speaker {
    /// A speaker that connects with the first event. Equal seeds and events give equal effects.
    pub fn new(config: Config, seed: u64, now: Instant) -> Self {
        let mut speaker = Self {
            rng: Rng::new(seed),
            next_conn: 0,
            rib: Rib::new(config.multipath),
            peers: BTreeMap::new(),
            conns: BTreeMap::new(),
            free_sources: Vec::new(),
            originated: None,
            deferred_until: now + config.deferral,
            converged: false,
            fib_dirty: BTreeSet::new(),
            fib_converged: false,
            stopped: false,
            effects: Vec::new(),
            config,
        };
        let config = speaker.config.clone();
        speaker.configure(config, now);
        speaker
    }

    /// Takes note of an event and tells what to do, in this order.
    pub fn handle(&mut self, event: Event, now: Instant) -> Vec<Effect> {
        match event {
            Event::Configure(config) => self.configure(config, now),
            Event::Originate(prefixes) => self.originate(prefixes),
            Event::Connected { conn, ends } => {
                self.on_conn(conn, now, |peer, cx| peer.session.connected(conn, ends, cx));
            }
            Event::ConnectFailed { conn, error } => {
                self.on_conn(conn, now, |peer, cx| {
                    peer.session.connect_failed(conn, error, cx);
                });
                self.conns.remove(&conn);
            }
            Event::Accepted { conn, ends } => self.accepted(conn, ends, now),
            Event::Received { conn, bytes } => self.on_conn(conn, now, |peer, cx| {
                peer.session.received(conn, &bytes, cx);
            }),
            Event::Sent { conn, bytes } => {
                if let Some(peer) = self
                    .conns
                    .get(&conn)
                    .and_then(|address| self.peers.get_mut(address))
                {
                    peer.sent(conn, bytes);
                }
            }
            Event::Closed { conn, error } => {
                self.on_conn(conn, now, |peer, cx| peer.session.closed(conn, error, cx));
                self.conns.remove(&conn);
            }
            Event::Stop(stop) => self.stop(&stop, now),
            Event::Timeout => self.timeout(now),
        }
        self.settle(now);
        std::mem::take(&mut self.effects)
    }

    /// When [`Event::Timeout`] must come, if nothing else does before.
    pub fn next_deadline(&self) -> Option<Instant> {
        let peers = self
            .peers
            .values()
            .filter_map(|peer| peer.next_deadline(!self.converged));
        let convergence = (!self.converged).then_some(self.deferred_until);
        peers.chain(convergence).min()
    }

    /// The routes that changed since the last call, if any did.
    pub fn take_fib(&mut self) -> Option<FibUpdate> {
        if self.fib_dirty.is_empty() && self.fib_converged == self.converged {
            return None;
        }
        self.fib_converged = self.converged;
        let change = |prefix: IpNet| FibChange {
            prefix,
            next_hops: self.rib.next_hops(&prefix),
        };
        Some(FibUpdate {
            changes: std::mem::take(&mut self.fib_dirty)
                .into_iter()
                .map(change)
                .collect(),
            converged: self.converged,
        })
    }

    /// Every route for the kernel.
    pub fn fib(&self) -> FibUpdate {
        let change = |prefix: &IpNet| FibChange {
            prefix: *prefix,
            next_hops: self.rib.next_hops(prefix),
        };
        let changes = self
            .rib
            .prefixes()
            .map(change)
            .filter(|change| !change.next_hops.is_empty());
        FibUpdate {
            changes: changes.collect(),
            converged: self.converged,
        }
    }

    fn configure(&mut self, config: Config, now: Instant) {
        if self.stopped {
            return;
        }
        self.rib.set_multipath(config.multipath);
        let gone: Vec<PeerAddress> = self
            .peers
            .keys()
            .filter(|address| !config.peers.contains_key(address))
            .copied()
            .collect();
        self.config = config;
        for address in gone {
            let last_word = Notification::new(code::CEASE, cease::PEER_DECONFIGURED);
            self.on_peer(address, now, |peer, cx| {
                peer.session.stop(Some(last_word), cx);
            });
            if let Some(peer) = self.peers.remove(&address) {
                self.flush(&peer);
                self.free_sources.push(peer.source);
            }
            info!(peer = %address, "peer removed");
        }
        let wanted: Vec<(PeerAddress, PeerConfig)> = self
            .config
            .peers
            .iter()
            .map(|(address, peer)| (*address, peer.clone()))
            .collect();
        for (address, wanted) in wanted {
            self.configure_peer(address, &wanted, now);
        }
    }

    fn configure_peer(&mut self, address: PeerAddress, wanted: &PeerConfig, now: Instant) {
        let mut transport_changed = false;
        if let Some(peer) = self.peers.get_mut(&address) {
            transport_changed = peer.take_config(wanted.clone());
            let changes = peer.follow_config(&self.config);
            if let Some(import) = changes.import {
                let judge = |prefix: &IpNet, attributes: &Attributes| {
                    import.judge(attributes).or_else(|| martian(prefix))
                };
                self.rib.rejudge(peer.source, judge);
            }
            if changes.export {
                self.mark_all(address);
            }
        } else {
            let source = peer::source(address, &self.config, wanted, Ipv4Addr::UNSPECIFIED);
            let id = match self.free_sources.pop() {
                Some(id) => {
                    self.rib.set_source(id, source);
                    id
                }
                None => self.rib.add_source(source),
            };
            // One that is configured later was not a peer of the earlier process, as far as anyone can tell.
            let restarting = self.config.restarting && !self.converged;
            let peer = Peer::new(address, &self.config, wanted.clone(), id, restarting, now);
            self.peers.insert(address, peer);
            info!(peer = %address, remote_as = wanted.remote_as, "peer added");
        }
        let (settings, timing) = peer::session_settings(&self.config, wanted);
        self.on_peer(address, now, |peer, cx| {
            if let Some(text) = &wanted.shutdown {
                let last_word = Notification::cease(cease::ADMINISTRATIVE_SHUTDOWN, text);
                peer.session.stop(Some(last_word), cx);
                peer.session.configure(settings, timing, cx);
            } else {
                peer.session.configure(settings, timing, cx);
                if transport_changed {
                    peer.session.reset(cease::OTHER_CONFIGURATION_CHANGE, cx);
                }
                peer.session.start(cx);
            }
        });
    }

    fn originate(&mut self, prefixes: BTreeMap<IpNet, Origin>) {
        if self.stopped {
            return;
        }
        let prefixes: BTreeMap<IpNet, Origin> = prefixes
            .into_iter()
            .map(|(prefix, origin)| (prefix.trunc(), origin))
            .collect();
        let before = self
            .originated
            .replace(prefixes.clone())
            .unwrap_or_default();
        for prefix in before
            .keys()
            .filter(|prefix| !prefixes.contains_key(prefix))
        {
            self.rib.withdraw(SourceId::LOCAL, prefix);
        }
        for (prefix, origin) in prefixes {
            if before.get(&prefix) != Some(&origin) {
                let attributes = self.rib.intern(originated(&origin));
                self.rib.announce(SourceId::LOCAL, prefix, attributes, None);
            }
        }
    }

    fn accepted(&mut self, conn: ConnId, ends: Ends, now: Instant) {
        let address = peer_address(ends.remote);
        let Some(peer) = self.peers.get(&address).filter(|_| !self.stopped) else {
            debug!(remote = %ends.remote, "connection from a stranger");
            self.effects.push(Effect::Close { conn });
            return;
        };
        self.conns.insert(conn, address);
        if let Some(ttl) = peer.config.ttl {
            self.effects.push(Effect::SetTtl { conn, ttl });
        }
        self.on_peer(address, now, |peer, cx| {
            peer.session.accepted(conn, ends, cx);
        });
    }

    fn stop(&mut self, stop: &Stop, now: Instant) {
        self.stopped = true;
        let last_word = match stop {
            Stop::Restart => None,
            Stop::Shutdown(text) => Some(Notification::cease(cease::ADMINISTRATIVE_SHUTDOWN, text)),
        };
        let addresses: Vec<PeerAddress> = self.peers.keys().copied().collect();
        for address in addresses {
            let last_word = last_word.clone();
            self.on_peer(address, now, |peer, cx| peer.session.stop(last_word, cx));
        }
    }

    fn timeout(&mut self, now: Instant) {
        let due = |peer: &Peer| {
            peer.next_deadline(false)
                .is_some_and(|deadline| deadline <= now)
        };
        let addresses: Vec<PeerAddress> = self
            .peers
            .iter()
            .filter(|(_, peer)| due(peer))
            .map(|(address, _)| *address)
            .collect();
        for address in addresses {
            self.on_peer(address, now, |peer, cx| peer.session.timeout(cx));
            if let Some(peer) = self.peers.get_mut(&address)
                && peer.restart_is_over(now)
            {
                info!(peer = %address, "restart time over, old routes dropped");
                for family in crate::Family::ALL {
                    self.rib.flush(peer.source, family, true);
                }
            }
        }
    }

    fn on_conn(&mut self, conn: ConnId, now: Instant, act: impl FnOnce(&mut Peer, &mut Cx<'_>)) {
        if let Some(&address) = self.conns.get(&conn) {
            self.on_peer(address, now, act);
        }
    }

    /// Lets a session act, and does what it wants done.
    fn on_peer(
        &mut self,
        address: PeerAddress,
        now: Instant,
        act: impl FnOnce(&mut Peer, &mut Cx<'_>),
    ) {
        let Some(peer) = self.peers.get_mut(&address) else {
            return;
        };
        let mut out = Vec::new();
        act(
            peer,
            &mut Cx {
                now,
                rng: &mut self.rng,
                next_conn: &mut self.next_conn,
                out: &mut out,
            },
        );
        for output in out {
            self.output(address, output, now);
        }
        if let Some(peer) = self.peers.get_mut(&address) {
            peer.note_state(now);
        }
    }

    fn output(&mut self, address: PeerAddress, output: Output, now: Instant) {
        let Some(peer) = self.peers.get_mut(&address) else {
            return;
        };
        match output {
            Output::Connect(conn) => {
                self.conns.insert(conn, address);
                self.effects.push(Effect::Connect {
                    conn,
                    remote: peer.remote(),
                    local: peer.config.local_address,
                    ttl: peer.config.ttl,
                });
            }
            Output::Send(conn, bytes) => {
                peer.sending(conn, bytes.len());
                self.effects.push(Effect::Send { conn, bytes });
            }
            Output::Keepalive(conn, every) => self.effects.push(Effect::Keepalive { conn, every }),
            Output::Close(conn) => {
                self.conns.remove(&conn);
                self.effects.push(Effect::Close { conn });
            }
            Output::Up(up) => self.up(address, *up, now),
            Output::Down { cause, graceful } => {
                info!(peer = %address, by = ?cause.by, reason = %peer::describe(&cause), graceful, "session down");
                peer.failed(&cause, now);
                for (family, fate) in peer.down(graceful, now) {
                    match fate {
                        peer::Fate::Kept => {
                            // Routes that survived one restart do not survive a second one (RFC 4724 §4.2).
                            self.rib.flush(peer.source, family, true);
                            self.rib.mark_stale(peer.source, family);
                        }
                        peer::Fate::Dropped => self.rib.flush(peer.source, family, false),
                    }
                }
            }
            Output::Failed(cause) => {
                debug!(peer = %address, by = ?cause.by, reason = %peer::describe(&cause), "connection failed");
                peer.failed(&cause, now);
            }
            Output::Update(update) => self.update(address, update, now),
            Output::Refresh(family) => peer.out.forget(family),
        }
    }

    fn up(&mut self, address: PeerAddress, up: Up, now: Instant) {
        let Some(peer) = self.peers.get_mut(&address) else {
            return;
        };
        info!(peer = %address, remote_id = %up.negotiated.remote_id, hold_time = up.negotiated.hold_time, "session established");
        let source = peer::source(address, &self.config, &peer.config, up.negotiated.remote_id);
        self.rib.set_source(peer.source, source);
        for family in peer.up(&self.config, up, now) {
            self.rib.flush(peer.source, family, true);
        }
        self.mark_all(address);
    }

    fn update(&mut self, address: PeerAddress, update: Update, now: Instant) {
        let Some(peer) = self.peers.get_mut(&address) else {
            return;
        };
        peer.note_update(&update, now);
        for error in &update.errors {
            debug!(peer = %address, %error, "wrong attribute");
        }
        let source = peer.source;
        for prefix in &update.withdrawn {
            self.rib.withdraw(source, prefix);
        }
        for (attributes, prefixes) in update.announced {
            let rejected = peer.judge(&attributes);
            let attributes = self.rib.intern(attributes);
            for prefix in prefixes {
                let rejected = rejected.or_else(|| martian(&prefix));
                self.rib
                    .announce(source, prefix, attributes.clone(), rejected);
            }
        }
        if let Some(family) = update.end_of_rib {
            self.rib.flush(source, family, true);
            peer.end_of_rib(family);
        }
    }

    /// Everything this peer may be told must be looked at.
    fn mark_all(&mut self, address: PeerAddress) {
        let Some(peer) = self.peers.get_mut(&address) else {
            return;
        };
        peer.out.mark_sent();
        match peer.config.export {
            crate::Export::Originated => {
                let originated = self.originated.iter().flatten().map(|(prefix, _)| *prefix);
                peer.out.mark(originated);
            }
            crate::Export::Best => peer.out.mark(self.rib.prefixes().copied()),
        }
    }

    fn flush(&mut self, peer: &Peer) {
        for family in crate::Family::ALL {
            self.rib.flush(peer.source, family, false);
        }
    }

    /// Carries what changed to where it matters.
    fn settle(&mut self, now: Instant) {
        let changed = self.rib.take_changed();
        self.fib_dirty.extend(changed.next_hops);
        for peer in self.peers.values_mut().filter(|peer| peer.is_up()) {
            let concerned: Vec<IpNet> = match peer.config.export {
                crate::Export::Best => changed.best.iter().copied().collect(),
                crate::Export::Originated => {
                    let ours = |prefix: &IpNet| {
                        self.originated
                            .as_ref()
                            .is_some_and(|originated| originated.contains_key(prefix))
                            || peer.out.knows(prefix)
                    };
                    changed.best.iter().copied().filter(ours).collect()
                }
            };
            peer.out.mark(concerned);
        }
        let addresses: Vec<PeerAddress> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.wants_to_send())
            .map(|(address, _)| *address)
            .collect();
        for address in addresses {
            self.pump(address);
        }
        if !self.converged && (now >= self.deferred_until || self.everyone_converged(now)) {
            self.converged = true;
            info!(prefixes = self.rib.len(), "converged");
        }
    }

    /// Sends what a peer is still to be told, as much as it may have on its way.
    fn pump(&mut self, address: PeerAddress) {
        let Some(peer) = self.peers.get_mut(&address) else {
            return;
        };
        let complete = self.originated.is_some();
        if let Some((conn, bytes)) = peer.pump(&mut self.rib, complete) {
            self.effects.push(Effect::Send { conn, bytes });
        }
    }

    fn everyone_converged(&mut self, now: Instant) -> bool {
        let waiting = self
            .peers
            .values_mut()
            .filter_map(|peer| (!peer.has_converged(now)).then_some(()))
            .count();
        // Before the first originate() the configuration may not be complete either.
        waiting == 0 && self.originated.is_some()
    }
}

fn originated(origin: &Origin) -> Attributes {
    // The next hop is that of each session.
    let mut attributes = Attributes::new(IpAddr::from(Ipv4Addr::UNSPECIFIED).into());
    let sorted = |mut communities: Vec<u32>| {
        communities.sort_unstable();
        communities.dedup();
        communities
    };
    attributes.communities = sorted(origin.communities.clone()).into();
    let mut large = origin.large_communities.clone();
    large.sort_unstable();
    large.dedup();
    attributes.large_communities = large.into();
    attributes.med = origin.med;
    attributes.local_pref = origin.local_pref;
    attributes
}

fn peer_address(remote: SocketAddr) -> PeerAddress {
    let scope_id = match remote {
        SocketAddr::V6(remote) if remote.ip().is_unicast_link_local() => remote.scope_id(),
        SocketAddr::V4(_) | SocketAddr::V6(_) => 0,
    };
    PeerAddress {
        ip: remote.ip().to_canonical(),
        scope_id,
    }
}

#[cfg(test)]
mod tests;
