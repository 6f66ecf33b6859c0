//! The tree of a selector: how it matches, how it is written, what it demands of a label.

use std::{collections::BTreeSet, fmt};

use super::Labels;

/// A selector's tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expression {
    /// `all()`.
    All,
    /// Every operand; there are at least two.
    And(Vec<Expression>),
    /// The label is there and contains the text.
    Contains(String, String),
    /// The label is there and ends with the text.
    EndsWith(String, String),
    /// The label is there and is the text.
    Equal(String, String),
    /// `global()`: true here; where it is legal it stands for "in no namespace".
    Global,
    /// The label is there.
    Has(String),
    /// The label is there and is one of these.
    In(String, BTreeSet<String>),
    /// Not the operand.
    Not(Box<Expression>),
    /// The label is missing or is not the text.
    NotEqual(String, String),
    /// The label is missing or is none of these.
    NotIn(String, BTreeSet<String>),
    /// Any operand; there are at least two.
    Or(Vec<Expression>),
    /// The label is there and starts with the text.
    StartsWith(String, String),
}

impl Expression {
    /// All operands at once; one operand is itself.
    pub fn and(mut operands: Vec<Expression>) -> Self {
        match operands.len() {
            0 => Expression::All,
            1 => operands.remove(0),
            _ => Expression::And(operands),
        }
    }

    /// Any of the operands, of which there must be one; one operand is itself.
    pub(super) fn or(mut operands: Vec<Expression>) -> Self {
        if operands.len() == 1 {
            operands.remove(0)
        } else {
            Expression::Or(operands)
        }
    }

    /// Whether the expression holds for these labels.
    pub fn matches(&self, labels: &(impl Labels + ?Sized)) -> bool {
        match self {
            Expression::All | Expression::Global => true,
            Expression::And(operands) => operands.iter().all(|operand| operand.matches(labels)),
            Expression::Contains(label, text) => labels
                .label(label)
                .is_some_and(|value| value.contains(text.as_str())),
            Expression::EndsWith(label, text) => labels
                .label(label)
                .is_some_and(|value| value.ends_with(text.as_str())),
            Expression::Equal(label, text) => labels.label(label) == Some(text),
            Expression::Has(label) => labels.label(label).is_some(),
            Expression::In(label, set) => {
                labels.label(label).is_some_and(|value| set.contains(value))
            }
            Expression::Not(operand) => !operand.matches(labels),
            Expression::NotEqual(label, text) => labels.label(label) != Some(text),
            Expression::NotIn(label, set) => {
                labels.label(label).is_none_or(|value| !set.contains(value))
            }
            Expression::Or(operands) => operands.iter().any(|operand| operand.matches(labels)),
            Expression::StartsWith(label, text) => labels
                .label(label)
                .is_some_and(|value| value.starts_with(text.as_str())),
        }
    }

    /// Whether `global()` stands anywhere in it.
    pub fn mentions_global(&self) -> bool {
        match self {
            Expression::Global => true,
            Expression::And(operands) | Expression::Or(operands) => {
                operands.iter().any(Expression::mentions_global)
            }
            Expression::Not(operand) => operand.mentions_global(),
            Expression::All
            | Expression::Contains(..)
            | Expression::EndsWith(..)
            | Expression::Equal(..)
            | Expression::Has(_)
            | Expression::In(..)
            | Expression::NotEqual(..)
            | Expression::NotIn(..)
            | Expression::StartsWith(..) => false,
        }
    }

    /// The same expression over other label names.
    #[must_use]
    pub fn map_labels(&self, rename: &dyn Fn(&str) -> String) -> Self {
        let many = |operands: &[Expression]| {
            operands
                .iter()
                .map(|operand| operand.map_labels(rename))
                .collect()
        };
        match self {
            Expression::All => Expression::All,
            Expression::Global => Expression::Global,
            Expression::And(operands) => Expression::And(many(operands)),
            Expression::Or(operands) => Expression::Or(many(operands)),
            Expression::Not(operand) => Expression::Not(Box::new(operand.map_labels(rename))),
            Expression::Contains(label, text) => Expression::Contains(rename(label), text.clone()),
            Expression::EndsWith(label, text) => Expression::EndsWith(rename(label), text.clone()),
            Expression::Equal(label, text) => Expression::Equal(rename(label), text.clone()),
            Expression::Has(label) => Expression::Has(rename(label)),
            Expression::In(label, set) => Expression::In(rename(label), set.clone()),
            Expression::NotEqual(label, text) => Expression::NotEqual(rename(label), text.clone()),
            Expression::NotIn(label, set) => Expression::NotIn(rename(label), set.clone()),
            Expression::StartsWith(label, text) => {
                Expression::StartsWith(rename(label), text.clone())
            }
        }
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expression::All => f.write_str("all()"),
            Expression::Global => f.write_str("global()"),
            Expression::And(operands) => joined(f, operands, " && "),
            Expression::Or(operands) => joined(f, operands, " || "),
            Expression::Contains(label, text) => compared(f, label, "contains", text),
            Expression::EndsWith(label, text) => compared(f, label, "ends with", text),
            Expression::Equal(label, text) => compared(f, label, "==", text),
            Expression::NotEqual(label, text) => compared(f, label, "!=", text),
            Expression::StartsWith(label, text) => compared(f, label, "starts with", text),
            Expression::Has(label) => write!(f, "has({label})"),
            Expression::In(label, set) => listed(f, label, "in", set),
            Expression::NotIn(label, set) => listed(f, label, "not in", set),
            Expression::Not(operand) => write!(f, "!{operand}"),
        }
    }
}

fn joined(f: &mut fmt::Formatter<'_>, operands: &[Expression], between: &str) -> fmt::Result {
    f.write_str("(")?;
    for (index, operand) in operands.iter().enumerate() {
        if index > 0 {
            f.write_str(between)?;
        }
        write!(f, "{operand}")?;
    }
    f.write_str(")")
}

fn compared(f: &mut fmt::Formatter<'_>, label: &str, operator: &str, text: &str) -> fmt::Result {
    write!(f, "{label} {operator} ")?;
    quoted(f, text)
}

fn listed(
    f: &mut fmt::Formatter<'_>,
    label: &str,
    operator: &str,
    set: &BTreeSet<String>,
) -> fmt::Result {
    write!(f, "{label} {operator} {{")?;
    for (index, text) in set.iter().enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        quoted(f, text)?;
    }
    f.write_str("}")
}

/// A string holds one sort of quote at most, so the other one can enclose it.
fn quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let quote = if text.contains('"') { '\'' } else { '"' };
    write!(f, "{quote}{text}{quote}")
}
