//! Stores: `set` `add` `replace` `append` `prepend` `cas` `ms`.

use super::fetch::key_mark;
use super::{exact, plain};
use crate::clock::{Deadline, Tick};
use crate::engine::stats::Counters;
use crate::engine::turn::session::RetryLater;
use crate::engine::watching::seen::Seen;
use crate::engine::{Engine, Session};
use crate::protocol::{KeyBuffer, Outcome, Owed, Put, PutMode, Shown, Style};
use crate::store::{Change, Content, Draft, Hashed, Item, Lookup, Marks};

/// What memcached's item header, the NUL behind a key and the CRLF behind a value take, in bytes. `-I` is
/// compared with the same sum, so that the same values fit. Source: memcached 1.6 (`item_make_header`).
const ITEM_HEADER_BYTES: u64 = 48 + 1 + 2;
/// What memcached adds for client flags other than 0, in bytes.
const ITEM_FLAGS_BYTES: u64 = 4;
/// What memcached adds for the CAS id, in bytes.
const ITEM_CAS_BYTES: u64 = 8;

/// The parameters of a store, checked and converted.
#[derive(Clone, Copy, Debug)]
struct Terms<'a> {
    /// That of the store. Apart from it, so that it is a constant where it can be.
    style: Style<'a>,
    /// The CAS id to compare with.
    cas: u64,
    /// When the item expires.
    deadline: Deadline,
    /// The same, if `append` or `prepend` has to create it; `None` if it may not.
    created: Option<Deadline>,
}

/// How `put` changes the item that was found.
#[inline(always)]
fn decide_put<'c>(
    put: &Put<'c>,
    terms: Terms<'_>,
    value: &'c [u8],
    fits: impl Fn(&Item<'_>) -> bool,
    found: Lookup<'_>,
) -> (Change<'c>, Outcome) {
    let Terms { style, deadline, .. } = terms;
    let flags = style.flags();
    let cas = exact(flags);
    let whole = Draft {
        content: Content::Whole(value),
        flags: put.flags,
        deadline,
        cas,
        marks: key_mark(style, put.key),
    };
    match (put.mode, found.item()) {
        (PutMode::Set | PutMode::Replace, None) if put.compares => (Change::Keep, Outcome::NotFound),
        (PutMode::Set | PutMode::Replace, Some(item)) if put.compares && terms.cas != item.cas => {
            // The value is older than the item, but not useless: with `I` it is stored as stale.
            if flags.has(b'I') && terms.cas != 0 && terms.cas < item.cas {
                let marks = whole.marks.with(Marks::STALE).with(item.marks.only(Marks::TOKEN_SENT));
                return (Change::Put(Draft { deadline: item.deadline, marks, ..whole }), Outcome::Stored);
            }
            (Change::Keep, Outcome::Exists)
        }
        (PutMode::Set, _) | (PutMode::Add, None) | (PutMode::Replace, Some(_)) => {
            (Change::Put(whole), Outcome::Stored)
        }
        // The id 0 compares nothing here, and in `set` and `replace` it never matches. Source: memcached.
        (PutMode::Append | PutMode::Prepend, Some(item)) if put.cas != 0 && terms.cas != item.cas => {
            (Change::Keep, Outcome::Exists)
        }
        (PutMode::Append | PutMode::Prepend, Some(item)) if fits(&item) => {
            let content =
                if put.mode == PutMode::Append { Content::Append(value) } else { Content::Prepend(value) };
            let Item { flags, deadline, marks, .. } = item;
            let marks = marks.only(Marks::BINARY_KEY);
            (Change::Put(Draft { content, flags, deadline, cas, marks }), Outcome::Stored)
        }
        (PutMode::Append | PutMode::Prepend, None) => match terms.created {
            Some(deadline) => (Change::Put(Draft { deadline, ..whole }), Outcome::Stored),
            None => (Change::Keep, Outcome::NotStored),
        },
        (PutMode::Add | PutMode::Append | PutMode::Prepend, Some(_)) | (PutMode::Replace, None) => {
            (Change::Keep, Outcome::NotStored)
        }
    }
}

impl Engine {
    /// # Errors
    /// [`RetryLater`]: nothing has happened, and it is to be tried again.
    #[inline(never)] // inlined, its registers would slow down gets
    pub(in crate::engine) fn put(
        &self,
        session: &Session,
        put: &Put<'_>,
        hashed: &Hashed<'_>,
        owed: &mut Owed,
        now: Tick,
    ) -> Result<(), RetryLater> {
        if session.watching().anybody_watches() {
            return self.put_watched(session, put, hashed, owed, now);
        }
        if put.style != Style::Classic {
            return self.put_meta(session, put, hashed, owed, now);
        }
        self.put_styled::<false, ()>(session, put, hashed, owed, now, |_| ()).map(drop)
    }

    #[inline(never)]
    fn put_meta(
        &self,
        session: &Session,
        put: &Put<'_>,
        hashed: &Hashed<'_>,
        owed: &mut Owed,
        now: Tick,
    ) -> Result<(), RetryLater> {
        let buffer = &mut KeyBuffer::new();
        let hashed = &plain(self.store(), put.style.flags(), hashed, buffer);
        self.put_styled::<true, ()>(session, put, hashed, owed, now, |_| ()).map(drop)
    }

    #[cold]
    fn put_watched(
        &self,
        session: &Session,
        put: &Put<'_>,
        hashed: &Hashed<'_>,
        owed: &mut Owed,
        now: Tick,
    ) -> Result<(), RetryLater> {
        let buffer = &mut KeyBuffer::new();
        let hashed = &plain(self.store(), put.style.flags(), hashed, buffer);
        let key = hashed.key();
        let written = self.put_styled::<true, _>(session, put, hashed, owed, now, Seen::of)?;
        let (Some((outcome, seen)), Some(value)) = (written, put.value) else { return Ok(()) };
        self.log_lookup(session, key, seen, now);
        let joins = matches!(put.mode, PutMode::Append | PutMode::Prepend);
        let item = if joins && outcome == Outcome::Stored && seen.is_found() {
            seen.joined(value.len())
        } else {
            let created = put.style.flags().exptime(b'N').filter(|_| joins);
            Seen::new(value.len(), self.epoch().deadline(created.unwrap_or(put.exptime.number()), now))
        };
        self.log_store(session, key, command(put), outcome, item, now);
        Ok(())
    }

    /// A store, compiled once for each style, so that the classic one has no code for meta flags. Returns the outcome
    /// and what `see` returns of the lookup, as in [`Engine::read`]; `None` when it was refused before the lookup.
    ///
    /// # Errors
    /// [`RetryLater`]: nothing has happened, and it is to be tried again.
    #[inline(always)]
    fn put_styled<const IS_META: bool, R>(
        &self,
        session: &Session,
        put: &Put<'_>,
        hashed: &Hashed<'_>,
        owed: &mut Owed,
        now: Tick,
        see: impl FnOnce(&Lookup<'_>) -> R,
    ) -> Result<Option<(Outcome, R)>, RetryLater> {
        let key = hashed.key();
        let style = if IS_META { put.style } else { Style::Classic };
        let flags = style.flags();
        if self.is_too_large(key.len(), put.flags, put.value_bytes.into()) {
            self.refuse_too_large(session, put, hashed, owed, now);
            return Ok(None);
        }
        let shown = Shown { key: session.granted().shown_key(key), ..Shown::default() };
        let Some(value) = put.value else {
            count_put(session.counters(), put, Outcome::BadDataChunk);
            style.say_stored(put.quiet, Outcome::BadDataChunk, &shown, owed);
            return Ok(None);
        };
        let terms = Terms {
            style,
            // Without CAS ids none can match.
            cas: if self.settings().cas_enabled { put.cas } else { 0 },
            deadline: self.epoch().deadline(put.exptime.number(), now),
            created: flags.exptime(b'N').map(|exptime| self.epoch().deadline(exptime, now)),
        };
        let fits = |item: &Item<'_>| {
            !self.is_too_large(key.len(), item.flags, (item.value.len() + value.len()) as u64)
        };
        let mut value_bytes = value.len();
        let ((outcome, seen), stored) = self.store().update(*hashed, now, |found| {
            let seen = see(&found);
            let (change, outcome) = decide_put(put, terms, value, fits, found);
            if flags.has(b's')
                && let (PutMode::Append | PutMode::Prepend, Outcome::Stored, Some(item)) =
                    (put.mode, outcome, found.item())
            {
                value_bytes += item.value.len();
            }
            (change, (outcome, seen))
        });
        if stored.is_err() && self.is_memory_to_come(session, now) {
            return Err(RetryLater);
        }
        let outcome = if stored.is_ok() { outcome } else { self.no_memory(session, put, hashed, now) };
        count_put(session.counters(), put, outcome);
        let cas = match stored {
            Ok(cas) if outcome == Outcome::Stored && self.settings().cas_enabled => cas,
            _ => 0,
        };
        style.say_stored(put.quiet, outcome, &Shown { cas, value_bytes, ..shown }, owed);
        Ok(Some((outcome, seen)))
    }

    /// The outcome of `put` when there was no memory for it.
    #[cold]
    fn no_memory(&self, session: &Session, put: &Put<'_>, hashed: &Hashed<'_>, now: Tick) -> Outcome {
        if let PutMode::Append | PutMode::Prepend = put.mode {
            return Outcome::NotStored;
        }
        session.counters().store_no_memory.add(1);
        self.drop_stale(put, hashed, now);
        Outcome::OutOfMemoryStoring
    }

    /// Whether such an item exceeds `-I`.
    #[inline]
    pub(in crate::engine) fn is_too_large(&self, key_bytes: usize, flags: u32, value_bytes: u64) -> bool {
        self.item_bytes(key_bytes, flags, value_bytes) > self.settings().item_bytes_max
    }

    /// How large such an item would be in memcached, in bytes.
    #[inline]
    pub(in crate::engine) fn item_bytes(&self, key_bytes: usize, flags: u32, value_bytes: u64) -> u64 {
        let flags_bytes = if flags == 0 { 0 } else { ITEM_FLAGS_BYTES };
        let cas_bytes = if self.settings().cas_enabled { ITEM_CAS_BYTES } else { 0 };
        ITEM_HEADER_BYTES + key_bytes as u64 + flags_bytes + value_bytes + cas_bytes
    }

    /// Refuses a value that has not arrived in full if it exceeds `-I`; returns whether it did.
    pub(in crate::engine) fn refuses(
        &self,
        session: &Session,
        put: &Put<'_>,
        owed: &mut Owed,
        now: Tick,
    ) -> bool {
        let buffer = &mut KeyBuffer::new();
        let key = put.style.flags().plain_key(put.key, buffer);
        let refuses = self.is_too_large(key.len(), put.flags, put.value_bytes.into());
        if refuses {
            self.refuse_too_large(session, put, &self.store().hash(key), owed, now);
        }
        refuses
    }

    #[cold]
    fn refuse_too_large(
        &self,
        session: &Session,
        put: &Put<'_>,
        hashed: &Hashed<'_>,
        owed: &mut Owed,
        now: Tick,
    ) {
        let key = hashed.key();
        session.counters().store_too_large.add(1);
        self.drop_stale(put, hashed, now);
        let shown = Shown { key: session.granted().shown_key(key), ..Shown::default() };
        put.style.say_stored(put.quiet, Outcome::TooLarge, &shown, owed);
        if session.watching().anybody_watches() {
            let item = Seen::new(put.value_bytes as usize, self.epoch().deadline(put.exptime.number(), now));
            self.log_store(session, key, command(put), Outcome::TooLarge, item, now);
        }
    }

    /// Removes the old item after a refused `set`, or a refused `ms` in any mode: it must not be served any more.
    #[cold]
    fn drop_stale(&self, put: &Put<'_>, hashed: &Hashed<'_>, now: Tick) {
        let is_set = put.mode == PutMode::Set && !put.compares;
        if is_set || put.style.drops_refused() {
            // Removing needs no memory, so it cannot fail.
            let _ = self.store().update(*hashed, now, |_| (Change::Remove, ()));
        }
    }
}

/// Counts `put`, which ended with `outcome`.
#[inline]
fn count_put(counters: &Counters, put: &Put<'_>, outcome: Outcome) {
    counters.cmd_set.add(1);
    if put.compares && matches!(put.mode, PutMode::Set | PutMode::Replace) {
        match outcome {
            Outcome::Stored => counters.cas_hits.add(1),
            Outcome::Exists => counters.cas_badval.add(1),
            Outcome::NotFound => counters.cas_misses.add(1),
            _ => {}
        }
    }
}

/// The command that `watch` shows for `put`: the classic one, also for `ms`. Source: memcached.
fn command(put: &Put<'_>) -> &'static str {
    match put.mode {
        PutMode::Set if put.compares => "cas",
        PutMode::Set => "set",
        PutMode::Add => "add",
        PutMode::Replace => "replace",
        PutMode::Append => "append",
        PutMode::Prepend => "prepend",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Decoder, Request, Step};
    use crate::store::Cas;

    const OLD: Deadline = Deadline(90);
    const NEW: Deadline = Deadline(70);
    const CREATED: Deadline = Deadline(50);

    /// Decides on what `line` asks for, where an item with CAS id 10, `marks` and the value `old` is there or not.
    fn decide(line: &str, item: Option<Marks>) -> (Option<Draft<'static>>, Outcome) {
        let input = format!("{line}\r\nnew\r\n").into_bytes().leak();
        let (Step::Request(Request::Put(put)), _) = Decoder::default().step(input) else {
            panic!("{line} is a store")
        };
        let item = item.map(|marks| Item {
            value: b"old",
            shared: None,
            flags: 3,
            cas: 10,
            deadline: OLD,
            last_access: Tick(0),
            marks,
        });
        let created = put.style.flags().has(b'N').then_some(CREATED);
        let terms = Terms { style: put.style, cas: put.cas, deadline: NEW, created };
        let found = item.map_or(Lookup::Miss, Lookup::Hit);
        let (change, outcome) = decide_put(&put, terms, b"new", |_| true, found);
        (if let Change::Put(draft) = change { Some(draft) } else { None }, outcome)
    }

    #[test]
    fn classic_and_meta_words_lead_to_the_same_decision() {
        for item in [None, Some(Marks::ALL)] {
            for (classic, meta) in [
                ("set k 7 0 3", "ms k 3 F7"),
                ("add k 7 0 3", "ms k 3 F7 ME"),
                ("replace k 7 0 3", "ms k 3 F7 MR"),
                ("append k 7 0 3", "ms k 3 F7 MA"),
                ("prepend k 7 0 3", "ms k 3 F7 MP"),
                ("cas k 7 0 3 10", "ms k 3 F7 C10"),
                ("cas k 7 0 3 11", "ms k 3 F7 C11"),
                ("cas k 7 0 3 0", "ms k 3 F7 C0"),
            ] {
                let (one, other) = (decide(classic, item), decide(meta, item));
                assert_eq!(format!("{one:?}"), format!("{other:?}"), "{classic} and {meta}");
            }
        }
    }

    #[test]
    fn a_new_value_has_no_past() {
        for line in ["set k 0 0 3", "ms k 3", "ms k 3 MR", "ms k 3 I", "ms k 3 I C10"] {
            let (draft, outcome) = decide(line, Some(Marks::ALL));
            let draft = draft.expect("it is stored");
            assert_eq!((draft.marks, draft.deadline, outcome), (Marks::default(), NEW, Outcome::Stored));
        }
    }

    #[test]
    fn what_is_joined_keeps_flags_deadline_and_how_the_key_came() {
        for line in ["append k 7 0 3", "ms k 3 MA F7 T30", "ms k 3 MP N30", "ms k 3 MA C10"] {
            let (draft, outcome) = decide(line, Some(Marks::ALL));
            let draft = draft.expect("it is stored");
            assert_eq!((draft.flags, draft.deadline, draft.marks), (3, OLD, Marks::BINARY_KEY), "{line}");
            assert_eq!(outcome, Outcome::Stored);
        }
    }

    #[test]
    fn a_late_value_with_i_is_stale_and_keeps_deadline_and_token() {
        let (draft, outcome) = decide("ms k 3 I C9 T30", Some(Marks::TOKEN_SENT));
        let draft = draft.expect("it is stored");
        assert_eq!(draft.marks, Marks::STALE.with(Marks::TOKEN_SENT));
        assert_eq!((draft.deadline, outcome), (OLD, Outcome::Stored));
        let (draft, _) = decide("ms k 3 I C9", Some(Marks::FETCHED));
        assert_eq!(draft.expect("it is stored").marks, Marks::STALE);
        for line in ["ms k 3 I C11", "ms k 3 I C0", "ms k 3 C9", "ms k 3 I C9 MA"] {
            assert_eq!(decide(line, Some(Marks::ALL)).1, Outcome::Exists, "{line}");
        }
    }

    #[test]
    fn append_creates_with_n_only() {
        assert_eq!(decide("ms k 3 MA", None).1, Outcome::NotStored);
        let (draft, outcome) = decide("ms k 3 MA N30 F7", None);
        let draft = draft.expect("it is stored");
        assert_eq!((draft.flags, draft.deadline, outcome), (7, CREATED, Outcome::Stored));
        assert_eq!(decide("ms k 3 MR N30", None).1, Outcome::NotStored);
    }

    #[test]
    fn e_names_the_cas_id() {
        assert_eq!(decide("ms k 3 E77", None).0.expect("it is stored").cas, Cas::Exact(77));
        assert_eq!(decide("ms k 3 MA E77", Some(Marks::default())).0.expect("it is").cas, Cas::Exact(77));
        assert_eq!(decide("set k 0 0 3", None).0.expect("it is stored").cas, Cas::Next);
    }
}
