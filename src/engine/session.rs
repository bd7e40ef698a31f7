//! What the engine remembers of one connection between turns.

use std::sync::Arc;

use super::job::Job;
use super::prefixes::Remembered;
use super::rights::Rights;
use super::roster::Reason;
use super::stats::Counters;
use super::watch::{Streams, Typed, Watcher};
use super::{Engine, Then};
use crate::protocol::{Decoder, Step};

/// What the engine remembers of one connection between turns.
#[derive(Debug)]
pub struct Session {
    pub(super) decoder: Decoder,
    pub(super) counters: Arc<Counters>,
    pub(super) prefixes: Remembered,
    /// What goes on over several turns.
    pub(super) job: Option<Box<dyn Job>>,
    /// The number of its worker.
    pub(super) worker: usize,
    /// The number of its socket, for people.
    pub(super) descriptor: i32,
    /// What anybody watches, as of the beginning of the turn.
    pub(super) watched: Streams,
    /// Why its connection will have been closed, if nothing else happens to it.
    pub(super) reason: Reason,
    /// Its place among those who watch, once it is one of them.
    pub(super) watcher: Option<Watcher>,
    /// What it types while it watches.
    pub(super) typed: Typed,
    /// What its user may do; `None` for everything.
    pub(super) rights: Option<Arc<Rights>>,
    /// How many bytes its user's prefix has; 0 without one.
    pub(super) prefix_bytes: usize,
}

impl Session {
    /// The same session, of the connection with socket number `descriptor`.
    #[must_use]
    pub fn with_descriptor(mut self, descriptor: i32) -> Session {
        self.descriptor = descriptor;
        self
    }

    /// Has it do from its next turn on what `rights` allow, and nothing else. A new session may do everything.
    pub fn set_rights(&mut self, rights: Arc<Rights>) {
        self.prefix_bytes = rights.prefix().len();
        self.rights = Some(rights).filter(|rights| !rights.are_all());
    }

    /// What it may do, if that is not everything.
    pub fn rights(&self) -> Option<&Rights> {
        self.rights.as_deref()
    }

    /// Why the connection is to be closed, after [`Then::Close`].
    pub fn reason(&self) -> Reason {
        self.reason
    }
}

impl Session {
    /// What comes after a step that has found no whole request.
    pub(super) fn wait_or_close(&mut self, step: Step<'_>) -> Then {
        match step {
            Step::Incomplete { bytes_min } => Then::Read { bytes_min },
            Step::Hopeless => {
                self.reason = Reason::Error;
                Then::Close
            }
            Step::Request(_) | Step::Say(_) | Step::Announced { .. } => unreachable!("it has found one"),
        }
    }
}

impl Engine {
    /// A new connection's session, counted in the counters of worker number `worker`.
    ///
    /// # Panics
    /// If there is no such worker: their number is that of `-t`.
    pub fn session(&self, worker: usize) -> Session {
        Session {
            decoder: Decoder::default(),
            counters: Arc::clone(&self.statistics.workers[worker]),
            worker,
            prefixes: Remembered::default(),
            descriptor: 0,
            watched: Streams::NONE,
            reason: Reason::Normal,
            job: None,
            watcher: None,
            typed: Typed::default(),
            rights: None,
            prefix_bytes: 0,
        }
    }
}
