//! What a session needs done that would hold up its worker: verifying a slow hash, reading files.
//!
//! A turn leaves the errand with the session and ends with [`Then::Wait`]. Whoever runs the engine takes it
//! ([`Session::take_errand`]), has it run where waiting harms nobody, waits as long as [`Errand::pause`] says, gives it
//! back ([`Session::give_back`]) and offers the rest of the input: that turn begins with the answer. Until then there
//! are no other turns of the session.

use std::fmt;
use std::time::Duration;

use crate::engine::turn::session::Stage;
use crate::engine::{Engine, Session, Then};
use crate::protocol::Owed;

/// What an errand takes its time for. Those of one kind wait for each other, and not for those of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It computes.
    Computing,
    /// It reads files.
    Reading,
}

/// Something slow.
pub trait Errand: fmt::Debug + Send {
    /// What it takes its time for.
    fn kind(&self) -> Kind;

    /// Does it, and keeps what came of it. May take seconds.
    fn run(&mut self);

    /// How long the client is to wait for its answer once it has run.
    fn pause(&self) -> Duration {
        Duration::ZERO
    }

    /// Words the answer; also if it never ran, because others kept the server too busy.
    fn finish(self: Box<Self>, engine: &Engine, session: &mut Session, owed: &mut Owed);
}

impl Session {
    /// What is to be done before the next turn, once a turn has ended with [`Then::Wait`].
    pub fn take_errand(&mut self) -> Option<Box<dyn Errand>> {
        self.errand.take()
    }

    /// Has the next turn begin with the answer to `errand`.
    pub fn give_back(&mut self, errand: Box<dyn Errand>) {
        match std::mem::replace(&mut self.stage, Stage::Serving) {
            Stage::Waiting(before) => self.stage = Stage::Answering(errand, before),
            // It was sent on no errand.
            stage => self.stage = stage,
        }
    }

    /// Runs its errand here and now, without any pause: for those who have nobody to hold up.
    pub fn run_errand(&mut self) {
        if let Some(mut errand) = self.take_errand() {
            errand.run();
            self.give_back(errand);
        }
    }

    /// Has `errand` run before anything else happens.
    pub(in crate::engine) fn send(&mut self, errand: impl Errand + 'static) -> Then {
        self.errand = Some(Box::new(errand));
        let before = std::mem::replace(&mut self.stage, Stage::Serving);
        self.stage = Stage::Waiting(Box::new(before));
        Then::Wait
    }
}
