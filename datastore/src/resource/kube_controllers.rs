//! Settings of Calico's controllers.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Spec,
    check::{Check, CheckObject, Checked},
};
use crate::Kind;

/// Settings of Calico's controllers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KubeControllersConfigurationSpec {
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Spec for KubeControllersConfigurationSpec {
    const KIND: Kind = Kind::KubeControllersConfiguration;
}

impl CheckObject for KubeControllersConfigurationSpec {}

impl Check for KubeControllersConfigurationSpec {
    fn check(&self) -> Checked {
        Ok(())
    }
}
