//! Where each item lies: a hash table whose buckets are one cache line, growing one bucket at a time.
//!
//! A bucket is eight words: seven slots and the number of an overflow bucket, if it has one. A slot holds a
//! position (32 bits, in the caller's units), a tag (28 bits of the hash and one that is always set, so that an
//! empty slot, 0, matches nothing) and three bits of use frequency. A lookup touches one line of the index,
//! in one case of eight a second one.
//!
//! It grows as linear hashing does (Litwin 1980): the bucket after the last takes over, from the one bucket that
//! is due, what its next hash bit sends there. Tags hold that bit, so neither growing nor shrinking looks at an
//! item. Tables are laid out in address space reserved for the largest, so nothing ever moves.
//!
//! Rule: pages are charged to the budget by the caller, who asks what is needed before an insertion.

mod validate;
mod walk;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::store::hint::{Hashed, View};
use crate::store::memory::{LINE_WORDS, PAGE_BYTES, PAGE_LINES, WORDS_STRIPE_BYTES, Words};
use crate::store::slot::{
    BUCKETS_MAX, FREQUENCY_MAX, LINK, SLOTS, TAG_HASH_SHIFT, bucket_of, overflow_bucket, overflow_start,
    position_of, slot, tag, tag_of,
};

/// Grown when there are more items per bucket. Measured over a cycle of growth: 13.8 bytes per item and 1.13
/// lines per hit; at 5 items per bucket 15.0 and 1.07, at 6.3 items 13.4 and 1.15.
const GROW_ITEMS: usize = 6;
/// Shrunk when there are fewer items per bucket, far enough below for items that come and go.
const SHRINK_ITEMS: usize = 3;
/// Pages of the table that may stay unused before they go back.
const SPARE_PAGES_MAX: usize = 8;

/// A place in the index. It is good until the next insertion or removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(usize);

/// One shard's index. Invariants, checked by `validate`:
/// - every item is in the chain of the bucket its hash names, exactly once;
/// - an overflow bucket is in exactly one chain or on the list of free ones, and only the last of a chain may
///   have empty slots once a removal has closed the gaps behind it, except in the first bucket;
/// - buckets and overflow buckets lie in the pages that were added, and what lies beyond them is 0.
///
/// In order: what every look-up reads is at the end, see [`Shard`](crate::store::shard::Shard).
#[derive(Debug)]
#[repr(C)]
pub(super) struct Index {
    /// The views of all shards, and which one is this one's.
    views: Arc<[View]>,
    number: usize,
    buckets: usize,
    /// Pages of the table that are charged.
    pages: usize,
    /// Where overflow buckets start, in buckets.
    overflow_start: usize,
    overflow_pages: usize,
    /// Overflow buckets ever used since the last clear; the rest of the pages is untouched.
    overflow_made: usize,
    overflow_in_use: usize,
    /// The first free overflow bucket's number plus one, or 0; linked through their link words.
    overflow_free: usize,
    scratch: Vec<u64>,
    items: usize,
    words: Words,
}

/// Where what every look-up reads of an index is, in bytes from its start.
#[cfg(test)]
pub(super) const INDEX_HOT: Range<usize> = std::mem::offset_of!(Index, items)..size_of::<Index>();

impl Index {
    /// An empty index in the words of view `number`, one page of which is charged already.
    pub(super) fn new(views: Arc<[View]>, number: usize) -> Index {
        let words = views[number].index().clone();
        let overflow_start = overflow_start(&words);
        debug_assert!(overflow_start >= PAGE_LINES, "there is room for the smallest table");
        Index {
            words,
            views,
            number,
            buckets: PAGE_LINES,
            items: 0,
            pages: 1,
            overflow_start,
            overflow_pages: 0,
            overflow_made: 0,
            overflow_in_use: 0,
            overflow_free: 0,
            scratch: Vec::new(),
        }
    }

    pub(super) fn items(&self) -> usize {
        self.items
    }

    /// What is charged for it, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        ((self.pages + self.overflow_pages) * PAGE_BYTES) as u64
    }

    /// So many bytes at the head of its words, whole stripes, are in use without a gap.
    pub(super) fn resident_head(&self) -> usize {
        self.pages * PAGE_BYTES / WORDS_STRIPE_BYTES * WORDS_STRIPE_BYTES
    }

    /// Gives the pages in `range`, in bytes, that are not in use back once more.
    pub(super) fn return_again(&mut self, range: Range<usize>) {
        let (start, end) = (self.pages.max(range.start / PAGE_BYTES), range.end / PAGE_BYTES);
        self.words.discard(start..end.min(self.overflow_start / PAGE_LINES).max(start));
    }

    /// How many slots it has.
    pub(super) fn places(&self) -> usize {
        (self.buckets + self.overflow_in_use) * SLOTS
    }

    /// Asks for the line of `hash`'s bucket.
    #[inline]
    pub(super) fn prefetch(&self, hash: u64) {
        self.words.prefetch(bucket_of(hash, self.buckets));
    }

    /// The place and position that was guessed to be that of `key`, if the slot there has its tag. Wherever it is, a
    /// slot in use is an item's; whoever finds the key at the position has found the item.
    #[inline]
    pub(super) fn guessed(&self, key: Hashed) -> Option<(Place, u32)> {
        let slot = self.load(key.guess as usize);
        (tag_of(slot) == tag(key.hash)).then(|| (Place(key.guess as usize), position_of(slot)))
    }

    /// The place of the item of `hash` that `look` recognises by its position, and what it made of that.
    pub(super) fn find<T>(&self, hash: u64, mut look: impl FnMut(u32) -> Option<T>) -> Option<(Place, T)> {
        let wanted = tag(hash);
        let mut bucket = bucket_of(hash, self.buckets);
        loop {
            let line = self.line(bucket);
            for (number, slot) in line[..SLOTS].iter().enumerate() {
                let slot = slot.load(Ordering::Relaxed);
                if tag_of(slot) == wanted
                    && let Some(found) = look(position_of(slot))
                {
                    return Some((Place(bucket * LINE_WORDS + number), found));
                }
            }
            bucket = self.next(line)?;
        }
    }

    /// The place of the item of `hash` at `position`.
    pub(super) fn place(&self, hash: u64, position: u32) -> Option<Place> {
        self.find(hash, |found| (found == position).then_some(())).map(|(place, ())| place)
    }

    /// How often the item at `place` was used, up to [`FREQUENCY_MAX`].
    #[inline]
    pub(super) fn frequency(&self, place: Place) -> u8 {
        (self.load(place.0) as u32 & u32::from(FREQUENCY_MAX)) as u8
    }

    /// Sets how often the item at `place` was used.
    #[inline]
    pub(super) fn set_frequency(&mut self, place: Place, frequency: u8) {
        debug_assert!(frequency <= FREQUENCY_MAX, "frequencies saturate");
        let slot = self.load(place.0) & !u64::from(FREQUENCY_MAX);
        self.store(place.0, slot | u64::from(frequency));
    }

    /// Says that the item at `place` has moved.
    pub(super) fn set_position(&mut self, place: Place, position: u32) {
        let slot = self.load(place.0);
        self.store(place.0, slot & u64::from(u32::MAX) | u64::from(position) << 32);
    }

    /// Whether the next insertion would grow the table if it had one more page.
    #[inline]
    pub(super) fn wants_page(&self) -> bool {
        self.items >= self.buckets * GROW_ITEMS
            && self.buckets == self.pages * PAGE_LINES
            && !self.is_at_end()
    }

    /// Adds a page to the table; the caller has charged it.
    pub(super) fn add_page(&mut self) {
        self.pages += 1;
    }

    /// Whether `hash` cannot be inserted without one more page for overflow buckets.
    #[inline]
    pub(super) fn needs_overflow_page(&self, hash: u64) -> bool {
        if self.overflow_free != 0 || self.overflow_made < self.overflow_pages * PAGE_LINES {
            return false;
        }
        let mut bucket = bucket_of(hash, self.buckets);
        loop {
            let line = self.line(bucket);
            if line[..SLOTS].iter().any(|slot| slot.load(Ordering::Relaxed) == 0) {
                return false;
            }
            match self.next(line) {
                Some(next) => bucket = next,
                None => return true,
            }
        }
    }

    /// Adds a page for overflow buckets, charged by the caller; `false` when there is no address space left.
    #[must_use]
    pub(super) fn add_overflow_page(&mut self) -> bool {
        let buckets_max = self.words.lines() - self.overflow_start;
        let fits = (self.overflow_pages + 1) * PAGE_LINES <= buckets_max;
        self.overflow_pages += usize::from(fits);
        fits
    }

    /// Inserts an item that is not there yet. The caller has seen to it that no overflow page is needed.
    pub(super) fn insert(&mut self, hash: u64, position: u32, frequency: u8) {
        debug_assert!(!self.needs_overflow_page(hash), "the caller has made room in the index");
        self.insert_slot(bucket_of(hash, self.buckets), slot(hash, position, frequency));
        self.items += 1;
        if self.items > self.buckets * GROW_ITEMS
            && self.buckets < self.pages * PAGE_LINES
            && !self.is_at_end()
        {
            self.split();
        }
    }

    /// Removes the item of `hash` at `place`. Returns bytes of pages given back, for the caller to take off the
    /// budget.
    #[must_use]
    pub(super) fn remove(&mut self, hash: u64, place: Place) -> u64 {
        debug_assert_eq!(tag_of(self.load(place.0)), tag(hash), "the place is that of the hash");
        self.store(place.0, 0);
        self.items -= 1;
        self.close_gap(bucket_of(hash, self.buckets), place.0);
        if self.items < self.buckets * SHRINK_ITEMS && self.buckets > PAGE_LINES {
            self.merge();
        }
        let unused = self.pages - self.buckets.div_ceil(PAGE_LINES);
        let mut returned = 0;
        if unused > SPARE_PAGES_MAX {
            let kept = self.pages - unused;
            self.words.discard(kept..self.pages);
            returned += unused * PAGE_BYTES;
            self.pages = kept;
        }
        if self.overflow_in_use == 0 && self.overflow_pages > 0 && self.items < self.buckets {
            returned += self.discard_overflow();
        }
        returned as u64
    }

    /// Forgets all items. Returns bytes of pages given back, for the caller to take off the budget.
    #[must_use]
    pub(super) fn clear(&mut self) -> u64 {
        let returned = (self.pages - 1) * PAGE_BYTES + self.discard_overflow();
        self.words.discard(0..self.pages);
        self.pages = 1;
        self.set_buckets(PAGE_LINES);
        self.items = 0;
        returned as u64
    }

    fn discard_overflow(&mut self) -> usize {
        let start = self.overflow_start / PAGE_LINES;
        self.words.discard(start..start + self.overflow_pages);
        let returned = self.overflow_pages * PAGE_BYTES;
        self.overflow_pages = 0;
        self.overflow_made = 0;
        self.overflow_in_use = 0;
        self.overflow_free = 0;
        returned
    }

    fn is_at_end(&self) -> bool {
        self.buckets >= self.overflow_start.min(BUCKETS_MAX)
    }

    /// Moves what belongs there from the bucket that is due to a new last one.
    fn split(&mut self) {
        let new = self.buckets;
        let bit = usize::BITS - 1 - new.leading_zeros();
        let due = new - (1 << bit);
        let mut slots = std::mem::take(&mut self.scratch);
        self.take_chain(due, &mut slots);
        self.set_buckets(new + 1);
        for slot in slots.drain(..) {
            // The hash bit that this doubling is about, as the tag has it.
            let goes = tag_of(slot) >> (bit - TAG_HASH_SHIFT) & 1 == 1;
            self.insert_slot(if goes { new } else { due }, slot);
        }
        self.scratch = slots;
    }

    /// Moves what the last bucket holds to where it came from. Skipped when that could need a page.
    fn merge(&mut self) {
        let last = self.buckets - 1;
        let into = last - (1 << (usize::BITS - 1 - last.leading_zeros()));
        let has_spare = self.overflow_free != 0 || self.overflow_made < self.overflow_pages * PAGE_LINES;
        if !has_spare && self.used_slots(into) + self.used_slots(last) > SLOTS {
            return;
        }
        let mut slots = std::mem::take(&mut self.scratch);
        self.take_chain(last, &mut slots);
        self.set_buckets(last);
        for slot in slots.drain(..) {
            self.insert_slot(into, slot);
        }
        self.scratch = slots;
    }

    fn used_slots(&self, bucket: usize) -> usize {
        self.line(bucket)[..SLOTS].iter().filter(|slot| slot.load(Ordering::Relaxed) != 0).count()
    }

    /// Empties the chain of `bucket` into `slots` and frees its overflow buckets.
    fn take_chain(&mut self, bucket: usize, slots: &mut Vec<u64>) {
        let mut at = Some(bucket);
        while let Some(bucket) = at {
            let line = self.line(bucket);
            slots.extend(
                line[..SLOTS].iter().map(|slot| slot.load(Ordering::Relaxed)).filter(|&slot| slot != 0),
            );
            at = self.next(line);
            for word in line {
                word.store(0, Ordering::Relaxed);
            }
            if bucket >= self.overflow_start {
                self.free_overflow(bucket);
            }
        }
    }

    fn insert_slot(&mut self, mut bucket: usize, slot: u64) {
        loop {
            let line = self.line(bucket);
            if let Some(empty) = line[..SLOTS].iter().find(|slot| slot.load(Ordering::Relaxed) == 0) {
                empty.store(slot, Ordering::Relaxed);
                return;
            }
            bucket = match self.next(line) {
                Some(next) => next,
                None => {
                    let next = self.take_overflow();
                    let link = (next - self.overflow_start + 1) as u64;
                    self.line(bucket)[LINK].store(link, Ordering::Relaxed);
                    next
                }
            };
        }
    }

    /// Moves the last slot of a chain into the gap at word `gap`, and frees the last bucket when it is empty.
    fn close_gap(&mut self, head: usize, gap: usize) {
        let mut before = None;
        let mut bucket = head;
        while let Some(next) = self.next(self.line(bucket)) {
            before = Some(bucket);
            bucket = next;
        }
        let Some(before) = before else { return };
        let line = self.line(bucket);
        let last = line[..SLOTS].iter().rposition(|slot| slot.load(Ordering::Relaxed) != 0);
        if let Some(last) = last {
            let slot = line[last].swap(0, Ordering::Relaxed);
            self.store(gap, slot);
        }
        if self.line(bucket)[..SLOTS].iter().all(|slot| slot.load(Ordering::Relaxed) == 0) {
            self.line(before)[LINK].store(0, Ordering::Relaxed);
            self.free_overflow(bucket);
        }
    }

    fn take_overflow(&mut self) -> usize {
        self.overflow_in_use += 1;
        if self.overflow_free != 0 {
            let bucket = self.overflow_start + self.overflow_free - 1;
            self.overflow_free = self.line(bucket)[LINK].swap(0, Ordering::Relaxed) as usize;
            return bucket;
        }
        assert!(
            self.overflow_made < self.overflow_pages * PAGE_LINES,
            "the caller has made room in the index"
        );
        self.overflow_made += 1;
        self.overflow_start + self.overflow_made - 1
    }

    fn free_overflow(&mut self, bucket: usize) {
        self.overflow_in_use -= 1;
        self.line(bucket)[LINK].store(self.overflow_free as u64, Ordering::Relaxed);
        self.overflow_free = bucket - self.overflow_start + 1;
    }

    fn set_buckets(&mut self, buckets: usize) {
        self.buckets = buckets;
        self.views[self.number].set_buckets(buckets);
    }

    #[inline]
    fn line(&self, bucket: usize) -> &[AtomicU64; LINE_WORDS] {
        self.words.line(bucket)
    }

    #[inline]
    fn next(&self, line: &[AtomicU64; LINE_WORDS]) -> Option<usize> {
        overflow_bucket(line[LINK].load(Ordering::Relaxed), self.overflow_start)
    }

    #[inline]
    fn load(&self, word: usize) -> u64 {
        self.words.word(word).load(Ordering::Relaxed)
    }

    #[inline]
    fn store(&mut self, word: usize, slot: u64) {
        self.words.word(word).store(slot, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
