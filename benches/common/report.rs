//! Figures as benches/RESULTS.md shows them.

use std::time::Duration;

/// The middle one; the mean of the two in the middle where their number is even. NaN of none.
pub(crate) fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = figures.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 0 => (sorted[middle - 1] + sorted[middle]) / 2.0,
        _ => sorted[middle],
    }
}

/// A Markdown table whose columns line up.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new<Heading: Into<String>>(headings: impl IntoIterator<Item = Heading>) -> Self {
        Self { rows: vec![headings.into_iter().map(Into::into).collect()] }
    }

    pub(crate) fn row<Cell: Into<String>>(&mut self, cells: impl IntoIterator<Item = Cell>) {
        let row: Vec<String> = cells.into_iter().map(Into::into).collect();
        debug_assert_eq!(row.len(), self.rows[0].len());
        self.rows.push(row);
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let columns = self.rows[0].len();
        let width =
            |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for (number, row) in self.rows.iter().enumerate() {
            write!(out, "|")?;
            for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                if column == 0 {
                    write!(out, " {cell:<width$} |")?;
                } else {
                    write!(out, " {cell:>width$} |")?;
                }
            }
            writeln!(out)?;
            if number == 0 {
                write!(out, "|")?;
                for (column, &width) in widths.iter().enumerate() {
                    let (line, turn) = if column == 0 { (width + 2, "") } else { (width + 1, ":") };
                    write!(out, "{}{turn}|", "-".repeat(line))?;
                }
                writeln!(out)?;
            }
        }
        Ok(())
    }
}

/// With commas between thousands, and no digits behind the point.
pub(crate) fn whole(figure: f64) -> String {
    if !figure.is_finite() {
        return "–".to_owned();
    }
    let digits = format!("{:.0}", figure.abs());
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if figure <= -0.5 { format!("-{text}") } else { text }
}

/// With two digits behind the point.
pub(crate) fn ratio(figure: f64) -> String {
    if figure.is_finite() { format!("{figure:.2}") } else { "–".to_owned() }
}

/// A share, as percent with one digit behind the point.
pub(crate) fn percent(share: f64) -> String {
    if share.is_finite() { format!("{:.1} %", share * 100.0) } else { "–".to_owned() }
}

pub(crate) fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / f64::from(1 << 20))
}

pub(crate) fn microseconds(time: Duration) -> String {
    format!("{} µs", whole(time.as_secs_f64() * 1e6))
}
