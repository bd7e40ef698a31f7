//! ferrocached: a cache server that takes memcached's place.
//!
//! The house has floors; a floor may use those below it, and itself only within one module (`tests/architecture.rs` holds
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
//! The path of a request: `net` reads a socket once, which brings a *turn* of requests; [`engine::Engine::turn`]
//! has `protocol` decode them, runs each against the [`store::Store`] and words the replies into one buffer;
//! `net` writes that once. Only `net` waits; everything below it is synchronous.

pub mod clock;
pub mod config;
pub mod engine;
pub mod lifecycle;
pub mod net;
pub mod process;
pub mod protocol;
pub mod settings;
pub mod store;
