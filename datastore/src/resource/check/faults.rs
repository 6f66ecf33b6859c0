//! What is wrong with an object, collected field by field.

use std::fmt;

use crate::{Key, Kind};

/// What is wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fault {
    /// The path of the field.
    pub(crate) field: String,
    /// What is wrong with it.
    pub(crate) reason: String,
}

impl Fault {
    pub(crate) fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            reason: reason.into(),
        }
    }

    /// The same fault, with the path that the field has in what lies under the key.
    pub(crate) fn of_key(self, key: &Key) -> Self {
        match key.kind() {
            Some(kind) => self.of(kind),
            None => self,
        }
    }

    /// The same fault, with the path that the field has in a manifest of the kind.
    pub(crate) fn of(mut self, kind: Kind) -> Self {
        if !kind.has_spec()
            && let Some(field) = self.field.strip_prefix("spec")
        {
            self.field = field.trim_start_matches('.').to_owned();
        }
        self
    }
}

/// The faults of an object, and where in it the search is.
#[derive(Debug)]
pub(crate) struct Faults {
    path: String,
    found: Vec<Fault>,
    strict: bool,
}

impl Faults {
    /// For reading what others wrote: only what no reader of Calico would take is a fault.
    pub(crate) fn lenient() -> Self {
        Self {
            path: String::new(),
            found: Vec::new(),
            strict: false,
        }
    }

    /// For writing: whatever breaks a rule is a fault.
    pub(crate) fn strict() -> Self {
        Self {
            strict: true,
            ..Self::lenient()
        }
    }

    /// Whether every rule counts, not just those that a reader depends on.
    pub(crate) fn is_strict(&self) -> bool {
        self.strict
    }

    /// What was found; of several faults of one field, the first.
    pub(crate) fn into_found(self) -> Vec<Fault> {
        let mut found: Vec<Fault> = Vec::new();
        for fault in self.found {
            if found.iter().all(|known| known.field != fault.field) {
                found.push(fault);
            }
        }
        found
    }

    /// Whether there is a fault at a path, or inside of what it names.
    pub(crate) fn within_path(&self, path: &str) -> bool {
        self.found.iter().any(|fault| {
            fault
                .field
                .strip_prefix(path)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
    }

    /// Notes a fault of a field of what is being looked at; an empty name means the whole.
    pub(crate) fn add(&mut self, field: &str, reason: impl Into<String>) {
        let reason = reason.into();
        self.at(field, |faults| {
            let field = faults.path.clone();
            faults.found.push(Fault { field, reason });
        });
    }

    /// Notes a fault that was found by other means, with its path from here.
    pub(crate) fn take(&mut self, fault: Fault) {
        self.add(&fault.field, fault.reason);
    }

    /// Looks at a field.
    pub(crate) fn at(&mut self, field: &str, look: impl FnOnce(&mut Self)) {
        let len = self.path.len();
        if !self.path.is_empty() && !field.is_empty() && !field.starts_with(['[', '{']) {
            self.path.push('.');
        }
        self.path.push_str(field);
        look(self);
        self.path.truncate(len);
    }

    /// Looks at each item of a list.
    pub(crate) fn each<T>(
        &mut self,
        field: &str,
        items: &[T],
        mut look: impl FnMut(&T, &mut Self),
    ) {
        for (index, item) in items.iter().enumerate() {
            self.at(&format!("{field}[{index}]"), |faults| look(item, faults));
        }
    }

    /// Something that must hold.
    pub(crate) fn require<R: Into<String>>(
        &mut self,
        holds: bool,
        field: &str,
        reason: impl FnOnce() -> R,
    ) {
        if !holds {
            self.add(field, reason());
        }
    }

    /// Nothing may be in the list twice.
    pub(crate) fn distinct<T: PartialEq>(&mut self, field: &str, items: &[T]) {
        for (index, item) in items.iter().enumerate() {
            if items[..index].contains(item) {
                self.add(&format!("{field}[{index}]"), "is there twice");
            }
        }
    }

    /// A number has bounds, both included.
    pub(crate) fn within<N: Copy + PartialOrd + fmt::Display>(
        &mut self,
        field: &str,
        value: Option<N>,
        low: N,
        high: N,
    ) {
        if let Some(value) = value.filter(|value| *value < low || *value > high) {
            self.add(field, format!("{value} is not within {low} to {high}"));
        }
    }

    /// Two fields of which one may be there.
    pub(crate) fn exclusive(&mut self, field: &str, there: bool, other: &str, other_there: bool) {
        self.require(!(there && other_there), field, || {
            format!("excludes {other}")
        });
    }
}
