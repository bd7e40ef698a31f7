use std::mem::offset_of;
use std::ops::Range;
use std::sync::Mutex;

use super::*;
use crate::store::index::INDEX_HOT;
use crate::store::segment::ARENA_HOT;

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
