//! Blocks: where large values lie, who is charged for them, and which of them are kept as spares.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use bytes::Bytes;

use crate::store::budget::Budget;
use crate::store::memory::{End, Filling, PAGE_BYTES, Region};

/// How much memory a large value takes beside its pages, in bytes: its entry in a table, its block, and the handle that
/// its readers share.
const OVERHEAD_BYTES: u64 = 208;

/// Spare blocks may take one part in so many of the memory limit together.
const SPARE_PARTS: u64 = 16;

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
    alive: AtomicU64,
    /// How many of these bytes are charged for values of items.
    pub(super) owned: AtomicU64,
    /// How many bytes of pages spare blocks have. Raised before a block becomes a spare, and lowered after it stops
    /// being one.
    spare: AtomicU64,
    classes: Mutex<Vec<Class>>,
    this: Weak<Pool>,
}

#[derive(Debug)]
struct Class {
    block_bytes: usize,
    /// Address space that was not handed out yet.
    rest: Region,
    /// Blocks without pages; they cost nothing.
    free: Vec<Region>,
    spare: Vec<Spare>,
}

/// A free block that still has pages, at its front.
#[derive(Debug)]
pub(in crate::store) struct Spare {
    region: Region,
    page_bytes: usize,
}

/// A block with a value in it.
#[derive(Debug)]
struct Block {
    pool: Arc<Pool>,
    /// Some, until it is dropped.
    filling: Option<Filling>,
}

/// A value of the length that it had when a reader took its handle.
struct Snapshot {
    block: Arc<Block>,
    len: usize,
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
            Some(Class { block_bytes: CLASS_BYTES_MIN << number, rest, free: Vec::new(), spare: Vec::new() })
        };
        let classes = (0..CLASSES).map(class).collect::<Option<_>>()?;
        Some(Arc::new_cyclic(|this| Pool {
            budget,
            alive: AtomicU64::new(0),
            owned: AtomicU64::new(0),
            spare: AtomicU64::new(0),
            classes: Mutex::new(classes),
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
            None => {
                self.take(class(len)).or_else(|| self.discard_spares().then(|| self.take(class(len)))?)?
            }
        };
        let filling = Filling::new(region, opposite(grows_at));
        filling.write(parts);
        let pool = self.this.upgrade().expect("the caller holds the pool");
        self.alive.fetch_add(charged_bytes(len), Ordering::Relaxed); // a plain sum
        Some(Large::of(Arc::new(Block { pool, filling: Some(filling) })))
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
        *large = Large::of(Arc::clone(&large.block));
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
        let spare = self.classes().get_mut(class(len))?.spare.pop()?;
        self.spare.fetch_sub(spare.bytes(), Ordering::Relaxed);
        Some(spare)
    }

    /// Takes back `spare`, which the caller did not need, and discards its pages.
    pub(in crate::store) fn discard(&self, spare: Spare) {
        self.budget.refund(spare.bytes());
        let region = spare.into_region(0);
        self.classes()[class_of(&region)].free.push(region);
    }

    /// Discards the pages of all spare blocks; `false` when there were none.
    pub(in crate::store) fn discard_spares(&self) -> bool {
        if self.spare_bytes() == 0 {
            return false;
        }
        let spares: Vec<_> = self.classes().iter_mut().flat_map(|class| class.spare.drain(..)).collect();
        for spare in spares {
            self.spare.fetch_sub(spare.bytes(), Ordering::Relaxed);
            self.discard(spare);
        }
        true
    }

    /// How many bytes are charged for spare blocks.
    pub(in crate::store) fn spare_bytes(&self) -> u64 {
        self.spare.load(Ordering::Relaxed)
    }

    /// How many bytes are charged for values that are alive.
    pub(in crate::store) fn alive_bytes(&self) -> u64 {
        self.alive.load(Ordering::Relaxed)
    }

    /// Keeps the block of `filling` as a spare, with its pages. Returns it where it would not suit most values, where
    /// spares have their part of memory already, and where memory is short.
    fn keep_spare(&self, filling: Filling) -> Result<(), Filling> {
        let page_bytes = filling.filled().next_multiple_of(PAGE_BYTES);
        let spares_max = self.budget.limit() / SPARE_PARTS;
        if filling.from() == End::Back || self.budget.debt() > 0 {
            return Err(filling);
        }
        let mut classes = self.classes();
        if self.spare_bytes() + page_bytes as u64 > spares_max {
            return Err(filling);
        }
        let spare = Spare { region: filling.into_region(), page_bytes };
        self.spare.fetch_add(spare.bytes(), Ordering::Relaxed);
        classes[class_of(&spare.region)].spare.push(spare);
        drop(classes);
        self.budget.refund(OVERHEAD_BYTES);
        Ok(())
    }

    fn classes(&self) -> MutexGuard<'_, Vec<Class>> {
        // No code that holds this lock can panic halfway.
        self.classes.lock().unwrap_or_else(|poison| poison.into_inner())
    }
}

impl Large {
    fn of(block: Arc<Block>) -> Large {
        let len = block.filling().filled();
        Large { bytes: Bytes::from_owner(Snapshot { block: Arc::clone(&block), len }), block }
    }

    /// The value. To read it longer, clone the handle.
    #[inline]
    pub(in crate::store) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Whether it can grow by `more` bytes at its end `at` in its block.
    pub(in crate::store) fn can_grow_by(&self, more: usize, at: End) -> bool {
        let filling = self.block.filling();
        opposite(filling.from()) == at && more <= filling.free_bytes()
    }
}

impl Block {
    fn filling(&self) -> &Filling {
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
    fn take(&mut self) -> Option<Region> {
        self.free.pop().or_else(|| self.rest.split_off(self.block_bytes))
    }
}

impl AsRef<[u8]> for Snapshot {
    fn as_ref(&self) -> &[u8] {
        self.block.filling().bytes(self.len)
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let Some(filling) = self.filling.take() else { return };
        let charged = charged_bytes(filling.filled());
        self.pool.alive.fetch_sub(charged, Ordering::Relaxed);
        if let Err(filling) = self.pool.keep_spare(filling) {
            let region = filling.into_empty();
            self.pool.classes()[class_of(&region)].free.push(region);
            self.pool.budget.refund(charged);
        }
    }
}

impl Spare {
    /// How many bytes of pages it has, which are charged.
    pub(in crate::store) fn bytes(&self) -> u64 {
        self.page_bytes as u64
    }

    /// Its region, with the pages that a value of length `len` fills; the others are discarded.
    fn into_region(self, len: usize) -> Region {
        let Spare { mut region, page_bytes } = self;
        region.discard(len.next_multiple_of(PAGE_BYTES).min(page_bytes)..page_bytes);
        region
    }
}

/// The class of blocks for values of length `len`.
fn class(len: usize) -> usize {
    len.div_ceil(CLASS_BYTES_MIN).next_power_of_two().trailing_zeros() as usize
}

/// The class of block `region`.
fn class_of(region: &Region) -> usize {
    (region.len().trailing_zeros() - CLASS_BYTES_MIN.trailing_zeros()) as usize
}
