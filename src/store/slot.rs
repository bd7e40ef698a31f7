//! The words of the index: what a slot and a link mean, and which bucket a hash names.

use crate::store::memory::{PAGE_LINES, Words};

/// A bucket has so many slots; its last word is the link.
pub(super) const SLOTS: usize = 7;
/// The word of a bucket that is its link: the number of its overflow bucket plus one, or 0.
pub(super) const LINK: usize = 7;

/// A tag starts at this bit of the hash. The bits below choose a bucket of the smallest table, which is one page.
pub(super) const TAG_HASH_SHIFT: u32 = PAGE_LINES.trailing_zeros();
const TAG_HASH_BITS: u32 = 28;
/// The index knows so many bits of a hash, the lowest: those that choose a bucket of the smallest table, and the tag.
pub(super) const HASH_BITS: u32 = TAG_HASH_SHIFT + TAG_HASH_BITS;
/// A table has at most so many buckets, because tags cannot tell more apart.
pub(super) const BUCKETS_MAX: usize = 1 << HASH_BITS;

/// The number of ranks (see the index's `walk`), and the rank behind the last.
pub(super) const RANKS: u64 = 1 << HASH_BITS;

/// The highest use frequency of an item; more uses do not raise it.
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

/// The tag of `hash`. Its top bit is always set, so that it differs from an empty slot, 0.
#[inline]
pub(super) fn tag(hash: u64) -> u32 {
    (hash >> TAG_HASH_SHIFT) as u32 & ((1 << TAG_HASH_BITS) - 1) | TAG_USED >> FREQUENCY_BITS
}

/// The tag in `slot`.
#[inline]
pub(super) fn tag_of(slot: u64) -> u32 {
    slot as u32 >> FREQUENCY_BITS
}

/// The low [`HASH_BITS`] of the hash of the item in `slot`, which is in the chain of `bucket`.
#[inline]
pub(super) fn hash_bits(slot: u64, bucket: usize) -> u64 {
    let tag = u64::from(tag_of(slot)) & ((1 << TAG_HASH_BITS) - 1);
    tag << TAG_HASH_SHIFT | (bucket % PAGE_LINES) as u64
}

/// The position in `slot`.
#[inline]
pub(super) fn position_of(slot: u64) -> u32 {
    (slot >> 32) as u32
}

/// The slot of an item of `hash` at `position`.
#[inline]
pub(super) fn slot(hash: u64, position: u32, frequency: u8) -> u64 {
    u64::from(position) << 32 | u64::from(tag(hash) << FREQUENCY_BITS | u32::from(frequency))
}

/// The number of the first overflow bucket in an index of `words`.
#[inline]
pub(super) fn overflow_start(words: &Words) -> usize {
    (words.lines() / 2).next_multiple_of(PAGE_LINES)
}

/// The overflow bucket that `link` names, if it names one.
#[inline]
pub(super) fn overflow_bucket(link: u64, overflow_start: usize) -> Option<usize> {
    (link != 0).then(|| overflow_start + link as usize - 1)
}
