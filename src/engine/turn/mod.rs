//! The turn: what one read of a socket brought is decoded, executed and worded, in order.
//!
//! [`Engine::turn`] decodes a batch of requests, tells the store which keys are about to be asked for, so that their
//! memory is on its way, executes them and words the replies. What takes longer than a turn may last goes on in the next
//! ones ([`long_reply`]), off the worker ([`blocking`]), or once there is room (`retry`); the [`session`] knows which.

pub mod blocking;
pub mod long_reply;
pub(in crate::engine) mod retry;
pub mod session;

use arrayvec::ArrayVec;
use bytes::Buf;

use super::{Engine, keyvalue};
use crate::clock::Tick;
use crate::protocol::{Decoder, Owed, Put, Request, Step, reply};
use crate::store::Hashed;
pub use session::Session;
use session::Stage;

/// How many requests (keys, in a retrieval) are decoded before they are executed. Enough to hide the latency
/// of memory behind one another, few enough to stay in the nearest cache.
pub(in crate::engine) const BATCH_REQUESTS_MAX: usize = 64;

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
    /// Run the session's errand before anything else, as [`blocking`] says, then offer what is left of the input.
    Wait,
    /// Offer what is left of the input again with every tick: it begins with a store for which there is no room until
    /// slow clients have been closed. Only for sessions that are [patient](Session::patient).
    Room,
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

/// One step of a turn, decoded.
pub(in crate::engine) enum Work<'a> {
    Run(Request<'a>),
    Say(&'static [u8]),
}

impl Engine {
    /// Runs the requests at the head of `input` and appends what is owed for them to `owed`.
    ///
    /// The effects and replies are those of the requests one by one, in order, however the input was cut into
    /// turns. At most [`OWED_BYTES_MAX`] bytes and one reply are owed more than before.
    pub fn turn(&self, session: &mut Session, input: &[u8], owed: &mut Owed, now: Tick) -> Turn {
        let now = self.time(now);
        self.flush_if_due(now);
        if !matches!(session.stage, Stage::Serving) && !session.serves_again() {
            return self.turn_otherwise(session, input, owed, now);
        }
        let owed_before = owed.remaining();
        session.watched = self.watch.watched();
        let mut consumed = 0;
        let mut requests = 0;
        let requests_max = self.settings.requests_per_event as usize;
        let then = loop {
            let owed_max = owed_before + OWED_BYTES_MAX;
            let rest = &input[consumed..];
            let (done, then) = if session.rights.is_none() {
                self.batch(session, rest, owed, owed_max, now, &mut requests)
            } else {
                self.batch_by_rights(session, rest, owed, owed_max, now, &mut requests)
            };
            consumed += done;
            if let Some(then) = then {
                break then;
            }
            if owed.remaining() >= owed_max || requests >= requests_max && consumed < input.len() {
                break Then::Again;
            }
        };
        let owes = owed.remaining() - owed_before;
        session.counters.bytes_read.add(consumed as u64);
        session.counters.bytes_written.add(owes as u64);
        // Of a request that is cut off more is sure to come, so to stop there is to yield, too.
        let yields = requests >= requests_max && consumed < input.len();
        session.counters.conn_yields.add(u64::from(yields));
        let work = consumed + owes + requests * REQUEST_WORK_BYTES;
        Turn { consumed, then, is_long: yields || then == Then::Again || work >= LONG_WORK_BYTES }
    }

    /// Decodes and executes at most [`BATCH_REQUESTS_MAX`] steps; says how many bytes that used up and, if the
    /// turn is over, what comes then.
    fn batch(
        &self,
        session: &mut Session,
        input: &[u8],
        owed: &mut Owed,
        owed_max: usize,
        now: Tick,
        requests: &mut usize,
    ) -> (usize, Option<Then>) {
        let start = session.decoder;
        let mut work = ArrayVec::<Work<'_>, BATCH_REQUESTS_MAX>::new();
        // One for each step; that of nothing where it has no key.
        let mut keys = ArrayVec::<Hashed, BATCH_REQUESTS_MAX>::new();
        let mut consumed = 0;
        let last = loop {
            if work.is_full() {
                break None;
            }
            if let Some((fetch, used)) = session.decoder.plain_fetch(&input[consumed..]) {
                consumed += used;
                work.push(Work::Run(Request::Fetch(fetch)));
                keys.push(self.store.hash(fetch.key));
                continue;
            }
            let (step, used) = session.decoder.step(&input[consumed..]);
            consumed += used;
            match step {
                Step::Request(request) => {
                    work.push(Work::Run(request));
                    keys.push(self.store.hash(keyvalue::key(&request)));
                }
                Step::Say(words) => {
                    work.push(Work::Say(words));
                    keys.push(self.store.hash(b""));
                }
                Step::Announced { .. } | Step::Incomplete { .. } | Step::Hopeless => break Some(step),
            }
        };
        self.hint(&mut keys);
        let sampled = session.counters.sampler.choose(work.len());
        for (index, (step, &hashed)) in work.iter().zip(&keys).enumerate() {
            let then = match step {
                // One branch, and asked anew for each request: the one before may have switched it.
                Work::Run(request) if self.prefixes.is_on() | (index == sampled) => {
                    let is_sampled = index == sampled;
                    self.execute_observed(session, request, hashed, is_sampled, owed, now)
                }
                Work::Run(request) => self.execute(session, request, hashed, owed, now),
                Work::Say(words) => {
                    owed.say(words);
                    None
                }
            };
            *requests += 1;
            // What ends a turn ends it right behind the request it comes from, or before one that awaits room.
            if then.is_some() {
                let done = index + usize::from(then != Some(Then::Room));
                return (again_up_to(start, done, session, input), then);
            }
            if owed.remaining() >= owed_max && index + 1 < work.len() {
                return (again_up_to(start, index + 1, session, input), Some(Then::Again));
            }
        }
        let then = last.map(|step| match step {
            Step::Announced { put, line_bytes } => self.announced(session, &put, line_bytes, owed, now),
            _ => session.wait_or_close(step),
        });
        (consumed, then)
    }

    /// Tells the store that `keys` are about to be asked for.
    #[inline(always)]
    pub(in crate::engine) fn hint(&self, keys: &mut ArrayVec<Hashed, BATCH_REQUESTS_MAX>) {
        // Loops of their own, short enough for the processor to have several page walks under way: among the
        // instructions of decoding, each hint would wait for its own.
        if keys.len() > 1 {
            keys.iter_mut().for_each(|key| self.store.hint_index(key));
            let mut late = ArrayVec::<u8, BATCH_REQUESTS_MAX>::new();
            for (number, key) in keys.iter_mut().enumerate() {
                if self.store.hint_item(key) {
                    late.push(number as u8);
                }
            }
            // One more look will do: where chains are longer there are few of them.
            for &number in &late {
                let _ = self.store.hint_item(&mut keys[usize::from(number)]);
            }
        }
    }

    /// A value that has not arrived in full: worth waiting for, or to be refused now and thrown away as it comes.
    pub(in crate::engine) fn announced(
        &self,
        session: &mut Session,
        put: &Put<'_>,
        line_bytes: usize,
        owed: &mut Owed,
        now: Tick,
    ) -> Then {
        if self.refuses(session, put, owed, now) {
            self.observe_refused(session, put);
            session.decoder.swallow(line_bytes, put.value_bytes.into());
            return Then::Again;
        }
        let value_bytes = put.value_bytes as usize;
        Then::Read { bytes_min: line_bytes + value_bytes + 2 }
    }

    // Always, for the cold caller's sake not to be the hot one's loss: a call here costs 2 of a get's 61 ns.
    #[inline(always)]
    pub(in crate::engine) fn execute(
        &self,
        session: &mut Session,
        request: &Request<'_>,
        hashed: Hashed,
        owed: &mut Owed,
        now: Tick,
    ) -> Option<Then> {
        match request {
            Request::Fetch(fetch) => {
                self.fetch(session, fetch, hashed, owed, now);
                if fetch.is_last {
                    owed.say(reply::END);
                }
            }
            Request::Put(put) => {
                if self.put(session, put, hashed, owed, now).is_err() {
                    return Some(session.await_room(now));
                }
            }
            Request::Count(count) => self.count(session, count, hashed, owed, now),
            Request::Touch(touch) => self.touch(session, touch, hashed, owed, now),
            Request::Delete(delete) => self.delete(session, delete, hashed, owed, now),
            Request::Admin { line } => return self.administer(session, line, owed, now),
        }
        None
    }
}

/// Rare: a batch ends after `steps` of its steps, though more were decoded. Decodes once more up to there, from `start`,
/// to stand where the client's next turn begins; says how many bytes that uses up.
#[cold]
pub(in crate::engine) fn again_up_to(
    start: Decoder,
    steps: usize,
    session: &mut Session,
    input: &[u8],
) -> usize {
    session.decoder = start;
    (0..steps).fold(0, |at, _| at + session.decoder.step(&input[at..]).1)
}
