//! What the key-value commands mean: pure decisions about the item there is, and the methods that carry them
//! to the store, count them and word them.

use arrayvec::ArrayVec;

use super::events::Seen;
use super::{Engine, Session};
use crate::clock::{Deadline, Tick};
use crate::protocol::{Count, Delete, Fetch, ItemReply, Outcome, Owed, Put, PutMode, Request, Touch};
use crate::store::{Access, Cas, Change, Content, Draft, Hashed, Item, Lookup, Marks};

/// What memcached's item header, the NUL behind a key and the CRLF behind a value take, in bytes. `-I` is
/// compared with the same sum, so that the same values fit. Source: memcached 1.6 (`item_make_header`).
const ITEM_HEADER_BYTES: u64 = 48 + 1 + 2;
/// What memcached adds for client flags other than 0, in bytes.
const ITEM_FLAGS_BYTES: u64 = 4;
/// What memcached adds for the CAS id, in bytes.
const ITEM_CAS_BYTES: u64 = 8;

/// The most digits a counter has.
const NUMBER_BYTES_MAX: usize = 20;

/// The key that `request` is about; empty if it is about none.
#[inline]
pub(super) fn key<'a>(request: &Request<'a>) -> &'a [u8] {
    match request {
        Request::Fetch(fetch) => fetch.key,
        Request::Put(put) => put.key,
        Request::Count(count) => count.key,
        Request::Touch(touch) => touch.key,
        Request::Delete(delete) => delete.key,
        Request::Admin { .. } => b"",
    }
}

/// What `put` makes of what was found.
fn decide_put<'c>(
    put: &Put<'c>,
    value: &'c [u8],
    deadline: Deadline,
    fits: impl Fn(&Item<'_>) -> bool,
    found: Lookup<'_>,
) -> (Change<'c>, Outcome) {
    let whole = Change::Put(Draft {
        content: Content::Whole(value),
        flags: put.flags,
        deadline,
        cas: Cas::Next,
        marks: Marks::default(),
    });
    match (put.mode, found.item()) {
        (PutMode::Set, _) | (PutMode::Add, None) | (PutMode::Replace, Some(_)) => (whole, Outcome::Stored),
        (PutMode::Compare(cas), Some(item)) if item.cas == cas => (whole, Outcome::Stored),
        (PutMode::Compare(_), Some(_)) => (Change::Keep, Outcome::Exists),
        (PutMode::Compare(_), None) => (Change::Keep, Outcome::NotFound),
        (PutMode::Append | PutMode::Prepend, Some(item)) if fits(&item) => {
            let content =
                if put.mode == PutMode::Append { Content::Append(value) } else { Content::Prepend(value) };
            let Item { flags, deadline, marks, .. } = item;
            (Change::Put(Draft { content, flags, deadline, cas: Cas::Next, marks }), Outcome::Stored)
        }
        (PutMode::Add | PutMode::Append | PutMode::Prepend, Some(_))
        | (PutMode::Replace | PutMode::Append | PutMode::Prepend, None) => (Change::Keep, Outcome::NotStored),
    }
}

/// What `count` makes of what was found; the new number's text goes into `text`.
fn decide_count<'c>(
    count: &Count<'_>,
    text: &'c mut ArrayVec<u8, NUMBER_BYTES_MAX>,
    found: Lookup<'_>,
) -> (Change<'c>, Outcome) {
    let Some(item) = found.item() else { return (Change::Keep, Outcome::NotFound) };
    let Some(number) = stored_number(item.value) else { return (Change::Keep, Outcome::NotANumber) };
    let number =
        if count.down { number.saturating_sub(count.delta) } else { number.wrapping_add(count.delta) };
    text.extend(itoa::Buffer::new().format(number).bytes());
    // As memcached does: a number that got shorter is padded, so that it can be overwritten where it stands.
    while text.len() < item.value.len().min(NUMBER_BYTES_MAX) {
        text.push(b' ');
    }
    let draft = Draft {
        content: Content::Whole(text),
        flags: item.flags,
        deadline: item.deadline,
        cas: Cas::Next,
        marks: item.marks,
    };
    (Change::Put(draft), Outcome::Number(number))
}

/// The number that a value begins with, if it is one: strtoull's reading, which is memcached's. White space may
/// go before it and anything may follow behind white space; decr's padding is such.
fn stored_number(value: &[u8]) -> Option<u64> {
    let text = value.trim_ascii_start();
    let text = text.strip_prefix(b"+").unwrap_or(text);
    let digits = text.iter().position(u8::is_ascii_whitespace).unwrap_or(text.len());
    crate::protocol::unsigned(&text[..digits])
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
    #[inline]
    pub(super) fn fetch(
        &self,
        session: &Session,
        fetch: &Fetch<'_>,
        hashed: Hashed,
        owed: &mut Owed,
        now: Tick,
    ) {
        if let Some(exptime) = fetch.exptime {
            return self.fetch_and_touch(session, fetch, exptime, hashed, owed, now);
        }
        if session.is_watched() {
            return self.fetch_watched(session, fetch, hashed, owed, now);
        }
        self.read(session, fetch, hashed, owed, now, |_| ());
    }

    #[cold]
    fn fetch_watched(
        &self,
        session: &Session,
        fetch: &Fetch<'_>,
        hashed: Hashed,
        owed: &mut Owed,
        now: Tick,
    ) {
        let seen = self.read(session, fetch, hashed, owed, now, Seen::of);
        self.log_lookup(session, fetch.key, seen, now);
    }

    /// Reads and words what is asked for, and has `see` look at it. A parameter, so that a get which nobody watches
    /// does not pay for what is seen of it.
    #[inline]
    fn read<R>(
        &self,
        session: &Session,
        fetch: &Fetch<'_>,
        hashed: Hashed,
        owed: &mut Owed,
        now: Tick,
        see: impl FnOnce(&Lookup<'_>) -> R,
    ) -> R {
        let counters = &session.counters;
        counters.cmd_get.add(1);
        self.store.read(hashed, fetch.key, now, Access::Use, |found| {
            match &found {
                Lookup::Hit(item) => {
                    counters.get_hits.add(1);
                    owed.say_item(self.item_reply(fetch, item));
                }
                Lookup::Miss => counters.get_misses.add(1),
                Lookup::Expired => {
                    counters.get_misses.add(1);
                    counters.get_expired.add(1);
                }
            }
            see(&found)
        })
    }

    fn fetch_and_touch(
        &self,
        session: &Session,
        fetch: &Fetch<'_>,
        exptime: i64,
        hashed: Hashed,
        owed: &mut Owed,
        now: Tick,
    ) {
        let deadline = self.epoch.deadline(exptime, now);
        let mut seen = None;
        let (hit, _) = self.store.update(hashed, fetch.key, now, |found| {
            seen = session.see(&found);
            match found.item() {
                Some(item) => {
                    owed.say_item(self.item_reply(fetch, &item));
                    (touched(&item, deadline), true)
                }
                None => (Change::Keep, false),
            }
        });
        session.counters.cmd_touch.add(1);
        if hit {
            session.counters.touch_hits.add(1)
        } else {
            session.counters.touch_misses.add(1)
        }
        if let Some(seen) = seen {
            self.log_lookup(session, fetch.key, seen, now);
        }
    }

    #[inline]
    fn item_reply<'r>(&self, fetch: &Fetch<'r>, item: &Item<'r>) -> ItemReply<'r> {
        let cas = fetch.with_cas.then_some(if self.settings.cas_enabled { item.cas } else { 0 });
        ItemReply { key: fetch.key, flags: item.flags, cas, value: item.value, shared: item.shared }
    }

    pub(super) fn put(&self, session: &Session, put: &Put<'_>, hashed: Hashed, owed: &mut Owed, now: Tick) {
        if session.is_watched() {
            return self.put_watched(session, put, hashed, owed, now);
        }
        self.write(session, put, hashed, owed, now, |_| ());
    }

    #[cold]
    fn put_watched(&self, session: &Session, put: &Put<'_>, hashed: Hashed, owed: &mut Owed, now: Tick) {
        let written = self.write(session, put, hashed, owed, now, Seen::of);
        let (Some((outcome, seen)), Some(value)) = (written, put.value) else { return };
        self.log_lookup(session, put.key, seen, now);
        let item = match put.mode {
            PutMode::Append | PutMode::Prepend if outcome == Outcome::Stored => seen.joined(value.len()),
            _ => Seen::new(value.len(), self.epoch.deadline(put.exptime, now)),
        };
        self.log_store(session, put, outcome, item, now);
    }

    /// Stores what is to be stored and says how that ended, and has `see` look at what was there, as in
    /// [`Engine::read`]. `None` when it did not come so far.
    fn write<R>(
        &self,
        session: &Session,
        put: &Put<'_>,
        hashed: Hashed,
        owed: &mut Owed,
        now: Tick,
        see: impl FnOnce(&Lookup<'_>) -> R,
    ) -> Option<(Outcome, R)> {
        if self.is_too_large(put.key.len(), put.flags, put.value_bytes) {
            self.refuse_too_large(session, put, hashed, owed, now);
            return None;
        }
        let counters = &session.counters;
        counters.cmd_set.add(1);
        let Some(value) = put.value else {
            say(put.quiet, Outcome::BadDataChunk, owed);
            return None;
        };
        let mode = match put.mode {
            // Without CAS ids none can match.
            PutMode::Compare(_) if !self.settings.cas_enabled => PutMode::Compare(0),
            mode => mode,
        };
        let put = &Put { mode, ..*put };
        let deadline = self.epoch.deadline(put.exptime, now);
        let fits = |item: &Item<'_>| {
            !self.is_too_large(put.key.len(), item.flags, (item.value.len() + value.len()) as u64)
        };
        let ((outcome, seen), stored) = self.store.update(hashed, put.key, now, |found| {
            let seen = see(&found);
            let (change, outcome) = decide_put(put, value, deadline, fits, found);
            (change, (outcome, seen))
        });
        let outcome = match (stored, put.mode) {
            (Ok(_), _) => outcome,
            (Err(_), PutMode::Append | PutMode::Prepend) => Outcome::NotStored,
            (Err(_), mode) => {
                counters.store_no_memory.add(1);
                if mode == PutMode::Set {
                    self.drop_stale(put.key, hashed, now);
                }
                Outcome::OutOfMemoryStoring
            }
        };
        if let PutMode::Compare(_) = put.mode {
            match outcome {
                Outcome::Stored => counters.cas_hits.add(1),
                Outcome::Exists => counters.cas_badval.add(1),
                Outcome::NotFound => counters.cas_misses.add(1),
                _ => {}
            }
        }
        say(put.quiet, outcome, owed);
        Some((outcome, seen))
    }

    /// Whether such an item exceeds `-I`.
    #[inline]
    pub(super) fn is_too_large(&self, key_bytes: usize, flags: u32, value_bytes: u64) -> bool {
        let flags_bytes = if flags == 0 { 0 } else { ITEM_FLAGS_BYTES };
        let cas_bytes = if self.settings.cas_enabled { ITEM_CAS_BYTES } else { 0 };
        let item_bytes = ITEM_HEADER_BYTES + key_bytes as u64 + flags_bytes + value_bytes + cas_bytes;
        item_bytes > self.settings.item_bytes_max
    }

    pub(super) fn refuse_too_large(
        &self,
        session: &Session,
        put: &Put<'_>,
        hashed: Hashed,
        owed: &mut Owed,
        now: Tick,
    ) {
        session.counters.store_too_large.add(1);
        if put.mode == PutMode::Set {
            self.drop_stale(put.key, hashed, now);
        }
        say(put.quiet, Outcome::TooLarge, owed);
        if session.is_watched() {
            let value_bytes = usize::try_from(put.value_bytes).unwrap_or(usize::MAX);
            let item = Seen::new(value_bytes, self.epoch.deadline(put.exptime, now));
            self.log_store(session, put, Outcome::TooLarge, item, now);
        }
    }

    /// After a refused `set` the value it was to replace must not be served any more.
    fn drop_stale(&self, key: &[u8], hashed: Hashed, now: Tick) {
        // Removing needs no room, so it cannot be refused.
        let _ = self.store.update(hashed, key, now, |_| (Change::Remove, ()));
    }

    pub(super) fn count(
        &self,
        session: &Session,
        count: &Count<'_>,
        hashed: Hashed,
        owed: &mut Owed,
        now: Tick,
    ) {
        let text = &mut ArrayVec::new();
        let mut seen = None;
        let (outcome, stored) = self.store.update(hashed, count.key, now, |found| {
            seen = session.see(&found);
            decide_count(count, text, found)
        });
        let counters = &session.counters;
        let (hits, misses) = if count.down {
            (&counters.decr_hits, &counters.decr_misses)
        } else {
            (&counters.incr_hits, &counters.incr_misses)
        };
        match outcome {
            Outcome::Number(_) => hits.add(1),
            Outcome::NotFound => misses.add(1),
            _ => {}
        }
        say(count.quiet, if stored.is_ok() { outcome } else { Outcome::OutOfMemory }, owed);
        if let Some(seen) = seen {
            self.log_lookup(session, count.key, seen, now);
        }
    }

    pub(super) fn touch(
        &self,
        session: &Session,
        touch: &Touch<'_>,
        hashed: Hashed,
        owed: &mut Owed,
        now: Tick,
    ) {
        let deadline = self.epoch.deadline(touch.exptime, now);
        let mut seen = None;
        let (outcome, stored) = self.store.update(hashed, touch.key, now, |found| {
            seen = session.see(&found);
            match found.item() {
                Some(item) => (touched(&item, deadline), Outcome::Touched),
                None => (Change::Keep, Outcome::NotFound),
            }
        });
        session.counters.cmd_touch.add(1);
        match outcome {
            Outcome::Touched => session.counters.touch_hits.add(1),
            _ => session.counters.touch_misses.add(1),
        }
        say(touch.quiet, if stored.is_ok() { outcome } else { Outcome::OutOfMemory }, owed);
        if let Some(seen) = seen {
            self.log_lookup(session, touch.key, seen, now);
        }
    }

    pub(super) fn delete(
        &self,
        session: &Session,
        delete: &Delete<'_>,
        hashed: Hashed,
        owed: &mut Owed,
        now: Tick,
    ) {
        let mut seen = None;
        let (outcome, _) = self.store.update(hashed, delete.key, now, |found| {
            seen = session.see(&found);
            match found {
                Lookup::Hit(_) => (Change::Remove, Outcome::Deleted),
                Lookup::Miss | Lookup::Expired => (Change::Keep, Outcome::NotFound),
            }
        });
        match outcome {
            Outcome::Deleted => session.counters.delete_hits.add(1),
            _ => session.counters.delete_misses.add(1),
        }
        say(delete.quiet, outcome, owed);
        if let Some(seen) = seen {
            self.log_lookup(session, delete.key, seen, now);
            if outcome == Outcome::Deleted {
                self.log_deletion(session, delete.key, "delete", seen, now);
            }
        }
    }
}

#[inline]
fn say(quiet: bool, outcome: Outcome, owed: &mut Owed) {
    if !quiet {
        owed.say_outcome(outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Deadline;

    fn check_count(stored: Option<&str>, down: bool, delta: u64, expected: Outcome, text: &str) {
        let item = stored.map(|value| Item {
            value: value.as_bytes(),
            shared: None,
            flags: 3,
            cas: 1,
            deadline: Deadline(90),
            last_access: Tick(0),
            marks: Marks::default(),
        });
        let mut buffer = ArrayVec::new();
        let count = Count { key: b"k", delta, down, quiet: false };
        let (change, outcome) = decide_count(&count, &mut buffer, item.map_or(Lookup::Miss, Lookup::Hit));
        assert_eq!(outcome, expected);
        if let Change::Put(draft) = change {
            assert_eq!((draft.flags, draft.deadline), (3, Deadline(90)), "flags and deadline stay");
        }
        assert_eq!(buffer.as_slice(), text.as_bytes());
    }

    #[test]
    fn incr_wraps_past_the_largest_number() {
        check_count(Some("18446744073709551615"), false, 1, Outcome::Number(0), "0                   ");
    }

    #[test]
    fn decr_stops_at_nothing_and_pads() {
        check_count(Some("10"), true, 1, Outcome::Number(9), "9 ");
        check_count(Some("5"), true, 6, Outcome::Number(0), "0");
    }

    #[test]
    fn a_number_may_grow() {
        check_count(Some("99"), false, 1, Outcome::Number(100), "100");
    }

    #[test]
    fn only_decimal_text_counts() {
        for text in ["", "12a", "abc", "-1", "18446744073709551616", "123456789012345678901", " ", "+"] {
            check_count(Some(text), false, 1, Outcome::NotANumber, "");
        }
        check_count(Some("12 "), false, 1, Outcome::Number(13), "13 ");
        check_count(Some(" 12"), false, 1, Outcome::Number(13), "13 ");
        check_count(Some("+12"), false, 1, Outcome::Number(13), "13 ");
        check_count(None, false, 1, Outcome::NotFound, "");
    }
}
