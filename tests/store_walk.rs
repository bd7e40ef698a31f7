//! Walks over a store that changes under them, against a simple map.
//!
//! `FERROCACHED_SEED=n` replays one seed (printed when a run fails).

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use fastrand::Rng;
use ferrocached::clock::{Deadline, Tick};
use ferrocached::store::{Access, Cas, Change, Content, Cursor, Draft, Marks, Store, StoreConfig};

/// What happens to a store between two slices of a walk.
#[derive(Clone, Copy, Debug)]
struct Weather {
    memory_bytes: u64,
    workers: usize,
    keys: u64,
    value_bytes_max: u64,
    /// Keys there are when the walk begins.
    at_first: u64,
    /// Of 100 changes, how many store; the rest delete.
    stores_percent: u64,
    changes_per_slice: u64,
    slots_max: usize,
    /// Of 1000 slices, how many are followed by a flush.
    flushes: u64,
}

const CALM: Weather = Weather {
    memory_bytes: 64 << 20,
    workers: 1,
    keys: 20_000,
    value_bytes_max: 40,
    at_first: 5000,
    stores_percent: 50,
    changes_per_slice: 50,
    slots_max: 64,
    flushes: 0,
};

#[test]
fn a_walk_over_nothing_ends() {
    let store = store(CALM);
    let mut cursor = Cursor::default();
    let mut slices = 1;
    while store.walk(&mut cursor, Tick(20), 64, |_| unreachable!("there is nothing")) {
        slices += 1;
        assert!(slices < 10_000);
    }
    assert!(!store.walk(&mut cursor, Tick(20), 64, |_| unreachable!("it has ended")));
}

#[test]
fn a_walk_meets_everything_once_in_a_store_that_stands_still() {
    hold(Weather { changes_per_slice: 0, ..CALM });
    hold(Weather { changes_per_slice: 0, slots_max: 1, ..CALM });
    hold(Weather { changes_per_slice: 0, slots_max: 1_000_000, ..CALM });
}

#[test]
fn a_walk_meets_what_stays_once_while_the_index_grows() {
    hold(Weather { at_first: 200, stores_percent: 100, ..CALM });
    hold(Weather { at_first: 2000, stores_percent: 100, slots_max: 1, changes_per_slice: 8, ..CALM });
}

#[test]
fn a_walk_meets_what_stays_once_while_the_index_shrinks() {
    hold(Weather { at_first: 20_000, stores_percent: 2, changes_per_slice: 400, slots_max: 7, ..CALM });
}

#[test]
fn a_walk_meets_what_stays_once_while_items_come_and_go() {
    hold(CALM);
    hold(Weather { slots_max: 1, changes_per_slice: 3, workers: 4, ..CALM });
}

#[test]
fn a_walk_meets_what_stays_once_while_others_are_evicted_and_segments_are_merged() {
    let tight =
        Weather { memory_bytes: 1 << 20, value_bytes_max: 400, at_first: 20_000, stores_percent: 90, ..CALM };
    hold(tight);
    hold(Weather { workers: 4, memory_bytes: 4 << 20, value_bytes_max: 20_000, ..tight });
}

#[test]
fn a_walk_goes_on_past_a_flush() {
    hold(Weather { flushes: 30, changes_per_slice: 300, stores_percent: 95, ..CALM });
}

#[test]
fn what_has_died_of_age_is_not_met_and_goes() {
    let store = store(CALM);
    for number in 0..1000u32 {
        put(&store, number.into(), b"v", Deadline(if number % 2 == 0 { 100 } else { 200 }), Tick(20));
    }
    let met = meet_all(&store, Tick(100));
    assert_eq!(met.len(), 500);
    assert!(met.iter().all(|key| key[9] % 2 == 1), "the even ones are dead");
    let stats = store.stats();
    assert_eq!((stats.items, stats.swept, stats.expired_unfetched), (500, 500, 500));
    store.validate();
}

#[test]
fn what_was_flushed_by_prefix_is_not_met_and_goes() {
    let store = store(CALM);
    for number in 0..1000u32 {
        put(&store, number.into(), b"v", Deadline::NEVER, Tick(20));
    }
    let prefix = key(123);
    store.flush_prefix(&prefix[..prefix.len() - 1]).expect("it is the only one");
    let met = meet_all(&store, Tick(20));
    assert!(met.len() < 1000 && met.iter().all(|key| !key.starts_with(&prefix[..prefix.len() - 1])));
    assert_eq!(store.stats().items, met.len() as u64);
    store.validate();
}

#[test]
fn an_entry_tells_all_there_is_to_know() {
    let store = store(CALM);
    let hash = store.hash(b"key");
    let draft = Draft {
        content: Content::Whole(b"value"),
        flags: 77,
        deadline: Deadline(900),
        cas: Cas::Exact(1 << 60),
        marks: Marks::STALE,
    };
    store.update(hash, Tick(30), |_| (Change::Put(draft), ())).1.expect("there is room");
    let (mut cursor, mut met) = (Cursor::default(), 0);
    while store.walk(&mut cursor, Tick(90), 100, |entry| {
        let item = entry.item;
        assert_eq!((entry.key, item.value, item.flags), (&b"key"[..], &b"value"[..], 77));
        assert_eq!((item.deadline, item.cas, item.last_access), (Deadline(900), 1 << 60, Tick(30)));
        // Twelve bytes of header, deadline, flags and a CAS id of its own, key and value.
        assert_eq!((item.marks, entry.bytes), (Marks::STALE, 12 + 4 + 4 + 8 + 8));
        met += 1;
    }) {}
    assert_eq!(met, 1);
}

#[test]
fn many_walks_and_writers_at_once_see_whole_entries() {
    let store = store(Weather { memory_bytes: 4 << 20, workers: 4, ..CALM });
    let (store, stays) = (&store, 500);
    for number in 0..stays {
        put(store, number, &value(number, 20), Deadline::NEVER, Tick(20));
    }
    std::thread::scope(|scope| {
        for seed in 1..=2 {
            scope.spawn(move || {
                let mut random = Rng::with_seed(seed);
                for _ in 0..60_000 {
                    let number = stays + random.u64(..5000);
                    let len = if random.u64(..50) == 0 { 40_000 } else { random.u64(..100) };
                    put(store, number, &value(number, len), Deadline::NEVER, Tick(20));
                    if random.u64(..4) == 0 {
                        // What is used stays.
                        let key = key(random.u64(..stays));
                        store.read(store.hash(&key), Tick(20), Access::Use, |_| ());
                    }
                }
            });
            scope.spawn(move || {
                for _ in 0..20 {
                    meet_all(store, Tick(20));
                }
            });
        }
    });
    store.validate();
}

fn store(weather: Weather) -> Store {
    Store::new(StoreConfig {
        memory_bytes: weather.memory_bytes,
        evictions_enabled: true,
        workers: weather.workers,
    })
}

fn key(number: u64) -> Vec<u8> {
    format!("key:{number:06}").into_bytes()
}

/// A value that shows whose it is, and is told from another of another length.
fn value(number: u64, len: u64) -> Vec<u8> {
    (0..len).map(|at| (number + at * len) as u8).collect()
}

/// Stores; returns whether the key was there.
fn put(store: &Store, number: u64, value: &[u8], deadline: Deadline, now: Tick) -> bool {
    let key = key(number);
    let draft =
        Draft { content: Content::Whole(value), flags: 0, deadline, cas: Cas::Next, marks: Marks::default() };
    let (was_there, stored) =
        store.update(store.hash(&key), now, |lookup| (Change::Put(draft), lookup.item().is_some()));
    stored.expect("others give way");
    was_there
}

/// The keys that a walk meets, none of them twice, all with their own values.
fn meet_all(store: &Store, now: Tick) -> HashSet<Vec<u8>> {
    let mut met = HashSet::new();
    let mut cursor = Cursor::default();
    while store.walk(&mut cursor, now, 50, |entry| {
        let number = std::str::from_utf8(&entry.key[4..]).unwrap().parse().unwrap();
        if entry.item.value != b"v" {
            assert!(entry.item.value == value(number, entry.item.value.len() as u64));
        }
        assert!(met.insert(entry.key.to_vec()), "no key is met twice");
    }) {}
    met
}

fn hold(weather: Weather) {
    let seeds = match std::env::var("FERROCACHED_SEED") {
        Ok(seed) => vec![seed.parse().expect("FERROCACHED_SEED is a number")],
        Err(_) => (1..=5).collect(),
    };
    for seed in seeds {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| walk_through(weather, seed))) {
            eprintln!("replay with FERROCACHED_SEED={seed}: {weather:?}");
            resume_unwind(panic);
        }
    }
}

/// One walk through one store: the naive twin knows the value of each key, and which have been there all along.
fn walk_through(weather: Weather, seed: u64) {
    let store = store(weather);
    let mut random = Rng::with_seed(seed);
    let now = Tick(20);
    let mut known = HashMap::new();
    for number in 0..weather.at_first {
        let content = value(number, random.u64(..weather.value_bytes_max));
        put(&store, number, &content, Deadline::NEVER, now);
        known.insert(number, content);
    }
    let is_there = |number: u64| {
        let key = key(number);
        store.read(store.hash(&key), now, Access::Peek, |lookup| lookup.item().is_some())
    };
    let mut there_all_along: HashSet<u64> =
        known.keys().copied().filter(|&number| is_there(number)).collect();
    let mut met = HashSet::new();
    let mut cursor = Cursor::default();
    loop {
        let goes_on = store.walk(&mut cursor, now, weather.slots_max, |entry| {
            let number = std::str::from_utf8(&entry.key[4..]).unwrap().parse().unwrap();
            assert!(entry.item.value == known[&number], "an entry is as it was stored last");
            assert!(met.insert(number), "no key is met twice");
        });
        if random.u64(..20) == 0 {
            store.validate();
        }
        if !goes_on {
            break;
        }
        for _ in 0..weather.changes_per_slice {
            let number = random.u64(..weather.keys);
            if random.u64(..100) < weather.stores_percent {
                let content = value(number, random.u64(..weather.value_bytes_max));
                if !put(&store, number, &content, Deadline::NEVER, now) {
                    there_all_along.remove(&number);
                }
                known.insert(number, content);
            } else {
                let key = key(number);
                store.update(store.hash(&key), now, |_| (Change::Remove, ())).1.unwrap();
                there_all_along.remove(&number);
            }
        }
        if random.u64(..1000) < weather.flushes {
            store.flush();
            there_all_along.clear();
        }
    }
    store.validate();
    for &number in &there_all_along {
        assert!(met.contains(&number) || !is_there(number), "{number} was there all along");
    }
    if weather.changes_per_slice == 0 {
        assert_eq!(met.len() as u64, weather.at_first);
    }
}
