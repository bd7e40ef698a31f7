//! Limits on connections, idle ones, and UNIX sockets.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::server::*;

#[test]
fn over_the_connection_limit_a_client_is_told_and_closed() {
    let server = Server::start(&["-c", "3"]);
    let mut clients: Vec<_> = (0..3).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.ask("version\r\n");
    }
    let mut late = server.connect();
    assert_eq!(late.line(), "ERROR Too many open connections");
    assert!(late.is_closed());
    assert_eq!(clients[0].stat("stats\r\n", "rejected_connections").as_deref(), Some("1"));
    assert_eq!(clients[0].stat("stats\r\n", "curr_connections").as_deref(), Some("3"));
    assert_eq!(clients[0].ask("stats reset\r\n"), "RESET");
    assert_eq!(clients[0].stat("stats\r\n", "rejected_connections").as_deref(), Some("0"));
    drop(clients.pop());
    wait_for("the place to be free", || {
        clients[0].stat("stats\r\n", "curr_connections").as_deref() == Some("2")
    });
    assert!(server.connect().ask("version\r\n").starts_with("VERSION "));
}

#[test]
fn without_maxconns_fast_a_client_waits_for_a_place() {
    let server = Server::start(&["-c", "2", "-o", "no_maxconns_fast"]);
    let mut first = server.connect();
    let mut second = server.connect();
    first.ask("version\r\n");
    second.ask("version\r\n");
    let mut waiting = server.connect();
    waiting.send("version\r\n");
    sleep(Duration::from_millis(200));
    assert_eq!(first.stat("stats\r\n", "accepting_conns").as_deref(), Some("0"));
    assert_eq!(first.stat("stats\r\n", "curr_connections").as_deref(), Some("2"));
    drop(second);
    assert!(waiting.line().starts_with("VERSION "));
    let disabled = first.stat("stats\r\n", "listen_disabled_num").unwrap().parse::<u64>().unwrap();
    let microseconds = first.stat("stats\r\n", "time_in_listen_disabled_us").unwrap().parse::<u64>().unwrap();
    assert!(disabled >= 1 && microseconds >= 100_000, "{disabled} times, {microseconds} us");
    assert_eq!(first.ask("stats reset\r\n"), "RESET");
    for name in ["listen_disabled_num", "time_in_listen_disabled_us", "total_connections", "read_buf_oom"] {
        assert_eq!(first.stat("stats\r\n", name).as_deref(), Some("0"), "{name}");
    }
}

#[test]
fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let server = Server::start(&["-o", "idle_timeout=1"]);
    let mut idle = server.connect();
    idle.ask("version\r\n");
    let mut busy = server.connect();
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(4) {
        assert!(busy.ask("version\r\n").starts_with("VERSION "));
        sleep(Duration::from_millis(100));
    }
    assert!(idle.is_closed());
    assert_eq!(busy.stat("stats\r\n", "idle_kicks").as_deref(), Some("1"));
    assert_eq!(busy.stat("stats\r\n", "curr_connections").as_deref(), Some("1"));
}

#[test]
fn a_value_that_takes_its_time_to_arrive_is_not_idle() {
    let server = Server::start(&["-o", "idle_timeout=1"]);
    let mut client = server.connect();
    client.send("set slow 0 0 300000\r\n");
    for _ in 0..30 {
        client.send(&"v".repeat(10_000));
        sleep(Duration::from_millis(100));
    }
    assert_eq!(client.ask("\r\n"), "STORED");
}

#[test]
fn a_binary_client_is_closed_and_not_kept_waiting() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    client.0.get_mut().write_all(&[0x80, 0x0b, 0, 0, 0, 0, 0, 0]).unwrap();
    assert!(client.is_closed());
}

#[test]
fn one_place_serves_one_client_on_every_listener() {
    let mut server = Server::start(&["-c", "1", "-o", "no_maxconns_fast", "-l", "127.0.0.2"]);
    assert!(server.connect().ask("version\r\n").starts_with("VERSION "));
    // Both listeners take turns with the one place.
    let ports = fs::read_to_string(server.directory.file("ports")).unwrap();
    let second = ports.lines().nth(1).unwrap().rsplit_once(": ").unwrap().1.parse::<u16>().unwrap();
    let stream = TcpStream::connect(("127.0.0.2", second)).unwrap();
    assert!(Client(BufReader::new(stream)).ask("version\r\n").starts_with("VERSION "));
    server.port = ports.lines().next().unwrap().rsplit_once(": ").unwrap().1.parse().unwrap();
    assert!(server.connect().ask("version\r\n").starts_with("VERSION "));
}

#[test]
fn buffers_for_unfinished_requests_are_limited_in_all() {
    let server = Server::start(&["-o", "read_buf_mem_limit=1"]);
    let mut greedy: Vec<_> = (0..8).map(|_| server.connect()).collect();
    let mut refused = 0;
    for client in &mut greedy {
        let mut upload = b"set k 0 0 1000000\r\n".to_vec();
        upload.resize(400_000, b'v');
        // The server may close while this is under way.
        let _ = client.0.get_mut().write_all(&upload);
        sleep(Duration::from_millis(30));
    }
    for client in &mut greedy {
        client.0.get_mut().set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let mut line = String::new();
        if client.0.read_line(&mut line).is_ok() {
            assert_eq!(line, "SERVER_ERROR out of memory reading request\r\n");
            refused += 1;
        }
    }
    assert!(refused >= 4, "{refused} of 8 were refused");
    let mut other = server.connect();
    assert_eq!(other.ask("set a 0 0 1\r\nx\r\n"), "STORED");
    assert_ne!(other.stat("stats\r\n", "read_buf_oom").as_deref(), Some("0"));
    let bytes = other.stat("stats\r\n", "read_buf_bytes").unwrap().parse::<u64>().unwrap();
    assert!(bytes <= 1 << 20, "{bytes} bytes are buffered");
    drop(greedy);
    wait_for("the buffers to be given back", || {
        other.stat("stats\r\n", "read_buf_bytes").as_deref() == Some("0")
            && other.stat("stats\r\n", "read_buf_count").as_deref() == Some("0")
    });
}

#[test]
fn a_unix_socket_has_the_permissions_asked_for_and_replaces_a_stale_one() {
    let directory = Directory::new();
    let path = directory.file("socket");
    for (mask, mode) in [("0700", 0o700), ("777", 0o777), ("660", 0o660)] {
        let mut child = Command::new(BINARY)
            .args(["-u", "root", "-a", mask, "-s"])
            .arg(&path)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stream = None;
        wait_for("the socket", || {
            stream = UnixStream::connect(&path).ok();
            stream.is_some()
        });
        let mut client = Client(BufReader::new(stream.unwrap()));
        assert!(client.ask("version\r\n").starts_with("VERSION "));
        assert_eq!(client.stat("stats settings\r\n", "domain_socket"), path.to_str().map(str::to_owned));
        assert_eq!(fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o777, mode);
        child.kill().unwrap(); // without a chance to tidy up: the next one finds a stale socket
        child.wait().unwrap();
        assert!(path.exists());
    }
}

#[test]
fn a_socket_that_another_server_has_replaced_stays() {
    let directory = Directory::new();
    let path = directory.file("socket");
    let (mut first, _client) = on_unix_socket(&path);
    let (mut second, mut client) = on_unix_socket(&path);
    let stop = |child: &mut Child| {
        kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        child.wait().unwrap();
    };
    stop(&mut first);
    assert!(path.exists(), "the first has taken away the socket of the second");
    assert!(client.ask("version\r\n").starts_with("VERSION "));
    stop(&mut second);
    assert!(!path.exists(), "the second has left its own");
}

#[test]
fn long_values_that_are_stored_where_they_arrived_are_as_others() {
    let server = Server::start(&["-m", "64"]);
    let value = |seed: usize, bytes: usize| -> String {
        (0..bytes).map(|at| char::from(b'a' + ((at * 7 + at / 1000 + seed) % 26) as u8)).collect()
    };
    let mut reader = server.connect();
    let mut check = |key: &str, expected: &str| {
        assert_eq!(reader.ask(&format!("get {key}\r\n")), format!("VALUE {key} 0 {}", expected.len()));
        assert!(reader.line() == expected, "{key} is not what was stored");
        assert_eq!(reader.line(), "END");
    };
    // In turn, so that each gets the block of another's last value, and longer and shorter ones.
    let mut clients: Vec<_> = (0..4).map(|_| server.connect()).collect();
    for round in 0..10 {
        for (number, client) in clients.iter_mut().enumerate() {
            let long = value(round + number, [1_000_000, 20_000, 300_000, 65_536][(round + number) % 4]);
            client.send(&format!(
                "set long{number} 0 0 {0}\r\n{long}\r\nset short{number} 0 0 2\r\n{round:02}\r\n\
                 add long{number} 0 0 {0}\r\n{long}\r\nappend long{number} 0 0 20000\r\n{1}\r\n",
                long.len(),
                value(round, 20_000),
            ));
            for expected in ["STORED", "STORED", "NOT_STORED", "STORED"] {
                assert_eq!(client.line(), expected);
            }
            check(&format!("long{number}"), &(long + &value(round, 20_000)));
            check(&format!("short{number}"), &format!("{round:02}"));
        }
    }
    // One whose end of line is not where it should be: what follows is read as a request.
    let long = value(0, 100_000);
    let client = &mut clients[0];
    client.send(&format!("set bad 0 0 99990\r\n{long}\r\nset good 0 0 100000\r\n{long}\r\n"));
    assert_eq!(client.line(), "CLIENT_ERROR bad data chunk");
    while client.line() != "STORED" {}
    check("good", &long);
}
