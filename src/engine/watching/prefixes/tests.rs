//! Prefixes: how they are counted, bounded and forgotten.

use crate::clock::Epoch;
use crate::engine::OWED_BYTES_MAX;
use crate::engine::watching::prefixes::*;
use crate::settings::Settings;
use bytes::Buf;

const HIT: Use = Use::Get { is_hit: true };

fn lines(prefixes: &Prefixes) -> Vec<String> {
    let mut owed = Owed::default();
    prefixes.listed().prefixes.iter().for_each(|prefix| prefix.say(&mut owed));
    let text = String::from_utf8_lossy(&owed.into_bytes()).into_owned();
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn a_prefix_ends_before_the_first_delimiter() {
    assert_eq!(prefix(b"a:b:c", b':'), Some(&b"a"[..]));
    assert_eq!(prefix(b":b", b':'), Some(&b""[..]));
    assert_eq!(prefix(b"plain", b':'), None);
}

#[test]
fn workers_sessions_and_prefixes_add_up() {
    let prefixes = Prefixes::new(b':', 2, true);
    let mut sessions = [PrefixCache::default(), PrefixCache::default(), PrefixCache::default()];
    // More prefixes than a session remembers, so that every one is forgotten and found again.
    for round in 0..10 {
        for (number, session) in sessions.iter_mut().enumerate() {
            for name in ["a:x", "b:x", "c:x", "d:x", "e:x", "f:x"] {
                let used = [HIT, Use::Get { is_hit: false }, Use::Set, Use::Delete, Use::Other];
                prefixes.count(session, number % 2, name.as_bytes(), used[round % 5]);
            }
        }
    }
    let wanted = |name: &str| format!("PREFIX {name} get 12 hit 6 set 6 del 6");
    assert_eq!(lines(&prefixes), ["a", "b", "c", "d", "e", "f"].map(wanted));
    prefixes.reset();
    assert!(lines(&prefixes).is_empty());
    prefixes.count(&mut sessions[0], 0, b"a:x", Use::Set);
    assert_eq!(lines(&prefixes), ["PREFIX a get 0 hit 0 set 1 del 0"]);
}

#[test]
fn a_prefix_that_is_met_often_gets_numbers_for_each_worker_as_long_as_there_are_any() {
    const WORKERS: usize = OWN_TALLIES_MAX / 2;
    let prefixes = Prefixes::new(b':', WORKERS, true);
    let mut sessions = [PrefixCache::default(), PrefixCache::default()];
    let own = |prefixes: &Prefixes| {
        let listed = prefixes.listed();
        listed.prefixes.iter().map(|prefix| prefix.own.get().is_some()).collect::<Vec<_>>()
    };
    let mut count = |name: &[u8], times: u64| {
        for _ in 0..times {
            prefixes.count(&mut sessions[0], 0, name, HIT);
            prefixes.count(&mut sessions[1], WORKERS - 1, name, Use::Set);
        }
    };
    count(b"a:", USES_UNTIL_OWN - 1);
    assert_eq!(own(&prefixes), [false]);
    count(b"a:", 1);
    assert_eq!(own(&prefixes), [true]);
    count(b"b:", 2 * USES_UNTIL_OWN);
    count(b"c:", 3 * USES_UNTIL_OWN);
    assert_eq!(own(&prefixes), [true, true, false], "there are no more");
    count(b"a:", 5);
    let line = |name: &str, uses| format!("PREFIX {name} get {uses} hit {uses} set {uses} del 0");
    let expected = [("a", USES_UNTIL_OWN + 5), ("b", 2 * USES_UNTIL_OWN), ("c", 3 * USES_UNTIL_OWN)];
    assert_eq!(lines(&prefixes), expected.map(|(name, uses)| line(name, uses)));
    prefixes.reset();
    assert!(prefixes.tidy() && !prefixes.tidy());
    count(b"c:", USES_UNTIL_OWN);
    assert_eq!(own(&prefixes), [true], "and as many again");
}

#[test]
fn what_comes_after_the_last_prefix_is_not_counted() {
    let prefixes = Prefixes::new(b':', 1, true);
    let mut session = PrefixCache::default();
    for number in 0..PREFIXES_MAX + 10 {
        prefixes.count(&mut session, 0, format!("{number}:key").as_bytes(), Use::Set);
    }
    assert_eq!(prefixes.listed().prefixes.len(), PREFIXES_MAX);
    prefixes.count(&mut session, 0, b"0:other", Use::Set);
    assert!(lines(&prefixes).contains(&"PREFIX 0 get 0 hit 0 set 2 del 0".to_owned()));
    prefixes.reset();
    prefixes.count(&mut session, 0, b"late:key", Use::Set);
    assert_eq!(lines(&prefixes), ["PREFIX late get 0 hit 0 set 1 del 0"]);
}

#[test]
fn a_dump_of_all_there_may_be_comes_in_slices() {
    let (epoch, now) = Epoch::starting_at(1_700_000_000);
    let engine = Engine::new(Settings { detail_enabled: true, ..Settings::default() }, epoch);
    let mut session = PrefixCache::default();
    let tail = "x".repeat(240);
    for number in 0..PREFIXES_MAX {
        engine.prefixes().count(&mut session, 0, format!("{number}{tail}:").as_bytes(), HIT);
    }
    let dump = |resets_after: usize| {
        let (mut job, mut lines, mut slices) = (engine.prefixes().dump(Style::Classic), 0, 0);
        loop {
            let mut owed = Owed::default();
            let progress = job.go_on(&engine, &mut owed, now);
            assert!(owed.remaining() < OWED_BYTES_MAX / 2, "a slice is short");
            lines += owed.into_bytes().iter().filter(|&&byte| byte == b'\n').count();
            slices += 1;
            if progress == Progress::Done {
                return lines;
            }
            if slices == resets_after {
                engine.prefixes().reset();
            }
        }
    };
    assert_eq!(dump(usize::MAX), PREFIXES_MAX + 1);
    assert_eq!(dump(2), 2 * SLICE_PREFIXES + 1, "what is forgotten is not told");
}

#[test]
fn workers_that_add_at_once_keep_to_the_limit() {
    let prefixes = Prefixes::new(b':', 4, true);
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let prefixes = &prefixes;
            scope.spawn(move || {
                let mut session = PrefixCache::default();
                for number in 0..PREFIXES_MAX * 5 / 4 {
                    let number = (number + worker * PREFIXES_MAX / 4) % (PREFIXES_MAX + 100);
                    prefixes.count(&mut session, worker, format!("{number}:").as_bytes(), HIT);
                }
            });
        }
    });
    assert_eq!(prefixes.listed().prefixes.len(), PREFIXES_MAX);
}
