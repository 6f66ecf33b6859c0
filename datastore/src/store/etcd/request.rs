//! Single requests: how they fail, and listings in pages.

use std::{collections::BTreeSet, time::Duration};

use etcd_client::{Client, GetOptions, GetResponse, KvClient};
use tokio::time::timeout;

use super::{EtcdConfig, is_optional};
use crate::{Key, store::StoreError};

/// Why a request was not answered.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum RequestError {
    /// It took too long.
    #[error("no answer in time")]
    Timeout,
    /// Its revision is gone.
    #[error("the revision has been compacted")]
    Compacted,
    /// Its revision is still to come.
    #[error("the revision is not there yet")]
    Future,
    /// Its answer is too large for one message.
    #[error("the answer is too large")]
    TooLarge,
    /// The user may not do that.
    #[error("the user may not do that: {0}")]
    Denied(String),
    /// The user is not signed in, or no longer.
    #[error("not signed in: {0}")]
    Unauthenticated(String),
    /// The store's space is used up.
    #[error(
        "etcd is full: it takes no writes until it is compacted, defragmented and its alarm NOSPACE is \
         disarmed; reads go on"
    )]
    Full,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl RequestError {
    /// Whether the answer came over a connection that may be used again.
    pub(super) fn is_answer(&self) -> bool {
        match self {
            RequestError::Compacted
            | RequestError::Future
            | RequestError::TooLarge
            | RequestError::Denied(_)
            | RequestError::Full => true,
            RequestError::Timeout | RequestError::Unauthenticated(_) | RequestError::Other(_) => {
                false
            }
        }
    }
}

impl From<RequestError> for StoreError {
    fn from(error: RequestError) -> Self {
        StoreError::Unavailable(error.to_string())
    }
}

/// Codes of gRPC (`google.rpc.Code`).
const PERMISSION_DENIED: i32 = 7;
const UNAUTHENTICATED: i32 = 16;

impl From<etcd_client::Error> for RequestError {
    fn from(error: etcd_client::Error) -> Self {
        let text = error.to_string();
        let (code, message) = if let etcd_client::Error::GRpcStatus(status) = &error {
            (status.code() as i32, status.message())
        } else {
            (0, text.as_str())
        };
        // The server names some errors by text alone; their codes are shared with others.
        if message.contains("required revision has been compacted") {
            RequestError::Compacted
        } else if message.contains("required revision is a future revision") {
            RequestError::Future
        } else if message.contains("message length too large") {
            RequestError::TooLarge
        } else if message.contains("database space exceeded") {
            RequestError::Full
        } else if code == UNAUTHENTICATED || message.contains("revision of auth store is old") {
            RequestError::Unauthenticated(message.to_owned())
        } else if code == PERMISSION_DENIED || message.contains("permission denied") {
            RequestError::Denied(message.to_owned())
        } else {
            RequestError::Other(text)
        }
    }
}

pub(super) async fn limited<T>(
    limit: Duration,
    request: impl Future<Output = Result<T, etcd_client::Error>>,
) -> Result<T, RequestError> {
    match timeout(limit, request).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(RequestError::Timeout),
    }
}

/// The largest answer that is taken, in bytes. A page that does not fit is asked for in smaller pieces.
pub(super) const MAX_MESSAGE_LEN: usize = 16 << 20;

pub(super) fn kv_client(client: &Client) -> KvClient {
    client
        .kv_client()
        .max_decoding_message_size(MAX_MESSAGE_LEN)
}

/// The object that lies at a path, if a watch follows it.
pub(super) fn key_of(path: &[u8]) -> Option<Key> {
    let path = std::str::from_utf8(path).ok()?;
    Key::parse(path).filter(Key::watched)
}

/// A revision of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) cluster: u64,
    pub(super) revision: i64,
    /// Of its elections; never lower than before.
    pub(super) term: u64,
}

impl Point {
    pub(super) fn of(answer: &GetResponse) -> Result<Self, RequestError> {
        let header = answer
            .header()
            .ok_or_else(|| RequestError::Other("an answer has no header".to_owned()))?;
        Ok(Self {
            cluster: header.cluster_id(),
            revision: header.revision(),
            term: header.raft_term(),
        })
    }
}

/// A listing of what is under some prefixes in pages, all at one revision.
pub(super) struct Pages<'a> {
    config: &'a EtcdConfig,
    /// The prefixes to come, last first.
    prefixes: Vec<String>,
    /// Where to go on, and the prefix.
    open: Option<(Vec<u8>, String)>,
    page_size: usize,
    keys_only: bool,
    /// The revision of the listing; that of the first page if none is asked for.
    pub(super) point: Option<Point>,
    /// The prefixes that the user may not read and can do without.
    pub(super) denied: BTreeSet<String>,
}

impl<'a> Pages<'a> {
    pub(super) fn new(config: &'a EtcdConfig, prefixes: &[String]) -> Self {
        Self {
            config,
            prefixes: prefixes.iter().rev().cloned().collect(),
            open: None,
            page_size: config.page_size.max(1),
            keys_only: false,
            point: None,
            denied: BTreeSet::new(),
        }
    }

    pub(super) fn keys_only(mut self) -> Self {
        self.keys_only = true;
        self
    }

    pub(super) fn at(mut self, point: Point) -> Self {
        self.point = Some(point);
        self
    }

    /// The next page, or `None` behind the last.
    pub(super) async fn next(
        &mut self,
        kv: &mut KvClient,
    ) -> Result<Option<GetResponse>, RequestError> {
        loop {
            let (start, prefix) = match self.open.take() {
                Some(open) => open,
                None => match self.prefixes.pop() {
                    Some(prefix) => (prefix.clone().into_bytes(), prefix),
                    None => return Ok(None),
                },
            };
            let mut options = GetOptions::new()
                .with_range(range_end(&prefix))
                .with_limit(self.page_size as i64);
            if let Some(Point { revision, .. }) = self.point {
                options = options.with_revision(revision);
            }
            if self.keys_only {
                options = options.with_keys_only();
            }
            let request = kv.get(start.clone(), Some(options));
            let page = match limited(self.config.request_timeout, request).await {
                Err(RequestError::TooLarge) if self.page_size > 1 => {
                    self.page_size /= 2;
                    self.open = Some((start, prefix));
                    continue;
                }
                Err(RequestError::Denied(_)) if is_optional(&prefix) => {
                    self.denied.insert(prefix);
                    continue;
                }
                page => page?,
            };
            let point = Point::of(&page)?;
            self.point.get_or_insert(point);
            match page.kvs().last() {
                Some(last) if last.key() < start.as_slice() => {
                    // Going on from there would never end.
                    return Err(RequestError::Other("a listing goes backwards".to_owned()));
                }
                Some(last) if page.more() => {
                    let mut next = last.key().to_vec();
                    next.push(0);
                    self.open = Some((next, prefix));
                }
                _ => {}
            }
            return Ok(Some(page));
        }
    }
}

/// The first key behind all that begin with the prefix, which ends with a slash.
fn range_end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}
