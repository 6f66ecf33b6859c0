//! What several tests start.

#![allow(dead_code, reason = "each test uses a part of it")]

pub mod host;

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// An etcd of its own on loopback; ended when dropped.
pub struct Etcd {
    child: Option<Child>,
    client: u16,
    peer: u16,
    /// The network namespace that it runs in, if not this process's.
    space: Option<String>,
    data: tempfile::TempDir,
}

impl Etcd {
    /// Starts it and waits until it answers.
    pub fn start() -> Self {
        Self::start_in(None, free_port(), free_port())
    }

    /// Starts it in a network namespace of its own ports, and waits until it answers.
    pub fn start_in(space: Option<String>, client: u16, peer: u16) -> Self {
        let mut etcd = Self {
            child: None,
            client,
            peer,
            space,
            data: tempfile::tempdir().unwrap(),
        };
        etcd.restart();
        etcd
    }

    /// Starts it again with the data it has, and waits until it answers.
    pub fn restart(&mut self) {
        let url = |port| format!("http://127.0.0.1:{port}");
        let (client, peer) = (url(self.client), url(self.peer));
        let child = self
            .command("etcd")
            .args(["--data-dir", self.data.path().to_str().unwrap()])
            .args(["--listen-client-urls", &client])
            .args(["--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer])
            .args(["--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}")])
            .args(["--log-level", "error"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd is installed");
        self.child = Some(child);
        eventually("etcd answers", Duration::from_secs(20), || {
            let answer = self.etcdctl(&["endpoint", "health"]);
            answer.0.then_some(()).ok_or(answer.1)
        });
    }

    /// Kills it; its data stays.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Its client URL.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.client)
    }

    /// Removes every key.
    pub fn clear(&self) {
        assert!(self.etcdctl(&["del", "", "--prefix"]).0);
    }

    /// The value under a key; empty if there is none.
    pub fn get(&self, key: &str) -> String {
        let (done, text) = self.etcdctl(&["get", "--print-value-only", key]);
        assert!(done, "{text}");
        text.trim_end().to_owned()
    }

    /// Runs etcdctl; whether it succeeded, and what it printed.
    pub fn etcdctl(&self, arguments: &[&str]) -> (bool, String) {
        let output = self
            .command("etcdctl")
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

    fn command(&self, program: &str) -> Command {
        match &self.space {
            None => Command::new(program),
            Some(space) => {
                let mut command = Command::new("nsenter");
                command
                    .arg(format!("--net=/run/netns/{space}"))
                    .arg(program);
                command
            }
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
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
