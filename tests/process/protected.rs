//! Protected mode: who is served by a server that was told neither where to listen nor whom to trust.

use std::fs;
use std::io::{BufReader, Write};
use std::net::TcpListener;

use rustls::ALL_VERSIONS;

use crate::certificates::{client_config, over};
use crate::network::in_own_network;
use crate::server::{Client, Directory, Server, wait_for};
use crate::systemd::handed;
use crate::tls::Guarded;

/// How many of those who were refused may linger.
const LINGERING_MAX: usize = 16;

const REFUSAL: &str = "SERVER_ERROR refused: your address is public, and this server was not told to serve public \
                       addresses (start it with -l, or better with -Y; in a container, with \
                       MEMCACHED_PROTECTED_MODE=no or -o no_protected_mode)";

#[test]
fn a_public_client_is_told_why_it_is_refused_and_what_it_asks_is_not_done() {
    in_own_network(|| {
        let server = Server::start_anywhere(&[]);
        for (from, to) in [
            ("198.51.100.7", "198.51.100.8"),
            ("198.51.100.7", "10.0.0.7"),
            ("198.51.100.7", "127.0.0.1"),
            ("2001:db8::7", "2001:db8::8"),
            ("2001:db8::7", "fd00::7"),
        ] {
            let mut client = server.connect_from(from, to);
            client.send("set a 0 0 1\r\n1\r\nget a\r\n");
            assert_eq!(client.line(), REFUSAL, "{from} to {to}");
            // It lingers for a while, so that this does not meet a reset; an end is all there is to read.
            client.0.get_mut().write_all(b"get a\r\n").unwrap();
            assert_eq!(client.line(), "", "{from} to {to}");
        }
        let mut inside = server.connect();
        assert_eq!(inside.stat("stats network\r\n", "rejected_public_connections").as_deref(), Some("5"));
        for (name, value) in
            [("rejected_connections", "0"), ("total_connections", "1"), ("cmd_set", "0"), ("cmd_get", "0")]
        {
            assert_eq!(inside.stat("stats\r\n", name).as_deref(), Some(value), "{name}");
        }
        assert_eq!(inside.ask("stats reset\r\n"), "RESET");
        assert_eq!(inside.stat("stats network\r\n", "rejected_public_connections").as_deref(), Some("0"));
        wait_for("the line", || server.log().contains("refused"));
        let log = server.log();
        let told: Vec<_> = log.lines().filter(|line| line.contains("refused")).collect();
        assert_eq!(told.len(), 1, "once a minute: {log}");
        assert!(told[0].contains("WARN") && told[0].contains("198.51.100.7:"), "{log}");
        for way in
            ["-l (--listen)", "-Y (--auth-file)", "-o no_protected_mode", "MEMCACHED_PROTECTED_MODE=no"]
        {
            assert!(told[0].contains(way), "{way}: {log}");
        }
    });
}

#[test]
fn this_machine_and_private_networks_are_served() {
    in_own_network(|| {
        let server = Server::start_anywhere(&[]);
        for (from, to) in [
            ("127.0.0.1", "127.0.0.1"),
            ("::1", "::1"),
            ("10.0.0.7", "10.0.0.8"),
            ("10.0.0.7", "198.51.100.7"),
            ("fd00::7", "fd00::8"),
            ("198.51.100.7", "198.51.100.7"),
            ("2001:db8::7", "2001:db8::7"),
        ] {
            let mut client = server.connect_from(from, to);
            assert!(client.ask("version\r\n").starts_with("VERSION "), "{from} to {to}");
        }
        assert!(!server.log().contains("refused"), "{}", server.log());
    });
}

#[test]
fn an_address_that_was_chosen_serves_everybody() {
    in_own_network(|| {
        for listen in ["0.0.0.0", "*", "198.51.100.8"] {
            let server = Server::start_anywhere(&["-l", listen]);
            let mut client = server.connect_from("198.51.100.7", "198.51.100.8");
            assert!(client.ask("version\r\n").starts_with("VERSION "), "{listen}");
        }
    });
}

#[test]
fn protected_mode_can_be_switched_off_by_an_option_and_by_a_variable() {
    in_own_network(|| {
        for (options, variable, is_served) in [
            (&["-o", "no_protected_mode"][..], None, true),
            (&[], Some("no"), true),
            (&[], Some("yes"), false),
            (&["-o", "protected_mode"], Some("no"), false),
        ] {
            let environment: Vec<_> =
                variable.map(|word| ("MEMCACHED_PROTECTED_MODE", word)).into_iter().collect();
            let server = Server::start_with(&environment, options);
            for (from, to) in [("198.51.100.7", "198.51.100.8"), ("2001:db8::7", "2001:db8::8")] {
                let mut client = server.connect_from(from, to);
                let line = if is_served { client.ask("set k 0 0 1\r\nv\r\n") } else { client.line() };
                assert_eq!(line, if is_served { "STORED" } else { REFUSAL }, "{options:?} {variable:?}");
            }
            wait_for("the first line", || server.log().contains("listens on"));
            assert_eq!(server.log().contains("for private addresses only"), !is_served, "{}", server.log());
        }
    });
}

#[test]
fn a_socket_for_every_address_that_is_handed_in_is_guarded_whatever_l_says() {
    in_own_network(|| {
        for (address, is_guarded) in [("0.0.0.0:0", true), ("198.51.100.8:0", false)] {
            let listener = TcpListener::bind(address).unwrap();
            let port = listener.local_addr().unwrap().port();
            // Debian's settings file has this one, for a socket that is not this one.
            let mut server = handed(listener, None, "$$", &["-l", "127.0.0.1"]);
            server.port = port;
            wait_for("the first line", || server.log().contains("(handed in"));
            let mut client = server.connect_from("198.51.100.7", "198.51.100.8");
            if is_guarded {
                assert_eq!(client.line(), REFUSAL);
            } else {
                assert!(client.ask("version\r\n").starts_with("VERSION "), "its unit has named the address");
            }
        }
    });
}

#[test]
fn a_server_that_asks_for_a_password_lets_everybody_try() {
    in_own_network(|| {
        let directory = Directory::new();
        fs::write(directory.file("users"), "ann:sesame\n").unwrap();
        let server = Server::start_anywhere(&["-u", "root", "-Y", directory.file("users").to_str().unwrap()]);
        for (from, to) in [("198.51.100.7", "198.51.100.8"), ("2001:db8::7", "2001:db8::8")] {
            let mut client = server.connect_from(from, to);
            assert_eq!(client.ask("get k\r\n"), "CLIENT_ERROR unauthenticated", "{from} to {to}");
            assert_eq!(client.ask("set auth 0 0 10\r\nann sesame\r\n"), "STORED", "{from} to {to}");
            assert_eq!(client.ask("get k\r\n"), "END", "{from} to {to}");
        }
        assert!(!server.log().contains("refused"), "{}", server.log());
    });
}

#[test]
fn tls_opens_a_server_only_where_it_requires_a_certificate() {
    in_own_network(|| {
        for (mode, is_open) in [("0", false), ("1", false), ("2", true), ("3", true)] {
            let guarded = Guarded::start_anywhere(&["-o", &format!("ssl_verify_mode={mode}")]);
            let identity = guarded.authority.identity();
            for (from, to) in [("198.51.100.7", "198.51.100.8"), ("2001:db8::7", "2001:db8::8")] {
                let mut plain = guarded.server.connect_from(from, to);
                if !is_open {
                    assert_eq!(plain.line(), REFUSAL, "mode {mode}, {from} to {to}");
                    continue;
                }
                let config = client_config(&guarded.authority, Some(&identity), ALL_VERSIONS);
                let mut client = Client(BufReader::new(over(&config, plain.0.into_inner()).unwrap()));
                assert!(client.ask("version\r\n").starts_with("VERSION "), "mode {mode}, {from} to {to}");
                // Who shows none is not let in, and not by protected mode.
                let config = client_config(&guarded.authority, None, ALL_VERSIONS);
                let plain = guarded.server.connect_from(from, to).0.into_inner();
                let mut client = Client(BufReader::new(over(&config, plain).unwrap()));
                let is_sent = client.0.get_mut().write_all(b"version\r\n").is_ok();
                assert_eq!(client.line_or_end(), "", "mode {mode}, {from} to {to}, {is_sent}");
            }
            wait_for("the first line", || guarded.server.log().contains("listens on"));
            let is_guarded = guarded.server.log().contains("for private addresses only");
            assert_eq!(is_guarded, !is_open, "{}", guarded.server.log());
        }
    });
}

#[test]
fn a_public_client_needs_no_place_to_be_refused_and_takes_none() {
    in_own_network(|| {
        let server = Server::start_anywhere(&["-c", "1", "-o", "no_maxconns_fast"]);
        let mut only = server.connect();
        assert!(only.ask("version\r\n").starts_with("VERSION "));
        let open = || std::fs::read_dir(format!("/proc/{}/fd", server.child.id())).unwrap().count();
        let calm = open();
        // More than may linger at once: the others are closed sooner, and told as well.
        let mut crowd: Vec<_> =
            (0..60).map(|_| server.connect_from("198.51.100.7", "198.51.100.8")).collect();
        for client in &mut crowd {
            assert_eq!(client.line(), REFUSAL);
        }
        // One more may have been told and is just being closed.
        let most = calm + LINGERING_MAX + 1;
        assert!(open() <= most, "{} descriptors, {calm} before", open());
        assert_eq!(only.stat("stats\r\n", "curr_connections").as_deref(), Some("1"));
        assert_eq!(only.stat("stats network\r\n", "rejected_public_connections").as_deref(), Some("60"));
        assert_eq!(only.stat("stats\r\n", "accepting_conns").as_deref(), Some("1"));
        wait_for("those who linger to be gone, though they do not close", || open() == calm);
        drop(crowd);
    });
}
