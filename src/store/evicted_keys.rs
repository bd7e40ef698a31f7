//! What was evicted, for those who watch: a short list that the shards add to while somebody wants it.
//!
//! Rule: the list is locked under a shard's lock, for as long as adding to it takes, and never the other way round.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::clock::{Deadline, Tick};

/// How many evictions wait to be taken; what is evicted while so many wait is only counted. Whoever watches takes
/// them after each store and each tick, so this is how many one tick's sweep may list.
pub const EVICTIONS_MAX: usize = 2048;

/// An item that was dropped, though alive, for room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eviction {
    /// Its key.
    pub key: Box<[u8]>,
    /// Whether it was ever read.
    pub is_fetched: bool,
    /// When it would have died.
    pub deadline: Deadline,
    /// When it was evicted.
    pub at: Tick,
    /// How long before that it was last accessed, in seconds.
    pub idle_seconds: u32,
    /// The length of its value, in bytes.
    pub value_bytes: u64,
}

/// What was evicted and not taken yet. It may be shared.
#[derive(Debug, Default)]
pub(super) struct Evictions {
    is_wanted: AtomicBool,
    list: Mutex<List>,
}

#[derive(Debug, Default)]
struct List {
    kept: Vec<Eviction>,
    /// How many there were beyond [`EVICTIONS_MAX`].
    lost: u64,
}

impl Evictions {
    /// Relaxed: one eviction more or less at the moment somebody begins to watch is all the same.
    #[inline]
    pub(super) fn are_wanted(&self) -> bool {
        self.is_wanted.load(Ordering::Relaxed)
    }

    /// Has evictions listed from now on, or no longer. What was listed for others is forgotten.
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

    /// All that are kept, in order, and how many more there were.
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
    fn what_nobody_took_in_time_is_forgotten() {
        let evictions = Evictions::default();
        evictions.want(true);
        evictions.add(eviction());
        evictions.want(true);
        assert_eq!(evictions.take().0.len(), 1, "still wanted");
        (0..EVICTIONS_MAX + 3).for_each(|_| evictions.add(eviction()));
        evictions.want(false);
        // As a shard does that was about to list it.
        evictions.add(eviction());
        evictions.want(true);
        assert_eq!(evictions.take(), (Vec::new(), 0), "that was before");
    }

    #[test]
    fn what_exceeds_the_list_is_counted() {
        let evictions = Evictions::default();
        for _ in 0..EVICTIONS_MAX + 3 {
            evictions.add(eviction());
        }
        let (kept, lost) = evictions.take();
        assert_eq!((kept.len(), lost), (EVICTIONS_MAX, 3));
        assert_eq!(evictions.take(), (Vec::new(), 0));
    }
}
