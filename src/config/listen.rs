//! The entries of `-l`: names and addresses, with and without ports.

use std::net::Ipv6Addr;

use super::Config;
use super::fault::Fault;
use super::given::Given;
use crate::settings::{HttpAddress, ListenAddress, Protocol, Settings, TlsPrefix};

/// Adds the entries of one `-l` to those of the same source. The first `-l` of a source replaces the entries of weaker
/// sources.
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
        let (tls, protocol, address) = without_prefixes(entry, given, &mut config.notes)?;
        let (host, port) = host_and_port(address, given)?;
        config.settings.listen.push(ListenAddress { host, port, tls, protocol });
    }
    Ok(())
}

/// `--http`: a port, or an address with one.
pub(super) fn http(config: &mut Config, given: &Given<'_>) -> Result<(), Fault> {
    let text = given.shown();
    let (host, port) = match text.trim().parse() {
        Ok(port) => (None, Some(port)),
        Err(_) => host_and_port(text.trim(), given).map(|(host, port)| (Some(host), port))?,
    };
    let port = port.ok_or_else(|| given.bad("A port is needed, as in 9150 or 127.0.0.1:9150"))?;
    config.settings.http = Some(HttpAddress { host, listen: Vec::new(), port });
    Ok(())
}

/// Tells HTTP the addresses of `-l`.
pub(super) fn tell_http(settings: &mut Settings) {
    let Some(http) = &mut settings.http else { return };
    for entry in &settings.listen {
        // `-l` may name one address several times, with a port each: then the first says whether HTTP speaks TLS there.
        if !http.listen.iter().any(|known| known.host == entry.host) {
            http.listen.push(ListenAddress { port: None, protocol: None, ..entry.clone() });
        }
    }
}

/// Takes off what stands before the address: `notls:`, `btls:` or `mtls:`, the protocol (`proto[ascii]:`) and the tag
/// (`tag[name]:` or `tag_name_:`). A tag has no effect: memcached gives it to the routes of its proxy, and neither
/// `watch` nor `stats conns` shows it.
fn without_prefixes<'a>(
    entry: &'a str,
    given: &Given<'_>,
    notes: &mut Vec<String>,
) -> Result<(TlsPrefix, Option<Protocol>, &'a str), Fault> {
    let (mut tls, mut protocol) = (TlsPrefix::AsChosen, None);
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
        } else if let Some(named) = rest.strip_prefix("proto[") {
            let (name, address) = named
                .split_once("]:")
                .ok_or_else(|| given.bad("A protocol is written as in proto[ascii]:127.0.0.1"))?;
            protocol = Some(protocol_of(name, given)?);
            rest = address;
        } else if let Some((tag, address)) = tag(rest) {
            if tag.is_empty() || address.is_none() {
                return Err(given.bad("A tag is written as in tag[name]:127.0.0.1 or tag_name_:127.0.0.1"));
            }
            notes.push(format!(
                "the tag {tag:?} of {} has no effect: it is for the routes of memcached's proxy",
                given.row.flag()
            ));
            rest = address.unwrap_or_default();
        } else {
            return Ok((tls, protocol, rest));
        }
    }
}

/// The protocol that `proto[name]:` stands for.
fn protocol_of(name: &str, given: &Given<'_>) -> Result<Protocol, Fault> {
    const THERE_ARE: &str = "a listener can be proto[ascii]:, proto[binary]: or proto[negotiating]:";
    match name {
        "ascii" => Ok(Protocol::Ascii),
        "binary" => Ok(Protocol::Binary),
        "negotiating" => Ok(Protocol::Auto),
        "proxy" => Err(given.refused(format!("the proxy is not there; {THERE_ARE}"))),
        _ => Err(given.bad(format!("There is no such protocol; {THERE_ARE}"))),
    }
}

/// The tag before an address, and the address; `None` for the latter if the tag has no end. A name that begins with
/// `tag_` may be that of a host.
fn tag(entry: &str) -> Option<(&str, Option<&str>)> {
    if let Some(tagged) = entry.strip_prefix("tag[") {
        return Some(tagged.split_once("]:").map_or((tagged, None), |(tag, address)| (tag, Some(address))));
    }
    let (tag, address) = entry.strip_prefix("tag_")?.split_once("_:")?;
    Some((tag, Some(address)))
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
