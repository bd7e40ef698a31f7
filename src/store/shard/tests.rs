use std::mem::offset_of;
use std::ops::Range;
use std::sync::Mutex;

use super::*;
use crate::clock::Deadline;
use crate::store::index::INDEX_HOT;
use crate::store::item::{Cas, Content, Draft};
use crate::store::segment::ARENA_HOT;
use crate::store::shards::Store;
use crate::store::sizing::StoreConfig;

#[test]
fn what_every_look_up_reads_of_a_shard_is_in_three_lines() {
    const LINE_BYTES: usize = 64;
    let lock_bytes = size_of::<Mutex<Shard>>() - size_of::<Shard>();
    let [index, flushes, arena] =
        [offset_of!(Shard, index), offset_of!(Shard, flushes), offset_of!(Shard, arena)]
            .map(|offset| lock_bytes + offset);
    let lines = |part: Range<usize>| (part.start / LINE_BYTES, (part.end - 1) / LINE_BYTES);
    assert_eq!(lines(0..index), (0, 0), "the lock, and the fields before the index");
    assert_eq!(lines(index + INDEX_HOT.start..index + INDEX_HOT.end), (2, 2));
    assert_eq!(lines(flushes..flushes + size_of::<usize>()), (3, 3));
    assert_eq!(lines(arena + ARENA_HOT.start..arena + ARENA_HOT.end), (3, 3));
}

#[test]
fn a_store_keeps_its_sums_with_uploaded_values() {
    let store = Store::new(StoreConfig { memory_bytes: 4 << 20, evictions_enabled: true, workers: 1 });
    let put = |content: Content<'_>| {
        let draft =
            Draft { content, flags: 0, deadline: Deadline::NEVER, cas: Cas::Next, marks: Marks::default() };
        store.update(store.hash(b"key"), Tick(1), |_| (Change::Put(draft), ())).1.expect("there is memory");
        store.validate();
    };
    let read = |look: &dyn Fn(&[u8])| {
        store.read(store.hash(b"key"), Tick(1), Access::Use, |found| look(found.item().unwrap().value));
    };
    assert!(store.lend(1000, 1000).is_none(), "such a value is not large");
    // A line that makes the block a page longer than the value, and one that does not.
    for line_bytes in [10, 2000] {
        let bytes = line_bytes + 2 * PAGE_BYTES + 2;
        for is_new in [true, false] {
            let mut upload = store.lend(bytes, bytes).expect("there are addresses");
            upload.free_mut().fill(b'v');
            upload.advance(bytes);
            let offer = upload.offer();
            let value = &upload.bytes()[line_bytes..][..2 * PAGE_BYTES];
            put(if is_new { Content::Whole(value) } else { Content::Changed(value) });
            read(&|stored| assert_eq!(stored.as_ptr(), value.as_ptr()));
            drop(offer);
        }
        put(Content::Same);
        put(Content::Append(b"more"));
        put(Content::Append(b"and more"));
        read(&|stored| assert_eq!(stored, [&[b'v'; 2 * PAGE_BYTES][..], b"moreand more"].concat()));
    }
    store.flush();
    store.validate();
}

#[test]
fn under_a_lower_limit_spare_blocks_go_before_items() {
    let store = Store::new(StoreConfig { memory_bytes: 4 << 20, evictions_enabled: true, workers: 1 });
    let put = |key: &str, value: &[u8]| {
        let draft = Draft {
            content: Content::Whole(value),
            flags: 0,
            deadline: Deadline::NEVER,
            cas: Cas::Next,
            marks: Marks::default(),
        };
        store.update(store.hash(key.as_bytes()), Tick(1), |_| (Change::Put(draft), ())).1.unwrap();
    };
    put("large", &[b'v'; 1 << 20]);
    put("large", b"short");
    let before = store.common.budget.used();
    assert!(store.common.pool.spare_bytes() >= 1 << 20);
    assert!(store.set_memory_bytes(before - (1 << 19)));
    store.settle_debt(Tick(1), 1 << 10);
    assert_eq!((store.common.pool.spare_bytes(), store.common.budget.debt()), (0, 0));
    assert_eq!(store.stats().items, 1);
}
