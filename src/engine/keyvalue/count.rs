//! Arithmetic: `incr` `decr` `ma`.

use arrayvec::ArrayVec;

use super::fetch::key_mark;
use super::{exact, plain};
use crate::clock::{Deadline, Tick};
use crate::engine::watching::seen::Seen;
use crate::engine::{Engine, Session};
use crate::protocol::{Count, Created, Flags, KeyBuffer, Outcome, Owed, SecondsLeft, Shown};
use crate::store::{Change, Content, Draft, Hashed, Item, Lookup};

/// The most digits a counter has.
const NUMBER_BYTES_MAX: usize = 20;

/// The text of a number, padded as it is stored.
type Text = ArrayVec<u8, NUMBER_BYTES_MAX>;

/// How `count` changes the item that was found. The new number is written to `text`.
fn decide_count<'c>(
    count: &Count<'_>,
    text: &'c mut Text,
    deadline: impl Fn(i64) -> Deadline,
    cas_enabled: bool,
    found: Lookup<'_>,
) -> (Change<'c>, Outcome) {
    let flags = count.style.flags();
    let Some(item) = found.item() else {
        let Some(Created { number, exptime }) = count.created else {
            return (Change::Keep, Outcome::NotFound);
        };
        text.extend(itoa::Buffer::new().format(number).bytes());
        let draft = Draft {
            content: Content::Whole(text),
            flags: 0,
            deadline: deadline(exptime.number()),
            cas: exact(flags),
            marks: key_mark(count.style, count.key),
        };
        return (Change::Put(draft), Outcome::Number(number));
    };
    let cas = if cas_enabled { item.cas } else { 0 };
    if count.cas != 0 && count.cas != cas {
        return (Change::Keep, Outcome::Exists);
    }
    let Some(number) = stored_number(item.value) else { return (Change::Keep, Outcome::NotANumber) };
    let number =
        if count.down { number.saturating_sub(count.delta) } else { number.wrapping_add(count.delta) };
    text.extend(itoa::Buffer::new().format(number).bytes());
    let fits = text.len() <= item.value.len();
    // As in memcached, a number that got shorter is padded to be overwritten in place.
    while text.len() < item.value.len().min(NUMBER_BYTES_MAX) {
        text.push(b' ');
    }
    let Item { flags: client_flags, marks, .. } = item;
    let deadline = flags.exptime(b'T').map_or(item.deadline, deadline);
    let content = if fits { Content::Changed(text) } else { Content::Whole(text) };
    (
        Change::Put(Draft { content, flags: client_flags, deadline, cas: exact(flags), marks }),
        Outcome::Number(number),
    )
}

/// The number in a value, read as memcached does with `strtoull`: white space may come before it, and behind it white
/// space and then anything. The padding of `decr` is such white space.
fn stored_number(value: &[u8]) -> Option<u64> {
    let text = value.trim_ascii_start();
    let text = text.strip_prefix(b"+").unwrap_or(text);
    let digits = text.iter().position(u8::is_ascii_whitespace).unwrap_or(text.len());
    crate::protocol::unsigned(&text[..digits])
}

impl Engine {
    pub(in crate::engine) fn count(
        &self,
        session: &Session,
        count: &Count<'_>,
        hashed: &Hashed<'_>,
        owed: &mut Owed,
        now: Tick,
    ) {
        let buffer = &mut KeyBuffer::new();
        let hashed = &plain(self.store(), count.style.flags(), hashed, buffer);
        let key = hashed.key();
        let deadline = |exptime| self.epoch().deadline(exptime, now);
        let text = &mut ArrayVec::new();
        let mut seen = None;
        let ((outcome, before), stored) = self.store().update(*hashed, now, |found| {
            seen = session.watching().see(&found);
            let before = found.item().map(|item| item.deadline);
            let (change, outcome) = decide_count(count, text, deadline, self.settings().cas_enabled, found);
            (change, (outcome, before))
        });
        let counters = session.counters();
        let (hits, misses) = if count.down {
            (&counters.decr_hits, &counters.decr_misses)
        } else {
            (&counters.incr_hits, &counters.incr_misses)
        };
        match (outcome, before) {
            // An item that was created is neither a hit nor a miss.
            (Outcome::Number(_), Some(_)) => hits.add(1),
            (Outcome::NotFound, _) => misses.add(1),
            _ => {}
        }
        let outcome = if stored.is_ok() { outcome } else { Outcome::OutOfMemory };
        if let Some(seen) = seen {
            self.log_lookup(session, key, seen, now);
            if let (Outcome::Number(number), None) = (outcome, before) {
                // memcached logs a number that was created as an `add`.
                let created =
                    count.created.map_or(Deadline::NEVER, |created| deadline(created.exptime.number()));
                let item = Seen::new(itoa::Buffer::new().format(number).len(), created);
                self.log_store(session, key, "add", Outcome::Stored, item, now);
            }
        }
        let shown = |flags: Flags<'_>| {
            let seconds_left = |exptime| deadline(exptime).seconds_left(now);
            let left = SecondsLeft {
                before: before.and_then(|deadline| deadline.seconds_left(now)),
                touched: flags.exptime(b'T').and_then(seconds_left),
                created: flags.exptime(b'N').filter(|_| before.is_none()).map(seconds_left),
            };
            let cas = stored.ok().filter(|_| self.settings().cas_enabled).unwrap_or(0);
            Shown { key: session.granted().shown_key(key), cas, left, ..Shown::default() }
        };
        count.style.say_outcome(count.quiet, outcome, shown, owed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Style;
    use crate::store::Marks;

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
        let style = Style::Classic;
        let count = Count { key: b"k", delta, down, cas: 0, created: None, quiet: false, style };
        let found = item.map_or(Lookup::Miss, Lookup::Hit);
        let (change, outcome) = decide_count(&count, &mut buffer, |_| Deadline::PAST, true, found);
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
