//! The rules that the types of fields do not hold by themselves.
//!
//! Each type looks at itself and names the field at fault by a path relative to itself; [`Faults`] knows
//! the path to it. Two sorts of readers ask: who reads what others wrote wants to know only what Calico's own
//! readers would not take, since an object that is refused is a deleted one; who writes wants every rule,
//! and every fault at once. Bounds of single fields are in the [schema](super::schema).

mod bgp;
mod endpoint;
mod faults;
mod names;
mod network;
mod others;
mod policy;
mod rules;
#[cfg(test)]
mod tests;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Metadata, Object, Spec, codec::typed};
pub(crate) use faults::{Fault, Faults};
pub(crate) use names::check_name;
use names::{check_annotations, check_labels};

/// A type that has rules beyond the types of its fields.
pub(crate) trait Check {
    /// Looks for faults.
    fn check(&self, faults: &mut Faults);
}

/// A specification, and what its object must keep beside.
pub(crate) trait CheckObject: Check + Spec {
    /// What concerns the name and other fields outside the specification.
    fn check_object(object: &Object<Self>, faults: &mut Faults) {
        if faults.is_strict() {
            faults.at("metadata.name", |faults| {
                check_name(&object.metadata.name, faults);
            });
        }
    }

    /// The status, if the object has one.
    fn check_status(status: &Value, faults: &mut Faults) {
        let _ = (status, faults);
    }
}

impl<S: CheckObject> Check for Object<S> {
    fn check(&self, faults: &mut Faults) {
        S::check_object(self, faults);
        if faults.is_strict() {
            faults.at("metadata", |faults| self.metadata.check(faults));
        }
        faults.at("spec", |faults| self.spec.check(faults));
        if let Some(status) = self.extra.get("status") {
            S::check_status(status, faults);
        }
    }
}

impl<T: Check> Check for Box<T> {
    fn check(&self, faults: &mut Faults) {
        (**self).check(faults);
    }
}

impl Check for Metadata {
    fn check(&self, faults: &mut Faults) {
        faults.at("labels", |faults| check_labels(&self.labels, faults));
        faults.at("annotations", |faults| {
            check_annotations(&self.annotations, faults);
        });
    }
}

/// Looks at a status that has a type.
fn typed_status<T: DeserializeOwned>(status: &Value, faults: &mut Faults) {
    if let Err(fault) = typed::<T>("status", status.clone()) {
        faults.take(fault);
    }
}
