//! Answers CalicoNodeStatus objects: what this node's speaker, its sessions and its routes are like, in the words of
//! Calico's node agent, which reads them from BIRD.
//!
//! An object is answered when it appears, when its specification changes, and then as often as it says. It is replaced only
//! if it is still as it was read, and its `status` alone is another one then.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use cleat_bgp::status::{ListenerStatus, SessionState};
use cleat_bgp::{PeerStatus, RouteFilter, RouteTable, RouteView};
use cleat_datastore::store::{AnyStore, StoreError};
use cleat_datastore::{Key, Kind, Resource, resource};
use ipnet::IpNet;
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio::time::sleep_until;

use super::keeper::time;
use super::sessions::Sessions;

/// What is asked of this node, and what only the owner knows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Asked {
    /// The objects that ask this node, by name.
    pub objects: BTreeMap<String, Spec>,
    /// Routes to this host's own workloads and blocks: the interface, or none for a blackhole.
    pub local: BTreeMap<IpNet, Option<String>>,
    /// The interface that has an address.
    pub links: BTreeMap<IpAddr, String>,
    /// Nothing may be written to the store: it says that it is not ready.
    pub quiet: bool,
}

/// What an object asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spec {
    /// `Agent`, `BGP`, `Routes`.
    pub classes: BTreeSet<String>,
    /// How often; none for once.
    pub period: Option<Duration>,
}

impl Spec {
    /// What an object asks of a node, if it asks that one.
    pub fn of(resource: &Resource, node: &str) -> Option<Self> {
        let value = resource.to_value();
        let spec = value.get("spec")?;
        if spec.get("node")?.as_str()? != node {
            return None;
        }
        let classes = spec.get("classes").and_then(Value::as_array);
        let classes = classes.into_iter().flatten().filter_map(Value::as_str);
        let period = spec.get("updatePeriodSeconds").and_then(Value::as_u64);
        let period = Duration::from_secs(period.unwrap_or(DEFAULT_PERIOD));
        Some(Self {
            classes: classes.map(str::to_owned).collect(),
            period: (!period.is_zero()).then_some(period),
        })
    }
}

/// Runs until the owner is gone.
pub async fn run(store: AnyStore, sessions: Sessions, mut asked: watch::Receiver<Arc<Asked>>) {
    let started = SystemTime::now();
    // What each object asked when it was answered last, and when it wants to be answered again.
    let mut answered: BTreeMap<String, (Spec, Option<Instant>)> = BTreeMap::new();
    loop {
        let current = asked.borrow_and_update().clone();
        answered.retain(|name, _| current.objects.contains_key(name));
        let now = Instant::now();
        let mut next = now + IDLE;
        for (name, spec) in current.objects.iter().filter(|_| !current.quiet) {
            let due = match answered.get(name) {
                Some((old, when)) if old == spec => *when,
                _ => Some(now),
            };
            let Some(due) = due else {
                continue;
            };
            if due > now {
                next = next.min(due);
                continue;
            }
            let again = match answer(&store, name, spec, &sessions, &current, started).await {
                Ok(()) => spec.period.map(|period| now + period),
                // It may be gone, or have changed since; the store's watch will tell.
                Err(error) => {
                    tracing::debug!(name, %error, "CalicoNodeStatus could not be answered; trying again");
                    Some(now + AGAIN)
                }
            };
            next = next.min(again.unwrap_or(next));
            answered.insert(name.clone(), (spec.clone(), again));
        }
        tokio::select! {
            changed = asked.changed() => if changed.is_err() {
                return;
            },
            () = sleep_until(next.into()) => {}
        }
    }
}

async fn answer(
    store: &AnyStore,
    name: &str,
    spec: &Spec,
    sessions: &Sessions,
    asked: &Asked,
    started: SystemTime,
) -> Result<(), StoreError> {
    let key = Key::global(Kind::CalicoNodeStatus, name);
    let Some(entry) = store.get(&key).await? else {
        return Ok(());
    };
    let object = entry.resource?;
    let mut whole = object.to_value();
    let mut status = Map::new();
    let speaker = Speaker::ask(sessions).await;
    for class in &spec.classes {
        let (field, value) = match class.as_str() {
            "Agent" => ("agent", speaker.agent(started)),
            "BGP" => ("bgp", speaker.sessions()),
            "Routes" => ("routes", speaker.routes(asked)),
            _ => continue,
        };
        status.insert(field.to_owned(), value);
    }
    let old = whole.get("status").and_then(Value::as_object);
    let same = old.is_some_and(|old| {
        let mut old = old.clone();
        old.remove("lastUpdated");
        // A class that is not asked for any more keeps what was told of it.
        status
            .iter()
            .all(|(field, value)| old.get(field) == Some(value))
    });
    if same {
        return Ok(());
    }
    let mut new = old.cloned().unwrap_or_default();
    new.extend(status);
    new.insert("lastUpdated".to_owned(), time(SystemTime::now()).into());
    whole["status"] = new.into();
    let changed = resource::decode_value(&key, whole)?;
    store.update(&changed, entry.revision).await.map(drop)
}

/// What the speaker says of itself; nothing of it if there is none.
#[derive(Default)]
struct Speaker {
    router_id: String,
    listeners: Vec<ListenerStatus>,
    peers: Vec<(PeerStatus, &'static str)>,
    best: Vec<RouteView>,
    kinds: BTreeMap<IpAddr, &'static str>,
    runs: bool,
    configured: Option<SystemTime>,
}

impl Speaker {
    async fn ask(sessions: &Sessions) -> Self {
        let current = sessions.current();
        let Some(speaker) = &current.speaker else {
            return Self::default();
        };
        let Some(status) = speaker.status().await else {
            return Self::default();
        };
        let peers = speaker.peers().await;
        let kind = |peer: &PeerStatus| current.kinds.get(&peer.address).copied().unwrap_or("");
        let filter = RouteFilter {
            table: RouteTable::Accepted,
            limit: Some(MAX_ROUTES),
            ..RouteFilter::default()
        };
        Self {
            router_id: status.router_id.to_string(),
            listeners: status.listeners,
            best: speaker.routes(filter).await,
            kinds: peers
                .iter()
                .map(|peer| (peer.address.ip, kind(peer)))
                .collect(),
            peers: peers
                .into_iter()
                .map(|peer| {
                    let kind = kind(&peer);
                    (peer, kind)
                })
                .collect(),
            runs: true,
            configured: current.configured,
        }
    }

    /// One daemon for each family, as Calico has them.
    fn agent(&self, started: SystemTime) -> Value {
        let daemon = |v4: bool| {
            let mut listeners = self.listeners.iter();
            let listens = listeners
                .any(|listener| listener.address.is_ipv4() == v4 && listener.error.is_none());
            if !self.runs || !listens {
                return json!({"state": "NotReady"});
            }
            json!({
                "state": "Ready",
                "version": concat!("cleat v", env!("CARGO_PKG_VERSION")),
                "routerID": self.router_id,
                "lastBootTime": clock(started),
                "lastReconfigurationTime": clock(self.configured.unwrap_or(started)),
            })
        };
        json!({"birdV4": daemon(true), "birdV6": daemon(false)})
    }

    fn sessions(&self) -> Value {
        let of = |v4: bool| {
            let peers = self.peers.iter();
            peers.filter(move |(peer, _)| peer.address.ip.is_ipv4() == v4)
        };
        let up = |(peer, _): &&(PeerStatus, &str)| peer.state == SessionState::Established;
        let list = |v4: bool| -> Vec<Value> {
            of(v4)
                .map(|(peer, kind)| {
                    json!({
                        "peerIP": peer.address.ip.to_string(),
                        "type": kind,
                        "state": state(peer.state),
                        "since": since(peer.since, SystemTime::now()),
                    })
                })
                .collect()
        };
        json!({
            "numberEstablishedV4": of(true).filter(up).count(),
            "numberNotEstablishedV4": of(true).count() - of(true).filter(up).count(),
            "numberEstablishedV6": of(false).filter(up).count(),
            "numberNotEstablishedV6": of(false).count() - of(false).filter(up).count(),
            "peersV4": list(true),
            "peersV6": list(false),
        })
    }

    fn routes(&self, asked: &Asked) -> Value {
        let list = |v4: bool| -> Vec<Value> {
            let local = asked.local.iter();
            let local = local.filter(|(prefix, _)| prefix.addr().is_ipv4() == v4);
            let local = local.map(|(prefix, interface)| {
                json!({
                    "type": "FIB",
                    "destination": prefix.to_string(),
                    "gateway": "N/A",
                    "interface": interface.as_deref().unwrap_or("blackhole"),
                    "learnedFrom": {"sourceType": if interface.is_some() { "Kernel" } else { "Static" }},
                })
            });
            let learned = self.best.iter();
            let learned = learned.filter(|route| route.prefix.addr().is_ipv4() == v4);
            let learned = learned.filter_map(|route| {
                let peer = route.peer?.ip;
                let hop = route.next_hop?;
                let mesh = self.kinds.get(&peer) == Some(&MESH);
                Some(json!({
                    "type": if route.best || route.multipath { "FIB" } else { "RIB" },
                    "destination": route.prefix.to_string(),
                    "gateway": hop.to_string(),
                    "interface": interface_to(hop, &asked.links),
                    "learnedFrom": {
                        "sourceType": if mesh { "NodeMesh" } else { "BGPPeer" },
                        "peerIP": peer.to_string(),
                    },
                }))
            });
            local.chain(learned).take(MAX_ROUTES).collect()
        };
        json!({"routesV4": list(true), "routesV6": list(false)})
    }
}

/// What kind of peer a session is with, from the words of the calculation.
pub fn kind(words: &str) -> &'static str {
    match words {
        "node-to-node mesh" => MESH,
        "global" => "GlobalPeer",
        _ => "NodePeer",
    }
}

fn state(state: SessionState) -> &'static str {
    match state {
        SessionState::Idle => "Idle",
        SessionState::Connect => "Connect",
        SessionState::Active => "Active",
        SessionState::OpenSent => "OpenSent",
        SessionState::OpenConfirm => "OpenConfirm",
        SessionState::Established => "Established",
    }
}

/// A time as BIRD's status has it.
fn clock(at: SystemTime) -> String {
    time(at).replace('T', " ").replace('Z', "")
}

/// The time when something began, as BIRD's table of protocols has it: of the last hours the time, of others the date.
fn since(ago: Duration, now: SystemTime) -> String {
    let clock = clock(now.checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH));
    let (date, time) = clock.split_once(' ').unwrap_or((&clock, ""));
    if ago < RECENT { time } else { date }.to_owned()
}

/// The interface by which the kernel reaches an address. Connecting a datagram socket sends nothing.
fn interface_to(hop: IpAddr, links: &BTreeMap<IpAddr, String>) -> String {
    let source = || -> std::io::Result<IpAddr> {
        let socket = match hop {
            IpAddr::V4(_) => UdpSocket::bind("0.0.0.0:0")?,
            IpAddr::V6(_) => UdpSocket::bind("[::]:0")?,
        };
        socket.connect((hop, cleat_bgp::config::PORT))?;
        Ok(socket.local_addr()?.ip())
    };
    let source = source().ok();
    source
        .and_then(|source| links.get(&source).cloned())
        .unwrap_or_default()
}

const MESH: &str = "NodeMesh";
/// The API's default.
const DEFAULT_PERIOD: u64 = 10;
/// More than this would not fit into an object of the store.
const MAX_ROUTES: usize = 4000;
/// BIRD shows the time of what began within so long.
const RECENT: Duration = Duration::from_hours(20);
const IDLE: Duration = Duration::from_mins(1);
/// Time after which a write that failed is tried again.
const AGAIN: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use cleat_datastore::resource::from_manifest;
    use cleat_datastore::store::Memory;

    use super::*;

    fn object(spec: &Value) -> Resource {
        let manifest = json!({"apiVersion": "projectcalico.org/v3", "kind": "CalicoNodeStatus", "metadata": {"name": "s"}, "spec": spec});
        from_manifest(manifest).unwrap().1
    }

    #[test]
    fn an_object_asks_the_node_it_names_and_every_ten_seconds_if_it_does_not_say() {
        let all = json!({"node": "h1", "classes": ["Agent", "BGP", "Routes"]});
        let spec = Spec::of(&object(&all), "h1").unwrap();
        assert_eq!(
            (spec.classes.len(), spec.period),
            (3, Some(Duration::from_secs(10)))
        );
        assert_eq!(Spec::of(&object(&all), "h2"), None);
        let once = json!({"node": "h1", "classes": ["BGP"], "updatePeriodSeconds": 0});
        assert_eq!(Spec::of(&object(&once), "h1").unwrap().period, None);
    }

    #[test]
    fn times_are_written_as_bird_writes_them() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_632_084_536);
        assert_eq!(clock(now), "2021-09-19 20:48:56");
        assert_eq!(since(Duration::from_hours(1), now), "19:48:56");
        assert_eq!(since(Duration::from_hours(48), now), "2021-09-17");
    }

    #[tokio::test]
    async fn an_object_is_answered_and_keeps_the_rest_of_itself() {
        let store: AnyStore = Arc::new(Memory::new());
        let asks =
            json!({"node": "h1", "classes": ["Agent", "BGP", "Routes"], "updatePeriodSeconds": 0});
        let mut object = object(&asks);
        object
            .metadata_mut()
            .unwrap()
            .labels
            .insert("a".into(), "b".into());
        store.create(&object).await.unwrap();
        let (_tell, sessions) = super::super::sessions::channel();
        let asked = Asked {
            objects: [("s".to_owned(), Spec::of(&object, "h1").unwrap())].into(),
            local: [
                ("10.65.0.2/32".parse().unwrap(), Some("cali0".to_owned())),
                ("fd65::/122".parse().unwrap(), None),
            ]
            .into(),
            links: [(IpAddr::from(Ipv4Addr::LOCALHOST), "lo".to_owned())].into(),
            quiet: false,
        };
        let (tell, hear) = watch::channel(Arc::new(asked));
        let task = tokio::spawn(run(Arc::clone(&store), sessions, hear));
        let key = Key::global(Kind::CalicoNodeStatus, "s");
        let deadline = Instant::now() + Duration::from_secs(10);
        let (status, entry) = loop {
            let entry = store.get(&key).await.unwrap().unwrap();
            let value = entry.resource.as_ref().unwrap().to_value();
            if let Some(status) = value.get("status") {
                break (status.clone(), entry);
            }
            assert!(Instant::now() < deadline);
            tokio::task::yield_now().await;
        };
        assert_eq!(status["agent"]["birdV4"]["state"], "NotReady");
        assert_eq!(status["bgp"]["numberEstablishedV6"], 0);
        let route = &status["routes"]["routesV4"][0];
        assert_eq!(
            *route,
            json!({"type": "FIB", "destination": "10.65.0.2/32", "gateway": "N/A", "interface": "cali0", "learnedFrom": {"sourceType": "Kernel"}})
        );
        assert_eq!(status["routes"]["routesV6"][0]["interface"], "blackhole");
        assert!(status["lastUpdated"].as_str().unwrap().ends_with('Z'));
        let metadata = entry.resource.as_ref().unwrap().metadata().unwrap().clone();
        assert_eq!(metadata.labels["a"], "b");
        assert!(metadata.uid.is_some());
        drop(tell);
        task.await.unwrap();
    }

    #[test]
    fn the_interface_to_an_address_is_that_of_the_address_it_is_spoken_to_from() {
        let links = [(IpAddr::from(Ipv4Addr::LOCALHOST), "lo".to_owned())].into();
        assert_eq!(interface_to([127, 0, 0, 1].into(), &links), "lo");
    }
}
