//! What is wrong between objects that are each right by themselves.
//!
//! `apply` refuses an object for it; found in the store, it is listed by `status`. One function serves both.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use cleat_datastore::resource::{IpPoolSpec, WorkloadEndpoint};
use cleat_datastore::{Key, Kind, Problem, Resource};

/// The tier that is there without being stored.
const DEFAULT_TIER: &str = "default";

/// Every contradiction among the objects. Of two objects that contradict each other, both are named.
pub fn between(objects: &BTreeMap<Key, Arc<Resource>>) -> Vec<Problem> {
    let mut found = Found {
        tiers: [DEFAULT_TIER].into(),
        ..Found::default()
    };
    for (key, resource) in objects {
        if key.kind() == Some(Kind::Tier) {
            found.tiers.insert(key.name());
        }
        match &**resource {
            Resource::WorkloadEndpoint(endpoint) => found.endpoint(key, endpoint),
            Resource::Node(node) => {
                let bgp = node.spec.bgp.iter();
                for (field, address) in bgp.flat_map(|bgp| {
                    [
                        ("spec.bgp.ipv4Address", &bgp.ipv4_address),
                        ("spec.bgp.ipv6Address", &bgp.ipv6_address),
                    ]
                }) {
                    if let Some(address) = address {
                        found
                            .node_addresses
                            .entry(address.addr())
                            .or_default()
                            .push((key, field.to_owned()));
                    }
                }
            }
            Resource::IpPool(pool) => found.pools.push((key, pool.spec.cidr.net())),
            Resource::BgpConfiguration(_)
            | Resource::BgpFilter(_)
            | Resource::BgpPeer(_)
            | Resource::BlockAffinity(_)
            | Resource::CalicoNodeStatus(_)
            | Resource::ClusterInformation(_)
            | Resource::EndpointSlice(_)
            | Resource::FelixConfiguration(_)
            | Resource::GlobalNetworkPolicy(_)
            | Resource::GlobalNetworkSet(_)
            | Resource::HostEndpoint(_)
            | Resource::IpReservation(_)
            | Resource::IpamBlock(_)
            | Resource::IpamConfig(_)
            | Resource::IpamConfiguration(_)
            | Resource::IpamHandle(_)
            | Resource::IpamHost(_)
            | Resource::KubeControllersConfiguration(_)
            | Resource::LiveMigration(_)
            | Resource::NetworkPolicy(_)
            | Resource::NetworkSet(_)
            | Resource::Profile(_)
            | Resource::Service(_)
            | Resource::StagedGlobalNetworkPolicy(_)
            | Resource::StagedKubernetesNetworkPolicy(_)
            | Resource::StagedNetworkPolicy(_)
            | Resource::Subnet(_)
            | Resource::Tier(_) => {}
        }
    }
    let mut problems = found.unknown_tiers(objects);
    problems.extend(duplicates(&found.addresses, "address"));
    problems.extend(duplicates(&found.node_addresses, "address"));
    problems.extend(duplicates(&found.interfaces, "interface"));
    problems.extend(found.overlaps());
    problems.sort();
    problems
}

/// The kinds whose objects an object of this kind may contradict.
pub fn compared_with(kind: Kind) -> &'static [Kind] {
    match kind {
        Kind::GlobalNetworkPolicy | Kind::NetworkPolicy => &[Kind::Tier],
        Kind::IpPool => &[Kind::IpPool],
        Kind::Node => &[Kind::Node],
        Kind::WorkloadEndpoint => &[Kind::WorkloadEndpoint],
        Kind::BgpConfiguration
        | Kind::BgpFilter
        | Kind::BgpPeer
        | Kind::CalicoNodeStatus
        | Kind::ClusterInformation
        | Kind::EndpointSlice
        | Kind::FelixConfiguration
        | Kind::GlobalNetworkSet
        | Kind::HostEndpoint
        | Kind::IpReservation
        | Kind::IpamConfiguration
        | Kind::KubeControllersConfiguration
        | Kind::LiveMigration
        | Kind::NetworkSet
        | Kind::Profile
        | Kind::Service
        | Kind::StagedGlobalNetworkPolicy
        | Kind::StagedKubernetesNetworkPolicy
        | Kind::StagedNetworkPolicy
        | Kind::Tier => &[],
    }
}

/// What keeps a pool from being made over blocks that are there already.
pub fn blocks_of_pool(
    key: &Key,
    spec: &IpPoolSpec,
    blocks: impl IntoIterator<Item = ipnet::IpNet>,
) -> Vec<Problem> {
    let (pool, len) = (spec.cidr.net(), spec.block_len());
    let other = blocks
        .into_iter()
        .find(|block| block.prefix_len() != len && (pool.contains(block) || block.contains(&pool)));
    let reason = |block| {
        format!(
            "is {len}, but addresses are assigned in block {block} of another size; take that size, or release them"
        )
    };
    other
        .map(|block| Problem::new(key, "spec.blockSize", reason(block)))
        .into_iter()
        .collect()
}

type Claims<'a, T> = BTreeMap<T, Vec<(&'a Key, String)>>;

/// What a workload's interface is called wherever it is: namespace, orchestrator, workload or pod or container, endpoint.
type Identity<'a> = (Option<&'a str>, &'a str, Option<&'a str>, &'a str);

fn identity(endpoint: &WorkloadEndpoint) -> Identity<'_> {
    let spec = &endpoint.spec;
    let workload = spec.workload.as_deref().or(spec.pod.as_deref());
    (
        endpoint.metadata.namespace.as_deref(),
        &spec.orchestrator,
        workload.or(spec.container_id.as_deref()),
        &spec.endpoint,
    )
}

#[derive(Default)]
struct Found<'a> {
    tiers: BTreeSet<&'a str>,
    addresses: Claims<'a, IpAddr>,
    /// Who has an address already, for workloads that are on their way to another node.
    at_home: BTreeMap<(IpAddr, Identity<'a>), &'a str>,
    node_addresses: Claims<'a, IpAddr>,
    interfaces: Claims<'a, String>,
    pools: Vec<(&'a Key, ipnet::IpNet)>,
}

impl<'a> Found<'a> {
    fn endpoint(&mut self, key: &'a Key, endpoint: &'a WorkloadEndpoint) {
        for (index, network) in endpoint.spec.ip_networks.iter().enumerate() {
            let node = endpoint.spec.node.as_str();
            let claim = (network.addr(), identity(endpoint));
            // During a live migration one interface of one workload is at both ends for a while.
            if *self.at_home.entry(claim).or_insert(node) != node {
                continue;
            }
            self.addresses
                .entry(network.addr())
                .or_default()
                .push((key, format!("spec.ipNetworks[{index}]")));
        }
        let interface = format!(
            "{} of node {}",
            endpoint.spec.interface_name, endpoint.spec.node
        );
        self.interfaces
            .entry(interface)
            .or_default()
            .push((key, "spec.interfaceName".to_owned()));
    }

    fn unknown_tiers(&self, objects: &BTreeMap<Key, Arc<Resource>>) -> Vec<Problem> {
        objects
            .iter()
            .filter_map(|(key, resource)| Some((key, resource.tier()?)))
            .filter(|(_, tier)| !self.tiers.contains(tier))
            .map(|(key, tier)| {
                Problem::new(
                    key,
                    "spec.tier",
                    format!("there is no tier {tier:?}; apply the Tier first, or with it"),
                )
            })
            .collect()
    }

    /// Pools in the order of their first address: one that overlaps another overlaps one that started before it and has
    /// not ended.
    fn overlaps(mut self) -> Vec<Problem> {
        self.pools
            .sort_by_key(|(_, net)| (net.network(), net.prefix_len()));
        let mut problems = Vec::new();
        let mut open: Vec<(&Key, ipnet::IpNet)> = Vec::new();
        for (key, net) in self.pools {
            open.retain(|(_, outer)| outer.contains(&net));
            for (other, outer) in &open {
                problems.push(Problem::new(
                    key,
                    "spec.cidr",
                    format!("{net} overlaps {outer} of {other}"),
                ));
                problems.push(Problem::new(
                    other,
                    "spec.cidr",
                    format!("{outer} overlaps {net} of {key}"),
                ));
            }
            open.push((key, net));
        }
        problems
    }
}

fn duplicates<T: std::fmt::Display>(claims: &Claims<'_, T>, what: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (value, owners) in claims.iter().filter(|(_, owners)| owners.len() > 1) {
        for (index, (key, field)) in owners.iter().enumerate() {
            // One other is enough to mend it; a thousand would fill the screen.
            let other = &owners[usize::from(index == 0)].0;
            problems.push(Problem::new(
                key,
                field.clone(),
                format!("{what} {value} is also that of {other}"),
            ));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use cleat_datastore::resource::from_manifest;
    use serde_json::{Value, json};

    use super::*;

    fn objects(manifests: &[Value]) -> BTreeMap<Key, Arc<Resource>> {
        let decoded = manifests
            .iter()
            .map(|manifest| from_manifest(manifest.clone()).unwrap());
        decoded
            .map(|(key, resource)| (key, Arc::new(resource)))
            .collect()
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "every caller has just made it"
    )]
    fn manifest(kind: &str, name: &str, spec: Value) -> Value {
        json!({"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": {"name": name}, "spec": spec})
    }

    fn endpoint(name: &str, node: &str, interface: &str, address: &str) -> Value {
        manifest(
            "WorkloadEndpoint",
            &format!("{node}-cni-{name}-eth0"),
            json!({"orchestrator": "cni", "node": node, "containerID": name, "endpoint": "eth0",
                   "interfaceName": interface, "ipNetworks": [address]}),
        )
    }

    #[test]
    fn a_workload_on_its_way_to_another_node_may_be_on_both() {
        let machine = |node: &str, workload: &str| {
            manifest(
                "WorkloadEndpoint",
                &format!("{node}-openstack-{workload}-port"),
                json!({"orchestrator": "openstack", "node": node, "workload": workload, "endpoint": "port",
                       "interfaceName": "tapport", "ipNetworks": ["10.65.0.2/32"]}),
            )
        };
        let moving = objects(&[machine("a", "vm"), machine("b", "vm")]);
        assert_eq!(between(&moving), []);
        let other = objects(&[machine("a", "vm"), machine("b", "other")]);
        assert_eq!(between(&other).len(), 2, "{:?}", between(&other));
    }

    #[test]
    fn contradictions_name_both_objects_and_the_field() {
        let pool = |name, cidr| manifest("IPPool", name, json!({"cidr": cidr}));
        let cases: &[(&str, Vec<Value>, &[&str])] = &[
            ("nothing", vec![], &[]),
            (
                "unknown tier",
                vec![manifest(
                    "GlobalNetworkPolicy",
                    "web",
                    json!({"tier": "front"}),
                )],
                &[
                    "GlobalNetworkPolicy(web): spec.tier: there is no tier \"front\"; apply the Tier first, or with it",
                ],
            ),
            (
                "known tier",
                vec![
                    manifest("Tier", "front", json!({"order": 1})),
                    manifest("GlobalNetworkPolicy", "front.web", json!({"tier": "front"})),
                    manifest("GlobalNetworkPolicy", "a", json!({"tier": "default"})),
                ],
                &[],
            ),
            (
                "duplicate IPv4 address",
                vec![
                    endpoint("a", "h1", "cali1", "10.0.0.1/32"),
                    endpoint("b", "h2", "cali1", "10.0.0.1"),
                ],
                &[
                    "WorkloadEndpoint(default/h1-cni-a-eth0): spec.ipNetworks[0]: address 10.0.0.1 is also that of \
                     WorkloadEndpoint(default/h2-cni-b-eth0)",
                    "WorkloadEndpoint(default/h2-cni-b-eth0): spec.ipNetworks[0]: address 10.0.0.1 is also that of \
                     WorkloadEndpoint(default/h1-cni-a-eth0)",
                ],
            ),
            (
                "duplicate IPv6 address and interface",
                vec![
                    endpoint("a", "h1", "cali1", "fd00::1"),
                    endpoint("b", "h1", "cali1", "fd00::1/128"),
                ],
                &[
                    "WorkloadEndpoint(default/h1-cni-a-eth0): spec.interfaceName: interface cali1 of node h1 is also that of \
                     WorkloadEndpoint(default/h1-cni-b-eth0)",
                    "WorkloadEndpoint(default/h1-cni-a-eth0): spec.ipNetworks[0]: address fd00::1 is also that of \
                     WorkloadEndpoint(default/h1-cni-b-eth0)",
                    "WorkloadEndpoint(default/h1-cni-b-eth0): spec.interfaceName: interface cali1 of node h1 is also that of \
                     WorkloadEndpoint(default/h1-cni-a-eth0)",
                    "WorkloadEndpoint(default/h1-cni-b-eth0): spec.ipNetworks[0]: address fd00::1 is also that of \
                     WorkloadEndpoint(default/h1-cni-a-eth0)",
                ],
            ),
            (
                "pools side by side",
                vec![
                    pool("a", "10.0.0.0/16"),
                    pool("b", "10.1.0.0/16"),
                    pool("c", "fd00::/64"),
                    pool("d", "fd00:0:0:1::/64"),
                ],
                &[],
            ),
            (
                "overlapping pools",
                vec![
                    pool("a", "10.0.0.0/8"),
                    pool("b", "10.1.0.0/16"),
                    pool("c", "11.0.0.0/16"),
                ],
                &[
                    "IPPool(a): spec.cidr: 10.0.0.0/8 overlaps 10.1.0.0/16 of IPPool(b)",
                    "IPPool(b): spec.cidr: 10.1.0.0/16 overlaps 10.0.0.0/8 of IPPool(a)",
                ],
            ),
            (
                "nodes with one address",
                vec![
                    manifest("Node", "h1", json!({"bgp": {"ipv6Address": "fd00::1/64"}})),
                    manifest("Node", "h2", json!({"bgp": {"ipv6Address": "fd00::1/64"}})),
                ],
                &[
                    "Node(h1): spec.bgp.ipv6Address: address fd00::1 is also that of Node(h2)",
                    "Node(h2): spec.bgp.ipv6Address: address fd00::1 is also that of Node(h1)",
                ],
            ),
        ];
        for (case, manifests, expected) in cases {
            let problems: Vec<String> = between(&objects(manifests))
                .iter()
                .map(ToString::to_string)
                .collect();
            assert_eq!(problems, *expected, "{case}");
        }
    }
}
