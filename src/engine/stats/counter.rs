//! One counter.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that one thread adds to and any may read.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `more`. Only the counter's own worker may: a load and a store cost less than a locked addition.
    #[inline]
    pub fn add(&self, more: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    pub(in crate::engine) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
