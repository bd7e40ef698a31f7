//! What the operator is to know of, but may happen all the time: whoever is scanned, say, is scanned without end.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::clock::Tick;

/// How often the operator is told, at most, in seconds.
const TOLD_SECONDS_MIN: u32 = 60;

/// One such thing: counted whenever it happens, told now and then.
#[derive(Debug, Default)]
pub(super) struct Seldom {
    /// When it was last told, in ticks; 0 is never.
    told: AtomicU32,
    /// How often it happened since.
    untold: AtomicU64,
}

impl Seldom {
    /// Counts that it happened `times` times; says how often since it was last told, if it is to be told now.
    pub(super) fn count(&self, times: u64, now: Tick) -> Option<u64> {
        if times == 0 {
            return None;
        }
        self.untold.fetch_add(times, Ordering::Relaxed);
        let told = self.told.load(Ordering::Relaxed);
        if told != 0 && now.seconds_since(Tick(told)) < TOLD_SECONDS_MIN {
            return None;
        }
        let is_first = self.told.compare_exchange(told, now.0.max(1), Ordering::Relaxed, Ordering::Relaxed);
        is_first.ok().map(|_| self.untold.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use crate::net::log_throttle::*;

    #[test]
    fn what_happens_often_is_told_once_a_minute() {
        let seldom = Seldom::default();
        let start = Tick(100);
        assert_eq!(seldom.count(3, start), Some(3));
        for seconds in 1..TOLD_SECONDS_MIN {
            assert_eq!(seldom.count(2, start.plus_seconds(seconds)), None);
        }
        let all = u64::from(TOLD_SECONDS_MIN - 1) * 2 + 1;
        assert_eq!(seldom.count(1, start.plus_seconds(TOLD_SECONDS_MIN)), Some(all));
    }
}
