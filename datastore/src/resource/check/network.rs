//! Pools, sets of nets, profiles and tiers.

use ipnet::IpNet;
use serde_json::Value;

use super::{
    Check, CheckObject, Faults,
    names::{check_dns_label, check_labels, check_name},
    rules::{check_rules, not_global},
    typed_status,
};
use crate::{
    resource::{
        AllowedUse, ConditionsStatus, EncapMode, GlobalNetworkSetSpec, IpPoolSpec, NetworkSetSpec,
        Object, ProfileSpec, TierAction, TierSpec,
    },
    selector::Selector,
};

/// The label that tells an object's namespace, which Calico sets itself.
const NAMESPACE_LABEL: &str = "projectcalico.org/namespace";

impl CheckObject for IpPoolSpec {
    fn check_status(status: &Value, faults: &mut Faults) {
        typed_status::<ConditionsStatus>(status, faults);
    }
}

impl Check for IpPoolSpec {
    fn check(&self, faults: &mut Faults) {
        let v4 = self.cidr.is_v4();
        let (low, high) = if v4 { (20, 32) } else { (116, 128) };
        // Zero is what Go's writers leave for "not set".
        let block_size = self.block_size.filter(|len| *len != 0);
        faults.within("blockSize", block_size, low, high);
        if faults.is_strict() {
            self.check_cidr(faults);
            self.check_uses(faults);
        }
    }
}

impl IpPoolSpec {
    fn check_cidr(&self, faults: &mut Faults) {
        let net = self.cidr.net();
        faults.require(net.addr() == self.cidr.addr(), "cidr", || {
            format!("has bits set behind its length; it should be {net}")
        });
        for link_local in link_local() {
            let overlaps = net.contains(&link_local) || link_local.contains(&net);
            faults.require(!overlaps, "cidr", || {
                format!("overlaps the link-local range {link_local}")
            });
        }
        // A pool that is switched off may be what is left of an older layout.
        let fits = self.disabled || self.cidr.prefix_len() <= self.block_len();
        faults.require(fits, "cidr", || {
            format!("is smaller than its blocks of /{}", self.block_len())
        });
    }

    fn check_uses(&self, faults: &mut Faults) {
        let ipip = self.ipip_mode.is_some_and(EncapMode::is_on);
        let vxlan = self.vxlan_mode.is_some_and(EncapMode::is_on);
        faults.exclusive("vxlanMode", vxlan, "ipipMode", ipip);
        faults.require(
            self.cidr.is_v4() || !ipip,
            "ipipMode",
            || "is for IPv4 pools only",
        );
        not_global("nodeSelector", self.node_selector.as_ref(), faults);
        not_global(
            "namespaceSelector",
            self.namespace_selector.as_ref(),
            faults,
        );
        faults.distinct("allowedUses", &self.allowed_uses);
        if self.allowed_uses.contains(&AllowedUse::LoadBalancer) {
            faults.require(
                self.allowed_uses.len() == 1,
                "allowedUses",
                || "holds LoadBalancer, which must be alone",
            );
            faults.require(
                !ipip && !vxlan,
                "allowedUses",
                || "holds LoadBalancer, which excludes encapsulation",
            );
            faults.require(
                !self.disable_bgp_export,
                "disableBGPExport",
                || "must be false for LoadBalancer",
            );
            let all = self.node_selector.as_ref().map(Selector::canonical);
            faults.require(
                all.is_none_or(|text| text == "all()"),
                "nodeSelector",
                || "must be all() for LoadBalancer",
            );
        }
        let tunnel = self.allowed_uses.contains(&AllowedUse::Tunnel);
        faults.require(
            !(tunnel && self.namespace_selector.is_some()),
            "namespaceSelector",
            || "excludes Tunnel among the allowedUses",
        );
    }
}

/// RFC 3927 §2.1 and RFC 4291 §2.5.6.
fn link_local() -> [IpNet; 2] {
    [
        ipnet::Ipv4Net::new_assert(std::net::Ipv4Addr::new(169, 254, 0, 0), 16).into(),
        ipnet::Ipv6Net::new_assert(std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10).into(),
    ]
}

impl CheckObject for NetworkSetSpec {
    fn check_object(object: &Object<Self>, faults: &mut Faults) {
        check_set(object, faults);
    }
}

impl Check for NetworkSetSpec {
    fn check(&self, _: &mut Faults) {}
}

impl CheckObject for GlobalNetworkSetSpec {
    fn check_object(object: &Object<Self>, faults: &mut Faults) {
        check_set(object, faults);
    }
}

impl Check for GlobalNetworkSetSpec {
    fn check(&self, _: &mut Faults) {}
}

fn check_set<S>(object: &Object<S>, faults: &mut Faults) {
    if faults.is_strict() {
        faults.at("metadata.name", |faults| {
            check_name(&object.metadata.name, faults);
        });
        let reserved = object.metadata.labels.contains_key(NAMESPACE_LABEL);
        faults.require(!reserved, "metadata.labels", || {
            format!("holds {NAMESPACE_LABEL}, which tells the object's own namespace")
        });
    }
}

impl CheckObject for ProfileSpec {}

impl Check for ProfileSpec {
    fn check(&self, faults: &mut Faults) {
        check_rules(&self.ingress, &self.egress, faults);
        if faults.is_strict() {
            faults.at("labelsToApply", |faults| {
                check_labels(&self.labels_to_apply, faults);
            });
        }
    }
}

impl CheckObject for TierSpec {
    fn check_object(object: &Object<Self>, faults: &mut Faults) {
        if !faults.is_strict() {
            return;
        }
        let name = object.metadata.name.as_str();
        faults.at("metadata.name", |faults| check_dns_label(name, faults));
        let (order, action) = match name {
            "default" => (1_000_000.0, TierAction::Deny),
            "kube-admin" => (1_000.0, TierAction::Pass),
            "kube-baseline" => (10_000_000.0, TierAction::Pass),
            _ => return,
        };
        faults.within("spec.order", object.spec.order, order, order);
        let own = object.spec.default_action.unwrap_or_default();
        faults.require(own == action, "spec.defaultAction", || {
            format!("must be {action:?} in tier {name}")
        });
    }

    fn check_status(status: &Value, faults: &mut Faults) {
        typed_status::<ConditionsStatus>(status, faults);
    }
}

impl Check for TierSpec {
    fn check(&self, _: &mut Faults) {}
}
