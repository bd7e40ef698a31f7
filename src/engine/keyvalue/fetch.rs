//! Retrievals: `get` `gets` `gat` `gats` `mg`.

use super::{exact, plain};
use crate::clock::{Deadline, Tick};
use crate::engine::{Engine, Session};
use crate::protocol::{Exptime, Fetch, Flags, Hit, KeyBuffer, Owed, SecondsLeft, Shown, Style};
use crate::store::{Access, Cas, Change, Content, Draft, Hashed, Item, Lookup, Marks};

/// What the flags `h` and `l` show: the marks and last access from before this retrieval.
#[derive(Clone, Copy, Debug)]
struct Before {
    marks: Marks,
    last_access: Tick,
}

/// How a retrieval that may change the item ended.
#[derive(Clone, Copy)]
enum Ending {
    Hit,
    Created,
    Missed { expired: bool },
}

/// How `fetch` changes the item that was found, and whether its client has won the right to recache it.
fn decide_fetch(
    fetch: &Fetch<'_>,
    deadline: impl Fn(i64) -> Deadline,
    found: Option<&Item<'_>>,
) -> (Change<'static>, bool) {
    let flags = fetch.style.flags();
    let traces = if flags.has(b'u') { Marks::default() } else { Marks::FETCHED };
    let Some(item) = found else {
        let Some(created) = flags.exptime(b'N') else { return (Change::Keep, false) };
        // The later of the two decides.
        let touched = fetch.exptime.map(Exptime::number);
        let exptime = touched.filter(|_| flags.has_in_order(b'N', b'T')).unwrap_or(created);
        let draft = Draft {
            content: Content::Whole(b""),
            flags: 0,
            deadline: deadline(exptime),
            cas: exact(flags),
            marks: traces.with(Marks::TOKEN_SENT).with(key_mark(fetch.style, fetch.key)),
        };
        return (Change::Put(draft), true);
    };
    let after = fetch.exptime.map_or(item.deadline, |exptime| deadline(exptime.number()));
    let wins = flags.exptime(b'R').is_some_and(|exptime| {
        let until = if flags.has_in_order(b'R', b'T') { item.deadline } else { after };
        exptime > 0 && until != Deadline::NEVER && until < deadline(exptime)
    });
    // The reply to a classic command has no way to say so.
    let may_win = fetch.style.can_tell_winner() && !item.marks.has(Marks::TOKEN_SENT);
    let won = may_win && (wins || item.marks.has(Marks::STALE));
    let draft = Draft {
        content: Content::Same,
        flags: item.flags,
        deadline: after,
        cas: Cas::Same,
        marks: item.marks.with(traces).with(if won { Marks::TOKEN_SENT } else { Marks::default() }),
    };
    (if flags.has(b'u') { Change::Amend(draft) } else { Change::Put(draft) }, won)
}

/// The mark of an item whose `key` came in this style: a key that no line can show is listed in base64.
#[inline(always)]
pub(super) fn key_mark(style: Style<'_>, key: &[u8]) -> Marks {
    let is_binary = match style {
        Style::Classic => false,
        Style::Meta(flags) => flags.has(b'b'),
        Style::Binary(_) => key.iter().any(|byte| byte.is_ascii_whitespace() || byte.is_ascii_control()),
    };
    if is_binary { Marks::BINARY_KEY } else { Marks::default() }
}

impl Engine {
    /// Writes the reply to a retrieval; returns whether it was a hit.
    #[inline(always)]
    pub(in crate::engine) fn fetch(
        &self,
        session: &Session,
        fetch: &Fetch<'_>,
        hashed: &Hashed<'_>,
        owed: &mut Owed,
        now: Tick,
    ) -> bool {
        match fetch.style {
            Style::Classic => self.fetch_plain::<false>(session, fetch, hashed, owed, now),
            Style::Binary(_) => self.fetch_plain::<true>(session, fetch, hashed, owed, now),
            Style::Meta(_) => self.fetch_meta(session, fetch, hashed, owed, now),
        }
    }

    /// A retrieval in the classic style, or in the binary one: a copy for each.
    #[inline(never)] // inlined, its registers would slow the meta style down
    fn fetch_plain<const IS_BINARY: bool>(
        &self,
        session: &Session,
        fetch: &Fetch<'_>,
        hashed: &Hashed<'_>,
        owed: &mut Owed,
        now: Tick,
    ) -> bool {
        if fetch.changes_by(Flags::default()) {
            return self.fetch_and_change(session, fetch, None, hashed, owed, now);
        }
        if session.watching().anybody_watches() {
            return self.fetch_watched(session, fetch, hashed, owed, now);
        }
        self.read::<IS_BINARY, _>(session, fetch, hashed, owed, now, |_| ()).0
    }

    #[cold]
    fn fetch_watched(
        &self,
        session: &Session,
        fetch: &Fetch<'_>,
        hashed: &Hashed<'_>,
        owed: &mut Owed,
        now: Tick,
    ) -> bool {
        let see = |found: &Lookup<'_>| session.watching().see(found);
        let (is_hit, seen) = match fetch.style {
            Style::Binary(_) => self.read::<true, _>(session, fetch, hashed, owed, now, see),
            Style::Classic | Style::Meta(_) => self.read::<false, _>(session, fetch, hashed, owed, now, see),
        };
        if let Some(seen) = seen {
            self.log_lookup(session, fetch.key, seen, now);
        }
        is_hit
    }

    /// Looks the item up and writes the reply. Returns whether it was a hit, and what `see` returns of the lookup: a
    /// parameter, so that a get which nobody watches does not pay for it.
    #[inline]
    fn read<const IS_BINARY: bool, R>(
        &self,
        session: &Session,
        fetch: &Fetch<'_>,
        hashed: &Hashed<'_>,
        owed: &mut Owed,
        now: Tick,
        see: impl FnOnce(&Lookup<'_>) -> R,
    ) -> (bool, R) {
        let counters = session.counters();
        self.store().read(*hashed, now, Access::Use, |found| {
            let style = if IS_BINARY { fetch.style } else { Style::Classic };
            match &found {
                Lookup::Hit(item) => {
                    counters.get_hits.add(1);
                    style.say_hit(&self.classic_hit(session, fetch, item), Shown::default, owed);
                }
                Lookup::Miss => {
                    counters.get_misses.add(1);
                    style.say_miss(session.granted().shown_key(fetch.key), owed);
                }
                Lookup::Expired => {
                    counters.get_misses.add(1);
                    counters.get_expired.add(1);
                    style.say_miss(session.granted().shown_key(fetch.key), owed);
                }
            }
            (found.is_hit(), see(&found))
        })
    }

    // Not inlined, to keep the classic get short.
    #[inline(never)]
    fn fetch_meta(
        &self,
        session: &Session,
        fetch: &Fetch<'_>,
        hashed: &Hashed<'_>,
        owed: &mut Owed,
        now: Tick,
    ) -> bool {
        // By reference: a copy would be made on the stack, for the closure below.
        let Style::Meta(flags) = &fetch.style else { unreachable!("the others are told apart before") };
        let buffer = &mut KeyBuffer::new();
        let hashed = &plain(self.store(), *flags, hashed, buffer);
        let key = hashed.key();
        if fetch.changes_by(*flags) {
            return self.fetch_and_change(session, fetch, None, hashed, owed, now);
        }
        let access = if flags.has(b'u') { Access::Peek } else { Access::Use };
        let mut awaits_winner = None;
        let (is_hit, seen) = self.store().read(*hashed, now, access, |found| {
            match &found {
                Lookup::Hit(item)
                    if item.marks.has(Marks::STALE)
                        && !item.marks.has(Marks::TOKEN_SENT)
                        && session.granted().may_write() =>
                {
                    awaits_winner = Some(Before { marks: item.marks, last_access: item.last_access });
                }
                Lookup::Hit(item) => {
                    session.counters().get_hits.add(1);
                    let shown =
                        || self.shown(session.granted().shown_key(key), item, left_of(item, now), now);
                    // Not through the style, which would be made once more of its flags.
                    owed.say_meta_hit(flags, &self.meta_hit(*flags, item), shown);
                }
                Lookup::Miss => miss(session, fetch.style, key, false, owed),
                Lookup::Expired => miss(session, fetch.style, key, true, owed),
            }
            (found.is_hit(), session.watching().see(&found))
        });
        if awaits_winner.is_some() {
            return self.fetch_and_change(session, fetch, awaits_winner, hashed, owed, now);
        }
        if let Some(seen) = seen {
            self.log_lookup(session, key, seen, now);
        }
        is_hit
    }

    /// A retrieval that may set an exptime, create the item, or give its client the right to recache it. A new exptime
    /// for which there is no memory is silently not set. Returns whether the item was found or created.
    fn fetch_and_change(
        &self,
        session: &Session,
        fetch: &Fetch<'_>,
        before: Option<Before>,
        hashed: &Hashed<'_>,
        owed: &mut Owed,
        now: Tick,
    ) -> bool {
        let key = hashed.key();
        let deadline = |exptime| self.epoch().deadline(exptime, now);
        let seconds_left = |exptime: i64| deadline(exptime).seconds_left(now);
        let touched = fetch.exptime.map(Exptime::number);
        let flags = fetch.style.flags();
        let mut left = SecondsLeft { touched: touched.and_then(seconds_left), ..SecondsLeft::default() };
        let mut seen = None;
        let (ending, stored) = self.store().update(*hashed, now, |found| {
            seen = session.watching().see(&found);
            let item = found.item();
            let (change, won) = decide_fetch(fetch, deadline, item.as_ref());
            let Some(mut item) = item else {
                let expired = matches!(found, Lookup::Expired);
                return (change, if won { Ending::Created } else { Ending::Missed { expired } });
            };
            left.before = item.deadline.seconds_left(now);
            if let Some(Before { marks, last_access }) = before {
                item = Item { marks, last_access, ..item };
            }
            let hit = Hit { won, ..self.hit(session, fetch, &item) };
            let shown = || self.shown(session.granted().shown_key(key), &item, left, now);
            fetch.style.say_hit(&hit, shown, owed);
            (change, Ending::Hit)
        });
        if let Some(seen) = seen {
            self.log_lookup(session, key, seen, now);
        }
        let is_hit = match (ending, stored) {
            (Ending::Hit, _) => true,
            (Ending::Created, Ok(cas)) => {
                left.created = flags.exptime(b'N').map(seconds_left);
                let cas = if self.settings().cas_enabled { cas } else { 0 };
                let (key, is_binary_key) = (session.granted().shown_key(key), flags.has(b'b'));
                let shown = Shown { key, is_binary_key, cas, left, ..Shown::default() };
                let hit = Hit { value: flags.has(b'v').then_some(&b""[..]), won: true, ..Hit::default() };
                fetch.style.say_hit(&hit, || shown, owed);
                true
            }
            (Ending::Missed { .. } | Ending::Created, _) => false,
        };
        let is_expired = matches!(ending, Ending::Missed { expired: true });
        count_change(session, fetch, key, is_hit, is_expired, owed);
        is_hit
    }

    /// `me`: shows what is known of the item under `key`, and does not count as a use of it.
    pub(in crate::engine) fn say_about(&self, session: &Session, key: &[u8], owed: &mut Owed, now: Tick) {
        let shown_key = session.granted().shown_key(key);
        self.store().read(self.store().hash(key), now, Access::Peek, |found| match found.item() {
            Some(item) => {
                let item_bytes = self.item_bytes(key.len(), item.flags, item.value.len() as u64);
                owed.say_meta_about(&self.shown(shown_key, &item, left_of(&item, now), now), item_bytes);
            }
            None => owed.say_meta_miss(Flags::default(), shown_key),
        });
    }

    /// `item` as `fetch` is to show it.
    fn hit<'r>(&self, session: &'r Session, fetch: &Fetch<'r>, item: &Item<'r>) -> Hit<'r> {
        match fetch.style {
            Style::Classic | Style::Binary(_) => self.classic_hit(session, fetch, item),
            Style::Meta(flags) => self.meta_hit(flags, item),
        }
    }

    #[inline(always)]
    fn classic_hit<'r>(&self, session: &'r Session, fetch: &Fetch<'r>, item: &Item<'r>) -> Hit<'r> {
        let key = session.granted().shown_key(fetch.key);
        let cas = fetch.with_cas.then_some(if self.settings().cas_enabled { item.cas } else { 0 });
        Hit { key, flags: item.flags, cas, value: Some(item.value), shared: item.shared, ..Hit::default() }
    }

    #[inline(always)]
    fn meta_hit<'r>(&self, flags: Flags<'_>, item: &Item<'r>) -> Hit<'r> {
        let shows_value = flags.has(b'v') && !(flags.has(b'C') && self.is_known(flags, item));
        Hit {
            value: shows_value.then_some(item.value),
            shared: item.shared,
            token_sent: item.marks.has(Marks::TOKEN_SENT),
            stale: item.marks.has(Marks::STALE),
            ..Hit::default()
        }
    }

    /// Whether the client has the value already, by the CAS id in its `C`.
    #[cold]
    fn is_known(&self, flags: Flags<'_>, item: &Item<'_>) -> bool {
        self.settings().cas_enabled && flags.number(b'C') == Some(item.cas)
    }

    fn shown<'r>(&self, key: &'r [u8], item: &Item<'_>, left: SecondsLeft, now: Tick) -> Shown<'r> {
        Shown {
            key,
            is_binary_key: item.marks.has(Marks::BINARY_KEY),
            value_bytes: item.value.len(),
            flags: item.flags,
            cas: if self.settings().cas_enabled { item.cas } else { 0 },
            left,
            idle_seconds: now.seconds_since(item.last_access),
            was_fetched: item.marks.has(Marks::FETCHED),
        }
    }
}

/// How long `item` has to live, whatever the request does to it.
fn left_of(item: &Item<'_>, now: Tick) -> SecondsLeft {
    SecondsLeft { before: item.deadline.seconds_left(now), ..SecondsLeft::default() }
}

/// Counts a retrieval that may have changed its item, and writes the reply to a miss.
fn count_change(
    session: &Session,
    fetch: &Fetch<'_>,
    key: &[u8],
    is_hit: bool,
    is_expired: bool,
    owed: &mut Owed,
) {
    let counters = session.counters();
    match (is_hit, fetch.style.can_create()) {
        (true, _) if fetch.style.fetch_counts_as_touch() => {
            counters.cmd_touch.add(1);
            counters.touch_hits.add(1);
        }
        (true, _) => {
            counters.get_hits.add(1);
        }
        (false, true) => miss(session, fetch.style, key, is_expired, owed),
        (false, false) => {
            counters.cmd_touch.add(1);
            counters.touch_misses.add(1);
            fetch.style.say_miss(session.granted().shown_key(key), owed);
        }
    }
}

/// Counts and words a miss of `mg`.
fn miss(session: &Session, style: Style<'_>, key: &[u8], expired: bool, owed: &mut Owed) {
    session.counters().get_misses.add(1);
    session.counters().get_expired.add(u64::from(expired));
    style.say_miss(session.granted().shown_key(key), owed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Decoder, Request, Step};

    /// Decides on what `line` asks for, where an item with 50 ticks to live and these marks is there or not, and an
    /// exptime is as many ticks. Whether the client wins, and what the item's deadline and marks are after it.
    fn check(line: &str, item: Option<Marks>, won: bool, after: Option<(u32, Marks)>) {
        let input = format!("{line}\r\n").into_bytes();
        let (Step::Request(Request::Fetch(fetch)), _) = Decoder::default().step(&input) else {
            panic!("{line} is a retrieval")
        };
        let item = item.map(|marks| Item {
            value: b"old",
            shared: None,
            flags: 3,
            cas: 10,
            deadline: Deadline(50),
            last_access: Tick(0),
            marks,
        });
        let deadline = |exptime| Deadline(u32::try_from(exptime).unwrap_or(0));
        let (change, wins) = decide_fetch(&fetch, deadline, item.as_ref());
        let drafted = match change {
            Change::Put(draft) | Change::Amend(draft) => Some((draft.deadline.0, draft.marks)),
            Change::Keep | Change::Remove => None,
        };
        assert_eq!((wins, drafted), (won, after), "{line}");
        assert_eq!(matches!(change, Change::Amend(_)), item.is_some() && line.contains(" u"), "{line}");
    }

    const NONE: Option<Marks> = Some(Marks(0));
    const FETCHED: Marks = Marks::FETCHED;
    const SENT: Marks = Marks(Marks::FETCHED.0 | Marks::TOKEN_SENT.0);

    #[test]
    fn n_creates_and_the_client_has_won() {
        check("mg k N30", None, true, Some((30, SENT)));
        check("mg k N30 T20", None, true, Some((20, SENT)));
        check("mg k T20 N30", None, true, Some((30, SENT)));
        check("mg k N30 u", None, true, Some((30, Marks::TOKEN_SENT)));
        check("mg aw== N30 b", None, true, Some((30, SENT.with(Marks::BINARY_KEY))));
        check("mg k T20", None, false, None);
        check("mg k R20", None, false, None);
        check("mg k N30", NONE, false, Some((50, FETCHED)));
    }

    #[test]
    fn r_wins_once_when_time_runs_out() {
        check("mg k R50", NONE, false, Some((50, FETCHED)));
        check("mg k R51", NONE, true, Some((50, SENT)));
        check("mg k R51", Some(Marks::TOKEN_SENT), false, Some((50, SENT)));
        check("mg k R51 u", NONE, true, Some((50, Marks::TOKEN_SENT)));
        check("mg k T80 R51", NONE, false, Some((80, FETCHED)));
        check("mg k R51 T80", NONE, true, Some((80, SENT)));
        check("mg k R-1", NONE, false, Some((50, FETCHED)));
    }

    #[test]
    fn the_first_to_see_a_stale_item_wins_if_it_can_be_told() {
        let stale = Some(Marks::STALE);
        check("mg k", stale, true, Some((50, SENT.with(Marks::STALE))));
        check("mg k", Some(Marks(6)), false, Some((50, SENT.with(Marks::STALE))));
        check("gat 20 k", stale, false, Some((20, FETCHED.with(Marks::STALE))));
    }

    #[test]
    fn gat_and_mg_t_set_a_deadline() {
        check("gat 20 k", NONE, false, Some((20, FETCHED)));
        check("mg k T20", NONE, false, Some((20, FETCHED)));
        check("mg k T20 u", NONE, false, Some((20, Marks(0))));
        check("gat 20 k", None, false, None);
    }
}
