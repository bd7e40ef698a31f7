//! The meta commands of the model: what each must answer, told from what the model knows.

use std::fmt::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ferrocached::clock::Deadline;
use ferrocached::store::{Access, Marks};

use super::{Known, Model, OUT_OF_MEMORY, shown};

/// What is asked of a meta command, in order.
struct Asked {
    line: String,
    flags: Vec<String>,
    is_base64: bool,
}

impl Asked {
    fn has(&self, letter: char) -> bool {
        self.flags.iter().any(|flag| flag.starts_with(letter))
    }

    fn number(&self, letter: char) -> Option<i64> {
        let flag = self.flags.iter().find(|flag| flag.starts_with(letter))?;
        Some(flag[1..].parse().expect("it was written as a number"))
    }

    fn comes_first(&self, one: char, other: char) -> bool {
        self.flags.iter().position(|flag| flag.starts_with(one))
            < self.flags.iter().position(|flag| flag.starts_with(other))
    }

    /// The key as `k` shows it.
    fn shown_key(&self, key: &str, is_base64: bool) -> String {
        if is_base64 { format!(" k{} b", STANDARD.encode(key)) } else { format!(" k{key}") }
    }

    /// The opaque and the key, where they are asked for.
    fn reflected(&self, key: &str) -> String {
        let flags = self.flags.iter();
        flags
            .map(|flag| match &flag[..1] {
                "O" => format!(" {flag}"),
                "k" => self.shown_key(key, self.is_base64),
                _ => String::new(),
            })
            .collect()
    }

    fn marks(&self) -> Marks {
        if self.is_base64 { Marks::BINARY_KEY } else { Marks::default() }
    }
}

impl Model<'_> {
    /// A line for `key` with about half of `flags`, in any order; numbers are glued on.
    fn asked(&mut self, verb: &str, key: &str, flags: &[(&str, Option<i64>)]) -> Asked {
        let mut chosen: Vec<String> = Vec::new();
        for (letter, number) in flags {
            if self.below(2) == 0 {
                let place = self.below(chosen.len() as u64 + 1) as usize;
                chosen
                    .insert(place, number.map_or((*letter).to_owned(), |number| format!("{letter}{number}")));
            }
        }
        let is_base64 = self.below(4) == 0;
        let mut line = format!("{verb} {}", if is_base64 { STANDARD.encode(key) } else { key.to_owned() });
        if is_base64 {
            let place = self.below(chosen.len() as u64 + 1) as usize;
            chosen.insert(place, "b".to_owned());
        }
        if verb != "ms" {
            for flag in &chosen {
                write!(line, " {flag}").unwrap();
            }
        }
        Asked { line, flags: chosen, is_base64 }
    }

    fn ask_line(&mut self, asked: &Asked) -> String {
        let reply = self.ask(format!("{}\r\n", asked.line).as_bytes());
        String::from_utf8_lossy(&reply).into_owned()
    }

    /// ` t` and the seconds until `dead_at`, a begun one counted whole.
    fn seconds_left(&self, dead_at: Option<u64>) -> String {
        let seconds = |at: u64| at.saturating_sub(u64::from(self.now.0)).div_ceil(10);
        dead_at.map_or(" t-1".to_owned(), |at| format!(" t{}", seconds(at)))
    }

    pub(super) fn meta_fetch(&mut self) {
        let key = self.key();
        let before = self.look(&key);
        let (touch, create, recache) = (self.exptime(), self.exptime(), self.exptime());
        let known_cas = before.as_ref().map_or(5, |item| item.cas + self.below(2)) as i64;
        let asked = match self.below(3) {
            0 => self.asked("mg", &key, &[("v", None)]),
            1 => self.asked("mg", &key, &[("v", None), ("k", None), ("q", None), ("u", None), ("h", None)]),
            _ => {
                let flags = [
                    ("v", None),
                    ("s", None),
                    ("t", None),
                    ("f", None),
                    ("c", None),
                    ("h", None),
                    ("k", None),
                    ("O", Some(7)),
                    ("q", None),
                    ("u", None),
                    ("T", Some(touch)),
                    ("N", Some(create)),
                    ("R", Some(recache)),
                    ("C", Some(known_cas).filter(|&cas| cas >= 0).or(Some(3))),
                ];
                self.asked("mg", &key, &flags)
            }
        };
        let reply = self.ask_line(&asked);
        let miss = if asked.has('q') { String::new() } else { format!("EN{}\r\n", asked.reflected(&key)) };
        let traces = if asked.has('u') { Marks::default() } else { Marks::FETCHED };
        let touched = asked.number('T').map(|exptime| self.dead_at(exptime));
        match before {
            None if asked.has('N') => {
                if reply == miss && !self.scenario.is_roomy {
                    return;
                }
                let created = self.dead_at(asked.number('N').expect("it is there"));
                let dead_at = touched.filter(|_| asked.comes_first('N', 'T')).unwrap_or(created);
                let marks = traces.with(Marks::TOKEN_SENT).with(asked.marks());
                let mut item = Known { value: Vec::new(), flags: 0, dead_at, cas: 0, marks };
                item.cas = self.new_cas(&key, 0);
                // What is dead at once has an id that nobody sees.
                let shows_id = asked.has('c') && item.cas == 0;
                let wanted = self.hit(&asked, &key, &item, None, Some(created), true);
                assert!(reply == wanted || shows_id, "{}: {reply} instead of {wanted}", asked.line);
                self.known.insert(key, item);
            }
            None => assert_eq!(reply, miss, "{}", asked.line),
            Some(mut item) => {
                let stale = item.marks.has(Marks::STALE);
                let old = item.dead_at;
                let base = if asked.has('T') && asked.comes_first('R', 'T') { None } else { touched };
                let until = base.unwrap_or(old);
                let is_short = asked.number('R').is_some_and(|exptime| {
                    exptime > 0 && until.is_some_and(|until| until < self.dead_at(exptime).expect("it ends"))
                });
                let won = (stale || is_short) && !item.marks.has(Marks::TOKEN_SENT);
                let wanted = self.hit(&asked, &key, &item, Some(old), None, won);
                assert_eq!(reply, wanted, "{}", asked.line);
                item.marks = item.marks.with(traces);
                if won {
                    item.marks = item.marks.with(Marks::TOKEN_SENT);
                }
                self.note_fetch(&key, item, touched);
            }
        }
    }

    /// An `mg` that found `item`, or created it; `old` is when it was to die before, `created` what `N` has set.
    fn hit(
        &self,
        asked: &Asked,
        key: &str,
        item: &Known,
        old: Option<Option<u64>>,
        created: Option<Option<u64>>,
        won: bool,
    ) -> String {
        let is_known = old.is_some() && asked.number('C') == Some(item.cas as i64);
        let shows_value = asked.has('v') && !is_known;
        let mut reply = if shows_value { format!("VA {}", item.value.len()) } else { "HD".to_owned() };
        let mut left = old.unwrap_or(None);
        let fetched = old.is_some() && item.marks.has(Marks::FETCHED);
        for flag in &asked.flags {
            reply += &match &flag[..1] {
                "s" => format!(" s{}", item.value.len()),
                "t" => self.seconds_left(left),
                "f" => format!(" f{}", item.flags),
                "c" => format!(" c{}", item.cas),
                "h" => format!(" h{}", u8::from(fetched)),
                "k" if old.is_some() => asked.shown_key(key, item.marks.has(Marks::BINARY_KEY)),
                "k" => asked.shown_key(key, asked.is_base64),
                "O" => format!(" {flag}"),
                _ => String::new(),
            };
            match &flag[..1] {
                "T" => left = self.dead_at(asked.number('T').expect("it is there")),
                "N" => left = created.unwrap_or(left),
                _ => {}
            }
        }
        let was = |mark| old.is_some() && item.marks.has(mark);
        for (mark, is_set) in [(" Z", was(Marks::TOKEN_SENT)), (" X", was(Marks::STALE)), (" W", won)] {
            reply += if is_set { mark } else { "" };
        }
        reply += "\r\n";
        if shows_value {
            reply += &String::from_utf8_lossy(&item.value);
            reply += "\r\n";
        }
        reply
    }

    /// Notes what a fetch has made of `item`, with a new deadline if there was room for it.
    fn note_fetch(&mut self, key: &str, item: Known, touched: Option<Option<u64>>) {
        match touched {
            Some(dead_at) => self.note_deadline(key, item, dead_at),
            None => drop(self.known.insert(key.to_owned(), item)),
        }
    }

    pub(super) fn meta_put(&mut self) {
        let (key, value, exptime, created) = (self.key(), self.value(), self.exptime(), self.exptime());
        let before = self.look(&key);
        let cas = match self.below(4) {
            0 => 0,
            1 => 1,
            off => before.as_ref().map_or(7, |item| item.cas + off - 2),
        };
        let flags = [
            ("c", None),
            ("s", None),
            ("k", None),
            ("O", Some(42)),
            ("q", None),
            ("F", Some((self.below(1 << 32) as u32).into())),
            ("T", Some(exptime)),
            ("N", Some(created)),
            ("I", None),
        ];
        let mut asked = self.asked("ms", &key, &flags);
        if self.below(2) == 0 {
            asked.flags.push(format!("C{cas}"));
        }
        if self.below(4) == 0 {
            asked.flags.push(format!("E{}", self.below(1 << 60)));
        }
        let mode = ["MS", "ME", "MR", "MA", "MP", ""][self.below(6) as usize];
        asked.flags.push(mode.to_owned());
        asked.flags.retain(|flag| !flag.is_empty());
        let request = super::block(&asked.line, &value, &format!(" {}", asked.flags.join(" ")));
        let joins = matches!(mode, "MA" | "MP");
        if joins
            && before.as_ref().is_some_and(|item| item.value.len() + value.len() > self.value_bytes_max())
        {
            return;
        }
        let (code, mut after) = self.put_outcome(&asked, mode, value.clone(), cas, before.clone());
        let reply = String::from_utf8_lossy(&self.ask(&request)).into_owned();
        if reply.starts_with(OUT_OF_MEMORY) {
            assert!(!self.scenario.is_roomy, "there is room");
            self.known.remove(&key);
            return;
        }
        if joins && reply.starts_with("NS") && code == "HD" {
            assert!(!self.scenario.is_roomy, "there is room");
            return;
        }
        let exact = asked.number('E').filter(|&exact| exact != 0).map(|exact| exact as u64);
        let mut new_cas = 0;
        let mut value_bytes = value.len();
        if let ("HD", Some(item)) = (code, &mut after) {
            new_cas = exact.unwrap_or_else(|| self.new_cas(&key, 0));
            item.cas = new_cas;
            value_bytes = item.value.len();
        }
        let shown: String = asked
            .flags
            .iter()
            .map(|flag| match &flag[..1] {
                "c" => format!(" c{new_cas}"),
                "s" => format!(" s{value_bytes}"),
                "O" => format!(" {flag}"),
                "k" => asked.shown_key(&key, asked.is_base64),
                _ => String::new(),
            })
            .collect();
        let wanted =
            if asked.has('q') && code == "HD" { String::new() } else { format!("{code}{shown}\r\n") };
        // What is dead at once has an id that nobody sees.
        let hides_id = new_cas == 0 && code == "HD" && asked.has('c');
        assert!(reply == wanted || hides_id, "{} {:?}: {reply} instead of {wanted}", asked.line, asked.flags);
        match after {
            Some(item) => drop(self.known.insert(key, item)),
            None => drop(self.known.remove(&key)),
        }
    }

    fn value_bytes_max(&self) -> usize {
        2 * self.scenario.value_bytes_max as usize
    }

    /// What `ms` must answer, and what is there then.
    fn put_outcome(
        &self,
        asked: &Asked,
        mode: &str,
        value: Vec<u8>,
        cas: u64,
        before: Option<Known>,
    ) -> (&'static str, Option<Known>) {
        let new = Known {
            value,
            flags: asked.number('F').unwrap_or(0) as u32,
            dead_at: self.dead_at(asked.number('T').unwrap_or(0)),
            cas: 0,
            marks: asked.marks(),
        };
        let Some(item) = before else {
            return match mode {
                "" | "MS" | "MR" if asked.has('C') => ("NF", None),
                "MA" | "MP" => match asked.number('N') {
                    Some(exptime) => ("HD", Some(Known { dead_at: self.dead_at(exptime), ..new })),
                    None => ("NS", None),
                },
                "MR" => ("NS", None),
                _ => ("HD", Some(new)),
            };
        };
        let differs = asked.has('C') && cas != item.cas;
        match mode {
            "ME" => ("NS", Some(item)),
            "MA" | "MP" if differs && cas != 0 => ("EX", Some(item)),
            "MA" | "MP" => {
                let parts = if mode == "MA" { [item.value, new.value] } else { [new.value, item.value] };
                let marks = item.marks.only(Marks::BINARY_KEY);
                ("HD", Some(Known { value: parts.concat(), marks, ..item }))
            }
            _ if differs && asked.has('I') && cas != 0 && cas < item.cas => {
                let marks = new.marks.with(Marks::STALE).with(item.marks.only(Marks::TOKEN_SENT));
                ("HD", Some(Known { dead_at: item.dead_at, marks, ..new }))
            }
            _ if differs => ("EX", Some(item)),
            _ => ("HD", Some(new)),
        }
    }

    pub(super) fn meta_delete(&mut self) {
        let (key, exptime) = (self.key(), self.exptime());
        let before = self.look(&key);
        let cas = before.as_ref().map_or(7, |item| item.cas + self.below(2));
        let compares = self.below(3) == 0;
        let flags = [
            ("O", Some(1)),
            ("k", None),
            ("q", None),
            ("I", None),
            ("x", None),
            ("T", Some(exptime)),
            ("F", Some(77)),
        ];
        let mut asked = self.asked("md", &key, &flags);
        if compares {
            asked.flags.push(format!("C{cas}"));
            write!(asked.line, " C{cas}").unwrap();
        }
        let reply = self.ask_line(&asked);
        if reply.starts_with(OUT_OF_MEMORY) {
            assert!(!self.scenario.is_roomy && before.is_some(), "there is room");
            return;
        }
        let (code, after) = match before {
            None => ("NF", None),
            Some(item) if compares && cas != item.cas => ("EX", Some(item)),
            Some(_) if !asked.has('I') && !asked.has('x') => ("HD", None),
            Some(mut item) => {
                if asked.has('x') {
                    let flags = asked.number('F').unwrap_or(0) as u32;
                    let marks = item.marks.only(Marks::BINARY_KEY);
                    item = Known { value: Vec::new(), flags, dead_at: None, marks, ..item };
                }
                if let Some(exptime) = asked.number('T') {
                    item.dead_at = self.dead_at(exptime);
                }
                if asked.has('I') {
                    item.marks = item.marks.with(Marks::STALE).without(Marks::TOKEN_SENT);
                    item.cas = self.new_cas(&key, 0);
                }
                ("HD", Some(item))
            }
        };
        let hides = asked.has('q') && code == "HD";
        let wanted = if hides { String::new() } else { format!("{code}{}\r\n", asked.reflected(&key)) };
        assert_eq!(reply, wanted, "{}", asked.line);
        match after {
            Some(item) => drop(self.known.insert(key, item)),
            None => drop(self.known.remove(&key)),
        }
    }

    pub(super) fn meta_count(&mut self) {
        let (key, exptime, created) = (self.key(), self.exptime(), self.exptime());
        let before = self.look(&key);
        let delta = self.below(3000) as i64;
        let is_down = self.below(2) == 0;
        let flags = [
            ("O", Some(1)),
            ("k", None),
            ("q", None),
            ("v", None),
            ("t", None),
            ("D", Some(delta)),
            ("T", Some(exptime)),
            ("N", Some(created)),
            ("J", Some(13)),
            (if is_down { "MD" } else { "M+" }, None),
        ];
        let asked = self.asked("ma", &key, &flags);
        let reply = self.ask_line(&asked);
        if reply.starts_with(OUT_OF_MEMORY) {
            assert!(!self.scenario.is_roomy, "there is room");
            return;
        }
        let touched = asked.number('T').map(|exptime| self.dead_at(exptime));
        let old = before.as_ref().map(|item| item.dead_at);
        let (number, mut item) = match (before, asked.number('N')) {
            (None, None) => {
                assert_eq!(reply, format!("NF{}\r\n", asked.reflected(&key)), "{}", asked.line);
                return;
            }
            (None, Some(exptime)) => {
                let number = asked.number('J').unwrap_or(0) as u64;
                let created = self.dead_at(exptime);
                let dead_at = touched.filter(|_| asked.comes_first('N', 'T')).unwrap_or(created);
                let value = number.to_string().into_bytes();
                (number, Known { value, flags: 0, dead_at, cas: 0, marks: asked.marks() })
            }
            (Some(item), _) => {
                let Some(number) = item.number() else {
                    let words = "CLIENT_ERROR cannot increment or decrement non-numeric value\r\n";
                    assert_eq!(reply, words, "{}", asked.line);
                    return;
                };
                let delta = asked.number('D').unwrap_or(1) as u64;
                let counts_down = asked.has('M') && is_down;
                let number =
                    if counts_down { number.saturating_sub(delta) } else { number.wrapping_add(delta) };
                let value = format!("{number:<width$}", width = item.value.len().min(20)).into_bytes();
                let dead_at = touched.unwrap_or(item.dead_at);
                (number, Known { value, dead_at, ..item })
            }
        };
        let mut left = old.unwrap_or(None);
        let digits = number.to_string();
        let mut wanted = if asked.has('v') { format!("VA {}", digits.len()) } else { "HD".to_owned() };
        for flag in &asked.flags {
            match &flag[..1] {
                "t" => wanted += &self.seconds_left(left),
                "O" => write!(wanted, " {flag}").unwrap(),
                "k" => wanted += &asked.shown_key(&key, asked.is_base64),
                "T" => left = touched.expect("it is there"),
                "N" if old.is_none() => left = self.dead_at(created),
                _ => {}
            }
        }
        wanted += "\r\n";
        if asked.has('v') {
            wanted += &format!("{digits}\r\n");
        }
        if asked.has('q') {
            wanted.clear();
        }
        assert_eq!(reply, wanted, "{}", asked.line);
        item.cas = self.new_cas(&key, 0);
        self.known.insert(key, item);
    }

    pub(super) fn meta_about(&mut self) {
        let key = self.key();
        let before = self.look(&key);
        let reply = self.ask(format!("me {key}\r\n").as_bytes());
        let reply = shown(&reply);
        let Some(item) = before else { return assert_eq!(reply, "EN\\r\\n") };
        let name = if item.marks.has(Marks::BINARY_KEY) { STANDARD.encode(&key) } else { key };
        assert!(reply.starts_with(&format!("ME {name} exp=")), "{reply}");
        let fetched = if item.marks.has(Marks::FETCHED) { "yes" } else { "no" };
        assert!(reply.contains(&format!(" cas={} fetch={fetched} ", item.cas)), "{reply}");
    }

    /// The item may have its new deadline, or with no room for it none of what was asked for.
    pub(super) fn note_deadline(&mut self, key: &str, item: Known, dead_at: Option<u64>) {
        let store = self.engine.store();
        let hash = store.hash(key.as_bytes());
        let deadline = store.read(hash, self.now, Access::Peek, |found| {
            found.item().map(|item| (item.deadline != Deadline::NEVER).then_some(u64::from(item.deadline.0)))
        });
        let is_refused = deadline == Some(item.dead_at) && deadline != Some(dead_at);
        let may_be_refused = !self.scenario.is_roomy && !self.scenario.evictions_enabled;
        assert!(!is_refused || may_be_refused, "{key} was touched");
        if !is_refused {
            self.known.insert(key.to_owned(), Known { dead_at, ..item });
        }
    }
}
