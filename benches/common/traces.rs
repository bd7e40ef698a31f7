//! Models of what caches are asked for: which item comes next, and how long it lives once it is stored.
//!
//! A trace is a function of its seed, the memory it is meant for and the number of requests; every server is asked the
//! same. Sizes belong to a key: an item has the same size whenever it comes.

use fastrand::Rng;

use crate::common::items::Item;
use crate::common::random::{Zipf, fraction_of, mix};

/// What a trace is fitted to.
#[derive(Clone, Copy)]
pub(crate) struct Scale {
    pub(crate) memory_bytes: u64,
    pub(crate) requests: u64,
}

/// One request: a get of the item, followed by a set where it was missing.
#[derive(Clone, Copy)]
pub(crate) struct Lookup {
    pub(crate) item: Item,
    /// 0: for ever.
    pub(crate) ttl_seconds: u32,
}

/// One model.
pub(crate) struct Trace {
    pub(crate) name: &'static str,
    /// Requests a second, where time matters: then all servers must see it pass alike.
    pub(crate) pace: Option<u64>,
    start: fn(Scale) -> Lookups,
}

impl Trace {
    pub(crate) fn start(&self, scale: Scale) -> Lookups {
        (self.start)(scale)
    }
}

/// The requests of a trace, in order and without end.
type Lookups = Box<dyn FnMut() -> Lookup>;

pub(crate) const ETC_ZIPF_1_0: Trace =
    Trace { name: "ETC, Zipf 1.0", pace: None, start: |scale| etc(scale, 1.0) };

pub(crate) const TRACES: [Trace; 8] = [
    Trace { name: "ETC, Zipf 0.9", pace: None, start: |scale| etc(scale, 0.9) },
    ETC_ZIPF_1_0,
    Trace { name: "ETC, Zipf 1.1", pace: None, start: |scale| etc(scale, 1.1) },
    Trace { name: "scans through a hot set", pace: None, start: scans },
    Trace { name: "working set that shifts", pace: None, start: shifting_keys },
    Trace { name: "items that expire", pace: Some(125_000), start: expiring },
    Trace { name: "value sizes that shift", pace: None, start: shifting_sizes },
    Trace { name: "small and very large mixed", pace: None, start: mixed_sizes },
];

/// About what an ETC item takes in memory; only the sizes of the key sets follow from it.
const ETC_FOOTPRINT_BYTES: u64 = 300;

fn etc(scale: Scale, exponent: f64) -> Lookups {
    // Four to five times what fits.
    let zipf = Zipf::new(scale.memory_bytes * 9 / 2 / ETC_FOOTPRINT_BYTES, exponent);
    let mut random = Rng::with_seed(11);
    Box::new(move || forever(etc_item(zipf.scattered(&mut random))))
}

/// Four fifths of the requests go to keys that nearly fit; one fifth are runs through keys that never come again.
fn scans(scale: Scale) -> Lookups {
    const PERIOD: u64 = 100_000;
    const SCANNED: u64 = PERIOD / 5;
    const FIRST_SCANNED: u64 = 1_000_000_000;
    let zipf = Zipf::new(scale.memory_bytes * 5 / 4 / ETC_FOOTPRINT_BYTES, 0.9);
    let mut random = Rng::with_seed(12);
    let mut serial = 0;
    Box::new(move || {
        serial += 1;
        let (period, at) = (serial / PERIOD, serial % PERIOD);
        let number =
            if at < SCANNED { FIRST_SCANNED + period * SCANNED + at } else { zipf.scattered(&mut random) };
        forever(etc_item(number))
    })
}

/// A working set as large as the memory, half of which is replaced eight times in all.
fn shifting_keys(scale: Scale) -> Lookups {
    let keys = scale.memory_bytes / ETC_FOOTPRINT_BYTES;
    let zipf = Zipf::new(keys, 0.8);
    let phase_requests = (scale.requests / 8).max(1);
    let mut random = Rng::with_seed(13);
    let mut serial = 0;
    Box::new(move || {
        let first = serial / phase_requests * (keys / 2);
        serial += 1;
        // What a key's place in the window is decides how popular it is: one that stays becomes another's equal.
        forever(etc_item(first + zipf.scattered(&mut random)))
    })
}

/// A third of the keys lives 2 seconds, a third 6 seconds, a third for ever.
fn expiring(scale: Scale) -> Lookups {
    let zipf = Zipf::new(scale.memory_bytes * 3 / ETC_FOOTPRINT_BYTES, 0.9);
    let mut random = Rng::with_seed(14);
    Box::new(move || {
        let number = zipf.scattered(&mut random);
        Lookup { item: etc_item(number), ttl_seconds: [2, 6, 0][(mix(number ^ 0x77) % 3) as usize] }
    })
}

/// Five times the values of all keys change their size, together with the keys.
fn shifting_sizes(scale: Scale) -> Lookups {
    const MEAN_BYTES: [u64; 5] = [120, 2_000, 500, 8_000, 200];
    let phase_requests = scale.requests.div_ceil(MEAN_BYTES.len() as u64);
    let zipfs = MEAN_BYTES.map(|mean| Zipf::new((scale.memory_bytes * 2 / (mean + 80)).max(1), 0.9));
    let mut random = Rng::with_seed(15);
    let mut serial = 0;
    Box::new(move || {
        let phase = (serial / phase_requests) as usize % MEAN_BYTES.len();
        serial += 1;
        let number = phase as u64 * 1_000_000_000 + zipfs[phase].scattered(&mut random);
        let mean = MEAN_BYTES[phase];
        let value_bytes = mean / 2 + mix(number ^ 0x99) % mean;
        forever(Item::new(number, value_bytes as u32))
    })
}

/// ETC, and three requests in a thousand for values of 100 to 500 KB that alone would fill the memory.
fn mixed_sizes(scale: Scale) -> Lookups {
    const FIRST_LARGE: u64 = 1_000_000_000;
    let small = Zipf::new(scale.memory_bytes * 3 / ETC_FOOTPRINT_BYTES, 1.0);
    let large = Zipf::new((scale.memory_bytes / 300_000).max(1), 0.9);
    let mut random = Rng::with_seed(16);
    Box::new(move || {
        if random.u64(..1000) < 3 {
            let number = FIRST_LARGE + large.scattered(&mut random);
            forever(Item::new(number, 100_000 + (mix(number) % 400_000) as u32))
        } else {
            forever(etc_item(small.scattered(&mut random)))
        }
    })
}

fn forever(item: Item) -> Lookup {
    Lookup { item, ttl_seconds: 0 }
}

/// Key and value sizes of Facebook's ETC pool (Atikoglu et al., "Workload analysis of a large-scale key-value store",
/// SIGMETRICS 2012, section 5).
fn etc_item(number: u64) -> Item {
    let key_bytes = extreme_value(fraction_of(mix(number ^ 0x6b65_7900)), 30.7984, 8.20449, 0.078688);
    let value_bytes = etc_value_bytes(fraction_of(mix(number ^ 0x7661_6c00)));
    Item::new(number, value_bytes).with_key_bytes(key_bytes as u16)
}

/// Below 15 bytes the paper gives a table, above it a generalized Pareto distribution with location 0, which, given that
/// 15 is passed, is one that starts there.
fn etc_value_bytes(fraction: f64) -> u32 {
    const SMALL: [f64; 15] = [
        0.00536, 0.00047, 0.17820, 0.09239, 0.00018, 0.02740, 0.00065, 0.00606, 0.00023, 0.00837, 0.00837,
        0.08989, 0.00092, 0.00326, 0.01980,
    ];
    const SCALE: f64 = 214.476;
    const SHAPE: f64 = 0.348238;
    const VALUE_BYTES_MAX: f64 = 400_000.0;
    let mut passed = 0.0;
    for (bytes, share) in SMALL.iter().enumerate() {
        passed += share;
        if fraction < passed {
            return bytes as u32;
        }
    }
    let start = SMALL.len() as f64;
    let rest = (fraction - passed) / (1.0 - passed);
    let bytes = start + (SCALE + SHAPE * start) / SHAPE * ((1.0 - rest).powf(-SHAPE) - 1.0);
    bytes.min(VALUE_BYTES_MAX) as u32
}

/// The generalized extreme value distribution, turned around.
fn extreme_value(fraction: f64, location: f64, scale: f64, shape: f64) -> f64 {
    let fraction = fraction.max(f64::MIN_POSITIVE);
    location + scale / shape * ((-fraction.ln()).powf(-shape) - 1.0)
}
