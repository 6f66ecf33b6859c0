//! Listening sockets: one for each configured address, tried again when it cannot be had.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::status::ListenerStatus;

/// The listeners that run.
#[derive(Debug)]
pub(super) struct Listeners {
    running: BTreeMap<SocketAddr, (JoinHandle<()>, Shared)>,
    accepted: mpsc::Sender<TcpStream>,
}

/// Where it really listens, or why it does not.
type Shared = Arc<Mutex<Result<SocketAddr, String>>>;

impl Listeners {
    /// None yet. What they accept goes to `accepted`.
    pub(super) fn new(accepted: mpsc::Sender<TcpStream>) -> Self {
        Self {
            running: BTreeMap::new(),
            accepted,
        }
    }

    /// Listens on these addresses and no others. Accepted connections stay.
    pub(super) fn set(&mut self, wanted: &[SocketAddr]) {
        self.running.retain(|address, (task, _)| {
            let keep = wanted.contains(address);
            if !keep {
                task.abort();
            }
            keep
        });
        for &address in wanted {
            let accepted = &self.accepted;
            self.running.entry(address).or_insert_with(|| {
                let shared: Shared = Arc::new(Mutex::new(Err("starting".to_owned())));
                let task = tokio::spawn(listen(address, accepted.clone(), Arc::clone(&shared)));
                (task, shared)
            });
        }
    }

    /// Each with its error. The port is the one really used where 0 was asked for.
    pub(super) fn status(&self) -> Vec<ListenerStatus> {
        let status =
            |(&wanted, (_, shared)): (&SocketAddr, &(JoinHandle<()>, Shared))| match &*shared
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
            {
                Ok(address) => ListenerStatus {
                    address: *address,
                    error: None,
                },
                Err(error) => ListenerStatus {
                    address: wanted,
                    error: Some(error.clone()),
                },
            };
        self.running.iter().map(status).collect()
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        self.set(&[]);
    }
}

async fn listen(address: SocketAddr, accepted: mpsc::Sender<TcpStream>, shared: Shared) {
    let tell = |state: Result<SocketAddr, String>| {
        let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
        if *shared != state {
            match &state {
                Ok(address) => info!(%address, "listening"),
                Err(error) => warn!(%address, %error, "cannot listen"),
            }
            *shared = state;
        }
    };
    loop {
        match bind(address).and_then(|listener| Ok((listener.local_addr()?, listener))) {
            Ok((bound, listener)) => {
                tell(Ok(bound));
                // An error of one connection, or too many open files: the socket itself is still good.
                loop {
                    match listener.accept().await {
                        Ok((stream, _)) => {
                            if accepted.send(stream).await.is_err() {
                                return;
                            }
                        }
                        Err(error) => {
                            warn!(%address, %error, "cannot accept");
                            sleep(RETRY).await;
                        }
                    }
                }
            }
            Err(error) => tell(Err(error.to_string())),
        }
        sleep(RETRY).await;
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // A successor must not wait for the connections of its predecessor to time out.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?; // else it takes the IPv4 port too
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

const RETRY: Duration = Duration::from_secs(1);
const BACKLOG: i32 = 128;
