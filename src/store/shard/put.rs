//! How an item comes to be what a draft says: where it is, where that fits, or else appended anew.

use std::sync::atomic::Ordering;

use crate::clock::{Deadline, Tick};
use crate::store::header::{Layout, bits};
use crate::store::item::{Access, Cas, Content, Draft, Marks, NoMemory};
use crate::store::large::{self, Spare};
use crate::store::memory::{End, PAGE_BYTES};
use crate::store::segment::{Queue, SegmentId};
use crate::store::shard::{Found, Shard, position};

/// How long the number of a large value is, in the value's place.
const LARGE_NUMBER_BYTES: usize = size_of::<u32>();

/// While readers alone hold more than one part in so many of the memory limit, large values are refused: each would have
/// more of what other clients stored evicted, and might be held by a reader next. Twice what
/// [`PINNED_PARTS`](crate::store::shards::PINNED_PARTS) leaves them, so that there is time to close the slow ones.
const PINNED_PARTS_MAX: u64 = 2;

/// A record to be written.
struct Record<'c> {
    key: &'c [u8],
    layout: Layout,
    /// What comes into the value's place: a value, or a large value's number.
    content: Content<'c>,
    /// How long that is, in bytes.
    len: usize,
    /// The length of the whole record, in bytes.
    bytes: usize,
    /// What the large value it names is charged, in bytes.
    charge: u64,
    /// Whether writing it counts as use.
    access: Access,
    /// The last access that is to be written down.
    accessed: Tick,
}

impl<'c> Record<'c> {
    /// The same record with the number of a large value, `content`, in the value's place.
    fn naming(self, content: Content<'c>, charge: u64) -> Record<'c> {
        let bytes = self.layout.record_bytes(self.key.len(), LARGE_NUMBER_BYTES);
        Record { content, len: LARGE_NUMBER_BYTES, bytes, charge, ..self }
    }
}

impl Shard {
    /// Stores `draft` under `key`, where `found` is now. Returns its CAS id.
    pub(super) fn put(
        &mut self,
        hash: u64,
        key: &[u8],
        found: Option<Found>,
        draft: &Draft<'_>,
        access: Access,
        now: Tick,
    ) -> Result<u64, NoMemory> {
        let was_large = found.is_some_and(|found| found.header.has(bits::LARGE));
        let old_len = found.map_or(0, |found| self.value_len(found));
        let (len, is_same) = match draft.content {
            Content::Same => (old_len, true),
            Content::Whole(value) | Content::Changed(value) => (value.len(), false),
            Content::Append(more) | Content::Prepend(more) => (old_len + more.len(), false),
        };
        let is_longer = matches!(draft.content, Content::Append(_) | Content::Prepend(_));
        let (write, cas) = match (draft.cas, found) {
            (Cas::Same, Some(Found { at, header, .. })) => {
                (header.write(), header.cas(self.arena.record(at)))
            }
            (cas, _) => {
                let write = self.common.last_write.fetch_add(1, Ordering::Relaxed) + 1;
                if let Cas::Exact(id @ 1..) = cas { (write, id) } else { (write, write) }
            }
        };
        let mut layout = Layout {
            flags: draft.flags,
            deadline: draft.deadline,
            write,
            cas,
            marks: Marks(draft.marks.0 & Marks::ALL.0),
            is_large: was_large && (is_same || is_longer),
        };
        let bytes = layout.record_bytes(key.len(), len);
        if !is_same && bytes > self.large_min {
            layout.is_large = true;
        }
        let accessed = match (access, found) {
            (Access::Peek, Some(found)) => found.header.last_access(now),
            _ => now,
        };
        let content = draft.content;
        let mut record = Record { key, layout, content, len, bytes, charge: 0, access, accessed };

        self.pinned = found.map(|found| position(found.at));
        let put = if layout.is_large && !is_same {
            self.put_large(hash, found, record, now)
        } else {
            if layout.is_large {
                record = record.naming(content, large::charge(old_len));
            }
            self.put_record(hash, found, record, now)
        };
        self.pinned = None;
        put?;
        let is_new = !matches!(draft.content, Content::Same | Content::Changed(_));
        self.stats.total_items += u64::from(is_new);
        Ok(cas)
    }

    /// The length of `found`'s value, in bytes.
    pub(super) fn value_len(&self, found: Found) -> usize {
        match self.large_number(found) {
            Some(number) => self.large.value(number).len(),
            None => found.header.value_len(),
        }
    }

    fn put_large(
        &mut self,
        hash: u64,
        found: Option<Found>,
        record: Record<'_>,
        now: Tick,
    ) -> Result<(), NoMemory> {
        let charge = large::charge(record.len);
        if self.common.pool.pinned_bytes() > self.common.budget.limit() / PINNED_PARTS_MAX {
            return Err(NoMemory);
        }
        let more = match record.content {
            Content::Append(more) => Some((more, End::Back)),
            Content::Prepend(more) => Some((more, End::Front)),
            Content::Same | Content::Whole(_) | Content::Changed(_) => None,
        };
        if let (Some((more, end)), Some(number)) = (more, found.and_then(|found| self.large_number(found)))
            && self.large.large(number).has_room(more.len(), end)
        {
            return self.grow_large(hash, number, (more, end), record, now);
        }
        let grows_at = more.map_or(End::Back, |(_, end)| end);
        let spare = self.common.pool.spare(record.len, grows_at);
        let spare_charge = spare.as_ref().map_or(0, Spare::charge);
        if spare_charge > charge {
            self.common.budget.give_back(spare_charge - charge);
        } else if let Err(refused) = self.make_room(charge - spare_charge, now) {
            spare.into_iter().for_each(|spare| self.common.pool.discard(spare));
            return Err(refused);
        }
        let found = found.and_then(|_| self.relocate(hash));
        let old_large = found.and_then(|found| self.large_number(found));
        let old: &[u8] = match (old_large, found) {
            (Some(number), _) => self.large.value(number),
            (None, Some(Found { at, header, .. })) => {
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
        let Some(value) = self.common.pool.value(parts, grows_at, spare) else {
            self.common.budget.give_back(charge);
            return Err(NoMemory);
        };
        let number = self.large.insert(value);
        self.common.budget.hold(self.number, charge);
        self.common.pool.own(charge);
        let number_bytes = number.to_le_bytes();
        let content = Content::Whole(&number_bytes);
        let record = record.naming(content, charge);
        let put = self.put_record(hash, found, record, now);
        if put.is_err() {
            let value = self.unlink_large(number);
            self.graveyard.push(value);
        }
        put
    }

    /// Lets large value `number` grow in its block, and writes `record`, which names it.
    fn grow_large(
        &mut self,
        hash: u64,
        number: u32,
        (more, end): (&[u8], End),
        record: Record<'_>,
        now: Tick,
    ) -> Result<(), NoMemory> {
        let key = record.key;
        let (before, after) = (large::charge(record.len - more.len()), large::charge(record.len));
        if after > before {
            self.make_room(after - before, now)?;
        }
        // The record first: that may be refused, and growing cannot be undone.
        let found = self.relocate(hash);
        if let Err(refused) = self.put_record(hash, found, record.naming(Content::Same, before), now) {
            self.common.budget.give_back(after - before);
            return Err(refused);
        }
        let Found { at, .. } = self.search(hash, key).expect("it was just written");
        self.common.pool.grow(self.large.large_mut(number), more, end);
        self.common.budget.hold(self.number, after - before);
        self.change_large(self.arena.segment_of(at), before, after);
        self.item_bytes += after - before;
        Ok(())
    }

    /// Writes `record`, where the item is or elsewhere. A large value that it no longer names goes.
    fn put_record(
        &mut self,
        hash: u64,
        found: Option<Found>,
        record: Record<'_>,
        now: Tick,
    ) -> Result<(), NoMemory> {
        let Some(old) = found else {
            return self.insert(hash, &record, now);
        };
        let old_large = match record.content {
            Content::Same => None,
            _ => self.large_number(old),
        };
        let growable = self.arena.growable(old.at, old.header.record_bytes());
        if record.bytes <= growable {
            self.rewrite(old, &record, growable);
            if record.access == Access::Use {
                self.note_use(self.reread(old), now);
            }
        } else {
            self.replace(hash, old, &record, now)?;
        }
        if let Some(number) = old_large {
            let value = self.unlink_large(number);
            self.graveyard.push(value);
        }
        Ok(())
    }

    /// Writes `record` over the record of `old`, in the `growable` bytes there are.
    fn rewrite(&mut self, old: Found, record: &Record<'_>, growable: usize) {
        let Found { at, header, .. } = old;
        let old_charge = self.large_charge(at, header);
        self.change_large(self.arena.segment_of(at), old_charge, record.charge);
        self.write(at, Some(old), record);
        self.arena.resize(at, header.record_bytes(), record.bytes, growable);
        self.item_bytes =
            self.item_bytes + record.bytes as u64 + record.charge - header.record_bytes() as u64 - old_charge;
        self.note_deadline(self.arena.segment_of(at), record.layout.deadline);
    }

    /// Appends `record` and lets the record of `old` die.
    fn replace(&mut self, hash: u64, old: Found, record: &Record<'_>, now: Tick) -> Result<(), NoMemory> {
        let queue = self.arena.segment(self.arena.segment_of(old.at)).queue;
        let id = self.room(queue, record.bytes, now)?;
        let old = self.relocate(hash).expect("a pinned item stays");
        let old_footprint = self.footprint(old.at, old.header);
        let at = self.append(id, Some(old), record);
        self.index.set_position(old.place, position(at));
        self.bury(old.at, old.header);
        self.item_bytes -= old_footprint;
        if record.access == Access::Use {
            self.note_use(self.reread(Found { at, ..old }), now);
        }
        Ok(())
    }

    /// Appends `record` as a new item.
    fn insert(&mut self, hash: u64, record: &Record<'_>, now: Tick) -> Result<(), NoMemory> {
        if self.index.wants_page() && self.make_room(PAGE_BYTES as u64, now).is_ok() {
            // Without the page chains get longer, no more.
            self.index.add_page();
        }
        let dropped_from = self.ghost.take(hash);
        if let Some(queue) = dropped_from {
            let bytes = record.bytes as u64 + record.charge;
            self.balance.came_back(queue, bytes, self.common.budget.share());
        }
        // What main dropped was not used for long: it has to prove itself again.
        let queue = match dropped_from {
            Some(Queue::Probation) => Queue::Main,
            Some(Queue::Main) | None => Queue::Probation,
        };
        let id = loop {
            let id = self.room(queue, record.bytes, now)?;
            if !self.index.needs_overflow_page(hash) {
                break id;
            }
            // Making room for the page may take the room just made, so look again; and what makes room relies on
            // every segment holding something.
            if self.arena.segment(id).live_items == 0 {
                self.release(id);
            }
            self.make_room(PAGE_BYTES as u64, now)?;
            if !self.index.add_overflow_page() {
                self.common.budget.give_back(PAGE_BYTES as u64);
                return Err(NoMemory);
            }
        };
        let at = self.append(id, None, record);
        self.index.insert(hash, position(at), 0);
        Ok(())
    }

    /// Writes `record` at the end of segment `id`, which has room for it, with its value made from `old`'s.
    fn append(&mut self, id: SegmentId, old: Option<Found>, record: &Record<'_>) -> usize {
        let at = self.arena.append(id, record.bytes);
        self.write(at, old, record);
        self.item_bytes += record.bytes as u64 + record.charge;
        self.change_large(id, 0, record.charge);
        self.note_deadline(id, record.layout.deadline);
        at
    }

    /// Writes `record` at `at`, which may be where `old` is: its value is moved before anything is overwritten.
    fn write(&mut self, at: usize, old: Option<Found>, record: &Record<'_>) {
        let value = at + record.layout.value_start(record.key.len());
        let (old, old_len) =
            old.map_or((at, 0), |old| (old.at + old.header.value_start(), old.header.value_len()));
        match record.content {
            Content::Same => self.arena.copy(old, old_len, value),
            Content::Whole(whole) | Content::Changed(whole) => self.arena.write(value, whole),
            Content::Append(more) => {
                self.arena.copy(old, old_len, value);
                self.arena.write(value + old_len, more);
            }
            Content::Prepend(more) => {
                self.arena.copy(old, old_len, value + more.len());
                self.arena.write(value, more);
            }
        }
        record.layout.write(self.arena.record_mut(at), record.key, record.len, record.accessed);
    }

    /// Notes that segment `id` has an item that dies at `deadline`.
    pub(super) fn note_deadline(&mut self, id: SegmentId, deadline: Deadline) {
        if deadline != Deadline::NEVER {
            let segment = self.arena.segment_mut(id);
            segment.visit = segment.visit.min(Tick(deadline.0));
        }
    }
}
