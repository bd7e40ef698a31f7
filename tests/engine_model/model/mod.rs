//! The engine against a map, in the words of the protocol: every reply must be the one that a cache which may forget,
//! but never lies, would give.
//!
//! Before each request the model looks into the store: what is gone was forgotten, which is allowed unless there
//! is room for everything; what is there must be what the model has. After that, every reply is known to the byte.
//!
//! What is asked is up to whoever makes the model: a sequence of random numbers, or the bytes of a fuzzer.

mod meta;

use std::collections::HashMap;
use std::fmt::Write;

use ferrocached::clock::{Deadline, Epoch, TICKS_PER_SECOND, Tick};
use ferrocached::engine::{Engine, Session, Then};
use ferrocached::protocol::Owed;
use ferrocached::settings::Settings;
use ferrocached::store::{Access, FLUSHES_MAX, Lookup, Marks};

const UNIX_START: u64 = 1_700_000_000;

/// Under which circumstances the engine is held against the model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    pub(crate) memory_bytes: u64,
    pub(crate) keys: u64,
    pub(crate) value_bytes_max: u64,
    pub(crate) evictions_enabled: bool,
    /// Whether nothing may be forgotten.
    pub(crate) is_roomy: bool,
    /// How many requests lie between two recounts.
    pub(crate) validate_every: u64,
}

/// What the model knows of an item.
#[derive(Clone, Debug)]
struct Known {
    value: Vec<u8>,
    flags: u32,
    /// The tick from which it is dead.
    dead_at: Option<u64>,
    cas: u64,
    marks: Marks,
}

/// An engine, and what it ought to have.
pub(crate) struct Model<'a> {
    scenario: Scenario,
    /// Chooses a number below the one given, which is not 0.
    choose: Box<dyn FnMut(u64) -> u64 + 'a>,
    engine: Engine,
    session: Session,
    known: HashMap<String, Known>,
    now: Tick,
    flush_at: Option<u64>,
    last_cas: u64,
    steps: u64,
    hits: u64,
}

/// What a change may be answered with when there is no room for it.
const OUT_OF_MEMORY: &str = "SERVER_ERROR out of memory";

impl<'a> Model<'a> {
    pub(crate) fn new(scenario: Scenario, choose: impl FnMut(u64) -> u64 + 'a) -> Model<'a> {
        let settings = Settings {
            memory_bytes: scenario.memory_bytes,
            evictions_enabled: scenario.evictions_enabled,
            threads: 1,
            ..Settings::default()
        };
        let (epoch, now) = Epoch::starting_at(UNIX_START);
        let engine = Engine::new(settings, epoch);
        let session = engine.session(0);
        Model {
            scenario,
            choose: Box::new(choose),
            engine,
            session,
            known: HashMap::new(),
            now,
            flush_at: None,
            last_cas: 0,
            steps: 0,
            hits: 0,
        }
    }

    /// How many items were asked for while they were there.
    pub(crate) fn hits(&self) -> u64 {
        self.hits
    }

    fn below(&mut self, below: u64) -> u64 {
        (self.choose)(below)
    }

    /// The reply to `request`, which may arrive in two pieces.
    fn ask(&mut self, request: &[u8]) -> Vec<u8> {
        let mut owed = Owed::default();
        let is_cut = self.below(4) == 0;
        let mut arrived = if is_cut { self.below(request.len() as u64) as usize } else { request.len() };
        let mut at = 0;
        loop {
            let turn = self.engine.turn(&mut self.session, &request[at..arrived], &mut owed, self.now);
            at += turn.consumed;
            match turn.then {
                Then::Again => {}
                Then::Read { .. } if at == request.len() => return owed.into_bytes().into(),
                Then::Read { .. } if arrived < request.len() => arrived = request.len(),
                then => panic!("{then:?} after {at} of {} bytes", request.len()),
            }
        }
    }

    fn key(&mut self) -> String {
        // Some keys are asked for far more often than others.
        let bound = self.below(self.scenario.keys) + 1;
        let number = self.below(bound);
        format!("key{number:0width$}", width = (number % 40) as usize)
    }

    /// Asks for something, and looks at the reply.
    pub(crate) fn step(&mut self) {
        self.request();
        if self.steps.is_multiple_of(self.scenario.validate_every) {
            self.engine.store().validate();
        }
        self.steps += 1;
    }

    fn request(&mut self) {
        if self.below(3) == 0 {
            return match self.below(10) {
                0..=4 => self.meta_fetch(),
                5..=6 => self.meta_put(),
                7 => self.meta_delete(),
                8 => self.meta_count(),
                _ => self.meta_about(),
            };
        }
        match self.below(100) {
            0..=1 => self.pass_time(),
            2 => self.flush(),
            3 => self.flush_prefix(),
            4..=29 => self.fetch(),
            30..=34 => self.fetch_and_touch(),
            35..=59 => self.put(),
            60..=69 => self.join(),
            70..=76 => self.compare(),
            77..=86 => self.count(),
            87..=91 => self.touch(),
            _ => self.delete(),
        }
    }

    fn pass_time(&mut self) {
        self.now = Tick(self.now.0 + self.below(30) as u32);
        if self.flush_at.is_some_and(|at| at <= u64::from(self.now.0)) {
            self.flush_at = None;
            self.known.clear();
        }
        self.engine.tick(self.now);
    }

    fn flush(&mut self) {
        if self.below(4) > 0 {
            return;
        }
        let delay = self.below(3);
        assert_eq!(self.ask(format!("flush_all {delay}\r\n").as_bytes()), b"OK\r\n");
        self.flush_at = self.dead_at(delay as i64);
        if delay == 0 {
            self.known.clear();
        }
    }

    fn flush_prefix(&mut self) {
        let key = self.key();
        // All keys begin with the same three letters; most of what follows is zeros and digits.
        let prefix = &key[..key.len().min(3 + self.below(4) as usize)];
        if prefix == "key" && self.below(4) > 0 {
            return;
        }
        let reply = self.ask(format!("flush_prefix {prefix}\r\n").as_bytes());
        if reply.starts_with(b"SERVER_ERROR too many prefixes") {
            assert_eq!(self.engine.store().stats().flushes_waiting, FLUSHES_MAX as u64);
            return;
        }
        assert_eq!(reply, b"OK\r\n");
        self.known.retain(|key, _| !key.starts_with(prefix));
    }

    /// The rule of exptimes, told once more and simply.
    fn dead_at(&self, exptime: i64) -> Option<u64> {
        match exptime {
            0 => None,
            1..=2_592_000 => Some(u64::from(self.now.0) + exptime as u64 * u64::from(TICKS_PER_SECOND)),
            _ if exptime < 0 => Some(0),
            _ => Some((exptime as u64).saturating_sub(UNIX_START - 2) * u64::from(TICKS_PER_SECOND)),
        }
    }

    fn exptime(&mut self) -> i64 {
        match self.below(10) {
            0..=4 => 0,
            5 => -1,
            6..=7 => 1 + self.below(4) as i64,
            8 => 100_000,
            _ => (UNIX_START + u64::from(self.now.0) / 10 + self.below(6)) as i64,
        }
    }

    fn value(&mut self) -> Vec<u8> {
        let bytes = match self.below(10) {
            0 => 0,
            1..=6 => self.below(60),
            _ => self.below(self.scenario.value_bytes_max),
        };
        let mut value = vec![b'a' + (self.below(26)) as u8; bytes as usize];
        if value.len() > 2 {
            let middle = value.len() / 2;
            value[middle] = b'\n';
        }
        if self.below(4) == 0 {
            value = self.below(1_000_000).to_string().into_bytes();
        }
        value
    }

    /// Forgets what the store has forgotten, and checks that it has nothing else; the item there is now.
    fn look(&mut self, key: &str) -> Option<Known> {
        let store = self.engine.store();
        let is_dead = |item: &Known| item.dead_at.is_some_and(|dead_at| dead_at <= u64::from(self.now.0));
        if self.known.get(key).is_some_and(is_dead) {
            self.known.remove(key);
        }
        let known = self.known.get(key);
        let is_there = store.read(store.hash(key.as_bytes()), self.now, Access::Peek, |found| {
            let Lookup::Hit(item) = found else { return false };
            let known = known.unwrap_or_else(|| panic!("{key} is gone, and yet it is there"));
            assert!(item.value == known.value, "{key} has its value");
            let dead_at = (item.deadline != Deadline::NEVER).then_some(u64::from(item.deadline.0));
            assert_eq!((item.flags, dead_at, item.cas), (known.flags, known.dead_at, known.cas), "{key}");
            assert_eq!(item.marks, known.marks, "{key} has its marks");
            true
        });
        if is_there {
            self.hits += 1;
        } else if self.known.remove(key).is_some() {
            assert!(!self.scenario.is_roomy, "{key} is there, for there is room");
            assert!(self.scenario.evictions_enabled, "{key} is there, for nothing may be evicted");
        }
        self.known.get(key).cloned()
    }

    /// Asks for a change that makes `after` of `key`; it may be refused for want of room.
    fn change(&mut self, request: &[u8], key: &str, wanted: &str, after: Option<Known>, is_set: bool) {
        let reply = self.ask(request);
        if reply.starts_with(OUT_OF_MEMORY.as_bytes()) {
            assert!(!self.scenario.is_roomy, "there is room");
            if is_set {
                self.known.remove(key); // a refused set must not leave what it was to replace
            }
            return;
        }
        assert_eq!(String::from_utf8_lossy(&reply), format!("{wanted}\r\n"), "{}", shown(request));
        match after {
            Some(mut item) => {
                item.cas = self.new_cas(key, item.cas);
                self.known.insert(key.to_owned(), item);
            }
            None => drop(self.known.remove(key)),
        }
    }

    /// The CAS id of `key` now: `kept` if that is not 0, else greater than any before. An item that is dead at
    /// once has none to be seen.
    fn new_cas(&mut self, key: &str, kept: u64) -> u64 {
        if kept != 0 {
            return kept;
        }
        let store = self.engine.store();
        let hash = store.hash(key.as_bytes());
        let cas = store.read(hash, self.now, Access::Peek, |found| found.item().map_or(0, |item| item.cas));
        if cas != 0 {
            assert!(cas > self.last_cas, "CAS ids rise");
            self.last_cas = cas;
        }
        cas
    }

    fn fetch(&mut self) {
        let with_cas = self.below(2) == 0;
        let mut request = if with_cas { "gets" } else { "get" }.to_owned();
        let mut wanted = Vec::new();
        let mut fetched = Vec::new();
        for _ in 0..=self.below(4) {
            let key = self.key();
            write!(request, " {key}").unwrap();
            if let Some(item) = self.look(&key) {
                wanted.extend(item.shown(&key, with_cas));
                fetched.push(key);
            }
        }
        wanted.extend(b"END\r\n");
        let reply = self.ask(format!("{request}\r\n").as_bytes());
        assert!(reply == wanted, "{request}: {} instead of {}", shown(&reply), shown(&wanted));
        for key in fetched {
            self.known.entry(key).and_modify(Known::fetched);
        }
    }

    fn fetch_and_touch(&mut self) {
        let (key, exptime) = (self.key(), self.exptime());
        let mut wanted = Vec::new();
        let before = self.look(&key);
        if let Some(item) = &before {
            wanted.extend(item.shown(&key, false));
        }
        wanted.extend(b"END\r\n");
        let reply = self.ask(format!("gat {exptime} {key}\r\n").as_bytes());
        assert!(reply == wanted, "gat {key}: {} instead of {}", shown(&reply), shown(&wanted));
        if let Some(mut item) = before {
            item.fetched();
            self.note_deadline(&key, item, self.dead_at(exptime));
        }
    }

    fn put(&mut self) {
        let (key, exptime, value) = (self.key(), self.exptime(), self.value());
        let flags = if self.below(2) == 0 { 0 } else { self.below(1 << 32) as u32 };
        let verb = ["set", "set", "add", "replace"][self.below(4) as usize];
        let before = self.look(&key);
        let stores = match verb {
            "add" => before.is_none(),
            "replace" => before.is_some(),
            _ => true,
        };
        let request = block(&format!("{verb} {key} {flags} {exptime}"), &value, "");
        if stores {
            let item =
                Known { value, flags, dead_at: self.dead_at(exptime), cas: 0, marks: Marks::default() };
            self.change(&request, &key, "STORED", Some(item), verb == "set");
        } else {
            self.change(&request, &key, "NOT_STORED", before, false);
        }
    }

    fn join(&mut self) {
        let (key, more) = (self.key(), self.value());
        let is_append = self.below(2) == 0;
        let verb = if is_append { "append" } else { "prepend" };
        let before = self.look(&key);
        let request = block(&format!("{verb} {key} 9 9"), &more, "");
        let Some(item) = before else { return self.change(&request, &key, "NOT_STORED", None, false) };
        let value =
            if is_append { [&item.value[..], &more].concat() } else { [&more[..], &item.value].concat() };
        // Joined values must not outgrow the model's idea of a value by much.
        if value.len() as u64 > 2 * self.scenario.value_bytes_max {
            return;
        }
        let reply = self.ask(&request);
        if reply == b"NOT_STORED\r\n" {
            assert!(!self.scenario.is_roomy, "there is room");
            return;
        }
        assert_eq!(reply, b"STORED\r\n");
        let cas = self.new_cas(&key, 0);
        let marks = item.marks.only(Marks::BINARY_KEY);
        self.known.insert(key, Known { value, cas, marks, ..item });
    }

    fn compare(&mut self) {
        let (key, value) = (self.key(), self.value());
        let before = self.look(&key);
        let is_right = self.below(2) == 0;
        let cas = before.as_ref().map_or(7, |item| if is_right { item.cas } else { item.cas + 1 });
        let request = block(&format!("cas {key} 3 0"), &value, &format!(" {cas}"));
        match before {
            None => self.change(&request, &key, "NOT_FOUND", None, false),
            Some(item) if !is_right => self.change(&request, &key, "EXISTS", Some(item), false),
            Some(_) => {
                let item = Known { value, flags: 3, dead_at: None, cas: 0, marks: Marks::default() };
                self.change(&request, &key, "STORED", Some(item), false);
            }
        }
    }

    fn count(&mut self) {
        let key = self.key();
        let delta = if self.below(8) == 0 { u64::MAX - self.below(9) } else { self.below(2000) };
        let is_down = self.below(2) == 0;
        let before = self.look(&key);
        let request = format!("{} {key} {delta}\r\n", if is_down { "decr" } else { "incr" }).into_bytes();
        let Some(item) = before else { return self.change(&request, &key, "NOT_FOUND", None, false) };
        let Some(number) = item.number() else {
            let words = "CLIENT_ERROR cannot increment or decrement non-numeric value";
            return self.change(&request, &key, words, Some(item), false);
        };
        let number = if is_down { number.saturating_sub(delta) } else { number.wrapping_add(delta) };
        let value = format!("{number:<width$}", width = item.value.len().min(20)).into_bytes();
        self.change(&request, &key, &number.to_string(), Some(Known { value, cas: 0, ..item }), false);
    }

    fn touch(&mut self) {
        let (key, exptime) = (self.key(), self.exptime());
        let before = self.look(&key);
        let reply = self.ask(format!("touch {key} {exptime}\r\n").as_bytes());
        match before {
            None => assert_eq!(reply, b"NOT_FOUND\r\n"),
            Some(mut item) if reply == b"TOUCHED\r\n" => {
                item.fetched();
                self.note_deadline(&key, item, self.dead_at(exptime));
            }
            Some(_) => {
                assert!(
                    reply.starts_with(OUT_OF_MEMORY.as_bytes()) && !self.scenario.is_roomy,
                    "{}",
                    shown(&reply)
                );
            }
        }
    }

    fn delete(&mut self) {
        let key = self.key();
        let wanted = if self.look(&key).is_some() { "DELETED" } else { "NOT_FOUND" };
        self.change(format!("delete {key}\r\n").as_bytes(), &key, wanted, None, false);
    }
}

impl Known {
    fn fetched(&mut self) {
        self.marks = self.marks.with(Marks::FETCHED);
    }

    /// The number that the value is, if it is one. Padding may have been appended to: what follows a space does
    /// not count.
    fn number(&self) -> Option<u64> {
        let text = String::from_utf8_lossy(&self.value);
        let digits = text.split(' ').next().filter(|word| word.bytes().all(|byte| byte.is_ascii_digit()));
        digits.and_then(|digits| digits.parse().ok())
    }

    fn shown(&self, key: &str, with_cas: bool) -> Vec<u8> {
        let cas = if with_cas { format!(" {}", self.cas) } else { String::new() };
        let mut shown = format!("VALUE {key} {} {}{cas}\r\n", self.flags, self.value.len()).into_bytes();
        shown.extend(&self.value);
        shown.extend(b"\r\n");
        shown
    }
}

fn block(head: &str, value: &[u8], tail: &str) -> Vec<u8> {
    let mut block = format!("{head} {}{tail}\r\n", value.len()).into_bytes();
    block.extend(value);
    block.extend(b"\r\n");
    block
}

fn shown(bytes: &[u8]) -> String {
    bytes[..bytes.len().min(300)].escape_ascii().to_string()
}
