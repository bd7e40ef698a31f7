//! Certificates that are older than most, or not there, and do not keep the server from starting.

use std::fs;
use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use rustls::ALL_VERSIONS;

use crate::certificates::{Authority, client_config};
use crate::needs;
use crate::server::{Client, Directory, Server, run, said};
use crate::tls::{addresses, is_let_in, tls_options, write};

/// A certificate of X.509 version 1 and its key, in PEM.
const VERSION_1: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tls/version1.pem");

#[test]
fn a_certificate_of_version_1_is_served_to_those_who_trust_it() {
    if !needs::are_there(&[&needs::OPENSSL]) {
        return;
    }
    let option = format!("ssl_chain_cert={VERSION_1}");
    let server = Server::start(&["-Z", "-o", &option]);
    for version in ["-tls1_2", "-tls1_3"] {
        let mut client = Command::new("openssl")
            .args(["s_client", "-quiet", "-verify_return_error", "-CAfile", VERSION_1, version])
            .args(["-connect", &format!("127.0.0.1:{}", server.port)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        client.stdin.take().unwrap().write_all(b"set k 0 0 1\r\nv\r\nget k\r\nquit\r\n").unwrap();
        let mut told = String::new();
        client.stdout.take().unwrap().read_to_string(&mut told).unwrap();
        client.wait().unwrap();
        assert_eq!(told, "STORED\r\nVALUE k 0 1\r\nv\r\nEND\r\n", "{version}");
    }
}

#[test]
fn a_certificate_of_version_1_needs_its_own_key_and_has_to_be_whole() {
    let files = Directory::new();
    write(&files, &Authority::new("ours").identity());
    let options = |chain: &str| format!("ssl_chain_cert={chain},ssl_key={}", files.file("key.pem").display());
    let (code, words) = said(&run(&["-u", "root", "-l", "127.0.0.1", "-Z", "-o", &options(VERSION_1)]));
    assert!(code == Some(64) && words.contains("key values mismatch"), "{words}");
    // What ends early is no certificate of any version.
    let broken = files.file("broken.pem");
    fs::write(&broken, "-----BEGIN CERTIFICATE-----\nMIIBIzCBywIU\n-----END CERTIFICATE-----\n").unwrap();
    let broken = options(broken.to_str().unwrap());
    let (code, words) = said(&run(&["-u", "root", "-l", "127.0.0.1", "-Z", "-o", &broken]));
    assert!(code == Some(64) && words.contains("Error loading the certificate chain"), "{words}");
}

#[test]
fn where_nobodys_certificate_is_good_nobody_is_let_in_and_a_warning_says_so() {
    for (listener, mode, words) in [
        ("mtls:", "0", "-l (--listen) mtls:"),
        ("", "2", "ssl_verify_mode=2"),
        ("", "3", "ssl_verify_mode=3"),
    ] {
        let (files, authority) = (Directory::new(), Authority::new("ours"));
        write(&files, &authority.identity());
        let tls = tls_options(&files);
        let tls = format!("{},ssl_verify_mode={mode}", tls.split(",ssl_ca_cert").next().unwrap());
        let listeners = format!("{listener}127.0.0.1:0,notls:127.0.0.1:0");
        let server = Server::start_anywhere(&["-u", "root", "-Z", "-o", &tls, "-l", &listeners]);
        let [closed, plain] = addresses(&server)[..] else { panic!("two listeners") };
        for shown in [None, Some(&authority.identity())] {
            let config = client_config(&authority, shown, ALL_VERSIONS);
            assert!(!is_let_in(&config, closed), "{listener} {mode}");
        }
        let mut client = Client(BufReader::new(TcpStream::connect(plain).unwrap()));
        assert!(client.ask("version\r\n").starts_with("VERSION "), "the other listener serves");
        let log = server.log();
        assert!(log.contains("WARN") && log.contains(words) && log.contains("lets NOBODY in"), "{log}");
    }
}
