//! What it says where `-m` is more than there is: of the machine, or of a control group.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::server::{BINARY, Server, resident_bytes, wait_for};

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

/// A control group of a test's own; removed behind it.
struct Group(PathBuf);

impl Group {
    /// One that allows so much memory.
    fn allowing(bytes: u64) -> Result<Group, String> {
        let version_1 = Path::new("/sys/fs/cgroup/memory");
        let (mount, file) = match version_1.exists() {
            true => (version_1, "memory.limit_in_bytes"),
            false => (Path::new("/sys/fs/cgroup"), "memory.max"),
        };
        let group = Group(mount.join(format!("ferrocached-{}", std::process::id())));
        let failed = |error| format!("{}: {error}", group.0.display());
        fs::create_dir(&group.0).map_err(failed)?;
        fs::write(group.0.join(file), bytes.to_string()).map_err(failed)?;
        Ok(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn more_than_its_control_group_allows_is_told() {
    let group = match Group::allowing(100 << 20) {
        Ok(group) => group,
        Err(error) => return eprintln!("NOT TESTED, for want of a control group of its own: {error}"),
    };
    let mut command = Command::new("sh");
    let enter = format!("echo $$ > {}/cgroup.procs && exec \"$0\" -l 127.0.0.1 \"$@\"", group.0.display());
    command.args(["-c", &enter, BINARY]);
    let server = Server::start_by(command, &["-u", "root", "-m", "200"]);
    let words = warning(&server).expect("a warning");
    let name = group.0.file_name().unwrap().to_str().unwrap();
    assert!(words.contains("is 200 MB and the control group"), "{words}");
    assert!(words.contains(name) && words.contains("100 MB"), "{words}");
    drop(server);
}
