//! A host: a namespace with interfaces to the fabric, workloads, and a cleat daemon of its own.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, de::DeserializeOwned};

use crate::{Lab, Namespace, Process, secs, wait::eventually};

/// Where a daemon reads its resources from.
#[derive(Clone, Debug)]
pub enum Datastore {
    /// A directory of YAML files.
    Dir(PathBuf),
    /// An etcd endpoint.
    Etcd(String),
}

/// A namespace with a cleat daemon.
#[derive(Debug)]
pub struct Host {
    /// The name of its Node resource.
    pub name: String,
    /// Where it lives.
    pub namespace: Arc<Namespace>,
    config: PathBuf,
    /// Where the daemon pins its maps and links.
    pins: PathBuf,
    /// Its socket and lock; gone with a reboot.
    run: PathBuf,
    binary: PathBuf,
    /// Where the daemon writes the states of endpoints for a CNI plugin.
    states: PathBuf,
    daemon: Mutex<Option<Arc<Process>>>,
}

impl Host {
    /// Makes the namespace, lets it forward, and writes the daemon's configuration. Nothing runs yet.
    pub fn new(lab: &Lab, name: &str, datastore: &Datastore) -> Result<Self> {
        let namespace = lab.namespace(name)?;
        namespace.forward()?;
        let dir = lab.dir(name)?;
        let pins = PathBuf::from("/sys/fs/bpf").join(format!("{}-{name}", lab.id()));
        lab.remove_later(&pins)?;
        let config = dir.join("cleat.yaml");
        let run = lab.dir(&format!("{name}/run"))?;
        let mut text = format!(
            "nodename: {name}\nbpfPath: {}\nrunPath: {}\nstatePath: {}\nhostInterfaces: ['eth\\d+']\n",
            pins.display(),
            run.display(),
            lab.dir(&format!("{name}/state"))?.display(),
        );
        let _ = match datastore {
            Datastore::Dir(path) => {
                writeln!(text, "datastore:\n  type: dir\n  path: {}", path.display())
            }
            Datastore::Etcd(endpoint) => writeln!(
                text,
                "datastore:\n  type: etcd\n  endpoints: ['{endpoint}']"
            ),
        };
        fs::write(&config, text)?;
        let binary = cleat_binary()?;
        let (program, path) = (binary.to_string_lossy(), config.to_string_lossy());
        for (file, words) in [
            ("cleat-status", ["status"].as_slice()),
            ("cleat-drift", &["show", "drift"]),
            ("cleat-endpoints", &["endpoint", "list"]),
            ("cleat-peers", &["bgp", "peers"]),
            ("cleat-routes", &["bgp", "routes"]),
            ("cleat-flows", &["conntrack", "list"]),
        ] {
            let mut command = vec![&*program, "--config", &path];
            command.extend(words);
            lab.exhibit(&namespace, file, &command);
        }
        lab.exhibit(
            &namespace,
            "metrics",
            &["curl", "-s", "http://127.0.0.1:9099/metrics"],
        );
        lab.exhibit(&namespace, "bpf-net", &["bpftool", "net"]);
        let dump = format!(
            "for map in $(find {} -path '*map*' -o -name '*'); do echo \"== $map\"; bpftool map dump pinned $map | head -200; done",
            pins.display()
        );
        lab.exhibit(&namespace, "bpf-maps", &["sh", "-c", &dump]);
        Ok(Self {
            name: name.to_owned(),
            namespace,
            config,
            pins,
            run,
            binary,
            states: dir.join("endpoints"),
            daemon: Mutex::new(None),
        })
    }

    /// Starts the daemon; it must not be running.
    pub fn start(&self, lab: &Lab) -> Result<()> {
        ensure!(
            self.binary.is_file(),
            "{} is missing: run `cargo build -p cleat` first",
            self.binary.display()
        );
        let mut daemon = self.daemon();
        ensure!(
            daemon
                .as_ref()
                .is_none_or(|process| process.ended().is_some()),
            "cleat runs on {} already",
            self.name
        );
        let mut command = self.program();
        command
            .arg("run")
            .arg("--config")
            .arg(&self.config)
            .env("RUST_BACKTRACE", "1")
            // The usual place is one that all hosts of a lab share.
            .env("FELIX_ENDPOINTSTATUSPATHPREFIX", &self.states);
        *daemon = Some(lab.spawn(
            &format!("{}-cleat", self.name),
            &self.namespace,
            &mut command,
        )?);
        Ok(())
    }

    /// Waits until `/ready` says yes.
    pub fn wait_ready(&self, within: Duration) -> Result<()> {
        eventually(
            &format!("cleat on {} to be ready", self.name),
            within,
            || {
                if let Some(process) = self.daemon().as_ref()
                    && let Some(status) = process.ended()
                {
                    return Err(format!("it ended with {status}: {}", process.log_tail(5)));
                }
                match self.http("/ready") {
                    Ok((200, _)) => Ok(()),
                    Ok((status, body)) => Err(format!("{status} {}", body.trim())),
                    Err(error) => Err(format!("{error:#}")),
                }
            },
        )
    }

    /// Cuts the host's power: the daemon is killed, and what only memory holds of its work is gone: pins, programs,
    /// routes, sysctls, the run directory. Links are down and have no addresses; see [`boot`](Self::boot).
    pub fn power_off(&self, interfaces: &[&str]) -> Result<()> {
        self.process()?.kill();
        for dir in [&self.pins, &self.run] {
            fs::remove_dir_all(dir).with_context(|| format!("remove {}", dir.display()))?;
        }
        for key in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
            self.namespace.sysctl(key, "0")?;
        }
        for interface in interfaces {
            for family in ["ipv4", "ipv6"] {
                let key = format!("net/{family}/conf/{interface}/ignore_routes_with_linkdown");
                self.namespace.sysctl(&key, "0")?;
            }
            self.namespace.ip(&format!(
                "link set {interface} down\naddr flush dev {interface}"
            ))?;
            // Not every kernel has made one: links of their own go with their pins.
            let args = ["qdisc", "del", "dev", interface, "clsact"];
            let _ = self.namespace.run("tc", &args);
        }
        for family in ["-4", "-6"] {
            let args = [family, "route", "flush", "table", "all", "proto", PROTOCOL];
            // Refused for an address family that has no route.
            let _ = self.namespace.run("ip", &args);
        }
        eventually("nothing of cleat in the kernel", secs(10), || {
            let asked = self.left_in_kernel();
            match asked.map_err(|error| format!("{error:#}"))?.as_str() {
                "" => Ok(()),
                left => Err(left.to_owned()),
            }
        })
    }

    /// What a host's start-up does before any daemon runs: links up, with their addresses.
    pub fn boot(&self, addresses: &[(&str, &[&str])]) -> Result<()> {
        fs::create_dir_all(&self.run)?;
        for (interface, addresses) in addresses {
            self.namespace.ip(&format!("link set {interface} up"))?;
            for address in *addresses {
                self.namespace.address(interface, address)?;
            }
        }
        Ok(())
    }

    /// The kernel's routes that are the daemon's, in both families, sorted.
    pub fn routes(&self) -> Result<Vec<String>> {
        let mut routes = Vec::new();
        for family in ["-4", "-6"] {
            let args = [
                family, "-o", "route", "show", "table", "all", "proto", PROTOCOL,
            ];
            let text = self.namespace.run("ip", &args)?;
            routes.extend(text.lines().map(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                words.join(" ")
            }));
        }
        routes.sort();
        Ok(routes)
    }

    /// The daemon's routes, and all programs on interfaces.
    fn left_in_kernel(&self) -> Result<String> {
        let programs = self.namespace.run("bpftool", &["-j", "net", "show"])?;
        let programs: Vec<serde_json::Value> = serde_json::from_str(&programs)?;
        let attached = programs.iter().filter_map(|kind| kind.as_object());
        let mut left: Vec<String> = attached
            .flat_map(|kinds| ["xdp", "tc"].map(|kind| kinds.get(kind)))
            .filter_map(|list| list?.as_array())
            .flatten()
            .map(ToString::to_string)
            .collect();
        left.extend(self.routes()?);
        Ok(left.join("\n"))
    }

    /// The daemon's process.
    pub fn process(&self) -> Result<Arc<Process>> {
        self.daemon()
            .clone()
            .with_context(|| format!("cleat was never started on {}", self.name))
    }

    /// Asks the admin server: status code and body.
    pub fn http(&self, path: &str) -> Result<(u16, String)> {
        let answer = self.namespace.enter(|| -> Result<String> {
            let mut stream = TcpStream::connect_timeout(&ADMIN, secs(2))?;
            stream.set_read_timeout(Some(secs(5)))?;
            write!(
                stream,
                "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            )?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        })??;
        let (head, body) = answer
            .split_once("\r\n\r\n")
            .context("an HTTP answer has a head")?;
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .context("an HTTP answer has a status")?;
        Ok((status, body.to_owned()))
    }

    /// Runs the command line on this host as its user would and answers its output whatever its status.
    pub fn command(&self, args: &[&str], stdin: &str) -> Result<Output> {
        let mut command = self.program();
        command.arg("--config").arg(&self.config).args(args);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = self
            .namespace
            .enter(|| command.spawn())?
            .with_context(|| format!("run {command:?}"))?;
        child
            .stdin
            .take()
            .context("stdin was asked for")?
            .write_all(stdin.as_bytes())?;
        Ok(child.wait_with_output()?)
    }

    /// Runs the command line; a non-zero status is an error.
    pub fn cleat(&self, args: &[&str]) -> Result<String> {
        self.cleat_with(args, "")
    }

    /// Runs the command line with standard input; a non-zero status is an error.
    pub fn cleat_with(&self, args: &[&str], stdin: &str) -> Result<String> {
        let output = self.command(args, stdin)?;
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            bail!(
                "cleat {} on {}: {}\n{stdout}{stderr}",
                args.join(" "),
                self.name,
                output.status
            );
        }
        Ok(stdout)
    }

    /// Runs the command line with `-o json` and reads what is asked for from its output.
    pub fn json<T: DeserializeOwned>(&self, args: &[&str]) -> Result<T> {
        let text = self.cleat(&[args, &["-o", "json"]].concat())?;
        serde_json::from_str(&text)
            .with_context(|| format!("read the answer to cleat {}:\n{text}", args.join(" ")))
    }

    /// Packets by rule on an endpoint, as `cleat policy show` counts them.
    pub fn hits(&self, endpoint: &str) -> Result<Hits> {
        #[derive(Deserialize)]
        struct Policy {
            ingress: Vec<Rule>,
            egress: Vec<Rule>,
        }
        #[derive(Deserialize)]
        struct Rule {
            #[serde(rename = "rule")]
            name: String,
            action: String,
            #[serde(default)]
            packets: u64,
        }
        let policy: Policy = self.json(&["policy", "show", endpoint])?;
        let mut hits = BTreeMap::new();
        for (direction, rules) in [("ingress", policy.ingress), ("egress", policy.egress)] {
            for (position, rule) in rules.into_iter().enumerate() {
                let key = RuleKey {
                    direction,
                    position,
                    rule: rule.name,
                    action: rule.action,
                };
                hits.insert(key, rule.packets);
            }
        }
        Ok(Hits(hits))
    }

    /// The binary, without whatever the environment of this process says to a cleat of its own.
    fn program(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command
    }

    fn daemon(&self) -> MutexGuard<'_, Option<Arc<Process>>> {
        self.daemon.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which rule of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleKey {
    /// `ingress` or `egress`.
    pub direction: &'static str,
    /// Its place in the list.
    pub position: usize,
    /// Tier, policy and index.
    pub rule: String,
    /// What it does.
    pub action: String,
}

/// Packets by rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hits(pub BTreeMap<RuleKey, u64>);

impl Hits {
    /// The rules that counted more than in `before`, in the order of their asking.
    pub fn risen_since<'a>(&'a self, before: &'a Hits) -> impl Iterator<Item = &'a RuleKey> {
        self.0
            .iter()
            .filter(|(key, packets)| before.0.get(key).is_none_or(|old| *packets > old))
            .map(|(key, _)| key)
    }
}

/// The daemon under test: `CLEAT`, or the one that the same profile built beside this program (tests are a directory
/// deeper). It need not exist before it is run.
fn cleat_binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("CLEAT") {
        return Ok(path.into());
    }
    let own = std::env::current_exe()?;
    let dir = own.parent().context("a program is in a directory")?;
    let profile = if dir.ends_with("deps") {
        dir.parent().unwrap_or(dir)
    } else {
        dir
    };
    Ok(profile.join("cleat"))
}

/// The protocol of the daemon's routes.
const PROTOCOL: &str = "80";
/// Loopback of the host's namespace.
const ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9099);
