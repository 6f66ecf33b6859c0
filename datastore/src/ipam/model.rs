//! The values of IPAM as Calico stores them: JSON to types and back, with every unknown field kept.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::{
    addr::version,
    keys::{Owner, parse_block},
};
pub use crate::resource::{AffinityState, BlockAffinity};
use crate::{Problem, resource::MAX_VALUE_LEN, time::Timestamp, value::IpVersion};

/// A block of addresses and what they are assigned to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AllocationBlock {
    /// The addresses.
    pub cidr: IpNet,
    /// Who it is kept for, as `host:NAME` or `virtual:NAME`; `null` for a block that nobody keeps.
    #[serde(default)]
    pub affinity: Option<String>,
    /// When it was claimed; absent in blocks from before this was written.
    #[serde(
        default,
        rename = "affinity_claim_time",
        skip_serializing_if = "Option::is_none"
    )]
    pub affinity_claim_time: Option<String>,
    /// For each address the number of its attribute, or nothing if it is free.
    #[serde(default, deserialize_with = "null_is_default")]
    pub allocations: Vec<Option<u32>>,
    /// The places of the free addresses; the next one to give is the first, one given back goes last.
    #[serde(default, deserialize_with = "null_is_default")]
    pub unallocated: Vec<u32>,
    /// What the assigned addresses are assigned to.
    #[serde(default, deserialize_with = "null_is_default")]
    pub attributes: Vec<Attribute>,
    /// Grows with every write of the block.
    #[serde(default)]
    pub sequence_number: u64,
    /// For each assigned place the block's number at the time of the assignment.
    #[serde(default, deserialize_with = "null_is_default")]
    pub sequence_number_for_allocation: BTreeMap<String, u64>,
    /// The block is about to go and must be taken for gone.
    #[serde(default)]
    pub deleted: bool,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// What addresses are assigned to; addresses assigned alike share one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Attribute {
    /// The handle they are released by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handle_id: Option<String>,
    /// Notes of the owner, such as `pod`, `namespace`, `node` and `type`.
    #[serde(
        default,
        rename = "secondary",
        deserialize_with = "null_is_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub owner: BTreeMap<String, String>,
    /// The notes of the one who is to have the address next: the target of a migration.
    #[serde(
        default,
        rename = "alternateOwnerAttrs",
        deserialize_with = "null_is_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub alternate_owner: BTreeMap<String, String>,
    /// When they were given back; they cool down since.
    #[serde(
        default,
        rename = "releasedAt",
        skip_serializing_if = "Option::is_none"
    )]
    pub released_at: Option<String>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// How many addresses of which blocks are assigned by one handle.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Handle {
    /// The count for each block.
    #[serde(default, deserialize_with = "null_is_default")]
    pub block: BTreeMap<String, i64>,
    /// The handle is about to go and must be taken for gone.
    #[serde(default)]
    pub deleted: bool,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The settings of all IPAM.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IpamConfig {
    /// No address is taken from a block that is kept for another.
    #[serde(default)]
    pub strict_affinity: bool,
    /// Blocks are claimed when they are needed.
    #[serde(default)]
    pub auto_allocate_blocks: bool,
    /// How many blocks of a family a host may keep; 0 means [`DEFAULT_MAX_BLOCKS`].
    #[serde(default, rename = "maxBlocksPerHost")]
    pub max_blocks_per_host: u32,
    /// Whether virtual machines keep their addresses; absent means that they do.
    #[serde(
        default,
        rename = "kubeVirtVMAddressPersistence",
        skip_serializing_if = "Option::is_none"
    )]
    pub vm_address_persistence: Option<String>,
    /// How long an address that was given back is not given again.
    #[serde(default, rename = "ipCooldownSeconds")]
    pub ip_cooldown_seconds: u32,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// How many blocks of a family a host may keep when nobody says.
pub const DEFAULT_MAX_BLOCKS: u32 = 20;
/// The longest cooldown, in seconds.
pub const MAX_COOLDOWN_SECONDS: u32 = 1_200;
/// The highest limit of blocks that can be set.
pub const MAX_MAX_BLOCKS: u32 = 1_000_000;
/// The bits of a place in the largest block.
const MAX_BLOCK_BITS: u8 = 12;

/// What holds when nothing is stored.
impl Default for IpamConfig {
    fn default() -> Self {
        Self {
            strict_affinity: false,
            auto_allocate_blocks: true,
            max_blocks_per_host: 0,
            vm_address_persistence: None,
            ip_cooldown_seconds: 0,
            extra: Map::new(),
        }
    }
}

impl IpamConfig {
    /// The settings stored here, if they go together.
    pub fn decode(key: &str, bytes: &[u8]) -> Result<Self, Problem> {
        let config: Self = decode(key, bytes)?;
        config.check()?;
        Ok(config)
    }

    /// Whether the settings go together.
    pub fn check(&self) -> Result<(), Problem> {
        let problem = |field: &str, reason: &str| Err(Problem::new("IPAMConfig", field, reason));
        if !self.strict_affinity && !self.auto_allocate_blocks {
            return problem(
                "auto_allocate_blocks",
                "can be off with strict_affinity only",
            );
        }
        if !self.strict_affinity && self.max_blocks_per_host > 0 {
            return problem("maxBlocksPerHost", "can be set with strict_affinity only");
        }
        if self.max_blocks_per_host > MAX_MAX_BLOCKS {
            return problem("maxBlocksPerHost", "is more than 1000000");
        }
        if self.ip_cooldown_seconds > MAX_COOLDOWN_SECONDS {
            return problem("ipCooldownSeconds", "is more than 1200");
        }
        if self
            .vm_address_persistence
            .as_deref()
            .is_some_and(|text| !["", "Enabled", "Disabled"].contains(&text))
        {
            return problem(
                "kubeVirtVMAddressPersistence",
                "is neither Enabled nor Disabled",
            );
        }
        Ok(())
    }
}

impl AllocationBlock {
    /// The block stored here. What it returns can be indexed by its own numbers: there is one
    /// allocation for each address, and an attribute for each allocation.
    pub fn decode(key: &str, bytes: &[u8]) -> Result<Self, Problem> {
        let mut block: Self = decode(key, bytes)?;
        block.adopt_host_affinity();
        let problem = |field: &str, reason: String| Err(Problem::new(key, field, reason));
        block.cidr = block.cidr.trunc();
        if parse_block(key) != Some(block.cidr) {
            return problem("cidr", format!("{} is not the key's", block.cidr));
        }
        if !is_block_len(version(block.cidr), block.cidr.prefix_len()) {
            return problem("cidr", format!("{} is no size of a block", block.cidr));
        }
        if block.allocations.len() != block.size() {
            let reason = format!("are {}, not {}", block.allocations.len(), block.size());
            return problem("allocations", reason);
        }
        if let Some(place) = block
            .allocations
            .iter()
            .position(|attribute| attribute.is_some_and(|at| at as usize >= block.attributes.len()))
        {
            let reason = "names an attribute that is not there".to_owned();
            return problem(&format!("allocations[{place}]"), reason);
        }
        if let Some(at) = block
            .unallocated
            .iter()
            .position(|place| *place as usize >= block.size())
        {
            let reason = "is no place in the block".to_owned();
            return problem(&format!("unallocated[{at}]"), reason);
        }
        Ok(block)
    }

    /// Old clients wrote who a block is kept for as a host's bare name.
    fn adopt_host_affinity(&mut self) {
        if self.affinity.is_none()
            && let Some(Value::String(host)) = self.extra.remove("hostAffinity")
        {
            self.affinity = Some(format!("host:{host}"));
        }
    }

    /// How many addresses it has.
    pub fn size(&self) -> usize {
        1 << (self.cidr.max_prefix_len() - self.cidr.prefix_len()).min(MAX_BLOCK_BITS)
    }

    /// Who it is kept for.
    pub fn owner(&self) -> Option<Owner> {
        Owner::parse(self.affinity.as_deref()?)
    }

    /// When it was claimed; the beginning of time if it does not say.
    pub fn claimed_at(&self) -> Timestamp {
        self.affinity_claim_time
            .as_deref()
            .and_then(|text| text.parse().ok())
            .unwrap_or_default()
    }
}

/// Whether blocks of this prefix length can be.
pub fn is_block_len(version: IpVersion, len: u8) -> bool {
    let max = match version {
        IpVersion::V4 => 32,
        IpVersion::V6 => 128,
    };
    (max - MAX_BLOCK_BITS..=max).contains(&len)
}

/// The handle's id without what a migration from other IPAM once left behind it.
pub fn clean_handle(id: &str) -> &str {
    id.split('\r').next().unwrap_or(id)
}

/// An affinity; one from before there were states is confirmed and has no value at all.
pub fn decode_affinity(key: &str, bytes: &[u8]) -> Result<BlockAffinity, Problem> {
    decode(key, if bytes.is_empty() { b"{}" } else { bytes })
}

/// The type that JSON of bounded size under a key stands for.
pub(super) fn decode<T: DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T, Problem> {
    if bytes.len() > MAX_VALUE_LEN {
        let reason = format!("is larger than {MAX_VALUE_LEN} bytes");
        return Err(Problem::new(key, "", reason));
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    serde_path_to_error::deserialize(&mut reader)
        .map_err(|error| {
            let path = error.path().to_string();
            let field = if path == "." { String::new() } else { path };
            Problem::new(key, field, error.into_inner().to_string())
        })
        .and_then(|value| match reader.end() {
            Ok(()) => Ok(value),
            Err(error) => Err(Problem::new(key, "", error.to_string())),
        })
}

/// The bytes as they are stored.
pub(super) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("all keys are text, and writing to memory does not fail")
}

/// Go writes a list or a map that was never made as null.
fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
