//! The clients that `watch`: the streams each has asked for, and the buffer of lines that wait to be sent to it.
//!
//! Rules:
//! - no request waits for a watcher. Each has a buffer of [`WATCHER_BYTES_MAX`] bytes; when a line does not fit, it and
//!   all that follow are skipped, and counted, until the buffer has been taken;
//! - an event that no watcher has room for is not even formatted: its worker counts it, and goes on;
//! - buffers are taken at each tick, or sooner when `WAKE_BYTES` wait, so that lines are sent many at a time;
//! - sooner only until `EARLY_BYTES_MAX` were taken since the last tick: that bounds what all watchers of a busy server
//!   together cost, to a part of one processor.

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

/// Where in [`Watch::streams`] the bits of those streams are that some watcher has room for.
const ROOM_SHIFT: u32 = 16;

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

    /// The stream that a word of the `watch` command names; [`Streams::NONE`] for those of memcached's that have no
    /// events here. Raw commands have not been logged by memcached itself since 1.5; its system events are about slabs
    /// that move and crawls through queues; and there is no proxy.
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
    /// Events that were lost before they could be formatted.
    pub(in crate::engine) dropped: u64,
    /// Lines formatted.
    pub(in crate::engine) written: u64,
    /// Lines that watchers did not get, each watcher counted.
    pub(in crate::engine) skipped: u64,
    /// Lines that they got.
    pub(in crate::engine) sent: u64,
}

/// All watchers, and the counters that they share.
#[derive(Debug)]
pub(in crate::engine) struct Watch {
    /// The streams that any client watches, and above them those for which one has room: a copy, to be read without the
    /// lock of `watchers`. Relaxed: a line more or less while a watcher comes, goes or fills up does not matter.
    streams: AtomicU32,
    /// The number of the last line.
    last_line: AtomicU64,
    /// Events that were not formatted, by the thread that would have.
    unformatted: Box<[Unformatted]>,
    watchers: Mutex<Watchers>,
}

/// How many events of each stream one thread has not formatted because no watcher had room. Aligned so that two workers
/// never share a cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Unformatted([Counter; STREAMS]);

#[derive(Debug, Default)]
struct Watchers {
    all: Vec<Watcher>,
    /// The number of the last watcher that came.
    last: u64,
    /// Bytes taken since the last tick.
    taken_bytes: usize,
    stats: WatchStats,
}

/// One watcher, as long as its connection is open.
#[derive(Debug)]
struct Watcher {
    number: u64,
    streams: Streams,
    lines: Vec<u8>,
    lines_count: u64,
    /// Lines that others got, but this one had no room for.
    skipped: u64,
    /// Whether a line did not fit since the buffer was last taken.
    is_full: bool,
    /// How many events of its streams had not been formatted when it last took its buffer.
    unformatted_before: u64,
    /// Woken when lines wait.
    waker: Option<Waker>,
}

/// A connection's entry among the watchers. Dropping it removes the watcher.
#[derive(Debug)]
pub(in crate::engine) struct Registration {
    number: u64,
    watch: Arc<Watch>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.watch.remove(self.number);
    }
}

/// The lines that a watcher takes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::engine) struct Taken {
    pub(in crate::engine) lines: Vec<u8>,
    /// How many lines have been skipped behind these.
    pub(in crate::engine) skipped: u64,
}

impl Watch {
    /// No watchers yet, and so many threads that log events.
    pub(in crate::engine) fn new(threads: usize) -> Watch {
        Watch {
            streams: AtomicU32::new(0),
            last_line: AtomicU64::new(0),
            unformatted: (0..threads).map(|_| Unformatted::default()).collect(),
            watchers: Mutex::default(),
        }
    }

    /// The streams that any client watches.
    #[inline]
    pub(in crate::engine) fn watched(&self) -> Streams {
        Streams(self.streams.load(Ordering::Relaxed) as u16)
    }

    /// Whether an event of `stream` is to be formatted: whether a watcher of it has room. If there are only full ones,
    /// the event is counted as skipped. To be called by thread number `thread` alone.
    pub(in crate::engine) fn wants(&self, stream: Stream, thread: usize) -> bool {
        let streams = self.streams.load(Ordering::Relaxed);
        if Streams((streams >> ROOM_SHIFT) as u16).has(stream) {
            return true;
        }
        if Streams(streams as u16).has(stream) {
            self.unformatted[thread].0[stream as usize].add(1);
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
        for watcher in watchers.all.iter_mut().filter(|watcher| watcher.streams.has(stream)) {
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

    /// Counts `count` events of `stream` that were lost before they could be formatted.
    pub(in crate::engine) fn lose(&self, stream: Stream, count: u64) {
        let mut watchers = self.lock();
        watchers.stats.dropped += count;
        for watcher in watchers.all.iter_mut().filter(|watcher| watcher.streams.has(stream)) {
            watcher.skipped += count;
        }
    }

    /// One more watcher, of `streams`; `None` when there are [`WATCHERS_MAX`].
    pub(in crate::engine) fn add(self: &Arc<Watch>, streams: Streams) -> Option<Registration> {
        let mut watchers = self.lock();
        if watchers.all.len() >= WATCHERS_MAX {
            return None;
        }
        watchers.last += 1;
        let number = watchers.last;
        watchers.all.push(Watcher {
            number,
            streams,
            lines: Vec::new(),
            lines_count: 0,
            skipped: 0,
            is_full: false,
            unformatted_before: self.unformatted(streams),
            waker: None,
        });
        self.publish(&watchers);
        Some(Registration { number, watch: Arc::clone(self) })
    }

    fn remove(&self, number: u64) {
        let mut watchers = self.lock();
        let Some(at) = watchers.all.iter().position(|watcher| watcher.number == number) else { return };
        let gone = watchers.all.remove(at);
        watchers.stats.skipped += self.skipped_by(&gone);
        self.publish(&watchers);
        drop(watchers);
        // Outside the lock, because dropping a waker may run any code.
        drop(gone);
    }

    /// Takes the lines that wait for a watcher. When there are more, `waker` is woken.
    pub(in crate::engine) fn take(&self, registration: &Registration, waker: &Waker) -> Taken {
        let waker = waker.clone();
        let mut watchers = self.lock();
        let Watchers { all, stats, taken_bytes, .. } = &mut *watchers;
        let Some(watcher) = all.iter_mut().find(|watcher| watcher.number == registration.number) else {
            return Taken::default();
        };
        let unformatted = self.unformatted(watcher.streams);
        let skipped = std::mem::take(&mut watcher.skipped) + (unformatted - watcher.unformatted_before);
        watcher.unformatted_before = unformatted;
        let taken = Taken { lines: std::mem::take(&mut watcher.lines), skipped };
        *taken_bytes += taken.lines.len();
        stats.sent += std::mem::take(&mut watcher.lines_count);
        stats.skipped += taken.skipped;
        let was_full = std::mem::take(&mut watcher.is_full);
        let before = watcher.waker.replace(waker);
        if was_full {
            self.publish(&watchers);
        }
        drop(watchers);
        drop(before);
        taken
    }

    /// Wakes the watchers that have lines waiting: to be called at each tick.
    pub(in crate::engine) fn wake(&self) {
        if !self.watched().are_any() {
            return;
        }
        let mut watchers = self.lock();
        watchers.taken_bytes = 0;
        let waited_for = watchers.all.iter_mut();
        let waited_for =
            waited_for.filter(|watcher| !watcher.lines.is_empty() || self.skipped_by(watcher) > 0);
        let wakers: ArrayVec<Waker, WATCHERS_MAX> =
            waited_for.filter_map(|watcher| watcher.waker.take()).collect();
        drop(watchers);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// The counters, and how many clients watch now.
    pub(in crate::engine) fn stats(&self) -> (WatchStats, usize) {
        let watchers = self.lock();
        let skipped = watchers.all.iter().map(|watcher| self.skipped_by(watcher)).sum::<u64>();
        let stats = WatchStats { skipped: watchers.stats.skipped + skipped, ..watchers.stats };
        (stats, watchers.all.len())
    }

    /// How many lines `watcher` has missed since it last took its buffer.
    fn skipped_by(&self, watcher: &Watcher) -> u64 {
        watcher.skipped + (self.unformatted(watcher.streams) - watcher.unformatted_before)
    }

    /// How many events of `streams` all threads have not formatted. Only grows.
    fn unformatted(&self, streams: Streams) -> u64 {
        let of = |unformatted: &Unformatted| {
            let counters = unformatted.0.iter().enumerate();
            counters
                .filter(|(bit, _)| streams.0 >> bit & 1 != 0)
                .map(|(_, counter)| counter.value())
                .sum::<u64>()
        };
        self.unformatted.iter().map(of).sum()
    }

    /// Copies the streams of `watchers` to where they are read without the lock.
    fn publish(&self, watchers: &Watchers) {
        let all = |streams: Streams, watcher: &Watcher| streams.with(watcher.streams);
        let watched = watchers.all.iter().fold(Streams::NONE, all);
        let with_room = watchers.all.iter().filter(|watcher| !watcher.is_full);
        let with_room = with_room.fold(Streams::NONE, all);
        self.streams.store(u32::from(with_room.0) << ROOM_SHIFT | u32::from(watched.0), Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Watchers> {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watcher {
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

/// What a watcher types: `quit` on a line of its own ends the connection, and all else is ignored.
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
