//! Against the kernel, each test in a network namespace of its own. They need root and are skipped without it.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::*;
use crate::reconcile::{Delta, Table};

/// Runs a body in a new network namespace, which ends with the thread.
fn in_namespace(body: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        // SAFETY: a new network namespace of this thread alone touches no memory or file table that others share.
        if let Err(error) = unsafe { unshare_unsafe(UnshareFlags::NEWNET) } {
            eprintln!("skipped: no network namespace: {error}");
            return;
        }
        ip("link set lo up");
        body();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn ip(arguments: &str) -> String {
    let output = Command::new("ip")
        .args(arguments.split_whitespace())
        .output()
        .expect("ip is installed");
    assert!(
        output.status.success(),
        "ip {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

const PROTOCOL: u8 = 80;

fn routers() {
    ip("link add up0 type veth peer name far0");
    ip("link add up1 type veth peer name far1");
    for (link, v4, v6) in [
        ("up0", "192.0.2.1/24", "2001:db8:0::1/64"),
        ("up1", "198.51.100.1/24", "2001:db8:1::1/64"),
    ] {
        ip(&format!("link set {link} up"));
        ip(&format!("address add {v4} dev {link}"));
        ip(&format!("address add {v6} dev {link} nodad"));
    }
    ip("link set far0 up");
    ip("link set far1 up");
}

fn gateways(texts: &[&str]) -> Way {
    Way::via(texts.iter().map(|text| text.parse().unwrap()))
}

fn key(net: &str) -> RouteKey {
    RouteKey::new(net.parse().unwrap())
}

#[test]
fn routes_of_every_sort_are_written_read_back_replaced_and_removed() {
    in_namespace(|| {
        routers();
        let mut netlink = Netlink::open().unwrap();
        let index = netlink.snapshot().unwrap().links["up0"].ifindex;
        for (net, one, two, local) in [
            (
                "10.1.0.0/24",
                "192.0.2.254",
                "198.51.100.254",
                "10.0.0.1/32",
            ),
            (
                "fd00:1::/64",
                "2001:db8:0::254",
                "2001:db8:1::254",
                "fd00::1/128",
            ),
        ] {
            let mut ours = BTreeSet::new();
            let mut delta = Delta::new();
            let ways = [
                gateways(&[one]),
                gateways(&[one, two]),
                Way::Blackhole,
                gateways(&[two, one]),
                gateways(&[two]),
                Way::Dev {
                    ifindex: index,
                    source: None,
                },
                gateways(&[one, two]),
            ];
            for way in ways {
                delta.want(key(net), Some(way.clone()));
                delta.want(
                    key(local),
                    Some(Way::Dev {
                        ifindex: index,
                        source: None,
                    }),
                );
                let mut table = Routes::new(&mut netlink, PROTOCOL, &mut ours);
                delta.resync(&mut table).unwrap();
                let applied = delta.apply_puts(&mut table);
                assert!(applied.is_clean(), "{net} {way:?}: {applied:?}");
                let found: Vec<(RouteKey, Way)> = table
                    .dump()
                    .unwrap()
                    .into_iter()
                    .filter(|(found, _)| *found == key(net))
                    .collect();
                assert_eq!(found, [(key(net), way)]);
                delta.resync(&mut table).unwrap();
                assert!(delta.is_settled());
            }
            delta.want_all([]);
            let mut table = Routes::new(&mut netlink, PROTOCOL, &mut ours);
            assert!(delta.apply_deletes(&mut table).is_clean());
            assert!(table.dump().unwrap().is_empty());
            assert!(
                table.delete(&key(net)).is_ok(),
                "what is not there is deleted already"
            );
        }
    });
}

#[test]
fn routes_of_others_are_neither_seen_nor_replaced_nor_removed() {
    in_namespace(|| {
        routers();
        let mut netlink = Netlink::open().unwrap();
        for (family, net, foreign, ours_too) in [
            ("-4", "10.1.0.0/24", "192.0.2.254", "198.51.100.254"),
            ("-6", "fd00:1::/64", "2001:db8:0::254", "2001:db8:1::254"),
        ] {
            ip(&format!(
                "{family} route add {net} via {foreign} metric {METRIC} proto static"
            ));
            let before = ip(&format!("{family} route show {net}"));
            let mut ours = BTreeSet::new();
            let mut table = Routes::new(&mut netlink, PROTOCOL, &mut ours);
            assert!(table.dump().unwrap().is_empty());
            let error = table.put(&key(net), &gateways(&[ours_too])).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
            table.delete(&key(net)).unwrap();
            assert_eq!(ip(&format!("{family} route show {net}")), before);
        }
    });
}

#[test]
fn a_process_that_starts_anew_replaces_its_own_routes() {
    in_namespace(|| {
        routers();
        let mut netlink = Netlink::open().unwrap();
        for (net, one, two) in [
            ("10.1.0.0/24", "192.0.2.254", "198.51.100.254"),
            ("fd00:1::/64", "2001:db8:0::254", "2001:db8:1::254"),
        ] {
            let (mut first, mut second) = (BTreeSet::new(), BTreeSet::new());
            Routes::new(&mut netlink, PROTOCOL, &mut first)
                .put(&key(net), &gateways(&[one]))
                .unwrap();
            let mut table = Routes::new(&mut netlink, PROTOCOL, &mut second);
            table.put(&key(net), &gateways(&[one, two])).unwrap();
            assert_eq!(
                table
                    .dump()
                    .unwrap()
                    .into_iter()
                    .filter(|(found, _)| *found == key(net))
                    .collect::<Vec<_>>(),
                [(key(net), gateways(&[one, two]))]
            );
        }
    });
}

#[test]
fn a_snapshot_tells_links_their_ends_and_the_hosts_addresses() {
    in_namespace(|| {
        routers();
        ip("link add calix type veth peer name inside");
        ip("address add 10.0.0.1/32 dev calix");
        let mut netlink = Netlink::open().unwrap();
        let snapshot = netlink.snapshot().unwrap();
        let link = &snapshot.links["calix"];
        assert_eq!(
            (link.kind.as_str(), link.peer_elsewhere, link.mtu),
            ("veth", false, 1500)
        );
        assert_eq!(snapshot.peer_mac(link), snapshot.links["inside"].mac);
        let addresses = snapshot.host_addresses(|name| name.starts_with("cali"));
        for address in ["192.0.2.1", "2001:db8::1", "127.0.0.1"] {
            assert!(
                addresses.contains(&address.parse().unwrap()),
                "{address} in {addresses:?}"
            );
        }
        assert!(!addresses.contains(&"10.0.0.1".parse().unwrap()));
        assert!(!addresses.iter().any(|address| is_link_local(*address)));
    });
}

#[test]
fn a_workloads_interface_gets_its_settings_and_keeps_them() {
    in_namespace(|| {
        ip("link add calix type veth peer name inside");
        ip("link set calix address ee:ee:ee:ee:ee:ee addrgenmode none");
        ip("link set inside up");
        let mut netlink = Netlink::open().unwrap();
        let gateway: Ipv6Addr = "fd00::ffff".parse().unwrap();
        let is_workload = |name: &str| name.starts_with("cali");
        let mut delta = Delta::new();
        delta.want(
            "calix".to_owned(),
            Some(HostSide {
                proxied: [gateway].into(),
            }),
        );
        let mut table = Settings::new(&mut netlink, is_workload);
        delta.resync(&mut table).unwrap();
        assert!(!delta.is_settled());
        let applied = delta.apply_puts(&mut table);
        assert!(applied.is_clean(), "{applied:?}");
        delta.resync(&mut table).unwrap();
        assert!(
            delta.is_settled(),
            "{:?}",
            delta.drift().collect::<Vec<_>>()
        );
        assert!(ip("-6 address show dev calix").contains("fe80::ecee:eeff:feee:eeee/64"));
        assert!(ip("-6 neigh show proxy").contains("fd00::ffff"));
        assert_eq!(fs_read("/proc/sys/net/ipv4/conf/calix/proxy_arp"), "1");
        assert_ne!(fs_read("/proc/sys/net/ipv4/conf/inside/proxy_arp"), "1");
        assert!(
            table
                .put(&"inside".to_owned(), &HostSide::default())
                .is_err(),
            "not a workload's by its name"
        );
        assert!(
            table
                .put(&"calinone".to_owned(), &HostSide::default())
                .is_err()
        );
    });
}

fn fs_read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap().trim().to_owned()
}

#[test]
fn the_watch_tells_kinds_of_change_and_not_our_own_writes() {
    in_namespace(|| {
        routers();
        let mut netlink = Netlink::open().unwrap();
        let mut watch = Watch::open(Arc::new(PROTOCOL.into()), vec![netlink.port()]).unwrap();
        // Whatever setting up the links still sets off.
        while watch.wait(Duration::from_millis(200)).unwrap().any() {}
        let mut ours = BTreeSet::new();
        Routes::new(&mut netlink, PROTOCOL, &mut ours)
            .put(&key("10.1.0.0/24"), &gateways(&["192.0.2.254"]))
            .unwrap();
        let own = until(
            &mut watch,
            |seen| seen.own_routes,
            Duration::from_millis(300),
        );
        assert!(!own.own_routes, "{own:?}");
        ip("route del 10.1.0.0/24");
        assert!(until(&mut watch, |seen| seen.own_routes, SOON).own_routes);
        ip("route add 10.9.0.0/24 via 192.0.2.254");
        assert!(until(&mut watch, |seen| seen.routes, SOON).routes);
        ip("address add 10.8.0.1/32 dev up0");
        assert!(until(&mut watch, |seen| seen.addresses, SOON).addresses);
        ip("link add calix type veth peer name inside");
        assert!(until(&mut watch, |seen| seen.links, SOON).links);
        ip("neigh add 192.0.2.77 lladdr 02:00:00:00:00:01 dev up0");
        assert!(until(&mut watch, |seen| seen.neighbours, SOON).neighbours);
    });
}

#[test]
fn lost_events_mean_that_everything_may_have_changed() {
    in_namespace(|| {
        let mut netlink = Netlink::open().unwrap();
        let mut watch = Watch::open(Arc::new(PROTOCOL.into()), Vec::new()).unwrap();
        watch.shrink_buffer();
        let mut ours = BTreeSet::new();
        let mut table = Routes::new(&mut netlink, PROTOCOL, &mut ours);
        for n in 0..2000u32 {
            let net =
                ipnet::Ipv4Net::new(std::net::Ipv4Addr::from_bits(0x0a00_0000 + n), 32).unwrap();
            table
                .put(&RouteKey::new(net.into()), &Way::Blackhole)
                .unwrap();
        }
        assert!(until(&mut watch, |seen| seen.lost, SOON).lost);
    });
}

fn until(watch: &mut Watch, wanted: impl Fn(&Seen) -> bool, within: Duration) -> Seen {
    let deadline = Instant::now() + within;
    let mut last = Seen::default();
    while Instant::now() < deadline {
        let seen = watch.wait(Duration::from_millis(50)).unwrap();
        if wanted(&seen) {
            return seen;
        }
        if seen.any() {
            last = seen;
        }
    }
    last
}

const SOON: Duration = Duration::from_secs(5);
