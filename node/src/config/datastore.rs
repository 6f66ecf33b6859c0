//! Settings of the datastore that are made of several variables, and those that there are not.

use std::collections::BTreeMap;

use super::{ConfigError, Origin};
use crate::felix::{Local, Param, Source};

/// Refuses variables that ask for what there is not, since ignoring them would lead to another store.
pub(super) fn refuse(environment: &BTreeMap<String, String>) -> Result<(), ConfigError> {
    for (name, reason) in UNSUPPORTED {
        if environment.get(name).is_some_and(|text| !text.is_empty()) {
            return Err(ConfigError::Unsupported {
                name: name.to_owned(),
                reason: reason.to_owned(),
            });
        }
    }
    Ok(())
}

/// The endpoint that an address and a scheme make, where nobody gives whole URLs.
pub(super) fn made_of(
    key: &str,
    environment: &BTreeMap<String, String>,
    felix: &Local,
) -> Option<(Origin, String)> {
    if key != ENDPOINTS || felix_says(felix, "EtcdEndpoints").is_some() {
        return None;
    }
    let variable = |name: &str| {
        environment
            .get(name)
            .filter(|text| !text.is_empty())
            .cloned()
    };
    if let Some(address) = variable("ETCD_AUTHORITY") {
        let scheme = variable("ETCD_SCHEME").unwrap_or_else(|| HTTP.to_owned());
        let origin = Origin::Environment("ETCD_AUTHORITY".to_owned());
        return Some((origin, format!("{scheme}://{address}")));
    }
    let (origin, address) = felix_says(felix, "EtcdAddr")?;
    let scheme = felix_says(felix, "EtcdScheme").map_or_else(|| HTTP.to_owned(), |(_, text)| text);
    Some((origin, format!("{scheme}://{address}")))
}

fn felix_says(felix: &Local, name: &str) -> Option<(Origin, String)> {
    let said = felix.said(Param::named(name)?).next()?;
    let origin = if let Source::Environment(name) = &said.source {
        Origin::Environment(name.clone())
    } else {
        Origin::FelixFile
    };
    Some((origin, said.text.clone()))
}

const ENDPOINTS: &str = "datastore.endpoints";
const HTTP: &str = "http";
const UNSUPPORTED: [(&str, &str); 1] = [(
    "ETCD_DISCOVERY_SRV",
    "SRV records are not looked up; list the members in ETCD_ENDPOINTS",
)];
