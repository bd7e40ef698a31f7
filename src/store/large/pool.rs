//! Large values: pages of their own, shared with those who send them.
//!
//! A block is a run of pages in a stretch of address space that is a power of two long, so blocks of one class
//! are interchangeable and nothing fragments but addresses, which are plenty. Readers of a value have [`Bytes`] over its
//! block: whoever holds them can go on reading after the item is gone, and until the last one lets go the pages
//! stay charged to the budget.
//!
//! A value lies at one end of its block. What is appended or prepended at the other end of the value is written into the
//! rest of the block; where that is too short the value moves to a block of the next class. So a value that grows is
//! copied as often as its length doubles, and its readers keep the length that they saw.
//!
//! Pages are dear: to get 1 MB of them anew takes 0.4 ms and to give them back 0.06, while copying it takes 0.04. So a few
//! free blocks keep theirs, as spares for the values that come in the place of those that went. They stay charged, and
//! go back as soon as anybody needs room, and with the next sweep.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use bytes::Bytes;

use crate::store::budget::Budget;
use crate::store::memory::{End, Filling, PAGE_BYTES, Region};

/// What a large value takes beside its pages, in bytes: its place in a table, its block and what readers share of it.
const OVERHEAD_BYTES: u64 = 208;

/// What spare blocks may take together: one part in so many of the memory limit.
const SPARE_PARTS: u64 = 16;

/// The smallest block's address space, in bytes.
const CLASS_BYTES_MIN: usize = PAGE_BYTES;
/// How many classes there are: up to 2 GiB.
const CLASSES: usize = 20;

/// What a large value of `len` bytes is charged.
pub(super) fn charge(len: usize) -> u64 {
    len.next_multiple_of(PAGE_BYTES) as u64 + OVERHEAD_BYTES
}

/// Where blocks come from and go back to. Its lock may be taken under a shard's; nothing is taken under it.
#[derive(Debug)]
pub(super) struct Pool {
    budget: Arc<Budget>,
    /// What is charged for values that are alive, held by a shard or not, in bytes.
    alive: AtomicU64,
    /// What of that belongs to items, in bytes.
    owned: AtomicU64,
    /// The pages of spare blocks, in bytes. Added to before a block becomes a spare, and taken from once it is none.
    spare: AtomicU64,
    classes: Mutex<Vec<Class>>,
    this: Weak<Pool>,
}

#[derive(Debug)]
struct Class {
    block_bytes: usize,
    /// Addresses not handed out yet.
    rest: Region,
    /// Blocks without pages, which cost nothing.
    free: Vec<Region>,
    spare: Vec<Spare>,
}

/// A free block that has pages at its front.
#[derive(Debug)]
pub(super) struct Spare {
    region: Region,
    page_bytes: usize,
}

/// A block with a value in it.
#[derive(Debug)]
struct Block {
    pool: Arc<Pool>,
    /// There until dropped.
    filling: Option<Filling>,
}

/// A value as those see it who began to read it when it had this length.
struct View {
    block: Arc<Block>,
    len: usize,
}

/// A large value of an item.
#[derive(Debug)]
pub(super) struct Large {
    block: Arc<Block>,
    bytes: Bytes,
}

impl Pool {
    /// A pool with `region_bytes` of address space for each class of blocks; `None` when the system refuses.
    pub(super) fn new(budget: Arc<Budget>, region_bytes: usize) -> Option<Arc<Pool>> {
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

    /// A value of the bytes of `parts`, one after the other, with room to grow at its end `grows_at`. The caller has
    /// charged [`charge`] of their length, the pages of `spare` included, and it goes back to the budget with the last
    /// handle. `None` when the address space is used up.
    pub(super) fn value(&self, parts: [&[u8]; 2], grows_at: End, spare: Option<Spare>) -> Option<Large> {
        let len = parts[0].len() + parts[1].len();
        let region = match spare {
            Some(spare) => spare.into_region(len),
            None => {
                self.take(class(len)).or_else(|| self.discard_spares().then(|| self.take(class(len)))?)?
            }
        };
        let filling = Filling::new(region, opposite(grows_at));
        filling.write(parts);
        let pool = self.this.upgrade().expect("whoever calls holds the pool");
        self.alive.fetch_add(charge(len), Ordering::Relaxed); // a plain sum
        Some(Large::of(Arc::new(Block { pool, filling: Some(filling) })))
    }

    fn take(&self, class: usize) -> Option<Region> {
        self.classes().get_mut(class)?.take()
    }

    /// Lets an item's `large` grow by `more` at its end `at`, where it [has room](Large::has_room). The caller has
    /// charged the difference.
    pub(super) fn grow(&self, large: &mut Large, more: &[u8], at: End) {
        assert!(large.has_room(more.len(), at), "whoever calls has looked");
        let before = charge(large.bytes.len());
        large.block.filling().write([more, &[]]);
        *large = Large::of(Arc::clone(&large.block));
        let bytes = charge(large.bytes.len()) - before;
        self.alive.fetch_add(bytes, Ordering::Relaxed);
        self.own(bytes);
    }

    /// A spare block for a value of `len` bytes that is to have room to grow at its end `grows_at`, if there is any. Its
    /// pages are charged, and the caller's from now on.
    pub(super) fn spare(&self, len: usize, grows_at: End) -> Option<Spare> {
        if grows_at == End::Front || self.spare_bytes() == 0 {
            return None;
        }
        let spare = self.classes().get_mut(class(len))?.spare.pop()?;
        self.spare.fetch_sub(spare.charge(), Ordering::Relaxed);
        Some(spare)
    }

    /// Takes back `spare`, which was not needed after all.
    pub(super) fn discard(&self, spare: Spare) {
        self.budget.give_back(spare.charge());
        let region = spare.into_region(0);
        self.classes()[class_of(&region)].free.push(region);
    }

    /// Gives the pages of all spare blocks back, and says whether there were any.
    pub(super) fn discard_spares(&self) -> bool {
        if self.spare_bytes() == 0 {
            return false;
        }
        let spares: Vec<_> = self.classes().iter_mut().flat_map(|class| class.spare.drain(..)).collect();
        for spare in spares {
            self.spare.fetch_sub(spare.charge(), Ordering::Relaxed);
            self.discard(spare);
        }
        true
    }

    /// What is charged for spare blocks, in bytes.
    pub(super) fn spare_bytes(&self) -> u64 {
        self.spare.load(Ordering::Relaxed)
    }

    /// What is charged for values that are alive, in bytes.
    pub(super) fn alive_bytes(&self) -> u64 {
        self.alive.load(Ordering::Relaxed)
    }

    /// Notes that a value of `bytes` has become an item's.
    pub(super) fn own(&self, bytes: u64) {
        self.owned.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Notes that `large` is an item's no more.
    pub(super) fn disown(&self, large: Large) -> Departing {
        let bytes = charge(large.bytes.len());
        self.budget.see_off(bytes);
        self.owned.fetch_sub(bytes, Ordering::Relaxed);
        Departing { large: Some(large), budget: Arc::clone(&self.budget) }
    }

    /// What is charged for values that only readers hold, so that no eviction frees it, in bytes.
    pub(super) fn pinned_bytes(&self) -> u64 {
        let not_pinned = self.owned.load(Ordering::Relaxed) + self.budget.departing();
        self.alive_bytes().saturating_sub(not_pinned)
    }

    fn classes(&self) -> MutexGuard<'_, Vec<Class>> {
        // Nothing in here can panic halfway.
        self.classes.lock().unwrap_or_else(|poison| poison.into_inner())
    }
}

/// A value that no item has any more, until whoever took it from there lets it go, outside of locks if possible.
/// Meanwhile it counts as free: a flush, say, has megabytes of them for a moment.
#[derive(Debug)]
#[must_use = "dropping it may take a while"]
pub(super) struct Departing {
    /// There until dropped.
    large: Option<Large>,
    budget: Arc<Budget>,
}

impl Drop for Departing {
    fn drop(&mut self) {
        let Some(large) = self.large.take() else { return };
        let bytes = charge(large.bytes.len());
        drop(large);
        self.budget.departed(bytes);
    }
}

impl Large {
    fn of(block: Arc<Block>) -> Large {
        let len = block.filling().filled();
        Large { bytes: Bytes::from_owner(View { block: Arc::clone(&block), len }), block }
    }

    /// The value, to be read and shared.
    #[inline]
    pub(super) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Whether it can grow by `more` bytes at its end `at` without being moved.
    pub(super) fn has_room(&self, more: usize, at: End) -> bool {
        let filling = self.block.filling();
        opposite(filling.from()) == at && more <= filling.room()
    }
}

impl Block {
    fn filling(&self) -> &Filling {
        self.filling.as_ref().expect("it is there until it is dropped")
    }
}

/// The other end.
fn opposite(end: End) -> End {
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

impl AsRef<[u8]> for View {
    fn as_ref(&self) -> &[u8] {
        self.block.filling().bytes(self.len)
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let Some(filling) = self.filling.take() else { return };
        let charge = charge(filling.filled());
        self.pool.alive.fetch_sub(charge, Ordering::Relaxed);
        if let Err(filling) = self.pool.keep_spare(filling) {
            let region = filling.into_empty();
            self.pool.classes()[class_of(&region)].free.push(region);
            self.pool.budget.give_back(charge);
        }
    }
}

impl Pool {
    /// Keeps what `filling` fills as a spare block, with its pages; unless it cannot be used for most values, or nothing
    /// is to be spared.
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
        self.spare.fetch_add(spare.charge(), Ordering::Relaxed);
        classes[class_of(&spare.region)].spare.push(spare);
        drop(classes);
        self.budget.give_back(OVERHEAD_BYTES);
        Ok(())
    }
}

impl Spare {
    /// What its pages are charged, in bytes.
    pub(super) fn charge(&self) -> u64 {
        self.page_bytes as u64
    }

    /// Its region, of whose pages those stay that a value of `len` bytes fills.
    fn into_region(self, len: usize) -> Region {
        let Spare { mut region, page_bytes } = self;
        region.discard(len.next_multiple_of(PAGE_BYTES).min(page_bytes)..page_bytes);
        region
    }
}

/// The number of the class of blocks for values of `len` bytes.
fn class(len: usize) -> usize {
    len.div_ceil(CLASS_BYTES_MIN).next_power_of_two().trailing_zeros() as usize
}

/// The number of the class that block `region` is of.
fn class_of(region: &Region) -> usize {
    (region.len().trailing_zeros() - CLASS_BYTES_MIN.trailing_zeros()) as usize
}

/// One shard's large values, by number.
#[derive(Debug, Default)]
pub(super) struct Table {
    values: Vec<Option<Large>>,
    free: Vec<u32>,
}

impl Table {
    /// Keeps `value`; returns its number.
    pub(super) fn insert(&mut self, value: Large) -> u32 {
        if let Some(number) = self.free.pop() {
            self.values[number as usize] = Some(value);
            return number;
        }
        self.values.push(Some(value));
        u32::try_from(self.values.len() - 1).expect("large values are far fewer than 2^32")
    }

    #[inline]
    pub(super) fn value(&self, number: u32) -> &Bytes {
        self.large(number).bytes()
    }

    #[inline]
    pub(super) fn large(&self, number: u32) -> &Large {
        self.values[number as usize].as_ref().expect("items name values there are")
    }

    pub(super) fn large_mut(&mut self, number: u32) -> &mut Large {
        self.values[number as usize].as_mut().expect("items name values there are")
    }

    pub(super) fn remove(&mut self, number: u32) -> Large {
        self.free.push(number);
        self.values[number as usize].take().expect("items name values there are")
    }

    /// Takes all values out.
    pub(super) fn clear(&mut self) -> impl Iterator<Item = Large> + use<> {
        std::mem::take(self).values.into_iter().flatten()
    }

    /// How many values there are.
    pub(super) fn len(&self) -> usize {
        self.values.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests;
