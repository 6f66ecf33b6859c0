//! Collecting what nobody uses any more, and mending what was left half-done.
//!
//! A [`Collector`] takes what a check finds and waits: an address without an endpoint may be one that
//! is just being set up, and a claim without a block one that another client is about to make. What
//! is found again, the very same, when the time is up is released or mended, each by a transaction of
//! its own that finds it so still, or does nothing.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use serde::Serialize;

use super::{
    Finding, GivenUp, Ipam, IpamError, Leak,
    affinity::give_up,
    assign::confirm,
    keys::{self, Owner},
    kv::{Kv, Want},
    model::AffinityState,
    pools::resource_key,
    release::{self, ReleaseRequest},
    settings,
    view::{Draft, Stop},
};
use crate::{Kind, time::Timestamp};

/// Waits for what is found to become old enough, and collects it then.
#[derive(Clone, Debug)]
pub struct Collector {
    grace: u64,
    settle: u64,
    seen: BTreeMap<Finding, Timestamp>,
}

/// What one round came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Collected {
    /// These were released.
    pub released: Vec<IpAddr>,
    /// These were mended.
    pub mended: Vec<Finding>,
    /// These are not old enough yet.
    pub waiting: Vec<Finding>,
    /// These are for a person to look at.
    pub left: Vec<Finding>,
}

impl Collector {
    /// A collector for a daemon: it collects what it has seen for so many seconds.
    pub fn new(grace_seconds: u64) -> Self {
        Self {
            grace: grace_seconds,
            settle: grace_seconds,
            seen: BTreeMap::new(),
        }
    }

    /// A collector for one occasion: it believes addresses that say when they were assigned, and
    /// looks twice, so many seconds apart.
    pub fn once(grace_seconds: u64, settle_seconds: u64) -> Self {
        Self {
            grace: grace_seconds,
            settle: settle_seconds.min(grace_seconds),
            seen: BTreeMap::new(),
        }
    }

    /// Looks, and collects what is old enough, in batches. Whatever stops it, the next round goes
    /// on.
    pub async fn round<K: Kv>(&mut self, ipam: &Ipam<K>) -> Result<Collected, IpamError> {
        let found = ipam.check().await?;
        let now = ipam.now();
        let (mut collected, due) = self.sort(found, now);
        let (leaks, others): (Vec<Finding>, Vec<Finding>) = due
            .into_iter()
            .partition(|finding| matches!(finding, Finding::Leaked { .. }));
        for batch in leaks.chunks(release::CHUNK) {
            let requests: Vec<ReleaseRequest> = batch.iter().filter_map(request).collect();
            match ipam.release(&requests).await {
                Ok(released) => collected.released.extend(released.released),
                // One of them is another's by now. The others are still to be released.
                Err(IpamError::BadSequenceNumber { .. } | IpamError::BadHandle { .. }) => {
                    for request in requests {
                        match ipam.release(&[request]).await {
                            Ok(released) => collected.released.extend(released.released),
                            Err(
                                IpamError::BadSequenceNumber { .. } | IpamError::BadHandle { .. },
                            ) => {}
                            Err(error) => return Err(error),
                        }
                    }
                }
                Err(error) => return Err(error),
            }
        }
        for finding in others {
            match ipam.mend(&finding).await {
                Ok(true) => collected.mended.push(finding),
                Ok(false) => {}
                // What cannot be read is found by itself, and must not keep the rest from being
                // mended.
                Err(IpamError::Unreadable(_)) => collected.left.push(finding),
                Err(error) => return Err(error),
            }
        }
        // The last address of a host that is gone leaves a block that nobody needs.
        if !collected.released.is_empty() {
            for finding in ipam.check().await? {
                if matches!(finding, Finding::Orphaned { .. }) && ipam.mend(&finding).await? {
                    collected.mended.push(finding);
                }
            }
        }
        Ok(collected)
    }

    /// What is due, and what is not.
    fn sort(&mut self, found: Vec<Finding>, now: Timestamp) -> (Collected, Vec<Finding>) {
        let mut collected = Collected::default();
        let mut due = Vec::new();
        let mut seen = BTreeMap::new();
        for finding in found {
            if !finding.can_be_mended() {
                collected.left.push(finding);
                continue;
            }
            let since = self.seen.get(&finding).copied().unwrap_or(now);
            let seen_for = since.seconds_until(now);
            let is_due = seen_for >= self.settle
                && if let Finding::Leaked { assigned_at, .. } = &finding {
                    let age = assigned_at
                        .as_deref()
                        .and_then(assigned)
                        .map_or(seen_for, |at| at.seconds_until(now));
                    age.max(seen_for) >= self.grace
                } else {
                    true
                };
            seen.insert(finding.clone(), since);
            if is_due {
                due.push(finding);
            } else {
                collected.waiting.push(finding);
            }
        }
        self.seen = seen;
        (collected, due)
    }
}

impl Finding {
    /// Whether it can be mended, or released, without asking anybody.
    pub fn can_be_mended(&self) -> bool {
        match self {
            Finding::Leaked { leak, .. } => match leak {
                Leak::NoNode | Leak::NoEndpoint => true,
                Leak::Unknown => false,
            },
            Finding::FreeListWrong { .. }
            | Finding::Unclaimed { .. }
            | Finding::StaleClaim { .. }
            | Finding::HandleCount { .. }
            | Finding::Orphaned { .. } => true,
            Finding::Unreadable { .. }
            | Finding::Overlap { .. }
            | Finding::OutsidePools { .. }
            | Finding::NotAssigned { .. }
            | Finding::UsedTwice { .. } => false,
        }
    }
}

/// Decides to mend what was found, if it is still so.
pub(super) fn mend(draft: &mut Draft<'_>, finding: &Finding) -> Result<bool, Stop> {
    match finding {
        Finding::Leaked { .. } => {
            let Some(request) = request(finding) else {
                return Ok(false);
            };
            Ok(!release::release(draft, &[request])?.released.is_empty())
        }
        Finding::FreeListWrong { block, .. } => mend_free_list(draft, *block),
        Finding::Unclaimed { block, affinity } => match Owner::parse(affinity) {
            Some(owner) => mend_claim(draft, &owner, *block),
            None => Ok(false),
        },
        Finding::StaleClaim { block, owner, .. } => match Owner::parse(owner) {
            Some(owner) => mend_claim(draft, &owner, *block),
            None => Ok(false),
        },
        Finding::HandleCount { handle, block, .. } => mend_handle(draft, handle, block),
        Finding::Orphaned { block, owner } => {
            let Some(owner) = Owner::parse(owner) else {
                return Ok(false);
            };
            let node = resource_key(Kind::Node, owner.name()).path();
            draft.need([Want::Key(node.clone())])?;
            if draft.value(&node)?.is_some() {
                return Ok(false);
            }
            draft.rely_on(&node);
            Ok(matches!(
                give_up(draft, &owner, *block, true)?,
                GivenUp::BlockDeleted | GivenUp::ClaimOnly
            ))
        }
        Finding::Unreadable { .. }
        | Finding::Overlap { .. }
        | Finding::OutsidePools { .. }
        | Finding::NotAssigned { .. }
        | Finding::UsedTwice { .. } => Ok(false),
    }
}

/// Makes a claim and its block agree: the block says whose it is, unless its owner was about to
/// give it up.
fn mend_claim(draft: &mut Draft<'_>, owner: &Owner, cidr: IpNet) -> Result<bool, Stop> {
    let affinity = keys::affinity(owner, cidr);
    draft.need(
        settings::wants()
            .into_iter()
            .chain([Want::Key(keys::block(cidr)), Want::Key(affinity.clone())]),
    )?;
    let claim = draft.affinity(owner, cidr)?;
    let is_own = draft
        .block(cidr)?
        .is_some_and(|block| block.owner().as_ref() == Some(owner));
    match claim {
        Some(claim) if is_own => match claim.state {
            AffinityState::PendingDeletion => {
                give_up(draft, owner, cidr, false)?;
                Ok(true)
            }
            AffinityState::Confirmed if !claim.deleted => Ok(false),
            AffinityState::Confirmed | AffinityState::Pending => {
                confirm(draft, owner, cidr)?;
                Ok(true)
            }
        },
        Some(_) => {
            draft.rely_on(&keys::block(cidr));
            draft.delete(affinity);
            Ok(true)
        }
        None if is_own => {
            confirm(draft, owner, cidr)?;
            Ok(true)
        }
        None => Ok(false),
    }
}

/// Makes a handle count what a block says.
fn mend_handle(draft: &mut Draft<'_>, handle: &str, block: &str) -> Result<bool, Stop> {
    let cidr: Option<IpNet> = block.parse().ok();
    draft.need([Want::Key(keys::handle(handle))])?;
    let stored = draft.handle(handle)?;
    let counted = stored
        .as_ref()
        .and_then(|stored| stored.block.get(block).copied())
        .unwrap_or(0);
    let assigned = match cidr {
        Some(cidr) => {
            draft.need([Want::Key(keys::block(cidr))])?;
            draft.rely_on(&keys::block(cidr));
            draft
                .block(cidr)?
                .map_or(0, |block| block.places_of_handle(handle).len() as i64)
        }
        None => 0,
    };
    if counted == assigned {
        return Ok(false);
    }
    let is_there = stored.is_some();
    let mut stored = stored.unwrap_or_default();
    stored.block.insert(block.to_owned(), assigned);
    stored.block.retain(|_, count| *count > 0);
    draft.put_handle(handle, &stored, is_there);
    Ok(true)
}

/// Lists every free place once, in the order in which they stood.
fn mend_free_list(draft: &mut Draft<'_>, cidr: IpNet) -> Result<bool, Stop> {
    draft.need([Want::Key(keys::block(cidr))])?;
    let Some(mut block) = draft.block(cidr)? else {
        return Ok(false);
    };
    let before = block.unallocated.clone();
    block.mend_free_list();
    if block.unallocated == before {
        return Ok(false);
    }
    draft.put_block(block);
    Ok(true)
}

/// When an address was assigned, as Calico's CNI plugin notes it (`2026-11-22 01:17:52 +0000 UTC`)
/// or as RFC 3339 has it.
fn assigned(text: &str) -> Option<Timestamp> {
    text.parse().ok().or_else(|| {
        let mut parts = text.split(' ');
        let (date, time) = (parts.next()?, parts.next()?);
        let zone = parts.next().unwrap_or("+0000");
        let (hours, minutes) = zone.split_at_checked(3)?;
        format!("{date}T{time}{hours}:{minutes}").parse().ok()
    })
}

fn request(finding: &Finding) -> Option<ReleaseRequest> {
    let Finding::Leaked {
        address,
        handle,
        sequence_number,
        ..
    } = finding
    else {
        return None;
    };
    Some(ReleaseRequest {
        address: *address,
        handle: handle.clone(),
        sequence_number: Some(*sequence_number),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_calicos_plugin_notes_them() {
        for text in [
            "2026-11-22 01:17:52.5 +0000 UTC",
            "2026-11-22 03:17:52 +0200 EET",
            "2026-11-22T01:17:52Z",
        ] {
            assert_eq!(assigned(text), Some(Timestamp(1_795_310_272)), "{text}");
        }
        for text in ["", "yesterday", "2026-11-22 01:17:52 +0"] {
            assert_eq!(assigned(text), None, "{text}");
        }
    }
}
