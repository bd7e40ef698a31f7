//! A log that nobody takes.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read};

use nix::sys::signal::Signal;

use crate::server::*;

/// How many times more than what may wait is logged.
const LOGGED_BYTES: usize = 8 << 20;

/// Has the server log some megabytes, and every request answered.
fn have_much_logged(server: &Server) {
    let mut client = server.connect();
    let value = "v".repeat(200);
    let mut logged = 0;
    for round in 0.. {
        let request = format!("set key{round} 0 0 200\r\n{value}\r\n");
        assert_eq!(client.ask(&request), "STORED");
        logged += request.len();
        if logged > LOGGED_BYTES {
            return;
        }
    }
}

#[test]
fn a_full_disk_behind_the_log_is_nobodys_business() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut server = Server::start_logging_to(full, &["-vv"]);
    have_much_logged(&server);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.exit_code(), Some(0));
}

#[test]
fn a_log_that_nobody_reads_holds_nobody_up_and_what_was_lost_is_told() {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut server = Server::start_logging_to(writer, &["-vv"]);
    have_much_logged(&server);
    // The lines that waited come first, then how many did not fit, then what is logged from now on.
    let mut reader = BufReader::new(reader);
    let mut line = String::new();
    while !line.contains("log lines were lost so far") {
        line.clear();
        assert_ne!(reader.read_line(&mut line).unwrap(), 0, "the log ended");
        assert!(line.starts_with("20") && line.ends_with('\n'), "a whole line: {line}");
    }
    server.connect().ask("get later\r\n");
    while !line.contains("get later") {
        line.clear();
        assert_ne!(reader.read_line(&mut line).unwrap(), 0, "the log ended");
    }
    server.signal(Signal::SIGTERM);
    assert_eq!(server.exit_code(), Some(0));
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    assert!(rest.ends_with("stopped\n"), "{rest}");
}

#[test]
fn a_log_that_nobody_reads_does_not_keep_the_server_from_its_end() {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut server = Server::start_logging_to(writer, &["-vv"]);
    have_much_logged(&server);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.exit_code(), Some(0));
    drop(reader);
}

#[test]
fn in_the_background_the_log_goes_on_to_its_last_line() {
    let directory = Directory::new();
    let (log, ports, pidfile) = (directory.file("log"), directory.file("ports"), directory.file("pid"));
    let status = std::process::Command::new(BINARY)
        .args(["-d", "-v", "-p", "-1", "-l", "127.0.0.1", "-P"])
        .arg(&pidfile)
        .env("MEMCACHED_PORT_FILENAME", &ports)
        .stderr(File::create(&log).unwrap())
        .status()
        .unwrap();
    assert!(status.success());
    wait_for("the pid file", || fs::read_to_string(&pidfile).is_ok_and(|pid| pid.ends_with('\n')));
    let pid = fs::read_to_string(&pidfile).unwrap().trim().parse().unwrap();
    wait_for("the first line", || log_contains(&log, "listens on"));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    wait_for("the last line", || log_contains(&log, " stopped\n"));
}
