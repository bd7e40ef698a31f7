//! The engine against a map, at random: many requests in different circumstances.
//!
//! `FERROCACHED_SEED=n` replays one seed (printed when a run fails); `FERROCACHED_LONG=1` runs 5 million requests a
//! scenario, best with `--release`.

mod model;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use fastrand::Rng;

use model::{Model, Scenario};

const TINY: Scenario = Scenario {
    memory_bytes: 256 << 10,
    keys: 300,
    value_bytes_max: 3000,
    evictions_enabled: true,
    is_roomy: false,
    validate_every: 1,
};

#[test]
fn a_tiny_cache_forgets_but_never_lies() {
    run(40_000, TINY);
}

#[test]
fn a_tiny_cache_of_values_of_many_segments_never_lies() {
    run(10_000, Scenario { memory_bytes: 1 << 20, keys: 60, value_bytes_max: 100_000, ..TINY });
}

#[test]
fn a_roomy_cache_forgets_nothing() {
    let roomy = Scenario { memory_bytes: 256 << 20, value_bytes_max: 40_000, is_roomy: true, ..TINY };
    run(40_000, Scenario { validate_every: 200, ..roomy });
}

#[test]
fn a_cache_that_may_not_evict_refuses_instead() {
    run(40_000, Scenario { evictions_enabled: false, ..TINY });
}

fn run(requests: u64, scenario: Scenario) {
    let seeds = match std::env::var("FERROCACHED_SEED") {
        Ok(seed) => vec![seed.parse().expect("FERROCACHED_SEED is a number")],
        Err(_) => vec![1, 2],
    };
    let requests = if std::env::var_os("FERROCACHED_LONG").is_some() { 5_000_000 } else { requests };
    for seed in seeds {
        let mut step = 0;
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let mut random = Rng::with_seed(seed);
            let mut model = Model::new(scenario, |below| random.u64(..below));
            while step < requests {
                model.step();
                step += 1;
            }
            assert!(model.hits() > requests / 500, "{} hits prove little", model.hits());
        }));
        if let Err(panic) = outcome {
            eprintln!("failed at request {step}; replay with FERROCACHED_SEED={seed}: {scenario:?}");
            resume_unwind(panic);
        }
    }
}
