//! The rows of `stats`, with memcached's names in memcached's order, and those of `stats network` and `stats prefixes`,
//! which memcached does not have.

use super::numbers::Numbers;
use super::row::{Condition, Row, counter, gauge, never, seconds, text, zero};
use crate::clock::Tick;
use crate::settings::VERSION;

const FAST_REFUSAL: Condition =
    Condition { words: "without -o no_maxconns_fast", holds: |numbers| numbers.settings().maxconns_fast };
const IDLE_TIMEOUT: Condition =
    Condition { words: "with -o idle_timeout", holds: |numbers| numbers.settings().idle_seconds_max > 0 };
const SLAB_REASSIGN: Condition = Condition {
    words: "without -o no_slab_reassign",
    holds: |numbers| numbers.settings().compat.slab_reassign,
};
const LRU_CRAWLER: Condition =
    Condition { words: "while lru_crawler is enabled", holds: |numbers| numbers.engine.sweep_enabled() };
pub(super) const LRU_MAINTAINER: Condition = Condition {
    words: "without -o no_lru_maintainer",
    holds: |numbers| numbers.settings().compat.lru_maintainer,
};
const TLS: Condition = Condition { words: "with -Z", holds: |numbers| has_tls(numbers) };
const TLS_SESSIONS: Condition = Condition {
    words: "with -Z and -o ssl_session_cache",
    holds: |numbers| has_tls(numbers) && numbers.settings().tls.session_cache,
};

pub(super) const NO_SLABS: &str = "Always 0: there are no slab classes to move memory between.";
pub(super) const NO_LISTS: &str = "Always 0: there are no LRU lists to move items between.";

fn has_tls(numbers: &Numbers<'_>) -> bool {
    numbers.engine.certificates().get().is_some()
}

/// `stats`.
pub(in crate::engine) static STATS: &[Row] = &[
    gauge("pid", |_| u64::from(std::process::id())).says("Number of the server's process."),
    gauge("uptime", |n| u64::from(n.now.seconds_since(Tick(0)))).says("Seconds since the server started."),
    gauge("time", |n| n.engine.epoch().unix_seconds(n.now)).says("Unix time of the server, in seconds."),
    text("version", |_| VERSION.into())
        .says("Version of memcached that the server speaks like, and its own."),
    text("libevent", |_| "tokio-1".into()).says("What waits for sockets in the place of libevent."),
    gauge("pointer_size", |_| u64::from(usize::BITS)).says("Size of a pointer, in bits."),
    seconds("rusage_user", |n| n.usage().user)
        .says("CPU time that the process has spent in user space, in seconds."),
    seconds("rusage_system", |n| n.usage().system)
        .says("CPU time that the kernel has spent for the process, in seconds."),
    gauge("max_connections", |n| u64::from(n.settings().connections_max))
        .says("The most clients that may be connected at once: -c, or fewer if the system allows fewer."),
    gauge("curr_connections", |n| n.network(|c| &c.current)).says("Connections open now."),
    counter("total_connections", |n| n.network(|c| &c.total)).says("Connections opened."),
    counter("rejected_connections", |n| n.network(|c| &c.rejected))
        .says("Connections refused because there were as many as -c allows.")
        .when(FAST_REFUSAL),
    gauge("connection_structures", |n| n.network(|c| &c.most))
        .says("The most connections that were open at once since the start."),
    counter("response_obj_oom", |n| n.network(|c| &c.response_oom))
        .says("Connections closed because replies they had not read took memory that others needed."),
    gauge("response_obj_count", |n| n.network(|c| &c.responses))
        .says("Connections whose clients have not read all of their replies."),
    gauge("response_obj_bytes", |n| n.network(|c| &c.response_bytes))
        .says("Memory that holds unread replies, in bytes, without large values, which are not copied."),
    gauge("read_buf_count", |n| n.network(|c| &c.read_buffers))
        .says("Connections that have sent a part of a request."),
    gauge("read_buf_bytes", |n| n.network(|c| &c.read_buffer_bytes))
        .says("Memory that holds such parts, in bytes."),
    zero("read_buf_bytes_free").says("Always 0: no buffer is kept for later."),
    counter("read_buf_oom", |n| n.network(|c| &c.read_buffer_oom))
        .says("Connections closed because there was no memory for their requests."),
    zero("reserved_fds").says("Always 0: descriptors the server itself needs are not part of -c."),
    counter("cmd_get", |n| n.workers(|c| &c.get_hits) + n.workers(|c| &c.get_misses)).says("Keys asked for."),
    counter("cmd_set", |n| n.workers(|c| &c.cmd_set))
        .says("Values to be stored, whether they were or not; one that is too large does not count."),
    counter("cmd_flush", |n| n.workers(|c| &c.cmd_flush)).says("flush_all commands, refused ones included."),
    counter("cmd_touch", |n| n.workers(|c| &c.cmd_touch))
        .says("Exptimes that were to be changed, by touch or with a get."),
    counter("cmd_meta", |n| n.workers(|c| &c.cmd_meta))
        .says("me commands; the other meta commands count as what they do."),
    counter("get_hits", |n| n.workers(|c| &c.get_hits)).says("Keys asked for that were there."),
    counter("get_misses", |n| n.workers(|c| &c.get_misses)).says("Keys asked for that were not there."),
    counter("get_expired", |n| n.workers(|c| &c.get_expired))
        .says("Of these, keys whose items were found expired."),
    never("get_flushed").says("Always 0: what was flushed is gone at once, so that no get comes across it."),
    counter("delete_misses", |n| n.workers(|c| &c.delete_misses))
        .says("Deletes of keys that were not there."),
    counter("delete_hits", |n| n.workers(|c| &c.delete_hits)).says("Deletes of items."),
    counter("incr_misses", |n| n.workers(|c| &c.incr_misses)).says("Increments of keys that were not there."),
    counter("incr_hits", |n| n.workers(|c| &c.incr_hits)).says("Increments of numbers."),
    counter("decr_misses", |n| n.workers(|c| &c.decr_misses)).says("Decrements of keys that were not there."),
    counter("decr_hits", |n| n.workers(|c| &c.decr_hits)).says("Decrements of numbers."),
    counter("cas_misses", |n| n.workers(|c| &c.cas_misses)).says("cas of keys that were not there."),
    counter("cas_hits", |n| n.workers(|c| &c.cas_hits)).says("cas that stored its value."),
    counter("cas_badval", |n| n.workers(|c| &c.cas_badval))
        .says("cas that stored nothing, because the item had changed since it was read."),
    counter("touch_hits", |n| n.workers(|c| &c.touch_hits)).says("Exptimes that were changed."),
    counter("touch_misses", |n| n.workers(|c| &c.touch_misses))
        .says("Exptimes that were to be changed of keys that were not there."),
    counter("store_too_large", |n| n.workers(|c| &c.store_too_large))
        .says("Values refused because they were larger than -I allows."),
    counter("store_no_memory", |n| n.workers(|c| &c.store_no_memory))
        .says("Values refused because there was no memory for them."),
    counter("auth_cmds", |n| n.workers(|c| &c.auth_cmds) + n.network(|c| &c.page_logins))
        .says("Attempts to log in."),
    counter("auth_errors", |n| n.workers(|c| &c.auth_errors) + n.network(|c| &c.page_logins_failed))
        .says("Attempts to log in that failed."),
    counter("idle_kicks", |n| n.network(|c| &c.idle_kicks))
        .says("Connections closed because their clients had not asked for anything for too long.")
        .when(IDLE_TIMEOUT),
    counter("bytes_read", |n| n.workers(|c| &c.bytes_read)).says("Bytes of requests."),
    counter("bytes_written", |n| n.workers(|c| &c.bytes_written)).says("Bytes of replies."),
    gauge("limit_maxbytes", |n| n.engine.store().memory_bytes())
        .says("The most memory that items and their index may take, in bytes (-m, cache_memlimit)."),
    gauge("accepting_conns", |n| u64::from(n.network(|c| &c.listeners_paused) == 0))
        .says("1 while new connections are accepted, 0 while they have to wait."),
    counter("listen_disabled_num", |n| n.network(|c| &c.listen_disabled))
        .says("How often accepting connections was paused, for want of a place or of a file descriptor."),
    counter("time_in_listen_disabled_us", |n| n.network(|c| &c.listen_disabled_us))
        .says("For how long it was paused in all, in microseconds."),
    gauge("threads", |n| n.settings().threads as u64).says("Threads that serve clients (-t)."),
    counter("conn_yields", |n| n.workers(|c| &c.conn_yields))
        .says("How often a connection had to let others go first, after as many requests as -R allows."),
    gauge("hash_power_level", |n| n.store().index_power)
        .says("Base-2 logarithm of the number of places in the index."),
    gauge("hash_bytes", |n| n.store().index_bytes).says("Memory of the index, in bytes."),
    zero("hash_is_expanding").says("Always 0: the index grows in small steps as items come."),
    never("slab_reassign_rescues").says(NO_SLABS).when(SLAB_REASSIGN),
    never("slab_reassign_chunk_rescues").says(NO_SLABS).when(SLAB_REASSIGN),
    never("slab_reassign_inline_reclaim").says(NO_SLABS).when(SLAB_REASSIGN),
    never("slab_reassign_busy_items").says(NO_SLABS).when(SLAB_REASSIGN),
    never("slab_reassign_busy_deletes").says(NO_SLABS).when(SLAB_REASSIGN),
    never("slab_reassign_busy_nomem").says(NO_SLABS).when(SLAB_REASSIGN),
    text("slab_reassign_last_busy_status", |_| "none".into())
        .says("Always none: there are no slab classes to move memory between.")
        .when(SLAB_REASSIGN),
    zero("slab_reassign_running").says(NO_SLABS).when(SLAB_REASSIGN),
    never("slabs_moved").says(NO_SLABS).when(SLAB_REASSIGN),
    gauge("lru_crawler_running", |n| n.engine.listings().running())
        .says("Walks over all items that are under way for clients: dumps, crawls, stats sizes.")
        .when(LRU_CRAWLER),
    counter("lru_crawler_starts", |n| n.engine.listings().starts())
        .says("Walks over all items that clients have started.")
        .when(LRU_CRAWLER),
    never("lru_maintainer_juggles").says(NO_LISTS).when(LRU_MAINTAINER),
    never("malloc_fails")
        .says("Always 0: read_buf_oom, response_obj_oom and store_no_memory count what found no memory."),
    counter("log_worker_dropped", |n| n.watch().dropped)
        .says("Events for watch that were lost before they could be formatted."),
    counter("log_worker_written", |n| n.watch().written).says("Events for watch that were formatted."),
    counter("log_watcher_skipped", |n| n.watch().skipped).says(
        "Lines that a client of watch did not get because it read too slowly, counted for each client.",
    ),
    counter("log_watcher_sent", |n| n.watch().sent)
        .says("Lines sent to clients of watch, counted for each client."),
    gauge("log_watchers", |n| n.watchers() as u64).says("Clients of watch now."),
    counter("ssl_new_sessions", |n| n.network(|c| &c.tls_sessions))
        .says("TLS sessions that were begun, not resumed.")
        .when(TLS_SESSIONS),
    counter("ssl_handshake_errors", |n| n.network(|c| &c.tls_handshake_errors))
        .says("TLS handshakes that failed.")
        .when(TLS),
    counter("ssl_proto_errors", |n| n.network(|c| &c.tls_protocol_errors))
        .says("Connections that broke the rules of TLS after their handshake.")
        .when(TLS),
    gauge("time_since_server_cert_refresh", certificate_age_seconds)
        .says("Seconds since the certificates were read from their files.")
        .when(TLS),
    never("unexpected_napi_ids").says("Always 0: -N has no effect."),
    never("round_robin_fallback").says("Always 0: -N has no effect."),
    gauge("bytes", |n| n.store().bytes)
        .says("Memory of the items, in bytes, with their keys and what is kept of them."),
    gauge("curr_items", |n| n.store().items).says("Items stored now, expired ones not yet freed included."),
    counter("total_items", |n| n.store().total_items)
        .says("Items stored; a number that was changed in its place is none."),
    zero("slab_global_page_pool").says(NO_SLABS),
    counter("expired_unfetched", |n| n.store().expired_unfetched)
        .says("Expired items that were freed and had never been read."),
    counter("evicted_unfetched", |n| n.store().evicted_unfetched)
        .says("Evicted items that had never been read."),
    counter("evicted_active", |n| n.store().evicted_active)
        .says("Evicted items that had been read not long before.")
        .when(LRU_MAINTAINER),
    counter("evictions", |n| n.store().evictions)
        .says("Items that had not expired and were dropped to make room for others."),
    counter("reclaimed", |n| n.store().reclaimed)
        .says("Expired items whose memory was taken back when room was needed."),
    counter("crawler_reclaimed", |n| n.store().swept).says("Expired items freed in the background."),
    counter("crawler_items_checked", |n| n.store().sweep_checked)
        .says("Items looked at in the background to find expired ones."),
    never("lrutail_reflocked").says("Always 0: no item is locked while it is read."),
    never("moves_to_cold").says(NO_LISTS).when(LRU_MAINTAINER),
    never("moves_to_warm").says(NO_LISTS).when(LRU_MAINTAINER),
    never("moves_within_lru").says(NO_LISTS).when(LRU_MAINTAINER),
    never("direct_reclaims")
        .says("Always 0: the worker that needs room makes it, which evictions and reclaimed count.")
        .when(LRU_MAINTAINER),
    never("lru_bumps_dropped").says("Always 0: a read moves no item.").when(LRU_MAINTAINER),
];

fn certificate_age_seconds(numbers: &Numbers<'_>) -> u64 {
    numbers.engine.certificates().get().map_or(0, |certificates| certificates.age_seconds())
}

/// `stats network`.
pub(in crate::engine) static NETWORK: &[Row] = &[
    counter("rejected_public_connections", |n| n.network(|c| &c.rejected_public))
        .says("Connections refused because the client's address was public and nothing allowed that."),
    counter("rejected_datagrams", |n| n.network(|c| &c.rejected_datagrams)).says(
        "Datagrams dropped for the address they came from, or because they may be another server's answer.",
    ),
    counter("malformed_datagrams", |n| n.network(|c| &c.malformed_datagrams))
        .says("Datagrams dropped because they were no request, or a part of one."),
    counter("dropped_datagrams", |n| n.network(|c| &c.dropped_datagrams))
        .says("Replies in datagrams that the system did not take, or not all of."),
];

/// What `stats prefixes` shows before the prefixes.
pub(in crate::engine) static PREFIXES: &[Row] = &[
    counter("cmd_flush_prefix", |n| n.workers(|c| &c.cmd_flush_prefix))
        .says("flush_prefix commands, refused ones included."),
    gauge("flush_prefix_waiting", |n| n.store().flushes_waiting)
        .says("flush_prefix commands whose items have not all been found and freed yet."),
];
