//! The table of statistics and what clients are shown are the same.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::row::Kind;
use super::*;
use crate::clock::Epoch;
use crate::engine::admin::certificates::Certificates;
use crate::engine::{Session, Then};
use crate::protocol::Owed;
use crate::settings::{Compat, Settings, TlsSettings};

#[derive(Debug)]
struct Fresh;

impl Certificates for Fresh {
    fn refresh(&self) -> Result<(), String> {
        Ok(())
    }

    fn age_seconds(&self) -> u64 {
        0
    }
}

/// An engine that shows every line.
fn engine() -> (Engine, Session, Tick) {
    let settings = Settings {
        idle_seconds_max: 60,
        tls: TlsSettings { session_cache: true, ..TlsSettings::default() },
        compat: Compat { temporary_ttl: Some(60), ..Compat::default() },
        ..Settings::default()
    };
    let (epoch, now) = Epoch::starting_at(1_700_000_000);
    let engine = Engine::new(settings, epoch);
    engine.set_certificates(Arc::new(Fresh));
    let mut session = engine.session(0);
    assert_eq!(ask(&engine, &mut session, "set k 0 0 1\r\nv", now), "STORED\r\n");
    (engine, session, now)
}

fn ask(engine: &Engine, session: &mut Session, command: &str, now: Tick) -> String {
    let mut owed = Owed::default();
    let input = format!("{command}\r\n");
    let turn = engine.turn(session, input.as_bytes(), &mut owed, now);
    assert_eq!(turn.consumed, input.len());
    assert!(matches!(turn.then, Then::Again | Then::Read { .. }));
    String::from_utf8(owed.into_bytes().to_vec()).unwrap()
}

/// The names and values that `command` shows.
fn shown(reply: &str) -> Vec<(&str, &str)> {
    let lines = reply.strip_suffix("END\r\n").unwrap().lines();
    lines.map(|line| line.strip_prefix("STAT ").unwrap().split_once(' ').unwrap()).collect()
}

#[test]
fn every_line_has_a_row_and_every_row_a_line() {
    let (engine, mut session, now) = engine();
    for &(command, table) in TABLE {
        let reply = ask(&engine, &mut session, command, now);
        let mut names: Vec<_> = shown(&reply).into_iter().map(|(name, _)| name).collect();
        if command == "stats prefixes" {
            names.drain(..4); // what tells of the sample
        }
        let rows: Vec<_> = table.iter().map(|row| row.name).collect();
        assert_eq!(names, rows, "{command}");
    }
}

#[test]
fn lines_with_a_condition_are_only_shown_where_it_holds() {
    let (epoch, now) = Epoch::starting_at(1_700_000_000);
    let compat = Compat { slab_reassign: false, lru_maintainer: false, ..Compat::default() };
    let settings = Settings { maxconns_fast: false, sweep_enabled: false, compat, ..Settings::default() };
    let engine = Engine::new(settings, epoch);
    let mut session = engine.session(0);
    for &(command, table) in TABLE {
        let reply = ask(&engine, &mut session, command, now);
        let names: HashSet<_> = shown(&reply).into_iter().map(|(name, _)| name).collect();
        for row in table {
            assert_eq!(names.contains(row.name), row.condition().is_none(), "{command}: {}", row.name);
        }
    }
}

#[test]
fn every_row_says_in_a_sentence_what_it_tells() {
    let mut counters = HashSet::new();
    for (command, row) in rows() {
        let is_sentence = row.help.ends_with('.') && row.help.len() > 10;
        assert!(is_sentence, "{command}: {}: {:?}", row.name, row.help);
        if row.kind() == Kind::Counter {
            assert!(counters.insert(row.name), "the base of {} is found by its name", row.name);
        }
    }
}

#[test]
fn a_reset_zeroes_counters_and_nothing_else() {
    let (engine, mut session, now) = engine();
    let connections = engine.connections();
    for number in [&connections.total, &connections.rejected, &connections.rejected_datagrams] {
        number.store(7, Ordering::Relaxed);
    }
    connections.current.store(3, Ordering::Relaxed);
    ask(&engine, &mut session, "flush_prefix nothing", now);
    ask(&engine, &mut session, "get k", now);
    let named = |reply: &str, name: &str| {
        let shown = shown(reply);
        shown.iter().find(|(known, _)| *known == name).unwrap().1.parse::<u64>().unwrap()
    };
    let before = ask(&engine, &mut session, "stats", now);
    let counted =
        [("total_connections", 7), ("rejected_connections", 7), ("get_hits", 1), ("total_items", 1)];
    for (name, value) in counted {
        assert_eq!(named(&before, name), value, "{name}");
    }
    assert_eq!(ask(&engine, &mut session, "stats reset", now), "RESET\r\n");
    for &(command, table) in TABLE {
        let reply = ask(&engine, &mut session, command, now);
        for row in table.iter().filter(|row| row.kind() == Kind::Counter) {
            // The commands of this test are read and answered, too.
            let is_traffic = matches!(row.name, "bytes_read" | "bytes_written" | "conn_yields");
            assert!(is_traffic || named(&reply, row.name) == 0, "{command}: {} after a reset", row.name);
        }
    }
    let after = ask(&engine, &mut session, "stats", now);
    assert_eq!((named(&after, "curr_connections"), named(&after, "curr_items")), (3, 1));
    ask(&engine, &mut session, "get k", now);
    connections.total.fetch_add(1, Ordering::Relaxed);
    let after = ask(&engine, &mut session, "stats", now);
    assert_eq!((named(&after, "get_hits"), named(&after, "total_connections")), (1, 1));
}
