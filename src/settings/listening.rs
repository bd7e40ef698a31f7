//! What clients reach the server by, and what they have to speak there.

use std::fmt;
use std::path::PathBuf;

/// Which TCP port to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpPort {
    /// `-p 0`: no TCP at all.
    Off,
    /// `-p -1`: one the system chooses; `MEMCACHED_PORT_FILENAME` tells which.
    Ephemeral,
    /// This one.
    Fixed(u16),
}

/// One entry of `-l`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddress {
    /// A name or a numeric address, without brackets; `*` is every address.
    pub host: String,
    /// The port of `host:port`; `None` takes that of `-p`.
    pub port: Option<u16>,
    /// What its prefix says about TLS.
    pub tls: TlsPrefix,
    /// What its prefix `proto[...]:` says; `None` is what `-B` says.
    pub protocol: Option<Protocol>,
}

impl ListenAddress {
    /// Every address, without a port or prefixes.
    pub fn everywhere() -> ListenAddress {
        ListenAddress { host: "*".to_owned(), port: None, tls: TlsPrefix::AsChosen, protocol: None }
    }
}

/// Where HTTP is served (`--http`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpAddress {
    /// A name or a numeric address, without brackets; `None` is every address of `-l`.
    pub host: Option<String>,
    /// The addresses of `-l`, each once and without its port; none if there is no `-l`. HTTP keeps to them where sockets
    /// are handed in for the cache, too.
    pub listen: Vec<ListenAddress>,
    /// The port; 0 is one that the system chooses.
    pub port: u16,
}

/// What a prefix of `-l` says about TLS. Without `-Z` there is only the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsPrefix {
    /// Nothing: TLS with `-Z`, and client certificates as `ssl_verify_mode` says.
    #[default]
    AsChosen,
    /// `notls:`, no TLS.
    Notls,
    /// `btls:`, TLS, and no client certificate is asked for.
    Btls,
    /// `mtls:`, TLS, and a client certificate is required.
    Mtls,
}

impl TlsPrefix {
    /// The prefix that says so.
    pub fn text(self) -> &'static str {
        match self {
            TlsPrefix::AsChosen => "",
            TlsPrefix::Notls => "notls:",
            TlsPrefix::Btls => "btls:",
            TlsPrefix::Mtls => "mtls:",
        }
    }
}

/// Whether clients are asked for a certificate (`ssl_verify_mode`). The names are memcached's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VerifyMode {
    /// 0: no certificate.
    #[default]
    None,
    /// 1: a certificate, which has to be good if there is one.
    Request,
    /// 2: a good certificate.
    Require,
    /// 3: as 2; there is no renegotiation at which it could be asked for again.
    Once,
}

/// The oldest version of TLS that clients may speak (`ssl_min_version`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersion {
    /// 1.2.
    #[default]
    V1_2,
    /// 1.3.
    V1_3,
}

/// Everything about TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// `-Z`: TCP listeners speak TLS.
    pub enabled: bool,
    /// `ssl_chain_cert`: the server's certificate and those that lead to its issuer, in PEM.
    pub chain_cert: Option<PathBuf>,
    /// `ssl_key`: its private key, in PEM; `None` when it is in the file of the certificates.
    pub key: Option<PathBuf>,
    /// `ssl_ca_cert`: those who may issue client certificates, in PEM.
    pub ca_cert: Option<PathBuf>,
    /// `ssl_verify_mode`.
    pub verify_mode: VerifyMode,
    /// `ssl_min_version`.
    pub min_version: TlsVersion,
    /// `ssl_session_cache`.
    pub session_cache: bool,
    /// `ssl_ciphers`; has no effect.
    pub ciphers: Option<String>,
    /// `ssl_wbuf_size`, in bytes; has no effect.
    pub write_buffer_bytes: u64,
    /// `ssl_kernel_tls`; has no effect.
    pub kernel_tls: bool,
}

impl Default for TlsSettings {
    fn default() -> TlsSettings {
        TlsSettings {
            enabled: false,
            chain_cert: None,
            key: None,
            ca_cert: None,
            verify_mode: VerifyMode::None,
            min_version: TlsVersion::V1_2,
            session_cache: false,
            ciphers: None,
            write_buffer_bytes: 16 << 10,
            kernel_tls: false,
        }
    }
}

/// Which protocols a connection may speak (`-B`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Decided by the first byte of each connection.
    Auto,
    /// Text only.
    Ascii,
    /// The binary protocol only.
    Binary,
}

impl fmt::Display for Protocol {
    /// The name that `stats settings` and `proto[...]` have for it, which is memcached's.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Protocol::Auto => "negotiating",
            Protocol::Ascii => "ascii",
            Protocol::Binary => "binary",
        })
    }
}
