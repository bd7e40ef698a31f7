//! What an operator chose: plain values, checked where they were parsed, and read-only from then on.

mod listening;

use std::fmt;
use std::path::PathBuf;

pub use listening::{
    HttpAddress, ListenAddress, Protocol, TcpPort, TlsPrefix, TlsSettings, TlsVersion, VerifyMode,
};

/// What `version` and `stats` tell. It begins with a memcached version because clients compare it.
pub const VERSION: &str = concat!("1.6.45-ferrocached-", env!("CARGO_PKG_VERSION"));
/// The smallest memory limit `cache_memlimit` accepts, in bytes. Source: memcached's protocol document.
pub const MEMORY_BYTES_MIN: u64 = 8 << 20;
/// The default of `-I`, in bytes.
pub const ITEM_BYTES_MAX_DEFAULT: u64 = 1 << 20;

/// What memcached has of its slab pages, in bytes.
const SLAB_PAGE_BYTES: u64 = 1 << 20;

/// The buffers of all connections may take one part in so many of the memory limit, unless the operator chooses.
const BUFFER_PARTS: u64 = 4;
/// Or this, where it is more, in bytes: the default of `-m`.
pub(crate) const BUFFER_BYTES_MIN: u64 = 64 << 20;

/// A user with a password as it was given, which may hold colons and is no hash: the only one who may log in.
#[derive(Clone, PartialEq, Eq)]
pub struct OneUser {
    /// As clients send it.
    pub name: Vec<u8>,
    /// As clients send it.
    pub password: Vec<u8>,
}

impl fmt::Debug for OneUser {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("OneUser").finish_non_exhaustive()
    }
}

/// Everything the engine and the network need to know.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// `-p`.
    pub port: TcpPort,
    /// `-U`; `None` is no UDP at all, 0 is a port the system chooses.
    pub udp_port: Option<u16>,
    /// `-l`, all of them; empty means every address of both families.
    pub listen: Vec<ListenAddress>,
    /// `-s`; turns TCP off.
    pub unix_socket: Option<PathBuf>,
    /// `--http`: where metrics and health are served; `None` is nowhere.
    pub http: Option<HttpAddress>,
    /// `-a`: permission bits of the socket file.
    pub unix_mask: u32,
    /// `-b`: the listen(2) backlog.
    pub backlog: u32,
    /// `-A`.
    pub shutdown_enabled: bool,
    /// `-m`, in bytes.
    pub memory_bytes: u64,
    /// Off with `-M`: refuse to store rather than evict.
    pub evictions_enabled: bool,
    /// `-c`.
    pub connections_max: u32,
    /// `-o maxconns_fast`: over the limit, tell the client and close, instead of leaving it in the backlog.
    pub maxconns_fast: bool,
    /// `-v`, counted.
    pub verbosity: u8,
    /// `-t`.
    pub threads: usize,
    /// `-R`.
    pub requests_per_event: u32,
    /// Off with `-C`: `gets` reports 0.
    pub cas_enabled: bool,
    /// `-B`.
    pub protocol: Protocol,
    /// `-I`, in bytes: the most an item may take, key and header included.
    pub item_bytes_max: u64,
    /// `-Y`: the file of those who may log in. With it, who has not logged in may do nothing else; until
    /// [`Engine::set_users`](crate::engine::Engine::set_users) is called, that is nobody.
    pub auth_file: Option<PathBuf>,
    /// Whether `auth_file` is that of `MEMCACHED_SASL_PWDB`, with passwords in the open and no rights.
    pub auth_file_is_pwdb: bool,
    /// `-S`: clients of the binary protocol log in by SASL.
    pub sasl_enabled: bool,
    /// `MEMCACHED_PASSWORD`: the same for one user, whose name and password are not here. There is no file then.
    pub has_one_user: bool,
    /// Off with `-F`.
    pub flush_enabled: bool,
    /// Off with `-X`.
    pub dump_enabled: bool,
    /// Off with `-W`.
    pub watch_enabled: bool,
    /// `-D`.
    pub prefix_delimiter: u8,
    /// On with `-D`.
    pub detail_enabled: bool,
    /// `-o idle_timeout`, in seconds; 0 is never.
    pub idle_seconds_max: u32,
    /// `-o read_buf_mem_limit`, in bytes over all connections; 0 is no limit. See
    /// [`buffer_bytes_max`](Settings::buffer_bytes_max).
    pub read_buffer_bytes_max: Option<u64>,
    /// Off with `-o no_lru_crawler`: dead items are then found only when read or when room is needed.
    pub sweep_enabled: bool,
    /// Off with `-o no_protected_mode`: whoever has neither chosen an address to listen on nor asks for a password
    /// serves public addresses, too.
    pub protected_mode: bool,
    /// `-o drop_privileges`: give up the system calls that a running server does not need.
    pub drop_privileges: bool,
    /// `-Z` and the `ssl_` sub-options.
    pub tls: TlsSettings,
    /// Options that have no meaning without slab classes, kept so that `stats settings` can tell what was given.
    pub compat: Compat,
}

/// What `stats settings` shows of options that have no effect here. The defaults are memcached's.
#[derive(Clone, Debug, PartialEq)]
pub struct Compat {
    /// `-f`.
    pub growth_factor: f64,
    /// `-n`, in bytes.
    pub chunk_bytes: u32,
    /// `-o hashpower`.
    pub hash_power_init: u32,
    /// `-o slab_reassign`.
    pub slab_reassign: bool,
    /// `-o slab_automove`.
    pub slab_automove: u32,
    /// `-o slab_automove_ratio`.
    pub slab_automove_ratio: f64,
    /// `-o slab_automove_window`.
    pub slab_automove_window: u32,
    /// `-o slab_chunk_max`, in bytes.
    pub slab_chunk_bytes_max: u64,
    /// `-o lru_crawler_sleep`, in microseconds.
    pub lru_crawler_sleep: u32,
    /// `-o lru_crawler_tocrawl`.
    pub lru_crawler_tocrawl: u32,
    /// `-o tail_repair_time`, in seconds.
    pub tail_repair_seconds: u32,
    /// `-o hash_algorithm`.
    pub hash_algorithm: String,
    /// `-o lru_maintainer`.
    pub lru_maintainer: bool,
    /// `-o lru_segmented`.
    pub lru_segmented: bool,
    /// `-o hot_lru_pct`.
    pub hot_lru_percent: u32,
    /// `-o warm_lru_pct`.
    pub warm_lru_percent: u32,
    /// `-o hot_max_factor`.
    pub hot_max_factor: f64,
    /// `-o warm_max_factor`.
    pub warm_max_factor: f64,
    /// `-o temporary_ttl`, in seconds; `None` is off.
    pub temporary_ttl: Option<u32>,
    /// `-o watcher_logbuf_size`, in bytes.
    pub watcher_logbuf_bytes: u64,
    /// `-o worker_logbuf_size`, in bytes.
    pub worker_logbuf_bytes: u64,
    /// `-o track_sizes`.
    pub track_sizes: bool,
    /// `-N`.
    pub napi_ids: u32,
    /// `-e`.
    pub memory_file: Option<PathBuf>,
}

impl Settings {
    /// Whether clients have to log in before they may do anything else.
    pub fn asks_for_password(&self) -> bool {
        self.auth_file.is_some() || self.has_one_user || self.sasl_enabled
    }

    /// The most that the buffers of all connections may take in all, in bytes; 0 is no limit.
    ///
    /// Where the operator did not choose, that is in proportion to the memory limit, but enough for some uploads at
    /// once where that is small, and for one of the largest there may be, whose buffer doubles as it grows.
    pub fn buffer_bytes_max(&self) -> u64 {
        let default = (self.memory_bytes / BUFFER_PARTS).max(2 * self.item_bytes_max).max(BUFFER_BYTES_MIN);
        self.read_buffer_bytes_max.unwrap_or(default)
    }

    /// The defaults of memcached 1.4 (`-o no_modern`), where there is anything that they change or that shows them.
    /// Source: `stats settings` of memcached 1.6.18.
    pub fn predate_modern(&mut self) {
        self.maxconns_fast = false;
        self.sweep_enabled = false;
        self.compat.slab_reassign = false;
        self.compat.slab_automove = 0;
        self.compat.slab_chunk_bytes_max = SLAB_PAGE_BYTES;
        self.compat.hash_algorithm = "jenkins".to_owned();
        self.compat.lru_maintainer = false;
        self.compat.lru_segmented = false;
    }

    /// Has `-l`, `-s` and `-U` mean nothing, because sockets were handed in. Above all an `-l` that is not listened on
    /// does not say whom these sockets are for.
    pub fn forget_addresses(&mut self) {
        self.listen.clear();
        self.unix_socket = None;
        self.udp_port = None;
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            port: TcpPort::Fixed(11211),
            udp_port: None,
            listen: Vec::new(),
            unix_socket: None,
            http: None,
            unix_mask: 0o700,
            backlog: 1024,
            shutdown_enabled: false,
            memory_bytes: 64 << 20,
            evictions_enabled: true,
            connections_max: 1024,
            maxconns_fast: true,
            verbosity: 0,
            threads: 4,
            requests_per_event: 20,
            cas_enabled: true,
            protocol: Protocol::Auto,
            item_bytes_max: ITEM_BYTES_MAX_DEFAULT,
            auth_file: None,
            auth_file_is_pwdb: false,
            sasl_enabled: false,
            has_one_user: false,
            flush_enabled: true,
            dump_enabled: true,
            watch_enabled: true,
            prefix_delimiter: b':',
            detail_enabled: false,
            idle_seconds_max: 0,
            read_buffer_bytes_max: None,
            sweep_enabled: true,
            protected_mode: true,
            drop_privileges: false,
            tls: TlsSettings::default(),
            compat: Compat::default(),
        }
    }
}

impl Default for Compat {
    fn default() -> Compat {
        Compat {
            growth_factor: 1.25,
            chunk_bytes: 48,
            hash_power_init: 16,
            slab_reassign: true,
            slab_automove: 1,
            slab_automove_ratio: 0.8,
            slab_automove_window: 10,
            slab_chunk_bytes_max: 512 << 10,
            lru_crawler_sleep: 100,
            lru_crawler_tocrawl: 0,
            tail_repair_seconds: 0,
            hash_algorithm: "murmur3".to_owned(),
            lru_maintainer: true,
            lru_segmented: true,
            hot_lru_percent: 20,
            warm_lru_percent: 40,
            hot_max_factor: 0.2,
            warm_max_factor: 2.0,
            temporary_ttl: None,
            watcher_logbuf_bytes: 256 << 10,
            worker_logbuf_bytes: 64 << 10,
            track_sizes: false,
            napi_ids: 0,
            memory_file: None,
        }
    }
}
