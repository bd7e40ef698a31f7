//! Large values: they lie in pages of their own, which the replies that send them share.
//!
//! A value lies in a block: a run of pages in a stretch of address space whose length is a power of two. All blocks of
//! one class are interchangeable, so nothing becomes fragmented but address space, of which there is plenty. A reader
//! of a value holds [`Bytes`](bytes::Bytes) over its block and can go on reading after the item is removed; the pages
//! stay charged to the budget until the last reader drops its handle. The rules for slow readers are told in `pinned`.
//!
//! A value lies at one end of its block. What is appended or prepended at the other end of the value is written into
//! the free part of the block; where that is too short the value moves to a block of the next class. So a growing value
//! is copied once each time that its length doubles, and its readers keep the length that they saw.
//!
//! Pages are expensive: to get 1 MB of them from the system takes 0.4 ms and to give them back 0.06 ms, while copying 1
//! MB takes 0.04 ms. So free blocks keep their pages for a moment, as spares for the next values. Spares stay
//! charged; they are discarded as soon as memory is needed, and by the sweep that finds that nobody has needed them since
//! the last one.
//!
//! `pool` has the blocks, `upload` lends them to those who read requests, and `table` numbers the values of one shard.

mod pinned;
mod pool;
mod table;
mod upload;

pub(super) use pinned::Departing;
pub(super) use pool::{Large, Pool, Spare, charged_bytes};
pub(super) use table::Table;
pub use upload::{Offer, Upload};

#[cfg(test)]
mod tests;
