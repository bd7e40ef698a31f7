//! Blocks: who is charged, who may still read, what is spared.

use super::*;

#[test]
fn a_value_is_charged_until_the_last_reader_lets_go() {
    let budget = Arc::new(Budget::new(1 << 20, 1));
    let pool = Pool::new(Arc::clone(&budget), 16 << 20).unwrap();
    for len in [1, 4096, 4097, 100_000, 1_000_000] {
        let content: Vec<u8> = (0..len).map(|at| at as u8).collect();
        budget.take(charge(len));
        let value = pool.value([&content[..len / 3], &content[len / 3..]], End::Back, None).unwrap();
        let reader = value.bytes().clone();
        drop(value);
        assert_eq!(reader, content);
        assert_eq!(budget.used(), charge(len) + pool.spare_bytes());
        drop(reader);
        assert_eq!(budget.used(), pool.spare_bytes());
    }
    assert!(pool.spare_bytes() > 0 && pool.discard_spares());
    assert_eq!(budget.used(), 0);
}

#[test]
fn a_spare_block_keeps_the_pages_that_the_next_value_needs() {
    let budget = Arc::new(Budget::new(1 << 20, 1));
    let pool = Pool::new(Arc::clone(&budget), 16 << 20).unwrap();
    let store = |len: usize, spare: Option<Spare>| {
        budget.take(charge(len) - spare.as_ref().map_or(0, |spare| spare.charge().min(charge(len))));
        budget.give_back(spare.as_ref().map_or(0, |spare| spare.charge().saturating_sub(charge(len))));
        pool.value([&vec![7; len], &[]], End::Back, spare).unwrap()
    };
    drop(store(60_000, None));
    assert_eq!((pool.spare_bytes(), budget.used()), (61_440, 61_440));
    assert!(pool.spare(60_000, End::Front).is_none(), "its pages are at the wrong end");
    assert!(pool.spare(10_000, End::Back).is_none(), "it is of another class");
    for len in [40_000, 65_536] {
        let spare = pool.spare(len, End::Back).expect("there is one");
        assert_eq!(pool.spare_bytes(), 0);
        let value = store(len, Some(spare));
        assert_eq!((&value.bytes()[..], budget.used()), (&vec![7; len][..], charge(len)));
        drop(value);
    }
    // One part in 16 of a megabyte is one such block.
    let [one, other] = [(); 2].map(|()| store(60_000, pool.spare(60_000, End::Back)));
    drop((one, other));
    assert_eq!((pool.spare_bytes(), budget.used()), (61_440, 61_440));
    budget.set_limit(60_000);
    drop(store(60_000, pool.spare(60_000, End::Back)));
    assert_eq!((pool.spare_bytes(), budget.used()), (0, 0), "where memory is short there are none");
}

#[test]
fn what_no_item_has_any_more_is_pinned_once_only_readers_hold_it() {
    let budget = Arc::new(Budget::new(1 << 20, 1));
    let pool = Pool::new(Arc::clone(&budget), 16 << 20).unwrap();
    let bytes = charge(100_000);
    budget.take(bytes);
    let value = pool.value([&[1; 100_000], &[]], End::Back, None).unwrap();
    pool.own(bytes);
    let reader = value.bytes().clone();
    assert_eq!(pool.pinned_bytes(), 0);
    let departing = pool.disown(value);
    assert_eq!(pool.pinned_bytes(), 0, "it may be gone in a moment");
    assert!(budget.may_overdraw((1 << 20) - bytes) && budget.may_overdraw(1 << 20));
    drop(departing);
    assert_eq!(pool.pinned_bytes(), bytes);
    assert!(!budget.may_overdraw(1 << 20));
    drop(reader);
    assert_eq!((pool.pinned_bytes(), budget.used()), (0, pool.spare_bytes()));
}

#[test]
fn addresses_are_used_again() {
    let budget = Arc::new(Budget::new(1 << 20, 1));
    let pool = Pool::new(Arc::clone(&budget), 64 << 10).unwrap();
    for _ in 0..100 {
        budget.take(3 * charge(20_000));
        let values = [(); 3].map(|()| pool.value([&[1; 20_000], &[]], End::Back, None));
        assert_eq!(values.iter().flatten().count(), 2, "two blocks of 32 KiB fit in 64 KiB");
        budget.give_back(charge(20_000));
    }
    assert!(pool.value([&[0; 3 << 20], &[]], End::Back, None).is_none(), "the class has no block that long");
}

#[test]
fn a_value_grows_in_its_block_while_readers_keep_what_they_saw() {
    for (grows_at, grown) in [(End::Back, "oldnew"), (End::Front, "newold")] {
        let budget = Arc::new(Budget::new(1 << 20, 1));
        let pool = Pool::new(Arc::clone(&budget), 16 << 20).unwrap();
        budget.take(charge(6));
        let mut value = pool.value([b"o", b"ld"], grows_at, None).unwrap();
        pool.own(charge(3));
        let reader = value.bytes().clone();
        assert!(!value.has_room(1, opposite(grows_at)), "there it lies at the end of its block");
        assert!(value.has_room(PAGE_BYTES - 3, grows_at) && !value.has_room(PAGE_BYTES - 2, grows_at));
        pool.grow(&mut value, b"new", grows_at);
        assert_eq!((&reader[..], &value.bytes()[..]), (&b"old"[..], grown.as_bytes()));
        drop(pool.disown(value));
        assert_eq!(pool.pinned_bytes(), charge(6), "whoever saw a part of it keeps all of it");
        drop(reader);
        assert_eq!((pool.alive_bytes(), budget.used()), (0, pool.spare_bytes()));
    }
}

#[test]
fn numbers_are_used_again() {
    let budget = Arc::new(Budget::new(1 << 20, 1));
    let pool = Pool::new(Arc::clone(&budget), 16 << 20).unwrap();
    budget.take(2 * charge(1));
    let mut table = Table::default();
    let number = table.insert(pool.value([b"a", b""], End::Back, None).unwrap());
    assert_eq!(table.remove(number).bytes(), &b"a"[..]);
    assert_eq!(table.insert(pool.value([b"b", b""], End::Back, None).unwrap()), number);
    assert_eq!(table.value(number), &b"b"[..]);
    assert_eq!((table.len(), table.clear().count(), table.len()), (1, 1, 0));
}
