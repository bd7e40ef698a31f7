//! One shard: a plain single-threaded map with a use-ordered list, bounded in bytes.

use std::collections::HashMap;

use super::StoreStats;
use super::item::{Access, Cas, Change, Content, Draft, Item, Lookup, Marks, NoMemory};
use crate::clock::{Deadline, TICKS_PER_SECOND, Tick};

/// What an item takes beyond its key and value: the entry, its place in the map and the allocator's rounding.
const OVERHEAD_BYTES: u64 = 160;

/// How many entries one call of `sweep` looks at.
const SWEEP_ENTRIES_MAX: usize = 1024;

/// An item read within this many seconds before its eviction counts as active.
const ACTIVE_SECONDS: u32 = 60;

/// The end of the list.
const NONE: usize = usize::MAX;

#[derive(Debug)]
struct Entry {
    key: Box<[u8]>,
    value: Vec<u8>,
    flags: u32,
    cas: u64,
    deadline: Deadline,
    last_access: Tick,
    marks: Marks,
    newer: usize,
    older: usize,
}

/// One shard. Invariants, checked by `validate`:
/// - `places` names every used entry exactly once, and the list from `newest` to `oldest` visits the same;
/// - `bytes` is the sum of their footprints and at most `bytes_max` between calls.
#[derive(Debug)]
pub(super) struct Shard {
    places: HashMap<Box<[u8]>, usize>,
    entries: Vec<Option<Entry>>,
    free: Vec<usize>,
    newest: usize,
    oldest: usize,
    bytes: u64,
    bytes_max: u64,
    evictions_enabled: bool,
    next_cas: u64,
    sweep_at: usize,
    stats: StoreStats,
}

/// What a key and a value of these lengths take as an item.
pub(super) fn footprint(key_bytes: usize, value_bytes: usize) -> u64 {
    (key_bytes * 2 + value_bytes) as u64 + OVERHEAD_BYTES
}

impl Shard {
    pub(super) fn new(bytes_max: u64, evictions_enabled: bool) -> Shard {
        Shard {
            places: HashMap::new(),
            entries: Vec::new(),
            free: Vec::new(),
            newest: NONE,
            oldest: NONE,
            bytes: 0,
            bytes_max,
            evictions_enabled,
            next_cas: 0,
            sweep_at: 0,
            stats: StoreStats::default(),
        }
    }

    pub(super) fn read<R>(
        &mut self,
        key: &[u8],
        now: Tick,
        access: Access,
        look: impl FnOnce(Lookup<'_>) -> R,
    ) -> R {
        let place = match self.find(key, now) {
            Found::Live(place) => place,
            Found::Dead => return look(Lookup::Expired),
            Found::Nothing => return look(Lookup::Miss),
        };
        let result = look(Lookup::Hit(self.entry(place).as_item()));
        if access == Access::Use {
            self.used(place, now);
            let entry = self.entry_mut(place);
            entry.marks = entry.marks.with(Marks::FETCHED);
        }
        result
    }

    pub(super) fn update<'c, R>(
        &mut self,
        key: &[u8],
        now: Tick,
        decide: impl FnOnce(Lookup<'_>) -> (Change<'c>, R),
    ) -> (R, Result<u64, NoMemory>) {
        let found = self.find(key, now);
        let (change, result) = decide(match &found {
            Found::Live(place) => Lookup::Hit(self.entry(*place).as_item()),
            Found::Dead => Lookup::Expired,
            Found::Nothing => Lookup::Miss,
        });
        let place = if let Found::Live(place) = found { Some(place) } else { None };
        let outcome = match (change, place) {
            (Change::Put(draft), _) => self.put(key, place, draft, now),
            (Change::Keep, Some(place)) => {
                self.used(place, now);
                Ok(self.entry(place).cas)
            }
            (Change::Remove, Some(place)) => {
                self.remove(place);
                Ok(0)
            }
            (Change::Keep | Change::Remove, None) => Ok(0),
        };
        (result, outcome)
    }

    fn put(
        &mut self,
        key: &[u8],
        place: Option<usize>,
        draft: Draft<'_>,
        now: Tick,
    ) -> Result<u64, NoMemory> {
        let old_bytes = place.map_or(0, |place| self.entry(place).value.len());
        let value_bytes = match draft.content {
            Content::Same => old_bytes,
            Content::Whole(value) => value.len(),
            Content::Append(more) | Content::Prepend(more) => old_bytes + more.len(),
        };
        let new = footprint(key.len(), value_bytes);
        let old = place.map_or(0, |_| footprint(key.len(), old_bytes));
        if new > self.bytes_max {
            return Err(NoMemory);
        }
        if let Some(place) = place {
            self.used(place, now); // to the safe end of the list before room is made
        }
        self.make_room(new.saturating_sub(old), place)?;
        let place = place.unwrap_or_else(|| self.insert(key));
        let cas = match draft.cas {
            Cas::Same => self.entry(place).cas,
            Cas::Next | Cas::Exact(0) => {
                self.next_cas += 1;
                self.next_cas
            }
            Cas::Exact(id) => id,
        };
        let entry = self.entry_mut(place);
        match draft.content {
            Content::Same => {}
            Content::Whole(value) => entry.value = value.to_vec(),
            Content::Append(more) => entry.value.extend_from_slice(more),
            Content::Prepend(more) => entry.value = [more, &entry.value].concat(),
        }
        entry.flags = draft.flags;
        entry.cas = cas;
        entry.deadline = draft.deadline;
        entry.last_access = now;
        entry.marks = draft.marks;
        self.bytes = self.bytes + new - old;
        if !matches!(draft.content, Content::Same) {
            self.stats.total_items += 1;
        }
        Ok(cas)
    }

    pub(super) fn clear(&mut self) {
        let next_cas = self.next_cas;
        let stats = self.stats;
        *self = Shard::new(self.bytes_max, self.evictions_enabled);
        self.next_cas = next_cas;
        self.stats = stats;
    }

    pub(super) fn set_limit(&mut self, bytes_max: u64) {
        self.bytes_max = bytes_max;
        while self.bytes > self.bytes_max && self.oldest != NONE {
            self.evict(self.oldest, Tick(0));
        }
    }

    pub(super) fn sweep(&mut self, now: Tick) {
        for _ in 0..SWEEP_ENTRIES_MAX.min(self.entries.len()) {
            self.sweep_at = (self.sweep_at + 1) % self.entries.len();
            let Some(entry) = &self.entries[self.sweep_at] else { continue };
            self.stats.sweep_checked += 1;
            if entry.deadline.has_passed(now) {
                self.stats.swept += 1;
                self.expire(self.sweep_at);
            }
        }
    }

    pub(super) fn add_stats(&self, total: &mut StoreStats) {
        total.items += self.places.len() as u64;
        total.bytes += self.bytes;
        total.total_items += self.stats.total_items;
        total.evictions += self.stats.evictions;
        total.evicted_unfetched += self.stats.evicted_unfetched;
        total.evicted_active += self.stats.evicted_active;
        total.expired_unfetched += self.stats.expired_unfetched;
        total.reclaimed += self.stats.reclaimed;
        total.swept += self.stats.swept;
        total.sweep_checked += self.stats.sweep_checked;
        total.index_bytes += (self.places.capacity() * 24) as u64;
        total.index_power = total.index_bytes.max(16).ilog2().into();
    }

    pub(super) fn reset_stats(&mut self) {
        self.stats = StoreStats::default();
    }

    pub(super) fn validate(&self) {
        let mut bytes = 0;
        let mut listed = 0;
        let mut place = self.newest;
        while place != NONE {
            let entry = self.entry(place);
            assert_eq!(self.places.get(&entry.key), Some(&place), "a listed entry is in the map");
            bytes += footprint(entry.key.len(), entry.value.len());
            listed += 1;
            place = entry.older;
        }
        assert_eq!(listed, self.places.len(), "every mapped entry is listed");
        assert_eq!(bytes, self.bytes, "bytes are the sum of the footprints");
        assert!(self.bytes <= self.bytes_max, "the limit holds");
    }

    fn find(&mut self, key: &[u8], now: Tick) -> Found {
        let Some(&place) = self.places.get(key) else { return Found::Nothing };
        if self.entry(place).deadline.has_passed(now) {
            self.expire(place);
            return Found::Dead;
        }
        Found::Live(place)
    }

    fn make_room(&mut self, bytes: u64, keep: Option<usize>) -> Result<(), NoMemory> {
        while self.bytes + bytes > self.bytes_max {
            if !self.evictions_enabled || self.oldest == NONE || Some(self.oldest) == keep {
                return Err(NoMemory);
            }
            self.evict(self.oldest, Tick(0));
        }
        Ok(())
    }

    fn evict(&mut self, place: usize, now: Tick) {
        let entry = self.entry(place);
        let fetched = entry.marks.has(Marks::FETCHED);
        let last_access = entry.last_access;
        self.stats.evictions += 1;
        self.stats.evicted_unfetched += u64::from(!fetched);
        self.stats.evicted_active +=
            u64::from(fetched && now.0 < last_access.0 + ACTIVE_SECONDS * TICKS_PER_SECOND);
        self.remove(place);
    }

    fn expire(&mut self, place: usize) {
        self.stats.expired_unfetched += u64::from(!self.entry(place).marks.has(Marks::FETCHED));
        self.stats.reclaimed += 1;
        self.remove(place);
    }

    fn insert(&mut self, key: &[u8]) -> usize {
        let place = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            self.entries.len() - 1
        });
        self.entries[place] = Some(Entry {
            key: key.into(),
            value: Vec::new(),
            flags: 0,
            cas: 0,
            deadline: Deadline::NEVER,
            last_access: Tick(0),
            marks: Marks::default(),
            newer: NONE,
            older: NONE,
        });
        self.places.insert(key.into(), place);
        self.link_newest(place);
        place
    }

    fn remove(&mut self, place: usize) {
        self.unlink(place);
        let entry = self.entries[place].take().expect("only used places are removed");
        self.places.remove(&entry.key);
        self.bytes -= footprint(entry.key.len(), entry.value.len());
        self.free.push(place);
    }

    fn used(&mut self, place: usize, now: Tick) {
        self.entry_mut(place).last_access = now;
        if self.newest != place {
            self.unlink(place);
            self.link_newest(place);
        }
    }

    fn link_newest(&mut self, place: usize) {
        let second = std::mem::replace(&mut self.newest, place);
        let entry = self.entry_mut(place);
        entry.newer = NONE;
        entry.older = second;
        if second == NONE {
            self.oldest = place;
        } else {
            self.entry_mut(second).newer = place;
        }
    }

    fn unlink(&mut self, place: usize) {
        let Entry { newer, older, .. } = *self.entry(place);
        if newer == NONE {
            self.newest = older;
        } else {
            self.entry_mut(newer).older = older;
        }
        if older == NONE {
            self.oldest = newer;
        } else {
            self.entry_mut(older).newer = newer;
        }
    }

    fn entry(&self, place: usize) -> &Entry {
        self.entries[place].as_ref().expect("places name used entries")
    }

    fn entry_mut(&mut self, place: usize) -> &mut Entry {
        self.entries[place].as_mut().expect("places name used entries")
    }
}

enum Found {
    Live(usize),
    Dead,
    Nothing,
}

impl Entry {
    fn as_item(&self) -> Item<'_> {
        Item {
            value: &self.value,
            shared: None,
            flags: self.flags,
            cas: self.cas,
            deadline: self.deadline,
            last_access: self.last_access,
            marks: self.marks,
        }
    }
}
