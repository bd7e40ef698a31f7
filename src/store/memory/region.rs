//! Address space reserved from the system, and the ranges of it that have one owner each.
//!
//! Miri knows neither `madvise` nor `MAP_NORESERVE`, so under Miri regions do without: discarding pages then writes
//! zeros, as it does where the system refuses to discard them.

use std::ffi::c_void;
use std::fmt;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;

use nix::libc;
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap};

/// The length of a page, the unit in which the system gives memory and takes it back, in bytes.
pub(in crate::store) const PAGE_BYTES: usize = 4096;

/// One mapping; it is unmapped when the last region or stripe of it is dropped.
pub(super) struct Reservation {
    pub(super) base: NonNull<u8>,
    pub(super) len: usize,
}

// SAFETY: a reservation is an address and a length; the memory behind it belongs to no thread.
unsafe impl Send for Reservation {}
// SAFETY: as above; it offers no access to the memory, only the parts do.
unsafe impl Sync for Reservation {}

impl Drop for Reservation {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `Region::reserve`, and every region and stripe keeps its reservation
        // alive, so nothing refers to the range any more.
        let unmapped = unsafe { munmap(self.base.cast::<c_void>(), self.len) };
        debug_assert!(unmapped.is_ok(), "a mapping of our own can be unmapped");
    }
}

/// A range of addresses with one owner. Invariants: it lies inside its reservation, on page boundaries, and
/// no other region overlaps it.
pub(in crate::store) struct Region {
    pub(super) reservation: Arc<Reservation>,
    pub(super) base: NonNull<u8>,
    pub(super) len: usize,
}

// SAFETY: a region owns its range alone, as a `Box<[u8]>` would.
unsafe impl Send for Region {}
// SAFETY: a shared region gives out shared slices only, as a `Box<[u8]>` would.
unsafe impl Sync for Region {}

impl Region {
    /// Reserves `len` bytes, rounded up to pages; `None` when the system refuses.
    pub(in crate::store) fn reserve(len: usize) -> Option<Region> {
        let len = len.checked_next_multiple_of(PAGE_BYTES)?.max(PAGE_BYTES);
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let flags = match cfg!(miri) {
            true => MapFlags::MAP_PRIVATE,
            false => MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE,
        };
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no existing memory.
        let base = unsafe { mmap_anonymous(None, NonZeroUsize::new(len)?, protection, flags) }.ok()?;
        // Otherwise the kernel chooses itself where to make huge pages, and so takes memory that is not charged;
        // see `HugePages`. A kernel without huge pages returns an error, which changes nothing.
        // SAFETY: the range is the mapping just made; the advice changes how it is backed, not what it holds.
        let _ = cfg!(miri) || unsafe { madvise(base, len, MmapAdvise::MADV_NOHUGEPAGE) }.is_ok();
        // A core dump without cached values is smaller and gives less away.
        // SAFETY: as above.
        let _ = cfg!(miri) || unsafe { madvise(base, len, MmapAdvise::MADV_DONTDUMP) }.is_ok();
        let base = base.cast::<u8>();
        Some(Region { reservation: Arc::new(Reservation { base, len }), base, len })
    }

    /// Cuts `len` bytes, rounded up to pages, off the head of the region; `None` when it is shorter.
    pub(in crate::store) fn split_off(&mut self, len: usize) -> Option<Region> {
        let len = len.checked_next_multiple_of(PAGE_BYTES)?;
        if len > self.len {
            return None;
        }
        let head = Region { reservation: Arc::clone(&self.reservation), base: self.base, len };
        // SAFETY: `len` was just checked to lie within the region, hence within one mapping.
        self.base = unsafe { self.base.add(len) };
        self.len -= len;
        Some(head)
    }

    /// Its length, in bytes.
    #[inline]
    pub(in crate::store) fn len(&self) -> usize {
        self.len
    }

    /// Its bytes; those that were never written are 0.
    #[cfg(test)]
    pub(in crate::store) fn bytes(&self) -> &[u8] {
        // SAFETY: the range is mapped readable for as long as the region lives, and anonymous memory starts as
        // zeros; writing needs `&mut self`, so it cannot change while this borrow lasts.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.len) }
    }

    /// Its bytes, to be written to.
    #[inline]
    pub(in crate::store) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the range is mapped writable for as long as the region lives, anonymous memory starts as zeros, and
        // `&mut self` on the only owner makes this the only reference.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), self.len) }
    }

    /// Discards the pages of `range`: gives them back to the system. They read as zeros from now on.
    ///
    /// # Panics
    /// When the range is not made of whole pages of the region.
    pub(in crate::store) fn discard(&mut self, range: Range<usize>) {
        if !discard(self.base, self.len, range.clone()) {
            self.bytes_mut()[range].fill(0);
        }
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Region({} bytes of {})", self.len, self.reservation.len)
    }
}

/// Address space that is held, and that nothing else in the process gets, until this is dropped.
#[derive(Debug)]
pub struct HeldAddresses(#[expect(dead_code, reason = "it is only held")] Region);

impl HeldAddresses {
    /// Holds `bytes` of address space; `None` when the system has not as much left.
    pub fn hold(bytes: u64) -> Option<HeldAddresses> {
        Region::reserve(usize::try_from(bytes).ok()?).map(HeldAddresses)
    }
}

/// Discards whole pages of a region, as [`discard_pages`] does.
#[must_use]
fn discard(base: NonNull<u8>, len: usize, range: Range<usize>) -> bool {
    assert!(range.start <= range.end && range.end <= len, "only pages of the region are discarded");
    assert!(range.start.is_multiple_of(PAGE_BYTES) && range.end.is_multiple_of(PAGE_BYTES), "whole pages");
    // SAFETY: the range was just checked to be whole pages of a live mapping whose owner called.
    range.is_empty() || unsafe { discard_pages(base.as_ptr().add(range.start), range.len()) }
}

/// Discards whole pages. Returns `false` when the system refuses, as it does under Miri: the caller then writes the
/// zeros.
///
/// # Safety
/// They are pages of a live private anonymous mapping, and no reference to them exists but the caller's, or they are
/// read as atomics only.
#[must_use]
pub(super) unsafe fn discard_pages(start: *mut u8, len: usize) -> bool {
    if cfg!(miri) {
        return false;
    }
    let start = start.cast::<c_void>();
    // SAFETY: the caller vouches for the pages; zeros are valid bytes and valid atomics. Linux has the second advice
    // since 5.18, for pages that are locked (`-k`): the first advice fails on those.
    unsafe {
        libc::madvise(start, len, libc::MADV_DONTNEED) == 0
            || libc::madvise(start, len, libc::MADV_DONTNEED_LOCKED) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_is_zeros_until_written_and_after_being_discarded() {
        let mut region = Region::reserve(10 * PAGE_BYTES - 1).unwrap();
        assert_eq!(region.len(), 10 * PAGE_BYTES);
        assert!(region.bytes().iter().all(|&byte| byte == 0));
        region.bytes_mut().fill(7);
        region.discard(PAGE_BYTES..2 * PAGE_BYTES);
        assert_eq!(region.bytes()[PAGE_BYTES - 1], 7);
        assert!(region.bytes()[PAGE_BYTES..2 * PAGE_BYTES].iter().all(|&byte| byte == 0));
        assert_eq!(region.bytes()[2 * PAGE_BYTES], 7);
    }

    #[test]
    fn split_regions_are_apart_and_outlive_each_other() {
        let mut rest = Region::reserve(4 * PAGE_BYTES).unwrap();
        let mut head = rest.split_off(100).unwrap();
        assert_eq!((head.len(), rest.len()), (PAGE_BYTES, 3 * PAGE_BYTES));
        assert!(rest.split_off(4 * PAGE_BYTES).is_none());
        head.bytes_mut().fill(1);
        assert!(rest.bytes().iter().all(|&byte| byte == 0));
        drop(rest);
        assert!(head.bytes().iter().all(|&byte| byte == 1));
    }

    #[test]
    #[should_panic(expected = "only pages of the region")]
    fn a_region_discards_no_pages_of_others() {
        Region::reserve(PAGE_BYTES).unwrap().discard(0..2 * PAGE_BYTES);
    }
}
