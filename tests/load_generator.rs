//! The load generator of `benches/`: a wrong reply is found out, and its figures are what they say.

#[expect(dead_code, reason = "the servers and tables are tried by the benches themselves")]
#[path = "../benches/common/mod.rs"]
mod common;

use std::time::Duration;

use fastrand::Rng;

use common::batch::Batch;
use common::histogram::Histogram;
use common::items::{Item, Values};
use common::random::Zipf;
use common::replies::{Tally, check};
use common::traces::{ETC_ZIPF_1_0, Scale};

const HITS_AND_A_MISS: [u64; 3] = [7, 8, 9];

/// What a server says that has items 7 and 9, and stores item 7.
fn reply(values: &Values) -> (Batch, Vec<u8>) {
    let mut batch = Batch::default();
    batch.get(HITS_AND_A_MISS.map(item));
    batch.set(item(7), 0, values);
    let mut reply = Vec::new();
    for number in [7, 9] {
        reply.extend_from_slice(b"VALUE ");
        item(number).append_key(&mut reply);
        reply.extend_from_slice(b" 0 20\r\n");
        reply.extend_from_slice(values.of(&item(number)));
        reply.extend_from_slice(b"\r\n");
    }
    reply.extend_from_slice(b"END\r\nSTORED\r\n");
    (batch, reply)
}

/// Key 9 is longer, and starts as a shorter one would.
fn item(number: u64) -> Item {
    Item::new(number, 20).with_key_bytes(if number == 9 { 40 } else { 16 })
}

/// Receives the reply in pieces; true when it was right to the end.
fn is_accepted(batch: &Batch, pieces: &[&[u8]], values: &Values) -> Option<Tally> {
    let mut tally = Tally::default();
    let mut received = Vec::new();
    let mut expected = &batch.expected[..];
    for piece in pieces {
        received.extend_from_slice(piece);
        let progress =
            check(expected, &received, values, &mut tally, |missed| assert_eq!(missed, item(8))).ok()?;
        received.drain(..progress.bytes);
        expected = &expected[progress.pieces..];
    }
    (expected.is_empty() && received.is_empty()).then_some(tally)
}

#[test]
fn a_meta_reply_is_accepted_however_it_is_cut_and_a_wrong_one_is_not() {
    let values = Values::by_key();
    let mut batch = Batch::default();
    batch.meta_get(HITS_AND_A_MISS.map(item));
    let mut reply = Vec::new();
    for number in HITS_AND_A_MISS {
        if number == 8 {
            reply.extend_from_slice(b"EN\r\n");
            continue;
        }
        reply.extend_from_slice(b"VA 20\r\n");
        reply.extend_from_slice(values.of(&item(number)));
        reply.extend_from_slice(b"\r\n");
    }
    let right = Tally { hits: 2, misses: 1, ..Tally::default() };
    for cut in 0..=reply.len() {
        let (start, end) = reply.split_at(cut);
        assert_eq!(is_accepted(&batch, &[start, end], &values), Some(right), "cut at {cut}");
    }
    for at in 0..reply.len() {
        let mut wrong = reply.clone();
        wrong[at] ^= 0x20;
        assert_eq!(is_accepted(&batch, &[&wrong], &values), None, "another byte at {at}");
    }
}

#[test]
fn a_right_reply_is_accepted_however_it_is_cut() {
    let values = Values::by_key();
    let (batch, reply) = reply(&values);
    let right = Tally { hits: 2, misses: 1, stored: 1, refused: 0 };
    for cut in 0..=reply.len() {
        let pieces = [&reply[..cut], &reply[cut..]];
        assert_eq!(is_accepted(&batch, &pieces, &values), Some(right), "cut at {cut}");
    }
}

#[test]
fn a_reply_with_any_byte_changed_is_not_accepted() {
    let values = Values::by_key();
    let (batch, mut reply) = reply(&values);
    for at in 0..reply.len() {
        reply[at] ^= 1;
        // A changed key may look like a miss of another item at first: the assertion on misses is no part of this test.
        let mut tally = Tally::default();
        let outcome = check(&batch.expected, &reply, &values, &mut tally, |_| ());
        let is_whole = outcome.is_ok_and(|progress| progress.pieces == batch.expected.len());
        assert!(!is_whole, "byte {at} of {:?}", String::from_utf8_lossy(&reply));
        reply[at] ^= 1;
    }
}

#[test]
fn a_set_that_is_refused_is_counted() {
    let values = Values::by_key();
    let mut batch = Batch::default();
    batch.set(item(7), 0, &values);
    let refusal = b"SERVER_ERROR out of memory storing object\r\n";
    for cut in 0..=refusal.len() {
        let pieces = [&refusal[..cut], &refusal[cut..]];
        let tally = is_accepted(&batch, &pieces, &values).expect("a refusal is a reply");
        assert_eq!((tally.stored, tally.refused), (0, 1), "cut at {cut}");
    }
}

#[test]
fn quantiles_are_at_most_one_part_in_64_too_high() {
    let mut histogram = Histogram::default();
    for nanoseconds in 1..=1_000_000 {
        histogram.record(Duration::from_nanos(nanoseconds));
    }
    for share in [0.000_001, 0.001, 0.5, 0.99, 0.999, 1.0] {
        let exact = share * 1e6;
        let told = histogram.quantile(share).as_nanos() as f64;
        assert!(told >= exact && told <= exact * (1.0 + 1.0 / 64.0), "{share}: {told}");
    }
    assert_eq!(histogram.longest(), Duration::from_millis(1));
}

#[test]
fn zipf_ranks_come_as_often_as_they_should() {
    const DRAWS: u32 = 400_000;
    const COUNT: u64 = 1_000;
    for exponent in [0.8, 0.99, 1.0, 1.1] {
        let zipf = Zipf::new(COUNT, exponent);
        let mut random = Rng::with_seed(4);
        let mut seen = vec![0u32; COUNT as usize];
        for _ in 0..DRAWS {
            seen[zipf.rank(&mut random) as usize] += 1;
        }
        let weights: Vec<f64> = (1..=COUNT).map(|rank| (rank as f64).powf(-exponent)).collect();
        let whole: f64 = weights.iter().sum();
        for rank in [0, 1, 2, 9, 99] {
            let due = weights[rank] / whole * f64::from(DRAWS);
            let off = (f64::from(seen[rank]) - due).abs();
            // Five standard deviations; the seed is fixed, so it either always holds or never.
            assert!(off < 5.0 * due.sqrt(), "exponent {exponent}, rank {rank}: {} for {due:.0}", seen[rank]);
        }
    }
}

#[test]
fn etc_sizes_are_those_of_the_paper() {
    const KEYS: u64 = 200_000;
    let mut next = ETC_ZIPF_1_0.start(Scale { memory_bytes: 64 << 20, requests: KEYS });
    let mut items: Vec<Item> = (0..KEYS * 4).map(|_| next().item).collect();
    items.sort_by_key(|item| item.number);
    items.dedup();
    let count = items.len() as f64;
    let mean_key = items.iter().map(|item| f64::from(item.key_bytes)).sum::<f64>() / count;
    let small = items.iter().filter(|item| item.value_bytes < 15).count() as f64 / count;
    // The mean of GEV(30.7984, 8.20449, 0.078688) is 36.2; the table's shares add up to 0.4416.
    assert!((mean_key - 36.2).abs() < 0.5, "{mean_key}");
    assert!((small - 0.4416).abs() < 0.01, "{small}");
}

#[test]
fn the_values_of_two_keys_differ() {
    let values = Values::by_key();
    let same = (0..10_000).filter(|&number| values.of(&item(number)) == values.of(&item(number + 1))).count();
    assert!(same <= 3, "{same} of 10,000 neighbours");
}
