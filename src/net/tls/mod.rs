//! TLS for listeners, with certificates that are reloaded when their files change.
//!
//! Rules:
//! - new certificates apply to new connections; open ones keep those of their handshake;
//! - when new certificates cannot be loaded, the old ones stay in force;
//! - each kind of listener has sessions of its own, and new certificates begin new ones: so no client can resume a
//!   session where a full handshake would ask for a certificate that it never sent, or that is no longer valid.

pub(super) mod client;
mod files;
mod stream;
mod verifier;
mod version1;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustls::crypto::{CryptoProvider, ring};
use rustls::server::{NoServerSessionStorage, ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, ServerConnection, SupportedProtocolVersion};
use tracing::{error, info, warn};

use crate::engine::admin::certificates::Certificates;
use crate::settings::{Settings, TlsPrefix, TlsSettings, TlsVersion, VerifyMode};
pub use files::TlsError;
use files::{Files, Loaded, Stamps};
pub(super) use stream::TlsStream;
use verifier::ChainLengthLimit;

/// The time between two checks of the files for changes. The server reloads changed files once they have stayed the
/// same between two checks, so that a chain and a key that are replaced one after the other are loaded together.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// The longest handshake, in seconds.
pub(super) const HANDSHAKE_SECONDS_MAX: u32 = 10;

/// How many sessions each kind of listener remembers with `ssl_session_cache`: about 1 MB.
const SESSIONS_MAX: usize = 4096;

/// How many bytes a connection may hold to be encrypted and sent: four full records, sent by one write.
pub(super) const UNSENT_BYTES_MAX: usize = 64 << 10;

/// Which certificate a listener asks its clients for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientAuth {
    None,
    /// A certificate that must be valid if the client sends one.
    Optional,
    /// A valid certificate.
    Required,
}

/// TLS for every listener that speaks it.
#[derive(Debug)]
pub struct Tls {
    files: Files,
    settings: TlsSettings,
    current: Mutex<Current>,
    /// Locked while the files are read, so that the files that were read last are in force.
    file_state: Mutex<FileState>,
    /// Whether the log says why the files as they are now cannot be loaded.
    is_failure_logged: AtomicBool,
}

#[derive(Debug)]
struct Current {
    configs: Configs,
    since: Instant,
}

/// A configuration for each kind of listener; those that ask for certificates exist if there are issuers to trust.
#[derive(Clone, Debug)]
struct Configs {
    without: Arc<ServerConfig>,
    optional: Option<Arc<ServerConfig>>,
    required: Option<Arc<ServerConfig>>,
}

#[derive(Debug)]
struct FileState {
    /// The stamps of the files that are loaded.
    loaded: Stamps,
    /// The stamps that the last check saw.
    seen: Stamps,
}

/// The result of a check for changed files.
#[derive(Debug)]
enum ReloadCheck {
    /// There is nothing to load or to log.
    Unchanged,
    /// New certificates are in force.
    Reloaded,
    /// New files cannot be loaded, and the log does not say so yet.
    Failed(TlsError),
}

impl Tls {
    /// Loads the certificates that `settings` name; `None` without TLS.
    ///
    /// # Errors
    /// When a file cannot be read or used.
    pub fn load(settings: &Settings) -> Result<Option<Tls>, TlsError> {
        let tls = &settings.tls;
        let Some(files) = Files::named(tls).filter(|_| tls.enabled) else { return Ok(None) };
        let stamps = files.stamps();
        let configs = Configs::new(files.load()?, tls)?;
        Ok(Some(Tls {
            files,
            settings: tls.clone(),
            current: Mutex::new(Current { configs, since: Instant::now() }),
            file_state: Mutex::new(FileState { loaded: stamps, seen: stamps }),
            is_failure_logged: AtomicBool::new(false),
        }))
    }

    /// Which certificate a listener with this prefix asks for; `None` when it does not speak TLS.
    pub(super) fn client_auth(&self, prefix: TlsPrefix) -> Option<ClientAuth> {
        match prefix {
            TlsPrefix::Notls => None,
            TlsPrefix::Btls => Some(ClientAuth::None),
            TlsPrefix::Mtls => Some(ClientAuth::Required),
            TlsPrefix::AsChosen => Some(match self.settings.verify_mode {
                VerifyMode::None => ClientAuth::None,
                VerifyMode::Request if self.settings.ca_cert.is_none() => ClientAuth::None,
                VerifyMode::Request => ClientAuth::Optional,
                VerifyMode::Require | VerifyMode::Once => ClientAuth::Required,
            }),
        }
    }

    /// The TLS session of a new connection, with the certificates that are in force.
    ///
    /// # Errors
    /// When the listener requires a certificate and there are no issuers to trust, so that no client can connect; or
    /// when the system has no random numbers.
    pub(super) fn session(&self, client_auth: ClientAuth) -> Result<ServerConnection, rustls::Error> {
        let config = {
            let current = lock(&self.current);
            match client_auth {
                ClientAuth::None => Some(&current.configs.without),
                ClientAuth::Optional => current.configs.optional.as_ref(),
                ClientAuth::Required => current.configs.required.as_ref(),
            }
            .map(Arc::clone)
        };
        let config = config.ok_or_else(|| {
            rustls::Error::General("there is no issuer of client certificates to trust".to_owned())
        })?;
        let mut session = ServerConnection::new(config)?;
        session.set_buffer_limit(Some(UNSENT_BYTES_MAX));
        Ok(session)
    }

    /// Whether the server remembers sessions, and so counts them.
    pub(super) fn remembers_sessions(&self) -> bool {
        self.settings.session_cache
    }

    /// Reads the files again, whether they have changed or not.
    ///
    /// # Errors
    /// When a file cannot be read or used; the old certificates stay in force.
    pub fn refresh(&self) -> Result<(), TlsError> {
        self.reload(&mut lock(&self.file_state))
    }

    /// Reads the files again if they have changed since they were loaded, but not since the last check.
    fn check(&self) -> ReloadCheck {
        let file_state = &mut lock(&self.file_state);
        let stamps = self.files.stamps();
        if stamps != file_state.seen {
            file_state.seen = stamps;
            self.is_failure_logged.store(false, Ordering::Relaxed);
            return ReloadCheck::Unchanged;
        }
        if stamps == file_state.loaded {
            return ReloadCheck::Unchanged;
        }
        match self.reload(file_state) {
            Ok(()) => ReloadCheck::Reloaded,
            Err(_) if self.is_failure_logged.swap(true, Ordering::Relaxed) => ReloadCheck::Unchanged,
            Err(error) => ReloadCheck::Failed(error),
        }
    }

    fn reload(&self, file_state: &mut FileState) -> Result<(), TlsError> {
        // Taken before the files are read, so that the next check sees changes meanwhile.
        let stamps = self.files.stamps();
        let configs = Configs::new(self.files.load()?, &self.settings)?;
        *lock(&self.current) = Current { configs, since: Instant::now() };
        file_state.loaded = stamps;
        Ok(())
    }
}

/// Reloads the certificates whenever their files change.
pub(super) async fn reload_changed_files(tls: Arc<Tls>) {
    let mut checks = tokio::time::interval(CHECK_INTERVAL);
    checks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        checks.tick().await;
        let tls = Arc::clone(&tls);
        match tokio::task::spawn_blocking(move || tls.check()).await {
            Ok(ReloadCheck::Unchanged) => {}
            Ok(ReloadCheck::Reloaded) => info!("the files of certificates have changed and were read again"),
            Ok(ReloadCheck::Failed(error)) => {
                warn!("the files of certificates have changed, and the old ones stay in force: {error}");
            }
            Err(_) => error!("reloading certificates panicked"),
        }
    }
}

impl Certificates for Tls {
    fn refresh(&self) -> Result<(), String> {
        Tls::refresh(self).map_err(|error| error.to_string())
    }

    fn age_seconds(&self) -> u64 {
        lock(&self.current).since.elapsed().as_secs()
    }
}

impl Configs {
    fn new(loaded: Loaded, settings: &TlsSettings) -> Result<Configs, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let key = loaded.certified(&provider)?;
        let config = |client_auth| config(client_auth, &key, &loaded, settings, &provider).map(Arc::new);
        let is_trusting = loaded.issuers.is_some();
        Ok(Configs {
            without: config(ClientAuth::None)?,
            optional: is_trusting.then(|| config(ClientAuth::Optional)).transpose()?,
            required: is_trusting.then(|| config(ClientAuth::Required)).transpose()?,
        })
    }
}

fn config(
    client_auth: ClientAuth,
    key: &Arc<rustls::sign::CertifiedKey>,
    loaded: &Loaded,
    settings: &TlsSettings,
    provider: &Arc<CryptoProvider>,
) -> Result<ServerConfig, TlsError> {
    const BOTH: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
    let versions = match settings.min_version {
        TlsVersion::V1_2 => BOTH,
        TlsVersion::V1_3 => &[&TLS13],
    };
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(provider)).with_protocol_versions(versions)?;
    let builder = match (client_auth, &loaded.issuers) {
        (ClientAuth::None, _) | (_, None) => builder.with_no_client_auth(),
        (ClientAuth::Optional | ClientAuth::Required, Some(issuers)) => {
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::clone(issuers), Arc::clone(provider));
            let verifier =
                if client_auth == ClientAuth::Optional { verifier.allow_unauthenticated() } else { verifier };
            let verifier = verifier.build().map_err(TlsError::Verifier)?;
            builder.with_client_cert_verifier(Arc::new(ChainLengthLimit(verifier)))
        }
    };
    let mut config =
        builder.with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(Arc::clone(key))));
    // As in memcached, the server always issues tickets, which cost no memory; except without the cache where it asks
    // for certificates, because a ticket outlives the certificate it was issued for.
    if settings.session_cache || client_auth == ClientAuth::None {
        config.ticketer = ring::Ticketer::new()?;
    } else {
        config.send_tls13_tickets = 0;
    }
    config.session_storage = match settings.session_cache {
        true => ServerSessionMemoryCache::new(SESSIONS_MAX),
        false => Arc::new(NoServerSessionStorage {}),
    };
    Ok(config)
}

/// Locks `mutex`. Its contents are replaced as a whole, so a panic of another thread leaves them sound.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
