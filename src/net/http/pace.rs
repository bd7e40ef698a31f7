//! A bound on how often something is done: so many times a tick, and the rest later.

use std::time::{Duration, Instant};

use crate::net::TICK;

/// Counts what is done in the tick that is going on.
#[derive(Debug)]
pub(super) struct Pace {
    times_max: u32,
    /// When that tick began.
    since: Instant,
    times: u32,
}

impl Pace {
    /// One that lets something be done `times_max` times a tick.
    pub(super) fn new(times_max: u32) -> Pace {
        Pace { times_max, since: Instant::now(), times: 0 }
    }

    /// Waits until it may be done once more.
    pub(super) async fn keep(&mut self) {
        while let Some(wait) = self.try_at(Instant::now()) {
            tokio::time::sleep(wait).await;
        }
    }

    /// Counts one at `now`, or says how long to wait before the next attempt.
    fn try_at(&mut self, now: Instant) -> Option<Duration> {
        let passed = now.saturating_duration_since(self.since);
        if passed >= TICK {
            (self.since, self.times) = (now, 0);
        } else if self.times >= self.times_max {
            return Some(TICK - passed);
        }
        self.times += 1;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_times_a_tick_and_no_more() {
        let mut pace = Pace::new(3);
        let start = pace.since;
        for _ in 0..3 {
            assert_eq!(pace.try_at(start), None);
        }
        assert_eq!(pace.try_at(start), Some(TICK));
        assert_eq!(pace.try_at(start + TICK / 2), Some(TICK / 2));
        assert_eq!(pace.try_at(start + TICK), None);
    }
}
