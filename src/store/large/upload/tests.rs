//! Uploads: what is charged for them, which values get their blocks, and how many there may be.

use std::sync::Arc;

use crate::store::budget::Budget;
use crate::store::large::pool::{Pool, charged_bytes};
use crate::store::large::upload::{BESIDE_BYTES_MAX, OFFERED_MAX, Upload};
use crate::store::memory::{End, PAGE_BYTES};

/// A memory limit and the address space of a class with which eight blocks of 64 KiB can be lent.
const LIMIT: u64 = 1 << 20;
const CLASS_BYTES: usize = (2 * LIMIT as usize) + (8 << 16);

const LINE: &[u8] = b"set key 0 0 50000\r\n";
const VALUE_BYTES: usize = 50_000;
const REQUEST_BYTES: usize = LINE.len() + VALUE_BYTES + 2;

fn pool() -> (Arc<Budget>, Arc<Pool>) {
    let budget = Arc::new(Budget::new(LIMIT, 1));
    let pool = Pool::new(Arc::clone(&budget), CLASS_BYTES).unwrap();
    (budget, pool)
}

/// Lets a request with a value of `VALUE_BYTES` of `byte` arrive in two pieces.
fn fill(upload: &mut Upload, byte: u8) {
    let request = &mut upload.free_mut()[..REQUEST_BYTES];
    request[..LINE.len()].copy_from_slice(LINE);
    request[LINE.len()..].fill(byte);
    request[REQUEST_BYTES - 2..].copy_from_slice(b"\r\n");
    upload.advance(30_000);
    upload.advance(REQUEST_BYTES - 30_000);
}

fn lend(pool: &Pool) -> Upload {
    pool.lend(REQUEST_BYTES, REQUEST_BYTES).expect("there are addresses")
}

/// The value in `upload`.
fn value(upload: &Upload) -> &[u8] {
    &upload.bytes()[LINE.len()..][..VALUE_BYTES]
}

#[test]
fn a_value_gets_the_block_that_it_arrived_in() {
    let (budget, pool) = pool();
    let mut upload = lend(&pool);
    fill(&mut upload, b'v');
    assert_eq!(budget.used(), 0, "what has not arrived is its borrower's");
    assert!(pool.offered(value(&upload)).is_none(), "it is not offered");
    let offer = upload.offer();
    assert!(pool.offered(&[b'v'; VALUE_BYTES]).is_none(), "that lies elsewhere");
    let offered = pool.offered(value(&upload)).expect("it is offered");
    assert_eq!(offered.charged_bytes(), charged_bytes(REQUEST_BYTES));
    budget.charge(offered.charged_bytes());
    let large = pool.adopt(offered);
    assert_eq!(large.bytes().as_ptr(), value(&upload).as_ptr(), "nothing is copied");
    assert!(upload.is_taken() && pool.offered(value(&upload)).is_none(), "only one value gets it");
    drop(offer);
    drop(upload);
    assert_eq!(large.bytes(), &vec![b'v'; VALUE_BYTES]);
    assert_eq!((large.charged_bytes(), pool.alive_bytes()), (budget.used(), budget.used()));
    assert!(!large.can_grow_by(1, End::Back), "the end of its line lies there");
    drop(large);
    assert_eq!((pool.alive_bytes(), budget.used()), (0, pool.spare_bytes()));
    assert!(pool.spare_bytes() > 0);
}

#[test]
fn an_upload_that_is_left_costs_the_budget_nothing_and_its_pages_are_used_again() {
    let (budget, pool) = pool();
    let mut upload = lend(&pool);
    fill(&mut upload, b'v');
    drop(upload);
    let pages = REQUEST_BYTES.next_multiple_of(PAGE_BYTES) as u64;
    assert_eq!((pool.spare_bytes(), budget.used()), (pages, pages), "there is memory for a spare");
    let upload = lend(&pool);
    assert_eq!((pool.spare_bytes(), budget.used()), (0, 0));
    budget.charge(LIMIT);
    drop(upload);
    assert_eq!((pool.spare_bytes(), budget.used()), (0, LIMIT), "there is none");
}

#[test]
fn a_spare_that_is_lent_has_no_pages_beyond_what_its_borrower_may_fill() {
    let (budget, pool) = pool();
    let mut upload = lend(&pool);
    fill(&mut upload, b'v');
    drop(upload);
    let mut upload = pool.lend(REQUEST_BYTES, 10_000).unwrap();
    assert_eq!((upload.capacity(), upload.free_mut().len()), (10_000, 10_000));
    assert!(upload.reserve(REQUEST_BYTES) && !upload.reserve((1 << 16) + 1), "its block has 64 KiB");
    assert_eq!(upload.capacity(), REQUEST_BYTES);
    assert_eq!(
        upload.free_mut()[3 * PAGE_BYTES..],
        vec![0; REQUEST_BYTES - 3 * PAGE_BYTES],
        "those were discarded"
    );
    drop(upload);
    assert_eq!(budget.used(), 3 * PAGE_BYTES as u64, "what it still has");
}

#[test]
fn a_value_that_does_not_fill_its_block_is_copied() {
    let (_, pool) = pool();
    let mut upload = lend(&pool);
    fill(&mut upload, b'v');
    let offer = upload.offer();
    assert!(pool.offered(&upload.bytes()[BESIDE_BYTES_MAX..]).is_some());
    assert!(pool.offered(&upload.bytes()[BESIDE_BYTES_MAX + 1..]).is_none(), "too much lies beside it");
    drop(offer);
    drop(upload);
    let mut upload = lend(&pool);
    upload.advance(REQUEST_BYTES - PAGE_BYTES);
    let offer = upload.offer();
    assert!(pool.offered(upload.bytes()).is_none(), "it has a page that is not filled");
    drop(offer);
}

#[test]
fn no_more_is_lent_than_values_can_spare_addresses() {
    let (budget, pool) = pool();
    let lent: Vec<_> = (0..8).map(|_| lend(&pool)).collect();
    assert!(pool.lend(REQUEST_BYTES, 1).is_none());
    assert!(pool.lend(10_000, 1).is_some(), "of another class there are some");
    drop(lent);
    let mut upload = lend(&pool);
    fill(&mut upload, b'v');
    let offer = upload.offer();
    let offered = pool.offered(value(&upload)).expect("it is offered");
    budget.charge(offered.charged_bytes());
    let _large = pool.adopt(offered);
    drop(offer);
    let lent: Vec<_> = (0..8).map(|_| lend(&pool)).collect();
    assert_eq!(lent.len(), 8, "a value's block is not lent any more");
    budget.set_limit(2 * LIMIT);
    drop(lent);
    assert!(pool.lend(REQUEST_BYTES, 1).is_none(), "values may need all addresses");
}

#[test]
fn so_many_are_offered_at_a_time_and_no_more() {
    let budget = Arc::new(Budget::new(LIMIT, 1));
    let pool = Pool::new(Arc::clone(&budget), 16 << 20).unwrap();
    let uploads: Vec<_> = (0..=OFFERED_MAX)
        .map(|_| {
            let mut upload = pool.lend(100, 100).expect("there are addresses");
            upload.advance(100);
            upload
        })
        .collect();
    let offers: Vec<_> = uploads.iter().map(Upload::offer).collect();
    let is_offered = |upload: &Upload| pool.offered(upload.bytes()).is_some();
    assert!(is_offered(&uploads[OFFERED_MAX - 1]) && !is_offered(&uploads[OFFERED_MAX]));
    drop(offers);
    assert!(!is_offered(&uploads[0]));
}
