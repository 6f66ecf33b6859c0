//! The parameters that cleat acts on, typed.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::{Effect, Effective, Param, Source, Value};
use crate::config::{Config, EndpointToHost, Level, Pattern};

/// What of Felix's parameters has an effect here and no field in cleat's own configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// Where probes are answered, beside the admin address.
    pub health: Option<Listen>,
    /// Where metrics are served, beside the admin address.
    pub metrics: Option<Listen>,
    /// How long flows may be silent, by the state's name in [`super::Schema::Timeouts`], in lower case.
    pub flow_timeouts: Vec<(String, FlowTimeout)>,
    /// Whether the host is left as it forwards.
    pub keeps_forwarding: bool,
    /// The source of the host's IPv4 packets to workloads.
    pub source_v4: Option<Ipv4Addr>,
    /// The source of the host's IPv6 packets to workloads.
    pub source_v6: Option<Ipv6Addr>,
    /// What is told to the store and to files.
    pub reporting: Reporting,
}

/// An address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// An address or a name; empty for all addresses.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// A time for flows of some state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlowTimeout {
    /// What the kernel's own connection tracking has.
    Auto,
    /// So long.
    After(Duration),
}

/// What is told of this node and its endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reporting {
    /// Whether the states of endpoints are told to the store.
    pub endpoints: bool,
    /// How long a state must last before it is told.
    pub delay: Duration,
    /// Time between two reports that the node lives; none for no reports.
    pub interval: Option<Duration>,
    /// How long such a report holds.
    pub ttl: Duration,
    /// The region of OpenStack.
    pub region: Option<String>,
    /// The directory under which endpoints' states are written to files; none for no files.
    pub status_path: Option<PathBuf>,
}

impl Default for Reporting {
    fn default() -> Self {
        Effective::of_host(&super::Local::default())
            .settings()
            .reporting
    }
}

impl Effective {
    /// cleat's configuration with the parameters that have a field there.
    pub fn overlay(&self, config: &Config) -> Config {
        let mut config = config.clone();
        if let Some(Value::List(prefixes)) = self.chosen("InterfacePrefix") {
            config.workload_interface_prefixes.clone_from(prefixes);
        }
        if let Some(pattern) = self.text("BPFDataIfacePattern").and_then(anywhere) {
            config.host_interfaces = vec![pattern];
        }
        if let Some(Value::Int(protocol)) = self.chosen("DeviceRouteProtocol") {
            config.route_protocol = u8::try_from(*protocol).unwrap_or(config.route_protocol);
        }
        match self.text("DefaultEndpointToHostAction") {
            Some("Accept") => config.default_endpoint_to_host_action = EndpointToHost::Accept,
            Some("Drop") => config.default_endpoint_to_host_action = EndpointToHost::Drop,
            Some("Return") => config.default_endpoint_to_host_action = EndpointToHost::Return,
            _ => {}
        }
        if let Some(Value::Duration(interval)) = self.chosen("RouteRefreshInterval") {
            // Less than a second would be read as none.
            let seconds = interval.as_secs_f64().ceil();
            config.resync_interval = if seconds < f64::from(u32::MAX) {
                seconds as u32
            } else {
                u32::MAX
            };
        }
        match self.text("LogSeverityScreen") {
            Some("Trace") => config.log.level = Level::Trace,
            Some("Debug") => config.log.level = Level::Debug,
            Some("Info") => config.log.level = Level::Info,
            Some("Warning") => config.log.level = Level::Warn,
            Some("Error" | "Fatal") => config.log.level = Level::Error,
            _ => {}
        }
        config
    }

    /// The other parameters that have an effect here.
    pub fn settings(&self) -> Settings {
        let interval = self.duration("ReportingIntervalSecs");
        Settings {
            health: self.listen("HealthEnabled", "HealthHost", "HealthPort"),
            metrics: self.listen(
                "PrometheusMetricsEnabled",
                "PrometheusMetricsHost",
                "PrometheusMetricsPort",
            ),
            flow_timeouts: self.flow_timeouts(),
            keeps_forwarding: self.text("IPForwarding") == Some("Disabled"),
            source_v4: self.parsed("DeviceRouteSourceAddress"),
            source_v6: self.parsed("DeviceRouteSourceAddressIPv6"),
            reporting: Reporting {
                endpoints: self.is("EndpointReportingEnabled"),
                delay: self.duration("EndpointReportingDelaySecs"),
                interval: Some(interval).filter(|interval| !interval.is_zero()),
                ttl: self.duration("ReportingTTLSecs"),
                region: self.any_text("OpenstackRegion").map(ToOwned::to_owned),
                status_path: self.any_text("EndpointStatusPathPrefix").map(PathBuf::from),
            },
        }
    }

    fn listen(&self, enabled: &str, host: &str, port: &str) -> Option<Listen> {
        let Value::Int(port) = self.effect(port)?.value else {
            return None;
        };
        let port = u16::try_from(port).ok()?;
        self.is(enabled).then(|| Listen {
            host: self.any_text(host).unwrap_or_default().to_owned(),
            port,
        })
    }

    /// Only what somebody chose: the data path has times of its own.
    fn flow_timeouts(&self) -> Vec<(String, FlowTimeout)> {
        let Some(Value::Pairs(pairs)) = self.chosen("BPFConntrackTimeouts") else {
            return Vec::new();
        };
        let times = pairs.iter().filter_map(|(state, time)| {
            let time = match time.as_str() {
                "Auto" => FlowTimeout::Auto,
                time => FlowTimeout::After(
                    time.parse::<cleat_datastore::value::GoDuration>()
                        .ok()?
                        .value(),
                ),
            };
            Some((state.to_ascii_lowercase(), time))
        });
        times.collect()
    }

    /// The value, if somebody chose it by Felix's rules: neither by default nor in cleat's own file.
    fn chosen(&self, name: &str) -> Option<&Value> {
        let Effect { value, source, .. } = self.effect(name)?;
        let chosen = !matches!(source, Source::Default | Source::File(_)) && *value != Value::Unset;
        chosen.then_some(value)
    }

    fn text(&self, name: &str) -> Option<&str> {
        text_in(self.chosen(name)?)
    }

    fn any_text(&self, name: &str) -> Option<&str> {
        text_in(&self.effect(name)?.value)
    }

    fn parsed<T: FromStr>(&self, name: &str) -> Option<T> {
        self.any_text(name)?.parse().ok()
    }

    fn is(&self, name: &str) -> bool {
        self.effect(name).map(|effect| &effect.value) == Some(&Value::Bool(true))
    }

    fn duration(&self, name: &str) -> Duration {
        match self.effect(name).map(|effect| &effect.value) {
            Some(Value::Duration(time)) => *time,
            _ => Duration::ZERO,
        }
    }
}

fn text_in(value: &Value) -> Option<&str> {
    if let Value::Text(text) = value {
        Some(text)
    } else {
        None
    }
}

/// Reads a value as its parameter wants it, and refuses what cleat cannot do.
pub(super) fn read(param: &Param, text: &str) -> Result<Value, String> {
    let value = param.schema.parse(text)?;
    match (param.name, &value) {
        ("DeviceRouteProtocol", Value::Int(protocol)) if *protocol <= KERNEL_PROTOCOLS => {
            Err(format!(
                "{protocol} marks routes of the kernel or of people; cleat needs a number of its own"
            ))
        }
        ("InterfacePrefix", Value::List(prefixes)) if prefixes.is_empty() => {
            Err("an empty list leaves no interface to workloads".to_owned())
        }
        // What has no meaning empty, and keeps Felix from starting.
        (_, Value::Unset)
            if param.needed && !param.default.is_empty() && !MAY_BE_NONE.contains(&param.name) =>
        {
            Err("none is no value here".to_owned())
        }
        ("DatastoreType", Value::Text(kind)) if kind == "kubernetes" => {
            Err("cleat has no Kubernetes datastore; etcdv3 is what it reads".to_owned())
        }
        _ => Ok(value),
    }
}

/// Felix's expressions match anywhere in a name, where cleat's cover the whole of it.
fn anywhere(expression: &str) -> Option<Pattern> {
    Pattern::new(&format!(".*(?:{expression}).*")).ok()
}

/// `boot` and below in the kernel's `rtnetlink.h`, and `static`.
const KERNEL_PROTOCOLS: i64 = 4;
/// Parameters of those that Felix needs, for which none is a choice.
const MAY_BE_NONE: [&str; 3] = ["LogFilePath", "MetadataAddr", "DataplaneDriver"];
