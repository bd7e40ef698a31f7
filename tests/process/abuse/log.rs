//! A log that nobody takes.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read};
use std::process::Command;

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;

use super::Calm;
use super::normal::Normal;
use crate::needs;
use crate::network::in_own;
use crate::server::*;

/// How much is logged at least, in bytes: many times more than may wait.
const LOGGED_BYTES: usize = 8 << 20;
/// How much RSS may grow for it, in bytes: the 2 MB that are stated, and what the allocator holds back.
const GROWTH_BYTES_MAX: u64 = 4 << 20;

/// Has the server log some megabytes, and every request answered, those of a normal client too.
fn have_much_logged(server: &Server) {
    let mut normal = Normal::new(server);
    let mut client = server.connect();
    let calm = Calm::of(server);
    let value = "v".repeat(200);
    let mut logged = 0;
    for round in 0.. {
        let request = format!("set key{} 0 0 200\r\n{value}\r\n", round % 1000);
        assert_eq!(client.ask(&request), "STORED");
        logged += request.len();
        if round % 100 == 0 {
            normal.work();
        }
        if logged > LOGGED_BYTES {
            break;
        }
    }
    calm.check_memory(server, GROWTH_BYTES_MAX);
    normal.find_all();
}

#[test]
fn a_full_disk_behind_the_log_is_nobodys_business() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut server = Server::start_logging_to(full, &["-vv"]);
    have_much_logged(&server);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.exit_code(), Some(0));
}

/// Has `directory` be a small disk, for the calling thread and the processes it starts.
fn mount_small_disk(directory: &Directory) -> Result<(), String> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(|errno| format!("unshare: {errno}"))?;
    let mount = |arguments: &[&str]| match Command::new("mount").args(arguments).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("mount {arguments:?} ended with {status}")),
        Err(error) => Err(format!("mount (of util-linux): {error}")),
    };
    mount(&["--make-rprivate", "/"])?;
    let path = directory.0.display().to_string();
    mount(&["-t", "tmpfs", "-o", "size=128k", "log", &path])
}

#[test]
fn a_disk_that_has_room_again_gets_the_log_again_and_is_told_what_was_lost() {
    if !needs::are_there(&[&needs::ROOT, &needs::UTIL_LINUX]) {
        return;
    }
    let directory = Directory::new();
    in_own(
        || mount_small_disk(&directory),
        || {
            let file = directory.file("log");
            let log = OpenOptions::new().create(true).append(true).open(&file).unwrap();
            let mut server = Server::start_logging_to(log, &["-u", "root", "-vv"]);
            have_much_logged(&server);
            assert!(!log_contains(&file, "log lines were lost so far"), "there is room for nothing");

            // It is emptied, as by logrotate's copytruncate.
            File::create(&file).unwrap();
            let mut client = server.connect();
            wait_for("the log to go on", || {
                assert_eq!(client.ask("get later\r\n"), "END");
                let log = fs::read_to_string(&file).unwrap();
                log.contains("log lines were lost so far") && log.contains("get later")
            });
            server.signal(Signal::SIGTERM);
            assert_eq!(server.exit_code(), Some(0));
            assert!(fs::read_to_string(&file).unwrap().ends_with("stopped\n"));
        },
    );
}

#[test]
fn a_log_that_is_as_long_as_its_limit_allows_is_a_full_disk_and_no_end() {
    let directory = Directory::new();
    let file = directory.file("log");
    let log = OpenOptions::new().create(true).append(true).open(&file).unwrap();
    // In pieces of 512 bytes, as POSIX has them.
    let mut server = Server::start_under("-f 256", directory, log, &["-u", "root", "-vv"]);
    have_much_logged(&server);
    assert_eq!(fs::metadata(&file).unwrap().len(), 256 << 9);
    File::create(&file).unwrap();
    let mut client = server.connect();
    wait_for("the log to go on", || {
        assert_eq!(client.ask("get later\r\n"), "END");
        let log = fs::read_to_string(&file).unwrap();
        log.contains("log lines were lost so far") && log.contains("get later")
    });
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
    let status = Command::new(BINARY)
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
