//! The daemon on a host of its own: a network namespace with a workload and a fabric, fed from a directory.

#![cfg(feature = "host")]
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test says what went wrong by panicking"
)]

mod common;

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::eventually;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn a_killed_daemon_leaves_everything_in_place_and_the_next_one_writes_nothing() {
    let mut host = Host::new("restart");
    host.put("node", NODE);
    host.put("endpoint", ENDPOINT);
    host.put("policy", POLICY);
    host.start();
    host.ready();
    assert_eq!(
        host.status()["endpoints"],
        serde_json::json!({"good": 1, "all": 1})
    );
    let routes = host.routes();
    assert!(
        routes
            .iter()
            .any(|route| route.starts_with("10.65.0.2 dev cali0")),
        "{routes:?}"
    );
    assert!(
        routes
            .iter()
            .any(|route| route.starts_with("fd65::2 dev cali0")),
        "{routes:?}"
    );
    for address in ["10.65.0.2", "fd65::2"] {
        eventually("the fabric reaches the workload", PATIENCE, || {
            host.ping("fabric", address)
        });
    }

    host.kill();
    assert_eq!(host.routes(), routes, "routes went with the process");
    for address in ["10.65.0.2", "fd65::2"] {
        host.ping("fabric", address)
            .expect("the programs went with the process");
    }

    host.start();
    host.ready();
    let status = host.status();
    assert_eq!(status["writes"], 0, "{status}");
    assert_eq!(host.routes(), routes);
    let (code, drift) = host.cleat(&["show", "drift"]);
    assert_eq!((code, drift.as_str()), (0, ""));
}

#[test]
fn what_is_wrong_in_the_store_is_listed_and_disturbs_nothing_else() {
    let mut host = Host::new("invalid");
    host.put("node", NODE);
    host.put("endpoint", ENDPOINT);
    host.put("policy", POLICY);
    host.start();
    host.ready();
    eventually("the fabric reaches the workload", PATIENCE, || {
        host.ping("fabric", "10.65.0.2")
    });
    let writes = host.status()["writes"].clone();
    let invalid = [
        (
            "missing field",
            "kind: IPPool\nmetadata: {name: nocidr}\nspec: {natOutgoing: true}\n",
            "IPPool(nocidr)",
            "spec.cidr",
        ),
        (
            "wrong type",
            "kind: Tier\nmetadata: {name: word}\nspec: {order: first}\n",
            "Tier(word)",
            "spec.order",
        ),
        (
            "bad CIDR",
            "kind: GlobalNetworkSet\nmetadata: {name: badnet}\nspec: {nets: [10.0.0.0/33]}\n",
            "GlobalNetworkSet(badnet)",
            "spec.nets[0]",
        ),
        (
            "bad selector",
            "kind: GlobalNetworkPolicy\nmetadata: {name: badsel}\nspec: {selector: 'a =='}\n",
            "GlobalNetworkPolicy(badsel)",
            "spec.selector",
        ),
        (
            "unknown tier",
            "kind: GlobalNetworkPolicy\nmetadata: {name: nowhere.a}\nspec: {tier: nowhere, selector: 'x == \"y\"'}\n",
            "GlobalNetworkPolicy(nowhere.a)",
            "spec.tier",
        ),
        (
            "duplicate address",
            "kind: WorkloadEndpoint\nmetadata: {name: h2-cni-w2-eth0}\nspec: {orchestrator: cni, node: h2, containerID: w2, \
             endpoint: eth0, interfaceName: cali9, ipNetworks: [10.65.0.2/32]}\n",
            "WorkloadEndpoint(default/h2-cni-w2-eth0)",
            "spec.ipNetworks",
        ),
        (
            "absent interface",
            "kind: WorkloadEndpoint\nmetadata: {name: h1-cni-w3-eth0}\nspec: {orchestrator: cni, node: h1, containerID: w3, \
             endpoint: eth0, interfaceName: cali-absent, ipNetworks: [10.65.0.3/32]}\n",
            "WorkloadEndpoint(default/h1-cni-w3-eth0)",
            "spec.interfaceName",
        ),
    ];
    for (index, (_, manifest, _, _)) in invalid.iter().enumerate() {
        host.put(&format!("bad{index}"), manifest);
    }
    for (case, _, object, field) in invalid {
        eventually(case, PATIENCE, || {
            let status = host.status();
            let problems = status["problems"].as_array().unwrap();
            let named = problems.iter().any(|problem| {
                problem["object"].as_str().unwrap().ends_with(object)
                    && problem["field"]
                        .as_str()
                        .is_some_and(|found| found.starts_with(field))
            });
            named.then_some(()).ok_or(status["problems"].to_string())
        });
    }
    host.ping("fabric", "10.65.0.2")
        .expect("what is wrong disturbed what is right");
    host.ping("fabric", "fd65::2")
        .expect("what is wrong disturbed what is right");
    let (code, text) = host.cleat(&["status"]);
    assert!(code == 0 && text.contains("spec.cidr"), "{text}");
    let _ = writes;
}

const NODE: &str = "\
kind: Node
metadata: {name: h1}
spec: {bgp: {asNumber: 64512, ipv4Address: 192.0.2.11/24, ipv6Address: '2001:db8::11/64'}}
";
const ENDPOINT: &str = "\
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
const POLICY: &str = "\
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

/// A host in a network namespace, with a workload behind `cali0` and a neighbour on the fabric behind `eth0`.
struct Host {
    name: String,
    scratch: tempfile::TempDir,
    bpf: PathBuf,
    daemon: Option<Child>,
}

impl Host {
    fn new(what: &str) -> Self {
        let name = format!("cleat-{}-{what}", std::process::id());
        let bpf = PathBuf::from(format!("/sys/fs/bpf/{name}"));
        let host = Self {
            name,
            scratch: tempfile::tempdir().unwrap(),
            bpf,
            daemon: None,
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
        let config = format!(
            "nodename: h1\ndatastore: {{type: dir, path: {0}/resources}}\nbpfPath: {1}\nrunPath: {0}/run\nstatePath: {0}/state\n\
             hostInterfaces: [eth0]\nbgp: {{enabled: false}}\nresyncInterval: 1\n",
            host.scratch.path().display(),
            host.bpf.display(),
        );
        std::fs::write(host.scratch.path().join("cleat.yaml"), config).unwrap();
        host
    }

    fn put(&self, name: &str, manifest: &str) {
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

    fn start(&mut self) {
        let log = std::fs::File::create(self.scratch.path().join("log")).unwrap();
        let child = Command::new("nsenter")
            .arg(format!("--net=/run/netns/{}", self.space("host")))
            .args([env!("CARGO_BIN_EXE_cleat"), "run", "--config"])
            .arg(self.scratch.path().join("cleat.yaml"))
            .env("NO_COLOR", "1")
            .stderr(log)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.daemon = Some(child);
    }

    fn kill(&mut self) {
        let mut child = self.daemon.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn ready(&self) {
        eventually("the daemon is ready", PATIENCE, || {
            let (code, text) = self.cleat(&["status"]);
            (code == 0)
                .then_some(())
                .ok_or_else(|| format!("{text}\n{}", self.log()))
        });
    }

    fn status(&self) -> Value {
        let (_, text) = self.cleat(&["status", "-o", "json"]);
        serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("{error}: {text}\n{}", self.log()))
    }

    fn cleat(&self, arguments: &[&str]) -> (i32, String) {
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

    fn routes(&self) -> Vec<String> {
        let h = self.space("host");
        let routes = ["-4", "-6"]
            .map(|family| Self::run("ip", &[family, "-n", &h, "route", "show", "proto", "80"]));
        routes.concat().lines().map(str::to_owned).collect()
    }

    fn ping(&self, space: &str, address: &str) -> Result<(), String> {
        let output = Command::new("nsenter")
            .arg(format!("--net=/run/netns/{}", self.space(space)))
            .args(["busybox", "ping", "-c1", "-W1", address])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success().then_some(()).ok_or(text)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.scratch.path().join("log")).unwrap_or_default()
    }

    fn space(&self, which: &str) -> String {
        format!("{}-{which}", self.name)
    }

    fn ip(arguments: &str) {
        Self::run("ip", &arguments.split(' ').collect::<Vec<_>>());
    }

    fn run(program: &str, arguments: &[&str]) -> String {
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
        for space in ["host", "work", "fabric"] {
            let _ = Command::new("ip")
                .args(["netns", "delete", &self.space(space)])
                .output();
        }
        let _ = std::fs::remove_dir_all(&self.bpf);
    }
}
