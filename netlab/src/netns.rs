//! Network namespaces: made, entered by threads, commanded through `ip`.

use std::{
    fs::{self, File},
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A network namespace under `/run/netns`. The [`Lab`](crate::Lab) that made it removes it.
#[derive(Debug)]
pub struct Namespace {
    label: String,
    name: String,
}

impl Namespace {
    /// Makes the namespace with `lo` up, IPv6 without waiting for duplicate addresses, and no forwarding.
    pub(crate) fn make(label: &str, name: &str) -> Result<Self> {
        run(Command::new("ip").args(["netns", "add", name]))
            .context("make a network namespace; root is needed")?;
        let namespace = Self {
            label: label.to_owned(),
            name: name.to_owned(),
        };
        namespace.ip("link set lo up")?;
        for scope in ["all", "default"] {
            // An address that is tentative for a second would be a second of lost packets.
            namespace.sysctl(&format!("net/ipv6/conf/{scope}/accept_dad"), "0")?;
            namespace.sysctl(&format!("net/ipv6/conf/{scope}/dad_transmits"), "0")?;
        }
        Ok(namespace)
    }

    /// Its name within the lab, as the scenario calls it.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Its name under `/run/netns`, for `ip netns exec`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The path of its handle.
    pub fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// Runs `work` on a thread inside the namespace and waits for it. Processes started and sockets opened by `work`
    /// live in the namespace.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let handle =
            File::open(self.path()).with_context(|| format!("open namespace {}", self.name))?;
        thread::scope(|scope| {
            let thread = scope.spawn(move || -> Result<T> {
                move_into_link_name_space(
                    std::os::fd::AsFd::as_fd(&handle),
                    Some(LinkNameSpaceType::Network),
                )
                .context("enter a namespace")?;
                Ok(work())
            });
            match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Moves the calling thread in, for good: for threads that live and die with the lab.
    pub fn join(&self) -> Result<()> {
        let handle =
            File::open(self.path()).with_context(|| format!("open namespace {}", self.name))?;
        move_into_link_name_space(
            std::os::fd::AsFd::as_fd(&handle),
            Some(LinkNameSpaceType::Network),
        )
        .context("enter a namespace")
    }

    /// Runs a command inside and answers its output; a non-zero status is an error that tells both.
    pub fn run(&self, program: &str, args: &[&str]) -> Result<String> {
        self.enter(|| run(Command::new(program).args(args)))?
    }

    /// Runs `ip` commands, one a line, as one batch.
    pub fn ip(&self, lines: &str) -> Result<()> {
        let mut child = Command::new("ip")
            .args(["-n", &self.name, "-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("run ip")?;
        child
            .stdin
            .take()
            .context("stdin was asked for")?
            .write_all(lines.as_bytes())?;
        let output = child.wait_with_output()?;
        ensure!(
            output.status.success(),
            "ip in {}: {}\nof:\n{lines}",
            self.label,
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(())
    }

    /// Writes a network sysctl of this namespace; `key` is a path under `/proc/sys`.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = PathBuf::from("/proc/sys").join(key);
        self.enter(|| fs::write(&path, value))?
            .with_context(|| format!("write {key} in {}", self.label))
    }

    /// Lets the kernel forward both families here.
    pub fn forward(&self) -> Result<()> {
        self.sysctl("net/ipv4/ip_forward", "1")?;
        self.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        // Hash of addresses and ports: one connection keeps its path, two may take two.
        self.sysctl("net/ipv4/fib_multipath_hash_policy", "1")?;
        self.sysctl("net/ipv6/fib_multipath_hash_policy", "1")
    }

    /// Makes a veth pair between this namespace and another, both ends up.
    pub fn veth(&self, name: &str, peer: &Namespace, peer_name: &str) -> Result<()> {
        self.ip(&format!(
            "link add name {name} up type veth peer name {peer_name} netns {}",
            peer.name
        ))?;
        peer.ip(&format!("link set {peer_name} up"))
    }

    /// Gives an interface an address with its prefix length, in either family.
    pub fn address(&self, interface: &str, address: &str) -> Result<()> {
        let nodad = if address.contains(':') { " nodad" } else { "" };
        self.ip(&format!("addr add {address} dev {interface}{nodad}"))
    }
}

/// Runs a command to its end and answers what it printed.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("run {}", command.get_program().display()))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{command:?}: {}\n{}{}",
            output.status,
            stdout,
            stderr.trim_end()
        );
    }
    Ok(stdout)
}
