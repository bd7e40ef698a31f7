//! What the engine remembers of one connection between turns.

use std::sync::Arc;

use bytes::Buf;

use crate::clock::Tick;
use crate::engine::access::login::Login;
use crate::engine::access::rights::Rights;
use crate::engine::stats::Counters;
use crate::engine::stats::connections::Reason;
use crate::engine::turn::blocking::Errand;
use crate::engine::turn::long_reply::Job;
use crate::engine::watching::prefixes::Remembered;
use crate::engine::watching::watch::{Streams, Typed, Watcher};
use crate::engine::{Engine, Then, Turn};
use crate::protocol::{Decoder, Owed, Step};

/// What the engine remembers of one connection between turns.
#[derive(Debug)]
pub struct Session {
    pub(in crate::engine) decoder: Decoder,
    pub(in crate::engine) counters: Arc<Counters>,
    pub(in crate::engine) prefixes: Remembered,
    /// What its next turn is for.
    pub(in crate::engine) stage: Stage,
    /// Whether it was logging in during the turn.
    pub(in crate::engine) is_secret: bool,
    /// What is to be done before that, until somebody takes it.
    pub(in crate::engine) errand: Option<Box<dyn Errand>>,
    /// Whether what there is no room for may wait.
    pub(in crate::engine) is_patient: bool,
    /// The number of its worker.
    pub(in crate::engine) worker: usize,
    /// The number of its socket, for people.
    pub(in crate::engine) descriptor: i32,
    /// What anybody watches, as of the beginning of the turn.
    pub(in crate::engine) watched: Streams,
    /// Why its connection will have been closed, if nothing else happens to it.
    pub(in crate::engine) reason: Reason,
    /// Its place among those who watch, once it is one of them.
    pub(in crate::engine) watcher: Option<Watcher>,
    /// What it types while it watches.
    pub(in crate::engine) typed: Typed,
    /// What its user may do; `None` for everything.
    pub(in crate::engine) rights: Option<Arc<Rights>>,
    /// How many bytes its user's prefix has; 0 without one.
    pub(in crate::engine) prefix_bytes: usize,
}

/// What a session's turn is for.
#[derive(Debug)]
pub(in crate::engine) enum Stage {
    /// Requests.
    Serving,
    /// A slice of what goes on over several turns.
    Working(Box<dyn Job>),
    /// Nothing but to log in.
    LoggingIn(Login),
    /// Requests, the first of which there was no room for, and may wait until that tick.
    AwaitingRoom(Tick),
    /// The same in its turn. When that is over, it is a session that serves.
    TryingAgain(Tick),
    /// Nothing: it is on an errand, and will be in that stage again.
    Waiting(Box<Stage>),
    /// The answer to an errand that has run, and then that stage again.
    Answering(Box<dyn Errand>, Box<Stage>),
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

    /// Whether what it sent since this was last asked may hold a password, and must not be shown.
    pub fn take_secrecy(&mut self) -> bool {
        std::mem::take(&mut self.is_secret)
    }

    /// Why the connection is to be closed, after [`Then::Close`].
    pub fn reason(&self) -> Reason {
        self.reason
    }
}

impl Session {
    /// What comes after a step that has found no whole request.
    pub(in crate::engine) fn wait_or_close(&mut self, step: Step<'_>) -> Then {
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
    /// The turn of a session that has something else to do than to serve requests.
    #[cold]
    pub(in crate::engine) fn turn_otherwise(
        &self,
        session: &mut Session,
        input: &[u8],
        owed: &mut Owed,
        now: Tick,
    ) -> Turn {
        let owed_before = owed.remaining();
        let (consumed, then) = match &session.stage {
            Stage::Serving | Stage::AwaitingRoom(_) | Stage::TryingAgain(_) => (0, Then::Again),
            Stage::Working(_) => (0, self.turn_of_job(session, owed, now)),
            Stage::LoggingIn(_) => {
                session.is_secret = true;
                self.turn_of_login(session, input, owed)
            }
            Stage::Waiting(_) => (0, Then::Wait),
            Stage::Answering(..) => (0, self.turn_of_answer(session, owed)),
        };
        session.counters.bytes_read.add(consumed as u64);
        session.counters.bytes_written.add((owed.remaining() - owed_before) as u64);
        Turn { consumed, then, is_long: then == Then::Again }
    }

    fn turn_of_answer(&self, session: &mut Session, owed: &mut Owed) -> Then {
        match std::mem::replace(&mut session.stage, Stage::Serving) {
            Stage::Answering(errand, before) => {
                session.stage = *before;
                errand.finish(self, session, owed);
            }
            stage => session.stage = stage,
        }
        Then::Again
    }

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
            stage: if self.settings.auth_file.is_some() {
                Stage::LoggingIn(Login::default())
            } else {
                Stage::Serving
            },
            is_secret: false,
            errand: None,
            is_patient: false,
            watcher: None,
            typed: Typed::default(),
            rights: None,
            prefix_bytes: 0,
        }
    }
}
