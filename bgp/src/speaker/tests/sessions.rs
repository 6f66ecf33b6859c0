//! How sessions begin and end.

use super::*;

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
