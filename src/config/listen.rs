//! The entries of `-l`: names and addresses, with and without ports.

use std::net::Ipv6Addr;

use super::Config;
use super::fault::Fault;
use super::given::Given;
use crate::engine::settings::ListenAddress;

/// Adds the entries of one `-l` to those of the same source; the first of a source takes the place of what
/// weaker sources said.
pub(super) fn apply(config: &mut Config, given: &Given<'_>) -> Result<(), Fault> {
    if given.nth == 0 {
        config.settings.listen.clear();
    }
    let text = given.shown();
    let entries = text.split([',', ';']).map(str::trim).filter(|entry| !entry.is_empty());
    let mut entries = entries.peekable();
    if entries.peek().is_none() {
        return Err(given.bad("An address is needed, such as 127.0.0.1, [::1]:11211 or *"));
    }
    for entry in entries {
        let address = without_prefix(entry, given, &mut config.notes)?;
        config.settings.listen.push(listen_address(address, given)?);
    }
    Ok(())
}

/// Takes off `proto[ascii]:` and `proto[negotiating]:`, which ask for what every listener does anyway; the other
/// prefixes of memcached ask for what is not there, and to listen without it would be to listen unguarded.
fn without_prefix<'a>(entry: &'a str, given: &Given<'_>, notes: &mut Vec<String>) -> Result<&'a str, Fault> {
    for prefix in ["proto[ascii]:", "proto[negotiating]:"] {
        if let Some(address) = entry.strip_prefix(prefix) {
            notes.push(format!("{} {prefix} has no effect: -B (--protocol) decides", given.row.flag()));
            return Ok(address);
        }
    }
    if ["notls:", "btls:", "mtls:"].iter().any(|prefix| entry.starts_with(prefix)) {
        return Err(given.refused("TLS is not there yet; leave out the prefix to listen without it"));
    }
    if entry.starts_with("proto[") {
        return Err(given.refused("a listener can only be proto[ascii]: or proto[negotiating]:"));
    }
    if entry.starts_with("tag[") || entry.starts_with("tag_") {
        return Err(given.refused("listeners cannot be tagged; leave out the prefix"));
    }
    Ok(entry)
}

/// `host`, `host:port`, `v6`, `[v6]`, `[v6]:port`, `*`, `*:port`.
fn listen_address(entry: &str, given: &Given<'_>) -> Result<ListenAddress, Fault> {
    let (host, port) = if let Some(bracketed) = entry.strip_prefix('[') {
        let (host, rest) =
            bracketed.split_once(']').ok_or_else(|| given.bad("Invalid IPV6 address, a ] is missing"))?;
        if !is_v6(host) {
            return Err(given.bad("Invalid IPV6 address"));
        }
        match rest.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if rest.is_empty() => (host, None),
            None => return Err(given.bad("Only a :port can follow the ]")),
        }
    } else if is_v6(entry) {
        (entry, None)
    } else {
        match entry.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (entry, None),
        }
    };
    if host.is_empty() || host.contains(char::is_whitespace) {
        return Err(given.bad("An address is needed before the port"));
    }
    let port = match port {
        Some(port) => Some(
            port.parse()
                .map_err(|_| given.bad(format!("Invalid port number: \"{port}\", give one up to 65535")))?,
        ),
        None => None,
    };
    Ok(ListenAddress { host: host.to_owned(), port })
}

/// Whether this is an IPv6 address, with or without a zone (`fe80::1%eth0`).
fn is_v6(host: &str) -> bool {
    host.split('%').next().is_some_and(|address| address.parse::<Ipv6Addr>().is_ok())
}
