//! What some tests need and not every machine has. Where it is missing a test is left out, and that is told in one line:
//! when the program of tests ends, and for all of them by `zz_left_out`, the last thing that `cargo test` runs.
//!
//! Rule: nothing is left out in silence, and with `CI=true` nothing is left out: what is missing fails the test.

#![allow(dead_code, unused_imports, reason = "no program of tests uses all of this")]

mod all;
mod record;

use std::collections::BTreeSet;
use std::env;
use std::io::{self, Write as _};
use std::panic::Location;
use std::path::PathBuf;
use std::sync::{Mutex, Once, PoisonError};
use std::thread;

use nix::libc;

pub(crate) use all::*;
pub(crate) use record::{LeftOut, line, of_this_run};

/// Something that not every machine has.
pub(crate) struct Need {
    pub what: &'static str,
    /// Packages of Debian behind [`INSTALL`], or a piece of advice.
    pub brings: &'static str,
    pub is_there: fn() -> bool,
}

/// How Debian's packages are installed: their names follow.
pub(crate) const INSTALL: &str = "apt-get install ";

/// What this program has left out so far.
static LEFT_OUT: Mutex<BTreeSet<LeftOut>> = Mutex::new(BTreeSet::new());

/// Whether all `needs` of the calling test are there. If not, it is left out and shall return at once.
#[must_use]
#[track_caller]
pub(crate) fn are_there(needs: &[&Need]) -> bool {
    let missing: Vec<_> = needs.iter().filter(|need| !(need.is_there)()).collect();
    missing.iter().for_each(|need| leave_out(need, "it is not there"));
    missing.is_empty()
}

/// Leaves the calling test out, as `need` is missing: `why` tells how that was found.
#[track_caller]
pub(crate) fn leave_out(need: &Need, why: &str) {
    let Need { what, brings, .. } = need;
    assert!(env::var_os("CI").is_none_or(|set| set != "true"), "CI=true asks for {what} ({brings}): {why}");
    // A test is shown this if it fails later on, or is run with --nocapture.
    eprintln!("left out for want of {what}: {why}");
    // The thread has the test's name, unless they all run on one.
    let thread = thread::current();
    let test = thread.name().filter(|name| *name != "main");
    let test = test.map_or_else(|| Location::caller().to_string(), str::to_owned);
    let left_out = LeftOut {
        program: env!("CARGO_CRATE_NAME").to_owned(),
        test,
        what: (*what).to_owned(),
        brings: (*brings).to_owned(),
    };
    LEFT_OUT.lock().unwrap_or_else(PoisonError::into_inner).insert(left_out);
    static AT_EXIT: Once = Once::new();
    AT_EXIT.call_once(|| {
        // The harness has no place of its own for what comes behind its last line.
        // SAFETY: `tell` is there for as long as the program is, takes nothing, gives nothing, and cannot unwind: a
        // panic in a function of this kind aborts.
        assert_eq!(unsafe { libc::atexit(tell) }, 0, "32 of them are allowed");
    });
}

extern "C" fn tell() {
    let left_out = LEFT_OUT.lock().unwrap_or_else(PoisonError::into_inner);
    // Whoever closed standard output does not want to know; and what cannot be kept is told here, at least.
    let _ = writeln!(io::stdout(), "{}\n", line(&left_out));
    if let Err(error) = record::keep(&left_out) {
        let _ = writeln!(io::stderr(), "the last line of this run will lack that: {error}");
    }
}

/// Tells whoever waits for the tests: the harness shows what a test says when it is over, and only if it failed.
pub(crate) fn say_at_once(words: &str) {
    #[expect(clippy::explicit_write, reason = "the harness hides what eprintln! says")]
    writeln!(io::stderr(), "{words}").unwrap();
}

/// Where a program is. Debian keeps daemons in /usr/sbin, which an ordinary user's PATH leaves out.
pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let places = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    places.map(|place| place.join(program)).find(|file| file.is_file())
}
