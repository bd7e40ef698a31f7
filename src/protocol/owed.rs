//! The queue of bytes owed to a client, and the pen that writes into it.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

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
    pub(super) fn said(&mut self, bytes: usize) {
        self.worded.end += bytes;
        self.worded_behind += bytes;
    }

    /// What writes at most `bytes` bytes behind what was worded; [`Owed::said`] is to be told how many it has written.
    #[inline(always)]
    pub(super) fn writer(&mut self, bytes: usize) -> Writer<'_> {
        Writer::new(self.worded.room(bytes))
    }

    /// Says what `word` writes, at most `bytes` bytes.
    #[inline(always)]
    pub(super) fn write(&mut self, bytes: usize, word: impl FnOnce(&mut Writer<'_>)) {
        let mut line = self.writer(bytes);
        word(&mut line);
        let written = line.written();
        self.said(written);
    }

    /// Says a number.
    #[inline]
    pub fn say_number(&mut self, number: u64) {
        self.say(itoa::Buffer::new().format(number).as_bytes());
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
    pub(super) fn written(self) -> usize {
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
    use crate::protocol::{Hit, Style, reply};

    fn owed_with_values() -> (Owed, Vec<u8>) {
        let mut owed = Owed::default();
        let large = Bytes::from(vec![b'v'; 40]);
        for (key, shared) in [(&b"a"[..], None), (b"b", Some(&large)), (b"c", Some(&large)), (b"d", None)] {
            let hit = Hit { key, flags: 7, cas: Some(9), value: Some(&large[..]), shared, ..Hit::default() };
            Style::Classic.say_hit(&hit, || unreachable!("it shows nothing else"), &mut owed);
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
