//! The store: items by key, each until its deadline, within a memory limit.
//!
//! It has two verbs. [`Store::read`] shows the live item to a closure; [`Store::update`] shows it to a closure that
//! returns what to do with it: keep it, replace it or remove it. Every command of every dialect is one of these plus a
//! pure decision.
//!
//! Rules: a closure runs under its shard's lock, so it must be short and cannot wait (it is not async). One shard is
//! locked at a time, and under its lock only, for a moment, the pool of large values or the list of evictions. The
//! store reads no clock: callers pass the time.
//!
//! The files, from what callers see to what memory holds:
//!
//! | files | what they do |
//! |---|---|
//! | `shards`, `sizing`, `upkeep`, `walk`, `flushes`, `pending_flushes` | choose and lock a shard; size a store; sweep in the background; go through all items |
//! | `shard/*` | one shard, single-threaded: look up, put, reclaim, evict, expire |
//! | `index/*`, `slot`, `hint` | where an item lies; prefetching that before the lock is taken |
//! | `segment`, `header`, `policy` | records in segments; the bytes of a record; which items are worth keeping |
//! | `large/*` | large values, which replies share, and the rules for slow readers of them |
//! | `budget` | how much memory each part is charged |
//! | `memory/*` | address space, pages, and all `unsafe` code |
//! | `item`, `stats`, `queue_stats`, `evicted_keys` | what callers pass in and get out |
//!
//! Words: a *position* is where a record lies, in units of four bytes; a *slot* is a word of the index that names one;
//! a *segment* is a stretch of memory that records are appended to; *probation* and *main* are the two queues of
//! segments; the *ghost* remembers keys that were evicted; memory is *charged* to the budget and *refunded*; pages are
//! *discarded*, which gives them back to the system.

mod budget;
mod evicted_keys;
mod flushes;
mod header;
mod hint;
mod index;
mod item;
mod large;
mod memory;
mod pending_flushes;
mod policy;
mod queue_stats;
mod segment;
mod shard;
mod shards;
mod sizing;
mod slot;
mod stats;
mod upkeep;
mod walk;

pub use evicted_keys::{EVICTIONS_MAX, Eviction};
pub use flushes::TooManyFlushes;
pub use hint::Hashed;
pub use item::{Access, Cas, Change, Content, Draft, Item, Lookup, Marks, NoMemory};
pub use large::{Offer, Upload};
pub use memory::{HeldAddresses, share_heap, trim_heap};
pub use pending_flushes::{FLUSHES_MAX, FLUSHES_OWN_MAX};
pub use queue_stats::{QueueStats, QueuesStats};
pub use shards::Store;
pub use sizing::{NoAddresses, StoreConfig};
pub use stats::StoreStats;
pub use walk::{Cursor, Entry};
