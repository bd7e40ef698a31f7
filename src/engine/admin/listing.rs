//! The replies that walk over all items: `lru_crawler metadump`, `mgdump` and `crawl`, `stats cachedump` and
//! `stats sizes`.
//!
//! None of them is a snapshot: an item that exists from beginning to end is listed exactly once, one that comes or
//! goes meanwhile may or may not be, and each line describes its item as it was when the line was written.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::{Epoch, Tick};
use crate::engine::turn::long_reply::{LongReply, Progress, SLICE_SLOTS};
use crate::engine::{Engine, Session};
use crate::protocol::uri;
use crate::protocol::{Owed, StatLines, Style, encode_key};
use crate::store::{Cursor, Entry, Marks};

/// `stats sizes` rounds up to this many bytes. Source: memcached.
const SIZE_STEP_BYTES: u64 = 32;
/// From here on `stats sizes` rounds up to this many bytes instead, so that even with `-I 1g` there are fewer than
/// 34,000 sizes to remember.
const SIZE_STEP_BYTES_MAX: u64 = 1 << 20;
/// How many sizes one slice of `stats sizes` lists.
const SIZES_PER_SLICE: usize = 400;

/// What a walk is for: which keys it visits, and what it says of each.
#[derive(Debug)]
pub(in crate::engine) enum Purpose {
    /// One line of everything but the value for each of `keys`.
    Metadump { keys: Keys },
    /// An `mg` command for each of `keys`.
    Mgdump { keys: Keys },
    /// Key, length and exptime of at most so many of `keys`.
    Cachedump { keys: Keys, items_left: u64 },
    /// How many items there are of each size, rounded up, under `keys`.
    Sizes { keys: Keys, counts: BTreeMap<u64, u64>, style: Style<'static> },
    /// Removes expired items, and visits at most so many items.
    Crawl { items_left: u64 },
}

/// The keys that a walk is about.
#[derive(Debug)]
pub(in crate::engine) struct Keys {
    /// The prefix of all of them.
    prefix: Box<[u8]>,
    /// How many bytes at their beginning are not to be shown.
    hidden_bytes: usize,
}

impl Keys {
    /// The keys that the user of `session` may see and that begin with `prefix`, which is written as the user writes
    /// it.
    pub(in crate::engine) fn under(prefix: &[u8], session: &Session) -> Keys {
        let hidden = session.granted().prefix();
        Keys { prefix: [hidden, prefix].concat().into(), hidden_bytes: hidden.len() }
    }

    /// The same entry under the key that the user knows, if it is to be listed.
    fn shown<'e>(&self, entry: Entry<'e>) -> Option<Entry<'e>> {
        // An item under a bare prefix has no name by which its user could ask for it.
        let is_listed = entry.key.starts_with(&self.prefix) && entry.key.len() > self.hidden_bytes;
        is_listed.then(|| Entry { key: &entry.key[self.hidden_bytes..], ..entry })
    }
}

/// A walk over all items for one client.
#[derive(Debug)]
pub(in crate::engine) struct Listing {
    purpose: Purpose,
    /// `None` once the walk has ended.
    cursor: Option<Cursor>,
    _running: Running,
}

/// Counts a running walk until it is dropped.
#[derive(Debug)]
struct Running(Arc<AtomicU64>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed); // a plain count
    }
}

/// Walks over all items that clients have asked for.
#[derive(Debug, Default)]
pub(in crate::engine) struct Listings {
    running: Arc<AtomicU64>,
    starts: AtomicU64,
}

impl Listings {
    /// Starts a walk over all items.
    pub(in crate::engine) fn start(&self, purpose: Purpose) -> Listing {
        Listing { cursor: Some(Cursor::default()), ..self.start_at_end(purpose) }
    }

    /// Starts a walk that visits no item.
    pub(in crate::engine) fn start_at_end(&self, purpose: Purpose) -> Listing {
        self.starts.fetch_add(1, Ordering::Relaxed);
        self.running.fetch_add(1, Ordering::Relaxed);
        Listing { purpose, cursor: None, _running: Running(Arc::clone(&self.running)) }
    }

    /// How many are running.
    pub(in crate::engine) fn running(&self) -> u64 {
        self.running.load(Ordering::Relaxed)
    }

    /// How many were started.
    pub(in crate::engine) fn starts(&self) -> u64 {
        self.starts.load(Ordering::Relaxed)
    }
}

impl LongReply for Listing {
    fn go_on(&mut self, engine: &Engine, owed: &mut Owed, now: Tick) -> Progress {
        if let Some(cursor) = &mut self.cursor {
            let format = ItemFormat { epoch: engine.epoch(), has_cas: engine.settings().cas_enabled };
            let goes_on = engine.store().walk(cursor, now, SLICE_SLOTS, |entry| {
                self.purpose.visit(entry, format, owed);
            });
            if goes_on && !self.purpose.has_enough() {
                return Progress::GoesOn;
            }
            self.cursor = None;
        }
        self.purpose.end(owed)
    }
}

impl Purpose {
    fn visit(&mut self, entry: Entry<'_>, format: ItemFormat, owed: &mut Owed) {
        match self {
            Purpose::Metadump { keys } => {
                keys.shown(entry).into_iter().for_each(|entry| format.metadump(entry, owed))
            }
            Purpose::Mgdump { keys } => {
                keys.shown(entry).into_iter().for_each(|entry| format.mgdump(entry, owed))
            }
            Purpose::Cachedump { items_left: 0, .. } => {}
            // A binary key may contain line ends, and this format has no way to escape them.
            Purpose::Cachedump { .. } if entry.item.marks.has(Marks::BINARY_KEY) => {}
            Purpose::Cachedump { keys, items_left } => {
                if let Some(entry) = keys.shown(entry) {
                    *items_left -= 1;
                    format.cachedump(entry, owed);
                }
            }
            Purpose::Sizes { keys, counts, .. } => {
                if keys.shown(entry).is_none() {
                    return;
                }
                let step =
                    if entry.bytes > SIZE_STEP_BYTES_MAX { SIZE_STEP_BYTES_MAX } else { SIZE_STEP_BYTES };
                *counts.entry(entry.bytes.next_multiple_of(step)).or_default() += 1;
            }
            Purpose::Crawl { items_left } => *items_left = items_left.saturating_sub(1),
        }
    }

    fn has_enough(&self) -> bool {
        matches!(self, Purpose::Cachedump { items_left: 0, .. } | Purpose::Crawl { items_left: 0 })
    }

    /// Writes the end of the reply, or a slice of it, after the last item.
    fn end(&mut self, owed: &mut Owed) -> Progress {
        match self {
            Purpose::Metadump { .. } | Purpose::Cachedump { .. } => {
                StatLines::new(Style::Classic, owed).end()
            }
            Purpose::Mgdump { .. } => owed.say(b"EN\r\n"),
            Purpose::Crawl { .. } => {}
            Purpose::Sizes { counts, style, .. } => {
                let mut lines = StatLines::new(*style, owed);
                for _ in 0..SIZES_PER_SLICE {
                    let Some((size, count)) = counts.pop_first() else {
                        lines.end();
                        return Progress::Done;
                    };
                    lines.number(&size.to_string(), count);
                }
                return Progress::GoesOn;
            }
        }
        Progress::Done
    }
}

/// Formats items, one line each.
#[derive(Clone, Copy)]
struct ItemFormat {
    epoch: Epoch,
    has_cas: bool,
}

impl ItemFormat {
    /// The format of memcached's `lru_crawler metadump`, with the `flags` that it has since 1.6.43.
    fn metadump(self, Entry { key, item, bytes }: Entry<'_>, owed: &mut Owed) {
        owed.say(b"key=");
        uri::encode(key, |piece| owed.say(piece));
        match self.epoch.unix_deadline(item.deadline) {
            Some(second) => say_all(owed, &[b" exp="], second),
            None => owed.say(b" exp=-1"),
        }
        say_all(owed, &[b" la="], self.epoch.unix_seconds(item.last_access));
        say_all(owed, &[b" cas="], if self.has_cas { item.cas } else { 0 });
        let fetched: &[u8] = if item.marks.has(Marks::FETCHED) { b"yes" } else { b"no" };
        say_all(owed, &[b" fetch=", fetched, b" cls=1 size="], bytes);
        say_all(owed, &[b" flags="], u64::from(item.flags));
        owed.say(b" \n");
    }

    fn mgdump(self, Entry { key, item, .. }: Entry<'_>, owed: &mut Owed) {
        owed.say(b"mg ");
        if item.marks.has(Marks::BINARY_KEY) {
            encode_key(key, |text| owed.say(text));
            owed.say(b" b");
        } else {
            owed.say(key);
        }
        owed.say(b"\r\n");
    }

    fn cachedump(self, Entry { key, item, .. }: Entry<'_>, owed: &mut Owed) {
        say_all(owed, &[b"ITEM ", key, b" ["], item.value.len() as u64);
        say_all(owed, &[b" b; "], self.epoch.unix_deadline(item.deadline).unwrap_or(0));
        owed.say(b" s]\r\n");
    }
}

fn say_all(owed: &mut Owed, words: &[&[u8]], number: u64) {
    for words in words {
        owed.say(words);
    }
    owed.say_number(number);
}

#[cfg(test)]
mod tests {
    use bytes::Buf;

    use super::*;
    use crate::clock::Deadline;
    use crate::engine::OWED_BYTES_MAX;
    use crate::store::Item;

    #[test]
    fn sizes_are_bounded_and_listed_in_slices() {
        let keys = Keys { prefix: Box::default(), hidden_bytes: 0 };
        let mut sizes = Purpose::Sizes { keys, counts: BTreeMap::new(), style: Style::Classic };
        let (epoch, _) = Epoch::starting_at(1_700_000_000);
        let format = ItemFormat { epoch, has_cas: true };
        let item = Item {
            value: b"",
            shared: None,
            flags: 0,
            cas: 1,
            deadline: Deadline::NEVER,
            last_access: Tick(20),
            marks: Marks::default(),
        };
        // All that there can be with -I 1g.
        for bytes in (1..=1 << 20).step_by(16).chain((1 << 20..=1 << 30).step_by(1 << 16)) {
            sizes.visit(Entry { key: b"k", item, bytes }, format, &mut Owed::default());
        }
        let Purpose::Sizes { counts, .. } = &sizes else { unreachable!("it was made above") };
        assert!(counts.len() < 34_000, "{} sizes", counts.len());
        assert_eq!(counts.iter().next(), Some((&32, &2)));
        let listed = counts.len();
        let mut lines = 0;
        loop {
            let mut owed = Owed::default();
            let progress = sizes.end(&mut owed);
            assert!(owed.remaining() < OWED_BYTES_MAX / 8);
            lines += owed.into_bytes().iter().filter(|&&byte| byte == b'\n').count();
            if progress == Progress::Done {
                break;
            }
        }
        assert_eq!(lines, listed + 1);
    }
}
