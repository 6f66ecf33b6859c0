//! Pools, sets of nets, profiles and tiers.

use ipnet::IpNet;

use super::{
    Check, CheckObject, Checked, at_most, distinct,
    names::{check_dns_label, check_labels, check_name},
    require,
    rules::{check_rules, not_global},
    within,
};
use crate::{
    resource::{
        AllowedUse, GlobalNetworkSetSpec, IpPoolSpec, NetworkSetSpec, Object, ProfileSpec,
        TierAction, TierSpec,
    },
    selector::Selector,
};

/// The label that tells an object's namespace, which Calico sets itself.
const NAMESPACE_LABEL: &str = "projectcalico.org/namespace";

impl CheckObject for IpPoolSpec {}

impl Check for IpPoolSpec {
    fn check(&self) -> Checked {
        let v4 = self.cidr.is_v4();
        require(self.cidr.net().addr() == self.cidr.addr(), "cidr", || {
            format!(
                "has bits set behind its length; it should be {}",
                self.cidr.net()
            )
        })?;
        for link_local in link_local() {
            let net = self.cidr.net();
            let overlaps = net.contains(&link_local) || link_local.contains(&net);
            require(!overlaps, "cidr", || {
                format!("overlaps the link-local range {link_local}")
            })?;
        }
        let (low, high) = if v4 { (20, 32) } else { (116, 128) };
        within("blockSize", self.block_size, low, high)?;
        // A pool that is switched off may be what is left of an older layout.
        let fits = self.disabled || self.cidr.prefix_len() <= self.block_len();
        require(fits, "cidr", || {
            format!("is smaller than its blocks of /{}", self.block_len())
        })?;
        let ipip = self.ipip_mode.is_some_and(super::super::EncapMode::is_on);
        let vxlan = self.vxlan_mode.is_some_and(super::super::EncapMode::is_on);
        require(!(ipip && vxlan), "vxlanMode", || "excludes ipipMode")?;
        require(v4 || !ipip, "ipipMode", || "is for IPv4 pools only")?;
        not_global("nodeSelector", self.node_selector.as_ref())?;
        not_global("namespaceSelector", self.namespace_selector.as_ref())?;
        at_most("allowedUses", &self.allowed_uses, 10)?;
        distinct("allowedUses", &self.allowed_uses)?;
        if self.allowed_uses.contains(&AllowedUse::LoadBalancer) {
            require(
                self.allowed_uses.len() == 1,
                "allowedUses",
                || "holds LoadBalancer, which must be alone",
            )?;
            require(
                !ipip && !vxlan,
                "allowedUses",
                || "holds LoadBalancer, which excludes encapsulation",
            )?;
            let all = self.node_selector.as_ref().map(Selector::canonical);
            require(
                all.is_none_or(|text| text == "all()"),
                "nodeSelector",
                || "must be all() for LoadBalancer",
            )?;
        }
        let tunnel = self.allowed_uses.contains(&AllowedUse::Tunnel);
        require(
            !(tunnel && self.namespace_selector.is_some()),
            "namespaceSelector",
            || "excludes Tunnel among the allowedUses",
        )
    }
}

/// RFC 3927 §2.1 and RFC 4291 §2.5.6.
fn link_local() -> [IpNet; 2] {
    [
        ipnet::Ipv4Net::new_assert(std::net::Ipv4Addr::new(169, 254, 0, 0), 16).into(),
        ipnet::Ipv6Net::new_assert(std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10).into(),
    ]
}

impl CheckObject for NetworkSetSpec {}

impl Check for NetworkSetSpec {
    fn check(&self) -> Checked {
        Ok(())
    }
}

impl CheckObject for GlobalNetworkSetSpec {
    fn check_object(object: &Object<Self>) -> Checked {
        let reserved = object.metadata.labels.contains_key(NAMESPACE_LABEL);
        require(!reserved, "metadata.labels", || {
            format!("holds {NAMESPACE_LABEL}, which is for objects in a namespace")
        })?;
        check_name(&object.metadata.name).map_err(|fault| fault.inside("metadata.name"))
    }
}

impl Check for GlobalNetworkSetSpec {
    fn check(&self) -> Checked {
        Ok(())
    }
}

impl CheckObject for ProfileSpec {}

impl Check for ProfileSpec {
    fn check(&self) -> Checked {
        check_rules(&self.ingress, &self.egress)?;
        check_labels(&self.labels_to_apply).map_err(|fault| fault.inside("labelsToApply"))
    }
}

impl CheckObject for TierSpec {
    fn check_object(object: &Object<Self>) -> Checked {
        let name = object.metadata.name.as_str();
        check_dns_label(name).map_err(|fault| fault.inside("metadata.name"))?;
        let (order, action) = match name {
            "default" => (1_000_000.0, TierAction::Deny),
            "kube-admin" => (1_000.0, TierAction::Pass),
            "kube-baseline" => (10_000_000.0, TierAction::Pass),
            _ => return Ok(()),
        };
        within("spec.order", object.spec.order, order, order)?;
        let own = object.spec.default_action.unwrap_or_default();
        require(own == action, "spec.defaultAction", || {
            format!("must be {action:?} in tier {name}")
        })
    }
}

impl Check for TierSpec {
    fn check(&self) -> Checked {
        Ok(())
    }
}
