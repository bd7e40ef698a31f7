//! A limit on addresses (`ulimit -v`): the server says that they do not suffice, or it lives with them.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use crate::server::*;

/// How precisely the fewest addresses for a start are looked for, in KiB.
const STEP_KIB: u64 = 2_000;
/// Connections that are open at once.
const CONNECTIONS: usize = 300;

/// A server for 64 MB with so many KiB of addresses; or how its start ended.
fn start(kib: u64, options: &[&str]) -> Result<Server, (Option<i32>, String)> {
    let directory = Directory::new();
    let log = fs::File::create(directory.file("log")).unwrap();
    let ports = directory.file("ports");
    let child = Command::new("sh")
        .args([
            "-c",
            &format!("ulimit -v {kib}; exec {BINARY} -p -1 -l 127.0.0.1 -m 64 -u root \"$@\""),
            "sh",
        ])
        .args(options)
        .env("MEMCACHED_PORT_FILENAME", &ports)
        .stderr(log)
        .spawn()
        .unwrap();
    let mut server = Server { child, directory, port: 0 };
    let mut ended = None;
    wait_for("its start or its end", || {
        ended = server.child.try_wait().unwrap();
        ended.is_some() || ports.exists()
    });
    match ended {
        Some(status) => Err((status.code(), server.log())),
        None => {
            let text = fs::read_to_string(&ports).unwrap();
            server.port = text.trim().rsplit(' ').next().unwrap().parse().unwrap();
            Ok(server)
        }
    }
}

/// Has others hold as much of the server as they can.
fn attack(server: &Server) {
    let value = "v".repeat(900_000);
    for round in 0..3 {
        let mut crowd = Vec::new();
        for number in 0..CONNECTIONS {
            let Ok(stream) = TcpStream::connect(("127.0.0.1", server.port)) else { continue };
            stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
            let sent = match number % 6 {
                0 => format!("set k{number} 0 0 1000000\r\n{value}"),
                1 => format!(
                    "set k{number} 0 0 900000\r\n{value}\r\n{}",
                    format!("get k{number}\r\n").repeat(20)
                ),
                2 => format!("get{}\r\n", " k1 small1 none".repeat(5000)).repeat(3),
                3 => {
                    format!("stats detail on\r\nlru_crawler metadump all\r\n{}", "stats conns\r\n".repeat(50))
                }
                4 if number < 150 => "watch fetchers mutations evictions connevents\n".to_owned(),
                _ => (0..2000)
                    .map(|small| {
                        let prefix = format!("{round}{number}{small}{}", "p".repeat(200));
                        format!("set {prefix}:k 0 0 100 noreply\r\n{}\r\n", &value[..100])
                    })
                    .collect(),
            };
            // Whoever is closed as too slow, or finds no place, has done what it could.
            let _ = (&stream).write_all(sent.as_bytes());
            crowd.push(stream);
        }
    }
}

/// Checks how a start ended for want of addresses.
fn check_refusal(kib: u64, (code, log): &(Option<i32>, String)) {
    assert_eq!(*code, Some(71), "{kib}: {log}");
    assert!(!log.contains("panicked") && log.lines().count() == 1, "{kib}: {log}");
    assert!(log.contains("-m (--memory-limit)") && log.contains("ulimit -v"), "{kib}: {log}");
}

/// The fewest KiB with which it starts, but for [`STEP_KIB`].
fn fewest(options: &[&str]) -> u64 {
    // Less than the first, and the program itself cannot be loaded; with the last all is well.
    let (mut refused, mut started) = (40_000, 16_000_000);
    check_refusal(refused, &start(refused, options).err().expect("no start"));
    assert!(start(started, options).is_ok(), "a start");
    while started - refused > STEP_KIB {
        let middle = refused.midpoint(started);
        match start(middle, options) {
            Ok(_) => started = middle,
            Err(ended) => {
                check_refusal(middle, &ended);
                refused = middle;
            }
        }
    }
    started
}

#[test]
fn with_few_addresses_it_does_not_start_or_lives_through_what_clients_do() {
    for options in [&["-t", "4"][..], &["-t", "1", "-I", "8m"]] {
        let fewest = fewest(options);
        // Just enough for the smallest store, for that and a little, and for larger ones.
        for kib in [fewest, fewest + 50_000, fewest * 5 / 4, fewest * 3 / 2, 2 * fewest] {
            let mut server = start(kib, options).expect("more addresses than the fewest");
            attack(&server);
            assert!(server.child.try_wait().unwrap().is_none(), "{options:?} {kib}: {}", server.log());
            let mut client = server.connect();
            assert_eq!(client.ask("set k 0 0 1\r\nv\r\n"), "STORED", "{options:?} {kib}");
            assert!(!server.log().contains("panicked"), "{options:?} {kib}: {}", server.log());
        }
    }
}
