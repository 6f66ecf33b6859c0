//! A client, a fabric router and two hosts with workloads, one set of namespaces for each data plane under test:
//!
//! ```text
//! cl --- fab --- na --(cali-a1, cali-a2)-- a1, a2
//!            \-- nb --(cali-b1, cali-b2)-- b1, b2
//! ```
//!
//! Routes and neighbours are static, so that nothing but the data plane differs, and both families are there at once.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// An address family, with the addresses the benchmark uses in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The family's digit.
    pub fn digit(self) -> u8 {
        match self {
            Self::V4 => 4,
            Self::V6 => 6,
        }
    }

    /// The width of an address in bits.
    pub fn host_bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    /// The prefix of a single address.
    pub fn prefix(self, address: IpAddr) -> String {
        format!("{address}/{}", self.host_bits())
    }

    /// ipset's name of the family.
    pub(super) fn ipset_name(self) -> &'static str {
        match self {
            Self::V4 => "inet",
            Self::V6 => "inet6",
        }
    }

    /// All workloads' network.
    pub fn pod_network(self) -> &'static str {
        match self {
            Self::V4 => "10.244.0.0/16",
            Self::V6 => "fd00:244::/32",
        }
    }

    /// One host's network of workloads.
    pub fn node_network(self, node: usize) -> String {
        match self {
            Self::V4 => format!("10.244.{}.0/24", node + 1),
            Self::V6 => format!("fd00:244:{}::/64", node + 1),
        }
    }

    /// A workload's address; workloads are numbered from 1 on each host.
    pub fn workload(self, node: usize, workload: usize) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::new(10, 244, node as u8 + 1, workload as u8 + 10).into(),
            Self::V6 => Ipv6Addr::new(
                0xfd00,
                0x244,
                node as u16 + 1,
                0,
                0,
                0,
                0,
                workload as u16 + 10,
            )
            .into(),
        }
    }

    /// A host's address on its link to the fabric.
    pub fn host(self, node: usize) -> IpAddr {
        self.on_link(node as u8 + 1, 10)
    }

    /// The client's address.
    pub fn client(self) -> IpAddr {
        self.on_link(9, 10)
    }

    /// The fabric's address on a link.
    fn fabric(self, link: u8) -> IpAddr {
        self.on_link(link, 1)
    }

    fn on_link(self, link: u8, host: u8) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::new(10, 0, link, host).into(),
            Self::V6 => {
                Ipv6Addr::new(0xfd00, 0, u16::from(link), 0, 0, 0, 0, u16::from(host)).into()
            }
        }
    }

    /// The address a workload takes for its gateway, whichever host it is on.
    fn gateway(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::new(169, 254, 1, 1).into(),
            Self::V6 => Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1).into(),
        }
    }

    pub(super) fn service(self, index: usize) -> IpAddr {
        self.numbered(100, index)
    }

    pub(super) fn filler_endpoint(self, index: usize) -> IpAddr {
        self.numbered(150, index)
    }

    pub(super) fn set_member(self, set: usize, member: usize) -> IpAddr {
        self.numbered(200, set * 250 + member)
    }

    fn numbered(self, base: u8, index: usize) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::new(
                10,
                base + (index / 62_500) as u8,
                (index / 250 % 250) as u8,
                (index % 250) as u8 + 1,
            )
            .into(),
            Self::V6 => Ipv6Addr::new(
                0xfd00,
                u16::from(base),
                0,
                0,
                0,
                0,
                (index >> 16) as u16,
                index as u16 + 1,
            )
            .into(),
        }
    }
}

/// The namespaces of one data plane; dropping it removes them.
#[derive(Debug)]
pub struct Topology {
    prefix: String,
}

impl Topology {
    /// Hosts, in order.
    pub const NODES: [&str; 2] = ["na", "nb"];
    /// Workloads on each host.
    pub const WORKLOADS: usize = 2;

    /// Builds one; `prefix` must be unique on this machine.
    pub fn build(prefix: &str) -> Result<Self> {
        let topology = Self {
            prefix: prefix.into(),
        };
        topology
            .create()
            .with_context(|| format!("build the namespaces {prefix}-*"))?;
        Ok(topology)
    }

    /// The name of a member's namespace.
    pub fn namespace(&self, member: &str) -> String {
        format!("{}-{member}", self.prefix)
    }

    /// The namespace of a workload (`a1`, `b2`).
    pub fn workload_name(node: usize, workload: usize) -> String {
        format!("{}{workload}", ["a", "b"][node])
    }

    /// The host side of each workload's link on one host.
    pub fn workload_interfaces(&self, node: usize) -> impl Iterator<Item = String> {
        (1..=Self::WORKLOADS)
            .map(move |workload| format!("cali-{}", Self::workload_name(node, workload)))
    }

    /// A command that will run in a member's namespace, and see this machine's own file systems: `ip netns exec` would hide
    /// the mounted bpffs.
    pub fn command(&self, member: &str, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args([
            &format!("--net=/run/netns/{}", self.namespace(member)),
            program,
        ]);
        command
    }

    /// Runs a program in a member's namespace with the given input, and fails with what it said when it fails.
    pub fn feed(&self, member: &str, program: &str, arguments: &[&str], input: &str) -> Result<()> {
        let mut command = self.command(member, program);
        command.args(arguments);
        feed(command, input)
    }

    fn create(&self) -> Result<()> {
        let workloads = (0..Self::NODES.len())
            .flat_map(|node| (1..=Self::WORKLOADS).map(move |workload| (node, workload)));
        let mut members: Vec<String> = ["cl", "fab", "na", "nb"].map(String::from).to_vec();
        members.extend(
            workloads
                .clone()
                .map(|(node, workload)| Self::workload_name(node, workload)),
        );
        for member in &members {
            feed(ip(&["netns", "add", &self.namespace(member)]), "")?;
            self.sysctl(
                member,
                &[
                    ("net/ipv4/conf/all/rp_filter", "0"),
                    ("net/ipv4/conf/default/rp_filter", "0"),
                    ("net/ipv6/conf/default/accept_dad", "0"),
                    ("net/ipv6/conf/all/accept_dad", "0"),
                    ("net/ipv6/conf/default/accept_ra", "0"),
                    ("net/ipv4/ip_local_port_range", "1024 65000"),
                ],
            )?;
            self.ip(member, "link set lo up")?;
        }
        for router in ["fab", "na", "nb"] {
            self.sysctl(
                router,
                &[
                    ("net/ipv4/ip_forward", "1"),
                    ("net/ipv6/conf/all/forwarding", "1"),
                ],
            )?;
        }
        for (link, member) in [(9, "cl"), (1, "na"), (2, "nb")] {
            self.link("fab", &format!("to-{member}"), member, "eth0")?;
            let (here, there) = (
                self.mac("fab", &format!("to-{member}"))?,
                self.mac(member, "eth0")?,
            );
            for family in Family::ALL {
                let width = family.host_bits() - 8;
                let (fabric, host) = (family.fabric(link), family.on_link(link, 10));
                self.ip("fab", &format!("addr add {fabric}/{width} dev to-{member}"))?;
                self.ip(
                    "fab",
                    &format!("neigh replace {host} lladdr {there} dev to-{member} nud permanent"),
                )?;
                self.ip(member, &format!("addr add {host}/{width} dev eth0\nneigh replace {fabric} lladdr {here} dev eth0 nud permanent"))?;
                self.ip(member, &format!("route add default via {fabric} dev eth0"))?;
            }
        }
        for family in Family::ALL {
            for node in 0..Self::NODES.len() {
                self.ip(
                    "fab",
                    &format!(
                        "route add {} via {}",
                        family.node_network(node),
                        family.host(node)
                    ),
                )?;
            }
        }
        for (node, workload) in workloads {
            let (host, name) = (Self::NODES[node], Self::workload_name(node, workload));
            let outer = format!("cali-{name}");
            self.link(host, &outer, &name, "eth0")?;
            let (host_mac, workload_mac) = (self.mac(host, &outer)?, self.mac(&name, "eth0")?);
            for family in Family::ALL {
                let (address, width, gateway) = (
                    family.workload(node, workload),
                    family.host_bits(),
                    family.gateway(),
                );
                self.ip(&name, &format!(
                    "addr add {address}/{width} dev eth0\nneigh replace {gateway} lladdr {host_mac} dev eth0 nud permanent"
                ))?;
                if family == Family::V4 {
                    self.ip(
                        &name,
                        &format!("route add {gateway}/32 dev eth0 scope link"),
                    )?;
                }
                self.ip(&name, &format!("route add default via {gateway} dev eth0"))?;
                self.ip(host, &format!(
                    "route replace {address}/{width} dev {outer}\nneigh replace {address} lladdr {workload_mac} dev {outer} nud permanent"
                ))?;
            }
        }
        Ok(())
    }

    fn link(
        &self,
        one: &str,
        one_interface: &str,
        other: &str,
        other_interface: &str,
    ) -> Result<()> {
        let other_namespace = self.namespace(other);
        self.ip(one, &format!("link add {one_interface} type veth peer name {other_interface} netns {other_namespace}"))?;
        self.ip(one, &format!("link set {one_interface} up"))?;
        self.ip(other, &format!("link set {other_interface} up"))
    }

    /// The hardware address of an interface.
    pub fn mac(&self, member: &str, interface: &str) -> Result<String> {
        let output = ip(&[
            "-n",
            &self.namespace(member),
            "-j",
            "link",
            "show",
            "dev",
            interface,
        ])
        .output()?;
        let links: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let address = links[0]["address"].as_str();
        Ok(address
            .with_context(|| format!("no interface {interface} in {}", self.namespace(member)))?
            .to_owned())
    }

    fn ip(&self, member: &str, lines: &str) -> Result<()> {
        feed(
            ip(&["-n", &self.namespace(member), "-batch", "-"]),
            &format!("{lines}\n"),
        )
    }

    fn sysctl(&self, member: &str, settings: &[(&str, &str)]) -> Result<()> {
        let lines: Vec<String> = settings
            .iter()
            .map(|(name, value)| format!("echo '{value}' > /proc/sys/{name}"))
            .collect();
        let script = lines.join("\n") + "\n";
        self.feed(member, "sh", &["-e"], &script)
    }
}

impl Drop for Topology {
    fn drop(&mut self) {
        let listed = ip(&["netns", "list"])
            .output()
            .map(|output| output.stdout)
            .unwrap_or_default();
        let own = format!("{}-", self.prefix);
        for name in String::from_utf8_lossy(&listed)
            .lines()
            .filter_map(|line| line.split(' ').next())
        {
            if name.starts_with(&own) {
                let _ = ip(&["netns", "del", name]).status();
            }
        }
    }
}

fn ip(arguments: &[&str]) -> Command {
    let mut command = Command::new("ip");
    command.args(arguments);
    command
}

fn feed(mut command: Command, input: &str) -> Result<()> {
    use std::io::Write as _;
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("run {command:?}"))?;
    child
        .stdin
        .take()
        .context("no pipe to the child")?
        .write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!(
            "{command:?} with input {:?}: {}",
            input.lines().take(4).collect::<Vec<_>>(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}
