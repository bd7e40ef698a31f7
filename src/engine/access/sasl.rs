//! Logging in by packets of SASL (`-S`): PLAIN, and CRAM-MD5 where every password is known as it was written.
//!
//! Rules:
//! - users, rights, delays and counters are those of a text login;
//! - before a client has logged in, only packets of SASL and `Version` are answered; any other closes the connection;
//! - a second login on the same connection takes the first one back, and whoever fails has none.

use bytes::Buf;

use crate::engine::access::login::current;
use crate::engine::access::users::{Credentials, Users};
use crate::engine::turn::then::Reason;
use crate::engine::{Engine, OWED_BYTES_MAX, Session, Then};
use crate::protocol::{Control, Owed, Packet, Request, Status, Step, Style};
use crate::settings::VERSION;

/// The name of a mechanism in which the client sends user and password (RFC 4616).
const PLAIN: &[u8] = b"PLAIN";
/// The name of a mechanism in which the client shows that it knows the password (RFC 2195).
const CRAM_MD5: &[u8] = b"CRAM-MD5";

/// The length of a digest of CRAM-MD5, in bytes; it is sent in hexadecimal digits.
const DIGEST_BYTES: usize = 16;

impl Engine {
    /// A turn of a session that has not logged in and speaks the binary protocol. Returns how many bytes of input it has
    /// used up, and what comes next.
    pub(in crate::engine) fn turn_of_sasl(
        &self,
        session: &mut Session,
        input: &[u8],
        owed: &mut Owed,
    ) -> (usize, Then) {
        let owed_max = owed.remaining() + OWED_BYTES_MAX;
        let mut consumed = 0;
        for _ in 0..self.settings().requests_per_event {
            let (step, used) = session.decoder().step(&input[consumed..]);
            consumed += used;
            let (packet, control) = match step {
                Step::Request(Request::Control { packet, control }) => (packet, Some(control)),
                Step::Request(request) => (packet_of(&request), None),
                Step::Announced { put, .. } => (packet_of(&Request::Put(put)), None),
                Step::Say(_) => continue,
                Step::Incomplete { .. } | Step::Hopeless => return (consumed, session.wait_or_close(step)),
            };
            let then = match control {
                Some(Control::Version) => {
                    owed.say_success(packet, 0, VERSION.as_bytes());
                    None
                }
                Some(Control::Refused { status, closes })
                    if packet.may_precede_login() || status == Status::UnknownCommand && closes =>
                {
                    owed.say_status(packet, status, None);
                    closes.then(|| session.close(Reason::Error))
                }
                Some(control) if packet.may_precede_login() => self.sasl(session, packet, control, owed),
                _ => {
                    owed.say_status(packet, Status::AuthError, None);
                    Some(session.close(Reason::Error))
                }
            };
            if let Some(then) = then {
                return (consumed, then);
            }
            if owed.remaining() >= owed_max {
                break;
            }
        }
        (consumed, if consumed < input.len() { Then::Again } else { Then::Read { bytes_min: 1 } })
    }

    /// Takes the login of the session back, because it has sent a packet of SASL that is refused for its form.
    pub(in crate::engine) fn refuse_login(&self, session: &mut Session) {
        session.keep_secret();
        if self.settings().sasl_enabled {
            session.log_out();
        }
    }

    /// Does what a packet of SASL asks for.
    pub(in crate::engine) fn sasl(
        &self,
        session: &mut Session,
        packet: Packet,
        control: Control<'_>,
        owed: &mut Owed,
    ) -> Option<Then> {
        if packet.is_login() {
            session.keep_secret();
        }
        if !self.settings().sasl_enabled {
            owed.say_status(packet, Status::UnknownCommand, None);
            return None;
        }
        let users = current(self.users());
        match control {
            Control::SaslAuth { mechanism: PLAIN, data } => {
                session.log_out();
                Some(self.log_in(session, Credentials::of_plain(data), Style::Binary(packet), owed))
            }
            Control::SaslAuth { mechanism: CRAM_MD5, .. } if users.know_passwords() => {
                session.log_out();
                let challenge = Users::challenge();
                owed.say_challenge(packet, challenge.as_bytes());
                if let Some(login) = session.login() {
                    login.challenge = Some(challenge);
                }
                Some(Then::Again)
            }
            Control::SaslStep { mechanism: CRAM_MD5, data } => {
                let challenge = session.login().and_then(|login| login.challenge.take());
                session.log_out();
                let rights = challenge.zip(digest(data)).and_then(|(challenge, (user, digest))| {
                    users.verify_digest(user, challenge.as_bytes(), &digest)
                });
                let style = Style::Binary(packet);
                Some(match rights {
                    Some(rights) => self.admit(session, rights, style, owed),
                    None => self.log_in(session, None, style, owed),
                })
            }
            Control::SaslAuth { .. } | Control::SaslStep { .. } => {
                session.log_out();
                Some(self.log_in(session, None, Style::Binary(packet), owed))
            }
            _ => {
                // The wheels of pylibmc take the first, and their libmemcached 1.0.16 cannot answer a challenge. Newer
                // libraries take the stronger one, wherever it stands.
                let both = [PLAIN, b" ", CRAM_MD5].concat();
                owed.say_success(packet, 0, if users.know_passwords() { &both } else { PLAIN });
                None
            }
        }
    }
}

fn packet_of(request: &Request<'_>) -> Packet {
    match request.style() {
        Style::Binary(packet) => packet,
        Style::Classic | Style::Meta(_) => unreachable!("the decoder stands among packets"),
    }
}

/// The user and the digest in `data`, which are a name, a space and hexadecimal digits.
fn digest(data: &[u8]) -> Option<(&[u8], [u8; DIGEST_BYTES])> {
    let space = data.iter().rposition(|&byte| byte == b' ')?;
    let (user, digits) = (&data[..space], &data[space + 1..]);
    let mut digest = [0; DIGEST_BYTES];
    if digits.len() != 2 * DIGEST_BYTES {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some((user, digest))
}
