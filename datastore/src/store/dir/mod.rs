//! The store in a directory of YAML and JSON files, for one host and for trying things out.
//!
//! Every file `*.yaml`, `*.yml` or `*.json` below the directory, hidden ones excepted, may hold any number
//! of objects. A scan reads the files that changed since the last one and tells what that changed; the
//! kernel's notice of a change starts a scan, and so does a timer, for notices can be lost.
//!
//! - An object that is not valid is told as gone, with its problem, like in any other store.
//! - A document that cannot even be read tells nothing of what its author wants: it is reported, and
//!   what its file held before stays until the file can be read again.
//! - An object that stands in two places counts where it stands first, by file name; the other is reported.
//! - A directory that cannot be read is trouble, and everything stays as it was.
//!
//! Writes replace one document of one file and leave the rest of its text alone. The revision of an
//! object is the time of its file's last change in microseconds, so that it means the same to the next
//! process; where times are not good enough to tell one change from the next, it is the next number.

mod files;

use std::{
    collections::BTreeMap,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use serde_json::Value;
use tokio::{sync::Notify, time};

use self::files::{Contents, Stamp};
use super::{
    AbortOnDrop, Entry, Filter, Known, Listing, Reports, StoreError, Watch,
    backend::{Backend, Condition, entry},
    feed::{Feed, with_digest},
    hold::Change,
};
use crate::{Key, Origin, Problem};

/// How long a file must have been quiet before it is read, so that it is not read half written.
const QUIET: Duration = Duration::from_millis(50);
/// How often to look without having been called.
const RESCAN: Duration = Duration::from_secs(10);

/// A store in a directory. Its watches run within a tokio runtime.
pub struct Dir {
    shared: Arc<Shared>,
}

struct Shared {
    root: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    revision: u64,
    files: BTreeMap<PathBuf, File>,
    objects: BTreeMap<Key, Stored>,
    unreadable: Vec<Problem>,
    trouble: Option<String>,
    /// Device and inode of the directory, to tell it from another under its name.
    identity: Option<(u64, u64)>,
    feeds: Vec<Weak<Feed>>,
}

struct File {
    stamp: Option<Stamp>,
    /// When it was changed last, in microseconds.
    modified: u64,
    contents: Contents,
}

#[derive(Clone)]
struct Stored {
    bytes: Vec<u8>,
    origin: Origin,
    path: PathBuf,
    revision: u64,
}

impl Dir {
    /// The store in a directory, which need not exist before something is written to it.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            shared: Arc::new(Shared {
                root: root.into(),
                state: Mutex::default(),
            }),
        }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.shared.root
    }
}

impl Shared {
    /// Reads what changed, tells it, and hands out the state as it is now.
    fn scan(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        // A panic in between leaves at worst files unread, which the next scan reads.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let before = identity(&self.root);
        let found = files::walk(&self.root).and_then(|found| {
            // Of a directory that is moved away meanwhile, a walk sees some files.
            if identity(&self.root) == before {
                Ok(found)
            } else {
                Err(std::io::Error::other("is being replaced"))
            }
        });
        match found {
            Ok(found) => {
                let recovered = state.trouble.take().is_some();
                let same_root = std::mem::replace(&mut state.identity, before) == before;
                state.take(&self.root, found, recovered, same_root);
                Ok(state)
            }
            Err(error) => {
                let reason = format!("{}: {error}", self.root.display());
                if state.trouble.replace(reason.clone()).as_ref() != Some(&reason) {
                    state.tell(|feed| feed.trouble(reason.clone()));
                }
                Err(StoreError::Unavailable(reason))
            }
        }
    }

    /// Scans when called and from time to time, for as long as anyone listens.
    async fn run(self: Arc<Self>) {
        let called = Arc::new(Notify::new());
        let mut watcher: Option<RecommendedWatcher> = None;
        let mut quiet = false;
        loop {
            if watcher.is_none() {
                watcher = self.watcher(called.clone());
            }
            let shared = self.clone();
            let scan = move || {
                shared.scan().map(|mut state| {
                    if quiet {
                        state.tell(Feed::quiet);
                    }
                })
            };
            let scanned = tokio::task::spawn_blocking(move || scan().is_ok()).await;
            if !matches!(scanned, Ok(true)) {
                // The directory may come back as another one, which the old watcher would not see.
                watcher = None;
            }
            let pause = if watcher.is_some() {
                RESCAN
            } else {
                QUIET * 10
            };
            quiet = time::timeout(pause, called.notified()).await.is_err();
            if !quiet {
                while time::timeout(QUIET, called.notified()).await.is_ok() {}
            }
        }
    }

    fn watcher(&self, called: Arc<Notify>) -> Option<RecommendedWatcher> {
        let mut watcher = notify::recommended_watcher(move |_| called.notify_one()).ok()?;
        watcher.watch(&self.root, RecursiveMode::Recursive).ok()?;
        Some(watcher)
    }

    /// Changes one object in its file, and reads the result back.
    fn change(
        &self,
        key: &Key,
        condition: Condition,
        value: Option<&Value>,
    ) -> Result<u64, StoreError> {
        let unavailable = |error: std::io::Error| {
            StoreError::Unavailable(format!("{}: {error}", self.root.display()))
        };
        std::fs::create_dir_all(&self.root).map_err(unavailable)?;
        let place = {
            let state = self.scan()?;
            let stored = state.objects.get(key);
            condition.holds(key, stored.map(|stored| stored.revision))?;
            stored.map(|stored| stored.path.clone())
        };
        files::change(&self.root, place.as_deref(), key, value).map_err(unavailable)?;
        let state = self.scan()?;
        Ok(state
            .objects
            .get(key)
            .map_or(state.revision, |stored| stored.revision))
    }
}

/// Device and inode.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = path.metadata().ok()?;
    Some((metadata.dev(), metadata.ino()))
}

impl State {
    /// Takes over what a walk found.
    fn take(
        &mut self,
        root: &Path,
        found: BTreeMap<PathBuf, Stamp>,
        recovered: bool,
        same_root: bool,
    ) {
        let mut changed = recovered;
        self.files.retain(|path, _| {
            let stays = found.contains_key(path);
            changed |= !stays;
            stays
        });
        for (path, stamp) in found {
            let file = self.files.get(&path);
            if file.is_some_and(|file| file.stamp.as_ref() == Some(&stamp)) {
                continue;
            }
            let before = file.map(|file| &file.contents);
            let contents = files::read(root, &path, before);
            let modified = stamp.micros();
            // A file that changed within the clock's grain of being read may have changed again since.
            let stamp = stamp.is_settled().then_some(stamp);
            changed |= before != Some(&contents);
            let file = File {
                stamp,
                modified,
                contents,
            };
            self.files.insert(path, file);
        }
        if changed {
            self.rebuild(same_root);
            if recovered {
                // A feed that began in trouble was told nothing yet.
                let (listed, revision) = (self.listed(), self.revision);
                self.tell(|feed| feed.listed(listed.clone(), revision));
            }
        }
    }

    /// Puts the objects of all files together and tells the difference.
    fn rebuild(&mut self, same_root: bool) {
        let mut objects: BTreeMap<Key, Stored> = BTreeMap::new();
        let mut unreadable = Vec::new();
        let start = self.revision;
        for (path, file) in &self.files {
            let File {
                modified, contents, ..
            } = file;
            unreadable.extend(contents.problems.iter().cloned());
            for (key, bytes, origin) in &contents.objects {
                if let Some(first) = objects.get(key) {
                    let reason = format!("is already in {}", first.origin);
                    let problem = Problem::new(key, "", reason);
                    unreadable.push(problem.at(origin.file.clone(), origin.document));
                    continue;
                }
                let before = self.objects.get(key);
                let revision = match before {
                    Some(before) if before.bytes == *bytes => before.revision,
                    Some(_) | None if *modified > start => *modified,
                    Some(_) | None => start + 1,
                };
                self.revision = self.revision.max(revision);
                let stored = Stored {
                    bytes: bytes.clone(),
                    origin: origin.clone(),
                    path: path.clone(),
                    revision,
                };
                objects.insert(key.clone(), stored);
            }
        }
        let mut changes = Vec::new();
        for (key, stored) in &objects {
            let before = self.objects.get(key);
            if before.is_none_or(|before| before.revision != stored.revision) {
                changes.push(Change::put(stored.entry(key), &stored.bytes));
            }
        }
        let gone = self.objects.iter();
        let gone: Vec<(&Key, &PathBuf)> = gone
            .filter(|(key, _)| !objects.contains_key(key))
            .map(|(key, stored)| (key, &stored.path))
            .collect();
        // Who takes away one file, or what was in it, means it; files that vanish together, or with their directory, may
        // be a disk that is not there.
        let meant = same_root && gone.iter().all(|(_, path)| *path == gone[0].1);
        let mut deleted: Vec<Key> = gone.into_iter().map(|(key, _)| key.clone()).collect();
        if !meant {
            changes.extend(deleted.drain(..).map(Change::delete));
            self.revision = self.revision.max(start + 1);
        }
        self.objects = objects;
        if !changes.is_empty() {
            let revision = self.revision;
            self.tell(|feed| feed.change(revision, changes.clone()));
        }
        for key in deleted {
            self.revision += 1;
            let revision = self.revision;
            self.tell(|feed| feed.change(revision, vec![Change::delete(key.clone())]));
        }
        if unreadable != self.unreadable {
            self.unreadable.clone_from(&unreadable);
            self.tell(|feed| feed.unreadable(unreadable.clone()));
        }
    }

    fn listed(&self) -> Vec<(Entry, u64)> {
        let stored = self.objects.iter();
        stored
            .map(|(key, stored)| with_digest(stored.entry(key), &stored.bytes))
            .collect()
    }

    fn tell(&mut self, what: impl Fn(&Feed)) {
        self.feeds.retain(|feed| {
            let feed = feed.upgrade();
            if let Some(feed) = &feed {
                what(feed);
            }
            feed.is_some()
        });
    }
}

impl Stored {
    fn entry(&self, key: &Key) -> Entry {
        let mut entry = entry(key.clone(), &self.bytes, self.revision);
        entry.resource = entry
            .resource
            .map_err(|problem| problem.at(self.origin.file.clone(), self.origin.document));
        entry
    }
}

impl Backend for Dir {
    async fn range(&self, filter: &Filter) -> Result<Listing, StoreError> {
        let state = self.shared.scan()?;
        let passing = state.objects.iter().filter(|(key, _)| filter.passes(key));
        Ok(Listing {
            entries: passing.map(|(key, stored)| stored.entry(key)).collect(),
            unreadable: state.unreadable.clone(),
            revision: state.revision,
        })
    }

    async fn read(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        if !self.shared.root.exists() {
            return Ok(None);
        }
        let state = self.shared.scan()?;
        Ok(state.objects.get(key).map(|stored| stored.entry(key)))
    }

    async fn put(
        &self,
        key: &Key,
        bytes: Vec<u8>,
        condition: Condition,
    ) -> Result<u64, StoreError> {
        let value: Value = serde_json::from_slice(&bytes)
            .map_err(|error| Problem::new(key, "", error.to_string()))?;
        self.shared.change(key, condition, Some(&value))
    }

    async fn remove(&self, key: &Key, revision: u64) -> Result<(), StoreError> {
        self.shared.change(key, Condition::At(revision), None)?;
        Ok(())
    }

    fn follow(&self, known: Known) -> Watch {
        let feed = Feed::new(known);
        if let Err(error) = self.shared.scan() {
            feed.trouble(error.to_string());
        }
        {
            let mut state = self
                .shared
                .state
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if !state.unreadable.is_empty() {
                feed.unreadable(state.unreadable.clone());
            }
            if state.trouble.is_none() {
                feed.listed(state.listed(), state.revision);
            }
            state.feeds.push(Arc::downgrade(&feed));
        }
        let task = tokio::spawn(self.shared.clone().run());
        Watch::new(feed, AbortOnDrop(task.abort_handle()))
    }

    /// Files are for objects.
    async fn report(
        &self,
        _path: &str,
        _value: Option<Vec<u8>>,
        _time_to_live: Option<Duration>,
    ) -> Result<(), StoreError> {
        Ok(())
    }

    async fn reports(&self, _prefix: &str) -> Result<Reports, StoreError> {
        Ok(Vec::new())
    }
}
