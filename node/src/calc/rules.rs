//! From a rule as written to the matches that together say the same.
//!
//! A rule is a conjunction with alternatives inside (nets, ports by number or name). One [`Match`] is a plain conjunction over
//! the four dimensions of a packet, so named ports, and above all negated named ports, need several.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use cleat_bpf::policy::ProtocolSet;
use cleat_datastore::resource::{EntityRule, Icmp, Rule};
use cleat_datastore::selector::Selector;
use cleat_datastore::value::{Action, Cidr, IpVersion, Port};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::atoms::{Atom, AtomId, Expr};
use super::ports::Ports;
use super::scope;

/// A conjunction over the dimensions of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// What the source must be.
    pub src: Expr,
    /// What the destination must be.
    pub dst: Expr,
    /// Protocols.
    pub protocols: ProtocolSet,
    /// Destination ports, or ICMP type << 8 | code.
    pub l4: Option<Vec<RangeInclusive<u16>>>,
    /// Source ports.
    pub sport: Option<Vec<RangeInclusive<u16>>>,
}

/// A rule ready to be put into a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CompiledRule {
    /// What it does.
    pub action: Action,
    /// When: any of these.
    pub matches: Vec<Match>,
    /// What it asks, in words.
    pub text: String,
}

/// Who knows atoms and named ports.
pub(crate) trait Resolver {
    /// The number of an atom, which is kept for the asker.
    fn atom(&mut self, atom: Atom) -> AtomId;
    /// The protocols and numbers that ports of this name have at the endpoints the selector selects. The asker is told when
    /// they change.
    fn named_ports(&mut self, selector: &Selector, name: &str) -> BTreeSet<(u8, u16)>;
}

/// Compiles a rule of a policy in `namespace`, or of a global one or a profile.
pub(crate) fn compile(
    rule: &Rule,
    namespace: Option<&str>,
    resolver: &mut dyn Resolver,
) -> CompiledRule {
    CompiledRule {
        action: rule.action,
        matches: matches(rule, namespace, resolver),
        text: describe(rule),
    }
}

fn matches(rule: &Rule, namespace: Option<&str>, resolver: &mut dyn Resolver) -> Vec<Match> {
    let Some(protocols) = protocols(rule) else {
        return Vec::new();
    };
    if rule.source.services.is_some() || rule.destination.services.is_some() {
        // Nothing is known of services here, and what is not known does not match.
        return Vec::new();
    }
    if rule.http.is_some() && rule.action != Action::Deny {
        // No packet tells which request it belongs to; the ports alone would let every request pass.
        return Vec::new();
    }
    let mut src = Side::new(&rule.source, namespace, protocols, resolver);
    let dst = Side::new(&rule.destination, namespace, protocols, resolver);
    if let Some(version) = version(rule) {
        src.expr = src.expr.and(resolver.atom(family(version)), true);
    }
    let icmp = icmp(rule);
    let mut matches = Vec::new();
    let sources = src.variants();
    let destinations = dst.variants();
    for source in &sources {
        for destination in &destinations {
            let protocols = source.protocols.intersection(destination.protocols);
            let l4 = destination.ports.intersect(&icmp);
            if protocols.is_empty() || l4.is_empty() {
                continue;
            }
            matches.push(Match {
                src: source.expr.clone(),
                dst: destination.expr.clone(),
                protocols,
                l4: l4.restriction(),
                sport: source.ports.restriction(),
            });
        }
    }
    matches
}

/// One side of a rule, taken apart.
struct Side {
    expr: Expr,
    protocols: ProtocolSet,
    /// Ports by number; `None` when the rule names no ports.
    numbers: Option<Ports>,
    /// Ports by name: the atom of an address that has it, with what it is.
    names: Vec<(AtomId, u8, u16)>,
    not_numbers: Ports,
    not_names: Vec<(AtomId, u8, u16)>,
}

/// One conjunction of a side.
#[derive(Clone)]
struct Variant {
    expr: Expr,
    protocols: ProtocolSet,
    ports: Ports,
}

impl Side {
    fn new(
        entity: &EntityRule,
        namespace: Option<&str>,
        protocols: ProtocolSet,
        resolver: &mut dyn Resolver,
    ) -> Self {
        let selector = scope::entity(entity, namespace);
        let mut expr = Expr::default();
        if let Some(selector) = &selector {
            expr = expr.and(resolver.atom(Atom::Selector(selector.clone())), true);
        }
        if let Some(selector) = &entity.not_selector {
            expr = expr.and(resolver.atom(Atom::Selector(selector.clone())), false);
        }
        if !entity.nets.is_empty() {
            expr = expr.and(resolver.atom(nets(&entity.nets)), true);
        }
        if !entity.not_nets.is_empty() {
            expr = expr.and(resolver.atom(nets(&entity.not_nets)), false);
        }
        let asks = !entity.ports.is_empty() || !entity.not_ports.is_empty();
        let with_ports = PORT_PROTOCOLS
            .into_iter()
            .fold(ProtocolSet::NONE, ProtocolSet::with);
        let protocols = if asks {
            protocols.intersection(with_ports)
        } else {
            protocols
        };
        let everyone = Selector::all();
        // A selector narrows the endpoints whose port names count; a negated port name counts at all of them.
        let chosen = selector.as_ref().unwrap_or(&everyone);
        Self {
            expr,
            protocols,
            numbers: (!entity.ports.is_empty())
                .then(|| Ports::of(entity.ports.iter().filter_map(Port::range))),
            names: named(&entity.ports, chosen, protocols, resolver),
            not_numbers: Ports::of(entity.not_ports.iter().filter_map(Port::range)),
            not_names: named(&entity.not_ports, &everyone, protocols, resolver),
        }
    }

    fn variants(&self) -> Vec<Variant> {
        let base = |ports: Ports| Variant {
            expr: self.expr.clone(),
            protocols: self.protocols,
            ports,
        };
        let mut variants = vec![base(self.numbers.clone().unwrap_or_else(Ports::all))];
        for &(atom, protocol, port) in &self.names {
            let Variant {
                expr,
                protocols,
                ports,
            } = base(Ports::one(port));
            variants.push(Variant {
                expr: expr.and(atom, true),
                protocols: protocols.intersection(ProtocolSet::only(protocol)),
                ports,
            });
        }
        for variant in &mut variants {
            variant.ports = variant.ports.without(&self.not_numbers);
        }
        for &(atom, protocol, port) in &self.not_names {
            variants = variants
                .into_iter()
                .flat_map(|variant| variant.except(atom, protocol, port))
                .collect();
        }
        variants.retain(|variant| !variant.protocols.is_empty() && !variant.ports.is_empty());
        variants
    }
}

impl Variant {
    /// The same without packets of one protocol and port to addresses with an atom, as disjoint conjunctions.
    fn except(self, atom: AtomId, protocol: u8, port: u16) -> Vec<Self> {
        if !self.protocols.contains(protocol) || !self.ports.contains(port) {
            return vec![self];
        }
        let other_ports = Self {
            ports: self.ports.without(&Ports::one(port)),
            ..self.clone()
        };
        let other_protocols = Self {
            ports: Ports::one(port),
            protocols: self.protocols.without(protocol),
            ..self.clone()
        };
        let other_addresses = Self {
            expr: self.expr.and(atom, false),
            protocols: ProtocolSet::only(protocol),
            ports: Ports::one(port),
        };
        let mut parts = vec![other_ports, other_protocols, other_addresses];
        parts.retain(|part| !part.protocols.is_empty() && !part.ports.is_empty());
        parts
    }
}

fn named(
    ports: &[Port],
    selector: &Selector,
    protocols: ProtocolSet,
    resolver: &mut dyn Resolver,
) -> Vec<(AtomId, u8, u16)> {
    let mut entries = Vec::new();
    for port in ports {
        let Port::Name(name) = port else { continue };
        for (protocol, number) in resolver.named_ports(selector, name) {
            if protocols.contains(protocol) {
                let atom = Atom::NamedPort {
                    selector: selector.clone(),
                    name: name.clone(),
                    protocol,
                    port: number,
                };
                entries.push((resolver.atom(atom), protocol, number));
            }
        }
    }
    entries
}

fn nets(list: &[Cidr]) -> Atom {
    Atom::Nets(list.iter().map(Cidr::net).collect())
}

/// The atom of all addresses of a version of IP.
fn family(version: IpVersion) -> Atom {
    Atom::Nets([everything(version)].into())
}

/// The prefix of all addresses of a version of IP.
pub(crate) fn everything(version: IpVersion) -> IpNet {
    match version {
        IpVersion::V4 => Ipv4Net::default().into(),
        IpVersion::V6 => Ipv6Net::default().into(),
    }
}

/// The version of IP a rule is about: what it says, or what its protocol implies.
fn version(rule: &Rule) -> Option<IpVersion> {
    rule.ip_version
        .or_else(|| match rule.protocol.as_ref()?.number()? {
            ICMP => Some(IpVersion::V4),
            ICMPV6 => Some(IpVersion::V6),
            _ => None,
        })
}

/// `None`: the rule cannot match.
fn protocols(rule: &Rule) -> Option<ProtocolSet> {
    let mut set = match &rule.protocol {
        None => ProtocolSet::ANY,
        Some(protocol) => ProtocolSet::only(protocol.number()?),
    };
    if let Some(protocol) = &rule.not_protocol {
        set = set.without(protocol.number()?);
    }
    if rule.icmp.is_some() || rule.not_icmp.is_some() {
        set = set.intersection(ProtocolSet::only(ICMP).with(ICMPV6));
    }
    Some(set)
}

fn icmp(rule: &Rule) -> Ports {
    let messages = |icmp: &Icmp| match (icmp.kind, icmp.code) {
        (None, None) => Ports::all(),
        // Writing asks for a type beside a code; what is stored without one means every type.
        (None, Some(code)) => Ports::of((0..=u8::MAX).map(|kind| {
            let message = u16::from(kind) << 8 | u16::from(code);
            message..=message
        })),
        (Some(kind), None) => Ports::of([u16::from(kind) << 8..=u16::from(kind) << 8 | 0xff]),
        (Some(kind), Some(code)) => Ports::one(u16::from(kind) << 8 | u16::from(code)),
    };
    let wanted = rule.icmp.as_ref().map_or_else(Ports::all, messages);
    match &rule.not_icmp {
        Some(icmp) if icmp.kind.is_some() || icmp.code.is_some() => wanted.without(&messages(icmp)),
        _ => wanted,
    }
}

fn describe(rule: &Rule) -> String {
    let mut words = Vec::new();
    if let Some(version) = rule.ip_version {
        words.push(match version {
            IpVersion::V4 => "IPv4".to_owned(),
            IpVersion::V6 => "IPv6".to_owned(),
        });
    }
    words.extend(rule.protocol.as_ref().map(ToString::to_string));
    words.extend(
        rule.not_protocol
            .as_ref()
            .map(|protocol| format!("not {protocol}")),
    );
    let message = |icmp: &Icmp| match (icmp.kind, icmp.code) {
        (Some(kind), Some(code)) => format!("type {kind} code {code}"),
        (Some(kind), None) => format!("type {kind}"),
        (None, _) => "any type".to_owned(),
    };
    words.extend(rule.icmp.as_ref().map(message));
    words.extend(
        rule.not_icmp
            .as_ref()
            .map(|icmp| format!("not {}", message(icmp))),
    );
    for (side, entity) in [("from", &rule.source), ("to", &rule.destination)] {
        let parts = describe_entity(entity);
        if !parts.is_empty() {
            words.push(format!("{side} {}", parts.join(", ")));
        }
    }
    if words.is_empty() {
        "any".to_owned()
    } else {
        words.join(" ")
    }
}

fn describe_entity(entity: &EntityRule) -> Vec<String> {
    let list = |what: &str, items: Vec<String>| {
        (!items.is_empty()).then(|| format!("{what}{}", items.join("|")))
    };
    let texts = |nets: &[Cidr]| nets.iter().map(ToString::to_string).collect();
    let ports = |ports: &[Port]| ports.iter().map(ToString::to_string).collect();
    let accounts = entity.service_accounts.as_ref();
    [
        list("", texts(&entity.nets)),
        list("not ", texts(&entity.not_nets)),
        entity
            .selector
            .as_ref()
            .map(|selector| format!("[{selector}]")),
        entity
            .not_selector
            .as_ref()
            .map(|selector| format!("not [{selector}]")),
        entity
            .namespace_selector
            .as_ref()
            .map(|selector| format!("namespaces [{selector}]")),
        accounts.and_then(|accounts| list("service account ", accounts.names.clone())),
        accounts
            .and_then(|accounts| accounts.selector.as_ref())
            .map(|selector| format!("service accounts [{selector}]")),
        list("port ", ports(&entity.ports)),
        list("not port ", ports(&entity.not_ports)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// TCP, UDP and SCTP: what a rule may ask ports of.
const PORT_PROTOCOLS: [u8; 3] = [6, 17, 132];
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[derive(Default)]
    struct Fake {
        atoms: BTreeMap<Atom, AtomId>,
        ports: BTreeSet<(u8, u16)>,
    }

    impl Resolver for Fake {
        fn atom(&mut self, atom: Atom) -> AtomId {
            let next = self.atoms.len() as AtomId;
            *self.atoms.entry(atom).or_insert(next)
        }

        fn named_ports(&mut self, _: &Selector, _: &str) -> BTreeSet<(u8, u16)> {
            self.ports.clone()
        }
    }

    fn rule(text: &str) -> Rule {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_negated_port_name_spares_only_the_addresses_that_have_it() {
        let mut fake = Fake {
            ports: [(6, 80), (6, 8080), (17, 80)].into(),
            ..Fake::default()
        };
        let rule =
            rule(r#"{"action":"Allow","protocol":"TCP","destination":{"notPorts":["http"]}}"#);
        let matches = compile(&rule, None, &mut fake).matches;
        let found: Vec<_> = matches
            .iter()
            .map(|one| (one.dst.none.len(), one.l4.clone()))
            .collect();
        assert_eq!(found.len(), 3, "elsewhere, at 80, at 8080: {found:?}");
        assert!(found.contains(&(0, Some(vec![0..=79, 81..=8079, 8081..=u16::MAX]))));
        assert!(found.contains(&(1, Some(vec![80..=80]))));
        assert!(found.contains(&(1, Some(vec![8080..=8080]))));
    }

    #[test]
    fn a_code_of_icmp_without_a_type_means_that_code_of_every_type() {
        let l4 = |text: &str| {
            let matches = compile(&rule(text), None, &mut Fake::default()).matches;
            matches[0].l4.clone().unwrap()
        };
        let found = l4(r#"{"action":"Allow","protocol":"ICMP","icmp":{"code":3}}"#);
        assert_eq!((found.len(), found[1].clone()), (256, 0x103..=0x103));
        let rest = l4(r#"{"action":"Allow","protocol":"ICMP","notICMP":{"code":3}}"#);
        assert!(!rest.iter().any(|range| range.contains(&0x103)));
        assert!(rest.iter().any(|range| range.contains(&0x104)));
    }

    #[test]
    fn what_only_some_requests_may_do_is_not_allowed_to_all() {
        for (action, matches) in [("Allow", 0), ("Pass", 0), ("Deny", 1)] {
            let text = format!(r#"{{"action":"{action}","http":{{"methods":["GET"]}}}}"#);
            let compiled = compile(&rule(&text), None, &mut Fake::default());
            assert_eq!(compiled.matches.len(), matches, "{action}");
        }
    }

    #[test]
    fn a_port_name_that_nobody_has_never_matches() {
        let rule = rule(r#"{"action":"Allow","protocol":"TCP","destination":{"ports":["http"]}}"#);
        assert!(
            compile(&rule, None, &mut Fake::default())
                .matches
                .is_empty()
        );
    }

    #[test]
    fn rules_are_told_in_words() {
        for (text, words) in [
            (r#"{"action":"Allow"}"#, "any"),
            (
                r#"{"action":"Deny","ipVersion":4,"protocol":"TCP","source":{"nets":["10.0.0.0/8"],"selector":"a == 'b'"},"destination":{"ports":[80,"1:9","http"]}}"#,
                "IPv4 TCP from 10.0.0.0/8, [a == 'b'] to port 80|1:9|http",
            ),
            (
                r#"{"action":"Allow","protocol":"ICMP","icmp":{"type":8}}"#,
                "ICMP type 8",
            ),
        ] {
            assert_eq!(describe(&rule(text)), words);
        }
    }
}
