//! What a normal client waits while others abuse the server: idle crowds, uploads that never end, clients that do not
//! read, storms of connections, endless pipelines, endless writes of each kind, endless administrative commands, a full
//! table of descriptors, a full disk behind the log, certificates that cannot be used, clients of HTTP.
//!
//! `cargo bench --bench abuse -- --help`. One server with one worker for each kind of abuse; the normal client sends one
//! request after the other, calm, beside the abuse, and when it is over; in several rounds, for one alone says little.
//! Figures are medians of the rounds, and the bench fails if one is beyond its bound: p99 beside endless writes and
//! commands, p50 too, has a bound in milliseconds, or that of a memcached that is measured in turn with it, and so has
//! what is written meanwhile; beside everything else it may be five times that of calm, beside HTTP twice. Those who abuse
//! share the generator's processor with the normal client, to which they give way, and most take a pause after each deed:
//! with none, it is their processor that is measured. Those who write without end wait for the server; what they write in a second
//! is measured before the normal client is beside them.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

#[expect(dead_code, reason = "each bench uses a part")]
mod common;

#[path = "abuse/abusers.rs"]
mod abusers;
#[path = "../tests/tls/mod.rs"]
mod certificates;
#[path = "abuse/guarded.rs"]
mod guarded;

use std::fs::File;
use std::io::{Read, Write};
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::Parser;
use fastrand::Rng;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::abusers::{Abusers, CROWD, OPERATORS, WRITERS};
use crate::common::batch::Batch;
use crate::common::client::Client;
use crate::common::cores::Cores;
use crate::common::histogram::Histogram;
use crate::common::items::{Item, Values};
use crate::common::replies::Tally;
use crate::common::report::{Table, median, megabytes, microseconds, percent, ratio};
use crate::common::server::{Kind, Launch, Server, ServerOptions};
use crate::common::{Result, asked_to_measure};
use crate::guarded::Guarded;

const VALUE_BYTES: u32 = 32;
/// One request in so many of the normal client's is a set.
const SETS_EVERY: u64 = 10;
/// How many times longer than in calm one request in a hundred may take beside any abuse.
const RATIO_MAX: f64 = 5.0;
/// The same beside hostile clients of HTTP, which has a thread of its own.
const HTTP_RATIO_MAX: f64 = 2.0;
/// How many times as long as memcached those who upload may take for what they write: one and a tenth, for medians of
/// some rounds of one and the same server differ by as much.
const UPLOAD_RATIO_MAX: f64 = 1.1;
/// Descriptors of this process, and of the server, that are for other things.
const DESCRIPTORS_LEFT: u64 = 1000;

#[derive(Parser)]
#[command(about = "What a normal client waits while others abuse the server")]
struct Options {
    #[command(flatten)]
    server: ServerOptions,
    /// Servers; by default ferrocached, and memcached where it is what the bound depends on
    #[arg(long, value_delimiter = ',')]
    servers: Vec<Kind>,
    /// Kinds of abuse, all by default
    #[arg(long, value_delimiter = ',', value_enum)]
    kinds: Vec<Abuse>,
    /// Items of the normal client
    #[arg(long, default_value_t = 10_000)]
    items: u64,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// How often each kind is measured; figures are medians
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Connections that are idle
    #[arg(long, default_value_t = 10_000)]
    idle: usize,
    /// Clients that do not read, or do not end their uploads
    #[arg(long, default_value_t = 1000)]
    slow: usize,
    /// Microseconds between two deeds of those who abuse
    #[arg(long, default_value_t = 1000)]
    pause: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Abuse {
    Idle,
    Uploads,
    Readers,
    OneValue,
    SmallReplies,
    Storm,
    Handshakes,
    Pipelines,
    Sets,
    ManySets,
    LargeSets,
    ManyLargeSets,
    Appends,
    ManyAppends,
    Operations,
    Descriptors,
    FullDisk,
    Certificates,
    Http,
}

/// By how much the medians of the same server differ from run to run.
const NOISE: f64 = 1.1;

/// How long the normal client may wait beside an abuse.
#[derive(Clone, Copy)]
enum Bound {
    /// One request in a hundred, so many times as long as in calm.
    TimesCalm(f64),
    /// Half of the requests, and one in a hundred, in milliseconds.
    Milliseconds(f64, f64),
    /// The same, and [`UPLOAD_RATIO_MAX`].
    Uploads(f64, f64),
    /// As long as with memcached, or as in the calm if that is longer, times [`NOISE`]; and with as much written
    /// meanwhile.
    Memcached,
}

impl Abuse {
    const ALL: [Abuse; 19] = [
        Abuse::Idle,
        Abuse::Uploads,
        Abuse::Readers,
        Abuse::OneValue,
        Abuse::SmallReplies,
        Abuse::Storm,
        Abuse::Handshakes,
        Abuse::Pipelines,
        Abuse::Sets,
        Abuse::ManySets,
        Abuse::LargeSets,
        Abuse::ManyLargeSets,
        Abuse::Appends,
        Abuse::ManyAppends,
        Abuse::Operations,
        Abuse::Descriptors,
        Abuse::FullDisk,
        Abuse::Certificates,
        Abuse::Http,
    ];

    fn needs_tls(self) -> bool {
        matches!(self, Abuse::Handshakes | Abuse::Certificates)
    }

    /// How many threads it takes.
    fn threads(self) -> usize {
        match self {
            Abuse::Pipelines | Abuse::Operations | Abuse::Http => 4,
            Abuse::ManySets | Abuse::ManyLargeSets | Abuse::ManyAppends => WRITERS,
            _ => 1,
        }
    }

    fn bound(self) -> Bound {
        match self {
            Abuse::Sets | Abuse::ManySets | Abuse::ManyAppends => Bound::Memcached,
            Abuse::LargeSets => Bound::Uploads(1.0, 2.0),
            Abuse::ManyLargeSets => Bound::Uploads(3.0, 5.0),
            Abuse::Appends => Bound::Milliseconds(2.0, 4.0),
            Abuse::Operations => Bound::Milliseconds(2.0, 6.0),
            Abuse::Http => Bound::TimesCalm(HTTP_RATIO_MAX),
            _ => Bound::TimesCalm(RATIO_MAX),
        }
    }

    /// Whether it is worth comparing with memcached.
    fn is_compared(self) -> bool {
        !matches!(self.bound(), Bound::TimesCalm(_))
    }

    fn name(self, options: &Options) -> String {
        match self {
            Abuse::Idle => format!("{} idle connections", options.idle),
            Abuse::Uploads => format!("{} unfinished uploads of 1 MB, begun anew", options.slow),
            Abuse::Readers => format!("{} clients that do not read 1 MB, each another", options.slow),
            Abuse::OneValue => format!("{} clients that do not read the same 1 MB", options.slow),
            Abuse::SmallReplies => format!("{} clients that do not read 1 MB of small replies", options.slow),
            Abuse::Storm => "connections that come and go, half by reset".to_owned(),
            Abuse::Handshakes => format!("crowds of {CROWD} TLS handshakes that come and go"),
            Abuse::Pipelines => "4 endless pipelines of gets".to_owned(),
            Abuse::Sets => "sets of 1 KB without end".to_owned(),
            Abuse::ManySets => format!("the same on {WRITERS} connections"),
            Abuse::LargeSets => "sets of 1 MB without end".to_owned(),
            Abuse::ManyLargeSets => format!("the same on {WRITERS} connections"),
            Abuse::Appends => "appends of 1 KB up to 1 MB without end".to_owned(),
            Abuse::ManyAppends => format!("appends of 90 KB and 1 B on {WRITERS} connections"),
            Abuse::Operations => format!("dumps, sizes, flushes and rankings on {OPERATORS} connections"),
            Abuse::Descriptors => "no descriptors, 100 clients waiting".to_owned(),
            Abuse::FullDisk => "every request logged, to a full disk".to_owned(),
            Abuse::Http => "scrapes without end, slow and huge headers over HTTP".to_owned(),
            Abuse::Certificates => "certificates replaced by garbage and read again, over TLS".to_owned(),
        }
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
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    let room = usize::try_from(hard.saturating_sub(DESCRIPTORS_LEFT)).unwrap_or(usize::MAX);
    let options = Options { idle: options.idle.min(room), slow: options.slow.min(room), ..options };
    let cores = Cores::of_this_process()?;
    cores.pin_generator()?;
    let mut table = Table::new([
        "server",
        "abuse",
        "p50 calm",
        "p50 beside",
        "p99 calm",
        "p99 beside",
        "ratio",
        "p99 after",
        "RSS calm",
        "RSS beside",
        "RSS after",
        "CPU beside",
        "MB/s alone",
    ]);
    let kinds = if options.kinds.is_empty() { &Abuse::ALL[..] } else { &options.kinds };
    let mut broken = Vec::new();
    for &abuse in kinds {
        let name = abuse.name(&options);
        let servers = match &options.servers[..] {
            [] if abuse.is_compared() => &[Kind::Ferrocached, Kind::Memcached][..],
            [] => &[Kind::Ferrocached],
            servers => servers,
        };
        if (abuse.needs_tls() || abuse == Abuse::Http) && servers != [Kind::Ferrocached] {
            eprintln!(
                "{name}: only ferrocached can be asked for it, as few builds of memcached have TLS, and none HTTP"
            );
            continue;
        }
        // The servers take turns, for the machine may be slower at another time.
        let mut rounds = vec![Vec::new(); servers.len()];
        for round in 1..=options.rounds {
            for (&server, rounds) in servers.iter().zip(&mut rounds) {
                let figures = measure(server, abuse, &options, &cores)?;
                eprintln!("{}, {name}, round {round}: p99 times {}", server.name(), ratio(figures.ratio()));
                rounds.push(figures);
            }
        }
        for (&server, rounds) in servers.iter().zip(&rounds) {
            table.row(row(server, &name, rounds));
        }
        let of = |kind| servers.iter().position(|&server| server == kind).map(|place| &rounds[place][..]);
        if let Some(ours) = of(Kind::Ferrocached) {
            broken.extend(
                breaches(abuse.bound(), ours, of(Kind::Memcached)).map(|what| format!("{name}: {what}")),
            );
        }
    }
    println!("{table}");
    if broken.is_empty() {
        return Ok(());
    }
    Err(format!("beyond the bound in the median of --rounds {}: {}", options.rounds, broken.join("; "))
        .into())
}

/// What of `ours` is beyond `bound`, compared with `memcached` if that was measured.
fn breaches(bound: Bound, ours: &[Round], memcached: Option<&[Round]>) -> impl Iterator<Item = String> {
    let middle = |rounds: &[Round], figure: fn(&Round) -> f64| median(rounds.iter().map(figure));
    let half_in_ms = |rounds| middle(rounds, |round| round.p50[1] * 1e3);
    let most_in_ms = |rounds| middle(rounds, |round| round.p99[1] * 1e3);
    // Of speed, more is better.
    let per_megabyte = |rounds| 1e6 / middle(rounds, |round| round.written);
    let mut checks = match (bound, memcached) {
        (Bound::TimesCalm(max), _) => vec![("p99 times that of calm", middle(ours, Round::ratio), max)],
        (Bound::Milliseconds(half, most) | Bound::Uploads(half, most), _) => {
            vec![("p50 in ms", half_in_ms(ours), half), ("p99 in ms", most_in_ms(ours), most)]
        }
        // A worker that has time to sleep is woken as in the calm, which takes longer than to find one awake.
        (Bound::Memcached, Some(theirs)) => vec![
            (
                "p50 in ms",
                half_in_ms(ours),
                NOISE * half_in_ms(theirs).max(middle(ours, |round| round.p50[0] * 1e3)),
            ),
            (
                "p99 in ms",
                most_in_ms(ours),
                NOISE * most_in_ms(theirs).max(middle(ours, |round| round.p99[0] * 1e3)),
            ),
        ],
        (Bound::Memcached, None) => Vec::new(),
    };
    let ratio_max = match bound {
        Bound::Memcached => Some(1.0),
        Bound::Uploads(..) => Some(UPLOAD_RATIO_MAX),
        Bound::TimesCalm(_) | Bound::Milliseconds(..) => None,
    };
    if let (Some(ratio_max), Some(theirs)) = (ratio_max, memcached) {
        checks.push(("s/MB written", per_megabyte(ours), ratio_max * per_megabyte(theirs)));
    }
    let beyond = checks.into_iter().filter(|(_, figure, max)| figure > max);
    beyond.map(|(what, figure, max)| format!("{what} {figure:.4}, bound {max:.4}"))
}

/// The figures of one round. Times are in seconds, memory in bytes.
#[derive(Clone)]
struct Round {
    p50: [f64; 2],
    /// Calm, beside the abuse, and when it is over.
    p99: [f64; 3],
    resident: [f64; 3],
    /// The share of a processor that the server took beside the abuse.
    busy: f64,
    /// What was written without end, by nobody else, in bytes per second.
    written: f64,
}

impl Round {
    fn ratio(&self) -> f64 {
        self.p99[1] / self.p99[0]
    }
}

/// The medians of `rounds`, each figure's by itself.
fn row(server: Kind, name: &str, rounds: &[Round]) -> [String; 13] {
    let middle = |figure: fn(&Round) -> f64| median(rounds.iter().map(figure));
    let time = |figure| microseconds(Duration::from_secs_f64(middle(figure)));
    let memory = |figure| megabytes(middle(figure) as u64);
    [
        server.name().to_owned(),
        name.to_owned(),
        time(|round| round.p50[0]),
        time(|round| round.p50[1]),
        time(|round| round.p99[0]),
        time(|round| round.p99[1]),
        ratio(middle(Round::ratio)),
        time(|round| round.p99[2]),
        memory(|round| round.resident[0]),
        memory(|round| round.resident[1]),
        memory(|round| round.resident[2]),
        percent(middle(|round| round.busy)),
        megabytes(middle(|round| round.written) as u64),
    ]
}

fn measure(kind: Kind, abuse: Abuse, options: &Options, cores: &Cores) -> Result<Round> {
    let launch = Launch { memory_megabytes: 64, threads: 1, cpus: cores.for_server()?, floor_value_bytes: 0 };
    let places = options.idle.max(options.slow) + 500;
    let guarded = abuse.needs_tls().then(Guarded::new).transpose()?;
    let tls = guarded.as_ref().map(Guarded::arguments).unwrap_or_default();
    let log = match abuse {
        Abuse::FullDisk => File::options().write(true).open("/dev/full")?.into(),
        _ => Stdio::null(),
    };
    let http = if abuse == Abuse::Http { "--http=127.0.0.1:0" } else { "" };
    let extra = options.server.with_extra(&format!("-c {places} {tls} {http}"));
    let server = Server::start_logging_to(log, kind, &extra, &launch)?;
    let values = Values::by_key();
    match &guarded {
        Some(guarded) => {
            let mut normal = Client::over(guarded.connect(server.port)?);
            round(&mut normal, abuse, options, &values, &server, Some(guarded))
        }
        None => round(&mut Client::connect(server.port)?, abuse, options, &values, &server, None),
    }
}

fn round<S: Read + Write>(
    normal: &mut Client<S>,
    abuse: Abuse,
    options: &Options,
    values: &Values,
    server: &Server,
    guarded: Option<&Guarded>,
) -> Result<Round> {
    normal.fill((0..options.items).map(|number| Item::new(number, VALUE_BYTES)), 0, values)?;
    let _ = waits(normal, options, values)?; // warm
    let calm = waits(normal, options, values)?;
    let resident_calm = server.resident_bytes()?;

    let abusers = Abusers::start(abuse, server, options, guarded)?;
    // The normal client takes a part of the generator's processor, the more the sooner it is answered.
    let (before, since) = (abusers.written(), Instant::now());
    if !matches!(abuse.bound(), Bound::TimesCalm(_)) {
        sleep(Duration::from_secs_f64(options.seconds));
    }
    let written = (abusers.written() - before) as f64 / since.elapsed().as_secs_f64();
    let (before, since) = (server.cpu()?, Instant::now());
    let beside = waits(normal, options, values)?;
    let busy = server.cpu()?.since(&before).nanoseconds as f64 / since.elapsed().as_nanos() as f64;
    let resident_beside = server.resident_bytes()?;
    abusers.stop()?;
    sleep(Duration::from_secs(1));
    let after = waits(normal, options, values)?;

    let quantile = |share: f64| move |waits: &Histogram| waits.quantile(share).as_secs_f64();
    Ok(Round {
        p50: [&calm, &beside].map(quantile(0.5)),
        p99: [&calm, &beside, &after].map(quantile(0.99)),
        resident: [resident_calm, resident_beside, server.resident_bytes()?].map(|bytes| bytes as f64),
        busy,
        written,
    })
}

/// Has the normal client send one request after the other, and says how long it waited for each.
fn waits<S: Read + Write>(normal: &mut Client<S>, options: &Options, values: &Values) -> Result<Histogram> {
    let (mut histogram, mut batch, mut tally) = (Histogram::default(), Batch::default(), Tally::default());
    let mut random = Rng::with_seed(7);
    let end = Instant::now() + Duration::from_secs_f64(options.seconds);
    for number in 0u64.. {
        let item = Item::new(random.u64(..options.items), VALUE_BYTES);
        if number.is_multiple_of(SETS_EVERY) {
            batch.set(item, 0, values)
        } else {
            batch.get([item])
        }
        let sent = Instant::now();
        if sent > end {
            break;
        }
        normal.exchange(&mut batch, values, &mut tally, |_| ())?;
        histogram.record(sent.elapsed());
    }
    Ok(histogram)
}
