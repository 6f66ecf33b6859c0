//! Which routes are told, learned and used.

use super::*;

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
