//! Workloads on their way between hosts.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Spec;
use crate::{Kind, selector::Selector, value::absent_if_empty};

/// A workload on its way to another host: where it is, and where it will be. Of each, either one
/// endpoint is named or all of a workload.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LiveMigrationSpec {
    /// Where it is.
    pub source: Option<MigrationSource>,
    /// Where it will be.
    pub target: Option<MigrationTarget>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Spec for LiveMigrationSpec {
    const KIND: Kind = Kind::LiveMigration;
}

/// Where a workload is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MigrationSource {
    /// All its endpoints.
    pub workload: Option<WorkloadIdentifier>,
    /// One of its endpoints.
    pub workload_endpoint: Option<WorkloadEndpointIdentifier>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Where a workload will be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MigrationTarget {
    /// Its endpoints there, by their labels.
    #[serde(deserialize_with = "absent_if_empty")]
    pub selector: Option<Selector>,
    /// One of its endpoints there.
    pub workload_endpoint: Option<WorkloadEndpointIdentifier>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A workload on a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkloadIdentifier {
    /// The host.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    /// Who made the workload.
    #[serde(rename = "orchestratorID", skip_serializing_if = "String::is_empty")]
    pub orchestrator_id: String,
    /// The workload, with its namespace before it.
    #[serde(rename = "workloadID", skip_serializing_if = "String::is_empty")]
    pub workload_id: String,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// An endpoint of a workload on a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkloadEndpointIdentifier {
    /// The host.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    /// Who made the workload.
    #[serde(rename = "orchestratorID", skip_serializing_if = "String::is_empty")]
    pub orchestrator_id: String,
    /// The workload, with its namespace before it.
    #[serde(rename = "workloadID", skip_serializing_if = "String::is_empty")]
    pub workload_id: String,
    /// The endpoint among those of the workload.
    #[serde(rename = "endpointID", skip_serializing_if = "String::is_empty")]
    pub endpoint_id: String,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}
