//! Keeps the last good state on disk: a thread of its own that writes what is in force, now and then.
//!
//! The owner notes changes, which takes a map's insertion each; the thread puts them into a state of its own, which
//! shares the objects, and writes that whole. It writes at most every `PAUSE`, and never spends more than a twentieth of
//! its time at it, so that a busy cluster costs neither the disk nor a core. What has not changed is not written again; its
//! file is only marked as still holding.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use cleat_datastore::snapshot::{self, Origin, Snapshot};
use cleat_datastore::time::Timestamp;
use cleat_datastore::{Key, Resource, Update};

use super::gate::is_cluster_information;
use crate::output::answers;

/// The file's name in the configuration's `statePath`.
pub const FILE: &str = "datastore.snapshot";

/// The thread. Dropped without [`Keeper::finish`], it ends and leaves the file as it is.
#[derive(Debug)]
pub struct Keeper {
    notes: Notes,
    thread: Option<JoinHandle<()>>,
}

/// The way to the thread. Clones share it.
#[derive(Debug, Clone)]
pub struct Notes(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// What changed and was not taken over yet: the last of each object.
    changes: BTreeMap<Key, Option<Object>>,
    /// What changed since the state may be half of one.
    half: BTreeMap<Key, Option<Object>>,
    /// The state is a whole one.
    complete: bool,
    /// The revision up to which the last whole state goes.
    revision: Option<u64>,
    /// The process ends, or at least this thread.
    stop: bool,
    kept: answers::Kept,
}

type Object = (u64, Arc<Resource>);

/// Reads the state in `directory`, if there is a good one; says in the log why one is not used.
pub fn load(directory: &Path, source: &str) -> Option<(Snapshot, SystemTime)> {
    let path = directory.join(FILE);
    let start = Instant::now();
    match snapshot::read(&path, source) {
        Ok(snapshot) => {
            let snapshot = snapshot?;
            let held = snapshot::confirmed(&path).unwrap_or(snapshot.written);
            tracing::info!(
                path = %path.display(),
                objects = snapshot.entries.len(),
                unknown = snapshot.unknown,
                revision = snapshot.origin.revision,
                took = ?start.elapsed(),
                "last good state read"
            );
            Some((snapshot, held))
        }
        Err(refused) => {
            tracing::warn!(path = %path.display(), reason = %refused, "the last good state is not used; going on without it");
            None
        }
    }
}

impl Keeper {
    /// Starts the thread, which writes into `directory`. `loaded` is what the file there holds.
    pub fn start(
        directory: &Path,
        source: &str,
        loaded: Option<&(Snapshot, SystemTime)>,
    ) -> anyhow::Result<Self> {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("create statePath {}", directory.display()))?;
        let path = directory.join(FILE);
        let notes = Notes(Arc::default());
        notes.lock().kept.path = path.display().to_string();
        let mut objects = BTreeMap::new();
        if let Some((snapshot, held)) = loaded {
            let mut state = notes.lock();
            state.kept.written = time(snapshot.written);
            state.kept.confirmed = time(*held);
            state.kept.objects = snapshot.entries.len() as u64;
            state.kept.revision = snapshot.origin.revision;
            state.kept.bytes = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
            let good = snapshot.entries.iter().filter_map(|entry| {
                let resource = entry.resource.as_ref().ok()?;
                Some((entry.key.clone(), (entry.revision, Arc::clone(resource))))
            });
            objects.extend(good);
        }
        let writer = Writer {
            path,
            source: source.to_owned(),
            objects,
            dirty: loaded.is_none(),
            notes: notes.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("keeper".into())
            .spawn(move || writer.run())?;
        Ok(Self {
            notes,
            thread: Some(thread),
        })
    }

    /// The way to tell it things.
    pub fn notes(&self) -> Notes {
        self.notes.clone()
    }

    /// Lets the thread write what it knows, and ends it.
    pub fn finish(mut self) {
        self.notes.lock().stop = true;
        self.notes.0.wake.notify_all();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that keeps the last good state has panicked");
        }
    }
}

impl Notes {
    /// Notes changes of what is in force.
    pub fn changed(&self, updates: &[Update]) {
        let mut guard = self.lock();
        let state = &mut *guard;
        let changes = if state.complete {
            &mut state.changes
        } else {
            &mut state.half
        };
        let mut last = 0;
        for update in updates {
            // An object of revision 0 is one that this program makes itself, whatever the store holds.
            if update.revision == 0 && update.value.is_some() {
                continue;
            }
            last = last.max(update.revision);
            let object = update
                .value
                .as_ref()
                .map(|resource| (update.revision, Arc::clone(resource)));
            changes.insert(update.key.clone(), object);
        }
        if state.complete {
            state.revision = state.revision.map(|revision| revision.max(last));
        }
        self.0.wake.notify_all();
    }

    /// Everything up to a revision was noted: the state is a whole one.
    pub fn complete(&self, revision: u64) {
        let mut guard = self.lock();
        let state = &mut *guard;
        state.changes.append(&mut state.half);
        state.complete = true;
        state.revision = Some(revision);
        self.0.wake.notify_all();
    }

    /// What comes may be half of something, until it is [`Notes::complete`].
    pub fn incomplete(&self) {
        self.lock().complete = false;
    }

    /// How the file is.
    pub fn kept(&self) -> answers::Kept {
        self.lock().kept.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is a few assignments that stand by themselves.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why the thread goes on.
struct Woken {
    /// The revision of the whole state that there is.
    revision: Option<u64>,
    /// It is what the store holds now.
    holds: bool,
    stop: bool,
}

/// The thread's own.
struct Writer {
    path: PathBuf,
    source: String,
    objects: BTreeMap<Key, Object>,
    /// The file does not hold these objects.
    dirty: bool,
    notes: Notes,
}

impl Writer {
    fn run(mut self) {
        let mut next = Instant::now();
        loop {
            let woken = self.wait(next);
            if let Some(revision) = woken.revision {
                let took = self.write(revision, woken.holds);
                next = Instant::now() + PAUSE.max(took * SHARE);
            }
            if woken.stop {
                return;
            }
        }
    }

    /// Waits until it is time to write and there is something to write, or for the end; takes over what changed.
    fn wait(&mut self, next: Instant) -> Woken {
        let shared = Arc::clone(&self.notes.0);
        let mut state = self.notes.lock();
        loop {
            let changed = state.revision.is_some() && (self.dirty || !state.changes.is_empty());
            let due = if changed {
                Some(next)
            } else {
                state.complete.then(|| next + CONFIRM)
            };
            let left = due.map(|due| due.saturating_duration_since(Instant::now()));
            if state.stop || left == Some(Duration::ZERO) {
                break;
            }
            // Notes wake it; then it looks again.
            state = shared
                .wake
                .wait_timeout(state, left.unwrap_or(CONFIRM))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        let woken = Woken {
            revision: state.revision,
            holds: state.complete,
            stop: state.stop,
        };
        let changes = std::mem::take(&mut state.changes);
        drop(state);
        for (key, object) in changes {
            let differs = match &object {
                Some((revision, resource)) => self
                    .objects
                    .get(&key)
                    .is_none_or(|(known, old)| known != revision || old != resource),
                None => self.objects.contains_key(&key),
            };
            self.dirty |= differs;
            match object {
                Some(object) => self.objects.insert(key, object),
                None => self.objects.remove(&key),
            };
        }
        woken
    }

    /// Writes the state, or notes that it `holds` as it is written.
    fn write(&mut self, revision: u64, holds: bool) -> Duration {
        let (start, now) = (Instant::now(), SystemTime::now());
        if !self.dirty && holds {
            match snapshot::confirm(&self.path, now) {
                Ok(()) => self.notes.lock().kept.confirmed = time(now),
                // It was removed, perhaps.
                Err(_) => self.dirty = true,
            }
        }
        if self.dirty {
            let origin = Origin {
                source: self.source.clone(),
                guid: self.guid(),
                revision,
            };
            let entries = self
                .objects
                .iter()
                .map(|(key, (revision, resource))| (key, *revision, &**resource));
            let written = snapshot::write(&self.path, &origin, now, entries);
            let took = start.elapsed();
            let kept = &mut self.notes.lock().kept;
            match written {
                Ok(bytes) => {
                    self.dirty = false;
                    let objects = self.objects.len() as u64;
                    tracing::debug!(objects, bytes, ?took, "last good state written");
                    kept.written = time(now);
                    kept.confirmed = time(now);
                    kept.bytes = bytes;
                    kept.objects = objects;
                    kept.revision = revision;
                    kept.trouble.clear();
                }
                Err(error) => {
                    if kept.trouble.is_empty() {
                        tracing::warn!(path = %self.path.display(), %error, "the last good state could not be written; trying again");
                    }
                    kept.trouble = error.to_string();
                }
            }
        }
        start.elapsed()
    }

    fn guid(&self) -> String {
        let information = self
            .objects
            .iter()
            .find(|(key, _)| is_cluster_information(key));
        let guid = information.and_then(|(_, (_, resource))| {
            let value = resource.to_value();
            Some(value.pointer("/spec/clusterGUID")?.as_str()?.to_owned())
        });
        guid.unwrap_or_default()
    }
}

/// A time as Calico's objects have it.
pub fn time(time: SystemTime) -> String {
    let seconds = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(seconds.as_secs() as i64).to_string()
}

/// Time between two states that are written, at least.
const PAUSE: Duration = Duration::from_secs(5);
/// How many times as long as writing took it waits before it writes again.
const SHARE: u32 = 20;
/// How long after the last look an unchanged state is marked as still holding.
const CONFIRM: Duration = Duration::from_secs(25);

#[cfg(test)]
mod tests {
    use cleat_datastore::resource::from_manifest;
    use serde_json::json;

    use super::*;

    fn tier(name: &str, revision: u64) -> Update {
        let manifest = json!({"apiVersion": "projectcalico.org/v3", "kind": "Tier", "metadata": {"name": name}, "spec": {"order": 1}});
        let (key, mut resource) = from_manifest(manifest).unwrap();
        resource.metadata_mut().unwrap().resource_version = Some(revision.to_string());
        Update {
            key,
            value: Some(Arc::new(resource)),
            revision,
            problem: None,
        }
    }

    fn names(directory: &Path) -> Vec<String> {
        let (snapshot, _) = load(directory, "etcd").unwrap();
        let names = snapshot.entries.iter();
        names.map(|entry| entry.key.name().to_owned()).collect()
    }

    fn wait(what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !holds() {
            assert!(Instant::now() < deadline, "{what}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn what_is_in_force_at_the_end_is_what_the_next_start_finds() {
        let directory = tempfile::tempdir().unwrap();
        assert!(load(directory.path(), "etcd").is_none());
        let keeper = Keeper::start(directory.path(), "etcd", None).unwrap();
        let notes = keeper.notes();
        notes.changed(&[tier("a", 3), tier("b", 4)]);
        notes.complete(4);
        wait("the first state is written at once", || {
            notes.kept().objects == 2
        });
        // The next one would be written later, but for the end.
        let gone = Update {
            value: None,
            ..tier("a", 5)
        };
        notes.changed(&[gone, tier("c", 6)]);
        keeper.finish();
        assert_eq!(names(directory.path()), ["b", "c"]);
        let (snapshot, _) = load(directory.path(), "etcd").unwrap();
        assert_eq!(snapshot.origin.revision, 6);
    }

    #[test]
    fn half_a_state_is_never_written() {
        let directory = tempfile::tempdir().unwrap();
        let keeper = Keeper::start(directory.path(), "etcd", None).unwrap();
        keeper.notes().changed(&[tier("a", 3)]);
        keeper.finish();
        assert!(load(directory.path(), "etcd").is_none());

        let keeper = Keeper::start(directory.path(), "etcd", None).unwrap();
        let notes = keeper.notes();
        notes.changed(&[tier("a", 3)]);
        notes.complete(3);
        wait("a is written", || notes.kept().objects == 1);
        notes.incomplete();
        notes.changed(&[tier("b", 4)]);
        keeper.finish();
        assert_eq!(names(directory.path()), ["a"]);
    }

    #[test]
    fn an_unchanged_state_is_not_written_again() {
        let directory = tempfile::tempdir().unwrap();
        let keeper = Keeper::start(directory.path(), "etcd", None).unwrap();
        keeper.notes().changed(&[tier("a", 3)]);
        keeper.notes().complete(3);
        keeper.finish();
        let inode = |directory: &Path| {
            use std::os::unix::fs::MetadataExt as _;
            std::fs::metadata(directory.join(FILE)).unwrap().ino()
        };
        let before = inode(directory.path());

        let loaded = load(directory.path(), "etcd");
        let keeper = Keeper::start(directory.path(), "etcd", loaded.as_ref()).unwrap();
        // The store tells what is known already.
        keeper.notes().changed(&[tier("a", 3)]);
        keeper.notes().complete(9);
        keeper.finish();
        assert_eq!(inode(directory.path()), before);

        let loaded = load(directory.path(), "etcd");
        let keeper = Keeper::start(directory.path(), "etcd", loaded.as_ref()).unwrap();
        keeper.notes().changed(&[tier("a", 10)]);
        keeper.notes().complete(10);
        keeper.finish();
        assert_ne!(inode(directory.path()), before);
    }

    #[test]
    fn a_state_that_cannot_be_written_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let keeper = Keeper::start(directory.path(), "etcd", None).unwrap();
        std::fs::create_dir(directory.path().join(format!("{FILE}.new"))).unwrap();
        let notes = keeper.notes();
        notes.changed(&[tier("a", 3)]);
        notes.complete(3);
        wait("the failure is told", || !notes.kept().trouble.is_empty());
        keeper.finish();
    }
}
