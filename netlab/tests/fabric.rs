//! The lab itself, without cleat: what BIRD, FRR, GoBGP, the kernel and etcd do alone. A failure here is the lab's.
#![cfg(feature = "lab")]
#![allow(clippy::unwrap_used, reason = "helpers of tests panic like tests")]

use std::net::IpAddr;

use netlab::{
    Bird,
    Expect::{Reaches, Refused},
    GoBgp, House, Nic,
    Proto::{Ping, Tcp, Udp},
    Workload, eventually, probe,
    router::{Neighbor, Router, Spec},
    secs,
};

/// BIRD in cleat's place on both hosts, and no policy.
fn with_bird_on_the_hosts(name: &str) -> (House, Vec<Bird>) {
    let house = House::new(name).unwrap();
    let mut birds = Vec::new();
    for (host, links, block, asn) in [
        (&house.alpha, [1, 3], 1, 65011),
        (&house.beta, [2, 4], 2, 65012),
    ] {
        let address = |text: String| text.parse::<IpAddr>().unwrap();
        let neighbor = |(n, tor): (u8, u32)| Neighbor {
            name: format!("tor{tor}"),
            address: address(format!("10.0.{n}.1")),
            local: address(format!("10.0.{n}.2")),
            local_v6: address(format!("fd00:0:0:{n}::2")),
            asn: 65000 + tor,
        };
        let spec = Spec {
            asn,
            router_id: format!("192.0.2.1{block}"),
            neighbors: links.into_iter().zip(1..).map(neighbor).collect(),
            originates: vec![
                format!("10.65.{block}.0/26").parse().unwrap(),
                format!("fd65:0:0:{block}::/122").parse().unwrap(),
            ],
        };
        birds.push(Bird::start(&house.lab, &host.namespace, &spec).unwrap());
    }
    for workload in &house.workloads {
        let host = house.host_of(&workload.name).unwrap();
        for address in &workload.addresses {
            host.namespace
                .ip(&format!("route add {address} dev {}", workload.interface))
                .unwrap();
        }
    }
    house.wait_sessions(secs(20)).unwrap();
    (house, birds)
}

#[test]
fn everything_reaches_everything_without_policy() {
    let (house, _birds) = with_bird_on_the_hosts("fabric");
    house
        .expect(
            &[
                ("client", "web", Tcp(80), Reaches),
                ("client", "web", Tcp(4), Refused),
                ("client", "db", Ping, Reaches),
                ("stranger", "app", Udp(9000), Reaches),
                ("web", "db", Tcp(5432), Reaches),
                ("web", "guest", Tcp(80), Reaches),
                ("guest", "db", Ping, Reaches),
                ("app", "client", Tcp(7), Reaches),
            ],
            secs(10),
        )
        .unwrap();

    // Both hosts have two ways out and the ToRs none through a host.
    for tor in [&house.tor1 as &dyn Router, &house.tor2] {
        let routes = tor.routes().unwrap();
        let block = routes
            .iter()
            .find(|route| route.prefix.to_string() == "10.65.1.0/26")
            .unwrap();
        assert_eq!(block.paths[0], [65011], "{routes:#?}");
    }
}

#[test]
fn traffic_goes_on_when_a_tor_dies() {
    let (house, _birds) = with_bird_on_the_hosts("fabric-tor");
    house
        .expect(&[("client", "web", Tcp(80), Reaches)], secs(10))
        .unwrap();
    house.power_off(0).unwrap();
    house
        .expect(
            &[
                ("client", "web", Tcp(80), Reaches),
                ("app", "db", Tcp(5432), Reaches),
                ("web", "client", Tcp(7), Reaches),
            ],
            secs(10),
        )
        .unwrap();
}

#[test]
fn gobgp_speaks_with_a_bird() {
    let house = House::new("fabric-gobgp").unwrap();
    let (bird, gobgp) = (
        house.lab.namespace("bird").unwrap(),
        house.lab.namespace("gobgp").unwrap(),
    );
    bird.veth("gobgp", &gobgp, "eth0").unwrap();
    for (end, namespace, interface) in [(1, &bird, "gobgp"), (2, &gobgp, "eth0")] {
        namespace
            .address(interface, &format!("10.1.0.{end}/30"))
            .unwrap();
        namespace
            .address(interface, &format!("fd01::{end}/64"))
            .unwrap();
    }
    let spec = |own: u32, other: u32| Spec {
        asn: 65100 + own,
        router_id: format!("192.0.2.2{own}"),
        neighbors: vec![Neighbor {
            name: "other".into(),
            address: format!("10.1.0.{other}").parse().unwrap(),
            local: format!("10.1.0.{own}").parse().unwrap(),
            local_v6: format!("fd01::{own}").parse().unwrap(),
            asn: 65100 + other,
        }],
        originates: vec![format!("10.20{own}.0.0/16").parse().unwrap()],
    };
    let bird = Bird::start(&house.lab, &bird, &spec(1, 2)).unwrap();
    let gobgp = GoBgp::start(&house.lab, &gobgp, &spec(2, 1)).unwrap();
    for (router, peer) in [(&bird as &dyn Router, "10.1.0.2"), (&gobgp, "10.1.0.1")] {
        eventually("the session", secs(20), || {
            match router.session_state(peer.parse().unwrap())? {
                state if state == "Established" => Ok(()),
                state => Err(state),
            }
        })
        .unwrap();
    }
    for (router, prefix, asn) in [
        (&bird as &dyn Router, "10.202.0.0/16", 65102),
        (&gobgp, "10.201.0.0/16", 65101),
    ] {
        eventually("the other's route", secs(10), || {
            let routes = router.routes().map_err(|error| format!("{error:#}"))?;
            let found = routes
                .iter()
                .find(|route| route.prefix.to_string() == prefix)
                .ok_or(format!("{routes:?}"))?;
            if found.paths == [[asn]] {
                Ok(())
            } else {
                Err(format!("{found:?}"))
            }
        })
        .unwrap();
    }
}

#[test]
fn a_machine_behind_a_tap_is_reached_like_a_container() {
    let house = House::new("fabric-tap").unwrap();
    let host = &house.alpha.namespace;
    host.ip("addr add 10.66.0.1/24 dev lo").unwrap();
    let nic = Nic {
        tap: "tapport-1".into(),
        mac: "00:11:22:33:44:55".into(),
        addresses: vec![("10.66.0.2".parse().unwrap(), 24)],
        gateways: vec!["10.66.0.1".parse().unwrap()],
    };
    let machine = Workload::machine(&house.lab, host, "vm", &nic, &[Tcp(22)]).unwrap();
    host.ip("route add 10.66.0.2/32 dev tapport-1").unwrap();
    let web = house.workload("web").unwrap();
    host.ip("route add 10.65.1.1/32 dev cali0web").unwrap();
    let rows = probe::rows(web, &machine, Tcp(22), Reaches);
    assert_eq!(rows.len(), 1);
    let mut matrix = netlab::Matrix { rows };
    probe::check(&mut matrix, &house.stations(), secs(5)).unwrap();
}

#[test]
fn nothing_is_left_when_the_lab_is_dropped() {
    let house = House::new("fabric-gone").unwrap();
    let id = house.lab.id().to_owned();
    let log = house.etcd.process().log().to_owned();
    let list = || {
        std::fs::read_dir("/run/netns")
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
    };
    assert!(list().any(|name| name.starts_with(&format!("{id}-"))));
    drop(house);
    assert_eq!(
        list()
            .filter(|name| name.starts_with(&format!("{id}-")))
            .count(),
        0
    );
    assert!(!log.exists());
}
