//! The rules between fields, and the bounds of single ones that their types do not hold.
//!
//! Each type checks itself and names the field at fault by a path relative to itself; who holds it puts
//! its own name before.

mod bgp;
mod endpoint;
mod names;
mod network;
mod plain;
mod rules;
#[cfg(test)]
mod tests;

use super::{Metadata, Object, Spec};
use crate::Kind;
use names::{check_annotations, check_labels, check_name};

/// What is wrong with a field; the path is relative to what was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// The path of the field.
    pub(super) field: String,
    /// What is wrong with it.
    pub(super) reason: String,
}

pub(super) type Checked = Result<(), Fault>;

impl Fault {
    pub(super) fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            reason: reason.into(),
        }
    }

    /// The same fault, with the path that the field has in a manifest of the kind.
    pub(super) fn of(mut self, kind: Kind) -> Self {
        if !kind.has_spec()
            && let Some(field) = self.field.strip_prefix("spec")
        {
            self.field = field.trim_start_matches('.').to_owned();
        }
        self
    }

    /// The same fault, seen from the object that holds the faulty one in a field.
    fn inside(mut self, field: &str) -> Self {
        let between = if self.field.is_empty() || self.field.starts_with('[') {
            ""
        } else {
            "."
        };
        self.field = format!("{field}{between}{}", self.field);
        self
    }
}

/// A type that has rules beyond the types of its fields.
pub(crate) trait Check {
    /// The first fault there is.
    fn check(&self) -> Checked;
}

/// A specification, and what its object must keep beside.
pub(crate) trait CheckObject: Check + Spec {
    /// What concerns the name and other fields outside the specification.
    fn check_object(object: &Object<Self>) -> Checked {
        check_name(&object.metadata.name).map_err(|fault| fault.inside("metadata.name"))
    }
}

impl<S: CheckObject> Check for Object<S> {
    fn check(&self) -> Checked {
        S::check_object(self)?;
        field("metadata", &self.metadata)?;
        field("spec", &self.spec)
    }
}

impl<T: Check> Check for Box<T> {
    fn check(&self) -> Checked {
        (**self).check()
    }
}

impl Check for Metadata {
    fn check(&self) -> Checked {
        check_labels(&self.labels).map_err(|fault| fault.inside("labels"))?;
        check_annotations(&self.annotations).map_err(|fault| fault.inside("annotations"))
    }
}

/// Checks what a field holds.
fn field(name: &str, value: &impl Check) -> Checked {
    value.check().map_err(|fault| fault.inside(name))
}

/// Checks what a field holds, if it is there.
fn optional(name: &str, value: Option<&impl Check>) -> Checked {
    value.map_or(Ok(()), |value| field(name, value))
}

/// Checks each item of a list.
fn each<T>(name: &str, items: &[T], check: impl Fn(&T) -> Checked) -> Checked {
    items.iter().enumerate().try_for_each(|(index, item)| {
        check(item).map_err(|fault| fault.inside(&format!("{name}[{index}]")))
    })
}

fn at_most<T>(name: &str, items: &[T], bound: usize) -> Checked {
    require(items.len() <= bound, name, || {
        format!("has {} items, more than {bound}", items.len())
    })
}

fn distinct<T: PartialEq>(name: &str, items: &[T]) -> Checked {
    each_index(items, |index| !items[..index].contains(&items[index])).map_or(Ok(()), |index| {
        Err(Fault::new(format!("{name}[{index}]"), "is there twice"))
    })
}

/// The first index that fails.
fn each_index<T>(items: &[T], holds: impl Fn(usize) -> bool) -> Option<usize> {
    (0..items.len()).find(|index| !holds(*index))
}

fn require<R: Into<String>>(holds: bool, field: &str, reason: impl FnOnce() -> R) -> Checked {
    if holds {
        Ok(())
    } else {
        Err(Fault::new(field, reason()))
    }
}

fn within<N: Copy + PartialOrd + std::fmt::Display>(
    field: &str,
    value: Option<N>,
    low: N,
    high: N,
) -> Checked {
    match value {
        Some(value) if value < low || value > high => Err(Fault::new(
            field,
            format!("{value} is not within {low} to {high}"),
        )),
        Some(_) | None => Ok(()),
    }
}
