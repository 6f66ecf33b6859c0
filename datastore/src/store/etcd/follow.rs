//! Follows a store in etcd: one listing, one stream of watches, and what to do when either fails.
//!
//! - A lost connection, a silent one, or an error: [`Event::Trouble`](super::super::Event::Trouble), a
//!   pause, and each watch is taken up from the last revision that it has seen. Silence is told from peace
//!   by asking for progress: a store that does not answer by the deadline is gone. The reader is in sync
//!   again when all is told of what a listing of the keys, made before, differs in ([`Goal`]).
//! - That revision compacted away: a new listing. So too when the store is another one, or an older state
//!   of ours: its cluster has another id, its revision or its elections lie before ours, or the object that
//!   changed last is not at the revision it was at.
//! - A new listing is compared with what was told before: what changed is told, and what vanished is
//!   told as deleted, unless the guard holds it. It reads the keys first, so that nothing of a listing
//!   that looks lost is told, and then the values, no faster than the reader takes them.
//!
//! Two roots are watched over one stream. Who may not read cleat's own is told so, and what was known of
//! it stays. Progress reports tell life, never a revision to resume from: servers before 3.4.25 and 3.5.8
//! could send them ahead of events.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};

use etcd_client::{Client, GetOptions, WatchOptions, WatchResponse};
use tokio::time::{Instant, interval_at, sleep, timeout_at};

use super::{
    CALICO_ROOT, CLEAT_ROOT, OWN_ROOT, WATCHED_ROOTS,
    connect::{Connection, Connector},
    denied, entry, is_optional, random,
    request::{MAX_MESSAGE_LEN, Pages, Point, RequestError, key_of, kv_client, limited},
    seen::{Goal, Seen, Side, refused},
};
use crate::{
    Key, Kind,
    store::{
        Entry,
        feed::Feed,
        hold::{Change, cluster_key, cluster_of, digest},
    },
};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// After how many signs of life to ask whether the user may read cleat's own root by now.
const ASK_AGAIN: u32 = 12;
/// After how many signs of life without events a store that owes us some is listed anew.
const OWED: u32 = 12;

/// Tells the feed everything, for ever.
pub(super) async fn run(connector: Arc<Connector>, feed: Arc<Feed>) {
    let mut follower = Follower {
        connector,
        feed,
        seen: None,
        denied: BTreeSet::new(),
    };
    let mut pause = FIRST_PAUSE;
    loop {
        let begun = Instant::now();
        let Err(lost) = Box::pin(follower.session()).await;
        tracing::debug!(reason = %lost, "watch lost");
        match lost {
            Lost::Renewed => continue,
            Lost::Granted => {
                follower.seen = None;
                continue;
            }
            Lost::Denied => {
                follower.seen = None;
                follower.feed.trouble(lost.to_string());
            }
            Lost::Compacted | Lost::Restored(_) | Lost::TooMuch => {
                follower.seen = None;
                follower.feed.trouble(lost.to_string());
                // Every reader of the store is here now.
                if follower.feed.knows_anything() {
                    sleep(part_of(follower.connector.config.relist_spread)).await;
                }
            }
            Lost::Silent | Lost::Request(_) => follower.feed.trouble(lost.to_string()),
        }
        if begun.elapsed() > LONGEST_PAUSE {
            pause = FIRST_PAUSE;
        }
        sleep(jittered(pause)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Why a watch ended.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("the revision to resume from has been compacted")]
    Compacted,
    #[error("the store is another one than before, or an older state of it: {0}")]
    Restored(&'static str),
    #[error("more has happened than fits one message")]
    TooMuch,
    #[error("no sign of life from the store")]
    Silent,
    #[error("certificates were replaced")]
    Renewed,
    #[error("the user may read more than before")]
    Granted,
    #[error("the user may read less than before")]
    Denied,
    #[error(transparent)]
    Request(#[from] RequestError),
}

struct Follower {
    connector: Arc<Connector>,
    feed: Arc<Feed>,
    /// The last changes that were told.
    seen: Option<Seen>,
    /// What the user may not read.
    denied: BTreeSet<String>,
}

impl Follower {
    /// Follows the store over one connection, until it is lost.
    async fn session(&mut self) -> Result<Infallible, Lost> {
        let connection = self.connector.connect().await?;
        let goal = if let Some(mut seen) = self.seen {
            self.feed.behind();
            self.compare(&connection, seen).await?;
            seen.term = seen.term.max(connection.point.term);
            let goal = self.goal(&connection, &mut seen).await?;
            self.seen = Some(seen);
            Some(goal)
        } else {
            let point = self.relist(&connection.client).await?;
            self.seen = Some(Seen::listed(point));
            None
        };
        self.watch(&connection, goal).await
    }

    /// What must be told to be in sync with the store as it was when we connected.
    async fn goal(&mut self, connection: &Connection, seen: &mut Seen) -> Result<Goal, Lost> {
        let revision = connection.point.revision;
        let connector = self.connector.clone();
        let mut goal = Goal::new(revision, self.feed.known(revision as u64));
        let prefixes = WATCHED_ROOTS.map(str::to_owned);
        let pages = Pages::new(&connector.config, &prefixes);
        let mut keys = pages.keys_only().at(connection.point);
        let mut kv = kv_client(&connection.client);
        while let Some(page) = keys.next(&mut kv).await? {
            for kv in page.kvs() {
                if let Some(key) = key_of(kv.key()) {
                    goal.list(&key, kv.mod_revision());
                }
            }
        }
        if !keys.denied.is_empty() {
            goal.leave_out(Side::Own);
        } else if !self.denied.is_empty() {
            return Err(Lost::Granted);
        }
        self.note(keys.denied);
        // A side on which nothing has happened need not find in the store's history that this is so.
        goal.is_reached(seen, |key, up_to| self.feed.is_known(key, up_to));
        Ok(goal)
    }

    /// Whether the store is still the one that was seen at this point.
    async fn compare(&self, connection: &Connection, seen: Seen) -> Result<(), Lost> {
        let now = connection.point;
        if now.cluster != seen.cluster {
            return Err(Lost::Restored("the cluster's id has changed"));
        }
        if now.revision < seen.newest() {
            return Err(Lost::Restored("its revision has gone back"));
        }
        if now.term < seen.term {
            return Err(Lost::Restored("its elections have begun anew"));
        }
        let is_readable = |side| side == Side::Calico || self.denied.is_empty();
        let up_to = |key: &Key| {
            let side = Side::of(key);
            is_readable(side).then(|| seen.revision(side) as u64)
        };
        let Some((key, revision, known)) = self.feed.witness(up_to) else {
            return Ok(());
        };
        let options = GetOptions::new().with_revision(seen.revision(Side::of(&key)));
        let mut kv = kv_client(&connection.client);
        let reading = kv.get(key.path(), Some(options));
        let answer = match limited(self.connector.config.request_timeout, reading).await {
            Err(RequestError::Compacted) => return Err(Lost::Compacted),
            Err(RequestError::Future) => {
                return Err(Lost::Restored("its revision has gone back"));
            }
            // What may be read at all is for a listing to find out.
            Err(RequestError::Denied(_)) => return Err(Lost::Denied),
            answer => answer?,
        };
        let same = answer.kvs().first().is_some_and(|kv| {
            kv.mod_revision() as u64 == revision
                && known.is_none_or(|known| known == digest(kv.value()))
        });
        if same {
            Ok(())
        } else {
            Err(Lost::Restored("its past is another one"))
        }
    }

    async fn relist(&mut self, client: &Client) -> Result<Point, Lost> {
        let connector = self.connector.clone();
        let config = &connector.config;
        let mut kv = kv_client(client);
        let prefixes = WATCHED_ROOTS.map(str::to_owned);
        let mut pages = Pages::new(config, &prefixes);
        self.feed.begin();
        if self.feed.knows_anything() {
            let mut keys = Pages::new(config, &prefixes).keys_only();
            while let Some(page) = keys.next(&mut kv).await? {
                let found: Vec<Key> = page
                    .kvs()
                    .iter()
                    .filter_map(|kv| key_of(kv.key()))
                    .collect();
                self.feed.mark(found.iter());
            }
            if let Some(point) = keys.point {
                pages = pages.at(point);
            }
            self.spare(&keys.denied);
            let cluster = cluster(&mut kv, config.request_timeout, keys.point).await?;
            self.feed.decide(cluster);
        }
        while let Some(page) = pages.next(&mut kv).await? {
            let objects: Vec<(Entry, u64)> = page
                .kvs()
                .iter()
                .filter_map(|kv| {
                    let key = key_of(kv.key())?;
                    let (revision, digest) = (kv.mod_revision() as u64, digest(kv.value()));
                    if self.feed.lists_same(&key, revision, digest) {
                        return None;
                    }
                    Some((entry(key, kv.value(), revision), digest))
                })
                .collect();
            self.feed.page(objects);
            drop(page);
            self.feed.room().await;
        }
        let nothing = || RequestError::Other("the user may not read anything".to_owned());
        let point = pages.point.ok_or_else(nothing)?;
        self.spare(&pages.denied);
        self.note(pages.denied);
        self.feed.end(point.revision as u64);
        Ok(point)
    }

    /// What may not be read is not gone.
    fn spare(&self, denied: &BTreeSet<String>) {
        if !denied.is_empty() {
            self.feed.mark_where(|key| {
                key.kind()
                    .is_some_and(|kind| denied.contains(root_of(kind)))
            });
        }
    }

    /// Tells what may not be read, if that has changed.
    fn note(&mut self, now: BTreeSet<String>) {
        if self.denied != now {
            for prefix in &now {
                tracing::warn!(prefix, "the user of etcd may not read this");
            }
            self.denied.clone_from(&now);
            self.feed.unreadable(denied(now));
        }
    }

    async fn watch(
        &mut self,
        connection: &Connection,
        mut goal: Option<Goal>,
    ) -> Result<Infallible, Lost> {
        let connector = self.connector.clone();
        let config = &connector.config;
        // The last change is asked for again: what happened in the same transaction may not have been told.
        let seen = self.seen;
        let options = |side: Side| {
            let from = seen.map_or(0, |seen| seen.revision(side));
            Some(
                WatchOptions::new()
                    .with_prefix()
                    .with_start_revision(from)
                    .with_watch_id(side.watch_id()),
            )
        };
        let mut created = Vec::new();
        let mut watching = connection
            .client
            .watch_client()
            .max_decoding_message_size(MAX_MESSAGE_LEN);
        let stream = limited(
            config.request_timeout,
            watching.watch(CALICO_ROOT, options(Side::Calico)),
        )
        .await?;
        let (mut requests, mut responses) = stream.split();
        if self.denied.is_empty() {
            let asked = requests.watch(OWN_ROOT, options(Side::Own));
            limited(config.request_timeout, asked).await?;
        }
        let mut asking = interval_at(Instant::now(), config.progress_interval);
        let mut asked: u32 = 0;
        // The first question is put at once.
        let mut answered: u32 = 1;
        let mut owed: u32 = 0;
        let mut deadline = Instant::now() + config.progress_deadline;
        loop {
            tokio::select! {
                _ = asking.tick() => {
                    let request = requests.request_progress();
                    limited(config.request_timeout, request).await?;
                    asked = asked.wrapping_add(1);
                    if asked > 1 && connector.renew(connection).await.is_some() {
                        return Err(Lost::Renewed);
                    }
                    if !self.denied.is_empty() && asked.is_multiple_of(ASK_AGAIN) {
                        self.ask_again(&connection.client).await?;
                    }
                }
                response = timeout_at(deadline, responses.message()) => {
                    let Ok(response) = response else {
                        return Err(Lost::Silent);
                    };
                    let response = match response.map_err(RequestError::from) {
                        Err(RequestError::TooLarge) => return Err(Lost::TooMuch),
                        response => response?,
                    };
                    let Some(response) = response else {
                        let reason = "the store closed the watch".to_owned();
                        return Err(RequestError::Other(reason).into());
                    };
                    deadline = Instant::now() + config.progress_deadline;
                    self.take(&response, &mut created)?;
                    if response.created() || response.canceled() {
                        continue;
                    }
                    // Whatever it is: the store follows us.
                    if let Some(now) = &mut goal {
                        if self.reaches(now) {
                            goal = None;
                        } else if response.events().is_empty() {
                            owed += 1;
                            if owed >= OWED {
                                return Err(Lost::Restored("it does not tell what has changed"));
                            }
                        } else {
                            owed = 0;
                        }
                    } else if asked > answered && response.events().is_empty() {
                        answered = asked;
                        self.feed.quiet();
                    }
                }
            }
        }
    }

    /// Ends the watch if what was denied is not denied any more.
    async fn ask_again(&self, client: &Client) -> Result<(), Lost> {
        let options = GetOptions::new().with_prefix().with_count_only();
        let mut kv = kv_client(client);
        let reading = kv.get(CLEAT_ROOT, Some(options));
        match limited(self.connector.config.request_timeout, reading).await {
            Ok(_) => Err(Lost::Granted),
            Err(RequestError::Denied(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Tells the reader to be in sync if all has been told.
    fn reaches(&mut self, goal: &mut Goal) -> bool {
        let Some(seen) = &mut self.seen else {
            return false;
        };
        if !self.denied.is_empty() {
            goal.leave_out(Side::Own);
        }
        let reached = goal.is_reached(seen, |key, up_to| self.feed.is_known(key, up_to));
        if reached {
            self.feed.in_sync(seen.newest() as u64);
        }
        reached
    }

    fn take(&mut self, response: &WatchResponse, created: &mut Vec<Side>) -> Result<(), Lost> {
        if response.compact_revision() > 0 {
            return Err(Lost::Compacted);
        }
        if response.canceled() {
            let reason = response.cancel_reason();
            if refused(response.watch_id(), reason, created) == Some(Side::Own) {
                let own = WATCHED_ROOTS.iter().filter(|root| is_optional(root));
                self.note(own.map(|root| (*root).to_owned()).collect());
                return Ok(());
            }
            let reason = format!("the store ended the watch: {reason}");
            return Err(RequestError::Other(reason).into());
        }
        let side = Side::of_watch(response.watch_id());
        if response.created() {
            created.extend(side);
        }
        let newest = response
            .header()
            .map_or(0, etcd_client::ResponseHeader::revision);
        if let (Some(header), Some(seen)) = (response.header(), self.seen) {
            // Only answers of one watch are in the order of revisions.
            if side.is_some_and(|side| newest != 0 && newest < seen.revision(side)) {
                return Err(Lost::Restored("its revision has gone back"));
            }
            if header.cluster_id() != seen.cluster {
                return Err(Lost::Restored("the cluster's id has changed"));
            }
        }
        let mut changes: BTreeMap<i64, Vec<Change>> = BTreeMap::new();
        for kv in response.events().iter().filter_map(|event| event.kv()) {
            let revision = kv.mod_revision();
            if revision <= 0 || (newest != 0 && revision > newest) {
                let reason = format!("a change of revision {revision}, when {newest} is the last");
                return Err(RequestError::Other(reason).into());
            }
            let changes = changes.entry(revision).or_default();
            let Some(key) = key_of(kv.key()) else {
                continue;
            };
            // What is left of a deleted object has no version.
            changes.push(if kv.version() == 0 {
                Change::delete(key)
            } else {
                Change::put(entry(key, kv.value(), revision as u64), kv.value())
            });
        }
        for (revision, changes) in changes {
            if let (Some(seen), Some(side)) = (&mut self.seen, side) {
                seen.reach(side, revision);
            }
            if !changes.is_empty() {
                self.feed.change(revision as u64, changes);
            }
        }
        Ok(())
    }
}

/// The cluster that the store says to be of, as of a listing.
async fn cluster(
    kv: &mut etcd_client::KvClient,
    limit: Duration,
    point: Option<Point>,
) -> Result<Option<String>, RequestError> {
    let (key, Some(point)) = (cluster_key(), point) else {
        return Ok(None);
    };
    let options = GetOptions::new().with_revision(point.revision);
    let answer = limited(limit, kv.get(key.path(), Some(options))).await?;
    let found = answer.kvs().first();
    Ok(found.and_then(|kv| cluster_of(&entry(key, kv.value(), kv.mod_revision() as u64))))
}

/// The watched root that objects of a kind lie below.
fn root_of(kind: Kind) -> &'static str {
    let prefix = kind.prefix();
    let root = WATCHED_ROOTS
        .into_iter()
        .find(|root| prefix.starts_with(root));
    root.unwrap_or_default()
}

/// Between half and all of a pause, so that many nodes do not come back at once.
fn jittered(pause: Duration) -> Duration {
    pause / 2 + part_of(pause / 2)
}

/// Some part of a time.
fn part_of(time: Duration) -> Duration {
    time.mul_f64(f64::from(random()) / f64::from(u32::MAX))
}
