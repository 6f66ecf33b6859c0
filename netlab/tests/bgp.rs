//! BGP between cleat and routers of other makes.
#![cfg(feature = "lab")]
#![allow(clippy::unwrap_used, reason = "helpers of tests panic like tests")]

use netlab::{
    Expect::Reaches,
    GoBgp, House,
    Proto::Tcp,
    Workload, eventually,
    router::{Neighbor, RouteEntry, Router, Spec},
    secs,
};

fn route(router: &dyn Router, prefix: &str) -> Result<RouteEntry, String> {
    let routes = router.routes().map_err(|error| format!("{error:#}"))?;
    routes
        .into_iter()
        .find(|route| route.prefix.to_string() == prefix)
        .ok_or(format!("{} has no {prefix}", router.make()))
}

/// What the kernel of a host says of a prefix, on one line.
fn kernel_route(house: &House, prefix: &str) -> String {
    let family = if prefix.contains(':') { "-6" } else { "-4" };
    let text = house
        .alpha
        .namespace
        .run("ip", &[family, "route", "show", prefix])
        .unwrap();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn hosts_announce_their_blocks_and_give_no_transit() {
    let house = House::running("bgp").unwrap();
    for (router, own) in [(&house.tor1 as &dyn Router, 65001), (&house.tor2, 65002)] {
        for (prefix, host) in [
            ("10.65.1.0/26", 65011),
            ("fd65:0:0:1::/122", 65011),
            ("10.65.2.0/26", 65012),
            ("fd65:0:0:2::/122", 65012),
        ] {
            let route = route(router, prefix).unwrap();
            assert_eq!(route.paths[0], [host], "{}: {route}", router.make());
        }
        for route in router.routes().unwrap() {
            for path in &route.paths {
                let through_a_host = path
                    .iter()
                    .rev()
                    .skip(1)
                    .any(|asn| [65011, 65012].contains(asn));
                assert!(
                    !through_a_host,
                    "AS {own} has a way through a host: {route}"
                );
            }
        }
    }
    // What is not there is seen best where it would be used: the core knows each block by its host alone.
    let block = route(&house.core, "10.65.1.0/26").unwrap();
    assert_eq!(block.paths.len(), 2, "{block}");
}

#[test]
fn routes_from_both_tors_share_the_load_and_own_blocks_are_blackholes() {
    let house = House::running("bgp-ecmp").unwrap();
    for (prefix, hops) in [
        ("10.65.2.0/26", ["via 10.0.1.1", "via 10.0.3.1"]),
        (
            "fd65:0:0:2::/122",
            ["via fd00:0:0:1::1", "via fd00:0:0:3::1"],
        ),
        ("10.99.0.0/16", ["via 10.0.1.1", "via 10.0.3.1"]),
        ("fd99::/48", ["via fd00:0:0:1::1", "via fd00:0:0:3::1"]),
    ] {
        eventually(&format!("two ways to {prefix}"), secs(10), || {
            let text = kernel_route(&house, prefix);
            if hops.iter().all(|hop| text.contains(hop)) && text.contains("proto 80") {
                Ok(())
            } else {
                Err(text)
            }
        })
        .unwrap();
    }
    for block in ["10.65.1.0/26", "fd65:0:0:1::/122"] {
        let text = kernel_route(&house, block);
        assert!(
            text.starts_with("blackhole") && text.contains("proto 80"),
            "{block}: {text}"
        );
    }
}

#[test]
fn an_address_borrowed_from_another_hosts_block_is_announced_by_itself() {
    let house = House::running("bgp-borrowed").unwrap();
    // Two addresses of alpha's blocks, on beta.
    let addresses = [
        "10.65.1.40".parse().unwrap(),
        "fd65:0:0:1::20".parse().unwrap(),
    ];
    let moved = Workload::container(
        &house.lab,
        &house.beta.namespace,
        "moved",
        "cali0moved",
        &addresses,
        &[Tcp(80)],
    )
    .unwrap();
    let endpoint = format!(
        "apiVersion: projectcalico.org/v3\nkind: WorkloadEndpoint\nmetadata:\n  name: beta-k8s-moved-eth0\n  namespace: shop\n  \
         labels: {{app: web, role: frontend, projectcalico.org/namespace: shop, projectcalico.org/orchestrator: k8s}}\nspec:\n  \
         orchestrator: k8s\n  node: beta\n  pod: moved\n  endpoint: eth0\n  containerID: c0ffee05\n  interfaceName: cali0moved\n  \
         mac: '{}'\n  ipNetworks: [10.65.1.40/32, 'fd65:0:0:1::20/128']\n  profiles: [shop]\n",
        moved.mac
    );
    house
        .beta
        .cleat_with(&["apply", "-f", "-"], &endpoint)
        .unwrap();
    for prefix in ["10.65.1.40/32", "fd65:0:0:1::20/128"] {
        for tor in [&house.tor1 as &dyn Router, &house.tor2] {
            // The other router's word may come by way of the core before the host's own.
            eventually(&format!("{prefix} on {}", tor.make()), secs(10), || {
                let found = route(tor, prefix)?;
                if found.paths.contains(&vec![65012]) {
                    Ok(())
                } else {
                    Err(found.to_string())
                }
            })
            .unwrap();
        }
    }
    let mut rows = netlab::probe::rows(house.station("client").unwrap(), &moved, Tcp(80), Reaches);
    rows.extend(netlab::probe::rows(
        house.station("web").unwrap(),
        &moved,
        Tcp(80),
        Reaches,
    ));
    netlab::probe::check(&mut netlab::Matrix { rows }, &house.stations(), secs(10)).unwrap();
}

#[test]
fn gobgp_is_a_third_peer() {
    let house = House::running("bgp-gobgp").unwrap();
    let third = house.lab.namespace("third").unwrap();
    third.veth("alpha", &house.alpha.namespace, "eth2").unwrap();
    for (end, namespace, interface) in [(1, &third, "alpha"), (2, &house.alpha.namespace, "eth2")] {
        namespace
            .address(interface, &format!("10.0.9.{end}/30"))
            .unwrap();
        namespace
            .address(interface, &format!("fd00:0:0:9::{end}/64"))
            .unwrap();
    }
    let neighbor = Neighbor {
        name: "alpha".into(),
        address: "10.0.9.2".parse().unwrap(),
        local: "10.0.9.1".parse().unwrap(),
        local_v6: "fd00:0:0:9::1".parse().unwrap(),
        asn: 65011,
    };
    let spec = Spec {
        asn: 65009,
        router_id: "192.0.2.9".into(),
        neighbors: vec![neighbor],
        originates: vec!["10.77.0.0/16".parse().unwrap()],
    };
    let gobgp = GoBgp::start(&house.lab, &third, &spec).unwrap();
    let peer = "apiVersion: projectcalico.org/v3\nkind: BGPPeer\nmetadata:\n  name: alpha-third\nspec:\n  node: alpha\n  peerIP: 10.0.9.1\n  asNumber: 65009\n  sourceAddress: None\n";
    house.alpha.cleat_with(&["apply", "-f", "-"], peer).unwrap();
    let alpha = "10.0.9.2".parse().unwrap();
    eventually("GoBGP's session with alpha", secs(20), || {
        match gobgp.session_state(alpha)? {
            state if state == "Established" => Ok(()),
            state => Err(state),
        }
    })
    .unwrap();
    for prefix in ["10.65.1.0/26", "fd65:0:0:1::/122"] {
        let found = eventually(prefix, secs(10), || route(&gobgp, prefix)).unwrap();
        assert_eq!(found.paths, [[65011]], "{found}");
    }
    eventually("GoBGP's prefix in alpha's kernel", secs(10), || {
        let text = kernel_route(&house, "10.77.0.0/16");
        if text.contains("via 10.0.9.1") && text.contains("proto 80") {
            Ok(())
        } else {
            Err(text)
        }
    })
    .unwrap();
    // eBGP peers of alpha hear nothing of each other.
    assert!(route(&house.tor1, "10.77.0.0/16").is_err());
    assert!(route(&gobgp, "10.65.2.0/26").is_err());
}
