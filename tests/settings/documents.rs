//! What is written down about the options, held against the options.

use ferrocached::config::{Parsed, Verdict, example, help, option_table, option_tables, suboption_table};
use ferrocached::manual::{self, TOPICS};

use super::{ConfFile, DEBIAN_CONF, config, parsed, stop};

#[test]
fn help_has_every_option_that_is_there_and_promises_no_other() {
    let help = help();
    for row in option_table().iter().chain(suboption_table()) {
        let is_right = match row.verdict {
            Verdict::Implemented => help.contains(&format!("\n  {}", row.usage())),
            Verdict::Accepted => help.contains(row.name),
            Verdict::Refused => !help.contains(row.name),
        };
        assert!(is_right, "{}", row.flag());
    }
    for line in help.lines() {
        assert!(line.len() <= 100 && !line.ends_with(' '), "{line:?}");
    }
}

#[test]
fn the_manuals_tables_have_a_line_for_every_row() {
    let tables = option_tables();
    for row in option_table().iter().chain(suboption_table()) {
        let usage = row.usage().replace('|', "\\|").replace(", ", "`, `");
        let line = format!("| `{usage}` | {} | {} |\n", row.verdict.words(), row.explanation());
        assert!(tables.contains(&line), "{line}");
    }
    for line in tables.lines().filter(|line| !line.is_empty()) {
        assert!(line.starts_with('|') && line.ends_with('|'), "{line}");
    }
}

#[test]
fn the_example_file_says_what_debians_says() {
    let (ours, debians) = (ConfFile::new("ours", &example()), ConfFile::new("debians", DEBIAN_CONF));
    assert_eq!(config(&ours.option()), config(&debians.option()));
}

#[test]
fn every_line_of_the_example_file_is_right_when_it_is_made_active() {
    let mut lines = 0;
    for option in example().lines().filter_map(|line| line.strip_prefix("# -")) {
        // TLS cannot be had without a certificate, nor SASL without users, whose lines are further down.
        let besides = match option {
            "S" => " -Y /etc/users",
            "Z" => " -o ssl_chain_cert=/c.pem",
            _ => "",
        };
        let config = config(&format!("-{option}{besides}"));
        assert!(config.notes.is_empty(), "-{option}: {:?}", config.notes);
        assert!(option.split(' ').count() <= 2, "-{option} is a sentence that looks like an option");
        lines += 1;
    }
    assert!(lines > 20, "{lines} options are commented out");
}

fn shown(line: &str) -> String {
    match parsed(line, &[]) {
        Ok(Parsed::Show(text)) => text,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn the_manual_is_shown_by_topic() {
    for topic in TOPICS {
        assert_eq!(shown(&format!("--manual {}", topic.name)), topic.plain());
        assert!(!topic.plain().contains("\n<!--"), "{}", topic.name);
    }
    assert_eq!(shown("--manual=tls -v"), manual::topic("tls").unwrap().plain());
    for line in ["--manual", "--manual -v", "-v --manual", "--manual="] {
        let contents = shown(line);
        assert!(TOPICS.iter().all(|topic| contents.contains(topic.summary)), "{line}: {contents}");
    }
    let stop = stop("--manual ssl");
    assert_eq!(stop.exit_code, 64);
    assert!(stop.message.contains("tls, udp") && stop.message.contains("was given \"ssl\""), "{stop}");
}

#[test]
fn the_manual_is_made_a_page_for_man() {
    let page = shown("--generate man");
    assert!(page.starts_with(".TH FERROCACHED 1 "), "{page:.100}");
    assert_eq!(
        page.matches("\n.SH ").count(),
        TOPICS.len() + 3,
        "a section for each topic, and three before them"
    );
    for row in option_table() {
        assert!(page.contains(&row.name.replace('-', "\\-")), "{}", row.name);
    }
    assert_eq!(stop("--generate html").exit_code, 64);
}
