//! One peer's session: the state machine of RFC 4271 §8 without sockets and clocks.
//!
//! A peer has at most one connection of each side: one we made, one it made. Each goes OpenSent, OpenConfirm; the first
//! that gets a KEEPALIVE is Established, and of two that both have the peer's OPEN the one made by the higher BGP
//! identifier stays (§6.8). A new connection beside an Established one is how a peer that restarted comes back:
//! with graceful restart it replaces the old one (RFC 4724 §5), else it is refused.
//!
//! The hold timer is here; keepalives are sent by whoever moves the bytes ([`Output::Keepalive`]), so that a busy
//! owner of the routes is not a silent peer.
//!
//! RFC 4271 §6, §8; RFC 4724 and 8538 (when routes are kept); RFC 6608; RFC 9003. Left out: DelayOpen,
//! DampPeerOscillations, and the Idle state after errors: the next attempt comes after the connect-retry time.

mod connection;
mod negotiate;

pub use negotiate::{Negotiated, PeerRestart, Settings};

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::Family;
use crate::rng::Rng;
use crate::status::{ErrorSide, SessionState};
use crate::wire::{Frame, Framer, MessageType, Notification, Open, Update, cease, code, keepalive};
use connection::{
    Candidate, Live, OPEN_HOLD_TIME, Opening, Rival, close, collision, hold, keeps_routes,
};

/// A connection. Those we make are numbered by the speaker, those a peer makes by the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConnId {
    /// Made by us.
    Dialled(u64),
    /// Made by the peer.
    Accepted(u64),
}

/// The two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Ours.
    pub local: SocketAddr,
    /// The peer's.
    pub remote: SocketAddr,
}

/// What a session wants done, in this order.
#[derive(Debug, PartialEq)]
pub enum Output {
    /// Make a connection.
    Connect(ConnId),
    /// Send bytes.
    Send(ConnId, Vec<u8>),
    /// Send a KEEPALIVE whenever nothing else was sent for so long.
    Keepalive(ConnId, Duration),
    /// Close after what was sent, or give up making it.
    Close(ConnId),
    /// The session is Established.
    Up(Box<Up>),
    /// It no longer is.
    Down {
        /// Why.
        cause: Cause,
        /// The peer's routes may be kept: it restarts gracefully.
        graceful: bool,
    },
    /// A connection failed before it was Established.
    Failed(Cause),
    /// The peer changes its routes.
    Update(Update),
    /// The peer wants our routes again.
    Refresh(Family),
}

/// An Established session.
#[derive(Debug, PartialEq)]
pub struct Up {
    /// Its connection.
    pub conn: ConnId,
    /// Its addresses.
    pub ends: Ends,
    /// What was agreed on.
    pub negotiated: Negotiated,
}

/// Why a session or connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// Who ended it.
    pub by: ErrorSide,
    /// The NOTIFICATION, if there was one.
    pub notification: Option<Notification>,
    /// What happened, if there was none.
    pub text: String,
}

/// The clock, randomness and outputs that a call works with.
pub struct Cx<'a> {
    /// The time.
    pub now: Instant,
    /// For jitter.
    pub rng: &'a mut Rng,
    /// The number of the next connection we make.
    pub next_conn: &'a mut u64,
    /// What is to be done.
    pub out: &'a mut Vec<Output>,
}

/// The session with one peer.
#[derive(Debug)]
pub struct Session {
    settings: Settings,
    timing: Timing,
    /// Routes of an earlier process are in the kernel, and this peer has not yet been Established.
    restarting: bool,
    phase: Phase,
}

/// How connections are made. A change does not touch an Established session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Only accept.
    pub passive: bool,
    /// The longest time between attempts.
    pub connect_retry: Duration,
}

#[derive(Debug)]
enum Phase {
    Down,
    Opening {
        dial: Dial,
        candidates: Vec<Candidate>,
    },
    Established {
        live: Box<Live>,
        rival: Option<Rival>,
    },
}

#[derive(Debug)]
enum Dial {
    /// A candidate has come so far that no other connection is wanted.
    Held,
    Passive,
    Waiting {
        until: Instant,
    },
    Connecting {
        conn: ConnId,
        until: Instant,
    },
}

impl Session {
    /// A session that is down.
    pub fn new(settings: Settings, timing: Timing, restarting: bool) -> Self {
        Self {
            settings,
            timing,
            restarting,
            phase: Phase::Down,
        }
    }

    /// Begins to connect and to accept.
    pub fn start(&mut self, cx: &mut Cx<'_>) {
        if let Phase::Down = self.phase {
            let dial = if self.timing.passive {
                Dial::Passive
            } else {
                self.connect(cx)
            };
            self.phase = Phase::Opening {
                dial,
                candidates: Vec::new(),
            };
        }
    }

    /// Ends everything and stays down. With a NOTIFICATION it is a hard reset where the peer knows it; without, the
    /// peer keeps our routes.
    pub fn stop(&mut self, notification: Option<Notification>, cx: &mut Cx<'_>) {
        self.end_all(notification, true, cx);
    }

    fn end_all(&mut self, notification: Option<Notification>, hard: bool, cx: &mut Cx<'_>) {
        let cause = Cause {
            by: ErrorSide::Local,
            notification: notification.clone(),
            text: "stopped".to_owned(),
        };
        match std::mem::replace(&mut self.phase, Phase::Down) {
            Phase::Down => {}
            Phase::Opening { dial, candidates } => {
                if let Dial::Connecting { conn, .. } = dial {
                    cx.out.push(Output::Close(conn));
                }
                for candidate in candidates {
                    close(candidate.conn, notification.as_ref(), cx);
                }
            }
            Phase::Established { live, rival } => {
                let knows_hard = live
                    .negotiated
                    .restart
                    .as_ref()
                    .is_some_and(|restart| restart.notification);
                let last_word = notification.map(|word| {
                    if hard && knows_hard {
                        word.hard()
                    } else {
                        word
                    }
                });
                close(live.conn, last_word.as_ref(), cx);
                if let Some(rival) = rival {
                    close(rival.candidate.conn, None, cx);
                }
                cx.out.push(Output::Down {
                    cause,
                    graceful: false,
                });
            }
        }
    }

    /// Changes what is wanted. A session whose OPEN would differ is reset.
    pub fn configure(&mut self, settings: Settings, timing: Timing, cx: &mut Cx<'_>) {
        self.timing = timing;
        if self.settings != settings {
            self.settings = settings;
            self.reset(cease::OTHER_CONFIGURATION_CHANGE, cx);
        } else if let Phase::Opening { dial, .. } = &mut self.phase {
            match (timing.passive, &dial) {
                (true, Dial::Waiting { .. }) => *dial = Dial::Passive,
                (false, Dial::Passive) => *dial = Dial::Waiting { until: cx.now },
                _ => {}
            }
        }
    }

    /// Ends what there is and begins again.
    pub fn reset(&mut self, subcode: u8, cx: &mut Cx<'_>) {
        if matches!(self.phase, Phase::Down) {
            return;
        }
        self.end_all(Some(Notification::new(code::CEASE, subcode)), false, cx);
        let dial = self.wait(cx);
        self.phase = Phase::Opening {
            dial,
            candidates: Vec::new(),
        };
    }

    /// A connection we asked for is made.
    pub fn connected(&mut self, conn: ConnId, ends: Ends, cx: &mut Cx<'_>) {
        if !self.is_dialling(conn) {
            cx.out.push(Output::Close(conn)); // given up in the meantime
            return;
        }
        let candidate = self.open(conn, ends, cx);
        if let Phase::Opening { dial, candidates } = &mut self.phase {
            *dial = Dial::Held;
            candidates.push(candidate);
        }
    }

    /// A connection we asked for cannot be made.
    pub fn connect_failed(&mut self, conn: ConnId, text: String, cx: &mut Cx<'_>) {
        if !self.is_dialling(conn) {
            return;
        }
        let wait = self.wait(cx);
        if let Phase::Opening { dial, candidates } = &mut self.phase {
            *dial = if candidates.is_empty() {
                wait
            } else {
                Dial::Held
            };
            cx.out.push(Output::Failed(Cause {
                by: ErrorSide::Transport,
                notification: None,
                text,
            }));
        }
    }

    /// The peer made a connection.
    pub fn accepted(&mut self, conn: ConnId, ends: Ends, cx: &mut Cx<'_>) {
        let refused = Notification::new(code::CEASE, cease::CONNECTION_REJECTED);
        if matches!(self.phase, Phase::Down) {
            close(conn, Some(&refused), cx);
            return;
        }
        let candidate = self.open(conn, ends, cx);
        match &mut self.phase {
            Phase::Down => {}
            Phase::Opening { dial, candidates } => {
                // The peer would not make a second one if it still wanted the first.
                let is_old =
                    |candidate: &mut Candidate| matches!(candidate.conn, ConnId::Accepted(_));
                for old in candidates.extract_if(.., is_old) {
                    close(old.conn, Some(&collision()), cx);
                }
                candidates.push(candidate);
                if let Dial::Waiting { .. } = dial {
                    *dial = Dial::Held;
                }
            }
            Phase::Established { rival, .. } => {
                let new = Rival {
                    candidate,
                    simultaneous: false,
                };
                if let Some(old) = rival.replace(new) {
                    close(old.candidate.conn, Some(&collision()), cx);
                }
            }
        }
    }

    /// The peer sent bytes.
    pub fn received(&mut self, conn: ConnId, bytes: &[u8], cx: &mut Cx<'_>) {
        // The framer is taken out while its frames change the rest; a connection that is gone takes it no more.
        let Some(framer) = self.framer(conn) else {
            return;
        };
        let mut framer = std::mem::take(framer);
        framer.push(bytes);
        loop {
            let frame = match framer.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) => return self.fail(conn, error, cx),
            };
            if frame.kind == MessageType::Notification {
                return self.ended_by_peer(conn, Notification::decode(frame.body), cx);
            }
            let opened = matches!(frame.kind, MessageType::Open);
            if let Err(error) = self.frame(conn, frame, cx) {
                return self.fail(conn, error, cx);
            }
            if self.framer(conn).is_none() {
                return;
            }
            if opened {
                framer.allow_extended(); // we always announce it
            }
        }
        if let Some(place) = self.framer(conn) {
            *place = framer;
        }
    }

    /// A connection broke or was closed by the peer.
    pub fn closed(&mut self, conn: ConnId, text: String, cx: &mut Cx<'_>) {
        let cause = Cause {
            by: ErrorSide::Transport,
            notification: None,
            text,
        };
        self.end(conn, cause, cx);
    }

    /// Does what time brings.
    pub fn timeout(&mut self, cx: &mut Cx<'_>) {
        let expired = |until: Instant| until <= cx.now;
        let mut silent = Vec::new();
        let mut dial_again = None;
        match &self.phase {
            Phase::Down => {}
            Phase::Opening { dial, candidates } => {
                silent.extend(
                    candidates
                        .iter()
                        .filter(|one| expired(one.until()))
                        .map(|one| one.conn),
                );
                match dial {
                    Dial::Waiting { until } if *until <= cx.now => dial_again = Some(None),
                    Dial::Connecting { conn, until } if *until <= cx.now => {
                        dial_again = Some(Some(*conn));
                    }
                    Dial::Held | Dial::Passive | Dial::Waiting { .. } | Dial::Connecting { .. } => {
                    }
                }
            }
            Phase::Established { live, rival } => {
                silent.extend(
                    live.silent_until
                        .filter(|until| expired(*until))
                        .map(|_| live.conn),
                );
                let rival = rival.as_ref().map(|rival| &rival.candidate);
                silent.extend(
                    rival
                        .filter(|rival| expired(rival.until()))
                        .map(|rival| rival.conn),
                );
            }
        }
        for conn in silent {
            self.fail(conn, Notification::new(code::HOLD_TIMER_EXPIRED, 0), cx);
        }
        if let Some(given_up) = dial_again {
            if let Some(conn) = given_up {
                cx.out.push(Output::Close(conn));
                cx.out.push(Output::Failed(Cause {
                    by: ErrorSide::Transport,
                    notification: None,
                    text: "no answer".to_owned(),
                }));
            }
            let next = if self.timing.passive {
                Dial::Passive
            } else {
                self.connect(cx)
            };
            if let Phase::Opening { dial, .. } = &mut self.phase {
                *dial = next;
            }
        }
    }

    /// When [`Session::timeout`] must be called next.
    pub fn next_deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Down => None,
            Phase::Opening { dial, candidates } => {
                let dial = match dial {
                    Dial::Held | Dial::Passive => None,
                    Dial::Waiting { until } | Dial::Connecting { until, .. } => Some(*until),
                };
                candidates.iter().map(Candidate::until).chain(dial).min()
            }
            Phase::Established { live, rival } => {
                let rival = rival.as_ref().map(|rival| rival.candidate.until());
                live.silent_until.into_iter().chain(rival).min()
            }
        }
    }

    /// The state in the RFC's words: that of the connection that came farthest.
    pub fn state(&self) -> SessionState {
        match &self.phase {
            Phase::Down => SessionState::Idle,
            Phase::Opening { dial, candidates } => {
                let dial = match dial {
                    Dial::Connecting { .. } => SessionState::Connect,
                    Dial::Held | Dial::Passive | Dial::Waiting { .. } => SessionState::Active,
                };
                let state = |candidate: &Candidate| match candidate.state {
                    Opening::OpenSent { .. } => SessionState::OpenSent,
                    Opening::OpenConfirm { .. } => SessionState::OpenConfirm,
                };
                candidates.iter().map(state).max().unwrap_or(dial)
            }
            Phase::Established { .. } => SessionState::Established,
        }
    }

    /// What our OPEN is made of.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    fn is_dialling(&self, conn: ConnId) -> bool {
        match &self.phase {
            Phase::Opening {
                dial: Dial::Connecting { conn: wanted, .. },
                ..
            } => *wanted == conn,
            Phase::Down | Phase::Opening { .. } | Phase::Established { .. } => false,
        }
    }

    fn connect(&self, cx: &mut Cx<'_>) -> Dial {
        let conn = ConnId::Dialled(*cx.next_conn);
        *cx.next_conn += 1;
        cx.out.push(Output::Connect(conn));
        Dial::Connecting {
            conn,
            until: cx.now + self.timing.connect_retry,
        }
    }

    fn wait(&self, cx: &mut Cx<'_>) -> Dial {
        if self.timing.passive {
            return Dial::Passive;
        }
        Dial::Waiting {
            until: cx.now + cx.rng.jitter(self.timing.connect_retry),
        }
    }

    fn open(&self, conn: ConnId, ends: Ends, cx: &mut Cx<'_>) -> Candidate {
        cx.out.push(Output::Send(
            conn,
            self.settings.open(self.restarting).encode(),
        ));
        Candidate {
            conn,
            ends,
            framer: Framer::default(),
            state: Opening::OpenSent {
                until: cx.now + OPEN_HOLD_TIME,
            },
        }
    }

    fn framer(&mut self, conn: ConnId) -> Option<&mut Framer> {
        match &mut self.phase {
            Phase::Down => None,
            Phase::Opening { candidates, .. } => candidates
                .iter_mut()
                .find(|candidate| candidate.conn == conn)
                .map(|candidate| &mut candidate.framer),
            Phase::Established { live, .. } if live.conn == conn => Some(&mut live.framer),
            Phase::Established { rival, .. } => {
                let candidate = rival.as_mut().map(|rival| &mut rival.candidate);
                candidate
                    .filter(|candidate| candidate.conn == conn)
                    .map(|candidate| &mut candidate.framer)
            }
        }
    }

    fn candidate(&mut self, conn: ConnId) -> Option<&mut Candidate> {
        match &mut self.phase {
            Phase::Down => None,
            Phase::Opening { candidates, .. } => candidates
                .iter_mut()
                .find(|candidate| candidate.conn == conn),
            Phase::Established { rival, .. } => rival
                .as_mut()
                .map(|rival| &mut rival.candidate)
                .filter(|candidate| candidate.conn == conn),
        }
    }

    fn frame(
        &mut self,
        conn: ConnId,
        frame: Frame<'_>,
        cx: &mut Cx<'_>,
    ) -> Result<(), Notification> {
        if let Phase::Established { live, .. } = &mut self.phase
            && live.conn == conn
        {
            return live.frame(frame, cx);
        }
        let Some(candidate) = self.candidate(conn) else {
            return Ok(());
        };
        match (&candidate.state, frame.kind) {
            (Opening::OpenSent { .. }, MessageType::Open) => {
                let open = Open::decode(frame.body)?;
                let negotiated = self.settings.negotiate(&open)?;
                self.opened(conn, negotiated, cx);
                Ok(())
            }
            (Opening::OpenConfirm { .. }, MessageType::Keepalive) => {
                self.establish(conn, cx);
                Ok(())
            }
            (state, _) => {
                let subcode = match state {
                    Opening::OpenSent { .. } => 1,
                    Opening::OpenConfirm { .. } => 2,
                };
                Err(Notification::with_data(
                    code::FSM,
                    subcode,
                    &[frame.kind as u8],
                )) // RFC 6608
            }
        }
    }

    /// The peer's OPEN on a connection is good: which connections stay?
    fn opened(&mut self, conn: ConnId, negotiated: Negotiated, cx: &mut Cx<'_>) {
        let ours_stays = self.settings.ours_stays(negotiated.remote_id);
        let stays = matches!(conn, ConnId::Dialled(_)) == ours_stays;
        match &mut self.phase {
            Phase::Down => return,
            Phase::Opening { dial, candidates } => {
                let confirmed = |one: &Candidate| {
                    one.conn != conn && matches!(one.state, Opening::OpenConfirm { .. })
                };
                if let Some(other) = candidates.iter().position(confirmed) {
                    let this = candidates
                        .iter()
                        .position(|one| one.conn == conn)
                        .unwrap_or(other);
                    let loser = candidates.swap_remove(if stays { other } else { this });
                    close(loser.conn, Some(&collision()), cx);
                    if loser.conn == conn {
                        return;
                    }
                }
                // An attempt still under way would only collide with this.
                if let Dial::Connecting { conn, .. } = std::mem::replace(dial, Dial::Held) {
                    cx.out.push(Output::Close(conn));
                }
            }
            Phase::Established { live, rival } => {
                let Some(rival) = rival.take() else {
                    return;
                };
                let replaces = if rival.simultaneous {
                    stays
                } else {
                    live.negotiated.restart.is_some()
                };
                if !replaces {
                    close(rival.candidate.conn, Some(&collision()), cx);
                    return;
                }
                close(live.conn, rival.simultaneous.then(collision).as_ref(), cx);
                let cause = Cause {
                    by: ErrorSide::Remote,
                    notification: None,
                    text: "the peer made a new connection".to_owned(),
                };
                cx.out.push(Output::Down {
                    cause,
                    graceful: live.negotiated.restart.is_some(),
                });
                self.phase = Phase::Opening {
                    dial: Dial::Held,
                    candidates: vec![rival.candidate],
                };
            }
        }
        cx.out.push(Output::Send(conn, keepalive()));
        if negotiated.keepalive > 0 {
            cx.out.push(Output::Keepalive(
                conn,
                Duration::from_secs(negotiated.keepalive.into()),
            ));
        }
        // Without a hold time too, a peer that hangs now must not keep us from trying again.
        let until = hold(&negotiated, cx.now).unwrap_or(cx.now + OPEN_HOLD_TIME);
        if let Some(candidate) = self.candidate(conn) {
            candidate.state = Opening::OpenConfirm {
                negotiated: Box::new(negotiated),
                until,
            };
        }
    }

    fn establish(&mut self, conn: ConnId, cx: &mut Cx<'_>) {
        let Phase::Opening { candidates, .. } = &mut self.phase else {
            return;
        };
        let Some(at) = candidates
            .iter()
            .position(|candidate| candidate.conn == conn)
        else {
            return;
        };
        let Candidate {
            conn,
            ends,
            framer,
            state,
        } = candidates.swap_remove(at);
        let Opening::OpenConfirm { negotiated, .. } = state else {
            return;
        };
        let rival = candidates.pop().map(|candidate| Rival {
            candidate,
            simultaneous: true,
        });
        cx.out.push(Output::Up(Box::new(Up {
            conn,
            ends,
            negotiated: (*negotiated).clone(),
        })));
        self.restarting = false;
        let live = Box::new(Live {
            conn,
            framer,
            silent_until: hold(&negotiated, cx.now),
            negotiated: *negotiated,
        });
        self.phase = Phase::Established { live, rival };
    }

    /// Ends a connection by an error that we found.
    fn fail(&mut self, conn: ConnId, error: Notification, cx: &mut Cx<'_>) {
        close(conn, Some(&error), cx);
        let cause = Cause {
            by: ErrorSide::Local,
            notification: Some(error),
            text: String::new(),
        };
        self.end(conn, cause, cx);
    }

    fn ended_by_peer(&mut self, conn: ConnId, notification: Notification, cx: &mut Cx<'_>) {
        cx.out.push(Output::Close(conn));
        let cause = Cause {
            by: ErrorSide::Remote,
            notification: Some(notification),
            text: String::new(),
        };
        self.end(conn, cause, cx);
    }

    /// Forgets a connection, and tries again if it was the last.
    fn end(&mut self, conn: ConnId, cause: Cause, cx: &mut Cx<'_>) {
        let wait = self.wait(cx);
        match &mut self.phase {
            Phase::Down => {}
            Phase::Opening { dial, candidates } => {
                let Some(at) = candidates
                    .iter()
                    .position(|candidate| candidate.conn == conn)
                else {
                    return;
                };
                candidates.swap_remove(at);
                if candidates.is_empty() && matches!(dial, Dial::Held) {
                    *dial = wait;
                }
                cx.out.push(Output::Failed(cause));
            }
            Phase::Established { live, rival } if live.conn == conn => {
                let graceful = live
                    .negotiated
                    .restart
                    .as_ref()
                    .is_some_and(|restart| keeps_routes(restart, &cause));
                let rival = rival.take().map(|rival| rival.candidate);
                let dial = if rival.is_some() { Dial::Held } else { wait };
                self.phase = Phase::Opening {
                    dial,
                    candidates: rival.into_iter().collect(),
                };
                cx.out.push(Output::Down { cause, graceful });
            }
            Phase::Established { rival, .. } => {
                rival.take_if(|rival| rival.candidate.conn == conn);
            }
        }
    }
}

#[cfg(test)]
mod tests;
