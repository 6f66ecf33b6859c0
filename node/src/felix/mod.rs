//! Felix's parameters: every level that may set one, and which of them counts.
//!
//! ```text
//! what cleat itself decides > FELIX_* > cleat.yaml > felix.cfg
//!   > FelixConfiguration node.NODE > one whose nodeSelector has this node > default > built-in default
//! ```
//!
//! [`Effective`] is a function of what the levels say now, so it may be computed again whenever one of them changes or goes.
//! A wrong value never ends anything that runs: as in Felix, a level that gives one counts as giving the default, and the
//! fault is told with its object and field. Of parameters whose wrong value Felix refuses to run with, the host's own levels
//! keep cleat from starting; the store's are passed over for the next level, since a running node must not stop.

mod local;
mod schema;
mod settings;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use cleat_datastore::resource::FelixConfiguration;
use cleat_datastore::{Key, Kind, Problem};

use crate::output::answers;

pub use local::{Local, LocalError, Said};
pub use schema::{Schema, Value};
pub use settings::{FlowTimeout, Listen, Reporting, Settings};
pub use table::{PARAMS, Param, Used};

/// Who set a value, the strongest first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// There is no choice here.
    Internal,
    /// The named variable.
    Environment(String),
    /// The named field of cleat's own configuration file.
    File(String),
    /// `felix.cfg`.
    FelixFile,
    /// The FelixConfiguration of this node.
    Node(String),
    /// The named FelixConfiguration, whose selector has this node.
    Selector(String),
    /// The FelixConfiguration named default.
    Cluster,
    /// Nobody.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Internal => f.write_str("cleat"),
            Self::Environment(name) => f.write_str(name),
            Self::File(key) => write!(f, "file ({key})"),
            Self::FelixFile => f.write_str("felix.cfg"),
            Self::Node(name) | Self::Selector(name) => write!(f, "FelixConfiguration({name})"),
            Self::Cluster => write!(f, "FelixConfiguration({DEFAULT})"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A parameter with its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Effect {
    /// The parameter.
    pub param: &'static Param,
    /// What holds.
    pub value: Value,
    /// Who said so.
    pub source: Source,
    /// What weaker levels said in vain, the strongest first.
    pub overridden: Vec<(Source, String)>,
    /// What is wrong with what the source said; the value is the default then.
    pub fault: Option<String>,
}

/// All parameters as all levels together set them.
#[derive(Debug, Clone, PartialEq)]
pub struct Effective {
    effects: Vec<Effect>,
    problems: Vec<Problem>,
}

impl Effective {
    /// What holds on the node of this name and these labels.
    pub fn new(
        local: &Local,
        node: &str,
        labels: &BTreeMap<String, String>,
        configurations: &BTreeMap<String, Arc<FelixConfiguration>>,
    ) -> Self {
        let mut problems = Vec::new();
        let levels = levels(node, labels, configurations, &mut problems);
        let effects = PARAMS
            .iter()
            .map(|param| effect(param, local, &levels, &mut problems))
            .collect();
        Self { effects, problems }
    }

    /// What holds by the host's own levels alone.
    pub fn of_host(local: &Local) -> Self {
        Self::new(local, "", &BTreeMap::new(), &BTreeMap::new())
    }

    /// Every parameter, in the order of the table.
    pub fn effects(&self) -> &[Effect] {
        &self.effects
    }

    /// The parameter of a name.
    pub fn effect(&self, name: &str) -> Option<&Effect> {
        self.effects
            .iter()
            .find(|effect| effect.param.name.eq_ignore_ascii_case(name))
    }

    /// What somebody should mend.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Every parameter, for people.
    pub fn list(&self) -> Vec<answers::Parameter> {
        let parameter = |effect: &Effect| answers::Parameter {
            name: effect.param.name.to_owned(),
            field: effect.param.field.to_owned(),
            value: effect.value.to_string(),
            source: effect.source.to_string(),
            used: effect.param.used.to_string(),
            overridden: effect
                .overridden
                .iter()
                .map(|(source, value)| answers::Overridden {
                    source: source.to_string(),
                    value: value.clone(),
                })
                .collect(),
            fault: effect.fault.clone(),
        };
        self.effects.iter().map(parameter).collect()
    }

    /// Parameters that somebody set to something else than the default, and that have no effect here.
    pub fn unused(&self) -> impl Iterator<Item = &Effect> {
        self.effects.iter().filter(|effect| {
            let default = effect.param.schema.parse(effect.param.default_text());
            effect.param.used == Used::No
                && effect.source > Source::Internal
                && effect.source < Source::Default
                && default.as_ref() != Ok(&effect.value)
        })
    }
}

/// What an object of the store says, as texts by parameter.
struct Level {
    source: Source,
    object: Key,
    said: BTreeMap<&'static str, String>,
}

/// The objects that concern the node, the strongest first.
fn levels(
    node: &str,
    labels: &BTreeMap<String, String>,
    configurations: &BTreeMap<String, Arc<FelixConfiguration>>,
    problems: &mut Vec<Problem>,
) -> Vec<Level> {
    let mut selecting: Vec<(&String, &Arc<FelixConfiguration>)> = Vec::new();
    for (name, configuration) in configurations {
        let selector = configuration.spec.node_selector.as_ref();
        let special = name == DEFAULT || name.starts_with(NODE);
        let reason = match selector {
            Some(_) if special => {
                Some("has no meaning in this object, which says by its name whom it concerns")
            }
            None if !special => Some(
                "is needed unless the object is called default or node.NAME: it concerns no node",
            ),
            Some(selector) if selector.matches(labels) => {
                selecting.push((name, configuration));
                None
            }
            _ => None,
        };
        if let Some(reason) = reason {
            problems.push(Problem::new(key(name), "spec.nodeSelector", reason));
        }
    }
    // The oldest counts, so that a new object does not upset what works; one without a date is the newest.
    selecting.sort_by_key(|(name, configuration)| {
        let created = &configuration.metadata.creation_timestamp;
        (created.is_none(), created.clone(), (*name).clone())
    });
    if let Some(((first, _), others)) = selecting.split_first() {
        for (name, _) in others {
            let reason = format!(
                "selects this node, but {} does so for longer and counts",
                key(first)
            );
            problems.push(Problem::new(key(name), "spec.nodeSelector", reason));
        }
    }
    let own = format!("{NODE}{node}");
    let at = |name: &str, source: Source| {
        let configuration = configurations.get(name)?;
        Some(Level {
            source,
            object: key(name),
            said: said(configuration),
        })
    };
    let of_node = at(&own, Source::Node(own.clone()));
    let selected = selecting
        .first()
        .and_then(|(name, _)| at(name, Source::Selector((*name).clone())));
    let of_all = at(DEFAULT, Source::Cluster);
    of_node.into_iter().chain(selected).chain(of_all).collect()
}

/// The fields of an object, and its annotations `config.projectcalico.org/NAME` for parameters without a field.
fn said(configuration: &FelixConfiguration) -> BTreeMap<&'static str, String> {
    let spec = serde_json::to_value(&configuration.spec).unwrap_or_default();
    let annotation = |param: &Param| {
        let annotations = &configuration.metadata.annotations;
        annotations
            .get(&format!("{ANNOTATION}{}", param.name))
            .cloned()
    };
    let said = PARAMS
        .iter()
        .filter(|param| !param.local)
        .filter_map(|param| {
            let field = spec.get(param.field).filter(|_| !param.field.is_empty());
            Some((
                param.name,
                field.map(schema::text_of).or_else(|| annotation(param))?,
            ))
        });
    said.collect()
}

fn effect(
    param: &'static Param,
    local: &Local,
    levels: &[Level],
    problems: &mut Vec<Problem>,
) -> Effect {
    let default = || {
        param
            .schema
            .parse(param.default_text())
            .unwrap_or(Value::Unset)
    };
    let mut effect = Effect {
        param,
        value: default(),
        source: Source::Default,
        overridden: Vec::new(),
        fault: None,
    };
    let internal = INTERNAL.iter().find(|(name, _)| *name == param.name);
    if let Some((_, value)) = internal {
        effect.value = Value::Bool(*value);
        effect.source = Source::Internal;
    }
    let of_host = local
        .said(param)
        .map(|said| (&said.source, None, &said.text));
    let of_store = levels.iter().filter_map(|level| {
        Some((
            &level.source,
            Some(&level.object),
            level.said.get(param.name)?,
        ))
    });
    for (source, object, text) in of_host.chain(of_store) {
        if effect.source != Source::Default {
            effect.overridden.push((source.clone(), text.clone()));
            continue;
        }
        // cleat's own file has its own forms, and its values were read when it was.
        let read = if matches!(source, Source::File(_)) {
            Ok(Value::Text(text.clone()))
        } else {
            settings::read(param, text)
        };
        let fault = match read {
            Ok(value) => {
                effect.value = value;
                effect.source = source.clone();
                continue;
            }
            Err(fault) => fault,
        };
        let passed_over = param.needed;
        let reason = if passed_over {
            format!("{fault}; the value is passed over")
        } else {
            format!("{fault}; the default holds")
        };
        problems.push(match object {
            Some(object) => Problem::new(object, format!("spec.{}", param.field), reason),
            None => Problem::new(source, param.name, reason),
        });
        if passed_over {
            effect.overridden.push((source.clone(), text.clone()));
        } else {
            effect.source = source.clone();
            effect.fault = Some(fault);
        }
    }
    effect
}

fn key(name: &str) -> Key {
    Key::global(Kind::FelixConfiguration, name)
}

/// Parameters about which there is no choice: the data path is eBPF, and its own.
const INTERNAL: [(&str, bool); 2] = [("BPFEnabled", true), ("UseInternalDataplaneDriver", true)];
/// The name of the object that holds for all nodes.
const DEFAULT: &str = "default";
/// What the name of an object for one node begins with.
const NODE: &str = "node.";
/// Calico's prefix of annotations that hold parameters.
const ANNOTATION: &str = "config.projectcalico.org/";
