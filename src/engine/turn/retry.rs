//! Stores that wait for room.
//!
//! Large values that clients are owed and no item has any more take memory that no eviction frees, and from some amount on
//! the store refuses new ones. But whoever is too slow is closed soon after that. So a store that was refused for this
//! reason has not happened: its turn ends before it, with [`Then::Room`], and it is tried again a tick later, for some
//! time. The request waits where it is, in the connection's buffer, and everything behind it, too.

use crate::clock::{TICKS_PER_SECOND, Tick};
use crate::engine::turn::session::Stage;
use crate::engine::{Engine, Session, Then};

/// How long one store waits, in ticks: a second. Who stalls is closed after three tenths of one.
const ROOM_TICKS_MAX: u32 = TICKS_PER_SECOND;

/// A store that is to be tried again, because there may be room soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) struct NoRoomYet;

impl Session {
    /// The same session, whose turns may end with [`Then::Room`]. Otherwise what there is no room for is refused at once.
    #[must_use]
    pub fn patient(mut self) -> Session {
        self.is_patient = true;
        self
    }

    /// Has its next turn begin with the store that there was no room for at `now`.
    #[cold]
    pub(in crate::engine) fn await_room(&mut self, now: Tick) -> Then {
        self.stage = Stage::AwaitingRoom(self.waits_until(now));
        Then::Room
    }

    /// Until when what there is no room for at `now` may wait.
    fn waits_until(&self, now: Tick) -> Tick {
        match self.stage {
            Stage::TryingAgain(until) => until,
            _ => Tick(now.0.saturating_add(ROOM_TICKS_MAX)),
        }
    }

    /// Whether a session that did not serve is to do so in this turn: it tries again, or did so in its last turn.
    #[cold]
    pub(in crate::engine) fn serves_again(&mut self) -> bool {
        self.stage = match self.stage {
            Stage::AwaitingRoom(until) => Stage::TryingAgain(until),
            Stage::TryingAgain(_) => Stage::Serving,
            _ => return false,
        };
        true
    }
}

impl Engine {
    /// Whether what there is no room for at `now` is to wait: slow clients hold more than they may, so some will be closed.
    #[cold]
    pub(in crate::engine) fn is_room_to_come(&self, session: &Session, now: Tick) -> bool {
        session.is_patient && now < session.waits_until(now) && self.store.pinned_excess_bytes() > 0
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Buf;

    use super::*;
    use crate::clock::Epoch;
    use crate::engine::Turn;
    use crate::engine::access::rights::Rights;
    use crate::protocol::Owed;
    use crate::settings::Settings;

    const REFUSED: &str = "SERVER_ERROR out of memory storing object\r\n";

    fn ask(engine: &Engine, session: &mut Session, input: &str, now: Tick) -> (Turn, String) {
        let mut owed = Owed::default();
        let turn = engine.turn(session, input.as_bytes(), &mut owed, now);
        (turn, String::from_utf8_lossy(&owed.into_bytes()).into_owned())
    }

    fn set(key: &str) -> String {
        format!("set {key} 0 0 600000\r\n{}\r\n", "v".repeat(600_000))
    }

    /// An engine that refuses large values, and the replies, which nobody takes, that are the reason.
    fn crowded(now: Tick, epoch: Epoch) -> (Engine, Vec<Owed>) {
        let engine = Engine::new(Settings { memory_bytes: 16 << 20, ..Settings::default() }, epoch);
        let mut session = engine.session(0);
        let mut unread = Vec::new();
        assert_eq!(ask(&engine, &mut session, "set small 0 0 1\r\ns\r\n", now).1, "STORED\r\n");
        while ask(&engine, &mut session, &set("same"), now).1 == "STORED\r\n" {
            let mut owed = Owed::default();
            engine.turn(&mut session, b"get same\r\n", &mut owed, now);
            assert!(owed.remaining() > 600_000);
            unread.push(owed);
        }
        assert_eq!(ask(&engine, &mut session, &set("same"), now).1, REFUSED, "who is not patient is refused");
        (engine, unread)
    }

    #[test]
    fn a_large_value_waits_until_slow_clients_have_gone() {
        let (epoch, now) = Epoch::starting_at(1_700_000_000);
        let (engine, unread) = crowded(now, epoch);
        let mut session = engine.session(0).patient();
        let sets = session.counters.cmd_set.value();
        let (first, last) = ("get small\r\n", "set small 0 0 1\r\nt\r\n");
        let all = format!("{first}{}{last}get small\r\n", set("large"));
        let (turn, told) = ask(&engine, &mut session, &all, now);
        assert_eq!((turn.consumed, turn.then), (first.len(), Then::Room), "it stays where it is");
        assert_eq!(told, "VALUE small 0 1\r\ns\r\nEND\r\n", "and what comes behind it has not happened");
        let left = &all[first.len()..];
        let (turn, told) = ask(&engine, &mut session, left, Tick(now.0 + 1));
        assert_eq!((turn.consumed, turn.then, told.as_str()), (0, Then::Room, ""));
        assert_eq!(session.counters.cmd_set.value(), sets, "nothing is counted");

        drop(unread);
        let (turn, told) = ask(&engine, &mut session, left, Tick(now.0 + 2));
        assert_eq!(turn.consumed, left.len());
        assert_eq!(told, "STORED\r\nSTORED\r\nVALUE small 0 1\r\nt\r\nEND\r\n");
        assert_eq!(session.counters.cmd_set.value(), sets + 2);
        engine.store().validate();
    }

    #[test]
    fn it_does_not_wait_for_ever() {
        let (epoch, now) = Epoch::starting_at(1_700_000_000);
        let (engine, _unread) = crowded(now, epoch);
        let mut session = engine.session(0).patient();
        let stored = ask(&engine, &mut session, "set large 0 0 3\r\nold\r\n", now).1;
        assert_eq!(stored, "STORED\r\n", "small items have room");
        for round in 0..2 {
            let start = now.0 + 100 * round;
            for tick in start..start + ROOM_TICKS_MAX {
                let (turn, told) = ask(&engine, &mut session, &set("large"), Tick(tick));
                assert_eq!((turn.then, told.as_str()), (Then::Room, ""));
            }
            let told = ask(&engine, &mut session, &set("large"), Tick(start + ROOM_TICKS_MAX)).1;
            assert_eq!(told, REFUSED);
            // As after every refused set, nothing old is served.
            assert_eq!(ask(&engine, &mut session, "get large\r\n", now).1, "END\r\n");
        }
    }

    #[test]
    fn a_user_with_a_prefix_waits_too() {
        let (epoch, now) = Epoch::starting_at(1_700_000_000);
        let (engine, unread) = crowded(now, epoch);
        let mut session = engine.session(0).patient();
        session.set_rights(Arc::new(Rights::parse("prefix=p").unwrap()));
        let all = format!("get small\r\n{}", set("large"));
        let (turn, told) = ask(&engine, &mut session, &all, now);
        assert_eq!((turn.consumed, turn.then, told.as_str()), (11, Then::Room, "END\r\n"));
        drop(unread);
        let (turn, told) = ask(&engine, &mut session, &all[turn.consumed..], Tick(now.0 + 1));
        assert_eq!((turn.consumed, told.as_str()), (all.len() - 11, "STORED\r\n"));
    }
}
