//! A user who may not do everything, or a stranger who has not logged in, and neighbours in the same cache: whatever the
//! one sends, it neither learns of the others nor changes what is theirs.

use ferrocached::clock::{Epoch, Tick};
use ferrocached::engine::Engine;
use ferrocached::engine::access::rights::Rights;
use ferrocached::engine::access::users::Users;
use ferrocached::settings::{Protocol, Settings};

use super::session::connection::Connection;

/// Stands in the keys of the neighbours and in their values, and is the password of who may do everything. Long enough for nobody to send it by chance.
const NEIGHBOUR: &str = "neighbour-5Jq9xVt2";

/// What users may do here; they share a prefix where they have one. `None` is the stranger.
const USERS: [Option<&str>; 4] = [Some("prefix=shop"), Some("ro,prefix=shop"), Some("ro"), None];

/// The first byte says who the user is, two more how long the pieces are in which the user's bytes come.
pub(super) fn rights(data: &[u8]) {
    let [user, odd, even, bytes @ ..] = data else { return };
    if contains(bytes, NEIGHBOUR) {
        return;
    }
    let rights = USERS[usize::from(*user) % USERS.len()];
    let settings = Settings {
        threads: 1,
        detail_enabled: user & 0x80 != 0,
        auth_file: Some("users".into()),
        protocol: Protocol::Ascii,
        ..Settings::default()
    };
    let (epoch, now) = Epoch::starting_at(1_700_000_000);
    let engine = Engine::new(settings, epoch);
    let users = rights.map_or(String::new(), |rights| format!("ann:sesame:{rights}\n"));
    let users = Users::parse(format!("{users}operator:{NEIGHBOUR}\n").as_bytes());
    engine.set_users(users.expect("they are users"));
    let keys = neighbours();
    for key in &keys {
        ask(
            &engine,
            &format!("set {key} 5 1000 {}\r\n{key}{NEIGHBOUR}\r\n", key.len() + NEIGHBOUR.len()),
            now,
        );
    }
    ask(&engine, "set shop:own 0 0 1\r\n1\r\n", now);
    let (theirs, everything) = (theirs(&engine, &keys, now), everything(&engine, now));
    let own = ask(&engine, "gets shop:own\r\n", now);

    let mut connection = match rights {
        Some(_) => logged_in(&engine, "ann sesame", now),
        None => Connection::new(&engine, 0, false),
    };
    let mut rest = bytes;
    for length in [*odd, *even].into_iter().cycle() {
        let (piece, after) = rest.split_at((1 + usize::from(length)).min(rest.len()));
        connection.offer(&engine, piece, now).unwrap_or_else(|error| panic!("{error}"));
        rest = after;
        if rest.is_empty() {
            break;
        }
    }

    assert_eq!(theirs, self::theirs(&engine, &keys, now), "a neighbour's item or the settings were changed");
    let after = self::everything(&engine, now);
    let rights = rights.map(|rights| Rights::parse(rights).expect("they are rights"));
    if rights.as_ref().is_some_and(Rights::may_write) {
        let is_theirs = |key: &&String| !key.starts_with("key=shop%3A");
        assert!(everything.iter().filter(is_theirs).eq(after.iter().filter(is_theirs)), "{after:?}");
    } else {
        assert_eq!(everything, after, "something was stored or deleted without the right to");
        assert_eq!(own, ask(&engine, "gets shop:own\r\n", now));
    }
    if rights.is_none_or(|rights| !rights.prefix().is_empty()) {
        engine.tick(now);
        connection.take_lines(&engine);
        let received = &connection.received;
        assert!(!contains(received, NEIGHBOUR), "it learned of a neighbour: {}", received.escape_ascii());
    }
}

/// Keys near the user's prefix, and far from it.
fn neighbours() -> [String; 5] {
    ["", "sho:", "shop", "shopp:", "zoo:shop:"].map(|prefix| format!("{prefix}{NEIGHBOUR}"))
}

/// What neighbours have, and how the server is set.
fn theirs(engine: &Engine, keys: &[String], now: Tick) -> String {
    let items = keys.iter().map(|key| ask(engine, &format!("gets {key}\r\nmg {key} t\r\n"), now));
    items.chain([ask(engine, "stats settings\r\n", now)]).collect()
}

/// The keys that there are, as a dump shows them.
fn everything(engine: &Engine, now: Tick) -> Vec<String> {
    let dump = ask(engine, "lru_crawler metadump all\r\n", now);
    let keys = dump.lines().filter_map(|line| line.split(' ').next()).filter(|word| word.starts_with("key="));
    let mut keys: Vec<String> = keys.map(str::to_owned).collect();
    keys.sort_unstable();
    keys
}

/// What somebody is told who may do everything.
fn ask(engine: &Engine, request: &str, now: Tick) -> String {
    let mut connection = logged_in(engine, &format!("operator {NEIGHBOUR}"), now);
    connection.offer(engine, request.as_bytes(), now).unwrap_or_else(|error| panic!("{error}"));
    String::from_utf8(connection.received).expect("what is asked for here is text")
}

fn logged_in(engine: &Engine, token: &str, now: Tick) -> Connection {
    let mut connection = Connection::new(engine, 0, false);
    let login = format!("set auth 0 0 {}\r\n{token}\r\n", token.len());
    connection.offer(engine, login.as_bytes(), now).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(std::mem::take(&mut connection.received), b"STORED\r\n");
    connection
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}
