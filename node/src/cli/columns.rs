//! The columns of each kind, as calicoctl prints them.

use cleat_datastore::Kind;
use serde_json::Value;

use super::{Code, Failure};
use crate::output::Table;

/// How many characters of a list are shown.
const LIST_LEN: usize = 80;

/// A column: its head, where its value stands in the manifest, and when it is shown.
type Column = (&'static str, &'static str, Shown);

/// When a column is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// Always.
    Always,
    /// With `-o wide`.
    Wide,
    /// When it is asked for by name.
    Asked,
}
use Shown::{Always, Asked, Wide};

/// How a table is to be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style<'a> {
    /// With the columns of `-o wide`.
    pub(super) wide: bool,
    /// With the namespace, where there is one.
    pub(super) namespace: bool,
    /// With these columns alone.
    pub(super) custom: Option<&'a [String]>,
    /// The AS number of nodes that say none.
    pub(super) as_number: u32,
}

/// A table of manifests of one kind.
pub(super) fn table(kind: Kind, manifests: &[Value], style: Style<'_>) -> Result<Table, Failure> {
    let mut chosen: Vec<(String, &str)> = Vec::new();
    if style.namespace && kind.namespaced() {
        chosen.push((NAMESPACE.0.to_owned(), NAMESPACE.1));
    }
    match style.custom {
        Some(heads) => {
            for head in heads {
                chosen.push(custom(kind, head)?);
            }
        }
        None => chosen.extend(
            columns(kind)
                .iter()
                .filter(|(_, _, shown)| match shown {
                    Always => true,
                    Wide => style.wide,
                    Asked => false,
                })
                .map(|(head, pointer, _)| ((*head).to_owned(), *pointer)),
        ),
    }
    let mut table = Table::with_heads(chosen.iter().map(|(head, _)| head.clone()).collect());
    for manifest in manifests {
        table.row(
            chosen
                .iter()
                .map(|(head, pointer)| cell(kind, head, manifest, pointer, style.as_number)),
        );
    }
    Ok(table)
}

/// A column by its head, or as `HEAD:.path.to.a[0].field`.
fn custom(kind: Kind, text: &str) -> Result<(String, &str), Failure> {
    if let Some((head, path)) = text.split_once(':')
        && path.starts_with('.')
    {
        return Ok((head.to_owned(), path));
    }
    let known = || {
        columns(kind)
            .iter()
            .chain(kind.namespaced().then_some(&NAMESPACE))
    };
    let found = known().find(|(head, _, _)| head.eq_ignore_ascii_case(text));
    let Some((head, pointer, _)) = found else {
        let heads: Vec<&str> = known().map(|(head, _, _)| *head).collect();
        let message = format!(
            "Unknown heading {text}, valid values are: {}; or a path, as in NAME:.metadata.name",
            heads.join(", ")
        );
        return Err(Failure::new(Code::Usage, message));
    };
    Ok(((*head).to_owned(), pointer))
}

fn columns(kind: Kind) -> &'static [Column] {
    const POLICY: &[Column] = &[
        NAME,
        ("TIER", "/spec/tier", Always),
        ("ORDER", "/spec/order", Wide),
        ("SELECTOR", "/spec/selector", Wide),
    ];
    match kind {
        Kind::BgpConfiguration => &[
            NAME,
            ("LOGSEVERITY", "/spec/logSeverityScreen", Always),
            ("MESHENABLED", "/spec/nodeToNodeMeshEnabled", Always),
            ("ASNUMBER", "/spec/asNumber", Always),
            ("LISTENPORT", "/spec/listenPort", Asked),
        ],
        Kind::BgpFilter => &[
            NAME,
            ("NUMEXPORTV4", "/spec/exportV4", Always),
            ("NUMIMPORTV4", "/spec/importV4", Always),
            ("NUMEXPORTV6", "/spec/exportV6", Always),
            ("NUMIMPORTV6", "/spec/importV6", Always),
        ],
        Kind::BgpPeer => &[
            NAME,
            ("PEERIP", "/spec/peerIP", Always),
            ("NODE", "/spec", Always),
            ("ASN", "/spec/asNumber", Always),
            ("PEERSELECTOR", "/spec/peerSelector", Asked),
        ],
        Kind::CalicoNodeStatus => &[
            NAME,
            ("NODE", "/spec/node", Always),
            ("CLASSES", "/spec/classes", Wide),
            ("UPDATED", "/status/lastUpdated", Asked),
        ],
        Kind::ClusterInformation => &[
            NAME,
            ("CLUSTERGUID", "/spec/clusterGUID", Always),
            ("CLUSTERTYPE", "/spec/clusterType", Always),
            ("CALICOVERSION", "/spec/calicoVersion", Always),
            ("DATASTOREREADY", "/spec/datastoreReady", Always),
        ],
        Kind::EndpointSlice => &[
            NAME,
            ("ADDRESSTYPE", "/addressType", Always),
            ("PORTS", "/ports", Always),
            ("ENDPOINTS", "/endpoints", Always),
        ],
        Kind::FelixConfiguration | Kind::KubeControllersConfiguration => &[NAME],
        Kind::GlobalNetworkPolicy
        | Kind::NetworkPolicy
        | Kind::StagedGlobalNetworkPolicy
        | Kind::StagedNetworkPolicy => POLICY,
        Kind::GlobalNetworkSet | Kind::NetworkSet => &[NAME, ("NETS", "/spec/nets", Wide)],
        Kind::HostEndpoint => &[
            NAME,
            ("NODE", "/spec/node", Always),
            ("INTERFACE", "/spec/interfaceName", Wide),
            ("IPS", "/spec/expectedIPs", Wide),
            ("PROFILES", "/spec/profiles", Wide),
        ],
        Kind::IpPool => &[
            NAME,
            ("CIDR", "/spec/cidr", Always),
            ("NAT", "/spec/natOutgoing", Wide),
            ("IPIPMODE", "/spec/ipipMode", Wide),
            ("VXLANMODE", "/spec/vxlanMode", Wide),
            ("DISABLED", "/spec/disabled", Wide),
            ("DISABLEBGPEXPORT", "/spec/disableBGPExport", Wide),
            ("SELECTOR", "/spec/nodeSelector", Always),
        ],
        Kind::IpReservation => &[NAME, ("CIDRS", "/spec/reservedCIDRs", Wide)],
        Kind::IpamConfiguration => &[
            NAME,
            ("STRICTAFFINITY", "/spec/strictAffinity", Always),
            ("AUTOALLOCATEBLOCKS", "/spec/autoAllocateBlocks", Always),
            ("MAXBLOCKSPERHOST", "/spec/maxBlocksPerHost", Wide),
        ],
        Kind::LiveMigration => &[
            NAME,
            ("SOURCE", "/spec/source", Always),
            ("TARGET", "/spec/target", Always),
        ],
        Kind::Node => &[
            NAME,
            ("ASN", "/spec/bgp", Wide),
            ("IPV4", "/spec/bgp/ipv4Address", Wide),
            ("IPV6", "/spec/bgp/ipv6Address", Wide),
        ],
        Kind::Profile => &[NAME, ("LABELS", "/spec/labelsToApply", Wide)],
        Kind::Service => &[
            NAME,
            ("TYPE", "/spec/type", Always),
            ("CLUSTER-IP", "/spec/clusterIP", Always),
            ("EXTERNAL-IP", "/spec/externalIPs", Always),
            ("PORT(S)", "/spec/ports", Always),
            ("SELECTOR", "/spec/selector", Wide),
        ],
        Kind::StagedKubernetesNetworkPolicy => &[NAME, ("PODSELECTOR", "/spec/podSelector", Wide)],
        Kind::Tier => &[
            NAME,
            ("ORDER", "/spec/order", Always),
            ("DEFAULTACTION", "/spec/defaultAction", Asked),
        ],
        Kind::WorkloadEndpoint => &[
            ("NAME", "/metadata/name", Wide),
            ("WORKLOAD", "/spec", Always),
            ("NODE", "/spec/node", Always),
            ("NETWORKS", "/spec/ipNetworks", Always),
            ("INTERFACE", "/spec/interfaceName", Always),
            ("PROFILES", "/spec/profiles", Wide),
            ("NATS", "/spec/ipNATs", Wide),
            ("ORCHESTRATOR", "/spec/orchestrator", Asked),
        ],
    }
}

fn cell(kind: Kind, head: &str, manifest: &Value, pointer: &str, as_number: u32) -> String {
    if pointer.starts_with('.') {
        return text(at(manifest, pointer));
    }
    let value = manifest.pointer(pointer);
    let first = |fields: &[&str]| {
        let mut found = fields
            .iter()
            .filter_map(|field| value?.get(field)?.as_str());
        found.find(|text| !text.is_empty()).map(str::to_owned)
    };
    let or = |default: &str| value.map_or_else(|| default.to_owned(), |value| text(Some(value)));
    match (kind, head) {
        // Which field names the workload depends on the orchestrator.
        (Kind::WorkloadEndpoint, "WORKLOAD") => {
            first(&["workload", "pod", "containerID"]).unwrap_or_default()
        }
        (Kind::WorkloadEndpoint, "NATS") => {
            let nats = value.and_then(Value::as_array).into_iter().flatten();
            let pairs = nats.map(|nat| {
                let (external, internal) = (nat.get("externalIP"), nat.get("internalIP"));
                format!("{}->{}", text(external), text(internal))
            });
            pairs.collect::<Vec<_>>().join(",")
        }
        (Kind::BgpPeer, "NODE") => {
            first(&["node", "nodeSelector"]).unwrap_or_else(|| "(global)".to_owned())
        }
        (Kind::BgpFilter, head) if head.starts_with("NUM") => {
            let rules = value.and_then(Value::as_array).map_or(0, Vec::len);
            rules.to_string()
        }
        (Kind::Node, "ASN") => match value {
            Some(bgp) => bgp
                .get("asNumber")
                .map_or_else(|| format!("({as_number})"), |number| text(Some(number))),
            None => String::new(),
        },
        (Kind::IpPool, "SELECTOR") => or("all()"),
        (Kind::IpPool, "IPIPMODE" | "VXLANMODE") => or("Never"),
        (Kind::IpPool, "NAT" | "DISABLED" | "DISABLEBGPEXPORT")
        | (Kind::IpamConfiguration, "STRICTAFFINITY") => or("false"),
        (Kind::IpamConfiguration, "AUTOALLOCATEBLOCKS") => or("true"),
        (Kind::IpamConfiguration, "MAXBLOCKSPERHOST") => or("0"),
        (_, "TIER") => or("default"),
        (Kind::Service, "TYPE") => or("ClusterIP"),
        (Kind::LiveMigration, "SOURCE" | "TARGET") => {
            let end = value.and_then(|end| end.get("workloadEndpoint").or(end.get("workload")));
            match end.and_then(|end| end.get("hostname")) {
                Some(host) => text(Some(host)),
                None => text(value.and_then(|end| end.get("selector"))),
            }
        }
        (Kind::Service | Kind::EndpointSlice, "PORT(S)" | "PORTS") => {
            let ports = value.and_then(Value::as_array).into_iter().flatten();
            let shown = ports.map(|port| {
                let protocol = port.get("protocol").and_then(Value::as_str);
                format!("{}/{}", text(port.get("port")), protocol.unwrap_or("TCP"))
            });
            truncated(shown.collect::<Vec<_>>().join(","))
        }
        (Kind::EndpointSlice, "ENDPOINTS") => {
            let endpoints = value.and_then(Value::as_array).into_iter().flatten();
            let addresses = endpoints.map(|endpoint| text(endpoint.get("addresses")));
            truncated(addresses.collect::<Vec<_>>().join(","))
        }
        (_, "NETS" | "CIDRS") => truncated(text(value)),
        _ => text(value),
    }
}

/// The value at a path such as `.spec.nets[0]`.
fn at<'a>(manifest: &'a Value, path: &str) -> Option<&'a Value> {
    let mut value = manifest;
    for part in path.split('.').filter(|part| !part.is_empty()) {
        let (field, indexes) = part.split_once('[').unwrap_or((part, ""));
        if !field.is_empty() {
            value = value.get(field)?;
        }
        for index in indexes.split('[').filter(|index| !index.is_empty()) {
            value = value.get(index.trim_end_matches(']').parse::<usize>().ok()?)?;
        }
    }
    Some(value)
}

fn truncated(mut list: String) -> String {
    if list.chars().count() > LIST_LEN {
        let end = list.char_indices().nth(LIST_LEN - 3);
        list.truncate(end.map_or(list.len(), |(place, _)| place));
        list.push_str("...");
    }
    list
}

fn text(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => {
            let items = items.iter().map(|item| text(Some(item)));
            items.collect::<Vec<_>>().join(",")
        }
        Some(Value::Object(map)) => {
            let pairs = map
                .iter()
                .map(|(key, value)| format!("{key}={}", text(Some(value))));
            pairs.collect::<Vec<_>>().join(",")
        }
        // An order is a floating number that is hardly ever broken.
        Some(Value::Number(number)) => match number.as_f64() {
            Some(whole) if number.is_f64() && whole.fract() == 0.0 && whole.abs() < 1e15 => {
                format!("{whole:.0}")
            }
            _ => number.to_string(),
        },
        Some(value @ Value::Bool(_)) => value.to_string(),
    }
}

const NAME: Column = ("NAME", "/metadata/name", Always);
const NAMESPACE: Column = ("NAMESPACE", "/metadata/namespace", Always);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PLAIN: Style<'static> = Style {
        wide: false,
        namespace: false,
        custom: None,
        as_number: 64512,
    };

    #[test]
    fn every_kind_has_columns_and_wide_ones_are_no_fewer() {
        for kind in Kind::ALL {
            let manifest = [json!({"metadata": {"name": "x", "namespace": "n"}, "spec": {}})];
            let count = |style| {
                let table = table(kind, &manifest, style).unwrap().render(true);
                table.lines().next().unwrap().split_whitespace().count()
            };
            let wide = Style {
                wide: true,
                ..PLAIN
            };
            let spaced = Style {
                namespace: true,
                ..PLAIN
            };
            assert!(count(wide) >= count(PLAIN), "{kind}");
            let more = usize::from(kind.namespaced());
            assert_eq!(count(spaced), count(PLAIN) + more, "{kind}");
        }
    }

    #[test]
    fn columns_are_chosen_by_head_or_path() {
        let set = json!({"metadata": {"name": "x", "namespace": "n"}, "spec": {"nets": ["10.0.0.0/8", "fd00::/8"]}});
        let chosen = [
            "name".to_owned(),
            "SECOND:.spec.nets[1]".to_owned(),
            "NONE:.spec.a.b".to_owned(),
        ];
        let style = Style {
            custom: Some(&chosen),
            ..PLAIN
        };
        let shown = table(Kind::NetworkSet, std::slice::from_ref(&set), style).unwrap();
        assert_eq!(
            shown.render(true),
            "NAME   SECOND     NONE\nx      fd00::/8   -\n"
        );
        let chosen = ["CIDR".to_owned()];
        let style = Style {
            custom: Some(&chosen),
            ..PLAIN
        };
        let failure = table(Kind::NetworkSet, &[set], style).unwrap_err();
        assert!(
            failure
                .message
                .starts_with("Unknown heading CIDR, valid values are: NAME, NETS, NAMESPACE"),
            "{}",
            failure.message
        );
    }

    #[test]
    fn cells_say_what_calicoctl_says() {
        for (kind, head, manifest, expected) in [
            (Kind::BgpPeer, "NODE", json!({"spec": {}}), "(global)"),
            (
                Kind::BgpPeer,
                "NODE",
                json!({"spec": {"nodeSelector": "all()"}}),
                "all()",
            ),
            (Kind::BgpPeer, "NODE", json!({"spec": {"node": "a"}}), "a"),
            (Kind::Node, "ASN", json!({"spec": {"bgp": {}}}), "(64512)"),
            (
                Kind::Node,
                "ASN",
                json!({"spec": {"bgp": {"asNumber": 7}}}),
                "7",
            ),
            (
                Kind::BgpFilter,
                "NUMEXPORTV4",
                json!({"spec": {"exportV4": [{}, {}]}}),
                "2",
            ),
            (
                Kind::Tier,
                "ORDER",
                json!({"spec": {"order": 1_000_000.0}}),
                "1000000",
            ),
            (Kind::Tier, "ORDER", json!({"spec": {"order": 0.5}}), "0.5"),
            (
                Kind::WorkloadEndpoint,
                "WORKLOAD",
                json!({"spec": {"pod": "p"}}),
                "p",
            ),
            (
                Kind::Service,
                "PORT(S)",
                json!({"spec": {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 80}]}}),
                "53/UDP,80/TCP",
            ),
            (
                Kind::LiveMigration,
                "SOURCE",
                json!({"spec": {"source": {"workloadEndpoint": {"hostname": "h1"}}}}),
                "h1",
            ),
        ] {
            let (_, pointer, _) = columns(kind)
                .iter()
                .find(|(known, _, _)| *known == head)
                .unwrap();
            assert_eq!(
                cell(kind, head, &manifest, pointer, 64512),
                expected,
                "{kind} {head}"
            );
        }
        let nets: Vec<String> = (0..30).map(|net| format!("10.0.{net}.0/24")).collect();
        let shown = cell(
            Kind::NetworkSet,
            "NETS",
            &json!({"spec": {"nets": nets}}),
            "/spec/nets",
            0,
        );
        assert_eq!(shown.len(), LIST_LEN);
        assert!(shown.ends_with("..."), "{shown}");
    }
}
