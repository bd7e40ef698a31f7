//! The dialects, and how each words what the engine has found or done.
//!
//! A new dialect is a folder beside [`classic`](super::classic) and [`meta`](super::meta), and an arm in each method here.

use bytes::Bytes;

use super::meta::{Flags, Shown};
use super::owed::Owed;
use super::replies::{Outcome, reply};

/// In whose words a request was made and is to be answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style<'a> {
    /// The classic text commands, to which every flag is unknown.
    #[default]
    Classic,
    /// The meta commands, and what their flags ask for.
    Meta(Flags<'a>),
}

/// An item that a retrieval has found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hit<'a> {
    /// Its key, as its client knows it.
    pub key: &'a [u8],
    /// The client's flags.
    pub flags: u32,
    /// Its CAS id, if a classic client asks for it.
    pub cas: Option<u64>,
    /// Its value, if it is to be shown.
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

/// Why a request is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its user may only read.
    ReadOnly,
    /// Its user has a prefix, and it shows or changes what belongs to others.
    NotByPrefix,
    /// Its key is too long together with its user's prefix.
    KeyTooLong,
}

impl Refusal {
    /// The refusal in the words of a text dialect.
    pub fn words(self) -> &'static [u8] {
        match self {
            Refusal::ReadOnly => reply::NOT_BY_READER,
            Refusal::NotByPrefix => reply::NOT_BY_PREFIX,
            Refusal::KeyTooLong => reply::BAD_LINE,
        }
    }
}

impl<'a> Style<'a> {
    /// The flags; none in the classic style.
    #[inline]
    pub fn flags(self) -> Flags<'a> {
        match self {
            Style::Classic => Flags::default(),
            Style::Meta(flags) => flags,
        }
    }

    /// The same style, of a request whose key was decoded.
    #[must_use]
    pub fn with_decoded_key(self) -> Style<'a> {
        match self {
            Style::Classic => Style::Classic,
            Style::Meta(flags) => Style::Meta(flags.with_decoded_key()),
        }
    }

    /// Whether its words can tell a client that it is the one to recache an item.
    #[inline]
    pub fn can_tell_winner(self) -> bool {
        matches!(self, Style::Meta(_))
    }

    /// Whether a retrieval that may change its item may also create it. One that may not is a touch if it misses.
    pub fn can_create(self) -> bool {
        matches!(self, Style::Meta(_))
    }

    /// Whether a retrieval that sets an exptime counts as a touch and not as a get. Source: memcached.
    #[inline]
    pub fn fetch_counts_as_touch(self) -> bool {
        match self {
            Style::Classic => true,
            Style::Meta(flags) => flags.has(b'T'),
        }
    }

    /// Whether a store that was refused drops what there was in every mode, and not only in that of `set`. Source:
    /// memcached.
    pub fn drops_refused(self) -> bool {
        matches!(self, Style::Meta(_))
    }

    /// The name by which `watch` tells of a removal. Source: memcached.
    pub fn removal(self) -> &'static str {
        match self {
            Style::Classic => "delete",
            Style::Meta(_) => "md",
        }
    }

    /// Words an item that was found; asks for what else may be shown only if something is to be.
    #[inline(always)]
    pub fn say_hit<'k>(self, hit: &Hit<'_>, shown: impl FnOnce() -> Shown<'k>, owed: &mut Owed) {
        match self {
            Style::Classic => owed.say_item(hit),
            Style::Meta(flags) => owed.say_meta_hit(flags, hit, shown),
        }
    }

    /// Words that there is no item under `key`.
    #[inline]
    pub fn say_miss(self, key: &[u8], owed: &mut Owed) {
        match self {
            Style::Classic => {}
            Style::Meta(flags) if flags.has(b'q') => {}
            Style::Meta(flags) => owed.say_meta_miss(flags, key),
        }
    }

    /// Ends a retrieval of several keys.
    #[inline]
    pub fn say_end(self, owed: &mut Owed) {
        owed.say(reply::END);
    }

    /// Words how a store ended, unless it is `quiet` about that.
    #[inline(always)]
    pub fn say_stored(self, quiet: bool, outcome: Outcome, shown: &Shown<'_>, owed: &mut Owed) {
        match self {
            Style::Classic if quiet => {}
            Style::Classic => owed.say_outcome(outcome),
            Style::Meta(_) if quiet && outcome == Outcome::Stored => {}
            Style::Meta(flags) => {
                owed.say_meta_put(flags, outcome, &Shown { is_binary_key: flags.has(b'b'), ..*shown });
            }
        }
    }

    /// Words how a removal, a touch or a count ended, unless it is `quiet` about that.
    #[inline]
    pub fn say_outcome<'k>(
        self,
        quiet: bool,
        outcome: Outcome,
        shown: impl FnOnce(Flags<'_>) -> Shown<'k>,
        owed: &mut Owed,
    ) {
        match self {
            Style::Classic if quiet => {}
            Style::Classic => owed.say_outcome(outcome),
            Style::Meta(_) if quiet && matches!(outcome, Outcome::Deleted | Outcome::Number(_)) => {}
            Style::Meta(flags) => {
                let shown = Shown { is_binary_key: flags.has(b'b'), ..shown(flags) };
                owed.say_meta_outcome(flags, outcome, &shown);
            }
        }
    }

    /// Words why a request has no effect.
    pub fn say_refusal(self, refusal: Refusal, owed: &mut Owed) {
        owed.say(refusal.words());
    }
}
