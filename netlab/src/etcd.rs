//! A real etcd, one member, in a namespace.

use std::{net::IpAddr, process::Command, sync::Arc};

use anyhow::Result;

use crate::{Lab, Namespace, Process, secs, wait::eventually};

/// An etcd server.
#[derive(Debug)]
pub struct Etcd {
    namespace: Arc<Namespace>,
    process: Arc<Process>,
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
        let mut command = Command::new("etcd");
        command.args(["--name", "lab", "--data-dir"]).arg(&data);
        command.args([
            "--listen-client-urls",
            &client,
            "--advertise-client-urls",
            &client,
        ]);
        command.args([
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
        ]);
        command.args([
            "--initial-cluster",
            &format!("lab={peer}"),
            "--logger",
            "zap",
        ]);
        let process = lab.spawn(
            &format!("{}-etcd", namespace.label()),
            namespace,
            &mut command,
        )?;
        let etcd = Self {
            namespace: Arc::clone(namespace),
            process,
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
        eventually("etcd to be healthy", secs(20), || {
            etcd.etcdctl(&["endpoint", "health"])
                .map_err(|_| etcd.process.log_tail(1))
        })?;
        Ok(etcd)
    }

    /// Where clients connect, as a URL.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The server's process.
    pub fn process(&self) -> &Process {
        &self.process
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
}
