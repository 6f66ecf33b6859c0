//! Several tables that refer to each other, applied in order.

use super::{Applied, Delta, Table};

/// A table with its delta, whatever its key and value.
pub trait Stage {
    /// The table's name, for logs and `show drift`.
    fn name(&self) -> &'static str;
    /// Reads the table.
    fn resync(&mut self) -> Result<(), String>;
    /// Writes what is wanted and not there.
    fn apply_puts(&mut self) -> StageReport;
    /// Removes what is there and not wanted.
    fn apply_deletes(&mut self) -> StageReport;
    /// Whether the table was read once.
    fn is_synced(&self) -> bool;
    /// Whether the table holds what is wanted and nothing else.
    fn is_settled(&self) -> bool;
}

/// A [`Delta`] and its [`Table`], borrowed for one [`apply`].
pub struct Pair<'a, K, V, T> {
    name: &'static str,
    delta: &'a mut Delta<K, V>,
    table: T,
}

/// What one pass did to one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageReport {
    /// The table.
    pub stage: &'static str,
    /// How many entries were written or removed.
    pub done: usize,
    /// The keys that failed, and why.
    pub failed: Vec<(String, String)>,
}

/// What [`apply`] did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// How many entries were written or removed.
    pub done: usize,
    /// The tables where something failed, in the order they were reached.
    pub failed: Vec<StageReport>,
    /// Every table holds what is wanted and nothing else.
    pub settled: bool,
}

/// Makes all tables agree with what is wanted: puts run forward and stop after the first stage where a key failed, deletes
/// (only if `deletes`, and only if all puts went through) run backward and stop likewise. A table that was never read is read first.
///
/// `deletes` is false until the store is in sync: what is not wanted now may be wanted by what is still to come.
pub fn apply(stages: &mut [&mut dyn Stage], deletes: bool) -> Outcome {
    let mut outcome = Outcome::default();
    for stage in stages.iter_mut() {
        if !stage.is_synced()
            && let Err(reason) = stage.resync()
        {
            outcome.failed.push(StageReport {
                stage: stage.name(),
                done: 0,
                failed: vec![("dump".to_owned(), reason)],
            });
            break;
        }
        if !outcome.take(stage.apply_puts()) {
            break;
        }
    }
    if deletes && outcome.failed.is_empty() {
        for stage in stages.iter_mut().rev() {
            if !outcome.take(stage.apply_deletes()) {
                break;
            }
        }
    }
    outcome.settled = outcome.failed.is_empty() && stages.iter().all(|stage| stage.is_settled());
    outcome
}

/// Reads every table again, so that what others changed there is noticed. Says which could not be read.
pub fn resync(stages: &mut [&mut dyn Stage]) -> Vec<StageReport> {
    let read = |stage: &mut dyn Stage| {
        let reason = stage.resync().err()?;
        Some(StageReport {
            stage: stage.name(),
            done: 0,
            failed: vec![("dump".to_owned(), reason)],
        })
    };
    stages.iter_mut().filter_map(|stage| read(*stage)).collect()
}

impl<'a, K, V, T: Table<K, V>> Pair<'a, K, V, T> {
    /// A stage called `name`.
    pub fn new(name: &'static str, delta: &'a mut Delta<K, V>, table: T) -> Self {
        Self { name, delta, table }
    }
}

impl<K, V, T> Stage for Pair<'_, K, V, T>
where
    K: Ord + Clone + std::fmt::Debug,
    V: PartialEq + Clone,
    T: Table<K, V>,
{
    fn name(&self) -> &'static str {
        self.name
    }

    fn resync(&mut self) -> Result<(), String> {
        self.delta
            .resync(&mut self.table)
            .map_err(|error| error.to_string())
    }

    fn apply_puts(&mut self) -> StageReport {
        StageReport::new(self.name, self.delta.apply_puts(&mut self.table))
    }

    fn apply_deletes(&mut self) -> StageReport {
        StageReport::new(self.name, self.delta.apply_deletes(&mut self.table))
    }

    fn is_synced(&self) -> bool {
        self.delta.is_synced()
    }

    fn is_settled(&self) -> bool {
        self.delta.is_settled()
    }
}

impl StageReport {
    fn new<K: std::fmt::Debug>(stage: &'static str, applied: Applied<K>) -> Self {
        let failed = applied
            .failed
            .into_iter()
            .map(|(key, reason)| (format!("{key:?}"), reason))
            .collect();
        Self {
            stage,
            done: applied.done,
            failed,
        }
    }
}

impl Outcome {
    pub(crate) fn take(&mut self, report: StageReport) -> bool {
        self.done += report.done;
        let clean = report.failed.is_empty();
        if !clean {
            self.failed.push(report);
        }
        clean
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Fault, MemoryTable};
    use super::*;

    #[test]
    fn puts_run_forward_and_deletes_backward() {
        let (mut sets, mut users) = (
            MemoryTable::from([("old", 1)]),
            MemoryTable::from([("a", "old")]),
        );
        let (mut wanted_sets, mut wanted_users) = (Delta::new(), Delta::new());
        wanted_sets.want("new", Some(1));
        wanted_users.want("a", Some("new"));
        users.fault("a", Fault::Refuse);
        let outcome = apply(
            &mut [
                &mut Pair::new("sets", &mut wanted_sets, &mut sets),
                &mut Pair::new("users", &mut wanted_users, &mut users),
            ],
            true,
        );
        assert_eq!(
            outcome
                .failed
                .iter()
                .map(|report| report.stage)
                .collect::<Vec<_>>(),
            ["users"]
        );
        assert_eq!(
            sets.entries(),
            &[("new", 1), ("old", 1)].into(),
            "the old set is kept while something may refer to it"
        );
        users.heal();
        let outcome = apply(
            &mut [
                &mut Pair::new("sets", &mut wanted_sets, &mut sets),
                &mut Pair::new("users", &mut wanted_users, &mut users),
            ],
            true,
        );
        assert!(outcome.settled);
        assert_eq!(sets.entries(), &[("new", 1)].into());
    }

    #[test]
    fn nothing_is_deleted_until_deletes_are_allowed() {
        let mut table = MemoryTable::from([(1, 1)]);
        let mut delta = Delta::new();
        let outcome = apply(
            &mut [&mut Pair::new("table", &mut delta, &mut table)],
            false,
        );
        assert!(outcome.failed.is_empty() && !outcome.settled);
        assert_eq!(table.writes(), 0);
        assert!(apply(&mut [&mut Pair::new("table", &mut delta, &mut table)], true).settled);
    }

    #[test]
    fn a_stage_that_fails_holds_back_the_stages_that_build_on_it() {
        let (mut first, mut second) = (MemoryTable::default(), MemoryTable::default());
        let (mut wanted_first, mut wanted_second) = (Delta::new(), Delta::new());
        wanted_first.want(1, Some(1));
        wanted_second.want(1, Some(1));
        first.fault(1, Fault::Refuse);
        apply(
            &mut [
                &mut Pair::new("first", &mut wanted_first, &mut first),
                &mut Pair::new("second", &mut wanted_second, &mut second),
            ],
            true,
        );
        assert_eq!(second.writes(), 0);
    }
}
