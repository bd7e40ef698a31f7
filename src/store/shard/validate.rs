//! A recount of a shard, for tests.

use std::collections::HashMap;

use crate::store::header::{Header, UNIT_BYTES, bits};
use crate::store::segment::{Queue, SegmentId};
use crate::store::shard::{Shard, position};

impl Shard {
    /// Recounts everything and panics where a sum differs. Returns how many bytes the shard is charged beside its large
    /// values.
    pub(in crate::store) fn validate(&self) -> u64 {
        let mut large_bytes = HashMap::<SegmentId, u64>::new();
        self.validate_items(&mut large_bytes);
        self.index.validate(|position| {
            let at = position as usize * UNIT_BYTES;
            self.hash_at(at, Header::read(self.arena.record(at)))
        });
        let segment_bytes = self.arena.segment_bytes() as u64;
        let mut held = self.arena.free_segments() as u64 * segment_bytes;
        let mut charged = held + self.index.bytes() + self.ghost.bytes();
        for number in Queue::BOTH {
            let queue = &self.queues[number.number()];
            let mut bytes = 0;
            charged += queue.segments.len() as u64 * segment_bytes;
            for &id in &queue.segments {
                let segment = self.arena.segment(id);
                assert!(segment.is_in_use && segment.queue == number, "a queue has segments of its own");
                assert_eq!(segment.large_bytes, large_bytes.get(&id).copied().unwrap_or(0));
                bytes += segment_bytes + segment.large_bytes;
            }
            assert_eq!(bytes, queue.bytes, "a queue's bytes are those of its segments");
            assert!(
                queue.open.is_none_or(|id| queue.segments.contains(&id)),
                "an open segment is in its queue"
            );
            held += bytes;
        }
        assert_eq!(held, self.common.budget.held_by(self.number), "the budget knows what the shard holds");
        charged
    }

    /// Recounts the items, and adds up the bytes of the large values in each segment.
    fn validate_items(&self, large_bytes: &mut HashMap<SegmentId, u64>) {
        let (mut items, mut item_bytes, mut large) = (0, 0, 0);
        self.arena.validate(|id, at, header| {
            let hash = self.hash_at(at, header);
            assert!(self.index.slot_of(hash, position(at)).is_some(), "every live item is in the index");
            items += 1;
            item_bytes += self.footprint(at, header);
            large += usize::from(header.has(bits::LARGE));
            *large_bytes.entry(id).or_default() += self.large_bytes(at, header);
        });
        assert_eq!(items, self.index.items(), "everything in the index is a live item");
        assert_eq!(item_bytes, self.item_bytes, "item bytes are the sum of the footprints");
        assert_eq!(large, self.large_values.len(), "every large value is an item's");
    }
}
