//! Crowds: connections that are only there, or only come and go.

use std::io::{BufReader, ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread::spawn;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, SockAddr, Socket, Type};

use super::normal::Normal;
use super::{Calm, entries, number, wait_for_calm};
use crate::server::*;

/// How many connections do nothing.
const IDLE: usize = 10_000;
/// What one of them may take of RSS, in bytes: the 1.8 KB that are stated, and what the tables they are in may grow by.
const IDLE_BYTES_MAX: u64 = 2048;
/// Descriptors left to the other tests, which share this process.
const DESCRIPTORS_LEFT: u64 = 4000;

/// How many connections come and go.
const COME_AND_GO: usize = 20_000;
/// How many do so at a time.
const THREADS: usize = 4;
/// How much RSS may have grown behind them, in bytes.
const GROWTH_BYTES_MAX: u64 = 8 << 20;

/// A connection to `server` from the loopback address that ends in `host`: each has ports of its own.
fn from_host(server: u16, host: u8) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let own = SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), 0));
    socket.bind(&SockAddr::from(own)).unwrap();
    socket.connect(&SockAddr::from(SocketAddr::from((Ipv4Addr::LOCALHOST, server)))).unwrap();
    socket.into()
}

/// How many of `wanted` connections this process, and a server of the same limit, can have.
fn affordable(wanted: usize) -> usize {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    }
    let count = wanted.min(usize::try_from(hard.saturating_sub(DESCRIPTORS_LEFT)).unwrap_or(usize::MAX));
    if count < wanted {
        eprintln!("only {count} connections instead of {wanted}: the hard limit on open files is {hard}");
    }
    count
}

#[test]
fn ten_thousand_may_be_idle() {
    let count = affordable(IDLE);
    // A place for the normal client, and one more.
    let server = Server::start(&["-c", &(count + 2).to_string()]);
    let mut normal = Normal::new(&server);
    let mut last = server.connect();
    assert_eq!(last.ask("get nothing\r\n"), "END");
    let calm = Calm::of(&server);
    let idle: Vec<_> = (0..count)
        .map(|number| {
            let mut client =
                Client(BufReader::with_capacity(64, from_host(server.port, 2 + (number / 5000) as u8)));
            client.0.get_mut().set_read_timeout(Some(PATIENCE)).unwrap();
            assert_eq!(client.ask("get nothing\r\n"), "END");
            if number % 10 == 0 {
                normal.work();
            }
            client
        })
        .collect();
    let each = resident_bytes(&server).saturating_sub(calm.resident_bytes) / count as u64;
    eprintln!("{each} bytes for each of {count} idle connections");
    assert!(each <= IDLE_BYTES_MAX, "{each} bytes for an idle connection");
    assert_eq!(number(&mut normal.client, "curr_connections"), count as u64 + 2);

    assert_eq!(server.connect().line(), "ERROR Too many open connections", "one more is told");
    assert!(number(&mut normal.client, "rejected_connections") >= 1);
    normal.find_all();

    drop(idle);
    wait_for_calm(&mut normal.client, 2);
    calm.wait_for_descriptors(&server);
    assert_eq!(server.connect().ask("get nothing\r\n"), "END");
    normal.find_all();
}

#[test]
fn who_is_idle_for_too_long_gives_up_the_place() {
    const PLACES: usize = 1000;
    let server = Server::start(&["-o", "idle_timeout=1", "-c", "1001"]);
    let mut normal = Normal::new(&server);
    let idle: Vec<_> = (0..PLACES).map(|_| server.connect()).collect();
    wait_for("all the idle to go", || {
        normal.work();
        number(&mut normal.client, "curr_connections") == 1
    });
    assert!(number(&mut normal.client, "idle_kicks") >= PLACES as u64);
    assert_eq!(server.connect().ask("get nothing\r\n"), "END");
    normal.find_all();
    drop(idle);
}

/// Connects and leaves, each time in another way.
fn come_and_go(server: u16, host: u8, times: usize) {
    for number in 0..times {
        let mut stream = from_host(server, host);
        let said: &[u8] = match number % 5 {
            0 | 1 => b"",
            2 => b"get no",
            3 => b"set half 0 0 1000\r\nhalf",
            _ => b"get nothing\r\nget nothing\r\n",
        };
        match stream.write_all(said) {
            Err(error) if !matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                panic!("{error}")
            }
            _ => {}
        }
        if number % 2 == 0 {
            // It leaves by a reset.
            Socket::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
    }
}

#[test]
fn twenty_thousand_may_come_and_go() {
    let server = Server::start(&["-c", "4096", "-b", "4096"]);
    let mut normal = Normal::new(&server);
    // So that what is taken once and for all is taken.
    come_and_go(server.port, 3, COME_AND_GO / 10);
    wait_for_calm(&mut normal.client, 1);
    let (calm, threads) = (Calm::of(&server), entries(&server, "task"));
    let port = server.port;
    let hosts = (0..THREADS).map(|thread| 4 + thread as u8);
    let crowd: Vec<_> =
        hosts.map(|host| spawn(move || come_and_go(port, host, COME_AND_GO / THREADS))).collect();
    while crowd.iter().any(|thread| !thread.is_finished()) {
        normal.work();
    }
    crowd.into_iter().for_each(|thread| thread.join().unwrap());
    wait_for_calm(&mut normal.client, 1);
    assert!(number(&mut normal.client, "total_connections") > COME_AND_GO as u64 * 9 / 10);
    assert_eq!(number(&mut normal.client, "read_buf_count"), 0);
    calm.wait_for_descriptors(&server);
    // The runtime has threads for what may block, which come and go, too.
    wait_for("the threads to end", || entries(&server, "task") <= threads + 1);
    calm.check_memory(&server, GROWTH_BYTES_MAX);
    normal.find_all();
}
