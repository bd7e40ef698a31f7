//! Stores that are retried until slow clients have gone.

use std::sync::Arc;

use bytes::Buf;

use super::*;
use crate::clock::Epoch;
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
    let sets = session.counters().cmd_set.value();
    let (first, last) = ("get small\r\n", "set small 0 0 1\r\nt\r\n");
    let all = format!("{first}{}{last}get small\r\n", set("large"));
    let (turn, told) = ask(&engine, &mut session, &all, now);
    assert_eq!((turn.consumed, turn.then), (first.len(), Then::Retry), "it stays where it is");
    assert_eq!(told, "VALUE small 0 1\r\ns\r\nEND\r\n", "and what comes behind it has not happened");
    let left = &all[first.len()..];
    let (turn, told) = ask(&engine, &mut session, left, Tick(now.0 + 1));
    assert_eq!((turn.consumed, turn.then, told.as_str()), (0, Then::Retry, ""));
    assert_eq!(session.counters().cmd_set.value(), sets, "nothing is counted");

    drop(unread);
    let (turn, told) = ask(&engine, &mut session, left, Tick(now.0 + 2));
    assert_eq!(turn.consumed, left.len());
    assert_eq!(told, "STORED\r\nSTORED\r\nVALUE small 0 1\r\nt\r\nEND\r\n");
    assert_eq!(session.counters().cmd_set.value(), sets + 2);
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
        for tick in start..start + RETRY_TICKS_MAX {
            let (turn, told) = ask(&engine, &mut session, &set("large"), Tick(tick));
            assert_eq!((turn.then, told.as_str()), (Then::Retry, ""));
        }
        let told = ask(&engine, &mut session, &set("large"), Tick(start + RETRY_TICKS_MAX)).1;
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
    assert_eq!((turn.consumed, turn.then, told.as_str()), (11, Then::Retry, "END\r\n"));
    drop(unread);
    let (turn, told) = ask(&engine, &mut session, &all[turn.consumed..], Tick(now.0 + 1));
    assert_eq!((turn.consumed, told.as_str()), (all.len() - 11, "STORED\r\n"));
}
