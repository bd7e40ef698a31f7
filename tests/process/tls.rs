//! TLS (`-Z`) as clients and operators meet it: who is let in where, what comes through whole, and what happens
//! when certificates change.

use std::fs;
use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use rustls::version::{TLS12, TLS13};
use rustls::{ALL_VERSIONS, ClientConfig, HandshakeKind};

use crate::certificates::{Authority, Identity, TlsClient, client_config, connect};
use crate::login::{SLOW, login};
use crate::server::{Client, Directory, PATIENCE, Server, resident_bytes, run, said, wait_for};

/// A server with certificates in a directory of their own.
pub(crate) struct Guarded {
    pub server: Server,
    pub files: Directory,
    pub authority: Authority,
}

impl Guarded {
    /// On the loopback address, with `options` behind those that TLS needs, `ssl_ca_cert` among them.
    pub(crate) fn start(options: &[&str]) -> Guarded {
        Guarded::start_anywhere(&[&["-l", "127.0.0.1"], options].concat())
    }

    /// The same on every address, unless `options` say where.
    pub(crate) fn start_anywhere(options: &[&str]) -> Guarded {
        let (files, authority) = (Directory::new(), Authority::new("ours"));
        fs::write(files.file("ca.pem"), &authority.certificate).unwrap();
        write(&files, &authority.identity());
        let tls = tls_options(&files);
        let mut all = vec!["-u", "root", "-v", "-Z", "-o", &tls];
        all.extend(options);
        let server = Server::start_anywhere(&all);
        Guarded { server, files, authority }
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.server.port))
    }

    /// Those of all listeners, in the order of `-l`.
    fn addresses(&self) -> Vec<SocketAddr> {
        addresses(&self.server)
    }

    fn config(&self) -> Arc<ClientConfig> {
        client_config(&self.authority, None, ALL_VERSIONS)
    }

    pub(crate) fn client(&self) -> Client<TlsClient> {
        client(&self.config(), self.address())
    }

    /// The certificate that a new connection is shown.
    pub(crate) fn shown(&self) -> Vec<u8> {
        let mut client = self.client();
        client.ask("version\r\n");
        client.0.get_ref().conn.peer_certificates().unwrap()[0].to_vec()
    }

    fn stat(&self, name: &str) -> u64 {
        self.client().stat("stats\r\n", name).unwrap().parse().unwrap()
    }
}

/// Those of all listeners of a server on the loopback address, in the order of `-l`.
pub(crate) fn addresses(server: &Server) -> Vec<SocketAddr> {
    let ports = fs::read_to_string(server.directory.file("ports")).unwrap();
    let ports = ports.lines().filter_map(|line| line.strip_prefix("TCP INET: "));
    ports.map(|port| SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap()))).collect()
}

/// Has `files` hold the certificate and key of `identity`.
pub(crate) fn write(files: &Directory, identity: &Identity) {
    fs::write(files.file("chain.pem"), &identity.certificate).unwrap();
    fs::write(files.file("key.pem"), &identity.key).unwrap();
}

/// What -o is to say of them.
pub(crate) fn tls_options(files: &Directory) -> String {
    let path = |name| files.file(name).display().to_string();
    format!("ssl_chain_cert={},ssl_key={},ssl_ca_cert={}", path("chain.pem"), path("key.pem"), path("ca.pem"))
}

pub(crate) fn client(config: &Arc<ClientConfig>, address: SocketAddr) -> Client<TlsClient> {
    let stream = connect(config, address).unwrap();
    stream.sock.set_read_timeout(Some(PATIENCE)).unwrap();
    Client(BufReader::new(stream))
}

/// Whether a client is let in and answered; with TLS 1.3 it learns that it is not only when it reads.
pub(crate) fn is_let_in(config: &Arc<ClientConfig>, address: SocketAddr) -> bool {
    let mut stream = connect(config, address).unwrap();
    stream.sock.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = [0; 8];
    stream.write_all(b"version\r\n").and_then(|()| stream.read_exact(&mut answer)).is_ok()
        && &answer == b"VERSION "
}

#[test]
fn each_listener_and_verify_mode_lets_in_whom_it_should() {
    let (stranger, local) = (Authority::new("theirs"), "127.0.0.1:0");
    for mode in ["0", "1", "2", "3"] {
        let mode_option = format!("ssl_verify_mode={mode}");
        let listeners = ["notls", "btls", "mtls"].map(|prefix| format!("{prefix}:{local}")).join(",");
        let guarded = Guarded::start(&["-o", &mode_option, "-l", &listeners]);
        let addresses = guarded.addresses();
        let (good, expired) = (guarded.authority.identity(), guarded.authority.identity_until(2001));
        let foreign = stranger.identity();
        // Shown nothing, a good certificate, an expired one, one that a stranger issued.
        let shown = [None, Some(&good), Some(&expired), Some(&foreign)];
        let as_chosen = match mode {
            "0" => [true; 4],
            "1" => [true, true, false, false],
            _ => [false, true, false, false],
        };
        for (index, listener, expected) in [
            (0, "as chosen", as_chosen),
            (1, "notls", [false; 4]),
            (2, "btls", [true; 4]),
            (3, "mtls", [false, true, false, false]),
        ] {
            for version in [&TLS12, &TLS13] {
                let let_in = shown.map(|shown| {
                    is_let_in(&client_config(&guarded.authority, shown, &[version]), addresses[index])
                });
                assert_eq!(let_in, expected, "mode {mode}, {listener}, {version:?}");
            }
        }
        let mut plain = Client(BufReader::new(TcpStream::connect(addresses[1]).unwrap()));
        assert!(plain.ask("version\r\n").starts_with("VERSION "), "notls is plain");
        let chosen = match mode {
            "0" => " (TLS)",
            "1" => " (TLS, certificates asked for)",
            _ => " (TLS, certificates required)",
        };
        let words = [chosen, "", " (TLS)", " (TLS, certificates required)"];
        let listed: Vec<_> =
            addresses.iter().zip(words).map(|(address, words)| format!("{address}{words}")).collect();
        let line = format!("listens on {} and", listed.join(", "));
        wait_for("the first line", || guarded.server.log().contains("listens on"));
        assert!(guarded.server.log().contains(&line), "{line}: {}", guarded.server.log());
    }
}

#[test]
fn long_and_short_pieces_come_through_whole() {
    for version in [&TLS12, &TLS13] {
        let guarded = Guarded::start(&["-I", "4m"]);
        let config = client_config(&guarded.authority, None, &[version]);
        let mut large = client(&config, guarded.address());
        let value: String = (0..1_000_000u32).map(|number| char::from(b'a' + (number % 23) as u8)).collect();
        assert_eq!(large.ask(&format!("set large 0 0 {}\r\n{value}\r\n", value.len())), "STORED");
        large.send("get large\r\nget large large\r\n");
        for _ in 0..3 {
            assert_eq!(large.line(), "VALUE large 0 1000000");
            assert_eq!(large.line(), value);
            if large.line_with_end().starts_with("VALUE") {
                assert_eq!(large.line(), value);
                assert_eq!(large.line(), "END");
                break;
            }
        }
        // More in one write than one read brings, with records that end anywhere.
        let requests: String =
            (0..100).map(|number| format!("get {}k{number}\r\n", "nothing-here ".repeat(70))).collect();
        large.send(&requests);
        (0..100).for_each(|_| assert_eq!(large.line(), "END"));
        let sets: String =
            (0..3000).map(|number| format!("set k{number} 0 0 30\r\n{number:030}\r\n")).collect();
        large.send(&sets);
        (0..3000).for_each(|_| assert_eq!(large.line(), "STORED"));
        let keys: String = (0..3000).map(|number| format!(" k{number}")).collect();
        large.send(&format!("get{keys}\r\n"));
        for number in 0..3000 {
            assert_eq!(large.line(), format!("VALUE k{number} 0 30"));
            assert_eq!(large.line(), format!("{number:030}"));
        }
        assert_eq!(large.line(), "END");
        // A record for each byte.
        for byte in "set small 0 0 3\r\nabc\r\nget small\r\n".split("").skip(1) {
            large.send(byte);
        }
        for line in ["STORED", "VALUE small 0 3", "abc", "END"] {
            assert_eq!(large.line(), line);
        }
        // A value in records of a thousand bytes.
        large.send(&format!("set large 0 0 {}\r\n", value.len()));
        value.as_bytes().chunks(1000).for_each(|chunk| large.send(std::str::from_utf8(chunk).unwrap()));
        assert_eq!(large.ask("\r\n"), "STORED");
        assert_eq!(large.stat("stats\r\n", "ssl_proto_errors").as_deref(), Some("0"));
    }
}

#[test]
fn who_closes_gets_what_is_owed_and_a_farewell() {
    let guarded = Guarded::start(&[]);
    for leave in [
        // It says that it has no more to say, and only then reads.
        (|client: &mut TlsClient| {
            client.conn.send_close_notify();
            client.conn.complete_io(&mut client.sock).map(|_| ())
        }) as fn(&mut TlsClient) -> io::Result<()>,
        // It forgets to say so.
        |client| client.sock.shutdown(Shutdown::Write),
        |client| client.write_all(b"quit\r\n"),
    ] {
        let mut client = connect(&guarded.config(), guarded.address()).unwrap();
        client.sock.set_read_timeout(Some(PATIENCE)).unwrap();
        client.write_all(b"set k 0 0 1\r\nv\r\nget k\r\n").unwrap();
        leave(&mut client).unwrap();
        let mut said = String::new();
        // Fails unless the server says that this is the end.
        client.read_to_string(&mut said).unwrap();
        assert_eq!(said, "STORED\r\nVALUE k 0 1\r\nv\r\nEND\r\n");
    }
}

#[test]
fn what_a_client_does_not_read_stays_bounded_and_is_not_lost() {
    let guarded = Guarded::start(&[]);
    let mut client = guarded.client();
    let value = "x".repeat(500_000);
    assert_eq!(client.ask(&format!("set k 0 0 500000\r\n{value}\r\n")), "STORED");
    let before = resident_bytes(&guarded.server);
    let mut lazy: Vec<_> = (0..8).map(|_| guarded.client()).collect();
    lazy.iter_mut().for_each(|client| client.send(&"get k\r\n".repeat(100)));
    sleep(Duration::from_millis(500));
    let grown = resident_bytes(&guarded.server).saturating_sub(before);
    // 400 MB are asked for. What is owed shares the value, and TLS holds 64 KB of it in each.
    assert!(grown < 16 << 20, "{grown} bytes");
    assert!(client.ask("version\r\n").starts_with("VERSION "), "others go on");
    for _ in 0..100 {
        for line in ["VALUE k 0 500000", &value, "END"] {
            assert_eq!(lazy[0].line(), line);
        }
    }
}

#[test]
fn what_is_encrypted_and_not_read_is_part_of_the_buffers() {
    const MEGABYTE: u64 = 1 << 20;
    let guarded = Guarded::start(&["-t", "1", "-o", "read_buf_mem_limit=1"]);
    let mut client = guarded.client();
    let value = "x".repeat(900_000);
    assert_eq!(client.ask(&format!("set k 0 0 900000\r\n{value}\r\n")), "STORED");
    let mut number = |name| client.stat("stats\r\n", name).unwrap().parse::<u64>().unwrap();
    let mut lazy = Vec::new();
    // The value is shared by all; what is encrypted is each one's own, and 16 times 64 KB of it are a megabyte.
    for count in 1..=24 {
        let mut one = guarded.client();
        one.send(&"get k\r\n".repeat(20));
        lazy.push(one);
        let mut held = 0;
        wait_for("something to be held for it, or somebody to go", || {
            held = number("response_obj_bytes");
            held >= count * (60 << 10) || number("response_obj_oom") > 0
        });
        assert!(held <= MEGABYTE, "{held} bytes for {count}");
    }
    assert!(number("response_obj_oom") > 0, "some had to go");
    assert!(number("response_obj_bytes") > MEGABYTE / 2, "and others not");
}

#[test]
fn who_does_not_speak_tls_is_closed_and_counted_and_told_of() {
    let guarded = Guarded::start(&[]);
    let mut watcher = guarded.client();
    assert_eq!(watcher.ask("watch connevents\r\n"), "OK");
    drop(TcpStream::connect(guarded.address()).unwrap());
    for number in 1..=2 {
        let mut plain = guarded.server.connect();
        plain.send("get something\r\n");
        let mut rest = Vec::new();
        // An alert, if anything.
        let _ = plain.0.read_to_end(&mut rest);
        assert!(rest.len() < 16, "{rest:?}");
        wait_for("the error to be counted", || guarded.stat("ssl_handshake_errors") == number);
    }
    let mut events = (0..40).map(|_| watcher.event());
    let failed = events.find(|event| event.contains(" type=conntlserr ")).expect("one of the first");
    assert!(failed.contains(" type=conntlserr fd=") && failed.contains(" msg="), "{failed}");
    // Those who asked for the count come and go beside it.
    let closed = |event: &String| event.contains(" type=conn_close ") && event.contains(" reason=error ");
    events.find(closed).expect("one of the first");
    let mut client = guarded.client();
    client.send("stats reset\r\n");
    assert_eq!(client.line(), "RESET");
    assert_eq!(guarded.stat("ssl_handshake_errors"), 0);
}

#[test]
fn who_finds_no_place_is_told_in_plain_text() {
    let guarded = Guarded::start(&["-c", "1"]);
    let mut only = guarded.client();
    assert!(only.ask("version\r\n").starts_with("VERSION "));
    assert_eq!(guarded.server.connect().line(), "ERROR Too many open connections");
    assert_eq!(only.stat("stats\r\n", "ssl_handshake_errors").as_deref(), Some("0"));
}

#[test]
fn udp_stays_plain() {
    let guarded = Guarded::start(&["-U", "-1"]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let header = b"\x12\x34\0\0\0\x01\0\0";
    let request = [header, &b"version\r\n"[..]].concat();
    socket.send_to(&request, ("127.0.0.1", guarded.server.udp_port())).unwrap();
    let mut reply = [0; 100];
    let length = socket.recv(&mut reply).unwrap();
    assert!(reply[..length].starts_with(&[header, &b"VERSION "[..]].concat()), "{:?}", &reply[..length]);
}

#[test]
fn a_handshake_has_to_come_to_an_end() {
    let guarded = Guarded::start(&["-t", "1"]);
    let silent = TcpStream::connect(guarded.address()).unwrap();
    let mut slow = TcpStream::connect(guarded.address()).unwrap();
    slow.write_all(&[22, 3, 1, 2, 0]).unwrap(); // the head of a record, and no more
    let mut patient = guarded.client();
    assert!(patient.ask("version\r\n").starts_with("VERSION "), "they hold up nobody");
    let since = Instant::now();
    for mut stream in [silent, slow] {
        stream.set_read_timeout(Some(2 * PATIENCE)).unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    }
    let waited = since.elapsed();
    assert!(waited > Duration::from_secs(8) && waited < Duration::from_secs(2 * 20), "{waited:?}");
    assert_eq!(guarded.stat("ssl_handshake_errors"), 2);
    assert!(patient.ask("version\r\n").starts_with("VERSION "), "who is through with it may be idle");
}

#[test]
fn who_is_connected_is_served_between_one_handshake_and_the_next() {
    const CROWD: usize = 300;
    const REQUESTS: usize = 20;
    // While the worker is told that all of them have spoken, of each 60 one is let through.
    const FIRST_LOOK: usize = CROWD / 60 + 1;
    // Each `stats` is a turn of its own, so that everybody else may go first.
    let guarded = Guarded::start(&["-t", "1"]);
    let mut connected = guarded.client();
    assert_eq!(connected.stat("stats\r\n", "ssl_handshake_errors").as_deref(), Some("0"));
    let mut crowd: Vec<_> = (0..CROWD).map(|_| TcpStream::connect(guarded.address()).unwrap()).collect();
    let all = (CROWD + 1).to_string();
    wait_for("all to be connected", || {
        connected.stat("stats\r\n", "curr_connections").is_some_and(|now| now == all)
    });

    // While it stands still, all of them speak, and then the one who is connected: it is the last in line.
    guarded.server.signal(Signal::SIGSTOP);
    wait_for("all its threads to be stopped", || {
        let threads = fs::read_dir(format!("/proc/{}/task", guarded.server.child.id())).unwrap();
        let mut stats = threads.map(|thread| fs::read_to_string(thread.unwrap().path().join("stat")));
        stats.all(|stat| stat.is_ok_and(|stat| stat.contains(") T ")))
    });
    crowd.iter_mut().for_each(|stream| stream.write_all(b"no ClientHello\r\n").unwrap());
    connected.send(&"stats\r\n".repeat(REQUESTS));
    guarded.server.signal(Signal::SIGCONT);

    for request in 1..=REQUESTS {
        let mut failed = None;
        loop {
            let line = connected.line();
            if line == "END" {
                break;
            }
            failed = failed.or(line.strip_prefix("STAT ssl_handshake_errors ").map(str::to_owned));
        }
        let failed: usize = failed.unwrap().parse().unwrap();
        assert!(failed <= request + FIRST_LOOK, "{failed} at request {request}");
    }
    wait_for("everybody to be heard", || {
        connected.stat("stats\r\n", "ssl_handshake_errors").as_deref() == Some(&CROWD.to_string())
    });
}

#[test]
fn no_more_than_three_issuers_are_looked_at() {
    let guarded = Guarded::start(&["-o", "ssl_verify_mode=2"]);
    let mut identity = guarded.authority.identity();
    identity.certificate += &guarded.authority.certificate.repeat(3);
    let is_good = |identity: &Identity| {
        is_let_in(&client_config(&guarded.authority, Some(identity), ALL_VERSIONS), guarded.address())
    };
    assert!(is_good(&identity));
    identity.certificate += &guarded.authority.certificate;
    assert!(!is_good(&identity));
    wait_for("the log to say so", || guarded.server.log().contains("more than 3 certificates came with"));
}

#[test]
fn who_says_much_without_shaking_hands_is_closed_at_once() {
    let guarded = Guarded::start(&[]);
    let mut stream = TcpStream::connect(guarded.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // A ClientHello of 60,000 bytes, in records of a thousand, of which 33 KB are too much and the rest never comes.
    let mut hello = vec![1, 0, 234, 96];
    hello.resize(33 << 10, 0);
    let records = hello.chunks(1000).flat_map(|part| {
        let length = u16::try_from(part.len()).unwrap().to_be_bytes();
        [&[22, 3, 1, length[0], length[1]], part].concat()
    });
    stream.write_all(&records.collect::<Vec<_>>()).unwrap();
    let _ = stream.read_to_end(&mut Vec::new());
    wait_for("the log to say so", || {
        guarded.server.log().contains("TLS handshake failed: unexpected error: 32768 bytes without any data")
    });
    assert_eq!(guarded.stat("ssl_handshake_errors"), 1);
}

#[test]
fn new_certificates_are_for_new_connections() {
    let guarded = Guarded::start(&[]);
    let mut old = guarded.client();
    let ask = |client: &mut Client<TlsClient>| assert!(client.ask("version\r\n").starts_with("VERSION "));
    ask(&mut old);
    let first = guarded.shown();

    write(&guarded.files, &guarded.authority.identity());
    assert_eq!(old.ask("refresh_certs\r\n"), "OK");
    let second = guarded.shown();
    assert_ne!(second, first);

    write(&guarded.files, &guarded.authority.identity());
    guarded.server.signal(Signal::SIGHUP);
    wait_for("SIGHUP to be heeded", || guarded.shown() != second);
    assert!(guarded.server.log().contains("SIGHUP: read the certificates again"), "{}", guarded.server.log());
    let third = guarded.shown();

    // The two of them are never replaced at once.
    let fourth = guarded.authority.identity();
    fs::write(guarded.files.file("chain.pem"), &fourth.certificate).unwrap();
    let complaint = old.ask("refresh_certs\r\n");
    assert!(
        complaint.starts_with("Error loading the key: ") && complaint.contains("mismatch"),
        "{complaint}"
    );
    wait_for("the log to say so", || guarded.server.log().contains("the old ones stay in force"));
    assert_eq!(guarded.shown(), third);
    fs::write(guarded.files.file("key.pem"), &fourth.key).unwrap();
    wait_for("the files to be looked at", || guarded.shown() != third);
    assert_eq!(guarded.server.log().matches("the old ones stay in force").count(), 1);

    fs::remove_file(guarded.files.file("chain.pem")).unwrap();
    assert!(old.ask("refresh_certs\r\n").starts_with("Error loading the certificate chain: "));
    ask(&mut old);
    assert!(guarded.stat("time_since_server_cert_refresh") < 20);
}

/// How two connections of one client shake hands, one after the other.
fn twice(config: &Arc<ClientConfig>, addresses: [SocketAddr; 2]) -> Option<HandshakeKind> {
    let mut kind = None;
    for address in addresses {
        let mut client = client(config, address);
        if !client.ask("version\r\n").starts_with("VERSION ") {
            return None;
        }
        kind = client.0.get_ref().conn.handshake_kind();
    }
    kind
}

#[test]
fn sessions_are_resumed_where_no_certificate_is_asked_for() {
    let guarded = Guarded::start(&["-l", "btls:127.0.0.1:0,mtls:127.0.0.1:0"]);
    let [_, btls, mtls] = guarded.addresses().try_into().unwrap();
    let shown = guarded.authority.identity();
    for version in [&TLS12, &TLS13] {
        let config = client_config(&guarded.authority, None, &[version]);
        assert_eq!(twice(&config, [guarded.address(); 2]), Some(HandshakeKind::Resumed), "{version:?}");
        assert_eq!(guarded.client().ask("refresh_certs\r\n"), "OK");
        assert_eq!(twice(&config, [guarded.address(), btls]), Some(HandshakeKind::Resumed), "{version:?}");
        let with_certificate = client_config(&guarded.authority, Some(&shown), &[version]);
        assert_eq!(twice(&with_certificate, [mtls; 2]), Some(HandshakeKind::Full), "{version:?}");
    }
}

#[test]
fn a_session_is_no_way_around_a_certificate() {
    let guarded = Guarded::start(&["-o", "ssl_session_cache", "-l", "btls:127.0.0.1:0,mtls:127.0.0.1:0"]);
    let [_, btls, mtls] = guarded.addresses().try_into().unwrap();
    let shown = guarded.authority.identity();
    for version in [&TLS12, &TLS13] {
        let before = guarded.stat("ssl_new_sessions");
        let config = client_config(&guarded.authority, None, &[version]);
        assert!(is_let_in(&config, btls) && !is_let_in(&config, mtls), "{version:?}");
        let config = client_config(&guarded.authority, Some(&shown), &[version]);
        assert_eq!(twice(&config, [mtls; 2]), Some(HandshakeKind::Resumed), "{version:?}");
        // One on btls, one on mtls, and the one that asked before.
        assert_eq!(guarded.stat("ssl_new_sessions"), before + 3, "{version:?}");

        // Those who issued it are no longer trusted.
        let certificate = Authority::new("others").certificate;
        let trusted = fs::read(guarded.files.file("ca.pem")).unwrap();
        fs::write(guarded.files.file("ca.pem"), certificate).unwrap();
        assert_eq!(guarded.client().ask("refresh_certs\r\n"), "OK");
        assert!(!is_let_in(&config, mtls), "{version:?}");
        fs::write(guarded.files.file("ca.pem"), trusted).unwrap();
        assert_eq!(guarded.client().ask("refresh_certs\r\n"), "OK");
    }
}

#[test]
fn only_the_versions_that_were_asked_for_are_spoken() {
    let guarded = Guarded::start(&["-o", "ssl_min_version=3"]);
    assert!(is_let_in(&client_config(&guarded.authority, None, &[&TLS13]), guarded.address()));
    assert!(!is_let_in(&client_config(&guarded.authority, None, &[&TLS12]), guarded.address()));
    let mut client = guarded.client();
    assert_eq!(client.stat("stats settings\r\n", "ssl_min_version").as_deref(), Some("tlsv1.3"));
    assert_eq!(client.stat("stats settings\r\n", "ssl_enabled").as_deref(), Some("yes"));
}

#[test]
fn certificates_that_cannot_be_used_stop_the_start() {
    let (files, authority) = (Directory::new(), Authority::new("ours"));
    let (one, other) = (authority.identity(), authority.identity());
    let path = |name: &str| files.file(name).display().to_string();
    fs::write(files.file("chain.pem"), &one.certificate).unwrap();
    fs::write(files.file("key.pem"), &one.key).unwrap();
    fs::write(files.file("other.pem"), &other.key).unwrap();
    fs::write(files.file("words.pem"), "no PEM").unwrap();
    fs::write(
        files.file("locked.pem"),
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    )
    .unwrap();
    for (chain, key, issuers, words) in [
        ("none.pem", "key.pem", None, "Error loading the certificate chain: {}/none.pem : No such file"),
        ("words.pem", "key.pem", None, "Error loading the certificate chain: {}/words.pem : it contains no"),
        ("chain.pem", "none.pem", None, "Error loading the key: {}/none.pem : No such file"),
        ("chain.pem", "words.pem", None, "Error loading the key: {}/words.pem : it contains no private key"),
        ("chain.pem", "locked.pem", None, "Error loading the key: {}/locked.pem : it is encrypted"),
        ("chain.pem", "other.pem", None, "Error loading the key: {}/other.pem : key values mismatch"),
        ("chain.pem", "key.pem", Some("none.pem"), "Error loading the CA certificate: {}/none.pem : No such"),
        ("chain.pem", "chain.pem", None, "Error loading the key: {}/chain.pem : it contains no private key"),
    ] {
        let mut options = format!("ssl_chain_cert={},ssl_key={}", path(chain), path(key));
        if let Some(issuers) = issuers {
            options += &format!(",ssl_ca_cert={}", path(issuers));
        }
        let (exit_code, message) = said(&run(&["-u", "root", "-p", "-1", "-Z", "-o", &options]));
        let words = words.replace("{}", &files.0.display().to_string());
        assert_eq!(exit_code, Some(64), "{message}");
        assert!(message.starts_with(&words), "{message}");
    }
}

#[test]
fn a_pipe_is_no_certificate() {
    let guarded = Guarded::start(&[]);
    let mut client = guarded.client();
    let path = |name: &str| guarded.files.file(name);
    mkfifo(&path("pipe"), Mode::S_IRWXU).unwrap();
    fs::rename(path("pipe"), path("chain.pem")).unwrap();
    let complaint = client.ask("refresh_certs\r\n");
    assert!(complaint.starts_with("Error loading the certificate chain: "), "{complaint}");
    assert!(complaint.ends_with("it is not a regular file"), "{complaint}");
    wait_for("the log to say so", || guarded.server.log().contains("it is not a regular file"));
}

#[test]
fn certificates_are_read_again_beside_a_queue_of_passwords() {
    const QUEUE: usize = 16;
    let users = Directory::new();
    fs::write(users.file("users"), format!("ann:sesame\nslow:{SLOW}\n")).unwrap();
    let path = users.file("users").display().to_string();
    let guarded = Guarded::start(&["-t", "1", "-Y", &path]);
    let mut ann = guarded.client();
    assert_eq!(ann.ask(&login("ann sesame")), "STORED");
    let mut queue: Vec<_> = (0..QUEUE).map(|_| guarded.client()).collect();
    queue.iter_mut().for_each(|client| client.send(&login("slow wrong")));
    assert_eq!(ann.ask("refresh_certs\r\n"), "OK");
    let refused: usize = ann.stat("stats\r\n", "auth_errors").unwrap().parse().unwrap();
    assert!(refused < QUEUE / 2, "{refused} of {QUEUE} went before");
}

#[test]
fn a_key_may_stand_with_its_certificate_and_system_calls_may_be_given_up() {
    let (files, authority) = (Directory::new(), Authority::new("ours"));
    let both = |identity: Identity| {
        fs::write(files.file("both.pem"), identity.certificate + &identity.key).unwrap();
    };
    both(authority.identity());
    let option = format!("ssl_chain_cert={},drop_privileges", files.file("both.pem").display());
    let server = Server::start(&["-u", "root", "-Z", "-o", &option]);
    let address = SocketAddr::from(([127, 0, 0, 1], server.port));
    let mut client = client(&client_config(&authority, None, ALL_VERSIONS), address);
    assert!(client.ask("version\r\n").starts_with("VERSION "));
    both(authority.identity());
    wait_for("the files to be looked at", || server.log().contains("were read again"));
    assert_eq!(client.ask("refresh_certs\r\n"), "OK");
}
