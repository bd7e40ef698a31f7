//! One blocking connection: fills a server, replays a trace, asks for statistics.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::common::Result;
use crate::common::batch::Batch;
use crate::common::items::{Item, Values};
use crate::common::replies::{Tally, check};

/// A server that says nothing for so long is taken for dead.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Sets sent before their replies are read, in bytes and in number: few enough that replies fit a socket's buffer.
const FILL_BYTES: usize = 64 * 1024;
const FILL_SETS: usize = 256;

pub(crate) struct Client<S = TcpStream> {
    stream: S,
    received: Vec<u8>,
    filled: usize,
}

impl Client {
    pub(crate) fn connect(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        stream.set_write_timeout(Some(SILENCE_MAX))?;
        Ok(Self::over(stream))
    }
}

impl<S: Read + Write> Client<S> {
    pub(crate) fn over(stream: S) -> Self {
        Self { stream, received: vec![0; 1 << 18], filled: 0 }
    }

    /// Sends a batch, checks everything that comes back for it, and clears it.
    ///
    /// Either the requests or the replies must fit the buffers of a socket, else both sides would wait.
    pub(crate) fn exchange(
        &mut self,
        batch: &mut Batch,
        values: &Values,
        tally: &mut Tally,
        mut missed: impl FnMut(Item),
    ) -> Result<()> {
        self.stream.write_all(&batch.requests)?;
        let mut expected = &batch.expected[..];
        while !expected.is_empty() {
            self.receive()?;
            let progress = check(expected, &self.received[..self.filled], values, tally, &mut missed)?;
            self.forget(progress.bytes);
            expected = &expected[progress.pieces..];
        }
        if self.filled > 0 {
            return Err(format!("{} bytes that nobody asked for", self.filled).into());
        }
        batch.clear();
        Ok(())
    }

    /// Stores items, each living `ttl_seconds` (0: for ever).
    pub(crate) fn fill(
        &mut self,
        items: impl Iterator<Item = Item>,
        ttl_seconds: u32,
        values: &Values,
    ) -> Result<Tally> {
        let mut tally = Tally::default();
        let mut batch = Batch::default();
        for item in items {
            batch.set(item, ttl_seconds, values);
            if batch.requests.len() >= FILL_BYTES || batch.expected.len() >= FILL_SETS {
                self.exchange(&mut batch, values, &mut tally, |_| ())?;
            }
        }
        self.exchange(&mut batch, values, &mut tally, |_| ())?;
        Ok(tally)
    }

    /// Sends one command line and returns the one line that it is answered with.
    pub(crate) fn command(&mut self, line: &str) -> Result<String> {
        self.stream.write_all(format!("{line}\r\n").as_bytes())?;
        self.line()
    }

    /// General statistics, by name.
    pub(crate) fn stats(&mut self) -> Result<HashMap<String, String>> {
        self.stream.write_all(b"stats\r\n")?;
        let mut stats = HashMap::new();
        loop {
            let line = self.line()?;
            if line == "END" {
                return Ok(stats);
            }
            let mut words = line.splitn(3, ' ').skip(1);
            let (Some(name), Some(value)) = (words.next(), words.next()) else {
                return Err(format!("stats answered {line:?}").into());
            };
            stats.insert(name.to_owned(), value.to_owned());
        }
    }

    /// One statistic that is a number.
    pub(crate) fn stat(&mut self, name: &str) -> Result<u64> {
        let stats = self.stats()?;
        Ok(stats.get(name).ok_or_else(|| format!("no statistic {name}"))?.parse()?)
    }

    /// Waits until memcached has moved its items to the larger hash table, which costs it time of its own.
    pub(crate) fn await_index(&mut self) -> Result<()> {
        let deadline = Instant::now() + SILENCE_MAX;
        while Instant::now() < deadline
            && self.stats()?.get("hash_is_expanding").is_some_and(|flag| flag != "0")
        {
            sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn line(&mut self) -> Result<String> {
        loop {
            if let Some(newline) = memchr::memchr(b'\n', &self.received[..self.filled]) {
                let line = String::from_utf8_lossy(&self.received[..newline]).trim_end().to_owned();
                self.forget(newline + 1);
                return Ok(line);
            }
            self.receive()?;
        }
    }

    fn receive(&mut self) -> Result<()> {
        if self.filled == self.received.len() {
            self.received.resize(2 * self.filled, 0);
        }
        match self.stream.read(&mut self.received[self.filled..])? {
            0 => Err("the server closed the connection".into()),
            count => {
                self.filled += count;
                Ok(())
            }
        }
    }

    fn forget(&mut self, bytes: usize) {
        self.received.copy_within(bytes..self.filled, 0);
        self.filled -= bytes;
    }
}
