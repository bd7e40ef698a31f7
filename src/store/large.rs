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

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use bytes::Bytes;

use super::budget::Budget;
use super::memory::{End, Filling, PAGE_BYTES, Region};

/// What a large value takes beside its pages, in bytes: its place in a table, its block and what readers share of it.
const OVERHEAD_BYTES: u64 = 208;

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
    /// Free blocks have no pages and cost nothing.
    classes: Mutex<Vec<Class>>,
    this: Weak<Pool>,
}

#[derive(Debug)]
struct Class {
    block_bytes: usize,
    /// Addresses not handed out yet.
    rest: Region,
    free: Vec<Region>,
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
            Some(Class { block_bytes: CLASS_BYTES_MIN << number, rest, free: Vec::new() })
        };
        let classes = (0..CLASSES).map(class).collect::<Option<_>>()?;
        Some(Arc::new_cyclic(|this| Pool {
            budget,
            alive: AtomicU64::new(0),
            owned: AtomicU64::new(0),
            classes: Mutex::new(classes),
            this: this.clone(),
        }))
    }

    /// A value of the bytes of `parts`, one after the other, with room to grow at its end `grows_at`. The caller has
    /// charged [`charge`] of their length, which goes back to the budget with the last handle. `None` when the address
    /// space is used up.
    pub(super) fn value(&self, parts: [&[u8]; 2], grows_at: End) -> Option<Large> {
        let len = parts[0].len() + parts[1].len();
        let class = len.div_ceil(CLASS_BYTES_MIN).next_power_of_two().trailing_zeros() as usize;
        let region = self.classes().get_mut(class)?.take()?;
        let filling = Filling::new(region, opposite(grows_at));
        filling.write(parts);
        let pool = self.this.upgrade().expect("whoever calls holds the pool");
        self.alive.fetch_add(charge(len), Ordering::Relaxed); // a plain sum
        Some(Large::of(Arc::new(Block { pool, filling: Some(filling) })))
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
        let region = filling.into_empty();
        let class = region.len().trailing_zeros() - CLASS_BYTES_MIN.trailing_zeros();
        self.pool.classes()[class as usize].free.push(region);
        self.pool.alive.fetch_sub(charge, Ordering::Relaxed);
        self.pool.budget.give_back(charge);
    }
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
mod tests {
    use super::*;

    #[test]
    fn a_value_is_charged_until_the_last_reader_lets_go() {
        let budget = Arc::new(Budget::new(1 << 20, 1));
        let pool = Pool::new(Arc::clone(&budget), 16 << 20).unwrap();
        for len in [1, 4096, 4097, 100_000, 1_000_000] {
            let content: Vec<u8> = (0..len).map(|at| at as u8).collect();
            budget.take(charge(len));
            let value = pool.value([&content[..len / 3], &content[len / 3..]], End::Back).unwrap();
            let reader = value.bytes().clone();
            drop(value);
            assert_eq!(reader, content);
            assert_eq!(budget.used(), charge(len));
            drop(reader);
            assert_eq!(budget.used(), 0);
        }
    }

    #[test]
    fn what_no_item_has_any_more_is_pinned_once_only_readers_hold_it() {
        let budget = Arc::new(Budget::new(1 << 20, 1));
        let pool = Pool::new(Arc::clone(&budget), 16 << 20).unwrap();
        let bytes = charge(100_000);
        budget.take(bytes);
        let value = pool.value([&[1; 100_000], &[]], End::Back).unwrap();
        pool.own(bytes);
        let reader = value.bytes().clone();
        assert_eq!(pool.pinned_bytes(), 0);
        let departing = pool.disown(value);
        assert_eq!(pool.pinned_bytes(), 0, "it may be gone in a moment");
        assert!(budget.may_overdraw((1 << 20) - bytes) && budget.may_overdraw(1 << 20));
        drop(departing);
        assert_eq!(pool.pinned_bytes(), bytes);
        assert!(!budget.may_overdraw(1 << 20));
        drop(reader);
        assert_eq!((pool.pinned_bytes(), budget.used()), (0, 0));
    }

    #[test]
    fn addresses_are_used_again() {
        let budget = Arc::new(Budget::new(1 << 20, 1));
        let pool = Pool::new(Arc::clone(&budget), 64 << 10).unwrap();
        for _ in 0..100 {
            budget.take(3 * charge(20_000));
            let values = [(); 3].map(|()| pool.value([&[1; 20_000], &[]], End::Back));
            assert_eq!(values.iter().flatten().count(), 2, "two blocks of 32 KiB fit in 64 KiB");
            budget.give_back(charge(20_000));
        }
        assert!(pool.value([&[0; 3 << 20], &[]], End::Back).is_none(), "the class has no block that long");
    }

    #[test]
    fn a_value_grows_in_its_block_while_readers_keep_what_they_saw() {
        for (grows_at, grown) in [(End::Back, "oldnew"), (End::Front, "newold")] {
            let budget = Arc::new(Budget::new(1 << 20, 1));
            let pool = Pool::new(Arc::clone(&budget), 16 << 20).unwrap();
            budget.take(charge(6));
            let mut value = pool.value([b"o", b"ld"], grows_at).unwrap();
            pool.own(charge(3));
            let reader = value.bytes().clone();
            assert!(!value.has_room(1, opposite(grows_at)), "there it lies at the end of its block");
            assert!(value.has_room(PAGE_BYTES - 3, grows_at) && !value.has_room(PAGE_BYTES - 2, grows_at));
            pool.grow(&mut value, b"new", grows_at);
            assert_eq!((&reader[..], &value.bytes()[..]), (&b"old"[..], grown.as_bytes()));
            drop(pool.disown(value));
            assert_eq!(pool.pinned_bytes(), charge(6), "whoever saw a part of it keeps all of it");
            drop(reader);
            assert_eq!((pool.alive_bytes(), budget.used()), (0, 0));
        }
    }

    #[test]
    fn numbers_are_used_again() {
        let budget = Arc::new(Budget::new(1 << 20, 1));
        let pool = Pool::new(Arc::clone(&budget), 16 << 20).unwrap();
        budget.take(2 * charge(1));
        let mut table = Table::default();
        let number = table.insert(pool.value([b"a", b""], End::Back).unwrap());
        assert_eq!(table.remove(number).bytes(), &b"a"[..]);
        assert_eq!(table.insert(pool.value([b"b", b""], End::Back).unwrap()), number);
        assert_eq!(table.value(number), &b"b"[..]);
        assert_eq!((table.len(), table.clear().count(), table.len()), (1, 1, 0));
    }
}
