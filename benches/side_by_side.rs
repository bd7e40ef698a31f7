//! What one operation costs the server's processor: ferrocached beside memcached, and beside a server that stores nothing.
//!
//! `cargo bench --bench side_by_side -- --help`. Each server has one worker, on the first processor; the load comes from
//! the second. They take turns, and ratios are taken within a round, so that a machine that is busy with other things
//! spoils all alike. Every reply is compared byte for byte.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

#[expect(dead_code, reason = "each bench uses a part")]
mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;
use fastrand::Rng;

use crate::common::batch::Batch;
use crate::common::chart::{Bars, draw_bars};
use crate::common::client::Client;
use crate::common::cores::Cores;
use crate::common::generator::{Generator, Group, Limit, Script};
use crate::common::histogram::Histogram;
use crate::common::items::{Item, Values};
use crate::common::random::Zipf;
use crate::common::replies::Tally;
use crate::common::report::{Table, median, microseconds, percent, ratio, whole};
use crate::common::server::{Kind, Launch, Server, ServerOptions};
use crate::common::{Result, asked_to_measure, floor};

#[derive(Parser)]
#[command(about = "Server CPU per operation: ferrocached, memcached, and a server that stores nothing")]
struct Options {
    #[command(flatten)]
    server: ServerOptions,
    /// Servers that take turns, in this order
    #[arg(long, value_delimiter = ',', default_values = ["ferrocached", "memcached", "floor"])]
    servers: Vec<Kind>,
    /// Workloads, by letter; all by default
    #[arg(long, value_delimiter = ',', value_name = "LETTERS", value_parser = WORKLOADS.map(|workload| workload.letter))]
    workloads: Vec<String>,
    /// Rounds of each workload
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Seconds of load for each server in each round
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Operations for each server in each round, instead of seconds
    #[arg(long)]
    operations: Option<u64>,
    /// Keys of each workload, a tenth of it where values have 4 KB
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// Memory limit of the servers in megabytes: enough for all keys by default
    #[arg(short, long)]
    memory: Option<u64>,
    /// Short runs on few keys, to see whether everything works
    #[arg(long)]
    quick: bool,
    /// Where to write a bar chart
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Count system calls over 10,000 gets with strace instead of measuring time
    #[arg(long)]
    syscalls: bool,
    /// Be the floor server
    #[arg(long, hide = true, value_name = "BYTES")]
    floor: Option<u32>,
}

struct Workload {
    letter: &'static str,
    name: &'static str,
    /// The name again, broken for the chart.
    label: &'static str,
    connections: usize,
    /// Requests that are sent together; their replies are awaited before more are sent.
    depth: usize,
    keys_per_get: usize,
    sets_per_hundred: u64,
    value_bytes: u32,
    zipf: Option<f64>,
    ask: fn(&mut Batch, &mut dyn Iterator<Item = Item>),
}

const GETS: Workload = Workload {
    letter: "a",
    name: "gets, 50 connections",
    label: "get",
    connections: 50,
    depth: 1,
    keys_per_get: 1,
    sets_per_hundred: 0,
    value_bytes: 32,
    zipf: None,
    ask: |batch, items| batch.get(items),
};
const MIX: Workload = Workload { depth: 16, sets_per_hundred: 10, value_bytes: 100, ..GETS };

const WORKLOADS: [Workload; 10] = [
    GETS,
    Workload { letter: "b", name: "gets, 64 pipelined", label: "get\n64 pipelined", depth: 64, ..GETS },
    Workload {
        letter: "m",
        name: "meta gets, 64 pipelined",
        label: "mg\n64 pipelined",
        depth: 64,
        ask: |batch, items| batch.meta_get(items),
        ..GETS
    },
    Workload {
        letter: "n",
        name: "binary gets, 64 pipelined",
        label: "binary get\n64 pipelined",
        depth: 64,
        ask: |batch, items| batch.binary_get(items),
        ..GETS
    },
    Workload {
        letter: "c",
        name: "gets of 50 keys, per key",
        label: "get of 50\nper key",
        keys_per_get: 50,
        ..GETS
    },
    Workload {
        letter: "d",
        name: "90 % gets, 10 % sets, 16 pipelined",
        label: "get/set 90/10\n16 pipelined",
        ..MIX
    },
    Workload {
        letter: "z",
        name: "the same, Zipf 0.99",
        label: "get/set 90/10\nZipf 0.99",
        zipf: Some(0.99),
        ..MIX
    },
    Workload {
        letter: "e",
        name: "sets, 16 pipelined",
        label: "set\n16 pipelined",
        sets_per_hundred: 100,
        ..MIX
    },
    Workload {
        letter: "f",
        name: "gets, 1,000 connections",
        label: "get, 1,000\nconnections",
        connections: 1000,
        ..GETS
    },
    Workload { letter: "g", name: "gets of 4 KB", label: "get of 4 KB", value_bytes: 4096, ..GETS },
];

fn main() -> Result<()> {
    let options = Options::parse();
    if let Some(value_bytes) = options.floor {
        return Ok(floor::serve(value_bytes)?);
    }
    if !asked_to_measure(options.server.bench) {
        return Ok(());
    }
    let cores = Cores::of_this_process()?;
    cores.pin_generator()?;
    if options.syscalls { count_system_calls(&options, &cores) } else { compare(&options, &cores) }
}

fn compare(options: &Options, cores: &Cores) -> Result<()> {
    let is_wanted = |workload: &&Workload| {
        options.workloads.is_empty() || options.workloads.iter().any(|letter| letter == workload.letter)
    };
    let kinds = &options.servers;
    let mut costs = Table::new(
        std::iter::once("CPU ns per operation".to_owned())
            .chain(kinds.iter().map(|kind| kind.name().to_owned()))
            .chain(
                comparisons(kinds)
                    .into_iter()
                    .map(|(one, other)| format!("{} / {}", one.name(), other.name())),
            ),
    );
    let mut details = Table::new([
        "server",
        "workload",
        "operations/s",
        "busy",
        "in user space",
        "p50",
        "p99",
        "p99.9",
        "misses",
    ]);
    let mut bars = Vec::new();
    for workload in WORKLOADS.iter().filter(is_wanted) {
        eprintln!("({}) {} …", workload.letter, workload.name);
        let measured = measure(workload, options, cores)?;
        let cost = |kind: Kind| median(measured[place(kinds, kind)].rounds.iter().map(|round| round.cost));
        costs.row(
            std::iter::once(format!("({}) {}", workload.letter, workload.name))
                .chain(kinds.iter().map(|&kind| whole(cost(kind))))
                .chain(comparisons(kinds).into_iter().map(|(one, other)| {
                    let pairs =
                        measured[place(kinds, one)].rounds.iter().zip(&measured[place(kinds, other)].rounds);
                    ratio(median(pairs.map(|(one, other)| one.cost / other.cost)))
                })),
        );
        for (kind, figures) in kinds.iter().zip(&measured) {
            details.row(figures.detail(*kind, workload));
        }
        bars.push(Bars {
            label: workload.label.to_owned(),
            figures: kinds.iter().map(|&kind| cost(kind)).collect(),
        });
    }
    println!("{costs}\n{details}");
    if let Some(path) = &options.svg {
        draw_bars(path, "Server CPU per operation, nanoseconds", kinds, Kind::Memcached, &bars)?;
    }
    Ok(())
}

/// Each server with the floor, and ferrocached with memcached, as far as they take part.
fn comparisons(kinds: &[Kind]) -> Vec<(Kind, Kind)> {
    use Kind::{Ferrocached, Floor, Memcached};
    let pairs = [(Ferrocached, Floor), (Memcached, Floor), (Ferrocached, Memcached)];
    pairs.into_iter().filter(|(one, other)| kinds.contains(one) && kinds.contains(other)).collect()
}

fn place(kinds: &[Kind], kind: Kind) -> usize {
    kinds.iter().position(|&other| other == kind).expect("only servers that take part are asked for")
}

/// What one server did in one round.
struct Round {
    /// Nanoseconds of the server's processors for each operation.
    cost: f64,
    per_second: f64,
    busy: f64,
    user_share: f64,
}

struct Figures {
    rounds: Vec<Round>,
    latencies: Histogram,
    tally: Tally,
}

impl Figures {
    fn detail(&self, kind: Kind, workload: &Workload) -> [String; 9] {
        let of_rounds = |figure: fn(&Round) -> f64| median(self.rounds.iter().map(figure));
        let quantile = |share| microseconds(self.latencies.quantile(share));
        [
            kind.name().to_owned(),
            workload.letter.to_owned(),
            whole(of_rounds(|round| round.per_second)),
            percent(of_rounds(|round| round.busy)),
            percent(of_rounds(|round| round.user_share)),
            quantile(0.5),
            quantile(0.99),
            quantile(0.999),
            whole(self.tally.misses as f64),
        ]
    }
}

fn measure(workload: &Workload, options: &Options, cores: &Cores) -> Result<Vec<Figures>> {
    let keys = if options.quick { options.keys.min(100_000) } else { options.keys };
    let keys = if workload.value_bytes >= 4096 { keys.div_ceil(10) } else { keys };
    let rounds = if options.quick { options.rounds.min(3) } else { options.rounds };
    let limit = match options.operations {
        Some(count) => Limit::Operations(count),
        None => Limit::Time(Duration::from_secs_f64(if options.quick { 0.2 } else { options.seconds })),
    };
    let draws = draw_keys(workload, keys);
    let values: Vec<Values> = options.servers.iter().map(|&kind| values_of(kind)).collect();

    let mut contestants = Vec::new();
    for (&kind, values) in options.servers.iter().zip(&values) {
        let server = start(kind, workload, keys, options, cores)?;
        if kind != Kind::Floor {
            let mut client = Client::connect(server.port)?;
            client.fill((0..keys).map(|number| Item::new(number, workload.value_bytes)), 0, values)?;
            client.await_index()?;
        }
        let talk = Talk { workload, values, draws: &draws, next: 0, random: Rng::with_seed(3) };
        let generator =
            Generator::connect(server.port, vec![Group::new(workload.connections, talk)], values)?;
        contestants.push((server, generator, Vec::new()));
    }
    for (_, generator, _) in &mut contestants {
        generator.run(limit)?;
        generator.forget();
    }
    for _ in 0..rounds {
        for (server, generator, figures) in &mut contestants {
            let (cpu_before, operations_before) = (server.cpu()?, generator.operations());
            let time = generator.run(limit)?.as_secs_f64();
            let cpu = server.cpu()?.since(&cpu_before);
            let operations = (generator.operations() - operations_before) as f64;
            figures.push(Round {
                cost: cpu.nanoseconds as f64 / operations,
                per_second: operations / time,
                busy: cpu.nanoseconds as f64 / 1e9 / time,
                user_share: cpu.user_share(),
            });
        }
    }
    let figures = contestants.into_iter().map(|(_, mut generator, rounds)| {
        let group = generator.groups.remove(0);
        Figures { rounds, latencies: group.latencies, tally: group.tally }
    });
    Ok(figures.collect())
}

/// The floor knows one value for each size; the others' values tell their keys.
fn values_of(kind: Kind) -> Values {
    if kind == Kind::Floor { Values::constant() } else { Values::by_key() }
}

fn start(kind: Kind, workload: &Workload, keys: u64, options: &Options, cores: &Cores) -> Result<Server> {
    // Generous for every way to lay items out: nothing is to be evicted here.
    let needed = (keys * (u64::from(workload.value_bytes) * 3 / 2 + 200)) >> 20;
    let launch = Launch {
        memory_megabytes: options.memory.unwrap_or(needed.max(1024)),
        threads: 1,
        cpus: cores.for_server()?,
        floor_value_bytes: workload.value_bytes,
    };
    Server::start(kind, &options.server, &launch)
}

/// Which key comes when, decided before the clock runs; every server is asked the same.
fn draw_keys(workload: &Workload, keys: u64) -> Vec<u32> {
    const DRAWS: usize = 1 << 22;
    let mut random = Rng::with_seed(2);
    let zipf = workload.zipf.map(|exponent| Zipf::new(keys, exponent));
    let draw = || match &zipf {
        Some(zipf) => zipf.scattered(&mut random) as u32,
        None => random.u64(..keys) as u32,
    };
    std::iter::repeat_with(draw).take(DRAWS).collect()
}

struct Talk<'a> {
    workload: &'a Workload,
    values: &'a Values,
    draws: &'a [u32],
    next: usize,
    random: Rng,
}

impl Talk<'_> {
    fn item(&mut self) -> Item {
        let number = self.draws[self.next];
        self.next = (self.next + 1) % self.draws.len();
        Item::new(u64::from(number), self.workload.value_bytes)
    }
}

impl Script for Talk<'_> {
    fn next(&mut self, batch: &mut Batch) {
        for _ in 0..self.workload.depth {
            let sets = self.workload.sets_per_hundred;
            if sets > 0 && self.random.u64(..100) < sets {
                batch.set(self.item(), 0, self.values);
            } else {
                let Workload { ask, keys_per_get, .. } = self.workload;
                ask(batch, &mut (0..*keys_per_get).map(|_| self.item()));
            }
        }
    }
}

/// One connection, one get at a time, every system call of the server counted.
fn count_system_calls(options: &Options, cores: &Cores) -> Result<()> {
    const GETS_COUNTED: u64 = 10_000;
    const KEYS: u64 = 1000;
    let mut table =
        Table::new(["calls per get", "reads", "of them in vain", "writes", "epoll waits", "others"]);
    for &kind in &options.servers {
        let server = start(kind, &GETS, KEYS, options, cores)?;
        let values = values_of(kind);
        if kind != Kind::Floor {
            Client::connect(server.port)?.fill((0..KEYS).map(|number| Item::new(number, 32)), 0, &values)?;
        }
        let draws = draw_keys(&GETS, KEYS);
        let talk =
            Talk { workload: &GETS, values: &values, draws: &draws, next: 0, random: Rng::with_seed(3) };
        let mut generator = Generator::connect(server.port, vec![Group::new(1, talk)], &values)?;
        generator.run(Limit::Operations(1))?;
        let calls = trace(&server, || generator.run(Limit::Operations(GETS_COUNTED)).map(drop))?;
        let per_get = |count: u64| ratio(count as f64 / GETS_COUNTED as f64);
        table.row([
            kind.name().to_owned(),
            per_get(calls.reads),
            per_get(calls.reads_in_vain),
            per_get(calls.writes),
            per_get(calls.waits),
            per_get(calls.others),
        ]);
    }
    println!("{table}");
    Ok(())
}

#[derive(Default)]
struct Calls {
    reads: u64,
    /// Answered EAGAIN: the socket was read although it was known to be empty, or could have been.
    reads_in_vain: u64,
    writes: u64,
    waits: u64,
    others: u64,
}

fn trace(server: &Server, load: impl FnOnce() -> Result<()>) -> Result<Calls> {
    let file = std::env::temp_dir().join(format!("ferrocached-bench-{}-strace", std::process::id()));
    let mut strace = Command::new("strace")
        .args(["-c", "-f", "-p", &server.pid().to_string(), "-o"])
        .arg(&file)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("--syscalls needs strace on the PATH: {error}"))?;
    let outcome = await_tracer(server.pid()).and_then(|()| load());
    // An interrupt lets strace write its summary; it is waited for either way.
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(strace.id().try_into()?),
        nix::sys::signal::Signal::SIGINT,
    )?;
    strace.wait()?;
    outcome?;
    let calls = parse_summary(&file);
    std::fs::remove_file(&file)?;
    calls
}

fn await_tracer(pid: u32) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(5);
    while Instant::now() < deadline {
        let mut threads = std::fs::read_dir(format!("/proc/{pid}/task"))?;
        let is_traced = threads.all(|thread| {
            let status = thread.and_then(|thread| std::fs::read_to_string(thread.path().join("status")));
            status.is_ok_and(|text| !text.contains("TracerPid:\t0\n"))
        });
        if is_traced {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err("strace could not attach to the server".into())
}

/// Lines of `% time, seconds, usecs/call, calls, errors (may be blank), syscall`.
fn parse_summary(file: &Path) -> Result<Calls> {
    let mut calls = Calls::default();
    for line in std::fs::read_to_string(file)?.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (Some(count), Some(&name)) =
            (words.get(3).and_then(|word| word.parse::<u64>().ok()), words.last())
        else {
            continue;
        };
        let errors = if words.len() == 6 { words[4].parse()? } else { 0 };
        match name {
            "read" | "readv" | "recvfrom" | "recvmsg" => {
                calls.reads += count;
                calls.reads_in_vain += errors;
            }
            "write" | "writev" | "sendto" | "sendmsg" => calls.writes += count,
            "epoll_wait" | "epoll_pwait" | "epoll_pwait2" => calls.waits += count,
            "total" => {}
            _ => calls.others += count,
        }
    }
    Ok(calls)
}
