//! Reports: what is assigned and whether it is used, in a form that can be kept. An address that two
//! reports of different times have as unused, under one number, is leaked and not just being set up.
//! Their shape is that of `calicoctl ipam check`.

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Finding, IpamError, ReleaseRequest, WINDOWS_HANDLE,
    check::{check, everything, read_blocks, users},
    keys::{self, Owner},
    kv::Want,
    pools::resource_key,
    view::{Draft, Stop},
};
use crate::Kind;

/// What is assigned, and to whom.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The release that made the report.
    pub version: String,
    /// The cluster.
    #[serde(rename = "clusterGUID", default)]
    pub cluster_guid: String,
    /// Whether clients were told to leave the store alone.
    #[serde(default)]
    pub datastore_locked: bool,
    /// The revision of the cluster's own record.
    #[serde(rename = "clusterInformationRevision", default)]
    pub cluster_revision: String,
    /// What the cluster consists of.
    #[serde(default)]
    pub cluster_type: String,
    /// Everything that is assigned, by address.
    #[serde(default)]
    pub allocations: BTreeMap<String, Vec<Allocation>>,
    /// Handles that no address is assigned by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leaked_handles: Vec<HandleInfo>,
    /// Everything that does not fit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Value>,
}

/// An assigned address.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Allocation {
    /// The address.
    pub ip: String,
    /// The handle it is assigned by.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub handle: String,
    /// The number it was assigned under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence_number: Option<u64>,
    /// The pod that it was assigned to.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pod: String,
    /// The pod's namespace.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// The node that has it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub node: String,
    /// What it is for, if not for a workload.
    #[serde(default, rename = "type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// When it was assigned.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub creation_timestamp: String,
    /// Whether an endpoint or a node has it.
    pub in_use: bool,
    /// Whether its block is kept for another than its node.
    #[serde(default, skip_serializing_if = "is_false")]
    pub borrowed: bool,
    /// Who has it.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub owners: Vec<String>,
}

/// A handle as it was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HandleInfo {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Its uid; those in etcd have none.
    #[serde(default, rename = "UID", skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// The revision of its last change.
    pub revision: String,
}

/// What some reports agree on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Agreed {
    /// Addresses that are not used.
    pub addresses: Vec<ReleaseRequest>,
    /// Handles that no address is assigned by.
    pub handles: Vec<HandleInfo>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_false(flag: &bool) -> bool {
    !flag
}

fn null_is_empty<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Decides nothing: the report of this moment.
pub(super) fn report(draft: &Draft<'_>) -> Result<Report, Stop> {
    let cluster = resource_key(Kind::ClusterInformation, "default").path();
    draft.need(everything().into_iter().chain([Want::Key(cluster.clone())]))?;
    let mut report = Report {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..Report::default()
    };
    if let Some(bytes) = draft.value(&cluster)? {
        let value: Value = serde_json::from_slice(bytes).unwrap_or_default();
        let text = |field: &str| value["spec"][field].as_str().unwrap_or_default().to_owned();
        report.cluster_guid = text("clusterGUID");
        report.cluster_type = text("clusterType");
        report.datastore_locked = value["spec"]["datastoreReady"] == Value::Bool(false);
        let revision = draft.revision(&cluster)?.unwrap_or(0);
        report.cluster_revision = revision.to_string();
    }
    let findings = check(draft)?;
    report.findings = findings
        .iter()
        .filter_map(|finding| serde_json::to_value(finding).ok())
        .collect();
    let mut ignored: Vec<Finding> = Vec::new();
    let users = users(draft, &mut ignored)?;
    let mut handles_in_use = std::collections::BTreeSet::new();
    for block in read_blocks(draft, &mut ignored)?.values() {
        let owner = match block.owner() {
            Some(Owner::Host(host)) => host,
            Some(Owner::Virtual(_)) | None => String::new(),
        };
        for (place, attribute) in block.attributes_in_use() {
            let Some(address) = block.address(place) else {
                continue;
            };
            if let Some(handle) = attribute.handle() {
                handles_in_use.insert(handle.to_owned());
            }
            // An address that cools down is nobody's, and needs no release.
            if attribute.is_released() {
                continue;
            }
            let note = |name: &str| attribute.owner.get(name).cloned().unwrap_or_default();
            let mut owners = users.get(&address).cloned().unwrap_or_default();
            if attribute
                .handle()
                .is_some_and(|handle| handle.eq_ignore_ascii_case(WINDOWS_HANDLE))
            {
                owners.push("Reserved for Windows".to_owned());
            }
            let node = match note("node") {
                node if node.is_empty() => owner.clone(),
                node => node,
            };
            let allocation = Allocation {
                ip: address.to_string(),
                handle: attribute.handle().unwrap_or_default().to_owned(),
                sequence_number: Some(block.sequence_of(place)),
                pod: note("pod"),
                namespace: note("namespace"),
                borrowed: node != owner,
                node,
                kind: note("type"),
                creation_timestamp: note("timestamp"),
                in_use: !owners.is_empty(),
                owners,
            };
            report
                .allocations
                .entry(address.to_string())
                .or_default()
                .push(allocation);
        }
    }
    for key in draft.keys_under(keys::HANDLES)? {
        if let Some(id) = keys::parse_handle(&key)
            && !handles_in_use.contains(id)
        {
            report.leaked_handles.push(HandleInfo {
                id: id.to_owned(),
                uid: None,
                revision: draft.revision(&key)?.unwrap_or(0).to_string(),
            });
        }
    }
    Ok(report)
}

/// What all of these reports say is not used.
pub fn agreed(reports: &[Report]) -> Agreed {
    let mut agreed: Option<(
        BTreeMap<IpAddr, ReleaseRequest>,
        BTreeMap<String, HandleInfo>,
    )> = None;
    for report in reports {
        let mut addresses: BTreeMap<IpAddr, ReleaseRequest> = report
            .allocations
            .values()
            .flatten()
            .filter(|allocation| !allocation.in_use)
            .filter_map(|allocation| {
                let address = allocation.ip.parse().ok()?;
                let handle = Some(allocation.handle.clone()).filter(|handle| !handle.is_empty());
                let request = ReleaseRequest {
                    address,
                    handle,
                    sequence_number: allocation.sequence_number,
                };
                Some((address, request))
            })
            .collect();
        let mut handles: BTreeMap<String, HandleInfo> = report
            .leaked_handles
            .iter()
            .map(|handle| (handle.id.clone(), handle.clone()))
            .collect();
        if let Some((known_addresses, known_handles)) = &agreed {
            // The same address under another number is another's.
            addresses.retain(|address, request| known_addresses.get(address) == Some(request));
            handles.retain(|id, handle| known_handles.get(id) == Some(handle));
        }
        agreed = Some((addresses, handles));
    }
    let (addresses, handles) = agreed.unwrap_or_default();
    Agreed {
        addresses: addresses.into_values().collect(),
        handles: handles.into_values().collect(),
    }
}

/// Decides that a handle goes if nothing has changed it since it was found.
pub(super) fn delete_handle(draft: &mut Draft<'_>, handle: &HandleInfo) -> Result<bool, Stop> {
    if !keys::is_segment(&handle.id) {
        return Err(IpamError::BadName(handle.id.clone()).into());
    }
    let key = keys::handle(&handle.id);
    draft.need([Want::Key(key.clone())])?;
    let is_same = draft
        .revision(&key)?
        .is_some_and(|revision| revision.to_string() == handle.revision);
    if is_same {
        draft.delete(key);
    }
    Ok(is_same)
}
