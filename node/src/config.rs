//! The daemon's configuration: defaults, one YAML file, environment variables.
//!
//! A later layer wins: default, `felix.cfg`, file, environment. Each value remembers where it came from. A field that is not
//! known is an error that names it, for a mistyped key would otherwise be a default that nobody chose. The environment's
//! names are Calico's, so that a host's existing settings keep their meaning.
//!
//! Fields that are parameters of Felix too may also be set by a FelixConfiguration: see [`crate::felix`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_yaml::{Mapping, Value};

use crate::felix::{self, Effective, Param, Source};

mod datastore;
mod fields;
mod settings;

pub use fields::{Bgp, Config, Datastore, EndpointToHost, Format, Level, Log, Pattern, StoreKind};
pub use settings::Field;

/// Where the configuration file is looked for when none is named.
pub const DEFAULT_PATH: &str = "/etc/cleat/cleat.yaml";

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nobody chose it.
    Default,
    /// The host's name.
    Hostname,
    /// `felix.cfg`.
    FelixFile,
    /// The configuration file.
    File,
    /// The named environment variable.
    Environment(String),
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Hostname => f.write_str("host name"),
            Self::FelixFile => f.write_str("felix.cfg"),
            Self::File => f.write_str("file"),
            Self::Environment(name) => f.write_str(name),
        }
    }
}

/// Why a configuration was refused; nothing of it is in force.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not what the fields ask for.
    #[error("{}: {reason}; `cleat config reference` lists all fields", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The field and what is wrong with it.
        reason: String,
    },
    /// A variable's value does not fit its field.
    #[error("environment variable {name} (field {key}): {reason}")]
    Environment {
        /// The variable, or `felix.cfg`.
        name: String,
        /// The field it sets.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A parameter of Felix has a value that it does not start with.
    #[error(transparent)]
    Felix(#[from] felix::LocalError),
    /// A variable asks for what there is not.
    #[error("environment variable {name}: {reason}")]
    Unsupported {
        /// The variable.
        name: String,
        /// What there is instead.
        reason: String,
    },
    /// A value that no part of the daemon can work with.
    #[error("field {key} ({origin}): {reason}")]
    Value {
        /// The field.
        key: &'static str,
        /// Where the value came from.
        origin: Origin,
        /// What is wrong with it.
        reason: String,
    },
}

/// The effective configuration and where each value came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The values in force by what the host says; the store may have a word too.
    pub config: Config,
    /// The same without parameters of Felix, for [`Effective::overlay`].
    pub base: Config,
    /// What the host says of Felix's parameters.
    pub felix: felix::Local,
    /// Origin by key.
    pub origins: BTreeMap<String, Origin>,
    /// `FELIX_` variables and lines of `felix.cfg` that are no parameter.
    pub ignored: Vec<String>,
}

impl Loaded {
    /// Reads the file, if there is one, and lays the environment over it.
    ///
    /// Without a path, [`DEFAULT_PATH`] is read if it exists.
    pub fn from_host(path: Option<&Path>, hostname: &str) -> Result<Self, ConfigError> {
        let (path, required) = path.map_or((Path::new(DEFAULT_PATH), false), |path| (path, true));
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(source) if source.kind() == std::io::ErrorKind::NotFound && !required => {
                String::new()
            }
            Err(source) => {
                return Err(ConfigError::Read {
                    path: path.to_owned(),
                    source,
                });
            }
        };
        let environment: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let read = |felix_cfg: &Path| match std::fs::read_to_string(felix_cfg) {
            Ok(text) => Ok(text),
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
            Err(source) => Err(ConfigError::Read {
                path: felix_cfg.to_owned(),
                source,
            }),
        };
        Self::new(path, &text, read, &environment, hostname)
    }

    /// Lays `felix.cfg`, the text of a file and the environment over each other.
    pub fn new(
        path: &Path,
        text: &str,
        felix_cfg: impl FnOnce(&Path) -> Result<String, ConfigError>,
        environment: &BTreeMap<String, String>,
        hostname: &str,
    ) -> Result<Self, ConfigError> {
        let refuse = |error: serde_yaml::Error| ConfigError::File {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        let mut file = serde_yaml::from_str::<Value>(text).map_err(refuse)?;
        let mut felix_path = Config::default().felix_config;
        if file.is_null() {
            file = Value::Mapping(Mapping::new());
        } else {
            // From the text and not from the value: only so the error knows the line.
            felix_path = serde_yaml::from_str::<Config>(text)
                .map_err(refuse)?
                .felix_config;
        }
        let mut felix = felix::Local::default();
        let mut ignored = felix.felix_file(&felix_cfg(&felix_path)?);
        ignored.extend(felix.environment(environment));
        felix.check()?;
        datastore::refuse(environment)?;

        let fields = fields::all();
        let mut origins: BTreeMap<String, Origin> = fields
            .iter()
            .map(|field| (field.key.clone(), origin_in(&file, &field.key)))
            .collect();
        let defaults = defaults();
        let is_list = |key: &str| matches!(lookup(&defaults, key), Some(Value::Sequence(_)));
        for field in &fields {
            let of_felix = PARAMETERS.iter().any(|(_, key)| *key == field.key);
            let variables = field.env.iter().find_map(|&name| {
                let text = environment.get(name).filter(|text| !text.is_empty())?;
                Some((Origin::Environment(name.to_owned()), text.clone()))
            });
            let given = variables
                .filter(|_| !of_felix)
                .or_else(|| datastore::made_of(&field.key, environment, &felix))
                .or_else(|| {
                    // What only the host may say is said in felix.cfg too; the file is stronger.
                    let (_, key) = LOCAL_PARAMETERS.iter().find(|(_, key)| *key == field.key)?;
                    let weaker = origins.get(*key) == Some(&Origin::Default);
                    weaker.then(|| of_felix_file(&felix, key)).flatten()
                });
            let Some((origin, text)) = given else {
                continue;
            };
            file =
                with_variable(&file, &field.key, &text, is_list(&field.key)).map_err(|reason| {
                    ConfigError::Environment {
                        name: origin.to_string(),
                        key: field.key.clone(),
                        reason,
                    }
                })?;
            origins.insert(field.key.clone(), origin);
        }
        let mut base: Config = serde_yaml::from_value(file).map_err(refuse)?;
        if base.nodename.is_empty() {
            base.nodename = hostname.trim().to_lowercase();
            origins.insert("nodename".to_owned(), Origin::Hostname);
        }
        let known: BTreeSet<&str> = fields
            .iter()
            .flat_map(|field| field.env.iter().copied())
            .collect();
        ignored.retain(|name| !known.contains(name.as_str()));
        give_values(&mut felix, &base, &origins);
        let effective = Effective::of_host(&felix);
        for (name, key) in PARAMETERS {
            let origin = match effective.effect(name).map(|effect| &effect.source) {
                Some(Source::Environment(name)) => Origin::Environment(name.clone()),
                Some(Source::FelixFile) => Origin::FelixFile,
                _ => continue,
            };
            origins.insert(key.to_owned(), origin);
        }
        let loaded = Self {
            config: effective.overlay(&base),
            base,
            felix,
            origins,
            ignored,
        };
        loaded.check()?;
        Ok(loaded)
    }

    /// Every key with its value as it would stand in the file, and its origin; secrets are masked.
    pub fn effective(&self) -> Vec<(String, String, &Origin)> {
        let values = serde_yaml::to_value(&self.config).unwrap_or_default();
        fields::all()
            .into_iter()
            .map(|field| {
                let value = lookup(&values, &field.key);
                let text = match value {
                    Some(Value::String(_)) if field.secret => "********".to_owned(),
                    value => inline(value),
                };
                let origin = self.origins.get(&field.key).unwrap_or(&Origin::Default);
                (field.key, text, origin)
            })
            .collect()
    }

    /// The keys whose values differ between two configurations.
    pub fn differing(one: &Config, other: &Config) -> Vec<String> {
        let values = [one, other].map(|config| serde_yaml::to_value(config).unwrap_or_default());
        let fields = fields::all().into_iter().map(|field| field.key);
        fields
            .filter(|key| lookup(&values[0], key) != lookup(&values[1], key))
            .collect()
    }

    fn check(&self) -> Result<(), ConfigError> {
        let refuse = |key: &'static str, reason: &str| {
            let origin = self.origins.get(key).cloned().unwrap_or(Origin::Default);
            Err(ConfigError::Value {
                key,
                origin,
                reason: reason.to_owned(),
            })
        };
        let Config {
            nodename,
            datastore,
            workload_interface_prefixes,
            route_protocol,
            ..
        } = &self.config;
        if nodename.is_empty() {
            return refuse("nodename", "is empty and the host has no name; set it");
        }
        if nodename.contains('/') {
            return refuse("nodename", "must not contain a slash");
        }
        if workload_interface_prefixes.iter().any(String::is_empty) {
            return refuse(
                "workloadInterfacePrefixes",
                "an empty prefix would make every interface a workload's",
            );
        }
        if matches!(route_protocol, 0..=4) {
            return refuse(
                "routeProtocol",
                "0 to 4 are the kernel's own; take another number",
            );
        }
        if datastore.kind() == StoreKind::Etcd && datastore.endpoints.is_empty() {
            return refuse(
                "datastore.endpoints",
                "type etcd needs at least one URL; set it or ETCD_ENDPOINTS",
            );
        }
        if (datastore.cert_file.is_some(), datastore.cert.is_some())
            != (datastore.key_file.is_some(), datastore.key.is_some())
        {
            return refuse("datastore.certFile", "certFile and keyFile go together");
        }
        for (inline, file, key, reason) in [
            (
                &datastore.ca_cert,
                &datastore.ca_file,
                "datastore.caCert",
                "caCert and caFile exclude each other",
            ),
            (
                &datastore.cert,
                &datastore.cert_file,
                "datastore.cert",
                "cert and certFile exclude each other",
            ),
            (
                &datastore.key,
                &datastore.key_file,
                "datastore.key",
                "key and keyFile exclude each other",
            ),
        ] {
            if inline.is_some() && file.is_some() {
                return refuse(key, reason);
            }
        }
        if datastore.username.is_some() != datastore.password.is_some() {
            return refuse("datastore.username", "username and password go together");
        }
        Ok(())
    }
}

impl Datastore {
    /// The kind of store in force.
    pub fn kind(&self) -> StoreKind {
        self.kind.unwrap_or(if self.endpoints.is_empty() {
            StoreKind::Dir
        } else {
            StoreKind::Etcd
        })
    }
}

/// An annotated configuration file with every field at its default, commented out.
pub fn reference() -> String {
    let defaults = defaults();
    let mut out = String::from(
        "# Configuration of cleat. Every field with its unit, its default, and the reason for it.\n\
         # A field that is not known is refused. Environment variables win over this file.\n",
    );
    let mut group = "";
    let fields = fields::all();
    for field in &fields {
        let (head, key) = field.key.split_once('.').unwrap_or(("", &field.key));
        if head != group {
            let _ = write!(out, "\n{head}:\n");
            group = head;
        } else if head.is_empty() {
            out.push('\n');
        }
        let indent = if head.is_empty() { "" } else { "  " };
        let default = inline(lookup(&defaults, &field.key));
        let _ = writeln!(out, "{indent}# {}", field.doc);
        let _ = writeln!(
            out,
            "{indent}# Unit: {}. Default: {} ({}).",
            field.unit,
            field.shown_default.unwrap_or(&default),
            field.reason
        );
        if !field.env.is_empty() {
            let _ = writeln!(out, "{indent}# Environment: {}.", field.env.join(", "));
        }
        let shown = if field.shown_default.is_some() {
            String::new()
        } else {
            format!(" {default}")
        };
        let _ = writeln!(out, "{indent}# {key}:{shown}");
    }
    out
}

/// The parameter of Felix that a field is, too.
pub fn parameter_of(key: &str) -> Option<&'static str> {
    let found = PARAMETERS.iter().find(|(_, known)| *known == key)?;
    Some(found.0)
}

/// Whether a parameter of Felix has a field here.
pub fn has_field(parameter: &str) -> bool {
    let mut known = PARAMETERS.iter().chain(&LOCAL_PARAMETERS);
    known.any(|(name, _)| *name == parameter)
}

/// Whether a field takes effect while the daemon runs: when a FelixConfiguration changes, or on SIGHUP.
pub fn is_live(key: &str) -> bool {
    parameter_of(key).is_some() || key.starts_with("bgp.")
}

/// Tells Felix's levels what cleat's own file says, and what was made of the parameters that only the host may set.
fn give_values(felix: &mut felix::Local, config: &Config, origins: &BTreeMap<String, Origin>) {
    let values = serde_yaml::to_value(config).unwrap_or_default();
    for (name, key) in PARAMETERS.iter().chain(&LOCAL_PARAMETERS) {
        let local = LOCAL_PARAMETERS.iter().any(|(_, local)| local == key);
        let source = match origins.get(*key) {
            Some(Origin::File) => Source::File((*key).to_owned()),
            // The table shows what holds, whichever of several variables said it.
            Some(Origin::Environment(name)) if local => Source::File(name.clone()),
            _ => continue,
        };
        if let Some(param) = Param::named(name) {
            felix.say(param, source, inline(lookup(&values, key)));
        }
    }
}

fn of_felix_file(felix: &felix::Local, key: &str) -> Option<(Origin, String)> {
    let (name, _) = LOCAL_PARAMETERS.iter().find(|(_, local)| *local == key)?;
    let param = Param::named(name)?;
    let said = felix
        .said(param)
        .find(|said| said.source == Source::FelixFile)?;
    Some((Origin::FelixFile, said.text.clone()))
}

fn origin_in(file: &Value, key: &str) -> Origin {
    if lookup(file, key).is_some() {
        Origin::File
    } else {
        Origin::Default
    }
}

fn defaults() -> Value {
    serde_yaml::to_value(Config::default()).unwrap_or_default()
}

fn lookup<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    key.split('.')
        .try_fold(value, |value, part| value.get(part))
}

/// The value in one line of YAML.
fn inline(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        // JSON is YAML's inline form.
        Some(value) => serde_json::to_string(value).unwrap_or_default(),
    }
}

/// The file with a variable's text at `key`: as a text first, else as what YAML reads in it (a number, a truth).
fn with_variable(file: &Value, key: &str, text: &str, list: bool) -> Result<Value, String> {
    let mut candidates = if list {
        let items = text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty());
        vec![Value::Sequence(
            items.map(|item| Value::String(item.to_owned())).collect(),
        )]
    } else {
        vec![Value::String(text.to_owned())]
    };
    if let (false, Ok(scalar)) = (list, serde_yaml::from_str::<Value>(text)) {
        candidates.push(scalar);
    }
    let mut reason = String::new();
    for candidate in candidates {
        let mut file = file.clone();
        let mut at = &mut file;
        for part in key.split('.') {
            if !at.is_mapping() {
                *at = Value::Mapping(Mapping::new());
            }
            let Value::Mapping(mapping) = at else {
                return Err("not a mapping".to_owned());
            };
            at = mapping
                .entry(Value::String(part.to_owned()))
                .or_insert(Value::Null);
        }
        *at = candidate;
        match serde_yaml::from_value::<Config>(file.clone()) {
            Ok(_) => return Ok(file),
            Err(error) => reason = error.to_string(),
        }
    }
    Err(reason)
}

/// Parameters of Felix, and the fields that are the same setting.
const PARAMETERS: [(&str, &str); 6] = [
    ("InterfacePrefix", "workloadInterfacePrefixes"),
    ("BPFDataIfacePattern", "hostInterfaces"),
    ("DeviceRouteProtocol", "routeProtocol"),
    ("DefaultEndpointToHostAction", "defaultEndpointToHostAction"),
    ("RouteRefreshInterval", "resyncInterval"),
    ("LogSeverityScreen", "log.level"),
];
/// The same, of those that only the host may set.
const LOCAL_PARAMETERS: [(&str, &str); 6] = [
    ("FelixHostname", "nodename"),
    ("DatastoreType", "datastore.type"),
    ("EtcdEndpoints", "datastore.endpoints"),
    ("EtcdCaFile", "datastore.caFile"),
    ("EtcdCertFile", "datastore.certFile"),
    ("EtcdKeyFile", "datastore.keyFile"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, environment: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
        load_with(text, "", environment)
    }

    fn load_with(
        text: &str,
        felix_cfg: &str,
        environment: &[(&str, &str)],
    ) -> Result<Loaded, ConfigError> {
        let environment = environment
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let read = |_: &Path| Ok(felix_cfg.to_owned());
        Loaded::new(Path::new("cleat.yaml"), text, read, &environment, "Host-1")
    }

    #[test]
    fn nothing_given_is_the_defaults_and_the_hosts_name() {
        let loaded = load("", &[]).unwrap();
        assert_eq!(
            loaded.config,
            Config {
                nodename: "host-1".into(),
                ..Config::default()
            }
        );
        assert_eq!(loaded.origins["nodename"], Origin::Hostname);
        assert_eq!(loaded.config.datastore.kind(), StoreKind::Dir);
    }

    #[test]
    fn bad_input_is_refused_with_the_field_named() {
        let cases = [
            ("unknown field", "nodname: a\n", &[][..], "nodname"),
            (
                "unknown nested field",
                "datastore:\n  endpoint: [a]\n",
                &[],
                "endpoint",
            ),
            (
                "wrong type",
                "resyncInterval: soon\n",
                &[],
                "resyncInterval",
            ),
            (
                "unknown store",
                "datastore: {type: kubernetes}\n",
                &[],
                "kubernetes",
            ),
            (
                "bad pattern",
                "hostInterfaces: ['eth[']\n",
                &[],
                "hostInterfaces",
            ),
            (
                "bad address",
                "adminAddress: localhost\n",
                &[],
                "adminAddress",
            ),
            (
                "reserved protocol",
                "routeProtocol: 2\n",
                &[],
                "routeProtocol",
            ),
            (
                "etcd without endpoints",
                "datastore: {type: etcd}\n",
                &[],
                "datastore.endpoints",
            ),
            (
                "certificate without key",
                "datastore: {certFile: /a}\n",
                &[],
                "keyFile",
            ),
            (
                "empty prefix",
                "workloadInterfacePrefixes: ['']\n",
                &[],
                "workloadInterfacePrefixes",
            ),
            (
                "variable",
                "",
                &[("FELIX_DEFAULTENDPOINTTOHOSTACTION", "maybe")],
                "FELIX_DEFAULTENDPOINTTOHOSTACTION",
            ),
            (
                "Felix's store",
                "",
                &[("FELIX_DATASTORETYPE", "kubernetes")],
                "FELIX_DATASTORETYPE",
            ),
            (
                "SRV record",
                "",
                &[("ETCD_DISCOVERY_SRV", "example.org")],
                "ETCD_ENDPOINTS",
            ),
            ("not a mapping", "- a\n", &[], "cleat.yaml"),
        ];
        for (case, text, environment, expected) in cases {
            let error = load(text, environment).unwrap_err().to_string();
            assert!(error.contains(expected), "{case}: {error}");
        }
    }

    #[test]
    fn the_environment_wins_over_the_file_and_origins_tell() {
        let loaded = load(
            "nodename: a\nrouteProtocol: 90\n",
            &[
                ("NODENAME", "123"),
                ("ETCD_ENDPOINTS", "http://127.0.0.1:1, http://127.0.0.1:2"),
                ("FELIX_DEFAULTENDPOINTTOHOSTACTION", "ACCEPT"),
                ("FELIX_INTERFACEPREFIX", "cali,tap,vnet"),
                ("FELIX_LOGSEVERITYSCREEN", "Warning"),
                ("FELIX_USAGEREPORTINGENABLED", "false"),
                ("ETCD_USERNAME", ""),
            ],
        )
        .unwrap();
        let config = &loaded.config;
        assert_eq!(config.nodename, "123");
        assert_eq!(config.route_protocol, 90);
        assert_eq!(config.datastore.kind(), StoreKind::Etcd);
        assert_eq!(
            config.datastore.endpoints,
            ["http://127.0.0.1:1", "http://127.0.0.1:2"]
        );
        assert_eq!(
            config.default_endpoint_to_host_action,
            EndpointToHost::Accept
        );
        assert_eq!(config.workload_interface_prefixes, ["cali", "tap", "vnet"]);
        assert_eq!(config.log.level, Level::Warn);
        assert_eq!(
            loaded.origins["nodename"],
            Origin::Environment("NODENAME".into())
        );
        assert_eq!(loaded.origins["routeProtocol"], Origin::File);
        assert_eq!(loaded.origins["datastore.username"], Origin::Default);
        assert_eq!(loaded.ignored, Vec::<String>::new());
    }

    #[test]
    fn felix_cfg_is_weaker_than_the_file_and_a_wrong_value_is_the_default() {
        let loaded = load_with(
            "routeProtocol: 90\n",
            "[global]\nDeviceRouteProtocol = 91\nInterfacePrefix=vnet\nEtcdEndpoints = http://127.0.0.1:5\nFelixHostname = h2\nNoSuchThing = 1\n",
            &[("FELIX_ROUTEREFRESHINTERVAL", "often"), ("FELIX_NOSUCH", "1")],
        )
        .unwrap();
        let config = &loaded.config;
        assert_eq!((config.route_protocol, config.resync_interval), (90, 90));
        assert_eq!(config.workload_interface_prefixes, ["vnet"]);
        assert_eq!(config.datastore.endpoints, ["http://127.0.0.1:5"]);
        assert_eq!(config.nodename, "h2");
        assert_eq!(loaded.origins["nodename"], Origin::FelixFile);
        assert_eq!(
            loaded.origins["workloadInterfacePrefixes"],
            Origin::FelixFile
        );
        assert_eq!(loaded.ignored, ["NoSuchThing", "FELIX_NOSUCH"]);
        let effective = Effective::of_host(&loaded.felix);
        assert_eq!(effective.problems().len(), 1);
        assert_eq!(
            effective.problems()[0].to_string(),
            "FELIX_ROUTEREFRESHINTERVAL: RouteRefreshInterval: \"often\" is no number of seconds, and no duration such as 1m30s; the default holds"
        );
    }

    #[test]
    fn calicos_names_of_the_datastores_settings_are_all_heeded() {
        let field = |environment: &[(&str, &str)], of: fn(&Datastore) -> String| {
            of(&load("", environment).unwrap().config.datastore)
        };
        let endpoints = |datastore: &Datastore| datastore.endpoints.join(" ");
        for (environment, expected) in [
            (
                &[
                    ("ETCD_ENDPOINTS", "http://a:1"),
                    ("FELIX_ETCDENDPOINTS", "http://b:1"),
                ][..],
                "http://a:1",
            ),
            (&[("FELIX_ETCDENDPOINTS", "http://b:1")], "http://b:1"),
            (
                &[("FELIX_ETCDADDR", "c:1"), ("FELIX_ETCDSCHEME", "https")],
                "https://c:1",
            ),
            (
                &[("ETCD_AUTHORITY", "d:1"), ("ETCD_SCHEME", "https")],
                "https://d:1",
            ),
            (
                &[("ETCD_AUTHORITY", "d:1"), ("ETCD_ENDPOINTS", "http://a:1")],
                "http://a:1",
            ),
        ] {
            assert_eq!(field(environment, endpoints), expected, "{environment:?}");
        }
        for name in [
            "DATASTORE_TYPE",
            "CALICO_DATASTORE_TYPE",
            "FELIX_DATASTORETYPE",
        ] {
            let kind = field(
                &[(name, "etcdv3"), ("ETCD_ENDPOINTS", "http://a:1")],
                |it| format!("{:?}", it.kind),
            );
            assert_eq!(kind, "Some(Etcd)", "{name}");
        }
        let inline = load(
            "",
            &[
                ("ETCD_ENDPOINTS", "https://a:1"),
                ("ETCD_CA_CERT", "ca"),
                ("ETCD_CERT", "cert"),
                ("ETCD_KEY", "secret"),
            ],
        )
        .unwrap();
        let datastore = &inline.config.datastore;
        assert_eq!(datastore.ca_cert.as_deref(), Some("ca"));
        assert_eq!(datastore.cert.as_deref(), Some("cert"));
        assert_eq!(datastore.key.as_deref(), Some("secret"));
        assert!(!format!("{:?}", inline.effective()).contains("secret"));
    }

    #[test]
    fn a_password_is_not_shown() {
        let loaded = load("datastore: {username: u, password: hunter2}\n", &[]).unwrap();
        let shown = format!("{:?}", loaded.effective());
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn every_value_has_one_documented_field() {
        fn leaves(prefix: &str, value: &Value, into: &mut Vec<String>) {
            match value {
                Value::Mapping(mapping) => {
                    for (key, value) in mapping {
                        let key = key.as_str().unwrap();
                        leaves(
                            &if prefix.is_empty() {
                                key.to_owned()
                            } else {
                                format!("{prefix}.{key}")
                            },
                            value,
                            into,
                        );
                    }
                }
                Value::Null
                | Value::Bool(_)
                | Value::Number(_)
                | Value::String(_)
                | Value::Sequence(_)
                | Value::Tagged(_) => into.push(prefix.to_owned()),
            }
        }
        let mut keys = Vec::new();
        leaves("", &defaults(), &mut keys);
        let fields = fields::all();
        assert_eq!(
            keys,
            fields
                .iter()
                .map(|field| field.key.clone())
                .collect::<Vec<_>>()
        );
        for field in &fields {
            assert!(
                !field.doc.is_empty() && !field.unit.is_empty() && !field.reason.is_empty(),
                "{}",
                field.key
            );
        }
    }

    #[test]
    fn the_example_file_holds_every_documented_field() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/cleat.yaml");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, reference()).unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            reference(),
            "examples/cleat.yaml is not what the fields say; UPDATE_GOLDEN=1 rewrites it"
        );
        load(&text, &[]).unwrap();
        // What is commented out is a value that the field takes.
        let groups: BTreeSet<&str> = ["datastore:", "bgp:", "log:"].into();
        let mut set = String::new();
        for line in text.lines() {
            let field = line
                .strip_prefix("  # ")
                .map(|rest| ("  ", rest))
                .or(line.strip_prefix("# ").map(|rest| ("", rest)));
            if let Some((indent, rest)) = field.filter(|(_, rest)| is_setting(rest)) {
                let _ = writeln!(set, "{indent}{rest}");
            } else if groups.contains(line) {
                let _ = writeln!(set, "{line}");
            }
        }
        let loaded = load(&set, &[]).unwrap();
        assert_eq!(loaded.config, load("", &[]).unwrap().config, "{set}");
        let from_file = loaded
            .origins
            .values()
            .filter(|origin| **origin == Origin::File)
            .count();
        let valued = fields::all()
            .iter()
            .filter(|field| field.shown_default.is_none())
            .count();
        assert_eq!(from_file, valued, "{set}");
    }

    /// `key: value`, and not a sentence.
    fn is_setting(line: &str) -> bool {
        line.split_once(": ").is_some_and(|(key, _)| {
            key.starts_with(|c: char| c.is_ascii_lowercase())
                && key.chars().all(|c| c.is_ascii_alphanumeric())
        })
    }
}
