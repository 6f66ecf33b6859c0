//! Metrics for Prometheus. The owner writes them once a second and after each apply; a scrape only reads atomics.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::output::answers;

/// Handles to all metrics. Clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    drops: Family<Drop, Total>,
    map_entries: Family<Map, Gauge>,
    map_max_entries: Family<Map, Gauge>,
    peer_up: Family<Peer, Gauge>,
    prefixes: Family<Prefixes, Gauge>,
    apply: Histogram,
    apply_failures: Family<Table, Total>,
    writes: Total,
    endpoints: Family<State, Gauge>,
    invalid: Family<Kind, Gauge>,
    store_revision: Gauge,
    store_in_sync: Gauge,
    store_troubles: Total,
    store_from_snapshot: Gauge,
    store_snapshot_age: Gauge,
    store_held: Gauge,
    store_frozen: Gauge,
    ready: Gauge,
}

type Total = Counter<u64, AtomicU64>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Drop {
    hook: String,
    reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Map {
    map: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Peer {
    peer: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Prefixes {
    peer: String,
    afi: String,
    dir: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Table {
    table: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: String,
}

impl Metrics {
    /// All metrics at zero, and the registry that prints them.
    pub fn new() -> (Self, Registry) {
        let metrics = Self {
            drops: Family::default(),
            map_entries: Family::default(),
            map_max_entries: Family::default(),
            peer_up: Family::default(),
            prefixes: Family::default(),
            // 100 µs to 3 s: one endpoint on an idle host to a whole cluster on a busy one.
            apply: Histogram::new(exponential_buckets(0.0001, 2.0, 16)),
            apply_failures: Family::default(),
            writes: Counter::default(),
            endpoints: Family::default(),
            invalid: Family::default(),
            store_revision: Gauge::default(),
            store_in_sync: Gauge::default(),
            store_troubles: Counter::default(),
            store_from_snapshot: Gauge::default(),
            store_snapshot_age: Gauge::default(),
            store_held: Gauge::default(),
            store_frozen: Gauge::default(),
            ready: Gauge::default(),
        };
        let mut registry = Registry::with_prefix("cleat");
        let m = metrics.clone();
        registry.register("build", "What was built from what", build_info());
        registry.register("drops", "Packets dropped, by hook and reason", m.drops);
        registry.register("map_entries", "Entries in a BPF map", m.map_entries);
        registry.register(
            "map_max_entries",
            "Entries a BPF map can hold",
            m.map_max_entries,
        );
        registry.register(
            "bgp_peer_up",
            "1 while the session is established",
            m.peer_up,
        );
        registry.register(
            "bgp_prefixes",
            "Prefixes of a session, by family and direction",
            m.prefixes,
        );
        registry.register_with_unit(
            "apply",
            "Time of one pass over the tables",
            Unit::Seconds,
            m.apply,
        );
        registry.register(
            "apply_failures",
            "Keys that could not be written, by table",
            m.apply_failures,
        );
        registry.register(
            "table_writes",
            "Entries written or removed in tables of the kernel",
            m.writes,
        );
        registry.register(
            "endpoints",
            "Workload endpoints of this host, by state",
            m.endpoints,
        );
        registry.register(
            "invalid_resources",
            "Resources in the store that cannot be used",
            m.invalid,
        );
        registry.register(
            "store_revision",
            "The newest revision seen",
            m.store_revision,
        );
        registry.register(
            "store_in_sync",
            "1 when the store has been read whole",
            m.store_in_sync,
        );
        registry.register(
            "store_troubles",
            "Times the store's watch broke",
            m.store_troubles,
        );
        registry.register(
            "store_from_snapshot",
            "1 while the state on disk is in force and the store has not told its own",
            m.store_from_snapshot,
        );
        registry.register_with_unit(
            "store_snapshot_age",
            "How long ago the state on disk that is in force was known to be the store's; 0 when none is",
            Unit::Seconds,
            m.store_snapshot_age,
        );
        registry.register(
            "store_held",
            "Objects in force that the store has lost, while it looks lost and is not obeyed",
            m.store_held,
        );
        registry.register(
            "store_frozen",
            "1 while ClusterInformation says that the datastore is not ready",
            m.store_frozen,
        );
        registry.register(
            "ready",
            "1 when every condition of readiness holds",
            m.ready,
        );
        (metrics, registry)
    }

    /// The kernel's count of dropped packets.
    pub fn drops(&self, hook: &str, reason: &str, packets: u64) {
        let label = Drop {
            hook: hook.to_owned(),
            reason: reason.to_owned(),
        };
        // The kernel counts; this is its number and not one more.
        self.drops
            .get_or_create(&label)
            .inner()
            .store(packets, Ordering::Relaxed);
    }

    /// How full a map is.
    pub fn map(&self, map: &str, entries: u64, max: u64) {
        let label = Map {
            map: map.to_owned(),
        };
        self.map_entries.get_or_create(&label).set(entries as i64);
        self.map_max_entries.get_or_create(&label).set(max as i64);
    }

    /// All peers; one that is gone is no longer shown.
    pub fn peers(&self, peers: &[answers::Peer]) {
        self.peer_up.clear();
        self.prefixes.clear();
        for peer in peers {
            let up = i64::from(peer.state == ESTABLISHED);
            self.peer_up
                .get_or_create(&Peer {
                    peer: peer.peer.clone(),
                })
                .set(up);
            for family in &peer.families {
                let counts = [
                    ("received", family.received),
                    ("accepted", family.accepted),
                    ("advertised", family.advertised),
                ];
                for (dir, count) in counts {
                    let label = Prefixes {
                        peer: peer.peer.clone(),
                        afi: family.family.clone(),
                        dir,
                    };
                    self.prefixes.get_or_create(&label).set(count as i64);
                }
            }
        }
    }

    /// One pass over the tables.
    pub fn applied(&self, took: Duration, writes: usize) {
        self.apply.observe(took.as_secs_f64());
        self.writes.inc_by(writes as u64);
    }

    /// Keys of a table that could not be written.
    pub fn apply_failed(&self, table: &str, keys: usize) {
        self.apply_failures
            .get_or_create(&Table {
                table: table.to_owned(),
            })
            .inc_by(keys as u64);
    }

    /// The endpoints of this host.
    pub fn endpoints(&self, count: answers::Count) {
        self.endpoints
            .get_or_create(&State { state: "up" })
            .set(count.good as i64);
        self.endpoints
            .get_or_create(&State { state: "waiting" })
            .set(count.all.saturating_sub(count.good) as i64);
    }

    /// Invalid resources by kind; a kind without any is shown with 0 once it had one.
    pub fn invalid(
        &self,
        by_kind: &BTreeMap<String, usize>,
        kinds: impl Iterator<Item = &'static str>,
    ) {
        for kind in kinds {
            let count = by_kind.get(kind).copied().unwrap_or(0);
            self.invalid
                .get_or_create(&Kind {
                    kind: kind.to_owned(),
                })
                .set(count as i64);
        }
    }

    /// The store as the watch sees it.
    pub fn store(&self, store: &answers::Store) {
        self.store_revision.set(store.revision as i64);
        self.store_in_sync.set(i64::from(store.in_sync));
        let snapshot = store.snapshot.as_ref();
        self.store_from_snapshot.set(i64::from(snapshot.is_some()));
        self.store_snapshot_age
            .set(snapshot.map_or(0, |snapshot| snapshot.age_seconds as i64));
        self.store_held
            .set(store.held.as_ref().map_or(0, |held| held.missing as i64));
        self.store_frozen.set(i64::from(store.frozen));
    }

    /// The watch broke.
    pub fn store_trouble(&self) {
        self.store_troubles.inc();
    }

    /// Readiness.
    pub fn ready(&self, ready: bool) {
        self.ready.set(i64::from(ready));
    }
}

/// The state of a session that carries routes.
pub const ESTABLISHED: &str = "Established";

fn build_info() -> Info<Vec<(&'static str, &'static str)>> {
    Info::new(vec![
        ("version", env!("CARGO_PKG_VERSION")),
        (
            "revision",
            option_env!("CLEAT_REVISION").unwrap_or("unknown"),
        ),
        ("rustc", env!("CARGO_PKG_RUST_VERSION")),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_prefix_and_the_units() {
        let (metrics, registry) = Metrics::new();
        metrics.drops("to_workload", "policy", 7);
        metrics.drops("to_workload", "policy", 9);
        metrics.map("ct4", 3, 512);
        metrics.applied(Duration::from_millis(2), 4);
        metrics.invalid(
            &[("IPPool".to_owned(), 2)].into(),
            ["IPPool", "Node"].into_iter(),
        );
        metrics.store(&answers::Store {
            revision: 12,
            in_sync: true,
            snapshot: Some(answers::Snapshot {
                age_seconds: 90,
                ..answers::Snapshot::default()
            }),
            held: Some(answers::Held {
                missing: 5,
                ..answers::Held::default()
            }),
            ..answers::Store::default()
        });
        metrics.peers(&[answers::Peer {
            peer: "192.0.2.1".into(),
            name: "tor".into(),
            remote_as: 65_001,
            state: ESTABLISHED.into(),
            since_seconds: 1,
            graceful_restart: String::new(),
            families: vec![answers::PeerFamily {
                family: "ipv6".into(),
                received: 3,
                accepted: 2,
                advertised: 1,
            }],
            last_error: String::new(),
        }]);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "cleat_drops_total{hook=\"to_workload\",reason=\"policy\"} 9",
            "cleat_map_entries{map=\"ct4\"} 3",
            "cleat_map_max_entries{map=\"ct4\"} 512",
            "cleat_apply_seconds_count 1",
            "cleat_table_writes_total 4",
            "cleat_invalid_resources{kind=\"IPPool\"} 2",
            "cleat_invalid_resources{kind=\"Node\"} 0",
            "cleat_store_revision 12",
            "cleat_store_from_snapshot 1",
            "cleat_store_snapshot_age_seconds 90",
            "cleat_store_held 5",
            "cleat_store_frozen 0",
            "cleat_bgp_peer_up{peer=\"192.0.2.1\"} 1",
            "cleat_bgp_prefixes{peer=\"192.0.2.1\",afi=\"ipv6\",dir=\"accepted\"} 2",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line} is not in\n{text}"
            );
        }
        assert!(text.contains("cleat_build_info{version="), "{text}");
        metrics.peers(&[]);
        text.clear();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(!text.contains("192.0.2.1"), "{text}");
    }
}
