//! Address space reserved from the system, and, with the files below, the only unsafe code of the store.
//!
//! Rule: a [`Region`] owns its range of addresses alone, and so do [`Stripes`] the stripes that are theirs; safe
//! slices of them are all that anyone needs. Pages come into being when they are first written and go back when
//! they are discarded; what is discarded reads as zeros. Reserving costs no memory, so there is always far more
//! address space than memory.
//!
//! Shards have stripes instead of regions because what is used of many regions is scattered: each has page tables
//! of its own, and none fills a huge page. Stripes of all shards in turn make one dense range that does.

mod filling;
mod heap;
mod huge;
mod region;
mod stripes;

pub use heap::{share_heap, trim_heap};
pub use region::HeldAddresses;

pub(super) use filling::{End, Filling};
pub(super) use huge::{HUGE_PAGE_BYTES, HugePages};
pub(super) use region::{PAGE_BYTES, Region};
pub(super) use stripes::{Addresses, LINE_WORDS, PAGE_LINES, Stripes, WORDS_STRIPE_BYTES, Words};
