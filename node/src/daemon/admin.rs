//! The admin HTTP server: `/live`, `/ready`, `/metrics`.
//!
//! It has a thread and a runtime of its own, so that a probe is answered truthfully while the others hang.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hyper::{Method, StatusCode};
use prometheus_client::registry::Registry;

use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::health::Health;
use super::http::{self, Ask, Reply};
use crate::felix::{Listen, Settings};

/// The server's address, and the way to have it listen on others.
pub struct Admin {
    address: SocketAddr,
    wanted: watch::Sender<Vec<Extra>>,
}

/// An address beside the admin address, for some of the paths.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Extra {
    listen: Listen,
    only: &'static [&'static str],
}

impl Admin {
    /// The address; it has a port even if 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Listens where Felix's parameters want probes and metrics, and nowhere else but at the admin address.
    pub fn listen(&self, settings: &Settings) {
        let health = settings.health.iter().map(|listen| (listen, PROBES));
        let metrics = settings.metrics.iter().map(|listen| (listen, METRICS));
        let extras: Vec<Extra> = health
            .chain(metrics)
            .map(|(listen, only)| Extra {
                listen: listen.clone(),
                only,
            })
            .collect();
        self.wanted.send_if_modified(|wanted| {
            let changed = *wanted != extras;
            *wanted = extras;
            changed
        });
    }
}

/// Listens on the address and serves until the process ends.
pub fn start(address: SocketAddr, health: Health, registry: Registry) -> anyhow::Result<Admin> {
    let listener = std::net::TcpListener::bind(address).with_context(|| {
        format!("listen on adminAddress {address}: is another daemon (or Felix) running?")
    })?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (wanted, wishes) = watch::channel(Vec::new());
    std::thread::Builder::new()
        .name("admin".into())
        .spawn(move || {
            runtime.block_on(async move {
                let registry = Arc::new(registry);
                tokio::spawn(extras(
                    wishes,
                    address,
                    health.clone(),
                    Arc::clone(&registry),
                ));
                match tokio::net::TcpListener::from_std(listener) {
                    Ok(listener) => accept(listener, ALL, health, registry).await,
                    Err(error) => tracing::error!(%error, "the admin server cannot listen"),
                }
            });
        })?;
    Ok(Admin { address, wanted })
}

/// Keeps a listener for each address that is wanted; one that cannot be had is tried again.
async fn extras(
    mut wishes: watch::Receiver<Vec<Extra>>,
    admin: SocketAddr,
    health: Health,
    registry: Arc<Registry>,
) {
    let mut running: Vec<(Extra, AbortHandle)> = Vec::new();
    loop {
        let wanted = wishes.borrow_and_update().clone();
        running.retain(|(extra, task)| {
            let keep = wanted.contains(extra);
            if !keep {
                tracing::info!(
                    host = extra.listen.host,
                    port = extra.listen.port,
                    "listens no more"
                );
                task.abort();
            }
            keep
        });
        for extra in wanted {
            if !running.iter().any(|(known, _)| *known == extra) {
                let serving = serve_at(extra.clone(), admin, health.clone(), Arc::clone(&registry));
                running.push((extra, tokio::spawn(serving).abort_handle()));
            }
        }
        if wishes.changed().await.is_err() {
            return;
        }
    }
}

async fn serve_at(extra: Extra, admin: SocketAddr, health: Health, registry: Arc<Registry>) {
    let Extra { listen, only } = extra;
    loop {
        let bound = bind(&listen, admin).await;
        match bound {
            Ok(Some(listener)) => {
                tracing::info!(host = listen.host, port = listen.port, "listens");
                return accept(listener, only, health, registry).await;
            }
            // The admin server answers there already.
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(host = listen.host, port = listen.port, %error, "cannot listen; trying again");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

async fn bind(
    listen: &Listen,
    admin: SocketAddr,
) -> std::io::Result<Option<tokio::net::TcpListener>> {
    let addresses: Vec<SocketAddr> = if listen.host.is_empty() {
        // An IPv6 socket serves both, where there is IPv6.
        vec![
            (Ipv6Addr::UNSPECIFIED, listen.port).into(),
            (Ipv4Addr::UNSPECIFIED, listen.port).into(),
        ]
    } else {
        tokio::net::lookup_host((listen.host.as_str(), listen.port))
            .await?
            .collect()
    };
    if addresses.contains(&admin) {
        return Ok(None);
    }
    tokio::net::TcpListener::bind(addresses.as_slice())
        .await
        .map(Some)
}

async fn accept(
    listener: tokio::net::TcpListener,
    only: &'static [&'static str],
    health: Health,
    registry: Arc<Registry>,
) {
    let connections = http::connections();
    loop {
        let Ok(permit) = connections.clone().acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, mostly; they come back.
                tracing::warn!(%error, "the admin server cannot accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (health, registry) = (health.clone(), Arc::clone(&registry));
        tokio::spawn(async move {
            http::serve(stream, |ask| {
                let served = only.is_empty() || only.contains(&ask.path.as_str());
                std::future::ready(if served {
                    answer(&ask, &health, &registry)
                } else {
                    Reply::text(
                        StatusCode::NOT_FOUND,
                        format!("known: {}\n", only.join(" ")),
                    )
                })
            })
            .await;
            drop(permit);
        });
    }
}

fn answer(ask: &Ask, health: &Health, registry: &Registry) -> Reply {
    if ask.method != Method::GET {
        return Reply::text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
    }
    match ask.path.as_str() {
        // Felix's names beside, for the probes that exist.
        "/live" | "/liveness" => {
            let silent = health.silent(Instant::now());
            if silent.is_empty() {
                return Reply::text(StatusCode::OK, "ok\n");
            }
            let mut body = String::new();
            for (name, age) in silent {
                let _ = writeln!(body, "{name}: silent for {} s", age.as_secs());
            }
            Reply::text(StatusCode::SERVICE_UNAVAILABLE, body)
        }
        "/ready" | "/readiness" => {
            let latches = health.latches();
            let ready = latches.iter().all(|latch| latch.ready);
            let mut body = String::new();
            for latch in latches {
                let state = match (latch.ready, latch.reason.as_str()) {
                    (true, "") => "ok".to_owned(),
                    (true, note) => format!("ok ({note})"),
                    (false, reason) => reason.to_owned(),
                };
                let _ = writeln!(body, "{}: {state}", latch.name);
            }
            Reply::text(
                if ready {
                    StatusCode::OK
                } else {
                    StatusCode::SERVICE_UNAVAILABLE
                },
                body,
            )
        }
        "/metrics" => {
            let mut body = String::new();
            match prometheus_client::encoding::text::encode(&mut body, registry) {
                Ok(()) => Reply {
                    status: StatusCode::OK,
                    content_type: "application/openmetrics-text; version=1.0.0; charset=utf-8",
                    body,
                },
                Err(error) => Reply::text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
            }
        }
        _ => Reply::text(StatusCode::NOT_FOUND, "known: /live /ready /metrics\n"),
    }
}

/// Every path.
const ALL: &[&str] = &[];
const PROBES: &[&str] = &["/live", "/liveness", "/ready", "/readiness"];
const METRICS: &[&str] = &["/metrics"];
/// An address may come up later, or be given up by another process.
const AGAIN: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::super::health::Latch;
    use super::super::metrics::Metrics;
    use super::*;

    fn get(address: SocketAddr, path: &str) -> (u16, String) {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (
            head.split(' ').nth(1).unwrap().parse().unwrap(),
            body.to_owned(),
        )
    }

    #[test]
    fn probes_tell_readiness_with_its_reasons_and_metrics_are_served() {
        let health = Health::default();
        let (_, registry) = Metrics::new();
        let admin = start("127.0.0.1:0".parse().unwrap(), health.clone(), registry).unwrap();
        let address = admin.address();
        assert_eq!(get(address, "/live"), (200, "ok\n".into()));
        let (status, body) = get(address, "/ready");
        assert_eq!(status, 503);
        assert!(body.contains("store in sync: not yet"), "{body}");
        for latch in [
            Latch::StoreInSync,
            Latch::FirstApply,
            Latch::ProgramsAttached,
            Latch::Listeners,
        ] {
            health.set(latch, Ok(()));
        }
        assert_eq!(get(address, "/readiness").0, 200);
        health.set_noting(Latch::StoreInSync, "from the state of yesterday".into());
        let (status, body) = get(address, "/ready");
        assert_eq!(status, 200);
        assert!(
            body.contains("store in sync: ok (from the state of yesterday)"),
            "{body}"
        );
        let (status, body) = get(address, "/metrics");
        assert_eq!(status, 200);
        assert!(
            body.contains("cleat_build_info") && body.ends_with("# EOF\n"),
            "{body}"
        );
        assert_eq!(get(address, "/etc/passwd").0, 404);
        assert!(start(address, Health::default(), Metrics::new().1).is_err());
    }
}
