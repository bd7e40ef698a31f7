//! The pid file and the port file.

use std::ffi::OsString;
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

/// More bytes than a process id has digits.
const PID_BYTES_MAX: u64 = 32;

/// Writes this process's id and a newline to `path` (`-P`), by way of `<path>.tmp`, so that nobody reads half of
/// it. Returns warnings: what went wrong, and a running process whose id stood in an older file.
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

/// Removes the file that [`write_pidfile`] wrote. Returns a warning if that fails.
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

/// The line of the port file for a listener of `transport`, TCP or UDP.
pub fn port_line(transport: &str, address: SocketAddr) -> String {
    let family = if address.is_ipv4() { "INET" } else { "INET6" };
    format!("{transport} {family}: {}", address.port())
}

/// Replaces the file at `path` atomically.
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
        let lines = ["0.0.0.0:11211", "[::]:11212"].map(|address| port_line("TCP", address.parse().unwrap()));
        assert_eq!(write_port_file(&path, lines), None);
        assert_eq!(fs::read_to_string(&path).unwrap(), "TCP INET: 11211\nTCP INET6: 11212\n");
        assert!(!scratch.0.join("ports.lck").exists());
        assert!(write_port_file(Path::new("/nonexistent/ports"), [""]).is_some());
    }
}
