//! Latencies in logarithmic buckets, as HdrHistogram keeps them: a quantile is at most 1.6 % too high.

use std::time::Duration;

/// Each power of two is cut in 64.
const PART_BITS: u32 = 6;
const BUCKETS: usize = (64 - PART_BITS as usize + 1) << PART_BITS;

/// How often each latency was seen.
#[derive(Clone)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    longest: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0, longest: 0 }
    }
}

impl Histogram {
    pub(crate) fn record(&mut self, latency: Duration) {
        let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket(nanoseconds)] += 1;
        self.total += 1;
        self.longest = self.longest.max(nanoseconds);
    }

    pub(crate) fn count(&self) -> u64 {
        self.total
    }

    pub(crate) fn longest(&self) -> Duration {
        Duration::from_nanos(self.longest)
    }

    /// How many were longer, to the histogram's precision.
    pub(crate) fn count_above(&self, latency: Duration) -> u64 {
        let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket(nanoseconds) + 1..].iter().sum()
    }

    /// The latency that the given share of all (0.99 for p99) did not exceed; zero where nothing was recorded.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let wanted = ((share * self.total as f64).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Duration::from_nanos(ceiling(index).min(self.longest));
            }
        }
        Duration::ZERO
    }

    pub(crate) fn add(&mut self, other: &Histogram) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
        self.longest = self.longest.max(other.longest);
    }
}

fn bucket(nanoseconds: u64) -> usize {
    let shift = (64 - nanoseconds.leading_zeros()).saturating_sub(PART_BITS + 1);
    ((shift as usize) << PART_BITS) + (nanoseconds >> shift) as usize
}

/// The largest number that falls into the bucket.
fn ceiling(index: usize) -> u64 {
    let shift = (index >> PART_BITS).saturating_sub(1);
    let part = (index - (shift << PART_BITS)) as u64;
    (part << shift) + ((1u64 << shift) - 1)
}
