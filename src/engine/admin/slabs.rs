//! `slabs` and `lru`: commands about slab classes and LRU lists. This server has neither, so the commands check their
//! arguments, answer as memcached does, and change nothing but what `stats settings` shows.

use crate::engine::admin::{CLASS_MAX, Call, say};
use crate::engine::{Engine, Then};
use crate::protocol::{reply, signed, unsigned};

/// How many seconds `slabs automove window` takes. Source: memcached.
const WINDOW_SECONDS: std::ops::RangeInclusive<u64> = 3..=1800;
/// What hot and warm together may take at most, in percent. Source: memcached.
const HOT_WARM_PERCENT_MAX: u64 = 80;

pub(super) fn slabs(engine: &Engine, call: &mut Call<'_, '_>) -> Option<Then> {
    let quiet = call.is_quiet();
    let verb = call.argument();
    let (first, second) = (call.argument(), call.argument());
    let words = match (verb, first, second) {
        (Some(b"reassign"), Some(from), Some(to)) => reassign(engine, from, to),
        (Some(b"automove"), Some(mode), second) => automove(engine, mode, second),
        _ => reply::ERROR,
    };
    say(quiet, words, call)
}

fn reassign(engine: &Engine, from: &[u8], to: &[u8]) -> &'static [u8] {
    if !engine.settings().compat.slab_reassign {
        return b"CLIENT_ERROR slab reassignment disabled\r\n";
    }
    let (Some(from), Some(to)) = (signed(from), signed(to)) else { return reply::BAD_LINE };
    if from == to {
        return b"SAME src and dst class are identical\r\n";
    }
    let is_class = |class: i64| u64::try_from(class).is_ok_and(|class| class <= CLASS_MAX);
    if !is_class(from) || !is_class(to) {
        return b"BADCLASS invalid src or dst class id\r\n";
    }
    b"NOSPARE source class has no spare pages\r\n"
}

fn automove(engine: &Engine, mode: &[u8], value: Option<&[u8]>) -> &'static [u8] {
    let mut compat = engine.compat();
    match (mode, value) {
        (b"ratio", value) => match value.and_then(fraction) {
            Some(ratio) => compat.slab_automove_ratio = ratio,
            None => return reply::ERROR,
        },
        // It tunes memcached's storage on disk, which this server does not have.
        (b"freeratio", Some(value)) if fraction(value).is_some() => {}
        (b"freeratio", _) => return reply::ERROR,
        (b"window", value) => match value.map(unsigned) {
            Some(Some(seconds)) if WINDOW_SECONDS.contains(&seconds) => {
                compat.slab_automove_window = u32::try_from(seconds).expect("it is at most half an hour");
            }
            Some(Some(_)) => return b"CLIENT_ERROR automove window too low or too high\r\n",
            Some(None) | None => return reply::ERROR,
        },
        _ => match unsigned(mode) {
            Some(level @ 0..=2) => compat.slab_automove = u32::try_from(level).expect("it is at most 2"),
            Some(_) => return reply::ERROR,
            None => return reply::BAD_LINE,
        },
    }
    reply::OK
}

pub(super) fn lru(engine: &Engine, call: &mut Call<'_, '_>) -> Option<Then> {
    let quiet = call.is_quiet();
    let verb = call.argument();
    let words = match verb {
        Some(b"tune") => tune(engine, [(); 4].map(|()| call.argument())),
        Some(b"mode") => match call.argument() {
            Some(mode @ (b"flat" | b"segmented")) => {
                engine.compat().lru_segmented = mode == b"segmented";
                reply::OK
            }
            _ => reply::ERROR,
        },
        Some(b"temp_ttl") => match call.argument().and_then(signed) {
            Some(seconds) => {
                // Negative switches it off.
                engine.compat().temporary_ttl =
                    u64::try_from(seconds).ok().map(|seconds| u32::try_from(seconds).unwrap_or(u32::MAX));
                reply::OK
            }
            None => reply::ERROR,
        },
        _ => reply::ERROR,
    };
    say(quiet, words, call)
}

fn tune(engine: &Engine, given: [Option<&[u8]>; 4]) -> &'static [u8] {
    let [Some(hot), Some(warm), Some(hot_factor), Some(warm_factor)] = given else { return reply::ERROR };
    let (Some(hot), Some(warm)) = (unsigned(hot), unsigned(warm)) else { return reply::ERROR };
    let (Some(hot_factor), Some(warm_factor)) = (fraction(hot_factor), fraction(warm_factor)) else {
        return reply::ERROR;
    };
    if hot.saturating_add(warm) > HOT_WARM_PERCENT_MAX {
        return b"ERROR hot and warm pcts must not exceed 80\r\n";
    }
    if hot_factor <= 0.0 || warm_factor <= 0.0 {
        return b"ERROR hot/warm age factors must be greater than 0\r\n";
    }
    let percent = |percent| u32::try_from(percent).expect("it is at most HOT_WARM_PERCENT_MAX");
    let mut compat = engine.compat();
    (compat.hot_lru_percent, compat.warm_lru_percent) = (percent(hot), percent(warm));
    (compat.hot_max_factor, compat.warm_max_factor) = (hot_factor, warm_factor);
    reply::OK
}

/// A finite number with or without a decimal point.
fn fraction(word: &[u8]) -> Option<f64> {
    let number: f64 = std::str::from_utf8(word).ok()?.parse().ok()?;
    number.is_finite().then_some(number)
}
