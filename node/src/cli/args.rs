//! Every command, flag and help text.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;

use crate::output::Format;

/// Ties a Linux host to its fabric: endpoints and policy in eBPF, BGP to the top-of-rack routers.
#[derive(Debug, Parser)]
#[command(
    name = "cleat",
    disable_version_flag = true,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 success, 1 failed or the answer is no, 2 usage, 3 the daemon does not answer, \
                  4 the datastore does not answer, 5 conflict, 6 refused for safety.\n\
                  The datastore is found as the daemon finds it: the configuration file, then ETCD_ENDPOINTS, \
                  ETCD_CA_CERT_FILE, ETCD_CERT_FILE, ETCD_KEY_FILE, ETCD_USERNAME, ETCD_PASSWORD, DATASTORE_TYPE."
)]
pub struct Args {
    /// Configuration file.
    #[arg(
        long,
        short = 'c',
        global = true,
        env = "CLEAT_CONFIG",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub config: Option<PathBuf>,
    /// The daemon's API socket; by default `api.sock` in the configuration's runPath.
    #[arg(
        long,
        global = true,
        env = "CLEAT_SOCKET",
        hide_env_values = true,
        value_name = "PATH"
    )]
    pub socket: Option<PathBuf>,
    /// Form of the output.
    #[arg(
        long,
        short = 'o',
        global = true,
        value_enum,
        value_name = "FORMAT",
        default_value = "ps"
    )]
    pub output: Output,
    /// Leave out the heads of tables.
    #[arg(long, global = true)]
    pub no_headers: bool,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

impl Args {
    /// The form of the output.
    pub fn format(&self) -> Format {
        match self.output {
            Output::Ps => Format::Table,
            Output::Wide => Format::Wide,
            Output::Json => Format::Json,
            Output::Yaml => Format::Yaml,
            Output::Name => Format::Name,
        }
    }
}

/// Forms of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A table.
    Ps,
    /// A table with more columns.
    Wide,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// Lines of `kind/name`.
    Name,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs the daemon in the foreground.
    #[command(
        after_help = "Examples:\n  cleat run --config /etc/cleat/cleat.yaml\n  cleat config reference > cleat.yaml"
    )]
    Run,
    /// Creates or changes resources; every document is checked before the first is written.
    #[command(
        after_help = "Examples:\n  cleat apply -f policy.yaml\n  cleat apply -R -f resources/\n  cat pool.yaml | cleat apply -f -"
    )]
    Apply(Files),
    /// Shows resources.
    #[command(
        after_help = "Examples:\n  cleat get nodes -o wide\n  cleat get wep -A\n  cleat get networkpolicy web -n shop -o yaml\n  cleat get gnp/deny-all tier/security\n\n\
        Kinds: bgpconfiguration (bgpconfig), bgppeer (bgpp, bp), globalnetworkpolicy (gnp), globalnetworkset (gnetset), ippool (ipp, pool), \
        networkpolicy (np, policy), networkset (netset), node (no), profile (pro), tier, workloadendpoint (wep)."
    )]
    Get(Get),
    /// Deletes resources.
    #[command(
        after_help = "Examples:\n  cleat delete -f policy.yaml\n  cleat delete gnp deny-all\n  cleat delete wep/host1-k8s-web-eth0 -n shop --ignore-not-found"
    )]
    Delete(Delete),
    /// Checks resources without a datastore; exit code 1 when one is refused.
    #[command(
        after_help = "Examples:\n  cleat validate -f policy.yaml\n  cleat validate -R -f resources/"
    )]
    Validate(Files),
    /// Shows how the daemon is: readiness, store, endpoints, peers, and every resource that cannot be used.
    #[command(
        after_help = "Examples:\n  cleat status\n  cleat status -o json | jq .problems\n\nExit code 1 when the daemon is not ready."
    )]
    Status,
    /// Shows the daemon's relation to its store, and ends the hold on a store that looked lost.
    Store {
        /// What to do.
        #[command(subcommand)]
        command: StoreCommand,
    },
    /// Shows BGP sessions and routes.
    Bgp {
        /// What to show.
        #[command(subcommand)]
        command: BgpCommand,
    },
    /// Shows the workload endpoints of this host as they are programmed.
    Endpoint {
        /// What to show.
        #[command(subcommand)]
        command: EndpointCommand,
    },
    /// Shows which rules judge packets.
    Policy {
        /// What to show.
        #[command(subcommand)]
        command: PolicyCommand,
    },
    /// Shows the flows that the kernel knows.
    Conntrack {
        /// What to show.
        #[command(subcommand)]
        command: ConntrackCommand,
    },
    /// Shows what is inside the daemon.
    Show {
        /// What to show.
        #[command(subcommand)]
        command: ShowCommand,
    },
    /// Shows and explains the configuration.
    Config {
        /// What to show.
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Shows the version.
    #[command(after_help = "Example:\n  cleat version -o json")]
    Version,
    /// Prints a completion script for a shell.
    #[command(after_help = "Example:\n  cleat completion bash > /etc/bash_completion.d/cleat")]
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Resources in files.
#[derive(Debug, ClapArgs)]
pub struct Files {
    /// A YAML or JSON file, a directory of them, or `-` for standard input; may be given again.
    #[arg(
        long = "filename",
        short = 'f',
        required = true,
        value_name = "FILE|-|DIR"
    )]
    pub paths: Vec<PathBuf>,
    /// Go into directories below a directory.
    #[arg(long, short = 'R')]
    pub recursive: bool,
    /// The namespace of namespaced resources that name none.
    #[arg(long, short = 'n', default_value = DEFAULT_NAMESPACE)]
    pub namespace: String,
}

/// What `get` shows.
#[derive(Debug, ClapArgs)]
pub struct Get {
    /// A kind and names, or KIND/NAME pairs.
    #[arg(required = true, value_name = "KIND [NAME...] | KIND/NAME...")]
    pub what: Vec<String>,
    /// The namespace.
    #[arg(long, short = 'n', default_value = DEFAULT_NAMESPACE)]
    pub namespace: String,
    /// All namespaces.
    #[arg(long, short = 'A', alias = "all-namespaces")]
    pub all_namespaces: bool,
}

/// What `delete` deletes.
#[derive(Debug, ClapArgs)]
pub struct Delete {
    /// A kind and names, or KIND/NAME pairs.
    #[arg(
        value_name = "KIND NAME... | KIND/NAME...",
        required_unless_present = "files",
        conflicts_with = "files"
    )]
    pub what: Vec<String>,
    /// Delete what these files name.
    #[arg(long = "filename", short = 'f', value_name = "FILE|-|DIR")]
    pub files: Vec<PathBuf>,
    /// Go into directories below a directory.
    #[arg(long, short = 'R', requires = "files")]
    pub recursive: bool,
    /// The namespace.
    #[arg(long, short = 'n', default_value = DEFAULT_NAMESPACE)]
    pub namespace: String,
    /// What is not there counts as deleted.
    #[arg(long, alias = "skip-not-exists")]
    pub ignore_not_found: bool,
}

/// What to do with the daemon's store.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum StoreCommand {
    /// Whether the store is followed, held or away, and the last good state on disk; exit code 1 when it is held.
    #[command(after_help = "Examples:\n  cleat store status\n  cleat store status -o json")]
    Status,
    /// Takes a store that is held as it is: what it has lost is removed from this host, too.
    ///
    /// A store that comes back empty, shrunken or as another cluster is not obeyed: what is in force stays. When it is
    /// right that it lost its objects, this says so.
    #[command(after_help = "Example:\n  cleat store accept")]
    Accept,
}

/// What to show of BGP.
#[derive(Debug, Subcommand)]
pub enum BgpCommand {
    /// Every peer with its session and counters.
    #[command(after_help = "Examples:\n  cleat bgp peers\n  cleat bgp peers -o json")]
    Peers,
    /// Routes learned and told.
    #[command(
        after_help = "Examples:\n  cleat bgp routes\n  cleat bgp routes received --peer 192.0.2.1\n  cleat bgp routes advertised --family ipv6\n  cleat bgp routes --prefix 10.1.0.0/16"
    )]
    Routes(Routes),
}

/// Which routes to show.
#[derive(Debug, ClapArgs)]
pub struct Routes {
    /// From which table.
    #[arg(value_enum, default_value = "best")]
    pub table: RouteTable,
    /// Only from, or to, this peer.
    #[arg(long)]
    pub peer: Option<IpAddr>,
    /// Only this family.
    #[arg(long, value_enum)]
    pub family: Option<Family>,
    /// Only this prefix.
    #[arg(long)]
    pub prefix: Option<IpNet>,
    /// At most so many.
    #[arg(long, default_value_t = 10_000)]
    pub limit: usize,
}

/// Tables of routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RouteTable {
    /// Everything that peers announced and this host originates, rejected or not.
    Received,
    /// What import accepted.
    Accepted,
    /// The chosen paths.
    Best,
    /// What peers were told.
    Advertised,
}

/// Address families.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Family {
    /// IPv4 unicast.
    Ipv4,
    /// IPv6 unicast.
    Ipv6,
}

/// What to show of endpoints.
#[derive(Debug, Subcommand)]
pub enum EndpointCommand {
    /// All of this host.
    #[command(after_help = "Examples:\n  cleat endpoint list\n  cleat endpoint list -o wide")]
    List,
    /// One with everything that applies to it.
    #[command(
        after_help = "Examples:\n  cleat endpoint show shop/host1-k8s-web-eth0\n  cleat endpoint show cali1234"
    )]
    Show {
        /// NAMESPACE/NAME, a name or an interface.
        endpoint: String,
    },
}

/// What to show of policy.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// The rules of an endpoint in the order in which they are asked, with the packets that met them.
    #[command(after_help = "Example:\n  cleat policy show shop/host1-k8s-web-eth0")]
    Show {
        /// NAMESPACE/NAME, a name or an interface.
        endpoint: String,
    },
}

/// What to show of flows.
#[derive(Debug, Subcommand)]
pub enum ConntrackCommand {
    /// The flows, one line for each direction.
    #[command(
        after_help = "Examples:\n  cleat conntrack list\n  cleat conntrack list --address 10.65.0.2 --limit 20",
        alias = "ls"
    )]
    List {
        /// At most so many.
        #[arg(long, default_value_t = 1000)]
        limit: usize,
        /// Only flows from or to this address.
        #[arg(long)]
        address: Option<IpAddr>,
    },
}

/// What to show of the daemon.
#[derive(Debug, Subcommand)]
pub enum ShowCommand {
    /// Every key of a kernel table that is not as it should be; exit code 1 when there is one.
    #[command(after_help = "Example:\n  cleat show drift")]
    Drift,
}

/// What to show of the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// The values in force, and where each came from.
    #[command(
        after_help = "Examples:\n  cleat config show\n  cleat config show --config ./cleat.yaml -o json"
    )]
    Show,
    /// An annotated file with every field, its unit, its default and the reason for it.
    #[command(after_help = "Example:\n  cleat config reference > /etc/cleat/cleat.yaml")]
    Reference,
}

const DEFAULT_NAMESPACE: &str = "default";
