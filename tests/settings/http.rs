//! `--http` beside `-l`, `--healthcheck`, and the variables of a watchdog.

use ferrocached::settings::TlsPrefix;

use super::{config, config_with, parsed, settings};

#[test]
fn http_keeps_to_the_addresses_of_l_where_sockets_are_handed_in() {
    let mut settings =
        settings("-l notls:127.0.0.1:1,10.0.0.1,127.0.0.1:2 -Z -o ssl_chain_cert=x --http=9150");
    settings.forget_addresses();
    let http = settings.http.unwrap();
    let found: Vec<_> =
        http.listen.iter().map(|address| (&*address.host, address.port, address.tls)).collect();
    assert_eq!(found, [("127.0.0.1", None, TlsPrefix::Notls), ("10.0.0.1", None, TlsPrefix::AsChosen)]);
}

#[test]
fn help_is_still_help_and_a_healthcheck_may_say_where() {
    for line in ["--h", "--he", "--hel", "--help", "-h"] {
        let shown = parsed(line, &[]).map(|parsed| matches!(parsed, ferrocached::config::Parsed::Show(_)));
        assert_eq!(shown, Ok(true), "{line}");
    }
    assert_eq!(config("").healthcheck, None);
    assert_eq!(config("--healthcheck").healthcheck.as_deref(), Some(""));
    assert_eq!(config("--healthcheck -p 7").healthcheck.as_deref(), Some(""));
    assert_eq!(config("--healthcheck=cache:7").healthcheck.as_deref(), Some("cache:7"));
}

#[test]
fn a_watchdog_wants_a_number_of_microseconds() {
    for (text, expected) in
        [("30000000", Some(30_000_000)), ("0", None), ("", None), ("soon", None), ("-1", None)]
    {
        let variables = [("WATCHDOG_USEC", text), ("WATCHDOG_PID", "12")];
        let process = config_with("", &variables).process;
        assert_eq!((process.watchdog_us, process.watchdog_pid), (expected, Some(12)), "{text:?}");
    }
}
