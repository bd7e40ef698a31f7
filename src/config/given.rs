//! Parses the values of options: numbers and sizes, each within its bounds.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::fault::Fault;
use super::row::Row;

/// What the kernel, and memcached, take for a count.
pub(super) const COUNT_MAX: i64 = i32::MAX as i64;

/// A value as it was given, and the option it was given to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given<'a> {
    pub(super) row: &'a Row,
    /// Empty for an option that takes no value.
    pub(super) text: &'a OsStr,
    /// How often the same source gave the same option before.
    pub(super) nth: usize,
}

impl Given<'_> {
    /// The text, with bytes that are not UTF-8 replaced: the result is no valid number or name, and can be shown.
    pub(super) fn shown(&self) -> Cow<'_, str> {
        self.text.to_string_lossy()
    }

    /// The text of a number or a size, without white space around it: memcached skips that, and charts that write
    /// `"-m 8192"` as one argument depend on it.
    pub(super) fn number(&self) -> String {
        self.shown().trim().to_owned()
    }

    pub(super) fn bad(&self, complaint: impl Into<String>) -> Fault {
        Fault::BadValue {
            complaint: complaint.into(),
            flag: self.row.flag(),
            text: self.shown().into_owned(),
        }
    }

    pub(super) fn impossible(&self, complaint: impl Into<String>) -> Fault {
        Fault::ImpossibleValue {
            complaint: complaint.into(),
            flag: self.row.flag(),
            text: self.shown().into_owned(),
        }
    }

    pub(super) fn refused(&self, remark: impl Into<String>) -> Fault {
        Fault::Refused { flag: format!("{} {}", self.row.flag(), self.shown()), remark: remark.into() }
    }

    pub(super) fn path(&self) -> Result<PathBuf, Fault> {
        if self.text.is_empty() { Err(self.bad("A path is needed")) } else { Ok(PathBuf::from(self.text)) }
    }

    pub(super) fn word(&self) -> Result<String, Fault> {
        match self.text.to_str().map(str::trim) {
            Some(word) if !word.is_empty() => Ok(word.to_owned()),
            _ => Err(self.bad("A name is needed")),
        }
    }

    /// A whole number in `range`.
    pub(super) fn whole<N: TryFrom<i64>>(&self, range: RangeInclusive<i64>) -> Result<N, Fault> {
        let complaint = format!("A whole number from {} to {} is needed", range.start(), range.end());
        self.whole_or(range, complaint)
    }

    /// A whole number in `range`; anything else is met with `complaint`.
    pub(super) fn whole_or<N: TryFrom<i64>>(
        &self,
        range: RangeInclusive<i64>,
        complaint: impl Into<String>,
    ) -> Result<N, Fault> {
        let number = self.number().parse::<i64>().ok().filter(|number| range.contains(number));
        number.and_then(|number| N::try_from(number).ok()).ok_or_else(|| self.bad(complaint))
    }

    /// A count from 1 on; anything below is met with `complaint`.
    pub(super) fn count(&self, complaint: &str) -> Result<u32, Fault> {
        match self.number().parse::<i64>() {
            Ok(COUNT_MAX..) => Err(self.bad(format!("Less than {COUNT_MAX} is possible"))),
            _ => self.whole_or(1..=COUNT_MAX, complaint),
        }
    }

    /// A number above `bound`; anything else is met with `complaint`.
    pub(super) fn above(&self, bound: f64, complaint: &str) -> Result<f64, Fault> {
        let number = self.number().parse::<f64>().ok();
        number.filter(|number| number.is_finite() && *number > bound).ok_or_else(|| self.bad(complaint))
    }

    /// A size in bytes: digits and k, m or g in either case, alone or as in kb, ki (Kubernetes) or kib, always times
    /// 1024; without a suffix the number counts pieces of `unit_bytes`.
    pub(super) fn size(&self, unit_bytes: u64) -> Result<u64, Fault> {
        let text = self.number();
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, suffix) = text.split_at(digits);
        let bytes_per_unit = match suffix.to_ascii_lowercase().as_str() {
            "" => Some(unit_bytes),
            "k" | "kb" | "ki" | "kib" => Some(1 << 10),
            "m" | "mb" | "mi" | "mib" => Some(1 << 20),
            "g" | "gb" | "gi" | "gib" => Some(1 << 30),
            _ => None,
        };
        let number = number.parse::<u64>().ok();
        number
            .zip(bytes_per_unit)
            .and_then(|(number, unit)| number.checked_mul(unit))
            .ok_or_else(|| self.bad("A size is needed, such as 64m or 2g"))
    }
}
