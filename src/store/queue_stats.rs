//! What stands in the two queues of items, for those who want to see eviction at work.

use crate::clock::Tick;
use crate::store::segment::Queue;
use crate::store::shards::{Store, release};

/// What stands in one queue, over all shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueStats {
    /// Items, dead ones not found yet included.
    pub items: u64,
    /// How long ago the item that eviction will look at next was last accessed, in seconds: the longest of all
    /// shards.
    pub head_idle_seconds: u64,
}

/// What stands in both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueuesStats {
    /// Where items come in.
    pub probation: QueueStats,
    /// Where items go once they have proved themselves.
    pub main: QueueStats,
}

impl Store {
    /// What stands in the queues. It looks at every segment's sums, so it is for statistics.
    pub fn queues(&self, now: Tick) -> QueuesStats {
        let mut total = QueuesStats::default();
        for number in 0..self.shards.len() {
            let shard = self.lock(number);
            for (queue, sum) in [(Queue::Probation, &mut total.probation), (Queue::Main, &mut total.main)] {
                let segments = &shard.lines[queue.number()].segments;
                let items = segments.iter().map(|&id| u64::from(shard.arena.segment(id).live_items));
                sum.items += items.sum::<u64>();
                let Some(&head) = segments.front() else { continue };
                let from = shard.arena.start(head) + shard.arena.segment(head).looked as usize;
                if let Some((_, header)) = shard.arena.next_live(from, shard.arena.end(head)) {
                    let idle = u64::from(header.idle_seconds(now));
                    sum.head_idle_seconds = sum.head_idle_seconds.max(idle);
                }
            }
            release(shard);
        }
        total
    }
}
