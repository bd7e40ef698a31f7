//! Answers to meta requests, in bytes: two letters, and behind them what the flags ask for, in the order in which
//! they ask.

use bytes::Bytes;

use super::super::replies::{Outcome, Owed};
use super::key::encode;
use super::{Flags, Letters};

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

/// An item as `mg` shows it.
#[derive(Clone, Copy, Debug)]
pub struct MetaHit<'a> {
    /// What may be shown.
    pub shown: Shown<'a>,
    /// The value, if it is to be shown.
    pub value: Option<&'a [u8]>,
    /// The value as a handle, to be shared instead of copied.
    pub shared: Option<&'a Bytes>,
    /// `W`: this client is to recache the item.
    pub won: bool,
    /// `Z`: another client was told to recache it.
    pub token_sent: bool,
    /// `X`: it was invalidated.
    pub stale: bool,
}

impl Owed {
    /// Says `HD`, or `VA` and the value.
    #[inline]
    pub fn say_meta_hit(&mut self, flags: Flags<'_>, hit: &MetaHit<'_>) {
        match hit.value {
            None => self.say(b"HD"),
            Some(value) => {
                self.say(b"VA ");
                self.say_number(value.len() as u64);
            }
        }
        self.say_shown(flags, OF_HIT, &hit.shown);
        if hit.won || hit.token_sent || hit.stale {
            for (mark, is_set) in [(b" Z", hit.token_sent), (b" X", hit.stale), (b" W", hit.won)] {
                self.say(if is_set { mark } else { b"" });
            }
        }
        self.say(b"\r\n");
        if let Some(value) = hit.value {
            match hit.shared {
                Some(value) => self.share(value.clone()),
                None => self.say(value),
            }
            self.say(b"\r\n");
        }
    }

    /// Says `EN`.
    #[inline]
    pub fn say_meta_miss(&mut self, flags: Flags<'_>, key: &[u8]) {
        self.say_meta(
            b"EN",
            flags,
            OF_MISS,
            &Shown { key, is_binary_key: flags.has(b'b'), ..Shown::default() },
        );
    }

    /// Says what `me` tells of an item that takes `item_bytes`. As memcached does, it tells the time left as if it
    /// were over: 100 s to live are `exp=-100`, and without a deadline it is -1.
    pub fn say_meta_about(&mut self, shown: &Shown<'_>, item_bytes: u64) {
        self.say(b"ME ");
        if shown.is_binary_key {
            encode(shown.key, |text| self.say(text));
        } else {
            self.say(shown.key);
        }
        match shown.left.before {
            Some(0) => self.say(b" exp=0"),
            Some(seconds) => self.say_flag(b" exp=-", u64::from(seconds)),
            None => self.say(b" exp=-1"),
        }
        self.say_flag(b" la=", u64::from(shown.idle_seconds));
        self.say_flag(b" cas=", shown.cas);
        self.say(if shown.was_fetched { b" fetch=yes" } else { b" fetch=no" });
        // Where memcached has the number of a slab class.
        self.say_flag(b" cls=1 size=", item_bytes);
        self.say(b"\r\n");
    }

    /// Says how a store ended.
    pub fn say_meta_put(&mut self, flags: Flags<'_>, outcome: Outcome, shown: &Shown<'_>) {
        self.say_ending(flags, OF_PUT, outcome, shown);
    }

    /// Says how a delete or a count ended.
    pub fn say_meta_outcome(&mut self, flags: Flags<'_>, outcome: Outcome, shown: &Shown<'_>) {
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
        self.say(b"VA ");
        self.say_number(digits.len() as u64);
        self.say_meta(b"", flags, OF_COUNT, shown);
        self.say(digits);
        self.say(b"\r\n");
    }

    fn say_meta(&mut self, words: &[u8], flags: Flags<'_>, letters: Letters, shown: &Shown<'_>) {
        self.say(words);
        self.say_shown(flags, letters, shown);
        self.say(b"\r\n");
    }

    /// Says what those of `flags` that are among `letters` ask for.
    #[inline]
    fn say_shown(&mut self, flags: Flags<'_>, letters: Letters, shown: &Shown<'_>) {
        if flags.has_any(letters) {
            self.say_each(flags, letters, shown);
        }
    }

    fn say_each(&mut self, flags: Flags<'_>, letters: Letters, shown: &Shown<'_>) {
        let mut left = shown.left.before;
        for (letter, word) in flags.each().filter(|&(letter, _)| letters.has(letter)) {
            match letter {
                b'O' => {
                    self.say(b" ");
                    self.say(word);
                }
                b'k' => self.say_key(shown),
                b'c' => self.say_flag(b" c", shown.cas),
                b'f' => self.say_flag(b" f", u64::from(shown.flags)),
                b'h' => self.say(if shown.was_fetched { b" h1" } else { b" h0" }),
                b'l' => self.say_flag(b" l", u64::from(shown.idle_seconds)),
                b's' => self.say_flag(b" s", shown.value_bytes as u64),
                b't' => match left {
                    Some(seconds) => self.say_flag(b" t", u64::from(seconds)),
                    None => self.say(b" t-1"),
                },
                b'T' => left = shown.left.touched,
                b'N' => left = shown.left.created.unwrap_or(left),
                _ => {}
            }
        }
    }

    fn say_flag(&mut self, letter: &[u8], number: u64) {
        self.say(letter);
        self.say_number(number);
    }

    fn say_key(&mut self, shown: &Shown<'_>) {
        self.say(b" k");
        if shown.is_binary_key {
            encode(shown.key, |text| self.say(text));
            self.say(b" b");
        } else {
            self.say(shown.key);
        }
    }
}
