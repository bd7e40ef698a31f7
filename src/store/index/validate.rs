//! A recount of an index, for tests.

use std::sync::atomic::Ordering;

use crate::store::index::Index;
use crate::store::memory::PAGE_LINES;
use crate::store::slot::{LINK, SLOTS, bucket_of, position_of, tag, tag_of};

impl Index {
    /// Recounts everything and panics where an invariant does not hold. `hash_of` tells the hash of the item at a
    /// position.
    pub(in crate::store) fn validate(&self, mut hash_of: impl FnMut(u32) -> u64) {
        let (mut items, mut overflow) = (0, 0);
        for head in 0..self.buckets {
            let mut bucket = head;
            loop {
                let line = self.line(bucket);
                for slot in
                    line[..SLOTS].iter().map(|slot| slot.load(Ordering::Relaxed)).filter(|&slot| slot != 0)
                {
                    let hash = hash_of(position_of(slot));
                    assert_eq!(bucket_of(hash, self.buckets), head, "an item is in the chain of its hash");
                    assert_eq!(tag_of(slot), tag(hash), "a slot has the tag of its item's hash");
                    items += 1;
                }
                let Some(next) = self.next(line) else { break };
                overflow += 1;
                bucket = next;
                let is_empty =
                    self.line(bucket)[..SLOTS].iter().all(|slot| slot.load(Ordering::Relaxed) == 0);
                assert!(!is_empty, "overflow buckets of a chain have an item");
            }
        }
        assert_eq!(items, self.items, "items are the slots in use");
        assert_eq!(overflow, self.overflow_in_use, "overflow buckets in use are those in chains");
        let mut free = 0;
        let mut at = self.overflow_free;
        while at != 0 {
            free += 1;
            at = self.line(self.overflow_start + at - 1)[LINK].load(Ordering::Relaxed) as usize;
        }
        assert_eq!(overflow + free, self.overflow_made, "overflow buckets are in a chain or free");
        assert!(self.buckets <= self.pages * PAGE_LINES, "buckets lie in pages");
        assert!(self.overflow_made <= self.overflow_pages * PAGE_LINES, "overflow buckets lie in pages");
    }
}
