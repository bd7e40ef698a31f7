//! The command line, the environment and the settings file, made into plain values.
//!
//! Rules:
//! - Every option is one row of [`option_table`] or [`suboption_table`]; parsing, help, the manual's tables and
//!   the example file all read the rows, so there is one definition of each.
//! - Three kinds of source speak the same language, arguments, and are applied from the weakest to the
//!   strongest: settings file, environment, command line. What a stronger one says replaces what a weaker one
//!   said, option by option.
//! - What starts memcached starts this server, unless ignoring an option would give away security or data.

mod documents;
mod environment;
mod fault;
mod given;
mod listen;
mod logins;
mod options;
mod row;
mod sources;
mod suboptions;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use thiserror::Error;

pub use documents::{example, help, option_tables, options_in_brief};
pub use row::{Group, Row, Verdict};

use crate::settings::{OneUser, Settings, TcpPort, TlsPrefix, TlsSettings, VERSION, VerifyMode};
use fault::Fault;
use sources::Source;

/// From this many worker threads on a warning is due. Source: memcached.
const THREADS_ADVISED_MAX: usize = 64;
/// The least that `-m` can be, in bytes. Source: memcached, which counts in megabytes.
const MEMORY_BYTES_MIN: u64 = 1 << 20;
/// The most that hot and warm LRU may take together, in percent. Source: memcached.
const HOT_AND_WARM_PERCENT_MAX: u32 = 80;

/// The longest settings file, and file that holds the value of a variable, in bytes: as much as a Secret or a ConfigMap
/// of Kubernetes may hold.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Reads a file that an operator names.
type ReadFile<'a> = &'a dyn Fn(&Path) -> io::Result<Vec<u8>>;

/// What the arguments and other sources ask for.
#[derive(Debug)]
pub enum Parsed {
    /// To run.
    Run(Box<Config>),
    /// To print this on standard output and end with exit code 0 (`-h`, `-i`, `-V`, `--manual`, `--generate`).
    Show(String),
}

/// What an operator chose.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// What the engine and the network need to know.
    pub settings: Settings,
    /// What concerns the process.
    pub process: Process,
    /// `--healthcheck`: not to serve, but to ask the server that these options start, or the one at this address if it
    /// is not empty.
    pub healthcheck: Option<String>,
    /// Whether `-B` was given.
    pub protocol_is_given: bool,
    /// `MEMCACHED_PASSWORD`: the only user who may log in. Not part of the settings, which stay in memory while the
    /// server runs.
    pub user: Option<OneUser>,
    /// `MEMCACHED_SASL_PWDB`, until it is known whether it has an effect.
    pub sasl_pwdb: Option<PathBuf>,
    /// Whether there is a `SASL_CONF_PATH`.
    pub sasl_conf_path_is_set: bool,
    /// Options that were accepted and have no effect, to be logged at `-v`.
    pub notes: Vec<String>,
    /// To be logged always.
    pub warnings: Vec<String>,
}

/// What an operator chose about the process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// `-d`.
    pub daemonize: bool,
    /// `-u`.
    pub user: Option<String>,
    /// `-P`.
    pub pidfile: Option<PathBuf>,
    /// `-k`.
    pub lock_memory: bool,
    /// `-r`.
    pub coredumps: bool,
    /// `--log-format`.
    pub log_format: LogFormat,
    /// `MEMCACHED_PORT_FILENAME`: where to write down which ports are listened on.
    pub port_file: Option<PathBuf>,
    /// `WATCHDOG_USEC`: a service manager wants to hear from the server at least so often, in microseconds.
    pub watchdog_us: Option<u64>,
    /// `WATCHDOG_PID`: the process that it is meant for, if it is not for any.
    pub watchdog_pid: Option<u32>,
    /// `NOTIFY_SOCKET`: where a service manager wants to be told when the server is ready.
    pub notify_socket: Option<OsString>,
}

/// How log lines look (`--log-format`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// A sentence a line.
    #[default]
    Text,
    /// An object of JSON a line.
    Json,
}

/// Why the server does not start.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct Stop {
    /// For standard error: one line, which names the option and the remedy.
    pub message: String,
    /// The exit code memcached would use.
    pub exit_code: u8,
}

/// Reads everything an operator can say: `arguments` as [`std::env::args_os`] gives them (the first, the
/// program's name, is skipped), what `environment` holds under the names of the `MEMCACHED_*` variables, the files that
/// hold the values of such variables, and the file of `--config`.
///
/// # Errors
///
/// When an option is unknown, has a bad value, contradicts another, or is not supported.
///
/// ```
/// use ferrocached::config::{Parsed, parse};
///
/// let arguments = ["memcached", "-m", "256", "-vl", "127.0.0.1"].map(Into::into);
/// let Parsed::Run(config) = parse(arguments, &|_| None)? else { unreachable!("nothing was to be shown") };
/// assert_eq!(config.settings.memory_bytes, 256 << 20);
/// # Ok::<(), ferrocached::config::Stop>(())
/// ```
pub fn parse(
    arguments: impl IntoIterator<Item = OsString>,
    environment: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Parsed, Stop> {
    parse_reading(arguments, environment, &read_file)
}

/// As [`parse`], with `read` to read files.
///
/// # Errors
///
/// Those of [`parse`].
pub fn parse_reading(
    arguments: impl IntoIterator<Item = OsString>,
    environment: &dyn Fn(&str) -> Option<OsString>,
    read: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
) -> Result<Parsed, Stop> {
    let read: ReadFile<'_> = &|path| bounded(read(path)?);
    let command_line = Source::read(None, arguments.into_iter().skip(1))?;
    if let Some(text) = command_line.shown()? {
        return Ok(Parsed::Show(text));
    }
    let mut config = Config::default();
    let mut sources = environment::sources(environment, read, &mut config)?;
    sources.push(command_line);
    let file = sources.iter().rev().find_map(Source::settings_file);
    if let Some(path) = file {
        sources.insert(0, sources::of_file(&path, read(&path))?);
    }
    for source in sources.iter().rev() {
        if let Some(text) = source.shown()? {
            return Ok(Parsed::Show(text));
        }
    }

    for source in &sources {
        source.apply(&mut config)?;
    }
    if !sources.iter().any(|source| source.gives("port")) {
        config.follow_udp_port();
    }
    let port_file = environment("MEMCACHED_PORT_FILENAME").filter(|path| !path.is_empty());
    config.process.port_file = port_file.map(PathBuf::from);
    config.process.notify_socket = environment("NOTIFY_SOCKET").filter(|place| !place.is_empty());
    let number = |name| environment(name).and_then(|text| text.to_str()?.parse::<u64>().ok());
    config.process.watchdog_us = number("WATCHDOG_USEC").filter(|us| *us > 0);
    config.process.watchdog_pid = number("WATCHDOG_PID").and_then(|pid| u32::try_from(pid).ok());
    config.reconcile().map_err(|fault| fault.stop(None))?;
    Ok(Parsed::Run(Box::new(config)))
}

/// Reads a file, but no more than one byte above the limit.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut text)?;
    Ok(text)
}

fn bounded(text: Vec<u8>) -> io::Result<Vec<u8>> {
    match text.len() as u64 {
        ..=FILE_BYTES_MAX => Ok(text),
        _ => Err(io::Error::other(format!("it has more than {FILE_BYTES_MAX} bytes, which is the most"))),
    }
}

/// Every option of memcached and the few that are new, in the order of the help text.
pub fn option_table() -> &'static [Row] {
    options::OPTIONS
}

/// Every sub-option of `-o`.
pub fn suboption_table() -> &'static [Row] {
    suboptions::SUBOPTIONS
}

impl Config {
    /// Without `-p`, TCP listens on the port of UDP; with `-s` on none.
    fn follow_udp_port(&mut self) {
        match self.settings.udp_port.filter(|_| self.settings.unix_socket.is_none()) {
            Some(0) => self.settings.port = TcpPort::Ephemeral,
            Some(port) => self.settings.port = TcpPort::Fixed(port),
            None => {}
        }
    }

    /// Checks what depends on several options, once all sources are applied.
    fn reconcile(&mut self) -> Result<(), Fault> {
        self.reconcile_tls()?;
        let settings = &mut self.settings;
        let (item, memory) = (settings.item_bytes_max, settings.memory_bytes);
        if item > memory / 2 {
            return Err(Fault::ItemExceedsHalf { item, memory });
        }
        if memory < MEMORY_BYTES_MIN {
            return Err(Fault::MemoryTooSmall { memory, least: MEMORY_BYTES_MIN });
        }
        let hot_and_warm = settings.compat.hot_lru_percent + settings.compat.warm_lru_percent;
        if hot_and_warm > HOT_AND_WARM_PERCENT_MAX {
            return Err(Fault::HotAndWarm { percent: hot_and_warm });
        }

        self.reconcile_logins()?;
        let settings = &mut self.settings;
        listen::tell_http(settings);

        if settings.unix_socket.is_some() {
            if settings.udp_port.take().is_some() {
                self.notes.push("-s (--unix-socket) turns UDP off: -U has no effect".to_owned());
            }
            // Debian's file always has a `-p`, so an explicit one cannot be taken as a wish for TCP besides -s.
            if settings.port != Settings::default().port || !settings.listen.is_empty() {
                self.notes.push("-s (--unix-socket) turns TCP off: -p and -l have no effect".to_owned());
            }
            settings.port = TcpPort::Off;
        }
        if settings.threads > THREADS_ADVISED_MAX && settings.threads != processors() {
            self.warnings.push(format!(
                "Setting a high number of worker threads is not recommended: -t (--threads) {} is best set to \
                 the number of processors or less",
                settings.threads
            ));
        }
        Ok(())
    }

    /// Checks the options that TLS needs, and those that need TLS.
    fn reconcile_tls(&mut self) -> Result<(), Fault> {
        let settings = &self.settings;
        let tls = &settings.tls;
        if !tls.enabled {
            if let Some(address) = settings.listen.iter().find(|address| address.tls != TlsPrefix::AsChosen) {
                return Err(Fault::PrefixWithoutTls { prefix: address.tls.text().trim_end_matches(':') });
            }
            if *tls != TlsSettings::default() {
                let warning =
                    "the sub-options ssl_* of -o have no effect without -Z (--enable-ssl): TLS is NOT spoken";
                self.warnings.push(warning.to_owned());
            }
            return Ok(());
        }
        if settings.unix_socket.is_some() {
            self.warnings.push(
                "-Z (--enable-ssl) has no effect on a UNIX socket (-s), and there is no other listener"
                    .to_owned(),
            );
        } else if settings.port == TcpPort::Off {
            return Err(Fault::TlsWithoutTcp);
        } else if settings.udp_port.is_some() {
            let warning = "-Z (--enable-ssl) has no effect on UDP (-U): nothing is encrypted there, and nobody asked for a certificate";
            self.warnings.push(warning.to_owned());
        }
        if tls.chain_cert.is_none() {
            return Err(Fault::NoCertificate);
        }
        if tls.ca_cert.is_none() {
            let is_mutual = settings.listen.iter().any(|address| address.tls == TlsPrefix::Mtls);
            let required = match tls.verify_mode {
                VerifyMode::Require => Some("-o ssl_verify_mode=2"),
                VerifyMode::Once => Some("-o ssl_verify_mode=3"),
                VerifyMode::None | VerifyMode::Request => is_mutual.then_some("-l (--listen) mtls:"),
            };
            // A warning, as in memcached: other listeners may work, and a fleet should not fail because of this one.
            self.warnings.extend(required.map(|asked_by| {
                format!(
                    "{asked_by} without ssl_ca_cert lets NOBODY in: no client certificate is good; give -o \
                     ssl_ca_cert=FILE"
                )
            }));
            if tls.verify_mode == VerifyMode::Request {
                let warning = "-o ssl_verify_mode=1 without ssl_ca_cert has no effect: no client certificate is asked for";
                self.warnings.push(warning.to_owned());
            }
        }
        if tls.ciphers.is_some() {
            let warning =
                "-o ssl_ciphers has no effect: the ciphers are those of rustls, all with forward secrecy";
            self.warnings.push(warning.to_owned());
        }
        Ok(())
    }
}

/// How many processors this process may use.
fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// What `-V` shows. Scripts take the second word.
fn version_line() -> String {
    format!("memcached {VERSION}\n")
}
