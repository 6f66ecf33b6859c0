//! The protocol between whole speakers, on a simulated clock.

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

#[test]
fn two_speakers_exchange_routes_of_both_families_on_one_session() {
    let mut net = pair(1, |_, _, _| {});
    net.originate(A, &["10.1.0.0/26", "fd00:1::/122"]);
    net.originate(B, &["10.2.0.0/26"]);
    let took = net.until(secs(5), "routes", |net| {
        net.nodes[B].fib.len() == 2 && net.nodes[A].fib.len() == 1
    });
    assert!(took < secs(1), "{took:?}");
    assert_eq!(
        net.nodes[B].fib,
        fib(&[
            ("10.1.0.0/26", &["192.0.2.1"]),
            ("fd00:1::/122", &["2001:db8::1"])
        ])
    );
    assert_eq!(
        net.routes(B, RouteTable::Received)[..2],
        [
            ("10.1.0.0/26".to_owned(), "65001".to_owned()),
            ("10.2.0.0/26".to_owned(), String::new())
        ]
    );
    let status = net.peer(A, B);
    assert_eq!(status.state, SessionState::Established);
    assert_eq!(status.families[&Family::Ipv4Unicast].advertised, 1);
    assert_eq!(status.families[&Family::Ipv6Unicast].advertised, 1);
    assert_eq!(status.families[&Family::Ipv4Unicast].accepted, 1);
    let session = status.session.unwrap();
    assert!(session.four_octet_as && session.route_refresh && session.extended_message);
    assert_eq!((session.hold_time, session.keepalive), (90, 30));

    net.originate(A, &["10.1.0.0/26"]);
    net.until(secs(1), "withdrawn", |net| net.nodes[B].fib.len() == 1);
}

#[test]
fn an_ipv6_session_carries_ipv4_with_its_configured_next_hop() {
    let mut net = Net::new(3);
    for (index, addresses) in ADDRESSES.into_iter().enumerate() {
        let other = 1 - index;
        let mut config = Config::new([10, 0, 0, 1 + index as u8].into(), 65001 + index as u32);
        let mut peer = PeerConfig::new(65001 + other as u32);
        peer.next_hops = [(Family::Ipv4Unicast, addresses[0].parse().unwrap())].into();
        config
            .peers
            .insert(ADDRESSES[other][1].parse::<IpAddr>().unwrap().into(), peer);
        net.add(config, addresses);
    }
    net.originate(A, &["10.1.0.0/26", "fd00:1::/122"]);
    net.until(secs(5), "routes", |net| net.nodes[B].fib.len() == 2);
    assert_eq!(
        net.nodes[B].fib,
        fib(&[
            ("10.1.0.0/26", &["192.0.2.1"]),
            ("fd00:1::/122", &["2001:db8::1"])
        ])
    );
}

#[test]
fn ipv4_goes_by_an_ipv6_next_hop_when_both_agree() {
    let mut net = Net::new(3);
    for (index, addresses) in ADDRESSES.into_iter().enumerate() {
        let other = 1 - index;
        let mut config = Config::new([10, 0, 0, 1 + index as u8].into(), 65001 + index as u32);
        let mut peer = PeerConfig::new(65001 + other as u32);
        peer.extended_next_hop = true;
        config
            .peers
            .insert(ADDRESSES[other][1].parse::<IpAddr>().unwrap().into(), peer);
        net.add(config, addresses);
    }
    net.originate(A, &["10.1.0.0/26"]);
    net.until(secs(5), "route", |net| net.nodes[B].fib.len() == 1);
    assert_eq!(net.nodes[B].fib, fib(&[("10.1.0.0/26", &["2001:db8::1"])]));
}

#[test]
fn without_a_next_hop_of_its_family_a_route_is_not_told() {
    let mut net = pair(1, |_, _, peer| peer.next_hops.clear());
    net.originate(A, &["10.1.0.0/26", "fd00:1::/122"]);
    net.until(secs(5), "v4", |net| net.nodes[B].fib.len() == 1);
    net.run_for(secs(5));
    assert_eq!(net.peer(A, B).families[&Family::Ipv6Unicast].advertised, 0);
    assert!(net.established(A, B));
}

#[test]
fn simultaneous_connections_end_in_one_session_whatever_the_timing() {
    for seed in 0..100 {
        let mut net = pair(seed, |_, _, _| {});
        net.originate(A, &["10.1.0.0/26"]);
        net.originate(B, &["10.2.0.0/26"]);
        let took = net.until(secs(20), "established", |net| net.established(A, B));
        assert!(took < secs(11), "seed {seed}: {took:?}");
        net.run_for(secs(30));
        assert!(net.established(A, B), "seed {seed}");
        assert_eq!(
            (net.nodes[A].fib.len(), net.nodes[B].fib.len()),
            (1, 1),
            "seed {seed}"
        );
        let count = net.peer(A, B).established_count;
        assert!(count <= 2, "seed {seed}: {count} sessions");
    }
}

#[test]
fn a_passive_peer_waits_and_is_reached() {
    for passive in [A, B] {
        let mut net = pair(5, |index, _, peer| peer.passive = index == passive);
        net.until(secs(2), "established", |net| net.established(A, B));
    }
    let mut net = pair(5, |_, _, peer| peer.passive = true);
    net.run_for(secs(60));
    assert_eq!(net.peer(A, B).state, SessionState::Active);
}

#[test]
fn silence_ends_the_session_when_the_hold_time_is_over_and_it_returns_within_five_seconds() {
    let mut net = pair(7, |_, _, peer| {
        peer.hold_time = secs(9);
        peer.graceful_restart = None;
    });
    net.originate(A, &["10.1.0.0/26"]);
    net.until(secs(5), "route", |net| net.nodes[B].fib.len() == 1);
    net.run_for(secs(600));
    assert_eq!(net.peer(B, A).established_count, 1, "keepalives keep it");
    net.cut(A, B, true);
    let took = net.until(secs(20), "down", |net| net.nodes[B].fib.is_empty());
    assert!((secs(6)..secs(10)).contains(&took), "{took:?}");
    let error = net.peer(B, A).last_error.unwrap();
    assert_eq!(
        (error.by, error.code, error.text.as_str()),
        (ErrorSide::Local, Some(4), "Hold Timer Expired")
    );
    net.run_for(secs(100));
    net.cut(A, B, false);
    let took = net.until(secs(20), "up again", |net| net.nodes[B].fib.len() == 1);
    assert!(took <= secs(6), "{took:?}");
}

#[test]
fn a_hold_time_of_zero_keeps_a_silent_session() {
    let mut net = pair(7, |_, _, peer| peer.hold_time = secs(0));
    net.until(secs(5), "up", |net| net.established(A, B));
    net.run_for(secs(3600));
    assert_eq!(net.peer(A, B).established_count, 1);
    assert_eq!(net.peer(A, B).session.unwrap().keepalive, 0);
}

#[test]
fn an_open_that_cannot_be_accepted_is_answered_in_the_words_of_the_rfc() {
    type Change = fn(usize, &mut Config, &mut PeerConfig);
    let cases: &[(&str, Change, (u8, u8), &str)] = &[
        (
            "wrong AS",
            |index, _, peer| {
                if index == A {
                    peer.remote_as = 7;
                }
            },
            (2, 2),
            "Bad Peer AS",
        ),
        (
            "no common family",
            |index, _, peer| peer.families = [Family::ALL[index]].into(),
            (2, 7),
            "Unsupported Capability",
        ),
        (
            "equal identifiers inside an AS",
            |_, config, peer| {
                config.router_id = [1, 1, 1, 1].into();
                config.local_as = 65001;
                peer.remote_as = 65001;
            },
            (2, 3),
            "Bad BGP Identifier",
        ),
    ];
    for (name, change, (code, subcode), text) in cases {
        let mut net = pair(9, change);
        net.run_for(secs(20));
        let status = net.peer(A, B);
        assert_ne!(status.state, SessionState::Established, "{name}");
        let errors: Vec<_> = [net.peer(A, B), net.peer(B, A)]
            .into_iter()
            .filter_map(|peer| peer.last_error)
            .collect();
        assert!(
            errors.iter().any(
                |error| (error.code, error.subcode) == (Some(*code), Some(*subcode))
                    && error.text.contains(text)
            ),
            "{name}: {errors:?}"
        );
    }
    let mut net = pair(9, |_, config, peer| {
        config.router_id = [1, 1, 1, 1].into();
        peer.hold_time = secs(1);
    });
    net.until(
        secs(10),
        "equal identifiers between ASes are allowed",
        |net| net.established(A, B),
    );
    assert_eq!(
        net.peer(A, B).session.unwrap().hold_time,
        3,
        "one second is raised to three"
    );
}

#[test]
fn an_administrative_shutdown_tells_the_peer_why_and_takes_the_routes_along() {
    for restart in [None, Some(GracefulRestart::default())] {
        let change =
            |_: usize, _: &mut Config, peer: &mut PeerConfig| peer.graceful_restart = restart;
        let mut net = pair(11, change);
        net.originate(A, &["10.1.0.0/26"]);
        net.until(secs(5), "route", |net| net.nodes[B].fib.len() == 1);
        net.event(A, Event::Stop(Stop::Shutdown("rack maintenance".into())));
        net.until(secs(1), "routes gone", |net| net.nodes[B].fib.is_empty());
        let error = net.peer(B, A).last_error.unwrap();
        assert_eq!(error.by, ErrorSide::Remote);
        assert_eq!(error.communication.as_deref(), Some("rack maintenance"));
        assert!(
            error.text.contains("Administrative Shutdown"),
            "{}",
            error.text
        );
        net.run_for(secs(30));
        assert_ne!(
            net.peer(B, A).state,
            SessionState::Established,
            "it stays away"
        );
    }
}

#[test]
fn a_peer_can_be_shut_down_and_brought_back_by_configuration() {
    let mut net = pair(12, |_, _, _| {});
    net.until(secs(5), "up", |net| net.established(A, B));
    net.event(
        A,
        Event::Configure(pair_config(A, |_, _, peer| {
            peer.shutdown = Some("for now".into());
        })),
    );
    net.until(secs(1), "down", |net| {
        net.peer(B, A).state != SessionState::Established
    });
    assert_eq!(net.peer(A, B).state, SessionState::Idle);
    assert!(net.peer(A, B).shutdown);
    net.run_for(secs(60));
    assert_eq!(net.peer(B, A).established_count, 1);
    net.event(A, Event::Configure(pair_config(A, |_, _, _| {})));
    net.until(secs(6), "up", |net| net.established(A, B));
}

#[test]
fn only_what_is_in_the_open_resets_a_session() {
    type Change = fn(usize, &mut Config, &mut PeerConfig);
    let cases: &[(&str, Change, bool)] = &[
        ("nothing", |_, _, _| {}, false),
        (
            "retry time",
            |_, _, peer| peer.connect_retry = secs(3),
            false,
        ),
        (
            "next hop",
            |_, _, peer| {
                peer.next_hops = [(Family::Ipv6Unicast, "2001:db8::9".parse().unwrap())].into();
            },
            false,
        ),
        ("allowed AS", |_, _, peer| peer.allow_own_as = 2, false),
        ("export", |_, _, peer| peer.export = Export::Best, false),
        (
            "multipath",
            |_, config, _| config.multipath.max_paths = 1,
            false,
        ),
        (
            "stale time",
            |_, _, peer| peer.graceful_restart.as_mut().unwrap().stale_time = secs(1),
            false,
        ),
        (
            "another peer",
            |_, config, _| config.deferral = secs(1),
            false,
        ),
        (
            "families",
            |_, _, peer| peer.families = [Family::Ipv4Unicast].into(),
            true,
        ),
        ("hold time", |_, _, peer| peer.hold_time = secs(30), true),
        (
            "restart time",
            |_, _, peer| peer.graceful_restart = None,
            true,
        ),
        (
            "router id",
            |_, config, _| config.router_id = [9, 9, 9, 9].into(),
            true,
        ),
        ("port", |_, _, peer| peer.port = 1179, true),
        ("ttl", |_, _, peer| peer.ttl = Some(1), true),
    ];
    for (name, change, reset) in cases {
        let mut net = pair(13, |_, _, _| {});
        net.originate(A, &["fd00:1::/122"]);
        net.until(secs(5), "route", |net| net.nodes[B].fib.len() == 1);
        net.event(A, Event::Configure(pair_config(A, change)));
        net.run_for(secs(20));
        assert!(net.established(A, B), "{name}");
        assert_eq!(
            net.peer(B, A).established_count,
            1 + u64::from(*reset),
            "{name}"
        );
    }
    let mut net = pair(13, |_, _, _| {});
    net.originate(A, &["fd00:1::/122"]);
    net.until(secs(5), "route", |net| net.nodes[B].fib.len() == 1);
    net.event(A, Event::Configure(pair_config(A, cases[2].1)));
    let moved = fib(&[("fd00:1::/122", &["2001:db8::9"])]);
    net.until(
        secs(1),
        "the new next hop is told on the living session",
        |net| net.nodes[B].fib == moved,
    );
}

#[test]
fn a_removed_peer_is_told_and_its_routes_go() {
    let mut net = pair(14, |_, _, _| {});
    net.originate(B, &["10.2.0.0/26"]);
    net.until(secs(5), "route", |net| net.nodes[A].fib.len() == 1);
    let mut config = pair_config(A, |_, _, _| {});
    config.peers.clear();
    net.event(A, Event::Configure(config));
    assert!(net.nodes[A].fib.is_empty());
    net.run_for(secs(1));
    assert!(
        net.peer(B, A)
            .last_error
            .unwrap()
            .text
            .contains("Peer De-configured")
    );
    net.event(A, Event::Configure(pair_config(A, |_, _, _| {})));
    net.until(secs(10), "back", |net| net.nodes[A].fib.len() == 1);
}

#[test]
fn a_changed_import_rule_judges_the_routes_that_are_there() {
    let mut net = pair(15, |_, _, _| {});
    net.originate(B, &["10.2.0.0/26"]);
    net.until(secs(5), "route", |net| net.nodes[A].fib.len() == 1);
    // The peer's routes now carry our AS.
    let own_as = |index: usize, config: &mut Config, peer: &mut PeerConfig| {
        if index == A {
            config.local_as = 65001;
            peer.local_as = Some(65001);
            peer.enforce_first_as = true;
        }
    };
    net.event(A, Event::Configure(pair_config(A, own_as)));
    assert_eq!(
        net.nodes[A].fib.len(),
        1,
        "nothing of that changes anything"
    );
    assert_eq!(net.peer(A, B).established_count, 1);
}

#[test]
fn both_routers_of_a_rack_share_the_load_and_neither_hears_of_the_other() {
    for export in [Export::Originated, Export::Best] {
        let mut net = rack(17, export);
        net.until(secs(10), "ECMP", |net| {
            net.nodes[0].fib
                == fib(&[
                    ("0.0.0.0/0", &["192.0.2.11", "192.0.2.12"]),
                    ("::/0", &["2001:db8::11", "2001:db8::12"]),
                ])
        });
        net.run_for(secs(10));
        for tor in [1, 2] {
            let learned: Vec<_> = net.nodes[tor].fib.keys().map(ToString::to_string).collect();
            assert_eq!(
                learned,
                ["10.1.0.0/26", "fd00:1::/122"],
                "{export:?}: never transit, and split horizon"
            );
            let peer = net.peer(0, tor);
            assert_eq!(
                peer.families[&Family::Ipv4Unicast].advertised,
                match export {
                    Export::Originated => 1,
                    // Its own default route is best for one of them; the other is told of it, and refuses its own AS.
                    Export::Best if tor == 1 => 1,
                    Export::Best => 2,
                }
            );
        }
        // One router dies.
        net.cut(0, 1, true);
        net.until(secs(100), "one is left", |net| {
            net.nodes[0].fib[&"0.0.0.0/0".parse().unwrap()].len() == 1
        });
    }
}

#[test]
fn a_restarting_peer_keeps_its_routes_until_it_is_complete_again() {
    let mut net = pair(19, |_, _, peer| {
        peer.graceful_restart = Some(GracefulRestart {
            restart_time: secs(60),
            ..GracefulRestart::default()
        });
    });
    net.originate(A, &["10.1.0.0/26", "10.1.1.0/26", "fd00:1::/122"]);
    net.until(secs(5), "routes", |net| net.nodes[B].fib.len() == 3);
    // Killed; the kernel resets its connections.
    net.restart(
        A,
        pair_config(A, |_, config, _| config.restarting = true),
        true,
    );
    net.until(secs(1), "noticed", |net| net.peer(B, A).restarting);
    assert_eq!(net.nodes[B].fib.len(), 3, "kept");
    assert_eq!(net.peer(B, A).families[&Family::Ipv4Unicast].stale, 2);
    net.until(secs(10), "up", |net| net.established(A, B));
    net.run_for(secs(20));
    assert_eq!(
        net.nodes[B].fib.len(),
        3,
        "still kept: nothing says yet that the routes are complete"
    );
    // It comes back with one route less.
    net.originate(A, &["10.1.0.0/26", "fd00:1::/122"]);
    net.until(secs(1), "the one that is gone goes", |net| {
        net.nodes[B].fib.len() == 2
    });
    let status = net.peer(B, A);
    assert!(!status.restarting);
    assert_eq!(status.families[&Family::Ipv4Unicast].stale, 0);
    assert!(status.families[&Family::Ipv6Unicast].end_of_rib_received);
}

#[test]
fn only_peers_of_the_time_before_are_told_of_the_restart() {
    for (later, told) in [(false, true), (true, false)] {
        let mut net = pair(19, |_, _, _| {});
        let with_peer = pair_config(A, |_, config, _| config.restarting = true);
        let mut alone = with_peer.clone();
        alone.peers.clear();
        let first = if later { alone } else { with_peer.clone() };
        net.restart(A, first, true);
        net.originate(A, &[]);
        net.run_for(secs(1));
        net.event(A, Event::Configure(with_peer));
        net.until(secs(10), "up", |net| net.established(A, B));
        let peer = net.nodes[B].speaker.peers.values().next().unwrap();
        let restart = peer
            .up
            .as_ref()
            .unwrap()
            .negotiated
            .restart
            .as_ref()
            .unwrap();
        assert_eq!(restart.restarting, told, "configured later: {later}");
    }
}

#[test]
fn a_planned_stop_for_a_restart_says_nothing() {
    let mut net = pair(20, |_, _, _| {});
    net.originate(A, &["10.1.0.0/26"]);
    net.until(secs(5), "route", |net| net.nodes[B].fib.len() == 1);
    let before = kinds(&net.nodes[A].sent).len();
    net.event(A, Event::Stop(Stop::Restart));
    net.run_for(secs(1));
    assert!(net.peer(B, A).restarting);
    assert_eq!(net.nodes[B].fib.len(), 1);
    assert!(!kinds(&net.nodes[A].sent)[before..].contains(&MessageType::Notification));
}

#[test]
fn a_peer_that_does_not_return_in_time_loses_its_routes() {
    let mut net = pair(21, |_, _, peer| {
        peer.graceful_restart = Some(GracefulRestart {
            restart_time: secs(40),
            ..GracefulRestart::default()
        });
    });
    net.originate(A, &["10.1.0.0/26"]);
    net.until(secs(5), "route", |net| net.nodes[B].fib.len() == 1);
    net.event(A, Event::Stop(Stop::Restart));
    let took = net.until(secs(60), "dropped", |net| net.nodes[B].fib.is_empty());
    assert!((secs(39)..=secs(41)).contains(&took), "{took:?}");
}

#[test]
fn a_peer_that_lost_its_forwarding_state_loses_its_routes_on_return() {
    let mut net = pair(22, |_, _, _| {});
    net.originate(A, &["10.1.0.0/26"]);
    net.until(secs(5), "route", |net| net.nodes[B].fib.len() == 1);
    // A fresh start: neither R nor F.
    net.restart(A, pair_config(A, |_, _, _| {}), true);
    net.until(secs(10), "dropped when it is up", |net| {
        net.nodes[B].fib.is_empty()
    });
    assert!(net.peer(B, A).state == SessionState::Established);
}

#[test]
fn a_peer_that_returns_before_its_silence_is_noticed_is_let_in_at_once() {
    let mut net = pair(23, |index, _, peer| peer.passive = index == B);
    net.originate(A, &["10.1.0.0/26"]);
    net.until(secs(5), "route", |net| net.nodes[B].fib.len() == 1);
    // Power lost: nobody tells B.
    net.restart(
        A,
        pair_config(A, |_, config, _| config.restarting = true),
        false,
    );
    net.originate(A, &["10.1.0.0/26"]);
    let took = net.until(secs(10), "up", |net| {
        net.peer(A, B).state == SessionState::Established
    });
    assert!(took < secs(1), "{took:?}");
    net.run_for(secs(5));
    assert_eq!(
        (net.peer(B, A).established_count, net.nodes[B].fib.len()),
        (2, 1)
    );
}

#[test]
fn without_graceful_restart_a_second_connection_is_refused_while_the_first_lives() {
    let mut net = pair(24, |index, _, peer| {
        peer.passive = index == B;
        peer.graceful_restart = None;
        peer.hold_time = secs(30);
    });
    net.until(secs(5), "up", |net| net.established(A, B));
    net.restart(
        A,
        pair_config(A, |_, _, peer| {
            peer.graceful_restart = None;
            peer.hold_time = secs(30);
        }),
        false,
    );
    net.run_for(secs(3));
    assert_eq!(
        net.peer(A, B).last_error.unwrap().subcode,
        Some(7),
        "Connection Collision Resolution"
    );
    net.until(secs(60), "up after the hold time", |net| {
        net.established(A, B)
    });
}

#[test]
fn the_kernels_old_routes_wait_for_every_peer_or_the_deferral() {
    // Everyone has told everything: at once.
    let mut net = pair(25, |_, _, _| {});
    net.originate(A, &[]);
    net.originate(B, &["10.2.0.0/26"]);
    let took = net.until(secs(20), "converged", |net| net.nodes[A].converged);
    assert!(took < secs(2), "{took:?}");
    assert_eq!(
        net.nodes[A].fib.len(),
        1,
        "with the routes, not before them"
    );

    // A peer without End-of-RIB: when it is quiet.
    let mut net = pair(25, |_, _, peer| peer.graceful_restart = None);
    net.originate(A, &[]);
    let took = net.until(secs(20), "converged", |net| net.nodes[A].converged);
    assert!((secs(2)..secs(4)).contains(&took), "{took:?}");

    // A peer that is away: when the deferral is over.
    let mut net = pair(25, |_, _, _| {});
    net.cut(A, B, true);
    net.originate(A, &[]);
    let took = net.until(secs(100), "converged", |net| net.nodes[A].converged);
    assert!((secs(59)..=secs(60)).contains(&took), "{took:?}");

    // Nobody said yet what there is to originate: the peers may not be all either.
    let mut net = Net::new(25);
    net.add(Config::new([10, 0, 0, 1].into(), 65001), &["192.0.2.1"]);
    net.run_for(secs(30));
    assert!(!net.nodes[0].converged);
    net.originate(0, &[]);
    assert!(net.nodes[0].converged);
}

#[test]
fn end_of_rib_is_sent_for_the_families_agreed_on_and_not_before_our_routes_are_known() {
    let mut net = pair(26, |index, _, peer| {
        if index == B {
            peer.families = [Family::Ipv4Unicast].into();
        }
    });
    net.until(secs(5), "up", |net| net.established(A, B));
    net.run_for(secs(10));
    let received = |net: &Net| net.peer(B, A).families[&Family::Ipv4Unicast].end_of_rib_received;
    assert!(!received(&net));
    net.originate(A, &["10.1.0.0/26"]);
    net.until(secs(1), "marker", received);
    assert!(!net.peer(A, B).families[&Family::Ipv6Unicast].end_of_rib_sent);
    assert_eq!(net.nodes[B].fib.len(), 1);
    net.originate(B, &[]);
    net.until(secs(1), "only negotiated families are waited for", |net| {
        net.nodes[A].converged
    });
}

#[test]
fn route_refresh_brings_everything_again() {
    let mut net = pair(27, |_, _, _| {});
    net.originate(A, &["10.1.0.0/26", "fd00:1::/122"]);
    net.until(secs(5), "routes", |net| net.nodes[B].fib.len() == 2);
    let conn = net.nodes[A]
        .speaker
        .peers
        .values()
        .next()
        .unwrap()
        .up
        .as_ref()
        .unwrap()
        .conn;
    let before = kinds(&net.nodes[A].sent).len();
    let request = crate::wire::RouteRefresh {
        afi: 2,
        safi: 1,
        subtype: 0,
    };
    net.event(
        A,
        Event::Received {
            conn,
            bytes: request.encode(),
        },
    );
    assert_eq!(kinds(&net.nodes[A].sent)[before..], [MessageType::Update]);
    assert_eq!(net.peer(A, B).families[&Family::Ipv6Unicast].advertised, 1);
}

#[test]
fn a_thousand_routes_of_one_kind_fit_into_few_updates() {
    let mut net = pair(28, |_, _, _| {});
    net.until(secs(5), "up", |net| net.established(A, B));
    let prefixes: BTreeMap<IpNet, Origin> = (0..1000u32)
        .map(|index| {
            (
                ipnet::Ipv4Net::new((0x0a00_0000 + (index << 8)).into(), 24)
                    .unwrap()
                    .into(),
                Origin::default(),
            )
        })
        .collect();
    let before = kinds(&net.nodes[A].sent).len();
    net.event(A, Event::Originate(prefixes));
    let took = net.until(secs(5), "routes", |net| net.nodes[B].fib.len() == 1000);
    assert!(took < secs(1));
    let updates = kinds(&net.nodes[A].sent)[before..]
        .iter()
        .filter(|kind| **kind == MessageType::Update)
        .count();
    assert!(updates <= 3, "{updates}: one of routes, two of End-of-RIB");
}

#[test]
fn a_slow_peer_does_not_make_the_speaker_grow() {
    let mut speaker = Speaker::new(pair_config(A, |_, _, _| {}), 1, Instant::now());
    let now = Instant::now();
    let conn = establish(&mut speaker, now);
    let prefixes: BTreeMap<IpNet, Origin> = (0..20_000u32)
        .map(|index| {
            let origin = Origin {
                communities: vec![index],
                ..Origin::default()
            };
            (
                ipnet::Ipv4Net::new((0x0a00_0000 + index).into(), 32)
                    .unwrap()
                    .into(),
                origin,
            )
        })
        .collect();
    let sent = |effects: Vec<Effect>| -> usize {
        let len = |effect: &Effect| {
            if let Effect::Send { bytes, .. } = effect {
                bytes.len()
            } else {
                0
            }
        };
        effects.iter().map(len).sum()
    };
    let first = sent(speaker.handle(Event::Originate(prefixes), now));
    assert!((200_000..400_000).contains(&first), "{first}");
    assert_eq!(sent(speaker.handle(Event::Timeout, now)), 0, "it waits");
    let more = sent(speaker.handle(
        Event::Sent {
            conn,
            bytes: 100_000,
        },
        now,
    ));
    assert!((90_000..110_000).contains(&more), "{more}");
}

#[test]
fn a_stranger_is_refused_before_anything_is_said() {
    let now = Instant::now();
    let mut speaker = Speaker::new(pair_config(A, |_, _, _| {}), 1, now);
    let conn = ConnId::Accepted(1);
    let ends = ends("198.51.100.1:5000");
    assert_eq!(
        speaker.handle(Event::Accepted { conn, ends }, now).last(),
        Some(&Effect::Close { conn })
    );
    let bytes = crate::wire::keepalive();
    assert_eq!(speaker.handle(Event::Received { conn, bytes }, now), []);
}

/// A host (0) and two routers (1, 2) of another AS, each with a default route in both families.
fn rack(seed: u64, export: Export) -> Net {
    let mut net = Net::new(seed);
    let mut host = Config::new([10, 0, 0, 1].into(), 64512);
    let addresses = [
        ["192.0.2.11", "2001:db8::11"],
        ["192.0.2.12", "2001:db8::12"],
    ];
    for address in &addresses {
        let mut peer = PeerConfig::new(65000);
        peer.next_hops
            .insert(Family::Ipv6Unicast, "2001:db8::1".parse().unwrap());
        peer.export = export;
        peer.graceful_restart = None;
        host.peers.insert(
            PeerAddress::from(address[0].parse::<IpAddr>().unwrap()),
            peer,
        );
    }
    net.add(host, &["192.0.2.1", "2001:db8::1"]);
    for (index, address) in addresses.iter().enumerate() {
        let mut tor = Config::new([10, 0, 0, 11 + index as u8].into(), 65000);
        let mut peer = PeerConfig::new(64512);
        peer.next_hops
            .insert(Family::Ipv6Unicast, address[1].parse().unwrap());
        peer.graceful_restart = None;
        tor.peers.insert(
            PeerAddress::from("192.0.2.1".parse::<IpAddr>().unwrap()),
            peer,
        );
        net.add(tor, address);
        net.originate(index + 1, &["0.0.0.0/0", "::/0"]);
    }
    net.originate(0, &["10.1.0.0/26", "fd00:1::/122"]);
    net
}

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
