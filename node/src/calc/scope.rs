//! What a policy's and a rule's selectors mean once namespaces and service accounts are taken into account.
//!
//! Labels of namespaces and service accounts reach endpoints through profiles (`kns.*`, `ksa.*`) under prefixes of their own,
//! so that a namespace selector becomes an ordinary selector over prefixed labels.

use std::collections::{BTreeMap, BTreeSet};

use cleat_datastore::resource::{EntityRule, GlobalNetworkPolicySpec, Metadata, NetworkPolicySpec};
use cleat_datastore::selector::{Expression, Selector};

/// The label of an endpoint's or a set's namespace.
pub(crate) const NAMESPACE: &str = "projectcalico.org/namespace";
/// The label of an endpoint's orchestrator.
pub(crate) const ORCHESTRATOR: &str = "projectcalico.org/orchestrator";
/// The label of an endpoint's service account.
pub(crate) const SERVICE_ACCOUNT: &str = "projectcalico.org/serviceaccount";
/// Before labels of the namespace.
pub(crate) const NAMESPACE_PREFIX: &str = "pcns.";
/// Before labels of the service account.
pub(crate) const SERVICE_ACCOUNT_PREFIX: &str = "pcsa.";

/// The endpoints a NetworkPolicy applies to.
pub(crate) fn policy(namespace: &str, spec: &NetworkPolicySpec) -> Selector {
    all_of([
        spec.selector
            .as_ref()
            .map(|selector| selector.expression().clone()),
        Some(in_namespace(namespace)),
        spec.service_account_selector.as_ref().map(service_accounts),
    ])
    .unwrap_or_else(Selector::all)
}

/// The endpoints a GlobalNetworkPolicy applies to.
pub(crate) fn global_policy(spec: &GlobalNetworkPolicySpec) -> Selector {
    all_of([
        spec.selector
            .as_ref()
            .map(|selector| selector.expression().clone()),
        spec.namespace_selector.as_ref().map(namespaces),
        spec.service_account_selector.as_ref().map(service_accounts),
    ])
    .unwrap_or_else(Selector::all)
}

/// Whom one side of a rule means, if it says so by labels. A NetworkPolicy's rule that asks for labels and names no namespaces
/// means its own namespace.
pub(crate) fn entity(rule: &EntityRule, namespace: Option<&str>) -> Option<Selector> {
    let accounts = rule.service_accounts.as_ref().and_then(|accounts| {
        let names = (!accounts.names.is_empty()).then(|| {
            Expression::In(
                SERVICE_ACCOUNT.to_owned(),
                accounts.names.iter().cloned().collect::<BTreeSet<_>>(),
            )
        });
        let labels = accounts.selector.as_ref().map(service_accounts);
        let parts: Vec<Expression> = names.into_iter().chain(labels).collect();
        (!parts.is_empty()).then(|| Expression::and(parts))
    });
    let selector = rule
        .selector
        .as_ref()
        .map(|selector| selector.expression().clone());
    let scope = match (&rule.namespace_selector, namespace) {
        (Some(selector), _) => Some(namespaces(selector)),
        (None, Some(namespace)) => {
            (accounts.is_some() || selector.is_some() || rule.not_selector.is_some())
                .then(|| in_namespace(namespace))
        }
        (None, None) => None,
    };
    all_of([scope, accounts, selector])
}

/// The labels of an endpoint or a set, before what its profiles add.
pub(crate) fn labels(metadata: &Metadata, namespace: Option<&str>) -> BTreeMap<String, String> {
    let reserved =
        |name: &str| name.starts_with(NAMESPACE_PREFIX) || name.starts_with(SERVICE_ACCOUNT_PREFIX);
    let mut labels: BTreeMap<String, String> = metadata
        .labels
        .iter()
        .filter(|(name, _)| !reserved(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if let Some(namespace) = namespace {
        labels.insert(NAMESPACE.to_owned(), namespace.to_owned());
    }
    labels
}

fn all_of(parts: [Option<Expression>; 3]) -> Option<Selector> {
    let parts: Vec<Expression> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| Selector::from_expression(Expression::and(parts)))
}

fn in_namespace(namespace: &str) -> Expression {
    Expression::Equal(NAMESPACE.to_owned(), namespace.to_owned())
}

/// `all()` means every namespace, and so nothing outside of namespaces; `global()` means the rest.
fn namespaces(selector: &Selector) -> Expression {
    bind_namespace(
        &selector
            .expression()
            .map_labels(&|label| format!("{NAMESPACE_PREFIX}{label}")),
    )
}

fn bind_namespace(expression: &Expression) -> Expression {
    let many = |operands: &[Expression]| operands.iter().map(bind_namespace).collect();
    match expression {
        Expression::All => Expression::Has(NAMESPACE.to_owned()),
        Expression::Global => Expression::Not(Box::new(Expression::Has(NAMESPACE.to_owned()))),
        Expression::And(operands) => Expression::And(many(operands)),
        Expression::Or(operands) => Expression::Or(many(operands)),
        Expression::Not(operand) => Expression::Not(Box::new(bind_namespace(operand))),
        Expression::Contains(..)
        | Expression::EndsWith(..)
        | Expression::Equal(..)
        | Expression::Has(_)
        | Expression::In(..)
        | Expression::NotEqual(..)
        | Expression::NotIn(..)
        | Expression::StartsWith(..) => expression.clone(),
    }
}

fn service_accounts(selector: &Selector) -> Expression {
    selector
        .expression()
        .map_labels(&|label| format!("{SERVICE_ACCOUNT_PREFIX}{label}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_means_its_own_namespace_only_when_it_asks_for_labels() {
        let parse = |text: &str| Some(Selector::parse(text).unwrap());
        let cases = [
            ("nothing", EntityRule::default(), Some("a"), None),
            (
                "selector",
                EntityRule {
                    selector: parse("x == '1'"),
                    ..EntityRule::default()
                },
                Some("a"),
                parse("projectcalico.org/namespace == 'a' && x == '1'"),
            ),
            (
                "selector, global",
                EntityRule {
                    selector: parse("x == '1'"),
                    ..EntityRule::default()
                },
                None,
                parse("x == '1'"),
            ),
            (
                "not selector",
                EntityRule {
                    not_selector: parse("x == '1'"),
                    ..EntityRule::default()
                },
                Some("a"),
                parse("projectcalico.org/namespace == 'a'"),
            ),
            (
                "not selector, global",
                EntityRule {
                    not_selector: parse("x == '1'"),
                    ..EntityRule::default()
                },
                None,
                None,
            ),
            (
                "namespaces",
                EntityRule {
                    namespace_selector: parse("env == 'p'"),
                    ..EntityRule::default()
                },
                Some("a"),
                parse("pcns.env == 'p'"),
            ),
            (
                "all namespaces",
                EntityRule {
                    namespace_selector: parse("all()"),
                    selector: parse("x == '1'"),
                    ..EntityRule::default()
                },
                Some("a"),
                parse("has(projectcalico.org/namespace) && x == '1'"),
            ),
            (
                "no namespace",
                EntityRule {
                    namespace_selector: parse("global()"),
                    ..EntityRule::default()
                },
                Some("a"),
                parse("!has(projectcalico.org/namespace)"),
            ),
        ];
        for (name, rule, namespace, expected) in cases {
            assert_eq!(entity(&rule, namespace), expected, "{name}");
        }
    }
}
