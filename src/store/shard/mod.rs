//! One shard: a single-threaded map, bounded in bytes.
//!
//! This file finds, reads and removes one item. The files below do the rest: `put` stores an item and `put_large` one
//! with a large value, `reclaim` obtains memory, `evict` and `expire` choose what has to go, `flush` and `walk` go
//! through many items, and `validate` recounts everything. They are parts of this module, so that a shard's fields are
//! open to them alone.

mod evict;
mod expire;
mod flush;
mod large_values;
mod put;
mod put_large;
mod reclaim;
mod stats;
mod validate;
mod walk;

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use foldhash::quality::RandomState;

use crate::clock::Tick;
use crate::store::budget::Budget;
use crate::store::evicted_keys::Evictions;
use crate::store::header::{self, Header, UNIT_BYTES, bits};
use crate::store::hint::{Hashed, View};
use crate::store::index::{Index, SlotId};
use crate::store::item::{Access, Change, Item, Lookup, Marks, NoMemory};
use crate::store::large::{Departing, Pool, Table};
use crate::store::memory::{PAGE_BYTES, Stripes};
use crate::store::pending_flushes::PendingFlushes;
use crate::store::policy::{Balance, Ghost, raised};
use crate::store::segment::{Arena, SegmentId};
use crate::store::sizing::record_bytes_max;
use crate::store::slot::FREQUENCY_MAX;
use crate::store::stats::StoreStats;

/// The parts that all shards of a store share.
#[derive(Clone, Debug)]
pub(super) struct Common {
    pub(super) budget: Arc<Budget>,
    pub(super) pool: Arc<Pool>,
    pub(super) hasher: RandomState,
    /// The number of writes so far, which is also the last CAS id given out. All shards count here, so CAS ids rise
    /// over the whole store. Relaxed: a shard's lock orders the writes of that shard, and nothing else depends on their
    /// order.
    pub(super) last_write: Arc<AtomicU64>,
    pub(super) evictions_enabled: bool,
    /// The list of evictions, which shards add to while a client watches.
    pub(super) evictions: Arc<Evictions>,
    pub(super) segment_bytes: usize,
}

/// The segments of one queue, the oldest first.
#[derive(Debug, Default)]
struct SegmentQueue {
    segments: VecDeque<SegmentId>,
    /// The segment that new records are appended to.
    open: Option<SegmentId>,
    /// Bytes of these segments and of the large values in them.
    bytes: u64,
}

/// One shard. Invariants, checked by `validate`:
/// - every live item is in the index exactly once, and in exactly one segment;
/// - every segment in use is in its queue exactly once, and holds a live item;
/// - `item_bytes` is the sum of the footprints of live items;
/// - the budget says that the shard holds its segments, free ones included, and its large values.
///
/// The order of the fields puts everything that a look-up reads into three cache lines: a store of 16 GB has 256
/// shards, and the nearest cache has few lines.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Shard {
    /// Bytes charged above the limit by the operation that is going on, or by the last one.
    overdrawn: u64,
    item_bytes: u64,
    /// Large values of removed items, which the caller drops once the shard is unlocked.
    departing: Vec<Departing>,
    dice: u32,
    index: Index,
    /// The flushes by prefix whose items are not all found yet.
    flushes: Option<Box<PendingFlushes>>,
    arena: Arena,
    common: Common,
    /// A longer record has its value in pages of its own, in bytes.
    record_bytes_max: usize,
    number: usize,
    queues: [SegmentQueue; 2],
    /// The position of the item that is being changed. Reclaiming may move that item but must not remove it.
    changing: Option<u32>,
    ghost: Ghost,
    balance: Balance,
    large_values: Table,
    stats: StoreStats,
}

/// A live item and where it lies.
#[derive(Clone, Copy, Debug)]
struct LiveItem {
    slot: SlotId,
    /// Where its record starts, in bytes.
    at: usize,
    header: Header,
}

enum Search {
    Live(LiveItem),
    Expired,
    Nothing,
}

impl Shard {
    /// An empty shard, that of view `number`, whose items lie in `arena`.
    pub(super) fn new(
        common: Common,
        views: Arc<[View]>,
        number: usize,
        arena: Stripes,
        ghost: Ghost,
    ) -> Shard {
        common.budget.charge(ghost.bytes() + PAGE_BYTES as u64);
        Shard {
            index: Index::new(views, number),
            flushes: None,
            arena: Arena::new(arena),
            item_bytes: 0,
            dice: 1,
            record_bytes_max: record_bytes_max(common.segment_bytes),
            number,
            queues: Default::default(),
            changing: None,
            ghost,
            balance: Balance::new(),
            large_values: Table::default(),
            overdrawn: 0,
            departing: Vec::new(),
            stats: StoreStats::default(),
            common,
        }
    }

    #[inline]
    pub(super) fn read<R>(
        &mut self,
        key: Hashed<'_>,
        now: Tick,
        access: Access,
        look: impl FnOnce(Lookup<'_>) -> R,
    ) -> R {
        // The use is noted first, and `look` sees the header that the item had before. So there is little to keep
        // meanwhile and only one call of `look`; with two the compiler would not inline it.
        look(match self.find(key, now) {
            Search::Live(found) => {
                if access == Access::Use {
                    self.note_use(found, now);
                    if !found.header.marks().has(Marks::FETCHED) {
                        header::add_marks(self.arena.record_mut(found.at), Marks::FETCHED);
                    }
                }
                Lookup::Hit(self.item(found.at, found.header, now))
            }
            Search::Expired => Lookup::Expired,
            Search::Nothing => Lookup::Miss,
        })
    }

    #[inline]
    pub(super) fn update<'c, R>(
        &mut self,
        key: Hashed<'_>,
        now: Tick,
        decide: impl FnOnce(Lookup<'_>) -> (Change<'c>, R),
    ) -> (R, Result<u64, NoMemory>) {
        let found = self.find(key, now);
        let (change, result) = decide(match found {
            Search::Live(found) => Lookup::Hit(self.item(found.at, found.header, now)),
            Search::Expired => Lookup::Expired,
            Search::Nothing => Lookup::Miss,
        });
        let found = if let Search::Live(found) = found { Some(found) } else { None };
        let outcome = match (change, found) {
            (Change::Put(draft), _) => self.put(key, found, &draft, Access::Use, now),
            (Change::Amend(draft), _) => self.put(key, found, &draft, Access::Peek, now),
            (Change::Keep, Some(found)) => {
                self.note_use(found, now);
                Ok(found.header.cas(self.arena.record(found.at)))
            }
            (Change::Remove, Some(found)) => {
                let value = self.remove(key.hash, found);
                self.departing.extend(value);
                Ok(0)
            }
            (Change::Keep | Change::Remove, None) => Ok(0),
        };
        (result, outcome)
    }

    /// How many bytes the last operation charged above the limit. The next call returns 0.
    #[inline(always)]
    pub(super) fn take_overdrawn(&mut self) -> u64 {
        std::mem::take(&mut self.overdrawn)
    }

    /// The large values that the last operations removed, for the caller to drop once the shard is unlocked. `None`,
    /// most of the time, when there are none.
    #[inline(always)]
    pub(super) fn take_departing(&mut self) -> Option<Vec<Departing>> {
        (!self.departing.is_empty()).then(|| std::mem::take(&mut self.departing))
    }

    #[inline(always)]
    fn find(&mut self, key: Hashed<'_>, now: Tick) -> Search {
        let guessed = self.index.guessed(key).and_then(|(slot, position)| {
            let (at, header) = self.matching_record(position, key.key)?;
            Some((slot, at, header))
        });
        // Field by field: a `LiveItem` that `search` returns comes through memory, and a right guess stays in
        // registers.
        let (slot, at, header) = match guessed {
            Some(guessed) => guessed,
            None => match self.search(key.hash, key.key) {
                Some(LiveItem { slot, at, header }) => (slot, at, header),
                None => return Search::Nothing,
            },
        };
        let found = LiveItem { slot, at, header };
        if self.is_flushed(at, header) {
            self.remove_flushed(key.hash, found);
            return Search::Nothing;
        }
        if header.has(bits::DEADLINE) && header.deadline(self.arena.record(at)).has_passed(now) {
            self.remove_expired(key.hash, found);
            return Search::Expired;
        }
        Search::Live(found)
    }

    /// The item of `key`, looked for in the whole chain of its hash.
    #[inline(never)]
    fn search(&self, hash: u64, key: &[u8]) -> Option<LiveItem> {
        let (slot, (at, header)) = self.index.find(hash, |position| self.matching_record(position, key))?;
        Some(LiveItem { slot, at, header })
    }

    /// Where the record at `position` starts, in bytes, and its header, if that record has `key`.
    #[inline(always)]
    fn matching_record(&self, position: u32, key: &[u8]) -> Option<(usize, Header)> {
        let at = position as usize * UNIT_BYTES;
        let record = self.arena.record(at);
        let header = Header::read(record);
        let matches = header.key_len() == key.len() && record[header.key_start()..][..key.len()] == *key;
        matches.then_some((at, header))
    }

    /// The item at `at`, as a reader sees it.
    #[inline(always)]
    fn item(&self, at: usize, header: Header, now: Tick) -> Item<'_> {
        let record = self.arena.record(at);
        let inline = &record[header.value_start()..][..header.value_len()];
        let shared =
            header.has(bits::LARGE).then(|| self.large_values.value(large_values::number_in(inline)));
        Item {
            value: shared.map_or(inline, |value| value),
            shared,
            flags: header.flags(record),
            cas: header.cas(record),
            deadline: header.deadline(record),
            last_access: header.last_access(now),
            marks: header.marks(),
        }
    }

    #[inline(always)]
    fn note_use(&mut self, LiveItem { slot, at, header }: LiveItem, now: Tick) {
        if header.access_differs(now) {
            header::set_access(self.arena.record_mut(at), now);
        }
        let frequency = self.index.frequency(slot);
        if frequency < FREQUENCY_MAX {
            // A linear congruential generator (the one in Numerical Recipes); `raised` uses its high bits.
            self.dice = self.dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let mean_bytes = self.item_bytes as f32 / self.index.items() as f32;
            let raised = raised(frequency, self.footprint(at, header), mean_bytes, self.dice);
            if raised != frequency {
                self.index.set_frequency(slot, raised);
            }
        }
    }

    /// Removes the live item `found`. The caller drops the returned value, if it had a large one.
    fn remove(&mut self, hash: u64, found: LiveItem) -> Option<Departing> {
        let discarded = self.index.remove(hash, found.slot);
        self.common.budget.refund(discarded);
        let number = self.large_number(found);
        self.item_bytes -= self.footprint(found.at, found.header);
        self.mark_dead(found.at, found.header);
        number.map(|number| self.unlink_large(number))
    }

    /// Marks the record at `at` as dead, and frees its segment if that was the last live item in it.
    fn mark_dead(&mut self, at: usize, header: Header) {
        let large_bytes = self.large_bytes(at, header);
        let id = self.arena.segment_of(at);
        self.change_large_bytes(id, large_bytes, 0);
        if self.arena.mark_dead(at, header.record_bytes()) {
            self.free_segment(id);
        }
    }

    /// Takes segment `id`, which holds no live item, out of its queue and frees it.
    fn free_segment(&mut self, id: SegmentId) {
        let queue = &mut self.queues[self.arena.segment(id).queue.number()];
        let nth = queue.segments.iter().position(|&each| each == id).expect("segments in use are in a queue");
        queue.segments.remove(nth);
        queue.bytes -= self.arena.segment_bytes() as u64;
        if queue.open == Some(id) {
            queue.open = None;
        }
        self.arena.free(id);
    }

    /// The item at `at` takes so many bytes in all, its slot in the index apart.
    #[inline]
    fn footprint(&self, at: usize, header: Header) -> u64 {
        header.record_bytes() as u64 + self.large_bytes(at, header)
    }

    /// `found` with its header read anew, after its record was rewritten.
    fn reread(&self, found: LiveItem) -> LiveItem {
        LiveItem { header: Header::read(self.arena.record(found.at)), ..found }
    }

    /// The item that is being changed, wherever reclaiming has moved it.
    fn find_changing(&self, hash: u64) -> Option<LiveItem> {
        let position = self.changing?;
        let slot = self.index.slot_of(hash, position)?;
        let at = position as usize * UNIT_BYTES;
        Some(LiveItem { slot, at, header: Header::read(self.arena.record(at)) })
    }

    /// The live item at `at`, with its hash and its slot.
    fn indexed(&self, at: usize, header: Header) -> (u64, LiveItem) {
        let hash = self.hash_at(at, header);
        let slot = self.index.slot_of(hash, position(at)).expect("live items are in the index");
        (hash, LiveItem { slot, at, header })
    }

    fn hash_at(&self, at: usize, header: Header) -> u64 {
        hash(&self.common.hasher, self.key_at(at, header))
    }

    fn key_at(&self, at: usize, header: Header) -> &[u8] {
        &self.arena.record(at)[header.key_start()..][..header.key_len()]
    }

    /// Removes all items. Their large values are left for [`Shard::take_departing`].
    pub(super) fn clear(&mut self) {
        let discarded = self.index.clear();
        self.common.budget.refund(discarded);
        self.arena.free_all();
        self.queues = Default::default();
        for value in self.large_values.clear() {
            let departing = self.disown_large(value);
            self.departing.push(departing);
        }
        self.ghost.clear();
        self.flushes = None;
        self.item_bytes = 0;
    }
}

/// The keyed hash of `key`.
#[inline]
pub(super) fn hash(hasher: &RandomState, key: &[u8]) -> u64 {
    let mut state = hasher.build_hasher();
    state.write(key); // without the length that `hash_one` adds for slices
    state.finish()
}

/// The position of the record at `at`, in the units that the index counts in.
#[inline]
fn position(at: usize) -> u32 {
    debug_assert!(at.is_multiple_of(UNIT_BYTES) && at / UNIT_BYTES <= u32::MAX as usize);
    (at / UNIT_BYTES) as u32
}

#[cfg(test)]
mod tests;
