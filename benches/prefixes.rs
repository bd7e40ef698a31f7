//! What it costs to count by prefix, and to have prefixes flushed: the server's CPU per key, each state beside the plain one.
//!
//! `cargo bench --bench prefixes -- --help`. The same server several times, each in another state; they take turns, and
//! ratios are taken within a round. Every reply is compared byte for byte.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

#[expect(dead_code, reason = "each bench uses a part")]
mod common;

use std::time::Duration;

use clap::Parser;
use fastrand::Rng;

use crate::common::batch::Batch;
use crate::common::client::Client;
use crate::common::cores::Cores;
use crate::common::generator::{Generator, Group, Limit, Script};
use crate::common::items::{Item, Values};
use crate::common::report::{Table, median, ratio, whole};
use crate::common::server::{Kind, Launch, Server, ServerOptions};
use crate::common::{Result, asked_to_measure};

const VALUE_BYTES: u32 = 32;
const CONNECTIONS: usize = 50;

#[derive(Parser)]
#[command(about = "CPU per get: stats detail off and on, and while flushes by prefix wait")]
struct Options {
    #[command(flatten)]
    server: ServerOptions,
    /// Rounds of each workload
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Seconds of load for each server in each round; a flush by prefix waits for no more than about 0.8
    #[arg(long, default_value_t = 0.5)]
    seconds: f64,
    /// Keys
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
}

/// What a server is made to do beside its work.
struct State {
    name: &'static str,
    kind: Kind,
    /// Whether it counts by prefix; the keys of the benches begin with `key-`.
    has_detail: bool,
    /// How many prefixes that no key has are being flushed all the while.
    flushes: usize,
}

const PLAIN: State = State { name: "ferrocached", kind: Kind::Ferrocached, has_detail: false, flushes: 0 };

const STATES: [State; 6] = [
    PLAIN,
    State { name: "stats detail on", has_detail: true, ..PLAIN },
    State { name: "one flush_prefix waits", flushes: 1, ..PLAIN },
    State { name: "100 flush_prefix wait", flushes: 100, ..PLAIN },
    State { name: "memcached", kind: Kind::Memcached, ..PLAIN },
    State { name: "memcached, stats detail on", kind: Kind::Memcached, has_detail: true, ..PLAIN },
];

struct Workload {
    name: &'static str,
    depth: usize,
    keys_per_get: usize,
}

const WORKLOADS: [Workload; 3] = [
    Workload { name: "get", depth: 1, keys_per_get: 1 },
    Workload { name: "get, 64 pipelined", depth: 64, keys_per_get: 1 },
    Workload { name: "get of 50, per key", depth: 1, keys_per_get: 50 },
];

fn main() -> Result<()> {
    let options = Options::parse();
    if !asked_to_measure(options.server.bench) {
        return Ok(());
    }
    let cores = Cores::of_this_process()?;
    cores.pin_generator()?;
    let mut table = Table::new(
        ["CPU ns per key".to_owned()]
            .into_iter()
            .chain(WORKLOADS.iter().flat_map(|workload| [workload.name.to_owned(), "to plain".to_owned()])),
    );
    let mut rows: Vec<Vec<String>> = STATES.iter().map(|state| vec![state.name.to_owned()]).collect();
    for workload in &WORKLOADS {
        eprintln!("{} …", workload.name);
        let costs = measure(workload, &options, &cores)?;
        for (row, rounds) in rows.iter_mut().zip(&costs) {
            row.push(whole(median(rounds.iter().copied())));
            row.push(ratio(median(rounds.iter().zip(&costs[0]).map(|(cost, plain)| cost / plain))));
        }
    }
    rows.into_iter().for_each(|row| table.row(row));
    println!("{table}");
    Ok(())
}

/// Nanoseconds of the server's processors for each key: of each state, round by round.
fn measure(workload: &Workload, options: &Options, cores: &Cores) -> Result<Vec<Vec<f64>>> {
    let limit = Limit::Time(Duration::from_secs_f64(options.seconds));
    let values = Values::by_key();
    let mut contestants = Vec::new();
    for state in &STATES {
        let launch = Launch {
            memory_megabytes: ((options.keys * 250) >> 20).max(64),
            threads: 1,
            cpus: cores.for_server()?,
            floor_value_bytes: 0,
        };
        let extra = if state.has_detail { "-D -" } else { "" };
        let server = Server::start(state.kind, &options.server.with_extra(extra), &launch)?;
        let mut client = Client::connect(server.port)?;
        client.fill((0..options.keys).map(|number| Item::new(number, VALUE_BYTES)), 0, &values)?;
        client.await_index()?;
        let script = Gets { workload, keys: options.keys, random: Rng::with_seed(3) };
        let mut generator = Generator::connect(server.port, vec![Group::new(CONNECTIONS, script)], &values)?;
        generator.run(limit)?;
        contestants.push((state, server, client, generator));
    }
    let mut costs = vec![Vec::new(); STATES.len()];
    for _ in 0..options.rounds {
        for ((state, server, client, generator), costs) in contestants.iter_mut().zip(&mut costs) {
            for number in 0..state.flushes {
                // As long as a key's beginning, so that it cannot be told by its length.
                let reply = client.command(&format!("flush_prefix no-{number:05}"))?;
                assert_eq!(reply, "OK", "fewer wait than may");
            }
            let (cpu_before, keys_before) = (server.cpu()?, generator.operations());
            generator.run(limit)?;
            let cpu = server.cpu()?.since(&cpu_before);
            costs.push(cpu.nanoseconds as f64 / (generator.operations() - keys_before) as f64);
        }
    }
    Ok(costs)
}

struct Gets<'a> {
    workload: &'a Workload,
    keys: u64,
    random: Rng,
}

impl Script for Gets<'_> {
    fn next(&mut self, batch: &mut Batch) {
        for _ in 0..self.workload.depth {
            let keys = 0..self.workload.keys_per_get;
            batch.get(keys.map(|_| Item::new(self.random.u64(..self.keys), VALUE_BYTES)));
        }
    }
}
