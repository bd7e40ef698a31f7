//! Replies that take more than a turn: dumps, crawls, all that walks over the whole store.
//!
//! Rules: a reply does one bounded slice each time it goes on, and holds nothing in between but what it remembers; its
//! connection's further input waits until it is done. Between two slices other connections have their turns, and a
//! client that does not read what it is owed gets no further slice.

use std::fmt;

use crate::clock::Tick;
use crate::engine::Engine;
use crate::protocol::Owed;

/// How many slots of the index one slice looks at. About as many lines of a dump, so some 20 KiB, and less time than the
/// system takes to send them.
pub(in crate::engine) const SLICE_SLOTS: usize = 256;

/// A reply that takes more than a turn.
pub(in crate::engine) trait LongReply: fmt::Debug + Send {
    /// Does the next slice, and words what there is to say of it. A slice may say nothing; what it says must fit
    /// well within [`OWED_BYTES_MAX`](crate::engine::OWED_BYTES_MAX).
    fn go_on(&mut self, engine: &Engine, owed: &mut Owed, now: Tick) -> Progress;
}

/// How far a long reply has come after a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Progress {
    /// There is more to do.
    GoesOn,
    /// That was the last slice.
    Done,
}
