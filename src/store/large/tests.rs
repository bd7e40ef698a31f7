//! Blocks: who is charged, who may still read, which are kept as spares.

use std::sync::Arc;

use crate::store::budget::Budget;
use crate::store::large::pool::{Pool, Spare, charged_bytes, opposite};
use crate::store::large::table::Table;
use crate::store::memory::{End, PAGE_BYTES};

#[test]
fn a_value_is_charged_until_the_last_reader_lets_go() {
    let budget = Arc::new(Budget::new(1 << 20, 1));
    let pool = Pool::new(Arc::clone(&budget), 16 << 20).unwrap();
    for len in [1, 4096, 4097, 100_000, 1_000_000] {
        // Not collected byte by byte, for Miri's sake.
        let content = &(0..=u8::MAX).collect::<Vec<_>>().repeat(len / 256 + 1)[..len];
        budget.charge(charged_bytes(len));
        let value = pool.value([&content[..len / 3], &content[len / 3..]], End::Back, None).unwrap();
        let reader = value.bytes().clone();
        drop(value);
        assert_eq!(reader, content);
        assert_eq!(budget.used(), charged_bytes(len) + pool.spare_bytes());
        drop(reader);
        assert_eq!(budget.used(), pool.spare_bytes());
    }
    assert!(pool.spare_bytes() > 0 && pool.discard_spares(u64::MAX));
    assert_eq!(budget.used(), 0);
}

#[test]
fn a_spare_block_keeps_the_pages_that_the_next_value_needs() {
    let budget = Arc::new(Budget::new(1 << 20, 1));
    let pool = Pool::new(Arc::clone(&budget), 16 << 20).unwrap();
    let store = |len: usize, spare: Option<Spare>| {
        budget.charge(
            charged_bytes(len) - spare.as_ref().map_or(0, |spare| spare.bytes().min(charged_bytes(len))),
        );
        budget.refund(spare.as_ref().map_or(0, |spare| spare.bytes().saturating_sub(charged_bytes(len))));
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
        assert_eq!((&value.bytes()[..], budget.used()), (&vec![7; len][..], charged_bytes(len)));
        drop(value);
    }
    // One part in 2 of a megabyte is eight such blocks.
    let values = [(); 9].map(|()| store(60_000, pool.spare(60_000, End::Back)));
    drop(values);
    assert_eq!((pool.spare_bytes(), budget.used()), (8 * 61_440, 8 * 61_440));
    assert!(pool.discard_spares(61_441), "that takes two of them");
    assert_eq!((pool.spare_bytes(), budget.used()), (6 * 61_440, 6 * 61_440));
    budget.set_limit(60_000);
    assert!(pool.discard_spares(u64::MAX) && !pool.discard_spares(u64::MAX));
    drop(store(60_000, pool.spare(60_000, End::Back)));
    assert_eq!((pool.spare_bytes(), budget.used()), (0, 0), "where memory is short there are none");
}

#[test]
fn spares_that_nobody_needs_between_two_sweeps_are_discarded() {
    let budget = Arc::new(Budget::new(1 << 20, 1));
    let pool = Pool::new(Arc::clone(&budget), 16 << 20).unwrap();
    let store = |spare: Option<Spare>| {
        budget.charge(charged_bytes(8192) - spare.as_ref().map_or(0, Spare::bytes));
        pool.value([&[7; 8192], &[]], End::Back, spare).unwrap()
    };
    drop([(); 3].map(|()| store(None)));
    pool.discard_idle_spares();
    assert_eq!(pool.spare_bytes(), 3 * 8192, "they are new");
    drop([(); 2].map(|()| store(pool.spare(8192, End::Back))));
    pool.discard_idle_spares();
    assert_eq!(pool.spare_bytes(), 2 * 8192, "two were enough");
    pool.discard_idle_spares();
    assert_eq!((pool.spare_bytes(), budget.used()), (0, 0));
}

#[test]
fn a_value_is_pinned_once_only_readers_hold_it() {
    let budget = Arc::new(Budget::new(1 << 20, 1));
    let pool = Pool::new(Arc::clone(&budget), 16 << 20).unwrap();
    let bytes = charged_bytes(100_000);
    budget.charge(bytes);
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
        budget.charge(3 * charged_bytes(20_000));
        let values = [(); 3].map(|()| pool.value([&[1; 20_000], &[]], End::Back, None));
        assert_eq!(values.iter().flatten().count(), 2, "two blocks of 32 KiB fit in 64 KiB");
        budget.refund(charged_bytes(20_000));
    }
    assert!(pool.value([&[0; 3 << 20], &[]], End::Back, None).is_none(), "the class has no block that long");
}

#[test]
fn a_value_grows_in_its_block_while_readers_keep_what_they_saw() {
    for (grows_at, grown) in [(End::Back, "oldnew"), (End::Front, "newold")] {
        let budget = Arc::new(Budget::new(1 << 20, 1));
        let pool = Pool::new(Arc::clone(&budget), 16 << 20).unwrap();
        budget.charge(charged_bytes(6));
        let mut value = pool.value([b"o", b"ld"], grows_at, None).unwrap();
        pool.own(charged_bytes(3));
        let reader = value.bytes().clone();
        assert!(!value.can_grow_by(1, opposite(grows_at)), "there it lies at the end of its block");
        assert!(value.can_grow_by(PAGE_BYTES - 3, grows_at) && !value.can_grow_by(PAGE_BYTES - 2, grows_at));
        pool.grow(&mut value, b"new", grows_at);
        assert_eq!((&reader[..], &value.bytes()[..]), (&b"old"[..], grown.as_bytes()));
        drop(pool.disown(value));
        assert_eq!(pool.pinned_bytes(), charged_bytes(6), "a reader that saw a part of it keeps all of it");
        drop(reader);
        assert_eq!((pool.alive_bytes(), budget.used()), (0, pool.spare_bytes()));
    }
}

#[test]
fn numbers_are_used_again() {
    let budget = Arc::new(Budget::new(1 << 20, 1));
    let pool = Pool::new(Arc::clone(&budget), 16 << 20).unwrap();
    budget.charge(2 * charged_bytes(1));
    let mut table = Table::default();
    let number = table.insert(pool.value([b"a", b""], End::Back, None).unwrap());
    assert_eq!(table.remove(number).bytes(), &b"a"[..]);
    assert_eq!(table.insert(pool.value([b"b", b""], End::Back, None).unwrap()), number);
    assert_eq!(table.value(number), &b"b"[..]);
    assert_eq!((table.len(), table.clear().count(), table.len()), (1, 1, 0));
}
