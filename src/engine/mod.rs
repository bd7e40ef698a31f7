//! The server without sockets: bytes received, bytes owed.
//!
//! [`Engine::turn`] is the whole of it: it decodes what one read of a socket brought, tells the store which
//! keys are about to be asked for, executes the requests in order, and words the replies. It never waits.

pub mod access;
mod addresses;
pub mod admin;
mod flushing;
mod keyvalue;
mod parts;
pub mod stats;
pub mod turn;
pub mod watching;

use crate::clock::Tick;
use crate::store::trim_heap;
pub use parts::Engine;
pub use turn::session::Session;
pub use turn::{OWED_BYTES_MAX, Then, Turn};
pub use watching::watch::{WATCHER_BYTES_MAX, WATCHERS_MAX};

impl Engine {
    /// Does the background work; the server calls it ten times a second, whether requests come or not.
    pub fn tick(&self, now: Tick) {
        let now = self.time(now);
        self.flushing().flush_if_due(self.store(), now);
        if self.sweep_enabled() {
            self.store().sweep(now);
        } else {
            self.store().tidy(now);
        }
        if self.prefixes().tidy() {
            trim_heap();
        }
        self.watch_evictions();
        self.log_evictions(self.settings().threads, now);
        self.watch().wake();
    }

    /// What time it is when whoever runs the engine says `now`.
    #[cfg(not(feature = "debugtime"))]
    #[inline]
    fn time(&self, now: Tick) -> Tick {
        now
    }
}
