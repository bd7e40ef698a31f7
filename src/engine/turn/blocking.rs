//! Work for one client that would hold up its worker: verifying a slow hash, reading files.
//!
//! A turn leaves the task with the session and ends with [`Then::Wait`]. The connection takes it
//! ([`Session::take_task`]), runs it on a thread that may wait, waits as long as [`BlockingTask::pause`] says, gives it
//! back ([`Session::give_back`]) and offers the rest of the input: that turn begins with the answer. The session has no
//! other turn until then.
//!
//! [`Then::Wait`]: super::Then::Wait

use std::fmt;
use std::time::Duration;

use super::Session;
use crate::engine::Engine;
use crate::protocol::Owed;

/// What a task takes its time for. Tasks of one kind wait for each other, and not for those of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It computes.
    Computing,
    /// It reads files.
    Reading,
}

/// Work that may take seconds.
pub trait BlockingTask: fmt::Debug + Send {
    /// What it takes its time for.
    fn kind(&self) -> Kind;

    /// Does the work, and keeps the result.
    fn run(&mut self);

    /// How long the client is to wait for its answer once the task has run.
    fn pause(&self) -> Duration {
        Duration::ZERO
    }

    /// Words the answer; also if the task never ran, because others kept the server too busy.
    fn finish(self: Box<Self>, engine: &Engine, session: &mut Session, owed: &mut Owed);
}
