//! The graph: indexes of resources, what is dirty, and the plan.

mod claims;
mod flush;
mod index;
mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use cleat_datastore::label_index::{Change, LabelIndex};
use cleat_datastore::resource::{
    BgpConfiguration, BgpPeer, BlockAffinity, IpPool, Node, ProfileSpec, Rule, TierAction,
    WorkloadEndpoint,
};
use cleat_datastore::selector::Selector;
use cleat_datastore::value::{IpVersion, MacAddr};
use cleat_datastore::{Key, Kind, Problem, Resource, Update};
use ipnet::IpNet;

use super::atoms::{Atom, AtomId, AtomSet};
use super::bgp::{self, Bgp};
use super::members::{Asker, ItemId, Members, NamedPort};
use super::nets::{Facts, Nets, Place, Source};
use super::policy::{
    DEFAULT_ALLOW, Direction, ListId, Placement, PolicyList, Recipe, RuleName, RuleNames, TierPart,
    Tiers, Unit, default_allow,
};
use super::routes::{self, Originated, Pools, Route};
use super::rules::{self, Resolver, compile};
use super::scope;
use crate::reconcile::Contrib;

/// What this node should do, complete.
#[derive(Debug, Default)]
pub struct Plan {
    /// The policy lists that interfaces refer to.
    pub lists: BTreeMap<ListId, Arc<PolicyList>>,
    /// The workload interfaces by name.
    pub interfaces: BTreeMap<String, Interface>,
    /// Routes of this host.
    pub routes: BTreeMap<IpNet, Route>,
    /// Prefixes to tell BGP peers.
    pub originated: BTreeMap<IpNet, Originated>,
    /// The speaker's settings.
    pub bgp: Bgp,
}

/// A workload interface and who is behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// The endpoint.
    pub endpoint: Key,
    /// The policy for what it receives.
    pub ingress: ListId,
    /// The policy for what it sends.
    pub egress: ListId,
    /// The workload's MAC address, when the endpoint names one.
    pub mac: Option<MacAddr>,
    /// The addresses it may use.
    pub addresses: BTreeSet<IpAddr>,
}

/// A workload endpoint of this host, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalEndpoint {
    /// The endpoint.
    pub key: Key,
    /// What it belongs to.
    pub workload: String,
    /// Its host-side interface.
    pub interface: String,
    /// Its MAC address, when it names one.
    pub mac: Option<MacAddr>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Its profiles.
    pub profiles: Vec<String>,
    /// The policy for what it receives.
    pub ingress: Arc<PolicyList>,
    /// The policy for what it sends.
    pub egress: Arc<PolicyList>,
}

/// The keys of the plan that differ since the last flush.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Prefixes with other facts, or none any more.
    pub facts: BTreeSet<IpNet>,
    /// Interfaces with another entry, or none any more.
    pub interfaces: BTreeSet<String>,
    /// Lists that are new.
    pub lists: BTreeSet<ListId>,
    /// Routes of this host are others.
    pub routes: bool,
    /// The originated prefixes are others.
    pub originated: bool,
    /// The speaker's settings are others.
    pub bgp: bool,
}

impl Changes {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds the changes of a later flush.
    pub fn merge(&mut self, later: Self) {
        self.facts.extend(later.facts);
        self.interfaces.extend(later.interfaces);
        self.lists.extend(later.lists);
        self.routes |= later.routes;
        self.originated |= later.originated;
        self.bgp |= later.bgp;
    }
}

/// The calculation.
pub struct Graph {
    host: String,
    plan: Plan,
    problems: BTreeMap<(Key, Origin), Vec<Problem>>,

    resources: BTreeMap<Key, Arc<Resource>>,
    nodes: BTreeMap<String, Arc<Node>>,
    configurations: BTreeMap<String, Arc<BgpConfiguration>>,
    peers: BTreeMap<String, Arc<BgpPeer>>,
    pools: BTreeMap<String, Arc<IpPool>>,
    affinities: BTreeMap<IpNet, Arc<BlockAffinity>>,
    tiers: Tiers,

    ids: BTreeMap<Key, ItemId>,
    next_id: ItemId,
    members: Members,
    nets: Nets,
    /// Endpoints that have an address; the first is the one who uses it.
    holders: Contrib<Key, IpAddr, ()>,
    /// What else only one object may have.
    claims: Contrib<Key, claims::Claim, ()>,
    /// Who uses an address, as told to `nets`.
    using: BTreeMap<IpAddr, Key>,
    places: Contrib<PlaceOwner, IpNet, Place>,

    local: BTreeMap<Key, Arc<Resource>>,
    /// Which policies apply to which local endpoint.
    applies: LabelIndex<Key, Key>,
    placements: BTreeMap<Key, Placement>,
    /// Local endpoints by profile.
    profile_users: BTreeMap<String, BTreeSet<Key>>,
    units: BTreeMap<Key, Unit>,
    next_version: u64,
    names: RuleNames,
    wishes: Contrib<Key, String, Interface>,
    recipes: BTreeMap<Recipe, ListId>,
    next_list: ListId,

    dirty: Dirty,
}

#[derive(Default)]
struct Dirty {
    /// Policies and profiles whose rules changed.
    stale: BTreeSet<Key>,
    /// Policies and profiles that may have come into use or gone out of it.
    usage: BTreeSet<Key>,
    endpoints: BTreeSet<Key>,
    addresses: BTreeSet<IpAddr>,
    routes: bool,
    bgp: bool,
    changes: Changes,
}

/// Where a problem was found; each place replaces its own findings only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Origin {
    Store,
    Address,
    Claim,
    Interface,
    Policy,
    Bgp,
}

/// Who says where a prefix lives, the first to be believed first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum PlaceOwner {
    Host,
    ThisNode,
    Endpoint,
    Node(String),
    Pool(String),
    Default,
}

impl Graph {
    /// The graph of a cluster without resources, seen from the node of this name.
    pub fn new(host: impl Into<String>) -> Self {
        let mut graph = Self {
            host: host.into(),
            plan: Plan::default(),
            problems: BTreeMap::new(),
            resources: BTreeMap::new(),
            nodes: BTreeMap::new(),
            configurations: BTreeMap::new(),
            peers: BTreeMap::new(),
            pools: BTreeMap::new(),
            affinities: BTreeMap::new(),
            tiers: Tiers::default(),
            ids: BTreeMap::new(),
            next_id: 0,
            members: Members::default(),
            nets: Nets::default(),
            holders: Contrib::default(),
            claims: Contrib::default(),
            using: BTreeMap::new(),
            places: Contrib::default(),
            local: BTreeMap::new(),
            applies: LabelIndex::new(),
            placements: BTreeMap::new(),
            profile_users: BTreeMap::new(),
            units: BTreeMap::new(),
            next_version: 0,
            names: RuleNames::default(),
            wishes: Contrib::default(),
            recipes: BTreeMap::new(),
            next_list: 0,
            dirty: Dirty::default(),
        };
        for version in [IpVersion::V4, IpVersion::V6] {
            let net = rules::everything(version);
            // Held for ever: a rule about one version of IP then touches no address.
            graph
                .members
                .take(&Atom::Nets([net].into()), &mut graph.nets);
            graph.place(&PlaceOwner::Default, [(net, Place::Outside)]);
        }
        graph.dirty.routes = true;
        graph.dirty.bgp = true;
        graph
    }

    /// Takes a change over. Nothing is computed before [`flush`](Self::flush).
    pub fn update(&mut self, update: &Update) {
        self.report(
            &update.key,
            Origin::Store,
            update.problem.clone().into_iter().collect(),
        );
        let value = update.value.clone();
        if self.resources.get(&update.key) == value.as_ref() {
            return;
        }
        match &value {
            Some(value) => self.resources.insert(update.key.clone(), value.clone()),
            None => self.resources.remove(&update.key),
        };
        match &update.key {
            Key::BlockAffinity { host, block } => {
                if *host == self.host {
                    set(
                        &mut self.affinities,
                        *block,
                        match value.as_deref() {
                            Some(Resource::BlockAffinity(affinity)) => {
                                Some(Arc::new(affinity.clone()))
                            }
                            _ => None,
                        },
                    );
                    self.dirty.routes = true;
                }
            }
            Key::Resource { kind, name, .. } => {
                self.update_resource(&update.key, *kind, name, value.as_ref());
            }
            Key::IpamBlock { .. }
            | Key::IpamConfig
            | Key::IpamHandle { .. }
            | Key::IpamHost { .. }
            | Key::Subnet { .. } => {}
        }
    }

    /// Sets the addresses this host has, as the kernel says.
    pub fn set_host_addresses(&mut self, addresses: impl IntoIterator<Item = IpAddr>) {
        self.place(
            &PlaceOwner::Host,
            addresses
                .into_iter()
                .map(|address| (IpNet::from(address), Place::ThisHost)),
        );
    }

    /// Brings the plan up to date and says what differs.
    pub fn flush(&mut self) -> Changes {
        self.flush_units();
        self.flush_endpoints();
        self.flush_lists();
        self.flush_addresses();
        self.flush_routes();
        self.flush_bgp();
        self.dirty.changes.facts.append(&mut self.nets.flush());
        std::mem::take(&mut self.dirty.changes)
    }

    /// Gives up what only lists of the past have asked for: to be called once no such list is in the kernel any more. Says
    /// whether there is anything to [`flush`](Self::flush).
    pub fn forget(&mut self) -> bool {
        let mut used = BTreeSet::new();
        for list in self.plan.lists.values() {
            used.extend(list.lines.iter().map(|line| line.id));
        }
        self.names.keep(&used);
        self.members.forget(&mut self.nets)
    }

    /// Whether [`forget`](Self::forget) would find something.
    pub fn has_unused(&self) -> bool {
        self.members.has_unused()
    }

    /// What this node should do, as of the last flush.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What is known of exactly this prefix, as of the last flush.
    pub fn facts(&self, prefix: IpNet) -> Option<&Facts> {
        self.nets.facts(prefix)
    }

    /// Everything known of prefixes, as of the last flush.
    pub fn all_facts(&self) -> impl Iterator<Item = (IpNet, &Facts)> {
        self.nets.iter()
    }

    /// What is known of an address: the facts of its longest prefix.
    pub fn lookup(&self, address: IpAddr) -> Option<&Facts> {
        self.nets.lookup(address)
    }

    /// A hash over the atoms of a class, the same in every process.
    pub fn class_hash(&self, atoms: &AtomSet) -> u64 {
        super::fnv1a(self.spell(atoms).join("\n").as_bytes())
    }

    /// The atoms of a set in words, sorted.
    pub fn spell(&self, atoms: &AtomSet) -> Vec<String> {
        self.members.spell(atoms)
    }

    /// The rule of a number that the data path counts or remembers.
    pub fn rule(&self, id: u32) -> Option<&RuleName> {
        self.names.name(id).map(AsRef::as_ref)
    }

    /// Everything a person should mend.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.problems.values().flatten()
    }

    /// The interfaces that endpoints of this host name and that are not among these.
    pub fn absent_interfaces<'a>(
        &'a self,
        present: &'a BTreeSet<String>,
    ) -> impl Iterator<Item = Problem> + 'a {
        let absent = self
            .plan
            .interfaces
            .iter()
            .filter(|(name, _)| !present.contains(*name));
        absent.map(|(name, interface)| {
            Problem::new(
                &interface.endpoint,
                "spec.interfaceName",
                format!("{name} is not there"),
            )
        })
    }

    /// The endpoints of this host that have an interface of their own, as of the last flush.
    pub fn local_endpoints(&self) -> impl Iterator<Item = LocalEndpoint> {
        self.plan.interfaces.iter().filter_map(|(name, interface)| {
            let Some(Resource::WorkloadEndpoint(endpoint)) =
                self.local.get(&interface.endpoint).map(AsRef::as_ref)
            else {
                return None;
            };
            let spec = &endpoint.spec;
            Some(LocalEndpoint {
                key: interface.endpoint.clone(),
                workload: spec
                    .pod
                    .clone()
                    .or_else(|| spec.workload.clone())
                    .or_else(|| spec.container_id.clone())
                    .unwrap_or_default(),
                interface: name.clone(),
                mac: spec.mac,
                addresses: spec
                    .ip_networks
                    .iter()
                    .map(cleat_datastore::value::Cidr::addr)
                    .collect(),
                profiles: spec.profiles.clone(),
                ingress: self.plan.lists.get(&interface.ingress)?.clone(),
                egress: self.plan.lists.get(&interface.egress)?.clone(),
            })
        })
    }

    /// How many objects of a kind there are.
    pub fn count(&self, kind: Kind) -> usize {
        self.resources
            .keys()
            .filter(|key| key.kind() == Some(kind))
            .count()
    }

    /// How many atoms rules ask for.
    pub fn atoms(&self) -> usize {
        self.members.atoms()
    }
}

fn set<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    };
}

fn replace<T: PartialEq>(old: &mut T, new: T) -> bool {
    let changed = *old != new;
    *old = new;
    changed
}
