//! Settings of what enforces policy on the nodes.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Spec,
    check::{Check, CheckObject, Checked},
};
use crate::Kind;

/// Settings of what enforces policy on the nodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FelixConfigurationSpec {
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Spec for FelixConfigurationSpec {
    const KIND: Kind = Kind::FelixConfiguration;
}

impl CheckObject for FelixConfigurationSpec {}

impl Check for FelixConfigurationSpec {
    fn check(&self) -> Checked {
        Ok(())
    }
}
