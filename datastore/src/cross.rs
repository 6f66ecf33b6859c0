//! What can be wrong between objects, each of which is right by itself.
//!
//! A policy in a tier that does not exist, two endpoints on one address, pools that overlap. The check
//! is a function of the objects alone, whether they are in a store or about to be.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;

use crate::{Key, Problem, Resource, resource::WorkloadEndpoint};

/// Tiers that exist even where nobody created them.
const FIXED_TIERS: [&str; 3] = ["default", "kube-admin", "kube-baseline"];

/// The problems between these objects, one for each object that is part of one and is `concerned`.
pub fn check<'a>(
    objects: impl IntoIterator<Item = (&'a Key, &'a Resource)>,
    concerned: impl Fn(&Key) -> bool,
) -> Vec<Problem> {
    let mut tiers = FIXED_TIERS.to_vec();
    let mut policies = Vec::new();
    let mut endpoints = Vec::new();
    let mut pools = Vec::new();
    for (key, resource) in objects {
        match resource {
            Resource::GlobalNetworkPolicy(policy) => policies.push((key, &policy.spec.tier)),
            Resource::IpPool(pool) => pools.push((pool.spec.cidr.net(), key)),
            Resource::NetworkPolicy(policy) => policies.push((key, &policy.spec.tier)),
            Resource::Tier(_) => tiers.push(key.name()),
            Resource::WorkloadEndpoint(endpoint) => endpoints.push((key, endpoint)),
            Resource::BgpConfiguration(_)
            | Resource::BgpPeer(_)
            | Resource::BlockAffinity(_)
            | Resource::GlobalNetworkSet(_)
            | Resource::NetworkSet(_)
            | Resource::Node(_)
            | Resource::Profile(_) => {}
        }
    }
    tiers.sort_unstable();
    let mut problems = Vec::new();
    for (key, tier) in policies {
        if let Some(tier) = tier
            && tiers.binary_search(&tier.as_str()).is_err()
            && concerned(key)
        {
            let reason = format!("there is no tier {tier:?}");
            problems.push(Problem::new(key, "spec.tier", reason));
        }
    }
    let mut report = |key: &Key, field: String, reason: String| {
        if concerned(key) {
            problems.push(Problem::new(key, field, reason));
        }
    };
    shared_addresses(&endpoints, &mut report);
    overlapping_pools(pools, &mut report);
    problems
}

fn shared_addresses(
    endpoints: &[(&Key, &WorkloadEndpoint)],
    report: &mut impl FnMut(&Key, String, String),
) {
    let mut owners: BTreeMap<IpAddr, (&Key, &WorkloadEndpoint, usize)> = BTreeMap::new();
    for (key, endpoint) in endpoints {
        for (index, net) in endpoint.spec.ip_networks.iter().enumerate() {
            let field = |index: usize| format!("spec.ipNetworks[{index}]");
            let address = net.addr();
            match owners.get(&address) {
                None => {
                    owners.insert(address, (key, endpoint, index));
                }
                // A workload on its way to another node is at both ends for a while.
                Some((_, owner, _)) if moves(owner, endpoint) => {}
                Some((owner, _, owners_index)) => {
                    report(
                        key,
                        field(index),
                        format!("{address} is an address of {owner} too"),
                    );
                    report(
                        owner,
                        field(*owners_index),
                        format!("{address} is an address of {key} too"),
                    );
                }
            }
        }
    }
}

/// Whether two endpoints are one interface of one workload on two nodes.
fn moves(left: &WorkloadEndpoint, right: &WorkloadEndpoint) -> bool {
    let identity = |endpoint: &WorkloadEndpoint| {
        let spec = &endpoint.spec;
        (
            endpoint.metadata.namespace.clone(),
            spec.orchestrator.clone(),
            spec.workload.clone().or_else(|| spec.pod.clone()),
            spec.endpoint.clone(),
        )
    };
    left.spec.node != right.spec.node && identity(left) == identity(right)
}

fn overlapping_pools(mut pools: Vec<(IpNet, &Key)>, report: &mut impl FnMut(&Key, String, String)) {
    // Nets are either apart or one within the other; the larger sorts first.
    pools.sort_by_key(|(net, key)| (net.network(), net.prefix_len(), *key));
    let mut last: Option<(IpNet, &Key)> = None;
    for (net, key) in pools {
        match last {
            Some((outer, outer_key)) if outer.contains(&net) => {
                let field = || "spec.cidr".to_owned();
                report(
                    key,
                    field(),
                    format!("{net} overlaps {outer} of {outer_key}"),
                );
                report(
                    outer_key,
                    field(),
                    format!("{outer} overlaps {net} of {key}"),
                );
            }
            Some(_) | None => last = Some((net, key)),
        }
    }
}

#[cfg(test)]
#[allow(
    clippy::needless_pass_by_value,
    reason = "tests take what they are given"
)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::resource::from_manifest;

    #[test]
    fn conflicts_are_told_of_each_party_that_is_concerned() {
        let objects: BTreeMap<Key, Resource> = [
            policy("a", "sec"),
            policy("b", "default"),
            policy("c", "nowhere"),
            object("Tier", None, "sec", json!({})),
            pool("p4", "10.0.0.0/16"),
            pool("p4-in", "10.0.128.0/24"),
            pool("p4-same", "10.0.0.0/16"),
            pool("p4-apart", "10.1.0.0/16"),
            pool("p6", "fd00::/48"),
            pool("p6-in", "fd00:0:0:1::/64"),
            endpoint("n1", "w1", &["10.0.0.1/32", "fd00::1/128"]),
            endpoint("n2", "w1", &["10.0.0.1/32", "fd00::1/128"]),
            endpoint("n1", "w2", &["10.0.0.2/32", "fd00::1/128"]),
        ]
        .into();
        let all = |concerned: &dyn Fn(&Key) -> bool| -> Vec<String> {
            let mut said: Vec<String> = check(objects.iter(), concerned)
                .iter()
                .map(Problem::to_string)
                .collect();
            said.sort();
            said.dedup();
            said
        };
        assert_eq!(
            all(&|_| true),
            [
                "GlobalNetworkPolicy(c): spec.tier: there is no tier \"nowhere\"",
                "IPPool(p4): spec.cidr: 10.0.0.0/16 overlaps 10.0.0.0/16 of IPPool(p4-same)",
                "IPPool(p4): spec.cidr: 10.0.0.0/16 overlaps 10.0.128.0/24 of IPPool(p4-in)",
                "IPPool(p4-in): spec.cidr: 10.0.128.0/24 overlaps 10.0.0.0/16 of IPPool(p4)",
                "IPPool(p4-same): spec.cidr: 10.0.0.0/16 overlaps 10.0.0.0/16 of IPPool(p4)",
                "IPPool(p6): spec.cidr: fd00::/48 overlaps fd00:0:0:1::/64 of IPPool(p6-in)",
                "IPPool(p6-in): spec.cidr: fd00:0:0:1::/64 overlaps fd00::/48 of IPPool(p6)",
                "WorkloadEndpoint(ns/n1-x-w1-e): spec.ipNetworks[1]: fd00::1 is an address of WorkloadEndpoint(ns/n1-x-w2-e) too",
                "WorkloadEndpoint(ns/n1-x-w2-e): spec.ipNetworks[1]: fd00::1 is an address of WorkloadEndpoint(ns/n1-x-w1-e) too",
            ]
        );
        assert_eq!(
            all(&|key| key.name() == "p6"),
            ["IPPool(p6): spec.cidr: fd00::/48 overlaps fd00:0:0:1::/64 of IPPool(p6-in)"]
        );
    }

    fn policy(name: &str, tier: &str) -> (Key, Resource) {
        object("GlobalNetworkPolicy", None, name, json!({ "tier": tier }))
    }

    fn pool(name: &str, cidr: &str) -> (Key, Resource) {
        object("IPPool", None, name, json!({ "cidr": cidr }))
    }

    fn endpoint(node: &str, workload: &str, nets: &[&str]) -> (Key, Resource) {
        let name = format!("{node}-x-{workload}-e");
        let spec = json!({"node": node, "orchestrator": "x", "workload": workload, "endpoint": "e",
            "interfaceName": "tap1", "ipNetworks": nets});
        object("WorkloadEndpoint", Some("ns"), &name, spec)
    }

    fn object(kind: &str, namespace: Option<&str>, name: &str, spec: Value) -> (Key, Resource) {
        let mut manifest = json!({"apiVersion": "projectcalico.org/v3", "kind": kind,
            "metadata": {"name": name}, "spec": spec});
        if let Some(namespace) = namespace {
            manifest["metadata"]["namespace"] = namespace.into();
        }
        from_manifest(manifest).unwrap()
    }
}
