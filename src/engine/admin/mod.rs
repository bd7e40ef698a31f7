//! The administrative commands: a table with a row for each, and the functions that the rows name.

pub mod certificates;
#[cfg(feature = "debugtime")]
pub(super) mod debugtime;
mod flush;
pub(super) mod listing;
mod lru_crawler;
mod packets;
mod slabs;
pub mod stats;

use crate::clock::Tick;
use crate::engine::access::rights::Allowed;
use crate::engine::turn::then::Reason;
use crate::engine::watching::watch::{Stream, Streams};
use crate::engine::{Engine, Session, Then};
use crate::protocol::{KEY_BYTES_MAX, KeyBuffer, Owed, Style, Words, decode_key, reply, unsigned};
use crate::settings::{MEMORY_BYTES_MIN, VERSION};

/// The highest level that the `verbosity` command can set. Source: memcached (`MAX_VERBOSITY_LEVEL`).
const VERBOSITY_MAX: u64 = 2;

/// The greatest number of megabytes that `cache_memlimit` takes for one. Source: memcached.
const MEMORY_MEGABYTES_MAX: u64 = 1_000_000_000;

/// The last slab class there can be. Source: memcached (`MAX_NUMBER_OF_SLAB_CLASSES`).
const CLASS_MAX: u64 = 63;

/// The commands for some users only that answer whatever their last word is.
const NEVER_QUIET: &[&str] = &["debugtime", "shutdown", "stats", "watch"];

/// An administrative command.
#[derive(Debug)]
pub struct Command {
    /// Its first word.
    pub name: &'static str,
    /// The words that may follow.
    pub arguments: Arguments,
    /// What it does, in a sentence.
    pub help: &'static str,
    /// Who may use it.
    pub allowed: Allowed,
    /// Whether it may take as long as many requests, so that its turn ends with it.
    pub(super) is_long: bool,
    pub(super) run: fn(&Engine, &mut Call<'_, '_>) -> Option<Then>,
}

/// The words that may follow a command.
#[derive(Clone, Copy, Debug)]
pub enum Arguments {
    /// These, for people.
    Words(&'static str),
    /// One of these, or none.
    Subcommands(&'static [Subcommand]),
}

impl Arguments {
    /// What may follow, for people.
    pub fn text(self) -> String {
        match self {
            Arguments::Words(words) => words.to_owned(),
            Arguments::Subcommands(rows) => {
                let named = rows.iter().filter(|row| !row.name.is_empty());
                let words = named.map(|row| format!("{} {}", row.name, row.arguments).trim_end().to_owned());
                format!("[{}]", words.collect::<Vec<_>>().join("|"))
            }
        }
    }
}

/// A word that may follow a command, with its meaning.
#[derive(Debug)]
pub struct Subcommand {
    /// The word; "" is none at all.
    pub name: &'static str,
    /// The words that may follow it, for people.
    pub arguments: &'static str,
    /// What it does, in a sentence.
    pub help: &'static str,
    /// Who may use it.
    pub allowed: Allowed,
    run: fn(&Engine, &mut Call<'_, '_>) -> Option<Then>,
}

/// A call of a command: its arguments, its session, and where its reply goes.
pub(super) struct Call<'r, 'w> {
    /// In whose words it is answered: classic, or binary where [`packets`] uses a command.
    pub(super) style: Style<'static>,
    pub(super) words: Words<'w>,
    pub(super) session: &'r mut Session,
    pub(super) owed: &'r mut Owed,
    pub(super) now: Tick,
}

/// Every administrative command.
pub const COMMANDS: &[Command] = &[
    Command {
        name: "cache_memlimit",
        arguments: Arguments::Words("<megabytes> [noreply]"),
        help: "sets the memory limit; what no longer fits is evicted",
        allowed: Allowed::Operators,
        is_long: true,
        run: cache_memlimit,
    },
    Command {
        name: "flush_all",
        arguments: Arguments::Words("[exptime] [noreply]"),
        help: "drops everything stored so far, now or when exptime is reached",
        allowed: Allowed::Writers,
        is_long: true,
        run: flush::flush_all,
    },
    Command {
        name: "flush_prefix",
        arguments: Arguments::Words("<prefix> [noreply]"),
        help: "drops everything stored so far under keys that begin with prefix",
        allowed: Allowed::Writers,
        is_long: true,
        run: flush::flush_prefix,
    },
    Command {
        name: "lru",
        arguments: Arguments::Words(
            "tune <hot %> <warm %> <hot factor> <warm factor> | mode flat|segmented | temp_ttl <seconds>",
        ),
        help: "checks and shows what memcached would tune; there are no LRU lists",
        allowed: Allowed::Operators,
        is_long: false,
        run: slabs::lru,
    },
    Command {
        name: "lru_crawler",
        arguments: Arguments::Words(
            "metadump|mgdump <classes|all|hash> [prefix] | crawl <classes|all> | enable|disable | \
                    sleep <microseconds> | tocrawl <items>",
        ),
        help: "lists all keys, or those with a prefix; frees what has expired; switches the search for it",
        allowed: Allowed::ByWord(&[("metadump", Allowed::Everyone), ("mgdump", Allowed::Everyone)]),
        is_long: true,
        run: lru_crawler::lru_crawler,
    },
    Command {
        name: "me",
        arguments: Arguments::Words("<key> [b]"),
        help: "shows what is known of an item beside its value",
        allowed: Allowed::Everyone,
        is_long: false,
        run: me,
    },
    Command {
        name: "mn",
        arguments: Arguments::Words(""),
        help: "answers MN: what was asked before is answered",
        allowed: Allowed::Everyone,
        is_long: false,
        run: |_, call| say(false, b"MN\r\n", call),
    },
    Command {
        name: "quit",
        arguments: Arguments::Words(""),
        help: "closes the connection",
        allowed: Allowed::Everyone,
        is_long: false,
        run: |_, _| Some(Then::Close),
    },
    Command {
        name: "refresh_certs",
        arguments: Arguments::Words(""),
        help: "reads the certificates of TLS again, for connections to come",
        allowed: Allowed::Operators,
        is_long: true,
        run: certificates::refresh,
    },
    Command {
        name: "shutdown",
        arguments: Arguments::Words("[graceful]"),
        help: "stops the server, if it was started with -A",
        allowed: Allowed::Operators,
        is_long: false,
        run: shutdown,
    },
    Command {
        name: "slabs",
        arguments: Arguments::Words("reassign <class> <class> | automove <0|1|2>"),
        help: "checks what memcached would move; there are no slab classes",
        allowed: Allowed::Operators,
        is_long: false,
        run: slabs::slabs,
    },
    Command {
        name: "stats",
        arguments: Arguments::Subcommands(stats::SUBCOMMANDS),
        help: "shows what has been counted, zeroes it, shows the settings, lists items or who is connected, counts by key prefix, or shows what is asked for most and who was turned away",
        allowed: Allowed::ByWord(&stats::ALLOWED),
        is_long: true,
        run: stats::stats,
    },
    Command {
        name: "verbosity",
        arguments: Arguments::Words("<level> [noreply]"),
        help: "sets how much is logged: 0 to 2",
        allowed: Allowed::Operators,
        is_long: false,
        run: verbosity,
    },
    Command {
        name: "version",
        arguments: Arguments::Words(""),
        help: "tells the version",
        allowed: Allowed::Everyone,
        is_long: false,
        run: |_, call| {
            for words in [b"VERSION ", VERSION.as_bytes(), b"\r\n"] {
                call.owed.say(words);
            }
            None
        },
    },
    Command {
        name: "watch",
        arguments: Arguments::Words("[fetchers] [mutations] [evictions] [connevents] [deletions]"),
        help: "streams what happens, a line for each event, until the connection is closed",
        allowed: Allowed::Overseers,
        is_long: false,
        run: watch,
    },
    #[cfg(feature = "debugtime")]
    crate::engine::admin::debugtime::COMMAND,
];

impl<'w> Call<'_, 'w> {
    /// Whether the last word asks for silence.
    fn is_quiet(&self) -> bool {
        is_quiet(&self.words)
    }

    /// The key of the store for what the user calls `key`: with the user's prefix. `None` if that is too long.
    fn stored_key(&self, key: &[u8]) -> Option<KeyBuffer> {
        let mut stored = KeyBuffer::new();
        stored.try_extend_from_slice(self.session.granted().prefix()).ok()?;
        stored.try_extend_from_slice(key).ok()?;
        Some(stored)
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

fn is_quiet(words: &Words<'_>) -> bool {
    words.last_word() == Some(b"noreply")
}

impl Engine {
    /// Runs the administrative command on `line`.
    pub(super) fn administer(
        &self,
        session: &mut Session,
        line: &[u8],
        owed: &mut Owed,
        now: Tick,
    ) -> Option<Then> {
        let mut words = Words::new(line);
        let name = words.next()?;
        let Some(command) = COMMANDS.iter().find(|command| command.name.as_bytes() == name) else {
            // A web page can make a browser send HTTP here: its further lines must not be taken for commands.
            if words.last_word().is_some_and(|word| word.starts_with(b"HTTP/")) {
                return Some(session.close(Reason::Error));
            }
            owed.say(reply::ERROR);
            return None;
        };
        let allowed = command.allowed.with(words.clone());
        if let Some(refusal) = session.granted().limits().and_then(|rights| allowed.refusal(rights)) {
            if NEVER_QUIET.contains(&command.name) || !is_quiet(&words) {
                owed.say(refusal.words());
            }
            return None;
        }
        let then = (command.run)(self, &mut Call { style: Style::Classic, words, session, owed, now });
        then.or(command.is_long.then_some(Then::Again))
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
        Some(megabytes) if engine.store().set_memory_bytes(megabytes << 20) => reply::OK,
        Some(_) => b"MEMLIMIT_ADJUST_FAILED out of bounds or unable to adjust\r\n",
    };
    say(quiet, words, call)
}

fn me(engine: &Engine, call: &mut Call<'_, '_>) -> Option<Then> {
    call.session.counters().cmd_meta.add(1);
    let key = call.words.next().filter(|key| key.len() <= KEY_BYTES_MAX);
    let is_binary = call.words.any(|word| word == b"b");
    let buffer = &mut KeyBuffer::new();
    let key = if is_binary { key.and_then(|key| decode_key(key, buffer)) } else { key };
    match key.and_then(|key| call.stored_key(key)) {
        Some(key) => engine.say_about(call.session, &key, call.owed, call.now),
        None => call.owed.say(reply::BAD_LINE),
    }
    None
}

fn shutdown(engine: &Engine, call: &mut Call<'_, '_>) -> Option<Then> {
    if !engine.settings().shutdown_enabled {
        return say(false, b"SERVER_ERROR: shutdown not enabled\r\n", call);
    }
    match (call.words.next(), call.words.next()) {
        (None, _) => Some(Then::Shutdown { graceful: false }),
        (Some(b"graceful"), None) => Some(Then::Shutdown { graceful: true }),
        _ => say(false, b"CLIENT_ERROR invalid shutdown mode\r\n", call),
    }
}

fn verbosity(engine: &Engine, call: &mut Call<'_, '_>) -> Option<Then> {
    let quiet = call.is_quiet();
    let Some(level) = call.argument().and_then(unsigned) else {
        return say(quiet, reply::BAD_LINE, call);
    };
    let level = u8::try_from(level.min(VERBOSITY_MAX)).expect("at most VERBOSITY_MAX");
    engine.set_verbosity(level);
    say(quiet, reply::OK, call)
}

fn watch(engine: &Engine, call: &mut Call<'_, '_>) -> Option<Then> {
    if !engine.settings().watch_enabled {
        return say(false, b"CLIENT_ERROR watch commands not allowed\r\n", call);
    }
    let mut words = call.words.clone().peekable();
    let streams = if words.peek().is_none() {
        Some(Streams::of(Stream::Fetchers))
    } else {
        words.try_fold(Streams::NONE, |streams, word| Streams::named(word).map(|more| streams.with(more)))
    };
    let Some(streams) = streams else {
        return say(false, reply::ERROR, call);
    };
    if !engine.begin_to_watch(call.session, streams) {
        return say(false, b"WATCHER_TOO_MANY log watcher limit reached\r\n", call);
    }
    call.owed.say(reply::OK);
    Some(Then::Watch)
}

fn say(quiet: bool, words: &[u8], call: &mut Call<'_, '_>) -> Option<Then> {
    if !quiet {
        call.owed.say(words);
    }
    None
}
