//! The task that owns the speaker: events in, effects out.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};

use super::FibSender;
use super::connection::{self, Call, Command, Handle, Reports};
use super::listener::Listeners;
use crate::config::{Config, Origin, Stop};
use crate::session::ConnId;
use crate::speaker::{Effect, Event, Speaker};
use crate::status::{PeerStatus, RouteFilter, RouteView, SpeakerStatus};

/// What a handle asks.
#[derive(Debug)]
pub(super) enum Query {
    Fib(FibSender),
    Peers(oneshot::Sender<Vec<PeerStatus>>),
    Routes(RouteFilter, oneshot::Sender<Vec<RouteView>>),
    Status(oneshot::Sender<SpeakerStatus>),
    Stop(Stop, oneshot::Sender<()>),
}

/// The task's state.
pub(super) struct Owner {
    speaker: Speaker,
    config: watch::Receiver<Config>,
    originated: watch::Receiver<Option<BTreeMap<IpNet, Origin>>>,
    queries: mpsc::Receiver<Query>,
    listeners: Listeners,
    accepted: mpsc::Receiver<TcpStream>,
    accepted_count: u64,
    reports: Reports,
    read: mpsc::Receiver<Event>,
    written: mpsc::UnboundedReceiver<Event>,
    connections: BTreeMap<ConnId, Handle>,
    tasks: JoinSet<()>,
    subscribers: Vec<FibSender>,
}

impl Owner {
    pub(super) fn new(
        mut config: watch::Receiver<Config>,
        originated: watch::Receiver<Option<BTreeMap<IpNet, Origin>>>,
        queries: mpsc::Receiver<Query>,
        seed: u64,
    ) -> Self {
        let (read_tx, read) = mpsc::channel(READS);
        let (written_tx, written) = mpsc::unbounded_channel();
        let (accepted_tx, accepted) = mpsc::channel(ACCEPTS);
        let first = config.borrow_and_update().clone();
        let mut listeners = Listeners::new(accepted_tx);
        listeners.set(&first.listen);
        Self {
            speaker: Speaker::new(first, seed, Instant::now()),
            config,
            originated,
            queries,
            listeners,
            accepted,
            accepted_count: 0,
            reports: Reports {
                read: read_tx,
                written: written_tx,
            },
            read,
            written,
            connections: BTreeMap::new(),
            tasks: JoinSet::new(),
            subscribers: Vec::new(),
        }
    }

    pub(super) async fn run(mut self) {
        self.handle(Event::Timeout); // what the speaker wants from the start
        loop {
            let deadline = self.speaker.next_deadline();
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                self.catch_up().await;
                self.handle(Event::Timeout);
                continue;
            }
            let sleep = sleep_until(deadline.unwrap_or_else(|| Instant::now() + IDLE).into());
            tokio::select! {
                query = self.queries.recv() => match query {
                    Some(Query::Stop(stop, reply)) => {
                        self.stop(stop).await;
                        let _ = reply.send(());
                        return;
                    }
                    Some(query) => {
                        self.follow();
                        self.answer(query);
                    }
                    None => return self.stop(Stop::Restart).await,
                },
                Ok(()) = self.config.changed() => self.configure(),
                Ok(()) = self.originated.changed() => {
                    self.follow();
                    self.originate();
                }
                Some(event) = self.written.recv() => self.handle(event),
                Some(event) = self.read.recv() => self.handle(event),
                Some(stream) = self.accepted.recv() => self.accept(stream),
                Some(_) = self.tasks.join_next(), if !self.tasks.is_empty() => {}
                () = sleep => {}
            }
        }
    }

    /// Takes what is wanted in the order that it depends on: prefixes without peers would already be complete.
    fn follow(&mut self) {
        if self.config.has_changed().unwrap_or(false) {
            self.configure();
        }
        if self.originated.has_changed().unwrap_or(false) {
            self.originate();
        }
    }

    fn configure(&mut self) {
        let config = self.config.borrow_and_update().clone();
        self.listeners.set(&config.listen);
        self.handle(Event::Configure(config));
    }

    fn originate(&mut self) {
        let prefixes = self.originated.borrow_and_update().clone();
        self.handle(Event::Originate(prefixes.unwrap_or_default()));
    }

    /// Before a timer ends a session, what its peer sent in time must be heard: this task may have been busy.
    async fn catch_up(&mut self) {
        for _ in 0..CATCH_UP {
            // Readers that wait for room get their turn.
            tokio::task::yield_now().await;
            let Ok(event) = self.read.try_recv() else {
                return;
            };
            self.handle(event);
        }
    }

    fn handle(&mut self, event: Event) {
        let now = Instant::now();
        if let Event::Closed { conn, .. } | Event::ConnectFailed { conn, .. } = &event {
            self.connections.remove(conn);
        }
        let mut effects = self.speaker.handle(event, now);
        // An effect that fails is an event, with effects of its own.
        while !effects.is_empty() {
            let failed: Vec<Event> = effects
                .into_iter()
                .filter_map(|effect| self.effect(effect))
                .collect();
            effects = failed
                .into_iter()
                .flat_map(|event| self.speaker.handle(event, now))
                .collect();
        }
        if let Some(update) = self.speaker.take_fib() {
            self.subscribers
                .retain(|subscriber| subscriber.send(&update));
        }
    }

    fn effect(&mut self, effect: Effect) -> Option<Event> {
        let (conn, command) = match effect {
            Effect::Connect {
                conn,
                remote,
                local,
                ttl,
            } => {
                let call = Call { remote, local, ttl };
                let (handle, task) = connection::dial(conn, call, self.reports.clone());
                self.connections.insert(conn, handle);
                self.tasks.spawn(task);
                return None;
            }
            Effect::Close { conn } => {
                self.connections.remove(&conn);
                return None;
            }
            Effect::Send { conn, bytes } => (conn, Command::Send(bytes)),
            Effect::Keepalive { conn, every } => (conn, Command::Keepalive(every)),
            Effect::SetTtl { conn, ttl } => (conn, Command::SetTtl(ttl)),
        };
        let handle = self.connections.get(&conn)?;
        if handle.command(command) {
            return None;
        }
        self.connections.remove(&conn);
        let error = "the connection does not take what is to be sent".to_owned();
        Some(Event::Closed { conn, error })
    }

    fn accept(&mut self, stream: TcpStream) {
        let Ok(ends) = connection::ends(&stream) else {
            return; // gone already
        };
        self.accepted_count += 1;
        let conn = ConnId::Accepted(self.accepted_count);
        let (handle, task) = connection::accepted(conn, stream, self.reports.clone());
        self.connections.insert(conn, handle);
        self.tasks.spawn(task);
        self.handle(Event::Accepted { conn, ends });
    }

    fn answer(&mut self, query: Query) {
        // Who asked may be gone; then nobody misses the answer.
        match query {
            Query::Fib(subscriber) => {
                if subscriber.send(&self.speaker.fib()) {
                    self.subscribers.push(subscriber);
                }
            }
            Query::Peers(reply) => drop(reply.send(self.speaker.peers(Instant::now()))),
            Query::Routes(filter, reply) => drop(reply.send(self.speaker.routes(&filter))),
            Query::Status(reply) => {
                let mut status = self.speaker.status();
                status.listeners = self.listeners.status();
                let _ = reply.send(status);
            }
            Query::Stop(..) => {}
        }
    }

    async fn stop(&mut self, stop: Stop) {
        self.listeners.set(&[]);
        self.handle(Event::Stop(stop));
        self.connections.clear();
        // Readers must not wait for this task, which waits for them.
        self.read.close();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        let _ = timeout(STOP, all).await;
    }
}

/// Chunks of bytes from all peers that may wait: with the size of a read, the memory that waiting may take.
const READS: usize = 64;
const ACCEPTS: usize = 16;
/// How many chunks are heard before a timer is believed.
const CATCH_UP: usize = 256;
/// Nothing is due; any time does.
const IDLE: Duration = Duration::from_hours(1);
const STOP: Duration = Duration::from_millis(2500);
