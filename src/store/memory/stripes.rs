//! A region that several owners have together: each has every n-th stripe of it.

use std::fmt;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::store::memory::huge::{HUGE_PAGE_BYTES, HugePages};
use crate::store::memory::region::{PAGE_BYTES, Region, Reservation, discard_pages};

/// Words of a cache line of 64 bytes.
pub(in crate::store) const LINE_WORDS: usize = 8;
/// Lines of a page.
pub(in crate::store) const PAGE_LINES: usize = PAGE_BYTES / (LINE_WORDS * size_of::<u64>());
/// The length of a stripe of [`Words`], in bytes: long enough for few calls to give it back.
pub(in crate::store) const WORDS_STRIPE_BYTES: usize = 64 << 10;

impl Region {
    /// Cuts the head off, so that the region starts at the boundary of a huge page; `None` when it is too short.
    pub(in crate::store) fn align(&mut self) -> Option<()> {
        let past = self.base.as_ptr() as usize % HUGE_PAGE_BYTES;
        self.split_off((HUGE_PAGE_BYTES - past) % HUGE_PAGE_BYTES).map(|_| ())
    }

    /// Divides the region among `1 << owners_shift` owners, in stripes of `1 << stripe_shift` bytes in turn, the same
    /// number for each. Also returns the handle that makes huge pages of it.
    pub(in crate::store) fn into_stripes(
        self,
        owners_shift: u32,
        stripe_shift: u32,
    ) -> (Vec<Stripes>, HugePages) {
        assert!(stripe_shift >= PAGE_BYTES.trailing_zeros(), "stripes are whole pages");
        let len = (self.len >> (owners_shift + stripe_shift)) << stripe_shift;
        let stripes = |owner: usize| {
            let striping = Striping { mask: (1 << stripe_shift) - 1, owners_shift };
            // SAFETY: the first stripe of each owner lies within the region if there are any; if there are none, the
            // address is the region's own, and nothing is read or written there.
            let base = if len == 0 { self.base } else { unsafe { self.base.add(owner << stripe_shift) } };
            Stripes { reservation: Arc::clone(&self.reservation), base, striping, len }
        };
        let all = (0..1 << owners_shift).map(stripes).collect();
        (all, HugePages::none_yet(self))
    }
}

/// Where an owner's stripes lie among those of the other owners.
#[derive(Clone, Copy, Debug)]
struct Striping {
    /// The length of a stripe, a power of two, less one.
    mask: usize,
    owners_shift: u32,
}

impl Striping {
    /// The distance of the owner's byte `at` from its first stripe, in bytes.
    #[inline]
    fn offset(self, at: usize) -> usize {
        let within = at & self.mask;
        ((at - within) << self.owners_shift) + within
    }
}

/// One owner's stripes of a region. The owner addresses them as bytes from 0 to `len`; a slice never reaches beyond its
/// stripe. Invariant: no two owners have a stripe in common.
pub(in crate::store) struct Stripes {
    reservation: Arc<Reservation>,
    base: NonNull<u8>,
    striping: Striping,
    len: usize,
}

// SAFETY: stripes have one owner, as a `Box<[u8]>` has.
unsafe impl Send for Stripes {}
// SAFETY: shared stripes give out shared slices only, as a `Box<[u8]>` would.
unsafe impl Sync for Stripes {}

impl Stripes {
    /// Their length in all, in bytes.
    #[inline]
    pub(in crate::store) fn len(&self) -> usize {
        self.len
    }

    /// The length of each, in bytes.
    pub(in crate::store) fn stripe_bytes(&self) -> usize {
        self.striping.mask + 1
    }

    /// The bytes from `at` to the end of its stripe.
    ///
    /// # Panics
    /// When the owner has no such byte.
    #[inline]
    pub(in crate::store) fn tail(&self, at: usize) -> &[u8] {
        let (start, len) = self.address(at);
        // SAFETY: the range is the end of one stripe of this owner, mapped readable for as long as the reservation
        // lives; writing needs `&mut self`, so it cannot change while this borrow lasts.
        unsafe { std::slice::from_raw_parts(start, len) }
    }

    /// The same bytes, to be written to.
    ///
    /// # Panics
    /// As [`Stripes::tail`].
    #[inline]
    pub(in crate::store) fn tail_mut(&mut self, at: usize) -> &mut [u8] {
        let (start, len) = self.address(at);
        // SAFETY: as for `tail`, mapped writable too, and `&mut self` on the only owner makes this the only
        // reference.
        unsafe { std::slice::from_raw_parts_mut(start, len) }
    }

    /// Copies `len` bytes from `from` to `to`, each within a stripe; they may overlap.
    ///
    /// # Panics
    /// When either reaches beyond its stripe.
    #[inline]
    pub(in crate::store) fn copy(&mut self, from: usize, len: usize, to: usize) {
        let ((from, from_len), (to, to_len)) = (self.address(from), self.address(to));
        assert!(len <= from_len && len <= to_len, "a copy stays within a stripe");
        // SAFETY: both ranges were just checked to lie in stripes of this owner, on which `&mut self` is the only
        // reference; `copy` allows them to overlap.
        unsafe { std::ptr::copy(from, to, len) }
    }

    /// The address of byte `at`, and how many bytes there are from it to the end of its stripe.
    #[inline]
    fn address(&self, at: usize) -> (*mut u8, usize) {
        if at >= self.len {
            beyond_stripes();
        }
        // SAFETY: `at` lies in one of the owner's stripes, so its offset lies in the region they were cut from.
        let start = unsafe { self.base.as_ptr().add(self.striping.offset(at)) };
        (start, self.stripe_bytes() - (at & self.striping.mask))
    }

    /// Where these bytes lie, for prefetching.
    pub(in crate::store) fn addresses(&self) -> Addresses {
        Addresses { base: self.base.as_ptr() as usize, striping: self.striping }
    }

    /// Discards the pages of the stripe that starts at `at`; they read as zeros from now on.
    ///
    /// # Panics
    /// When no stripe starts there.
    pub(in crate::store) fn discard(&mut self, at: usize) {
        let (start, len) = self.address(at);
        assert_eq!(len, self.stripe_bytes(), "stripes are discarded as a whole");
        // SAFETY: `&mut self` on the only owner makes this the only reference to the stripe.
        if !unsafe { discard_pages(start, len) } {
            self.tail_mut(at).fill(0);
        }
    }
}

impl fmt::Debug for Stripes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stripes({} bytes of {}, {:?})", self.len, self.reservation.len, self.striping)
    }
}

/// Where an owner's stripes lie, for prefetching: they are not read through it.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Addresses {
    base: usize,
    striping: Striping,
}

impl Addresses {
    /// Prefetches the line of byte `at` and the next one.
    #[inline]
    pub(in crate::store) fn prefetch_two_lines(self, at: usize) {
        let address = self.base.wrapping_add(self.striping.offset(at));
        prefetch(std::ptr::without_provenance(address));
        prefetch(std::ptr::without_provenance(address.wrapping_add(64)));
    }
}

/// Stripes of [`WORDS_STRIPE_BYTES`], used as lines of words. Threads may read words at any time, also while another
/// thread writes them.
#[derive(Clone)]
pub(in crate::store) struct Words {
    stripes: Arc<Stripes>,
    base: NonNull<AtomicU64>,
    lines: u32,
    owners_shift: u32,
}

// SAFETY: words are atomics in memory that `stripes` keeps alive.
unsafe impl Send for Words {}
// SAFETY: as above; atomics may be shared.
unsafe impl Sync for Words {}

impl Words {
    /// The words in `stripes`.
    pub(in crate::store) fn new(stripes: Stripes) -> Words {
        assert_eq!(stripes.stripe_bytes(), WORDS_STRIPE_BYTES, "words come in stripes of their own length");
        let lines =
            u32::try_from(stripes.len / (LINE_WORDS * size_of::<u64>())).expect("fewer than 2^32 lines");
        let (base, owners_shift) = (stripes.base.cast::<AtomicU64>(), stripes.striping.owners_shift);
        Words { stripes: Arc::new(stripes), base, lines, owners_shift }
    }

    /// The distance of the word that starts at `byte` from the first one, in bytes.
    #[inline]
    fn offset(&self, byte: usize) -> usize {
        // The length of a stripe is a constant, so that a `View` fits a cache line.
        Striping { mask: WORDS_STRIPE_BYTES - 1, owners_shift: self.owners_shift }.offset(byte)
    }

    /// How many lines there are.
    #[inline]
    pub(in crate::store) fn lines(&self) -> usize {
        self.lines as usize
    }

    /// The words of line `number`.
    ///
    /// # Panics
    /// When there is no such line.
    #[inline]
    pub(in crate::store) fn line(&self, number: usize) -> &[AtomicU64; LINE_WORDS] {
        if number >= self.lines() {
            beyond_lines();
        }
        let offset = self.offset(number * LINE_WORDS * size_of::<u64>());
        // SAFETY: the line lies in one of the stripes, which are mapped for as long as `self` lives, start on page
        // boundaries and belong to `Words` alone (no slice of bytes of them is ever made); any bits are a valid
        // `AtomicU64`.
        unsafe { self.base.byte_add(offset).cast::<[AtomicU64; LINE_WORDS]>().as_ref() }
    }

    /// Word `number`, counted over all lines.
    ///
    /// # Panics
    /// When there is no such word.
    #[inline]
    pub(in crate::store) fn word(&self, number: usize) -> &AtomicU64 {
        if number >= self.lines() * LINE_WORDS {
            beyond_words();
        }
        let offset = self.offset(number * size_of::<u64>());
        // SAFETY: as for `line`.
        unsafe { self.base.byte_add(offset).as_ref() }
    }

    /// Prefetches line `number`.
    #[inline]
    pub(in crate::store) fn prefetch(&self, number: usize) {
        let offset = self.offset(number * LINE_WORDS * size_of::<u64>());
        prefetch(self.base.as_ptr().cast::<u8>().wrapping_add(offset));
    }

    /// Discards `pages`; their words read as 0 from now on. To other threads it is as if 0 had been stored in each.
    ///
    /// # Panics
    /// When there are no such pages.
    pub(in crate::store) fn discard(&self, pages: Range<usize>) {
        let (mut at, end) = (pages.start * PAGE_BYTES, pages.end * PAGE_BYTES);
        while at < end {
            let (start, stripe_rest) = self.stripes.address(at);
            let len = stripe_rest.min(end - at);
            // SAFETY: the pages are within one of the stripes, and atomics may become 0 at any time.
            if !unsafe { discard_pages(start, len) } {
                let lines = (at / PAGE_BYTES * PAGE_LINES..(at + len) / PAGE_BYTES * PAGE_LINES)
                    .map(|number| self.line(number));
                lines.flatten().for_each(|word| word.store(0, Ordering::Relaxed));
            }
            at += len;
        }
    }
}

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Words({} lines of {:?})", self.lines, self.stripes)
    }
}

/// Prefetches the line at `address`. It has no other effect, so any address will do, mapped or not.
#[inline]
fn prefetch(address: *const u8) {
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

// The panics of checks that every look-up makes. Written as `assert!` there, several of them share a call of the panic, and
// every look-up puts its arguments on the stack beforehand.

#[cold]
#[inline(never)]
fn beyond_stripes() -> ! {
    panic!("an owner stays within its stripes");
}

#[cold]
#[inline(never)]
fn beyond_lines() -> ! {
    panic!("lines are within the stripes");
}

#[cold]
#[inline(never)]
fn beyond_words() -> ! {
    panic!("words are within the stripes");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stripes_are_apart_and_cover_the_region() {
        let (mut all, _) = Region::reserve(17 * PAGE_BYTES).unwrap().into_stripes(2, 13);
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
        assert_eq!(all[3].address(2 * PAGE_BYTES).0 as usize - first, 14 * PAGE_BYTES, "they lie in turn");
    }

    #[test]
    #[should_panic(expected = "an owner stays within its stripes")]
    fn an_owner_reads_nothing_beyond_its_stripes() {
        let (all, _) = Region::reserve(8 * PAGE_BYTES).unwrap().into_stripes(1, 12);
        all[0].tail(4 * PAGE_BYTES);
    }

    #[test]
    #[should_panic(expected = "a copy stays within a stripe")]
    fn nothing_is_copied_into_the_next_owners_stripe() {
        let (mut all, _) = Region::reserve(8 * PAGE_BYTES).unwrap().into_stripes(1, 12);
        all[0].copy(0, 100, PAGE_BYTES - 99);
    }

    #[test]
    fn words_are_shared_and_go_back_to_zero() {
        let (mut all, _) = Region::reserve(4 * WORDS_STRIPE_BYTES).unwrap().into_stripes(1, 16);
        let words = Words::new(all.remove(1));
        let other = words.clone();
        assert_eq!(words.lines(), 32 * PAGE_LINES);
        words.line(PAGE_LINES + 5)[7].store(9, Ordering::Relaxed);
        words.word((16 * PAGE_LINES + 1) * LINE_WORDS).store(9, Ordering::Relaxed);
        words.line(1)[0].store(9, Ordering::Relaxed);
        words.discard(1..17);
        assert_eq!(words.line(16 * PAGE_LINES + 1)[0].load(Ordering::Relaxed), 0);
        assert_eq!(other.line(PAGE_LINES + 5)[7].load(Ordering::Relaxed), 0);
        assert_eq!(other.line(1)[0].load(Ordering::Relaxed), 9);
    }
}
