//! What several tests start.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// An etcd of its own on loopback; ended when dropped.
pub struct Etcd {
    child: Child,
    client: u16,
    _data: tempfile::TempDir,
}

impl Etcd {
    /// Starts it and waits until it answers.
    pub fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let (client, peer) = (free_port(), free_port());
        let url = |port| format!("http://127.0.0.1:{port}");
        let child = Command::new("etcd")
            .args(["--data-dir", data.path().to_str().unwrap()])
            .args([
                "--listen-client-urls",
                &url(client),
                "--advertise-client-urls",
                &url(client),
            ])
            .args([
                "--listen-peer-urls",
                &url(peer),
                "--initial-advertise-peer-urls",
                &url(peer),
            ])
            .args([
                "--initial-cluster",
                &format!("default={}", url(peer)),
                "--log-level",
                "error",
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd is installed");
        let etcd = Self {
            child,
            client,
            _data: data,
        };
        eventually("etcd answers", Duration::from_secs(20), || {
            let answer = etcd.etcdctl(&["endpoint", "health"]);
            answer.0.then_some(()).ok_or(answer.1)
        });
        etcd
    }

    /// Its client URL.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.client)
    }

    /// Removes every key.
    pub fn clear(&self) {
        assert!(self.etcdctl(&["del", "", "--prefix"]).0);
    }

    /// Runs etcdctl; whether it succeeded, and what it printed.
    pub fn etcdctl(&self, arguments: &[&str]) -> (bool, String) {
        let output = Command::new("etcdctl")
            .args(["--endpoints", &self.endpoint()])
            .args(arguments)
            .env("ETCDCTL_API", "3")
            .output()
            .expect("etcdctl is installed");
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&text).into_owned(),
        )
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// Waits until the condition holds; panics with the last thing seen when the time is over.
pub fn eventually<T, E: std::fmt::Debug>(
    what: &str,
    patience: Duration,
    mut holds: impl FnMut() -> Result<T, E>,
) -> T {
    let deadline = Instant::now() + patience;
    loop {
        match holds() {
            Ok(value) => return value,
            Err(seen) if Instant::now() > deadline => {
                panic!("{what}: not within {patience:?}; last seen: {seen:?}")
            }
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}
