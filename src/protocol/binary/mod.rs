//! The binary protocol, from packets to requests. Each packet about a key is one of the requests that the text commands
//! make; the others are a [`Control`].
//!
//! memcached calls it deprecated, but it is what half of its clients speak.

mod packet;
mod replies;

pub use packet::{Packet, REQUEST_MAGIC};
pub use replies::Status;

use super::{
    Control, Count, Created, Delete, Exptime, Fetch, KEY_BYTES_MAX, Mode, Put, PutMode, Request, Step, Style,
};
use packet::{BODY_BYTES_MAX, HEADER_BYTES, Header, Operation};

/// The longest data of a step of SASL, in bytes. It is what a text login may have, too.
const SASL_DATA_BYTES_MAX: u32 = 16 << 10;

/// The longest name of a SASL mechanism, in bytes. Source: memcached.
const MECHANISM_BYTES_MAX: usize = 32;

/// The exptime of an increment that is not to create the item.
const DO_NOT_CREATE: u32 = u32::MAX;

/// A retrieval without extras at the head of `input`, if it is one that memcached would serve; `None` for everything
/// else, which [`step`] decodes as well as this.
#[inline(always)]
pub(super) fn plain_fetch(input: &[u8]) -> Option<(Fetch<'_>, usize)> {
    let (bytes, body) = input.split_first_chunk::<HEADER_BYTES>()?;
    let header = Header::parse(bytes);
    let is_plain = header.magic == REQUEST_MAGIC
        && matches!(header.packet.operation, Operation::Get | Operation::GetK)
        && header.extras_bytes == 0
        && header.body_bytes as usize == header.key_bytes
        && (1..=KEY_BYTES_MAX).contains(&header.key_bytes);
    if !is_plain {
        return None;
    }
    let key = body.get(..header.key_bytes)?;
    Some((fetch(header.packet, key, None), HEADER_BYTES + key.len()))
}

/// One step at the start of a packet.
pub(super) fn step<'a>(mode: &mut Mode, input: &'a [u8]) -> (Step<'a>, usize) {
    let Some((bytes, body)) = input.split_first_chunk::<HEADER_BYTES>() else {
        return match input.first() {
            None => (Step::Incomplete { bytes_min: 1 }, 0),
            Some(&REQUEST_MAGIC) => (Step::Incomplete { bytes_min: HEADER_BYTES }, 0),
            Some(_) => (Step::Hopeless, 0),
        };
    };
    let header = Header::parse(bytes);
    if header.magic != REQUEST_MAGIC {
        return (Step::Hopeless, 0);
    }
    let packet = header.packet;
    if !header.fits() {
        return (refuse(packet, Status::UnknownCommand, true), HEADER_BYTES);
    }
    if header.body_bytes > BODY_BYTES_MAX || !header.is_shaped() {
        return (refuse(packet, Status::InvalidArguments, true), HEADER_BYTES);
    }
    if let Some(status) = refusal(&header) {
        if header.body_bytes > 0 {
            *mode = Mode::RefusedBody(header.body_bytes.into());
        }
        return (refuse(packet, status, false), HEADER_BYTES);
    }
    let head_bytes = header.extras_bytes + header.key_bytes;
    let bytes_min = HEADER_BYTES + header.body_bytes as usize;
    let Some((head, after)) = body.split_at_checked(head_bytes) else {
        return (Step::Incomplete { bytes_min: HEADER_BYTES + head_bytes }, 0);
    };
    let (extras, key) = head.split_at(header.extras_bytes);
    let value = after.get(..header.value_bytes() as usize);
    if let Some(put) = put(&header, extras, key, value) {
        return match value {
            Some(_) => (Step::Request(Request::Put(put)), bytes_min),
            None => (Step::Announced { put, bytes: bytes_min }, 0),
        };
    }
    match value {
        Some(value) => (Step::Request(request(&header, extras, key, value)), bytes_min),
        None => (Step::Incomplete { bytes_min }, 0),
    }
}

fn refuse<'a>(packet: Packet, status: Status, closes: bool) -> Step<'a> {
    Step::Request(Request::Control { packet, control: Control::Refused { status, closes } })
}

/// Why a packet of the right shape is thrown away as it arrives.
fn refusal(header: &Header) -> Option<Status> {
    match header.packet.operation {
        Operation::Unknown => Some(Status::UnknownCommand),
        Operation::SaslAuth | Operation::SaslStep
            if header.key_bytes > MECHANISM_BYTES_MAX || header.value_bytes() > SASL_DATA_BYTES_MAX =>
        {
            Some(Status::InvalidArguments)
        }
        _ => None,
    }
}

#[inline(always)]
fn fetch(packet: Packet, key: &[u8], exptime: Option<Exptime>) -> Fetch<'_> {
    Fetch { key, with_cas: true, exptime, is_last: false, style: Style::Binary(packet) }
}

/// The store that the packet asks for, if it asks for one.
fn put<'a>(header: &Header, extras: &[u8], key: &'a [u8], value: Option<&'a [u8]>) -> Option<Put<'a>> {
    let mode = match header.packet.operation {
        // Whoever names a CAS id wants that item, whatever the opcode. Source: memcached.
        Operation::Set | Operation::Add | Operation::Replace if header.cas != 0 => PutMode::Set,
        Operation::Set => PutMode::Set,
        Operation::Add => PutMode::Add,
        Operation::Replace => PutMode::Replace,
        Operation::Append => PutMode::Append,
        Operation::Prepend => PutMode::Prepend,
        _ => return None,
    };
    let joins = matches!(mode, PutMode::Append | PutMode::Prepend);
    let (flags, exptime) = if joins { (0, 0) } else { (number(extras, 0), number(extras, 4)) };
    let exptime = Exptime::unsigned(exptime);
    Some(Put {
        mode,
        key,
        flags,
        exptime,
        value,
        value_bytes: header.value_bytes(),
        compares: header.cas != 0 && !joins,
        cas: header.cas,
        quiet: header.packet.quiet,
        style: Style::Binary(header.packet),
    })
}

/// What a whole packet asks for that is no store.
fn request<'a>(header: &Header, extras: &[u8], key: &'a [u8], value: &'a [u8]) -> Request<'a> {
    let packet = header.packet;
    let control = match packet.operation {
        Operation::Get | Operation::GetK => return Request::Fetch(fetch(packet, key, None)),
        Operation::Touch | Operation::Gat | Operation::GatK => {
            return Request::Fetch(fetch(packet, key, Some(Exptime::unsigned(number(extras, 0)))));
        }
        Operation::Increment | Operation::Decrement => return Request::Count(count(header, extras, key)),
        Operation::Delete => {
            return Request::Delete(Delete {
                key,
                cas: Some(header.cas).filter(|&cas| cas != 0),
                quiet: packet.quiet,
                style: Style::Binary(packet),
            });
        }
        Operation::Quit => Control::Quit,
        Operation::Flush => Control::Flush { exptime: if extras.is_empty() { 0 } else { number(extras, 0) } },
        Operation::Noop => Control::Noop,
        Operation::Version => Control::Version,
        Operation::Stat => Control::Stat { words: key },
        Operation::SaslList => Control::SaslList,
        Operation::SaslAuth => Control::SaslAuth { mechanism: key, data: value },
        Operation::SaslStep => Control::SaslStep { mechanism: key, data: value },
        Operation::Set
        | Operation::Add
        | Operation::Replace
        | Operation::Append
        | Operation::Prepend
        | Operation::Unknown => unreachable!("stores and refused packets come before"),
    };
    Request::Control { packet, control }
}

fn count<'a>(header: &Header, extras: &[u8], key: &'a [u8]) -> Count<'a> {
    let exptime = number(extras, 16);
    Count {
        key,
        delta: long_number(extras, 0),
        down: header.packet.operation == Operation::Decrement,
        cas: header.cas,
        created: (exptime != DO_NOT_CREATE)
            .then(|| Created { number: long_number(extras, 8), exptime: Exptime::unsigned(exptime) }),
        quiet: header.packet.quiet,
        style: Style::Binary(header.packet),
    }
}

/// The number of 32 bits at `at` in `extras`, which are long enough.
fn number(extras: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(extras[at..at + 4].try_into().expect("it is four bytes"))
}

/// The number of 64 bits at `at` in `extras`, which are long enough.
fn long_number(extras: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(extras[at..at + 8].try_into().expect("it is eight bytes"))
}
