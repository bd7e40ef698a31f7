//! The entries of `-l`: names and addresses, with and without ports.

use std::net::Ipv6Addr;

use super::Config;
use super::fault::Fault;
use super::given::Given;
use crate::engine::settings::{ListenAddress, TlsPrefix};

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
        let (tls, address) = without_prefixes(entry, given, &mut config.notes)?;
        let (host, port) = host_and_port(address, given)?;
        config.settings.listen.push(ListenAddress { host, port, tls });
    }
    Ok(())
}

/// Takes off what stands before the address: `notls:`, `btls:` or `mtls:`, and `proto[ascii]:` or
/// `proto[negotiating]:`, which ask for what every listener does anyway. The other prefixes of memcached ask for what
/// is not there, and to listen without it would be to listen unguarded.
fn without_prefixes<'a>(
    entry: &'a str,
    given: &Given<'_>,
    notes: &mut Vec<String>,
) -> Result<(TlsPrefix, &'a str), Fault> {
    let mut tls = TlsPrefix::AsChosen;
    let mut rest = entry;
    loop {
        if let Some(found) = [TlsPrefix::Notls, TlsPrefix::Btls, TlsPrefix::Mtls]
            .into_iter()
            .find(|prefix| rest.starts_with(prefix.text()))
        {
            if tls != TlsPrefix::AsChosen {
                return Err(given.bad("A listener can only have one of notls:, btls: and mtls:"));
            }
            tls = found;
            rest = &rest[found.text().len()..];
        } else if let Some(prefix) =
            ["proto[ascii]:", "proto[negotiating]:"].into_iter().find(|prefix| rest.starts_with(prefix))
        {
            notes.push(format!("{} {prefix} has no effect: -B (--protocol) decides", given.row.flag()));
            rest = &rest[prefix.len()..];
        } else if rest.starts_with("proto[") {
            return Err(given.refused("a listener can only be proto[ascii]: or proto[negotiating]:"));
        } else if rest.starts_with("tag[") || rest.starts_with("tag_") {
            return Err(given.refused("listeners cannot be tagged; leave out the prefix"));
        } else {
            return Ok((tls, rest));
        }
    }
}

/// `host`, `host:port`, `v6`, `[v6]`, `[v6]:port`, `*`, `*:port`.
fn host_and_port(entry: &str, given: &Given<'_>) -> Result<(String, Option<u16>), Fault> {
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
            port.trim_start()
                .parse()
                .map_err(|_| given.bad(format!("Invalid port number: \"{port}\", give one up to 65535")))?,
        ),
        None => None,
    };
    Ok((host.to_owned(), port))
}

/// Whether this is an IPv6 address, with or without a zone (`fe80::1%eth0`).
fn is_v6(host: &str) -> bool {
    host.split('%').next().is_some_and(|address| address.parse::<Ipv6Addr>().is_ok())
}
