//! Every field of the configuration file with its unit, its default, and the reason for it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::settings::settings;

settings! {
    /// The whole configuration file.
    Config {
        /// Name of the Node resource that describes this host; endpoints and blocks with this name are programmed here.
        nodename as "nodename": String = String::new(),
            unit "name", because "what Calico's tools write into resources they make on this host",
            shown "the host's name in lower case", env ["NODENAME", "FELIX_FELIXHOSTNAME"];
        /// Pin directory in a bpffs; maps and programs outlive the daemon there.
        bpf_path as "bpfPath": PathBuf = "/sys/fs/bpf/cleat".into(),
            unit "path", because "systemd mounts the bpffs at /sys/fs/bpf";
        /// Directory of the API socket, `api.sock`.
        run_path as "runPath": PathBuf = "/run/cleat".into(),
            unit "path", because "the unit's RuntimeDirectory; the command line looks there";
        /// Directory of what must survive a reboot.
        state_path as "statePath": PathBuf = "/var/lib/cleat".into(),
            unit "path", because "the unit's StateDirectory";
        /// Interfaces whose name begins so are workloads' host sides: they get the workload programs and drop without an endpoint.
        workload_interface_prefixes as "workloadInterfacePrefixes": Vec<String> = vec!["cali".into(), "tap".into()],
            unit "prefixes", because "the names the CNI plugin and networking-calico give",
            env ["FELIX_INTERFACEPREFIX"];
        /// Interfaces to the fabric, each entry a regular expression for the whole name; they get the host programs.
        host_interfaces as "hostInterfaces": Vec<Pattern> = vec![Pattern::fabric()],
            unit "regular expressions", because "Ethernet and bonds; bridges, docker's and libvirt's interfaces stay untouched",
            env ["FELIX_BPFDATAIFACEPATTERN"];
        /// Address of the admin HTTP server: /live, /ready, /metrics.
        admin_address as "adminAddress": SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9099),
            unit "address:port", because "loopback: it has no authentication; the port is that of Felix's health endpoint";
        /// Protocol number that marks this daemon's kernel routes (`proto` in `ip route`).
        route_protocol as "routeProtocol": u8 = 80,
            unit "1-255", because "no other daemon uses it but Felix for its overlays, whose place cleat takes",
            env ["FELIX_DEVICEROUTEPROTOCOL"];
        /// What becomes of a workload's packets to this host itself after its egress policy allowed them.
        default_endpoint_to_host_action as "defaultEndpointToHostAction": EndpointToHost = EndpointToHost::Drop,
            unit "Drop, Return or Accept", because "a workload has no business with its host unless told so",
            env ["FELIX_DEFAULTENDPOINTTOHOSTACTION"];
        /// Time between two comparisons of the kernel's tables with what they should hold, give or take a tenth; 0 for none.
        resync_interval as "resyncInterval": u32 = 90,
            unit "seconds", because "repairs what others changed, at the cost of one dump of each table",
            env ["FELIX_ROUTEREFRESHINTERVAL"];

        /// Calico's own configuration of Felix on this host, heeded where this file and the environment say nothing.
        felix_config as "felixConfig": PathBuf = "/etc/calico/felix.cfg".into(),
            unit "path", because "a host that ran Felix keeps its settings; a file that is not there says nothing";

        groups {
            /// Where resources are read from.
            datastore as "datastore": Datastore;
            /// The BGP speaker.
            bgp as "bgp": Bgp;
            /// What the daemon writes to its log.
            log as "log": Log;
        }
    }
}

settings! {
    /// Where resources are read from.
    Datastore {
        /// Kind of store: `etcd`, a directory of YAML files (`dir`), or nothing but memory (`memory`, for tests).
        kind as "type": Option<StoreKind> = None,
            unit "etcd, dir or memory", because "a host alone needs no etcd; endpoints say that there is one",
            shown "etcd when endpoints are given, dir otherwise", env ["DATASTORE_TYPE", "CALICO_DATASTORE_TYPE", "FELIX_DATASTORETYPE"];
        /// The etcd cluster's client URLs.
        endpoints as "endpoints": Vec<String> = Vec::new(),
            unit "URLs", because "there is no good guess", shown "none",
            env ["ETCD_ENDPOINTS", "FELIX_ETCDENDPOINTS"];
        /// Certificate authority that signed the servers' certificates.
        ca_file as "caFile": Option<PathBuf> = None,
            unit "path of a PEM file", because "without it, the system's authorities are trusted", shown "none",
            env ["ETCD_CA_CERT_FILE", "FELIX_ETCDCAFILE"];
        /// This client's certificate.
        cert_file as "certFile": Option<PathBuf> = None,
            unit "path of a PEM file", because "etcd asks for one only with client-cert-auth", shown "none",
            env ["ETCD_CERT_FILE", "FELIX_ETCDCERTFILE"];
        /// The key of this client's certificate.
        key_file as "keyFile": Option<PathBuf> = None,
            unit "path of a PEM file", because "goes with certFile", shown "none",
            env ["ETCD_KEY_FILE", "FELIX_ETCDKEYFILE"];
        /// The authority's certificate itself, in place of caFile.
        ca_cert as "caCert": Option<String> = None,
            unit "PEM", because "calicoctl takes it so", shown "none", env ["ETCD_CA_CERT"];
        /// This client's certificate itself, in place of certFile.
        cert as "cert": Option<String> = None,
            unit "PEM", because "calicoctl takes it so", shown "none", env ["ETCD_CERT"];
        /// The key itself, in place of keyFile.
        key as "key": Option<String> = None,
            unit "PEM", because "calicoctl takes it so", shown "none", env ["ETCD_KEY"], secret true;
        /// The etcd user.
        username as "username": Option<String> = None,
            unit "name", because "etcd asks for one only with authentication enabled", shown "none",
            env ["ETCD_USERNAME", "FELIX_ETCDUSERNAME"];
        /// The etcd user's password.
        password as "password": Option<String> = None,
            unit "text", because "goes with username", shown "none",
            env ["ETCD_PASSWORD", "FELIX_ETCDPASSWORD"], secret true;
        /// Directory of the YAML files when the type is `dir`.
        path as "path": PathBuf = "/etc/cleat/resources".into(),
            unit "path", because "beside the configuration",
            env ["CLEAT_DATASTORE_PATH"];
    }
}

settings! {
    /// The BGP speaker.
    Bgp {
        /// Whether to speak BGP at all; peers and numbers come from BGPConfiguration, BGPPeer and Node resources.
        enabled as "enabled": bool = true,
            unit "true or false", because "without peers there are no sessions anyway";
        /// Time for which routes of the last run stay in the kernel while sessions come up again.
        restart_deferral as "restartDeferral": u32 = 120,
            unit "seconds", because "the restart time that peers are told; they keep our routes as long";
    }
}

settings! {
    /// What the daemon writes to its log.
    Log {
        /// The least severe level that is written.
        level as "level": Level = Level::Info,
            unit "error, warn, info, debug or trace", because "one line for each change of state, none for packets",
            env ["FELIX_LOGSEVERITYSCREEN"];
        /// Form of the lines.
        format as "format": Format = Format::Text,
            unit "text or json", because "journald and people read text";
    }
}

/// Kinds of stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// A directory of YAML files, watched.
    Dir,
    /// An etcd cluster in Calico's layout.
    #[serde(alias = "etcdv3")]
    Etcd,
    /// Nothing outside this process.
    Memory,
}

impl StoreKind {
    /// The kind's name in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dir => "dir",
            Self::Etcd => "etcd",
            Self::Memory => "memory",
        }
    }
}

/// What becomes of workloads' packets to their host, once their egress policy allowed them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EndpointToHost {
    /// They pass.
    #[serde(alias = "ACCEPT", alias = "accept")]
    Accept,
    /// They are dropped.
    #[serde(alias = "DROP", alias = "drop")]
    Drop,
    /// They go on to the host's own firewall.
    #[serde(alias = "RETURN", alias = "return")]
    Return,
}

/// Levels of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Traffic is lost or the process stops.
    #[serde(alias = "Error", alias = "ERROR", alias = "Fatal", alias = "FATAL")]
    Error,
    /// A person should look.
    #[serde(alias = "Warning", alias = "WARNING", alias = "WARN")]
    Warn,
    /// A state that a user would notice.
    #[serde(alias = "Info", alias = "INFO")]
    Info,
    /// A branch taken.
    #[serde(alias = "Debug", alias = "DEBUG")]
    Debug,
    /// Every key.
    #[serde(alias = "Trace", alias = "TRACE")]
    Trace,
}

impl Level {
    /// The level's name as log filters know it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// Forms of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// Words and `key=value`.
    Text,
}

/// A regular expression that an interface's whole name must match.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: String,
    regex: regex_lite::Regex,
}

impl Pattern {
    /// Compiles an expression.
    pub fn new(text: &str) -> Result<Self, regex_lite::Error> {
        let regex = regex_lite::Regex::new(&format!("^(?:{text})$"))?;
        Ok(Self {
            text: text.to_owned(),
            regex,
        })
    }

    /// True when the expression covers the whole name.
    pub fn matches(&self, name: &str) -> bool {
        self.regex.is_match(name)
    }

    fn fabric() -> Self {
        Self::new(r"(en|ib)[Popsx].*|eth\d+|bond\d+")
            .expect("a constant expression that the tests compile")
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

/// All fields in the order of the file.
pub(super) fn all() -> Vec<super::Field> {
    let mut fields = Vec::new();
    Config::fields("", &mut fields);
    fields
}
