//! The key-value store in etcd.

use std::time::Duration;

use etcd_client::{
    Client, Compare, CompareOp, Error, GetOptions, GetResponse, KvClient, Txn, TxnOp, TxnOpResponse,
};
use futures::future::{BoxFuture, FutureExt};
use tokio::time::timeout;

use super::kv::{Answer, Condition, Kv, KvError, Stored, Transaction, Want, Write};

/// A store in etcd. Its calls run within a tokio runtime.
pub struct EtcdKv {
    kv: KvClient,
    request_timeout: Duration,
}

impl EtcdKv {
    /// The store that a client is connected to; no request may take longer than `request_timeout`.
    pub fn new(client: &Client, request_timeout: Duration) -> Self {
        Self {
            kv: client
                .kv_client()
                .max_decoding_message_size(MAX_MESSAGE_LEN),
            request_timeout,
        }
    }

    async fn limited<T>(
        &self,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, KvError> {
        match timeout(self.request_timeout, request).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(KvError(error.to_string())),
            Err(_) => Err(KvError("no answer in time".to_owned())),
        }
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
            let response = self
                .limited(self.kv.clone().txn(Txn::new().and_then(reads)))
                .await?;
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
            let page = self
                .limited(self.kv.clone().get(start, Some(options)))
                .await?;
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
        let response = self.limited(self.kv.clone().txn(txn)).await?;
        Ok(response.succeeded())
    }
}

impl Kv for EtcdKv {
    fn read<'a>(&'a self, wants: &'a [Want]) -> BoxFuture<'a, Result<Answer, KvError>> {
        self.look(wants).boxed()
    }

    fn commit<'a>(&'a self, transaction: &'a Transaction) -> BoxFuture<'a, Result<bool, KvError>> {
        self.apply(transaction).boxed()
    }
}

/// The largest answer that is taken, in bytes.
const MAX_MESSAGE_LEN: usize = 16 << 20;
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
