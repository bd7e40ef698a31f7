//! The prefixes that were flushed, in one shard, until the last item they concern has been found.
//!
//! A flush concerns the items whose keys begin with its prefix and that were written before it. From the moment it
//! is taken in, nobody gets to see them: whoever comes across one removes it. That alone would leave the memory of
//! those nobody asks for, so the shard's segments are looked through, one after the other and all around; a flush
//! that was there all the way round is done. Rule: a flushed item is never moved, or it could be carried past the
//! place that is being looked at.

use std::collections::HashMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use foldhash::quality::RandomState;

use crate::store::header::{Header, is_written_by};
use crate::store::segment::SegmentId;
use crate::store::shard::{Found, Shard};
use crate::store::shards::{Store, release};

/// How many prefixes can wait at once. Beyond that the asking client is told to come back: while flushes wait,
/// each operation looks up its key once for every length of their prefixes, and each shard holds the prefixes.
pub const FLUSHES_MAX: usize = 256;

/// How many of these can be of one who has only keys that begin alike: others are to have room, too.
pub const FLUSHES_OWN_MAX: usize = 32;

/// So many flushes wait already that there is no room for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyFlushes;

/// All of a store is looked through in about so many ticks, the more the larger it is.
const TICKS: std::ops::RangeInclusive<usize> = 8..=32;
/// In one tick at least so much is looked through over all shards, in bytes, if that takes no fewer ticks: a few
/// milliseconds' work.
const TICK_BYTES_MIN: usize = 16 << 20;

/// The flushes that wait. Invariants: there is at least one; `lengths` has the length of every prefix once.
#[derive(Debug)]
pub(super) struct Flushes {
    waiting: HashMap<Box<[u8]>, Waiting, RandomState>,
    lengths: Vec<usize>,
    /// The segment that is to be looked through next.
    next: SegmentId,
}

/// One flush that waits.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    /// The number of the last write that it concerns.
    last_write: u64,
    /// The segment before which the look around ends.
    stop: SegmentId,
    /// Whether the last segment has been passed since.
    is_around: bool,
}

impl Flushes {
    fn new(hasher: RandomState) -> Flushes {
        Flushes { waiting: HashMap::with_hasher(hasher), lengths: Vec::new(), next: 0 }
    }

    /// Whether one of the flushes concerns an item with `key` and this header.
    fn concern(&self, key: &[u8], header: Header) -> bool {
        self.lengths.iter().any(|&length| {
            let waiting = key.get(..length).and_then(|prefix| self.waiting.get(prefix));
            waiting.is_some_and(|waiting| is_written_by(header, waiting.last_write))
        })
    }

    fn note_lengths(&mut self) {
        self.lengths.clear();
        self.lengths.extend(self.waiting.keys().map(|prefix| prefix.len()));
        self.lengths.sort_unstable();
        self.lengths.dedup();
    }

    /// Goes on to the next of so many segments; what is done is dropped.
    fn step(&mut self, segments: usize) {
        self.next += 1;
        if self.next as usize >= segments {
            self.next = 0;
            self.waiting.values_mut().for_each(|waiting| waiting.is_around = true);
        }
        let (next, before) = (self.next, self.waiting.len());
        self.waiting.retain(|_, waiting| !waiting.is_around || next < waiting.stop);
        if self.waiting.len() < before {
            self.note_lengths();
        }
    }
}

impl Shard {
    /// Whether a flush of `prefix` may wait, too, for one whose keys all begin with `own`.
    fn may_flush(&self, prefix: &[u8], own: &[u8]) -> bool {
        let Some(flushes) = &self.arena.flushes else { return true };
        let others = || flushes.waiting.keys().filter(|other| !other.starts_with(prefix));
        let own_max = if own.is_empty() { FLUSHES_MAX } else { FLUSHES_OWN_MAX };
        others().count() < FLUSHES_MAX && others().filter(|other| other.starts_with(own)).count() < own_max
    }

    /// Takes in that everything stored so far under a key that begins with `prefix` is gone. `last_write` is the
    /// number of the last write there was, read under the lock of this shard: later ones in it have higher numbers.
    pub(super) fn flush_prefix(&mut self, prefix: &[u8], last_write: u64) {
        if self.index.items() == 0 {
            return;
        }
        let hasher = &self.common.hasher;
        let flushes = self.arena.flushes.get_or_insert_with(|| Box::new(Flushes::new(hasher.clone())));
        // Those of longer prefixes concern nothing that this one does not.
        flushes.waiting.retain(|other, _| !other.starts_with(prefix));
        debug_assert!(flushes.waiting.len() < FLUSHES_MAX);
        let waiting = Waiting { last_write, stop: flushes.next, is_around: false };
        flushes.waiting.insert(prefix.into(), waiting);
        flushes.note_lengths();
    }

    /// How many flushes wait.
    pub(super) fn flushes_waiting(&self) -> usize {
        self.arena.flushes.as_ref().map_or(0, |flushes| flushes.waiting.len())
    }

    /// Whether the item at `at` was flushed. Cold: most of the time there are no flushes to ask.
    #[inline]
    pub(super) fn is_flushed(&self, at: usize, header: Header) -> bool {
        self.arena.flushes.is_some() && self.is_concerned(at, header)
    }

    /// Takes `found`, which was flushed, out of the shard.
    #[cold]
    pub(super) fn drop_flushed(&mut self, hash: u64, found: Found) {
        let value = self.remove(hash, found);
        self.graveyard.extend(value);
    }

    #[cold]
    fn is_concerned(&self, at: usize, header: Header) -> bool {
        let key = &self.arena.record(at)[header.key_start()..][..header.key_len()];
        self.arena.flushes.as_ref().is_some_and(|flushes| flushes.concern(key, header))
    }

    /// One slice of looking for what was flushed: a segment. `false` when there is nothing to look for.
    fn sweep_flushed(&mut self) -> bool {
        let Some(flushes) = &self.arena.flushes else { return false };
        let id = flushes.next;
        if (id as usize) < self.arena.segments() && self.arena.segment(id).is_in_use {
            self.remove_flushed(id);
        }
        let segments = self.arena.segments();
        self.arena.flushes = self.arena.flushes.take().and_then(|mut flushes| {
            flushes.step(segments);
            (!flushes.waiting.is_empty()).then_some(flushes)
        });
        true
    }

    fn remove_flushed(&mut self, id: SegmentId) {
        let (mut at, end) = (self.arena.start(id), self.arena.end(id));
        while let Some((found, header)) = self.arena.next_live(at, end) {
            at = found + header.record_bytes();
            if self.is_flushed(found, header) {
                let (hash, found) = self.indexed(found, header);
                self.drop_flushed(hash, found);
            }
        }
    }
}

impl Store {
    /// Drops everything stored so far under keys that begin with `prefix`: whoever looks from now on finds nothing
    /// of it. Its memory comes back in the background, with [`Store::tidy`].
    ///
    /// That takes as long as locking each shard twice, however much it drops.
    ///
    /// # Errors
    /// [`TooManyFlushes`], and nothing done: [`FLUSHES_MAX`] others are not through yet.
    pub fn flush_prefix(&self, prefix: &[u8]) -> Result<(), TooManyFlushes> {
        self.flush_prefix_within(b"", prefix)
    }

    /// The same for one who has only keys that begin with `own`, as `prefix` does.
    ///
    /// # Errors
    /// [`TooManyFlushes`] also where [`FLUSHES_OWN_MAX`] others of these keys are not through yet. To flush all of them is
    /// refused only where others wait for as many as there can be.
    pub fn flush_prefix_within(&self, own: &[u8], prefix: &[u8]) -> Result<(), TooManyFlushes> {
        // Held until all shards know: they must have room for the flush together.
        let _flushing = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        if !(0..self.shards.len()).all(|number| self.lock(number).may_flush(prefix, own)) {
            return Err(TooManyFlushes);
        }
        for number in 0..self.shards.len() {
            let mut shard = self.lock(number);
            let last_write = shard.common.last_write.load(Ordering::Relaxed);
            shard.flush_prefix(prefix, last_write);
        }
        Ok(())
    }

    /// Looks for what was flushed in a part of every shard, a segment at a time.
    pub(super) fn sweep_flushed(&self) {
        let slices_min = TICK_BYTES_MIN / self.common.segment_bytes / self.shards.len();
        for number in 0..self.shards.len() {
            let segments = self.lock(number).arena.segments();
            let slices = slices_min.clamp(segments / TICKS.end() + 1, segments / TICKS.start() + 1);
            for _ in 0..slices {
                let mut shard = self.lock(number);
                let goes_on = shard.sweep_flushed();
                release(shard);
                if !goes_on {
                    break;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Deadline, Tick};
    use crate::store::{Access, Cas, Change, Content, Draft, Marks, StoreConfig};

    const NOW: Tick = Tick(20);

    fn store() -> Store {
        Store::new(StoreConfig { memory_bytes: 16 << 20, evictions_enabled: true, workers: 2 })
    }

    fn put(store: &Store, key: &str, content: Content<'_>, cas: Cas) {
        let draft = Draft { content, flags: 0, deadline: Deadline::NEVER, cas, marks: Marks::default() };
        store
            .update(store.hash(key.as_bytes()), key.as_bytes(), NOW, |_| (Change::Put(draft), ()))
            .1
            .unwrap();
    }

    fn set(store: &Store, key: &str) {
        put(store, key, Content::Whole(b"value"), Cas::Next);
    }

    fn is_there(store: &Store, key: &str) -> bool {
        let hash = store.hash(key.as_bytes());
        store.read(hash, key.as_bytes(), NOW, Access::Peek, |found| found.item().is_some())
    }

    fn sweep_through(store: &Store) -> usize {
        (1..1000)
            .find(|_| {
                store.tidy(NOW);
                store.stats().flushes_waiting == 0
            })
            .expect("a flush is through some time")
    }

    #[test]
    fn what_was_written_before_is_gone_and_what_comes_after_stays() {
        let store = store();
        for key in ["a", "a:", "a:1", "a:2", "b:1", "ab:1"] {
            set(&store, key);
        }
        store.flush_prefix(b"a:").unwrap();
        assert_eq!(store.stats().items, 6, "nobody has looked yet");
        set(&store, "a:2");
        let there = ["a", "a:", "a:1", "a:2", "b:1", "ab:1"].map(|key| is_there(&store, key));
        assert_eq!(there, [true, false, false, true, true, true]);
        sweep_through(&store);
        assert!(is_there(&store, "a:2"));
        assert_eq!(store.stats().items, 4);
        store.validate();
    }

    #[test]
    fn a_cas_id_given_by_a_client_says_nothing_about_when() {
        let store = store();
        for (number, cas) in [1, 2, 1000, 1 << 40, 1 << 47, 1 << 60, u64::MAX].into_iter().enumerate() {
            put(&store, &format!("old:{number}"), Content::Whole(b"value"), Cas::Exact(cas));
            // Touched, and so written anew: but not a write, for its value is from before.
            put(&store, &format!("old:{number}"), Content::Same, Cas::Same);
            store.flush_prefix(b"old:").unwrap();
            store.flush_prefix(b"new:").unwrap();
            put(&store, &format!("new:{number}"), Content::Whole(b"value"), Cas::Exact(cas));
            put(&store, &format!("new:{number}"), Content::Same, Cas::Same);
            assert!(!is_there(&store, &format!("old:{number}")));
            assert!(is_there(&store, &format!("new:{number}")));
        }
    }

    #[test]
    fn one_more_than_may_wait_is_refused_by_all_shards() {
        let store = store();
        set(&store, "a shard with something in it");
        for number in 0..FLUSHES_MAX {
            store.flush_prefix(format!("{number:04}").as_bytes()).unwrap();
        }
        assert_eq!(store.stats().flushes_waiting, FLUSHES_MAX as u64);
        (0..100).for_each(|number| set(&store, &format!("9999{number}")));
        assert_eq!(store.flush_prefix(b"9999"), Err(TooManyFlushes));
        assert!((0..100).all(|number| is_there(&store, &format!("9999{number}"))));
        store.flush_prefix(b"0007").expect("it waits already");
        sweep_through(&store);
        store.flush_prefix(b"9999").unwrap();
        assert!(!(0..100).any(|number| is_there(&store, &format!("9999{number}"))));
    }

    #[test]
    fn one_who_flushes_much_leaves_room_for_others() {
        let store = store();
        set(&store, "a shard with something in it");
        for number in 0..FLUSHES_OWN_MAX {
            store.flush_prefix_within(b"a:", format!("a:{number}").as_bytes()).unwrap();
        }
        assert_eq!(store.flush_prefix_within(b"a:", b"a:more"), Err(TooManyFlushes));
        store.flush_prefix_within(b"a:", b"a:7").expect("it waits already");
        store.flush_prefix_within(b"b:", b"b:1").expect("others have room");
        assert_eq!(store.stats().flushes_waiting, FLUSHES_OWN_MAX as u64 + 1);
        store.flush_prefix_within(b"a:", b"a:").expect("it takes the place of all it covers");
        assert_eq!(store.stats().flushes_waiting, 2);
    }

    #[test]
    fn a_flush_takes_the_place_of_those_it_covers() {
        let store = store();
        (0..100).for_each(|number| set(&store, &format!("a:{number}")));
        store.flush_prefix(b"a:1").unwrap();
        set(&store, "a:1");
        store.flush_prefix(b"a:").unwrap();
        set(&store, "a:2");
        assert!((3..100).all(|number| !is_there(&store, &format!("a:{number}"))));
        assert_eq!([is_there(&store, "a:1"), is_there(&store, "a:2")], [false, true]);
        sweep_through(&store);
        assert_eq!(store.stats().items, 1);
        store.validate();
    }

    #[test]
    fn memory_comes_back_within_some_seconds() {
        let store = store();
        (0..20_000).for_each(|number| set(&store, &format!("a:{number}")));
        (0..1000).for_each(|number| set(&store, &format!("b:{number}")));
        let before = store.stats().bytes;
        store.flush_prefix(b"a:").unwrap();
        assert!(sweep_through(&store) <= 2 * TICKS.start(), "it is small");
        assert_eq!(store.stats().items, 1000);
        assert!(store.stats().bytes < before / 10);
        store.flush_prefix(b"b").unwrap();
        store.flush();
        assert_eq!(store.stats().flushes_waiting, 0, "nothing is left that it could concern");
        store.validate();
    }
}
