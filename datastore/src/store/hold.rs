//! What a reader of a watch was told, and the guard over it: a store that looks lost is not obeyed.
//!
//! Every change goes through here on its way to the reader. A listing of which too much is missing, a
//! deletion of most objects at one revision, or a store that says to be of another cluster begins a
//! hold: from then on differences are kept and not told, until the store has its objects again or an
//! operator says that it is right as it is.
//!
//! Pure: time, connections and locks are the business of others.

use std::collections::{BTreeMap, BTreeSet};

use super::{Entry, Held, Known, Update};
use crate::{Key, Kind, Resource};

/// Fewer objects than this may shrink to any number but none.
const FEW: usize = 10;
/// After so many signs of life without a change a store that is being filled is taken to be full.
const QUIET: u32 = 2;

/// Whether so many missing objects look like a lost store.
fn is_lost(known: usize, missing: usize) -> bool {
    let kept = known.saturating_sub(missing);
    known > 0 && (kept == 0 || (known >= FEW && kept * 2 < known))
}

/// Whether so many objects deleted at one revision look like an accident. Who deletes one object means it.
fn is_sweep(known: usize, deleted: usize) -> bool {
    deleted > 1 && is_lost(known, deleted)
}

/// Whether a store that was lost has its objects again: all of them, but for a tenth that may really be
/// gone, or may be on its way.
fn is_back(known: usize, missing: usize) -> bool {
    missing * 10 <= known
}

fn lacks(known: usize, missing: usize) -> String {
    format!(
        "the store holds {} of {known} known objects",
        known - missing
    )
}

/// What was told of one object.
#[derive(Clone, Copy, Debug)]
struct Told {
    revision: u64,
    /// Of the bytes; none if they were never seen, as after a start from a snapshot.
    digest: Option<u64>,
    /// The last listing that had it.
    round: u32,
}

/// A change of one object in the store.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) key: Key,
    /// The new state, and the digest of its bytes; `None` if the object is gone.
    pub(super) now: Option<(Entry, u64)>,
}

impl Change {
    pub(super) fn put(entry: Entry, bytes: &[u8]) -> Self {
        Self {
            key: entry.key.clone(),
            now: Some((entry, digest(bytes))),
        }
    }

    pub(super) fn delete(key: Key) -> Self {
        Self { key, now: None }
    }
}

/// A hold: why, and how the store differs from what was told.
#[derive(Debug)]
struct Hold {
    reason: String,
    /// The state now of what is not as it was told.
    differs: BTreeMap<Key, Option<(Entry, u64)>>,
    missing: usize,
    /// The cluster that the store says to be of, if it is another one.
    cluster: Option<String>,
    /// A listing had nearly all objects again; how many signs of life have come since the last change.
    quiet: Option<u32>,
}

/// Stands between a store and the reader of one watch.
#[derive(Debug, Default)]
pub(super) struct Guard {
    told: BTreeMap<Key, Told>,
    cluster: Option<String>,
    hold: Option<Hold>,
    round: u32,
    /// Deletions at the revision that was last heard of: the revision, what was known before, how many.
    sweep: (u64, usize, usize),
    /// The revision of the store up to which all is told or held; none while that is being found out.
    complete: Option<u64>,
}

/// What a reader is to be told.
#[derive(Debug, Default)]
pub(super) struct Tell {
    pub(super) updates: Vec<Update>,
    pub(super) in_sync: Option<u64>,
    pub(super) held: Option<Held>,
}

impl Guard {
    pub(super) fn new(known: Known) -> Self {
        let told = known.objects.into_iter().map(|(key, revision)| {
            let told = Told {
                revision,
                digest: None,
                round: 0,
            };
            (key, told)
        });
        Self {
            told: told.collect(),
            cluster: known.cluster,
            ..Self::default()
        }
    }

    /// The hold, if there is one.
    pub(super) fn held(&self) -> Option<Held> {
        self.hold.as_ref().map(|hold| Held {
            known: self.told.len(),
            missing: hold.missing,
            reason: hold.reason.clone(),
        })
    }

    /// Whether a listing must say first which keys it has.
    pub(super) fn knows_anything(&self) -> bool {
        !self.told.is_empty() || self.cluster.is_some()
    }

    /// A listing begins.
    pub(super) fn begin(&mut self) {
        self.round = self.round.wrapping_add(1);
        self.complete = None;
    }

    /// The listing has this key.
    pub(super) fn mark(&mut self, key: &Key) {
        if let Some(told) = self.told.get_mut(key) {
            told.round = self.round;
        }
    }

    /// The listing says nothing of these keys, which stay as they are.
    pub(super) fn mark_where(&mut self, spared: impl Fn(&Key) -> bool) {
        for (key, told) in &mut self.told {
            if spared(key) {
                told.round = self.round;
            }
        }
    }

    /// All keys of the listing are marked, and this is the cluster that it says to be of: begins, keeps
    /// or ends a hold.
    pub(super) fn decide(&mut self, cluster: Option<String>) {
        let known = self.told.len();
        let absent = self
            .told
            .iter()
            .filter(|(_, told)| told.round != self.round);
        let missing = absent.clone().count();
        let other = cluster.filter(|cluster| self.is_other(cluster));
        let reason = match (&other, &self.hold) {
            (Some(other), _) => Some(self.other_cluster(other)),
            (None, _) if is_lost(known, missing) => Some(lacks(known, missing)),
            // Were it to end while the store is being filled, the rest would be gone until it comes.
            (None, Some(hold)) if missing > 0 => Some(match &hold.cluster {
                None => hold.reason.clone(),
                Some(_) => lacks(known, missing),
            }),
            (None, _) => None,
        };
        self.hold = reason.map(|reason| Hold {
            reason,
            differs: absent.map(|(key, _)| (key.clone(), None)).collect(),
            missing,
            cluster: other,
            quiet: is_back(known, missing).then_some(0),
        });
    }

    /// The store has answered, and nothing has happened: ends a hold for a store that a listing had nearly
    /// whole, once it is sure that nothing more is coming.
    pub(super) fn quiet(&mut self, tell: &mut Tell) {
        let known = self.told.len();
        let Some(hold) = &mut self.hold else {
            return;
        };
        if self.complete.is_none() || hold.cluster.is_some() || !is_back(known, hold.missing) {
            return;
        }
        if let Some(signs) = &mut hold.quiet {
            *signs += 1;
            if *signs >= QUIET {
                self.release(tell);
            }
        }
    }

    /// Whether the listing has an object as it was told; then there is nothing more to do about it.
    pub(super) fn lists_same(&mut self, key: &Key, revision: u64, digest: u64) -> bool {
        let Some(told) = self.told.get_mut(key) else {
            return false;
        };
        told.round = self.round;
        let same = told.revision == revision && told.digest == Some(digest);
        if same && let Some(hold) = &mut self.hold {
            let before = hold.differs.remove(key);
            hold.missing -= usize::from(before.is_some_and(|before| before.is_none()));
        }
        same
    }

    /// An object of the listing.
    pub(super) fn list(&mut self, entry: Entry, digest: u64, tell: &mut Tell) {
        self.mark(&entry.key);
        self.put(entry, digest, tell);
    }

    /// The listing is complete, as of this revision.
    pub(super) fn end(&mut self, revision: u64, tell: &mut Tell) {
        self.complete = Some(revision);
        if self.hold.is_some() {
            tell.held = self.held();
            return;
        }
        let absent = self
            .told
            .iter()
            .filter(|(_, told)| told.round != self.round);
        let absent: Vec<Key> = absent.map(|(key, _)| key.clone()).collect();
        for key in absent {
            self.forget(key, revision, tell);
        }
        tell.in_sync = self.complete;
    }

    /// What happened at one revision, or as much of it as was heard at once.
    pub(super) fn change(&mut self, revision: u64, changes: Vec<Change>, tell: &mut Tell) {
        if let Some(complete) = &mut self.complete {
            *complete = revision.max(*complete);
        }
        let deleted = changes
            .iter()
            .filter(|change| change.now.is_none() && self.told.contains_key(&change.key))
            .count();
        if self.sweep.0 != revision {
            self.sweep = (revision, self.told.len(), 0);
        }
        self.sweep.2 += deleted;
        let (_, known, deleted) = self.sweep;
        let cluster = changes
            .iter()
            .filter_map(|change| cluster_of(&change.now.as_ref()?.0))
            .next_back();
        let other = cluster.clone().filter(|cluster| self.is_other(cluster));
        let before = self.held();
        if let Some(hold) = &mut self.hold {
            if cluster.is_some() {
                hold.cluster.clone_from(&other);
            }
        } else if other.is_some() || is_sweep(known, deleted) {
            let reason = match &other {
                Some(other) => self.other_cluster(other),
                None => {
                    format!("{deleted} of {known} objects were deleted at once")
                }
            };
            self.hold = Some(Hold {
                reason,
                differs: BTreeMap::new(),
                missing: 0,
                cluster: other,
                quiet: None,
            });
        }
        for change in changes {
            // Told again, or out of order: what is known is newer.
            if self
                .revision_of(&change.key)
                .is_some_and(|known| known > revision)
            {
                continue;
            }
            match change.now {
                Some((entry, digest)) => self.put(entry, digest, tell),
                None => self.forget(change.key, revision, tell),
            }
        }
        if let Some(hold) = &mut self.hold {
            // Objects are coming back; other changes say nothing about those that are missing.
            if before
                .as_ref()
                .is_some_and(|before| hold.missing < before.missing)
            {
                hold.quiet = hold.quiet.map(|_| 0);
            }
            // A store that is being filled is not done before the last object is back; what a listing may
            // lack is a deletion here.
            if hold.cluster.is_none() && hold.missing == 0 {
                self.release(tell);
            } else if before != self.held() {
                tell.held = self.held();
            }
        }
    }

    /// Ends a hold: from now on the store is right.
    pub(super) fn accept(&mut self, tell: &mut Tell) -> bool {
        let held = self.hold.is_some();
        self.release(tell);
        held
    }

    /// A key whose state in the store is known, for telling this store from another: the one changed last
    /// of those that are known up to the highest revision.
    pub(super) fn witness(
        &self,
        up_to: impl Fn(&Key) -> Option<u64>,
    ) -> Option<(Key, u64, Option<u64>)> {
        let differs = self.hold.as_ref().map(|hold| &hold.differs);
        let told = self
            .told
            .iter()
            .filter(|(key, _)| differs.is_none_or(|differs| !differs.contains_key(*key)))
            .map(|(key, told)| (key, told.revision, told.digest));
        let differing = differs.into_iter().flatten().filter_map(|(key, now)| {
            now.as_ref()
                .map(|(entry, digest)| (key, entry.revision, Some(*digest)))
        });
        told.chain(differing)
            .filter_map(|(key, revision, digest)| Some((up_to(key)?, key, revision, digest)))
            .filter(|(up_to, _, revision, _)| revision <= up_to)
            .max_by_key(|(up_to, _, revision, _)| (*up_to, *revision))
            .map(|(_, key, revision, digest)| (key.clone(), revision, digest))
    }

    /// The keys of what is in the store, as far as is known, and was last changed by this revision.
    pub(super) fn known(&self, up_to: u64) -> BTreeSet<Key> {
        let differing = self.hold.iter().flat_map(|hold| hold.differs.keys());
        let keys = self.told.keys().chain(differing);
        keys.filter(|key| self.is_known(key, up_to))
            .cloned()
            .collect()
    }

    /// Whether this object is in the store, as far as is known, and was last changed by this revision.
    pub(super) fn is_known(&self, key: &Key, up_to: u64) -> bool {
        self.revision_of(key)
            .is_some_and(|revision| revision <= up_to)
    }

    fn put(&mut self, entry: Entry, digest: u64, tell: &mut Tell) {
        let told = self.told.get(&entry.key).copied();
        let same =
            told.is_some_and(|told| told.revision == entry.revision && told.digest == Some(digest));
        if let Some(hold) = &mut self.hold {
            let before = if same {
                hold.differs.remove(&entry.key)
            } else {
                hold.differs
                    .insert(entry.key.clone(), Some((entry, digest)))
            };
            hold.missing -= usize::from(before.is_some_and(|before| before.is_none()));
        } else if !same {
            if let Some(cluster) = cluster_of(&entry) {
                self.cluster = Some(cluster);
            }
            let told = Told {
                revision: entry.revision,
                digest: Some(digest),
                round: self.round,
            };
            self.told.insert(entry.key.clone(), told);
            tell.updates.push(entry.into());
        }
    }

    fn forget(&mut self, key: Key, revision: u64, tell: &mut Tell) {
        if let Some(hold) = &mut self.hold {
            if self.told.contains_key(&key) {
                let before = hold.differs.insert(key, None);
                hold.missing += usize::from(!matches!(before, Some(None)));
            } else {
                hold.differs.remove(&key);
            }
        } else if self.told.remove(&key).is_some() {
            tell.updates.push(Update {
                key,
                value: None,
                revision,
                problem: None,
            });
        }
    }

    fn release(&mut self, tell: &mut Tell) {
        let Some(hold) = self.hold.take() else {
            return;
        };
        let revision = self.complete.unwrap_or(0);
        for (key, now) in hold.differs {
            match now {
                Some((entry, digest)) => self.put(entry, digest, tell),
                None => self.forget(key, revision, tell),
            }
        }
        // Deletions that are accepted late belong to no sweep.
        self.sweep = (0, 0, 0);
        tell.in_sync = self.complete;
    }

    /// The revision that the object is at in the store, as far as is known.
    fn revision_of(&self, key: &Key) -> Option<u64> {
        let differs = self.hold.as_ref().and_then(|hold| hold.differs.get(key));
        match differs {
            Some(now) => now.as_ref().map(|(entry, _)| entry.revision),
            None => self.told.get(key).map(|told| told.revision),
        }
    }

    fn is_other(&self, cluster: &str) -> bool {
        self.cluster
            .as_deref()
            .is_some_and(|known| known != cluster)
    }

    fn other_cluster(&self, other: &str) -> String {
        let known = self.cluster.as_deref().unwrap_or_default();
        format!("the store says to be of cluster {other}, and was of {known}")
    }
}

/// The `clusterGUID` of an entry, if it is the one object that has it.
pub(super) fn cluster_of(entry: &Entry) -> Option<String> {
    cluster_of_resource(&entry.key, entry.resource.as_deref().ok()?)
}

pub(super) fn cluster_of_resource(key: &Key, resource: &Resource) -> Option<String> {
    let Resource::ClusterInformation(cluster) = resource else {
        return None;
    };
    let guid = cluster.spec.cluster_guid.clone()?;
    (*key == cluster_key() && !guid.is_empty()).then_some(guid)
}

/// The key of the object that names the cluster.
pub(super) fn cluster_key() -> Key {
    Key::global(Kind::ClusterInformation, "default")
}

/// FNV-1a: tells one value of an object from the next, in no contest with anyone.
pub(super) fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::store::entry;

    #[test]
    fn a_listing_that_lost_most_is_held_until_it_has_its_objects_again() {
        let mut reader = Reader::knowing(20);
        reader.list(0..9, 30);
        let held = reader.held.clone().unwrap();
        assert_eq!((held.known, held.missing), (20, 11));
        assert!(held.reason.contains("9 of 20"), "{}", held.reason);
        assert_eq!((reader.objects.len(), reader.in_sync), (20, None));
        // Half of it again is no store yet; nor is one that is being filled.
        reader.list(0..15, 31);
        assert_eq!((reader.objects.len(), reader.in_sync), (20, None));
        reader.list(0..18, 32);
        assert_eq!((reader.objects.len(), reader.in_sync), (20, None));
        reader.list(0..20, 33);
        assert_eq!((reader.objects.len(), reader.in_sync), (20, Some(33)));
    }

    #[test]
    fn what_a_tenth_of_a_store_lacks_is_gone_when_nothing_more_comes() {
        let mut reader = Reader::knowing(20);
        reader.list(0..5, 30);
        reader.list(0..17, 31);
        for _ in 0..10 {
            reader.quiet();
        }
        assert_eq!(reader.objects.len(), 20, "more than a tenth");
        reader.list(0..18, 32);
        reader.quiet();
        // An object that comes back begins the waiting anew; a change elsewhere does not.
        reader.put([18], 33);
        reader.quiet();
        assert_eq!((reader.objects.len(), reader.in_sync), (20, None));
        reader.quiet();
        assert_eq!((reader.objects.len(), reader.in_sync), (19, Some(33)));
        assert_eq!(reader.guard.held(), None);
    }

    #[test]
    fn a_sweep_stays_held_however_quiet_the_store() {
        let mut reader = Reader::knowing(20);
        reader.delete(0..20, 30);
        reader.put(0..19, 31);
        for _ in 0..10 {
            reader.quiet();
        }
        assert_eq!((reader.objects.len(), reader.in_sync), (20, None));
    }

    #[test]
    fn what_may_be_gone_is_gone() {
        for (known, left, obeyed) in [
            (1, 0, false),
            (2, 0, false),
            (2, 1, true),
            (9, 1, true),
            (10, 4, false),
            (10, 5, true),
            (100, 49, false),
            (100, 50, true),
        ] {
            let mut reader = Reader::knowing(known);
            reader.list(0..left, 200);
            assert_eq!(reader.held.is_none(), obeyed, "{left} of {known}");
            let expected = if obeyed { left } else { known };
            assert_eq!(reader.objects.len(), expected, "{left} of {known}");
        }
    }

    #[test]
    fn deletions_one_by_one_are_obeyed_and_a_sweep_is_held() {
        let mut reader = Reader::knowing(20);
        for index in 0..8 {
            reader.delete([index], 30 + index as u64);
        }
        assert_eq!((reader.objects.len(), &reader.held), (12, &None));
        reader.delete(8..15, 50);
        assert_eq!(reader.objects.len(), 12, "seven of twelve at once");
        // What else happens is held, too, and told when an operator says so.
        reader.put([30], 51);
        assert_eq!(reader.objects.len(), 12);
        assert_eq!(reader.guard.held().unwrap().missing, 7);
        reader.accept();
        let left: BTreeSet<usize> = (15..20).chain([30]).collect();
        assert_eq!(reader.keys(), left);
        assert_eq!((reader.in_sync, reader.guard.held()), (Some(51), None));
        // The last object may go, for it is one.
        reader.delete(15..17, 60);
        for index in [17, 18, 19, 30] {
            reader.delete([index], 70 + index as u64);
        }
        assert_eq!(reader.keys(), BTreeSet::new());
    }

    #[test]
    fn a_sweep_told_in_pieces_is_one_sweep() {
        let mut reader = Reader::knowing(20);
        reader.delete(0..6, 30);
        assert_eq!(reader.objects.len(), 14);
        reader.delete(6..20, 30);
        assert_eq!(reader.objects.len(), 14);
        assert_eq!(reader.guard.held().unwrap().missing, 14);
        reader.put(6..20, 31);
        assert_eq!((reader.objects.len(), reader.in_sync), (14, Some(31)));
    }

    #[test]
    fn who_refills_a_store_one_by_one_takes_nothing_that_is_still_to_come() {
        let mut reader = Reader::knowing(20);
        reader.delete(0..20, 30);
        for index in 0..20 {
            reader.put([index], 31 + index as u64);
            assert_eq!(reader.objects.len(), 20, "after {index}");
        }
        assert_eq!(reader.guard.held(), None);
    }

    #[test]
    fn a_store_of_another_cluster_is_held_whatever_it_holds() {
        let mut reader = Reader::knowing(3);
        reader.name_cluster("aaa", 10);
        let mut others = objects(0..3, 11);
        others.push(cluster("bbb", 11));
        reader.list_entries(others, 12);
        let held = reader.held.take().unwrap();
        assert_eq!(held.missing, 0);
        assert!(held.reason.contains("bbb") && held.reason.contains("aaa"));
        assert_eq!(reader.in_sync, None);
        // Ours again.
        let mut ours = objects(0..3, 13);
        ours.push(cluster("aaa", 13));
        reader.list_entries(ours, 14);
        assert_eq!((reader.in_sync, reader.guard.held()), (Some(14), None));
        // In a running watch, and taken for right this time.
        reader.name_cluster("ccc", 15);
        assert!(reader.guard.held().is_some());
        reader.accept();
        reader.name_cluster("ccc", 16);
        assert_eq!(reader.guard.held(), None);
        reader.name_cluster("aaa", 17);
        assert!(reader.guard.held().is_some());
    }

    #[test]
    fn who_starts_from_a_snapshot_is_told_all_and_what_is_gone() {
        let known = Known {
            objects: (0..3).map(|index| (key(index), 5)).collect(),
            cluster: None,
        };
        let mut reader = Reader {
            guard: Guard::new(known),
            objects: (0..3).map(|index| (key(index), 5)).collect(),
            ..Reader::default()
        };
        let entries = vec![object(0, 5), object(1, 6)];
        reader.list_entries(entries, 7);
        assert_eq!(
            reader.told,
            [key(0), key(1), key(2)],
            "the same revision may be another object"
        );
        assert_eq!(reader.keys(), BTreeSet::from([0, 1]));
        // From then on, differences only.
        reader.told.clear();
        reader.list(0..1, 8);
        assert_eq!(reader.told, [key(0), key(1)]);
    }

    #[test]
    fn old_news_changes_nothing() {
        let mut reader = Reader::knowing(3);
        reader.put([0], 30);
        reader.delete([0], 29);
        reader.put([0], 28);
        assert_eq!(reader.objects[&key(0)], 30);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Put(BTreeSet<usize>),
        Delete(BTreeSet<usize>),
        /// The watch was lost; what happened meanwhile is seen in a listing.
        Missed(BTreeSet<usize>),
        Quiet,
    }

    fn step() -> impl Strategy<Value = Step> {
        let some = proptest::collection::btree_set(0..24usize, 0..24);
        let few = proptest::collection::btree_set(0..24usize, 1..3);
        prop_oneof![
            some.clone().prop_map(Step::Put),
            few.clone().prop_map(Step::Put),
            some.clone().prop_map(Step::Delete),
            few.prop_map(Step::Delete),
            some.prop_map(Step::Missed),
            Just(Step::Quiet),
        ]
    }

    proptest! {
        #[test]
        fn who_never_accepts_never_loses_most_at_once_and_ends_equal(
            steps in proptest::collection::vec(step(), 1..40)
        ) {
            let mut reader = Reader::default();
            reader.list(0..0, 1);
            let mut store: BTreeMap<usize, u64> = BTreeMap::new();
            for (step, revision) in steps.into_iter().zip(2..) {
                let before = reader.keys();
                let live = !matches!(step, Step::Missed(_));
                match step {
                    Step::Put(keys) => {
                        store.extend(keys.iter().map(|key| (*key, revision)));
                        reader.put(keys, revision);
                    }
                    Step::Delete(keys) => {
                        store.retain(|key, _| !keys.contains(key));
                        reader.delete(keys, revision);
                    }
                    Step::Missed(keys) => {
                        store.retain(|key, _| keys.contains(key));
                        store.extend(keys.into_iter().map(|key| (key, revision)));
                        reader.list_store(&store, revision);
                    }
                    Step::Quiet => reader.quiet(),
                }
                let lost = before.difference(&reader.keys()).count();
                let kept = before.len() - lost;
                let most = !before.is_empty()
                    && (kept == 0 || (before.len() >= 10 && kept * 2 < before.len()));
                prop_assert!(!most || (live && lost == 1), "{lost} of {}", before.len());
                if reader.guard.held().is_none() {
                    prop_assert_eq!(&reader.revisions(), &store);
                }
            }
            // The store has everything again.
            let revision = 1000;
            store.extend(reader.keys().into_iter().map(|key| (key, revision)));
            reader.list_store(&store, revision);
            prop_assert_eq!(reader.guard.held(), None);
            prop_assert_eq!(reader.revisions(), store);
            prop_assert_eq!(reader.in_sync, Some(revision));
        }

        #[test]
        fn a_store_that_is_refilled_takes_nothing_however_its_filling_is_seen(
            order in Just((0..40usize).collect::<Vec<_>>()).prop_shuffle(),
            first in 0..20usize,
            pieces in proptest::collection::vec((1..6usize, any::<bool>()), 40)
        ) {
            let mut reader = Reader::knowing(order.len());
            let mut store: BTreeMap<usize, u64> =
                order[..first].iter().map(|index| (*index, 1)).collect();
            reader.list_store(&store, 2);
            prop_assert!(reader.guard.held().is_some());
            let mut rest = &order[first..];
            for ((size, listed), revision) in pieces.into_iter().zip(3..) {
                let (piece, after) = rest.split_at(size.min(rest.len()));
                rest = after;
                store.extend(piece.iter().map(|index| (*index, revision)));
                if listed {
                    reader.list_store(&store, revision);
                } else {
                    reader.put(piece.iter().copied(), revision);
                }
                // It is quiet for less than it takes to be sure.
                reader.quiet();
                prop_assert_eq!(reader.objects.len(), order.len());
                prop_assert_eq!(reader.guard.held().is_none(), rest.is_empty());
            }
            prop_assert_eq!(reader.revisions(), store);
        }
    }

    /// A reader who does as it is told.
    #[derive(Default)]
    struct Reader {
        guard: Guard,
        objects: BTreeMap<Key, u64>,
        told: Vec<Key>,
        held: Option<Held>,
        in_sync: Option<u64>,
    }

    impl Reader {
        fn knowing(objects: usize) -> Self {
            let mut reader = Self::default();
            reader.list(0..objects, 1);
            reader
        }

        fn list(&mut self, keys: impl IntoIterator<Item = usize>, revision: u64) {
            let entries = objects(keys, revision);
            self.list_entries(entries, revision);
        }

        fn list_store(&mut self, store: &BTreeMap<usize, u64>, revision: u64) {
            let entries = store
                .iter()
                .map(|(index, revision)| object(*index, *revision));
            self.list_entries(entries.collect(), revision);
        }

        fn list_entries(&mut self, entries: Vec<Entry>, revision: u64) {
            self.guard.begin();
            for entry in &entries {
                self.guard.mark(&entry.key);
            }
            self.guard.decide(entries.iter().find_map(cluster_of));
            let mut tell = Tell::default();
            for entry in entries {
                self.guard.list(entry, 0, &mut tell);
            }
            self.guard.end(revision, &mut tell);
            self.take(tell);
        }

        fn put(&mut self, keys: impl IntoIterator<Item = usize>, revision: u64) {
            let entries = objects(keys, revision);
            self.change(
                entries.into_iter().map(|entry| Change::put(entry, b"")),
                revision,
            );
        }

        fn delete(&mut self, keys: impl IntoIterator<Item = usize>, revision: u64) {
            self.change(keys.into_iter().map(key).map(Change::delete), revision);
        }

        fn name_cluster(&mut self, guid: &str, revision: u64) {
            let change = Change::put(cluster(guid, revision), b"");
            self.change([change], revision);
        }

        fn change(&mut self, changes: impl IntoIterator<Item = Change>, revision: u64) {
            let mut tell = Tell::default();
            self.guard
                .change(revision, changes.into_iter().collect(), &mut tell);
            self.take(tell);
        }

        fn quiet(&mut self) {
            let mut tell = Tell::default();
            self.guard.quiet(&mut tell);
            self.take(tell);
        }

        fn accept(&mut self) {
            let mut tell = Tell::default();
            assert!(self.guard.accept(&mut tell));
            self.take(tell);
        }

        fn take(&mut self, tell: Tell) {
            for update in tell.updates {
                self.told.push(update.key.clone());
                if update.value.is_none() && update.problem.is_none() {
                    assert!(self.objects.remove(&update.key).is_some(), "told twice");
                } else {
                    self.objects.insert(update.key, update.revision);
                }
            }
            if tell.held.is_some() {
                self.in_sync = None;
            }
            self.held = tell.held.or(self.held.take());
            self.in_sync = tell.in_sync.or(self.in_sync);
            if tell.in_sync.is_some() {
                self.held = None;
            }
        }

        fn keys(&self) -> BTreeSet<usize> {
            self.revisions().into_keys().collect()
        }

        fn revisions(&self) -> BTreeMap<usize, u64> {
            let objects = self.objects.iter();
            objects
                .map(|(key, revision)| (key.name()[1..].parse().unwrap(), *revision))
                .collect()
        }
    }

    fn key(index: usize) -> Key {
        Key::global(Kind::Tier, format!("t{index}"))
    }

    fn objects(keys: impl IntoIterator<Item = usize>, revision: u64) -> Vec<Entry> {
        let keys = keys.into_iter();
        keys.map(|index| object(index, revision)).collect()
    }

    fn object(index: usize, revision: u64) -> Entry {
        entry(key(index), b"{}", revision)
    }

    fn cluster(guid: &str, revision: u64) -> Entry {
        let value = serde_json::json!({
            "apiVersion": "projectcalico.org/v3", "kind": "ClusterInformation",
            "metadata": {"name": "default"}, "spec": {"clusterGUID": guid},
        });
        entry(cluster_key(), value.to_string().as_bytes(), revision)
    }
}
