//! Policy from the store to the packet.
#![cfg(feature = "lab")]

use std::time::Duration;

use netlab::{
    Expect::{Reaches, Silent},
    House, Matrix, Outcome,
    Proto::{Ping, Tcp, Udp},
    Workload, eventually,
    house::EXAMPLE_MATRIX,
    probe::{TIMEOUT, check, probe, rows},
    secs,
};
use rustix::process::Signal;
use serde_json::{Value, json};

#[test]
fn the_examples_decide_who_reaches_whom_in_both_families() {
    let house = House::running("policy").unwrap();
    house.expect(EXAMPLE_MATRIX, secs(15)).unwrap();
}

#[test]
fn the_rule_that_decided_counts_the_packet() {
    let house = House::running("policy-rule").unwrap();
    house.expect(EXAMPLE_MATRIX, secs(15)).unwrap();
    for (from, to, proto, words, action) in [
        ("client", "web", Tcp(80), "web", "allow"),
        ("stranger", "web", Tcp(80), "no-blocked", "deny"),
        ("app", "db", Tcp(5432), "db", "allow"),
        ("web", "guest", Tcp(80), "shop", "allow"),
    ] {
        let (host, endpoint) = (house.host_of(to).unwrap(), house.endpoint_of(to).unwrap());
        for v4 in [true, false] {
            let before = host.hits(&endpoint).unwrap();
            let target = house.station(to).unwrap().address(v4).unwrap();
            probe(
                house.station(from).unwrap(),
                target,
                proto,
                Duration::from_millis(300),
            )
            .unwrap();
            let after = host.hits(&endpoint).unwrap();
            let risen: Vec<String> = after
                .risen_since(&before)
                .filter(|rule| rule.direction == "ingress")
                .map(|rule| format!("{} {}", rule.rule, rule.action.to_lowercase()))
                .collect();
            assert_eq!(risen.len(), 1, "{from} to {to} {target}: {risen:?}");
            assert!(
                risen[0].contains(words) && risen[0].ends_with(action),
                "{from} to {to} {target}: {risen:?}"
            );
        }
    }
}

#[test]
fn a_policy_changed_with_etcdctl_takes_hold() {
    let house = House::running("policy-change").unwrap();
    house.expect(EXAMPLE_MATRIX, secs(15)).unwrap();
    let key = house.policy_key("web").unwrap();
    let original = house.etcd.get(&key).unwrap();
    let mut policy: Value = serde_json::from_str(&original).unwrap();
    *policy
        .pointer_mut("/spec/ingress/0/destination/ports")
        .unwrap() = json!([81]);
    house.etcd.put(&key, &policy.to_string()).unwrap();
    house
        .expect(
            &[
                ("client", "web", Tcp(80), Silent),
                ("client", "web", Tcp(81), Reaches),
                ("guest", "web", Tcp(80), Silent),
            ],
            secs(5),
        )
        .unwrap();
    house.etcd.delete(&key).unwrap();
    // No policy of the tier `default` applies any more: the profile decides.
    house
        .expect(
            &[
                ("client", "web", Tcp(81), Silent),
                ("guest", "web", Tcp(80), Reaches),
            ],
            secs(5),
        )
        .unwrap();
    house.etcd.put(&key, original.trim_end()).unwrap();
    house.expect(EXAMPLE_MATRIX, secs(5)).unwrap();
}

#[test]
fn policy_changes_are_followed_before_and_after_a_compaction() {
    let house = House::running("policy-compaction").unwrap();
    house.expect(EXAMPLE_MATRIX, secs(15)).unwrap();
    let key = house.policy_key("web").unwrap();
    let mut policy: Value = serde_json::from_str(&house.etcd.get(&key).unwrap()).unwrap();
    // One host sleeps while the policy changes and changes again, and while the store forgets that it did.
    let sleeper = house.alpha.process().unwrap();
    sleeper.signal(Signal::STOP).unwrap();
    for port in [82, 83, 81] {
        *policy
            .pointer_mut("/spec/ingress/0/destination/ports")
            .unwrap() = json!([port]);
        house.etcd.put(&key, &policy.to_string()).unwrap();
    }
    let status = house.etcd.etcdctl(&["endpoint", "status", "-w", "json"]);
    let status: Value = serde_json::from_str(&status.unwrap()).unwrap();
    let revision = status.pointer("/0/Status/header/revision").unwrap();
    house
        .etcd
        .etcdctl(&["compact", &revision.to_string()])
        .unwrap();
    house.etcd.etcdctl(&["defrag"]).unwrap();
    sleeper.signal(Signal::CONT).unwrap();
    house
        .expect(
            &[
                ("client", "web", Tcp(80), Silent),
                ("client", "web", Tcp(81), Reaches),
            ],
            secs(30),
        )
        .unwrap();
    *policy
        .pointer_mut("/spec/ingress/0/destination/ports")
        .unwrap() = json!([80]);
    house.etcd.put(&key, &policy.to_string()).unwrap();
    house.expect(EXAMPLE_MATRIX, secs(10)).unwrap();
}

#[test]
fn a_label_changed_on_a_remote_workload_changes_who_is_let_in() {
    let house = House::running("policy-label").unwrap();
    house.expect(EXAMPLE_MATRIX, secs(15)).unwrap();
    let key = "/calico/resources/v3/projectcalico.org/workloadendpoints/shop/beta-k8s-app-eth0";
    let mut endpoint: Value = serde_json::from_str(&house.etcd.get(key).unwrap()).unwrap();
    *endpoint.pointer_mut("/metadata/labels/role").unwrap() = json!("retired");
    house.etcd.put(key, &endpoint.to_string()).unwrap();
    house
        .expect(
            &[
                ("app", "db", Tcp(5432), Silent),
                ("web", "db", Tcp(5432), Reaches),
            ],
            secs(5),
        )
        .unwrap();
}

#[test]
fn another_workloads_address_opens_no_door() {
    let house = House::running("policy-spoof").unwrap();
    house.expect(EXAMPLE_MATRIX, secs(15)).unwrap();
    // Only web may ask app for its metrics; guest, on app's host, takes web's addresses.
    let (host, endpoint) = (
        house.host_of("app").unwrap(),
        house.endpoint_of("app").unwrap(),
    );
    let guest = &house.station("guest").unwrap().namespace;
    let (web, app) = (house.station("web").unwrap(), house.station("app").unwrap());
    for v4 in [true, false] {
        let (taken, target) = (web.address(v4).unwrap(), app.address(v4).unwrap());
        let before = host.hits(&endpoint).unwrap();
        guest
            .ip(&format!(
                "addr add {taken} dev eth0{}",
                if v4 { "" } else { " nodad" }
            ))
            .unwrap();
        let family = if v4 { "-4" } else { "-6" };
        guest
            .run(
                "ip",
                &[
                    family,
                    "route",
                    "add",
                    &target.to_string(),
                    "via",
                    if v4 {
                        "169.254.1.1"
                    } else {
                        "fe80::ecee:eeff:feee:eeee"
                    },
                    "dev",
                    "eth0",
                    "src",
                    &taken.to_string(),
                ],
            )
            .unwrap();
        let seen = probe(house.station("guest").unwrap(), target, Udp(9000), TIMEOUT).unwrap();
        assert_eq!(seen, Outcome::Silent, "{taken} to {target}");
        assert_eq!(
            host.hits(&endpoint).unwrap(),
            before,
            "a packet with the source {taken} was judged as web's"
        );
    }
    let (status, metrics) = host.http("/metrics").unwrap();
    assert_eq!(status, 200);
    assert!(
        metrics.to_lowercase().contains("spoof"),
        "no counter tells of the dropped packets:\n{metrics}"
    );
}

#[test]
fn an_endpoint_that_is_removed_reaches_nobody() {
    let house = House::running("policy-remove").unwrap();
    house.expect(EXAMPLE_MATRIX, secs(15)).unwrap();
    house
        .alpha
        .cleat(&[
            "delete",
            "workloadendpoint",
            "-n",
            "shop",
            "alpha-k8s-web-eth0",
        ])
        .unwrap();
    house
        .expect(
            &[
                ("client", "web", Tcp(80), Silent),
                ("web", "db", Tcp(5432), Silent),
                ("app", "db", Tcp(5432), Reaches),
            ],
            secs(5),
        )
        .unwrap();
}

#[test]
fn an_endpoint_waits_for_its_interface_and_follows_it() {
    let house = House::running("policy-late").unwrap();
    let key = "/calico/resources/v3/projectcalico.org/workloadendpoints/shop/beta-k8s-late-eth0";
    let endpoint = json!({
        "kind": "WorkloadEndpoint",
        "apiVersion": "projectcalico.org/v3",
        "metadata": {"name": "beta-k8s-late-eth0", "namespace": "shop", "labels": {
            "app": "web", "projectcalico.org/namespace": "shop", "projectcalico.org/orchestrator": "k8s"}},
        "spec": {"orchestrator": "k8s", "node": "beta", "pod": "late", "endpoint": "eth0", "containerID": "c0ffee06",
            "interfaceName": "cali0late", "ipNetworks": ["10.65.2.9/32", "fd65:0:0:2::9/128"], "profiles": ["shop"]},
    });
    house.etcd.put(key, &endpoint.to_string()).unwrap();
    let host = &house.beta.namespace;
    let addresses = [
        "10.65.2.9".parse().unwrap(),
        "fd65:0:0:2::9".parse().unwrap(),
    ];
    // The second time another interface has the name.
    for name in ["late", "again"] {
        let late = Workload::container(
            &house.lab,
            host,
            name,
            "cali0late",
            &addresses,
            &[Tcp(80), Tcp(81)],
        )
        .unwrap();
        let client = house.station("client").unwrap();
        let mut matrix = Matrix {
            rows: rows(client, &late, Tcp(80), Reaches),
        };
        matrix.rows.extend(rows(client, &late, Tcp(81), Silent));
        check(&mut matrix, &house.stations(), secs(10)).unwrap();
        host.ip("link del cali0late").unwrap();
    }
}

#[test]
fn pings_are_judged_like_everything_else() {
    let house = House::running("policy-ping").unwrap();
    house
        .expect(
            &[
                ("client", "web", Ping, Reaches),
                ("client", "db", Ping, Silent),
                ("client", "app", Ping, Silent),
            ],
            secs(15),
        )
        .unwrap();
    eventually("the drops to be counted", secs(5), || {
        match house.alpha.http("/metrics") {
            Ok((200, text)) if text.contains("drop") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .unwrap();
}
