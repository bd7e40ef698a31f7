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

use fastrand::Rng;
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

#[test]
fn random_bytes_are_survived() {
    try_seeds(|random| (0..random.usize(..GARBAGE_BYTES_MAX)).map(|_| random.u8(..)).collect());
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
        for _ in 0..1 + random.usize(..5) {
            bytes.extend_from_slice(pick::<Vec<u8>>(random, &material));
        }
        for _ in 0..random.usize(..8) {
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
fn words(random: &mut Rng) -> Vec<u8> {
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
    for _ in 0..1 + random.usize(..30) {
        let any = random.u8(..4) == 0;
        let verb = WORDS[random.usize(..if any { WORDS.len() } else { VERBS })];
        bytes.extend_from_slice(verb.as_bytes());
        for _ in 0..random.usize(..8) {
            bytes.push(b' ');
            bytes.extend_from_slice(pick(random, &WORDS).as_bytes());
        }
        if random.u8(..50) == 0 {
            bytes.resize(bytes.len() + random.usize(..2500), b'x');
        }
        bytes.extend_from_slice(pick::<&[u8]>(
            random,
            &[&b"\r\n"[..], b"\r\n", b"\r\n", b"\r\n", b"\n", b" "],
        ));
        if random.u8(..2) == 0 {
            // What may be a block for the line before.
            let length = *pick(random, &[0, 1, 2, 5, 10, 100, 2047]);
            bytes.resize(bytes.len() + length, b'7');
            bytes.extend_from_slice(b"\r\n");
        }
    }
    bytes
}

/// One of those in `from`, of which there is one at least.
fn pick<'a, T>(random: &mut Rng, from: &'a [T]) -> &'a T {
    &from[random.usize(..from.len())]
}

fn tamper(bytes: &mut Vec<u8>, material: &[Vec<u8>], random: &mut Rng) {
    const TELLING: &[u8] = b" \r\n\0-+0129{\x7f\x80\xff";
    let at = random.usize(..bytes.len().max(1)).min(bytes.len());
    let end = (at + random.usize(..20)).min(bytes.len());
    match random.usize(..7) {
        0 if at < bytes.len() => bytes[at] = random.u8(..),
        1 if at < bytes.len() => bytes[at] = *pick(random, TELLING),
        2 => bytes.insert(at, *pick(random, TELLING)),
        3 => drop(bytes.drain(at..end)),
        4 => {
            let again = bytes[at..end].repeat(1 + random.usize(..3));
            bytes.splice(at..at, again);
        }
        5 => drop(bytes.splice(at..at, pick(random, material).iter().copied())),
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
    let random = &mut Rng::with_seed(7);
    for _ in 0..30_000 {
        let verb = *pick(random, &["mg", "ms", "md", "ma"]);
        let mut line = format!("{verb} {}", pick(random, &["k", "aw==", "n", "bb=="]));
        let length = *pick(random, &[0, 1, 7]);
        if verb == "ms" {
            line += &format!(" {length}");
        }
        let mut is_quiet = false;
        for _ in 0..random.usize(..6) {
            let flag = char::from(*pick(random, FLAGS));
            is_quiet |= flag == 'q';
            line += &format!(" {flag}{}", pick(random, &ARGUMENTS));
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
fn try_seeds(garbage: impl Fn(&mut Rng) -> Vec<u8>) {
    let given = std::env::var("FERROCACHED_SEED").ok();
    let given = given.map(|seed| seed.parse::<u64>().expect("FERROCACHED_SEED is a number"));
    let is_long = std::env::var_os("FERROCACHED_LONG").is_some();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock of the machine is past 1970");
    let first = if is_long { now.as_secs() << 24 } else { 1 };
    let begin = Instant::now();
    for seed in given.unwrap_or(first).. {
        let bytes = garbage(&mut Rng::with_seed(seed));
        let survived = catch_unwind(AssertUnwindSafe(|| throw_in_pieces(&bytes, &mut Rng::with_seed(!seed))));
        let survived = survived.unwrap_or_else(|_| Err("it panicked".to_owned()));
        if let Err(error) = survived {
            panic!("FERROCACHED_SEED={seed}: {error}\nthe garbage was {}", shown(&bytes));
        }
        if given.is_some() || begin.elapsed() > if is_long { LONG } else { SHORT } {
            break;
        }
    }
}

fn throw_in_pieces(bytes: &[u8], random: &mut Rng) -> Result<(), String> {
    let longest = *pick(random, &[1, 3, 20, 300, 3000]);
    throw(bytes, std::iter::from_fn(|| Some(1 + random.usize(..longest))))
}
