//! What the server holds for clients that are slow, and who has to go when that is too much.
//!
//! Three things are held for a client: a request that has not arrived in full, replies that it has not taken, and, among
//! these, large values that it shares with the store. Requests and replies lie in buffers outside of `-m`, which
//! `-o read_buf_mem_limit` bounds for all clients together; so does what TLS may hold encrypted, of shared values too.
//! Shared values lie within `-m`; but those that no item has any more are pinned there by the clients that they are owed
//! to, and of such there is to be no more than a quarter of `-m`.
//!
//! Rule: whoever has taken longest over its last [`PIECE_BYTES`], or what there was of them, goes first. That finds those
//! who have stalled and those who drip, and spares those who make progress, however much they have on the way.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{MutexGuard, PoisonError};
use std::task::Waker;

use tracing::{debug, warn};

use crate::clock::Tick;
use crate::net::Shared;
use crate::net::clients::Client;

/// Progress is measured in pieces of so many bytes.
const PIECE_BYTES: usize = 64 << 10;

/// Nobody goes who has taken less than so many ticks over its piece, in ticks: two, because the first may be a short one.
/// A tenth of a second at least; a flood over the loopback device fills `-m 64` in less.
const SLOW_TICKS_MIN: u32 = 2;

/// What a client may always have held for it in buffers, in bytes, so that the short requests and replies of one who is
/// not slow never meet the limit. Source: the longest line of a request.
const SMALL_BYTES_MAX: usize = crate::protocol::LINE_BYTES_MAX;

/// What is held for one client. Only its own worker adds to it; whoever ends the client takes it off the totals at once,
/// for the memory is free as soon as the worker comes to it.
#[derive(Debug, Default)]
pub(super) struct ClientMemory {
    /// The buffer of an unfinished request, in bytes.
    input: AtomicU64,
    /// The buffer of replies and what waits encrypted behind it, in bytes.
    output: AtomicU64,
    /// Shared values that are still owed, in bytes.
    owed_values: AtomicU64,
    /// How much of the piece has been moved, in bytes.
    piece_bytes: AtomicUsize,
    /// The tick at which the piece began.
    piece_started: AtomicU32,
}

impl ClientMemory {
    /// What lies in buffers, in bytes; 0 where that is no more than anybody may have, as with one who types.
    fn buffer_bytes(&self) -> u64 {
        let bytes = self.input.load(Ordering::Relaxed) + self.output.load(Ordering::Relaxed);
        if bytes > SMALL_BYTES_MAX as u64 { bytes } else { 0 }
    }

    /// What the store cannot evict for this client's sake, in bytes.
    fn owed_value_bytes(&self) -> u64 {
        self.owed_values.load(Ordering::Relaxed)
    }

    /// For how many ticks the piece has been under way.
    fn piece_ticks(&self, now: Tick) -> u32 {
        now.0.saturating_sub(self.piece_started.load(Ordering::Relaxed))
    }

    /// A new piece begins.
    pub(super) fn begin_piece(&self, now: Tick) {
        self.piece_started.store(now.0, Ordering::Relaxed);
        self.piece_bytes.store(0, Ordering::Relaxed);
    }

    /// `bytes` of the piece have been moved.
    pub(super) fn advance_piece(&self, bytes: usize, now: Tick) {
        let moved = self.piece_bytes.load(Ordering::Relaxed) + bytes;
        if moved < PIECE_BYTES {
            self.piece_bytes.store(moved, Ordering::Relaxed);
        } else {
            self.begin_piece(now);
        }
    }
}

impl Shared {
    /// Whether `client`, whose request takes a buffer of `held` bytes, may have `more`: if need be because a slower one
    /// goes.
    pub(super) fn may_buffer_input(&self, client: &Client, held: usize, more: usize) -> bool {
        held + more <= SMALL_BYTES_MAX || self.fits_buffer_limit(client, more) || self.count_refused_input()
    }

    fn count_refused_input(&self) -> bool {
        self.engine.connections().read_buffer_oom.fetch_add(1, Ordering::Relaxed);
        false
    }

    /// Whether `client`, who takes nothing now, may be owed replies in buffers of `bytes` bytes, and `shared` bytes of
    /// values besides. It is noted, if so.
    pub(super) fn may_buffer_output(&self, client: &Client, bytes: usize, value_bytes: usize) -> bool {
        if bytes > SMALL_BYTES_MAX && !self.fits_buffer_limit(client, bytes) {
            self.engine.connections().response_oom.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        self.note_output(client, bytes, value_bytes);
        if value_bytes > 0 {
            self.close_slow_readers();
        }
        true
    }

    /// Notes that the buffer of `client`'s unfinished request has `bytes` now.
    pub(super) fn note_input(&self, client: &Client, bytes: usize) {
        let connections = self.engine.connections();
        let before = client.memory.input.swap(bytes as u64, Ordering::Relaxed);
        change(&connections.read_buffers, &connections.read_buffer_bytes, before, bytes as u64);
    }

    /// Notes that `client` is owed replies in buffers of `bytes` bytes, and `shared` bytes of values besides.
    pub(super) fn note_output(&self, client: &Client, bytes: usize, value_bytes: usize) {
        let connections = self.engine.connections();
        client.memory.owed_values.store(value_bytes as u64, Ordering::Relaxed);
        let before = client.memory.output.swap(bytes as u64, Ordering::Relaxed);
        change(&connections.responses, &connections.response_bytes, before, bytes as u64);
    }

    /// Notes that nothing is held for `client` any more.
    pub(super) fn note_end(&self, client: &Client) {
        self.note_input(client, 0);
        self.note_output(client, 0, 0);
    }

    /// Whether the buffers of all clients may take `more` bytes, once those have gone who are slower than `client`.
    fn fits_buffer_limit(&self, client: &Client, more: usize) -> bool {
        let max = self.engine.settings().buffer_bytes_max();
        if max == 0 {
            return true;
        }
        let connections = self.engine.connections();
        let used = connections.read_buffer_bytes.load(Ordering::Relaxed)
            + connections.response_bytes.load(Ordering::Relaxed);
        let excess = (used + more as u64).saturating_sub(max);
        excess == 0 || self.close_slowest(Some(client), ClientMemory::buffer_bytes, excess) >= excess
    }

    /// Wakes the connections whose stores wait for memory. To be called with every tick, once slow readers have been closed.
    pub(super) fn wake_waiting_for_memory(&self) {
        let waiting = std::mem::take(&mut *self.waiting_for_memory());
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Has `waker` woken at the next tick.
    pub(super) fn wake_at_next_tick(&self, waker: &Waker) {
        self.waiting_for_memory().push(waker.clone());
    }

    fn waiting_for_memory(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.waiting_for_memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends slow clients when they pin more than their part of the memory limit.
    pub(super) fn close_slow_readers(&self) {
        let excess = self.engine.store().pinned_excess_bytes();
        if excess > 0 {
            self.close_slowest(None, ClientMemory::owed_value_bytes, excess);
        }
    }

    /// Ends clients, the slowest first, until what they weigh adds up to `bytes`; for the sake of `newcomer` only those
    /// that are slower. Says how much it was.
    #[cold]
    fn close_slowest(&self, newcomer: Option<&Client>, weight: fn(&ClientMemory) -> u64, bytes: u64) -> u64 {
        let now = self.clock.now();
        // To look through all clients takes as long as some thousand small gets: in vain once a tick at most.
        if self.no_slow_client_at.load(Ordering::Relaxed) == now.0 {
            return 0;
        }
        let newcomer_ticks = newcomer.map_or(0, |client| client.memory.piece_ticks(now) + 1);
        let ticks_min = newcomer_ticks.max(SLOW_TICKS_MIN);
        // What those hold who were ended already is as good as free.
        let mut freed = 0;
        let mut slow = self.clients.select(|client| {
            let weight = weight(&client.memory);
            freed += if client.is_too_slow() { weight } else { 0 };
            weight > 0 && client.memory.piece_ticks(now) >= ticks_min && !client.is_too_slow()
        });
        slow.sort_by_key(|(client, _)| std::cmp::Reverse(client.memory.piece_ticks(now)));
        let mut closed = 0;
        for (client, task) in slow {
            if freed >= bytes {
                break;
            }
            freed += weight(&client.memory);
            closed += 1;
            self.close_too_slow(&client);
            task.abort();
        }
        if freed < bytes && ticks_min == SLOW_TICKS_MIN {
            self.no_slow_client_at.store(now.0, Ordering::Relaxed);
        }
        if let Some(closed) = self.slow_clients_log.count(closed, now) {
            warn!("closed {closed} slow clients, for others need the memory that was held for them");
        }
        freed
    }

    /// Takes `client` off the totals; its task is to be aborted then. What it shares stays noted until it is gone.
    fn close_too_slow(&self, client: &Client) {
        debug!(client = %client, "closed: too slow while others need the memory");
        client.mark_too_slow();
        let connections = self.engine.connections();
        let value_bytes = client.memory.owed_values.load(Ordering::Relaxed);
        let is_owed = value_bytes + client.memory.output.load(Ordering::Relaxed) > 0;
        let counter = if is_owed { &connections.response_oom } else { &connections.read_buffer_oom };
        counter.fetch_add(1, Ordering::Relaxed);
        self.note_input(client, 0);
        self.note_output(client, 0, value_bytes as usize); // it was a usize
    }
}

/// Moves a total from `before` to `after` bytes, and with it the number of those who have any.
fn change(count: &AtomicU64, bytes: &AtomicU64, before: u64, after: u64) {
    match (before, after) {
        (0, 1..) => count.fetch_add(1, Ordering::Relaxed),
        (1.., 0) => count.fetch_sub(1, Ordering::Relaxed),
        _ => 0,
    };
    // Wrapping addition of the difference: the total itself never goes below 0.
    bytes.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use crate::net::slow_clients::*;

    #[test]
    fn a_piece_that_is_complete_begins_anew() {
        let memory = ClientMemory::default();
        memory.begin_piece(Tick(10));
        memory.advance_piece(PIECE_BYTES - 1, Tick(20));
        assert_eq!(memory.piece_ticks(Tick(20)), 10, "one who drips stays where it was");
        memory.advance_piece(1, Tick(30));
        assert_eq!(memory.piece_ticks(Tick(30)), 0);
        memory.advance_piece(1, Tick(40));
        assert_eq!(memory.piece_ticks(Tick(40)), 10);
    }
}
