//! How long to wait before a failed write is tried again.

use std::time::Duration;

/// Delays that double from 100 ms to 10 s while failures follow each other.
#[derive(Debug, Clone, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Notes a failure and says how long to wait. `random` in 0..1 spreads nodes that failed together: the delay is between
    /// half and the whole of its nominal length.
    pub fn failed(&mut self, random: f64) -> Duration {
        let nominal = FIRST.saturating_mul(1 << self.failures.min(16)).min(LAST);
        self.failures = self.failures.saturating_add(1);
        nominal.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
    }

    /// Notes a success: the next failure starts from the shortest delay.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// How many failures have followed each other.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

const FIRST: Duration = Duration::from_millis(100);
const LAST: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_ten_seconds_and_start_over_after_a_success() {
        let mut backoff = Backoff::default();
        let delays: Vec<u128> = (0..9).map(|_| backoff.failed(1.0).as_millis()).collect();
        assert_eq!(
            delays,
            [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]
        );
        backoff.succeeded();
        assert_eq!(backoff.failed(0.0), Duration::from_millis(50));
    }

    #[test]
    fn no_number_of_failures_overflows() {
        let mut backoff = Backoff { failures: u32::MAX };
        assert_eq!(backoff.failed(1.0), LAST);
    }
}
