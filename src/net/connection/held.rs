//! What a connection holds of requests that are not complete.
//!
//! Rules: what is held grows with what arrives, not with what was announced; all of it is noted, and bounded for all clients
//! together (see `memory`); an idle connection holds no buffer.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, BytesMut};
use tokio::io::AsyncReadExt;

use super::{Connection, Next, READ_BYTES_MAX, SHORT_BYTES_MAX};
use crate::engine::turn::then::Reason;
use crate::protocol::reply;

/// How much a read of a long request may bring, in bytes: it is only copied, which takes less than a tenth of a
/// millisecond.
const LONG_READ_BYTES_MAX: usize = 512 << 10;

impl Connection {
    /// Holds `left` until more comes, of which what is held now is the head if it `is_more`; `false` when there is no
    /// room for it.
    pub(super) fn hold(&mut self, left: &[u8], is_more: bool) -> bool {
        let now = self.client.last_turn();
        let held = self.held.len();
        match left.len().checked_sub(held) {
            Some(more) if is_more && held > 0 => self.client.memory.advance_piece(more, now),
            _ => self.client.memory.begin_piece(now),
        }
        let more = left.len().saturating_sub(held);
        if more > 0 && !self.shared.may_buffer_input(&self.client, held, more) {
            return false;
        }
        self.held.clear();
        self.held.extend_from_slice(left);
        self.note_held();
        true
    }

    /// Reads a piece of a long request into a buffer of its own, which grows with what arrives, not with what was
    /// announced. `false` at the end of the stream.
    pub(super) fn poll_long(&mut self, cx: &mut Context<'_>, bytes_min: usize) -> Poll<io::Result<bool>> {
        let more = (bytes_min - self.held.len()).min(LONG_READ_BYTES_MAX);
        if self.held.capacity() - self.held.len() < more && !self.grow_held(bytes_min) {
            self.owed.say(reply::OUT_OF_MEMORY_READING);
            self.ended = Some(Reason::Error);
            self.next = Next::Close;
            return Poll::Ready(Ok(true));
        }
        let mut room = (&mut self.held).limit(more);
        let read = ready!(pin!(self.stream.read_buf(&mut room)).poll(cx))?;
        let now = self.shared.clock.now();
        self.client.touch(now);
        self.client.memory.advance_piece(read, now);
        self.turn_state.note_turn(read == more);
        Poll::Ready(Ok(read > 0))
    }

    /// Makes the buffer of a long request of `bytes_min` bytes longer, for the next read at least, and else twice as long:
    /// so it is copied as often as its length doubles. `false` when there is no memory for that.
    fn grow_held(&mut self, bytes_min: usize) -> bool {
        let len = self.held.len();
        let capacity = bytes_min.min(len + len.max(LONG_READ_BYTES_MAX));
        if !self.shared.may_buffer_input(&self.client, len, capacity.saturating_sub(self.held_noted)) {
            return false;
        }
        let mut longer = BytesMut::with_capacity(capacity);
        longer.extend_from_slice(&self.held);
        self.held = longer;
        self.note_held();
        true
    }

    /// Notes that it waits, and keeps no buffer that is too long for it meanwhile; unless it will be called in a moment,
    /// or is in the middle of a long request.
    #[inline]
    pub(super) fn note_pending(&mut self) {
        let is_short = !matches!(self.next, Next::Read { bytes_min: SHORT_BYTES_MAX.. });
        if self.held_noted > 0 && is_short && !self.turn_state.is_queued() {
            self.shrink_held();
            self.note_held();
        }
        self.turn_state.note_pending();
    }

    /// Gives back what a long request needed. Only where most of it is free, or a long pipeline behind such a request
    /// would be copied again after every turn.
    pub(super) fn shrink_held(&mut self) {
        if self.held.is_empty() || self.held.capacity() / 4 > self.held.len().max(READ_BYTES_MAX) {
            self.held = BytesMut::from(&self.held[..]);
        }
    }

    /// Keeps the note of what is held true.
    #[inline]
    pub(super) fn note_held(&mut self) {
        let bytes = self.held.capacity();
        if bytes != self.held_noted {
            self.shared.note_input(&self.client, bytes);
            self.held_noted = bytes;
        }
    }
}
