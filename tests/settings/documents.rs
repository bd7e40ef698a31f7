//! What is written down about the options, held against the options.

use ferrocached::config::{Verdict, example, help, option_table, readme_tables, suboption_table};

use super::{ConfFile, DEBIAN_CONF, config};

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
fn the_readme_tables_have_a_line_for_every_row() {
    let tables = readme_tables();
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
        // TLS cannot be had without a certificate, whose line is further down.
        let besides = if option == "Z" { " -o ssl_chain_cert=/c.pem" } else { "" };
        let config = config(&format!("-{option}{besides}"));
        assert!(config.notes.is_empty(), "-{option}: {:?}", config.notes);
        assert!(option.split(' ').count() <= 2, "-{option} is a sentence that looks like an option");
        lines += 1;
    }
    assert!(lines > 20, "{lines} options are commented out");
}
