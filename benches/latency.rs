//! What a client waits: while the cache grows (and how long a change holds a lock then), beside clients that read large
//! values, beside dumps of all keys, and on one key that all want.
//!
//! `cargo bench --bench latency -- --help`. Times are taken where replies are received, from sending a batch to the last
//! byte of its last reply.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

#[expect(dead_code, reason = "each bench uses a part")]
mod common;

use std::cell::Cell;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use clap::Parser;
use fastrand::Rng;
use ferrocached::clock::{Deadline, Tick};
use ferrocached::store::{Cas, Change, Content, Draft, Marks, NoMemory, Store, StoreConfig};
use nix::time::{ClockId, clock_gettime};

use crate::common::batch::Batch;
use crate::common::client::Client;
use crate::common::cores::Cores;
use crate::common::generator::{Generator, Group, Limit, Script};
use crate::common::histogram::Histogram;
use crate::common::items::{Item, KEY_BYTES, Values};
use crate::common::replies::Tally;
use crate::common::report::{Table, median, microseconds, ratio, whole};
use crate::common::server::{Kind, Launch, Server, ServerOptions};
use crate::common::{Result, asked_to_measure};

const SMALL_BYTES: u32 = 32;

#[derive(Parser)]
#[command(about = "Latency while growing and beside large values; throughput of one hot key")]
struct Options {
    #[command(flatten)]
    server: ServerOptions,
    #[arg(long, value_delimiter = ',', default_values = ["ferrocached", "memcached"])]
    servers: Vec<Kind>,
    /// Items that the growing cache comes to hold
    #[arg(long, default_value_t = 5_000_000)]
    items: u64,
    /// Keys that are dumped
    #[arg(long, default_value_t = 1_000_000)]
    dumped: u64,
    /// Seconds of each run beside large values or dumps and on the hot key
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Rounds on the hot key
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Parts, by name; all by default
    #[arg(long, value_delimiter = ',', value_parser = ["growth", "locks", "large", "dump", "hot"])]
    parts: Vec<String>,
}

impl Options {
    fn wants(&self, part: &str) -> bool {
        self.parts.is_empty() || self.parts.iter().any(|name| name == part)
    }

    fn time(&self) -> Limit {
        Limit::Time(Duration::from_secs_f64(self.seconds))
    }
}

fn main() -> Result<()> {
    let options = Options::parse();
    if !asked_to_measure(options.server.bench) {
        return Ok(());
    }
    if options.servers.contains(&Kind::Floor) {
        return Err("the floor stores nothing, so it cannot take part".into());
    }
    let cores = Cores::of_this_process()?;
    cores.pin_generator()?;
    if options.wants("growth") {
        growth(&options, &cores)?;
    }
    if options.wants("locks") {
        lock_holds(&options)?;
    }
    if options.wants("large") {
        beside_large_values(&options, &cores)?;
    }
    if options.wants("dump") {
        beside_dumps(&options, &cores)?;
    }
    if options.wants("hot") {
        hot_key(&options, &cores)?;
    }
    Ok(())
}

/// From empty to millions of items: whatever grows with them must not make anyone wait.
fn growth(options: &Options, cores: &Cores) -> Result<()> {
    const FIRST_ITEMS: u64 = 1_000;
    const SETS_DEPTH: usize = 8;
    let values = Values::by_key();
    let mut table =
        Table::new(["server", "requests", "seconds", "p50", "p99", "p99.9", "longest", "batches", "misses"]);
    for &kind in &options.servers {
        eprintln!("growth, {} …", kind.name());
        let launch = Launch {
            memory_megabytes: ((options.items * 250) >> 20).max(256),
            threads: 1,
            cpus: cores.for_server()?,
            floor_value_bytes: 0,
        };
        let server = Server::start(kind, &options.server, &launch)?;
        let first = (0..FIRST_ITEMS).map(|number| Item::new(number, SMALL_BYTES));
        Client::connect(server.port)?.fill(first, 0, &values)?;
        let issued = Cell::new(FIRST_ITEMS);
        let sets = Growing { issued: &issued, items: options.items, depth: SETS_DEPTH, values: &values };
        // Keys of the older half: their sets were answered long ago.
        let gets = Gets { random: Rng::with_seed(5), keys: || issued.get() / 2 };
        let groups = vec![Group::new(8, sets), Group::new(8, gets)];
        let mut generator = Generator::connect(server.port, groups, &values)?;
        let time = generator.run(Limit::Script(0))?;
        for (group, name) in generator.groups.iter().zip(["sets, 8 pipelined", "gets"]) {
            table.row([
                kind.name().to_owned(),
                name.to_owned(),
                format!("{:.1}", time.as_secs_f64()),
                microseconds(group.latencies.quantile(0.5)),
                microseconds(group.latencies.quantile(0.99)),
                microseconds(group.latencies.quantile(0.999)),
                microseconds(group.latencies.longest()),
                whole(group.latencies.count() as f64),
                whole(group.tally.misses as f64),
            ]);
        }
    }
    println!(
        "Growth from empty to {} items of 32 bytes: 8 connections set, 8 get\n\n{table}",
        whole(options.items as f64)
    );
    Ok(())
}

/// The same growth inside this process: how long each change, and with it its shard's lock, takes of a processor.
///
/// Thread CPU time, so that other processes do not count; a virtual machine that is taken off its processor may still.
/// Hence several fills: what the code itself takes longest is in all of them.
fn lock_holds(options: &Options) -> Result<()> {
    const FILLS: usize = 3;
    let now = || -> Result<Duration> { Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into()) };
    let mut table =
        Table::new(["fill", "changes", "p50", "p99.9", "p99.99", "over 100 µs", "over 1 ms", "longest"]);
    for fill in 1..=FILLS {
        eprintln!("lock holds, fill {fill} …");
        let store = Store::new(StoreConfig {
            memory_bytes: ((options.items * 250) >> 20).max(256) << 20,
            evictions_enabled: true,
            workers: 1,
        });
        let mut holds = Histogram::default();
        for number in 0..options.items {
            let key = format!("{number:016}");
            let hashed = store.hash(key.as_bytes());
            let draft = Draft {
                content: Content::Whole(&[b'x'; SMALL_BYTES as usize]),
                flags: 0,
                deadline: Deadline::NEVER,
                cas: Cas::Next,
                marks: Marks::default(),
            };
            let start = now()?;
            let (_, stored) = store.update(hashed, Tick(1), |_| (Change::Put(draft), ()));
            holds.record(now()? - start);
            stored.map_err(|NoMemory| "there is room for all items")?;
            if number % 100_000 == 0 {
                store.tidy(Tick(1)); // as the server's tick would, about as often
            }
        }
        table.row([
            fill.to_string(),
            whole(holds.count() as f64),
            microseconds(holds.quantile(0.5)),
            microseconds(holds.quantile(0.999)),
            microseconds(holds.quantile(0.9999)),
            whole(holds.count_above(Duration::from_micros(100)) as f64),
            whole(holds.count_above(Duration::from_millis(1)) as f64),
            microseconds(holds.longest()),
        ]);
    }
    println!(
        "CPU time of single changes, store only, from empty to {} items\n\n{table}",
        whole(options.items as f64)
    );
    Ok(())
}

struct Growing<'a> {
    issued: &'a Cell<u64>,
    items: u64,
    depth: usize,
    values: &'a Values,
}

impl Script for Growing<'_> {
    fn next(&mut self, batch: &mut Batch) {
        let first = self.issued.get();
        let end = self.items.min(first + self.depth as u64);
        for number in first..end {
            batch.set(Item::new(number, SMALL_BYTES), 0, self.values);
        }
        self.issued.set(end.max(first));
    }
}

/// Single gets of keys below a bound that may move.
struct Gets<Keys> {
    random: Rng,
    keys: Keys,
}

impl<Keys: Fn() -> u64> Script for Gets<Keys> {
    fn next(&mut self, batch: &mut Batch) {
        batch.get([Item::new(self.random.u64(..(self.keys)()), SMALL_BYTES)]);
    }
}

/// Small gets with and without four clients that read one large value after the other.
fn beside_large_values(options: &Options, cores: &Cores) -> Result<()> {
    const KEYS: u64 = 100_000;
    const LARGE: Item = Item { number: 999_999_999_999, key_bytes: KEY_BYTES, value_bytes: 1_000_000 };
    const LARGE_READERS: usize = 4;
    let values = Values::by_key();
    let mut table = Table::new([
        "server",
        "beside large reads",
        "gets/s",
        "p50",
        "p99",
        "p99.9",
        "longest",
        "large reads/s",
    ]);
    for &kind in &options.servers {
        eprintln!("large values, {} …", kind.name());
        let launch =
            Launch { memory_megabytes: 256, threads: 1, cpus: cores.for_server()?, floor_value_bytes: 0 };
        let server = Server::start(kind, &options.server, &launch)?;
        let mut client = Client::connect(server.port)?;
        client.fill((0..KEYS).map(|number| Item::new(number, SMALL_BYTES)).chain([LARGE]), 0, &values)?;
        let reply_bytes = checked_reply_bytes(&mut client, LARGE, &values)?;

        for readers in [0, LARGE_READERS] {
            let gets = Gets { random: Rng::with_seed(6), keys: || KEYS };
            let groups = vec![
                Group::new(10, gets),
                Group::new(readers, Again { item: LARGE, depth: 1 }).discarding(reply_bytes),
            ];
            let mut generator = Generator::connect(server.port, groups, &values)?;
            let seconds = generator.run(options.time())?.as_secs_f64();
            let latencies: &Histogram = &generator.groups[0].latencies;
            table.row([
                kind.name().to_owned(),
                if readers == 0 { "no".to_owned() } else { format!("{readers} × 1 MB") },
                whole(generator.groups[0].tally.hits as f64 / seconds),
                microseconds(latencies.quantile(0.5)),
                microseconds(latencies.quantile(0.99)),
                microseconds(latencies.quantile(0.999)),
                microseconds(latencies.longest()),
                whole(generator.groups[1].tally.hits as f64 / seconds),
            ]);
        }
    }
    println!(
        "Single gets of 32 bytes on 10 connections, with and without clients that read 1 MB values\n\n{table}"
    );
    Ok(())
}

/// Single gets and sets, with and without one client that dumps all keys over and over.
fn beside_dumps(options: &Options, cores: &Cores) -> Result<()> {
    const HEAD: [&str; 9] = [
        "server",
        "beside dumps",
        "gets/s",
        "p50",
        "p99",
        "to no dumps",
        "p99.9",
        "longest",
        "lines dumped/s",
    ];
    let values = Values::by_key();
    let mut table = Table::new(HEAD);
    for &kind in &options.servers {
        eprintln!("dumps, {} …", kind.name());
        let launch = Launch {
            memory_megabytes: ((options.dumped * 250) >> 20).max(256),
            threads: 1,
            cpus: cores.for_server()?,
            floor_value_bytes: 0,
        };
        let server = Server::start(kind, &options.server, &launch)?;
        let all = (0..options.dumped).map(|number| Item::new(number, SMALL_BYTES));
        Client::connect(server.port)?.fill(all, 0, &values)?;
        let mut p99_alone = None;
        for is_dumped in [false, true] {
            let gets = Gets { random: Rng::with_seed(7), keys: || options.dumped };
            let sets = Sets { random: Rng::with_seed(8), keys: options.dumped, values: &values };
            let groups = vec![Group::new(8, gets), Group::new(2, sets)];
            let mut generator = Generator::connect(server.port, groups, &values)?;
            let is_over = AtomicBool::new(!is_dumped);
            let (seconds, lines) = thread::scope(|scope| -> Result<_> {
                let dumper = scope.spawn(|| dump(server.port, &is_over).map_err(|error| error.to_string()));
                let time = generator.run(options.time());
                is_over.store(true, Ordering::Relaxed);
                let lines = dumper.join().map_err(|_| "the dumping thread panicked")??;
                Ok((time?.as_secs_f64(), lines))
            })?;
            let latencies: &Histogram = &generator.groups[0].latencies;
            let p99 = latencies.quantile(0.99);
            let alone = *p99_alone.get_or_insert(p99);
            table.row([
                kind.name().to_owned(),
                if is_dumped { "yes" } else { "no" }.to_owned(),
                whole(generator.groups[0].tally.hits as f64 / seconds),
                microseconds(latencies.quantile(0.5)),
                microseconds(p99),
                ratio(p99.div_duration_f64(alone)),
                microseconds(latencies.quantile(0.999)),
                microseconds(latencies.longest()),
                whole(lines as f64 / seconds),
            ]);
        }
    }
    println!(
        "Single gets of 32 bytes on 8 connections and sets on 2, with and without `lru_crawler metadump all` of {} \
         keys, one after the other\n\n{table}",
        whole(options.dumped as f64)
    );
    Ok(())
}

/// Dumps all keys again and again until told that it is over, within a dump too. Returns how many lines came.
fn dump(port: u16, is_over: &AtomicBool) -> Result<u64> {
    const BUFFER_BYTES: usize = 256 << 10;
    const END: &[u8] = b"END\r\n";
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    let mut buffer = vec![0; BUFFER_BYTES];
    let (mut lines, mut kept) = (0, END.len());
    buffer[..kept].copy_from_slice(END);
    while !is_over.load(Ordering::Relaxed) {
        if buffer[..kept].ends_with(END) {
            stream.write_all(b"lru_crawler metadump all\r\n")?;
        }
        // The last bytes stay, for an end cut in two to be seen.
        let tail = kept.saturating_sub(END.len());
        buffer.copy_within(tail..kept, 0);
        kept -= tail;
        let read = stream.read(&mut buffer[kept..])?;
        if read == 0 {
            return Err("the server closed the connection".into());
        }
        lines += memchr::memchr_iter(b'\n', &buffer[kept..kept + read]).count() as u64;
        kept += read;
    }
    Ok(lines)
}

/// Single sets of keys below a bound.
struct Sets<'a> {
    random: Rng,
    keys: u64,
    values: &'a Values,
}

impl Script for Sets<'_> {
    fn next(&mut self, batch: &mut Batch) {
        batch.set(Item::new(self.random.u64(..self.keys), SMALL_BYTES), 0, self.values);
    }
}

/// Reads the item once, checks every byte, and says how many there are: later reads are only counted.
fn checked_reply_bytes(client: &mut Client, item: Item, values: &Values) -> Result<usize> {
    let (mut batch, mut tally) = (Batch::default(), Tally::default());
    batch.get([item]);
    client.exchange(&mut batch, values, &mut tally, |_| ())?;
    if tally.hits != 1 {
        return Err("the server did not keep a value of 1,000,000 bytes".into());
    }
    let header = format!("VALUE  0 {}\r\n", item.value_bytes);
    Ok(header.len() + item.user_bytes() as usize + "\r\nEND\r\n".len())
}

/// The same get for ever, so many times in a batch.
struct Again {
    item: Item,
    depth: usize,
}

impl Script for Again {
    fn next(&mut self, batch: &mut Batch) {
        for _ in 0..self.depth {
            batch.get([self.item]);
        }
    }
}

/// All clients want one key: a second worker must not make it slower.
///
/// Servers and clients may use all processors here. Where there are only two, the clients need one of them, and what
/// tells is not the throughput but whether an operation costs more when two workers meet.
fn hot_key(options: &Options, cores: &Cores) -> Result<()> {
    const WORKERS: [u32; 2] = [1, 2];
    let values = Values::by_key();
    let hot = Item::new(0, SMALL_BYTES);
    let mut contestants = Vec::new();
    for &kind in &options.servers {
        for threads in WORKERS {
            let launch = Launch { memory_megabytes: 64, threads, cpus: cores.all(), floor_value_bytes: 0 };
            let server = Server::start(kind, &options.server, &launch)?;
            Client::connect(server.port)?.fill([hot].into_iter(), 0, &values)?;
            contestants.push((server, threads, Vec::new()));
        }
    }
    for round in 0..options.rounds {
        eprintln!("hot key, round {} …", round + 1);
        for (server, _, rounds) in &mut contestants {
            rounds.push(run_hot(server, hot, &values, options.time(), cores)?);
        }
    }
    let mut table = Table::new(["server", "-t", "gets/s", "to -t 1", "CPU ns per get", "to -t 1"]);
    for pair in contestants.chunks(WORKERS.len()) {
        let single = &pair[0].2;
        for (server, threads, rounds) in pair {
            let against_single = |figure: fn(&Hot) -> f64| {
                median(rounds.iter().zip(single).map(|(one, base)| figure(one) / figure(base)))
            };
            table.row([
                server.kind.name().to_owned(),
                threads.to_string(),
                whole(median(rounds.iter().map(|round| round.per_second))),
                ratio(against_single(|round| round.per_second)),
                whole(median(rounds.iter().map(|round| round.cost))),
                ratio(against_single(|round| round.cost)),
            ]);
        }
    }
    println!("All of 50 connections get one key, 16 pipelined; two client threads\n\n{table}");
    Ok(())
}

/// One round on the hot key.
struct Hot {
    per_second: f64,
    cost: f64,
}

fn run_hot(server: &Server, hot: Item, values: &Values, limit: Limit, cores: &Cores) -> Result<Hot> {
    const CLIENT_THREADS: usize = 2;
    const DEPTH: usize = 16;
    let (port, cores) = (server.port, *cores);
    let load = move || -> Result<(u64, Duration)> {
        cores.unpin()?;
        let groups = vec![Group::new(25, Again { item: hot, depth: DEPTH })];
        let mut generator = Generator::connect(port, groups, values)?;
        let time = generator.run(limit)?;
        Ok((generator.groups[0].tally.hits, time))
    };
    let cpu_before = server.cpu()?;
    let (mut hits, mut longest) = (0, Duration::ZERO);
    thread::scope(|scope| -> Result<()> {
        let threads: Vec<_> = (0..CLIENT_THREADS)
            .map(|_| scope.spawn(move || load().map_err(|error| error.to_string())))
            .collect();
        for thread in threads {
            let (more, time) = thread.join().map_err(|_| "a client thread panicked")??;
            hits += more;
            longest = longest.max(time);
        }
        Ok(())
    })?;
    let cpu = server.cpu()?.since(&cpu_before);
    Ok(Hot { per_second: hits as f64 / longest.as_secs_f64(), cost: cpu.nanoseconds as f64 / hits as f64 })
}
