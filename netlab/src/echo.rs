//! Small servers inside a namespace. TCP: says the address of the client as one line, then echoes. UDP: answers each
//! datagram with the client's address, a newline and the datagram.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{Namespace, matrix::Proto};

/// Servers of one namespace; they end when this is dropped.
#[derive(Debug, Default)]
pub struct Servers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Servers {
    /// Starts a server for each of `protos` (a ping needs none: the kernel answers), for both families.
    pub fn start(namespace: &Namespace, protos: &[Proto]) -> Result<Self> {
        let mut servers = Self::default();
        for &proto in protos {
            let stop = Arc::clone(&servers.stop);
            let any = |port| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
            let thread = match proto {
                Proto::Tcp(port) => {
                    let listener = namespace
                        .enter(|| TcpListener::bind(any(port)))?
                        .with_context(|| format!("listen on {proto}"))?;
                    listener.set_nonblocking(true)?;
                    thread::spawn(move || serve_tcp(&listener, &stop))
                }
                Proto::Udp(port) => {
                    let socket = namespace
                        .enter(|| UdpSocket::bind(any(port)))?
                        .with_context(|| format!("listen on {proto}"))?;
                    socket.set_read_timeout(Some(TICK))?;
                    thread::spawn(move || serve_udp(&socket, &stop))
                }
                Proto::Ping => continue,
            };
            servers.threads.push(thread);
        }
        Ok(servers)
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A server that panicked has said so.
            let _ = thread.join();
        }
    }
}

fn serve_tcp(listener: &TcpListener, stop: &Arc<AtomicBool>) {
    let tick = Timespec {
        tv_sec: 0,
        tv_nsec: i64::from(TICK.subsec_nanos()),
    };
    while !stop.load(Ordering::Relaxed) {
        // Interrupted or timed out: look at `stop` and wait again.
        let _ = poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&tick));
        while let Ok((stream, peer)) = listener.accept() {
            let stop = Arc::clone(stop);
            // Detached: it ends with its client or within a tick of `stop`.
            thread::spawn(move || drop(converse(stream, peer, &stop)));
        }
    }
}

fn converse(mut stream: TcpStream, peer: SocketAddr, stop: &AtomicBool) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TICK))?;
    stream.write_all(format!("{}\n", peer.ip().to_canonical()).as_bytes())?;
    let mut buffer = [0; 16 * 1024];
    while !stop.load(Ordering::Relaxed) {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => stream.write_all(&buffer[..n])?,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn serve_udp(socket: &UdpSocket, stop: &AtomicBool) {
    let mut buffer = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        let Ok((n, peer)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        let mut answer = format!("{}\n", peer.ip().to_canonical()).into_bytes();
        answer.extend_from_slice(&buffer[..n]);
        // A client that is gone needs no answer.
        let _ = socket.send_to(&answer, peer);
    }
}

/// How often a server looks whether it should stop.
const TICK: Duration = Duration::from_millis(100);
