//! A rate limit for warnings about events that clients can cause without end: all are counted, one a minute is logged.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::clock::Tick;

/// The least time between two lines of the log, in seconds.
const LOG_INTERVAL_SECONDS: u32 = 60;

/// Counts one kind of event, and says when to log it.
#[derive(Debug, Default)]
pub(super) struct LogThrottle {
    /// The tick of the last line; 0 if there was none.
    logged_at: AtomicU32,
    /// How many events there were since.
    unlogged: AtomicU64,
}

impl LogThrottle {
    /// Adds `times` events at `now`. When they should be logged, returns how many there were since the last line.
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
    fn frequent_events_are_logged_once_a_minute() {
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
