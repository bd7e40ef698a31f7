//! What the process may still do once it runs: the system calls that are left, and the user it is.

use std::env;
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, execve};

use ferrocached::process::restrict_system_calls;

use crate::needs;
use crate::server::*;

/// The value of one line of `/proc/<pid>/task/<tid>/status`, for each thread.
fn of_every_thread(server: &Server, name: &str) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", server.child.id())).unwrap();
    let statuses = tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("status")).ok());
    let values = statuses.map(|status| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {name} in {status}")).trim().to_owned()
    });
    values.collect()
}

fn restricted(options: &[&str]) -> Server {
    let server = Server::start(&[&["-o", "drop_privileges"], options].concat());
    wait_for("the filter", || server.log().contains("only the system calls"));
    server
}

#[test]
fn every_thread_is_restricted_and_those_to_come() {
    let server = restricted(&["-t", "3"]);
    let mut client = server.connect();
    assert_eq!(client.stat("stats settings\r\n", "drop_privileges").as_deref(), Some("yes"));
    // The blocking pool has threads by now, for the time is kept on it.
    wait_for("the threads", || of_every_thread(&server, "Seccomp").len() >= 5);
    for (name, value) in [("Seccomp", "2"), ("NoNewPrivs", "1")] {
        let values = of_every_thread(&server, name);
        assert!(values.iter().all(|found| found == value), "{name}: {values:?}");
    }
    let server = Server::start(&["-o", "drop_privileges,no_drop_privileges"]);
    assert_eq!(server.connect().stat("stats settings\r\n", "drop_privileges").as_deref(), Some("no"));
    // What runs these tests may be restricted itself.
    let own = fs::read_to_string("/proc/self/status").unwrap();
    for value in of_every_thread(&server, "Seccomp") {
        assert!(own.contains(&format!("\nSeccomp:\t{value}\n")), "{value}");
    }
}

#[test]
fn a_restricted_server_serves_reloads_and_stops() {
    let directory = Directory::new();
    let pidfile = directory.file("pid");
    let mut server = restricted(&["-A", "-vv", "-P", pidfile.to_str().unwrap()]);
    let mut client = server.connect();
    let value = "v".repeat(900_000);
    for round in 0..100 {
        assert_eq!(client.ask(&format!("set big{round} 0 1 {}\r\n{value}\r\n", value.len())), "STORED");
    }
    client.send("lru_crawler metadump all\r\n");
    while client.line() != "END" {}
    assert_eq!(client.ask("cache_memlimit 16\r\n"), "OK");
    assert_eq!(client.ask("flush_all\r\n"), "OK");
    server.signal(Signal::SIGHUP);
    wait_for("the reload", || server.log().contains("SIGHUP"));
    client.send("shutdown graceful\r\n");
    assert!(client.is_closed());
    assert_eq!(server.exit_code(), Some(0), "{}", server.log());
}

#[test]
fn a_restricted_server_removes_its_files() {
    let directory = Directory::new();
    let (path, pidfile) = (directory.file("socket"), directory.file("pid"));
    let status = Command::new(BINARY)
        .args(["-d", "-u", "root", "-o", "drop_privileges", "-s"])
        .arg(&path)
        .arg("-P")
        .arg(&pidfile)
        .status()
        .unwrap();
    assert!(status.success());
    wait_for("the socket", || UnixStream::connect(&path).is_ok() && pidfile.exists());
    let pid = fs::read_to_string(&pidfile).unwrap().trim().parse().unwrap();
    kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    wait_for("the files to go", || !path.exists() && !pidfile.exists());
}

/// Names the deed that this very test, started as a process of its own, is to do.
const DEED: &str = "FERROCACHED_TEST_DEED";

/// What somebody who took a server over might try, each the end of it.
const FORBIDDEN: [(&str, fn()); 12] = [
    ("start a program", || {
        let program = CString::new("/bin/true").unwrap();
        let _ = execve(&program, &[&program], &[] as &[CString]);
    }),
    ("start a program by spawning", || drop(Command::new("/bin/true").spawn())),
    ("make a TCP socket", || drop(TcpListener::bind("127.0.0.1:0"))),
    ("connect somewhere", || drop(TcpStream::connect("127.0.0.1:1"))),
    ("make a UDP socket", || drop(UdpSocket::bind("127.0.0.1:0"))),
    ("make a UNIX socket", || drop(UnixStream::connect("/run/nobody"))),
    ("open a file for writing", || drop(OpenOptions::new().write(true).open("/dev/null"))),
    ("create a file", || drop(File::create("/tmp/ferrocached-not-to-be-made"))),
    ("append to a file", || drop(OpenOptions::new().append(true).open("/dev/null"))),
    ("rename a file", || drop(fs::rename("/nonexistent", "/nonexistent/too"))),
    ("raise a limit", || {
        let (soft, hard) = getrlimit(Resource::RLIMIT_CORE).unwrap();
        let _ = setrlimit(Resource::RLIMIT_CORE, soft, hard);
    }),
    ("signal another process", || kill(Pid::from_raw(1), None).unwrap()),
];

/// What goes on under the filter, each without harm.
const ALLOWED: [(&str, fn()); 4] = [
    ("nothing", || {}),
    ("read a file", || {
        let mut text = String::new();
        File::open("/etc/passwd").unwrap().read_to_string(&mut text).unwrap();
        assert!(fs::metadata("/etc/passwd").unwrap().len() > 0 && !text.is_empty());
    }),
    ("start a thread", || std::thread::spawn(|| sleep(Duration::from_millis(1))).join().unwrap()),
    ("panic with a backtrace", || {
        let caught = std::panic::catch_unwind(|| panic!("{}", std::backtrace::Backtrace::force_capture()));
        assert!(caught.is_err());
    }),
];

/// Has a process of its own restrict itself as the server does, and then do the deed. Says which signal ended it.
fn ended_by(deed: &str) -> Option<i32> {
    let mut child: Child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "privileges::forbidden_deeds_are_the_end", "--nocapture"])
        .env(DEED, deed)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let status = child.wait().unwrap();
    assert!(status.success() || status.signal().is_some(), "{deed}: {status}");
    status.signal()
}

#[test]
fn forbidden_deeds_are_the_end() {
    if let Ok(wanted) = env::var(DEED) {
        let (_, deed) = FORBIDDEN.iter().chain(&ALLOWED).find(|(name, _)| *name == wanted).unwrap();
        assert_eq!(restrict_system_calls().unwrap(), None, "there is a filter for this processor");
        return deed();
    }
    for (deed, _) in FORBIDDEN {
        assert_eq!(ended_by(deed), Some(Signal::SIGSYS as i32), "{deed}");
    }
    for (deed, _) in ALLOWED {
        assert_eq!(ended_by(deed), None, "{deed}");
    }
}

/// What `id` says with `option` of a user.
fn id(option: &str, user: &str) -> String {
    let output = Command::new("id").args([option, user]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn what_root_had_is_gone_for_good_in_every_thread() {
    if !needs::are_there(&[&needs::ROOT, &needs::UTIL_LINUX]) {
        return;
    }
    let directory = Directory::new();
    let (ports, log) = (directory.file("ports"), directory.file("log"));
    // With supplementary groups, and with a capability that would be handed on.
    let child = Command::new("setpriv")
        .args(["--groups", "0,1,2,3", "--inh-caps=+chown", "--ambient-caps=+chown", BINARY])
        .args(["-p", "-1", "-l", "127.0.0.1", "-u", "nobody"])
        .env("MEMCACHED_PORT_FILENAME", &ports)
        .stderr(File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let mut server = Server { child, directory, port: 0 };
    wait_for("the port file", || {
        assert!(server.child.try_wait().unwrap().is_none(), "it ended at once: {}", server.log());
        ports.exists()
    });
    server.port = fs::read_to_string(&ports).unwrap().trim().rsplit_once(": ").unwrap().1.parse().unwrap();
    assert!(server.connect().ask("version\r\n").starts_with("VERSION "));
    wait_for("the threads", || of_every_thread(&server, "Uid").len() >= 6);
    let (uid, gid) = (id("-u", "nobody"), id("-g", "nobody"));
    let no_capabilities = "0".repeat(16);
    for (name, wanted) in [
        // Real, effective, saved, and that of the file system.
        ("Uid", vec![uid.as_str(); 4]),
        ("Gid", vec![gid.as_str(); 4]),
        ("Groups", vec![]),
        ("CapPrm", vec![no_capabilities.as_str()]),
        ("CapEff", vec![no_capabilities.as_str()]),
        ("CapAmb", vec![no_capabilities.as_str()]),
    ] {
        for found in of_every_thread(&server, name) {
            assert_eq!(found.split_whitespace().collect::<Vec<_>>(), wanted, "{name}");
        }
    }
}

#[test]
fn groups_that_cannot_be_given_up_are_told() {
    if !needs::are_there(&[&needs::ROOT, &needs::UTIL_LINUX]) {
        return;
    }
    let directory = Directory::new();
    let log = directory.file("log");
    let child = Command::new("setpriv")
        .args(["--groups", "1,2", "--inh-caps=-all", "--bounding-set=-setgid", BINARY])
        .args(["-p", "-1", "-l", "127.0.0.1", "-u", "root"])
        .stderr(File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let server = Server { child, directory, port: 0 };
    wait_for("the first line", || log_contains(&log, "listens on"));
    let log = server.log();
    assert!(log.contains("WARN") && log.contains("groups 1, 2 stay"), "{log}");
}

#[test]
fn root_cannot_be_had_back() {
    if !needs::are_there(&[&needs::ROOT, &needs::UTIL_LINUX]) {
        return;
    }
    if env::var(DEED).is_ok_and(|deed| deed == "become nobody") {
        ferrocached::process::become_user(Some("nobody")).unwrap();
        let root = nix::unistd::Uid::from_raw(0);
        assert!(nix::unistd::setuid(root).is_err() && nix::unistd::seteuid(root).is_err());
        assert!(nix::unistd::setresuid(root, root, root).is_err());
        assert!(nix::unistd::setgid(nix::unistd::Gid::from_raw(0)).is_err());
        assert!(nix::unistd::setgroups(&[nix::unistd::Gid::from_raw(0)]).is_err());
        assert!(File::open("/etc/shadow").is_err());
        return;
    }
    let status = Command::new(env::current_exe().unwrap())
        .args(["--exact", "privileges::root_cannot_be_had_back", "--nocapture"])
        .env(DEED, "become nobody")
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
}

#[test]
fn without_root_a_user_to_become_is_ignored() {
    let directory = Directory::new();
    let ports = directory.file("ports");
    let is_root = nix::unistd::geteuid().is_root();
    if is_root && !needs::are_there(&[&needs::UTIL_LINUX]) {
        return;
    }
    let mut command = Command::new(if is_root { "setpriv" } else { "env" });
    if is_root {
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    }
    let child = command
        .args([BINARY, "-p", "-1", "-l", "127.0.0.1", "-u", "nobody-of-this-name"])
        .env("MEMCACHED_PORT_FILENAME", &ports)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut server = Server { child, directory, port: 0 };
    wait_for("the port file", || {
        assert!(server.child.try_wait().unwrap().is_none(), "it ended at once");
        ports.exists()
    });
}
