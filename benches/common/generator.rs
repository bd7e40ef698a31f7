//! The load generator: one thread, many connections, each sending a batch once the last is answered in full.
//!
//! It must not be what is measured, so it does little: keys are drawn beforehand, replies are compared where they were
//! received, and a connection has bytes of its own only while a reply is cut in two.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{MsgFlags, recv};

use crate::common::Result;
use crate::common::batch::Batch;
use crate::common::histogram::Histogram;
use crate::common::items::Values;
use crate::common::replies::{Tally, check};

/// A server that answers nobody for so long is taken for dead.
const SILENCE_MAX_MILLISECONDS: u16 = 20_000;
const EVENTS: usize = 256;
const SCRATCH_BYTES: usize = 256 * 1024;

/// What a group of connections says.
pub(crate) trait Script {
    /// Fills an empty batch; leaves it empty when all is said.
    fn next(&mut self, batch: &mut Batch);
}

/// Connections that follow one script, and what was measured on them.
pub(crate) struct Group<'a> {
    script: Box<dyn Script + 'a>,
    connections: usize,
    discard_bytes: Option<usize>,
    pub(crate) tally: Tally,
    /// From sending a batch to the last byte of its last reply.
    pub(crate) latencies: Histogram,
}

impl<'a> Group<'a> {
    pub(crate) fn new(connections: usize, script: impl Script + 'a) -> Self {
        let script = Box::new(script);
        Self {
            script,
            connections,
            discard_bytes: None,
            tally: Tally::default(),
            latencies: Histogram::default(),
        }
    }

    /// Replies are counted (`reply_bytes` a batch) and dropped inside the kernel: large ones would cost this thread the
    /// time in which it should take others' latencies.
    pub(crate) fn discarding(self, reply_bytes: usize) -> Self {
        Self { discard_bytes: Some(reply_bytes), ..self }
    }
}

/// When a run ends.
#[derive(Clone, Copy)]
pub(crate) enum Limit {
    Time(Duration),
    /// At least so many operations over all groups.
    Operations(u64),
    /// When the script of this group has no more to say.
    Script(usize),
}

pub(crate) struct Generator<'a> {
    epoll: Epoll,
    values: &'a Values,
    connections: Vec<Connection>,
    pub(crate) groups: Vec<Group<'a>>,
    scratch: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    group: usize,
    batch: Batch,
    sent: usize,
    answered: usize,
    /// The start of a reply whose rest is still to come.
    cut: Vec<u8>,
    discarded: usize,
    started: Instant,
    awaits_room: bool,
}

impl<'a> Generator<'a> {
    pub(crate) fn connect(port: u16, groups: Vec<Group<'a>>, values: &'a Values) -> Result<Self> {
        raise_descriptor_limit()?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let mut connections = Vec::new();
        for (number, group) in groups.iter().enumerate() {
            for _ in 0..group.connections {
                let stream = TcpStream::connect(("127.0.0.1", port))?;
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)?;
                epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, connections.len() as u64))?;
                connections.push(Connection::new(stream, number));
            }
        }
        Ok(Self { epoll, values, connections, groups, scratch: vec![0; SCRATCH_BYTES] })
    }

    /// Runs to the limit, then until every batch that was sent is answered. Returns how long that took.
    pub(crate) fn run(&mut self, limit: Limit) -> Result<Duration> {
        let start = Instant::now();
        let operations_before = self.operations();
        let mut busy = 0;
        for number in 0..self.connections.len() {
            busy += usize::from(self.send_batch(number, start)?);
        }
        let mut is_over = false;
        let mut events = [EpollEvent::empty(); EVENTS];
        while busy > 0 {
            let count = self.epoll.wait(&mut events, EpollTimeout::from(SILENCE_MAX_MILLISECONDS))?;
            if count == 0 {
                return Err("the server fell silent".into());
            }
            for event in &events[..count] {
                let number = event.data() as usize;
                if self.connections[number].awaits_room && event.events().contains(EpollFlags::EPOLLOUT) {
                    self.send_rest(number)?;
                }
                if !event
                    .events()
                    .intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR)
                    || !self.receive(number)?
                {
                    continue;
                }
                let now = Instant::now();
                let connection = &self.connections[number];
                let group = &mut self.groups[connection.group];
                group.latencies.record(now - connection.started);
                is_over = is_over
                    || match limit {
                        Limit::Time(time) => now - start >= time,
                        Limit::Operations(count) => self.operations() - operations_before >= count,
                        Limit::Script(_) => false,
                    };
                if !is_over && self.send_batch(number, now)? {
                    continue;
                }
                is_over |= matches!(limit, Limit::Script(group) if group == self.connections[number].group);
                busy -= 1;
            }
        }
        Ok(start.elapsed())
    }

    pub(crate) fn operations(&self) -> u64 {
        self.groups.iter().map(|group| group.tally.operations()).sum()
    }

    /// Forgets latencies and tallies of what was only to warm up.
    pub(crate) fn forget(&mut self) {
        for group in &mut self.groups {
            group.tally = Tally::default();
            group.latencies = Histogram::default();
        }
    }

    /// False when the script has no more to say.
    fn send_batch(&mut self, number: usize, now: Instant) -> Result<bool> {
        let connection = &mut self.connections[number];
        connection.batch.clear();
        connection.sent = 0;
        connection.answered = 0;
        connection.discarded = 0;
        self.groups[connection.group].script.next(&mut connection.batch);
        if connection.batch.is_empty() {
            return Ok(false);
        }
        connection.started = now;
        self.send_rest(number)?;
        Ok(true)
    }

    fn send_rest(&mut self, number: usize) -> Result<()> {
        let connection = &mut self.connections[number];
        while connection.sent < connection.batch.requests.len() {
            match connection.stream.write(&connection.batch.requests[connection.sent..]) {
                Ok(count) => connection.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        let awaits_room = connection.sent < connection.batch.requests.len();
        if awaits_room != connection.awaits_room {
            connection.awaits_room = awaits_room;
            let room = if awaits_room { EpollFlags::EPOLLOUT } else { EpollFlags::empty() };
            self.epoll.modify(
                &connection.stream,
                &mut EpollEvent::new(EpollFlags::EPOLLIN | room, number as u64),
            )?;
        }
        Ok(())
    }

    /// Reads once; true when the batch is answered in full.
    fn receive(&mut self, number: usize) -> Result<bool> {
        let connection = &mut self.connections[number];
        let group = &mut self.groups[connection.group];
        if let Some(reply_bytes) = group.discard_bytes {
            let count = recv(connection.stream.as_raw_fd(), &mut self.scratch, MsgFlags::MSG_TRUNC)?;
            connection.discarded += count;
            if count == 0 || connection.discarded > reply_bytes {
                return Err(format!("{} bytes where {reply_bytes} were due", connection.discarded).into());
            }
            let is_whole = connection.discarded == reply_bytes;
            group.tally.hits += u64::from(is_whole);
            return Ok(is_whole);
        }

        let count = match connection.stream.read(&mut self.scratch) {
            Ok(0) => return Err("the server closed a connection".into()),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let received = if connection.cut.is_empty() {
            &self.scratch[..count]
        } else {
            connection.cut.extend_from_slice(&self.scratch[..count]);
            &connection.cut[..]
        };
        let left = &connection.batch.expected[connection.answered..];
        let progress = check(left, received, self.values, &mut group.tally, |_| ())?;
        connection.answered += progress.pieces;
        let is_whole = connection.answered == connection.batch.expected.len();
        if is_whole && progress.bytes < received.len() {
            return Err("more bytes than were asked for".into());
        }
        if connection.cut.is_empty() {
            connection.cut.extend_from_slice(&self.scratch[progress.bytes..count]);
        } else {
            connection.cut.drain(..progress.bytes);
        }
        Ok(is_whole)
    }
}

impl Connection {
    fn new(stream: TcpStream, group: usize) -> Self {
        Self {
            stream,
            group,
            batch: Batch::default(),
            sent: 0,
            answered: 0,
            cut: Vec::new(),
            discarded: 0,
            started: Instant::now(),
            awaits_room: false,
        }
    }
}

/// Three servers with a thousand connections each are more than many systems allow at first.
fn raise_descriptor_limit() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard.min(16 * 1024), hard)?)
}
