//! The index: where each item lies. It is a hash table whose buckets are one cache line, and it grows one bucket at a
//! time.
//!
//! A bucket is eight words: seven slots, and a link to an overflow bucket if it has one. A slot holds a position (32
//! bits, in the caller's units), a tag (28 bits of the hash and one that is always set, so that an empty slot, 0,
//! matches no key) and a use frequency (3 bits). A look-up reads one line of the index, and in one case of eight a
//! second one.
//!
//! It grows by linear hashing (Litwin 1980): each new bucket takes, from the one bucket whose turn it is to be split,
//! the slots that the next bit of their hash sends there. Tags have that bit, so neither growing nor shrinking reads an
//! item. Address space is reserved for the largest table, so a table never moves.
//!
//! Rule: the caller charges pages to the budget, and asks which pages an insertion needs before it inserts.

mod overflow;
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

/// The table grows when it has more items per bucket than this. Measured over a cycle of growth: 13.8 bytes per item
/// and 1.13 lines per hit; with 5 items per bucket 15.0 and 1.07, with 6.3 items 13.4 and 1.15.
const GROW_ITEMS: usize = 6;
/// The table shrinks when it has fewer items per bucket than this, which is so far below [`GROW_ITEMS`] that items that
/// come and go do not make it grow and shrink all the time.
const SHRINK_ITEMS: usize = 3;
/// More unused pages of the table than this are discarded.
const SPARE_PAGES_MAX: usize = 8;

/// The number of a slot: of its word, counted over all lines. It is valid until the next insertion or removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlotId(usize);

/// One shard's index. Invariants, checked by `validate`:
/// - every item is in the chain of the bucket that its hash names, exactly once;
/// - an overflow bucket is in exactly one chain, where it has an item, or on the list of free ones;
/// - buckets and overflow buckets lie in the pages that were added, and the words beyond them are 0.
///
/// The fields that every look-up reads come last, see [`Shard`](crate::store::shard::Shard).
#[derive(Debug)]
#[repr(C)]
pub(super) struct Index {
    /// The views of all shards.
    views: Arc<[View]>,
    /// The number of this shard and its view.
    number: usize,
    buckets: usize,
    /// How many pages of the table are charged.
    pages: usize,
    /// The number of the first overflow bucket.
    overflow_start: usize,
    overflow_pages: usize,
    /// How many overflow buckets were used since the last clear; the rest of their pages is 0.
    overflow_made: usize,
    overflow_in_use: usize,
    /// The number of the first free overflow bucket plus one, or 0. Each links to the next free one.
    overflow_free: usize,
    scratch: Vec<u64>,
    items: usize,
    words: Words,
}

/// The part of an index that every look-up reads, in bytes from its start.
#[cfg(test)]
pub(super) const INDEX_HOT: Range<usize> = std::mem::offset_of!(Index, items)..size_of::<Index>();

impl Index {
    /// An empty index in the words of view `number`. The caller has charged one page.
    pub(super) fn new(views: Arc<[View]>, number: usize) -> Index {
        let words = views[number].index().clone();
        let overflow_start = overflow_start(&words);
        debug_assert!(overflow_start >= PAGE_LINES, "the smallest table fits");
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

    /// How many bytes it is charged.
    pub(super) fn bytes(&self) -> u64 {
        ((self.pages + self.overflow_pages) * PAGE_BYTES) as u64
    }

    /// How many bytes at the head of its words, in whole stripes, are in use without a gap.
    pub(super) fn resident_head(&self) -> usize {
        self.pages * PAGE_BYTES / WORDS_STRIPE_BYTES * WORDS_STRIPE_BYTES
    }

    /// Discards the pages in `range`, in bytes, that are not in use once more.
    pub(super) fn discard_again(&mut self, range: Range<usize>) {
        let (start, end) = (self.pages.max(range.start / PAGE_BYTES), range.end / PAGE_BYTES);
        self.words.discard(start..end.min(self.overflow_start / PAGE_LINES).max(start));
    }

    /// How many slots it has.
    pub(super) fn slots(&self) -> usize {
        (self.buckets + self.overflow_in_use) * SLOTS
    }

    /// Prefetches the line of `hash`'s bucket.
    #[inline]
    pub(super) fn prefetch(&self, hash: u64) {
        self.words.prefetch(bucket_of(hash, self.buckets));
    }

    /// The slot that was guessed to be that of `key`, and its position, if the slot has the tag of `key`. Every slot in
    /// use is some item's: if the record at the position has the key, it is the item.
    #[inline]
    pub(super) fn guessed(&self, key: Hashed<'_>) -> Option<(SlotId, u32)> {
        let slot = self.load(key.guess as usize);
        (tag_of(slot) == tag(key.hash)).then(|| (SlotId(key.guess as usize), position_of(slot)))
    }

    /// The slot of the item of `hash` that `look` recognises by its position, and what `look` discarded for it.
    pub(super) fn find<T>(&self, hash: u64, mut look: impl FnMut(u32) -> Option<T>) -> Option<(SlotId, T)> {
        let wanted = tag(hash);
        let mut bucket = bucket_of(hash, self.buckets);
        loop {
            let line = self.line(bucket);
            for (number, slot) in line[..SLOTS].iter().enumerate() {
                let slot = slot.load(Ordering::Relaxed);
                if tag_of(slot) == wanted
                    && let Some(found) = look(position_of(slot))
                {
                    return Some((SlotId(bucket * LINE_WORDS + number), found));
                }
            }
            bucket = self.next(line)?;
        }
    }

    /// The slot of the item of `hash` at `position`.
    pub(super) fn slot_of(&self, hash: u64, position: u32) -> Option<SlotId> {
        self.find(hash, |found| (found == position).then_some(())).map(|(id, ())| id)
    }

    /// The use frequency of the item of slot `id`, up to [`FREQUENCY_MAX`].
    #[inline]
    pub(super) fn frequency(&self, id: SlotId) -> u8 {
        (self.load(id.0) as u32 & u32::from(FREQUENCY_MAX)) as u8
    }

    /// Sets the use frequency of the item of slot `id`.
    #[inline]
    pub(super) fn set_frequency(&mut self, id: SlotId, frequency: u8) {
        debug_assert!(frequency <= FREQUENCY_MAX, "frequencies saturate");
        let slot = self.load(id.0) & !u64::from(FREQUENCY_MAX);
        self.store(id.0, slot | u64::from(frequency));
    }

    /// Notes that the item of slot `id` lies at `position` now.
    pub(super) fn set_position(&mut self, id: SlotId, position: u32) {
        let slot = self.load(id.0);
        self.store(id.0, slot & u64::from(u32::MAX) | u64::from(position) << 32);
    }

    /// Whether the next insertion would grow the table if the table had one more page.
    #[inline]
    pub(super) fn wants_page(&self) -> bool {
        self.items >= self.buckets * GROW_ITEMS
            && self.buckets == self.pages * PAGE_LINES
            && !self.is_at_end()
    }

    /// Adds a page, which the caller has charged, to the table.
    pub(super) fn add_page(&mut self) {
        self.pages += 1;
    }

    /// Inserts an item that is not there yet. The caller has added the overflow page if one was needed.
    pub(super) fn insert(&mut self, hash: u64, position: u32, frequency: u8) {
        debug_assert!(!self.needs_overflow_page(hash), "the caller has added the page");
        self.insert_slot(bucket_of(hash, self.buckets), slot(hash, position, frequency));
        self.items += 1;
        if self.items > self.buckets * GROW_ITEMS
            && self.buckets < self.pages * PAGE_LINES
            && !self.is_at_end()
        {
            self.split();
        }
    }

    /// Removes the item of `hash` from slot `id`. Returns how many bytes of pages were discarded, for the caller to
    /// refund.
    #[must_use]
    pub(super) fn remove(&mut self, hash: u64, id: SlotId) -> u64 {
        debug_assert_eq!(tag_of(self.load(id.0)), tag(hash), "the slot is that of the hash");
        self.store(id.0, 0);
        self.items -= 1;
        self.close_gap(bucket_of(hash, self.buckets), id.0);
        if self.items < self.buckets * SHRINK_ITEMS && self.buckets > PAGE_LINES {
            self.merge();
        }
        let unused = self.pages - self.buckets.div_ceil(PAGE_LINES);
        let mut discarded = 0;
        if unused > SPARE_PAGES_MAX {
            let kept = self.pages - unused;
            self.words.discard(kept..self.pages);
            discarded += unused * PAGE_BYTES;
            self.pages = kept;
        }
        if self.overflow_in_use == 0 && self.overflow_pages > 0 && self.items < self.buckets {
            discarded += self.discard_overflow();
        }
        discarded as u64
    }

    /// Removes all items. Returns how many bytes of pages were discarded, for the caller to refund.
    #[must_use]
    pub(super) fn clear(&mut self) -> u64 {
        let discarded = (self.pages - 1) * PAGE_BYTES + self.discard_overflow();
        self.words.discard(0..self.pages);
        self.pages = 1;
        self.set_buckets(PAGE_LINES);
        self.items = 0;
        discarded as u64
    }

    fn is_at_end(&self) -> bool {
        self.buckets >= self.overflow_start.min(BUCKETS_MAX)
    }

    /// Adds a bucket, and moves to it the slots that belong there from the bucket that is due to be split.
    fn split(&mut self) {
        let new = self.buckets;
        let bit = usize::BITS - 1 - new.leading_zeros();
        let due = new - (1 << bit);
        let mut slots = std::mem::take(&mut self.scratch);
        self.take_chain(due, &mut slots);
        self.set_buckets(new + 1);
        for slot in slots.drain(..) {
            // The bit of the hash, from the tag, that tells the new bucket from the old one.
            let goes = tag_of(slot) >> (bit - TAG_HASH_SHIFT) & 1 == 1;
            self.insert_slot(if goes { new } else { due }, slot);
        }
        self.scratch = slots;
    }

    /// Moves the slots of the last bucket to the one that they came from, and drops the last bucket. Does nothing where
    /// that might need a page.
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

    /// Moves all slots of the chain of `bucket` to `slots` and frees its overflow buckets.
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

    /// Moves the last slot of the chain that begins at `head` to the empty slot `gap`, and frees the chain's last
    /// bucket when that is empty.
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
