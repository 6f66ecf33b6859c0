//! What can be done with a block: addresses are taken from it and given back.
//!
//! Free places stand in a queue: addresses are taken from its head and given back to its tail, so
//! that the one longest unused goes first. An address that was given back stays in `allocations`,
//! under an attribute that says when, until it has cooled down.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;

use super::{
    addr::{address_at, place_of},
    keys::Owner,
    model::{AllocationBlock, Attribute, clean_handle},
};
use crate::time::Timestamp;

/// The handle of the places that a Windows host keeps from each of its blocks.
pub const WINDOWS_HANDLE: &str = "windows-reserved-ipam-handle";

/// Addresses that are not given out unless somebody asks for them by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reservations(pub(super) Vec<IpNet>);

impl Reservations {
    /// The reservation of these nets.
    pub fn new(nets: impl IntoIterator<Item = IpNet>) -> Self {
        Self(nets.into_iter().map(|net| net.trunc()).collect())
    }

    /// Whether an address is reserved.
    pub fn hold(&self, address: IpAddr) -> bool {
        self.0.iter().any(|net| net.contains(&address))
    }

    /// The reserved parts of a net, apart from one another.
    pub fn within(&self, net: IpNet) -> Vec<IpNet> {
        let mut parts: Vec<IpNet> = self
            .0
            .iter()
            .filter_map(
                |reserved| match (net.contains(reserved), reserved.contains(&net)) {
                    (true, _) => Some(*reserved),
                    (false, true) => Some(net),
                    (false, false) => None,
                },
            )
            .collect();
        // What holds another sorts right before it.
        parts.sort_unstable();
        parts.dedup_by(|later, earlier| earlier.contains(&*later));
        parts
    }

    /// The reserved net that all of this net is part of.
    pub fn around(&self, net: IpNet) -> Option<IpNet> {
        self.0
            .iter()
            .find(|reserved| reserved.contains(&net))
            .copied()
    }
}

/// Places at both ends of each new block that its host keeps for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostReserved {
    /// How many at the start.
    pub start: u32,
    /// How many at the end.
    pub end: u32,
    /// The handle they are assigned by, [`WINDOWS_HANDLE`] as a rule.
    pub handle: String,
    /// What they are for.
    pub note: String,
}

/// What an address is assigned to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assignee {
    /// The handle to release it by.
    pub handle: Option<String>,
    /// Notes, such as `pod`, `namespace`, `node` and `type`.
    pub attributes: BTreeMap<String, String>,
}

impl From<&Assignee> for Attribute {
    fn from(assignee: &Assignee) -> Self {
        Self {
            handle_id: assignee.handle.clone(),
            owner: assignee.attributes.clone(),
            ..Self::default()
        }
    }
}

impl AllocationBlock {
    /// A new block whose addresses are all free, except those that the host keeps for itself.
    ///
    /// The sequence number begins at the time in nanoseconds: a block that is deleted and made anew
    /// must not repeat the numbers that clients remember.
    pub fn new(
        cidr: IpNet,
        owner: Option<&Owner>,
        reserved: Option<&HostReserved>,
        now: Timestamp,
        sequence_number: u64,
    ) -> Self {
        let mut block = Self {
            cidr: cidr.trunc(),
            affinity: owner.map(Owner::to_string),
            affinity_claim_time: owner.map(|_| now.to_string()),
            allocations: Vec::new(),
            unallocated: Vec::new(),
            attributes: Vec::new(),
            sequence_number,
            sequence_number_for_allocation: BTreeMap::new(),
            deleted: false,
            extra: serde_json::Map::new(),
        };
        let size = block.size() as u32;
        let (start, end) = reserved.map_or((0, 0), |reserved| (reserved.start, reserved.end));
        let free = start.min(size)..size.saturating_sub(end);
        block.allocations = (0..size)
            .map(|place| (!free.contains(&place)).then_some(0))
            .collect();
        block.unallocated = free.collect();
        if let Some(reserved) = reserved.filter(|_| start > 0 || end > 0) {
            block.attributes.push(Attribute {
                handle_id: Some(reserved.handle.clone()),
                owner: BTreeMap::from([("note".to_owned(), reserved.note.clone())]),
                ..Attribute::default()
            });
        }
        block
    }

    /// Takes up to `count` free addresses that are not reserved, the longest unused first.
    pub fn take(
        &mut self,
        count: usize,
        assignee: &Assignee,
        reservations: &Reservations,
    ) -> Vec<IpAddr> {
        let mut taken = Vec::new();
        let mut left = Vec::with_capacity(self.unallocated.len());
        for place in std::mem::take(&mut self.unallocated) {
            let Some(address) = self.address(place) else {
                continue;
            };
            // A place that stands in the queue though it is assigned, or stands there twice, is
            // another's mistake that must not become a second assignment.
            if self.attribute_of(place).is_some() {
                continue;
            }
            if taken.len() == count || reservations.hold(address) {
                left.push(place);
            } else {
                self.assign_place(place, assignee);
                taken.push(address);
            }
        }
        self.unallocated = left;
        taken
    }

    /// Takes one address by name, reserved or not, unless it is assigned.
    ///
    /// # Errors
    ///
    /// The attribute of its assignment; the block is unchanged.
    pub fn take_address(&mut self, address: IpAddr, assignee: &Assignee) -> Result<(), Attribute> {
        let Some(place) = self.place(address) else {
            return Err(Attribute::default());
        };
        if let Some(attribute) = self.attribute_of(place) {
            return Err(attribute.clone());
        }
        self.unallocated.retain(|free| *free != place);
        self.assign_place(place, assignee);
        Ok(())
    }

    /// Gives places back. They can be taken again once they have cooled down, and not before
    /// [`AllocationBlock::collect`] has found that.
    pub fn give_back(&mut self, places: &[u32], now: Timestamp) {
        let mut released = None;
        for place in places {
            if let Some(slot) = self.allocations.get_mut(*place as usize)
                && slot.is_some()
            {
                *slot = Some(*released.get_or_insert_with(|| {
                    self.attributes.push(Attribute {
                        released_at: Some(now.to_string()),
                        ..Attribute::default()
                    });
                    self.attributes.len() as u32 - 1
                }));
            }
        }
    }

    /// Frees what has cooled down, and drops the attributes that nothing has any more. Says whether
    /// anything changed.
    pub fn collect(&mut self, now: Timestamp, cooldown_seconds: u32) -> bool {
        let cold: Vec<bool> = self
            .attributes
            .iter()
            .map(|attribute| {
                attribute.released_at.as_deref().is_some_and(|text| {
                    let released: Timestamp = text.parse().unwrap_or_default();
                    released.seconds_until(now) >= u64::from(cooldown_seconds)
                })
            })
            .collect();
        let mut changed = false;
        for place in 0..self.allocations.len() {
            if self.allocations[place].is_some_and(|at| cold[at as usize]) {
                self.allocations[place] = None;
                self.unallocated.push(place as u32);
                self.sequence_number_for_allocation
                    .remove(&place.to_string());
                changed = true;
            }
        }
        self.drop_unused_attributes() || changed
    }

    /// Drops the attributes that nothing has any more. Says whether there were any.
    pub fn drop_unused_attributes(&mut self) -> bool {
        let mut used = vec![false; self.attributes.len()];
        for at in self.allocations.iter().flatten() {
            used[*at as usize] = true;
        }
        if used.iter().all(|used| *used) {
            return false;
        }
        let mut kept = 0;
        let renumbered: Vec<u32> = used
            .iter()
            .map(|used| {
                let number = kept;
                kept += u32::from(*used);
                number
            })
            .collect();
        let mut used = used.into_iter();
        self.attributes.retain(|_| used.next().unwrap_or(true));
        for at in self.allocations.iter_mut().flatten() {
            *at = renumbered[*at as usize];
        }
        true
    }

    /// Lists every free place once: those that are listed in their order, then those that were lost.
    pub fn mend_free_list(&mut self) {
        let mut listed = vec![false; self.size()];
        let mut places = std::mem::take(&mut self.unallocated);
        places.extend(0..self.size() as u32);
        places.retain(|place| {
            let is_free = self.attribute_of(*place).is_none();
            is_free && !std::mem::replace(&mut listed[*place as usize], true)
        });
        self.unallocated = places;
    }

    /// The addresses that can be taken unasked.
    pub fn free(&self, reservations: &Reservations) -> usize {
        self.unallocated
            .iter()
            .filter(|place| self.attribute_of(**place).is_none())
            .filter_map(|place| self.address(*place))
            .filter(|address| !reservations.hold(*address))
            .count()
    }

    /// Whether nothing is assigned but what a host keeps for itself.
    pub fn is_empty(&self) -> bool {
        self.attributes_in_use()
            .all(|(_, attribute)| is_kept_by_host(attribute))
    }

    /// The assigned places, those that cool down among them, with their attributes.
    pub fn attributes_in_use(&self) -> impl Iterator<Item = (u32, &Attribute)> {
        (0..self.allocations.len() as u32)
            .filter_map(|place| Some((place, self.attribute_of(place)?)))
    }

    /// The places assigned by a handle.
    pub fn places_of_handle(&self, handle: &str) -> Vec<u32> {
        self.attributes_in_use()
            .filter(|(_, attribute)| attribute.handle() == Some(handle))
            .map(|(place, _)| place)
            .collect()
    }

    /// How many addresses each handle has.
    pub fn handle_counts(&self) -> BTreeMap<&str, i64> {
        let mut counts = BTreeMap::new();
        for (_, attribute) in self.attributes_in_use() {
            if let Some(handle) = attribute.handle() {
                *counts.entry(handle).or_default() += 1;
            }
        }
        counts
    }

    /// The attribute of a place, if it is assigned.
    pub fn attribute_of(&self, place: u32) -> Option<&Attribute> {
        let at = (*self.allocations.get(place as usize)?)?;
        self.attributes.get(at as usize)
    }

    /// The block's number at the time a place was assigned; 0 if it is not known.
    pub fn sequence_of(&self, place: u32) -> u64 {
        self.sequence_number_for_allocation
            .get(&place.to_string())
            .copied()
            .unwrap_or(0)
    }

    /// The address at a place.
    pub fn address(&self, place: u32) -> Option<IpAddr> {
        address_at(self.cidr, u128::from(place))
    }

    /// The place of an address.
    pub fn place(&self, address: IpAddr) -> Option<u32> {
        place_of(self.cidr, address).map(|place| place as u32)
    }

    /// Makes an assigned address another's without giving it back in between. Says whether it was
    /// not that one's before.
    pub fn assign_to(&mut self, address: IpAddr, assignee: &Assignee) -> bool {
        let attribute = Attribute::from(assignee);
        let Some(place) = self.place(address) else {
            return false;
        };
        if self.attribute_of(place).is_none_or(|was| *was == attribute) {
            return false;
        }
        self.set_attribute(place, attribute);
        self.drop_unused_attributes();
        true
    }

    /// Gives an assigned place an attribute, shared with those that have the same.
    pub(super) fn set_attribute(&mut self, place: u32, attribute: Attribute) {
        let at = self
            .attributes
            .iter()
            .position(|known| *known == attribute)
            .unwrap_or_else(|| {
                self.attributes.push(attribute);
                self.attributes.len() - 1
            });
        self.allocations[place as usize] = Some(at as u32);
    }

    fn assign_place(&mut self, place: u32, assignee: &Assignee) {
        self.set_attribute(place, Attribute::from(assignee));
        self.sequence_number_for_allocation
            .insert(place.to_string(), self.sequence_number);
    }
}

impl Attribute {
    /// The handle, cleaned; `None` for an address that cools down.
    pub fn handle(&self) -> Option<&str> {
        self.handle_id
            .as_deref()
            .map(clean_handle)
            .filter(|handle| !handle.is_empty())
    }

    /// Whether the address was given back and cools down.
    pub fn is_released(&self) -> bool {
        self.released_at.is_some()
    }
}

fn is_kept_by_host(attribute: &Attribute) -> bool {
    attribute
        .handle_id
        .as_deref()
        .is_some_and(|handle| handle.eq_ignore_ascii_case(WINDOWS_HANDLE))
}
