//! What is in force of what the store has told: the objects, what is wrong with them, and how the connection is.
//!
//! Pure. An invalid object is a missing one that is listed; what is wrong between valid objects is found when somebody asks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use cleat_datastore::snapshot::Snapshot;
use cleat_datastore::store::{Held, default_allow};
use cleat_datastore::{Key, Kind, Problem, Resource, Update};

use super::keeper::time;
use crate::check;
use crate::output::answers;

/// Everything the watch has told so far.
#[derive(Debug, Default)]
pub struct Known {
    objects: BTreeMap<Key, Arc<Resource>>,
    invalid: BTreeMap<Key, Problem>,
    unreadable: Vec<Problem>,
    /// The store has been read whole once.
    in_sync: bool,
    revision: u64,
    trouble: Option<String>,
    /// The state on disk that all of this began with.
    base: Option<Base>,
    held: Option<(Held, Instant)>,
    /// The datastore says that it is not ready.
    frozen: bool,
}

/// A state that was on disk at the start.
#[derive(Debug, Clone)]
struct Base {
    written: SystemTime,
    /// When it was last known to be what the store holds.
    confirmed: SystemTime,
    revision: u64,
    objects: usize,
}

impl Known {
    /// Begins with a state that was on disk. Gives the changes for the calculation.
    pub fn begin(&mut self, snapshot: Snapshot, confirmed: SystemTime) -> Vec<Update> {
        self.base = Some(Base {
            written: snapshot.written,
            confirmed,
            revision: snapshot.origin.revision,
            objects: snapshot.entries.len(),
        });
        let updates: Vec<Update> = snapshot.entries.into_iter().map(Update::from).collect();
        self.take(&updates);
        // The store's clients make this one, and no store holds it.
        let profile = Resource::Profile(default_allow());
        let profile = profile.key().map(|key| Update {
            key,
            value: Some(Arc::new(profile)),
            revision: 0,
            problem: None,
        });
        self.take(profile.as_slice());
        self.revision = snapshot.origin.revision;
        updates.into_iter().chain(profile).collect()
    }

    /// Takes changes.
    pub fn take(&mut self, updates: &[Update]) {
        for update in updates {
            self.update(update);
        }
    }

    /// Notes that everything up to a revision is known.
    pub fn complete(&mut self, revision: u64) {
        self.in_sync = true;
        // A store that was put back to an older state counts on from there.
        self.revision = revision;
    }

    /// Notes that the store is followed again, and obeyed.
    pub fn followed(&mut self) {
        self.trouble = None;
        if self.held.take().is_some() {
            tracing::info!("the store is obeyed again");
        }
    }

    /// Notes what keeps the store from being followed.
    pub fn trouble(&mut self, reason: String) {
        // It is told again with every attempt.
        if self.trouble.as_ref() != Some(&reason) {
            tracing::warn!(
                reason,
                "the store cannot be followed for now; what is programmed stays"
            );
        }
        self.trouble = Some(reason);
    }

    /// Notes that the store looks lost.
    pub fn hold(&mut self, held: Held, now: Instant) {
        let since = self.held.as_ref().map_or(now, |(_, since)| *since);
        if self
            .held
            .as_ref()
            .is_none_or(|(old, _)| old.reason != held.reason)
        {
            tracing::warn!(
                known = held.known,
                missing = held.missing,
                reason = held.reason,
                "the store looks lost and is not obeyed; what is in force stays (cleat store status, cleat store accept)"
            );
        }
        self.held = Some((held, since));
    }

    /// Notes everything that is not even an object under a key.
    pub fn unreadable(&mut self, problems: Vec<Problem>) {
        self.unreadable = problems;
    }

    /// Notes whether the datastore says that it is not ready.
    pub fn freeze(&mut self, frozen: bool) {
        if frozen && !self.frozen {
            tracing::warn!(
                "ClusterInformation says that the datastore is not ready; nothing changes until it is"
            );
        } else if self.frozen && !frozen {
            tracing::info!("ClusterInformation says that the datastore is ready again");
        }
        self.frozen = frozen;
    }

    /// Whether the store's own state is in force; it stays so when the connection breaks.
    pub fn in_sync(&self) -> bool {
        self.in_sync
    }

    /// Whether there is a whole state: the store's, or the one on disk.
    pub fn is_whole(&self) -> bool {
        self.in_sync || self.base.is_some()
    }

    /// Whether the state on disk is in force, and the store has not told its own.
    pub fn is_from_disk(&self) -> bool {
        self.base.is_some() && !self.in_sync
    }

    /// Whether the store says that it is not ready.
    pub fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// What is worth knowing of the state in force, if anything.
    pub fn note(&self) -> String {
        let mut notes = Vec::new();
        if self.frozen {
            notes.push(
                "the datastore is not ready: ClusterInformation says datastoreReady: false"
                    .to_owned(),
            );
        }
        if let Some(base) = self.base.as_ref().filter(|_| !self.in_sync) {
            notes.push(format!(
                "from the state on disk of {}",
                time(base.confirmed)
            ));
        }
        if let Some((held, _)) = &self.held {
            notes.push(format!("the store looks lost and is held: {}", held.reason));
        }
        notes.join("; ")
    }

    /// An object, if it is there and valid.
    pub fn get(&self, key: &Key) -> Option<&Arc<Resource>> {
        self.objects.get(key)
    }

    /// The objects of a kind.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = (&Key, &Arc<Resource>)> {
        let first = Key::Resource {
            kind,
            namespace: None,
            name: String::new(),
        };
        self.objects
            .range(first..)
            .take_while(move |(key, _)| key.kind() == Some(kind))
    }

    /// The connection's state for people.
    pub fn store(&self, kind: &str) -> answers::Store {
        answers::Store {
            kind: kind.to_owned(),
            in_sync: self.in_sync,
            revision: self.revision,
            trouble: self.trouble.clone().unwrap_or_default(),
            snapshot: self
                .base
                .as_ref()
                .filter(|_| !self.in_sync)
                .map(Base::describe),
            held: self.held.as_ref().map(|(held, since)| answers::Held {
                known: held.known as u64,
                missing: held.missing as u64,
                reason: held.reason.clone(),
                since_seconds: since.elapsed().as_secs(),
            }),
            frozen: self.frozen,
        }
    }

    /// What a person should mend in the store.
    pub fn problems(&self) -> Vec<answers::Problem> {
        let between = check::between(&self.objects);
        let mut problems: Vec<answers::Problem> = self
            .unreadable
            .iter()
            .chain(self.invalid.values())
            .chain(&between)
            .map(describe)
            .collect();
        problems.sort();
        problems.dedup();
        problems
    }

    /// Objects that cannot be used, by the name of their kind.
    pub fn invalid_by_kind(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for key in self.invalid.keys() {
            *counts.entry(key.sort().to_owned()).or_default() += 1;
        }
        if !self.unreadable.is_empty() {
            *counts.entry(UNREADABLE.to_owned()).or_default() += self.unreadable.len();
        }
        counts
    }

    fn update(&mut self, update: &Update) {
        self.revision = self.revision.max(update.revision);
        match &update.value {
            Some(resource) => self
                .objects
                .insert(update.key.clone(), Arc::clone(resource)),
            None => self.objects.remove(&update.key),
        };
        match &update.problem {
            Some(problem) => {
                tracing::warn!(object = %update.key, field = problem.field, reason = problem.reason, "invalid resource");
                self.invalid.insert(update.key.clone(), problem.clone())
            }
            None => self.invalid.remove(&update.key),
        };
    }
}

impl Base {
    fn describe(&self) -> answers::Snapshot {
        let age = SystemTime::now().duration_since(self.confirmed);
        answers::Snapshot {
            written: time(self.written),
            confirmed: time(self.confirmed),
            age_seconds: age.unwrap_or_default().as_secs(),
            revision: self.revision,
            objects: self.objects as u64,
        }
    }
}

/// Every label of the metric of invalid resources.
pub fn kind_names() -> impl Iterator<Item = &'static str> {
    Kind::ALL
        .into_iter()
        .map(Kind::name)
        .chain(["BlockAffinity", "Subnet", UNREADABLE])
}

fn describe(problem: &Problem) -> answers::Problem {
    let object = match &problem.origin {
        Some(origin) if problem.object.is_empty() => origin.to_string(),
        Some(origin) => format!("{origin}: {}", problem.object),
        None => problem.object.clone(),
    };
    answers::Problem {
        object,
        field: problem.field.clone(),
        reason: problem.reason.clone(),
    }
}

/// What is not even an object under a key.
const UNREADABLE: &str = "unreadable";

#[cfg(test)]
mod tests {
    use cleat_datastore::resource::from_manifest;
    use cleat_datastore::snapshot::Origin;
    use serde_json::json;

    use super::*;

    fn tier(name: &str) -> (Key, Arc<Resource>) {
        let manifest = json!({"apiVersion": "projectcalico.org/v3", "kind": "Tier", "metadata": {"name": name}, "spec": {"order": 1}});
        let (key, resource) = from_manifest(manifest).unwrap();
        (key, Arc::new(resource))
    }

    #[test]
    fn an_object_that_becomes_invalid_is_gone_and_listed_until_it_is_mended() {
        let mut known = Known::default();
        let (key, value) = tier("a");
        let update = |value: Option<&Arc<Resource>>, problem: Option<&str>, revision| {
            let problem = problem.map(|reason| Problem::new(&key, "spec.order", reason));
            [Update {
                key: key.clone(),
                value: value.cloned(),
                revision,
                problem,
            }]
        };
        known.take(&update(Some(&value), None, 4));
        assert!(known.get(&key).is_some() && known.problems().is_empty());
        known.take(&update(None, Some("is no number"), 5));
        assert!(known.get(&key).is_none());
        let problem = &known.problems()[0];
        assert_eq!(
            (problem.object.as_str(), problem.field.as_str()),
            ("Tier(a)", "spec.order")
        );
        assert_eq!(known.invalid_by_kind(), [("Tier".to_owned(), 1)].into());
        known.take(&update(Some(&value), None, 6));
        assert!(known.problems().is_empty() && known.invalid_by_kind().is_empty());
        assert_eq!(known.store("dir").revision, 6);
    }

    #[test]
    fn a_broken_connection_is_told_and_what_was_known_stays() {
        let mut known = Known::default();
        known.complete(7);
        known.trouble("connection refused".into());
        let store = known.store("etcd");
        assert!(known.is_whole() && store.in_sync);
        assert_eq!(
            (store.revision, store.trouble.as_str()),
            (7, "connection refused")
        );
        known.complete(9);
        known.followed();
        assert_eq!(known.store("etcd").trouble, "");
    }

    #[test]
    fn a_state_from_disk_is_whole_and_said_to_be_old_until_the_store_tells_its_own() {
        let mut known = Known::default();
        let (key, value) = tier("a");
        let confirmed = SystemTime::now() - std::time::Duration::from_secs(100);
        let entry = cleat_datastore::store::Entry {
            key: key.clone(),
            resource: Ok(value),
            revision: 3,
        };
        let snapshot = Snapshot {
            origin: Origin {
                revision: 5,
                ..Origin::default()
            },
            written: confirmed,
            entries: vec![entry],
            unknown: 0,
        };
        let updates = known.begin(snapshot, confirmed);
        // The profile that every cluster has is in no store.
        assert_eq!(updates.len(), 2);
        assert!(known.get(&key).is_some());
        assert_eq!(known.of_kind(Kind::Tier).count(), 1);
        assert_eq!(known.of_kind(Kind::Profile).count(), 1);
        assert_eq!(known.of_kind(Kind::Node).count(), 0);
        assert!(known.is_whole() && known.is_from_disk() && !known.store("etcd").in_sync);
        let told = known.store("etcd").snapshot.unwrap();
        assert!((100..110).contains(&told.age_seconds), "{told:?}");
        assert_eq!((told.revision, told.objects), (5, 1));
        assert!(
            known.note().starts_with("from the state on disk of "),
            "{}",
            known.note()
        );
        known.complete(8);
        assert_eq!(
            (known.store("etcd").snapshot, known.note()),
            (None, String::new())
        );
    }

    #[test]
    fn a_hold_lasts_until_the_store_is_followed_and_counts_from_its_beginning() {
        let mut known = Known::default();
        let held = |missing| Held {
            known: 10,
            missing,
            reason: "empty".into(),
        };
        let start = Instant::now();
        known.hold(held(10), start);
        known.hold(held(7), start + std::time::Duration::from_secs(5));
        let told = known.store("etcd").held.unwrap();
        assert_eq!((told.known, told.missing, told.since_seconds), (10, 7, 0));
        assert_eq!(known.note(), "the store looks lost and is held: empty");
        known.followed();
        assert_eq!(known.store("etcd").held, None);
    }
}
