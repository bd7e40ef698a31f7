//! Uploads: requests that are read into a block, so that the value in them need not be copied.
//!
//! A long request that comes from a socket is read into a block that the pool *lends*. A lent block is not charged to the
//! budget: the borrower has limits of its own for what has not arrived in full. While the request is executed, its
//! block is *offered*: if a large value that is to be stored lies in an offered block, the block becomes the value's,
//! and its charge is that of all bytes in it. Whoever executes the request passes slices as always; the pool
//! recognizes such a value by its address.
//!
//! The line before the value and the end of line behind it stay in the block, so the value cannot grow there.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};

use crate::store::large::pool::{Block, Large, Pool, Spare, charged_bytes, class, class_of};
use crate::store::memory::{End, Filling, PAGE_BYTES, Region};

/// At most so many blocks are offered at a time; values in others are copied. Each worker offers one.
pub(super) const OFFERED_MAX: usize = 64;

/// A value gets the block that it lies in only if there are at most so many other bytes: the longest line fits.
const BESIDE_BYTES_MAX: usize = PAGE_BYTES;

/// Values take so many times their length of address space at most: a block is less than twice as long.
const ADDRESSES_PER_BYTE: u64 = 2;

/// A block that is lent for a request which has not arrived in full.
///
/// Invariant: `block` is shared only while it is offered, and once a value has it.
#[derive(Debug)]
pub struct Upload {
    block: Arc<Block>,
    /// How many bytes of it may be filled.
    capacity: usize,
    /// How many bytes of pages it had when the request began.
    page_bytes: usize,
}

/// While this lives, a value that lies in the upload can get the upload's block.
#[derive(Debug)]
#[must_use]
pub struct Offer<'u>(&'u Upload);

/// The block in which a value lies, at `range`.
pub(in crate::store) struct Offered {
    block: Arc<Block>,
    range: Range<usize>,
}

impl Pool {
    /// Lends a block for a request of `bytes` bytes, of which at first `capacity` may be filled. `None` when there are no
    /// addresses for it.
    pub(in crate::store) fn lend(&self, bytes: usize, capacity: usize) -> Option<Upload> {
        let spare = self.take_to_lend(bytes, capacity)?;
        let page_bytes = spare.bytes() as usize; // it is no longer than its region
        let filling = Filling::new(spare.into_region(page_bytes), End::Front);
        Some(Upload { block: Arc::new(self.block(filling, false)), capacity, page_bytes })
    }

    /// The offered block in which `value` lies, if there is one.
    pub(in crate::store) fn offered(&self, value: &[u8]) -> Option<Offered> {
        let offered = self.offers();
        offered.iter().find_map(|block| {
            let range = range_in(block.filling().bytes(block.filling().filled()), value)?;
            let is_free = !block.is_charged.load(Ordering::Relaxed);
            is_free.then(|| Offered { block: Arc::clone(block), range })
        })
    }

    /// Makes the block of `offered` the value's that lies in it. The caller has paid its charge.
    pub(in crate::store) fn adopt(&self, offered: Offered) -> Large {
        let Offered { block, range } = offered;
        // Relaxed: until it is dropped, only the thread that offers the block asks.
        block.is_charged.store(true, Ordering::Relaxed);
        self.note_value(block.filling());
        Large::of(block, range)
    }

    /// A block to be lent for a request of `bytes` bytes: a spare one with up to `pages_max` bytes of pages, if there is
    /// one. Its pages are no longer charged. `None` when so many are lent that values might find no addresses.
    fn take_to_lend(&self, bytes: usize, pages_max: usize) -> Option<Spare> {
        let lent_bytes_max = self.lent_bytes_max();
        let mut classes = self.classes();
        let class = classes.get_mut(class(bytes))?;
        let lent_bytes = class.lent_bytes + class.block_bytes as u64;
        if lent_bytes > lent_bytes_max {
            return None;
        }
        let mut spare = match class.take_spare() {
            Some(spare) => spare,
            None => Spare::new(class.take()?, 0),
        };
        class.lent_bytes = lent_bytes;
        drop(classes);
        self.spare.fetch_sub(spare.bytes(), Ordering::Relaxed);
        self.budget.refund(spare.bytes());
        spare.trim(pages_max);
        Some(spare)
    }

    /// How many bytes of a class's address space may be lent: what values cannot need.
    fn lent_bytes_max(&self) -> u64 {
        self.class_bytes.saturating_sub(self.budget.limit().saturating_mul(ADDRESSES_PER_BYTE))
    }

    /// Takes back `lent`, a block that was lent and got no value. It stays as a spare if its pages can be charged.
    fn take_back(&self, lent: Spare) {
        let (class, bytes) = (class_of(&lent.region), lent.bytes());
        self.note_not_lent(&lent.region);
        let region = if bytes > 0 && self.budget.try_charge(bytes) {
            let Err(region) = self.keep_spare(lent) else { return };
            self.budget.refund(bytes);
            region
        } else {
            lent.into_region(0)
        };
        self.classes()[class].free.push(region);
    }

    /// Notes that the block of `filling`, which was lent, has become a value's, whose charge the caller has paid.
    fn note_value(&self, filling: &Filling) {
        self.alive.fetch_add(charged_bytes(filling.filled()), Ordering::Relaxed);
        self.note_not_lent(filling.region());
    }

    fn note_not_lent(&self, region: &Region) {
        self.classes()[class_of(region)].lent_bytes -= region.len() as u64;
    }

    fn offers(&self) -> MutexGuard<'_, Vec<Arc<Block>>> {
        // No code that holds this lock can panic halfway.
        self.offered.lock().unwrap_or_else(|poison| poison.into_inner())
    }
}

impl Offered {
    /// How many bytes the value is to be charged.
    pub(in crate::store) fn charged_bytes(&self) -> u64 {
        charged_bytes(self.block.filling().filled())
    }
}

/// Where in `all` the slice `part` of it lies; `None` if it is no slice of it, or of too small a part.
fn range_in(all: &[u8], part: &[u8]) -> Option<Range<usize>> {
    let start = part.as_ptr().addr().checked_sub(all.as_ptr().addr())?;
    let end = start.checked_add(part.len())?;
    (end <= all.len() && all.len() - part.len() <= BESIDE_BYTES_MAX).then_some(start..end)
}

impl Upload {
    /// What has arrived.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        self.block.filling().bytes(self.block.filling().filled())
    }

    /// How many bytes may be filled: no more pages than these take are resident.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Whether a value has the block: then it is not written to any more.
    pub fn is_taken(&self) -> bool {
        self.block.is_charged.load(Ordering::Relaxed)
    }

    /// Where the next bytes go.
    ///
    /// # Panics
    /// When a value has the block.
    pub fn free_mut(&mut self) -> &mut [u8] {
        let capacity = self.capacity;
        let filling = self.filling_mut();
        let free = capacity - filling.filled();
        &mut filling.free_mut()[..free]
    }

    /// Notes that `bytes` bytes were written to [`Upload::free_mut`].
    ///
    /// # Panics
    /// When there was not as much space, and when a value has the block.
    pub fn advance(&mut self, bytes: usize) {
        self.filling_mut().advance(bytes);
    }

    /// Has up to `capacity` bytes filled. `false` when the block is not as long.
    #[must_use]
    pub fn reserve(&mut self, capacity: usize) -> bool {
        let fits = capacity <= self.block.filling().region().len();
        self.capacity = if fits { capacity } else { self.capacity };
        fits
    }

    /// Offers the block to the value in it.
    pub fn offer(&self) -> Offer<'_> {
        let filled = self.bytes().len().next_multiple_of(PAGE_BYTES);
        let mut offered = self.block.pool.offers();
        // A value is charged for the pages that are filled, so no others may be there.
        if filled >= self.page_bytes && offered.len() < OFFERED_MAX {
            offered.push(Arc::clone(&self.block));
        }
        Offer(self)
    }

    fn filling_mut(&mut self) -> &mut Filling {
        let block = Arc::get_mut(&mut self.block).expect("no value has the block");
        block.filling.as_mut().expect("a block has its filling until it is dropped")
    }
}

impl Drop for Offer<'_> {
    fn drop(&mut self) {
        let block = &self.0.block;
        block.pool.offers().retain(|offered| !Arc::ptr_eq(offered, block));
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if self.is_taken() {
            return;
        }
        let page_bytes = self.page_bytes.max(self.bytes().len());
        let block = Arc::get_mut(&mut self.block).expect("no value has the block");
        if let Some(filling) = block.filling.take() {
            block.pool.take_back(Spare::new(filling.into_region(), page_bytes));
        }
    }
}

#[cfg(test)]
mod tests;
