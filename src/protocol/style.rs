//! The dialects, and how each words what the engine has found or done.
//!
//! A new dialect is a folder beside [`classic`](super::classic) and [`meta`](super::meta), and an arm in each method here.

use super::binary::{Packet, Status};
use super::meta::{Flags, Shown};
use super::owed::Owed;
use super::replies::{Hit, Outcome, Refusal, reply};

/// In whose words a request was made and is to be answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style<'a> {
    /// The classic text commands, to which every flag is unknown.
    #[default]
    Classic,
    /// The meta commands, and what their flags ask for.
    Meta(Flags<'a>),
    /// The binary protocol, and what the reply repeats of the request.
    Binary(Packet),
}

impl<'a> Style<'a> {
    /// The flags; only the meta style has any.
    #[inline]
    pub fn flags(self) -> Flags<'a> {
        match self {
            Style::Classic | Style::Binary(_) => Flags::default(),
            Style::Meta(flags) => flags,
        }
    }

    /// The same style, of a request whose key was decoded.
    #[must_use]
    pub fn with_decoded_key(self) -> Style<'a> {
        match self {
            Style::Classic | Style::Binary(_) => self,
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
            Style::Classic | Style::Binary(_) => true,
            Style::Meta(flags) => flags.has(b'T'),
        }
    }

    /// Whether a store that was refused drops what there was even if it is no plain `set`. Source: memcached.
    pub fn drops_refused(self) -> bool {
        match self {
            Style::Classic => false,
            Style::Meta(_) => true,
            Style::Binary(packet) => packet.is_set(),
        }
    }

    /// The name by which `watch` tells of a removal. Source: memcached.
    pub fn removal(self) -> &'static str {
        match self {
            Style::Classic | Style::Binary(_) => "delete",
            Style::Meta(_) => "md",
        }
    }

    /// Words an item that was found; asks for what else may be shown only if something is to be.
    #[inline(always)]
    pub fn say_hit<'k>(self, hit: &Hit<'_>, shown: impl FnOnce() -> Shown<'k>, owed: &mut Owed) {
        match self {
            Style::Classic => owed.say_item(hit),
            Style::Meta(flags) => owed.say_meta_hit(&flags, hit, shown),
            Style::Binary(packet) => owed.say_packet_hit(packet, hit),
        }
    }

    /// Words that there is no item under `key`.
    #[inline]
    pub fn say_miss(self, key: &[u8], owed: &mut Owed) {
        match self {
            Style::Classic => {}
            Style::Meta(flags) if flags.has(b'q') => {}
            Style::Meta(flags) => owed.say_meta_miss(flags, key),
            Style::Binary(packet) => owed.say_packet_miss(packet, key),
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
            Style::Binary(packet) => owed.say_packet_outcome(packet, outcome, shown.cas),
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
            Style::Binary(packet) => {
                owed.say_packet_outcome(packet, outcome, shown(Flags::default()).cas);
            }
        }
    }

    /// Words that an administrative command was carried out, which text has its own words for.
    pub fn say_done(self, words: &[u8], owed: &mut Owed) {
        match self {
            Style::Classic | Style::Meta(_) => owed.say(words),
            Style::Binary(packet) => owed.say_success(packet, 0, b""),
        }
    }

    /// Words that an administrative command was not carried out, which text has its own words for.
    pub fn say_failed(self, words: &[u8], owed: &mut Owed) {
        match self {
            Style::Classic | Style::Meta(_) => owed.say(words),
            Style::Binary(packet) => owed.say_status(packet, Status::NotFound, None),
        }
    }

    /// Words that the client has logged in.
    pub fn say_logged_in(self, owed: &mut Owed) {
        match self {
            Style::Classic | Style::Meta(_) => owed.say(reply::STORED),
            Style::Binary(packet) => owed.say_success(packet, 0, b"Authenticated"),
        }
    }

    /// Words that a login is refused.
    pub fn say_login_refused(self, owed: &mut Owed) {
        match self {
            Style::Classic | Style::Meta(_) => owed.say(reply::AUTH_FAILURE),
            Style::Binary(packet) => owed.say_status(packet, Status::AuthError, None),
        }
    }

    /// Words that a login was not looked at, because too many clients log in at once.
    pub fn say_too_many_logins(self, owed: &mut Owed) {
        match self {
            Style::Classic | Style::Meta(_) => owed.say(reply::TOO_MANY_LOGINS),
            Style::Binary(packet) => {
                let text = "Too many clients log in at once, try again later";
                owed.say_status(packet, Status::TemporaryFailure, Some(text));
            }
        }
    }

    /// Words why a request has no effect.
    pub fn say_refusal(self, refusal: Refusal, owed: &mut Owed) {
        match self {
            Style::Classic | Style::Meta(_) => owed.say(refusal.words()),
            Style::Binary(packet) => owed.say_packet_refusal(packet, refusal),
        }
    }
}
