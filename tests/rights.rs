//! Every command with every kind of rights: who may, who is refused in which words, and that what is refused has no
//! effect. The table here is written by hand; the ones in the source are walked, so that no command is left out.

use std::collections::BTreeSet;

use ferrocached::clock::{Epoch, Tick};
use ferrocached::engine::access::rights::{Allowed, Rights};
use ferrocached::engine::admin::COMMANDS;
use ferrocached::engine::{Engine, Session, Then};
use ferrocached::protocol::Owed;
use ferrocached::settings::Settings;

const RIGHTS: [&str; 4] = ["rw", "ro", "prefix=a", "ro,prefix=a"];

/// How each of [`RIGHTS`] is answered: `+` allowed, `r` refused as a reader, `p` refused for its prefix.
const EVERYONE: &str = "++++";
const WRITERS: &str = "+r+r";
const OVERSEERS: &str = "++pp";
const OPERATORS: &str = "+rpp";

/// What is sent, and to whom it is allowed.
const TABLE: &[(&str, &str)] = &[
    ("get k", EVERYONE),
    ("get k l k", EVERYONE),
    ("gets k", EVERYONE),
    ("gat 0 k", WRITERS),
    ("gats 0 k l", WRITERS),
    ("set k 0 0 1\r\nx", WRITERS),
    ("add n 0 0 1\r\nx", WRITERS),
    ("replace k 0 0 1\r\nx", WRITERS),
    ("append k 0 0 1\r\nx", WRITERS),
    ("prepend k 0 0 1\r\nx", WRITERS),
    ("cas k 0 0 1 1\r\nx", WRITERS),
    ("incr k 1", WRITERS),
    ("decr k 1", WRITERS),
    ("touch k 9", WRITERS),
    ("delete k", WRITERS),
    ("mg k", EVERYONE),
    ("mg k c f h k l O1 q s t u v x E9 F1 I", EVERYONE),
    ("mg aw== b v", EVERYONE),
    ("mg k T9", WRITERS),
    ("mg n N9", WRITERS),
    ("mg k R9", WRITERS),
    ("mg n q v N9", WRITERS),
    ("ms k 1\r\nx", WRITERS),
    ("ms k 1 q\r\nx", WRITERS),
    ("ms aw== 1 b\r\nx", WRITERS),
    ("ms k 1 MA\r\nx", WRITERS),
    ("md k", WRITERS),
    ("md k q", WRITERS),
    ("md k x I", WRITERS),
    ("ma k", WRITERS),
    ("ma n N0 q", WRITERS),
    ("cache_memlimit 100", OPERATORS),
    ("flush_all", WRITERS),
    ("flush_all 0", WRITERS),
    ("flush_prefix k", WRITERS),
    ("lru mode flat", OPERATORS),
    ("lru tune 10 25 0.1 2.0", OPERATORS),
    ("lru temp_ttl 9", OPERATORS),
    ("lru_crawler metadump all", EVERYONE),
    ("lru_crawler metadump hash k", EVERYONE),
    ("lru_crawler mgdump all", EVERYONE),
    ("lru_crawler crawl all", OPERATORS),
    ("lru_crawler enable", OPERATORS),
    ("lru_crawler disable", OPERATORS),
    ("lru_crawler sleep 9", OPERATORS),
    ("lru_crawler tocrawl 9", OPERATORS),
    ("lru_crawler", OPERATORS),
    ("me k", EVERYONE),
    ("mn", EVERYONE),
    ("quit", EVERYONE),
    ("refresh_certs", OPERATORS),
    ("shutdown", OPERATORS),
    ("shutdown graceful", OPERATORS),
    ("slabs reassign 1 2", OPERATORS),
    ("slabs automove 2", OPERATORS),
    ("stats", EVERYONE),
    ("stats cachedump 1 0", EVERYONE),
    ("stats conns", OVERSEERS),
    ("stats detail dump", OVERSEERS),
    ("stats detail on", OPERATORS),
    ("stats detail off", OPERATORS),
    ("stats detail", OPERATORS),
    ("stats hotkeys", OVERSEERS),
    ("stats items", EVERYONE),
    ("stats latency", EVERYONE),
    ("stats network", EVERYONE),
    ("stats prefixes", OVERSEERS),
    ("stats reset", OPERATORS),
    ("stats settings", EVERYONE),
    ("stats sizes", EVERYONE),
    ("stats slabs", EVERYONE),
    ("stats nonsense", OPERATORS),
    ("verbosity 2", OPERATORS),
    ("version", EVERYONE),
    ("watch", OVERSEERS),
    ("watch mutations evictions connevents deletions", OVERSEERS),
    #[cfg(feature = "debugtime")]
    ("debugtime 9", OPERATORS),
];

const REFUSALS: [(char, &str); 2] = [
    ('r', "CLIENT_ERROR not allowed for a read-only user\r\n"),
    ('p', "CLIENT_ERROR not allowed for a user with a prefix\r\n"),
];

/// An engine with items of several users.
struct Server {
    engine: Engine,
    now: Tick,
}

impl Server {
    fn new() -> Server {
        let (epoch, now) = Epoch::starting_at(1_700_000_000);
        let settings = Settings { shutdown_enabled: true, detail_enabled: true, ..Settings::default() };
        let server = Server { engine: Engine::new(settings, epoch), now };
        for key in ["k", "a:k", "b:k"] {
            server.ask(&mut server.engine.session(0), &format!("set {key} 0 100 1\r\n1"));
        }
        server
    }

    fn session(&self, rights: &str) -> Session {
        let mut session = self.engine.session(0);
        session.set_rights(Rights::parse(rights).unwrap().into());
        session
    }

    /// What comes back for `line`, and whether the session is still in step.
    fn ask(&self, session: &mut Session, line: &str) -> (String, bool) {
        let input = format!("{line}\r\n");
        let (mut owed, mut consumed) = (Owed::default(), 0);
        loop {
            let turn = self.engine.turn(session, &input.as_bytes()[consumed..], &mut owed, self.now);
            consumed += turn.consumed;
            if turn.then != Then::Again {
                let in_step = turn.then == Then::Read { bytes_min: 1 } && consumed == input.len();
                return (String::from_utf8_lossy(&owed.into_bytes()).into_owned(), in_step);
            }
        }
    }

    /// All that a command could have changed.
    fn state(&self) -> BTreeSet<String> {
        let mut session = self.engine.session(1);
        let lines = ["lru_crawler metadump all", "get k a:k b:k", "stats settings", "stats detail dump"];
        let mut state: BTreeSet<String> = BTreeSet::new();
        for line in lines {
            state.extend(self.ask(&mut session, line).0.lines().map(str::to_owned));
        }
        let counted = ["cmd_set ", "cmd_touch ", "cmd_flush", "limit_maxbytes ", "lru_crawler_starts "];
        let stats = self.ask(&mut session, "stats").0;
        let lines = stats.lines().filter(|line| counted.iter().any(|name| line.contains(name)));
        state.extend(lines.map(str::to_owned));
        state
    }
}

#[test]
fn everybody_may_do_what_the_table_says_and_no_more() {
    let untouched = Server::new().state();
    for &(line, whom) in TABLE {
        for (rights, answer) in RIGHTS.into_iter().zip(whom.chars()) {
            let server = Server::new();
            let mut session = server.session(rights);
            let refusal = REFUSALS.into_iter().find(|(kind, _)| *kind == answer).map(|(_, words)| words);
            let (said, in_step) = server.ask(&mut session, line);
            let Some(refusal) = refusal else {
                assert!(!said.contains("not allowed"), "{line:?} with {rights}: {said:?}");
                continue;
            };
            assert_eq!((&said[..], in_step), (refusal, true), "{line:?} with {rights}");
            assert_eq!(server.state(), untouched, "{line:?} with {rights} has an effect");
        }
    }
}

#[test]
fn no_administrative_command_is_missing_in_the_table() {
    for command in COMMANDS {
        for (words, allowed) in command.allowed.kinds() {
            let words = format!("{} {words}", command.name);
            let words = words.trim_end();
            let uses: Vec<_> = TABLE
                .iter()
                .filter(|(line, _)| {
                    line.strip_prefix(words)
                        .is_some_and(|rest| ["", " "].contains(&&rest[..rest.len().min(1)]))
                })
                .collect();
            assert!(!uses.is_empty(), "{words:?} is in the table");
            let expected = match allowed {
                Allowed::Everyone => EVERYONE,
                Allowed::Writers => WRITERS,
                Allowed::Overseers => OVERSEERS,
                Allowed::Operators => OPERATORS,
                Allowed::ByWord(_) => unreachable!("kinds takes these apart"),
            };
            let is_bare = |line: &str| line == words;
            let (_, whom) = uses.iter().find(|(line, _)| is_bare(line)).unwrap_or(&uses[0]);
            assert_eq!(*whom, expected, "{words:?}");
        }
    }
}

#[test]
fn rights_can_change_between_two_turns() {
    let server = Server::new();
    let mut session = server.session("ro,prefix=a");
    assert_eq!(server.ask(&mut session, "delete k").0, REFUSALS[0].1);
    session.set_rights(Rights::parse("prefix=b").unwrap().into());
    assert_eq!(server.ask(&mut session, "delete k").0, "DELETED\r\n");
    session.set_rights(Rights::default().into());
    assert_eq!(server.ask(&mut session, "delete a:k").0, "DELETED\r\n");
    assert_eq!(server.ask(&mut session, "mg k k v").0, "VA 1 kk\r\n1\r\n");
    assert_eq!(server.ask(&mut session, "mg b:k k").0, "EN kb:k\r\n");
}
