//! What a request costs without sockets: CPU time of the bare engine, from bytes received to bytes owed.
//!
//! `cargo bench --bench engine -- --help`. What the kernel does for a request, and what it pushes out of the caches, is
//! most of a server's time and most of the noise in it. This leaves it out, so that changes of a few per cent in
//! protocol, engine and store can be seen. After each round its requests are made once more, and every reply is compared
//! byte for byte.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

#[expect(dead_code, reason = "each bench uses a part")]
mod common;

use bytes::Buf;
use clap::Parser;
use fastrand::Rng;
use ferrocached::clock::{Epoch, Tick};
use ferrocached::engine::{Engine, Session};
use ferrocached::protocol::Owed;
use ferrocached::settings::Settings;
use nix::time::{ClockId, clock_gettime};

use crate::common::batch::Batch;
use crate::common::cores::Cores;
use crate::common::items::{Item, Values};
use crate::common::replies::{Tally, check};
use crate::common::report::{Table, whole};
use crate::common::{Result, asked_to_measure};

const VALUE_BYTES: u32 = 32;
/// Stores of so many keys: one that fits the processor's caches, and one that does not.
const KEYS: [u64; 2] = [10_000, 1_000_000];
/// Keys of the turns that are measured together. Their requests take a megabyte.
const KEYS_PER_ROUND: usize = 32_000;
/// Room for replies, as workers have it.
const OWED_BYTES: usize = 64 << 10;
const MEMORY_BYTES: u64 = 512 << 20;

#[derive(Parser)]
#[command(about = "CPU time of the engine without sockets, per key")]
struct Options {
    /// Rounds of each workload; the one that took least counts
    #[arg(long, default_value_t = 51)]
    rounds: usize,
    /// The workload of this name only, to count its instructions with valgrind --tool=callgrind
    #[arg(long)]
    only: Option<String>,
    /// Given by cargo bench
    #[arg(long, hide = true)]
    bench: bool,
}

struct Workload {
    name: &'static str,
    keys_per_turn: usize,
    write: fn(&mut Batch, &[Item], &Values),
}

const WORKLOADS: [Workload; 6] = [
    Workload { name: "get", keys_per_turn: 1, write: gets },
    Workload { name: "gets, 64 pipelined", keys_per_turn: 64, write: gets },
    Workload { name: "meta gets, 64 pipelined", keys_per_turn: 64, write: meta_gets },
    Workload { name: "binary gets, 64 pipelined", keys_per_turn: 64, write: binary_gets },
    Workload { name: "get of 50 keys, per key", keys_per_turn: 50, write: one_get },
    Workload { name: "sets, 16 pipelined", keys_per_turn: 16, write: sets },
];

fn gets(batch: &mut Batch, items: &[Item], _: &Values) {
    items.iter().for_each(|&item| batch.get([item]));
}

fn one_get(batch: &mut Batch, items: &[Item], _: &Values) {
    batch.get(items.iter().copied());
}

fn meta_gets(batch: &mut Batch, items: &[Item], _: &Values) {
    batch.meta_get(items.iter().copied());
}

fn binary_gets(batch: &mut Batch, items: &[Item], _: &Values) {
    batch.binary_get(items.iter().copied());
}

fn sets(batch: &mut Batch, items: &[Item], values: &Values) {
    items.iter().for_each(|&item| batch.set(item, 0, values));
}

/// An engine, and those who talk to it.
struct Bare {
    engine: Engine,
    session: Session,
    /// One that speaks the binary protocol.
    binary_session: Session,
    owed: Owed,
    now: Tick,
    values: Values,
}

impl Bare {
    /// One that has the items 0 to `keys`.
    fn filled(keys: u64) -> Result<Bare> {
        let (epoch, now) = Epoch::starting_at(1_700_000_000);
        let settings = Settings { memory_bytes: MEMORY_BYTES, threads: 1, ..Settings::default() };
        let engine = Engine::new(settings, epoch);
        let (session, binary_session) = (engine.session(0), engine.session(0));
        let owed = Owed::with_capacity(OWED_BYTES);
        let mut bare = Bare { engine, session, binary_session, owed, now, values: Values::by_key() };
        for number in 0..keys {
            let mut batch = Batch::default();
            batch.set(Item::new(number, VALUE_BYTES), 0, &bare.values);
            bare.turn(&batch)?;
        }
        Ok(bare)
    }

    /// Has `batch` executed, and checks what is owed for it; says how long that is, in bytes.
    fn turn(&mut self, batch: &Batch) -> Result<usize> {
        let session = match batch.requests.starts_with(&[0x80]) {
            true => &mut self.binary_session,
            false => &mut self.session,
        };
        let turn = self.engine.turn(session, &batch.requests, &mut self.owed, self.now);
        if turn.consumed != batch.requests.len() {
            return Err("a turn that ended early".into());
        }
        let owed = self.owed.copy_to_bytes(self.owed.remaining());
        let mut tally = Tally::default();
        let progress = check(&batch.expected, &owed, &self.values, &mut tally, |_| ())?;
        if progress.pieces != batch.expected.len() || tally.misses + tally.refused > 0 {
            return Err("a reply that is not whole, or a miss".into());
        }
        Ok(owed.len())
    }

    /// Nanoseconds for each key of a round of `workload`, on random ones of `keys`.
    fn measure(&mut self, workload: &Workload, keys: u64, random: &mut Rng) -> Result<f64> {
        let turns = KEYS_PER_ROUND / workload.keys_per_turn;
        let mut batches = Vec::with_capacity(turns);
        for _ in 0..turns {
            let number = |_| Item::new(random.u64(..keys), VALUE_BYTES);
            let items: Vec<_> = (0..workload.keys_per_turn).map(number).collect();
            let mut batch = Batch::default();
            (workload.write)(&mut batch, &items, &self.values);
            batches.push(batch);
        }
        let session = match batches[0].requests.starts_with(&[0x80]) {
            true => &mut self.binary_session,
            false => &mut self.session,
        };
        let since = thread_nanoseconds()?;
        let mut owed_bytes = 0;
        for batch in &batches {
            self.engine.turn(session, &batch.requests, &mut self.owed, self.now);
            owed_bytes += self.owed.remaining();
            self.owed.clear();
        }
        let spent = thread_nanoseconds()? - since;
        let checked_bytes = batches.iter().map(|batch| self.turn(batch)).sum::<Result<usize>>()?;
        if owed_bytes != checked_bytes {
            return Err("replies that differ from those that were checked".into());
        }
        Ok(spent as f64 / (turns * workload.keys_per_turn) as f64)
    }
}

/// The CPU time of this thread.
fn thread_nanoseconds() -> Result<i64> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    Ok(time.tv_sec() * 1_000_000_000 + time.tv_nsec())
}

fn main() -> Result<()> {
    let options = Options::parse();
    if !asked_to_measure(options.bench) {
        return Ok(());
    }
    Cores::of_this_process()?.pin_generator()?;
    let mut table = Table::new(["CPU ns per key", "10,000 keys", "1,000,000 keys"]);
    let mut bares = KEYS.map(|keys| (keys, Bare::filled(keys)));
    let mut random = Rng::with_seed(5);
    for workload in WORKLOADS.iter().filter(|one| options.only.as_ref().is_none_or(|name| name == one.name)) {
        let mut row = vec![workload.name.to_owned()];
        for (keys, bare) in &mut bares {
            let bare = bare.as_mut().map_err(|error| error.to_string())?;
            let rounds = (0..options.rounds).map(|_| bare.measure(workload, *keys, &mut random));
            // What disturbs, on a machine that is shared, only ever adds.
            let least = rounds.collect::<Result<Vec<_>>>()?.into_iter().fold(f64::INFINITY, f64::min);
            row.push(whole(least));
        }
        table.row(row);
    }
    println!("{table}");
    Ok(())
}
