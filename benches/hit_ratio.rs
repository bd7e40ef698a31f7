//! Which share of requests finds its item, at equal memory: traces replayed against ferrocached and memcached.
//!
//! `cargo bench --bench hit_ratio -- --help`. A get that misses is followed by a set, as an application does that has a
//! database behind its cache. Each server is asked the same, in the same order, and may hold the same `-m`.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

#[expect(dead_code, reason = "each bench uses a part")]
mod common;

use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::Parser;

use crate::common::batch::Batch;
use crate::common::chart::{Line, draw_lines};
use crate::common::client::Client;
use crate::common::cores::Cores;
use crate::common::items::Values;
use crate::common::replies::Tally;
use crate::common::report::{Table, percent, ratio};
use crate::common::server::{Kind, Launch, Server, ServerOptions};
use crate::common::traces::{ETC_ZIPF_1_0, Lookup, Scale, TRACES, Trace};
use crate::common::{Result, asked_to_measure};

/// Keys asked for by one get, before what was missing is stored.
const BATCH: usize = 50;
/// The first part of a trace fills the cache and is not counted.
const WARM_UP_SHARE: f64 = 0.5;
/// The limits, in megabytes, of the points of the plot.
const PLOTTED_MEGABYTES: [u64; 5] = [16, 32, 64, 128, 256];

#[derive(Parser)]
#[command(about = "Misses of replayed traces at equal memory: ferrocached and memcached")]
struct Options {
    #[command(flatten)]
    server: ServerOptions,
    #[arg(long, value_delimiter = ',', default_values = ["ferrocached", "memcached"])]
    servers: Vec<Kind>,
    /// Memory limit of the servers in megabytes; key sets grow with it
    #[arg(short, long, default_value_t = 64)]
    memory: u64,
    /// Requests of each trace
    #[arg(long, default_value_t = 10_000_000)]
    requests: u64,
    /// Only traces whose name contains this
    #[arg(long, default_value = "")]
    traces: String,
    /// Where to plot misses of one trace against memory
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// What one replay came to.
struct Replay {
    misses: f64,
    /// The largest resident memory, as a multiple of the limit.
    resident: f64,
    /// What was stored in all, as a multiple of the limit: below 1 nothing needed to be evicted.
    turnover: f64,
    refused: u64,
    seconds: f64,
}

fn main() -> Result<()> {
    let options = Options::parse();
    if !asked_to_measure(options.server.bench) {
        return Ok(());
    }
    if options.servers.contains(&Kind::Floor) {
        return Err("the floor stores nothing, so it has no hits".into());
    }
    let cores = Cores::of_this_process()?;
    cores.pin_generator()?;

    let mut table = Table::new(headings(&options.servers));
    for trace in TRACES.iter().filter(|trace| trace.name.contains(&options.traces)) {
        let scale = Scale { memory_bytes: options.memory << 20, requests: options.requests };
        let replays = replay_all(trace, scale, options.memory, &options, &cores)?;
        table.row(cells(trace.name, &options.servers, &replays));
    }
    println!("`-m {}`, {} requests a trace\n\n{table}", options.memory, options.requests);
    if let Some(path) = &options.svg {
        plot(path, &options, &cores)?;
    }
    Ok(())
}

fn replay_all(
    trace: &Trace,
    scale: Scale,
    memory_megabytes: u64,
    options: &Options,
    cores: &Cores,
) -> Result<Vec<Replay>> {
    let mut replays = Vec::new();
    for &kind in &options.servers {
        let launch = Launch { memory_megabytes, threads: 1, cpus: cores.for_server()?, floor_value_bytes: 0 };
        let server = Server::start(kind, &options.server, &launch)?;
        let replayed = replay(&server, trace, scale, memory_megabytes << 20)?;
        eprintln!(
            "{} at -m {memory_megabytes}, {}: {} misses, {:.1} times the limit stored, {:.1} s{}",
            trace.name,
            kind.name(),
            percent(replayed.misses),
            replayed.turnover,
            replayed.seconds,
            if replayed.refused > 0 { format!(", {} sets refused", replayed.refused) } else { String::new() },
        );
        replays.push(replayed);
    }
    Ok(replays)
}

fn replay(server: &Server, trace: &Trace, scale: Scale, limit_bytes: u64) -> Result<Replay> {
    let values = Values::by_key();
    let mut client = Client::connect(server.port)?;
    let mut next = trace.start(scale);
    let warm_up = (scale.requests as f64 * WARM_UP_SHARE) as u64;
    let mut tally = Tally::default();
    let mut warmed = None;
    let mut batch = Batch::default();
    let mut lookups: Vec<Lookup> = Vec::with_capacity(BATCH);
    let mut missed = Vec::new();
    let start = Instant::now();
    let (mut sent, mut stored_bytes) = (0, 0);
    while sent < scale.requests {
        if let Some(pace) = trace.pace {
            sleep(Duration::from_secs_f64(sent as f64 / pace as f64).saturating_sub(start.elapsed()));
        }
        lookups.clear();
        lookups.extend(std::iter::repeat_with(&mut next).take(BATCH));
        sent += BATCH as u64;
        batch.get(lookups.iter().map(|lookup| lookup.item));
        client.exchange(&mut batch, &values, &mut tally, |item| missed.push(item))?;

        // A key that the batch missed twice is stored once.
        for (place, lookup) in lookups.iter().enumerate() {
            let was_before = lookups[..place].iter().any(|before| before.item == lookup.item);
            if !was_before && missed.contains(&lookup.item) {
                batch.set(lookup.item, lookup.ttl_seconds, &values);
                stored_bytes += lookup.item.user_bytes();
            }
        }
        missed.clear();
        client.exchange(&mut batch, &values, &mut tally, |_| ())?;
        if warmed.is_none() && sent >= warm_up {
            warmed = Some(tally);
        }
    }
    let counted = tally.since(&warmed.unwrap_or_default());
    Ok(Replay {
        misses: counted.misses as f64 / (counted.hits + counted.misses) as f64,
        resident: server.resident_bytes_peak()? as f64 / limit_bytes as f64,
        turnover: stored_bytes as f64 / limit_bytes as f64,
        refused: tally.refused,
        seconds: start.elapsed().as_secs_f64(),
    })
}

fn headings(kinds: &[Kind]) -> Vec<String> {
    let mut headings = vec!["trace".to_owned()];
    headings.extend(kinds.iter().map(|kind| format!("misses, {}", kind.name())));
    if compared(kinds).is_some() {
        headings.push("change".to_owned());
    }
    headings.extend(kinds.iter().map(|kind| format!("RSS / limit, {}", kind.name())));
    headings
}

fn cells(name: &str, kinds: &[Kind], replays: &[Replay]) -> Vec<String> {
    let mut cells = vec![name.to_owned()];
    cells.extend(replays.iter().map(|replay| percent(replay.misses)));
    if let Some((ferrocached, memcached)) = compared(kinds) {
        let change = replays[ferrocached].misses / replays[memcached].misses - 1.0;
        cells.push(format!("{:+.0} %", change * 100.0));
    }
    cells.extend(replays.iter().map(|replay| ratio(replay.resident)));
    cells
}

/// Where ferrocached and memcached stand, if both take part.
fn compared(kinds: &[Kind]) -> Option<(usize, usize)> {
    let place = |wanted| kinds.iter().position(|&kind| kind == wanted);
    place(Kind::Ferrocached).zip(place(Kind::Memcached))
}

/// The same requests for every limit, drawn over the memory that a server really took: memcached exceeds a small `-m`
/// by a page for each of its size classes, and at equal `-m` would be compared with less than it uses.
fn plot(path: &std::path::Path, options: &Options, cores: &Cores) -> Result<()> {
    let mut lines: Vec<Line> =
        options.servers.iter().map(|&kind| Line { kind, points: Vec::new() }).collect();
    let scale = Scale { memory_bytes: 64 << 20, requests: options.requests };
    for memory_megabytes in PLOTTED_MEGABYTES {
        let replays = replay_all(&ETC_ZIPF_1_0, scale, memory_megabytes, options, cores)?;
        for (line, replay) in lines.iter_mut().zip(replays) {
            line.points.push((replay.resident * memory_megabytes as f64, replay.misses * 100.0));
        }
    }
    let x_label = "peak RSS, MB (-m 16, 32, 64, 128, 256)";
    draw_lines(path, "Misses against memory (ETC sizes, Zipf 1.0)", x_label, "misses", &lines)
}
