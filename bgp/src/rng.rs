//! Randomness that a test can repeat: splitmix64. It spreads timers, nothing depends on its secrecy.

use std::time::Duration;

/// A seeded generator.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// Equal seeds give equal sequences.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// Between 75 % and 100 % of a duration (RFC 4271 §10).
    pub fn jitter(&mut self, duration: Duration) -> Duration {
        let share = 0.75 + (self.next_u64() >> 40) as f64 / f64::from(1u32 << 24) / 4.0;
        duration.mul_f64(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_only_shortens_and_by_a_quarter_at_most() {
        let mut rng = Rng::new(1);
        let whole = Duration::from_secs(8);
        let times: Vec<_> = (0..1000).map(|_| rng.jitter(whole)).collect();
        assert!(
            times
                .iter()
                .all(|time| (whole * 3 / 4..=whole).contains(time))
        );
        assert!(
            times
                .iter()
                .max()
                .unwrap()
                .saturating_sub(*times.iter().min().unwrap())
                > whole / 5
        );
    }
}
