//! What a whole `cargo test` has left out, and what brings it: behind the last program of tests.
//!
//! Rule: it has no harness, whose own line would come last, and a name behind those of all other programs of tests, for
//! cargo runs them in the order of their names.

mod needs;

use std::env;
use std::io::{self, Write as _};

fn main() -> io::Result<()> {
    // It has no tests that could be listed.
    if env::args().any(|argument| argument == "--list") {
        return Ok(());
    }
    writeln!(io::stdout(), "\n{}", needs::line(&needs::of_this_run()?))
}
