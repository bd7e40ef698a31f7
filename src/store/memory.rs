//! Address space reserved from the system, and the only unsafe code of the store.
//!
//! Rule: a [`Region`] owns its range of addresses alone, so safe slices of it are all that anyone needs. Pages
//! come into being when they are first written and go back when they are discarded; what is discarded reads
//! as zeros. Reserving costs no memory, so there is always far more address space than memory.

use std::ffi::c_void;
use std::fmt;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap};

/// The unit in which memory is taken from the system and given back, in bytes.
pub(super) const PAGE_BYTES: usize = 4096;

/// One mapping, unmapped when its last region goes.
struct Reservation {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: a reservation is an address and a length; the memory behind it belongs to no thread.
unsafe impl Send for Reservation {}
// SAFETY: as above; it offers no access to the memory, only regions do.
unsafe impl Sync for Reservation {}

impl Drop for Reservation {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `Region::reserve`, and every region keeps its reservation alive, so
        // nothing refers to it any more.
        let unmapped = unsafe { munmap(self.base.cast::<c_void>(), self.len) };
        debug_assert!(unmapped.is_ok(), "a mapping of our own can be unmapped");
    }
}

/// A range of addresses with one owner. Invariants: it lies inside its reservation, on page boundaries, and
/// no other region overlaps it.
pub(super) struct Region {
    reservation: Arc<Reservation>,
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: a region owns its range alone, as a `Box<[u8]>` would.
unsafe impl Send for Region {}
// SAFETY: a shared region gives out shared slices only, as a `Box<[u8]>` would.
unsafe impl Sync for Region {}

impl Region {
    /// Reserves `len` bytes, rounded up to pages; `None` when the system refuses.
    pub(super) fn reserve(len: usize) -> Option<Region> {
        let len = len.checked_next_multiple_of(PAGE_BYTES)?.max(PAGE_BYTES);
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no existing memory.
        let base = unsafe { mmap_anonymous(None, NonZeroUsize::new(len)?, protection, flags) }.ok()?;
        // Huge pages would round every shard's memory up to 2 MB, which no limit allows for. Where the kernel
        // has none it refuses, and that is as good.
        // SAFETY: the range is the mapping just made; the advice changes how it is backed, not what it holds.
        let _ = unsafe { madvise(base, len, MmapAdvise::MADV_NOHUGEPAGE) };
        // SAFETY: as above; a core dump without cached values is smaller and gives less away.
        let _ = unsafe { madvise(base, len, MmapAdvise::MADV_DONTDUMP) };
        let base = base.cast::<u8>();
        Some(Region { reservation: Arc::new(Reservation { base, len }), base, len })
    }

    /// Cuts `len` bytes, rounded up to pages, off the head of the region; `None` when it is shorter.
    pub(super) fn split_off(&mut self, len: usize) -> Option<Region> {
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
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// What it holds; what was never written is 0.
    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: the range is mapped readable for as long as the region lives, and anonymous memory starts as
        // zeros; writing needs `&mut self`, so it cannot change while this borrow lasts.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.len) }
    }

    /// What it holds, to be written to.
    #[inline]
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `bytes`, mapped writable too, and `&mut self` on the only owner makes this the only
        // reference.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), self.len) }
    }

    /// Gives the pages of `range` back to the system; they read as zeros from now on.
    ///
    /// # Panics
    /// When the range is not made of whole pages of the region.
    pub(super) fn discard(&mut self, range: Range<usize>) {
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

/// A region used as words that many threads may read at any time, whoever writes them.
#[derive(Clone)]
pub(super) struct Words {
    region: Arc<Region>,
    base: NonNull<AtomicU64>,
    len: usize,
}

// SAFETY: words are atomics in memory that `region` keeps alive.
unsafe impl Send for Words {}
// SAFETY: as above; atomics may be shared.
unsafe impl Sync for Words {}

impl Words {
    /// The words of `region`.
    pub(super) fn new(region: Region) -> Words {
        let (base, len) = (region.base.cast::<AtomicU64>(), region.len / size_of::<AtomicU64>());
        Words { region: Arc::new(region), base, len }
    }

    /// All of them.
    #[inline]
    pub(super) fn all(&self) -> &[AtomicU64] {
        debug_assert!(self.base.is_aligned(), "regions start on a page");
        // SAFETY: `region` is mapped for as long as `self` lives, starts on a page boundary, was given up to
        // `Words` (no slice of bytes of it is ever made), and any bits are a valid `AtomicU64`.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.len) }
    }

    /// Gives the pages of `range`, in words, back to the system; they read as 0 from now on. To other threads
    /// it is as if 0 had been stored in each.
    ///
    /// # Panics
    /// When the range is not made of whole pages.
    pub(super) fn discard(&self, range: Range<usize>) {
        let bytes = range.start * size_of::<AtomicU64>()..range.end * size_of::<AtomicU64>();
        if !discard(self.region.base, self.region.len, bytes) {
            self.all()[range].iter().for_each(|word| word.store(0, Ordering::Relaxed));
        }
    }
}

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Words({} of {:?})", self.len, self.region)
    }
}

/// Asks the processor to fetch the line at `address`. It means nothing: any address will do, mapped or not.
#[inline]
pub(super) fn prefetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch never faults and changes no memory, whatever the address; SSE is part of x86-64.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast::<i8>());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above; `prfm` touches neither registers nor flags.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{}]", in(reg) address, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = address;
}

/// Gives whole pages back; `false` when the system keeps them, as it does when they are locked (`-k`): what is to
/// read as zeros must then be written.
#[must_use]
fn discard(base: NonNull<u8>, len: usize, range: Range<usize>) -> bool {
    assert!(range.start <= range.end && range.end <= len, "only pages of the region are discarded");
    assert!(range.start.is_multiple_of(PAGE_BYTES) && range.end.is_multiple_of(PAGE_BYTES), "whole pages");
    if range.is_empty() {
        return true;
    }
    // SAFETY: the range was just checked to be whole pages of a live mapping whose owner called; private
    // anonymous pages read as zeros afterwards, which are valid bytes and valid atomics.
    unsafe { madvise(base.add(range.start).cast::<c_void>(), range.len(), MmapAdvise::MADV_DONTNEED) }.is_ok()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

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
    fn words_are_shared_and_go_back_to_zero() {
        let words = Words::new(Region::reserve(2 * PAGE_BYTES).unwrap());
        let other = words.clone();
        words.all()[600].store(9, Ordering::Relaxed);
        words.all()[1].store(9, Ordering::Relaxed);
        words.discard(512..1024);
        assert_eq!(other.all()[600].load(Ordering::Relaxed), 0);
        assert_eq!(other.all()[1].load(Ordering::Relaxed), 9);
    }

    #[test]
    #[should_panic(expected = "only pages of the region")]
    fn nobody_discards_what_is_not_theirs() {
        Region::reserve(PAGE_BYTES).unwrap().discard(0..2 * PAGE_BYTES);
    }
}
