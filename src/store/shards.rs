//! The store: its shards, each behind a lock.

use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard};

use foldhash::quality::RandomState;

use crate::clock::Tick;
use crate::store::budget::Budget;
use crate::store::evicted_keys::Eviction;
use crate::store::hint::{Hashed, View};
use crate::store::item::{Access, Change, Lookup, NoMemory};
use crate::store::large::{Pool, Upload};
use crate::store::memory::{
    HUGE_PAGE_BYTES, HeldAddresses, HugePages, Region, Stripes, WORDS_STRIPE_BYTES, Words,
};
use crate::store::policy::Ghost;
use crate::store::queue_stats::QueuesStats;
use crate::store::segment::Queue;
use crate::store::shard::{self, Common, Shard};
use crate::store::sizing::{NoAddresses, Sizes, StoreConfig, record_bytes_max};
use crate::store::stats::StoreStats;

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
/// let key = store.hash(b"greeting");
/// let draft = Draft {
///     content: Content::Whole(b"hello"),
///     flags: 0,
///     deadline: Deadline::NEVER,
///     cas: Cas::Next,
///     marks: Marks::default(),
/// };
/// store.update(key, Tick(1), |_| (Change::Put(draft), ())).1.unwrap();
/// let length = store.read(key, Tick(1), Access::Use, |found| {
///     found.item().map(|item| item.value.len())
/// });
/// assert_eq!(length, Some(5));
/// ```
#[derive(Debug)]
pub struct Store {
    pub(super) common: Common,
    views: Arc<[View]>,
    shards: Box<[CacheLine<Mutex<Shard>>]>,
    /// The huge pages of the items' memory, and those of the index.
    pub(super) huge_pages: [HugePages; 2],
    /// For how many bytes of items there is address space.
    memory_bytes_max: u64,
    /// The shard that the next sweep begins with.
    pub(super) next_swept: AtomicUsize,
    /// A hash is shifted right by so many bits to choose a shard by its top bits.
    shard_shift: u32,
    /// Held while the shards take a flush by prefix in.
    pub(super) flushing: Mutex<()>,
}

/// Keeps two shards' locks out of one cache line, so that threads in neighbouring shards do not slow each other.
#[derive(Debug)]
#[repr(align(64))]
struct CacheLine<T>(T);

impl Store {
    /// An empty store.
    ///
    /// # Panics
    /// When there is no address space for it; see [`Store::try_new`].
    pub fn new(config: StoreConfig) -> Store {
        Store::try_new(config).unwrap_or_else(|refused| panic!("{refused}"))
    }

    /// An empty store.
    ///
    /// # Errors
    /// When the system does not let it reserve address space for twice the memory limit.
    pub fn try_new(config: StoreConfig) -> Result<Store, NoAddresses> {
        Store::try_new_beside(config, 0)
    }

    /// An empty store that leaves at least `spare_bytes` of address space to the rest of the process. Without address
    /// space an allocation fails, and that ends the process.
    ///
    /// # Errors
    /// When the system does not let it reserve as much.
    pub fn try_new_beside(config: StoreConfig, spare_bytes: u64) -> Result<Store, NoAddresses> {
        let refused = NoAddresses { memory_bytes: config.memory_bytes, spare_bytes };
        let _spare = HeldAddresses::hold(spare_bytes).ok_or(refused)?;
        Sizes::to_try(&config).find_map(|sizes| Store::with_sizes(&config, sizes)).ok_or(refused)
    }

    /// An empty store of these sizes; `None` when the system refuses the address space.
    fn with_sizes(config: &StoreConfig, sizes: Sizes) -> Option<Store> {
        let count = sizes.shards;
        let budget = Arc::new(Budget::new(config.memory_bytes, count));
        let (arenas, huge_arenas) = striped(sizes.arena_bytes, sizes.segment_bytes, count)?;
        let (indexes, huge_indexes) = striped(sizes.index_bytes, WORDS_STRIPE_BYTES, count)?;
        let mut ghosts = Region::reserve(sizes.ghost_bytes.checked_mul(count)?)?;
        let common = Common {
            pool: Pool::new(Arc::clone(&budget), sizes.pool_class_bytes)?,
            budget,
            hasher: RandomState::default(),
            last_write: Arc::new(AtomicU64::new(0)),
            evictions: Arc::default(),
            evictions_enabled: config.evictions_enabled,
            segment_bytes: sizes.segment_bytes,
        };
        let views =
            arenas.iter().zip(indexes).map(|(arena, index)| View::new(Words::new(index), arena.addresses()));
        let views: Arc<[View]> = views.collect();
        let shards = arenas.into_iter().enumerate().map(|(number, arena)| {
            let ghost = Ghost::new(ghosts.split_off(sizes.ghost_bytes)?);
            Some(CacheLine(Mutex::new(Shard::new(common.clone(), Arc::clone(&views), number, arena, ghost))))
        });
        Some(Store {
            memory_bytes_max: (sizes.arena_bytes * count) as u64,
            next_swept: AtomicUsize::new(0),
            shards: shards.collect::<Option<_>>()?,
            common,
            views,
            huge_pages: [huge_arenas, huge_indexes],
            shard_shift: u64::BITS - count.trailing_zeros(),
            flushing: Mutex::default(),
        })
    }

    /// `key` with its keyed hash, as [`Store::read`] and [`Store::update`] take it.
    #[inline]
    pub fn hash<'k>(&self, key: &'k [u8]) -> Hashed<'k> {
        let hash = shard::hash(&self.common.hasher, key);
        // The top bits, which the index inside a shard does not use.
        let shard = hash.checked_shr(self.shard_shift).unwrap_or(0);
        Hashed::new(key, hash, shard as u32) // there are at most `SHARDS_MAX`
    }

    /// Prefetches the index line of `key`, so that it is there when the key is looked up some hundred nanoseconds
    /// later. It takes no lock and changes nothing that is stored: a caller may leave it out.
    #[inline]
    pub fn hint_index(&self, key: &mut Hashed<'_>) {
        self.views[key.shard as usize].hint_index(key);
    }

    /// Prefetches the item that the index line of `key` names, and makes the look-up shorter. Call it once
    /// [`Store::hint_index`] has had time to bring that line. Like that, it takes no lock and may be left out. Returns
    /// `true` when there is another line to look at: call it again, after some time.
    #[inline(always)]
    #[must_use]
    pub fn hint_item(&self, key: &mut Hashed<'_>) -> bool {
        self.views[key.shard as usize].hint_item(key)
    }

    /// Looks `key` up at `now` and shows the result to `look`.
    #[inline]
    pub fn read<R>(
        &self,
        key: Hashed<'_>,
        now: Tick,
        access: Access,
        look: impl FnOnce(Lookup<'_>) -> R,
    ) -> R {
        let mut shard = self.lock(key.shard as usize);
        let result = shard.read(key, now, access, look);
        unlock(shard);
        result
    }

    /// Looks `key` up at `now`, shows the result to `decide` and makes the change that it returns, as one step: no
    /// other operation on the key comes between. The second value is the CAS id of the item that is there afterwards (0
    /// if there is none).
    ///
    /// # Errors
    /// [`NoMemory`]: there is no memory for the draft. The item that was there stays as it was.
    #[inline]
    pub fn update<'c, R>(
        &self,
        key: Hashed<'_>,
        now: Tick,
        decide: impl FnOnce(Lookup<'_>) -> (Change<'c>, R),
    ) -> (R, Result<u64, NoMemory>) {
        let mut shard = self.lock(key.shard as usize);
        let outcome = shard.update(key, now, decide);
        let overdrawn = shard.take_overdrawn();
        unlock(shard);
        if overdrawn > 0 {
            // Two more than were overdrawn, for a shard that evicts may overdraw, too.
            self.settle_debt(now, overdrawn / self.common.segment_bytes as u64 + 2);
        }
        outcome
    }

    /// Lends a block for a request of `bytes` bytes, of which at first `capacity` may be filled; its large value can then
    /// be stored without being copied. `None` where no value would be large, and when there are no addresses for it.
    pub fn lend(&self, bytes: usize, capacity: usize) -> Option<Upload> {
        let is_large = bytes > record_bytes_max(self.common.segment_bytes);
        is_large.then(|| self.common.pool.lend(bytes, capacity))?
    }

    /// Drops all items stored so far. Their memory goes back to the system with the next sweeps.
    pub fn flush(&self) {
        for number in 0..self.shard_count() {
            let mut shard = self.lock(number);
            shard.clear();
            unlock(shard);
        }
    }

    /// Sets the memory limit, in bytes. The next sweeps evict what no longer fits. Returns `false`, and does nothing,
    /// when no address space was reserved for as much.
    #[must_use]
    pub fn set_memory_bytes(&self, memory_bytes: u64) -> bool {
        let fits = memory_bytes <= self.memory_bytes_max;
        if fits {
            self.common.budget.set_limit(memory_bytes);
        }
        fits
    }

    /// The memory limit, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        self.common.budget.limit()
    }

    /// Stops making huge pages. The store makes them whatever the system's own policy is, so a caller that knows that
    /// the operator wants none has to say so.
    pub fn refuse_huge_pages(&self) {
        self.huge_pages.iter().for_each(HugePages::refuse);
    }

    /// How many bytes readers pin above their quarter of the memory limit; the caller is to have slow readers let go of
    /// as much. The rules are told in `src/store/large/pinned.rs`.
    pub fn pinned_excess_bytes(&self) -> u64 {
        self.common.pool.pinned_excess_bytes()
    }

    /// Lists each eviction from now on for [`Store::take_evictions`], or no longer. A call that changes this forgets
    /// the evictions that were listed and not taken.
    pub fn watch_evictions(&self, wanted: bool) {
        self.common.evictions.want(wanted);
    }

    /// The evictions listed since the last call, in order, and how many more than
    /// [`EVICTIONS_MAX`](crate::store::EVICTIONS_MAX) there were.
    pub fn take_evictions(&self) -> (Vec<Eviction>, u64) {
        self.common.evictions.take()
    }

    /// Totals over all shards.
    pub fn stats(&self) -> StoreStats {
        let mut total = StoreStats::default();
        for number in 0..self.shard_count() {
            self.lock(number).add_stats(&mut total);
        }
        total.index_power = total.index_power.max(1).ilog2().into();
        total
    }

    /// The items of the two queues. It adds up numbers of every segment: for statistics.
    pub fn queues(&self, now: Tick) -> QueuesStats {
        let mut total = QueuesStats::default();
        for number in 0..self.shard_count() {
            let shard = self.lock(number);
            shard.add_queue_stats(Queue::Probation, &mut total.probation, now);
            shard.add_queue_stats(Queue::Main, &mut total.main, now);
        }
        total
    }

    /// Zeroes [`StoreStats::evicted_idle_seconds`] until the next eviction.
    pub fn forget_last_eviction(&self) {
        for number in 0..self.shard_count() {
            self.lock(number).forget_last_eviction();
        }
    }

    /// Recounts everything that is kept as a sum and panics where it differs. It is slow: for tests.
    ///
    /// # Panics
    /// When an invariant does not hold.
    pub fn validate(&self) {
        let charged: u64 = (0..self.shard_count()).map(|number| self.lock(number).validate()).sum();
        self.common.budget.assert_sums();
        let charged = charged + self.common.pool.alive_bytes() + self.common.pool.spare_bytes();
        assert_eq!(charged, self.common.budget.used(), "the budget charges what there is");
    }

    /// How many shards there are.
    pub(super) fn shard_count(&self) -> usize {
        self.shards.len()
    }

    #[inline]
    pub(super) fn lock(&self, number: usize) -> MutexGuard<'_, Shard> {
        // A panic under the lock is a bug of ours; the shard is still consistent enough to go on serving.
        self.shards[number].0.lock().unwrap_or_else(|poison| poison.into_inner())
    }
}

/// Unlocks a shard, then drops the large values that its last operation removed: freeing them takes long.
#[inline(always)]
pub(super) fn unlock(mut shard: MutexGuard<'_, Shard>) {
    if let Some(departing) = shard.take_departing() {
        drop(shard);
        drop(departing);
    }
}

/// Reserves `bytes` for each of `count` shards, in stripes of all shards in turn; `None` when the system refuses.
fn striped(bytes: usize, stripe_bytes: usize, count: usize) -> Option<(Vec<Stripes>, HugePages)> {
    let bytes = bytes.checked_mul(count)?;
    let mut region = Region::reserve(bytes.checked_add(HUGE_PAGE_BYTES)?)?;
    region.align()?;
    Some(region.split_off(bytes)?.into_stripes(count.trailing_zeros(), stripe_bytes.trailing_zeros()))
}
