//! Where options come from: each source is a list of arguments, read by the same rules.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::fault::Fault;
use super::given::Given;
use super::options::OPTIONS;
use super::row::Row;
use super::{Config, Stop, documents};
use crate::settings::OneUser;

/// Collects the positional arguments, which have no meaning: unit files and start scripts have `>> /var/log/x 2>&1`
/// where there is no shell.
const POSITIONAL: &str = "positional";

/// The parsed arguments of one source.
pub(super) struct Source {
    /// How errors call it; `None` is the command line.
    name: Option<String>,
    matches: ArgMatches,
    /// The only user who may log in, if it names one.
    user: Option<OneUser>,
}

/// The `text` of the settings file at `path`, read as Debian's systemd-memcached-wrapper reads /etc/memcached.conf.
pub(super) fn of_file(path: &Path, text: io::Result<Vec<u8>>) -> Result<Source, Stop> {
    let name = path.display().to_string();
    let text = text.map_err(|error| {
        Fault::FileUnreadable { named_by: "--config".to_owned(), path: path.to_owned(), error }.stop(None)
    })?;
    let arguments = arguments_of_file(&text).map_err(|fault| fault.stop(Some(&name)))?;
    let source = Source::read(Some(&name), arguments)?;
    match source.settings_file() {
        Some(_) => Err(Fault::FileInFile.stop(Some(&name))),
        None => Ok(source),
    }
}

/// The rules of the wrapper: a `#` without a backslash before it starts a comment; lines that do not start with a
/// dash are dropped (Debian's file says `logfile …`, to no effect); so are lines that start with -d, as systemd
/// wants the process in the foreground, or -h. The remaining lines are joined to one command line.
fn arguments_of_file(text: &[u8]) -> Result<Vec<OsString>, Fault> {
    let mut arguments = Vec::new();
    for line in text.split(|byte| *byte == b'\n') {
        let is_comment = |at: &usize| line[*at] == b'#' && (*at == 0 || line[*at - 1] != b'\\');
        let end = (0..line.len()).find(is_comment).unwrap_or(line.len());
        let line = line[..end].trim_ascii();
        if line.starts_with(b"-") && !line.starts_with(b"-d") && !line.starts_with(b"-h") {
            arguments.extend(words(line)?);
        }
    }
    Ok(arguments)
}

/// Splits at white space, as a shell would: quotes keep words together, a backslash outside of quotes makes the
/// next byte an ordinary one.
pub(super) fn words(line: &[u8]) -> Result<Vec<OsString>, Fault> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut quote = None;
    let mut bytes = line.iter().copied();
    while let Some(byte) = bytes.next() {
        match (quote, byte) {
            (Some(open), _) if byte == open => quote = None,
            (None, b'\'' | b'"') => {
                quote = Some(byte);
                word.get_or_insert_default();
            }
            (None, b'\\') => word.get_or_insert_default().extend(bytes.next()),
            (None, _) if byte.is_ascii_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(byte),
        }
    }
    if quote.is_some() {
        return Err(Fault::QuoteOpen(String::from_utf8_lossy(line).into_owned()));
    }
    words.extend(word);
    Ok(words.into_iter().map(OsString::from_vec).collect())
}

impl Source {
    /// Parses options, values and positional arguments, as getopt_long does.
    pub(super) fn read(
        name: Option<&str>,
        arguments: impl IntoIterator<Item = OsString>,
    ) -> Result<Source, Stop> {
        match command().try_get_matches_from(arguments) {
            Ok(matches) => Ok(Source { name: name.map(str::to_owned), matches, user: None }),
            Err(error) => Err(fault(&error).stop(name)),
        }
    }

    /// A source that only says which user alone may log in.
    pub(super) fn of_user(name: &str, user: OneUser) -> Result<Source, Stop> {
        Ok(Source { user: Some(user), ..Source::read(Some(name), [])? })
    }

    /// What `-h`, `-i`, `-V`, `--manual` or `--generate` show, when one was given.
    pub(super) fn shown(&self) -> Result<Option<String>, Stop> {
        let is_given = |name| self.matches.get_count(name) > 0;
        if is_given("help") {
            return Ok(Some(documents::help()));
        }
        if is_given("license") {
            return Ok(Some(documents::license()));
        }
        if is_given("version") {
            return Ok(Some(super::version_line()));
        }
        let last_of = |name| {
            let row = OPTIONS.iter().find(|row| row.name == name)?;
            Some(Given { row, text: self.values(row).pop()?, nth: 0 })
        };
        let text = match (last_of("manual"), last_of("generate")) {
            (Some(topic), _) => documents::manual(&topic),
            (None, Some(page)) => documents::generated(&page),
            (None, None) => return Ok(None),
        };
        text.map(Some).map_err(|fault| fault.stop(self.name.as_deref()))
    }

    /// Whether this source gives the option called `name`, which takes a value.
    pub(super) fn gives(&self, name: &str) -> bool {
        self.matches.get_many::<OsString>(name).is_some()
    }

    /// The file of `--config`.
    pub(super) fn settings_file(&self) -> Option<PathBuf> {
        self.matches.get_many::<OsString>("config")?.next_back().map(PathBuf::from)
    }

    /// Gives every option of this source its effect.
    pub(super) fn apply(&self, config: &mut Config) -> Result<(), Stop> {
        config.warnings.extend(self.strays());
        if let Some(user) = &self.user {
            config.admit_user(user.clone());
        }
        for row in OPTIONS {
            for (nth, text) in self.values(row).into_iter().enumerate() {
                let given = Given { row, text, nth };
                row.apply(config, &given).map_err(|fault| fault.stop(self.name.as_deref()))?;
            }
        }
        Ok(())
    }

    /// The warning about positional arguments, if there are any.
    fn strays(&self) -> Option<String> {
        let strays = self.matches.get_many::<OsString>(POSITIONAL)?;
        // Quoted, so that whatever is in them makes one line.
        let strays: Vec<_> = strays.map(|stray| format!("{:?}", stray.to_string_lossy())).collect();
        let source = self.name.as_ref().map_or(String::new(), |name| format!("{name}: "));
        Some(format!("{source}{} ignored: no option is meant by it", strays.join(" ")))
    }

    /// The values of an option in order; an empty one for each time it stands there, if it takes none.
    fn values(&self, row: &Row) -> Vec<&OsStr> {
        match row.value {
            Some(_) => {
                let values = self.matches.get_many::<OsString>(row.name);
                values.into_iter().flatten().map(OsString::as_os_str).collect()
            }
            None => vec![OsStr::new(""); usize::from(self.matches.get_count(row.name))],
        }
    }
}

/// The syntax of the arguments. Repeated options are kept in order. Values are checked later, when they are applied, so
/// that an error can name the source.
fn command() -> Command {
    let positional =
        Arg::new(POSITIONAL).num_args(0..).action(ArgAction::Append).value_parser(value_parser!(OsString));
    Command::new("memcached")
        .no_binary_name(true)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .infer_long_args(true)
        .args(OPTIONS.iter().map(argument))
        .arg(positional)
}

fn argument(row: &Row) -> Arg {
    let argument = Arg::new(row.name).long(row.name).aliases(row.abbreviations);
    let argument = match row.letter {
        Some(letter) => argument.short(letter),
        None => argument,
    };
    match row.value {
        Some(_) => {
            let argument = argument.action(ArgAction::Append).value_parser(value_parser!(OsString));
            match row.value_is_optional {
                // What begins with a dash is the next option.
                true => argument.num_args(0..=1).default_missing_value(""),
                false => argument.allow_hyphen_values(true),
            }
        }
        None => argument.action(ArgAction::Count),
    }
}

/// What clap found wrong, in our words.
fn fault(error: &clap::Error) -> Fault {
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else {
        return Fault::Unreadable(format!("the arguments cannot be read: {}", error.kind()));
    };
    // clap shows usage here: `--port <port>`, or `--daemon...` for what may be repeated.
    let name = argument.split(['=', ' ']).next().unwrap_or_default();
    let name = name.strip_suffix("...").unwrap_or(name);
    let known = OPTIONS.iter().find(|row| name.strip_prefix("--") == Some(row.name));
    match (error.kind(), known) {
        (ErrorKind::TooManyValues, Some(row)) => {
            Fault::ValueSuperfluous { flag: row.flag(), usage: row.usage() }
        }
        (ErrorKind::UnknownArgument, _) | (_, None) => unknown(name),
        (_, Some(row)) => Fault::ValueMissing { flag: row.flag(), usage: row.usage() },
    }
}

fn unknown(name: &str) -> Fault {
    let Some(prefix) = name.strip_prefix("--") else {
        return Fault::UnknownOption(name.trim_start_matches('-').to_owned());
    };
    let candidates: Vec<String> = OPTIONS
        .iter()
        .filter(|row| row.name.starts_with(prefix))
        .map(|row| format!("--{}", row.name))
        .collect();
    match candidates.is_empty() {
        true => Fault::UnknownOption(name.to_owned()),
        false => Fault::AmbiguousOption { given: name.to_owned(), candidates: candidates.join(" or ") },
    }
}
