//! The administrative commands: a table, a row each, and the functions its rows name.

use std::sync::atomic::Ordering;

use super::settings::{MEMORY_BYTES_MIN, VERSION};
use super::{Engine, Session, Then};
use crate::clock::Tick;
use crate::protocol::{Owed, Words, exptime, reply, unsigned};

/// The highest level that the `verbosity` command can set. Source: memcached (`MAX_VERBOSITY_LEVEL`).
const VERBOSITY_MAX: u64 = 2;

/// The greatest number of megabytes that `cache_memlimit` takes for one. Source: memcached.
const MEMORY_MEGABYTES_MAX: u64 = 1_000_000_000;

/// An administrative command.
#[derive(Debug)]
pub struct Command {
    /// Its first word.
    pub name: &'static str,
    /// The words that may follow, for people.
    pub arguments: &'static str,
    /// What it does, in a sentence.
    pub help: &'static str,
    run: fn(&Engine, &mut Call<'_, '_>) -> Option<Then>,
}

/// One use of a command: what it was given, and where its reply goes.
struct Call<'r, 'w> {
    words: Words<'w>,
    session: &'r Session,
    owed: &'r mut Owed,
    now: Tick,
}

/// Every administrative command.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "cache_memlimit",
        arguments: "<megabytes> [noreply]",
        help: "sets the memory limit; what no longer fits is evicted",
        run: cache_memlimit,
    },
    Command {
        name: "flush_all",
        arguments: "[exptime] [noreply]",
        help: "drops everything stored so far, now or when exptime is reached",
        run: flush_all,
    },
    Command { name: "quit", arguments: "", help: "closes the connection", run: |_, _| Some(Then::Close) },
    Command {
        name: "shutdown",
        arguments: "[graceful]",
        help: "stops the server, if it was started with -A",
        run: shutdown,
    },
    Command {
        name: "stats",
        arguments: "[reset|settings]",
        help: "shows what has been counted, zeroes it, or shows the settings",
        run: stats,
    },
    Command {
        name: "verbosity",
        arguments: "<level> [noreply]",
        help: "sets how much is logged: 0 to 2",
        run: verbosity,
    },
    Command {
        name: "version",
        arguments: "",
        help: "tells the version",
        run: |_, call| {
            for words in [b"VERSION ", VERSION.as_bytes(), b"\r\n"] {
                call.owed.say(words);
            }
            None
        },
    },
];

impl<'w> Call<'_, 'w> {
    /// Whether the last word asks for silence.
    fn is_quiet(&self) -> bool {
        self.words.last_word() == Some(b"noreply")
    }

    /// The next word, unless it is the one that asks for silence.
    fn argument(&mut self) -> Option<&'w [u8]> {
        let quiet = self.is_quiet();
        let mut rest = self.words.clone();
        let word = rest.next()?;
        if quiet && rest.clone().next().is_none() {
            return None;
        }
        self.words = rest;
        Some(word)
    }
}

impl Engine {
    /// Runs the administrative command on `line`.
    pub(super) fn administer(
        &self,
        session: &Session,
        line: &[u8],
        owed: &mut Owed,
        now: Tick,
    ) -> Option<Then> {
        let mut words = Words::new(line);
        let name = words.next()?;
        let Some(command) = COMMANDS.iter().find(|command| command.name.as_bytes() == name) else {
            // A browser tricked into talking to a cache must not get to say more.
            if words.last_word().is_some_and(|word| word.starts_with(b"HTTP/")) {
                return Some(Then::Close);
            }
            owed.say(reply::ERROR);
            return None;
        };
        (command.run)(self, &mut Call { words, session, owed, now })
    }
}

fn cache_memlimit(engine: &Engine, call: &mut Call<'_, '_>) -> Option<Then> {
    let quiet = call.is_quiet();
    let words: &[u8] = match call.argument().and_then(unsigned) {
        None => reply::ERROR,
        Some(megabytes) if megabytes > MEMORY_MEGABYTES_MAX => {
            b"MEMLIMIT_ADJUST_FAILED input value is megabytes not bytes\r\n"
        }
        Some(megabytes) if megabytes << 20 < MEMORY_BYTES_MIN => {
            b"MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m\r\n"
        }
        Some(megabytes) if engine.store.set_memory_bytes(megabytes << 20) => reply::OK,
        Some(_) => b"MEMLIMIT_ADJUST_FAILED out of bounds or unable to adjust\r\n",
    };
    say(quiet, words, call)
}

fn flush_all(engine: &Engine, call: &mut Call<'_, '_>) -> Option<Then> {
    let quiet = call.is_quiet();
    call.session.counters.cmd_flush.add(1);
    if !engine.settings.flush_enabled {
        return say(quiet, b"CLIENT_ERROR flush_all not allowed\r\n", call);
    }
    let delay = match call.argument() {
        None => 0,
        Some(word) => match exptime(word) {
            Some(delay) => delay,
            None => return say(quiet, reply::BAD_EXPTIME, call),
        },
    };
    if delay > 0 {
        engine.flush_later(engine.epoch.flush_moment(delay, call.now));
    } else {
        engine.flush_now(call.now);
    }
    say(quiet, reply::OK, call)
}

fn shutdown(engine: &Engine, call: &mut Call<'_, '_>) -> Option<Then> {
    if !engine.settings.shutdown_enabled {
        return say(false, b"SERVER_ERROR: shutdown not enabled\r\n", call);
    }
    match call.words.next() {
        None => Some(Then::Shutdown { graceful: false }),
        Some(b"graceful") => Some(Then::Shutdown { graceful: true }),
        Some(_) => say(false, b"CLIENT_ERROR invalid shutdown mode\r\n", call),
    }
}

fn stats(engine: &Engine, call: &mut Call<'_, '_>) -> Option<Then> {
    match call.words.next() {
        None => engine.say_stats(call.owed, call.now),
        Some(b"settings") => engine.say_settings(call.owed, call.now),
        Some(b"reset") => {
            engine.statistics.reset();
            engine.store.reset_stats();
            call.owed.say(b"RESET\r\n");
        }
        Some(_) => call.owed.say(reply::ERROR),
    }
    None
}

fn verbosity(engine: &Engine, call: &mut Call<'_, '_>) -> Option<Then> {
    let quiet = call.is_quiet();
    let Some(level) = call.argument().and_then(unsigned) else {
        return say(quiet, reply::BAD_LINE, call);
    };
    let level = u8::try_from(level.min(VERBOSITY_MAX)).expect("at most VERBOSITY_MAX");
    engine.verbosity.store(level, Ordering::Relaxed);
    say(quiet, reply::OK, call)
}

fn say(quiet: bool, words: &[u8], call: &mut Call<'_, '_>) -> Option<Then> {
    if !quiet {
        call.owed.say(words);
    }
    None
}
