//! What may be known of a key before its shard is locked: its hash, and where its item probably is.
//!
//! Looking a key up takes two waits for memory, one for the index line and one for the item. Hints have the
//! processor do many of these waits at once, for all keys of a batch, before the first shard is locked. They
//! read the index while others may change it, so what they find is only a guess; whoever uses it checks it.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::store::header::UNIT_BYTES;
use crate::store::memory::{Addresses, LINE_WORDS, PAGE_LINES, Words};
use crate::store::slot::{LINK, SLOTS, bucket_of, overflow_bucket, overflow_start, position_of, tag, tag_of};

/// A key's hash and, once [`Store::hint_item`](crate::store::Store::hint_item) has looked, a guess where its item is.
#[derive(Clone, Copy, Debug)]
pub struct Hashed {
    pub(super) hash: u64,
    /// The number of its shard.
    pub(super) shard: u32,
    /// The word of the index that probably has the item's slot.
    pub(super) guess: u32,
}

impl Hashed {
    /// A hash without any guess.
    #[inline]
    pub(super) fn new(hash: u64, shard: u32) -> Hashed {
        Hashed { hash, shard, guess: 0 }
    }
}

/// What hints look at of one shard. A cache line each, because the shards' owners write to them.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct View {
    index: Words,
    /// How many buckets the index has. Read without order: a hint may be wrong.
    buckets: AtomicUsize,
    /// Where the shard's items are.
    items: Addresses,
}

const _: () = assert!(size_of::<View>() == 64, "a hint waits for one line of each shard");

impl View {
    /// A view of a shard whose index is in `index` and whose items are at `items`.
    pub(super) fn new(index: Words, items: Addresses) -> View {
        View { index, buckets: AtomicUsize::new(PAGE_LINES), items }
    }

    /// The words of the index.
    pub(super) fn index(&self) -> &Words {
        &self.index
    }

    /// Tells of a new number of buckets.
    pub(super) fn set_buckets(&self, buckets: usize) {
        self.buckets.store(buckets, Ordering::Relaxed);
    }

    /// Asks for the line of the bucket of `key`.
    #[inline]
    pub(super) fn hint_index(&self, key: &mut Hashed) {
        let bucket = bucket_of(key.hash, self.buckets.load(Ordering::Relaxed));
        key.guess = (bucket * LINE_WORDS) as u32; // `Store::within` reserves fewer words
        self.index.prefetch(bucket);
    }

    /// Asks for the item that is probably that of `key`, after [`View::hint_index`]. `true` when it may be in an
    /// overflow bucket, which was asked for instead: ask once more.
    #[inline(always)]
    #[must_use]
    pub(super) fn hint_item(&self, key: &mut Hashed) -> bool {
        let wanted = tag(key.hash);
        let first = key.guess as usize;
        let line = self.index.line(first / LINE_WORDS);
        for (number, slot) in line[..SLOTS].iter().enumerate() {
            let slot = slot.load(Ordering::Relaxed);
            if tag_of(slot) == wanted {
                key.guess = (first + number) as u32;
                // Most records begin in one line and end in the next.
                self.items.prefetch_two_lines(position_of(slot) as usize * UNIT_BYTES);
                return false;
            }
        }
        self.hint_overflow(key, line[LINK].load(Ordering::Relaxed))
    }

    #[cold]
    fn hint_overflow(&self, key: &mut Hashed, link: u64) -> bool {
        let Some(next) = overflow_bucket(link, overflow_start(&self.index)) else { return false };
        if next >= self.index.lines() {
            return false; // a link that was changed while it was read
        }
        key.guess = (next * LINE_WORDS) as u32;
        self.index.prefetch(next);
        true
    }
}
