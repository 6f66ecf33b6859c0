//! The protocol between whole speakers, on a simulated clock.

mod restart;
mod routes;
mod sessions;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::*;
use crate::config::{Export, GracefulRestart};
use crate::sim::{ADDRESSES, Net, pair, pair_config};
use crate::status::{ErrorSide, RouteTable, SessionState};
use crate::wire::{Framer, MessageType};
use crate::{Family, PeerAddress};

const A: usize = 0;
const B: usize = 1;

/// Brings a session of A up by hand.
fn establish(speaker: &mut Speaker, now: Instant) -> ConnId {
    let conn = ConnId::Accepted(1);
    let open =
        crate::session::Settings::new(&pair_config(B, |_, _, _| {}), &PeerConfig::new(65001))
            .open(false);
    speaker.handle(
        Event::Accepted {
            conn,
            ends: ends("192.0.2.2:5000"),
        },
        now,
    );
    speaker.handle(
        Event::Received {
            conn,
            bytes: open.encode(),
        },
        now,
    );
    speaker.handle(
        Event::Received {
            conn,
            bytes: crate::wire::keepalive(),
        },
        now,
    );
    assert_eq!(speaker.peers(now)[0].state, SessionState::Established);
    conn
}

fn ends(remote: &str) -> Ends {
    Ends {
        local: "192.0.2.1:179".parse().unwrap(),
        remote: remote.parse().unwrap(),
    }
}

fn kinds(bytes: &[u8]) -> Vec<MessageType> {
    let mut framer = Framer::default();
    framer.allow_extended();
    framer.push(bytes);
    let mut kinds = Vec::new();
    while let Some(frame) = framer.next_frame().unwrap() {
        kinds.push(frame.kind);
    }
    kinds
}

fn fib(routes: &[(&str, &[&str])]) -> BTreeMap<IpNet, Vec<IpAddr>> {
    let hops = |hops: &[&str]| hops.iter().map(|hop| hop.parse().unwrap()).collect();
    routes
        .iter()
        .map(|(prefix, next_hops)| (prefix.parse().unwrap(), hops(next_hops)))
        .collect()
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
