//! A host that starts from nothing but its disk while the store is away.
#![cfg(feature = "lab")]
#![allow(clippy::unwrap_used, reason = "helpers of tests panic like tests")]

use std::{
    collections::BTreeMap,
    net::{IpAddr, UdpSocket},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use netlab::{
    Expect::{Reaches, Silent},
    Host, House, Namespace, Outcome, Process,
    Proto::{self, Tcp, Udp},
    eventually,
    house::EXAMPLE_MATRIX,
    probe::probe,
    router::{RouteEntry, Router},
    secs,
    steady::{Steady, finish},
};
use serde_json::{Value, json};

#[test]
fn a_host_that_boots_while_the_store_is_away_routes_and_enforces_as_before() {
    let house = House::running("reboot").unwrap();
    let alpha = &house.alpha;
    alpha.cleat_with(&["apply", "-f", "-"], GUARDED).unwrap();
    house.expect(EXAMPLE_MATRIX, secs(15)).unwrap();
    let objects = until_kept(&house);
    let (routes, programmed) = (router_routes(&house), alpha.routes().unwrap());
    assert!(programmed.len() > 4, "{programmed:?}");

    house.etcd.process().kill();
    alpha.power_off(&["eth0", "eth1", "mgmt0"]).unwrap();
    for name in ["web", "db"] {
        let workload = house.workload(name).unwrap();
        workload.unplug(&alpha.namespace).unwrap();
    }
    eventually("the core to know no way to alpha", secs(30), || {
        let routes = house.core.routes().map_err(|error| format!("{error:#}"))?;
        let left = routes.iter().filter(|route| {
            let prefix = route.prefix.to_string();
            prefix.starts_with("10.65.1.") || prefix.starts_with("fd65:0:0:1:")
        });
        match left.count() {
            0 => Ok(()),
            left => Err(format!("{left} routes")),
        }
    })
    .unwrap();

    // The fabric sends what is for alpha's workloads all the while, as by stale or static routes.
    for (router, v4, v6) in [
        ("core", "10.0.5.2", "fd00:0:0:5::2"),
        ("tor1", "10.0.1.2", "fd00:0:0:1::2"),
    ] {
        let lines = format!(
            "route add 10.65.1.0/26 via {v4} metric 4000\nroute add fd65:0:0:1::/122 via {v6} metric 4000"
        );
        namespace(&house, router).ip(&lines).unwrap();
    }
    alpha
        .boot(&[
            ("eth0", &["10.0.1.2/30", "fd00:0:0:1::2/64"]),
            ("eth1", &["10.0.3.2/30", "fd00:0:0:3::2/64"]),
            ("mgmt0", &["172.31.0.11/24"]),
        ])
        .unwrap();
    let ways = "route add default via 172.31.0.1 metric 1000\n\
                route add 10.99.0.0/16 via 10.0.1.1 metric 4000\n\
                route add fd99::/48 via fd00:0:0:1::1 metric 4000";
    alpha.namespace.ip(ways).unwrap();
    // One workload is there before the daemon, the other comes when it runs.
    let (web, db) = (
        house.workload("web").unwrap(),
        house.workload("db").unwrap(),
    );
    web.plug(&alpha.namespace).unwrap();
    for family in ["ipv4", "ipv6"] {
        // As behind a hypervisor, which leaves forwarding to others.
        let key = format!("net/{family}/conf/{}/forwarding", web.interface);
        alpha.namespace.sysctl(&key, "0").unwrap();
    }
    let begun = Instant::now();
    let mut allowed = Vec::new();
    let mut denied = Vec::new();
    let mut leaks = Vec::new();
    for v4 in [true, false] {
        allowed.push(Asking::start(&house, "client", "web", Tcp(80), v4));
        for (from, to, proto) in [
            ("stranger", "web", Tcp(80)),
            ("client", "web", Tcp(81)),
            ("guest", "db", Tcp(5432)),
        ] {
            denied.push(Asking::start(&house, from, to, proto, v4));
        }
        leaks.push(Leak::start(&house, "stranger", "web", v4));
        leaks.push(Leak::start(&house, "web", "client", v4));
    }
    alpha.start(&house.lab).unwrap();
    alpha.wait_ready(secs(20)).unwrap();
    let ready = begun.elapsed();
    db.plug(&alpha.namespace).unwrap();
    let established = eventually("alpha's sessions", secs(30), || {
        let peers = peers(alpha);
        let up = peers.values().filter(|peer| peer.established).count();
        match (up, peers.len()) {
            (2, 2) => Ok(begun.elapsed()),
            _ => Err(format!("{peers:?}")),
        }
    })
    .unwrap();
    let answered: Vec<Duration> = allowed
        .iter()
        .map(|asking| {
            eventually("an answer from web", secs(30), || {
                asking.first_answer().ok_or("none".to_owned())
            })
            .unwrap()
        })
        .collect();
    house.wait_sessions(secs(30)).unwrap();
    let converged = begun.elapsed();
    house.expect(EXAMPLE_MATRIX, secs(15)).unwrap();
    println!(
        "from start: ready after {} ms, sessions after {} ms, first answer from web after {} ms (IPv4) and {} ms (IPv6), \
         routes everywhere after {} ms",
        ready.as_millis(),
        established.as_millis(),
        answered[0].as_millis(),
        answered[1].as_millis(),
        converged.as_millis()
    );
    for asking in denied {
        let (what, asked, answered) = asking.stop();
        assert!(asked > 5, "{what}: {asked} asked");
        assert_eq!(answered, 0, "{what}: of {asked}");
    }
    for asking in allowed {
        asking.stop();
    }
    for leak in leaks {
        let what = leak.what.clone();
        let [sent, through] = leak.stop();
        assert!(sent > 1000 && through == 0, "{what}: {through} of {sent}");
    }
    eventually("the routers' routes as before", secs(20), || {
        same(&routes, &router_routes(&house))
    })
    .unwrap();
    eventually("alpha's routes as before", secs(20), || {
        same(&programmed, &alpha.routes().unwrap())
    })
    .unwrap();

    // It says what it runs from, to people and to probes.
    let found = store_status(alpha).unwrap();
    assert_eq!(found["inSync"], false, "{found}");
    assert_eq!(found["snapshot"]["objects"], objects, "{found}");
    assert!(
        found["snapshot"]["ageSeconds"].as_u64().unwrap() >= 1,
        "{found}"
    );
    let text = alpha.cleat(&["status"]).unwrap();
    let confirmed = found["snapshot"]["confirmed"].as_str().unwrap();
    let words = format!("running from the state on disk of {confirmed} (");
    assert!(text.contains(&words) && text.contains(" old)"), "{text}");
    let (status, body) = alpha.http("/ready").unwrap();
    assert_eq!(status, 200, "{body}");
    let words = format!("from the state on disk of {confirmed}");
    assert!(body.contains(&words), "{body}");

    // The store comes back, and the hosts reach it when two objects of it are others.
    let store = namespace(&house, "store");
    for host in ["alpha", "beta"] {
        store.ip(&format!("link set {host} nomaster")).unwrap();
    }
    house.etcd.restart(&house.lab).unwrap();
    let key = house.policy_key("db").unwrap();
    let mut policy: Value = serde_json::from_str(&house.etcd.get(&key).unwrap()).unwrap();
    *policy.pointer_mut("/spec/ingress/0/source").unwrap() =
        json!({"selector": "zone == 'office'"});
    house.etcd.put(&key, &policy.to_string()).unwrap();
    house
        .etcd
        .delete(&house.policy_key("web").unwrap())
        .unwrap();
    house.expect(EXAMPLE_MATRIX, secs(5)).unwrap();

    let hosts = [&house.alpha, &house.beta];
    let monitors = hosts.map(|host| Monitor::start(&house, host));
    let streams: Vec<Steady> = [true, false]
        .into_iter()
        .map(|v4| {
            let (web, app) = (house.station("web").unwrap(), house.station("app").unwrap());
            let pace = Duration::from_millis(10);
            Steady::start(web, app.address(v4).unwrap(), Udp(9000), pace).unwrap()
        })
        .collect();
    let before = hosts.map(|host| (peers(host), Instant::now()));
    for host in ["alpha", "beta"] {
        store.ip(&format!("link set {host} master mgmt")).unwrap();
    }
    for host in hosts {
        let what = format!("{} to be in sync", host.name);
        eventually(&what, secs(30), || {
            let status = store_status(host)?;
            let trouble = status.get("trouble").is_some();
            if status["inSync"] == true && status.get("snapshot").is_none() && !trouble {
                Ok(())
            } else {
                Err(status.to_string())
            }
        })
        .unwrap();
    }
    let mut changed = EXAMPLE_MATRIX.to_vec();
    for (from, to, proto, expected) in &mut changed {
        match (*from, *to, *proto) {
            // Where no policy applies, the profile decides: the shop's own reach it.
            ("client", "web", _) | ("web" | "app", "db", _) => *expected = Silent,
            ("client", "db", _) => *expected = Reaches,
            _ => {}
        }
    }
    changed.push(("app", "web", Tcp(81), Reaches));
    house.expect(&changed, secs(15)).unwrap();

    // A datagram that nothing keeps back is seen.
    let leak = Leak::start(&house, "app", "web", true);
    eventually("a datagram to get through", secs(10), || {
        leak.seen().ok_or("none".to_owned())
    })
    .unwrap();
    leak.stop();

    for (host, (before, at)) in hosts.into_iter().zip(before) {
        let after = peers(host);
        assert_eq!(before.len(), 2, "{before:?}");
        for (name, peer) in &before {
            let now = &after[name];
            let least = peer.since + at.elapsed().as_secs().saturating_sub(1);
            assert!(
                now.established && now.since >= least,
                "{} and {name}: {peer:?}, then {now:?}, and {least} s at least",
                host.name
            );
        }
    }
    for monitor in monitors {
        assert_eq!(monitor.seen(), Vec::<String>::new());
    }
    let report = finish(streams).unwrap();
    assert!(report.sent > 100 && report.lost() == 0, "{report}");
    same(&routes, &router_routes(&house)).unwrap();
    same(&programmed, &alpha.routes().unwrap()).unwrap();
}

fn namespace(house: &House, label: &str) -> Arc<Namespace> {
    let mut all = house.lab.namespaces().into_iter();
    all.find(|it| it.label() == label).unwrap()
}

/// Waits until alpha has the whole store on disk, and gives the number of its objects.
fn until_kept(house: &House) -> u64 {
    let keys = house.etcd.dump().unwrap();
    let objects = keys
        .iter()
        .filter(|(key, _)| !key.starts_with("/calico/felix/"))
        .count() as u64;
    eventually("the whole state on disk", secs(20), || {
        let status: Value = house
            .alpha
            .json(&["store", "status"])
            .map_err(|error| format!("{error:#}"))?;
        if status["kept"]["objects"] == objects {
            Ok(objects)
        } else {
            Err(format!("{} of {objects}", status["kept"]["objects"]))
        }
    })
    .unwrap()
}

fn store_status(host: &Host) -> Result<Value, String> {
    let status: Result<Value, _> = host.json(&["status"]);
    status
        .map(|mut status| status["store"].take())
        .map_err(|error| format!("{error:#}"))
}

#[derive(Debug)]
struct Peer {
    established: bool,
    since: u64,
}

fn peers(host: &Host) -> BTreeMap<String, Peer> {
    let peers: Vec<Value> = host.json(&["bgp", "peers"]).unwrap();
    let peers = peers.iter().map(|peer| {
        let state = Peer {
            established: peer["state"] == "Established",
            since: peer["sinceSeconds"].as_u64().unwrap(),
        };
        (peer["peer"].as_str().unwrap().to_owned(), state)
    });
    peers.collect()
}

/// What the ToRs and the core know. Which of two ways is the best is a matter of their age.
fn router_routes(house: &House) -> Vec<(&'static str, RouteEntry)> {
    let routers: [(&'static str, &dyn Router); 3] = [
        ("tor1", &house.tor1),
        ("tor2", &house.tor2),
        ("core", &house.core),
    ];
    let mut all = Vec::new();
    for (name, router) in routers {
        for mut route in router.routes().unwrap() {
            route.paths.sort();
            all.push((name, route));
        }
    }
    all
}

/// Whether two lists are the same, and if not, what is in one alone.
fn same<T: PartialEq + std::fmt::Debug>(before: &[T], now: &[T]) -> Result<(), String> {
    let gone: Vec<&T> = before.iter().filter(|it| !now.contains(it)).collect();
    let new: Vec<&T> = now.iter().filter(|it| !before.contains(it)).collect();
    if gone.is_empty() && new.is_empty() {
        Ok(())
    } else {
        Err(format!("gone: {gone:?}, new: {new:?}"))
    }
}

/// One question, asked again and again.
struct Asking {
    what: String,
    begun: Instant,
    stop: Arc<AtomicBool>,
    /// Milliseconds until the first answer, and one; 0 for none.
    first: Arc<AtomicU64>,
    thread: JoinHandle<(u64, u64)>,
}

impl Asking {
    fn start(house: &House, from: &str, to: &str, proto: Proto, v4: bool) -> Self {
        let begun = Instant::now();
        let target: IpAddr = house.station(to).unwrap().address(v4).unwrap();
        let what = format!("{from} to {to} {target} {proto}");
        let from = house.station(from).unwrap().clone();
        let (stop, first) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (stopped, answer) = (Arc::clone(&stop), Arc::clone(&first));
        let thread = thread::spawn(move || {
            let (mut asked, mut answered) = (0, 0);
            while !stopped.load(Ordering::Relaxed) {
                let outcome = probe(&from, target, proto, PATIENCE).unwrap();
                asked += 1;
                if matches!(outcome, Outcome::Answered { .. }) {
                    answered += 1;
                    let elapsed = begun.elapsed().as_millis() as u64 + 1;
                    let _ =
                        answer.compare_exchange(0, elapsed, Ordering::Relaxed, Ordering::Relaxed);
                }
                if !matches!(outcome, Outcome::Silent) {
                    thread::sleep(PACE);
                }
            }
            (asked, answered)
        });
        Self {
            what,
            begun,
            stop,
            first,
            thread,
        }
    }

    fn first_answer(&self) -> Option<Duration> {
        match self.first.load(Ordering::Relaxed) {
            0 => None,
            millis => Some(Duration::from_millis(millis - 1)),
        }
    }

    fn stop(self) -> (String, u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        let (asked, answered) = self.thread.join().unwrap();
        let what = format!("{} for {:?}", self.what, self.begun.elapsed());
        (what, asked, answered)
    }
}

/// Datagrams to a port that policy closes, many a second, and a listener there.
struct Leak {
    what: String,
    stop: Arc<AtomicBool>,
    through: Arc<AtomicU64>,
    threads: [JoinHandle<u64>; 2],
}

impl Leak {
    fn start(house: &House, from: &str, to: &str, v4: bool) -> Self {
        let target = house.station(to).unwrap().address(v4).unwrap();
        let any: IpAddr = if v4 { [0; 4].into() } else { [0; 16].into() };
        let socket = |station: &str, address: (IpAddr, u16)| {
            let namespace = &house.station(station).unwrap().namespace;
            namespace.enter(|| UdpSocket::bind(address)).unwrap()
        };
        let (sender, receiver) = (
            socket(from, (any, 0)).unwrap(),
            socket(to, (target, 9)).unwrap(),
        );
        receiver.set_read_timeout(Some(PATIENCE)).unwrap();
        let (stop, through) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let stopped = Arc::clone(&stop);
        let sending = thread::spawn(move || {
            let mut sent = 0;
            while !stopped.load(Ordering::Relaxed) {
                // A way that is not there is no matter.
                let _ = sender.send_to(b"leak", (target, 9));
                sent += 1;
                thread::sleep(OFTEN);
            }
            sent
        });
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&through));
        let receiving = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if receiver.recv(&mut [0; 16]).is_ok() {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
            count.load(Ordering::Relaxed)
        });
        Self {
            what: format!("{from} to {to} {target}"),
            stop,
            through,
            threads: [sending, receiving],
        }
    }

    fn seen(&self) -> Option<u64> {
        Some(self.through.load(Ordering::Relaxed)).filter(|count| *count > 0)
    }

    /// How many datagrams were sent, and how many arrived.
    fn stop(self) -> [u64; 2] {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.map(|thread| thread.join().unwrap())
    }
}

/// Writes down every change of a host's routes.
struct Monitor<'a> {
    host: &'a Host,
    process: Arc<Process>,
}

impl<'a> Monitor<'a> {
    fn start(house: &House, host: &'a Host) -> Self {
        let mut command = Command::new("ip");
        command.args(["monitor", "route"]);
        let name = format!("{}-monitor", host.name);
        let process = house.lab.spawn(&name, &host.namespace, &mut command);
        let monitor = Self {
            host,
            process: process.unwrap(),
        };
        eventually("the monitor to see routes", secs(10), || {
            monitor.mark();
            monitor.marks().ok_or("nothing".to_owned())
        })
        .unwrap();
        monitor
    }

    /// The changes of what leads to workloads.
    fn seen(self) -> Vec<String> {
        let before = self.marks();
        eventually("the monitor to have seen all", secs(10), || {
            self.mark();
            if self.marks() > before {
                Ok(())
            } else {
                Err("nothing".to_owned())
            }
        })
        .unwrap();
        let log = self.process.log_tail(usize::MAX);
        log.lines()
            .filter(|line| line.contains("10.65.") || line.contains("fd65:"))
            .map(str::to_owned)
            .collect()
    }

    /// Makes a change that it must see.
    fn mark(&self) {
        for action in ["add", "del"] {
            let line = format!("route {action} blackhole 192.0.2.77/32");
            self.host.namespace.ip(&line).unwrap();
        }
    }

    fn marks(&self) -> Option<usize> {
        let log = self.process.log_tail(usize::MAX);
        Some(log.matches("192.0.2.77").count()).filter(|count| *count > 0)
    }
}

/// Keeps `web` from the port that nobody serves.
const GUARDED: &str = "\
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: guarded}
spec:
  order: 1
  selector: app == 'web'
  types: [Egress]
  egress:
    - {action: Deny, protocol: UDP, destination: {ports: [9]}}
    - {action: Allow}
";
/// How long one question waits.
const PATIENCE: Duration = Duration::from_millis(100);
/// The pause after an answer or an error.
const PACE: Duration = Duration::from_millis(10);
/// The pause between two datagrams.
const OFTEN: Duration = Duration::from_micros(200);
