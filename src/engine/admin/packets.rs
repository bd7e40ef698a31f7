//! Packets of the binary protocol that are about no key: what the administrative commands do, in other words.

use crate::clock::Tick;
use crate::engine::admin::{COMMANDS, Call, flush, stats};
use crate::engine::turn::then::Reason;
use crate::engine::{Engine, Session, Then};
use crate::protocol::{Control, Owed, Packet, Style, Words};
use crate::settings::VERSION;

impl Engine {
    /// Does what `packet` asks for.
    // Out of line, as `administer` is: it is seldom asked for.
    #[inline(never)]
    pub(in crate::engine) fn control(
        &self,
        session: &mut Session,
        packet: Packet,
        control: Control<'_>,
        owed: &mut Owed,
        now: Tick,
    ) -> Option<Then> {
        let style = Style::Binary(packet);
        let (name, words) = match control {
            Control::Flush { .. } => ("flush_all", &b""[..]),
            Control::Stat { words } => ("stats", words),
            Control::Noop => {
                owed.say_success(packet, 0, b"");
                return None;
            }
            Control::Quit => {
                owed.say_success(packet, 0, b"");
                return Some(Then::Close);
            }
            Control::Version => {
                owed.say_success(packet, 0, VERSION.as_bytes());
                return None;
            }
            Control::SaslList | Control::SaslAuth { .. } | Control::SaslStep { .. } => {
                return self.sasl(session, packet, control, owed);
            }
            Control::Refused { status, closes } => {
                if packet.is_login() {
                    self.refuse_login(session);
                }
                owed.say_status(packet, status, None);
                return Some(if closes { session.close(Reason::Error) } else { Then::Again });
            }
        };
        let words = Words::new(words);
        let command = COMMANDS.iter().find(|command| command.name == name).expect("the table has both");
        let allowed = command.allowed.with(words.clone());
        if let Some(refusal) = session.granted().limits().and_then(|rights| allowed.refusal(rights)) {
            style.say_refusal(refusal, owed);
            return None;
        }
        let call = &mut Call { style, words, session, owed, now };
        let then = match control {
            Control::Flush { exptime } => {
                flush::flush_by_packet(self, exptime, packet, call);
                None
            }
            _ => stats::stats(self, call),
        };
        then.or(Some(Then::Again))
    }
}
