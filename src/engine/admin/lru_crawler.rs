//! `lru_crawler`: dumps of all keys, the removal of expired items, and the switch for the background search for them.

use crate::engine::admin::listing::{Keys, Purpose};
use crate::engine::admin::{CLASS_MAX, Call, say};
use crate::engine::{Engine, Then};
use crate::protocol::{reply, unsigned};

/// The longest pause that `lru_crawler sleep` takes, in microseconds. Source: memcached.
const SLEEP_MICROSECONDS_MAX: u64 = 1_000_000;

const DISABLED: &[u8] = b"CLIENT_ERROR lru crawler disabled\r\n";
const BAD_CLASS: &[u8] = b"BADCLASS invalid class id\r\n";

pub(super) fn lru_crawler(engine: &Engine, call: &mut Call<'_, '_>) -> Option<Then> {
    let quiet = call.is_quiet();
    match (call.words.next(), call.words.clone().next()) {
        (Some(b"metadump"), Some(_)) => {
            let what = |keys| Purpose::Metadump { keys };
            dump(engine, call, b"ERROR metadump not allowed\r\n", what)
        }
        (Some(b"mgdump"), Some(_)) => {
            let what = |keys| Purpose::Mgdump { keys };
            dump(engine, call, b"ERROR key dump not allowed\r\n", what)
        }
        (Some(b"crawl"), Some(_)) => crawl(engine, quiet, call),
        (Some(b"sleep"), Some(_)) => sleep(engine, quiet, call),
        (Some(b"tocrawl"), Some(_)) => tocrawl(engine, quiet, call),
        (Some(b"enable"), _) => {
            let was_enabled = engine.enable_sweep(true);
            let words = if was_enabled { b"ERROR failed to start lru crawler thread\r\n" } else { reply::OK };
            say(quiet, words, call)
        }
        (Some(b"disable"), _) => {
            engine.enable_sweep(false);
            say(quiet, reply::OK, call)
        }
        _ => say(false, reply::ERROR, call),
    }
}

/// Which classes a list of them names.
enum Classes {
    /// The only one that has items.
    First,
    /// Others.
    Empty,
}

/// Reads a list of slab classes as `1,5,7`, or the word for all of them.
fn classes(words: &[u8]) -> Option<Classes> {
    if words == b"all" {
        return Some(Classes::First);
    }
    let mut named = Classes::Empty;
    for class in words.split(|&byte| byte == b',') {
        match unsigned(class)? {
            1 => named = Classes::First,
            2..=CLASS_MAX => {}
            _ => return None,
        }
    }
    Some(named)
}

/// Lists the keys of some classes, with a prefix if one is given behind them.
fn dump(
    engine: &Engine,
    call: &mut Call<'_, '_>,
    not_allowed: &[u8],
    what: impl Fn(Keys) -> Purpose,
) -> Option<Then> {
    if !engine.sweep_enabled() {
        return say(false, DISABLED, call);
    }
    if !engine.settings().dump_enabled {
        return say(false, not_allowed, call);
    }
    let listed = call.words.next()?;
    let keys = Keys::under(call.words.next().unwrap_or_default(), call.session);
    let listed = if listed == b"hash" { Some(Classes::First) } else { classes(listed) };
    let dump = match listed {
        None => return say(false, BAD_CLASS, call),
        Some(Classes::First) => engine.listings().start(what(keys)),
        Some(Classes::Empty) => engine.listings().start_at_end(what(keys)),
    };
    call.owed.say(reply::OK);
    Some(call.session.reply_at_length(dump))
}

/// Removes expired items at once. The client's next request is served when that is done.
fn crawl(engine: &Engine, quiet: bool, call: &mut Call<'_, '_>) -> Option<Then> {
    if !engine.sweep_enabled() {
        return say(quiet, DISABLED, call);
    }
    let words: &[u8] = match call.words.next() {
        Some(b"hash") => b"ERROR an unknown error happened\r\n",
        Some(listed) => match classes(listed) {
            None => BAD_CLASS,
            Some(Classes::Empty) => reply::OK,
            Some(Classes::First) => {
                say(quiet, reply::OK, call);
                let limit = u64::from(engine.compat().lru_crawler_tocrawl);
                let items_left = if limit == 0 { u64::MAX } else { limit };
                return Some(
                    call.session.reply_at_length(engine.listings().start(Purpose::Crawl { items_left })),
                );
            }
        },
        None => reply::ERROR,
    };
    say(quiet, words, call)
}

fn sleep(engine: &Engine, quiet: bool, call: &mut Call<'_, '_>) -> Option<Then> {
    let words: &[u8] = match call.words.next().and_then(unsigned).map(u32::try_from) {
        None => reply::BAD_LINE,
        Some(Ok(microseconds)) if u64::from(microseconds) <= SLEEP_MICROSECONDS_MAX => {
            engine.compat().lru_crawler_sleep = microseconds;
            reply::OK
        }
        Some(_) => b"CLIENT_ERROR sleep must be one second or less\r\n",
    };
    say(quiet, words, call)
}

fn tocrawl(engine: &Engine, quiet: bool, call: &mut Call<'_, '_>) -> Option<Then> {
    let Some(Ok(items)) = call.words.next().and_then(unsigned).map(u32::try_from) else {
        return say(quiet, reply::BAD_LINE, call);
    };
    engine.compat().lru_crawler_tocrawl = items;
    say(quiet, reply::OK, call)
}
