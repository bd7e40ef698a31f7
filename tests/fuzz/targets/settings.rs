//! What an operator can say, in whatever bytes: arguments, environment and settings file.
//!
//! It ends in settings that are within their bounds, in a text to be shown, or in one line that says what is wrong.

use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use ferrocached::config::{Config, Parsed, parse_reading};

/// Fields that end in a zero byte, which none can have in it: the text of every file, whether `--config` or a variable names
/// it, the value of `MEMCACHED_EXTRA_FLAGS`, another variable as in `NAME=value`, and then arguments.
pub(super) fn settings_file(data: &[u8]) {
    let mut fields = data.split(|byte| *byte == 0);
    let mut field = || fields.next().unwrap_or_default();
    let (text, flags, variable) = (field(), field(), field());
    let variable =
        variable.iter().position(|byte| *byte == b'=').map(|at| (&variable[..at], &variable[at + 1..]));
    let environment = |name: &str| match variable {
        _ if name == "MEMCACHED_EXTRA_FLAGS" => Some(OsStr::from_bytes(flags).to_owned()),
        Some((variable, value)) if variable == name.as_bytes() => Some(OsStr::from_bytes(value).to_owned()),
        _ => None,
    };
    let given = ["memcached", "--config", "/etc/memcached.conf"].into_iter().map(OsString::from);
    let arguments = given.chain(fields.map(|argument| OsString::from_vec(argument.to_owned())));
    // No file that an argument may name is really looked for.
    let read = |path: &std::path::Path| match path.as_os_str().is_empty() {
        true => Err(ErrorKind::NotFound.into()),
        false => Ok(text.to_owned()),
    };
    match parse_reading(arguments, &environment, &read) {
        Ok(Parsed::Run(config)) => check(&config),
        Ok(Parsed::Show(text)) => assert!(text.ends_with('\n'), "{text:?}"),
        Err(stop) => {
            assert!(is_line(&stop.message), "{:?}", stop.message);
            assert!(matches!(stop.exit_code, 1 | 64), "{}", stop.exit_code);
        }
    }
}

/// What the floors below rely on.
fn check(config: &Config) {
    let settings = &config.settings;
    assert!((1 << 10..=1 << 30).contains(&settings.item_bytes_max), "{}", settings.item_bytes_max);
    assert!(settings.item_bytes_max <= settings.memory_bytes / 2, "{}", settings.memory_bytes);
    assert!((1..=4096).contains(&settings.threads), "{}", settings.threads);
    assert!(settings.connections_max >= 1 && settings.requests_per_event >= 1);
    assert!(settings.unix_mask <= 0o777, "{:o}", settings.unix_mask);
    assert!(settings.auth_file.is_none() || config.user.is_none());
    assert_eq!(settings.asks_for_password(), settings.auth_file.is_some() || config.user.is_some());
    for address in &settings.listen {
        assert!(
            !address.host.is_empty() && !address.host.contains(char::is_whitespace),
            "{:?}",
            address.host
        );
    }
    for line in config.notes.iter().chain(&config.warnings) {
        assert!(is_line(line), "{line:?}");
    }
}

fn is_line(text: &str) -> bool {
    !text.is_empty() && !text.contains(char::is_control)
}
