//! Felix's parameters as they hold on this node now: what the host says, and the FelixConfigurations that concern it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cleat_datastore::resource::FelixConfiguration;
use cleat_datastore::{Key, Kind, Problem, Resource, Update};

use crate::config::{Config, Loaded};
use crate::felix::{Effective, Settings};
use crate::output::answers;

/// The levels, and what they make.
pub(super) struct Parameters {
    loaded: Loaded,
    configurations: BTreeMap<String, Arc<FelixConfiguration>>,
    labels: BTreeMap<String, String>,
    effective: Effective,
    stale: bool,
    told: BTreeSet<String>,
}

impl Parameters {
    /// What the host says; nothing is known of the store yet.
    pub(super) fn new(loaded: &Loaded) -> Self {
        Self {
            loaded: loaded.clone(),
            configurations: BTreeMap::new(),
            labels: BTreeMap::new(),
            effective: Effective::of_host(&loaded.felix),
            stale: true,
            told: BTreeSet::new(),
        }
    }

    /// Takes a change of the store over, if it is one of parameters or of this node's labels.
    pub(super) fn take(&mut self, update: &Update) {
        let Key::Resource { kind, name, .. } = &update.key else {
            return;
        };
        match (kind, update.value.as_deref()) {
            (Kind::FelixConfiguration, Some(Resource::FelixConfiguration(configuration))) => {
                self.configurations
                    .insert(name.clone(), Arc::new(configuration.clone()));
                self.stale = true;
            }
            (Kind::FelixConfiguration, _) => {
                self.stale |= self.configurations.remove(name).is_some();
            }
            (Kind::Node, node) if *name == self.loaded.base.nodename => {
                let labels = match node {
                    Some(Resource::Node(node)) => node.metadata.labels.clone(),
                    _ => BTreeMap::new(),
                };
                self.stale |= labels != self.labels;
                self.labels = labels;
            }
            _ => {}
        }
    }

    /// Takes the configuration as it was read again. What only a start can change stays as it is; gives the keys of that.
    pub(super) fn reload(&mut self, loaded: &Loaded) -> Vec<String> {
        let old = &self.loaded.base;
        let new = loaded.base.clone();
        let base = Config {
            nodename: old.nodename.clone(),
            bpf_path: old.bpf_path.clone(),
            run_path: old.run_path.clone(),
            state_path: old.state_path.clone(),
            admin_address: old.admin_address,
            datastore: old.datastore.clone(),
            log: crate::config::Log {
                format: old.log.format,
                ..new.log.clone()
            },
            ..new
        };
        let kept = Loaded::differing(&base, &loaded.base);
        self.loaded = Loaded {
            base,
            ..loaded.clone()
        };
        self.stale = true;
        kept
    }

    /// Computes what holds, if anything changed. Says whether something else holds than before.
    pub(super) fn refresh(&mut self) -> bool {
        if !std::mem::take(&mut self.stale) {
            return false;
        }
        let effective = Effective::new(
            &self.loaded.felix,
            &self.loaded.base.nodename,
            &self.labels,
            &self.configurations,
        );
        for problem in effective.problems() {
            self.tell_once(&problem.to_string());
        }
        let unused: Vec<String> = effective
            .unused()
            .map(|effect| {
                format!(
                    "{} is set by {} and has no effect here",
                    effect.param.name, effect.source
                )
            })
            .collect();
        for note in unused {
            self.tell_once(&note);
        }
        self.effective = effective;
        true
    }

    /// The configuration in force.
    pub(super) fn config(&self) -> Config {
        self.effective.overlay(&self.loaded.base)
    }

    /// The parameters in force that have no field there.
    pub(super) fn settings(&self) -> Settings {
        self.effective.settings()
    }

    /// What somebody should mend.
    pub(super) fn problems(&self) -> &[Problem] {
        self.effective.problems()
    }

    /// Every parameter, for people.
    pub(super) fn list(&self) -> Vec<answers::Parameter> {
        self.effective.list()
    }

    fn tell_once(&mut self, note: &str) {
        if self.told.len() < NOTES && self.told.insert(note.to_owned()) {
            tracing::warn!(note, "configuration");
        }
    }
}

/// Objects may be written with ever other values; the log need not hear of all of them.
const NOTES: usize = 1000;
