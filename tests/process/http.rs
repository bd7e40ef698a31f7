//! HTTP: metrics and health, what is served beside them, and what hostile clients can do there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustls::ALL_VERSIONS;

use crate::certificates::{client_config, connect};
use crate::needs;
use crate::network::{connected, in_own_network};
use crate::server::{Directory, Server, wait_for};
use crate::systemd::handed;
use crate::tls::Guarded;

/// The clients that are served at once.
const CONNECTIONS_MAX: usize = 64;
/// The longest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// More than any answer takes.
const PATIENCE: Duration = Duration::from_secs(15);

/// The exporter's metrics, a line each: name, type, labels and help text. Source: prometheus/memcached_exporter 0.16.
const EXPORTER: &str = include_str!("metrics.txt");

const HEALTHZ: &str = "GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n";

/// Where `server` serves HTTP, as its log says.
fn address(server: &Server) -> SocketAddr {
    wait_for("HTTP", || server.log().contains("serves HTTP on "));
    let log = server.log();
    let line = log.split("serves HTTP on ").nth(1).unwrap();
    line.split([' ', '\n', ',']).next().unwrap().parse().unwrap()
}

fn open(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends `request` and returns everything that is answered until the connection is closed.
fn exchange(stream: &mut (impl Read + Write), request: &str) -> String {
    // Who is refused may be closed before that.
    let _ = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    // What refuses a client may reset the connection behind its answer.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

/// The status, the head and the body of a page.
fn page(address: SocketAddr, path: &str, headers: &str) -> (u16, String, String) {
    parse(&exchange(&mut open(address), &format!("GET {path} HTTP/1.1\r\nHost: here\r\n{headers}\r\n")))
}

fn parse(answer: &str) -> (u16, String, String) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    (head[9..12].parse().unwrap(), head.to_ascii_lowercase(), body.to_owned())
}

fn metrics(server: &Server) -> String {
    let (status, head, body) = page(address(server), "/metrics", "");
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    body
}

/// A server that serves HTTP, with an item and a command of each kind behind it.
fn busy() -> Server {
    let server = Server::start(&["--http=127.0.0.1:0"]);
    let mut client = server.connect();
    for command in [
        "set a 0 0 1\r\n1\r\n",
        "incr a 1\r\n",
        "incr b 1\r\n",
        "decr b 1\r\n",
        "touch a 0\r\n",
        "delete b\r\n",
        "cas a 0 0 1 99\r\n1\r\n",
        "cas b 0 0 1 99\r\n1\r\n",
        "mg a\r\n",
        "mg b\r\n",
    ] {
        client.ask(command);
    }
    server
}

/// Each metric of `text` that begins with `start`: its type, its labels, its help text.
fn described(text: &str, start: &str) -> BTreeMap<String, (String, BTreeSet<String>, String)> {
    let mut found: BTreeMap<String, (String, BTreeSet<String>, String)> = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            found.entry(name.to_owned()).or_default().2 = help.to_owned();
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            found.entry(name.to_owned()).or_default().0 = kind.to_owned();
        } else {
            let (name, value) = line.rsplit_once(' ').unwrap();
            value.parse::<f64>().unwrap();
            let (name, labels) = name.split_once('{').unwrap_or((name, "}"));
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let name = family.filter(|name| found.contains_key(*name)).unwrap_or(name);
            let labels = labels.split(',').filter_map(|label| Some(label.split_once('=')?.0.to_owned()));
            found.get_mut(name).unwrap_or_else(|| panic!("{name} has no type")).1.extend(labels);
        }
    }
    found.retain(|name, _| name.starts_with(start));
    found
}

#[test]
fn the_metrics_are_those_of_the_exporter_and_our_own() {
    let server = busy();
    let text = metrics(&server);
    let mut expected = BTreeMap::new();
    for line in EXPORTER.lines() {
        let [name, kind, labels, help] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
        let labels = labels.split(',').filter(|label| !label.is_empty()).map(str::to_owned).collect();
        expected.insert(name.to_owned(), (kind.to_owned(), labels, help.to_owned()));
    }
    // It is shown only with `-o temporary_ttl`, as by `stats items`.
    expected.remove("memcached_slab_temporary_items").unwrap();
    let shown = described(&text, "memcached_");
    for (name, expected) in &expected {
        assert_eq!(shown.get(name), Some(expected), "{name}");
    }
    assert_eq!(shown.len(), expected.len(), "{:?}", shown.keys());
    for line in [
        "memcached_up 1",
        "memcached_commands_total{command=\"get\",status=\"hit\"} 1",
        "memcached_commands_total{command=\"get\",status=\"miss\"} 1",
        "memcached_commands_total{command=\"set\",status=\"hit\"} 1",
        "memcached_commands_total{command=\"cas\",status=\"badval\"} 1",
        "memcached_slab_commands_total{slab=\"1\",command=\"incr\",status=\"hit\"} 1",
        "memcached_max_connections 1024",
        "memcached_accepting_connections 1",
        "memcached_lru_crawler_enabled 1",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line}: {text}");
    }
    let version = text.lines().find(|line| line.starts_with("memcached_version{version=\"1.6.")).unwrap();
    assert!(version.ends_with("\"} 1"), "{version}");
    let ours = described(&text, "ferrocached_");
    let (kind, ..) = ours.get("ferrocached_request_duration_seconds").unwrap();
    assert_eq!(kind, "histogram");
    for (name, kind) in [
        ("ferrocached_hash_bytes", "gauge"),
        ("ferrocached_auth_errors_total", "counter"),
        ("ferrocached_rejected_public_connections_total", "counter"),
        ("ferrocached_log_watchers", "gauge"),
        ("ferrocached_flush_prefix_waiting", "gauge"),
    ] {
        assert_eq!(ours.get(name).map(|(kind, ..)| &**kind), Some(kind), "{name}");
    }
    assert!(!ours.contains_key("ferrocached_slabs_moved_total"), "what is always 0 tells nobody anything");
    assert!(ours.values().all(|(.., help)| help.ends_with('.')), "each says what it means");
}

#[test]
fn a_reset_of_statistics_takes_nothing_from_the_metrics() {
    let server = busy();
    assert_eq!(server.connect().ask("stats reset\r\n"), "RESET");
    assert!(metrics(&server).contains("\nmemcached_commands_total{command=\"get\",status=\"hit\"} 1\n"));
}

#[test]
fn latency_is_shown_by_command_and_dialect() {
    let server = Server::start(&["--http=127.0.0.1:0", "-t", "1"]);
    let mut client = server.connect();
    assert_eq!(client.stat("stats latency\r\n", "classic:get:timed"), None, "nothing was asked yet");
    for _ in 0..2000 {
        client.ask("mg a\r\n");
    }
    let number = |client: &mut crate::server::Client<TcpStream>, name: &str| {
        client.stat("stats latency\r\n", name).map(|value| value.parse::<f64>().unwrap())
    };
    let timed = number(&mut client, "meta:get:timed").unwrap();
    assert!((4.0..=16.0).contains(&timed), "about 2,000 / 256: {timed}");
    let names = ["p50_us", "p90_us", "p99_us", "p999_us", "max_us"];
    let shown = names.map(|name| number(&mut client, &format!("meta:get:{name}")).unwrap());
    assert!(shown[0] > 0.0 && shown.is_sorted(), "{shown:?}");
    assert_eq!(number(&mut client, "meta:set:timed"), None);
    let text = metrics(&server);
    let count = "ferrocached_request_duration_seconds_count{command=\"get\",dialect=\"meta\"} ";
    let counted = text.lines().find_map(|line| line.strip_prefix(count)).unwrap();
    assert_eq!(counted, timed.to_string());
    let infinite =
        "ferrocached_request_duration_seconds_bucket{command=\"get\",dialect=\"meta\",le=\"+Inf\"} ";
    assert!(text.contains(&format!("{infinite}{counted}\n")), "{text}");
    assert_eq!(client.ask("stats reset\r\n"), "RESET");
    assert_eq!(number(&mut client, "meta:get:timed"), None);
}

#[test]
fn openmetrics_comes_to_who_prefers_it() {
    let server = busy();
    let accept = "Accept: application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5\r\n";
    let (status, head, body) = page(address(&server), "/metrics", accept);
    assert_eq!(status, 200);
    assert!(
        head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"),
        "{head}"
    );
    assert!(body.ends_with("\n# EOF\n"), "{body}");
    assert!(body.contains("# TYPE memcached_commands counter\n"), "a family is named without _total");
    assert!(body.contains("\nmemcached_commands_total{command=\"get\",status=\"hit\"} 1\n"));
    assert!(body.contains("# TYPE memcached_uptime_seconds unknown\n"), "no counter ends so there");
}

#[test]
fn promtool_reads_both() {
    if !needs::are_there(&[&needs::PROMETHEUS]) {
        return;
    }
    let server = busy();
    let mut check = Command::new(needs::on_path("promtool").unwrap());
    let mut check = check.args(["check", "metrics"]);
    check = check.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut running = check.spawn().unwrap();
    running.stdin.take().unwrap().write_all(metrics(&server).as_bytes()).unwrap();
    let output = running.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    // It finds fault with some of the exporter's names, once it could read everything.
    assert!(!said.contains("error while linting"), "{said}");
    let mut ours = said.lines().filter(|line| line.contains("ferrocached_"));
    // Its name is memcached's.
    assert!(ours.all(|line| line.contains("time_in_listen_disabled_us")), "{said}");
    assert!(said.contains("memcached_slab_items_moves_to_cold"), "{said}");
}

#[test]
fn a_prometheus_has_what_the_dashboards_ask_for() {
    if !needs::are_there(&[&needs::PROMETHEUS]) {
        return;
    }
    let server = busy();
    let files = Directory::new();
    let target = address(&server);
    let config = format!(
        "global: {{ scrape_interval: 200ms, scrape_timeout: 200ms }}\n\
         scrape_configs:\n  - job_name: memcached\n    static_configs: [{{ targets: ['{target}'] }}]\n"
    );
    fs::write(files.file("prometheus.yml"), config).unwrap();
    // A free port, which nobody else is likely to take meanwhile.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut prometheus = Command::new(needs::on_path("prometheus").unwrap())
        .arg(format!("--config.file={}", files.file("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", files.file("data").display()))
        .arg(format!("--web.listen-address={port}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let query = |expression: &str| {
        let mut stream = TcpStream::connect(port).ok()?;
        let escaped: String = expression.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let request = format!("GET /api/v1/query?query={escaped} HTTP/1.0\r\n\r\n");
        let (status, _, body) = parse(&exchange(&mut stream, &request));
        (status == 200 && body.contains("\"value\"")).then_some(body)
    };
    // What the panels and alerts of the mixin of grafana/jsonnet-libs are made of.
    for expression in [
        "memcached_up == 1",
        "sum by (command) (rate(memcached_commands_total{status='hit'}[1m]))",
        "memcached_current_connections / memcached_max_connections * 100 < 80",
        "rate(memcached_items_evicted_total[1m])",
        "rate(memcached_items_total[1m])",
        "rate(memcached_process_user_cpu_seconds_total[1m])",
        "rate(memcached_process_system_cpu_seconds_total[1m])",
        "memcached_current_bytes / memcached_limit_bytes",
        "memcached_current_items == 1",
        "rate(memcached_connections_total[1m])",
        "rate(memcached_read_bytes_total[1m])",
        "rate(memcached_written_bytes_total[1m])",
        "count by (version) (memcached_version)",
        "memcached_uptime_seconds",
        "rate(memcached_slab_items_outofmemory_total[5m]) == 0",
        "rate(memcached_items_reclaimed_total[1m])",
    ] {
        wait_for(expression, || query(expression).is_some());
    }
    prometheus.kill().unwrap();
    prometheus.wait().unwrap();
}

#[test]
fn there_are_these_pages_and_no_others() {
    let server = Server::start(&["--http=127.0.0.1:0"]);
    let address = address(&server);
    let (status, _, list) = page(address, "/", "");
    assert_eq!(status, 200);
    assert_eq!(list.lines().count(), 3, "{list}");
    assert_eq!(page(address, "/healthz", ""), (200, page(address, "/healthz", "").1, "ok\n".to_owned()));
    assert_eq!(page(address, "/readyz?verbose", "").2, "ready\n");
    assert_eq!(page(address, "/metrics/", "").0, 404);
    let (status, head, body) =
        parse(&exchange(&mut open(address), "HEAD /healthz HTTP/1.1\r\nHost: here\r\n\r\n"));
    assert_eq!((status, &*body), (200, ""));
    assert!(head.contains("content-length: 3"), "{head}");
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "BREW"] {
        let request = format!("{method} /metrics HTTP/1.1\r\nHost: here\r\nContent-Length: 1000000\r\n\r\n");
        let (status, head, _) = parse(&exchange(&mut open(address), &request));
        assert_eq!(status, 405, "{method}");
        assert!(head.contains("allow: get, head"), "{head}");
    }
    // What is no HTTP is told so or just closed.
    for bytes in ["get a\r\n\r\n", "\u{80}\0\0\0", "GET /metrics\r\n\r\n"] {
        let answer = exchange(&mut open(address), bytes);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{bytes:?}: {answer:?}");
    }
    let huge = format!("GET /metrics HTTP/1.1\r\nHost: {}\r\n\r\n", "x".repeat(HEAD_BYTES_MAX));
    let answer = exchange(&mut open(address), &huge);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer:?}");
    // At the limit it is served: the rest of the head takes 42 bytes.
    let fits = format!("X-Long: {}\r\n", "x".repeat(HEAD_BYTES_MAX - 100));
    assert_eq!(page(address, "/healthz", &fits).0, 200);
}

#[test]
fn clients_of_http_hold_up_nobody_and_are_held_up_by_nobody() {
    let server = Server::start(&["--http=127.0.0.1:0", "-c", "2"]);
    let (mut one, mut other) = (server.connect(), server.connect());
    assert_eq!(one.ask("set a 0 0 1\r\n1\r\n"), "STORED");
    other.ask("version\r\n");
    // As many connections as -c allows are open.
    let text = metrics(&server);
    assert!(text.contains("\nmemcached_current_connections 2\n"), "HTTP counts apart: {text}");
    assert_eq!(page(address(&server), "/readyz", "").0, 200);
    // More clients than are served at once, none of which ends its request.
    let address = address(&server);
    let mut slow: Vec<_> = (0..2 * CONNECTIONS_MAX).map(|_| open(address)).collect();
    slow.iter_mut().for_each(|stream| stream.write_all(b"GET /metrics HTTP/1.1\r\nX: ").unwrap());
    for _ in 0..100 {
        assert_eq!(one.stat("stats\r\n", "curr_connections").as_deref(), Some("2"));
    }
    // They are turned out, each in its turn, and whoever waits behind them is served.
    assert_eq!(page(address, "/healthz", "").2, "ok\n");
    for mut stream in slow {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    }
    assert_eq!(page(address, "/healthz", "").2, "ok\n");
}

#[test]
fn without_the_option_there_is_no_http() {
    let server = Server::start(&[]);
    assert!(!server.log().contains("HTTP"), "{}", server.log());
}

#[test]
fn it_speaks_tls_where_the_cache_does() {
    let guarded = Guarded::start(&["--http=127.0.0.1:0"]);
    let config = client_config(&guarded.authority, None, ALL_VERSIONS);
    let address = address(&guarded.server);
    let mut stream = connect(&config, address).unwrap();
    let (status, _, body) = parse(&exchange(&mut stream, "GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n"));
    assert_eq!(status, 200);
    assert!(body.contains("\nmemcached_up 1\n"));
    let plain = exchange(&mut open(address), "GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n");
    assert!(!plain.contains("memcached_up"), "{plain}");
}

#[test]
fn with_users_metrics_and_health_ask_for_no_password() {
    let files = Directory::new();
    fs::write(files.file("users"), "user:password\n").unwrap();
    let users = files.file("users");
    let server = Server::start(&["--http=127.0.0.1:0", "-u", "root", "-Y", users.to_str().unwrap()]);
    assert!(metrics(&server).contains("\nmemcached_up 1\n"));
    assert_eq!(page(address(&server), "/healthz", "").0, 200);
}

#[test]
fn where_system_calls_are_restricted_it_is_served() {
    let server = Server::start(&["--http=127.0.0.1:0", "-o", "drop_privileges"]);
    assert!(metrics(&server).contains("\nmemcached_up 1\n"));
    assert_eq!(page(address(&server), "/healthz", "").0, 200);
}

#[test]
fn protected_mode_holds_there_too() {
    in_own_network(|| {
        let server = Server::start_anywhere(&["--http=9150"]);
        let ask = |from: &str, to: &str| {
            exchange(&mut connected(from, to, 9150), "GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n")
        };
        assert_eq!(ask("198.51.100.7", "198.51.100.8"), "");
        assert!(ask("10.0.0.7", "10.0.0.8").ends_with("ok\n"));
        assert_eq!(
            server.connect().stat("stats network\r\n", "rejected_public_connections").as_deref(),
            Some("1")
        );
    });
}

#[test]
fn protected_mode_holds_there_where_clients_have_to_log_in_for_metrics_ask_nobody_to() {
    in_own_network(|| {
        let password = [("MEMCACHED_PASSWORD", "sesame")];
        let _server = Server::start_with(&password, &["--http=9150"]);
        let ask = |from: &str, to: &str| {
            exchange(&mut connected(from, to, 9150), "GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n")
        };
        assert_eq!(ask("198.51.100.7", "198.51.100.8"), "");
        assert!(ask("10.0.0.7", "10.0.0.8").contains("\nmemcached_up 1\n"));
    });
}

#[test]
fn it_keeps_to_the_addresses_of_the_options_where_sockets_are_handed_in() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = handed(listener, None, "$$", &["-l", "127.0.0.2", "--http=0"]);
    let address = address(&server);
    assert_eq!(address.ip().to_string(), "127.0.0.2", "{}", server.log());
}

#[test]
fn a_listener_without_tls_has_http_without_tls_as_well() {
    let guarded = Guarded::start_anywhere(&["-l", "notls:127.0.0.1", "--http=0"]);
    assert!(metrics(&guarded.server).contains("\nmemcached_up 1\n"));
}

#[test]
fn who_only_holds_places_keeps_nobody_out() {
    let server = Server::start(&["--http=127.0.0.1:0"]);
    let address = address(&server);
    // Twice as many as there are places come again as soon as they are closed, for as long as a probe waits.
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut held: Vec<TcpStream> = Vec::new();
                while !is_over.load(Ordering::Relaxed) {
                    held.retain(|stream| {
                        stream.set_nonblocking(true).is_ok()
                            && stream.peek(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
                    });
                    if held.len() < CONNECTIONS_MAX / 2 {
                        held.extend(TcpStream::connect(address).ok());
                    } else {
                        std::thread::sleep(Duration::from_millis(5));
                    }
                }
            });
        }
        std::thread::sleep(Duration::from_millis(500));
        let asked = Instant::now();
        let answers: Vec<_> = (0..20).map(|_| exchange(&mut open(address), HEALTHZ)).collect();
        is_over.store(true, Ordering::Relaxed);
        eprintln!("20 probes took {:?}", asked.elapsed());
        let good = answers.iter().filter(|answer| answer.ends_with("ok\n")).count();
        assert_eq!(good, answers.len(), "of {}", answers.len());
    });
}

#[test]
fn bodies_are_refused_unread() {
    let server = Server::start(&["--http=127.0.0.1:0"]);
    let address = address(&server);
    for header in ["Content-Length: 1000000000000", "Transfer-Encoding: chunked"] {
        let (status, ..) = page(address, "/metrics", &format!("{header}\r\n"));
        assert_eq!(status, 413, "{header}");
    }
    assert_eq!(page(address, "/metrics", "Content-Length: 0\r\n").0, 200);
}

#[test]
fn wrong_addresses_are_refused_with_a_reason() {
    for (given, reason) in [
        ("--http=127.0.0.1", "A port is needed"),
        ("--http=:9150", "An address is needed before the port"),
        ("--http=65536", "A port is needed"),
        ("--http=", "http"),
    ] {
        let (code, said) = crate::server::said(&crate::server::run(&[given]));
        assert_ne!(code, Some(0), "{given}");
        assert!(said.contains(reason), "{given}: {said}");
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let http = format!("--http={}", taken.local_addr().unwrap());
    let (code, said) = crate::server::said(&crate::server::run(&["-p", "0", &http]));
    assert_ne!(code, Some(0));
    assert!(said.contains("failed to listen on TCP port"), "{said}");
}
