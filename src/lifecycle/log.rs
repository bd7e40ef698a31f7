//! The log: lines to standard error, by way of a thread of their own.
//!
//! Rule: logging never blocks and never fails. Lines wait in a bounded buffer; a line that does not fit is dropped and
//! counted, and the count is logged as soon as a line can be written again. (The writer of `tracing-appender` is not
//! used because its bound is a number of lines of any length, and it reports neither lost lines nor a full disk.)

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::{Level, warn};
use tracing_subscriber::filter::dynamic_filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::LogFormat;
use crate::engine::Engine;

/// How many bytes of lines may wait to be written: some thousands. As much again may be with the thread that writes.
pub const WAITING_BYTES_MAX: usize = 1 << 20;

/// How long the end of the server waits for the last lines to be taken.
const END_WAIT_MAX: Duration = Duration::from_secs(1);

/// How long the writing thread waits where standard error does not block and takes no more.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// The log while it is open. Dropped, it waits for the last lines to be written, but not forever.
#[derive(Debug)]
pub struct Log(Arc<Lines>);

/// Where those who log put their lines.
#[derive(Clone, Debug)]
struct Sink(Arc<Lines>);

#[derive(Debug, Default)]
struct Lines {
    waiting: Mutex<Waiting>,
    /// Signalled when there are lines to write, or the log is to end.
    wanted: Condvar,
    /// Signalled when the log has ended.
    ended: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Whole lines, in order.
    bytes: Vec<u8>,
    /// How many lines were dropped.
    lost: u64,
    is_ending: bool,
    has_ended: bool,
}

impl Log {
    /// Sends what is logged from now on to standard error, as much of it as `-v` and the `verbosity` command ask for.
    /// To be called after the last fork of this process, because a child has no copy of the thread.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(format: LogFormat, engine: Arc<Engine>) -> io::Result<Log> {
        let lines = Arc::<Lines>::default();
        let writing = Arc::clone(&lines);
        std::thread::Builder::new().name("log".to_owned()).spawn(move || writing.write_to(io::stderr()))?;
        let wanted = dynamic_filter_fn(move |metadata, _| {
            let most = match engine.verbosity() {
                0 => Level::INFO,
                1 => Level::DEBUG,
                _ => Level::TRACE,
            };
            // The log is about this server, and not about its libraries.
            *metadata.level() <= most && metadata.target().starts_with(env!("CARGO_CRATE_NAME"))
        });
        // Internal errors would be printed to standard error, with a panic if that fails.
        let layer = tracing_subscriber::fmt::layer().log_internal_errors(false).with_target(false);
        let layer = layer.with_writer(Sink(Arc::clone(&lines)));
        let log = tracing_subscriber::registry().with(wanted);
        // Only a test that runs two servers in one process has a log already.
        let _ = match format {
            LogFormat::Text => log.with(layer.with_ansi(false)).try_init(),
            LogFormat::Json => log.with(layer.json().flatten_event(true)).try_init(),
        };
        Ok(Log(lines))
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let mut waiting = self.0.waiting();
        waiting.is_ending = true;
        self.0.wanted.notify_one();
        let has_not = |waiting: &mut Waiting| !waiting.has_ended;
        // The reader of standard error may have stopped reading.
        drop(self.0.ended.wait_timeout_while(waiting, END_WAIT_MAX, has_not));
    }
}

impl<'a> MakeWriter<'a> for Sink {
    type Writer = Sink;

    fn make_writer(&'a self) -> Sink {
        self.clone()
    }
}

impl Write for Sink {
    /// Takes all of `line`, or drops all of it: never fails.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.add(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn add(&self, line: &[u8]) {
        let mut waiting = self.waiting();
        if waiting.bytes.len() + line.len() > WAITING_BYTES_MAX {
            waiting.lost += lines_in(line);
            return;
        }
        waiting.bytes.extend_from_slice(line);
        let is_first = waiting.bytes.len() == line.len();
        drop(waiting);
        if is_first {
            self.wanted.notify_one();
        }
    }

    /// Writes lines to `out` as they come, until the log is to end and none are left.
    fn write_to(&self, mut out: impl Write) {
        let mut writing = Vec::new();
        let mut told = 0;
        let mut is_cut = false;
        while self.take(&mut writing) {
            if is_cut {
                // The last write ended within a line: the next one begins a line of its own.
                writing.insert(0, b'\n');
            }
            let written = self.write_out(&mut out, &writing);
            is_cut = if written > 0 { writing[written - 1] != b'\n' } else { is_cut };
            let rest = &writing[written..];
            let lost = {
                let mut waiting = self.waiting();
                waiting.lost += lines_in(rest);
                waiting.lost
            };
            if rest.is_empty() && lost > told {
                told = lost;
                warn!("{lost} log lines were lost so far: standard error took no more");
            }
            writing.clear();
        }
        self.waiting().has_ended = true;
        self.ended.notify_all();
    }

    /// Waits for lines and takes them all; `false` when the log has ended and there are none.
    fn take(&self, writing: &mut Vec<u8>) -> bool {
        let has_none = |waiting: &mut Waiting| waiting.bytes.is_empty() && !waiting.is_ending;
        let waited = self.wanted.wait_while(self.waiting(), has_none);
        let mut waiting = waited.unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut waiting.bytes, writing);
        !writing.is_empty()
    }

    /// Writes `bytes` until `out` fails; returns how many were written.
    fn write_out(&self, out: &mut impl Write, bytes: &[u8]) -> usize {
        let mut written = 0;
        let mut stalled: Option<Instant> = None;
        while written < bytes.len() {
            match out.write(&bytes[written..]) {
                Ok(0) => break,
                Ok(more) => {
                    written += more;
                    stalled = None;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // At the end of the server there may be no reader left.
                    let since = *stalled.get_or_insert_with(Instant::now);
                    if self.waiting().is_ending && since.elapsed() > END_WAIT_MAX {
                        break;
                    }
                    std::thread::sleep(RETRY_PAUSE);
                }
                Err(_) => break, // a disk that is full, or nobody there
            }
        }
        written
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Nothing in here can panic halfway.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many lines end in `bytes`.
fn lines_in(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|&&byte| byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes, then says that the disk is full.
    struct Disk {
        room: usize,
        taken: Vec<u8>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.room == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let taken = bytes.len().min(self.room);
            self.room -= taken;
            self.taken.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(lines: &Lines, room: usize) -> String {
        let mut disk = Disk { room, taken: Vec::new() };
        lines.waiting().is_ending = true;
        lines.write_to(&mut disk);
        String::from_utf8(disk.taken).unwrap()
    }

    #[test]
    fn lines_come_out_in_order() {
        let lines = Lines::default();
        for line in ["one\n", "two\n", "three\n"] {
            lines.add(line.as_bytes());
        }
        assert_eq!(written(&lines, usize::MAX), "one\ntwo\nthree\n");
        let waiting = lines.waiting();
        assert_eq!((waiting.lost, waiting.has_ended), (0, true));
    }

    #[test]
    fn what_waits_is_bounded_and_what_does_not_fit_is_counted() {
        let lines = Lines::default();
        let line = [&[b'x'; 1023][..], b"\n"].concat();
        for _ in 0..WAITING_BYTES_MAX / line.len() + 7 {
            lines.add(&line);
        }
        assert_eq!(lines.waiting().bytes.len(), WAITING_BYTES_MAX);
        assert_eq!(lines.waiting().lost, 7);
        assert_eq!(written(&lines, usize::MAX).len(), WAITING_BYTES_MAX, "whole lines, and the first ones");
    }

    #[test]
    fn what_a_full_disk_does_not_take_is_counted() {
        let lines = Lines::default();
        for line in ["one\n", "two\n", "three\n"] {
            lines.add(line.as_bytes());
        }
        assert_eq!(written(&lines, 6), "one\ntw");
        assert_eq!(lines.waiting().lost, 2);
    }
}
