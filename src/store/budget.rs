//! The memory budget of a store: the limit, how much is charged, and how much of that each shard holds.
//!
//! Rules: every page of a segment, of the index and of a large value, and the ghosts, are charged here before they are
//! touched. More than the limit is charged only for memory without which a shard cannot go on (*overdrawing*). The
//! store then has the shard that holds most give up memory, before the caller gets its answer.

use std::sync::atomic::{AtomicU64, Ordering};

/// The counters. They are plain sums, and nothing depends on their order, so `Relaxed` suffices throughout.
#[derive(Debug)]
pub(super) struct Budget {
    limit: AtomicU64,
    /// How many bytes are charged.
    used: AtomicU64,
    /// How many bytes each shard could give up: its segments and its items' large values.
    holdings: Box<[AtomicU64]>,
    /// The sum of the holdings.
    held: AtomicU64,
    /// How many bytes no shard holds any more and are about to be refunded, in most cases.
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

    /// How many bytes are charged above the limit.
    pub(super) fn debt(&self) -> u64 {
        self.used().saturating_sub(self.limit())
    }

    /// A shard's equal part of the limit, in bytes.
    pub(super) fn share(&self) -> u64 {
        self.limit() / self.holdings.len() as u64
    }

    /// Charges `bytes` if they fit.
    pub(super) fn try_charge(&self, bytes: u64) -> bool {
        let limit = self.limit();
        let fits = |used: u64| used.checked_add(bytes).filter(|&sum| sum <= limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    /// Charges `bytes` whether they fit or not.
    pub(super) fn charge(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Charges `bytes` less.
    pub(super) fn refund(&self, bytes: u64) {
        let before = self.used.fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(before >= bytes, "no more is refunded than was charged");
    }

    /// Whether `bytes` would fit if every shard gave up all that it holds.
    pub(super) fn may_overdraw(&self, bytes: u64) -> bool {
        let kept = self.used().saturating_sub(self.held.load(Ordering::Relaxed) + self.departing());
        kept.saturating_add(bytes) <= self.limit()
    }

    /// Notes that shard `number` holds `bytes` more, which are charged.
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

    /// Notes that `bytes` that no shard holds any more are about to be refunded.
    pub(super) fn begin_departure(&self, bytes: u64) {
        self.departing.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Notes that `bytes` of these were refunded, or that only readers hold them now.
    pub(super) fn end_departure(&self, bytes: u64) {
        self.departing.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// How many bytes are about to be refunded.
    pub(super) fn departing(&self) -> u64 {
        self.departing.load(Ordering::Relaxed)
    }

    /// How many bytes shard `number` holds.
    pub(super) fn held_by(&self, number: usize) -> u64 {
        self.holdings[number].load(Ordering::Relaxed)
    }

    /// The number of the shard that holds most.
    pub(super) fn largest_holder(&self) -> usize {
        let holdings = self.holdings.iter().map(|holding| holding.load(Ordering::Relaxed));
        holdings.enumerate().max_by_key(|&(_, bytes)| bytes).map_or(0, |(number, _)| number)
    }

    /// Checks the sums, for `validate`.
    pub(super) fn assert_sums(&self) {
        let sum: u64 = (0..self.holdings.len()).map(|number| self.held_by(number)).sum();
        assert_eq!(sum, self.held.load(Ordering::Relaxed), "the holdings add up");
        assert!(sum <= self.used(), "shards hold only charged bytes");
        assert_eq!(self.departing(), 0, "nothing is departing for long");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_fits_and_no_more() {
        let budget = Budget::new(100, 2);
        assert!(budget.try_charge(60));
        assert!(!budget.try_charge(41));
        assert!(budget.try_charge(40));
        budget.refund(1);
        assert!(budget.try_charge(1));
        assert!(!budget.try_charge(u64::MAX));
    }

    #[test]
    fn overdraws_only_against_what_can_be_given_up() {
        let budget = Budget::new(100, 2);
        budget.charge(100);
        budget.hold(1, 70);
        assert!(budget.may_overdraw(70));
        assert!(!budget.may_overdraw(71));
        budget.charge(70);
        assert_eq!(budget.debt(), 70);
        assert_eq!(budget.largest_holder(), 1);
        budget.let_go(1, 70);
        budget.assert_sums();
    }
}
