//! One shard: a plain single-threaded map, bounded in bytes. Here is what happens to one item; `room` has what
//! happens to many.

mod put;
mod reclaim;

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use foldhash::quality::RandomState;

use crate::clock::Tick;
use crate::store::budget::Budget;
use crate::store::evicted_keys::Evictions;
use crate::store::header::{self, Header, INLINE_BYTES_MAX, UNIT_BYTES, bits};
use crate::store::hint::{Hashed, View};
use crate::store::index::{Index, Place};
use crate::store::item::{Access, Change, Item, Lookup, Marks, NoMemory};
use crate::store::large::{self, Departing, Large, Pool, Table};
use crate::store::memory::{PAGE_BYTES, Stripes};
use crate::store::policy::{Balance, Ghost, raised};
use crate::store::segment::{Arena, Queue, SegmentId};
use crate::store::shards::StoreStats;
use crate::store::slot::FREQUENCY_MAX;

/// Records longer than a segment's bytes divided by this have their values in pages of their own.
const LARGE_SHARE: usize = 8;

/// What all shards of a store have in common.
#[derive(Clone, Debug)]
pub(super) struct Common {
    pub(super) budget: Arc<Budget>,
    pub(super) pool: Arc<Pool>,
    pub(super) hasher: RandomState,
    /// How many writes there were, which is also the last CAS id given out. One counter, so ids rise over the
    /// whole store. Relaxed: within a shard its lock orders them, and nothing else is ordered by them.
    pub(super) last_write: Arc<AtomicU64>,
    pub(super) evictions_enabled: bool,
    /// What was evicted, while somebody wants to know.
    pub(super) evictions: Arc<Evictions>,
    pub(super) segment_bytes: usize,
}

/// The segments of a queue, in the order they were begun.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) segments: VecDeque<SegmentId>,
    /// The one that is written to.
    pub(super) open: Option<SegmentId>,
    /// Bytes of its segments and of the large values in them.
    pub(super) weight: u64,
}

/// One shard. Invariants, checked by `validate`:
/// - every live item is in the index exactly once, and in exactly one segment;
/// - every segment in use is in the line of its queue, exactly once, and holds a live item;
/// - `item_bytes` is the sum of the footprints of live items;
/// - what the budget says the shard holds is its segments, free ones included, and its large values.
///
/// In order, so that what every look-up reads is in three cache lines: a store of a gigabyte has 256 shards, and there
/// are not many lines in the nearest cache.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Shard {
    /// Bytes charged above the limit by the operation that is going on, or by the last one.
    pub(super) overdrawn: u64,
    pub(super) item_bytes: u64,
    /// Large values of items that are gone, to be let go of outside the lock.
    pub(super) graveyard: Vec<Departing>,
    dice: u32,
    pub(super) index: Index,
    pub(super) arena: Arena,
    pub(super) common: Common,
    pub(super) large_min: usize,
    pub(super) number: usize,
    pub(super) lines: [Line; 2],
    /// The position of the item that is being changed, which may move but must stay.
    pub(super) pinned: Option<u32>,
    pub(super) ghost: Ghost,
    pub(super) balance: Balance,
    pub(super) large: Table,
    pub(super) stats: StoreStats,
}

/// A live item and where it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) place: Place,
    pub(super) at: usize,
    pub(super) header: Header,
}

enum Search {
    Live(Found),
    Dead,
    Nothing,
}

impl Shard {
    /// An empty shard, that of view `number`, in the address space given.
    pub(super) fn new(
        common: Common,
        views: Arc<[View]>,
        number: usize,
        arena: Stripes,
        ghost: Ghost,
    ) -> Shard {
        common.budget.take(ghost.bytes() + PAGE_BYTES as u64);
        Shard {
            index: Index::new(views, number),
            arena: Arena::new(arena),
            item_bytes: 0,
            dice: 1,
            large_min: (common.segment_bytes / LARGE_SHARE).min(INLINE_BYTES_MAX),
            number,
            lines: Default::default(),
            pinned: None,
            ghost,
            balance: Balance::new(),
            large: Table::default(),
            overdrawn: 0,
            graveyard: Vec::new(),
            stats: StoreStats::default(),
            common,
        }
    }

    #[inline]
    pub(super) fn read<R>(
        &mut self,
        hashed: Hashed,
        key: &[u8],
        now: Tick,
        access: Access,
        look: impl FnOnce(Lookup<'_>) -> R,
    ) -> R {
        // Noted before the item is looked at, which is shown with the header that it had until then: so little has to
        // be kept meanwhile, and there is one call of `look`, or the compiler would not put it here.
        look(match self.find(hashed, key, now) {
            Search::Live(found) => {
                if access == Access::Use {
                    self.note_use(found, now);
                    if !found.header.marks().has(Marks::FETCHED) {
                        header::add_marks(self.arena.record_mut(found.at), Marks::FETCHED);
                    }
                }
                Lookup::Hit(self.item(found.at, found.header, now))
            }
            Search::Dead => Lookup::Expired,
            Search::Nothing => Lookup::Miss,
        })
    }

    #[inline]
    pub(super) fn update<'c, R>(
        &mut self,
        hashed: Hashed,
        key: &[u8],
        now: Tick,
        decide: impl FnOnce(Lookup<'_>) -> (Change<'c>, R),
    ) -> (R, Result<u64, NoMemory>) {
        let hash = hashed.hash;
        let found = self.find(hashed, key, now);
        let (change, result) = decide(match found {
            Search::Live(found) => Lookup::Hit(self.item(found.at, found.header, now)),
            Search::Dead => Lookup::Expired,
            Search::Nothing => Lookup::Miss,
        });
        let found = if let Search::Live(found) = found { Some(found) } else { None };
        let outcome = match (change, found) {
            (Change::Put(draft), _) => self.put(hash, key, found, &draft, Access::Use, now),
            (Change::Amend(draft), _) => self.put(hash, key, found, &draft, Access::Peek, now),
            (Change::Keep, Some(found)) => {
                self.note_use(found, now);
                Ok(found.header.cas(self.arena.record(found.at)))
            }
            (Change::Remove, Some(found)) => {
                let value = self.remove(hash, found);
                self.graveyard.extend(value);
                Ok(0)
            }
            (Change::Keep | Change::Remove, None) => Ok(0),
        };
        (result, outcome)
    }

    #[inline(always)]
    fn find(&mut self, hashed: Hashed, key: &[u8], now: Tick) -> Search {
        let guessed = self.index.guessed(hashed).and_then(|(place, position)| {
            let (at, header) = self.is_at(position, key)?;
            Some((place, at, header))
        });
        // Field by field: what the search returns is in memory, and what was guessed need not be.
        let (place, at, header) = match guessed {
            Some(guessed) => guessed,
            None => match self.search(hashed.hash, key) {
                Some(Found { place, at, header }) => (place, at, header),
                None => return Search::Nothing,
            },
        };
        let found = Found { place, at, header };
        if self.is_flushed(at, header) {
            self.drop_flushed(hashed.hash, found);
            return Search::Nothing;
        }
        if header.has(bits::DEADLINE) && header.deadline(self.arena.record(at)).has_passed(now) {
            self.expire(hashed.hash, found);
            return Search::Dead;
        }
        Search::Live(found)
    }

    /// The item of `key`, wherever in the chain of its hash.
    #[inline(never)]
    pub(super) fn search(&self, hash: u64, key: &[u8]) -> Option<Found> {
        let (place, (at, header)) = self.index.find(hash, |position| self.is_at(position, key))?;
        Some(Found { place, at, header })
    }

    /// Where the record at `position` is, and its header, if it is that of `key`.
    #[inline(always)]
    fn is_at(&self, position: u32, key: &[u8]) -> Option<(usize, Header)> {
        let at = position as usize * UNIT_BYTES;
        let record = self.arena.record(at);
        let header = Header::read(record);
        let is_it = header.key_len() == key.len() && record[header.key_start()..][..key.len()] == *key;
        is_it.then_some((at, header))
    }

    /// Takes `found`, whose deadline has passed, out of the shard.
    #[cold]
    pub(super) fn expire(&mut self, hash: u64, found: Found) {
        self.stats.expired_unfetched += u64::from(!found.header.marks().has(Marks::FETCHED));
        let value = self.remove(hash, found);
        self.graveyard.extend(value);
    }

    /// The item at `at`, as those who read it see it.
    #[inline(always)]
    pub(super) fn item(&self, at: usize, header: Header, now: Tick) -> Item<'_> {
        let record = self.arena.record(at);
        let inline = &record[header.value_start()..][..header.value_len()];
        let shared = header.has(bits::LARGE).then(|| self.large.value(large_number(inline)));
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
    pub(super) fn note_use(&mut self, Found { place, at, header }: Found, now: Tick) {
        if header.access_differs(now) {
            header::set_access(self.arena.record_mut(at), now);
        }
        let frequency = self.index.frequency(place);
        if frequency < FREQUENCY_MAX {
            // The high bits of a linear congruential generator (Knuth, MMIX's smaller cousin) will do for dice.
            self.dice = self.dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let mean_bytes = self.item_bytes as f32 / self.index.items() as f32;
            let raised = raised(frequency, self.footprint(at, header), mean_bytes, self.dice);
            if raised != frequency {
                self.index.set_frequency(place, raised);
            }
        }
    }

    /// Takes the live item `found` out of the shard. Its value, if large, is for the caller to drop.
    pub(super) fn remove(&mut self, hash: u64, found: Found) -> Option<Departing> {
        let returned = self.index.remove(hash, found.place);
        self.common.budget.give_back(returned);
        let number = self.large_number(found);
        self.item_bytes -= self.footprint(found.at, found.header);
        self.bury(found.at, found.header);
        number.map(|number| self.unlink_large(number))
    }

    /// Marks the record at `at` as dead, and frees its segment if it was the last.
    pub(super) fn bury(&mut self, at: usize, header: Header) {
        let charge = self.large_charge(at, header);
        let id = self.arena.segment_of(at);
        self.change_large(id, charge, 0);
        if self.arena.bury(at, header.record_bytes()) {
            self.release(id);
        }
    }

    /// Takes segment `id`, in which nothing lives, out of its line.
    pub(super) fn release(&mut self, id: SegmentId) {
        let queue = self.arena.segment(id).queue;
        let line = &mut self.lines[queue.number()];
        let place = line.segments.iter().position(|&each| each == id).expect("segments in use are in line");
        line.segments.remove(place);
        line.weight -= self.arena.segment_bytes() as u64;
        if line.open == Some(id) {
            line.open = None;
        }
        self.arena.free(id);
    }

    /// Takes large value `number` off the table and out of what the shard holds.
    pub(super) fn unlink_large(&mut self, number: u32) -> Departing {
        let value = self.large.remove(number);
        self.disown_large(value)
    }

    fn disown_large(&self, value: Large) -> Departing {
        let charge = large::charge(value.bytes().len());
        let departing = self.common.pool.disown(value);
        self.common.budget.let_go(self.number, charge);
        departing
    }

    /// Counts the large values of segment `id` as `new` bytes instead of `old`.
    pub(super) fn change_large(&mut self, id: SegmentId, old: u64, new: u64) {
        if old == new {
            return;
        }
        let segment = self.arena.segment_mut(id);
        segment.large_bytes = segment.large_bytes + new - old;
        let line = &mut self.lines[segment.queue.number()];
        line.weight = line.weight + new - old;
    }

    /// The number of `found`'s value, if it is large.
    #[inline(always)]
    pub(super) fn large_number(&self, found: Found) -> Option<u32> {
        found.header.has(bits::LARGE).then(|| self.number_of_large(found))
    }

    #[cold]
    fn number_of_large(&self, Found { at, header, .. }: Found) -> u32 {
        large_number(&self.arena.record(at)[header.value_start()..][..header.value_len()])
    }

    /// What the item at `at` is charged for beside its record, in bytes.
    #[inline(always)]
    pub(super) fn large_charge(&self, at: usize, header: Header) -> u64 {
        if header.has(bits::LARGE) { self.charge_of_large(at, header) } else { 0 }
    }

    #[cold]
    fn charge_of_large(&self, at: usize, header: Header) -> u64 {
        let inline = &self.arena.record(at)[header.value_start()..][..header.value_len()];
        large::charge(self.large.value(large_number(inline)).len())
    }

    /// What the item at `at` takes in all, its place in the index apart, in bytes.
    #[inline]
    pub(super) fn footprint(&self, at: usize, header: Header) -> u64 {
        header.record_bytes() as u64 + self.large_charge(at, header)
    }

    /// `found` as it is after its record was written anew.
    pub(super) fn reread(&self, found: Found) -> Found {
        Found { header: Header::read(self.arena.record(found.at)), ..found }
    }

    /// The item of `hash` that is pinned, wherever it is now.
    pub(super) fn relocate(&self, hash: u64) -> Option<Found> {
        let position = self.pinned?;
        let place = self.index.place(hash, position)?;
        let at = position as usize * UNIT_BYTES;
        Some(Found { place, at, header: Header::read(self.arena.record(at)) })
    }

    pub(super) fn hash_at(&self, at: usize, header: Header) -> u64 {
        hash(&self.common.hasher, &self.arena.record(at)[header.key_start()..][..header.key_len()])
    }

    /// Drops everything. Large values go to the graveyard.
    pub(super) fn clear(&mut self) {
        let returned = self.index.clear();
        self.common.budget.give_back(returned);
        self.arena.free_all();
        self.lines = Default::default();
        for value in self.large.clear() {
            let departing = self.disown_large(value);
            self.graveyard.push(departing);
        }
        self.ghost.clear();
        self.arena.flushes = None;
        self.item_bytes = 0;
    }

    /// So many bytes at the head of its items' memory and of its index are resident without a gap.
    pub(super) fn resident_heads(&self) -> [usize; 2] {
        [self.arena.resident_head(), self.index.resident_head()]
    }

    /// Gives what of `range`, in bytes of its items' memory or of its index, is not in use back once more.
    pub(super) fn return_again(&mut self, [items, index]: [Option<Range<usize>>; 2]) {
        if let Some(range) = items {
            self.arena.return_again(range);
        }
        if let Some(range) = index {
            self.index.return_again(range);
        }
    }

    pub(super) fn add_stats(&self, total: &mut StoreStats) {
        total.items += self.index.items() as u64;
        total.bytes += self.item_bytes;
        total.total_items += self.stats.total_items;
        total.evictions += self.stats.evictions;
        total.evicted_unfetched += self.stats.evicted_unfetched;
        total.evicted_active += self.stats.evicted_active;
        total.evicted_nonzero += self.stats.evicted_nonzero;
        total.evicted_idle_seconds = total.evicted_idle_seconds.max(self.stats.evicted_idle_seconds);
        total.held_bytes += self.common.budget.holding(self.number);
        total.expired_unfetched += self.stats.expired_unfetched;
        total.reclaimed += self.stats.reclaimed;
        total.swept += self.stats.swept;
        total.sweep_checked += self.stats.sweep_checked;
        total.flushes_waiting = total.flushes_waiting.max(self.flushes_waiting() as u64);
        total.index_bytes += self.index.bytes();
        total.index_power += self.index.places() as u64; // the shell takes the logarithm of the sum
    }

    /// Recounts everything. Returns what the shard is charged for beside large values, in bytes.
    pub(super) fn validate(&self) -> u64 {
        let (mut items, mut item_bytes, mut large) = (0, 0, 0);
        let mut large_bytes = std::collections::HashMap::<SegmentId, u64>::new();
        self.arena.validate(|id, at, header| {
            let hash = self.hash_at(at, header);
            assert!(self.index.place(hash, position(at)).is_some(), "every live item is in the index");
            items += 1;
            item_bytes += self.footprint(at, header);
            large += usize::from(header.has(bits::LARGE));
            *large_bytes.entry(id).or_default() += self.large_charge(at, header);
        });
        assert_eq!(items, self.index.items(), "everything in the index is a live item");
        assert_eq!(item_bytes, self.item_bytes, "item bytes are the sum of the footprints");
        assert_eq!(large, self.large.len(), "every large value is an item's");
        self.index.validate(|position| {
            let at = position as usize * UNIT_BYTES;
            self.hash_at(at, Header::read(self.arena.record(at)))
        });
        let segment_bytes = self.arena.segment_bytes() as u64;
        let mut held = self.arena.free_segments() as u64 * segment_bytes;
        let mut charged = held + self.index.bytes() + self.ghost.bytes();
        for queue in Queue::BOTH {
            let line = &self.lines[queue.number()];
            let mut weight = 0;
            charged += line.segments.len() as u64 * segment_bytes;
            for &id in &line.segments {
                let segment = self.arena.segment(id);
                assert!(segment.is_in_use && segment.queue == queue, "a line has segments of its queue");
                assert_eq!(segment.large_bytes, large_bytes.get(&id).copied().unwrap_or(0));
                weight += segment_bytes + segment.large_bytes;
            }
            assert_eq!(weight, line.weight, "a line's weight is that of its segments");
            assert!(line.open.is_none_or(|id| line.segments.contains(&id)), "an open segment is in line");
            held += weight;
        }
        assert_eq!(held, self.common.budget.holding(self.number), "the budget knows what the shard holds");
        charged
    }
}

/// The keyed hash of `key`.
#[inline]
pub(super) fn hash(hasher: &RandomState, key: &[u8]) -> u64 {
    let mut state = hasher.build_hasher();
    state.write(key); // without the length that `hash_one` adds for slices
    state.finish()
}

/// The position, as the index has it, of the record at `at`.
#[inline]
pub(super) fn position(at: usize) -> u32 {
    debug_assert!(at.is_multiple_of(UNIT_BYTES) && at / UNIT_BYTES <= u32::MAX as usize);
    (at / UNIT_BYTES) as u32
}

#[inline]
fn large_number(inline: &[u8]) -> u32 {
    u32::from_le_bytes(inline.try_into().expect("a large value's place holds its number"))
}

#[cfg(test)]
mod tests;
