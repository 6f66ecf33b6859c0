//! The daemon on a host of its own: a network namespace with a workload and a fabric.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::{Etcd, eventually};

pub const PATIENCE: Duration = Duration::from_secs(20);

pub const NODE: &str = "\
kind: Node
metadata: {name: h1}
spec: {bgp: {asNumber: 64512, ipv4Address: 192.0.2.11/24, ipv6Address: '2001:db8::11/64'}}
";
pub const ENDPOINT: &str = "\
kind: WorkloadEndpoint
metadata: {name: h1-cni-w1-eth0, labels: {role: web}}
spec:
  orchestrator: cni
  node: h1
  containerID: w1
  endpoint: eth0
  interfaceName: cali0
  ipNetworks: [10.65.0.2/32, 'fd65::2/128']
";
pub const POLICY: &str = "\
kind: GlobalNetworkPolicy
metadata: {name: web}
spec:
  selector: role == 'web'
  types: [Ingress, Egress]
  ingress:
  - {action: Allow, protocol: ICMP, source: {nets: [192.0.2.0/24]}}
  - {action: Allow, protocol: ICMPv6, source: {nets: ['2001:db8::/64']}}
  egress: [{action: Allow}]
";

/// Where a host reads its resources from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// A directory of files.
    Directory,
    /// An etcd on the host itself.
    Etcd,
}

/// A host in a network namespace, with a workload behind `cali0` and a neighbour on the fabric behind `eth0`.
pub struct Host {
    name: String,
    scratch: tempfile::TempDir,
    bpf: PathBuf,
    daemon: Option<Child>,
    etcd: Option<Etcd>,
}

impl Host {
    pub fn new(what: &str, store: Store) -> Self {
        let name = format!("cleat-{}-{what}", std::process::id());
        let bpf = PathBuf::from(format!("/sys/fs/bpf/{name}"));
        let mut host = Self {
            name,
            scratch: tempfile::tempdir().unwrap(),
            bpf,
            daemon: None,
            etcd: None,
        };
        std::fs::create_dir(host.scratch.path().join("resources")).unwrap();
        for space in ["host", "work", "fabric"] {
            Self::ip(&format!("netns add {}", host.space(space)));
            Self::ip(&format!("-n {} link set lo up", host.space(space)));
        }
        let (h, w, f) = (host.space("host"), host.space("work"), host.space("fabric"));
        Self::ip(&format!(
            "-n {h} link add cali0 type veth peer name eth0 netns {w}"
        ));
        Self::ip(&format!(
            "-n {h} link add eth0 type veth peer name eth0 netns {f}"
        ));
        for (space, address) in [
            (&h, "192.0.2.11/24"),
            (&h, "2001:db8::11/64"),
            (&f, "192.0.2.1/24"),
            (&f, "2001:db8::1/64"),
        ] {
            Self::ip(&format!("-n {space} address add {address} dev eth0 nodad"));
        }
        for (space, link) in [(&h, "cali0"), (&h, "eth0"), (&w, "eth0"), (&f, "eth0")] {
            Self::ip(&format!("-n {space} link set {link} up"));
        }
        // The workload's way out is its host, which answers for every address.
        Self::ip(&format!("-n {h} address add fe80::1/64 dev cali0 nodad"));
        Self::ip(&format!("-n {w} address add 10.65.0.2/32 dev eth0"));
        Self::ip(&format!("-n {w} address add fd65::2/128 dev eth0 nodad"));
        Self::ip(&format!("-n {w} route add 169.254.1.1 dev eth0 scope link"));
        Self::ip(&format!(
            "-n {w} route add default via 169.254.1.1 dev eth0"
        ));
        Self::ip(&format!("-n {w} route add default via fe80::1 dev eth0"));
        // Proxy ARP answers for addresses that the host has a way to.
        Self::ip(&format!("-n {h} route add default via 192.0.2.1"));
        Self::ip(&format!("-n {f} route add 10.65.0.0/16 via 192.0.2.11"));
        Self::ip(&format!("-n {f} route add fd65::/48 via 2001:db8::11"));
        let on_host = |command: &str| {
            Self::run(
                "nsenter",
                &[&format!("--net=/run/netns/{h}"), "sh", "-c", command],
            )
        };
        for setting in [
            "ipv4/ip_forward=1",
            "ipv6/conf/all/forwarding=1",
            "ipv4/conf/cali0/proxy_arp=1",
        ] {
            let (path, value) = setting.split_once('=').unwrap();
            on_host(&format!("echo {value} > /proc/sys/net/{path}"));
        }
        let scratch = host.scratch.path().display();
        let datastore = match store {
            Store::Directory => format!("{{type: dir, path: {scratch}/resources}}"),
            Store::Etcd => {
                let etcd = Etcd::start_in(Some(host.space("host")), 2379, 2380);
                let text = format!("{{type: etcd, endpoints: ['{}']}}", etcd.endpoint());
                host.etcd = Some(etcd);
                text
            }
        };
        let config = format!(
            "nodename: h1\ndatastore: {datastore}\nbpfPath: {}\nrunPath: {scratch}/run\nstatePath: {scratch}/state\n\
             hostInterfaces: [eth0]\nbgp: {{enabled: false}}\nresyncInterval: 1\n",
            host.bpf.display(),
        );
        std::fs::write(host.scratch.path().join("cleat.yaml"), config).unwrap();
        host
    }

    /// The etcd of a host that has one.
    pub fn etcd(&mut self) -> &mut Etcd {
        self.etcd.as_mut().unwrap()
    }

    /// Writes a resource into the store; `name` is the file's.
    pub fn put(&self, name: &str, manifest: &str) {
        if self.etcd.is_some() {
            let file = self.scratch.path().join("new");
            std::fs::write(
                &file,
                format!("apiVersion: projectcalico.org/v3\n{manifest}"),
            )
            .unwrap();
            let (code, text) = self.cleat_there(&["apply", "-f", file.to_str().unwrap()]);
            assert_eq!(code, 0, "{text}");
            return;
        }
        // Renamed into place: the watch must not see half of it.
        let (from, to) = (
            self.scratch.path().join("new"),
            self.scratch.path().join(format!("resources/{name}.yaml")),
        );
        std::fs::write(
            &from,
            format!("apiVersion: projectcalico.org/v3\n{manifest}"),
        )
        .unwrap();
        std::fs::rename(from, to).unwrap();
    }

    pub fn start(&mut self) {
        let log = std::fs::File::create(self.scratch.path().join("log")).unwrap();
        let child = Command::new("nsenter")
            .arg(format!("--net=/run/netns/{}", self.space("host")))
            .args([env!("CARGO_BIN_EXE_cleat"), "run", "--config"])
            .arg(self.scratch.path().join("cleat.yaml"))
            .env("NO_COLOR", "1")
            // Files that the CNI plugin reads are in a place that all hosts share.
            .env(
                "FELIX_ENDPOINTSTATUSPATHPREFIX",
                self.scratch.path().join("status"),
            )
            .stderr(log)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.daemon = Some(child);
    }

    pub fn kill(&mut self) {
        let mut child = self.daemon.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Ends the daemon as systemd does.
    pub fn stop(&mut self) {
        let mut child = self.daemon.take().unwrap();
        Self::run("kill", &[&child.id().to_string()]);
        let status = child.wait().unwrap();
        assert!(status.success(), "{status}\n{}", self.log());
    }

    /// Takes from the kernel what a reboot takes: programs, maps and routes of the daemon, which is not running.
    pub fn reboot(&self) {
        assert!(self.daemon.is_none());
        std::fs::remove_dir_all(&self.bpf).unwrap();
        let h = self.space("host");
        for family in ["-4", "-6"] {
            Self::run("ip", &[family, "-n", &h, "route", "flush", "proto", "80"]);
        }
    }

    /// A directory of this host's own.
    pub fn scratch(&self) -> PathBuf {
        self.scratch.path().to_owned()
    }

    /// The daemon's configuration file.
    pub fn config(&self) -> PathBuf {
        self.scratch.path().join("cleat.yaml")
    }

    /// Has the daemon read its configuration again.
    pub fn reload(&self) {
        let child = self.daemon.as_ref().unwrap();
        Self::run("kill", &["-HUP", &child.id().to_string()]);
    }

    /// The daemon's state directory.
    pub fn state(&self) -> PathBuf {
        self.scratch.path().join("state")
    }

    /// What the admin server says.
    pub fn admin(&self, path: &str) -> String {
        let url = format!("http://127.0.0.1:9099{path}");
        let space = format!("--net=/run/netns/{}", self.space("host"));
        Self::run("nsenter", &[&space, "curl", "-s", &url])
    }

    /// Runs the command line in the host's namespace, with its configuration.
    pub fn cleat_there(&self, arguments: &[&str]) -> (i32, String) {
        let output = Command::new("nsenter")
            .arg(format!("--net=/run/netns/{}", self.space("host")))
            .arg(env!("CARGO_BIN_EXE_cleat"))
            .args(arguments)
            .arg("--config")
            .arg(self.scratch.path().join("cleat.yaml"))
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.code().unwrap(),
            String::from_utf8_lossy(&text).into_owned(),
        )
    }

    pub fn ready(&self) {
        eventually("the daemon is ready", PATIENCE, || {
            let (code, text) = self.cleat(&["status"]);
            (code == 0)
                .then_some(())
                .ok_or_else(|| format!("{text}\n{}", self.log()))
        });
    }

    pub fn status(&self) -> Value {
        let (_, text) = self.cleat(&["status", "-o", "json"]);
        serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("{error}: {text}\n{}", self.log()))
    }

    pub fn cleat(&self, arguments: &[&str]) -> (i32, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_cleat"))
            .args(arguments)
            .arg("--socket")
            .arg(self.scratch.path().join("run/api.sock"))
            .output()
            .unwrap();
        (
            output.status.code().unwrap(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    }

    pub fn routes(&self) -> Vec<String> {
        let h = self.space("host");
        let routes = ["-4", "-6"]
            .map(|family| Self::run("ip", &[family, "-n", &h, "route", "show", "proto", "80"]));
        routes.concat().lines().map(str::to_owned).collect()
    }

    pub fn ping(&self, space: &str, address: &str) -> Result<(), String> {
        let output = Command::new("nsenter")
            .arg(format!("--net=/run/netns/{}", self.space(space)))
            .args(["busybox", "ping", "-c1", "-W1", address])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success().then_some(()).ok_or(text)
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.scratch.path().join("log")).unwrap_or_default()
    }

    pub fn space(&self, which: &str) -> String {
        format!("{}-{which}", self.name)
    }

    pub fn ip(arguments: &str) {
        Self::run("ip", &arguments.split(' ').collect::<Vec<_>>());
    }

    pub fn run(program: &str, arguments: &[&str]) -> String {
        let output = Command::new(program).args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{program} {arguments:?}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(mut child) = self.daemon.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("log of the daemon:\n{}", self.log());
        }
        self.etcd = None;
        for space in ["host", "work", "fabric"] {
            let _ = Command::new("ip")
                .args(["netns", "delete", &self.space(space)])
                .output();
        }
        let _ = std::fs::remove_dir_all(&self.bpf);
    }
}
