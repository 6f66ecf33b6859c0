//! Taking changes over: indexes are brought up to date, and what depends on them is marked.

use super::claims::Claim;
use super::{
    Arc, BTreeMap, BTreeSet, Change, DEFAULT_ALLOW, Graph, IpAddr, IpNet, ItemId, Key, Kind,
    NamedPort, Origin, Place, PlaceOwner, Placement, Resource, Source, WorkloadEndpoint, scope,
    set,
};

impl Graph {
    pub(super) fn update_resource(
        &mut self,
        key: &Key,
        kind: Kind,
        name: &str,
        value: Option<&Arc<Resource>>,
    ) {
        match (kind, value.map(AsRef::as_ref)) {
            (Kind::WorkloadEndpoint, Some(Resource::WorkloadEndpoint(endpoint)))
                if !endpoint.spec.ip_networks.is_empty() =>
            {
                self.set_endpoint(key, endpoint, value.cloned());
            }
            (Kind::WorkloadEndpoint, _) => self.remove_endpoint(key),
            (Kind::NetworkSet, Some(Resource::NetworkSet(object))) => {
                let namespace = key.namespace().unwrap_or_default();
                let nets = object
                    .spec
                    .nets
                    .iter()
                    .map(cleat_datastore::value::Cidr::net)
                    .collect();
                self.set_net_set(
                    key,
                    scope::labels(&object.metadata, Some(namespace)),
                    vec![format!("kns.{namespace}")],
                    nets,
                );
            }
            (Kind::GlobalNetworkSet, Some(Resource::GlobalNetworkSet(object))) => {
                let nets = object
                    .spec
                    .nets
                    .iter()
                    .map(cleat_datastore::value::Cidr::net)
                    .collect();
                self.set_net_set(key, scope::labels(&object.metadata, None), Vec::new(), nets);
            }
            (Kind::NetworkSet | Kind::GlobalNetworkSet, _) => self.remove_item(key),
            (Kind::NetworkPolicy, Some(Resource::NetworkPolicy(policy))) => {
                self.set_policy(key, Some(Placement::of(key, policy)));
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
                let claim = pool.as_ref().map(|pool| Claim::Pool(pool.spec.cidr.net()));
                set(&mut self.pools, name.to_owned(), pool);
                self.claim(key, claim);
                self.place_pool(name);
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
            (Kind::HostEndpoint, endpoint) => {
                let claim = match endpoint {
                    Some(Resource::HostEndpoint(endpoint)) => Claim::of_host_endpoint(endpoint),
                    _ => None,
                };
                self.claim(key, claim);
            }
            (Kind::BgpPeer, peer) => {
                let peer = match peer {
                    Some(Resource::BgpPeer(peer)) => Some(Arc::new(peer.clone())),
                    _ => None,
                };
                set(&mut self.peers, name.to_owned(), peer);
                self.dirty.bgp = true;
            }
            (
                Kind::BgpFilter
                | Kind::CalicoNodeStatus
                | Kind::ClusterInformation
                | Kind::EndpointSlice
                | Kind::FelixConfiguration
                | Kind::IpReservation
                | Kind::IpamConfiguration
                | Kind::KubeControllersConfiguration
                | Kind::LiveMigration
                | Kind::Service
                | Kind::StagedGlobalNetworkPolicy
                | Kind::StagedKubernetesNetworkPolicy
                | Kind::StagedNetworkPolicy,
                _,
            ) => {}
        }
    }

    pub(super) fn set_endpoint(
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
            &named.collect(),
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

    pub(super) fn remove_endpoint(&mut self, key: &Key) {
        self.remove_local(key);
        self.dirty
            .addresses
            .extend(self.holders.owned(key).copied());
        self.holders.replace(key, [], |_, _| {});
        self.report(key, Origin::Address, Vec::new());
        self.remove_item(key);
    }

    pub(super) fn remove_local(&mut self, key: &Key) {
        if self.local.contains_key(key) {
            self.use_profiles(key, None);
            self.local.remove(key);
            let changes = self.applies.remove_item(key);
            self.follow(changes);
            self.dirty.endpoints.insert(key.clone());
            self.dirty.routes = true;
        }
    }

    pub(super) fn use_profiles(&mut self, endpoint: &Key, profiles: Option<&[String]>) {
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

    pub(super) fn set_net_set(
        &mut self,
        key: &Key,
        labels: BTreeMap<String, String>,
        parents: Vec<String>,
        nets: BTreeSet<IpNet>,
    ) {
        let id = self.id(key);
        self.members
            .set_item(id, labels, parents, &BTreeSet::new(), &mut self.nets);
        self.nets.set_prefixes(Source::Item(id), nets);
    }

    pub(super) fn remove_item(&mut self, key: &Key) {
        if let Some(id) = self.ids.remove(key) {
            self.members.remove_item(id, &mut self.nets);
            self.nets.set_prefixes(Source::Item(id), BTreeSet::new());
        }
    }

    pub(super) fn set_policy(&mut self, key: &Key, placement: Option<Placement>) {
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

    pub(super) fn follow(&mut self, changes: Vec<Change<Key, Key>>) {
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

    pub(super) fn place(
        &mut self,
        owner: &PlaceOwner,
        entries: impl IntoIterator<Item = (IpNet, Place)>,
    ) {
        let (nets, holders, addresses) = (&mut self.nets, &self.holders, &mut self.dirty.addresses);
        self.places.replace(owner, entries, |net, place| {
            nets.set_place(*net, place.cloned());
            // An endpoint may have lost the address to the host, or got it back.
            if net.prefix_len() == net.max_prefix_len() && holders.winner(&net.addr()).is_some() {
                addresses.insert(net.addr());
            }
        });
    }

    pub(super) fn id(&mut self, key: &Key) -> ItemId {
        if let Some(id) = self.ids.get(key) {
            return *id;
        }
        let id = self.next_id;
        self.next_id += 1;
        self.ids.insert(key.clone(), id);
        id
    }
}
