//! A region that is filled from one end while others read what it holds.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::store::memory::region::{PAGE_BYTES, Region};

/// One end of a block of memory, or of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum End {
    /// The one with the lowest address.
    Front,
    /// The one with the highest address.
    Back,
}

/// A region that is filled from one end while others read what it holds. Bytes once written never change, so a value
/// can grow while readers share it.
///
/// Invariants: while it is shared, only [`Filling::write`] writes, one caller at a time, and only outside of the filled
/// part; all slices that are shared lie inside of the filled part.
#[derive(Debug)]
pub(in crate::store) struct Filling {
    region: Region,
    /// The end from which it is filled.
    from: End,
    /// The length of the filled part, in bytes.
    filled: AtomicUsize,
    is_being_written: AtomicBool,
}

impl Filling {
    /// A region of which nothing is filled yet, to be filled from its end `from`.
    pub(in crate::store) fn new(region: Region, from: End) -> Filling {
        Filling { region, from, filled: AtomicUsize::new(0), is_being_written: AtomicBool::new(false) }
    }

    /// The end from which it is filled.
    pub(in crate::store) fn from(&self) -> End {
        self.from
    }

    /// The length of the filled part, in bytes.
    pub(in crate::store) fn filled(&self) -> usize {
        // Acquire: a thread that sees the length also sees the bytes.
        self.filled.load(Ordering::Acquire)
    }

    /// The length of the part that is not filled, in bytes.
    pub(in crate::store) fn free_bytes(&self) -> usize {
        self.region.len() - self.filled()
    }

    /// The `len` bytes that were filled first: those at the end from which the region is filled.
    ///
    /// # Panics
    /// When fewer are filled.
    #[inline]
    pub(in crate::store) fn bytes(&self, len: usize) -> &[u8] {
        assert!(len <= self.filled(), "only the filled part is read");
        let start = match self.from {
            End::Front => 0,
            End::Back => self.region.len() - len,
        };
        // SAFETY: the range lies in the region, which is mapped readable for as long as this lives, and in the filled
        // part, which is never written to again.
        unsafe { std::slice::from_raw_parts(self.region.base.as_ptr().add(start), len) }
    }

    /// Fills the next bytes with those of `parts`, which then lie there in that order.
    ///
    /// # Panics
    /// When they are longer than the free part, or another thread is writing.
    pub(in crate::store) fn write(&self, parts: [&[u8]; 2]) {
        assert!(!self.is_being_written.swap(true, Ordering::Acquire), "one writes at a time");
        let (filled, more) = (self.filled(), parts[0].len() + parts[1].len());
        assert!(more <= self.free_bytes(), "the parts fit");
        let mut start = match self.from {
            End::Front => filled,
            End::Back => self.region.len() - filled - more,
        };
        for part in parts {
            // SAFETY: the range was just checked to lie in the region and outside of the filled part, so no slice of it
            // exists; no other thread writes, and `part` is a slice of other memory or of the filled part.
            unsafe {
                self.region.base.as_ptr().add(start).copy_from_nonoverlapping(part.as_ptr(), part.len())
            };
            start += part.len();
        }
        self.filled.store(filled + more, Ordering::Release);
        self.is_being_written.store(false, Ordering::Release);
    }

    /// The part that is not filled, for its only owner to write to; [`Filling::advance`] fills it from the front.
    ///
    /// # Panics
    /// When it is not filled from the front.
    pub(in crate::store) fn free_mut(&mut self) -> &mut [u8] {
        assert_eq!(self.from, End::Front, "what comes next lies behind what there is");
        let filled = *self.filled.get_mut();
        &mut self.region.bytes_mut()[filled..]
    }

    /// Fills the next `bytes` with what was written to [`Filling::free_mut`].
    ///
    /// # Panics
    /// When there are fewer.
    pub(in crate::store) fn advance(&mut self, bytes: usize) {
        assert!(bytes <= self.free_bytes(), "what was written fits");
        *self.filled.get_mut() += bytes;
    }

    /// The region.
    pub(in crate::store) fn region(&self) -> &Region {
        &self.region
    }

    /// The region, with the filled part as it is.
    pub(in crate::store) fn into_region(self) -> Region {
        self.region
    }

    /// The region, with the pages of the filled part discarded.
    pub(in crate::store) fn into_empty(self) -> Region {
        let (mut region, pages) = (self.region, self.filled.into_inner().next_multiple_of(PAGE_BYTES));
        let range: Range<usize> = match self.from {
            End::Front => 0..pages,
            End::Back => region.len() - pages..region.len(),
        };
        region.discard(range);
        region
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filling(from: End) -> Filling {
        Filling::new(Region::reserve(3 * PAGE_BYTES).unwrap(), from)
    }

    #[test]
    fn what_was_read_before_stays_while_it_grows() {
        for (from, expected) in [(End::Front, "abcd"), (End::Back, "cdab")] {
            let filling = filling(from);
            filling.write([b"a", b"b"]);
            let first = filling.bytes(2);
            filling.write([b"c", b"d"]);
            assert_eq!(first, b"ab");
            assert_eq!(filling.bytes(4), expected.as_bytes());
            assert_eq!((filling.filled(), filling.free_bytes()), (4, 3 * PAGE_BYTES - 4));
        }
    }

    #[test]
    fn it_is_read_from_other_threads_while_it_grows() {
        let filling = filling(End::Back);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while filling.free_bytes() > 0 {
                        assert!(filling.bytes(filling.filled()).iter().all(|&byte| byte == 7));
                    }
                });
            }
            while filling.free_bytes() > 0 {
                filling.write([&[7; 256], &[7; 256]]);
            }
        });
    }

    #[test]
    fn an_empty_region_is_all_zeros() {
        for from in [End::Front, End::Back] {
            let filling = filling(from);
            filling.write([&[1; PAGE_BYTES], &[1]]);
            assert!(filling.into_empty().bytes().iter().all(|&byte| byte == 0));
        }
    }

    #[test]
    fn its_only_owner_writes_to_the_free_part() {
        let mut filling = filling(End::Front);
        filling.free_mut()[..3].copy_from_slice(b"abc");
        filling.advance(2);
        assert_eq!(filling.bytes(filling.filled()), b"ab");
        assert_eq!(&filling.free_mut()[..2], b"c\0");
    }

    #[test]
    #[should_panic(expected = "what was written fits")]
    fn no_more_is_filled_than_there_is() {
        filling(End::Front).advance(3 * PAGE_BYTES + 1);
    }

    #[test]
    #[should_panic(expected = "the parts fit")]
    fn nothing_is_written_past_its_end() {
        filling(End::Front).write([&[0; 3 * PAGE_BYTES], &[0]]);
    }

    #[test]
    #[should_panic(expected = "only the filled part")]
    fn nothing_is_read_that_is_not_filled() {
        let _ = filling(End::Back).bytes(1);
    }
}
