//! The large values of a shard's items: which item has which, and what they are charged.

use crate::store::header::{Header, bits};
use crate::store::large::{Departing, Large};
use crate::store::segment::SegmentId;
use crate::store::shard::{LiveItem, Shard};

impl Shard {
    /// Takes large value `number` off the table, and off what the budget says the shard holds.
    pub(super) fn unlink_large(&mut self, number: u32) -> Departing {
        let value = self.large_values.remove(number);
        self.disown_large(value)
    }

    pub(super) fn disown_large(&self, value: Large) -> Departing {
        let charged = value.charged_bytes();
        let departing = self.common.pool.disown(value);
        self.common.budget.let_go(self.number, charged);
        departing
    }

    /// Counts the large values of segment `id` as `new` bytes instead of `old`.
    pub(super) fn change_large_bytes(&mut self, id: SegmentId, old: u64, new: u64) {
        if old == new {
            return;
        }
        let segment = self.arena.segment_mut(id);
        segment.large_bytes = segment.large_bytes + new - old;
        let queue = &mut self.queues[segment.queue.number()];
        queue.bytes = queue.bytes + new - old;
    }

    /// The number of `found`'s value in the table, if it is large.
    #[inline(always)]
    pub(super) fn large_number(&self, found: LiveItem) -> Option<u32> {
        found.header.has(bits::LARGE).then(|| self.read_large_number(found.at, found.header))
    }

    #[cold]
    fn read_large_number(&self, at: usize, header: Header) -> u32 {
        number_in(&self.arena.record(at)[header.value_start()..][..header.value_len()])
    }

    /// How many bytes the value of the item at `at` is charged beside its record: 0 unless it is large.
    #[inline(always)]
    pub(super) fn large_bytes(&self, at: usize, header: Header) -> u64 {
        if header.has(bits::LARGE) { self.charged_large_bytes(at, header) } else { 0 }
    }

    #[cold]
    fn charged_large_bytes(&self, at: usize, header: Header) -> u64 {
        self.large_values.large(self.read_large_number(at, header)).charged_bytes()
    }

    /// The length of `found`'s value, in bytes.
    pub(super) fn value_len(&self, found: LiveItem) -> usize {
        match self.large_number(found) {
            Some(number) => self.large_values.value(number).len(),
            None => found.header.value_len(),
        }
    }
}

/// The number of a large value, read from the part of a record that otherwise holds the value.
#[inline]
pub(super) fn number_in(inline: &[u8]) -> u32 {
    u32::from_le_bytes(inline.try_into().expect("a record with a large value holds its number"))
}
