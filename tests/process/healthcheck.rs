//! `ferrocached --healthcheck`: what it says of a server, over each transport; and the watchdog of a service manager.

use std::fs;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;

use crate::certificates::Authority;
use crate::login::SLOW;
use crate::server::*;

/// Exit code and words of a check with these options and variables.
fn check(environment: &[(&str, &str)], options: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(BINARY).envs(environment.iter().copied()).args(options).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).unwrap();
    assert_eq!(said.lines().count(), 1, "one line: {said:?}");
    (output.status.code(), said.trim_end().to_owned())
}

fn check_port(server: &Server, options: &[&str]) -> (Option<i32>, String) {
    let port = server.port.to_string();
    check(&[], &[&["--healthcheck", &port], options].concat())
}

#[test]
fn over_tcp() {
    let server = Server::start(&[]);
    let (code, said) = check_port(&server, &[]);
    assert_eq!((code, said), (Some(0), format!("127.0.0.1:{} serves", server.port)));
    assert_eq!(check(&[], &["-p", &server.port.to_string(), "--healthcheck"]).0, Some(0), "by its options");
    let ports = server.directory.file("ports").display().to_string();
    assert_eq!(check(&[("MEMCACHED_PORT_FILENAME", &ports)], &["-p", "-1", "--healthcheck"]).0, Some(0));
    assert_eq!(check(&[("MEMCACHED_PORT", &server.port.to_string())], &["--healthcheck"]).0, Some(0));
    let binary = Server::start(&["-B", "binary"]);
    assert_eq!(check_port(&binary, &["-B", "binary"]).0, Some(0));
}

#[test]
fn a_server_that_is_not_there_or_another_is_not_healthy() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let (code, said) = check(&[], &["--healthcheck", &port]);
    assert_eq!(code, Some(1), "nobody answers: {said}");
    drop(listener);
    let (code, said) = check(&[], &["--healthcheck", &port]);
    assert_eq!(code, Some(1));
    assert!(said.contains("refused"), "{said}");
    let (code, said) = check(&[], &["--healthcheck=/nonexistent"]);
    assert_eq!((code, said.contains("No such file")), (Some(1), true), "{said}");
    assert_eq!(check(&[], &["--healthcheck=nowhere"]).0, Some(1));
}

#[test]
fn a_server_that_is_stopped_is_not_healthy() {
    let server = Server::start(&[]);
    server.signal(Signal::SIGSTOP);
    let (code, said) = check_port(&server, &[]);
    server.signal(Signal::SIGCONT);
    assert_eq!(code, Some(1), "{said}");
}

#[test]
fn a_full_server_is_healthy() {
    let server = Server::start(&["-c", "1"]);
    let mut client = server.connect();
    assert_eq!(client.ask("get a\r\n"), "END");
    let (code, said) = check_port(&server, &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.ends_with("as many connections as -c allows"), "{said}");
}

#[test]
fn over_a_unix_socket() {
    let directory = Directory::new();
    let path = directory.file("socket");
    let (mut child, _client) = on_unix_socket(&path);
    let place = path.display().to_string();
    assert_eq!(check(&[], &["-s", &place, "--healthcheck"]), (Some(0), format!("{place} serves")));
    assert_eq!(check(&[], &["--healthcheck", &place]).0, Some(0));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(check(&[], &["--healthcheck", &place]).0, Some(1));
}

#[test]
fn with_a_login() {
    let directory = Directory::new();
    fs::write(directory.file("users"), format!("ann:{SLOW}\nbob:sesame\n")).unwrap();
    let server = Server::start(&["-Y", &directory.file("users").display().to_string()]);
    fs::write(directory.file("password"), "sesame\n").unwrap();
    let password_file = directory.file("password").display().to_string();
    let port = server.port.to_string();
    let arguments = ["--healthcheck", &port];
    for (variables, code, words) in [
        (&[][..], 0, "serves clients that log in"),
        (&[("MEMCACHED_USERNAME", "bob"), ("MEMCACHED_PASSWORD", "sesame")], 0, "has let this user in"),
        (&[("MEMCACHED_USERNAME", "ann"), ("MEMCACHED_PASSWORD", "password")], 0, "has let this user in"),
        (
            &[("MEMCACHED_USERNAME", "bob"), ("MEMCACHED_PASSWORD_FILE", &password_file)],
            0,
            "has let this user in",
        ),
        (&[("MEMCACHED_USERNAME", "bob"), ("MEMCACHED_PASSWORD", "open")], 1, "does not let this user in"),
    ] {
        let (found, said) = check(variables, &arguments);
        assert_eq!(found, Some(code), "{said}");
        assert!(said.contains(words), "{said}");
        assert!(!said.contains("sesame"), "{said}");
    }
}

#[test]
fn a_password_is_not_told_to_a_server_that_asks_for_none() {
    let server = Server::start(&[]);
    let variables = [("MEMCACHED_USERNAME", "bob"), ("MEMCACHED_PASSWORD", "sesame")];
    assert_eq!(check(&variables, &["--healthcheck", &server.port.to_string()]).0, Some(0));
    let mut client = server.connect();
    assert_eq!(client.ask("get auth\r\n"), "END");
    assert_eq!(client.stat("stats\r\n", "cmd_set").as_deref(), Some("0"));
}

/// Writes the files of an identity, and the options that name them.
fn tls_options(directory: &Path, authority: &Authority) -> String {
    let identity = authority.identity();
    let path = |name| directory.join(name).display().to_string();
    fs::write(path("chain.pem"), identity.certificate).unwrap();
    fs::write(path("key.pem"), identity.key).unwrap();
    fs::write(path("issuers.pem"), &authority.certificate).unwrap();
    format!("ssl_chain_cert={},ssl_key={}", path("chain.pem"), path("key.pem"))
}

#[test]
fn over_tls() {
    let (files, strange) = (Directory::new(), Directory::new());
    let authority = Authority::new("ours");
    let suboptions = tls_options(&files.0, &authority);
    let others = tls_options(&strange.0, &Authority::new("theirs"));
    let variables = [("MEMCACHED_USERNAME", "bob"), ("MEMCACHED_PASSWORD", "sesame")];
    let server = Server::start_with(&variables, &["-l", "127.0.0.1", "-Z", "-o", &suboptions]);
    let port = server.port.to_string();
    let (code, said) = check(&variables, &["-Z", "-o", &suboptions, "--healthcheck", &port]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.ends_with("has let this user in"), "{said}");
    let (code, said) = check(&variables, &["-Z", "-o", &others, "--healthcheck", &port]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.ends_with("serves clients that log in"), "the password stays here: {said}");
    assert_eq!(check(&variables, &["--healthcheck", &port]).0, Some(1), "it speaks TLS alone");

    let mutual =
        format!("{suboptions},ssl_verify_mode=2,ssl_ca_cert={}", files.file("issuers.pem").display());
    let server = Server::start(&["-Z", "-o", &mutual]);
    for options in [&mutual, &others] {
        let (code, said) = check_port(&server, &["-Z", "-o", options]);
        assert_eq!(code, Some(0), "{said}");
    }
}

#[test]
fn a_watchdog_hears_from_the_server_until_it_is_stuck() {
    let name = format!("ferrocached-watchdog-{}", std::process::id());
    let listener = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    listener.set_read_timeout(Some(PATIENCE)).unwrap();
    let hear = || {
        let mut buffer = [0; 1000];
        let length = listener.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let place = format!("@{name}");
    let variables = [("NOTIFY_SOCKET", &*place), ("WATCHDOG_USEC", "200000")];
    let server = Server::start_with(&variables, &["-l", "127.0.0.1"]);
    assert!(hear().starts_with("READY=1"));
    for _ in 0..3 {
        assert_eq!(hear(), "WATCHDOG=1\n");
    }
    drop(server);
    while listener.set_nonblocking(true).is_ok() && listener.recv(&mut [0; 100]).is_ok() {}
    listener.set_nonblocking(false).unwrap();
    // Meant for another process.
    let variables = [("NOTIFY_SOCKET", &*place), ("WATCHDOG_USEC", "1000"), ("WATCHDOG_PID", "1")];
    let server = Server::start_with(&variables, &["-l", "127.0.0.1"]);
    assert!(hear().starts_with("READY=1"));
    server.signal(Signal::SIGTERM);
    assert_eq!(hear(), "STOPPING=1\n");
}
