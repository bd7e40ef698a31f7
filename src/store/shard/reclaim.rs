//! How a shard comes by room, and keeps what is worth keeping.
//!
//! When room is needed and the budget has none: first what is dead of age, then segments that are mostly dead
//! are merged, then the head of the queue that is over its share is looked through in small batches. What was
//! used since it came (or was last looked at) is carried to the tail of main with a lower frequency; the rest
//! goes. A batch ends as soon as there is room, so no operation holds the lock for long.

use crate::clock::{Deadline, TICKS_PER_SECOND, Tick};
use crate::store::evicted_keys::Eviction;
use crate::store::header::{self, Header, IDLE_VISIT_SECONDS};
use crate::store::item::{Marks, NoMemory};
use crate::store::policy::lowered;
use crate::store::segment::{Queue, SegmentId};
use crate::store::shard::{Found, Shard, position};

/// How many items are looked at in one go. Their index lines are asked for together.
const BATCH_ITEMS: usize = 32;

/// Segments looked through for one change before what is carried on has to have been used more often, so that
/// a shard full of used items cannot keep the lock.
const PATIENCE_SEGMENTS: u32 = 4;

/// A segment with less than this part alive is merged with others before anything alive is evicted.
const SPARSE_PERCENT: usize = 40;
/// The same where nothing may be evicted.
const SPARSE_PERCENT_KEEPING: usize = 75;

/// An item read within this many seconds before its eviction counts as active.
const ACTIVE_SECONDS: u16 = 60;

/// A segment with deadlines is looked through at least this often, in seconds, once its first has passed.
const VISIT_SECONDS_MAX: u32 = 60;

/// A segment is looked through again when about one part in this many of what lives there has died.
const VISIT_PARTS: u64 = 8;

/// One sweep looks through one part in this many of a shard's segments: all of it in some three seconds.
const SWEEP_PARTS: usize = 32;
/// Or so many, where that is more.
const SWEEP_SEGMENTS_MIN: usize = 2;

/// The most free segments the sweep leaves with a shard that holds something.
const FREE_SEGMENTS_KEPT: usize = 1;

/// How much one change has already tried.
#[derive(Default)]
struct Effort {
    /// Segments emptied by eviction.
    segments: u32,
    /// How often the pinned item came by.
    pinned: u8,
}

/// When the pinned item has come by more often, whatever else there was is gone: frequencies reach 0 before.
const PINNED_MAX: u8 = 16;

impl Effort {
    /// Items used no more often than this are not carried on.
    fn pressure(&self) -> u8 {
        (self.segments / PATIENCE_SEGMENTS).min(u32::from(u8::MAX)) as u8
    }
}

impl Shard {
    /// Charges `bytes`, evicting until they fit. They are the caller's to use or give back.
    pub(super) fn make_room(&mut self, bytes: u64, now: Tick) -> Result<(), NoMemory> {
        let mut effort = Effort::default();
        loop {
            if self.common.budget.try_take(bytes) {
                return Ok(());
            }
            if self.return_segment() || self.common.pool.discard_spares() {
                continue;
            }
            if self.common.pool.pinned_bytes() + bytes > self.common.budget.limit() {
                return Err(NoMemory); // no eviction would make enough
            }
            if !self.should_ask_others(bytes) && self.reclaim(&mut effort, now) {
                continue;
            }
            return self.overdraw(bytes);
        }
    }

    /// The segment of `queue` that has room for `bytes` more.
    pub(super) fn room(&mut self, queue: Queue, bytes: usize, now: Tick) -> Result<SegmentId, NoMemory> {
        let mut effort = Effort::default();
        let segment_bytes = self.arena.segment_bytes() as u64;
        loop {
            if let Some(id) = self.lines[queue.number()].open
                && self.arena.room(id) >= bytes
            {
                return Ok(id);
            }
            // The last free segment is for what eviction carries on.
            if self.arena.free_segments() > FREE_SEGMENTS_KEPT
                && let Some(id) = self.open_free(queue, now)
            {
                return Ok(id);
            }
            if self.common.budget.try_take(segment_bytes) {
                return self.open_fresh(queue, now).ok_or(NoMemory);
            }
            if self.common.pool.discard_spares() {
                continue;
            }
            if !self.should_ask_others(segment_bytes) && self.reclaim(&mut effort, now) {
                continue;
            }
            if let Some(id) = self.open_free(queue, now) {
                return Ok(id);
            }
            self.overdraw(segment_bytes)?;
            return self.open_fresh(queue, now).ok_or(NoMemory);
        }
    }

    /// Whether others should give way rather than this shard: it has less than half of an equal share.
    fn should_ask_others(&self, bytes: u64) -> bool {
        let budget = &self.common.budget;
        self.common.evictions_enabled
            && budget.holding(self.number) < budget.share() / 2
            && budget.may_overdraw(bytes)
    }

    /// Charges `bytes` above the limit, for the shell to have it made good by whoever holds most.
    fn overdraw(&mut self, bytes: u64) -> Result<(), NoMemory> {
        if !self.common.evictions_enabled || !self.common.budget.may_overdraw(bytes) {
            return Err(NoMemory);
        }
        self.common.budget.take(bytes);
        self.overdrawn += bytes;
        Ok(())
    }

    /// Begins a segment of `queue`, a free one.
    fn open_free(&mut self, queue: Queue, now: Tick) -> Option<SegmentId> {
        let id = self.arena.take_free(queue, now.plus_seconds(IDLE_VISIT_SECONDS))?;
        self.line_up(id, queue);
        Some(id)
    }

    /// Begins a segment of `queue`, a fresh one that the caller has charged; `None` takes the charge back.
    fn open_fresh(&mut self, queue: Queue, now: Tick) -> Option<SegmentId> {
        let segment_bytes = self.arena.segment_bytes() as u64;
        let Some(id) = self.arena.take_fresh(queue, now.plus_seconds(IDLE_VISIT_SECONDS)) else {
            self.common.budget.give_back(segment_bytes);
            return None;
        };
        self.common.budget.hold(self.number, segment_bytes);
        self.line_up(id, queue);
        Some(id)
    }

    fn line_up(&mut self, id: SegmentId, queue: Queue) {
        let line = &mut self.lines[queue.number()];
        line.segments.push_back(id);
        line.open = Some(id);
        line.weight += self.arena.segment_bytes() as u64;
    }

    /// Gives the pages of a free segment back to the system; `false` when there is none.
    fn return_segment(&mut self) -> bool {
        let returned = self.arena.return_one();
        if returned {
            let segment_bytes = self.arena.segment_bytes() as u64;
            self.common.budget.let_go(self.number, segment_bytes);
            self.common.budget.give_back(segment_bytes);
        }
        returned
    }

    /// Frees something, at the cost of what is worth least; `false` when there is nothing to free.
    fn reclaim(&mut self, effort: &mut Effort, now: Tick) -> bool {
        if let Some(id) = self.due(now) {
            let dead = self.visit(id, now);
            self.stats.reclaimed += u64::from(dead.died);
            return true;
        }
        if let Some(id) = self.sparse() {
            self.merge(id, now);
            // Merging may have overdrawn for a place to go.
            while self.common.budget.debt() > 0 && self.return_segment() {}
            return true;
        }
        self.common.evictions_enabled && self.evict(effort, now)
    }

    /// Has the shard give up memory until a segment's worth went back to the budget, whatever that takes;
    /// `false` when there was nothing left to give.
    pub(in crate::store) fn give_way(&mut self, now: Tick) -> bool {
        let mut effort = Effort::default();
        let used = self.common.budget.holding(self.number);
        let segment_bytes = self.arena.segment_bytes() as u64;
        while self.common.budget.holding(self.number) + segment_bytes > used {
            if self.arena.free_segments() > FREE_SEGMENTS_KEPT && self.return_segment() {
                continue;
            }
            if !self.reclaim(&mut effort, now) {
                return self.return_segment();
            }
        }
        true
    }

    /// A closed segment of which too little is alive, the sparsest one.
    fn sparse(&self) -> Option<SegmentId> {
        let percent = if self.common.evictions_enabled { SPARSE_PERCENT } else { SPARSE_PERCENT_KEEPING };
        let live_max = self.arena.segment_bytes() * percent / 100;
        let closed = self
            .lines
            .iter()
            .flat_map(|line| line.segments.iter().copied().filter(move |&id| line.open != Some(id)));
        let sparse = closed.filter(|&id| {
            let segment = self.arena.segment(id);
            // Large values are what their segment weighs; and the head that is being looked through is on its way.
            (segment.live_bytes as usize) < live_max && segment.looked == 0 && segment.large_bytes == 0
        });
        sparse.min_by_key(|&id| self.arena.segment(id).live_bytes)
    }

    /// Carries all that lives in segment `id` to the tail of its queue.
    fn merge(&mut self, id: SegmentId, now: Tick) {
        let queue = self.arena.segment(id).queue;
        while self.arena.segment(id).is_in_use {
            for (found, hash) in self.batch(id).into_iter().flatten() {
                let Some(place) = self.index.place(hash, position(found)) else { continue };
                let header = Header::read(self.arena.record(found));
                let found = Found { place, at: found, header };
                if self.is_flushed(found.at, header) {
                    drop(self.remove(hash, found));
                } else if !self.carry(found, queue, self.index.frequency(place), now) {
                    return;
                }
            }
        }
    }

    /// Looks at the next few items at the head of the queue that is over its share; `false` when there is none.
    fn evict(&mut self, effort: &mut Effort, now: Tick) -> bool {
        let Some(queue) = self.due_queue() else { return false };
        let Some(&id) = self.lines[queue.number()].segments.front() else { return false };
        let pressure = effort.pressure();
        let mut looked = self.arena.start(id);
        for (at, hash) in self.batch(id).into_iter().flatten() {
            let header = Header::read(self.arena.record(at));
            let place = self.index.place(hash, position(at)).expect("live items are in the index");
            let found = Found { place, at, header };
            let frequency = self.index.frequency(place);
            looked = at + header.record_bytes();
            let is_pinned = self.pinned == Some(position(at));
            if !is_pinned && header.deadline(self.arena.record(at)).has_passed(now) {
                self.stats.reclaimed += 1;
                self.stats.expired_unfetched += u64::from(!header.marks().has(Marks::FETCHED));
                drop(self.remove(hash, found));
            } else if self.is_flushed(at, header) {
                drop(self.remove(hash, found));
            } else if is_pinned || frequency > pressure {
                effort.pinned += u8::from(is_pinned);
                if effort.pinned > PINNED_MAX {
                    return false;
                }
                let lower = if queue == Queue::Main { lowered(frequency) } else { 0 };
                if !self.carry(found, Queue::Main, lower, now) {
                    return false;
                }
            } else {
                let fetched = header.marks().has(Marks::FETCHED);
                self.stats.evictions += 1;
                self.stats.evicted_unfetched += u64::from(!fetched);
                self.stats.evicted_nonzero += u64::from(header.has(header::bits::DEADLINE));
                self.stats.evicted_idle_seconds = u64::from(header.idle_seconds(now));
                let is_active = fetched && header.idle_seconds(now) < ACTIVE_SECONDS;
                self.stats.evicted_active += u64::from(is_active);
                if self.common.evictions.are_wanted() {
                    self.tell_evicted(found, now);
                }
                self.ghost.insert(hash, queue);
                self.balance.dropped(queue);
                // Dropped under the lock, for its memory is needed now.
                drop(self.remove(hash, found));
            }
        }
        let start = self.arena.start(id);
        let segment = self.arena.segment_mut(id);
        if segment.is_in_use {
            segment.looked = (looked - start) as u32;
        } else {
            effort.segments += 1;
        }
        true
    }

    /// Has those who watch know that `found` goes.
    #[cold]
    fn tell_evicted(&self, found: Found, now: Tick) {
        let Found { at, header, .. } = found;
        let record = self.arena.record(at);
        self.common.evictions.add(Eviction {
            key: Box::from(&record[header.key_start()..][..header.key_len()]),
            is_fetched: header.marks().has(Marks::FETCHED),
            deadline: header.deadline(record),
            at: now,
            idle_seconds: u32::from(header.idle_seconds(now)),
            value_bytes: self.value_len(found) as u64,
        });
    }

    /// The queue that eviction is to look at.
    fn due_queue(&self) -> Option<Queue> {
        let [probation, main] = &self.lines;
        let all = probation.weight + main.weight;
        match (probation.segments.is_empty(), main.segments.is_empty()) {
            (true, true) => None,
            (true, false) => Some(Queue::Main),
            (false, true) => Some(Queue::Probation),
            (false, false) if self.balance.probation_gives_way(probation.weight, all) => {
                Some(Queue::Probation)
            }
            (false, false) => Some(Queue::Main),
        }
    }

    /// The next live items of segment `id` and their hashes, with their index lines on the way.
    fn batch(&self, id: SegmentId) -> [Option<(usize, u64)>; BATCH_ITEMS] {
        let mut batch = [None; BATCH_ITEMS];
        let mut at = self.arena.start(id) + self.arena.segment(id).looked as usize;
        let end = self.arena.end(id);
        for entry in &mut batch {
            let Some((found, header)) = self.arena.next_live(at, end) else { break };
            let hash = self.hash_at(found, header);
            self.index.prefetch(hash);
            *entry = Some((found, hash));
            at = found + header.record_bytes();
        }
        batch
    }

    /// Moves the item `found` to the tail of `queue`; `false` when there is no address space for it.
    fn carry(&mut self, found: Found, queue: Queue, frequency: u8, now: Tick) -> bool {
        let bytes = found.header.record_bytes();
        let id = match self.lines[queue.number()].open {
            Some(id) if self.arena.room(id) >= bytes => id,
            _ => {
                let opened = self.open_free(queue, now).or_else(|| {
                    // Above the limit if need be: the segment that is being emptied makes it good.
                    let segment_bytes = self.arena.segment_bytes() as u64;
                    self.common.budget.take(segment_bytes);
                    self.overdrawn += segment_bytes;
                    self.open_fresh(queue, now)
                });
                let Some(id) = opened else { return false };
                id
            }
        };
        let at = self.arena.append(id, bytes);
        self.arena.copy(found.at, bytes, at);
        let charge = self.large_charge(at, found.header);
        self.change_large(id, 0, charge);
        self.note_deadline(id, found.header.deadline(self.arena.record(at)));
        self.index.set_position(found.place, position(at));
        self.index.set_frequency(found.place, frequency);
        if self.pinned == Some(position(found.at)) {
            self.pinned = Some(position(at));
        }
        self.bury(found.at, found.header);
        true
    }

    /// A segment that is due to be looked through for what has died of age.
    fn due(&self, now: Tick) -> Option<SegmentId> {
        let mut ids = self.lines.iter().flat_map(|line| line.segments.iter().copied());
        ids.find(|&id| self.arena.segment(id).visit <= now)
    }

    /// Looks through segment `id` for what has died of age, and says when to look again.
    fn visit(&mut self, id: SegmentId, now: Tick) -> Visited {
        let mut visited = Visited::default();
        let mut later = [0u64; 33];
        let mut at = self.arena.start(id) + self.arena.segment(id).looked as usize;
        let end = self.arena.end(id);
        while let Some((found, header)) = self.arena.next_live(at, end) {
            at = found + header.record_bytes();
            visited.checked += 1;
            let deadline = header.deadline(self.arena.record(found));
            if deadline.has_passed(now) && self.pinned != Some(position(found)) {
                visited.died += 1;
                self.stats.expired_unfetched += u64::from(!header.marks().has(Marks::FETCHED));
                let hash = self.hash_at(found, header);
                let place = self.index.place(hash, position(found)).expect("live items are in the index");
                let value = self.remove(hash, Found { place, at: found, header });
                self.graveyard.extend(value);
            } else {
                if deadline != Deadline::NEVER {
                    let left = deadline.0.saturating_sub(now.0).max(1);
                    later[left.ilog2() as usize + 1] += header.record_bytes() as u64;
                }
                header::clamp_idle(self.arena.record_mut(found), header, now);
            }
        }
        if self.arena.segment(id).is_in_use {
            self.arena.segment_mut(id).visit = next_visit(&later, now);
        }
        visited
    }

    /// How many segments one sweep may look through.
    pub(in crate::store) fn sweep_share(&self) -> usize {
        let segments: usize = self.lines.iter().map(|line| line.segments.len()).sum();
        (segments / SWEEP_PARTS).max(SWEEP_SEGMENTS_MIN)
    }

    /// Looks for the dead in one segment; `false` when none is due.
    pub(in crate::store) fn sweep(&mut self, now: Tick) -> bool {
        let Some(id) = self.due(now) else { return false };
        let visited = self.visit(id, now);
        self.stats.swept += u64::from(visited.died);
        self.stats.sweep_checked += u64::from(visited.checked);
        true
    }

    /// One slice of giving back what is free.
    pub(in crate::store) fn tidy(&mut self) {
        let kept = if self.index.items() == 0 { 0 } else { FREE_SEGMENTS_KEPT };
        let surplus = self.arena.free_segments().saturating_sub(kept);
        for _ in 0..surplus.div_ceil(8) {
            self.return_segment();
        }
    }
}

/// What a visit found.
#[derive(Default)]
struct Visited {
    checked: u32,
    died: u32,
}

/// When to look through a segment again in which `later[n]` bytes die within `2^n` ticks.
fn next_visit(later: &[u64; 33], now: Tick) -> Tick {
    let all: u64 = later.iter().sum();
    if all == 0 {
        return now.plus_seconds(IDLE_VISIT_SECONDS);
    }
    let mut dead = 0;
    let enough = later.iter().position(|bytes| {
        dead += bytes;
        dead * VISIT_PARTS >= all
    });
    let ticks = enough.map_or(u32::MAX, |power| 1u32.checked_shl(power as u32).unwrap_or(u32::MAX));
    Tick(now.0.saturating_add(ticks.clamp(TICKS_PER_SECOND, VISIT_SECONDS_MAX * TICKS_PER_SECOND)))
}
