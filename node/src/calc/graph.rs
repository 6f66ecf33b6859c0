//! The graph: indexes of resources, what is dirty, and the plan.

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
    keys: BTreeMap<ItemId, Key>,
    next_id: ItemId,
    members: Members,
    nets: Nets,
    /// Endpoints that have an address; the first is the one who uses it.
    holders: Contrib<Key, IpAddr, ()>,
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
            keys: BTreeMap::new(),
            next_id: 0,
            members: Members::default(),
            nets: Nets::default(),
            holders: Contrib::default(),
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
                        value.as_deref().and_then(|value| match value {
                            Resource::BlockAffinity(affinity) => Some(Arc::new(affinity.clone())),
                            _ => None,
                        }),
                    );
                    self.dirty.routes = true;
                }
            }
            Key::Resource { kind, name, .. } => {
                self.update_resource(&update.key, *kind, name, value)
            }
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
                addresses: spec.ip_networks.iter().map(|cidr| cidr.addr()).collect(),
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

    fn update_resource(&mut self, key: &Key, kind: Kind, name: &str, value: Option<Arc<Resource>>) {
        match (kind, value.as_deref()) {
            (Kind::WorkloadEndpoint, Some(Resource::WorkloadEndpoint(endpoint)))
                if !endpoint.spec.ip_networks.is_empty() =>
            {
                self.set_endpoint(key, endpoint, value.clone());
            }
            (Kind::WorkloadEndpoint, _) => self.remove_endpoint(key),
            (Kind::NetworkSet, Some(Resource::NetworkSet(object))) => {
                let namespace = key.namespace().unwrap_or_default();
                let nets = object.spec.nets.iter().map(|cidr| cidr.net()).collect();
                self.set_net_set(
                    key,
                    scope::labels(&object.metadata, Some(namespace)),
                    vec![format!("kns.{namespace}")],
                    nets,
                );
            }
            (Kind::GlobalNetworkSet, Some(Resource::GlobalNetworkSet(object))) => {
                let nets = object.spec.nets.iter().map(|cidr| cidr.net()).collect();
                self.set_net_set(key, scope::labels(&object.metadata, None), Vec::new(), nets);
            }
            (Kind::NetworkSet | Kind::GlobalNetworkSet, _) => self.remove_item(key),
            (Kind::NetworkPolicy, Some(Resource::NetworkPolicy(policy))) => {
                self.set_policy(key, Some(Placement::of(key, policy)))
            }
            (Kind::GlobalNetworkPolicy, Some(Resource::GlobalNetworkPolicy(policy))) => {
                self.set_policy(key, Some(Placement::of_global(key, policy)));
            }
            (Kind::NetworkPolicy | Kind::GlobalNetworkPolicy, _) => self.set_policy(key, None),
            (Kind::Profile, profile) => {
                if name == DEFAULT_ALLOW {
                    return;
                }
                let labels = match profile {
                    Some(Resource::Profile(profile)) => profile.spec.labels_to_apply.clone(),
                    _ => BTreeMap::new(),
                };
                self.members
                    .set_parent(name, labels.clone(), &mut self.nets);
                let changes = self.applies.set_parent(name, labels);
                self.follow(changes);
                self.dirty.stale.insert(key.clone());
                self.dirty
                    .endpoints
                    .extend(self.profile_users.get(name).into_iter().flatten().cloned());
            }
            (Kind::Tier, tier) => {
                let spec = match tier {
                    Some(Resource::Tier(tier)) => Some(&tier.spec),
                    _ => None,
                };
                self.tiers.set(name, spec);
                self.dirty.endpoints.extend(self.local.keys().cloned());
                let policies: Vec<Key> = self
                    .placements
                    .iter()
                    .filter(|(_, placement)| placement.tier == name)
                    .map(|(key, _)| key.clone())
                    .collect();
                for policy in &policies {
                    self.report_tier(policy);
                }
            }
            (Kind::IpPool, pool) => {
                let pool = match pool {
                    Some(Resource::IpPool(pool)) => Some(Arc::new(pool.clone())),
                    _ => None,
                };
                let place = pool
                    .as_ref()
                    .filter(|pool| routes::for_workloads(pool))
                    .map(|pool| (pool.spec.cidr.net(), Place::RemoteWorkload));
                self.place(&PlaceOwner::Pool(name.to_owned()), place);
                set(&mut self.pools, name.to_owned(), pool);
                self.dirty.routes = true;
            }
            (Kind::Node, node) => {
                let node = match node {
                    Some(Resource::Node(node)) => Some(Arc::new(node.clone())),
                    _ => None,
                };
                let (owner, place) = if name == self.host {
                    (PlaceOwner::ThisNode, Place::ThisHost)
                } else {
                    (PlaceOwner::Node(name.to_owned()), Place::OtherHost)
                };
                let addresses: Vec<IpAddr> =
                    node.iter().flat_map(|node| node.addresses()).collect();
                self.place(
                    &owner,
                    addresses
                        .into_iter()
                        .map(|address| (IpNet::from(address), place.clone())),
                );
                set(&mut self.nodes, name.to_owned(), node);
                self.dirty.bgp = true;
            }
            (Kind::BgpConfiguration, configuration) => {
                let configuration = match configuration {
                    Some(Resource::BgpConfiguration(configuration)) => {
                        Some(Arc::new(configuration.clone()))
                    }
                    _ => None,
                };
                set(&mut self.configurations, name.to_owned(), configuration);
                self.dirty.bgp = true;
            }
            (Kind::BgpPeer, peer) => {
                let peer = match peer {
                    Some(Resource::BgpPeer(peer)) => Some(Arc::new(peer.clone())),
                    _ => None,
                };
                set(&mut self.peers, name.to_owned(), peer);
                self.dirty.bgp = true;
            }
        }
    }

    fn set_endpoint(
        &mut self,
        key: &Key,
        endpoint: &WorkloadEndpoint,
        value: Option<Arc<Resource>>,
    ) {
        let spec = &endpoint.spec;
        let mut labels = scope::labels(&endpoint.metadata, key.namespace());
        labels.insert(scope::ORCHESTRATOR.to_owned(), spec.orchestrator.clone());
        if let Some(account) = spec
            .service_account_name
            .as_ref()
            .filter(|name| !name.is_empty())
        {
            labels.insert(scope::SERVICE_ACCOUNT.to_owned(), account.clone());
        }
        let named = spec
            .ports
            .iter()
            .filter(|port| !port.name.is_empty())
            .filter_map(|port| {
                Some(NamedPort {
                    name: port.name.clone(),
                    protocol: port.protocol.0.number()?,
                    port: port.port,
                })
            });
        let id = self.id(key);
        self.members.set_item(
            id,
            labels.clone(),
            spec.profiles.clone(),
            named.collect(),
            &mut self.nets,
        );
        let addresses = spec.ip_networks.iter().map(|cidr| (cidr.addr(), ()));
        self.dirty
            .addresses
            .extend(self.holders.owned(key).copied());
        self.holders.replace(key, addresses, |_, _| {});
        self.dirty
            .addresses
            .extend(self.holders.owned(key).copied());
        if spec.node == self.host {
            self.use_profiles(key, Some(&spec.profiles));
            let changes = self
                .applies
                .set_item(key.clone(), labels, spec.profiles.clone());
            self.follow(changes);
            set(&mut self.local, key.clone(), value);
            self.dirty.endpoints.insert(key.clone());
            self.dirty.routes = true;
        } else {
            self.remove_local(key);
        }
    }

    fn remove_endpoint(&mut self, key: &Key) {
        self.remove_local(key);
        self.dirty
            .addresses
            .extend(self.holders.owned(key).copied());
        self.holders.replace(key, [], |_, _| {});
        self.report(key, Origin::Address, Vec::new());
        self.remove_item(key);
    }

    fn remove_local(&mut self, key: &Key) {
        if self.local.contains_key(key) {
            self.use_profiles(key, None);
            self.local.remove(key);
            let changes = self.applies.remove_item(key);
            self.follow(changes);
            self.dirty.endpoints.insert(key.clone());
            self.dirty.routes = true;
        }
    }

    fn use_profiles(&mut self, endpoint: &Key, profiles: Option<&[String]>) {
        let before = match self.local.get(endpoint).map(AsRef::as_ref) {
            Some(Resource::WorkloadEndpoint(endpoint)) => endpoint.spec.profiles.clone(),
            _ => Vec::new(),
        };
        for name in before {
            if let Some(users) = self.profile_users.get_mut(&name) {
                users.remove(endpoint);
                if users.is_empty() {
                    self.profile_users.remove(&name);
                }
            }
            self.dirty.usage.insert(Key::global(Kind::Profile, name));
        }
        for name in profiles.unwrap_or_default() {
            self.profile_users
                .entry(name.clone())
                .or_default()
                .insert(endpoint.clone());
            self.dirty
                .usage
                .insert(Key::global(Kind::Profile, name.clone()));
        }
    }

    fn set_net_set(
        &mut self,
        key: &Key,
        labels: BTreeMap<String, String>,
        parents: Vec<String>,
        nets: BTreeSet<IpNet>,
    ) {
        let id = self.id(key);
        self.members
            .set_item(id, labels, parents, BTreeSet::new(), &mut self.nets);
        self.nets.set_prefixes(Source::Item(id), nets);
    }

    fn remove_item(&mut self, key: &Key) {
        if let Some(id) = self.ids.remove(key) {
            self.members.remove_item(id, &mut self.nets);
            self.nets.set_prefixes(Source::Item(id), BTreeSet::new());
            self.keys.remove(&id);
        }
    }

    fn set_policy(&mut self, key: &Key, placement: Option<Placement>) {
        self.dirty.stale.insert(key.clone());
        self.dirty
            .endpoints
            .extend(self.applies.items_of(key).cloned());
        let changes = match &placement {
            Some(placement) if placement.for_workloads => {
                self.applies.set_selector(key.clone(), &placement.selector)
            }
            _ => self.applies.remove_selector(key),
        };
        self.follow(changes);
        set(&mut self.placements, key.clone(), placement);
        self.report_tier(key);
    }

    fn follow(&mut self, changes: Vec<Change<Key, Key>>) {
        for Change {
            selector: policy,
            item: endpoint,
            ..
        } in changes
        {
            self.dirty.endpoints.insert(endpoint);
            self.dirty.usage.insert(policy);
        }
    }

    fn place(&mut self, owner: &PlaceOwner, entries: impl IntoIterator<Item = (IpNet, Place)>) {
        let nets = &mut self.nets;
        self.places.replace(owner, entries, |net, place| {
            nets.set_place(*net, place.cloned())
        });
    }

    fn id(&mut self, key: &Key) -> ItemId {
        if let Some(id) = self.ids.get(key) {
            return *id;
        }
        let id = self.next_id;
        self.next_id += 1;
        self.ids.insert(key.clone(), id);
        self.keys.insert(id, key.clone());
        id
    }

    fn flush_units(&mut self) {
        let told = self.members.told();
        self.dirty.stale.extend(told);
        let stale = std::mem::take(&mut self.dirty.stale);
        let usage = std::mem::take(&mut self.dirty.usage);
        for key in stale.union(&usage) {
            let rules = if self.is_used(key) {
                self.rules_of(key)
            } else {
                None
            };
            match rules {
                None => {
                    if let Some(unit) = self.units.remove(key) {
                        self.release(key, unit);
                    }
                }
                Some(_) if self.units.contains_key(key) && !stale.contains(key) => continue,
                Some((ingress, egress)) => self.compile_unit(key, &ingress, &egress),
            }
            self.dirty.endpoints.extend(self.users_of(key));
        }
    }

    fn is_used(&self, key: &Key) -> bool {
        match key.kind() {
            Some(Kind::Profile) => self.profile_users.contains_key(key.name()),
            _ => self.applies.items_of(key).next().is_some(),
        }
    }

    fn users_of(&self, key: &Key) -> Vec<Key> {
        match key.kind() {
            Some(Kind::Profile) => self
                .profile_users
                .get(key.name())
                .into_iter()
                .flatten()
                .cloned()
                .collect(),
            _ => self.applies.items_of(key).cloned().collect(),
        }
    }

    fn rules_of(&self, key: &Key) -> Option<(Vec<Rule>, Vec<Rule>)> {
        if *key == Key::global(Kind::Profile, DEFAULT_ALLOW) {
            let ProfileSpec {
                ingress, egress, ..
            } = default_allow();
            return Some((ingress, egress));
        }
        match self.resources.get(key)?.as_ref() {
            Resource::NetworkPolicy(policy) => {
                Some((policy.spec.ingress.clone(), policy.spec.egress.clone()))
            }
            Resource::GlobalNetworkPolicy(policy) => {
                Some((policy.spec.ingress.clone(), policy.spec.egress.clone()))
            }
            Resource::Profile(profile) => {
                Some((profile.spec.ingress.clone(), profile.spec.egress.clone()))
            }
            _ => None,
        }
    }

    fn compile_unit(&mut self, key: &Key, ingress: &[Rule], egress: &[Rule]) {
        let mut asking = Asking {
            members: &mut self.members,
            nets: &mut self.nets,
            asker: key,
            atoms: Vec::new(),
            names: BTreeSet::new(),
        };
        let ingress = ingress
            .iter()
            .map(|rule| compile(rule, key.namespace(), &mut asking))
            .collect();
        let egress = egress
            .iter()
            .map(|rule| compile(rule, key.namespace(), &mut asking))
            .collect();
        let Asking { atoms, names, .. } = asking;
        let before = self.units.remove(key);
        let mut unit = Unit {
            version: 0,
            ingress,
            egress,
            atoms,
            names,
        };
        unit.version = match &before {
            Some(before) if before.ingress == unit.ingress && before.egress == unit.egress => {
                before.version
            }
            _ => {
                self.next_version += 1;
                self.next_version
            }
        };
        if let Some(before) = before {
            // What both ask for was taken twice and is given back once.
            for atom in &before.atoms {
                self.members.release(*atom);
            }
            for (selector, name) in before.names.difference(&unit.names) {
                self.members.leave(selector, name, key);
            }
        }
        self.units.insert(key.clone(), unit);
    }

    fn release(&mut self, key: &Key, unit: Unit) {
        for atom in unit.atoms {
            self.members.release(atom);
        }
        for (selector, name) in &unit.names {
            self.members.leave(selector, name, key);
        }
    }

    fn flush_endpoints(&mut self) {
        for key in std::mem::take(&mut self.dirty.endpoints) {
            let value = self.local.get(&key).cloned();
            let wish = match value.as_deref() {
                Some(Resource::WorkloadEndpoint(endpoint)) => {
                    let [ingress, egress] =
                        [Direction::Ingress, Direction::Egress].map(|direction| {
                            let recipe = self.recipe(&key, endpoint, direction);
                            self.list(recipe)
                        });
                    let addresses = endpoint
                        .spec
                        .ip_networks
                        .iter()
                        .map(|cidr| cidr.addr())
                        .collect();
                    let interface = Interface {
                        endpoint: key.clone(),
                        ingress,
                        egress,
                        mac: endpoint.spec.mac,
                        addresses,
                    };
                    Some((endpoint.spec.interface_name.clone(), interface))
                }
                _ => None,
            };
            self.report_policy(&key, value.as_deref());
            let names: BTreeSet<String> = self
                .wishes
                .owned(&key)
                .cloned()
                .chain(wish.iter().map(|(name, _)| name.clone()))
                .collect();
            let before: BTreeMap<&String, Option<Key>> = names
                .iter()
                .map(|name| {
                    (
                        name,
                        self.wishes.winner(name).map(|(owner, _)| owner.clone()),
                    )
                })
                .collect();
            let (plan, changes) = (&mut self.plan, &mut self.dirty.changes);
            self.wishes.replace(&key, wish, |name, winner| {
                match winner {
                    Some(interface) => plan.interfaces.insert(name.clone(), interface.clone()),
                    None => plan.interfaces.remove(name),
                };
                changes.interfaces.insert(name.clone());
            });
            for (name, before) in before {
                let now = self.wishes.winner(name).map(|(owner, _)| owner.clone());
                if before != now {
                    for owner in before.iter().chain(&now) {
                        self.dirty
                            .addresses
                            .extend(self.holders.owned(owner).copied());
                    }
                    self.dirty.routes = true;
                }
                self.report_interface(name);
            }
            if !self.local.contains_key(&key) {
                self.report(&key, Origin::Interface, Vec::new());
            }
        }
    }

    fn recipe(&self, key: &Key, endpoint: &WorkloadEndpoint, direction: Direction) -> Recipe {
        let mut policies: Vec<(&Key, &Placement)> = self
            .applies
            .selectors_of(key)
            .filter_map(|policy| Some((policy, self.placements.get(policy)?)))
            .filter(|(_, placement)| placement.governs(direction))
            .collect();
        policies.sort_by(|(_, a), (_, b)| {
            let tiers = self
                .tiers
                .rank(&a.tier)
                .partial_cmp(&self.tiers.rank(&b.tier));
            tiers.unwrap_or(std::cmp::Ordering::Equal).then_with(|| {
                a.rank()
                    .partial_cmp(&b.rank())
                    .unwrap_or(std::cmp::Ordering::Equal)
            })
        });
        let mut tiers: Vec<TierPart> = Vec::new();
        for (policy, placement) in policies {
            if tiers.last().is_none_or(|tier| tier.name != placement.tier) {
                let denies = self.tiers.default_action(&placement.tier) == TierAction::Deny;
                tiers.push(TierPart {
                    name: placement.tier.clone(),
                    denies,
                    policies: Vec::new(),
                });
            }
            if let (Some(tier), Some(unit)) = (tiers.last_mut(), self.units.get(policy)) {
                tier.policies.push((policy.clone(), unit.version));
            }
        }
        let version = |name: &String| {
            self.units
                .get(&Key::global(Kind::Profile, name.clone()))
                .map(|unit| unit.version)
        };
        let profiles = endpoint
            .spec
            .profiles
            .iter()
            .map(|name| (name.clone(), version(name)))
            .collect();
        Recipe {
            direction,
            tiers,
            profiles,
        }
    }

    fn list(&mut self, recipe: Recipe) -> ListId {
        if let Some(id) = self.recipes.get(&recipe) {
            return *id;
        }
        let id = self.next_list;
        self.next_list += 1;
        self.plan
            .lists
            .insert(id, Arc::new(recipe.cook(&self.units, &mut self.names)));
        self.dirty.changes.lists.insert(id);
        self.recipes.insert(recipe, id);
        id
    }

    /// Drops the lists no interface refers to.
    fn flush_lists(&mut self) {
        let used: BTreeSet<ListId> = self
            .wishes
            .all()
            .flat_map(|interface| [interface.ingress, interface.egress])
            .collect();
        if used.len() < self.plan.lists.len() {
            self.plan.lists.retain(|id, _| used.contains(id));
            self.recipes.retain(|_, id| used.contains(id));
            self.dirty.changes.lists.retain(|id| used.contains(id));
        }
    }

    fn flush_addresses(&mut self) {
        let mut users = BTreeSet::new();
        for address in std::mem::take(&mut self.dirty.addresses) {
            let user = self.holders.winner(&address).map(|(key, ())| key.clone());
            let place = user.as_ref().map(|key| self.place_of(key));
            let net = IpNet::from(address);
            let nets = &mut self.nets;
            self.places
                .set(&PlaceOwner::Endpoint, net, place, |net, place| {
                    nets.set_place(*net, place.cloned())
                });
            let before = match &user {
                Some(key) => self.using.insert(address, key.clone()),
                None => self.using.remove(&address),
            };
            self.dirty.routes |= before != user;
            users.extend(before.into_iter().chain(user));
            self.report_address(address);
        }
        for key in users {
            if let Some(id) = self.ids.get(&key) {
                let used = self
                    .holders
                    .owned(&key)
                    .filter(|address| self.using.get(*address) == Some(&key));
                self.nets.set_prefixes(
                    Source::Item(*id),
                    used.map(|address| IpNet::from(*address)).collect(),
                );
            }
        }
    }

    /// Where an endpoint's addresses live. One that lost its interface to another is nowhere here.
    fn place_of(&self, key: &Key) -> Place {
        let mut own = self.wishes.owned(key).filter(|name| {
            self.wishes
                .winner(name)
                .is_some_and(|(owner, _)| owner == key)
        });
        own.next().map_or(Place::RemoteWorkload, |name| {
            Place::LocalWorkload(name.as_str().into())
        })
    }

    fn flush_routes(&mut self) {
        if !std::mem::take(&mut self.dirty.routes) {
            return;
        }
        let mut addresses = BTreeMap::new();
        for (name, interface) in &self.plan.interfaces {
            let name: Arc<str> = name.as_str().into();
            let used = interface
                .addresses
                .iter()
                .filter(|address| self.using.get(*address) == Some(&interface.endpoint));
            addresses.extend(used.map(|address| (*address, name.clone())));
        }
        let pools = Pools::new(self.pools.iter().map(|(name, pool)| (name.as_str(), pool)));
        let input = routes::Input {
            pools: &pools,
            affinities: &self.affinities,
            addresses: &addresses,
        };
        let (routes, originated) = (input.routes(), input.originated());
        self.dirty.changes.routes |= replace(&mut self.plan.routes, routes);
        self.dirty.changes.originated |= replace(&mut self.plan.originated, originated);
    }

    fn flush_bgp(&mut self) {
        if !std::mem::take(&mut self.dirty.bgp) {
            return;
        }
        let input = bgp::Input {
            host: &self.host,
            nodes: &self.nodes,
            configurations: &self.configurations,
            peers: &self.peers,
        };
        let (settings, problems) = input.settings();
        self.dirty.changes.bgp |= replace(&mut self.plan.bgp, settings);
        self.problems
            .retain(|(_, origin), _| *origin != Origin::Bgp);
        for (key, problem) in problems {
            self.problems
                .entry((key, Origin::Bgp))
                .or_default()
                .push(problem);
        }
    }

    fn report(&mut self, key: &Key, origin: Origin, problems: Vec<Problem>) {
        if problems.is_empty() {
            self.problems.remove(&(key.clone(), origin));
        } else {
            self.problems.insert((key.clone(), origin), problems);
        }
    }

    fn report_tier(&mut self, policy: &Key) {
        let tier = self.placements.get(policy).map(|placement| &placement.tier);
        let unknown = tier.filter(|tier| !self.tiers.exists(tier)).map(|tier| {
            Problem::new(
                policy,
                "spec.tier",
                format!(
                    "there is no tier {tier}: the policy comes last and the tier denies at its end"
                ),
            )
        });
        self.report(policy, Origin::Policy, unknown.into_iter().collect());
    }

    fn report_policy(&mut self, key: &Key, value: Option<&Resource>) {
        let mut problems = Vec::new();
        if let Some(Resource::WorkloadEndpoint(endpoint)) = value {
            for (index, name) in endpoint.spec.profiles.iter().enumerate() {
                if !self
                    .units
                    .contains_key(&Key::global(Kind::Profile, name.clone()))
                {
                    problems.push(Problem::new(
                        key,
                        format!("spec.profiles[{index}]"),
                        format!("there is no profile {name}: it denies"),
                    ));
                }
            }
        }
        self.report(key, Origin::Policy, problems);
    }

    fn report_interface(&mut self, name: &str) {
        let owners: Vec<Key> = self
            .wishes
            .wishes(&name.to_owned())
            .map(|(owner, _)| owner.clone())
            .collect();
        for (place, owner) in owners.iter().enumerate() {
            let lost = (place > 0).then(|| {
                Problem::new(
                    owner,
                    "spec.interfaceName",
                    format!("{name} is the interface of {}", owners[0]),
                )
            });
            self.report(owner, Origin::Interface, lost.into_iter().collect());
        }
    }

    fn report_address(&mut self, address: IpAddr) {
        let owners: Vec<Key> = self
            .holders
            .wishes(&address)
            .map(|(owner, ())| owner.clone())
            .collect();
        for owner in owners {
            let mut problems = Vec::new();
            for own in self.holders.owned(&owner) {
                if let Some((user, ())) = self
                    .holders
                    .winner(own)
                    .filter(|(user, ())| **user != owner)
                {
                    problems.push(Problem::new(
                        &owner,
                        "spec.ipNetworks",
                        format!("{own} is the address of {user}"),
                    ));
                }
            }
            self.report(&owner, Origin::Address, problems);
        }
    }
}

/// Takes atoms and port names for one policy or profile.
struct Asking<'a> {
    members: &'a mut Members,
    nets: &'a mut Nets,
    asker: &'a Asker,
    atoms: Vec<AtomId>,
    names: BTreeSet<(Selector, String)>,
}

impl Resolver for Asking<'_> {
    fn atom(&mut self, atom: Atom) -> AtomId {
        let id = self.members.take(&atom, self.nets);
        self.atoms.push(id);
        id
    }

    fn named_ports(&mut self, selector: &Selector, name: &str) -> BTreeSet<(u8, u16)> {
        self.names.insert((selector.clone(), name.to_owned()));
        self.members
            .named_ports(selector, name, self.asker, self.nets)
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
