//! The clock that the engine is told the time by.

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
        // First: what passes until the other clock is read makes this one run ahead, and none serves what is dead.
        let started = Instant::now();
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let (epoch, start) = Epoch::starting_at(unix.as_secs());
        // Ticks begin on a whole second; this process began somewhere within it.
        let started =
            started.checked_sub(Duration::from_nanos(unix.subsec_nanos().into())).unwrap_or(started);
        (Clock { started, start }, epoch)
    }

    /// What time it is: the tick that has begun, so never a later moment than this one.
    ///
    /// Every turn reads it anew, behind the read of the socket: a turn that saw an older moment could serve an item whose
    /// time has passed. That is one `clock_gettime` a turn, which the vDSO answers without a system call.
    #[inline]
    pub fn now(&self) -> Tick {
        let elapsed = self.started.elapsed();
        let seconds = u32::try_from(elapsed.as_secs()).unwrap_or(u32::MAX);
        Tick(self.start.0.saturating_add(elapsed.subsec_millis() / (1000 / TICKS_PER_SECOND)))
            .plus_seconds(seconds)
    }
}
