//! TLS: what `-Z`, the `ssl_` sub-options and the prefixes of `-l` ask for, and what they need.

use std::path::Path;

use ferrocached::settings::{TlsPrefix, TlsSettings, TlsVersion, VerifyMode};

use super::{config, settings, stop};

const CERTIFICATE: &str = "-Z -o ssl_chain_cert=/c.pem";

#[test]
fn tls_is_asked_for_with_the_words_of_memcached() {
    let tls = settings(
        "-Z -o ssl_chain_cert=/c.pem,ssl_key=/k.pem,ssl_ca_cert=/a.pem,ssl_verify_mode=2,ssl_min_version=3 \
         -o ssl_session_cache,ssl_keyformat=1,ssl_ciphers=HIGH,ssl_wbuf_size=4,ssl_kernel_tls",
    )
    .tls;
    let expected = TlsSettings {
        enabled: true,
        chain_cert: Some(Path::new("/c.pem").to_owned()),
        key: Some(Path::new("/k.pem").to_owned()),
        ca_cert: Some(Path::new("/a.pem").to_owned()),
        verify_mode: VerifyMode::Require,
        min_version: TlsVersion::V1_3,
        session_cache: true,
        ciphers: Some("HIGH".to_owned()),
        write_buffer_bytes: 4 << 10,
        kernel_tls: true,
    };
    assert_eq!(tls, expected);
    for (mode, expected) in
        [(0, VerifyMode::None), (1, VerifyMode::Request), (2, VerifyMode::Require), (3, VerifyMode::Once)]
    {
        let tls = settings(&format!("{CERTIFICATE},ssl_ca_cert=/a.pem,ssl_verify_mode={mode}")).tls;
        assert_eq!(tls.verify_mode, expected, "{mode}");
    }
}

#[test]
fn listeners_say_what_they_think_of_tls() {
    let line =
        format!("{CERTIFICATE},ssl_ca_cert=/a.pem -l notls:127.0.0.1:1,btls:[::1]:2,mtls:*,localhost:4");
    let listen = settings(&line).listen;
    let listen: Vec<_> = listen.iter().map(|entry| (entry.tls, entry.host.as_str(), entry.port)).collect();
    let expected = [
        (TlsPrefix::Notls, "127.0.0.1", Some(1)),
        (TlsPrefix::Btls, "::1", Some(2)),
        (TlsPrefix::Mtls, "*", None),
        (TlsPrefix::AsChosen, "localhost", Some(4)),
    ];
    assert_eq!(listen, expected);
    let mixed = settings(&format!("{CERTIFICATE} -l proto[ascii]:notls:localhost"));
    assert_eq!((mixed.listen[0].tls, mixed.listen[0].host.as_str()), (TlsPrefix::Notls, "localhost"));
}

#[test]
fn what_tls_lacks_stops_the_start() {
    for (line, exit_code, words) in [
        ("-Z", 64, "Error loading the certificate chain: -Z (--enable-ssl) needs one"),
        ("-Z -o ssl_key=/k.pem", 64, "Error loading the certificate chain"),
        ("-Z -p 0 -o ssl_chain_cert=/c.pem", 64, "ERROR: You cannot enable SSL without a TCP port"),
        ("-l notls:localhost", 71, "'notls' option is valid only when SSL is enabled"),
        ("-l btls:localhost", 71, "'btls' option is valid only when SSL is enabled"),
        ("-l mtls:localhost", 71, "'mtls' option is valid only when SSL is enabled"),
        ("-o ssl_verify_mode=4", 1, "Invalid ssl_verify_mode"),
        ("-o ssl_min_version=4", 1, "Invalid ssl_min_version"),
        ("-o ssl_keyformat=DER", 64, "-o ssl_keyformat DER: keys are read as PEM"),
        ("-o ssl_chain_cert", 1, "Missing ssl_chain_cert argument"),
    ] {
        let stop = stop(line);
        assert_eq!(stop.exit_code, exit_code, "{line}: {stop}");
        assert!(stop.message.starts_with(words), "{line}: {stop}");
    }
}

#[test]
fn what_is_less_than_was_asked_for_is_always_told() {
    for (line, words) in [
        ("-o ssl_chain_cert=/c.pem", "TLS is NOT spoken"),
        ("-o ssl_verify_mode=2", "TLS is NOT spoken"),
        ("-o ssl_min_version=3", "TLS is NOT spoken"),
        ("-Z -s /run/m.sock -o ssl_chain_cert=/c.pem", "no effect on a UNIX socket"),
        ("-Z -U 11211 -o ssl_chain_cert=/c.pem", "no effect on UDP"),
        ("-Z -o ssl_chain_cert=/c.pem,ssl_min_version=0", "ssl_min_version=0 means 2 here"),
        ("-Z -o ssl_chain_cert=/c.pem,ssl_min_version=1", "ssl_min_version=1 means 2 here"),
        ("-Z -o ssl_chain_cert=/c.pem,ssl_verify_mode=1", "no client certificate is asked for"),
        (
            "-Z -o ssl_chain_cert=/c.pem,ssl_verify_mode=2",
            "-o ssl_verify_mode=2 without ssl_ca_cert lets NOBODY",
        ),
        (
            "-Z -o ssl_chain_cert=/c.pem,ssl_verify_mode=3",
            "-o ssl_verify_mode=3 without ssl_ca_cert lets NOBODY",
        ),
        (
            "-Z -o ssl_chain_cert=/c.pem -l mtls:localhost",
            "-l (--listen) mtls: without ssl_ca_cert lets NOBODY",
        ),
        ("-Z -o ssl_chain_cert=/c.pem,ssl_ciphers=HIGH", "-o ssl_ciphers has no effect"),
    ] {
        let warnings = config(line).warnings;
        assert!(warnings.len() == 1 && warnings[0].contains(words), "{line}: {warnings:?}");
    }
    assert!(config(CERTIFICATE).warnings.is_empty());
}
