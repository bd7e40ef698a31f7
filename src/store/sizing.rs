//! An empty store: how many shards it has, and the addresses for all that they may ever hold.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex};

use foldhash::quality::RandomState;

use crate::store::budget::Budget;
use crate::store::header::UNIT_BYTES;
use crate::store::hint::View;
use crate::store::large::Pool;
use crate::store::memory::{HUGE_PAGE_BYTES, HeldAddresses, PAGE_BYTES, Region, WORDS_STRIPE_BYTES, Words};
use crate::store::policy::Ghost;
use crate::store::shard::{Common, Shard};
use crate::store::shards::{CacheLine, Store, StoreConfig};

/// A shard's part of the memory limit, up to [`SHARDED_BYTES`] of it in all, in bytes.
const SHARD_BYTES: u64 = 4 << 20;
/// Above this limit shards grow with the square root of it, for longer segments waste less at their ends.
const SHARDED_BYTES: u64 = 64 << 20;
/// Shards are not made smaller for the sake of their number, in bytes.
const SHARD_BYTES_MIN: u64 = 1 << 20;
/// How many shards there should be for each worker, so that two rarely want the same one.
const SHARDS_PER_WORKER: u64 = 4;
/// Shards are a power of two, at most this many.
const SHARDS_MAX: u64 = 4096;
/// Into how many segments a shard's part of the limit divides.
const SEGMENTS_PER_SHARD: u64 = 128;
/// Segments are not longer, so that looking through one does not take long, in bytes.
const SEGMENT_BYTES_MAX: u64 = 256 << 10;

/// Address space for items at least and at most, in bytes; in between, [`RESERVE_FACTOR`] times the limit.
const RESERVE_BYTES: std::ops::RangeInclusive<u64> = 256 << 30..=2 << 40;
/// How far the limit can be raised, if the system lets us reserve as much.
const RESERVE_FACTOR: u64 = 64;
/// A shard's address space cannot be longer: positions have 32 bits.
const SHARD_RESERVE_BYTES_MAX: u64 = (UNIT_BYTES as u64) << 32;

/// The system has not enough addresses for a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoAddresses {
    /// The memory limit there were to be addresses for, in bytes.
    pub memory_bytes: u64,
    /// What had to be left for others, in bytes.
    pub spare_bytes: u64,
}

impl fmt::Display for NoAddresses {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "no address space can be reserved for {} MB of items beside {} MB for threads, connections and buffers",
            self.memory_bytes >> 20,
            self.spare_bytes >> 20
        )
    }
}

impl std::error::Error for NoAddresses {}

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

    /// An empty store that leaves at least `spare_bytes` of address space to others, who would otherwise find none one
    /// day: what allocates ends the process then.
    ///
    /// # Errors
    /// When the system has not as many addresses.
    pub fn try_new_beside(config: StoreConfig, spare_bytes: u64) -> Result<Store, NoAddresses> {
        let refused = NoAddresses { memory_bytes: config.memory_bytes, spare_bytes };
        let _spare = HeldAddresses::hold(spare_bytes).ok_or(refused)?;
        let count = shard_count(&config);
        let budget = Arc::new(Budget::new(config.memory_bytes, count as usize));
        let mut reserve_bytes = config
            .memory_bytes
            .saturating_mul(RESERVE_FACTOR)
            .clamp(*RESERVE_BYTES.start(), *RESERVE_BYTES.end());
        loop {
            let last_chance = reserve_bytes <= config.memory_bytes.saturating_mul(2);
            if let Some(store) = Store::within(&config, count, &budget, reserve_bytes) {
                return Ok(store);
            }
            if last_chance {
                return Err(refused);
            }
            reserve_bytes = (reserve_bytes / 4).max(config.memory_bytes.saturating_mul(2));
        }
    }

    /// A store with address space for `reserve_bytes` of items; `None` when the system refuses.
    fn within(config: &StoreConfig, count: u64, budget: &Arc<Budget>, reserve_bytes: u64) -> Option<Store> {
        let share = config.memory_bytes / count;
        let segment_bytes =
            prev_power_of_two(share / SEGMENTS_PER_SHARD).clamp(PAGE_BYTES as u64, SEGMENT_BYTES_MAX);
        let segment_bytes = usize::try_from(segment_bytes).ok()?;
        // At least a few segments and index pages, however small the limit.
        let arena_bytes = (reserve_bytes / count).clamp(64 * segment_bytes as u64, SHARD_RESERVE_BYTES_MAX);
        let arena_bytes = usize::try_from(arena_bytes).ok()?.next_multiple_of(segment_bytes);
        let count = usize::try_from(count).ok()?;
        let shared = |bytes: usize, stripe_bytes: usize| {
            let bytes = bytes.checked_mul(count)?;
            let mut region = Region::reserve(bytes.checked_add(HUGE_PAGE_BYTES)?)?;
            region.align()?;
            Some(region.split_off(bytes)?.share(count.trailing_zeros(), stripe_bytes.trailing_zeros()))
        };
        let (arenas, huge_arenas) = shared(arena_bytes, segment_bytes)?;
        let index_bytes = (arena_bytes / 2).next_multiple_of(2 * WORDS_STRIPE_BYTES);
        let (indexes, huge_indexes) = shared(index_bytes, WORDS_STRIPE_BYTES)?;
        let ghost_bytes = Ghost::bytes_for(share);
        let mut ghosts = Region::reserve(ghost_bytes.checked_mul(count)?)?;
        let common = Common {
            pool: Pool::new(Arc::clone(budget), usize::try_from(reserve_bytes).ok()?.checked_mul(2)?)?,
            budget: Arc::clone(budget),
            hasher: RandomState::default(),
            last_write: Arc::new(AtomicU64::new(0)),
            evictions: Arc::default(),
            evictions_enabled: config.evictions_enabled,
            segment_bytes,
        };
        let views =
            arenas.iter().zip(indexes).map(|(arena, index)| View::new(Words::new(index), arena.addresses()));
        let views: Arc<[View]> = views.collect();
        let shards = arenas.into_iter().enumerate().map(|(number, arena)| {
            let ghost = Ghost::new(ghosts.split_off(ghost_bytes)?);
            Some(CacheLine(Mutex::new(Shard::new(common.clone(), Arc::clone(&views), number, arena, ghost))))
        });
        Some(Store {
            memory_bytes_max: (arena_bytes * count) as u64,
            next_swept: AtomicUsize::new(0),
            shards: shards.collect::<Option<_>>()?,
            common,
            views,
            huge_pages: [huge_arenas, huge_indexes],
            shard_shift: u64::BITS - count.trailing_zeros(),
            flushing: Mutex::default(),
        })
    }
}

fn shard_count(config: &StoreConfig) -> u64 {
    let memory = config.memory_bytes;
    let by_size = if memory <= SHARDED_BYTES {
        memory / SHARD_BYTES
    } else {
        SHARDED_BYTES / SHARD_BYTES * (memory / SHARDED_BYTES).isqrt()
    };
    let by_workers = config.workers as u64 * SHARDS_PER_WORKER;
    prev_power_of_two(by_size.max(by_workers).min(memory / SHARD_BYTES_MIN)).min(SHARDS_MAX)
}

/// The largest power of two up to `number`; at least 1.
fn prev_power_of_two(number: u64) -> u64 {
    1 << number.max(1).ilog2()
}
