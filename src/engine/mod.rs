//! The server without sockets: bytes received, bytes owed.

pub mod settings;

use bytes::BytesMut;

use crate::clock::{Epoch, Tick};
use settings::Settings;

/// What the engine remembers of one connection between turns.
#[derive(Debug, Default)]
pub struct Session {}

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// How many bytes of the input were used up; the rest is to be offered again, with more behind it.
    pub consumed: usize,
    /// What the connection should do next, once it has sent what it owes.
    pub then: Then,
}

/// What a connection should do after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Read until the input that is left has grown to at least this many bytes.
    Read {
        /// Total length of input, in bytes, below which another turn would achieve nothing.
        bytes_min: usize,
    },
    /// Let other connections have their turn, then offer what is left of the input.
    Again,
    /// Close.
    Close,
    /// Close, and stop the server.
    Shutdown {
        /// `shutdown graceful`: as SIGUSR1 does; otherwise as SIGINT.
        graceful: bool,
    },
}

/// The server without sockets.
#[derive(Debug)]
pub struct Engine {}

impl Engine {
    /// An engine with an empty store.
    pub fn new(_settings: Settings, _epoch: Epoch) -> Engine {
        Engine {}
    }

    /// A new connection's session, counted in the counters of worker number `worker` (below `-t`).
    pub fn session(&self, _worker: usize) -> Session {
        Session {}
    }

    /// Runs the requests at the head of `input` and appends what is owed for them to `output`.
    pub fn turn(&self, _session: &mut Session, _input: &[u8], _output: &mut BytesMut, _now: Tick) -> Turn {
        Turn { consumed: 0, then: Then::Close }
    }

    /// What is to be done about ten times a second, whether requests come or not.
    pub fn tick(&self, _now: Tick) {}
}
