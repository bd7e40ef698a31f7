//! How a shard obtains memory.
//!
//! When the budget has none left, the shard reclaims some, in this order: it removes expired items, compacts segments
//! that are mostly dead, and evicts (see `evict`). Each step is a small batch, and the shard stops after the first
//! batch that freed enough, so that no operation holds the lock for long.
//!
//! A shard that holds less than half of an equal share overdraws the budget instead, and the store then has the shard
//! that holds most give up memory.

use std::ops::Range;

use crate::clock::Tick;
use crate::store::header::IDLE_SCAN_SECONDS;
use crate::store::item::NoMemory;
use crate::store::segment::{Queue, SegmentId};
use crate::store::shard::{LiveItem, Shard};

/// How many segments one change may empty before eviction also takes items that were used, the rarely used ones first.
/// So a shard full of used items cannot hold the lock for long.
const PATIENCE_SEGMENTS: u32 = 4;

/// A segment of which less than this part is alive is compacted before anything is evicted, in percent.
const SPARSE_PERCENT: usize = 40;
/// The same where nothing may be evicted.
const SPARSE_PERCENT_KEEPING: usize = 75;

/// A shard that holds an item keeps so many free segments resident; the sweep discards the others.
const FREE_SEGMENTS_KEPT: usize = 1;
/// One sweep discards one part in this many of the surplus of free segments, rounded up.
const SURPLUS_PARTS: usize = 8;

/// How much one change has already tried in order to obtain memory.
#[derive(Default)]
pub(super) struct Effort {
    /// How many segments eviction has emptied.
    pub(super) segments: u32,
    /// How often eviction has come across the item that is being changed, and moved it.
    pub(super) times_moved: u8,
}

impl Effort {
    /// Eviction takes items of this use frequency and below.
    pub(super) fn frequency_max(&self) -> u8 {
        (self.segments / PATIENCE_SEGMENTS).min(u32::from(u8::MAX)) as u8
    }
}

impl Shard {
    /// Charges `bytes`, reclaiming until they fit. The caller may use them or refund them.
    pub(super) fn charge(&mut self, bytes: u64, now: Tick) -> Result<(), NoMemory> {
        let mut effort = Effort::default();
        loop {
            if self.common.budget.try_charge(bytes) {
                return Ok(());
            }
            if self.discard_segment() || self.common.pool.discard_spares(bytes) {
                continue;
            }
            if self.common.pool.pinned_bytes() + bytes > self.common.budget.limit() {
                return Err(NoMemory); // eviction cannot free what readers hold
            }
            if !self.others_should_evict(bytes) && self.reclaim(&mut effort, now) {
                continue;
            }
            return self.overdraw(bytes);
        }
    }

    /// The open segment of `queue`, which has `bytes` of free space: another one is begun where the last one has less.
    pub(super) fn segment_with_space(
        &mut self,
        queue: Queue,
        bytes: usize,
        now: Tick,
    ) -> Result<SegmentId, NoMemory> {
        let mut effort = Effort::default();
        let segment_bytes = self.arena.segment_bytes() as u64;
        loop {
            if let Some(id) = self.queues[queue.number()].open
                && self.arena.free_bytes(id) >= bytes
            {
                return Ok(id);
            }
            // The last free segment is kept for the items that eviction moves.
            if self.arena.free_segments() > FREE_SEGMENTS_KEPT
                && let Some(id) = self.open_free(queue, now)
            {
                return Ok(id);
            }
            if self.common.budget.try_charge(segment_bytes) {
                return self.open_fresh(queue, now).ok_or(NoMemory);
            }
            if self.common.pool.discard_spares(segment_bytes) {
                continue;
            }
            if !self.others_should_evict(segment_bytes) && self.reclaim(&mut effort, now) {
                continue;
            }
            if let Some(id) = self.open_free(queue, now) {
                return Ok(id);
            }
            self.overdraw(segment_bytes)?;
            return self.open_fresh(queue, now).ok_or(NoMemory);
        }
    }

    /// Whether other shards should evict for this one, which holds less than half of an equal share.
    fn others_should_evict(&self, bytes: u64) -> bool {
        let budget = &self.common.budget;
        self.common.evictions_enabled
            && budget.held_by(self.number) < budget.share() / 2
            && budget.may_overdraw(bytes)
    }

    /// Charges `bytes` above the limit. The store then has the shards that hold most give up as much.
    fn overdraw(&mut self, bytes: u64) -> Result<(), NoMemory> {
        if !self.common.evictions_enabled || !self.common.budget.may_overdraw(bytes) {
            return Err(NoMemory);
        }
        self.common.budget.charge(bytes);
        self.overdrawn += bytes;
        Ok(())
    }

    /// Begins a segment of `queue` that is free and resident; `None` when there is none.
    fn open_free(&mut self, queue: Queue, now: Tick) -> Option<SegmentId> {
        let id = self.arena.take_free(queue, now.plus_seconds(IDLE_SCAN_SECONDS))?;
        self.enqueue(id, queue);
        Some(id)
    }

    /// Begins a segment of `queue` that is not resident yet, which the caller has charged. When there is no address
    /// space left, refunds the charge and returns `None`.
    fn open_fresh(&mut self, queue: Queue, now: Tick) -> Option<SegmentId> {
        let segment_bytes = self.arena.segment_bytes() as u64;
        let Some(id) = self.arena.take_fresh(queue, now.plus_seconds(IDLE_SCAN_SECONDS)) else {
            self.common.budget.refund(segment_bytes);
            return None;
        };
        self.common.budget.hold(self.number, segment_bytes);
        self.enqueue(id, queue);
        Some(id)
    }

    fn enqueue(&mut self, id: SegmentId, queue: Queue) {
        let queue = &mut self.queues[queue.number()];
        queue.segments.push_back(id);
        queue.open = Some(id);
        queue.bytes += self.arena.segment_bytes() as u64;
    }

    /// Discards the pages of a free segment; `false` when there is none.
    fn discard_segment(&mut self) -> bool {
        let discarded = self.arena.discard_one();
        if discarded {
            let segment_bytes = self.arena.segment_bytes() as u64;
            self.common.budget.let_go(self.number, segment_bytes);
            self.common.budget.refund(segment_bytes);
        }
        discarded
    }

    /// Frees some memory, that of the least valuable items; `false` when there is nothing to free.
    fn reclaim(&mut self, effort: &mut Effort, now: Tick) -> bool {
        if let Some(id) = self.due_for_scan(now) {
            self.stats.reclaimed += u64::from(self.scan(id, now).expired);
            return true;
        }
        if let Some(id) = self.sparsest_segment() {
            self.compact(id, now);
            // Compacting may have charged a segment above the limit, for the items to move to.
            while self.common.budget.debt() > 0 && self.discard_segment() {}
            return true;
        }
        self.common.evictions_enabled && self.evict(effort, now)
    }

    /// Reclaims until a segment's worth of memory is refunded, whatever items that takes; `false` when the shard has
    /// nothing left to give up.
    pub(in crate::store) fn give_up_segment(&mut self, now: Tick) -> bool {
        let mut effort = Effort::default();
        let before = self.common.budget.held_by(self.number);
        let segment_bytes = self.arena.segment_bytes() as u64;
        while self.common.budget.held_by(self.number) + segment_bytes > before {
            if self.arena.free_segments() > FREE_SEGMENTS_KEPT && self.discard_segment() {
                continue;
            }
            if !self.reclaim(&mut effort, now) {
                return self.discard_segment();
            }
        }
        true
    }

    /// The segment with the fewest live bytes, if that is few enough to compact it; open segments do not count.
    fn sparsest_segment(&self) -> Option<SegmentId> {
        let percent = if self.common.evictions_enabled { SPARSE_PERCENT } else { SPARSE_PERCENT_KEEPING };
        let live_max = self.arena.segment_bytes() * percent / 100;
        let closed = self
            .queues
            .iter()
            .flat_map(|queue| queue.segments.iter().copied().filter(move |&id| queue.open != Some(id)));
        let sparse = closed.filter(|&id| {
            let segment = self.arena.segment(id);
            // Most memory of a segment with large values is theirs, and the head that eviction has begun is on its way.
            (segment.live_bytes as usize) < live_max && segment.evict_from == 0 && segment.large_bytes == 0
        });
        sparse.min_by_key(|&id| self.arena.segment(id).live_bytes)
    }

    /// Moves all live items of segment `id` to the tail of its queue.
    fn compact(&mut self, id: SegmentId, now: Tick) {
        let queue = self.arena.segment(id).queue;
        while self.arena.segment(id).is_in_use {
            for (at, hash) in self.next_items(id).into_iter().flatten() {
                let Some(found) = self.live_at(at, hash) else { continue };
                if self.is_flushed(at, found.header) {
                    drop(self.remove(hash, found));
                } else if !self.move_to_tail(found, queue, self.index.frequency(found.slot), now) {
                    return;
                }
            }
        }
    }

    /// Moves the item `found` to the tail of `queue`; `false` when there is no address space for it.
    pub(super) fn move_to_tail(&mut self, found: LiveItem, queue: Queue, frequency: u8, now: Tick) -> bool {
        let bytes = found.header.record_bytes();
        let id = match self.queues[queue.number()].open {
            Some(id) if self.arena.free_bytes(id) >= bytes => id,
            _ => {
                let opened = self.open_free(queue, now).or_else(|| {
                    // Above the limit if need be: the segment that is being emptied makes up for it.
                    let segment_bytes = self.arena.segment_bytes() as u64;
                    self.common.budget.charge(segment_bytes);
                    self.overdrawn += segment_bytes;
                    self.open_fresh(queue, now)
                });
                let Some(id) = opened else { return false };
                id
            }
        };
        self.move_into(id, found, frequency);
        true
    }

    /// Discards free segments, one part in [`SURPLUS_PARTS`] of those that the shard need not keep.
    pub(in crate::store) fn discard_surplus(&mut self) {
        let kept = if self.index.items() == 0 { 0 } else { FREE_SEGMENTS_KEPT };
        let surplus = self.arena.free_segments().saturating_sub(kept);
        for _ in 0..surplus.div_ceil(SURPLUS_PARTS) {
            self.discard_segment();
        }
    }

    /// How many bytes at the head of the items' memory, and at the head of the index, are resident without a gap.
    pub(in crate::store) fn resident_heads(&self) -> [usize; 2] {
        [self.arena.resident_head(), self.index.resident_head()]
    }

    /// Discards the pages that are not in use, in these ranges of the items' memory and of the index, in bytes, once
    /// more.
    pub(in crate::store) fn discard_again(&mut self, [items, index]: [Option<Range<usize>>; 2]) {
        if let Some(range) = items {
            self.arena.discard_again(range);
        }
        if let Some(range) = index {
            self.index.discard_again(range);
        }
    }
}
