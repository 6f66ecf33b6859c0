//! When the owner flushes, tries again, and compares again. Pure: the clock is an argument.

use std::time::{Duration, Instant};

use crate::reconcile::Backoff;

/// What the owner should do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Recompute and write what changed.
    Flush,
    /// Write again what failed.
    Retry,
    /// Dump the tables and write what differs.
    Resync,
}

/// The owner's deadlines.
#[derive(Debug)]
pub struct Pace {
    first_change: Option<Instant>,
    last_change: Option<Instant>,
    retry: Option<Instant>,
    backoff: Backoff,
    resync: Option<Instant>,
    interval: Option<Duration>,
}

impl Pace {
    /// A pace that compares every `interval`, if any.
    pub fn new(interval: Option<Duration>, now: Instant, random: f64) -> Self {
        let mut pace = Self {
            first_change: None,
            last_change: None,
            retry: None,
            backoff: Backoff::default(),
            resync: None,
            interval,
        };
        pace.resynced(now, random);
        pace
    }

    /// Compares at another interval from now on, if it is another.
    pub fn set_interval(&mut self, interval: Option<Duration>, now: Instant, random: f64) {
        if self.interval != interval {
            self.interval = interval;
            self.resynced(now, random);
        }
    }

    /// Notes that something changed that the next flush must see.
    pub fn changed(&mut self, now: Instant) {
        self.first_change.get_or_insert(now);
        self.last_change = Some(now);
    }

    /// Notes that all was written, or how much later it shall be tried again.
    pub fn applied(&mut self, clean: bool, now: Instant, random: f64) {
        if clean {
            self.backoff.succeeded();
            self.retry = None;
        } else {
            self.retry = Some(now + self.backoff.failed(random));
        }
    }

    /// Asks for a comparison now: something says that the tables may have changed behind our back.
    pub fn doubt(&mut self, now: Instant) {
        self.resync = Some(now);
    }

    /// Notes a comparison; the next is an interval away, give or take a tenth so that hosts do not march in step.
    pub fn resynced(&mut self, now: Instant, random: f64) {
        self.resync = self
            .interval
            .map(|interval| now + interval.mul_f64(0.9 + 0.2 * random.clamp(0.0, 1.0)));
    }

    /// Notes a flush.
    pub fn flushed(&mut self) {
        self.first_change = None;
        self.last_change = None;
    }

    /// When the owner must wake, and for what; the earliest.
    pub fn next(&self) -> Option<(Instant, Due)> {
        let flush = self
            .first_change
            .zip(self.last_change)
            .map(|(first, last)| (last + QUIET).min(first + LATEST));
        [
            (flush, Due::Flush),
            (self.retry, Due::Retry),
            (self.resync, Due::Resync),
        ]
        .into_iter()
        .filter_map(|(at, due)| Some((at?, due)))
        .min_by_key(|&(at, _)| at)
    }
}

/// Quiet time after a change before it is flushed: a burst becomes one pass.
const QUIET: Duration = Duration::from_millis(5);
/// The longest a change waits however long the burst.
const LATEST: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_burst_is_one_flush_and_no_change_waits_longer_than_the_latest() {
        let start = Instant::now();
        let mut pace = Pace::new(None, start, 0.0);
        assert_eq!(pace.next(), None);
        pace.changed(start);
        assert_eq!(pace.next(), Some((start + 5 * MS, Due::Flush)));
        for ms in 0..200 {
            pace.changed(start + ms * MS);
        }
        assert_eq!(pace.next(), Some((start + 100 * MS, Due::Flush)));
        pace.flushed();
        assert_eq!(pace.next(), None);
    }

    #[test]
    fn a_failure_is_tried_again_later_each_time() {
        let start = Instant::now();
        let mut pace = Pace::new(None, start, 0.0);
        pace.applied(false, start, 1.0);
        assert_eq!(pace.next(), Some((start + 100 * MS, Due::Retry)));
        pace.applied(false, start, 1.0);
        assert_eq!(pace.next(), Some((start + 200 * MS, Due::Retry)));
        pace.applied(true, start, 1.0);
        assert_eq!(pace.next(), None);
    }

    #[test]
    fn comparisons_come_at_the_interval_with_jitter_and_at_once_on_doubt() {
        let start = Instant::now();
        let interval = Duration::from_secs(90);
        let pace = Pace::new(Some(interval), start, 0.0);
        assert_eq!(
            pace.next(),
            Some((start + Duration::from_secs(81), Due::Resync))
        );
        let mut pace = Pace::new(Some(interval), start, 1.0);
        assert_eq!(
            pace.next(),
            Some((start + Duration::from_secs(99), Due::Resync))
        );
        pace.doubt(start);
        assert_eq!(pace.next(), Some((start, Due::Resync)));
        let later = start + Duration::from_secs(50);
        pace.set_interval(Some(Duration::from_secs(10)), later, 0.5);
        assert_eq!(
            pace.next(),
            Some((start + Duration::from_mins(1), Due::Resync))
        );
        pace.set_interval(
            Some(Duration::from_secs(10)),
            later + Duration::from_secs(5),
            0.5,
        );
        assert_eq!(
            pace.next(),
            Some((start + Duration::from_mins(1), Due::Resync))
        );
        pace.set_interval(None, later, 0.5);
        assert_eq!(pace.next(), None);
    }
}
