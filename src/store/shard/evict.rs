//! Eviction: which items have to go when memory is needed.
//!
//! Eviction takes items in small batches from the head of the queue that is over its share. An item that was used since
//! it came, or since eviction last met it, moves to the tail of main with a lower frequency. The others are removed.

use crate::clock::Tick;
use crate::store::evicted_keys::Eviction;
use crate::store::header::{Header, bits};
use crate::store::item::Marks;
use crate::store::policy::lowered;
use crate::store::segment::{Queue, SegmentId};
use crate::store::shard::reclaim::Effort;
use crate::store::shard::{LiveItem, Shard, position};

/// How many items one batch looks at. Their lines of the index are prefetched together.
const BATCH_ITEMS: usize = 32;

/// An item read within this many seconds before its eviction counts as active.
const ACTIVE_SECONDS: u16 = 60;

/// When eviction has moved the item that is being changed more often than this, nothing else is left to evict:
/// frequencies reach 0 before.
const TIMES_MOVED_MAX: u8 = 16;

impl Shard {
    /// Looks at the next items at the head of the queue that is over its share; `false` when there are none.
    pub(super) fn evict(&mut self, effort: &mut Effort, now: Tick) -> bool {
        let Some(queue) = self.queue_to_evict_from() else { return false };
        let Some(&id) = self.queues[queue.number()].segments.front() else { return false };
        let frequency_max = effort.frequency_max();
        let mut evict_from = self.arena.start(id);
        for (at, hash) in self.next_items(id).into_iter().flatten() {
            let found = self.live_at(at, hash).expect("live items are in the index");
            let LiveItem { header, .. } = found;
            let frequency = self.index.frequency(found.slot);
            evict_from = at + header.record_bytes();
            let is_changing = self.changing == Some(position(at));
            if !is_changing && header.deadline(self.arena.record(at)).has_passed(now) {
                self.stats.reclaimed += 1;
                self.stats.expired_unfetched += u64::from(!header.marks().has(Marks::FETCHED));
                drop(self.remove(hash, found));
            } else if self.is_flushed(at, header) {
                drop(self.remove(hash, found));
            } else if is_changing || frequency > frequency_max {
                effort.times_moved += u8::from(is_changing);
                if effort.times_moved > TIMES_MOVED_MAX {
                    return false;
                }
                let lower = if queue == Queue::Main { lowered(frequency) } else { 0 };
                if !self.move_to_tail(found, Queue::Main, lower, now) {
                    return false;
                }
            } else {
                self.note_eviction(found, now);
                self.ghost.insert(hash, queue);
                self.balance.dropped(queue);
                // A large value is freed here, under the lock: its memory is needed now.
                drop(self.remove(hash, found));
            }
        }
        let start = self.arena.start(id);
        let segment = self.arena.segment_mut(id);
        if segment.is_in_use {
            segment.evict_from = (evict_from - start) as u32;
        } else {
            effort.segments += 1;
        }
        true
    }

    /// Counts the eviction of `found`, and lists it while a client watches.
    fn note_eviction(&mut self, found: LiveItem, now: Tick) {
        let header = found.header;
        let is_fetched = header.marks().has(Marks::FETCHED);
        self.stats.evictions += 1;
        self.stats.evicted_unfetched += u64::from(!is_fetched);
        self.stats.evicted_nonzero += u64::from(header.has(bits::DEADLINE));
        self.stats.evicted_idle_seconds = u64::from(header.idle_seconds(now));
        let is_active = is_fetched && header.idle_seconds(now) < ACTIVE_SECONDS;
        self.stats.evicted_active += u64::from(is_active);
        if self.common.evictions.are_wanted() {
            self.list_eviction(found, now);
        }
    }

    #[cold]
    fn list_eviction(&self, found: LiveItem, now: Tick) {
        let LiveItem { at, header, .. } = found;
        self.common.evictions.add(Eviction {
            key: Box::from(self.key_at(at, header)),
            is_fetched: header.marks().has(Marks::FETCHED),
            deadline: header.deadline(self.arena.record(at)),
            at: now,
            idle_seconds: u32::from(header.idle_seconds(now)),
            value_bytes: self.value_len(found) as u64,
        });
    }

    /// The queue that is over its share; `None` when both are empty.
    fn queue_to_evict_from(&self) -> Option<Queue> {
        let [probation, main] = &self.queues;
        let all = probation.bytes + main.bytes;
        match (probation.segments.is_empty(), main.segments.is_empty()) {
            (true, true) => None,
            (true, false) => Some(Queue::Main),
            (false, true) => Some(Queue::Probation),
            (false, false) if self.balance.probation_is_over(probation.bytes, all) => Some(Queue::Probation),
            (false, false) => Some(Queue::Main),
        }
    }

    /// Where the next live items of segment `id` start, and their hashes. Their lines of the index are prefetched.
    pub(super) fn next_items(&self, id: SegmentId) -> [Option<(usize, u64)>; BATCH_ITEMS] {
        let mut batch = [None; BATCH_ITEMS];
        let mut at = self.arena.evict_from(id);
        let end = self.arena.end(id);
        for entry in &mut batch {
            let Some((found, header)) = self.arena.next_live(at, end) else { break };
            let hash = self.hash_at(found, header);
            self.index.prefetch(hash);
            *entry = Some((found, hash));
            at = found + header.record_bytes();
        }
        batch
    }

    /// The item of `hash` at `at`, if it is in the index.
    pub(super) fn live_at(&self, at: usize, hash: u64) -> Option<LiveItem> {
        let slot = self.index.slot_of(hash, position(at))?;
        Some(LiveItem { slot, at, header: Header::read(self.arena.record(at)) })
    }

    /// Moves the item `found` to the end of segment `id`, which has the space.
    pub(super) fn move_into(&mut self, id: SegmentId, found: LiveItem, frequency: u8) {
        let bytes = found.header.record_bytes();
        let at = self.arena.append(id, bytes);
        self.arena.copy(found.at, bytes, at);
        let large_bytes = self.large_bytes(at, found.header);
        self.change_large_bytes(id, 0, large_bytes);
        self.note_deadline(id, found.header.deadline(self.arena.record(at)));
        self.index.set_position(found.slot, position(at));
        self.index.set_frequency(found.slot, frequency);
        if self.changing == Some(position(found.at)) {
            self.changing = Some(position(at));
        }
        self.mark_dead(found.at, found.header);
    }
}
