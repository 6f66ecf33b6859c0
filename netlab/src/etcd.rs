//! A real etcd, one member, in a namespace.

use std::{
    net::IpAddr,
    process::Command,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::Result;

use crate::{Lab, Namespace, Process, secs, wait::eventually};

/// An etcd server.
#[derive(Debug)]
pub struct Etcd {
    namespace: Arc<Namespace>,
    process: Mutex<Arc<Process>>,
    arguments: Vec<String>,
    endpoint: String,
}

impl Etcd {
    /// Starts etcd, listening on one address of the namespace, and waits until it is healthy.
    pub fn start(lab: &Lab, namespace: &Arc<Namespace>, address: IpAddr) -> Result<Self> {
        let data = lab.dir(namespace.label())?.join("etcd");
        let host = if address.is_ipv6() {
            format!("[{address}]")
        } else {
            address.to_string()
        };
        let (client, peer) = (format!("http://{host}:2379"), format!("http://{host}:2380"));
        let cluster = format!("lab={peer}");
        let data = data.to_string_lossy();
        let arguments = [
            ["--name", "lab"],
            ["--data-dir", &data],
            ["--listen-client-urls", &client],
            ["--advertise-client-urls", &client],
            ["--listen-peer-urls", &peer],
            ["--initial-advertise-peer-urls", &peer],
            ["--initial-cluster", &cluster],
            ["--logger", "zap"],
        ];
        let arguments: Vec<String> = arguments.concat().into_iter().map(Into::into).collect();
        let process = spawn(lab, namespace, &arguments)?;
        let etcd = Self {
            namespace: Arc::clone(namespace),
            process: Mutex::new(process),
            arguments,
            endpoint: client,
        };
        lab.exhibit(
            namespace,
            "etcd-keys",
            &[
                "env",
                "ETCDCTL_API=3",
                "etcdctl",
                "--endpoints",
                &etcd.endpoint,
                "get",
                "--prefix",
                "/",
            ],
        );
        etcd.wait_healthy()?;
        Ok(etcd)
    }

    /// Where clients connect, as a URL.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The server's process.
    pub fn process(&self) -> Arc<Process> {
        Arc::clone(&self.current())
    }

    /// Starts it again with the data it has, after its end, and waits until it is healthy.
    pub fn restart(&self, lab: &Lab) -> Result<()> {
        self.process().kill();
        *self.current() = spawn(lab, &self.namespace, &self.arguments)?;
        self.wait_healthy()
    }

    /// Every key with its value.
    pub fn dump(&self) -> Result<Vec<(String, String)>> {
        let keys = self.etcdctl(&["get", "--prefix", "--keys-only", "/"])?;
        keys.split_whitespace()
            .map(|key| Ok((key.to_owned(), self.get(key)?.trim_end().to_owned())))
            .collect()
    }

    /// Runs `etcdctl` (API v3).
    pub fn etcdctl(&self, args: &[&str]) -> Result<String> {
        let mut words = vec!["ETCDCTL_API=3", "etcdctl", "--endpoints", &self.endpoint];
        words.extend(args);
        self.namespace.run("env", &words)
    }

    /// Puts bytes at a key as they are.
    pub fn put(&self, key: &str, value: &str) -> Result<()> {
        self.etcdctl(&["put", "--", key, value]).map(drop)
    }

    /// The value at a key.
    pub fn get(&self, key: &str) -> Result<String> {
        self.etcdctl(&["get", "--print-value-only", key])
    }

    /// Deletes a key.
    pub fn delete(&self, key: &str) -> Result<()> {
        self.etcdctl(&["del", key]).map(drop)
    }

    fn wait_healthy(&self) -> Result<()> {
        eventually("etcd to be healthy", secs(20), || {
            self.etcdctl(&["endpoint", "health"])
                .map_err(|_| self.process().log_tail(1))
        })?;
        Ok(())
    }

    fn current(&self) -> MutexGuard<'_, Arc<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn spawn(lab: &Lab, namespace: &Arc<Namespace>, arguments: &[String]) -> Result<Arc<Process>> {
    let mut command = Command::new("etcd");
    command.args(arguments);
    let name = format!("{}-etcd", namespace.label());
    lab.spawn(&name, namespace, &mut command)
}
