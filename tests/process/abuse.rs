//! Living through abuse: what hostile or broken surroundings may do, while a normal client goes on working.
//!
//! What is asserted does not depend on how quick the machine is: nothing of the normal client's is lost, memory stays
//! within its bounds, and all of it comes back when the abuse ends. How much slower the normal client gets is measured by
//! `cargo bench --bench abuse`.

mod crowds;
mod descriptors;
mod log;
mod normal;
mod readers;
mod reloads;
mod uploads;

use std::fs;
use std::net::TcpStream;

use socket2::{Domain, SockAddr, Socket, Type};

use crate::server::*;

/// What RSS may be above the bounds that are stated, in bytes: the process itself, and what the allocator holds back.
const BASE_BYTES_MAX: u64 = 32 << 20;

/// A connection to `server` whose end the system holds few bytes for: what is not read stays with the server.
fn narrow(server: &Server) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], server.port));
    socket.connect(&SockAddr::from(address)).unwrap();
    socket.into()
}

/// Waits until no more than `connections` are open and nothing is held for them.
fn wait_for_calm(client: &mut Client<TcpStream>, connections: u64) {
    wait_for("the server to be calm again", || {
        ["read_buf_bytes", "response_obj_bytes"].map(|name| number(client, name)) == [0, 0]
            && number(client, "curr_connections") <= connections
    });
}

fn number(client: &mut Client<TcpStream>, name: &str) -> u64 {
    client.stat("stats\r\n", name).unwrap().parse().unwrap()
}

/// How many entries `/proc` has for the server under `what`.
fn entries(server: &Server, what: &str) -> usize {
    fs::read_dir(format!("/proc/{}/{what}", server.child.id())).unwrap().count()
}

/// What a server took when all was calm, to be compared with later.
struct Calm {
    resident_bytes: u64,
    descriptors: usize,
}

impl Calm {
    fn of(server: &Server) -> Calm {
        Calm { resident_bytes: resident_bytes(server), descriptors: entries(server, "fd") }
    }

    /// RSS has not grown by more than `bytes_max`.
    fn check_memory(&self, server: &Server, bytes_max: u64) {
        let growth = resident_bytes(server).saturating_sub(self.resident_bytes);
        assert!(growth <= bytes_max, "{} KB more than before", growth >> 10);
    }

    /// As many descriptors are free as there were.
    fn wait_for_descriptors(&self, server: &Server) {
        wait_for("the descriptors to be closed", || entries(server, "fd") <= self.descriptors);
    }
}

fn megabytes(bytes: u64) -> u64 {
    bytes >> 20
}
