//! The process as an operator meets it: start, limits, sockets, signals, exit codes, messages.

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

const BINARY: &str = env!("CARGO_BIN_EXE_ferrocached");

/// How long anything may take to happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// A directory of one test, removed behind it.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Directory {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("ferrocached-process-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        // The server may run as somebody else.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        Directory(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running server. Killed when dropped, by its pid.
struct Server {
    child: Child,
    directory: Directory,
    port: u16,
}

impl Server {
    /// Starts one on a free port of the loopback address, and waits until it listens.
    fn start(options: &[&str]) -> Server {
        let directory = Directory::new();
        let ports = directory.file("ports");
        let log = fs::File::create(directory.file("log")).unwrap();
        let child = Command::new(BINARY)
            .args(["-p", "-1", "-l", "127.0.0.1"])
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

    fn connect(&self) -> Client<TcpStream> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client(BufReader::new(stream))
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.file("log")).unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Waits for the end, and tells the exit code.
    fn exit_code(&mut self) -> Option<i32> {
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

struct Client<S: Read>(BufReader<S>);

impl<S: Read + Write> Client<S> {
    fn send(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
    }

    /// The next line without its end; empty at the end of the stream.
    fn line(&mut self) -> String {
        self.line_with_end().trim_end_matches("\r\n").to_owned()
    }

    /// The next line of what a watcher is shown, which ends in LF alone.
    fn event(&mut self) -> String {
        let line = self.line_with_end();
        assert!(line.ends_with('\n') && !line.contains('\r'), "{line:?}");
        line.trim_end().to_owned()
    }

    fn line_with_end(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line
    }

    fn ask(&mut self, text: &str) -> String {
        self.send(text);
        self.line()
    }

    /// The value of one line of `stats`, or of `stats settings`.
    fn stat(&mut self, command: &str, name: &str) -> Option<String> {
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

    fn is_closed(&mut self) -> bool {
        matches!(self.0.read(&mut [0]), Ok(0) | Err(_))
    }
}

fn wait_for(what: &str, mut happened: impl FnMut() -> bool) {
    let since = Instant::now();
    while !happened() {
        assert!(since.elapsed() < PATIENCE, "waited in vain for {what}");
        sleep(Duration::from_millis(10));
    }
}

fn run(options: &[&str]) -> Output {
    Command::new(BINARY).args(options).stdin(Stdio::null()).output().unwrap()
}

fn said(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn it_says_in_one_line_where_it_listens_and_how_much_it_keeps() {
    let server = Server::start(&["-m", "100"]);
    wait_for("the line", || server.log().contains("listens on"));
    let log = server.log();
    let line = log.lines().find(|line| line.contains("listens on")).unwrap();
    assert!(line.contains(&format!("127.0.0.1:{}", server.port)), "{line}");
    assert!(line.contains("100 MB"), "{line}");
    assert!(line.contains("INFO"), "a level: {line}");
    assert!(line.starts_with("20"), "a date: {line}");
}

#[test]
fn the_log_can_be_json() {
    let server = Server::start(&["--log-format", "json"]);
    wait_for("the line", || server.log().contains("listens on"));
    let log = server.log();
    for line in log.lines() {
        assert!(line.starts_with('{') && line.ends_with('}') && line.contains("\"level\""), "{line}");
    }
}

#[test]
fn keys_and_values_are_logged_at_vv_only() {
    for (options, shown) in [(&[][..], false), (&["-v"], false), (&["-vv"], true)] {
        let server = Server::start(options);
        assert_eq!(server.connect().ask("set secret 0 0 6\r\nhidden\r\n"), "STORED");
        sleep(Duration::from_millis(50));
        let log = server.log();
        assert_eq!(log.contains("secret") && log.contains("STORED"), shown, "{options:?}: {log}");
        assert_eq!(log.contains("hidden"), shown, "{options:?}: {log}");
    }
}

#[test]
fn the_verbosity_command_changes_the_log() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    assert_eq!(client.ask("verbosity 2\r\n"), "OK");
    client.ask("get loud\r\n");
    assert_eq!(client.ask("verbosity 0\r\n"), "OK");
    client.ask("get quiet\r\n");
    sleep(Duration::from_millis(50));
    assert!(server.log().contains("loud"));
    assert!(!server.log().contains("get quiet"));
}

#[test]
fn signals_stop_it_or_let_it_go_on() {
    for (signal, log) in
        [(Signal::SIGINT, "stopped"), (Signal::SIGTERM, "stopped"), (Signal::SIGUSR1, "gracefully stopped")]
    {
        let mut server = Server::start(&[]);
        let mut client = server.connect();
        assert!(client.ask("version\r\n").starts_with("VERSION "));
        server.signal(Signal::SIGHUP);
        sleep(Duration::from_millis(50));
        assert!(client.ask("version\r\n").starts_with("VERSION "), "SIGHUP does not stop it");
        server.signal(signal);
        assert_eq!(server.exit_code(), Some(0));
        assert!(client.is_closed());
        assert!(server.log().contains(log), "{}", server.log());
    }
}

#[test]
fn shutdown_stops_it_where_it_is_allowed() {
    let server = Server::start(&[]);
    assert_eq!(server.connect().ask("shutdown\r\n"), "SERVER_ERROR: shutdown not enabled");
    for words in ["shutdown\r\n", "shutdown graceful\r\n"] {
        let mut server = Server::start(&["-A"]);
        let mut client = server.connect();
        assert_eq!(client.ask("shutdown now\r\n"), "CLIENT_ERROR invalid shutdown mode");
        client.send(words);
        assert!(client.is_closed());
        assert_eq!(server.exit_code(), Some(0));
    }
}

#[test]
fn over_the_connection_limit_a_client_is_told_and_closed() {
    let server = Server::start(&["-c", "3"]);
    let mut clients: Vec<_> = (0..3).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.ask("version\r\n");
    }
    let mut late = server.connect();
    assert_eq!(late.line(), "ERROR Too many open connections");
    assert!(late.is_closed());
    assert_eq!(clients[0].stat("stats\r\n", "rejected_connections").as_deref(), Some("1"));
    assert_eq!(clients[0].stat("stats\r\n", "curr_connections").as_deref(), Some("3"));
    assert_eq!(clients[0].ask("stats reset\r\n"), "RESET");
    assert_eq!(clients[0].stat("stats\r\n", "rejected_connections").as_deref(), Some("0"));
    drop(clients.pop());
    wait_for("the place to be free", || {
        clients[0].stat("stats\r\n", "curr_connections").as_deref() == Some("2")
    });
    assert!(server.connect().ask("version\r\n").starts_with("VERSION "));
}

#[test]
fn without_maxconns_fast_a_client_waits_for_a_place() {
    let server = Server::start(&["-c", "2", "-o", "no_maxconns_fast"]);
    let mut first = server.connect();
    let mut second = server.connect();
    first.ask("version\r\n");
    second.ask("version\r\n");
    let mut waiting = server.connect();
    waiting.send("version\r\n");
    sleep(Duration::from_millis(200));
    assert_eq!(first.stat("stats\r\n", "accepting_conns").as_deref(), Some("0"));
    assert_eq!(first.stat("stats\r\n", "curr_connections").as_deref(), Some("2"));
    drop(second);
    assert!(waiting.line().starts_with("VERSION "));
    let disabled = first.stat("stats\r\n", "listen_disabled_num").unwrap().parse::<u64>().unwrap();
    let microseconds = first.stat("stats\r\n", "time_in_listen_disabled_us").unwrap().parse::<u64>().unwrap();
    assert!(disabled >= 1 && microseconds >= 100_000, "{disabled} times, {microseconds} us");
    assert_eq!(first.ask("stats reset\r\n"), "RESET");
    for name in ["listen_disabled_num", "time_in_listen_disabled_us", "total_connections", "read_buf_oom"] {
        assert_eq!(first.stat("stats\r\n", name).as_deref(), Some("0"), "{name}");
    }
}

#[test]
fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let server = Server::start(&["-o", "idle_timeout=1"]);
    let mut idle = server.connect();
    idle.ask("version\r\n");
    let mut busy = server.connect();
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(4) {
        assert!(busy.ask("version\r\n").starts_with("VERSION "));
        sleep(Duration::from_millis(100));
    }
    assert!(idle.is_closed());
    assert_eq!(busy.stat("stats\r\n", "idle_kicks").as_deref(), Some("1"));
    assert_eq!(busy.stat("stats\r\n", "curr_connections").as_deref(), Some("1"));
}

#[test]
fn a_value_that_takes_its_time_to_arrive_is_not_idle() {
    let server = Server::start(&["-o", "idle_timeout=1"]);
    let mut client = server.connect();
    client.send("set slow 0 0 300000\r\n");
    for _ in 0..30 {
        client.send(&"v".repeat(10_000));
        sleep(Duration::from_millis(100));
    }
    assert_eq!(client.ask("\r\n"), "STORED");
}

#[test]
fn a_binary_client_is_closed_and_not_kept_waiting() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    client.0.get_mut().write_all(&[0x80, 0x0b, 0, 0, 0, 0, 0, 0]).unwrap();
    assert!(client.is_closed());
}

#[test]
fn one_place_serves_one_client_on_every_listener() {
    let mut server = Server::start(&["-c", "1", "-o", "no_maxconns_fast", "-l", "127.0.0.2"]);
    assert!(server.connect().ask("version\r\n").starts_with("VERSION "));
    // Both listeners take turns with the one place.
    let ports = fs::read_to_string(server.directory.file("ports")).unwrap();
    let second = ports.lines().nth(1).unwrap().rsplit_once(": ").unwrap().1.parse::<u16>().unwrap();
    let stream = TcpStream::connect(("127.0.0.2", second)).unwrap();
    assert!(Client(BufReader::new(stream)).ask("version\r\n").starts_with("VERSION "));
    server.port = ports.lines().next().unwrap().rsplit_once(": ").unwrap().1.parse().unwrap();
    assert!(server.connect().ask("version\r\n").starts_with("VERSION "));
}

#[test]
fn buffers_for_unfinished_requests_are_limited_in_all() {
    let server = Server::start(&["-o", "read_buf_mem_limit=1"]);
    let mut greedy: Vec<_> = (0..8).map(|_| server.connect()).collect();
    let mut refused = 0;
    for client in &mut greedy {
        let mut upload = b"set k 0 0 1000000\r\n".to_vec();
        upload.resize(400_000, b'v');
        // The server may close while this is under way.
        let _ = client.0.get_mut().write_all(&upload);
        sleep(Duration::from_millis(30));
    }
    for client in &mut greedy {
        client.0.get_mut().set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let mut line = String::new();
        if client.0.read_line(&mut line).is_ok() {
            assert_eq!(line, "SERVER_ERROR out of memory reading request\r\n");
            refused += 1;
        }
    }
    assert!(refused >= 4, "{refused} of 8 were refused");
    let mut other = server.connect();
    assert_eq!(other.ask("set a 0 0 1\r\nx\r\n"), "STORED");
    assert_ne!(other.stat("stats\r\n", "read_buf_oom").as_deref(), Some("0"));
    let bytes = other.stat("stats\r\n", "read_buf_bytes").unwrap().parse::<u64>().unwrap();
    assert!(bytes <= 1 << 20, "{bytes} bytes are buffered");
    drop(greedy);
    wait_for("the buffers to be given back", || {
        other.stat("stats\r\n", "read_buf_bytes").as_deref() == Some("0")
            && other.stat("stats\r\n", "read_buf_count").as_deref() == Some("0")
    });
}

#[test]
fn a_unix_socket_has_the_permissions_asked_for_and_replaces_a_stale_one() {
    let directory = Directory::new();
    let path = directory.file("socket");
    for (mask, mode) in [("0700", 0o700), ("777", 0o777), ("660", 0o660)] {
        let mut child = Command::new(BINARY)
            .args(["-u", "root", "-a", mask, "-s"])
            .arg(&path)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stream = None;
        wait_for("the socket", || {
            stream = UnixStream::connect(&path).ok();
            stream.is_some()
        });
        let mut client = Client(BufReader::new(stream.unwrap()));
        assert!(client.ask("version\r\n").starts_with("VERSION "));
        assert_eq!(client.stat("stats settings\r\n", "domain_socket"), path.to_str().map(str::to_owned));
        assert_eq!(fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o777, mode);
        child.kill().unwrap(); // without a chance to tidy up: the next one finds a stale socket
        child.wait().unwrap();
        assert!(path.exists());
    }
}

/// A server on a UNIX socket, which listens there by then.
fn on_unix_socket(path: &Path) -> (Child, Client<UnixStream>) {
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

#[test]
fn a_socket_that_another_server_has_replaced_stays() {
    let directory = Directory::new();
    let path = directory.file("socket");
    let (mut first, _client) = on_unix_socket(&path);
    let (mut second, mut client) = on_unix_socket(&path);
    let stop = |child: &mut Child| {
        kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
        child.wait().unwrap();
    };
    stop(&mut first);
    assert!(path.exists(), "the first has taken away the socket of the second");
    assert!(client.ask("version\r\n").starts_with("VERSION "));
    stop(&mut second);
    assert!(!path.exists(), "the second has left its own");
}

/// The lines of `stats conns` about the connection that asks, and about what is listened on.
fn own_seat<S: Read + Write>(client: &mut Client<S>) -> (Vec<String>, Vec<String>) {
    client.send("stats conns\r\n");
    let mut lines = Vec::new();
    while lines.last().map(String::as_str) != Some("END") {
        lines.push(client.line());
    }
    let of = |state: &str| {
        let line = lines.iter().find(|line| line.ends_with(state)).unwrap_or_else(|| panic!("{lines:?}"));
        let start = format!("{}:", line.split_once(':').unwrap().0);
        let own = lines.iter().filter_map(|line| line.strip_prefix(&start)).map(str::to_owned);
        own.collect::<Vec<_>>()
    };
    (of("conn_parse_cmd"), of("conn_listening"))
}

#[test]
fn who_is_connected_is_shown_with_both_addresses() {
    let server = Server::start(&["-l", "[::1]", "-t", "2"]);
    let port = server.port;
    let mut client = server.connect();
    let local = client.0.get_ref().local_addr().unwrap();
    let (own, _) = own_seat(&mut client);
    assert_eq!(
        own,
        [
            format!("addr tcp:{local}"),
            format!("listen_addr tcp:127.0.0.1:{port}"),
            "state conn_parse_cmd".to_owned(),
            "secs_since_last_cmd 0".to_owned()
        ]
    );
    let text = fs::read_to_string(server.directory.file("ports")).unwrap();
    let port = text.lines().find_map(|line| line.strip_prefix("TCP INET6: ")).unwrap();
    let stream = TcpStream::connect(("::1", port.parse().unwrap())).unwrap();
    let local = stream.local_addr().unwrap();
    let (own, _) = own_seat(&mut Client(BufReader::new(stream)));
    assert_eq!(own[..2], [format!("addr tcp6:{local}"), format!("listen_addr tcp6:[::1]:{port}")]);

    let directory = Directory::new();
    let path = directory.file("socket");
    let (mut child, mut client) = on_unix_socket(&path);
    let (own, listening) = own_seat(&mut client);
    let address = path.display();
    assert_eq!(own[..2], [format!("addr unix:{address}"), format!("listen_addr unix:{address}")]);
    assert_eq!(listening[..2], [format!("addr unix:{address}"), "state conn_listening".to_owned()]);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn states_of_connections_are_told() {
    let server = Server::start(&["-t", "1"]);
    let mut client = server.connect();
    let value = "v".repeat(1_000_000);
    assert_eq!(client.ask(&format!("set big 0 0 {}\r\n{value}\r\n", value.len())), "STORED");
    let mut deaf = server.connect();
    deaf.send(&"get big\r\n".repeat(100));
    let mut slow = server.connect();
    slow.send("set other 0 0 900000\r\nthe rest comes later");
    let mut watcher = server.connect();
    assert_eq!(watcher.ask("watch\r\n"), "OK");
    let mut states = Vec::new();
    wait_for("each state", || {
        client.send("stats conns\r\n");
        states.clear();
        loop {
            let line = client.line();
            if line == "END" {
                break;
            }
            states.extend(line.split_once(":state ").map(|(_, state)| state.to_owned()));
        }
        states.sort();
        states == ["conn_listening", "conn_mwrite", "conn_nread", "conn_parse_cmd", "conn_watch"]
    });
}

#[test]
fn hundreds_of_connections_are_listed() {
    const CLIENTS: usize = 500;
    let server = Server::start(&["-c", "600"]);
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.ask("version\r\n");
    }
    clients[0].send("stats conns\r\nversion\r\n");
    let mut seats = 0;
    loop {
        let line = clients[0].line();
        if line == "END" {
            break;
        }
        seats += usize::from(line.contains(":listen_addr "));
    }
    assert_eq!(seats, CLIENTS);
    assert!(clients[0].line().starts_with("VERSION "));
}

#[test]
fn one_who_watches_may_be_idle_and_sees_others_closed_for_it() {
    let server = Server::start(&["-o", "idle_timeout=1"]);
    let mut watcher = server.connect();
    assert_eq!(watcher.ask("watch connevents\r\n"), "OK");
    let mut idle = server.connect();
    idle.ask("version\r\n");
    assert!(watcher.event().contains(" type=conn_new rip=127.0.0.1 rport="));
    assert!(idle.is_closed());
    let line = watcher.event();
    assert!(line.contains(" type=conn_close rip=127.0.0.1 rport="), "{line}");
    assert!(line.contains(" transport=tcp reason=idle_timeout cfd="), "{line}");
    server.connect().ask("version\r\n");
    assert!(watcher.event().contains(" type=conn_new "));
}

#[test]
fn one_who_watches_and_does_not_read_gives_up_its_place() {
    let server = Server::start(&["-o", "idle_timeout=1"]);
    let mut client = server.connect();
    let mut watcher = server.connect();
    assert_eq!(watcher.ask("watch\r\n"), "OK");
    let asked = "get key\r\n".repeat(1000);
    wait_for("the watcher to be closed", || {
        // More than all buffers on the way hold.
        client.send(&asked);
        (0..1000).for_each(|_| assert_eq!(client.line(), "END"));
        client.stat("stats\r\n", "log_watchers").as_deref() == Some("0")
    });
    assert_eq!(client.stat("stats\r\n", "idle_kicks").as_deref(), Some("1"));
}

#[test]
fn what_is_evicted_can_be_watched() {
    const ITEMS: usize = 3000;
    let server = Server::start(&["-m", "8", "-t", "1"]);
    let mut watcher = server.connect();
    assert_eq!(watcher.ask("watch evictions\r\n"), "OK");
    let mut client = server.connect();
    let value = "v".repeat(5_000);
    for number in 0..ITEMS {
        let ttl = if number.is_multiple_of(2) { 0 } else { 1000 };
        assert_eq!(client.ask(&format!("set key/{number} 0 {ttl} 5000\r\n{value}\r\n")), "STORED");
    }
    let evictions: usize = client.stat("stats\r\n", "evictions").unwrap().parse().unwrap();
    assert!(evictions > ITEMS / 2, "{evictions}");
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < evictions {
        let line = watcher.event();
        let words: Vec<_> = line.split(' ').collect();
        let [_, _, kind, key, fetched, ttl, idle, class, size] = words[..] else { panic!("{line}") };
        assert_eq!(
            (kind, fetched, class, size),
            ("type=eviction", "fetch=no", "clsid=1", "size=5000"),
            "{line}"
        );
        assert!(idle.starts_with("la="), "{line}");
        let number: usize = key.strip_prefix("key=key%2F").unwrap().parse().unwrap();
        let left: i64 = ttl.strip_prefix("ttl=").unwrap().parse().unwrap();
        assert!(if number.is_multiple_of(2) { left == -1 } else { (900..=1000).contains(&left) }, "{line}");
        assert!(seen.insert(number), "twice: {line}");
    }
    for number in seen {
        assert_eq!(client.ask(&format!("get key/{number}\r\n")), "END");
    }
}

#[test]
fn watchers_that_do_not_read_cost_little_memory_and_are_told_what_they_missed() {
    const WATCHERS: usize = 20;
    const GETS: usize = 200_000;
    let server = Server::start(&["-m", "64", "-t", "2"]);
    let mut client = server.connect();
    assert_eq!(client.ask("set key 0 0 1\r\n1\r\n"), "STORED");
    let before = resident_bytes(&server);
    let mut watchers: Vec<_> = (0..WATCHERS).map(|_| server.connect()).collect();
    for watcher in &mut watchers {
        assert_eq!(watcher.ask("watch fetchers mutations\r\n"), "OK");
    }
    let asked = "get key\r\n".repeat(1000);
    for _ in 0..GETS / 1000 {
        client.send(&asked);
        for _ in 0..3000 {
            client.line();
        }
    }
    let grown = resident_bytes(&server).saturating_sub(before);
    // Twice the bound of a buffer for each: what waits, and what is on its way.
    assert!(grown < 14 << 20, "{grown} bytes more for watchers that do not read");
    let skipped: u64 = client.stat("stats\r\n", "log_watcher_skipped").unwrap().parse().unwrap();
    assert!(skipped > 0);
    let (mut lines, mut told) = (0, 0);
    while lines + told < GETS as u64 {
        let line = watchers[0].event();
        match line.strip_prefix("skipped=") {
            Some(count) => told += count.parse::<u64>().unwrap(),
            None => lines += 1,
        }
    }
    assert_eq!(lines + told, GETS as u64, "every event is shown or counted");
    drop(watchers);
    wait_for("the watchers to be gone", || client.stat("stats\r\n", "log_watchers").as_deref() == Some("0"));
}

#[test]
fn it_listens_on_every_address_given() {
    let directory = Directory::new();
    let ports = directory.file("ports");
    let mut child = Command::new(BINARY)
        .args(["-p", "-1", "-l", "127.0.0.1,[::1]", "-l", "127.0.0.2"])
        .env("MEMCACHED_PORT_FILENAME", &ports)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("the port file", || ports.exists());
    let text = fs::read_to_string(&ports).unwrap();
    let lines: Vec<_> = text.lines().map(|line| line.rsplit_once(": ").unwrap()).collect();
    assert_eq!(lines.iter().map(|line| line.0).collect::<Vec<_>>(), ["TCP INET", "TCP INET6", "TCP INET"]);
    for ((_, port), host) in lines.iter().zip(["127.0.0.1", "::1", "127.0.0.2"]) {
        let stream = TcpStream::connect((host, port.parse::<u16>().unwrap())).unwrap();
        assert!(Client(BufReader::new(stream)).ask("version\r\n").starts_with("VERSION "));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn in_the_background_it_leaves_its_pid_and_takes_it_away_again() {
    let directory = Directory::new();
    let (pidfile, ports) = (directory.file("pid"), directory.file("ports"));
    let output = Command::new(BINARY)
        .args(["-d", "-p", "-1", "-l", "127.0.0.1", "-P"])
        .arg(&pidfile)
        .env("MEMCACHED_PORT_FILENAME", &ports)
        .output()
        .unwrap();
    assert!(output.status.success(), "the foreground process ends at once");
    wait_for("the pid file", || pidfile.exists() && ports.exists());
    let pid = fs::read_to_string(&pidfile).unwrap();
    assert!(pid.ends_with('\n'));
    let port =
        fs::read_to_string(&ports).unwrap().trim().rsplit_once(": ").unwrap().1.parse::<u16>().unwrap();
    let mut client = Client(BufReader::new(TcpStream::connect(("127.0.0.1", port)).unwrap()));
    assert_eq!(client.stat("stats\r\n", "pid").as_deref(), Some(pid.trim()));
    kill(Pid::from_raw(pid.trim().parse().unwrap()), Signal::SIGTERM).unwrap();
    wait_for("the pid file to go", || !pidfile.exists());
}

#[test]
fn an_address_in_use_is_told_with_exit_code_71() {
    let server = Server::start(&[]);
    let output = run(&["-l", "127.0.0.1", "-p", &server.port.to_string()]);
    let (code, text) = said(&output);
    assert_eq!(code, Some(71));
    assert!(
        text.contains(&format!("failed to listen on TCP port {}: Address already in use", server.port)),
        "{text}"
    );
}

#[test]
fn bad_options_end_with_memcacheds_exit_codes() {
    for (options, code, part) in [
        (&["-E"][..], 1, "Illegal argument"),
        (&["-o", "nonsense"], 1, "nonsense"),
        (&["-I", "10"], 64, "-I"),
        (&["-B", "morse"], 64, "morse"),
        (&["-S"], 64, "-S"),
    ] {
        let (got, text) = said(&run(options));
        assert_eq!(got, Some(code), "{options:?}: {text}");
        assert!(text.contains(part), "{options:?}: {text}");
        assert!(!text.contains("panicked"), "{text}");
    }
    if nix::unistd::geteuid().is_root() {
        assert_eq!(said(&run(&["-u", "nobody-of-this-name"])).0, Some(67));
    }
}

#[test]
fn help_licence_and_version_go_to_standard_output() {
    for (option, part) in
        [("-h", "--memory-limit"), ("-i", "MIT License"), ("-V", "memcached 1.6.45-ferrocached-")]
    {
        let output = run(&[option]);
        assert!(output.status.success());
        assert!(String::from_utf8_lossy(&output.stdout).contains(part), "{option}");
        assert!(output.stderr.is_empty());
    }
}

#[test]
fn a_connection_limit_the_system_forbids_is_lowered_with_a_warning() {
    let directory = Directory::new();
    let (ports, log) = (directory.file("ports"), directory.file("log"));
    let command =
        format!("ulimit -n 200; exec {BINARY} -c 5000 -p -1 -l 127.0.0.1 -u root 2>{}", log.display());
    let mut child =
        Command::new("sh").args(["-c", &command]).env("MEMCACHED_PORT_FILENAME", &ports).spawn().unwrap();
    wait_for("the port file", || ports.exists());
    let port =
        fs::read_to_string(&ports).unwrap().trim().rsplit_once(": ").unwrap().1.parse::<u16>().unwrap();
    let mut client = Client(BufReader::new(TcpStream::connect(("127.0.0.1", port)).unwrap()));
    let limit = client.stat("stats\r\n", "max_connections").unwrap().parse::<u32>().unwrap();
    assert!((100..200).contains(&limit), "{limit}");
    wait_for("the warning", || log_contains(&log, "WARN"));
    child.kill().unwrap();
    child.wait().unwrap();
}

fn log_contains(path: &Path, part: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|log| log.contains(part))
}

#[test]
fn as_root_without_a_user_it_becomes_somebody_harmless() {
    if !nix::unistd::geteuid().is_root() {
        return; // nothing to give up
    }
    let server = Server::start(&[]);
    let status = fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap();
    let uids = status.lines().find(|line| line.starts_with("Uid:")).unwrap();
    assert!(!uids.split_whitespace().skip(1).any(|uid| uid == "0"), "{uids}");
    let groups = status.lines().find(|line| line.starts_with("Groups:")).unwrap();
    assert!(!groups.split_whitespace().skip(1).any(|group| group == "0"), "{groups}");
    wait_for("the word about it", || server.log().contains("-u"));
}

#[test]
fn a_client_that_does_not_read_is_not_read_from() {
    let server = Server::start(&["-m", "64", "-t", "1"]);
    let mut client = server.connect();
    let value = "v".repeat(500_000);
    assert_eq!(client.ask(&format!("set big 0 0 {}\r\n{value}\r\n", value.len())), "STORED");
    let deaf = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    deaf.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let before = resident_bytes(&server);
    // 2 GB would be owed, were all of it accepted.
    let asked = "get big\r\n".repeat(4000);
    let _ = (&deaf).write_all(asked.as_bytes());
    sleep(Duration::from_millis(300));
    let grown = resident_bytes(&server).saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes more for a client that does not read");
    assert!(client.ask("get none\r\n") == "END");
    // And when it does read, all is there.
    let mut deaf = Client(BufReader::new(deaf));
    assert_eq!(deaf.line(), "VALUE big 0 500000");
    assert_eq!(deaf.line(), value);
    assert_eq!(deaf.line(), "END");
}

#[test]
fn locked_memory_is_taken_as_it_is_used_and_can_be_used_again() {
    let server = Server::start(&["-k", "-m", "64"]);
    let mut client = server.connect();
    for round in 0..3 {
        let value = format!("{round}").repeat(100_000);
        for key in 0..100 {
            assert_eq!(client.ask(&format!("set k{key} 0 0 {}\r\n{value}\r\n", value.len())), "STORED");
            assert_eq!(client.ask(&format!("set small{key} 0 0 1\r\n{round}\r\n")), "STORED");
        }
        assert_eq!(client.ask("flush_all\r\n"), "OK");
        sleep(Duration::from_millis(300));
        for key in 0..100 {
            assert_eq!(client.ask(&format!("get k{key} small{key}\r\n")), "END");
        }
        assert_eq!(client.stat("stats\r\n", "curr_items").as_deref(), Some("0"));
    }
    assert!(resident_bytes(&server) < 100 << 20, "{} bytes", resident_bytes(&server));
    let status = fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap();
    let locked = status.lines().find(|line| line.starts_with("VmLck:")).unwrap();
    // Whoever may not lock memory is told so instead.
    assert!(!locked.contains(" 0 kB") || server.log().contains("-k"), "{locked}");
}

fn resident_bytes(server: &Server) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}
