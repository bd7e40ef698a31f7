//! Blocks: where large values lie, who is charged for them, and which of them are kept as spares.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use bytes::Bytes;

use crate::store::budget::Budget;
use crate::store::memory::{End, Filling, PAGE_BYTES, Region};

/// How much memory a large value takes beside its pages, in bytes: its entry in a table, its block, and the handle that
/// its readers share.
const OVERHEAD_BYTES: u64 = 208;

/// Spare blocks may take one part in so many of the memory limit together: as much as those who replace large values at
/// the same time leave behind and are about to need.
const SPARE_PARTS: u64 = 2;

/// The address space of the smallest block, in bytes.
const CLASS_BYTES_MIN: usize = PAGE_BYTES;
/// How many classes there are; the largest has blocks of 2 GiB.
const CLASSES: usize = 20;

/// How many bytes a large value of length `len` is charged.
pub(in crate::store) fn charged_bytes(len: usize) -> u64 {
    len.next_multiple_of(PAGE_BYTES) as u64 + OVERHEAD_BYTES
}

/// Hands out blocks and takes them back. Its lock may be taken under that of a shard; under it no other lock is taken.
#[derive(Debug)]
pub(in crate::store) struct Pool {
    pub(super) budget: Arc<Budget>,
    /// How many bytes are charged for values that are alive, whether a shard or only a reader holds them.
    pub(super) alive: AtomicU64,
    /// How many of these bytes are charged for values of items.
    pub(super) owned: AtomicU64,
    /// How many bytes of pages spare blocks have. Raised before a block becomes a spare, and lowered after it stops
    /// being one.
    pub(super) spare: AtomicU64,
    /// The address space of each class, in bytes.
    pub(super) class_bytes: u64,
    classes: Mutex<Vec<Class>>,
    /// The lent blocks whose requests are being executed: at most [`OFFERED_MAX`](super::upload::OFFERED_MAX).
    pub(super) offered: Mutex<Vec<Arc<Block>>>,
    this: Weak<Pool>,
}

#[derive(Debug)]
pub(super) struct Class {
    pub(super) block_bytes: usize,
    /// Address space that was not handed out yet.
    rest: Region,
    /// Blocks without pages; they cost nothing.
    pub(super) free: Vec<Region>,
    spare: Vec<Spare>,
    /// How many of these nobody has needed since the last sweep.
    idle_spares: usize,
    /// The address space of the blocks that are lent, in bytes.
    pub(super) lent_bytes: u64,
}

/// A free block that still has pages, at its front.
#[derive(Debug)]
pub(in crate::store) struct Spare {
    pub(super) region: Region,
    page_bytes: usize,
}

/// A block with a value in it, or one that is lent.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) pool: Arc<Pool>,
    /// Some, until it is dropped or given back.
    pub(super) filling: Option<Filling>,
    /// Whether it has a value, which is charged; otherwise it is lent.
    pub(super) is_charged: AtomicBool,
}

/// A value of the length that it had when a reader took its handle.
struct Snapshot {
    block: Arc<Block>,
    range: Range<usize>,
}

/// A large value, as the table of a shard has it.
#[derive(Debug)]
pub(in crate::store) struct Large {
    block: Arc<Block>,
    bytes: Bytes,
}

impl Pool {
    /// A pool with `region_bytes` of address space for each class of blocks; `None` when the system refuses.
    pub(in crate::store) fn new(budget: Arc<Budget>, region_bytes: usize) -> Option<Arc<Pool>> {
        let mut all = Region::reserve(region_bytes.next_multiple_of(PAGE_BYTES).checked_mul(CLASSES)?)?;
        let class = |number: usize| {
            let rest = all.split_off(region_bytes)?;
            let block_bytes = CLASS_BYTES_MIN << number;
            Some(Class {
                block_bytes,
                rest,
                free: Vec::new(),
                spare: Vec::new(),
                idle_spares: 0,
                lent_bytes: 0,
            })
        };
        let classes = (0..CLASSES).map(class).collect::<Option<_>>()?;
        Some(Arc::new_cyclic(|this| Pool {
            budget,
            alive: AtomicU64::new(0),
            owned: AtomicU64::new(0),
            spare: AtomicU64::new(0),
            class_bytes: region_bytes as u64,
            classes: Mutex::new(classes),
            offered: Mutex::default(),
            this: this.clone(),
        }))
    }

    /// A value of the bytes of `parts`, one after the other, which can grow at its end `grows_at`. The caller has
    /// charged [`charged_bytes`] of their length, the pages of `spare` included; the charge is refunded when the last
    /// handle is dropped. `None` when the address space is used up.
    pub(in crate::store) fn value(
        &self,
        parts: [&[u8]; 2],
        grows_at: End,
        spare: Option<Spare>,
    ) -> Option<Large> {
        let len = parts[0].len() + parts[1].len();
        let region = match spare {
            Some(spare) => spare.into_region(len),
            None => self
                .take(class(len))
                .or_else(|| self.discard_spares(u64::MAX).then(|| self.take(class(len)))?)?,
        };
        let filling = Filling::new(region, opposite(grows_at));
        filling.write(parts);
        let block = self.block(filling, true);
        self.alive.fetch_add(charged_bytes(len), Ordering::Relaxed); // a plain sum
        Some(Large::of(Arc::new(block), 0..len))
    }

    pub(super) fn block(&self, filling: Filling, is_charged: bool) -> Block {
        let pool = self.this.upgrade().expect("the caller holds the pool");
        Block { pool, filling: Some(filling), is_charged: AtomicBool::new(is_charged) }
    }

    fn take(&self, class: usize) -> Option<Region> {
        self.classes().get_mut(class)?.take()
    }

    /// Adds `more` to an item's `large` at its end `at`, which [can grow](Large::can_grow_by) by that. The caller has
    /// charged the difference.
    pub(in crate::store) fn grow(&self, large: &mut Large, more: &[u8], at: End) {
        assert!(large.can_grow_by(more.len(), at), "the caller has checked");
        let before = charged_bytes(large.bytes.len());
        large.block.filling().write([more, &[]]);
        let len = large.bytes.len() + more.len();
        *large = Large::of(Arc::clone(&large.block), 0..len);
        let bytes = charged_bytes(large.bytes.len()) - before;
        self.alive.fetch_add(bytes, Ordering::Relaxed);
        self.own(bytes);
    }

    /// A spare block for a value of length `len` that can grow at its end `grows_at`, if there is one. Its pages are
    /// charged already, and the charge is the caller's from now on.
    pub(in crate::store) fn spare(&self, len: usize, grows_at: End) -> Option<Spare> {
        if grows_at == End::Front || self.spare_bytes() == 0 {
            return None;
        }
        let spare = self.classes().get_mut(class(len))?.take_spare()?;
        self.spare.fetch_sub(spare.bytes(), Ordering::Relaxed);
        Some(spare)
    }

    /// Takes back `spare`, which the caller did not need, and discards its pages.
    pub(in crate::store) fn discard(&self, spare: Spare) {
        self.budget.refund(spare.bytes());
        let region = spare.into_region(0);
        self.classes()[class_of(&region)].free.push(region);
    }

    /// Discards the pages of spare blocks until `bytes` are refunded; `false` when there were none.
    pub(in crate::store) fn discard_spares(&self, bytes: u64) -> bool {
        if self.spare_bytes() == 0 {
            return false;
        }
        let (mut spares, mut left) = (Vec::new(), bytes);
        for class in self.classes().iter_mut() {
            while left > 0
                && let Some(spare) = class.take_spare()
            {
                left = left.saturating_sub(spare.bytes());
                spares.push(spare);
            }
        }
        self.discard_all(spares);
        true
    }

    /// Discards the pages of the spare blocks that nobody has needed since this was last called.
    pub(in crate::store) fn discard_idle_spares(&self) {
        if self.spare_bytes() > 0 {
            let spares = self.classes().iter_mut().flat_map(Class::take_idle_spares).collect();
            self.discard_all(spares);
        }
    }

    fn discard_all(&self, spares: Vec<Spare>) {
        for spare in spares {
            self.spare.fetch_sub(spare.bytes(), Ordering::Relaxed);
            self.discard(spare);
        }
    }

    /// How many bytes are charged for spare blocks.
    pub(in crate::store) fn spare_bytes(&self) -> u64 {
        self.spare.load(Ordering::Relaxed)
    }

    /// How many bytes are charged for values that are alive.
    pub(in crate::store) fn alive_bytes(&self) -> u64 {
        self.alive.load(Ordering::Relaxed)
    }

    /// Keeps `spare`, whose pages are charged. Returns its region, with the pages discarded, where spares have their
    /// part of memory already, and where memory is short.
    pub(super) fn keep_spare(&self, spare: Spare) -> Result<(), Region> {
        let spares_max = self.budget.limit() / SPARE_PARTS;
        if self.budget.debt() > 0 {
            return Err(spare.into_region(0));
        }
        let mut classes = self.classes();
        if self.spare_bytes() + spare.bytes() > spares_max {
            drop(classes);
            return Err(spare.into_region(0));
        }
        self.spare.fetch_add(spare.bytes(), Ordering::Relaxed);
        classes[class_of(&spare.region)].spare.push(spare);
        Ok(())
    }

    pub(super) fn classes(&self) -> MutexGuard<'_, Vec<Class>> {
        // No code that holds this lock can panic halfway.
        self.classes.lock().unwrap_or_else(|poison| poison.into_inner())
    }
}

impl Large {
    /// The value that lies at `range` of what `block` is filled with.
    pub(super) fn of(block: Arc<Block>, range: Range<usize>) -> Large {
        Large { bytes: Bytes::from_owner(Snapshot { block: Arc::clone(&block), range }), block }
    }

    /// The value. To read it longer, clone the handle.
    #[inline]
    pub(in crate::store) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// How many bytes it is charged.
    pub(in crate::store) fn charged_bytes(&self) -> u64 {
        charged_bytes(self.block.filling().filled())
    }

    /// Whether it can grow by `more` bytes at its end `at` in its block: not if something else lies behind it there.
    pub(in crate::store) fn can_grow_by(&self, more: usize, at: End) -> bool {
        let filling = self.block.filling();
        let is_alone = filling.filled() == self.bytes.len();
        is_alone && opposite(filling.from()) == at && more <= filling.free_bytes()
    }
}

impl Block {
    pub(super) fn filling(&self) -> &Filling {
        self.filling.as_ref().expect("a block has its filling until it is dropped")
    }
}

/// The other end of a value or block.
pub(super) fn opposite(end: End) -> End {
    match end {
        End::Front => End::Back,
        End::Back => End::Front,
    }
}

impl Class {
    pub(super) fn take(&mut self) -> Option<Region> {
        self.free.pop().or_else(|| self.rest.split_off(self.block_bytes))
    }

    /// The spare that was added last, so that the same ones are idle.
    pub(super) fn take_spare(&mut self) -> Option<Spare> {
        let spare = self.spare.pop()?;
        self.idle_spares = self.idle_spares.min(self.spare.len());
        Some(spare)
    }

    /// Those that were idle since this was last called.
    fn take_idle_spares(&mut self) -> Vec<Spare> {
        let idle = self.spare.drain(..self.idle_spares).collect();
        self.idle_spares = self.spare.len();
        idle
    }
}

impl AsRef<[u8]> for Snapshot {
    fn as_ref(&self) -> &[u8] {
        &self.block.filling().bytes(self.range.end)[self.range.start..]
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let Some(filling) = self.filling.take() else { return };
        let (filled, charged) = (filling.filled(), charged_bytes(filling.filled()));
        self.pool.alive.fetch_sub(charged, Ordering::Relaxed);
        let kept = match filling.from() {
            End::Front => self.pool.keep_spare(Spare::new(filling.into_region(), filled)),
            End::Back => Err(filling.into_empty()), // its pages would not suit most values
        };
        if let Err(region) = kept {
            self.pool.classes()[class_of(&region)].free.push(region);
            self.pool.budget.refund(charged);
        } else {
            self.pool.budget.refund(OVERHEAD_BYTES);
        }
    }
}

impl Spare {
    /// A block of which the pages that `bytes` bytes fill are there.
    pub(super) fn new(region: Region, bytes: usize) -> Spare {
        Spare { region, page_bytes: bytes.next_multiple_of(PAGE_BYTES) }
    }

    /// How many bytes of pages it has, which are charged.
    pub(in crate::store) fn bytes(&self) -> u64 {
        self.page_bytes as u64
    }

    /// Discards the pages that a value of length `len` does not fill.
    pub(super) fn trim(&mut self, len: usize) {
        let kept = len.next_multiple_of(PAGE_BYTES).min(self.page_bytes);
        self.region.discard(kept..self.page_bytes);
        self.page_bytes = kept;
    }

    /// Its region, with the pages that a value of length `len` fills; the others are discarded.
    pub(super) fn into_region(mut self, len: usize) -> Region {
        self.trim(len);
        self.region
    }
}

/// The class of blocks for values of length `len`.
pub(super) fn class(len: usize) -> usize {
    len.div_ceil(CLASS_BYTES_MIN).next_power_of_two().trailing_zeros() as usize
}

/// The class of block `region`.
pub(super) fn class_of(region: &Region) -> usize {
    (region.len().trailing_zeros() - CLASS_BYTES_MIN.trailing_zeros()) as usize
}
