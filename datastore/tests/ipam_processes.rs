//! Claimants in processes of their own, over a real etcd, killed as a power failure would kill them.
//!
//! The test's program is its own helper: called with `claimant` it is one host with many claimants,
//! called with `step` it is one claimant that stops for good at one of its steps, before or after
//! etcd has done it. Otherwise it runs the tests.
#![expect(clippy::unwrap_used, reason = "a test that is surprised fails")]
#![expect(clippy::print_stdout, reason = "the helper tells the test what it has")]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead as _, BufReader, Read as _},
    net::IpAddr,
    process::{Child, ChildStdout, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use cleat_datastore::ipam::{
    AssignRequest, Assignee, Collector, EtcdKv, Finding, Ipam, IpamError, Owner,
    kv::{Answer, Kv, KvError, Transaction, Want, Write},
};
use cleat_datastore::store::{Etcd, EtcdConfig};
use common::{DEADLINE, EtcdServer};
use futures::{
    FutureExt,
    future::{BoxFuture, pending},
};

const HOSTS: usize = 4;
/// On each host.
const CLAIMANTS: usize = 50;
const ROUNDS: usize = 3;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    match arguments[1..] {
        ["claimant", endpoint, host, round] => runtime.block_on(host_of_claimants(
            endpoint,
            host.parse().unwrap(),
            round.parse().unwrap(),
        )),
        ["step", endpoint, what, step, when] => runtime.block_on(stopped_at(
            endpoint,
            what,
            step.parse().unwrap(),
            when == "after",
        )),
        _ => {
            for (name, test) in [
                (
                    "processes_killed_at_any_time_share_no_address_and_leak_none",
                    Box::pin(killed_at_any_time()) as std::pin::Pin<Box<dyn Future<Output = ()>>>,
                ),
                (
                    "a_process_killed_at_every_single_step_leaves_all_or_nothing",
                    Box::pin(killed_at_every_step()),
                ),
            ] {
                runtime.block_on(test);
                println!("test {name} ... ok");
            }
        }
    }
}

async fn connect(endpoint: &str) -> EtcdKv {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let mut config = EtcdConfig::new([endpoint]);
        config.request_timeout = DEADLINE;
        let etcd = Arc::new(Etcd::new(config));
        if etcd.client().await.is_ok() {
            return EtcdKv::new(etcd);
        }
        assert!(Instant::now() < deadline, "etcd does not answer");
    }
}

fn wish(host: usize, handle: &str) -> AssignRequest {
    let host = format!("host{host}");
    let attributes = [("node", host.as_str()), ("namespace", "n"), ("pod", handle)]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let assignee = Assignee {
        handle: Some(handle.to_owned()),
        attributes,
    };
    AssignRequest::workload(host, 1, 1, assignee)
}

// The helper.

/// One host: many claimants at once, every third of which releases again. It says what it has.
async fn host_of_claimants(endpoint: &str, host: usize, round: usize) {
    let ipam = Ipam::new(Arc::new(connect(endpoint).await));
    let claimants = (0..CLAIMANTS).map(|number| {
        let ipam = ipam.clone();
        async move {
            let handle = format!("r{round}h{host}c{number}");
            let given = ipam.assign(&wish(host, &handle)).await.unwrap();
            println!("has {handle} {} {}", given[0].addr(), given[1].addr());
            if number % 3 == 0 {
                println!("gives {handle}");
                ipam.release_handle(&handle, None).await.unwrap();
                println!("gave {handle}");
            }
        }
    });
    futures::future::join_all(claimants).await;
}

/// A store that answers no more from some step on.
struct Stopping {
    kv: EtcdKv,
    steps: AtomicUsize,
    at: usize,
    after: bool,
}

impl Stopping {
    async fn step<T>(&self, work: impl Future<Output = T>) -> T {
        let is_last = self.steps.fetch_add(1, Ordering::Relaxed) == self.at;
        if is_last && !self.after {
            stop().await;
        }
        let answer = work.await;
        if is_last {
            stop().await;
        }
        answer
    }
}

async fn stop() {
    println!("stopped");
    pending::<()>().await;
}

impl Kv for Stopping {
    fn read<'a>(&'a self, wants: &'a [Want]) -> BoxFuture<'a, Result<Answer, KvError>> {
        self.step(self.kv.read(wants)).boxed()
    }

    fn commit<'a>(&'a self, transaction: &'a Transaction) -> BoxFuture<'a, Result<bool, KvError>> {
        self.step(self.kv.commit(transaction)).boxed()
    }
}

async fn stopped_at(endpoint: &str, what: &str, at: usize, after: bool) {
    let kv = connect(endpoint).await;
    let ipam = Ipam::new(Stopping {
        kv,
        steps: AtomicUsize::new(0),
        at,
        after,
    });
    match what {
        "assign" => drop(ipam.assign(&wish(0, "dead")).await.unwrap()),
        "release" => drop(ipam.release_handle("dead", None).await.unwrap()),
        "remove" => drop(ipam.remove_owner(&Owner::host("host0")).await.unwrap()),
        _ => panic!("{what}"),
    }
    println!("done");
}

// The tests.

/// A helper. It is killed when it is dropped.
struct Helper {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Helper {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { child, out }
    }

    /// The next line; `None` at the end.
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line.strip_suffix('\n').map(str::to_owned)
    }

    /// Kills it, and reads what it had said by then. A line that it did not finish it did not say.
    fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).unwrap();
        let whole = rest.rfind('\n').map_or("", |end| &rest[..end]);
        whole.lines().map(str::to_owned).collect()
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn put(kv: &EtcdKv, key: String, value: String) {
    let transaction = Transaction {
        conditions: Vec::new(),
        writes: vec![Write::Put(key, value.into_bytes())],
    };
    assert!(kv.commit(&transaction).await.unwrap());
}

const RESOURCES: &str = "/calico/resources/v3/projectcalico.org";

fn object(kind: &str, namespace: &str, name: &str, spec: &str) -> String {
    let namespace = match namespace {
        "" => String::new(),
        namespace => format!(r#","namespace":"{namespace}""#),
    };
    format!(
        r#"{{"kind":"{kind}","apiVersion":"projectcalico.org/v3","metadata":{{"name":"{name}"{namespace}}},"spec":{spec}}}"#
    )
}

async fn seed(kv: &EtcdKv) {
    for host in 0..HOSTS {
        let name = format!("host{host}");
        let node = object("Node", "", &name, "{}");
        put(kv, format!("{RESOURCES}/nodes/{name}"), node).await;
    }
    for (name, spec) in [
        ("four", r#"{"cidr":"10.0.0.0/22","blockSize":28}"#),
        ("six", r#"{"cidr":"fd00::/118","blockSize":124}"#),
    ] {
        let pool = object("IPPool", "", name, spec);
        put(kv, format!("{RESOURCES}/ippools/{name}"), pool).await;
    }
}

/// The endpoint that says that a claimant lives.
async fn put_endpoint(kv: &EtcdKv, handle: &str, addresses: &[IpAddr]) {
    let name = format!("host0-x-{handle}-e");
    let nets: Vec<String> = addresses
        .iter()
        .map(|address| {
            let len = if address.is_ipv4() { 32 } else { 128 };
            format!(r#""{address}/{len}""#)
        })
        .collect();
    let spec = format!(
        r#"{{"orchestrator":"x","workload":"{handle}","node":"host0","endpoint":"e","interfaceName":"tap{handle}","ipNetworks":[{}]}}"#,
        nets.join(",")
    );
    let endpoint = object("WorkloadEndpoint", "n", &name, &spec);
    let key = format!("{RESOURCES}/workloadendpoints/n/{name}");
    put(kv, key, endpoint).await;
}

/// Everything that is assigned but has no endpoint, by address, and whatever else does not fit.
async fn findings(ipam: &Ipam<Arc<EtcdKv>>) -> (BTreeMap<IpAddr, String>, Vec<Finding>) {
    let mut leaked = BTreeMap::new();
    let mut others = Vec::new();
    for finding in ipam.check().await.unwrap() {
        if let Finding::Leaked {
            address, handle, ..
        } = finding
        {
            leaked.insert(address, handle.unwrap());
        } else {
            others.push(finding);
        }
    }
    (leaked, others)
}

/// Reads what hosts say until each has said so much, kills them, and says who has what then.
fn kill_hosts(
    hosts: Vec<(Helper, usize)>,
    holders: &mut BTreeMap<String, Vec<IpAddr>>,
    giving: &mut BTreeSet<String>,
) -> usize {
    let mut finished = 0;
    for (mut host, lines) in hosts {
        let mut said = Vec::new();
        while said.len() < lines {
            let Some(line) = host.line() else {
                finished += 1;
                break;
            };
            said.push(line);
        }
        said.extend(host.kill());
        for line in said {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["has", handle, four, six] => {
                    let addresses = vec![four.parse().unwrap(), six.parse().unwrap()];
                    holders.insert(handle.to_owned(), addresses);
                }
                ["gives", handle] => {
                    giving.insert(handle.to_owned());
                }
                ["gave", handle] => {
                    holders.remove(handle).unwrap();
                    giving.remove(handle);
                }
                _ => panic!("{line}"),
            }
        }
    }
    finished
}

async fn killed_at_any_time() {
    let server = EtcdServer::start();
    server.ready();
    let kv = Arc::new(connect(&server.endpoint()).await);
    seed(&kv).await;
    let ipam = Ipam::new(kv.clone());
    let mut kills = 0;
    for round in 0..ROUNDS {
        let hosts: Vec<(Helper, usize)> = (0..HOSTS)
            .map(|host| {
                let (host_text, round_text) = (host.to_string(), round.to_string());
                let endpoint = server.endpoint();
                let arguments = ["claimant", &endpoint, &host_text, &round_text];
                // Some at once, some half-way, some near their end; a line more each time.
                (
                    Helper::start(&arguments),
                    [0, 5, 30, 200][(host + round) % HOSTS] + round,
                )
            })
            .collect();
        let mut holders = BTreeMap::new();
        let mut giving = BTreeSet::new();
        kills += HOSTS - kill_hosts(hosts, &mut holders, &mut giving);

        // No address was given twice.
        let mut owners: BTreeMap<IpAddr, &str> = BTreeMap::new();
        for (handle, addresses) in &holders {
            for address in addresses {
                let other = owners.insert(*address, handle);
                // One that is being given back may be another's already.
                assert!(
                    other.is_none_or(|other| giving.contains(other) || giving.contains(handle)),
                    "{address} was given to {other:?} and {handle}"
                );
            }
        }
        for (handle, addresses) in holders
            .iter()
            .filter(|(handle, _)| !giving.contains(*handle))
        {
            put_endpoint(&kv, handle, addresses).await;
        }
        // What is left of the dead goes. Their last requests may be carried out meanwhile.
        let deadline = Instant::now() + DEADLINE;
        let mut quiet = 0;
        while quiet < 3 {
            let (leaked, others) = findings(&ipam).await;
            assert_eq!(others, [], "round {round}: nothing is half-done");
            for handle in leaked.values() {
                let is_live = holders.contains_key(handle) && !giving.contains(handle);
                assert!(!is_live, "{handle} has its endpoint");
                assert!(handle.starts_with(&format!("r{round}h")), "{handle}");
            }
            let collected = Collector::new(0).round(&ipam).await.unwrap();
            assert_eq!(collected.left, []);
            quiet = if leaked.is_empty() { quiet + 1 } else { 0 };
            assert!(Instant::now() < deadline, "{leaked:?}");
        }
        assert_eq!(ipam.check().await.unwrap(), [], "round {round}");
        for (handle, addresses) in holders
            .iter()
            .filter(|(handle, _)| !giving.contains(*handle))
        {
            let mut has: Vec<IpAddr> = ipam
                .show_handle(handle)
                .await
                .unwrap()
                .iter()
                .map(|info| info.address)
                .collect();
            has.sort_unstable();
            assert_eq!(&has, addresses, "{handle} has lost something");
        }
        println!(
            "round {round}: {} live, {} killed as they gave back",
            holders.len() - giving.len(),
            giving.len()
        );
        // The next round needs the addresses.
        for handle in holders.keys().filter(|handle| !giving.contains(*handle)) {
            ipam.release_handle(handle, None).await.unwrap();
            let name = format!("host0-x-{handle}-e");
            let gone = Transaction {
                conditions: Vec::new(),
                writes: vec![Write::Delete(format!(
                    "{RESOURCES}/workloadendpoints/n/{name}"
                ))],
            };
            assert!(kv.commit(&gone).await.unwrap());
        }
    }
    assert!(
        kills >= ROUNDS * 2,
        "only {kills} hosts were killed at work"
    );
    for host in 0..HOSTS {
        ipam.remove_owner(&Owner::host(format!("host{host}")))
            .await
            .unwrap();
    }
    let left = kv
        .read(&[Want::Prefix("/calico/ipam/".to_owned())])
        .await
        .unwrap();
    assert_eq!(left.entries, []);
}

async fn killed_at_every_step() {
    let server = EtcdServer::start();
    server.ready();
    let kv = Arc::new(connect(&server.endpoint()).await);
    seed(&kv).await;
    let ipam = Ipam::new(kv.clone());
    for what in ["assign", "release", "remove"] {
        for when in ["before", "after"] {
            for step in 0.. {
                // Each time from the beginning.
                match ipam.release_handle("dead", None).await {
                    Ok(_) | Err(IpamError::UnknownHandle(_)) => {}
                    Err(error) => panic!("{error}"),
                }
                if what != "assign" {
                    ipam.assign(&wish(0, "dead")).await.unwrap();
                }
                let step_text = step.to_string();
                let endpoint = server.endpoint();
                let mut helper = Helper::start(&["step", &endpoint, what, &step_text, when]);
                let line = helper.line().unwrap();
                drop(helper);
                let (assigned, others) = findings(&ipam).await;
                assert_eq!(others, [], "{what} {when} {step}");
                let count = assigned.len();
                assert!(count == 0 || count == 2, "{what} {when} {step}: {count}");
                if line == "done" {
                    assert!(step >= 2, "{what} has more than {step} steps");
                    break;
                }
                assert_eq!(line, "stopped", "{what} {when} {step}");
            }
        }
    }
    ipam.release_handle("dead", None).await.unwrap();
    let (assigned, others) = findings(&ipam).await;
    assert_eq!((assigned.len(), others), (0, Vec::new()));
}
