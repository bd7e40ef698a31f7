//! Answers to meta requests, in bytes: two letters, and behind them what the flags ask for, in the order in which
//! they ask.

use super::key::encode;
use super::{Flags, Letters};
use crate::protocol::owed::{Owed, Writer};
use crate::protocol::{Hit, Outcome};

/// What a retrieval can show of an item, beside its value.
const OF_HIT: Letters = Letters::of(b"OkcfhlstTN");
/// What can be shown of an item that is not there.
const OF_MISS: Letters = Letters::of(b"Ok");
/// What a store can show.
const OF_PUT: Letters = Letters::of(b"Okcs");
/// What a count can show; `T` and `N` change what `t` shows.
const OF_COUNT: Letters = Letters::of(b"OkctTN");

/// What may be shown of an item, each where its flag asks for it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shown<'a> {
    /// `k`: the key.
    pub key: &'a [u8],
    /// Whether the key is to be shown in base64.
    pub is_binary_key: bool,
    /// `s`: the length of the value, in bytes.
    pub value_bytes: usize,
    /// `f`: the client's flags.
    pub flags: u32,
    /// `c`: the CAS id; 0 where nothing was stored.
    pub cas: u64,
    /// `t`: how long the item has to live.
    pub left: SecondsLeft,
    /// `l`: how long ago it was accessed before, in seconds.
    pub idle_seconds: u32,
    /// `h`: whether it was fetched before.
    pub was_fetched: bool,
}

/// How long an item has to live, in seconds; `None` is for ever. A `t` behind a `T` or `N` shows what that has set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SecondsLeft {
    /// Before the request.
    pub before: Option<u32>,
    /// After `T`.
    pub touched: Option<u32>,
    /// After `N`, if it has created the item.
    pub created: Option<Option<u32>>,
}

/// More than all flags of a line take in a reply, in bytes: the longest key in base64, the longest opaque, and some
/// numbers of at most 20 digits.
const SHOWN_BYTES_MAX: usize = 768;

impl Owed {
    /// Says `HD`, or `VA` and the value; asks what else may be shown only if something is to be.
    #[inline(always)]
    pub fn say_meta_hit<'a>(&mut self, flags: &Flags<'_>, hit: &Hit<'_>, shown: impl FnOnce() -> Shown<'a>) {
        let inline = hit.value.filter(|_| hit.shared.is_none()).unwrap_or(b"");
        self.write(SHOWN_BYTES_MAX + inline.len(), |line| {
            match hit.value {
                None => line.write(b"HD"),
                Some(value) => {
                    line.write(b"VA ");
                    line.write_number(value.len() as u64);
                }
            }
            if flags.has_any(OF_HIT) {
                write_each(line, *flags, OF_HIT, &shown());
            }
            if hit.won || hit.token_sent || hit.stale {
                for (mark, is_set) in [(b" Z", hit.token_sent), (b" X", hit.stale), (b" W", hit.won)] {
                    line.write(if is_set { mark } else { b"" });
                }
            }
            line.write(b"\r\n");
            if hit.value.is_some() && hit.shared.is_none() {
                line.write(inline);
                line.write(b"\r\n");
            }
        });
        if let (Some(_), Some(value)) = (hit.value, hit.shared) {
            self.share(value.clone());
            self.say(b"\r\n");
        }
    }

    /// Says `EN`.
    pub fn say_meta_miss(&mut self, flags: Flags<'_>, key: &[u8]) {
        let shown = Shown { key, is_binary_key: flags.has(b'b'), ..Shown::default() };
        self.say_meta(b"EN", flags, OF_MISS, &shown);
    }

    /// Says what `me` tells of an item that takes `item_bytes`; the seconds it has to live are -1 without a deadline.
    pub fn say_meta_about(&mut self, shown: &Shown<'_>, item_bytes: u64) {
        self.write(SHOWN_BYTES_MAX, |line| {
            line.write(b"ME ");
            if shown.is_binary_key {
                encode(shown.key, |text| line.write(text));
            } else {
                line.write(shown.key);
            }
            match shown.left.before {
                Some(seconds) => write_flag(line, b" exp=", u64::from(seconds)),
                None => line.write(b" exp=-1"),
            }
            write_flag(line, b" la=", u64::from(shown.idle_seconds));
            write_flag(line, b" cas=", shown.cas);
            line.write(if shown.was_fetched { b" fetch=yes" } else { b" fetch=no" });
            // Where memcached has the number of a slab class.
            write_flag(line, b" cls=1 size=", item_bytes);
            line.write(b"\r\n");
        });
    }

    /// Says how a store ended.
    pub(in crate::protocol) fn say_meta_put(
        &mut self,
        flags: Flags<'_>,
        outcome: Outcome,
        shown: &Shown<'_>,
    ) {
        self.say_ending(flags, OF_PUT, outcome, shown);
    }

    /// Says how a delete or a count ended.
    pub(in crate::protocol) fn say_meta_outcome(
        &mut self,
        flags: Flags<'_>,
        outcome: Outcome,
        shown: &Shown<'_>,
    ) {
        match outcome {
            Outcome::Number(number) => self.say_counted(flags, number, shown),
            _ => self.say_ending(flags, OF_MISS, outcome, shown),
        }
    }

    fn say_ending(&mut self, flags: Flags<'_>, letters: Letters, outcome: Outcome, shown: &Shown<'_>) {
        let words = match outcome {
            Outcome::Stored | Outcome::Deleted => b"HD",
            Outcome::NotStored => b"NS",
            Outcome::Exists => b"EX",
            Outcome::NotFound => b"NF",
            // What went wrong has the same words in both dialects.
            _ => return self.say_outcome(outcome),
        };
        self.say_meta(words, flags, letters, shown);
    }

    /// Says `HD`, or `VA` and the number.
    fn say_counted(&mut self, flags: Flags<'_>, number: u64, shown: &Shown<'_>) {
        if !flags.has(b'v') {
            return self.say_meta(b"HD", flags, OF_COUNT, shown);
        }
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(number).as_bytes();
        self.write(SHOWN_BYTES_MAX, |line| {
            line.write(b"VA ");
            line.write_number(digits.len() as u64);
            write_shown(line, flags, OF_COUNT, shown);
            line.write(b"\r\n");
            line.write(digits);
            line.write(b"\r\n");
        });
    }

    #[inline]
    fn say_meta(&mut self, words: &[u8], flags: Flags<'_>, letters: Letters, shown: &Shown<'_>) {
        self.write(SHOWN_BYTES_MAX, |line| {
            line.write(words);
            write_shown(line, flags, letters, shown);
            line.write(b"\r\n");
        });
    }
}

/// Writes what those of `flags` that are among `letters` ask for.
#[inline(always)]
fn write_shown(line: &mut Writer<'_>, flags: Flags<'_>, letters: Letters, shown: &Shown<'_>) {
    if flags.has_any(letters) {
        write_each(line, flags, letters, shown);
    }
}

#[inline(never)]
fn write_each(line: &mut Writer<'_>, flags: Flags<'_>, letters: Letters, shown: &Shown<'_>) {
    let mut left = shown.left.before;
    for (letter, word) in flags.each().filter(|&(letter, _)| letters.has(letter)) {
        match letter {
            b'O' => {
                line.write(b" ");
                line.write(word);
            }
            b'k' => write_key(line, shown),
            b'c' => write_flag(line, b" c", shown.cas),
            b'f' => write_flag(line, b" f", u64::from(shown.flags)),
            b'h' => line.write(if shown.was_fetched { b" h1" } else { b" h0" }),
            b'l' => write_flag(line, b" l", u64::from(shown.idle_seconds)),
            b's' => write_flag(line, b" s", shown.value_bytes as u64),
            b't' => match left {
                Some(seconds) => write_flag(line, b" t", u64::from(seconds)),
                None => line.write(b" t-1"),
            },
            b'T' => left = shown.left.touched,
            b'N' => left = shown.left.created.unwrap_or(left),
            _ => {}
        }
    }
}

fn write_flag(line: &mut Writer<'_>, letter: &[u8], number: u64) {
    line.write(letter);
    line.write_number(number);
}

fn write_key(line: &mut Writer<'_>, shown: &Shown<'_>) {
    line.write(b" k");
    if shown.is_binary_key {
        encode(shown.key, |text| line.write(text));
        line.write(b" b");
    } else {
        line.write(shown.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_line_of_flags_has_room() {
        let opaque = "o".repeat(31);
        let text = format!("O{opaque} k c f h l s t");
        let flags = Flags::parse(text.as_bytes(), 2).expect("they are right");
        let key = [b'k'; 250];
        let shown = Shown {
            key: &key,
            is_binary_key: true,
            value_bytes: usize::MAX,
            flags: u32::MAX,
            cas: u64::MAX,
            left: SecondsLeft { before: Some(u32::MAX), ..SecondsLeft::default() },
            idle_seconds: u32::MAX,
            was_fetched: true,
        };
        let value = Some(&b"value"[..]);
        let hit = Hit { value, won: true, token_sent: true, stale: true, ..Hit::default() };
        let mut owed = Owed::default();
        owed.say_meta_hit(&flags, &hit, || shown);
        let bytes = owed.into_bytes();
        assert!(bytes.ends_with(b" h1 l4294967295 s18446744073709551615 t4294967295 Z X W\r\nvalue\r\n"));
        assert!(bytes.len() < SHOWN_BYTES_MAX - 200, "{} bytes", bytes.len());
        owed = Owed::default();
        owed.say_meta_about(&shown, u64::MAX);
        assert!(owed.into_bytes().len() < SHOWN_BYTES_MAX - 200);
    }
}
