//! What the system lets the process have: open files, core files, locked memory, huge pages.

use std::fmt::Display;
use std::fs;

use nix::errno::Errno;
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};

use super::ProcessError;

/// Descriptors reserved for standard streams, listeners and files.
const DESCRIPTORS_RESERVED: u64 = 32;
/// Descriptors a worker keeps for its runtime: epoll, waker, signals.
const DESCRIPTORS_PER_WORKER: u64 = 6;

/// How many connections the system's limit on open files leaves room for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenFiles {
    /// As many as were asked for, or fewer.
    pub connections_max: u32,
    /// What to tell the operator when it is fewer.
    pub warning: Option<String>,
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

/// Makes the limit on the size of files (`ulimit -f`) an error of the write that meets it, as a full disk is, instead
/// of the end of the process: the signal that would end it stays blocked, in this thread and all that are started from
/// it.
pub fn outlive_file_size_limit() {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGXFSZ);
    // It cannot fail for a signal that there is; and then a long log would end the process, as it always did.
    let _ = signals.thread_block();
}

/// Whether addresses are few (`ulimit -v`).
pub fn is_address_space_limited() -> bool {
    getrlimit(Resource::RLIMIT_AS).is_ok_and(|(bytes, _)| bytes != RLIM_INFINITY)
}

/// What to tell the operator when the store's addresses cannot be reserved, for the reason that is given.
pub fn no_memory(refused: &dyn Display) -> String {
    let allowed = match getrlimit(Resource::RLIMIT_AS) {
        Ok((RLIM_INFINITY, _)) | Err(_) => String::new(),
        Ok((bytes, _)) => format!(" of {} MB", bytes >> 20),
    };
    format!(
        "failed to start with -m (--memory-limit): {refused}; lower it, or raise the limit{allowed} on address space \
         (ulimit -v, or LimitAS= of systemd), which has to be 90 times -m and what is for the others: addresses, not \
         memory"
    )
}

/// Raises the limit on locked memory, so that [`lock_memory`] works without root. If that fails, [`lock_memory`] will
/// warn.
pub fn allow_locked_memory() {
    let _ = raise_limit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY);
}

/// Whether the operator allows transparent huge pages at all. It has to be checked, because collapsing single pages
/// (`MADV_COLLAPSE`) ignores that setting.
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
