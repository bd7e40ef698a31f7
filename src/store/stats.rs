//! The statistics of a store.

/// Totals over all shards; the names are those of `stats`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Items held, expired ones that were not found yet included.
    pub items: u64,
    /// Bytes they take, headers included.
    pub bytes: u64,
    /// Items stored; a value changed in its place does not count.
    pub total_items: u64,
    /// Live items removed because memory was needed.
    pub evictions: u64,
    /// Evicted items that were never read.
    pub evicted_unfetched: u64,
    /// Evicted items that were read less than a minute before.
    pub evicted_active: u64,
    /// Evicted items that had a deadline.
    pub evicted_nonzero: u64,
    /// The time between the last access to the last evicted item and its eviction, in seconds: the longest of all
    /// shards.
    pub evicted_idle_seconds: u64,
    /// Expired items that were never read.
    pub expired_unfetched: u64,
    /// Expired items that were removed because memory was needed.
    pub reclaimed: u64,
    /// Expired items that the background sweep removed.
    pub swept: u64,
    /// Items that the background sweep looked at.
    pub sweep_checked: u64,
    /// Bytes taken for items, used or not: segments, and the pages of large values.
    pub held_bytes: u64,
    /// Flushes by prefix whose items are not all removed yet.
    pub flushes_waiting: u64,
    /// Bytes of the index.
    pub index_bytes: u64,
    /// The base-2 logarithm of the number of slots in the index.
    pub index_power: u64,
}
