//! The tokio driver: sockets, timers, and the handle by which the rest of the process talks to the speaker.
//!
//! ```text
//! connection task: read -> (bounded) -> owner: Speaker::handle -> effects -> (bounded by credit) -> connection task: write
//! handle: configure, originate (last word wins) -> owner -> FibSubscription (merged by prefix)
//! ```
//! One owner task holds the [`crate::speaker::Speaker`]; one task for each connection moves bytes and sends KEEPALIVEs,
//! so that work on the routes never makes us a silent peer. A reader that is faster than the owner waits, and TCP
//! makes the peer wait.
//!
//! Left out: TCP-MD5, TCP-AO and the receiving half of GTSM, whose socket options need `unsafe`.

mod connection;
mod listener;
mod owner;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use ipnet::IpNet;
use tokio::sync::{mpsc, oneshot, watch};

use crate::config::{Config, Origin, Stop};
use crate::status::{FibChange, FibUpdate, PeerStatus, RouteFilter, RouteView, SpeakerStatus};
use owner::{Owner, Query};

/// A running speaker. Cloning gives another handle; when the last one is dropped, the speaker ends as for
/// [`Stop::Restart`].
#[derive(Clone, Debug)]
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
        let seed = std::hash::RandomState::new().build_hasher().finish();
        let (config, config_rx) = watch::channel(config);
        let (originated, originated_rx) = watch::channel(None);
        let (queries, queries_rx) = mpsc::channel(16);
        tokio::spawn(Owner::new(config_rx, originated_rx, queries_rx, seed).run());
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

    /// Sets all prefixes to originate. Before the first call no peer is told that our routes are complete, and the
    /// speaker does not call itself converged: what there is may not be known yet. So configure the peers first.
    pub fn originate(&self, prefixes: BTreeMap<IpNet, Origin>) {
        self.originated.send_replace(Some(prefixes));
    }

    /// Subscribes to the routes for the kernel: first the complete state, then changes.
    pub async fn fib(&self) -> FibSubscription {
        let (sender, subscription) = fib_channel();
        // If the speaker has ended, the subscription ends too.
        let _ = self.queries.send(Query::Fib(sender)).await;
        subscription
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

    /// Ends all sessions and the speaker; returns when the last word is with the peers, or after about a second.
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
#[derive(Debug)]
pub struct FibSubscription {
    queue: Arc<Mutex<FibQueue>>,
    changed: watch::Receiver<()>,
}

impl FibSubscription {
    /// Waits for the next changes; `None` when the speaker has ended. Cancelling loses nothing.
    pub async fn next(&mut self) -> Option<FibUpdate> {
        self.changed.changed().await.ok()?;
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = std::mem::take(&mut queue.changes);
        Some(FibUpdate {
            changes: changes
                .into_iter()
                .map(|(prefix, next_hops)| FibChange { prefix, next_hops })
                .collect(),
            converged: queue.converged,
        })
    }
}

#[derive(Debug, Default)]
struct FibQueue {
    changes: BTreeMap<IpNet, Vec<IpAddr>>,
    converged: bool,
}

/// The owner's end of a subscription.
#[derive(Debug)]
struct FibSender {
    queue: Arc<Mutex<FibQueue>>,
    changed: watch::Sender<()>,
}

impl FibSender {
    /// Tells changes; false when nobody listens any more.
    fn send(&self, update: &FibUpdate) -> bool {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = update
            .changes
            .iter()
            .map(|change| (change.prefix, change.next_hops.clone()));
        queue.changes.extend(changes);
        queue.converged = update.converged;
        drop(queue);
        self.changed.send(()).is_ok()
    }
}

fn fib_channel() -> (FibSender, FibSubscription) {
    let (sender, receiver) = watch::channel(());
    let queue = Arc::<Mutex<FibQueue>>::default();
    let sender = FibSender {
        queue: Arc::clone(&queue),
        changed: sender,
    };
    let subscription = FibSubscription {
        queue,
        changed: receiver,
    };
    (sender, subscription)
}

#[cfg(test)]
mod tests;
