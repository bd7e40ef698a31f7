//! A walk over all live items, a bounded slice at a time: for dumps and lists.
//!
//! A walk meets an item exactly once if it is there from the first slice to the last, whatever is stored, overwritten,
//! evicted, moved or merged in between. It meets no key twice. It may or may not meet an item that comes or goes
//! meanwhile. It does not show items that have expired or were flushed, but removes them as it passes.
//!
//! Rule: a slice locks one shard, once. Between slices a walk holds nothing, so it may take as long as it likes.

use crate::clock::Tick;
use crate::store::item::Item;
use crate::store::shards::{Store, unlock};
use crate::store::slot::RANKS;

/// How far a walk through one store has come. A new cursor stands at the beginning.
#[derive(Debug, Default)]
pub struct Cursor {
    shard: usize,
    /// The walk has met all items of lower rank in that shard.
    rank: u64,
    /// A buffer for the positions of one slice, kept so that each slice need not allocate.
    positions: Vec<u32>,
}

/// An item met on a walk. Borrowed: it cannot outlive the shard's lock.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'s> {
    /// The key.
    pub key: &'s [u8],
    /// The item, as a reader sees it; a walk leaves no trace on it.
    pub item: Item<'s>,
    /// How many bytes the item takes, header and key included, its slot in the index apart.
    pub bytes: u64,
}

impl Store {
    /// Walks on from `cursor` for one slice: shows the next live items to `visit`, until about `slots_max` slots of the
    /// index were looked at. Empty slots count, so that a slice of an empty store is short, too. Returns whether there
    /// is more to come.
    ///
    /// With 256 slots, some 170 items, a slice holds its lock for about 10 µs (measured with a million items) plus the
    /// time that `visit` takes, which must be short and must not use the store.
    pub fn walk(
        &self,
        cursor: &mut Cursor,
        now: Tick,
        slots_max: usize,
        visit: impl FnMut(Entry<'_>),
    ) -> bool {
        if cursor.shard >= self.shard_count() {
            return false;
        }
        let mut shard = self.lock(cursor.shard);
        cursor.rank = shard.walk(cursor.rank, &mut cursor.positions, now, slots_max, visit);
        unlock(shard);
        if cursor.rank == RANKS {
            cursor.shard += 1;
            cursor.rank = 0;
        }
        cursor.shard < self.shard_count()
    }
}
