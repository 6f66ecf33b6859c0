//! FRR (zebra and bgpd): configuration written from a [`Spec`], JSON of `vtysh` read back.

use std::{collections::BTreeMap, fmt::Write as _, net::IpAddr};

use ipnet::IpNet;
use serde::Deserialize;

use super::{RouteEntry, Session, Spec, bird::HOLD_TIME};

/// Writes bgpd's configuration for `spec`: both families on each session, ECMP over paths of equal length.
pub fn config(spec: &Spec) -> String {
    let mut text = format!(
        "log stdout\nrouter bgp {}\n bgp router-id {}\n no bgp default ipv4-unicast\n no bgp ebgp-requires-policy\n \
         no bgp network import-check\n bgp bestpath as-path multipath-relax\n timers bgp {} {HOLD_TIME}\n",
        spec.asn,
        spec.router_id,
        HOLD_TIME / 3
    );
    for neighbor in &spec.neighbors {
        let (address, asn) = (neighbor.address, neighbor.asn);
        let _ = writeln!(
            text,
            " neighbor {address} remote-as {asn}\n neighbor {address} description {}",
            neighbor.name
        );
        let _ = writeln!(
            text,
            " neighbor {address} timers connect 1\n neighbor {address} advertisement-interval 0"
        );
    }
    for (family, v4) in [("ipv4", true), ("ipv6", false)] {
        let _ = writeln!(text, " address-family {family} unicast");
        for neighbor in &spec.neighbors {
            let _ = writeln!(text, "  neighbor {} activate", neighbor.address);
        }
        for net in spec
            .originates
            .iter()
            .filter(|net| net.addr().is_ipv4() == v4)
        {
            let _ = writeln!(text, "  network {net}");
        }
        text.push_str("  maximum-paths 8\n exit-address-family\n");
    }
    text
}

/// Reads `show bgp neighbors json`.
pub fn parse_sessions(json: &str) -> serde_json::Result<Vec<Session>> {
    #[derive(Deserialize)]
    struct Neighbor {
        #[serde(rename = "bgpState", default)]
        state: String,
    }
    let neighbors: BTreeMap<String, serde_json::Value> = serde_json::from_str(json)?;
    let mut sessions = Vec::new();
    for (name, value) in neighbors {
        if let Ok(peer) = name.parse() {
            sessions.push(Session {
                peer,
                state: Neighbor::deserialize(value)?.state,
            });
        }
    }
    Ok(sessions)
}

/// Reads `show bgp ipv4|ipv6 unicast json`.
pub fn parse_routes(json: &str) -> serde_json::Result<Vec<RouteEntry>> {
    #[derive(Deserialize)]
    struct Table {
        #[serde(default)]
        routes: BTreeMap<IpNet, Vec<Way>>,
    }
    #[derive(Deserialize)]
    struct Way {
        #[serde(default)]
        bestpath: bool,
        #[serde(default)]
        multipath: bool,
        #[serde(default)]
        path: String,
        #[serde(default)]
        nexthops: Vec<NextHop>,
    }
    #[derive(Deserialize)]
    struct NextHop {
        ip: IpAddr,
        #[serde(default)]
        used: bool,
    }
    let table: Table = serde_json::from_str(json)?;
    let entry = |(prefix, ways): (IpNet, Vec<Way>)| {
        let used = ways.iter().filter(|way| way.bestpath || way.multipath);
        let hops =
            used.flat_map(|way| way.nexthops.iter().filter(|hop| hop.used).map(|hop| hop.ip));
        let mut next_hops: Vec<IpAddr> = hops.filter(|hop| !hop.is_unspecified()).collect();
        next_hops.sort();
        next_hops.dedup();
        let mut ordered: Vec<&Way> = ways.iter().collect();
        ordered.sort_by_key(|way| !way.bestpath);
        let path = |way: &&Way| {
            way.path
                .split(' ')
                .filter_map(|asn| asn.parse().ok())
                .collect()
        };
        RouteEntry {
            prefix,
            next_hops,
            paths: ordered.iter().map(path).collect(),
        }
    };
    Ok(table.routes.into_iter().map(entry).collect())
}

#[cfg(feature = "lab")]
pub use daemon::Frr;

#[cfg(feature = "lab")]
mod daemon {
    use std::{
        fs,
        path::{Path, PathBuf},
        process::Command,
        sync::Arc,
    };

    use anyhow::{Context as _, Result};

    use super::{RouteEntry, Session, Spec, config, parse_routes, parse_sessions};
    use crate::{Lab, Namespace, Process, router::Router, secs, wait::eventually};

    /// zebra and bgpd in a namespace.
    #[derive(Debug)]
    pub struct Frr {
        namespace: Arc<Namespace>,
        processes: Vec<Arc<Process>>,
        sockets: PathBuf,
    }

    impl Frr {
        /// Starts zebra and bgpd and waits until both answer.
        pub fn start(lab: &Lab, namespace: &Arc<Namespace>, spec: &Spec) -> Result<Self> {
            let label = namespace.label();
            let dir = lab.dir(label)?;
            fs::write(dir.join("zebra.conf"), "log stdout\n")?;
            fs::write(dir.join("bgpd.conf"), config(spec))?;
            fs::write(dir.join("vtysh.conf"), "")?;
            let user = unprivileged_user();
            std::os::unix::fs::chown(&dir, user, user).context("give FRR its directory")?;
            let mut processes = Vec::new();
            for daemon in ["zebra", "bgpd"] {
                let mut command = Command::new(Path::new(DAEMONS).join(daemon));
                command.arg("-f").arg(dir.join(format!("{daemon}.conf")));
                command.arg("-i").arg(dir.join(format!("{daemon}.pid")));
                command
                    .arg("-z")
                    .arg(dir.join("zserv.api"))
                    .arg("--vty_socket")
                    .arg(&dir);
                // Port 0: no telnet; the socket in `dir` is what vtysh talks to.
                command.args(["-P", "0", "-A", "127.0.0.1"]);
                let process = lab.spawn(&format!("{label}-{daemon}"), namespace, &mut command)?;
                // A bgpd that finds no zebra tries again only seconds later, and until then knows no interface and
                // refuses every IPv6 next hop.
                let socket = dir.join(if daemon == "zebra" {
                    "zserv.api"
                } else {
                    "bgpd.vty"
                });
                eventually("FRR's sockets", secs(10), || match process.ended() {
                    None if socket.exists() => Ok(()),
                    None => Err(format!("no {}", socket.display())),
                    Some(_) => Err(process.log_tail(3)),
                })?;
                processes.push(process);
            }
            let frr = Self {
                namespace: Arc::clone(namespace),
                processes,
                sockets: dir,
            };
            let sockets = frr.sockets.to_string_lossy().into_owned();
            for (file, question) in [
                ("frr-summary", "show bgp summary"),
                ("frr-neighbors", "show bgp neighbors"),
                ("frr-routes", "show bgp ipv4 unicast"),
                ("frr-routes6", "show bgp ipv6 unicast"),
            ] {
                lab.exhibit(
                    namespace,
                    file,
                    &["vtysh", "--vty_socket", &sockets, "-c", question],
                );
            }
            eventually("FRR to answer", secs(15), || {
                let ended = frr
                    .processes
                    .iter()
                    .find(|process| process.ended().is_some());
                match (ended, frr.vtysh("show bgp neighbors json")) {
                    (None, Ok(text)) if !text.contains("failed to connect") => Ok(()),
                    (Some(process), _) => Err(process.log_tail(3)),
                    (None, answer) => Err(answer.unwrap_or_else(|error| format!("{error:#}"))),
                }
            })?;
            Ok(frr)
        }

        /// Asks `vtysh`.
        pub fn vtysh(&self, question: &str) -> Result<String> {
            let sockets = self.sockets.to_string_lossy();
            self.namespace.run(
                "vtysh",
                &[
                    "--vty_socket",
                    &sockets,
                    "--config_dir",
                    &sockets,
                    "-c",
                    question,
                ],
            )
        }

        /// zebra's and bgpd's processes.
        pub fn processes(&self) -> &[Arc<Process>] {
            &self.processes
        }
    }

    impl Router for Frr {
        fn make(&self) -> &'static str {
            "FRR"
        }

        fn sessions(&self) -> Result<Vec<Session>> {
            Ok(parse_sessions(&self.vtysh("show bgp neighbors json")?)?)
        }

        fn routes(&self) -> Result<Vec<RouteEntry>> {
            let mut routes = parse_routes(&self.vtysh("show bgp ipv4 unicast json")?)?;
            routes.extend(parse_routes(&self.vtysh("show bgp ipv6 unicast json")?)?);
            routes.sort();
            Ok(routes)
        }
    }

    /// The user that FRR's daemons become, or root where there is none.
    fn unprivileged_user() -> Option<u32> {
        let passwd = fs::read_to_string("/etc/passwd").ok()?;
        passwd
            .lines()
            .find_map(|line| line.strip_prefix("frr:")?.split(':').nth(1)?.parse().ok())
    }

    const DAEMONS: &str = "/usr/lib/frr";
}
