//! The owner: the one thread that runs `update`, `flush` and `apply`, and answers what only it knows.
//!
//! An event only marks what it touches; a flush computes and a pass over the tables writes the difference. Nothing is
//! deleted before the store was read whole. Peers are told of a prefix once its packets would find their way here.

pub(super) mod telling;

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use cleat_bgp::config::Stop;
use cleat_bgp::net::Speaker;
use cleat_datastore::snapshot::Snapshot;
use cleat_datastore::{Key, Kind};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use super::admin::Admin;
use super::api::{self, Question};
use super::gate::Gate;
use super::health::{Beat, Health, Latch};
use super::host::{Deletes, Host};
use super::keeper::Notes;
use super::known::{Known, kind_names};
use super::log::Filter;
use super::metrics::Metrics;
use super::pace::{Due, Pace};
use super::parameters::Parameters;
use super::sessions::Current;
use super::{Event, notify, speaker};
use crate::calc::{Graph, ListId, LocalEndpoint, PolicyList};
use crate::config::{Config, Loaded};
use crate::output::answers;
use telling::Telling;

/// The owner's state.
pub(super) struct Owner {
    /// The configuration in force: the host's, with the parameters that the store sets.
    config: Config,
    parameters: Parameters,
    filter: Filter,
    admin: Admin,
    health: Health,
    metrics: Metrics,
    known: Known,
    gate: Gate,
    /// The way to the thread that keeps the last good state.
    notes: Option<Notes>,
    /// Until then the store may still say what is newer than the state on disk, and nothing is written.
    patience: Option<Instant>,
    telling: Telling,
    graph: Graph,
    host: Host,
    pace: Pace,
    started: Instant,
    told: Told,
    speaker: Option<Speaker>,
    tell: watch::Sender<Current>,
    events: mpsc::Sender<Event>,
    randomness: Randomness,
}

/// What others were told last, so that they are told of differences only.
#[derive(Default)]
struct Told {
    ready: bool,
    status: String,
    speaker: Option<cleat_bgp::Config>,
    originated: Option<BTreeMap<ipnet::IpNet, cleat_bgp::Origin>>,
}

impl Owner {
    /// An owner that has seen nothing of the store yet, on a host that may carry the work of a former run.
    pub(super) fn new(
        loaded: &Loaded,
        health: Health,
        metrics: Metrics,
        tell: watch::Sender<Current>,
        events: mpsc::Sender<Event>,
        (filter, admin): (Filter, Admin),
        telling: Telling,
    ) -> anyhow::Result<Self> {
        let config = loaded.config.clone();
        let host = Host::open(&config)?;
        let mut randomness = Randomness::new();
        let now = Instant::now();
        Ok(Self {
            graph: Graph::new(config.nodename.as_str()),
            pace: Pace::new(resync_interval(&config), now, randomness.next()),
            parameters: Parameters::new(loaded),
            filter,
            admin,
            config,
            health,
            metrics,
            known: Known::default(),
            gate: Gate::default(),
            notes: None,
            patience: None,
            telling,
            host,
            started: now,
            told: Told::default(),
            speaker: None,
            tell,
            events,
            randomness,
        })
    }

    /// Begins with the state that was on disk, if any, and has changes of what is in force noted.
    ///
    /// What a former run left in the kernel may be newer than the disk by some seconds, and works: the store gets a moment
    /// to tell its state before the older one is written over it. A host on which nothing runs yet is not kept waiting.
    pub(super) fn keep(&mut self, base: Option<(Snapshot, SystemTime)>, notes: Option<Notes>) {
        self.notes = notes;
        let Some((snapshot, confirmed)) = base else {
            return;
        };
        for update in self.known.begin(snapshot, confirmed) {
            self.parameters.take(&update);
            self.graph.update(&update);
        }
        if self.host.adopted() {
            self.patience = Some(self.started + PATIENCE);
        } else {
            self.start_from_disk();
        }
    }

    /// A watch of the kernel that leaves out what this owner does itself.
    pub(super) fn watch(&self) -> std::io::Result<crate::netlink::Watch> {
        self.host.watch()
    }

    /// Runs until it is told to stop.
    pub(super) fn run(mut self, runtime: &Handle, mut inbox: mpsc::Receiver<Event>) {
        let mut ticked = Instant::now();
        self.pace.changed(ticked);
        loop {
            let now = Instant::now();
            self.health.beat(Beat::Owner, now);
            if now >= ticked + TICK {
                ticked = now;
                self.tick(now);
            }
            let tick = ticked + TICK;
            let (wake, due) = match self.pace.next() {
                Some((at, due)) if at < tick => (at, Some(due)),
                Some(_) | None => (tick, None),
            };
            let waited = async { tokio::time::timeout_at(wake.into(), inbox.recv()).await };
            match runtime.block_on(waited) {
                Ok(Some(Event::Stop) | None) => break,
                Ok(Some(event)) => self.take(event),
                Err(_) => match due {
                    Some(Due::Flush) => self.flush(runtime),
                    Some(Due::Retry) => self.apply(runtime),
                    Some(Due::Resync) => self.resync(runtime),
                    None => {}
                },
            }
            // Events may come faster than the deadline is reached.
            if let Some((at, Due::Flush)) = self.pace.next()
                && at <= Instant::now()
            {
                self.flush(runtime);
            }
        }
        if let Some(speaker) = self.speaker.take() {
            let _ = runtime
                .block_on(async { tokio::time::timeout(STOP, speaker.stop(Stop::Restart)).await });
        }
    }

    fn take(&mut self, event: Event) {
        let now = Instant::now();
        match event {
            Event::Store(event) => {
                self.hear(event, now);
                self.pace.changed(now);
            }
            Event::Fib(update) => {
                self.host.learn(update);
                self.pace.changed(now);
            }
            Event::Kernel(seen) => {
                if self.host.notice(seen) {
                    self.pace.doubt(now);
                }
                self.pace.changed(now);
            }
            Event::Ask(question) => self.answer(question),
            Event::Reload(loaded) => {
                self.reload(&loaded);
                self.pace.doubt(now);
            }
            Event::Stop => {}
        }
    }

    /// Takes what the store's watch told.
    fn hear(&mut self, event: cleat_datastore::Event, now: Instant) {
        use cleat_datastore::Event as Told;
        match event {
            Told::Updates(updates) => {
                let updates = self.gate.updates(updates);
                self.obey(&updates);
            }
            Told::InSync { revision } => {
                let updates = self.gate.in_sync(revision);
                self.obey(&updates);
                self.known.followed();
            }
            Told::Held(held) => {
                self.note(Notes::incomplete);
                self.known.hold(held, now);
            }
            Told::Trouble(reason) => {
                self.metrics.store_trouble();
                self.note(Notes::incomplete);
                self.known.trouble(reason);
            }
            Told::Unreadable(problems) => self.known.unreadable(problems),
        }
        self.known.freeze(self.gate.is_frozen());
        if let Some(revision) = self.gate.take_in_sync() {
            self.known.complete(revision);
            self.note(|notes| notes.complete(revision));
            self.patience = None;
        }
        self.tell_store();
    }

    /// Puts changes in force.
    fn obey(&mut self, updates: &[cleat_datastore::Update]) {
        self.known.take(updates);
        self.note(|notes| notes.changed(updates));
        for chunk in updates.chunks(CHUNK) {
            // The first state of a large cluster takes longer than a thread may be silent.
            self.health.beat(Beat::Owner, Instant::now());
            for update in chunk {
                self.graph.update(update);
                self.parameters.take(update);
            }
        }
    }

    fn note(&self, tell: impl FnOnce(&Notes)) {
        if let Some(notes) = &self.notes {
            tell(notes);
        }
    }

    /// Brings the latch of the store up to date.
    fn tell_store(&self) {
        if !self.known.is_whole() && !self.known.is_frozen() {
            return;
        }
        match self.known.note() {
            note if note.is_empty() => self.health.set(Latch::StoreInSync, Ok(())),
            note => self.health.set_noting(Latch::StoreInSync, note),
        }
    }

    fn start_from_disk(&mut self) {
        self.patience = None;
        tracing::warn!(state = self.known.note(), "going on without the store");
        self.tell_store();
    }

    /// Takes over what can change while running, and names what cannot.
    fn reload(&mut self, loaded: &Loaded) {
        for key in self.parameters.reload(loaded) {
            tracing::warn!(
                field = key,
                "changed in the configuration; takes effect at the next start"
            );
        }
        tracing::info!("configuration read again");
        self.configure();
        notify::ready(&self.told.status);
    }

    /// Puts the configuration in force that holds now, if anything of it changed.
    fn configure(&mut self) {
        if !self.parameters.refresh() {
            return;
        }
        let config = self.parameters.config();
        let settings = self.parameters.settings();
        self.pace.set_interval(
            resync_interval(&config),
            Instant::now(),
            self.randomness.next(),
        );
        self.admin.listen(&settings);
        self.host.reload(&config, settings);
        self.config = config;
        self.pace.changed(Instant::now());
    }

    /// Computes what changed, and writes it.
    fn flush(&mut self, runtime: &Handle) {
        self.pace.flushed();
        if self.patience.is_some() {
            return;
        }
        // Half of the levels would be other levels.
        if self.known.is_whole() {
            self.configure();
        }
        if let Some(addresses) = self.host.look() {
            self.graph.set_host_addresses(addresses);
        }
        let changes = self.graph.flush();
        let speaker = self.graph.plan().bgp.log_severity;
        self.filter.set(self.config.log.level, speaker);
        self.host.want(&self.graph, &changes, &self.known);
        self.apply(runtime);
    }

    fn resync(&mut self, runtime: &Handle) {
        let now = Instant::now();
        self.pace.resynced(now, self.randomness.next());
        for (table, reason) in self.host.resync() {
            tracing::warn!(table, reason, "a table could not be read");
        }
        self.flush(runtime);
    }

    /// Makes the tables agree with what is wanted, and tells who waits for that.
    fn apply(&mut self, runtime: &Handle) {
        let start = Instant::now();
        if self.patience.is_some() {
            return;
        }
        let outcome = self.host.apply(Deletes {
            maps: self.known.in_sync(),
            routes: self.known.is_whole(),
        });
        let took = start.elapsed();
        self.metrics.applied(took, outcome.done);
        let clean = outcome.failed.is_empty();
        for report in &outcome.failed {
            self.metrics.apply_failed(report.stage, report.failed.len());
            // One line for a table, not one for each key of it.
            if let Some((key, reason)) = report.failed.first() {
                let keys = report.failed.len();
                tracing::warn!(
                    table = report.stage,
                    keys,
                    key,
                    reason,
                    "could not write; trying again"
                );
            }
        }
        if self.known.in_sync() && outcome.settled && self.graph.has_unused() && self.graph.forget()
        {
            // What only lists of the past asked for goes with them.
            self.pace.changed(Instant::now());
        }
        if outcome.done > 0 {
            tracing::debug!(writes = outcome.done, ?took, "tables written");
        }
        self.pace
            .applied(clean, Instant::now(), self.randomness.next());
        if self.known.is_whole() || self.known.is_frozen() {
            if clean {
                self.health.set(Latch::FirstApply, Ok(()));
            } else if !self.told.ready {
                let tables: Vec<&str> = outcome.failed.iter().map(|report| report.stage).collect();
                self.health.set(
                    Latch::FirstApply,
                    Err(format!("cannot write {}", tables.join(", "))),
                );
            }
            self.health
                .set(Latch::ProgramsAttached, self.host.attached());
            if clean && self.known.is_whole() {
                self.speak(runtime);
            }
        }
        self.report();
    }

    /// Brings the speaker's configuration and its prefixes up to date.
    fn speak(&mut self, runtime: &Handle) {
        let plan = self.graph.plan();
        let wanted = self.config.bgp.enabled && self.known.get(&self.node()).is_some();
        if !wanted && self.speaker.is_none() {
            // Nobody will tell routes: those of a former run have no one to confirm them.
            if !self.config.bgp.enabled {
                self.host.forget_former();
            }
            return;
        }
        let deferral = Duration::from_secs(self.config.bgp.restart_deferral.into());
        let config = speaker::config(
            &self.config.nodename,
            &plan.bgp,
            &self.host,
            self.host.adopted(),
            deferral,
        );
        if self.told.speaker.as_ref() != Some(&config) {
            if let Some(speaker) = &self.speaker {
                speaker.configure(config.clone());
            } else {
                let _inside = runtime.enter();
                let speaker = Speaker::start(config.clone());
                tokio::spawn(routes(speaker.clone(), self.events.clone()));
                self.speaker = Some(speaker);
            }
            self.told.speaker = Some(config);
            let names = speaker::names(&plan.bgp);
            self.tell.send_replace(Current {
                speaker: self.speaker.clone(),
                names,
                kinds: speaker::kinds(&plan.bgp),
                configured: Some(SystemTime::now()),
            });
        }
        let in_place = plan
            .originated
            .iter()
            .filter(|(prefix, _)| self.host.is_in_place(prefix));
        let originated = speaker::originated(&plan.bgp, in_place.map(|(prefix, _)| *prefix));
        if self.told.originated.as_ref() != Some(&originated)
            && let Some(speaker) = &self.speaker
        {
            speaker.originate(originated.clone());
            self.told.originated = Some(originated);
        }
    }

    /// What has no event: counters, flows that end, and the deferral.
    fn tick(&mut self, now: Instant) {
        self.host.tick(&self.metrics);
        if self.patience.is_some_and(|until| now >= until) {
            self.start_from_disk();
            self.pace.changed(now);
        }
        if self.known.in_sync() && self.host.is_resting() {
            self.pace.changed(now);
        }
        let deferral = Duration::from_secs(self.config.bgp.restart_deferral.into());
        if now >= self.started + deferral && self.host.forget_former() {
            tracing::info!("routes of the last run that nobody confirmed are given up");
            self.pace.changed(now);
        }
        self.report();
    }

    /// Tells the metrics and the service manager how things are.
    fn report(&mut self) {
        let endpoints = self.endpoint_count();
        self.metrics.endpoints(endpoints);
        self.metrics
            .invalid(&self.known.invalid_by_kind(), kind_names());
        let store = self.known.store(self.store_kind());
        self.metrics.store(&store);
        let ready = self.health.ready();
        self.metrics.ready(ready);
        let sync = match self.known.note() {
            note if !note.is_empty() => note,
            _ if store.in_sync && store.trouble.is_empty() => "in sync".to_owned(),
            _ => "not in sync".to_owned(),
        };
        let status = format!(
            "{sync} at revision {}, {} of {} endpoints up",
            store.revision, endpoints.good, endpoints.all
        );
        if ready && !self.told.ready {
            tracing::info!(status, "ready");
            notify::ready(&status);
            self.told.ready = true;
        } else if self.told.status != status {
            notify::status(&status);
        }
        self.told.status = status;
        self.tell_others();
    }

    fn answer(&mut self, question: Question) {
        // Whoever asked may be gone; then nobody misses the answer.
        let _ = match question {
            Question::Status(reply) => reply.send(self.status()).is_ok(),
            Question::Endpoints(reply) => reply.send(self.endpoints()).is_ok(),
            Question::Policy(name, reply) => reply.send(self.policy(&name)).is_ok(),
            Question::Flows {
                limit,
                address,
                reply,
            } => reply.send(self.host.flows(limit, address)).is_ok(),
            Question::Parameters(reply) => reply.send(self.parameters.list()).is_ok(),
            Question::Drift(reply) => reply.send(self.host.drift()).is_ok(),
        };
    }

    fn status(&self) -> answers::Status {
        answers::Status {
            nodename: self.config.nodename.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ready: self.health.ready(),
            latches: self.health.latches(),
            uptime_seconds: self.started.elapsed().as_secs(),
            store: self.known.store(self.store_kind()),
            endpoints: self.endpoint_count(),
            peers: answers::Count::default(),
            unsettled: self.host.unsettled(),
            writes: self.host.writes(),
            problems: self.problems(),
        }
    }

    /// What a person should mend, each thing once however many parts of the daemon found it.
    fn problems(&self) -> Vec<answers::Problem> {
        let mut problems = self.known.problems();
        let computed = self.graph.problems().cloned();
        let absent = self.graph.absent_interfaces(self.host.interfaces());
        let mut add = |object: String, field: String, reason: String| {
            if !problems
                .iter()
                .any(|known| known.object.ends_with(&object) && known.field == field)
            {
                problems.push(answers::Problem {
                    object,
                    field,
                    reason,
                });
            }
        };
        let parameters = self.parameters.problems().iter().cloned();
        for problem in computed.chain(absent).chain(parameters) {
            add(problem.object, problem.field, problem.reason);
        }
        let node = self.node();
        if self.known.is_whole() && self.config.bgp.enabled && self.known.get(&node).is_none() {
            let reason = "there is no valid Node resource for this host: BGP is not started; apply one, or set nodename";
            add(node.to_string(), String::new(), reason.to_owned());
        }
        for (object, field, reason) in self.host.problems() {
            add(object, field, reason);
        }
        problems.sort();
        problems
    }

    fn endpoints(&self) -> Vec<answers::Endpoint> {
        self.graph
            .local_endpoints()
            .map(|endpoint| answers::Endpoint {
                namespace: endpoint.key.namespace().unwrap_or_default().to_owned(),
                name: endpoint.key.name().to_owned(),
                ifindex: self.host.ifindex(&endpoint.interface),
                state: self.host.state(&endpoint.interface),
                mac: endpoint.mac.as_ref().map(ToString::to_string),
                networks: endpoint
                    .addresses
                    .iter()
                    .map(|address| (*address).into())
                    .collect(),
                ingress: policies(&endpoint.ingress),
                egress: policies(&endpoint.egress),
                workload: endpoint.workload,
                interface: endpoint.interface,
                profiles: endpoint.profiles,
            })
            .collect()
    }

    fn policy(&self, name: &str) -> Result<answers::EndpointPolicy, String> {
        let found = self
            .endpoints()
            .into_iter()
            .find(|endpoint| api::is_called(endpoint, name));
        let endpoint = found.ok_or_else(String::new)?;
        let is_it = |local: &LocalEndpoint| local.interface == endpoint.interface;
        let local = self
            .graph
            .local_endpoints()
            .find(is_it)
            .ok_or_else(String::new)?;
        let ids = self
            .graph
            .plan()
            .interfaces
            .get(&endpoint.interface)
            .ok_or_else(String::new)?;
        let rules = |id: ListId, list: &PolicyList| -> Vec<answers::Rule> {
            let mut hits = self.host.hits(id).into_iter();
            let lines = list.lines.iter().map(|line| answers::Rule {
                rule: line.rule.to_string(),
                action: format!("{:?}", line.action),
                matches: line.text.clone(),
                packets: hits.next().unwrap_or(0),
            });
            lines.collect()
        };
        Ok(answers::EndpointPolicy {
            endpoint: format!("{}/{}", endpoint.namespace, endpoint.name),
            ingress: rules(ids.ingress, &local.ingress),
            egress: rules(ids.egress, &local.egress),
        })
    }

    fn endpoint_count(&self) -> answers::Count {
        let interfaces = &self.graph.plan().interfaces;
        let good = interfaces
            .keys()
            .filter(|name| self.host.state(name) == UP)
            .count();
        answers::Count {
            good: good as u64,
            all: interfaces.len() as u64,
        }
    }

    fn node(&self) -> Key {
        Key::global(Kind::Node, self.config.nodename.as_str())
    }

    fn store_kind(&self) -> &'static str {
        self.config.datastore.kind().as_str()
    }
}

fn resync_interval(config: &Config) -> Option<Duration> {
    let seconds = Some(config.resync_interval).filter(|seconds| *seconds > 0);
    seconds.map(|seconds| Duration::from_secs(seconds.into()))
}

/// The state of an endpoint whose packets are judged and forwarded.
pub(super) const UP: &str = "up";

/// Carries the speaker's routes to the owner. What is not taken yet waits merged in the subscription.
async fn routes(speaker: Speaker, events: mpsc::Sender<Event>) {
    let mut fib = speaker.fib().await;
    while let Some(update) = fib.next().await {
        if events.send(Event::Fib(update)).await.is_err() {
            return;
        }
    }
}

/// The policies of a list in the order in which they are asked.
fn policies(list: &PolicyList) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for policy in list.lines.iter().filter_map(|line| line.rule.policy()) {
        let name = policy.to_string();
        if names.last() != Some(&name) {
            names.push(name);
        }
    }
    names
}

/// Spreads retries and comparisons of many hosts; nothing depends on its quality.
struct Randomness(u64);

impl Randomness {
    fn new() -> Self {
        use std::hash::{BuildHasher as _, Hasher as _};
        // The one source of randomness in the standard library.
        Self(std::hash::RandomState::new().build_hasher().finish() | 1)
    }

    /// A number in 0..1 (xorshift64).
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}

const TICK: Duration = Duration::from_secs(1);
/// How long the store may take to tell its state before the one on disk is written over what a former run left.
const PATIENCE: Duration = Duration::from_secs(3);
/// Changes that are taken between two signs of life.
const CHUNK: usize = 1000;
/// How long closing the sessions may take.
const STOP: Duration = Duration::from_secs(2);
