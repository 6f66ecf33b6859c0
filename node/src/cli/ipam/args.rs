//! The grammar of `cleat ipam`: calicoctl's, with what it lacks.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use ipnet::IpNet;

/// What to do about addresses.
#[derive(Debug, Subcommand)]
pub enum IpamCommand {
    /// Shows how full pools are, what an address is assigned to, or the settings.
    #[command(
        after_help = "Examples:\n  cleat ipam show\n  cleat ipam show --show-blocks\n  cleat ipam show --ip=10.65.0.7\n  cleat ipam show --handle=k8s-pod-network.1f2e\n  cleat ipam show --show-borrowed -o json\n  cleat ipam show --show-configuration"
    )]
    Show(Show),
    /// Checks that blocks, claims, handles, endpoints and nodes agree; exit code 1 when they do not.
    #[command(
        after_help = "Examples:\n  cleat ipam check\n  cleat ipam check --show-problem-ips\n  cleat ipam check --report=monday.json\n  cleat ipam check -o json\n\nThe report has the shape of calicoctl's; `cleat ipam release --from-report` takes either."
    )]
    Check(Check),
    /// Releases addresses.
    #[command(
        after_help = "Examples:\n  cleat ipam release --ip=10.65.0.7\n  cleat ipam release --handle=k8s-pod-network.1f2e\n  cleat ipam release --from-report=monday.json --from-report=now.json\n\nOnly what all reports agree on is released, and nothing that was assigned anew since."
    )]
    Release(Release),
    /// Releases what nobody uses, and mends what was left half-done.
    #[command(
        after_help = "Examples:\n  cleat ipam gc --dry-run\n  cleat ipam gc --grace=1h\n  cleat ipam gc --grace=0s\n\nAddresses of pods without an endpoint and of nodes that are gone are released once they are older than the grace period; those that\ndo not say how old they are only with --grace=0s. Addresses of virtual machines and load balancers are left alone."
    )]
    Gc(Gc),
    /// Assigns addresses.
    #[command(
        after_help = "Examples:\n  cleat ipam assign --ipv4=1 --handle=router-1 --node=host1\n  cleat ipam assign --ipv4=1 --ipv6=1 --handle=web --attr pod=web --attr namespace=shop\n  cleat ipam assign --ip=10.65.0.7 --handle=router-1"
    )]
    Assign(Assign),
    /// Splits a pool into smaller ones of one size; blocks and addresses stay as they are.
    #[command(
        after_help = "Examples:\n  cleat ipam split --cidr=10.65.0.0/16 2\n  cleat ipam split --name=default-ipv4-ippool 4"
    )]
    Split(Split),
    /// Shows or changes the settings.
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "Examples:\n  cleat ipam configure --strictaffinity=true\n  cleat ipam configure set --max-blocks-per-host=8\n  cleat ipam configure show"
    )]
    Configure {
        /// Show or set.
        #[command(subcommand)]
        command: Option<ConfigureCommand>,
        /// What to change.
        #[command(flatten)]
        settings: Settings,
    },
}

/// What to show.
#[derive(Debug, ClapArgs)]
#[group(multiple = false)]
pub struct Show {
    /// What this address is assigned to.
    #[arg(long, value_name = "IP")]
    pub ip: Option<IpAddr>,
    /// The addresses of this handle.
    #[arg(long, value_name = "HANDLE")]
    pub handle: Option<String>,
    /// The blocks beside the pools.
    #[arg(long = "show-blocks")]
    pub blocks: bool,
    /// The addresses that others than a block's owner have.
    #[arg(long = "show-borrowed")]
    pub borrowed: bool,
    /// The settings.
    #[arg(long = "show-configuration")]
    pub configuration: bool,
}

/// How to check.
#[derive(Debug, ClapArgs)]
pub struct Check {
    /// List every assigned address.
    #[arg(long)]
    pub show_all_ips: bool,
    /// List every address that is leaked or not assigned as it should be.
    #[arg(long)]
    pub show_problem_ips: bool,
    /// Write a report to this file.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
}

/// What to release.
#[derive(Debug, ClapArgs)]
#[group(required = true)]
pub struct Release {
    /// An address.
    #[arg(long, value_name = "IP", conflicts_with_all = ["handle", "from_report"])]
    pub ip: Option<IpAddr>,
    /// Everything that is assigned by a handle.
    #[arg(long, value_name = "HANDLE", conflicts_with = "from_report")]
    pub handle: Option<String>,
    /// What this report and the others say is not used.
    #[arg(long, value_name = "REPORT")]
    pub from_report: Vec<PathBuf>,
    /// Believe a single report, and one of another release.
    #[arg(long, requires = "from_report")]
    pub force: bool,
}

/// What to collect.
#[derive(Debug, ClapArgs)]
pub struct Gc {
    /// For how long an address must have been assigned before it is believed to be leaked.
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = seconds)]
    pub grace: u64,
    /// How long to wait between two looks, so that what others are doing just now is not undone.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = seconds)]
    pub settle: u64,
    /// Only say what would be done.
    #[arg(long)]
    pub dry_run: bool,
}

/// What to assign.
#[derive(Debug, ClapArgs)]
pub struct Assign {
    /// This address.
    #[arg(
        long,
        value_name = "IP",
        required_unless_present_any = ["ipv4", "ipv6"],
        conflicts_with_all = ["ipv4", "ipv6", "pools"]
    )]
    pub ip: Option<IpAddr>,
    /// So many IPv4 addresses.
    #[arg(long, value_name = "COUNT")]
    pub ipv4: Option<usize>,
    /// So many IPv6 addresses.
    #[arg(long, value_name = "COUNT")]
    pub ipv6: Option<usize>,
    /// The handle to release them by.
    #[arg(long, value_name = "HANDLE")]
    pub handle: Option<String>,
    /// The node whose blocks they come from; this one unless it is said.
    #[arg(long, value_name = "NODE")]
    pub node: Option<String>,
    /// A note, such as pod=web; may be given again.
    #[arg(long = "attr", value_name = "NAME=VALUE", value_parser = note)]
    pub attributes: Vec<(String, String)>,
    /// A pool to take them from, by its CIDR; may be given again.
    #[arg(long = "pool", value_name = "CIDR")]
    pub pools: Vec<IpNet>,
    /// What they are for.
    #[arg(long = "use", value_enum, default_value = "workload")]
    pub allowed_use: Use,
}

/// What an address is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Use {
    /// A workload.
    Workload,
    /// A tunnel of the node.
    Tunnel,
    /// A load balancer.
    Loadbalancer,
}

/// What to split.
#[derive(Debug, ClapArgs)]
pub struct Split {
    /// Into how many; a power of two.
    pub number: u32,
    /// The pool, by its CIDR.
    #[arg(long, required_unless_present = "name", conflicts_with = "name")]
    pub cidr: Option<IpNet>,
    /// The pool, by its name.
    #[arg(long)]
    pub name: Option<String>,
}

/// What to do with the settings.
#[derive(Debug, Subcommand)]
pub enum ConfigureCommand {
    /// Shows them.
    #[command(after_help = "Example:\n  cleat ipam configure show -o yaml")]
    Show,
    /// Changes some.
    #[command(
        after_help = "Examples:\n  cleat ipam configure set --strictaffinity=true --max-blocks-per-host=8\n  cleat ipam configure set --ip-cooldown-seconds=60"
    )]
    Set(Settings),
}

/// The settings to change; the others stay.
#[derive(Debug, ClapArgs)]
pub struct Settings {
    /// Whether addresses are taken only from a host's own blocks.
    #[arg(long = "strictaffinity", value_name = "true|false")]
    pub strict_affinity: Option<bool>,
    /// How many blocks of a family a host may keep; 0 for 20.
    #[arg(long, value_name = "NUMBER")]
    pub max_blocks_per_host: Option<u32>,
    /// Whether blocks are claimed when they are needed.
    #[arg(long, value_name = "true|false")]
    pub auto_allocate_blocks: Option<bool>,
    /// Whether virtual machines keep their addresses.
    #[arg(long, value_enum, ignore_case = true, value_name = "Enabled|Disabled")]
    pub kubevirt_ip_persistence: Option<Persistence>,
    /// For how long an address that was released is not given again; 1200 at most.
    #[arg(long, value_name = "SECONDS")]
    pub ip_cooldown_seconds: Option<u32>,
}

/// Whether virtual machines keep their addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum Persistence {
    /// They do.
    Enabled,
    /// They do not.
    Disabled,
}

/// `90`, `90s`, `15m`, `2h`.
fn seconds(text: &str) -> Result<u64, String> {
    let (number, unit) = match text.find(|letter: char| !letter.is_ascii_digit()) {
        Some(at) => text.split_at(at),
        None => (text, "s"),
    };
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => 0,
    };
    number
        .parse()
        .ok()
        .and_then(|number: u64| number.checked_mul(unit))
        .filter(|_| unit > 0)
        .ok_or_else(|| format!("{text:?} is no duration such as 90s, 15m or 2h"))
}

fn note(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not of the form NAME=VALUE")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit_or_are_seconds() {
        for (text, wanted) in [
            ("90", Some(90)),
            ("90s", Some(90)),
            ("15m", Some(900)),
            ("2h", Some(7_200)),
            ("1d", Some(86_400)),
            ("0s", Some(0)),
            ("", None),
            ("m", None),
            ("15 m", None),
            ("-1s", None),
            ("99999999999999999999d", None),
        ] {
            assert_eq!(seconds(text).ok(), wanted, "{text:?}");
        }
    }

    #[test]
    fn notes_have_a_name() {
        assert_eq!(
            note("pod=web=1"),
            Ok(("pod".to_owned(), "web=1".to_owned()))
        );
        assert!(note("pod").is_err() && note("=web").is_err());
    }
}
