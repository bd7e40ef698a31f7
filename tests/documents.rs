//! What the documents say is what the program does: their generated parts are compared with what generates them.
//!
//! `FERROCACHED_WRITE=1 cargo test --test documents` writes them anew instead.

use std::fs;
use std::path::{Path, PathBuf};

use ferrocached::config::{example, readme_tables};
use ferrocached::engine::admin::COMMANDS;

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn check(name: &str, wanted: &str) {
    if std::env::var_os("FERROCACHED_WRITE").is_some() {
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

#[test]
fn the_example_settings_file_is_up_to_date() {
    check("memcached.conf.example", &example());
}

#[test]
fn the_readme_is_up_to_date() {
    let nutcracker = fs::read_to_string(path("tests/clients/nutcracker.yml")).unwrap();
    let mut readme = fs::read_to_string(path("README.md")).unwrap();
    for (part, text) in [
        ("commands", command_table()),
        ("options", readme_tables()),
        ("nutcracker", format!("```yaml\n{nutcracker}```\n")),
    ] {
        readme = with_part(&readme, part, &text);
    }
    check("README.md", &readme);
}

#[test]
fn administrative_commands_have_unique_names_and_help() {
    for (index, command) in COMMANDS.iter().enumerate() {
        assert!(!command.help.is_empty(), "{}", command.name);
        assert!(COMMANDS[..index].iter().all(|other| other.name != command.name), "{}", command.name);
    }
}
