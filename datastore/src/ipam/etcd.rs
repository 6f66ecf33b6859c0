//! The key-value store in etcd.

use std::sync::Arc;

use etcd_client::{Compare, CompareOp, GetOptions, GetResponse, Txn, TxnOp, TxnOpResponse};
use futures::future::{BoxFuture, FutureExt};

use super::kv::{Answer, Condition, Kv, KvError, Stored, Transaction, Want, Write};
use crate::store::{Etcd, StoreError, Transacted};

/// A store in etcd. Its calls run within a tokio runtime.
///
/// A member that is lost costs time alone: a read is repeated at another one, and so is a
/// transaction, because it does nothing the second time if it was done the first time; which of
/// both it was is then seen from the history of a key.
pub struct EtcdKv {
    etcd: Arc<Etcd>,
}

impl EtcdKv {
    /// The keys of this store.
    pub fn new(etcd: Arc<Etcd>) -> Self {
        Self { etcd }
    }

    async fn look(&self, wants: &[Want]) -> Result<Answer, KvError> {
        let mut answer = Answer::default();
        for chunk in wants.chunks(Transaction::MAX_LEN) {
            let reads: Vec<TxnOp> = chunk
                .iter()
                .map(|want| match want {
                    Want::Key(key) => {
                        TxnOp::get(key.as_str(), Some(at(GetOptions::new(), answer.revision)))
                    }
                    Want::Prefix(prefix) => {
                        let options = GetOptions::new().with_prefix().with_limit(PAGE_LEN);
                        TxnOp::get(prefix.as_str(), Some(at(options, answer.revision)))
                    }
                })
                .collect();
            let response = self.etcd.query(reads).await.map_err(unavailable)?;
            if answer.revision == 0 {
                answer.revision = response
                    .header()
                    .map_or(0, |header| header.revision() as u64);
            }
            for (want, response) in chunk.iter().zip(response.op_responses()) {
                let TxnOpResponse::Get(page) = response else {
                    return Err(KvError("the store answered something else".to_owned()));
                };
                take(&mut answer, &page)?;
                if let Want::Prefix(prefix) = want
                    && page.more()
                {
                    self.look_further(prefix, &mut answer).await?;
                }
            }
        }
        Ok(answer)
    }

    /// Reads what is left under a prefix, from the last key that was read, page by page.
    async fn look_further(&self, prefix: &str, answer: &mut Answer) -> Result<(), KvError> {
        let end = range_end(prefix);
        loop {
            let mut start = answer
                .entries
                .last()
                .map_or(prefix, |last| last.key.as_str())
                .as_bytes()
                .to_vec();
            start.push(0);
            let options = GetOptions::new()
                .with_range(end.clone())
                .with_limit(PAGE_LEN);
            let options = at(options, answer.revision);
            let page = self.get(start, options).await?;
            take(answer, &page)?;
            // An empty page that promises more would have us ask for ever.
            if !page.more() || page.kvs().is_empty() {
                return Ok(());
            }
        }
    }

    async fn apply(&self, transaction: &Transaction) -> Result<bool, KvError> {
        let compares: Vec<Compare> = transaction
            .conditions
            .iter()
            .map(|condition| match condition {
                Condition::Absent(key) => Compare::version(key.as_str(), CompareOp::Equal, 0),
                Condition::At(key, revision) => {
                    Compare::mod_revision(key.as_str(), CompareOp::Equal, *revision as i64)
                }
                Condition::NothingAfter(prefix, revision) => {
                    let after = (*revision as i64).saturating_add(1);
                    Compare::mod_revision(prefix.as_str(), CompareOp::Less, after).with_prefix()
                }
            })
            .collect();
        let writes: Vec<TxnOp> = transaction
            .writes
            .iter()
            .map(|write| match write {
                Write::Put(key, value) => TxnOp::put(key.as_str(), value.as_slice(), None),
                Write::Delete(key) => TxnOp::delete(key.as_str(), None),
            })
            .collect();
        let txn = Txn::new().when(compares).and_then(writes);
        let repeat = transaction.writes.iter().all(|write| {
            let (Write::Put(key, _) | Write::Delete(key)) = write;
            revision_before(transaction, key).is_some()
        });
        let done = self.etcd.transact(txn, repeat).await;
        match done.map_err(unavailable)? {
            Transacted::Done => Ok(true),
            Transacted::Refused => Ok(false),
            // Its conditions do not hold any more: by its own doing, or somebody else's.
            Transacted::RefusedAgain => self.was_done(transaction).await,
        }
    }

    /// Whether a transaction whose conditions hold no longer was done: whether all that it writes
    /// was written at one revision. Looks back through the versions of one key, since others may
    /// have gone on from there.
    async fn was_done(&self, transaction: &Transaction) -> Result<bool, KvError> {
        let puts: Vec<(&str, &[u8])> = transaction
            .writes
            .iter()
            .filter_map(|write| match write {
                Write::Put(key, value) => Some((key.as_str(), value.as_slice())),
                Write::Delete(_) => None,
            })
            .collect();
        // A key that was there before has a whole history to look through.
        let before = |key: &str| revision_before(transaction, key).unwrap_or(0);
        let Some((key, value)) = puts.iter().copied().max_by_key(|(key, _)| before(key)) else {
            return self.are_gone(transaction).await;
        };
        let mut options = GetOptions::new();
        for _ in 0..MAX_VERSIONS {
            let page = self.get(key, options).await?;
            let Some(version) = page.kvs().first() else {
                return Ok(false);
            };
            let revision = version.mod_revision();
            if revision as u64 <= before(key) {
                return Ok(false);
            }
            if version.value() == value && self.all_at(&puts, revision).await? {
                return Ok(true);
            }
            if revision <= 1 {
                return Ok(false);
            }
            options = GetOptions::new().with_revision(revision - 1);
        }
        Err(KvError(
            "whether a transaction was done cannot be told any more".to_owned(),
        ))
    }

    /// Whether all of this was written by the transaction of this revision.
    async fn all_at(&self, puts: &[(&str, &[u8])], revision: i64) -> Result<bool, KvError> {
        for (key, value) in puts {
            let options = GetOptions::new().with_revision(revision);
            let page = self.get(*key, options).await?;
            let is_written = page
                .kvs()
                .first()
                .is_some_and(|found| found.mod_revision() == revision && found.value() == *value);
            if !is_written {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether nothing is left of what a transaction only takes away. Whoever took it, it is gone.
    async fn are_gone(&self, transaction: &Transaction) -> Result<bool, KvError> {
        for write in &transaction.writes {
            if let Write::Delete(key) = write
                && !self
                    .get(key.as_str(), GetOptions::new())
                    .await?
                    .kvs()
                    .is_empty()
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn get(
        &self,
        key: impl Into<Vec<u8>>,
        options: GetOptions,
    ) -> Result<GetResponse, KvError> {
        let reads = vec![TxnOp::get(key, Some(options))];
        let response = self.etcd.query(reads).await.map_err(unavailable)?;
        match response.op_responses().into_iter().next() {
            Some(TxnOpResponse::Get(page)) => Ok(page),
            _ => Err(KvError("the store answered something else".to_owned())),
        }
    }
}

fn unavailable(error: StoreError) -> KvError {
    if let StoreError::Unavailable(reason) = error {
        KvError(reason)
    } else {
        KvError(error.to_string())
    }
}

/// The revision that a key must have for a transaction to be done, 0 for none at all; `None` if it
/// may have any.
fn revision_before(transaction: &Transaction, wanted: &str) -> Option<u64> {
    transaction
        .conditions
        .iter()
        .find_map(|condition| match condition {
            Condition::Absent(key) if key == wanted => Some(0),
            Condition::At(key, revision) if key == wanted => Some(*revision),
            Condition::Absent(_) | Condition::At(..) | Condition::NothingAfter(..) => None,
        })
}

impl Kv for EtcdKv {
    fn read<'a>(&'a self, wants: &'a [Want]) -> BoxFuture<'a, Result<Answer, KvError>> {
        self.look(wants).boxed()
    }

    fn commit<'a>(&'a self, transaction: &'a Transaction) -> BoxFuture<'a, Result<bool, KvError>> {
        self.apply(transaction).boxed()
    }
}

/// How many versions of a key to look back through.
const MAX_VERSIONS: usize = 1_000;
/// How many keys of a prefix to read with one request. A block of 64 addresses with as many pods is
/// about 20 kB, so that a page stays below the largest answer.
const PAGE_LEN: i64 = 250;

/// The first read settles the revision, the others are held to it.
fn at(options: GetOptions, revision: u64) -> GetOptions {
    if revision == 0 {
        options
    } else {
        options.with_revision(revision as i64)
    }
}

fn take(answer: &mut Answer, page: &GetResponse) -> Result<(), KvError> {
    for kv in page.kvs() {
        let key = kv
            .key_str()
            .map_err(|_| KvError("a key is no text".to_owned()))?;
        answer.entries.push(Stored {
            key: key.to_owned(),
            value: kv.value().to_vec(),
            revision: kv.mod_revision() as u64,
        });
    }
    Ok(())
}

/// The first key after all that begin with a prefix of plain text.
fn range_end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}
