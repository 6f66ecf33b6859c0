//! Commands that ask the daemon over its socket.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::args::{Family, RouteTable, Routes};
use super::{Args, Code, Failure, print, settings};
use crate::daemon::http::encode;
use crate::output::{Format, Table, answers, duration, structured};

/// How the daemon is.
pub(super) fn status(args: &Args) -> Result<String, Failure> {
    let status: answers::Status = ask(args, "/v1/status")?;
    let text = match args.format() {
        format @ (Format::Json | Format::Yaml) => structured(format, &status),
        Format::Table | Format::Wide | Format::Name => status_text(&status),
    };
    if status.ready {
        return Ok(text);
    }
    super::emit(&text);
    Err(Failure::new(
        Code::Failed,
        "the daemon is not ready; the reasons stand above",
    ))
}

/// Sessions.
pub(super) fn peers(args: &Args) -> Result<String, Failure> {
    let peers: Vec<answers::Peer> = ask(args, "/v1/bgp/peers")?;
    Ok(print(args, &peers, |peers| {
        let heads = &[
            "PEER",
            "NAME",
            "REMOTE-AS",
            "STATE",
            "SINCE",
            "FAMILY",
            "RECEIVED",
            "ACCEPTED",
            "ADVERTISED",
            "GR",
            "LAST-ERROR",
        ];
        let mut table = Table::new(heads);
        for peer in peers {
            let mut row = |family: &str, counts: [String; 3]| {
                let [received, accepted, advertised] = counts;
                table.row([
                    peer.peer.clone(),
                    peer.name.clone(),
                    peer.remote_as.to_string(),
                    peer.state.clone(),
                    duration(Duration::from_secs(peer.since_seconds)),
                    family.to_owned(),
                    received,
                    accepted,
                    advertised,
                    peer.graceful_restart.clone(),
                    peer.last_error.clone(),
                ]);
            };
            if peer.families.is_empty() {
                row("", Default::default());
            }
            for family in &peer.families {
                row(
                    &family.family,
                    [family.received, family.accepted, family.advertised]
                        .map(|count| count.to_string()),
                );
            }
        }
        table
    }))
}

/// Routes.
pub(super) fn routes(args: &Args, routes: &Routes) -> Result<String, Failure> {
    let table = match routes.table {
        RouteTable::Received => "received",
        RouteTable::Accepted => "accepted",
        RouteTable::Best => "best",
        RouteTable::Advertised => "advertised",
    };
    let mut path = format!("/v1/bgp/routes?table={table}&limit={}", routes.limit);
    let family = routes.family.map(|family| match family {
        Family::Ipv4 => "ipv4",
        Family::Ipv6 => "ipv6",
    });
    for (key, value) in [
        ("peer", routes.peer.map(|peer| peer.to_string())),
        ("family", family.map(str::to_owned)),
        ("prefix", routes.prefix.map(|prefix| prefix.to_string())),
    ] {
        if let Some(value) = value {
            let _ = write!(path, "&{key}={}", encode(&value));
        }
    }
    let routes: Vec<answers::Route> = ask(args, &path)?;
    let wide = args.format() == Format::Wide;
    Ok(print(args, &routes, |routes| {
        let heads: &[_] = &[
            "PREFIX",
            "NEXT-HOP",
            "PEER",
            "USED",
            "AS-PATH",
            "ATTRIBUTES",
            "REASON",
        ];
        let mut table = Table::new(if wide { heads } else { &heads[..5] });
        for route in routes {
            let cells = [
                route.prefix.to_string(),
                route
                    .next_hop
                    .map(|hop| hop.to_string())
                    .unwrap_or_default(),
                route.peer.clone(),
                if route.used { "yes" } else { "no" }.to_owned(),
                route.as_path.clone(),
                route.attributes.clone(),
                route.reason.clone(),
            ];
            table.row(cells.into_iter().take(if wide { 7 } else { 5 }));
        }
        table
    }))
}

/// Endpoints of this host.
pub(super) fn endpoints(args: &Args) -> Result<String, Failure> {
    let endpoints: Vec<answers::Endpoint> = ask(args, "/v1/endpoints")?;
    let wide = args.format() == Format::Wide;
    Ok(print(args, &endpoints, |endpoints| {
        let heads: &[_] = &[
            "NAMESPACE",
            "NAME",
            "INTERFACE",
            "NETWORKS",
            "STATE",
            "WORKLOAD",
            "MAC",
            "PROFILES",
            "INGRESS",
            "EGRESS",
        ];
        let mut table = Table::new(if wide { heads } else { &heads[..5] });
        for endpoint in endpoints {
            let cells = [
                endpoint.namespace.clone(),
                endpoint.name.clone(),
                endpoint.interface.clone(),
                endpoint
                    .networks
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(","),
                endpoint.state.clone(),
                endpoint.workload.clone(),
                endpoint.mac.clone().unwrap_or_default(),
                endpoint.profiles.join(","),
                endpoint.ingress.join(","),
                endpoint.egress.join(","),
            ];
            table.row(cells.into_iter().take(if wide { 10 } else { 5 }));
        }
        table
    }))
}

/// One endpoint of this host.
pub(super) fn endpoint(args: &Args, name: &str) -> Result<String, Failure> {
    let endpoint: answers::Endpoint = ask(args, &format!("/v1/endpoint?name={}", encode(name)))?;
    Ok(print(args, &endpoint, |endpoint| {
        let list = |items: &[String]| {
            if items.is_empty() {
                "none".to_owned()
            } else {
                items.join(", ")
            }
        };
        let mut table = Table::new(&["FIELD", "VALUE"]);
        table.row([
            "endpoint".to_owned(),
            format!("{}/{}", endpoint.namespace, endpoint.name),
        ]);
        table.row(["workload", endpoint.workload.as_str()]);
        let index = endpoint
            .ifindex
            .map(|index| format!(" (index {index})"))
            .unwrap_or_default();
        table.row([
            "interface".to_owned(),
            format!("{}{index}", endpoint.interface),
        ]);
        table.row(["mac", endpoint.mac.as_deref().unwrap_or_default()]);
        table.row([
            "networks".to_owned(),
            list(
                &endpoint
                    .networks
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>(),
            ),
        ]);
        table.row(["profiles".to_owned(), list(&endpoint.profiles)]);
        table.row(["ingress policies".to_owned(), list(&endpoint.ingress)]);
        table.row(["egress policies".to_owned(), list(&endpoint.egress)]);
        table.row(["state", endpoint.state.as_str()]);
        table
    }))
}

/// The rules of an endpoint.
pub(super) fn policy(args: &Args, name: &str) -> Result<String, Failure> {
    let policy: answers::EndpointPolicy =
        ask(args, &format!("/v1/policy?endpoint={}", encode(name)))?;
    Ok(print(args, &policy, |policy| {
        let mut table = Table::new(&["DIRECTION", "RULE", "ACTION", "PACKETS", "MATCHES"]);
        for (direction, rules) in [("ingress", &policy.ingress), ("egress", &policy.egress)] {
            for rule in rules {
                table.row([
                    direction,
                    &rule.rule,
                    &rule.action,
                    &rule.packets.to_string(),
                    &rule.matches,
                ]);
            }
        }
        table
    }))
}

/// The connection table.
pub(super) fn flows(args: &Args, limit: usize, address: Option<IpAddr>) -> Result<String, Failure> {
    let address = address
        .map(|address| format!("&address={}", encode(&address.to_string())))
        .unwrap_or_default();
    let flows: Vec<answers::Flow> = ask(args, &format!("/v1/conntrack?limit={limit}{address}"))?;
    if flows.len() == limit {
        super::note(&format!(
            "only the first {limit} are shown; --limit shows more"
        ));
    }
    Ok(print(args, &flows, |flows| {
        let mut table = Table::new(&[
            "PROTOCOL",
            "SOURCE",
            "DESTINATION",
            "STATE",
            "PACKETS",
            "BYTES",
            "IDLE",
        ]);
        for flow in flows {
            table.row([
                flow.protocol.clone(),
                socket(flow.source, flow.source_port),
                socket(flow.destination, flow.destination_port),
                flow.state.clone(),
                flow.packets.to_string(),
                flow.bytes.to_string(),
                duration(Duration::from_secs(flow.idle_seconds)),
            ]);
        }
        table
    }))
}

/// Keys that are not as they should be.
pub(super) fn drift(args: &Args) -> Result<String, Failure> {
    let drift: Vec<answers::Drift> = ask(args, "/v1/drift")?;
    let text = match args.format() {
        format @ (Format::Json | Format::Yaml) => structured(format, &drift),
        Format::Table | Format::Wide | Format::Name => {
            let mut table = Table::new(&["TABLE", "KEY", "WANTED", "ACTUAL", "REASON"]);
            for drift in &drift {
                table.row([
                    drift.table.as_str(),
                    &drift.key,
                    drift.wanted.as_deref().unwrap_or("nothing"),
                    drift.actual.as_deref().unwrap_or("nothing"),
                    &drift.reason,
                ]);
            }
            table.render(!args.no_headers)
        }
    };
    if drift.is_empty() {
        return Ok(text);
    }
    super::emit(&text);
    let count = drift.len();
    Err(Failure::new(
        Code::Failed,
        format!(
            "{count} keys are not as they should be; the daemon tries again, its log tells why"
        ),
    ))
}

fn status_text(status: &answers::Status) -> String {
    let mut out = String::new();
    let uptime = duration(Duration::from_secs(status.uptime_seconds));
    let ready = if status.ready { "ready" } else { "NOT READY" };
    let _ = writeln!(
        out,
        "Node:       {} ({ready}, up {uptime}, version {})",
        status.nodename, status.version
    );
    let store = &status.store;
    let _ = writeln!(
        out,
        "Datastore:  {}, revision {}, {}",
        store.kind,
        store.revision,
        super::store_state::words(store)
    );
    let _ = writeln!(
        out,
        "Endpoints:  {} of {} up",
        status.endpoints.good, status.endpoints.all
    );
    let _ = writeln!(
        out,
        "BGP peers:  {} of {} established",
        status.peers.good, status.peers.all
    );
    let drift = if status.unsettled == 0 {
        "as wanted".to_owned()
    } else {
        format!("{} keys differ (cleat show drift)", status.unsettled)
    };
    let _ = writeln!(out, "Kernel:     {drift}");
    for latch in status.latches.iter().filter(|latch| !latch.ready) {
        let _ = writeln!(out, "Waits for:  {} ({})", latch.name, latch.reason);
    }
    if status.problems.is_empty() {
        out.push_str("Problems:   none\n");
    } else {
        let _ = writeln!(out, "Problems:   {}", status.problems.len());
        for problem in &status.problems {
            let field = if problem.field.is_empty() {
                String::new()
            } else {
                format!(" {}:", problem.field)
            };
            let _ = writeln!(out, "  {}:{field} {}", problem.object, problem.reason);
        }
    }
    out
}

fn socket(address: IpAddr, port: u16) -> String {
    match (address, port) {
        (address, 0) => address.to_string(),
        (IpAddr::V4(address), port) => format!("{address}:{port}"),
        (IpAddr::V6(address), port) => format!("[{address}]:{port}"),
    }
}

fn ask<T: DeserializeOwned + Serialize>(args: &Args, path: &str) -> Result<T, Failure> {
    send(args, Method::GET, path)
}

/// Sends the daemon a request and reads its answer.
pub(super) fn send<T: DeserializeOwned + Serialize>(
    args: &Args,
    method: Method,
    path: &str,
) -> Result<T, Failure> {
    let socket = settings::socket(args)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (status, body) = runtime
        .block_on(async { tokio::time::timeout(TIMEOUT, request(&socket, method, path)).await })
        .map_err(|_| {
            let seconds = TIMEOUT.as_secs();
            Failure::new(
                Code::NoDaemon,
                format!(
                    "the daemon at {} did not answer within {seconds} s",
                    socket.display()
                ),
            )
        })??;
    match status {
        StatusCode::OK => Ok(serde_json::from_slice(&body)?),
        StatusCode::NOT_FOUND => Err(Failure::new(Code::Failed, String::from_utf8_lossy(&body))),
        StatusCode::SERVICE_UNAVAILABLE => {
            Err(Failure::new(Code::NoDaemon, String::from_utf8_lossy(&body)))
        }
        _ => Err(Failure::new(
            Code::Failed,
            format!(
                "the daemon answered {status}: {}",
                String::from_utf8_lossy(&body)
            ),
        )),
    }
}

async fn request(
    socket: &Path,
    method: Method,
    path: &str,
) -> Result<(StatusCode, Bytes), Failure> {
    let stream = tokio::net::UnixStream::connect(socket)
        .await
        .map_err(|error| {
            let hint = if error.kind() == std::io::ErrorKind::PermissionDenied {
                "ask as root or as a member of the socket's group"
            } else {
                "is it running? `systemctl status cleat`; --socket names another socket"
            };
            Failure::new(
                Code::NoDaemon,
                format!(
                    "the daemon does not answer at {}: {error}; {hint}",
                    socket.display()
                ),
            )
        })?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "cleat")
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    Ok((status, response.into_body().collect().await?.to_bytes()))
}

/// Longer than a dump of full tables takes.
const TIMEOUT: Duration = Duration::from_secs(30);
