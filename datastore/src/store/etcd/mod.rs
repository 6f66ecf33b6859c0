//! The store in etcd, laid out as Calico's clients lay it out.
//!
//! Writes are transactions on the revision of one key. A watch lists everything in pages at one revision
//! and follows the store from there; `follow` tells what it does about lost connections, compaction
//! and a store that was put back to an older state.
//!
//! A client lives until a request fails for want of a connection or of rights, or until the TLS files
//! change; the next one reads them and signs in anew. Left out: discovery of endpoints by DNS.

mod connect;
mod follow;
mod request;
mod seen;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use etcd_client::{
    Client, Compare, CompareOp, GetOptions, KvClient, PutOptions, Txn, TxnOp, TxnOpResponse,
    TxnResponse,
};
use tokio::{sync::Mutex, time::sleep};

use self::{
    connect::{Connection, Connector},
    request::{Pages, RequestError, key_of, kv_client, limited},
};
use super::{
    AbortOnDrop, Entry, Filter, Known, Listing, Reports, StoreError, Watch,
    backend::{Backend, Condition, entry},
    feed::Feed,
};
use crate::{
    Key, Problem,
    key::{CLEAT_ROOT, WATCHED_ROOTS},
};

/// What Calico's components share.
const CALICO_ROOT: &str = "/calico/";
/// What is cleat's own. A user who was given rights for Calico may lack them here.
const OWN_ROOT: &str = "/cleat/";

/// Whether a store can be followed without this prefix.
fn is_optional(prefix: &str) -> bool {
    prefix.starts_with(OWN_ROOT)
}

/// What to tell of prefixes that the user may not read.
fn denied(prefixes: impl IntoIterator<Item = String>) -> Vec<Problem> {
    let reason = "may not be read by the user of etcd, so that Services and EndpointSlices are not known; \
        grant its role read and write of the prefix /cleat/";
    prefixes
        .into_iter()
        .map(|prefix| Problem::new(prefix, "", reason))
        .collect()
}

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
    /// The authorities, PEM, in place of `ca_file`.
    pub ca_pem: Option<String>,
    /// The own certificate, PEM, in place of `cert_file`.
    pub cert_pem: Option<String>,
    /// The own key, PEM, in place of `key_file`.
    pub key_pem: Option<String>,
    /// How long connecting and each request may take.
    pub request_timeout: Duration,
    /// How often a watch asks the store for a sign of life.
    pub progress_interval: Duration,
    /// How long a watch waits for one before it takes the connection for dead.
    pub progress_deadline: Duration,
    /// How many objects to list with one request.
    pub page_size: usize,
    /// Within which time to list a store anew that all its readers must list anew, such as a restored one.
    pub relist_spread: Duration,
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
            ca_pem: None,
            cert_pem: None,
            key_pem: None,
            request_timeout: Duration::from_secs(10),
            progress_interval: Duration::from_secs(5),
            progress_deadline: Duration::from_secs(15),
            page_size: 500,
            relist_spread: Duration::from_secs(5),
        }
    }
}

/// A store in etcd. Its calls and watches run within a tokio runtime.
pub struct Etcd {
    connector: Arc<Connector>,
    connection: Mutex<Option<Connection>>,
}

impl Etcd {
    /// A store that connects when it is first used.
    pub fn new(config: EtcdConfig) -> Self {
        Self {
            connector: Arc::new(Connector { config }),
            connection: Mutex::new(None),
        }
    }

    /// How the cluster is reached.
    pub fn config(&self) -> &EtcdConfig {
        &self.connector.config
    }

    /// A connected client, the same until it fails or the TLS files change.
    pub async fn client(&self) -> Result<Client, StoreError> {
        Ok(self.connected().await?)
    }

    /// Says that a client does not work any more; the next one will be another.
    pub async fn forget_client(&self) {
        *self.connection.lock().await = None;
    }

    async fn connected(&self) -> Result<Client, RequestError> {
        let mut connection = self.connection.lock().await;
        if let Some(old) = &*connection {
            return Ok(match self.connector.renew(old).await {
                Some(new) => connection.insert(new).client.clone(),
                None => old.client.clone(),
            });
        }
        let new = Box::pin(self.connector.connect()).await?;
        Ok(connection.insert(new).client.clone())
    }

    /// Runs a request, and forgets a client that cannot be used any more.
    async fn request<T>(
        &self,
        request: impl AsyncFnOnce(Client, &EtcdConfig) -> Result<T, RequestError>,
    ) -> Result<T, RequestError> {
        let client = self.connected().await?;
        let result = Box::pin(request(client, self.config())).await;
        if result.as_ref().is_err_and(|error| !error.is_answer()) {
            self.forget_client().await;
        }
        result
    }

    async fn range_once(&self, prefixes: &[String]) -> Result<Listing, RequestError> {
        self.request(async |client, config| {
            let mut kv = kv_client(&client);
            let mut entries = Vec::new();
            let mut pages = Pages::new(config, prefixes);
            while let Some(page) = pages.next(&mut kv).await? {
                entries.extend(page.kvs().iter().filter_map(|kv| {
                    let key = key_of(kv.key())?;
                    Some(entry(key, kv.value(), kv.mod_revision() as u64))
                }));
            }
            Ok(Listing {
                entries,
                unreadable: denied(pages.denied),
                revision: pages.point.map_or(0, |point| point.revision as u64),
            })
        })
        .await
    }

    async fn read_once(&self, key: &Key) -> Result<Option<Entry>, RequestError> {
        let response = self
            .request(async |client, config| {
                let mut kv = kv_client(&client);
                limited(config.request_timeout, kv.get(key.path(), None)).await
            })
            .await?;
        let found = response.kvs().first();
        Ok(found.map(|kv| entry(key.clone(), kv.value(), kv.mod_revision() as u64)))
    }

    /// Runs a transaction; once more if the store did not even look at it.
    async fn commit(&self, transaction: Txn) -> Result<TxnResponse, RequestError> {
        let run = async || {
            let transaction = transaction.clone();
            self.request(async |client, config| {
                let mut kv: KvClient = kv_client(&client);
                limited(config.request_timeout, kv.txn(transaction)).await
            })
            .await
        };
        match run().await {
            Err(RequestError::Unauthenticated(_)) => run().await,
            done => done,
        }
    }

    /// Reads, all of it at once; again at another member as long as there is time.
    pub(crate) async fn query(&self, reads: Vec<TxnOp>) -> Result<TxnResponse, StoreError> {
        Ok(self.persist(Txn::new().and_then(reads)).await?.0)
    }

    /// Runs a transaction. One that may be repeated, because it cannot be done twice, is as long as
    /// there is time and no answer.
    pub(crate) async fn transact(
        &self,
        transaction: Txn,
        repeat: bool,
    ) -> Result<Transacted, StoreError> {
        let (response, repeated) = if repeat {
            self.persist(transaction).await?
        } else {
            (self.commit(transaction).await?, false)
        };
        Ok(match (response.succeeded(), repeated) {
            (true, _) => Transacted::Done,
            (false, false) => Transacted::Refused,
            (false, true) => Transacted::RefusedAgain,
        })
    }

    /// Runs a transaction until it is answered, as long as two requests may take; says whether it
    /// was repeated.
    async fn persist(&self, transaction: Txn) -> Result<(TxnResponse, bool), RequestError> {
        let give_up = Instant::now() + self.config().request_timeout * 2;
        let mut repeated = false;
        loop {
            match self.commit(transaction.clone()).await {
                Ok(answer) => return Ok((answer, repeated)),
                Err(error) if error.is_answer() || Instant::now() >= give_up => return Err(error),
                Err(error) => tracing::debug!(%error, "asking again"),
            }
            repeated = true;
            sleep(PAUSE).await;
        }
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
        let response = self.commit(transaction).await?;
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

impl Backend for Etcd {
    async fn range(&self, filter: &Filter) -> Result<Listing, StoreError> {
        let prefixes = match filter {
            Filter::All => WATCHED_ROOTS.map(str::to_owned).to_vec(),
            Filter::Kinds(kinds) => kinds.iter().map(|kind| kind.prefix()).collect(),
            Filter::Namespace(kind, namespace) => {
                vec![format!("{}{namespace}/", kind.prefix())]
            }
        };
        // The first try may meet a connection that had gone unnoticed. A write is not tried again: it may
        // have been done.
        match self.range_once(&prefixes).await {
            Err(error) if !error.is_answer() => Ok(self.range_once(&prefixes).await?),
            done => Ok(done?),
        }
    }

    async fn read(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        match self.read_once(key).await {
            Err(error) if !error.is_answer() => Ok(self.read_once(key).await?),
            done => Ok(done?),
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
        self.request(async |client, config| {
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
            limited(config.request_timeout, Box::pin(writing)).await
        })
        .await?;
        Ok(())
    }

    async fn reports(&self, prefix: &str) -> Result<Reports, StoreError> {
        let page = self
            .request(async |client, config| {
                let options = GetOptions::new().with_prefix().with_limit(MAX_REPORTS);
                let mut kv = kv_client(&client);
                limited(config.request_timeout, kv.get(prefix, Some(options))).await
            })
            .await?;
        let kvs = page.kvs().iter();
        let text = kvs.filter_map(|kv| Some((kv.key_str().ok()?.to_owned(), kv.value().to_vec())));
        Ok(text.collect())
    }

    fn follow(&self, known: Known) -> Watch {
        let feed = Feed::new(known);
        let task = tokio::spawn(follow::run(self.connector.clone(), feed.clone()));
        Watch::new(feed, AbortOnDrop(task.abort_handle()))
    }
}

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transacted {
    /// It was done.
    Done,
    /// Its conditions did not hold.
    Refused,
    /// Its conditions did not hold when it was repeated; before that it may have been done.
    RefusedAgain,
}

/// A number to spread the load of many nodes by.
fn random() -> u32 {
    uuid::Uuid::new_v4().as_u128() as u32
}

/// What a host reports of itself is a few entries for each of its endpoints.
const MAX_REPORTS: i64 = 10_000;
/// How long to wait before asking again.
const PAUSE: Duration = Duration::from_millis(50);
