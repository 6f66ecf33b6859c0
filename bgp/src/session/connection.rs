//! The connections of a session, by what exists in them.

use std::time::{Duration, Instant};

use super::{Cause, ConnId, Cx, Ends, Negotiated, Output, PeerRestart};
use crate::Family;
use crate::status::ErrorSide;
use crate::wire::{Frame, Framer, MessageType, Notification, RouteRefresh, Update, cease, code};

/// A connection that is not Established.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) conn: ConnId,
    pub(super) ends: Ends,
    pub(super) framer: Framer,
    pub(super) state: Opening,
}

#[derive(Debug)]
pub(super) enum Opening {
    OpenSent {
        until: Instant,
    },
    OpenConfirm {
        negotiated: Box<Negotiated>,
        until: Instant,
    },
}

/// The Established connection.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) conn: ConnId,
    pub(super) framer: Framer,
    pub(super) negotiated: Negotiated,
    pub(super) silent_until: Option<Instant>,
}

/// A connection beside the Established one.
#[derive(Debug)]
pub(super) struct Rival {
    pub(super) candidate: Candidate,
    /// It was there before the other was Established, so that the identifiers decide and not the order.
    pub(super) simultaneous: bool,
}

impl Live {
    pub(super) fn frame(&mut self, frame: Frame<'_>, cx: &mut Cx<'_>) -> Result<(), Notification> {
        self.silent_until = hold(&self.negotiated, cx.now);
        match frame.kind {
            MessageType::Update => {
                let update = Update::decode(frame.body, &self.negotiated.context)?;
                cx.out.push(Output::Update(update));
            }
            MessageType::RouteRefresh => {
                let refresh = RouteRefresh::decode(frame.body)?;
                let family = Family::from_wire(refresh.afi, refresh.safi);
                let family =
                    family.filter(|family| self.negotiated.context.families.contains(family));
                if refresh.subtype == 0 {
                    cx.out.extend(family.map(Output::Refresh));
                }
            }
            MessageType::Keepalive => {}
            MessageType::Open | MessageType::Notification => {
                return Err(Notification::with_data(code::FSM, 3, &[frame.kind as u8]));
            }
        }
        Ok(())
    }
}

impl Candidate {
    pub(super) fn until(&self) -> Instant {
        match self.state {
            Opening::OpenSent { until } | Opening::OpenConfirm { until, .. } => until,
        }
    }
}

/// Whether the end of a session leaves the peer's routes in use (RFC 4724 §4.2, RFC 8538 §4).
pub(super) fn keeps_routes(restart: &PeerRestart, cause: &Cause) -> bool {
    match &cause.notification {
        None => cause.by == ErrorSide::Transport,
        Some(notification) => restart.notification && !notification.is_hard(),
    }
}

pub(super) fn hold(negotiated: &Negotiated, now: Instant) -> Option<Instant> {
    let hold_time = negotiated.hold_time;
    (hold_time > 0).then(|| now + Duration::from_secs(hold_time.into()))
}

pub(super) fn close(conn: ConnId, last_word: Option<&Notification>, cx: &mut Cx<'_>) {
    if let Some(notification) = last_word {
        cx.out.push(Output::Send(conn, notification.encode()));
    }
    cx.out.push(Output::Close(conn));
}

pub(super) fn collision() -> Notification {
    Notification::new(code::CEASE, cease::CONNECTION_COLLISION_RESOLUTION)
}

/// How long a peer may take for its OPEN. RFC 4271 §8.2.2 suggests four minutes; a peer that accepts and then hangs
/// must not keep us from trying again for so long.
pub(super) const OPEN_HOLD_TIME: Duration = Duration::from_secs(30);
