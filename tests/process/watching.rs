//! Who is connected, and what those who watch are shown.

use std::fs;
use std::io::{BufReader, Read, Write};
use std::net::TcpStream;

use crate::needs;
use crate::server::*;

/// The lines of `stats conns` about the connection that asks, and about what is listened on.
fn own_seat<S: Read + Write>(client: &mut Client<S>) -> (Vec<String>, Vec<String>) {
    client.send("stats conns\r\n");
    let mut lines = Vec::new();
    while lines.last().map(String::as_str) != Some("END") {
        lines.push(client.line());
    }
    let of = |state: &str| {
        let line = lines.iter().find(|line| line.ends_with(state)).unwrap_or_else(|| panic!("{lines:?}"));
        let start = format!("{}:", line.split_once(':').unwrap().0);
        let own = lines.iter().filter_map(|line| line.strip_prefix(&start)).map(str::to_owned);
        own.collect::<Vec<_>>()
    };
    (of("conn_parse_cmd"), of("conn_listening"))
}

#[test]
fn who_is_connected_is_shown_with_both_addresses() {
    if !needs::are_there(&[&needs::IPV6]) {
        return;
    }
    let server = Server::start(&["-l", "[::1]", "-t", "2"]);
    let port = server.port;
    let mut client = server.connect();
    let local = client.0.get_ref().local_addr().unwrap();
    let (own, _) = own_seat(&mut client);
    assert_eq!(
        own,
        [
            format!("addr tcp:{local}"),
            format!("listen_addr tcp:127.0.0.1:{port}"),
            "state conn_parse_cmd".to_owned(),
            "secs_since_last_cmd 0".to_owned()
        ]
    );
    let text = fs::read_to_string(server.directory.file("ports")).unwrap();
    let port = text.lines().find_map(|line| line.strip_prefix("TCP INET6: ")).unwrap();
    let stream = TcpStream::connect(("::1", port.parse().unwrap())).unwrap();
    let local = stream.local_addr().unwrap();
    let (own, _) = own_seat(&mut Client(BufReader::new(stream)));
    assert_eq!(own[..2], [format!("addr tcp6:{local}"), format!("listen_addr tcp6:[::1]:{port}")]);

    let directory = Directory::new();
    let path = directory.file("socket");
    let (mut child, mut client) = on_unix_socket(&path);
    let (own, listening) = own_seat(&mut client);
    let address = path.display();
    assert_eq!(own[..2], [format!("addr unix:{address}"), format!("listen_addr unix:{address}")]);
    assert_eq!(listening[..2], [format!("addr unix:{address}"), "state conn_listening".to_owned()]);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn states_of_connections_are_told() {
    let server = Server::start(&["-t", "1"]);
    let mut client = server.connect();
    let value = "v".repeat(1_000_000);
    assert_eq!(client.ask(&format!("set big 0 0 {}\r\n{value}\r\n", value.len())), "STORED");
    let mut deaf = server.connect();
    deaf.send(&"get big\r\n".repeat(100));
    let mut slow = server.connect();
    slow.send("set other 0 0 900000\r\nthe rest comes later");
    let mut short = server.connect();
    short.send("set short 0 0 10\r\nlater");
    let mut line = server.connect();
    line.send("get a line without an en");
    let mut watcher = server.connect();
    assert_eq!(watcher.ask("watch\r\n"), "OK");
    let mut states = Vec::new();
    wait_for("each state", || {
        client.send("stats conns\r\n");
        states.clear();
        loop {
            let line = client.line();
            if line == "END" {
                break;
            }
            states.extend(line.split_once(":state ").map(|(_, state)| state.to_owned()));
        }
        states.sort();
        let nread = ["conn_nread"; 2];
        let others = ["conn_parse_cmd", "conn_read", "conn_watch"];
        states == [&["conn_listening", "conn_mwrite"][..], &nread, &others].concat()
    });
    assert_eq!(short.ask(" come\r\n"), "STORED");
    assert_eq!(line.ask("d\r\n"), "END");
    wait_for("the states of those who wait for nothing", || {
        let mut reading = 0;
        client.send("stats conns\r\n");
        loop {
            let line = client.line();
            if line == "END" {
                return reading == 2;
            }
            reading += usize::from(line.ends_with(":state conn_read"));
        }
    });
}

#[test]
fn hundreds_of_connections_are_listed() {
    const CLIENTS: usize = 500;
    let server = Server::start(&["-c", "600"]);
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.ask("version\r\n");
    }
    clients[0].send("stats conns\r\nversion\r\n");
    let mut seats = 0;
    loop {
        let line = clients[0].line();
        if line == "END" {
            break;
        }
        seats += usize::from(line.contains(":listen_addr "));
    }
    assert_eq!(seats, CLIENTS);
    assert!(clients[0].line().starts_with("VERSION "));
}

#[test]
fn one_who_watches_may_be_idle_and_sees_others_closed_for_it() {
    let server = Server::start(&["-o", "idle_timeout=1"]);
    let mut watcher = server.connect();
    assert_eq!(watcher.ask("watch connevents\r\n"), "OK");
    let mut idle = server.connect();
    idle.ask("version\r\n");
    assert!(watcher.event().contains(" type=conn_new rip=127.0.0.1 rport="));
    assert!(idle.is_closed());
    let line = watcher.event();
    assert!(line.contains(" type=conn_close rip=127.0.0.1 rport="), "{line}");
    assert!(line.contains(" transport=tcp reason=idle_timeout cfd="), "{line}");
    server.connect().ask("version\r\n");
    assert!(watcher.event().contains(" type=conn_new "));
}

#[test]
fn one_who_watches_and_does_not_read_gives_up_its_place() {
    let server = Server::start(&["-o", "idle_timeout=1"]);
    let mut client = server.connect();
    let mut watcher = server.connect();
    assert_eq!(watcher.ask("watch\r\n"), "OK");
    let asked = "get key\r\n".repeat(1000);
    wait_for("the watcher to be closed", || {
        // More than all buffers on the way hold.
        client.send(&asked);
        (0..1000).for_each(|_| assert_eq!(client.line(), "END"));
        client.stat("stats\r\n", "log_watchers").as_deref() == Some("0")
    });
    assert_eq!(client.stat("stats\r\n", "idle_kicks").as_deref(), Some("1"));
}

#[test]
fn what_is_evicted_can_be_watched() {
    const ITEMS: usize = 3000;
    let server = Server::start(&["-m", "8", "-t", "1"]);
    let mut watcher = server.connect();
    assert_eq!(watcher.ask("watch evictions\r\n"), "OK");
    let mut client = server.connect();
    let value = "v".repeat(5_000);
    for number in 0..ITEMS {
        let ttl = if number.is_multiple_of(2) { 0 } else { 1000 };
        assert_eq!(client.ask(&format!("set key/{number} 0 {ttl} 5000\r\n{value}\r\n")), "STORED");
    }
    let evictions: usize = client.stat("stats\r\n", "evictions").unwrap().parse().unwrap();
    assert!(evictions > ITEMS / 2, "{evictions}");
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < evictions {
        let line = watcher.event();
        let words: Vec<_> = line.split(' ').collect();
        let [_, _, kind, key, fetched, ttl, idle, class, size] = words[..] else { panic!("{line}") };
        assert_eq!(
            (kind, fetched, class, size),
            ("type=eviction", "fetch=no", "clsid=1", "size=5000"),
            "{line}"
        );
        assert!(idle.starts_with("la="), "{line}");
        let number: usize = key.strip_prefix("key=key%2F").unwrap().parse().unwrap();
        let left: i64 = ttl.strip_prefix("ttl=").unwrap().parse().unwrap();
        assert!(if number.is_multiple_of(2) { left == -1 } else { (900..=1000).contains(&left) }, "{line}");
        assert!(seen.insert(number), "twice: {line}");
    }
    for number in seen {
        assert_eq!(client.ask(&format!("get key/{number}\r\n")), "END");
    }
}

#[test]
fn watchers_that_do_not_read_cost_little_memory_and_are_told_what_they_missed() {
    const WATCHERS: usize = 20;
    const GETS: usize = 200_000;
    let server = Server::start(&["-m", "64", "-t", "2"]);
    let mut client = server.connect();
    assert_eq!(client.ask("set key 0 0 1\r\n1\r\n"), "STORED");
    let before = resident_bytes(&server);
    let mut watchers: Vec<_> = (0..WATCHERS).map(|_| server.connect()).collect();
    for watcher in &mut watchers {
        assert_eq!(watcher.ask("watch fetchers mutations\r\n"), "OK");
    }
    let asked = "get key\r\n".repeat(1000);
    for _ in 0..GETS / 1000 {
        client.send(&asked);
        for _ in 0..3000 {
            client.line();
        }
    }
    let grown = resident_bytes(&server).saturating_sub(before);
    // Twice the bound of a buffer for each: what waits, and what is on its way.
    assert!(grown < 14 << 20, "{grown} bytes more for watchers that do not read");
    let skipped: u64 = client.stat("stats\r\n", "log_watcher_skipped").unwrap().parse().unwrap();
    assert!(skipped > 0);
    let (mut lines, mut told) = (0, 0);
    while lines + told < GETS as u64 {
        let line = watchers[0].event();
        match line.strip_prefix("skipped=") {
            Some(count) => told += count.parse::<u64>().unwrap(),
            None => lines += 1,
        }
    }
    assert_eq!(lines + told, GETS as u64, "every event is shown or counted");
    drop(watchers);
    wait_for("the watchers to be gone", || client.stat("stats\r\n", "log_watchers").as_deref() == Some("0"));
}
