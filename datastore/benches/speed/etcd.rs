//! 200,000 keys read from a real etcd by a process of its own, whose memory is measured.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use cleat_datastore::{
    Event, Store,
    store::{Etcd, EtcdConfig},
};
use etcd_client::{Client, Txn, TxnOp};

use crate::{
    decode::stored,
    measure::{Report, most_resident, section, tell},
};

/// The argument that makes this program the reader.
pub(crate) const FOLLOW: &str = "follow";

const KEYS: usize = 200_000;
/// How many operations etcd takes in one transaction.
const OPERATIONS: usize = 128;
const DEADLINE: Duration = Duration::from_mins(1);

pub(crate) fn run(report: &mut Report) {
    section("200,000 keys in etcd");
    let server = Server::start();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(fill(&server.endpoint));
    let program = std::env::current_exe().expect("this program has a path");
    let output = Command::new(program)
        .args([FOLLOW, &server.endpoint])
        .output();
    let output = output.expect("it runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let answer = String::from_utf8(output.stdout).expect("it is text");
    let figures: Vec<f64> = answer
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    let [keys, seconds, bytes] = figures.as_slice() else {
        panic!("no figures in {answer:?}");
    };
    assert_eq!(*keys as usize, KEYS);
    // Most of it is etcd's time, and the clock on the wall is disturbed by whatever else runs.
    tell("listing", &format!("{seconds:.1} s until in sync"));
    let megabytes = bytes / 1e6;
    report.judge(
        "memory of the reader",
        &format!("{megabytes:.0} MB"),
        megabytes,
        100.0,
        "MB",
    );
}

/// Follows the store until it is in sync, keeping nothing, and prints keys, seconds and the most memory in use.
pub(crate) fn follow(endpoint: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let (keys, time) = runtime.expect("a runtime").block_on(async {
        let start = Instant::now();
        let store = Etcd::new(EtcdConfig::new([endpoint]));
        let mut watch = store.watch();
        let mut keys = 0;
        loop {
            match watch.next().await {
                Event::Updates(updates) => {
                    let endpoints = updates.iter().filter(|update| update.revision > 0);
                    keys += endpoints.count();
                }
                Event::InSync { .. } => return (keys, start.elapsed()),
                other @ (Event::Trouble(_) | Event::Held(_) | Event::Unreadable(_)) => {
                    panic!("{other:?}")
                }
            }
        }
    });
    println!("{keys} {} {}", time.as_secs_f64(), most_resident());
}

async fn fill(endpoint: &str) {
    let mut client = Client::connect([endpoint], None)
        .await
        .expect("etcd answers");
    for first in (0..KEYS).step_by(OPERATIONS) {
        let keys = first..KEYS.min(first + OPERATIONS);
        let puts = keys
            .map(stored)
            .map(|(path, value)| TxnOp::put(path, value, None));
        client
            .txn(Txn::new().and_then(puts.collect::<Vec<_>>()))
            .await
            .expect("it is written");
    }
}

struct Server {
    child: Child,
    endpoint: String,
    _directory: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let [client, peer] =
            [free_port(), free_port()].map(|port| format!("http://127.0.0.1:{port}"));
        let mut server = Self {
            child: spawn(directory.path(), &client, &peer),
            endpoint: client,
            _directory: directory,
        };
        server.wait();
        server
    }

    fn wait(&mut self) {
        let deadline = Instant::now() + DEADLINE;
        let healthy = || {
            let mut command = Command::new("etcdctl");
            command.env("ETCDCTL_API", "3").args([
                "--endpoints",
                &self.endpoint,
                "endpoint",
                "health",
            ]);
            command
                .output()
                .expect("etcdctl is installed")
                .status
                .success()
        };
        while !healthy() {
            assert!(Instant::now() < deadline, "etcd does not come up");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(directory: &Path, client: &str, peer: &str) -> Child {
    Command::new("etcd")
        .args([
            "--name",
            "bench",
            "--unsafe-no-fsync",
            "--log-level",
            "error",
            "--data-dir",
        ])
        .arg(directory.join("data"))
        .args([
            "--listen-client-urls",
            client,
            "--advertise-client-urls",
            client,
        ])
        .args([
            "--listen-peer-urls",
            peer,
            "--initial-advertise-peer-urls",
            peer,
        ])
        .args(["--initial-cluster", &format!("bench={peer}")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("etcd is installed")
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("it has one").port()
}
