//! Stores of objects: one contract, [`Store`], and what keeps it.
//!
//! A store keeps bytes and counts revisions; that much is its `Backend`. What all stores do alike is
//! written once over it: defaults and identity on the way in, the profile that is always there, policies
//! found by the name their user knows. A watch is a `Feed`: the store puts changes in, the reader takes
//! them out, and what the reader has not taken yet is one update for each object, so that a slow reader
//! costs no more than the objects there are.

mod backend;
#[cfg(feature = "dir")]
mod dir;
#[cfg(feature = "etcd")]
mod etcd;
#[cfg_attr(
    not(feature = "etcd"),
    allow(
        dead_code,
        reason = "memory is never lost, and nobody must wait for it"
    )
)]
mod feed;
#[cfg_attr(
    not(feature = "etcd"),
    allow(
        dead_code,
        reason = "memory is never lost, and nobody must wait for it"
    )
)]
mod hold;
mod memory;
mod prepare;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::future::BoxFuture;

use crate::{Key, Kind, Problem, Resource};

pub(crate) use backend::entry;
pub use backend::{ensure_initialized, initialize};
#[cfg(feature = "dir")]
pub use dir::Dir;
#[cfg(feature = "etcd")]
pub(crate) use etcd::Transacted;
#[cfg(feature = "etcd")]
pub use etcd::{Etcd, EtcdConfig};
pub use feed::{HoldHandle, Watch};
pub use memory::Memory;
pub use prepare::{default_allow, is_fixed};

/// A change of one object.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// The object.
    pub key: Key,
    /// What it is now; `None` if it is gone, or if what is stored is no such object.
    pub value: Option<Arc<Resource>>,
    /// The store's revision of the change.
    pub revision: u64,
    /// Why what is stored is no such object.
    pub problem: Option<Problem>,
}

/// What a watch tells.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Objects have changed. Several changes of one object may be told as one.
    Updates(Vec<Update>),
    /// Everything up to this revision has been told. Comes again after every new listing.
    InSync {
        /// The revision.
        revision: u64,
    },
    /// The store cannot be followed for now; the watch goes on trying. [`Event::InSync`] ends it.
    Trouble(String),
    /// The store looks lost: objects stay as they are told, and what the store says is kept back until
    /// it has its objects again or someone [accepts](HoldHandle::accept) it. [`Event::InSync`] ends it.
    /// Comes again whenever the numbers change.
    Held(Held),
    /// Everything in the store that is not even an object under a key, as of now: each time the whole
    /// list, which replaces the last one.
    Unreadable(Vec<Problem>),
}

/// Why a store is not obeyed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// How many objects the reader knows.
    pub known: usize,
    /// How many of them the store does not have.
    pub missing: usize,
    /// What happened, for a person.
    pub reason: String,
}

/// The state that a reader has of a store before it watches it: from a snapshot, say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The objects, those with problems included, and the revisions they were told at.
    pub objects: BTreeMap<Key, u64>,
    /// `clusterGUID` of the store's ClusterInformation.
    pub cluster: Option<String>,
}

impl<'a> FromIterator<&'a Update> for Known {
    /// What someone knows who was told this; of several updates of one object the last counts.
    fn from_iter<T: IntoIterator<Item = &'a Update>>(updates: T) -> Self {
        let mut known = Self::default();
        for update in updates {
            if prepare::is_default_allow(&update.key) {
                continue;
            }
            if update.value.is_none() && update.problem.is_none() {
                known.objects.remove(&update.key);
                continue;
            }
            known.objects.insert(update.key.clone(), update.revision);
            if let Some(resource) = &update.value
                && let Some(cluster) = hold::cluster_of_resource(&update.key, resource)
            {
                known.cluster = Some(cluster);
            }
        }
        known
    }
}

/// An object as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its key.
    pub key: Key,
    /// The object, or why what is stored is none.
    pub resource: Result<Arc<Resource>, Problem>,
    /// The revision of its last change; `update` and `delete` compare it.
    pub revision: u64,
}

/// Objects at one revision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listing {
    /// The objects, by key.
    pub entries: Vec<Entry>,
    /// What is stored but is not even an object under a key.
    pub unreadable: Vec<Problem>,
    /// The store's revision.
    pub revision: u64,
}

/// Which objects to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Filter {
    /// All that a watch follows.
    #[default]
    All,
    /// Those of these kinds.
    Kinds(BTreeSet<Kind>),
    /// Those of a kind in a namespace.
    Namespace(Kind, String),
}

impl Filter {
    /// The objects of one kind.
    pub fn kind(kind: Kind) -> Self {
        Filter::Kinds(BTreeSet::from([kind]))
    }

    /// Whether an object passes.
    pub fn passes(&self, key: &Key) -> bool {
        match self {
            Filter::All => key.watched(),
            Filter::Kinds(kinds) => key.kind().is_some_and(|kind| kinds.contains(&kind)),
            Filter::Namespace(kind, namespace) => {
                key.kind() == Some(*kind) && key.namespace() == Some(namespace)
            }
        }
    }
}

/// Why a store did not do what it was asked to. Nothing was changed, except perhaps by
/// [`StoreError::Unavailable`].
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Create found the object there.
    #[error("{0} exists already")]
    Exists(Key),
    /// Update or delete did not find the object.
    #[error("{0} does not exist")]
    NotFound(Key),
    /// The object has changed since the revision that the caller knows.
    #[error("{key} has changed: it is at revision {actual}, not {expected}")]
    Conflict {
        /// The object.
        key: Key,
        /// The caller's revision.
        expected: u64,
        /// The store's.
        actual: u64,
    },
    /// The object may not be changed by anyone.
    #[error("{0} cannot be changed")]
    Fixed(Key),
    /// The object is not one that can be stored.
    #[error(transparent)]
    Invalid(#[from] Problem),
    /// The store did not answer, or not in time.
    #[error("the store is not available: {0}")]
    Unavailable(String),
}

/// A store of objects.
pub trait Store: Send + Sync {
    /// The objects that pass the filter, at one revision.
    fn list<'a>(&'a self, filter: &'a Filter) -> BoxFuture<'a, Result<Listing, StoreError>>;

    /// An object, if it is there. A policy stored under its tier's name is found by the user's name.
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Entry>, StoreError>>;

    /// Stores a new object, and gives it a uid and a creation time.
    fn create<'a>(&'a self, resource: &'a Resource) -> BoxFuture<'a, Result<Entry, StoreError>>;

    /// Replaces an object that is at this revision.
    fn update<'a>(
        &'a self,
        resource: &'a Resource,
        revision: u64,
    ) -> BoxFuture<'a, Result<Entry, StoreError>>;

    /// Creates or replaces an object, whatever is there. Uid and creation time stay those of the object
    /// that was there, and so does a `status` if the new object has none.
    fn apply<'a>(&'a self, resource: &'a Resource) -> BoxFuture<'a, Result<Entry, StoreError>>;

    /// Stores an object as it is, in place of whatever is there, for whoever brings back what a store held. Nothing is
    /// filled in but a uid and a creation time that are missing.
    fn restore<'a>(
        &'a self,
        key: &'a Key,
        resource: &'a Resource,
    ) -> BoxFuture<'a, Result<Entry, StoreError>>;

    /// Removes an object, if it is at this revision or no revision is given.
    fn delete<'a>(
        &'a self,
        key: &'a Key,
        revision: Option<u64>,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Everything in the store from now on: first what is there, then [`Event::InSync`], then changes.
    fn watch(&self) -> Watch {
        self.watch_from(Known::default())
    }

    /// As [`Store::watch`], for a reader who knows a state already. What is there is told whether it was
    /// known or not, what was known and is gone is told as gone; unless the store looks lost, which is
    /// told as [`Event::Held`].
    fn watch_from(&self, known: Known) -> Watch;

    /// Writes bytes under a path beside the objects, for others to read (what Felix reports to Neutron, say),
    /// or removes them. With a time to live they go away if they are not written again before.
    ///
    /// A store without such paths does nothing.
    fn report<'a>(
        &'a self,
        path: &'a str,
        value: Option<Vec<u8>>,
        time_to_live: Option<Duration>,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// What was written so under paths that begin with `prefix`, by whomever.
    fn reports<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Reports, StoreError>>;
}

/// Values by their paths.
pub type Reports = Vec<(String, Vec<u8>)>;

/// A store, chosen at run time.
pub type AnyStore = Arc<dyn Store>;

/// Ends a task that nobody listens to.
#[cfg(any(feature = "dir", feature = "etcd"))]
struct AbortOnDrop(tokio::task::AbortHandle);

#[cfg(any(feature = "dir", feature = "etcd"))]
impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
