//! The variables of Bitnami's image, each also as a file that holds it.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::Path;

use ferrocached::config::{Config, Parsed, Stop, parse, parse_reading};
use ferrocached::settings::{OneUser, Protocol, TcpPort};

use super::{ConfFile, config_with, hosts, stop_with};

/// What variables mean where there are these files.
fn reading(variables: &[(&str, &str)], files: &[(&str, &str)]) -> Result<Config, Stop> {
    let environment = |name: &str| {
        variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| OsString::from(value))
    };
    let read = |path: &Path| {
        let file = files.iter().find(|(name, _)| Path::new(name) == path);
        file.map(|(_, text)| text.as_bytes().to_owned()).ok_or(ErrorKind::NotFound.into())
    };
    match parse_reading(["memcached".into()], &environment, &read)? {
        Parsed::Run(config) => Ok(*config),
        Parsed::Show(text) => panic!("{variables:?} shows {text}"),
    }
}

fn user(name: &str, password: &str) -> Option<OneUser> {
    Some(OneUser { name: name.into(), password: password.into() })
}

#[test]
fn every_variable_of_bitnamis_image_says_something() {
    let config = config_with(
        "",
        &[
            ("MEMCACHED_LISTEN_ADDRESS", "127.0.0.1,[::1]:11212"),
            ("MEMCACHED_PORT", "11213"),
            ("MEMCACHED_PORT_NUMBER", "11311"),
            ("MEMCACHED_USERNAME", "ann"),
            ("MEMCACHED_PASSWORD", "open:sesame:ro"),
            ("MEMCACHED_MAX_TIMEOUT", "5"),
        ],
    );
    assert_eq!(hosts(&config), ["127.0.0.1", "::1"]);
    assert_eq!(config.settings.port, TcpPort::Fixed(11311), "the variable that no service link sets wins");
    assert_eq!(config.user, user("ann", "open:sesame:ro"));
    assert!(config.settings.asks_for_password());
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    assert!(config.notes.iter().any(|note| note.starts_with("MEMCACHED_MAX_TIMEOUT is accepted without")));
}

#[test]
fn each_may_be_a_file() {
    for (name, text) in [
        ("CACHE_SIZE", "128"),
        ("THREADS", "3"),
        ("MAX_CONNECTIONS", "99"),
        ("MAX_ITEM_SIZE", "2m"),
        ("LISTEN_ADDRESS", "10.0.0.7"),
        ("PORT", "11311"),
        ("PORT_NUMBER", "11311"),
        ("PROTECTED_MODE", "no"),
        ("PASSWORD", "sesame"),
        ("EXTRA_FLAGS", "-vv\n-o idle_timeout=60"),
    ] {
        let (name, by) = (format!("MEMCACHED_{name}"), format!("MEMCACHED_{name}_FILE"));
        let expected = config_with("", &[(&name, text)]);
        assert_ne!(expected, Config::default());
        for end in ["", "\n", "\n\n"] {
            let found = reading(&[(&by, "/run/secrets/x")], &[("/run/secrets/x", &format!("{text}{end}"))]);
            assert_eq!(found, Ok(expected.clone()), "{name}");
        }
        // As in Bitnami's scripts.
        let both = reading(&[(&name, "nonsense"), (&by, "/x")], &[("/x", text)]).unwrap();
        assert_eq!(both.settings, expected.settings, "{name}");
        assert_eq!(both.warnings, [format!("{name} has no effect: {by} is given as well, and wins")]);
    }
}

#[test]
fn a_file_that_cannot_be_used_is_told_with_variable_and_path() {
    for name in ["PASSWORD", "THREADS", "MAX_TIMEOUT"] {
        let by = format!("MEMCACHED_{name}_FILE");
        let stop = reading(&[(&by, "/run/secrets/x")], &[]).expect_err("there is none");
        let said = format!("{by} /run/secrets/x cannot be read: ");
        assert!(stop.message.starts_with(&said) && stop.exit_code == 1, "{stop}");
        let long = "x".repeat((1 << 20) + 1);
        let stop = reading(&[(&by, "/run/secrets/x")], &[("/run/secrets/x", &long)]).expect_err("too long");
        assert!(stop.message.starts_with(&format!("{said}it has more than 1048576 bytes")), "{stop}");
    }
    let stop = reading(&[("MEMCACHED_THREADS_FILE", "/x")], &[("/x", "several\n")]).expect_err("no number");
    assert!(stop.message.starts_with("MEMCACHED_THREADS_FILE: Number of threads must"), "{stop}");
    // A file that never ends is not read for ever.
    let endless = |name: &str| (name == "MEMCACHED_PASSWORD_FILE").then(|| OsString::from("/dev/zero"));
    let stop = parse(["memcached".into()], &endless).expect_err("it is too long");
    assert!(stop.message.contains("MEMCACHED_PASSWORD_FILE /dev/zero cannot be read: it has more"), "{stop}");
}

#[test]
fn what_is_empty_says_nothing_but_a_file_for_a_password_has_to_have_one() {
    let empty = ["LISTEN_ADDRESS", "PORT_NUMBER", "USERNAME", "PASSWORD", "MAX_TIMEOUT", "THREADS_FILE"];
    let empty = empty.map(|name| (format!("MEMCACHED_{name}"), ""));
    let empty: Vec<_> = empty.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    assert_eq!(config_with("", &empty), Config::default());
    for text in ["", "\n"] {
        let config = reading(&[("MEMCACHED_THREADS_FILE", "/x")], &[("/x", text)]);
        assert_eq!(config, Ok(Config::default()));
        let stop = reading(&[("MEMCACHED_PASSWORD_FILE", "/x")], &[("/x", text)]).expect_err("open to all");
        assert_eq!(stop.message, "MEMCACHED_PASSWORD_FILE: the file is empty, where the password should be");
    }
}

#[test]
fn the_user_is_root_unless_there_is_a_name_and_a_name_alone_is_nobody() {
    let config = config_with("", &[("MEMCACHED_PASSWORD", "sesame")]);
    assert_eq!(config.user, user("root", "sesame"));
    let nobody = config_with("", &[("MEMCACHED_USERNAME", "ann")]);
    assert!(nobody.user.is_none() && !nobody.settings.asks_for_password());
    let [warning] = &nobody.warnings[..] else { panic!("{:?}", nobody.warnings) };
    assert!(warning.starts_with("MEMCACHED_USERNAME has no effect without MEMCACHED_PASSWORD"), "{warning}");
}

#[test]
fn of_a_file_of_users_and_a_password_the_stronger_source_wins_with_a_warning() {
    let file = ConfFile::new("users", "-Y /etc/users\n");
    let password = ("MEMCACHED_PASSWORD", "sesame");
    for (options, variables, user_wins) in [
        ("-Y /etc/users".to_owned(), &[password][..], false),
        (String::new(), &[password, ("MEMCACHED_EXTRA_FLAGS", "-Y /etc/users")], false),
        (file.option(), &[password], true),
    ] {
        let config = config_with(&options, variables);
        assert_eq!(config.user.is_some(), user_wins, "{options}");
        assert_eq!(config.settings.has_one_user, user_wins, "{options}");
        assert_eq!(config.settings.auth_file.is_some(), !user_wins, "{options}");
        assert!(config.settings.asks_for_password());
        let [warning] = &config.warnings[..] else { panic!("{:?}", config.warnings) };
        assert!(warning.ends_with("is given as well, and wins"), "{warning}");
    }
}

#[test]
fn with_a_password_there_is_no_udp() {
    let stop = stop_with("-U 11211", &[("MEMCACHED_PASSWORD", "sesame")]);
    assert_eq!(stop.exit_code, 64);
    assert!(stop.message.contains("MEMCACHED_PASSWORD") && !stop.message.contains("sesame"), "{stop}");
}

#[test]
fn no_description_of_what_was_chosen_shows_a_password() {
    let config = config_with("", &[("MEMCACHED_PASSWORD", "sesame")]);
    assert!(!format!("{config:?}").contains("sesame"), "{config:?}");
}

#[test]
fn a_password_file_of_sasl_counts_with_s() {
    let file = ("MEMCACHED_SASL_PWDB", "/run/pwdb");
    let with = config_with("-S", &[file]);
    assert_eq!(with.settings.auth_file.as_deref(), Some(Path::new("/run/pwdb")));
    assert!(with.settings.auth_file_is_pwdb && with.settings.sasl_enabled && with.warnings.is_empty());
    assert_eq!(with.settings.protocol, Protocol::Binary);
    let without = config_with("", &[file]);
    assert!(!without.settings.asks_for_password());
    assert!(without.warnings[0].starts_with("MEMCACHED_SASL_PWDB has no effect without -S"), "{without:?}");
    let besides = config_with("-S -Y /etc/auth", &[file, ("SASL_CONF_PATH", "/etc/sasl")]);
    assert_eq!(besides.settings.auth_file.as_deref(), Some(Path::new("/etc/auth")));
    assert!(!besides.settings.auth_file_is_pwdb);
    assert!(besides.warnings[0].starts_with("MEMCACHED_SASL_PWDB has no effect: -Y"), "{besides:?}");
    assert!(besides.warnings[1].starts_with("SASL_CONF_PATH has no effect"), "{besides:?}");
    for (line, words) in [
        ("-S -B auto", "ERROR: You cannot allow the ASCII protocol while using SASL."),
        ("-S -l proto[ascii]:127.0.0.1", "ERROR: You cannot allow the ASCII protocol while using SASL."),
        (
            "-S -l proto[negotiating]:127.0.0.1",
            "ERROR: You cannot allow the ASCII protocol while using SASL.",
        ),
        ("-S -B ascii", "ERROR: You cannot allow the ASCII protocol while using SASL."),
        ("-S -U 11211", "Cannot enable UDP while using binary SASL authentication."),
    ] {
        let stop = stop_with(line, &[file]);
        assert!(stop.message.starts_with(words) && stop.exit_code == 64, "{line}: {stop}");
    }
}

#[test]
fn a_password_is_for_both_protocols_unless_there_is_text_only() {
    for (line, protocol, sasl_enabled) in
        [("", Protocol::Auto, true), ("-B ascii", Protocol::Ascii, false), ("-S", Protocol::Auto, true)]
    {
        let settings = config_with(line, &[("MEMCACHED_PASSWORD", "sesame")]).settings;
        assert_eq!((settings.protocol, settings.sasl_enabled), (protocol, sasl_enabled), "{line}");
    }
}
