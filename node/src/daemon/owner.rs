//! The owner: the one thread that runs `update`, `flush` and `apply`, and answers what only it knows.

use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use super::api::Question;
use super::health::{Beat, Health, Latch};
use super::known::{Known, kind_names};
use super::metrics::Metrics;
use super::pace::{Due, Pace};
use super::sessions::{Current, Sessions};
use super::{Event, notify};
use crate::config::{Config, Loaded, StoreKind};
use crate::output::answers;

/// The owner's state.
pub(super) struct Owner {
    config: Config,
    health: Health,
    metrics: Metrics,
    known: Known,
    pace: Pace,
    started: Instant,
    told_ready: bool,
    sessions: Sessions,
    tell: watch::Sender<Current>,
}

impl Owner {
    /// An owner that has seen nothing yet.
    pub(super) fn new(
        loaded: &Loaded,
        health: Health,
        metrics: Metrics,
        sessions: Sessions,
        tell: watch::Sender<Current>,
        _events: mpsc::Sender<Event>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            config: loaded.config.clone(),
            health,
            metrics,
            known: Known::default(),
            pace: Pace::new(None, Instant::now(), 0.0),
            started: Instant::now(),
            told_ready: false,
            sessions,
            tell,
        })
    }

    /// Runs until it is told to stop.
    pub(super) fn run(
        mut self,
        runtime: &Handle,
        mut inbox: mpsc::Receiver<Event>,
    ) -> anyhow::Result<()> {
        loop {
            let now = Instant::now();
            self.health.beat(Beat::Owner, now);
            let tick = now + TICK;
            let wake = self.pace.next().map_or(tick, |(at, _)| at.min(tick));
            let received = runtime
                .block_on(async { tokio::time::timeout_at(wake.into(), inbox.recv()).await });
            match received {
                Ok(Some(Event::Stop) | None) => return Ok(()),
                Ok(Some(event)) => self.take(event),
                Err(_) => {}
            }
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Store(event) => {
                self.known.take(event);
                self.pace.changed(Instant::now());
            }
            Event::Ask(question) => self.answer(question),
            Event::Stop => {}
        }
    }

    fn answer(&mut self, question: Question) {
        // Whoever asked may be gone; then nobody misses the answer.
        let _ = match question {
            Question::Status(reply) => reply.send(self.status()).is_ok(),
            Question::Endpoints(reply) => reply.send(Vec::new()).is_ok(),
            Question::Policy(_, reply) => reply.send(Err(String::new())).is_ok(),
            Question::Flows { reply, .. } => reply.send(Ok(Vec::new())).is_ok(),
            Question::Drift(reply) => reply.send(Vec::new()).is_ok(),
        };
    }

    fn status(&self) -> answers::Status {
        let kind = match self.config.datastore.kind() {
            StoreKind::Dir => "dir",
            StoreKind::Etcd => "etcd",
            StoreKind::Memory => "memory",
        };
        answers::Status {
            nodename: self.config.nodename.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ready: self.health.ready(),
            latches: self.health.latches(),
            uptime_seconds: self.started.elapsed().as_secs(),
            store: self.known.store(kind),
            problems: self.known.problems(),
            ..answers::Status::default()
        }
    }
}

const TICK: Duration = Duration::from_secs(1);
