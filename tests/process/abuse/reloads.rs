//! Certificates that are replaced by something that cannot be used.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::Signal;

use super::Calm;
use super::normal::Normal;
use crate::certificates::Authority;
use crate::server::*;
use crate::tls::{Guarded, write};

/// The ways to spoil the files, and what of it the server complains about.
type Spoil = fn(&Directory, &Authority);
const SPOILS: [(&str, Spoil, &str); 4] = [
    ("garbage", |files, _| put(files, "chain.pem", "\0garbage \u{fffd}".repeat(1000)), "certificate chain"),
    (
        "half a file",
        |files, authority| {
            let whole = authority.identity().certificate;
            put(files, "chain.pem", whole[..whole.len() / 2].to_owned());
        },
        "certificate chain",
    ),
    (
        "a pair that does not match",
        |files, authority| {
            put(files, "chain.pem", authority.identity().certificate);
            put(files, "key.pem", authority.identity().key);
        },
        "key",
    ),
    ("a file that is not the server's to read", |files, _| forbid(files, "key.pem"), "key"),
];

/// How often certificates that cannot be used are read again and again.
const LOADS: usize = 400;
/// How much RSS may have grown behind them, in bytes: nothing of them is kept.
const GROWTH_BYTES_MAX: u64 = 4 << 20;

fn put(files: &Directory, name: &str, text: String) {
    allow(files, name);
    fs::write(files.file(name), text).unwrap();
}

/// Lets everybody read and write a file again.
fn allow(files: &Directory, name: &str) {
    fs::set_permissions(files.file(name), fs::Permissions::from_mode(0o666)).unwrap();
}

fn forbid(files: &Directory, name: &str) {
    fs::set_permissions(files.file(name), fs::Permissions::from_mode(0o000)).unwrap();
}

#[test]
fn certificates_that_cannot_be_used_are_nobodys_business() {
    // Root could read everything.
    let guarded = Guarded::start(&["-u", "nobody"]);
    for name in ["chain.pem", "key.pem", "ca.pem"] {
        allow(&guarded.files, name);
    }
    let mut normal = Normal::over(guarded.client());
    let mut operator = guarded.client();
    let mut in_force = guarded.shown();
    for (what, spoil, complaint) in SPOILS {
        let told = |words: &str| guarded.server.log().matches(words).count();
        let before = [told("the certificates could not be read again"), told("the old ones stay in force")];
        let errors = operator.stat("stats\r\n", "ssl_handshake_errors");

        spoil(&guarded.files, &guarded.authority);
        let answer = operator.ask("refresh_certs\r\n");
        assert!(answer.starts_with(&format!("Error loading the {complaint}: ")), "{what}: {answer}");
        guarded.server.signal(Signal::SIGHUP);
        let mut newcomers = 0;
        wait_for("the log to tell of SIGHUP, and of the look that nobody asked for", || {
            normal.work();
            assert_eq!(guarded.shown(), in_force, "{what}");
            newcomers += 1;
            told("the certificates could not be read again") == before[0] + 1
                && told("the old ones stay in force") == before[1] + 1
        });
        assert!(newcomers > 1, "{what}: somebody came after SIGHUP");
        normal.find_all();
        assert_eq!(operator.stat("stats\r\n", "ssl_handshake_errors"), errors, "{what}");

        // Good ones are taken, whoever asks for it, and if nobody does.
        allow(&guarded.files, "key.pem");
        write(&guarded.files, &guarded.authority.identity());
        match what {
            "half a file" => guarded.server.signal(Signal::SIGHUP),
            "a pair that does not match" => {}
            _ => assert_eq!(operator.ask("refresh_certs\r\n"), "OK"),
        }
        wait_for("the good certificates to be shown", || {
            normal.work();
            guarded.shown() != in_force
        });
        in_force = guarded.shown();
        normal.find_all();
    }
}

#[test]
fn whatever_is_read_in_vain_again_and_again_leaves_nothing_behind() {
    let guarded = Guarded::start(&["-u", "nobody"]);
    for name in ["chain.pem", "key.pem", "ca.pem"] {
        allow(&guarded.files, name);
    }
    let mut normal = Normal::over(guarded.client());
    let mut operator = guarded.client();
    let in_force = guarded.shown();
    let mut load_in_vain = |number: usize| {
        let (what, spoil, _) = SPOILS[number % SPOILS.len()];
        spoil(&guarded.files, &guarded.authority);
        let answer = operator.ask("refresh_certs\r\n");
        assert!(answer.starts_with("Error loading the "), "{what}: {answer}");
        if number.is_multiple_of(10) {
            guarded.server.signal(Signal::SIGHUP);
        }
        normal.work();
    };
    // So that what is taken once and for all is taken.
    (0..LOADS / 10).for_each(&mut load_in_vain);
    let calm = Calm::of(&guarded.server);
    (0..LOADS).for_each(&mut load_in_vain);
    calm.check_memory(&guarded.server, GROWTH_BYTES_MAX);
    calm.wait_for_descriptors(&guarded.server);
    assert_eq!(guarded.shown(), in_force);

    allow(&guarded.files, "key.pem");
    write(&guarded.files, &guarded.authority.identity());
    assert_eq!(operator.ask("refresh_certs\r\n"), "OK");
    assert_ne!(guarded.shown(), in_force);
    normal.find_all();
}
