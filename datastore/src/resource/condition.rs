//! Conditions of objects, as Kubernetes has them in every `status`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What others say of an object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConditionsStatus {
    /// The conditions, by type.
    pub conditions: Vec<Condition>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Whether something holds of an object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What may hold.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it does.
    pub status: ConditionStatus,
    /// The generation of the object that was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When that changed last, RFC 3339.
    pub last_transition_time: String,
    /// Why, in one word.
    pub reason: String,
    /// Why, for a reader.
    pub message: String,
}

super::words! {
    /// Whether a condition holds.
    pub enum ConditionStatus {
        /// It does.
        True,
        /// It does not.
        False,
        /// Nobody knows.
        Unknown,
    }
}

impl super::IpPool {
    /// What others say of the pool.
    pub fn status(&self) -> Option<ConditionsStatus> {
        super::status_of(&self.extra)
    }
}

impl super::Tier {
    /// What others say of the tier.
    pub fn status(&self) -> Option<ConditionsStatus> {
        super::status_of(&self.extra)
    }
}
