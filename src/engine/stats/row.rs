//! What a statistic is: a row in a table.

use std::borrow::Cow;
use std::time::Duration;

use super::numbers::Numbers;
use crate::protocol::StatLines;

/// The kind of a statistic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// How often something has happened since the start or the last `stats reset`, or how much of it.
    Counter,
    /// A number as it is now; no reset changes it.
    Gauge,
    /// No number: words, or yes or no.
    Text,
}

impl Kind {
    /// Its name in documents.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Text => "text",
        }
    }
}

/// When a row is shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Condition {
    /// For people, as in "with -o idle_timeout".
    pub(super) words: &'static str,
    pub(super) holds: fn(&Numbers<'_>) -> bool,
}

/// A statistic.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its name, which begins its line.
    pub name: &'static str,
    /// What it means, in a sentence with its unit.
    pub help: &'static str,
    condition: Option<Condition>,
    source: Source,
}

/// Where a value comes from, and how it is formatted.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// It only grows. Its value at the last `stats reset` is subtracted when it is shown.
    Counter(fn(&Numbers<'_>) -> u64),
    Number(fn(&Numbers<'_>) -> u64),
    Ratio(fn(&Numbers<'_>) -> f64),
    Seconds(fn(&Numbers<'_>) -> Duration),
    Flag(fn(&Numbers<'_>) -> bool),
    Text(fn(&Numbers<'_>) -> Cow<'static, str>),
    /// A counter of what never happens here.
    Never,
    /// A number that is always 0.
    Zero,
}

/// The value of a row.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Integer(u64),
    Ratio(f64),
    Duration(Duration),
    Flag(bool),
    Text(Cow<'static, str>),
}

/// Something that is counted. `read` tells all there was since the start.
pub(super) const fn counter(name: &'static str, read: fn(&Numbers<'_>) -> u64) -> Row {
    row(name, Source::Counter(read))
}

/// A whole number as it is now.
pub(super) const fn gauge(name: &'static str, read: fn(&Numbers<'_>) -> u64) -> Row {
    row(name, Source::Number(read))
}

/// A number with two decimals.
pub(super) const fn ratio(name: &'static str, read: fn(&Numbers<'_>) -> f64) -> Row {
    row(name, Source::Ratio(read))
}

/// A duration, in seconds with six decimals.
pub(super) const fn seconds(name: &'static str, read: fn(&Numbers<'_>) -> Duration) -> Row {
    row(name, Source::Seconds(read))
}

/// `yes` or `no`.
pub(super) const fn flag(name: &'static str, read: fn(&Numbers<'_>) -> bool) -> Row {
    row(name, Source::Flag(read))
}

/// Words.
pub(super) const fn text(name: &'static str, read: fn(&Numbers<'_>) -> Cow<'static, str>) -> Row {
    row(name, Source::Text(read))
}

/// A counter of memcached's for something that never happens here.
pub(super) const fn never(name: &'static str) -> Row {
    row(name, Source::Never)
}

/// A gauge of memcached's for something that is not here.
pub(super) const fn zero(name: &'static str) -> Row {
    row(name, Source::Zero)
}

const fn row(name: &'static str, source: Source) -> Row {
    Row { name, help: "", condition: None, source }
}

impl Row {
    /// The same row with its help text.
    pub(super) const fn says(self, help: &'static str) -> Row {
        Row { help, ..self }
    }

    /// The same row, shown only while `condition` holds.
    pub(super) const fn when(self, condition: Condition) -> Row {
        Row { condition: Some(condition), ..self }
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self.source {
            Source::Counter(_) | Source::Never => Kind::Counter,
            Source::Number(_) | Source::Ratio(_) | Source::Seconds(_) | Source::Zero => Kind::Gauge,
            Source::Flag(_) | Source::Text(_) => Kind::Text,
        }
    }

    /// When it is shown, as in "with -o idle_timeout"; `None` is always.
    pub fn condition(&self) -> Option<&'static str> {
        self.condition.map(|condition| condition.words)
    }

    /// Whether it is shown with these `numbers`.
    pub(super) fn is_shown(&self, numbers: &Numbers<'_>) -> bool {
        self.condition.is_none_or(|condition| (condition.holds)(numbers))
    }

    /// The value since the start; `None` if it is no counter.
    pub(super) fn counted(&self, numbers: &Numbers<'_>) -> Option<u64> {
        match self.source {
            Source::Counter(read) => Some(read(numbers)),
            Source::Never => Some(0),
            _ => None,
        }
    }

    /// Whether it is a number that may be another than 0.
    pub(super) fn is_measured(&self) -> bool {
        self.kind() != Kind::Text && !matches!(self.source, Source::Never | Source::Zero)
    }

    /// Its value since the start.
    pub(super) fn value(&self, numbers: &Numbers<'_>) -> Value {
        match self.source {
            Source::Counter(read) | Source::Number(read) => Value::Integer(read(numbers)),
            Source::Never | Source::Zero => Value::Integer(0),
            Source::Ratio(read) => Value::Ratio(read(numbers)),
            Source::Seconds(read) => Value::Duration(read(numbers)),
            Source::Flag(read) => Value::Flag(read(numbers)),
            Source::Text(read) => Value::Text(read(numbers)),
        }
    }

    /// Writes its line. `base` is subtracted from a whole number; it is 0 for what is no counter.
    pub(super) fn say(&self, numbers: &Numbers<'_>, base: u64, lines: &mut StatLines<'_>) {
        match self.value(numbers) {
            Value::Integer(number) => lines.number(self.name, number.saturating_sub(base)),
            Value::Ratio(number) => lines.decimal(self.name, number, 2),
            Value::Duration(time) => lines.seconds(self.name, time),
            Value::Flag(is_set) => lines.flag(self.name, is_set),
            Value::Text(words) => lines.text(self.name, &words),
        }
    }
}
