//! The open connections, as `stats conns` and `watch connevents` show them. The network lists them, and the engine
//! formats the list.

use std::fmt::Debug;
use std::sync::Arc;

use crate::clock::Tick;
use crate::engine::Engine;
use crate::engine::turn::long_reply::{LongReply, Progress};
use crate::protocol::{Owed, StatLines, Style};

/// How many sockets one slice of `stats conns` lists. Some 15 KiB, or four times that with the longest addresses.
const CONNECTIONS_PER_SLICE: usize = 64;

/// What carries a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A UNIX socket.
    Local,
    /// TCP.
    Tcp,
}

impl Transport {
    pub(in crate::engine) fn name(self) -> &'static str {
        match self {
            Transport::Local => "local",
            Transport::Tcp => "tcp",
        }
    }
}

/// The other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Its numeric address; `unix` at the end of a UNIX socket.
    pub address: String,
    /// Its port; 0 where there are none.
    pub port: u16,
    /// What carries the connection.
    pub transport: Transport,
}

/// What a socket is doing. The names are memcached's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// It waits for connections.
    Listening,
    /// It waits for a request.
    Reading,
    /// It waits for the rest of a value.
    ReadingValue,
    /// It waits for the client to read its replies.
    Writing,
    /// It streams what `watch` shows.
    Watching,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Listening => "conn_listening",
            State::Reading => "conn_read",
            State::ReadingValue => "conn_nread",
            State::Writing => "conn_mwrite",
            State::Watching => "conn_watch",
        }
    }
}

/// A socket, as `stats conns` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// The address at the other end, or that of a listening socket, as in `tcp6:[::1]:11211`.
    pub address: String,
    /// The address it came in through; `None` for a listening socket.
    pub listen_address: Option<String>,
    /// What it is doing.
    pub state: State,
    /// For how long it has not asked for anything, in seconds.
    pub idle_seconds: u32,
}

/// All open sockets.
pub trait ConnectionList: Debug + Send + Sync {
    /// Their descriptors, in order: at most `-c` and one for each listening socket.
    fn descriptors(&self) -> Vec<i32>;
    /// One of them at `now`; `None` if it was closed meanwhile.
    fn connection(&self, descriptor: i32, now: Tick) -> Option<ConnectionInfo>;
}

/// `stats conns`.
#[derive(Debug)]
pub(in crate::engine) struct Conns {
    descriptors: std::vec::IntoIter<i32>,
    /// The socket of the client that asks.
    own: i32,
    style: Style<'static>,
}

impl Engine {
    /// Tells the engine where it finds the connections; the first list stays.
    pub fn set_connection_list(&self, connection_list: Arc<dyn ConnectionList>) {
        // Only tests bind the same engine to sockets twice, and either will do for them.
        let _ = self.connection_list().set(connection_list);
    }

    /// The sockets that are open now, for the client with socket number `own`.
    pub(in crate::engine) fn conns(&self, style: Style<'static>, own: i32) -> Conns {
        let descriptors = self.connection_list().get().map_or_else(Vec::new, |list| list.descriptors());
        Conns { descriptors: descriptors.into_iter(), own, style }
    }
}

impl LongReply for Conns {
    fn go_on(&mut self, engine: &Engine, owed: &mut Owed, now: Tick) -> Progress {
        let mut lines = StatLines::new(self.style, owed);
        for descriptor in self.descriptors.by_ref().take(CONNECTIONS_PER_SLICE) {
            let Some(info) = engine.connection_list().get().and_then(|list| list.connection(descriptor, now))
            else {
                continue;
            };
            let state = if descriptor == self.own { "conn_parse_cmd" } else { info.state.name() };
            say_connection(&mut lines, descriptor, &info, state);
        }
        if self.descriptors.len() > 0 {
            return Progress::GoesOn;
        }
        lines.end();
        Progress::Done
    }
}

fn say_connection(lines: &mut StatLines<'_>, descriptor: i32, info: &ConnectionInfo, state: &str) {
    let name = |what: &str| format!("{descriptor}:{what}");
    if info.address.starts_with("udp") {
        lines.text(&name("UDP"), "UDP");
    }
    lines.text(&name("addr"), &info.address);
    if let Some(address) = &info.listen_address {
        lines.text(&name("listen_addr"), address);
    }
    lines.text(&name("state"), state);
    lines.number(&name("secs_since_last_cmd"), u64::from(info.idle_seconds));
}

#[cfg(test)]
mod tests {
    use bytes::Buf;

    use super::*;
    use crate::clock::Epoch;
    use crate::engine::{OWED_BYTES_MAX, Then};
    use crate::settings::Settings;

    /// The path of a UNIX socket has at most 107 bytes, and each that is not text is shown as three.
    fn longest_path() -> String {
        format!("unix:/{}", "\u{fffd}".repeat(106))
    }

    /// So many connections, of which the odd ones close while they are listed.
    #[derive(Debug)]
    struct Many(i32);

    impl ConnectionList for Many {
        fn descriptors(&self) -> Vec<i32> {
            (0..self.0).collect()
        }

        fn connection(&self, descriptor: i32, _: Tick) -> Option<ConnectionInfo> {
            (descriptor % 2 == 0).then(|| ConnectionInfo {
                address: longest_path(),
                listen_address: Some(longest_path()),
                state: State::Reading,
                idle_seconds: 7,
            })
        }
    }

    #[test]
    fn many_connections_are_listed_in_slices() {
        let (epoch, now) = Epoch::starting_at(1_700_000_000);
        let engine = Engine::new(Settings::default(), epoch);
        engine.set_connection_list(Arc::new(Many(40_000)));
        let mut session = engine.session(0);
        let input = b"get a\r\nstats conns\r\nget b\r\nversion\r\n";
        let (mut consumed, mut turns, mut said) = (0, 0, Vec::new());
        loop {
            let mut owed = Owed::default();
            let turn = engine.turn(&mut session, &input[consumed..], &mut owed, now);
            consumed += turn.consumed;
            turns += 1;
            assert!(owed.remaining() < OWED_BYTES_MAX / 4, "{} bytes", owed.remaining());
            said.extend_from_slice(&owed.into_bytes());
            if turn.then != Then::Again {
                assert_eq!((turn.then, consumed), (Then::Read { bytes_min: 1 }, input.len()));
                break;
            }
        }
        let said = String::from_utf8(said).unwrap();
        assert!(turns > 40_000 / CONNECTIONS_PER_SLICE, "{turns} turns for {} bytes", said.len());
        assert!(said.starts_with("END\r\nSTAT 0:addr unix:/"), "the request before comes first");
        assert_eq!(said.matches(":state conn_").count(), 20_000);
        assert!(said.contains("STAT 4:secs_since_last_cmd 7\r\nSTAT 6:addr "), "in order");
        let (_, behind) = said.rsplit_once("STAT ").unwrap();
        assert!(behind.contains("\r\nEND\r\nEND\r\nVERSION "), "requests behind wait for the end");
    }
}
