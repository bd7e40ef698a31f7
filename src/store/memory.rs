//! Address space reserved from the system, and the only unsafe code of the store.
//!
//! Rule: a [`Region`] owns its range of addresses alone, and so do [`Stripes`] the stripes that are theirs; safe
//! slices of them are all that anyone needs. Pages come into being when they are first written and go back when
//! they are discarded; what is discarded reads as zeros. Reserving costs no memory, so there is always far more
//! address space than memory.
//!
//! Shards have stripes instead of regions because what is used of many regions is scattered: each has page tables
//! of its own, and none fills a huge page. Stripes of all shards in turn make one dense range that does.

use std::ffi::c_void;
use std::fmt;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nix::libc::{self, c_int};
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap};

/// The unit in which memory is taken from the system and given back, in bytes.
pub(super) const PAGE_BYTES: usize = 4096;
/// The huge page of x86-64, and of aarch64 with 4 KiB pages, in bytes.
pub(super) const HUGE_PAGE_BYTES: usize = 2 << 20;
/// Words of a cache line of 64 bytes.
pub(super) const LINE_WORDS: usize = 8;
/// Lines of a page.
pub(super) const PAGE_LINES: usize = PAGE_BYTES / (LINE_WORDS * size_of::<u64>());
/// `MADV_COLLAPSE` of linux/mman.h since 6.1, for which neither nix nor libc has a name.
const MADV_COLLAPSE: c_int = 25;

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
        // The kernel's own choice of huge pages would have memory come into being that nobody has charged; see
        // `HugePages`. Where the kernel has none it refuses, and that is as good.
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

    /// Cuts off what is needed for the region to start with a huge page; `None` when it is shorter.
    pub(super) fn align(&mut self) -> Option<()> {
        let past = self.base.as_ptr() as usize % HUGE_PAGE_BYTES;
        self.split_off((HUGE_PAGE_BYTES - past) % HUGE_PAGE_BYTES).map(|_| ())
    }

    /// Shares the region out to `1 << owners_shift` owners, stripes of `1 << stripe_shift` bytes in turn, as far as there is
    /// one more for everybody; and what can make it huge pages.
    pub(super) fn share(self, owners_shift: u32, stripe_shift: u32) -> (Vec<Stripes>, HugePages) {
        assert!(stripe_shift >= PAGE_BYTES.trailing_zeros(), "stripes are whole pages");
        let len = (self.len >> (owners_shift + stripe_shift)) << stripe_shift;
        let stripes = |owner: usize| {
            let layout = Layout { mask: (1 << stripe_shift) - 1, owners_shift };
            // SAFETY: the first stripe of each owner lies within the region if there are any; with none, the
            // offset is at most one stripe for each owner, and the address is used for nothing.
            let base = if len == 0 { self.base } else { unsafe { self.base.add(owner << stripe_shift) } };
            Stripes { reservation: Arc::clone(&self.reservation), base, layout, len }
        };
        let all = (0..1 << owners_shift).map(stripes).collect();
        (
            all,
            HugePages { base: self.base, len: self.len, reservation: self.reservation, bytes: Mutex::new(0) },
        )
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

/// How an owner's stripes lie among those of others.
#[derive(Clone, Copy, Debug)]
struct Layout {
    /// The length of a stripe, a power of two, less one.
    mask: usize,
    owners_shift: u32,
}

impl Layout {
    /// How far from the owner's first stripe its byte `at` is, in bytes.
    #[inline]
    fn offset(self, at: usize) -> usize {
        let within = at & self.mask;
        ((at - within) << self.owners_shift) + within
    }
}

/// One owner's part of a region: every so-manieth stripe. To the owner they are bytes from 0 to `len`, of which a
/// slice never reaches beyond its stripe. Invariant: no two owners have a stripe in common.
pub(super) struct Stripes {
    reservation: Arc<Reservation>,
    base: NonNull<u8>,
    layout: Layout,
    len: usize,
}

// SAFETY: stripes have one owner, as a `Box<[u8]>` has.
unsafe impl Send for Stripes {}
// SAFETY: shared stripes give out shared slices only, as a `Box<[u8]>` would.
unsafe impl Sync for Stripes {}

impl Stripes {
    /// Their length in all, in bytes.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The length of each, in bytes.
    pub(super) fn stripe_bytes(&self) -> usize {
        self.layout.mask + 1
    }

    /// What lies from `at` to the end of its stripe.
    ///
    /// # Panics
    /// When the owner has no such byte.
    #[inline]
    pub(super) fn tail(&self, at: usize) -> &[u8] {
        let (start, len) = self.place(at);
        // SAFETY: the range is the end of one stripe of this owner, mapped readable for as long as the reservation
        // lives; writing needs `&mut self`, so it cannot change while this borrow lasts.
        unsafe { std::slice::from_raw_parts(start, len) }
    }

    /// What lies from `at` to the end of its stripe, to be written to.
    ///
    /// # Panics
    /// As [`Stripes::tail`].
    #[inline]
    pub(super) fn tail_mut(&mut self, at: usize) -> &mut [u8] {
        let (start, len) = self.place(at);
        // SAFETY: as for `tail`, mapped writable too, and `&mut self` on the only owner makes this the only
        // reference.
        unsafe { std::slice::from_raw_parts_mut(start, len) }
    }

    /// Copies `len` bytes at `from` to `to`, each within a stripe; they may overlap.
    ///
    /// # Panics
    /// When either reaches beyond its stripe.
    #[inline]
    pub(super) fn copy(&mut self, from: usize, len: usize, to: usize) {
        let ((from, from_len), (to, to_len)) = (self.place(from), self.place(to));
        assert!(len <= from_len && len <= to_len, "what is copied lies within a stripe");
        // SAFETY: both ranges were just checked to lie in stripes of this owner, on which `&mut self` is the only
        // reference; `copy` allows them to overlap.
        unsafe { std::ptr::copy(from, to, len) }
    }

    /// The address of byte `at` and the bytes from there to the end of its stripe.
    #[inline]
    fn place(&self, at: usize) -> (*mut u8, usize) {
        assert!(at < self.len, "an owner stays within its stripes");
        // SAFETY: `at` lies in one of the owner's stripes, so its offset lies in the region they were cut from.
        let start = unsafe { self.base.as_ptr().add(self.layout.offset(at)) };
        (start, self.stripe_bytes() - (at & self.layout.mask))
    }

    /// Where hints find these bytes.
    pub(super) fn addresses(&self) -> Addresses {
        Addresses { base: self.base.as_ptr() as usize, layout: self.layout }
    }

    /// Gives the pages of the stripe that starts at `at` back to the system; they read as zeros from now on.
    ///
    /// # Panics
    /// When no stripe starts there.
    pub(super) fn discard(&mut self, at: usize) {
        let (start, len) = self.place(at);
        assert_eq!(len, self.stripe_bytes(), "stripes are discarded as a whole");
        // SAFETY: the stripe is this owner's, who has lent out nothing of it.
        if !unsafe { discard_pages(start, len) } {
            self.tail_mut(at).fill(0);
        }
    }
}

impl fmt::Debug for Stripes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stripes({} bytes of {}, {:?})", self.len, self.reservation.len, self.layout)
    }
}

/// Where an owner's stripes lie, for those who only ask the processor for them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addresses {
    base: usize,
    layout: Layout,
}

impl Addresses {
    /// Asks the processor to fetch the line of byte `at` and the next one.
    #[inline]
    pub(super) fn prefetch_two_lines(self, at: usize) {
        let address = self.base.wrapping_add(self.layout.offset(at));
        prefetch(address as *const u8);
        prefetch(address.wrapping_add(64) as *const u8);
    }
}

/// Stripes of a page each, used as lines of words that many threads may read at any time, whoever writes them.
#[derive(Clone)]
pub(super) struct Words {
    stripes: Arc<Stripes>,
    base: NonNull<AtomicU64>,
    layout: Layout,
    lines: usize,
}

// SAFETY: words are atomics in memory that `stripes` keeps alive.
unsafe impl Send for Words {}
// SAFETY: as above; atomics may be shared.
unsafe impl Sync for Words {}

impl Words {
    /// The words of `stripes`.
    pub(super) fn new(stripes: Stripes) -> Words {
        assert_eq!(stripes.stripe_bytes(), PAGE_BYTES, "words come in stripes of a page");
        let (base, layout) = (stripes.base.cast::<AtomicU64>(), stripes.layout);
        Words {
            lines: stripes.len / (LINE_WORDS * size_of::<u64>()),
            stripes: Arc::new(stripes),
            base,
            layout,
        }
    }

    /// How many lines there are.
    #[inline]
    pub(super) fn lines(&self) -> usize {
        self.lines
    }

    /// The words of line `number`.
    ///
    /// # Panics
    /// When there is no such line.
    #[inline]
    pub(super) fn line(&self, number: usize) -> &[AtomicU64; LINE_WORDS] {
        assert!(number < self.lines, "lines are within the stripes");
        let offset = self.layout.offset(number * LINE_WORDS * size_of::<u64>());
        // SAFETY: the line lies in one of the stripes, which are mapped for as long as `self` lives, start on page
        // boundaries and were given up to `Words` (no slice of bytes of them is ever made); any bits are a valid
        // `AtomicU64`.
        unsafe { self.base.byte_add(offset).cast::<[AtomicU64; LINE_WORDS]>().as_ref() }
    }

    /// Word `number`, counted over all lines.
    ///
    /// # Panics
    /// When there is no such word.
    #[inline]
    pub(super) fn word(&self, number: usize) -> &AtomicU64 {
        assert!(number < self.lines * LINE_WORDS, "words are within the stripes");
        let offset = self.layout.offset(number * size_of::<u64>());
        // SAFETY: as for `line`.
        unsafe { self.base.byte_add(offset).as_ref() }
    }

    /// Asks the processor to fetch line `number`.
    #[inline]
    pub(super) fn prefetch(&self, number: usize) {
        let offset = self.layout.offset(number * LINE_WORDS * size_of::<u64>());
        prefetch(self.base.as_ptr().cast::<u8>().wrapping_add(offset));
    }

    /// Gives pages back to the system; their words read as 0 from now on. To other threads it is as if 0 had been
    /// stored in each.
    ///
    /// # Panics
    /// When there are no such pages.
    pub(super) fn discard(&self, pages: Range<usize>) {
        for page in pages {
            let (start, len) = self.stripes.place(page * PAGE_BYTES);
            // SAFETY: the page is one of the stripes', and atomics may become 0 at any time.
            if !unsafe { discard_pages(start, len) } {
                let lines = (page * PAGE_LINES..(page + 1) * PAGE_LINES).map(|number| self.line(number));
                lines.flatten().for_each(|word| word.store(0, Ordering::Relaxed));
            }
        }
    }
}

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Words({} lines of {:?})", self.lines, self.stripes)
    }
}

/// Makes huge pages of the head of a region that was shared out, as far as all of it is in use.
///
/// A processor finds an item in a huge page without a walk through page tables, which costs about as much as the
/// item itself. But the system must not choose: it would give 2 MB where one page is used, and again after the
/// rest was discarded. So the head that is in use has huge pages, and everything behind has none.
pub(super) struct HugePages {
    reservation: Arc<Reservation>,
    base: NonNull<u8>,
    len: usize,
    /// How long that head is.
    bytes: Mutex<usize>,
}

// SAFETY: it is an address that nothing is read from or written to.
unsafe impl Send for HugePages {}
// SAFETY: as above.
unsafe impl Sync for HugePages {}

impl HugePages {
    /// Has huge pages up to `used_bytes`, at most `steps_max` more than before. Memory below is in use by all its
    /// owners.
    pub(super) fn adjust(&self, used_bytes: usize, steps_max: usize) {
        let used_bytes = used_bytes.min(self.len) / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        if used_bytes < *bytes {
            // What is huge stays so until it is discarded; only the system must not make more.
            self.advise(used_bytes..*bytes, libc::MADV_NOHUGEPAGE);
            *bytes = used_bytes;
        }
        for _ in 0..steps_max {
            if *bytes >= used_bytes {
                break;
            }
            let page = *bytes..*bytes + HUGE_PAGE_BYTES;
            // Older systems do not know the second one, and come round to it themselves after the first.
            self.advise(page.clone(), libc::MADV_HUGEPAGE);
            self.advise(page.clone(), MADV_COLLAPSE);
            *bytes = page.end;
        }
    }

    fn advise(&self, range: Range<usize>, advice: c_int) {
        debug_assert!(range.end <= self.len, "advice is about the region");
        // SAFETY: the range lies in a mapping that lives as long as `reservation`, and how it is backed changes nothing
        // about what it holds. Whether the system follows is its own affair.
        unsafe { libc::madvise(self.base.add(range.start).as_ptr().cast::<c_void>(), range.len(), advice) };
    }
}

impl fmt::Debug for HugePages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HugePages({:?} of {} bytes of {})", self.bytes, self.len, self.reservation.len)
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

/// Gives whole pages of a region back, as [`discard_pages`] does.
#[must_use]
fn discard(base: NonNull<u8>, len: usize, range: Range<usize>) -> bool {
    assert!(range.start <= range.end && range.end <= len, "only pages of the region are discarded");
    assert!(range.start.is_multiple_of(PAGE_BYTES) && range.end.is_multiple_of(PAGE_BYTES), "whole pages");
    // SAFETY: the range was just checked to be whole pages of a live mapping whose owner called.
    range.is_empty() || unsafe { discard_pages(base.as_ptr().add(range.start), range.len()) }
}

/// Gives whole pages back; `false` when the system keeps them: what is to read as zeros must then be written.
///
/// # Safety
/// They are pages of a live private anonymous mapping, and nobody but the caller minds that they read as zeros
/// afterwards.
#[must_use]
unsafe fn discard_pages(start: *mut u8, len: usize) -> bool {
    let start = start.cast::<c_void>();
    // SAFETY: as the caller says; zeros are valid bytes and valid atomics. The second advice, since Linux 5.18, is
    // for pages that are locked (`-k`), which the first leaves alone.
    unsafe {
        libc::madvise(start, len, libc::MADV_DONTNEED) == 0
            || libc::madvise(start, len, libc::MADV_DONTNEED_LOCKED) == 0
    }
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
    fn stripes_are_apart_and_cover_the_region() {
        let (mut all, _) = Region::reserve(17 * PAGE_BYTES).unwrap().share(2, 13);
        assert_eq!(all.len(), 4);
        for (owner, stripes) in all.iter_mut().enumerate() {
            assert_eq!(stripes.len(), 4 * PAGE_BYTES, "two stripes of two pages each");
            stripes.tail_mut(0).fill(owner as u8 + 1);
            stripes.tail_mut(2 * PAGE_BYTES).fill(owner as u8 + 11);
            assert_eq!(stripes.tail(PAGE_BYTES - 1).len(), PAGE_BYTES + 1);
        }
        all[1].copy(10, 100, 2 * PAGE_BYTES + 50);
        all[2].discard(0);
        let whole =
            |stripes: &Stripes| [0, 50, 2 * PAGE_BYTES, 2 * PAGE_BYTES + 50].map(|at| stripes.tail(at)[0]);
        assert_eq!(whole(&all[0]), [1, 1, 11, 11]);
        assert_eq!(whole(&all[1]), [2, 2, 12, 2]);
        assert_eq!(whole(&all[2]), [0, 0, 13, 13]);
        assert_eq!(whole(&all[3]), [4, 4, 14, 14]);
        let first = all[0].base.as_ptr() as usize;
        assert_eq!(all[3].place(2 * PAGE_BYTES).0 as usize - first, 14 * PAGE_BYTES, "they lie in turn");
    }

    #[test]
    fn huge_pages_change_nothing_that_is_held() {
        let mut region = Region::reserve(8 * HUGE_PAGE_BYTES).unwrap();
        region.align().unwrap();
        assert!((region.base.as_ptr() as usize).is_multiple_of(HUGE_PAGE_BYTES));
        let (mut all, huge) = region.split_off(7 * HUGE_PAGE_BYTES).unwrap().share(1, 16);
        for stripes in &mut all {
            (0..stripes.len()).step_by(1 << 16).for_each(|at| stripes.tail_mut(at).fill((at >> 16) as u8));
        }
        for (used, expected) in [(5, 2), (5, 4), (5, 5), (3, 3), (4, 4), (100, 6), (100, 7)] {
            huge.adjust(used * HUGE_PAGE_BYTES + 7, 2);
            assert_eq!(*huge.bytes.lock().unwrap(), expected * HUGE_PAGE_BYTES);
        }
        for stripes in &all {
            assert!((0..stripes.len()).step_by(1000).all(|at| stripes.tail(at)[0] == (at >> 16) as u8));
        }
    }

    #[test]
    #[should_panic(expected = "an owner stays within its stripes")]
    fn nobody_looks_beyond_their_stripes() {
        let (all, _) = Region::reserve(8 * PAGE_BYTES).unwrap().share(1, 12);
        all[0].tail(4 * PAGE_BYTES);
    }

    #[test]
    #[should_panic(expected = "what is copied lies within a stripe")]
    fn nothing_is_copied_into_the_next_owners_stripe() {
        let (mut all, _) = Region::reserve(8 * PAGE_BYTES).unwrap().share(1, 12);
        all[0].copy(0, 100, PAGE_BYTES - 99);
    }

    #[test]
    fn words_are_shared_and_go_back_to_zero() {
        let (mut all, _) = Region::reserve(8 * PAGE_BYTES).unwrap().share(1, 12);
        let words = Words::new(all.remove(1));
        let other = words.clone();
        assert_eq!(words.lines(), 4 * PAGE_LINES);
        words.line(PAGE_LINES + 5)[7].store(9, Ordering::Relaxed);
        words.line(1)[0].store(9, Ordering::Relaxed);
        words.discard(1..2);
        assert_eq!(other.line(PAGE_LINES + 5)[7].load(Ordering::Relaxed), 0);
        assert_eq!(other.line(1)[0].load(Ordering::Relaxed), 9);
    }

    #[test]
    #[should_panic(expected = "only pages of the region")]
    fn nobody_discards_what_is_not_theirs() {
        Region::reserve(PAGE_BYTES).unwrap().discard(0..2 * PAGE_BYTES);
    }
}
