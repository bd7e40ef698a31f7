//! The metrics of memcached's exporter.

use crate::engine::stats::row::Kind;

/// A metric of the exporter's.
pub(super) struct Metric {
    /// Behind `memcached_`.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) help: &'static str,
    pub(super) samples: &'static [Sample],
}

/// A line of a metric: it is shown if the rows it is made of are.
pub(super) struct Sample {
    pub(super) labels: &'static str,
    pub(super) value: Source,
}

/// What a sample is made of.
pub(super) enum Source {
    One,
    Row(&'static str),
    /// The first row less the others.
    Less(&'static str, &'static [&'static str]),
}

const fn counter(name: &'static str, samples: &'static [Sample], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, help, samples }
}

const fn gauge(name: &'static str, samples: &'static [Sample], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, help, samples }
}

const fn row(name: &'static str) -> Sample {
    labelled("", name)
}

/// The one class of slabs that there is.
const fn of_class(name: &'static str) -> Sample {
    labelled(r#"slab="1""#, name)
}

const fn labelled(labels: &'static str, name: &'static str) -> Sample {
    Sample { labels, value: Source::Row(name) }
}

const ONE: &[Sample] = &[Sample { labels: "", value: Source::One }];

const COMMANDS: &[Sample] = &[
    labelled(r#"command="get",status="hit""#, "get_hits"),
    labelled(r#"command="get",status="miss""#, "get_misses"),
    labelled(r#"command="delete",status="hit""#, "delete_hits"),
    labelled(r#"command="delete",status="miss""#, "delete_misses"),
    labelled(r#"command="incr",status="hit""#, "incr_hits"),
    labelled(r#"command="incr",status="miss""#, "incr_misses"),
    labelled(r#"command="decr",status="hit""#, "decr_hits"),
    labelled(r#"command="decr",status="miss""#, "decr_misses"),
    labelled(r#"command="touch",status="hit""#, "touch_hits"),
    labelled(r#"command="touch",status="miss""#, "touch_misses"),
    labelled(r#"command="cas",status="hit""#, "cas_hits"),
    labelled(r#"command="cas",status="miss""#, "cas_misses"),
    labelled(r#"command="cas",status="badval""#, "cas_badval"),
    labelled(r#"command="flush",status="hit""#, "cmd_flush"),
    Sample {
        labels: r#"command="set",status="hit""#,
        value: Source::Less("cmd_set", &["cas_hits", "cas_misses", "cas_badval"]),
    },
];

const SLAB_COMMANDS: &[Sample] = &[
    labelled(r#"slab="1",command="get",status="hit""#, "1:get_hits"),
    labelled(r#"slab="1",command="delete",status="hit""#, "1:delete_hits"),
    labelled(r#"slab="1",command="incr",status="hit""#, "1:incr_hits"),
    labelled(r#"slab="1",command="decr",status="hit""#, "1:decr_hits"),
    labelled(r#"slab="1",command="touch",status="hit""#, "1:touch_hits"),
    labelled(r#"slab="1",command="cas",status="hit""#, "1:cas_hits"),
    labelled(r#"slab="1",command="cas",status="badval""#, "1:cas_badval"),
    Sample {
        labels: r#"slab="1",command="set",status="hit""#,
        value: Source::Less("1:cmd_set", &["1:cas_hits", "1:cas_badval"]),
    },
];

const LRU_HITS: &[Sample] = &[
    labelled(r#"slab="1",lru="hot""#, "items:1:hits_to_hot"),
    labelled(r#"slab="1",lru="warm""#, "items:1:hits_to_warm"),
    labelled(r#"slab="1",lru="cold""#, "items:1:hits_to_cold"),
    labelled(r#"slab="1",lru="temporary""#, "items:1:hits_to_temp"),
];

/// The metrics of the exporter, in its order.
pub(super) static METRICS: &[Metric] = &[
    gauge("up", ONE, "Could the memcached server be reached."),
    counter("uptime_seconds", &[row("uptime")], "Number of seconds since the server started."),
    gauge("time_seconds", &[row("time")], "current UNIX time according to the server."),
    gauge("version", ONE, "The version of this memcached server."),
    counter(
        "process_user_cpu_seconds_total",
        &[row("rusage_user")],
        "Accumulated user time for this process.",
    ),
    counter(
        "process_system_cpu_seconds_total",
        &[row("rusage_system")],
        "Accumulated system time for this process.",
    ),
    counter(
        "read_bytes_total",
        &[row("bytes_read")],
        "Total number of bytes read by this server from network.",
    ),
    counter(
        "written_bytes_total",
        &[row("bytes_written")],
        "Total number of bytes sent by this server to network.",
    ),
    gauge("current_connections", &[row("curr_connections")], "Current number of open connections."),
    gauge("max_connections", &[row("maxconns")], "Maximum number of clients allowed."),
    counter(
        "connections_total",
        &[row("total_connections")],
        "Total number of connections opened since the server started running.",
    ),
    counter(
        "connections_rejected_total",
        &[row("rejected_connections")],
        "Total number of connections rejected due to hitting the memcached's -c limit in maxconns_fast mode.",
    ),
    counter(
        "connections_yielded_total",
        &[row("conn_yields")],
        "Total number of connections yielded running due to hitting the memcached's -R limit.",
    ),
    counter(
        "connections_listener_disabled_total",
        &[row("listen_disabled_num")],
        "Number of times that memcached has hit its connections limit and disabled its listener.",
    ),
    gauge("current_bytes", &[row("bytes")], "Current number of bytes used to store items."),
    gauge(
        "limit_bytes",
        &[row("limit_maxbytes")],
        "Number of bytes this server is allowed to use for storage.",
    ),
    counter(
        "commands_total",
        COMMANDS,
        "Total number of all requests broken down by command (get, set, etc.) and status.",
    ),
    gauge("current_items", &[row("curr_items")], "Current number of items stored by this instance."),
    counter(
        "items_total",
        &[row("total_items")],
        "Total number of items stored during the life of this instance.",
    ),
    counter(
        "items_evicted_total",
        &[row("evictions")],
        "Total number of valid items removed from cache to free memory for new items.",
    ),
    counter(
        "items_reclaimed_total",
        &[row("reclaimed")],
        "Total number of times an entry was stored using memory from an expired entry.",
    ),
    counter(
        "item_too_large_total",
        &[row("store_too_large")],
        "The number of times an item exceeded the max-item-size when being stored.",
    ),
    counter(
        "item_no_memory_total",
        &[row("store_no_memory")],
        "The number of times an item could not be stored due to no more memory.",
    ),
    counter(
        "direct_reclaims_total",
        &[row("direct_reclaims")],
        "Times worker threads had to directly reclaim or evict items.",
    ),
    gauge("lru_crawler_enabled", &[row("lru_crawler")], "Whether the LRU crawler is enabled."),
    gauge("lru_crawler_sleep", &[row("lru_crawler_sleep")], "Microseconds to sleep between LRU crawls."),
    gauge("lru_crawler_to_crawl", &[row("lru_crawler_tocrawl")], "Max items to crawl per slab per run."),
    gauge(
        "lru_crawler_maintainer_thread",
        &[row("lru_maintainer_thread")],
        "Split LRU mode and background threads.",
    ),
    gauge("lru_crawler_hot_percent", &[row("hot_lru_pct")], "Percent of slab memory reserved for HOT LRU."),
    gauge(
        "lru_crawler_warm_percent",
        &[row("warm_lru_pct")],
        "Percent of slab memory reserved for WARM LRU.",
    ),
    gauge(
        "lru_crawler_hot_max_factor",
        &[row("hot_max_factor")],
        "Set idle age of HOT LRU to COLD age * this",
    ),
    gauge(
        "lru_crawler_warm_max_factor",
        &[row("warm_max_factor")],
        "Set idle age of WARM LRU to COLD age * this",
    ),
    counter("lru_crawler_starts_total", &[row("lru_crawler_starts")], "Times an LRU crawler was started."),
    counter("lru_crawler_reclaimed_total", &[row("crawler_reclaimed")], "Total items freed by LRU Crawler."),
    counter(
        "lru_crawler_items_checked_total",
        &[row("crawler_items_checked")],
        "Total items examined by LRU Crawler.",
    ),
    counter(
        "lru_crawler_moves_to_cold_total",
        &[row("moves_to_cold")],
        "Total number of items moved from HOT/WARM to COLD LRU's.",
    ),
    counter(
        "lru_crawler_moves_to_warm_total",
        &[row("moves_to_warm")],
        "Total number of items moved from COLD to WARM LRU.",
    ),
    counter(
        "lru_crawler_moves_within_lru_total",
        &[row("moves_within_lru")],
        "Total number of items reshuffled within HOT or WARM LRU's.",
    ),
    gauge("malloced_bytes", &[row("total_malloced")], "Number of bytes of memory allocated to slab pages."),
    gauge(
        "slab_current_items",
        &[of_class("items:1:number")],
        "Number of items currently stored in this slab class.",
    ),
    gauge(
        "slab_items_age_seconds",
        &[of_class("items:1:age")],
        "Number of seconds the oldest item has been in the slab class.",
    ),
    counter(
        "slab_items_crawler_reclaimed_total",
        &[of_class("items:1:crawler_reclaimed")],
        "Number of items freed by the LRU Crawler.",
    ),
    counter(
        "slab_items_evicted_total",
        &[of_class("items:1:evicted")],
        "Total number of times an item had to be evicted from the LRU before it expired.",
    ),
    counter(
        "slab_items_evicted_nonzero_total",
        &[of_class("items:1:evicted_nonzero")],
        "Total number of times an item which had an explicit expire time set had to be evicted from the LRU \
         before it expired.",
    ),
    counter(
        "slab_items_evicted_time_seconds",
        &[of_class("items:1:evicted_time")],
        "Seconds since the last access for the most recent item evicted from this class.",
    ),
    counter(
        "slab_items_evicted_unfetched_total",
        &[of_class("items:1:evicted_unfetched")],
        "Total nmber of items evicted and never fetched.",
    ),
    counter(
        "slab_items_expired_unfetched_total",
        &[of_class("items:1:expired_unfetched")],
        "Total number of valid items evicted from the LRU which were never touched after being set.",
    ),
    counter(
        "slab_items_outofmemory_total",
        &[of_class("items:1:outofmemory")],
        "Total number of items for this slab class that have triggered an out of memory error.",
    ),
    counter(
        "slab_items_reclaimed_total",
        &[of_class("items:1:reclaimed")],
        "Total number of items reclaimed.",
    ),
    counter(
        "slab_items_tailrepairs_total",
        &[of_class("items:1:tailrepairs")],
        "Total number of times the entries for a particular ID need repairing.",
    ),
    counter(
        "slab_items_moves_to_cold",
        &[of_class("items:1:moves_to_cold")],
        "Number of items moved from HOT or WARM into COLD.",
    ),
    counter(
        "slab_items_moves_to_warm",
        &[of_class("items:1:moves_to_warm")],
        "Number of items moves from COLD into WARM.",
    ),
    counter(
        "slab_items_moves_within_lru",
        &[of_class("items:1:moves_within_lru")],
        "Number of times active items were bumped within HOT or WARM.",
    ),
    gauge(
        "slab_hot_items",
        &[of_class("items:1:number_hot")],
        "Number of items presently stored in the HOT LRU.",
    ),
    gauge(
        "slab_warm_items",
        &[of_class("items:1:number_warm")],
        "Number of items presently stored in the WARM LRU.",
    ),
    gauge(
        "slab_cold_items",
        &[of_class("items:1:number_cold")],
        "Number of items presently stored in the COLD LRU.",
    ),
    gauge(
        "slab_temporary_items",
        &[of_class("items:1:number_temp")],
        "Number of items presently stored in the TEMPORARY LRU.",
    ),
    gauge("slab_hot_age_seconds", &[of_class("items:1:age_hot")], "Age of the oldest item in HOT LRU."),
    gauge("slab_warm_age_seconds", &[of_class("items:1:age_warm")], "Age of the oldest item in HOT LRU."),
    counter("slab_lru_hits_total", LRU_HITS, "Number of get_hits to the LRU."),
    gauge(
        "slab_chunk_size_bytes",
        &[of_class("1:chunk_size")],
        "Number of bytes allocated to each chunk within this slab class.",
    ),
    gauge(
        "slab_chunks_per_page",
        &[of_class("1:chunks_per_page")],
        "Number of chunks within a single page for this slab class.",
    ),
    gauge(
        "slab_current_pages",
        &[of_class("1:total_pages")],
        "Number of pages allocated to this slab class.",
    ),
    gauge(
        "slab_current_chunks",
        &[of_class("1:total_chunks")],
        "Number of chunks allocated to this slab class.",
    ),
    gauge("slab_chunks_used", &[of_class("1:used_chunks")], "Number of chunks allocated to an item."),
    gauge("slab_chunks_free", &[of_class("1:free_chunks")], "Number of chunks not yet allocated items."),
    gauge(
        "slab_chunks_free_end",
        &[of_class("1:free_chunks_end")],
        "Number of free chunks at the end of the last allocated page.",
    ),
    gauge(
        "slab_mem_requested_bytes",
        &[of_class("items:1:mem_requested")],
        "Number of bytes of memory actual items take up within a slab.",
    ),
    counter(
        "slab_commands_total",
        SLAB_COMMANDS,
        "Total number of all requests broken down by command (get, set, etc.) and status per slab.",
    ),
    gauge(
        "accepting_connections",
        &[row("accepting_conns")],
        "The Memcached server is currently accepting new connections.",
    ),
];

impl Metric {
    /// Whether it shows the row `name`, or is made of it.
    pub(super) fn reads(&self, name: &str) -> bool {
        self.samples.iter().any(|sample| match sample.value {
            Source::One => name == self.name,
            Source::Row(read) => read == name,
            Source::Less(read, _) => read == name,
        })
    }
}
