//! What the benches share: servers to measure, a load generator that checks every reply, and tables.
//!
//! A server's cost is read from the kernel's account of its threads, not from a stopwatch, so that a figure means the
//! same whether or not the generator keeps the server busy. The generator and the servers have a processor each.

pub(crate) mod batch;
pub(crate) mod chart;
pub(crate) mod client;
pub(crate) mod cores;
pub(crate) mod floor;
pub(crate) mod generator;
pub(crate) mod histogram;
pub(crate) mod items;
pub(crate) mod random;
pub(crate) mod replies;
pub(crate) mod report;
pub(crate) mod server;
pub(crate) mod traces;
pub(crate) mod usage;

/// A bench stops at the first thing that goes wrong: a figure taken past a wrong reply means nothing.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Whether cargo asked for a measurement: `cargo bench` says `--bench`, `cargo test --all-targets` does not.
pub(crate) fn asked_to_measure(bench: bool) -> bool {
    if !bench {
        eprintln!("nothing measured: run this by `cargo bench`, or add --bench");
    }
    bench
}
