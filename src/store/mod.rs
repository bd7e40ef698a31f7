//! The store: what is cached, under which key, until when, within how much memory.
//!
//! It has two verbs. [`Store::read`] shows the live item to a closure; [`Store::update`] lets a closure see it
//! and say what is to become of it. Every command of every dialect is one of these plus a pure decision.
//!
//! Rules: a closure runs under its shard's lock, so it must be short and cannot wait (it is not async); one
//! shard is locked at a time, and under it nothing but, for a moment, the pool of large values or the list of what was
//! evicted. The store reads no clock: callers say what time it is.

mod budget;
mod evicted_keys;
mod flushes;
mod header;
mod hint;
mod index;
mod item;
mod large;
mod memory;
mod policy;
mod queue_stats;
mod segment;
mod shard;
mod shards;
mod sizing;
mod slot;
mod walk;

pub use evicted_keys::{EVICTIONS_MAX, Eviction};
pub use flushes::{FLUSHES_MAX, FLUSHES_OWN_MAX, TooManyFlushes};
pub use hint::Hashed;
pub use item::{Access, Cas, Change, Content, Draft, Item, Lookup, Marks, NoMemory};
pub use memory::{HeldAddresses, share_heap, trim_heap};
pub use queue_stats::{QueueStats, QueuesStats};
pub use shards::{Store, StoreConfig, StoreStats};
pub use sizing::NoAddresses;
pub use walk::{Cursor, Entry, Verdict};
