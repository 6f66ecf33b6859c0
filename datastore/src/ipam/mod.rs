//! IPAM: which address is whose, in Calico's own records.
//!
//! Pools are cut into blocks; a host claims a block (an *affinity*) and assigns addresses from it;
//! a *handle* remembers what is assigned to one workload, so that all of it can be released at
//! once. Blocks, affinities, handles and settings lie in the store under Calico's keys as Calico's
//! JSON, so that Calico's clients and these can work side by side.
//!
//! Every operation is one function of what has been read, which makes one [`kv::Transaction`]: the
//! block, the claim on it and the handle's counts change together or not at all. There is no order
//! of writes to be interrupted. If anything the decision was made from has changed meanwhile, the
//! transaction does nothing, and the decision is made anew. What clients that need several writes
//! left behind when they were interrupted is mended by the operations that come across it.
//!
//! [`Ipam`] runs the decisions over a [`kv::Kv`]: [`MemoryKv`], or `EtcdKv` with the feature `etcd`.
//! Both families are alike everywhere. [`Collector`] looks from time to time and releases what nobody
//! uses any more.

pub mod addr;
mod affinity;
mod assign;
mod block;
mod check;
pub mod documents;
#[cfg(feature = "etcd")]
mod etcd;
mod gc;
mod go_rand;
pub mod keys;
pub mod kv;
mod memory;
mod migration;
pub mod model;
mod pools;
mod release;
pub mod report;
mod settings;
mod show;
mod split;
#[cfg(test)]
mod tests;
mod tunnel;
mod view;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use ipnet::IpNet;

use self::{
    kv::{Kv, KvError, Transaction, Want},
    view::{Draft, Stop, View},
};
use crate::{Problem, resource::AllowedUse, time::Timestamp, value::IpVersion};

#[cfg(feature = "etcd")]
pub use self::etcd::EtcdKv;
pub use self::{
    affinity::GivenUp,
    assign::{AddressRequest, AssignRequest, MAX_ADDRESSES},
    block::{Assignee, HostReserved, Reservations, WINDOWS_HANDLE},
    check::{Finding, Leak},
    documents::{Dump, Restored},
    gc::{Collected, Collector},
    keys::Owner,
    memory::MemoryKv,
    migration::{PodName, Swapped},
    model::{AllocationBlock, Attribute, Handle, IpamConfig},
    release::{LOAD_BALANCER, ReleaseRequest, Released},
    report::Report,
    show::{AddressInfo, BlockUse, Borrowed, PoolUse},
    split::MAX_PARTS,
    tunnel::{TunnelAddress, TunnelKind},
    view::Moment,
};

/// Why nothing was done. Nothing was changed, except perhaps by [`IpamError::Unavailable`].
#[derive(Debug, thiserror::Error)]
pub enum IpamError {
    /// The owner keeps as many blocks as it may, and all are full. Raise the limit, or release.
    #[error("{owner} has {limit} blocks, which is the limit, and all of them are full")]
    BlockLimit {
        /// The owner.
        owner: Owner,
        /// The limit.
        limit: u32,
    },
    /// The owner's blocks are full, and the settings allow no new ones unasked.
    #[error("all blocks of {0} are full, and no more are to be claimed automatically")]
    NoNewBlocks(Owner),
    /// There is no block left for the owner, and the settings forbid to take from others'.
    #[error("no free {version:?} address in the blocks of {owner}, and affinity is strict")]
    StrictAffinityFull {
        /// The owner.
        owner: Owner,
        /// The family.
        version: IpVersion,
    },
    /// Every address that could be given is assigned, reserved or cools down.
    #[error("the pools are full: {missing} more {version:?} addresses were wanted")]
    PoolsFull {
        /// The family.
        version: IpVersion,
        /// How many addresses were missing.
        missing: usize,
    },
    /// No enabled pool is for this owner, namespace and use.
    #[error("no pool of {version:?} is for {allowed_use:?} addresses of this owner and namespace")]
    NoPool {
        /// The family.
        version: IpVersion,
        /// What the address is for.
        allowed_use: AllowedUse,
    },
    /// A pool that was asked for is not there, is disabled, or is of the other family.
    #[error("there is no pool {0} that is enabled")]
    NoSuchPool(IpNet),
    /// The address is in no enabled pool.
    #[error("{0} is in no pool that is enabled")]
    OutsidePools(IpAddr),
    /// The owner is a host without a node resource. Create it first.
    #[error("there is no node {0}")]
    NoNode(String),
    /// The address is assigned, or was given back and cools down.
    #[error("{address} is in use")]
    InUse {
        /// The address.
        address: IpAddr,
        /// By what handle it is assigned.
        handle: Option<String>,
    },
    /// The address's block is not kept for the owner, and affinity is strict.
    #[error("{block} is kept for another, and affinity is strict")]
    NotYours {
        /// The block.
        block: IpNet,
        /// Who it is kept for.
        affinity: Option<String>,
    },
    /// The handle would have more addresses than it may.
    #[error("handle {handle} may have {limit} addresses of a family")]
    HandleLimit {
        /// The handle.
        handle: String,
        /// The limit.
        limit: u32,
    },
    /// Nothing is assigned by the handle. For one who releases, that is as good as done.
    #[error("there is no handle {0}")]
    UnknownHandle(String),
    /// The address has been assigned anew since the caller looked. Look again.
    #[error("{address} was assigned under number {actual}, not {expected}")]
    BadSequenceNumber {
        /// The address.
        address: IpAddr,
        /// What the caller expected.
        expected: u64,
        /// What it is.
        actual: u64,
    },
    /// The address is assigned by another handle. Look again.
    #[error("{address} is assigned by another handle than {expected}")]
    BadHandle {
        /// The address.
        address: IpAddr,
        /// What the caller expected.
        expected: String,
        /// What it is.
        actual: Option<String>,
    },
    /// An address was to go to its alternate owner, but has none. The target of the migration has
    /// been deleted.
    #[error("{0} has no alternate owner")]
    NoAlternateOwner(IpAddr),
    /// An address was to go to its alternate owner, but that is another.
    #[error("{address} has another alternate owner than {expected}")]
    OtherAlternateOwner {
        /// The address.
        address: IpAddr,
        /// Who was expected.
        expected: String,
    },
    /// An address has another owner than the caller believes. Look again.
    #[error("{address} has another owner than {expected}")]
    OtherOwner {
        /// The address.
        address: IpAddr,
        /// Who was expected.
        expected: String,
    },
    /// There is no pool of this name.
    #[error("there is no pool {0}")]
    UnknownPool(String),
    /// A pool that a split would make is there already.
    #[error("there is a pool {0} already")]
    PoolExists(String),
    /// A pool is split into 2, 4, 8, 16, 32 or 64.
    #[error("a pool cannot be split into {0}")]
    BadSplit(u32),
    /// The parts would be smaller than the pool's blocks.
    #[error("{parts} parts would be smaller than a block of /{block_len}")]
    SplitsBlocks {
        /// How many parts were wanted.
        parts: u32,
        /// The prefix length of the blocks.
        block_len: u8,
    },
    /// Documents cannot be restored. None was.
    #[error("{} of the documents cannot be restored: {}", .0.len(), list(.0))]
    BadDocuments(Vec<Problem>),
    /// What was to be restored is there already and says something else.
    #[error("{0} is there already and says something else")]
    Exists(String),
    /// A block that was to be restored shares addresses with one that is there.
    #[error("{block} overlaps {other}, which is there")]
    Overlaps {
        /// The block.
        block: IpNet,
        /// The one that is there.
        other: IpNet,
    },
    /// The net is smaller than a block of its pool.
    #[error("{0} is smaller than a block")]
    SmallerThanBlock(IpNet),
    /// A name cannot be part of a key.
    #[error("{0:?} cannot be a name")]
    BadName(String),
    /// One transaction cannot do that much. Ask for less at once.
    #[error("that is too much for one transaction")]
    TooMuchAtOnce,
    /// Something the decision depends on cannot be read, or settings contradict each other. Mend it.
    #[error("what is stored cannot be used: {0}")]
    Unreadable(#[from] Problem),
    /// Others were faster every time. Try again.
    #[error("too many others are changing the same at once")]
    Conflict,
    /// The store did not answer. If it was asked to write, it may have done so or not: release by
    /// the handle before trying again.
    #[error(transparent)]
    Unavailable(#[from] KvError),
}

fn list(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
    lines.join("; ")
}

/// How often a decision is made anew before giving up. Every time, somebody else has succeeded.
const ATTEMPTS: usize = 500;
/// How often one decision may ask for more to be read.
const MAX_READS: usize = 200;
/// How many keys and prefixes one decision may ask for, its attempts taken together.
const MAX_WANTS: usize = 20_000;

/// IPAM over a store.
#[derive(Clone)]
pub struct Ipam<K> {
    kv: K,
    clock: Arc<dyn Fn() -> Moment + Send + Sync>,
}

impl<K: Kv> Ipam<K> {
    /// IPAM over this store, by the system's clock.
    pub fn new(kv: K) -> Self {
        Self::with_clock(kv, system_moment)
    }

    /// IPAM over this store, by another clock.
    pub fn with_clock(kv: K, clock: impl Fn() -> Moment + Send + Sync + 'static) -> Self {
        Self {
            kv,
            clock: Arc::new(clock),
        }
    }

    /// Assigns any free addresses, all that were asked for or none. An address comes with the
    /// length of its block.
    pub async fn assign(&self, request: &AssignRequest) -> Result<Vec<IpNet>, IpamError> {
        self.run(|draft| assign::assign(draft, request)).await
    }

    /// Assigns one address by name, and claims its block if nobody has.
    pub async fn assign_address(&self, request: &AddressRequest) -> Result<IpNet, IpamError> {
        self.run(|draft| assign::assign_address(draft, request))
            .await
    }

    /// Sees to it that the owner keeps a block for each of these families, full or not.
    pub async fn ensure_block(
        &self,
        request: &AssignRequest,
        versions: &[IpVersion],
    ) -> Result<Vec<IpNet>, IpamError> {
        self.run(|draft| assign::ensure_block(draft, request, versions))
            .await
    }

    /// Releases addresses. An address that is not what the request says stops it; those before it,
    /// in groups of thirty, have been released then.
    pub async fn release(&self, requests: &[ReleaseRequest]) -> Result<Released, IpamError> {
        let mut released = Released::default();
        for chunk in requests.chunks(release::CHUNK) {
            released.extend(self.run(|draft| release::release(draft, chunk)).await?);
        }
        Ok(released)
    }

    /// Releases everything assigned by a handle; with a number, only what was assigned under it.
    pub async fn release_handle(
        &self,
        handle: &str,
        sequence_number: Option<u64>,
    ) -> Result<Vec<IpAddr>, IpamError> {
        let (mut released, mut after) = (Vec::new(), None);
        loop {
            let (chunk, more) = self
                .run(|draft| release::release_handle(draft, handle, sequence_number, after))
                .await?;
            released.extend(chunk);
            if more.is_none() {
                return Ok(released);
            }
            after = more;
        }
    }

    /// Makes a node's address on a tunnel what its pools want: one of theirs, or none. The address
    /// and the node change together. With `host_encryption` WireGuard uses the node's own address.
    pub async fn ensure_tunnel_address(
        &self,
        node: &str,
        kind: TunnelKind,
        host_encryption: bool,
    ) -> Result<TunnelAddress, IpamError> {
        self.run(|draft| tunnel::ensure(draft, node, kind, host_encryption))
            .await
    }

    /// Notes who is to have the addresses of a handle next; nobody if there are no attributes.
    pub async fn set_alternate_owner(
        &self,
        handle: &str,
        expected_owner: Option<&PodName>,
        alternate: &BTreeMap<String, String>,
    ) -> Result<Vec<IpAddr>, IpamError> {
        self.run(|draft| migration::set_alternate(draft, handle, expected_owner, alternate))
            .await
    }

    /// Makes the alternate owner of a handle's addresses the owner, if it is this one, and the
    /// owner the alternate one. Doing it again changes nothing.
    pub async fn swap_owner(&self, handle: &str, target: &PodName) -> Result<Swapped, IpamError> {
        self.run(|draft| migration::swap(draft, handle, target))
            .await
    }

    /// Frees what has cooled down in a block that nobody assigns from; says whether there was any.
    pub async fn collect_block(&self, block: IpNet) -> Result<bool, IpamError> {
        self.run(|draft| release::collect_block(draft, block)).await
    }

    /// Claims every block of a net for an owner. The second list is of those that others have.
    pub async fn claim(
        &self,
        owner: &Owner,
        net: IpNet,
    ) -> Result<(Vec<IpNet>, Vec<IpNet>), IpamError> {
        let blocks = self.run(|draft| affinity::blocks_in(draft, net)).await?;
        let (mut claimed, mut taken) = (Vec::new(), Vec::new());
        for cidr in blocks {
            if self
                .run(|draft| affinity::claim(draft, owner, cidr))
                .await?
            {
                claimed.push(cidr);
            } else {
                taken.push(cidr);
            }
        }
        Ok((claimed, taken))
    }

    /// Gives up an owner's claim on one block, which goes if it is empty.
    pub async fn give_up(
        &self,
        owner: &Owner,
        block: IpNet,
        only_if_empty: bool,
    ) -> Result<GivenUp, IpamError> {
        self.run(|draft| affinity::give_up(draft, owner, block, only_if_empty))
            .await
    }

    /// Gives up all claims of an owner, and says what became of each.
    pub async fn give_up_all(
        &self,
        owner: &Owner,
        only_if_empty: bool,
    ) -> Result<Vec<(IpNet, GivenUp)>, IpamError> {
        let claims = self.run(|draft| affinity::claims_of(draft, owner)).await?;
        let mut given_up = Vec::new();
        for cidr in claims {
            given_up.push((cidr, self.give_up(owner, cidr, only_if_empty).await?));
        }
        Ok(given_up)
    }

    /// Gives up every claim in a pool, whoever's it is.
    pub async fn give_up_pool(
        &self,
        pool: IpNet,
        only_if_empty: bool,
    ) -> Result<Vec<(Owner, IpNet, GivenUp)>, IpamError> {
        let claims = self.run(|draft| affinity::all_claims(draft)).await?;
        let mut given_up = Vec::new();
        for (owner, cidr) in claims {
            if pool.contains(&cidr) {
                let what = self.give_up(&owner, cidr, only_if_empty).await?;
                given_up.push((owner, cidr, what));
            }
        }
        Ok(given_up)
    }

    /// Gives up all claims of an owner that is gone for good, and its own record.
    pub async fn remove_owner(&self, owner: &Owner) -> Result<Vec<(IpNet, GivenUp)>, IpamError> {
        let given_up = self.give_up_all(owner, false).await?;
        self.run(|draft| {
            let key = keys::host(owner);
            if draft.value(&key)?.is_some() {
                draft.delete(key);
            }
            Ok(())
        })
        .await?;
        Ok(given_up)
    }

    /// How full the pools are, and the blocks that are in none.
    pub async fn show(&self) -> Result<(Vec<PoolUse>, Vec<BlockUse>), IpamError> {
        self.run(|draft| show::usage(draft)).await
    }

    /// What an address is assigned to, if it is.
    pub async fn show_address(&self, address: IpAddr) -> Result<Option<AddressInfo>, IpamError> {
        self.run(|draft| show::address(draft, address)).await
    }

    /// What is assigned by a handle.
    pub async fn show_handle(&self, handle: &str) -> Result<Vec<AddressInfo>, IpamError> {
        self.run(|draft| show::handle(draft, handle)).await
    }

    /// Mends or releases what a check has found, if it is still so; says whether it was. What only a
    /// person can mend stays: see [`Finding::can_be_mended`].
    pub async fn mend(&self, finding: &Finding) -> Result<bool, IpamError> {
        self.run(|draft| gc::mend(draft, finding)).await
    }

    /// Everything that does not fit together.
    pub async fn check(&self) -> Result<Vec<Finding>, IpamError> {
        self.run(|draft| check::check(draft)).await
    }

    /// Everything there is, at one moment.
    pub async fn dump(&self) -> Result<Dump, IpamError> {
        self.run(|draft| documents::dump(draft)).await
    }

    /// Stores documents that [`Ipam::dump`] has made, in groups; every one is read before the first
    /// is stored. What is there already and says something else stops it, unless it is to be
    /// replaced; restoring the same again goes on where it stopped.
    pub async fn restore(
        &self,
        documents: &[serde_json::Value],
        replace: bool,
    ) -> Result<Restored, IpamError> {
        let parsed = documents::parse(documents).map_err(IpamError::BadDocuments)?;
        let mut restored = Restored::default();
        for chunk in parsed.chunks(documents::CHUNK) {
            let more = self
                .run(|draft| documents::restore(draft, chunk, replace))
                .await?;
            restored.written += more.written;
            restored.unchanged += more.unchanged;
        }
        Ok(restored)
    }

    /// What is assigned, and whether it is used.
    pub async fn report(&self) -> Result<Report, IpamError> {
        self.run(|draft| report::report(draft)).await
    }

    /// Removes a handle that nothing is assigned by, unless it was changed since it was found; says
    /// whether it was removed.
    pub async fn delete_handle(&self, handle: &report::HandleInfo) -> Result<bool, IpamError> {
        self.run(|draft| report::delete_handle(draft, handle)).await
    }

    /// Splits a pool into some of equal size, and returns their names.
    pub async fn split(&self, pool: &str, parts: u32) -> Result<Vec<String>, IpamError> {
        self.run(|draft| split::split(draft, pool, parts)).await
    }

    /// The settings.
    pub async fn config(&self) -> Result<IpamConfig, IpamError> {
        self.run(|draft| settings::config(draft)).await
    }

    /// Changes the settings, if they go together afterwards, and returns them. What is stored but
    /// does not go together can be mended so.
    pub async fn configure(
        &self,
        change: impl Fn(&mut IpamConfig) + Send + Sync,
    ) -> Result<IpamConfig, IpamError> {
        self.run(|draft| settings::configure(draft, &change)).await
    }

    /// Makes the settings that all clients go by what the resource `IPAMConfiguration` says, or
    /// takes them away if there is none; returns what holds then. For after somebody has written it.
    pub async fn adopt_configuration(&self) -> Result<IpamConfig, IpamError> {
        self.run(settings::adopt).await
    }

    fn now(&self) -> Timestamp {
        (self.clock)().timestamp()
    }

    /// Makes a decision until its transaction goes through.
    async fn run<T>(
        &self,
        decide: impl Fn(&mut Draft<'_>) -> Result<T, Stop>,
    ) -> Result<T, IpamError> {
        // What one attempt had to ask for bit by bit, the next one reads at once.
        let mut known: BTreeSet<Want> = BTreeSet::new();
        for _ in 0..ATTEMPTS {
            // One time for all of an attempt: it says where a decision looks.
            let moment = (self.clock)();
            let mut view = View::default();
            if !known.is_empty() {
                self.read(&mut view, known.iter().cloned().collect())
                    .await?;
            }
            let mut reads = 0;
            let (output, transaction) = loop {
                match try_once(&view, moment, &decide) {
                    Ok(decided) => break decided,
                    Err(Stop::Failed(error)) => return Err(error),
                    Err(Stop::Read(wants)) => {
                        reads += 1;
                        // What has been read once is known. A decision that asks again would ask
                        // for ever.
                        if reads > MAX_READS || known.len() > MAX_WANTS {
                            return Err(IpamError::TooMuchAtOnce);
                        }
                        known.extend(wants.iter().cloned());
                        self.read(&mut view, wants).await?;
                    }
                }
            };
            if transaction.writes.is_empty() || self.kv.commit(&transaction).await? {
                return Ok(output);
            }
        }
        Err(IpamError::Conflict)
    }

    async fn read(&self, view: &mut View, wants: Vec<Want>) -> Result<(), KvError> {
        let answer = self.kv.read(&wants).await?;
        view.learn(wants, answer);
        Ok(())
    }
}

fn try_once<T>(
    view: &View,
    moment: Moment,
    decide: &impl Fn(&mut Draft<'_>) -> Result<T, Stop>,
) -> Result<(T, Transaction), Stop> {
    let mut draft = Draft::new(view, moment);
    let output = decide(&mut draft)?;
    Ok((output, draft.finish()?))
}

fn system_moment() -> Moment {
    let nanoseconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as u64);
    Moment {
        nanoseconds,
        entropy: uuid::Uuid::new_v4().as_u64_pair().0,
    }
}
