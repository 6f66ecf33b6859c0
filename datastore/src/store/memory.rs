//! A store in memory: for tests, and the model that the other stores are held to.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use super::{
    Entry, Filter, Known, Listing, Reports, StoreError, Watch,
    backend::{Backend, Condition, entry},
    feed::{Feed, with_digest},
    hold::Change,
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
    reports: BTreeMap<String, Vec<u8>>,
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
        self.lock().remove_all(std::slice::from_ref(key));
    }

    /// Removes what is under some keys, all at one revision.
    pub fn remove_all(&self, keys: &[Key]) {
        self.lock().remove_all(keys);
    }

    /// What was reported under a path last. Time does not pass here.
    pub fn reported(&self, path: &str) -> Option<Vec<u8>> {
        self.lock().reports.get(path).cloned()
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
        let change = Change::put(entry(key.clone(), &bytes, revision), &bytes);
        self.tell(&[change]);
        self.values.insert(key.clone(), (bytes, revision));
        revision
    }

    fn remove_all(&mut self, keys: &[Key]) {
        let removed: Vec<Change> = keys
            .iter()
            .filter_map(|key| self.values.remove_entry(key))
            .map(|(key, _)| Change::delete(key))
            .collect();
        if !removed.is_empty() {
            self.revision += 1;
            self.tell(&removed);
        }
    }

    fn tell(&mut self, changes: &[Change]) {
        let revision = self.revision;
        self.feeds.retain(|feed| {
            let feed = feed.upgrade();
            if let Some(feed) = &feed {
                feed.change(revision, changes.to_vec());
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
        state.remove_all(std::slice::from_ref(key));
        Ok(())
    }

    fn follow(&self, known: Known) -> Watch {
        let feed = Feed::new(known);
        let mut state = self.lock();
        let values = state.values.iter().map(|(key, (bytes, revision))| {
            with_digest(entry(key.clone(), bytes, *revision), bytes)
        });
        feed.listed(values.collect(), state.revision);
        state.feeds.push(Arc::downgrade(&feed));
        Watch::new(feed, ())
    }

    async fn report(
        &self,
        path: &str,
        value: Option<Vec<u8>>,
        _time_to_live: Option<Duration>,
    ) -> Result<(), StoreError> {
        let reports = &mut self.lock().reports;
        match value {
            Some(value) => reports.insert(path.to_owned(), value),
            None => reports.remove(path),
        };
        Ok(())
    }

    async fn reports(&self, prefix: &str) -> Result<Reports, StoreError> {
        let state = self.lock();
        let all = state.reports.iter();
        let under = all.filter(|(path, _)| path.starts_with(prefix));
        Ok(under
            .map(|(path, value)| (path.clone(), value.clone()))
            .collect())
    }
}
