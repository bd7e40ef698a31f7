//! The memory that one client occupies, and its progress.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crate::clock::Tick;

/// The length of a piece, in bytes.
pub(super) const PIECE_BYTES: usize = 64 << 10;

/// Every client may occupy this much in buffers, in bytes, whatever the limit: the short requests and replies of a
/// client that is not slow never meet it. Source: the longest line of a request.
pub(super) const SMALL_BYTES_MAX: usize = crate::protocol::LINE_BYTES_MAX;

/// The memory that one client occupies, and how fast the client gets on. Only the client's own worker adds to it. The
/// thread that closes the client subtracts it from the totals at once, for the worker frees the memory as soon as it
/// sees the end.
#[derive(Debug, Default)]
pub(super) struct ClientMemory {
    /// The buffer of an unfinished request, in bytes.
    input: AtomicU64,
    /// The buffer of replies and the ciphertext that waits behind it, in bytes.
    output: AtomicU64,
    /// Shared values that the client has not read, in bytes.
    owed_values: AtomicU64,
    /// How much of the piece was moved, in bytes.
    piece_bytes: AtomicUsize,
    /// The tick at which the piece began.
    piece_started: AtomicU32,
}

impl ClientMemory {
    /// The size of its buffers, in bytes; 0 where that is no more than every client may have.
    pub(super) fn buffer_bytes(&self) -> u64 {
        let bytes = self.input.load(Ordering::Relaxed) + self.output.load(Ordering::Relaxed);
        if bytes > SMALL_BYTES_MAX as u64 { bytes } else { 0 }
    }

    /// The shared values that the store cannot evict because of this client, in bytes.
    pub(super) fn owed_value_bytes(&self) -> u64 {
        self.owed_values.load(Ordering::Relaxed)
    }

    /// How many ticks ago the piece began.
    pub(super) fn piece_ticks(&self, now: Tick) -> u32 {
        now.0.saturating_sub(self.piece_started.load(Ordering::Relaxed))
    }

    /// Begins a new piece.
    pub(super) fn begin_piece(&self, now: Tick) {
        self.piece_started.store(now.0, Ordering::Relaxed);
        self.piece_bytes.store(0, Ordering::Relaxed);
    }

    /// Adds `bytes` that were moved; begins a new piece when this one is complete.
    pub(super) fn advance_piece(&self, bytes: usize, now: Tick) {
        let moved = self.piece_bytes.load(Ordering::Relaxed) + bytes;
        if moved < PIECE_BYTES {
            self.piece_bytes.store(moved, Ordering::Relaxed);
        } else {
            self.begin_piece(now);
        }
    }

    /// Sets the size of the buffer of an unfinished request; returns the size before.
    pub(super) fn set_input(&self, bytes: usize) -> u64 {
        self.input.swap(bytes as u64, Ordering::Relaxed)
    }

    /// Sets the sizes of the buffer of replies and of the shared values in them; returns the size of the buffer before.
    pub(super) fn set_output(&self, bytes: usize, value_bytes: usize) -> u64 {
        self.owed_values.store(value_bytes as u64, Ordering::Relaxed);
        self.output.swap(bytes as u64, Ordering::Relaxed)
    }

    /// Whether the client has replies to read.
    pub(super) fn is_owed(&self) -> bool {
        self.owed_value_bytes() + self.output.load(Ordering::Relaxed) > 0
    }
}

/// The account of one client's memory with the server, which has limits for all clients together.
pub(super) trait Account {
    /// The memory that the client occupies, and its progress.
    fn progress(&self) -> &ClientMemory;

    /// Whether a request that holds `held` bytes may take `more` bytes of buffer.
    fn may_buffer_input(&self, held: usize, more: usize) -> bool;

    /// Whether replies may stay in buffers of `bytes` bytes, with `value_bytes` of shared values besides. Notes them,
    /// if so.
    fn may_buffer_output(&self, bytes: usize, value_bytes: usize) -> bool;

    /// Notes that the buffer for unfinished requests has `bytes` now.
    fn note_input(&self, bytes: usize);

    /// Notes that replies lie in buffers of `bytes` bytes, with `value_bytes` of shared values besides.
    fn note_output(&self, bytes: usize, value_bytes: usize);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_that_is_complete_begins_anew() {
        let memory = ClientMemory::default();
        memory.begin_piece(Tick(10));
        memory.advance_piece(PIECE_BYTES - 1, Tick(20));
        assert_eq!(memory.piece_ticks(Tick(20)), 10, "a client that drips stays where it was");
        memory.advance_piece(1, Tick(30));
        assert_eq!(memory.piece_ticks(Tick(30)), 0);
        memory.advance_piece(1, Tick(40));
        assert_eq!(memory.piece_ticks(Tick(40)), 10);
    }

    #[test]
    fn a_short_line_counts_against_no_limit() {
        let memory = ClientMemory::default();
        memory.set_input(SMALL_BYTES_MAX);
        assert_eq!(memory.buffer_bytes(), 0);
        memory.set_output(1, 0);
        assert_eq!(memory.buffer_bytes(), SMALL_BYTES_MAX as u64 + 1);
    }
}
