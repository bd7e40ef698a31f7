//! What concerns the process itself: background, user, limits, and the files that tell others about it.
//!
//! Rule: these are called before the first thread is started, in memcached's order (core files, open files, user,
//! background, locked memory; the files once the sockets are open).

use std::ffi::OsString;
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use nix::sys::signal::kill;
use nix::unistd::{Pid, Uid, User, daemon, setgid, setgroups, setuid};
use thiserror::Error;

/// Whom to become when root names nobody with `-u`: Debian's user, then everybody's.
const USERS_FOR_ROOT: [&str; 2] = ["memcache", "nobody"];
/// Descriptors kept for what is no connection: standard streams, listeners, files.
const DESCRIPTORS_RESERVED: u64 = 32;
/// Descriptors a worker keeps for its runtime: epoll, waker, signals.
const DESCRIPTORS_PER_WORKER: u64 = 6;
/// More bytes than a process id has digits.
const PID_BYTES_MAX: u64 = 32;

/// Why the server does not start.
#[derive(Debug, Error)]
pub enum ProcessError {
    /// `-u` names nobody.
    #[error("can't find the user {user} to switch to; name one that exists with -u (--user)")]
    UserUnknown {
        /// The name.
        user: String,
    },
    /// Root, no `-u`, and nobody else to become.
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
    /// `-d` cannot be had.
    #[error("failed to daemon() in order to daemonize: {0}")]
    Daemonize(Errno),
}

impl ProcessError {
    /// The exit code memcached would use.
    pub fn exit_code(&self) -> u8 {
        match self {
            ProcessError::Daemonize(_) => 1,
            ProcessError::UserMissing => 64,
            ProcessError::UserUnknown { .. } => 67,
            ProcessError::UserLookup { .. }
            | ProcessError::UserChange { .. }
            | ProcessError::Coredumps(_) => 71,
        }
    }
}

/// How many connections the system's limit on open files leaves room for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenFiles {
    /// What was asked for, or fewer.
    pub connections_max: u32,
    /// What to tell the operator when it is fewer.
    pub warning: Option<String>,
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

/// Gives up being root: drops all supplementary groups, then becomes `user` for good. A process that is not root
/// stays what it is, whatever `user` says.
///
/// Without a `user`, root becomes `memcache` or else `nobody`; the line that is returned then says so.
/// `root` itself may be named.
///
/// # Errors
///
/// When there is no such user, or the system does not allow the change.
pub fn become_user(user: Option<&str>) -> Result<Option<String>, ProcessError> {
    if !Uid::current().is_root() && !Uid::effective().is_root() {
        return Ok(None);
    }
    let (account, told) = match user {
        Some(name) => {
            let account = account(name)?;
            (account.ok_or_else(|| ProcessError::UserUnknown { user: name.to_owned() })?, None)
        }
        None => {
            let account = account_for_root()?;
            let told = format!("started as root without -u (--user): running as {}", account.name);
            (account, Some(told))
        }
    };
    let failed = |step| {
        let user = account.name.clone();
        move |errno| ProcessError::UserChange { user, step, errno }
    };
    match setgroups(&[]) {
        // A container may hold root without CAP_SETGID; then there are no groups to lose, or setgid will fail.
        Ok(()) | Err(Errno::EPERM) => {}
        Err(errno) => return Err(failed("setgroups")(errno)),
    }
    setgid(account.gid).map_err(failed("setgid"))?;
    setuid(account.uid).map_err(failed("setuid"))?;
    Ok(told)
}

fn account_for_root() -> Result<User, ProcessError> {
    for name in USERS_FOR_ROOT {
        if let Some(account) = account(name)? {
            return Ok(account);
        }
    }
    Err(ProcessError::UserMissing)
}

fn account(name: &str) -> Result<Option<User>, ProcessError> {
    User::from_name(name).map_err(|errno| ProcessError::UserLookup { user: name.to_owned(), errno })
}

/// Raises the limit on open files, as far as the system allows, to what `connections_max` connections and
/// `threads` workers need, and says how many connections that leaves room for. A limit that is higher already
/// stays.
pub fn raise_open_files(connections_max: u32, threads: usize) -> OpenFiles {
    let threads = u64::try_from(threads).unwrap_or(u64::MAX);
    let reserved = DESCRIPTORS_RESERVED.saturating_add(threads.saturating_mul(DESCRIPTORS_PER_WORKER));
    let wanted = reserved.saturating_add(u64::from(connections_max));
    match raise_limit(Resource::RLIMIT_NOFILE, wanted) {
        Ok(limit) => affordable(connections_max, reserved, limit),
        Err(errno) => OpenFiles {
            connections_max,
            warning: Some(format!("failed to read the rlimit for open files: {errno}")),
        },
    }
}

/// The connections that `limit` descriptors leave room for; one at least.
fn affordable(connections_max: u32, reserved: u64, limit: u64) -> OpenFiles {
    let room = u32::try_from(limit.saturating_sub(reserved)).unwrap_or(u32::MAX);
    if room >= connections_max {
        return OpenFiles { connections_max, warning: None };
    }
    let possible = room.max(1);
    let warning = format!(
        "failed to set rlimit for open files: -c (--conn-limit) {connections_max} needs {} and {limit} are \
         allowed, so at most {possible} connections are taken; raise the limit (ulimit -n, or LimitNOFILE= of \
         systemd) or lower -c",
        reserved.saturating_add(u64::from(connections_max))
    );
    OpenFiles { connections_max: possible, warning: Some(warning) }
}

/// Raises a soft limit to `wanted`, or as near as the hard limit lets it, and returns what is in force then.
/// With the privilege to do so, the hard limit is raised too.
fn raise_limit(resource: Resource, wanted: u64) -> Result<u64, Errno> {
    let (soft, hard) = getrlimit(resource)?;
    if soft >= wanted {
        return Ok(soft);
    }
    let attempts = [(wanted, hard.max(wanted)), (hard.min(wanted), hard)];
    let raised = attempts.iter().find(|(soft, hard)| setrlimit(resource, *soft, *hard).is_ok());
    Ok(raised.map_or(soft, |(raised, _)| *raised))
}

/// Lifts the limit on the size of core files as far as the system allows (`-r`).
///
/// # Errors
///
/// When no core file would be written at all.
pub fn enable_coredumps() -> Result<(), ProcessError> {
    match raise_limit(Resource::RLIMIT_CORE, RLIM_INFINITY) {
        Ok(0) => Err(ProcessError::Coredumps(Errno::EPERM)),
        Ok(_) => Ok(()),
        Err(errno) => Err(ProcessError::Coredumps(errno)),
    }
}

/// Lets [`lock_memory`] succeed after root was given up. Where the limit cannot be raised, that function will tell.
pub fn allow_locked_memory() {
    let _ = raise_limit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY);
}

/// Whether the operator lets the system have transparent huge pages at all, for asking for them one by one overrides
/// what was set.
pub fn are_huge_pages_allowed() -> bool {
    let setting = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
    setting.is_ok_and(|setting| !setting.contains("[never]"))
}

/// Keeps all memory, present and to come, from being swapped out (`-k`). A failure comes back as a warning.
///
/// To be called when the store has reserved its addresses, for a limit on locked memory would count them all.
/// Pages are locked when they are first touched: the store reserves far more addresses than it uses memory, and
/// to lock those would be to take all of that memory at once.
#[must_use]
pub fn lock_memory() -> Option<String> {
    // Linux's MCL_ONFAULT (mlockall(2)), for which nix has no name.
    const ON_FAULT: MlockAllFlags = MlockAllFlags::from_bits_retain(4);
    let failure = mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | ON_FAULT).err()?;
    Some(format!(
        "-k (--lock-memory) has no effect, mlockall() failed: {failure}; raise the limit on locked memory \
         (ulimit -l, or LimitMEMLOCK= of systemd)"
    ))
}

/// Writes this process's id and a newline to `path` (`-P`), by way of `<path>.tmp`, so that nobody reads half of
/// it. What went wrong, and a live process found in an older file, come back as warnings.
#[must_use]
pub fn write_pidfile(path: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(other) = live_process_in(path) {
        warnings.push(format!("The pid file contained the following (running) pid: {other}"));
    }
    let text = format!("{}\n", std::process::id());
    if let Err(error) = replace(path, ".tmp", &text) {
        warnings.push(format!("Could not open the pid file {} for writing: {error}", path.display()));
    }
    warnings
}

/// Removes what [`write_pidfile`] wrote. A failure comes back as a warning.
#[must_use]
pub fn remove_pidfile(path: &Path) -> Option<String> {
    let error = fs::remove_file(path).err()?;
    Some(format!("Could not remove the pid file {}: {error}", path.display()))
}

/// The process whose id stands in the file, if it is alive and not this one.
fn live_process_in(path: &Path) -> Option<i32> {
    let mut text = String::new();
    File::open(path).ok()?.take(PID_BYTES_MAX).read_to_string(&mut text).ok()?;
    let pid = text.trim().parse::<i32>().ok().filter(|pid| *pid > 0)?;
    let is_other = u32::try_from(pid) != Ok(std::process::id());
    let is_alive = matches!(kill(Pid::from_raw(pid), None), Ok(()) | Err(Errno::EPERM));
    (is_other && is_alive).then_some(pid)
}

/// Writes `lines` to `path` (`MEMCACHED_PORT_FILENAME`), by way of `<path>.lck`: test harnesses wait for the file
/// to appear. A failure comes back as a warning.
#[must_use]
pub fn write_port_file(path: &Path, lines: impl IntoIterator<Item = impl Display>) -> Option<String> {
    let text: String = lines.into_iter().map(|line| format!("{line}\n")).collect();
    let error = replace(path, ".lck", &text).err()?;
    Some(format!("Failed to write the port file {}: {error}", path.display()))
}

/// The line of the port file for a TCP listener.
pub fn port_line(address: SocketAddr) -> String {
    let family = if address.is_ipv4() { "INET" } else { "INET6" };
    format!("TCP {family}: {}", address.port())
}

/// Puts `text` in the place of the file at `path`, in one step for those who read it.
fn replace(path: &Path, suffix: &str, text: &str) -> io::Result<()> {
    let mut draft = OsString::from(path);
    draft.push(suffix);
    let draft = PathBuf::from(draft);
    fs::write(&draft, text)?;
    fs::rename(&draft, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory that is gone at the end of the test.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let path = std::env::temp_dir().join(format!("ferrocached-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Scratch(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0); // What is left behind in the temporary directory harms nobody.
        }
    }

    #[test]
    fn connections_are_lowered_to_what_descriptors_allow() {
        let check = |connections, limit, possible, warns| {
            let open_files = affordable(connections, 56, limit);
            assert_eq!(open_files.connections_max, possible, "{connections} within {limit}");
            assert_eq!(open_files.warning.is_some(), warns, "{connections} within {limit}");
        };
        check(1024, 1_048_576, 1024, false);
        check(1024, RLIM_INFINITY, 1024, false);
        check(1024, 1080, 1024, false);
        check(1024, 1079, 1023, true);
        check(100_000, 4096, 4040, true);
        check(1, 10, 1, true);
    }

    #[test]
    fn a_limit_is_never_lowered() {
        let (before, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!(raise_open_files(1, 1), OpenFiles { connections_max: 1, warning: None });
        assert!(getrlimit(Resource::RLIMIT_NOFILE).unwrap().0 >= before);
    }

    #[test]
    fn a_pid_file_holds_the_pid_and_a_newline_and_goes_away() {
        let scratch = Scratch::new("pidfile");
        let path = scratch.0.join("memcached.pid");
        assert!(write_pidfile(&path).is_empty());
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        assert!(!scratch.0.join("memcached.pid.tmp").exists());
        assert!(write_pidfile(&path).is_empty(), "its own pid is no other process");
        assert_eq!(remove_pidfile(&path), None);
        assert!(!path.exists());
        assert!(remove_pidfile(&path).unwrap().starts_with("Could not remove the pid file"));
    }

    #[test]
    fn a_live_process_in_the_old_pid_file_is_told() {
        let scratch = Scratch::new("livepid");
        let path = scratch.0.join("memcached.pid");
        fs::write(&path, "1\n").unwrap();
        assert_eq!(write_pidfile(&path), ["The pid file contained the following (running) pid: 1"]);
        for stale in ["", "0\n", "-1\n", "2147483647\n", "hello\n"] {
            fs::write(&path, stale).unwrap();
            assert!(write_pidfile(&path).is_empty(), "{stale:?}");
        }
    }

    #[test]
    fn a_pid_file_that_cannot_be_written_only_warns() {
        let warnings = write_pidfile(Path::new("/nonexistent/memcached.pid"));
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].contains("/nonexistent/memcached.pid"), "{}", warnings[0]);
    }

    #[test]
    fn the_port_file_has_a_line_per_listener() {
        let scratch = Scratch::new("portfile");
        let path = scratch.0.join("ports");
        let lines = ["0.0.0.0:11211", "[::]:11212"].map(|address| port_line(address.parse().unwrap()));
        assert_eq!(write_port_file(&path, lines), None);
        assert_eq!(fs::read_to_string(&path).unwrap(), "TCP INET: 11211\nTCP INET6: 11212\n");
        assert!(!scratch.0.join("ports.lck").exists());
        assert!(write_port_file(Path::new("/nonexistent/ports"), [""]).is_some());
    }
}
