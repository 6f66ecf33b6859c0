//! Graceful restart, on both sides.

use super::*;

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
