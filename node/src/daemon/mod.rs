//! The daemon: one owner thread that runs `update`, `flush`, `apply`, and what stands around it.
//!
//! ```text
//! store watch ─┐                                            ┌─> maps, attachments, kernel routes
//! netlink    ──┼─> owner: update -> (5 ms) flush -> apply ──┤
//! speaker    ─┘                                             └─> speaker: peers, originated prefixes
//! API socket ──> owner: questions                  admin HTTP: latches and metrics, on a thread of its own
//! ```
//!
//! On SIGTERM everything stays in place: programs, maps, routes; sessions are closed without a word, so that peers keep
//! our routes while the next process starts. A process that is killed leaves the same behind.

pub mod admin;
pub mod api;
mod flows;
pub mod gate;
pub mod health;
mod host;
pub mod http;
pub mod keeper;
pub mod known;
mod log;
pub mod metrics;
pub mod node_status;
pub mod notify;
mod owner;
pub mod pace;
mod parameters;
pub mod report;
pub mod sessions;
pub mod speaker;
pub mod store;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use cleat_datastore::snapshot::Snapshot;
use cleat_datastore::store::{Known, Watch};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::config::{Loaded, StoreKind};
use health::{Beat, Health, Latch};
use keeper::Keeper;
use metrics::Metrics;
use owner::Owner;

/// Something that the owner must see.
#[derive(Debug)]
pub enum Event {
    /// The store's watch told something.
    Store(cleat_datastore::Event),
    /// The speaker learned or lost routes.
    Fib(cleat_bgp::FibUpdate),
    /// Links, addresses, neighbours or routes of the kernel changed.
    Kernel(crate::netlink::Seen),
    /// Somebody asks.
    Ask(api::Question),
    /// The configuration was read again.
    Reload(Box<Loaded>),
    /// The process shall end.
    Stop,
}

/// Runs the daemon until it is told to stop. `reload` reads the configuration again, on SIGHUP.
pub fn run(
    loaded: &Loaded,
    reload: impl Fn() -> Result<Loaded, String> + Send + Sync + 'static,
) -> anyhow::Result<()> {
    let config = &loaded.config;
    let filter = log::start(&config.log);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        nodename = config.nodename,
        "starting"
    );
    for name in &loaded.ignored {
        tracing::warn!(name, "is no setting and is ignored");
    }
    let health = Health::default();
    let (metrics, registry) = Metrics::new();
    let admin = admin::start(config.admin_address, health.clone(), registry)?;
    tracing::info!(address = %admin.address(), "admin server listens");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(RUNTIME_THREADS)
        .thread_name("runtime")
        .enable_all()
        .build()
        .context("start the runtime")?;
    // A directory of files is as near as the state would be; a state of it could only be older.
    let keeps = config.datastore.kind() == StoreKind::Etcd;
    let source = config.datastore.kind().as_str();
    let base = keeps
        .then(|| keeper::load(&config.state_path, source))
        .flatten();
    let known = base.as_ref().map(known_of).unwrap_or_default();
    let keeper = keeps
        .then(|| Keeper::start(&config.state_path, source, base.as_ref()))
        .transpose()?;
    let (events, inbox) = mpsc::channel(INBOX);
    let (tell, sessions) = sessions::channel();
    let (telling, heard) = owner::telling::channels();
    {
        let _inside = runtime.enter();
        let store = store::open(&config.datastore).context("open the datastore")?;
        let watching = store.watch_from(known);
        let side = api::StoreSide {
            hold: watching.hold(),
            notes: keeper.as_ref().map(Keeper::notes),
        };
        api::start(&config.run_path, events.clone(), sessions.clone(), side)?;
        health.set(Latch::Listeners, Ok(()));
        tokio::spawn(watch(watching, events.clone()));
        tokio::spawn(report::run(
            config.nodename.clone(),
            Arc::clone(&store),
            heard.reports,
        ));
        tokio::spawn(node_status::run(store, sessions.clone(), heard.asked));
        tokio::spawn(signals(events.clone(), reload)?);
        tokio::spawn(watch_sessions(sessions.clone(), metrics.clone()));
        tokio::spawn(heartbeat(health.clone()));
    }
    let watched = events.clone();
    let mut owner = Owner::new(
        loaded,
        health,
        metrics,
        tell,
        events,
        (filter, admin),
        telling,
    )?;
    owner.keep(base, keeper.as_ref().map(Keeper::notes));
    watch_kernel(owner.watch().context("watch the kernel")?, watched)?;
    let handle = runtime.handle().clone();
    let thread = std::thread::Builder::new()
        .name("owner".into())
        .spawn(move || owner.run(&handle, inbox))?;
    let ended = thread.join();
    notify::stopping();
    if let Some(keeper) = keeper {
        keeper.finish();
    }
    runtime.shutdown_timeout(Duration::from_secs(1));
    match ended {
        Ok(()) => Ok(()),
        Err(_) => {
            anyhow::bail!("the owner thread panicked; everything it programmed stays in place")
        }
    }
}

/// What the watch need not be told again, and whose absence it shall notice.
fn known_of((snapshot, _): &(Snapshot, SystemTime)) -> Known {
    let mut known = Known::default();
    for entry in &snapshot.entries {
        known.objects.insert(entry.key.clone(), entry.revision);
    }
    known.cluster = Some(snapshot.origin.guid.clone()).filter(|guid| !guid.is_empty());
    known
}

async fn watch(mut watch: Watch, events: mpsc::Sender<Event>) {
    loop {
        let event = watch.next().await;
        if events.send(Event::Store(event)).await.is_err() {
            return;
        }
    }
}

fn signals(
    events: mpsc::Sender<Event>,
    reload: impl Fn() -> Result<Loaded, String> + Send + Sync + 'static,
) -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(async move {
        loop {
            let event = tokio::select! {
                _ = terminate.recv() => Event::Stop,
                _ = interrupt.recv() => Event::Stop,
                _ = hangup.recv() => {
                    notify::reloading();
                    match reload() {
                        Ok(loaded) => Event::Reload(Box::new(loaded)),
                        Err(reason) => {
                            tracing::error!(reason, "the configuration is refused; the former one stays in force");
                            notify::ready("the configuration was refused, see the log");
                            continue;
                        }
                    }
                }
            };
            let stop = matches!(event, Event::Stop);
            if stop {
                tracing::info!("stopping; everything programmed stays in place");
            }
            if events.send(event).await.is_err() || stop {
                return;
            }
        }
    })
}

/// Carries what the kernel tells of itself to the owner, on a thread of its own: the socket is a blocking one.
fn watch_kernel(
    mut watch: crate::netlink::Watch,
    events: mpsc::Sender<Event>,
) -> std::io::Result<()> {
    let wait = move || {
        while !events.is_closed() {
            match watch.wait(HEARTBEAT) {
                Ok(seen) if seen.any() => {
                    if events.blocking_send(Event::Kernel(seen)).is_err() {
                        return;
                    }
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "the kernel's events cannot be read; the next comparison finds what they would tell");
                    std::thread::sleep(HEARTBEAT);
                }
            }
        }
    };
    std::thread::Builder::new()
        .name("kernel".into())
        .spawn(wait)?;
    Ok(())
}

/// Brings the metrics of the sessions up to date.
async fn watch_sessions(sessions: sessions::Sessions, metrics: Metrics) {
    let mut ticks = tokio::time::interval(HEARTBEAT);
    loop {
        ticks.tick().await;
        metrics.peers(&sessions.peers().await);
    }
}

/// Proves that the runtime runs tasks, and tells systemd that all threads do while they do.
async fn heartbeat(health: Health) {
    let period = notify::watchdog_interval()
        .unwrap_or(HEARTBEAT)
        .min(HEARTBEAT);
    let mut ticks = tokio::time::interval(period);
    loop {
        ticks.tick().await;
        let now = Instant::now();
        health.beat(Beat::Runtime, now);
        if health.silent(now).is_empty() {
            notify::watchdog();
        }
    }
}

/// Sessions and the watch need little; the owner has a thread of its own.
const RUNTIME_THREADS: usize = 2;
/// Events that wait for the owner; a full inbox holds the store's watch back.
const INBOX: usize = 256;
const HEARTBEAT: Duration = Duration::from_secs(1);
