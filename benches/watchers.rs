//! What those who `watch` cost everybody else: the server's CPU time per get with nobody watching, and with as many as
//! may, who do not read, read slowly, or read all.
//!
//! `cargo bench --bench watchers -- --help`. Servers take turns, and ratios are taken within a round, as in
//! `side_by_side`. The cost of sending lines is part of what is measured, so who reads all of them costs most.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

#[expect(dead_code, reason = "each bench uses a part")]
mod common;

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
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
/// How often a slow watcher reads, and how much at a time, in bytes: some 200 lines a second.
const SLOW_READ_PAUSE: Duration = Duration::from_millis(50);
const SLOW_READ_BYTES: usize = 1000;
/// How often one who reads all looks for more.
const READ_PAUSE: Duration = Duration::from_millis(10);

#[derive(Parser)]
#[command(about = "Server CPU per get beside watchers that do not read, read slowly, or read all")]
struct Options {
    #[command(flatten)]
    server: ServerOptions,
    /// memcached may be named too
    #[arg(long, value_delimiter = ',', default_values = ["ferrocached"])]
    servers: Vec<Kind>,
    /// Connections that watch
    #[arg(long, default_value_t = 20)]
    watchers: usize,
    /// The streams they watch
    #[arg(long, default_value = "fetchers")]
    streams: String,
    /// Gets that are sent together
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16])]
    depths: Vec<usize>,
    /// Keys
    #[arg(long, default_value_t = 100_000)]
    keys: u64,
    /// Rounds of each kind of watcher
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Seconds of load in each round
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
}

/// What watchers do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Habit {
    Absent,
    Deaf,
    Slow,
    Eager,
}

impl Habit {
    const ALL: [Habit; 4] = [Habit::Absent, Habit::Deaf, Habit::Slow, Habit::Eager];

    fn name(self) -> &'static str {
        match self {
            Habit::Absent => "nobody watches",
            Habit::Deaf => "none reads",
            Habit::Slow => "all read slowly",
            Habit::Eager => "all read all",
        }
    }
}

fn main() -> Result<()> {
    let options = Options::parse();
    if !asked_to_measure(options.server.bench) {
        return Ok(());
    }
    if options.servers.contains(&Kind::Floor) {
        return Err("the floor cannot be watched".into());
    }
    let cores = Cores::of_this_process()?;
    cores.pin_generator()?;
    let mut table = Table::new([
        "server",
        "gets at once",
        "watchers",
        "CPU ns per get",
        "to nobody",
        "memory more, MB",
        "lines skipped per get",
    ]);
    for &kind in &options.servers {
        for &depth in &options.depths {
            measure(kind, depth, &options, &cores, &mut table)?;
        }
    }
    println!(
        "Single gets of {VALUE_BYTES} bytes on {CONNECTIONS} connections; {} connections watch {}\n\n{table}",
        options.watchers, options.streams
    );
    Ok(())
}

/// One server with one kind of watchers.
struct Contestant {
    habit: Habit,
    server: Server,
    watchers: Watchers,
    resident_before: u64,
    costs: Vec<f64>,
    gets: u64,
}

fn measure(kind: Kind, depth: usize, options: &Options, cores: &Cores, table: &mut Table) -> Result<()> {
    let values = Values::by_key();
    let mut contestants = Vec::new();
    for habit in Habit::ALL {
        let launch =
            Launch { memory_megabytes: 64, threads: 1, cpus: cores.for_server()?, floor_value_bytes: 0 };
        let server = Server::start(kind, &options.server, &launch)?;
        let items = (0..options.keys).map(|number| Item::new(number, VALUE_BYTES));
        Client::connect(server.port)?.fill(items, 0, &values)?;
        let resident_before = server.resident_bytes()?;
        let count = if habit == Habit::Absent { 0 } else { options.watchers };
        let watchers = Watchers::start(server.port, habit, count, &options.streams)?;
        contestants.push(Contestant { habit, server, watchers, resident_before, costs: Vec::new(), gets: 0 });
    }
    for round in 0..options.rounds {
        eprintln!("{}, {depth} at once, round {} …", kind.name(), round + 1);
        for contestant in &mut contestants {
            let gets = Gets { random: Rng::with_seed(round as u64), keys: options.keys, depth };
            let mut generator =
                Generator::connect(contestant.server.port, vec![Group::new(CONNECTIONS, gets)], &values)?;
            let before = contestant.server.cpu()?;
            generator.run(Limit::Time(Duration::from_secs_f64(options.seconds)))?;
            let cpu = contestant.server.cpu()?.since(&before);
            let hits = generator.groups[0].tally.hits;
            contestant.costs.push(cpu.nanoseconds as f64 / hits as f64);
            contestant.gets += hits;
        }
    }
    let alone = contestants[0].costs.clone();
    for contestant in contestants {
        let Contestant { habit, server, watchers, resident_before, costs, gets } = contestant;
        let skipped = Client::connect(server.port)?.stat("log_watcher_skipped")? as f64;
        let more = server.resident_bytes()?.saturating_sub(resident_before);
        table.row([
            kind.name().to_owned(),
            depth.to_string(),
            habit.name().to_owned(),
            whole(median(costs.iter().copied())),
            ratio(median(costs.iter().zip(&alone).map(|(cost, alone)| cost / alone))),
            format!("{:.1}", more as f64 / f64::from(1 << 20)),
            format!("{:.2}", skipped / gets as f64),
        ]);
        watchers.stop();
    }
    Ok(())
}

/// Gets of keys at random, so many at once.
struct Gets {
    random: Rng,
    keys: u64,
    depth: usize,
}

impl Script for Gets {
    fn next(&mut self, batch: &mut Batch) {
        for _ in 0..self.depth {
            batch.get([Item::new(self.random.u64(..self.keys), VALUE_BYTES)]);
        }
    }
}

/// Connections that watch, and the thread that reads from them.
struct Watchers {
    is_stopped: Arc<AtomicBool>,
    reader: JoinHandle<()>,
}

impl Watchers {
    fn start(port: u16, habit: Habit, count: usize, streams: &str) -> Result<Watchers> {
        let mut connections = Vec::new();
        for _ in 0..count {
            let mut stream = TcpStream::connect(("127.0.0.1", port))?;
            stream.write_all(format!("watch {streams}\r\n").as_bytes())?;
            let mut reply = String::new();
            BufReader::with_capacity(1, &stream).read_line(&mut reply)?;
            if reply != "OK\r\n" {
                return Err(format!("the server does not let us watch: {reply:?}").into());
            }
            stream.set_nonblocking(true)?;
            connections.push(stream);
        }
        let is_stopped = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&is_stopped);
        let reader = spawn(move || {
            while !told.load(Ordering::Relaxed) {
                match habit {
                    Habit::Absent | Habit::Deaf => {}
                    Habit::Slow => connections.iter_mut().for_each(|stream| read(stream, SLOW_READ_BYTES)),
                    Habit::Eager => connections.iter_mut().for_each(|stream| read(stream, usize::MAX)),
                }
                sleep(if habit == Habit::Eager { READ_PAUSE } else { SLOW_READ_PAUSE });
            }
        });
        Ok(Watchers { is_stopped, reader })
    }

    fn stop(self) {
        self.is_stopped.store(true, Ordering::Relaxed);
        self.reader.join().expect("the reader does nothing that could panic");
    }
}

/// Reads what is there, up to `bytes_max` of it.
fn read(stream: &mut TcpStream, bytes_max: usize) {
    let mut buffer = [0; 64 << 10];
    let mut left = bytes_max;
    while left > 0 {
        let most = left.min(buffer.len());
        match stream.read(&mut buffer[..most]) {
            Ok(0) => return,
            Ok(length) => left -= length,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}
