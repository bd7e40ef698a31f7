//! Statistics, a name and a value each: lines of text, or packets.
//!
//! A new dialect words them here; the engine only tells names and values.

use std::time::Duration;

use super::Style;
use super::owed::Owed;
use super::replies::reply;

/// Writes lines of statistics: a name and a value each.
#[derive(Debug)]
pub struct StatLines<'o> {
    style: Style<'static>,
    owed: &'o mut Owed,
}

impl StatLines<'_> {
    /// Lines behind what is owed so far, for a request of this style.
    pub fn new<'o>(style: Style<'static>, owed: &'o mut Owed) -> StatLines<'o> {
        StatLines { style, owed }
    }

    /// A line; neither its name nor its value may hold a line end.
    pub fn text(&mut self, name: &str, value: &str) {
        if let Style::Binary(packet) = self.style {
            return self.owed.say_packet_stat(packet, name.as_bytes(), value.as_bytes());
        }
        for piece in ["STAT ", name, " ", value, "\r\n"] {
            self.owed.say(piece.as_bytes());
        }
    }

    /// Many lines in one value, which only a packet can hold.
    pub fn bytes(&mut self, name: &str, value: &[u8]) {
        if let Style::Binary(packet) = self.style {
            self.owed.say_packet_stat(packet, name.as_bytes(), value);
        }
    }

    /// A line with a whole number.
    pub fn number(&mut self, name: &str, value: u64) {
        self.text(name, itoa::Buffer::new().format(value));
    }

    /// A line that says `yes` or `no`.
    pub fn flag(&mut self, name: &str, value: bool) {
        self.text(name, if value { "yes" } else { "no" });
    }

    /// A line with a number and so many of its decimals.
    pub fn decimal(&mut self, name: &str, value: f64, decimals: usize) {
        self.text(name, &format!("{value:.decimals$}"));
    }

    /// A line with seconds, to the microsecond.
    pub fn seconds(&mut self, name: &str, value: Duration) {
        self.text(name, &format!("{}.{:06}", value.as_secs(), value.subsec_micros()));
    }

    /// Ends the list; so do the lists that tell of keys instead of statistics.
    pub fn end(self) {
        match self.style {
            Style::Binary(packet) => self.owed.say_packet_stat(packet, b"", b""),
            Style::Classic | Style::Meta(_) => self.owed.say(reply::END),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_value_is_worded_as_memcached_does() {
        let mut owed = Owed::default();
        let mut lines = StatLines::new(Style::Classic, &mut owed);
        lines.text("version", "1.6");
        lines.number("curr_items", u64::MAX);
        lines.flag("cas_enabled", true);
        lines.flag("track_sizes", false);
        lines.decimal("growth_factor", 1.25, 2);
        lines.seconds("rusage_user", Duration::from_micros(7_000_042));
        lines.end();
        let expected = "STAT version 1.6\r\nSTAT curr_items 18446744073709551615\r\nSTAT cas_enabled yes\r\n\
                        STAT track_sizes no\r\nSTAT growth_factor 1.25\r\nSTAT rusage_user 7.000042\r\nEND\r\n";
        assert_eq!(owed.into_bytes(), expected);
    }
}
