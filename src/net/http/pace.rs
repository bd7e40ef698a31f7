//! A bound on how often something is done: so many times a tick, and the rest later.

use std::sync::Mutex;
use std::time::Instant;

use crate::net::TICK;

/// Counts what is done in the tick that is going on.
#[derive(Debug)]
pub(super) struct Pace {
    times_max: u32,
    current: Mutex<(Instant, u32)>,
}

impl Pace {
    /// One that lets something be done `times_max` times a tick.
    pub(super) fn new(times_max: u32) -> Pace {
        Pace { times_max, current: Mutex::new((Instant::now(), 0)) }
    }

    /// Waits until it may be done once more.
    pub(super) async fn keep(&self) {
        while let Some(wait) = self.try_at(Instant::now()) {
            tokio::time::sleep(wait).await;
        }
    }

    /// Counts one at `now`, or says how long to wait before the next attempt.
    fn try_at(&self, now: Instant) -> Option<std::time::Duration> {
        let mut current = self.current.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (since, times) = &mut *current;
        let passed = now.saturating_duration_since(*since);
        if passed >= TICK {
            (*since, *times) = (now, 0);
        } else if *times >= self.times_max {
            return Some(TICK - passed);
        }
        *times += 1;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_times_a_tick_and_no_more() {
        let pace = Pace::new(3);
        let start = pace.current.lock().unwrap().0;
        for _ in 0..3 {
            assert_eq!(pace.try_at(start), None);
        }
        assert_eq!(pace.try_at(start), Some(TICK));
        assert_eq!(pace.try_at(start + TICK / 2), Some(TICK / 2));
        assert_eq!(pace.try_at(start + TICK), None);
    }
}
