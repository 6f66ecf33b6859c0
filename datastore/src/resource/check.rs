//! The rules between fields, and the bounds of single ones that their types do not hold.

use super::{
    BgpConfiguration, BgpPeer, GlobalNetworkPolicy, GlobalNetworkSet, IpPool, NetworkPolicy,
    NetworkSet, Node, Profile, Tier, WorkloadEndpoint,
};

/// What is wrong with a field; the path is relative to what was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The path of the field.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Fault {
    pub(super) fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            reason: reason.into(),
        }
    }
}

/// An object that has rules beyond the types of its fields.
pub(super) trait Check {
    /// The first fault there is.
    fn check(&self) -> Result<(), Fault>;
}

macro_rules! unchecked { ($($t:ty),*) => { $(impl Check for $t { fn check(&self) -> Result<(), Fault> { Ok(()) } })* } }
unchecked!(
    BgpConfiguration,
    BgpPeer,
    GlobalNetworkPolicy,
    GlobalNetworkSet,
    IpPool,
    NetworkPolicy,
    NetworkSet,
    Node,
    Profile,
    Tier,
    WorkloadEndpoint
);
