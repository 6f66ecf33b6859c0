//! The way from a store to the reader of a watch.

use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet},
    fmt,
    future::poll_fn,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
};

use super::{
    Entry, Event, Held, Known, Update,
    hold::{Change, Guard, Tell, cluster_of, digest},
    prepare::is_default_allow,
};
use crate::{Key, Problem};

/// How many updates one event carries at most.
const BATCH: usize = 1000;
/// How many updates may wait for the reader before a listing is made to wait, too.
const ROOM: usize = 10 * BATCH;

/// A running watch. It ends only by being dropped.
pub struct Watch {
    feed: Arc<Feed>,
    /// What the store keeps running for it; dropped with it.
    _source: Box<dyn Any + Send + Sync>,
}

impl Watch {
    pub(super) fn new(feed: Arc<Feed>, source: impl Any + Send + Sync) -> Self {
        Self {
            feed,
            _source: Box::new(source),
        }
    }

    /// The next thing that happened. Waits for it as long as it takes.
    pub async fn next(&mut self) -> Event {
        poll_fn(|context| {
            let mut state = self.feed.lock();
            if let Some(event) = state.take() {
                return Poll::Ready(event);
            }
            state.waker = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// A handle on the watch's hold, which outlives no watch but may be asked from anywhere.
    pub fn hold(&self) -> HoldHandle {
        HoldHandle(self.feed.clone())
    }

    pub(super) fn feed(&self) -> &Feed {
        &self.feed
    }
}

/// Tells whether a watch is held, and ends the hold on an operator's word.
#[derive(Clone)]
pub struct HoldHandle(Arc<Feed>);

impl HoldHandle {
    /// The hold as it is now, if there is one.
    pub fn held(&self) -> Option<Held> {
        self.0.lock().guard.held()
    }

    /// Takes the store as it is: what was held is told. Says whether anything was held.
    pub fn accept(&self) -> bool {
        self.0.with(Guard::accept)
    }
}

impl fmt::Debug for HoldHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HoldHandle").field(&self.held()).finish()
    }
}

/// What happened and was not read yet.
#[derive(Default)]
pub(super) struct Feed {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    guard: Guard,
    updates: BTreeMap<Key, Update>,
    trouble: Option<String>,
    held: Option<Held>,
    unreadable: Option<Vec<Problem>>,
    in_sync: Option<u64>,
    /// What happens is told late, and not all of it has been.
    behind: bool,
    waker: Option<Waker>,
    /// Who waits for the reader.
    room: Option<Waker>,
}

impl Feed {
    pub(super) fn new(known: Known) -> Arc<Self> {
        let state = State {
            guard: Guard::new(known),
            ..State::default()
        };
        Arc::new(Self {
            state: Mutex::new(state),
        })
    }

    /// The profile that is always there, which is in no store.
    pub(super) fn fixed(&self, entry: Entry) {
        let mut state = self.lock();
        state.updates.insert(entry.key.clone(), entry.into());
        state.wake();
    }

    /// A store that was listed at once.
    pub(super) fn listed(&self, entries: Vec<(Entry, u64)>, revision: u64) {
        let cluster = entries.iter().find_map(|(entry, _)| cluster_of(entry));
        self.begin();
        self.mark(entries.iter().map(|(entry, _)| &entry.key));
        self.decide(cluster);
        self.page(entries);
        self.end(revision);
    }

    /// Whether a listing must go through `mark` and `decide` first.
    pub(super) fn knows_anything(&self) -> bool {
        self.lock().guard.knows_anything()
    }

    /// A listing begins.
    pub(super) fn begin(&self) {
        let mut state = self.lock();
        state.behind = false;
        state.guard.begin();
    }

    /// Keys that the listing has.
    pub(super) fn mark<'a>(&self, keys: impl Iterator<Item = &'a Key>) {
        let mut state = self.lock();
        keys.for_each(|key| state.guard.mark(key));
    }

    /// The listing says nothing of these keys, which stay as they are.
    pub(super) fn mark_where(&self, spared: impl Fn(&Key) -> bool) {
        self.lock().guard.mark_where(spared);
    }

    /// All keys are marked: tells a lost store from one that may be obeyed.
    pub(super) fn decide(&self, cluster: Option<String>) {
        self.lock().guard.decide(cluster);
    }

    /// Whether the listing has an object as it was told, so that it need not even be decoded.
    pub(super) fn lists_same(&self, key: &Key, revision: u64, digest: u64) -> bool {
        self.lock().guard.lists_same(key, revision, digest)
    }

    /// Objects of the listing, with the digests of their bytes.
    pub(super) fn page(&self, entries: Vec<(Entry, u64)>) {
        self.with(|guard, tell| {
            for (entry, digest) in entries {
                if follows(&entry.key) {
                    guard.list(entry, digest, tell);
                }
            }
        });
    }

    /// The listing is complete.
    pub(super) fn end(&self, revision: u64) {
        self.with(|guard, tell| guard.end(revision, tell));
    }

    /// What happened at one revision.
    pub(super) fn change(&self, revision: u64, mut changes: Vec<Change>) {
        changes.retain(|change| follows(&change.key));
        self.with(|guard, tell| guard.change(revision, changes, tell));
    }

    /// Waits until the reader has taken enough of what waits for it.
    pub(super) async fn room(&self) {
        poll_fn(|context| {
            let mut state = self.lock();
            if state.updates.len() < ROOM {
                return Poll::Ready(());
            }
            state.room = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Some seconds have passed, the store has answered since, and nothing has happened.
    pub(super) fn quiet(&self) {
        self.with(Guard::quiet);
    }

    /// The store is followed again, up to this revision.
    pub(super) fn in_sync(&self, revision: u64) {
        self.lock().behind = false;
        self.with(|guard, tell| {
            tell.held = guard.held();
            if tell.held.is_none() {
                tell.in_sync = Some(revision);
            }
        });
    }

    /// An object of this store as it must be if the store is the one that was told of.
    pub(super) fn witness(
        &self,
        up_to: impl Fn(&Key) -> Option<u64>,
    ) -> Option<(Key, u64, Option<u64>)> {
        self.lock().guard.witness(up_to)
    }

    /// The keys of what is in the store, as far as is known, and was last changed by this revision.
    pub(super) fn known(&self, up_to: u64) -> BTreeSet<Key> {
        self.lock().guard.known(up_to)
    }

    /// Whether this object is in the store, as far as is known, and was last changed by this revision.
    pub(super) fn is_known(&self, key: &Key, up_to: u64) -> bool {
        self.lock().guard.is_known(key, up_to)
    }

    /// The store may have changed without our hearing of it: nobody is in sync before `in_sync` or a
    /// listing, whatever ends a hold.
    pub(super) fn behind(&self) {
        self.lock().behind = true;
    }

    pub(super) fn trouble(&self, reason: impl Into<String>) {
        let mut state = self.lock();
        state.trouble = Some(reason.into());
        state.in_sync = None;
        state.wake();
    }

    pub(super) fn unreadable(&self, problems: Vec<Problem>) {
        let mut state = self.lock();
        state.unreadable = Some(problems);
        state.wake();
    }

    fn with<T>(&self, run: impl FnOnce(&mut Guard, &mut Tell) -> T) -> T {
        let mut state = self.lock();
        let mut tell = Tell::default();
        let done = run(&mut state.guard, &mut tell);
        state.take_over(tell);
        done
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No change of the state panics half-way; a panic elsewhere leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take_over(&mut self, tell: Tell) {
        let Tell {
            updates,
            in_sync,
            held,
        } = tell;
        let in_sync = in_sync.filter(|_| !self.behind);
        if updates.is_empty() && in_sync.is_none() && held.is_none() {
            return;
        }
        for update in updates {
            self.updates.insert(update.key.clone(), update);
        }
        if held.is_some() {
            self.held = held;
            self.in_sync = None;
        }
        if in_sync.is_some() {
            self.in_sync = in_sync;
        }
        self.wake();
    }

    /// Trouble and a hold go first, for they are over if the reader finds itself in sync at the end.
    fn take(&mut self) -> Option<Event> {
        if let Some(reason) = self.trouble.take() {
            return Some(Event::Trouble(reason));
        }
        if let Some(problems) = self.unreadable.take() {
            return Some(Event::Unreadable(problems));
        }
        if let Some(held) = self.held.take() {
            return Some(Event::Held(held));
        }
        if self.updates.len() > BATCH {
            let batch: Vec<Update> = (0..BATCH)
                .map_while(|_| self.updates.pop_first())
                .map(|(_, update)| update)
                .collect();
            self.make_room();
            return Some(Event::Updates(batch));
        }
        if !self.updates.is_empty() {
            let rest = mem::take(&mut self.updates);
            self.make_room();
            return Some(Event::Updates(rest.into_values().collect()));
        }
        let revision = self.in_sync.take()?;
        Some(Event::InSync { revision })
    }

    fn make_room(&mut self) {
        if self.updates.len() < ROOM
            && let Some(waker) = self.room.take()
        {
            waker.wake();
        }
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// Whether a watch tells of an object. The profile that is always there is nobody's to change, whatever a
/// store holds.
fn follows(key: &Key) -> bool {
    key.watched() && !is_default_allow(key)
}

/// An entry with the digest of its bytes.
pub(super) fn with_digest(entry: Entry, bytes: &[u8]) -> (Entry, u64) {
    (entry, digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kind, store::entry};

    #[test]
    fn events_come_in_an_order_that_makes_sense() {
        let feed = Feed::default();
        change(&feed, "b", 1);
        feed.in_sync(1);
        change(&feed, "a", 2);
        change(&feed, "b", 3);
        assert_eq!(
            taken(&feed),
            [
                Event::Updates(vec![update("a", 2), update("b", 3)]),
                Event::InSync { revision: 1 },
            ]
        );
        // Who is told of trouble is not told at once that all is well.
        feed.in_sync(4);
        feed.trouble("gone");
        assert_eq!(taken(&feed), [Event::Trouble("gone".to_owned())]);
        // Trouble that is over before it was read is told, and so is its end.
        feed.trouble("gone");
        change(&feed, "a", 5);
        feed.in_sync(5);
        assert_eq!(
            taken(&feed),
            [
                Event::Trouble("gone".to_owned()),
                Event::Updates(vec![update("a", 5)]),
                Event::InSync { revision: 5 },
            ]
        );
    }

    #[test]
    fn a_hold_that_ends_amid_a_catch_up_puts_nobody_in_sync() {
        let feed = Feed::default();
        let key = Key::global(Kind::Tier, "a");
        feed.listed(vec![(entry(key, b"{}", 1), digest(b"{}"))], 1);
        feed.listed(Vec::new(), 2);
        taken(&feed);
        feed.behind();
        change(&feed, "a", 3);
        change(&feed, "b", 4);
        let updates = Event::Updates(vec![update("a", 3), update("b", 4)]);
        assert_eq!(taken(&feed), [updates]);
        feed.in_sync(5);
        assert_eq!(taken(&feed), [Event::InSync { revision: 5 }]);
    }

    #[test]
    fn many_updates_come_in_batches() {
        let feed = Feed::default();
        for index in 0..2500 {
            change(&feed, &format!("t{index}"), 1);
        }
        let sizes: Vec<usize> = taken(&feed)
            .into_iter()
            .map(|event| match event {
                Event::Updates(updates) => updates.len(),
                Event::InSync { .. }
                | Event::Held(_)
                | Event::Trouble(_)
                | Event::Unreadable(_) => 0,
            })
            .collect();
        assert_eq!(sizes, [1000, 1000, 500]);
    }

    #[test]
    fn nobody_changes_the_profile_that_is_always_there() {
        let feed = Feed::default();
        let key = Key::global(Kind::Profile, "projectcalico-default-allow");
        change_key(&feed, key, 1);
        assert_eq!(taken(&feed), []);
    }

    fn taken(feed: &Feed) -> Vec<Event> {
        std::iter::from_fn(|| feed.lock().take()).collect()
    }

    fn change(feed: &Feed, name: &str, revision: u64) {
        change_key(feed, Key::global(Kind::Tier, name), revision);
    }

    fn change_key(feed: &Feed, key: Key, revision: u64) {
        let change = Change::put(entry(key, b"{}", revision), b"{}");
        feed.change(revision, vec![change]);
    }

    fn update(name: &str, revision: u64) -> Update {
        entry(Key::global(Kind::Tier, name), b"{}", revision).into()
    }
}
