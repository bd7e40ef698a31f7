//! Flushes by prefix in one shard: taking one in, and finding the items that it removes.
//!
//! Rule: a flushed item is never moved. Otherwise it could move past the segment that the search has reached.

use crate::store::header::Header;
use crate::store::pending_flushes::PendingFlushes;
use crate::store::segment::SegmentId;
use crate::store::shard::{LiveItem, Shard};

impl Shard {
    /// Whether one more flush may wait, of `prefix`, by a client all of whose keys begin with `own`.
    pub(in crate::store) fn may_flush(&self, prefix: &[u8], own: &[u8]) -> bool {
        self.flushes.as_ref().is_none_or(|flushes| flushes.may_add(prefix, own))
    }

    /// Hides all items stored so far under keys that begin with `prefix`. `last_write` is the number of the last write,
    /// read under the lock of this shard: later writes to this shard have higher numbers.
    pub(in crate::store) fn flush_prefix(&mut self, prefix: &[u8], last_write: u64) {
        if self.index.items() == 0 {
            return;
        }
        let hasher = &self.common.hasher;
        let flushes = self.flushes.get_or_insert_with(|| Box::new(PendingFlushes::new(hasher.clone())));
        flushes.add(prefix, last_write);
    }

    /// Whether the item at `at` was flushed. The part that looks is cold: most of the time no flush waits.
    #[inline]
    pub(super) fn is_flushed(&self, at: usize, header: Header) -> bool {
        self.flushes.is_some() && self.is_under_flushed_prefix(at, header)
    }

    #[cold]
    fn is_under_flushed_prefix(&self, at: usize, header: Header) -> bool {
        self.flushes.as_ref().is_some_and(|flushes| flushes.cover(self.key_at(at, header), header))
    }

    /// Removes `found`, which was flushed.
    #[cold]
    pub(super) fn remove_flushed(&mut self, hash: u64, found: LiveItem) {
        let value = self.remove(hash, found);
        self.departing.extend(value);
    }

    /// How many segments the shard has had so far.
    pub(in crate::store) fn segments(&self) -> usize {
        self.arena.segments()
    }

    /// Removes the flushed items of the next segment; `false` when no flush waits.
    pub(in crate::store) fn sweep_flushed(&mut self) -> bool {
        let Some(flushes) = &self.flushes else { return false };
        let id = flushes.next();
        let segments = self.arena.segments();
        if (id as usize) < segments && self.arena.segment(id).is_in_use {
            self.remove_flushed_in(id);
        }
        self.flushes = self.flushes.take().and_then(|mut flushes| {
            flushes.step(segments);
            (flushes.len() > 0).then_some(flushes)
        });
        true
    }

    fn remove_flushed_in(&mut self, id: SegmentId) {
        let (mut at, end) = (self.arena.start(id), self.arena.end(id));
        while let Some((found, header)) = self.arena.next_live(at, end) {
            at = found + header.record_bytes();
            if self.is_flushed(found, header) {
                let (hash, found) = self.indexed(found, header);
                self.remove_flushed(hash, found);
            }
        }
    }
}
