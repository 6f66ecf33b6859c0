//! The data path benchmark: cleat beside plain forwarding and the iptables data planes, in one interleaved run.
//!
//! Every data plane gets a topology of its own, all stay up, and the tests go around them (A B C, C B A, ...), so that a
//! noisy machine disturbs all alike. Quote ratios, not times.

mod dataplane;
mod iptables;
pub mod load;
pub mod report;
mod topology;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use dataplane::Instance;
pub use dataplane::Plane;
use load::{Mode, Sample};
use report::Row;
pub use topology::{Family, Topology};

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The data planes; ratios are against the first.
    pub planes: Vec<Plane>,
    /// The tests, as [`Test`] reads them.
    pub tests: Vec<Test>,
    /// How often each test runs on each data plane.
    pub rounds: usize,
    /// How long each run is.
    pub seconds: f64,
    /// The cleat program.
    pub cleat: PathBuf,
}

/// What is done, and where to: `crr-pod`, `udp-local6`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Test {
    name: String,
    mode: Mode,
    target: Target,
    family: Family,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// From a workload to one on the other host.
    Pod,
    /// From a workload to its neighbour on the same host.
    Local,
    /// From the client behind the fabric to a workload.
    External,
}

impl std::str::FromStr for Test {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let usage = "a test is MODE-TARGET: crr, rr, udp or stream, to pod, local or ext, with a 6 at the end for IPv6";
        let (mode, target) = text.split_once('-').context(usage)?;
        let mode = <Mode as clap::ValueEnum>::from_str(mode, true)
            .ok()
            .context(usage)?;
        let (target, family) = target
            .strip_suffix('6')
            .map_or((target, Family::V4), |target| (target, Family::V6));
        let target = match target {
            "pod" => Target::Pod,
            "local" => Target::Local,
            "ext" => Target::External,
            _ => bail!("{text}: {usage}"),
        };
        Ok(Self {
            name: text.into(),
            mode,
            target,
            family,
        })
    }
}

impl std::fmt::Display for Test {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.name)
    }
}

impl Test {
    /// The namespace of the client, that of the server, and the server's address.
    fn ends(&self) -> (String, String, IpAddr) {
        let ((node, workload), client) = match self.target {
            Target::Pod => ((1, 1), Topology::workload_name(0, 1)),
            Target::Local => ((0, 2), Topology::workload_name(0, 1)),
            Target::External => ((1, 1), "cl".into()),
        };
        (
            client,
            Topology::workload_name(node, workload),
            self.family.workload(node, workload),
        )
    }
}

/// Runs the plan and returns every run; `progress` is told of each.
pub fn run(plan: &Plan, directory: &Path, mut progress: impl FnMut(&Row)) -> Result<Vec<Row>> {
    let mut instances = Vec::new();
    for (index, plane) in plan.planes.iter().enumerate() {
        let prefix = format!("cb{}-{index}", std::process::id());
        let instance = Instance::up(plane, &prefix, &directory.join(&prefix), &plan.cleat);
        instances.push(instance.with_context(|| format!("set up {plane}"))?);
    }
    let mut rows = Vec::new();
    for round in 0..plan.rounds {
        for test in &plan.tests {
            let mut order: Vec<&Instance> = instances.iter().collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for instance in order {
                let outcome =
                    one(instance, test, plan.seconds).map_err(|error| format!("{error:#}"));
                let row = Row {
                    round,
                    dataplane: instance.plane.to_string(),
                    test: test.to_string(),
                    outcome,
                };
                progress(&row);
                rows.push(row);
            }
        }
    }
    Ok(rows)
}

fn one(instance: &Instance, test: &Test, seconds: f64) -> Result<Sample> {
    let (client, server, address) = test.ends();
    let program = std::env::current_exe()?;
    let output = instance
        .topology
        .command(
            &client,
            program.to_str().context("the program's path is not text")?,
        )
        .args([
            "load",
            test.mode_name(),
            "--host",
            &address.to_string(),
            "--port",
            &Instance::PORT.to_string(),
        ])
        .args([
            "--seconds",
            &seconds.to_string(),
            "--cpu",
            &CPU.to_string(),
            "--shared",
        ])
        .arg(instance.shared(&server))
        .output()?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    serde_json::from_slice(&output.stdout).context("read the client's answer")
}

impl Test {
    fn mode_name(&self) -> &'static str {
        match self.mode {
            Mode::Crr => "crr",
            Mode::Rr => "rr",
            Mode::Stream => "stream",
            Mode::Udp => "udp",
        }
    }
}

/// The CPU that client and server share: what one does not do, the other must.
const CPU: usize = 1;
