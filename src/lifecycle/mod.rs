//! One run of the server: from its arguments to its exit code.
//!
//! The order is memcached's: limits, user, background, then sockets (so a port below 1024 needs more than `-u`),
//! then the pid file; and one line that says what is listened on and how much memory may be used. Last, when all
//! threads have what they need, the system calls are restricted.

pub mod log;
mod reload;
mod service;
mod users;

use std::ffi::OsString;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::stat::{Mode, umask};
use nix::sys::time::TimeValLike;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tracing::{debug, info, warn};

use crate::config::{self, Config, Parsed, Process};
use crate::engine::Engine;
use crate::engine::access::users::{LineError, Users};
use crate::engine::stats::Usage;
use crate::net::tls::{Tls, TlsError};
use crate::net::{self, BindError, Clock, Endpoint, Server, StopKind};
use crate::process::{self, ProcessError};
use crate::settings::Settings;
use crate::store::share_heap;
use log::Log;
use reload::{Reload, reload_when};
use service::Service;
use users::UsersFileError;

/// Exit code when a file of users, or the user of `MEMCACHED_PASSWORD`, cannot be used.
const EXIT_FAILURE: u8 = 1;

/// Exit code when the system refuses something that the server needs. Source: `sysexits.h`.
const EX_OSERR: u8 = 71;
/// Exit code for impossible options; memcached also uses it for certificates that it cannot use.
const EX_USAGE: u8 = 64;

/// Why the server could not start.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error("{0}")]
    Memory(String),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("failed to start the server's threads: {0}; is there a limit on this user's processes?")]
    Threads(#[from] std::io::Error),
    #[error(transparent)]
    Users(#[from] UsersFileError),
    #[error("MEMCACHED_USERNAME, MEMCACHED_PASSWORD: {0}")]
    User(#[from] LineError),
}

/// Runs the server as `arguments` and `environment` say.
pub fn run(
    arguments: impl IntoIterator<Item = OsString>,
    environment: &dyn Fn(&str) -> Option<OsString>,
) -> ExitCode {
    process::outlive_file_size_limit();
    match config::parse(arguments, environment) {
        Ok(Parsed::Show(text)) => {
            // The reader may have closed early, as `head` does.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(stop) => fail(&stop.message, stop.exit_code),
        Ok(Parsed::Run(config)) if config.healthcheck.is_some() => check(&config),
        Ok(Parsed::Run(config)) => match serve(*config) {
            Ok(()) => ExitCode::SUCCESS,
            Err(Failure::Process(error)) => fail(&error.to_string(), error.exit_code()),
            Err(Failure::Tls(error)) => fail(&error.to_string(), EX_USAGE),
            Err(error @ (Failure::Users(_) | Failure::User(_))) => fail(&error.to_string(), EXIT_FAILURE),
            Err(error) => fail(&error.to_string(), EX_OSERR),
        },
    }
}

/// Asks the server that `config` starts whether it serves (`--healthcheck`).
fn check(config: &Config) -> ExitCode {
    let address = config.healthcheck.as_deref().unwrap_or_default();
    let port_file = config.process.port_file.as_deref();
    match net::healthcheck(&config.settings, address, port_file, config.user.as_ref()) {
        Ok(answer) => {
            // The exit code says it as well.
            let _ = writeln!(std::io::stdout(), "{answer}");
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error, EXIT_FAILURE),
    }
}

fn fail(message: &str, exit_code: u8) -> ExitCode {
    // If standard error does not work either, there is nothing left to do.
    let _ = writeln!(std::io::stderr(), "{message}");
    ExitCode::from(exit_code)
}

fn serve(config: Config) -> Result<(), Failure> {
    let Config { mut settings, process, user, notes, mut warnings, .. } = config;
    let handed_in = process::sockets_handed_in()?;
    // Before the process changes its user: only root may be able to read the key.
    let are_handed_in = !handed_in.is_empty();
    if are_handed_in {
        settings.forget_addresses();
    }
    let tls = Tls::load(&settings)?.map(Arc::new);
    let one_user = user.as_ref().map(Users::of_one).transpose()?;
    drop(user); // with the password as it was written
    let users_of_file = prepare_process(&mut settings, &process, &mut warnings)?;
    let users = one_user.or(users_of_file);
    let (memory_bytes, auth_file) = (settings.memory_bytes, settings.auth_file.clone());
    warnings.extend(process::too_little_memory(memory_bytes));
    if process::is_address_space_limited() {
        share_heap();
    }
    let (clock, epoch) = Clock::start();
    let engine =
        Engine::try_new(settings, epoch).map_err(|refused| Failure::Memory(process::no_memory(&refused)))?;
    let engine =
        Arc::new(engine.with_usage(usage).with_wall_clock(unix_time).with_monotonic_clock(monotonic_time));
    if let Some(users) = users {
        engine.set_users(users);
    }
    if !process::are_huge_pages_allowed() {
        engine.refuse_huge_pages();
    }
    if process.lock_memory {
        warnings.extend(process::lock_memory());
    }
    // Dropped last, so that everything before it can still log.
    let _log = Log::start(process.log_format, Arc::clone(&engine))?;
    warnings.iter().for_each(|warning| warn!("{warning}"));
    notes.iter().for_each(|note| debug!("{note}"));

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let served = runtime.block_on(serve_until_stopped(engine, clock, tls, handed_in, process, auth_file));
    // Blocking tasks that are still running end with the process: a disk may hang, and a password hash take seconds.
    runtime.shutdown_background();
    served
}

/// Opens the sockets, logs it, tells the service manager, and serves until a signal or a client stops the server.
async fn serve_until_stopped(
    engine: Arc<Engine>,
    clock: Clock,
    tls: Option<Arc<Tls>>,
    handed_in: Vec<OwnedFd>,
    process: Process,
    auth_file: Option<PathBuf>,
) -> Result<(), Failure> {
    // Before the pid file and the service manager let anybody send a signal.
    let signals = Signals::new()?;
    let are_handed_in = !handed_in.is_empty();
    let server = match are_handed_in {
        true => Server::adopt(handed_in, Arc::clone(&engine), clock, tls.clone())?,
        false => bind(Arc::clone(&engine), clock, tls.clone())?,
    };
    if let Some(path) = &process.port_file {
        let mut lines = port_lines("TCP", &server.endpoints());
        lines.extend(port_lines("HTTP", &server.http_endpoints()));
        process::write_port_file(path, lines).iter().for_each(|warning| warn!("{warning}"));
    }
    let pidfile = process.pidfile.as_deref();
    pidfile.map(process::write_pidfile).iter().flatten().for_each(|warning| warn!("{warning}"));
    if server.endpoints().is_empty() {
        // As in memcached this is no error: some units and test suites only want signals and exit codes.
        warn!(
            "nobody can connect: -p 0 turns TCP off, and there is neither -s (--unix-socket) nor -U (--udp-port)"
        );
    }
    let status = status(&server, engine.settings(), are_handed_in);
    info!("ferrocached {} {status}", env!("CARGO_PKG_VERSION"));
    let service = Arc::new(Service::new(process.notify_socket.clone(), status));
    if let Some(addresses) = server.http_description() {
        info!("serves HTTP on {addresses}");
    }
    let server = server.start()?;
    let mut reloads: Vec<_> = tls.map(reload_certificates).into_iter().collect();
    if let Some(path) = auth_file {
        reloads.push(users::reload(Arc::clone(&engine), path));
    }
    if engine.settings().drop_privileges {
        match process::restrict_system_calls()? {
            None => info!("only the system calls of a running server are allowed from now on"),
            Some(warning) => warn!("{warning}"),
        }
    }
    service.ready();
    if let Some(period) = watchdog_period(&process) {
        tokio::spawn(Arc::clone(&service).keep_alive(period, server.health()));
    }
    let kind = server.serve(signals.stop(reloads, Arc::clone(&service))).await;
    service.stopping();
    match kind {
        StopKind::Now => info!("stopped"),
        StopKind::Graceful => info!("gracefully stopped"),
    }
    if let (Some(path), true) = (pidfile, process.daemonize) {
        process::remove_pidfile(path).iter().for_each(|warning| warn!("{warning}"));
    }
    Ok(())
}

/// How often the service manager wants to hear that the server works, if it does.
fn watchdog_period(process: &Process) -> Option<Duration> {
    let is_meant = process.watchdog_pid.is_none_or(|pid| pid == std::process::id());
    process.watchdog_us.filter(|_| is_meant).map(Duration::from_micros)
}

/// The line for the log and the service manager once the server listens.
fn status(server: &Server, settings: &Settings, are_handed_in: bool) -> String {
    format!(
        "listens on {}{}{} and keeps up to {} MB ({} threads, {} connections)",
        server.description(),
        if are_handed_in { " (handed in, in place of those of -p, -l, -s and -U)" } else { "" },
        if server.is_protected() { ", for private addresses only," } else { "" },
        settings.memory_bytes >> 20,
        settings.threads,
        settings.connections_max,
    )
}

/// Sets up the process, before there are threads or sockets; returns the users who may log in.
fn prepare_process(
    settings: &mut Settings,
    process: &Process,
    warnings: &mut Vec<String>,
) -> Result<Option<Users>, Failure> {
    if process.coredumps {
        process::enable_coredumps()?;
    }
    let open_files = process::raise_open_files(settings.connections_max, settings.threads);
    settings.connections_max = open_files.connections_max;
    warnings.extend(open_files.warning);
    if process.lock_memory {
        process::allow_locked_memory();
    }
    warnings.extend(process::become_user(process.user.as_deref())?);
    // Read as the user who will have to read it again, and, unlike in memcached, before the process goes to the
    // background, where nobody would see an error.
    if let Some(path) = &mut settings.auth_file {
        // In the background the working directory is another one. If it cannot be determined, the path stays relative.
        *path = std::path::absolute(&*path).unwrap_or_else(|_| path.clone());
    }
    let parse = users::parse_of(settings);
    let users = settings.auth_file.as_deref().map(|path| users::read(path, parse)).transpose()?;
    if process.daemonize {
        process::daemonize(settings.verbosity > 0, process.coredumps)?;
    }
    Ok(users.map(|(users, more)| {
        warnings.extend(more);
        users
    }))
}

/// The reload of the certificates.
fn reload_certificates(tls: Arc<Tls>) -> Reload {
    let again = move || match tls.refresh() {
        Ok(()) => Ok("they are for connections to come".to_owned()),
        Err(error) => Err(error.to_string()),
    };
    Reload { name: "the certificates", again: Box::new(again) }
}

/// Opens the sockets; a UNIX socket's file gets its permissions (`-a`) through the file mode mask.
fn bind(engine: Arc<Engine>, clock: Clock, tls: Option<Arc<Tls>>) -> Result<Server, BindError> {
    let mode = Mode::from_bits_truncate(engine.settings().unix_mask);
    let before = umask(!mode & Mode::all());
    let server = Server::bind(engine, clock, tls);
    umask(before);
    server
}

/// The lines of `MEMCACHED_PORT_FILENAME` for `endpoints`; `streams` says what is spoken over TCP.
fn port_lines(streams: &str, endpoints: &[Endpoint]) -> Vec<String> {
    endpoints
        .iter()
        .filter_map(|endpoint| match endpoint {
            Endpoint::Tcp(address) => Some(process::port_line(streams, *address)),
            Endpoint::Udp(address) => Some(process::port_line("UDP", *address)),
            Endpoint::Unix(_) => None,
        })
        .collect()
}

/// The time since 1970.
fn unix_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The time since some moment.
fn monotonic_time() -> Duration {
    static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);
    BEGUN.elapsed()
}

/// The CPU time of this process so far.
fn usage() -> Usage {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return Usage::default() };
    let duration = |time: nix::sys::time::TimeVal| {
        Duration::from_micros(u64::try_from(time.num_microseconds()).unwrap_or_default())
    };
    Usage { user: duration(usage.user_time()), system: duration(usage.system_time()) }
}

/// The signals that the server listens to.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    graceful: Signal,
    reload: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            graceful: signal(SignalKind::user_defined1())?,
            reload: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for a signal that stops the server. SIGHUP runs the `reloads`.
    async fn stop(mut self, reloads: Vec<Reload>, service: Arc<Service>) -> StopKind {
        let wanted = Arc::new(Notify::new());
        // In a task of its own: a disk that hangs must not keep the server from being stopped.
        tokio::spawn(reload_when(Arc::clone(&wanted), reloads, service));
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return StopKind::Now,
                _ = self.terminate.recv() => return StopKind::Now,
                _ = self.graceful.recv() => return StopKind::Graceful,
                _ = self.reload.recv() => wanted.notify_one(),
            }
        }
    }
}
