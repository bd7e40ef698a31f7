//! Every counter, declared once, and the lines that `stats` makes of them.
//!
//! A worker counts into its own [`Counters`], which nobody else writes, so counting costs a plain addition;
//! they are summed when somebody asks. What only the network knows is in [`Connections`].

pub mod connections;
mod settings;
mod slabs;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Engine;
use crate::clock::Tick;
use crate::engine::watching::sampler::Sampler;
use crate::protocol::{Owed, StatLines};
use crate::settings::VERSION;

/// A number that one thread adds to and any may read.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `more`. Only the counter's own worker may: a load and a store cost less than a locked addition.
    #[inline]
    pub fn add(&self, more: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    pub(super) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What one worker counts. Aligned so that two workers' counters never share a cache line.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct Counters {
            $($(#[$doc])* pub $name: Counter,)*
            pub(super) sampler: Sampler,
        }

        /// The sums over all workers.
        #[derive(Clone, Copy, Debug, Default)]
        struct Totals {
            $($name: u64,)*
        }

        impl Totals {
            fn add(&mut self, counters: &Counters) {
                $(self.$name = self.$name.wrapping_add(counters.$name.value());)*
            }

            fn since(self, base: Totals) -> Totals {
                Totals { $($name: self.$name.wrapping_sub(base.$name),)* }
            }
        }
    };
}

counters! {
    /// Attempts to log in.
    auth_cmds,
    /// Those that failed.
    auth_errors,
    /// Keys asked for.
    cmd_get,
    /// Stores that got as far as the store.
    cmd_set,
    /// Flushes, refused ones included.
    cmd_flush,
    /// Flushes by prefix, refused ones included.
    cmd_flush_prefix,
    /// Touches, with or without a value.
    cmd_touch,
    /// `me`; the other meta commands count as what they do.
    cmd_meta,
    /// Keys found.
    get_hits,
    /// Keys not found.
    get_misses,
    /// Keys not found because their time had passed.
    get_expired,
    /// Deletes of nothing.
    delete_misses,
    /// Deletes of an item.
    delete_hits,
    /// `incr` of nothing.
    incr_misses,
    /// `incr` of a number.
    incr_hits,
    /// `decr` of nothing.
    decr_misses,
    /// `decr` of a number.
    decr_hits,
    /// `cas` of nothing.
    cas_misses,
    /// `cas` that stored.
    cas_hits,
    /// `cas` that came too late.
    cas_badval,
    /// Touches of an item.
    touch_hits,
    /// Touches of nothing.
    touch_misses,
    /// Stores refused for their size.
    store_too_large,
    /// Stores refused for want of room.
    store_no_memory,
    /// Bytes of requests.
    bytes_read,
    /// Bytes of replies.
    bytes_written,
    /// Times a connection had to let others go first.
    conn_yields,
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
    /// Turned away because there were too many.
    pub rejected: AtomicU64,
    /// Turned away because their address was public and nobody had said to serve such.
    pub rejected_public: AtomicU64,
    /// Datagrams dropped for the address they came from.
    pub rejected_datagrams: AtomicU64,
    /// Datagrams dropped because they were no request, or a part of one.
    pub malformed_datagrams: AtomicU64,
    /// Replies in datagrams that the system did not take, or not all of.
    pub dropped_datagrams: AtomicU64,
    /// Closed for being idle.
    pub idle_kicks: AtomicU64,
    /// How often accepting had to stop.
    pub listen_disabled: AtomicU64,
    /// For how long in all, in microseconds.
    pub listen_disabled_us: AtomicU64,
    /// Listeners that do not accept now.
    pub listeners_paused: AtomicU64,
    /// Connections that hold unfinished input.
    pub read_buffers: AtomicU64,
    /// Bytes reserved for it.
    pub read_buffer_bytes: AtomicU64,
    /// Connections closed because there was no room for it.
    pub read_buffer_oom: AtomicU64,
    /// Connections whose clients have not taken all they are owed.
    pub responses: AtomicU64,
    /// Bytes reserved for that; shared values are not among them.
    pub response_bytes: AtomicU64,
    /// Connections closed because there was no room for it.
    pub response_oom: AtomicU64,
    /// Sessions of TLS that were begun, not resumed.
    pub tls_sessions: AtomicU64,
    /// TLS handshakes that failed.
    pub tls_handshake_errors: AtomicU64,
    /// Connections that broke the rules of TLS after their handshake.
    pub tls_protocol_errors: AtomicU64,
}

impl Connections {
    fn totals(&self) -> ConnectionTotals {
        ConnectionTotals {
            total: self.total.load(Ordering::Relaxed),
            rejected: self.rejected.load(Ordering::Relaxed),
            rejected_public: self.rejected_public.load(Ordering::Relaxed),
            rejected_datagrams: self.rejected_datagrams.load(Ordering::Relaxed),
            malformed_datagrams: self.malformed_datagrams.load(Ordering::Relaxed),
            dropped_datagrams: self.dropped_datagrams.load(Ordering::Relaxed),
            idle_kicks: self.idle_kicks.load(Ordering::Relaxed),
            listen_disabled: self.listen_disabled.load(Ordering::Relaxed),
            listen_disabled_us: self.listen_disabled_us.load(Ordering::Relaxed),
            read_buffer_oom: self.read_buffer_oom.load(Ordering::Relaxed),
            response_oom: self.response_oom.load(Ordering::Relaxed),
            tls_sessions: self.tls_sessions.load(Ordering::Relaxed),
            tls_handshake_errors: self.tls_handshake_errors.load(Ordering::Relaxed),
            tls_protocol_errors: self.tls_protocol_errors.load(Ordering::Relaxed),
        }
    }
}

/// The CPU time of this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// In user space.
    pub user: Duration,
    /// In the kernel on its behalf.
    pub system: Duration,
}

/// Everything counted, and what of it `stats reset` has hidden.
#[derive(Debug)]
pub(super) struct Statistics {
    pub(super) workers: Box<[Arc<Counters>]>,
    pub(super) connections: Connections,
    pub(super) usage: fn() -> Usage,
    /// What had been counted at the last reset. Counters themselves belong to their workers and only grow.
    base: Mutex<(Totals, ConnectionTotals)>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ConnectionTotals {
    total: u64,
    rejected: u64,
    rejected_public: u64,
    rejected_datagrams: u64,
    malformed_datagrams: u64,
    dropped_datagrams: u64,
    idle_kicks: u64,
    listen_disabled: u64,
    listen_disabled_us: u64,
    read_buffer_oom: u64,
    response_oom: u64,
    pub(super) tls_sessions: u64,
    pub(super) tls_handshake_errors: u64,
    pub(super) tls_protocol_errors: u64,
}

impl Statistics {
    pub(super) fn new(workers: usize) -> Statistics {
        Statistics {
            workers: (0..workers).map(|_| Arc::default()).collect(),
            connections: Connections::default(),
            usage: Usage::default,
            base: Mutex::default(),
        }
    }

    /// Flushes by prefix since the last reset.
    pub(super) fn prefix_flushes(&self) -> u64 {
        let base = self.base.lock().unwrap_or_else(PoisonError::into_inner).0;
        self.counted().since(base).cmd_flush_prefix
    }

    fn counted(&self) -> Totals {
        let mut totals = Totals::default();
        for counters in &self.workers {
            totals.add(counters);
        }
        totals
    }

    pub(super) fn reset(&self) {
        let now = (self.counted(), self.connections.totals());
        *self.base.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }
}

impl Engine {
    /// What was counted since the last reset.
    fn counted_since_reset(&self) -> Totals {
        let base = *self.statistics.base.lock().unwrap_or_else(PoisonError::into_inner);
        self.statistics.counted().since(base.0)
    }

    /// `stats`: names and order are memcached's; what only a slab allocator has is 0.
    pub(super) fn say_stats(&self, owed: &mut Owed, now: Tick) {
        let base = *self.statistics.base.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = self.statistics.counted().since(base.0);
        let mut lines = StatLines::new(owed);
        self.say_process(&mut lines, now);
        self.say_connections(&mut lines, base.1);
        say_commands(&mut lines, &counted);
        self.say_network(&mut lines, &counted, base.1);
        self.say_store(&mut lines, base.1);
        lines.end();
    }

    /// `stats network`: what memcached does not count of connections and datagrams, and `stats` therefore does not show.
    pub(super) fn say_own_network(&self, owed: &mut Owed) {
        let base = self.statistics.base.lock().unwrap_or_else(PoisonError::into_inner).1;
        let totals = self.statistics.connections.totals();
        let mut lines = StatLines::new(owed);
        lines.number("rejected_public_connections", totals.rejected_public - base.rejected_public);
        lines.number("rejected_datagrams", totals.rejected_datagrams - base.rejected_datagrams);
        lines.number("malformed_datagrams", totals.malformed_datagrams - base.malformed_datagrams);
        lines.number("dropped_datagrams", totals.dropped_datagrams - base.dropped_datagrams);
        lines.end();
    }

    fn say_process(&self, lines: &mut StatLines<'_>, now: Tick) {
        let usage = (self.statistics.usage)();
        lines.number("pid", u64::from(std::process::id()));
        lines.number("uptime", u64::from(now.seconds_since(Tick(0))));
        lines.number("time", self.epoch.unix_seconds(now));
        lines.text("version", VERSION);
        lines.text("libevent", "tokio-1");
        lines.number("pointer_size", u64::from(usize::BITS));
        lines.seconds("rusage_user", usage.user);
        lines.seconds("rusage_system", usage.system);
    }

    fn say_connections(&self, lines: &mut StatLines<'_>, base: ConnectionTotals) {
        let connections = &self.statistics.connections;
        let totals = connections.totals();
        lines.number("max_connections", u64::from(self.settings.connections_max));
        lines.number("curr_connections", connections.current.load(Ordering::Relaxed));
        lines.number("total_connections", totals.total - base.total);
        if self.settings.maxconns_fast {
            lines.number("rejected_connections", totals.rejected - base.rejected);
        }
        lines.number("connection_structures", connections.most.load(Ordering::Relaxed));
        lines.number("response_obj_oom", totals.response_oom - base.response_oom);
        lines.number("response_obj_count", connections.responses.load(Ordering::Relaxed));
        lines.number("response_obj_bytes", connections.response_bytes.load(Ordering::Relaxed));
        lines.number("read_buf_count", connections.read_buffers.load(Ordering::Relaxed));
        lines.number("read_buf_bytes", connections.read_buffer_bytes.load(Ordering::Relaxed));
        lines.number("read_buf_bytes_free", 0);
        lines.number("read_buf_oom", totals.read_buffer_oom - base.read_buffer_oom);
        lines.number("reserved_fds", 0);
    }

    fn say_network(&self, lines: &mut StatLines<'_>, counted: &Totals, base: ConnectionTotals) {
        let connections = &self.statistics.connections;
        let totals = connections.totals();
        if self.settings.idle_seconds_max > 0 {
            lines.number("idle_kicks", totals.idle_kicks - base.idle_kicks);
        }
        lines.number("bytes_read", counted.bytes_read);
        lines.number("bytes_written", counted.bytes_written);
        lines.number("limit_maxbytes", self.store.memory_bytes());
        lines.number("accepting_conns", u64::from(connections.listeners_paused.load(Ordering::Relaxed) == 0));
        lines.number("listen_disabled_num", totals.listen_disabled - base.listen_disabled);
        lines.number("time_in_listen_disabled_us", totals.listen_disabled_us - base.listen_disabled_us);
        lines.number("threads", self.settings.threads as u64);
        lines.number("conn_yields", counted.conn_yields);
    }

    fn say_store(&self, lines: &mut StatLines<'_>, base: ConnectionTotals) {
        let store = self.store.stats();
        let compat = &self.settings.compat;
        lines.number("hash_power_level", store.index_power);
        lines.number("hash_bytes", store.index_bytes);
        lines.number("hash_is_expanding", 0);
        if compat.slab_reassign {
            zeros(
                lines,
                &[
                    "slab_reassign_rescues",
                    "slab_reassign_chunk_rescues",
                    "slab_reassign_inline_reclaim",
                    "slab_reassign_busy_items",
                    "slab_reassign_busy_deletes",
                    "slab_reassign_busy_nomem",
                ],
            );
            lines.text("slab_reassign_last_busy_status", "none");
            zeros(lines, &["slab_reassign_running", "slabs_moved"]);
        }
        if self.sweep_enabled() {
            lines.number("lru_crawler_running", self.listings.running());
            lines.number("lru_crawler_starts", self.listings.starts());
        }
        if compat.lru_maintainer {
            lines.number("lru_maintainer_juggles", 0);
        }
        lines.number("malloc_fails", 0);
        let (watch, watchers) = self.watch.stats();
        lines.number("log_worker_dropped", watch.dropped);
        lines.number("log_worker_written", watch.written);
        lines.number("log_watcher_skipped", watch.skipped);
        lines.number("log_watcher_sent", watch.sent);
        lines.number("log_watchers", watchers as u64);
        self.say_tls(lines, self.statistics.connections.totals(), base);
        zeros(lines, &["unexpected_napi_ids", "round_robin_fallback"]);
        lines.number("bytes", store.bytes);
        lines.number("curr_items", store.items);
        lines.number("total_items", store.total_items);
        lines.number("slab_global_page_pool", 0);
        lines.number("expired_unfetched", store.expired_unfetched);
        lines.number("evicted_unfetched", store.evicted_unfetched);
        if compat.lru_maintainer {
            lines.number("evicted_active", store.evicted_active);
        }
        lines.number("evictions", store.evictions);
        lines.number("reclaimed", store.reclaimed);
        lines.number("crawler_reclaimed", store.swept);
        lines.number("crawler_items_checked", store.sweep_checked);
        lines.number("lrutail_reflocked", 0);
        if compat.lru_maintainer {
            zeros(
                lines,
                &[
                    "moves_to_cold",
                    "moves_to_warm",
                    "moves_within_lru",
                    "direct_reclaims",
                    "lru_bumps_dropped",
                ],
            );
        }
    }
}

fn zeros(lines: &mut StatLines<'_>, names: &[&str]) {
    names.iter().for_each(|name| lines.number(name, 0));
}

fn say_commands(lines: &mut StatLines<'_>, counted: &Totals) {
    lines.number("cmd_get", counted.cmd_get);
    lines.number("cmd_set", counted.cmd_set);
    lines.number("cmd_flush", counted.cmd_flush);
    lines.number("cmd_touch", counted.cmd_touch);
    lines.number("cmd_meta", counted.cmd_meta);
    lines.number("get_hits", counted.get_hits);
    lines.number("get_misses", counted.get_misses);
    lines.number("get_expired", counted.get_expired);
    // What was flushed is gone at once, so a read cannot come across it.
    lines.number("get_flushed", 0);
    lines.number("delete_misses", counted.delete_misses);
    lines.number("delete_hits", counted.delete_hits);
    lines.number("incr_misses", counted.incr_misses);
    lines.number("incr_hits", counted.incr_hits);
    lines.number("decr_misses", counted.decr_misses);
    lines.number("decr_hits", counted.decr_hits);
    lines.number("cas_misses", counted.cas_misses);
    lines.number("cas_hits", counted.cas_hits);
    lines.number("cas_badval", counted.cas_badval);
    lines.number("touch_hits", counted.touch_hits);
    lines.number("touch_misses", counted.touch_misses);
    lines.number("store_too_large", counted.store_too_large);
    lines.number("store_no_memory", counted.store_no_memory);
    lines.number("auth_cmds", counted.auth_cmds);
    lines.number("auth_errors", counted.auth_errors);
}
