//! How much memory the store may take, and who holds how much of it. One for all shards.
//!
//! Rules: every page of a segment, of the index and of a large value, and the ghosts, are charged here before
//! they are touched. More than the limit is charged only for what a shard must have to go on (overdrawing);
//! the shell then has the richest shard give way, before the caller gets its answer.

use std::sync::atomic::{AtomicU64, Ordering};

/// The counters. They are plain sums and order nothing, so `Relaxed` suffices throughout.
#[derive(Debug)]
pub(super) struct Budget {
    limit: AtomicU64,
    /// All that is charged.
    used: AtomicU64,
    /// What each shard could give up: its segments and the large values it can be asked for.
    holdings: Box<[AtomicU64]>,
    /// Their sum.
    held: AtomicU64,
    /// What is let go of and about to be given back.
    departing: AtomicU64,
}

impl Budget {
    pub(super) fn new(limit: u64, shards: usize) -> Budget {
        Budget {
            limit: AtomicU64::new(limit),
            used: AtomicU64::new(0),
            holdings: (0..shards).map(|_| AtomicU64::new(0)).collect(),
            held: AtomicU64::new(0),
            departing: AtomicU64::new(0),
        }
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    pub(super) fn set_limit(&self, limit: u64) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// How far above the limit the charges are, in bytes.
    pub(super) fn debt(&self) -> u64 {
        self.used().saturating_sub(self.limit())
    }

    /// An equal part of the limit.
    pub(super) fn share(&self) -> u64 {
        self.limit() / self.holdings.len() as u64
    }

    /// Charges `bytes` if they fit.
    pub(super) fn try_take(&self, bytes: u64) -> bool {
        let limit = self.limit();
        let fits = |used: u64| used.checked_add(bytes).filter(|&sum| sum <= limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    /// Charges `bytes` whether they fit or not.
    pub(super) fn take(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Takes back a charge.
    pub(super) fn give_back(&self, bytes: u64) {
        let before = self.used.fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(before >= bytes, "no more is given back than was taken");
    }

    /// Whether `bytes` would fit if every shard gave up all it holds.
    pub(super) fn may_overdraw(&self, bytes: u64) -> bool {
        let kept = self.used().saturating_sub(self.held.load(Ordering::Relaxed) + self.departing());
        kept.saturating_add(bytes) <= self.limit()
    }

    /// Notes that shard `number` holds `bytes` more of what is charged.
    pub(super) fn hold(&self, number: usize, bytes: u64) {
        self.holdings[number].fetch_add(bytes, Ordering::Relaxed);
        self.held.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Notes that shard `number` holds `bytes` less.
    pub(super) fn let_go(&self, number: usize, bytes: u64) {
        let before = self.holdings[number].fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(before >= bytes, "a shard lets go of what it holds");
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Notes that `bytes` that nobody holds any more are about to be given back.
    pub(super) fn see_off(&self, bytes: u64) {
        self.departing.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Notes that `bytes` of these were given back, or are held by readers.
    pub(super) fn departed(&self, bytes: u64) {
        self.departing.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// What is about to be given back, in bytes.
    pub(super) fn departing(&self) -> u64 {
        self.departing.load(Ordering::Relaxed)
    }

    /// What shard `number` holds, in bytes.
    pub(super) fn holding(&self, number: usize) -> u64 {
        self.holdings[number].load(Ordering::Relaxed)
    }

    /// The shard that holds most and what it holds, in bytes.
    pub(super) fn richest(&self) -> (usize, u64) {
        let holdings = self.holdings.iter().map(|holding| holding.load(Ordering::Relaxed));
        holdings.enumerate().max_by_key(|&(_, bytes)| bytes).unwrap_or((0, 0))
    }

    /// What the shards hold and what they might, for `validate`.
    pub(super) fn assert_sums(&self) {
        let sum: u64 = (0..self.holdings.len()).map(|number| self.holding(number)).sum();
        assert_eq!(sum, self.held.load(Ordering::Relaxed), "what is held is the sum of the holdings");
        assert!(sum <= self.used(), "what is held is charged");
        assert_eq!(self.departing(), 0, "what was about to be given back is gone");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_fits_and_no_more() {
        let budget = Budget::new(100, 2);
        assert!(budget.try_take(60));
        assert!(!budget.try_take(41));
        assert!(budget.try_take(40));
        budget.give_back(1);
        assert!(budget.try_take(1));
        assert!(!budget.try_take(u64::MAX));
    }

    #[test]
    fn overdraws_only_against_what_can_be_given_up() {
        let budget = Budget::new(100, 2);
        budget.take(100);
        budget.hold(1, 70);
        assert!(budget.may_overdraw(70));
        assert!(!budget.may_overdraw(71));
        budget.take(70);
        assert_eq!(budget.debt(), 70);
        assert_eq!(budget.richest(), (1, 70));
        budget.let_go(1, 70);
        budget.assert_sums();
    }
}
