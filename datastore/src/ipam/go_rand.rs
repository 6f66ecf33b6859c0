//! The random numbers of Go's `math/rand`, by which Calico's clients choose where in a pool a host
//! begins to look for blocks. Two clients of one host that begin at the same place want the same
//! block, and so take one rather than two.
//!
//! The generator is an additive lagged Fibonacci one, `y[n] = y[n-607] + y[n-273]` modulo 2^64, after
//! D. P. Mitchell and J. A. Reeds. Its register starts as the exclusive or of numbers made from the
//! seed and of a fixed table. The table is the same generator's register after 7.8e12 steps from
//! the seed 1; it is computed here rather than listed, by raising x to that power modulo the
//! generator's polynomial.

use std::sync::OnceLock;

const LEN: usize = 607;
const TAP: usize = 273;
/// How far the fixed table is from its seed.
const COOKED_STEPS: u64 = 7_800_000_000_000;

/// The generator.
pub(super) struct GoRand {
    register: Box<[u64; LEN]>,
    tap: usize,
    feed: usize,
}

impl GoRand {
    /// The generator of a seed that fits into 32 bits.
    pub(super) fn new(seed: u32) -> Self {
        let mut numbers = SeedNumbers::new(seed);
        let cooked = COOKED.get_or_init(cook);
        let mut register = Box::new([0; LEN]);
        for (slot, cooked) in register.iter_mut().zip(cooked.iter()) {
            *slot = numbers.triple(40, 20) ^ cooked;
        }
        Self {
            register,
            tap: 0,
            feed: LEN - TAP,
        }
    }

    /// `big.Int.Rand` below 2^bits, as a machine with words of 64 bits computes it: numbers of one
    /// bit more are drawn until one is below.
    pub(super) fn below_power_of_two(&mut self, bits: u32) -> u128 {
        loop {
            let mut words = [0u64; 3];
            let top = (bits / 64) as usize;
            for word in &mut words[..=top] {
                *word = u64::from(self.next_u32());
                *word |= u64::from(self.next_u32()) << 32;
            }
            if words[top] & (1 << (bits % 64)) == 0 {
                let below = u128::from(words[0]) | u128::from(words[1]) << 64;
                return match bits {
                    128.. => below,
                    bits => below & ((1 << bits) - 1),
                };
            }
        }
    }

    /// `Int63`.
    fn next_u63(&mut self) -> u64 {
        self.tap = (self.tap + LEN - 1) % LEN;
        self.feed = (self.feed + LEN - 1) % LEN;
        let sum = self.register[self.feed].wrapping_add(self.register[self.tap]);
        self.register[self.feed] = sum;
        sum & (u64::MAX >> 1)
    }

    /// `Uint32`.
    fn next_u32(&mut self) -> u32 {
        (self.next_u63() >> 31) as u32
    }
}

/// `x[n+1] = 48271 x[n]` modulo 2^31 - 1, from which registers are filled.
struct SeedNumbers(u64);

impl SeedNumbers {
    fn new(seed: u32) -> Self {
        let seed = match u64::from(seed) % M31 {
            0 => 89_482_311,
            seed => seed,
        };
        let mut numbers = Self(seed);
        for _ in 0..20 {
            numbers.next();
        }
        numbers
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0 * 48_271 % M31;
        self.0
    }

    /// Three numbers, one over another.
    fn triple(&mut self, first: u32, second: u32) -> u64 {
        self.next() << first ^ self.next() << second ^ self.next()
    }
}

const M31: u64 = (1 << 31) - 1;

static COOKED: OnceLock<Box<[u64; LEN]>> = OnceLock::new();

/// The register after [`COOKED_STEPS`] steps from the seed 1.
///
/// The numbers that the generator yields go into the register from slot 333 downwards, so that the
/// register is the last 607 of one long sequence. In that sequence, a number so many steps ahead is
/// the sum of numbers here, weighted by the coefficients of x^steps modulo x^607 - x^334 - 1.
fn cook() -> Box<[u64; LEN]> {
    let mut numbers = SeedNumbers::new(1);
    let register: Vec<u64> = (0..LEN).map(|_| numbers.triple(20, 10)).collect();
    let slot = |back: usize| (LEN - TAP - 1 + back) % LEN;
    let mut sequence: Vec<u64> = (1..=LEN).rev().map(|back| register[slot(back)]).collect();
    for n in 0..LEN {
        sequence.push(sequence[n].wrapping_add(sequence[n + LEN - TAP]));
    }
    let weights = power_of_x(COOKED_STEPS);
    let mut cooked = Box::new([0; LEN]);
    let steps = (COOKED_STEPS % LEN as u64) as usize;
    for n in 0..LEN {
        let ahead = weights
            .iter()
            .zip(&sequence[n..])
            .fold(0u64, |sum, (weight, number)| {
                sum.wrapping_add(weight.wrapping_mul(*number))
            });
        // This one is as many steps before the end as there are left.
        cooked[(slot(LEN - n) + LEN - steps) % LEN] = ahead;
    }
    cooked
}

/// The coefficients of x^exponent modulo the generator's polynomial, lowest first.
fn power_of_x(exponent: u64) -> Vec<u64> {
    let mut power = vec![0u64; LEN];
    power[0] = 1;
    for bit in (0..u64::BITS - exponent.leading_zeros()).rev() {
        let mut product = vec![0u64; 2 * LEN];
        let shift = (exponent >> bit & 1) as usize;
        for (i, a) in power.iter().enumerate() {
            for (j, b) in power.iter().enumerate() {
                let at = &mut product[i + j + shift];
                *at = at.wrapping_add(a.wrapping_mul(*b));
            }
        }
        for high in (LEN..2 * LEN).rev() {
            let over = product[high];
            for low in [high - TAP, high - LEN] {
                product[low] = product[low].wrapping_add(over);
            }
        }
        product.truncate(LEN);
        power = product;
    }
    power
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the regression test of Go's `math/rand`.
    const OF_SEED_0: [u64; 20] = [
        8_717_895_732_742_165_505,
        2_259_404_117_704_393_152,
        6_050_128_673_802_995_827,
        501_233_450_539_197_794,
        3_390_393_562_759_376_202,
        2_669_985_732_393_126_063,
        1_774_932_891_286_980_153,
        6_044_372_234_677_422_456,
        8_274_930_044_578_894_929,
        1_543_572_285_742_637_646,
        2_661_732_831_099_943_416,
        8_325_060_299_420_976_708,
        7_837_839_688_282_259_259,
        2_518_412_263_346_885_298,
        5_617_773_211_005_988_520,
        2_339_563_716_805_116_249,
        7_144_924_247_938_981_575,
        161_231_572_858_529_631,
        7_259_475_919_510_918_339,
        7_373_105_480_197_164_748,
    ];

    #[test]
    fn numbers_are_those_of_go() {
        let mut rand = GoRand::new(0);
        assert_eq!(
            std::array::from_fn::<_, 20, _>(|_| rand.next_u63()),
            OF_SEED_0
        );
        let mut rand = GoRand::new(0);
        assert_eq!(
            std::array::from_fn::<_, 4, _>(|_| rand.next_u32()),
            [4_059_586_549, 1_052_117_029, 2_817_310_706, 233_405_013]
        );
        assert_eq!(GoRand::new(1).next_u63(), 5_577_006_791_947_779_410);
    }

    #[test]
    fn numbers_below_a_power_of_two_are_drawn_as_go_draws_them() {
        // Words of the seed 0, low halves first, of the numbers above.
        let word = |at: usize| {
            u128::from(OF_SEED_0[at] >> 31 & 0xffff_ffff)
                | u128::from(OF_SEED_0[at + 1] >> 31 & 0xffff_ffff) << 32
        };
        for bits in [0, 1, 6, 10, 18, 31, 63] {
            let wanted = (0..20)
                .step_by(2)
                .map(word)
                .find(|word| word & 1 << bits == 0)
                .unwrap();
            let mut rand = GoRand::new(0);
            assert_eq!(
                rand.below_power_of_two(bits),
                wanted & ((1 << bits) - 1),
                "{bits}"
            );
        }
        // Two words, of which the upper is one bit too long.
        let wide = (0..20)
            .step_by(4)
            .map(|at| word(at) | word(at + 2) << 64)
            .find(|wide| wide & 1 << 80 == 0)
            .unwrap();
        let mut rand = GoRand::new(0);
        assert_eq!(rand.below_power_of_two(80), wide & ((1 << 80) - 1));
        // Every address there is: three words.
        GoRand::new(0).below_power_of_two(128);
    }
}
