//! What an operator says, and what the server understands: arguments, environment, settings file.

mod documents;
mod http;
mod options;
mod sources;
mod tls;
mod values;
mod variables;

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use ferrocached::config::{Config, Parsed, Stop, parse};
use ferrocached::settings::Settings;

/// What the words of `line` mean under these variables.
fn parsed(line: &str, variables: &[(&str, &str)]) -> Result<Parsed, Stop> {
    let arguments = ["memcached"].into_iter().chain(line.split_whitespace()).map(OsString::from);
    parse(arguments, &|name| {
        variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| OsString::from(value))
    })
}

fn config_with(line: &str, variables: &[(&str, &str)]) -> Config {
    match parsed(line, variables) {
        Ok(Parsed::Run(config)) => *config,
        other => panic!("{line:?} with {variables:?} does not run: {other:?}"),
    }
}

/// What these very arguments mean, with the spaces that are in them.
fn parsed_of(arguments: &[&str]) -> Result<Parsed, Stop> {
    parse(["memcached"].iter().chain(arguments).map(OsString::from), &|_| None)
}

fn config_of(arguments: &[&str]) -> Config {
    match parsed_of(arguments) {
        Ok(Parsed::Run(config)) => *config,
        other => panic!("{arguments:?} does not run: {other:?}"),
    }
}

fn stop_of(arguments: &[&str]) -> Stop {
    parsed_of(arguments).expect_err(&format!("{arguments:?}"))
}

fn config(line: &str) -> Config {
    config_with(line, &[])
}

fn settings(line: &str) -> Settings {
    config(line).settings
}

fn stop_with(line: &str, variables: &[(&str, &str)]) -> Stop {
    parsed(line, variables).expect_err(line)
}

fn stop(line: &str) -> Stop {
    stop_with(line, &[])
}

fn shown(line: &str) -> String {
    match parsed(line, &[]) {
        Ok(Parsed::Show(text)) => text,
        other => panic!("{line:?} shows nothing: {other:?}"),
    }
}

fn hosts(config: &Config) -> Vec<&str> {
    config.settings.listen.iter().map(|address| address.host.as_str()).collect()
}

/// A settings file for one test; it is gone at the end of it.
struct ConfFile(PathBuf);

impl ConfFile {
    fn new(name: &str, text: &str) -> ConfFile {
        let path = std::env::temp_dir().join(format!("ferrocached-{name}-{}.conf", std::process::id()));
        fs::write(&path, text).unwrap();
        ConfFile(path)
    }

    fn option(&self) -> String {
        format!("--config {}", self.0.display())
    }
}

impl Drop for ConfFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0); // What is left behind in the temporary directory harms nobody.
    }
}

/// /etc/memcached.conf as Debian 12 installs it.
const DEBIAN_CONF: &str = "\
# memcached default config file
# 2003 - Jay Bonci <jaybonci@debian.org>
# This configuration file is read by the start-memcached script provided as
# part of the Debian GNU/Linux distribution.

# Run memcached as a daemon. This command is implied, and is not needed for the
# daemon to run. See the README.Debian that comes with this package for more
# information.
-d

# Log memcached's output to /var/log/memcached
logfile /var/log/memcached.log

# Be verbose
# -v

# Be even more verbose (print client commands as well)
# -vv

# Start with a cap of 64 megs of memory. It's reasonable, and the daemon default
# Note that the daemon will grow to this size, but does not start out holding this much
# memory
-m 64

# Default connection port is 11211
-p 11211

# Run the daemon as root. The start-memcached will default to running as root if no
# -u command is present in this config file
-u memcache

# Specify which IP address to listen on. The default is to listen on all IP addresses
# This parameter is one of the only security measures that memcached has, so make sure
# it's listening on a firewalled interface.
-l 127.0.0.1

# Limit the number of simultaneous incoming connections. The daemon default is 1024
# -c 1024

# Lock down all paged memory. Consult with the README and homepage before you do this
# -k

# Return error when memory is exhausted (rather than removing items)
# -M

# Maximize core file limit
# -r

# Use a pidfile
-P /var/run/memcached/memcached.pid
";
