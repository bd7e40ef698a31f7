//! Overflow buckets: where the items of a bucket go that is full.

use std::sync::atomic::Ordering;

use crate::store::index::Index;
use crate::store::memory::{PAGE_BYTES, PAGE_LINES};
use crate::store::slot::{LINK, SLOTS, bucket_of};

impl Index {
    /// Whether to insert `hash` takes one more page for overflow buckets.
    #[inline]
    pub(in crate::store) fn needs_overflow_page(&self, hash: u64) -> bool {
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

    /// Adds a page, which the caller has charged, for overflow buckets; `false` when there is no address space left.
    #[must_use]
    pub(in crate::store) fn add_overflow_page(&mut self) -> bool {
        let buckets_max = self.words.lines() - self.overflow_start;
        let fits = (self.overflow_pages + 1) * PAGE_LINES <= buckets_max;
        self.overflow_pages += usize::from(fits);
        fits
    }

    /// Discards all pages of overflow buckets, none of which is in use. Returns their length, in bytes.
    pub(super) fn discard_overflow(&mut self) -> usize {
        let start = self.overflow_start / PAGE_LINES;
        self.words.discard(start..start + self.overflow_pages);
        let discarded = self.overflow_pages * PAGE_BYTES;
        self.overflow_pages = 0;
        self.overflow_made = 0;
        self.overflow_in_use = 0;
        self.overflow_free = 0;
        discarded
    }

    /// An empty overflow bucket, of the pages that were added for them.
    pub(super) fn take_overflow(&mut self) -> usize {
        self.overflow_in_use += 1;
        if self.overflow_free != 0 {
            let bucket = self.overflow_start + self.overflow_free - 1;
            self.overflow_free = self.line(bucket)[LINK].swap(0, Ordering::Relaxed) as usize;
            return bucket;
        }
        assert!(self.overflow_made < self.overflow_pages * PAGE_LINES, "the caller has added the page");
        self.overflow_made += 1;
        self.overflow_start + self.overflow_made - 1
    }

    /// Puts overflow `bucket`, which is empty, on the list of free ones.
    pub(super) fn free_overflow(&mut self, bucket: usize) {
        self.overflow_in_use -= 1;
        self.line(bucket)[LINK].store(self.overflow_free as u64, Ordering::Relaxed);
        self.overflow_free = bucket - self.overflow_start + 1;
    }
}
