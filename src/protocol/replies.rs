//! Replies to bytes: every word the server says about keys and values, and the queue of bytes owed.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// Whole replies, as they are sent.
pub mod reply {
    #![expect(missing_docs, reason = "each constant is its own text")]

    pub const AUTH_FAILURE: &[u8] = b"CLIENT_ERROR authentication failure\r\n";
    pub const AUTH_TOKEN_TOO_LONG: &[u8] = b"CLIENT_ERROR auth token too long\r\n";
    pub const BAD_AUTH_TOKEN: &[u8] = b"CLIENT_ERROR bad authentication token format\r\n";
    pub const BAD_COUNT_FLAG: &[u8] = b"CLIENT_ERROR invalid or duplicate flag\r\n";
    pub const BAD_COUNT_MODE: &[u8] = b"CLIENT_ERROR invalid mode for ma M token\r\n";
    pub const BAD_DATA_CHUNK: &[u8] = b"CLIENT_ERROR bad data chunk\r\n";
    pub const BAD_DELTA: &[u8] = b"CLIENT_ERROR invalid numeric delta argument\r\n";
    pub const BAD_EXPTIME: &[u8] = b"CLIENT_ERROR invalid exptime argument\r\n";
    pub const BAD_INITIAL: &[u8] = b"CLIENT_ERROR invalid numeric initial value\r\n";
    pub const BAD_KEY: &[u8] = b"CLIENT_ERROR error decoding key\r\n";
    pub const BAD_LINE: &[u8] = b"CLIENT_ERROR bad command line format\r\n";
    pub const BAD_META_DELTA: &[u8] = b"CLIENT_ERROR invalid numeric delta value\r\n";
    pub const BAD_PUT_MODE: &[u8] = b"CLIENT_ERROR invalid mode for ms M token\r\n";
    pub const BAD_TERMINATION: &[u8] = b"CLIENT_ERROR bad command line termination\r\n";
    pub const BAD_TOKEN: &[u8] = b"CLIENT_ERROR bad token in command line format\r\n";
    pub const DELETED: &[u8] = b"DELETED\r\n";
    pub const DUPLICATE_FLAG: &[u8] = b"CLIENT_ERROR duplicate flag\r\n";
    pub const END: &[u8] = b"END\r\n";
    pub const ERROR: &[u8] = b"ERROR\r\n";
    pub const EXISTS: &[u8] = b"EXISTS\r\n";
    pub const INVALID_FLAG: &[u8] = b"CLIENT_ERROR invalid flag\r\n";
    pub const NOT_A_NUMBER: &[u8] = b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n";
    pub const NOT_BY_PREFIX: &[u8] = b"CLIENT_ERROR not allowed for a user with a prefix\r\n";
    pub const NOT_BY_READER: &[u8] = b"CLIENT_ERROR not allowed for a read-only user\r\n";
    pub const NOT_FOUND: &[u8] = b"NOT_FOUND\r\n";
    pub const NOT_OVER_UDP: &[u8] = b"SERVER_ERROR not over UDP, use TCP\r\n";
    pub const NOT_STORED: &[u8] = b"NOT_STORED\r\n";
    pub const OK: &[u8] = b"OK\r\n";
    pub const OPAQUE_TOO_LONG: &[u8] = b"CLIENT_ERROR opaque token too long\r\n";
    pub const OUT_OF_MEMORY: &[u8] = b"SERVER_ERROR out of memory\r\n";
    pub const OUT_OF_MEMORY_READING: &[u8] = b"SERVER_ERROR out of memory reading request\r\n";
    pub const OUT_OF_MEMORY_STORING: &[u8] = b"SERVER_ERROR out of memory storing object\r\n";
    pub const PUBLIC_ADDRESS: &[u8] =
        b"SERVER_ERROR refused: your address is public, and this server was not told to \
        serve public addresses (start it with -l, or better with -Y; in a container, with \
        MEMCACHED_PROTECTED_MODE=no or -o no_protected_mode)\r\n";
    pub const STORED: &[u8] = b"STORED\r\n";
    pub const TOO_LARGE: &[u8] = b"SERVER_ERROR object too large for cache\r\n";
    pub const TOO_LARGE_FOR_UDP: &[u8] = b"SERVER_ERROR too much for UDP, use TCP\r\n";
    pub const TOO_MANY_FLAGS: &[u8] = b"CLIENT_ERROR options flags are too long\r\n";
    pub const TOO_MANY_CONNECTIONS: &[u8] = b"ERROR Too many open connections\r\n";
    pub const TOO_MANY_LOGINS: &[u8] = b"SERVER_ERROR too many clients log in at once, try again later\r\n";
    pub const TOUCHED: &[u8] = b"TOUCHED\r\n";
    pub const UNAUTHENTICATED: &[u8] = b"CLIENT_ERROR unauthenticated\r\n";
}

/// How a change ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was stored.
    Stored,
    /// The condition of `add`, `replace`, `append` or `prepend` did not hold.
    NotStored,
    /// The item has another CAS id by now.
    Exists,
    /// There is no such item.
    NotFound,
    /// It was removed.
    Deleted,
    /// It has its new exptime.
    Touched,
    /// The number is this now.
    Number(u64),
    /// What is there is no number.
    NotANumber,
    /// It exceeds the item size limit.
    TooLarge,
    /// There is no room for it.
    OutOfMemoryStoring,
    /// There is no room for the number grown longer.
    OutOfMemory,
    /// The value was not followed by CRLF.
    BadDataChunk,
}

/// An item as a retrieval shows it.
#[derive(Clone, Copy, Debug)]
pub struct ItemReply<'a> {
    /// Its key.
    pub key: &'a [u8],
    /// The client's flags.
    pub flags: u32,
    /// Its CAS id, if it is to be told.
    pub cas: Option<u64>,
    /// Its value.
    pub value: &'a [u8],
    /// The value as a handle, to be shared instead of copied.
    pub shared: Option<&'a Bytes>,
}

/// The bytes owed to one client, in order: those worded here, and large values shared with the store.
///
/// It is a [`Buf`]: what was sent is taken off with `advance`.
#[derive(Debug, Default)]
pub struct Owed {
    worded: Worded,
    /// Shared values, each with the number of worded bytes that go before it, counted from the value before.
    shared: VecDeque<(usize, Bytes)>,
    /// Worded bytes behind the last shared value.
    worded_behind: usize,
    shared_bytes: usize,
}

impl Owed {
    /// Nothing owed yet, with room for `bytes` worded bytes.
    pub fn with_capacity(bytes: usize) -> Owed {
        Owed { worded: Worded::with_capacity(bytes), ..Owed::default() }
    }

    /// Says `words`.
    #[inline]
    pub fn say(&mut self, words: &[u8]) {
        self.worded.room(words.len())[..words.len()].copy_from_slice(words);
        self.said(words.len());
    }

    /// Counts `bytes` that were written into the room behind what was worded.
    #[inline]
    fn said(&mut self, bytes: usize) {
        self.worded.end += bytes;
        self.worded_behind += bytes;
    }

    /// Says what `word` writes, at most `bytes` bytes.
    #[inline(always)]
    pub(super) fn write(&mut self, bytes: usize, word: impl FnOnce(&mut Writer<'_>)) {
        let mut line = Writer::new(self.worded.room(bytes));
        word(&mut line);
        let written = line.written();
        self.said(written);
    }

    /// Says a number.
    #[inline]
    pub fn say_number(&mut self, number: u64) {
        self.say(itoa::Buffer::new().format(number).as_bytes());
    }

    /// Says how a change ended.
    #[inline]
    pub fn say_outcome(&mut self, outcome: Outcome) {
        let words = match outcome {
            Outcome::Stored => reply::STORED,
            Outcome::NotStored => reply::NOT_STORED,
            Outcome::Exists => reply::EXISTS,
            Outcome::NotFound => reply::NOT_FOUND,
            Outcome::Deleted => reply::DELETED,
            Outcome::Touched => reply::TOUCHED,
            Outcome::Number(number) => {
                self.say_number(number);
                return self.say(b"\r\n");
            }
            Outcome::NotANumber => reply::NOT_A_NUMBER,
            Outcome::TooLarge => reply::TOO_LARGE,
            Outcome::OutOfMemoryStoring => reply::OUT_OF_MEMORY_STORING,
            Outcome::OutOfMemory => reply::OUT_OF_MEMORY,
            Outcome::BadDataChunk => reply::BAD_DATA_CHUNK,
        };
        self.say(words);
    }

    /// Says `VALUE …` and the value.
    #[inline(always)]
    pub fn say_item(&mut self, item: ItemReply<'_>) {
        let inline = if item.shared.is_none() { item.value } else { &[] };
        // One look at the room for all of it: this is the reply that a cache gives most.
        let mut line = Writer::new(self.worded.room(ITEM_LINE_BYTES_MAX + item.key.len() + inline.len()));
        line.write(b"VALUE ");
        line.write(item.key);
        if item.flags == 0 {
            line.write(b" 0 ");
        } else {
            line.write(b" ");
            line.write_number(u64::from(item.flags));
            line.write(b" ");
        }
        line.write_number(item.value.len() as u64);
        if let Some(cas) = item.cas {
            line.write(b" ");
            line.write_number(cas);
        }
        line.write(b"\r\n");
        if let Some(value) = item.shared {
            let written = line.written();
            self.said(written);
            self.share(value.clone());
            return self.say(b"\r\n");
        }
        line.write(inline);
        line.write(b"\r\n");
        let written = line.written();
        self.said(written);
    }

    /// Owes `value` without copying it.
    pub(super) fn share(&mut self, value: Bytes) {
        if value.is_empty() {
            return;
        }
        self.shared_bytes += value.len();
        self.shared.push_back((std::mem::take(&mut self.worded_behind), value));
    }

    /// Moves all that is owed here behind what `other` owes.
    pub fn move_to(&mut self, other: &mut Owed) {
        for (before, value) in self.shared.drain(..) {
            other.say(&self.worded.filled()[..before]);
            self.worded.advance(before);
            other.share(value);
        }
        other.say(self.worded.filled());
        self.clear();
    }

    /// Owes nothing any more.
    pub fn clear(&mut self) {
        self.worded.clear();
        self.shared.clear();
        self.worded_behind = 0;
        self.shared_bytes = 0;
    }

    /// All that is owed, as one piece.
    pub fn into_bytes(mut self) -> Bytes {
        self.copy_to_bytes(self.remaining())
    }

    /// How many of the bytes owed are shared with the store.
    pub fn shared_bytes(&self) -> usize {
        self.shared_bytes
    }

    /// How many bytes the queue itself could hold without growing.
    pub fn capacity(&self) -> usize {
        self.worded.bytes.len()
    }
}

/// More than `VALUE`, its numbers, spaces and line ends take in an item's reply, in bytes.
const ITEM_LINE_BYTES_MAX: usize = 64;

/// Bytes that are written at the end and taken from the start. All of `bytes` is initialised, what lies outside
/// of `start..end` with anything, so that wording replies is copying into slices.
#[derive(Debug, Default)]
struct Worded {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Worded {
    fn with_capacity(bytes: usize) -> Worded {
        Worded { bytes: vec![0; bytes], start: 0, end: 0 }
    }

    #[inline]
    fn len(&self) -> usize {
        self.end - self.start
    }

    #[inline]
    fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// At least `bytes` bytes behind what is filled, to be written to.
    #[inline]
    fn room(&mut self, bytes: usize) -> &mut [u8] {
        if self.bytes.len() - self.end < bytes {
            self.make_room(bytes);
        }
        &mut self.bytes[self.end..]
    }

    #[cold]
    fn make_room(&mut self, bytes: usize) {
        self.bytes.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let needed = self.end + bytes;
        if needed > self.bytes.len() {
            self.bytes.resize(needed.max(2 * self.bytes.len()), 0);
        }
    }

    fn advance(&mut self, bytes: usize) {
        assert!(bytes <= self.end - self.start, "only what is filled is taken");
        self.start += bytes;
    }

    fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }
}

/// Room that is being written to.
pub(super) struct Writer<'a> {
    room: &'a mut [u8],
    bytes_before: usize,
}

impl<'a> Writer<'a> {
    #[inline]
    fn new(room: &'a mut [u8]) -> Writer<'a> {
        Writer { bytes_before: room.len(), room }
    }

    #[inline(always)]
    pub(super) fn write(&mut self, bytes: &[u8]) {
        let (head, tail) = std::mem::take(&mut self.room).split_at_mut(bytes.len());
        head.copy_from_slice(bytes);
        self.room = tail;
    }

    #[inline(always)]
    pub(super) fn write_number(&mut self, number: u64) {
        match TWO_DIGITS.get(number as usize) {
            Some(digits) if number >= 10 => self.write(digits),
            Some([_, digit]) => self.write(&[*digit]),
            None => self.write(itoa::Buffer::new().format(number).as_bytes()),
        }
    }

    /// How many bytes were written.
    #[inline]
    fn written(self) -> usize {
        self.bytes_before - self.room.len()
    }
}

/// The numbers up to 99, most lengths of small values among them.
const TWO_DIGITS: [[u8; 2]; 100] = {
    let mut all = [[0; 2]; 100];
    let mut number = 0;
    while number < 100 {
        all[number] = [b'0' + number as u8 / 10, b'0' + number as u8 % 10];
        number += 1;
    }
    all
};

impl Buf for Owed {
    fn remaining(&self) -> usize {
        self.worded.len() + self.shared_bytes
    }

    fn chunk(&self) -> &[u8] {
        match self.shared.front() {
            None => self.worded.filled(),
            Some((0, value)) => value,
            Some((before, _)) => &self.worded.filled()[..*before],
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        let mut put = |bytes: &'a [u8]| {
            if !bytes.is_empty() && filled < slices.len() {
                slices[filled] = IoSlice::new(bytes);
                filled += 1;
            }
        };
        let mut worded = self.worded.filled();
        for (before, value) in &self.shared {
            let (head, tail) = worded.split_at(*before);
            put(head);
            put(value);
            worded = tail;
        }
        put(worded);
        filled
    }

    fn advance(&mut self, mut bytes: usize) {
        while let Some((before, value)) = self.shared.front_mut() {
            let worded = bytes.min(*before);
            self.worded.advance(worded);
            *before -= worded;
            bytes -= worded;
            let shared = bytes.min(value.len());
            value.advance(shared);
            self.shared_bytes -= shared;
            bytes -= shared;
            if !value.is_empty() {
                return;
            }
            self.shared.pop_front();
        }
        self.worded.advance(bytes);
        self.worded_behind -= bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owed_with_values() -> (Owed, Vec<u8>) {
        let mut owed = Owed::default();
        let large = Bytes::from(vec![b'v'; 40]);
        for (key, shared) in [(&b"a"[..], None), (b"b", Some(&large)), (b"c", Some(&large)), (b"d", None)] {
            owed.say_item(ItemReply { key, flags: 7, cas: Some(9), value: &large, shared });
        }
        owed.say(reply::END);
        let mut expected = Vec::new();
        for key in ["a", "b", "c", "d"] {
            expected.extend_from_slice(format!("VALUE {key} 7 40 9\r\n{}\r\n", "v".repeat(40)).as_bytes());
        }
        expected.extend_from_slice(b"END\r\n");
        (owed, expected)
    }

    #[test]
    fn what_is_owed_comes_out_in_order_in_pieces_of_any_size() {
        for piece in 1..60 {
            let (mut owed, expected) = owed_with_values();
            let mut sent = Vec::new();
            while owed.has_remaining() {
                let bytes = owed.chunk().len().min(piece);
                sent.extend_from_slice(&owed.chunk()[..bytes]);
                owed.advance(bytes);
            }
            assert_eq!(sent, expected);
        }
    }

    #[test]
    fn vectored_and_advanced_across_chunks_it_is_the_same() {
        for piece in 1..200 {
            let (mut owed, expected) = owed_with_values();
            let mut sent = Vec::new();
            while owed.has_remaining() {
                let mut slices = [IoSlice::new(&[]); 16];
                let filled = owed.chunks_vectored(&mut slices);
                let all: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
                assert_eq!(all.len(), owed.remaining());
                let bytes = all.len().min(piece);
                sent.extend_from_slice(&all[..bytes]);
                owed.advance(bytes);
            }
            assert_eq!(sent, expected);
        }
    }

    #[test]
    fn moved_behind_another_it_keeps_its_order() {
        let (mut first, mut expected) = owed_with_values();
        let (mut second, more) = owed_with_values();
        first.advance(30);
        expected.drain(..30);
        second.move_to(&mut first);
        expected.extend_from_slice(&more);
        assert_eq!(second.remaining(), 0);
        assert_eq!(first.copy_to_bytes(first.remaining()), expected);
    }
}
