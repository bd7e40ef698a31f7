//! Under a service manager: told when it is ready, listening on sockets that are handed in, under the restrictions of
//! Debian's unit and of the manual's.
//!
//! Rule: no service manager runs here. What one would do is done by the tests: a socket to be notified on, a shell
//! that hands sockets in, and the restrictions of a unit put on with unshare(1), setpriv(1) and filters of system
//! calls.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::io::{BufReader, ErrorKind};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use rustls::ALL_VERSIONS;

use crate::certificates::{Authority, client_config};
use crate::needs;
use crate::server::*;
use crate::tls::{client, tls_options, write};

/// The units of the manual.
const SERVICE: &str = include_str!("ferrocached.service");
const SOCKET: &str = include_str!("ferrocached.socket");

/// Where a service manager listens.
struct Manager(UnixDatagram);

impl Manager {
    fn listening(path: &Path) -> Manager {
        let socket = UnixDatagram::bind(path).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Manager(socket)
    }

    fn hears(&self) -> String {
        let mut message = [0; 4096];
        loop {
            match self.0.recv(&mut message) {
                Ok(length) => return String::from_utf8_lossy(&message[..length]).into_owned(),
                // With a timeout the system does not wait on by itself behind a signal.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[test]
fn a_service_manager_is_told_how_the_server_does() {
    for options in [&[][..], &["-o", "drop_privileges"]] {
        let directory = Directory::new();
        let manager = Manager::listening(&directory.file("notify"));
        let log = fs::File::create(directory.file("log")).unwrap();
        let child = Command::new(BINARY)
            .args(["-p", "-1", "-l", "127.0.0.1", "-m", "100"])
            .args(options)
            .env("MEMCACHED_PORT_FILENAME", directory.file("ports"))
            .env("NOTIFY_SOCKET", directory.file("notify"))
            .stderr(log)
            .spawn()
            .unwrap();
        let mut server = Server { child, directory, port: 0 };
        let ready = manager.hears();
        let status = ready.strip_prefix("READY=1\nSTATUS=listens on 127.0.0.1:").expect(&ready);
        let (port, rest) = status.split_once(' ').unwrap();
        assert!(rest.contains("100 MB") && rest.ends_with('\n') && rest.lines().count() == 1, "{rest}");
        server.port = port.parse().unwrap();
        assert!(server.connect().ask("version\r\n").starts_with("VERSION "), "ready is ready");
        server.signal(Signal::SIGHUP);
        let reloading = manager.hears();
        assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
        assert_eq!(manager.hears(), ready, "ready again");
        server.signal(Signal::SIGTERM);
        assert_eq!(manager.hears(), "STOPPING=1\n");
        assert_eq!(server.exit_code(), Some(0));
    }
}

#[test]
fn a_service_manager_that_cannot_be_told_is_worth_a_warning() {
    for place in ["/nonexistent/notify", "vsock:2:1"] {
        let directory = Directory::new();
        let (ports, log) = (directory.file("ports"), directory.file("log"));
        let child = Command::new(BINARY)
            .args(["-p", "-1", "-l", "127.0.0.1"])
            .env("MEMCACHED_PORT_FILENAME", &ports)
            .env("NOTIFY_SOCKET", place)
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let server = Server { child, directory, port: 0 };
        wait_for("the warning", || ports.exists() && log_contains(&log, "NOTIFY_SOCKET"));
        let log = server.log();
        let warning = log.lines().find(|line| line.contains("NOTIFY_SOCKET")).unwrap();
        assert!(warning.contains("WARN"), "{log}");
    }
}

/// Starts a server to which one or two sockets are handed in, as numbers 3 and 4. What `LISTEN_PID` says is for the
/// shell to make: `$$` is the server's.
pub(crate) fn handed(
    first: impl Into<OwnedFd>,
    second: Option<OwnedFd>,
    pid: &str,
    options: &[&str],
) -> Server {
    let directory = Directory::new();
    let log = fs::File::create(directory.file("log")).unwrap();
    let (count, redirected) =
        if second.is_some() { (2, "3<&0 4<&1 0</dev/null 1>&2") } else { (1, "3<&0 0</dev/null") };
    let script =
        format!("export LISTEN_FDS={count} LISTEN_PID={pid}; exec {redirected}; exec {BINARY} \"$@\"");
    let child = Command::new("sh")
        .args(["-c", &script, "sh", "-u", "root"])
        .args(options)
        .env("MEMCACHED_PORT_FILENAME", directory.file("ports"))
        .stdin(Stdio::from(first.into()))
        .stdout(second.map_or_else(Stdio::null, Stdio::from))
        .stderr(log)
        .spawn()
        .unwrap();
    Server { child, directory, port: 0 }
}

#[test]
fn sockets_that_are_handed_in_are_listened_on_in_place_of_its_own() {
    let directory = Directory::new();
    let path = directory.file("socket");
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap();
    let unix = UnixListener::bind(&path).unwrap();
    // Of these options none counts: 1 is a port that could not be had.
    let options = ["-p", "1", "-l", "192.0.2.1", "-s", "/nonexistent/socket", "-U", "1"];
    let mut server = handed(tcp, Some(unix.into()), "$$", &options);
    wait_for("the line", || server.log().contains("listens on"));
    let line = format!("listens on {address}, {} (handed in", path.display());
    assert!(server.log().contains(&line), "{}", server.log());
    let mut client = Client(BufReader::new(TcpStream::connect(address).unwrap()));
    assert_eq!(client.ask("set key 0 0 5\r\nvalue\r\n"), "STORED");
    let mut client = Client(BufReader::new(UnixStream::connect(&path).unwrap()));
    assert_eq!(client.ask("get key\r\n"), "VALUE key 0 5");
    assert_eq!([client.line(), client.line()], ["value", "END"]);
    assert_eq!(client.stat("stats\r\n", "pid"), Some(server.child.id().to_string()));
    for (name, value) in [("inter", "NULL"), ("domain_socket", "NULL"), ("udpport", "0")] {
        assert_eq!(client.stat("stats settings\r\n", name).as_deref(), Some(value), "{name}");
    }
    server.signal(Signal::SIGTERM);
    assert_eq!(server.exit_code(), Some(0));
    assert!(path.exists(), "what somebody else has made is not removed");
}

#[test]
fn with_tls_it_is_spoken_on_tcp_sockets_that_are_handed_in() {
    let (files, authority) = (Directory::new(), Authority::new("ours"));
    write(&files, &authority.identity());
    fs::write(files.file("ca.pem"), &authority.certificate).unwrap();
    let path = files.file("socket");
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap();
    let unix = UnixListener::bind(&path).unwrap();
    let server = handed(tcp, Some(unix.into()), "$$", &["-Z", "-o", &tls_options(&files)]);
    wait_for("the line", || server.log().contains("(handed in"));
    let config = client_config(&authority, None, ALL_VERSIONS);
    assert_eq!(client(&config, address).ask("set key 0 0 5\r\nvalue\r\n"), "STORED");
    // The other one stays plain, as every UNIX socket does.
    let mut plain = Client(BufReader::new(UnixStream::connect(&path).unwrap()));
    assert_eq!(plain.ask("get key\r\n"), "VALUE key 0 5");
    assert_eq!([plain.line(), plain.line()], ["value", "END"]);
}

#[test]
fn sockets_for_another_process_are_not_taken() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = handed(tcp, None, "1", &["-p", "-1", "-l", "127.0.0.1"]);
    wait_for("the line", || server.log().contains("listens on"));
    assert!(!server.log().contains("handed in"), "{}", server.log());
}

#[test]
fn what_cannot_be_listened_on_is_told_with_exit_code_71() {
    let connected = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        TcpStream::connect(listener.local_addr().unwrap()).unwrap()
    };
    let cases: [(OwnedFd, &str); 3] = [
        (UdpSocket::bind("127.0.0.1:0").unwrap().into(), "it is not a stream socket"),
        (connected.into(), "it is not a listening socket"),
        (fs::File::open("/dev/null").unwrap().into(), "non-socket"),
    ];
    for (descriptor, complaint) in cases {
        let mut server = handed(descriptor, None, "$$", &[]);
        assert_eq!(server.exit_code(), Some(71), "{complaint}");
        let log = server.log();
        assert!(log.contains("file descriptor 3") && log.to_lowercase().contains(complaint), "{log}");
    }
    let not_open = format!("export LISTEN_FDS=2 LISTEN_PID=$$; exec 3</dev/null; exec {BINARY} -u root");
    let too_many = format!("export LISTEN_FDS=65 LISTEN_PID=$$; exec {BINARY} -u root");
    let nonsense = format!("export LISTEN_FDS=some LISTEN_PID=$$; exec {BINARY} -u root");
    for (script, complaint) in
        [(not_open, "file descriptor 4: EBADF"), (too_many, "more than 64"), (nonsense, "malformed")]
    {
        let (code, text) = said(&Command::new("sh").args(["-c", &script]).output().unwrap());
        assert_eq!(code, Some(71), "{text}");
        assert!(text.contains(complaint) && text.contains("LISTEN_FDS"), "{text}");
    }
}

#[test]
fn systemds_own_tool_hands_a_socket_in() {
    if !needs::are_there(&[&needs::SYSTEMD]) {
        return;
    }
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let directory = Directory::new();
    let log = fs::File::create(directory.file("log")).unwrap();
    let child = Command::new("systemd-socket-activate")
        .args(["-l", &address.to_string(), BINARY, "-u", "root", "-o", "drop_privileges"])
        .stderr(log)
        .spawn()
        .unwrap();
    let server = Server { child, directory, port: address.port() };
    wait_for("somebody to listen", || TcpStream::connect(address).is_ok());
    // The first to connect has the server started, and waits meanwhile.
    assert!(server.connect().ask("version\r\n").starts_with("VERSION "));
    wait_for("the line", || server.log().contains("(handed in"));
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    if !needs::are_there(&[&needs::SYSTEMD]) {
        return;
    }
    let directory = Directory::new();
    let (service, socket) = (directory.file("ferrocached.service"), directory.file("ferrocached.socket"));
    fs::write(&service, SERVICE.replace("/usr/local/bin/ferrocached", BINARY)).unwrap();
    fs::write(&socket, SOCKET).unwrap();
    let verified = Command::new("systemd-analyze").arg("verify").args([&service, &socket]).output().unwrap();
    assert!(verified.status.success() && said(&verified).1.is_empty(), "{}", said(&verified).1);
    // 20 of 100 is what systemd calls OK; a service that has the network cannot come below 11 or so.
    let judged = Command::new("systemd-analyze")
        .args(["security", "--offline=yes", "--threshold=20", "--no-pager"])
        .arg(&service)
        .output()
        .unwrap();
    assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stdout));
}

/// Says which restrictions this very test, started as a process of its own, is to put on before it becomes what
/// [`BECOMES`] names.
const RESTRICTED_AS: &str = "FERROCACHED_TEST_RESTRICTED_AS";
const BECOMES: &str = "FERROCACHED_TEST_BECOMES";

/// Runs `command`, words for a shell, as a unit would that has what both units have: `ProtectSystem=full`, `PrivateTmp=`
/// (but for `directory`), `PrivateDevices=`, `ProtectKernelModules=`, `ProtectKernelTunables=`, `ProtectControlGroups=`,
/// `NoNewPrivileges=`, and such capabilities: `setpriv` are arguments of setpriv(1). Under Debian's unit
/// `/usr/bin/memcached` is this server. `None` where that is not allowed, and then the test is left out.
#[track_caller]
fn confined(directory: &Directory, role: &str, setpriv: &str, command: &str) -> Option<Command> {
    if !needs::are_there(&[&needs::ROOT, &needs::UTIL_LINUX]) {
        return None;
    }
    let tried = Command::new("unshare").args(["--mount", "true"]).output().unwrap();
    if !tried.status.success() {
        needs::leave_out(&needs::NAMESPACES, &said(&tried).1);
        return None;
    }
    let debians =
        if role == "debian" { format!("mount --bind {BINARY} /usr/bin/memcached") } else { String::new() };
    // Root without capabilities may not be able to reach it where it is.
    let role_program = directory.file("role");
    fs::copy(env::current_exe().unwrap(), &role_program).unwrap();
    let script = format!(
        "set -eu
        mount --bind /usr /usr; mount --bind /etc /etc
        {debians}
        mount -t tmpfs tmpfs /boot; mount --bind /proc/sys /proc/sys; mount --bind /sys /sys
        for place in /usr /etc /boot /proc/sys /sys; do mount -o remount,bind,ro $place; done
        [ ! -d /usr/lib/modules ] || mount -t tmpfs -o mode=0 tmpfs /usr/lib/modules
        mkdir {stage}; mount -t tmpfs tmpfs {stage}; mkdir {stage}/dev {stage}/tmp {stage}/tmp/{name}
        for node in null zero full random urandom tty; do
            touch {stage}/dev/$node; mount --bind /dev/$node {stage}/dev/$node
        done
        mount --bind {directory} {stage}/tmp/{name}; chmod 1777 {stage}/tmp
        mount --rbind {stage}/dev /dev; mount --rbind {stage}/tmp {tmp}
        for place in /usr/bin /etc /boot /proc/sys /sys /sys/fs/cgroup; do ! touch $place/written 2>/dev/null; done
        [ \"$(ls {tmp})\" = {name} ] && [ ! -e /dev/mem ]
        exec setpriv --no-new-privs --inh-caps=-all {setpriv} {role} --exact {test} --nocapture",
        directory = directory.0.display(),
        name = directory.0.file_name().unwrap().display(),
        stage = directory.file("stage").display(),
        tmp = env::temp_dir().display(),
        role = role_program.display(),
        test = "systemd::a_units_restrictions_can_be_put_on",
    );
    let mut unit = Command::new("unshare");
    unit.args(["--mount", "sh", "-c", &script]).env(RESTRICTED_AS, role).env(BECOMES, command);
    Some(unit)
}

#[test]
fn a_units_restrictions_can_be_put_on() {
    let Ok(role) = env::var(RESTRICTED_AS) else { return };
    let filters = match role.as_str() {
        "debian" => as_debians_unit_has_it(),
        _ => as_the_manuals_unit_has_it(),
    };
    for filter in filters {
        seccompiler::apply_filter(&filter).unwrap();
    }
    let words = env::var(BECOMES).unwrap();
    panic!("{}", Command::new("sh").args(["-c", &format!("exec {words}")]).exec());
}

/// `MemoryDenyWriteExecute=`, `RestrictAddressFamilies=`, `RestrictNamespaces=`, `RestrictRealtime=` and what
/// `ProtectKernelModules=` has of the kind, as filters that answer with an error.
fn as_debians_unit_has_it() -> Vec<seccompiler::BpfProgram> {
    let compile = |errno: i32, rules: &str| {
        let json = format!(
            r#"{{"unit": {{"mismatch_action": "allow", "match_action": {{"errno": {errno}}}, "filter": [{rules}]}}}}"#
        );
        let architecture = env::consts::ARCH.try_into().unwrap();
        seccompiler::compile_from_json(json.as_bytes(), architecture).unwrap().remove("unit").unwrap()
    };
    let argument = |index: u8, operator: &str, value: i32| {
        format!(r#"{{"index": {index}, "type": "dword", "op": {operator}, "val": {value}}}"#)
    };
    let with = |call: &str, conditions: &[String]| {
        format!(r#"{{"syscall": "{call}", "args": [{}]}}"#, conditions.join(", "))
    };
    let masked = |mask: i32| format!(r#"{{"masked_eq": {mask}}}"#);
    let (writable, executable) = (nix::libc::PROT_WRITE, nix::libc::PROT_EXEC);
    let both = writable | executable;
    let families = [nix::libc::AF_INET, nix::libc::AF_INET6, nix::libc::AF_UNIX];
    vec![
        compile(
            nix::libc::EPERM,
            &[
                with("mmap", &[argument(2, &masked(both), both)]),
                with("mprotect", &[argument(2, &masked(executable), executable)]),
                with("pkey_mprotect", &[argument(2, &masked(executable), executable)]),
                r#"{"syscall": "unshare"}, {"syscall": "setns"}, {"syscall": "sched_setscheduler"}"#
                    .to_owned(),
                r#"{"syscall": "init_module"}, {"syscall": "finit_module"}, {"syscall": "delete_module"}"#
                    .to_owned(),
            ]
            .join(", "),
        ),
        compile(
            nix::libc::EAFNOSUPPORT,
            &with("socket", &families.map(|family| argument(0, r#""ne""#, family))),
        ),
        compile(nix::libc::ENOSYS, r#"{"syscall": "clone3"}"#),
    ]
}

/// `SystemCallFilter=` as the unit has it: what is not named ends the process.
fn as_the_manuals_unit_has_it() -> Vec<seccompiler::BpfProgram> {
    let mut allowed = BTreeSet::new();
    for line in SERVICE.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        match line.strip_prefix('~') {
            Some(sets) => {
                let taken: BTreeSet<_> = sets.split(' ').flat_map(calls_of).collect();
                allowed.retain(|call| !taken.contains(call));
            }
            None => allowed.extend(line.split(' ').flat_map(calls_of)),
        }
    }
    let architecture = env::consts::ARCH.try_into().unwrap();
    let compile = |calls: &[&str]| {
        let rules: Vec<_> = calls.iter().map(|call| format!(r#"{{"syscall": "{call}"}}"#)).collect();
        let json = format!(
            r#"{{"unit": {{"mismatch_action": "kill_process", "match_action": "allow", "filter": [{}]}}}}"#,
            rules.join(", ")
        );
        let compiled = seccompiler::compile_from_json(json.as_bytes(), architecture);
        compiled.map(|mut programs| programs.remove("unit").unwrap())
    };
    // Systemd knows calls of all processors.
    let known: Vec<_> = allowed.iter().map(String::as_str).filter(|call| compile(&[call]).is_ok()).collect();
    assert!(known.len() > 200 && !known.contains(&"mount"), "{known:?}");
    vec![compile(&known).unwrap()]
}

/// The system calls in one of systemd's sets, or the one of that name.
fn calls_of(set: &str) -> BTreeSet<String> {
    if !set.starts_with('@') {
        return BTreeSet::from([set.to_owned()]);
    }
    let output =
        Command::new("systemd-analyze").args(["syscall-filter", set, "--no-pager"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let names = text.lines().skip(1).map(str::trim).filter(|name| !name.is_empty() && !name.starts_with('#'));
    names.flat_map(calls_of).collect()
}

/// What the unit of Debian's package says of the process. [`confined`] and [`as_debians_unit_has_it`] see to all of it
/// that restricts.
const OF_DEBIANS_UNIT: [&str; 15] = [
    "ExecStart=/usr/share/memcached/scripts/systemd-memcached-wrapper /etc/memcached.conf",
    "PIDFile=/run/memcached/memcached.pid",
    "Restart=always",
    "CapabilityBoundingSet=CAP_SETGID CAP_SETUID CAP_SYS_RESOURCE",
    "NoNewPrivileges=true",
    "PrivateTmp=true",
    "PrivateDevices=true",
    "ProtectSystem=full",
    "ProtectControlGroups=true",
    "ProtectKernelModules=true",
    "ProtectKernelTunables=true",
    "MemoryDenyWriteExecute=true",
    "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX",
    "RestrictNamespaces=true",
    "RestrictRealtime=true",
];

#[test]
fn nothing_in_debians_unit_is_forgotten_here() {
    if !needs::are_there(&[&needs::DEBIANS_MEMCACHED]) {
        return;
    }
    let unit = fs::read_to_string("/lib/systemd/system/memcached.service").unwrap();
    let service = unit.split_once("\n[Service]\n").unwrap().1.split_once("\n[Install]\n").unwrap().0;
    let lines = service.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    assert_eq!(lines.collect::<BTreeSet<_>>(), BTreeSet::from(OF_DEBIANS_UNIT));
}

#[test]
fn it_runs_under_debians_unit_by_debians_wrapper() {
    if !needs::are_there(&[&needs::DEBIANS_MEMCACHED]) {
        return;
    }
    let directory = Directory::new();
    let settings = directory.file("memcached.conf");
    let pidfile = directory.file("pid");
    let text = format!(
        "# Debian's\n-d\nlogfile /var/log/memcached.log\n-m 64\n-p -1\n-u memcache\n-l 127.0.0.1\n-P {}\n",
        pidfile.display()
    );
    fs::write(&settings, text).unwrap();
    let wrapper = format!("/usr/share/memcached/scripts/systemd-memcached-wrapper {}", settings.display());
    let capabilities = "--bounding-set=-all,+setgid,+setuid,+sys_resource";
    let Some(mut unit) = confined(&directory, "debian", capabilities, &wrapper) else { return };
    let log = fs::File::create(directory.file("log")).unwrap();
    let ports = directory.file("ports");
    let child = unit.env("MEMCACHED_PORT_FILENAME", &ports).stderr(log).spawn().unwrap();
    let mut server = Server { child, directory, port: 0 };
    let log = server.directory.file("log");
    wait_for("the line", || {
        assert!(server.child.try_wait().unwrap().is_none(), "it ended at once: {}", server.log());
        log_contains(&log, "listens on") && pidfile.exists()
    });
    server.port = fs::read_to_string(&ports).unwrap().trim().rsplit_once(": ").unwrap().1.parse().unwrap();
    let mut client = server.connect();
    assert_eq!(client.ask("set key 0 0 5\r\nvalue\r\n"), "STORED");
    assert_eq!(client.stat("stats\r\n", "pid"), Some(server.child.id().to_string()));
    let status = fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap();
    for line in ["CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.contains(line), "{line}: {status}");
    }
    assert!(!server.log().contains("WARN"), "{}", server.log());
    server.signal(Signal::SIGTERM);
    assert_eq!(server.exit_code(), Some(0));
}

#[test]
fn it_runs_under_the_manuals_unit() {
    if !needs::are_there(&[&needs::SYSTEMD]) {
        return;
    }
    let directory = Directory::new();
    let manager = Manager::listening(&directory.file("notify"));
    fs::copy(BINARY, directory.file("ferrocached")).unwrap();
    let nobody = "--reuid=65534 --regid=65534 --clear-groups --bounding-set=-all";
    let command = "ferrocached -p -1 -l 127.0.0.1 -o drop_privileges -v";
    let command = format!("{}/{command}", directory.0.display());
    let Some(mut unit) = confined(&directory, "manual", nobody, &command) else { return };
    let log = fs::File::create(directory.file("log")).unwrap();
    let child = unit.env("NOTIFY_SOCKET", directory.file("notify")).stderr(log).spawn().unwrap();
    let mut server = Server { child, directory, port: 0 };
    let ready = manager.hears();
    let status = ready.strip_prefix("READY=1\nSTATUS=listens on 127.0.0.1:").expect(&ready);
    server.port = status.split_once(' ').unwrap().0.parse().unwrap();
    assert_eq!(server.connect().ask("set key 0 0 5\r\nvalue\r\n"), "STORED");
    assert!(!server.log().contains("WARN"), "{}", server.log());
    server.signal(Signal::SIGHUP);
    assert!(manager.hears().starts_with("RELOADING=1\n"));
    assert_eq!(manager.hears(), ready);
    server.signal(Signal::SIGTERM);
    assert_eq!(server.exit_code(), Some(0));
}
