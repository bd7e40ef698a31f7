//! The targets of fuzzing with any toolchain: on the inputs that were found worth keeping, so that what was found once stays
//! found, and on mutations of them.
//!
//! `FERROCACHED_FUZZ_SECONDS=n` mutates for so long in all, from seeds that differ from run to run. A failure names the
//! target and its seed, which `FERROCACHED_FUZZ=<target>:<seed>` runs alone.
//!
//! An input is a line of `tests/fuzz/seeds/<target>.txt`, with escapes as in Rust. libFuzzer wants a file for each:
//! `FERROCACHED_CORPUS=unpack cargo test --test fuzz` writes them all to `tests/fuzz/corpus/<target>`, and with
//! `pack` what is there takes the place of the lines.

mod corpus;
#[expect(dead_code, reason = "the dialogues are only material here; they are held in tests/dialogues.rs")]
#[path = "../dialogue"]
mod dialogue {
    pub(crate) mod packet;
    pub(crate) mod pattern;
    pub(crate) mod text;
}
mod mutations;
mod targets;

use std::panic::catch_unwind;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mutations::Mutations;
use targets::{TARGETS, Target};

/// An input that takes longer has the target run for ever.
const INPUT_TIME_MAX: Duration = Duration::from_secs(30);

/// How many mutations `cargo test` runs on each target.
const MUTATIONS: u64 = 1000;

/// How many seeds a target is ahead of the thread that watches it, at most.
const SEEDS_AHEAD_MAX: usize = 64;

#[test]
fn what_was_found_stays_found() {
    match std::env::var("FERROCACHED_CORPUS").as_deref() {
        Ok("unpack") => TARGETS.iter().for_each(|target| corpus::unpack(target.name)),
        Ok("pack") => TARGETS.iter().for_each(|target| corpus::pack(target.name)),
        Ok(other) => panic!("FERROCACHED_CORPUS is unpack or pack, and not {other}"),
        Err(_) => {}
    }
    for target in TARGETS {
        for data in corpus::inputs(target.name) {
            let panicked = |_| panic!("{} panicked at {}", target.name, data.escape_ascii());
            catch_unwind(|| (target.run)(&data)).unwrap_or_else(panicked);
        }
    }
}

#[test]
fn mutations_are_survived() {
    if let Ok(replay) = std::env::var("FERROCACHED_FUZZ") {
        let (name, seed) = replay.split_once(':').expect("FERROCACHED_FUZZ is <target>:<seed>");
        let seed = seed.parse().expect("FERROCACHED_FUZZ ends in a number");
        return mutate(targets::named(name), seed, |done| done < 1);
    }
    let seconds = std::env::var("FERROCACHED_FUZZ_SECONDS").ok();
    let seconds = seconds.map(|seconds| seconds.parse().expect("FERROCACHED_FUZZ_SECONDS is a number"));
    for target in TARGETS {
        match seconds.map(Duration::from_secs) {
            Some(time) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is past 1970");
                let (begin, time) = (Instant::now(), time / TARGETS.len() as u32);
                mutate(target, now.as_secs() << 24, move |_| begin.elapsed() < time);
            }
            None => mutate(target, 1, |done| done < MUTATIONS),
        }
    }
}

/// Runs `target` on the mutations of seeds from `first` on, while `goes_on` says so of how many are done.
fn mutate(target: Target, first: u64, goes_on: impl Fn(u64) -> bool + Send + 'static) {
    let mutations = Mutations::of(corpus::inputs(target.name));
    let mutations_again = mutations.clone();
    let (sender, seeds) = sync_channel(SEEDS_AHEAD_MAX);
    let fuzzer = thread::spawn(move || {
        let mut done = 0;
        while goes_on(done) {
            let seed = first + done;
            sender.send(seed).expect("it is received for as long as it is sent");
            (target.run)(&mutations.draw(seed));
            done += 1;
        }
        done
    });
    let mut last = first;
    let failure = loop {
        match seeds.recv_timeout(INPUT_TIME_MAX) {
            Ok(seed) => last = seed,
            Err(RecvTimeoutError::Timeout) => break "does not end",
            Err(RecvTimeoutError::Disconnected) => match fuzzer.join() {
                Ok(done) => return eprintln!("{}: {done} mutations from seed {first} on", target.name),
                Err(_) => break "panics",
            },
        }
    };
    let (name, data) = (target.name, mutations_again.draw(last));
    panic!(
        "{name} {failure}: FERROCACHED_FUZZ={name}:{last} replays it; the input is\n{}",
        data.escape_ascii()
    );
}
