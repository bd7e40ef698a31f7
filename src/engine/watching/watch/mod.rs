//! Those who `watch`: what each of them wants to see, and what waits for them to be sent.
//!
//! Rules:
//! - nobody waits for a watcher. Each has a buffer of [`WATCHER_BYTES_MAX`] bytes; when a line does not fit, it and
//!   all that follow are skipped, and counted, until the buffer has been taken;
//! - an event that no watcher has room for is not even worded: its worker counts it, and goes on;
//! - buffers are taken at each tick, or sooner when `WAKE_BYTES` wait, so that lines are sent many at a time;
//! - sooner only until `EARLY_BYTES_MAX` were taken since the last tick, so that those who watch a busy server, however
//!   many they are and however fast they read, cost its clients no more than a part of one processor.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use arrayvec::ArrayVec;

use crate::engine::stats::Counter;

/// How many connections may watch. Source: memcached (`WATCHER_LIMIT`).
pub const WATCHERS_MAX: usize = 20;

/// How many bytes of lines wait for one watcher; as many again may be on their way to its socket. Source: the
/// default of memcached's `watcher_logbuf_size`.
pub const WATCHER_BYTES_MAX: usize = 256 << 10;

/// From this many bytes on, a watcher is not left waiting for the next tick.
const WAKE_BYTES: usize = WATCHER_BYTES_MAX / 4;

/// How many bytes of lines may be taken between two ticks before all watchers have to wait for the next. Lines are
/// sent through the kernel at 1 GB/s or more, so this and a full buffer for each watcher, ten times a second, are about
/// 7 % of a processor; and one watcher alone can be shown some 200,000 events a second.
const EARLY_BYTES_MAX: usize = 2 << 20;

/// By how much a watcher's buffer grows at least, in bytes.
const GROWTH_BYTES_MIN: usize = 4 << 10;

/// How far the streams that somebody has room for are shifted in [`Watch::streams`].
const OPEN_SHIFT: u32 = 16;

/// A kind of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Stream {
    Fetchers,
    Mutations,
    Evictions,
    Connections,
    Deletions,
}

/// How many of them there are.
const STREAMS: usize = 5;

/// Some of the streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::engine) struct Streams(u16);

impl Streams {
    pub(in crate::engine) const NONE: Streams = Streams(0);

    /// The stream that a word of the `watch` command names, or none where memcached has one in which nothing
    /// happens here: requests as they come have not been logged by memcached itself since 1.5, what its system
    /// events tell of (slabs that move, crawls through queues) does not exist, and there is no proxy.
    pub(in crate::engine) fn named(word: &[u8]) -> Option<Streams> {
        Some(match word {
            b"fetchers" => Streams::of(Stream::Fetchers),
            b"mutations" => Streams::of(Stream::Mutations),
            b"evictions" => Streams::of(Stream::Evictions),
            b"connevents" => Streams::of(Stream::Connections),
            b"deletions" => Streams::of(Stream::Deletions),
            b"rawcmds" | b"sysevents" | b"proxyreqs" | b"proxyevents" | b"proxyuser" | b"proxycmds" => {
                Streams::NONE
            }
            _ => return None,
        })
    }

    pub(in crate::engine) const fn of(stream: Stream) -> Streams {
        Streams(1 << stream as u16)
    }

    #[must_use]
    pub(in crate::engine) fn with(self, other: Streams) -> Streams {
        Streams(self.0 | other.0)
    }

    #[inline]
    pub(in crate::engine) fn has(self, stream: Stream) -> bool {
        self.0 & (1 << stream as u16) != 0
    }

    #[inline]
    pub(in crate::engine) fn are_any(self) -> bool {
        self != Streams::NONE
    }
}

/// What `stats` tells about watching.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::engine) struct WatchStats {
    /// Events that were lost before they could be worded.
    pub(in crate::engine) dropped: u64,
    /// Lines worded.
    pub(in crate::engine) written: u64,
    /// Lines that watchers did not get, each watcher counted.
    pub(in crate::engine) skipped: u64,
    /// Lines that they got.
    pub(in crate::engine) sent: u64,
}

/// All watchers, and what they have in common.
#[derive(Debug)]
pub(in crate::engine) struct Watch {
    /// The streams that anybody watches, and above them those for which somebody has room. Both follow from
    /// `watchers` and are only there to be read without its lock; relaxed, for a line more or less at the moment
    /// when somebody comes, goes or is full is all the same.
    streams: AtomicU32,
    /// The number of the last line.
    last_line: AtomicU64,
    /// What was not worded, by whom it would have been.
    unworded: Box<[Unworded]>,
    watchers: Mutex<Watchers>,
}

/// Events of each stream that one thread has not worded because no watcher had room. Aligned so that two workers
/// never share a cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Unworded([Counter; STREAMS]);

#[derive(Debug, Default)]
struct Watchers {
    open: Vec<Open>,
    /// The number of the last watcher that came.
    last: u64,
    /// Bytes taken since the last tick.
    taken_bytes: usize,
    stats: WatchStats,
}

/// One watcher, as long as its connection is open.
#[derive(Debug)]
struct Open {
    number: u64,
    streams: Streams,
    lines: Vec<u8>,
    lines_count: u64,
    /// Lines that were worded, but not for this one.
    skipped: u64,
    /// Whether a line did not fit, until all are taken.
    is_full: bool,
    /// The unworded events of its streams that it knows of. More of them may turn up while it is not full, from a
    /// thread that has asked just before who has room.
    unworded_before: u64,
    /// Whom to wake when there is something to take.
    waker: Option<Waker>,
}

/// A connection's place among the watchers; it is given up when this is dropped.
#[derive(Debug)]
pub(in crate::engine) struct Watcher {
    number: u64,
    watch: Arc<Watch>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.watch.remove(self.number);
    }
}

/// What a watcher is given.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::engine) struct Taken {
    pub(in crate::engine) lines: Vec<u8>,
    /// How many lines have been skipped behind these.
    pub(in crate::engine) skipped: u64,
}

impl Watch {
    /// Nobody watches; `threads` will log.
    pub(in crate::engine) fn new(threads: usize) -> Watch {
        Watch {
            streams: AtomicU32::new(0),
            last_line: AtomicU64::new(0),
            unworded: (0..threads).map(|_| Unworded::default()).collect(),
            watchers: Mutex::default(),
        }
    }

    /// The streams that anybody watches.
    #[inline]
    pub(in crate::engine) fn watched(&self) -> Streams {
        Streams(self.streams.load(Ordering::Relaxed) as u16)
    }

    /// Whether an event of `stream` is worth wording: somebody watches and has room. Otherwise it is counted for
    /// those who watch; only thread number `thread` may say so.
    pub(in crate::engine) fn wants(&self, stream: Stream, thread: usize) -> bool {
        let streams = self.streams.load(Ordering::Relaxed);
        if Streams((streams >> OPEN_SHIFT) as u16).has(stream) {
            return true;
        }
        if Streams(streams as u16).has(stream) {
            self.unworded[thread].0[stream as usize].add(1);
        }
        false
    }

    /// The number of the next line.
    pub(in crate::engine) fn next_line(&self) -> u64 {
        self.last_line.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Hands `line` to those who watch `stream`.
    pub(in crate::engine) fn write(&self, stream: Stream, line: &[u8]) {
        let mut wakers = ArrayVec::<Waker, WATCHERS_MAX>::new();
        let mut watchers = self.lock();
        watchers.stats.written += 1;
        let may_wake = watchers.taken_bytes < EARLY_BYTES_MAX;
        let mut filled = false;
        for watcher in watchers.open.iter_mut().filter(|watcher| watcher.streams.has(stream)) {
            if watcher.is_full {
                watcher.skipped += 1;
            } else if watcher.lines.len() + line.len() > WATCHER_BYTES_MAX {
                watcher.skipped += 1;
                watcher.is_full = true;
                filled = true;
            } else {
                watcher.add(line);
                if may_wake && watcher.lines.len() >= WAKE_BYTES {
                    wakers.extend(watcher.waker.take());
                }
            }
        }
        if filled {
            self.publish(&watchers);
        }
        drop(watchers);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Counts `count` events of `stream` that were lost before they could be worded.
    pub(in crate::engine) fn lose(&self, stream: Stream, count: u64) {
        let mut watchers = self.lock();
        watchers.stats.dropped += count;
        for watcher in watchers.open.iter_mut().filter(|watcher| watcher.streams.has(stream)) {
            watcher.skipped += count;
        }
    }

    /// One more watcher, of `streams`; `None` when there are [`WATCHERS_MAX`].
    pub(in crate::engine) fn add(self: &Arc<Watch>, streams: Streams) -> Option<Watcher> {
        let mut watchers = self.lock();
        if watchers.open.len() >= WATCHERS_MAX {
            return None;
        }
        watchers.last += 1;
        let number = watchers.last;
        watchers.open.push(Open {
            number,
            streams,
            lines: Vec::new(),
            lines_count: 0,
            skipped: 0,
            is_full: false,
            unworded_before: self.unworded(streams),
            waker: None,
        });
        self.publish(&watchers);
        Some(Watcher { number, watch: Arc::clone(self) })
    }

    fn remove(&self, number: u64) {
        let mut watchers = self.lock();
        let Some(at) = watchers.open.iter().position(|watcher| watcher.number == number) else { return };
        let gone = watchers.open.remove(at);
        watchers.stats.skipped += self.skipped_by(&gone);
        self.publish(&watchers);
        drop(watchers);
        // Outside the lock, as all that may run code of others.
        drop(gone);
    }

    /// What waits for `watcher`. When there is more, `waker` is woken.
    pub(in crate::engine) fn take(&self, watcher: &Watcher, waker: &Waker) -> Taken {
        let waker = waker.clone();
        let mut watchers = self.lock();
        let Watchers { open, stats, taken_bytes, .. } = &mut *watchers;
        let Some(open) = open.iter_mut().find(|open| open.number == watcher.number) else {
            return Taken::default();
        };
        let unworded = self.unworded(open.streams);
        let skipped = std::mem::take(&mut open.skipped) + (unworded - open.unworded_before);
        open.unworded_before = unworded;
        let taken = Taken { lines: std::mem::take(&mut open.lines), skipped };
        *taken_bytes += taken.lines.len();
        stats.sent += std::mem::take(&mut open.lines_count);
        stats.skipped += taken.skipped;
        let was_full = std::mem::take(&mut open.is_full);
        let before = open.waker.replace(waker);
        if was_full {
            self.publish(&watchers);
        }
        drop(watchers);
        drop(before);
        taken
    }

    /// Wakes all for whom something waits: to be called at each tick.
    pub(in crate::engine) fn wake(&self) {
        if !self.watched().are_any() {
            return;
        }
        let mut watchers = self.lock();
        watchers.taken_bytes = 0;
        let waited_for = watchers.open.iter_mut();
        let waited_for = waited_for.filter(|open| !open.lines.is_empty() || self.skipped_by(open) > 0);
        let wakers: ArrayVec<Waker, WATCHERS_MAX> = waited_for.filter_map(|open| open.waker.take()).collect();
        drop(watchers);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// What was counted, and how many watch now.
    pub(in crate::engine) fn stats(&self) -> (WatchStats, usize) {
        let watchers = self.lock();
        let skipped = watchers.open.iter().map(|open| self.skipped_by(open)).sum::<u64>();
        let stats = WatchStats { skipped: watchers.stats.skipped + skipped, ..watchers.stats };
        (stats, watchers.open.len())
    }

    /// What `watcher` has missed since it took what waited.
    fn skipped_by(&self, watcher: &Open) -> u64 {
        watcher.skipped + (self.unworded(watcher.streams) - watcher.unworded_before)
    }

    /// Events of `streams` that were not worded, by all threads. Each only grows.
    fn unworded(&self, streams: Streams) -> u64 {
        let of = |unworded: &Unworded| {
            let counters = unworded.0.iter().enumerate();
            counters
                .filter(|(bit, _)| streams.0 >> bit & 1 != 0)
                .map(|(_, counter)| counter.value())
                .sum::<u64>()
        };
        self.unworded.iter().map(of).sum()
    }

    /// Makes the streams that are read without the lock those of `watchers`.
    fn publish(&self, watchers: &Watchers) {
        let all = |streams: Streams, watcher: &Open| streams.with(watcher.streams);
        let watched = watchers.open.iter().fold(Streams::NONE, all);
        let open = watchers.open.iter().filter(|watcher| !watcher.is_full);
        let open = open.fold(Streams::NONE, all);
        self.streams.store(u32::from(open.0) << OPEN_SHIFT | u32::from(watched.0), Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Watchers> {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// Adds `line`, which fits.
    fn add(&mut self, line: &[u8]) {
        let length = self.lines.len();
        if self.lines.capacity() - length < line.len() {
            // Twice as much each time, but not beyond the bound.
            self.lines.reserve_exact(length.max(GROWTH_BYTES_MIN).min(WATCHER_BYTES_MAX - length));
        }
        self.lines.extend_from_slice(line);
        self.lines_count += 1;
    }
}

/// What a watcher types: `quit` on a line of its own is heeded, the rest is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::engine) struct Typed {
    /// How many bytes of the word have come; `None` on a line that is another.
    matched: Option<usize>,
    /// Whether anything has come at all: until then a line begins.
    has_begun: bool,
}

impl Typed {
    const QUIT: &'static [u8] = b"quit";

    /// Whether `input`, behind what was typed before, completes a line with `quit`.
    pub(in crate::engine) fn says_quit(&mut self, input: &[u8]) -> bool {
        let mut matched = if self.has_begun { self.matched } else { Some(0) };
        self.has_begun = true;
        let mut quits = false;
        for &byte in input {
            matched = match (byte, matched) {
                (b'\n', Some(length)) if length == Self::QUIT.len() => {
                    quits = true;
                    break;
                }
                (b'\n', _) => Some(0),
                (b'\r', Some(length)) if length == Self::QUIT.len() => Some(length),
                (byte, Some(length)) if Self::QUIT.get(length) == Some(&byte) => Some(length + 1),
                _ => None,
            };
        }
        self.matched = matched;
        quits
    }
}

#[cfg(test)]
mod tests;
