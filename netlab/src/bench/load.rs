//! The load generator: one server and four kinds of client, which print one JSON line.
//!
//! The figure that counts is CPU time per operation: the execution time of client, server and the softirq threads
//! together, so that work a data path moves from one of them to another is not lost. Everything is pinned to one CPU, and
//! the server drains UDP by timer, since waking a sleeping reader on a halted virtual CPU costs more than the path under test.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{Timespec, epoll};
use rustix::mm::{MapFlags, ProtFlags};
use serde::{Deserialize, Serialize};

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Connect, request, answer, close.
    Crr,
    /// Request and answer on one connection.
    Rr,
    /// Bulk data one way on one connection.
    Stream,
    /// Small datagrams one way, as fast as they go.
    Udp,
}

/// One client's work.
#[derive(Clone, Debug)]
pub struct Job {
    /// What to do.
    pub mode: Mode,
    /// The server's address.
    pub host: IpAddr,
    /// The server's first port; its sink and its datagram port are the two after it.
    pub port: u16,
    /// How long to measure.
    pub duration: Duration,
    /// The CPU to run on.
    pub cpu: usize,
    /// Bytes of an answer.
    pub answer: u32,
    /// The file in which the server keeps its counters.
    pub shared: PathBuf,
}

/// What one run measured. Times are in microseconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Sample {
    /// Operations completed: connections, requests, packets or writes.
    pub operations: u64,
    /// Operations that failed.
    pub errors: u64,
    /// Operations per second.
    pub per_second: f64,
    /// CPU nanoseconds of client, server and softirq threads per operation; per gigabit for a stream.
    pub cpu_ns: f64,
    /// Gigabits per second that arrived (stream only).
    pub gbps: Option<f64>,
    /// Share of datagrams that arrived (udp only).
    pub delivered: Option<f64>,
    /// Time to connect, median and 99th percentile (crr only).
    pub connect_p50: Option<f64>,
    /// See `connect_p50`.
    pub connect_p99: Option<f64>,
    /// Time of a whole operation (crr and rr).
    pub total_p50: Option<f64>,
    /// See `total_p50`.
    pub total_p99: Option<f64>,
}

/// Counters that the server shares with the clients through a mapped file.
#[repr(C)]
struct Shared {
    pid: AtomicU64,
    datagrams: AtomicU64,
    bytes: AtomicU64,
}

/// Serves until it is killed: request and answer on `port`, a sink on `port + 1`, datagrams on `port + 2`.
pub fn serve(port: u16, cpu: usize, shared: &Path) -> Result<()> {
    pin_to(cpu)?;
    let shared = map_shared(shared)?;
    let any = |offset| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port + offset));
    let listeners = [TcpListener::bind(any(0)), TcpListener::bind(any(1))];
    let [requests, sink] = listeners;
    let (requests, sink) = (
        requests.context("listen for requests")?,
        sink.context("listen for the sink")?,
    );
    for listener in [&requests, &sink] {
        listener.set_nonblocking(true)?;
        // The default backlog is too small for a burst of connections.
        rustix::net::listen(listener, 4096)?;
    }
    let datagrams = UdpSocket::bind(any(2)).context("bind the datagram port")?;
    rustix::net::sockopt::set_socket_recv_buffer_size_force(&datagrams, 8 << 20)?;
    thread::spawn(move || drain(&datagrams, shared));
    shared.pid.store(u64::from(std::process::id()), Relaxed);

    let poller = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut connections: Vec<Option<(TcpStream, bool)>> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let readable = epoll::EventFlags::IN;
    epoll::add(&poller, &requests, epoll::EventData::new_u64(0), readable)?;
    epoll::add(&poller, &sink, epoll::EventData::new_u64(1), readable)?;
    let answer = vec![b'x'; 1 << 20];
    let mut buffer = vec![0u8; 1 << 20];
    let mut events: Vec<epoll::Event> = Vec::with_capacity(64);
    loop {
        events.clear();
        match epoll::wait(&poller, rustix::buffer::spare_capacity(&mut events), None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("wait for connections"),
        }
        for event in &events {
            let token = event.data.u64();
            if token < 2 {
                let (listener, is_sink) = if token == 0 {
                    (&requests, false)
                } else {
                    (&sink, true)
                };
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nodelay(true)?;
                    stream.set_nonblocking(is_sink)?;
                    let slot = free.pop().unwrap_or_else(|| {
                        connections.push(None);
                        connections.len() - 1
                    });
                    epoll::add(
                        &poller,
                        &stream,
                        epoll::EventData::new_u64(slot as u64 + 2),
                        readable,
                    )?;
                    connections[slot] = Some((stream, is_sink));
                }
                continue;
            }
            let slot = (token - 2) as usize;
            let Some((stream, is_sink)) = &mut connections[slot] else {
                continue;
            };
            let open = if *is_sink {
                absorb(stream, &mut buffer, shared)
            } else {
                respond(stream, &answer)
            };
            if !open {
                connections[slot] = None;
                free.push(slot);
            }
        }
    }
}

/// Runs one client and returns what it measured.
pub fn run(job: &Job) -> Result<Sample> {
    pin_to(job.cpu)?;
    let shared = map_shared(&job.shared)?;
    let clocks = WorkClocks::of(shared.pid.load(Relaxed) as libc::pid_t)?;
    match job.mode {
        Mode::Crr => connect_request_close(job, &clocks),
        Mode::Rr => request_response(job, &clocks),
        Mode::Stream => stream(job, &clocks, shared),
        Mode::Udp => datagrams(job, &clocks, shared),
    }
}

fn connect_request_close(job: &Job, clocks: &WorkClocks) -> Result<Sample> {
    let address = SocketAddr::new(job.host, job.port);
    let mut buffer = vec![0u8; 1 << 16];
    let (mut connects, mut totals, mut errors) = (Vec::new(), Vec::new(), 0u64);
    let cpu = clocks.read();
    let start = Instant::now();
    while start.elapsed() < job.duration {
        let begin = Instant::now();
        let outcome = (|| -> std::io::Result<Duration> {
            let mut stream = connect(address)?;
            let connected = begin.elapsed();
            stream.write_all(
                &Request {
                    answer: job.answer,
                    close: true,
                }
                .bytes(),
            )?;
            let mut received = 0;
            loop {
                match stream.read(&mut buffer)? {
                    0 => break,
                    count => received += count,
                }
            }
            if received < job.answer as usize {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            Ok(connected)
        })();
        match outcome {
            Ok(connected) => {
                connects.push(connected);
                totals.push(begin.elapsed());
            }
            Err(error) => {
                errors += 1;
                if errors > 20 {
                    bail!("connect to {address}: {error}");
                }
            }
        }
    }
    let sample = Sample {
        errors,
        ..finish(totals.len() as u64, start.elapsed(), clocks.used_since(cpu))
    };
    Ok(Sample {
        connect_p50: percentile(&mut connects, 0.5),
        connect_p99: percentile(&mut connects, 0.99),
        total_p50: percentile(&mut totals, 0.5),
        total_p99: percentile(&mut totals, 0.99),
        ..sample
    })
}

fn request_response(job: &Job, clocks: &WorkClocks) -> Result<Sample> {
    let mut stream = connect(SocketAddr::new(job.host, job.port))?;
    let mut buffer = vec![0u8; job.answer as usize];
    let request = Request {
        answer: job.answer,
        close: false,
    }
    .bytes();
    let mut exchange = || -> std::io::Result<()> {
        stream.write_all(&request)?;
        stream.read_exact(&mut buffer)
    };
    for _ in 0..WARM_UP_REQUESTS {
        exchange()?;
    }
    let mut totals = Vec::new();
    let cpu = clocks.read();
    let start = Instant::now();
    while start.elapsed() < job.duration {
        let begin = Instant::now();
        exchange()?;
        totals.push(begin.elapsed());
    }
    let sample = finish(totals.len() as u64, start.elapsed(), clocks.used_since(cpu));
    Ok(Sample {
        total_p50: percentile(&mut totals, 0.5),
        total_p99: percentile(&mut totals, 0.99),
        ..sample
    })
}

fn stream(job: &Job, clocks: &WorkClocks, shared: &Shared) -> Result<Sample> {
    let mut stream = TcpStream::connect_timeout(
        &SocketAddr::new(job.host, job.port + 1),
        Duration::from_secs(2),
    )?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    let chunk = vec![0u8; 128 << 10];
    let warm_up = Instant::now();
    while warm_up.elapsed() < Duration::from_millis(200) {
        stream.write_all(&chunk)?;
    }
    let (cpu, bytes, start) = (clocks.read(), shared.bytes.load(Relaxed), Instant::now());
    let mut writes = 0;
    while start.elapsed() < job.duration {
        stream.write_all(&chunk)?;
        writes += 1;
    }
    let (elapsed, used) = (start.elapsed(), clocks.used_since(cpu));
    let gigabits = (shared.bytes.load(Relaxed) - bytes) as f64 * 8.0 / 1e9;
    Ok(Sample {
        cpu_ns: used.as_nanos() as f64 / gigabits,
        gbps: Some(gigabits / elapsed.as_secs_f64()),
        ..finish(writes, elapsed, used)
    })
}

fn datagrams(job: &Job, clocks: &WorkClocks, shared: &Shared) -> Result<Sample> {
    let any: SocketAddr = if job.host.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    }
    .parse()?;
    let socket = UdpSocket::bind(any)?;
    rustix::net::sockopt::set_socket_send_buffer_size(&socket, 4 << 20)?;
    socket.connect(SocketAddr::new(job.host, job.port + 2))?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    // An answer makes the flow an established one.
    for _ in 0..2 {
        socket.send(PING)?;
        socket
            .recv(&mut [0u8; 8])
            .context("no answer to the first datagram")?;
    }
    let mut batch = Batch::new(18);
    let warm_up = Instant::now();
    while warm_up.elapsed() < Duration::from_millis(100) {
        batch.send(&socket);
    }
    let (cpu, received, start) = (
        clocks.read(),
        shared.datagrams.load(Relaxed),
        Instant::now(),
    );
    let mut sent = 0;
    while start.elapsed() < job.duration {
        sent += batch.send(&socket);
    }
    let (elapsed, used) = (start.elapsed(), clocks.used_since(cpu));
    let arrived = shared.datagrams.load(Relaxed) - received;
    Ok(Sample {
        delivered: Some(arrived as f64 / sent as f64),
        ..finish(sent, elapsed, used)
    })
}

/// A blocking connect that gives up after two seconds. `TcpStream::connect_timeout` would poll, which costs more than the
/// packets do.
fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    use rustix::net::{AddressFamily, SocketType, sockopt};
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let socket = rustix::net::socket(family, SocketType::STREAM, None)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    for direction in [sockopt::Timeout::Send, sockopt::Timeout::Recv] {
        sockopt::set_socket_timeout(&socket, direction, Some(Duration::from_secs(2)))?;
    }
    rustix::net::connect(&socket, &address)?;
    Ok(socket.into())
}

fn finish(operations: u64, elapsed: Duration, cpu: Duration) -> Sample {
    Sample {
        operations,
        per_second: operations as f64 / elapsed.as_secs_f64(),
        cpu_ns: cpu.as_nanos() as f64 / operations.max(1) as f64,
        ..Sample::default()
    }
}

fn percentile(times: &mut [Duration], share: f64) -> Option<f64> {
    times.sort_unstable();
    let index = ((times.len() as f64 * share) as usize).min(times.len().checked_sub(1)?);
    Some(times[index].as_nanos() as f64 / 1e3)
}

/// Answers one request; false when the connection is over.
fn respond(stream: &mut TcpStream, answer: &[u8]) -> bool {
    let mut bytes = [0u8; 8];
    if stream.read_exact(&mut bytes).is_err() {
        return false;
    }
    let request = Request::from_bytes(bytes);
    let mut left = request.answer as usize;
    while left > 0 {
        match stream.write(&answer[..left.min(answer.len())]) {
            Ok(count) if count > 0 => left -= count,
            _ => return false,
        }
    }
    !request.close
}

/// Swallows what arrived; false when the connection is over.
fn absorb(stream: &mut TcpStream, buffer: &mut [u8], shared: &Shared) -> bool {
    match stream.read(buffer) {
        Ok(0) => false,
        Ok(count) => {
            shared.bytes.fetch_add(count as u64, Relaxed);
            true
        }
        Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
    }
}

/// Takes datagrams off the socket by timer and answers those that ask for it.
fn drain(socket: &UdpSocket, shared: &Shared) {
    const BATCH: usize = 64;
    let mut payloads = vec![[0u8; 2048]; BATCH];
    let mut senders = vec![no_sender(); BATCH];
    let mut vectors: Vec<libc::iovec> = payloads
        .iter_mut()
        .map(|p| libc::iovec {
            iov_base: p.as_mut_ptr().cast(),
            iov_len: p.len(),
        })
        .collect();
    let mut idle = 0u32;
    loop {
        let mut taken = 0;
        loop {
            let mut messages: Vec<libc::mmsghdr> = vectors
                .iter_mut()
                .zip(senders.iter_mut())
                .map(|(vector, sender)| message(vector, Some(sender)))
                .collect();
            // SAFETY: every header points to live buffers of the stated lengths, which outlive the call.
            let count = unsafe {
                libc::recvmmsg(
                    socket.as_raw_fd(),
                    messages.as_mut_ptr(),
                    BATCH as u32,
                    libc::MSG_DONTWAIT,
                    std::ptr::null_mut(),
                )
            };
            if count <= 0 {
                break;
            }
            for (header, payload) in messages.iter_mut().zip(&mut payloads).take(count as usize) {
                if payload[0] == PING[0] {
                    payload[0] = 0;
                    // SAFETY: the header was filled by the kernel and still points to live buffers, of which only as much as
                    // came in is sent back; the vector is whole again before the next receive.
                    unsafe {
                        (*header.msg_hdr.msg_iov).iov_len = header.msg_len as usize;
                        libc::sendmsg(socket.as_raw_fd(), &raw const header.msg_hdr, 0);
                        (*header.msg_hdr.msg_iov).iov_len = payload.len();
                    }
                }
            }
            shared.datagrams.fetch_add(count as u64, Relaxed);
            taken += count;
        }
        idle = if taken > 0 { 0 } else { idle.saturating_add(1) };
        let pause = if idle > 50 { 20_000_000 } else { 1_000_000 };
        let pause = Timespec {
            tv_sec: 0,
            tv_nsec: pause,
        };
        let _ = rustix::event::poll(&mut [], Some(&pause));
    }
}

/// Datagrams sent with one system call.
struct Batch {
    payload: Vec<u8>,
    vector: libc::iovec,
}

impl Batch {
    const SIZE: usize = 32;

    fn new(length: usize) -> Self {
        let mut payload = vec![b'.'; length];
        let vector = libc::iovec {
            iov_base: payload.as_mut_ptr().cast(),
            iov_len: payload.len(),
        };
        Self { payload, vector }
    }

    /// Sends the batch and returns how many datagrams the kernel took.
    fn send(&mut self, socket: &UdpSocket) -> u64 {
        debug_assert_eq!(self.vector.iov_len, self.payload.len());
        let mut messages = [(); Self::SIZE].map(|()| message(&mut self.vector, None));
        // SAFETY: every header points to the payload owned by `self`; the socket is connected.
        let sent = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                messages.as_mut_ptr(),
                Self::SIZE as u32,
                0,
            )
        };
        sent.max(0) as u64
    }
}

fn message(vector: &mut libc::iovec, sender: Option<&mut libc::sockaddr_in6>) -> libc::mmsghdr {
    // SAFETY: all-zero is a valid header: no buffers, no name, no control data.
    let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
    header.msg_hdr.msg_iov = vector;
    header.msg_hdr.msg_iovlen = 1;
    if let Some(sender) = sender {
        header.msg_hdr.msg_name = std::ptr::from_mut(sender).cast();
        header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in6>() as u32;
    }
    header
}

fn no_sender() -> libc::sockaddr_in6 {
    // SAFETY: all-zero is a valid socket address.
    unsafe { std::mem::zeroed() }
}

struct Request {
    answer: u32,
    close: bool,
}

impl Request {
    fn bytes(&self) -> [u8; 8] {
        (u64::from(self.answer) << 1 | u64::from(self.close)).to_le_bytes()
    }

    fn from_bytes(bytes: [u8; 8]) -> Self {
        let word = u64::from_le_bytes(bytes);
        Self {
            answer: (word >> 1) as u32,
            close: word & 1 == 1,
        }
    }
}

/// The CPU clocks of everyone who works for a flow: this process, the server, the softirq threads.
struct WorkClocks(Vec<libc::clockid_t>);

impl WorkClocks {
    fn of(server: libc::pid_t) -> Result<Self> {
        let mut pids = vec![0, server];
        for entry in std::fs::read_dir("/proc")? {
            let path = entry?.path();
            let is_softirq = std::fs::read_to_string(path.join("comm"))
                .is_ok_and(|name| name.starts_with("ksoftirqd"));
            if let (true, Some(name)) =
                (is_softirq, path.file_name().and_then(|name| name.to_str()))
            {
                pids.extend(name.parse::<libc::pid_t>());
            }
        }
        let mut clocks = Vec::new();
        for pid in pids {
            let mut clock = 0;
            // SAFETY: `clock` is a valid place for the result.
            if unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) } != 0 {
                bail!("no CPU clock for process {pid}: is the server running?");
            }
            clocks.push(clock);
        }
        Ok(Self(clocks))
    }

    fn used_since(&self, earlier: Duration) -> Duration {
        self.read().saturating_sub(earlier)
    }

    fn read(&self) -> Duration {
        let mut total = Duration::ZERO;
        for &clock in &self.0 {
            let mut time = libc::timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            // SAFETY: `time` is a valid place for the result; a process that is gone leaves it zero.
            unsafe { libc::clock_gettime(clock, &raw mut time) };
            total += Duration::new(time.tv_sec as u64, time.tv_nsec as u32);
        }
        total
    }
}

fn map_shared(path: &Path) -> Result<&'static Shared> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .with_context(|| format!("open {}", path.display()))?;
    file.set_len(4096)?;
    // SAFETY: a fresh shared mapping of one page at an address of the kernel's choice; it is never unmapped, and holds
    // atomics only, for which every bit pattern is valid.
    let shared = unsafe {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let page = rustix::mm::mmap(
            std::ptr::null_mut(),
            4096,
            protection,
            MapFlags::SHARED,
            file.as_fd(),
            0,
        )?;
        &*page.cast::<Shared>()
    };
    Ok(shared)
}

fn pin_to(cpu: usize) -> Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu);
    rustix::thread::sched_setaffinity(None, &set).with_context(|| format!("run on CPU {cpu}"))
}

/// First byte of a datagram that wants an answer.
const PING: &[u8] = b"P";
/// Requests before the clock starts.
const WARM_UP_REQUESTS: usize = 200;
