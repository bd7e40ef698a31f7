//! Which keys and prefixes are asked for most: a sample of the requests, and a bounded sketch of the sample.
//!
//! Every worker samples about one of its requests in [`SAMPLE_INTERVAL`](super::sampler::SAMPLE_INTERVAL), always. It
//! keeps the most frequent keys of its sample with the space-saving algorithm (Metwally, Agrawal, El Abbadi: "Efficient
//! computation of frequent and top-k elements in data streams", 2005), over the last one to two minutes.
//!
//! How far off the numbers are: of `n` samples, a sketch counts no name more than `n` / [`TRACKED_MAX`] too often,
//! and those of a name that it does not track are at most so many. The sums over workers and windows are off by
//! at most the sum of that, which the reply tells as a rate. Sampling itself adds an error whose standard
//! deviation is the square root of the number of samples: 10 % of a key that was sampled 100 times.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::clock::{TICKS_PER_SECOND, Tick};
use crate::engine::watching::prefixes::{Use, prefix};

/// How many keys, and how many prefixes, one worker tracks in one window.
pub const TRACKED_MAX: usize = 256;

/// How long a window is, in seconds. Two are kept: the last whole one and the one that is going on.
pub const WINDOW_SECONDS: u32 = 60;

/// How many keys or prefixes a reply names.
pub const NAMED_MAX: usize = 20;

/// The sketches of one worker.
#[derive(Debug, Default)]
struct WorkerSketches {
    keys: Windows,
    prefixes: Windows,
}

/// The most used keys and prefixes, by all workers.
#[derive(Debug)]
pub(in crate::engine) struct HotKeys {
    /// A worker locks its own for each request that it samples, and `stats` locks all of them.
    workers: Box<[Mutex<WorkerSketches>]>,
    delimiter: u8,
    /// When sampling began, or was last reset.
    since: AtomicU32,
}

/// Which of the sketches is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Subject {
    Keys,
    Prefixes,
}

/// What a reply tells.
#[derive(Debug, Default, PartialEq)]
pub(in crate::engine) struct Ranking {
    /// How many seconds were sampled.
    pub(in crate::engine) seconds: f64,
    /// How many requests were sampled.
    pub(in crate::engine) samples: u64,
    /// By how many samples a number may be too high, or a name that is missing too low.
    pub(in crate::engine) error: u64,
    /// The names that were met most often, most often first.
    pub(in crate::engine) ranked: Vec<Ranked>,
}

/// How often a name was met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Ranked {
    pub(in crate::engine) name: Arc<[u8]>,
    pub(in crate::engine) samples: u64,
    /// How many of the samples asked for it, and found it. Counted from when it was first tracked.
    pub(in crate::engine) gets: u64,
    pub(in crate::engine) hits: u64,
}

impl HotKeys {
    pub(in crate::engine) fn new(delimiter: u8, workers: usize) -> HotKeys {
        let workers = (0..workers).map(|_| Mutex::default()).collect();
        HotKeys { workers, delimiter, since: AtomicU32::new(START.0) }
    }

    /// Adds a request of `worker` with `key` to the sample.
    pub(in crate::engine) fn note(&self, worker: usize, key: &[u8], used: Use, now: Tick) {
        let mut sketches = self.workers[worker].lock().unwrap_or_else(PoisonError::into_inner);
        sketches.keys.at(now).note(key, used);
        if let Some(prefix) = prefix(key, self.delimiter) {
            sketches.prefixes.at(now).note(prefix, used);
        }
    }

    /// The names that clients ask for most, over the last one to two windows.
    pub(in crate::engine) fn ranking(&self, subject: Subject, now: Tick) -> Ranking {
        let mut samples = 0;
        let mut error = 0;
        let mut sums = HashMap::<Arc<[u8]>, Ranked>::new();
        for worker in &self.workers {
            let mut sketches = worker.lock().unwrap_or_else(PoisonError::into_inner);
            let windows = match subject {
                Subject::Keys => &mut sketches.keys,
                Subject::Prefixes => &mut sketches.prefixes,
            };
            windows.move_to(now);
            for sketch in [&windows.last, &windows.current] {
                samples += sketch.samples;
                error += sketch.error();
                for tracked in &sketch.tracked {
                    let name = &tracked.name;
                    let none = || Ranked { name: Arc::clone(name), samples: 0, gets: 0, hits: 0 };
                    let sum = sums.entry(Arc::clone(name)).or_insert_with(none);
                    sum.samples += tracked.samples;
                    sum.gets += tracked.gets;
                    sum.hits += tracked.hits;
                }
            }
        }
        let mut ranked: Vec<_> = sums.into_values().collect();
        ranked.sort_unstable_by(|one, other| (other.samples, &one.name).cmp(&(one.samples, &other.name)));
        ranked.truncate(NAMED_MAX);
        let since =
            self.since.load(Ordering::Relaxed).max(window_start(now).0.saturating_sub(window_ticks()));
        // At least one tick, because rates are divided by it.
        let ticks = now.0.saturating_sub(since).max(1);
        Ranking { seconds: f64::from(ticks) / f64::from(TICKS_PER_SECOND), samples, error, ranked }
    }

    /// Forgets everything.
    pub(in crate::engine) fn reset(&self, now: Tick) {
        for worker in &self.workers {
            *worker.lock().unwrap_or_else(PoisonError::into_inner) = WorkerSketches::default();
        }
        self.since.store(now.0, Ordering::Relaxed);
    }
}

/// When every process starts: see [`Epoch`](crate::clock::Epoch).
const START: Tick = Tick(2 * TICKS_PER_SECOND);

const fn window_ticks() -> u32 {
    WINDOW_SECONDS * TICKS_PER_SECOND
}

/// When the window of `now` began. The windows of all workers begin together.
fn window_start(now: Tick) -> Tick {
    Tick(now.0 - now.0 % window_ticks())
}

/// The sketches of the last whole window and of the one that is going on.
#[derive(Debug, Default)]
struct Windows {
    start: Tick,
    current: Sketch,
    last: Sketch,
}

impl Windows {
    /// The sketch for what happens at `now`.
    fn at(&mut self, now: Tick) -> &mut Sketch {
        self.move_to(now);
        &mut self.current
    }

    fn move_to(&mut self, now: Tick) {
        let start = window_start(now);
        // Workers' clocks may be a tick apart: a worker that is behind adds to the current window.
        if start <= self.start {
            return;
        }
        let ended = std::mem::take(&mut self.current);
        self.last = if start.0 - self.start.0 == window_ticks() { ended } else { Sketch::default() };
        self.start = start;
    }
}

/// The most frequent of the names it was told. Invariants: every name is tracked once, `places` says where, and
/// none has less than `least` samples.
#[derive(Debug, Default)]
struct Sketch {
    places: HashMap<Arc<[u8]>, usize>,
    tracked: Vec<Ranked>,
    /// No tracked name has fewer samples, once there are [`TRACKED_MAX`] of them.
    least: u64,
    /// Where to look next for a name with so few.
    next: usize,
    samples: u64,
}

impl Sketch {
    fn note(&mut self, name: &[u8], used: Use) {
        self.samples += 1;
        let place = match self.places.get(name) {
            Some(&place) => place,
            None => self.track(name.into()),
        };
        let tracked = &mut self.tracked[place];
        tracked.samples += 1;
        if let Use::Get { is_hit } = used {
            tracked.gets += 1;
            tracked.hits += u64::from(is_hit);
        }
    }

    /// Finds a place for `name`. If all are taken, it replaces a name that has the fewest samples, and inherits these.
    fn track(&mut self, name: Arc<[u8]>) -> usize {
        let place = if self.tracked.len() < TRACKED_MAX {
            self.tracked.push(Ranked { name: Arc::clone(&name), samples: 0, gets: 0, hits: 0 });
            self.tracked.len() - 1
        } else {
            let place = self.least_place();
            let taken = &mut self.tracked[place];
            self.places.remove(&taken.name);
            *taken = Ranked { name: Arc::clone(&name), samples: taken.samples, gets: 0, hits: 0 };
            place
        };
        self.places.insert(name, place);
        place
    }

    /// A place with the fewest samples. Numbers only rise, so the search goes on where it last ended, and only
    /// when it has come around is the next number the smallest.
    fn least_place(&mut self) -> usize {
        let mut fewest = u64::MAX;
        for _ in 0..TRACKED_MAX {
            let place = self.next;
            self.next = (place + 1) % TRACKED_MAX;
            if self.tracked[place].samples <= self.least {
                return place;
            }
            fewest = fewest.min(self.tracked[place].samples);
        }
        self.least = fewest;
        let fewest = self.tracked.iter().position(|tracked| tracked.samples == fewest);
        fewest.expect("it is the number of one of them")
    }

    /// By how many samples a number may be too high, and what the samples of a name without one are at most.
    fn error(&self) -> u64 {
        if self.tracked.len() < TRACKED_MAX {
            return 0;
        }
        self.tracked.iter().map(|tracked| tracked.samples).min().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;

    const HIT: Use = Use::Get { is_hit: true };
    const MISS: Use = Use::Get { is_hit: false };

    /// Holds a sketch to what it promises about `names`, some of which come often and most of which seldom.
    fn check_bounds(names: u64, samples: u64, seed: u64) {
        let mut sketch = Sketch::default();
        let mut exact = HashMap::<String, u64>::new();
        let mut random = Rng::with_seed(seed);
        for _ in 0..samples {
            let bound = random.u64(1..=names);
            let name = random.u64(..bound).to_string();
            sketch.note(name.as_bytes(), HIT);
            *exact.entry(name).or_default() += 1;
        }
        let error = sketch.error();
        assert_eq!(sketch.samples, samples);
        assert!(error <= samples / TRACKED_MAX as u64, "{error} of {samples}, seed {seed}");
        assert_eq!(sketch.tracked.len(), exact.len().min(TRACKED_MAX));
        assert_eq!(sketch.places.len(), sketch.tracked.len());
        let counted: u64 = sketch.tracked.iter().map(|tracked| tracked.samples).sum();
        assert_eq!(counted, samples, "every sample is somewhere");
        for (place, tracked) in sketch.tracked.iter().enumerate() {
            assert_eq!(sketch.places[&tracked.name], place);
            let exact = exact[std::str::from_utf8(&tracked.name).unwrap()];
            assert!((exact..=exact + error).contains(&tracked.samples), "{tracked:?}, {exact}, seed {seed}");
            assert!(tracked.hits <= exact && tracked.hits == tracked.gets);
        }
        for (name, &exact) in exact.iter().filter(|(name, _)| !sketch.places.contains_key(name.as_bytes())) {
            assert!(exact <= error, "{name} came {exact} times and is not tracked, seed {seed}");
        }
    }

    #[test]
    fn a_sketch_is_exact_while_it_has_room() {
        check_bounds(TRACKED_MAX as u64, 100_000, 1);
    }

    #[test]
    fn a_full_sketch_keeps_to_its_bounds() {
        for seed in 1..20 {
            check_bounds(TRACKED_MAX as u64 + 1, 50_000, seed);
            check_bounds(10_000, 50_000, seed);
            check_bounds(1_000_000, 20_000, seed);
        }
    }

    #[test]
    fn windows_pass() {
        let at = |seconds: u32| Tick(seconds * TICKS_PER_SECOND);
        let hot_keys = HotKeys::new(b':', 2);
        hot_keys.reset(at(10));
        let names = |now| {
            let Ranking { seconds, samples, ranked, error } = hot_keys.ranking(Subject::Keys, now);
            assert_eq!(error, 0, "there was room");
            let names: Vec<_> = ranked
                .iter()
                .map(|ranked| (String::from_utf8_lossy(&ranked.name).into_owned(), ranked.samples))
                .collect();
            (seconds, samples, names)
        };
        assert_eq!(names(at(10)), (0.1, 0, vec![]));
        hot_keys.note(0, b"a:1", HIT, at(20));
        hot_keys.note(1, b"a:1", MISS, at(20));
        hot_keys.note(1, b"plain", Use::Set, at(20));
        assert_eq!(names(at(30)), (20.0, 3, vec![("a:1".to_owned(), 2), ("plain".to_owned(), 1)]));
        let prefixes = hot_keys.ranking(Subject::Prefixes, at(30));
        assert_eq!(prefixes.ranked, [Ranked { name: b"a"[..].into(), samples: 2, gets: 2, hits: 1 }]);
        hot_keys.note(0, b"a:2", HIT, at(70));
        assert_eq!(
            names(at(90)),
            (80.0, 4, vec![("a:1".to_owned(), 2), ("a:2".to_owned(), 1), ("plain".to_owned(), 1)])
        );
        assert_eq!(names(at(130)), (70.0, 1, vec![("a:2".to_owned(), 1)]));
        assert_eq!(names(at(300)), (60.0, 0, vec![]));
        hot_keys.note(0, b"a:3", HIT, at(310));
        hot_keys.reset(at(320));
        assert_eq!(names(at(330)), (10.0, 0, vec![]));
    }

    #[test]
    fn a_reply_names_no_more_than_it_may() {
        let hot_keys = HotKeys::new(b':', 1);
        for number in 0..1000 {
            hot_keys.note(0, format!("{}:", number % 100).as_bytes(), HIT, Tick(5));
        }
        for subject in [Subject::Keys, Subject::Prefixes] {
            assert_eq!(hot_keys.ranking(subject, Tick(9)).ranked.len(), NAMED_MAX);
        }
    }
}
