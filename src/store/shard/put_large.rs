//! How an item gets a large value: in a block of the pool, whose number the item's record holds.

use crate::clock::Tick;
use crate::store::item::{Content, NoMemory};
use crate::store::large::{self, Large, Spare};
use crate::store::memory::End;
use crate::store::shard::put::Record;
use crate::store::shard::{LiveItem, Shard};

impl Shard {
    /// Stores the value of `record` in a block and writes a record with its number.
    pub(super) fn put_large(
        &mut self,
        found: Option<LiveItem>,
        record: Record<'_>,
        now: Tick,
    ) -> Result<(), NoMemory> {
        let charged = large::charged_bytes(record.len);
        if self.common.pool.refuses_values() {
            return Err(NoMemory);
        }
        let more = match record.content {
            Content::Append(more) => Some((more, End::Back)),
            Content::Prepend(more) => Some((more, End::Front)),
            Content::Same | Content::Whole(_) | Content::Changed(_) => None,
        };
        if let (Some((more, end)), Some(number)) = (more, found.and_then(|found| self.large_number(found)))
            && self.large_values.large(number).can_grow_by(more.len(), end)
        {
            return self.grow_large(number, (more, end), record, now);
        }
        let grows_at = more.map_or(End::Back, |(_, end)| end);
        let spare = self.charge_block(record.len, grows_at, now)?;
        let found = found.and_then(|_| self.find_changing(record.hashed.hash));
        let Some(value) = self.new_value(found, record.content, grows_at, spare) else {
            self.common.budget.refund(charged);
            return Err(NoMemory);
        };
        let number = self.large_values.insert(value);
        self.common.budget.hold(self.number, charged);
        self.common.pool.own(charged);
        let number_bytes = number.to_le_bytes();
        let record = record.naming(Content::Whole(&number_bytes), charged);
        let put = self.put_record(found, record, now);
        if put.is_err() {
            let value = self.unlink_large(number);
            self.departing.push(value);
        }
        put
    }

    /// Charges a block for a value of `len` bytes. Returns the spare block to use, if there is one: its pages are
    /// charged already.
    fn charge_block(&mut self, len: usize, grows_at: End, now: Tick) -> Result<Option<Spare>, NoMemory> {
        let charged = large::charged_bytes(len);
        let spare = self.common.pool.spare(len, grows_at);
        let spare_bytes = spare.as_ref().map_or(0, Spare::bytes);
        if spare_bytes > charged {
            self.common.budget.refund(spare_bytes - charged);
        } else if let Err(refused) = self.charge(charged - spare_bytes, now) {
            spare.into_iter().for_each(|spare| self.common.pool.discard(spare));
            return Err(refused);
        }
        Ok(spare)
    }

    /// A value of `content` in a block of its own, made from the value of `found`; `None` when the address space is
    /// used up.
    fn new_value(
        &self,
        found: Option<LiveItem>,
        content: Content<'_>,
        grows_at: End,
        spare: Option<Spare>,
    ) -> Option<Large> {
        let old: &[u8] = match (found.and_then(|found| self.large_number(found)), found) {
            (Some(number), _) => self.large_values.value(number),
            (None, Some(LiveItem { at, header, .. })) => {
                &self.arena.record(at)[header.value_start()..][..header.value_len()]
            }
            (None, None) => &[],
        };
        let parts = match content {
            Content::Same => [old, &[]],
            Content::Whole(value) | Content::Changed(value) => [value, &[]],
            Content::Append(more) => [old, more],
            Content::Prepend(more) => [more, old],
        };
        self.common.pool.value(parts, grows_at, spare)
    }

    /// Appends to large value `number`, or prepends, in the block where it lies, and writes `record`, which names it.
    fn grow_large(
        &mut self,
        number: u32,
        (more, end): (&[u8], End),
        record: Record<'_>,
        now: Tick,
    ) -> Result<(), NoMemory> {
        let hashed = record.hashed;
        let before = large::charged_bytes(record.len - more.len());
        let after = large::charged_bytes(record.len);
        if after > before {
            self.charge(after - before, now)?;
        }
        // The record is written first: that may fail, and growing cannot be undone.
        let found = self.find_changing(record.hashed.hash);
        if let Err(refused) = self.put_record(found, record.naming(Content::Same, before), now) {
            self.common.budget.refund(after - before);
            return Err(refused);
        }
        let LiveItem { at, .. } = self.search(hashed.hash, hashed.key).expect("it was just written");
        self.common.pool.grow(self.large_values.large_mut(number), more, end);
        self.common.budget.hold(self.number, after - before);
        self.change_large_bytes(self.arena.segment_of(at), before, after);
        self.item_bytes += after - before;
        Ok(())
    }
}
