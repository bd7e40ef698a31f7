//! What the operator is to know of, but may happen all the time: whoever is scanned, say, is scanned without end.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::clock::Tick;

/// How often the operator is told, at most, in seconds.
const LOG_INTERVAL_SECONDS: u32 = 60;

/// One such thing: counted whenever it happens, told now and then.
#[derive(Debug, Default)]
pub(super) struct LogThrottle {
    /// When it was last told, in ticks; 0 is never.
    logged_at: AtomicU32,
    /// How often it happened since.
    unlogged: AtomicU64,
}

impl LogThrottle {
    /// Counts that it happened `times` times; says how often since it was last told, if it is to be told now.
    pub(super) fn count(&self, times: u64, now: Tick) -> Option<u64> {
        if times == 0 {
            return None;
        }
        self.unlogged.fetch_add(times, Ordering::Relaxed);
        let logged_at = self.logged_at.load(Ordering::Relaxed);
        if logged_at != 0 && now.seconds_since(Tick(logged_at)) < LOG_INTERVAL_SECONDS {
            return None;
        }
        let is_first =
            self.logged_at.compare_exchange(logged_at, now.0.max(1), Ordering::Relaxed, Ordering::Relaxed);
        is_first.ok().map(|_| self.unlogged.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use crate::net::log_throttle::*;

    #[test]
    fn what_happens_often_is_told_once_a_minute() {
        let throttle = LogThrottle::default();
        let start = Tick(100);
        assert_eq!(throttle.count(3, start), Some(3));
        for seconds in 1..LOG_INTERVAL_SECONDS {
            assert_eq!(throttle.count(2, start.plus_seconds(seconds)), None);
        }
        let all = u64::from(LOG_INTERVAL_SECONDS - 1) * 2 + 1;
        assert_eq!(throttle.count(1, start.plus_seconds(LOG_INTERVAL_SECONDS)), Some(all));
    }
}
