//! A table in this process: for tests, and for showing what a run would write.

use std::collections::BTreeMap;

use super::Table;

/// A table held in memory, which can be told to fail.
#[derive(Debug, Clone)]
pub struct MemoryTable<K, V> {
    entries: BTreeMap<K, V>,
    faults: BTreeMap<K, Fault>,
    writes: usize,
}

/// How a write to a key fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is written.
    Refuse,
    /// The write takes effect and an error is returned nevertheless.
    ObeyAndFail,
}

impl<K: Ord + Clone, V: Clone> MemoryTable<K, V> {
    /// What the table holds.
    pub fn entries(&self) -> &BTreeMap<K, V> {
        &self.entries
    }

    /// How many writes and removals were asked of it.
    pub fn writes(&self) -> usize {
        self.writes
    }

    /// Makes writes to `key` fail from now on.
    pub fn fault(&mut self, key: K, fault: Fault) {
        self.faults.insert(key, fault);
    }

    /// Ends all faults.
    pub fn heal(&mut self) {
        self.faults.clear();
    }

    fn write(&mut self, key: &K, value: Option<&V>) -> Result<(), &'static str> {
        self.writes += 1;
        let fault = self.faults.get(key).copied();
        if fault != Some(Fault::Refuse) {
            match value {
                Some(value) => self.entries.insert(key.clone(), value.clone()),
                None => self.entries.remove(key),
            };
        }
        if fault.is_some() {
            Err("told to fail")
        } else {
            Ok(())
        }
    }
}

impl<K: Ord + Clone, V: Clone> Table<K, V> for MemoryTable<K, V> {
    type Error = &'static str;

    fn dump(&mut self) -> Result<Vec<(K, V)>, &'static str> {
        Ok(self
            .entries
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect())
    }

    fn put(&mut self, key: &K, value: &V) -> Result<(), &'static str> {
        self.write(key, Some(value))
    }

    fn delete(&mut self, key: &K) -> Result<(), &'static str> {
        self.write(key, None)
    }
}

impl<K, V> Default for MemoryTable<K, V> {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            faults: BTreeMap::new(),
            writes: 0,
        }
    }
}

impl<K: Ord, V, I: IntoIterator<Item = (K, V)>> From<I> for MemoryTable<K, V> {
    fn from(entries: I) -> Self {
        Self {
            entries: entries.into_iter().collect(),
            ..Self::default()
        }
    }
}
