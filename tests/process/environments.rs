//! What starts memcached elsewhere starts this server: the literal arguments and variables of charts, images, units and
//! configuration management, under the name `memcached`, as root and as somebody else.
//!
//! Rule: nothing is changed but port 11211, in whose place the system chooses one.

mod bitnami;
mod charts;
mod machines;

use std::fs;
use std::net::TcpStream;
use std::process::{Command, Stdio};

use nix::unistd::{Uid, User, geteuid};

use crate::login::login;
use crate::needs;
use crate::server::*;

/// Whom root becomes to be somebody else, by number: Debian's nobody.
const SOMEBODY: u32 = 65534;

/// The accounts that such images and distributions have.
const ACCOUNTS: [(&str, u32); 2] = [("memcached", 11212), ("memcache", 11211)];

/// What stands for the directory of the test in arguments and variables.
const HERE: &str = "{here}";

/// How something starts memcached, and what is to come of it.
#[derive(Clone, Copy, Default)]
struct Environment<'a> {
    /// A command line; `memcached` is this server.
    command: &'a [&'a str],
    variables: &'a [(&'a str, &'a str)],
    /// Files in the directory of the test.
    files: &'a [(&'a str, &'a str)],
    /// Whom root becomes by it; nobody else does.
    user: &'a str,
    /// Lines of `stats settings`.
    settings: &'a [(&'a str, &'a str)],
    /// What the log warns of.
    warning: Option<&'a str>,
    /// `user password`, without which nothing is done.
    login: Option<&'a str>,
}

impl Environment<'_> {
    /// Starts it as root and as somebody else, and uses it.
    #[track_caller]
    fn check(&self) {
        self.check_as_somebody();
        self.check_as_root("");
    }

    #[track_caller]
    fn check_as_somebody(&self) {
        if !geteuid().is_root() {
            self.run(&[], geteuid());
        } else if needs::are_there(&[&needs::UTIL_LINUX]) {
            let id = SOMEBODY.to_string();
            let become_somebody = ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"];
            self.run(&become_somebody, Uid::from_raw(SOMEBODY));
        }
    }

    /// Starts it where the accounts are there, and `more` was done in a shell that may mount.
    #[track_caller]
    fn check_as_root(&self, more: &str) {
        if !needs::are_there(&[&needs::ROOT, &needs::UTIL_LINUX]) {
            return;
        }
        let tried = Command::new("unshare").args(["--mount", "true"]).output().unwrap();
        if !tried.status.success() {
            return needs::leave_out(&needs::NAMESPACES, &said(&tried).1);
        }
        let mount = format!("mount --bind {HERE}/passwd /etc/passwd && {more} exec \"$@\"");
        self.run(&["unshare", "--mount", "sh", "-c", &mount, "sh"], self.uid());
    }

    /// Whom root becomes.
    fn uid(&self) -> Uid {
        if let Ok(number) = self.user.parse() {
            return Uid::from_raw(number);
        }
        let added = ACCOUNTS.iter().find(|(name, _)| *name == self.user).map(|(_, id)| Uid::from_raw(*id));
        let known = User::from_name(self.user).unwrap().map(|user| user.uid);
        known.or(added).unwrap_or_else(|| panic!("nobody is called {}", self.user))
    }

    fn run(&self, before: &[&str], uid: Uid) {
        let server = self.start(before);
        let mut client = server.connect();
        if let Some(token) = self.login {
            assert_eq!(client.ask("get key\r\n"), "CLIENT_ERROR unauthenticated", "{}", server.log());
            assert_eq!(client.ask(&login(token)), "STORED");
        }
        assert_eq!(client.ask("set key 5 0 5\r\nhello\r\n"), "STORED", "{:?}", self.command);
        assert_eq!(client.ask("get key\r\n"), "VALUE key 5 5");
        assert_eq!([client.line(), client.line()], ["hello", "END"]);
        for (name, value) in self.settings {
            assert_eq!(client.stat("stats settings\r\n", name).as_deref(), Some(*value), "{name}");
        }
        let log = server.log();
        assert!(log.contains("listens on") && !log.contains(" ERROR "), "{log}");
        if let Some(warning) = self.warning {
            let warnings = log.lines().filter(|line| line.contains("WARN") && line.contains(warning));
            assert_eq!(warnings.count(), 1, "{log}");
        }
        let status = fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap();
        let uids = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap();
        assert!(uids.split_whitespace().all(|found| found == uid.to_string()), "{uid}: {uids}");
        assert_is_found_by_name(&server);
        if let Some(token) = self.login {
            assert_keeps_password(&server, &mut client, token.split_once(' ').unwrap().1);
        }
    }

    /// Starts it by a command that begins with `before`, and waits until it listens.
    fn start(&self, before: &[&str]) -> Server {
        let directory = Directory::new();
        std::os::unix::fs::symlink(BINARY, directory.file("memcached")).unwrap();
        fs::write(directory.file("passwd"), accounts()).unwrap();
        for (name, text) in self.files {
            fs::write(directory.file(name), text.replace("-p 11211", "-p -1")).unwrap();
        }
        let here = |word: &str| word.replace(HERE, directory.0.to_str().unwrap());
        let words = [before, &with_free_ports(self.command)].concat();
        let mut command = Command::new(words[0]);
        command.args(words[1..].iter().map(|word| here(word)));
        command.env("PATH", format!("{}:{}", directory.0.display(), std::env::var("PATH").unwrap()));
        // Weaker than any -p.
        command.env("MEMCACHED_PORT", "-1").env("MEMCACHED_PORT_FILENAME", directory.file("ports"));
        for (name, value) in self.variables {
            command.env(name, if *value == "11211" { "-1".to_owned() } else { here(value) });
        }
        let log = fs::File::create(directory.file("log")).unwrap();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let mut server = Server { child, directory, port: 0 };
        let ports = server.directory.file("ports");
        wait_for("the port file and the first line", || {
            let log = server.log();
            assert!(server.child.try_wait().unwrap().is_none(), "{words:?} ended at once: {log}");
            ports.exists() && log.contains("listens on")
        });
        let text = fs::read_to_string(&ports).unwrap();
        server.port = text.lines().find_map(|line| line.strip_prefix("TCP INET: ")).unwrap().parse().unwrap();
        server
    }
}

/// With a port that the system chooses where -p or -U says 11211; `-u 11211` is a user.
fn with_free_ports<'w>(words: &[&'w str]) -> Vec<&'w str> {
    let is_port = |at: usize| words[at] == "11211" && at > 0 && ["-p", "-U"].contains(&words[at - 1]);
    (0..words.len()).map(|at| if is_port(at) { "-1" } else { words[at] }).collect()
}

/// This machine's accounts, and those that are missing.
fn accounts() -> String {
    let mut accounts = fs::read_to_string("/etc/passwd").unwrap();
    for (name, id) in ACCOUNTS {
        if User::from_name(name).unwrap().is_none() {
            accounts += &format!("{name}:x:{id}:{id}::/nonexistent:/bin/false\n");
        }
    }
    accounts
}

/// As Bitnami's liveness probe looks for it: `pgrep memcached`, which compares what is in `comm`.
fn assert_is_found_by_name(server: &Server) {
    let pid = server.child.id();
    assert_eq!(fs::read_to_string(format!("/proc/{pid}/comm")).unwrap(), "memcached\n");
    if needs::on_path("pgrep").is_some() {
        let found = Command::new("pgrep").arg("memcached").output().unwrap();
        let found = String::from_utf8(found.stdout).unwrap();
        assert!(found.lines().any(|line| line == pid.to_string()), "{pid} is not one of {found}");
    }
}

/// Nobody but those who may read the variables or the file is shown the password.
fn assert_keeps_password(server: &Server, client: &mut Client<TcpStream>, password: &str) {
    let command_line = fs::read(format!("/proc/{}/cmdline", server.child.id())).unwrap();
    client.send("stats settings\r\n");
    let mut settings = String::new();
    while !settings.ends_with("END\r\n") {
        settings += &client.line_with_end();
    }
    for shown in [server.log(), settings, String::from_utf8(command_line).unwrap()] {
        assert!(!shown.contains(password), "{shown}");
    }
}
