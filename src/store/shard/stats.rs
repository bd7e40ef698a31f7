//! The statistics of one shard.

use crate::clock::Tick;
use crate::store::queue_stats::QueueStats;
use crate::store::segment::Queue;
use crate::store::shard::Shard;
use crate::store::stats::StoreStats;

impl Shard {
    /// Adds the shard's numbers to `total`, whose `index_power` becomes the number of slots: the caller takes the
    /// logarithm once all shards have added theirs.
    pub(in crate::store) fn add_stats(&self, total: &mut StoreStats) {
        total.items += self.index.items() as u64;
        total.bytes += self.item_bytes;
        total.total_items += self.stats.total_items;
        total.evictions += self.stats.evictions;
        total.evicted_unfetched += self.stats.evicted_unfetched;
        total.evicted_active += self.stats.evicted_active;
        total.evicted_nonzero += self.stats.evicted_nonzero;
        total.evicted_idle_seconds = total.evicted_idle_seconds.max(self.stats.evicted_idle_seconds);
        total.held_bytes += self.common.budget.held_by(self.number);
        total.expired_unfetched += self.stats.expired_unfetched;
        total.reclaimed += self.stats.reclaimed;
        total.swept += self.stats.swept;
        total.sweep_checked += self.stats.sweep_checked;
        let flushes = self.flushes.as_ref().map_or(0, |flushes| flushes.len() as u64);
        total.flushes_waiting = total.flushes_waiting.max(flushes);
        total.index_bytes += self.index.bytes();
        total.index_power += self.index.slots() as u64;
    }

    /// Zeroes how long the last evicted item had not been accessed.
    pub(in crate::store) fn forget_last_eviction(&mut self) {
        self.stats.evicted_idle_seconds = 0;
    }

    /// Adds the items of `queue` to `total`.
    pub(in crate::store) fn add_queue_stats(&self, queue: Queue, total: &mut QueueStats, now: Tick) {
        let segments = &self.queues[queue.number()].segments;
        let items = segments.iter().map(|&id| u64::from(self.arena.segment(id).live_items));
        total.items += items.sum::<u64>();
        let Some(&head) = segments.front() else { return };
        if let Some((_, header)) = self.arena.next_live(self.arena.evict_from(head), self.arena.end(head)) {
            let idle = u64::from(header.idle_seconds(now));
            total.head_idle_seconds = total.head_idle_seconds.max(idle);
        }
    }
}
