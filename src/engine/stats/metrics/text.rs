//! The two formats of text.

use std::fmt::Write;

use crate::engine::stats::row::Kind;

/// Which of the two formats of text metrics are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' own, version 0.0.4.
    Prometheus,
    /// OpenMetrics, version 1.0.0.
    OpenMetrics,
}

/// Metrics in the making.
#[derive(Debug)]
pub(in crate::engine::stats) struct Text {
    format: Format,
    text: String,
}

impl Text {
    pub(super) fn new(format: Format) -> Text {
        Text { format, text: String::new() }
    }

    /// All that was written.
    pub(super) fn end(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }

    /// Begins a metric; what is no counter's name in OpenMetrics is of a kind unknown there.
    pub(in crate::engine::stats) fn begin(&mut self, name: &str, mut kind: &str, help: &str) {
        let mut family = name;
        if self.format == Format::OpenMetrics && kind == Kind::Counter.name() {
            match name.strip_suffix("_total") {
                Some(stem) => family = stem,
                None => kind = "unknown",
            }
        }
        let help = help.replace('\\', "\\\\");
        let _ = write!(self.text, "# HELP {family} {help}\n# TYPE {family} {kind}\n");
    }

    pub(in crate::engine::stats) fn sample(&mut self, name: &str, labels: &str, value: &str) {
        let (open, close) = if labels.is_empty() { ("", "") } else { ("{", "}") };
        let _ = writeln!(self.text, "{name}{open}{labels}{close} {value}");
    }
}
