//! The background work of a store, about ten times a second.
//!
//! Each call does one bounded slice: it scans for expired items, removes flushed ones, gives memory back to the system,
//! and has shards evict while more memory is charged than the limit allows.

use std::sync::atomic::Ordering;

use crate::clock::Tick;
use crate::store::shards::{Store, unlock};

/// One sweep scans at most so much memory, in bytes, or one segment of each shard. At ten sweeps a second that takes a
/// quarter of a processor at worst, and covers more than a gigabyte a second.
const SWEEP_BYTES_MAX: usize = 128 << 20;
/// One slice makes at most so many huge pages of the items' memory, and as many of the index: about a millisecond.
const HUGE_PAGES_PER_TIDY: usize = 4;
/// One slice has at least so many segments given up while the store is over its limit.
const SETTLE_SEGMENTS_MIN: u64 = 64;
/// Or one part in so many of the memory in use, where that is more: so a lower limit is reached within a few seconds.
const SETTLE_PARTS: u64 = 20;

impl Store {
    /// Removes expired items, one bounded slice of every shard, and tidies up. Call it, or [`Store::tidy`], about every
    /// tick.
    pub fn sweep(&self, now: Tick) {
        let count = self.shard_count();
        let first = self.next_swept.load(Ordering::Relaxed);
        let mut segments_left = (SWEEP_BYTES_MAX / self.common.segment_bytes).max(count);
        for number in (first..first + count).map(|number| number % count) {
            // At most half of what is left, so that every shard has its turn before long.
            let mut share = self.lock(number).sweep_segments_max().min(segments_left.div_ceil(2));
            // The shard is unlocked after each segment, so that requests do not wait for long.
            while share > 0 && segments_left > 0 {
                let mut shard = self.lock(number);
                let was_due = shard.sweep(now);
                unlock(shard);
                if !was_due {
                    break;
                }
                share -= 1;
                segments_left -= 1;
            }
            if segments_left == 0 {
                self.next_swept.store((number + 1) % count, Ordering::Relaxed);
                break;
            }
        }
        self.tidy(now);
    }

    /// Removes items that were flushed by prefix, gives free memory back to the system, evicts while more is charged
    /// than the limit, and makes huge pages of memory in use: one bounded slice of each.
    pub fn tidy(&self, now: Tick) {
        self.sweep_flushed();
        self.common.pool.discard_idle_spares();
        let mut heads = [usize::MAX; 2];
        for number in 0..self.shard_count() {
            let mut shard = self.lock(number);
            shard.discard_surplus();
            let resident = shard.resident_heads();
            unlock(shard);
            heads = [heads[0].min(resident[0]), heads[1].min(resident[1])];
        }
        self.adjust_huge_pages(heads);
        let segments = self.common.budget.used() / SETTLE_PARTS / self.common.segment_bytes as u64;
        self.settle_debt(now, segments.max(SETTLE_SEGMENTS_MIN));
    }

    /// Makes huge pages of the heads that are resident in every shard, so many bytes of the items' memory and of the
    /// index.
    fn adjust_huge_pages(&self, resident_heads: [usize; 2]) {
        let count = self.shard_count();
        let [items, index] = &self.huge_pages;
        let retreats = [(items, resident_heads[0]), (index, resident_heads[1])]
            .map(|(pages, head)| pages.adjust(head * count, HUGE_PAGES_PER_TIDY));
        if retreats.iter().any(Option::is_some) {
            // Pages that a shard discarded while huge pages were made there have become resident again.
            let parts =
                retreats.map(|retreat| retreat.map(|bytes| bytes.start / count..bytes.end.div_ceil(count)));
            for number in 0..count {
                self.lock(number).discard_again(parts.clone());
            }
        }
    }

    /// While more is charged than the limit, has the shard that holds most give up a segment's worth of memory, up to
    /// `segments_max` times.
    pub(super) fn settle_debt(&self, now: Tick, segments_max: u64) {
        if !self.common.evictions_enabled {
            return;
        }
        for _ in 0..segments_max {
            let debt = self.common.budget.debt();
            if debt == 0 {
                break;
            }
            if self.common.pool.discard_spares(debt) {
                continue;
            }
            let mut shard = self.lock(self.common.budget.largest_holder());
            let gave_up = shard.give_up_segment(now);
            unlock(shard);
            if !gave_up {
                break;
            }
        }
    }
}
