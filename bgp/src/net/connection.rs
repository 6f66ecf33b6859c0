//! One TCP connection: bytes in, bytes out, and KEEPALIVEs when nothing else goes out.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::session::{ConnId, Ends};
use crate::speaker::Event;
use crate::wire::keepalive;

/// How to make a connection.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) remote: SocketAddr,
    pub(super) local: Option<IpAddr>,
    pub(super) ttl: Option<u8>,
}

/// What the owner wants of a connection.
#[derive(Debug)]
pub(super) enum Command {
    Send(Vec<u8>),
    Keepalive(Duration),
    SetTtl(u8),
}

/// The owner's end of a connection. Dropping it closes the connection once everything was sent.
#[derive(Debug)]
pub(super) struct Handle {
    commands: mpsc::Sender<Command>,
    closing: Arc<Notify>,
}

/// Where a connection tells what happens. What it reads waits for room; what it wrote was asked for by the owner, so
/// it is bounded by that and must never wait, since KEEPALIVEs wait with it.
#[derive(Clone, Debug)]
pub(super) struct Reports {
    pub(super) read: mpsc::Sender<Event>,
    pub(super) written: mpsc::UnboundedSender<Event>,
}

impl Handle {
    /// Hands over a command; false if the connection cannot take it, and so must be given up.
    pub(super) fn command(&self, command: Command) -> bool {
        self.commands.try_send(command).is_ok()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.closing.notify_one();
    }
}

/// Makes a connection and runs it.
pub(super) fn dial(
    conn: ConnId,
    call: Call,
    reports: Reports,
) -> (Handle, impl Future<Output = ()>) {
    let (handle, commands, closing) = handle();
    let task = async move {
        let stream = tokio::select! {
            stream = connect(&call) => stream,
            () = closing.notified() => return,
        };
        match stream.and_then(|stream| Ok((ends(&stream)?, stream))) {
            Ok((ends, stream)) => {
                if reports
                    .read
                    .send(Event::Connected { conn, ends })
                    .await
                    .is_ok()
                {
                    run(conn, stream, commands, &closing, reports).await;
                }
            }
            Err(error) => {
                let error = error.to_string();
                let _ = reports
                    .read
                    .send(Event::ConnectFailed { conn, error })
                    .await;
            }
        }
    };
    (handle, task)
}

/// Runs an accepted connection.
pub(super) fn accepted(
    conn: ConnId,
    stream: TcpStream,
    reports: Reports,
) -> (Handle, impl Future<Output = ()>) {
    let (handle, commands, closing) = handle();
    let task = async move { run(conn, stream, commands, &closing, reports).await };
    (handle, task)
}

/// The two ends of a stream.
pub(super) fn ends(stream: &TcpStream) -> io::Result<Ends> {
    Ok(Ends {
        local: stream.local_addr()?,
        remote: stream.peer_addr()?,
    })
}

fn handle() -> (Handle, mpsc::Receiver<Command>, Arc<Notify>) {
    let (sender, receiver) = mpsc::channel(COMMANDS);
    let closing = Arc::<Notify>::default();
    let handle = Handle {
        commands: sender,
        closing: Arc::clone(&closing),
    };
    (handle, receiver, closing)
}

async fn connect(call: &Call) -> io::Result<TcpStream> {
    let socket = match call.remote {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if let Some(local) = call.local {
        socket.bind(SocketAddr::new(local, 0))?;
    }
    if let Some(ttl) = call.ttl {
        set_ttl(&SockRef::from(&socket), call.remote, ttl)?;
    }
    socket.connect(call.remote).await
}

async fn run(
    conn: ConnId,
    mut stream: TcpStream,
    commands: mpsc::Receiver<Command>,
    closing: &Notify,
    reports: Reports,
) {
    prepare(&stream);
    let remote = stream.peer_addr().ok();
    let ttl = stream_ttl(&stream, remote);
    let (read, write) = stream.split();
    tokio::select! {
        // The peer's last words come before the news of its end.
        error = read_all(conn, read, &reports.read) => {
            let _ = reports.read.send(Event::Closed { conn, error }).await;
            return;
        }
        () = write_all(conn, write, commands, &reports.written, ttl) => {}
        () = async { closing.notified().await; sleep(LINGER).await } => return,
    }
    // Everything was sent. Bytes that nobody read would turn the end into a reset, which may overtake our last word.
    let _ = stream.shutdown().await;
    let mut rest = [0; 4096];
    let drain = async { while stream.read(&mut rest).await.is_ok_and(|len| len > 0) {} };
    let _ = timeout(LINGER, drain).await;
}

/// Reads until the end and tells why it ended.
async fn read_all(conn: ConnId, mut read: ReadHalf<'_>, reports: &mpsc::Sender<Event>) -> String {
    let mut buffer = vec![0; READ_SIZE];
    loop {
        match read.read(&mut buffer).await {
            Ok(0) => return "connection closed by the peer".to_owned(),
            Ok(len) => {
                let bytes = buffer[..len].to_vec();
                if reports.send(Event::Received { conn, bytes }).await.is_err() {
                    return "stopped".to_owned();
                }
            }
            Err(error) => return error.to_string(),
        }
    }
}

/// Writes until the handle is dropped. If writing fails, reading fails too, and tells it.
async fn write_all(
    conn: ConnId,
    mut write: WriteHalf<'_>,
    mut commands: mpsc::Receiver<Command>,
    reports: &mpsc::UnboundedSender<Event>,
    set_ttl: impl Fn(u8),
) {
    let mut every = None;
    let mut silent_since = Instant::now();
    loop {
        let due = every.map(|every: Duration| silent_since + every);
        let command = tokio::select! {
            command = commands.recv() => command,
            () = sleep_until(due.unwrap_or(silent_since)), if due.is_some() => Some(Command::Send(keepalive())),
        };
        match command {
            None => return,
            Some(Command::Keepalive(interval)) => every = Some(interval),
            Some(Command::SetTtl(ttl)) => set_ttl(ttl),
            Some(Command::Send(bytes)) => {
                if write.write_all(&bytes).await.is_err() {
                    std::future::pending::<()>().await;
                }
                silent_since = Instant::now();
                let _ = reports.send(Event::Sent {
                    conn,
                    bytes: bytes.len(),
                });
            }
        }
    }
}

/// What makes a connection better but not possible: small messages at once, and the class of routing traffic.
fn prepare(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let socket = SockRef::from(stream);
    let _ = match stream.peer_addr() {
        Ok(SocketAddr::V4(_)) => socket.set_tos_v4(CS6),
        Ok(SocketAddr::V6(_)) => socket.set_tclass_v6(CS6),
        Err(_) => Ok(()),
    };
}

fn stream_ttl(stream: &TcpStream, remote: Option<SocketAddr>) -> impl Fn(u8) + use<> {
    let socket = SockRef::from(stream).try_clone();
    move |ttl| {
        if let (Ok(socket), Some(remote)) = (&socket, remote) {
            let _ = set_ttl(socket, remote, ttl);
        }
    }
}

fn set_ttl(socket: &socket2::Socket, remote: SocketAddr, ttl: u8) -> io::Result<()> {
    match remote {
        SocketAddr::V4(_) => socket.set_ttl_v4(ttl.into()),
        SocketAddr::V6(_) => socket.set_unicast_hops_v6(ttl.into()),
    }
}

/// The speaker gives out UPDATEs of 256 KiB at most, in messages of hundreds of KiB, and few other messages.
const COMMANDS: usize = 256;
/// How much is read at once: a balance between work for each read and how long the owner is busy with it.
const READ_SIZE: usize = 32 * 1024;
/// How long the end of a connection may take.
const LINGER: Duration = Duration::from_secs(1);
/// Internetwork control (RFC 4594 §3.2).
const CS6: u32 = 0xc0;
