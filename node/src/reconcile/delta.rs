//! Wanted against actual, for one table.

use std::collections::{BTreeMap, BTreeSet};

use super::Table;

/// What is wanted in a table, what was seen there, and which keys differ.
///
/// `dirty` holds exactly the keys whose two sides differ. A key has one wanted value, so however fast wishes change there is
/// no queue to bound. After a failed write nobody knows what the table holds: such a key stays dirty until a write or a resync
/// tells.
#[derive(Debug, Clone)]
pub struct Delta<K, V> {
    sides: BTreeMap<K, Sides<V>>,
    dirty: BTreeSet<K>,
    synced: bool,
}

/// What one pass over a table did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied<K> {
    /// How many entries were written or removed.
    pub done: usize,
    /// The keys that failed and why, in key order. They stay dirty.
    pub failed: Vec<(K, String)>,
}

/// A key whose two sides differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift<'a, K, V> {
    /// The key.
    pub key: &'a K,
    /// What should be there.
    pub wanted: Option<&'a V>,
    /// What was last seen there; `None` when there is nothing.
    pub actual: Option<&'a V>,
    /// A write failed: what is there now is not known.
    pub unknown: bool,
}

impl<K: Ord + Clone, V: PartialEq + Clone> Delta<K, V> {
    /// An empty delta of a table that was not looked at yet.
    pub fn new() -> Self {
        Self {
            sides: BTreeMap::new(),
            dirty: BTreeSet::new(),
            synced: false,
        }
    }

    /// Sets what is wanted at `key`.
    pub fn want(&mut self, key: K, value: Option<V>) {
        self.change(key, |sides| sides.wanted = value);
    }

    /// Makes `entries` all that is wanted.
    pub fn want_all(&mut self, entries: impl IntoIterator<Item = (K, V)>) {
        let mut wanted: BTreeMap<K, V> = entries.into_iter().collect();
        let gone: Vec<K> = self
            .wanted()
            .map(|(key, _)| key)
            .filter(|key| !wanted.contains_key(key))
            .cloned()
            .collect();
        for key in gone {
            self.want(key, None);
        }
        while let Some((key, value)) = wanted.pop_first() {
            self.want(key, Some(value));
        }
    }

    /// Reads the table: the actual side becomes what it holds. Until this was done once nothing is deleted.
    ///
    /// # Errors
    /// What was known before stays known.
    pub fn resync<T: Table<K, V>>(&mut self, table: &mut T) -> Result<(), T::Error> {
        let mut found: BTreeMap<K, V> = table.dump()?.into_iter().collect();
        let gone: Vec<K> = self
            .sides
            .iter()
            .filter(|(key, sides)| sides.actual != Actual::Absent && !found.contains_key(key))
            .map(|(key, _)| key.clone())
            .collect();
        for key in gone {
            self.change(key, |sides| sides.actual = Actual::Absent);
        }
        while let Some((key, value)) = found.pop_first() {
            self.change(key, |sides| sides.actual = Actual::Present(value));
        }
        self.synced = true;
        Ok(())
    }

    /// Writes what is wanted and not there, in key order.
    pub fn apply_puts<T: Table<K, V>>(&mut self, table: &mut T) -> Applied<K> {
        let keys: Vec<K> = self
            .dirty
            .iter()
            .filter(|key| self.sides[*key].wanted.is_some())
            .cloned()
            .collect();
        let entries: Vec<(&K, &V)> = keys
            .iter()
            .filter_map(|key| self.sides[key].wanted.as_ref().map(|value| (key, value)))
            .collect();
        let mut failures = BTreeMap::new();
        table.put_all(&entries, &mut |position, error| {
            failures.insert(position, error.to_string());
        });
        self.note(keys, failures)
    }

    /// Removes what is there and not wanted, in reverse key order. Does nothing before the first [`resync`](Self::resync).
    pub fn apply_deletes<T: Table<K, V>>(&mut self, table: &mut T) -> Applied<K> {
        if !self.synced {
            return Applied {
                done: 0,
                failed: Vec::new(),
            };
        }
        let keys: Vec<K> = self
            .dirty
            .iter()
            .rev()
            .filter(|key| self.sides[*key].wanted.is_none())
            .cloned()
            .collect();
        let mut failures = BTreeMap::new();
        table.delete_all(&keys.iter().collect::<Vec<_>>(), &mut |position, error| {
            failures.insert(position, error.to_string());
        });
        self.note(keys, failures)
    }

    /// Forgets what is known of one key, after a notice that somebody else changed it. It is written again if it is wanted, and
    /// removed if it is not.
    pub fn doubt(&mut self, key: K) {
        self.change(key, |sides| sides.actual = Actual::Unknown);
    }

    /// Notes what somebody saw at `key`.
    pub fn saw(&mut self, key: K, value: Option<V>) {
        self.change(key, |sides| {
            sides.actual = value.map_or(Actual::Absent, Actual::Present);
        });
    }

    /// Whether the table was read once.
    pub fn is_synced(&self) -> bool {
        self.synced
    }

    /// Whether the table was read and holds what is wanted and nothing else.
    pub fn is_settled(&self) -> bool {
        self.synced && self.dirty.is_empty()
    }

    /// How many keys differ.
    pub fn dirty(&self) -> usize {
        self.dirty.len()
    }

    /// The keys that differ, with both sides.
    pub fn drift(&self) -> impl Iterator<Item = Drift<'_, K, V>> {
        self.dirty.iter().map(|key| {
            let sides = &self.sides[key];
            Drift {
                key,
                wanted: sides.wanted.as_ref(),
                actual: sides.actual.seen(),
                unknown: sides.actual == Actual::Unknown,
            }
        })
    }

    /// Everything that is wanted.
    pub fn wanted(&self) -> impl Iterator<Item = (&K, &V)> {
        self.sides
            .iter()
            .filter_map(|(key, sides)| Some((key, sides.wanted.as_ref()?)))
    }

    /// What is wanted at `key`.
    pub fn wanted_at(&self, key: &K) -> Option<&V> {
        self.sides.get(key)?.wanted.as_ref()
    }

    /// What was last seen at `key`.
    pub fn actual_at(&self, key: &K) -> Option<&V> {
        self.sides.get(key)?.actual.seen()
    }

    /// Everything that was last seen.
    pub fn actual(&self) -> impl Iterator<Item = (&K, &V)> {
        self.sides
            .iter()
            .filter_map(|(key, sides)| Some((key, sides.actual.seen()?)))
    }

    fn note(&mut self, keys: Vec<K>, mut failures: BTreeMap<usize, String>) -> Applied<K> {
        let mut applied = Applied {
            done: 0,
            failed: Vec::new(),
        };
        for (position, key) in keys.into_iter().enumerate() {
            if let Some(reason) = failures.remove(&position) {
                self.change(key.clone(), |sides| sides.actual = Actual::Unknown);
                applied.failed.push((key, reason));
            } else {
                self.change(key, |sides| {
                    sides.actual = sides.wanted.clone().map_or(Actual::Absent, Actual::Present);
                });
                applied.done += 1;
            }
        }
        applied
    }

    fn change(&mut self, key: K, change: impl FnOnce(&mut Sides<V>)) {
        let sides = self.sides.entry(key.clone()).or_insert(Sides {
            wanted: None,
            actual: Actual::Absent,
        });
        change(sides);
        let (same, empty) = match (&sides.wanted, &sides.actual) {
            (None, Actual::Absent) => (true, true),
            (Some(wanted), Actual::Present(actual)) => (wanted == actual, false),
            (_, Actual::Unknown) | (Some(_), Actual::Absent) | (None, Actual::Present(_)) => {
                (false, false)
            }
        };
        if empty {
            self.sides.remove(&key);
        }
        if same {
            self.dirty.remove(&key);
        } else {
            self.dirty.insert(key);
        }
    }
}

impl<K: Ord + Clone, V: PartialEq + Clone> Default for Delta<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K> Applied<K> {
    /// Whether every key went through.
    pub fn is_clean(&self) -> bool {
        self.failed.is_empty()
    }
}

#[derive(Debug, Clone)]
struct Sides<V> {
    wanted: Option<V>,
    actual: Actual<V>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Actual<V> {
    Absent,
    Present(V),
    Unknown,
}

impl<V> Actual<V> {
    fn seen(&self) -> Option<&V> {
        match self {
            Self::Present(value) => Some(value),
            Self::Absent | Self::Unknown => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Fault, MemoryTable};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_is_deleted_before_the_table_was_read() {
        let mut table = MemoryTable::from([(1, 'a')]);
        let mut delta = Delta::new();
        delta.want(2, Some('b'));
        delta.doubt(1);
        assert!(delta.apply_puts(&mut table).is_clean());
        assert_eq!(delta.apply_deletes(&mut table).done, 0);
        assert!(!delta.is_settled());
        assert_eq!(table.entries(), &[(1, 'a'), (2, 'b')].into());
        delta.resync(&mut table).unwrap();
        assert_eq!(delta.apply_deletes(&mut table).done, 1);
        assert!(delta.is_settled());
        assert_eq!(table.entries(), &[(2, 'b')].into());
    }

    #[test]
    fn a_restart_with_nothing_changed_writes_nothing() {
        let mut table = MemoryTable::from([(1, 'a'), (2, 'b')]);
        let mut delta = Delta::new();
        delta.want_all([(1, 'a'), (2, 'b')]);
        delta.resync(&mut table).unwrap();
        delta.apply_puts(&mut table);
        delta.apply_deletes(&mut table);
        assert_eq!(table.writes(), 0);
    }

    #[test]
    fn one_failing_key_does_not_hold_back_the_others_and_is_tried_again() {
        let mut table = MemoryTable::default();
        table.fault(2, Fault::Refuse);
        let mut delta = Delta::new();
        delta.want_all([(1, 'a'), (2, 'b'), (3, 'c')]);
        delta.resync(&mut table).unwrap();
        let applied = delta.apply_puts(&mut table);
        assert_eq!((applied.done, applied.failed.len()), (2, 1));
        assert_eq!(
            delta
                .drift()
                .map(|drift| (*drift.key, drift.unknown))
                .collect::<Vec<_>>(),
            [(2, true)]
        );
        table.heal();
        assert_eq!(delta.apply_puts(&mut table).done, 1);
        assert!(delta.is_settled());
    }

    #[test]
    fn a_write_that_failed_after_taking_effect_is_undone_when_it_is_no_longer_wanted() {
        let mut table = MemoryTable::from([(1, 'a')]);
        let mut delta = Delta::new();
        delta.want(1, Some('a'));
        delta.resync(&mut table).unwrap();
        table.fault(1, Fault::ObeyAndFail);
        delta.want(1, Some('b'));
        assert!(!delta.apply_puts(&mut table).is_clean());
        table.heal();
        delta.want(1, Some('a'));
        assert!(!delta.is_settled());
        assert!(delta.apply_puts(&mut table).is_clean());
        assert_eq!(table.entries(), &[(1, 'a')].into());
    }

    #[derive(Debug, Clone)]
    enum Step {
        Want(u8, Option<u8>),
        Fault(u8, Fault),
        Heal,
        Resync,
        Puts,
        Deletes,
        Restart,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0u8..8, proptest::option::of(0u8..3)).prop_map(|(key, value)| Step::Want(key, value)),
            1 => (0u8..8, prop_oneof![Just(Fault::Refuse), Just(Fault::ObeyAndFail)]).prop_map(|(key, fault)| Step::Fault(key, fault)),
            1 => Just(Step::Heal),
            1 => Just(Step::Resync),
            2 => Just(Step::Puts),
            2 => Just(Step::Deletes),
            1 => Just(Step::Restart),
        ]
    }

    proptest! {
        #[test]
        fn converges_whatever_came_before_and_whatever_fails(
            before in proptest::collection::btree_map(0u8..8, 0u8..3, 0..8),
            steps in proptest::collection::vec(step(), 0..60),
        ) {
            let mut table = MemoryTable::from(before);
            let mut delta = Delta::new();
            let mut wanted = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Want(key, Some(value)) => { wanted.insert(key, value); delta.want(key, Some(value)); }
                    Step::Want(key, None) => { wanted.remove(&key); delta.want(key, None); }
                    Step::Fault(key, fault) => table.fault(key, fault),
                    Step::Heal => table.heal(),
                    Step::Resync => delta.resync(&mut table).unwrap(),
                    Step::Puts => { delta.apply_puts(&mut table); }
                    Step::Deletes => { delta.apply_deletes(&mut table); }
                    Step::Restart => { delta = Delta::new(); delta.want_all(wanted.clone()); }
                }
                if delta.is_synced() {
                    // What is not known to differ does not differ.
                    for key in 0u8..8 {
                        if !delta.dirty.contains(&key) {
                            prop_assert_eq!(table.entries().get(&key), wanted.get(&key));
                        }
                    }
                }
            }
            table.heal();
            if !delta.is_synced() {
                delta.resync(&mut table).unwrap();
            }
            prop_assert!(delta.apply_puts(&mut table).is_clean());
            prop_assert!(delta.apply_deletes(&mut table).is_clean());
            prop_assert!(delta.is_settled());
            prop_assert_eq!(table.entries(), &wanted);
        }
    }
}
