//! The store: shards, each behind a lock.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::clock::Tick;
use crate::store::evicted_keys::Eviction;
use crate::store::hint::{Hashed, View};
use crate::store::item::{Access, Change, Lookup, NoMemory};
use crate::store::memory::HugePages;
use crate::store::shard::{self, Common, Shard};

/// What a store is made of.
#[derive(Clone, Copy, Debug)]
pub struct StoreConfig {
    /// How many bytes items and their index may take.
    pub memory_bytes: u64,
    /// Whether items may be evicted to make room.
    pub evictions_enabled: bool,
    /// How many threads will use the store.
    pub workers: usize,
}

/// Totals over all shards; the names are those of `stats`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Items held, dead ones not found yet included.
    pub items: u64,
    /// Bytes they take, headers included.
    pub bytes: u64,
    /// Items stored since the last reset; a value changed in its place is none.
    pub total_items: u64,
    /// Live items dropped for room.
    pub evictions: u64,
    /// Of those, never read.
    pub evicted_unfetched: u64,
    /// Of those, read not long before.
    pub evicted_active: u64,
    /// Of those, with a deadline.
    pub evicted_nonzero: u64,
    /// How long before its eviction the last one was last accessed, in seconds: the longest of all shards.
    pub evicted_idle_seconds: u64,
    /// Items that died of age without ever being read.
    pub expired_unfetched: u64,
    /// Dead items whose memory was taken back when room was needed.
    pub reclaimed: u64,
    /// Dead items found by the background sweep.
    pub swept: u64,
    /// Items the background sweep looked at.
    pub sweep_checked: u64,
    /// Bytes taken for items, used or not: their segments, and large values by the page.
    pub held_bytes: u64,
    /// Flushes by prefix whose items are not all found yet.
    pub flushes_waiting: u64,
    /// Bytes of the index.
    pub index_bytes: u64,
    /// The base-2 logarithm of the number of places in the index.
    pub index_power: u64,
}

/// A sharded, bounded, expiring map from keys to items.
///
/// ```
/// use ferrocached::clock::{Deadline, Tick};
/// use ferrocached::store::*;
///
/// let store = Store::new(StoreConfig {
///     memory_bytes: 64 << 20,
///     evictions_enabled: true,
///     workers: 1,
/// });
/// let hash = store.hash(b"greeting");
/// let draft = Draft {
///     content: Content::Whole(b"hello"),
///     flags: 0,
///     deadline: Deadline::NEVER,
///     cas: Cas::Next,
///     marks: Marks::default(),
/// };
/// store.update(hash, b"greeting", Tick(1), |_| (Change::Put(draft), ())).1.unwrap();
/// let length = store.read(hash, b"greeting", Tick(1), Access::Use, |found| {
///     found.item().map(|item| item.value.len())
/// });
/// assert_eq!(length, Some(5));
/// ```
#[derive(Debug)]
pub struct Store {
    pub(super) common: Common,
    pub(super) views: Arc<[View]>,
    pub(super) shards: Box<[CacheLine<Mutex<Shard>>]>,
    /// Those of the items, and those of the index.
    pub(super) huge_pages: [HugePages; 2],
    /// How many bytes of items there are addresses for.
    pub(super) memory_bytes_max: u64,
    /// The shard that the next sweep begins with.
    pub(super) next_swept: AtomicUsize,
    /// How far a hash is shifted to choose a shard by its top bits.
    pub(super) shard_shift: u32,
    /// Held while a flush by prefix is taken in.
    pub(super) flushing: Mutex<()>,
}

/// Keeps two shards' locks out of one cache line, so that neighbours do not slow each other.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct CacheLine<T>(pub(super) T);

impl Store {
    /// The keyed hash of `key`, which [`Store::read`] and [`Store::update`] want beside the key itself.
    #[inline]
    pub fn hash(&self, key: &[u8]) -> Hashed {
        let hash = shard::hash(&self.common.hasher, key);
        // The top bits, which the index inside a shard does not use.
        let shard = hash.checked_shr(self.shard_shift).unwrap_or(0);
        Hashed::new(hash, shard as u32) // there are not so many shards
    }

    /// Asks the processor for the index line of `key`, so that it is there when the key is looked up some
    /// hundred nanoseconds later. It takes no lock and means nothing: it may be left out.
    #[inline]
    pub fn hint_index(&self, key: &mut Hashed) {
        self.views[key.shard as usize].hint_index(key);
    }

    /// Asks the processor for the item that the index line of `key` names, once [`Store::hint_index`] has had
    /// time to bring that. It takes no lock and means nothing, but makes the look-up shorter. `true` when there
    /// is another line to look at: the item is asked for by another call, after some time.
    #[inline(always)]
    #[must_use]
    pub fn hint_item(&self, key: &mut Hashed) -> bool {
        self.views[key.shard as usize].hint_item(key)
    }

    /// Shows what is under `key` at `now` to `look`.
    #[inline]
    pub fn read<R>(
        &self,
        hashed: Hashed,
        key: &[u8],
        now: Tick,
        access: Access,
        look: impl FnOnce(Lookup<'_>) -> R,
    ) -> R {
        let mut shard = self.lock(hashed.shard as usize);
        let result = shard.read(hashed, key, now, access, look);
        release(shard);
        result
    }

    /// Shows what is under `key` at `now` to `decide` and does what it says, as one step that nobody can come
    /// between. The second value is the CAS id of the item there is now (0 if there is none).
    ///
    /// # Errors
    /// [`NoMemory`]: there is no room for the draft. The item that was there stays as it was.
    #[inline]
    pub fn update<'c, R>(
        &self,
        hashed: Hashed,
        key: &[u8],
        now: Tick,
        decide: impl FnOnce(Lookup<'_>) -> (Change<'c>, R),
    ) -> (R, Result<u64, NoMemory>) {
        let mut shard = self.lock(hashed.shard as usize);
        let outcome = shard.update(hashed, key, now, decide);
        let overdrawn = std::mem::take(&mut shard.overdrawn);
        release(shard);
        if overdrawn > 0 {
            // Two more, for what giving way itself may take.
            self.settle(now, overdrawn / self.common.segment_bytes as u64 + 2);
        }
        outcome
    }

    /// Drops everything stored so far. Memory goes back to the system with the next sweeps.
    pub fn flush(&self) {
        for number in 0..self.shards.len() {
            let mut shard = self.lock(number);
            shard.clear();
            release(shard);
        }
    }

    /// Sets the memory limit, in bytes; what no longer fits is evicted by the next sweeps. `false`, and nothing
    /// done, when that is more than addresses were reserved for.
    #[must_use]
    pub fn set_memory_bytes(&self, memory_bytes: u64) -> bool {
        let fits = memory_bytes <= self.memory_bytes_max;
        if fits {
            self.common.budget.set_limit(memory_bytes);
        }
        fits
    }

    /// Makes no huge pages from now on. They are made whatever the system's own policy for them is, so whoever knows
    /// that the operator wants none has to say so.
    pub fn refuse_huge_pages(&self) {
        self.huge_pages.iter().for_each(HugePages::refuse);
    }

    /// The memory limit, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        self.common.budget.limit()
    }

    /// How much more is charged for values that no item has any more and somebody still holds, in bytes, than a quarter
    /// of the memory limit. Whoever lends values out is to have them let go of then. (From half of the limit on large
    /// values are refused, so the other half is there for everybody's items whatever happens.)
    pub fn pinned_excess_bytes(&self) -> u64 {
        self.common.pool.pinned_bytes().saturating_sub(self.common.budget.limit() / PINNED_PARTS)
    }

    /// Looks for dead items, one bounded slice of every shard, and tidies up. To be called about every tick,
    /// or else [`Store::tidy`].
    pub fn sweep(&self, now: Tick) {
        let count = self.shards.len();
        let first = self.next_swept.load(Ordering::Relaxed);
        let mut segments_left = (SWEEP_BYTES_MAX / self.common.segment_bytes).max(count);
        for number in (first..first + count).map(|number| number % count) {
            // At most half of what is left, so that every shard has its turn before long.
            let mut share = self.lock(number).sweep_share().min(segments_left.div_ceil(2));
            // Others may have the shard after each segment.
            while share > 0 && segments_left > 0 {
                let mut shard = self.lock(number);
                let was_due = shard.sweep(now);
                release(shard);
                if !was_due {
                    break;
                }
                share -= 1;
                segments_left -= 1;
            }
            if segments_left == 0 {
                self.next_swept.store((number + 1) % count, Ordering::Relaxed);
                break;
            }
        }
        self.tidy(now);
    }

    /// Removes what was flushed by prefix, and gives free memory back to the system, and what is held above the
    /// limit, one bounded slice of each. What is in use gets huge pages.
    pub fn tidy(&self, now: Tick) {
        self.sweep_flushed();
        self.common.pool.discard_spares();
        let mut heads = [usize::MAX; 2];
        for number in 0..self.shards.len() {
            let mut shard = self.lock(number);
            shard.tidy();
            let resident = shard.resident_heads();
            release(shard);
            heads = [heads[0].min(resident[0]), heads[1].min(resident[1])];
        }
        let count = self.shards.len();
        let [items, index] = &self.huge_pages;
        let retreats = [(items, heads[0]), (index, heads[1])]
            .map(|(pages, head)| pages.adjust(head * count, HUGE_PAGES_PER_TIDY));
        if retreats.iter().any(Option::is_some) {
            // Whoever gave something back while huge pages were made there has it again.
            let parts =
                retreats.map(|retreat| retreat.map(|bytes| bytes.start / count..bytes.end.div_ceil(count)));
            for number in 0..count {
                self.lock(number).return_again(parts.clone());
            }
        }
        let segments = self.common.budget.used() / SETTLE_SHARE / self.common.segment_bytes as u64;
        self.settle(now, segments.max(SETTLE_SEGMENTS_MIN));
    }

    /// Has the shards that hold most give way, one after the other, while more is charged than the limit, up to
    /// `segments_max` times.
    fn settle(&self, now: Tick, segments_max: u64) {
        if !self.common.evictions_enabled {
            return;
        }
        for _ in 0..segments_max {
            if self.common.budget.debt() == 0 {
                break;
            }
            let mut shard = self.lock(self.common.budget.richest().0);
            let gave = shard.give_way(now);
            release(shard);
            if !gave {
                break;
            }
        }
    }

    /// Has what is evicted from now on listed for [`Store::take_evictions`], or no longer. When that changes, what
    /// was listed and not taken is forgotten.
    pub fn watch_evictions(&self, wanted: bool) {
        self.common.evictions.want(wanted);
    }

    /// What was evicted since this was last called, in order, and how many evictions more than
    /// [`EVICTIONS_MAX`](crate::store::EVICTIONS_MAX) there were.
    pub fn take_evictions(&self) -> (Vec<Eviction>, u64) {
        self.common.evictions.take()
    }

    /// Totals over all shards.
    pub fn stats(&self) -> StoreStats {
        let mut total = StoreStats::default();
        for number in 0..self.shards.len() {
            self.lock(number).add_stats(&mut total);
        }
        total.index_power = total.index_power.max(1).ilog2().into();
        total
    }

    /// Zeroes what `stats reset` zeroes.
    pub fn reset_stats(&self) {
        for number in 0..self.shards.len() {
            self.lock(number).stats = StoreStats::default();
        }
    }

    /// Recounts everything that is kept as a sum and panics where it differs. For tests; it is slow.
    ///
    /// # Panics
    /// When an invariant does not hold.
    pub fn validate(&self) {
        let charged: u64 = (0..self.shards.len()).map(|number| self.lock(number).validate()).sum();
        self.common.budget.assert_sums();
        let charged = charged + self.common.pool.alive_bytes() + self.common.pool.spare_bytes();
        assert_eq!(charged, self.common.budget.used(), "what there is is what is charged");
    }

    #[inline]
    pub(super) fn lock(&self, number: usize) -> MutexGuard<'_, Shard> {
        // A panic under the lock is a bug of ours; the shard is still consistent enough to go on serving.
        self.shards[number].0.lock().unwrap_or_else(|poison| poison.into_inner())
    }
}

/// What readers alone hold may be one part in so many of the memory limit.
pub(super) const PINNED_PARTS: u64 = 4;
/// How much memory one sweep looks through, in bytes, or a segment of each shard: at ten sweeps a second a quarter of a
/// processor, at worst, and more than a gigabyte a second.
const SWEEP_BYTES_MAX: usize = 128 << 20;
/// How many huge pages one slice of tidying may make of the items' memory, and of the index's: about a millisecond.
const HUGE_PAGES_PER_TIDY: usize = 4;
/// Segments that one sweep may have given up, at least.
const SETTLE_SEGMENTS_MIN: u64 = 64;
/// The part of what is used that one sweep may have given up: a new limit is reached within a few seconds.
const SETTLE_SHARE: u64 = 20;

/// Unlocks a shard, then drops what its last operation left: freeing large values takes long.
#[inline(always)]
pub(super) fn release(mut shard: MutexGuard<'_, Shard>) {
    if !shard.graveyard.is_empty() {
        let graveyard = std::mem::take(&mut shard.graveyard);
        drop(shard);
        drop(graveyard);
    }
}
