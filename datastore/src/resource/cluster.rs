//! The cluster as a whole.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Spec;
use crate::Kind;

/// The cluster as a whole; there is one, named `default`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterInformationSpec {
    /// The release of Calico that set the cluster up last.
    pub calico_version: Option<String>,
    /// Tells this cluster from every other.
    #[serde(rename = "clusterGUID")]
    pub cluster_guid: Option<String>,
    /// What the cluster is made of, words with commas between them.
    pub cluster_type: Option<String>,
    /// Whether the store may be relied on; it is not while it is moved to another.
    pub datastore_ready: Option<bool>,
    /// The edition of Calico.
    pub variant: Option<String>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Spec for ClusterInformationSpec {
    const KIND: Kind = Kind::ClusterInformation;
}
