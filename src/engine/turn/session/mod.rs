//! What the engine remembers of one connection between turns: a state machine.
//!
//! | stage | its turn | then | becomes |
//! |---|---|---|---|
//! | `LoggingIn` | looks for a login, and nothing else | `Read`, `Again` or `Close`; `Wait` to verify a slow hash | `Serving` once logged in; `Blocked` |
//! | `Serving` | decodes and executes requests | as they say, see [`Then`] | `Replying`, `Blocked`, `Retrying` by what a request begins; `LoggingIn` by a second login |
//! | `Replying` | words the next slice of a `LongReply` and uses up no input | `Again` | `Serving` after the last slice |
//! | `Blocked` | nothing: a [`BlockingTask`] has been left for the connection to run | `Wait` | `Answering` by [`Session::give_back`] |
//! | `Answering` | words the answer of the task | `Again` | `Serving`, or `LoggingIn` while nobody is logged in |
//! | `Retrying` | is one that serves, and begins with the store that found no memory | `Retry` until there is memory, or the time is over | `Serving` |
//!
//! **Retries.** Large values that clients are owed and no item has any more take memory that no eviction frees, and from
//! some amount on the store refuses new ones. But slow clients are closed soon after that. So a store that was refused
//! for this reason has not happened: its turn ends before it with [`Then::Retry`], and it is tried again a tick later,
//! for `RETRY_TICKS_MAX`. It waits in the connection's buffer, and everything behind it does, too.

use std::sync::Arc;

use bytes::Buf;

use super::blocking::BlockingTask;
use super::long_reply::{LongReply, Progress};
use super::then::{Reason, Then, Turn};
use crate::clock::{TICKS_PER_SECOND, Tick};
use crate::engine::Engine;
use crate::engine::access::attempts::Attempts;
use crate::engine::access::rights::{Granted, Rights};
use crate::engine::stats::Counters;
use crate::engine::watching::SessionWatching;
use crate::protocol::{Decoder, Owed, PutMode, Step};
use crate::settings::Protocol;

/// For how long one store is retried, in ticks: a second. A client that stalls is closed after three tenths of one.
const RETRY_TICKS_MAX: u32 = TICKS_PER_SECOND;

/// A store that is to be retried, because slow clients will be closed and free memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) struct RetryLater;

/// What the engine remembers of one connection between turns.
#[derive(Debug)]
pub struct Session {
    stage: Stage,
    decoder: Decoder,
    counters: Arc<Counters>,
    /// Its attempts to log in, until one succeeds.
    login: Option<Box<Attempts>>,
    /// Whether it was logging in during the turn.
    is_secret: bool,
    /// Whether it was throwing away a packet when its secrecy was last asked for.
    discards_packet: bool,
    /// Whether its stores may be retried.
    is_patient: bool,
    /// Whether the last value that had not arrived in full is to be stored as it is, not added to another.
    awaits_whole_value: bool,
    /// The number of its worker.
    worker: usize,
    /// The number of its socket, for people.
    descriptor: i32,
    /// Why its connection will have been closed, if nothing else happens to it.
    reason: Reason,
    granted: Granted,
    watching: SessionWatching,
}

/// What a session's next turn is for; the table at the head of this file tells how one becomes another.
#[derive(Debug)]
enum Stage {
    LoggingIn,
    Serving,
    Replying(Box<dyn LongReply>),
    /// The task is there until the connection takes it.
    Blocked(Option<Box<dyn BlockingTask>>),
    Answering(Box<dyn BlockingTask>),
    Retrying {
        until: Tick,
        /// Whether that is what this turn, or the last one, began with.
        is_now: bool,
    },
}

/// How the connection makes a session, and what it asks of it.
impl Session {
    /// The same session, of the connection with socket number `descriptor`.
    #[must_use]
    pub fn with_descriptor(mut self, descriptor: i32) -> Session {
        self.descriptor = descriptor;
        self
    }

    /// The same session, whose client may speak `protocol`, whatever `-B` says.
    #[must_use]
    pub fn speaking(mut self, protocol: Protocol) -> Session {
        self.decoder = Decoder::new(protocol);
        self
    }

    /// The same session, whose turns may end with [`Then::Retry`]. Otherwise a store that finds no memory is refused at
    /// once.
    #[must_use]
    pub fn patient(mut self) -> Session {
        self.is_patient = true;
        self
    }

    /// Grants it `rights`, and nothing else, from its next turn on. A new session may do everything.
    pub fn set_rights(&mut self, rights: Arc<Rights>) {
        self.granted = Granted::new(rights);
    }

    /// Whether what it sent since this was last asked may hold a password, and must not be shown.
    pub fn take_secrecy(&mut self) -> bool {
        // What is thrown away may be the rest of a login.
        let discards = self.decoder.discards_packet();
        let discarded = std::mem::replace(&mut self.discards_packet, discards);
        std::mem::take(&mut self.is_secret) || discards || discarded
    }

    /// Whether the value that it awaits is to be stored as it is: then it is worth reading the request into a block of the
    /// store ([`Engine::lend`]).
    pub fn awaits_whole_value(&self) -> bool {
        self.awaits_whole_value
    }

    /// Why the connection is to be closed, after [`Then::Close`].
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// Whether a long reply or a task is under way, so that turns may achieve something without consuming or saying
    /// anything.
    pub fn is_at_work(&self) -> bool {
        !matches!(self.stage, Stage::Serving | Stage::LoggingIn)
    }

    /// The task to be run before the next turn, once a turn has ended with [`Then::Wait`].
    pub fn take_task(&mut self) -> Option<Box<dyn BlockingTask>> {
        match &mut self.stage {
            Stage::Blocked(task) => task.take(),
            _ => None,
        }
    }

    /// Takes `task` back, which was run or given up; the next turn begins with its answer.
    pub fn give_back(&mut self, task: Box<dyn BlockingTask>) {
        if let Stage::Blocked(_) = self.stage {
            self.stage = Stage::Answering(task);
        }
    }

    /// Runs its task here and now, without any pause: for tests and tools, which have nobody to hold up.
    pub fn run_task(&mut self) {
        if let Some(mut task) = self.take_task() {
            task.run();
            self.give_back(task);
        }
    }
}

/// What the engine's wings ask of it.
impl Session {
    /// The counters of its worker.
    #[inline]
    pub(in crate::engine) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The number of its worker.
    pub(in crate::engine) fn worker(&self) -> usize {
        self.worker
    }

    /// The number of its socket, for people.
    pub(in crate::engine) fn descriptor(&self) -> i32 {
        self.descriptor
    }

    /// What its user may do.
    #[inline]
    pub(in crate::engine) fn granted(&self) -> &Granted {
        &self.granted
    }

    /// Its part in `watch` and in counting by prefix.
    #[inline]
    pub(in crate::engine) fn watching(&self) -> &SessionWatching {
        &self.watching
    }

    pub(in crate::engine) fn watching_mut(&mut self) -> &mut SessionWatching {
        &mut self.watching
    }

    pub(in crate::engine) fn decoder(&mut self) -> &mut Decoder {
        &mut self.decoder
    }

    /// Its attempts to log in; `None` once it may do something else.
    pub(in crate::engine) fn login(&mut self) -> Option<&mut Attempts> {
        self.login.as_deref_mut()
    }
}

/// The transitions.
impl Session {
    /// Logged in: serves from now on what `rights` allow.
    pub(in crate::engine) fn admit(&mut self, rights: Arc<Rights>) {
        self.set_rights(rights);
        self.login = None;
        self.stage = Stage::Serving;
    }

    /// Logged out: serves nothing until it has logged in again. What it sends now is secret.
    pub(in crate::engine) fn log_out(&mut self) {
        self.granted = Granted::default();
        self.login.get_or_insert_default().forget_challenge();
        self.stage = Stage::LoggingIn;
        self.keep_secret();
    }

    /// What it sends in this turn may hold a password.
    pub(in crate::engine) fn keep_secret(&mut self) {
        self.is_secret = true;
    }

    /// Words `reply` in the turns to come, before it serves again.
    pub(in crate::engine) fn reply_at_length(&mut self, reply: impl LongReply + 'static) -> Then {
        self.stage = Stage::Replying(Box::new(reply));
        Then::Again
    }

    /// Leaves `task` to the connection, and answers once it has run.
    pub(in crate::engine) fn block_on(&mut self, task: impl BlockingTask + 'static) -> Then {
        self.stage = Stage::Blocked(Some(Box::new(task)));
        Then::Wait
    }

    /// Begins the next turn with the store that found no memory at `now`.
    #[cold]
    pub(super) fn retry(&mut self, now: Tick) -> Then {
        self.stage = Stage::Retrying { until: self.retries_until(now), is_now: false };
        Then::Retry
    }

    /// Ends with the connection, for `reason`.
    pub(in crate::engine) fn close(&mut self, reason: Reason) -> Then {
        self.reason = reason;
        Then::Close
    }

    /// Waits for the `bytes` of a request that stores a value in this mode.
    pub(super) fn wait_for_value(&mut self, mode: PutMode, bytes: usize) -> Then {
        self.awaits_whole_value = !matches!(mode, PutMode::Append | PutMode::Prepend);
        Then::Read { bytes_min: bytes }
    }

    /// What comes after `step`, which has found no whole request.
    pub(in crate::engine) fn wait_or_close(&mut self, step: Step<'_>) -> Then {
        match step {
            Step::Incomplete { bytes_min } => Then::Read { bytes_min },
            Step::Hopeless => self.close(Reason::Error),
            Step::Request(_) | Step::Say(_) | Step::Announced { .. } => unreachable!("it has found one"),
        }
    }

    /// Whether it serves in this turn; a retry begins, or is over, with it.
    #[inline]
    pub(super) fn serves(&mut self) -> bool {
        matches!(self.stage, Stage::Serving) || self.begins_retry()
    }

    #[cold]
    fn begins_retry(&mut self) -> bool {
        self.stage = match self.stage {
            Stage::Retrying { until, is_now: false } => Stage::Retrying { until, is_now: true },
            Stage::Retrying { is_now: true, .. } => Stage::Serving,
            _ => return false,
        };
        true
    }

    /// Until when a store that finds no memory at `now` is retried.
    fn retries_until(&self, now: Tick) -> Tick {
        match self.stage {
            Stage::Retrying { until, is_now: true } => until,
            _ => Tick(now.0.saturating_add(RETRY_TICKS_MAX)),
        }
    }

    /// The stage of a session that is free again.
    fn free(&self) -> Stage {
        if self.login.is_some() { Stage::LoggingIn } else { Stage::Serving }
    }
}

impl Engine {
    /// A new connection's session, counted in the counters of worker number `worker`.
    ///
    /// # Panics
    /// If there is no such worker: their number is that of `-t`.
    pub fn session(&self, worker: usize) -> Session {
        let login = self.settings().asks_for_password().then(Box::default);
        Session {
            stage: if login.is_some() { Stage::LoggingIn } else { Stage::Serving },
            decoder: Decoder::new(self.settings().protocol),
            counters: Arc::clone(&self.statistics().workers[worker]),
            login,
            is_secret: false,
            discards_packet: false,
            is_patient: false,
            awaits_whole_value: false,
            worker,
            descriptor: 0,
            reason: Reason::Normal,
            granted: Granted::default(),
            watching: SessionWatching::default(),
        }
    }

    /// The turn of a session that has something else to do than to serve requests.
    #[cold]
    pub(super) fn turn_otherwise(
        &self,
        session: &mut Session,
        input: &[u8],
        owed: &mut Owed,
        now: Tick,
    ) -> Turn {
        let owed_before = owed.remaining();
        let (consumed, then) = match &mut session.stage {
            Stage::Serving | Stage::Retrying { .. } => (0, Then::Again),
            Stage::Replying(reply) => {
                if reply.go_on(self, owed, now) == Progress::Done {
                    session.stage = Stage::Serving;
                }
                (0, Then::Again)
            }
            Stage::LoggingIn => {
                session.is_secret = true;
                self.turn_of_login(session, input, owed)
            }
            Stage::Blocked(_) => (0, Then::Wait),
            Stage::Answering(_) => {
                let free = session.free();
                if let Stage::Answering(task) = std::mem::replace(&mut session.stage, free) {
                    task.finish(self, session, owed);
                }
                (0, Then::Again)
            }
        };
        session.counters.bytes_read.add(consumed as u64);
        session.counters.bytes_written.add((owed.remaining() - owed_before) as u64);
        Turn { consumed, then, is_long: then == Then::Again }
    }

    /// Whether a store that finds no memory at `now` is to be retried: slow clients hold more than they may, so some will
    /// be closed.
    #[cold]
    pub(in crate::engine) fn is_memory_to_come(&self, session: &Session, now: Tick) -> bool {
        session.is_patient && now < session.retries_until(now) && self.store().pinned_excess_bytes() > 0
    }
}

#[cfg(test)]
mod tests;
