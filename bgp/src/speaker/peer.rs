//! One peer: its session, what follows from it being up or down, and what it is told.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::adj_out::AdjOut;
use crate::config::{Config, PeerConfig};
use crate::decision::{Source, SourceKind};
use crate::policy::{ExportContext, Import, Rejection};
use crate::rib::{Rib, SourceId};
use crate::session::{Cause, ConnId, Ends, Negotiated, Session, Settings, Timing, Up};
use crate::status::{ErrorSide, SessionState};
use crate::wire::{Attributes, Update};
use crate::{Family, PeerAddress};

/// A configured peer.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) address: PeerAddress,
    pub(super) config: PeerConfig,
    pub(super) session: Session,
    pub(super) source: SourceId,
    pub(super) up: Option<Live>,
    pub(super) out: AdjOut,
    pub(super) restart: Option<Restart>,
    pub(super) state: SessionState,
    pub(super) state_since: Instant,
    pub(super) counters: Counters,
    pub(super) last_error: Option<(Cause, Instant)>,
}

/// What exists while the session is Established.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) conn: ConnId,
    pub(super) ends: Ends,
    pub(super) negotiated: Negotiated,
    pub(super) end_of_rib_received: BTreeSet<Family>,
    pub(super) end_of_rib_sent: BTreeSet<Family>,
    import: Import,
    export: ExportContext,
    /// Octets that were given out and are not yet with the kernel.
    in_flight: usize,
    /// When the session came up or an UPDATE came last.
    last_update: Instant,
    converged: bool,
}

/// The peer's old routes are kept.
#[derive(Debug)]
pub(super) struct Restart {
    until: Instant,
    families: BTreeSet<Family>,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) established: u64,
    pub(super) messages_received: u64,
    pub(super) messages_sent: u64,
    pub(super) update_errors: u64,
    pub(super) last_update_error: Option<String>,
}

/// What becomes of a family's routes when the session ends.
pub(super) enum Fate {
    Kept,
    Dropped,
}

/// What a change of configuration changed for a session that is up.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) import: Option<Import>,
    pub(super) export: bool,
}

impl Peer {
    /// `restarting`: routes of an earlier process are in the kernel and may be this peer's.
    pub(super) fn new(
        address: PeerAddress,
        config: &Config,
        peer: PeerConfig,
        source: SourceId,
        restarting: bool,
        now: Instant,
    ) -> Self {
        let (settings, timing) = session_settings(config, &peer);
        Self {
            address,
            session: Session::new(settings, timing, restarting),
            config: peer,
            source,
            up: None,
            out: AdjOut::default(),
            restart: None,
            state: SessionState::Idle,
            state_since: now,
            counters: Counters::default(),
            last_error: None,
        }
    }

    /// Takes a new configuration and tells whether connections must be made anew.
    pub(super) fn take_config(&mut self, config: PeerConfig) -> bool {
        let transport = |config: &PeerConfig| (config.port, config.local_address, config.ttl);
        let changed = transport(&self.config) != transport(&config);
        self.config = config;
        changed
    }

    /// Brings the rules of a session that is up in line with the configuration.
    pub(super) fn follow_config(&mut self, config: &Config) -> Changes {
        let Some(live) = &mut self.up else {
            return Changes::default();
        };
        let (import, export) = rules(
            config,
            &self.config,
            live.ends,
            live.negotiated.context.extended_next_hop,
        );
        let import_changed = live.import != import;
        live.import = import.clone();
        Changes {
            import: import_changed.then_some(import),
            export: std::mem::replace(&mut live.export, export) != live.export,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.up.is_some()
    }

    /// Where to connect to.
    pub(super) fn remote(&self) -> SocketAddr {
        match self.address.ip {
            IpAddr::V4(ip) => SocketAddr::new(ip.into(), self.config.port),
            IpAddr::V6(ip) => {
                SocketAddrV6::new(ip, self.config.port, 0, self.address.scope_id).into()
            }
        }
    }

    /// The session came up: the families whose old routes must go, because the peer did not keep its own.
    pub(super) fn up(&mut self, config: &Config, up: Up, now: Instant) -> Vec<Family> {
        let Up {
            conn,
            ends,
            negotiated,
        } = up;
        let (import, export) = rules(
            config,
            &self.config,
            ends,
            negotiated.context.extended_next_hop,
        );
        self.counters.established += 1;
        let mut gone = Vec::new();
        if let Some(mut restart) = self.restart.take() {
            let kept = |family: &Family| {
                let by_peer = negotiated
                    .restart
                    .as_ref()
                    .and_then(|restart| restart.families.get(family));
                negotiated.context.families.contains(family) && by_peer == Some(&true)
            };
            gone.extend(
                restart
                    .families
                    .iter()
                    .copied()
                    .filter(|family| !kept(family)),
            );
            restart.families.retain(kept);
            let stale_time = self.config.graceful_restart.unwrap_or_default().stale_time;
            restart.until = now + stale_time;
            self.restart = Some(restart).filter(|restart| !restart.families.is_empty());
        }
        self.up = Some(Live {
            conn,
            ends,
            negotiated,
            end_of_rib_received: BTreeSet::new(),
            end_of_rib_sent: BTreeSet::new(),
            import,
            export,
            in_flight: 0,
            last_update: now,
            converged: false,
        });
        gone
    }

    /// The session went down: what becomes of each family's routes.
    pub(super) fn down(&mut self, graceful: bool, now: Instant) -> Vec<(Family, Fate)> {
        self.out = AdjOut::default();
        let before = self.restart.take();
        let restart = self
            .up
            .take()
            .and_then(|live| live.negotiated.restart)
            .filter(|_| graceful);
        if let Some(restart) = &restart {
            self.restart = Some(Restart {
                until: now + Duration::from_secs(restart.restart_time.into()),
                families: restart.families.keys().copied().collect(),
            });
        }
        drop(before);
        let fate = |family: Family| match &self.restart {
            Some(restart) if restart.families.contains(&family) => Fate::Kept,
            _ => Fate::Dropped,
        };
        Family::ALL
            .into_iter()
            .map(|family| (family, fate(family)))
            .collect()
    }

    /// The peer's old routes have waited long enough.
    pub(super) fn restart_is_over(&mut self, now: Instant) -> bool {
        self.restart
            .take_if(|restart| restart.until <= now)
            .is_some()
    }

    pub(super) fn end_of_rib(&mut self, family: Family) {
        if let Some(live) = &mut self.up {
            live.end_of_rib_received.insert(family);
        }
        if let Some(restart) = &mut self.restart {
            restart.families.remove(&family);
        }
        self.restart.take_if(|restart| restart.families.is_empty());
    }

    pub(super) fn judge(&self, attributes: &Attributes) -> Option<Rejection> {
        self.up
            .as_ref()
            .and_then(|live| live.import.judge(attributes))
    }

    pub(super) fn note_update(&mut self, update: &Update, now: Instant) {
        self.counters.messages_received += 1;
        self.counters.update_errors += update.errors.len() as u64;
        if let Some(error) = update.errors.last() {
            self.counters.last_update_error = Some(error.to_string());
        }
        if let Some(live) = &mut self.up {
            live.last_update = now;
        }
    }

    pub(super) fn note_state(&mut self, now: Instant) {
        let state = self.session.state();
        if std::mem::replace(&mut self.state, state) != state {
            self.state_since = now;
        }
    }

    pub(super) fn failed(&mut self, cause: &Cause, now: Instant) {
        self.last_error = Some((cause.clone(), now));
    }

    pub(super) fn sending(&mut self, conn: ConnId, bytes: usize) {
        if let Some(live) = self.up.as_mut().filter(|live| live.conn == conn) {
            live.in_flight += bytes;
        }
    }

    pub(super) fn sent(&mut self, conn: ConnId, bytes: usize) {
        if let Some(live) = self.up.as_mut().filter(|live| live.conn == conn) {
            live.in_flight = live.in_flight.saturating_sub(bytes);
        }
    }

    /// It is up, and there is something to tell it and room for that.
    pub(super) fn wants_to_send(&self) -> bool {
        self.up.as_ref().is_some_and(|live| {
            let complete = live.end_of_rib_sent == live.negotiated.context.families;
            live.in_flight < IN_FLIGHT && !(self.out.is_settled() && complete)
        })
    }

    /// The next UPDATEs. `complete`: when nothing is left to tell, our routes are complete.
    pub(super) fn pump(&mut self, rib: &mut Rib, complete: bool) -> Option<(ConnId, Vec<u8>)> {
        let live = self.up.as_mut()?;
        let room = IN_FLIGHT.checked_sub(live.in_flight)?;
        let mut exported: HashMap<
            (*const Attributes, SourceKind, Family),
            Option<Arc<Attributes>>,
        > = HashMap::new();
        let families = &live.negotiated.context.families;
        let (source, export) = (self.source, &live.export);
        self.out.group(|prefix| {
            let family = Family::of(prefix);
            let path = rib
                .best(prefix)
                .filter(|path| path.source != source && families.contains(&family))?;
            let kind = rib.source(path.source).kind;
            let attributes = Arc::clone(&path.attributes);
            exported
                .entry((Arc::as_ptr(&attributes), kind, family))
                .or_insert_with(|| {
                    export
                        .apply(family, kind, &attributes)
                        .map(|told| rib.intern(told))
                })
                .clone()
        });
        if complete && self.out.is_grouped() {
            for &family in families {
                if live.end_of_rib_sent.insert(family) {
                    self.out.end_of_rib(family);
                }
            }
        }
        let (bytes, count) = self.out.messages(&live.negotiated.context, room);
        self.counters.messages_sent += count;
        live.in_flight += bytes.len();
        (!bytes.is_empty()).then_some((live.conn, bytes))
    }

    /// Its initial routes are here, or will not be told apart from later ones. Once true for a session, it stays so.
    pub(super) fn has_converged(&mut self, now: Instant) -> bool {
        let Some(live) = &mut self.up else {
            return self.config.shutdown.is_some();
        };
        let told_all = live.end_of_rib_received == live.negotiated.context.families;
        live.converged |= match &live.negotiated.restart {
            // One that restarts itself may wait for us (RFC 4724 §4.1).
            Some(restart) if restart.restarting => true,
            Some(_) => told_all,
            None => told_all || now >= live.last_update + QUIET,
        };
        live.converged
    }

    pub(super) fn next_deadline(&self, with_convergence: bool) -> Option<Instant> {
        let waits =
            |live: &&Live| with_convergence && !live.converged && live.negotiated.restart.is_none();
        let quiet = self
            .up
            .as_ref()
            .filter(waits)
            .map(|live| live.last_update + QUIET);
        let restart = self.restart.as_ref().map(|restart| restart.until);
        [self.session.next_deadline(), restart, quiet]
            .into_iter()
            .flatten()
            .min()
    }
}

/// What a session is made of.
pub(super) fn session_settings(config: &Config, peer: &PeerConfig) -> (Settings, Timing) {
    let timing = Timing {
        passive: peer.passive,
        connect_retry: peer.connect_retry.max(MIN_CONNECT_RETRY),
    };
    (Settings::new(config, peer), timing)
}

/// A peer as a source of routes.
pub(super) fn source(
    address: PeerAddress,
    config: &Config,
    peer: &PeerConfig,
    router_id: Ipv4Addr,
) -> Source {
    let ibgp = peer.remote_as == peer.local_as.unwrap_or(config.local_as);
    Source {
        kind: if ibgp {
            SourceKind::Internal
        } else {
            SourceKind::External
        },
        router_id,
        address: address.ip,
    }
}

/// A cause in words.
pub(super) fn describe(cause: &Cause) -> String {
    match &cause.notification {
        Some(notification) if notification.is_hard() => {
            format!("Hard Reset: {}", notification.inner())
        }
        Some(notification) if cause.by == ErrorSide::Remote => format!("received: {notification}"),
        Some(notification) => notification.to_string(),
        None => cause.text.clone(),
    }
}

/// The rules of import and export for a session.
fn rules(
    config: &Config,
    peer: &PeerConfig,
    ends: Ends,
    extended_next_hop: bool,
) -> (Import, ExportContext) {
    let local_as = peer.local_as.unwrap_or(config.local_as);
    let ibgp = local_as == peer.remote_as;
    let local = ends.local.ip().to_canonical();
    let mut next_hops = peer.next_hops.clone();
    next_hops.entry(Family::of_address(local)).or_insert(local);
    if extended_next_hop && local.is_ipv6() {
        next_hops.entry(Family::Ipv4Unicast).or_insert(local);
    }
    let import = Import {
        ibgp,
        local_as,
        remote_as: peer.remote_as,
        router_id: config.router_id,
        allow_own_as: peer.allow_own_as,
        enforce_first_as: peer.enforce_first_as,
        own_addresses: next_hops.values().copied().chain([local]).collect(),
    };
    let export = ExportContext {
        ibgp,
        local_as,
        export: peer.export,
        next_hops,
    };
    (import, export)
}

/// The octets a peer may have on their way to the kernel.
pub(super) const IN_FLIGHT: usize = 256 * 1024;
/// A peer that does not announce graceful restart sends no End-of-RIB; when it was quiet for so long, it has told all.
const QUIET: Duration = Duration::from_secs(2);
/// A configuration of zero must not make it a loop.
const MIN_CONNECT_RETRY: Duration = Duration::from_millis(500);
