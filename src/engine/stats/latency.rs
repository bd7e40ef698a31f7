//! How long requests take inside the server: from the moment a turn begins, with bytes that have arrived, until its last
//! reply is in the buffer. `stats latency` and the metrics show it.
//!
//! A worker times about one turn in [`SAMPLE_INTERVAL`](crate::engine::watching::sampler::SAMPLE_INTERVAL), and puts it down
//! to the command and the dialect of the turn's first request. So a turn of one request, as most are, tells how long that
//! took, and a pipelined one how long the last of the pipeline did.
//!
//! The histograms are log-linear, as those of HdrHistogram (Tene): a power of two is divided into [`PARTS`] buckets, so
//! what is shown is at most one sixteenth above what was measured.

use std::sync::PoisonError;
use std::time::Duration;

use super::counter::Counter;
use crate::engine::Engine;
use crate::engine::watching::sampler::Sampler;
use crate::protocol::{Request, StatLines, Style};

/// Into how many buckets a power of two is divided.
const PARTS: usize = 1 << PARTS_SHIFT;
const PARTS_SHIFT: u32 = 4;

/// The power of two, in nanoseconds, above which all are as long: 17 s.
const POWER_MAX: u32 = 34;

/// The buckets of a histogram: below [`PARTS`] ns one a nanosecond.
const BUCKETS: usize = (POWER_MAX - PARTS_SHIFT + 1) as usize * PARTS;

/// What requests are told apart by.
const COMMANDS: [&str; 3] = ["get", "set", "other"];
const DIALECTS: [&str; 3] = ["classic", "meta", "binary"];
const CLASSES: usize = COMMANDS.len() * DIALECTS.len();

/// The percentiles that are shown, in thousandths, and their names.
const PERCENTILES: [(u64, &str); 4] = [(500, "p50"), (900, "p90"), (990, "p99"), (999, "p999")];

/// The histograms of one worker, a class behind the other, and which of its turns are timed.
#[derive(Debug)]
pub(in crate::engine) struct Latency {
    sampler: Sampler,
    counts: Box<[Counter]>,
    /// The nanoseconds of each class in all.
    sums: [Counter; CLASSES],
}

impl Default for Latency {
    fn default() -> Latency {
        let counts = (0..CLASSES * BUCKETS).map(|_| Counter::default()).collect();
        Latency { sampler: Sampler::default(), counts, sums: Default::default() }
    }
}

impl Latency {
    /// Whether the turn that begins is to be timed.
    #[inline]
    pub(in crate::engine) fn times_next(&self) -> bool {
        self.sampler.choose(1) == 0
    }

    /// Notes that `request` was answered in `time`.
    pub(in crate::engine) fn note(&self, request: &Request<'_>, time: Duration) {
        let class = class_of(request);
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.counts[class * BUCKETS + bucket(nanoseconds)].add(1);
        self.sums[class].add(nanoseconds);
    }
}

/// The bucket of a time.
fn bucket(nanoseconds: u64) -> usize {
    let power = nanoseconds.checked_ilog2().unwrap_or(0);
    if power < PARTS_SHIFT {
        return nanoseconds as usize;
    }
    let part = (nanoseconds >> (power - PARTS_SHIFT)) as usize & (PARTS - 1);
    ((power - PARTS_SHIFT + 1) as usize * PARTS + part).min(BUCKETS - 1)
}

/// The first nanosecond behind a bucket.
fn end_of(bucket: usize) -> u64 {
    match (bucket + 1) / PARTS {
        0 => bucket as u64 + 1,
        power => ((PARTS + (bucket + 1) % PARTS) as u64) << (power - 1),
    }
}

/// The class of a request: its command and its dialect.
fn class_of(request: &Request<'_>) -> usize {
    let command = match request {
        Request::Fetch(_) => 0,
        Request::Put(_) => 1,
        _ => 2,
    };
    let dialect = match request.style() {
        Style::Classic => 0,
        Style::Meta(_) => 1,
        Style::Binary(_) => 2,
    };
    dialect * COMMANDS.len() + command
}

/// The timed turns of one class, of all workers.
pub(super) struct Histogram {
    pub(super) command: &'static str,
    pub(super) dialect: &'static str,
    counts: Vec<u64>,
    /// How long they took in all, since the start.
    pub(super) sum: Duration,
}

impl Histogram {
    pub(super) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The time within which so many thousandths of the turns ended, in nanoseconds; all of them for 1,000.
    fn percentile(&self, thousandths: u64) -> u64 {
        let wanted = (self.count() * thousandths).div_ceil(1000).max(1);
        let mut seen = 0;
        let found = self.counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        found.map_or(0, end_of)
    }

    /// How many turns took less than 2 to the `power` nanoseconds.
    pub(super) fn below(&self, power: u32) -> u64 {
        self.counts[..(power - PARTS_SHIFT + 1) as usize * PARTS].iter().sum()
    }
}

impl Engine {
    /// What was counted since the start, a class behind the other.
    fn latency_counts(&self) -> Vec<u64> {
        let mut counts = vec![0; CLASSES * BUCKETS];
        for worker in &self.statistics().workers {
            for (sum, counter) in counts.iter_mut().zip(&worker.latency.counts) {
                *sum += counter.value();
            }
        }
        counts
    }

    /// The histogram of each class since the start, less the counts of `base`, which may be empty.
    fn histograms(&self, base: &[u64]) -> Vec<Histogram> {
        let base = base.iter().chain(std::iter::repeat(&0));
        let counts: Vec<u64> = self.latency_counts().iter().zip(base).map(|(now, base)| now - base).collect();
        let of_class = |(class, counts): (usize, &[u64])| {
            let workers = self.statistics().workers.iter();
            Histogram {
                command: COMMANDS[class % COMMANDS.len()],
                dialect: DIALECTS[class / COMMANDS.len()],
                counts: counts.to_vec(),
                sum: workers.map(|worker| Duration::from_nanos(worker.latency.sums[class].value())).sum(),
            }
        };
        counts.chunks(BUCKETS).enumerate().map(of_class).collect()
    }

    /// The histogram of each class since the start.
    pub(super) fn latency(&self) -> Vec<Histogram> {
        self.histograms(&[])
    }

    /// `stats latency`.
    pub(in crate::engine) fn say_latency(&self, lines: &mut StatLines<'_>) {
        // The older values are read first, as those of rows are.
        let base = self.statistics().latency_base.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for histogram in self.histograms(&base).iter().filter(|histogram| histogram.count() > 0) {
            let name = format!("{}:{}", histogram.dialect, histogram.command);
            lines.number(&format!("{name}:timed"), histogram.count());
            for (thousandths, percentile) in PERCENTILES.into_iter().chain([(1000, "max")]) {
                let microseconds = histogram.percentile(thousandths) as f64 / 1000.0;
                lines.decimal(&format!("{name}:{percentile}_us"), microseconds, 3);
            }
        }
    }

    /// `stats reset`.
    pub(super) fn reset_latency(&self) {
        let counts = self.latency_counts();
        *self.statistics().latency_base.lock().unwrap_or_else(PoisonError::into_inner) = counts;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_ends_at_most_a_sixteenth_above_what_is_in_it() {
        let mut times: Vec<u64> = (0..10_000).collect();
        times.extend((4..POWER_MAX).flat_map(|power| [(1 << power) - 1, 1 << power, (1 << power) + 1]));
        for time in times {
            let end = end_of(bucket(time));
            assert!(end > time && end - 1 <= time + time / PARTS as u64, "{time} is below {end}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        assert_eq!(bucket(1 << (POWER_MAX + 1)), BUCKETS - 1);
    }

    fn of_counts(counts: Vec<u64>) -> Histogram {
        Histogram { command: "get", dialect: "meta", counts, sum: Duration::ZERO }
    }

    #[test]
    fn percentiles_are_ends_of_buckets() {
        let mut counts = vec![0; BUCKETS];
        (1..=1000).for_each(|time| counts[bucket(time * 1000)] += 1);
        let histogram = of_counts(counts);
        for (thousandths, expected) in [(500, 500_000), (900, 900_000), (990, 990_000), (1000, 1_000_000)] {
            let found = histogram.percentile(thousandths);
            assert!((expected..=expected + expected / 16 + 1).contains(&found), "{thousandths}: {found}");
        }
        assert_eq!(histogram.below(10), 1, "1 us is below 1,024 ns");
        assert_eq!(histogram.below(20), 1000);
        assert_eq!(of_counts(vec![0; BUCKETS]).percentile(500), 0);
    }
}
