//! Logging in for a page that names keys, by HTTP's basic authentication: the users and their passwords are those of the
//! sessions, and so are the pauses behind refusals (see [`login`](super::login)).

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::login::{CurrentUsers, Verdict, current, refusal_pause, verdict};
use super::rights::{Allowed, Rights};
use super::users::{Credentials, USER_LINE_BYTES_MAX};
use crate::engine::turn::blocking::{BlockingTask, Kind};
use crate::engine::{Engine, Session};
use crate::protocol::Owed;

/// What base64 makes of the longest user and password that there can be.
const BASE64_BYTES_MAX: usize = USER_LINE_BYTES_MAX.div_ceil(3) * 4;

/// How an attempt to see a page ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageAccess {
    /// The page may be shown.
    Granted,
    /// Nobody has said who asks: no attempt was counted.
    Missing,
    /// There is no such user, or the password is another.
    Refused,
    /// The user may only see keys of a prefix, and pages show all.
    NotByPrefix,
    /// There was no time to find out; the client may try again.
    Busy,
}

/// How an attempt goes on.
#[derive(Debug)]
pub enum PageLogin {
    /// It is over.
    Over(PageAccess),
    /// The task is to be run where it may take its time, and its pause kept; then [`PageAttempt::finish`].
    Verify(Box<dyn BlockingTask>, PageAttempt),
}

/// An attempt that takes time.
#[derive(Debug)]
pub struct PageAttempt(Arc<Shared>);

struct Shared {
    users: CurrentUsers,
    credentials: Credentials,
    refusals: u32,
    verdict: Mutex<Verdict>,
}

#[derive(Debug)]
struct Task(Arc<Shared>);

impl Engine {
    /// Whether whoever may send this `Authorization` header may see a page that names keys; `refusals` were refused in
    /// a row before.
    pub fn page_login(&self, authorization: Option<&[u8]>, refusals: u32) -> PageLogin {
        if !self.settings().asks_for_password() {
            return PageLogin::Over(PageAccess::Granted);
        }
        let Some(authorization) = authorization else { return PageLogin::Over(PageAccess::Missing) };
        self.connections().page_logins.fetch_add(1, Ordering::Relaxed);
        // What is no login is refused as slowly as a wrong one.
        let credentials = credentials(authorization).unwrap_or_default();
        if let Some(rights) = current(self.users()).verify_at_once(&credentials) {
            return PageLogin::Over(granted(&rights));
        }
        let users = Arc::clone(self.users());
        let verdict = Mutex::new(Verdict::Undecided);
        let shared = Arc::new(Shared { users, credentials, refusals, verdict });
        PageLogin::Verify(Box::new(Task(Arc::clone(&shared))), PageAttempt(shared))
    }
}

/// The user and password of `Basic dXNlcjpwYXNzd29yZA==`.
fn credentials(authorization: &[u8]) -> Option<Credentials> {
    let (scheme, encoded) = authorization.split_at_checked(6)?;
    let encoded = encoded.trim_ascii();
    if !scheme.eq_ignore_ascii_case(b"Basic ") || encoded.len() > BASE64_BYTES_MAX {
        return None;
    }
    let mut plain = [0; BASE64_BYTES_MAX];
    let length = STANDARD.decode_slice(encoded, &mut plain).ok()?;
    let plain = &plain[..length];
    let colon = plain.iter().position(|byte| *byte == b':')?;
    Some(Credentials::of_pair(&plain[..colon], &plain[colon + 1..]))
}

fn granted(rights: &Rights) -> PageAccess {
    match Allowed::Overseers.refusal(rights) {
        None => PageAccess::Granted,
        Some(_) => PageAccess::NotByPrefix,
    }
}

impl PageAttempt {
    /// How it ended, once its task has run or was given up; counts it.
    pub fn finish(self, engine: &Engine) -> PageAccess {
        let access = match &*self.0.verdict() {
            Verdict::Admitted(rights) => return granted(rights),
            Verdict::Refused => PageAccess::Refused,
            Verdict::Undecided => PageAccess::Busy,
        };
        engine.connections().page_logins_failed.fetch_add(1, Ordering::Relaxed);
        access
    }
}

impl Shared {
    fn verdict(&self) -> std::sync::MutexGuard<'_, Verdict> {
        self.verdict.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BlockingTask for Task {
    fn kind(&self) -> Kind {
        Kind::Computing
    }

    fn run(&mut self) {
        let found = verdict(&self.0.credentials, || current(&self.0.users));
        *self.0.verdict() = found;
    }

    fn pause(&self) -> Duration {
        match *self.0.verdict() {
            Verdict::Refused => refusal_pause(self.0.refusals),
            Verdict::Undecided | Verdict::Admitted(_) => Duration::ZERO,
        }
    }

    /// There is no session to answer: [`PageAttempt::finish`] tells the result.
    fn finish(self: Box<Self>, _: &Engine, _: &mut Session, _: &mut Owed) {}
}

impl fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Shared").finish_non_exhaustive()
    }
}
