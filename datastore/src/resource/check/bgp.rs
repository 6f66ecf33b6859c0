//! Settings of the BGP speaker, and its peers.

use super::{
    Check, CheckObject, Checked, Fault, at_most, distinct, each, names::check_name, require, within,
};
use crate::{
    resource::{BgpConfigurationSpec, BgpPeerSpec, Object},
    value::Community,
};

const DEFAULT: &str = "default";
const LOG_LEVELS: [&str; 6] = ["Trace", "Debug", "Info", "Warning", "Error", "Fatal"];

impl CheckObject for BgpConfigurationSpec {
    fn check_object(object: &Object<Self>) -> Checked {
        let name = object.metadata.name.as_str();
        check_name(name).map_err(|fault| fault.inside("metadata.name"))?;
        for (field, there) in [
            (
                "spec.nodeToNodeMeshEnabled",
                object.spec.node_to_node_mesh_enabled.is_some(),
            ),
            (
                "spec.nodeMeshPassword",
                object.spec.node_mesh_password.is_some(),
            ),
            (
                "spec.nodeMeshMaxRestartTime",
                object.spec.node_mesh_max_restart_time.is_some(),
            ),
        ] {
            require(
                name == DEFAULT || !there,
                field,
                || "is for the configuration named default only",
            )?;
        }
        Ok(())
    }
}

impl Check for BgpConfigurationSpec {
    fn check(&self) -> Checked {
        within("listenPort", self.listen_port, 1, u16::MAX)?;
        for (name, priority) in [
            ("ipv4NormalRoutePriority", self.ipv4_normal_route_priority),
            ("ipv6NormalRoutePriority", self.ipv6_normal_route_priority),
        ] {
            within(name, priority, 1, 2_147_483_646)?;
        }
        if let Some(level) = &self.log_severity_screen {
            let known = LOG_LEVELS
                .iter()
                .any(|known| known.eq_ignore_ascii_case(level));
            require(known, "logSeverityScreen", || {
                format!("{level:?} is none of {}", LOG_LEVELS.join(", "))
            })?;
        }
        let mesh = self.node_to_node_mesh_enabled != Some(false);
        require(
            mesh || self.node_mesh_password.is_none(),
            "nodeMeshPassword",
            || "is of no use without the mesh",
        )?;
        require(
            mesh || self.node_mesh_max_restart_time.is_none(),
            "nodeMeshMaxRestartTime",
            || "is of no use without the mesh",
        )?;
        each("ignoredInterfaces", &self.ignored_interfaces, |name| {
            let fits = (1..=15).contains(&name.len())
                && name != "*"
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"_.*-".contains(&byte));
            require(fits, "", || {
                format!("{name:?} is no name of an interface, with or without `*`")
            })
        })?;
        at_most("communities", &self.communities, 500)?;
        each("communities", &self.communities, |community| {
            let len = community.name.len();
            within("name", Some(len), 1, 253)
                .map_err(|_| Fault::new("name", "is empty or too long"))
        })?;
        at_most("prefixAdvertisements", &self.prefix_advertisements, 500)?;
        each(
            "prefixAdvertisements",
            &self.prefix_advertisements,
            |advertisement| {
                let communities = &advertisement.communities;
                require(!communities.is_empty(), "communities", || "is required")?;
                at_most("communities", communities, 50)?;
                each("communities", communities, |community| {
                    let defined = self
                        .communities
                        .iter()
                        .any(|named| named.name == *community);
                    require(
                        defined || community.parse::<Community>().is_ok(),
                        "",
                        || format!("{community:?} is neither a community nor the name of one"),
                    )
                })
            },
        )
    }
}

impl CheckObject for BgpPeerSpec {}

impl Check for BgpPeerSpec {
    fn check(&self) -> Checked {
        let excludes = |field: &str, there: bool, other: &str, other_there: bool| {
            require(!(there && other_there), field, || {
                format!("excludes {other}")
            })
        };
        let peer_ip = self.peer_ip.is_some();
        let peer_selector = self.peer_selector.is_some();
        let workloads = self.local_workload_selector.is_some();
        excludes(
            "nodeSelector",
            self.node_selector.is_some(),
            "node",
            self.node.is_some(),
        )?;
        excludes("peerSelector", peer_selector, "peerIP", peer_ip)?;
        excludes(
            "peerSelector",
            peer_selector,
            "asNumber",
            self.as_number.is_some(),
        )?;
        excludes("localWorkloadSelector", workloads, "peerIP", peer_ip)?;
        excludes(
            "localWorkloadSelector",
            workloads,
            "peerSelector",
            peer_selector,
        )?;
        require(
            !workloads || self.as_number.is_some(),
            "asNumber",
            || "is required with localWorkloadSelector",
        )?;
        let keep = self.keep_original_next_hop == Some(true);
        excludes(
            "nextHopMode",
            self.next_hop_mode.is_some(),
            "keepOriginalNextHop",
            keep,
        )?;
        if let Some(gateway) = self.reachable_by {
            let Some(peer) = self.peer_ip else {
                return Err(Fault::new("reachableBy", "needs peerIP"));
            };
            require(
                gateway.is_ipv4() == peer.addr.is_ipv4(),
                "reachableBy",
                || "is of another IP version than peerIP",
            )?;
        }
        distinct("filters", &self.filters)
    }
}
