//! `debugtime`, which moves the time: for test suites that cannot wait, and only in builds with that feature.
//! As in memcached's debug builds, `debugtime p` stops the clock, `debugtime r` lets it run on, and a number moves
//! it by so many seconds.

use std::sync::{Mutex, PoisonError};

use crate::clock::{TICKS_PER_SECOND, Tick};
use crate::engine::access::rights::Allowed;
use crate::engine::admin::{Arguments, Command};
use crate::engine::{Engine, Then};
use crate::protocol::reply;

/// How the engine's time differs from the clock of its caller.
#[derive(Debug, Default)]
pub(in crate::engine) struct MovedTime(Mutex<Moved>);

#[derive(Debug, Default)]
struct Moved {
    ticks: i64,
    /// When the clock was stopped, not counting `ticks`.
    stopped_at: Option<Tick>,
}

impl Moved {
    fn time(&self, now: Tick) -> Tick {
        let now = i64::from(self.stopped_at.unwrap_or(now).0).saturating_add(self.ticks);
        Tick(u32::try_from(now.clamp(0, i64::from(u32::MAX - 1))).expect("clamped to fit"))
    }
}

pub(in crate::engine) const COMMAND: Command = Command {
    name: "debugtime",
    arguments: Arguments::Words("<p|r|seconds>"),
    help: "stops the clock, lets it run on, or moves it by so many seconds",
    allowed: Allowed::Operators,
    is_long: false,
    run: |engine, call| {
        let word = call.words.next();
        let is_done = engine.move_time(word.unwrap_or_default(), call.now);
        call.owed.say(if is_done { reply::OK } else { reply::ERROR });
        // The requests that follow are to see the new time, which a turn reads once.
        Some(Then::Again)
    },
};

impl Engine {
    pub(in crate::engine) fn time(&self, now: Tick) -> Tick {
        self.moved_time().0.lock().unwrap_or_else(PoisonError::into_inner).time(now)
    }

    /// Does what `word` says; `false` when it is unknown. `now` is the time as moved so far.
    fn move_time(&self, word: &[u8], now: Tick) -> bool {
        let mut moved = self.moved_time().0.lock().unwrap_or_else(PoisonError::into_inner);
        match word {
            b"p" if moved.stopped_at.is_none() => {
                let before = i64::from(now.0).saturating_sub(moved.ticks).clamp(0, i64::from(u32::MAX));
                moved.stopped_at = Some(Tick(u32::try_from(before).expect("clamped to fit")));
            }
            b"p" => {}
            b"r" => moved.stopped_at = None,
            number => {
                let text = std::str::from_utf8(number).unwrap_or_default();
                let Ok(seconds) = text.parse::<i32>() else { return false };
                moved.ticks += i64::from(seconds) * i64::from(TICKS_PER_SECOND);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Epoch;
    use crate::protocol::Owed;
    use crate::settings::Settings;

    /// Checks the reply to each line, sent `seconds` after the start by the clock of the engine's caller.
    fn check(script: &[(u32, &str, &str)]) {
        let (epoch, start) = Epoch::starting_at(1_700_000_000);
        let engine = Engine::new(Settings::default(), epoch);
        let mut session = engine.session(0);
        for (seconds, line, reply) in script {
            let input = format!("{line}\r\n");
            let (mut consumed, mut owed) = (0, Owed::default());
            while consumed < input.len() {
                let turn = engine.turn(
                    &mut session,
                    &input.as_bytes()[consumed..],
                    &mut owed,
                    start.plus_seconds(*seconds),
                );
                consumed += turn.consumed;
            }
            let said = String::from_utf8(owed.into_bytes().to_vec()).unwrap();
            assert_eq!(said, format!("{reply}\r\n"), "{line:?} after {seconds} s");
        }
    }

    #[test]
    fn time_is_moved_forth_and_back() {
        check(&[
            (0, "set k 0 100 1\r\nv", "STORED"),
            (0, "debugtime 99", "OK"),
            (0, "get k", "VALUE k 0 1\r\nv\r\nEND"),
            (0, "debugtime 2\r\nget k", "OK\r\nEND"),
            (0, "set k 0 10 1\r\nv", "STORED"),
            (0, "debugtime -50", "OK"),
            (59, "get k", "VALUE k 0 1\r\nv\r\nEND"),
            (61, "get k", "END"),
        ]);
    }

    #[test]
    fn a_stopped_clock_runs_on_from_where_it_would_be() {
        check(&[
            (0, "set k 0 100 1\r\nv", "STORED"),
            (10, "debugtime p", "OK"),
            (20, "debugtime p", "OK"),
            (500, "get k", "VALUE k 0 1\r\nv\r\nEND"),
            (500, "debugtime 89", "OK"),
            (500, "get k", "VALUE k 0 1\r\nv\r\nEND"),
            (500, "debugtime 2", "OK"),
            (500, "get k", "END"),
            (500, "set k 0 10 1\r\nv", "STORED"),
            (600, "get k", "VALUE k 0 1\r\nv\r\nEND"),
            (600, "debugtime r", "OK"),
            (600, "get k", "END"),
        ]);
    }

    #[test]
    fn what_is_no_time_is_an_error() {
        check(&[
            (0, "debugtime", "ERROR"),
            (0, "debugtime x", "ERROR"),
            (0, "debugtime 99999999999", "ERROR"),
        ]);
    }
}
