//! What the fuzz targets do with an input: each takes any bytes whatever, and panics when something is wrong.
//!
//! They are apart from the fuzzers that run them for `tests/fuzz_corpus.rs`, which runs them with a stable toolchain.

mod authfile;
mod decoder;
mod rights;
mod session;
mod settings;

/// A name, and what is to be done with an input.
type Target = (&'static str, fn(&[u8]));

pub(crate) const TARGETS: [Target; 7] = [
    ("authfile", authfile::authfile),
    ("decode_binary", decoder::binary),
    ("decode_classic", decoder::classic),
    ("decode_meta", decoder::meta),
    ("rights", rights::rights),
    ("session", session::session),
    ("settings_file", settings::settings_file),
];

/// Runs one target on one input.
pub(crate) fn run(name: &str, data: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(target, _)| *target == name).expect("it is one of the targets");
    target(data);
}
