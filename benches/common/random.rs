//! What the benches draw, the same on every machine and in every run: numbers that belong to a key, and ranks of keys.

use fastrand::Rng;

/// The finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): a bijection that spreads every bit of `number`.
pub(crate) fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// The upper 53 bits of `bits` as a number in `0.0..1.0`.
pub(crate) fn fraction_of(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

/// Ranks `0..count`, drawn with probability proportional to `(rank + 1)^-exponent`.
///
/// Rejection-inversion (Hörmann and Derflinger, 1996): constant time and memory, and any exponent, 1.0 included.
#[derive(Clone)]
pub(crate) struct Zipf {
    count: u64,
    exponent: f64,
    area: f64,
}

impl Zipf {
    pub(crate) fn new(count: u64, exponent: f64) -> Self {
        assert!(count > 0, "a distribution needs something to choose from");
        let n = count as f64;
        let area = if exponent == 1.0 {
            1.0 + n.ln()
        } else {
            (n.powf(1.0 - exponent) - exponent) / (1.0 - exponent)
        };
        Self { count, exponent, area }
    }

    pub(crate) fn rank(&self, random: &mut Rng) -> u64 {
        loop {
            let envelope = self.envelope(random.f64());
            let rank = (envelope + 1.0).floor();
            let mut share = rank.powf(-self.exponent);
            if rank > 1.0 {
                share *= envelope.powf(self.exponent);
            }
            if random.f64() < share && rank as u64 <= self.count {
                return rank as u64 - 1;
            }
        }
    }

    /// A rank given away to a key: neighbours in popularity are not neighbours in number.
    pub(crate) fn scattered(&self, random: &mut Rng) -> u64 {
        scatter(self.rank(random), self.count)
    }

    fn envelope(&self, share: f64) -> f64 {
        let part = share * self.area;
        if part <= 1.0 {
            part
        } else if self.exponent == 1.0 {
            (part - 1.0).exp()
        } else {
            (part * (1.0 - self.exponent) + self.exponent).powf(1.0 / (1.0 - self.exponent))
        }
    }
}

/// A bijection of `0..count`: the factor is a prime above every count in use, hence coprime to it.
fn scatter(rank: u64, count: u64) -> u64 {
    const PRIME: u64 = 1_000_000_007;
    debug_assert!(count < PRIME);
    rank * PRIME % count
}
