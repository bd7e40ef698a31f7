//! A running server and those who talk to it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_ferrocached");

/// How long anything may take to happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A directory of one test, removed behind it.
pub(crate) struct Directory(pub PathBuf);

impl Directory {
    pub(crate) fn new() -> Directory {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("ferrocached-process-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        // The server may run as somebody else.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        Directory(path)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running server. Killed when dropped, by its pid.
pub(crate) struct Server {
    pub child: Child,
    pub directory: Directory,
    pub port: u16,
}

impl Server {
    /// Starts one on a free port of the loopback address, and waits until it listens.
    pub(crate) fn start(options: &[&str]) -> Server {
        Server::start_anywhere(&[&["-l", "127.0.0.1"], options].concat())
    }

    /// Starts one on a free port of every address, unless `options` say where, and waits until it listens.
    pub(crate) fn start_anywhere(options: &[&str]) -> Server {
        Server::start_with(&[], options)
    }

    /// The same with more variables in its environment.
    pub(crate) fn start_with(environment: &[(&str, &str)], options: &[&str]) -> Server {
        let mut command = Command::new(BINARY);
        command.envs(environment.iter().copied());
        Server::start_by(command, options)
    }

    /// The same with `log` as its standard error.
    pub(crate) fn start_logging_to(log: impl Into<Stdio>, options: &[&str]) -> Server {
        let directory = Directory::new();
        fs::write(directory.file("log"), "").unwrap();
        Server::start_in(directory, Command::new(BINARY), options, log.into())
    }

    /// Starts one under a limit of the shell's `ulimit`, on a free port of the loopback address, and waits until it
    /// listens.
    pub(crate) fn start_under(
        ulimit: &str,
        directory: Directory,
        log: impl Into<Stdio>,
        options: &[&str],
    ) -> Server {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit {ulimit} && exec \"$0\" -l 127.0.0.1 \"$@\""), BINARY]);
        Server::start_in(directory, command, options, log.into())
    }

    /// Starts one by a command that ends in the server, and waits until it listens.
    pub(crate) fn start_by(command: Command, options: &[&str]) -> Server {
        let directory = Directory::new();
        let log = fs::File::create(directory.file("log")).unwrap();
        Server::start_in(directory, command, options, log.into())
    }

    /// Starts `command`, with its standard error as the log, and waits for nothing.
    pub(crate) fn spawn(command: &mut Command) -> Server {
        let directory = Directory::new();
        let log = fs::File::create(directory.file("log")).unwrap();
        let child = command.stdin(Stdio::null()).stderr(log).spawn().unwrap();
        Server { child, directory, port: 0 }
    }

    fn start_in(directory: Directory, mut command: Command, options: &[&str], log: Stdio) -> Server {
        let ports = directory.file("ports");
        let child = command
            .args(["-p", "-1"])
            .args(options)
            .env("MEMCACHED_PORT_FILENAME", &ports)
            .stderr(log)
            .spawn()
            .unwrap();
        let mut server = Server { child, directory, port: 0 };
        wait_for("the port file", || {
            assert!(server.child.try_wait().unwrap().is_none(), "it ended at once: {}", server.log());
            ports.exists()
        });
        let text = fs::read_to_string(&ports).unwrap();
        server.port = text.lines().find_map(|line| line.strip_prefix("TCP INET: ")).unwrap().parse().unwrap();
        server
    }

    pub(crate) fn connect(&self) -> Client<TcpStream> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client(BufReader::new(stream))
    }

    /// The port of the UDP socket of IPv4.
    pub(crate) fn udp_port(&self) -> u16 {
        let text = fs::read_to_string(self.directory.file("ports")).unwrap();
        text.lines().find_map(|line| line.strip_prefix("UDP INET: ")).unwrap().parse().unwrap()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.file("log")).unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Waits for the end, and tells the exit code.
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        let mut status = None;
        wait_for("the end of the server", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap().code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) struct Client<S: Read>(pub BufReader<S>);

impl<S: Read + Write> Client<S> {
    pub(crate) fn send(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
    }

    /// The next line without its end; empty at the end of the stream.
    pub(crate) fn line(&mut self) -> String {
        self.line_with_end().trim_end_matches("\r\n").to_owned()
    }

    /// The next line without its end; empty when there is none to come, for whatever reason.
    pub(crate) fn line_or_end(&mut self) -> String {
        let mut line = String::new();
        match self.0.read_line(&mut line) {
            Ok(_) => line.trim_end_matches("\r\n").to_owned(),
            Err(_) => String::new(),
        }
    }

    /// The next line of what a watcher is shown, which ends in LF alone.
    pub(crate) fn event(&mut self) -> String {
        let line = self.line_with_end();
        assert!(line.ends_with('\n') && !line.contains('\r'), "{line:?}");
        line.trim_end().to_owned()
    }

    pub(crate) fn line_with_end(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line
    }

    pub(crate) fn ask(&mut self, text: &str) -> String {
        self.send(text);
        self.line()
    }

    /// The value of one line of `stats`, or of `stats settings`.
    pub(crate) fn stat(&mut self, command: &str, name: &str) -> Option<String> {
        self.send(command);
        let mut found = None;
        loop {
            let line = self.line();
            if line == "END" {
                return found;
            }
            let mut words = line.splitn(3, ' ').skip(1);
            if words.next() == Some(name) {
                found = words.next().map(str::to_owned);
            }
        }
    }

    pub(crate) fn is_closed(&mut self) -> bool {
        matches!(self.0.read(&mut [0]), Ok(0) | Err(_))
    }
}

pub(crate) fn wait_for(what: &str, mut happened: impl FnMut() -> bool) {
    let since = Instant::now();
    while !happened() {
        assert!(since.elapsed() < PATIENCE, "waited in vain for {what}");
        sleep(Duration::from_millis(10));
    }
}

pub(crate) fn run(options: &[&str]) -> Output {
    Command::new(BINARY).args(options).stdin(Stdio::null()).output().unwrap()
}

pub(crate) fn said(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// A server on a UNIX socket, which listens there by then.
pub(crate) fn on_unix_socket(path: &Path) -> (Child, Client<UnixStream>) {
    let child =
        Command::new(BINARY).args(["-u", "root", "-s"]).arg(path).stderr(Stdio::null()).spawn().unwrap();
    let mut client = None;
    wait_for("the socket of this very server", || {
        let stream = UnixStream::connect(path).ok();
        let mut connected = stream.map(|stream| Client(BufReader::new(stream)));
        let pid = connected.as_mut().and_then(|connected| connected.stat("stats\r\n", "pid"));
        client = connected.filter(|_| pid == Some(child.id().to_string()));
        client.is_some()
    });
    (child, client.unwrap())
}

pub(crate) fn log_contains(path: &Path, part: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|log| log.contains(part))
}

pub(crate) fn resident_bytes(server: &Server) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}
