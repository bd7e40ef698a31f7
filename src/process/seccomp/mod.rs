//! The system calls that a running server may make (`-o drop_privileges`).
//!
//! Rules:
//! - A call is allowed because something that runs after the start uses it; the comments say what. Everything else ends
//!   the process (SIGSYS), as in memcached: a call that the server never makes comes from an attacker who has taken it
//!   over, and an error code would let them try the next.
//! - Calls on the path of a request have no conditions: the kernel then remembers that they are allowed and does not
//!   run the filter for them (its bitmap of constant actions, since Linux 5.11).
//! - What makes files, sockets, processes or code is not allowed, with whatever arguments: no file is opened for
//!   writing, no socket is made, bound or connected, no memory becomes executable, no program is started.

use nix::libc;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter_all_threads,
};

/// Allowed whatever their arguments.
const ALLOWED: &[libc::c_long] = &[
    // Connections and datagrams.
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendmmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_write,
    libc::SYS_writev,
    // Waiting: the runtimes of the workers, and locks.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_futex,
    libc::SYS_ppoll,
    libc::SYS_restart_syscall,
    // Time. Most of it needs no system call, but may where the kernel has no better clock.
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_nanosleep,
    // Memory, as far as it does not become executable (see `conditional`).
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    // Threads that begin and end: those of the blocking pool come and go.
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_get_robust_list,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_membarrier,
    libc::SYS_rseq,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    // Signals: handlers that return, and the way of a panic or an overflown stack to the end.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    // `stats` asks for these, and the C library for its own ends (sorting, allocating).
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getppid,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_getuid,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    // Files that are read again (SIGHUP, refresh_certs) or for a backtrace; opening them is conditional.
    libc::SYS_close,
    libc::SYS_faccessat,
    libc::SYS_fstat,
    libc::SYS_getcwd,
    libc::SYS_lseek,
    libc::SYS_newfstatat,
    libc::SYS_pread64,
    libc::SYS_readlinkat,
    libc::SYS_statx,
    // Answered with an error, see `without_clone3`.
    libc::SYS_clone3,
];

/// Older names of calls above, which other C libraries than glibc use. Newer machines never had them.
#[cfg(target_arch = "x86_64")]
const ALLOWED_HERE: &[libc::c_long] = &[
    libc::SYS_access,
    libc::SYS_epoll_wait,
    libc::SYS_lstat,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_stat,
    libc::SYS_time,
    // Of the pid file and of the socket's file, at the end.
    libc::SYS_unlink,
];
#[cfg(target_arch = "aarch64")]
const ALLOWED_HERE: &[libc::c_long] = &[];

/// All flags of open(2) that are for more than reading what is there. `O_TMPFILE` contains `O_DIRECTORY`.
const OPEN_TO_WRITE: libc::c_int =
    libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC | libc::O_APPEND | (libc::O_TMPFILE & !libc::O_DIRECTORY);

/// `PR_SET_VMA` of prctl(2), by which glibc names its mappings; newer than what the crate has a name for everywhere.
const PR_SET_VMA: libc::c_int = 0x5356_4d41;

/// Forbids every thread all other system calls, for good. That needs no privilege, and none can be gained afterwards:
/// the kernel requires `no_new_privs`, which is set.
pub(super) fn install() -> Result<(), seccompiler::Error> {
    // First, for afterwards installing a filter is itself not allowed.
    apply_filter_all_threads(&without_clone3()?)?;
    apply_filter_all_threads(&allowed()?)
}

/// A filter that ends the process at everything not allowed.
fn allowed() -> Result<BpfProgram, BackendError> {
    let mut rules: std::collections::BTreeMap<i64, Vec<SeccompRule>> =
        ALLOWED.iter().chain(ALLOWED_HERE).map(|call| (*call, Vec::new())).collect();
    rules.extend(conditional()?);
    SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, architecture()?)?.try_into()
}

/// A filter that says of clone3(2) that there is none, so that threads are made by clone(2), whose flags a filter
/// can see: they tell a new thread from a new process. What a filter stacked upon another allows can still be
/// answered with an error by that other one.
fn without_clone3() -> Result<BpfProgram, BackendError> {
    let no_such_call = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    let rules = [(libc::SYS_clone3, Vec::new())].into();
    SeccompFilter::new(rules, SeccompAction::Allow, no_such_call, architecture()?)?.try_into()
}

fn architecture() -> Result<TargetArch, BackendError> {
    std::env::consts::ARCH.try_into()
}

/// System calls that are allowed with some arguments only.
fn conditional() -> Result<Vec<(i64, Vec<SeccompRule>)>, BackendError> {
    let executable = bits(libc::PROT_EXEC);
    let rules = vec![
        (libc::SYS_mmap, vec![none_of(2, executable)?]),
        (libc::SYS_mprotect, vec![none_of(2, executable)?]),
        (libc::SYS_openat, vec![none_of(2, bits(OPEN_TO_WRITE))?]),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_open, vec![none_of(1, bits(OPEN_TO_WRITE))?]),
        // No directory is removed.
        (libc::SYS_unlinkat, vec![is(2, 0)?]),
        (libc::SYS_clone, vec![all_of(0, bits(libc::CLONE_THREAD))?]),
        // Limits are read, never set: the new one is a null pointer.
        (libc::SYS_prlimit64, vec![is_null(2)?]),
        // abort(3), to this process alone.
        (libc::SYS_tgkill, vec![is(0, u64::from(std::process::id()))?]),
        (libc::SYS_prctl, each(0, &[libc::PR_SET_NAME, libc::PR_GET_NAME, PR_SET_VMA].map(bits))?),
        (
            libc::SYS_fcntl,
            each(
                1,
                &[libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_SETFL, libc::F_DUPFD_CLOEXEC]
                    .map(bits),
            )?,
        ),
        // Not to block, what waits in a socket, and whether a stream is a terminal.
        (libc::SYS_ioctl, each(1, &[libc::FIONBIO, libc::FIONREAD, libc::TCGETS].map(u64::from))?),
    ];
    Ok(rules)
}

/// Flags as a filter compares them: 32 bits, without a sign.
fn bits(flags: libc::c_int) -> u64 {
    u64::from(flags.cast_unsigned())
}

fn none_of(argument: u8, mask: u64) -> Result<SeccompRule, BackendError> {
    rule(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(mask), 0)
}

fn all_of(argument: u8, mask: u64) -> Result<SeccompRule, BackendError> {
    rule(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(mask), mask)
}

fn is(argument: u8, value: u64) -> Result<SeccompRule, BackendError> {
    rule(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
}

fn is_null(argument: u8) -> Result<SeccompRule, BackendError> {
    rule(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0)
}

fn each(argument: u8, values: &[u64]) -> Result<Vec<SeccompRule>, BackendError> {
    values.iter().map(|value| is(argument, *value)).collect()
}

fn rule(
    argument: u8,
    length: SeccompCmpArgLen,
    operator: SeccompCmpOp,
    value: u64,
) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(argument, length, operator, value)?])
}

#[cfg(test)]
mod tests;
