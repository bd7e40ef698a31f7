//! Hints: prefetching what a look-up will read, before its shard is locked.
//!
//! A look-up waits for memory twice, for the index line and for the item. Hints let the processor wait for those of all
//! keys of a batch at the same time, before the first shard is locked. They read the index while other threads may
//! change it, so what they find is only a guess, which the look-up checks.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::store::header::UNIT_BYTES;
use crate::store::memory::{Addresses, LINE_WORDS, PAGE_LINES, Words};
use crate::store::slot::{LINK, SLOTS, bucket_of, overflow_bucket, overflow_start, position_of, tag, tag_of};

/// A key with its hash and, after [`Store::hint_item`](crate::store::Store::hint_item), a guess which slot is that of
/// its item.
#[derive(Clone, Copy, Debug)]
pub struct Hashed<'k> {
    pub(super) key: &'k [u8],
    pub(super) hash: u64,
    /// The number of its shard.
    pub(super) shard: u32,
    /// The word of the index that probably is the item's slot.
    pub(super) guess: u32,
}

impl<'k> Hashed<'k> {
    /// A key without a guess.
    #[inline]
    pub(super) fn new(key: &'k [u8], hash: u64, shard: u32) -> Hashed<'k> {
        Hashed { key, hash, shard, guess: 0 }
    }

    /// The key itself.
    #[inline]
    pub fn key(&self) -> &'k [u8] {
        self.key
    }
}

/// The part of a shard that hints read. Each view has a cache line of its own, because shards write to them.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct View {
    index: Words,
    /// How many buckets the index has. Relaxed: a hint may be wrong.
    buckets: AtomicUsize,
    /// Where the shard's items lie.
    items: Addresses,
}

const _: () = assert!(size_of::<View>() == 64, "a hint reads one line of each shard's view");

impl View {
    /// A view of a shard whose index lies in `index` and whose items lie at `items`.
    pub(super) fn new(index: Words, items: Addresses) -> View {
        View { index, buckets: AtomicUsize::new(PAGE_LINES), items }
    }

    /// The words of the index.
    pub(super) fn index(&self) -> &Words {
        &self.index
    }

    /// Notes that the index has so many `buckets` now.
    pub(super) fn set_buckets(&self, buckets: usize) {
        self.buckets.store(buckets, Ordering::Relaxed);
    }

    /// Prefetches the line of `key`'s bucket.
    #[inline]
    pub(super) fn hint_index(&self, key: &mut Hashed<'_>) {
        let bucket = bucket_of(key.hash, self.buckets.load(Ordering::Relaxed));
        key.guess = (bucket * LINE_WORDS) as u32; // `sizing` reserves fewer words
        self.index.prefetch(bucket);
    }

    /// Prefetches the item that is probably that of `key`; call it after [`View::hint_index`]. Returns `true` when the
    /// item may be in an overflow bucket, which was prefetched instead: call it once more.
    #[inline(always)]
    #[must_use]
    pub(super) fn hint_item(&self, key: &mut Hashed<'_>) -> bool {
        let wanted = tag(key.hash);
        let first = key.guess as usize;
        let line = self.index.line(first / LINE_WORDS);
        for (number, slot) in line[..SLOTS].iter().enumerate() {
            let slot = slot.load(Ordering::Relaxed);
            if tag_of(slot) == wanted {
                key.guess = (first + number) as u32;
                // Two lines, for most records begin in one and end in the next.
                self.items.prefetch_two_lines(position_of(slot) as usize * UNIT_BYTES);
                return false;
            }
        }
        self.hint_overflow(key, line[LINK].load(Ordering::Relaxed))
    }

    #[cold]
    fn hint_overflow(&self, key: &mut Hashed<'_>, link: u64) -> bool {
        let Some(next) = overflow_bucket(link, overflow_start(&self.index)) else { return false };
        if next >= self.index.lines() {
            return false; // another thread changed the link
        }
        key.guess = (next * LINE_WORDS) as u32;
        self.index.prefetch(next);
        true
    }
}
