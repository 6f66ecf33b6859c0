//! What stands between the store's watch and what is in force.
//!
//! Half a listing is no state: nothing of it takes hold before the store has told everything. And while
//! `ClusterInformation` says that the datastore is not ready (its owner moves it, as for `calicoctl datastore migrate
//! lock`), what it tells is kept back: what is in force stays, and a daemon that starts waits.
//!
//! Pure.

use std::collections::BTreeMap;

use cleat_datastore::{Key, Kind, Update};

/// The gate: open once the store has told everything, closed while the datastore is not ready.
#[derive(Debug)]
pub struct Gate {
    /// Changes that have not taken hold; the last of each object.
    waiting: BTreeMap<Key, Update>,
    /// Everything was told once.
    told: bool,
    /// The revision at which everything was told, while nobody was let know.
    in_sync: Option<u64>,
    ready: bool,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            waiting: BTreeMap::new(),
            told: false,
            in_sync: None,
            ready: true,
        }
    }
}

impl Gate {
    /// Takes what the store told, and gives what takes hold now.
    pub fn updates(&mut self, updates: Vec<Update>) -> Vec<Update> {
        for update in &updates {
            if is_cluster_information(&update.key) {
                self.ready = !says_not_ready(update);
            }
        }
        if self.is_open() && self.waiting.is_empty() {
            return updates;
        }
        for update in updates {
            self.waiting.insert(update.key.clone(), update);
        }
        self.waiting()
    }

    /// Takes the word that everything up to a revision was told. Gives what takes hold now.
    pub fn in_sync(&mut self, revision: u64) -> Vec<Update> {
        self.told = true;
        self.in_sync = Some(revision);
        self.waiting()
    }

    /// The revision up to which everything has taken hold, if it was not asked for yet.
    pub fn take_in_sync(&mut self) -> Option<u64> {
        if self.is_open() {
            self.in_sync.take()
        } else {
            None
        }
    }

    /// The datastore says that it is not ready.
    pub fn is_frozen(&self) -> bool {
        !self.ready
    }

    fn is_open(&self) -> bool {
        self.told && self.ready
    }

    fn waiting(&mut self) -> Vec<Update> {
        if self.is_open() {
            std::mem::take(&mut self.waiting).into_values().collect()
        } else {
            Vec::new()
        }
    }
}

/// Whether this is the object in which a cluster tells of itself.
pub fn is_cluster_information(key: &Key) -> bool {
    key.kind() == Some(Kind::ClusterInformation) && key.name() == "default"
}

/// Only a plain `false` counts: a directory of files, and a cluster that never saw calicoctl, have no such object.
fn says_not_ready(update: &Update) -> bool {
    let ready = update.value.as_ref().and_then(|resource| {
        resource
            .to_value()
            .pointer("/spec/datastoreReady")?
            .as_bool()
    });
    ready == Some(false)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use cleat_datastore::resource::from_manifest;
    use serde_json::{Value, json};

    use super::*;

    #[expect(
        clippy::needless_pass_by_value,
        reason = "every caller has just made it"
    )]
    fn update(kind: &str, name: &str, spec: Value) -> Update {
        let manifest = json!({"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": {"name": name}, "spec": spec});
        let (key, resource) = from_manifest(manifest).unwrap();
        Update {
            key,
            value: Some(Arc::new(resource)),
            revision: 1,
            problem: None,
        }
    }

    fn ready(ready: bool) -> Update {
        update(
            "ClusterInformation",
            "default",
            json!({"datastoreReady": ready}),
        )
    }

    fn tier(name: &str, order: u32) -> Update {
        update("Tier", name, json!({"order": order}))
    }

    #[test]
    fn nothing_takes_hold_before_everything_was_told() {
        let mut gate = Gate::default();
        assert_eq!(gate.updates(vec![tier("a", 1)]), []);
        assert_eq!(gate.updates(vec![tier("b", 1), tier("a", 2)]), []);
        assert_eq!(gate.take_in_sync(), None);
        assert_eq!(gate.in_sync(7), [tier("a", 2), tier("b", 1)]);
        assert_eq!((gate.take_in_sync(), gate.take_in_sync()), (Some(7), None));
        assert_eq!(gate.updates(vec![tier("b", 3)]), [tier("b", 3)]);
    }

    #[test]
    fn a_datastore_that_is_not_ready_changes_nothing_until_it_is() {
        let mut gate = Gate::default();
        gate.in_sync(1);
        gate.take_in_sync();
        // What comes with the word is kept back as well, wherever it stands.
        assert_eq!(gate.updates(vec![tier("a", 1), ready(false)]), []);
        assert!(gate.is_frozen());
        assert_eq!(gate.updates(vec![tier("a", 2)]), []);
        assert_eq!(gate.in_sync(5), []);
        assert_eq!(gate.take_in_sync(), None);
        let passed = gate.updates(vec![ready(true)]);
        assert_eq!(passed, [ready(true), tier("a", 2)]);
        assert_eq!((gate.take_in_sync(), gate.is_frozen()), (Some(5), false));
    }

    #[test]
    fn a_datastore_that_is_not_ready_at_the_start_is_waited_for() {
        let mut gate = Gate::default();
        gate.updates(vec![ready(false), tier("a", 1)]);
        assert_eq!(gate.in_sync(3), []);
        assert_eq!(gate.take_in_sync(), None);
        assert_eq!(gate.updates(vec![ready(true)]).len(), 2);
        assert_eq!(gate.take_in_sync(), Some(3));
    }

    #[test]
    fn a_datastore_that_does_not_say_is_ready() {
        let mut gate = Gate::default();
        gate.in_sync(1);
        for silent in [
            update("ClusterInformation", "default", json!({})),
            update(
                "ClusterInformation",
                "other",
                json!({"datastoreReady": false}),
            ),
            Update {
                value: None,
                ..ready(true)
            },
        ] {
            assert_eq!(gate.updates(vec![silent.clone()]), [silent]);
        }
    }
}
