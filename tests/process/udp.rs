//! UDP: requests in datagrams, replies in datagrams, and those who get none.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fastrand::Rng;
use socket2::SockRef;

use crate::needs;
use crate::network::in_own_network;
use crate::server::{Directory, PATIENCE, Server, run, said, wait_for};

const HEADER_BYTES: usize = 8;
const DATAGRAM_BYTES_MAX: usize = 1400;

/// The id of a request that asks for nothing but a sign that those before it were seen.
const MARK: u16 = 0xffff;

/// How long a datagram that may be lost is waited for.
const LOST_TIME: Duration = Duration::from_millis(500);

/// A client, and the server it talks to.
struct Client {
    socket: UdpSocket,
    server: SocketAddr,
}

/// One datagram of a reply.
#[derive(Debug, PartialEq)]
struct Part {
    id: u16,
    number: u16,
    total: u16,
    payload: Vec<u8>,
}

impl Client {
    fn new(from: &str, server: SocketAddr) -> Client {
        let socket = UdpSocket::bind((from.parse::<IpAddr>().unwrap(), 0)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        // As much as an ordinary user may have.
        SockRef::from(&socket).set_recv_buffer_size(4 << 20).unwrap();
        Client { socket, server }
    }

    fn of(server: &Server) -> Client {
        Client::new("127.0.0.1", (Ipv4Addr::LOCALHOST, server.udp_port()).into())
    }

    fn send(&self, datagram: &[u8]) {
        self.socket.send_to(datagram, self.server).unwrap();
    }

    /// The next datagram; `None` if there is none for as long as it is waited for.
    fn part(&self) -> Option<Part> {
        let mut datagram = [0; 64 << 10];
        let length = self.socket.recv(&mut datagram).ok()?;
        let (header, payload) = datagram[..length].split_at(HEADER_BYTES);
        let field = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        assert!(length <= DATAGRAM_BYTES_MAX, "{length}");
        assert_eq!(field(6), 0, "reserved");
        Some(Part { id: field(0), number: field(2), total: field(4), payload: payload.to_vec() })
    }

    /// What comes for `datagram` until a request behind it is answered: a server answers in order.
    fn parts(&self, datagram: &[u8]) -> Vec<Part> {
        self.send(datagram);
        self.send(&framed(MARK, b"mn\r\n"));
        let mut parts = Vec::new();
        loop {
            let part = self.part().expect("at least the mark is answered");
            if part.id == MARK {
                assert_eq!(part.payload, b"MN\r\n");
                return parts;
            }
            parts.push(part);
        }
    }

    /// The text that a request is answered with, in one message that is complete and in order.
    fn ask(&self, request: &[u8]) -> String {
        String::from_utf8(joined(&self.parts(&framed(7, request)), 7)).unwrap()
    }
}

/// A whole request.
fn framed(id: u16, request: &[u8]) -> Vec<u8> {
    [&id.to_be_bytes(), &[0, 0, 0, 1, 0, 0][..], request].concat()
}

/// The message that the parts are, which must all be there and as long as they may be.
fn joined(parts: &[Part], id: u16) -> Vec<u8> {
    for (index, part) in parts.iter().enumerate() {
        assert_eq!((part.id, usize::from(part.number), usize::from(part.total)), (id, index, parts.len()));
        let is_last = index + 1 == parts.len();
        assert!(is_last || part.payload.len() == DATAGRAM_BYTES_MAX - HEADER_BYTES, "{}", part.payload.len());
    }
    parts.iter().flat_map(|part| part.payload.clone()).collect()
}

#[test]
fn a_datagram_of_requests_is_answered_by_one_message() {
    let server = Server::start(&["-U", "-1"]);
    let client = Client::of(&server);
    for (request, reply) in [
        ("set a 0 0 5\r\nhello\r\n", "STORED\r\n"),
        ("get a\r\n", "VALUE a 0 5\r\nhello\r\nEND\r\n"),
        ("get a b a\r\n", "VALUE a 0 5\r\nhello\r\nVALUE a 0 5\r\nhello\r\nEND\r\n"),
        ("set n 0 0 1\r\n1\r\nincr n 5\r\nget n\r\n", "STORED\r\n6\r\nVALUE n 0 1\r\n6\r\nEND\r\n"),
        ("mg a s v\r\nmn\r\n", "VA 5 s5\r\nhello\r\nMN\r\n"),
        ("set q 0 0 1 noreply\r\n1\r\n", ""),
        ("set q 0 0 1 noreply\r\n2\r\nget q\r\n", "VALUE q 0 1\r\n2\r\nEND\r\n"),
        ("nonsense\r\n", "ERROR\r\n"),
        ("get a\r\nnonsense\r\nget b\r\n", "VALUE a 0 5\r\nhello\r\nEND\r\nERROR\r\nEND\r\n"),
        ("quit\r\nget a\r\n", ""),
        ("get b\r\nquit\r\nget a\r\n", "END\r\n"),
    ] {
        assert_eq!(client.ask(request.as_bytes()), reply, "{request:?}");
    }
    // Both transports see one cache.
    let mut tcp = server.connect();
    assert_eq!(tcp.ask("get q\r\n"), "VALUE q 0 1");
}

#[test]
fn a_datagram_of_packets_is_answered_in_packets() {
    let server = Server::start(&["-U", "-1"]);
    let client = Client::of(&server);
    let set = b"\x80\x11\0\x01\x08\0\0\0\0\0\0\x0a\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\x07\0\0\0\0kv";
    let get = b"\x80\x0c\0\x01\0\0\0\0\0\0\0\x01\0\0\0\x02\0\0\0\0\0\0\0\0k";
    let noop = b"\x80\x0a\0\0\0\0\0\0\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\0";
    let parts = client.parts(&framed(7, &[&set[..], get, noop].concat()));
    let [Part { id: 7, number: 0, total: 1, payload }] = &parts[..] else { panic!("{parts:?}") };
    assert_eq!(payload[..24][..16], *b"\x81\x0c\0\x01\x04\0\0\0\0\0\0\x06\0\0\0\x02");
    assert_eq!(payload[24..30], *b"\0\0\0\x07kv");
    assert_eq!(payload[30..], *b"\x81\x0a\0\0\0\0\0\0\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\0");
}

#[test]
fn nothing_is_kept_from_one_datagram_to_the_next() {
    let server = Server::start(&["-U", "-1"]);
    let client = Client::of(&server);
    for (request, reply) in [
        ("get a", ""),
        ("set a 0 0 5\r\nhe", ""),
        ("llo\r\n", "ERROR\r\n"),
        ("get a\r\nset a 0 0 5\r\nhello", "END\r\n"),
        ("set a 0 0 9999999\r\nhello\r\n", "SERVER_ERROR object too large for cache\r\n"),
        ("get a\r\n", "END\r\n"),
    ] {
        assert_eq!(client.ask(request.as_bytes()), reply, "{request:?}");
    }
}

#[test]
fn the_header_names_the_request_and_the_rest_of_it_is_not_looked_at() {
    let server = Server::start(&["-U", "-1"]);
    let client = Client::of(&server);
    for id in [0, 1, 0x1234, 0xfffe] {
        assert_eq!(joined(&client.parts(&framed(id, b"mn\r\n")), id), b"MN\r\n");
    }
    let odd = [&[0, 9, 0x12, 0x34, 0, 1, 0xab, 0xcd], &b"mn\r\n"[..]].concat();
    assert_eq!(joined(&client.parts(&odd), 9), b"MN\r\n");
}

#[test]
fn what_is_no_whole_request_is_dropped_and_counted() {
    let server = Server::start(&["-U", "-1"]);
    let client = Client::of(&server);
    let get = b"get a\r\n";
    let dropped = [
        Vec::new(),
        b"x".to_vec(),
        b"get a\r\n".to_vec(),
        framed(1, b""),
        [&[0, 1, 0, 0, 0, 2, 0, 0], &get[..]].concat(),
        [&[0, 1, 0, 1, 0, 2, 0, 0], &get[..]].concat(),
        [&[0, 1, 0, 0, 0, 0, 0, 0], &get[..]].concat(),
    ];
    for datagram in &dropped {
        assert_eq!(client.parts(datagram), [], "{datagram:?}");
    }
    let mut tcp = server.connect();
    assert_eq!(tcp.stat("stats network\r\n", "malformed_datagrams").as_deref(), Some("7"));
    assert_eq!(tcp.stat("stats\r\n", "cmd_get").as_deref(), Some("0"));
    assert_eq!(tcp.stat("stats\r\n", "malformed_datagrams"), None, "stats has memcached's lines only");
    assert_eq!(tcp.ask("stats reset\r\n"), "RESET");
    assert_eq!(tcp.stat("stats network\r\n", "malformed_datagrams").as_deref(), Some("0"));
}

#[test]
fn garbage_harms_nobody() {
    let server = Server::start(&["-U", "-1"]);
    let client = Client::of(&server);
    let mut random = Rng::with_seed(1);
    for round in 0..500 {
        let mut datagram = vec![0; random.usize(..2000)];
        random.fill(&mut datagram);
        if round % 2 == 0 {
            // Garbage with a good header, as often without line ends as with them.
            datagram = framed(1, &datagram.iter().map(|byte| byte % 64).collect::<Vec<_>>());
        }
        for part in client.parts(&datagram) {
            assert!(part.payload.ends_with(b"\r\n"), "{datagram:?}: {part:?}");
        }
    }
    assert!(server.connect().ask("version\r\n").starts_with("VERSION "));
}

#[test]
fn a_long_reply_comes_in_many_datagrams_in_order() {
    let server = Server::start(&["-U", "-1"]);
    let client = Client::of(&server);
    let value = |bytes: usize| (0..bytes).map(|at| char::from(b'a' + (at % 23) as u8)).collect::<String>();
    // Around the length at which one more datagram is wanted, and the most that one request can bring.
    for bytes in [1371, 1372, 1373, 60_000, 65_460] {
        let value = value(bytes);
        assert_eq!(client.ask(format!("set k 0 0 {bytes}\r\n{value}\r\n").as_bytes()), "STORED\r\n");
        assert_eq!(client.ask(b"get k\r\n"), format!("VALUE k 0 {bytes}\r\n{value}\r\nEND\r\n"));
    }
    // One that is longer than sockets' buffers usually are gets lost in part when the reader is not quick enough.
    let bytes = 1_000_000;
    let value = value(bytes);
    assert_eq!(server.connect().ask(&format!("set k 0 0 {bytes}\r\n{value}\r\n")), "STORED");
    client.socket.set_read_timeout(Some(LOST_TIME)).unwrap();
    wait_for("all of a long reply", || {
        client.send(&framed(7, b"get k\r\n"));
        let parts: Vec<_> = std::iter::from_fn(|| client.part()).collect();
        if parts.len() < 719 {
            return false;
        }
        assert_eq!(joined(&parts, 7), format!("VALUE k 0 {bytes}\r\n{value}\r\nEND\r\n").as_bytes());
        true
    });
}

#[test]
fn what_udp_is_not_made_for_is_refused_in_one_line() {
    let mut server = Server::start(&["-U", "-1", "-A"]);
    let client = Client::of(&server);
    let mut tcp = server.connect();
    for request in
        ["watch\r\n", "shutdown\r\n", "shutdown graceful\r\n", "get a\r\nwatch fetchers\r\nget a\r\n"]
    {
        assert_eq!(client.ask(request.as_bytes()), "SERVER_ERROR not over UDP, use TCP\r\n", "{request:?}");
    }
    assert_eq!(tcp.stat("stats\r\n", "log_watchers").as_deref(), Some("0"));
    assert_eq!(server.child.try_wait().unwrap(), None);
    // Three quarters of a megabyte fit, and twice that does not.
    let value = "x".repeat(750_000);
    assert_eq!(tcp.ask(&format!("set k 0 0 750000\r\n{value}\r\n")), "STORED");
    assert_eq!(client.ask(b"get k k\r\n"), "SERVER_ERROR too much for UDP, use TCP\r\n");
    assert_eq!(client.ask(b"get k\r\nget k\r\nget a\r\n"), "SERVER_ERROR too much for UDP, use TCP\r\n");
    // Dumps are of any length; a short one is shown.
    assert!(client.ask(b"lru_crawler metadump all\r\n").contains("key=k "));
    for chunk in 0..50 {
        for key in 0..1000 {
            tcp.send(&format!("set {chunk}-{key} 0 0 1 noreply\r\n1\r\n"));
        }
        assert_eq!(tcp.ask("mn\r\n"), "MN");
    }
    assert_eq!(client.ask(b"lru_crawler metadump all\r\n"), "SERVER_ERROR too much for UDP, use TCP\r\n");
    assert_eq!(client.ask(b"mn\r\n"), "MN\r\n");
}

#[test]
fn it_works_without_privileges() {
    let server = Server::start(&["-U", "-1", "-o", "drop_privileges"]);
    let client = Client::of(&server);
    assert_eq!(client.ask(b"set a 0 0 5\r\nhello\r\nget a\r\n"), "STORED\r\nVALUE a 0 5\r\nhello\r\nEND\r\n");
    assert!(client.ask(b"stats\r\n").ends_with("END\r\n"));
}

#[test]
fn a_flood_of_datagrams_leaves_others_their_turn() {
    let server = Server::start(&["-U", "-1", "-t", "1"]);
    let client = Client::of(&server);
    assert_eq!(client.ask(b"set a 0 0 5\r\nhello\r\n"), "STORED\r\n");
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let flooder = Client::of(&server);
            for number in 0..10_000_u32 {
                flooder.send(&framed(number as u16, b"get a\r\n"));
            }
            is_over.store(true, Ordering::Relaxed);
        });
        let mut tcp = server.connect();
        let mut asked = 0;
        while !is_over.load(Ordering::Relaxed) || asked < 100 {
            assert_eq!(tcp.ask("get a\r\n"), "VALUE a 0 5");
            assert_eq!((tcp.line(), tcp.line()), ("hello".to_owned(), "END".to_owned()));
            asked += 1;
        }
        flood.join().unwrap();
    });
    // As long as the flood fills the socket's buffer, what comes is lost.
    client.socket.set_read_timeout(Some(LOST_TIME)).unwrap();
    wait_for("an answer after the flood", || {
        client.send(&framed(7, b"get a\r\n"));
        client.part().is_some_and(|part| part.payload == b"VALUE a 0 5\r\nhello\r\nEND\r\n")
    });
}

#[test]
fn far_away_clients_get_nothing_unless_the_address_was_named() {
    in_own_network(|| {
        let address = |host: &str, server: &Server| SocketAddr::new(host.parse().unwrap(), server.udp_port());
        // By way of TCP on loopback, it is told how many were dropped.
        for listen in [&[][..], &["-l", "0.0.0.0"]] {
            let server = Server::start_anywhere(&[&["-U", "-1"], listen].concat());
            let mut tcp = server.connect();
            for (number, (from, to)) in [
                ("198.51.100.7", "198.51.100.8"),
                ("198.51.100.7", "10.0.0.7"),
                ("198.51.100.7", "198.51.100.7"),
            ]
            .into_iter()
            .enumerate()
            {
                let client = Client::new(from, address(to, &server));
                client.socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
                client.send(&framed(1, b"get a\r\n"));
                let expected = (number + 1).to_string();
                wait_for("the datagram to be dropped", || {
                    tcp.stat("stats network\r\n", "rejected_datagrams") == Some(expected.clone())
                });
                assert_eq!(client.part(), None, "{listen:?}: {from} to {to}");
            }
            assert_eq!(tcp.stat("stats\r\n", "cmd_get").as_deref(), Some("0"));
            let near = Client::new("10.0.0.7", address("10.0.0.8", &server));
            assert_eq!(near.ask(b"get a\r\n"), "END\r\n");
        }
        let server = Server::start_anywhere(&["-U", "-1", "-l", "198.51.100.8"]);
        let far = Client::new("198.51.100.7", address("198.51.100.8", &server));
        assert_eq!(far.ask(b"get a\r\n"), "END\r\n");
    });
}

#[test]
fn servers_cannot_be_made_to_talk_to_each_other() {
    let server = Server::start(&["-U", "-1"]);
    let port = server.udp_port();
    let other = UdpSocket::bind(("127.0.0.2", port)).unwrap();
    other.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    other.send_to(&framed(1, b"ERROR\r\n"), ("127.0.0.1", port)).unwrap();
    let mut tcp = server.connect();
    wait_for("the datagram to be dropped", || {
        tcp.stat("stats network\r\n", "rejected_datagrams").as_deref() == Some("1")
    });
    assert!(other.recv(&mut [0; 100]).is_err());
}

#[test]
fn no_reply_is_ever_answered() {
    let server = Server::start(&["-U", "-1"]);
    let client = Client::of(&server);
    client.ask(b"set n 0 0 1\r\n5\r\n");
    for request in [
        "bogus\r\n",
        "get\r\n",
        "get a\r\n",
        "get n\r\n",
        "gets n\r\n",
        "incr n 1\r\n",
        "incr a 1\r\n",
        "touch n 0\r\n",
        "set b 0 0 1\r\n1\r\n",
        "set b 0 0 x\r\n",
        "set b 0 0 9999999\r\n",
        "delete b\r\n",
        "flush_all\r\n",
        "version\r\n",
        "stats\r\n",
        "stats detail dump\r\n",
        "verbosity 1\r\n",
        "watch\r\n",
        "mg a v\r\n",
        "mg a\r\n",
        "ms a 1\r\n1\r\n",
        "mg a v\r\n",
        "me a\r\n",
        "mn\r\n",
        "lru_crawler metadump all\r\n",
        "lru_crawler mgdump all\r\n",
        "stats cachedump 1 0\r\n",
        "refresh_certs\r\n",
    ] {
        for part in client.parts(&framed(1, request.as_bytes())) {
            // As another server would send it on.
            let header = [part.id, part.number, part.total, 0].map(u16::to_be_bytes).concat();
            assert_eq!(client.parts(&[header, part.payload].concat()), [], "the answer to {request:?}");
        }
    }
}

#[test]
fn it_says_where_it_listens_for_datagrams() {
    let server = Server::start(&["-U", "-1"]);
    let port = server.udp_port();
    wait_for("the line", || server.log().contains("listens on"));
    assert!(server.log().contains(&format!("127.0.0.1:{port} (UDP)")), "{}", server.log());
    let mut tcp = server.connect();
    tcp.send("stats conns\r\n");
    let seats: Vec<_> = std::iter::from_fn(|| Some(tcp.line()).filter(|line| line != "END")).collect();
    let of_udp: Vec<_> = seats.iter().filter_map(|line| line.strip_suffix(":UDP UDP")).collect();
    let [descriptor] = of_udp[..] else { panic!("one socket for UDP: {seats:?}") };
    for line in [format!(":addr udp:127.0.0.1:{port}"), ":state conn_read".to_owned()] {
        assert!(seats.contains(&format!("{descriptor}{line}")), "{line}: {seats:?}");
    }
    assert!(Client::of(&server).ask(b"stats conns\r\n").contains(":UDP UDP\r\n"));
}

#[test]
fn without_p_both_have_a_port_and_with_p_0_only_udp_has() {
    let directory = Directory::new();
    for (options, expected) in [
        (&["-U", "-1"][..], &["TCP INET", "UDP INET"][..]),
        (&["-U", "-1", "-p", "0"], &["UDP INET"]),
        (&["-U", "0", "-p", "-1"], &["TCP INET"]),
    ] {
        let ports = directory.file("ports");
        let mut child = Command::new(crate::server::BINARY)
            .args(options)
            .args(["-l", "127.0.0.1"])
            .env("MEMCACHED_PORT_FILENAME", &ports)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_for("the port file", || ports.exists());
        let text = std::fs::read_to_string(&ports).unwrap();
        let kinds: Vec<_> = text.lines().filter_map(|line| line.split(':').next()).collect();
        child.kill().unwrap();
        child.wait().unwrap();
        std::fs::remove_file(&ports).unwrap();
        assert_eq!(kinds, expected, "{options:?}: {text}");
    }
}

#[test]
fn a_unix_socket_turns_udp_off() {
    let directory = Directory::new();
    let (path, ports) = (directory.file("socket"), directory.file("ports"));
    let mut child = Command::new(crate::server::BINARY)
        .args(["-U", "-1", "-s"])
        .arg(&path)
        .env("MEMCACHED_PORT_FILENAME", &ports)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("the socket", || UnixStream::connect(&path).is_ok());
    wait_for("the port file", || ports.exists());
    let text = std::fs::read_to_string(&ports).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(text, "");
}

#[test]
fn a_udp_port_in_use_is_told_with_exit_code_71() {
    let server = Server::start(&["-U", "-1"]);
    let port = server.udp_port().to_string();
    let (code, words) = said(&run(&["-p", "-1", "-U", &port, "-l", "127.0.0.1"]));
    assert_eq!(code, Some(71), "{words}");
    assert!(words.contains(&format!("failed to listen on UDP port {port}: ")), "{words}");
}

/// A real memcached, killed when dropped.
struct Memcached(Child);

impl Drop for Memcached {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn memcached_answers_the_same() {
    if !needs::are_there(&[&needs::MEMCACHED]) {
        return;
    }
    let memcached = needs::on_path("memcached").expect("it was just found");
    let directory = Directory::new();
    let ports = directory.file("ports");
    // One thread: several may answer out of order.
    let child = Command::new(memcached)
        .args(["-U", "-1", "-p", "-1", "-l", "127.0.0.1", "-t", "1", "-u", "nobody"])
        .env("MEMCACHED_PORT_FILENAME", &ports)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _memcached = Memcached(child);
    wait_for("the port file of memcached", || ports.exists());
    let text = std::fs::read_to_string(&ports).unwrap();
    let port: u16 = text.lines().find_map(|line| line.strip_prefix("UDP INET: ")).unwrap().parse().unwrap();
    let theirs = Client::new("127.0.0.1", (Ipv4Addr::LOCALHOST, port).into());
    let server = Server::start(&["-U", "-1"]);
    let ours = Client::of(&server);

    let long = "v".repeat(40_000);
    let set_long = format!("set long 7 0 40000\r\n{long}\r\n");
    let ordinary =
        ["set a 1 0 5\r\nhello\r\n", "get a\r\n", "get none\r\n", "add a 0 0 1\r\n1\r\n", "touch a 0\r\n"];
    let others = [
        &set_long,
        "get long\r\n",
        "mg long s f\r\n",
        "append a 0 0 1\r\n!\r\n",
        "get a\r\n",
        "verbosity 0\r\n",
    ];
    // One request in a datagram: the same datagrams, byte by byte.
    for request in ordinary.iter().chain(&others) {
        let datagram = framed(3, request.as_bytes());
        assert_eq!(ours.parts(&datagram), theirs.parts(&datagram), "{request:?}");
    }
    // Several: memcached has a message for each reply, all with the same id; the bytes are the same.
    let bytes = |parts: Vec<Part>| parts.into_iter().flat_map(|part| part.payload).collect::<Vec<u8>>();
    for request in [
        "get a\r\nget none\r\nget a\r\n",
        "get a none long a\r\n",
        "set b 0 0 1\r\n1\r\nincr b 2\r\nget b\r\n",
    ] {
        let datagram = framed(3, request.as_bytes());
        assert_eq!(bytes(ours.parts(&datagram)), bytes(theirs.parts(&datagram)), "{request:?}");
    }
    // And the same silence.
    let get = b"get a\r\n";
    for datagram in [
        Vec::new(),
        get.to_vec(),
        framed(1, b""),
        [&[0, 1, 0, 0, 0, 2, 0, 0], &get[..]].concat(),
        [&[0, 1, 0, 1, 0, 2, 0, 0], &get[..]].concat(),
        [&[0, 1, 0, 0, 0, 0, 0, 0], &get[..]].concat(),
        framed(1, b"set a 0 0 1 noreply\r\n2\r\n"),
        framed(1, b"get a"),
    ] {
        assert_eq!(ours.parts(&datagram), [], "{datagram:?}");
        assert_eq!(theirs.parts(&datagram), [], "{datagram:?}");
    }
}
