//! Every row of the schemas that Calico publishes, one by one: an object that keeps it is taken, and one that
//! breaks it, and nothing else, is refused with the path of the field.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{all, manifest, samples};
use crate::{
    Kind, Problem,
    resource::{decode_value, manifest_key, validate},
};

/// The table, as it is published.
const TABLE: &str = include_str!("../../../tests/vectors/crd-fields.tsv");

/// Kinds whose rows concern stores of another sort, and why.
const ELSEWHERE: [(&str, &str); 3] = [
    (
        "BlockAffinity",
        "kept so with a Kubernetes datastore only; in etcd it is a key of address management",
    ),
    (
        "IPAMBlock",
        "kept so with a Kubernetes datastore only; in etcd it is a key of address management",
    ),
    (
        "IPAMHandle",
        "kept so with a Kubernetes datastore only; in etcd it is a key of address management",
    ),
];

/// Where what Calico's clients of etcd take differs from the published schema: kind, end of the path,
/// constraint, reason.
const DIFFERENT: &[(&str, &str, &str, &str)] = &[
    (
        "",
        "asNumber",
        "format",
        "an AS number has 32 bits without a sign, RFC 6793",
    ),
    (
        "",
        "localASNumber",
        "format",
        "an AS number has 32 bits without a sign, RFC 6793",
    ),
    (
        "BGPFilter",
        "asPathPrefix[]",
        "format",
        "an AS number has 32 bits without a sign, RFC 6793",
    ),
    (
        "BGPFilter",
        "prependASPath.prefix[]",
        "format",
        "an AS number has 32 bits without a sign, RFC 6793",
    ),
    (
        "",
        "types",
        "minItems",
        "Go's writers leave an empty list out, so that it is an absent one",
    ),
    (
        "",
        "policyTypes",
        "minItems",
        "Go's writers leave an empty list out, so that it is an absent one",
    ),
    (
        "BGPFilter",
        "operations",
        "minItems",
        "Go's writers leave an empty list out, so that it is an absent one",
    ),
    (
        "IPPool",
        "blockSize",
        "minimum",
        "the bounds are 20 to 32 or 116 to 128, and 0 is none",
    ),
    (
        "IPPool",
        "blockSize",
        "maximum",
        "the bounds are 20 to 32 or 116 to 128",
    ),
    ("", "", "format=cidr", "a bare address is a CIDR too"),
    (
        "KubeControllersConfiguration",
        "controllers",
        "required",
        "the client takes an object without",
    ),
];

/// Fields that the schema has and no valid object: the client refuses them, which is why nothing holds
/// them. Beginning of the path, reason.
const NEVER: [(&str, &str); 3] = [
    ("egress[].http", "requests are looked at where they come in"),
    (
        "egress[].source.services",
        "the source of what leaves is the policy's own endpoints",
    ),
    (
        "ingress[].destination.services",
        "the destination of what comes in is the policy's own endpoints",
    ),
];

fn differs(kind: &str, path: &str, constraint: &str) -> bool {
    DIFFERENT.iter().any(|(of, end, what, _)| {
        (of.is_empty() || *of == kind)
            && *what == constraint
            && (path == *end || path.ends_with(&format!(".{end}")))
    })
}

#[test]
fn every_row_of_the_schemas_is_kept() {
    let mut failures = Vec::new();
    let mut checked: BTreeMap<&str, usize> = BTreeMap::new();
    for row in TABLE.lines().skip(1) {
        let mut columns = row.split('\t');
        let mut next = || columns.next().unwrap_or_default();
        let row = Row {
            kind: next(),
            path: next(),
            of: next(),
            constraints: next(),
        };
        if ELSEWHERE.iter().any(|(kind, _)| *kind == row.kind) {
            continue;
        }
        *checked.entry(row.kind).or_default() += 1;
        if NEVER.iter().any(|(start, _)| row.path.starts_with(start)) {
            continue;
        }
        row.check(&mut failures);
    }
    assert!(
        failures.is_empty(),
        "{} failures:\n{}",
        failures.len(),
        failures.join("\n")
    );
    assert_eq!(checked.len(), 19, "{checked:?}");
    assert_eq!(checked.values().sum::<usize>(), 1_168);
}

struct Row {
    kind: &'static str,
    path: &'static str,
    of: &'static str,
    constraints: &'static str,
}

impl Row {
    fn check(&self, failures: &mut Vec<String>) {
        let kind = Kind::from_name(self.kind).unwrap();
        let Some((base, pointer, field)) = self.base(kind) else {
            failures.push(format!("{} {}: no object has it", self.kind, self.path));
            return;
        };
        if let Err(problems) = taken(&base) {
            failures.push(format!("{} {}: {problems:?}", self.kind, self.path));
            return;
        }
        let mut fail = |what: &str, value: &Value, problems: &[Problem]| {
            let value: String = value.to_string().chars().take(80).collect();
            failures.push(format!(
                "{} {field}: {what} {value}: {problems:?}",
                self.kind
            ));
        };
        let with = |value: &Value| {
            let mut changed = base.clone();
            *changed.pointer_mut(&pointer).unwrap() = value.clone();
            changed
        };
        // A field of another type is refused by readers too: so it has a type, and is not just kept.
        let other = if self.of == "object" {
            json!("x")
        } else {
            json!({"x": {}})
        };
        let changed = with(&other);
        let key = manifest_key(&changed).unwrap();
        match decode_value(&key, changed.clone()) {
            Err(problem) if inside(&problem, &field) => {}
            result => fail(
                "read with another type",
                &other,
                &result.err().into_iter().collect::<Vec<_>>(),
            ),
        }
        let mut refused = |what: &str, value: Value| {
            let problems = taken(&with(&value)).err().unwrap_or_default();
            if !problems.iter().any(|problem| inside(problem, &field)) {
                fail(what, &value, &problems);
            }
        };
        refused("another type", other);
        let old = base.pointer(&pointer).unwrap().clone();
        for (name, text) in constraints(self.constraints) {
            let has_default = || {
                constraints(self.constraints)
                    .iter()
                    .any(|(name, _)| *name == "default")
            };
            if differs(self.kind, self.path, name) || name == "required" && has_default() {
                continue;
            }
            let number = || text.parse::<i64>().unwrap();
            match name {
                // Defaults are looked at below; what is not refused cannot be broken.
                "default" => {}
                "enum" if self.of == "integer" => refused("enum", json!(5)),
                "enum" => refused("enum", json!("bogus")),
                "minimum" => refused("minimum", json!(number() - 1)),
                "maximum" => refused("maximum", json!(number() + 1)),
                "minLength" => refused("minLength", json!("")),
                "maxLength" => {
                    let one_more = text.parse::<usize>().unwrap() + 1;
                    refused("maxLength", json!(longer(old.as_str().unwrap(), one_more)));
                }
                "minItems" => refused("minItems", json!([])),
                "maxItems" => {
                    let item = old.as_array().unwrap()[0].clone();
                    refused(
                        "maxItems",
                        json!(vec![item; text.parse::<usize>().unwrap() + 1]),
                    );
                }
                "pattern" if text == "^.*" => {}
                "pattern" => refused("pattern", json!("!!")),
                "format" => match text {
                    "cidr" => refused("format", json!("10.0.0.0/33")),
                    "date-time" => refused("format", json!("yesterday")),
                    "int32" => refused("format", json!(1_i64 << 31)),
                    "int64" => refused("format", json!(1e30)),
                    other => panic!("{other}"),
                },
                "required" => {
                    let mut changed = base.clone();
                    let (holder, name) = pointer.rsplit_once('/').unwrap();
                    let holder = changed
                        .pointer_mut(holder)
                        .unwrap()
                        .as_object_mut()
                        .unwrap();
                    holder.remove(name).unwrap();
                    let problems = taken(&changed).err().unwrap_or_default();
                    if !problems.iter().any(|problem| inside(problem, &field)) {
                        failures.push(format!("{} {field}: required: {problems:?}", self.kind));
                        return;
                    }
                }
                other => panic!("{other} of {} {}", self.kind, self.path),
            }
        }
    }

    /// An object that has the field, with the JSON pointer to it and its path.
    fn base(&self, kind: Kind) -> Option<(Value, String, String)> {
        let candidates = all()
            .into_iter()
            .filter(|(of, _)| *of == kind)
            .map(|(kind, spec)| manifest(kind, spec))
            .chain(samples::object(kind, self.path, TABLE));
        for candidate in candidates {
            let (root, path) = if self.path.split('.').next() == Some("status") {
                ("", self.path)
            } else {
                ("/spec", self.path)
            };
            let start = candidate.pointer(root)?;
            let field = root.trim_start_matches('/').to_owned();
            if let Some((pointer, field)) = find(start, path, root.to_owned(), field) {
                return Some((candidate, pointer, field));
            }
        }
        None
    }
}

#[test]
fn what_the_client_never_takes_is_refused() {
    let service = json!({"name": "s", "namespace": "n"});
    for (spec, field) in [
        (
            json!({"egress": [{"action": "Allow", "http": {"methods": ["GET"]}}]}),
            "spec.egress[0].http",
        ),
        (
            json!({"egress": [{"action": "Allow", "source": {"services": service}}]}),
            "spec.egress[0].source.services",
        ),
        (
            json!({"ingress": [{"action": "Allow", "destination": {"services": service}}]}),
            "spec.ingress[0].destination.services",
        ),
    ] {
        for kind in [
            Kind::NetworkPolicy,
            Kind::GlobalNetworkPolicy,
            Kind::StagedNetworkPolicy,
            Kind::StagedGlobalNetworkPolicy,
        ] {
            let problems = taken(&manifest(kind, spec.clone())).unwrap_err();
            let fields: Vec<&str> = problems
                .iter()
                .map(|problem| problem.field.as_str())
                .collect();
            assert_eq!(fields, [field], "{kind}");
        }
    }
}

/// Rules between fields, by what the schema says of them, with what breaks each and nothing else.
fn breakers() -> Vec<(&'static str, Value)> {
    let service = json!({"name": "s", "namespace": "n"});
    vec![
        (
            "rules with HTTP match must have protocol TCP",
            json!({"action": "Allow", "protocol": "UDP", "http": {"methods": ["GET"]}}),
        ),
        (
            "HTTP match is only valid on Allow rules",
            json!({"action": "Deny", "http": {"methods": ["GET"]}}),
        ),
        (
            "ports and notPorts cannot be specified with services",
            json!({"action": "Allow", "protocol": "TCP", "destination": {"services": service, "notPorts": [80]}}),
        ),
        (
            "ICMP fields require protocol",
            json!({"action": "Allow", "protocol": "TCP", "icmp": {"type": 1}}),
        ),
        (
            "protocol ICMP requires ipVersion 4",
            json!({"action": "Allow", "notProtocol": "ICMP", "ipVersion": 6}),
        ),
        (
            "protocol ICMP requires ipVersion 4",
            json!({"action": "Allow", "protocol": 1, "ipVersion": 6}),
        ),
        (
            "protocol ICMPv6 requires ipVersion 6",
            json!({"action": "Allow", "notProtocol": 58, "ipVersion": 4}),
        ),
        (
            "protocol ICMPv6 requires ipVersion 6",
            json!({"action": "Allow", "protocol": "ICMPv6", "ipVersion": 4}),
        ),
        ("ICMP code specified without", json!({"code": 1})),
        ("global() can only be used", json!({"selector": "global()"})),
        (
            "services must specify a service name",
            json!({"services": {"name": "", "namespace": "n"}}),
        ),
        (
            "cannot specify Selector/NotSelector",
            json!({"services": service, "notSelector": "has(a)"}),
        ),
        (
            "cannot specify Nets/NotNets",
            json!({"services": service, "nets": ["10.0.0.0/8"]}),
        ),
        (
            "cannot specify ServiceAccounts",
            json!({"services": service, "serviceAccounts": {"names": ["a"]}}),
        ),
        (
            "cannot specify NamespaceSelector",
            json!({"services": service, "namespaceSelector": "has(a)"}),
        ),
        (
            "cidr and matchOperator must both be set",
            json!({"action": "Accept", "matchOperator": "In"}),
        ),
        (
            "cidr is required when prefixLength is set",
            json!({"action": "Accept", "prefixLength": {"min": 8}}),
        ),
        (
            "operations may only be used with action Accept",
            json!({"action": "Reject", "operations": [{"setPriority": {"value": 1}}]}),
        ),
        ("min must be >= 1", json!({"min": 0, "max": 10})),
        (
            "min must not be greater than max",
            json!({"min": 10, "max": 9}),
        ),
        (
            "must be a range of route table indices",
            json!({"min": 1, "max": 251}),
        ),
        (
            "must be a range of route table indices",
            json!({"min": 0, "max": 250}),
        ),
    ]
}

#[test]
fn every_rule_between_fields_is_kept() {
    let breakers = breakers();
    let (mut failures, mut checked) = (Vec::new(), 0);
    for line in TABLE.lines().skip(1) {
        let mut columns = line.split('\t');
        let mut next = || columns.next().unwrap_or_default();
        let row = Row {
            kind: next(),
            path: next(),
            of: next(),
            constraints: next(),
        };
        for rule in row.constraints.split("CEL: ").skip(1) {
            checked += 1;
            // Rules on what changes are looked at where changes are.
            if rule.contains("oldSelf") {
                continue;
            }
            let kind = Kind::from_name(row.kind).unwrap();
            let (base, pointer, field) = row.base(kind).unwrap();
            let mut broken = 0;
            for (_, breaker) in breakers.iter().filter(|(said, _)| rule.contains(said)) {
                broken += 1;
                let mut changed = base.clone();
                *changed.pointer_mut(&pointer).unwrap() = breaker.clone();
                let problems = taken(&changed).err().unwrap_or_default();
                if !problems.iter().any(|problem| inside(problem, &field)) {
                    failures.push(format!("{} {field}: {breaker}: {problems:?}", row.kind));
                }
            }
            assert!(broken > 0, "nothing breaks {rule}");
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert_eq!(checked, 193);
}

#[test]
fn defaults_are_those_of_the_schemas() {
    use crate::resource::{
        BgpConfigurationSpec, Enabled, IpPoolSpec, IpamConfigurationSpec, Resource, SecretKeyRef,
        StagedAction, TierAction,
    };
    let decoded = |kind: Kind, spec: Value| {
        let manifest = manifest(kind, spec);
        let key = manifest_key(&manifest).unwrap();
        decode_value(&key, manifest).unwrap()
    };
    let pool = match decoded(Kind::IpPool, json!({"cidr": "10.0.0.0/16"})) {
        Resource::IpPool(pool) => pool.spec,
        other => panic!("{other:?}"),
    };
    let speaker = BgpConfigurationSpec::default();
    let ipam = IpamConfigurationSpec::default();
    let secret: SecretKeyRef = serde_json::from_value(json!({"key": "k"})).unwrap();
    let tier_of = |kind: Kind| decoded(kind, json!({})).tier().unwrap().to_owned();
    let action_of = |kind: Kind| match decoded(kind, json!({})) {
        Resource::StagedGlobalNetworkPolicy(policy) => policy.spec.action(),
        Resource::StagedKubernetesNetworkPolicy(policy) => policy.spec.action(),
        Resource::StagedNetworkPolicy(policy) => policy.spec.action(),
        other => panic!("{other:?}"),
    };
    let effective = |kind: &str, path: &str| {
        let name = path.rsplit('.').next().unwrap();
        let staged = || Kind::from_name(kind).unwrap();
        match (kind, name) {
            ("BGPConfiguration", "logSeverityScreen") => speaker.log_severity().to_owned(),
            ("BGPConfiguration", "serviceLoadBalancerAggregation") => {
                let word: Enabled = speaker.load_balancer_aggregation();
                word.to_string()
            }
            (_, "name") => secret.name.clone(),
            (_, "tier") => tier_of(staged()),
            (_, "stagedAction") => {
                let action: StagedAction = action_of(staged());
                action.to_string()
            }
            ("IPAMConfiguration", "autoAllocateBlocks") => capital(ipam.claims_blocks()),
            ("IPAMConfiguration", "strictAffinity") => capital(ipam.strict_affinity),
            ("IPAMConfiguration", "maxBlocksPerHost") => {
                ipam.max_blocks_per_host.unwrap_or_default().to_string()
            }
            ("IPPool", "assignmentMode") => format!("{:?}", IpPoolSpec::assignment(&pool)),
            ("IPPool", "nodeSelector") => pool.nodes().canonical().to_owned(),
            ("Tier", "defaultAction") => format!("{:?}", TierAction::default()),
            other => panic!("{other:?}"),
        }
    };
    let mut checked = 0;
    for row in TABLE.lines().skip(1) {
        let columns: Vec<&'static str> = row.split('\t').collect();
        let (kind, path) = (columns[0], columns[1]);
        // The settings that say more than a default say it themselves, and test it.
        if ["FelixConfiguration", "KubeControllersConfiguration"].contains(&kind)
            || ELSEWHERE.iter().any(|(elsewhere, _)| *elsewhere == kind)
        {
            continue;
        }
        for (name, text) in constraints(columns.get(3).copied().unwrap_or_default()) {
            if name == "default" {
                checked += 1;
                assert_eq!(effective(kind, path), text, "{kind} {path}");
            }
        }
    }
    assert_eq!(checked, 17);
}

fn capital(flag: bool) -> String {
    if flag { "True" } else { "False" }.to_owned()
}

/// The place that a path of the table leads to.
fn find(value: &Value, path: &str, pointer: String, field: String) -> Option<(String, String)> {
    if path.is_empty() {
        return Some((pointer, field));
    }
    if let Some(rest) = path.strip_prefix("[]") {
        let items = value.as_array()?;
        return items.iter().enumerate().find_map(|(index, item)| {
            find(
                item,
                rest,
                format!("{pointer}/{index}"),
                format!("{field}[{index}]"),
            )
        });
    }
    if let Some(rest) = path.strip_prefix("{}") {
        return value.as_object()?.iter().find_map(|(key, item)| {
            let escaped = key.replace('~', "~0").replace('/', "~1");
            find(
                item,
                rest,
                format!("{pointer}/{escaped}"),
                format!("{field}[{key:?}]"),
            )
        });
    }
    let path = path.strip_prefix('.').unwrap_or(path);
    let end = path.find(['.', '[', '{']).unwrap_or(path.len());
    let (name, rest) = path.split_at(end);
    let dot = if field.is_empty() { "" } else { "." };
    find(
        value.get(name)?,
        rest,
        format!("{pointer}/{name}"),
        format!("{field}{dot}{name}"),
    )
}

fn taken(manifest: &Value) -> Result<(), Vec<Problem>> {
    let key = manifest_key(manifest).unwrap();
    validate(&key, manifest.clone()).map(drop)
}

/// Whether a problem is of this field or of something in it; values of maps are told as their map.
fn inside(problem: &Problem, field: &str) -> bool {
    let plain = |path: &str| path.replace("[\"", ".").replace("\"]", "");
    let (path, field) = (plain(&problem.field), plain(field));
    path.strip_prefix(&field)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// A text like another, but this long.
fn longer(text: &str, len: usize) -> String {
    let is_selector = text.contains('(') || text.contains("==");
    let filler = if is_selector { " " } else { "a" };
    let mut text = text.to_owned();
    while text.len() < len {
        text.push_str(filler);
    }
    text
}

/// The constraints of a row, but for rules between fields.
pub(super) fn constraints(text: &'static str) -> Vec<(&'static str, &'static str)> {
    let keys = [
        "default=",
        "enum=",
        "format=",
        "maxItems=",
        "maxLength=",
        "maximum=",
        "minItems=",
        "minLength=",
        "minimum=",
        "pattern=",
        "required",
        "CEL: ",
    ];
    let mut found = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let next = keys
            .iter()
            .filter_map(|key| rest.find(&format!("; {key}")))
            .min();
        let one = &rest[..next.unwrap_or(rest.len())];
        rest = next.map_or("", |at| &rest[at + 2..]);
        if !one.starts_with("CEL: ") {
            found.push(one.split_once('=').unwrap_or((one, "")));
        }
    }
    found
}
