//! The rows of `stats items` and `stats slabs`, for tools that expect slab classes and LRU lists.
//!
//! There is one class, number 1, as soon as there is an item, and it holds all items. Its "chunk" has the size of the
//! mean item; its "pages" are the megabytes taken from the memory limit; its hot list is the probation queue, where items
//! begin, and its warm list the main queue, where they go once they were used. Rows that only memcached's lists could
//! fill are 0.

use super::general::NO_LISTS;
use super::numbers::Numbers;
use super::row::{Condition, Row, counter, gauge, never, zero};

/// What memcached calls a page, in bytes.
const PAGE_BYTES: u64 = 1 << 20;

const ITEMS_THERE: Condition = Condition { words: "while there are items", holds: has_items };
const LRU_MAINTAINER: Condition = Condition {
    words: "while there are items, without -o no_lru_maintainer",
    holds: |n| has_items(n) && n.settings().compat.lru_maintainer,
};
const TEMPORARY: Condition = Condition {
    words: "while there are items, with -o temporary_ttl or lru temp_ttl",
    holds: |n| has_items(n) && n.compat().temporary_ttl.is_some(),
};

fn has_items(numbers: &Numbers<'_>) -> bool {
    numbers.store().items > 0
}

/// `stats items`.
pub(in crate::engine) static ITEMS: &[Row] = &[
    gauge("items:1:number", |n| n.store().items).says("Items stored now.").when(ITEMS_THERE),
    gauge("items:1:number_hot", |n| n.queues().probation.items)
        .says("Items in the queue where they come in.")
        .when(ITEMS_THERE),
    gauge("items:1:number_warm", |n| n.queues().main.items)
        .says("Items in the queue they go to when they were read.")
        .when(ITEMS_THERE),
    zero("items:1:number_cold").says("Always 0: there are two queues.").when(ITEMS_THERE),
    zero("items:1:number_temp").says("Always 0: there are two queues.").when(TEMPORARY),
    gauge("items:1:age_hot", |n| n.queues().probation.head_idle_seconds)
        .says("Seconds since the last access of the item that eviction looks at next where items come in.")
        .when(ITEMS_THERE),
    gauge("items:1:age_warm", |n| n.queues().main.head_idle_seconds)
        .says("The same of the other queue.")
        .when(ITEMS_THERE),
    gauge("items:1:age", age_seconds).says("The greater of the two, in seconds.").when(ITEMS_THERE),
    gauge("items:1:mem_requested", |n| n.store().bytes)
        .says("Memory of the items, in bytes, with their keys and what is kept of them.")
        .when(ITEMS_THERE),
    counter("items:1:evicted", |n| n.store().evictions)
        .says("Items that had not expired and were dropped to make room for others.")
        .when(ITEMS_THERE),
    counter("items:1:evicted_nonzero", |n| n.store().evicted_nonzero)
        .says("Of these, items with an exptime.")
        .when(ITEMS_THERE),
    gauge("items:1:evicted_time", |n| n.store().evicted_idle_seconds)
        .says("Seconds for which the last evicted item had not been read, the longest of all shards; stats reset forgets it.")
        .when(ITEMS_THERE),
    counter("items:1:outofmemory", |n| n.workers(|c| &c.store_no_memory))
        .says("Values refused because there was no memory for them.")
        .when(ITEMS_THERE),
    never("items:1:tailrepairs").says("Always 0: no item is locked while it is read.").when(ITEMS_THERE),
    counter("items:1:reclaimed", |n| n.store().reclaimed)
        .says("Expired items whose memory was taken back when room was needed.")
        .when(ITEMS_THERE),
    counter("items:1:expired_unfetched", |n| n.store().expired_unfetched)
        .says("Expired items that were freed and had never been read.")
        .when(ITEMS_THERE),
    counter("items:1:evicted_unfetched", |n| n.store().evicted_unfetched)
        .says("Evicted items that had never been read.")
        .when(ITEMS_THERE),
    counter("items:1:evicted_active", |n| n.store().evicted_active)
        .says("Evicted items that had been read not long before.")
        .when(LRU_MAINTAINER),
    counter("items:1:crawler_reclaimed", |n| n.store().swept)
        .says("Expired items freed in the background.")
        .when(ITEMS_THERE),
    counter("items:1:crawler_items_checked", |n| n.store().sweep_checked)
        .says("Items looked at in the background to find expired ones.")
        .when(ITEMS_THERE),
    never("items:1:lrutail_reflocked")
        .says("Always 0: no item is locked while it is read.")
        .when(ITEMS_THERE),
    never("items:1:moves_to_cold").says(NO_LISTS).when(LRU_MAINTAINER),
    never("items:1:moves_to_warm").says(NO_LISTS).when(LRU_MAINTAINER),
    never("items:1:moves_within_lru").says(NO_LISTS).when(LRU_MAINTAINER),
    never("items:1:direct_reclaims")
        .says("Always 0: the worker that needs room makes it, which evicted and reclaimed count.")
        .when(LRU_MAINTAINER),
    never("items:1:hits_to_hot").says(NO_HITS).when(LRU_MAINTAINER),
    never("items:1:hits_to_warm").says(NO_HITS).when(LRU_MAINTAINER),
    never("items:1:hits_to_cold").says(NO_HITS).when(LRU_MAINTAINER),
    never("items:1:hits_to_temp").says(NO_HITS).when(LRU_MAINTAINER),
];

const NO_HITS: &str = "Always 0: hits are not counted by queue.";

fn age_seconds(numbers: &Numbers<'_>) -> u64 {
    let queues = numbers.queues();
    queues.probation.head_idle_seconds.max(queues.main.head_idle_seconds)
}

/// `stats slabs`.
pub(in crate::engine) static SLABS: &[Row] = &[
    gauge("1:chunk_size", chunk_bytes).says("Size of the mean item, in bytes.").when(ITEMS_THERE),
    gauge("1:chunks_per_page", chunks_per_page)
        .says("How many such items a megabyte has room for.")
        .when(ITEMS_THERE),
    gauge("1:total_pages", pages).says("Megabytes taken for items.").when(ITEMS_THERE),
    gauge("1:total_chunks", chunks)
        .says("How many items of the mean size the megabytes taken have room for.")
        .when(ITEMS_THERE),
    gauge("1:used_chunks", |n| n.store().items).says("Items stored now.").when(ITEMS_THERE),
    gauge("1:free_chunks", |n| chunks(n) - n.store().items)
        .says("total_chunks less used_chunks.")
        .when(ITEMS_THERE),
    zero("1:free_chunks_end").says("Always 0: there are no pages with an end.").when(ITEMS_THERE),
    counter("1:get_hits", |n| n.workers(|c| &c.get_hits))
        .says("Keys asked for that were there.")
        .when(ITEMS_THERE),
    counter("1:cmd_set", |n| n.workers(|c| &c.cmd_set))
        .says("Values to be stored, whether they were or not; one that is too large does not count.")
        .when(ITEMS_THERE),
    counter("1:delete_hits", |n| n.workers(|c| &c.delete_hits)).says("Deletes of items.").when(ITEMS_THERE),
    counter("1:incr_hits", |n| n.workers(|c| &c.incr_hits)).says("Increments of numbers.").when(ITEMS_THERE),
    counter("1:decr_hits", |n| n.workers(|c| &c.decr_hits)).says("Decrements of numbers.").when(ITEMS_THERE),
    counter("1:cas_hits", |n| n.workers(|c| &c.cas_hits))
        .says("cas that stored its value.")
        .when(ITEMS_THERE),
    counter("1:cas_badval", |n| n.workers(|c| &c.cas_badval))
        .says("cas that stored nothing, because the item had changed since it was read.")
        .when(ITEMS_THERE),
    counter("1:touch_hits", |n| n.workers(|c| &c.touch_hits))
        .says("Exptimes that were changed.")
        .when(ITEMS_THERE),
    gauge("active_slabs", |n| u64::from(has_items(n))).says("1 while there are items, 0 otherwise."),
    gauge("total_malloced", |n| n.store().held_bytes).says("Memory taken for items, used or not, in bytes."),
];

fn chunk_bytes(numbers: &Numbers<'_>) -> u64 {
    let store = numbers.store();
    store.bytes.div_ceil(store.items.max(1)).max(1)
}

fn chunks_per_page(numbers: &Numbers<'_>) -> u64 {
    (PAGE_BYTES / chunk_bytes(numbers)).max(1)
}

fn pages(numbers: &Numbers<'_>) -> u64 {
    numbers.store().held_bytes.div_ceil(PAGE_BYTES).max(1)
}

fn chunks(numbers: &Numbers<'_>) -> u64 {
    (pages(numbers) * chunks_per_page(numbers)).max(numbers.store().items)
}
