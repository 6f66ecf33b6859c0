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

#[cfg(all(test, any(feature = "dir", feature = "etcd")))]
mod tests {
    use super::*;
    use crate::Kind;

    #[test]
    fn events_come_in_an_order_that_makes_sense() {
        let feed = Feed::default();
        feed.push(update("b", 1));
        feed.in_sync(1);
        feed.push(update("a", 2));
        feed.push(update("b", 3));
        assert_eq!(
            taken(&feed),
            [
                Event::Updates(vec![update("a", 2), update("b", 3)]),
                Event::InSync { revision: 1 },
            ]
        );
        // Who is told of trouble is not told at once that all is well.
        feed.in_sync(4);
        feed.trouble("gone");
        assert_eq!(taken(&feed), [Event::Trouble("gone".to_owned())]);
        // Trouble that is over before it was read is told, and so is its end.
        feed.trouble("gone");
        feed.push(update("a", 5));
        feed.in_sync(5);
        assert_eq!(
            taken(&feed),
            [
                Event::Trouble("gone".to_owned()),
                Event::Updates(vec![update("a", 5)]),
                Event::InSync { revision: 5 },
            ]
        );
    }

    #[test]
    fn many_updates_come_in_batches() {
        let feed = Feed::default();
        for index in 0..2500 {
            feed.push(update(&format!("t{index}"), 1));
        }
        let sizes: Vec<usize> = taken(&feed)
            .into_iter()
            .map(|event| match event {
                Event::Updates(updates) => updates.len(),
                Event::InSync { .. } | Event::Trouble(_) | Event::Unreadable(_) => 0,
            })
            .collect();
        assert_eq!(sizes, [1000, 1000, 500]);
    }

    #[test]
    fn nobody_changes_the_profile_that_is_always_there() {
        let feed = Feed::default();
        let key = Key::global(Kind::Profile, "projectcalico-default-allow");
        feed.push(Update {
            key,
            ..update("x", 1)
        });
        assert_eq!(taken(&feed), []);
    }

    fn taken(feed: &Feed) -> Vec<Event> {
        std::iter::from_fn(|| feed.lock().take()).collect()
    }

    fn update(name: &str, revision: u64) -> Update {
        Update {
            key: Key::global(Kind::Tier, name),
            value: None,
            revision,
            problem: None,
        }
    }
}
