//! Packets: their header, the opcodes there are, and the shape that each wants.
//!
//! | byte | request | reply |
//! |---|---|---|
//! | 0 | magic 0x80 | magic 0x81 |
//! | 1 | opcode | the same |
//! | 2–3 | length of the key | the same |
//! | 4 | length of the extras | the same |
//! | 5 | data type, ignored | 0 |
//! | 6–7 | vbucket, ignored | status |
//! | 8–11 | length of the body: extras, key and value | the same |
//! | 12–15 | opaque | the same as in the request |
//! | 16–23 | CAS id | CAS id |
//!
//! All numbers are big-endian. Source: memcached's description of its binary protocol.

use super::super::KEY_BYTES_MAX;

/// The first byte of a request in the binary protocol.
pub const REQUEST_MAGIC: u8 = 0x80;
/// The first byte of a reply.
pub(super) const REPLY_MAGIC: u8 = 0x81;
/// The length of a header, in bytes.
pub(super) const HEADER_BYTES: usize = 24;
/// The longest body that is thrown away as it arrives; a request that announces a longer one closes its connection.
/// Source: memcached.
pub(super) const BODY_BYTES_MAX: u32 = 1 << 30;

/// What a reply has of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    pub(super) opcode: u8,
    pub(super) operation: Operation,
    /// Whether success, or the miss of a retrieval, is not told.
    pub(super) quiet: bool,
    /// As it came: nobody but the client knows what it means.
    pub(super) opaque: [u8; 4],
}

/// What an opcode asks for, whether quietly or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Get,
    GetK,
    Set,
    Add,
    Replace,
    Append,
    Prepend,
    Delete,
    Increment,
    Decrement,
    Touch,
    Gat,
    GatK,
    Quit,
    Flush,
    Noop,
    Version,
    Stat,
    SaslList,
    SaslAuth,
    SaslStep,
    /// Nothing that memcached knows.
    Unknown,
}

/// Each opcode that memcached knows, what it asks for, and whether quietly.
const ROWS: &[(u8, Operation, bool)] = &[
    (0x00, Operation::Get, false),
    (0x01, Operation::Set, false),
    (0x02, Operation::Add, false),
    (0x03, Operation::Replace, false),
    (0x04, Operation::Delete, false),
    (0x05, Operation::Increment, false),
    (0x06, Operation::Decrement, false),
    (0x07, Operation::Quit, false),
    (0x08, Operation::Flush, false),
    (0x09, Operation::Get, true),
    (0x0a, Operation::Noop, false),
    (0x0b, Operation::Version, false),
    (0x0c, Operation::GetK, false),
    (0x0d, Operation::GetK, true),
    (0x0e, Operation::Append, false),
    (0x0f, Operation::Prepend, false),
    (0x10, Operation::Stat, false),
    (0x11, Operation::Set, true),
    (0x12, Operation::Add, true),
    (0x13, Operation::Replace, true),
    (0x14, Operation::Delete, true),
    (0x15, Operation::Increment, true),
    (0x16, Operation::Decrement, true),
    (0x17, Operation::Quit, true),
    (0x18, Operation::Flush, true),
    (0x19, Operation::Append, true),
    (0x1a, Operation::Prepend, true),
    (0x1c, Operation::Touch, false),
    (0x1d, Operation::Gat, false),
    (0x1e, Operation::Gat, true),
    (0x20, Operation::SaslList, false),
    (0x21, Operation::SaslAuth, false),
    (0x22, Operation::SaslStep, false),
    (0x23, Operation::GatK, false),
    (0x24, Operation::GatK, true),
];

/// The same for every byte.
const OPCODES: [(Operation, bool); 256] = {
    let mut opcodes = [(Operation::Unknown, false); 256];
    let mut row = 0;
    while row < ROWS.len() {
        let (opcode, operation, quiet) = ROWS[row];
        opcodes[opcode as usize] = (operation, quiet);
        row += 1;
    }
    opcodes
};

impl Packet {
    #[inline(always)]
    pub(super) fn new(opcode: u8, opaque: [u8; 4]) -> Packet {
        let (operation, quiet) = OPCODES[usize::from(opcode)];
        Packet { opcode, operation, quiet, opaque }
    }

    /// Whether a client may send it before it has logged in. Source: memcached.
    pub fn may_precede_login(self) -> bool {
        matches!(
            self.operation,
            Operation::SaslList | Operation::SaslAuth | Operation::SaslStep | Operation::Version
        )
    }

    /// Whether it may hold a password.
    pub fn is_login(self) -> bool {
        matches!(self.operation, Operation::SaslAuth | Operation::SaslStep)
    }

    /// Whether it is a store in any case, which drops what there was when it is refused. Source: memcached.
    pub(in crate::protocol) fn is_set(self) -> bool {
        self.operation == Operation::Set
    }

    /// Whether the replies of this retrieval show the key.
    #[inline]
    pub(super) fn shows_key(self) -> bool {
        matches!(self.operation, Operation::GetK | Operation::GatK)
    }

    /// Whether hits of this retrieval show the value.
    #[inline]
    pub(super) fn shows_value(self) -> bool {
        self.operation != Operation::Touch
    }
}

/// The header of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) magic: u8,
    pub(super) packet: Packet,
    pub(super) key_bytes: usize,
    pub(super) extras_bytes: usize,
    pub(super) body_bytes: u32,
    pub(super) cas: u64,
}

impl Header {
    #[inline(always)]
    pub(super) fn parse(bytes: &[u8; HEADER_BYTES]) -> Header {
        let [magic, opcode, key_high, key_low, extras, _, _, _, b0, b1, b2, b3, o0, o1, o2, o3, cas @ ..] =
            *bytes;
        Header {
            magic,
            packet: Packet::new(opcode, [o0, o1, o2, o3]),
            key_bytes: usize::from(u16::from_be_bytes([key_high, key_low])),
            extras_bytes: usize::from(extras),
            body_bytes: u32::from_be_bytes([b0, b1, b2, b3]),
            cas: u64::from_be_bytes(cas),
        }
    }

    /// How many bytes of value follow key and extras, which fit the body.
    pub(super) fn value_bytes(&self) -> u32 {
        self.body_bytes - (self.key_bytes + self.extras_bytes) as u32
    }

    /// Whether the key and the extras fit the body.
    #[inline(always)]
    pub(super) fn fits(&self) -> bool {
        self.key_bytes + self.extras_bytes <= self.body_bytes as usize
    }

    /// Whether key, extras and value are there as the operation wants them, given that they fit the body. Source:
    /// memcached, which does not look at the value behind a `Stat` or `Touch` and would take it for the next request.
    pub(super) fn is_shaped(&self) -> bool {
        let (extras, has_key, has_value) = (self.extras_bytes, self.key_bytes > 0, self.value_bytes() > 0);
        self.key_bytes <= KEY_BYTES_MAX
            && match self.packet.operation {
                Operation::Get | Operation::GetK | Operation::Delete => extras == 0 && has_key && !has_value,
                Operation::Set | Operation::Add | Operation::Replace => extras == 8 && has_key,
                Operation::Append | Operation::Prepend => extras == 0 && has_key,
                Operation::Increment | Operation::Decrement => extras == 20 && has_key && !has_value,
                Operation::Touch | Operation::Gat | Operation::GatK => extras == 4 && has_key && !has_value,
                Operation::Quit | Operation::Noop | Operation::Version | Operation::SaslList => {
                    self.body_bytes == 0
                }
                Operation::Flush => (extras == 0 || extras == 4) && !has_key && !has_value,
                Operation::Stat => extras == 0 && !has_value,
                Operation::SaslAuth | Operation::SaslStep => extras == 0 && has_key,
                Operation::Unknown => true,
            }
    }
}
