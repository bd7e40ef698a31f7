//! Those who abuse a server, each in one way.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::common::Result;
use crate::common::client::Client;
use crate::common::server::{Kind, Server};
use crate::guarded::Guarded;
use crate::{Abuse, Options};

/// What slow clients are owed, or leave unfinished, in bytes.
const LARGE_BYTES: usize = 1_000_000;
/// How long a kind of abuse may take to begin.
const BEGIN_TIME_MAX: Duration = Duration::from_secs(60);
/// How many shake hands at the same moment.
pub(crate) const CROWD: usize = 200;
/// How often certificates are spoilt for each SIGHUP, which stands beside `refresh_certs`.
const SPOILT_PER_SIGNAL: usize = 10;

/// Connections that write without end, where there is a crowd of them.
pub(crate) const WRITERS: usize = 20;
/// Connections that ask for administrative commands without end.
pub(crate) const OPERATORS: usize = 100;
/// How many of these one thread serves.
const OPERATORS_PER_THREAD: usize = 25;
/// What those ask for, in turn. Only the first two are known to memcached.
const OPERATIONS: [&str; 4] =
    ["lru_crawler metadump all\r\n", "stats sizes\r\n", "flush_prefix nothing\r\n", "stats hotkeys\r\n"];

/// The threads that abuse a server.
pub(crate) struct Abusers {
    is_stopped: Arc<AtomicBool>,
    /// What they wrote without end, in bytes.
    written: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
    /// Undoes what was done to the server itself.
    pid: Option<u32>,
}

impl Abusers {
    /// Begins, and returns when the abuse has reached its full extent.
    pub(crate) fn start(
        abuse: Abuse,
        server: &Server,
        options: &Options,
        guarded: Option<&Guarded>,
    ) -> Result<Abusers> {
        let (is_stopped, is_full) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        if abuse == Abuse::Descriptors {
            allow_files(server.pid(), &format!("{}:", first_free(server.pid())))?;
        }
        let written = Arc::new(AtomicU64::new(0));
        let operations = match server.kind {
            Kind::Memcached => &OPERATIONS[..2],
            _ => &OPERATIONS[..],
        };
        let threads = (0..abuse.threads()).map(|number| {
            let (is_stopped, is_full) = (Arc::clone(&is_stopped), Arc::clone(&is_full));
            let written = Arc::clone(&written);
            let pause = Duration::from_micros(options.pause);
            let (port, pid, idle, slow) = (server.port, server.pid(), options.idle, options.slow);
            let (guarded, http_port) = (guarded.cloned(), server.http_port);
            spawn(move || {
                give_way();
                let mut abuser =
                    Abuser { port, pause, is_stopped, is_full, written, deeds: 0, held: Vec::new() };
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
                    Abuse::Handshakes => abuser.shake_hands(&guarded.expect("it has certificates")),
                    Abuse::Pipelines => abuser.ask_without_end(),
                    Abuse::Sets | Abuse::ManySets => {
                        let set = |key| format!("set {key} 0 0 1000 noreply\r\n{}\r\n", "v".repeat(1000));
                        abuser.write_without_end(
                            &(0..64).map(|key| set(key + 64 * number)).collect::<String>(),
                        );
                    }
                    Abuse::LargeSets | Abuse::ManyLargeSets => {
                        let value = "v".repeat(LARGE_BYTES);
                        abuser.write_without_end(&format!("ms large{number} {LARGE_BYTES} q\r\n{value}\r\n"));
                    }
                    Abuse::Appends => abuser.write_without_end(&appends(number, &[1000])),
                    Abuse::ManyAppends => abuser.write_without_end(&appends(number, &[90_000, 1])),
                    Abuse::Operations => abuser.operate_without_end(number, operations),
                    Abuse::Descriptors => abuser.keep(100, b"get nothing\r\n"),
                    Abuse::FullDisk => abuser.have_everything_logged(),
                    Abuse::Http => abuser.ask_over_http(http_port.expect("it has a port"), number),
                    Abuse::Certificates => abuser.spoil(&guarded.expect("it has certificates"), pid),
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
        Ok(Abusers { is_stopped, written, threads, pid: (abuse == Abuse::Descriptors).then(|| server.pid()) })
    }

    /// How much those have written who write without end, in bytes.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    pub(crate) fn stop(self) -> Result<()> {
        self.is_stopped.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().map_err(|_| "somebody who abused the server panicked")?;
        }
        self.pid.map_or(Ok(()), |pid| allow_files(pid, "4096:"))
    }
}

/// Has the calling thread give way to the normal client, whose processor it shares: that is to wait for the server, and
/// not for a time slice.
fn give_way() {
    // SAFETY: the call takes three numbers; with 0 it is about the calling thread alone. Where it fails, waits are longer.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 19) };
}

struct Abuser {
    port: u16,
    pause: Duration,
    is_stopped: Arc<AtomicBool>,
    is_full: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
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

    /// Begins handshakes, a crowd of them at once, and leaves when all are answered. All of them say the same, so it is
    /// only the server that computes.
    fn shake_hands(&mut self, guarded: &Guarded) {
        let hello = guarded.hello(self.port).expect("the server listens, and there are random numbers");
        loop {
            let mut crowd: Vec<_> = (0..CROWD).filter_map(|_| self.connect()).collect();
            // Any of them may be refused.
            crowd.iter_mut().for_each(|stream| drop(stream.write_all(&hello)));
            crowd.iter_mut().for_each(|stream| drop(stream.read(&mut [0; 100])));
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

    /// Writes `requests`, to which there are no replies, over and over as fast as the server reads.
    fn write_without_end(&mut self, requests: &str) {
        let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)) else { return };
        let Ok(()) = stream.set_write_timeout(Some(BEGIN_TIME_MAX)) else { return };
        for piece in requests.as_bytes().chunks(LARGE_BYTES / 10).cycle() {
            if self.is_stopped.load(Ordering::Relaxed) {
                return;
            }
            stream.write_all(piece).expect("the server reads");
            self.written.fetch_add(piece.len() as u64, Ordering::Relaxed);
            self.is_full.store(true, Ordering::Relaxed);
        }
    }

    /// Asks for `operations` on some connections, each again as soon as it is answered.
    fn operate_without_end(&mut self, number: usize, operations: &[&str]) {
        let connect = |place: usize| {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok()?;
            stream.set_nonblocking(true).ok()?;
            // Ten times, so that the server never waits for this side.
            let asked = operations[(number + place) % operations.len()].repeat(10);
            stream.write_all(asked.as_bytes()).ok()?;
            Some((stream, asked, 0))
        };
        let mut all: Vec<_> = (0..OPERATORS_PER_THREAD).filter_map(connect).collect();
        let mut replies = vec![0; 64 << 10];
        while !self.is_stopped.load(Ordering::Relaxed) {
            let mut has_read = false;
            for (stream, asked, answered) in &mut all {
                let Ok(read) = stream.read(&mut replies) else { continue };
                has_read = true;
                let end = if asked.starts_with("flush_prefix") { "OK\r\n" } else { "END\r\n" };
                *answered += count(end, &replies[..read]) + count("BUSY", &replies[..read]);
                while *answered > 0 && stream.write(&asked.as_bytes()[..asked.len() / 10]).is_ok() {
                    *answered -= 1;
                }
            }
            self.is_full.store(true, Ordering::Relaxed);
            if !has_read {
                sleep(Duration::from_micros(100));
            }
        }
    }

    /// Scrapes without end on one connection, begins headers and leaves them, sends headers that are too long, or only
    /// connects, as its number says.
    fn ask_over_http(&mut self, port: u16, number: usize) {
        let connect = || TcpStream::connect((Ipv4Addr::LOCALHOST, port));
        let mut scraping = connect();
        let mut replies = vec![0; 64 << 10];
        let long = format!("GET /metrics HTTP/1.1\r\nX: {}", "x".repeat(64 << 10));
        loop {
            // Any connection may be closed at any time: another is made then.
            match (number % 4, &mut scraping) {
                (0, Ok(stream)) => {
                    let asked = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: cache\r\n\r\n");
                    if asked.is_err() || stream.read(&mut replies).unwrap_or(0) == 0 {
                        scraping = connect();
                    }
                }
                (0, Err(_)) => scraping = connect(),
                (kind, _) => {
                    if let Ok(mut stream) = connect() {
                        let said = [&b"GET /metrics HT"[..], long.as_bytes(), b""][kind - 1];
                        let _ = stream.write_all(said);
                        self.hold(stream, 50);
                    }
                }
            }
            if !self.goes_on(10) {
                return;
            }
        }
    }

    /// Has every request logged, and sends some; until it stops, when no more than before is logged.
    fn have_everything_logged(&mut self) {
        let mut client = Client::connect(self.port).expect("there is a place");
        let mut ask = |line| client.command(line).expect("the server answers");
        ask("verbosity 2");
        while self.goes_on(1) {
            ask("delete nothing");
        }
        ask("verbosity 0");
    }

    /// Has certificates read again and again that cannot be used; then, such as can.
    fn spoil(&mut self, guarded: &Guarded, pid: u32) {
        let stream = guarded.connect(self.port).expect("the server speaks TLS");
        let mut operator = Client::over(stream);
        let mut reload = || operator.command("refresh_certs").expect("the server answers");
        let pid = Pid::from_raw(i32::try_from(pid).expect("it is a process"));
        loop {
            guarded.spoil(self.deeds);
            assert!(reload().starts_with("Error loading"), "they cannot be used");
            if self.deeds.is_multiple_of(SPOILT_PER_SIGNAL) {
                kill(pid, Signal::SIGHUP).expect("the server runs");
            }
            if !self.goes_on(SPOILT_PER_SIGNAL) {
                break;
            }
        }
        guarded.restore();
        assert_eq!(reload(), "OK");
    }
}

/// A value that is stored and appended to, by pieces of these lengths in turn, until it has nearly a megabyte.
fn appends(number: usize, lengths: &[usize]) -> String {
    let mut requests = format!("set grow{number} 0 0 1 noreply\r\nv\r\n");
    let mut total = 1;
    for &length in lengths.iter().cycle() {
        total += length;
        if total > LARGE_BYTES {
            break;
        }
        requests += &format!("append grow{number} 0 0 {length} noreply\r\n{}\r\n", "v".repeat(length));
    }
    requests
}

/// How often `end` is in `bytes`. One that is cut in the middle is missed: then fewer replies are asked for.
fn count(end: &str, bytes: &[u8]) -> usize {
    bytes.windows(end.len()).filter(|window| *window == end.as_bytes()).count()
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
