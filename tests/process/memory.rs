//! What clients can make it keep, and locked memory.

use std::fs;
use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

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

#[test]
fn too_few_addresses_are_told_with_exit_code_71() {
    let mut refused = 0;
    let mut started = 0;
    // In KiB. Less than the first, and the program itself cannot be loaded; the last suffices for -m 64.
    for limit in [40_000, 80_000, 160_000, 300_000, 500_000, 1_000_000, 4_000_000, 8_000_000, 16_000_000] {
        let directory = Directory::new();
        let log = fs::File::create(directory.file("log")).unwrap();
        let ports = directory.file("ports");
        let child = Command::new("sh")
            .args(["-c", &format!("ulimit -v {limit}; exec {BINARY} -p -1 -l 127.0.0.1 -m 64 -u root")])
            .env("MEMCACHED_PORT_FILENAME", &ports)
            .stderr(log)
            .spawn()
            .unwrap();
        let mut server = Server { child, directory, port: 0 };
        let mut status = None;
        wait_for("its start or its end", || {
            status = server.child.try_wait().unwrap();
            status.is_some() || ports.exists()
        });
        let log = server.log();
        assert!(!log.contains("panicked"), "{limit}: {log}");
        match status {
            None => started += 1,
            Some(status) => {
                assert_eq!(status.code(), Some(71), "{limit}: {status}: {log}");
                assert_eq!(started, 0, "{limit}: with fewer it started");
                assert!(log.contains("-m (--memory-limit)") && log.contains("ulimit -v"), "{limit}: {log}");
                refused += 1;
            }
        }
    }
    assert!(refused > 2 && started > 0, "{refused} refused, {started} started");
}
