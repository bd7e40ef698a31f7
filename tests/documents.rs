//! What the documents say is what the program does: their generated parts are compared with what generates them.
//!
//! `FERROCACHED_WRITE=1 cargo test --test documents` writes them anew instead.

#[expect(dead_code, reason = "one kind of server will do")]
#[path = "tls/mod.rs"]
mod certificates;
mod needs;
#[expect(dead_code, reason = "one kind of server will do")]
#[path = "process/server.rs"]
mod server;
#[path = "documents/statistics.rs"]
mod statistics;

use std::env;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ferrocached::config::{example, option_tables, options_in_brief};
use ferrocached::engine::access::rights::{Allowed, Rights};
use ferrocached::engine::admin::COMMANDS;
use ferrocached::engine::admin::stats::SUBCOMMANDS;
use ferrocached::engine::stats::rows;
use ferrocached::manual::{TOPICS, man_page};

/// README is read from top to bottom, once.
const README_LINES_MAX: usize = 250;

/// The options that README shows.
const OPTIONS_IN_BRIEF: [&str; 12] = [
    "memory-limit",
    "max-item-size",
    "listen",
    "conn-limit",
    "idle_timeout",
    "threads",
    "auth-file",
    "enable-ssl",
    "user",
    "drop_privileges",
    "verbose",
    "config",
];

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn check(name: &str, wanted: &str) {
    let mut found = read(name);
    if env::var_os("FERROCACHED_WRITE").is_some() && found != wanted {
        fs::write(path(name), wanted).unwrap();
        found = read(name);
    }
    assert!(found == wanted, "{name} is out of date: FERROCACHED_WRITE=1 cargo test --test documents");
}

fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap()
}

/// What stands before, between and behind the two comments called `part`; they belong to the middle.
fn parted<'d>(document: &'d str, part: &str) -> [&'d str; 3] {
    let (begin, end) = (format!("<!-- {part} -->\n"), format!("<!-- /{part} -->"));
    let from = document.find(&begin).unwrap_or_else(|| panic!("there is no {begin}")) + begin.len();
    let until = document.find(&end).unwrap_or_else(|| panic!("there is no {end}"));
    [&document[..from], &document[from..until], &document[until..]]
}

/// A part of the document `from`, with its links as README needs them.
fn copied(from: &str, part: &str) -> String {
    let directory = Path::new(from).parent().unwrap().display();
    parted(&read(from), part)[1].replace("](", &format!("]({directory}/"))
}

/// The topics of the manual, as links.
fn topic_links() -> String {
    let mut text = String::new();
    let mut columns = 0;
    for (nth, name) in TOPICS.iter().map(|topic| topic.name).enumerate() {
        let link = format!("[{name}](src/manual/{name}.md)");
        let comma = if nth + 1 < TOPICS.len() { " ·" } else { "\n" };
        let before = match columns {
            0 => "",
            _ if columns + link.len() > 110 => "\n",
            _ => " ",
        };
        columns = if before == "\n" { 0 } else { columns } + before.len() + link.len() + comma.len();
        text += &format!("{before}{link}{comma}");
    }
    text
}

fn command_table() -> String {
    let row = |command: &ferrocached::engine::admin::Command| {
        let arguments = command.arguments.text().replace('|', "\\|");
        let arguments = if arguments.is_empty() { String::new() } else { format!("`{arguments}`") };
        format!("| `{}` | {arguments} | {} |\n", command.name, command.help)
    };
    let head = "| command | arguments | what it does |\n|---|---|---|\n".to_owned();
    head + &COMMANDS.iter().map(row).collect::<String>()
}

/// What users with each kind of rights may do.
fn rights_table() -> String {
    let rights = ["rw", "ro", "prefix=shop", "ro,prefix=shop"];
    let mut table = "| commands |".to_owned();
    for rights in rights {
        table += &format!(" `{rights}` |");
    }
    table += "\n|---|---|---|---|---|\n";
    for (allowed, keyed) in [
        (Allowed::Everyone, "`get` `gets` `mg`"),
        (
            Allowed::Writers,
            "`mg` with `T` `N` or `R`, `set` `add` `replace` `append` `prepend` `cas` `incr` `decr` `touch` `gat` `gats` `delete` `ms` `md` `ma`",
        ),
        (Allowed::Overseers, ""),
        (Allowed::Operators, ""),
    ] {
        let mut commands = Vec::from_iter(Some(keyed.to_owned()).filter(|keyed| !keyed.is_empty()));
        for command in COMMANDS {
            let kinds = command.allowed.kinds().into_iter().filter(|(_, whom)| *whom == allowed);
            commands.extend(
                kinds.map(|(words, _)| format!("`{}`", format!("{} {words}", command.name).trim_end())),
            );
        }
        let more = if allowed == Allowed::Operators {
            ", and what else follows `stats` or `lru_crawler`"
        } else {
            ""
        };
        table += &format!("| {}{more} |", commands.join(" "));
        for rights in rights {
            let may = allowed.refusal(&Rights::parse(rights).expect("it is one")).is_none();
            table += if may { " yes |" } else { " no |" };
        }
        table += "\n";
    }
    table
}

/// The lines that `command` shows. Neighbours that mean the same share a row.
fn statistics_table(command: &str) -> String {
    let mut lines = Vec::<(Vec<String>, String)>::new();
    for (_, row) in rows().filter(|(shown_by, _)| *shown_by == command) {
        let condition = row.condition().map(|condition| format!(" Only {condition}."));
        let text = format!("{} | {}{}", row.kind().name(), row.help, condition.unwrap_or_default());
        // Without the class that it is about.
        let name = format!("`{}`", row.name.rsplit(':').next().unwrap_or(row.name));
        match lines.last_mut() {
            Some((names, same)) if *same == text => names.push(name),
            _ => lines.push((vec![name], text)),
        }
    }
    let head = "| line | kind | meaning |\n|---|---|---|\n".to_owned();
    head + &lines
        .iter()
        .map(|(names, text)| format!("| {} | {text} |\n", names.join(" ")))
        .collect::<String>()
}

#[test]
fn the_example_settings_file_is_up_to_date() {
    check("memcached.conf.example", &example());
}

#[test]
fn generated_parts_are_up_to_date() {
    let fenced = |language: &str, file: &str| format!("```{language}\n{}```\n", read(file));
    for (document, part, text) in [
        ("src/manual/commands.md", "commands", command_table()),
        ("src/manual/access.md", "rights", rights_table()),
        ("src/manual/options.md", "options", option_tables()),
        ("src/manual/statistics.md", "stats", statistics_table("stats")),
        ("src/manual/statistics.md", "stats settings", statistics_table("stats settings")),
        ("src/manual/statistics.md", "stats items", statistics_table("stats items")),
        ("src/manual/statistics.md", "stats slabs", statistics_table("stats slabs")),
        ("src/manual/statistics.md", "stats network", statistics_table("stats network")),
        ("src/manual/statistics.md", "stats prefixes", statistics_table("stats prefixes")),
        ("src/manual/nodes.md", "nutcracker", fenced("yaml", "tests/clients/nutcracker.yml")),
        ("src/manual/systemd.md", "service", fenced("ini", "tests/process/ferrocached.service")),
        ("src/manual/systemd.md", "socket", fenced("ini", "tests/process/ferrocached.socket")),
        // A fact is told in one place; what README shows of it is a copy.
        ("README.md", "options", options_in_brief(&OPTIONS_IN_BRIEF)),
        ("README.md", "who", copied("src/manual/access.md", "who")),
        ("README.md", "operating", copied("src/manual/operating.md", "operating")),
        ("README.md", "cpu", copied("benches/RESULTS.md", "cpu")),
        ("README.md", "topics", topic_links()),
    ] {
        let found = read(document);
        let [before, _, behind] = parted(&found, part);
        check(document, &format!("{before}{text}{behind}"));
    }
}

#[test]
fn the_readme_is_short() {
    let lines = read("README.md").lines().count();
    assert!(lines <= README_LINES_MAX, "{lines} lines");
}

#[test]
fn every_topic_of_the_manual_has_a_file_with_a_title_and_every_file_is_a_topic() {
    let mut files: Vec<String> = manual_files().collect();
    let mut topics = Vec::from_iter(TOPICS.iter().map(|topic| format!("src/manual/{}.md", topic.name)));
    files.sort();
    topics.sort();
    assert_eq!(files, topics);
    for topic in TOPICS {
        let titles = without_code(topic.text).lines().filter(|line| line.starts_with("# ")).count();
        assert!(topic.text.starts_with("# ") && titles == 1, "{}", topic.name);
    }
}

#[test]
fn the_page_for_man_is_right_for_groff() {
    if !needs::are_there(&[&needs::GROFF]) {
        return;
    }
    let mut groff = Command::new("groff");
    groff.args(["-man", "-ww", "-Tutf8"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut groff = groff.spawn().unwrap();
    groff.stdin.take().unwrap().write_all(man_page("1").as_bytes()).unwrap();
    let output = groff.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[test]
fn the_log_lines_that_the_manual_quotes_are_there() {
    let sources: String =
        rust_files(&path("src")).iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    // A literal goes on in the next line behind a backslash.
    let pieces = sources.split("\\\n").enumerate();
    let sources: String =
        pieces.map(|(nth, piece)| if nth == 0 { piece } else { piece.trim_start() }).collect();
    let text = read("src/manual/operating.md");
    let (_, table) = text.split_once("| symptom | log line | remedy |\n|---|---|---|\n").unwrap();
    let mut quoted = 0;
    for row in table.lines().take_while(|line| line.starts_with('|')) {
        let line = row.split('|').nth(2).unwrap();
        if let Some(words) = line.split('`').nth(1) {
            assert!(sources.contains(words), "{words}");
            quoted += 1;
        }
    }
    assert!(quoted > 5);
}

/// The files of the manual.
fn manual_files() -> impl Iterator<Item = String> {
    let files = fs::read_dir(path("src/manual")).unwrap().map(|entry| entry.unwrap().file_name());
    let names = files.map(|name| name.into_string().unwrap()).filter(|name| name.ends_with(".md"));
    names.map(|name| format!("src/manual/{name}"))
}

fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.flat_map(|entry| if entry.is_dir() { rust_files(&entry) } else { vec![entry] });
    files.filter(|file| file.extension().is_some_and(|extension| extension == "rs")).collect()
}

/// Cargo would run them behind all tests, and so behind the line that tells what was left out: `doctest = false` keeps it
/// from that, unless it is asked to.
#[test]
fn the_examples_in_the_documentation_are_right() {
    let mut cargo = Command::new(env::var_os("CARGO").expect("cargo says where it is"));
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is in the target directory");
    cargo.args(["test", "--doc", "--offline", "--manifest-path"]).arg(path("Cargo.toml"));
    cargo.arg("--target-dir").arg(target);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    // What cargo tells a test of its package would have it build some of the dependencies anew.
    for (name, _) in env::vars_os() {
        if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            cargo.env_remove(name);
        }
    }
    let output = cargo.output().unwrap();
    let said =
        [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    assert!(output.status.success(), "{said}");
    let passed =
        said.split_once("test result: ok. ").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
    assert!(passed.is_some_and(|passed: u32| passed > 0), "no example was run\n{said}");
}

#[test]
fn administrative_commands_have_unique_names_and_help() {
    for (index, command) in COMMANDS.iter().enumerate() {
        assert!(!command.help.is_empty(), "{}", command.name);
        assert!(COMMANDS[..index].iter().all(|other| other.name != command.name), "{}", command.name);
    }
    for (index, row) in SUBCOMMANDS.iter().enumerate() {
        assert!(!row.help.is_empty(), "stats {}", row.name);
        assert!(SUBCOMMANDS[..index].iter().all(|other| other.name != row.name), "stats {}", row.name);
    }
}

#[test]
fn every_reference_leads_somewhere() {
    let others = ["README.md", "tests/README.md", "benches/RESULTS.md"].map(str::to_owned);
    let mut references = 0;
    for document in manual_files().chain(others) {
        for reference in without_code(&read(&document)).split("](").skip(1) {
            let target = reference.split_once(')').expect("a link ends").0;
            let (file, heading) =
                target.split_once('#').map_or((target, None), |(file, at)| (file, Some(at)));
            let file = match file {
                "" => path(&document),
                _ => path(&document).parent().unwrap().join(file),
            };
            assert!(file.exists(), "{document}: {target} is not there");
            if let Some(heading) = heading {
                let anchors = anchors(&fs::read_to_string(file).unwrap());
                assert!(anchors.iter().any(|anchor| anchor == heading), "{document}: {target} is not there");
            }
            references += 1;
        }
    }
    assert!(references > 50, "{references}");
}

/// The text without what is between two fences.
fn without_code(text: &str) -> String {
    text.split("```").step_by(2).collect()
}

/// What links may call the headings of a text.
fn anchors(text: &str) -> Vec<String> {
    let text = without_code(text);
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#').trim())).collect()
}

/// What a heading is called in links: lower case, words joined by dashes, no punctuation.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|&letter| letter.is_alphanumeric() || " -_".contains(letter));
    kept.flat_map(char::to_lowercase).map(|letter| if letter == ' ' { '-' } else { letter }).collect()
}
