//! Sending: a turn's replies at its end, and the rest once the socket takes more.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf;
use tokio::io::AsyncWrite;

use super::state::READ_BYTES_MAX;
use super::{Connection, Scratch};
use crate::engine::OWED_BYTES_MAX;
use crate::net::stream::ClientStream;
use crate::protocol::Owed;

/// The largest output buffer that a worker keeps after a turn has grown it, in bytes: that of a turn which owes all
/// that it may.
const SCRATCH_OWED_BYTES_MAX: usize = 2 * OWED_BYTES_MAX;

/// After so many bytes a connection that sends yields to others: a socket takes megabytes at once if its client keeps
/// up, and copying them takes as long as hundreds of small gets.
const SENT_BYTES_MAX: usize = 128 << 10;

/// How many pieces one vectored write takes: as many as `Take` passes on.
const SLICES_MAX: usize = 16;

impl Connection {
    /// Sends the replies of a turn; keeps those that the socket does not take.
    #[inline]
    pub(super) fn send(&mut self, cx: &mut Context<'_>, scratch: &mut Scratch) -> io::Result<()> {
        if !scratch.owed.has_remaining() {
            return Ok(());
        }
        match poll_send(&mut self.stream, cx, &mut scratch.owed) {
            Poll::Ready(Err(error)) => {
                scratch.owed.clear();
                return Err(error);
            }
            Poll::Ready(Ok(())) if !scratch.owed.has_remaining() => {}
            _ => {
                self.turn_state.note_turn(true);
                let encrypted_bytes_max = self.stream.encrypted_bytes_max(scratch.owed.remaining());
                let (now, account) = (self.client.last_turn(), self.shared.account(&self.client));
                let is_allowed = self.state.owe(&mut scratch.owed, encrypted_bytes_max, now, &account);
                self.client.set_state(self.state.shown());
                if !is_allowed {
                    return Err(io::ErrorKind::OutOfMemory.into());
                }
            }
        }
        if scratch.owed.capacity() > SCRATCH_OWED_BYTES_MAX {
            scratch.owed = Owed::with_capacity(READ_BYTES_MAX);
        }
        Ok(())
    }

    /// Sends the replies that the socket did not take earlier.
    pub(super) fn poll_owed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let owed = self.state.owed();
        let before = owed.remaining();
        let result = poll_send(&mut self.stream, cx, owed);
        let remaining = owed.remaining();
        if remaining < before {
            let now = self.shared.clock.now();
            self.client.touch(now);
            let encrypted_bytes_max = self.stream.encrypted_bytes_max(remaining);
            let account = self.shared.account(&self.client);
            if self.state.sent(before - remaining, encrypted_bytes_max, now, &account) {
                self.client.set_state(self.state.shown());
            }
        }
        ready!(result)?;
        if remaining > 0 {
            self.turn_state.note_turn(true);
        }
        Poll::Ready(Ok(()))
    }
}

/// Sends `owed`, or its first [`SENT_BYTES_MAX`] bytes; `Pending` when the socket takes no more.
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
