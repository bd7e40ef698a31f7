//! What an engine is made of. Its fields are its own: the wings get at each by a method.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use super::access::login::CurrentUsers;
use super::addresses;
use super::admin::certificates::Certificates;
#[cfg(feature = "debugtime")]
use super::admin::debugtime::MovedTime;
use super::admin::listing::Listings;
use super::flushing::Flushing;
use super::stats::connections::ConnectionList;
use super::stats::{Connections, Statistics, Usage};
use super::watching::hot_keys::HotKeys;
use super::watching::prefixes::Prefixes;
use super::watching::watch::Watch;
use crate::clock::Epoch;
use crate::settings::{Compat, Settings};
use crate::store::{NoAddresses, Store, StoreConfig, Upload};

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
    hot_keys: HotKeys,
    verbosity: AtomicU8,
    flushing: Flushing,
    /// Whether dead items are looked for in the background: as the settings say until `lru_crawler` changes it.
    sweep_enabled: AtomicBool,
    /// What commands have changed of the settings that have no effect.
    compat: Mutex<Compat>,
    listings: Listings,
    watch: Arc<Watch>,
    /// Reads Unix time.
    wall_clock: Option<fn() -> Duration>,
    connection_list: OnceLock<Arc<dyn ConnectionList>>,
    certificates: OnceLock<Arc<dyn Certificates>>,
    /// Who may log in, if anybody has to.
    users: CurrentUsers,
    #[cfg(feature = "debugtime")]
    moved_time: MovedTime,
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
            hot_keys: HotKeys::new(delimiter, workers),
            verbosity: AtomicU8::new(settings.verbosity),
            flushing: Flushing::default(),
            sweep_enabled: AtomicBool::new(settings.sweep_enabled),
            compat: Mutex::new(settings.compat.clone()),
            listings: Listings::default(),
            // One more than there are workers: ticks log, too.
            watch: Arc::new(Watch::new(settings.threads + 1)),
            wall_clock: None,
            connection_list: OnceLock::new(),
            certificates: OnceLock::new(),
            users: CurrentUsers::default(),
            #[cfg(feature = "debugtime")]
            moved_time: MovedTime::default(),
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

    /// The same engine, with `read` to ask for the time that has passed since some moment, to the nanosecond or so: for
    /// `stats latency`.
    #[must_use]
    pub fn with_monotonic_clock(mut self, read: fn() -> Duration) -> Engine {
        self.statistics.clock = Some(read);
        self
    }

    /// What the operator chose.
    #[inline]
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

    /// Lends a block for a request whose [whole value](crate::engine::Session::awaits_whole_value) is awaited; see
    /// [`Store::lend`].
    pub fn lend(&self, bytes: usize, capacity: usize) -> Option<Upload> {
        self.store.lend(bytes, capacity)
    }

    /// Stops the store from making huge pages.
    pub fn refuse_huge_pages(&self) {
        self.store.refuse_huge_pages();
    }

    /// The store, for tests that look behind the protocol. `tests/architecture` refuses other uses.
    #[inline]
    pub fn store(&self) -> &Store {
        &self.store
    }
}

/// For the wings.
impl Engine {
    #[inline]
    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    #[inline]
    pub(super) fn flushing(&self) -> &Flushing {
        &self.flushing
    }

    #[inline]
    pub(super) fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    #[inline]
    pub(super) fn prefixes(&self) -> &Prefixes {
        &self.prefixes
    }

    pub(super) fn hot_keys(&self) -> &HotKeys {
        &self.hot_keys
    }

    #[inline]
    pub(super) fn watch(&self) -> &Arc<Watch> {
        &self.watch
    }

    pub(super) fn listings(&self) -> &Listings {
        &self.listings
    }

    /// Who may log in, if anybody has to.
    pub(super) fn users(&self) -> &CurrentUsers {
        &self.users
    }

    pub(super) fn certificates(&self) -> &OnceLock<Arc<dyn Certificates>> {
        &self.certificates
    }

    pub(super) fn connection_list(&self) -> &OnceLock<Arc<dyn ConnectionList>> {
        &self.connection_list
    }

    /// What reads Unix time.
    pub(super) fn wall_clock(&self) -> Option<fn() -> Duration> {
        self.wall_clock
    }

    #[cfg(feature = "debugtime")]
    pub(super) fn moved_time(&self) -> &MovedTime {
        &self.moved_time
    }

    pub(super) fn set_verbosity(&self, level: u8) {
        self.verbosity.store(level, Ordering::Relaxed);
    }

    /// Whether dead items are looked for in the background.
    pub(super) fn sweep_enabled(&self) -> bool {
        self.sweep_enabled.load(Ordering::Relaxed)
    }

    /// Has dead items looked for in the background, or not; says whether they were.
    pub(super) fn enable_sweep(&self, enabled: bool) -> bool {
        self.sweep_enabled.swap(enabled, Ordering::Relaxed)
    }

    /// The settings that have no effect, as they are now.
    pub(super) fn compat(&self) -> MutexGuard<'_, Compat> {
        self.compat.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
