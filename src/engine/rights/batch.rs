//! What a session that may not do everything does in a turn.
//!
//! Rule: a request is admitted before it is executed. An admitted one has the key under which the store knows it, and
//! every reply shows keys without the prefix; one that is not admitted has no effect but its refusal.

use bytes::Buf;

use super::super::{BATCH_REQUESTS_MAX, Engine, Session, Then, keyvalue};
use super::PREFIX_BYTES_MAX;
use crate::clock::Tick;
use crate::protocol::{KEY_BYTES_MAX, KeyBuffer, Letters, Owed, Put, Request, Step, Style, reply};

/// The flags of `mg` that change the item, or tell the client that it is the one to change it.
const CHANGING: Letters = Letters::of(b"NRT");

/// A prefix leaves room for a key.
const _: () = assert!(PREFIX_BYTES_MAX + 1 < KEY_BYTES_MAX);

impl Engine {
    /// [`Engine::batch`] for a session with rights: one request after the other, and nothing fetched ahead.
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
        let mut key = KeyBuffer::new();
        key.extend(session.prefix().iter().copied());
        let prefix_bytes = key.len();
        let mut consumed = 0;
        for _ in 0..BATCH_REQUESTS_MAX {
            let plain = session.decoder.plain_fetch(&input[consumed..]);
            let (step, used) = match plain {
                Some((fetch, used)) => (Step::Request(Request::Fetch(fetch)), used),
                None => session.decoder.step(&input[consumed..]),
            };
            consumed += used;
            key.truncate(prefix_bytes);
            let then = match step {
                Step::Request(request) => self.execute_by_rights(session, &request, &mut key, owed, now),
                Step::Say(words) => {
                    owed.say(words);
                    None
                }
                Step::Announced { put, line_bytes } => {
                    let then = self.announced_by_rights(session, put, line_bytes, &mut key, owed, now);
                    return (consumed, Some(then));
                }
                Step::Incomplete { .. } | Step::Hopeless => {
                    return (consumed, Some(session.wait_or_close(step)));
                }
            };
            *requests += 1;
            if then.is_some() || owed.remaining() >= owed_max {
                return (consumed, then);
            }
        }
        (consumed, None)
    }

    fn execute_by_rights(
        &self,
        session: &mut Session,
        request: &Request<'_>,
        key: &mut KeyBuffer,
        owed: &mut Owed,
        now: Tick,
    ) -> Option<Then> {
        let admitted = match admit(session, request, key) {
            Ok(admitted) => admitted,
            Err(words) => {
                refuse(session, request, words, owed);
                return None;
            }
        };
        let is_sampled = session.counters.sampler.choose(1) == 0;
        if self.prefixes.is_on() | is_sampled {
            return self.observed(session, &admitted, is_sampled, now, |session| {
                self.execute_admitted(session, request, &admitted, owed, now)
            });
        }
        self.execute_admitted(session, request, &admitted, owed, now)
    }

    fn execute_admitted(
        &self,
        session: &mut Session,
        request: &Request<'_>,
        admitted: &Request<'_>,
        owed: &mut Owed,
        now: Tick,
    ) -> Option<Then> {
        let key = keyvalue::key(admitted);
        let hashed = self.store.hash(key);
        match request {
            // The only reply of the classic style that shows a key.
            Request::Fetch(fetch) if fetch.style == Style::Classic => {
                self.fetch_as(session, fetch, (key, hashed), owed, now);
                if fetch.is_last {
                    owed.say(reply::END);
                }
                None
            }
            _ => self.execute(session, admitted, hashed, owed, now),
        }
    }

    /// [`Engine::announced`] for a session with rights: what it may not store is not waited for.
    fn announced_by_rights(
        &self,
        session: &mut Session,
        put: Put<'_>,
        line_bytes: usize,
        key: &mut KeyBuffer,
        owed: &mut Owed,
        now: Tick,
    ) -> Then {
        let request = Request::Put(put);
        match admit(session, &request, key) {
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

/// `request` with the key under which the store knows it, which is put behind the prefix in `key`; or what the client
/// is told instead. Administrative commands are left to their table.
fn admit<'a>(
    session: &Session,
    request: &Request<'a>,
    key: &'a mut KeyBuffer,
) -> Result<Request<'a>, &'static [u8]> {
    if let Request::Admin { .. } = request {
        return Ok(*request);
    }
    if !session.may_write() && changes(request) {
        return Err(reply::NOT_BY_READER);
    }
    let decoded = &mut KeyBuffer::new();
    let plain = keyvalue::stored_key(request, decoded);
    key.try_extend_from_slice(plain).map_err(|_| reply::BAD_LINE)?;
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
