//! The documents about the options: the help text, the manual's tables, the example file. All of it comes
//! from the rows. And what shows the manual.

use std::fmt::Write as _;

use super::environment::VARIABLES;
use super::fault::Fault;
use super::given::Given;
use super::row::{Group, Row, Verdict};
use super::{option_table, suboption_table, version_line};
use crate::manual;

/// How wide the help text is, in columns.
const HELP_COLUMNS: usize = 100;
/// Where the sentences of the help text begin.
const HELP_INDENT: usize = 32;
/// How wide the example file is.
const EXAMPLE_COLUMNS: usize = 80;

/// The lines that are active in the example file, as they are in Debian's.
const EXAMPLE_ACTIVE: [(&str, &str); 5] = [
    ("memory-limit", "-m 64"),
    ("port", "-p 11211"),
    ("user", "-u memcache"),
    ("listen", "-l 127.0.0.1"),
    ("pidfile", "-P /var/run/memcached/memcached.pid"),
];
const EXAMPLE_HEAD: &str = "\
# The settings file of ferrocached, in the format of Debian's memcached.conf:
# memcached's command line, an option a line. It is read with
#
#     memcached --config /etc/memcached.conf
#
# or by Debian's wrapper. What follows a # is a comment. Lines that do not start
# with a dash are dropped, and so are those that start with -d or -h. When it
# is read with --config, environment variables (MEMCACHED_...) win over this
# file, and the command line wins over both.
#
# Options that are commented out show their default, or else an example.

# Run in the background. Dropped, as said: systemd wants the foreground.
-d

# Dropped as well: the log goes to standard error, and to the journal from there.
logfile /var/log/memcached.log
";

/// What `-h` shows.
pub fn help() -> String {
    let mut text = version_line();
    text.push_str("A cache server that takes memcached's place.\n\nUsage: memcached [OPTION]...\n");
    for group in Group::OF_OPTIONS {
        let _ = writeln!(text, "\n{}:", group.title());
        for row in option_table() {
            if row.group == group && row.verdict == Verdict::Implemented {
                help_entry(&mut text, &row.usage(), &row.explanation());
            }
        }
    }
    let _ = writeln!(text, "\n{}, as in -o idle_timeout=60,no_lru_crawler:", Group::Extended.title());
    for row in suboption_table().iter().filter(|row| row.verdict == Verdict::Implemented) {
        help_entry(&mut text, &row.usage(), &row.explanation());
    }
    text.push_str("\nAccepted without effect, so that what starts memcached starts this server:\n");
    let accepted = option_table().iter().filter(|row| row.verdict == Verdict::Accepted);
    for row in accepted {
        help_entry(&mut text, &row.usage(), &row.explanation());
    }
    let accepted = suboption_table().iter().filter(|row| row.verdict == Verdict::Accepted);
    let names: Vec<&str> = accepted.map(|row| row.name).collect();
    help_entry(&mut text, "of -o", &format!("{}.", names.join(", ")));
    text.push_str("\nEnvironment (stronger than the file of --config, weaker than the command line):\n");
    for variable in VARIABLES {
        help_entry(&mut text, variable.name, &variable.remark.replace('`', ""));
    }
    help_entry(
        &mut text,
        "NAME_FILE",
        "Of each of these: the file that holds the value of NAME; wins over NAME.",
    );
    help_entry(
        &mut text,
        "MEMCACHED_PORT_FILENAME",
        "File to write the ports to that are listened on, a line each.",
    );
    help_entry(
        &mut text,
        "NOTIFY_SOCKET, WATCHDOG_USEC, LISTEN_FDS",
        "Set by a service manager such as systemd: whom to tell when the server is ready, how often to tell it that the \
         server works, and sockets to listen on in place of those of -p, -l, -s and -U.",
    );
    text
}

/// What `-i` shows.
pub(super) fn license() -> String {
    include_str!("../../LICENSE").to_owned()
}

/// What `--manual` shows: the topic it was given, or the list of them.
pub(super) fn manual(given: &Given<'_>) -> Result<String, Fault> {
    let name = given.shown();
    if name.is_empty() {
        return Ok(manual::contents());
    }
    let topic = manual::topic(&name).ok_or_else(|| {
        let topics: Vec<&str> = manual::TOPICS.iter().map(|topic| topic.name).collect();
        given.impossible(format!("The manual has the topics {}", topics.join(", ")))
    })?;
    Ok(topic.plain())
}

/// What `--generate` shows.
pub(super) fn generated(given: &Given<'_>) -> Result<String, Fault> {
    match &*given.shown() {
        "man" => Ok(manual::man_page(env!("CARGO_PKG_VERSION"))),
        _ => Err(given.impossible("What can be generated is man")),
    }
}

/// The options called `names`, as README shows them.
pub fn options_in_brief(names: &[&str]) -> String {
    let mut text = String::from("| option | meaning |\n|---|---|\n");
    let rows = option_table().iter().chain(suboption_table());
    for row in names.iter().filter_map(|name| rows.clone().find(|row| row.name == *name)) {
        let head = if row.group == Group::Extended { "-o " } else { "" };
        let _ = writeln!(text, "| `{head}{}` | {} |", cell(row), row.explanation());
    }
    text
}

/// The tables of the manual: every option, every sub-option and what becomes of it.
pub fn option_tables() -> String {
    let mut text = String::from("| option | verdict | meaning |\n|---|---|---|\n");
    for row in option_table() {
        table_entry(&mut text, row);
    }
    text.push_str("\n| sub-option of `-o` | verdict | meaning |\n|---|---|---|\n");
    for row in suboption_table() {
        table_entry(&mut text, row);
    }
    text.push_str("\n| variable | meaning |\n|---|---|\n");
    for variable in VARIABLES {
        let _ = writeln!(text, "| `{}` | {} |", variable.name, variable.remark);
    }
    text.push_str("| each of these with `_FILE` behind its name | The file that holds the value; wins over the plain variable. |\n");
    text.push_str("| `MEMCACHED_PORT_FILENAME` | File to write the ports to that are listened on. |\n");
    text.push_str("| `NOTIFY_SOCKET` | Whom to tell when the server is ready, reloads, stops; set by service managers. |\n");
    text.push_str("| `WATCHDOG_USEC`, `WATCHDOG_PID` | How often to tell it that the workers have their turns, in microseconds; set by service managers. |\n");
    text.push_str("| `LISTEN_FDS`, `LISTEN_PID` | Sockets to listen on in place of those of `-p`, `-l`, `-s` and `-U`; set by service managers. |\n");
    text
}

/// The text of `memcached.conf.example`.
pub fn example() -> String {
    let mut text = EXAMPLE_HEAD.to_owned();
    for group in Group::OF_OPTIONS {
        for row in option_table().iter().filter(|row| row.group == group && belongs_in_file(row)) {
            example_entry(&mut text, row);
        }
    }
    for row in suboption_table().iter().filter(|row| row.verdict == Verdict::Implemented) {
        example_entry(&mut text, row);
    }
    text
}

/// Whether an option is one for the settings file: those that show something, and --config itself, are not;
/// -d has a place of its own at the head.
fn belongs_in_file(row: &Row) -> bool {
    row.verdict == Verdict::Implemented
        && ![
            "config",
            "daemon",
            "extended",
            "generate",
            "healthcheck",
            "help",
            "license",
            "manual",
            "version",
        ]
        .contains(&row.name)
}

fn help_entry(text: &mut String, usage: &str, explanation: &str) {
    let head = format!("  {usage:width$}", width = HELP_INDENT - 2);
    if head.ends_with(' ') {
        text.push_str(&head);
    } else {
        let _ = write!(text, "{head}\n{:HELP_INDENT$}", "");
    }
    for (nth, line) in wrapped(explanation, HELP_COLUMNS - HELP_INDENT).iter().enumerate() {
        let indent = if nth == 0 { 0 } else { HELP_INDENT };
        let _ = writeln!(text, "{:indent$}{line}", "");
    }
}

fn table_entry(text: &mut String, row: &Row) {
    let _ = writeln!(text, "| `{}` | {} | {} |", cell(row), row.verdict.words(), row.explanation());
}

/// How an option is written, for a cell of a table.
fn cell(row: &Row) -> String {
    row.usage().replace('|', "\\|").replace(", ", "`, `")
}

fn example_entry(text: &mut String, row: &Row) {
    text.push('\n');
    for line in wrapped(row.remark, EXAMPLE_COLUMNS - 2) {
        let _ = writeln!(text, "# {line}");
    }
    if let Some((_, active)) = EXAMPLE_ACTIVE.iter().find(|(name, _)| *name == row.name) {
        let _ = writeln!(text, "{active}");
        return;
    }
    let value = row.default.or(row.sample);
    let _ = match (row.group, row.letter, value) {
        (Group::Extended, _, Some(value)) => writeln!(text, "# -o {}={value}", row.name),
        (Group::Extended, _, None) => writeln!(text, "# -o {}", row.name),
        (_, Some(letter), Some(value)) => writeln!(text, "# -{letter} {value}"),
        (_, Some(letter), None) => writeln!(text, "# -{letter}"),
        (_, None, Some(value)) => writeln!(text, "# --{} {value}", row.name),
        (_, None, None) => writeln!(text, "# --{}", row.name),
    };
}

/// Breaks a sentence into lines of at most `columns`, at spaces.
fn wrapped(sentence: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in sentence.split(' ') {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
