//! Handing a virtual machine's addresses from one pod to the next.
//!
//! While a machine moves, its addresses belong to the pod it leaves, and the pod it moves to stands
//! beside it as the alternate owner. When the machine has arrived, the two change places, in all its
//! addresses at once.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;

use super::{
    IpamError, keys,
    kv::Want,
    model::Attribute,
    view::{Draft, Stop},
};

/// A pod, as attributes name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl PodName {
    /// Whether attributes are of this pod.
    pub fn owns(&self, attributes: &BTreeMap<String, String>) -> bool {
        attributes.get("namespace") == Some(&self.namespace)
            && attributes.get("pod") == Some(&self.name)
    }
}

impl std::fmt::Display for PodName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Whose addresses they are now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swapped {
    /// They were another's.
    pub swapped: Vec<IpAddr>,
    /// They were the target's already.
    pub unchanged: Vec<IpAddr>,
}

/// Decides that the alternate owner of a handle's addresses becomes the owner.
pub(super) fn swap(draft: &mut Draft<'_>, handle: &str, target: &PodName) -> Result<Swapped, Stop> {
    let mut result = Swapped::default();
    change(draft, handle, |address, attribute| {
        if target.owns(&attribute.owner) {
            result.unchanged.push(address);
            return Ok(());
        }
        if attribute.alternate_owner.is_empty() {
            return Err(IpamError::NoAlternateOwner(address));
        }
        if !target.owns(&attribute.alternate_owner) {
            return Err(IpamError::OtherAlternateOwner {
                address,
                expected: target.to_string(),
            });
        }
        std::mem::swap(&mut attribute.owner, &mut attribute.alternate_owner);
        result.swapped.push(address);
        Ok(())
    })?;
    Ok(result)
}

/// Decides who stands beside the owner of a handle's addresses; nobody if there are no attributes.
pub(super) fn set_alternate(
    draft: &mut Draft<'_>,
    handle: &str,
    expected_owner: Option<&PodName>,
    alternate: &BTreeMap<String, String>,
) -> Result<Vec<IpAddr>, Stop> {
    let mut addresses = Vec::new();
    change(draft, handle, |address, attribute| {
        if let Some(expected) = expected_owner
            && !expected.owns(&attribute.owner)
        {
            return Err(IpamError::OtherOwner {
                address,
                expected: expected.to_string(),
            });
        }
        attribute.alternate_owner.clone_from(alternate);
        addresses.push(address);
        Ok(())
    })?;
    Ok(addresses)
}

/// Changes the attribute of every address of a handle.
fn change(
    draft: &mut Draft<'_>,
    handle: &str,
    mut change: impl FnMut(IpAddr, &mut Attribute) -> Result<(), IpamError>,
) -> Result<(), Stop> {
    let stored = draft
        .handle(handle)?
        .ok_or_else(|| IpamError::UnknownHandle(handle.to_owned()))?;
    let cidrs: Vec<IpNet> = stored
        .block
        .keys()
        .filter_map(|cidr| cidr.parse().ok())
        .collect();
    draft.need(cidrs.iter().map(|cidr| Want::Key(keys::block(*cidr))))?;
    let mut found = false;
    for cidr in cidrs {
        let Some(mut block) = draft.block(cidr)? else {
            continue;
        };
        let before = block.clone();
        for place in block.places_of_handle(handle) {
            found = true;
            if let (Some(address), Some(attribute)) =
                (block.address(place), block.attribute_of(place))
            {
                let mut attribute = attribute.clone();
                change(address, &mut attribute)?;
                block.set_attribute(place, attribute);
            }
        }
        block.drop_unused_attributes();
        if before != block {
            draft.put_block(block);
        }
    }
    if found {
        Ok(())
    } else {
        Err(IpamError::UnknownHandle(handle.to_owned()).into())
    }
}
