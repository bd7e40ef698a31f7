//! How large the parts of a store are: how many shards it has, how long their segments are, and how much address space
//! is reserved for each part. Arithmetic only; `shards` makes the store.

use std::fmt;

use crate::store::header::{INLINE_BYTES_MAX, UNIT_BYTES};
use crate::store::memory::{PAGE_BYTES, WORDS_STRIPE_BYTES};
use crate::store::policy::Ghost;

/// A shard's part of the memory limit, in bytes, while the limit is at most [`SHARDED_BYTES`].
const SHARD_BYTES: u64 = 4 << 20;
/// Above this memory limit, in bytes, the size of a shard grows with the square root of the limit, because longer
/// segments waste less at their ends.
const SHARDED_BYTES: u64 = 64 << 20;
/// A shard is never smaller than this, in bytes, however many workers there are.
const SHARD_BYTES_MIN: u64 = 1 << 20;
/// How many shards there should be for each worker, so that two workers rarely want the same one.
const SHARDS_PER_WORKER: u64 = 4;
/// The number of shards is a power of two, and at most this.
const SHARDS_MAX: u64 = 4096;
/// A shard's part of the memory limit divides into so many segments.
const SEGMENTS_PER_SHARD: u64 = 128;
/// A segment is never longer than this, in bytes, so that scanning one does not take long.
const SEGMENT_BYTES_MAX: u64 = 256 << 10;

/// A record longer than a segment divided by this number has its value in pages of its own.
const LARGE_PARTS: usize = 8;

/// The least and the most address space for items, in bytes; in between it is [`RESERVE_FACTOR`] times the limit.
const RESERVE_BYTES: std::ops::RangeInclusive<u64> = 256 << 30..=2 << 40;
/// The memory limit can be raised so many times over, if the system lets the store reserve as much.
const RESERVE_FACTOR: u64 = 64;
/// A shard's address space cannot be longer than this, in bytes, because positions have 32 bits.
const SHARD_RESERVE_BYTES_MAX: u64 = (UNIT_BYTES as u64) << 32;

/// The settings of a store.
#[derive(Clone, Copy, Debug)]
pub struct StoreConfig {
    /// How many bytes items and their index may take.
    pub memory_bytes: u64,
    /// Whether the store may evict items when memory is needed.
    pub evictions_enabled: bool,
    /// How many threads will use the store.
    pub workers: usize,
}

/// The system has not enough address space for a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoAddresses {
    /// The memory limit that address space was asked for, in bytes.
    pub memory_bytes: u64,
    /// The address space that had to be left for the rest of the process, in bytes.
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

/// The sizes of a store's parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    /// How many shards there are: a power of two.
    pub(super) shards: usize,
    pub(super) segment_bytes: usize,
    /// The address space of one shard's items, in bytes.
    pub(super) arena_bytes: usize,
    /// The address space of one shard's index, in bytes.
    pub(super) index_bytes: usize,
    /// The memory of one shard's ghost, in bytes.
    pub(super) ghost_bytes: usize,
    /// The address space of each class of large values, in bytes.
    pub(super) pool_class_bytes: usize,
}

impl Sizes {
    /// The sizes to try for `config`, from the most address space to the least, which is that for twice the memory
    /// limit.
    pub(super) fn to_try(config: &StoreConfig) -> impl Iterator<Item = Sizes> {
        let least = config.memory_bytes.saturating_mul(2);
        let most = config
            .memory_bytes
            .saturating_mul(RESERVE_FACTOR)
            .clamp(*RESERVE_BYTES.start(), *RESERVE_BYTES.end());
        let next = move |&bytes: &u64| (bytes > least).then(|| (bytes / 4).max(least));
        std::iter::successors(Some(most), next).filter_map(|bytes| Sizes::new(config, bytes))
    }

    /// The sizes with address space for `reserve_bytes` of items; `None` when they are more than this machine can
    /// number.
    fn new(config: &StoreConfig, reserve_bytes: u64) -> Option<Sizes> {
        let shards = shard_count(config);
        let share = config.memory_bytes / shards;
        let segment_bytes =
            prev_power_of_two(share / SEGMENTS_PER_SHARD).clamp(PAGE_BYTES as u64, SEGMENT_BYTES_MAX);
        let segment_bytes = usize::try_from(segment_bytes).ok()?;
        // At least a few segments and pages of the index, however small the limit.
        let arena_bytes = (reserve_bytes / shards).clamp(64 * segment_bytes as u64, SHARD_RESERVE_BYTES_MAX);
        let arena_bytes = usize::try_from(arena_bytes).ok()?.next_multiple_of(segment_bytes);
        Some(Sizes {
            shards: usize::try_from(shards).ok()?,
            segment_bytes,
            arena_bytes,
            index_bytes: (arena_bytes / 2).next_multiple_of(2 * WORDS_STRIPE_BYTES),
            ghost_bytes: Ghost::bytes_for(share),
            pool_class_bytes: usize::try_from(reserve_bytes).ok()?.checked_mul(2)?,
        })
    }
}

/// A longer record has its value in pages of its own, in bytes.
pub(super) fn record_bytes_max(segment_bytes: usize) -> usize {
    (segment_bytes / LARGE_PARTS).min(INLINE_BYTES_MAX)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(memory_bytes: u64, workers: usize) -> Vec<Sizes> {
        Sizes::to_try(&StoreConfig { memory_bytes, evictions_enabled: true, workers }).collect()
    }

    #[test]
    fn address_space_is_tried_from_the_most_to_twice_the_limit() {
        let tried: Vec<_> = sizes(64 << 20, 1).iter().map(|sizes| sizes.pool_class_bytes >> 20).collect();
        assert_eq!(tried, [512 << 10, 128 << 10, 32 << 10, 8 << 10, 2 << 10, 512, 256]);
        let [only] = sizes(2 << 40, 4)[..] else { panic!("more than one for a limit of half the most") };
        assert_eq!(only.pool_class_bytes, 4 << 40);
    }

    #[test]
    fn shards_follow_memory_and_workers() {
        for (memory_mb, workers, shards, segment_kb) in
            [(1, 4, 1, 8), (64, 4, 16, 32), (64, 16, 64, 8), (1024, 4, 64, 128), (65536, 4, 512, 256)]
        {
            let sizes = sizes(memory_mb << 20, workers)[0];
            assert_eq!((sizes.shards, sizes.segment_bytes >> 10), (shards, segment_kb), "{memory_mb} MB");
        }
    }
}
