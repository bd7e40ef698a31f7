//! The segments of one shard: stripes of its address space that records are appended to.
//!
//! A segment's records follow each other without gaps up to `used`. A dead record stays until no live item is left in
//! its segment; then the whole segment is free. Rule: the caller charges segments to the budget.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::clock::Tick;
use crate::store::header::{self, Header, UNIT_BYTES};
use crate::store::memory::Stripes;

/// One of the two queues that segments stand in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queue {
    /// The queue that new items go to.
    Probation,
    /// The queue that items move to when they were used in probation.
    Main,
}

impl Queue {
    pub(super) const BOTH: [Queue; 2] = [Queue::Probation, Queue::Main];

    #[inline]
    pub(super) fn number(self) -> usize {
        self as usize
    }
}

/// The number of a segment within its shard.
pub(super) type SegmentId = u32;

/// The numbers of a segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    /// The length of its records, dead ones included, in bytes.
    pub(super) used: u32,
    /// Where eviction goes on, in bytes from its start; all records before that are dead.
    pub(super) evict_from: u32,
    pub(super) live_items: u32,
    /// The length of its live records, in bytes.
    pub(super) live_bytes: u32,
    /// How many bytes its items' large values are charged.
    pub(super) large_bytes: u64,
    /// When to scan it next for expired items: not before its first deadline.
    pub(super) scan_at: Tick,
    pub(super) queue: Queue,
    pub(super) is_in_use: bool,
}

/// The segments of a shard. Invariants: `free` has the resident segments without any record; `discarded` has those
/// whose pages went back to the system; every other segment is in use and stands in one of the shard's queues.
///
/// The fields that every look-up reads come first, see [`Shard`](crate::store::shard::Shard).
#[derive(Debug)]
#[repr(C)]
pub(super) struct Arena {
    stripes: Stripes,
    shift: u32,
    segments: Vec<Segment>,
    free: BTreeSet<SegmentId>,
    discarded: BTreeSet<SegmentId>,
}

/// The part of an arena that every look-up reads, in bytes from its start.
#[cfg(test)]
pub(super) const ARENA_HOT: Range<usize> = 0..std::mem::offset_of!(Arena, shift);

impl Arena {
    /// An arena without any segment in use; each stripe can become a segment.
    pub(super) fn new(stripes: Stripes) -> Arena {
        debug_assert!(stripes.len() / UNIT_BYTES <= 1 << 32, "positions have 32 bits");
        Arena {
            shift: stripes.stripe_bytes().trailing_zeros(),
            stripes,
            segments: Vec::new(),
            free: BTreeSet::new(),
            discarded: BTreeSet::new(),
        }
    }

    /// The bytes from the record at `at` to the end of its segment.
    #[inline]
    pub(super) fn record(&self, at: usize) -> &[u8] {
        self.stripes.tail(at)
    }

    /// The same bytes, to be written to.
    #[inline]
    pub(super) fn record_mut(&mut self, at: usize) -> &mut [u8] {
        self.stripes.tail_mut(at)
    }

    /// Prefetches the record at `at`: two lines, for most records begin in one and end in the next.
    #[inline]
    pub(super) fn prefetch(&self, at: usize) {
        self.stripes.addresses().prefetch_two_lines(at);
    }

    /// Copies `len` bytes from `from` to `to`, each within a segment; they may overlap. Where `len` is 0, both may be
    /// the end of a segment.
    #[inline]
    pub(super) fn copy(&mut self, from: usize, len: usize, to: usize) {
        if len > 0 {
            self.stripes.copy(from, len, to);
        }
    }

    /// Writes `bytes` at `at`, within a segment. Where there are none, `at` may be the end of a segment.
    #[inline]
    pub(super) fn write(&mut self, at: usize, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.stripes.tail_mut(at)[..bytes.len()].copy_from_slice(bytes);
        }
    }

    /// How many bytes at the head of the arena are resident, in use or free.
    pub(super) fn resident_head(&self) -> usize {
        let discarded = self.discarded.first().map_or(usize::MAX, |&id| id as usize);
        self.segments.len().min(discarded) << self.shift
    }

    pub(super) fn segment_bytes(&self) -> usize {
        1 << self.shift
    }

    #[inline]
    pub(super) fn segment_of(&self, at: usize) -> SegmentId {
        (at >> self.shift) as SegmentId
    }

    /// Where segment `id` starts.
    #[inline]
    pub(super) fn start(&self, id: SegmentId) -> usize {
        (id as usize) << self.shift
    }

    #[inline]
    pub(super) fn segment(&self, id: SegmentId) -> &Segment {
        &self.segments[id as usize]
    }

    #[inline]
    pub(super) fn segment_mut(&mut self, id: SegmentId) -> &mut Segment {
        &mut self.segments[id as usize]
    }

    /// How many segments there have been so far, those in use, free and discarded.
    pub(super) fn segments(&self) -> usize {
        self.segments.len()
    }

    /// How many segments are free and resident.
    pub(super) fn free_segments(&self) -> usize {
        self.free.len()
    }

    /// Begins a free, resident segment. If a segment below it is discarded, that one becomes resident instead. So gaps
    /// move to the end, where they do not prevent huge pages for the segments behind them.
    pub(super) fn take_free(&mut self, queue: Queue, scan_at: Tick) -> Option<SegmentId> {
        let mut id = self.free.pop_first()?;
        if let Some(&gap) = self.discarded.first()
            && gap < id
        {
            self.discarded.pop_first();
            self.discard(id);
            id = gap;
        }
        self.open(id, queue, scan_at);
        Some(id)
    }

    /// Begins a segment that is not resident; `None` when the address space is used up.
    pub(super) fn take_fresh(&mut self, queue: Queue, scan_at: Tick) -> Option<SegmentId> {
        let id = match self.discarded.pop_first() {
            Some(id) => id,
            None if (self.segments.len() + 1) << self.shift <= self.stripes.len() => {
                self.segments.push(Segment::empty(queue, scan_at));
                (self.segments.len() - 1) as SegmentId
            }
            None => return None,
        };
        self.open(id, queue, scan_at);
        Some(id)
    }

    fn open(&mut self, id: SegmentId, queue: Queue, scan_at: Tick) {
        *self.segment_mut(id) = Segment { is_in_use: true, ..Segment::empty(queue, scan_at) };
    }

    /// Frees segment `id`, which holds no live item.
    pub(super) fn free(&mut self, id: SegmentId) {
        let segment = self.segment_mut(id);
        debug_assert!(segment.is_in_use && segment.live_items == 0 && segment.live_bytes == 0);
        debug_assert_eq!(segment.large_bytes, 0, "large values die with their items");
        *segment = Segment::empty(segment.queue, segment.scan_at);
        self.free.insert(id);
    }

    /// Frees all segments, whatever they hold.
    pub(super) fn free_all(&mut self) {
        for (id, segment) in self.segments.iter_mut().enumerate().filter(|(_, segment)| segment.is_in_use) {
            *segment = Segment::empty(segment.queue, segment.scan_at);
            self.free.insert(id as SegmentId);
        }
    }

    /// Discards the pages of the last free segment; `false` when there is none.
    pub(super) fn discard_one(&mut self) -> bool {
        let Some(id) = self.free.pop_last() else { return false };
        self.discard(id);
        true
    }

    fn discard(&mut self, id: SegmentId) {
        self.stripes.discard(self.start(id));
        self.discarded.insert(id);
    }

    /// Discards the pages of discarded segments in `range`, in bytes, once more.
    pub(super) fn discard_again(&mut self, range: Range<usize>) {
        let first = self.segment_of(range.start);
        let end = (range.end >> self.shift).min(self.segments.len()) as SegmentId;
        for &id in self.discarded.range(first..end.max(first)) {
            self.stripes.discard((id as usize) << self.shift);
        }
    }

    /// The free space of segment `id`, in bytes.
    #[inline]
    pub(super) fn free_bytes(&self, id: SegmentId) -> usize {
        self.segment_bytes() - self.segment(id).used as usize
    }

    /// Makes a record of `len` bytes, which fit, at the end of segment `id`, for one more live item. Returns where it
    /// starts.
    #[inline]
    pub(super) fn append(&mut self, id: SegmentId, len: usize) -> usize {
        debug_assert!(len <= self.free_bytes(id), "the caller has found the space");
        let start = self.start(id);
        let segment = self.segment_mut(id);
        let at = start + segment.used as usize;
        segment.used += len as u32;
        segment.live_bytes += len as u32;
        segment.live_items += 1;
        at
    }

    /// Marks the record of `len` bytes at `at` as dead. Returns whether its segment has no live item any more.
    pub(super) fn mark_dead(&mut self, at: usize, len: usize) -> bool {
        header::set_dead(self.record_mut(at));
        let id = self.segment_of(at);
        let segment = self.segment_mut(id);
        segment.live_bytes -= len as u32;
        segment.live_items -= 1;
        segment.live_items == 0
    }

    /// The next live record at or after `at` and before `end`.
    pub(super) fn next_live(&self, mut at: usize, end: usize) -> Option<(usize, Header)> {
        while at < end {
            let record = self.record(at);
            let filler = header::filler_bytes(record);
            if filler > 0 {
                at += filler;
                continue;
            }
            let header = Header::read(record);
            if !header.is_dead() {
                return Some((at, header));
            }
            at += header.record_bytes();
        }
        debug_assert_eq!(at, end, "records end where the segment does");
        None
    }

    /// Where eviction and scans of segment `id` begin: all records before are dead.
    #[inline]
    pub(super) fn evict_from(&self, id: SegmentId) -> usize {
        self.start(id) + self.segment(id).evict_from as usize
    }

    /// Where the records of segment `id` end.
    #[inline]
    pub(super) fn end(&self, id: SegmentId) -> usize {
        self.start(id) + self.segment(id).used as usize
    }

    /// How many bytes the record at `at` of length `len` could take where it lies: its own, and those that directly
    /// follow if they are a filler or the free space of its segment.
    pub(super) fn growable(&self, at: usize, len: usize) -> usize {
        let id = self.segment_of(at);
        if at + len < self.end(id) {
            len + header::filler_bytes(self.record(at + len))
        } else {
            self.start(id) + self.segment_bytes() - at
        }
    }

    /// Notes that the live record at `at` has `new` bytes now instead of `old`. `growable` is what [`Arena::growable`]
    /// returned before it was rewritten.
    pub(super) fn resize(&mut self, at: usize, old: usize, new: usize, growable: usize) {
        debug_assert!(new <= growable, "the record fits where it lies");
        let id = self.segment_of(at);
        let (start, end) = (self.start(id), self.end(id));
        let until = end.min(at + growable);
        let segment = self.segment_mut(id);
        segment.live_bytes = segment.live_bytes - old as u32 + new as u32;
        if at + new > until {
            segment.used = (at + new - start) as u32;
        } else if at + new < until {
            header::fill(self.record_mut(at + new), until - at - new);
        }
    }

    /// Checks the invariants and shows every live record to `check`, with its segment and where it starts.
    pub(super) fn validate(&self, mut check: impl FnMut(SegmentId, usize, Header)) {
        let used = self.segments.iter().filter(|segment| segment.is_in_use).count();
        assert_eq!(
            used + self.free.len() + self.discarded.len(),
            self.segments.len(),
            "every segment is in use, free or discarded"
        );
        for (id, segment) in self.segments.iter().enumerate() {
            let id = id as SegmentId;
            let (mut at, end) = (self.start(id), self.end(id));
            let (mut items, mut bytes) = (0, 0);
            while let Some((found, header)) = self.next_live(at, end) {
                assert!(found >= self.evict_from(id), "records before it are dead");
                check(id, found, header);
                items += 1;
                bytes += header.record_bytes();
                at = found + header.record_bytes();
            }
            assert_eq!(items, segment.live_items, "live items are counted");
            assert_eq!(bytes, segment.live_bytes as usize, "live bytes are summed");
            assert!(segment.used as usize <= self.segment_bytes(), "a segment is not overfull");
            assert!(segment.is_in_use || segment.used == 0, "a free segment is empty");
            assert!(!segment.is_in_use || items > 0, "a segment in use holds something");
        }
    }
}

impl Segment {
    fn empty(queue: Queue, scan_at: Tick) -> Segment {
        Segment {
            used: 0,
            evict_from: 0,
            live_items: 0,
            live_bytes: 0,
            large_bytes: 0,
            scan_at,
            queue,
            is_in_use: false,
        }
    }
}

#[cfg(test)]
mod tests;
