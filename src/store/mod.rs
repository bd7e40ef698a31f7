//! The store: what is cached, under which key, until when, within how much memory.
//!
//! It has two verbs. [`Store::read`] shows the live item to a closure; [`Store::update`] lets a closure see it
//! and say what is to become of it. Every command of every dialect is one of these plus a pure decision.
//!
//! Rules: a closure runs under its shard's lock, so it must be short and cannot wait (it is not async); one
//! shard is locked at a time, and nothing else is locked under it. The store reads no clock: callers say what
//! time it is.

mod item;
mod shard;

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use foldhash::quality::RandomState;

pub use item::{Access, Cas, Change, Content, Draft, Item, Lookup, Marks, NoMemory};

use crate::clock::Tick;
use shard::Shard;

/// The longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 250;

/// Shards are a power of two, at most this many.
const SHARDS_MAX: u64 = 64;

/// What a store is made of.
#[derive(Clone, Copy, Debug)]
pub struct StoreConfig {
    /// How many bytes items and their index may take.
    pub memory_bytes: u64,
    /// The largest item that will be offered, in bytes; the store is laid out so that it fits.
    pub item_bytes_max: u64,
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
    /// Items stored since the last reset.
    pub total_items: u64,
    /// Live items dropped for room.
    pub evictions: u64,
    /// Of those, never read.
    pub evicted_unfetched: u64,
    /// Of those, read not long before.
    pub evicted_active: u64,
    /// Items that died of age without ever being read.
    pub expired_unfetched: u64,
    /// Dead items whose memory was taken back when room was needed.
    pub reclaimed: u64,
    /// Dead items found by the background sweep.
    pub swept: u64,
    /// Items the background sweep looked at.
    pub sweep_checked: u64,
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
///     item_bytes_max: 1 << 20,
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
    hasher: RandomState,
    shards: Box<[CacheLine<Mutex<Shard>>]>,
    memory_bytes: AtomicU64,
}

/// Keeps two shards' locks out of one cache line, so that neighbours do not slow each other.
#[derive(Debug)]
#[repr(align(64))]
struct CacheLine<T>(T);

impl Store {
    /// An empty store.
    pub fn new(config: StoreConfig) -> Store {
        let wanted = (config.memory_bytes / (4 << 20)).min(config.memory_bytes / (config.item_bytes_max * 2));
        let count = wanted.clamp(1, SHARDS_MAX).next_power_of_two();
        let shard =
            || CacheLine(Mutex::new(Shard::new(config.memory_bytes / count, config.evictions_enabled)));
        Store {
            hasher: RandomState::default(),
            shards: (0..count).map(|_| shard()).collect(),
            memory_bytes: AtomicU64::new(config.memory_bytes),
        }
    }

    /// The keyed hash of `key`, which [`Store::read`] and [`Store::update`] want beside the key itself.
    pub fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash_one(key)
    }

    /// Shows what is under `key` at `now` to `look`.
    pub fn read<R>(
        &self,
        hash: u64,
        key: &[u8],
        now: Tick,
        access: Access,
        look: impl FnOnce(Lookup<'_>) -> R,
    ) -> R {
        self.shard(hash).read(key, now, access, look)
    }

    /// Shows what is under `key` at `now` to `decide` and does what it says, as one step that nobody can come
    /// between. The second value is the CAS id of the item there is now (0 if there is none).
    ///
    /// # Errors
    /// [`NoMemory`]: there is no room for the draft. The item that was there stays as it was.
    pub fn update<'c, R>(
        &self,
        hash: u64,
        key: &[u8],
        now: Tick,
        decide: impl FnOnce(Lookup<'_>) -> (Change<'c>, R),
    ) -> (R, Result<u64, NoMemory>) {
        self.shard(hash).update(key, now, decide)
    }

    /// Drops everything stored so far.
    pub fn flush(&self) {
        for shard in &self.shards {
            shard.0.lock().unwrap_or_else(|poison| poison.into_inner()).clear();
        }
    }

    /// Sets the memory limit, in bytes; what no longer fits is evicted.
    pub fn set_memory_bytes(&self, memory_bytes: u64) {
        self.memory_bytes.store(memory_bytes, Ordering::Relaxed);
        for shard in &self.shards {
            let share = memory_bytes / self.shards.len() as u64;
            shard.0.lock().unwrap_or_else(|poison| poison.into_inner()).set_limit(share);
        }
    }

    /// The memory limit, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        self.memory_bytes.load(Ordering::Relaxed)
    }

    /// Gives back what dead items hold, one bounded slice of every shard. To be called about every tick.
    pub fn sweep(&self, now: Tick) {
        for shard in &self.shards {
            shard.0.lock().unwrap_or_else(|poison| poison.into_inner()).sweep(now);
        }
    }

    /// Totals over all shards.
    pub fn stats(&self) -> StoreStats {
        let mut total = StoreStats::default();
        for shard in &self.shards {
            shard.0.lock().unwrap_or_else(|poison| poison.into_inner()).add_stats(&mut total);
        }
        total
    }

    /// Zeroes what `stats reset` zeroes.
    pub fn reset_stats(&self) {
        for shard in &self.shards {
            shard.0.lock().unwrap_or_else(|poison| poison.into_inner()).reset_stats();
        }
    }

    /// Recounts everything that is kept as a sum and panics where it differs. For tests; it is slow.
    ///
    /// # Panics
    /// When an invariant does not hold.
    pub fn validate(&self) {
        for shard in &self.shards {
            shard.0.lock().unwrap_or_else(|poison| poison.into_inner()).validate();
        }
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        // The top bits choose the shard, so that the bits an index uses inside one are independent of it.
        let index = (hash >> 32) as usize & (self.shards.len() - 1);
        // A panic under the lock is a bug of ours; the shard is still consistent enough to go on serving.
        self.shards[index].0.lock().unwrap_or_else(|poison| poison.into_inner())
    }
}
