//! The values behind the rows, all of one moment. A value that takes a lock or a walk is read once, and only if a row
//! needs it.

use std::cell::OnceCell;
use std::sync::atomic::{AtomicU64, Ordering};

use super::counter::Counter;
use super::counters::{Connections, Counters, Usage};
use crate::clock::Tick;
use crate::engine::Engine;
use crate::engine::watching::watch::WatchStats;
use crate::settings::{Compat, Settings};
use crate::store::{QueuesStats, StoreStats};

/// The values behind the rows at one moment.
pub(super) struct Numbers<'e> {
    pub(super) engine: &'e Engine,
    pub(super) now: Tick,
    compat: OnceCell<Compat>,
    queues: OnceCell<QueuesStats>,
    store: OnceCell<StoreStats>,
    usage: OnceCell<Usage>,
    watch: OnceCell<(WatchStats, usize)>,
}

impl<'e> Numbers<'e> {
    pub(super) fn new(engine: &'e Engine, now: Tick) -> Numbers<'e> {
        Numbers {
            engine,
            now,
            compat: OnceCell::new(),
            queues: OnceCell::new(),
            store: OnceCell::new(),
            usage: OnceCell::new(),
            watch: OnceCell::new(),
        }
    }

    /// The sum of a counter over all workers.
    pub(super) fn workers(&self, counter: fn(&Counters) -> &Counter) -> u64 {
        let workers = self.engine.statistics().workers.iter();
        workers.fold(0, |sum, counters| sum.wrapping_add(counter(counters).value()))
    }

    /// A number of the network's.
    pub(super) fn network(&self, number: fn(&Connections) -> &AtomicU64) -> u64 {
        number(&self.engine.statistics().connections).load(Ordering::Relaxed)
    }

    /// What the operator chose.
    pub(super) fn settings(&self) -> &Settings {
        self.engine.settings()
    }

    /// The settings that have no effect, with what commands have changed of them.
    pub(super) fn compat(&self) -> &Compat {
        self.compat.get_or_init(|| self.engine.compat().clone())
    }

    pub(super) fn store(&self) -> &StoreStats {
        self.store.get_or_init(|| self.engine.store().stats())
    }

    pub(super) fn queues(&self) -> &QueuesStats {
        self.queues.get_or_init(|| self.engine.store().queues(self.now))
    }

    /// The CPU time of this process.
    pub(super) fn usage(&self) -> Usage {
        *self.usage.get_or_init(|| (self.engine.statistics().usage)())
    }

    pub(super) fn watch(&self) -> WatchStats {
        self.watch.get_or_init(|| self.engine.watch().stats()).0
    }

    /// How many connections watch.
    pub(super) fn watchers(&self) -> usize {
        self.watch.get_or_init(|| self.engine.watch().stats()).1
    }
}
