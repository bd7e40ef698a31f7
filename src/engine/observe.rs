//! What is looked at beside the replies: the prefixes of `stats detail`, and the sample behind `stats hotkeys` and
//! `stats prefixes`.
//!
//! Rule: a request that nobody looks at pays one branch for it.

use super::hot::{Ranking, SAMPLE_INTERVAL, Subject};
use super::prefixes::Use;
use super::stats::Lines;
use super::{Engine, Session, Then, keyvalue};
use crate::clock::Tick;
use crate::protocol::{KeyBuffer, Owed, Put, Request, reply};
use crate::store::Hashed;

impl Engine {
    /// [`Engine::execute`], with a note of which key it was about and how it went.
    #[cold]
    pub(super) fn execute_observed(
        &self,
        session: &mut Session,
        request: &Request<'_>,
        hashed: Hashed,
        is_sampled: bool,
        owed: &mut Owed,
        now: Tick,
    ) -> Option<Then> {
        // The counters are this worker's own: what they have grown by is this request's doing.
        let hits = |session: &Session| {
            session.counters.get_hits.value().wrapping_add(session.counters.touch_hits.value())
        };
        let hits_before = hits(session);
        let then = self.execute(session, request, hashed, owed, now);
        let buffer = &mut KeyBuffer::new();
        let key = keyvalue::stored_key(request, buffer);
        let used = match request {
            Request::Fetch(_) => Use::Get { is_hit: hits(session) != hits_before },
            Request::Put(_) => Use::Set,
            Request::Delete(_) => Use::Delete,
            Request::Count(_) | Request::Touch(_) => Use::Other,
            Request::Admin { .. } => return then,
        };
        if self.prefixes.is_on() {
            self.prefixes.count(&mut session.prefixes, session.worker, key, used);
        }
        if is_sampled {
            self.hot.note(session.worker, key, used, now);
        }
        then
    }

    /// Notes a value that was refused before it came.
    #[cold]
    pub(super) fn observe_refused(&self, session: &mut Session, put: &Put<'_>) {
        if self.prefixes.is_on() {
            let buffer = &mut KeyBuffer::new();
            let key = put.style.flags().plain_key(put.key, buffer);
            self.prefixes.count(&mut session.prefixes, session.worker, key, Use::Set);
        }
    }

    /// `stats detail`.
    pub(super) fn say_detail(&self, word: Option<&[u8]>, owed: &mut Owed) {
        if !self.settings.dump_enabled {
            return owed.say(b"CLIENT_ERROR stats detail not allowed\r\n");
        }
        match word {
            Some(b"on") => self.prefixes.switch(true),
            Some(b"off") => self.prefixes.switch(false),
            Some(b"dump") => {
                self.prefixes.all().iter().for_each(|prefix| prefix.say(owed));
                return owed.say(reply::END);
            }
            _ => return owed.say(b"CLIENT_ERROR usage: stats detail on|off|dump\r\n"),
        }
        owed.say(reply::OK);
    }

    /// `stats hotkeys` and `stats prefixes`.
    pub(super) fn say_ranking(&self, subject: Subject, owed: &mut Owed, now: Tick) {
        if !self.settings.dump_enabled {
            return owed.say(match subject {
                Subject::Keys => b"CLIENT_ERROR stats hotkeys not allowed\r\n",
                Subject::Prefixes => b"CLIENT_ERROR stats prefixes not allowed\r\n",
            });
        }
        let Ranking { seconds, samples, error, ranked } = self.hot.ranking(subject, now);
        let per_second =
            |samples: u64| format!("{:.1}", samples as f64 * f64::from(SAMPLE_INTERVAL) / seconds);
        let lines = &mut Lines(owed);
        lines.text("window_seconds", &format!("{seconds:.1}"));
        lines.number("sample_interval", u64::from(SAMPLE_INTERVAL));
        lines.number("samples", samples);
        lines.text("error_per_second", &per_second(error));
        if subject == Subject::Prefixes {
            lines.number("cmd_flush_prefix", self.statistics.prefix_flushes());
            lines.number("flush_prefix_waiting", self.store.stats().flushes_waiting);
        }
        for ranked in &ranked {
            let name = uri_encoded(&ranked.name);
            lines.text(&format!("{name}:per_second"), &per_second(ranked.samples));
            if ranked.gets > 0 {
                let ratio = ranked.hits as f64 / ranked.gets as f64;
                lines.text(&format!("{name}:hit_ratio"), &format!("{ratio:.3}"));
            }
        }
        owed.say(reply::END);
    }
}

/// `bytes` with all but ASCII letters, digits and `-._~` written as `%` and two hexadecimal digits. Source:
/// memcached, which shows keys so in its dumps and logs.
fn uri_encoded(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, &byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
        text
    })
}
