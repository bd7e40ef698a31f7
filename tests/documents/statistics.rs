//! The manual's list of statistics against what a server answers.

use std::collections::BTreeSet;
use std::fs;

use ferrocached::engine::admin::COMMANDS;
use ferrocached::manual::topic;

use super::certificates::Authority;
use super::server::{Directory, Server};

/// The kinds of `stats` whose lines have names.
const NAMED: [&str; 9] =
    ["", "settings", "items", "slabs", "conns", "network", "latency", "hotkeys", "prefixes"];

/// So many requests that the sample behind `stats hotkeys` has seen some.
const GETS: usize = 1000;

/// One that has all lines there can be: with TLS, beside a listener without, with UDP, and with what adds a line.
fn start() -> (Server, Directory) {
    let files = Directory::new();
    let identity = Authority::new("ours").identity();
    fs::write(files.file("chain.pem"), identity.certificate).unwrap();
    fs::write(files.file("key.pem"), identity.key).unwrap();
    let path = |name| files.file(name).display().to_string();
    let suboptions = format!(
        "ssl_chain_cert={},ssl_key={},ssl_session_cache,idle_timeout=600,temporary_ttl=60",
        path("chain.pem"),
        path("key.pem")
    );
    let server =
        Server::start_anywhere(&["-l", "notls:127.0.0.1", "-U", "-1", "-D", ":", "-Z", "-o", &suboptions]);
    (server, files)
}

/// The text of the manual about one kind of `stats`.
fn section(kind: &str) -> Option<&'static str> {
    let heading = format!("\n## stats {kind}");
    let (_, rest) = topic("statistics")?.text.split_once(&format!("{}\n", heading.trim_end()))?;
    Some(rest.split("\n## ").next().unwrap_or(rest))
}

/// What stands between backticks in the first cells of the tables of `text`.
fn names_told(text: &str) -> BTreeSet<&str> {
    let cells = text.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next());
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect()
}

/// The name in a line of `stats`, without the class, the socket or the key that it is about.
fn bare_name(line: &str) -> String {
    let name = line.split(' ').nth(1).expect("STAT, a name, a value");
    name.rsplit(':').next().unwrap_or(name).to_owned()
}

#[test]
fn the_manual_has_every_line_of_stats_and_no_other() {
    let (server, _files) = start();
    let mut client = server.connect();
    assert_eq!(client.ask("set user:1 0 0 1\r\na\r\n"), "STORED");
    client.send(&"get user:1\r\n".repeat(GETS));
    for _ in 0..GETS {
        assert_eq!([client.line(), client.line(), client.line()], ["VALUE user:1 0 1", "a", "END"]);
    }
    // So many reads that some were timed for `stats latency`.
    (0..GETS).for_each(|_| drop(client.ask("version\r\n")));
    for kind in NAMED {
        client.send(&format!("{}\r\n", format!("stats {kind}").trim_end()));
        let mut answered = BTreeSet::new();
        loop {
            match client.line() {
                line if line == "END" => break,
                line => answered.insert(bare_name(&line)),
            };
        }
        let told = names_told(section(kind).unwrap_or_else(|| panic!("the manual has no stats {kind}")));
        let told: BTreeSet<String> = told.into_iter().map(str::to_owned).collect();
        let missing: Vec<_> = answered.difference(&told).collect();
        let unknown: Vec<_> = told.difference(&answered).collect();
        assert!(
            missing.is_empty() && unknown.is_empty(),
            "stats {kind}: {missing:?} untold, {unknown:?} not there"
        );
    }
}

#[test]
fn the_manual_tells_of_every_kind_of_stats() {
    let stats = COMMANDS.iter().find(|command| command.name == "stats").unwrap();
    for (kind, _) in stats.allowed.kinds() {
        assert!(section(kind.trim()).is_some(), "stats {kind}");
    }
}
