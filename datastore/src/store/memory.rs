//! A store in memory: for tests, and the model that the other stores are held to.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use super::{
    Entry, Filter, Listing, StoreError, Update, Watch,
    backend::{Backend, Condition, entry},
    feed::Feed,
};
use crate::Key;

/// A store in memory.
#[derive(Default)]
pub struct Memory {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    revision: u64,
    values: BTreeMap<Key, (Vec<u8>, u64)>,
    feeds: Vec<Weak<Feed>>,
}

impl Memory {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts bytes under a key, as some other client of a store might, whatever they mean.
    pub fn put_bytes(&self, key: &Key, bytes: impl Into<Vec<u8>>) -> u64 {
        self.lock().put(key, bytes.into())
    }

    /// Removes what is under a key, as some other client of a store might.
    pub fn remove_bytes(&self, key: &Key) {
        self.lock().remove(key);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No change of the state can stop half-way: none of its steps panics.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn put(&mut self, key: &Key, bytes: Vec<u8>) -> u64 {
        self.revision += 1;
        let revision = self.revision;
        self.tell(&Update::from(entry(key.clone(), &bytes, revision)));
        self.values.insert(key.clone(), (bytes, revision));
        revision
    }

    fn remove(&mut self, key: &Key) {
        if self.values.remove(key).is_some() {
            self.revision += 1;
            self.tell(&Update {
                key: key.clone(),
                value: None,
                revision: self.revision,
                problem: None,
            });
        }
    }

    fn tell(&mut self, update: &Update) {
        self.feeds.retain(|feed| {
            let feed = feed.upgrade();
            if let Some(feed) = &feed {
                feed.push(update.clone());
            }
            feed.is_some()
        });
    }

    fn entries(&self, filter: &Filter) -> Vec<Entry> {
        let passing = self.values.iter().filter(|(key, _)| filter.passes(key));
        passing
            .map(|(key, (bytes, revision))| entry(key.clone(), bytes, *revision))
            .collect()
    }

    fn actual(&self, key: &Key) -> Option<u64> {
        self.values.get(key).map(|(_, revision)| *revision)
    }
}

impl Backend for Memory {
    async fn range(&self, filter: &Filter) -> Result<Listing, StoreError> {
        let state = self.lock();
        Ok(Listing {
            entries: state.entries(filter),
            unreadable: Vec::new(),
            revision: state.revision,
        })
    }

    async fn read(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        let state = self.lock();
        let found = state.values.get(key);
        Ok(found.map(|(bytes, revision)| entry(key.clone(), bytes, *revision)))
    }

    async fn put(
        &self,
        key: &Key,
        bytes: Vec<u8>,
        condition: Condition,
    ) -> Result<u64, StoreError> {
        let mut state = self.lock();
        condition.holds(key, state.actual(key))?;
        Ok(state.put(key, bytes))
    }

    async fn remove(&self, key: &Key, revision: u64) -> Result<(), StoreError> {
        let mut state = self.lock();
        Condition::At(revision).holds(key, state.actual(key))?;
        state.remove(key);
        Ok(())
    }

    fn follow(&self) -> Watch {
        let feed = Arc::new(Feed::default());
        let mut state = self.lock();
        for entry in state.entries(&Filter::All) {
            feed.push(entry.into());
        }
        feed.in_sync(state.revision);
        state.feeds.push(Arc::downgrade(&feed));
        Watch::new(feed, ())
    }
}
