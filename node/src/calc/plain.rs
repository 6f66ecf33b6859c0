//! Policy as it is written, evaluated packet by packet straight from the resources.
//!
//! Slow, and without any of the structures the data path needs: no classes, no lists, no indexes. It is what rendered policy is
//! compared with, and it shares no code with the compilation it checks.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "most kinds of resources have no say in policy"
)]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use cleat_datastore::resource::{EntityRule, PolicyType, Rule, TierAction, WorkloadEndpoint};
use cleat_datastore::selector::Selector;
use cleat_datastore::value::{Action, Cidr, IpVersion, Port};
use cleat_datastore::{Key, Kind, Resource};

use super::policy::{Direction, RuleName};

/// All resources, by key.
pub type Resources = BTreeMap<Key, Arc<Resource>>;

/// The first packet of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// Where it comes from.
    pub src: IpAddr,
    /// Where it goes.
    pub dst: IpAddr,
    /// Its protocol.
    pub protocol: u8,
    /// Its source port, if it has ports.
    pub sport: u16,
    /// Its destination port, if it has ports.
    pub dport: u16,
    /// Its ICMP type and code, if it is ICMP.
    pub icmp: (u8, u8),
}

/// What policy says of a packet, and the rule that says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// It may pass.
    pub allowed: bool,
    /// The rule.
    pub rule: RuleName,
}

type Labels = BTreeMap<String, String>;

/// Someone with labels, addresses and perhaps named ports.
struct Party {
    labels: Labels,
    nets: Vec<Cidr>,
    ports: Vec<(String, u8, u16)>,
}

/// Judges a packet that the endpoint sends or receives.
pub fn judge(
    resources: &Resources,
    endpoint: &Key,
    direction: Direction,
    packet: &Packet,
) -> Verdict {
    let world = World::new(resources);
    let Some(Resource::WorkloadEndpoint(wep)) = resources.get(endpoint).map(AsRef::as_ref) else {
        return Verdict {
            allowed: false,
            rule: RuleName::End(direction),
        };
    };
    let own = world.endpoint_labels(endpoint, wep);
    for (tier, policies) in world.tiers(&own, direction) {
        if let Some(verdict) = world.tier(&tier, &policies, direction, packet) {
            return verdict;
        }
    }
    for name in &wep.spec.profiles {
        let rules = match (
            name.as_str(),
            resources
                .get(&Key::global(Kind::Profile, name.as_str()))
                .map(AsRef::as_ref),
        ) {
            ("projectcalico-default-allow", _) => {
                return Verdict {
                    allowed: true,
                    rule: RuleName::Profile {
                        profile: name.clone(),
                        direction,
                        index: 0,
                    },
                };
            }
            (_, Some(Resource::Profile(profile))) => match direction {
                Direction::Ingress => &profile.spec.ingress,
                Direction::Egress => &profile.spec.egress,
            },
            _ => {
                return Verdict {
                    allowed: false,
                    rule: RuleName::MissingProfile(name.clone(), direction),
                };
            }
        };
        for (index, rule) in rules.iter().enumerate() {
            if rule.action != Action::Log && world.matches(rule, None, packet) {
                return Verdict {
                    allowed: rule.action == Action::Allow,
                    rule: RuleName::Profile {
                        profile: name.clone(),
                        direction,
                        index,
                    },
                };
            }
        }
    }
    Verdict {
        allowed: false,
        rule: RuleName::End(direction),
    }
}

struct World<'a> {
    resources: &'a Resources,
    parties: Vec<Party>,
}

struct Policy<'a> {
    key: &'a Key,
    order: f64,
    rules: [&'a [Rule]; 2],
}

impl<'a> World<'a> {
    fn new(resources: &'a Resources) -> Self {
        let mut world = Self {
            resources,
            parties: Vec::new(),
        };
        // Of several endpoints with one address, the first by key has it.
        let mut taken: Vec<IpAddr> = Vec::new();
        for (key, resource) in resources {
            let party = match resource.as_ref() {
                Resource::WorkloadEndpoint(wep) if !wep.spec.ip_networks.is_empty() => {
                    let nets: Vec<Cidr> = wep
                        .spec
                        .ip_networks
                        .iter()
                        .filter(|cidr| !taken.contains(&cidr.addr()))
                        .copied()
                        .collect();
                    taken.extend(nets.iter().map(Cidr::addr));
                    let ports = wep.spec.ports.iter().filter_map(|port| {
                        Some((port.name.clone(), port.protocol.0.number()?, port.port))
                    });
                    Party {
                        labels: world.endpoint_labels(key, wep),
                        nets,
                        ports: ports.collect(),
                    }
                }
                Resource::NetworkSet(set) => {
                    let namespace = key.namespace().unwrap_or_default();
                    let mut labels = set.metadata.labels.clone();
                    labels.insert(
                        "projectcalico.org/namespace".to_owned(),
                        namespace.to_owned(),
                    );
                    world.inherit(&mut labels, &[format!("kns.{namespace}")]);
                    Party {
                        labels,
                        nets: set.spec.nets.clone(),
                        ports: Vec::new(),
                    }
                }
                Resource::GlobalNetworkSet(set) => Party {
                    labels: set.metadata.labels.clone(),
                    nets: set.spec.nets.clone(),
                    ports: Vec::new(),
                },
                _ => continue,
            };
            world.parties.push(party);
        }
        world
    }

    fn inherit(&self, labels: &mut Labels, profiles: &[String]) {
        for name in profiles {
            if let Some(Resource::Profile(profile)) = self
                .resources
                .get(&Key::global(Kind::Profile, name.as_str()))
                .map(AsRef::as_ref)
            {
                for (label, value) in &profile.spec.labels_to_apply {
                    labels.entry(label.clone()).or_insert_with(|| value.clone());
                }
            }
        }
    }

    fn endpoint_labels(&self, key: &Key, wep: &WorkloadEndpoint) -> Labels {
        let mut labels: Labels = wep
            .metadata
            .labels
            .clone()
            .into_iter()
            .filter(|(name, _)| !name.starts_with("pcns.") && !name.starts_with("pcsa."))
            .collect();
        labels.insert(
            "projectcalico.org/namespace".to_owned(),
            key.namespace().unwrap_or_default().to_owned(),
        );
        labels.insert(
            "projectcalico.org/orchestrator".to_owned(),
            wep.spec.orchestrator.clone(),
        );
        if let Some(account) = &wep.spec.service_account_name {
            labels.insert(
                "projectcalico.org/serviceaccount".to_owned(),
                account.clone(),
            );
        }
        self.inherit(&mut labels, &wep.spec.profiles);
        labels
    }

    /// The tiers that have a say, in order, with their policies in order.
    fn tiers(&self, own: &Labels, direction: Direction) -> Vec<(String, Vec<Policy<'a>>)> {
        let governs = |types: &[PolicyType]| {
            types.is_empty()
                || types.contains(&if direction == Direction::Ingress {
                    PolicyType::Ingress
                } else {
                    PolicyType::Egress
                })
        };
        let says = |selector: &Option<Selector>| {
            selector
                .as_ref()
                .is_none_or(|selector| selector.matches(own))
        };
        let mut tiers: BTreeMap<String, Vec<Policy<'a>>> = BTreeMap::new();
        for (key, resource) in self.resources {
            let (tier, policy) = match resource.as_ref() {
                Resource::NetworkPolicy(policy) => {
                    let spec = &policy.spec;
                    let selected = own.get("projectcalico.org/namespace").map(String::as_str)
                        == key.namespace()
                        && says(&spec.selector)
                        && account(spec.service_account_selector.as_ref(), own);
                    if !selected || !governs(&spec.types) {
                        continue;
                    }
                    (
                        &spec.tier,
                        Policy {
                            key,
                            order: spec.order.unwrap_or(f64::INFINITY),
                            rules: [&spec.ingress, &spec.egress],
                        },
                    )
                }
                Resource::GlobalNetworkPolicy(policy) => {
                    let spec = &policy.spec;
                    let selected = says(&spec.selector)
                        && spec
                            .namespace_selector
                            .as_ref()
                            .is_none_or(|selector| in_namespaces(selector, own))
                        && account(spec.service_account_selector.as_ref(), own)
                        && !spec.do_not_track
                        && !spec.pre_dnat;
                    if !selected || !governs(&spec.types) {
                        continue;
                    }
                    (
                        &spec.tier,
                        Policy {
                            key,
                            order: spec.order.unwrap_or(f64::INFINITY),
                            rules: [&spec.ingress, &spec.egress],
                        },
                    )
                }
                _ => continue,
            };
            tiers
                .entry(tier.clone().unwrap_or_else(|| "default".to_owned()))
                .or_default()
                .push(policy);
        }
        let mut tiers: Vec<(String, Vec<Policy<'a>>)> = tiers.into_iter().collect();
        tiers.sort_by(|(a, _), (b, _)| {
            let rank = |name: &str| match (name, self.tier_spec(name)) {
                ("default", _) => (0, 1e6),
                (_, Some(order_and_action)) => (0, order_and_action.0),
                (_, None) => (1, 0.0),
            };
            let (a_rank, b_rank) = (rank(a), rank(b));
            a_rank
                .0
                .cmp(&b_rank.0)
                .then(a_rank.1.total_cmp(&b_rank.1))
                .then(a.cmp(b))
        });
        for (_, policies) in &mut tiers {
            let tie = |policy: &Policy<'_>| {
                format!(
                    "{}/{}/{}",
                    policy.key.name(),
                    policy.key.namespace().unwrap_or_default(),
                    policy.key.kind().map_or("", Kind::name)
                )
            };
            policies.sort_by(|a, b| {
                a.order
                    .total_cmp(&b.order)
                    .then_with(|| tie(a).cmp(&tie(b)))
            });
        }
        tiers
    }

    fn tier_spec(&self, name: &str) -> Option<(f64, Option<TierAction>)> {
        match self
            .resources
            .get(&Key::global(Kind::Tier, name))
            .map(AsRef::as_ref)
        {
            Some(Resource::Tier(tier)) => Some((
                tier.spec.order.unwrap_or(f64::INFINITY),
                tier.spec.default_action,
            )),
            _ => None,
        }
    }

    /// `None`: on to the next tier.
    fn tier(
        &self,
        name: &str,
        policies: &[Policy<'_>],
        direction: Direction,
        packet: &Packet,
    ) -> Option<Verdict> {
        for policy in policies {
            for (index, rule) in policy.rules[direction as usize].iter().enumerate() {
                if rule.action == Action::Log || !self.matches(rule, policy.key.namespace(), packet)
                {
                    continue;
                }
                if rule.action == Action::Pass {
                    return None;
                }
                let rule_name = RuleName::Policy {
                    tier: name.to_owned(),
                    policy: policy.key.clone(),
                    direction,
                    index,
                };
                return Some(Verdict {
                    allowed: rule.action == Action::Allow,
                    rule: rule_name,
                });
            }
        }
        match self.tier_spec(name) {
            Some((_, Some(TierAction::Pass))) => None,
            _ => Some(Verdict {
                allowed: false,
                rule: RuleName::EndOfTier(name.to_owned(), direction),
            }),
        }
    }

    fn matches(&self, rule: &Rule, namespace: Option<&str>, packet: &Packet) -> bool {
        let version = if packet.src.is_ipv4() {
            IpVersion::V4
        } else {
            IpVersion::V6
        };
        let number = rule
            .protocol
            .as_ref()
            .map(cleat_datastore::value::Protocol::number);
        let implied = match number {
            Some(Some(1)) => Some(IpVersion::V4),
            Some(Some(58)) => Some(IpVersion::V6),
            _ => None,
        };
        if rule
            .ip_version
            .or(implied)
            .is_some_and(|wanted| wanted != version)
            || number.is_some_and(|number| number != Some(packet.protocol))
            || rule
                .not_protocol
                .as_ref()
                .is_some_and(|protocol| protocol.number() == Some(packet.protocol))
        {
            return false;
        }
        let is_icmp = matches!(packet.protocol, 1 | 58);
        let message = |icmp: &cleat_datastore::resource::Icmp| {
            icmp.kind.is_none_or(|kind| kind == packet.icmp.0)
                && icmp.code.is_none_or(|code| code == packet.icmp.1)
        };
        if rule
            .icmp
            .as_ref()
            .is_some_and(|icmp| !is_icmp || !message(icmp))
        {
            return false;
        }
        if rule.not_icmp.as_ref().is_some_and(|icmp| {
            !is_icmp || ((icmp.kind.is_some() || icmp.code.is_some()) && message(icmp))
        }) {
            return false;
        }
        self.is(
            &rule.source,
            namespace,
            packet.src,
            packet.protocol,
            packet.sport,
        ) && self.is(
            &rule.destination,
            namespace,
            packet.dst,
            packet.protocol,
            packet.dport,
        )
    }

    /// Whether one end of a packet is whom a side of a rule means.
    fn is(
        &self,
        entity: &EntityRule,
        namespace: Option<&str>,
        address: IpAddr,
        protocol: u8,
        port: u16,
    ) -> bool {
        let here: Vec<&Party> = self
            .parties
            .iter()
            .filter(|party| within(&party.nets, address))
            .collect();
        if !entity.nets.is_empty() && !within(&entity.nets, address)
            || within(&entity.not_nets, address)
        {
            return false;
        }
        if entity.services.is_some() {
            return false;
        }
        let asks_labels = entity.selector.is_some()
            || entity.namespace_selector.is_some()
            || entity
                .service_accounts
                .as_ref()
                .is_some_and(|accounts| !accounts.names.is_empty() || accounts.selector.is_some());
        let scoped = asks_labels || (entity.not_selector.is_some() && namespace.is_some());
        let meant = |party: &Party| {
            let labels = &party.labels;
            let space = match (&entity.namespace_selector, namespace) {
                (Some(selector), _) => in_namespaces(selector, labels),
                (None, Some(namespace)) => {
                    labels
                        .get("projectcalico.org/namespace")
                        .map(String::as_str)
                        == Some(namespace)
                }
                (None, None) => true,
            };
            let accounts = entity.service_accounts.as_ref().is_none_or(|accounts| {
                let named = accounts.names.is_empty()
                    || labels
                        .get("projectcalico.org/serviceaccount")
                        .is_some_and(|name| accounts.names.contains(name));
                named && account(accounts.selector.as_ref(), labels)
            });
            space
                && accounts
                && entity
                    .selector
                    .as_ref()
                    .is_none_or(|selector| selector.matches(labels))
        };
        if scoped && !here.iter().any(|party| meant(party)) {
            return false;
        }
        if entity
            .not_selector
            .as_ref()
            .is_some_and(|selector| here.iter().any(|party| selector.matches(&party.labels)))
        {
            return false;
        }
        if entity.ports.is_empty() && entity.not_ports.is_empty() {
            return true;
        }
        if !matches!(protocol, 6 | 17 | 132) {
            return false;
        }
        let has = |party: &Party, name: &str| {
            party
                .ports
                .iter()
                .any(|known| *known == (name.to_owned(), protocol, port))
        };
        let wanted = |wanted: &Port| match wanted {
            Port::Name(name) => here
                .iter()
                .any(|party| (!scoped || meant(party)) && has(party, name)),
            _ => wanted.range().is_some_and(|range| range.contains(&port)),
        };
        let unwanted = |unwanted: &Port| match unwanted {
            Port::Name(name) => here.iter().any(|party| has(party, name)),
            _ => unwanted.range().is_some_and(|range| range.contains(&port)),
        };
        (entity.ports.is_empty() || entity.ports.iter().any(wanted))
            && !entity.not_ports.iter().any(unwanted)
    }
}

fn within(nets: &[Cidr], address: IpAddr) -> bool {
    nets.iter().any(|cidr| cidr.net().contains(&address))
}

/// Labels under a prefix, seen without it.
struct Prefixed<'a>(&'static str, &'a Labels);

impl cleat_datastore::selector::Labels for Prefixed<'_> {
    fn label(&self, name: &str) -> Option<&str> {
        self.1.get(&format!("{}{name}", self.0)).map(String::as_str)
    }
}

/// A selector over namespaces; `all()` is every namespace and `global()` is none, wherever they stand in it.
fn in_namespaces(selector: &Selector, labels: &Labels) -> bool {
    use cleat_datastore::selector::Expression as E;
    fn holds(expression: &E, labels: &Labels) -> bool {
        let inside = labels.contains_key("projectcalico.org/namespace");
        match expression {
            E::All => inside,
            E::Global => !inside,
            E::And(operands) => operands.iter().all(|operand| holds(operand, labels)),
            E::Or(operands) => operands.iter().any(|operand| holds(operand, labels)),
            E::Not(operand) => !holds(operand, labels),
            leaf => leaf.matches(&Prefixed("pcns.", labels)),
        }
    }
    holds(selector.expression(), labels)
}

fn account(selector: Option<&Selector>, labels: &Labels) -> bool {
    selector.is_none_or(|selector| selector.matches(&Prefixed("pcsa.", labels)))
}
