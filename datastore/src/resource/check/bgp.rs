//! Settings of the BGP speaker, its peers and its filters. Calico's speaker looks at no rule when it
//! reads, so that all of them are for writers.

use super::{Check, CheckObject, Faults, names::check_name};
use crate::{
    resource::{
        BgpConfigurationSpec, BgpFilterRule, BgpFilterSpec, BgpPeerSpec, FilterAction, Object,
    },
    value::Community,
};

const DEFAULT: &str = "default";
/// The longest name of an interface.
const MAX_INTERFACE: usize = 15;

impl CheckObject for BgpConfigurationSpec {
    fn check_object(object: &Object<Self>, faults: &mut Faults) {
        if !faults.is_strict() {
            return;
        }
        let (name, spec) = (object.metadata.name.as_str(), &object.spec);
        faults.at("metadata.name", |faults| check_name(name, faults));
        for (field, there) in [
            (
                "nodeToNodeMeshEnabled",
                spec.node_to_node_mesh_enabled.is_some(),
            ),
            ("nodeMeshPassword", spec.node_mesh_password.is_some()),
            (
                "nodeMeshMaxRestartTime",
                spec.node_mesh_max_restart_time.is_some(),
            ),
        ] {
            faults.require(
                name == DEFAULT || !there,
                &format!("spec.{field}"),
                || "is for the configuration named default only",
            );
        }
    }
}

impl Check for BgpConfigurationSpec {
    fn check(&self, faults: &mut Faults) {
        if !faults.is_strict() {
            return;
        }
        let mesh = self.node_to_node_mesh_enabled != Some(false);
        for (field, there) in [
            ("nodeMeshPassword", self.node_mesh_password.is_some()),
            (
                "nodeMeshMaxRestartTime",
                self.node_mesh_max_restart_time.is_some(),
            ),
        ] {
            faults.require(mesh || !there, field, || "is of no use without the mesh");
        }
        faults.each(
            "ignoredInterfaces",
            &self.ignored_interfaces,
            |name, faults| {
                faults.require(name != "*" && is_interface_pattern(name), "", || {
                    format!("{name:?} is no name of an interface, with or without `*`")
                });
            },
        );
        faults.each("communities", &self.communities, |community, faults| {
            faults.require(!community.name.is_empty(), "name", || "is empty");
        });
        faults.require(
            self.communities.is_empty() || !self.prefix_advertisements.is_empty(),
            "communities",
            || "are of no use without prefixAdvertisements",
        );
        faults.each(
            "prefixAdvertisements",
            &self.prefix_advertisements,
            |advertised, faults| {
                let communities = &advertised.communities;
                faults.require(!communities.is_empty(), "communities", || "is required");
                faults.each("communities", communities, |community, faults| {
                    let named = self
                        .communities
                        .iter()
                        .any(|named| named.name == *community);
                    faults.require(named || community.parse::<Community>().is_ok(), "", || {
                        format!("{community:?} is neither a community nor the name of one")
                    });
                });
            },
        );
    }
}

impl CheckObject for BgpPeerSpec {}

impl Check for BgpPeerSpec {
    fn check(&self, faults: &mut Faults) {
        if !faults.is_strict() {
            return;
        }
        let by_address = self.peer_ip.is_some();
        let by_selector = self.peer_selector.is_some();
        let workloads = self.local_workload_selector.is_some();
        for (field, there, other, other_there) in [
            (
                "nodeSelector",
                self.node_selector.is_some(),
                "node",
                self.node.is_some(),
            ),
            ("peerSelector", by_selector, "peerIP", by_address),
            (
                "peerSelector",
                by_selector,
                "asNumber",
                self.as_number.is_some(),
            ),
            ("localWorkloadSelector", workloads, "peerIP", by_address),
            (
                "localWorkloadSelector",
                workloads,
                "peerSelector",
                by_selector,
            ),
            (
                "nextHopMode",
                self.next_hop_mode.is_some(),
                "keepOriginalNextHop",
                self.keep_original_next_hop == Some(true),
            ),
        ] {
            faults.exclusive(field, there, other, other_there);
        }
        faults.require(
            !workloads || self.as_number.is_some(),
            "asNumber",
            || "is required with localWorkloadSelector",
        );
        if let Some(gateway) = self.reachable_by {
            match self.peer_ip {
                None => faults.add("reachableBy", "needs peerIP"),
                Some(peer) => faults.require(
                    gateway.is_ipv4() == peer.addr.is_ipv4(),
                    "reachableBy",
                    || "is of another IP version than peerIP",
                ),
            }
        }
        faults.distinct("filters", &self.filters);
    }
}

impl CheckObject for BgpFilterSpec {}

impl Check for BgpFilterSpec {
    fn check(&self, faults: &mut Faults) {
        for (name, rules, v4) in [
            ("exportV4", &self.export_v4, true),
            ("exportV6", &self.export_v6, false),
            ("importV4", &self.import_v4, true),
            ("importV6", &self.import_v6, false),
        ] {
            faults.each(name, rules, |rule, faults| rule.check_family(v4, faults));
        }
    }
}

impl BgpFilterRule {
    /// Whether it is a rule for this version of IP.
    pub(super) fn check_family(&self, v4: bool, faults: &mut Faults) {
        if !faults.is_strict() {
            return;
        }
        faults.require(
            self.cidr.is_some() == self.match_operator.is_some(),
            if self.cidr.is_some() {
                "matchOperator"
            } else {
                "cidr"
            },
            || "is required: cidr and matchOperator go together",
        );
        faults.require(
            self.cidr.is_none_or(|cidr| cidr.is_v4() == v4),
            "cidr",
            || "is of the other IP version",
        );
        faults.require(
            self.prefix_length.is_none() || self.cidr.is_some(),
            "prefixLength",
            || "needs cidr",
        );
        if let Some(range) = &self.prefix_length {
            let max = if v4 { 32 } else { 128 };
            faults.within("prefixLength.min", range.min, 0, max);
            faults.within("prefixLength.max", range.max, 0, max);
        }
        if let Some(name) = &self.interface {
            faults.require(
                name == "*" || is_interface_pattern(name),
                "interface",
                || format!("{name:?} is no name of an interface, with or without `*`"),
            );
        }
        faults.require(
            self.operations.is_empty() || self.action == FilterAction::Accept,
            "operations",
            || "are for routes that are accepted",
        );
        faults.each("operations", &self.operations, |operation, faults| {
            let there = [
                operation.add_community.is_some(),
                operation.prepend_as_path.is_some(),
                operation.set_priority.is_some(),
            ];
            faults.require(
                there.into_iter().filter(|there| *there).count() == 1,
                "",
                || "needs exactly one of addCommunity, prependASPath and setPriority",
            );
        });
    }
}

fn is_interface_pattern(name: &str) -> bool {
    (1..=MAX_INTERFACE).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_.*-".contains(&byte))
}
