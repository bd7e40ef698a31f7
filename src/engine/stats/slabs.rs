//! `stats items` and `stats slabs`: what tools written for slab classes and LRU lists ask for.
//!
//! There is one class, number 1, as soon as there is an item, and it holds everything. Its "chunk" is the mean item;
//! its "pages" are what is taken from the memory limit, by the megabyte; its hot list is the queue where items come
//! in, its warm list the one they go to once they have proved themselves. What only memcached's lists have is 0.

use crate::clock::Tick;
use crate::engine::Engine;
use crate::engine::stats::Totals;
use crate::protocol::{Owed, StatLines};

/// What memcached calls a page, in bytes.
const PAGE_BYTES: u64 = 1 << 20;

impl Engine {
    /// `stats items`.
    pub(in crate::engine) fn say_items(&self, owed: &mut Owed, now: Tick) {
        let store = self.store.stats();
        let mut lines = StatLines::new(owed);
        if store.items > 0 {
            let queues = self.store.queues(now);
            let (hot, warm) = (queues.probation, queues.main);
            let counted = self.counted_since_reset();
            let has_temporary = self.compat().temporary_ttl.is_some();
            let mut number = |name: &str, value| lines.number(&format!("items:1:{name}"), value);
            number("number", store.items);
            number("number_hot", hot.items);
            number("number_warm", warm.items);
            number("number_cold", 0);
            if has_temporary {
                number("number_temp", 0);
            }
            number("age_hot", hot.head_idle_seconds);
            number("age_warm", warm.head_idle_seconds);
            number("age", hot.head_idle_seconds.max(warm.head_idle_seconds));
            number("mem_requested", store.bytes);
            number("evicted", store.evictions);
            number("evicted_nonzero", store.evicted_nonzero);
            number("evicted_time", store.evicted_idle_seconds);
            number("outofmemory", counted.store_no_memory);
            number("tailrepairs", 0);
            number("reclaimed", store.reclaimed);
            number("expired_unfetched", store.expired_unfetched);
            number("evicted_unfetched", store.evicted_unfetched);
            if self.settings.compat.lru_maintainer {
                number("evicted_active", store.evicted_active);
            }
            number("crawler_reclaimed", store.swept);
            number("crawler_items_checked", store.sweep_checked);
            number("lrutail_reflocked", 0);
            if self.settings.compat.lru_maintainer {
                for name in ["moves_to_cold", "moves_to_warm", "moves_within_lru", "direct_reclaims"] {
                    number(name, 0);
                }
                for name in ["hits_to_hot", "hits_to_warm", "hits_to_cold", "hits_to_temp"] {
                    number(name, 0);
                }
            }
        }
        lines.end();
    }

    /// `stats slabs`.
    pub(in crate::engine) fn say_slabs(&self, owed: &mut Owed) {
        let store = self.store.stats();
        let counted = self.counted_since_reset();
        let mut lines = StatLines::new(owed);
        if store.items > 0 {
            let chunk_bytes = store.bytes.div_ceil(store.items).max(1);
            let chunks_per_page = (PAGE_BYTES / chunk_bytes).max(1);
            let pages = store.held_bytes.div_ceil(PAGE_BYTES).max(1);
            let chunks = (pages * chunks_per_page).max(store.items);
            let mut number = |name: &str, value| lines.number(&format!("1:{name}"), value);
            number("chunk_size", chunk_bytes);
            number("chunks_per_page", chunks_per_page);
            number("total_pages", pages);
            number("total_chunks", chunks);
            number("used_chunks", store.items);
            number("free_chunks", chunks - store.items);
            number("free_chunks_end", 0);
            say_counted(&counted, number);
        }
        lines.number("active_slabs", u64::from(store.items > 0));
        lines.number("total_malloced", store.held_bytes);
        lines.end();
    }
}

fn say_counted(counted: &Totals, mut number: impl FnMut(&str, u64)) {
    number("get_hits", counted.get_hits);
    number("cmd_set", counted.cmd_set);
    number("delete_hits", counted.delete_hits);
    number("incr_hits", counted.incr_hits);
    number("decr_hits", counted.decr_hits);
    number("cas_hits", counted.cas_hits);
    number("cas_badval", counted.cas_badval);
    number("touch_hits", counted.touch_hits);
}
