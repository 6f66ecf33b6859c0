//! Speakers on a simulated network and clock: an hour of protocol costs milliseconds.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ipnet::IpNet;

use crate::config::{Config, Origin, PeerConfig};
use crate::rng::Rng;
use crate::session::{ConnId, Ends};
use crate::speaker::{Effect, Event, Speaker};
use crate::status::{PeerStatus, RouteFilter, RouteTable, SessionState};
use crate::wire::keepalive;

pub(crate) struct Net {
    pub(crate) now: Instant,
    pub(crate) nodes: Vec<Node>,
    rng: Rng,
    queue: BTreeMap<(Instant, u64), (usize, Event)>,
    sequence: u64,
    halves: BTreeMap<(usize, ConnId), Half>,
    /// Pairs of nodes between which everything is lost.
    cut: BTreeSet<(usize, usize)>,
    max_latency: Duration,
}

pub(crate) struct Node {
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) speaker: Speaker,
    pub(crate) fib: BTreeMap<IpNet, Vec<IpAddr>>,
    pub(crate) converged: bool,
    /// Every KEEPALIVE and UPDATE this node sent, as bytes.
    pub(crate) sent: Vec<u8>,
    accepted: u64,
}

/// One end of a connection.
struct Half {
    other: (usize, ConnId),
    keepalive: Option<(Duration, Instant)>,
    /// Nothing overtakes on a connection.
    last_arrival: Instant,
}

impl Net {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            now: Instant::now(),
            nodes: Vec::new(),
            rng: Rng::new(seed),
            queue: BTreeMap::new(),
            sequence: 0,
            halves: BTreeMap::new(),
            cut: BTreeSet::new(),
            max_latency: Duration::from_millis(20),
        }
    }

    /// Adds a speaker; it begins when the clock runs.
    pub(crate) fn add(&mut self, config: Config, addresses: &[&str]) -> usize {
        let index = self.nodes.len();
        self.nodes.push(Node {
            addresses: addresses
                .iter()
                .map(|address| address.parse().unwrap())
                .collect(),
            speaker: Speaker::new(config, self.rng.next_u64(), self.now),
            fib: BTreeMap::new(),
            converged: false,
            sent: Vec::new(),
            accepted: 0,
        });
        self.push(index, Event::Timeout, Duration::ZERO);
        index
    }

    /// The process ends without a word and another one starts. `by_kernel`: the peers' connections are reset.
    pub(crate) fn restart(&mut self, node: usize, config: Config, by_kernel: bool) {
        let gone: Vec<ConnId> = self
            .halves
            .keys()
            .filter(|(owner, _)| *owner == node)
            .map(|(_, conn)| *conn)
            .collect();
        for conn in gone {
            if by_kernel {
                self.close(node, conn, "reset by peer");
            }
            self.halves.remove(&(node, conn));
        }
        // What the peers still send on the old connections goes nowhere.
        self.halves.retain(|_, half| half.other.0 != node);
        self.queue.retain(|_, (owner, _)| *owner != node);
        let seed = self.rng.next_u64();
        let this = &mut self.nodes[node];
        this.speaker = Speaker::new(config, seed, self.now);
        (this.fib, this.converged) = (BTreeMap::new(), false);
        self.push(node, Event::Timeout, Duration::ZERO);
    }

    /// From now on, nothing passes between two nodes, or all does again.
    pub(crate) fn cut(&mut self, a: usize, b: usize, cut: bool) {
        for pair in [(a, b), (b, a)] {
            if cut {
                self.cut.insert(pair);
            } else {
                self.cut.remove(&pair);
            }
        }
    }

    pub(crate) fn event(&mut self, node: usize, event: Event) {
        self.push(node, event, Duration::ZERO);
        self.run_for(Duration::ZERO);
    }

    pub(crate) fn originate(&mut self, node: usize, prefixes: &[&str]) {
        let prefixes = prefixes
            .iter()
            .map(|prefix| (prefix.parse().unwrap(), Origin::default()))
            .collect();
        self.event(node, Event::Originate(prefixes));
    }

    /// Runs until a condition holds, and tells how long that took.
    pub(crate) fn until(
        &mut self,
        limit: Duration,
        what: &str,
        mut condition: impl FnMut(&Self) -> bool,
    ) -> Duration {
        let start = self.now;
        while !condition(self) {
            assert!(
                self.now < start + limit,
                "not within {limit:?}: {what}\n{:#?}",
                self.summary()
            );
            self.step(start + limit);
        }
        self.now - start
    }

    pub(crate) fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.next_time().is_some_and(|next| next <= end) {
            self.step(end);
        }
        self.now = end;
    }

    pub(crate) fn peer(&self, node: usize, peer: usize) -> PeerStatus {
        let addresses = &self.nodes[peer].addresses;
        let peers = self.nodes[node].speaker.peers(self.now);
        peers
            .into_iter()
            .find(|status| addresses.contains(&status.address.ip))
            .expect("a configured peer")
    }

    pub(crate) fn established(&self, a: usize, b: usize) -> bool {
        [(a, b), (b, a)]
            .into_iter()
            .all(|(one, other)| self.peer(one, other).state == SessionState::Established)
    }

    pub(crate) fn routes(&self, node: usize, table: RouteTable) -> Vec<(String, String)> {
        let views = self.nodes[node].speaker.routes(&RouteFilter {
            table,
            ..RouteFilter::default()
        });
        views
            .into_iter()
            .map(|view| (view.prefix.to_string(), view.as_path))
            .collect()
    }

    fn step(&mut self, limit: Instant) {
        let Some(next) = self.next_time().filter(|next| *next <= limit) else {
            self.now = limit;
            return;
        };
        self.now = next.max(self.now);
        if let Some((&key, _)) = self.queue.first_key_value()
            && key.0 <= self.now
        {
            let (node, event) = self.queue.remove(&key).unwrap();
            self.deliver(node, event);
            return;
        }
        let due = |half: &Half| half.keepalive.is_some_and(|(_, at)| at <= self.now);
        if let Some(&(node, conn)) = self
            .halves
            .iter()
            .find(|(_, half)| due(half))
            .map(|(key, _)| key)
        {
            self.send(node, conn, keepalive());
            return;
        }
        let due = |node: &Node| {
            node.speaker
                .next_deadline()
                .is_some_and(|deadline| deadline <= self.now)
        };
        if let Some(node) = self.nodes.iter().position(due) {
            self.deliver(node, Event::Timeout);
        }
    }

    fn next_time(&self) -> Option<Instant> {
        let queue = self.queue.keys().next().map(|(at, _)| *at);
        let keepalives = self
            .halves
            .values()
            .filter_map(|half| half.keepalive.map(|(_, at)| at))
            .min();
        let deadlines = self
            .nodes
            .iter()
            .filter_map(|node| node.speaker.next_deadline())
            .min();
        [queue, keepalives, deadlines].into_iter().flatten().min()
    }

    fn deliver(&mut self, node: usize, event: Event) {
        let timeout = matches!(event, Event::Timeout);
        let effects = self.nodes[node].speaker.handle(event, self.now);
        let next = self.nodes[node].speaker.next_deadline();
        assert!(
            !timeout || next.is_none_or(|next| next > self.now),
            "a deadline that passed is no more"
        );
        let this = &mut self.nodes[node];
        if let Some(update) = this.speaker.take_fib() {
            assert!(
                this.converged <= update.converged,
                "converged once, converged for ever"
            );
            this.converged = update.converged;
            for change in update.changes {
                if change.next_hops.is_empty() {
                    this.fib.remove(&change.prefix);
                } else {
                    this.fib.insert(change.prefix, change.next_hops);
                }
            }
        }
        let complete: BTreeMap<_, _> = this
            .speaker
            .fib()
            .changes
            .into_iter()
            .map(|change| (change.prefix, change.next_hops))
            .collect();
        assert_eq!(
            this.fib, complete,
            "whoever follows the changes has the complete state"
        );
        for effect in effects {
            self.effect(node, effect);
        }
    }

    fn effect(&mut self, node: usize, effect: Effect) {
        match effect {
            Effect::Connect {
                conn,
                remote,
                local,
                ..
            } => self.connect(node, conn, remote, local),
            Effect::SetTtl { .. } => {}
            Effect::Send { conn, bytes } => {
                self.nodes[node].sent.extend(&bytes);
                let len = bytes.len();
                self.send(node, conn, bytes);
                self.push(
                    node,
                    Event::Sent { conn, bytes: len },
                    Duration::from_millis(1),
                );
            }
            Effect::Keepalive { conn, every } => {
                if let Some(half) = self.halves.get_mut(&(node, conn)) {
                    half.keepalive = Some((every, self.now + every));
                }
            }
            Effect::Close { conn } => self.close(node, conn, "closed by peer"),
        }
    }

    fn connect(&mut self, node: usize, conn: ConnId, remote: SocketAddr, local: Option<IpAddr>) {
        let family = |address: &IpAddr| address.is_ipv4() == remote.is_ipv4();
        let local = local.or_else(|| self.nodes[node].addresses.iter().copied().find(family));
        let other = self
            .nodes
            .iter()
            .position(|other| other.addresses.contains(&remote.ip()));
        let (Some(local), Some(other)) = (local, other) else {
            self.push(
                node,
                Event::ConnectFailed {
                    conn,
                    error: "unreachable".into(),
                },
                Duration::ZERO,
            );
            return;
        };
        if self.cut.contains(&(node, other)) {
            return; // no answer
        }
        let local = SocketAddr::new(local, 40000 + self.sequence as u16 % 20000);
        self.nodes[other].accepted += 1;
        let theirs = ConnId::Accepted(self.nodes[other].accepted);
        let (there, back) = (self.latency(), self.latency());
        for (owner, conn, peer) in [(node, conn, (other, theirs)), (other, theirs, (node, conn))] {
            self.halves.insert(
                (owner, conn),
                Half {
                    other: peer,
                    keepalive: None,
                    last_arrival: self.now + there,
                },
            );
        }
        self.push(
            other,
            Event::Accepted {
                conn: theirs,
                ends: Ends {
                    local: remote,
                    remote: local,
                },
            },
            there,
        );
        self.push(
            node,
            Event::Connected {
                conn,
                ends: Ends { local, remote },
            },
            there + back,
        );
        if let Some(half) = self.halves.get_mut(&(other, theirs)) {
            half.last_arrival = self.now + there + back;
        }
    }

    fn send(&mut self, node: usize, conn: ConnId, bytes: Vec<u8>) {
        let now = self.now;
        if let Some(half) = self.halves.get_mut(&(node, conn)) {
            half.keepalive = half.keepalive.map(|(every, _)| (every, now + every));
            let (other, theirs) = half.other;
            self.arrive(
                node,
                conn,
                other,
                Event::Received {
                    conn: theirs,
                    bytes,
                },
            );
        }
    }

    fn close(&mut self, node: usize, conn: ConnId, error: &str) {
        if let Some(half) = self.halves.get(&(node, conn)) {
            let (other, theirs) = half.other;
            self.arrive(
                node,
                conn,
                other,
                Event::Closed {
                    conn: theirs,
                    error: error.into(),
                },
            );
        }
        self.halves.remove(&(node, conn));
    }

    fn arrive(&mut self, node: usize, conn: ConnId, other: usize, event: Event) {
        if self.cut.contains(&(node, other)) {
            return;
        }
        let at = self.now + self.latency();
        if let Some(half) = self.halves.get_mut(&(node, conn)) {
            half.last_arrival = half.last_arrival.max(at);
            let after = half.last_arrival - self.now;
            self.push(other, event, after);
        }
    }

    fn latency(&mut self) -> Duration {
        Duration::from_nanos(self.rng.next_u64() % (self.max_latency.as_nanos() as u64))
    }

    fn push(&mut self, node: usize, event: Event, after: Duration) {
        self.sequence += 1;
        self.queue
            .insert((self.now + after, self.sequence), (node, event));
    }

    fn summary(&self) -> Vec<Vec<PeerStatus>> {
        self.nodes
            .iter()
            .map(|node| node.speaker.peers(self.now))
            .collect()
    }
}

/// Two speakers that are each other's peer: A with 192.0.2.1 in AS 65001, B with 192.0.2.2 in AS 65002.
pub(crate) fn pair(seed: u64, change: impl Fn(usize, &mut Config, &mut PeerConfig)) -> Net {
    let mut net = Net::new(seed);
    for (index, addresses) in ADDRESSES.into_iter().enumerate() {
        net.add(pair_config(index, &change), addresses);
    }
    net
}

/// The configuration of one of the pair.
pub(crate) fn pair_config(
    index: usize,
    change: impl Fn(usize, &mut Config, &mut PeerConfig),
) -> Config {
    let other = 1 - index;
    let mut config = Config::new([10, 0, 0, 1 + index as u8].into(), 65001 + index as u32);
    let mut peer = PeerConfig::new(65001 + other as u32);
    peer.next_hops = [(
        crate::Family::Ipv6Unicast,
        ADDRESSES[index][1].parse().unwrap(),
    )]
    .into();
    change(index, &mut config, &mut peer);
    config.peers = [(ADDRESSES[other][0].parse::<IpAddr>().unwrap().into(), peer)].into();
    config
}

pub(crate) const ADDRESSES: [&[&str]; 2] =
    [&["192.0.2.1", "2001:db8::1"], &["192.0.2.2", "2001:db8::2"]];
