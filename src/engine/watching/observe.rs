//! Requests that are counted by key prefix (`stats detail`) or sampled (`stats hotkeys` and `stats prefixes`).
//!
//! Rule: a request that is neither pays one branch for it.

use crate::clock::Tick;
use crate::engine::stats::PREFIXES;
use crate::engine::watching::hot_keys::{Ranked, Ranking, Subject};
use crate::engine::watching::prefixes::Use;
use crate::engine::watching::sampler::SAMPLE_INTERVAL;
use crate::engine::{Engine, Session, Then, keyvalue};
use crate::protocol::{KeyBuffer, Owed, Put, Request, StatLines, Style, reply, uri};
use crate::store::Hashed;

impl Engine {
    /// [`Engine::execute`] that also counts the request by prefix, and samples it if `is_sampled`.
    #[cold]
    pub(in crate::engine) fn execute_observed(
        &self,
        session: &mut Session,
        request: &Request<'_>,
        hashed: &Hashed<'_>,
        is_sampled: bool,
        owed: &mut Owed,
        now: Tick,
    ) -> Option<Then> {
        let mut then = None;
        let is_hit = self.execute(session, request, hashed, owed, now, &mut then);
        let used = match request {
            _ if then == Some(Then::Retry) => return then, // it is counted when it is retried
            Request::Fetch(_) => Use::Get { is_hit },
            Request::Put(_) => Use::Set,
            Request::Delete(_) => Use::Delete,
            Request::Count(_) | Request::Touch(_) => Use::Other,
            Request::Admin { .. } | Request::Control { .. } => return then,
        };
        let buffer = &mut KeyBuffer::new();
        let key = keyvalue::stored_key(request, buffer);
        self.count_by_prefix(session, key, used);
        if is_sampled {
            self.hot_keys().note(session.worker(), key, used, now);
        }
        then
    }

    fn count_by_prefix(&self, session: &mut Session, key: &[u8], used: Use) {
        if self.prefixes().is_on() {
            let worker = session.worker();
            self.prefixes().count(&mut session.watching_mut().prefixes, worker, key, used);
        }
    }

    /// Counts a value that was refused before it came, as a set of its prefix.
    #[cold]
    pub(in crate::engine) fn observe_refused(&self, session: &mut Session, put: &Put<'_>) {
        let buffer = &mut KeyBuffer::new();
        let key = put.style.flags().plain_key(put.key, buffer);
        self.count_by_prefix(session, key, Use::Set);
    }

    /// `stats detail`.
    pub(in crate::engine) fn detail(
        &self,
        style: Style<'static>,
        session: &mut Session,
        word: Option<&[u8]>,
        owed: &mut Owed,
    ) -> Option<Then> {
        let is_on = match word {
            _ if !self.settings().dump_enabled => {
                style.say_failed(b"CLIENT_ERROR stats detail not allowed\r\n", owed);
                return None;
            }
            Some(b"on") => true,
            Some(b"off") => false,
            Some(b"dump") => return Some(session.reply_at_length(self.prefixes().dump(style))),
            _ => {
                style.say_failed(b"CLIENT_ERROR usage: stats detail on|off|dump\r\n", owed);
                return None;
            }
        };
        self.prefixes().switch(is_on);
        style.say_done(reply::OK, owed);
        None
    }

    /// `stats hotkeys` and `stats prefixes`.
    pub(in crate::engine) fn say_ranking(
        &self,
        subject: Subject,
        style: Style<'static>,
        owed: &mut Owed,
        now: Tick,
    ) {
        if !self.settings().dump_enabled {
            let words: &[u8] = match subject {
                Subject::Keys => b"CLIENT_ERROR stats hotkeys not allowed\r\n",
                Subject::Prefixes => b"CLIENT_ERROR stats prefixes not allowed\r\n",
            };
            return style.say_failed(words, owed);
        }
        let Ranking { seconds, samples, error, ranked } = self.hot_keys().ranking(subject, now);
        let per_second = |samples: u64| samples as f64 * f64::from(SAMPLE_INTERVAL) / seconds;
        let mut lines = StatLines::new(style, owed);
        lines.decimal("window_seconds", seconds, 1);
        lines.number("sample_interval", u64::from(SAMPLE_INTERVAL));
        lines.number("samples", samples);
        lines.decimal("error_per_second", per_second(error), 1);
        if subject == Subject::Prefixes {
            self.say_rows(PREFIXES, &mut lines, now);
        }
        for Ranked { name, samples, gets, hits } in &ranked {
            let name = uri::encoded(name);
            lines.decimal(&format!("{name}:per_second"), per_second(*samples), 1);
            if *gets > 0 {
                lines.decimal(&format!("{name}:hit_ratio"), *hits as f64 / *gets as f64, 3);
            }
        }
        lines.end();
    }
}
