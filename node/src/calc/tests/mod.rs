//! The graph against lists of states in every order, and lists against policy as written.

mod conflicts;
mod endpoints;
mod generated;
mod peers;
mod routes;
mod states;

use std::collections::BTreeSet;
use std::sync::Arc;

use cleat_datastore::{Key, Resource, Update};
use ipnet::IpNet;
use serde_json::{Value, json};

use super::Graph;
use super::plain::Resources;

pub(crate) use generated::{blobs, choices, decide, packets, query, show, world};

/// A resource from JSON, past all validation.
pub(crate) fn resource(value: &Value) -> (Key, Arc<Resource>) {
    fn read<T: serde::de::DeserializeOwned>(value: &Value) -> T {
        serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{error}: {value}"))
    }
    let resource = match value["kind"].as_str().unwrap() {
        "BGPConfiguration" => Resource::BgpConfiguration(read(value)),
        "BGPPeer" => Resource::BgpPeer(read(value)),
        "FelixConfiguration" => Resource::FelixConfiguration(read(value)),
        "HostEndpoint" => Resource::HostEndpoint(read(value)),
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

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}
