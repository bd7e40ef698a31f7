//! Statistics: the counters, and the table of all that is shown.
//!
//! Every statistic is a row ([`row::Row`]) of the table here: the `stats` command shows the rows, `stats reset` zeroes
//! those that are counters, and the manual lists them. A new counter is a field in `counters.rs`, a row that reads it,
//! and an addition where it happens.

pub mod connections;
mod counter;
mod counters;
mod general;
mod latency;
pub mod metrics;
mod numbers;
pub mod row;
mod settings;
mod slabs;

use super::Engine;
use crate::clock::Tick;
use crate::protocol::StatLines;
pub use counter::Counter;
pub use counters::{Connections, Usage};
pub(super) use counters::{Counters, Statistics};
pub(super) use general::{NETWORK, PREFIXES, STATS};
use numbers::Numbers;
use row::Row;
pub(super) use settings::SETTINGS;
pub(super) use slabs::{ITEMS, SLABS};

/// All rows, by the command that shows them.
static TABLE: &[(&str, &[Row])] = &[
    ("stats", STATS),
    ("stats items", ITEMS),
    ("stats network", NETWORK),
    ("stats prefixes", PREFIXES),
    ("stats settings", SETTINGS),
    ("stats slabs", SLABS),
];

/// Every statistic, in the order in which it is shown, with the command that shows it. Beside these, `stats latency`,
/// `stats conns`, `stats hotkeys`, `stats prefixes`, `stats detail dump` and `stats sizes` show lines for each class of
/// requests, connection, key, prefix or size.
pub fn rows() -> impl Iterator<Item = (&'static str, &'static Row)> {
    TABLE.iter().flat_map(|&(command, rows)| rows.iter().map(move |row| (command, row)))
}

impl Engine {
    /// Writes a line for each of `rows` whose condition holds.
    pub(super) fn say_rows(&self, rows: &[Row], lines: &mut StatLines<'_>, now: Tick) {
        // The older value is read first: counters only grow, so the difference is never negative.
        let base = self.statistics().base();
        let numbers = Numbers::new(self, now);
        for row in rows.iter().filter(|row| row.is_shown(&numbers)) {
            row.say(&numbers, base.get(row.name).copied().unwrap_or(0), lines);
        }
    }

    /// `stats reset`: zeroes every counter, and drops the statistics of single prefixes and keys.
    pub(super) fn reset_statistics(&self, now: Tick) {
        let numbers = Numbers::new(self, now);
        let counted = rows().filter_map(|(_, row)| Some((row.name, row.counted(&numbers)?))).collect();
        self.statistics().set_base(counted);
        self.reset_latency();
        self.store().forget_last_eviction();
        self.prefixes().reset();
        self.hot_keys().reset(now);
    }
}

#[cfg(test)]
mod tests;
