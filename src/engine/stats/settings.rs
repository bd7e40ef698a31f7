//! The rows of `stats settings`: the settings, as commands have changed them since the start. Names and order are
//! memcached's.

use std::borrow::Cow;
use std::path::Path;

use super::numbers::Numbers;
use super::row::{Row, flag, gauge, ratio, text};
use crate::clock::Tick;
use crate::settings::{ListenAddress, Protocol, TcpPort, TlsVersion, VerifyMode};

/// `stats settings`.
pub(in crate::engine) static SETTINGS: &[Row] = &[
    gauge("maxbytes", |n| n.engine.store().memory_bytes())
        .says("The most memory that items and their index may take, in bytes (-m, cache_memlimit)."),
    gauge("maxconns", |n| u64::from(n.settings().connections_max))
        .says("The most clients that may be connected at once: -c, or fewer if the system allows fewer."),
    gauge("tcpport", tcp_port).says("TCP port (-p); 0 is none, or one that the system chose."),
    gauge("udpport", |n| u64::from(n.settings().udp_port.unwrap_or(0)))
        .says("UDP port (-U); 0 is none, or one that the system chose."),
    text("inter", listen_addresses).says("Addresses to listen on (-l); NULL is every address."),
    gauge("verbosity", |n| u64::from(n.engine.verbosity())).says("How much is logged (-v, verbosity)."),
    gauge("oldest", flushed_at)
        .says("When everything was last flushed, in seconds since the server started."),
    text("evictions", |n| if n.settings().evictions_enabled { "on" } else { "off" }.into())
        .says("on, or off with -M: whether items are dropped to make room for others."),
    text("domain_socket", |n| path_or("NULL", n.settings().unix_socket.as_deref()))
        .says("Path of the UNIX socket (-s); NULL is none."),
    text("umask", |n| format!("{:o}", n.settings().unix_mask).into())
        .says("Permission bits of the UNIX socket, in octal (-a)."),
    flag("shutdown_command", |n| n.settings().shutdown_enabled)
        .says("Whether clients may stop the server (-A)."),
    ratio("growth_factor", |n| n.compat().growth_factor).says("-f, which has no effect."),
    gauge("chunk_size", |n| u64::from(n.compat().chunk_bytes)).says("-n, in bytes, which has no effect."),
    gauge("num_threads", |n| n.settings().threads as u64).says("Threads that serve clients (-t)."),
    gauge("num_threads_per_udp", |_| 1).says("Always 1: a datagram is served by one thread."),
    text("stat_key_prefix", |n| char::from(n.settings().prefix_delimiter).to_string().into())
        .says("What ends the prefix of a key (-D)."),
    flag("detail_enabled", |n| n.engine.prefixes().is_on())
        .says("Whether requests are counted by prefix (-D, stats detail)."),
    gauge("reqs_per_event", |n| u64::from(n.settings().requests_per_event))
        .says("Requests of one connection that are served before others have their turn (-R)."),
    flag("cas_enabled", |n| n.settings().cas_enabled).says("Whether items have a CAS id; no with -C."),
    gauge("tcp_backlog", |n| u64::from(n.settings().backlog))
        .says("How many connections may wait to be accepted (-b)."),
    text("binding_protocol", protocol).says("Which protocols are spoken (-B)."),
    flag("auth_enabled_sasl", |numbers| numbers.settings().sasl_enabled)
        .says("Whether clients of the binary protocol log in by SASL (`-S`)."),
    text("auth_enabled_ascii", user_file)
        .says("The file of those who may log in (-Y), MEMCACHED_PASSWORD, or no: nobody has to log in."),
    gauge("item_size_max", |n| n.settings().item_bytes_max).says("The most an item may take, in bytes (-I)."),
    flag("maxconns_fast", |n| n.settings().maxconns_fast)
        .says("Whether clients over the limit of -c are told so instead of having to wait."),
    gauge("hashpower_init", |n| u64::from(n.compat().hash_power_init))
        .says("-o hashpower, which has no effect."),
    flag("slab_reassign", |n| n.compat().slab_reassign).says("-o slab_reassign, which has no effect."),
    gauge("slab_automove", |n| u64::from(n.compat().slab_automove))
        .says("-o slab_automove or slabs automove, which have no effect."),
    ratio("slab_automove_ratio", |n| n.compat().slab_automove_ratio)
        .says("-o slab_automove_ratio, which has no effect."),
    gauge("slab_automove_window", |n| u64::from(n.compat().slab_automove_window))
        .says("-o slab_automove_window, which has no effect."),
    gauge("slab_chunk_max", |n| n.compat().slab_chunk_bytes_max)
        .says("-o slab_chunk_max, in bytes, which has no effect."),
    flag("lru_crawler", |n| n.engine.sweep_enabled())
        .says("Whether expired items are looked for in the background (-o lru_crawler, lru_crawler)."),
    gauge("lru_crawler_sleep", |n| u64::from(n.compat().lru_crawler_sleep))
        .says("-o lru_crawler_sleep, in microseconds, which has no effect."),
    gauge("lru_crawler_tocrawl", |n| u64::from(n.compat().lru_crawler_tocrawl))
        .says("The most items that one lru_crawler crawl looks at; 0 is all of them."),
    gauge("tail_repair_time", |n| u64::from(n.compat().tail_repair_seconds))
        .says("-o tail_repair_time, in seconds, which has no effect."),
    flag("flush_enabled", |n| n.settings().flush_enabled)
        .says("Whether flush_all and flush_prefix are allowed; no with -F."),
    flag("dump_enabled", |n| n.settings().dump_enabled).says("Whether commands may show keys; no with -X."),
    text("hash_algorithm", |n| n.compat().hash_algorithm.clone().into())
        .says("-o hash_algorithm, which has no effect."),
    flag("lru_maintainer_thread", |n| n.compat().lru_maintainer)
        .says("-o lru_maintainer; without it, stats leaves out what only memcached's LRU lists have."),
    flag("lru_segmented", |n| n.compat().lru_segmented)
        .says("-o lru_segmented or lru mode, which have no effect."),
    gauge("hot_lru_pct", |n| u64::from(n.compat().hot_lru_percent))
        .says("-o hot_lru_pct or lru tune, in percent, which have no effect."),
    gauge("warm_lru_pct", |n| u64::from(n.compat().warm_lru_percent))
        .says("-o warm_lru_pct or lru tune, in percent, which have no effect."),
    ratio("hot_max_factor", |n| n.compat().hot_max_factor)
        .says("-o hot_max_factor or lru tune, which have no effect."),
    ratio("warm_max_factor", |n| n.compat().warm_max_factor)
        .says("-o warm_max_factor or lru tune, which have no effect."),
    flag("temp_lru", |n| n.compat().temporary_ttl.is_some())
        .says("Whether temporary_ttl was set, which has no effect."),
    // memcached shows 61 where it is off.
    gauge("temporary_ttl", |n| u64::from(n.compat().temporary_ttl.unwrap_or(61)))
        .says("-o temporary_ttl or lru temp_ttl, in seconds, which have no effect."),
    gauge("idle_timeout", |n| u64::from(n.settings().idle_seconds_max))
        .says("Seconds without a request after which a connection is closed; 0 is never (-o idle_timeout)."),
    gauge("watcher_logbuf_size", |n| n.compat().watcher_logbuf_bytes)
        .says("-o watcher_logbuf_size, in bytes, which has no effect."),
    gauge("worker_logbuf_size", |n| n.compat().worker_logbuf_bytes)
        .says("-o worker_logbuf_size, in bytes, which has no effect."),
    gauge("read_buf_mem_limit", |n| n.settings().buffer_bytes_max()).says(
        "The most memory that unfinished requests and unread replies may take, in bytes; 0 is no limit.",
    ),
    flag("track_sizes", |n| n.compat().track_sizes).says("-o track_sizes, which has no effect."),
    text("inline_ascii_response", |_| "no".into()).says("Always no, as in memcached."),
    flag("drop_privileges", |n| n.settings().drop_privileges)
        .says("Whether the server gave up the system calls it does not need (-o drop_privileges)."),
    flag("ssl_enabled", |n| n.settings().tls.enabled).says("Whether TCP listeners speak TLS (-Z)."),
    // As memcached does, which shows the two kinds of nothing.
    text("ssl_chain_cert", |n| path_or("(null)", n.settings().tls.chain_cert.as_deref()))
        .says("File of the server's certificates (-o ssl_chain_cert)."),
    text("ssl_key", tls_key).says("File of their private key (-o ssl_key)."),
    gauge("ssl_verify_mode", tls_verify_flags).says(
        "0: clients need no certificate, 1: it has to be good if there is one, 3 and 7: they need one.",
    ),
    gauge("ssl_keyformat", |_| 1).says("Always 1: keys are in PEM."),
    text("ssl_ciphers", |n| n.settings().tls.ciphers.clone().map_or("NULL".into(), Cow::Owned))
        .says("-o ssl_ciphers, which has no effect."),
    text("ssl_ca_cert", |n| path_or("NULL", n.settings().tls.ca_cert.as_deref()))
        .says("File of those who may issue client certificates (-o ssl_ca_cert)."),
    gauge("ssl_wbuf_size", |n| n.settings().tls.write_buffer_bytes)
        .says("-o ssl_wbuf_size, in bytes, which has no effect."),
    flag("ssl_session_cache", |n| n.settings().tls.session_cache)
        .says("Whether clients may resume TLS sessions (-o ssl_session_cache)."),
    flag("ssl_kernel_tls", |n| n.settings().tls.kernel_tls).says("-o ssl_kernel_tls, which has no effect."),
    text("ssl_min_version", tls_version).says("The oldest TLS that is spoken (-o ssl_min_version)."),
    gauge("num_napi_ids", |n| u64::from(n.compat().napi_ids)).says("-N, which has no effect."),
    text("memory_file", |n| path_or("(null)", n.compat().memory_file.as_deref()))
        .says("-e, which has no effect."),
    gauge("client_flags_size", |_| 4).says("Size of the client's flags of an item, in bytes."),
];

/// `path`, or what is shown where there is `none`.
fn path_or(none: &'static str, path: Option<&Path>) -> Cow<'static, str> {
    path.map_or(none.into(), |path| path.display().to_string().into())
}

fn tcp_port(numbers: &Numbers<'_>) -> u64 {
    match numbers.settings().port {
        TcpPort::Fixed(port) if numbers.settings().unix_socket.is_none() => port.into(),
        _ => 0,
    }
}

/// What `-l` gave.
fn listen_addresses(numbers: &Numbers<'_>) -> Cow<'static, str> {
    let addresses = &numbers.settings().listen;
    if addresses.is_empty() {
        return "NULL".into();
    }
    let entry = |ListenAddress { host, port, tls, protocol }: &ListenAddress| {
        let protocol = protocol.map_or(String::new(), |protocol| format!("proto[{protocol}]:"));
        let prefixes = format!("{}{protocol}", tls.text());
        match port {
            Some(port) if host.contains(':') => format!("{prefixes}[{host}]:{port}"),
            Some(port) => format!("{prefixes}{host}:{port}"),
            None => format!("{prefixes}{host}"),
        }
    };
    addresses.iter().map(entry).collect::<Vec<_>>().join(",").into()
}

fn flushed_at(numbers: &Numbers<'_>) -> u64 {
    let flushed_at = numbers.engine.flushing().flushed_at().0.min(numbers.now.0);
    Tick(flushed_at).seconds_since(Tick(0)).into()
}

fn protocol(numbers: &Numbers<'_>) -> Cow<'static, str> {
    match numbers.settings().protocol {
        Protocol::Auto => "auto-negotiate",
        Protocol::Ascii => "ascii",
        Protocol::Binary => "binary",
    }
    .into()
}

/// Where the users come from, as in memcached.
fn user_file(numbers: &Numbers<'_>) -> Cow<'static, str> {
    let settings = numbers.settings();
    let no_file = if settings.has_one_user { "MEMCACHED_PASSWORD" } else { "no" };
    path_or(no_file, settings.auth_file.as_deref())
}

fn tls_key(numbers: &Numbers<'_>) -> Cow<'static, str> {
    let tls = &numbers.settings().tls;
    path_or("(null)", tls.key.as_deref().or(tls.chain_cert.as_deref()))
}

/// The flags of OpenSSL that memcached makes of the modes 0 to 3.
fn tls_verify_flags(numbers: &Numbers<'_>) -> u64 {
    match numbers.settings().tls.verify_mode {
        VerifyMode::None => 0,
        VerifyMode::Request => 1,
        VerifyMode::Require => 3,
        VerifyMode::Once => 7,
    }
}

fn tls_version(numbers: &Numbers<'_>) -> Cow<'static, str> {
    match numbers.settings().tls.min_version {
        TlsVersion::V1_2 => "tlsv1.2",
        TlsVersion::V1_3 => "tlsv1.3",
    }
    .into()
}
