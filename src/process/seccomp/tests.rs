//! The filters, run as the kernel would run them.

use super::*;

/// Instructions that filters are made of. Source: `linux/bpf_common.h`.
const LOAD_WORD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP_ALWAYS: u16 = 0x05;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;

/// What a filter answers. Source: `linux/seccomp.h`.
const KILL_PROCESS: u32 = 0x8000_0000;
const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;

#[cfg(target_arch = "x86_64")]
const AUDIT_ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const AUDIT_ARCH: u32 = 0xc000_00b7;

/// What `program` says of a system call. `struct seccomp_data` is the call, the architecture, an address, and six
/// arguments of 64 bits.
fn verdict(program: &BpfProgram, call: libc::c_long, arguments: [u64; 6]) -> u32 {
    let mut words = vec![u32::try_from(call).unwrap(), AUDIT_ARCH, 0, 0];
    words.extend(arguments.iter().flat_map(|argument| [*argument as u32, (*argument >> 32) as u32]));
    let (mut accumulator, mut at) = (0, 0);
    loop {
        let instruction = &program[at];
        at += 1;
        match instruction.code {
            LOAD_WORD => accumulator = words[instruction.k as usize / 4],
            AND => accumulator &= instruction.k,
            JUMP_ALWAYS => at += instruction.k as usize,
            JUMP_IF_EQUAL => {
                let jump = if accumulator == instruction.k { instruction.jt } else { instruction.jf };
                at += usize::from(jump);
            }
            RETURN => return instruction.k,
            code => panic!("an instruction {code:#x}"),
        }
    }
}

/// What both filters say together: the stricter decides.
fn decided(call: libc::c_long, arguments: [u64; 6]) -> u32 {
    match (
        verdict(&allowed().unwrap(), call, arguments),
        verdict(&without_clone3().unwrap(), call, arguments),
    ) {
        (ALLOW, other) => other,
        (one, _) => one,
    }
}

/// Whether the call is allowed with `value` as argument number `argument`.
#[track_caller]
fn check(call: libc::c_long, argument: usize, value: libc::c_int, is_allowed: bool) {
    let mut arguments = [0; 6];
    arguments[argument] = bits(value);
    let expected = if is_allowed { ALLOW } else { KILL_PROCESS };
    assert_eq!(decided(call, arguments), expected, "call {call} with {value:#x}");
}

#[test]
fn every_call_is_named_once() {
    let conditional = conditional().unwrap();
    let mut calls: Vec<_> =
        ALLOWED.iter().chain(ALLOWED_HERE).chain(conditional.iter().map(|(call, _)| call)).collect();
    calls.sort();
    let named = calls.len();
    calls.dedup();
    assert_eq!(calls.len(), named);
}

#[test]
fn what_is_listed_is_allowed() {
    for call in ALLOWED.iter().chain(ALLOWED_HERE).filter(|call| **call != libc::SYS_clone3) {
        assert_eq!(decided(*call, [u64::MAX; 6]), ALLOW, "{call}");
    }
}

#[test]
fn nothing_that_makes_files_sockets_programs_or_code_is_allowed() {
    for call in [
        libc::SYS_execve,
        libc::SYS_execveat,
        libc::SYS_socket,
        libc::SYS_socketpair,
        libc::SYS_bind,
        libc::SYS_connect,
        libc::SYS_listen,
        libc::SYS_openat2,
        libc::SYS_renameat2,
        libc::SYS_ptrace,
        libc::SYS_process_vm_writev,
        libc::SYS_memfd_create,
        libc::SYS_pkey_mprotect,
        libc::SYS_bpf,
        libc::SYS_io_uring_setup,
        libc::SYS_kill,
        libc::SYS_mount,
        libc::SYS_setuid,
        libc::SYS_seccomp,
        libc::SYS_unshare,
        libc::SYS_userfaultfd,
        libc::SYS_fchmodat,
    ] {
        assert_eq!(decided(call, [0; 6]), KILL_PROCESS, "{call}");
    }
}

#[test]
fn memory_is_never_executable() {
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        check(call, 2, libc::PROT_NONE, true);
        check(call, 2, libc::PROT_READ | libc::PROT_WRITE, true);
        check(call, 2, libc::PROT_READ | libc::PROT_EXEC, false);
        check(call, 2, libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC, false);
    }
}

#[test]
fn files_are_opened_for_reading_only() {
    check(libc::SYS_openat, 2, libc::O_RDONLY | libc::O_CLOEXEC, true);
    check(libc::SYS_openat, 2, libc::O_RDONLY | libc::O_CLOEXEC | libc::O_DIRECTORY, true);
    for flags in [libc::O_WRONLY, libc::O_RDWR, libc::O_CREAT, libc::O_TRUNC, libc::O_APPEND, libc::O_TMPFILE]
    {
        check(libc::SYS_openat, 2, flags | libc::O_CLOEXEC, false);
        #[cfg(target_arch = "x86_64")]
        check(libc::SYS_open, 1, flags | libc::O_CLOEXEC, false);
    }
    check(libc::SYS_unlinkat, 2, 0, true);
    check(libc::SYS_unlinkat, 2, libc::AT_REMOVEDIR, false);
}

#[test]
fn threads_can_be_made_and_processes_cannot() {
    let thread =
        libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_FILES | libc::CLONE_SIGHAND | libc::CLONE_THREAD;
    check(libc::SYS_clone, 0, thread | libc::CLONE_SYSVSEM | libc::CLONE_SETTLS, true);
    check(libc::SYS_clone, 0, libc::SIGCHLD, false);
    check(libc::SYS_clone, 0, libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD, false);
    // The flags of clone3 are out of sight, so there is none.
    assert_eq!(decided(libc::SYS_clone3, [0; 6]), ERRNO | libc::ENOSYS.unsigned_abs());
}

#[test]
fn other_conditions_hold() {
    let own = libc::c_int::try_from(std::process::id()).unwrap();
    check(libc::SYS_tgkill, 0, own, true);
    check(libc::SYS_tgkill, 0, 1, false);
    check(libc::SYS_prlimit64, 2, 0, true);
    check(libc::SYS_prlimit64, 2, 1, false);
    assert_eq!(decided(libc::SYS_prlimit64, [0, 0, 1 << 32, 0, 0, 0]), KILL_PROCESS);
    check(libc::SYS_prctl, 0, libc::PR_SET_NAME, true);
    check(libc::SYS_prctl, 0, libc::PR_SET_DUMPABLE, false);
    check(libc::SYS_fcntl, 1, libc::F_SETFL, true);
    check(libc::SYS_fcntl, 1, libc::F_SETOWN, false);
    assert_eq!(decided(libc::SYS_ioctl, [0, libc::FIONBIO, 0, 0, 0, 0]), ALLOW);
    assert_eq!(decided(libc::SYS_ioctl, [0, libc::TIOCSTI, 0, 0, 0, 0]), KILL_PROCESS);
}
