//! A network of a test's own, in which the machine has public addresses.

use std::io::BufReader;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use socket2::{Domain, Socket, Type};

use crate::needs;
use crate::server::{Client, PATIENCE, Server};

/// The addresses of the machine in it: two of each kind, so that one can call the other. The public ones are those
/// that are kept for documents (RFC 5737, RFC 3849), and so nobody's.
const ADDRESSES: [&str; 6] =
    ["198.51.100.7/32", "198.51.100.8/32", "10.0.0.7/32", "10.0.0.8/32", "2001:db8::7/128", "fd00::7/128"];
const MORE_ADDRESSES: [&str; 2] = ["2001:db8::8/128", "fd00::8/128"];

/// Has `story` told by a thread, and the processes it starts, in a network of their own.
///
/// Only root may have one. Where it cannot be had the test is left out.
#[track_caller]
pub(crate) fn in_own_network(story: impl FnOnce() + Send) {
    if needs::are_there(&[&needs::ROOT, &needs::IP]) {
        in_own(set_up, story);
    }
}

/// Has `story` told by a thread, and the processes it starts, once `set_up` has moved it out of what all others share.
/// Where that fails the test is left out.
#[track_caller]
pub(crate) fn in_own(set_up: impl FnOnce() -> Result<(), String> + Send, story: impl FnOnce() + Send) {
    let told = std::thread::scope(|scope| {
        let told = scope.spawn(|| set_up().map(|()| story()));
        told.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    if let Err(error) = told {
        needs::leave_out(&needs::NAMESPACES, &error);
    }
}

/// Moves this thread into a new network, with the addresses.
fn set_up() -> Result<(), String> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| format!("unshare: {errno}"))?;
    ip(&["link", "set", "lo", "up"])?;
    ADDRESSES.iter().chain(&MORE_ADDRESSES).try_for_each(|address| {
        let add = ["address", "add", address, "dev", "lo"];
        // Without looking for others who have it, or it cannot be used for a moment.
        let at_once: &[&str] = if address.contains("::") { &["nodad"] } else { &[] };
        ip(&[&add, at_once].concat())
    })
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    match Command::new("ip").args(arguments).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("ip {arguments:?} ended with {status}")),
        Err(error) => Err(format!("ip (of iproute2): {error}")),
    }
}

impl Server {
    /// A connection from the address `from` to the server's port at the address `to`.
    pub(crate) fn connect_from(&self, from: &str, to: &str) -> Client<TcpStream> {
        Client(BufReader::new(connected(from, to, self.port)))
    }
}

/// A connection from one address to a port of another.
pub(crate) fn connected(from: &str, to: &str, port: u16) -> TcpStream {
    let [from, to] = [from, to].map(|address| address.parse::<IpAddr>().unwrap());
    let socket = Socket::new(Domain::for_address(SocketAddr::new(to, 0)), Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(from, 0).into()).unwrap();
    socket.connect(&SocketAddr::new(to, port).into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}
