//! Numbers for sets of atoms.
//!
//! Ids are dense from 1 and outlive the process: the table of classes has the hash of each id's set, and a new process that
//! meets the same set takes the same id. An id that nothing carries any more rests before it may mean something else.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use crate::calc::AtomSet;

/// The numbers.
#[derive(Debug, Default)]
pub(super) struct Classes {
    ids: HashMap<AtomSet, u32>,
    known: BTreeMap<u32, Known>,
    /// Ids an earlier process gave, by hash, as long as nobody has asked for them.
    adopted: BTreeMap<u64, u32>,
    adopted_ids: BTreeSet<u32>,
    idle: BTreeMap<u32, Option<Duration>>,
    /// Ids that live lists may not know yet.
    unlearned: BTreeSet<u32>,
    limit: u32,
    /// How many sets found no id.
    refused: u64,
}

#[derive(Debug)]
struct Known {
    set: AtomSet,
    users: usize,
}

impl Classes {
    /// The classes of a table as an earlier process left it, with ids up to `limit`.
    pub(super) fn new(table: impl IntoIterator<Item = (u32, u64)>, limit: u32) -> Self {
        let mut classes = Self {
            limit,
            ..Self::default()
        };
        for (id, hash) in table {
            // Id 0 means no class, hash 0 no entry; of two ids with one hash the lower is as good as the other.
            if id != 0 && hash != 0 {
                classes.adopted.entry(hash).or_insert(id);
                classes.adopted_ids.insert(id);
            }
        }
        classes
    }

    /// The id of a set for one more user; 0 when there are no more ids.
    pub(super) fn take(&mut self, set: &AtomSet, hash: impl FnOnce() -> u64) -> u32 {
        if let Some(&id) = self.ids.get(set) {
            if let Some(known) = self.known.get_mut(&id) {
                known.users += 1;
            }
            self.idle.remove(&id);
            return id;
        }
        let id = match self.adopted.remove(&hash()) {
            Some(id) => {
                self.adopted_ids.remove(&id);
                id
            }
            None => {
                if let Some(id) = self.lowest_free() {
                    id
                } else {
                    self.refused += 1;
                    return 0;
                }
            }
        };
        self.idle.remove(&id);
        self.ids.insert(set.clone(), id);
        self.known.insert(
            id,
            Known {
                set: set.clone(),
                users: 1,
            },
        );
        self.unlearned.insert(id);
        id
    }

    /// One user less.
    pub(super) fn release(&mut self, id: u32) {
        if let Some(known) = self.known.get_mut(&id) {
            known.users = known.users.saturating_sub(1);
            if known.users == 0 {
                self.idle.insert(id, None);
            }
        }
    }

    /// The ids that are to be forgotten: nobody has used them for [`REST`], and the tables have been in order since.
    pub(super) fn retire(&mut self, now: Duration, in_order: bool) -> Vec<u32> {
        if !in_order {
            return Vec::new();
        }
        for id in std::mem::take(&mut self.adopted_ids) {
            self.idle.insert(id, None);
        }
        self.adopted.clear();
        let mut retired = Vec::new();
        for (id, since) in &mut self.idle {
            if now.saturating_sub(*since.get_or_insert(now)) >= REST {
                retired.push(*id);
            }
        }
        retired
    }

    /// Gives an id back. What still knows the class has forgotten it.
    pub(super) fn free(&mut self, id: u32) {
        self.idle.remove(&id);
        self.unlearned.remove(&id);
        if let Some(known) = self.known.remove(&id) {
            self.ids.remove(&known.set);
        }
    }

    /// Whether ids rest.
    pub(super) fn are_resting(&self) -> bool {
        !self.idle.is_empty()
    }

    pub(super) fn set(&self, id: u32) -> Option<&AtomSet> {
        self.known.get(&id).map(|known| &known.set)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = u32> {
        self.known.keys().copied()
    }

    /// The ids that live lists may not know yet.
    pub(super) fn unlearned(&self) -> &BTreeSet<u32> {
        &self.unlearned
    }

    pub(super) fn learned(&mut self) {
        self.unlearned.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    fn lowest_free(&self) -> Option<u32> {
        let mut id = 1;
        let mut used = self
            .known
            .keys()
            .chain(&self.adopted_ids)
            .chain(self.idle.keys())
            .copied()
            .collect::<Vec<_>>();
        // Dense tables of ids make small blobs. Usually the count tells at once that there is no gap.
        if used.len() == self.known.len()
            && self
                .known
                .last_key_value()
                .is_none_or(|(last, _)| *last as usize == used.len())
        {
            id = used.len() as u32 + 1;
        } else {
            used.sort_unstable();
            used.dedup();
            for taken in used {
                if taken != id {
                    break;
                }
                id += 1;
            }
        }
        (id <= self.limit).then_some(id)
    }
}

/// How long an id rests before it may mean something else: longer than any packet is under way within this host.
const REST: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    fn set(atoms: &[u32]) -> AtomSet {
        atoms.into()
    }

    #[test]
    fn equal_sets_have_one_id_and_a_new_process_takes_it_again() {
        let mut classes = Classes::new([], 10);
        assert_eq!(classes.take(&set(&[1]), || 11), 1);
        assert_eq!(classes.take(&set(&[2]), || 22), 2);
        assert_eq!(classes.take(&set(&[1]), || 11), 1);
        let mut next = Classes::new([(1, 11), (2, 22)], 10);
        assert_eq!(
            next.take(&set(&[9]), || 99),
            3,
            "ids of the earlier process are not given to others"
        );
        assert_eq!(next.take(&set(&[7]), || 22), 2);
        assert_eq!(next.take(&set(&[8]), || 11), 1);
    }

    #[test]
    fn an_id_rests_before_it_means_something_else() {
        let mut classes = Classes::new([], 10);
        let id = classes.take(&set(&[1]), || 1);
        classes.release(id);
        assert!(classes.retire(Duration::from_secs(10), false).is_empty());
        assert!(classes.retire(Duration::from_secs(10), true).is_empty());
        assert_eq!(classes.take(&set(&[2]), || 2), 2);
        assert_eq!(classes.retire(Duration::from_secs(12), true), [1]);
        classes.free(1);
        assert_eq!(classes.take(&set(&[3]), || 3), 1);
    }

    #[test]
    fn without_ids_there_is_no_class() {
        let mut classes = Classes::new([], 1);
        assert_eq!(classes.take(&set(&[1]), || 1), 1);
        assert_eq!(classes.take(&set(&[2]), || 2), 0);
        assert_eq!(classes.refused(), 1);
    }
}
