//! Between the store and the decisions: what has been read, and what is to be changed.
//!
//! A decision is a function of a [`View`]. When it needs what the view does not hold, it stops with
//! [`Stop::Read`] and is run again from its beginning once that has been read. Its changes gather in
//! a [`Draft`], which becomes one transaction under the condition that nothing it was made from has
//! changed.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use serde::Serialize;

use super::{
    IpamError, keys,
    keys::Owner,
    kv::{Answer, Condition, Transaction, Want, Write},
    model::{self, AllocationBlock, BlockAffinity, Handle},
};
use crate::{Problem, time::Timestamp, value::IpVersion};

/// A time, and a number that nobody else has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Nanoseconds since 1970.
    pub nanoseconds: u64,
    /// Any number; spreads claims of blocks of one address over a pool.
    pub entropy: u64,
}

impl Moment {
    /// The time as it is stored.
    pub fn timestamp(self) -> Timestamp {
        Timestamp((self.nanoseconds / 1_000_000_000) as i64)
    }
}

/// Why a decision was not reached.
#[derive(Debug)]
pub(super) enum Stop {
    /// More has to be read first.
    Read(Vec<Want>),
    /// It cannot be.
    Failed(IpamError),
}

impl From<IpamError> for Stop {
    fn from(error: IpamError) -> Self {
        Stop::Failed(error)
    }
}

impl From<Problem> for Stop {
    fn from(problem: Problem) -> Self {
        Stop::Failed(IpamError::Unreadable(problem))
    }
}

/// What has been read.
#[derive(Debug, Default)]
pub(super) struct View {
    keys: BTreeMap<String, Option<(Vec<u8>, u64)>>,
    prefixes: BTreeMap<String, u64>,
}

impl View {
    /// Takes in what was read for these wants.
    pub(super) fn learn(&mut self, wants: Vec<Want>, answer: Answer) {
        for want in &wants {
            if let Want::Prefix(prefix) = want {
                self.keys.retain(|key, _| !key.starts_with(prefix));
                self.prefixes.insert(prefix.clone(), answer.revision);
            }
        }
        for want in wants {
            if let Want::Key(key) = want {
                self.keys.insert(key, None);
            }
        }
        for entry in answer.entries {
            self.keys
                .insert(entry.key, Some((entry.value, entry.revision)));
        }
    }

    /// What stands under a key; `Err` if that is not known.
    fn at(&self, key: &str) -> Result<Option<&(Vec<u8>, u64)>, Want> {
        match self.keys.get(key) {
            Some(entry) => Ok(entry.as_ref()),
            None if self.covers(key) => Ok(None),
            None => Err(Want::Key(key.to_owned())),
        }
    }

    fn covers(&self, key: &str) -> bool {
        self.prefixes.keys().any(|prefix| key.starts_with(prefix))
    }
}

/// Changes in the making, over what has been read.
#[derive(Debug)]
pub(super) struct Draft<'v> {
    view: &'v View,
    changed: BTreeMap<String, Option<Vec<u8>>>,
    relied: BTreeSet<String>,
    quiet: BTreeSet<String>,
    /// The time of the decision.
    pub(super) moment: Moment,
}

impl<'v> Draft<'v> {
    pub(super) fn new(view: &'v View, moment: Moment) -> Self {
        Self {
            view,
            changed: BTreeMap::new(),
            relied: BTreeSet::new(),
            quiet: BTreeSet::new(),
            moment,
        }
    }

    /// The time as it is stored.
    pub(super) fn now(&self) -> Timestamp {
        self.moment.timestamp()
    }

    /// Stops unless all of this has been read, so that it is read at once.
    pub(super) fn need(&self, wants: impl IntoIterator<Item = Want>) -> Result<(), Stop> {
        let missing: Vec<Want> = wants
            .into_iter()
            .filter(|want| match want {
                Want::Key(key) => self.view.at(key).is_err(),
                Want::Prefix(prefix) => !self.view.covers(prefix),
            })
            .collect();
        if missing.is_empty() {
            Ok(())
        } else {
            Err(Stop::Read(missing))
        }
    }

    /// The value under a key, as it will be.
    pub(super) fn value(&self, key: &str) -> Result<Option<&[u8]>, Stop> {
        if let Some(changed) = self.changed.get(key) {
            return Ok(changed.as_deref());
        }
        match self.view.at(key) {
            Ok(entry) => Ok(entry.map(|(value, _)| value.as_slice())),
            Err(want) => Err(Stop::Read(vec![want])),
        }
    }

    /// The revision of a key's last change, as it was read.
    pub(super) fn revision(&self, key: &str) -> Result<Option<u64>, Stop> {
        match self.view.at(key) {
            Ok(entry) => Ok(entry.map(|(_, revision)| *revision)),
            Err(want) => Err(Stop::Read(vec![want])),
        }
    }

    /// The keys under a prefix, as they will be, in their order.
    pub(super) fn keys_under(&self, prefix: &str) -> Result<Vec<String>, Stop> {
        self.need([Want::Prefix(prefix.to_owned())])?;
        let mut keys: BTreeSet<&String> = self
            .view
            .keys
            .range(prefix.to_owned()..)
            .take_while(|(key, _)| key.starts_with(prefix))
            .filter(|(_, entry)| entry.is_some())
            .map(|(key, _)| key)
            .collect();
        for (key, value) in &self.changed {
            if !key.starts_with(prefix) {
            } else if value.is_some() {
                keys.insert(key);
            } else {
                keys.remove(key);
            }
        }
        Ok(keys.into_iter().cloned().collect())
    }

    /// Makes the transaction depend on this key being as it was read.
    pub(super) fn rely_on(&mut self, key: &str) {
        self.relied.insert(key.to_owned());
    }

    /// Makes the transaction depend on nothing having been written under a prefix since it was read.
    pub(super) fn rely_on_quiet(&mut self, prefix: &str) {
        self.quiet.insert(prefix.to_owned());
    }

    pub(super) fn put(&mut self, key: String, value: &impl Serialize) {
        self.changed.insert(key, Some(model::encode(value)));
    }

    /// Stores what is in its form already.
    pub(super) fn put_bytes(&mut self, key: String, value: Vec<u8>) {
        self.changed.insert(key, Some(value));
    }

    pub(super) fn delete(&mut self, key: String) {
        self.changed.insert(key, None);
    }

    /// The block of this key, as stored or changed; an unreadable one is an error.
    pub(super) fn block(&self, cidr: IpNet) -> Result<Option<AllocationBlock>, Stop> {
        let key = keys::block(cidr);
        let Some(bytes) = self.value(&key)? else {
            return Ok(None);
        };
        Ok(Some(AllocationBlock::decode(&key, bytes)?).filter(|block| !block.deleted))
    }

    /// Stores a block, with the next sequence number.
    pub(super) fn put_block(&mut self, mut block: AllocationBlock) {
        block.sequence_number = block.sequence_number.wrapping_add(1);
        self.put(keys::block(block.cidr), &block);
    }

    /// Stores a block that was not there before.
    pub(super) fn put_new_block(&mut self, block: &AllocationBlock) {
        self.put(keys::block(block.cidr), block);
    }

    pub(super) fn affinity(
        &self,
        owner: &Owner,
        cidr: IpNet,
    ) -> Result<Option<BlockAffinity>, Stop> {
        let key = keys::affinity(owner, cidr);
        let Some(bytes) = self.value(&key)? else {
            return Ok(None);
        };
        Ok(Some(model::decode_affinity(&key, bytes)?))
    }

    /// The blocks of a family that an owner claims, whatever state the claims are in.
    pub(super) fn claims(&self, owner: &Owner, version: IpVersion) -> Result<Vec<IpNet>, Stop> {
        Ok(self
            .keys_under(&keys::affinities(owner, version))?
            .iter()
            .filter_map(|key| keys::parse_affinity(key))
            .map(|(_, cidr)| cidr)
            .collect())
    }

    pub(super) fn handle(&self, id: &str) -> Result<Option<Handle>, Stop> {
        let key = keys::handle(id);
        let Some(bytes) = self.value(&key)? else {
            return Ok(None);
        };
        let handle: Handle = model::decode(&key, bytes)?;
        Ok(Some(handle).filter(|handle| !handle.deleted))
    }

    /// Counts addresses of a block to or from a handle; one that has none left is removed.
    pub(super) fn count_handle(&mut self, id: &str, cidr: IpNet, change: i64) -> Result<(), Stop> {
        let was = self.handle(id)?;
        let is_there = was.is_some();
        let mut handle = was.unwrap_or_default();
        let count = handle.block.entry(cidr.to_string()).or_default();
        *count = count.saturating_add(change);
        handle.block.retain(|_, count| *count > 0);
        self.put_handle(id, &handle, is_there);
        Ok(())
    }

    pub(super) fn put_handle(&mut self, id: &str, handle: &Handle, is_there: bool) {
        if !handle.block.is_empty() {
            self.put(keys::handle(id), handle);
        } else if is_there {
            self.delete(keys::handle(id));
        }
    }

    /// How much the transaction has to do so far.
    pub(super) fn len(&self) -> usize {
        self.changed.len()
    }

    /// The transaction.
    pub(super) fn finish(mut self) -> Result<Transaction, Stop> {
        let mut transaction = Transaction::default();
        // What changes back and forth within one decision is no change.
        self.changed.retain(|key, value| match self.view.at(key) {
            Ok(entry) => entry.map(|(value, _)| value) != value.as_ref(),
            Err(_) => true,
        });
        if self.changed.is_empty() {
            return Ok(transaction);
        }
        self.relied.extend(self.changed.keys().cloned());
        for key in self.relied {
            transaction.conditions.push(match self.view.at(&key) {
                Ok(Some((_, revision))) => Condition::At(key, *revision),
                Ok(None) => Condition::Absent(key),
                Err(want) => return Err(Stop::Read(vec![want])),
            });
        }
        for prefix in self.quiet {
            match self.view.prefixes.get(&prefix) {
                Some(revision) => transaction
                    .conditions
                    .push(Condition::NothingAfter(prefix, *revision)),
                None => return Err(Stop::Read(vec![Want::Prefix(prefix)])),
            }
        }
        for (key, value) in self.changed {
            transaction.writes.push(match value {
                Some(value) => Write::Put(key, value),
                None => Write::Delete(key),
            });
        }
        if transaction.conditions.len().max(transaction.writes.len()) > Transaction::MAX_LEN {
            return Err(Stop::Failed(IpamError::TooMuchAtOnce));
        }
        Ok(transaction)
    }
}
