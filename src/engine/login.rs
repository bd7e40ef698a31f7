//! Logging in: the one thing that a session may do before anything else, where there is a file of users.
//!
//! Rules:
//! - whatever can be told in microseconds is told at once; the rest, and every refusal, is an errand;
//! - a refusal comes late, and later each time in a row, for those who mistype and for simple robots. Who does not wait for
//!   it but connects anew is slowed down only where passwords are hashed with argon2, by these being verified one at a
//!   time: success comes at once, so a client need not be told to know that it was wrong.

use std::fmt;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Buf;

use super::auth::{Token, Users};
use super::errand::Errand;
use super::rights::Rights;
use super::roster::Reason;
use super::session::Stage;
use super::{Engine, OWED_BYTES_MAX, Session, Then};
use crate::protocol::{LoginStep, Owed, login_step, reply};

/// How long the first refusal on a connection takes. Short enough not to annoy who mistypes, and long enough that a
/// client that listens has ten guesses a second at most.
const REFUSAL_PAUSE_MIN: Duration = Duration::from_millis(100);

/// How long a refusal takes at most: each takes twice as long as the one before, up to this.
const REFUSAL_PAUSE_MAX: Duration = Duration::from_millis(3200);

/// What a session knows of its attempts to log in.
#[derive(Debug, Default)]
pub(super) struct Login {
    /// Refusals so far.
    refusals: u32,
    /// How many bytes of a value that is too long are still to be thrown away.
    unwanted: u64,
}

impl Engine {
    /// Has these users log in from now on, and no others. Sessions that have logged in go on as they are.
    pub fn set_users(&self, users: Users) {
        *self.users.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(users);
    }

    fn users(&self) -> Arc<Users> {
        Arc::clone(&self.users.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// A turn of a session that has not logged in: how many bytes of input it used up, and what comes then.
    pub(super) fn turn_of_login(
        &self,
        session: &mut Session,
        input: &[u8],
        owed: &mut Owed,
    ) -> (usize, Then) {
        let owed_max = owed.remaining() + OWED_BYTES_MAX;
        let mut consumed = 0;
        for _ in 0..self.settings.requests_per_event {
            let Stage::LoggingIn(login) = &mut session.stage else { break };
            let rest = &input[consumed..];
            if login.unwanted > 0 {
                let used = usize::try_from(login.unwanted).unwrap_or(usize::MAX).min(rest.len());
                login.unwanted -= used as u64;
                consumed += used;
                if login.unwanted > 0 {
                    return (consumed, Then::Read { bytes_min: 1 });
                }
                continue;
            }
            let (step, used) = login_step(rest);
            consumed += used;
            match step {
                LoginStep::Incomplete { bytes_min } => return (consumed, Then::Read { bytes_min }),
                LoginStep::Hopeless => {
                    session.reason = Reason::Error;
                    return (consumed, Then::Close);
                }
                LoginStep::Say(words) => owed.say(words),
                LoginStep::TooLong(bytes) => {
                    login.unwanted = bytes + 2;
                    owed.say(reply::AUTH_TOKEN_TOO_LONG);
                }
                LoginStep::Token(text) => {
                    if let Some(then) = self.log_in(session, text, owed) {
                        return (consumed, then);
                    }
                }
            }
            if owed.remaining() >= owed_max {
                break;
            }
        }
        (consumed, if consumed < input.len() { Then::Again } else { Then::Read { bytes_min: 1 } })
    }

    /// Logs the session in with `text`, or has that looked into.
    fn log_in(&self, session: &mut Session, text: &[u8], owed: &mut Owed) -> Option<Then> {
        let Some(token) = Token::parse(text) else {
            owed.say(reply::BAD_AUTH_TOKEN);
            return None;
        };
        session.counters.auth_cmds.add(1);
        let users = self.users();
        let text = token.kept();
        if let Some(rights) = Token::parse(&text).and_then(|token| users.verify_at_once(token)) {
            session.admit(rights, owed);
            return None;
        }
        let Stage::LoggingIn(Login { refusals, .. }) = session.stage else { return None };
        Some(session.send(Attempt { users, text, refusals, verdict: Verdict::Open }))
    }
}

impl Session {
    /// Has it do from now on what `rights` say.
    fn admit(&mut self, rights: Arc<Rights>, owed: &mut Owed) {
        self.set_rights(rights);
        self.stage = Stage::Serving;
        owed.say(reply::STORED);
    }
}

/// An attempt to log in that takes time.
struct Attempt {
    users: Arc<Users>,
    text: Box<[u8]>,
    /// How many on this connection were refused before.
    refusals: u32,
    verdict: Verdict,
}

enum Verdict {
    Open,
    Refused,
    Admitted(Arc<Rights>),
}

impl Errand for Attempt {
    fn run(&mut self) {
        let rights = Token::parse(&self.text).and_then(|token| self.users.verify(token));
        self.verdict = rights.map_or(Verdict::Refused, Verdict::Admitted);
    }

    fn pause(&self) -> Duration {
        match self.verdict {
            Verdict::Refused => {
                let doubled = 2u32.saturating_pow(self.refusals);
                REFUSAL_PAUSE_MIN.saturating_mul(doubled).min(REFUSAL_PAUSE_MAX)
            }
            Verdict::Open | Verdict::Admitted(_) => Duration::ZERO,
        }
    }

    fn finish(self: Box<Self>, _: &Engine, session: &mut Session, owed: &mut Owed) {
        match self.verdict {
            Verdict::Admitted(rights) => return session.admit(rights, owed),
            Verdict::Open => owed.say(reply::TOO_MANY_LOGINS),
            Verdict::Refused => {
                if let Stage::LoggingIn(login) = &mut session.stage {
                    login.refusals = login.refusals.saturating_add(1);
                }
                owed.say(reply::AUTH_FAILURE);
            }
        }
        session.counters.auth_errors.add(1);
    }
}

impl fmt::Debug for Attempt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Attempt").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Epoch;
    use crate::engine::settings::Settings;

    #[test]
    fn each_refusal_takes_twice_as_long_up_to_the_longest() {
        let pause = |refusals| {
            let users = Arc::new(Users::default());
            Attempt { users, text: Box::default(), refusals, verdict: Verdict::Refused }.pause()
        };
        for (refusals, milliseconds) in
            [(0, 100), (1, 200), (4, 1600), (5, 3200), (6, 3200), (u32::MAX, 3200)]
        {
            assert_eq!(pause(refusals), Duration::from_millis(milliseconds), "{refusals}");
        }
    }

    #[test]
    fn one_that_nobody_had_time_for_is_told_so_and_may_try_again() {
        let (epoch, now) = Epoch::starting_at(1_700_000_000);
        let engine = Engine::new(Settings { auth_file: Some("users".into()), ..Settings::default() }, epoch);
        engine.set_users(Users::parse(b"ann:sesame").unwrap());
        let mut session = engine.session(0);
        let mut owed = Owed::default();
        let turn = engine.turn(&mut session, b"set a 0 0 9\r\nann wrong\r\n", &mut owed, now);
        assert_eq!(turn.then, Then::Wait);
        let never_run = session.take_errand().unwrap();
        session.give_back(never_run);
        engine.turn(&mut session, b"", &mut owed, now);
        engine.turn(&mut session, b"set a 0 0 10\r\nann sesame\r\n", &mut owed, now);
        let said = String::from_utf8(owed.into_bytes().to_vec()).unwrap();
        assert_eq!(said, "SERVER_ERROR too many clients log in at once, try again later\r\nSTORED\r\n");
    }
}
