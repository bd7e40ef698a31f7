//! What a normal client waits while others abuse the server: idle crowds, uploads that never end, clients that do not
//! read, storms of connections, endless pipelines, a full table of descriptors.
//!
//! `cargo bench --bench abuse -- --help`. One server with one worker for each kind of abuse; the normal client sends one
//! request after the other, calm, beside the abuse, and when it is over. Those who abuse share the generator's processor
//! with the normal client, so they take a pause after each deed: with none, it is their processor that is measured.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

#[expect(dead_code, reason = "each bench uses a part")]
mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use clap::Parser;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::common::batch::Batch;
use crate::common::client::Client;
use crate::common::cores::Cores;
use crate::common::histogram::Histogram;
use crate::common::items::{Item, Values};
use crate::common::random::Random;
use crate::common::replies::Tally;
use crate::common::report::{Table, megabytes, microseconds, percent, ratio};
use crate::common::server::{Kind, Launch, Server, ServerOptions};
use crate::common::{Result, asked_to_measure};

const VALUE_BYTES: u32 = 32;
/// One request in so many of the normal client's is a set.
const SETS_EVERY: u64 = 10;
/// What slow clients are owed, or leave unfinished, in bytes.
const LARGE_BYTES: usize = 1_000_000;
/// How long a kind of abuse may take to begin.
const BEGIN_TIME_MAX: Duration = Duration::from_secs(60);
/// Descriptors of this process, and of the server, that are for other things.
const DESCRIPTORS_LEFT: u64 = 1000;

#[derive(Parser)]
#[command(about = "What a normal client waits while others abuse the server")]
struct Options {
    #[command(flatten)]
    server: ServerOptions,
    #[arg(long, value_delimiter = ',', default_values = ["ferrocached"])]
    servers: Vec<Kind>,
    /// Kinds of abuse, all by default
    #[arg(long, value_delimiter = ',', value_enum)]
    kinds: Vec<Abuse>,
    /// Items of the normal client
    #[arg(long, default_value_t = 10_000)]
    items: u64,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
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
    Pipelines,
    Descriptors,
}

impl Abuse {
    const ALL: [Abuse; 8] = [
        Abuse::Idle,
        Abuse::Uploads,
        Abuse::Readers,
        Abuse::OneValue,
        Abuse::SmallReplies,
        Abuse::Storm,
        Abuse::Pipelines,
        Abuse::Descriptors,
    ];

    fn name(self, options: &Options) -> String {
        match self {
            Abuse::Idle => format!("{} idle connections", options.idle),
            Abuse::Uploads => format!("{} unfinished uploads of 1 MB, begun anew", options.slow),
            Abuse::Readers => format!("{} clients that do not read 1 MB, each another", options.slow),
            Abuse::OneValue => format!("{} clients that do not read the same 1 MB", options.slow),
            Abuse::SmallReplies => format!("{} clients that do not read 1 MB of small replies", options.slow),
            Abuse::Storm => "connections that come and go, half by reset".to_owned(),
            Abuse::Pipelines => "4 endless pipelines of gets".to_owned(),
            Abuse::Descriptors => "no descriptors, 100 clients waiting".to_owned(),
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
    ]);
    let kinds = if options.kinds.is_empty() { &Abuse::ALL[..] } else { &options.kinds };
    for &server in &options.servers {
        for &abuse in kinds {
            eprintln!("{}, {} …", server.name(), abuse.name(&options));
            measure(server, abuse, &options, &cores, &mut table)?;
        }
    }
    println!("{table}");
    Ok(())
}

fn measure(kind: Kind, abuse: Abuse, options: &Options, cores: &Cores, table: &mut Table) -> Result<()> {
    let launch = Launch { memory_megabytes: 64, threads: 1, cpus: cores.for_server()?, floor_value_bytes: 0 };
    let places = options.idle.max(options.slow) + 500;
    let server = Server::start(kind, &options.server.with_extra(&format!("-c {places}")), &launch)?;
    let values = Values::by_key();
    let mut normal = Client::connect(server.port)?;
    normal.fill((0..options.items).map(|number| Item::new(number, VALUE_BYTES)), 0, &values)?;
    let _ = waits(&mut normal, options, &values)?; // warm
    let calm = waits(&mut normal, options, &values)?;
    let resident_calm = server.resident_bytes()?;

    let abusers = Abusers::start(abuse, &server, options)?;
    let (before, since) = (server.cpu()?, Instant::now());
    let beside = waits(&mut normal, options, &values)?;
    let busy = server.cpu()?.since(&before).nanoseconds as f64 / since.elapsed().as_nanos() as f64;
    let resident_beside = server.resident_bytes()?;
    abusers.stop()?;
    sleep(Duration::from_secs(1));
    let after = waits(&mut normal, options, &values)?;

    let [p50, p99] = [0.5, 0.99].map(|share| move |waits: &Histogram| waits.quantile(share));
    table.row([
        kind.name().to_owned(),
        abuse.name(options),
        microseconds(p50(&calm)),
        microseconds(p50(&beside)),
        microseconds(p99(&calm)),
        microseconds(p99(&beside)),
        ratio(p99(&beside).as_secs_f64() / p99(&calm).as_secs_f64()),
        microseconds(p99(&after)),
        megabytes(resident_calm),
        megabytes(resident_beside),
        megabytes(server.resident_bytes()?),
        percent(busy),
    ]);
    Ok(())
}

/// Has the normal client send one request after the other, and says how long it waited for each.
fn waits(normal: &mut Client, options: &Options, values: &Values) -> Result<Histogram> {
    let (mut histogram, mut batch, mut tally) = (Histogram::default(), Batch::default(), Tally::default());
    let mut random = Random::seeded(7);
    let end = Instant::now() + Duration::from_secs_f64(options.seconds);
    for number in 0u64.. {
        let item = Item::new(random.below(options.items), VALUE_BYTES);
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

/// The thread that abuses a server.
struct Abusers {
    is_stopped: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    /// Undoes what was done to the server itself.
    pid: Option<u32>,
}

impl Abusers {
    /// Begins, and returns when the abuse has reached its full extent.
    fn start(abuse: Abuse, server: &Server, options: &Options) -> Result<Abusers> {
        let (is_stopped, is_full) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        if abuse == Abuse::Descriptors {
            allow_files(server.pid(), &format!("{}:", first_free(server.pid())))?;
        }
        let count = if abuse == Abuse::Pipelines { 4 } else { 1 };
        let threads = (0..count).map(|_| {
            let (is_stopped, is_full) = (Arc::clone(&is_stopped), Arc::clone(&is_full));
            let pause = Duration::from_micros(options.pause);
            let (port, idle, slow) = (server.port, options.idle, options.slow);
            spawn(move || {
                let mut abuser = Abuser { port, pause, is_stopped, is_full, deeds: 0, held: Vec::new() };
                match abuse {
                    Abuse::Idle => abuser.keep(idle, b"get nothing\r\n"),
                    Abuse::Uploads => abuser.upload(slow),
                    Abuse::Readers => {
                        abuser.leave_unread(slow, |number| format!("get large{number}\r\n"), true)
                    }
                    Abuse::OneValue => abuser.leave_unread(slow, |_| "get large0\r\n".to_owned(), false),
                    Abuse::SmallReplies => {
                        let keys = " small".repeat(LARGE_BYTES / 1000);
                        abuser.leave_unread(slow, |_| format!("get{keys}\r\n"), false);
                    }
                    Abuse::Storm => abuser.come_and_go(),
                    Abuse::Pipelines => abuser.ask_without_end(),
                    Abuse::Descriptors => abuser.keep(100, b"get nothing\r\n"),
                }
            })
        });
        let threads = threads.collect();
        let begun = Instant::now();
        while !is_full.load(Ordering::Relaxed) {
            if begun.elapsed() > BEGIN_TIME_MAX {
                return Err("the abuse did not begin".into());
            }
            sleep(Duration::from_millis(10));
        }
        Ok(Abusers { is_stopped, threads, pid: (abuse == Abuse::Descriptors).then(|| server.pid()) })
    }

    fn stop(self) -> Result<()> {
        self.is_stopped.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().map_err(|_| "somebody who abused the server panicked")?;
        }
        self.pid.map_or(Ok(()), |pid| allow_files(pid, "4096:"))
    }
}

struct Abuser {
    port: u16,
    pause: Duration,
    is_stopped: Arc<AtomicBool>,
    is_full: Arc<AtomicBool>,
    deeds: usize,
    held: Vec<TcpStream>,
}

impl Abuser {
    /// Takes a pause after a deed, and says whether there is to be another; `full` of them are the full extent.
    fn goes_on(&mut self, full: usize) -> bool {
        self.deeds += 1;
        if self.deeds >= full {
            self.is_full.store(true, Ordering::Relaxed);
        }
        sleep(self.pause);
        !self.is_stopped.load(Ordering::Relaxed)
    }

    /// A connection whose end the system holds few bytes for, from one of many loopback addresses.
    fn connect(&self) -> Option<TcpStream> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).ok()?;
        socket.set_recv_buffer_size(4096).ok()?;
        let own = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2 + (self.deeds / 5000 % 200) as u8), 0));
        socket.bind(&SockAddr::from(own)).ok()?;
        socket.connect(&SockAddr::from(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)))).ok()?;
        socket.set_write_timeout(Some(Duration::from_secs(5))).ok()?;
        Some(socket.into())
    }

    /// Holds one more connection, in the place of the oldest where there are `count`.
    fn hold(&mut self, stream: TcpStream, count: usize) {
        let place = self.deeds % count;
        if place < self.held.len() { self.held[place] = stream } else { self.held.push(stream) }
    }

    fn keep(&mut self, count: usize, request: &[u8]) {
        loop {
            if self.held.len() < count
                && let Some(mut stream) = self.connect()
                && stream.write_all(request).is_ok()
            {
                self.held.push(stream);
            }
            if !self.goes_on(count) {
                return;
            }
        }
    }

    /// Begins uploads and leaves them. The server may refuse any of them in the middle.
    fn upload(&mut self, count: usize) {
        let mut upload = format!("set half 0 0 {LARGE_BYTES}\r\n").into_bytes();
        upload.resize(LARGE_BYTES * 2 / 3, b'h');
        loop {
            if let Some(mut stream) = self.connect() {
                let _ = stream.write_all(&upload);
                self.hold(stream, count);
            }
            if !self.goes_on(count) {
                return;
            }
        }
    }

    /// Asks for what it does not read; each time for a value that was `stored_anew`.
    fn leave_unread(&mut self, count: usize, request: impl Fn(usize) -> String, stored_anew: bool) {
        let value = "v".repeat(LARGE_BYTES);
        let mut storing = self.connect();
        let mut store = |key: &str, value: &str| {
            let Some(stream) = &mut storing else { return };
            let request = format!("set {key} 0 0 {}\r\n{value}\r\n", value.len());
            // The server may have no room for it at this moment.
            let _ = stream.write_all(request.as_bytes()).and_then(|()| stream.read(&mut [0; 100]));
        };
        store("large0", &value);
        store("small", &value[..1000]);
        loop {
            if stored_anew {
                store(&format!("large{}", self.deeds % count), &value);
            }
            if (stored_anew || self.held.len() < count)
                && let Some(mut stream) = self.connect()
            {
                let _ = stream.write_all(request(self.deeds % count).as_bytes());
                self.hold(stream, count);
            }
            if !self.goes_on(count) {
                return;
            }
        }
    }

    fn come_and_go(&mut self) {
        loop {
            if let Some(mut stream) = self.connect() {
                let said: &[u8] = if self.deeds % 4 < 2 { b"" } else { b"set half 0 0 100\r\nhalf" };
                let _ = stream.write_all(said);
                if self.deeds.is_multiple_of(2) {
                    let _ = Socket::from(stream).set_linger(Some(Duration::ZERO));
                }
            }
            if !self.goes_on(1) {
                return;
            }
        }
    }

    /// Sends as many requests as the socket takes, and reads the replies as fast as they come.
    fn ask_without_end(&mut self) {
        let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)) else { return };
        let Ok(()) = stream.set_nonblocking(true) else { return };
        let requests = b"get nothing\r\n".repeat(1000);
        let (mut sent, mut replies) = (0, vec![0; 64 << 10]);
        loop {
            let moved = match stream.write(&requests[sent % requests.len()..]) {
                Ok(more) => {
                    sent += more;
                    true
                }
                Err(error) => error.kind() == ErrorKind::Interrupted,
            };
            let read = stream.read(&mut replies).is_ok();
            self.is_full.store(true, Ordering::Relaxed);
            if self.is_stopped.load(Ordering::Relaxed) {
                return;
            }
            if !moved && !read {
                sleep(self.pause.min(Duration::from_micros(100)));
            }
        }
    }
}

/// The first descriptor of process `pid` that is free.
fn first_free(pid: u32) -> u64 {
    let is_open = |number: &u64| std::fs::symlink_metadata(format!("/proc/{pid}/fd/{number}")).is_ok();
    (0..).find(|number| !is_open(number)).unwrap_or_default()
}

/// Sets the limits on open files of process `pid`, as `prlimit` words them.
fn allow_files(pid: u32, limits: &str) -> Result<()> {
    let status =
        Command::new("prlimit").args(["--pid", &pid.to_string(), &format!("--nofile={limits}")]).status()?;
    if status.success() {
        Ok(())
    } else {
        Err("prlimit (of util-linux) may not change the server's limits".into())
    }
}
