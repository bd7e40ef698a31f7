//! One shard's items, in segments: stripes of its address space that are written from start to end.
//!
//! A segment's records follow each other without gaps up to `used`; what died among them stays until no live
//! item is left, then the whole segment is free. Rule: segments are charged to the budget by the caller.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::clock::Tick;
use crate::store::flushes::Flushes;
use crate::store::header::{self, Header, UNIT_BYTES};
use crate::store::memory::Stripes;

/// Which of the two queues a segment stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queue {
    /// Where items come in.
    Probation,
    /// Where they go once they have proved themselves.
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

/// What is known of a segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    /// How far it is written, in bytes.
    pub(super) used: u32,
    /// How far eviction has looked through it, in bytes; what lies before is dead.
    pub(super) looked: u32,
    pub(super) live_items: u32,
    /// Bytes of its live records.
    pub(super) live_bytes: u32,
    /// Bytes its large values are charged for.
    pub(super) large_bytes: u64,
    /// When the sweep should look through it next: not before its first deadline.
    pub(super) visit: Tick,
    pub(super) queue: Queue,
    pub(super) is_in_use: bool,
}

/// The segments of a shard. Invariants: `free` holds resident segments without any record; `returned` those
/// whose pages went back to the system; every other one is in use, by the shard's queues.
///
/// In order: what every look-up reads is at the start, see [`Shard`](crate::store::shard::Shard).
#[derive(Debug)]
#[repr(C)]
pub(super) struct Arena {
    stripes: Stripes,
    /// What was flushed by prefix and is not found yet. Here, because whoever looks at a record has this at hand.
    pub(super) flushes: Option<Box<Flushes>>,
    shift: u32,
    segments: Vec<Segment>,
    free: BTreeSet<SegmentId>,
    returned: BTreeSet<SegmentId>,
}

/// Where what every look-up reads of an arena is, in bytes from its start.
#[cfg(test)]
pub(super) const ARENA_HOT: Range<usize> = 0..std::mem::offset_of!(Arena, shift);

impl Arena {
    /// An arena in `stripes`, which are segments.
    pub(super) fn new(stripes: Stripes) -> Arena {
        debug_assert!(stripes.len() / UNIT_BYTES <= 1 << 32, "positions have 32 bits");
        Arena {
            shift: stripes.stripe_bytes().trailing_zeros(),
            stripes,
            segments: Vec::new(),
            free: BTreeSet::new(),
            returned: BTreeSet::new(),
            flushes: None,
        }
    }

    /// The record at `at` and what lies behind it in its segment.
    #[inline]
    pub(super) fn record(&self, at: usize) -> &[u8] {
        self.stripes.tail(at)
    }

    /// The record at `at` and what lies behind it in its segment, to be written to.
    #[inline]
    pub(super) fn record_mut(&mut self, at: usize) -> &mut [u8] {
        self.stripes.tail_mut(at)
    }

    /// Asks the processor for the record at `at`: most begin in one line and end in the next.
    #[inline]
    pub(super) fn prefetch(&self, at: usize) {
        self.stripes.addresses().prefetch_two_lines(at);
    }

    /// Copies `len` bytes at `from` to `to`, each within a segment; they may overlap. No bytes may lie at the end of one.
    #[inline]
    pub(super) fn copy(&mut self, from: usize, len: usize, to: usize) {
        if len > 0 {
            self.stripes.copy(from, len, to);
        }
    }

    /// Writes `bytes` at `at`, within a segment. No bytes may lie at the end of one.
    #[inline]
    pub(super) fn write(&mut self, at: usize, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.stripes.tail_mut(at)[..bytes.len()].copy_from_slice(bytes);
        }
    }

    /// The first so many bytes are resident, in use or free.
    pub(super) fn resident_head(&self) -> usize {
        let returned = self.returned.first().map_or(usize::MAX, |&id| id as usize);
        self.segments.len().min(returned) << self.shift
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

    /// How many segments there have been so far, whatever became of them.
    pub(super) fn segments(&self) -> usize {
        self.segments.len()
    }

    /// How many segments are free and resident.
    pub(super) fn free_segments(&self) -> usize {
        self.free.len()
    }

    /// Takes a free, resident segment. If one below it was returned, that becomes resident in its stead: so gaps move
    /// to the end, and do not keep what lies behind them from having huge pages.
    pub(super) fn take_free(&mut self, queue: Queue, visit: Tick) -> Option<SegmentId> {
        let mut id = self.free.pop_first()?;
        if let Some(&gap) = self.returned.first()
            && gap < id
        {
            self.returned.pop_first();
            self.discard(id);
            id = gap;
        }
        self.open(id, queue, visit);
        Some(id)
    }

    /// Takes a segment that is not resident; `None` when the address space is used up.
    pub(super) fn take_fresh(&mut self, queue: Queue, visit: Tick) -> Option<SegmentId> {
        let id = match self.returned.pop_first() {
            Some(id) => id,
            None if (self.segments.len() + 1) << self.shift <= self.stripes.len() => {
                self.segments.push(Segment::empty(queue, visit));
                (self.segments.len() - 1) as SegmentId
            }
            None => return None,
        };
        self.open(id, queue, visit);
        Some(id)
    }

    fn open(&mut self, id: SegmentId, queue: Queue, visit: Tick) {
        *self.segment_mut(id) = Segment { is_in_use: true, ..Segment::empty(queue, visit) };
    }

    /// Frees segment `id`, which holds no live item.
    pub(super) fn free(&mut self, id: SegmentId) {
        let segment = self.segment_mut(id);
        debug_assert!(segment.is_in_use && segment.live_items == 0 && segment.live_bytes == 0);
        debug_assert_eq!(segment.large_bytes, 0, "large values die with their items");
        *segment = Segment::empty(segment.queue, segment.visit);
        self.free.insert(id);
    }

    /// Frees all segments, whatever they hold.
    pub(super) fn free_all(&mut self) {
        for (id, segment) in self.segments.iter_mut().enumerate().filter(|(_, segment)| segment.is_in_use) {
            *segment = Segment::empty(segment.queue, segment.visit);
            self.free.insert(id as SegmentId);
        }
    }

    /// Gives the pages of the last free segment back to the system; `false` when there is none.
    pub(super) fn return_one(&mut self) -> bool {
        let Some(id) = self.free.pop_last() else { return false };
        self.discard(id);
        true
    }

    fn discard(&mut self, id: SegmentId) {
        self.stripes.discard(self.start(id));
        self.returned.insert(id);
    }

    /// Gives the pages of segments in `range`, in bytes, that were returned before back once more.
    pub(super) fn return_again(&mut self, range: Range<usize>) {
        let first = self.segment_of(range.start);
        let end = (range.end >> self.shift).min(self.segments.len()) as SegmentId;
        for &id in self.returned.range(first..end.max(first)) {
            self.stripes.discard((id as usize) << self.shift);
        }
    }

    /// Room left in segment `id`, in bytes.
    #[inline]
    pub(super) fn room(&self, id: SegmentId) -> usize {
        self.segment_bytes() - self.segment(id).used as usize
    }

    /// Lengthens what segment `id` has written by `len` bytes, which fit, for one more live item.
    #[inline]
    pub(super) fn append(&mut self, id: SegmentId, len: usize) -> usize {
        debug_assert!(len <= self.room(id), "the caller has made room");
        let start = self.start(id);
        let segment = self.segment_mut(id);
        let at = start + segment.used as usize;
        segment.used += len as u32;
        segment.live_bytes += len as u32;
        segment.live_items += 1;
        at
    }

    /// Notes that a record of `len` bytes in the segment of `at` died, and whether its segment is empty now.
    pub(super) fn bury(&mut self, at: usize, len: usize) -> bool {
        header::set_dead(self.record_mut(at));
        let id = self.segment_of(at);
        let segment = self.segment_mut(id);
        segment.live_bytes -= len as u32;
        segment.live_items -= 1;
        segment.live_items == 0
    }

    /// The next record with an item at or after `at` and before `end`.
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

    /// Where the written part of segment `id` ends.
    #[inline]
    pub(super) fn end(&self, id: SegmentId) -> usize {
        self.start(id) + self.segment(id).used as usize
    }

    /// The bytes that the record at `at` of length `len` could take where it is: its own, and what directly
    /// follows if that is a filler or the unwritten rest of its segment.
    pub(super) fn growable(&self, at: usize, len: usize) -> usize {
        let id = self.segment_of(at);
        if at + len < self.end(id) {
            len + header::filler_bytes(self.record(at + len))
        } else {
            self.start(id) + self.segment_bytes() - at
        }
    }

    /// Notes that the live record at `at` has `new` bytes now instead of `old`. `growable` is what could be had
    /// before it was rewritten.
    pub(super) fn resize(&mut self, at: usize, old: usize, new: usize, growable: usize) {
        debug_assert!(new <= growable, "the record fits where it is");
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

    /// Checks the invariants and shows every live item's place to `check`, with the segment it is in.
    pub(super) fn validate(&self, mut check: impl FnMut(SegmentId, usize, Header)) {
        let used = self.segments.iter().filter(|segment| segment.is_in_use).count();
        assert_eq!(
            used + self.free.len() + self.returned.len(),
            self.segments.len(),
            "segments are somewhere"
        );
        for (id, segment) in self.segments.iter().enumerate() {
            let id = id as SegmentId;
            let (mut at, end) = (self.start(id), self.end(id));
            let (mut items, mut bytes) = (0, 0);
            while let Some((found, header)) = self.next_live(at, end) {
                assert!(found >= self.start(id) + segment.looked as usize, "what was looked through is dead");
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
    fn empty(queue: Queue, visit: Tick) -> Segment {
        Segment {
            used: 0,
            looked: 0,
            live_items: 0,
            live_bytes: 0,
            large_bytes: 0,
            visit,
            queue,
            is_in_use: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Deadline;
    use crate::store::header::Layout;
    use crate::store::item::Marks;
    use crate::store::memory::{PAGE_BYTES, Region};

    const LAYOUT: Layout =
        Layout { flags: 0, deadline: Deadline::NEVER, write: 1, cas: 1, marks: Marks(0), is_large: false };

    fn arena() -> Arena {
        let (mut stripes, _) = Region::reserve(8 * PAGE_BYTES).unwrap().share(1, 12);
        Arena::new(stripes.remove(1))
    }

    fn put(arena: &mut Arena, id: SegmentId, value_len: usize) -> usize {
        let at = arena.append(id, LAYOUT.record_bytes(3, value_len));
        LAYOUT.write(arena.record_mut(at), b"key", value_len, Tick(1));
        at
    }

    #[test]
    fn segments_are_taken_freed_and_returned() {
        let mut arena = arena();
        let ids: Vec<_> = (0..4).map(|_| arena.take_fresh(Queue::Main, Tick(0)).unwrap()).collect();
        assert!(arena.take_fresh(Queue::Main, Tick(0)).is_none(), "the address space is used up");
        ids.iter().for_each(|&id| arena.stripes.tail_mut(arena.start(id)).fill(1));
        assert_eq!(arena.resident_head(), 4 * PAGE_BYTES);
        arena.free(ids[2]);
        assert_eq!(arena.take_free(Queue::Probation, Tick(0)), Some(ids[2]));
        arena.free(ids[2]);
        assert!(arena.return_one() && !arena.return_one());
        assert_eq!(arena.resident_head(), 2 * PAGE_BYTES);
        arena.free(ids[3]);
        assert_eq!(arena.take_free(Queue::Main, Tick(0)), Some(ids[2]), "the gap is filled");
        assert_eq!(arena.resident_head(), 3 * PAGE_BYTES);
        assert_eq!(arena.record(arena.start(ids[2]))[0], 0);
    }

    #[test]
    fn records_shrink_and_grow_in_place() {
        let mut arena = arena();
        let id = arena.take_fresh(Queue::Main, Tick(0)).unwrap();
        let (first, second) = (put(&mut arena, id, 85), put(&mut arena, id, 5));
        let resize = |arena: &mut Arena, at, old, new, growable| {
            assert_eq!(arena.growable(at, old), growable);
            LAYOUT.write(arena.record_mut(at), b"key", new - 15, Tick(1));
            arena.resize(at, old, new, growable);
        };
        resize(&mut arena, first, 100, 40, 100);
        resize(&mut arena, first, 40, 60, 100);
        resize(&mut arena, first, 60, 100, 100);
        resize(&mut arena, first, 100, 60, 100);
        resize(&mut arena, second, 20, 24, PAGE_BYTES - 100);
        let mut seen = Vec::new();
        arena.validate(|_, at, _| seen.push(at));
        assert_eq!(seen, [first, second]);
        assert!(!arena.bury(first, 60));
        assert_eq!(arena.next_live(first, arena.end(id)).map(|(at, _)| at), Some(second));
        assert!(arena.bury(second, 24));
    }
}
