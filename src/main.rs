//! The process: everything else is in the library, so that tests can get at it.

use std::process::ExitCode;

fn main() -> ExitCode {
    ferrocached::lifecycle::run(std::env::args_os(), &|name| std::env::var_os(name))
}
