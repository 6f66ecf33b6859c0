//! One question to the network: does this address answer, from here, now?

use std::{
    io::{self, ErrorKind, Read as _},
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    os::fd::OwnedFd,
    sync::atomic::{AtomicU16, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, recv, sendto,
        socket_with, sockopt,
    },
};

use crate::{
    Station,
    matrix::{Expect, Matrix, Outcome, Proto, Row},
};

/// Asks once, from the station, and waits `timeout` for the answer.
pub fn probe(from: &Station, to: IpAddr, proto: Proto, timeout: Duration) -> Result<Outcome> {
    from.namespace.enter(|| ask(to, proto, timeout))
}

/// Writes the rows of a matrix: `from` asks `to` in every family that both have.
pub fn rows(from: &Station, to: &Station, proto: Proto, expected: Expect) -> Vec<Row> {
    let families = [IpAddr::is_ipv4 as fn(&IpAddr) -> bool, IpAddr::is_ipv6];
    let pair = |family: &fn(&IpAddr) -> bool| {
        let find = |station: &Station| station.addresses.iter().copied().find(family);
        let (source, target) = (find(from)?, find(to)?);
        Some(Row {
            from: from.name.clone(),
            to: to.name.clone(),
            source,
            target,
            proto,
            expected,
            seen: None,
            decided_by: None,
        })
    };
    families.iter().filter_map(pair).collect()
}

/// Asks every question of the matrix at once. The stations are found by the names in the rows.
pub fn ask_all(matrix: &mut Matrix, stations: &[&Station], timeout: Duration) -> Result<()> {
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for row in &mut matrix.rows {
            let Some(from) = stations.iter().find(|station| station.name == row.from) else {
                bail!("no station is named {}", row.from);
            };
            threads.push(scope.spawn(move || -> Result<()> {
                row.seen = Some(probe(from, row.target, row.proto, timeout)?);
                Ok(())
            }));
        }
        for thread in threads {
            match thread.join() {
                Ok(result) => result?,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        Ok(())
    })
}

/// Asks the matrix until all of it is right at once or `within` is over; then the error is the whole matrix.
pub fn check(matrix: &mut Matrix, stations: &[&Station], within: Duration) -> Result<()> {
    let start = Instant::now();
    loop {
        ask_all(matrix, stations, TIMEOUT)?;
        let wrong = matrix.wrong();
        if wrong == 0 {
            return Ok(());
        }
        if start.elapsed() >= within {
            bail!(
                "{wrong} of {} answers are wrong after {within:?}:\n{matrix}",
                matrix.rows.len()
            );
        }
    }
}

fn ask(to: IpAddr, proto: Proto, timeout: Duration) -> Outcome {
    let result = match proto {
        Proto::Tcp(port) => ask_tcp(SocketAddr::new(to, port), timeout),
        Proto::Udp(port) => ask_udp(SocketAddr::new(to, port), timeout),
        Proto::Ping => ping(to, timeout).map(|()| None),
    };
    let error = match result {
        Ok(seen_as) => return Outcome::Answered { seen_as },
        Err(error) => error,
    };
    let kind = error.kind();
    if matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut) {
        Outcome::Silent
    } else if matches!(
        kind,
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset
    ) {
        Outcome::Refused
    } else {
        Outcome::Unreachable(error.to_string())
    }
}

fn ask_tcp(to: SocketAddr, timeout: Duration) -> io::Result<Option<IpAddr>> {
    let mut stream = TcpStream::connect_timeout(&to, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    let mut line = [0; 64];
    let mut len = 0;
    while len < line.len() && !line[..len].contains(&b'\n') {
        match stream.read(&mut line[len..])? {
            0 => break,
            n => len += n,
        }
    }
    address_line(&line[..len]).map(Some)
}

fn ask_udp(to: SocketAddr, timeout: Duration) -> io::Result<Option<IpAddr>> {
    let any: IpAddr = if to.is_ipv4() {
        [0, 0, 0, 0].into()
    } else {
        [0; 16].into()
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(timeout))?;
    socket.send(b"probe")?;
    let mut answer = [0; 128];
    let len = socket.recv(&mut answer)?;
    address_line(&answer[..len]).map(Some)
}

fn address_line(bytes: &[u8]) -> io::Result<IpAddr> {
    let line = bytes
        .split(|&byte| byte == b'\n')
        .next()
        .unwrap_or_default();
    let address = str::from_utf8(line).ok().and_then(|text| text.parse().ok());
    address.ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "the answer names no address"))
}

/// Sends one echo request on a raw socket and waits for its reply.
fn ping(to: IpAddr, timeout: Duration) -> io::Result<()> {
    let (family, protocol, request, reply, ip_header) = match to {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP, 8, 0, true),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6, 128, 129, false),
    };
    let socket: OwnedFd = socket_with(
        family,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(protocol),
    )?;
    let id = NEXT_ID.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let mut packet = [
        request, 0, 0, 0, id[0], id[1], 0, 1, b'c', b'l', b'e', b'a', b't', b'l', b'a', b'b',
    ];
    // The kernel fills in the checksum of ICMPv6, which covers addresses only it knows yet.
    let sum = checksum(&packet).to_be_bytes();
    packet[2..4].copy_from_slice(&sum);
    sendto(
        &socket,
        &packet,
        SendFlags::empty(),
        &SocketAddr::new(to, 0),
    )?;
    let deadline = Instant::now() + timeout;
    let mut buffer = [0; 256];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(left))?;
        let (len, _) = match recv(&socket, &mut buffer, RecvFlags::empty()) {
            Err(Errno::INTR) => continue,
            other => other?,
        };
        let header = if ip_header {
            usize::from(buffer[0] & 0xf) * 4
        } else {
            0
        };
        let Some(answer) = buffer[..len].get(header..) else {
            continue;
        };
        // A raw socket sees every echo reply of the namespace, and errors about packets of others.
        if answer.len() >= 8 && answer[0] == reply && answer[4..6] == id {
            return Ok(());
        }
    }
}

/// The Internet checksum (RFC 1071) of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks_exact(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// How long a question of a matrix waits for its answer. A lost first packet is sent again only after a second; what is
/// right must be right without that.
pub const TIMEOUT: Duration = Duration::from_millis(800);

/// Tells the echo replies of concurrent pings apart.
static NEXT_ID: AtomicU16 = AtomicU16::new(1);
