//! The graph against lists of states in every order, and lists against policy as written.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use cleat_bpf::policy::{Blob, Decision, Query, encode};
use cleat_datastore::{Key, Kind, Resource, Update};
use ipnet::IpNet;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::plain::{Packet, Resources, judge};
use super::policy::DEFAULT_ALLOW;
use super::*;

/// A resource from JSON, past all validation.
pub(crate) fn resource(value: &Value) -> (Key, Arc<Resource>) {
    fn read<T: serde::de::DeserializeOwned>(value: &Value) -> T {
        serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{error}: {value}"))
    }
    let resource = match value["kind"].as_str().unwrap() {
        "BGPConfiguration" => Resource::BgpConfiguration(read(value)),
        "BGPPeer" => Resource::BgpPeer(read(value)),
        "GlobalNetworkPolicy" => Resource::GlobalNetworkPolicy(read(value)),
        "GlobalNetworkSet" => Resource::GlobalNetworkSet(read(value)),
        "IPPool" => Resource::IpPool(read(value)),
        "NetworkPolicy" => Resource::NetworkPolicy(read(value)),
        "NetworkSet" => Resource::NetworkSet(read(value)),
        "Node" => Resource::Node(read(value)),
        "Profile" => Resource::Profile(read(value)),
        "Tier" => Resource::Tier(read(value)),
        "WorkloadEndpoint" => Resource::WorkloadEndpoint(read(value)),
        "BlockAffinity" => {
            let key = Key::BlockAffinity {
                host: value["host"].as_str().unwrap().to_owned(),
                block: value["block"].as_str().unwrap().parse().unwrap(),
            };
            return (
                key,
                Arc::new(Resource::BlockAffinity(read(&value["value"]))),
            );
        }
        kind => panic!("no kind {kind}"),
    };
    (resource.key().unwrap(), Arc::new(resource))
}

pub(crate) fn state(values: &[Value]) -> Resources {
    values.iter().map(resource).collect()
}

pub(crate) fn update(key: &Key, value: Option<&Arc<Resource>>) -> Update {
    Update {
        key: key.clone(),
        value: value.cloned(),
        revision: 1,
        problem: None,
    }
}

/// What has to be told to go from one state to another.
pub(crate) fn between(from: &Resources, to: &Resources) -> Vec<Update> {
    let keys: BTreeSet<&Key> = from.keys().chain(to.keys()).collect();
    keys.into_iter()
        .filter(|key| from.get(*key) != to.get(*key))
        .map(|key| update(key, to.get(key)))
        .collect()
}

pub(crate) fn fresh(resources: &Resources) -> Graph {
    let mut graph = Graph::new("here");
    for (key, value) in resources {
        graph.update(&update(key, Some(value)));
    }
    graph.flush();
    graph
}

/// All a graph says, without the numbers that differ between processes.
fn essence(graph: &mut Graph) -> Vec<String> {
    graph.forget();
    graph.flush();
    let graph = &*graph;
    let mut lines = Vec::new();
    for (net, facts) in graph.all_facts() {
        lines.push(format!(
            "facts {net} {:?} {:?}",
            facts.place,
            graph.spell(&facts.atoms)
        ));
    }
    let list = |id| {
        let list = &graph.plan().lists[&id];
        let spell = |expr: Option<u32>| {
            expr.map(|expr| {
                let expr = &list.exprs[expr as usize];
                (
                    graph.spell(&expr.all.clone().into()),
                    graph.spell(&expr.none.clone().into()),
                )
            })
        };
        let clauses: Vec<String> = list
            .clauses
            .iter()
            .map(|clause| {
                format!(
                    "{:?} {:?} {:?} {:?} {:?} {:?}",
                    spell(clause.src),
                    spell(clause.dst),
                    clause.protocols,
                    clause.l4,
                    clause.sport,
                    (clause.action, clause.rule)
                )
            })
            .collect();
        format!("{clauses:?} {:?}", list.lines)
    };
    for (name, interface) in &graph.plan().interfaces {
        lines.push(format!(
            "interface {name} {:?} {:?} {:?}",
            interface.endpoint, interface.mac, interface.addresses
        ));
        lines.push(format!("ingress {name} {}", list(interface.ingress)));
        lines.push(format!("egress {name} {}", list(interface.egress)));
    }
    lines.push(format!("routes {:?}", graph.plan().routes));
    lines.push(format!("originated {:?}", graph.plan().originated));
    lines.push(format!("bgp {:?}", graph.plan().bgp));
    let mut problems: Vec<String> = graph.problems().map(ToString::to_string).collect();
    problems.sort();
    lines.extend(problems);
    lines
}

/// Goes through the states in many ways; every way must end where a new graph does.
fn expand(states: &[Resources]) {
    let empty = Resources::new();
    let mut sequences: Vec<(String, Vec<&Resources>)> = vec![
        ("in order".to_owned(), states.iter().collect()),
        ("reversed".to_owned(), states.iter().rev().collect()),
        (
            "with nothing between".to_owned(),
            states.iter().flat_map(|state| [&empty, state]).collect(),
        ),
        (
            "there and back".to_owned(),
            states.iter().chain(states.iter().rev()).collect(),
        ),
    ];
    for (place, state) in states.iter().enumerate() {
        sequences.push((format!("state {place} alone"), vec![state]));
        sequences.push((format!("state {place} and away"), vec![state, &empty]));
    }
    for (name, sequence) in sequences {
        for (way, every_key, backward) in [
            ("squashed", false, false),
            ("one by one", true, false),
            ("one by one, backward", true, true),
            ("squashed, backward", false, true),
        ] {
            let mut graph = Graph::new("here");
            let mut now = &empty;
            for next in &sequence {
                let mut updates = between(now, next);
                if backward {
                    updates.reverse();
                }
                for update in updates {
                    graph.update(&update);
                    if every_key {
                        graph.flush();
                    }
                }
                graph.flush();
                now = next;
            }
            assert_eq!(
                essence(&mut graph),
                essence(&mut fresh(now)),
                "{name}, {way}"
            );
        }
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "reads better where it is called"
)]
fn endpoint(
    namespace: &str,
    name: &str,
    node: &str,
    labels: Value,
    networks: &[&str],
    profiles: &[&str],
) -> Value {
    json!({"kind": "WorkloadEndpoint", "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"orchestrator": "k8s", "node": node, "workload": name, "endpoint": "eth0", "interfaceName": format!("cali{name}"), "ipNetworks": networks, "profiles": profiles,
            "ports": [{"name": "http", "protocol": "TCP", "port": 80}]}})
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "reads better where it is called"
)]
fn policy(namespace: &str, name: &str, spec: Value) -> Value {
    json!({"kind": "NetworkPolicy", "metadata": {"name": name, "namespace": namespace}, "spec": spec})
}

#[test]
fn every_way_through_a_list_of_states_ends_where_a_new_graph_does() {
    let base = vec![
        endpoint(
            "a",
            "e1",
            "here",
            json!({"app": "web"}),
            &["10.0.0.1/32", "fd00::1/128"],
            &["p"],
        ),
        endpoint(
            "a",
            "e2",
            "there",
            json!({"app": "db"}),
            &["10.0.0.2/32", "fd00::2/128"],
            &["p"],
        ),
        json!({"kind": "Profile", "metadata": {"name": "p"}, "spec": {"labelsToApply": {"team": "red"}, "egress": [{"action": "Allow"}]}}),
        json!({"kind": "IPPool", "metadata": {"name": "pool"}, "spec": {"cidr": "10.0.0.0/16"}}),
        json!({"kind": "BlockAffinity", "host": "here", "block": "10.0.0.0/26", "value": {"state": "confirmed"}}),
        json!({"kind": "Node", "metadata": {"name": "here"}, "spec": {"bgp": {"ipv4Address": "192.0.2.1/24", "ipv6Address": "2001:db8::1/64"}}}),
        json!({"kind": "Node", "metadata": {"name": "there"}, "spec": {"bgp": {"ipv4Address": "192.0.2.2/24", "asNumber": 65001}}}),
    ];
    let with = |more: &[Value]| state(&base.iter().chain(more).cloned().collect::<Vec<_>>());
    let web = policy(
        "a",
        "web",
        json!({"selector": "app == 'web'", "types": ["Ingress"], "ingress": [
        {"action": "Allow", "protocol": "TCP", "source": {"selector": "app == 'db'"}, "destination": {"ports": ["http", 443]}}]}),
    );
    let red = json!({"kind": "GlobalNetworkPolicy", "metadata": {"name": "red"}, "spec": {"tier": "sec", "selector": "team == 'red'", "ingress": [
        {"action": "Pass", "source": {"nets": ["10.0.0.0/8", "fd00::/8"], "notNets": ["10.0.0.0/30"]}}, {"action": "Deny", "protocol": "TCP", "destination": {"notPorts": ["http"]}}]}});
    let set = json!({"kind": "GlobalNetworkSet", "metadata": {"name": "s", "labels": {"app": "db"}}, "spec": {"nets": ["10.0.0.0/24", "198.51.100.0/24", "fd00::/64"]}});
    expand(&[
        state(&base),
        with(std::slice::from_ref(&web)),
        with(&[web.clone(), red.clone()]),
        with(&[
            web.clone(),
            red.clone(),
            json!({"kind": "Tier", "metadata": {"name": "sec"}, "spec": {"order": 1.0, "defaultAction": "Pass"}}),
        ]),
        with(&[
            web.clone(),
            set.clone(),
            endpoint(
                "a",
                "e3",
                "here",
                json!({"app": "db"}),
                &["10.0.0.1/32", "10.9.0.3/32"],
                &["missing"],
            ),
        ]),
        with(&[
            web,
            set,
            red,
            policy(
                "a",
                "web2",
                json!({"order": 1.0, "egress": [{"action": "Deny", "destination": {"notSelector": "team == 'red'"}}]}),
            ),
        ]),
        state(&[endpoint(
            "b",
            "e1",
            "here",
            json!({}),
            &["fd00::1/128"],
            &[DEFAULT_ALLOW],
        )]),
    ]);
}

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
        match choices.below(4) {
            1 => _ = put("icmp", json!({"type": 8})),
            2 => _ = put("icmp", json!({"type": 8, "code": 1})),
            3 => _ = put("notICMP", json!({"type": 8, "code": 0})),
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

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

#[test]
fn an_endpoint_without_policy_and_profiles_drops_and_an_unknown_profile_denies() {
    let resources = state(&[
        endpoint("a", "e1", "here", json!({}), &["10.0.0.1/32"], &[]),
        endpoint(
            "a",
            "e2",
            "here",
            json!({}),
            &["10.0.0.2/32"],
            &["missing", DEFAULT_ALLOW],
        ),
    ]);
    let graph = fresh(&resources);
    let lines = |name: &str| -> Vec<String> {
        let interface = &graph.plan().interfaces[name];
        graph.plan().lists[&interface.ingress]
            .lines
            .iter()
            .map(|line| line.rule.to_string())
            .collect()
    };
    assert_eq!(lines("calie1"), ["nothing matched, ingress"]);
    assert_eq!(lines("calie2")[0], "Profile(missing) missing, ingress");
    let problems: Vec<String> = graph.problems().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        ["WorkloadEndpoint(a/e2): spec.profiles[0]: there is no profile missing: it denies"]
    );
}

#[test]
fn the_first_by_key_has_a_contested_address_and_the_other_is_reported() {
    for address in ["10.0.0.1/32", "fd00::1/128"] {
        let first = endpoint("a", "e1", "there", json!({}), &[address], &[]);
        let second = endpoint("b", "e2", "here", json!({}), &[address], &[]);
        for order in [[&first, &second], [&second, &first]] {
            let mut graph = Graph::new("here");
            for value in order {
                let (key, value) = resource(value);
                graph.update(&update(&key, Some(&value)));
                graph.flush();
            }
            assert_eq!(
                graph.facts(net(address)).unwrap().place,
                Place::RemoteWorkload
            );
            assert!(graph.plan().routes.is_empty());
            let problems: Vec<String> = graph.problems().map(ToString::to_string).collect();
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(
                problems[0].starts_with("WorkloadEndpoint(b/e2): spec.ipNetworks"),
                "{problems:?}"
            );
            graph.update(&update(&resource(&first).0, None));
            graph.flush();
            assert_eq!(
                graph.facts(net(address)).unwrap().place,
                Place::LocalWorkload("calie2".into())
            );
            assert_eq!(
                graph.plan().routes,
                [(net(address), Route::Dev("calie2".into()))].into()
            );
            assert_eq!(graph.problems().count(), 0);
        }
    }
}

#[test]
fn own_blocks_and_borrowed_addresses_are_originated() {
    for (pool, block, foreign, own, borrowed, outside) in [
        (
            "10.0.0.0/16",
            "10.0.0.0/26",
            "10.0.0.64/26",
            "10.0.0.1/32",
            "10.0.0.65/32",
            "172.16.0.1/32",
        ),
        (
            "fd00::/64",
            "fd00::/122",
            "fd00::40/122",
            "fd00::1/128",
            "fd00::41/128",
            "fd01::1/128",
        ),
    ] {
        let pool_with = |spec: Value| {
            let mut pool =
                json!({"kind": "IPPool", "metadata": {"name": "pool"}, "spec": {"cidr": pool}});
            pool["spec"]
                .as_object_mut()
                .unwrap()
                .extend(spec.as_object().unwrap().clone());
            pool
        };
        let rest = [
            endpoint("a", "e1", "here", json!({}), &[own, borrowed, outside], &[]),
            json!({"kind": "BlockAffinity", "host": "here", "block": block, "value": {"state": "confirmed"}}),
            json!({"kind": "BlockAffinity", "host": "there", "block": foreign, "value": {"state": "confirmed"}}),
        ];
        let graph = |pool: Option<Value>| {
            fresh(&state(
                &pool.into_iter().chain(rest.clone()).collect::<Vec<_>>(),
            ))
        };
        let dev = || Route::Dev("calie1".into());
        let open = graph(Some(pool_with(json!({}))));
        assert_eq!(
            open.plan().routes,
            [
                (net(block), Route::Blackhole),
                (net(own), dev()),
                (net(borrowed), dev()),
                (net(outside), dev())
            ]
            .into()
        );
        assert_eq!(
            open.plan().originated,
            [
                (net(block), Originated::Block),
                (net(borrowed), Originated::Address)
            ]
            .into()
        );
        assert_eq!(
            graph(Some(pool_with(json!({"disabled": true}))))
                .plan()
                .originated,
            open.plan().originated
        );
        assert!(
            graph(Some(pool_with(json!({"disableBGPExport": true}))))
                .plan()
                .originated
                .is_empty()
        );
        assert!(graph(None).plan().originated.is_empty());
    }
}

#[test]
fn an_unconfirmed_block_ends_in_a_blackhole_and_is_not_told() {
    let graph = fresh(&state(&[
        json!({"kind": "IPPool", "metadata": {"name": "pool"}, "spec": {"cidr": "10.0.0.0/16"}}),
        json!({"kind": "BlockAffinity", "host": "here", "block": "10.0.0.0/26", "value": {"state": "pending"}}),
        json!({"kind": "BlockAffinity", "host": "here", "block": "10.0.1.1/32", "value": {"state": "confirmed"}}),
    ]));
    assert_eq!(
        graph.plan().routes,
        [(net("10.0.0.0/26"), Route::Blackhole)].into()
    );
    assert_eq!(
        graph.plan().originated,
        [(net("10.0.1.1/32"), Originated::Block)].into()
    );
}

#[test]
fn peers_come_from_the_mesh_and_from_resources() {
    let node = |name: &str, v4: &str, more: Value| {
        let mut node = json!({"kind": "Node", "metadata": {"name": name, "labels": {"rack": name}}, "spec": {"bgp": {"ipv4Address": v4}}});
        node["spec"]["bgp"]
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        node
    };
    let nodes = [
        node(
            "here",
            "192.0.2.5/24",
            json!({"ipv6Address": "2001:db8::5/64"}),
        ),
        node(
            "there",
            "192.0.2.6/24",
            json!({"ipv6Address": "2001:db8::6/64", "asNumber": 65001}),
        ),
        node(
            "reflector",
            "192.0.2.1/24",
            json!({"routeReflectorClusterID": "1.1.1.1"}),
        ),
    ];
    let with = |more: &[Value]| {
        fresh(&state(
            &nodes.iter().chain(more).cloned().collect::<Vec<_>>(),
        ))
    };
    let peers = |graph: &Graph| -> Vec<String> {
        graph
            .plan()
            .bgp
            .peers
            .iter()
            .map(|((address, port), wish)| {
                format!(
                    "{address}:{port} as {} {}{}",
                    wish.remote_as,
                    wish.kind,
                    if wish.passive { " passive" } else { "" }
                )
            })
            .collect()
    };
    let mesh = with(&[]);
    assert_eq!(
        peers(&mesh),
        [
            "192.0.2.6:179 as 65001 node-to-node mesh passive",
            "2001:db8::6:179 as 65001 node-to-node mesh passive"
        ]
    );
    assert_eq!(mesh.plan().bgp.local_as, 64_512);
    let configuration = json!({"kind": "BGPConfiguration", "metadata": {"name": "default"}, "spec": {"nodeToNodeMeshEnabled": false, "asNumber": 64_600}});
    let tor = json!({"kind": "BGPPeer", "metadata": {"name": "tor"}, "spec": {"nodeSelector": "rack == 'here'", "peerIP": "192.0.2.254:1179", "asNumber": 65_100, "ttlSecurity": 1, "keepaliveTime": "10s"}});
    let elsewhere = json!({"kind": "BGPPeer", "metadata": {"name": "elsewhere"}, "spec": {"node": "there", "peerIP": "192.0.2.253", "asNumber": 65_100}});
    let reflectors = json!({"kind": "BGPPeer", "metadata": {"name": "rr"}, "spec": {"peerSelector": "rack == 'reflector'"}});
    let graph = with(&[configuration.clone(), tor.clone(), elsewhere, reflectors]);
    assert_eq!(
        peers(&graph),
        [
            "192.0.2.1:179 as 64600 global",
            "192.0.2.254:1179 as 65100 node specific"
        ]
    );
    let wish = &graph.plan().bgp.peers[&("192.0.2.254".parse().unwrap(), 1179)];
    assert_eq!(
        (wish.source, wish.ttl_security, wish.resource.clone()),
        (
            Some("192.0.2.5".parse().unwrap()),
            Some(1),
            Key::global(Kind::BgpPeer, "tor")
        )
    );
}

#[test]
fn an_invalid_object_is_a_missing_one_and_is_reported() {
    let good = endpoint(
        "a",
        "e1",
        "here",
        json!({}),
        &["10.0.0.1/32"],
        &[DEFAULT_ALLOW],
    );
    let mut graph = fresh(&state(std::slice::from_ref(&good)));
    let key = resource(&good).0;
    let problem = cleat_datastore::Problem::new(&key, "spec.ipNetworks[0]", "is no CIDR");
    graph.update(&Update {
        key: key.clone(),
        value: None,
        revision: 2,
        problem: Some(problem.clone()),
    });
    let changes = graph.flush();
    assert!(changes.interfaces.contains("calie1") && graph.plan().interfaces.is_empty());
    assert_eq!(graph.problems().collect::<Vec<_>>(), [&problem]);
    graph.update(&update(&key, Some(&resource(&good).1)));
    graph.flush();
    assert_eq!(graph.problems().count(), 0);
}

#[test]
fn nothing_new_changes_nothing() {
    let resources = world((0..=255).cycle().take(500).collect());
    let mut graph = fresh(&resources);
    for (key, value) in &resources {
        graph.update(&update(key, Some(&Arc::new(value.as_ref().clone()))));
    }
    assert!(graph.flush().is_empty());
}

#[test]
fn a_selected_peer_peers_back_unless_told_otherwise() {
    let node = |name: &str, v4: &str, role: &str| json!({"kind": "Node", "metadata": {"name": name, "labels": {"role": role}}, "spec": {"bgp": {"ipv4Address": v4}}});
    let peers = |role: &str, reverse: Option<&str>| {
        let mut peer = json!({"kind": "BGPPeer", "metadata": {"name": "rr"}, "spec": {"nodeSelector": "role == 'leaf'", "peerSelector": "role == 'rr'"}});
        if let Some(reverse) = reverse {
            peer["spec"]["reversePeering"] = json!(reverse);
        }
        let graph = fresh(&state(&[
            json!({"kind": "BGPConfiguration", "metadata": {"name": "default"}, "spec": {"nodeToNodeMeshEnabled": false}}),
            node("here", "192.0.2.1/24", role),
            node("leaf", "192.0.2.2/24", "leaf"),
            node("rr", "192.0.2.3/24", "rr"),
            peer,
        ]));
        let peers = graph.plan().bgp.peers.keys();
        peers
            .map(|(address, _)| address.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(peers("leaf", None), ["192.0.2.3"]);
    assert_eq!(peers("rr", None), ["192.0.2.2"]);
    assert_eq!(peers("rr", Some("Manual")), [] as [&str; 0]);
}

#[test]
fn an_address_of_the_host_is_no_endpoints() {
    for address in ["10.0.0.1", "fd00::1"] {
        let mut graph = fresh(&state(&[endpoint(
            "a",
            "e1",
            "here",
            json!({}),
            &[address],
            &[],
        )]));
        let place = |graph: &Graph| {
            graph
                .lookup(address.parse().unwrap())
                .unwrap()
                .place
                .clone()
        };
        assert_eq!(graph.plan().routes.len(), 1);
        graph.set_host_addresses([address.parse().unwrap()]);
        graph.flush();
        assert_eq!(place(&graph), Place::ThisHost);
        assert!(graph.plan().routes.is_empty());
        let problems: Vec<String> = graph.problems().map(ToString::to_string).collect();
        assert_eq!(
            problems,
            [format!(
                "WorkloadEndpoint(a/e1): spec.ipNetworks: {address} is an address of this host"
            )]
        );
        graph.set_host_addresses([]);
        graph.flush();
        assert_eq!(place(&graph), Place::LocalWorkload("calie1".into()));
        assert_eq!(
            (graph.plan().routes.len(), graph.problems().count()),
            (1, 0)
        );
    }
}
