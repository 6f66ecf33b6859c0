//! The store in etcd, laid out as Calico's clients lay it out.
//!
//! Writes are transactions on the revision of one key. A watch lists everything in pages at one revision
//! and follows the store from there; `follow` tells what it does about lost connections, compaction
//! and a store that was put back to an older state.
//!
//! A client lives until a request fails for want of a connection or of rights; the next one reads
//! the TLS files and signs in anew. Left out: discovery of endpoints by DNS, leases.

mod follow;

use std::{path::PathBuf, sync::Arc, time::Duration};

use etcd_client::{
    Certificate, Client, Compare, CompareOp, ConnectOptions, GetOptions, Identity, KvClient,
    PutOptions, TlsOptions, Txn, TxnOp, TxnOpResponse,
};
use tokio::{sync::Mutex, time::timeout};

use super::{
    AbortOnDrop, Entry, Filter, Known, Listing, StoreError, Watch,
    backend::{Backend, Condition, entry},
    feed::Feed,
};
use crate::{
    Key,
    key::{AFFINITY_ROOT, RESOURCE_ROOT, SUBNET_ROOT},
};

/// How to reach an etcd cluster.
#[derive(Clone, Debug)]
pub struct EtcdConfig {
    /// The members, as `http://` or `https://` URLs.
    pub endpoints: Vec<String>,
    /// User and password, if the cluster asks for them.
    pub user: Option<(String, String)>,
    /// The file of the authorities that sign the members' certificates, PEM.
    pub ca_file: Option<PathBuf>,
    /// The file of the own certificate, PEM; with `key_file`.
    pub cert_file: Option<PathBuf>,
    /// The file of the own key, PEM; with `cert_file`.
    pub key_file: Option<PathBuf>,
    /// How long connecting and each request may take.
    pub request_timeout: Duration,
    /// How often a watch asks the store for a sign of life.
    pub progress_interval: Duration,
    /// How long a watch waits for one before it takes the connection for dead.
    pub progress_deadline: Duration,
    /// How many objects to list with one request.
    pub page_size: usize,
}

impl EtcdConfig {
    /// The usual settings for these members.
    pub fn new(endpoints: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            user: None,
            ca_file: None,
            cert_file: None,
            key_file: None,
            request_timeout: Duration::from_secs(10),
            progress_interval: Duration::from_secs(5),
            progress_deadline: Duration::from_secs(15),
            page_size: 500,
        }
    }
}

/// A store in etcd. Its calls and watches run within a tokio runtime.
pub struct Etcd {
    connector: Arc<Connector>,
    client: Mutex<Option<Client>>,
}

impl Etcd {
    /// A store that connects when it is first used.
    pub fn new(config: EtcdConfig) -> Self {
        Self {
            connector: Arc::new(Connector { config }),
            client: Mutex::new(None),
        }
    }

    /// A connected client, the same until it fails. Whoever sees it fail asks for another.
    pub async fn client(&self) -> Result<Client, StoreError> {
        let mut client = self.client.lock().await;
        if let Some(client) = &*client {
            return Ok(client.clone());
        }
        Ok(client
            .insert(Box::pin(self.connector.connect()).await?)
            .clone())
    }

    /// Runs a request, and forgets a client that cannot be used any more.
    async fn request<T>(
        &self,
        request: impl AsyncFnOnce(KvClient, &EtcdConfig) -> Result<T, RequestError>,
    ) -> Result<T, StoreError> {
        let client = self.client().await?;
        let config = &self.connector.config;
        let result = Box::pin(request(kv_client(&client), config)).await;
        if result.is_err() {
            *self.client.lock().await = None;
        }
        Ok(result?)
    }

    async fn range_once(&self, prefixes: &[String]) -> Result<Listing, StoreError> {
        self.request(async |mut kv, config| {
            let mut entries = Vec::new();
            let point = list(&mut kv, config, prefixes, |entry, _| entries.push(entry)).await?;
            Ok(Listing {
                entries,
                unreadable: Vec::new(),
                revision: point.revision as u64,
            })
        })
        .await
    }

    async fn read_once(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        let response = self
            .request(async |mut kv, config| {
                limited(config.request_timeout, kv.get(key.path(), None)).await
            })
            .await?;
        let found = response.kvs().first();
        Ok(found.map(|kv| entry(key.clone(), kv.value(), kv.mod_revision() as u64)))
    }

    async fn transaction(
        &self,
        key: &Key,
        condition: Condition,
        operation: TxnOp,
    ) -> Result<u64, StoreError> {
        let path = key.path();
        let compare = match condition {
            Condition::Absent => Compare::version(path.clone(), CompareOp::Equal, 0),
            Condition::At(revision) => {
                Compare::mod_revision(path.clone(), CompareOp::Equal, revision as i64)
            }
        };
        let transaction = Txn::new()
            .when([compare])
            .and_then([operation])
            .or_else([TxnOp::get(path, None)]);
        let response = self
            .request(async |mut kv, config| {
                limited(config.request_timeout, kv.txn(transaction)).await
            })
            .await?;
        if response.succeeded() {
            return Ok(response
                .header()
                .map_or(0, |header| header.revision() as u64));
        }
        let actual = response
            .op_responses()
            .into_iter()
            .find_map(|response| match response {
                TxnOpResponse::Get(get) => get.kvs().first().map(|kv| kv.mod_revision() as u64),
                TxnOpResponse::Put(_) | TxnOpResponse::Delete(_) | TxnOpResponse::Txn(_) => None,
            });
        condition.holds(key, actual)?;
        // The store said that it does not hold; only a store that is not etcd can have it both ways.
        Err(StoreError::Unavailable(
            "the answer to a transaction contradicts itself".to_owned(),
        ))
    }
}

/// Where that lies which a watch of `/calico/` follows.
const LISTED_ROOTS: [&str; 3] = [RESOURCE_ROOT, AFFINITY_ROOT, SUBNET_ROOT];

/// The object that lies at a path, if a watch follows it.
fn key_of(path: &[u8]) -> Option<Key> {
    let path = std::str::from_utf8(path).ok()?;
    Key::parse(path).filter(Key::watched)
}

impl Backend for Etcd {
    async fn range(&self, filter: &Filter) -> Result<Listing, StoreError> {
        let prefixes = match filter {
            Filter::All => LISTED_ROOTS.map(str::to_owned).to_vec(),
            Filter::Kinds(kinds) => kinds.iter().map(|kind| kind.prefix()).collect(),
            Filter::Namespace(kind, namespace) => {
                vec![format!("{}{namespace}/", kind.prefix())]
            }
        };
        // The first try may meet a connection that had gone unnoticed. A write is not tried again: it may
        // have been done.
        match self.range_once(&prefixes).await {
            Err(StoreError::Unavailable(_)) => self.range_once(&prefixes).await,
            done => done,
        }
    }

    async fn read(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        match self.read_once(key).await {
            Err(StoreError::Unavailable(_)) => self.read_once(key).await,
            done => done,
        }
    }

    async fn put(
        &self,
        key: &Key,
        bytes: Vec<u8>,
        condition: Condition,
    ) -> Result<u64, StoreError> {
        self.transaction(key, condition, TxnOp::put(key.path(), bytes, None))
            .await
    }

    async fn remove(&self, key: &Key, revision: u64) -> Result<(), StoreError> {
        let operation = TxnOp::delete(key.path(), None);
        self.transaction(key, Condition::At(revision), operation)
            .await?;
        Ok(())
    }

    async fn report(
        &self,
        path: &str,
        value: Option<Vec<u8>>,
        time_to_live: Option<Duration>,
    ) -> Result<(), StoreError> {
        let client = self.client().await?;
        let limit = self.connector.config.request_timeout;
        let writing = async {
            let mut kv = client.kv_client();
            let Some(value) = value else {
                kv.delete(path, None).await?;
                return Ok(());
            };
            // The lease of the write before ends by itself, and takes nothing with it: a key is under one.
            let mut options = PutOptions::new();
            if let Some(time) = time_to_live {
                let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX).max(1);
                let lease = client.lease_client().grant(seconds, None).await?;
                options = options.with_lease(lease.id());
            }
            kv.put(path, value, Some(options)).await?;
            Ok(())
        };
        let written = limited(limit, Box::pin(writing)).await;
        if written.is_err() {
            *self.client.lock().await = None;
        }
        Ok(written?)
    }

    fn follow(&self, known: Known) -> Watch {
        let feed = Feed::new(known);
        let task = tokio::spawn(follow::run(self.connector.clone(), feed.clone()));
        Watch::new(feed, AbortOnDrop(task.abort_handle()))
    }
}

struct Connector {
    config: EtcdConfig,
}

impl Connector {
    /// A new client of a member that answers, signed in, with the TLS files as they are now.
    ///
    /// A client of all members at once would send every so many requests to one that is away.
    async fn connect(&self) -> Result<Client, RequestError> {
        let config = &self.config;
        let members = config.endpoints.len();
        // All members get their turn within the time of one request.
        let each = config.request_timeout / u32::try_from(members.max(1)).unwrap_or(u32::MAX);
        let mut options = ConnectOptions::new()
            .with_connect_timeout(each)
            .with_keep_alive(Duration::from_secs(30), Duration::from_secs(10))
            .with_require_leader(true);
        if let Some((name, password)) = &config.user {
            options = options
                .with_user(name, password)
                .with_auto_token_refresh(true);
        }
        if let Some(tls) = self.tls().await? {
            options = options.with_tls(tls);
        }
        let mut failure = RequestError::Other("no member of the cluster is named".to_owned());
        let first = random() as usize;
        for index in 0..members {
            let member = &config.endpoints[(first % members + index) % members];
            let connecting = async {
                let client = Client::connect([member], Some(options.clone())).await?;
                // Nothing has been sent yet, but perhaps to sign in. The answer proves a leader, too.
                client.kv_client().get(follow::WATCH_ROOT, None).await?;
                Ok(client)
            };
            match limited(each, Box::pin(connecting)).await {
                Ok(client) => return Ok(client),
                Err(error) => failure = RequestError::Other(format!("{member}: {error}")),
            }
        }
        Err(failure)
    }

    async fn tls(&self) -> Result<Option<TlsOptions>, RequestError> {
        let read = async |path: &PathBuf| {
            tokio::fs::read(path)
                .await
                .map_err(|error| RequestError::Other(format!("{}: {error}", path.display())))
        };
        let config = &self.config;
        if config.ca_file.is_none() && config.cert_file.is_none() {
            return Ok(None);
        }
        let mut tls = TlsOptions::new();
        if let Some(path) = &config.ca_file {
            tls = tls.ca_certificate(Certificate::from_pem(read(path).await?));
        }
        if let (Some(cert), Some(key)) = (&config.cert_file, &config.key_file) {
            tls = tls.identity(Identity::from_pem(read(cert).await?, read(key).await?));
        }
        Ok(Some(tls))
    }
}

/// A number to spread the load of many nodes by.
fn random() -> u32 {
    uuid::Uuid::new_v4().as_u128() as u32
}

/// Why a request was not answered.
#[derive(Clone, Debug, thiserror::Error)]
enum RequestError {
    /// It took too long.
    #[error("no answer in time")]
    Timeout,
    /// Its revision is gone.
    #[error("the revision has been compacted")]
    Compacted,
    /// Its answer is too large for one message.
    #[error("the answer is too large")]
    TooLarge,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl From<RequestError> for StoreError {
    fn from(error: RequestError) -> Self {
        StoreError::Unavailable(error.to_string())
    }
}

impl From<etcd_client::Error> for RequestError {
    fn from(error: etcd_client::Error) -> Self {
        let text = error.to_string();
        // The server names this error by text alone; its code is shared with others.
        if text.contains("required revision has been compacted") {
            RequestError::Compacted
        } else if text.contains("message length too large") {
            RequestError::TooLarge
        } else {
            RequestError::Other(text)
        }
    }
}

async fn limited<T>(
    limit: Duration,
    request: impl Future<Output = Result<T, etcd_client::Error>>,
) -> Result<T, RequestError> {
    match timeout(limit, request).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(RequestError::Timeout),
    }
}

/// The largest answer that is taken, in bytes. A page that does not fit is asked for in smaller pieces.
const MAX_MESSAGE_LEN: usize = 16 << 20;

fn kv_client(client: &Client) -> KvClient {
    client
        .kv_client()
        .max_decoding_message_size(MAX_MESSAGE_LEN)
}

/// A revision of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Point {
    cluster: u64,
    revision: i64,
}

/// Lists the objects under some prefixes in pages, all at one revision.
async fn list(
    kv: &mut KvClient,
    config: &EtcdConfig,
    prefixes: &[String],
    mut found: impl FnMut(Entry, &[u8]),
) -> Result<Point, RequestError> {
    let mut point = None;
    for prefix in prefixes {
        let end = range_end(prefix);
        let mut start = prefix.clone().into_bytes();
        let mut page_size = config.page_size.max(1);
        loop {
            let mut options = GetOptions::new()
                .with_range(end.clone())
                .with_limit(page_size as i64);
            if let Some(Point { revision, .. }) = point {
                options = options.with_revision(revision);
            }
            let request = kv.get(start.clone(), Some(options));
            let page = match limited(config.request_timeout, request).await {
                Err(RequestError::TooLarge) if page_size > 1 => {
                    page_size /= 2;
                    continue;
                }
                page => page?,
            };
            let header = page
                .header()
                .ok_or_else(|| RequestError::Other("an answer has no header".to_owned()))?;
            point.get_or_insert(Point {
                cluster: header.cluster_id(),
                revision: header.revision(),
            });
            for kv in page.kvs() {
                if let Some(key) = key_of(kv.key()) {
                    let entry = entry(key, kv.value(), kv.mod_revision() as u64);
                    found(entry, kv.value());
                }
            }
            match page.kvs().last() {
                Some(last) if page.more() => {
                    start = last.key().to_vec();
                    start.push(0);
                }
                _ => break,
            }
        }
    }
    point.ok_or_else(|| RequestError::Other("nothing to list".to_owned()))
}

/// The first key behind all that begin with the prefix, which ends with a slash.
fn range_end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}
