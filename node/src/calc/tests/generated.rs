//! Worlds and packets by chance.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use cleat_bpf::policy::{Blob, Decision, Query, encode};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::plain::{Packet, Resources, judge};
use super::super::policy::DEFAULT_ALLOW;
use super::super::*;
use super::{between, essence, fresh, resource};

/// A sequence of small choices, which shrinks well.
#[derive(Debug)]
struct Choices {
    data: Vec<u8>,
    at: usize,
}

impl Choices {
    fn below(&mut self, n: usize) -> usize {
        let byte = self.data.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        usize::from(byte) % n
    }

    fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }

    fn some<'a>(&mut self, list: &[&'a str], most: usize) -> Vec<&'a str> {
        (0..self.below(most + 1)).map(|_| self.pick(list)).collect()
    }

    fn chance(&mut self, of: usize) -> bool {
        self.below(of) == of - 1
    }
}

const V4: [&str; 6] = [
    "10.0.0.1",
    "10.0.0.2",
    "10.0.1.1",
    "10.1.0.1",
    "192.0.2.1",
    "198.51.100.7",
];
const V6: [&str; 4] = ["fd00::1", "fd00::2", "fd00:1::1", "2001:db8::1"];
const NETS: [&str; 12] = [
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.0.0.0/24",
    "10.0.0.1/32",
    "10.0.1.0/24",
    "192.0.2.0/24",
    "198.51.100.0/24",
    "::/0",
    "fd00::/16",
    "fd00::/64",
    "fd00::1/128",
    "2001:db8::/32",
];
const SELECTORS: [&str; 10] = [
    "all()",
    "x == '0'",
    "x == '1'",
    "has(x)",
    "!has(x)",
    "x != '0'",
    "y in {'0', '1'}",
    "x == '0' || y == '1'",
    "has(projectcalico.org/namespace)",
    "z starts with 'q'",
];
const SPACES: [&str; 5] = [
    "all()",
    "global()",
    "env == 'p'",
    "env != 'p'",
    "!global() || env == 'p'",
];
const PORTS: [&str; 4] = ["80", "8080", "53", "1000"];

fn labels(choices: &mut Choices) -> Value {
    let mut labels = serde_json::Map::new();
    for name in ["x", "y"] {
        let value = choices.pick(&["", "0", "1"]);
        if !value.is_empty() {
            labels.insert(name.to_owned(), json!(value));
        }
    }
    labels.into()
}

fn entity(choices: &mut Choices, with_ports: bool) -> Value {
    let mut entity = serde_json::Map::new();
    let mut put = |name: &str, value: Value| entity.insert(name.to_owned(), value);
    match choices.below(10) {
        1 => _ = put("nets", json!(choices.some(&NETS, 3))),
        2 => _ = put("notNets", json!(choices.some(&NETS, 2))),
        3 | 4 => _ = put("selector", json!(choices.pick(&SELECTORS))),
        5 => _ = put("notSelector", json!(choices.pick(&SELECTORS))),
        6 => _ = put("namespaceSelector", json!(choices.pick(&SPACES))),
        7 => {
            put("selector", json!(choices.pick(&SELECTORS)));
            put("namespaceSelector", json!(choices.pick(&SPACES)));
            put("notNets", json!(choices.some(&NETS, 2)));
        }
        8 => {
            _ = put(
                "serviceAccounts",
                json!({"names": choices.some(&["sa0", "sa1"], 2)}),
            );
        }
        9 => {
            put("notSelector", json!(choices.pick(&SELECTORS)));
            put(
                "serviceAccounts",
                json!({"selector": choices.pick(&["role == 'r'", "has(role)", "all()"])}),
            );
        }
        _ => {}
    }
    if with_ports {
        let port = |choices: &mut Choices| match choices.below(6) {
            0 => json!(80),
            1 => json!("50:90"),
            2 => json!("http"),
            3 => json!("dns"),
            4 => json!(8080),
            _ => json!("1000:65535"),
        };
        match choices.below(4) {
            1 => {
                _ = put(
                    "ports",
                    (0..=choices.below(2)).map(|_| port(choices)).collect(),
                );
            }
            2 => {
                _ = put(
                    "notPorts",
                    (0..=choices.below(2)).map(|_| port(choices)).collect(),
                );
            }
            3 => {
                put(
                    "ports",
                    (0..=choices.below(2)).map(|_| port(choices)).collect(),
                );
                put("notPorts", json!([port(choices)]));
            }
            _ => {}
        }
    }
    entity.into()
}

fn rule(choices: &mut Choices) -> Value {
    let mut rule = serde_json::Map::new();
    let mut put = |name: &str, value: Value| rule.insert(name.to_owned(), value);
    put(
        "action",
        json!(choices.pick(&["Allow", "Deny", "Pass", "Log", "Allow"])),
    );
    if choices.chance(5) {
        put("ipVersion", json!([4, 6][choices.below(2)]));
    }
    let protocol = choices.pick(&["", "TCP", "TCP", "UDP", "ICMP", "ICMPv6", "SCTP", "253"]);
    if !protocol.is_empty() {
        put(
            "protocol",
            protocol
                .parse::<u8>()
                .map_or_else(|_| json!(protocol), |number| json!(number)),
        );
    } else if choices.chance(3) {
        put("notProtocol", json!(choices.pick(&["TCP", "UDP", "ICMP"])));
    }
    if protocol.starts_with("ICMP") {
        match choices.below(6) {
            1 => _ = put("icmp", json!({"type": 8})),
            2 => _ = put("icmp", json!({"type": 8, "code": 1})),
            3 => _ = put("notICMP", json!({"type": 8, "code": 0})),
            4 => _ = put("icmp", json!({"code": 1})),
            5 => _ = put("notICMP", json!({"code": 1})),
            _ => {}
        }
    }
    let with_ports = ["TCP", "UDP", "SCTP"].contains(&protocol);
    let source_ports = with_ports && choices.chance(3);
    put("source", entity(choices, source_ports));
    put("destination", entity(choices, with_ports));
    rule.into()
}

fn rules(choices: &mut Choices) -> Value {
    (0..choices.below(4)).map(|_| rule(choices)).collect()
}

fn policy_spec(choices: &mut Choices, global: bool) -> Value {
    let mut spec = json!({"tier": choices.pick(&["default", "t0", "t1", "nowhere"]), "selector": choices.pick(&SELECTORS),
        "types": choices.some(&["Ingress", "Egress"], 2), "ingress": rules(choices), "egress": rules(choices)});
    if choices.chance(2) {
        spec["order"] = json!(choices.below(3));
    }
    if global && choices.chance(3) {
        spec["namespaceSelector"] = json!(choices.pick(&SPACES));
    }
    if choices.chance(4) {
        spec["serviceAccountSelector"] = json!(choices.pick(&["role == 'r'", "!has(role)"]));
    }
    spec
}

/// An object of a small world; the same few names come again and again.
fn object(choices: &mut Choices) -> Value {
    let namespace = choices.pick(&["a", "b"]);
    let number = choices.below(3);
    match choices.below(9) {
        0..3 => {
            let mut networks = choices.some(&V4, 2);
            networks.extend(choices.some(&V6, 2));
            let profiles = choices.some(
                &["p0", "p1", "kns.a", "ksa.a.sa0", DEFAULT_ALLOW, "missing"],
                3,
            );
            let ports: Vec<Value> = (0..choices.below(3)).map(|_| {
                json!({"name": choices.pick(&["http", "dns"]), "protocol": choices.pick(&["TCP", "UDP"]), "port": choices.pick(&PORTS).parse::<u16>().unwrap()})
            }).collect();
            json!({"kind": "WorkloadEndpoint", "metadata": {"name": format!("e{number}"), "namespace": namespace, "labels": labels(choices)},
                "spec": {"orchestrator": "k8s", "node": choices.pick(&["here", "here", "there"]), "workload": "w", "endpoint": "eth0",
                    "interfaceName": choices.pick(&["cali0", "cali1", "cali2", "cali3"]), "ipNetworks": networks, "profiles": profiles,
                    "serviceAccountName": choices.pick(&["sa0", "sa1"]), "ports": ports}})
        }
        3 => {
            let global = choices.chance(2);
            let mut value = json!({"kind": "NetworkSet", "metadata": {"name": format!("s{number}"), "namespace": namespace, "labels": labels(choices)}, "spec": {"nets": choices.some(&NETS, 4)}});
            if global {
                value["kind"] = json!("GlobalNetworkSet");
                value["metadata"]
                    .as_object_mut()
                    .unwrap()
                    .remove("namespace");
            }
            value
        }
        4 => {
            json!({"kind": "Profile", "metadata": {"name": choices.pick(&["p0", "p1", "kns.a", "kns.b", "ksa.a.sa0"])},
            "spec": {"ingress": rules(choices), "egress": rules(choices), "labelsToApply": {
                choices.pick(&["x", "y", "z"]): choices.pick(&["0", "1", "q"]), "pcns.env": choices.pick(&["p", "d"]), "pcsa.role": choices.pick(&["r", "s"])}}})
        }
        5 => {
            json!({"kind": "Tier", "metadata": {"name": choices.pick(&["t0", "t1", "default"])}, "spec": {"order": choices.below(3), "defaultAction": choices.pick(&["Deny", "Pass"])}})
        }
        6 => {
            json!({"kind": "NetworkPolicy", "metadata": {"name": format!("n{number}"), "namespace": namespace}, "spec": policy_spec(choices, false)})
        }
        7 => {
            json!({"kind": "GlobalNetworkPolicy", "metadata": {"name": format!("g{number}")}, "spec": policy_spec(choices, true)})
        }
        _ => {
            json!({"kind": "IPPool", "metadata": {"name": format!("pool{number}")}, "spec": {"cidr": choices.pick(&["10.0.0.0/16", "fd00::/48", "10.0.0.0/8"])}})
        }
    }
}

pub(crate) fn world(data: Vec<u8>) -> Resources {
    let mut choices = Choices { data, at: 0 };
    let count = 4 + choices.below(12);
    (0..count)
        .map(|_| resource(&object(&mut choices)))
        .collect()
}

pub(crate) fn packet(data: &[u8]) -> Packet {
    let mut choices = Choices {
        data: data.to_vec(),
        at: 0,
    };
    let addresses: &[&str] = if choices.chance(3) { &V6 } else { &V4 };
    let mut address = || -> IpAddr { choices.pick(addresses).parse().unwrap() };
    let (src, dst) = (address(), address());
    let protocol = [6, 6, 17, 1, 58, 132, 253][choices.below(7)];
    let mut port = || {
        if [6, 17, 132].contains(&protocol) {
            choices.pick(&PORTS).parse().unwrap()
        } else {
            0
        }
    };
    let (sport, dport) = (port(), port());
    let icmp = if [1, 58].contains(&protocol) {
        ([0, 8][choices.below(2)], choices.below(2) as u8)
    } else {
        (0, 0)
    };
    Packet {
        src,
        dst,
        protocol,
        sport,
        dport,
        icmp,
    }
}

pub(crate) fn query(packet: &Packet, src_class: u32, dst_class: u32) -> Query {
    let l4 = if [1, 58].contains(&packet.protocol) {
        u16::from(packet.icmp.0) << 8 | u16::from(packet.icmp.1)
    } else {
        packet.dport
    };
    Query {
        src_class,
        dst_class,
        protocol: packet.protocol,
        l4,
        sport: packet.sport,
    }
}

pub(crate) fn show(resources: &Resources) -> String {
    resources
        .values()
        .map(|resource| String::from_utf8(resource.encode()).unwrap() + "\n")
        .collect()
}

/// Classes of a graph, numbered, and a blob for every list.
pub(crate) fn blobs(graph: &Graph) -> (BTreeMap<AtomSet, u32>, BTreeMap<ListId, Blob>) {
    let sets: BTreeSet<AtomSet> = graph
        .all_facts()
        .map(|(_, facts)| facts.atoms.clone())
        .collect();
    let classes: BTreeMap<AtomSet, u32> = sets.into_iter().zip(1..).collect();
    let by_id: BTreeMap<u32, AtomSet> =
        classes.iter().map(|(set, id)| (*id, set.clone())).collect();
    let blob = |list: &PolicyList| {
        encode(&list.clauses, by_id.keys().copied(), &|expr, class| {
            list.exprs[expr as usize].holds(&by_id[&class])
        })
        .unwrap()
    };
    let blobs = graph
        .plan()
        .lists
        .iter()
        .map(|(id, list)| (*id, blob(list)))
        .collect();
    (classes, blobs)
}

/// What a list's blob says of a packet, and the rule.
pub(crate) fn decide(
    graph: &Graph,
    classes: &BTreeMap<AtomSet, u32>,
    blob: &Blob,
    packet: &Packet,
) -> (bool, u32) {
    let class = |address: IpAddr| classes[&graph.lookup(address).unwrap().atoms];
    match blob.ask(query(packet, class(packet.src), class(packet.dst))) {
        Decision::Allow(rule) => (true, rule),
        Decision::Drop(_, rule) => (false, rule),
    }
}

pub(crate) fn packets() -> impl Strategy<Value = Vec<Packet>> {
    proptest::collection::vec(
        proptest::collection::vec(any::<u8>(), 8).prop_map(|data| packet(&data)),
        1..24,
    )
}

pub(crate) fn choices() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..500)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn lists_decide_as_policy_is_written(data in choices(), packets in packets()) {
        let resources = world(data);
        let graph = fresh(&resources);
        let (classes, blobs) = blobs(&graph);
        for (name, interface) in &graph.plan().interfaces {
            for (direction, list) in [(Direction::Ingress, interface.ingress), (Direction::Egress, interface.egress)] {
                for packet in &packets {
                    let written = judge(&resources, &interface.endpoint, direction, packet);
                    let (allowed, rule) = decide(&graph, &classes, &blobs[&list], packet);
                    prop_assert_eq!(
                        (allowed, graph.rule(rule)), (written.allowed, Some(&written.rule)),
                        "{} {} {:?} {}", name, direction, packet, show(&resources)
                    );
                }
            }
        }
    }

    #[test]
    fn any_way_to_a_state_ends_where_a_new_graph_does(first in choices(), second in choices(), third in choices(), each in any::<bool>()) {
        let states = [world(first), world(second), world(third)];
        let mut graph = Graph::new("here");
        let mut now = &Resources::new();
        for next in &states {
            for update in between(now, next) {
                graph.update(&update);
                if each {
                    graph.flush();
                }
            }
            graph.flush();
            now = next;
        }
        prop_assert_eq!(essence(&mut graph), essence(&mut fresh(now)));
    }
}
