//! The variables of the environment: what each stands for, and the files that may hold their values.
//!
//! The names are those of Bitnami's image, and so is the rule for files: `NAME_FILE` names a file that holds the value
//! of `NAME`, as container platforms hand out secrets, and wins over `NAME`.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use super::fault::Fault;
use super::sources::{Source, words};
use super::{Config, ReadFile, Stop};
use crate::settings::OneUser;

/// The user of [`Meaning::Password`] when nothing names one. Source: Bitnami's image.
const USERNAME_DEFAULT: &str = "root";

/// A variable that an operator may set, directly or by a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Variable {
    pub(super) name: &'static str,
    /// What it means, in a sentence; options stand in backticks.
    pub(super) remark: &'static str,
    meaning: Meaning,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    /// The value of the option with these letters.
    Value(&'static str),
    /// Whether there is a protected mode: `yes` or `no`.
    ProtectedMode,
    /// The name that goes with the password.
    Username,
    /// The password that clients have to give.
    Password,
    /// The file of those who may log in by SASL.
    SaslPwdb,
    /// What Cyrus SASL would read.
    SaslConfPath,
    /// Nothing here: it is for scripts that start the server.
    Nothing,
    /// Options of any kind.
    Options,
}

/// All variables, from the weakest to the strongest.
pub(super) const VARIABLES: [Variable; 15] = [
    variable("MEMCACHED_CACHE_SIZE", Meaning::Value("-m"), "The value of `-m`."),
    variable("MEMCACHED_THREADS", Meaning::Value("-t"), "The value of `-t`."),
    variable("MEMCACHED_MAX_CONNECTIONS", Meaning::Value("-c"), "The value of `-c`."),
    variable("MEMCACHED_MAX_ITEM_SIZE", Meaning::Value("-I"), "The value of `-I`."),
    variable("MEMCACHED_LISTEN_ADDRESS", Meaning::Value("-l"), "The value of `-l`."),
    variable("MEMCACHED_HTTP", Meaning::Value("--http"), "The value of `--http`."),
    variable("MEMCACHED_PORT", Meaning::Value("-p"), "The value of `-p`."),
    variable("MEMCACHED_PORT_NUMBER", Meaning::Value("-p"), "The value of `-p`; wins over `MEMCACHED_PORT`."),
    variable(
        "MEMCACHED_PROTECTED_MODE",
        Meaning::ProtectedMode,
        "`yes` or `no`, for `-o protected_mode` or `no_protected_mode`.",
    ),
    variable(
        "MEMCACHED_USERNAME",
        Meaning::Username,
        "The user that `MEMCACHED_PASSWORD` is for (default root).",
    ),
    variable(
        "MEMCACHED_PASSWORD",
        Meaning::Password,
        "Serve only clients that log in with this password, which is taken as it is: text clients as with `-Y`, binary ones as with `-S`.",
    ),
    variable(
        "MEMCACHED_SASL_PWDB",
        Meaning::SaslPwdb,
        "With `-S`, the file of those who may log in: lines `user:password`.",
    ),
    variable("SASL_CONF_PATH", Meaning::SaslConfPath, "Accepted without effect: Cyrus SASL is not used."),
    variable(
        "MEMCACHED_MAX_TIMEOUT",
        Meaning::Nothing,
        "Accepted without effect: how long Bitnami's scripts wait for the server.",
    ),
    variable("MEMCACHED_EXTRA_FLAGS", Meaning::Options, "Options, separated by spaces."),
];

const fn variable(name: &'static str, meaning: Meaning, remark: &'static str) -> Variable {
    Variable { name, remark, meaning }
}

/// The value of a variable, and which one it came from: `NAME` or `NAME_FILE`.
struct VariableValue {
    by: String,
    value: OsString,
}

/// One source for each variable that is set, from the weakest to the strongest. An empty value counts as not set.
pub(super) fn sources(
    environment: &dyn Fn(&str) -> Option<OsString>,
    read: ReadFile<'_>,
    config: &mut Config,
) -> Result<Vec<Source>, Stop> {
    let mut sources = Vec::new();
    let mut username = None;
    for Variable { name, meaning, .. } in VARIABLES {
        let Some(VariableValue { by, value }) = lookup(name, environment, read, &mut config.warnings)? else {
            continue;
        };
        if value.is_empty() && meaning != Meaning::Password {
            continue;
        }
        let source = match meaning {
            Meaning::Value("-p") if is_linked_service(&value) => {
                config
                    .notes
                    .push(format!("{by} is the address of a linked service, not a port: it is not used"));
                continue;
            }
            Meaning::Value(letters) => Source::read(Some(&by), [letters.into(), value])?,
            Meaning::ProtectedMode => {
                let suboption = match value.as_bytes() {
                    b"yes" => "protected_mode",
                    b"no" => "no_protected_mode",
                    _ => return Err(Fault::NeitherYesNorNo(value.display().to_string()).stop(Some(&by))),
                };
                Source::read(Some(&by), ["-o".into(), suboption.into()])?
            }
            Meaning::Username => {
                username = Some(VariableValue { by, value });
                continue;
            }
            Meaning::SaslPwdb | Meaning::SaslConfPath => {
                config.note_sasl_variable(meaning == Meaning::SaslPwdb, value);
                continue;
            }
            Meaning::Password => user(username.take(), VariableValue { by, value })?,
            Meaning::Nothing => {
                config
                    .notes
                    .push(format!("{by} is accepted without effect: it is for the scripts of an image"));
                continue;
            }
            Meaning::Options => {
                let words = words(value.as_bytes()).map_err(|fault| fault.stop(Some(&by)))?;
                Source::read(Some(&by), words)?
            }
        };
        sources.push(source);
    }
    if let Some(VariableValue { by, .. }) = username {
        config.warnings.push(format!(
            "{by} has no effect without MEMCACHED_PASSWORD: clients are NOT asked for a password by it"
        ));
    }
    Ok(sources)
}

/// The value of the variable called `name`, if it is set: its own, or that in the file that `NAME_FILE` names.
fn lookup(
    name: &str,
    environment: &dyn Fn(&str) -> Option<OsString>,
    read: ReadFile<'_>,
    warnings: &mut Vec<String>,
) -> Result<Option<VariableValue>, Stop> {
    let set = |name: &str| environment(name).filter(|value| !value.is_empty());
    let by = format!("{name}_FILE");
    let plain = set(name);
    let Some(path) = set(&by).map(PathBuf::from) else {
        return Ok(plain.map(|value| VariableValue { by: name.to_owned(), value }));
    };
    if plain.is_some() {
        warnings.push(format!("{name} has no effect: {by} is given as well, and wins"));
    }
    let mut text = read(&path)
        .map_err(|error| Fault::FileUnreadable { named_by: by.clone(), path, error }.stop(None))?;
    // As `$(<file)` does in a shell.
    let end = text.iter().rposition(|byte| *byte != b'\n').map_or(0, |last| last + 1);
    text.truncate(end);
    Ok(Some(VariableValue { by, value: OsString::from_vec(text) }))
}

/// Docker links and Kubernetes set `MEMCACHED_PORT` in every container near a service called "memcached".
fn is_linked_service(value: &OsString) -> bool {
    value.as_bytes().windows(3).any(|three| three == b"://")
}

/// The source that says which user alone may log in.
fn user(username: Option<VariableValue>, password: VariableValue) -> Result<Source, Stop> {
    // An empty file is a mistake, and must not leave the server open to everybody.
    if password.value.is_empty() {
        return Err(Fault::PasswordEmpty.stop(Some(&password.by)));
    }
    let name = username.map_or(USERNAME_DEFAULT.into(), |username| username.value);
    let user = OneUser { name: name.into_vec(), password: password.value.into_vec() };
    Source::of_user(&password.by, user)
}
