//! How operators observe requests: the log of [`events`] that [`watch`] streams, the most used keys ([`hot_keys`]), and
//! counters by key prefix ([`prefixes`]).
//!
//! Rule: while nothing is observed, a request pays one branch for it.

pub mod events;
pub mod hot_keys;
pub mod observe;
pub mod prefixes;
pub mod sampler;
pub mod seen;
pub mod watch;

use crate::store::Lookup;
use prefixes::PrefixCache;
use seen::Seen;
use watch::{Registration, Streams, Typed};

/// The part of a session that has to do with `watch` and with counting by prefix.
#[derive(Debug, Default)]
pub(in crate::engine) struct SessionWatching {
    /// The streams that any client watches, as of the beginning of the turn.
    streams: Streams,
    /// Its registration as a watcher, after `watch`.
    registration: Option<Registration>,
    /// How much of `quit` its client has typed since.
    typed: Typed,
    prefixes: PrefixCache,
}

impl SessionWatching {
    /// Takes over, at the beginning of a turn, which streams are watched.
    #[inline]
    pub(super) fn note_watched(&mut self, streams: Streams) {
        self.streams = streams;
    }

    /// Whether any client watches any stream.
    #[inline]
    pub(super) fn anybody_watches(&self) -> bool {
        self.streams.are_any()
    }

    /// What the event of this lookup has to say, if any client watches.
    #[inline]
    pub(super) fn see(&self, found: &Lookup<'_>) -> Option<Seen> {
        if self.anybody_watches() { Some(Seen::of(found)) } else { None }
    }

    /// Makes the session a watcher; `false` if there was no registration to be had.
    fn watch_as(&mut self, registration: Option<Registration>) -> bool {
        self.registration = registration;
        self.registration.is_some()
    }

    fn registration(&self) -> Option<&Registration> {
        self.registration.as_ref()
    }

    fn says_quit(&mut self, input: &[u8]) -> bool {
        self.typed.says_quit(input)
    }
}
