//! `flush_all`, at once and later.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::clock::Tick;
use crate::store::Store;

/// The flush that is to come, and the last there was.
#[derive(Debug)]
pub(super) struct Flushing {
    /// The tick at which a delayed `flush_all` falls due; `u32::MAX` when none is pending.
    due_at: AtomicU32,
    /// The tick of the last flush, for `stats settings`.
    flushed_at: AtomicU32,
    /// Held while `due_at` is changed or acted upon.
    lock: Mutex<()>,
}

impl Default for Flushing {
    fn default() -> Flushing {
        Flushing { due_at: AtomicU32::new(u32::MAX), flushed_at: AtomicU32::new(0), lock: Mutex::default() }
    }
}

impl Flushing {
    /// Flushes `store` if that is due.
    #[inline]
    pub(super) fn flush_if_due(&self, store: &Store, now: Tick) {
        if self.is_due(now) {
            self.flush_due(store, now);
        }
    }

    /// Relaxed: what a turn sees of the time and of other clients' commands has no order but that of the lock.
    #[inline]
    fn is_due(&self, now: Tick) -> bool {
        let due = self.due_at.load(Ordering::Relaxed);
        now.0 >= due && due != u32::MAX
    }

    /// One of those who see a flush fall due does it, and the others wait until it is done: what is stored
    /// after a turn has begun must not be dropped by a flush that was due before.
    #[cold]
    fn flush_due(&self, store: &Store, now: Tick) {
        let _lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_due(now) {
            store.flush();
            self.flushed_at.store(now.0, Ordering::Relaxed);
            self.due_at.store(u32::MAX, Ordering::Relaxed);
        }
    }

    /// Drops everything stored so far, and any flush that was still to come.
    pub(super) fn flush_now(&self, store: &Store, now: Tick) {
        let _lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.due_at.store(u32::MAX, Ordering::Relaxed);
        store.flush();
        self.flushed_at.store(now.0, Ordering::Relaxed);
    }

    /// Has everything dropped at `moment`.
    pub(super) fn flush_later(&self, moment: Tick) {
        let _lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.due_at.store(moment.0, Ordering::Relaxed);
    }

    /// The tick of the last flush; 0 when there was none.
    pub(super) fn flushed_at(&self) -> Tick {
        Tick(self.flushed_at.load(Ordering::Relaxed))
    }
}
