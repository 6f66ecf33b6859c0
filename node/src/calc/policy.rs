//! From the policies that apply to an endpoint to one flat list per direction.
//!
//! Tiers in order, in each the policies in order, in each the rules in order; at the end of a tier what it does with packets
//! that no rule decided; after the last tier the profiles, and then the packet is denied. `Pass` continues at the next tier's
//! first clause.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use cleat_bpf::policy::{Clause, ClauseAction, ProtocolSet};
use cleat_datastore::resource::{
    EntityRule, GlobalNetworkPolicy, NetworkPolicy, PolicyType, ProfileSpec, Rule, TierAction,
    TierSpec,
};
use cleat_datastore::selector::Selector;
use cleat_datastore::value::Action;
use cleat_datastore::{Key, Kind};
use serde_json::Map;

use super::atoms::{AtomId, Expr};
use super::rules::CompiledRule;
use super::scope;

/// Which packets a list judges, seen from the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// What it receives.
    Ingress,
    /// What it sends.
    Egress,
}

/// Names a list in this process; never given twice.
pub type ListId = u64;

/// Everything that applies to some endpoints in one direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyList {
    /// The direction.
    pub direction: Direction,
    /// What clauses ask of an address; a clause names one by its place here.
    pub exprs: Vec<Expr>,
    /// The clauses.
    pub clauses: Vec<Clause>,
    /// What the clauses come from, in the same order.
    pub lines: Vec<Line>,
}

/// A rule, or what stands at the end of a tier or of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its number in flows and counters.
    pub id: u32,
    /// Where it stands.
    pub rule: Arc<RuleName>,
    /// What it does.
    pub action: Action,
    /// What it asks of a packet, in words.
    pub text: String,
    /// The first of its clauses and the one after the last.
    pub clauses: (u32, u32),
}

/// Where a rule stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RuleName {
    /// In a policy.
    Policy {
        /// The policy's tier.
        tier: String,
        /// The policy.
        policy: Key,
        /// The direction.
        direction: Direction,
        /// Its place among the rules.
        index: usize,
    },
    /// After the last policy of a tier.
    EndOfTier(String, Direction),
    /// In a profile.
    Profile {
        /// The profile.
        profile: String,
        /// The direction.
        direction: Direction,
        /// Its place among the rules.
        index: usize,
    },
    /// In place of a profile that is not there.
    MissingProfile(String, Direction),
    /// After everything.
    End(Direction),
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        })
    }
}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy {
                tier,
                policy,
                direction,
                index,
            } => write!(f, "{tier}/{policy} {direction}[{index}]"),
            Self::EndOfTier(tier, direction) => write!(f, "{tier} end of tier, {direction}"),
            Self::Profile {
                profile,
                direction,
                index,
            } => write!(f, "Profile({profile}) {direction}[{index}]"),
            Self::MissingProfile(profile, direction) => {
                write!(f, "Profile({profile}) missing, {direction}")
            }
            Self::End(direction) => write!(f, "nothing matched, {direction}"),
        }
    }
}

impl RuleName {
    /// The policy it stands in.
    pub fn policy(&self) -> Option<&Key> {
        match self {
            Self::Policy { policy, .. } => Some(policy),
            Self::EndOfTier(..)
            | Self::Profile { .. }
            | Self::MissingProfile(..)
            | Self::End(_) => None,
        }
    }
}

/// What of a policy decides where it applies and in which place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Placement {
    pub(crate) tier: String,
    order: Order,
    /// Decides between equal orders.
    tie: String,
    pub(crate) ingress: bool,
    pub(crate) egress: bool,
    pub(crate) selector: Selector,
    /// Untracked and pre-DNAT policies are for hosts.
    pub(crate) for_workloads: bool,
}

/// A place among policies or tiers; absent is last.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Order(f64);

impl Eq for Order {}

impl PartialOrd for Order {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Order {
    fn cmp(&self, other: &Self) -> Ordering {
        // Minus zero is zero.
        (self.0 + 0.0).total_cmp(&(other.0 + 0.0))
    }
}

impl From<Option<f64>> for Order {
    fn from(order: Option<f64>) -> Self {
        Self(order.unwrap_or(f64::INFINITY))
    }
}

impl Placement {
    pub(crate) fn of(key: &Key, policy: &NetworkPolicy) -> Self {
        let spec = &policy.spec;
        let (ingress, egress) = directions(&spec.types);
        Self {
            tier: spec.tier.clone().unwrap_or_else(|| DEFAULT_TIER.to_owned()),
            order: spec.order.into(),
            tie: tie(key),
            ingress,
            egress,
            selector: scope::policy(key.namespace().unwrap_or_default(), spec),
            for_workloads: true,
        }
    }

    pub(crate) fn of_global(key: &Key, policy: &GlobalNetworkPolicy) -> Self {
        let spec = &policy.spec;
        let (ingress, egress) = directions(&spec.types);
        Self {
            tier: spec.tier.clone().unwrap_or_else(|| DEFAULT_TIER.to_owned()),
            order: spec.order.into(),
            tie: tie(key),
            ingress,
            egress,
            selector: scope::global_policy(spec),
            for_workloads: !spec.do_not_track && !spec.pre_dnat,
        }
    }

    pub(crate) fn governs(&self, direction: Direction) -> bool {
        match direction {
            Direction::Ingress => self.ingress,
            Direction::Egress => self.egress,
        }
    }

    /// The place among the policies of its tier.
    pub(crate) fn rank(&self) -> impl Ord + '_ {
        (self.order, self.tie.as_str())
    }
}

/// Types left empty mean both directions: clients that leave them so rely on it.
fn directions(types: &[PolicyType]) -> (bool, bool) {
    if types.is_empty() {
        (true, true)
    } else {
        (
            types.contains(&PolicyType::Ingress),
            types.contains(&PolicyType::Egress),
        )
    }
}

fn tie(key: &Key) -> String {
    format!(
        "{}/{}/{}",
        key.name(),
        key.namespace().unwrap_or_default(),
        key.kind().map_or("", Kind::name)
    )
}

/// The tiers by name.
#[derive(Debug, Default)]
pub(crate) struct Tiers(BTreeMap<String, (Order, TierAction)>);

impl Tiers {
    pub(crate) fn set(&mut self, name: &str, spec: Option<&TierSpec>) {
        match spec {
            Some(spec) => {
                let fixed = (name == DEFAULT_TIER).then_some(DEFAULT_TIER_ORDER);
                let order = Order::from(fixed.or(spec.order));
                self.0.insert(
                    name.to_owned(),
                    (order, spec.default_action.unwrap_or(TierAction::Deny)),
                );
            }
            None => {
                self.0.remove(name);
            }
        }
    }

    pub(crate) fn exists(&self, name: &str) -> bool {
        name == DEFAULT_TIER || self.0.contains_key(name)
    }

    /// What happens to packets that no rule of the tier decided. Of a tier nobody knows, the safe thing.
    pub(crate) fn default_action(&self, name: &str) -> TierAction {
        self.0
            .get(name)
            .map_or(TierAction::Deny, |(_, action)| *action)
    }

    /// The place among the tiers: those that do not exist come last.
    pub(crate) fn rank<'a>(&self, name: &'a str) -> impl Ord + use<'a> {
        match self.0.get(name) {
            Some((order, _)) => (false, *order, name),
            None if name == DEFAULT_TIER => (false, Order(DEFAULT_TIER_ORDER), name),
            None => (true, Order(f64::INFINITY), name),
        }
    }
}

/// Compiled rules of a policy or a profile.
#[derive(Debug, Default)]
pub(crate) struct Unit {
    /// Changes whenever the rules do.
    pub(crate) version: u64,
    pub(crate) ingress: Vec<CompiledRule>,
    pub(crate) egress: Vec<CompiledRule>,
    /// The atoms it has taken, as often as it has.
    pub(crate) atoms: Vec<AtomId>,
    /// The port names it wants to be told of.
    pub(crate) names: BTreeSet<(Selector, String)>,
}

impl Unit {
    pub(crate) fn rules(&self, direction: Direction) -> &[CompiledRule] {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }
}

/// What a list is made of; equal recipes make equal lists.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Recipe {
    pub(crate) direction: Direction,
    pub(crate) tiers: Vec<TierPart>,
    /// Profiles with the version of their rules; `None` for one that is not there.
    pub(crate) profiles: Vec<(String, Option<u64>)>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TierPart {
    pub(crate) name: String,
    pub(crate) denies: bool,
    /// Policies with the version of their rules.
    pub(crate) policies: Vec<(Key, u64)>,
}

impl Recipe {
    /// Makes the list. `units` has the rules of every policy and profile of the recipe.
    pub(crate) fn cook(&self, units: &BTreeMap<Key, Unit>, names: &mut RuleNames) -> PolicyList {
        let direction = self.direction;
        let mut builder = Builder {
            list: PolicyList {
                direction,
                exprs: Vec::new(),
                clauses: Vec::new(),
                lines: Vec::new(),
            },
            exprs: BTreeMap::new(),
            names,
        };
        for tier in &self.tiers {
            let first = builder.list.clauses.len();
            for (policy, _) in &tier.policies {
                let rules = units
                    .get(policy)
                    .map(|unit| unit.rules(direction))
                    .unwrap_or_default();
                for (index, rule) in rules.iter().enumerate() {
                    builder.rule(
                        RuleName::Policy {
                            tier: tier.name.clone(),
                            policy: policy.clone(),
                            direction,
                            index,
                        },
                        rule,
                        rule.action,
                    );
                }
            }
            if tier.denies {
                builder.always(
                    RuleName::EndOfTier(tier.name.clone(), direction),
                    Action::Deny,
                );
            }
            let next = builder.list.clauses.len() as u32;
            for clause in &mut builder.list.clauses[first..] {
                if let ClauseAction::Pass(target) = &mut clause.action {
                    *target = next;
                }
            }
        }
        for (profile, version) in &self.profiles {
            if version.is_none() {
                builder.always(
                    RuleName::MissingProfile(profile.clone(), direction),
                    Action::Deny,
                );
                continue;
            }
            let unit = units.get(&Key::global(Kind::Profile, profile.as_str()));
            for (index, rule) in unit
                .map(|unit| unit.rules(direction))
                .unwrap_or_default()
                .iter()
                .enumerate()
            {
                // There is nothing left to pass to.
                let action = if rule.action == Action::Pass {
                    Action::Deny
                } else {
                    rule.action
                };
                builder.rule(
                    RuleName::Profile {
                        profile: profile.clone(),
                        direction,
                        index,
                    },
                    rule,
                    action,
                );
            }
        }
        builder.always(RuleName::End(direction), Action::Deny);
        builder.list
    }
}

struct Builder<'a> {
    list: PolicyList,
    exprs: BTreeMap<Expr, u32>,
    names: &'a mut RuleNames,
}

impl Builder<'_> {
    fn rule(&mut self, name: RuleName, rule: &CompiledRule, action: Action) {
        let (id, name) = self.names.id(name);
        let first = self.list.clauses.len() as u32;
        for one in &rule.matches {
            let (src, dst) = (self.expr(&one.src), self.expr(&one.dst));
            self.list.clauses.push(Clause {
                src,
                dst,
                protocols: one.protocols,
                l4: one.l4.clone(),
                sport: one.sport.clone(),
                action: clause_action(action),
                rule: id,
            });
        }
        let clauses = (first, self.list.clauses.len() as u32);
        self.list.lines.push(Line {
            id,
            rule: name,
            action,
            text: rule.text.clone(),
            clauses,
        });
    }

    fn always(&mut self, name: RuleName, action: Action) {
        let (id, name) = self.names.id(name);
        let first = self.list.clauses.len() as u32;
        self.list.clauses.push(Clause {
            src: None,
            dst: None,
            protocols: ProtocolSet::ANY,
            l4: None,
            sport: None,
            action: clause_action(action),
            rule: id,
        });
        self.list.lines.push(Line {
            id,
            rule: name,
            action,
            text: "any".to_owned(),
            clauses: (first, first + 1),
        });
    }

    fn expr(&mut self, expr: &Expr) -> Option<u32> {
        if expr.is_empty() {
            return None;
        }
        if let Some(&place) = self.exprs.get(expr) {
            return Some(place);
        }
        let place = self.list.exprs.len() as u32;
        self.list.exprs.push(expr.clone());
        self.exprs.insert(expr.clone(), place);
        Some(place)
    }
}

fn clause_action(action: Action) -> ClauseAction {
    match action {
        Action::Allow => ClauseAction::Allow,
        Action::Deny => ClauseAction::Deny,
        Action::Log => ClauseAction::Log,
        // The target is known when the tier is complete.
        Action::Pass => ClauseAction::Pass(0),
    }
}

/// Numbers of rules, the same in every process unless two names collide.
#[derive(Debug, Default)]
pub(crate) struct RuleNames {
    names: BTreeMap<u32, Arc<RuleName>>,
    ids: BTreeMap<Arc<RuleName>, u32>,
}

impl RuleNames {
    pub(crate) fn id(&mut self, name: RuleName) -> (u32, Arc<RuleName>) {
        if let Some((name, id)) = self.ids.get_key_value(&name) {
            return (*id, name.clone());
        }
        // The highest bit is left alone: the data path has numbers of its own there.
        let mut id = (fnv1a(name.to_string().as_bytes()) >> 33) as u32;
        while self.names.contains_key(&id) {
            id = (id + 1) & (u32::MAX >> 1);
        }
        let name = Arc::new(name);
        self.names.insert(id, name.clone());
        self.ids.insert(name.clone(), id);
        (id, name)
    }

    pub(crate) fn name(&self, id: u32) -> Option<&Arc<RuleName>> {
        self.names.get(&id)
    }

    /// Drops the numbers that no list has any more.
    pub(crate) fn keep(&mut self, used: &BTreeSet<u32>) {
        self.names.retain(|id, _| used.contains(id));
        self.ids.retain(|_, id| used.contains(id));
    }
}

/// The rules of `projectcalico-default-allow`, which is in no store.
pub(crate) fn default_allow() -> ProfileSpec {
    let allow = || Rule {
        action: Action::Allow,
        ip_version: None,
        protocol: None,
        not_protocol: None,
        icmp: None,
        not_icmp: None,
        source: EntityRule::default(),
        destination: EntityRule::default(),
        http: None,
        metadata: None,
        extra: Map::default(),
    };
    ProfileSpec {
        ingress: vec![allow()],
        egress: vec![allow()],
        ..ProfileSpec::default()
    }
}

/// FNV-1a, 64 bits: stable over processes and versions, which the standard hasher does not promise.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The profile that allows everything.
pub(crate) const DEFAULT_ALLOW: &str = "projectcalico-default-allow";
const DEFAULT_TIER: &str = "default";
const DEFAULT_TIER_ORDER: f64 = 1_000_000.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_orders_and_absent_tiers_come_last() {
        let mut tiers = Tiers::default();
        let spec = |order| TierSpec {
            order,
            ..TierSpec::default()
        };
        tiers.set("late", Some(&spec(None)));
        tiers.set("early", Some(&spec(Some(1.0))));
        tiers.set("default", Some(&spec(Some(5.0))));
        let mut names = ["unknown-b", "late", "default", "unknown-a", "early"];
        names.sort_by(|a, b| tiers.rank(a).partial_cmp(&tiers.rank(b)).unwrap());
        assert_eq!(
            names,
            ["early", "default", "late", "unknown-a", "unknown-b"]
        );
    }

    #[test]
    fn equal_orders_are_decided_by_name_namespace_and_kind() {
        let key =
            |namespace: &str, name: &str| Key::namespaced(Kind::NetworkPolicy, namespace, name);
        let policy = |key: &Key, order| {
            let object = NetworkPolicy {
                metadata: cleat_datastore::resource::Metadata::default(),
                spec: cleat_datastore::resource::NetworkPolicySpec {
                    order,
                    ..Default::default()
                },
                extra: Map::default(),
            };
            Placement::of(key, &object)
        };
        let (a, b, c) = (
            policy(&key("z", "a"), None),
            policy(&key("a", "b"), None),
            policy(&key("a", "c"), Some(7.0)),
        );
        assert!(a.rank() < b.rank());
        assert!(c.rank() < a.rank());
    }

    #[test]
    fn a_rules_number_is_the_same_in_every_process() {
        let name = || RuleName::EndOfTier("default".to_owned(), Direction::Ingress);
        assert_eq!(
            RuleNames::default().id(name()).0,
            RuleNames::default().id(name()).0
        );
        assert!(RuleNames::default().id(name()).0 < 1 << 31);
    }
}
