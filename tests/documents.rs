//! What the documents say is what the program does: their generated parts are compared with what generates them.
//!
//! `FERROCACHED_WRITE=1 cargo test --test documents` writes them anew instead.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ferrocached::config::{example, readme_tables};
use ferrocached::engine::access::rights::{Allowed, Rights};
use ferrocached::engine::admin::COMMANDS;

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn check(name: &str, wanted: &str) {
    if env::var_os("FERROCACHED_WRITE").is_some() {
        fs::write(path(name), wanted).unwrap();
    }
    let found = fs::read_to_string(path(name)).unwrap();
    assert!(found == wanted, "{name} is out of date: FERROCACHED_WRITE=1 cargo test --test documents");
}

/// `document` with what stands between the two comments called `part` replaced.
fn with_part(document: &str, part: &str, text: &str) -> String {
    let (begin, end) = (format!("<!-- {part} -->\n"), format!("<!-- /{part} -->"));
    let (head, rest) = document.split_once(&begin).unwrap_or_else(|| panic!("the README has no {begin}"));
    let (_, tail) = rest.split_once(&end).unwrap_or_else(|| panic!("the README has no {end}"));
    format!("{head}{begin}{text}{end}{tail}")
}

fn command_table() -> String {
    let row = |command: &ferrocached::engine::admin::Command| {
        let arguments = command.arguments.replace('|', "\\|");
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

#[test]
fn the_example_settings_file_is_up_to_date() {
    check("memcached.conf.example", &example());
}

#[test]
fn the_readme_is_up_to_date() {
    let nutcracker = fs::read_to_string(path("tests/clients/nutcracker.yml")).unwrap();
    let [service, socket] = ["service", "socket"]
        .map(|unit| fs::read_to_string(path(&format!("tests/process/ferrocached.{unit}"))).unwrap());
    let mut readme = fs::read_to_string(path("README.md")).unwrap();
    for (part, text) in [
        ("commands", command_table()),
        ("rights", rights_table()),
        ("options", readme_tables()),
        ("nutcracker", format!("```yaml\n{nutcracker}```\n")),
        ("service", format!("```ini\n{service}```\n")),
        ("socket", format!("```ini\n{socket}```\n")),
    ] {
        readme = with_part(&readme, part, &text);
    }
    check("README.md", &readme);
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
}

#[test]
fn every_reference_in_the_readme_leads_somewhere() {
    let readme = fs::read_to_string(path("README.md")).unwrap();
    // What is between two fences is code.
    let text: String = readme.split("```").step_by(2).collect();
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchors: Vec<String> = headings.map(|line| anchor(line.trim_start_matches('#').trim())).collect();
    let mut references = 0;
    for reference in text.split("](").skip(1) {
        let target = reference.split_once(')').expect("a link ends").0;
        let leads_somewhere = match target.strip_prefix('#') {
            Some(target) => anchors.iter().any(|anchor| anchor == target),
            None => path(target).exists(),
        };
        assert!(leads_somewhere, "{target} is not there");
        references += 1;
    }
    assert!(references > 0);
}

/// What a heading is called in links: lower case, words joined by dashes, no punctuation.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|&letter| letter.is_alphanumeric() || " -_".contains(letter));
    kept.flat_map(char::to_lowercase).map(|letter| if letter == ' ' { '-' } else { letter }).collect()
}
