//! Moments and deadlines, and the one rule that turns what a client sends as "exptime" into a deadline.
//!
//! Rule: nothing here reads a clock. Whoever runs the engine says what time it is (`net` from the system's
//! monotonic clock, tests from their own), so time can be moved, paused and replayed.

/// How many ticks make a second. With tenths an item lives its TTL to 0.1 s, and four bytes still reach 13.6 years.
pub const TICKS_PER_SECOND: u32 = 10;

/// Exptimes up to this many seconds (30 days) count from now; larger ones are absolute Unix times.
/// Source: memcached's protocol document, "Expiration times".
pub const RELATIVE_SECONDS_MAX: i64 = 60 * 60 * 24 * 30;

/// How far before the start of the process tick 0 lies, in seconds. It keeps "just started" apart from
/// "already expired" (tick 0); memcached's clock starts at 2 for the same reason, so its first `uptime` is 2.
const EPOCH_LEAD_SECONDS: u64 = 2;

/// A moment: tenths of a second since the [`Epoch`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tick(pub u32);

impl Tick {
    /// The whole seconds from `earlier` to this moment; 0 when it is not earlier.
    pub fn seconds_since(self, earlier: Tick) -> u32 {
        self.0.saturating_sub(earlier.0) / TICKS_PER_SECOND
    }

    /// The moment `seconds` after this one.
    #[must_use]
    pub fn plus_seconds(self, seconds: u32) -> Tick {
        Tick(self.0.saturating_add(seconds.saturating_mul(TICKS_PER_SECOND)))
    }
}

/// The moment from which an item is no longer served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(pub u32);

impl Deadline {
    /// Never reached.
    pub const NEVER: Deadline = Deadline(u32::MAX);
    /// Reached before anything began.
    pub const PAST: Deadline = Deadline(0);

    /// Whether an item with this deadline is dead at `now`.
    pub fn has_passed(self, now: Tick) -> bool {
        self != Deadline::NEVER && self.0 <= now.0
    }

    /// Seconds left at `now`, a begun one counted whole; `None` without a deadline.
    ///
    /// As in memcached an item just stored for 100 s says 100, and what is still there says at least 1.
    pub fn seconds_left(self, now: Tick) -> Option<u32> {
        if self == Deadline::NEVER {
            return None;
        }
        Some(self.0.saturating_sub(now.0).div_ceil(TICKS_PER_SECOND))
    }
}

/// Where tick 0 lies in Unix time. It starts on a whole second, so absolute exptimes are exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch {
    unix_seconds: u64,
}

impl Epoch {
    /// The epoch of a process that started at `unix_seconds`, and the tick of that very second.
    pub fn starting_at(unix_seconds: u64) -> (Epoch, Tick) {
        let epoch = Epoch { unix_seconds: unix_seconds.saturating_sub(EPOCH_LEAD_SECONDS) };
        (epoch, Tick(u32::try_from(unix_seconds - epoch.unix_seconds).unwrap_or(0) * TICKS_PER_SECOND))
    }

    /// The Unix second in which `tick` lies.
    pub fn unix_seconds(self, tick: Tick) -> u64 {
        self.unix_seconds + u64::from(tick.0 / TICKS_PER_SECOND)
    }

    /// The Unix second of `deadline`; `None` without one.
    pub fn unix_deadline(self, deadline: Deadline) -> Option<u64> {
        (deadline != Deadline::NEVER).then(|| self.unix_seconds(Tick(deadline.0)))
    }

    /// What a client's exptime means at `now`: 0 never, negative already past, up to 30 days relative, more
    /// an absolute Unix time.
    ///
    /// A relative deadline counts from the beginning of the current tick: no item is served once its TTL has passed,
    /// and it dies less than 0.1 s early. An absolute one is exact. Deadlines past what four bytes hold (13.6 years
    /// after start) are cut to the last one that fits.
    pub fn deadline(self, exptime: i64, now: Tick) -> Deadline {
        let ticks = match exptime {
            0 => return Deadline::NEVER,
            ..=-1 => return Deadline::PAST,
            1..=RELATIVE_SECONDS_MAX => i64::from(now.0) + exptime * i64::from(TICKS_PER_SECOND),
            _ => {
                let seconds = exptime.saturating_sub_unsigned(self.unix_seconds);
                seconds.saturating_mul(i64::from(TICKS_PER_SECOND))
            }
        };
        // `u32::MAX` itself means never.
        Deadline(u32::try_from(ticks.clamp(0, i64::from(u32::MAX - 1))).expect("clamped to fit"))
    }

    /// The moment a delayed `flush_all` names: like [`Epoch::deadline`], but 0 and less mean now.
    pub fn flush_moment(self, exptime: i64, now: Tick) -> Tick {
        if exptime <= 0 { now } else { Tick(self.deadline(exptime, now).0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIX: u64 = 1_700_000_000;

    fn deadline(exptime: i64) -> Deadline {
        let (epoch, start) = Epoch::starting_at(UNIX);
        epoch.deadline(exptime, start)
    }

    #[test]
    fn a_ttl_is_never_exceeded_and_lived_but_for_less_than_a_tick() {
        let (_, start) = Epoch::starting_at(UNIX);
        let one_second = deadline(1);
        assert!(!one_second.has_passed(Tick(start.0 + TICKS_PER_SECOND - 1)));
        assert!(one_second.has_passed(Tick(start.0 + TICKS_PER_SECOND)));
    }

    #[test]
    fn thirty_days_are_relative_and_a_second_more_is_absolute() {
        let (epoch, start) = Epoch::starting_at(UNIX);
        assert_eq!(deadline(RELATIVE_SECONDS_MAX).seconds_left(start), Some(2_592_000));
        assert_eq!(deadline(RELATIVE_SECONDS_MAX + 1), Deadline::PAST);
        let unix = i64::try_from(UNIX).unwrap();
        assert_eq!(epoch.unix_deadline(deadline(unix + 5)), Some(UNIX + 5));
        assert!(!deadline(unix + 5).has_passed(Tick(start.0 + 49)));
        assert!(deadline(unix + 5).has_passed(Tick(start.0 + 50)));
    }

    #[test]
    fn zero_never_passes_and_negative_has_passed() {
        assert_eq!(deadline(0), Deadline::NEVER);
        assert!(!deadline(0).has_passed(Tick(u32::MAX)));
        assert!(deadline(-1).has_passed(Tick(0)));
    }

    #[test]
    fn the_far_future_is_cut_to_what_fits() {
        assert!(deadline(i64::from(u32::MAX)) < Deadline::NEVER);
        assert!(!deadline(i64::MAX).has_passed(Tick(u32::MAX - 2)));
    }

    #[test]
    fn a_fresh_item_says_its_whole_ttl() {
        let (_, start) = Epoch::starting_at(UNIX);
        assert_eq!(deadline(100).seconds_left(start), Some(100));
        assert_eq!(deadline(100).seconds_left(start.plus_seconds(40)), Some(60));
        assert_eq!(deadline(0).seconds_left(start), None);
        assert_eq!(deadline(2).seconds_left(Tick(start.0 + 9)), Some(2));
        assert_eq!(deadline(2).seconds_left(Tick(start.0 + 10)), Some(1));
        assert_eq!(deadline(2).seconds_left(Tick(start.0 + 19)), Some(1), "it is still there");
    }
}
