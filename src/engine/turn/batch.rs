//! The one loop over requests: a batch is decoded, its keys hinted to the store, and then executed in order.

use arrayvec::ArrayVec;
use bytes::Buf;

use super::{Session, Then};
use crate::clock::Tick;
use crate::engine::access::rights::admission::{Admission, ByRights, PrefixedKeys};
use crate::engine::{Engine, keyvalue};
use crate::protocol::{Decoder, Owed, Put, Refusal, Request, Step};
use crate::store::Hashed;

/// How many requests (keys, in a retrieval) are decoded before they are executed. Enough to hide the latency
/// of memory behind one another, few enough to stay in the nearest cache.
const BATCH_REQUESTS_MAX: usize = 64;

/// How a batch ended.
pub(super) struct Batch {
    /// How many bytes of the input it has used up.
    pub(super) consumed: usize,
    /// How many requests it has executed or refused.
    pub(super) requests: usize,
    /// What comes then, if the turn is over.
    pub(super) then: Option<Then>,
}

/// One step of a batch, decoded and admitted.
enum Work<'a> {
    Run(Request<'a>),
    Say(&'static [u8]),
}

/// The steps of a batch, each with its key, or that of nothing where it has none.
type Steps<'a> = ArrayVec<(Work<'a>, Hashed<'a>), BATCH_REQUESTS_MAX>;

/// What ends a batch before it is full.
enum End<'a> {
    /// A step that is no whole request.
    Step(Step<'a>),
    /// A request that is not admitted, and why.
    Refused(Request<'a>, Refusal),
}

impl Engine {
    /// [`Engine::batch`] of a session with rights.
    // Out of line, so that all others pay one branch for it.
    #[inline(never)]
    pub(super) fn batch_by_rights(
        &self,
        session: &mut Session,
        input: &[u8],
        owed: &mut Owed,
        owed_max: usize,
        now: Tick,
    ) -> Batch {
        let mut keys = PrefixedKeys::new();
        self.batch(session, input, ByRights::new(&mut keys), owed, owed_max, now)
    }

    /// Decodes and executes at most [`BATCH_REQUESTS_MAX`] steps, each once it is admitted.
    #[inline(always)]
    pub(super) fn batch<'a, A: Admission<'a>>(
        &self,
        session: &mut Session,
        input: &'a [u8],
        mut admission: A,
        owed: &mut Owed,
        owed_max: usize,
        now: Tick,
    ) -> Batch {
        let start = *session.decoder();
        let mut work = ArrayVec::new();
        let mut end = None;
        let consumed = if session.decoder().is_at_packet() {
            self.decode_packets(session, input, &mut admission, &mut work, &mut end)
        } else {
            self.decode::<false, A>(session, input, &mut admission, &mut work, &mut end)
        };
        self.hint(&mut work);
        let sampled = session.counters().sampler.choose(work.len());
        let mut then = None;
        for (index, (step, hashed)) in work.iter().enumerate() {
            match step {
                // One branch, and asked anew for each request: the one before may have switched it.
                Work::Run(request) if self.prefixes().is_on() | (index == sampled) => {
                    let is_sampled = index == sampled;
                    then = self.execute_observed(session, request, hashed, is_sampled, owed, now);
                }
                Work::Run(request) => {
                    self.execute(session, request, hashed, owed, now, &mut then);
                }
                Work::Say(words) => owed.say(words),
            }
            let is_last = || index + 1 == work.len() && !matches!(end, Some(End::Refused(..)));
            // What ends a turn ends it right behind the request it comes from, or before one that is to be retried.
            if then.is_some() || owed.remaining() >= owed_max && !is_last() {
                let done = index + usize::from(then != Some(Then::Retry));
                let consumed = again_up_to(start, done, session, input);
                return Batch { consumed, requests: index + 1, then: then.or(Some(Then::Again)) };
            }
        }
        let requests = work.len() + usize::from(matches!(end, Some(End::Refused(..))));
        let then = end.and_then(|end| self.end(session, end, &mut admission, owed, now));
        Batch { consumed, requests, then }
    }

    /// Decodes and admits steps into `work`; says how many bytes of input that took, and in `end` what
    /// ended it.
    #[inline(always)]
    fn decode<'a, const ARE_PACKETS: bool, A: Admission<'a>>(
        &self,
        session: &mut Session,
        input: &'a [u8],
        admission: &mut A,
        work: &mut Steps<'a>,
        end: &mut Option<End<'a>>, // returned, it would be copied
    ) -> usize {
        let mut consumed = 0;
        loop {
            if work.is_full() || !admission.takes_more() {
                return consumed;
            }
            // Apart from the other steps: made a `Step` first, most of what a cache is asked would be copied once more.
            let rest = &input[consumed..];
            let plain = if ARE_PACKETS {
                session.decoder().plain_packet(rest)
            } else {
                session.decoder().plain_fetch(rest)
            };
            if let Some((fetch, used)) = plain {
                consumed += used;
                match admission.admit(session, Request::Fetch(fetch)) {
                    Ok(admitted) => {
                        work.push((Work::Run(admitted), self.store().hash(keyvalue::key(&admitted))));
                        continue;
                    }
                    Err(refusal) => {
                        *end = Some(End::Refused(Request::Fetch(fetch), refusal));
                        return consumed;
                    }
                }
            }
            let (step, used) = session.decoder().step(&input[consumed..]);
            consumed += used;
            match step {
                Step::Request(request) => match admission.admit(session, request) {
                    Ok(admitted) => {
                        work.push((Work::Run(admitted), self.store().hash(keyvalue::key(&admitted))));
                    }
                    Err(refusal) => {
                        *end = Some(End::Refused(request, refusal));
                        return consumed;
                    }
                },
                Step::Say(words) => work.push((Work::Say(words), self.store().hash(b""))),
                Step::Announced { .. } | Step::Incomplete { .. } | Step::Hopeless => {
                    *end = Some(End::Step(step));
                    return consumed;
                }
            }
        }
    }

    /// [`Engine::decode`] of packets: out of line, so that text pays one branch a batch for them.
    #[inline(never)]
    fn decode_packets<'a, A: Admission<'a>>(
        &self,
        session: &mut Session,
        input: &'a [u8],
        admission: &mut A,
        work: &mut Steps<'a>,
        end: &mut Option<End<'a>>,
    ) -> usize {
        self.decode::<true, A>(session, input, admission, work, end)
    }

    /// Does what is to be done about `end`; says what comes then, if the turn is over.
    #[inline(always)] // or a turn of a single get would pay for moving `end`
    fn end<'a, A: Admission<'a>>(
        &self,
        session: &mut Session,
        end: End<'a>,
        admission: &mut A,
        owed: &mut Owed,
        now: Tick,
    ) -> Option<Then> {
        match end {
            End::Refused(request, refusal) => {
                refuse(session, &request, refusal, owed);
                None
            }
            End::Step(Step::Announced { put, bytes }) => {
                Some(match admission.admit(session, Request::Put(put)) {
                    Ok(Request::Put(admitted)) => self.announced(session, &admitted, bytes, owed, now),
                    Ok(_) => unreachable!("what is admitted is of the same kind"),
                    Err(refusal) => {
                        refuse(session, &Request::Put(put), refusal, owed);
                        session.decoder().swallow(bytes);
                        Then::Again
                    }
                })
            }
            End::Step(step) => Some(session.wait_or_close(step)),
        }
    }

    /// Tells the store that the keys of `work` are about to be asked for.
    #[inline(always)]
    fn hint(&self, work: &mut Steps<'_>) {
        // Loops of their own, short enough for the processor to have several page walks under way: among the
        // instructions of decoding, each hint would wait for its own.
        if work.len() > 1 {
            work.iter_mut().for_each(|(_, key)| self.store().hint_index(key));
            let mut late = ArrayVec::<u8, BATCH_REQUESTS_MAX>::new();
            for (number, (_, key)) in work.iter_mut().enumerate() {
                if self.store().hint_item(key) {
                    late.push(number as u8);
                }
            }
            // One more look will do: where chains are longer there are few of them.
            for &number in &late {
                let _ = self.store().hint_item(&mut work[usize::from(number)].1);
            }
        }
    }

    /// A value that has not arrived in full: worth waiting for, or to be refused now and thrown away as it comes.
    fn announced(
        &self,
        session: &mut Session,
        put: &Put<'_>,
        bytes: usize,
        owed: &mut Owed,
        now: Tick,
    ) -> Then {
        if self.refuses(session, put, owed, now) {
            self.observe_refused(session, put);
            session.decoder().swallow(bytes);
            return Then::Again;
        }
        session.wait_for_value(put.mode, bytes)
    }

    /// Executes one request, and says in `then` what comes then, if the turn is over. Returns whether it was a retrieval
    /// that has found its item.
    // Always inlined, for the cold caller's sake not to be the hot one's loss: a call here costs 2 of a get's 61 ns.
    // `then` is no part of what is returned, or each request would pay for moving it.
    #[inline(always)]
    pub(in crate::engine) fn execute(
        &self,
        session: &mut Session,
        request: &Request<'_>,
        hashed: &Hashed<'_>,
        owed: &mut Owed,
        now: Tick,
        then: &mut Option<Then>,
    ) -> bool {
        match request {
            Request::Fetch(fetch) => {
                let is_hit = self.fetch(session, fetch, hashed, owed, now);
                if fetch.is_last {
                    fetch.style.say_end(owed);
                }
                return is_hit;
            }
            Request::Put(put) => {
                if self.put(session, put, hashed, owed, now).is_err() {
                    *then = Some(session.retry(now));
                }
            }
            Request::Count(count) => self.count(session, count, hashed, owed, now),
            Request::Touch(touch) => self.touch(session, touch, hashed, owed, now),
            Request::Delete(delete) => self.delete(session, delete, hashed, owed, now),
            Request::Admin { line } => *then = self.administer(session, line, owed, now),
            Request::Control { packet, control } => {
                *then = self.control(session, *packet, *control, owed, now);
            }
        }
        false
    }
}

/// Tells the client why `request` has no effect. The rest of a retrieval line has none either.
fn refuse(session: &mut Session, request: &Request<'_>, refusal: Refusal, owed: &mut Owed) {
    if !request.is_silent() {
        request.style().say_refusal(refusal, owed);
    }
    session.decoder().refuse_keys();
}

/// Rare: a batch ends after `steps` of its steps, though more were decoded. Decodes once more up to there, from `start`,
/// to stand where the client's next turn begins; says how many bytes that uses up.
#[cold]
fn again_up_to(start: Decoder, steps: usize, session: &mut Session, input: &[u8]) -> usize {
    *session.decoder() = start;
    (0..steps).fold(0, |at, _| at + session.decoder().step(&input[at..]).1)
}
