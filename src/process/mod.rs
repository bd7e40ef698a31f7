//! The process itself: daemon mode, user, limits, sandbox, pid file, notifications to the service manager.
//!
//! Rule: these are called before the first thread is started, in memcached's order (core files, open files, user,
//! background, locked memory; the files once the sockets are open). Only [`restrict_system_calls`] comes last of all.

mod files;
mod handed_in;
mod limits;
mod memory;
mod notify;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod seccomp;
mod user;

use nix::errno::Errno;
use nix::unistd::daemon;
use thiserror::Error;

pub use files::{port_line, remove_pidfile, write_pidfile, write_port_file};
pub use handed_in::sockets_handed_in;
pub use limits::{
    OpenFiles, allow_locked_memory, are_huge_pages_allowed, enable_coredumps, is_address_space_limited,
    lock_memory, no_memory, outlive_file_size_limit, raise_open_files,
};
pub use memory::too_little_memory;
pub use notify::Notifier;
pub use user::become_user;

/// Why the server does not start.
#[derive(Debug, Error)]
pub enum ProcessError {
    /// `-u` names no user of this system.
    #[error("can't find the user {user} to switch to; name one that exists with -u (--user)")]
    UserUnknown {
        /// The name.
        user: String,
    },
    /// Root without `-u`, on a system without the users that root becomes by default.
    #[error("can't run as root without the -u switch: name a user, or add '-u root' to start as root")]
    UserMissing,
    /// The user database cannot be read.
    #[error("can't look up the user {user}: {errno}")]
    UserLookup {
        /// The name.
        user: String,
        /// What the system said.
        errno: Errno,
    },
    /// The system does not let this process become the user.
    #[error("failed to assume identity of user {user} ({step}: {errno}); allow it, or start as that user")]
    UserChange {
        /// The name.
        user: String,
        /// The system call that failed.
        step: &'static str,
        /// What the system said.
        errno: Errno,
    },
    /// `-r` cannot be had.
    #[error("failed to ensure corefile creation ({0}); raise the hard limit on core files, or leave out -r")]
    Coredumps(Errno),
    /// What a service manager hands in cannot be used.
    #[error(
        "the sockets handed in cannot be used: {0}; LISTEN_FDS and LISTEN_PID are for service managers to set"
    )]
    HandedIn(String),
    /// `-o drop_privileges` cannot be had.
    #[error(
        "Failed to set a seccomp profile ({0}); is the kernel built without CONFIG_SECCOMP_FILTER, or is a filter \
         in force already that forbids another? Leave out -o drop_privileges to start without"
    )]
    Restrict(String),
    /// `-d` cannot be had.
    #[error("failed to daemon() in order to daemonize: {0}")]
    Daemonize(Errno),
}

impl ProcessError {
    /// The exit code memcached would use.
    pub fn exit_code(&self) -> u8 {
        match self {
            ProcessError::Daemonize(_) | ProcessError::Restrict(_) => 1,
            ProcessError::UserMissing => 64,
            ProcessError::UserUnknown { .. } => 67,
            ProcessError::UserLookup { .. }
            | ProcessError::UserChange { .. }
            | ProcessError::HandedIn(_)
            | ProcessError::Coredumps(_) => 71,
        }
    }
}

/// Goes to the background, in a session of its own; the calling process ends with exit code 0.
///
/// `keep_stdio` leaves the standard streams open (memcached: with `-v`), `keep_directory` the working directory
/// (memcached: with `-r`, where the core file goes). Only the calling thread lives on.
///
/// # Errors
///
/// When the system does not let the process fork.
pub fn daemonize(keep_stdio: bool, keep_directory: bool) -> Result<(), ProcessError> {
    daemon(keep_directory, keep_stdio).map_err(ProcessError::Daemonize)
}

/// Forbids this process all system calls that a running server does not need (`-o drop_privileges`): it can no longer
/// open a file for writing, make or connect a socket, start a program, make a process, or have memory that is
/// executable. For all of its threads, those to come included, and for good. A call that is not allowed ends the
/// process with SIGSYS, and the kernel logs which one it was.
///
/// On processors other than x86-64 and 64-bit ARM nothing happens but a warning that says so.
///
/// # Errors
///
/// When the kernel does not take the filter.
pub fn restrict_system_calls() -> Result<Option<String>, ProcessError> {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    return seccomp::install().map(|()| None).map_err(|error| ProcessError::Restrict(error.to_string()));
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return Ok(Some(
        "-o drop_privileges has no effect on this kind of processor: system calls are NOT restricted"
            .to_owned(),
    ));
}
