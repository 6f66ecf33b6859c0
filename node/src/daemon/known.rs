//! What the store has told: the objects, what is wrong with them, and how the connection is.
//!
//! Pure. An invalid object is a missing one that is listed; what is wrong between valid objects is found when somebody asks.

use std::collections::BTreeMap;
use std::sync::Arc;

use cleat_datastore::{Event, Key, Kind, Problem, Resource, Update};

use crate::check;
use crate::output::answers;

/// Everything the watch has told so far.
#[derive(Debug, Default)]
pub struct Known {
    objects: BTreeMap<Key, Arc<Resource>>,
    invalid: BTreeMap<Key, Problem>,
    unreadable: Vec<Problem>,
    /// The store has been read whole once.
    in_sync: bool,
    revision: u64,
    trouble: Option<String>,
}

impl Known {
    /// Takes what the watch told, and gives the changes for the calculation.
    pub fn take(&mut self, event: Event) -> Vec<Update> {
        match event {
            Event::Updates(updates) => {
                for update in &updates {
                    self.update(update);
                }
                updates
            }
            Event::InSync { revision } => {
                self.in_sync = true;
                self.trouble = None;
                self.revision = self.revision.max(revision);
                Vec::new()
            }
            Event::Trouble(reason) => {
                self.trouble = Some(reason);
                Vec::new()
            }
            Event::Held(held) => {
                self.trouble = Some(held.reason);
                Vec::new()
            }
            Event::Unreadable(problems) => {
                self.unreadable = problems;
                Vec::new()
            }
        }
    }

    /// Whether the store has been read whole once; it stays so when the connection breaks.
    pub fn in_sync(&self) -> bool {
        self.in_sync
    }

    /// An object, if it is there and valid.
    pub fn get(&self, key: &Key) -> Option<&Arc<Resource>> {
        self.objects.get(key)
    }

    /// The connection's state for people.
    pub fn store(&self, kind: &str) -> answers::Store {
        answers::Store {
            kind: kind.to_owned(),
            in_sync: self.in_sync,
            revision: self.revision,
            trouble: self.trouble.clone().unwrap_or_default(),
        }
    }

    /// What a person should mend in the store.
    pub fn problems(&self) -> Vec<answers::Problem> {
        let between = check::between(&self.objects);
        let mut problems: Vec<answers::Problem> = self
            .unreadable
            .iter()
            .chain(self.invalid.values())
            .chain(&between)
            .map(describe)
            .collect();
        problems.sort();
        problems.dedup();
        problems
    }

    /// Objects that cannot be used, by the name of their kind.
    pub fn invalid_by_kind(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for key in self.invalid.keys() {
            *counts.entry(key.sort().to_owned()).or_default() += 1;
        }
        if !self.unreadable.is_empty() {
            *counts.entry(UNREADABLE.to_owned()).or_default() += self.unreadable.len();
        }
        counts
    }

    fn update(&mut self, update: &Update) {
        self.revision = self.revision.max(update.revision);
        match &update.value {
            Some(resource) => self
                .objects
                .insert(update.key.clone(), Arc::clone(resource)),
            None => self.objects.remove(&update.key),
        };
        match &update.problem {
            Some(problem) => {
                tracing::warn!(object = %update.key, field = problem.field, reason = problem.reason, "invalid resource");
                self.invalid.insert(update.key.clone(), problem.clone())
            }
            None => self.invalid.remove(&update.key),
        };
    }
}

/// Every label of the metric of invalid resources.
pub fn kind_names() -> impl Iterator<Item = &'static str> {
    Kind::ALL
        .into_iter()
        .map(Kind::name)
        .chain(["BlockAffinity", "Subnet", UNREADABLE])
}

fn describe(problem: &Problem) -> answers::Problem {
    let object = match &problem.origin {
        Some(origin) if problem.object.is_empty() => origin.to_string(),
        Some(origin) => format!("{origin}: {}", problem.object),
        None => problem.object.clone(),
    };
    answers::Problem {
        object,
        field: problem.field.clone(),
        reason: problem.reason.clone(),
    }
}

/// What is not even an object under a key.
const UNREADABLE: &str = "unreadable";

#[cfg(test)]
mod tests {
    use cleat_datastore::resource::from_manifest;
    use serde_json::json;

    use super::*;

    fn tier(name: &str) -> (Key, Arc<Resource>) {
        let manifest = json!({"apiVersion": "projectcalico.org/v3", "kind": "Tier", "metadata": {"name": name}, "spec": {"order": 1}});
        let (key, resource) = from_manifest(manifest).unwrap();
        (key, Arc::new(resource))
    }

    #[test]
    fn an_object_that_becomes_invalid_is_gone_and_listed_until_it_is_mended() {
        let mut known = Known::default();
        let (key, value) = tier("a");
        let update = |value: Option<&Arc<Resource>>, problem: Option<&str>, revision| {
            let problem = problem.map(|reason| Problem::new(&key, "spec.order", reason));
            Event::Updates(vec![Update {
                key: key.clone(),
                value: value.cloned(),
                revision,
                problem,
            }])
        };
        assert_eq!(known.take(update(Some(&value), None, 4)).len(), 1);
        assert!(known.get(&key).is_some() && known.problems().is_empty());
        known.take(update(None, Some("is no number"), 5));
        assert!(known.get(&key).is_none());
        let problem = &known.problems()[0];
        assert_eq!(
            (problem.object.as_str(), problem.field.as_str()),
            ("Tier(a)", "spec.order")
        );
        assert_eq!(known.invalid_by_kind(), [("Tier".to_owned(), 1)].into());
        known.take(update(Some(&value), None, 6));
        assert!(known.problems().is_empty() && known.invalid_by_kind().is_empty());
        assert_eq!(known.store("dir").revision, 6);
    }

    #[test]
    fn a_broken_connection_is_told_and_what_was_known_stays() {
        let mut known = Known::default();
        known.take(Event::InSync { revision: 7 });
        known.take(Event::Trouble("connection refused".into()));
        let store = known.store("etcd");
        assert!(known.in_sync() && store.in_sync);
        assert_eq!(
            (store.revision, store.trouble.as_str()),
            (7, "connection refused")
        );
        known.take(Event::InSync { revision: 9 });
        assert_eq!(known.store("etcd").trouble, "");
    }
}
