//! The servers that are measured: ferrocached, memcached, and the floor that stores nothing.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};
use std::{env, fs};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, Uid};

use crate::common::Result;
use crate::common::usage::{Cpu, resident_bytes, resident_bytes_peak};

/// A server says within this time where it listens, or the bench gives up.
const START_TIME_MAX: Duration = Duration::from_secs(20);
/// The variable by which memcached is told where to write its ports.
pub(crate) const PORT_FILE_VARIABLE: &str = "MEMCACHED_PORT_FILENAME";

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    Ferrocached,
    Memcached,
    Floor,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Ferrocached => "ferrocached",
            Kind::Memcached => "memcached",
            Kind::Floor => "floor",
        }
    }
}

/// Options that every bench takes.
#[derive(Clone, clap::Args)]
pub(crate) struct ServerOptions {
    /// Path of the ferrocached to measure; the one that cargo just built by default
    #[arg(long, value_name = "PATH")]
    ferrocached: Option<PathBuf>,
    /// Path of the memcached to compare with
    #[arg(long, value_name = "PATH", default_value = "memcached")]
    memcached: PathBuf,
    /// More arguments for both, separated by spaces, such as "-R 1000"
    #[arg(long, value_name = "ARGUMENTS", default_value = "", allow_hyphen_values = true)]
    extra: String,
    /// Said by cargo
    #[arg(long, hide = true)]
    pub(crate) bench: bool,
}

impl ServerOptions {
    /// The same, with more arguments for both servers.
    pub(crate) fn with_extra(&self, more: &str) -> Self {
        Self { extra: format!("{} {more}", self.extra), ..self.clone() }
    }
}

/// How one server is started; the same words for both.
pub(crate) struct Launch {
    pub(crate) memory_megabytes: u64,
    pub(crate) threads: u32,
    pub(crate) cpus: CpuSet,
    /// The size of the one value that the floor knows.
    pub(crate) floor_value_bytes: u32,
}

/// A server that runs until it is dropped.
pub(crate) struct Server {
    pub(crate) kind: Kind,
    pub(crate) port: u16,
    /// That of HTTP, if it was asked for.
    #[allow(dead_code, reason = "one bench uses it")]
    pub(crate) http_port: Option<u16>,
    child: Child,
}

impl Server {
    /// Starts a server on a free port of the loopback interface.
    pub(crate) fn start(kind: Kind, options: &ServerOptions, launch: &Launch) -> Result<Self> {
        Self::start_logging_to(Stdio::null(), kind, options, launch)
    }

    /// The same with `log` as its standard error.
    pub(crate) fn start_logging_to(
        log: Stdio,
        kind: Kind,
        options: &ServerOptions,
        launch: &Launch,
    ) -> Result<Self> {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let serial = STARTED.fetch_add(1, Ordering::Relaxed);
        let port_file = env::temp_dir().join(format!("ferrocached-bench-{}-{serial}", std::process::id()));

        let mut command = command(kind, options, launch)?;
        command.env(PORT_FILE_VARIABLE, &port_file);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let cpus = launch.cpus;
        // SAFETY: between fork and exec only two system calls are made, on memory that the closure owns; neither
        // allocates nor takes a lock.
        unsafe {
            command.pre_exec(move || {
                set_pdeathsig(Signal::SIGKILL)?;
                sched_setaffinity(Pid::from_raw(0), &cpus)?;
                Ok(())
            });
        }
        let child = command.spawn().map_err(|error| format!("could not start {command:?}: {error}"))?;

        // From here on the child is killed by drop, whatever happens.
        let mut server = Self { kind, port: 0, http_port: None, child };
        let ports = server.await_ports(&port_file);
        // It is there only if the start succeeded, and nothing depends on its being gone.
        let _ = fs::remove_file(&port_file);
        (server.port, server.http_port) = ports.map_err(|problem| format!("{command:?} {problem}"))?;
        Ok(server)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn cpu(&self) -> Result<Cpu> {
        Cpu::of(self.pid())
    }

    pub(crate) fn resident_bytes(&self) -> Result<u64> {
        resident_bytes(self.pid())
    }

    pub(crate) fn resident_bytes_peak(&self) -> Result<u64> {
        resident_bytes_peak(self.pid())
    }

    fn await_ports(&mut self, file: &Path) -> std::result::Result<(u16, Option<u16>), String> {
        let deadline = Instant::now() + START_TIME_MAX;
        while Instant::now() < deadline {
            let text = fs::read_to_string(file).unwrap_or_default();
            if let Some(port) = announced_port(&text, "TCP") {
                return Ok((port, announced_port(&text, "HTTP")));
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("ended before it listened ({status}); run it by hand to see why"));
            }
            sleep(Duration::from_millis(5));
        }
        Err(format!("did not write a port to the file named by {PORT_FILE_VARIABLE} in {START_TIME_MAX:?}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only for a child that is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(kind: Kind, options: &ServerOptions, launch: &Launch) -> Result<Command> {
    let program = match kind {
        Kind::Ferrocached => {
            options.ferrocached.clone().unwrap_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_ferrocached")))
        }
        Kind::Memcached => options.memcached.clone(),
        Kind::Floor => env::current_exe()?,
    };
    let mut command = Command::new(program);
    if kind == Kind::Floor {
        command.args(["--bench", "--floor", &launch.floor_value_bytes.to_string()]);
        return Ok(command);
    }
    command.args(["-p", "-1", "-l", "127.0.0.1", "-c", "4096"]);
    command.args(["-m", &launch.memory_megabytes.to_string(), "-t", &launch.threads.to_string()]);
    if Uid::effective().is_root() {
        command.args(["-u", "root"]);
    }
    command.args(options.extra.split_whitespace());
    Ok(command)
}

/// From a line like `TCP INET: 12345`, once it is whole.
fn announced_port(text: &str, spoken: &str) -> Option<u16> {
    let head = format!("{spoken} INET:");
    let line = text.split_inclusive('\n').find(|line| line.starts_with(&head) && line.ends_with('\n'))?;
    line.rsplit_once(' ')?.1.trim().parse().ok()
}
