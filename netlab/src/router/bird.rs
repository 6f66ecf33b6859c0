//! BIRD 2: configuration written from a [`Spec`], output of `birdc` read back.

use std::{collections::BTreeMap, fmt::Write as _, net::IpAddr};

use ipnet::IpNet;

use super::{RouteEntry, Session, Spec};

/// Writes a configuration for `spec`: routes of both families to the kernel, ECMP over equal paths.
pub fn config(spec: &Spec) -> String {
    let mut text = format!(
        "router id {};\nlog stderr all;\nprotocol device {{ scan time 1; }}\n",
        spec.router_id
    );
    for family in ["ipv4", "ipv6"] {
        let _ = writeln!(
            text,
            "protocol kernel {{ {family} {{ export where source = RTS_BGP; }}; merge paths on; }}"
        );
        let own: Vec<&IpNet> = spec
            .originates
            .iter()
            .filter(|net| net.addr().is_ipv4() == (family == "ipv4"))
            .collect();
        if !own.is_empty() {
            let _ = writeln!(text, "protocol static {{ {family};");
            for net in own {
                let _ = writeln!(text, "  route {net} unreachable;");
            }
            text.push_str("}\n");
        }
    }
    for neighbor in &spec.neighbors {
        let _ = writeln!(
            text,
            "protocol bgp to_{} {{\n  local {} as {};\n  neighbor {} as {};\n  hold time {HOLD_TIME};\n  connect retry time 1;\n  \
             connect delay time 1;\n  error wait time 1, 2;\n  \
             ipv4 {{ import all; export where source ~ [ RTS_BGP, RTS_STATIC ]; }};\n  \
             ipv6 {{ import all; export where source ~ [ RTS_BGP, RTS_STATIC ]; next hop address {}; }};\n}}",
            neighbor.name,
            neighbor.local,
            spec.asn,
            neighbor.address,
            neighbor.asn,
            neighbor.local_v6
        );
    }
    text
}

/// Reads `show protocols all`.
pub fn parse_sessions(text: &str) -> Vec<Session> {
    let mut sessions = Vec::new();
    let mut state: Option<String> = None;
    for line in text.lines() {
        if let Some(value) = line.trim().strip_prefix("BGP state:") {
            state = Some(value.trim().to_owned());
        } else if let Some(value) = line.trim().strip_prefix("Neighbor address:")
            && let (Some(state), Ok(peer)) = (state.take(), value.trim().parse())
        {
            sessions.push(Session { peer, state });
        }
    }
    sessions
}

/// Reads `show route all`. A prefix is followed by its ways, the best first.
pub fn parse_routes(text: &str) -> Vec<RouteEntry> {
    let mut routes: BTreeMap<IpNet, RouteEntry> = BTreeMap::new();
    let mut current: Option<IpNet> = None;
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if !line.starts_with(char::is_whitespace)
            && let Some(prefix) = words.first().and_then(|word| word.parse::<IpNet>().ok())
        {
            current = Some(prefix);
        }
        let Some(prefix) = current else { continue };
        let route = routes
            .entry(prefix)
            .or_insert_with(|| RouteEntry::new(prefix));
        match words.as_slice() {
            ["via", hop, ..] => {
                if let Ok(hop) = hop.parse::<IpAddr>()
                    && !route.next_hops.contains(&hop)
                {
                    route.next_hops.push(hop);
                    route.next_hops.sort();
                }
            }
            ["BGP.as_path:", path @ ..] => {
                route
                    .paths
                    .push(path.iter().filter_map(|asn| asn.parse().ok()).collect());
            }
            _ => {}
        }
    }
    routes.into_values().collect()
}

/// Seconds; short, so that a silent neighbour is noticed within a test.
pub(super) const HOLD_TIME: u32 = 9;

#[cfg(feature = "lab")]
pub use daemon::Bird;

#[cfg(feature = "lab")]
mod daemon {
    use std::{fs, path::PathBuf, process::Command, sync::Arc};

    use anyhow::Result;

    use super::{RouteEntry, Session, Spec, config, parse_routes, parse_sessions};
    use crate::{Lab, Namespace, Process, router::Router, secs, wait::eventually};

    /// A BIRD in a namespace.
    #[derive(Debug)]
    pub struct Bird {
        namespace: Arc<Namespace>,
        process: Arc<Process>,
        control: PathBuf,
    }

    impl Bird {
        /// Starts BIRD and waits until it answers.
        pub fn start(lab: &Lab, namespace: &Arc<Namespace>, spec: &Spec) -> Result<Self> {
            let label = namespace.label();
            let dir = lab.dir(label)?;
            let (file, control) = (dir.join("bird.conf"), dir.join("bird.ctl"));
            fs::write(&file, config(spec))?;
            let mut command = Command::new("bird");
            command
                .arg("-f")
                .arg("-c")
                .arg(&file)
                .arg("-s")
                .arg(&control)
                .arg("-P")
                .arg(dir.join("bird.pid"));
            let process = lab.spawn(&format!("{label}-bird"), namespace, &mut command)?;
            let bird = Self {
                namespace: Arc::clone(namespace),
                process,
                control,
            };
            let control = bird.control.to_string_lossy().into_owned();
            for (file, question) in [
                ("bird-protocols", "show protocols all"),
                ("bird-routes", "show route all"),
            ] {
                lab.exhibit(namespace, file, &["birdc", "-s", &control, question]);
            }
            eventually("BIRD to answer", secs(10), || {
                bird.birdc("show status")
                    .map_err(|_| bird.process.log_tail(3))
            })?;
            Ok(bird)
        }

        /// Asks `birdc`.
        pub fn birdc(&self, question: &str) -> Result<String> {
            self.namespace
                .run("birdc", &["-s", &self.control.to_string_lossy(), question])
        }

        /// The daemon's process.
        pub fn process(&self) -> &Process {
            &self.process
        }
    }

    impl Router for Bird {
        fn make(&self) -> &'static str {
            "BIRD"
        }

        fn sessions(&self) -> Result<Vec<Session>> {
            Ok(parse_sessions(&self.birdc("show protocols all")?))
        }

        fn routes(&self) -> Result<Vec<RouteEntry>> {
            Ok(parse_routes(&self.birdc("show route all")?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_of_a_prefix_is_read_the_best_first() {
        let text = "\
BIRD 2.0.12 ready.
Table master4:
10.65.1.0/26         unreachable [static1 21:18:08.780] * (200)
\tType: static univ
10.65.2.0/26         unicast [to_tor1 21:18:09.433] * (100) [AS65012i]
\tvia 10.0.1.1 on eth0
\tType: BGP univ
\tBGP.as_path: 65001 65012
\tBGP.next_hop: 10.0.1.1
                     unicast [to_tor2 21:18:19.752] (100) [AS65012i]
\tvia 10.0.3.1 on eth1
\tBGP.as_path: 65002 65012

Table master6:
fd65:0:0:2::/122     unicast [to_tor1 21:18:09.433 from 10.0.1.1] * (100) [AS65012i]
\tvia fd00:0:0:1::1 on eth0
\tBGP.as_path: 65001 65012
\tBGP.next_hop: fd00:0:0:1::1 fe80::9c75:71ff:fe8e:4b46
";
        let route = |prefix: &str, next_hops: &[&str], paths: &[&[u32]]| RouteEntry {
            prefix: prefix.parse().unwrap(),
            next_hops: next_hops.iter().map(|hop| hop.parse().unwrap()).collect(),
            paths: paths.iter().map(|path| path.to_vec()).collect(),
        };
        assert_eq!(
            parse_routes(text),
            [
                route("10.65.1.0/26", &[], &[]),
                route(
                    "10.65.2.0/26",
                    &["10.0.1.1", "10.0.3.1"],
                    &[&[65001, 65012], &[65002, 65012]]
                ),
                route("fd65:0:0:2::/122", &["fd00:0:0:1::1"], &[&[65001, 65012]]),
            ]
        );
    }

    #[test]
    fn sessions_are_read_with_their_state() {
        let text = "\
kernel1    Kernel     master4    up     21:18:08.440
to_tor1    BGP        ---        up     21:18:09.433  Established
  BGP state:          Established
    Neighbor address: 10.0.1.1
to_tor2    BGP        ---        start  21:18:08.440  Active        Socket: Connection refused
  BGP state:          Active
    Neighbor address: 10.0.3.1
";
        let session = |peer: &str, state: &str| Session {
            peer: peer.parse().unwrap(),
            state: state.into(),
        };
        assert_eq!(
            parse_sessions(text),
            [
                session("10.0.1.1", "Established"),
                session("10.0.3.1", "Active")
            ]
        );
    }
}
