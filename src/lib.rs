//! ferrocached: a cache server that takes memcached's place.
//!
//! This page is the map: floors and wings, the paths of a get and of a set, what always holds, where new things go, and the
//! words that are ours.
//!
//! # Floors
//!
//! The house has floors; a floor may use those below it, and itself only within one module (`tests/architecture` holds
//! it to that):
//!
//! | floor | modules | what it does |
//! |---|---|---|
//! | 5 | `main` | the program |
//! | 4 | [`lifecycle`] | start, signals, reload, stop |
//! | 3 | [`net`] | listeners, connections: all that waits |
//! | 2 | [`engine`] | what each command means |
//! | 1 | [`protocol`], [`store`], [`config`] | bytes to requests, outcomes to bytes; items in memory; arguments to settings |
//! | 0 | [`clock`], [`settings`], [`process`] | moments and deadlines; what the operator chose; user, limits, sandbox |
//!
//! The engine has six wings, a folder each: [`engine::turn`] (the loop, the session), `keyvalue` (what the key-value
//! commands decide), [`engine::admin`] (a table of commands), [`engine::access`] (logins and rights), [`engine::watching`]
//! (what people see of requests) and [`engine::stats`] (what is counted).
//!
//! # The path of a get
//!
//! 1. A worker's runtime finds a socket readable and polls its connection (`net::connection`).
//! 2. One read brings a *turn* of requests into the worker's scratch buffer, behind what an unfinished request left.
//! 3. [`engine::Engine::turn`] runs batches of up to 64 over it (`engine::turn::batch`).
//! 4. [`protocol::Decoder::step`] yields a [`protocol::Fetch`] that borrows its key from the buffer.
//! 5. It is admitted: nothing for most sessions, the rights of its user for some (`access::rights::admission`).
//! 6. [`store::Store::hash`] hashes the key once; hints fetch the index lines and items of the whole batch.
//! 7. `keyvalue::fetch` asks [`store::Store::read`]: it locks one shard, compares the key and shows the item to a closure.
//! 8. The closure has [`protocol::Style::say_hit`] copy the value behind what is owed; a large value is shared instead.
//! 9. Counters of the worker grow by plain additions; nobody waits for anybody.
//! 10. The turn is over, and the connection sends all that is owed with one write.
//!
//! # The path of a set
//!
//! 1. As a get, up to its decoding: [`protocol::Put`] borrows its value from the buffer.
//! 2. A value that has not arrived in full is a `Step::Announced`: too large, it is refused at once and swallowed as it
//!    comes; else the connection reads on, up to 16 KB in the scratch buffer and more in a buffer of its own, or in a block
//!    that the store lends it ([`store::Upload`]).
//! 3. [`store::Store::update`] locks one shard, and shows the item there is to a pure decision (`decide_put`).
//! 4. The decision is a [`store::Change`]: keep, remove, or put a [`store::Draft`].
//! 5. The shard writes the record where the old one is, if it fits, or appends it to a segment (`store::put`).
//! 6. A value above an eighth of a segment gets a block of its own pages (`store::large`): the one that it arrived in, or
//!    it is copied.
//! 7. Memory comes from a free segment, or is reclaimed: from what is dead first, then by eviction.
//! 8. What the item leaves behind dies outside the lock, if it is large.
//! 9. A store that found no memory because slow clients hold it ends its turn before itself, and is retried for a second.
//! 10. [`protocol::Style::say_stored`] words the outcome, unless the client asked for silence.
//!
//! # What always holds
//!
//! - **Nothing below `net` waits**, reads a clock or opens anything: who runs the engine says what time it is. What may
//!   take long is a task that the connection runs elsewhere ([`engine::turn::blocking`]).
//! - **Locks:** one shard at a time; under it only, for a moment, the pool of large values or the list of evicted keys, and
//!   nothing under those. A flush that falls due is done under a lock of its own, before any shard's.
//! - **Memory:** everything charged goes through the store's budget, and only a shard that needs memory evicts, first from
//!   itself, else from another by the same rules. What clients are owed or have not finished sending is bounded by its own
//!   limits; over them the slowest client goes (`net::slow_clients`).
//! - **Time:** an item is never served once its TTL has passed, and lives at most a tenth of a second less; `clock` has the
//!   one rule from exptime to deadline.
//! - **Bounds:** every buffer, queue, table and loop has a limit with a name that ends in `_MAX`, and a test at the limit.
//! - **Replies** are those of the requests one by one, in order, however the input was cut.
//! - **Unsafe code** is in `store::memory` only.
//!
//! # Where does it go?
//!
//! - *A new administrative command:* a row in `COMMANDS` and a function (`engine/admin/mod.rs`); a dialogue,
//!   and a row of `tests/rights.rs`.
//! - *A new key-value command:* a row in its dialect's decoder (`protocol/classic`, `protocol/meta`, `protocol/binary`), a
//!   decision in `engine/keyvalue`, and an arm in `engine/turn/batch.rs` if no [`protocol::Request`] fits.
//! - *A new option:* a row in `config/options.rs` (`-o`: `config/suboptions.rs`) and a field of [`settings::Settings`].
//! - *A new counter:* a field of `Counters` (`engine/stats/counters.rs`), a row that reads it (`engine/stats/general.rs`),
//!   and the line that counts.
//! - *A new dialect:* a folder beside `protocol/classic`, and an arm in each method of [`protocol::Style`].
//! - *A new metric:* the same row as a counter, which `engine/stats/metrics` serves under its name. *A new page:* a row in
//!   `net/http/routes.rs`.
//!
//! The tables in README, the manual and `memcached.conf.example` are generated from these rows:
//! `FERROCACHED_WRITE=1 cargo test --test documents`.
//!
//! # Words that are ours
//!
//! | word | meaning |
//! |---|---|
//! | turn | what one read of a socket brought, executed as a whole; others have theirs before the next |
//! | batch | up to 64 requests of a turn that are decoded, hinted and executed together |
//! | owed | bytes that a client is to be sent |
//! | hint | a guess that makes the processor fetch memory early; whoever uses it checks it |
//! | tick | a tenth of a second, the unit of the engine's time |
//! | shard | a part of the store with a lock of its own |
//! | segment | 16 KB to 1 MB of a shard's items, written from front to back |
//! | probation, main | the queues of segments: new items, and those that were used (see `store::policy`) |
//! | ghost | the hash of an item that was evicted not long ago |
//! | draft | what an item is to become |
//! | wing, floor | a folder of the engine; a layer of the crate |

pub mod clock;
pub mod config;
pub mod engine;
pub mod lifecycle;
pub mod manual;
pub mod net;
pub mod process;
pub mod protocol;
pub mod settings;
pub mod store;
