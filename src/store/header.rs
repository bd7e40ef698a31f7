//! The bytes of an item: a record of whole units of four bytes.
//!
//! | bytes | field |
//! |---|---|
//! | 1 | key length; 0 makes it a filler, whose length in units is in the next three |
//! | 1 | bits, see [`bits`] |
//! | 6 | the low 48 bits of the number of the write that stored the item; most items have it as their CAS id |
//! | 2 | length of the value, or of a large value's number, and one bit of the marks |
//! | 2 | the low 16 bits of the second of the last access |
//! | 0 or 4 | deadline |
//! | 0 or 4 | client flags |
//! | 0 or 8 | the CAS id, where it differs from the number of the write |
//! | | key, value, up to three bytes of padding |
//!
//! Each item costs all of these bytes, so a field that most items do not need is optional. Numbers are little endian.
//! An item with a large value has its number in the shard's table instead of the value (see `large`).

use crate::clock::{Deadline, TICKS_PER_SECOND, Tick};
use crate::store::item::Marks;

/// Records start and end on multiples of this, in bytes.
pub(super) const UNIT_BYTES: usize = 4;
/// The length of the fields that every record has, in bytes.
const FIXED_BYTES: usize = 12;
/// The largest number of a write; the next write has number 0.
const WRITE_MAX: u64 = (1 << 48) - 1;
/// The longest value that a record can hold, in bytes.
pub(super) const INLINE_BYTES_MAX: usize = (1 << 15) - 1;
/// The fourth mark, `Marks::BINARY_KEY`, is shifted left by so many bits, to the bit above the length of the value.
const BINARY_KEY_SHIFT: u32 = 12;

/// The bits of a header.
pub(super) mod bits {
    /// The record has a deadline.
    pub(crate) const DEADLINE: u8 = 1;
    /// The record has client flags.
    pub(crate) const FLAGS: u8 = 2;
    /// The record has a CAS id of its own.
    pub(crate) const OWN_CAS: u8 = 4;
    /// The value is large, and the record holds its number.
    pub(crate) const LARGE: u8 = 8;
    /// The lowest of the three bits for the first three marks.
    pub(crate) const MARKS_SHIFT: u8 = 4;
    /// The record is dead: it has no item any more.
    pub(crate) const DEAD: u8 = 128;
}

/// The fixed part of a record's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    low: u64,
    high: u32,
}

/// The fields of a record to be written, apart from key and value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) flags: u32,
    pub(super) deadline: Deadline,
    /// The number of the write, of which the record keeps the low 48 bits.
    pub(super) write: u64,
    pub(super) cas: u64,
    pub(super) marks: Marks,
    pub(super) is_large: bool,
}

impl Header {
    /// The header of `record`.
    #[inline]
    pub(super) fn read(record: &[u8]) -> Header {
        let fixed: &[u8; FIXED_BYTES] =
            record[..FIXED_BYTES].try_into().expect("the slice is as long as the header");
        let (low, high) = fixed.split_at(8);
        Header {
            low: u64::from_le_bytes(low.try_into().expect("eight bytes")),
            high: u32::from_le_bytes(high.try_into().expect("four bytes")),
        }
    }

    #[inline]
    pub(super) fn key_len(self) -> usize {
        (self.low & 0xff) as usize
    }

    #[inline]
    pub(super) fn has(self, bits: u8) -> bool {
        (self.low >> 8) as u8 & bits != 0
    }

    #[inline]
    pub(super) fn marks(self) -> Marks {
        Marks((self.low >> 8) as u8 >> bits::MARKS_SHIFT & 7 | (self.high >> BINARY_KEY_SHIFT) as u8 & 8)
    }

    /// The length of the value, or of the large value's number that the record holds instead, in bytes.
    #[inline]
    pub(super) fn value_len(self) -> usize {
        (self.high & 0x7fff) as usize
    }

    /// Where the key starts, in bytes from the start of the record.
    #[inline]
    pub(super) fn key_start(self) -> usize {
        // Indexed by the bits of the three optional fields.
        const STARTS: [u8; 8] = [12, 16, 16, 20, 20, 24, 24, 28];
        usize::from(STARTS[(self.low >> 8) as usize & 7])
    }

    /// Where the value starts, in bytes from the start of the record.
    #[inline]
    pub(super) fn value_start(self) -> usize {
        self.key_start() + self.key_len()
    }

    /// The record's length, padding included, in bytes.
    #[inline]
    pub(super) fn record_bytes(self) -> usize {
        (self.value_start() + self.value_len()).next_multiple_of(UNIT_BYTES)
    }

    /// The deadline of `record`'s item.
    #[inline]
    pub(super) fn deadline(self, record: &[u8]) -> Deadline {
        if self.has(bits::DEADLINE) { Deadline(word(record, FIXED_BYTES)) } else { Deadline::NEVER }
    }

    /// The client flags of `record`'s item.
    #[inline]
    pub(super) fn flags(self, record: &[u8]) -> u32 {
        if !self.has(bits::FLAGS) {
            return 0;
        }
        word(record, FIXED_BYTES + if self.has(bits::DEADLINE) { 4 } else { 0 })
    }

    /// The CAS id of `record`'s item.
    #[inline]
    pub(super) fn cas(self, record: &[u8]) -> u64 {
        if self.has(bits::OWN_CAS) {
            let field = self.key_start() - 8;
            return u64::from(word(record, field)) | u64::from(word(record, field + 4)) << 32;
        }
        self.write()
    }

    /// The low 48 bits of the number of the write that stored the item.
    #[inline]
    pub(super) fn write(self) -> u64 {
        self.low >> 16
    }

    /// The time of the item's last access: exact to the second up to 9 hours back, and else 9 to 18 hours back.
    #[inline]
    pub(super) fn last_access(self, now: Tick) -> Tick {
        Tick((now.0 / TICKS_PER_SECOND - u32::from(self.idle_seconds(now))) * TICKS_PER_SECOND).min(now)
    }

    /// The time since the last access, in seconds.
    #[inline]
    pub(super) fn idle_seconds(self, now: Tick) -> u16 {
        let idle = access_second(now).wrapping_sub((self.high >> 16) as u16);
        // Callers' clocks may differ a little: then an access a moment in the future looks 18 hours old.
        let idle = if idle > u16::MAX - CLOCK_SKEW_SECONDS { 0 } else { idle };
        idle.min(u16::try_from(now.0 / TICKS_PER_SECOND).unwrap_or(u16::MAX))
    }

    /// Whether an access at `now` changes the record.
    #[inline]
    pub(super) fn access_differs(self, now: Tick) -> bool {
        (self.high >> 16) as u16 != access_second(now)
    }

    /// Whether the record is dead.
    #[inline]
    pub(super) fn is_dead(self) -> bool {
        self.has(bits::DEAD)
    }
}

/// Whether write `last_write` or an earlier one stored the item of `header`. The answer is wrong for an item more than
/// 2^47 writes old: so many take half a year at ten million a second.
pub(super) fn is_written_by(header: Header, last_write: u64) -> bool {
    last_write.wrapping_sub(header.write()) & WRITE_MAX <= WRITE_MAX / 2
}

/// Two callers' clocks may differ by so many seconds before a new access looks old.
const CLOCK_SKEW_SECONDS: u16 = 120;

/// Scans cut longer idle times to this many seconds, about 9 hours, so that they do not wrap at 18 hours.
const IDLE_SECONDS_MAX: u16 = 1 << 15;

/// A segment is scanned at least this often, in seconds, so that idle times in it do not wrap: well below the 9 hours
/// between [`IDLE_SECONDS_MAX`] and the wrap.
pub(super) const IDLE_SCAN_SECONDS: u32 = 4 * 3600;

fn access_second(now: Tick) -> u16 {
    (now.0 / TICKS_PER_SECOND) as u16 // a record keeps the low bits
}

/// Writes the time of an access into `record`.
#[inline]
pub(super) fn set_access(record: &mut [u8], now: Tick) {
    record[10..12].copy_from_slice(&access_second(now).to_le_bytes());
}

/// Cuts the idle time of `record`'s item to about 9 hours.
pub(super) fn clamp_idle(record: &mut [u8], header: Header, now: Tick) {
    if header.idle_seconds(now) > IDLE_SECONDS_MAX {
        let second = access_second(now).wrapping_sub(IDLE_SECONDS_MAX);
        record[10..12].copy_from_slice(&second.to_le_bytes());
    }
}

/// Adds `marks`, which are among the first three, to `record`'s item.
#[inline]
pub(super) fn add_marks(record: &mut [u8], marks: Marks) {
    debug_assert!(marks.0 < 8, "the fourth mark is another bit");
    record[1] |= marks.0 << bits::MARKS_SHIFT;
}

/// Marks `record` as dead.
#[inline]
pub(super) fn set_dead(record: &mut [u8]) {
    record[1] |= bits::DEAD;
}

/// Makes the first `len` bytes of `record`, whole units, a filler: a record without an item.
pub(super) fn fill(record: &mut [u8], len: usize) {
    debug_assert!(len > 0 && len.is_multiple_of(UNIT_BYTES), "fillers are whole units");
    let units = u32::try_from(len / UNIT_BYTES).expect("a segment has fewer than 2^24 units");
    record[..4].copy_from_slice(&(units << 8).to_le_bytes());
}

/// The length of the filler that `record` begins with, in bytes; 0 if it begins with an item's record.
#[inline]
pub(super) fn filler_bytes(record: &[u8]) -> usize {
    let word = word(record, 0);
    if word & 0xff == 0 { (word >> 8) as usize * UNIT_BYTES } else { 0 }
}

impl Layout {
    #[inline]
    fn bits(&self) -> u8 {
        let mut all = (self.marks.0 & 7) << bits::MARKS_SHIFT;
        if self.deadline != Deadline::NEVER {
            all |= bits::DEADLINE;
        }
        if self.flags != 0 {
            all |= bits::FLAGS;
        }
        if self.cas != self.write & WRITE_MAX {
            all |= bits::OWN_CAS;
        }
        if self.is_large {
            all |= bits::LARGE;
        }
        all
    }

    /// Where the value starts, in bytes from the start of the record.
    #[inline]
    pub(super) fn value_start(&self, key_len: usize) -> usize {
        self.header(key_len, 0, Tick(0)).value_start()
    }

    /// The length of a record, padding included, in bytes.
    #[inline]
    pub(super) fn record_bytes(&self, key_len: usize, value_len: usize) -> usize {
        (self.value_start(key_len) + value_len).next_multiple_of(UNIT_BYTES)
    }

    #[inline]
    fn header(&self, key_len: usize, value_len: usize, now: Tick) -> Header {
        debug_assert!(key_len <= 0xff && value_len <= INLINE_BYTES_MAX, "lengths fit their fields");
        Header {
            low: key_len as u64 | u64::from(self.bits()) << 8 | self.write << 16,
            high: value_len as u32
                | u32::from(self.marks.0 & 8) << BINARY_KEY_SHIFT
                | u32::from(access_second(now)) << 16,
        }
    }

    /// Writes all of a record except its value, which the caller has written or moved already.
    #[inline]
    pub(super) fn write(&self, record: &mut [u8], key: &[u8], value_len: usize, now: Tick) {
        debug_assert!(!key.is_empty(), "a record without a key is a filler");
        let header = self.header(key.len(), value_len, now);
        let record = &mut record[..header.value_start()];
        record[..8].copy_from_slice(&header.low.to_le_bytes());
        record[8..FIXED_BYTES].copy_from_slice(&header.high.to_le_bytes());
        let mut next = FIXED_BYTES;
        if header.has(bits::DEADLINE) {
            record[next..next + 4].copy_from_slice(&self.deadline.0.to_le_bytes());
            next += 4;
        }
        if header.has(bits::FLAGS) {
            record[next..next + 4].copy_from_slice(&self.flags.to_le_bytes());
            next += 4;
        }
        if header.has(bits::OWN_CAS) {
            record[next..next + 8].copy_from_slice(&self.cas.to_le_bytes());
            next += 8;
        }
        record[next..].copy_from_slice(key);
    }
}

#[inline]
fn word(record: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(record[at..at + 4].try_into().expect("four bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(flags: u32, deadline: Deadline, cas: u64, marks: u8) -> Layout {
        Layout { flags, deadline, write: 7, cas, marks: Marks(marks), is_large: false }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let now = Tick(12_345);
        for flags in [0, 1, u32::MAX] {
            for deadline in [Deadline::NEVER, Deadline::PAST, Deadline(77)] {
                for cas in [1, 7, WRITE_MAX, WRITE_MAX + 8, u64::MAX] {
                    for marks in 0..=Marks::ALL.0 {
                        let layout = layout(flags, deadline, cas, marks);
                        let mut bytes = [0xaa; 300];
                        layout.write(&mut bytes[8..], b"key", 5, now);
                        let header = Header::read(&bytes[8..]);
                        assert_eq!(header.flags(&bytes[8..]), flags);
                        assert_eq!(header.deadline(&bytes[8..]), deadline);
                        assert_eq!((header.write(), header.cas(&bytes[8..])), (7, cas));
                        assert_eq!(header.marks(), Marks(marks));
                        assert_eq!((header.key_len(), header.value_len()), (3, 5));
                        assert_eq!(&bytes[8 + header.key_start()..][..3], b"key");
                        assert_eq!(header.record_bytes(), layout.record_bytes(3, 5));
                        assert_eq!(header.value_start(), layout.value_start(3));
                        assert_eq!(filler_bytes(&bytes[8..]), 0);
                        assert!(!header.is_dead());
                    }
                }
            }
        }
    }

    #[test]
    fn a_plain_item_costs_twelve_bytes() {
        assert_eq!(layout(0, Deadline::NEVER, 7, 0).record_bytes(16, 32), 60);
        assert_eq!(layout(0, Deadline(9), 7, 0).record_bytes(16, 32), 64);
    }

    #[test]
    fn a_cas_id_given_costs_eight_bytes() {
        assert_eq!(layout(0, Deadline::NEVER, 8, 0).record_bytes(16, 32), 68);
    }

    #[test]
    fn writes_are_told_apart_across_the_end_of_their_numbers() {
        let check = |write: u64, last_write: u64, expected: bool| {
            let mut bytes = [0; 64];
            Layout { write, cas: 5, ..layout(0, Deadline::NEVER, 5, 0) }.write(&mut bytes, b"k", 0, Tick(55));
            assert_eq!(is_written_by(Header::read(&bytes), last_write), expected, "{write} {last_write}");
        };
        for base in [1, WRITE_MAX - 1, WRITE_MAX, WRITE_MAX + 1, 77 << 48] {
            check(base, base, true);
            check(base, base + 1, true);
            check(base, base + (1 << 46), true);
            check(base + 1, base, false);
            check(base + (1 << 46), base, false);
        }
    }

    #[test]
    fn idle_time_is_exact_then_cut_and_never_wraps() {
        let mut bytes = [0; 64];
        layout(0, Deadline::NEVER, 1, 0).write(&mut bytes, b"k", 0, Tick(55));
        let idle = |bytes: &[u8], tick| Header::read(bytes).idle_seconds(Tick(tick));
        assert_eq!(idle(&bytes, 55), 0);
        assert_eq!(idle(&bytes, 165), 11);
        assert_eq!(idle(&bytes, 30), 0, "a clock a little behind");
        let late = Tick(400_000);
        let header = Header::read(&bytes);
        clamp_idle(&mut bytes, header, late);
        assert_eq!(idle(&bytes, late.0), IDLE_SECONDS_MAX);
        assert_eq!(Header::read(&bytes).last_access(late), Tick(late.0 - 10 * u32::from(IDLE_SECONDS_MAX)));
        set_access(&mut bytes, late);
        assert_eq!(idle(&bytes, late.0), 0);
    }

    #[test]
    fn fillers_tell_their_length() {
        let mut bytes = [0xff; 64];
        fill(&mut bytes[4..], 4);
        fill(&mut bytes[8..], 56);
        assert_eq!((filler_bytes(&bytes[4..]), filler_bytes(&bytes[8..])), (4, 56));
    }
}
