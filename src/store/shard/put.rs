//! How an item becomes what a draft says: its record is rewritten where it lies if the new one fits there, and
//! otherwise a new record is appended.

use std::sync::atomic::Ordering;

use crate::clock::Tick;
use crate::store::header::{Layout, bits};
use crate::store::hint::Hashed;
use crate::store::item::{Access, Cas, Content, Draft, Marks, NoMemory};
use crate::store::memory::PAGE_BYTES;
use crate::store::segment::{Queue, SegmentId};
use crate::store::shard::{LiveItem, Shard, position};

/// The length of a large value's number, which its record holds in place of the value, in bytes.
const LARGE_NUMBER_BYTES: usize = size_of::<u32>();

/// A record to be written.
pub(super) struct Record<'c> {
    pub(super) hashed: Hashed<'c>,
    layout: Layout,
    /// The value, or the number of a large value, which the record holds instead.
    pub(super) content: Content<'c>,
    /// The length of the value or number, in bytes.
    pub(super) len: usize,
    /// The length of the whole record, in bytes.
    bytes: usize,
    /// How many bytes the large value that it names is charged; 0 if it names none.
    large_bytes: u64,
    /// Whether writing it counts as use.
    access: Access,
    /// The time of the last access that is written into it.
    accessed: Tick,
}

impl<'c> Record<'c> {
    /// The same record with the number of a large value, `content`, in place of the value.
    pub(super) fn naming(self, content: Content<'c>, large_bytes: u64) -> Record<'c> {
        let bytes = self.layout.record_bytes(self.hashed.key.len(), LARGE_NUMBER_BYTES);
        Record { content, len: LARGE_NUMBER_BYTES, bytes, large_bytes, ..self }
    }
}

impl Shard {
    /// Stores `draft` under the key of `hashed`, where `found` is now. Returns its CAS id.
    pub(super) fn put(
        &mut self,
        hashed: Hashed<'_>,
        found: Option<LiveItem>,
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
        let (write, cas) = self.write_number_and_cas(draft.cas, found);
        let mut layout = Layout {
            flags: draft.flags,
            deadline: draft.deadline,
            write,
            cas,
            marks: Marks(draft.marks.0 & Marks::ALL.0),
            is_large: was_large && (is_same || is_longer),
        };
        let bytes = layout.record_bytes(hashed.key.len(), len);
        if !is_same && bytes > self.record_bytes_max {
            layout.is_large = true;
        }
        let accessed = match (access, found) {
            (Access::Peek, Some(found)) => found.header.last_access(now),
            _ => now,
        };
        let content = draft.content;
        let mut record = Record { hashed, layout, content, len, bytes, large_bytes: 0, access, accessed };

        self.changing = found.map(|found| position(found.at));
        let put = if layout.is_large && !is_same {
            self.put_large(found, record, now)
        } else {
            if layout.is_large {
                let charged = found.map_or(0, |found| self.large_bytes(found.at, found.header));
                record = record.naming(content, charged);
            }
            self.put_record(found, record, now)
        };
        self.changing = None;
        put?;
        let is_new = !matches!(draft.content, Content::Same | Content::Changed(_));
        self.stats.total_items += u64::from(is_new);
        Ok(cas)
    }

    /// The number of this write and the CAS id of what it stores. To keep the CAS id of `found` is no new write.
    fn write_number_and_cas(&self, cas: Cas, found: Option<LiveItem>) -> (u64, u64) {
        match (cas, found) {
            (Cas::Same, Some(LiveItem { at, header, .. })) => {
                (header.write(), header.cas(self.arena.record(at)))
            }
            (cas, _) => {
                let write = self.common.last_write.fetch_add(1, Ordering::Relaxed) + 1;
                if let Cas::Exact(id @ 1..) = cas { (write, id) } else { (write, write) }
            }
        }
    }

    /// Writes `record`, where the item lies or elsewhere, and removes the large value that it no longer names.
    pub(super) fn put_record(
        &mut self,
        found: Option<LiveItem>,
        record: Record<'_>,
        now: Tick,
    ) -> Result<(), NoMemory> {
        let Some(old) = found else {
            return self.insert(&record, now);
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
            self.replace(old, &record, now)?;
        }
        if let Some(number) = old_large {
            let value = self.unlink_large(number);
            self.departing.push(value);
        }
        Ok(())
    }

    /// Writes `record` over the record of `old`, which can take up to `growable` bytes there.
    fn rewrite(&mut self, old: LiveItem, record: &Record<'_>, growable: usize) {
        let LiveItem { at, header, .. } = old;
        let old_large_bytes = self.large_bytes(at, header);
        self.change_large_bytes(self.arena.segment_of(at), old_large_bytes, record.large_bytes);
        self.write(at, Some(old), record);
        self.arena.resize(at, header.record_bytes(), record.bytes, growable);
        self.item_bytes = self.item_bytes + record.bytes as u64 + record.large_bytes
            - header.record_bytes() as u64
            - old_large_bytes;
        self.note_deadline(self.arena.segment_of(at), record.layout.deadline);
    }

    /// Appends `record` and marks the record of `old` as dead.
    fn replace(&mut self, old: LiveItem, record: &Record<'_>, now: Tick) -> Result<(), NoMemory> {
        let queue = self.arena.segment(self.arena.segment_of(old.at)).queue;
        let id = self.segment_with_space(queue, record.bytes, now)?;
        let old = self
            .find_changing(record.hashed.hash)
            .expect("reclaiming does not remove the item that is being changed");
        let old_footprint = self.footprint(old.at, old.header);
        let at = self.append(id, Some(old), record);
        self.index.set_position(old.slot, position(at));
        self.mark_dead(old.at, old.header);
        self.item_bytes -= old_footprint;
        if record.access == Access::Use {
            self.note_use(self.reread(LiveItem { at, ..old }), now);
        }
        Ok(())
    }

    /// Appends `record` as a new item.
    fn insert(&mut self, record: &Record<'_>, now: Tick) -> Result<(), NoMemory> {
        let hash = record.hashed.hash;
        if self.index.wants_page() && self.charge(PAGE_BYTES as u64, now).is_ok() {
            // Without the page the chains of the index get longer, and nothing else.
            self.index.add_page();
        }
        let dropped_from = self.ghost.take(hash);
        if let Some(queue) = dropped_from {
            let bytes = record.bytes as u64 + record.large_bytes;
            self.balance.came_back(queue, bytes, self.common.budget.share());
        }
        // Eviction dropped it from main because it was not used for long: it has to prove itself again.
        let queue = match dropped_from {
            Some(Queue::Probation) => Queue::Main,
            Some(Queue::Main) | None => Queue::Probation,
        };
        let id = loop {
            let id = self.segment_with_space(queue, record.bytes, now)?;
            if !self.index.needs_overflow_page(hash) {
                break id;
            }
            // To charge the page may reclaim the segment that was just obtained, so the loop looks again; and
            // reclaiming relies on every segment in use holding an item.
            if self.arena.segment(id).live_items == 0 {
                self.free_segment(id);
            }
            self.charge(PAGE_BYTES as u64, now)?;
            if !self.index.add_overflow_page() {
                self.common.budget.refund(PAGE_BYTES as u64);
                return Err(NoMemory);
            }
        };
        let at = self.append(id, None, record);
        self.index.insert(hash, position(at), 0);
        Ok(())
    }

    /// Writes `record` at the end of segment `id`, which has the space, with its value made from that of `old`.
    fn append(&mut self, id: SegmentId, old: Option<LiveItem>, record: &Record<'_>) -> usize {
        let at = self.arena.append(id, record.bytes);
        self.write(at, old, record);
        self.item_bytes += record.bytes as u64 + record.large_bytes;
        self.change_large_bytes(id, 0, record.large_bytes);
        self.note_deadline(id, record.layout.deadline);
        at
    }

    /// Writes `record` at `at`, which may be where `old` lies: the old value is moved before anything is overwritten.
    fn write(&mut self, at: usize, old: Option<LiveItem>, record: &Record<'_>) {
        let value = at + record.layout.value_start(record.hashed.key.len());
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
        record.layout.write(self.arena.record_mut(at), record.hashed.key, record.len, record.accessed);
    }
}
