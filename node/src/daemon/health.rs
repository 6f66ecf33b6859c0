//! Readiness as a set of latches, and liveness as a heartbeat of each thread that must not hang.
//!
//! Shared by all threads; the admin server reads it even when the others hang.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::output::answers;

/// A condition of readiness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Latch {
    /// There is a whole state of the store: it was read, or the last good one is on disk.
    StoreInSync,
    /// Every table held what was wanted at least once.
    FirstApply,
    /// The programs are on every interface that wants them.
    ProgramsAttached,
    /// The API socket and the admin server listen.
    Listeners,
}

/// A thread that must keep ticking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    /// The owner loop.
    Owner,
    /// The runtime that drives the sessions and the store's watch.
    Runtime,
}

/// The state of all latches and heartbeats. Clones share it.
#[derive(Debug, Clone)]
pub struct Health {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    latches: [State; LATCHES.len()],
    beats: [Option<Instant>; BEATS.len()],
}

#[derive(Debug)]
struct State {
    holds: bool,
    /// Why not, or what is worth knowing all the same.
    note: String,
}

impl Default for Health {
    fn default() -> Self {
        let latches = std::array::from_fn(|_| State {
            holds: false,
            note: "not yet".to_owned(),
        });
        Self {
            inner: Arc::new(Mutex::new(Inner {
                latches,
                beats: [None; BEATS.len()],
            })),
        }
    }
}

impl Health {
    /// Sets a latch, or says why it does not hold.
    pub fn set(&self, latch: Latch, state: Result<(), String>) {
        self.lock().latches[latch as usize] = State {
            holds: state.is_ok(),
            note: state.err().unwrap_or_default(),
        };
    }

    /// Sets a latch, and says what is worth knowing all the same.
    pub fn set_noting(&self, latch: Latch, note: String) {
        self.lock().latches[latch as usize] = State { holds: true, note };
    }

    /// Notes that a thread was alive.
    pub fn beat(&self, beat: Beat, now: Instant) {
        self.lock().beats[beat as usize] = Some(now);
    }

    /// True when every latch holds.
    pub fn ready(&self) -> bool {
        self.lock().latches.iter().all(|state| state.holds)
    }

    /// Every latch with its state.
    pub fn latches(&self) -> Vec<answers::Latch> {
        let inner = self.lock();
        LATCHES
            .iter()
            .map(|&(latch, name)| {
                let state = &inner.latches[latch as usize];
                answers::Latch {
                    name: name.to_owned(),
                    ready: state.holds,
                    reason: state.note.clone(),
                }
            })
            .collect()
    }

    /// The threads that have not ticked for [`SILENCE`]; empty when the daemon lives. A thread that never ticked has not
    /// started and is not judged.
    pub fn silent(&self, now: Instant) -> Vec<(&'static str, Duration)> {
        let inner = self.lock();
        BEATS
            .iter()
            .filter_map(|&(beat, name)| {
                let age = now.saturating_duration_since(inner.beats[beat as usize]?);
                (age > SILENCE).then_some((name, age))
            })
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic while the lock is held cannot leave a half-written latch.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a thread may be silent: a third of the unit's watchdog, and longer than the dump of full tables takes.
pub const SILENCE: Duration = Duration::from_secs(10);

const LATCHES: [(Latch, &str); 4] = [
    (Latch::StoreInSync, "store in sync"),
    (Latch::FirstApply, "first apply clean"),
    (Latch::ProgramsAttached, "programs attached"),
    (Latch::Listeners, "listeners up"),
];
const BEATS: [(Beat, &str); 2] = [(Beat::Owner, "owner"), (Beat::Runtime, "runtime")];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_every_latch_holds_and_not_before() {
        let health = Health::default();
        for (latch, _) in LATCHES {
            assert!(!health.ready(), "{latch:?}");
            health.set(latch, Ok(()));
        }
        assert!(health.ready());
        health.set(Latch::StoreInSync, Err("etcd is away".into()));
        assert!(!health.ready());
        let reason = health
            .latches()
            .into_iter()
            .find(|latch| !latch.ready)
            .unwrap();
        assert_eq!(
            (reason.name.as_str(), reason.reason.as_str()),
            ("store in sync", "etcd is away")
        );
    }

    #[test]
    fn a_thread_that_stops_ticking_is_named() {
        let (health, start) = (Health::default(), Instant::now());
        assert!(health.silent(start).is_empty());
        health.beat(Beat::Owner, start);
        health.beat(Beat::Runtime, start + SILENCE);
        assert!(health.silent(start + SILENCE).is_empty());
        let late = start + SILENCE + Duration::from_secs(1);
        assert_eq!(
            health.silent(late),
            [("owner", SILENCE + Duration::from_secs(1))]
        );
    }
}
