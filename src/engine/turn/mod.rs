//! The turn: what one read of a socket brought is decoded, executed and worded, in order.
//!
//! [`Engine::turn`] decodes a batch of requests, tells the store which keys are about to be asked for, so that their
//! memory is on its way, executes them and words the replies. What takes longer than a turn may last goes on in the next
//! ones ([`long_reply`]) or off the worker ([`blocking`]); the [`session`] knows which.

pub(in crate::engine) mod batch;
pub mod blocking;
pub mod long_reply;
pub mod session;

use bytes::Buf;

use super::Engine;
use super::access::rights::admission::Unrestricted;
use crate::clock::Tick;
use crate::protocol::Owed;
pub use session::Session;

/// When this many bytes are owed, the rest of the turn waits until the client has taken them.
pub const OWED_BYTES_MAX: usize = 128 << 10;

/// What a request counts as, beside its bytes, in bytes: its look-up takes about as long as to copy so many.
const REQUEST_WORK_BYTES: usize = 512;

/// A turn that receives, copies and words so many bytes, requests counted as [`REQUEST_WORK_BYTES`] each, is a long one:
/// some 30 us. A pipeline of 64 gets of small values is below it, a full read of 1 KB stores above.
const LONG_WORK_BYTES: usize = 44 << 10;

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// How many bytes of the input were used up; the rest is to be offered again, with more behind it.
    pub consumed: usize,
    /// What the connection should do next, once it has sent what it owes.
    pub then: Then,
    /// Whether it took long, so that others are to have theirs before the connection does anything else.
    pub is_long: bool,
}

/// What a connection should do after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Read until the input that is left has grown to at least this many bytes.
    Read {
        /// Total length of input, in bytes, below which another turn would achieve nothing.
        bytes_min: usize,
    },
    /// Offer what is left of the input, once other connections have had their turn.
    Again,
    /// Run the session's task before anything else, as [`blocking`] says, then offer what is left of the input.
    Wait,
    /// Offer what is left of the input again with every tick: it begins with a store for which there is no memory until
    /// slow clients have been closed. Only for sessions that are [patient](Session::patient).
    Retry,
    /// From now on send what [`Engine::take_lines`] gives, until the client leaves or [`Engine::wants_to_quit`]
    /// says so, which is to hear the rest of the input too. There are no more turns.
    Watch,
    /// Close.
    Close,
    /// Close, and stop the server.
    Shutdown {
        /// `shutdown graceful`: as SIGUSR1 does; otherwise as SIGINT.
        graceful: bool,
    },
}

impl Engine {
    /// Runs the requests at the head of `input` and appends what is owed for them to `owed`.
    ///
    /// The effects and replies are those of the requests one by one, in order, however the input was cut into
    /// turns. At most [`OWED_BYTES_MAX`] bytes and one reply are owed more than before.
    pub fn turn(&self, session: &mut Session, input: &[u8], owed: &mut Owed, now: Tick) -> Turn {
        let now = self.time(now);
        self.flush_if_due(now);
        if !session.serves() {
            return self.turn_otherwise(session, input, owed, now);
        }
        let owed_before = owed.remaining();
        session.observed_mut().note_watched(self.watch.watched());
        let mut consumed = 0;
        let mut requests = 0;
        let requests_max = self.settings.requests_per_event as usize;
        let then = loop {
            let owed_max = owed_before + OWED_BYTES_MAX;
            let rest = &input[consumed..];
            let batch = if session.granted().limits().is_none() {
                self.batch(session, rest, Unrestricted, owed, owed_max, now)
            } else {
                self.batch_by_rights(session, rest, owed, owed_max, now)
            };
            consumed += batch.consumed;
            requests += batch.requests;
            if let Some(then) = batch.then {
                break then;
            }
            if owed.remaining() >= owed_max || requests >= requests_max && consumed < input.len() {
                break Then::Again;
            }
        };
        let owes = owed.remaining() - owed_before;
        session.counters().bytes_read.add(consumed as u64);
        session.counters().bytes_written.add(owes as u64);
        // Of a request that is cut off more is sure to come, so to stop there is to yield, too.
        let yields = requests >= requests_max && consumed < input.len();
        session.counters().conn_yields.add(u64::from(yields));
        let work = consumed + owes + requests * REQUEST_WORK_BYTES;
        Turn { consumed, then, is_long: yields || then == Then::Again || work >= LONG_WORK_BYTES }
    }
}
