//! Counters by key prefix, for `stats detail`.
//!
//! Rules:
//! - counting takes no lock: a session caches the prefixes it met last, and looks up only others in the registry;
//! - a prefix that is used often has counters for each worker, so that no cache line is shared. Most prefixes are used
//!   seldom, and for those all workers add to the same counters;
//! - a reset frees no memory itself: the engine's next tick does, and gives it back to the system.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arrayvec::ArrayVec;
use bytes::Buf;
use dashmap::DashSet;

use crate::clock::Tick;
use crate::engine::Engine;
use crate::engine::stats::Counter;
use crate::engine::turn::long_reply::{LongReply, Progress};
use crate::protocol::uri;
use crate::protocol::{Owed, StatLines, Style, reply};

/// How many prefixes are counted; later ones are not. Source: memcached. A full registry takes some 160 bytes for each
/// of them, the prefixes themselves, and the counters for each worker.
pub const PREFIXES_MAX: usize = 65_536;

/// After so many uses of one kind, a prefix gets counters for each worker, if there are any left; if not, that is tried
/// again after as many more.
const USES_UNTIL_OWN: u64 = 1024;

/// How many counters for each worker all prefixes together have at most: 8 MB of them.
const OWN_TALLIES_MAX: usize = 131_072;

/// How many prefixes one slice of a dump lists: at most some 45 KiB, and mostly a tenth of that.
const SLICE_PREFIXES: usize = 128;

/// How long the value of a packet gets that lists prefixes, in bytes, before another packet goes on; in memcached there is
/// never another.
const DETAIL_BYTES_MAX: usize = 64 << 10;

/// How many prefixes a session caches: enough for a client that uses a few of them in turn.
const CACHED_MAX: usize = 4;

/// What a request does with its key, as far as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Use {
    /// It was asked for.
    Get {
        /// Whether it was there.
        is_hit: bool,
    },
    /// A value came for it, stored or not.
    Set,
    /// It was to be removed.
    Delete,
    /// Anything else.
    Other,
}

/// The part of `key` before its first `delimiter`; `None` when there is none.
#[inline]
pub(in crate::engine) fn prefix(key: &[u8], delimiter: u8) -> Option<&[u8]> {
    key.iter().position(|&byte| byte == delimiter).map(|end| &key[..end])
}

/// One prefix with its counters.
#[derive(Debug)]
pub(in crate::engine) struct Prefix {
    name: Box<[u8]>,
    /// Uses that were counted while there were no counters for each worker.
    shared: Tally,
    /// Uses by each worker since.
    own: OnceLock<Box<[OwnTally]>>,
}

/// The numbers of one line of `stats detail dump`.
#[derive(Debug, Default)]
struct Tally {
    gets: AtomicU64,
    hits: AtomicU64,
    sets: AtomicU64,
    deletes: AtomicU64,
}

/// What one worker has counted of a prefix.
#[derive(Debug, Default)]
#[repr(align(64))]
struct OwnTally {
    gets: Counter,
    hits: Counter,
    sets: Counter,
    deletes: Counter,
}

/// The prefixes that a session met last. Only its worker counts in them.
#[derive(Debug, Default)]
pub(in crate::engine) struct PrefixCache {
    generation: u32,
    prefixes: ArrayVec<Arc<Prefix>, CACHED_MAX>,
    /// Which of them is replaced next.
    oldest: usize,
}

/// A prefix, hashed and compared by its name.
#[derive(Debug)]
struct ByName(Arc<Prefix>);

/// All prefixes, in the order in which they came.
#[derive(Debug, Default)]
struct Listed {
    prefixes: Vec<Arc<Prefix>>,
    /// How many tallies of workers they have.
    own_tallies: usize,
}

/// The registry of all prefixes.
#[derive(Debug)]
pub(in crate::engine) struct Prefixes {
    is_on: AtomicBool,
    delimiter: u8,
    workers: usize,
    known: DashSet<ByName>,
    /// All that are known. Held while one is added and while all are dropped.
    listed: Mutex<Listed>,
    /// Prefixes that are no longer counted, to be freed by the next tick: it takes milliseconds, and no client is to
    /// wait so long.
    dropped: Mutex<Vec<Arc<Prefix>>>,
    /// Whether there are [`PREFIXES_MAX`] of them.
    is_full: AtomicBool,
    /// Changes when all are dropped, so that sessions clear their caches.
    generation: AtomicU32,
}

impl Prefixes {
    /// An empty registry for so many workers.
    pub(in crate::engine) fn new(delimiter: u8, workers: usize, is_on: bool) -> Prefixes {
        Prefixes {
            is_on: AtomicBool::new(is_on),
            delimiter,
            workers,
            known: DashSet::new(),
            listed: Mutex::default(),
            dropped: Mutex::default(),
            is_full: AtomicBool::new(false),
            generation: AtomicU32::new(0),
        }
    }

    /// Whether prefixes are counted. Relaxed: a request that is under way when that changes may count or not.
    #[inline]
    pub(in crate::engine) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    pub(in crate::engine) fn switch(&self, is_on: bool) {
        self.is_on.store(is_on, Ordering::Relaxed);
    }

    /// Counts a use of `key` by `worker`, for one of its sessions.
    pub(in crate::engine) fn count(&self, cache: &mut PrefixCache, worker: usize, key: &[u8], used: Use) {
        if used == Use::Other {
            return;
        }
        let Some(name) = prefix(key, self.delimiter) else { return };
        let generation = self.generation.load(Ordering::Relaxed);
        let Some(prefix) = self.find(cache, generation, name) else { return };
        match prefix.own.get() {
            Some(own) => own[worker].add(used),
            None if prefix.shared.add(used).is_multiple_of(USES_UNTIL_OWN) => self.divide(prefix, generation),
            None => {}
        }
    }

    fn find<'r>(&self, cache: &'r mut PrefixCache, generation: u32, name: &[u8]) -> Option<&'r Prefix> {
        if cache.generation != generation {
            *cache = PrefixCache { generation, ..PrefixCache::default() };
        }
        let place = match cache.prefixes.iter().position(|prefix| *prefix.name == *name) {
            Some(place) => place,
            None => cache.add(self.registered(name)?),
        };
        Some(&cache.prefixes[place])
    }

    /// Gives `prefix`, met while this was the `generation`, numbers for each worker, if there are any left.
    #[cold]
    fn divide(&self, prefix: &Prefix, generation: u32) {
        let mut listed = self.listed();
        let is_current = generation == self.generation.load(Ordering::Relaxed);
        if is_current && prefix.own.get().is_none() && listed.own_tallies + self.workers <= OWN_TALLIES_MAX {
            listed.own_tallies += self.workers;
            prefix.own.get_or_init(|| (0..self.workers).map(|_| OwnTally::default()).collect());
        }
    }

    /// The prefix called `name`, added if need be; `None` when there are too many.
    fn registered(&self, name: &[u8]) -> Option<Arc<Prefix>> {
        if let Some(known) = self.known.get(name) {
            return Some(Arc::clone(&known.0));
        }
        if self.is_full.load(Ordering::Relaxed) {
            return None;
        }
        let mut listed = self.listed();
        if let Some(known) = self.known.get(name) {
            return Some(Arc::clone(&known.0)); // another worker was faster
        }
        if listed.prefixes.len() == PREFIXES_MAX {
            return None;
        }
        let prefix = Prefix { name: name.into(), shared: Tally::default(), own: OnceLock::new() };
        let prefix = Arc::new(prefix);
        self.known.insert(ByName(Arc::clone(&prefix)));
        listed.prefixes.push(Arc::clone(&prefix));
        self.is_full.store(listed.prefixes.len() == PREFIXES_MAX, Ordering::Relaxed);
        Some(prefix)
    }

    /// Drops every prefix with its counters. Requests that are running may still count in a dropped prefix: those
    /// counts are lost.
    pub(in crate::engine) fn reset(&self) {
        let mut listed = self.listed();
        self.known.clear();
        let forgotten = std::mem::take(&mut *listed).prefixes;
        self.is_full.store(false, Ordering::Relaxed);
        self.generation.fetch_add(1, Ordering::Relaxed);
        drop(listed);
        let mut dropped = self.dropped();
        // A second reset before the next tick frees its prefixes at once, so that resets cannot pile up memory.
        if dropped.is_empty() {
            *dropped = forgotten;
        }
    }

    /// Frees the prefixes that a reset has dropped; `true` if there were any.
    pub(in crate::engine) fn tidy(&self) -> bool {
        let dropped = std::mem::take(&mut *self.dropped());
        if !dropped.is_empty() {
            self.known.shrink_to_fit();
        }
        !dropped.is_empty()
    }

    fn listed(&self) -> MutexGuard<'_, Listed> {
        self.listed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dropped(&self) -> MutexGuard<'_, Vec<Arc<Prefix>>> {
        self.dropped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `stats detail dump`.
    pub(in crate::engine) fn dump(&self, style: Style<'static>) -> Dump {
        let generation = self.generation.load(Ordering::Relaxed);
        Dump { next: 0, generation, style, lines: Owed::default() }
    }
}

/// `stats detail dump`, a slice at a time. It ends early when all prefixes are forgotten meanwhile.
#[derive(Debug)]
pub(in crate::engine) struct Dump {
    /// Which prefix comes next.
    next: usize,
    generation: u32,
    style: Style<'static>,
    /// What was told of the prefixes before, while it waits to become the value of a packet.
    lines: Owed,
}

impl LongReply for Dump {
    fn go_on(&mut self, engine: &Engine, owed: &mut Owed, _: Tick) -> Progress {
        let slice: ArrayVec<Arc<Prefix>, SLICE_PREFIXES> = {
            let listed = engine.prefixes().listed();
            let is_same = engine.prefixes().generation.load(Ordering::Relaxed) == self.generation;
            let left = listed.prefixes.get(self.next..).filter(|_| is_same).unwrap_or(&[]);
            left.iter().take(SLICE_PREFIXES).cloned().collect()
        };
        self.next += slice.len();
        if self.style == Style::Classic {
            slice.iter().for_each(|prefix| prefix.say(owed));
        } else {
            slice.iter().for_each(|prefix| prefix.say(&mut self.lines));
        }
        let is_last = !slice.is_full();
        if self.style != Style::Classic && (is_last || self.lines.remaining() >= DETAIL_BYTES_MAX) {
            let mut lines = std::mem::take(&mut self.lines);
            if is_last {
                lines.say(reply::END);
            }
            StatLines::new(self.style, owed).bytes("detailed", &lines.into_bytes());
        }
        if is_last {
            StatLines::new(self.style, owed).end();
            return Progress::Done;
        }
        Progress::GoesOn
    }
}

impl PrefixCache {
    /// Adds `prefix`, in the place of the oldest if the cache is full; returns its index.
    fn add(&mut self, prefix: Arc<Prefix>) -> usize {
        if let Err(full) = self.prefixes.try_push(prefix) {
            let place = self.oldest;
            self.prefixes[place] = full.element();
            self.oldest = (place + 1) % CACHED_MAX;
            return place;
        }
        self.prefixes.len() - 1
    }
}

impl Borrow<[u8]> for ByName {
    fn borrow(&self) -> &[u8] {
        &self.0.name
    }
}

impl Hash for ByName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.name.hash(state);
    }
}

impl PartialEq for ByName {
    fn eq(&self, other: &ByName) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for ByName {}

impl Tally {
    /// Counts a use; returns how many of its kind there are now.
    fn add(&self, used: Use) -> u64 {
        let add = |number: &AtomicU64| number.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        match used {
            Use::Get { is_hit } => {
                if is_hit {
                    add(&self.hits);
                }
                add(&self.gets)
            }
            Use::Set => add(&self.sets),
            Use::Delete => add(&self.deletes),
            Use::Other => 1,
        }
    }
}

impl OwnTally {
    fn add(&self, used: Use) {
        match used {
            Use::Get { is_hit } => {
                self.gets.add(1);
                self.hits.add(u64::from(is_hit));
            }
            Use::Set => self.sets.add(1),
            Use::Delete => self.deletes.add(1),
            Use::Other => {}
        }
    }
}

impl Prefix {
    /// Says the line of `stats detail dump`.
    fn say(&self, owed: &mut Owed) {
        let own = self.own.get().map_or(&[][..], |own| own);
        let sum = |shared: &AtomicU64, number: fn(&OwnTally) -> &Counter| {
            let shared = shared.load(Ordering::Relaxed);
            own.iter().fold(shared, |sum, tally| sum.wrapping_add(number(tally).value()))
        };
        owed.say(b"PREFIX ");
        // A key in base64 can hold anything, line ends too, and what looks like other lines of a reply behind them.
        if self.name.iter().any(|byte| *byte <= b' ') {
            uri::encode(&self.name, |piece| owed.say(piece));
        } else {
            owed.say(&self.name);
        }
        for (name, number) in [
            (" get ", sum(&self.shared.gets, |tally| &tally.gets)),
            (" hit ", sum(&self.shared.hits, |tally| &tally.hits)),
            (" set ", sum(&self.shared.sets, |tally| &tally.sets)),
            (" del ", sum(&self.shared.deletes, |tally| &tally.deletes)),
        ] {
            owed.say(name.as_bytes());
            owed.say_number(number);
        }
        owed.say(b"\r\n");
    }
}

#[cfg(test)]
mod tests;
