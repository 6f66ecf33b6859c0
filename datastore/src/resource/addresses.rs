//! Which addresses are assigned, and how.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Enabled, Spec};
use crate::{Kind, value::Cidr};

/// Addresses that are not assigned.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct IpReservationSpec {
    /// The addresses.
    #[serde(rename = "reservedCIDRs")]
    pub reserved_cidrs: Vec<Cidr>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Spec for IpReservationSpec {
    const KIND: Kind = Kind::IpReservation;
}

/// Settings of IPAM, as users write them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IpamConfigurationSpec {
    /// No address is taken from a block that is kept for another.
    #[serde(skip_serializing_if = "super::is_false")]
    pub strict_affinity: bool,
    /// Blocks are claimed when they are needed; absent means that they are.
    pub auto_allocate_blocks: Option<bool>,
    /// How many blocks of a family a host may keep; absent and 0 mean 20.
    pub max_blocks_per_host: Option<u32>,
    /// Whether virtual machines keep their addresses; absent means that they do.
    #[serde(rename = "kubeVirtVMAddressPersistence")]
    pub vm_address_persistence: Option<Enabled>,
    /// How long an address that was given back is not given again.
    pub ip_cooldown_seconds: Option<u32>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Spec for IpamConfigurationSpec {
    const KIND: Kind = Kind::IpamConfiguration;
}

impl IpamConfigurationSpec {
    /// Whether blocks are claimed when they are needed.
    pub fn claims_blocks(&self) -> bool {
        self.auto_allocate_blocks.unwrap_or(true)
    }
}
