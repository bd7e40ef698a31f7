//! Bytes thrown at two engines in different pieces: they must answer the same, within their limits.

use ferrocached::clock::{Epoch, Tick};
use ferrocached::engine::{Engine, Then};
use ferrocached::settings::Settings;

use super::Connection;

pub(crate) const UNIX_SECONDS: u64 = 1_700_000_000;

/// Small, so that garbage reaches the limit.
const ITEM_BYTES_MAX: usize = 2048;

/// The longest line, without its end.
const LINE_BYTES_MAX: usize = 2048;

/// How much a connection may hold that logs in by packets, in bytes.
const LOGIN_BYTES_MAX: usize = 24 + 32 + (16 << 10);

/// The first byte of a reply in the binary protocol, and the length of its header.
const REPLY_MAGIC: u8 = 0x81;
const HEADER_BYTES: usize = 24;
/// The opcode that asks for statistics.
const STAT: u8 = 0x10;

/// How many bytes can be owed for each byte received. The most is owed for ` k` in a `get`: two bytes, for which
/// a whole item and its `VALUE` line come back. `stats settings` brings about 2 KB for its 15 bytes.
const OWED_PER_BYTE_MAX: usize = (ITEM_BYTES_MAX + 300) / 2;

/// Throws `bytes` at one engine in one piece, and at another in pieces of these lengths, of which there are enough.
pub(crate) fn throw(bytes: &[u8], lengths: impl Iterator<Item = usize>) -> Result<(), String> {
    let whole = answer(bytes, std::iter::repeat(usize::MAX))?;
    let pieces = answer(bytes, lengths)?;
    if comparable(&whole.0) != comparable(&pieces.0) {
        return Err(format!(
            "whole it was answered {}\nin pieces {}",
            whole.0.escape_ascii(),
            pieces.0.escape_ascii()
        ));
    }
    if whole.1 != pieces.1 {
        return Err(format!("whole it ended in {:?}, in pieces in {:?}", whole.1, pieces.1));
    }
    Ok(())
}

/// What the engine answers to `bytes`, and how the connection ended if it did.
fn answer(bytes: &[u8], lengths: impl Iterator<Item = usize>) -> Result<(Vec<u8>, Option<Then>), String> {
    let (epoch, now) = Epoch::starting_at(UNIX_SECONDS);
    // Without cas ids, because those of two engines differ.
    let settings = Settings {
        item_bytes_max: ITEM_BYTES_MAX as u64,
        cas_enabled: false,
        threads: 1,
        ..Settings::default()
    };
    let engine = Engine::new(settings, epoch);
    let mut connection = Connection::new(&engine, 0, false);
    let mut rest = bytes;
    for length in lengths {
        let (piece, after) = rest.split_at(length.min(rest.len()));
        connection.offer(&engine, piece, now)?;
        check_limits(&connection, bytes.len() - after.len())?;
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    if matches!(connection.ended, Some(Then::Shutdown { .. })) {
        return Err("the server was shut down, though that is not enabled".to_owned());
    }
    serve_the_next(&engine, now)?;
    engine.store().validate();
    Ok((connection.received, connection.ended))
}

fn check_limits(connection: &Connection, sent: usize) -> Result<(), String> {
    let (left, owed) = (connection.input_left(), connection.received.len());
    if connection.ended.is_none() && left > LOGIN_BYTES_MAX.max(LINE_BYTES_MAX + ITEM_BYTES_MAX) {
        return Err(format!("{left} bytes of input are held"));
    }
    if owed > sent * OWED_PER_BYTE_MAX {
        return Err(format!("{owed} bytes are owed for {sent}"));
    }
    Ok(())
}

fn serve_the_next(engine: &Engine, now: Tick) -> Result<(), String> {
    let mut next = Connection::new(engine, 0, false);
    next.offer(engine, b"set k 7 0 5\r\nhello\r\nget k\r\n", now)?;
    if next.received == b"STORED\r\nVALUE k 7 5\r\nhello\r\nEND\r\n" {
        return Ok(());
    }
    Err(format!("the next client was answered {}", next.received.escape_ascii()))
}

/// `answer` without what two engines may say differently: counts of bytes read in one turn tell how the input was
/// cut; dumps are in the order of keyed hashes, and a `stats cachedump` with a limit is of any items.
fn comparable(answer: &[u8]) -> Vec<&[u8]> {
    if answer.first() == Some(&REPLY_MAGIC) {
        return packets(answer).filter(|packet| packet[1] != STAT).collect();
    }
    let lines = answer.split_inclusive(|byte| *byte == b'\n').filter(|line| !line.starts_with(b"STAT "));
    let mut lines: Vec<_> =
        lines.map(|line| if line.starts_with(b"ITEM ") { b"ITEM" } else { line }).collect();
    let is_listed = |line: &&[u8]| line.starts_with(b"key=") || line.starts_with(b"mg ");
    lines.chunk_by_mut(|one, next| is_listed(one) && is_listed(next)).for_each(<[_]>::sort);
    lines
}

/// The packets that `answer` consists of.
fn packets(answer: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = answer;
    std::iter::from_fn(move || {
        let header = rest.get(..HEADER_BYTES)?;
        let body_bytes = u32::from_be_bytes(header[8..12].try_into().expect("it is four bytes"));
        let (packet, behind) = rest.split_at(HEADER_BYTES + body_bytes as usize);
        rest = behind;
        Some(packet)
    })
}
