//! `flush_all` and `flush_prefix`.

use crate::engine::admin::{Call, say};
use crate::engine::{Engine, Then};
use crate::protocol::{Packet, Status, cut_exptime, reply};
use crate::store::TooManyFlushes;

const FLUSH_LATER_BY_PREFIX: &[u8] = b"CLIENT_ERROR flush_all of a user with a prefix cannot be delayed\r\n";

pub(super) fn flush_all(engine: &Engine, call: &mut Call<'_, '_>) -> Option<Then> {
    let quiet = call.is_quiet();
    call.session.counters().cmd_flush.add(1);
    if !engine.settings().flush_enabled {
        return say(quiet, b"CLIENT_ERROR flush_all not allowed\r\n", call);
    }
    let delay = match call.argument() {
        None => 0,
        Some(word) => match cut_exptime(word) {
            Some(delay) => delay.into(),
            None => return say(quiet, reply::BAD_EXPTIME, call),
        },
    };
    say(quiet, flush(engine, delay, call), call)
}

/// `flush_all` as a packet of the binary protocol.
pub(super) fn flush_by_packet(engine: &Engine, exptime: u32, packet: Packet, call: &mut Call<'_, '_>) {
    call.session.counters().cmd_flush.add(1);
    if !engine.settings().flush_enabled {
        return call.owed.say_status(packet, Status::AuthError, None);
    }
    match flush(engine, exptime.into(), call) {
        reply::OK => call.owed.say_success(packet, 0, b""),
        FLUSH_LATER_BY_PREFIX => call.owed.say_status(packet, Status::InvalidArguments, None),
        _ => call.owed.say_status(packet, Status::OutOfMemory, None),
    }
}

/// Drops everything that the user may drop once `delay` is over, and says how that went.
fn flush(engine: &Engine, delay: i64, call: &Call<'_, '_>) -> &'static [u8] {
    let prefix = call.session.granted().prefix();
    if !prefix.is_empty() {
        return if delay > 0 { FLUSH_LATER_BY_PREFIX } else { flush_keys(engine, call, prefix) };
    }
    // A moment that is not in the future has come: later requests of the same turn must not find the items.
    match engine.epoch().flush_moment(delay, call.now) {
        moment if moment > call.now => engine.flushing().flush_later(moment),
        _ => engine.flushing().flush_now(engine.store(), call.now),
    }
    reply::OK
}

pub(super) fn flush_prefix(engine: &Engine, call: &mut Call<'_, '_>) -> Option<Then> {
    let quiet = call.is_quiet();
    call.session.counters().cmd_flush_prefix.add(1);
    if !engine.settings().flush_enabled {
        return say(quiet, b"CLIENT_ERROR flush_prefix not allowed\r\n", call);
    }
    let words: &[u8] = match call.argument() {
        None => b"CLIENT_ERROR usage: flush_prefix <prefix> [noreply]\r\n",
        Some(prefix) => match call.stored_key(prefix) {
            Some(prefix) => flush_keys(engine, call, &prefix),
            None => reply::BAD_LINE,
        },
    };
    say(quiet, words, call)
}

/// Drops everything stored so far under keys that begin with `prefix`; returns the reply.
fn flush_keys(engine: &Engine, call: &Call<'_, '_>, prefix: &[u8]) -> &'static [u8] {
    match engine.store().flush_prefix_within(call.session.granted().prefix(), prefix) {
        Ok(()) => reply::OK,
        Err(TooManyFlushes) => b"SERVER_ERROR too many prefixes are being flushed, try again later\r\n",
    }
}
