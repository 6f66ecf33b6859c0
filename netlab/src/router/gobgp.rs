//! GoBGP: configuration written from a [`Spec`], JSON of `gobgp` read back. It has no kernel of its own to feed: it is a
//! peer to talk to, not a router to send packets through.

use std::{collections::BTreeMap, fmt::Write as _, net::IpAddr};

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;

use super::{RouteEntry, Session, Spec, bird::HOLD_TIME};

/// Writes a configuration in TOML.
pub fn config(spec: &Spec) -> String {
    let mut text = format!(
        "[global.config]\n  as = {}\n  router-id = \"{}\"\n",
        spec.asn, spec.router_id
    );
    for neighbor in &spec.neighbors {
        let _ = write!(
            text,
            "[[neighbors]]\n  [neighbors.config]\n    neighbor-address = \"{}\"\n    peer-as = {}\n  [neighbors.timers.config]\n    \
             connect-retry = 1\n    idle-hold-time-after-reset = 1\n    hold-time = {HOLD_TIME}\n    keepalive-interval = {}\n",
            neighbor.address,
            neighbor.asn,
            HOLD_TIME / 3
        );
        for family in ["ipv4-unicast", "ipv6-unicast"] {
            let _ = write!(
                text,
                "  [[neighbors.afi-safis]]\n    [neighbors.afi-safis.config]\n      afi-safi-name = \"{family}\"\n"
            );
        }
    }
    text
}

/// Reads `gobgp neighbor -j`.
pub fn parse_sessions(json: &str) -> serde_json::Result<Vec<Session>> {
    #[derive(Deserialize)]
    struct Neighbor {
        state: State,
    }
    #[derive(Deserialize)]
    struct State {
        neighbor_address: IpAddr,
        /// An enum of the API: 6 is established.
        #[serde(default)]
        session_state: u8,
    }
    let neighbors: Vec<Neighbor> = serde_json::from_str(json)?;
    let session = |neighbor: Neighbor| {
        let names = [
            "Unknown",
            "Idle",
            "Connect",
            "Active",
            "OpenSent",
            "OpenConfirm",
            "Established",
        ];
        let state = names
            .get(usize::from(neighbor.state.session_state))
            .unwrap_or(&"Unknown");
        Session {
            peer: neighbor.state.neighbor_address,
            state: (*state).to_owned(),
        }
    };
    Ok(neighbors.into_iter().map(session).collect())
}

/// Reads `gobgp global rib -j`.
pub fn parse_routes(json: &str) -> serde_json::Result<Vec<RouteEntry>> {
    #[derive(Deserialize)]
    struct Way {
        nlri: Nlri,
        #[serde(default)]
        attrs: Vec<Value>,
    }
    #[derive(Deserialize)]
    struct Nlri {
        prefix: IpNet,
    }
    let table: BTreeMap<String, Vec<Way>> = serde_json::from_str(json)?;
    let mut routes = Vec::new();
    for ways in table.into_values() {
        let Some(first) = ways.first() else { continue };
        let mut next_hops: Vec<IpAddr> = ways
            .iter()
            .flat_map(|way| way.attrs.iter().filter_map(next_hop))
            .collect();
        next_hops.retain(|hop| !hop.is_unspecified());
        next_hops.sort();
        next_hops.dedup();
        let paths = ways
            .iter()
            .filter_map(|way| way.attrs.iter().find_map(as_path))
            .collect();
        routes.push(RouteEntry {
            prefix: first.nlri.prefix,
            next_hops,
            paths,
        });
    }
    routes.sort();
    Ok(routes)
}

/// The next hop in NEXT_HOP (RFC 4271 5.1.3) or MP_REACH_NLRI (RFC 4760 3).
fn next_hop(attribute: &Value) -> Option<IpAddr> {
    let kind = attribute.get("type")?.as_u64()?;
    [3, 14]
        .contains(&kind)
        .then(|| attribute.get("nexthop")?.as_str()?.parse().ok())?
}

/// The autonomous systems in AS_PATH (RFC 4271 5.1.2), whatever their segment.
fn as_path(attribute: &Value) -> Option<Vec<u32>> {
    let segments = attribute.get("as_paths")?.as_array()?;
    let numbers = segments
        .iter()
        .filter_map(|segment| segment.get("asns")?.as_array());
    Some(
        numbers
            .flatten()
            .filter_map(|asn| u32::try_from(asn.as_u64()?).ok())
            .collect(),
    )
}

#[cfg(feature = "lab")]
pub use daemon::GoBgp;

#[cfg(feature = "lab")]
mod daemon {
    use std::{fs, process::Command, sync::Arc};

    use anyhow::Result;

    use super::{RouteEntry, Session, Spec, config, parse_routes, parse_sessions};
    use crate::{Lab, Namespace, Process, router::Router, secs, wait::eventually};

    /// A gobgpd in a namespace.
    #[derive(Debug)]
    pub struct GoBgp {
        namespace: Arc<Namespace>,
        process: Arc<Process>,
    }

    impl GoBgp {
        /// Starts gobgpd, waits until it answers and has it announce the prefixes of `spec`.
        pub fn start(lab: &Lab, namespace: &Arc<Namespace>, spec: &Spec) -> Result<Self> {
            let label = namespace.label();
            let file = lab.dir(label)?.join("gobgpd.toml");
            fs::write(&file, config(spec))?;
            let mut command = Command::new("gobgpd");
            command.arg("-f").arg(&file).args([
                "--api-hosts",
                "127.0.0.1:50051",
                "--pprof-disable",
            ]);
            let process = lab.spawn(&format!("{label}-gobgpd"), namespace, &mut command)?;
            let gobgp = Self {
                namespace: Arc::clone(namespace),
                process,
            };
            lab.exhibit(namespace, "gobgp-neighbors", &["gobgp", "neighbor"]);
            lab.exhibit(namespace, "gobgp-routes", &["gobgp", "global", "rib"]);
            lab.exhibit(
                namespace,
                "gobgp-routes6",
                &["gobgp", "global", "rib", "-a", "ipv6"],
            );
            eventually("GoBGP to answer", secs(10), || {
                gobgp
                    .gobgp(&["global"])
                    .map_err(|_| gobgp.process.log_tail(3))
            })?;
            for net in &spec.originates {
                let family = if net.addr().is_ipv4() { "ipv4" } else { "ipv6" };
                gobgp.gobgp(&["global", "rib", "add", &net.to_string(), "-a", family])?;
            }
            Ok(gobgp)
        }

        /// Asks `gobgp`.
        pub fn gobgp(&self, args: &[&str]) -> Result<String> {
            self.namespace.run("gobgp", args)
        }

        /// The daemon's process.
        pub fn process(&self) -> &Process {
            &self.process
        }
    }

    impl Router for GoBgp {
        fn make(&self) -> &'static str {
            "GoBGP"
        }

        fn sessions(&self) -> Result<Vec<Session>> {
            Ok(parse_sessions(&self.gobgp(&["neighbor", "-j"])?)?)
        }

        fn routes(&self) -> Result<Vec<RouteEntry>> {
            let mut routes = parse_routes(&self.gobgp(&["global", "rib", "-a", "ipv4", "-j"])?)?;
            routes.extend(parse_routes(
                &self.gobgp(&["global", "rib", "-a", "ipv6", "-j"])?,
            )?);
            routes.sort();
            Ok(routes)
        }
    }
}
