//! Answers to packets.

use super::packet::{HEADER_BYTES, Operation, Packet, REPLY_MAGIC};
use crate::protocol::owed::{Owed, Writer};
use crate::protocol::replies::{Hit, Outcome, Refusal};

/// The length of the extras of a hit, which are the client's flags, in bytes.
const HIT_EXTRAS_BYTES: usize = 4;

/// How a request ended, as a number in the header of its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Status {
    /// It was done.
    Success = 0x00,
    /// There is no such item, or nothing to show by that name.
    NotFound = 0x01,
    /// There is an item, or one with another CAS id.
    Exists = 0x02,
    /// The value exceeds the item size limit.
    TooLarge = 0x03,
    /// The packet is not as its opcode wants it, or its key is too long.
    InvalidArguments = 0x04,
    /// There is nothing to append or prepend to.
    NotStored = 0x05,
    /// The value there is no number.
    NotANumber = 0x06,
    /// The client has not logged in, or its login was refused, or it may not do that.
    AuthError = 0x20,
    /// A login goes on with another step.
    AuthContinue = 0x21,
    /// There is no such command.
    UnknownCommand = 0x81,
    /// There is no memory for it.
    OutOfMemory = 0x82,
    /// It may be tried again later.
    TemporaryFailure = 0x86,
}

impl Status {
    /// The text that goes with it in a reply. Source: memcached.
    fn text(self) -> &'static str {
        match self {
            Status::Success | Status::AuthContinue => "",
            Status::NotFound => "Not found",
            Status::Exists => "Data exists for key.",
            Status::TooLarge => "Too large.",
            Status::InvalidArguments => "Invalid arguments",
            Status::NotStored => "Not stored.",
            Status::NotANumber => "Non-numeric server-side value for incr or decr",
            Status::AuthError => "Auth failure.",
            Status::UnknownCommand => "Unknown command",
            Status::OutOfMemory => "Out of memory",
            Status::TemporaryFailure => "Temporary failure",
        }
    }
}

/// What a reply has beside its value.
#[derive(Clone, Copy, Default)]
struct Fields<'a> {
    extras: &'a [u8],
    key: &'a [u8],
    cas: u64,
}

impl Owed {
    /// Says a packet with a `value` of so many bytes that follows.
    fn say_head(&mut self, packet: Packet, status: Status, fields: Fields<'_>, value_bytes: usize) {
        let bytes = HEADER_BYTES + fields.extras.len() + fields.key.len();
        self.write(bytes, |writer| write_head(writer, packet, status, fields, value_bytes));
    }

    /// Says a packet.
    fn say_packet(&mut self, packet: Packet, status: Status, fields: Fields<'_>, value: &[u8]) {
        self.say_head(packet, status, fields, value.len());
        self.say(value);
    }

    /// Says that a request was done.
    pub fn say_success(&mut self, packet: Packet, cas: u64, value: &[u8]) {
        if !packet.quiet {
            self.say_packet(packet, Status::Success, Fields { cas, ..Fields::default() }, value);
        }
    }

    /// Says why a request was not done, with the `text` that goes with the status, or with another.
    pub fn say_status(&mut self, packet: Packet, status: Status, text: Option<&str>) {
        let text = text.unwrap_or(status.text());
        self.say_packet(packet, status, Fields::default(), text.as_bytes());
    }

    /// Says that a login goes on, with the server's `challenge`.
    pub fn say_challenge(&mut self, packet: Packet, challenge: &[u8]) {
        self.say_packet(packet, Status::AuthContinue, Fields::default(), challenge);
    }

    /// Says one of the packets that a `Stat` is answered with.
    pub(in crate::protocol) fn say_packet_stat(&mut self, packet: Packet, name: &[u8], value: &[u8]) {
        self.say_packet(packet, Status::Success, Fields { key: name, ..Fields::default() }, value);
    }

    /// Says an item that was found.
    #[inline(always)]
    pub(in crate::protocol) fn say_packet_hit(&mut self, packet: Packet, hit: &Hit<'_>) {
        let value = if packet.shows_value() { hit.value.unwrap_or_default() } else { &[] };
        let shared = hit.shared.filter(|_| packet.shows_value());
        let inline = if shared.is_none() { value } else { &[] };
        let key = if packet.shows_key() { hit.key } else { &[] };
        let fields = Fields { extras: &hit.flags.to_be_bytes(), key, cas: hit.cas.unwrap_or(0) };
        self.write(HEADER_BYTES + HIT_EXTRAS_BYTES + key.len() + inline.len(), |writer| {
            write_head(writer, packet, Status::Success, fields, value.len());
            writer.write(inline);
        });
        if let Some(value) = shared {
            self.share(value.clone());
        }
    }

    /// Says that there is no item under `key`.
    pub(in crate::protocol) fn say_packet_miss(&mut self, packet: Packet, key: &[u8]) {
        if packet.quiet {
            return;
        }
        if packet.shows_key() {
            self.say_packet(packet, Status::NotFound, Fields { key, ..Fields::default() }, b"");
        } else {
            self.say_status(packet, Status::NotFound, None);
        }
    }

    /// Says how a change ended.
    pub(in crate::protocol) fn say_packet_outcome(&mut self, packet: Packet, outcome: Outcome, cas: u64) {
        let (status, text) = match outcome {
            Outcome::Stored | Outcome::Deleted | Outcome::Touched => {
                return self.say_success(packet, cas, b"");
            }
            Outcome::Number(number) => return self.say_success(packet, cas, &number.to_be_bytes()),
            Outcome::NotStored => match packet.operation {
                Operation::Add => (Status::Exists, None),
                Operation::Replace => (Status::NotFound, None),
                _ => (Status::NotStored, None),
            },
            Outcome::Exists => (Status::Exists, None),
            Outcome::NotFound => (Status::NotFound, None),
            Outcome::NotANumber => (Status::NotANumber, None),
            Outcome::TooLarge => (Status::TooLarge, None),
            Outcome::OutOfMemoryStoring => (Status::OutOfMemory, Some("Out of memory allocating item")),
            Outcome::OutOfMemory => (Status::OutOfMemory, Some("Out of memory incrementing value")),
            Outcome::BadDataChunk => unreachable!("the value of a packet needs no end"),
        };
        self.say_status(packet, status, text);
    }

    /// Says why a request is not admitted.
    pub(in crate::protocol) fn say_packet_refusal(&mut self, packet: Packet, refusal: Refusal) {
        match refusal {
            Refusal::ReadOnly => {
                self.say_status(packet, Status::AuthError, Some("Not allowed for a read-only user"));
            }
            Refusal::NotByPrefix => {
                self.say_status(packet, Status::AuthError, Some("Not allowed for a user with a prefix"));
            }
            Refusal::KeyTooLong => self.say_status(packet, Status::InvalidArguments, None),
        }
    }
}

#[inline(always)]
fn write_head(
    writer: &mut Writer<'_>,
    packet: Packet,
    status: Status,
    fields: Fields<'_>,
    value_bytes: usize,
) {
    let Fields { extras, key, cas } = fields;
    let mut header = [0; HEADER_BYTES];
    header[0] = REPLY_MAGIC;
    header[1] = packet.opcode;
    header[2..4].copy_from_slice(&(key.len() as u16).to_be_bytes());
    header[4] = extras.len() as u8;
    header[6..8].copy_from_slice(&(status as u16).to_be_bytes());
    let body_bytes = (extras.len() + key.len() + value_bytes) as u32;
    header[8..12].copy_from_slice(&body_bytes.to_be_bytes());
    header[12..16].copy_from_slice(&packet.opaque);
    header[16..].copy_from_slice(&cas.to_be_bytes());
    writer.write(&header);
    writer.write(extras);
    writer.write(key);
}
