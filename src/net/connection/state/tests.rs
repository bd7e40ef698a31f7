use std::cell::Cell;

use bytes::BufMut;

use super::*;
use crate::net::client_memory::ClientMemory;
use crate::store::{Store, StoreConfig};

/// The reply to a request that finds no memory.
const REFUSAL: &[u8] = reply::OUT_OF_MEMORY_READING;

/// An account that grants `free` bytes.
struct TestAccount {
    memory: ClientMemory,
    free: Cell<usize>,
    /// The sizes of the buffers that were noted last.
    input: Cell<usize>,
    output: Cell<usize>,
}

impl TestAccount {
    fn granting(free: usize) -> TestAccount {
        let (input, output) = (Cell::new(0), Cell::new(0));
        TestAccount { memory: ClientMemory::default(), free: Cell::new(free), input, output }
    }

    /// How long the client has taken over its piece.
    fn ticks(&self, now: u32) -> u32 {
        self.memory.piece_ticks(Tick(now))
    }
}

impl Account for TestAccount {
    fn progress(&self) -> &ClientMemory {
        &self.memory
    }

    fn may_buffer_input(&self, _held: usize, more: usize) -> bool {
        more <= self.free.get()
    }

    fn may_buffer_output(&self, bytes: usize, value_bytes: usize) -> bool {
        let is_granted = bytes + value_bytes <= self.free.get();
        if is_granted {
            self.note_output(bytes, value_bytes);
        }
        is_granted
    }

    fn note_input(&self, bytes: usize) {
        self.input.set(bytes);
    }

    fn note_output(&self, bytes: usize, _value_bytes: usize) {
        self.output.set(bytes);
    }
}

/// Reads `arrived` into the scratch space at `now`, where a turn consumes `consumed` of all there is.
fn read(
    state: &mut ConnectionState,
    arrived: &[u8],
    consumed: usize,
    now: u32,
    account: &TestAccount,
) -> bool {
    let mut input = vec![0; READ_BYTES_MAX];
    let held = state.held().len();
    input[held..held + arrived.len()].copy_from_slice(arrived);
    let length = state.received_short(&mut input, arrived.len());
    state.hold(&input[consumed..length], consumed, Tick(now), account, &mut Owed::default())
}

/// Reads `bytes` of a long request of `bytes_min` at `now`, as many at a time as the buffer takes.
fn read_long(state: &mut ConnectionState, bytes_min: usize, bytes: usize, now: u32, account: &TestAccount) {
    read_long_into(state, bytes_min, bytes, now, account, |_, _| None);
}

/// The same, into the block that `lend` gives.
fn read_long_into(
    state: &mut ConnectionState,
    bytes_min: usize,
    mut bytes: usize,
    now: u32,
    account: &TestAccount,
    lend: impl Fn(usize, usize) -> Option<Upload>,
) {
    while bytes > 0 {
        let buffer = state.long_buffer(bytes_min, account, &lend).expect("it is granted");
        let read = bytes.min(buffer.len());
        match buffer {
            LongBuffer::Buffer(mut buffer) => buffer.put_bytes(b'x', read),
            LongBuffer::Block(free) => free[..read].fill(b'x'),
        }
        state.received_long(read, Tick(now), account);
        bytes -= read;
    }
}

fn store() -> Store {
    Store::new(StoreConfig { memory_bytes: 64 << 20, evictions_enabled: true, workers: 1 })
}

fn replies(bytes: usize) -> Owed {
    let mut owed = Owed::default();
    owed.say(&vec![b'x'; bytes]);
    owed
}

/// Sends `bytes` of the owed replies at `now`.
fn send(state: &mut ConnectionState, bytes: usize, now: u32, account: &TestAccount) -> bool {
    state.owed().advance(bytes);
    state.sent(bytes, 0, Tick(now), account)
}

#[test]
fn a_request_that_is_cut_off_is_put_before_the_next_read() {
    let (mut state, account) = (ConnectionState::new(), TestAccount::granting(1 << 20));
    assert_eq!(state.wants(), Wants::Read { bytes_min: 1 });
    assert!(read(&mut state, b"get a\r\nget", 7, 1, &account));
    assert_eq!(state.held(), b"get");
    let mut input = *b"\0\0\0 b\r\n";
    assert_eq!(state.received_short(&mut input, 4), 7);
    assert_eq!(&input, b"get b\r\n");
}

#[test]
fn a_connection_that_has_nothing_to_hold_has_no_buffers() {
    let (mut state, account) = (ConnectionState::new(), TestAccount::granting(1 << 20));
    assert!(read(&mut state, b"get a\r\nget", 7, 1, &account));
    assert!(account.input.get() > 0);
    assert!(read(&mut state, b" b\r\n", 7, 1, &account));
    state.give_back_buffers(&account);
    assert_eq!((state.held.capacity(), account.input.get()), (0, 0));

    assert!(state.owe(&mut replies(100), 0, Tick(1), &account));
    assert!(account.output.get() >= 100);
    assert!(send(&mut state, 100, 2, &account), "nothing is owed any more");
    assert_eq!((state.owed().capacity(), account.output.get()), (0, 0));
}

#[test]
fn a_client_is_not_read_from_while_it_is_owed_something() {
    let (mut state, account) = (ConnectionState::new(), TestAccount::granting(1 << 20));
    assert!(state.owe(&mut replies(10), 0, Tick(1), &account));
    for next in [Wants::read(1, 0), Wants::Turn, Wants::Watch, Wants::WaitForWork, Wants::Close] {
        state.set_next(next);
        assert_eq!((state.wants(), state.shown()), (Wants::Send, State::Writing), "{next:?}");
    }
    assert!(!send(&mut state, 9, 2, &account));
    assert_eq!(state.wants(), Wants::Send);
    assert!(send(&mut state, 1, 3, &account));
    assert_eq!(state.wants(), Wants::Close);
}

#[test]
fn replies_that_find_no_memory_end_the_connection() {
    let (mut state, account) = (ConnectionState::new(), TestAccount::granting(1000));
    assert!(!state.owe(&mut replies(1001), 0, Tick(1), &account));
    let mut state = ConnectionState::new();
    assert!(!state.owe(&mut replies(10), 1000, Tick(1), &account), "what waits encrypted counts, too");
}

#[test]
fn a_reader_that_drips_stays_slow_and_one_that_reads_a_piece_does_not() {
    let (mut state, account) = (ConnectionState::new(), TestAccount::granting(1 << 20));
    assert!(state.owe(&mut replies(200 << 10), 0, Tick(10), &account));
    send(&mut state, 1, 20, &account);
    assert_eq!(account.ticks(20), 10);
    send(&mut state, 64 << 10, 30, &account);
    assert_eq!(account.ticks(30), 0);
    send(&mut state, 1, 40, &account);
    assert_eq!(account.ticks(40), 10);
}

#[test]
fn a_writer_that_drips_stays_slow_until_its_request_is_complete() {
    let (mut state, account) = (ConnectionState::new(), TestAccount::granting(1 << 20));
    assert!(read(&mut state, b"s", 0, 10, &account));
    for now in 11..20 {
        assert!(read(&mut state, b"e", 0, now, &account));
        assert_eq!(account.ticks(now), now - 10);
    }
    let length = state.held().len();
    assert!(read(&mut state, b"\r\ng", length + 2, 20, &account), "the next request begins");
    assert_eq!(account.ticks(20), 0);

    state.set_next(Wants::read(1 << 20, 1 << 16));
    read_long(&mut state, 1 << 20, 1000, 30, &account);
    assert_eq!(account.ticks(30), 10, "less than a piece");
    read_long(&mut state, 1 << 20, 64 << 10, 40, &account);
    assert_eq!(account.ticks(40), 0);
    read_long(&mut state, 1 << 20, 1, 50, &account);
    let held = state.held().len();
    state.consumed(held, Tick(51), &account);
    assert_eq!(account.ticks(51), 0);
}

#[test]
fn a_long_request_grows_its_buffer_with_what_arrives_not_with_what_it_announces() {
    const ANNOUNCED: usize = 64 << 20;
    let (mut state, account) = (ConnectionState::new(), TestAccount::granting(ANNOUNCED));
    state.set_next(Wants::read(ANNOUNCED, 1 << 16));
    assert_eq!(state.wants(), Wants::ReadLong { bytes_min: ANNOUNCED });
    assert_eq!(state.shown(), State::ReadingValue);
    let (mut buffers, mut arrived) = (0, 0);
    while arrived < ANNOUNCED {
        let before = account.input.get();
        let bytes = LONG_READ_BYTES_MAX.min(ANNOUNCED - arrived);
        read_long(&mut state, ANNOUNCED, bytes, 1, &account);
        arrived += bytes;
        let noted = account.input.get();
        assert_eq!(noted, state.held.capacity());
        assert!(noted <= (arrived + GROWTH_BYTES_MIN).max(2 * arrived), "{noted} bytes for {arrived}");
        buffers += usize::from(noted != before);
    }
    assert!(buffers <= 8, "it is copied each time: {buffers} buffers");
    assert_eq!(account.input.get(), ANNOUNCED, "and in the end it is as long as the request");
}

#[test]
fn a_long_request_that_drips_in_is_copied_as_seldom_as_one_that_comes_at_once() {
    const LONG: usize = 1 << 20;
    for drop_bytes in [1000, 100 << 10, LONG_READ_BYTES_MAX] {
        let (mut state, account) = (ConnectionState::new(), TestAccount::granting(LONG));
        let (mut buffers, mut arrived) = (0, 0);
        while arrived < LONG {
            let before = account.input.get();
            let bytes = drop_bytes.min(LONG - arrived);
            read_long(&mut state, LONG, bytes, 1, &account);
            arrived += bytes;
            buffers += usize::from(account.input.get() != before);
        }
        assert!(buffers <= 4, "{drop_bytes} bytes at a time: {buffers} buffers");
    }
}

#[test]
fn the_buffer_of_a_long_request_stays_while_its_client_goes_on() {
    const LONG: usize = 1 << 20;
    let (mut state, account) = (ConnectionState::new(), TestAccount::granting(LONG));
    state.set_next(Wants::read(LONG, 1 << 16));
    read_long(&mut state, LONG, LONG / 2, 1, &account);
    state.give_back_buffers(&account);
    assert!(state.held.capacity() >= LONG / 2, "a client in the middle of it is waited for");
    read_long(&mut state, LONG, LONG / 2, 1, &account);
    state.consumed(LONG, Tick(2), &account);
    assert!(account.input.get() >= LONG, "the next request may be as long");
    state.set_next(Wants::read(1, 0));
    state.give_back_buffers(&account);
    assert_eq!((state.held.capacity(), account.input.get()), (0, 0), "an idle client has none");
}

#[test]
fn a_request_that_is_announced_and_does_not_come_gets_no_buffer() {
    const LONG: usize = 1 << 20;
    let (mut state, account) = (ConnectionState::new(), TestAccount::granting(LONG));
    assert!(read(&mut state, b"set a 0 0 1048000\r\n", 0, 1, &account));
    assert_eq!(state.wants_to_read(LONG), Wants::Read { bytes_min: LONG });
    state.set_next(Wants::Read { bytes_min: LONG });
    assert_eq!(state.shown(), State::ReadingValue);
    assert!(read(&mut state, &[b'v'; SHORT_BYTES_MAX - 19], 0, 1, &account));
    assert_eq!((state.held().len(), state.wants_to_read(LONG)), (SHORT_BYTES_MAX, state.next));
    assert!(account.input.get() < 2 * SHORT_BYTES_MAX);
    assert!(read(&mut state, b"v", 0, 1, &account));
    assert_eq!(state.wants_to_read(LONG), Wants::ReadLong { bytes_min: LONG });
}

#[test]
fn a_long_request_is_held_in_a_block_that_is_noted_as_a_buffer_is() {
    const LONG: usize = 3 << 20;
    let (store, account) = (store(), TestAccount::granting(LONG));
    let lend = |bytes, capacity| store.lend(bytes, capacity);
    let mut state = ConnectionState::new();
    assert!(read(&mut state, b"set", 0, 1, &account));
    let mut arrived = 3;
    while arrived < LONG {
        let bytes = (100 << 10).min(LONG - arrived);
        read_long_into(&mut state, LONG, bytes, 1, &account, lend);
        arrived += bytes;
        assert!(matches!(state.held, Held::Block(_)));
        let noted = account.input.get();
        assert_eq!((noted, state.held().len()), (state.held.capacity(), arrived));
        assert!(noted <= (arrived + GROWTH_BYTES_MIN).max(2 * arrived), "{noted} bytes for {arrived}");
    }
    assert_eq!((&state.held()[..4], account.input.get()), (&b"setx"[..], LONG));
    assert!(state.offer().is_some());
    state.drop_held(&account);
    assert_eq!((state.held().len(), account.input.get()), (0, 0));
}

#[test]
fn what_is_left_of_a_block_moves_to_a_buffer() {
    const LONG: usize = 1 << 20;
    let (store, account) = (store(), TestAccount::granting(LONG));
    for consumed in [1, LONG - 1, LONG] {
        let mut state = ConnectionState::new();
        state.set_next(Wants::ReadLong { bytes_min: LONG });
        read_long_into(&mut state, LONG, LONG, 1, &account, |bytes, capacity| store.lend(bytes, capacity));
        state.give_back_buffers(&account);
        state.consumed(0, Tick(1), &account);
        assert_eq!(account.input.get(), LONG, "nothing has changed");
        state.consumed(consumed, Tick(1), &account);
        assert!(matches!(&state.held, Held::Buffer(buffer) if buffer.len() == LONG - consumed));
        assert_eq!(account.input.get(), LONG - consumed);
        assert!(state.offer().is_none());
    }
}

#[test]
fn a_request_that_finds_no_memory_is_answered_and_the_connection_closed() {
    let account = TestAccount::granting(10);
    let mut input = [b'x'; 20];
    let (mut state, mut told) = (ConnectionState::new(), Owed::default());
    let length = state.received_short(&mut input, 20);
    assert!(!state.hold(&input[..length], 0, Tick(1), &account, &mut told));
    assert_eq!((told.chunk(), state.ended()), (REFUSAL, Some(Reason::Error)));

    let mut state = ConnectionState::new();
    state.set_next(Wants::read(1 << 20, 1 << 16));
    assert!(state.long_buffer(1 << 20, &account, |_, _| None).is_none());
    assert_eq!((state.wants(), state.owed().chunk()), (Wants::Send, REFUSAL));
    assert!(send(&mut state, REFUSAL.len(), 1, &account));
    assert_eq!((state.wants(), state.ended()), (Wants::Close, Some(Reason::Error)));
    assert_eq!(account.input.get(), 0);
}

#[test]
fn a_store_that_waits_for_memory_is_retried_a_tick_later_and_its_client_is_not_to_blame() {
    let (state, account) = (ConnectionState::new(), TestAccount::granting(0));
    account.memory.begin_piece(Tick(3));
    assert!(!state.may_retry(Tick(10), Tick(10), &account));
    assert_eq!(account.ticks(10), 7);
    assert!(state.may_retry(Tick(10), Tick(11), &account));
    assert_eq!(account.ticks(11), 0);
}

#[test]
fn little_is_held_while_blocking_work_runs() {
    let (mut state, account) = (ConnectionState::new(), TestAccount::granting(1 << 20));
    assert_eq!(state.room_while_waiting(), SHORT_BYTES_MAX);
    assert!(state.received_while_waiting(&[b'x'; SHORT_BYTES_MAX - 1], &account));
    assert_eq!(state.room_while_waiting(), 1);
    assert!(state.received_while_waiting(b"x", &account));
    assert_eq!((state.room_while_waiting(), account.input.get()), (0, state.held.capacity()));
    account.free.set(0);
    assert!(!state.received_while_waiting(b"x", &account));
}
