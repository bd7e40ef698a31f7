//! One client: reads what it sends, has the engine run it, sends what it is owed.
//!
//! Rules:
//! - a turn costs one read and one write. The read tells the runtime when it came back short, so the next one
//!   happens only when there is something; no read ever comes back empty-handed;
//! - an idle connection holds no buffers: input and output live in the worker's scratch space, and only what is
//!   left over at the end of a turn (a cut-off request, a reply the socket would not take) is kept;
//! - a client that does not take what it is owed is not read from.

mod held;
mod wait;

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tracing::{debug, trace};

use super::clients::Client;
use super::stream::ClientStream;
use super::turns::{TurnState, Turns, yield_to_others};
use super::{Shared, StopKind};
use crate::engine::stats::connections::State;
use crate::engine::turn::then::Reason;
use crate::engine::{OWED_BYTES_MAX, Session, Then, Turn, WATCHER_BYTES_MAX};
use crate::protocol::{Owed, reply};
use wait::Wait;

/// How much one read may bring, in bytes: with the requests in it, about a tenth of a millisecond's work.
const READ_BYTES_MAX: usize = 32 << 10;

/// Up to this length, in bytes, an unfinished request is put before the next read in the scratch space; a longer
/// one gets a buffer of its own, so that tiny writes cannot have it copied over and over.
const SHORT_BYTES_MAX: usize = 16 << 10;

/// Up to this capacity, in bytes, a worker keeps the output buffer that a turn has grown: that of a turn which owes all
/// that it may.
const SCRATCH_OWED_BYTES_MAX: usize = 2 * OWED_BYTES_MAX;

/// After so many bytes sent, in bytes, other connections have their turn: a socket takes megabytes at once where its
/// reader keeps up, and copying them takes as long as hundreds of small gets.
const SENT_BYTES_MAX: usize = 128 << 10;

/// How many pieces one vectored write takes: as many as `Take` passes on.
const SLICES_MAX: usize = 16;

/// What `-vv` shows in place of what a client sends to log in.
const SECRET: &[u8] = b"(a login)";

/// How much of a request or reply `-vv` shows, in bytes.
const LOGGED_BYTES_MAX: usize = 256;

/// The buffers that all connections of a worker share, because only one of them has its turn at a time.
struct Scratch {
    input: Box<[u8]>,
    owed: Owed,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        input: vec![0; READ_BYTES_MAX].into_boxed_slice(),
        owed: Owed::with_capacity(READ_BYTES_MAX),
    });
}

/// What is to happen once everything owed is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Read until so many bytes are held.
    Read { bytes_min: usize },
    /// Another turn over the input that is held.
    Turn,
    /// Send what there is to watch, as it comes.
    Watch,
    /// Wait until the session's errand is done, or for room in the store.
    Wait,
    /// The end.
    Close,
    /// The end, of the server too.
    Stop(StopKind),
}

/// One client's connection.
pub(super) struct Connection {
    stream: ClientStream,
    session: Session,
    client: Arc<Client>,
    shared: Arc<Shared>,
    /// Input that no turn has used up yet.
    held: BytesMut,
    /// The bytes that `held` is noted to take.
    held_noted: usize,
    /// What the socket has not taken yet.
    owed: Owed,
    next: Next,
    /// What is waited for.
    wait: Option<Box<Wait>>,
    /// Why it ended, once it has.
    ended: Option<Reason>,
    turns: Arc<Turns>,
    turn_state: TurnState,
}

impl Connection {
    pub(super) fn new(
        stream: ClientStream,
        session: Session,
        client: Arc<Client>,
        shared: Arc<Shared>,
        turns: Arc<Turns>,
    ) -> Connection {
        Connection {
            stream,
            session,
            client,
            shared,
            held: BytesMut::new(),
            held_noted: 0,
            owed: Owed::default(),
            next: Next::Read { bytes_min: 1 },
            wait: None,
            ended: None,
            turns,
            turn_state: TurnState::default(),
        }
    }

    /// Serves the client until it leaves, or has to.
    pub(super) async fn serve(mut self) {
        if let ClientStream::Tls(stream) = &mut self.stream {
            let agreed = Box::pin(stream.shake_hands(&self.turns)).await; // or all would keep room for it
            let is_new = stream.is_new_session();
            self.client.end_handshake(self.shared.clock.now());
            match agreed {
                Ok(true) => self.shared.count_tls_session(is_new),
                Ok(false) => return self.ended = Some(Reason::Normal),
                Err(error) => {
                    self.log_tls_error(&error.to_string());
                    return self.ended = Some(Reason::Error);
                }
            }
        }
        let ended = poll_fn(|cx| {
            let served = SCRATCH.with_borrow_mut(|scratch| self.poll_serve(cx, scratch));
            if served.is_pending() {
                self.note_pending();
            }
            served
        });
        let ended = ended.await;
        self.ended = Some(match ended {
            Ok(Some(stop)) => {
                self.shared.stop(stop);
                Reason::Shutdown
            }
            Ok(None) => self.ended.unwrap_or(self.session.reason()),
            Err(error) => {
                debug!(client = %self.client, %error, "connection failed");
                self.shared.count_tls_failure(&error);
                Reason::Error
            }
        });
    }

    fn poll_serve(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
    ) -> Poll<io::Result<Option<StopKind>>> {
        if scratch.owed.has_remaining() {
            // Only a panic in another client's turn leaves anything here: it must not get to this one.
            scratch.owed.clear();
        }
        loop {
            ready!(self.turn_state.poll_next(&self.turns.long, cx));
            if self.owed.has_remaining() {
                let before = self.owed.remaining();
                let sent = poll_send(&mut self.stream, cx, &mut self.owed);
                if self.owed.remaining() < before {
                    let now = self.shared.clock.now();
                    self.client.touch(now);
                    self.client.memory.advance_piece(before - self.owed.remaining(), now);
                    let bytes = self.owed.capacity() + self.stream.encrypted_bytes_max(self.owed.remaining());
                    self.shared.note_output(&self.client, bytes, self.owed.shared_bytes());
                }
                ready!(sent)?;
                if self.owed.has_remaining() {
                    self.turn_state.note_turn(true);
                    continue;
                }
                self.owed = Owed::default();
                self.shared.note_output(&self.client, 0, 0);
                self.client.memory.begin_piece(self.client.last_turn());
                self.note_state(self.next);
            }
            let turn = match self.next {
                Next::Close => return Poll::Ready(Ok(None)),
                Next::Stop(kind) => return Poll::Ready(Ok(Some(kind))),
                Next::Turn => self.turn_over_held(scratch),
                Next::Watch => match self.watch(cx, scratch)? {
                    true if self.owed.has_remaining() => continue,
                    true => return Poll::Pending,
                    false => return Poll::Ready(Ok(None)),
                },
                Next::Wait => {
                    if !ready!(self.poll_wait(cx, scratch))? {
                        return Poll::Ready(Ok(None));
                    }
                    self.turn_over_held(scratch)
                }
                Next::Read { bytes_min } if bytes_min <= SHORT_BYTES_MAX => {
                    let Some(turn) = ready!(self.poll_short(cx, scratch, bytes_min))? else {
                        return Poll::Ready(Ok(None));
                    };
                    turn
                }
                Next::Read { bytes_min } => {
                    if !ready!(self.poll_long(cx, bytes_min))? {
                        return Poll::Ready(Ok(None));
                    }
                    if self.next == Next::Close || self.held.len() < bytes_min {
                        continue; // there was no room for it, and the client was told; or this was only a piece
                    }
                    let turn = self.turn_over_held(scratch);
                    // It may well have stored a large value in the place of one that slow clients are owed.
                    self.shared.close_slow_readers();
                    turn
                }
            };
            let next = match turn.then {
                Then::Read { bytes_min } => Next::Read { bytes_min },
                Then::Again => Next::Turn,
                Then::Wait => self.start_blocking(),
                Then::Retry => self.wait_for_memory(),
                Then::Watch => self.start_watching(),
                Then::Close => Next::Close,
                Then::Shutdown { graceful: false } => Next::Stop(StopKind::Now),
                Then::Shutdown { graceful: true } => Next::Stop(StopKind::Graceful),
            };
            self.turn_state.note_turn(turn.is_long);
            if next != self.next {
                self.note_state(next);
                self.next = next;
            }
            self.send(cx, scratch)?;
        }
    }

    /// Reads into the worker's scratch space, behind what is held, and runs a turn over both. `None` at the end
    /// of the stream.
    #[inline]
    fn poll_short(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
        bytes_min: usize,
    ) -> Poll<io::Result<Option<Turn>>> {
        let held = self.held.len();
        let mut length = held;
        let mut buffer = ReadBuf::new(&mut scratch.input[held..]);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
        let read = buffer.filled().len();
        if read == 0 {
            return Poll::Ready(Ok(None));
        }
        length += read;
        scratch.input[..held].copy_from_slice(&self.held);
        let mut turn = if length < bytes_min {
            self.client.touch(self.shared.clock.now());
            Turn { consumed: 0, then: Then::Read { bytes_min }, is_long: false }
        } else {
            self.turn(length, scratch)
        };
        if held > 0 || turn.consumed < length {
            let left = turn.consumed..length;
            if !self.hold(&scratch.input[left], turn.consumed == 0) {
                scratch.owed.say(reply::OUT_OF_MEMORY_READING);
                self.ended = Some(Reason::Error);
                turn.then = Then::Close;
            }
        }
        Poll::Ready(Ok(Some(turn)))
    }

    #[cold]
    fn start_watching(&mut self) -> Next {
        let wants_to_quit = self.shared.engine.wants_to_quit(&mut self.session, &self.held);
        self.held = BytesMut::new();
        self.note_held();
        self.stream.limit_send_buffer(WATCHER_BYTES_MAX);
        if wants_to_quit { Next::Close } else { Next::Watch }
    }

    /// Sends what there is to watch; `false` when the client leaves or wants to. What it types is not held.
    fn watch(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> io::Result<bool> {
        let mut typed = ReadBuf::new(&mut scratch.input);
        if let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(cx, &mut typed) {
            read?;
            let typed = typed.filled();
            if typed.is_empty() || self.shared.engine.wants_to_quit(&mut self.session, typed) {
                return Ok(false);
            }
            // There may be more, but others go first.
            yield_to_others(cx);
        }
        // Once for each time it is woken, so that lines are sent many at a time.
        self.shared.engine.take_lines(&self.session, &mut scratch.owed, cx.waker());
        self.send(cx, scratch)?;
        Ok(true)
    }

    /// Runs a turn over the first `length` bytes of the scratch space.
    #[inline]
    fn turn(&mut self, length: usize, scratch: &mut Scratch) -> Turn {
        let now = self.shared.clock.now();
        self.client.touch(now);
        let Scratch { input, owed } = scratch;
        let turn = self.shared.engine.turn(&mut self.session, &input[..length], owed, now);
        if self.shared.engine.verbosity() >= 2 {
            let is_secret = self.session.take_secrecy();
            self.log(if is_secret { SECRET } else { &input[..turn.consumed] }, owed);
        }
        turn
    }

    /// Runs a turn over the input that is held.
    fn turn_over_held(&mut self, scratch: &mut Scratch) -> Turn {
        let now = self.shared.clock.now();
        self.client.touch(now);
        let turn = self.shared.engine.turn(&mut self.session, &self.held, &mut scratch.owed, now);
        if self.shared.engine.verbosity() >= 2 {
            let is_secret = self.session.take_secrecy();
            self.log(if is_secret { SECRET } else { &self.held[..turn.consumed] }, &scratch.owed);
        }
        if turn.consumed > 0 {
            self.client.memory.begin_piece(now);
        }
        if turn.consumed == self.held.len() {
            // All of the buffer is free again, for a long request that may come right behind this one.
            self.held.clear();
        } else {
            self.held.advance(turn.consumed);
            self.shrink_held();
        }
        self.note_held();
        turn
    }

    /// Sends what the turn has worded; what the socket does not take is kept for later.
    #[inline]
    fn send(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> io::Result<()> {
        if scratch.owed.has_remaining() {
            match poll_send(&mut self.stream, cx, &mut scratch.owed) {
                Poll::Ready(Err(error)) => {
                    scratch.owed.clear();
                    return Err(error);
                }
                Poll::Ready(Ok(())) if !scratch.owed.has_remaining() => {}
                _ => {
                    self.turn_state.note_turn(true);
                    scratch.owed.move_to(&mut self.owed);
                    self.client.set_state(State::Writing);
                    self.client.memory.begin_piece(self.client.last_turn());
                    let bytes = self.owed.capacity() + self.stream.encrypted_bytes_max(self.owed.remaining());
                    if !self.shared.may_buffer_output(&self.client, bytes, self.owed.shared_bytes()) {
                        return Err(io::ErrorKind::OutOfMemory.into());
                    }
                }
            }
            if scratch.owed.capacity() > SCRATCH_OWED_BYTES_MAX {
                scratch.owed = Owed::with_capacity(READ_BYTES_MAX);
            }
        }
        Ok(())
    }

    /// Tells everybody who wants to know that the handshake failed.
    #[cold]
    fn log_tls_error(&self, why: &str) {
        debug!(client = %self.client, "TLS handshake failed: {why}");
        self.shared.engine.connections().tls_handshake_errors.fetch_add(1, Ordering::Relaxed);
        self.shared.engine.log_tls_error(&self.session, why, self.shared.clock.now());
    }

    #[cold]
    fn log(&self, input: &[u8], owed: &Owed) {
        trace!(client = %self.client, "< {}", shown(input));
        if owed.has_remaining() {
            trace!(client = %self.client, "> {}", shown(owed.chunk()));
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        match self.client.is_too_slow() {
            true if self.owed.has_remaining() => self.stream.discard_unsent_at_close(),
            true => self.stream.try_write_last(reply::OUT_OF_MEMORY_READING),
            false => {}
        }
        self.shared.note_end(&self.client);
        if self.client.is_overdue() {
            self.log_tls_error("it took too long");
        }
        // One that has not ended by itself was ended: for being idle, or with all the others.
        let reason = self.ended.unwrap_or_else(|| self.client.close_reason());
        let now = self.shared.clock.now();
        self.shared.engine.log_closed(&self.session, || self.client.remote(), reason, now);
        self.shared.closed(&self.client);
    }
}

/// A request or reply as the log shows it.
pub(super) fn shown(bytes: &[u8]) -> String {
    bytes[..bytes.len().min(LOGGED_BYTES_MAX)].escape_ascii().to_string()
}

/// Sends `owed`, or the first [`SENT_BYTES_MAX`] of it; pending when the socket takes no more.
#[inline]
fn poll_send(stream: &mut ClientStream, cx: &mut Context<'_>, owed: &mut Owed) -> Poll<io::Result<()>> {
    let mut part = (&mut *owed).take(SENT_BYTES_MAX);
    while part.has_remaining() {
        let chunk = part.chunk();
        let sent = if chunk.len() == part.remaining() {
            ready!(Pin::new(&mut *stream).poll_write(cx, chunk))?
        } else {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let filled = part.chunks_vectored(&mut slices);
            ready!(Pin::new(&mut *stream).poll_write_vectored(cx, &slices[..filled]))?
        };
        if sent == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        part.advance(sent);
    }
    if !owed.has_remaining() {
        owed.clear();
    }
    Poll::Ready(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every open connection takes this much besides its buffers: a change that adds to it has to be worth it for each of
    /// ten thousand idle clients.
    #[test]
    fn an_idle_connection_takes_a_fixed_amount_of_memory() {
        fn bytes_of_task<F>(_: impl Fn(Connection) -> F) -> usize {
            size_of::<F>()
        }
        let own_bytes = size_of::<Connection>() - size_of::<Session>();
        assert!(own_bytes <= 240, "{own_bytes}");
        let task_bytes = bytes_of_task(Connection::serve);
        assert!(task_bytes <= 2 * size_of::<Connection>() + 24, "{task_bytes}");
    }
}
