//! What a byte of user data costs in memory, and whether memory stays within its limit and comes back.
//!
//! `cargo bench --bench memory -- --help`. Memory is what the kernel holds resident for the server (RSS), not what the
//! server says of itself. With `--check` the bench fails where ferrocached misses a bound.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

#[expect(dead_code, reason = "each bench uses a part")]
mod common;

use std::process::ExitCode;
use std::str::FromStr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::Parser;

use crate::common::batch::Batch;
use crate::common::client::Client;
use crate::common::cores::Cores;
use crate::common::items::{Item, KEY_BYTES, Values};
use crate::common::random::mix;
use crate::common::replies::Tally;
use crate::common::report::{Table, megabytes, ratio, whole};
use crate::common::server::{Kind, Launch, Server, ServerOptions};
use crate::common::{Result, asked_to_measure};

#[derive(Parser)]
#[command(about = "Memory: per item, at the limit, through changes of size, after expiry and flush")]
struct Options {
    #[command(flatten)]
    server: ServerOptions,
    #[arg(long, value_delimiter = ',', default_values = ["ferrocached", "memcached"])]
    servers: Vec<Kind>,
    /// Memory limit in megabytes; sizes shift, and memory is given back, at a quarter of it
    #[arg(short, long, default_value_t = 1024)]
    memory: u64,
    /// Items of the parts that count them
    #[arg(long, default_value_t = 1_000_000)]
    items: u64,
    /// How long to wait for expired items to go, in seconds
    #[arg(long, default_value_t = 60)]
    patience: u64,
    /// Parts, by name; all by default
    #[arg(long, value_delimiter = ',', value_parser = PARTS.map(|part| part.name))]
    parts: Vec<String>,
    /// A bound on a figure of ferrocached, such as "item-bytes<=80" or "held>=0.85"; may be repeated
    #[arg(long, value_name = "BOUND")]
    check: Vec<Bound>,
}

/// One part of the bench: measures all servers, prints its table and says what it found out about ferrocached.
struct Part {
    name: &'static str,
    figures: &'static [&'static str],
    run: fn(&Bench<'_>, &mut Findings) -> Result<()>,
}

const PARTS: [Part; 5] = [
    Part { name: "items", figures: &["item-bytes"], run: small_items },
    Part { name: "limit", figures: &["held"], run: filled },
    Part { name: "shift", figures: &["shift-excess-mb"], run: shifting_sizes },
    Part { name: "expiry", figures: &["expiry-seconds"], run: expiry },
    Part { name: "return", figures: &["flush-rss-mb", "memlimit-rss-mb"], run: given_back },
];

/// A figure that `--check` can bound.
struct Findings(Vec<(&'static str, f64)>);

impl Findings {
    fn note(&mut self, kind: Kind, name: &'static str, figure: f64) {
        if kind == Kind::Ferrocached {
            self.0.push((name, figure));
        }
    }
}

#[derive(Clone, Debug)]
struct Bound {
    name: String,
    is_most: bool,
    figure: f64,
}

impl FromStr for Bound {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (name, figure, is_most) = match (text.split_once("<="), text.split_once(">=")) {
            (Some((name, figure)), _) => (name, figure, true),
            (_, Some((name, figure))) => (name, figure, false),
            _ => return Err("a bound reads NAME<=NUMBER or NAME>=NUMBER".to_owned()),
        };
        let names: Vec<&str> = PARTS.iter().flat_map(|part| part.figures).copied().collect();
        if !names.contains(&name) {
            return Err(format!("there is no figure {name:?}; there are {}", names.join(", ")));
        }
        let figure = figure.parse().map_err(|_| format!("{figure:?} is not a number"))?;
        Ok(Self { name: name.to_owned(), is_most, figure })
    }
}

struct Bench<'a> {
    options: &'a Options,
    cores: &'a Cores,
    values: Values,
}

impl Bench<'_> {
    fn start(&self, kind: Kind, memory_megabytes: u64) -> Result<(Server, Client)> {
        let launch =
            Launch { memory_megabytes, threads: 1, cpus: self.cores.for_server()?, floor_value_bytes: 0 };
        let server = Server::start(kind, &self.options.server, &launch)?;
        let client = Client::connect(server.port)?;
        Ok((server, client))
    }

    /// The limit of the parts that need not be large.
    fn quarter_megabytes(&self) -> u64 {
        (self.options.memory / 4).max(64)
    }
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    if !asked_to_measure(options.server.bench) {
        return Ok(ExitCode::SUCCESS);
    }
    if options.servers.contains(&Kind::Floor) {
        return Err("the floor stores nothing, so it needs no memory".into());
    }
    let cores = Cores::of_this_process()?;
    cores.pin_generator()?;
    let bench = Bench { options: &options, cores: &cores, values: Values::by_key() };
    let mut findings = Findings(Vec::new());
    for part in &PARTS {
        if options.parts.is_empty() || options.parts.iter().any(|name| name == part.name) {
            eprintln!("{} …", part.name);
            (part.run)(&bench, &mut findings)?;
        }
    }
    Ok(if all_kept(&options.check, &findings) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A bound on what was not measured counts as missed: a check that checks nothing must not pass.
fn all_kept(bounds: &[Bound], findings: &Findings) -> bool {
    let mut are_kept = true;
    for bound in bounds {
        let found = findings.0.iter().find(|(name, _)| *name == bound.name).map(|&(_, figure)| figure);
        let is_kept =
            found.is_some_and(
                |figure| {
                    if bound.is_most { figure <= bound.figure } else { figure >= bound.figure }
                },
            );
        let sign = if bound.is_most { "<=" } else { ">=" };
        let found = found.map_or("not measured".to_owned(), ratio);
        println!(
            "{} {sign} {}: {found}, {}",
            bound.name,
            bound.figure,
            if is_kept { "kept" } else { "MISSED" }
        );
        are_kept &= is_kept;
    }
    are_kept
}

/// RSS for each of many small items.
fn small_items(bench: &Bench<'_>, findings: &mut Findings) -> Result<()> {
    const VALUE_BYTES: u32 = 32;
    let count = bench.options.items;
    let mut table =
        Table::new(["server", "RSS, empty", "RSS, full", "bytes per item", "of them not the user's"]);
    for &kind in &bench.options.servers {
        let (server, mut client) = bench.start(kind, bench.options.memory)?;
        let empty = server.resident_bytes()?;
        client.fill((0..count).map(|number| Item::new(number, VALUE_BYTES)), 0, &bench.values)?;
        client.await_index()?;
        let held = client.stat("curr_items")?;
        if held != count {
            return Err(format!("{} holds {held} of {count} items; raise --memory", kind.name()).into());
        }
        let full = server.resident_bytes()?;
        let per_item = (full - empty) as f64 / count as f64;
        let overhead = per_item - f64::from(KEY_BYTES) - f64::from(VALUE_BYTES);
        table.row([
            kind.name().to_owned(),
            megabytes(empty),
            megabytes(full),
            format!("{per_item:.1}"),
            format!("{overhead:.1}"),
        ]);
        findings.note(kind, "item-bytes", per_item);
    }
    println!("{} items of 16-byte keys and 32-byte values\n\n{table}", whole(count as f64));
    Ok(())
}

/// User bytes for each byte of RSS once the memory is full, counted by asking for every key that was stored.
fn filled(bench: &Bench<'_>, findings: &mut Findings) -> Result<()> {
    let memory_bytes = bench.options.memory << 20;
    let item = |number: u64| Item::new(number, 100 + (mix(number) % 1_901) as u32);
    let count = memory_bytes * 2 / 1_066;
    let mut table =
        Table::new(["server", "items held", "user bytes", "RSS", "RSS / limit", "user bytes / RSS"]);
    for &kind in &bench.options.servers {
        let (server, mut client) = bench.start(kind, bench.options.memory)?;
        client.fill((0..count).map(item), 0, &bench.values)?;
        client.await_index()?;
        let resident = server.resident_bytes()?;
        let (held, user_bytes) = held(&mut client, (0..count).map(item), &bench.values)?;
        let share = user_bytes as f64 / resident as f64;
        table.row([
            kind.name().to_owned(),
            whole(held as f64),
            megabytes(user_bytes),
            megabytes(resident),
            ratio(resident as f64 / memory_bytes as f64),
            ratio(share),
        ]);
        findings.note(kind, "held", share);
    }
    println!("`-m {}` filled twice over with values of 100 to 2,000 bytes\n\n{table}", bench.options.memory);
    Ok(())
}

/// How many of the items are there, and how many bytes their users gave.
fn held(client: &mut Client, items: impl Iterator<Item = Item>, values: &Values) -> Result<(u64, u64)> {
    const BATCH: usize = 64;
    let mut items = items.peekable();
    let mut batch = Batch::default();
    let mut tally = Tally::default();
    let mut user_bytes = 0;
    while items.peek().is_some() {
        let asked = items.by_ref().take(BATCH).inspect(|item| user_bytes += item.user_bytes());
        batch.get(asked);
        client.exchange(&mut batch, values, &mut tally, |item| user_bytes -= item.user_bytes())?;
    }
    Ok((tally.hits, user_bytes))
}

/// The most that is resident while values of one size after the other fill the memory.
fn shifting_sizes(bench: &Bench<'_>, findings: &mut Findings) -> Result<()> {
    const VALUE_BYTES: [u32; 5] = [50, 5_000, 200, 500_000, 50];
    const FILLINGS: u64 = 3;
    const SAMPLES: u64 = 40;
    let memory_megabytes = bench.quarter_megabytes();
    let memory_bytes = memory_megabytes << 20;
    let bound = memory_bytes + memory_bytes * 3 / 100 + (8 << 20);
    let names = bench.options.servers.iter().map(|kind| format!("RSS, {}", kind.name()));
    let mut table = Table::new(["values of".to_owned(), "bound".to_owned()].into_iter().chain(names));
    let mut columns = Vec::new();
    for &kind in &bench.options.servers {
        let (server, mut client) = bench.start(kind, memory_megabytes)?;
        let mut peaks = [0; VALUE_BYTES.len()];
        let mut refused = 0;
        for (phase, (&value_bytes, peak)) in VALUE_BYTES.iter().zip(&mut peaks).enumerate() {
            // Fifty bytes stand for what a server adds to an item: a little more or less is only a longer or shorter fill.
            let sets = FILLINGS * memory_bytes / (u64::from(KEY_BYTES) + u64::from(value_bytes) + 50);
            let slice = sets.div_ceil(SAMPLES);
            for sample in 0..SAMPLES {
                let first = phase as u64 * 1_000_000_000 + sample * slice;
                let items = (first..first + slice).map(|number| Item::new(number, value_bytes));
                refused += client.fill(items, 0, &bench.values)?.refused;
                *peak = server.resident_bytes()?.max(*peak);
            }
        }
        if refused > 0 {
            eprintln!("{}: {refused} sets refused for want of memory", kind.name());
        }
        let most = server.resident_bytes_peak()?.max(*peaks.iter().max().expect("there are five phases"));
        findings.note(kind, "shift-excess-mb", (most as f64 - bound as f64) / f64::from(1 << 20));
        columns.push((peaks, most));
    }
    for (phase, &value_bytes) in VALUE_BYTES.iter().enumerate() {
        let peaks = columns.iter().map(|(peaks, _)| megabytes(peaks[phase]));
        let name = format!("{} bytes", whole(f64::from(value_bytes)));
        table.row([name, megabytes(bound)].into_iter().chain(peaks));
    }
    let all = columns.iter().map(|&(_, most)| megabytes(most));
    table.row(["peak of all".to_owned(), megabytes(bound)].into_iter().chain(all));
    println!(
        "`-m {memory_megabytes}` filled {FILLINGS} times over with values of each size in turn (bound: limit + 3 % + 8 MB)\n\n{table}"
    );
    Ok(())
}

/// How long expired items that nobody asks for stay in memory.
fn expiry(bench: &Bench<'_>, findings: &mut Findings) -> Result<()> {
    const TTL_SECONDS: u32 = 5;
    let count = bench.options.items;
    let patience = Duration::from_secs(bench.options.patience);
    let mut table = Table::new([
        "server",
        "RSS, full",
        "items gone after",
        "bytes gone after",
        "RSS then",
        "RSS 5 s later",
    ]);
    for &kind in &bench.options.servers {
        let (server, mut client) = bench.start(kind, bench.options.memory)?;
        client.fill((0..count).map(|number| Item::new(number, 32)), TTL_SECONDS, &bench.values)?;
        let last_deadline = Instant::now() + Duration::from_secs(TTL_SECONDS.into());
        let full = server.resident_bytes()?;
        let bytes_full = client.stat("bytes")?;
        let (mut items_gone, mut bytes_gone) = (None, None);
        while (items_gone.is_none() || bytes_gone.is_none()) && Instant::now() < last_deadline + patience {
            sleep(Duration::from_millis(100));
            let waited = Instant::now().saturating_duration_since(last_deadline).as_secs_f64();
            if client.stat("curr_items")? <= count / 100 {
                items_gone.get_or_insert(waited);
            }
            if client.stat("bytes")? <= bytes_full / 100 {
                bytes_gone.get_or_insert(waited);
            }
        }
        let then = server.resident_bytes()?;
        sleep(Duration::from_secs(5));
        let shown = |gone: Option<f64>| match gone {
            Some(seconds) => format!("{seconds:.1} s"),
            None => format!("> {} s", patience.as_secs()),
        };
        table.row([
            kind.name().to_owned(),
            megabytes(full),
            shown(items_gone),
            shown(bytes_gone),
            megabytes(then),
            megabytes(server.resident_bytes()?),
        ]);
        let gone = items_gone.zip(bytes_gone).map_or(f64::INFINITY, |(items, bytes)| items.max(bytes));
        findings.note(kind, "expiry-seconds", gone);
    }
    println!(
        "{} items with a TTL of {TTL_SECONDS} s, never read; gone: 99 % of them; times from the last deadline\n\n{table}",
        whole(count as f64)
    );
    Ok(())
}

/// RSS ten seconds after `flush_all`, and after the limit is lowered to a quarter.
fn given_back(bench: &Bench<'_>, findings: &mut Findings) -> Result<()> {
    const WAIT: Duration = Duration::from_secs(10);
    let memory_megabytes = bench.quarter_megabytes();
    let lowered_megabytes = memory_megabytes / 4;
    let mut table =
        Table::new(["server", "RSS, full", "after flush_all", "RSS, full again", "after cache_memlimit"]);
    for &kind in &bench.options.servers {
        let (server, mut client) = bench.start(kind, memory_megabytes)?;
        let mut first = 0;
        let mut fill = |client: &mut Client| -> Result<u64> {
            let count = (memory_megabytes << 20) * 3 / 2 / 1_000;
            client.fill((first..first + count).map(|number| Item::new(number, 1_000)), 0, &bench.values)?;
            first += count;
            server.resident_bytes()
        };
        let full = fill(&mut client)?;
        obey(&mut client, "flush_all")?;
        sleep(WAIT);
        let flushed = server.resident_bytes()?;
        let full_again = fill(&mut client)?;
        obey(&mut client, &format!("cache_memlimit {lowered_megabytes}"))?;
        sleep(WAIT);
        let lowered = server.resident_bytes()?;
        table.row([
            kind.name().to_owned(),
            megabytes(full),
            megabytes(flushed),
            megabytes(full_again),
            megabytes(lowered),
        ]);
        findings.note(kind, "flush-rss-mb", flushed as f64 / f64::from(1 << 20));
        findings.note(kind, "memlimit-rss-mb", lowered as f64 / f64::from(1 << 20));
    }
    println!(
        "`-m {memory_megabytes}`, full; 10 s after `flush_all`; full again; 10 s after `cache_memlimit {lowered_megabytes}`\n\n{table}"
    );
    Ok(())
}

fn obey(client: &mut Client, line: &str) -> Result<()> {
    match client.command(line)?.as_str() {
        "OK" => Ok(()),
        answer => Err(format!("{line} was answered {answer:?}").into()),
    }
}
