//! Rules of policies and profiles.

use super::{Check, Faults, names::check_annotations};
use crate::{
    resource::{EntityRule, HttpMatch, Icmp, Rule},
    selector::Selector,
    value::{Action, Cidr, IpVersion, Port, Protocol},
};

const ICMP: u8 = 1;
const ICMP_V6: u8 = 58;
const TCP: u8 = 6;

/// The rules of a policy or a profile.
pub(super) fn check_rules(ingress: &[Rule], egress: &[Rule], faults: &mut Faults) {
    for (name, rules) in [("ingress", ingress), ("egress", egress)] {
        faults.each(name, rules, Check::check);
    }
}

impl Check for Rule {
    fn check(&self, faults: &mut Faults) {
        for (name, protocol) in [
            ("protocol", &self.protocol),
            ("notProtocol", &self.not_protocol),
        ] {
            if let Some(protocol) = protocol {
                faults.at(name, |faults| protocol.check(faults));
            }
        }
        for (name, icmp) in [("icmp", &self.icmp), ("notICMP", &self.not_icmp)] {
            if let Some(icmp) = icmp {
                faults.at(name, |faults| icmp.check(faults));
            }
        }
        for (name, entity) in [("source", &self.source), ("destination", &self.destination)] {
            faults.at(name, |faults| entity.check(faults));
        }
        self.check_ports(faults);
        if !faults.is_strict() {
            return;
        }
        self.check_icmp(faults);
        self.check_families(faults);
        self.check_http(faults);
        if self.destination.services.is_some() {
            for (name, ports) in [
                ("ports", &self.destination.ports),
                ("notPorts", &self.destination.not_ports),
            ] {
                faults.require(
                    ports.is_empty(),
                    &format!("destination.{name}"),
                    || "cannot be with services, which have ports of their own",
                );
            }
        }
        if let Some(metadata) = &self.metadata {
            faults.at("metadata.annotations", |faults| {
                check_annotations(&metadata.annotations, faults);
            });
        }
    }
}

impl Rule {
    fn check_icmp(&self, faults: &mut Faults) {
        let number = self.protocol.as_ref().and_then(Protocol::number);
        let is_icmp = matches!(number, Some(ICMP | ICMP_V6));
        faults.require(
            self.icmp.is_none() || is_icmp,
            "icmp",
            || "needs protocol ICMP or ICMPv6",
        );
        for (name, protocol) in [
            ("protocol", &self.protocol),
            ("notProtocol", &self.not_protocol),
        ] {
            let wanted = match protocol.as_ref().and_then(Protocol::number) {
                Some(ICMP) => IpVersion::V4,
                Some(ICMP_V6) => IpVersion::V6,
                Some(_) | None => continue,
            };
            faults.require(
                self.ip_version.is_none_or(|version| version == wanted),
                name,
                || "is not of the rule's ipVersion",
            );
        }
    }

    fn check_families(&self, faults: &mut Faults) {
        let mut family = self.ip_version.map(|version| (version, "ipVersion"));
        for (side, entity) in [("source", &self.source), ("destination", &self.destination)] {
            for (list, nets) in [("nets", &entity.nets), ("notNets", &entity.not_nets)] {
                faults.each(&format!("{side}.{list}"), nets, |net, faults| {
                    let own = family_of(net);
                    let (first, whose) = *family.get_or_insert((own, "other nets"));
                    faults.require(first == own, "", || {
                        format!("is of another IP version than the rule's {whose}")
                    });
                });
            }
        }
    }

    fn check_ports(&self, faults: &mut Faults) {
        for (side, entity) in [("source", &self.source), ("destination", &self.destination)] {
            for (list, ports) in [("ports", &entity.ports), ("notPorts", &entity.not_ports)] {
                let any = |number: bool| ports.iter().any(|port| number == port.range().is_some());
                let fits = match &self.protocol {
                    Some(protocol) => protocol.supports_ports() || ports.is_empty(),
                    // A name stands for a port of a protocol.
                    None => !any(true),
                };
                faults.require(
                    fits,
                    &format!("{side}.{list}"),
                    || "needs protocol TCP, UDP or SCTP",
                );
            }
        }
    }

    fn check_http(&self, faults: &mut Faults) {
        let Some(http) = &self.http else {
            return;
        };
        faults.require(
            self.action == Action::Allow,
            "http",
            || "is for rules that allow only",
        );
        let is_tcp = self
            .protocol
            .as_ref()
            .is_none_or(|protocol| protocol.number() == Some(TCP));
        faults.require(is_tcp, "http", || "needs protocol TCP or none");
        faults.at("http", |faults| http.check(faults));
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
    fn check(&self, faults: &mut Faults) {
        match self {
            Protocol::Number(0) => faults.add("", "0 is no protocol that a rule can match"),
            Protocol::Number(_) => {}
            Protocol::Name(name) => faults.require(self.number().is_some(), "", || {
                format!("{name:?} is none of TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite, 1 to 255")
            }),
        }
    }
}

impl Check for Icmp {
    fn check(&self, faults: &mut Faults) {
        faults.within("type", self.kind, 0, 254);
        if faults.is_strict() {
            faults.require(
                self.code.is_none() || self.kind.is_some(),
                "code",
                || "needs a type",
            );
        }
    }
}

impl Check for EntityRule {
    fn check(&self, faults: &mut Faults) {
        for (name, ports) in [("ports", &self.ports), ("notPorts", &self.not_ports)] {
            faults.each(name, ports, Check::check);
        }
        if !faults.is_strict() {
            return;
        }
        faults.each("notNets", &self.not_nets, |net, faults| {
            faults.require(
                net.prefix_len() > 0,
                "",
                || "excludes everything, so that the rule could never match",
            );
        });
        not_global("selector", self.selector.as_ref(), faults);
        not_global("notSelector", self.not_selector.as_ref(), faults);
        if let Some(selector) = &self.namespace_selector {
            let alone = !selector.mentions_global() || selector.canonical() == "global()";
            faults.require(
                alone,
                "namespaceSelector",
                || "holds global(), which must stand alone",
            );
        }
        if let Some(accounts) = &self.service_accounts {
            not_global(
                "serviceAccounts.selector",
                accounts.selector.as_ref(),
                faults,
            );
        }
        let Some(services) = &self.services else {
            return;
        };
        faults.require(!services.name.is_empty(), "services.name", || "is required");
        for (name, there) in [
            ("nets", !self.nets.is_empty()),
            ("notNets", !self.not_nets.is_empty()),
            ("selector", self.selector.is_some()),
            ("notSelector", self.not_selector.is_some()),
            ("namespaceSelector", self.namespace_selector.is_some()),
            ("serviceAccounts", self.service_accounts.is_some()),
        ] {
            faults.require(!there, "services", || format!("cannot be with {name}"));
        }
    }
}

impl Check for Port {
    fn check(&self, faults: &mut Faults) {
        faults.require(
            self.range().is_none_or(|range| *range.start() > 0),
            "",
            || format!("{self} holds 0, which is no port"),
        );
    }
}

impl Check for HttpMatch {
    fn check(&self, faults: &mut Faults) {
        faults.distinct("methods", &self.methods);
        faults.each("methods", &self.methods, |method, faults| {
            let fits = !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_graphic());
            faults.require(fits, "", || format!("{method:?} is no method"));
        });
        faults.each("paths", &self.paths, |path, faults| {
            faults.require(
                path.exact.is_some() != path.prefix.is_some(),
                "",
                || "needs either exact or prefix",
            );
            for (name, text) in [("exact", &path.exact), ("prefix", &path.prefix)] {
                let fits = |text: &String| text.starts_with('/') && !text.contains(['?', '#', ' ']);
                faults.require(
                    text.as_ref().is_none_or(fits),
                    name,
                    || "must begin with / and hold no space, ? or #",
                );
            }
        });
    }
}

/// `global()` has a meaning only where namespaces are selected in a rule.
pub(super) fn not_global(name: &str, selector: Option<&Selector>, faults: &mut Faults) {
    let mentions = selector.is_some_and(Selector::mentions_global);
    faults.require(
        !mentions,
        name,
        || "holds global(), which is for the namespaceSelector of rules only",
    );
}
