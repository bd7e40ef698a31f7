//! Pinned values, and what happens when slow readers pin too much memory.
//!
//! A large value is *pinned* when no item has it any more and a reader still holds it: a reply on its way to a client,
//! most often. Its pages stay charged, within the memory limit (`-m`), and no eviction frees them. A client that asks
//! for large values and takes none of them could so have everybody's items evicted. These are the rules, each with the
//! place that applies it; M is the memory limit:
//!
//! | pinned | what happens | where |
//! |---|---|---|
//! | up to M/4 | nothing | |
//! | above M/4 | the server closes the slowest clients that are owed large values, until the excess is gone | [`Store::pinned_excess_bytes`], which `net`'s `slow_clients` asks for with every tick, and whenever large values have to wait for a client |
//! | above M/2 | the store refuses large values ([`NoMemory`]): another one would have more items evicted, and could be pinned next | `shard/put_large` |
//! | so much that eviction cannot free enough | the store refuses the memory that a change asks for, instead of evicting in vain | `shard/reclaim` |
//!
//! So the half of the limit that is not pinned is there for items, whatever readers do; and between a quarter and a
//! half there is time to close the slow ones. `net` decides which clients are slow; the store knows none of them.
//!
//! A value that was just removed from its item is *departing*: it counts neither as pinned nor as held by a shard, for
//! in most cases nobody reads it, and it is freed a moment later, when the shard is unlocked. A flush, for example, has
//! megabytes of such values for a moment.
//!
//! [`Store::pinned_excess_bytes`]: crate::store::Store::pinned_excess_bytes
//! [`NoMemory`]: crate::store::NoMemory

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::store::budget::Budget;
use crate::store::large::pool::{Large, Pool};

/// Above one part in so many of the memory limit, slow clients are closed.
const PINNED_PARTS: u64 = 4;
/// Above one part in so many of the memory limit, large values are refused.
const PINNED_PARTS_MAX: u64 = 2;

impl Pool {
    /// Notes that a value of `bytes`, as charged, has become an item's.
    pub(in crate::store) fn own(&self, bytes: u64) {
        self.owned.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Notes that no item has `large` any more.
    pub(in crate::store) fn disown(&self, large: Large) -> Departing {
        let bytes = large.charged_bytes();
        self.budget.begin_departure(bytes);
        self.owned.fetch_sub(bytes, Ordering::Relaxed);
        Departing { large: Some(large), budget: Arc::clone(&self.budget) }
    }

    /// How many bytes are charged for values that only readers hold, so that no eviction frees them.
    pub(in crate::store) fn pinned_bytes(&self) -> u64 {
        let not_pinned = self.owned.load(Ordering::Relaxed) + self.budget.departing();
        self.alive_bytes().saturating_sub(not_pinned)
    }

    /// Whether the store refuses large values, because so much is pinned that another one might be too much.
    pub(in crate::store) fn refuses_values(&self) -> bool {
        self.pinned_bytes() > self.budget.limit() / PINNED_PARTS_MAX
    }

    /// How many bytes too many are pinned: those above a quarter of the memory limit.
    pub(in crate::store) fn pinned_excess_bytes(&self) -> u64 {
        self.pinned_bytes().saturating_sub(self.budget.limit() / PINNED_PARTS)
    }
}

/// A value that was removed from its item, until it is dropped, outside of locks if possible.
#[derive(Debug)]
#[must_use = "dropping it may take a while"]
pub(in crate::store) struct Departing {
    /// There until dropped.
    large: Option<Large>,
    budget: Arc<Budget>,
}

impl Drop for Departing {
    fn drop(&mut self) {
        let Some(large) = self.large.take() else { return };
        let bytes = large.charged_bytes();
        drop(large);
        self.budget.end_departure(bytes);
    }
}
