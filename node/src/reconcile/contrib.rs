//! One winner per key among all who wish for it.

use std::collections::{BTreeMap, BTreeSet};

/// All wishes for the keys of one table. The lowest owner wins, whoever came first.
///
/// Two endpoints with one address, BGP and a local route for one prefix, two rules that need one class: all the same case.
/// The state depends on each owner's last word only.
#[derive(Debug, Clone)]
pub struct Contrib<O, K, V> {
    wishes: BTreeMap<K, BTreeMap<O, V>>,
    owned: BTreeMap<O, BTreeSet<K>>,
}

impl<O, K, V> Default for Contrib<O, K, V> {
    fn default() -> Self {
        Self {
            wishes: BTreeMap::new(),
            owned: BTreeMap::new(),
        }
    }
}

impl<O: Ord + Clone, K: Ord + Clone, V: PartialEq> Contrib<O, K, V> {
    /// Makes `entries` all that `owner` wishes for. `changed` is told each key whose winning value is another one now, or
    /// `None` when nobody wishes for it any more. Of entries with equal keys the last counts.
    pub fn replace(
        &mut self,
        owner: &O,
        entries: impl IntoIterator<Item = (K, V)>,
        mut changed: impl FnMut(&K, Option<&V>),
    ) {
        let mut gone = self.owned.get(owner).cloned().unwrap_or_default();
        for (key, value) in entries {
            gone.remove(&key);
            self.set(owner, key, Some(value), &mut changed);
        }
        for key in gone {
            self.set(owner, key, None, &mut changed);
        }
    }

    /// Changes one wish of `owner` and leaves its others as they are.
    pub fn set(
        &mut self,
        owner: &O,
        key: K,
        value: Option<V>,
        mut changed: impl FnMut(&K, Option<&V>),
    ) {
        if let Some(value) = value {
            let wishes = self.wishes.entry(key.clone()).or_default();
            let wins = wishes
                .first_key_value()
                .is_none_or(|(first, _)| owner <= first);
            let differs = wishes
                .first_key_value()
                .is_none_or(|(_, winner)| *winner != value);
            wishes.insert(owner.clone(), value);
            if wins && differs {
                changed(&key, wishes.first_key_value().map(|(_, winner)| winner));
            }
            self.owned.entry(owner.clone()).or_default().insert(key);
        } else {
            if let Some(keys) = self.owned.get_mut(owner) {
                keys.remove(&key);
                if keys.is_empty() {
                    self.owned.remove(owner);
                }
            }
            let Some(wishes) = self.wishes.get_mut(&key) else {
                return;
            };
            let won = wishes
                .first_key_value()
                .is_some_and(|(first, _)| first == owner);
            let Some(old) = wishes.remove(owner) else {
                return;
            };
            let winner = wishes.first_key_value().map(|(_, winner)| winner);
            if won && winner != Some(&old) {
                changed(&key, winner);
            }
            if wishes.is_empty() {
                self.wishes.remove(&key);
            }
        }
    }

    /// The winning wish for `key`.
    pub fn winner(&self, key: &K) -> Option<(&O, &V)> {
        self.wishes.get(key)?.first_key_value()
    }

    /// Every wish for `key`, the winner first.
    pub fn wishes(&self, key: &K) -> impl Iterator<Item = (&O, &V)> {
        self.wishes.get(key).into_iter().flatten()
    }

    /// Every key that someone wishes for, with its winner.
    pub fn winners(&self) -> impl Iterator<Item = (&K, &O, &V)> {
        self.wishes.iter().filter_map(|(key, wishes)| {
            wishes
                .first_key_value()
                .map(|(owner, value)| (key, owner, value))
        })
    }

    /// Every wish of everybody.
    pub fn all(&self) -> impl Iterator<Item = &V> {
        self.wishes.values().flat_map(BTreeMap::values)
    }

    /// The keys `owner` wishes for.
    pub fn owned(&self, owner: &O) -> impl Iterator<Item = &K> {
        self.owned.get(owner).into_iter().flatten()
    }

    /// The keys more than one owner wishes for.
    pub fn contested(&self) -> impl Iterator<Item = (&K, impl Iterator<Item = &O>)> {
        self.wishes
            .iter()
            .filter(|(_, wishes)| wishes.len() > 1)
            .map(|(key, wishes)| (key, wishes.keys()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn winners(contrib: &Contrib<u8, u8, u8>) -> BTreeMap<u8, u8> {
        contrib
            .winners()
            .map(|(key, _, value)| (*key, *value))
            .collect()
    }

    #[test]
    fn the_lowest_owner_wins_whoever_came_first() {
        for order in [[1, 2], [2, 1]] {
            let mut contrib = Contrib::default();
            for owner in order {
                contrib.replace(&owner, [("10.0.0.1", owner)], |_, _| {});
            }
            assert_eq!(contrib.winner(&"10.0.0.1"), Some((&1, &1)));
            assert_eq!(
                contrib
                    .contested()
                    .map(|(key, owners)| (*key, owners.count()))
                    .collect::<Vec<_>>(),
                [("10.0.0.1", 2)]
            );
        }
    }

    #[test]
    fn a_change_that_leaves_the_winner_alone_is_not_told() {
        let mut contrib = Contrib::default();
        contrib.replace(&1, [("a", 7)], |_, _| {});
        contrib.replace(&2, [("a", 7)], |key, _| panic!("told of {key}"));
        contrib.replace(&2, [("a", 8)], |key, _| panic!("told of {key}"));
        contrib.replace(&2, [("a", 7)], |key, _| panic!("told of {key}"));
        contrib.replace(&1, [], |key, _| {
            panic!("told of {key}, which the other owner wishes with the same value")
        });
        let mut told = Vec::new();
        contrib.replace(&2, [], |key, winner| told.push((*key, winner.copied())));
        assert_eq!(told, [("a", None)]);
    }

    proptest! {
        #[test]
        fn state_depends_on_each_owners_last_word_only(
            words in proptest::collection::vec((0u8..4, proptest::collection::vec((0u8..6, 0u8..3), 0..5)), 0..20)
        ) {
            let mut contrib = Contrib::default();
            let mut followed: BTreeMap<u8, u8> = BTreeMap::new();
            for (owner, entries) in &words {
                contrib.replace(owner, entries.iter().copied(), |key, winner| match winner {
                    Some(value) => { assert_ne!(followed.insert(*key, *value), Some(*value), "told of no change"); }
                    None => { assert!(followed.remove(key).is_some(), "told of no change"); }
                });
            }
            let last: BTreeMap<u8, &Vec<(u8, u8)>> = words.iter().map(|(owner, entries)| (*owner, entries)).collect();
            let mut fresh = Contrib::default();
            for (owner, entries) in last.iter().rev() {
                fresh.replace(owner, entries.iter().copied(), |_, _| {});
            }
            prop_assert_eq!(winners(&contrib), winners(&fresh));
            prop_assert_eq!(followed, winners(&fresh));
            prop_assert_eq!(contrib.owned, fresh.owned);
        }
    }
}
