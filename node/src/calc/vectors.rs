//! Cases from elsewhere, through both readings of policy; and how long one change takes in a large cluster.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::plain::{Packet, judge};
use super::tests::{blobs, decide, fresh, resource, state, update};
use super::{Direction, Graph};

const CASES: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/vectors/policy.json"
));

/// A side of a rule: sets become selectors over network sets, named-port sets become port names.
fn side(side: &Value) -> Value {
    let mut out = Map::new();
    for (field, value) in side.as_object().into_iter().flatten() {
        let ids = || {
            value
                .as_array()
                .unwrap()
                .iter()
                .map(|id| id.as_str().unwrap())
        };
        match field.as_str() {
            "ipSets" => {
                let all: Vec<String> = ids().map(|id| format!("set == '{id}'")).collect();
                out.insert("selector".to_owned(), json!(all.join(" && ")));
            }
            "notIpSets" => {
                let any: Vec<String> = ids().map(|id| format!("set == '{id}'")).collect();
                out.insert("notSelector".to_owned(), json!(any.join(" || ")));
            }
            "namedPortIpSets" => {
                let mut ports = side["ports"].as_array().cloned().unwrap_or_default();
                ports.extend(ids().map(|id| json!(id)));
                out.insert("ports".to_owned(), json!(ports));
            }
            "ports" if side.get("namedPortIpSets").is_some() => {}
            _ => {
                out.insert(field.clone(), value.clone());
            }
        }
    }
    out.into()
}

fn rule(rule: &Value) -> Value {
    let mut out = rule.as_object().unwrap().clone();
    for field in ["source", "destination"] {
        if let Some(value) = rule.get(field) {
            out.insert(field.to_owned(), side(value));
        }
    }
    if rule.get("icmp").or(rule.get("notICMP")).is_some() && rule.get("protocol").is_none() {
        out.insert("protocol".to_owned(), json!("ICMP"));
    }
    out.into()
}

fn resources(case: &Value) -> Vec<Value> {
    let mut all = vec![
        json!({"kind": "WorkloadEndpoint", "metadata": {"name": "e", "namespace": "a"}, "spec": {"orchestrator": "k8s", "node": "here",
        "workload": "w", "endpoint": "eth0", "interfaceName": "cali0", "ipNetworks": ["203.0.113.250", "2001:db8:ffff::250"], "profiles": []}}),
    ];
    for (place, tier) in case["tiers"].as_array().into_iter().flatten().enumerate() {
        let name = format!("t{place}");
        all.push(json!({"kind": "Tier", "metadata": {"name": name}, "spec": {"order": place, "defaultAction": tier["endAction"]}}));
        for (order, policy) in tier["policies"].as_array().unwrap().iter().enumerate() {
            let rules: Vec<Value> = policy["rules"]
                .as_array()
                .unwrap()
                .iter()
                .map(rule)
                .collect();
            all.push(json!({"kind": "GlobalNetworkPolicy", "metadata": {"name": format!("{name}.{order}")},
                "spec": {"tier": name, "order": order, "selector": "all()", "types": ["Ingress"], "ingress": rules}}));
        }
    }
    for (id, members) in case["ipSets"].as_object().into_iter().flatten() {
        let members: Vec<&str> = members
            .as_array()
            .unwrap()
            .iter()
            .map(|member| member.as_str().unwrap())
            .collect();
        let nets: Vec<&&str> = members
            .iter()
            .filter(|member| !member.contains(','))
            .collect();
        all.push(json!({"kind": "GlobalNetworkSet", "metadata": {"name": id.to_lowercase(), "labels": {"set": id}}, "spec": {"nets": nets}}));
        for (number, member) in members
            .iter()
            .filter(|member| member.contains(','))
            .enumerate()
        {
            let (net, port) = member.split_once(',').unwrap();
            let (protocol, port) = port.split_once(':').unwrap();
            all.push(json!({"kind": "WorkloadEndpoint", "metadata": {"name": format!("{}{number}", id.to_lowercase()), "namespace": "b"},
                "spec": {"orchestrator": "k8s", "node": "there", "workload": "w", "endpoint": "eth0", "interfaceName": "cali9", "ipNetworks": [net],
                    "ports": [{"name": id, "protocol": protocol.to_uppercase(), "port": port.parse::<u16>().unwrap()}]}}));
        }
    }
    all
}

fn packet(packet: &Value) -> Packet {
    let number = |field: &str| packet[field].as_u64().unwrap_or(0);
    let address = |field: &str| -> IpAddr { packet[field].as_str().unwrap().parse().unwrap() };
    Packet {
        src: address("src"),
        dst: address("dst"),
        protocol: number("proto") as u8,
        sport: number("sport") as u16,
        dport: number("dport") as u16,
        icmp: (number("icmpType") as u8, number("icmpCode") as u8),
    }
}

#[test]
fn the_reference_cases_are_decided_as_they_say() {
    let cases: Vec<Value> = serde_json::from_str(CASES).unwrap();
    let mut asked = 0;
    for case in &cases {
        assert_eq!(
            case["profiles"].as_array().map_or(0, Vec::len),
            0,
            "profiles are not translated"
        );
        let resources = state(&resources(case));
        let graph = fresh(&resources);
        let (classes, blobs) = blobs(&graph);
        let interface = &graph.plan().interfaces["cali0"];
        for value in case["packets"].as_array().unwrap() {
            let packet = packet(value);
            let wanted = value["verdict"] == "allow";
            let written = judge(&resources, &interface.endpoint, Direction::Ingress, &packet);
            let (rendered, _) = decide(&graph, &classes, &blobs[&interface.ingress], &packet);
            assert_eq!(
                (written.allowed, rendered),
                (wanted, wanted),
                "{}: {value}",
                case["name"]
            );
            asked += 1;
        }
    }
    assert!(asked > 250, "{asked}");
}

/// 10,000 endpoints, 100 of them here, and 1,000 policies of which 30 apply to each endpoint.
fn large() -> Graph {
    let mut graph = Graph::new("here");
    let mut tell = |value: Value| {
        let (key, value) = resource(&value);
        graph.update(&update(&key, Some(&value)));
    };
    for n in 0..10_000u32 {
        tell(large_endpoint(n, n % 10));
    }
    for n in 0..1000u32 {
        tell(
            json!({"kind": "GlobalNetworkPolicy", "metadata": {"name": format!("p{n}")}, "spec": {"order": n, "selector": format!("app == '{}'", n % 33), "types": ["Ingress"],
            "ingress": [{"action": "Allow", "protocol": "TCP", "source": {"selector": format!("app == '{}' && tier == '{}'", n % 100, n % 10)}, "destination": {"ports": [n % 50 + 1, "http"]}}]}}),
        );
    }
    graph.flush();
    graph
}

fn large_endpoint(n: u32, tier: u32) -> Value {
    let address = std::net::Ipv4Addr::from_bits(0x0a00_0000 + n);
    json!({"kind": "WorkloadEndpoint", "metadata": {"name": format!("e{n}"), "namespace": "a", "labels": {"app": (n % 100).to_string(), "tier": tier.to_string()}},
        "spec": {"orchestrator": "k8s", "node": if n.is_multiple_of(100) { "here" } else { "there" }, "workload": "w", "endpoint": "eth0", "interfaceName": format!("cali{n}"),
            "ipNetworks": [address], "profiles": ["kns.a"], "ports": [{"name": "http", "protocol": "TCP", "port": 8000 + n % 3}]}})
}

#[test]
fn a_label_of_one_endpoint_among_ten_thousand_touches_that_endpoint_only() {
    let mut graph = large();
    let mut spent = Vec::new();
    for round in 0..20 {
        let (key, value) = resource(&large_endpoint(4_217, round % 9));
        let begin = Instant::now();
        graph.update(&update(&key, Some(&value)));
        let changes = graph.flush();
        spent.push(begin.elapsed());
        assert!(
            changes.facts.len() <= 1 && changes.interfaces.is_empty(),
            "{changes:?}"
        );
    }
    spent.sort();
    println!("label of a remote endpoint: {:?}", spent[10]);
    // Far above what it takes, since builds without optimisation and busy machines run this too.
    assert!(spent[10] < Duration::from_millis(50), "{spent:?}");
    let classes: BTreeMap<_, usize> =
        graph
            .all_facts()
            .fold(BTreeMap::new(), |mut sum, (_, facts)| {
                *sum.entry(facts.atoms.clone()).or_default() += 1;
                sum
            });
    println!("{} classes, {} atoms", classes.len(), graph.atoms());
}
