//! The manual: a text in Markdown for each topic.
//!
//! Forges show the files as they are, `--manual TOPIC` prints one, and [`man_page`] makes one page of all. The links
//! between topics are for forges: they lead to files.
//!
//! Rule: a fact is told in one topic. The parts that come from code, and what README shows of a topic, are copied by
//! `tests/documents.rs`, which also finds out when they differ.

mod page;

pub use page::man_page;

/// A text on one subject.
#[derive(Debug)]
pub struct Topic {
    /// What `--manual` is asked for.
    pub name: &'static str,
    /// What the text is about, in half a line.
    pub summary: &'static str,
    /// The text, in Markdown.
    pub text: &'static str,
}

macro_rules! topics {
    ($($name:ident: $summary:literal,)*) => {
        $(
            #[doc = include_str!(concat!(stringify!($name), ".md"))]
            #[allow(rustdoc::broken_intra_doc_links, reason = "brackets in the text are no links into the code")]
            pub mod $name {}
        )*

        /// All topics, in the order in which a reader may want them.
        pub const TOPICS: &[Topic] = &[$(Topic {
            name: stringify!($name),
            summary: $summary,
            text: include_str!(concat!(stringify!($name), ".md")),
        },)*];
    };
}

topics! {
    options: "command line, settings file, environment variables: every option and what it does",
    commands: "the text protocol: administrative commands, listing what is in the cache",
    meta: "the meta commands mg ms md ma me mn and their flags",
    statistics: "every line of stats and its relatives, with meaning and unit",
    monitoring: "metrics for Prometheus, and whether the server is well, by HTTP",
    watching: "a stream of what happens: lookups, stores, evictions, connections",
    prefixes: "dropping and counting keys by prefix; the hottest keys",
    access: "protected mode, passwords, rights: who may connect and do what",
    tls: "certificates, listeners with and without TLS, handshakes",
    udp: "datagrams: how to turn them on, and why they are best left off",
    memory: "what memory is used for, what bounds it, slow clients, limits",
    operating: "signals, exit codes, symptoms and their remedies",
    systemd: "in place of Debian's memcached, under a unit of its own, with sockets handed in",
    container: "an image in place of the official one",
    privileges: "giving up root, and all system calls that are not needed",
    nodes: "several servers: by client, or behind twemproxy",
    differences: "what is answered or done otherwise than by memcached",
    changelog: "what changed from version to version",
}

impl Topic {
    /// The text without the comments that mark its generated parts.
    pub fn plain(&self) -> String {
        let lines = self.text.lines().filter(|line| !is_comment(line));
        lines.flat_map(|line| [line, "\n"]).collect()
    }
}

/// The topic called `name`.
pub fn topic(name: &str) -> Option<&'static Topic> {
    TOPICS.iter().find(|topic| topic.name == name)
}

/// The topics, a line each.
pub fn contents() -> String {
    let width = TOPICS.iter().map(|topic| topic.name.len()).max().unwrap_or_default();
    let line = |Topic { name, summary, .. }: &Topic| format!("  {name:width$}  {summary}\n");
    let lines: String = TOPICS.iter().map(line).collect();
    format!("The topics of the manual, each shown by --manual TOPIC:\n\n{lines}")
}

/// Whether a line of Markdown is a comment of its own.
fn is_comment(line: &str) -> bool {
    line.starts_with("<!--") && line.ends_with("-->")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_found_by_their_names_and_told_without_comments() {
        assert_eq!(topic("tls").map(|topic| topic.name), Some("tls"));
        assert!(topic("TLS").is_none() && topic("").is_none());
        let text = "# Title\n\n<!-- part -->\ntext <!-- kept -->\n<!-- /part -->\n";
        assert_eq!(Topic { name: "x", summary: "y", text }.plain(), "# Title\n\ntext <!-- kept -->\n");
        assert_eq!(contents().lines().count(), TOPICS.len() + 2);
        assert!(contents().lines().all(|line| line.len() <= 100), "{}", contents());
    }
}
