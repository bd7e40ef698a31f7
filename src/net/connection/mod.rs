//! One client's connection: reads what the client sends, has the engine run it, and sends the replies.
//!
//! [`state`] decides what to do next; this file does it, with the socket, the engine and the clock. Rules:
//! - a turn costs one read and one write. The read tells the runtime when it came back short, so the next one
//!   happens only when there is something; no read ever comes back empty-handed;
//! - an idle connection holds no buffers: input and replies live in the worker's scratch space, and the connection
//!   keeps only the rest at the end of a turn (a cut-off request, a reply that the socket did not take).

mod held;
mod send;
mod state;
mod wait;
mod work_wait;

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::Buf;
use tokio::io::{AsyncRead, ReadBuf};
use tracing::{debug, trace};

use super::blocking::TaskHandle;
use super::clients::Client;
use super::shared::{Shared, StopKind};
use super::stream::ClientStream;
use super::turns::{TurnState, Turns, yield_to_others};
use crate::engine::turn::then::Reason;
use crate::engine::{Session, Then, Turn, WATCHER_BYTES_MAX};
use crate::protocol::{Owed, reply};
use state::{ConnectionState, READ_BYTES_MAX, Wants};
use work_wait::WorkWait;

/// `-vv` shows this in place of a login.
pub(super) const SECRET: &[u8] = b"(a login)";

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

/// How one step of a connection ended.
enum Step {
    /// The engine ran a turn.
    Turn(Turn),
    /// There was no turn; another step follows.
    Continue,
    /// The connection is over; if it says so, the server is, too.
    End(Option<StopKind>),
}

/// Blocking work that a connection waits for.
struct BlockingWait {
    task: TaskHandle,
    wait: WorkWait,
}

/// One client's connection.
pub(super) struct Connection {
    stream: ClientStream,
    session: Session,
    client: Arc<Client>,
    shared: Arc<Shared>,
    state: ConnectionState,
    /// The session's blocking work, while the connection waits for it.
    blocking: Option<Box<BlockingWait>>,
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
        let (state, turn_state) = (ConnectionState::new(), TurnState::default());
        Connection { stream, session, client, shared, state, blocking: None, turns, turn_state }
    }

    /// Serves the client until it leaves, or the server closes the connection.
    ///
    /// An `async fn` would keep room for the connection twice: as its argument, and as the variable it is moved to.
    #[expect(clippy::manual_async_fn, reason = "it takes half of the memory")]
    pub(super) fn serve(mut self) -> impl Future<Output = ()> {
        async move {
            if let ClientStream::Tls(stream) = &mut self.stream {
                // In a box, or every connection would keep room for it.
                let agreed = Box::pin(stream.shake_hands(&self.turns)).await;
                let is_new = stream.is_new_session();
                self.client.end_handshake(self.shared.clock.now());
                match agreed {
                    Ok(true) => self.shared.count_tls_session(is_new),
                    Ok(false) => return self.state.end(Reason::Normal),
                    Err(error) => {
                        self.log_tls_error(&error.to_string());
                        return self.state.end(Reason::Error);
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
            let reason = match ended.await {
                Ok(Some(stop)) => {
                    self.shared.stop(stop);
                    Reason::Shutdown
                }
                Ok(None) => self.state.ended().unwrap_or(self.session.reason()),
                Err(error) => {
                    debug!(client = %self.client, %error, "connection failed");
                    self.shared.count_tls_failure(&error);
                    Reason::Error
                }
            };
            self.state.end(reason);
        }
    }

    /// Notes that the connection waits. While its next turn is queued, which is called in a moment, it keeps its
    /// buffer.
    #[inline]
    fn note_pending(&mut self) {
        if !self.turn_state.is_queued() {
            self.state.give_back_buffers(&self.shared.account(&self.client));
        }
        self.turn_state.note_pending();
    }

    fn poll_serve(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
    ) -> Poll<io::Result<Option<StopKind>>> {
        if scratch.owed.has_remaining() {
            // A panic in another client's turn has left its replies here: this client must not get them.
            scratch.owed.clear();
        }
        loop {
            ready!(self.turn_state.poll_next(&self.turns.long, cx));
            let turn = match ready!(self.poll_step(cx, scratch))? {
                Step::Turn(turn) => turn,
                Step::Continue => continue,
                Step::End(stop) => return Poll::Ready(Ok(stop)),
            };
            let next = match turn.then {
                Then::Read { bytes_min } => self.state.wants_to_read(bytes_min),
                Then::Again => Wants::Turn,
                Then::Wait => self.start_blocking(),
                Then::Retry => Wants::WaitForMemory { since: self.client.last_turn() },
                Then::Watch => self.start_watching(),
                Then::Close => Wants::Close,
                Then::Shutdown { graceful: false } => Wants::Stop(StopKind::Now),
                Then::Shutdown { graceful: true } => Wants::Stop(StopKind::Graceful),
            };
            self.turn_state.note_turn(turn.is_long);
            if self.state.set_next(next) {
                self.client.set_state(self.state.shown());
            }
            self.send(cx, scratch)?;
        }
    }

    /// Does what the connection wants next.
    #[inline]
    fn poll_step(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> Poll<io::Result<Step>> {
        Poll::Ready(Ok(match self.state.wants() {
            Wants::Read { bytes_min } => match ready!(self.poll_short(cx, scratch, bytes_min))? {
                Some(turn) => Step::Turn(turn),
                None => Step::End(None),
            },
            Wants::ReadLong { bytes_min } => return self.poll_long(cx, scratch, bytes_min),
            Wants::Turn => Step::Turn(self.turn_over_held(scratch)),
            Wants::Send => {
                ready!(self.poll_owed(cx))?;
                Step::Continue
            }
            Wants::Watch => match self.watch(cx, scratch)? {
                true if self.state.owed().has_remaining() => Step::Continue,
                true => return Poll::Pending,
                false => Step::End(None),
            },
            Wants::WaitForWork => match ready!(self.poll_blocking(cx, scratch))? {
                true => Step::Turn(self.turn_over_held(scratch)),
                false => Step::End(None),
            },
            Wants::WaitForMemory { since } => {
                let now = self.shared.clock.now();
                if !self.state.may_retry(since, now, &self.shared.account(&self.client)) {
                    self.shared.wake_at_next_tick(cx.waker());
                    return Poll::Pending;
                }
                Step::Turn(self.turn_over_held(scratch))
            }
            Wants::Close => Step::End(None),
            Wants::Stop(kind) => Step::End(Some(kind)),
        }))
    }

    /// Reads into the worker's scratch space, behind the held input, and runs a turn over both. `None` at the end of
    /// the stream.
    #[inline]
    fn poll_short(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
        bytes_min: usize,
    ) -> Poll<io::Result<Option<Turn>>> {
        let held = self.state.held().len();
        let mut buffer = ReadBuf::new(&mut scratch.input[held..]);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
        let read = buffer.filled().len();
        if read == 0 {
            return Poll::Ready(Ok(None));
        }
        let length = self.state.received_short(&mut scratch.input, read);
        let mut turn = if length < bytes_min {
            self.client.touch(self.shared.clock.now());
            Turn { consumed: 0, then: Then::Read { bytes_min }, is_long: false }
        } else {
            self.turn(length, scratch)
        };
        if held > 0 || turn.consumed < length {
            let Scratch { input, owed } = scratch;
            let (left, now) = (&input[turn.consumed..length], self.client.last_turn());
            let account = self.shared.account(&self.client);
            if !self.state.hold(left, turn.consumed, now, &account, owed) {
                turn.then = Then::Close;
            }
        }
        Poll::Ready(Ok(Some(turn)))
    }

    /// Reads a piece of a long request into the connection's buffer, and runs a turn once the request is complete.
    fn poll_long(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
        bytes_min: usize,
    ) -> Poll<io::Result<Step>> {
        let account = self.shared.account(&self.client);
        let lend = |bytes, capacity| {
            let is_worth_it = self.session.awaits_whole_value();
            is_worth_it.then(|| self.shared.engine.lend(bytes, capacity))?
        };
        let Some(buffer) = self.state.long_buffer(bytes_min, &account, lend) else {
            return Poll::Ready(Ok(Step::Continue));
        };
        let read_bytes_max = buffer.len();
        let read = ready!(buffer.poll_read(&mut self.stream, cx))?;
        let now = self.shared.clock.now();
        self.client.touch(now);
        self.state.received_long(read, now, &account);
        self.turn_state.note_turn(read == read_bytes_max);
        if read == 0 {
            return Poll::Ready(Ok(Step::End(None)));
        }
        if self.state.held().len() < bytes_min {
            return Poll::Ready(Ok(Step::Continue));
        }
        let turn = self.turn_over_held(scratch);
        // The turn may have replaced a large value that slow clients have not read.
        self.shared.close_slow_readers();
        Poll::Ready(Ok(Step::Turn(turn)))
    }

    #[cold]
    fn start_watching(&mut self) -> Wants {
        let wants_to_quit = self.shared.engine.wants_to_quit(&mut self.session, self.state.held());
        self.state.drop_held(&self.shared.account(&self.client));
        self.stream.limit_send_buffer(WATCHER_BYTES_MAX);
        if wants_to_quit { Wants::Close } else { Wants::Watch }
    }

    /// Sends the pending events to a client that watches, and ignores what it sends; `false` when the client leaves or
    /// says `quit`.
    fn watch(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> io::Result<bool> {
        let mut typed = ReadBuf::new(&mut scratch.input);
        if let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(cx, &mut typed) {
            read?;
            let typed = typed.filled();
            if typed.is_empty() || self.shared.engine.wants_to_quit(&mut self.session, typed) {
                return Ok(false);
            }
            // There may be more input, but others go first.
            yield_to_others(cx);
        }
        // Once each time the task is woken, so that many lines are sent at a time.
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
        let held = self.state.held();
        let offer = self.state.offer();
        let turn = self.shared.engine.turn(&mut self.session, held, &mut scratch.owed, now);
        drop(offer);
        if self.shared.engine.verbosity() >= 2 {
            let is_secret = self.session.take_secrecy();
            self.log(if is_secret { SECRET } else { &held[..turn.consumed] }, &scratch.owed);
        }
        self.state.consumed(turn.consumed, now, &self.shared.account(&self.client));
        turn
    }

    /// Reports a failed handshake in the log, the statistics and to clients that watch connections.
    #[cold]
    fn log_tls_error(&self, why: &str) {
        debug!(client = %self.client, "TLS handshake failed: {why}");
        self.shared.engine.connections().tls_handshake_errors.fetch_add(1, Ordering::Relaxed);
        self.shared.engine.log_tls_error(&self.session, why, self.shared.clock.now());
    }

    #[cold]
    fn log(&self, input: &[u8], owed: &Owed) {
        trace!(client = %self.client, "< {}", escaped(input));
        if owed.has_remaining() {
            trace!(client = %self.client, "> {}", escaped(owed.chunk()));
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        match self.client.is_too_slow() {
            true if self.state.owed().has_remaining() => self.stream.discard_unsent_at_close(),
            true => self.stream.try_write_last(reply::OUT_OF_MEMORY_READING),
            false => {}
        }
        self.shared.account(&self.client).close();
        if self.client.is_overdue() {
            self.log_tls_error("it took too long");
        }
        // A connection that has not ended by itself was closed: for being idle, say, or with all the others.
        let reason = self.state.ended().unwrap_or_else(|| self.client.close_reason());
        let now = self.shared.clock.now();
        self.shared.engine.log_closed(&self.session, || self.client.remote(), reason, now);
        self.shared.closed(&self.client);
    }
}

/// The beginning of a request or reply, as the log shows it.
pub(super) fn escaped(bytes: &[u8]) -> String {
    bytes[..bytes.len().min(LOGGED_BYTES_MAX)].escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every open connection takes this much besides its buffers: a change that adds to it has to be worth it for each
    /// of ten thousand idle clients.
    #[test]
    fn an_idle_connection_takes_a_fixed_amount_of_memory() {
        fn bytes_of_task<F>(_: impl Fn(Connection) -> F) -> usize {
            size_of::<F>()
        }
        let own_bytes = size_of::<Connection>() - size_of::<Session>();
        assert!(own_bytes <= 240, "{own_bytes}");
        let task_bytes = bytes_of_task(Connection::serve);
        assert!(task_bytes <= size_of::<Connection>() + 24, "{task_bytes}");
    }
}
