//! Every command, flag and help text.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::path::PathBuf;

use clap::builder::{PossibleValue, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use cleat_datastore::Kind;
use ipnet::IpNet;

use super::resource_args::{Create, Delete, Get, Import, Label, Patch, Sources};
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
        value_parser = OutputParser,
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
            Output::Ps | Output::Columns(_) | Output::Other(_) => Format::Table,
            Output::Wide => Format::Wide,
            Output::Json => Format::Json,
            Output::Yaml => Format::Yaml,
            Output::Name => Format::Name,
        }
    }
}

/// A form of output.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// A table of these columns.
    Columns(Vec<String>),
    /// Something else; where a command writes a file, its name.
    Other(String),
}

impl Output {
    /// The columns that were asked for by name.
    pub fn columns(&self) -> Option<&[String]> {
        match self {
            Output::Columns(columns) => Some(columns),
            Output::Ps
            | Output::Wide
            | Output::Json
            | Output::Yaml
            | Output::Name
            | Output::Other(_) => None,
        }
    }
}

/// Reads forms of output, and tells shells which there are.
#[derive(Debug, Clone)]
struct OutputParser;

impl TypedValueParser for OutputParser {
    type Value = Output;

    fn parse_ref(
        &self,
        command: &clap::Command,
        _: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<Output, clap::Error> {
        let Some(text) = value.to_str() else {
            return Err(clap::Error::new(ErrorKind::InvalidUtf8).with_cmd(command));
        };
        Ok(match text {
            "ps" => Output::Ps,
            "wide" => Output::Wide,
            "json" => Output::Json,
            "yaml" | "yml" => Output::Yaml,
            "name" => Output::Name,
            _ => match text.strip_prefix("custom-columns=") {
                Some(columns) if !columns.is_empty() => {
                    Output::Columns(columns.split(',').map(str::to_owned).collect())
                }
                _ => Output::Other(text.to_owned()),
            },
        })
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let values = [
            ("ps", "A table"),
            ("wide", "A table with more columns"),
            ("json", "JSON"),
            ("yaml", "YAML"),
            ("name", "Lines of kind/name"),
            (
                "custom-columns=",
                "A table of these columns: heads of the kind, or HEAD:.path.of.field",
            ),
        ];
        let values = values.map(|(name, help)| PossibleValue::new(name).help(help));
        Some(Box::new(values.into_iter()))
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs the daemon in the foreground.
    #[command(
        after_help = "Examples:\n  cleat run --config /etc/cleat/cleat.yaml\n  cleat config reference > cleat.yaml"
    )]
    Run,
    /// Creates resources; one that is there already is an error.
    #[command(
        after_help = "Every document of every file is checked before the first resource is written, and everything that is wrong \
        is named with file, document, resource and field. What the store refuses is told at the end, with the number that were \
        created.\n\nExamples:\n  cleat create -f policy.yaml\n  cleat create -f resources/ -R --skip-exists\n  \
        cat policy.json | cleat create -f -"
    )]
    Create(Create),
    /// Creates or replaces resources.
    #[command(
        after_help = "A resource that is there gets the spec of the document and keeps its uid, its creation time, and those of its \
        labels and annotations that the document does not set (`cleat label --remove` and `cleat patch` take them away). With a \
        metadata.resourceVersion in the document the resource must be at that version.\n\nExamples:\n  cleat apply -f policy.yaml\n  \
        cleat apply -R -f resources/\n  cat pool.yaml | cleat apply -f -"
    )]
    Apply(Sources),
    /// Replaces resources; one that is not there is an error.
    #[command(
        after_help = "With a metadata.resourceVersion in the document the resource must be at that version: get it, change it, \
        replace it, and a change that somebody else made meanwhile is not lost.\n\nExamples:\n  cleat replace -f policy.yaml\n  \
        cleat get ippool pool1 -o yaml > pool1.yaml && $EDITOR pool1.yaml && cleat replace -f pool1.yaml"
    )]
    Replace(Sources),
    /// Changes a part of a resource.
    #[command(
        after_help = "Examples:\n  cleat patch node node-0 --patch '{\"spec\":{\"bgp\":{\"routeReflectorClusterID\":\"224.0.0.1\"}}}'\n  \
        cleat patch ippool pool1 -p '{\"spec\":{\"disabled\":true}}'\n  \
        cleat patch np web -n shop --type json -p '[{\"op\":\"remove\",\"path\":\"/spec/egress\"}]'"
    )]
    Patch(Patch),
    /// Sets, changes or takes away labels of a resource.
    #[command(
        after_help = "Examples:\n  cleat label workloadendpoint host1-k8s-web-eth0 -n shop app=web\n  \
        cleat label node node1 cluster=frontend --overwrite\n  cleat label node node1 cluster --remove"
    )]
    Label(Label),
    /// Shows resources.
    #[command(after_help = get_help())]
    Get(Get),
    /// Deletes resources.
    #[command(
        after_help = "With a node go its workload endpoints and their addresses, its claims on address blocks, the peers and host \
        endpoints that name it, and its node.NAME configurations. An IP pool is disabled first, and the claims on its blocks are \
        given up; addresses that are assigned stay assigned. With files, a metadata.resourceVersion in a document must be the \
        version that is there.\n\nExamples:\n  cleat delete -f policy.yaml\n  cleat delete gnp deny-all allow-dns\n  \
        cleat delete wep/host1-k8s-web-eth0 -n shop --skip-not-exists"
    )]
    Delete(Delete),
    /// Checks resources without a datastore; exit code 1 when one is refused.
    #[command(
        after_help = "Examples:\n  cleat validate -f policy.yaml\n  cleat validate -R -f resources/"
    )]
    Validate(Sources),
    /// Writes the whole datastore to a file.
    #[command(
        after_help = "The file holds one JSON object on each line: a head with the number of objects of each kind, every resource, \
        everything of address management, and an end with a checksum, so that a file that was cut off is not taken for a whole \
        one. What lives as long as a lease (statuses of nodes and endpoints, elections) is left out.\n\nExamples:\n  \
        cleat export -o backup.cleat\n  cleat export | gzip > backup.cleat.gz"
    )]
    Export,
    /// Fills a datastore from a file that `cleat export` or `calicoctl datastore migrate export` has written.
    #[command(
        after_help = "The whole file is read and checked before anything is written. While it is written the datastore is locked: \
        ClusterInformation's datastoreReady is false. A datastore that holds anything is refused without --merge or --overwrite.\
        \n\nExamples:\n  cleat import backup.cleat --dry-run\n  cleat import backup.cleat\n  \
        gunzip -c backup.cleat.gz | cleat import -"
    )]
    Import(Import),
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
    /// Manages addresses: pools, blocks, handles.
    Ipam {
        /// What to do.
        #[command(subcommand)]
        command: super::ipam::IpamCommand,
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
    /// Locks the store: datastoreReady is false, so that no workload is added or removed while it is moved or mended.
    #[command(after_help = "Example:\n  cleat store lock")]
    Lock,
    /// Unlocks the store.
    #[command(after_help = "Example:\n  cleat store unlock")]
    Unlock,
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

/// Every kind with the words for it.
pub(super) fn kinds_help() -> String {
    let kinds = Kind::ALL.map(|kind| {
        let name = kind.name().to_lowercase();
        let aliases: Vec<&str> = kind
            .aliases()
            .iter()
            .copied()
            .filter(|alias| {
                let plurals = [("s", ""), ("es", ""), ("ies", "y")];
                !plurals.iter().any(|(ending, singular)| {
                    let stem = alias.strip_suffix(ending);
                    let of = stem.map(|stem| format!("{stem}{singular}"));
                    of.is_some_and(|of| kind.aliases().contains(&of.as_str()) || of == name)
                })
            })
            .collect();
        if aliases.is_empty() {
            name
        } else {
            format!("{name} ({})", aliases.join(", "))
        }
    });
    kinds.join(", ")
}

fn get_help() -> String {
    format!(
        "What `-o yaml` and `-o json` print can be given to every other command. There are no Go templates: \
         custom-columns=HEAD:.path.of.field prints single values, and `-o json` is for jq.\n\n\
         Examples:\n  cleat get nodes -o wide\n  cleat get wep -A\n  cleat get networkpolicy web -n shop -o yaml\n  \
         cleat get gnp/deny-all tier/security\n  cleat get ippools -o custom-columns=NAME,CIDR,SIZE:.spec.blockSize\n  \
         cleat get all -A -o name\n  cleat get hostendpoints --watch\n\nKinds: {}.",
        kinds_help()
    )
}
