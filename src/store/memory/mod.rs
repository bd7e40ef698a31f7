//! Address space and pages. All unsafe code of the store is in the files of this module.
//!
//! Rule: a [`Region`] owns its range of addresses alone, and [`Stripes`] own their stripes alone; the rest of the store
//! uses safe slices of them. The system provides a page when it is first written, and takes it back when it is
//! discarded; a discarded page reads as zeros. To reserve address space costs no memory, so the store reserves far more
//! than it uses.
//!
//! Shards have stripes instead of regions, because the used parts of many regions would be scattered: each region would
//! have page tables of its own, and none would fill a huge page. The stripes of all shards in turn form one dense
//! range, which does.
//!
//! Miri checks the unsafe code and the files that rely on it most, in some two minutes of a processor:
//!
//! ```text
//! MIRIFLAGS=-Zmiri-disable-isolation cargo +nightly miri test --lib -- store::memory store::index store::large
//! ```

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
