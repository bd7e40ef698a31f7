//! The clock by which the network tells the engine the time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::clock::{Epoch, TICKS_PER_SECOND, Tick};

/// The system's monotonic clock, counted in ticks.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
    start: Tick,
}

impl Clock {
    /// A clock that starts now, and the epoch that places it in Unix time.
    pub fn start() -> (Clock, Epoch) {
        // This clock is read first: the time until the other is read makes it run ahead, so no item outlives its time.
        let started = Instant::now();
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let (epoch, start) = Epoch::starting_at(unix.as_secs());
        // Ticks begin on a whole second; this process began somewhere within it.
        let started =
            started.checked_sub(Duration::from_nanos(unix.subsec_nanos().into())).unwrap_or(started);
        (Clock { started, start }, epoch)
    }

    /// The current tick, which has begun: so never a later moment than now.
    ///
    /// Every turn reads the clock anew, after it has read the socket: with an older moment it could serve an item that
    /// has expired. That is one `clock_gettime` a turn, which the vDSO answers without a system call.
    #[inline]
    pub fn now(&self) -> Tick {
        let elapsed = self.started.elapsed();
        let seconds = u32::try_from(elapsed.as_secs()).unwrap_or(u32::MAX);
        Tick(self.start.0.saturating_add(elapsed.subsec_millis() / (1000 / TICKS_PER_SECOND)))
            .plus_seconds(seconds)
    }
}
