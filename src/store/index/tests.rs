//! The index against a map, and what it costs.

use std::collections::HashMap;

use fastrand::Rng;

use super::*;
use crate::store::memory::Region;

fn index() -> Index {
    let bytes = if cfg!(miri) { 4 << 20 } else { 128 << 20 };
    let (mut words, _) = Region::reserve(bytes).unwrap().into_stripes(1, 16);
    let (mut arena, _) = Region::reserve(2 * PAGE_BYTES).unwrap().into_stripes(1, 12);
    Index::new(Arc::new([View::new(Words::new(words.remove(1)), arena.remove(1).addresses())]), 0)
}

fn insert(index: &mut Index, hash: u64, position: u32) {
    if index.wants_page() {
        index.add_page();
    }
    if index.needs_overflow_page(hash) {
        assert!(index.add_overflow_page());
    }
    index.insert(hash, position, 0);
}

/// A different hash for every number, and the top half all zeros, which must not matter.
fn hash(number: u32) -> u64 {
    u64::from(number.wrapping_mul(0x9e37_79b1))
}

/// Miri does as much in minutes as a processor in seconds: under it, tests do one part in so many of their work.
const MIRI_PARTS: u32 = if cfg!(miri) { 100 } else { 1 };

#[test]
fn grows_and_shrinks_as_a_map_would() {
    let mut index = index();
    // Enough for the table to grow, also under Miri.
    let keys = if cfg!(miri) { 500 } else { 30_000 };
    let mut naive = HashMap::new();
    let mut discarded = 0;
    let mut random = Rng::with_seed(1);
    for step in 0..400_000 / MIRI_PARTS {
        let number = random.u32(..keys);
        let wants_more = step % (200_000 / MIRI_PARTS) < 100_000 / MIRI_PARTS;
        match naive.get(&number).copied() {
            None if wants_more || random.u8(..32) == 0 => {
                insert(&mut index, hash(number), step);
                naive.insert(number, step);
            }
            Some(position) if !wants_more => {
                let slot = index.slot_of(hash(number), position).unwrap();
                discarded += index.remove(hash(number), slot);
                naive.remove(&number);
            }
            found => assert_eq!(index.find(hash(number), Some).map(|(_, at)| at), found),
        }
        if step % 20_000 == 0 {
            let by_position: HashMap<_, _> = naive.iter().map(|(&number, &at)| (at, number)).collect();
            index.validate(|position| hash(by_position[&position]));
        }
    }
    assert!(discarded > 0 || cfg!(miri), "shrinking discards pages");
    assert_eq!(index.items(), naive.len());
    let before = index.bytes();
    assert_eq!(index.clear(), before - PAGE_BYTES as u64);
    assert!((0..40_000 / MIRI_PARTS).all(|number| index.find(hash(number), Some).is_none()));
    index.validate(|_| unreachable!("it is empty"));
}

#[test]
fn equal_hashes_are_told_apart_by_position() {
    let mut index = index();
    (0..100).for_each(|position| insert(&mut index, 5, position));
    for position in 0..100 {
        let slot = index.slot_of(5, position).unwrap();
        index.set_frequency(slot, 3);
        assert_eq!(index.frequency(slot), 3);
        index.set_position(slot, position + 1000);
    }
    for position in 1000..1100 {
        let slot = index.slot_of(5, position).unwrap();
        assert_eq!(index.frequency(slot), 3);
        let _ = index.remove(5, slot);
    }
    assert_eq!((index.items(), index.overflow_in_use), (0, 0));
}

#[test]
#[cfg_attr(miri, ignore = "it measures, and the other tests do the same")]
fn costs_fourteen_bytes_an_item() {
    let mut index = index();
    let mut random = Rng::with_seed(1);
    for position in 0..100_000 {
        insert(&mut index, random.u64(..), position);
        if position > 10_000 && position.is_multiple_of(5000) {
            let each = index.bytes() as f64 / f64::from(position);
            assert!(each < 14.7, "{each} bytes each at {position} items");
        }
    }
}

#[test]
fn hints_name_the_position() {
    let mut index = index();
    (0..50_000 / MIRI_PARTS).for_each(|number| insert(&mut index, hash(number), number));
    let guessed = |number| {
        let mut key = Hashed::new(b"", hash(number), 0);
        let view = &index.views[0];
        view.hint_index(&mut key);
        if view.hint_item(&mut key) {
            let _ = view.hint_item(&mut key);
        }
        key.guess as usize
    };
    let right = (0..50_000 / MIRI_PARTS)
        .filter(|&number| index.slot_of(hash(number), number) == Some(SlotId(guessed(number))));
    assert!(right.count() > 49_000 / MIRI_PARTS as usize);
}
