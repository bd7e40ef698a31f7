//! Logging in: where there are users, a session has to do that before anything else.
//!
//! Rules:
//! - a password that can be verified in microseconds is, at once; an argon2 hash, and every refusal, is a blocking
//!   task;
//! - a refusal is delayed, twice as long each time in a row. That slows down whoever guesses on one connection. A
//!   client that gives up waiting and connects anew is slowed down only by argon2, of which one is computed at a time:
//!   as success comes at once, no reply tells it enough.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Buf;

use crate::engine::access::rights::Rights;
use crate::engine::access::users::{Credentials, Users};
use crate::engine::turn::blocking::{BlockingTask, Kind};
use crate::engine::turn::then::Reason;
use crate::engine::{Engine, OWED_BYTES_MAX, Session, Then};
use crate::protocol::{LoginStep, Owed, Style, login_step, reply};

/// How long the first refusal on a connection takes: too short to annoy a person who mistypes, and long enough that a
/// client that waits for its replies has ten guesses a second at most.
const REFUSAL_PAUSE_MIN: Duration = Duration::from_millis(100);

/// How long a refusal takes at most: each takes twice as long as the one before, up to this.
const REFUSAL_PAUSE_MAX: Duration = Duration::from_millis(3200);

/// How often a password is verified anew because the users have changed meanwhile, before the client is told to try
/// again.
const VERIFICATIONS_MAX: usize = 4;

/// Those who may log in now.
pub(in crate::engine) type CurrentUsers = Arc<RwLock<Arc<Users>>>;

impl Engine {
    /// Replaces those who may log in. It holds for logins that are being verified, too. Sessions that have logged in
    /// keep their rights.
    pub fn set_users(&self, users: Users) {
        *self.users().write().unwrap_or_else(PoisonError::into_inner) = Arc::new(users);
    }

    /// A turn of a session that has not logged in, by the protocol that it speaks. Returns how many bytes of input it has
    /// used up, and what comes next.
    pub(in crate::engine) fn turn_of_login(
        &self,
        session: &mut Session,
        input: &[u8],
        owed: &mut Owed,
    ) -> (usize, Then) {
        if session.decoder().speaks_packets(input) {
            return self.turn_of_sasl(session, input, owed);
        }
        let owed_max = owed.remaining() + OWED_BYTES_MAX;
        let mut consumed = 0;
        for _ in 0..self.settings().requests_per_event {
            let Some(login) = session.login() else { break };
            let rest = &input[consumed..];
            if login.discard_bytes > 0 {
                let used = usize::try_from(login.discard_bytes).unwrap_or(usize::MAX).min(rest.len());
                login.discard_bytes -= used as u64;
                consumed += used;
                if login.discard_bytes > 0 {
                    return (consumed, Then::Read { bytes_min: 1 });
                }
                continue;
            }
            let (step, used) = login_step(rest);
            consumed += used;
            match step {
                LoginStep::Incomplete { bytes_min } => return (consumed, Then::Read { bytes_min }),
                LoginStep::Hopeless => {
                    return (consumed, session.close(Reason::Error));
                }
                LoginStep::Say(words) => owed.say(words),
                LoginStep::TooLong(bytes) => {
                    login.discard_bytes = bytes + 2;
                    owed.say(reply::AUTH_TOKEN_TOO_LONG);
                }
                LoginStep::Token(text) => match Credentials::of_text(text) {
                    None => owed.say(reply::BAD_AUTH_TOKEN),
                    Some(credentials) => {
                        let then = self.log_in(session, Some(credentials), Style::Classic, owed);
                        return (consumed, then);
                    }
                },
            }
            if owed.remaining() >= owed_max {
                break;
            }
        }
        (consumed, if consumed < input.len() { Then::Again } else { Then::Read { bytes_min: 1 } })
    }

    /// Logs the session in with `credentials`, or starts the task that verifies them; `None` are refused. Answers in
    /// `style`.
    pub(super) fn log_in(
        &self,
        session: &mut Session,
        credentials: Option<Credentials>,
        style: Style<'static>,
        owed: &mut Owed,
    ) -> Then {
        let credentials = credentials.unwrap_or_default();
        if let Some(rights) = current(self.users()).verify_at_once(&credentials) {
            return self.admit(session, rights, style, owed);
        }
        session.counters().auth_cmds.add(1);
        let users = Arc::clone(self.users());
        let refusals = session.login().map_or(0, |login| login.refusals);
        session.block_on(Attempt { users, credentials, style, refusals, verdict: Verdict::Undecided })
    }

    /// Logs the session in with `rights`, and says so in `style`.
    pub(super) fn admit(
        &self,
        session: &mut Session,
        rights: Arc<Rights>,
        style: Style<'static>,
        owed: &mut Owed,
    ) -> Then {
        session.counters().auth_cmds.add(1);
        admit(session, rights, style, owed);
        Then::Again
    }
}

/// The users as they are now: logins under way keep those they have begun with.
pub(super) fn current(users: &RwLock<Arc<Users>>) -> Arc<Users> {
    Arc::clone(&users.read().unwrap_or_else(PoisonError::into_inner))
}

/// Tells the client of `session` that it is logged in.
fn admit(session: &mut Session, rights: Arc<Rights>, style: Style<'static>, owed: &mut Owed) {
    session.admit(rights);
    style.say_logged_in(owed);
}

/// An attempt to log in that takes time.
struct Attempt {
    users: CurrentUsers,
    credentials: Credentials,
    /// In whose words it is answered.
    style: Style<'static>,
    /// How many on this connection were refused before.
    refusals: u32,
    verdict: Verdict,
}

pub(super) enum Verdict {
    Undecided,
    Refused,
    Admitted(Arc<Rights>),
}

/// How long a refusal takes that comes after so many others on its connection.
pub(super) fn refusal_pause(refusals: u32) -> Duration {
    REFUSAL_PAUSE_MIN.saturating_mul(2u32.saturating_pow(refusals)).min(REFUSAL_PAUSE_MAX)
}

/// Verifies `credentials` with the users there are at the end; `users` returns those there are now.
pub(super) fn verdict(credentials: &Credentials, users: impl Fn() -> Arc<Users>) -> Verdict {
    for _ in 0..VERIFICATIONS_MAX {
        let found = users();
        let rights = found.verify(credentials);
        // Verifying takes long: a password that was removed meanwhile must not be accepted.
        if Arc::ptr_eq(&found, &users()) {
            return rights.map_or(Verdict::Refused, Verdict::Admitted);
        }
    }
    Verdict::Undecided
}

impl BlockingTask for Attempt {
    fn kind(&self) -> Kind {
        Kind::Computing
    }

    fn run(&mut self) {
        self.verdict = verdict(&self.credentials, || current(&self.users));
    }

    fn pause(&self) -> Duration {
        match self.verdict {
            Verdict::Refused => refusal_pause(self.refusals),
            Verdict::Undecided | Verdict::Admitted(_) => Duration::ZERO,
        }
    }

    fn finish(self: Box<Self>, _: &Engine, session: &mut Session, owed: &mut Owed) {
        match self.verdict {
            Verdict::Admitted(rights) => return admit(session, rights, self.style, owed),
            Verdict::Undecided => self.style.say_too_many_logins(owed),
            Verdict::Refused => {
                if let Some(login) = session.login() {
                    login.refusals = login.refusals.saturating_add(1);
                }
                self.style.say_login_refused(owed);
            }
        }
        session.counters().auth_errors.add(1);
    }
}

impl fmt::Debug for Attempt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Attempt").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Buf;

    use super::*;
    use crate::clock::Epoch;
    use crate::settings::Settings;

    /// "password" with as little of argon2 as there can be.
    const QUICK: &str = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$";

    #[test]
    fn each_refusal_takes_twice_as_long_up_to_the_longest() {
        let pause = |refusals| {
            let users = CurrentUsers::default();
            let (credentials, style) = (Credentials::default(), Style::Classic);
            Attempt { users, credentials, style, refusals, verdict: Verdict::Refused }.pause()
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
        let never_run = session.take_task().unwrap();
        session.give_back(never_run);
        engine.turn(&mut session, b"", &mut owed, now);
        engine.turn(&mut session, b"set a 0 0 10\r\nann sesame\r\n", &mut owed, now);
        let said = String::from_utf8(owed.into_bytes().to_vec()).unwrap();
        assert_eq!(said, "SERVER_ERROR too many clients log in at once, try again later\r\nSTORED\r\n");
    }

    #[test]
    fn whose_password_is_taken_away_while_it_waits_is_not_let_in() {
        let (epoch, tick) = Epoch::starting_at(1_700_000_000);
        let engine = Engine::new(Settings { auth_file: Some("users".into()), ..Settings::default() }, epoch);
        let hash = {
            let params = argon2::Params::new(8, 1, 1, None).unwrap();
            let argon2 = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
            let mut hash = [0; 32];
            argon2.hash_password_into(b"password", b"somesalt", &mut hash).unwrap();
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD_NO_PAD.encode(hash)
        };
        let users = |rights| Users::parse(format!("ann:{QUICK}{hash}:{rights}\n").as_bytes()).unwrap();
        let input = b"set auth 0 0 12\r\nann password\r\n";
        for (after, said) in
            [(users("ro"), &b"STORED\r\n"[..]), (Users::parse(b"bob:x\n").unwrap(), reply::AUTH_FAILURE)]
        {
            engine.set_users(users("rw"));
            let (mut session, mut owed) = (engine.session(0), Owed::default());
            let turn = engine.turn(&mut session, input, &mut owed, tick);
            assert_eq!((turn.then, owed.remaining()), (Then::Wait, 0));
            engine.set_users(after);
            session.run_task();
            engine.turn(&mut session, b"", &mut owed, tick);
            assert_eq!(owed.into_bytes(), said);
            assert!(
                session.granted().limits().is_none_or(|rights| !rights.may_write()),
                "those of the new file"
            );
        }
    }

    #[test]
    fn one_whose_file_is_another_each_time_it_is_looked_at_may_try_again() {
        let looks = std::cell::Cell::new(0);
        let another = || {
            looks.set(looks.get() + 1);
            Arc::new(Users::parse(b"ann:sesame").unwrap())
        };
        let credentials = Credentials::of_text(b"ann sesame").unwrap();
        assert!(matches!(verdict(&credentials, another), Verdict::Undecided));
        assert_eq!(looks.get(), 2 * VERIFICATIONS_MAX);
    }
}
