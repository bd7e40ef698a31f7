//! What the fuzz targets do with an input: each takes any bytes whatever, and panics when something is wrong.
//!
//! They are apart from the fuzzers that run them for `tests/fuzz/main.rs`, which runs them with a stable toolchain.

mod authfile;
mod decoder;
mod rights;
mod session;
mod settings;

/// What is fuzzed: a name, and what is to be done with an input.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&[u8]),
}

pub(crate) const TARGETS: [Target; 7] = [
    Target { name: "authfile", run: authfile::authfile },
    Target { name: "decode_binary", run: decoder::binary },
    Target { name: "decode_classic", run: decoder::classic },
    Target { name: "decode_meta", run: decoder::meta },
    Target { name: "rights", run: rights::rights },
    Target { name: "session", run: session::session },
    Target { name: "settings_file", run: settings::settings_file },
];

/// The target of this name.
pub(crate) fn named(name: &str) -> Target {
    TARGETS.into_iter().find(|target| target.name == name).expect("it is one of the targets")
}
