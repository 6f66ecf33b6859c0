//! Policies, enforced and staged.

use serde_json::Value;

use super::{
    Check, CheckObject, Faults,
    names::{check_dns_label, check_policy_name, is_dns_subdomain},
    rules::{check_rules, not_global},
};
use crate::{
    resource::{
        GlobalNetworkPolicySpec, KubernetesPeer, KubernetesPort, LabelOperator, LabelSelector,
        NetworkPolicySpec, Object, PolicyType, Rule, Spec, StagedAction,
        StagedGlobalNetworkPolicySpec, StagedKubernetesNetworkPolicySpec, StagedNetworkPolicySpec,
        TargetPort, staged::STAGED_ACTION,
    },
    selector::Selector,
};

/// What begins the names of copies of Kubernetes' policies, and of security groups of OpenStack.
const IN_NAMESPACE: [&str; 2] = ["knp.", "ossg."];
/// What begins the names of copies of Kubernetes' policies for the whole cluster.
const GLOBAL: [&str; 3] = ["kcnp.", "kanp.", "kbanp."];

impl CheckObject for NetworkPolicySpec {
    fn check_object(object: &Object<Self>, faults: &mut Faults) {
        check_policy_object(object, &IN_NAMESPACE, faults);
    }
}

impl Check for NetworkPolicySpec {
    fn check(&self, faults: &mut Faults) {
        check_policy(
            self.tier.as_deref(),
            &self.types,
            [&self.ingress, &self.egress],
            &self.performance_hints,
            faults,
        );
        if faults.is_strict() {
            check_selectors(
                &[
                    ("selector", &self.selector),
                    ("serviceAccountSelector", &self.service_account_selector),
                ],
                faults,
            );
        }
    }
}

impl CheckObject for GlobalNetworkPolicySpec {
    fn check_object(object: &Object<Self>, faults: &mut Faults) {
        check_policy_object(object, &GLOBAL, faults);
    }
}

impl Check for GlobalNetworkPolicySpec {
    fn check(&self, faults: &mut Faults) {
        check_policy(
            self.tier.as_deref(),
            &self.types,
            [&self.ingress, &self.egress],
            &self.performance_hints,
            faults,
        );
        if !faults.is_strict() {
            return;
        }
        check_selectors(
            &[
                ("selector", &self.selector),
                ("namespaceSelector", &self.namespace_selector),
                ("serviceAccountSelector", &self.service_account_selector),
            ],
            faults,
        );
        // Without a namespace of its own, a policy must say whose service is meant.
        for (name, rules) in [("ingress", &self.ingress), ("egress", &self.egress)] {
            faults.each(name, rules, |rule, faults| {
                for (side, entity) in [("source", &rule.source), ("destination", &rule.destination)]
                {
                    let says = entity.services.as_ref();
                    faults.require(
                        says.is_none_or(|service| service.namespace.is_some()),
                        &format!("{side}.services.namespace"),
                        || "is required",
                    );
                }
            });
        }
        self.check_hooks(faults);
    }
}

impl GlobalNetworkPolicySpec {
    /// What applies before connections are tracked or addresses translated.
    fn check_hooks(&self, faults: &mut Faults) {
        faults.exclusive("preDNAT", self.pre_dnat, "doNotTrack", self.do_not_track);
        for (name, set) in [
            ("doNotTrack", self.do_not_track),
            ("preDNAT", self.pre_dnat),
        ] {
            faults.require(!set || self.apply_on_forward, "applyOnForward", || {
                format!("must be true with {name}")
            });
        }
        if self.pre_dnat {
            faults.require(
                self.egress.is_empty(),
                "egress",
                || "must be empty with preDNAT",
            );
            faults.require(
                !self.types.contains(&PolicyType::Egress),
                "types",
                || "must not hold Egress with preDNAT",
            );
        }
    }
}

fn check_policy_object<S: Spec>(object: &Object<S>, prefixes: &[&str], faults: &mut Faults) {
    if faults.is_strict() {
        faults.at("metadata.name", |faults| {
            check_policy_name(&object.metadata.name, prefixes, faults);
        });
    }
}

fn check_policy(
    tier: Option<&str>,
    types: &[PolicyType],
    [ingress, egress]: [&[Rule]; 2],
    hints: &[String],
    faults: &mut Faults,
) {
    faults.distinct("performanceHints", hints);
    faults.each("performanceHints", hints, |hint, faults| {
        faults.require(hint == "AssumeNeededOnEveryNode", "", || {
            format!("{hint:?} is not AssumeNeededOnEveryNode")
        });
    });
    check_rules(ingress, egress, faults);
    if !faults.is_strict() {
        return;
    }
    if let Some(tier) = tier {
        faults.at("tier", |faults| check_dns_label(tier, faults));
    }
    faults.distinct("types", types);
    faults.each("ingress", ingress, |rule, faults| {
        faults.require(
            rule.destination.services.is_none(),
            "destination.services",
            || "is for egress rules only",
        );
    });
    faults.each("egress", egress, |rule, faults| {
        faults.require(rule.http.is_none(), "http", || "is for ingress rules only");
        faults.require(
            rule.source.services.is_none(),
            "source.services",
            || "is for ingress rules only",
        );
    });
}

fn check_selectors(selectors: &[(&str, &Option<Selector>)], faults: &mut Faults) {
    for (name, selector) in selectors {
        not_global(name, selector.as_ref(), faults);
    }
}

impl CheckObject for StagedNetworkPolicySpec {
    fn check_object(object: &Object<Self>, faults: &mut Faults) {
        check_policy_object(object, &IN_NAMESPACE, faults);
    }
}

impl Check for StagedNetworkPolicySpec {
    fn check(&self, faults: &mut Faults) {
        let policy = &self.policy;
        let mut bare = NetworkPolicySpec {
            tier: policy.tier.clone(),
            ..NetworkPolicySpec::default()
        };
        bare.extra.clone_from(&policy.extra);
        check_staged(
            policy.extra.get(STAGED_ACTION),
            self.action(),
            *policy == bare,
            faults,
        );
        policy.check(faults);
    }
}

impl CheckObject for StagedGlobalNetworkPolicySpec {
    fn check_object(object: &Object<Self>, faults: &mut Faults) {
        check_policy_object(object, &GLOBAL, faults);
    }
}

impl Check for StagedGlobalNetworkPolicySpec {
    fn check(&self, faults: &mut Faults) {
        let policy = &self.policy;
        let mut bare = GlobalNetworkPolicySpec {
            tier: policy.tier.clone(),
            ..GlobalNetworkPolicySpec::default()
        };
        bare.extra.clone_from(&policy.extra);
        check_staged(
            policy.extra.get(STAGED_ACTION),
            self.action(),
            *policy == bare,
            faults,
        );
        policy.check(faults);
    }
}

/// A policy that is to be deleted says no more than its tier.
fn check_staged(written: Option<&Value>, action: StagedAction, bare: bool, faults: &mut Faults) {
    let known = match written {
        None => true,
        Some(Value::String(word)) => word.is_empty() || word.parse::<StagedAction>().is_ok(),
        Some(_) => false,
    };
    faults.require(
        known,
        STAGED_ACTION,
        || "is none of Set, Delete, Learn and Ignore",
    );
    if faults.is_strict() {
        faults.require(
            action != StagedAction::Delete || bare,
            STAGED_ACTION,
            || "is Delete, which excludes every other field but tier",
        );
    }
}

impl CheckObject for StagedKubernetesNetworkPolicySpec {
    fn check_object(object: &Object<Self>, faults: &mut Faults) {
        if faults.is_strict() {
            let name = &object.metadata.name;
            faults.require(is_dns_subdomain(name), "metadata.name", || {
                format!("{name:?} is no name of lower-case letters, digits, `-` and `.`")
            });
        }
    }
}

impl Check for StagedKubernetesNetworkPolicySpec {
    fn check(&self, faults: &mut Faults) {
        if !faults.is_strict() {
            return;
        }
        let bare = Self {
            staged_action: self.staged_action,
            extra: self.extra.clone(),
            ..Self::default()
        };
        check_staged(None, self.action(), *self == bare, faults);
        faults.distinct("policyTypes", &self.policy_types);
        if let Some(selector) = &self.pod_selector {
            faults.at("podSelector", |faults| selector.check(faults));
        }
        faults.each("ingress", &self.ingress, |rule, faults| {
            faults.each("from", &rule.from, Check::check);
            faults.each("ports", &rule.ports, Check::check);
        });
        faults.each("egress", &self.egress, |rule, faults| {
            faults.each("to", &rule.to, Check::check);
            faults.each("ports", &rule.ports, Check::check);
        });
    }
}

impl Check for KubernetesPeer {
    fn check(&self, faults: &mut Faults) {
        let selectors = [
            ("namespaceSelector", &self.namespace_selector),
            ("podSelector", &self.pod_selector),
        ];
        for (name, selector) in selectors {
            faults.exclusive("ipBlock", self.ip_block.is_some(), name, selector.is_some());
            if let Some(selector) = selector {
                faults.at(name, |faults| selector.check(faults));
            }
        }
        if let Some(block) = &self.ip_block {
            faults.each("ipBlock.except", &block.except, |except, faults| {
                faults.require(block.cidr.net().contains(&except.net()), "", || {
                    format!("{except} is not inside of {}", block.cidr)
                });
            });
        }
    }
}

impl Check for KubernetesPort {
    fn check(&self, faults: &mut Faults) {
        match (&self.port, self.end_port) {
            (Some(TargetPort::Number(port)), end) => {
                faults.require(*port > 0, "port", || "0 is no port");
                faults.require(
                    end.is_none_or(|end| end >= *port),
                    "endPort",
                    || "is below port",
                );
            }
            (Some(TargetPort::Name(_)) | None, end) => {
                faults.require(end.is_none(), "endPort", || "needs a port by number");
            }
        }
    }
}

impl Check for LabelSelector {
    fn check(&self, faults: &mut Faults) {
        faults.each(
            "matchExpressions",
            &self.match_expressions,
            |needed, faults| {
                let values = matches!(needed.operator, LabelOperator::In | LabelOperator::NotIn);
                faults.require(values != needed.values.is_empty(), "values", || {
                    format!("do not fit to {}", needed.operator)
                });
            },
        );
    }
}
