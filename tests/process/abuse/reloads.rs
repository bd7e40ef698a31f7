//! Certificates that are replaced by something that cannot be used.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::Signal;

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

fn put(files: &Directory, name: &str, text: String) {
    fs::write(files.file(name), text).unwrap();
}

fn forbid(files: &Directory, name: &str) {
    fs::set_permissions(files.file(name), fs::Permissions::from_mode(0o000)).unwrap();
}

#[test]
fn certificates_that_cannot_be_used_are_nobodys_business() {
    // Root could read everything.
    let guarded = Guarded::start(&["-u", "nobody"]);
    for name in ["chain.pem", "key.pem", "ca.pem"] {
        fs::set_permissions(guarded.files.file(name), fs::Permissions::from_mode(0o666)).unwrap();
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
        let _ = fs::set_permissions(guarded.files.file("key.pem"), fs::Permissions::from_mode(0o666));
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
