//! Walking over all live items, a bounded slice at a time: for dumps, crawls, and removals by pattern.
//!
//! An item that is there from the first slice to the last is met exactly once, whatever is stored, overwritten,
//! evicted, moved or merged in between; no key is met twice in a walk; what comes or goes meanwhile may or may not
//! be met. What has died of age or was flushed is not met: the walk takes it away as it passes.
//!
//! Rule: a slice locks one shard, once. Between slices nothing is held, so a walk may take as long as it likes.

use crate::clock::Tick;
use crate::store::header::{Header, UNIT_BYTES};
use crate::store::item::Item;
use crate::store::shard::{Found, Shard, position};
use crate::store::shards::{Store, release};
use crate::store::slot::RANKS;

/// Where a walk through one store has got to. A new one stands at the beginning.
#[derive(Debug, Default)]
pub struct Cursor {
    shard: usize,
    /// All items of lower rank in that shard have been met.
    rank: u64,
    /// Positions of the items of one slice, kept between slices for its room only.
    positions: Vec<u32>,
}

/// An item met on a walk. Borrowed: it cannot outlive the shard's lock.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'s> {
    /// Its key.
    pub key: &'s [u8],
    /// The item, as a reader sees it; a walk leaves no trace on it.
    pub item: Item<'s>,
    /// What it is charged for, header and key included, its place in the index apart, in bytes.
    pub bytes: u64,
}

/// What is to become of an item met on a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It stays as it is.
    Keep,
    /// It goes.
    Remove,
}

impl Store {
    /// Walks on from `cursor` for one slice: shows the next live items to `visit`, which says what is to become of
    /// each, until about `slots_max` places of the index were looked at (empty ones count, so that a slice of an
    /// empty store is short too). Returns whether there is more to come.
    ///
    /// With 256 places, some 170 items, a slice holds its lock for about 10 µs (measured with a million items) plus
    /// what `visit` takes, which must be short and must not use the store.
    pub fn walk(
        &self,
        cursor: &mut Cursor,
        now: Tick,
        slots_max: usize,
        visit: impl FnMut(Entry<'_>) -> Verdict,
    ) -> bool {
        if cursor.shard >= self.shards.len() {
            return false;
        }
        let mut shard = self.lock(cursor.shard);
        shard.walk(cursor, now, slots_max, visit);
        release(shard);
        if cursor.rank == RANKS {
            cursor.shard += 1;
            cursor.rank = 0;
        }
        cursor.shard < self.shards.len()
    }
}

impl Shard {
    fn walk(
        &mut self,
        cursor: &mut Cursor,
        now: Tick,
        slots_max: usize,
        mut visit: impl FnMut(Entry<'_>) -> Verdict,
    ) {
        cursor.positions.clear();
        cursor.rank = self.index.walk(cursor.rank, slots_max, &mut cursor.positions);
        for &position in &cursor.positions {
            self.arena.prefetch(position as usize * UNIT_BYTES);
        }
        // Removals move places in the index but no items, so positions stay good.
        for &position in &cursor.positions {
            let at = position as usize * UNIT_BYTES;
            let record = self.arena.record(at);
            let header = Header::read(record);
            debug_assert!(!header.is_dead(), "what the index names is an item");
            self.stats.sweep_checked += 1;
            if self.is_flushed(at, header) {
                let (hash, found) = self.indexed(at, header);
                self.drop_flushed(hash, found);
                continue;
            }
            if header.deadline(record).has_passed(now) {
                self.stats.swept += 1;
                let (hash, found) = self.indexed(at, header);
                self.expire(hash, found);
                continue;
            }
            let verdict = visit(Entry {
                key: &record[header.key_start()..][..header.key_len()],
                item: self.item(at, header, now),
                bytes: self.footprint(at, header),
            });
            if verdict == Verdict::Remove {
                let (hash, found) = self.indexed(at, header);
                let value = self.remove(hash, found);
                self.graveyard.extend(value);
            }
        }
    }

    /// The live item at `at`, with its hash and its place.
    pub(super) fn indexed(&self, at: usize, header: Header) -> (u64, Found) {
        let hash = self.hash_at(at, header);
        let place = self.index.place(hash, position(at)).expect("live items are in the index");
        (hash, Found { place, at, header })
    }
}
