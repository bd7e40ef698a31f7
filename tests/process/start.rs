//! How it starts, what it says, and how it ends.

use std::fs;
use std::io::BufReader;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use socket2::{Domain, Socket, Type};

use crate::needs;
use crate::server::*;

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
        if shown {
            wait_for("the reply in the log", || server.log().contains("STORED"));
        }
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
    wait_for("the loud one", || server.log().contains("loud"));
    sleep(Duration::from_millis(50));
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
fn it_listens_on_every_address_given() {
    if !needs::are_there(&[&needs::IPV6]) {
        return;
    }
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
fn a_listener_with_a_protocol_or_a_tag_speaks_text() {
    let prefixes =
        ["proto[ascii]:", "proto[negotiating]:", "tag[web]:", "tag_app_:", "proto[ascii]:tag[web]:"];
    let listeners = prefixes.map(|prefix| format!("{prefix}127.0.0.1:0")).join(",");
    let server = Server::start_anywhere(&["-l", &listeners]);
    let addresses = crate::tls::addresses(&server);
    assert_eq!(addresses.len(), prefixes.len());
    for address in addresses {
        let mut client = Client(BufReader::new(TcpStream::connect(address).unwrap()));
        assert_eq!(client.ask("set k 0 0 1\r\n1\r\n"), "STORED", "{address}");
        assert!(client.ask("get k\r\n").starts_with("VALUE "), "{address}");
    }
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
fn with_nothing_to_listen_on_it_starts_and_warns() {
    for options in [&["-p", "0"][..], &["-p", "0", "-U", "0", "-vv"]] {
        let mut server = Server::spawn(Command::new(BINARY).args(options));
        wait_for("the first line", || server.log().contains("listens on nothing"));
        assert!(server.log().contains("nobody can connect: -p 0 turns TCP off"), "{}", server.log());
        server.signal(Signal::SIGTERM);
        assert_eq!(server.exit_code(), Some(0));
    }
}

/// Listeners on one port of all addresses of each family, which nobody else has: other tests listen meanwhile.
fn same_port_of_both_families() -> (TcpListener, Socket, u16) {
    loop {
        let four = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = four.local_addr().unwrap().port();
        let six = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
        six.set_only_v6(true).unwrap();
        let address = SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, port));
        if six.bind(&address.into()).is_ok() {
            six.listen(1).unwrap();
            return (four, six, port);
        }
    }
}

#[test]
fn a_port_that_is_taken_on_one_address_family_is_listened_on_on_the_other() {
    if !needs::are_there(&[&needs::IPV6]) {
        return;
    }
    fn check(server: &Server, family: &str, listened: &str, port: u16) {
        wait_for("the first line", || server.log().contains("listens on"));
        let log = server.log();
        assert!(
            log.contains(&format!("failed to listen on TCP port {port}: Address already in use")),
            "{log}"
        );
        assert!(
            log.contains(&format!(
                "another process has it on {family}, so the server listens on {listened}:{port} only"
            )),
            "{log}"
        );
    }
    let (four, six, port) = same_port_of_both_families();
    drop(six);
    let server = Server::spawn(Command::new(BINARY).args(["-p", &port.to_string()]));
    check(&server, "IPv4", "[::]", port);
    let stream = TcpStream::connect(("::1", port)).unwrap();
    assert!(Client(BufReader::new(stream)).ask("version\r\n").starts_with("VERSION "));

    // A server on every address of both families leaves nothing.
    let both = Server::start_anywhere(&[]);
    let (code, text) = said(&run(&["-p", &both.port.to_string()]));
    assert_eq!(code, Some(71), "{text}");

    drop((server, four));
    let (four, _six, port) = same_port_of_both_families();
    drop(four);
    let server = Server::spawn(Command::new(BINARY).args(["-p", &port.to_string()]));
    check(&server, "IPv6", "0.0.0.0", port);
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    assert!(Client(BufReader::new(stream)).ask("version\r\n").starts_with("VERSION "));
}

#[test]
fn ps_and_pgrep_see_the_name_it_was_started_by() {
    let directory = Directory::new();
    let name = directory.file("memcached");
    std::os::unix::fs::symlink(BINARY, &name).unwrap();
    let server = Server::spawn(Command::new(&name).args(["-p", "-1", "-l", "127.0.0.1"]));
    wait_for("the first line", || server.log().contains("listens on"));
    let pid = server.child.id();
    assert_eq!(fs::read_to_string(format!("/proc/{pid}/comm")).unwrap(), "memcached\n");
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    assert!(line.starts_with(name.to_str().unwrap().as_bytes()), "{line:?}");
    // As `pgrep memcached` does, which looks at no threads.
    let background = directory.file("pid");
    let status = Command::new(&name).args(["-d", "-p", "0", "-P"]).arg(&background).status().unwrap();
    assert!(status.success());
    wait_for("the pid file", || background.exists());
    let pid = fs::read_to_string(&background).unwrap().trim().to_owned();
    assert_eq!(
        fs::read_to_string(format!("/proc/{pid}/comm")).unwrap(),
        "memcached\n",
        "in the background, too"
    );
    kill(Pid::from_raw(pid.parse().unwrap()), Signal::SIGTERM).unwrap();
    wait_for("its end", || !background.exists());
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

#[test]
fn as_root_without_a_user_it_becomes_somebody_harmless() {
    if !needs::are_there(&[&needs::ROOT]) {
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
