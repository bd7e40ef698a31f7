//! Garbage: random bytes, random words, and dialogues that were tampered with, thrown at the bare engine.
//!
//! Whatever comes, the engine must not panic; it must ask for more than it was given or close; it must hold and owe
//! no more than its limits say; how the bytes were cut must change nothing in what it answers; and whoever comes
//! next must be served as if nothing had been.
//!
//! A failure names its seed, and `FERROCACHED_SEED=<seed>` runs that one alone. `FERROCACHED_LONG=1` tries for
//! minutes, with seeds that differ from run to run.

#[expect(dead_code, reason = "the dialogues are only material here; they are held in tests/dialogues.rs")]
#[path = "../dialogue/mod.rs"]
mod dialogue;
mod throw;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ferrocached::clock::Epoch;
use ferrocached::engine::Engine;
use ferrocached::settings::Settings;

use dialogue::connection::Connection;
use dialogue::pattern::{Caught, shown};
use dialogue::text::load;
use throw::{UNIX_SECONDS, throw};

/// A burst of garbage has about this many bytes at most.
const GARBAGE_BYTES_MAX: usize = 4096;

const SHORT: Duration = Duration::from_secs(3);
const LONG: Duration = Duration::from_secs(300);

/// The state of a xorshift generator: `xorshift64*` of Vigna, "An experimental exploration of Marsaglia's xorshift
/// generators, scrambled" (2016).
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        // Neighbouring seeds must not give neighbouring sequences, and the state must not be 0.
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        random.next();
        random
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 8
    }

    /// A number below `end`, which is not 0.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).expect("it is below a usize")
    }

    fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

#[test]
fn random_bytes_are_survived() {
    try_seeds(|random| (0..random.below(GARBAGE_BYTES_MAX)).map(|_| random.byte()).collect());
}

#[test]
fn random_words_are_survived() {
    try_seeds(words);
}

#[test]
fn dialogues_that_were_tampered_with_are_survived() {
    let material = material();
    try_seeds(|random| {
        let mut bytes = Vec::new();
        for _ in 0..1 + random.below(5) {
            bytes.extend_from_slice(random.pick::<Vec<u8>>(&material));
        }
        for _ in 0..random.below(8) {
            tamper(&mut bytes, &material, random);
        }
        bytes
    });
}

/// What is sent in the dialogues, by burst.
fn material() -> Vec<Vec<u8>> {
    let dialogues = load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogues"));
    let exchanges = dialogues.iter().flat_map(|dialogue| &dialogue.exchanges);
    let bursts = exchanges.map(|exchange| {
        let sent = exchange.sent.iter();
        sent.filter_map(|sent| sent.message.fill(&Caught::new(), UNIX_SECONDS).ok())
            .collect::<Vec<_>>()
            .concat()
    });
    bursts.filter(|burst| !burst.is_empty() && burst.len() <= GARBAGE_BYTES_MAX).collect()
}

/// Lines made of words that mean something somewhere.
fn words(random: &mut Random) -> Vec<u8> {
    const WORDS: [&str; 80] = [
        "get",
        "gets",
        "gat",
        "gats",
        "set",
        "add",
        "replace",
        "append",
        "prepend",
        "cas",
        "incr",
        "decr",
        "touch",
        "delete",
        "flush_all",
        "version",
        "verbosity",
        "mg",
        "ms",
        "md",
        "ma",
        "cache_memlimit",
        "stats",
        "settings",
        "reset",
        "items",
        "noreply",
        "k",
        "key",
        "0",
        "1",
        "2",
        "5",
        "10",
        "-1",
        "100",
        "2047",
        "2048",
        "2147483645",
        "2147483646",
        "2147483648",
        "4294967295",
        "4294967296",
        "18446744073709551615",
        "18446744073709551616",
        "abc",
        "1x",
        "+1",
        "",
        " ",
        "\t",
        "\0",
        "\r",
        "mn",
        "me",
        "v",
        "q",
        "b",
        "I",
        "x",
        "t",
        "c",
        "s",
        "h",
        "Oopaque",
        "T10",
        "N30",
        "R30",
        "C1",
        "E7",
        "F5",
        "J9",
        "D2",
        "MA",
        "MD",
        "HTTP/1.1",
        "watch",
        "slabs",
        "lru",
        "lru_crawler",
    ];
    /// The first so many of them are verbs.
    const VERBS: usize = 22;
    let mut bytes = Vec::new();
    for _ in 0..1 + random.below(30) {
        let any = random.chance(4);
        let verb = WORDS[random.below(if any { WORDS.len() } else { VERBS })];
        bytes.extend_from_slice(verb.as_bytes());
        for _ in 0..random.below(8) {
            bytes.push(b' ');
            bytes.extend_from_slice(random.pick(&WORDS).as_bytes());
        }
        if random.chance(50) {
            bytes.resize(bytes.len() + random.below(2500), b'x');
        }
        bytes.extend_from_slice(random.pick::<&[u8]>(&[
            &b"\r\n"[..],
            b"\r\n",
            b"\r\n",
            b"\r\n",
            b"\n",
            b" ",
        ]));
        if random.chance(2) {
            // What may be a block for the line before.
            let length = *random.pick(&[0, 1, 2, 5, 10, 100, 2047]);
            bytes.resize(bytes.len() + length, b'7');
            bytes.extend_from_slice(b"\r\n");
        }
    }
    bytes
}

fn tamper(bytes: &mut Vec<u8>, material: &[Vec<u8>], random: &mut Random) {
    const TELLING: &[u8] = b" \r\n\0-+0129{\x7f\x80\xff";
    let at = random.below(bytes.len().max(1)).min(bytes.len());
    let end = (at + random.below(20)).min(bytes.len());
    match random.below(7) {
        0 if at < bytes.len() => bytes[at] = random.byte(),
        1 if at < bytes.len() => bytes[at] = *random.pick(TELLING),
        2 => bytes.insert(at, *random.pick(TELLING)),
        3 => drop(bytes.drain(at..end)),
        4 => {
            let again = bytes[at..end].repeat(1 + random.below(3));
            bytes.splice(at..at, again);
        }
        5 => drop(bytes.splice(at..at, random.pick(material).iter().copied())),
        _ => bytes.truncate(at),
    }
}

/// Whatever is asked in a meta line, there is an answer, unless `q` is there: then it may be the one that `q` hides.
#[test]
fn every_meta_line_is_answered_or_quiet() {
    const FLAGS: &[u8] = b"bcfhklqstuvxCDEFIJLMNOPRTzZ5";
    const ARGUMENTS: [&str; 12] =
        ["", "", "", "0", "1", "30", "-1", "x", "I", "A", "E", "18446744073709551616"];
    let (epoch, now) = Epoch::starting_at(UNIX_SECONDS);
    let engine = Engine::new(Settings { threads: 1, ..Settings::default() }, epoch);
    let mut connection = Connection::new(&engine, 0, false);
    let random = &mut Random::new(7);
    for _ in 0..30_000 {
        let verb = *random.pick(&["mg", "ms", "md", "ma"]);
        let mut line = format!("{verb} {}", random.pick(&["k", "aw==", "n", "bb=="]));
        let length = *random.pick(&[0, 1, 7]);
        if verb == "ms" {
            line += &format!(" {length}");
        }
        let mut is_quiet = false;
        for _ in 0..random.below(6) {
            let flag = char::from(*random.pick(FLAGS));
            is_quiet |= flag == 'q';
            line += &format!(" {flag}{}", random.pick(&ARGUMENTS));
        }
        let value = if verb == "ms" { "7".repeat(length) + "\r\n" } else { String::new() };
        connection
            .offer(&engine, format!("{line}\r\n{value}mn\r\n").as_bytes(), now)
            .unwrap_or_else(|error| panic!("{line}: {error}"));
        let received = std::mem::take(&mut connection.received);
        let answer =
            received.strip_suffix(b"MN\r\n").unwrap_or_else(|| panic!("{line}: {}", shown(&received)));
        assert!(is_quiet || !answer.is_empty(), "{line} was not answered");
        let lines = answer.iter().filter(|byte| **byte == b'\n').count();
        let has_value = answer.starts_with(b"VA ");
        assert!(answer.is_empty() || lines == 1 + usize::from(has_value), "{line}: {}", shown(answer));
        let words: [&[u8]; 7] = [b"HD", b"VA ", b"EN", b"NS", b"EX", b"NF", b"CLIENT_ERROR "];
        let is_known = answer.is_empty() || words.iter().any(|word| answer.starts_with(word));
        assert!(is_known, "{line}: {}", shown(answer));
    }
}

/// Throws what `garbage` makes of each seed, until the time is over.
fn try_seeds(garbage: impl Fn(&mut Random) -> Vec<u8>) {
    let given = std::env::var("FERROCACHED_SEED").ok();
    let given = given.map(|seed| seed.parse::<u64>().expect("FERROCACHED_SEED is a number"));
    let is_long = std::env::var_os("FERROCACHED_LONG").is_some();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock of the machine is past 1970");
    let first = if is_long { now.as_secs() << 24 } else { 1 };
    let begin = Instant::now();
    for seed in given.unwrap_or(first).. {
        let bytes = garbage(&mut Random::new(seed));
        let survived = catch_unwind(AssertUnwindSafe(|| throw_in_pieces(&bytes, &mut Random::new(!seed))));
        let survived = survived.unwrap_or_else(|_| Err("it panicked".to_owned()));
        if let Err(error) = survived {
            panic!("FERROCACHED_SEED={seed}: {error}\nthe garbage was {}", shown(&bytes));
        }
        if given.is_some() || begin.elapsed() > if is_long { LONG } else { SHORT } {
            break;
        }
    }
}

fn throw_in_pieces(bytes: &[u8], random: &mut Random) -> Result<(), String> {
    let longest = *random.pick(&[1, 3, 20, 300, 3000]);
    throw(bytes, std::iter::from_fn(|| Some(1 + random.below(longest))))
}
