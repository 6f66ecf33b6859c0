//! What the host itself says of Felix's parameters: variables, cleat's configuration file, `felix.cfg`.

use std::collections::BTreeMap;

use super::{PARAMS, Param, Source};

/// What one level says of a parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// The level.
    pub source: Source,
    /// The value as it is written there.
    pub text: String,
}

/// A value that Felix does not start with, and cleat neither.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{source_name} (parameter {name}): {reason}")]
pub struct LocalError {
    /// The variable or file.
    pub source_name: String,
    /// The parameter.
    pub name: &'static str,
    /// What is wrong with the value.
    pub reason: String,
}

/// The host's own levels.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Local {
    /// By parameter, the strongest first.
    said: BTreeMap<&'static str, Vec<Said>>,
}

impl Local {
    /// Adds what a level says of a parameter.
    pub fn say(&mut self, param: &'static Param, source: Source, text: impl Into<String>) {
        let said = self.said.entry(param.name).or_default();
        let text = text.into();
        said.push(Said { source, text });
        said.sort_by(|one, other| one.source.cmp(&other.source));
    }

    /// What the levels say of a parameter, the strongest first.
    pub fn said(&self, param: &Param) -> impl Iterator<Item = &Said> {
        self.said.get(param.name).into_iter().flatten()
    }

    /// Adds the variables `FELIX_NAME`, in any case of letters. Gives the names of those that are no parameter.
    pub fn environment(&mut self, variables: &BTreeMap<String, String>) -> Vec<String> {
        let mut unknown = Vec::new();
        for (variable, text) in variables.iter().filter(|(_, text)| !text.is_empty()) {
            let prefix = variable.get(..PREFIX.len());
            if !prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case(PREFIX)) {
                continue;
            }
            match Param::named(&variable[PREFIX.len()..]) {
                Some(param) => self.say(param, Source::Environment(variable.clone()), text),
                None => unknown.push(variable.clone()),
            }
        }
        unknown
    }

    /// Adds the lines `Name = value` of a `felix.cfg`, whatever their section. Gives the names that are no parameter.
    pub fn felix_file(&mut self, text: &str) -> Vec<String> {
        let mut unknown = Vec::new();
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with(['#', ';', '[']) {
                continue;
            }
            let (name, value) = line.split_once(['=', ':']).unwrap_or((line, ""));
            let (name, value) = (name.trim(), value.trim());
            let quoted = |quote: char| {
                value
                    .strip_prefix(quote)
                    .and_then(|rest| rest.strip_suffix(quote))
            };
            let value = quoted('"').or_else(|| quoted('\'')).unwrap_or(value);
            match Param::named(name) {
                Some(_) if value.is_empty() => {}
                Some(param) => self.say(param, Source::FelixFile, value),
                None => unknown.push(name.to_owned()),
            }
        }
        unknown
    }

    /// Refuses what Felix would not start with.
    ///
    /// # Errors
    ///
    /// Names the first such value.
    pub fn check(&self) -> Result<(), LocalError> {
        for param in PARAMS.iter().filter(|param| param.needed) {
            for said in self.said(param) {
                if matches!(said.source, Source::File(_)) {
                    continue;
                }
                super::settings::read(param, &said.text).map_err(|reason| LocalError {
                    source_name: said.source.to_string(),
                    name: param.name,
                    reason,
                })?;
            }
        }
        Ok(())
    }
}

const PREFIX: &str = "FELIX_";
