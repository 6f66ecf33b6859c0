//! A key-value store in memory, with etcd's revisions.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use futures::future::{BoxFuture, FutureExt, ready};

use super::kv::{Answer, Condition, Kv, KvError, Stored, Transaction, Want, Write};

/// A store in memory.
#[derive(Debug, Default)]
pub struct MemoryKv {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    revision: u64,
    values: BTreeMap<String, (Vec<u8>, u64)>,
}

impl MemoryKv {
    /// Stores a value without any condition, as another client might.
    pub fn put(&self, key: impl Into<String>, value: impl Into<Vec<u8>>) {
        self.apply(&Transaction {
            conditions: Vec::new(),
            writes: vec![Write::Put(key.into(), value.into())],
        });
    }

    /// Removes a key without any condition, as another client might.
    pub fn delete(&self, key: impl Into<String>) {
        self.apply(&Transaction {
            conditions: Vec::new(),
            writes: vec![Write::Delete(key.into())],
        });
    }

    /// The value under a key.
    pub fn value(&self, key: &str) -> Option<Vec<u8>> {
        self.lock().values.get(key).map(|(value, _)| value.clone())
    }

    /// Everything that is there.
    pub fn dump(&self) -> Vec<Stored> {
        self.look(&[Want::Prefix(String::new())]).entries
    }

    fn look(&self, wants: &[Want]) -> Answer {
        let state = self.lock();
        let entry = |(key, (value, revision)): (&String, &(Vec<u8>, u64))| Stored {
            key: key.clone(),
            value: value.clone(),
            revision: *revision,
        };
        let mut entries = Vec::new();
        for want in wants {
            match want {
                Want::Key(key) => entries.extend(state.values.get_key_value(key).map(entry)),
                Want::Prefix(prefix) => entries.extend(state.under(prefix).map(entry)),
            }
        }
        Answer {
            entries,
            revision: state.revision,
        }
    }

    fn apply(&self, transaction: &Transaction) -> bool {
        let mut state = self.lock();
        let holds = transaction
            .conditions
            .iter()
            .all(|condition| match condition {
                Condition::Absent(key) => !state.values.contains_key(key),
                Condition::At(key, expected) => state
                    .values
                    .get(key)
                    .is_some_and(|(_, revision)| revision == expected),
                Condition::NothingAfter(prefix, last) => state
                    .under(prefix)
                    .all(|(_, (_, revision))| revision <= last),
            });
        if holds && !transaction.writes.is_empty() {
            state.revision += 1;
            let revision = state.revision;
            for write in &transaction.writes {
                match write {
                    Write::Put(key, value) => {
                        state.values.insert(key.clone(), (value.clone(), revision));
                    }
                    Write::Delete(key) => {
                        state.values.remove(key);
                    }
                }
            }
        }
        holds
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No change of the state can stop half-way: none of its steps panics.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn under<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a String, &'a (Vec<u8>, u64))> {
        self.values
            .range(prefix.to_owned()..)
            .take_while(move |(key, _)| key.starts_with(prefix))
    }
}

impl Kv for MemoryKv {
    fn read<'a>(&'a self, wants: &'a [Want]) -> BoxFuture<'a, Result<Answer, KvError>> {
        ready(Ok(self.look(wants))).boxed()
    }

    fn commit<'a>(&'a self, transaction: &'a Transaction) -> BoxFuture<'a, Result<bool, KvError>> {
        ready(Ok(self.apply(transaction))).boxed()
    }
}
