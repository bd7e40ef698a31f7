//! Segments: taken, freed, discarded, and records that change their length where they lie.

use super::*;
use crate::clock::Deadline;
use crate::store::header::Layout;
use crate::store::item::Marks;
use crate::store::memory::{PAGE_BYTES, Region};

const LAYOUT: Layout =
    Layout { flags: 0, deadline: Deadline::NEVER, write: 1, cas: 1, marks: Marks(0), is_large: false };

fn arena() -> Arena {
    let (mut stripes, _) = Region::reserve(8 * PAGE_BYTES).unwrap().into_stripes(1, 12);
    Arena::new(stripes.remove(1))
}

fn put(arena: &mut Arena, id: SegmentId, value_len: usize) -> usize {
    let at = arena.append(id, LAYOUT.record_bytes(3, value_len));
    LAYOUT.write(arena.record_mut(at), b"key", value_len, Tick(1));
    at
}

#[test]
fn segments_are_taken_freed_and_discarded() {
    let mut arena = arena();
    let ids: Vec<_> = (0..4).map(|_| arena.take_fresh(Queue::Main, Tick(0)).unwrap()).collect();
    assert!(arena.take_fresh(Queue::Main, Tick(0)).is_none(), "the address space is used up");
    ids.iter().for_each(|&id| arena.stripes.tail_mut(arena.start(id)).fill(1));
    assert_eq!(arena.resident_head(), 4 * PAGE_BYTES);
    arena.free(ids[2]);
    assert_eq!(arena.take_free(Queue::Probation, Tick(0)), Some(ids[2]));
    arena.free(ids[2]);
    assert!(arena.discard_one() && !arena.discard_one());
    assert_eq!(arena.resident_head(), 2 * PAGE_BYTES);
    arena.free(ids[3]);
    assert_eq!(arena.take_free(Queue::Main, Tick(0)), Some(ids[2]), "the gap is filled");
    assert_eq!(arena.resident_head(), 3 * PAGE_BYTES);
    assert_eq!(arena.record(arena.start(ids[2]))[0], 0);
}

#[test]
fn records_shrink_and_grow_in_place() {
    let mut arena = arena();
    let id = arena.take_fresh(Queue::Main, Tick(0)).unwrap();
    let (first, second) = (put(&mut arena, id, 85), put(&mut arena, id, 5));
    let resize = |arena: &mut Arena, at, old, new, growable| {
        assert_eq!(arena.growable(at, old), growable);
        LAYOUT.write(arena.record_mut(at), b"key", new - 15, Tick(1));
        arena.resize(at, old, new, growable);
    };
    resize(&mut arena, first, 100, 40, 100);
    resize(&mut arena, first, 40, 60, 100);
    resize(&mut arena, first, 60, 100, 100);
    resize(&mut arena, first, 100, 60, 100);
    resize(&mut arena, second, 20, 24, PAGE_BYTES - 100);
    let mut seen = Vec::new();
    arena.validate(|_, at, _| seen.push(at));
    assert_eq!(seen, [first, second]);
    assert!(!arena.mark_dead(first, 60));
    assert_eq!(arena.next_live(first, arena.end(id)).map(|(at, _)| at), Some(second));
    assert!(arena.mark_dead(second, 24));
}
