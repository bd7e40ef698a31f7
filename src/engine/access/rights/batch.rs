//! What a session that may not do everything does in a turn.
//!
//! Rule: a request is admitted before it is executed. An admitted one has the key under which the store knows it, and
//! every reply shows keys without the prefix; one that is not admitted has no effect but its refusal.

use arrayvec::ArrayVec;
use bytes::Buf;

use crate::clock::Tick;
use crate::engine::turn::{BATCH_REQUESTS_MAX, Work, again_up_to};
use crate::engine::{Engine, Session, Then, keyvalue};
use crate::protocol::{Fetch, KEY_BYTES_MAX, KeyBuffer, Letters, Owed, Put, Request, Step, Style, reply};
use crate::store::Hashed;

/// The flags of `mg` that change the item, or tell the client that it is the one to change it.
const CHANGING: Letters = Letters::of(b"NRT");

/// How many bytes the keys of a batch take together with their prefixes; it ends when the longest may not fit any
/// more. Enough for a full batch of keys of 30 bytes, few enough to cost a single get little.
const KEYS_BYTES_MAX: usize = 2048;

/// What ends a batch.
enum End<'a> {
    /// A step that is no whole request.
    Step(Step<'a>),
    /// A request that is answered so instead of having an effect.
    Refused(Request<'a>, &'static [u8]),
}

impl Engine {
    /// [`Engine::batch`] for a session with rights. A request that is refused ends it.
    // Out of line, so that all others pay one branch for it.
    #[inline(never)]
    pub(in crate::engine) fn batch_by_rights(
        &self,
        session: &mut Session,
        input: &[u8],
        owed: &mut Owed,
        owed_max: usize,
        now: Tick,
        requests: &mut usize,
    ) -> (usize, Option<Then>) {
        let start = session.decoder;
        let mut room = [0; KEYS_BYTES_MAX];
        let mut room = &mut room[..];
        let mut work = ArrayVec::<Work<'_>, BATCH_REQUESTS_MAX>::new();
        let mut keys = ArrayVec::<Hashed, BATCH_REQUESTS_MAX>::new();
        let mut consumed = 0;
        let end = loop {
            if work.is_full() || room.len() < KEY_BYTES_MAX {
                break None;
            }
            let (step, used) = match session.decoder.plain_fetch(&input[consumed..]) {
                Some((fetch, used)) => (Step::Request(Request::Fetch(fetch)), used),
                None => session.decoder.step(&input[consumed..]),
            };
            consumed += used;
            match step {
                Step::Request(request) => match admit(session, &request, &mut room) {
                    Ok(admitted) => {
                        work.push(Work::Run(admitted));
                        keys.push(self.store.hash(keyvalue::key(&admitted)));
                    }
                    Err(words) => break Some(End::Refused(request, words)),
                },
                Step::Say(words) => {
                    work.push(Work::Say(words));
                    keys.push(self.store.hash(b""));
                }
                Step::Announced { .. } | Step::Incomplete { .. } | Step::Hopeless => {
                    break Some(End::Step(step));
                }
            }
        };
        self.hint(&mut keys);
        let sampled = session.counters.sampler.choose(work.len());
        for (index, (step, &hashed)) in work.iter().zip(&keys).enumerate() {
            let then = match step {
                Work::Run(request) => {
                    self.execute_by_rights(session, request, hashed, index == sampled, owed, now)
                }
                Work::Say(words) => {
                    owed.say(words);
                    None
                }
            };
            *requests += 1;
            let is_last = index + 1 == work.len() && end.is_none();
            if then.is_some() || owed.remaining() >= owed_max && !is_last {
                let done = index + usize::from(then != Some(Then::Room));
                return (again_up_to(start, done, session, input), then.or(Some(Then::Again)));
            }
        }
        let then = match end {
            None => None,
            Some(End::Refused(request, words)) => {
                *requests += 1;
                refuse(session, &request, words, owed);
                None
            }
            Some(End::Step(Step::Announced { put, line_bytes })) => {
                Some(self.announced_by_rights(session, put, line_bytes, &mut room, owed, now))
            }
            Some(End::Step(step)) => Some(session.wait_or_close(step)),
        };
        (consumed, then)
    }

    fn execute_by_rights(
        &self,
        session: &mut Session,
        request: &Request<'_>,
        hashed: Hashed,
        is_sampled: bool,
        owed: &mut Owed,
        now: Tick,
    ) -> Option<Then> {
        let mut execute = |session: &mut Session| {
            // The only reply of the classic style that shows a key.
            if let Request::Fetch(fetch @ Fetch { style: Style::Classic, .. }) = request {
                let shown = Fetch { key: session.shown_key(fetch.key), ..*fetch };
                self.fetch_as(session, &shown, (fetch.key, hashed), owed, now);
                if fetch.is_last {
                    owed.say(reply::END);
                }
                return None;
            }
            self.execute(session, request, hashed, owed, now)
        };
        if self.prefixes.is_on() | is_sampled {
            return self.observed(session, request, is_sampled, now, execute);
        }
        execute(session)
    }

    /// [`Engine::announced`] for a session with rights: what it may not store is not waited for.
    fn announced_by_rights<'a>(
        &self,
        session: &mut Session,
        put: Put<'a>,
        line_bytes: usize,
        room: &mut &'a mut [u8],
        owed: &mut Owed,
        now: Tick,
    ) -> Then {
        let request = Request::Put(put);
        match admit(session, &request, room) {
            Ok(Request::Put(put)) => self.announced(session, &put, line_bytes, owed, now),
            Ok(_) => unreachable!("what is admitted is of the same kind"),
            Err(words) => {
                refuse(session, &request, words, owed);
                session.decoder.swallow(line_bytes, put.value_bytes.into());
                Then::Again
            }
        }
    }
}

/// `request` with the key under which the store knows it, for which the head of `room` is taken; or what the client
/// is told instead. Administrative commands are left to their table.
fn admit<'a>(
    session: &Session,
    request: &Request<'a>,
    room: &mut &'a mut [u8],
) -> Result<Request<'a>, &'static [u8]> {
    if let Request::Admin { .. } = request {
        return Ok(*request);
    }
    if !session.may_write() && changes(request) {
        return Err(reply::NOT_BY_READER);
    }
    let prefix = session.prefix();
    if prefix.is_empty() {
        return Ok(*request);
    }
    let decoded = &mut KeyBuffer::new();
    let name = keyvalue::stored_key(request, decoded);
    if prefix.len() + name.len() > KEY_BYTES_MAX {
        return Err(reply::BAD_LINE);
    }
    let (key, rest) = std::mem::take(room).split_at_mut(prefix.len() + name.len());
    *room = rest;
    let (head, tail) = key.split_at_mut(prefix.len());
    head.copy_from_slice(prefix);
    tail.copy_from_slice(name);
    Ok(keyvalue::with_key(request, key))
}

/// Whether `request` is to change an item.
fn changes(request: &Request<'_>) -> bool {
    match request {
        Request::Fetch(fetch) => fetch.exptime.is_some() || fetch.style.flags().has_any(CHANGING),
        Request::Put(_) | Request::Count(_) | Request::Touch(_) | Request::Delete(_) => true,
        Request::Admin { .. } => false,
    }
}

/// Tells the client why `request` has no effect. The rest of a retrieval line has none either.
fn refuse(session: &mut Session, request: &Request<'_>, words: &'static [u8], owed: &mut Owed) {
    if !request.is_silent() {
        owed.say(words);
    }
    session.decoder.refuse_keys();
}
