//! The `stats` command: a table of what may follow it, and the functions its rows name.

use std::collections::BTreeMap;

use crate::engine::access::rights::Allowed;
use crate::engine::admin::listing::{Keys, Purpose};
use crate::engine::admin::{CLASS_MAX, Call, Subcommand, say};
use crate::engine::stats::row::Row;
use crate::engine::stats::{ITEMS, NETWORK, SETTINGS, SLABS, STATS};
use crate::engine::watching::hot_keys::Subject;
use crate::engine::{Engine, Then};
use crate::protocol::{StatLines, Style, reply, unsigned};

/// Every kind of `stats`. Those that show sums over the whole server are for everyone, because they reveal nothing
/// about single keys or clients.
pub const SUBCOMMANDS: &[Subcommand] = &[
    Subcommand {
        name: "",
        arguments: "",
        help: "shows what has been counted since the start or the last reset",
        allowed: Allowed::Everyone,
        run: |engine, call| say_rows(engine, STATS, call),
    },
    Subcommand {
        name: "cachedump",
        arguments: "<class> <limit>",
        help: "lists at most limit keys with the sizes and exptimes of their items; 0 is no limit",
        allowed: Allowed::Everyone,
        run: cachedump,
    },
    Subcommand {
        name: "conns",
        arguments: "",
        help: "shows who is connected",
        allowed: Allowed::Overseers,
        run: conns,
    },
    Subcommand {
        name: "detail",
        arguments: "on|off|dump",
        help: "begins or ends to count requests by key prefix, or shows what was counted",
        allowed: Allowed::ByWord(&[("dump", Allowed::Overseers)]),
        run: |engine, call| engine.detail(call.style, call.session, call.words.next(), call.owed),
    },
    Subcommand {
        name: "hotkeys",
        arguments: "",
        help: "shows the keys that are asked for most",
        allowed: Allowed::Overseers,
        run: |engine, call| {
            engine.say_ranking(Subject::Keys, call.style, call.owed, call.now);
            None
        },
    },
    Subcommand {
        name: "items",
        arguments: "",
        help: "shows what has been counted of items",
        allowed: Allowed::Everyone,
        run: |engine, call| say_rows(engine, ITEMS, call),
    },
    Subcommand {
        name: "latency",
        arguments: "",
        help: "shows how long requests take inside the server, in microseconds",
        allowed: Allowed::Everyone,
        run: |engine, call| {
            let mut lines = StatLines::new(call.style, call.owed);
            engine.say_latency(&mut lines);
            lines.end();
            None
        },
    },
    Subcommand {
        name: "network",
        arguments: "",
        help: "shows what memcached does not count: connections and datagrams that were turned away",
        allowed: Allowed::Everyone,
        run: |engine, call| say_rows(engine, NETWORK, call),
    },
    Subcommand {
        name: "prefixes",
        arguments: "",
        help: "shows the key prefixes that are asked for most",
        allowed: Allowed::Overseers,
        run: |engine, call| {
            engine.say_ranking(Subject::Prefixes, call.style, call.owed, call.now);
            None
        },
    },
    Subcommand {
        name: "reset",
        arguments: "",
        help: "zeroes what has been counted",
        allowed: Allowed::Operators,
        run: |engine, call| {
            engine.reset_statistics(call.now);
            call.style.say_done(b"RESET\r\n", call.owed);
            None
        },
    },
    Subcommand {
        name: "settings",
        arguments: "",
        help: "shows the settings",
        allowed: Allowed::Everyone,
        run: |engine, call| say_rows(engine, SETTINGS, call),
    },
    Subcommand {
        name: "sizes",
        arguments: "",
        help: "counts items by size",
        allowed: Allowed::Everyone,
        run: sizes,
    },
    Subcommand {
        name: "slabs",
        arguments: "",
        help: "shows how much memory items take",
        allowed: Allowed::Everyone,
        run: |engine, call| say_rows(engine, SLABS, call),
    },
];

/// Who may use each kind.
pub(super) const ALLOWED: [(&str, Allowed); SUBCOMMANDS.len()] = {
    let mut allowed = [("", Allowed::Operators); SUBCOMMANDS.len()];
    let mut row = 0;
    while row < allowed.len() {
        allowed[row] = (SUBCOMMANDS[row].name, SUBCOMMANDS[row].allowed);
        row += 1;
    }
    allowed
};

pub(super) fn stats(engine: &Engine, call: &mut Call<'_, '_>) -> Option<Then> {
    let word = call.words.next().unwrap_or_default();
    match SUBCOMMANDS.iter().find(|row| row.name.as_bytes() == word) {
        Some(row) => (row.run)(engine, call),
        None => {
            call.style.say_failed(reply::ERROR, call.owed);
            None
        }
    }
}

fn say_rows(engine: &Engine, rows: &[Row], call: &mut Call<'_, '_>) -> Option<Then> {
    let mut lines = StatLines::new(call.style, call.owed);
    engine.say_rows(rows, &mut lines, call.now);
    lines.end();
    None
}

/// The older command that lists keys. It lists all of them, where memcached stops at 2 MB.
fn cachedump(engine: &Engine, call: &mut Call<'_, '_>) -> Option<Then> {
    if call.style != Style::Classic {
        // Its lines are not those of statistics. Source: memcached.
        call.style.say_failed(reply::ERROR, call.owed);
        return None;
    }
    if !engine.settings().dump_enabled {
        return say(false, b"CLIENT_ERROR stats cachedump not allowed\r\n", call);
    }
    let (Some(class), Some(limit)) = (call.words.next(), call.words.next()) else {
        return say(false, b"CLIENT_ERROR bad command line\r\n", call);
    };
    let words = match (unsigned(class), unsigned(limit)) {
        (Some(1), Some(limit)) => {
            let items_left = if limit == 0 { u64::MAX } else { limit };
            let keys = Keys::under(b"", call.session);
            let dump = engine.listings().start(Purpose::Cachedump { keys, items_left });
            return Some(call.session.reply_at_length(dump));
        }
        (Some(0..=CLASS_MAX), Some(_)) => {
            StatLines::new(call.style, call.owed).end();
            return None;
        }
        (Some(_), Some(_)) => b"CLIENT_ERROR Illegal slab id\r\n",
        _ => reply::BAD_LINE,
    };
    say(false, words, call)
}

fn conns(engine: &Engine, call: &mut Call<'_, '_>) -> Option<Then> {
    let conns = engine.conns(call.style, call.session.descriptor());
    Some(call.session.reply_at_length(conns))
}

fn sizes(engine: &Engine, call: &mut Call<'_, '_>) -> Option<Then> {
    let keys = Keys::under(b"", call.session);
    let sizes = engine.listings().start(Purpose::Sizes { keys, counts: BTreeMap::new(), style: call.style });
    Some(call.session.reply_at_length(sizes))
}
