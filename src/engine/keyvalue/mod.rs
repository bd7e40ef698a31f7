//! The key-value commands. A pure function decides what becomes of the item there is; a method of the engine has the
//! store carry it out, counts it and formats the reply. All dialects share the decisions: a classic or binary command
//! is a meta command with few flags, and a style of its own.

mod count;
mod delete;
mod fetch;
mod put;

use super::{Engine, Session};
use crate::clock::{Deadline, Tick};
use crate::protocol::{
    Count, Delete, Fetch, Flags, KeyBuffer, Outcome, Owed, Put, Request, Shown, Style, Touch,
};
use crate::store::{Cas, Change, Content, Draft, Hashed, Item, Marks, Store};

/// The key that `request` is about, as it came; empty if it is about none.
#[inline]
pub(super) fn key<'a>(request: &Request<'a>) -> &'a [u8] {
    match request {
        Request::Fetch(fetch) => fetch.key,
        Request::Put(put) => put.key,
        Request::Count(count) => count.key,
        Request::Touch(touch) => touch.key,
        Request::Delete(delete) => delete.key,
        Request::Admin { .. } | Request::Control { .. } => b"",
    }
}

/// `request` with `key` in place of its own; that of a base64 key is marked as decoded.
pub(super) fn with_key<'a>(request: &Request<'a>, key: &'a [u8]) -> Request<'a> {
    match *request {
        Request::Fetch(fetch) => {
            Request::Fetch(Fetch { key, style: fetch.style.with_decoded_key(), ..fetch })
        }
        Request::Put(put) => Request::Put(Put { key, style: put.style.with_decoded_key(), ..put }),
        Request::Count(count) => {
            Request::Count(Count { key, style: count.style.with_decoded_key(), ..count })
        }
        Request::Touch(touch) => Request::Touch(Touch { key, ..touch }),
        Request::Delete(delete) => {
            Request::Delete(Delete { key, style: delete.style.with_decoded_key(), ..delete })
        }
        Request::Admin { .. } | Request::Control { .. } => *request,
    }
}

/// The key that `request` is about as the store knows it, decoded into `buffer` if it came in base64.
pub(super) fn stored_key<'k>(request: &Request<'k>, buffer: &'k mut KeyBuffer) -> &'k [u8] {
    request.style().flags().plain_key(key(request), buffer)
}

/// The key to look up, decoded into `buffer` if it came in base64. `hashed` is the key as it came, so a decoded one is
/// hashed again, without hints: few are.
#[inline]
fn plain<'k>(store: &Store, flags: Flags<'_>, hashed: &Hashed<'k>, buffer: &'k mut KeyBuffer) -> Hashed<'k> {
    if !flags.has_encoded_key() {
        return *hashed;
    }
    store.hash(flags.plain_key(hashed.key(), buffer))
}

/// The CAS id that `E` asks for, or else the next one.
fn exact(flags: Flags<'_>) -> Cas {
    flags.number(b'E').map_or(Cas::Next, Cas::Exact)
}

/// The same item with a new deadline.
fn touched(item: &Item<'_>, deadline: Deadline) -> Change<'static> {
    Change::Put(Draft {
        content: Content::Same,
        flags: item.flags,
        deadline,
        cas: Cas::Same,
        marks: item.marks.with(Marks::FETCHED),
    })
}

impl Engine {
    pub(super) fn touch(
        &self,
        session: &Session,
        touch: &Touch<'_>,
        hashed: &Hashed<'_>,
        owed: &mut Owed,
        now: Tick,
    ) {
        let deadline = self.epoch().deadline(touch.exptime.number(), now);
        let mut seen = None;
        let (outcome, stored) = self.store().update(*hashed, now, |found| {
            seen = session.watching().see(&found);
            match found.item() {
                Some(item) => (touched(&item, deadline), Outcome::Touched),
                None => (Change::Keep, Outcome::NotFound),
            }
        });
        session.counters().cmd_touch.add(1);
        match outcome {
            Outcome::Touched => session.counters().touch_hits.add(1),
            _ => session.counters().touch_misses.add(1),
        }
        let outcome = if stored.is_ok() { outcome } else { Outcome::OutOfMemory };
        Style::Classic.say_outcome(touch.quiet, outcome, |_| Shown::default(), owed);
        if let Some(seen) = seen {
            self.log_lookup(session, touch.key, seen, now);
        }
    }
}
