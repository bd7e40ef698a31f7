//! Logging in (`-Y`): what it takes, how long, and how the file is read again.

use std::fs;
use std::io::{BufReader, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};

use super::server::{BINARY, Client, Directory, Server, resident_bytes, run, said, wait_for};

/// "password" with so much of argon2 that it takes some tenths of a second.
pub(crate) const SLOW: &str = "$argon2i$v=19$m=65536,t=2,p=4$c29tZXNhbHQ$RdescudvJCsgt3ub+b+dWRWJTmaaJObG";

struct Users(Directory);

impl Users {
    fn new(text: &str) -> Users {
        let users = Users(Directory::new());
        users.write(text);
        users
    }

    fn write(&self, text: &str) {
        fs::write(self.path(), text).unwrap();
        fs::set_permissions(self.path(), fs::Permissions::from_mode(0o644)).unwrap();
    }

    fn path(&self) -> String {
        self.0.file("users").display().to_string()
    }

    fn start(&self) -> Server {
        Server::start(&["-t", "1", "-vv", "-Y", &self.path()])
    }
}

pub(crate) fn login(token: &str) -> String {
    format!("set auth 0 0 {}\r\n{token}\r\n", token.len())
}

fn reload(server: &Server, says: &str) {
    server.signal(Signal::SIGHUP);
    wait_for(says, || server.log().contains(says));
}

#[test]
fn a_file_that_cannot_be_used_stops_the_start_with_a_word() {
    let users = Users::new("ann:x\n\n");
    for (path, words) in [
        (
            "/nonexistent/users".to_owned(),
            "Could not open authfile [/nonexistent/users] for reading: No such file",
        ),
        (users.path(), "] line 2: has a malformed entry. Should be 'user:password'"),
    ] {
        let (code, text) = said(&run(&["-p", "0", "-u", "root", "-Y", &path]));
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains(words), "{text}");
    }
    for nothing in ["", "\n"] {
        users.write(nothing);
        let (code, text) = said(&run(&["-p", "0", "-u", "root", "-Y", &users.path()]));
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains("] has a malformed entry. Should be 'user:password'; it is empty"), "{text}");
    }
}

#[test]
fn a_variable_with_a_password_that_nobody_could_send_stops_the_start() {
    for (name, password, words) in [
        ("ann", "open sesame", "a user or password may hold no space"),
        ("a n", "sesame", "a user or password may hold no space"),
        ("ann", &"sesame".repeat(200), "is longer than 1024 bytes"),
    ] {
        let variables = [("MEMCACHED_USERNAME", name), ("MEMCACHED_PASSWORD", password)];
        let output = Command::new(BINARY).args(["-p", "0"]).envs(variables).output().unwrap();
        let (code, text) = said(&output);
        assert_eq!(code, Some(1), "{text}");
        assert!(text.starts_with(&format!("MEMCACHED_USERNAME, MEMCACHED_PASSWORD: {words}")), "{text}");
        assert!(!text.contains("sesame"), "{text}");
    }
}

#[test]
fn users_may_come_through_a_pipe_that_somebody_writes_to() {
    let directory = Directory::new();
    let (pipe, socket) = (directory.file("pipe"), directory.file("socket"));
    mkfifo(&pipe, Mode::S_IRWXU).unwrap();
    let (code, text) = said(&run(&["-p", "0", "-u", "root", "-Y", &pipe.display().to_string()]));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("it is a pipe, and nobody has written to it"), "{text}");

    let mut server = Command::new(BINARY);
    server.args(["-u", "root", "-Y", "/dev/stdin", "-s"]).arg(&socket);
    let mut server = server.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    server.stdin.take().unwrap().write_all(b"ann:x\n").unwrap();
    let mut connected = None;
    wait_for("the socket", || {
        connected = UnixStream::connect(&socket).ok();
        connected.is_some()
    });
    let mut client = Client(BufReader::new(connected.unwrap()));
    assert_eq!(client.ask(&login("ann x")), "STORED");
    kill(Pid::from_raw(server.id() as i32), Signal::SIGTERM).unwrap();
    assert!(server.wait().unwrap().success());
}

#[test]
fn a_thousand_users_log_in() {
    let lines: String = (0..1000).map(|number| format!("user{number}:pass{number}\n")).collect();
    let server = Users::new(&lines).start();
    for number in [0, 8, 500, 999] {
        let mut client = server.connect();
        assert_eq!(client.ask("get k\r\n"), "CLIENT_ERROR unauthenticated");
        assert_eq!(client.ask(&login(&format!("user{number} pass{number}"))), "STORED");
        assert_eq!(client.ask("get k\r\n"), "END");
    }
    assert!(server.log().contains("is open to everybody on this machine"));
}

#[test]
fn sighup_reads_the_file_again_and_keeps_the_old_one_where_it_is_wrong() {
    let users = Users::new("ann:old\n");
    let server = users.start();
    let mut before = server.connect();
    assert_eq!(before.ask(&login("ann old")), "STORED");

    users.write("ann:new\nbob:x\n");
    reload(&server, "SIGHUP: read the users again: 2 passwords");
    let mut client = server.connect();
    assert_eq!(client.ask(&login("ann old")), "CLIENT_ERROR authentication failure");
    assert_eq!(client.ask(&login("ann new")), "STORED");
    assert_eq!(before.ask("get k\r\n"), "END");

    users.write("ann:newer\nbob\n");
    reload(&server, "SIGHUP: the old stay in force, the users could not be read again: Authfile [");
    assert!(server.log().contains("line 2: has a malformed entry"));
    assert_eq!(server.connect().ask(&login("ann new")), "STORED");
    users.write("");
    reload(&server, "] has a malformed entry. Should be 'user:password'; it is empty");
    assert_eq!(server.connect().ask(&login("ann new")), "STORED");
    fs::remove_file(users.path()).unwrap();
    reload(&server, "Could not open authfile");
    assert_eq!(server.connect().ask(&login("bob x")), "STORED");
}

#[test]
fn what_is_no_file_any_more_is_not_waited_for() {
    let users = Users::new("ann:sesame\n");
    let server = users.start();
    fs::remove_file(users.path()).unwrap();
    // Whoever opens it for reading waits for somebody who writes.
    mkfifo(Path::new(&users.path()), Mode::S_IRWXU).unwrap();
    reload(&server, "could not be read again: Could not open authfile");
    assert_eq!(server.connect().ask(&login("ann sesame")), "STORED");
    fs::remove_file(users.path()).unwrap();
    users.write("ann:new\n");
    reload(&server, "SIGHUP: read the users again: 1 passwords");
}

#[test]
fn a_password_that_takes_minutes_does_not_keep_the_server_from_stopping() {
    let hash = "$argon2i$v=19$m=131072,t=16,p=1$c29tZXNhbHQ$RdescudvJCsgt3ub+b+dWRWJTmaaJObG";
    let mut server = Users::new(&format!("ann:{hash}\n").repeat(8)).start();
    let mut client = server.connect();
    let before = resident_bytes(&server);
    client.send(&login("ann password"));
    wait_for("the hash to be worked at", || resident_bytes(&server) > before + (16 << 20));
    server.signal(Signal::SIGTERM);
    assert_eq!(server.exit_code(), Some(0));
}

#[test]
fn half_a_line_is_not_taken_for_a_user_with_all_rights() {
    let users = Users::new("ann:sesame\n");
    let server = users.start();
    users.write("ann:sesame\nshop:pw");
    server.signal(Signal::SIGHUP);
    std::thread::sleep(Duration::from_millis(200));
    users.write("ann:sesame\nshop:pw:ro\n");
    reload(&server, "SIGHUP: read the users again: 2 passwords");
    let mut shop = server.connect();
    assert_eq!(shop.ask(&login("shop pw")), "STORED");
    assert_eq!(shop.ask("flush_all\r\n"), "CLIENT_ERROR not allowed for a read-only user");
    // Once it stays so, it is meant so.
    users.write("shop:pw");
    reload(&server, "SIGHUP: read the users again: 1 passwords");
    users.write("");
    server.signal(Signal::SIGHUP);
    std::thread::sleep(Duration::from_millis(200));
    users.write("ann:sesame\nbob:x\ncarl:y\n");
    reload(&server, "SIGHUP: read the users again: 3 passwords");
    assert!(!server.log().contains("it is empty"), "{}", server.log());
}

#[test]
fn refusals_take_longer_each_time_and_hold_up_nobody_else() {
    let server = Users::new("ann:right\n").start();
    let mut guesser = server.connect();
    let mut other = server.connect();
    assert_eq!(other.ask(&login("ann right")), "STORED");
    for milliseconds in [100, 200, 400] {
        let since = Instant::now();
        guesser.send(&login("ann wrong"));
        assert_eq!(other.ask("get k\r\n"), "END");
        guesser.0.get_ref().set_nonblocking(true).unwrap();
        let waits = guesser.0.get_ref().peek(&mut [0]).is_err();
        guesser.0.get_ref().set_nonblocking(false).unwrap();
        assert!(waits || since.elapsed() >= Duration::from_millis(milliseconds), "the other was held up");
        assert_eq!(guesser.line(), "CLIENT_ERROR authentication failure");
        assert!(since.elapsed() >= Duration::from_millis(milliseconds), "{:?}", since.elapsed());
    }
    assert!(!server.log().contains("wrong"), "the log shows a password: {}", server.log());
    // What was sent behind is answered in its turn.
    guesser.send(&format!("{}{}version\r\n", login("ann wrong"), login("ann right")));
    assert_eq!(guesser.line(), "CLIENT_ERROR authentication failure");
    assert_eq!(guesser.line(), "STORED");
    assert!(guesser.line().starts_with("VERSION"));
}

#[test]
fn argon2_holds_up_nobody_and_is_needed_once() {
    let server = Users::new(&format!("ann:{SLOW}\nbob:quick\n")).start();
    let mut other = server.connect();
    assert_eq!(other.ask(&login("bob quick")), "STORED");
    let mut clients: Vec<_> = (0..20).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send(&login("ann password"));
    }
    assert_eq!(other.ask("get k\r\n"), "END");
    // One after another they would take longer than one waits.
    for client in &mut clients {
        assert_eq!(client.line(), "STORED");
    }
    let mut guesser = server.connect();
    assert_eq!(guesser.ask(&login("ann wrong")), "CLIENT_ERROR authentication failure");
    assert_eq!(guesser.ask(&login("carl password")), "CLIENT_ERROR authentication failure");
}

#[test]
fn what_argon2_takes_is_given_back() {
    // The parameters of OWASP, with one pass for the sake of time.
    let hash = "$argon2id$v=19$m=19456,t=1,p=1$c29tZXNhbHQ$RdescudvJCsgt3ub+b+dWRWJTmaaJObG";
    let server = Users::new(&format!("ann:{hash}\n")).start();
    let mut clients: Vec<_> = (0..16).map(|_| server.connect()).collect();
    let before = resident_bytes(&server);
    for client in &mut clients {
        client.send(&login("ann wrong"));
    }
    for client in &mut clients {
        assert_eq!(client.line(), "CLIENT_ERROR authentication failure");
    }
    let kept = resident_bytes(&server).saturating_sub(before);
    assert!(kept < 8 << 20, "{} MB are kept", kept >> 20);
}

#[test]
fn one_who_leaves_while_refused_gives_its_place_back_at_once() {
    let server = Users::new("ann:right\n").start();
    let mut guesser = server.connect();
    for _ in 0..4 {
        assert_eq!(guesser.ask(&login("ann wrong")), "CLIENT_ERROR authentication failure");
    }
    // The next refusal takes 1.6 s.
    guesser.send(&login("ann wrong"));
    let mut other = server.connect();
    assert_eq!(other.ask(&login("ann right")), "STORED");
    assert_eq!(other.stat("stats\r\n", "curr_connections").as_deref(), Some("2"));
    let since = Instant::now();
    drop(guesser);
    wait_for("its place", || other.stat("stats\r\n", "curr_connections").as_deref() == Some("1"));
    assert!(since.elapsed() < Duration::from_millis(1400), "{:?}", since.elapsed());
}

#[test]
fn one_who_only_stops_sending_is_still_told() {
    let server = Users::new(&format!("ann:{SLOW}\n")).start();
    let mut client: Client<_> = server.connect();
    client.send(&format!("{}version\r\n", login("ann password")));
    client.0.get_ref().shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.line(), "STORED");
    assert!(client.line().starts_with("VERSION"));
    assert!(client.is_closed());
}
