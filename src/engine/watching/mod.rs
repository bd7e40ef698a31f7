//! What people see of the requests that pass: the lines of [`watch`] and the [`events`] they tell of, the most used keys
//! ([`hot_keys`]), and the counts of [`prefixes`].
//!
//! Rule: a request that nobody looks at pays one branch for it.

pub mod events;
pub mod hot_keys;
pub mod observe;
pub mod prefixes;
pub mod sampler;
pub mod seen;
pub mod watch;

use crate::store::Lookup;
use prefixes::Remembered;
use seen::Seen;
use watch::{Streams, Typed, Watcher};

/// What people see of one session, and what it watches itself.
#[derive(Debug, Default)]
pub(in crate::engine) struct Observed {
    /// What anybody watches, as of the beginning of the turn.
    streams: Streams,
    /// Its place among those who watch, once it is one of them.
    watcher: Option<Watcher>,
    /// What its client types while it watches.
    typed: Typed,
    prefixes: Remembered,
}

impl Observed {
    /// Notes at the beginning of a turn what anybody watches.
    #[inline]
    pub(super) fn note_watched(&mut self, streams: Streams) {
        self.streams = streams;
    }

    /// Whether anybody watches anything.
    #[inline]
    pub(super) fn is_watched(&self) -> bool {
        self.streams.are_any()
    }

    /// What there is to tell of what was found, if anybody watches.
    #[inline]
    pub(super) fn see(&self, found: &Lookup<'_>) -> Option<Seen> {
        if self.is_watched() { Some(Seen::of(found)) } else { None }
    }

    /// Makes it a watcher, if there is a place; says whether there is.
    fn watch_as(&mut self, watcher: Option<Watcher>) -> bool {
        self.watcher = watcher;
        self.watcher.is_some()
    }

    fn watcher(&self) -> Option<&Watcher> {
        self.watcher.as_ref()
    }

    fn says_quit(&mut self, input: &[u8]) -> bool {
        self.typed.says_quit(input)
    }
}
