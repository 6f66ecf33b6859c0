//! Sessions with routers that we did not write: BIRD, FRR and GoBGP, each in a network namespace of its own. Both
//! families go over one IPv4 session. Needs root and the three daemons.

#![expect(clippy::unwrap_used, reason = "a test panics")]

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cleat_bgp::config::{Config, Origin, PeerConfig, Stop};
use cleat_bgp::net::Speaker;
use cleat_bgp::status::{RouteFilter, RouteTable, SessionState};
use cleat_bgp::{Family, FibUpdate, PeerStatus};
use ipnet::IpNet;

#[test]
fn bird_and_we_exchange_routes_of_both_families() {
    with_bird("bird", "65002", |table| {
        table.matches("BGP.as_path: 65001\n").count() == 2
    });
}

#[test]
fn bird_in_our_own_as_and_we_exchange_routes_of_both_families() {
    with_bird("ibird", "65001", |table| {
        table.matches("BGP.as_path: \n").count() == 2
            && table.matches("BGP.local_pref: 100\n").count() == 2
    });
}

fn with_bird(name: &str, asn: &str, has_our_path: fn(&str) -> bool) {
    let config = "
        log stderr all;
        router id 10.99.0.2;
        protocol device {}
        protocol static s4 { ipv4; route 203.0.113.0/24 blackhole; }
        protocol static s6 { ipv6; route 2001:db8:113::/48 blackhole; }
        protocol bgp cleat {
            local 10.99.0.2 as ASN;
            neighbor 10.99.0.1 as 65001;
            graceful restart on;
            ipv4 { import all; export all; };
            ipv6 { import all; export all; next hop address fd99::2; };
        }"
    .replace("ASN", asn);
    with_router(name, |lab| {
        let control = lab.file("bird.ctl");
        let config = lab.write("bird.conf", &config);
        let pid = lab.file("bird.pid");
        let bird = lab.start("bird", &["-f", "-c", &config, "-s", &control, "-P", &pid]);
        let table = || {
            lab.run(
                "birdc",
                &["-s", &control, "show", "route", "all", "protocol", "cleat"],
            )
        };
        exchange(lab, asn.parse().unwrap(), &bird, &table, |table| {
            has_our_path(table)
                && table.contains("BGP.next_hop: 10.99.0.1")
                && table.contains("BGP.next_hop: fd99::1")
        });
    });
}

#[test]
fn frr_and_we_exchange_routes_of_both_families() {
    let config = "
        hostname tor
        domainname lan
        router bgp 65002
         bgp router-id 10.99.0.2
         no bgp ebgp-requires-policy
         no bgp network import-check
         bgp graceful-restart
         neighbor 10.99.0.1 remote-as 65001
         neighbor 10.99.0.1 timers connect 1
         address-family ipv4 unicast
          network 203.0.113.0/24
          neighbor 10.99.0.1 activate
         exit-address-family
         address-family ipv6 unicast
          network 2001:db8:113::/48
          neighbor 10.99.0.1 activate
          neighbor 10.99.0.1 route-map v6 out
         exit-address-family
        route-map v6 permit 10
         set ipv6 next-hop global fd99::2
        ";
    with_router("frr", |lab| {
        let config = lab.write("bgpd.conf", config);
        let (pid, vty) = (lab.file("bgpd.pid"), lab.path.display().to_string());
        let arguments = [
            "-f",
            &config,
            "-i",
            &pid,
            "--vty_socket",
            &vty,
            "-Z",
            "-S",
            "--log",
            "stdout",
            "-P",
            "0",
        ];
        let bgpd = lab.start("/usr/lib/frr/bgpd", &arguments);
        let table = || {
            let show = |family| {
                let question = format!("show bgp {family} unicast neighbors 10.99.0.1 routes json");
                lab.run(
                    "vtysh",
                    &["--vty_socket", &vty, "-d", "bgpd", "-c", &question],
                )
            };
            show("ipv4") + &show("ipv6")
        };
        exchange(lab, 65002, &bgpd, &table, |table| {
            table.matches("\"path\":\"65001\"").count() == 2
                && table.contains("\"ip\":\"10.99.0.1\"")
                && table.contains("\"ip\":\"fd99::1\"")
        });
    });
}

#[test]
fn gobgp_and_we_exchange_routes_of_both_families() {
    let config = r#"
        [global.config]
          as = 65002
          router-id = "10.99.0.2"
          local-address-list = ["10.99.0.2"]
        [[neighbors]]
          [neighbors.config]
            neighbor-address = "10.99.0.1"
            peer-as = 65001
          [neighbors.timers.config]
            connect-retry = 1
            idle-hold-time-after-reset = 1
          [[neighbors.afi-safis]]
            [neighbors.afi-safis.config]
              afi-safi-name = "ipv4-unicast"
          [[neighbors.afi-safis]]
            [neighbors.afi-safis.config]
              afi-safi-name = "ipv6-unicast"
        "#;
    with_router("gobgp", |lab| {
        let config = lab.write("gobgpd.toml", config);
        let gobgpd = lab.start(
            "gobgpd",
            &[
                "-f",
                &config,
                "--api-hosts",
                "127.0.0.1:50051",
                "--pprof-disable",
            ],
        );
        let gobgp = |arguments: &str| lab.run("gobgp", &arguments.split(' ').collect::<Vec<_>>());
        // The daemon answers before it is ready, so the route is added until it is there.
        let routes = [
            ("ipv4", "203.0.113.0/24", "10.99.0.2"),
            ("ipv6", "2001:db8:113::/48", "fd99::2"),
        ];
        for (family, prefix, next_hop) in routes {
            let add = || {
                let answer = gobgp(&format!(
                    "global rib add -a {family} {prefix} nexthop {next_hop}"
                ));
                let table = gobgp(&format!("global rib -a {family}"));
                (answer.is_empty() && table.contains(prefix)).then_some(())
            };
            wait("gobgpd takes a route", add, || gobgpd.log());
        }
        let table =
            || gobgp("neighbor 10.99.0.1 adj-in") + &gobgp("neighbor 10.99.0.1 adj-in -a ipv6");
        exchange(lab, 65002, &gobgpd, &table, |table| {
            let line = |wanted: &[&str]| {
                table
                    .lines()
                    .any(|line| wanted.iter().all(|word| line.contains(word)))
            };
            line(&["10.1.0.0/26", " 10.99.0.1 ", " 65001 "])
                && line(&["fd00:1::/122", " fd99::1 ", " 65001 "])
        });
    });
}

/// Starts a speaker, and sees our routes at the router and the router's with us.
fn exchange(
    lab: &Lab,
    asn: u32,
    router: &Daemon,
    table: &dyn Fn() -> String,
    has_ours: impl Fn(&str) -> bool,
) {
    let mut config = Config::new([10, 99, 0, 1].into(), 65001);
    let mut peer = PeerConfig::new(asn);
    peer.connect_retry = Duration::from_secs(1);
    peer.next_hops = [(Family::Ipv6Unicast, "fd99::1".parse().unwrap())].into();
    config.peers = [("10.99.0.2".parse::<IpAddr>().unwrap().into(), peer)].into();

    // Sockets belong to the namespace of the thread that makes them.
    let namespace = lab.namespace(OURS);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime
        .worker_threads(1)
        .enable_all()
        .on_thread_start(move || enter(&namespace));
    let runtime = runtime.build().unwrap();
    let speaker = runtime.block_on(async {
        runtime
            .spawn(async { Speaker::start(config) })
            .await
            .unwrap()
    });
    let ours =
        ["10.1.0.0/26", "fd00:1::/122"].map(|prefix| (prefix.parse().unwrap(), Origin::default()));
    speaker.originate(ours.into());
    let mut fib = runtime.block_on(speaker.fib());

    let seen = || {
        let peers = runtime.block_on(speaker.peers());
        let received = RouteFilter {
            table: RouteTable::Received,
            ..RouteFilter::default()
        };
        format!(
            "{peers:#?}\n{:#?}\n{}\n{}",
            runtime.block_on(speaker.routes(received)),
            table(),
            router.log()
        )
    };
    let status = || -> PeerStatus { runtime.block_on(speaker.peers()).remove(0) };
    wait(
        "the session",
        || (status().state == SessionState::Established).then_some(()),
        seen,
    );
    wait(
        "our routes at the router",
        || has_ours(&table()).then_some(()),
        seen,
    );

    let mut routes: BTreeMap<IpNet, Vec<IpAddr>> = BTreeMap::new();
    let mut converged = false;
    let theirs = [
        ("203.0.113.0/24", "10.99.0.2"),
        ("2001:db8:113::/48", "fd99::2"),
    ]
    .map(|(prefix, next_hop)| (prefix.parse().unwrap(), vec![next_hop.parse().unwrap()]));
    let theirs: BTreeMap<IpNet, Vec<IpAddr>> = theirs.into();
    wait(
        "the router's routes here, and nothing to wait for",
        || {
            let next = async { tokio::time::timeout(Duration::from_millis(100), fib.next()).await };
            if let Ok(Some(FibUpdate {
                changes,
                converged: now,
            })) = runtime.block_on(next)
            {
                routes.extend(
                    changes
                        .into_iter()
                        .map(|change| (change.prefix, change.next_hops)),
                );
                routes.retain(|_, next_hops| !next_hops.is_empty());
                converged = now;
            }
            (routes == theirs && converged).then_some(())
        },
        seen,
    );
    let paths = runtime.block_on(speaker.routes(RouteFilter::default()));
    let foreign = paths.iter().filter(|path| path.peer.is_some());
    // Inside an AS nobody adds it to the path.
    let path = if asn == 65001 { "" } else { "65002" };
    assert!(
        foreign.map(|path| path.as_path.as_str()).eq([path, path]),
        "{paths:#?}"
    );
    assert_eq!(status().update_errors, 0, "{}", seen());

    runtime.block_on(speaker.stop(Stop::Shutdown("the test is over".into())));
    wait(
        "our routes gone at the router",
        || (!table().contains("10.1.0.0/26")).then_some(()),
        || table() + &router.log(),
    );
}

const OURS: &str = "a";
const THEIRS: &str = "b";

/// Two namespaces with a link between them and a directory; all gone afterwards.
struct Lab {
    name: String,
    path: PathBuf,
}

fn with_router(name: &str, test: impl FnOnce(&Lab) + Send) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: needs root for network namespaces");
        return;
    }
    test(&Lab::new(name));
}

impl Lab {
    fn new(name: &str) -> Self {
        let name = format!("cbgp{}{name}", std::process::id());
        let path = std::env::temp_dir().join(&name);
        fs::create_dir_all(&path).unwrap();
        let lab = Self { name, path };
        let [ours, theirs] = [OURS, THEIRS].map(|side| lab.namespace(side));
        for namespace in [&ours, &theirs] {
            ip(&["netns", "add", namespace]);
            ip(&["-n", namespace, "link", "set", "lo", "up"]);
        }
        ip(&[
            "-n", &ours, "link", "add", "v", "type", "veth", "peer", "name", "v", "netns", &theirs,
        ]);
        for (namespace, v4, v6) in [
            (&ours, "10.99.0.1/24", "fd99::1/64"),
            (&theirs, "10.99.0.2/24", "fd99::2/64"),
        ] {
            ip(&["-n", namespace, "address", "add", v4, "dev", "v"]);
            ip(&["-n", namespace, "address", "add", v6, "dev", "v", "nodad"]);
            ip(&["-n", namespace, "link", "set", "v", "up"]);
        }
        lab
    }

    fn namespace(&self, side: &str) -> String {
        format!("{}{side}", self.name)
    }

    fn file(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) -> String {
        let lines: Vec<&str> = text
            .lines()
            .map(|line| line.strip_prefix("        ").unwrap_or(line))
            .collect();
        fs::write(self.path.join(name), lines.join("\n")).unwrap();
        self.file(name)
    }

    /// Runs a command beside the router and returns what it says.
    fn run(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.command(program, arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr)
    }

    fn start(&self, program: &str, arguments: &[&str]) -> Daemon {
        let log = self.path.join("log");
        let file = fs::File::create(&log).unwrap();
        let mut command = self.command(program, arguments);
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file);
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}; scripts/setup installs it"));
        Daemon { child, log }
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.namespace(THEIRS), program])
            .args(arguments);
        command
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for side in [OURS, THEIRS] {
            let _ = Command::new("ip")
                .args(["netns", "delete", &self.namespace(side)])
                .status();
        }
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// A router's process; ended with the test.
struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn enter(namespace: &str) {
    let file = fs::File::open(Path::new("/run/netns").join(namespace)).unwrap();
    let kind = rustix::thread::LinkNameSpaceType::Network;
    rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), Some(kind)).unwrap();
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "ip {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Waits for something, and tells what was seen if it does not come.
fn wait<T>(what: &str, mut probe: impl FnMut() -> Option<T>, seen: impl Fn() -> String) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(
            start.elapsed() < Duration::from_secs(40),
            "{what} never came; seen:\n{}",
            seen()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}
