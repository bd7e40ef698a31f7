//! `stats settings`: what was chosen, and what of it commands have changed since. Names and order are memcached's.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use crate::clock::Tick;
use crate::engine::Engine;
use crate::protocol::{Owed, StatLines};
use crate::settings::{ListenAddress, Protocol, Settings, TcpPort, TlsSettings, TlsVersion, VerifyMode};

impl Engine {
    /// `stats settings`.
    pub(in crate::engine) fn say_settings(&self, owed: &mut Owed, now: Tick) {
        let compat = self.compat().clone();
        let mut lines = StatLines::new(owed);
        self.say_own_settings(&mut lines, now);
        lines.flag("slab_reassign", compat.slab_reassign);
        lines.number("slab_automove", u64::from(compat.slab_automove));
        lines.decimal("slab_automove_ratio", compat.slab_automove_ratio, 2);
        lines.number("slab_automove_window", u64::from(compat.slab_automove_window));
        lines.number("slab_chunk_max", compat.slab_chunk_bytes_max);
        lines.flag("lru_crawler", self.sweep_enabled());
        lines.number("lru_crawler_sleep", u64::from(compat.lru_crawler_sleep));
        lines.number("lru_crawler_tocrawl", u64::from(compat.lru_crawler_tocrawl));
        lines.number("tail_repair_time", u64::from(compat.tail_repair_seconds));
        lines.flag("flush_enabled", self.settings.flush_enabled);
        lines.flag("dump_enabled", self.settings.dump_enabled);
        lines.text("hash_algorithm", &compat.hash_algorithm);
        lines.flag("lru_maintainer_thread", compat.lru_maintainer);
        lines.flag("lru_segmented", compat.lru_segmented);
        lines.number("hot_lru_pct", u64::from(compat.hot_lru_percent));
        lines.number("warm_lru_pct", u64::from(compat.warm_lru_percent));
        lines.decimal("hot_max_factor", compat.hot_max_factor, 2);
        lines.decimal("warm_max_factor", compat.warm_max_factor, 2);
        lines.flag("temp_lru", compat.temporary_ttl.is_some());
        // memcached shows 61 where it is off.
        lines.number("temporary_ttl", u64::from(compat.temporary_ttl.unwrap_or(61)));
        lines.number("idle_timeout", u64::from(self.settings.idle_seconds_max));
        lines.number("watcher_logbuf_size", compat.watcher_logbuf_bytes);
        lines.number("worker_logbuf_size", compat.worker_logbuf_bytes);
        lines.number("read_buf_mem_limit", self.settings.buffer_bytes_max());
        lines.flag("track_sizes", compat.track_sizes);
        lines.text("inline_ascii_response", "no");
        lines.flag("drop_privileges", self.settings.drop_privileges);
        say_tls(&mut lines, &self.settings.tls);
        lines.number("num_napi_ids", u64::from(compat.napi_ids));
        let memory_file = compat.memory_file.as_ref().map(|path| path.display().to_string());
        lines.text("memory_file", memory_file.as_deref().unwrap_or("(null)"));
        lines.number("client_flags_size", 4);
        lines.end();
    }

    fn say_own_settings(&self, lines: &mut StatLines<'_>, now: Tick) {
        let Settings { compat, .. } = &self.settings;
        let settings = &self.settings;
        lines.number("maxbytes", self.store.memory_bytes());
        lines.number("maxconns", u64::from(settings.connections_max));
        let port = match settings.port {
            TcpPort::Fixed(port) if settings.unix_socket.is_none() => port,
            _ => 0,
        };
        lines.number("tcpport", u64::from(port));
        lines.number("udpport", u64::from(settings.udp_port.unwrap_or(0)));
        lines.text("inter", &listen_text(settings));
        lines.number("verbosity", u64::from(self.verbosity()));
        let flushed_at = Tick(self.flushed_at.load(Ordering::Relaxed).min(now.0));
        lines.number("oldest", u64::from(flushed_at.seconds_since(Tick(0))));
        lines.text("evictions", if settings.evictions_enabled { "on" } else { "off" });
        let socket = settings.unix_socket.as_ref().map(|path| path.display().to_string());
        lines.text("domain_socket", socket.as_deref().unwrap_or("NULL"));
        lines.text("umask", &format!("{:o}", settings.unix_mask));
        lines.flag("shutdown_command", settings.shutdown_enabled);
        lines.decimal("growth_factor", compat.growth_factor, 2);
        lines.number("chunk_size", u64::from(compat.chunk_bytes));
        lines.number("num_threads", settings.threads as u64);
        lines.number("num_threads_per_udp", 1);
        lines.text("stat_key_prefix", &char::from(settings.prefix_delimiter).to_string());
        lines.flag("detail_enabled", self.prefixes.is_on());
        lines.number("reqs_per_event", u64::from(settings.requests_per_event));
        lines.flag("cas_enabled", settings.cas_enabled);
        lines.number("tcp_backlog", u64::from(settings.backlog));
        lines.text(
            "binding_protocol",
            match settings.protocol {
                Protocol::Auto => "auto-negotiate",
                Protocol::Ascii => "ascii",
            },
        );
        lines.text("auth_enabled_sasl", "no");
        // Where the users come from, as in memcached.
        let auth_file = settings.auth_file.as_ref().map(|path| path.display().to_string());
        let no_file = if settings.has_one_user { "MEMCACHED_PASSWORD" } else { "no" };
        lines.text("auth_enabled_ascii", auth_file.as_deref().unwrap_or(no_file));
        lines.number("item_size_max", settings.item_bytes_max);
        lines.flag("maxconns_fast", settings.maxconns_fast);
        lines.number("hashpower_init", u64::from(compat.hash_power_init));
    }
}

fn say_tls(lines: &mut StatLines<'_>, tls: &TlsSettings) {
    // As memcached does, which shows the two kinds of nothing.
    let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let chain_cert = path(&tls.chain_cert);
    let key = path(&tls.key).or_else(|| chain_cert.clone());
    lines.flag("ssl_enabled", tls.enabled);
    lines.text("ssl_chain_cert", chain_cert.as_deref().unwrap_or("(null)"));
    lines.text("ssl_key", key.as_deref().unwrap_or("(null)"));
    // The flags of OpenSSL that memcached makes of the modes 0 to 3.
    let mode = match tls.verify_mode {
        VerifyMode::None => 0,
        VerifyMode::Request => 1,
        VerifyMode::Require => 3,
        VerifyMode::Once => 7,
    };
    lines.number("ssl_verify_mode", mode);
    lines.number("ssl_keyformat", 1); // PEM
    lines.text("ssl_ciphers", tls.ciphers.as_deref().unwrap_or("NULL"));
    lines.text("ssl_ca_cert", path(&tls.ca_cert).as_deref().unwrap_or("NULL"));
    lines.number("ssl_wbuf_size", tls.write_buffer_bytes);
    lines.flag("ssl_session_cache", tls.session_cache);
    lines.flag("ssl_kernel_tls", tls.kernel_tls);
    let version = match tls.min_version {
        TlsVersion::V1_2 => "tlsv1.2",
        TlsVersion::V1_3 => "tlsv1.3",
    };
    lines.text("ssl_min_version", version);
}

/// What `-l` gave, as `inter` shows it.
fn listen_text(settings: &Settings) -> String {
    if settings.listen.is_empty() {
        return "NULL".to_owned();
    }
    let entry = |ListenAddress { host, port, tls }: &ListenAddress| match port {
        Some(port) if host.contains(':') => format!("{}[{host}]:{port}", tls.text()),
        Some(port) => format!("{}{host}:{port}", tls.text()),
        None => format!("{}{host}", tls.text()),
    };
    settings.listen.iter().map(entry).collect::<Vec<_>>().join(",")
}
