//! What clients can make it keep, and locked memory.

use std::fs;
use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::thread::sleep;
use std::time::Duration;

use ferrocached::engine::watching::prefixes::PREFIXES_MAX;

use crate::server::*;

#[test]
fn a_client_that_does_not_read_is_not_read_from() {
    let server = Server::start(&["-m", "64", "-t", "1"]);
    let mut client = server.connect();
    let value = "v".repeat(500_000);
    assert_eq!(client.ask(&format!("set big 0 0 {}\r\n{value}\r\n", value.len())), "STORED");
    let deaf = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    deaf.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let before = resident_bytes(&server);
    // 2 GB would be owed, were all of it accepted.
    let asked = "get big\r\n".repeat(4000);
    let _ = (&deaf).write_all(asked.as_bytes());
    sleep(Duration::from_millis(300));
    let grown = resident_bytes(&server).saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes more for a client that does not read");
    assert!(client.ask("get none\r\n") == "END");
    // And when it does read, all is there.
    let mut deaf = Client(BufReader::new(deaf));
    assert_eq!(deaf.line(), "VALUE big 0 500000");
    assert_eq!(deaf.line(), value);
    assert_eq!(deaf.line(), "END");
}

#[test]
fn locked_memory_is_taken_as_it_is_used_and_can_be_used_again() {
    let server = Server::start(&["-k", "-m", "64"]);
    let mut client = server.connect();
    for round in 0..3 {
        let value = format!("{round}").repeat(100_000);
        for key in 0..100 {
            assert_eq!(client.ask(&format!("set k{key} 0 0 {}\r\n{value}\r\n", value.len())), "STORED");
            assert_eq!(client.ask(&format!("set small{key} 0 0 1\r\n{round}\r\n")), "STORED");
        }
        assert_eq!(client.ask("flush_all\r\n"), "OK");
        sleep(Duration::from_millis(300));
        for key in 0..100 {
            assert_eq!(client.ask(&format!("get k{key} small{key}\r\n")), "END");
        }
        assert_eq!(client.stat("stats\r\n", "curr_items").as_deref(), Some("0"));
    }
    assert!(resident_bytes(&server) < 100 << 20, "{} bytes", resident_bytes(&server));
    let status = fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap();
    let locked = status.lines().find(|line| line.starts_with("VmLck:")).unwrap();
    // Whoever may not lock memory is told so instead.
    assert!(!locked.contains(" 0 kB") || server.log().contains("-k"), "{locked}");
}

/// Has prefixes of `digits` digits counted, as many as are counted at all, each by one worker.
fn have_prefixes_counted(clients: &mut [Client<TcpStream>], digits: usize) {
    const AT_ONCE: usize = 512;
    for (round, first) in (0..PREFIXES_MAX).step_by(AT_ONCE).enumerate() {
        let client = &mut clients[round % clients.len()];
        let gets: String =
            (first..first + AT_ONCE).map(|number| format!("get {number:0digits$}:k\r\n")).collect();
        client.send(&gets);
        (0..AT_ONCE).for_each(|_| assert_eq!(client.line(), "END"));
    }
}

#[test]
fn prefixes_that_are_counted_take_what_is_stated_whatever_the_workers_and_give_it_back() {
    // 65,536 prefixes take 20 MB and themselves at most; nearly half of it only where they are met a thousand times.
    for (threads, digits, growth_bytes_max) in
        [("1", 5, 13 << 20), ("4", 5, 13 << 20), ("64", 5, 13 << 20), ("4", 240, (13 << 20) + 65_536 * 240)]
    {
        // Giving it back takes no system call that a restricted server has not.
        let server = Server::start(&["-t", threads, "-D", ":", "-o", "drop_privileges"]);
        let mut clients: Vec<_> = (0..threads.parse().unwrap()).map(|_| server.connect()).collect();
        clients.iter_mut().for_each(|client| assert_eq!(client.ask("get calm\r\n"), "END"));
        let calm = resident_bytes(&server);
        for round in 0..3 {
            have_prefixes_counted(&mut clients, digits);
            let grown = resident_bytes(&server).saturating_sub(calm);
            assert!(grown > 4 << 20, "-t {threads}: it counts");
            assert!(grown < growth_bytes_max, "-t {threads}, {digits} digits, {round}: {grown} bytes");
            assert_eq!(clients[0].ask("stats detail off\r\n"), "OK");
            assert_eq!(clients[0].ask("stats reset\r\n"), "RESET");
            wait_for("the memory to come back", || resident_bytes(&server).saturating_sub(calm) < 4 << 20);
            assert_eq!(clients[0].ask("stats detail on\r\n"), "OK");
        }
        clients[0].send("get a:k\r\nstats detail dump\r\n");
        let lines = [(); 3].map(|()| clients[0].line());
        assert_eq!(lines, ["END", "PREFIX a get 1 hit 0 set 0 del 0", "END"], "and counting goes on");
    }
}

#[test]
fn prefixes_that_are_met_often_take_what_is_stated_too() {
    // More than there are numbers of their own for with so many workers.
    const OFTEN: usize = 3000;
    const WORKERS: usize = 64;
    let server = Server::start(&["-t", &WORKERS.to_string(), "-D", ":"]);
    // Each worker has served somebody: on a busy machine some begin late, and what they take is not what is measured.
    for _ in 0..WORKERS {
        assert_eq!(server.connect().ask("get calm\r\n"), "END");
    }
    let mut client = server.connect();
    assert_eq!(client.ask("get calm\r\n"), "END");
    let calm = resident_bytes(&server);
    for number in 0..OFTEN {
        let keys = format!(" {number}:k").repeat(1024);
        assert_eq!(client.ask(&format!("get{keys}\r\n")), "END");
    }
    let grown = resident_bytes(&server).saturating_sub(calm);
    assert!(grown > 8 << 20, "workers have numbers of their own: {grown}");
    assert!(grown < 12 << 20, "but no more than so many: {grown}");
    assert_eq!(client.ask("stats reset\r\n"), "RESET");
    wait_for("the memory to come back", || resident_bytes(&server).saturating_sub(calm) < 4 << 20);
}
