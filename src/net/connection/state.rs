//! A connection without its socket: the input it holds, the replies it owes, and what it wants next.
//!
//! The driver (`connection/mod.rs`) asks [`ConnectionState::wants`], does that with the socket or the engine, and
//! reports what came of it. Nothing here reads a socket or a clock, or wakes a task: moments come in as arguments, so
//! that tests move time. Rules:
//! - replies are sent before anything else is done, so the server reads nothing from a client that does not read its
//!   replies;
//! - the buffer for a long request grows with what arrives, not with what was announced; its size is noted in the
//!   client's [`Account`], which bounds the buffers of all clients together, whether it is a block of the store's or not;
//! - an idle connection holds no buffer;
//! - a client whose request or reply finds no memory is told so and closed.

use bytes::Buf;

use crate::clock::Tick;
use crate::engine::stats::connections::State;
use crate::engine::turn::then::Reason;
use crate::net::client_memory::Account;
use crate::net::connection::held::{Held, LongBuffer};
use crate::net::shared::StopKind;
use crate::protocol::{Owed, reply};
use crate::store::{Offer, Upload};

/// How much one read may bring, in bytes: about as many small requests as take a tenth of a millisecond.
pub(super) const READ_BYTES_MAX: usize = 32 << 10;

/// Up to this length, in bytes, an unfinished request is put before the next read in the scratch space; a longer
/// one gets a buffer of its own, so that tiny writes cannot have it copied over and over.
pub(super) const SHORT_BYTES_MAX: usize = 16 << 10;

/// How much a read of a long request may bring, in bytes. It is only copied, which takes some tenths of a millisecond;
/// twenty clients that upload values of 1 MB get a quarter less through with reads of half as much.
const LONG_READ_BYTES_MAX: usize = 1 << 20;

/// The buffer of a long request grows by at least so much, in bytes, or to the length of the request: one of up to 1 MB
/// needs only one.
const GROWTH_BYTES_MIN: usize = 1 << 20;

/// The next thing that a connection wants its driver to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wants {
    /// Send the replies that are owed.
    Send,
    /// Read into the scratch space, and run a turn once there are `bytes_min` bytes with those held; these are at most
    /// [`SHORT_BYTES_MAX`].
    Read { bytes_min: usize },
    /// Read into the buffer, and run a turn once it holds `bytes_min` bytes, more than [`SHORT_BYTES_MAX`].
    ReadLong { bytes_min: usize },
    /// Run another turn over the input that is held.
    Turn,
    /// Send events to the client that watches, as they come.
    Watch,
    /// Wait until the session's blocking work is done.
    WaitForWork,
    /// Wait until the store may have memory: until the tick behind `since`.
    WaitForMemory { since: Tick },
    /// Close the connection.
    Close,
    /// Close the connection and stop the server.
    Stop(StopKind),
}

impl Wants {
    /// Read until `bytes_min` bytes are held instead of `held`. A request gets a buffer once it has become long, not when
    /// it is announced.
    #[inline]
    pub(super) fn read(bytes_min: usize, held: usize) -> Wants {
        let is_short = bytes_min <= SHORT_BYTES_MAX || held <= SHORT_BYTES_MAX;
        if is_short { Wants::Read { bytes_min } } else { Wants::ReadLong { bytes_min } }
    }
}

/// One connection without its socket.
#[derive(Debug)]
pub(super) struct ConnectionState {
    /// Input that no turn has consumed.
    held: Held,
    /// The capacity of `held` that the account knows of, in bytes.
    held_noted: usize,
    /// Replies that the socket has not taken.
    owed: Owed,
    /// What the connection wants once it owes nothing; never [`Wants::Send`].
    next: Wants,
    /// Why the connection ended, once it has.
    ended: Option<Reason>,
}

impl ConnectionState {
    pub(super) fn new() -> ConnectionState {
        ConnectionState {
            held: Held::default(),
            held_noted: 0,
            owed: Owed::default(),
            next: Wants::Read { bytes_min: 1 },
            ended: None,
        }
    }

    /// The next thing for the driver to do.
    #[inline]
    pub(super) fn wants(&self) -> Wants {
        if self.owed.has_remaining() { Wants::Send } else { self.next }
    }

    /// Sets what the connection wants once it owes nothing; returns whether that differs from before.
    #[inline]
    pub(super) fn set_next(&mut self, next: Wants) -> bool {
        let is_new = next != self.next;
        self.next = next;
        is_new
    }

    /// What a connection wants whose next turn needs `bytes_min` bytes.
    #[inline]
    pub(super) fn wants_to_read(&self, bytes_min: usize) -> Wants {
        Wants::read(bytes_min, if bytes_min <= SHORT_BYTES_MAX { 0 } else { self.held.len() })
    }

    /// The state that `stats conns` shows. A connection that reads a line wants one more byte, one that reads a value
    /// all that is missing.
    pub(super) fn shown(&self) -> State {
        match self.wants() {
            Wants::Send => State::Writing,
            Wants::Watch => State::Watching,
            Wants::Read { bytes_min } | Wants::ReadLong { bytes_min } if bytes_min > self.held.len() + 1 => {
                State::ReadingValue
            }
            _ => State::Reading,
        }
    }

    /// Input that no turn has consumed.
    #[inline]
    pub(super) fn held(&self) -> &[u8] {
        self.held.bytes()
    }

    /// While this lives, the large value that has arrived can be stored where it lies.
    pub(super) fn offer(&self) -> Option<Offer<'_>> {
        self.held.offer()
    }

    /// Replies that the socket has not taken. The driver advances them as it sends, and reports that as [`Self::sent`].
    #[inline]
    pub(super) fn owed(&mut self) -> &mut Owed {
        &mut self.owed
    }

    /// Why the connection ended, once it has.
    pub(super) fn ended(&self) -> Option<Reason> {
        self.ended
    }

    /// Notes that the connection has ended.
    pub(super) fn end(&mut self, reason: Reason) {
        self.ended = Some(reason);
    }

    /// Puts the held input at the front of `input`, where a read has put `read` bytes behind the place for it. Returns
    /// the length of both.
    #[inline]
    pub(super) fn received_short(&self, input: &mut [u8], read: usize) -> usize {
        let held = self.held.bytes();
        input[..held.len()].copy_from_slice(held);
        held.len() + read
    }

    /// Holds `left`, the input in the scratch space behind the `consumed` bytes that a turn at `now` has used up; if it
    /// used up none, `left` begins with the input that was held before. When there is no memory for it, says so in
    /// `replies` and returns `false`: the driver closes the connection.
    pub(super) fn hold(
        &mut self,
        left: &[u8],
        consumed: usize,
        now: Tick,
        account: &impl Account,
        replies: &mut Owed,
    ) -> bool {
        let held = self.held.len();
        match left.len().checked_sub(held) {
            Some(more) if consumed == 0 && held > 0 => account.progress().advance_piece(more, now),
            _ => account.progress().begin_piece(now),
        }
        let more = left.len().saturating_sub(held);
        if more > 0 && !account.may_buffer_input(held, more) {
            replies.say(reply::OUT_OF_MEMORY_READING);
            self.end(Reason::Error);
            return false;
        }
        self.held.set(left);
        self.note_held(account);
        true
    }

    /// The buffer for the next read of a long request of at least `bytes_min` bytes; if it needs a longer one, `lend` may
    /// give a block for so many bytes, of which the second number may be filled. `None` when there is no memory for it;
    /// then the connection owes the client that reply and wants to be closed.
    pub(super) fn long_buffer(
        &mut self,
        bytes_min: usize,
        account: &impl Account,
        lend: impl FnOnce(usize, usize) -> Option<Upload>,
    ) -> Option<LongBuffer<'_>> {
        let more = (bytes_min - self.held.len()).min(LONG_READ_BYTES_MAX);
        // It grows only once it is nearly full, or each small read of a client that drips would copy it.
        let is_nearly_full = self.held.free_bytes() <= self.held.len() / 4;
        if self.held.free_bytes() < more && is_nearly_full && !self.grow_held(bytes_min, account, lend) {
            self.owed.say(reply::OUT_OF_MEMORY_READING);
            self.end(Reason::Error);
            self.next = Wants::Close;
            return None;
        }
        let more = more.min(self.held.free_bytes());
        Some(self.held.long_buffer(more))
    }

    /// Makes the buffer of a long request of `bytes_min` bytes longer: long enough for the next read, and at least
    /// twice as long, so that a request is copied hardly more often than its length doubles. `false` when there is no
    /// memory for that.
    fn grow_held(
        &mut self,
        bytes_min: usize,
        account: &impl Account,
        lend: impl FnOnce(usize, usize) -> Option<Upload>,
    ) -> bool {
        let len = self.held.len();
        let capacity = bytes_min.min(len + len.max(GROWTH_BYTES_MIN));
        if !account.may_buffer_input(len, capacity.saturating_sub(self.held_noted)) {
            return false;
        }
        self.held.grow(capacity, bytes_min, lend);
        self.note_held(account);
        true
    }

    /// Notes that a read at `now` brought `bytes` of a long request.
    pub(super) fn received_long(&mut self, bytes: usize, now: Tick, account: &impl Account) {
        self.held.arrived(bytes);
        account.progress().advance_piece(bytes, now);
    }

    /// Drops the `bytes` of held input that a turn at `now` has consumed.
    pub(super) fn consumed(&mut self, bytes: usize, now: Tick, account: &impl Account) {
        if bytes > 0 {
            account.progress().begin_piece(now);
        }
        self.held.consume(bytes);
        if self.held.len() > 0 {
            self.held.shrink(READ_BYTES_MAX);
        }
        self.note_held(account);
    }

    /// Keeps `rest`, the replies that the socket did not take at `now`; TLS may hold `encrypted_bytes_max` of them
    /// besides. `false` when there is no memory for them: the driver closes the connection.
    pub(super) fn owe(
        &mut self,
        rest: &mut Owed,
        encrypted_bytes_max: usize,
        now: Tick,
        account: &impl Account,
    ) -> bool {
        rest.move_to(&mut self.owed);
        account.progress().begin_piece(now);
        account.may_buffer_output(self.owed.capacity() + encrypted_bytes_max, self.owed.shared_bytes())
    }

    /// Notes that the socket took `bytes` of the owed replies at `now`; TLS may hold `encrypted_bytes_max` of the rest
    /// besides. Returns whether the connection owes nothing any more.
    pub(super) fn sent(
        &mut self,
        bytes: usize,
        encrypted_bytes_max: usize,
        now: Tick,
        account: &impl Account,
    ) -> bool {
        if self.owed.has_remaining() {
            account.progress().advance_piece(bytes, now);
            account.note_output(self.owed.capacity() + encrypted_bytes_max, self.owed.shared_bytes());
            return false;
        }
        self.owed = Owed::default();
        account.note_output(0, 0);
        account.progress().begin_piece(now);
        true
    }

    /// Drops the held input: a client that watches sends no more requests.
    pub(super) fn drop_held(&mut self, account: &impl Account) {
        self.held = Held::default();
        self.note_held(account);
    }

    /// How many more bytes may arrive while the session's blocking work runs: they are read to see whether the client
    /// leaves.
    pub(super) fn room_while_waiting(&self) -> usize {
        SHORT_BYTES_MAX.saturating_sub(self.held.len())
    }

    /// Holds `bytes` that arrived while the session's blocking work runs; `false` when there is no memory for them.
    pub(super) fn received_while_waiting(&mut self, bytes: &[u8], account: &impl Account) -> bool {
        if !account.may_buffer_input(self.held.len(), bytes.len()) {
            return false;
        }
        self.held.append(bytes);
        self.note_held(account);
        true
    }

    /// Whether a store that has waited for memory since the tick `since` may be tried again at `now`. Such a wait is
    /// not the client's fault, so its progress is measured anew.
    pub(super) fn may_retry(&self, since: Tick, now: Tick, account: &impl Account) -> bool {
        if now == since {
            return false;
        }
        account.progress().begin_piece(now);
        true
    }

    /// Gives back the buffer of a connection that is about to wait for its client, unless a long request is under way.
    /// To be called only where no turn of the connection is queued, which comes in a moment.
    #[inline]
    pub(super) fn give_back_buffers(&mut self, account: &impl Account) {
        if self.held_noted > 0 && !matches!(self.next, Wants::ReadLong { .. }) {
            self.held.shrink(READ_BYTES_MAX);
            self.note_held(account);
        }
    }

    /// Notes the size of the buffer in the account, if it has changed.
    #[inline]
    fn note_held(&mut self, account: &impl Account) {
        let bytes = self.held.capacity();
        if bytes != self.held_noted {
            account.note_input(bytes);
            self.held_noted = bytes;
        }
    }
}

#[cfg(test)]
mod tests;
