//! Computing what was marked, each step from the state the one before has left.

use super::{
    Arc, Asker, Atom, AtomId, BTreeMap, BTreeSet, DEFAULT_ALLOW, Direction, Graph, Interface,
    IpAddr, IpNet, Key, Kind, ListId, Members, Nets, Origin, Place, PlaceOwner, Placement, Pools,
    ProfileSpec, Recipe, Resolver, Resource, Rule, Selector, Source, TierAction, TierPart, Unit,
    WorkloadEndpoint, bgp, compile, default_allow, replace, routes,
};

impl Graph {
    pub(super) fn flush_units(&mut self) {
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

    pub(super) fn is_used(&self, key: &Key) -> bool {
        match key.kind() {
            Some(Kind::Profile) => self.profile_users.contains_key(key.name()),
            _ => self.applies.items_of(key).next().is_some(),
        }
    }

    pub(super) fn users_of(&self, key: &Key) -> Vec<Key> {
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

    pub(super) fn rules_of(&self, key: &Key) -> Option<(Vec<Rule>, Vec<Rule>)> {
        if *key == Key::global(Kind::Profile, DEFAULT_ALLOW) {
            let ProfileSpec {
                ingress, egress, ..
            } = default_allow();
            return Some((ingress, egress));
        }
        match self.resources.get(key).map(AsRef::as_ref) {
            Some(Resource::NetworkPolicy(policy)) => {
                Some((policy.spec.ingress.clone(), policy.spec.egress.clone()))
            }
            Some(Resource::GlobalNetworkPolicy(policy)) => {
                Some((policy.spec.ingress.clone(), policy.spec.egress.clone()))
            }
            Some(Resource::Profile(profile)) => {
                Some((profile.spec.ingress.clone(), profile.spec.egress.clone()))
            }
            _ => None,
        }
    }

    pub(super) fn compile_unit(&mut self, key: &Key, ingress: &[Rule], egress: &[Rule]) {
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

    pub(super) fn release(&mut self, key: &Key, unit: Unit) {
        for atom in unit.atoms {
            self.members.release(atom);
        }
        for (selector, name) in &unit.names {
            self.members.leave(selector, name, key);
        }
    }

    pub(super) fn flush_endpoints(&mut self) {
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
                        .map(cleat_datastore::value::Cidr::addr)
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

    pub(super) fn recipe(
        &self,
        key: &Key,
        endpoint: &WorkloadEndpoint,
        direction: Direction,
    ) -> Recipe {
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

    pub(super) fn list(&mut self, recipe: Recipe) -> ListId {
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
    pub(super) fn flush_lists(&mut self) {
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

    pub(super) fn flush_addresses(&mut self) {
        let mut users = BTreeSet::new();
        for address in std::mem::take(&mut self.dirty.addresses) {
            let user = self.user(address);
            let place = user.as_ref().map(|key| self.place_of(key));
            let net = IpNet::from(address);
            let nets = &mut self.nets;
            self.places
                .set(&PlaceOwner::Endpoint, net, place, |net, place| {
                    nets.set_place(*net, place.cloned());
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

    /// The endpoint that uses an address: the first by key, unless the host itself has it.
    pub(super) fn user(&self, address: IpAddr) -> Option<Key> {
        let owner = self
            .places
            .winner(&IpNet::from(address))
            .map(|(owner, _)| owner);
        if owner.is_some_and(|owner| *owner < PlaceOwner::Endpoint) {
            return None;
        }
        self.holders.winner(&address).map(|(key, ())| key.clone())
    }

    /// Where an endpoint's addresses live. One that lost its interface to another is nowhere here.
    pub(super) fn place_of(&self, key: &Key) -> Place {
        let mut own = self.wishes.owned(key).filter(|name| {
            self.wishes
                .winner(name)
                .is_some_and(|(owner, _)| owner == key)
        });
        own.next().map_or(Place::RemoteWorkload, |name| {
            Place::LocalWorkload(name.as_str().into())
        })
    }

    pub(super) fn flush_routes(&mut self) {
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
        let pools = Pools::new(
            self.pools
                .iter()
                .filter(|(name, _)| self.is_pool_in_force(name))
                .map(|(_, pool)| pool),
        );
        let input = routes::Input {
            pools: &pools,
            affinities: &self.affinities,
            addresses: &addresses,
        };
        let (routes, originated) = (input.routes(), input.originated());
        self.dirty.changes.routes |= replace(&mut self.plan.routes, routes);
        self.dirty.changes.originated |= replace(&mut self.plan.originated, originated);
    }

    pub(super) fn flush_bgp(&mut self) {
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
