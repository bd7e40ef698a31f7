//! The events of the log that `watch` streams: a line of text each, in memcached's format.
//!
//! Rule: no line is formatted under a lock, and none while no client watches.

use std::time::Duration;

use arrayvec::ArrayVec;

use crate::clock::{TICKS_PER_SECOND, Tick};
use crate::engine::stats::connections::Remote;
use crate::engine::turn::then::Reason;
use crate::engine::watching::seen::{Seen, Status};
use crate::engine::watching::watch::{Stream, Streams};
use crate::engine::{Engine, Session};
use crate::protocol::{Outcome, Owed, uri};
use crate::store::Eviction;

/// How long a line may be: that of the longest key, escaped throughout, and the words around it, in bytes.
const LINE_BYTES_MAX: usize = 1024;

/// The slab class that items are said to be of; there is only this one.
const CLASS: u64 = 1;

/// Writes one line; what exceeds it is cut off.
struct Line(ArrayVec<u8, LINE_BYTES_MAX>);

impl Line {
    fn text(&mut self, words: &[u8]) -> &mut Line {
        let fits = words.len().min(self.0.remaining_capacity());
        self.0.try_extend_from_slice(&words[..fits]).expect("it fits");
        self
    }

    fn number(&mut self, number: impl itoa::Integer) -> &mut Line {
        self.text(itoa::Buffer::new().format(number).as_bytes())
    }

    fn key(&mut self, key: &[u8]) -> &mut Line {
        uri::encode(key, |piece| {
            self.text(piece);
        });
        self
    }
}

impl Engine {
    /// A lookup of `key`, whatever it was for.
    #[cold]
    pub(in crate::engine) fn log_lookup(&self, session: &Session, key: &[u8], seen: Seen, now: Tick) {
        self.log(session, Stream::Fetchers, now, |line| {
            let (status, class) = match seen.status {
                Status::Found => (&b"found"[..], CLASS),
                Status::NotFound => (&b"not_found"[..], 0),
                Status::Expired => (&b"expired"[..], 0),
            };
            line.text(b"item_get key=")
                .key(key)
                .text(b" status=")
                .text(status)
                .text(b" clsid=")
                .number(class);
            line.text(b" cfd=").number(session.descriptor()).text(b" size=").number(seen.value_bytes);
        });
    }

    /// A store by `command` of `item`, which ended in `outcome`.
    #[cold]
    pub(in crate::engine) fn log_store(
        &self,
        session: &Session,
        key: &[u8],
        command: &str,
        outcome: Outcome,
        item: Seen,
        now: Tick,
    ) {
        // The evictions that made room for it come first.
        self.log_evictions(session.worker(), now);
        let Some(status) = status(outcome) else { return };
        self.log(session, Stream::Mutations, now, |line| {
            line.text(b"item_store key=").key(key).text(b" status=").text(status.as_bytes());
            line.text(b" cmd=").text(command.as_bytes());
            line.text(b" ttl=").number(item.deadline.seconds_left(now).unwrap_or(0));
            // A value that is too large has no class.
            line.text(b" clsid=").number(if outcome == Outcome::TooLarge { 0 } else { CLASS });
            line.text(b" cfd=").number(session.descriptor()).text(b" size=").number(item.value_bytes);
        });
    }

    /// The end of an item that `command` has removed.
    #[cold]
    pub(in crate::engine) fn log_deletion(
        &self,
        session: &Session,
        key: &[u8],
        command: &str,
        seen: Seen,
        now: Tick,
    ) {
        self.log(session, Stream::Deletions, now, |line| {
            line.text(b"deleted key=").key(key).text(b" cmd=").text(command.as_bytes());
            line.text(b" clsid=").number(CLASS).text(b" size=").number(seen.value_bytes);
        });
    }

    /// The evictions since this was last called. To be called by thread number `thread` alone.
    pub(in crate::engine) fn log_evictions(&self, thread: usize, now: Tick) {
        if !self.watch().watched().has(Stream::Evictions) {
            return;
        }
        let (evictions, lost) = self.store().take_evictions();
        for Eviction { key, is_fetched, deadline, at, idle_seconds, value_bytes } in evictions {
            self.log_from(thread, Stream::Evictions, now, |line| {
                line.text(b"eviction key=").key(&key).text(b" fetch=");
                line.text(if is_fetched { b"yes" } else { b"no" }).text(b" ttl=");
                match deadline.seconds_left(at) {
                    Some(seconds) => line.number(seconds),
                    None => line.number(-1),
                };
                line.text(b" la=").number(idle_seconds).text(b" clsid=").number(CLASS);
                line.text(b" size=").number(value_bytes);
            });
        }
        if lost > 0 {
            self.watch().lose(Stream::Evictions, lost);
        }
    }

    /// That the connection of `session` was opened, for those who watch.
    pub fn log_opened(&self, session: &Session, remote: impl FnOnce() -> Remote, now: Tick) {
        if self.watch().watched().has(Stream::Connections) {
            self.log(session, Stream::Connections, self.time(now), |line| {
                line.text(b"conn_new").remote(&remote()).text(b" cfd=").number(session.descriptor());
            });
        }
    }

    /// That the connection of `session` was closed, and why, for those who watch.
    pub fn log_closed(&self, session: &Session, remote: impl FnOnce() -> Remote, reason: Reason, now: Tick) {
        if self.watch().watched().has(Stream::Connections) {
            self.log(session, Stream::Connections, self.time(now), |line| {
                line.text(b"conn_close").remote(&remote()).text(b" reason=").text(reason.name().as_bytes());
                line.text(b" cfd=").number(session.descriptor());
            });
        }
    }

    /// That the TLS handshake on the connection of `session` failed, for those who watch.
    #[cold]
    pub fn log_tls_error(&self, session: &Session, why: &str, now: Tick) {
        self.log(session, Stream::Connections, self.time(now), |line| {
            line.text(b"conntlserr fd=").number(session.descriptor()).text(b" msg=");
            line.text(why.replace(['\r', '\n'], " ").as_bytes());
        });
    }

    fn log(&self, session: &Session, stream: Stream, now: Tick, format: impl FnOnce(&mut Line)) {
        self.log_from(session.worker(), stream, now, format);
    }

    /// Has `format` write the line of an event of `stream`, if a watcher has room for it.
    fn log_from(&self, thread: usize, stream: Stream, now: Tick, format: impl FnOnce(&mut Line)) {
        if !self.watch().wants(stream, thread) {
            return;
        }
        let time = self.wall_time(now);
        let mut line = Line(ArrayVec::new());
        line.text(b"ts=").number(time.as_secs()).text(b".");
        // Six digits: memcached leaves out the leading zeros, which makes 7 of 0.000007.
        let microseconds = time.subsec_micros();
        (1..6).filter(|&power| microseconds < 10u32.pow(power)).for_each(|_| {
            line.text(b"0");
        });
        line.number(microseconds).text(b" gid=").number(self.watch().next_line()).text(b" type=");
        format(&mut line);
        line.0.truncate(LINE_BYTES_MAX - 1);
        line.text(b"\n");
        self.watch().write(stream, &line.0);
    }

    /// Unix time: to the microsecond if the engine was given a clock, or else to the tick.
    fn wall_time(&self, now: Tick) -> Duration {
        match self.wall_clock() {
            Some(read) => read(),
            None => {
                let tenths = u64::from(now.0 % TICKS_PER_SECOND) * 1000 / u64::from(TICKS_PER_SECOND);
                Duration::from_secs(self.epoch().unix_seconds(now)) + Duration::from_millis(tenths)
            }
        }
    }

    /// Makes `session` a watcher of `streams`; `false` when there are too many.
    pub(in crate::engine) fn begin_to_watch(&self, session: &mut Session, streams: Streams) -> bool {
        let registration = self.watch().add(streams);
        self.watch_evictions();
        session.watching_mut().watch_as(registration)
    }

    /// Makes the store list the keys that it evicts, as long as a client watches evictions.
    pub(in crate::engine) fn watch_evictions(&self) {
        self.store().watch_evictions(self.watch().watched().has(Stream::Evictions));
    }

    /// Moves the lines that wait for `session`, which watches, into `owed`; at most
    /// [`crate::engine::watching::watch::WATCHER_BYTES_MAX`] bytes and a line that tells how many were skipped. `waker`
    /// is woken when there are more.
    pub fn take_lines(&self, session: &Session, owed: &mut Owed, waker: &std::task::Waker) {
        let Some(registration) = session.watching().registration() else { return };
        let taken = self.watch().take(registration, waker);
        owed.say(&taken.lines);
        if taken.skipped > 0 {
            owed.say(b"skipped=");
            owed.say_number(taken.skipped);
            owed.say(b"\n");
        }
    }

    /// Heeds what the client of `session`, which watches, has typed: whether it wants to quit.
    pub fn wants_to_quit(&self, session: &mut Session, input: &[u8]) -> bool {
        session.watching_mut().says_quit(input)
    }
}

impl Line {
    fn remote(&mut self, remote: &Remote) -> &mut Line {
        self.text(b" rip=").text(remote.address.as_bytes()).text(b" rport=").number(remote.port);
        self.text(b" transport=").text(remote.transport.name().as_bytes())
    }
}

/// The status of a store in its event; `None` if it has no event.
fn status(outcome: Outcome) -> Option<&'static str> {
    Some(match outcome {
        Outcome::Stored => "stored",
        Outcome::NotStored => "not_stored",
        Outcome::Exists => "exists",
        Outcome::NotFound => "not_found",
        Outcome::TooLarge => "too_large",
        Outcome::OutOfMemoryStoring => "no_memory",
        _ => return None,
    })
}
