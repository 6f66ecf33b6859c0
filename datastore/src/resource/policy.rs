//! Policies and their rules.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Spec;
use crate::{
    Kind,
    selector::Selector,
    value::{Action, Cidr, IpVersion, Port, Protocol, absent_if_empty, write_order},
};

/// The direction a policy governs, seen from the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum PolicyType {
    /// Traffic to the endpoint.
    Ingress,
    /// Traffic from the endpoint.
    Egress,
}

/// A policy for the endpoints of a namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkPolicySpec {
    /// The tier; absent means `default`.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "absent_if_empty"
    )]
    pub tier: Option<String>,
    /// The place among the tier's policies, low first; absent is last.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "write_order"
    )]
    pub order: Option<f64>,
    /// The endpoints it applies to; absent means all in the namespace.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "absent_if_empty"
    )]
    pub selector: Option<Selector>,
    /// The directions it governs. Empty in what clients without defaults wrote: then both.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<PolicyType>,
    /// Rules for traffic to the endpoints, first match decides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<Rule>,
    /// Rules for traffic from the endpoints, first match decides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<Rule>,
    /// Narrows to endpoints whose service account has these labels.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "absent_if_empty"
    )]
    pub service_account_selector: Option<Selector>,
    /// Hints that never change what is enforced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub performance_hints: Vec<String>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Spec for NetworkPolicySpec {
    const KIND: Kind = Kind::NetworkPolicy;
}

/// A policy for endpoints of any namespace, and for hosts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GlobalNetworkPolicySpec {
    /// The tier; absent means `default`.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "absent_if_empty"
    )]
    pub tier: Option<String>,
    /// The place among the tier's policies, low first; absent is last.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "write_order"
    )]
    pub order: Option<f64>,
    /// The endpoints it applies to; absent means all.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "absent_if_empty"
    )]
    pub selector: Option<Selector>,
    /// Narrows to endpoints whose namespace has these labels.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "absent_if_empty"
    )]
    pub namespace_selector: Option<Selector>,
    /// The directions it governs. Empty in what clients without defaults wrote: then both.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<PolicyType>,
    /// Rules for traffic to the endpoints, first match decides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<Rule>,
    /// Rules for traffic from the endpoints, first match decides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<Rule>,
    /// Narrows to endpoints whose service account has these labels.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "absent_if_empty"
    )]
    pub service_account_selector: Option<Selector>,
    /// Applied before connections are tracked; host endpoints only.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub do_not_track: bool,
    /// Applied before addresses are translated; host endpoints only.
    #[serde(default, rename = "preDNAT", skip_serializing_if = "super::is_false")]
    pub pre_dnat: bool,
    /// Applied to forwarded traffic too; host endpoints only.
    #[serde(default, skip_serializing_if = "super::is_false")]
    pub apply_on_forward: bool,
    /// Hints that never change what is enforced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub performance_hints: Vec<String>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Spec for GlobalNetworkPolicySpec {
    const KIND: Kind = Kind::GlobalNetworkPolicy;
}

/// One rule: it matches when each of its fields does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// What it does with a match.
    pub action: Action,
    /// The version of IP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_version: Option<IpVersion>,
    /// The protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// Any protocol but this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_protocol: Option<Protocol>,
    /// The ICMP message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp: Option<Icmp>,
    /// Any ICMP message but this.
    #[serde(default, rename = "notICMP", skip_serializing_if = "Option::is_none")]
    pub not_icmp: Option<Icmp>,
    /// Where it comes from.
    #[serde(default, skip_serializing_if = "EntityRule::is_empty")]
    pub source: EntityRule,
    /// Where it goes.
    #[serde(default, skip_serializing_if = "EntityRule::is_empty")]
    pub destination: EntityRule,
    /// The HTTP request; not looked at by the data path, which decides by the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpMatch>,
    /// Comments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<RuleMetadata>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// An ICMP message, RFC 792 and RFC 4443.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Icmp {
    /// Its type.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<u8>,
    /// Its code; never without a type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u8>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// One side of a rule: it matches when each of its fields does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EntityRule {
    /// In any of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nets: Vec<Cidr>,
    /// In none of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_nets: Vec<Cidr>,
    /// An endpoint or a network set with these labels.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "absent_if_empty"
    )]
    pub selector: Option<Selector>,
    /// No endpoint or network set with these labels.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "absent_if_empty"
    )]
    pub not_selector: Option<Selector>,
    /// In a namespace with these labels; `global()` means in none.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "absent_if_empty"
    )]
    pub namespace_selector: Option<Selector>,
    /// At any of these ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// At none of these ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_ports: Vec<Port>,
    /// Running under one of these accounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_accounts: Option<ServiceAccounts>,
    /// A backend of this service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub services: Option<ServiceMatch>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl EntityRule {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Service accounts, by name and by label; both must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServiceAccounts {
    /// One of these names, if there are any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// The account's labels.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "absent_if_empty"
    )]
    pub selector: Option<Selector>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// A service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServiceMatch {
    /// Its name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its namespace; absent means the policy's.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "absent_if_empty"
    )]
    pub namespace: Option<String>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// HTTP requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HttpMatch {
    /// One of these methods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// One of these paths.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<HttpPath>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The path of a request: one of both fields is there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HttpPath {
    /// Exactly this.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "absent_if_empty"
    )]
    pub exact: Option<String>,
    /// Beginning with this.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "absent_if_empty"
    )]
    pub prefix: Option<String>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Comments on a rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RuleMetadata {
    /// Notes of clients.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Fields that are not read here.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}
