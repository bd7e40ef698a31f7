//! The counters.
//!
//! A worker counts in its own [`Counters`], which no other thread writes, so counting costs a plain addition. The
//! network counts connections in [`Connections`].

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::counter::Counter;
use super::latency::Latency;
use crate::engine::watching::sampler::Sampler;

/// The counters of one worker. Each field is named like the row that explains it. Aligned so that two workers' counters
/// never share a cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(in crate::engine) struct Counters {
    pub(in crate::engine) auth_cmds: Counter,
    pub(in crate::engine) auth_errors: Counter,
    pub(in crate::engine) cmd_set: Counter,
    pub(in crate::engine) cmd_flush: Counter,
    pub(in crate::engine) cmd_flush_prefix: Counter,
    pub(in crate::engine) cmd_touch: Counter,
    pub(in crate::engine) cmd_meta: Counter,
    pub(in crate::engine) get_hits: Counter,
    pub(in crate::engine) get_misses: Counter,
    pub(in crate::engine) get_expired: Counter,
    pub(in crate::engine) delete_misses: Counter,
    pub(in crate::engine) delete_hits: Counter,
    pub(in crate::engine) incr_misses: Counter,
    pub(in crate::engine) incr_hits: Counter,
    pub(in crate::engine) decr_misses: Counter,
    pub(in crate::engine) decr_hits: Counter,
    pub(in crate::engine) cas_misses: Counter,
    pub(in crate::engine) cas_hits: Counter,
    pub(in crate::engine) cas_badval: Counter,
    pub(in crate::engine) touch_hits: Counter,
    pub(in crate::engine) touch_misses: Counter,
    pub(in crate::engine) store_too_large: Counter,
    pub(in crate::engine) store_no_memory: Counter,
    pub(in crate::engine) bytes_read: Counter,
    pub(in crate::engine) bytes_written: Counter,
    pub(in crate::engine) conn_yields: Counter,
    pub(in crate::engine) sampler: Sampler,
    pub(in crate::engine) latency: Latency,
}

/// What the network tells about its connections. Written at most a few times per connection.
#[derive(Debug, Default)]
pub struct Connections {
    /// Open now.
    pub current: AtomicU64,
    /// The most that were open at once.
    pub most: AtomicU64,
    /// Opened since the start.
    pub total: AtomicU64,
    /// Refused because there were too many.
    pub rejected: AtomicU64,
    /// Refused in protected mode because their address was public.
    pub rejected_public: AtomicU64,
    /// Datagrams dropped for the address they came from.
    pub rejected_datagrams: AtomicU64,
    /// Datagrams dropped because they were no request, or a part of one.
    pub malformed_datagrams: AtomicU64,
    /// Replies in datagrams that the system did not take, or not all of.
    pub dropped_datagrams: AtomicU64,
    /// Closed by the idle timeout.
    pub idle_kicks: AtomicU64,
    /// How often accepting connections was paused.
    pub listen_disabled: AtomicU64,
    /// For how long in all, in microseconds.
    pub listen_disabled_us: AtomicU64,
    /// Listeners that do not accept now.
    pub listeners_paused: AtomicU64,
    /// Connections that hold unfinished input.
    pub read_buffers: AtomicU64,
    /// Bytes reserved for that input.
    pub read_buffer_bytes: AtomicU64,
    /// Connections closed because there was no memory for that input.
    pub read_buffer_oom: AtomicU64,
    /// Connections whose clients have not read all their replies.
    pub responses: AtomicU64,
    /// Bytes reserved for those replies, without shared values.
    pub response_bytes: AtomicU64,
    /// Connections closed because their replies took memory that others needed.
    pub response_oom: AtomicU64,
    /// Attempts to log in over HTTP, by basic authentication.
    pub page_logins: AtomicU64,
    /// Of these, attempts that failed.
    pub page_logins_failed: AtomicU64,
    /// Sessions of TLS that were begun, not resumed.
    pub tls_sessions: AtomicU64,
    /// TLS handshakes that failed.
    pub tls_handshake_errors: AtomicU64,
    /// Connections that broke the rules of TLS after their handshake.
    pub tls_protocol_errors: AtomicU64,
}

/// The CPU time of this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// In user space.
    pub user: Duration,
    /// In the kernel on its behalf.
    pub system: Duration,
}

/// All counters, and their values at the last `stats reset`.
#[derive(Debug)]
pub(in crate::engine) struct Statistics {
    pub(in crate::engine) workers: Box<[Arc<Counters>]>,
    pub(in crate::engine) connections: Connections,
    pub(in crate::engine) usage: fn() -> Usage,
    /// Reads a monotonic clock, for `latency`; without it no turn is timed.
    pub(in crate::engine) clock: Option<fn() -> Duration>,
    /// What the histograms of latency counted at the last reset; empty before the first.
    pub(super) latency_base: Mutex<Vec<u64>>,
    /// The value of each counter at the last reset, by the name of its row; empty before the first. A reset cannot zero
    /// the counters themselves, because only their own threads write them.
    base: Mutex<Arc<HashMap<&'static str, u64>>>,
}

impl Statistics {
    pub(in crate::engine) fn new(workers: usize) -> Statistics {
        Statistics {
            workers: (0..workers).map(|_| Arc::default()).collect(),
            connections: Connections::default(),
            usage: Usage::default,
            clock: None,
            latency_base: Mutex::default(),
            base: Mutex::default(),
        }
    }

    pub(super) fn base(&self) -> Arc<HashMap<&'static str, u64>> {
        Arc::clone(&self.base.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn set_base(&self, base: HashMap<&'static str, u64>) {
        *self.base.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(base);
    }
}
