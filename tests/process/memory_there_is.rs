//! What it says where `-m` is more than there is: of the machine, or of a control group.

use std::fs;
use std::process::Command;

use crate::needs;
use crate::server::{BINARY, Server, resident_bytes, said, wait_for};

/// The line of the log that tells of memory, once the start is over.
fn warning(server: &Server) -> Option<String> {
    wait_for("the first line", || server.log().contains("listens on"));
    server
        .log()
        .lines()
        .find(|line| line.contains("WARN") && line.contains("-m (--memory-limit)"))
        .map(str::to_owned)
}

#[test]
fn more_than_the_machine_has_is_told_and_none_of_it_is_taken() {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap();
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap();
    let total_mb = total.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10;
    let limit_mb = total_mb + 1024;
    let server = Server::start(&["-u", "root", "-m", &limit_mb.to_string()]);
    let words = warning(&server).expect("a warning");
    assert!(words.contains(&format!("is {limit_mb} MB and the ")), "{words}");
    // A control group may have less.
    assert!(words.contains(&format!("{total_mb} MB")) || words.contains("control group"), "{words}");
    let mut client = server.connect();
    assert_eq!(client.ask("set k 0 0 1\r\nv\r\n"), "STORED");
    assert!(resident_bytes(&server) < 64 << 20, "{} bytes", resident_bytes(&server));
    assert_eq!(warning(&Server::start(&["-u", "root", "-m", "16"])), None, "there is that much everywhere");
}

/// Where the limits of a control group of this name are, in the two versions, and how a process is told that it is in it.
const KINDS: [(&str, &str, &str); 2] = [
    ("a.slice/b.service/memory.max", "0::/a.slice/b.service", "/a.slice/b.service allows (memory.max)"),
    (
        "memory/docker/abc/memory.limit_in_bytes",
        "4:memory:/docker/abc",
        "/docker/abc allows (memory.limit_in_bytes)",
    ),
];

/// Few machines let tests make control groups, so what the kernel would tell of one is put in its place.
#[test]
fn more_than_its_control_group_allows_is_told() {
    if !needs::are_there(&[&needs::ROOT, &needs::UTIL_LINUX]) {
        return;
    }
    for (file, group, said_of_it) in KINDS {
        let mount = format!(
            "set -e
            mount -t tmpfs tmpfs /sys
            mkdir -p $(dirname /sys/fs/cgroup/{file})
            echo {bytes} > /sys/fs/cgroup/{file}
            echo {group} > /sys/groups
            mount --bind /sys/groups /proc/$$/cgroup
            exec \"$0\" -l 127.0.0.1 \"$@\"",
            bytes = 100 << 20,
        );
        let tried = Command::new("unshare").args(["--mount", "sh", "-c", &mount, "true"]).output().unwrap();
        if !tried.status.success() {
            return needs::leave_out(&needs::NAMESPACES, &said(&tried).1);
        }
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &mount, BINARY]);
        let server = Server::start_by(command, &["-u", "root", "-m", "200"]);
        let words = warning(&server).expect("a warning");
        let expected = format!("is 200 MB and the control group {said_of_it} 100 MB");
        assert!(words.contains(&expected), "{words}");
    }
}
