//! Policies and rules.

use super::{
    Check, CheckObject, Checked, Fault, at_most, distinct, each, field,
    names::{check_annotations, check_dns_label, check_policy_name},
    optional, require, within,
};
use crate::{
    resource::{
        EntityRule, GlobalNetworkPolicySpec, HttpMatch, Icmp, NetworkPolicySpec, Object,
        PolicyType, Rule,
    },
    selector::Selector,
    value::{Action, Cidr, IpVersion, Port, Protocol},
};

const MAX_RULES: usize = 1024;
const MAX_NETS: usize = 256;
const MAX_PORTS: usize = 50;
const MAX_HTTP: usize = 20;
const ICMP: u8 = 1;
const ICMP_V6: u8 = 58;
const TCP: u8 = 6;

impl CheckObject for NetworkPolicySpec {
    fn check_object(object: &Object<Self>) -> Checked {
        // Copies of Kubernetes' policies, and security groups of OpenStack.
        check_policy_name(&object.metadata.name, &["knp.", "ossg."])
            .map_err(|fault| fault.inside("metadata.name"))
    }
}

impl Check for NetworkPolicySpec {
    fn check(&self) -> Checked {
        check_policy(
            self.tier.as_deref(),
            &self.types,
            &self.ingress,
            &self.egress,
            &self.performance_hints,
        )?;
        not_global("selector", self.selector.as_ref())?;
        not_global(
            "serviceAccountSelector",
            self.service_account_selector.as_ref(),
        )
    }
}

impl CheckObject for GlobalNetworkPolicySpec {
    fn check_object(object: &Object<Self>) -> Checked {
        check_policy_name(&object.metadata.name, &["kcnp.", "kanp.", "kbanp."])
            .map_err(|fault| fault.inside("metadata.name"))
    }
}

impl Check for GlobalNetworkPolicySpec {
    fn check(&self) -> Checked {
        check_policy(
            self.tier.as_deref(),
            &self.types,
            &self.ingress,
            &self.egress,
            &self.performance_hints,
        )?;
        not_global("selector", self.selector.as_ref())?;
        not_global("namespaceSelector", self.namespace_selector.as_ref())?;
        not_global(
            "serviceAccountSelector",
            self.service_account_selector.as_ref(),
        )?;
        require(
            !(self.do_not_track && self.pre_dnat),
            "preDNAT",
            || "excludes doNotTrack",
        )?;
        for (name, set) in [
            ("doNotTrack", self.do_not_track),
            ("preDNAT", self.pre_dnat),
        ] {
            require(!set || self.apply_on_forward, "applyOnForward", || {
                format!("must be true with {name}")
            })?;
        }
        if self.pre_dnat {
            require(
                self.egress.is_empty(),
                "egress",
                || "must be empty with preDNAT",
            )?;
            require(
                !self.types.contains(&PolicyType::Egress),
                "types",
                || "must not hold Egress with preDNAT",
            )?;
        }
        Ok(())
    }
}

fn check_policy(
    tier: Option<&str>,
    types: &[PolicyType],
    ingress: &[Rule],
    egress: &[Rule],
    hints: &[String],
) -> Checked {
    if let Some(tier) = tier {
        check_dns_label(tier).map_err(|fault| fault.inside("tier"))?;
    }
    distinct("types", types)?;
    distinct("performanceHints", hints)?;
    each("performanceHints", hints, |hint| {
        require(hint == "AssumeNeededOnEveryNode", "", || {
            format!("{hint:?} is not AssumeNeededOnEveryNode")
        })
    })?;
    check_rules(ingress, egress)?;
    each("egress", egress, |rule| {
        require(rule.http.is_none(), "http", || "is for ingress rules only")
    })
}

/// The rules of a policy or a profile.
pub(super) fn check_rules(ingress: &[Rule], egress: &[Rule]) -> Checked {
    for (name, rules) in [("ingress", ingress), ("egress", egress)] {
        at_most(name, rules, MAX_RULES)?;
        each(name, rules, Check::check)?;
    }
    Ok(())
}

impl Check for Rule {
    fn check(&self) -> Checked {
        optional("protocol", self.protocol.as_ref())?;
        optional("notProtocol", self.not_protocol.as_ref())?;
        optional("icmp", self.icmp.as_ref())?;
        optional("notICMP", self.not_icmp.as_ref())?;
        field("source", &self.source)?;
        field("destination", &self.destination)?;
        self.check_icmp()?;
        self.check_families()?;
        self.check_ports()?;
        self.check_http()?;
        let services = self.destination.services.is_some();
        let ports = self.destination.ports.is_empty() && self.destination.not_ports.is_empty();
        require(
            !services || ports,
            "destination.ports",
            || "cannot be with services, which have ports of their own",
        )?;
        match &self.metadata {
            Some(metadata) => check_annotations(&metadata.annotations)
                .map_err(|fault| fault.inside("metadata.annotations")),
            None => Ok(()),
        }
    }
}

impl Rule {
    fn check_icmp(&self) -> Checked {
        let number = self.protocol.as_ref().and_then(Protocol::number);
        let is_icmp = matches!(number, Some(ICMP | ICMP_V6));
        require(
            self.icmp.is_none() || is_icmp,
            "icmp",
            || "needs protocol ICMP or ICMPv6",
        )?;
        for (name, protocol) in [
            ("protocol", &self.protocol),
            ("notProtocol", &self.not_protocol),
        ] {
            let wanted = match protocol.as_ref().and_then(Protocol::number) {
                Some(ICMP) => IpVersion::V4,
                Some(ICMP_V6) => IpVersion::V6,
                Some(_) | None => continue,
            };
            require(
                self.ip_version.is_none_or(|version| version == wanted),
                name,
                || "is not of the rule's ipVersion",
            )?;
        }
        Ok(())
    }

    fn check_families(&self) -> Checked {
        let mut family = self.ip_version.map(|version| (version, "ipVersion"));
        for (side, entity) in [("source", &self.source), ("destination", &self.destination)] {
            for (list, nets) in [("nets", &entity.nets), ("notNets", &entity.not_nets)] {
                each(&format!("{side}.{list}"), nets, |net| {
                    let own = family_of(net);
                    match family {
                        Some((first, whose)) if first != own => Err(Fault::new(
                            "",
                            format!("is of another IP version than the rule's {whose}"),
                        )),
                        Some(_) | None => Ok(()),
                    }
                })?;
                if let Some(first) = nets.first() {
                    family.get_or_insert((family_of(first), "other nets"));
                    // A list of both families is at odds with itself.
                    each(&format!("{side}.{list}"), nets, |net| {
                        require(
                            family_of(net) == family_of(first),
                            "",
                            || "is of another IP version than the rule's other nets",
                        )
                    })?;
                }
            }
        }
        Ok(())
    }

    fn check_ports(&self) -> Checked {
        for (side, entity) in [("source", &self.source), ("destination", &self.destination)] {
            for (list, ports) in [("ports", &entity.ports), ("notPorts", &entity.not_ports)] {
                let any = |number: bool| ports.iter().any(|port| number == port.range().is_some());
                let fits = match &self.protocol {
                    Some(protocol) => protocol.supports_ports() || ports.is_empty(),
                    // A name stands for a port of a protocol.
                    None => !any(true),
                };
                require(
                    fits,
                    &format!("{side}.{list}"),
                    || "needs protocol TCP, UDP or SCTP",
                )?;
            }
        }
        Ok(())
    }

    fn check_http(&self) -> Checked {
        let Some(http) = &self.http else {
            return Ok(());
        };
        require(
            self.action == Action::Allow,
            "http",
            || "is for rules that allow only",
        )?;
        let is_tcp = self
            .protocol
            .as_ref()
            .is_none_or(|protocol| protocol.number() == Some(TCP));
        require(is_tcp, "http", || "needs protocol TCP or none")?;
        field("http", http)
    }
}

fn family_of(net: &Cidr) -> IpVersion {
    if net.is_v4() {
        IpVersion::V4
    } else {
        IpVersion::V6
    }
}

impl Check for Protocol {
    fn check(&self) -> Checked {
        match self {
            Protocol::Number(0) => Err(Fault::new("", "0 is no protocol that a rule can match")),
            Protocol::Number(_) => Ok(()),
            Protocol::Name(name) => require(self.number().is_some(), "", || {
                format!("{name:?} is none of TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite, 1 to 255")
            }),
        }
    }
}

impl Check for Icmp {
    fn check(&self) -> Checked {
        within("type", self.kind, 0, 254)?;
        require(
            self.code.is_none() || self.kind.is_some(),
            "code",
            || "needs a type",
        )
    }
}

impl Check for EntityRule {
    fn check(&self) -> Checked {
        for (name, nets) in [("nets", &self.nets), ("notNets", &self.not_nets)] {
            at_most(name, nets, MAX_NETS)?;
        }
        each("notNets", &self.not_nets, |net| {
            require(
                net.prefix_len() > 0,
                "",
                || "excludes everything, so that the rule could never match",
            )
        })?;
        for (name, ports) in [("ports", &self.ports), ("notPorts", &self.not_ports)] {
            at_most(name, ports, MAX_PORTS)?;
            each(name, ports, Check::check)?;
        }
        not_global("selector", self.selector.as_ref())?;
        not_global("notSelector", self.not_selector.as_ref())?;
        if let Some(selector) = &self.namespace_selector {
            let alone = !selector.mentions_global() || selector.canonical() == "global()";
            require(
                alone,
                "namespaceSelector",
                || "holds global(), which must stand alone",
            )?;
        }
        if let Some(accounts) = &self.service_accounts {
            not_global("serviceAccounts.selector", accounts.selector.as_ref())?;
        }
        let Some(services) = &self.services else {
            return Ok(());
        };
        require(!services.name.is_empty(), "services.name", || "is required")?;
        for (name, there) in [
            ("nets", !self.nets.is_empty()),
            ("notNets", !self.not_nets.is_empty()),
            ("selector", self.selector.is_some()),
            ("notSelector", self.not_selector.is_some()),
            ("namespaceSelector", self.namespace_selector.is_some()),
            ("serviceAccounts", self.service_accounts.is_some()),
        ] {
            require(!there, "services", || format!("cannot be with {name}"))?;
        }
        Ok(())
    }
}

impl Check for Port {
    fn check(&self) -> Checked {
        require(
            self.range().is_none_or(|range| *range.start() > 0),
            "",
            || format!("{self} holds 0, which is no port"),
        )
    }
}

impl Check for HttpMatch {
    fn check(&self) -> Checked {
        at_most("methods", &self.methods, MAX_HTTP)?;
        distinct("methods", &self.methods)?;
        each("methods", &self.methods, |method| {
            let fits = !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_graphic());
            require(fits, "", || format!("{method:?} is no method"))
        })?;
        at_most("paths", &self.paths, MAX_HTTP)?;
        each("paths", &self.paths, |path| {
            require(
                path.exact.is_some() != path.prefix.is_some(),
                "",
                || "needs either exact or prefix",
            )?;
            for (name, text) in [("exact", &path.exact), ("prefix", &path.prefix)] {
                let len = text.as_ref().map(String::len);
                within(name, len, 1, 1024).map_err(|_| Fault::new(name, "is too long"))?;
            }
            Ok(())
        })
    }
}

/// `global()` has a meaning only where namespaces are selected in a rule.
pub(super) fn not_global(name: &str, selector: Option<&Selector>) -> Checked {
    let mentions = selector.is_some_and(Selector::mentions_global);
    require(
        !mentions,
        name,
        || "holds global(), which is for the namespaceSelector of rules only",
    )
}
