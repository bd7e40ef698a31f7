//! The turn: what one read of a socket brought is decoded, executed and worded, in order.
//!
//! [`Engine::turn`] decodes a batch of requests, tells the store which keys are about to be asked for, so that their
//! memory is on its way, executes them and words the replies. What takes longer than a turn may last goes on in the next
//! ones ([`long_reply`]) or off the worker ([`blocking`]); the [`session`] knows which.

pub(in crate::engine) mod batch;
pub mod blocking;
pub mod long_reply;
pub mod session;
pub mod then;

use bytes::Buf;

use super::Engine;
use super::access::rights::admission::Unrestricted;
use crate::clock::Tick;
use crate::protocol::{Decoder, Owed, Step};
pub use session::Session;
pub use then::{OWED_BYTES_MAX, Reason, Then, Turn};

/// What a request counts as, beside its bytes, in bytes: its look-up takes about as long as to copy so many.
const REQUEST_WORK_BYTES: usize = 512;

/// A turn that receives, copies and words so many bytes, requests counted as [`REQUEST_WORK_BYTES`] each, is a long one:
/// some 30 us. A pipeline of 64 gets of small values is below it, a full read of 1 KB stores above.
const LONG_WORK_BYTES: usize = 44 << 10;

impl Engine {
    /// Runs the requests at the head of `input` and appends what is owed for them to `owed`.
    ///
    /// The effects and replies are those of the requests one by one, in order, however the input was cut into
    /// turns. At most [`OWED_BYTES_MAX`] bytes and one reply are owed more than before.
    pub fn turn(&self, session: &mut Session, input: &[u8], owed: &mut Owed, now: Tick) -> Turn {
        if session.counters().latency.times_next() {
            // Once: at least a hundred turns pass before the next that is timed.
            return self.time_turn(session, input, |session| self.turn(session, input, owed, now));
        }
        let now = self.time(now);
        self.flushing().flush_if_due(self.store(), now);
        if !session.serves() {
            return self.turn_otherwise(session, input, owed, now);
        }
        let owed_before = owed.remaining();
        session.watching_mut().note_watched(self.watch().watched());
        let mut consumed = 0;
        let mut requests = 0;
        let requests_max = self.settings().requests_per_event as usize;
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

    /// Does what `turn` does, and notes how long that took.
    #[cold]
    fn time_turn(
        &self,
        session: &mut Session,
        input: &[u8],
        turn: impl FnOnce(&mut Session) -> Turn,
    ) -> Turn {
        let Some(clock) = self.statistics().clock else { return turn(session) };
        let mut decoder: Decoder = *session.decoder();
        let serves = session.serves();
        let begun = clock();
        let ended = turn(session);
        let time = clock().saturating_sub(begun);
        if let (true, true, (Step::Request(request), _)) = (serves, ended.consumed > 0, decoder.step(input)) {
            session.counters().latency.note(&request, time);
        }
        ended
    }
}
