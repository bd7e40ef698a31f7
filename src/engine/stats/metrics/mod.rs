//! Metrics for Prometheus: those of memcached's exporter, and one for each statistic that it does not read.
//!
//! The first are those of prometheus/memcached_exporter 0.16 with their names, types, labels and help texts, so that
//! dashboards and alerts made for it work unchanged. The others begin with `ferrocached_`: each row of a statistic that is
//! a number, is not always 0, and stands behind none of the first, under its own name. So a new counter is a new metric.
//!
//! Metrics count from the start: `stats reset` does not touch them.
//!
//! The text is written here, and not by the crate prometheus-client: it ends the names of all counters with `_total`, and
//! some of the exporter's do not end so.

mod table;
pub(super) mod text;

use std::collections::HashMap;
use std::time::Duration;

use super::general::{NETWORK, PREFIXES, STATS};
use super::latency::Histogram;
use super::numbers::Numbers;
use super::row::{Kind, Value};
use super::rows;
use crate::clock::Tick;
use crate::engine::Engine;
use crate::settings::VERSION;
use table::{METRICS, Metric, Source};
pub use text::Format;
use text::Text;

/// The powers of two, in nanoseconds, that the buckets of latency end at: from a quarter of a microsecond to a second.
const LATENCY_POWERS: [u32; 12] = [8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30];

/// How the lru_crawler's metrics begin, which are shown only while it is enabled, as by the exporter.
const CRAWLER: &str = "lru_crawler_";

/// The values of the rows that are shown, by their names.
struct Values(HashMap<&'static str, Value>);

impl Values {
    /// The value as a sample shows it, `None` if it is no number or not there.
    fn number(&self, name: &str) -> Option<String> {
        Some(match self.0.get(name)? {
            Value::Integer(number) => number.to_string(),
            Value::Ratio(number) => number.to_string(),
            Value::Duration(time) => time.as_secs_f64().to_string(),
            Value::Flag(is_set) => u8::from(*is_set).to_string(),
            Value::Text(_) => return None,
        })
    }

    fn integer(&self, name: &str) -> Option<u64> {
        match self.0.get(name)? {
            Value::Integer(number) => Some(*number),
            _ => None,
        }
    }

    fn sample(&self, source: &Source) -> Option<String> {
        match source {
            Source::One => Some("1".to_owned()),
            Source::Row(name) => self.number(name),
            Source::Less(name, others) => {
                let less = others.iter().filter_map(|name| self.integer(name)).sum();
                Some(self.integer(name)?.saturating_sub(less).to_string())
            }
        }
    }

    fn is_shown(&self, metric: &Metric) -> bool {
        !metric.name.starts_with(CRAWLER) || matches!(self.0.get("lru_crawler"), Some(Value::Flag(true)))
    }
}

impl Engine {
    /// All metrics at `now`, as exporters serve them.
    pub fn metrics(&self, format: Format, now: Tick) -> String {
        let now = self.time(now);
        let numbers = Numbers::new(self, now);
        let shown = rows().filter(|(_, row)| row.is_shown(&numbers));
        let mut values = Values(HashMap::new());
        for (_, row) in shown {
            // `stats settings` has some names of `stats`, which comes first.
            values.0.entry(row.name).or_insert_with(|| row.value(&numbers));
        }
        let mut text = Text::new(format);
        let version = format!("version=\"{VERSION}\"");
        for metric in METRICS.iter().filter(|metric| values.is_shown(metric)) {
            let samples = metric.samples.iter();
            let samples = samples.filter_map(|sample| Some((sample.labels, values.sample(&sample.value)?)));
            let mut samples = samples.peekable();
            if samples.peek().is_none() {
                continue;
            }
            let name = format!("memcached_{}", metric.name);
            text.begin(&name, metric.kind.name(), metric.help);
            for (labels, value) in samples {
                text.sample(&name, if metric.name == "version" { &version } else { labels }, &value);
            }
        }
        for row in [STATS, NETWORK, PREFIXES].into_iter().flatten() {
            let is_ours = row.is_measured() && !METRICS.iter().any(|metric| metric.reads(row.name));
            if let (true, Some(value)) = (is_ours, values.number(row.name)) {
                let name = match (row.kind(), row.name.strip_suffix("_count")) {
                    (Kind::Counter, _) => format!("ferrocached_{}_total", row.name),
                    // Prometheus keeps that ending for histograms.
                    (_, Some(thing)) => format!("ferrocached_{thing}s"),
                    (_, None) => format!("ferrocached_{}", row.name),
                };
                text.begin(&name, row.kind().name(), row.help);
                text.sample(&name, "", &value);
            }
        }
        write_latency(&self.latency(), &mut text);
        text.end()
    }
}

/// Writes a histogram in seconds for each of `histograms`.
fn write_latency(histograms: &[Histogram], text: &mut Text) {
    const NAME: &str = "ferrocached_request_duration_seconds";
    let help = "Time from a read of a connection until its last reply was in the buffer, of one read in 256, by the \
                first request.";
    text.begin(NAME, "histogram", help);
    for histogram in histograms {
        let labels = format!("command=\"{}\",dialect=\"{}\"", histogram.command, histogram.dialect);
        let count = histogram.count().to_string();
        for power in LATENCY_POWERS {
            let end = Duration::from_nanos(1 << power).as_secs_f64();
            let labels = format!("{labels},le=\"{end}\"");
            text.sample(&format!("{NAME}_bucket"), &labels, &histogram.below(power).to_string());
        }
        text.sample(&format!("{NAME}_bucket"), &format!("{labels},le=\"+Inf\""), &count);
        text.sample(&format!("{NAME}_sum"), &labels, &histogram.sum.as_secs_f64().to_string());
        text.sample(&format!("{NAME}_count"), &labels, &count);
    }
}
