//! Work for one client that takes more than a turn: dumps, crawls, whatever walks over the whole store.
//!
//! Rules: a job does one bounded slice each time it goes on, and nothing of it is held in between but what it
//! remembers; until it is done, its connection's further input waits. Between two slices everybody else has a
//! turn, and a client that does not read what it is owed gets no further slice.

use std::fmt;

use crate::clock::Tick;
use crate::engine::turn::session::Stage;
use crate::engine::{Engine, Session, Then};
use crate::protocol::Owed;

/// How many places of the index one slice of a job looks at. About as many lines of a dump, so some 20 KiB, and
/// less time than the system takes to send them.
pub(in crate::engine) const SLICE_SLOTS: usize = 256;

/// Work that takes more than one turn.
pub(in crate::engine) trait Job: fmt::Debug + Send {
    /// Does the next slice, and says what there is to say of it. A slice may say nothing; what it says must fit
    /// well within [`OWED_BYTES_MAX`](crate::engine::OWED_BYTES_MAX).
    fn go_on(&mut self, engine: &Engine, owed: &mut Owed, now: Tick) -> Progress;
}

/// What a job says after a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Progress {
    /// There is more to do.
    GoesOn,
    /// That was the last slice.
    Done,
}

impl Session {
    /// Whether a job or an errand is under way, so that turns may achieve something without consuming or saying anything.
    pub fn is_at_work(&self) -> bool {
        !matches!(self.stage, Stage::Serving | Stage::LoggingIn(_))
    }

    /// Has the following turns do `job`, until it is done.
    pub(in crate::engine) fn begin(&mut self, job: impl Job + 'static) -> Option<Then> {
        self.stage = Stage::Working(Box::new(job));
        Some(Then::Again)
    }
}

impl Engine {
    /// A turn that does a slice of the session's job, and consumes nothing.
    pub(in crate::engine) fn turn_of_job(&self, session: &mut Session, owed: &mut Owed, now: Tick) -> Then {
        if let Stage::Working(job) = &mut session.stage
            && job.go_on(self, owed, now) == Progress::Done
        {
            session.stage = Stage::Serving;
        }
        Then::Again
    }
}
