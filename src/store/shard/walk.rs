//! One shard's part of a walk over all items.

use crate::clock::Tick;
use crate::store::header::{Header, UNIT_BYTES};
use crate::store::shard::Shard;
use crate::store::walk::Entry;

impl Shard {
    /// Shows the live items of the next slots, from `rank` on, to `visit`, until about `slots_max` slots were looked
    /// at. Returns the rank to go on from. `positions` is a buffer that is overwritten.
    pub(in crate::store) fn walk(
        &mut self,
        rank: u64,
        positions: &mut Vec<u32>,
        now: Tick,
        slots_max: usize,
        mut visit: impl FnMut(Entry<'_>),
    ) -> u64 {
        positions.clear();
        let next_rank = self.index.walk(rank, slots_max, positions);
        for &position in positions.iter() {
            self.arena.prefetch(position as usize * UNIT_BYTES);
        }
        // Removing an item moves slots of the index but no records, so the positions stay valid.
        for &position in positions.iter() {
            let at = position as usize * UNIT_BYTES;
            let record = self.arena.record(at);
            let header = Header::read(record);
            debug_assert!(!header.is_dead(), "the index names live items only");
            self.stats.sweep_checked += 1;
            if self.is_flushed(at, header) {
                let (hash, found) = self.indexed(at, header);
                self.remove_flushed(hash, found);
            } else if header.deadline(record).has_passed(now) {
                self.stats.swept += 1;
                let (hash, found) = self.indexed(at, header);
                self.remove_expired(hash, found);
            } else {
                visit(Entry {
                    key: self.key_at(at, header),
                    item: self.item(at, header, now),
                    bytes: self.footprint(at, header),
                });
            }
        }
        next_rank
    }
}
