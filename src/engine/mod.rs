//! The server without sockets: bytes received, bytes owed.
//!
//! [`Engine::turn`] is the whole of it: it decodes what one read of a socket brought, tells the store which
//! keys are about to be asked for, executes the requests in order, and words the replies. It never waits.

pub mod access;
mod addresses;
pub mod admin;
mod keyvalue;
pub mod stats;
pub mod turn;
pub mod watching;

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use crate::clock::{Epoch, Tick};
use crate::settings::{Compat, Settings};
use crate::store::{NoAddresses, Store, StoreConfig, trim_heap};
use access::login::CurrentUsers;
use admin::certificates::Certificates;
#[cfg(feature = "debugtime")]
use admin::debugtime;
use admin::listing::Listings;
use stats::connections::Roster;
use stats::{Connections, Statistics, Usage};
pub use turn::session::Session;
pub use turn::{OWED_BYTES_MAX, Then, Turn};
use watching::hot_keys::Hot;
use watching::prefixes::Prefixes;
use watching::watch::Watch;
pub use watching::watch::{WATCHER_BYTES_MAX, WATCHERS_MAX};

/// The server without sockets.
///
/// ```
/// use ferrocached::clock::Epoch;
/// use ferrocached::engine::Engine;
/// use ferrocached::protocol::Owed;
/// use ferrocached::settings::Settings;
///
/// let (epoch, now) = Epoch::starting_at(1_700_000_000);
/// let engine = Engine::new(Settings::default(), epoch);
/// let mut session = engine.session(0);
/// let mut owed = Owed::default();
/// engine.turn(&mut session, b"set greeting 0 0 5\r\nhello\r\nget greeting\r\n", &mut owed, now);
/// assert_eq!(owed.into_bytes(), b"STORED\r\nVALUE greeting 0 5\r\nhello\r\nEND\r\n"[..]);
/// ```
#[derive(Debug)]
pub struct Engine {
    store: Store,
    settings: Settings,
    epoch: Epoch,
    statistics: Statistics,
    prefixes: Prefixes,
    hot: Hot,
    verbosity: AtomicU8,
    /// The tick at which a delayed `flush_all` falls due; `u32::MAX` when none is pending.
    flush_at: AtomicU32,
    /// Held while `flush_at` is changed or acted upon.
    flushing: Mutex<()>,
    /// The tick of the last flush, for `stats settings`.
    flushed_at: AtomicU32,
    /// Whether dead items are looked for in the background: as the settings say until `lru_crawler` changes it.
    sweep_enabled: AtomicBool,
    /// What commands have changed of the settings that have no effect.
    compat: Mutex<Compat>,
    listings: Listings,
    watch: Arc<Watch>,
    /// Reads Unix time.
    wall_clock: Option<fn() -> Duration>,
    roster: OnceLock<Arc<dyn Roster>>,
    certificates: OnceLock<Arc<dyn Certificates>>,
    /// Who may log in, if anybody has to.
    users: CurrentUsers,
    #[cfg(feature = "debugtime")]
    moved_time: debugtime::MovedTime,
}

impl Engine {
    /// An engine with an empty store.
    ///
    /// # Panics
    /// When there is no address space for the store; see [`Engine::try_new`].
    pub fn new(settings: Settings, epoch: Epoch) -> Engine {
        Engine::try_new(settings, epoch).unwrap_or_else(|refused| panic!("{refused}"))
    }

    /// An engine with an empty store.
    ///
    /// # Errors
    /// When the system has not enough addresses for the store.
    pub fn try_new(settings: Settings, epoch: Epoch) -> Result<Engine, NoAddresses> {
        let config = StoreConfig {
            memory_bytes: settings.memory_bytes,
            evictions_enabled: settings.evictions_enabled,
            workers: settings.threads,
        };
        let store = Store::try_new_beside(config, addresses::beside_the_store(&settings))?;
        let (delimiter, workers) = (settings.prefix_delimiter, settings.threads);
        Ok(Engine {
            store,
            epoch,
            statistics: Statistics::new(workers),
            prefixes: Prefixes::new(delimiter, workers, settings.detail_enabled),
            hot: Hot::new(delimiter, workers),
            verbosity: AtomicU8::new(settings.verbosity),
            flush_at: AtomicU32::new(u32::MAX),
            flushing: Mutex::default(),
            flushed_at: AtomicU32::new(0),
            sweep_enabled: AtomicBool::new(settings.sweep_enabled),
            compat: Mutex::new(settings.compat.clone()),
            listings: Listings::default(),
            // One more than there are workers: ticks log, too.
            watch: Arc::new(Watch::new(settings.threads + 1)),
            wall_clock: None,
            roster: OnceLock::new(),
            certificates: OnceLock::new(),
            users: CurrentUsers::default(),
            #[cfg(feature = "debugtime")]
            moved_time: debugtime::MovedTime::default(),
            settings,
        })
    }

    /// The same engine, with `usage` to ask for the CPU time of this process.
    #[must_use]
    pub fn with_usage(mut self, usage: fn() -> Usage) -> Engine {
        self.statistics.usage = usage;
        self
    }

    /// The same engine, with `read` to ask for Unix time where tenths of a second are not enough.
    #[must_use]
    pub fn with_wall_clock(mut self, read: fn() -> Duration) -> Engine {
        self.wall_clock = Some(read);
        self
    }

    /// What the operator chose.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// How much is to be logged: that of the settings until a client's `verbosity` changes it.
    pub fn verbosity(&self) -> u8 {
        self.verbosity.load(Ordering::Relaxed)
    }

    /// The numbers that the network keeps about its connections.
    pub fn connections(&self) -> &Connections {
        &self.statistics.connections
    }

    /// How many bytes of memory slow clients pin that are to be freed by closing some; see
    /// [`Store::pinned_excess_bytes`].
    pub fn pinned_excess_bytes(&self) -> u64 {
        self.store.pinned_excess_bytes()
    }

    /// Stops the store from making huge pages.
    pub fn refuse_huge_pages(&self) {
        self.store.refuse_huge_pages();
    }

    /// The store, for tests that look behind the protocol. `tests/architecture.rs` refuses other uses.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// What is to be done about ten times a second, whether requests come or not.
    pub fn tick(&self, now: Tick) {
        let now = self.time(now);
        self.flush_if_due(now);
        if self.sweep_enabled() {
            self.store.sweep(now);
        } else {
            self.store.tidy(now);
        }
        if self.prefixes.tidy() {
            trim_heap();
        }
        self.watch_evictions();
        self.log_evictions(self.settings.threads, now);
        self.watch.wake();
    }

    /// Whether dead items are looked for in the background.
    fn sweep_enabled(&self) -> bool {
        self.sweep_enabled.load(Ordering::Relaxed)
    }

    /// The settings that have no effect, as they are now.
    fn compat(&self) -> MutexGuard<'_, Compat> {
        self.compat.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What time it is when whoever runs the engine says `now`.
    #[cfg(not(feature = "debugtime"))]
    #[inline]
    fn time(&self, now: Tick) -> Tick {
        now
    }

    #[inline]
    fn flush_if_due(&self, now: Tick) {
        if self.is_flush_due(now) {
            self.flush_due(now);
        }
    }

    /// Relaxed: what a turn sees of the time and of other clients' commands has no order but that of the lock.
    #[inline]
    fn is_flush_due(&self, now: Tick) -> bool {
        let due = self.flush_at.load(Ordering::Relaxed);
        now.0 >= due && due != u32::MAX
    }

    /// One of those who see a flush fall due does it, and the others wait until it is done: what is stored
    /// after a turn has begun must not be dropped by a flush that was due before.
    #[cold]
    fn flush_due(&self, now: Tick) {
        let _flushing = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_flush_due(now) {
            self.store.flush();
            self.flushed_at.store(now.0, Ordering::Relaxed);
            self.flush_at.store(u32::MAX, Ordering::Relaxed);
        }
    }

    /// Drops everything stored so far, and any flush that was still to come.
    fn flush_now(&self, now: Tick) {
        let _flushing = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        self.flush_at.store(u32::MAX, Ordering::Relaxed);
        self.store.flush();
        self.flushed_at.store(now.0, Ordering::Relaxed);
    }

    /// Has everything dropped at `moment`.
    fn flush_later(&self, moment: Tick) {
        let _flushing = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        self.flush_at.store(moment.0, Ordering::Relaxed);
    }
}
