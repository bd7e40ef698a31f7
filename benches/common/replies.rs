//! Checks what a server answers, byte for byte, against what it was asked.

use crate::common::items::{Item, Values};

const END: &[u8] = b"END\r\n";
const STORED: &[u8] = b"STORED\r\n";
const REFUSED: &[u8] = b"SERVER_ERROR";

/// The length of the header of a packet of the binary protocol.
pub(crate) const PACKET_HEADER_BYTES: usize = 24;

/// One piece of a reply. A `get` of three keys expects three `Value`s and an `End`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// The item, or nothing where the server does not have it.
    Value(Item),
    /// The item as `mg` shows it, or `EN`.
    MetaValue(Item),
    /// The item as a packet of the binary protocol shows it, or one that says that there is none.
    BinaryValue(Item),
    End,
    /// `STORED`, or a refusal for want of memory.
    Stored,
}

/// What came back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) stored: u64,
    pub(crate) refused: u64,
}

impl Tally {
    /// Keys asked for, and values stored.
    pub(crate) fn operations(&self) -> u64 {
        self.hits + self.misses + self.stored + self.refused
    }

    pub(crate) fn since(&self, earlier: &Tally) -> Tally {
        Tally {
            hits: self.hits - earlier.hits,
            misses: self.misses - earlier.misses,
            stored: self.stored - earlier.stored,
            refused: self.refused - earlier.refused,
        }
    }
}

/// A reply that is not what memcached's protocol asks for.
#[derive(Debug, thiserror::Error)]
#[error("expected {expected:?}, received {received:?}")]
pub(crate) struct WrongReply {
    expected: Expected,
    received: String,
}

/// How far [`check`] came: what is left of both waits for more bytes.
pub(crate) struct Progress {
    pub(crate) pieces: usize,
    pub(crate) bytes: usize,
}

/// Checks as many pieces as `received` holds whole, and tells `missed` what the server did not have.
pub(crate) fn check(
    expected: &[Expected],
    received: &[u8],
    values: &Values,
    tally: &mut Tally,
    mut missed: impl FnMut(Item),
) -> Result<Progress, WrongReply> {
    let mut bytes = 0;
    for (pieces, &piece) in expected.iter().enumerate() {
        match examine(piece, &received[bytes..], values) {
            Piece::Whole(length) => {
                bytes += length;
                match piece {
                    Expected::Value(_) | Expected::MetaValue(_) | Expected::BinaryValue(_) => tally.hits += 1,
                    Expected::Stored => tally.stored += 1,
                    Expected::End => {}
                }
            }
            Piece::Absent(item, length) => {
                bytes += length;
                tally.misses += 1;
                missed(item);
            }
            Piece::Refused(length) => {
                bytes += length;
                tally.refused += 1;
            }
            Piece::Cut => return Ok(Progress { pieces, bytes }),
            Piece::Wrong => {
                let excerpt = &received[bytes..received.len().min(bytes + 100)];
                return Err(WrongReply {
                    expected: piece,
                    received: String::from_utf8_lossy(excerpt).into_owned(),
                });
            }
        }
    }
    Ok(Progress { pieces: expected.len(), bytes })
}

enum Piece {
    Whole(usize),
    /// And how many bytes say so.
    Absent(Item, usize),
    Refused(usize),
    Cut,
    Wrong,
}

fn examine(piece: Expected, received: &[u8], values: &Values) -> Piece {
    match piece {
        Expected::Value(item) => examine_value(item, received, values),
        Expected::MetaValue(item) => examine_meta_value(item, received, values),
        Expected::BinaryValue(item) => examine_packet(item, received, values),
        Expected::End => examine_word(END, received),
        Expected::Stored if received.starts_with(REFUSED) => match memchr::memchr(b'\n', received) {
            Some(newline) => Piece::Refused(newline + 1),
            None => Piece::Cut,
        },
        Expected::Stored => match examine_word(STORED, received) {
            Piece::Wrong if REFUSED.starts_with(received) => Piece::Cut,
            other => other,
        },
    }
}

fn examine_word(word: &[u8], received: &[u8]) -> Piece {
    if received.starts_with(word) {
        Piece::Whole(word.len())
    } else if word.starts_with(received) {
        Piece::Cut
    } else {
        Piece::Wrong
    }
}

fn examine_meta_value(item: Item, received: &[u8], values: &Values) -> Piece {
    const MISS: &[u8] = b"EN\r\n";
    if received.starts_with(MISS) {
        return Piece::Absent(item, MISS.len());
    }
    let mut digits = itoa::Buffer::new();
    let parts = [b"VA ", digits.format(item.value_bytes).as_bytes(), b"\r\n", values.of(&item), b"\r\n"];
    let mut at = 0;
    for part in parts {
        match examine_word(part, &received[at..received.len().min(at + part.len())]) {
            Piece::Whole(length) => at += length,
            Piece::Wrong if MISS.starts_with(received) => return Piece::Cut,
            other => return other,
        }
    }
    Piece::Whole(at)
}

/// Any CAS id will do, and nothing else but what was asked for.
fn examine_packet(item: Item, received: &[u8], values: &Values) -> Piece {
    const FLAGS: [u8; 4] = [0; 4];
    let Some(header) = received.first_chunk::<PACKET_HEADER_BYTES>() else { return Piece::Cut };
    let body_bytes = u32::from_be_bytes([header[8], header[9], header[10], header[11]]) as usize;
    let Some(body) = received[PACKET_HEADER_BYTES..].get(..body_bytes) else { return Piece::Cut };
    let length = PACKET_HEADER_BYTES + body_bytes;
    match header[..8] {
        [0x81, 0, 0, 0, 4, 0, 0, 0] if body[..4] == FLAGS && body[4..] == *values.of(&item) => {
            Piece::Whole(length)
        }
        [0x81, 0, 0, 0, 0, 0, 0, 1] => Piece::Absent(item, length),
        _ => Piece::Wrong,
    }
}

/// A block of another key means that this one is absent: the server leaves out what it does not have, and keeps the order.
/// A key that was never asked for is found out at the `END` that it stands before.
fn examine_value(item: Item, received: &[u8], values: &Values) -> Piece {
    const WORD: &[u8] = b"VALUE ";
    if received.starts_with(END) {
        return Piece::Absent(item, 0);
    }
    if !received.starts_with(WORD) {
        let is_cut = END.starts_with(received) || WORD.starts_with(received);
        return if is_cut { Piece::Cut } else { Piece::Wrong };
    }

    let key_end = WORD.len() + usize::from(item.key_bytes);
    if !item.key_matches(&received[WORD.len()..received.len().min(key_end)]) {
        return Piece::Absent(item, 0);
    }
    if received.len() < key_end {
        return Piece::Cut;
    }

    let mut digits = itoa::Buffer::new();
    let value = values.of(&item);
    let parts = [b" 0 ", digits.format(item.value_bytes).as_bytes(), b"\r\n", value, b"\r\n"];
    let mut at = key_end;
    for part in parts {
        match examine_word(part, &received[at..received.len().min(at + part.len())]) {
            Piece::Whole(length) => at += length,
            // A longer key that begins like this one.
            Piece::Wrong if at == key_end && received[at] == b'.' => return Piece::Absent(item, 0),
            other => return other,
        }
    }
    Piece::Whole(at)
}
