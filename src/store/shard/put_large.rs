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
        let value = match record.content {
            Content::Whole(value) | Content::Changed(value) => self.uploaded(value, now)?,
            _ => None,
        };
        let value = match value {
            Some(value) => value,
            None => self.new_value(found, &record, more.map_or(End::Back, |(_, end)| end), now)?,
        };
        let charged = value.charged_bytes();
        let found = found.and_then(|_| self.find_changing(record.hashed.hash));
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

    /// Charges the block of an upload in which `value` lies, and makes it the value's; `None` if it lies in none.
    fn uploaded(&mut self, value: &[u8], now: Tick) -> Result<Option<Large>, NoMemory> {
        let Some(offered) = self.common.pool.offered(value) else { return Ok(None) };
        self.charge(offered.charged_bytes(), now)?;
        Ok(Some(self.common.pool.adopt(offered)))
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

    /// The value of `record` in a block of its own, which is charged, made from the value of `found`.
    fn new_value(
        &mut self,
        found: Option<LiveItem>,
        record: &Record<'_>,
        grows_at: End,
        now: Tick,
    ) -> Result<Large, NoMemory> {
        let spare = self.charge_block(record.len, grows_at, now)?;
        // It may have been moved.
        let found = found.and_then(|_| self.find_changing(record.hashed.hash));
        let old: &[u8] = match (found.and_then(|found| self.large_number(found)), found) {
            (Some(number), _) => self.large_values.value(number),
            (None, Some(LiveItem { at, header, .. })) => {
                &self.arena.record(at)[header.value_start()..][..header.value_len()]
            }
            (None, None) => &[],
        };
        let parts = match record.content {
            Content::Same => [old, &[]],
            Content::Whole(value) | Content::Changed(value) => [value, &[]],
            Content::Append(more) => [old, more],
            Content::Prepend(more) => [more, old],
        };
        self.common.pool.value(parts, grows_at, spare).ok_or_else(|| {
            self.common.budget.refund(large::charged_bytes(record.len)); // the address space is used up
            NoMemory
        })
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
