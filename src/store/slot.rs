//! What a slot of the index says, and which bucket a hash names.

use crate::store::memory::{PAGE_LINES, Words};

/// Slots of a bucket; the last word is the link.
pub(super) const SLOTS: usize = 7;
/// Where a bucket keeps its link: the number of its overflow bucket plus one, or 0.
pub(super) const LINK: usize = 7;

/// The hash bits below are the bucket's in the smallest table, one page of buckets, so tags start here.
pub(super) const TAG_HASH_SHIFT: u32 = PAGE_LINES.trailing_zeros();
const TAG_HASH_BITS: u32 = 28;
/// How many bits of a hash the index knows, the lowest: those of the bucket in the smallest table and the tag's.
pub(super) const HASH_BITS: u32 = TAG_HASH_SHIFT + TAG_HASH_BITS;
/// No table has more buckets than tags can tell apart.
pub(super) const BUCKETS_MAX: usize = 1 << HASH_BITS;

/// The rank behind the last.
pub(super) const RANKS: u64 = 1 << HASH_BITS;

/// How often an item was used, at most; it saturates there.
pub(super) const FREQUENCY_MAX: u8 = 7;
const FREQUENCY_BITS: u32 = 3;
const TAG_USED: u32 = 1 << 31;

/// The bucket of `hash` among `buckets`, at least one page of them.
#[inline]
pub(super) fn bucket_of(hash: u64, buckets: usize) -> usize {
    let mask = usize::MAX >> (buckets - 1).leading_zeros();
    let bucket = hash as usize & mask;
    if bucket < buckets { bucket } else { bucket & mask >> 1 }
}

/// The tag of `hash`, always with its top bit set, in the bits above the frequency's.
#[inline]
pub(super) fn tag(hash: u64) -> u32 {
    (hash >> TAG_HASH_SHIFT) as u32 & ((1 << TAG_HASH_BITS) - 1) | TAG_USED >> FREQUENCY_BITS
}

#[inline]
pub(super) fn tag_of(slot: u64) -> u32 {
    slot as u32 >> FREQUENCY_BITS
}

/// The low [`HASH_BITS`] of the hash whose slot is in the chain of `bucket`.
#[inline]
pub(super) fn hash_bits(slot: u64, bucket: usize) -> u64 {
    let tag = u64::from(tag_of(slot)) & ((1 << TAG_HASH_BITS) - 1);
    tag << TAG_HASH_SHIFT | (bucket % PAGE_LINES) as u64
}

#[inline]
pub(super) fn position_of(slot: u64) -> u32 {
    (slot >> 32) as u32
}

#[inline]
pub(super) fn slot(hash: u64, position: u32, frequency: u8) -> u64 {
    u64::from(position) << 32 | u64::from(tag(hash) << FREQUENCY_BITS | u32::from(frequency))
}

/// Where overflow buckets start in an index of `words`, in buckets.
#[inline]
pub(super) fn overflow_start(words: &Words) -> usize {
    (words.lines() / 2).next_multiple_of(PAGE_LINES)
}

/// The bucket that `link` names, if it names one.
#[inline]
pub(super) fn overflow_bucket(link: u64, overflow_start: usize) -> Option<usize> {
    (link != 0).then(|| overflow_start + link as usize - 1)
}
