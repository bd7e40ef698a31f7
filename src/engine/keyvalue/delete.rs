//! Removals, and invalidations: `delete` `md`.

use super::{exact, plain};
use crate::clock::{Deadline, Tick};
use crate::engine::{Engine, Session};
use crate::protocol::{Delete, Flags, KeyBuffer, Letters, Outcome, Owed, Shown};
use crate::store::{Cas, Change, Content, Draft, Hashed, Item, Lookup, Marks};

/// The flags of `md` that keep the item: `I` invalidates it, `x` removes only its value.
const KEEPING: Letters = Letters::of(b"Ix");

/// How `delete` changes the item that was found. `touched` is the deadline that its `T` asks for.
fn decide_delete(
    delete: &Delete<'_>,
    touched: Option<Deadline>,
    cas_enabled: bool,
    found: Lookup<'_>,
) -> (Change<'static>, Outcome) {
    let flags = delete.style.flags();
    let Some(item) = found.item() else { return (Change::Keep, Outcome::NotFound) };
    let cas = if cas_enabled { item.cas } else { 0 };
    if delete.cas.is_some_and(|wanted| wanted != cas) {
        return (Change::Keep, Outcome::Exists);
    }
    if !flags.has_any(KEEPING) {
        return (Change::Remove, Outcome::Deleted);
    }
    let Item { deadline, marks, .. } = item;
    let kept = Draft { content: Content::Same, flags: item.flags, deadline, cas: Cas::Same, marks };
    let kept = if flags.has(b'x') {
        let client_flags = flags.number(b'F').and_then(|number| u32::try_from(number).ok()).unwrap_or(0);
        let marks = marks.only(Marks::BINARY_KEY);
        Draft { content: Content::Whole(b""), flags: client_flags, deadline: Deadline::NEVER, marks, ..kept }
    } else {
        kept
    };
    let kept = Draft { deadline: touched.unwrap_or(kept.deadline), ..kept };
    if flags.has(b'I') {
        let marks = kept.marks.with(Marks::STALE).without(Marks::TOKEN_SENT);
        return (Change::Amend(Draft { cas: exact(flags), marks, ..kept }), Outcome::Deleted);
    }
    let cas = if flags.has(b'E') { exact(flags) } else { Cas::Same };
    (Change::Put(Draft { cas, ..kept }), Outcome::Deleted)
}

impl Engine {
    pub(in crate::engine) fn delete(
        &self,
        session: &Session,
        delete: &Delete<'_>,
        hashed: &Hashed<'_>,
        owed: &mut Owed,
        now: Tick,
    ) {
        let buffer = &mut KeyBuffer::new();
        let flags = delete.style.flags();
        let hashed = &plain(self.store(), delete.style.flags(), hashed, buffer);
        let key = hashed.key();
        let touched = flags.exptime(b'T').map(|exptime| self.epoch().deadline(exptime, now));
        let mut seen = None;
        let (outcome, stored) = self.store().update(*hashed, now, |found| {
            seen = session.watching().see(&found);
            decide_delete(delete, touched, self.settings().cas_enabled, found)
        });
        match outcome {
            // Removing the value counts as a deletion, invalidating does not.
            Outcome::Deleted if flags.has(b'I') => {}
            Outcome::Deleted => session.counters().delete_hits.add(1),
            _ => session.counters().delete_misses.add(1),
        }
        if let Some(seen) = seen {
            self.log_lookup(session, key, seen, now);
            if outcome == Outcome::Deleted && !flags.has_any(KEEPING) {
                let command = delete.style.removal();
                self.log_deletion(session, key, command, seen, now);
            }
        }
        let outcome = if stored.is_ok() { outcome } else { Outcome::OutOfMemory };
        let shown = |_: Flags<'_>| Shown { key: session.granted().shown_key(key), ..Shown::default() };
        delete.style.say_outcome(delete.quiet, outcome, shown, owed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Decoder, Request, Step};
    use crate::store::Marks;

    /// Decides on what `line` asks for where there is an item with CAS id 10, and shows what is to become of it.
    fn decide(line: &str) -> (Change<'static>, Outcome) {
        let input = format!("{line}\r\n").into_bytes();
        let (Step::Request(Request::Delete(delete)), _) = Decoder::default().step(&input) else {
            panic!("{line} is a delete")
        };
        let item = Item {
            value: b"old",
            shared: None,
            flags: 3,
            cas: 10,
            deadline: Deadline(50),
            last_access: Tick(0),
            marks: Marks::ALL,
        };
        let touched = delete.style.flags().exptime(b'T').map(|_| Deadline(30));
        decide_delete(&delete, touched, true, Lookup::Hit(item))
    }

    fn kept(line: &str) -> (Draft<'static>, bool) {
        match decide(line) {
            (Change::Put(draft), Outcome::Deleted) => (draft, true),
            (Change::Amend(draft), Outcome::Deleted) => (draft, false),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn a_delete_removes_unless_the_id_is_another() {
        for line in ["delete k", "md k", "md k C10", "md k T30 E5", "md k q"] {
            assert!(matches!(decide(line), (Change::Remove, Outcome::Deleted)), "{line}");
        }
        for line in ["md k C11", "md k C0", "md k C11 I", "md k x C0"] {
            assert!(matches!(decide(line), (Change::Keep, Outcome::Exists)), "{line}");
        }
    }

    #[test]
    fn i_leaves_all_but_the_id_and_the_token() {
        let (draft, is_use) = kept("md k I");
        assert!(matches!(draft.content, Content::Same) && !is_use);
        assert_eq!((draft.flags, draft.deadline, draft.cas), (3, Deadline(50), Cas::Next));
        assert_eq!(draft.marks, Marks::ALL.without(Marks::TOKEN_SENT));
        let (draft, _) = kept("md k I T30 E5");
        assert_eq!((draft.deadline, draft.cas), (Deadline(30), Cas::Exact(5)));
    }

    #[test]
    fn x_leaves_the_id_and_how_the_key_came() {
        let (draft, _) = kept("md k x");
        assert!(matches!(draft.content, Content::Whole(b"")));
        assert_eq!((draft.flags, draft.deadline, draft.cas), (0, Deadline::NEVER, Cas::Same));
        assert_eq!(draft.marks, Marks::BINARY_KEY);
        let (draft, _) = kept("md k x I F7 T30");
        assert_eq!((draft.flags, draft.deadline, draft.cas), (7, Deadline(30), Cas::Next));
        assert_eq!(draft.marks, Marks::BINARY_KEY.with(Marks::STALE));
    }
}
