//! The data planes under test, each set up on a topology of its own.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::topology::{Family, Topology};
use super::{CPU, iptables};

/// A data plane and its parameters, as written on the command line: `cleat:rules=10`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plane {
    kind: Kind,
    parameters: BTreeMap<String, usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Plain,
    KubeProxy,
    Calico,
    Both,
    Cleat,
}

impl std::str::FromStr for Plane {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, list) = text.split_once(':').unwrap_or((text, ""));
        let kind = match name {
            "plain" => Kind::Plain,
            "kube-proxy" => Kind::KubeProxy,
            "calico" => Kind::Calico,
            "iptables" => Kind::Both,
            "cleat" => Kind::Cleat,
            _ => bail!(
                "no data plane {name}: there are plain, kube-proxy, calico, iptables (both) and cleat"
            ),
        };
        let mut parameters = BTreeMap::new();
        for pair in list.split(',').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').context("a parameter is KEY=NUMBER")?;
            if !["services", "rules"].contains(&key) {
                bail!("no parameter {key}: there are services and rules");
            }
            parameters.insert(
                key.into(),
                value
                    .parse()
                    .with_context(|| format!("{key}={value}: not a number"))?,
            );
        }
        Ok(Self { kind, parameters })
    }
}

impl fmt::Display for Plane {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self.kind {
            Kind::Plain => "plain",
            Kind::KubeProxy => "kube-proxy",
            Kind::Calico => "calico",
            Kind::Both => "iptables",
            Kind::Cleat => "cleat",
        })?;
        for (index, (key, value)) in self.parameters.iter().enumerate() {
            write!(
                formatter,
                "{}{key}={value}",
                if index == 0 { ':' } else { ',' }
            )?;
        }
        Ok(())
    }
}

/// A data plane that is up, with servers in its workloads.
pub(super) struct Instance {
    pub(super) plane: Plane,
    // Fields drop in order: processes end before their namespaces go.
    processes: Vec<Process>,
    pub(super) topology: Topology,
    directory: PathBuf,
}

impl Instance {
    /// The servers' first port.
    pub(super) const PORT: u16 = 8080;

    pub(super) fn up(plane: &Plane, prefix: &str, directory: &Path, cleat: &Path) -> Result<Self> {
        std::fs::create_dir_all(directory)?;
        let topology = Topology::build(prefix)?;
        let mut instance = Self {
            plane: plane.clone(),
            processes: Vec::new(),
            topology,
            directory: directory.to_owned(),
        };
        instance.serve()?;
        let services = plane.parameters.get("services").copied().unwrap_or(1000);
        let rules = plane.parameters.get("rules").copied().unwrap_or(10);
        match plane.kind {
            Kind::Plain => {}
            Kind::KubeProxy => instance.kube_proxy(services)?,
            Kind::Calico => instance.calico(rules)?,
            Kind::Both => {
                instance.kube_proxy(services)?;
                instance.calico(rules)?;
            }
            Kind::Cleat => instance.cleat(rules, cleat)?,
        }
        Ok(instance)
    }

    /// The file with the counters of the server in one workload.
    pub(super) fn shared(&self, workload: &str) -> PathBuf {
        self.directory.join(format!("{workload}.shared"))
    }

    fn serve(&mut self) -> Result<()> {
        let program = std::env::current_exe()?;
        for name in ["a2", "b1"] {
            let mut command = self.topology.command(
                name,
                program.to_str().context("the program's path is not text")?,
            );
            command.args([
                "load",
                "serve",
                "--port",
                &Self::PORT.to_string(),
                "--cpu",
                &CPU.to_string(),
                "--shared",
            ]);
            command.arg(self.shared(name));
            self.processes.push(Process::spawn(
                command,
                &self.directory.join(format!("{name}.log")),
            )?);
        }
        let listening = || {
            ["a2", "b1"]
                .iter()
                .all(|name| has_counters(&self.shared(name)))
        };
        wait_for("the servers", Duration::from_secs(5), listening)
    }

    fn kube_proxy(&self, services: usize) -> Result<()> {
        for family in Family::ALL {
            let rules = iptables::kube_proxy(services, family);
            for node in Topology::NODES {
                self.topology
                    .feed(node, restore(family), &["-w", "--noflush"], &rules)?;
            }
        }
        Ok(())
    }

    fn calico(&self, rules: usize) -> Result<()> {
        for family in Family::ALL {
            for (index, node) in Topology::NODES.into_iter().enumerate() {
                self.topology.feed(
                    node,
                    "ipset",
                    &["restore"],
                    &iptables::calico_sets(rules, family),
                )?;
                let chains = iptables::calico(&self.topology, index, rules, family);
                self.topology
                    .feed(node, restore(family), &["-w", "--noflush"], &chains)?;
            }
        }
        Ok(())
    }

    /// Starts cleat on both hosts with the same resources in a directory, and waits until it is ready.
    fn cleat(&mut self, rules: usize, program: &Path) -> Result<()> {
        let store = self.directory.join("store");
        std::fs::create_dir_all(&store)?;
        std::fs::write(store.join("all.yaml"), self.resources(rules)?)?;
        for (index, node) in Topology::NODES.into_iter().enumerate() {
            let own = |name: &str| self.directory.join(format!("{node}-{name}"));
            let pins = format!("/sys/fs/bpf/{}", self.topology.namespace(node));
            let config = json!({
                "nodename": node,
                "datastore": { "type": "dir", "path": store },
                "bpfPath": pins,
                "runPath": own("run"),
                "statePath": own("state"),
                "hostInterfaces": ["eth0"],
                "adminAddress": format!("127.0.0.1:{}", 9099 + index),
            });
            std::fs::write(own("config.yaml"), serde_json::to_vec_pretty(&config)?)?;
            let mut command = self.topology.command(
                node,
                program.to_str().context("the program's path is not text")?,
            );
            command.arg("run").arg("--config").arg(own("config.yaml"));
            let mut process = Process::spawn(command, &own("log"))?;
            process.pins = Some(pins.into());
            self.processes.push(process);
        }
        for (index, node) in Topology::NODES.into_iter().enumerate() {
            let url = format!("http://127.0.0.1:{}/ready", 9099 + index);
            let ready = || {
                let mut command = self.topology.command(node, "curl");
                command
                    .args(["-fsS", "-m", "2", "-o", "/dev/null", &url])
                    .stderr(Stdio::null());
                command.status().is_ok_and(|status| status.success())
            };
            let log = self.directory.join(format!("{node}-log"));
            wait_for("cleat", Duration::from_secs(20), ready)
                .with_context(|| format!("its log ends: {}", tail(&log)))?;
        }
        Ok(())
    }

    /// Both hosts, their workloads, and a policy of `rules` rules of which the last lets the tests through.
    fn resources(&self, rules: usize) -> Result<String> {
        let mut documents = Vec::new();
        let mut add = |kind: &str,
                       name: &str,
                       namespace: Option<&str>,
                       extra: serde_json::Value,
                       spec: serde_json::Value| {
            let mut metadata = json!({ "name": name });
            metadata["labels"] = extra;
            if let Some(namespace) = namespace {
                metadata["namespace"] = namespace.into();
            }
            let document = json!({
                "apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": metadata, "spec": spec,
            });
            documents.push(document);
        };
        for family in Family::ALL {
            let block = if family == Family::V4 { 26 } else { 122 };
            let spec = json!({ "cidr": family.pod_network(), "blockSize": block, "nodeSelector": "all()" });
            add(
                "IPPool",
                &format!("pool{}", family.digit()),
                None,
                json!({}),
                spec,
            );
        }
        for (node, host) in Topology::NODES.into_iter().enumerate() {
            let [v4, v6] = Family::ALL
                .map(|family| format!("{}/{}", family.host(node), family.host_bits() - 8));
            add(
                "Node",
                host,
                None,
                json!({}),
                json!({ "bgp": { "ipv4Address": v4, "ipv6Address": v6 } }),
            );
            for workload in 1..=Topology::WORKLOADS {
                let name = Topology::workload_name(node, workload);
                let networks: Vec<String> = Family::ALL
                    .map(|family| {
                        format!("{}/{}", family.workload(node, workload), family.host_bits())
                    })
                    .to_vec();
                let spec = json!({
                    "node": host, "orchestrator": "cni", "containerID": name, "endpoint": "eth0", "pod": name,
                    "interfaceName": format!("cali-{name}"), "ipNetworks": networks,
                    "mac": self.topology.mac(&name, "eth0")?,
                });
                add(
                    "WorkloadEndpoint",
                    &format!("{host}-cni-{name}-eth0"),
                    Some("bench"),
                    json!({ "app": "bench" }),
                    spec,
                );
            }
        }
        // A rule has networks of one family, so each of the iptables planes' rules is one for IPv4 and one for IPv6 here.
        let rule = |side: &str, protocol: &str, nets: Vec<String>, ports: serde_json::Value| {
            let mut rule = json!({ "action": "Allow", "protocol": protocol, "source": {}, "destination": { "ports": ports } });
            rule[side]["nets"] = nets.into();
            rule
        };
        let direction = |side: &str| -> Vec<serde_json::Value> {
            let mut list = Vec::new();
            for index in 0..rules.saturating_sub(1) {
                for family in Family::ALL {
                    let nets = (0..20)
                        .map(|member| family.prefix(family.set_member(index % 200, member)))
                        .collect();
                    list.push(rule(
                        side,
                        "TCP",
                        nets,
                        json!([2000 + index % 6000, 12000 + index]),
                    ));
                }
            }
            for protocol in ["TCP", "UDP"] {
                for family in Family::ALL {
                    let nets = vec![family.pod_network().into(), family.prefix(family.client())];
                    list.push(rule(side, protocol, nets, json!(["8080:9999"])));
                }
            }
            list
        };
        let spec = json!({
            "tier": "default", "order": 10, "selector": "app == 'bench'", "types": ["Ingress", "Egress"],
            "ingress": direction("source"), "egress": direction("destination"),
        });
        add("GlobalNetworkPolicy", "bench", None, json!({}), spec);
        let documents: Vec<String> = documents.iter().map(ToString::to_string).collect();
        Ok(documents.join("\n---\n"))
    }
}

/// A process that ends with its owner, and takes its pins with it.
struct Process {
    child: Child,
    pins: Option<PathBuf>,
}

impl Process {
    fn spawn(mut command: Command, log: &Path) -> Result<Self> {
        let log = std::fs::File::create(log)?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = command
            .spawn()
            .with_context(|| format!("run {command:?}"))?;
        Ok(Self { child, pins: None })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(pins) = &self.pins {
            let _ = std::fs::remove_dir_all(pins);
        }
    }
}

fn has_counters(shared: &Path) -> bool {
    std::fs::read(shared).is_ok_and(|bytes| bytes.iter().take(8).any(|&byte| byte != 0))
}

fn wait_for(what: &str, limit: Duration, ready: impl Fn() -> bool) -> Result<()> {
    let start = Instant::now();
    while !ready() {
        if start.elapsed() > limit {
            bail!("{what} did not get ready within {} s", limit.as_secs());
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join(" | ")
}

fn restore(family: Family) -> &'static str {
    match family {
        Family::V4 => "iptables-legacy-restore",
        Family::V6 => "ip6tables-legacy-restore",
    }
}

/// How often a condition is looked at while waiting for it.
const POLL: Duration = Duration::from_millis(50);
