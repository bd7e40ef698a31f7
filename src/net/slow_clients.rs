//! Accounting for the memory that clients occupy, and closing the slowest of them when it is too much.
//!
//! The server holds three things for a client: a request that has not arrived in full, replies that the client has not
//! read, and, among these, large values that the client shares with the store. Requests and replies lie in buffers
//! outside of `-m`; `-o read_buf_mem_limit` bounds these buffers for all clients together, and with them the ciphertext
//! that TLS may hold, of shared values too. Shared values lie within `-m`. Those that no item has any more are pinned
//! there by the clients that have not read them, and the store wants at most a quarter of `-m` pinned.
//!
//! Rule: progress is measured in pieces of [`PIECE_BYTES`](super::client_memory::PIECE_BYTES). The client that has taken
//! longest over its last piece, or over what there was of it, is closed first. So clients that stall or drip are closed,
//! and clients that make progress are spared, however much is on its way to or from them.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use tracing::{debug, warn};

use crate::clock::Tick;
use crate::net::client_memory::{Account, ClientMemory, SMALL_BYTES_MAX};
use crate::net::clients::Client;
use crate::net::log_throttle::LogThrottle;
use crate::net::shared::Shared;

/// A client is not closed before it has taken this long over a piece, in ticks: two, because the first may be a short
/// one. That is at least a tenth of a second; a flood over the loopback device fills `-m 64` in less.
const SLOW_TICKS_MIN: u32 = 2;

/// Two limits have the server close slow clients.
#[derive(Clone, Copy, Debug)]
enum Limit {
    /// On the buffers of all clients: `-o read_buf_mem_limit`.
    Buffers,
    /// On the values that only slow readers keep in the store: a quarter of `-m`.
    Values,
}

impl Limit {
    /// How much of `memory` counts against this limit, in bytes.
    fn counted(self, memory: &ClientMemory) -> u64 {
        match self {
            Limit::Buffers => memory.buffer_bytes(),
            Limit::Values => memory.owed_value_bytes(),
        }
    }
}

/// The warnings about clients closed for one limit, at most one a minute.
#[derive(Debug, Default)]
struct ClosingLog {
    throttle: LogThrottle,
    /// How much closing clients has freed since the last warning, in bytes.
    unlogged_bytes: AtomicU64,
}

/// The state that all workers share to find and close slow clients.
#[derive(Debug, Default)]
pub(super) struct SlowClients {
    /// The last tick at which all slow clients were closed and that did not free enough.
    none_at: AtomicU32,
    buffers_log: ClosingLog,
    values_log: ClosingLog,
    /// The connections whose stores wait for memory. Bounded by `-c`.
    waiting_for_memory: Mutex<Vec<Waker>>,
}

/// The account of one client with the server.
#[derive(Clone, Copy)]
pub(super) struct ClientAccount<'a> {
    shared: &'a Shared,
    client: &'a Client,
}

impl Account for ClientAccount<'_> {
    fn progress(&self) -> &ClientMemory {
        &self.client.memory
    }

    fn may_buffer_input(&self, held: usize, more: usize) -> bool {
        if held + more <= SMALL_BYTES_MAX || self.shared.fits_buffer_limit(self.client, more) {
            return true;
        }
        self.shared.engine.connections().read_buffer_oom.fetch_add(1, Ordering::Relaxed);
        false
    }

    fn may_buffer_output(&self, bytes: usize, value_bytes: usize) -> bool {
        if bytes > SMALL_BYTES_MAX && !self.shared.fits_buffer_limit(self.client, bytes) {
            self.shared.engine.connections().response_oom.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        self.note_output(bytes, value_bytes);
        if value_bytes > 0 {
            self.shared.close_slow_readers();
        }
        true
    }

    fn note_input(&self, bytes: usize) {
        let connections = self.shared.engine.connections();
        let before = self.client.memory.set_input(bytes);
        change(&connections.read_buffers, &connections.read_buffer_bytes, before, bytes as u64);
    }

    fn note_output(&self, bytes: usize, value_bytes: usize) {
        let connections = self.shared.engine.connections();
        let before = self.client.memory.set_output(bytes, value_bytes);
        change(&connections.responses, &connections.response_bytes, before, bytes as u64);
    }
}

impl ClientAccount<'_> {
    /// Subtracts all that the client occupies from the totals.
    pub(super) fn close(self) {
        self.note_input(0);
        self.note_output(0, 0);
    }

    /// Subtracts what a slow client occupies from the totals; the caller aborts its task. The values it has not read
    /// stay noted until it is gone.
    fn close_too_slow(self) {
        debug!(client = %self.client, "closed: too slow, and other clients need the memory");
        self.client.mark_too_slow();
        let connections = self.shared.engine.connections();
        let value_bytes = self.client.memory.owed_value_bytes();
        let counter = if self.client.memory.is_owed() {
            &connections.response_oom
        } else {
            &connections.read_buffer_oom
        };
        counter.fetch_add(1, Ordering::Relaxed);
        self.note_input(0);
        self.note_output(0, value_bytes as usize); // it came from a usize
    }
}

impl Shared {
    /// The account of `client`.
    pub(super) fn account<'a>(&'a self, client: &'a Client) -> ClientAccount<'a> {
        ClientAccount { shared: self, client }
    }

    /// Whether the buffers of all clients may take `more` bytes. Closes clients that are slower than `client` if need
    /// be.
    fn fits_buffer_limit(&self, client: &Client, more: usize) -> bool {
        let max = self.engine.settings().buffer_bytes_max();
        if max == 0 {
            return true;
        }
        let connections = self.engine.connections();
        let used = connections.read_buffer_bytes.load(Ordering::Relaxed)
            + connections.response_bytes.load(Ordering::Relaxed);
        let excess = (used + more as u64).saturating_sub(max);
        excess == 0 || self.close_slowest(Some(client), Limit::Buffers, excess) >= excess
    }

    /// Closes the slowest readers while values that no item has any more take more than a quarter of `-m`.
    pub(super) fn close_slow_readers(&self) {
        let excess = self.engine.pinned_excess_bytes();
        if excess > 0 {
            self.close_slowest(None, Limit::Values, excess);
        }
    }

    /// Wakes the connections whose stores wait for memory. To be called with every tick, once slow readers are closed.
    pub(super) fn wake_waiting_for_memory(&self) {
        let waiting = std::mem::take(&mut *self.waiting_for_memory());
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Wakes `waker` at the next tick.
    pub(super) fn wake_at_next_tick(&self, waker: &Waker) {
        self.waiting_for_memory().push(waker.clone());
    }

    fn waiting_for_memory(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.slow_clients.waiting_for_memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes clients, the slowest first, until they free `bytes` that count against `limit`; on behalf of `newcomer`,
    /// only clients that are slower than it. Returns how many bytes they free.
    #[cold]
    fn close_slowest(&self, newcomer: Option<&Client>, limit: Limit, bytes: u64) -> u64 {
        let now = self.clock.now();
        // To look through all clients takes as long as some thousand small gets, so that is in vain at most once a
        // tick.
        if self.slow_clients.none_at.load(Ordering::Relaxed) == now.0 {
            return 0;
        }
        let ticks_min = ticks_min(newcomer.map(|client| &client.memory), now);
        // Clients that were closed already are about to free this much.
        let mut freed = 0;
        let candidates = self.clients.select(|client| {
            let counted = limit.counted(&client.memory);
            freed += if client.is_too_slow() { counted } else { 0 };
            counted > 0 && client.memory.piece_ticks(now) >= ticks_min && !client.is_too_slow()
        });
        let needed = bytes.saturating_sub(freed);
        let slowest = slowest(candidates, |(client, _)| &client.memory, limit, needed, now);
        let mut closed_bytes = 0;
        for (client, task) in &slowest {
            closed_bytes += limit.counted(&client.memory);
            self.account(client).close_too_slow();
            task.abort();
        }
        freed += closed_bytes;
        if freed < bytes && ticks_min == SLOW_TICKS_MIN {
            self.slow_clients.none_at.store(now.0, Ordering::Relaxed);
        }
        self.log_closed(limit, slowest.len() as u64, closed_bytes, now);
        freed
    }

    fn log_closed(&self, limit: Limit, clients: u64, bytes: u64, now: Tick) {
        let log = match limit {
            Limit::Buffers => &self.slow_clients.buffers_log,
            Limit::Values => &self.slow_clients.values_log,
        };
        log.unlogged_bytes.fetch_add(bytes, Ordering::Relaxed);
        let Some(clients) = log.throttle.count(clients, now) else { return };
        let kilobytes = log.unlogged_bytes.swap(0, Ordering::Relaxed).div_ceil(1 << 10);
        match limit {
            Limit::Buffers => warn!(
                "closed {clients} slow clients to free {kilobytes} KB of buffers for requests and replies (limit for all \
                 clients: {} KB, -o read_buf_mem_limit)",
                self.engine.settings().buffer_bytes_max() >> 10
            ),
            Limit::Values => warn!(
                "closed {clients} slow clients to free {kilobytes} KB of replaced or evicted values that they had not read \
                 (limit for all clients: a quarter of -m)"
            ),
        }
    }
}

/// How long a client must have taken over its piece to be closed, in ticks: longer than `newcomer`, on whose behalf it
/// is closed.
fn ticks_min(newcomer: Option<&ClientMemory>, now: Tick) -> u32 {
    newcomer.map_or(0, |memory| memory.piece_ticks(now) + 1).max(SLOW_TICKS_MIN)
}

/// The slowest of `candidates`, as many as it takes to free `bytes` that count against `limit`; all of them if they do
/// not free as much.
fn slowest<T>(
    mut candidates: Vec<T>,
    memory: impl Fn(&T) -> &ClientMemory,
    limit: Limit,
    bytes: u64,
    now: Tick,
) -> Vec<T> {
    candidates.sort_by_key(|candidate| std::cmp::Reverse(memory(candidate).piece_ticks(now)));
    let mut freed = 0;
    let count = candidates.iter().take_while(|candidate| {
        let is_needed = freed < bytes;
        freed += limit.counted(memory(candidate));
        is_needed
    });
    let count = count.count();
    candidates.truncate(count);
    candidates
}

/// Moves a total from `before` to `after` bytes, and with it the number of clients that have any.
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
    use super::*;

    /// A client that occupies `kilobytes` and began its piece at tick `since`.
    fn memory(kilobytes: u64, since: u32) -> ClientMemory {
        let memory = ClientMemory::default();
        memory.set_input((kilobytes as usize) << 10);
        memory.begin_piece(Tick(since));
        memory
    }

    #[test]
    fn the_slowest_are_closed_first_and_no_more_than_are_needed() {
        let check = |kilobytes: u64, expected: &[u32]| {
            let candidates = vec![memory(10, 30), memory(40, 10), memory(20, 20)];
            let slowest = slowest(candidates, |memory| memory, Limit::Buffers, kilobytes << 10, Tick(50));
            let ticks: Vec<_> = slowest.iter().map(|memory| memory.piece_ticks(Tick(50))).collect();
            assert_eq!(ticks, expected, "{kilobytes} KB");
        };
        check(0, &[]);
        check(1, &[40]);
        check(40, &[40]);
        check(41, &[40, 30]);
        check(1000, &[40, 30, 20]);
    }

    #[test]
    fn a_client_is_closed_for_a_faster_one_only_and_not_within_two_ticks() {
        assert_eq!(ticks_min(None, Tick(50)), SLOW_TICKS_MIN);
        assert_eq!(ticks_min(Some(&memory(1, 50)), Tick(50)), SLOW_TICKS_MIN);
        assert_eq!(ticks_min(Some(&memory(1, 40)), Tick(50)), 11, "one that is as slow stays");
    }
}
