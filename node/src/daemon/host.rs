//! This host: the kernel's tables, what is wanted in them, and one pass that makes them agree.
//!
//! ```text
//! links ──> render: facts, interfaces, policy ──> maps
//!       ──> local routes ─┐
//! speaker ─> its routes ──┼─> Contrib ──> kernel routes
//! former run's routes ────┘
//!       ──> settings of workload interfaces, attachments
//! ```
//!
//! Stages run in the order of `bpf/DESIGN.md`: what a program reads is there before the program is attached. "Ours" is told by
//! the pin directory and by the protocol number of routes, so a new process finds what the former one left.

mod marks;
mod reach;
mod show;
mod timeouts;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use anyhow::Context as _;
use cleat_bgp::FibUpdate;
use cleat_bpf::policy::Blob;
use cleat_bpf::{Counted, Facts, Iface, IfaceKind, NetKey, V4, V6};
use cleat_datastore::Resource;
use cleat_datastore::status::EndpointState;
use ipnet::IpNet;

use super::known::Known;
use super::metrics::Metrics;
use super::owner::UP;
use crate::calc::{Changes, Graph, Route as LocalRoute};
use crate::config::{Config, EndpointToHost};
use crate::dataplane::{
    self, ArrayTable, AttachTable, Dataplane, HashTable, Hooks, Options, Timeouts, TrieTable,
};
use crate::felix;
use crate::netlink::{
    self, HostSide, Netlink, RouteKey, Routes, Seen, Settings, Snapshot, Watch, Way,
    enable_forwarding,
};
use crate::reconcile::{
    Contrib, Delta, Outcome, Pair, Stage, StageReport, Table as _, apply, resync,
};
use crate::render::{Arena, FactsTables, Link, Render, Tables};

/// The kernel's tables and what is wanted in them.
pub(super) struct Host {
    config: Config,
    dataplane: Dataplane,
    tables: Maps,
    render: Render,
    netlink: Netlink,
    /// Links and addresses of the kernel, as last read.
    seen: Snapshot,
    names: BTreeSet<String>,
    links_doubted: bool,
    /// Ways out that the programs remember may be old.
    ways_doubted: bool,
    wishes: Contrib<Wisher, RouteKey, Way>,
    /// Routes to local interfaces and blackholes of a former run, which a state from disk may not know.
    past: Vec<(RouteKey, Way)>,
    routes: Delta<RouteKey, Way>,
    /// Routes in the kernel that are ours.
    our_routes: BTreeSet<RouteKey>,
    settings: Delta<String, HostSide>,
    forwards: bool,
    /// There are workloads to forward for.
    wants_forwarding: bool,
    hooks: Delta<u32, Hooks>,
    attachments: AttachTable,
    /// A former run left something.
    adopted: bool,
    /// Routes of the former run are still waited for.
    former: bool,
    /// The maps of other layouts are gone.
    retired: bool,
    writes: u64,
    ticks: u64,
    clock: std::time::Instant,
    /// Felix's parameters that the configuration has no field for.
    felix: felix::Settings,
    timeouts: Timeouts,
    /// Our routes that have a former protocol number yet, and that number. They are written anew in their place, so that no
    /// packet is lost.
    unmarked: BTreeMap<RouteKey, u8>,
    /// The protocol number of our routes, as the watch of the kernel reads it.
    protocol: Arc<AtomicU8>,
}

type FactsMaps = FactsTables<
    HashTable<[u8; 4], Facts>,
    TrieTable<NetKey<V4>, Facts>,
    HashTable<[u8; 16], Facts>,
    TrieTable<NetKey<V6>, Facts>,
>;
type Maps = Tables<FactsMaps, HashTable<u32, Iface>, ArrayTable, Words>;

/// Who wants a route; the first one wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Wisher {
    /// Resources: a workload's interface, a block's blackhole.
    Local,
    /// The speaker.
    Bgp,
    /// A former run, until the speaker knows better.
    Former,
    /// A former run's local resources, until the store has told its own.
    Past,
}

/// Where what is not wanted may be removed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deletes {
    /// In the programs' maps, and attachments.
    pub(super) maps: bool,
    /// Among kernel routes and settings of interfaces. What peers withdraw has to go even while the store is away.
    pub(super) routes: bool,
}

impl Host {
    /// Loads the programs, or takes over what a former run left; changes nothing that packets meet.
    pub(super) fn open(config: &Config) -> anyhow::Result<Self> {
        let options = Options::default();
        let pins = &config.bpf_path;
        let dataplane = Dataplane::open(pins, &options)
            .with_context(|| format!("open bpfPath {}", pins.display()))?;
        let facts = FactsTables {
            facts4: dataplane.facts_table::<V4>()?,
            nets4: dataplane.nets_table::<V4>()?,
            facts6: dataplane.facts_table::<V6>()?,
            nets6: dataplane.nets_table::<V6>()?,
        };
        let mut tables = Tables {
            facts,
            ifaces: dataplane.iface_table()?,
            classes: dataplane.classes_table()?,
            arena: Words(dataplane.words()?),
        };
        let classes = !tables.classes.dump()?.is_empty();
        let render =
            Render::start(&mut tables, options.classes - 1).map_err(|report| failure(&report))?;
        let netlink = Netlink::open().context("open netlink")?;
        let attachments = dataplane.attach_table();
        let mut host = Self {
            config: config.clone(),
            dataplane,
            tables,
            render,
            netlink,
            seen: Snapshot::default(),
            names: BTreeSet::new(),
            links_doubted: true,
            ways_doubted: true,
            wishes: Contrib::default(),
            past: Vec::new(),
            routes: Delta::new(),
            our_routes: BTreeSet::new(),
            settings: Delta::new(),
            forwards: false,
            wants_forwarding: false,
            hooks: Delta::new(),
            attachments,
            adopted: false,
            former: true,
            retired: false,
            writes: 0,
            ticks: 0,
            clock: std::time::Instant::now(),
            felix: felix::Settings::default(),
            timeouts: Timeouts::default(),
            unmarked: BTreeMap::new(),
            protocol: Arc::new(config.route_protocol.into()),
        };
        host.set_endpoint_to_host()?;
        host.adopted = classes;
        host.adopt_routes().context("read the kernel's routes")?;
        Ok(host)
    }
}

impl Host {
    /// Takes over what may change while running.
    pub(super) fn reload(&mut self, config: &Config, settings: felix::Settings) {
        let protocol = std::mem::replace(&mut self.config, config.clone()).route_protocol;
        self.protocol.store(config.route_protocol, Relaxed);
        if protocol != config.route_protocol
            && let Err(error) = self.mark_routes_anew(protocol)
        {
            tracing::warn!(%error, "routes of another protocol number could not be read");
        }
        self.timeouts = timeouts::of(&settings.flow_timeouts);
        self.felix = settings;
        self.links_doubted = true;
        if let Err(error) = self.set_endpoint_to_host() {
            tracing::warn!(%error, "defaultEndpointToHostAction could not be set");
        }
    }

    /// Takes over what the kernel told of itself. Says whether the tables must be compared.
    pub(super) fn notice(&mut self, seen: Seen) -> bool {
        self.links_doubted |= seen.links || seen.addresses;
        self.ways_doubted |= seen.routes || seen.neighbours;
        seen.own_routes || seen.lost
    }

    /// Opens a watch of the kernel that leaves out what this host does itself.
    pub(super) fn watch(&self) -> std::io::Result<Watch> {
        Watch::open(Arc::clone(&self.protocol), vec![self.netlink.port()])
    }

    /// Reads the links again if they are doubted. Gives this host's addresses then.
    pub(super) fn look(&mut self) -> Option<BTreeSet<IpAddr>> {
        if !self.links_doubted {
            return None;
        }
        let seen = match self.netlink.snapshot() {
            Ok(seen) => seen,
            Err(error) => {
                tracing::warn!(%error, "links could not be read");
                return None;
            }
        };
        self.links_doubted = false;
        if self.seen != seen {
            self.seen = seen;
            self.ways_doubted = true;
        }
        self.names = self.seen.links.keys().cloned().collect();
        let known = self
            .names
            .iter()
            .filter_map(|name| Some((name.clone(), self.describe(name)?)))
            .collect();
        self.render.set_links(known);
        for name in self
            .names
            .iter()
            .filter(|name| self.side(name) == Some(Side::Fabric))
        {
            heed_carrier(name);
        }
        Some(
            self.seen
                .host_addresses(|name| self.side(name) == Some(Side::Workload)),
        )
    }

    /// Takes over what the calculation changed.
    pub(super) fn want(&mut self, graph: &Graph, changes: &Changes, known: &Known) {
        self.render.update(graph, changes);
        let plan = graph.plan();
        let local: Vec<(RouteKey, Way)> = plan
            .routes
            .iter()
            .filter_map(|(prefix, route)| {
                let way = match route {
                    LocalRoute::Blackhole => Way::Blackhole,
                    // The kernel takes no route to an interface that is down.
                    LocalRoute::Dev(name) => Way::Dev {
                        ifindex: self.seen.links.get(&**name).filter(|link| link.up)?.ifindex,
                        source: self.source_towards(prefix),
                    },
                };
                Some((RouteKey::new(*prefix), way))
            })
            .collect();
        let up: BTreeSet<u32> = self
            .seen
            .links
            .values()
            .filter(|link| link.up)
            .map(|link| link.ifindex)
            .collect();
        let past: Vec<(RouteKey, Way)> = if known.in_sync() {
            std::mem::take(&mut self.past);
            Vec::new()
        } else {
            // The kernel has removed those of interfaces that are gone, and would take none back.
            let there =
                |way: &Way| !matches!(way, Way::Dev { ifindex, .. } if !up.contains(ifindex));
            let past = self.past.iter().filter(|(_, way)| there(way));
            past.cloned().collect()
        };
        let routes = &mut self.routes;
        self.wishes.replace(&Wisher::Local, local, |key, way| {
            routes.want(*key, way.cloned());
        });
        self.wishes.replace(&Wisher::Past, past, |key, way| {
            routes.want(*key, way.cloned());
        });
        let present = plan.interfaces.iter().filter(|(name, _)| {
            self.side(name) == Some(Side::Workload) && self.names.contains(*name)
        });
        let settings: Vec<(String, HostSide)> = present
            .map(|(name, interface)| {
                let gateway = match known.get(&interface.endpoint).map(AsRef::as_ref) {
                    Some(Resource::WorkloadEndpoint(endpoint)) => endpoint.spec.ipv6_gateway,
                    _ => None,
                };
                let proxied = gateway
                    .into_iter()
                    .filter(|gateway| !gateway.is_unicast_link_local())
                    .collect();
                (name.clone(), HostSide { proxied })
            })
            .collect();
        self.wants_forwarding = !settings.is_empty();
        self.settings.want_all(settings);
        let hooks: Vec<(u32, Hooks)> = self
            .seen
            .links
            .iter()
            .filter_map(|(name, link)| {
                let hooks = match self.side(name)? {
                    Side::Workload => Hooks::Workload,
                    Side::Fabric => Hooks::Host,
                };
                Some((link.ifindex, hooks))
            })
            .collect();
        self.hooks.want_all(hooks);
    }

    /// Takes over routes that the speaker learned or lost.
    pub(super) fn learn(&mut self, update: FibUpdate) {
        let routes = &mut self.routes;
        for change in update.changes {
            let via = (!change.next_hops.is_empty()).then(|| Way::via(change.next_hops));
            self.wishes.set(
                &Wisher::Bgp,
                RouteKey::new(change.prefix),
                via,
                |key, way| routes.want(*key, way.cloned()),
            );
        }
        if update.converged {
            self.forget_former();
        }
    }

    /// Gives up the former run's routes that nobody else wants. Says whether they were still waited for.
    pub(super) fn forget_former(&mut self) -> bool {
        let routes = &mut self.routes;
        self.wishes.replace(&Wisher::Former, [], |key, way| {
            routes.want(*key, way.cloned());
        });
        std::mem::take(&mut self.former)
    }

    /// Reads every table again. Gives the tables that could not be read, and why.
    pub(super) fn resync(&mut self) -> Vec<(&'static str, String)> {
        self.links_doubted = true;
        let mut failed = self.render.resync(&mut self.tables);
        failed.extend(resync(&mut [&mut Pair::new(
            HOOKS,
            &mut self.hooks,
            &mut self.attachments,
        )]));
        for stage in [KernelStage::Settings, KernelStage::Routes] {
            failed.extend(self.with_kernel(stage, |stage| resync(&mut [stage])));
        }
        failed
            .into_iter()
            .map(|report| (report.stage, reason(&report)))
            .collect()
    }

    fn apply_hooks(&mut self, deletes: bool) -> Outcome {
        apply(
            &mut [&mut Pair::new(
                HOOKS,
                &mut self.hooks,
                &mut self.attachments,
            )],
            deletes,
        )
    }

    /// Makes the tables agree with what is wanted. Nothing is removed but where `deletes` allows it.
    pub(super) fn apply(&mut self, deletes: Deletes) -> Outcome {
        let mut outcome = self
            .render
            .apply(&mut self.tables, self.clock.elapsed(), deletes.maps);
        if outcome.failed.is_empty() {
            // A program is on an interface before a packet can be routed to or from it, and after the last one.
            outcome.failed.extend(self.apply_hooks(false).failed);
            if self.wants_forwarding && !self.forwards && !self.felix.keeps_forwarding {
                self.forward();
            }
            for stage in [KernelStage::Settings, KernelStage::Routes] {
                let applied = self.with_kernel(stage, |stage| apply(&mut [stage], deletes.routes));
                self.ways_doubted |= applied.done > 0;
                outcome.done += applied.done;
                outcome.failed.extend(applied.failed);
            }
            if deletes.routes && !self.unmarked.is_empty() {
                self.settle_marks();
            }
        }
        if std::mem::take(&mut self.ways_doubted)
            && let Err(error) = self.dataplane.bump_generation()
        {
            tracing::warn!(%error, "cached ways out could not be given up; they last a second");
        }
        self.writes += outcome.done as u64;
        if deletes.maps && outcome.failed.is_empty() {
            outcome.failed.extend(self.apply_hooks(true).failed);
        }
        if deletes.maps && outcome.failed.is_empty() && !self.retired {
            self.retired = true;
            if let Err(error) = self.dataplane.retire_others() {
                tracing::warn!(%error, "maps of another layout could not be removed");
            }
        }
        outcome.settled = outcome.settled && outcome.failed.is_empty() && self.is_settled();
        outcome
    }

    /// What has no event: flows that end, counters. Called once a second.
    pub(super) fn tick(&mut self, metrics: &Metrics) {
        self.ticks += 1;
        match self.dataplane.counters() {
            Ok(counters) => {
                for (hook, counted, packets) in counters {
                    if let Counted::Drop(reason) = counted {
                        metrics.drops(hook.as_str(), reason.as_str(), packets);
                    }
                }
            }
            Err(error) => tracing::debug!(%error, "counters could not be read"),
        }
        let options = Options::default();
        let (classes, prefixes, words) = self.render.sizes();
        for (map, entries, max) in [
            ("classes", classes, options.classes),
            ("facts", prefixes, options.facts),
            ("words", words, options.words),
            ("iface", self.hooks.actual().count(), options.interfaces),
        ] {
            metrics.map(map, entries as u64, max.into());
        }
        if self.ticks.is_multiple_of(EXPIRY_TICKS) {
            match self
                .dataplane
                .expire(&self.timeouts, dataplane::monotonic())
            {
                Ok([v4, v6]) => {
                    for (map, expired, max) in
                        [("ct4", v4, options.flows4), ("ct6", v6, options.flows6)]
                    {
                        metrics.map(
                            map,
                            expired.entries.saturating_sub(expired.removed) as u64,
                            max.into(),
                        );
                    }
                }
                Err(error) => tracing::warn!(%error, "flows could not be expired"),
            }
        }
    }

    /// Whether another pass some seconds from now has something to give back.
    pub(super) fn is_resting(&self) -> bool {
        self.render.is_resting()
    }

    /// Whether the programs are on every interface that wants them; if not, where they are missing.
    pub(super) fn attached(&self) -> Result<(), String> {
        let missing: Vec<String> = self
            .hooks
            .drift()
            .filter(|drift| drift.wanted.is_some())
            .map(|drift| self.name_of(*drift.key))
            .collect();
        if missing.is_empty() {
            Ok(())
        } else {
            Err(format!("not on {}", missing.join(", ")))
        }
    }

    /// A former run left something.
    pub(super) fn adopted(&self) -> bool {
        self.adopted
    }

    /// The prefix has its wanted route in the kernel.
    pub(super) fn is_in_place(&self, prefix: &IpNet) -> bool {
        let key = RouteKey::new(*prefix);
        let wanted = self.routes.wanted_at(&key);
        wanted.is_some() && wanted == self.routes.actual_at(&key)
    }

    /// The names of all links.
    pub(super) fn interfaces(&self) -> &BTreeSet<String> {
        &self.names
    }

    /// A link's index.
    pub(super) fn ifindex(&self, name: &str) -> Option<u32> {
        self.seen.links.get(name).map(|link| link.ifindex)
    }

    /// The state of a workload interface: [`UP`], or what is missing.
    pub(super) fn state(&self, name: &str) -> String {
        let Some(link) = self.seen.links.get(name) else {
            return "the interface is absent".to_owned();
        };
        if self.side(name) != Some(Side::Workload) {
            return "the interface's name has none of workloadInterfacePrefixes".to_owned();
        }
        if self.hooks.actual_at(&link.ifindex) != Some(&Hooks::Workload) {
            return "the programs are not attached".to_owned();
        }
        if !link.up {
            return "the interface is down".to_owned();
        }
        UP.to_owned()
    }

    /// The same in the words of those who are told of endpoints.
    pub(super) fn endpoint_state(&self, name: &str) -> EndpointState {
        match self.seen.links.get(name) {
            Some(_) if self.state(name) == UP => EndpointState::Up,
            Some(link) if link.up => EndpointState::Error,
            Some(_) | None => EndpointState::Down,
        }
    }

    /// The addresses of links, and the links' names.
    pub(super) fn addresses(&self) -> impl Iterator<Item = (IpAddr, String)> + '_ {
        self.seen.links.iter().flat_map(|(name, link)| {
            let addresses = self.seen.addresses.get(&link.ifindex);
            let addresses = addresses.into_iter().flatten();
            addresses.map(move |address| (*address, name.clone()))
        })
    }

    /// How many keys of all tables differ from what is wanted.
    pub(super) fn unsettled(&self) -> u64 {
        let maps: usize = self.render.dirty().iter().map(|(_, dirty)| dirty).sum();
        (maps + self.routes.dirty() + self.settings.dirty() + self.hooks.dirty()) as u64
    }

    /// What a person should mend: object, field and reason.
    pub(super) fn problems(&self) -> Vec<(String, String, String)> {
        let problems = self.render.problems().into_iter();
        problems
            .map(|problem| (problem.object, problem.field, problem.reason))
            .collect()
    }

    /// Entries written to maps, routes and settings since the start.
    pub(super) fn writes(&self) -> u64 {
        self.writes
    }

    fn is_settled(&self) -> bool {
        self.routes.is_settled() && self.settings.is_settled() && self.hooks.is_settled()
    }

    fn set_endpoint_to_host(&self) -> std::io::Result<()> {
        let drop = self.config.default_endpoint_to_host_action == EndpointToHost::Drop;
        self.dataplane.set_endpoint_to_host_drop(drop)
    }

    /// One of the tables behind netlink, which share a connection.
    fn with_kernel<T>(&mut self, stage: KernelStage, work: impl FnOnce(&mut dyn Stage) -> T) -> T {
        match stage {
            KernelStage::Routes => {
                // A dump finds only those that have the number in force.
                self.our_routes.extend(self.unmarked.keys());
                let table = Routes::new(
                    &mut self.netlink,
                    self.config.route_protocol,
                    &mut self.our_routes,
                );
                work(&mut Pair::new(ROUTES, &mut self.routes, table))
            }
            KernelStage::Settings => {
                let prefixes = &self.config.workload_interface_prefixes;
                let table =
                    Settings::new(&mut self.netlink, |name| starts_with_any(name, prefixes));
                work(&mut Pair::new(SETTINGS, &mut self.settings, table))
            }
        }
    }

    /// Lets the host forward. A host that has its default route from router advertisements would stop listening to them
    /// as it becomes a router; 2 makes it listen all the same.
    fn forward(&mut self) {
        for name in self
            .names
            .iter()
            .filter(|name| self.side(name) == Some(Side::Fabric))
        {
            let path = format!("/proc/sys/net/ipv6/conf/{name}/accept_ra");
            if std::fs::read_to_string(&path).is_ok_and(|value| value.trim() == "1")
                && let Err(error) = std::fs::write(&path, "2")
            {
                tracing::warn!(path, %error, "could not be set: a default route from router advertisements may be lost");
            }
        }
        match enable_forwarding() {
            Ok(()) => self.forwards = true,
            Err(error) => tracing::warn!(%error, "forwarding could not be enabled"),
        }
    }

    fn side(&self, name: &str) -> Option<Side> {
        if starts_with_any(name, &self.config.workload_interface_prefixes) {
            return Some(Side::Workload);
        }
        self.config
            .host_interfaces
            .iter()
            .any(|pattern| pattern.matches(name))
            .then_some(Side::Fabric)
    }

    fn describe(&self, name: &str) -> Option<Link> {
        let link = self.seen.links.get(name)?;
        let kind = match self.side(name)? {
            Side::Workload if link.kind == "veth" && link.peer_elsewhere => IfaceKind::Container,
            Side::Workload => IfaceKind::Tap,
            Side::Fabric => IfaceKind::Host,
        };
        let mac = link.mac.unwrap_or_default();
        Some(Link {
            ifindex: link.ifindex,
            kind,
            mac,
            peer_mac: self.seen.peer_mac(link),
            mtu: link.mtu,
        })
    }

    /// The source that the host's own packets to a prefix shall have; an address that the host lacks is none.
    fn source_towards(&self, prefix: &IpNet) -> Option<IpAddr> {
        let source = match prefix {
            IpNet::V4(_) => self.felix.source_v4.map(IpAddr::V4),
            IpNet::V6(_) => self.felix.source_v6.map(IpAddr::V6),
        };
        source.filter(|source| self.link_of(*source).is_some())
    }

    /// The link that has an address.
    fn link_of(&self, address: IpAddr) -> Option<&netlink::Link> {
        let index = self
            .seen
            .addresses
            .iter()
            .find(|(_, own)| own.contains(&address))?
            .0;
        self.seen.links.values().find(|link| link.ifindex == *index)
    }

    fn name_of(&self, ifindex: u32) -> String {
        let name = self
            .seen
            .links
            .iter()
            .find(|(_, link)| link.ifindex == ifindex)
            .map(|(name, _)| name.clone());
        name.unwrap_or_else(|| format!("index {ifindex}"))
    }
}

/// The arena as the renderer writes it.
struct Words(dataplane::Arena);

impl Arena for Words {
    type Error = dataplane::Full;

    fn adopt(&mut self, base: u32) -> Option<Vec<u64>> {
        let found = self
            .0
            .found()
            .into_iter()
            .find(|found| found.base == base)?;
        Some(
            (base..base + found.len)
                .map(|index| self.0.read(index))
                .collect(),
        )
    }

    fn store(&mut self, blob: &Blob) -> Result<u32, Self::Error> {
        self.0.write(blob, dataplane::monotonic())
    }

    fn set(&mut self, index: u32, word: u64) -> Result<(), Self::Error> {
        self.0.patch(0, &[(index, word)]);
        Ok(())
    }

    fn get(&self, index: u32) -> Option<u64> {
        Some(self.0.read(index))
    }

    fn free(&mut self, base: u32) {
        self.0.free(base, dataplane::monotonic());
    }
}

/// What an interface leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Workload,
    Fabric,
}

/// Lets the kernel pass over next hops behind an interface that has lost its carrier. Without it, packets of an ECMP route
/// follow a dead link until the session's hold time is over, and longer where the peer was promised a graceful restart.
fn heed_carrier(interface: &str) {
    for family in ["ipv4", "ipv6"] {
        let path = format!("/proc/sys/net/{family}/conf/{interface}/ignore_routes_with_linkdown");
        if std::fs::read_to_string(&path).is_ok_and(|value| value.trim() == "0")
            && let Err(error) = std::fs::write(&path, "1")
        {
            tracing::warn!(path, %error, "could not be set: a dead link is noticed only when its session ends");
        }
    }
}

/// The tables behind netlink.
#[derive(Debug, Clone, Copy)]
enum KernelStage {
    Routes,
    Settings,
}

fn starts_with_any(name: &str, prefixes: &[String]) -> bool {
    prefixes
        .iter()
        .any(|prefix| name.starts_with(prefix.as_str()))
}

fn failure(report: &StageReport) -> anyhow::Error {
    anyhow::anyhow!("read the table {}: {}", report.stage, reason(report))
}

fn reason(report: &StageReport) -> String {
    report
        .failed
        .first()
        .map(|(_, reason)| reason.clone())
        .unwrap_or_default()
}

const ROUTES: &str = "routes";
const SETTINGS: &str = "settings";
const HOOKS: &str = "attachments";
/// Seconds between two looks for flows that have ended.
const EXPIRY_TICKS: u64 = 10;
