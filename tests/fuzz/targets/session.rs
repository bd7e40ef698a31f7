//! Whole sessions on the bare engine: as the model has it, or as long as it answers the same to the same bytes.

#[path = "../../dialogue/connection.rs"]
pub(super) mod connection;
#[expect(dead_code, reason = "how often something was there is not asked here")]
#[path = "../../engine_model/model/mod.rs"]
mod model;
#[path = "../../garbage/throw.rs"]
mod throw;

use std::cell::Cell;

use connection::Connection;
use model::{Model, Scenario};

/// Caches too small for what is put into them, so that things are evicted, or refused, within few requests.
const SCENARIOS: [Scenario; 4] = [
    scenario(64 << 10, 40, 3000),
    scenario(256 << 10, 40, 20_000),
    scenario(256 << 10, 300, 3000),
    scenario(1 << 20, 60, 100_000),
];

const fn scenario(memory_bytes: u64, keys: u64, value_bytes_max: u64) -> Scenario {
    let evictions_enabled = true;
    Scenario { memory_bytes, keys, value_bytes_max, evictions_enabled, is_roomy: false, validate_every: 16 }
}

/// The first byte says whether what follows are choices for the model, or bytes as they come from a client; and in the
/// first case under what circumstances, in the second two more how long the pieces are in which they come.
pub(super) fn session(data: &[u8]) {
    match data {
        [circumstances @ 0..=0x7f, choices @ ..] => compare(*circumstances, choices),
        [_, odd, even, bytes @ ..] => {
            let lengths = [*odd, *even].into_iter().cycle().map(|length| 1 + usize::from(length));
            throw::throw(bytes, lengths).unwrap_or_else(|error| panic!("{error}"));
        }
        _ => {}
    }
}

/// Holds the engine against the model, until there are no more choices.
fn compare(circumstances: u8, choices: &[u8]) {
    let scenario = Scenario {
        evictions_enabled: circumstances & 4 == 0,
        ..SCENARIOS[usize::from(circumstances) % SCENARIOS.len()]
    };
    let left = Cell::new(choices);
    let mut model = Model::new(scenario, |below| {
        let (choice, rest) = choose(left.get(), below);
        left.set(rest);
        choice
    });
    while !left.get().is_empty() {
        model.step();
    }
}

/// A number below `below`, made of as few bytes as will do, and the bytes that are left. Where there are none it is 0.
fn choose(bytes: &[u8], below: u64) -> (u64, &[u8]) {
    let wanted = (1 + (below - 1).max(1).ilog2() as usize).div_ceil(8);
    let (taken, rest) = bytes.split_at(wanted.min(bytes.len()));
    (taken.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)) % below, rest)
}
