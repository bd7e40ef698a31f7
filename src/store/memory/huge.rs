//! Huge pages for the part of a region that is in use, and only for that part.

use std::ffi::c_void;
use std::fmt;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nix::libc::{self, c_int};

use crate::store::memory::region::{Region, Reservation};

/// The huge page of x86-64, and of aarch64 with 4 KiB pages, in bytes.
pub(in crate::store) const HUGE_PAGE_BYTES: usize = 2 << 20;
/// `MADV_COLLAPSE` of linux/mman.h since 6.1, which neither nix nor libc names.
const MADV_COLLAPSE: c_int = 25;

/// Makes huge pages of the head of a region that was divided into stripes, as far as all pages there are resident
/// anyway.
///
/// A processor finds an item in a huge page without a walk through page tables, which takes about as long as to read
/// the item itself. But the system must not choose where to make them: it would take 2 MB where one page is used, and
/// once more after the rest was discarded. So the head without a gap has huge pages, and the part behind it has none.
pub(in crate::store) struct HugePages {
    reservation: Arc<Reservation>,
    base: NonNull<u8>,
    len: usize,
    /// The length of the part that has huge pages, in bytes.
    bytes: Mutex<usize>,
    are_wanted: AtomicBool,
}

// SAFETY: it has an address that it neither reads from nor writes to.
unsafe impl Send for HugePages {}
// SAFETY: as above.
unsafe impl Sync for HugePages {}

impl HugePages {
    /// For a region that was divided into stripes; it has no huge pages yet.
    pub(super) fn none_yet(Region { reservation, base, len }: Region) -> HugePages {
        HugePages { reservation, base, len, bytes: Mutex::new(0), are_wanted: AtomicBool::new(true) }
    }

    /// Stops making huge pages.
    pub(in crate::store) fn refuse(&self) {
        self.are_wanted.store(false, Ordering::Relaxed);
    }

    /// Makes huge pages up to `resident_bytes`, at most `steps_max` more than before. When that is less than before, it
    /// returns the range that has none any more: pages that owners discarded there may have become resident again, and
    /// the owners are to discard them once more.
    pub(in crate::store) fn adjust(&self, resident_bytes: usize, steps_max: usize) -> Option<Range<usize>> {
        if !self.are_wanted.load(Ordering::Relaxed) {
            return None;
        }
        let resident_bytes = resident_bytes.min(self.len) / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        if resident_bytes < *bytes {
            // A huge page stays one until it is discarded; this only stops the system from making more.
            let retreat = resident_bytes..*bytes;
            self.advise(retreat.clone(), libc::MADV_NOHUGEPAGE);
            *bytes = resident_bytes;
            return Some(retreat);
        }
        for _ in 0..steps_max {
            if *bytes >= resident_bytes {
                break;
            }
            let page = *bytes..*bytes + HUGE_PAGE_BYTES;
            // Linux before 6.1 does not know the second advice; after the first it makes the huge page itself at some
            // time.
            self.advise(page.clone(), libc::MADV_HUGEPAGE);
            self.advise(page.clone(), MADV_COLLAPSE);
            *bytes = page.end;
        }
        None
    }

    fn advise(&self, range: Range<usize>, advice: c_int) {
        debug_assert!(range.end <= self.len, "the advice is about the region");
        if cfg!(miri) {
            return;
        }
        // SAFETY: the range lies in a mapping that lives as long as `reservation`, and advice on how it is backed does
        // not change what it holds. The system may refuse: then there is no huge page.
        unsafe { libc::madvise(self.base.add(range.start).as_ptr().cast::<c_void>(), range.len(), advice) };
    }
}

impl fmt::Debug for HugePages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HugePages({:?} of {} bytes of {})", self.bytes, self.len, self.reservation.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The distance of the bytes that are written and read, in bytes: a few per page, or under Miri one per stripe.
    const STEP: usize = if cfg!(miri) { 1 << 16 } else { 1000 };

    #[test]
    fn huge_pages_change_nothing_that_is_held() {
        let mut region = Region::reserve(8 * HUGE_PAGE_BYTES).unwrap();
        region.align().unwrap();
        assert!((region.base.as_ptr() as usize).is_multiple_of(HUGE_PAGE_BYTES));
        let (mut all, huge) = region.split_off(7 * HUGE_PAGE_BYTES).unwrap().into_stripes(1, 16);
        for stripes in &mut all {
            (0..stripes.len()).step_by(STEP).for_each(|at| stripes.tail_mut(at)[0] = (at >> 16) as u8);
        }
        for (used, expected) in [(5, 2), (5, 4), (5, 5), (3, 3), (4, 4), (100, 6), (100, 7)] {
            let before = *huge.bytes.lock().unwrap();
            let retreat = huge.adjust(used * HUGE_PAGE_BYTES + 7, 2);
            let expected = expected * HUGE_PAGE_BYTES;
            assert_eq!(*huge.bytes.lock().unwrap(), expected);
            assert_eq!(retreat, (expected < before).then_some(expected..before));
        }
        for stripes in &all {
            assert!((0..stripes.len()).step_by(STEP).all(|at| stripes.tail(at)[0] == (at >> 16) as u8));
        }
    }
}
