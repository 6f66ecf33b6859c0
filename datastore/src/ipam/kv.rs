//! The key-value store under IPAM: the little that it must be able to do.

use futures::future::BoxFuture;

/// What to read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Want {
    /// One key.
    Key(String),
    /// Every key that begins so.
    Prefix(String),
}

/// A key, its value and the revision of its last change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The key.
    pub key: String,
    /// The value.
    pub value: Vec<u8>,
    /// The revision of the last change.
    pub revision: u64,
}

/// What was read, all at one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// What is there.
    pub entries: Vec<Stored>,
    /// The store's revision.
    pub revision: u64,
}

/// What must hold for a transaction to do anything.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// There is nothing under the key.
    Absent(String),
    /// The last change of the key is of this revision.
    At(String, u64),
    /// No key that begins so was written after this revision. Keys that are gone do not count.
    NothingAfter(String, u64),
}

/// What a transaction does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Stores a value.
    Put(String, Vec<u8>),
    /// Removes a key.
    Delete(String),
}

/// Writes that all happen at once if all conditions hold, or else not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// What must hold.
    pub conditions: Vec<Condition>,
    /// What is done; no key twice.
    pub writes: Vec<Write>,
}

impl Transaction {
    /// The largest number of conditions, and of writes, that a store must take. etcd takes 128 as
    /// it is delivered.
    pub const MAX_LEN: usize = 128;
}

/// The store did not answer, or not in time. A transaction may have happened or not.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the store is not available: {0}")]
pub struct KvError(pub String);

/// A store.
pub trait Kv: Send + Sync {
    /// Reads all of it at one revision.
    fn read<'a>(&'a self, wants: &'a [Want]) -> BoxFuture<'a, Result<Answer, KvError>>;

    /// Runs a transaction and says whether its conditions held.
    fn commit<'a>(&'a self, transaction: &'a Transaction) -> BoxFuture<'a, Result<bool, KvError>>;
}

impl<K: Kv + ?Sized> Kv for std::sync::Arc<K> {
    fn read<'a>(&'a self, wants: &'a [Want]) -> BoxFuture<'a, Result<Answer, KvError>> {
        (**self).read(wants)
    }

    fn commit<'a>(&'a self, transaction: &'a Transaction) -> BoxFuture<'a, Result<bool, KvError>> {
        (**self).commit(transaction)
    }
}
