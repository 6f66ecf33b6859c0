//! What a reader of a watch was told, and the guard over it: a store that looks lost is not obeyed.
//!
//! Every change goes through here on its way to the reader. A listing of which too much is missing, a
//! deletion of most objects at one revision, or a store that says to be of another cluster begins a
//! hold: from then on differences are kept and not told, until the store has its objects again or an
//! operator says that it is right as it is.
//!
//! Pure: time, connections and locks are the business of others.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Entry, Held, Known, Update};
use crate::{Key, Kind, Resource};

/// Fewer objects than this may shrink to any number but none.
const FEW: usize = 10;

/// Whether so many missing objects look like a lost store.
fn is_lost(known: usize, missing: usize) -> bool {
    let kept = known.saturating_sub(missing);
    known > 0 && (kept == 0 || (known >= FEW && kept * 2 < known))
}

/// Whether so many objects deleted at one revision look like an accident. Who deletes one object means it.
fn is_sweep(known: usize, deleted: usize) -> bool {
    deleted > 1 && is_lost(known, deleted)
}

/// Whether a store that was lost has its objects again: all of them, but for a tenth that may really be gone.
fn is_back(known: usize, missing: usize) -> bool {
    missing * 10 <= known
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
            (None, _) if is_lost(known, missing) => Some(format!(
                "the store holds {} of {known} known objects",
                known - missing
            )),
            (None, Some(hold)) if !is_back(known, missing) => Some(hold.reason.clone()),
            (None, _) => None,
        };
        self.hold = reason.map(|reason| Hold {
            reason,
            differs: absent.map(|(key, _)| (key.clone(), None)).collect(),
            missing,
            cluster: other,
        });
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
        let was_held = self.hold.is_some();
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
        if let Some(hold) = &self.hold {
            if hold.cluster.is_none() && is_back(self.told.len(), hold.missing) {
                self.release(tell);
            } else if !was_held {
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

    /// A key whose state in the store is known, for telling this store from another: the one changed last.
    pub(super) fn witness(&self, up_to: u64) -> Option<(Key, u64, Option<u64>)> {
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
            .filter(|(_, revision, _)| *revision <= up_to)
            .max_by_key(|(_, revision, _)| *revision)
            .map(|(key, revision, digest)| (key.clone(), revision, digest))
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
    if *key != cluster_key()? {
        return None;
    }
    let value = resource.to_value();
    let cluster = value.pointer("/spec/clusterGUID").and_then(Value::as_str);
    cluster
        .filter(|cluster| !cluster.is_empty())
        .map(str::to_owned)
}

/// The key of the object that names the cluster.
pub(super) fn cluster_key() -> Option<Key> {
    Some(Key::global(
        Kind::from_name("ClusterInformation")?,
        "default",
    ))
}

/// FNV-1a: tells one value of an object from the next, in no contest with anyone.
pub(super) fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
