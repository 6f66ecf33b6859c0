//! One host and the world beyond it: for what needs no fabric.
//!
//! ```text
//!   world --- eth0 host
//!   10.0.1.1  10.0.1.2
//!   fd00:0:0:1::1
//! ```

use anyhow::Result;

use crate::{
    Etcd, Lab,
    echo::Servers,
    host::{Datastore, Host},
    matrix::Proto,
    workload::Station,
};

/// A host without routing protocols: static routes lead to the pools 10.65.0.0/16 and fd65::/48 behind it.
#[derive(Debug)]
pub struct Single {
    /// The owner of all of it; dropped first.
    pub lab: Lab,
    /// The store, when it is an etcd.
    pub etcd: Option<Etcd>,
    /// The host.
    pub host: Host,
    /// A client and server beyond the host's fabric interface.
    pub world: Station,
    _servers: Servers,
}

impl Single {
    /// Builds it around an etcd, on a network of its own.
    pub fn with_etcd(name: &str, node: &str) -> Result<Self> {
        let lab = Lab::new(name)?;
        let store = lab.namespace("store")?;
        let etcd_address = "172.31.0.1";
        let host = Host::new(
            &lab,
            node,
            &Datastore::Etcd(format!("http://{etcd_address}:2379")),
        )?;
        store.veth("mgmt", &host.namespace, "mgmt0")?;
        store.address("mgmt", &format!("{etcd_address}/24"))?;
        host.namespace.address("mgmt0", "172.31.0.11/24")?;
        let etcd = Etcd::start(&lab, &store, etcd_address.parse()?)?;
        Self::around(lab, Some(etcd), host)
    }

    /// Builds it around a directory of YAML files, `resources` in the lab's directory.
    pub fn with_directory(name: &str, node: &str) -> Result<Self> {
        let lab = Lab::new(name)?;
        let host = Host::new(&lab, node, &Datastore::Dir(lab.dir("resources")?))?;
        Self::around(lab, None, host)
    }

    fn around(lab: Lab, etcd: Option<Etcd>, host: Host) -> Result<Self> {
        let namespace = lab.namespace("world")?;
        namespace.veth("eth0", &host.namespace, "eth0")?;
        for (end, place) in [(1, &namespace), (2, &host.namespace)] {
            place.address("eth0", &format!("10.0.1.{end}/24"))?;
            place.address("eth0", &format!("fd00:0:0:1::{end}/64"))?;
        }
        host.namespace.ip("route add default via 10.0.1.1")?;
        host.namespace.run(
            "ip",
            &["-6", "route", "add", "default", "via", "fd00:0:0:1::1"],
        )?;
        namespace.ip("route add 10.65.0.0/16 via 10.0.1.2")?;
        namespace.run(
            "ip",
            &["-6", "route", "add", "fd65::/48", "via", "fd00:0:0:1::2"],
        )?;
        let servers = Servers::start(&namespace, &[Proto::Tcp(443), Proto::Udp(53)])?;
        let addresses = vec!["10.0.1.1".parse()?, "fd00:0:0:1::1".parse()?];
        let world = Station {
            name: "world".to_owned(),
            namespace,
            addresses,
        };
        Ok(Self {
            lab,
            etcd,
            host,
            world,
            _servers: servers,
        })
    }
}
