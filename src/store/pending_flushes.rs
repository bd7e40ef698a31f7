//! The flushes by prefix that wait in one shard; see `flushes`.

use std::collections::HashMap;

use foldhash::quality::RandomState;

use crate::store::header::{Header, is_written_by};
use crate::store::segment::SegmentId;

/// How many flushes by prefix may wait at once; the store refuses more. While flushes wait, each operation looks its
/// key up once for every length of their prefixes, and each shard holds all prefixes.
pub const FLUSHES_MAX: usize = 256;

/// How many of these may come from one client all of whose keys begin with the same prefix, so that others can flush,
/// too.
pub const FLUSHES_OWN_MAX: usize = 32;

/// The flushes that wait in one shard. Invariants: there is at least one; `lengths` has the length of every prefix
/// once.
#[derive(Debug)]
pub(super) struct PendingFlushes {
    by_prefix: HashMap<Box<[u8]>, PendingFlush, RandomState>,
    lengths: Vec<usize>,
    /// The segment that is looked through next.
    next: SegmentId,
}

/// One flush that waits.
#[derive(Clone, Copy, Debug)]
struct PendingFlush {
    /// The number of the last write before it.
    last_write: u64,
    /// The segment before which its round ends.
    stop: SegmentId,
    /// Whether its round has passed the last segment and gone on from the first.
    is_around: bool,
}

impl PendingFlushes {
    /// No flushes: the caller adds one.
    pub(super) fn new(hasher: RandomState) -> PendingFlushes {
        PendingFlushes { by_prefix: HashMap::with_hasher(hasher), lengths: Vec::new(), next: 0 }
    }

    /// How many flushes wait.
    pub(super) fn len(&self) -> usize {
        self.by_prefix.len()
    }

    /// The segment that is looked through next.
    pub(super) fn next(&self) -> SegmentId {
        self.next
    }

    /// Whether one of the flushes removes an item with `key` and this header.
    pub(super) fn cover(&self, key: &[u8], header: Header) -> bool {
        self.lengths.iter().any(|&length| {
            let flush = key.get(..length).and_then(|prefix| self.by_prefix.get(prefix));
            flush.is_some_and(|flush| is_written_by(header, flush.last_write))
        })
    }

    /// Whether there may be one more flush, of `prefix`, by a client all of whose keys begin with `own`.
    pub(super) fn may_add(&self, prefix: &[u8], own: &[u8]) -> bool {
        let others = || self.by_prefix.keys().filter(|other| !other.starts_with(prefix));
        let own_max = if own.is_empty() { FLUSHES_MAX } else { FLUSHES_OWN_MAX };
        others().count() < FLUSHES_MAX && others().filter(|other| other.starts_with(own)).count() < own_max
    }

    /// Adds a flush of `prefix` after write `last_write`. It takes the place of flushes of longer prefixes, for it
    /// removes all that they do.
    pub(super) fn add(&mut self, prefix: &[u8], last_write: u64) {
        self.by_prefix.retain(|other, _| !other.starts_with(prefix));
        debug_assert!(self.by_prefix.len() < FLUSHES_MAX);
        let flush = PendingFlush { last_write, stop: self.next, is_around: false };
        self.by_prefix.insert(prefix.into(), flush);
        self.note_lengths();
    }

    fn note_lengths(&mut self) {
        self.lengths.clear();
        self.lengths.extend(self.by_prefix.keys().map(|prefix| prefix.len()));
        self.lengths.sort_unstable();
        self.lengths.dedup();
    }

    /// Goes on to the next segment of a shard that has `segments`, and drops the flushes that are done.
    pub(super) fn step(&mut self, segments: usize) {
        self.next += 1;
        if self.next as usize >= segments {
            self.next = 0;
            self.by_prefix.values_mut().for_each(|flush| flush.is_around = true);
        }
        let (next, before) = (self.next, self.by_prefix.len());
        self.by_prefix.retain(|_, flush| !flush.is_around || next < flush.stop);
        if self.by_prefix.len() < before {
            self.note_lengths();
        }
    }
}
