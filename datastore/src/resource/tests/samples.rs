//! Objects with one field of interest, made of the table of the fields, for kinds with hundreds of them.

use serde_json::{Map, Value, json};

use super::{full::manifest, rows::constraints};
use crate::Kind;

/// The object of such a kind that has this field.
pub(super) fn object(kind: Kind, path: &'static str, table: &'static str) -> Option<Value> {
    if !matches!(
        kind,
        Kind::FelixConfiguration | Kind::KubeControllersConfiguration
    ) {
        return None;
    }
    let samples = Samples { kind, table };
    let of_status = path.starts_with("status");
    let mut object = manifest(kind, json!({}));
    let top = samples.members("", path);
    if of_status {
        object["status"] = top.get("status")?.clone();
    } else {
        object["spec"] = Value::Object(top);
        object.as_object_mut()?.remove("status");
    }
    Some(object)
}

struct Samples {
    kind: Kind,
    table: &'static str,
}

impl Samples {
    /// The rows below a path: name, type, constraints.
    fn below(&self, path: &str) -> Vec<(String, &'static str, &'static str)> {
        let mut found = Vec::new();
        for row in self.table.lines() {
            let mut columns = row.split('\t');
            let mut next = || columns.next().unwrap_or_default();
            let (kind, row, of, constraints) = (next(), next(), next(), next());
            let rest = if path.is_empty() {
                Some(row)
            } else {
                row.strip_prefix(path)
                    .and_then(|rest| rest.strip_prefix('.'))
            };
            if let Some(rest) = rest
                && kind == self.kind.name()
                && !rest.contains(['.', '[', '{'])
            {
                found.push((rest.to_owned(), of, constraints));
            }
        }
        found
    }

    fn row(&self, path: &str) -> Option<(&'static str, &'static str)> {
        self.table.lines().find_map(|row| {
            let mut columns = row.split('\t');
            let mut next = || columns.next().unwrap_or_default();
            let (kind, row, of, constraints) = (next(), next(), next(), next());
            (kind == self.kind.name() && row == path).then_some((of, constraints))
        })
    }

    /// The members of the object at a path: those that must be there, and what leads to the wanted one.
    fn members(&self, path: &str, wanted: &str) -> Map<String, Value> {
        let mut members = Map::new();
        for (name, _, constraints) in self.below(path) {
            let own = if path.is_empty() {
                name.clone()
            } else {
                format!("{path}.{name}")
            };
            let leads = wanted
                .strip_prefix(own.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[', '{']));
            let required = constraints.split("; ").any(|one| one == "required")
                && !(path.is_empty() && wanted.starts_with("status"));
            if leads || required {
                members.insert(name, self.value(&own, wanted));
            }
        }
        members
    }

    fn value(&self, path: &str, wanted: &str) -> Value {
        let Some((of, text)) = self.row(path) else {
            return Value::Null;
        };
        match of {
            "array" => json!([self.value(&format!("{path}[]"), wanted)]),
            "boolean" => json!(true),
            "integer" => {
                let minimum = constraints(text)
                    .into_iter()
                    .find(|(name, _)| *name == "minimum");
                json!(minimum.map_or(1, |(_, text)| text.parse::<i64>().unwrap().max(1)))
            }
            "number" => json!(1),
            "object" if self.row(&format!("{path}{{}}")).is_some() => {
                json!({"k": self.value(&format!("{path}{{}}"), wanted)})
            }
            "object" => Value::Object(self.members(path, wanted)),
            _ => text_of(path, text),
        }
    }
}

/// Texts that fields of their own form take.
const TEXTS: &[(&str, &str)] = &[
    ("bpfDSROptoutCIDRs[]", "10.0.0.0/8"),
    ("bpfExcludeCIDRsFromNAT[]", "10.0.0.0/8"),
    ("externalNodesList[]", "10.0.0.0/8"),
    ("interfaceCIDRs[]", "10.0.0.0/8"),
    ("bpfLogFilters{}", "tcp"),
    ("bpfPSNATPorts", "20000:29999"),
    ("kubeNodePortRanges[]", "30000:32767"),
    ("natPortRange", "1024:2048"),
    ("istioDSCPMark", "AF11"),
    ("deviceRouteSourceAddress", "10.0.0.1"),
    ("deviceRouteSourceAddressIPv6", "fd00::1"),
    ("natOutgoingAddress", "10.0.0.1"),
    ("failsafeInboundHostPorts[].net", "10.0.0.0/8"),
    ("failsafeOutboundHostPorts[].net", "10.0.0.0/8"),
    ("failsafeInboundHostPorts[].protocol", "TCP"),
    ("failsafeOutboundHostPorts[].protocol", "TCP"),
    ("featureDetectOverride", "SNATFullyRandom=true"),
    ("featureGates", "A=b"),
    ("logActionRateLimit", "10/second"),
    ("logPrefix", "drop"),
    ("nodeSelector", "has(a)"),
    ("iptablesNATOutgoingInterfaceFilter", "eth0"),
    ("wireguardInterfaceName", "wg0"),
    ("wireguardInterfaceNameV6", "wg0"),
    ("createDefaultHostEndpoint", "Enabled"),
];

fn text_of(path: &str, text: &'static str) -> Value {
    let fits = |end: &str| path == end || path.ends_with(&format!(".{end}"));
    if let Some((_, text)) = TEXTS.iter().find(|(end, _)| fits(end)) {
        return json!(text);
    }
    for (name, value) in constraints(text) {
        match name {
            "enum" => {
                return json!(
                    value
                        .split(',')
                        .find(|word| !word.is_empty() && *word != "''")
                );
            }
            "pattern" if value.contains("(ms|s|") => return json!("10s"),
            // Words, with a bar between them.
            "pattern" => {
                let words = value.trim_start_matches("^(?i)(");
                let end = words.find(['|', ')']).unwrap_or(words.len());
                return json!(&words[..end]);
            }
            _ => {}
        }
    }
    let name = path.rsplit('.').next().unwrap_or(path);
    let is_time = ["Interval", "Timeout", "timeout", "Period"]
        .iter()
        .any(|end| name.ends_with(end));
    json!(if is_time { "10s" } else { "a" })
}
