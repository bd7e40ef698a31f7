//! A walk over an index that growing and shrinking do not disturb.
//!
//! It goes by *rank*: the bits of the hash that the index knows, read from the lowest to the highest as one number.
//! A bucket holds what agrees in the low bits of the hash, so it holds a stretch of neighbouring ranks; a split
//! cuts the stretch in two, a merge makes one of two, and nothing ever leaves its rank. Walking by rising rank,
//! each stretch to its end, therefore meets what is there all the while exactly once, and nothing twice.
//! (The order is that of Redis' SCAN, by P. Noordhuis; the tags, which hold the bits, make "at least once" exact.)

use std::sync::atomic::Ordering;

use crate::store::index::Index;
use crate::store::slot::{HASH_BITS, RANKS, SLOTS, bucket_of, hash_bits, position_of};

impl Index {
    /// Appends to `positions` those of the items from rank `from` on, until about `slots_max` slots were looked at:
    /// whole chains, so one chain more at most. Returns the rank to go on from, [`RANKS`] at the end.
    pub(in crate::store) fn walk(&self, from: u64, slots_max: usize, positions: &mut Vec<u32>) -> u64 {
        let mut ahead = from;
        for _ in 0..slots_max.div_ceil(SLOTS) {
            if ahead == RANKS {
                break;
            }
            let (bucket, end) = self.stretch(ahead);
            self.words.prefetch(bucket);
            ahead = end;
        }
        let (mut rank, mut looked) = (from, 0);
        while rank < RANKS && looked < slots_max {
            let (head, end) = self.stretch(rank);
            let mut bucket = Some(head);
            while let Some(at) = bucket {
                let line = self.line(at);
                let slots = line[..SLOTS].iter().map(|slot| slot.load(Ordering::Relaxed));
                // A stretch may have begun lower since, by a merge.
                let ahead = slots.filter(|&slot| slot != 0 && rank_of(hash_bits(slot, head)) >= rank);
                positions.extend(ahead.map(position_of));
                looked += SLOTS;
                bucket = self.next(line);
            }
            rank = end;
        }
        rank
    }

    /// The bucket that holds `rank`, and where its stretch ends.
    fn stretch(&self, rank: u64) -> (usize, u64) {
        let bucket = bucket_of(rank_of(rank), self.buckets);
        let bits = usize::BITS - (self.buckets - 1).leading_zeros();
        let half = 1 << (bits - 1);
        // Those whose other half has no bucket of its own yet are told apart by one bit less.
        let is_whole = bucket < half && bucket + half >= self.buckets;
        let ranks = 1 << (HASH_BITS - bits + u32::from(is_whole));
        (bucket, (rank & !(ranks - 1)) + ranks)
    }
}

/// The rank of the low [`HASH_BITS`] of a hash, or the other way round.
fn rank_of(hash_bits: u64) -> u64 {
    hash_bits.reverse_bits() >> (u64::BITS - HASH_BITS)
}
