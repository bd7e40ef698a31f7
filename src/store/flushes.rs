//! Flushes by prefix: dropping all items whose keys begin with a prefix, without looking at them all at once.
//!
//! A flush removes the items whose keys begin with its prefix and that were written before it. From the moment a shard
//! has taken it in, no look-up finds such an item: the one that comes across it removes it. That alone would leave the
//! memory of items that no client asks for, so the background work looks through the shard's segments, one after the
//! other, all around. A flush that has waited for one whole round is done.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use crate::store::shards::{Store, unlock};

/// The store refused a flush, because too many wait already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyFlushes;

/// The background work looks through a whole store within so many ticks; the larger the store, the more.
const TICKS: std::ops::RangeInclusive<usize> = 8..=32;
/// In one tick it looks through at least so many bytes over all shards, which takes a few milliseconds, unless the
/// store is done within fewer ticks then.
const TICK_BYTES_MIN: usize = 16 << 20;

impl Store {
    /// Drops all items stored so far under keys that begin with `prefix`: no look-up finds them from now on. Their
    /// memory comes back in the background, with [`Store::tidy`].
    ///
    /// It locks each shard twice, and takes no longer for many items than for few.
    ///
    /// # Errors
    /// [`TooManyFlushes`], and nothing is dropped, when [`FLUSHES_MAX`](crate::store::FLUSHES_MAX) other flushes wait.
    pub fn flush_prefix(&self, prefix: &[u8]) -> Result<(), TooManyFlushes> {
        self.flush_prefix_within(b"", prefix)
    }

    /// The same for a client all of whose keys begin with `own`, as `prefix` does.
    ///
    /// # Errors
    /// [`TooManyFlushes`] also when [`FLUSHES_OWN_MAX`](crate::store::FLUSHES_OWN_MAX) other flushes of such keys wait.
    /// To flush all of `own` is refused only when clients with other keys have
    /// [`FLUSHES_MAX`](crate::store::FLUSHES_MAX) flushes waiting.
    pub fn flush_prefix_within(&self, own: &[u8], prefix: &[u8]) -> Result<(), TooManyFlushes> {
        // Held until all shards have taken the flush in: either each of them may, or none.
        let _flushing = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        if !(0..self.shard_count()).all(|number| self.lock(number).may_flush(prefix, own)) {
            return Err(TooManyFlushes);
        }
        for number in 0..self.shard_count() {
            let mut shard = self.lock(number);
            let last_write = self.common.last_write.load(Ordering::Relaxed);
            shard.flush_prefix(prefix, last_write);
        }
        Ok(())
    }

    /// Removes flushed items in a part of every shard, a segment at a time.
    pub(super) fn sweep_flushed(&self) {
        let slices_min = TICK_BYTES_MIN / self.common.segment_bytes / self.shard_count();
        for number in 0..self.shard_count() {
            let segments = self.lock(number).segments();
            let slices = slices_min.clamp(segments / TICKS.end() + 1, segments / TICKS.start() + 1);
            for _ in 0..slices {
                let mut shard = self.lock(number);
                let goes_on = shard.sweep_flushed();
                unlock(shard);
                if !goes_on {
                    break;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Deadline, Tick};
    use crate::store::{
        Access, Cas, Change, Content, Draft, FLUSHES_MAX, FLUSHES_OWN_MAX, Marks, StoreConfig,
    };

    const NOW: Tick = Tick(20);

    fn store() -> Store {
        Store::new(StoreConfig { memory_bytes: 16 << 20, evictions_enabled: true, workers: 2 })
    }

    fn put(store: &Store, key: &str, content: Content<'_>, cas: Cas) {
        let draft = Draft { content, flags: 0, deadline: Deadline::NEVER, cas, marks: Marks::default() };
        store.update(store.hash(key.as_bytes()), NOW, |_| (Change::Put(draft), ())).1.unwrap();
    }

    fn set(store: &Store, key: &str) {
        put(store, key, Content::Whole(b"value"), Cas::Next);
    }

    fn is_there(store: &Store, key: &str) -> bool {
        store.read(store.hash(key.as_bytes()), NOW, Access::Peek, |found| found.item().is_some())
    }

    fn sweep_through(store: &Store) -> usize {
        (1..1000)
            .find(|_| {
                store.tidy(NOW);
                store.stats().flushes_waiting == 0
            })
            .expect("a flush is through some time")
    }

    #[test]
    fn items_written_before_are_gone_and_later_ones_stay() {
        let store = store();
        for key in ["a", "a:", "a:1", "a:2", "b:1", "ab:1"] {
            set(&store, key);
        }
        store.flush_prefix(b"a:").unwrap();
        assert_eq!(store.stats().items, 6, "no look-up has met them yet");
        set(&store, "a:2");
        let there = ["a", "a:", "a:1", "a:2", "b:1", "ab:1"].map(|key| is_there(&store, key));
        assert_eq!(there, [true, false, false, true, true, true]);
        sweep_through(&store);
        assert!(is_there(&store, "a:2"));
        assert_eq!(store.stats().items, 4);
        store.validate();
    }

    #[test]
    fn a_cas_id_given_by_a_client_says_nothing_about_when() {
        let store = store();
        for (number, cas) in [1, 2, 1000, 1 << 40, 1 << 47, 1 << 60, u64::MAX].into_iter().enumerate() {
            put(&store, &format!("old:{number}"), Content::Whole(b"value"), Cas::Exact(cas));
            // Touched, and so written anew: but not a write, for its value is from before.
            put(&store, &format!("old:{number}"), Content::Same, Cas::Same);
            store.flush_prefix(b"old:").unwrap();
            store.flush_prefix(b"new:").unwrap();
            put(&store, &format!("new:{number}"), Content::Whole(b"value"), Cas::Exact(cas));
            put(&store, &format!("new:{number}"), Content::Same, Cas::Same);
            assert!(!is_there(&store, &format!("old:{number}")));
            assert!(is_there(&store, &format!("new:{number}")));
        }
    }

    #[test]
    fn one_more_than_may_wait_is_refused_by_all_shards() {
        let store = store();
        set(&store, "a shard with something in it");
        for number in 0..FLUSHES_MAX {
            store.flush_prefix(format!("{number:04}").as_bytes()).unwrap();
        }
        assert_eq!(store.stats().flushes_waiting, FLUSHES_MAX as u64);
        (0..100).for_each(|number| set(&store, &format!("9999{number}")));
        assert_eq!(store.flush_prefix(b"9999"), Err(TooManyFlushes));
        assert!((0..100).all(|number| is_there(&store, &format!("9999{number}"))));
        store.flush_prefix(b"0007").expect("it waits already");
        sweep_through(&store);
        store.flush_prefix(b"9999").unwrap();
        assert!(!(0..100).any(|number| is_there(&store, &format!("9999{number}"))));
    }

    #[test]
    fn a_client_that_flushes_much_leaves_some_to_others() {
        let store = store();
        set(&store, "a shard with something in it");
        for number in 0..FLUSHES_OWN_MAX {
            store.flush_prefix_within(b"a:", format!("a:{number}").as_bytes()).unwrap();
        }
        assert_eq!(store.flush_prefix_within(b"a:", b"a:more"), Err(TooManyFlushes));
        store.flush_prefix_within(b"a:", b"a:7").expect("it waits already");
        store.flush_prefix_within(b"b:", b"b:1").expect("others may flush");
        assert_eq!(store.stats().flushes_waiting, FLUSHES_OWN_MAX as u64 + 1);
        store.flush_prefix_within(b"a:", b"a:").expect("it takes the place of all it covers");
        assert_eq!(store.stats().flushes_waiting, 2);
    }

    #[test]
    fn a_flush_takes_the_place_of_those_it_covers() {
        let store = store();
        (0..100).for_each(|number| set(&store, &format!("a:{number}")));
        store.flush_prefix(b"a:1").unwrap();
        set(&store, "a:1");
        store.flush_prefix(b"a:").unwrap();
        set(&store, "a:2");
        assert!((3..100).all(|number| !is_there(&store, &format!("a:{number}"))));
        assert_eq!([is_there(&store, "a:1"), is_there(&store, "a:2")], [false, true]);
        sweep_through(&store);
        assert_eq!(store.stats().items, 1);
        store.validate();
    }

    #[test]
    fn memory_comes_back_within_some_seconds() {
        let store = store();
        (0..20_000).for_each(|number| set(&store, &format!("a:{number}")));
        (0..1000).for_each(|number| set(&store, &format!("b:{number}")));
        let before = store.stats().bytes;
        store.flush_prefix(b"a:").unwrap();
        assert!(sweep_through(&store) <= 2 * TICKS.start(), "it is small");
        assert_eq!(store.stats().items, 1000);
        assert!(store.stats().bytes < before / 10);
        store.flush_prefix(b"b").unwrap();
        store.flush();
        assert_eq!(store.stats().flushes_waiting, 0, "nothing is left that it could concern");
        store.validate();
    }
}
