//! The store against a simple map, at random: it may forget, but it must never lie.
//!
//! `FERROCACHED_SEED=n` replays one seed (printed when a run fails); `FERROCACHED_LONG=1` multiplies the number of
//! operations by 50, best with `--release`.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use bytes::Bytes;
use fastrand::Rng;
use ferrocached::clock::{Deadline, Tick};
use ferrocached::store::{
    Access, Cas, Change, Content, Draft, FLUSHES_MAX, Hashed, Item, Lookup, Marks, NoMemory, Store,
    StoreConfig,
};

/// What is tried, and how hard.
#[derive(Clone, Copy, Debug)]
struct Scenario {
    memory_bytes: u64,
    workers: usize,
    keys: u64,
    value_bytes_max: u64,
    evictions_enabled: bool,
    /// Whether nothing may be forgotten.
    is_roomy: bool,
    /// Whether the limit moves.
    limit_moves: bool,
    operations: u64,
    /// How many operations lie between two recounts.
    validate_every: u64,
}

const TINY: Scenario = Scenario {
    memory_bytes: 96 << 10,
    workers: 1,
    keys: 200,
    value_bytes_max: 3000,
    evictions_enabled: true,
    is_roomy: false,
    limit_moves: false,
    operations: 40_000,
    validate_every: 1,
};

#[test]
fn a_tiny_store_never_lies() {
    run(TINY);
}

#[test]
fn a_tiny_store_with_values_of_many_segments_never_lies() {
    run(Scenario { value_bytes_max: 60_000, keys: 60, ..TINY });
}

#[test]
fn tiny_items_in_a_tiny_store_never_lie() {
    run(Scenario { memory_bytes: 64 << 10, value_bytes_max: 4, keys: 3000, validate_every: 7, ..TINY });
}

#[test]
fn many_shards_never_lie() {
    run(Scenario {
        memory_bytes: 4 << 20,
        workers: 4,
        keys: 3000,
        value_bytes_max: 20_000,
        validate_every: 50,
        ..TINY
    });
}

#[test]
fn many_shards_with_values_larger_than_a_shard_never_lie() {
    run(Scenario {
        memory_bytes: 4 << 20,
        workers: 4,
        keys: 100,
        value_bytes_max: 2_500_000,
        operations: 4000,
        ..TINY
    });
}

#[test]
fn a_moving_limit_changes_nothing_of_that() {
    run(Scenario {
        memory_bytes: 2 << 20,
        workers: 1,
        keys: 2000,
        value_bytes_max: 9000,
        limit_moves: true,
        validate_every: 20,
        ..TINY
    });
}

#[test]
fn a_store_that_may_not_evict_forgets_nothing() {
    run(Scenario { evictions_enabled: false, ..TINY });
    run(Scenario {
        evictions_enabled: false,
        memory_bytes: 4 << 20,
        workers: 4,
        keys: 2000,
        validate_every: 50,
        value_bytes_max: 12_000,
        ..TINY
    });
}

#[test]
fn a_roomy_store_forgets_nothing() {
    run(Scenario {
        memory_bytes: 512 << 20,
        workers: 4,
        keys: 1000,
        value_bytes_max: 100_000,
        is_roomy: true,
        validate_every: 500,
        ..TINY
    });
}

#[test]
fn what_cannot_fit_evicts_nothing() {
    const SMALL_ITEMS: u32 = 1000;
    let store = Store::new(StoreConfig { memory_bytes: 8 << 20, evictions_enabled: true, workers: 1 });
    let set = |key: &[u8], value: &[u8]| {
        let content = Content::Whole(value);
        let (cas, marks) = (Cas::Next, Marks::default());
        let draft = Draft { content, flags: 0, deadline: Deadline::NEVER, cas, marks };
        store.update(store.hash(key), Tick(1), |_| (Change::Put(draft), ())).1
    };
    let get = |key: &[u8]| {
        store.read(store.hash(key), Tick(1), Access::Peek, |found| {
            found.item().map(|item| item.shared.cloned())
        })
    };
    for number in 0..SMALL_ITEMS {
        set(&number.to_be_bytes(), b"small").expect("there is room");
    }
    // Readers hold on to values of items that are long gone: their memory cannot be had.
    let mut held = Vec::new();
    for _ in 0..5 {
        set(b"large", &vec![7; 1 << 20]).expect("there is room");
        held.push(get(b"large").flatten().expect("large values are shared"));
    }
    assert_eq!(set(b"larger", &vec![8; 4 << 20]), Err(NoMemory));
    assert!(
        (0..SMALL_ITEMS).all(|number| get(&number.to_be_bytes()).is_some()),
        "nothing was evicted for it"
    );
    store.validate();
    drop(held);
    set(b"larger", &vec![8; 4 << 20]).expect("there is room again");
    store.validate();
}

#[test]
fn an_index_above_a_lowered_limit_keeps_nothing_out() {
    let store = Store::new(StoreConfig { memory_bytes: 16 << 20, evictions_enabled: true, workers: 1 });
    let set = |number: u32, value: &[u8]| {
        let (content, cas, marks) = (Content::Whole(value), Cas::Next, Marks::default());
        let draft = Draft { content, flags: 0, deadline: Deadline::NEVER, cas, marks };
        let key = number.to_be_bytes();
        store.update(store.hash(&key), Tick(1), |_| (Change::Put(draft), ())).1
    };
    // Of items as small as these the index is nearly half.
    for number in 0..1_000_000 {
        set(number, b"").expect("evicting makes room");
    }
    assert!(store.stats().index_bytes > 5 << 20);
    assert!(store.set_memory_bytes(4 << 20));
    (0..10).for_each(|tick| store.sweep(Tick(2 + tick))); // what a second brings
    for number in 0..100 {
        set(2_000_000 + number, &[1; 20_000]).expect("evicting makes room, in the index too");
    }
    store.validate();
}

#[test]
fn many_threads_see_whole_values_of_their_keys() {
    let store = Store::new(StoreConfig { memory_bytes: 4 << 20, evictions_enabled: true, workers: 4 });
    // Every value is one byte over and over, the key's first; and every length of it is fine.
    let store = &store;
    let work = |seed: u64| {
        let mut random = Rng::with_seed(seed);
        for step in 0..60_000u64 {
            let key = random.u64(..3000);
            let name = format!("{key:05}");
            let name = name.as_bytes();
            let mut hash = store.hash(name);
            let now = Tick(20 + step as u32 / 100);
            store.hint_index(&mut hash);
            let _ = store.hint_item(&mut hash);
            if random.u8(..4) == 0 {
                let len = if random.u8(..64) == 0 { 100_000 } else { random.usize(..4096) };
                let value = vec![name[4]; len];
                let draft = Draft {
                    content: Content::Whole(&value),
                    flags: 0,
                    deadline: if len % 3 == 0 { Deadline(now.plus_seconds(2).0) } else { Deadline::NEVER },
                    cas: Cas::Next,
                    marks: Marks::default(),
                };
                let joins = random.u8(..4) == 0;
                let decide = |found: Lookup<'_>| match found.item() {
                    // Readers may hold the value that grows here.
                    Some(item) if joins && item.value.len() < 200_000 => {
                        let more = &value[..len.min(100)];
                        let content =
                            if len % 2 == 0 { Content::Append(more) } else { Content::Prepend(more) };
                        (Change::Put(Draft { content, ..draft }), ())
                    }
                    _ => (Change::Put(draft), ()),
                };
                store.update(hash, now, decide).1.expect("others can give way");
            } else {
                let shared = store.read(hash, now, Access::Use, |lookup| {
                    let item = lookup.item()?;
                    assert!(item.value.iter().all(|&byte| byte == name[4]));
                    item.shared.cloned()
                });
                assert!(shared.is_none_or(|shared| shared.iter().all(|&byte| byte == name[4])));
            }
            match step % 1000 {
                0 => store.sweep(now),
                500 => store.flush_prefix(&name[..4]).expect("few wait"),
                999 if step % 20_000 == 19_999 => store.flush(),
                _ => {}
            }
        }
    };
    std::thread::scope(|scope| {
        for seed in 1..=4 {
            let work = &work;
            scope.spawn(move || work(seed));
        }
    });
    store.validate();
    (0..4).for_each(|_| store.sweep(Tick(2000)));
    let stats = store.stats();
    assert!(stats.bytes + stats.index_bytes <= 4 << 20, "the limit holds: {stats:?}");
}

/// What the model knows of an item.
#[derive(Clone, Debug, PartialEq)]
struct Known {
    value: Vec<u8>,
    flags: u32,
    cas: u64,
    deadline: Deadline,
    marks: Marks,
    last_access: Tick,
}

struct Model {
    scenario: Scenario,
    store: Store,
    known: HashMap<u64, Known>,
    /// How many items may still be there that were flushed by prefix.
    flushed: usize,
    now: Tick,
    random: Rng,
    last_cas: u64,
    /// How many new items were stored.
    stored: u64,
    /// Values kept by readers, and what they are.
    kept: Vec<(Bytes, Vec<u8>)>,
    /// What hints said about keys some time ago, and may be wrong by now.
    hinted: HashMap<u64, Hashed<'static>>,
    hits: u64,
}

fn run(scenario: Scenario) {
    let seeds = match std::env::var("FERROCACHED_SEED") {
        Ok(seed) => vec![seed.parse().expect("FERROCACHED_SEED is a number")],
        Err(_) => vec![1, 2],
    };
    let factor = if std::env::var_os("FERROCACHED_LONG").is_some() { 50 } else { 1 };
    for seed in seeds {
        let mut step = 0;
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let mut model = Model::new(scenario, seed);
            while step < scenario.operations * factor / 2 {
                model.step();
                if step.is_multiple_of(scenario.validate_every) {
                    model.store.validate();
                }
                step += 1;
            }
            model.finish();
        }));
        if let Err(panic) = outcome {
            eprintln!("failed at step {step}; replay with FERROCACHED_SEED={seed}: {scenario:?}");
            resume_unwind(panic);
        }
    }
}

impl Model {
    fn new(scenario: Scenario, seed: u64) -> Model {
        let store = Store::new(StoreConfig {
            memory_bytes: scenario.memory_bytes,
            evictions_enabled: scenario.evictions_enabled,
            workers: scenario.workers,
        });
        Model {
            scenario,
            store,
            known: HashMap::new(),
            flushed: 0,
            now: Tick(20),
            random: Rng::with_seed(seed),
            last_cas: 0,
            stored: 0,
            kept: Vec::new(),
            hinted: HashMap::new(),
            hits: 0,
        }
    }

    /// A number below `below`.
    fn random(&mut self, below: u64) -> u64 {
        self.random.u64(..below)
    }

    fn step(&mut self) {
        match self.random(1000) {
            0..=2 => self.now.0 += 10 * self.random(100) as u32,
            3 => {
                self.now.0 += self.random(60_000) as u32;
                // Idle times wrap at 18 hours where nobody sweeps.
                (0..100).for_each(|_| self.store.sweep(self.now));
            }
            4..=41 => self.now.0 += self.random(3) as u32,
            44..=60 => self.store.sweep(self.now),
            61 if self.random(20) == 0 => {
                self.store.flush();
                self.known.clear();
                assert_eq!(self.store.stats().items, 0);
                assert_eq!(self.store.stats().flushes_waiting, 0);
            }
            42..=43 => self.flush_prefix(),
            62 => self.check_kept(),
            63 if self.scenario.limit_moves => {
                let limit = self.scenario.memory_bytes * (1 + self.random(16)) / 8;
                assert!(self.store.set_memory_bytes(limit), "addresses are reserved for far more");
                for _ in 0..100 {
                    self.store.sweep(self.now);
                }
            }
            64..=400 => self.read(),
            _ => self.update(),
        }
        if self.random(4) == 0 {
            self.check_stats();
        }
    }

    /// A key number, low ones more often, and its key.
    fn key(&mut self) -> (u64, Vec<u8>) {
        let below = 1 + self.random(self.scenario.keys);
        let number = self.random(below);
        (number, key_of(number))
    }

    /// Flushes a prefix of a key, or several of them.
    fn flush_prefix(&mut self) {
        for _ in 0..=self.random(3) {
            let (_, key) = self.key();
            let prefix = &key[..key.len().min(1 + self.random(4) as usize)];
            if self.random(8) == 0 {
                // A slice only, so that several flushes are at different places.
                self.store.tidy(self.now);
            }
            if self.store.flush_prefix(prefix).is_err() {
                assert_eq!(self.store.stats().flushes_waiting, FLUSHES_MAX as u64);
                return;
            }
            let before = self.known.len();
            self.known.retain(|&number, _| !key_of(number).starts_with(prefix));
            self.flushed += before - self.known.len();
        }
    }

    fn bytes(&mut self) -> Vec<u8> {
        let max = self.scenario.value_bytes_max;
        let below = match self.random(8) {
            0 => max,
            1 | 2 => max / 8,
            3..=6 => max / 64,
            _ => 8,
        };
        let len = self.random(below + 1);
        let first = self.random(256);
        (0..len).map(|at| (first + at * 7 + at / 251) as u8).collect()
    }

    fn read(&mut self) {
        let (number, key) = self.key();
        let hash = match self.hinted.remove(&number) {
            Some(stale) if self.random(2) == 0 => stale,
            _ => {
                let mut hash = self.store.hash(key.leak()); // it is kept for as long as the model
                self.store.hint_index(&mut hash);
                let _ = self.store.hint_item(&mut hash) && self.store.hint_item(&mut hash);
                self.hinted.insert(number, hash);
                hash
            }
        };
        let access = if self.random(3) == 0 { Access::Peek } else { Access::Use };
        let keeps = self.random(10) == 0 && self.kept.len() < 2;
        let found = self.store.read(hash, self.now, access, |lookup| see(lookup, keeps));
        let kept = self.check(number, found);
        self.kept.extend(kept);
        if access == Access::Use
            && let Some(known) = self.known.get_mut(&number)
        {
            known.marks = known.marks.with(Marks::FETCHED);
            known.last_access = self.now;
        }
    }

    fn update(&mut self) {
        let (number, key) = self.key();
        let hash = self.store.hash(&key);
        let bytes = self.bytes();
        let what = self.random(20);
        let content = match self.random(12) {
            0..=2 => Content::Same,
            3 => Content::Append(&bytes[..bytes.len().min(64)]),
            4 => Content::Prepend(&bytes[..bytes.len().min(64)]),
            5 => Content::Append(&bytes),
            6 => Content::Prepend(&bytes),
            7 => Content::Changed(&bytes),
            _ => Content::Whole(&bytes),
        };
        let flags = if self.random(3) == 0 { self.random(1 << 32) as u32 } else { 0 };
        let deadline = match self.random(10) {
            0 => Deadline::PAST,
            1..=3 => Deadline(self.now.0 + self.random(100) as u32),
            4 => Deadline(self.now.0 + self.random(1 << 24) as u32),
            _ => Deadline::NEVER,
        };
        let cas = match self.random(6) {
            0 => Cas::Same,
            1 => Cas::Exact(self.random(1 << 50) << 10),
            2 => Cas::Exact(self.random(5)),
            _ => Cas::Next,
        };
        let marks = Marks(self.random(16) as u8);
        let amends = self.random(5) == 0;
        let (mut drafted, value_max) = (None, self.scenario.value_bytes_max as usize);
        let now = self.now;
        let (found, outcome) = self.store.update(hash, now, |lookup| {
            let item = lookup.item();
            let found = see(lookup, false);
            let change = match (what, item) {
                (0, _) => Change::Keep,
                (1, _) => Change::Remove,
                (_, item) => {
                    let old = item.map_or(&[][..], |item| item.value);
                    let value = match content {
                        Content::Same => old.to_vec(),
                        Content::Whole(whole) | Content::Changed(whole) => whole.to_vec(),
                        Content::Append(more) => [old, more].concat(),
                        Content::Prepend(more) => [more, old].concat(),
                    };
                    if item.is_none() && !matches!(content, Content::Whole(_)) || value.len() > value_max {
                        Change::Keep
                    } else {
                        let exact = match cas {
                            Cas::Same => item.map(|item| item.cas),
                            Cas::Next | Cas::Exact(0) => None,
                            Cas::Exact(id) => Some(id),
                        };
                        let before = item.filter(|_| amends).map(|item| item.last_access);
                        let last_access = before.unwrap_or(now);
                        drafted = Some((exact, Known { value, flags, cas: 0, deadline, marks, last_access }));
                        let draft = Draft { content, flags, deadline, cas, marks };
                        if amends { Change::Amend(draft) } else { Change::Put(draft) }
                    }
                }
            };
            (change, found)
        });
        self.check(number, found);
        match (what, drafted) {
            (_, Some((exact, known))) => match outcome {
                Ok(cas) => {
                    match exact {
                        Some(exact) => assert_eq!(cas, exact, "the id asked for is given"),
                        None => {
                            assert!(cas > self.last_cas, "ids rise");
                            self.last_cas = cas;
                        }
                    }
                    self.known.insert(number, Known { cas, ..known });
                    self.stored += u64::from(!matches!(content, Content::Same | Content::Changed(_)));
                }
                Err(NoMemory) => self.check_refused(number, &key, &known),
            },
            (1, None) => {
                self.known.remove(&number);
                assert_eq!(outcome, Ok(0));
            }
            (_, None) => {
                let known = self.known.get_mut(&number);
                assert_eq!(outcome, Ok(known.as_ref().map_or(0, |known| known.cas)));
                if let Some(known) = known {
                    known.last_access = now;
                }
            }
        }
    }

    /// A refused change leaves what was there, and is only for what cannot be helped.
    fn check_refused(&mut self, number: u64, key: &[u8], refused: &Known) {
        let scenario = &self.scenario;
        assert!(!scenario.is_roomy, "there is room for everything");
        let kept: usize = self.kept.iter().map(|(_, value)| value.len() + 8192).sum();
        let need = kept + 2 * (refused.value.len() + 8192) + scenario.value_bytes_max as usize;
        assert!(
            !scenario.evictions_enabled || need as u64 * 2 > self.store.memory_bytes(),
            "{} bytes are refused",
            refused.value.len()
        );
        let hash = self.store.hash(key);
        let was_there = self.known.contains_key(&number);
        let found = self.store.read(hash, self.now, Access::Peek, |lookup| see(lookup, false));
        assert_eq!(matches!(found, Seen::Hit(..)), was_there, "what was there stays");
        self.check(number, found);
    }

    /// Checks what was seen under a key, and forgets what the store has forgotten.
    fn check(&mut self, number: u64, seen: Seen) -> Option<(Bytes, Vec<u8>)> {
        let known = self.known.get(&number);
        let is_live = known.is_some_and(|known| !known.deadline.has_passed(self.now));
        match seen {
            Seen::Hit(item, shared) => {
                assert!(is_live, "a hit is a live item");
                self.hits += 1;
                let known = known.expect("it is live");
                let seconds = |tick: Tick| tick.0 / 10;
                let idle = seconds(self.now) - seconds(known.last_access);
                let idle_seen = seconds(self.now) - seconds(item.last_access);
                assert!(
                    idle == idle_seen || idle > 32_000 && idle_seen > 32_000,
                    "{idle} is not {idle_seen}"
                );
                assert_eq!(item, Known { last_access: item.last_access, ..known.clone() });
                return shared.map(|shared| (shared, item.value));
            }
            Seen::Expired => {
                assert!(known.is_some() && !is_live, "what is said to be expired is");
            }
            Seen::Miss => {
                let may_forget = self.scenario.evictions_enabled && !self.scenario.is_roomy;
                assert!(may_forget || !is_live, "a live item is forgotten");
            }
        }
        self.known.remove(&number);
        None
    }

    fn check_kept(&mut self) {
        for (shared, value) in std::mem::take(&mut self.kept) {
            assert!(shared == value, "what a reader keeps does not change");
        }
    }

    fn check_stats(&mut self) {
        let stats = self.store.stats();
        if stats.flushes_waiting == 0 {
            self.flushed = 0; // all of them have been found
        }
        let items_max = self.known.len() + self.flushed;
        assert!(stats.items <= items_max as u64, "nothing is there that was not stored");
        assert_eq!(stats.total_items, self.stored, "a value changed in its place is no new item");
        let kept: u64 = self.kept.iter().map(|(_, value)| value.len() as u64 + 8192).sum();
        assert!(
            stats.bytes + stats.index_bytes <= self.store.memory_bytes() + kept,
            "the limit holds: {stats:?}"
        );
    }

    fn finish(mut self) {
        self.check_kept();
        assert!(self.hits > self.scenario.operations / 50, "{} hits prove little", self.hits);
        self.store.flush();
        self.known.clear();
        for _ in 0..300 {
            self.store.sweep(self.now);
        }
        self.store.validate();
        assert_eq!(self.store.stats().bytes, 0);
    }
}

/// The key of `number`: of any length, but always the same. It begins with the number.
fn key_of(number: u64) -> Vec<u8> {
    let len = match number % 50 {
        0 => 250,
        1 => 1 + number as usize % 250,
        _ => 8 + number as usize % 7,
    };
    let mut key = vec![b'k'; len];
    let name = number.to_string();
    if name.len() > len {
        key = name.into_bytes();
    } else {
        key[..name.len()].copy_from_slice(name.as_bytes());
    }
    key
}

/// What a closure saw, kept.
enum Seen {
    Hit(Known, Option<Bytes>),
    Miss,
    Expired,
}

fn see(lookup: Lookup<'_>, keeps: bool) -> Seen {
    match lookup {
        Lookup::Hit(Item { value, shared, flags, cas, deadline, last_access, marks }) => {
            if let Some(shared) = shared {
                assert!(shared == value);
            }
            let known = Known { value: value.to_vec(), flags, cas, deadline, marks, last_access };
            Seen::Hit(known, shared.filter(|_| keeps).cloned())
        }
        Lookup::Miss => Seen::Miss,
        Lookup::Expired => Seen::Expired,
    }
}
