//! A walk over an index, which growing and shrinking do not disturb.
//!
//! It goes by *rank*: the bits of the hash that the index knows, read from the lowest to the highest as one number. The
//! items of a bucket agree in the low bits of their hash, so a bucket holds a stretch of neighbouring ranks. A split
//! cuts a stretch in two, a merge joins two, and an item keeps its rank. A walk goes by rising rank and takes each
//! stretch to its end, so it meets an item that stays exactly once, and no item twice. (The order is that of Redis'
//! SCAN, by P. Noordhuis. SCAN meets items at least once; tags have the bits of the rank, so that this walk meets them
//! exactly once.)

use std::sync::atomic::Ordering;

use crate::store::index::Index;
use crate::store::slot::{HASH_BITS, RANKS, SLOTS, bucket_of, hash_bits, position_of};

impl Index {
    /// Appends the positions of the items from rank `from` on to `positions`, until about `slots_max` slots were looked
    /// at: it takes whole chains, so at most one chain more. Returns the rank to go on from, [`RANKS`] at the end.
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
                // A merge may have made the stretch begin lower meanwhile.
                let ahead = slots.filter(|&slot| slot != 0 && rank_of(hash_bits(slot, head)) >= rank);
                positions.extend(ahead.map(position_of));
                looked += SLOTS;
                bucket = self.next(line);
            }
            rank = end;
        }
        rank
    }

    /// The bucket that holds `rank`, and the rank at which its stretch ends.
    fn stretch(&self, rank: u64) -> (usize, u64) {
        let bucket = bucket_of(rank_of(rank), self.buckets);
        let bits = usize::BITS - (self.buckets - 1).leading_zeros();
        let half = 1 << (bits - 1);
        // A bucket that was not split yet at this size of the table goes by one bit less.
        let is_whole = bucket < half && bucket + half >= self.buckets;
        let ranks = 1 << (HASH_BITS - bits + u32::from(is_whole));
        (bucket, (rank & !(ranks - 1)) + ranks)
    }
}

/// The rank of the low [`HASH_BITS`] of a hash, and also the bits of a rank.
fn rank_of(hash_bits: u64) -> u64 {
    hash_bits.reverse_bits() >> (u64::BITS - HASH_BITS)
}
