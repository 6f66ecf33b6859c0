//! The columns of each kind, as calicoctl prints them.

use cleat_datastore::Kind;
use serde_json::Value;

use crate::output::Table;

/// A head, where its value stands in the manifest, and whether it is for `-o wide` only.
type Column = (&'static str, &'static str, bool);

/// A table of manifests of one kind.
pub(super) fn table(kind: Kind, manifests: &[Value], namespace: bool, wide: bool) -> Table {
    let columns: Vec<&Column> = (namespace && kind.namespaced())
        .then_some(&NAMESPACE)
        .into_iter()
        .chain(
            columns(kind)
                .iter()
                .filter(|(_, _, only_wide)| wide || !only_wide),
        )
        .collect();
    let heads: Vec<&'static str> = columns.iter().map(|(head, _, _)| *head).collect();
    let mut table = Table::new(&heads);
    for manifest in manifests {
        table.row(
            columns
                .iter()
                .map(|(head, pointer, _)| cell(head, manifest, pointer)),
        );
    }
    table
}

fn columns(kind: Kind) -> &'static [Column] {
    match kind {
        Kind::BgpConfiguration => &[
            NAME,
            ("LOGSEVERITY", "/spec/logSeverityScreen", false),
            ("MESHENABLED", "/spec/nodeToNodeMeshEnabled", false),
            ("ASNUMBER", "/spec/asNumber", false),
            ("LISTENPORT", "/spec/listenPort", true),
        ],
        Kind::BgpPeer => &[
            NAME,
            ("PEERIP", "/spec/peerIP", false),
            ("NODE", "/spec/node", false),
            ("ASN", "/spec/asNumber", false),
            ("NODESELECTOR", "/spec/nodeSelector", true),
            ("PEERSELECTOR", "/spec/peerSelector", true),
        ],
        Kind::GlobalNetworkPolicy | Kind::NetworkPolicy => &[
            NAME,
            ("TIER", "/spec/tier", true),
            ("ORDER", "/spec/order", false),
            ("SELECTOR", "/spec/selector", true),
        ],
        Kind::GlobalNetworkSet | Kind::NetworkSet => &[NAME, ("NETS", "/spec/nets", true)],
        Kind::IpPool => &[
            NAME,
            ("CIDR", "/spec/cidr", false),
            ("NAT", "/spec/natOutgoing", true),
            ("IPIPMODE", "/spec/ipipMode", true),
            ("VXLANMODE", "/spec/vxlanMode", true),
            ("DISABLED", "/spec/disabled", true),
            ("DISABLEBGPEXPORT", "/spec/disableBGPExport", true),
            ("SELECTOR", "/spec/nodeSelector", false),
        ],
        Kind::Node => &[
            NAME,
            ("ASN", "/spec/bgp/asNumber", true),
            ("IPV4", "/spec/bgp/ipv4Address", true),
            ("IPV6", "/spec/bgp/ipv6Address", true),
        ],
        Kind::Profile => &[NAME, ("LABELS", "/spec/labelsToApply", true)],
        Kind::BgpFilter
        | Kind::CalicoNodeStatus
        | Kind::ClusterInformation
        | Kind::EndpointSlice
        | Kind::FelixConfiguration
        | Kind::HostEndpoint
        | Kind::IpReservation
        | Kind::IpamConfiguration
        | Kind::KubeControllersConfiguration
        | Kind::LiveMigration
        | Kind::Service
        | Kind::StagedGlobalNetworkPolicy
        | Kind::StagedKubernetesNetworkPolicy
        | Kind::StagedNetworkPolicy => &[NAME],
        Kind::Tier => &[NAME, ("ORDER", "/spec/order", false)],
        Kind::WorkloadEndpoint => &[
            ("NAME", "/metadata/name", true),
            ("WORKLOAD", "/spec", false),
            ("NODE", "/spec/node", false),
            ("NETWORKS", "/spec/ipNetworks", false),
            ("INTERFACE", "/spec/interfaceName", false),
            ("PROFILES", "/spec/profiles", true),
            ("NATS", "/spec/ipNATs", true),
        ],
    }
}

fn cell(head: &str, manifest: &Value, pointer: &str) -> String {
    let value = manifest.pointer(pointer);
    match head {
        // Which field names the workload depends on the orchestrator.
        "WORKLOAD" => ["pod", "workload", "containerID"]
            .iter()
            .find_map(|field| value?.get(field)?.as_str().map(str::to_owned))
            .unwrap_or_default(),
        "NATS" => {
            let nats = value.and_then(Value::as_array).into_iter().flatten();
            let pairs = nats.map(|nat| {
                format!(
                    "{}->{}",
                    text(nat.get("externalIP")),
                    text(nat.get("internalIP"))
                )
            });
            pairs.collect::<Vec<_>>().join(",")
        }
        "SELECTOR" if value.is_none() => "all()".to_owned(),
        "MESHENABLED" if value.is_none() => "true".to_owned(),
        "NAT" | "DISABLED" | "DISABLEBGPEXPORT" if value.is_none() => "false".to_owned(),
        "IPIPMODE" | "VXLANMODE" if value.is_none() => "Never".to_owned(),
        "TIER" if value.is_none() => "default".to_owned(),
        _ => text(value),
    }
}

fn text(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => items
            .iter()
            .map(|item| text(Some(item)))
            .collect::<Vec<_>>()
            .join(","),
        Some(Value::Object(map)) => map
            .iter()
            .map(|(key, value)| format!("{key}={}", text(Some(value))))
            .collect::<Vec<_>>()
            .join(","),
        Some(value @ (Value::Bool(_) | Value::Number(_))) => value.to_string(),
    }
}

const NAME: Column = ("NAME", "/metadata/name", false);
const NAMESPACE: Column = ("NAMESPACE", "/metadata/namespace", false);
