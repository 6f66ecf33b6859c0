//! Traffic that does not stop while something else happens, and what it lost.

use std::{
    collections::BTreeSet,
    fmt, io,
    io::{ErrorKind, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow};

use crate::{Station, matrix::Proto};

/// A stream of numbered questions from a station to a server of [`echo`](crate::echo): datagrams for UDP, one connection
/// for TCP.
#[derive(Debug)]
pub struct Steady {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    thread: JoinHandle<io::Result<Report>>,
}

/// What a stream asked and got.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Questions sent.
    pub sent: u64,
    /// Questions answered.
    pub answered: u64,
    /// The longest time without an answer while asking.
    pub longest_gap: Duration,
}

impl Report {
    /// Questions without an answer.
    pub fn lost(&self) -> u64 {
        self.sent - self.answered
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} sent, {} lost, longest gap {} ms",
            self.sent,
            self.lost(),
            self.longest_gap.as_millis()
        )
    }
}

impl Steady {
    /// Starts asking every `interval`.
    pub fn start(from: &Station, to: IpAddr, proto: Proto, interval: Duration) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicU64::new(0));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&answered));
        let thread = match proto {
            Proto::Udp(port) => {
                let any: IpAddr = if to.is_ipv4() {
                    [0, 0, 0, 0].into()
                } else {
                    [0; 16].into()
                };
                let socket = from.namespace.enter(|| UdpSocket::bind((any, 0)))??;
                socket.connect((to, port))?;
                socket.set_read_timeout(Some(interval))?;
                thread::spawn(move || datagrams(&socket, interval, &stopped, &count))
            }
            Proto::Tcp(port) => {
                let to = SocketAddr::new(to, port);
                let stream = from
                    .namespace
                    .enter(|| TcpStream::connect_timeout(&to, GRACE))?
                    .context("connect")?;
                thread::spawn(move || conversation(stream, interval, &stopped, &count))
            }
            Proto::Ping => return Err(anyhow!("a steady ping is not made")),
        };
        Ok(Self {
            stop,
            answered,
            thread,
        })
    }

    /// Answers so far.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Stops asking, waits a moment for late answers and tells what happened. A TCP connection that broke is an error.
    pub fn stop(self) -> Result<Report> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.join() {
            Ok(report) => report.context("the steady stream broke"),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

/// Stops streams and adds up what they lost.
pub fn finish(streams: Vec<Steady>) -> Result<Report> {
    let mut sum = Report::default();
    for stream in streams {
        let report = stream.stop()?;
        sum.sent += report.sent;
        sum.answered += report.answered;
        sum.longest_gap = sum.longest_gap.max(report.longest_gap);
    }
    Ok(sum)
}

fn datagrams(
    socket: &UdpSocket,
    interval: Duration,
    stop: &AtomicBool,
    count: &AtomicU64,
) -> io::Result<Report> {
    let mut report = Report::default();
    let mut waiting: BTreeSet<u64> = BTreeSet::new();
    let mut last_answer = Instant::now();
    let mut next = Instant::now();
    let mut ending: Option<Instant> = None;
    let mut buffer = [0; 256];
    loop {
        let now = Instant::now();
        match ending {
            None if stop.load(Ordering::Relaxed) => ending = Some(now + GRACE),
            Some(end) if now >= end || waiting.is_empty() => return Ok(report),
            _ => {}
        }
        if ending.is_none() && now >= next {
            // An error here is an ICMP error about an earlier datagram: that one counts as lost, this one is sent again.
            if socket.send(&report.sent.to_be_bytes()).is_ok()
                || socket.send(&report.sent.to_be_bytes()).is_ok()
            {
                waiting.insert(report.sent);
            }
            report.sent += 1;
            next += interval;
        }
        let Ok(len) = socket.recv(&mut buffer) else {
            continue;
        };
        let Some(number) = buffer[..len]
            .last_chunk::<8>()
            .map(|bytes| u64::from_be_bytes(*bytes))
        else {
            continue;
        };
        if waiting.remove(&number) {
            report.answered += 1;
            count.store(report.answered, Ordering::Relaxed);
            report.longest_gap = report.longest_gap.max(last_answer.elapsed());
            last_answer = Instant::now();
        }
    }
}

fn conversation(
    mut stream: TcpStream,
    interval: Duration,
    stop: &AtomicBool,
    count: &AtomicU64,
) -> io::Result<Report> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TCP_PATIENCE))?;
    let mut byte = [0];
    while byte[0] != b'\n' {
        stream.read_exact(&mut byte)?;
    }
    let mut report = Report::default();
    while !stop.load(Ordering::Relaxed) {
        let asked = Instant::now();
        let question = report.sent.to_be_bytes();
        report.sent += 1;
        stream.write_all(&question)?;
        let mut answer = [0; 8];
        stream.read_exact(&mut answer)?;
        if answer != question {
            return Err(io::Error::new(
                ErrorKind::InvalidData,
                "another answer than the question",
            ));
        }
        report.answered += 1;
        count.store(report.answered, Ordering::Relaxed);
        report.longest_gap = report.longest_gap.max(asked.elapsed());
        thread::sleep(interval);
    }
    Ok(report)
}

/// How long late answers are waited for.
const GRACE: Duration = Duration::from_secs(1);
/// How long a TCP answer may take: a few retransmissions.
const TCP_PATIENCE: Duration = Duration::from_secs(10);
