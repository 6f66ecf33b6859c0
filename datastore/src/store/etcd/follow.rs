//! Follows a store in etcd: one listing, one watch, and what to do when either fails.
//!
//! - A lost connection, a silent one, or an error: [`Event::Trouble`](super::super::Event::Trouble), a
//!   pause, and the watch is taken up from the last revision that was seen. Silence is told from peace by
//!   asking for progress: a store that does not answer by the deadline is gone.
//! - That revision compacted away: a new listing. So too when the store's revision lies before ours or its
//!   cluster is another one, which is a store put back from a backup; then nothing known is trusted.
//! - A new listing is compared with what was told before: what changed is told, and what vanished is
//!   told as deleted. The reader sees differences only, whatever happened in between.
//!
//! Progress reports tell life, never a revision to resume from: servers before 3.4.25 and 3.5.8 could send
//! them ahead of events.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use etcd_client::{Client, EventType, WatchOptions, WatchResponse};
use tokio::time::{Instant, interval_at, sleep, timeout_at};

use super::{
    Connector, LISTED_ROOTS, MAX_MESSAGE_LEN, Point, RequestError, entry, key_of, kv_client,
    limited, list, random,
};
use crate::store::{
    feed::{Feed, with_digest},
    hold::Change,
};

/// What is watched. What is listed lies below it.
pub(super) const WATCH_ROOT: &str = "/calico/";
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Tells the feed everything, for ever.
pub(super) async fn run(connector: Arc<Connector>, feed: Arc<Feed>) {
    let mut follower = Follower {
        connector,
        feed,
        seen: None,
    };
    let mut pause = FIRST_PAUSE;
    loop {
        let mut in_sync = false;
        let Err(lost) = Box::pin(follower.session(&mut in_sync)).await;
        tracing::debug!(reason = %lost, "watch lost");
        follower.feed.trouble(lost.to_string());
        match lost {
            Lost::Compacted | Lost::Restored => follower.seen = None,
            Lost::Silent | Lost::Request(_) => {}
        }
        if in_sync {
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
    #[error("the store is another one than before, or an older state of it")]
    Restored,
    #[error("no sign of life from the store")]
    Silent,
    #[error(transparent)]
    Request(#[from] RequestError),
}

struct Follower {
    connector: Arc<Connector>,
    feed: Arc<Feed>,
    /// The last change that was told.
    seen: Option<Point>,
}

impl Follower {
    /// Follows the store over one connection, until it is lost.
    async fn session(&mut self, in_sync: &mut bool) -> Result<std::convert::Infallible, Lost> {
        let client = self.connector.connect().await?;
        let point = if let Some(point) = self.seen {
            point
        } else {
            let point = self.relist(&client).await?;
            self.seen = Some(point);
            *in_sync = true;
            point
        };
        self.watch(&client, point, in_sync).await
    }

    async fn relist(&mut self, client: &Client) -> Result<Point, Lost> {
        let prefixes = LISTED_ROOTS.map(str::to_owned);
        let mut listed = Vec::new();
        let config = &self.connector.config;
        let point = list(&mut kv_client(client), config, &prefixes, |entry, bytes| {
            listed.push(with_digest(entry, bytes));
        })
        .await?;
        self.feed.listed(listed, point.revision as u64);
        Ok(point)
    }

    async fn watch(
        &mut self,
        client: &Client,
        from: Point,
        in_sync: &mut bool,
    ) -> Result<std::convert::Infallible, Lost> {
        let config = self.connector.config.clone();
        // The last change is asked for again: what happened in the same transaction may not have been told.
        let options = WatchOptions::new()
            .with_prefix()
            .with_start_revision(from.revision)
            .with_fragment();
        let mut watching = client
            .watch_client()
            .max_decoding_message_size(MAX_MESSAGE_LEN);
        let stream = limited(
            config.request_timeout,
            watching.watch(WATCH_ROOT, Some(options)),
        )
        .await?;
        let (mut requests, mut responses) = stream.split();
        let mut asking = interval_at(Instant::now(), config.progress_interval);
        let mut deadline = Instant::now() + config.progress_deadline;
        loop {
            tokio::select! {
                _ = asking.tick() => {
                    let asked = requests.request_progress();
                    limited(config.request_timeout, asked).await?;
                }
                response = timeout_at(deadline, responses.message()) => {
                    let Ok(response) = response else {
                        return Err(Lost::Silent);
                    };
                    let Some(response) = response.map_err(RequestError::from)? else {
                        let reason = "the store closed the watch".to_owned();
                        return Err(RequestError::Other(reason).into());
                    };
                    deadline = Instant::now() + config.progress_deadline;
                    self.take(&response)?;
                    // The answer to the first question says that the store follows us.
                    if !*in_sync && !response.created() && !response.canceled() {
                        *in_sync = true;
                        let revision = self.seen.map_or(0, |seen| seen.revision);
                        self.feed.in_sync(revision as u64);
                    }
                }
            }
        }
    }

    fn take(&mut self, response: &WatchResponse) -> Result<(), Lost> {
        if response.compact_revision() > 0 {
            return Err(Lost::Compacted);
        }
        if response.canceled() {
            let reason = format!("the store ended the watch: {}", response.cancel_reason());
            return Err(RequestError::Other(reason).into());
        }
        if let (Some(header), Some(seen)) = (response.header(), self.seen) {
            let behind = header.revision() != 0 && header.revision() < seen.revision;
            if behind || header.cluster_id() != seen.cluster {
                return Err(Lost::Restored);
            }
        }
        let mut changes: BTreeMap<i64, Vec<Change>> = BTreeMap::new();
        for event in response.events() {
            let Some(kv) = event.kv() else {
                continue;
            };
            let revision = kv.mod_revision();
            if let Some(seen) = &mut self.seen {
                seen.revision = seen.revision.max(revision);
            }
            let Some(key) = key_of(kv.key()) else {
                continue;
            };
            let change = match event.event_type() {
                EventType::Put => Change::put(entry(key, kv.value(), revision as u64), kv.value()),
                EventType::Delete => Change::delete(key),
            };
            changes.entry(revision).or_default().push(change);
        }
        for (revision, changes) in changes {
            self.feed.change(revision as u64, changes);
        }
        Ok(())
    }
}

/// Between half and all of a pause, so that many nodes do not come back at once.
fn jittered(pause: Duration) -> Duration {
    pause / 2 + pause.mul_f64(0.5 * f64::from(random()) / f64::from(u32::MAX))
}
