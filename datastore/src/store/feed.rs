//! The way from a store to the reader of a watch.

use std::{
    any::Any,
    collections::BTreeMap,
    future::poll_fn,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
};

use super::{Event, Update, prepare::is_default_allow};
use crate::{Key, Problem};

/// How many updates one event carries at most.
const BATCH: usize = 1000;

/// A running watch. It ends only by being dropped.
pub struct Watch {
    feed: Arc<Feed>,
    /// What the store keeps running for it; dropped with it.
    _source: Box<dyn Any + Send + Sync>,
}

impl Watch {
    pub(super) fn new(feed: Arc<Feed>, source: impl Any + Send + Sync) -> Self {
        Self {
            feed,
            _source: Box::new(source),
        }
    }

    /// The next thing that happened. Waits for it as long as it takes.
    pub async fn next(&mut self) -> Event {
        poll_fn(|context| {
            let mut state = self.feed.lock();
            if let Some(event) = state.take() {
                return Poll::Ready(event);
            }
            state.waker = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    pub(super) fn feed(&self) -> &Feed {
        &self.feed
    }
}

/// What happened and was not read yet.
#[derive(Default)]
pub(super) struct Feed {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    updates: BTreeMap<Key, Update>,
    trouble: Option<String>,
    unreadable: Option<Vec<Problem>>,
    in_sync: Option<u64>,
    waker: Option<Waker>,
}

impl Feed {
    /// A change; it replaces an earlier one of the same object.
    pub(super) fn push(&self, update: Update) {
        // The profile that is always there is nobody's to change, whatever a store holds.
        if is_default_allow(&update.key) && update.revision != 0 {
            return;
        }
        let mut state = self.lock();
        state.updates.insert(update.key.clone(), update);
        state.wake();
    }

    pub(super) fn in_sync(&self, revision: u64) {
        let mut state = self.lock();
        state.in_sync = Some(revision);
        state.wake();
    }

    #[cfg_attr(
        not(any(feature = "dir", feature = "etcd")),
        expect(dead_code, reason = "memory has no trouble")
    )]
    pub(super) fn trouble(&self, reason: impl Into<String>) {
        let mut state = self.lock();
        state.trouble = Some(reason.into());
        state.in_sync = None;
        state.wake();
    }

    #[cfg_attr(
        not(feature = "dir"),
        expect(dead_code, reason = "files alone can be unreadable")
    )]
    pub(super) fn unreadable(&self, problems: Vec<Problem>) {
        let mut state = self.lock();
        state.unreadable = Some(problems);
        state.wake();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change of the state is one assignment; a panic elsewhere leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Trouble goes first, for it is over if the reader finds itself in sync at the end.
    fn take(&mut self) -> Option<Event> {
        if let Some(reason) = self.trouble.take() {
            return Some(Event::Trouble(reason));
        }
        if let Some(problems) = self.unreadable.take() {
            return Some(Event::Unreadable(problems));
        }
        if self.updates.len() > BATCH {
            let batch = (0..BATCH).map_while(|_| self.updates.pop_first());
            return Some(Event::Updates(batch.map(|(_, update)| update).collect()));
        }
        if !self.updates.is_empty() {
            let rest = mem::take(&mut self.updates);
            return Some(Event::Updates(rest.into_values().collect()));
        }
        let revision = self.in_sync.take()?;
        Some(Event::InSync { revision })
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}
