//! Users with prefixes against one map each, at random: whatever they and an operator who sees everything ask for, in
//! the same short names, each is answered as if it had a cache of its own.
//!
//! `FERROCACHED_SEED=n` replays one seed (printed when a run fails).

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use fastrand::Rng;
use ferrocached::clock::{Epoch, Tick};
use ferrocached::engine::access::rights::Rights;
use ferrocached::engine::{Engine, Session, Then};
use ferrocached::protocol::Owed;
use ferrocached::settings::Settings;

/// What the connections may do. Some prefixes begin with others, and two connections have the same.
const RIGHTS: [&str; 7] = ["prefix=a", "prefix=ab", "prefix=b", "rw", "prefix=a", "ro,prefix=ab", "ro"];

/// Names that lead into each other's keys if a prefix is put together wrongly.
const NAMES: [&str; 12] = ["k", "b", "b:k", ":k", ":", "a:k", "ab:k", "a:", "b:b:k", "a:ab:k", "ab", "aab:k"];

const REQUESTS: u64 = 20_000;
/// How many requests lie between two looks at all that there is.
const LOOK_INTERVAL: u64 = 50;

const REFUSED: &str = "CLIENT_ERROR not allowed for a read-only user\r\n";

#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    value: String,
    is_binary_key: bool,
}

/// A user: the map that it sees, under its own names, is the part of all that has its prefix.
#[derive(Clone, Copy, Debug)]
struct User {
    prefix: &'static str,
    may_write: bool,
}

struct Model {
    engine: Engine,
    now: Tick,
    sessions: Vec<Session>,
    /// By user prefix with its separator, or `""` for what belongs to none; then by the name within it.
    maps: BTreeMap<&'static str, BTreeMap<String, Known>>,
    random: Rng,
    hits: u64,
}

#[test]
fn each_user_has_a_cache_of_its_own() {
    let seeds = match std::env::var("FERROCACHED_SEED") {
        Ok(seed) => vec![seed.parse().expect("FERROCACHED_SEED is a number")],
        Err(_) => vec![1, 2, 3],
    };
    for seed in seeds {
        let run = catch_unwind(AssertUnwindSafe(|| {
            let mut model = Model::new(seed);
            for request in 0..REQUESTS {
                model.step();
                if request % LOOK_INTERVAL == 0 {
                    model.engine.tick(model.now);
                    model.look_at_all();
                }
            }
            assert!(model.hits > REQUESTS / 20, "{} hits", model.hits);
        }));
        if let Err(panic) = run {
            eprintln!("FERROCACHED_SEED={seed} replays this");
            resume_unwind(panic);
        }
    }
}

impl Model {
    fn new(seed: u64) -> Model {
        let (epoch, now) = Epoch::starting_at(1_700_000_000);
        let engine = Engine::new(Settings::default(), epoch);
        let session = |rights: &&str| {
            let mut session = engine.session(0);
            session.set_rights(Rights::parse(rights).unwrap().into());
            session
        };
        let sessions = RIGHTS.iter().map(session).collect();
        let maps = ["a:", "ab:", "b:", ""].map(|prefix| (prefix, BTreeMap::new())).into();
        let random = Rng::with_seed(seed);
        Model { engine, now, sessions, maps, random, hits: 0 }
    }

    fn user(number: usize) -> User {
        let rights = RIGHTS[number];
        let prefixes = [("prefix=ab", "ab:"), ("prefix=a", "a:"), ("prefix=b", "b:")];
        let prefix =
            prefixes.iter().find(|(word, _)| rights.ends_with(word)).map_or("", |(_, prefix)| prefix);
        User { prefix, may_write: !rights.starts_with("ro") }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random.u64(..bound)
    }

    fn name(&mut self) -> String {
        NAMES[self.below(NAMES.len() as u64) as usize].to_owned()
    }

    /// The map and the name in it of what `user` calls `name`.
    fn place(user: User, name: &str) -> (&'static str, String) {
        if !user.prefix.is_empty() {
            return (user.prefix, name.to_owned());
        }
        let owner = ["a:", "ab:", "b:"].into_iter().find(|prefix| name.starts_with(prefix)).unwrap_or("");
        (owner, name[owner.len()..].to_owned())
    }

    fn known(&mut self, user: User, name: &str) -> Option<Known> {
        let (map, name) = Model::place(user, name);
        let known = self.maps[map].get(&name).cloned();
        self.hits += u64::from(known.is_some());
        known
    }

    fn set_known(&mut self, user: User, name: &str, known: Option<Known>) {
        let (map, name) = Model::place(user, name);
        let map = self.maps.get_mut(map).expect("all maps are there from the start");
        match known {
            Some(known) => drop(map.insert(name, known)),
            None => drop(map.remove(&name)),
        }
    }

    /// All that `user` sees, under its own names.
    fn seen_by(&self, user: User) -> BTreeMap<String, Known> {
        let seen = |(owner, map): (&&'static str, &BTreeMap<String, Known>)| {
            let owner = if user.prefix.is_empty() { *owner } else { "" };
            let named = map.iter().filter(|(name, _)| !owner.is_empty() || !name.is_empty());
            named.map(|(name, known)| (format!("{owner}{name}"), known.clone())).collect::<Vec<_>>()
        };
        let maps = self.maps.iter().filter(|(owner, _)| user.prefix.is_empty() || **owner == user.prefix);
        maps.flat_map(seen).collect()
    }

    /// Has connection `number` say `input`, cut in two somewhere, and gives what comes back.
    fn ask(&mut self, number: usize, input: &str) -> String {
        let cut = self.below(input.len() as u64 + 1) as usize;
        let (mut owed, mut consumed) = (Owed::default(), 0);
        for end in [cut, input.len()] {
            loop {
                let session = &mut self.sessions[number];
                let offered = &input.as_bytes()[consumed..end];
                let turn = self.engine.turn(session, offered, &mut owed, self.now);
                consumed += turn.consumed;
                match turn.then {
                    Then::Again => {}
                    Then::Read { .. } => break,
                    _ => panic!("{input:?} ended in {turn:?}"),
                }
            }
        }
        assert_eq!(consumed, input.len(), "{input:?} is used up");
        String::from_utf8_lossy(&owed.into_bytes()).into_owned()
    }

    fn step(&mut self) {
        let number = self.below(RIGHTS.len() as u64) as usize;
        let user = Model::user(number);
        let mut input = String::new();
        let mut wanted = String::new();
        for _ in 0..=self.below(4) {
            let (request, reply) = self.request(user);
            input += &request;
            wanted += &reply;
        }
        let reply = self.ask(number, &input);
        assert_eq!(reply, wanted, "{input:?} with {}", RIGHTS[number]);
    }

    /// A request, and what must come back for it; the maps are as they must be after it.
    fn request(&mut self, user: User) -> (String, String) {
        match self.below(100) {
            0..25 => self.get(user),
            25..40 => self.meta_get(user),
            40..60 => self.put(user),
            60..70 => self.meta_put(user),
            70..78 => self.count(user),
            78..85 => self.delete(user),
            85..90 => self.meta_delete(user),
            90..94 => self.touch(user),
            94 => self.flush(user),
            95..97 => self.flush_prefix(user),
            97 => self.too_long(user),
            _ => self.list(user),
        }
    }

    fn get(&mut self, user: User) -> (String, String) {
        let names: Vec<_> = (0..=self.below(3)).map(|_| self.name()).collect();
        let mut wanted = String::new();
        for name in &names {
            if let Some(Known { value, .. }) = self.known(user, name) {
                wanted += &format!("VALUE {name} 0 {}\r\n{value}\r\n", value.len());
            }
        }
        (format!("get {}\r\n", names.join(" ")), wanted + "END\r\n")
    }

    /// A name as it is asked for, and whether that is in base64.
    fn word(&mut self) -> (String, String, &'static str) {
        let name = self.name();
        if self.below(3) == 0 { (BASE64.encode(&name), name, " b") } else { (name.clone(), name, "") }
    }

    fn meta_get(&mut self, user: User) -> (String, String) {
        let (word, name, binary) = self.word();
        let wanted = match self.known(user, &name) {
            Some(Known { value, is_binary_key }) => {
                format!("VA {} k{}\r\n{value}\r\n", value.len(), shown(&name, is_binary_key))
            }
            None => format!("EN k{}\r\n", shown(&name, !binary.is_empty())),
        };
        (format!("mg {word} v k{binary}\r\n"), wanted)
    }

    fn value(&mut self) -> String {
        let number = self.below(1000);
        if self.below(2) == 0 { number.to_string() } else { format!("delete k\r\n{number}") }
    }

    fn put(&mut self, user: User) -> (String, String) {
        let (name, value) = (self.name(), self.value());
        let quiet = self.below(4) == 0;
        let verb = ["set", "set", "add", "append"][self.below(4) as usize];
        let noreply = if quiet { " noreply" } else { "" };
        let request = format!("{verb} {name} 0 0 {}{noreply}\r\n{value}\r\n", value.len());
        if !user.may_write {
            return (request, if quiet { "" } else { REFUSED }.to_owned());
        }
        let before = self.known(user, &name);
        let after = match (verb, &before) {
            ("set", _) | ("add", None) => Some(Known { value, is_binary_key: false }),
            ("append", Some(known)) if known.value.len() < 500 => {
                Some(Known { value: known.value.clone() + &value, ..known.clone() })
            }
            ("append", Some(_)) => return self.get(user),
            _ => None,
        };
        let reply = if after.is_some() { "STORED\r\n" } else { "NOT_STORED\r\n" };
        if after.is_some() {
            self.set_known(user, &name, after);
        }
        (request, if quiet { "" } else { reply }.to_owned())
    }

    fn meta_put(&mut self, user: User) -> (String, String) {
        let ((word, name, binary), value) = (self.word(), self.value());
        let request = format!("ms {word} {} k{binary}\r\n{value}\r\n", value.len());
        if !user.may_write {
            return (request, REFUSED.to_owned());
        }
        let is_binary_key = !binary.is_empty();
        self.set_known(user, &name, Some(Known { value, is_binary_key }));
        (request, format!("HD k{}\r\n", shown(&name, is_binary_key)))
    }

    fn count(&mut self, user: User) -> (String, String) {
        let (word, name, binary) = self.word();
        let is_meta = !binary.is_empty();
        let request =
            if is_meta { format!("ma {word} k v{binary}\r\n") } else { format!("incr {name} 1\r\n") };
        if !user.may_write {
            return (request, REFUSED.to_owned());
        }
        let shown = shown(&name, true);
        let Some(known) = self.known(user, &name) else {
            return (request, if is_meta { format!("NF k{shown}\r\n") } else { "NOT_FOUND\r\n".to_owned() });
        };
        let Ok(number) = known.value.parse::<u64>() else {
            let words = "CLIENT_ERROR cannot increment or decrement non-numeric value\r\n";
            return (request, words.to_owned());
        };
        let value = number.wrapping_add(1).to_string();
        let said = format!("{value:<width$}", width = known.value.len());
        self.set_known(user, &name, Some(Known { value: said, ..known }));
        let reply = if is_meta {
            format!("VA {} k{shown}\r\n{value}\r\n", value.len())
        } else {
            format!("{value}\r\n")
        };
        (request, reply)
    }

    fn delete(&mut self, user: User) -> (String, String) {
        let name = self.name();
        let quiet = self.below(3) == 0;
        let request = format!("delete {name}{}\r\n", if quiet { " noreply" } else { "" });
        let reply = if !user.may_write {
            REFUSED
        } else if self.known(user, &name).is_some() {
            self.set_known(user, &name, None);
            "DELETED\r\n"
        } else {
            "NOT_FOUND\r\n"
        };
        (request, if quiet { "" } else { reply }.to_owned())
    }

    fn meta_delete(&mut self, user: User) -> (String, String) {
        let (word, name, binary) = self.word();
        let quiet = self.below(3) == 0;
        let request = format!("md {word} k{}{binary}\r\n", if quiet { " q" } else { "" });
        if !user.may_write {
            return (request, REFUSED.to_owned());
        }
        let shown = shown(&name, !binary.is_empty());
        if self.known(user, &name).is_none() {
            return (request, format!("NF k{shown}\r\n"));
        }
        self.set_known(user, &name, None);
        (request, if quiet { String::new() } else { format!("HD k{shown}\r\n") })
    }

    fn touch(&mut self, user: User) -> (String, String) {
        let name = self.name();
        let is_gat = self.below(2) == 0;
        let request = if is_gat { format!("gat 0 {name} {name}\r\n") } else { format!("touch {name} 0\r\n") };
        if !user.may_write {
            return (request, REFUSED.to_owned());
        }
        let reply = match self.known(user, &name) {
            Some(Known { value, .. }) if is_gat => {
                format!("VALUE {name} 0 {}\r\n{value}\r\n", value.len()).repeat(2) + "END\r\n"
            }
            Some(_) => "TOUCHED\r\n".to_owned(),
            None if is_gat => "END\r\n".to_owned(),
            None => "NOT_FOUND\r\n".to_owned(),
        };
        (request, reply)
    }

    fn flush(&mut self, user: User) -> (String, String) {
        let request = "flush_all\r\n".to_owned();
        if !user.may_write {
            return (request, REFUSED.to_owned());
        }
        for (owner, map) in &mut self.maps {
            if user.prefix.is_empty() || *owner == user.prefix {
                map.clear();
            }
        }
        (request, "OK\r\n".to_owned())
    }

    fn flush_prefix(&mut self, user: User) -> (String, String) {
        let name = self.name();
        let request = format!("flush_prefix {name}\r\n");
        if !user.may_write {
            return (request, REFUSED.to_owned());
        }
        let seen = self.seen_by(user);
        for gone in seen.keys().filter(|seen| seen.starts_with(&name)) {
            self.set_known(user, gone, None);
        }
        (request, "OK\r\n".to_owned())
    }

    /// A key that has room for a prefix or has not.
    fn too_long(&mut self, user: User) -> (String, String) {
        let bytes = 246 + self.below(5) as usize;
        let name = "n".repeat(bytes);
        let fits = user.prefix.len() + bytes <= 250;
        let reply = if fits { "END\r\n" } else { "CLIENT_ERROR bad command line format\r\n" };
        (format!("get {name}\r\n"), reply.to_owned())
    }

    /// A listing of one key or none: the order of more is not known.
    fn list(&mut self, user: User) -> (String, String) {
        let seen = self.seen_by(user);
        let begin = self.name();
        let listed: Vec<_> = seen.iter().filter(|(name, _)| name.starts_with(&begin)).collect();
        if listed.len() > 1 {
            return self.get(user);
        }
        let lines =
            listed.into_iter().map(|(name, known)| format!("mg {}\r\n", shown(name, known.is_binary_key)));
        (format!("lru_crawler mgdump all {begin}\r\n"), format!("OK\r\n{}EN\r\n", lines.collect::<String>()))
    }

    /// Everybody looks at all that they see.
    fn look_at_all(&mut self) {
        for (number, rights) in RIGHTS.iter().enumerate() {
            let user = Model::user(number);
            let seen = self.seen_by(user);
            let mut wanted: Vec<_> =
                seen.iter().map(|(name, known)| format!("mg {}", shown(name, known.is_binary_key))).collect();
            wanted.sort();
            let reply = self.ask(number, "lru_crawler mgdump all\r\n");
            let lines = reply.strip_prefix("OK\r\n").and_then(|rest| rest.strip_suffix("EN\r\n"));
            let mut listed: Vec<_> = lines.expect("it is a listing").lines().map(str::to_owned).collect();
            listed.sort();
            assert_eq!(listed, wanted, "{rights}");
            for (name, Known { value, .. }) in &seen {
                let reply = self.ask(number, &format!("get {name}\r\n"));
                let wanted = format!("VALUE {name} 0 {}\r\n{value}\r\nEND\r\n", value.len());
                assert_eq!(reply, wanted, "{rights}");
            }
        }
    }
}

fn shown(name: &str, is_binary_key: bool) -> String {
    if is_binary_key { format!("{} b", BASE64.encode(name)) } else { name.to_owned() }
}
