//! Expiry: finding the items whose deadline has passed.
//!
//! A look-up removes the expired item that it finds. All others are found by scanning segments, in the background and
//! when memory is needed. Each segment knows when to scan it next: not before its first deadline, and not after idle
//! times in its records would wrap.

use crate::clock::{Deadline, TICKS_PER_SECOND, Tick};
use crate::store::header::{self, IDLE_SCAN_SECONDS};
use crate::store::item::Marks;
use crate::store::segment::SegmentId;
use crate::store::shard::{LiveItem, Shard, position};

/// A segment with deadlines is scanned at least this often, in seconds, once its first deadline has passed.
const SCAN_SECONDS_MAX: u32 = 60;

/// A segment is scanned again when about one part in this many of its bytes with a deadline has expired.
const SCAN_PARTS: u64 = 8;

/// One sweep scans one part in this many of a shard's segments: all of them in some three seconds.
const SWEEP_PARTS: usize = 32;
/// Or so many segments, where that is more.
const SWEEP_SEGMENTS_MIN: usize = 2;

/// The counts of a scan of one segment.
#[derive(Default)]
pub(super) struct Scanned {
    /// Items looked at.
    pub(super) checked: u32,
    /// Those of them that had expired.
    pub(super) expired: u32,
}

impl Shard {
    /// Removes `found`, whose deadline has passed.
    #[cold]
    pub(super) fn remove_expired(&mut self, hash: u64, found: LiveItem) {
        self.stats.expired_unfetched += u64::from(!found.header.marks().has(Marks::FETCHED));
        let value = self.remove(hash, found);
        self.departing.extend(value);
    }

    /// Notes that segment `id` has an item that expires at `deadline`.
    pub(super) fn note_deadline(&mut self, id: SegmentId, deadline: Deadline) {
        if deadline != Deadline::NEVER {
            let segment = self.arena.segment_mut(id);
            segment.scan_at = segment.scan_at.min(Tick(deadline.0));
        }
    }

    /// A segment that is due to be scanned.
    pub(super) fn due_for_scan(&self, now: Tick) -> Option<SegmentId> {
        let mut ids = self.queues.iter().flat_map(|queue| queue.segments.iter().copied());
        ids.find(|&id| self.arena.segment(id).scan_at <= now)
    }

    /// Removes the expired items of segment `id`, and notes when to scan it next.
    pub(super) fn scan(&mut self, id: SegmentId, now: Tick) -> Scanned {
        let mut scanned = Scanned::default();
        let mut later = [0u64; 33];
        let mut at = self.arena.evict_from(id);
        let end = self.arena.end(id);
        while let Some((found, header)) = self.arena.next_live(at, end) {
            at = found + header.record_bytes();
            scanned.checked += 1;
            let deadline = header.deadline(self.arena.record(found));
            if deadline.has_passed(now) && self.changing != Some(position(found)) {
                scanned.expired += 1;
                let (hash, found) = self.indexed(found, header);
                self.remove_expired(hash, found);
            } else {
                if deadline != Deadline::NEVER {
                    let left = deadline.0.saturating_sub(now.0).max(1);
                    later[left.ilog2() as usize + 1] += header.record_bytes() as u64;
                }
                header::clamp_idle(self.arena.record_mut(found), header, now);
            }
        }
        if self.arena.segment(id).is_in_use {
            self.arena.segment_mut(id).scan_at = next_scan(&later, now);
        }
        scanned
    }

    /// How many segments one sweep may scan.
    pub(in crate::store) fn sweep_segments_max(&self) -> usize {
        let segments: usize = self.queues.iter().map(|queue| queue.segments.len()).sum();
        (segments / SWEEP_PARTS).max(SWEEP_SEGMENTS_MIN)
    }

    /// Scans one segment; `false` when none is due.
    pub(in crate::store) fn sweep(&mut self, now: Tick) -> bool {
        let Some(id) = self.due_for_scan(now) else { return false };
        let scanned = self.scan(id, now);
        self.stats.swept += u64::from(scanned.expired);
        self.stats.sweep_checked += u64::from(scanned.checked);
        true
    }
}

/// When to scan a segment next in which `later[n]` bytes expire within `2^n` ticks.
fn next_scan(later: &[u64; 33], now: Tick) -> Tick {
    let all: u64 = later.iter().sum();
    if all == 0 {
        return now.plus_seconds(IDLE_SCAN_SECONDS);
    }
    let mut expired = 0;
    let enough = later.iter().position(|bytes| {
        expired += bytes;
        expired * SCAN_PARTS >= all
    });
    let ticks = enough.map_or(u32::MAX, |power| 1u32.checked_shl(power as u32).unwrap_or(u32::MAX));
    Tick(now.0.saturating_add(ticks.clamp(TICKS_PER_SECOND, SCAN_SECONDS_MAX * TICKS_PER_SECOND)))
}
