//! The list of evictions, which shards add to while a client watches.
//!
//! Rule: a shard locks the list under its own lock, only to add to it. No shard is locked under the list's lock.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::clock::{Deadline, Tick};

/// How many evictions the list keeps until they are taken; further ones are only counted. The engine takes them after
/// each store and each tick, so this is how many evictions of one tick can be listed.
pub const EVICTIONS_MAX: usize = 2048;

/// An eviction: a live item that was removed because memory was needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eviction {
    /// The item's key.
    pub key: Box<[u8]>,
    /// Whether the item was ever read.
    pub is_fetched: bool,
    /// When the item would have expired.
    pub deadline: Deadline,
    /// When the item was evicted.
    pub at: Tick,
    /// The time between its last access and its eviction, in seconds.
    pub idle_seconds: u32,
    /// The length of its value, in bytes.
    pub value_bytes: u64,
}

/// The list of evictions that were not taken yet.
#[derive(Debug, Default)]
pub(super) struct Evictions {
    is_wanted: AtomicBool,
    list: Mutex<List>,
}

#[derive(Debug, Default)]
struct List {
    kept: Vec<Eviction>,
    /// How many evictions there were while [`EVICTIONS_MAX`] waited.
    lost: u64,
}

impl Evictions {
    /// Whether evictions are listed. Relaxed: one more or less at the moment when a client begins to watch does not
    /// matter.
    #[inline]
    pub(super) fn are_wanted(&self) -> bool {
        self.is_wanted.load(Ordering::Relaxed)
    }

    /// Lists evictions from now on, or no longer. A change forgets the evictions listed before.
    pub(super) fn want(&self, wanted: bool) {
        if self.is_wanted.swap(wanted, Ordering::Relaxed) != wanted {
            drop(self.take());
        }
    }

    pub(super) fn add(&self, eviction: Eviction) {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        if list.kept.len() < EVICTIONS_MAX {
            list.kept.push(eviction);
        } else {
            list.lost += 1;
        }
    }

    /// The listed evictions, in order, and how many more there were.
    pub(super) fn take(&self) -> (Vec<Eviction>, u64) {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        (std::mem::take(&mut list.kept), std::mem::take(&mut list.lost))
    }
}

#[cfg(test)]
mod tests {
    use crate::store::evicted_keys::*;

    fn eviction() -> Eviction {
        Eviction {
            key: Box::from(*b"k"),
            is_fetched: false,
            deadline: Deadline::NEVER,
            at: Tick(7),
            idle_seconds: 0,
            value_bytes: 1,
        }
    }

    #[test]
    fn evictions_that_were_not_taken_in_time_are_forgotten() {
        let evictions = Evictions::default();
        evictions.want(true);
        evictions.add(eviction());
        evictions.want(true);
        assert_eq!(evictions.take().0.len(), 1, "still wanted");
        (0..EVICTIONS_MAX + 3).for_each(|_| evictions.add(eviction()));
        evictions.want(false);
        // A shard may have been about to list it.
        evictions.add(eviction());
        evictions.want(true);
        assert_eq!(evictions.take(), (Vec::new(), 0), "that was before");
    }

    #[test]
    fn evictions_beyond_the_lists_length_are_counted() {
        let evictions = Evictions::default();
        for _ in 0..EVICTIONS_MAX + 3 {
            evictions.add(eviction());
        }
        let (kept, lost) = evictions.take();
        assert_eq!((kept.len(), lost), (EVICTIONS_MAX, 3));
        assert_eq!(evictions.take(), (Vec::new(), 0));
    }
}
