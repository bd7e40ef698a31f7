//! The client that everybody else must not disturb.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::server::*;

/// How many items it has.
const ITEMS: usize = 1000;

/// A client with some small items, which goes on reading and writing them.
pub(super) struct Normal<S: Read = TcpStream> {
    pub(super) client: Client<S>,
    /// What it last stored under each key.
    stored: Vec<u32>,
    asked: u32,
    /// Whether items of its may have been evicted, because others store much.
    pub(super) may_miss: bool,
}

impl Normal {
    /// One that has stored all its items.
    pub(super) fn new(server: &Server) -> Normal {
        Normal::over(server.connect())
    }

    /// Stores a value of `bytes` bytes and reads it back; `false` when the server said that it has no memory for it.
    pub(super) fn store_large(&mut self, server: &Server, bytes: usize) -> bool {
        let value = "n".repeat(bytes);
        let mut client = server.connect();
        let request = format!("set large 0 0 {bytes}\r\n{value}\r\n");
        // Whoever is refused in the middle may find that out while writing.
        let sent = client.0.get_mut().write_all(request.as_bytes());
        let reply = client.line_or_end();
        if sent.is_err() || reply.starts_with("SERVER_ERROR out of memory") || reply.is_empty() {
            return false;
        }
        assert_eq!(reply, "STORED");
        assert_eq!(client.ask("get large\r\n"), format!("VALUE large 0 {bytes}"));
        assert_eq!(client.line(), value);
        assert_eq!(client.line(), "END");
        true
    }
}

impl<S: Read + Write> Normal<S> {
    /// One that has stored all its items over this connection.
    pub(super) fn over(client: Client<S>) -> Normal<S> {
        let mut normal = Normal { client, stored: vec![0; ITEMS], asked: 0, may_miss: false };
        for number in 0..ITEMS {
            normal.store(number);
        }
        normal
    }

    fn store(&mut self, number: usize) {
        self.asked += 1;
        let value = format!("{:08}", self.asked);
        assert_eq!(self.client.ask(&format!("set normal{number} 0 0 8\r\n{value}\r\n")), "STORED");
        self.stored[number] = self.asked;
    }

    fn load(&mut self, number: usize) {
        let header = self.client.ask(&format!("get normal{number}\r\n"));
        if self.may_miss && header == "END" {
            return;
        }
        assert_eq!(header, format!("VALUE normal{number} 0 8"));
        assert_eq!(self.client.line(), format!("{:08}", self.stored[number]));
        assert_eq!(self.client.line(), "END");
    }

    /// Writes one of its items and reads another two, and finds in each what it stored.
    pub(super) fn work(&mut self) {
        let number = self.asked as usize * 7;
        self.load(number % ITEMS);
        self.store((number + 3) % ITEMS);
        let may_miss = std::mem::replace(&mut self.may_miss, false);
        self.load((number + 3) % ITEMS);
        self.may_miss = may_miss;
    }

    /// Finds everything that it ever stored.
    pub(super) fn find_all(&mut self) {
        (0..ITEMS).for_each(|number| self.load(number));
    }
}
