//! The settings file, the environment, and which of them wins.

use std::io::ErrorKind;
use std::path::Path;

use ferrocached::config::{Config, Parsed, parse, parse_reading};
use ferrocached::settings::{ListenAddress, Settings, TcpPort};

use super::{ConfFile, DEBIAN_CONF, config, config_with, hosts, stop, stop_with};

#[test]
fn debians_settings_file_is_read_as_it_is() {
    let file = ConfFile::new("debian", DEBIAN_CONF);
    let mut expected = Config::default();
    expected.settings.listen =
        vec![ListenAddress { host: "127.0.0.1".to_owned(), ..ListenAddress::everywhere() }];
    expected.process.user = Some("memcache".to_owned());
    expected.process.pidfile = Some("/var/run/memcached/memcached.pid".into());
    assert_eq!(config(&file.option()), expected);
}

#[test]
fn a_settings_file_follows_debians_wrapper() {
    let file = ConfFile::new(
        "wrapper",
        "  -m 128 -c 99   # two on a line\n\
         -p 11#311\n\
         -daemon-like lines are dropped -M\n\
         -h\n\
         word -C\n\
         \n\
         -D \\#\n\
         -P '/run/my cache/pid'\n\
         -l ::1\n\
         -l \"10.0.0.1;10.0.0.2\"\n\
         --verbose\r\n",
    );
    let config = config(&file.option());
    let settings = &config.settings;
    assert_eq!((settings.memory_bytes, settings.connections_max), (128 << 20, 99));
    assert_eq!(settings.port, TcpPort::Fixed(11), "a # inside a value cuts it");
    assert!(settings.evictions_enabled && settings.cas_enabled && !config.process.daemonize);
    assert_eq!(settings.prefix_delimiter, b'#');
    assert_eq!(config.process.pidfile.as_deref(), Some(Path::new("/run/my cache/pid")));
    assert_eq!(hosts(&config), ["::1", "10.0.0.1", "10.0.0.2"]);
    assert_eq!(settings.verbosity, 1);
}

#[test]
fn protected_mode_is_off_where_somebody_says_no() {
    const NAME: &str = "MEMCACHED_PROTECTED_MODE";
    for (options, variables, is_on) in [
        ("", &[][..], true),
        ("-o no_protected_mode", &[], false),
        ("-o no_protected_mode,protected_mode", &[], true),
        ("", &[(NAME, "no")], false),
        ("", &[(NAME, "yes")], true),
        ("", &[(NAME, "")], true),
        ("-o protected_mode", &[(NAME, "no")], true),
        ("-o no_protected_mode", &[(NAME, "yes")], false),
        ("", &[(NAME, "yes"), ("MEMCACHED_EXTRA_FLAGS", "-o no_protected_mode")], false),
    ] {
        let config = config_with(options, variables);
        assert_eq!(config.settings.protected_mode, is_on, "{options} {variables:?}");
    }
    for word in ["false", "No", "0", "no ", "on\nno"] {
        let stop = stop_with("", &[(NAME, word)]);
        assert!(stop.message.starts_with(&format!("{NAME}: yes or no is needed: ")), "{stop}");
        assert!(!stop.message.contains('\n') && stop.exit_code == 1, "{stop}");
    }
}

#[test]
fn errors_name_the_source_they_come_from() {
    for (name, text, words) in [
        ("value", "-m 64\n-c 0\n", "Maximum connections must be greater than 0"),
        ("option", "-q\n", "Illegal argument \"q\""),
        ("quote", "-P '/run/x\n", "a quote is opened and not closed in: -P '/run/x"),
        ("nested", "--config /etc/other.conf\n", "--config cannot stand in a settings file"),
    ] {
        let file = ConfFile::new(name, text);
        let stop = stop(&file.option());
        assert!(stop.message.starts_with(&format!("{}: {words}", file.0.display())), "{stop}");
        assert_eq!(stop.exit_code, 1);
    }
    for (variable, value, words) in [
        ("MEMCACHED_THREADS", "several", "Number of threads must be greater than 0"),
        ("MEMCACHED_EXTRA_FLAGS", "-v --nonsense", "Illegal argument \"--nonsense\""),
        ("MEMCACHED_EXTRA_FLAGS", "-P \"", "a quote is opened and not closed"),
    ] {
        let stop = stop_with("", &[(variable, value)]);
        assert!(stop.message.starts_with(&format!("{variable}: {words}")), "{stop}");
    }
    let missing = stop("--config /nonexistent/memcached.conf");
    assert_eq!(missing.exit_code, 1);
    assert!(missing.message.starts_with("--config /nonexistent/memcached.conf cannot be read"), "{missing}");
}

#[test]
fn errors_are_one_line_whatever_they_quote() {
    for argument in
        ["-x\n-y", "--port\n=1", "-t\r\nx", "-l[::1\x1b[2J", "-o\ttail", "--config=/no\u{85}where\n"]
    {
        let stop = parse(["memcached", argument].map(Into::into), &|_| None).expect_err(argument);
        assert!(!stop.message.contains(char::is_control), "{:?}", stop.message);
    }
    let stop = parse(["memcached", "-t\r\nx"].map(Into::into), &|_| None).expect_err("it is no number");
    assert!(stop.message.ends_with(r#": -t (--threads) was given "\r\nx""#), "{stop}");
}

#[test]
fn a_settings_file_may_come_from_anywhere() {
    let arguments = || ["memcached", "--config", "/any/where"].map(Into::into);
    let parsed = parse_reading(arguments(), &|_| None, &|path| {
        assert_eq!(path, Path::new("/any/where"));
        Ok(b"-m 100\n".to_vec())
    });
    let Ok(Parsed::Run(config)) = parsed else { panic!("{parsed:?}") };
    assert_eq!(config.settings.memory_bytes, 100 << 20);
    let stop = parse_reading(arguments(), &|_| None, &|_| Err(ErrorKind::PermissionDenied.into()));
    let message = stop.expect_err("it cannot be read").message;
    assert!(message.starts_with("--config /any/where cannot be read: permission denied;"), "{message}");
}

#[test]
fn variables_stand_for_options() {
    let config = config_with(
        "",
        &[
            ("MEMCACHED_CACHE_SIZE", "256"),
            ("MEMCACHED_THREADS", "2"),
            ("MEMCACHED_MAX_CONNECTIONS", "2048"),
            ("MEMCACHED_MAX_ITEM_SIZE", "8388608"),
            ("MEMCACHED_PORT", "11311"),
            ("MEMCACHED_EXTRA_FLAGS", "  -vv -o idle_timeout=60  -P '/run/my cache/pid' "),
            ("MEMCACHED_PORT_FILENAME", "/tmp/ports"),
        ],
    );
    assert_eq!(config.settings.memory_bytes, 256 << 20);
    assert_eq!((config.settings.threads, config.settings.connections_max), (2, 2048));
    assert_eq!((config.settings.item_bytes_max, config.settings.port), (8 << 20, TcpPort::Fixed(11311)));
    assert_eq!((config.settings.verbosity, config.settings.idle_seconds_max), (2, 60));
    assert_eq!(config.process.pidfile.as_deref(), Some(Path::new("/run/my cache/pid")));
    assert_eq!(config.process.port_file.as_deref(), Some(Path::new("/tmp/ports")));
}

#[test]
fn variables_that_are_empty_or_made_by_service_links_say_nothing() {
    let empty =
        [("MEMCACHED_CACHE_SIZE", ""), ("MEMCACHED_EXTRA_FLAGS", ""), ("MEMCACHED_PORT_FILENAME", "")];
    assert_eq!(config_with("", &empty), Config::default());
    let linked = config_with("", &[("MEMCACHED_PORT", "tcp://10.0.0.7:11211")]);
    assert_eq!(linked.settings, Settings::default());
    assert_eq!(linked.notes.len(), 1);
}

#[test]
fn the_command_line_wins_over_the_environment_and_that_over_the_file() {
    let file = ConfFile::new(
        "precedence",
        "-m 100 -t 1 -c 11\n-l 10.0.0.1\n-l 10.0.0.2\n-vvv\n-M\n-o idle_timeout=1,no_lru_crawler\n",
    );
    let variables = [
        ("MEMCACHED_CACHE_SIZE", "200"),
        ("MEMCACHED_THREADS", "2"),
        ("MEMCACHED_EXTRA_FLAGS", "-t 3 -l 10.0.0.3 -v"),
    ];
    assert_eq!(hosts(&config(&file.option())), ["10.0.0.1", "10.0.0.2"]);

    let with_variables = config_with(&file.option(), &variables);
    assert_eq!(with_variables.settings.memory_bytes, 200 << 20);
    assert_eq!(with_variables.settings.threads, 3, "EXTRA_FLAGS are stronger than the single variables");
    assert_eq!(hosts(&with_variables), ["10.0.0.3"], "the strongest source with any -l has all of them");
    assert_eq!(with_variables.settings.verbosity, 1);

    let line = format!("-m 300 -l 10.0.0.4 -l 10.0.0.5 {} -vv -o idle_timeout=2", file.option());
    let with_all = config_with(&line, &variables);
    assert_eq!((with_all.settings.memory_bytes, with_all.settings.threads), (300 << 20, 3));
    assert_eq!(with_all.settings.connections_max, 11, "what only the file says stays");
    assert_eq!(hosts(&with_all), ["10.0.0.4", "10.0.0.5"]);
    assert_eq!(with_all.settings.verbosity, 2);
    assert!(!with_all.settings.evictions_enabled && !with_all.settings.sweep_enabled);
    assert_eq!(with_all.settings.idle_seconds_max, 2);
}

#[test]
fn the_strongest_source_that_names_a_settings_file_is_followed() {
    let (weak, strong) = (ConfFile::new("weak", "-m 100\n"), ConfFile::new("strong", "-m 200\n"));
    let flags = weak.option();
    let variables = [("MEMCACHED_EXTRA_FLAGS", flags.as_str())];
    assert_eq!(config_with("", &variables).settings.memory_bytes, 100 << 20);
    assert_eq!(config_with(&strong.option(), &variables).settings.memory_bytes, 200 << 20);
}
