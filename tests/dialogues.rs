//! Dialogues: what is sent, what comes back, how time passes. They are the protocol's specification in a form
//! that can be run, and they are held with the bare engine (whole, and cut at every byte), with the real binary
//! over TCP and over a unix socket, and with a real memcached, where the intended differences are listed.
//!
//! `tests/dialogues/*.txt` hold them, a file per area. In a file, blank lines and lines with `#` are skipped, and
//!
//! ```text
//! == an incr of a number gives the next     a dialogue, named as a fact; the server is a fresh one
//! options: -I 2k -F                         what it is started with
//! rights: ro,prefix=a                       what the user of a connection may do; or `2rights: ro` (on sockets all
//!                                           connections of such a dialogue log in before it begins)
//! user: ann:sesame                          a line of the file of those who may log in, given with -Y
//! on: engine                                where it can be held: engine, sockets or (without this line) both
//! > set k 0 0 1                             a line sent, CRLF appended; lines in a row are sent at once
//! >> get k\n                                the same without CRLF; `>` alone is an empty line
//! < STORED                                  a line that must come, CRLF appended; nothing else may come
//! << VALUE k\r\n                            the same without CRLF
//! <x100 STORED                              so many of them
//! <* STAT cmd_get 3                         lines that must come in any order, and
//! <! STAT get_extstore {any}                lines that must not, among others, before
//! < END                                     this one
//! >p get key=k                              a packet of the binary protocol, see `dialogue/packet.rs`; `<p`, `<*p`, `<!p`
//! <p get flags=7 value=a cas={number:id}    it has all that is named and nothing else
//! ! silent                                  nothing more comes, and the connection stays open
//! ! closed                                  nothing more comes, and the server closes the connection
//! ! shutdown graceful                       the same, and the server stops (or only `! shutdown`)
//! ~ 5s                                      time that passes; or 300ms
//! 2> get k                                  another connection; each sign can have a number in front
//! ```
//!
//! Escapes in lines: `\r \n \t \0 \s` (a space) `\xHH \\ \{ \} \*`. Braces in lines:
//! `{x*250}` repeats (`\#` in it counts from 0, and it may hold another); `{now+5}` is a Unix time; `{id}` and `{id+1}` are what was caught as `id`; and in expected
//! lines only: `{number}`, `{float}`, `{word}` (up to a space), `{any}` (up to what follows), `{!id}` (a number
//! that differs from `id`) and `{>id}` (a greater one), each of which catches with a colon: `{number:id}`.
//!
//! A dialogue in which more than 2 s pass is held with the bare engine only. After the last answer of a connection
//! it must still answer `version`, unless the dialogue left it silent or closed. `FERROCACHED_DIALOGUE=words` in
//! the environment runs only dialogues with these words in their names.
//!
//! `differences.txt` has the same form: for a dialogue, a line `because: …`, and the exchanges in which memcached
//! 1.6.18 answers differently, each begun by the lines sent, followed by what memcached answers. An entry without
//! exchanges means that memcached parts with the dialogue somewhere, in a way that cannot be written down.

mod dialogue;
mod needs;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dialogue::bare::{Bare, Cut, cut_positions, settings};
use dialogue::differences::{Difference, find};
use dialogue::pattern::Caught;
use dialogue::socket::{Server, Transport};
use dialogue::text::{Dialogue, Exchange, Message, load};
use dialogue::walk::walk;

/// Dialogues in which more time passes than this are not held where time has to be slept.
const SLEPT_TIME_MAX: Duration = Duration::from_secs(2);

/// How many of a dialogue's cuts in two are tried.
const CUTS_MAX: usize = 2000;

/// How many bytes may be sent in all the cuts of one dialogue.
const CUT_BYTES_MAX: usize = 32 << 20;

/// How many dialogues are held at once with servers, which are mostly waited for.
const AT_ONCE_WITH_SERVERS: usize = 8;

/// How long nothing is said of dialogues that are being held.
const SILENCE_MAX: Duration = Duration::from_secs(10);

#[test]
fn the_bare_engine_keeps_to_every_dialogue() {
    hold_all(2, on_engine(), |dialogue| on_bare(dialogue, Cut::Whole));
}

#[test]
fn the_bare_engine_keeps_to_every_dialogue_byte_by_byte() {
    hold_all(2, on_engine(), |dialogue| on_bare(dialogue, Cut::EveryByte));
}

#[test]
fn a_turn_that_comes_too_early_is_harmless() {
    hold_all(2, on_engine(), |dialogue| on_bare(dialogue, Cut::EveryByteTooEarly));
}

#[test]
fn the_bare_engine_keeps_to_every_dialogue_cut_in_two_anywhere() {
    hold_all(2, on_engine(), |dialogue| {
        let longest = dialogue.exchanges.iter().map(sent_bytes).max().unwrap_or(0);
        let all: usize = dialogue.exchanges.iter().map(sent_bytes).sum();
        let cuts = (CUT_BYTES_MAX / all.max(1)).clamp(8, CUTS_MAX);
        cut_positions(longest, cuts).into_iter().try_for_each(|position| {
            on_bare(dialogue, Cut::At(position)).map_err(|error| format!("cut at {position}: {error}"))
        })
    });
}

#[test]
fn the_server_keeps_to_every_dialogue_over_tcp() {
    hold_all(AT_ONCE_WITH_SERVERS, on_sockets(), |dialogue| on_server(dialogue, Transport::Tcp));
}

#[test]
fn the_server_keeps_to_every_dialogue_over_a_unix_socket() {
    hold_all(AT_ONCE_WITH_SERVERS, on_sockets(), |dialogue| on_server(dialogue, Transport::Unix));
}

#[test]
fn the_server_keeps_to_every_dialogue_over_tls() {
    let mut dialogues = on_sockets();
    // These tell whether there is TLS.
    let others = [
        "stats are these, in this order",
        "the settings are these, in this order",
        "without TLS there are no certificates to refresh",
    ];
    dialogues.retain(|dialogue| !others.contains(&dialogue.name.as_str()));
    hold_all(AT_ONCE_WITH_SERVERS, dialogues, |dialogue| on_server(dialogue, Transport::Tls));
}

#[test]
fn memcached_differs_only_where_it_is_listed() {
    if !needs::are_there(&[&needs::MEMCACHED_1_6_18]) {
        return;
    }
    let memcached = needs::on_path("memcached").expect("it was just found");
    let mut dialogues = on_sockets();
    // It has no rights, and asks Cyrus SASL for users.
    dialogues
        .retain(|dialogue| dialogue.rights.is_empty() && !dialogue.options.iter().any(|one| one == "-S"));
    let list =
        std::fs::read_to_string(directory().join("differences.txt")).expect("the list is part of the source");
    let differences = find(&list, &dialogues).unwrap_or_else(|error| panic!("{error}"));
    hold_all(AT_ONCE_WITH_SERVERS, dialogues, |dialogue| {
        let same = BTreeMap::new();
        let hold = |instead| {
            let mut server = Server::start(&memcached, dialogue, Transport::Unix)?;
            walk(dialogue, &mut server, instead)
        };
        match differences.get(&dialogue.name) {
            None => hold(&same),
            Some(Difference::Answers(answers)) => hold(answers),
            Some(Difference::Somewhere) => match hold(&same) {
                Ok(()) => Err("a difference is listed, but there is none".to_owned()),
                Err(_) => Ok(()),
            },
        }
    });
}

fn on_bare(dialogue: &Dialogue, cut: Cut) -> Result<(), String> {
    let bare = Bare::new(settings(&dialogue.options), &dialogue.users, cut);
    walk(dialogue, &mut bare.with_rights(&dialogue.rights), &BTreeMap::new())
}

fn on_server(dialogue: &Dialogue, transport: Transport) -> Result<(), String> {
    let program = Path::new(env!("CARGO_BIN_EXE_ferrocached"));
    let mut server = Server::start(program, dialogue, transport)?;
    walk(dialogue, &mut server, &BTreeMap::new())
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogues")
}

fn on_engine() -> Vec<Dialogue> {
    let mut dialogues = load(&directory());
    dialogues.retain(|dialogue| dialogue.on_engine);
    dialogues
}

fn on_sockets() -> Vec<Dialogue> {
    let mut dialogues = load(&directory());
    dialogues.retain(|dialogue| dialogue.on_sockets && dialogue.waits() <= SLEPT_TIME_MAX);
    dialogues
}

/// About how many bytes an exchange sends: what varies is short.
fn sent_bytes(exchange: &Exchange) -> usize {
    const UNKNOWN_BYTES: usize = 40;
    let length =
        |message: &Message| message.fill(&Caught::new(), 0).map_or(UNKNOWN_BYTES, |bytes| bytes.len());
    exchange.sent.iter().map(|sent| length(&sent.message)).sum()
}

/// Holds every dialogue, `at_once` of them at a time, and fails with all that went wrong. Where it takes long, it says how
/// far it is.
fn hold_all(
    at_once: usize,
    mut dialogues: Vec<Dialogue>,
    hold: impl Fn(&Dialogue) -> Result<(), String> + Sync,
) {
    const FAILURES_SHOWN_MAX: usize = 60;
    if let Ok(words) = std::env::var("FERROCACHED_DIALOGUE") {
        dialogues.retain(|dialogue| dialogue.name.contains(&words));
    }
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    let test = std::thread::current().name().unwrap_or("dialogues").to_owned();
    let told = Mutex::new(Instant::now());
    let take = || {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let mut told = told.lock().expect("no one panics with it");
        if told.elapsed() >= SILENCE_MAX && number < dialogues.len() {
            needs::say_at_once(&format!("{test}: {number} of {} dialogues", dialogues.len()));
            *told = Instant::now();
        }
        dialogues.get(number)
    };
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while let Some(dialogue) = take() {
                    let held = catch_unwind(AssertUnwindSafe(|| hold(dialogue)));
                    let held = held.unwrap_or_else(|_| Err(format!("{}: it panicked", dialogue.place)));
                    if let Err(error) = held {
                        failures
                            .lock()
                            .expect("no one panics with it")
                            .push((dialogue.place.clone(), format!("{}\n    {error}", dialogue.name)));
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().expect("no one panicked with it");
    failures.sort();
    let shown: Vec<_> =
        failures.iter().take(FAILURES_SHOWN_MAX).map(|(_, failure)| failure.as_str()).collect();
    assert!(
        failures.is_empty(),
        "{} of {} dialogues failed:\n{}",
        failures.len(),
        dialogues.len(),
        shown.join("\n")
    );
}
