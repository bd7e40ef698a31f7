//! What a turn may do before others have theirs: requests, bytes received and owed, commands that take long.

use bytes::Buf;
use ferrocached::clock::{Epoch, Tick};
use ferrocached::engine::{Engine, OWED_BYTES_MAX, Session, Then, Turn};
use ferrocached::protocol::Owed;
use ferrocached::settings::Settings;

/// The most requests that are decoded at a time.
const BATCH_REQUESTS: usize = 64;

struct Server {
    engine: Engine,
    session: Session,
    now: Tick,
}

impl Server {
    fn new(requests_per_event: u32) -> Server {
        let (epoch, now) = Epoch::starting_at(1_700_000_000);
        let engine = Engine::new(Settings { requests_per_event, ..Settings::default() }, epoch);
        let session = engine.session(0);
        Server { engine, session, now }
    }

    fn turn(&mut self, input: &str) -> (Turn, usize) {
        let mut owed = Owed::default();
        let turn = self.engine.turn(&mut self.session, input.as_bytes(), &mut owed, self.now);
        (turn, owed.remaining())
    }

    fn yields(&mut self) -> String {
        let mut owed = Owed::default();
        self.engine.turn(&mut self.session, b"stats\r\n", &mut owed, self.now);
        let text = String::from_utf8(owed.into_bytes().to_vec()).unwrap();
        text.lines().find_map(|line| line.strip_prefix("STAT conn_yields ")).unwrap().to_owned()
    }
}

fn set(value_bytes: usize) -> String {
    format!("set key 0 0 {value_bytes} noreply\r\n{}\r\n", "v".repeat(value_bytes))
}

#[test]
fn a_pipeline_of_small_requests_is_a_short_turn() {
    let mut server = Server::new(20);
    server.turn(&set(32));
    let gets = "get key\r\n".repeat(BATCH_REQUESTS);
    let (turn, _) = server.turn(&gets);
    assert_eq!(turn, Turn { consumed: gets.len(), then: Then::Read { bytes_min: 1 }, is_long: false });
    assert_eq!(server.yields(), "0");
}

#[test]
fn after_so_many_requests_others_have_their_turn_whether_the_next_is_whole_or_cut_off() {
    for (rest, requests_per_event, yields) in [
        ("get key\r\n", 20, true),
        ("get k", 20, true),
        ("set k 0 0 100\r\nhalf", 20, true),
        ("get key\r\n", 1000, false),
        ("get k", 1000, false),
    ] {
        let mut server = Server::new(requests_per_event);
        let (turn, _) = server.turn(&("get key\r\n".repeat(BATCH_REQUESTS) + rest));
        assert_eq!(turn.is_long, yields, "{rest:?} with -R {requests_per_event}");
        assert_eq!(server.yields(), if yields { "1" } else { "0" }, "{rest:?} with -R {requests_per_event}");
    }
}

#[test]
fn many_bytes_received_or_owed_make_a_long_turn() {
    let mut server = Server::new(1000);
    assert!(!server.turn(&set(1000).repeat(20)).0.is_long);
    assert!(server.turn(&set(1000).repeat(32)).0.is_long, "a full read of the network");
    assert!(server.turn(&set(100_000)).0.is_long);
    assert!(server.turn("get key\r\n").0.is_long);
}

#[test]
fn what_is_owed_ends_a_turn_within_one_reply_of_its_bound() {
    let mut server = Server::new(1000);
    server.turn(&set(1000));
    let gets = "get key\r\n".repeat(1000);
    let (turn, owed) = server.turn(&gets);
    assert!(turn.consumed < gets.len() && turn.then == Then::Again && turn.is_long);
    assert!((OWED_BYTES_MAX..OWED_BYTES_MAX + 1100).contains(&owed), "{owed}");
}

#[test]
fn a_command_that_takes_long_ends_its_turn_and_one_that_does_not_goes_on() {
    for (command, is_long) in [
        ("stats hotkeys", true),
        ("stats sizes", true),
        ("flush_prefix p", true),
        ("flush_all", true),
        ("lru_crawler metadump all", true),
        ("version", false),
        ("mn", false),
        ("verbosity 1", false),
    ] {
        let mut server = Server::new(1000);
        let input = format!("get a\r\n{command}\r\nget b\r\n");
        let (turn, _) = server.turn(&input);
        assert_eq!((turn.is_long, turn.then == Then::Again), (is_long, is_long), "{command}");
        assert_eq!(turn.consumed == input.len(), !is_long, "{command}");
    }
}

#[test]
fn a_value_that_is_awaited_and_will_be_stored_as_it_is_may_be_read_into_the_store() {
    let mut server = Server::new(20);
    server.turn(&set(32));
    for (line, is_whole) in [
        ("set key 0 0 100000\r\n", true),
        ("append key 0 0 100000\r\n", false),
        ("ms key 100000\r\n", true),
        ("ms key 100000 MP\r\n", false),
        ("cas key 0 0 100000 1\r\n", true),
    ] {
        let (turn, _) = server.turn(line);
        let bytes_min = line.len() + 100_002;
        assert_eq!(turn, Turn { consumed: 0, then: Then::Read { bytes_min }, is_long: false });
        assert_eq!(server.session.awaits_whole_value(), is_whole, "{line}");
        let upload = server.engine.lend(bytes_min, 1 << 16).expect("there are addresses");
        assert_eq!((upload.bytes().len(), upload.capacity()), (0, 1 << 16));
    }
    assert!(server.engine.lend(1000, 1000).is_none(), "what is short is copied");
}
