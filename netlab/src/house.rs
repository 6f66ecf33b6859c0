//! The standing topology, addresses and workloads as the resources in `examples/` name them:
//!
//! ```text
//!   client   stranger
//!       \     /
//!        core (BIRD, AS 65000)
//!       /     \
//!    tor1      tor2           tor1: BIRD, AS 65001; tor2: FRR, AS 65002
//!     | \      / |
//!     |  \    /  |            every link its own subnet, one eBGP session on each, both families
//!     |   \  /   |
//!     |    \/    |
//!     |    /\    |
//!    alpha    beta            cleat, AS 65011 and 65012
//!    /  \     /  \
//!  web  db  app  guest        containers, IPv4 and IPv6
//! ```
//!
//! etcd is on a management network of its own, so that nothing of the fabric is needed to change the fabric.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::{
    Bird, Etcd, Frr, Lab, Namespace,
    echo::Servers,
    host::{Datastore, Host},
    matrix::{Expect, Matrix, Proto},
    probe,
    router::{Neighbor, Router, Spec},
    steady::Steady,
    wait::eventually,
    workload::{Station, Workload},
};

/// Two hosts behind a ToR pair.
#[derive(Debug)]
pub struct House {
    /// The owner of all of it; dropped first.
    pub lab: Lab,
    /// The store.
    pub etcd: Etcd,
    /// The host of `web` and `db`.
    pub alpha: Host,
    /// The host of `app` and `guest`.
    pub beta: Host,
    /// The ToR that is a BIRD.
    pub tor1: Bird,
    /// The ToR that is an FRR.
    pub tor2: Frr,
    /// The router above the ToRs.
    pub core: Bird,
    /// Workloads by name.
    pub workloads: Vec<Workload>,
    /// `client` and `stranger`.
    pub clients: Vec<Station>,
    /// The namespaces of tor1 and tor2.
    pub tors: [Arc<Namespace>; 2],
    _servers: Vec<Servers>,
}

impl House {
    /// Builds the house with its routers, its store and its workloads. No daemon runs, and the store is empty.
    pub fn new(name: &str) -> Result<Self> {
        let lab = Lab::new(name)?;
        let store = lab.namespace("store")?;
        store.ip("link add name mgmt up type bridge\naddr add 172.31.0.1/24 dev mgmt")?;
        let etcd = Etcd::start(&lab, &store, "172.31.0.1".parse()?)?;

        let datastore = Datastore::Etcd(etcd.endpoint().to_owned());
        let alpha = Host::new(&lab, "alpha", &datastore)?;
        let beta = Host::new(&lab, "beta", &datastore)?;
        for (host, number) in [(&alpha, 11), (&beta, 12)] {
            store.veth(&host.name, &host.namespace, "mgmt0")?;
            store.ip(&format!("link set {} master mgmt", host.name))?;
            host.namespace
                .address("mgmt0", &format!("172.31.0.{number}/24"))?;
            // Proxy ARP answers for what the host has a route to; a host with a management network has a default route.
            host.namespace
                .ip("route add default via 172.31.0.1 metric 1000")?;
        }

        let tors = [lab.namespace("tor1")?, lab.namespace("tor2")?];
        let core = lab.namespace("core")?;
        for router in tors.iter().chain([&core]) {
            router.forward()?;
        }
        // Link n: the upper end is 10.0.n.1 and fd00:0:0:n::1, the lower 10.0.n.2 and fd00:0:0:n::2.
        for (n, upper, upper_if, lower, lower_if) in [
            (1, &tors[0], "alpha", &alpha.namespace, "eth0"),
            (2, &tors[0], "beta", &beta.namespace, "eth0"),
            (3, &tors[1], "alpha", &alpha.namespace, "eth1"),
            (4, &tors[1], "beta", &beta.namespace, "eth1"),
            (5, &core, "tor1", &tors[0], "core"),
            (6, &core, "tor2", &tors[1], "core"),
        ] {
            upper.veth(upper_if, lower, lower_if)?;
            for (end, namespace, interface) in [(1, upper, upper_if), (2, lower, lower_if)] {
                namespace.address(interface, &format!("10.0.{n}.{end}/30"))?;
                namespace.address(interface, &format!("fd00:0:0:{n}::{end}/64"))?;
            }
        }

        let mut clients = Vec::new();
        let mut servers = Vec::new();
        for (n, name) in ["client", "stranger"].into_iter().enumerate() {
            let namespace = lab.namespace(name)?;
            core.veth(name, &namespace, "eth0")?;
            for (end, namespace, interface) in [(1, &core, name), (2, &namespace, "eth0")] {
                namespace.address(interface, &format!("10.99.{n}.{end}/24"))?;
                namespace.address(interface, &format!("fd99:0:0:{n}::{end}/64"))?;
            }
            namespace.ip(&format!("route add default via 10.99.{n}.1"))?;
            namespace.run(
                "ip",
                &[
                    "-6",
                    "route",
                    "add",
                    "default",
                    "via",
                    &format!("fd99:0:0:{n}::1"),
                ],
            )?;
            servers.push(Servers::start(&namespace, &[Proto::Tcp(7)])?);
            let addresses = vec![
                format!("10.99.{n}.2").parse()?,
                format!("fd99:0:0:{n}::2").parse()?,
            ];
            clients.push(Station {
                name: name.to_owned(),
                namespace,
                addresses,
            });
        }

        let tor1 = Bird::start(
            &lab,
            &tors[0],
            &spec(65001, "1", &[(1, 65011), (2, 65012)], Some(5))?,
        )?;
        let tor2 = Frr::start(
            &lab,
            &tors[1],
            &spec(65002, "2", &[(3, 65011), (4, 65012)], Some(6))?,
        )?;
        let mut above = spec(65000, "0", &[(5, 65001), (6, 65002)], None)?;
        above.originates = vec!["10.99.0.0/16".parse()?, "fd99::/48".parse()?];
        let core = Bird::start(&lab, &core, &above)?;

        let mut workloads = Vec::new();
        for (host, block, number, name, serves) in [
            (
                &alpha,
                1,
                1,
                "web",
                [Proto::Tcp(80), Proto::Tcp(81)].as_slice(),
            ),
            (&alpha, 1, 2, "db", &[Proto::Tcp(5432)]),
            (&beta, 2, 1, "app", &[Proto::Tcp(8080), Proto::Udp(9000)]),
            (&beta, 2, 2, "guest", &[Proto::Tcp(80), Proto::Udp(9)]),
        ] {
            let addresses = [
                format!("10.65.{block}.{number}").parse()?,
                format!("fd65:0:0:{block}::{number}").parse()?,
            ];
            let interface = format!("cali0{name}");
            workloads.push(Workload::container(
                &lab,
                &host.namespace,
                name,
                &interface,
                &addresses,
                serves,
            )?);
        }
        Ok(Self {
            lab,
            etcd,
            alpha,
            beta,
            tor1,
            tor2,
            core,
            workloads,
            clients,
            tors,
            _servers: servers,
        })
    }

    /// Builds the house, applies the examples and runs cleat on both hosts until both are ready and all sessions are up.
    pub fn running(name: &str) -> Result<Self> {
        let house = Self::new(name)?;
        house.populate()?;
        house.start()?;
        Ok(house)
    }

    /// Fills the store: the examples through `cleat apply`, and the address blocks, which are no resources.
    pub fn populate(&self) -> Result<()> {
        self.alpha
            .cleat(&["apply", "-f", &example_dir().to_string_lossy()])?;
        self.put_blocks()
    }

    /// Writes the hosts' address blocks as IPAM does when it gives a host its first address.
    pub fn put_blocks(&self) -> Result<()> {
        for (host, family, block) in [
            ("alpha", "ipv4", "10.65.1.0-26"),
            ("alpha", "ipv6", "fd65:0:0:1::-122"),
            ("beta", "ipv4", "10.65.2.0-26"),
            ("beta", "ipv6", "fd65:0:0:2::-122"),
        ] {
            self.etcd.put(
                &format!("/calico/ipam/v2/host/{host}/{family}/block/{block}"),
                r#"{"state":"confirmed","deleted":false}"#,
            )?;
        }
        Ok(())
    }

    /// Starts cleat on both hosts and waits until it is ready and every session is established.
    pub fn start(&self) -> Result<()> {
        for host in [&self.alpha, &self.beta] {
            host.start(&self.lab)?;
        }
        for host in [&self.alpha, &self.beta] {
            host.wait_ready(START)?;
        }
        self.wait_sessions(START)
    }

    /// Waits until the ToRs have their sessions with both hosts and with the core, and all blocks are known by both ways.
    pub fn wait_sessions(&self, within: Duration) -> Result<()> {
        let routers: [(&dyn Router, [&str; 3]); 2] = [
            (&self.tor1, ["10.0.1.2", "10.0.2.2", "10.0.5.1"]),
            (&self.tor2, ["10.0.3.2", "10.0.4.2", "10.0.6.1"]),
        ];
        for (router, peers) in routers {
            for peer in peers {
                let peer: IpAddr = peer.parse()?;
                eventually(
                    &format!("{}'s session with {peer}", router.make()),
                    within,
                    || match router.session_state(peer)? {
                        state if state == "Established" => Ok(()),
                        state => Err(state),
                    },
                )?;
            }
        }
        eventually("the core to know two ways to every block", within, || {
            let routes = self.core.routes().map_err(|error| format!("{error:#}"))?;
            let missing: Vec<&str> = BLOCKS
                .into_iter()
                .filter(|block| {
                    !routes.iter().any(|route| {
                        route.prefix.to_string() == *block && route.next_hops.len() == 2
                    })
                })
                .collect();
            if missing.is_empty() {
                Ok(())
            } else {
                Err(format!("missing {}", missing.join(" ")))
            }
        })?;
        for (host, prefixes) in [
            (&self.alpha, ["10.65.2.0/26", "fd65:0:0:2::/122"]),
            (&self.beta, ["10.65.1.0/26", "fd65:0:0:1::/122"]),
        ] {
            for prefix in prefixes {
                let family = if prefix.contains(':') { "-6" } else { "-4" };
                eventually(
                    &format!("two ways from {} to {prefix}", host.name),
                    within,
                    || {
                        let asked = host.namespace.run("ip", &[family, "route", "show", prefix]);
                        let text = asked.map_err(|error| format!("{error:#}"))?;
                        if text.matches(" via ").count() == 2 {
                            Ok(())
                        } else {
                            Err(text)
                        }
                    },
                )?;
            }
        }
        Ok(())
    }

    /// A workload, by its name.
    pub fn workload(&self, name: &str) -> Result<&Workload> {
        self.workloads
            .iter()
            .find(|workload| workload.name == name)
            .with_context(|| format!("no workload {name}"))
    }

    /// A workload or client, by its name.
    pub fn station(&self, name: &str) -> Result<&Station> {
        self.stations()
            .into_iter()
            .find(|station| station.name == name)
            .with_context(|| format!("no station {name}"))
    }

    /// All workloads and clients.
    pub fn stations(&self) -> Vec<&Station> {
        self.clients
            .iter()
            .chain(self.workloads.iter().map(|workload| &workload.station))
            .collect()
    }

    /// The host that a workload lives on.
    pub fn host_of(&self, workload: &str) -> Option<&Host> {
        match workload {
            "web" | "db" => Some(&self.alpha),
            "app" | "guest" => Some(&self.beta),
            _ => None,
        }
    }

    /// A workload's endpoint as the command line takes it.
    pub fn endpoint_of(&self, workload: &str) -> Option<String> {
        self.host_of(workload)
            .map(|host| format!("shop/{}-k8s-{workload}-eth0", host.name))
    }

    /// A matrix of the questions given, in both families.
    pub fn matrix(&self, questions: &[(&str, &str, Proto, Expect)]) -> Result<Matrix> {
        let mut matrix = Matrix::default();
        for &(from, to, proto, expected) in questions {
            matrix.rows.extend(probe::rows(
                self.station(from)?,
                self.station(to)?,
                proto,
                expected,
            ));
        }
        Ok(matrix)
    }

    /// Asks the questions until all answers are right at once; the error is the whole matrix.
    pub fn expect(
        &self,
        questions: &[(&str, &str, Proto, Expect)],
        within: Duration,
    ) -> Result<()> {
        probe::check(&mut self.matrix(questions)?, &self.stations(), within)
    }

    /// Where the store keeps a network policy of the namespace `shop`.
    pub fn policy_key(&self, name: &str) -> Result<String> {
        let keys = self
            .etcd
            .etcdctl(&["get", "--prefix", "--keys-only", POLICIES])?;
        let found = keys.lines().find(|key| {
            let stored = key.rsplit('/').next().unwrap_or_default();
            stored.strip_prefix("default.").unwrap_or(stored) == name
        });
        found
            .map(str::to_owned)
            .with_context(|| format!("the store has no policy {name}"))
    }

    /// Starts traffic that stops for nothing: datagrams from `web` to `app` on both families, on enough ports to use
    /// every path, and one connection from `client` to `web` for each family.
    pub fn streams(&self) -> Result<Vec<Steady>> {
        let (web, app, client) = (
            self.station("web")?,
            self.station("app")?,
            self.station("client")?,
        );
        let mut streams = Vec::new();
        for v4 in [true, false] {
            let target = app.address(v4).context("app has both families")?;
            for _ in 0..8 {
                streams.push(Steady::start(web, target, Proto::Udp(9000), PACE)?);
            }
            let target = web.address(v4).context("web has both families")?;
            streams.push(Steady::start(client, target, Proto::Tcp(80), PACE)?);
        }
        for stream in &streams {
            eventually("a stream to flow", START, || match stream.answered() {
                0..10 => Err(format!("{} answers", stream.answered())),
                _ => Ok(()),
            })?;
        }
        Ok(streams)
    }

    /// Cuts the power of a ToR: its daemons are killed, then its links go down.
    pub fn power_off(&self, tor: usize) -> Result<()> {
        self.lab.power_off(&self.tors[tor])
    }
}

/// Who reaches whom under the policies of `examples/`.
pub const EXAMPLE_MATRIX: &[(&str, &str, Proto, Expect)] = &[
    ("client", "web", Proto::Tcp(80), Expect::Reaches),
    ("client", "web", Proto::Tcp(81), Expect::Silent),
    ("client", "web", Proto::Ping, Expect::Reaches),
    ("stranger", "web", Proto::Tcp(80), Expect::Silent),
    ("stranger", "web", Proto::Ping, Expect::Silent),
    ("client", "db", Proto::Tcp(5432), Expect::Silent),
    ("web", "db", Proto::Tcp(5432), Expect::Reaches),
    ("app", "db", Proto::Tcp(5432), Expect::Reaches),
    ("guest", "db", Proto::Tcp(5432), Expect::Silent),
    ("guest", "web", Proto::Tcp(80), Expect::Reaches),
    ("client", "app", Proto::Tcp(8080), Expect::Reaches),
    ("stranger", "app", Proto::Tcp(8080), Expect::Silent),
    ("web", "app", Proto::Udp(9000), Expect::Reaches),
    ("guest", "app", Proto::Udp(9000), Expect::Silent),
    ("web", "guest", Proto::Tcp(80), Expect::Reaches),
    ("client", "guest", Proto::Tcp(80), Expect::Silent),
    ("db", "client", Proto::Tcp(7), Expect::Reaches),
];

/// `examples/resources`.
pub fn example_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/resources")
}

/// The files in `examples/resources`, sorted.
pub fn example_resources() -> Result<Vec<PathBuf>> {
    let dir = example_dir();
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&dir).with_context(|| format!("read {}", dir.display()))? {
        files.push(entry?.path());
    }
    files.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "yaml")
    });
    files.sort();
    Ok(files)
}

/// A ToR or the core: the lower ends of `down` are neighbours, and so is the upper end of `up`.
fn spec(asn: u32, id: &str, down: &[(u8, u32)], up: Option<u8>) -> Result<Spec> {
    let address = |n: u8, end: u8| format!("10.0.{n}.{end}").parse::<IpAddr>();
    let address6 = |n: u8, end: u8| format!("fd00:0:0:{n}::{end}").parse::<IpAddr>();
    let mut neighbors = Vec::new();
    for &(n, asn) in down {
        let name = format!("down{n}");
        neighbors.push(Neighbor {
            name,
            address: address(n, 2)?,
            local: address(n, 1)?,
            local_v6: address6(n, 1)?,
            asn,
        });
    }
    if let Some(n) = up {
        let name = format!("up{n}");
        neighbors.push(Neighbor {
            name,
            address: address(n, 1)?,
            local: address(n, 2)?,
            local_v6: address6(n, 2)?,
            asn: 65000,
        });
    }
    Ok(Spec {
        asn,
        router_id: format!("192.0.2.{id}"),
        neighbors,
        originates: Vec::new(),
    })
}

/// The hosts' address blocks.
const BLOCKS: [&str; 4] = [
    "10.65.1.0/26",
    "10.65.2.0/26",
    "fd65:0:0:1::/122",
    "fd65:0:0:2::/122",
];
/// How long daemons and sessions may take to come up.
const START: Duration = Duration::from_secs(30);
/// Where the store keeps the network policies of the workloads' namespace.
const POLICIES: &str = "/calico/resources/v3/projectcalico.org/networkpolicies/shop/";
/// The time between two questions of a steady stream.
const PACE: Duration = Duration::from_millis(10);
