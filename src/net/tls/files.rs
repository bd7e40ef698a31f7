//! The files of TLS: their paths, loading them, and seeing whether they have changed.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::VerifierBuilderError;
use rustls::sign::CertifiedKey;

use super::version1;
use crate::settings::TlsSettings;

/// The longest file, in bytes. All issuers that browsers trust take about 220 KB.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Why TLS cannot be set up. The messages begin with memcached's words.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The chain of certificates that the server sends cannot be used.
    #[error("Error loading the certificate chain: {path} : {why}", path = path.display())]
    Chain {
        /// The file.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// The private key cannot be used.
    #[error("Error loading the key: {path} : {why}", path = path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// The certificates of the issuers of client certificates cannot be used.
    #[error("Error loading the CA certificate: {path} : {why}", path = path.display())]
    Issuers {
        /// The file.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// Client certificates cannot be verified.
    #[error("Error loading the CA certificate: {0}")]
    Verifier(VerifierBuilderError),
    /// rustls reported another error.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// The paths that the settings name, made absolute because a daemon changes its directory.
#[derive(Debug)]
pub(super) struct Files {
    chain: PathBuf,
    key: PathBuf,
    issuers: Option<PathBuf>,
}

/// The contents of the files.
pub(super) struct Loaded {
    chain_path: PathBuf,
    key_path: PathBuf,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    pub(super) issuers: Option<Arc<RootCertStore>>,
}

/// A stamp for each file; `None` for a file that does not exist.
pub(super) type Stamps = [Option<Stamp>; 3];

/// Tells one version of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    /// The time of the last change of the inode, in seconds and nanoseconds since 1970. Unlike the time of
    /// modification, no program can set it back.
    changed: (i64, i64),
}

impl Files {
    /// The files that `settings` name; `None` without a certificate chain.
    pub(super) fn named(settings: &TlsSettings) -> Option<Files> {
        let chain = absolute(settings.chain_cert.as_ref()?);
        let key = settings.key.as_deref().map_or_else(|| chain.clone(), absolute);
        Some(Files { chain, key, issuers: settings.ca_cert.as_deref().map(absolute) })
    }

    pub(super) fn stamps(&self) -> Stamps {
        let stamp = |path: &Path| std::fs::metadata(path).ok().map(|found| Stamp::of(&found));
        [stamp(&self.chain), stamp(&self.key), self.issuers.as_deref().and_then(stamp)]
    }

    pub(super) fn load(&self) -> Result<Loaded, TlsError> {
        let chain =
            certificates(&self.chain).map_err(|why| TlsError::Chain { path: self.chain.clone(), why })?;
        let key = key(&self.key).map_err(|why| TlsError::Key { path: self.key.clone(), why })?;
        let issuers = self.issuers.as_ref().map(|path| {
            issuers(path).map(Arc::new).map_err(|why| TlsError::Issuers { path: path.clone(), why })
        });
        let (chain_path, key_path) = (self.chain.clone(), self.key.clone());
        Ok(Loaded { chain_path, key_path, chain, key, issuers: issuers.transpose()? })
    }
}

impl Loaded {
    /// The certificates and their key.
    pub(super) fn identity(self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        (self.chain, self.key)
    }

    /// The certificates with their key.
    pub(super) fn certified(&self, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, TlsError> {
        let key = provider
            .key_provider
            .load_private_key(self.key.clone_key())
            .map_err(|error| TlsError::Key { path: self.key_path.clone(), why: error.to_string() })?;
        let certified = CertifiedKey::new(self.chain.clone(), key);
        let matches = match (certified.keys_match(), version1::public_key(&self.chain[0])) {
            (Err(rustls::Error::InvalidCertificate(_)), Some(found)) => {
                let is_its_own = certified.key.public_key().is_none_or(|own| own.as_ref() == found);
                is_its_own.then_some(()).ok_or(rustls::InconsistentKeys::KeyMismatch.into())
            }
            (matches, _) => matches,
        };
        match matches {
            // `Unknown` means that the private key does not reveal its public half.
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {
                Ok(Arc::new(certified))
            }
            Err(rustls::Error::InconsistentKeys(_)) => {
                let why = format!(
                    "key values mismatch: it does not belong to the certificate in {}",
                    self.chain_path.display()
                );
                Err(TlsError::Key { path: self.key_path.clone(), why })
            }
            Err(error) => Err(TlsError::Chain { path: self.chain_path.clone(), why: error.to_string() }),
        }
    }
}

impl Stamp {
    fn of(found: &Metadata) -> Stamp {
        let changed = (found.ctime(), found.ctime_nsec());
        Stamp { device: found.dev(), inode: found.ino(), bytes: found.len(), changed }
    }
}

fn absolute(path: &Path) -> PathBuf {
    // Without a current directory no relative path can be opened anyway.
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if found.is_empty() => Err("it contains no certificate in PEM format".to_owned()),
        Ok(found) => Ok(found),
        Err(error) => Err(format!("it is not in PEM format: {error}")),
    }
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let text = read(path)?;
    match PrivateKeyDer::from_pem_slice(&text) {
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) => {
            let is_locked = text.windows(ENCRYPTED.len()).any(|window| window == ENCRYPTED);
            Err(match is_locked {
                true => "it is encrypted, and the server cannot ask for the password".to_owned(),
                false => "it contains no private key in PEM format".to_owned(),
            })
        }
        Err(error) => Err(format!("it is not in PEM format: {error}")),
    }
}

/// Keys with a password have this word in their first lines.
const ENCRYPTED: &[u8] = b"ENCRYPTED";

fn issuers(path: &Path) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(path)? {
        store.add(certificate).map_err(|error| error.to_string())?;
    }
    Ok(store)
}

/// The contents of a file of at most [`FILE_BYTES_MAX`]. It must be a regular file: opening a pipe would block until
/// another process writes to it, and stamps do not show whether its contents have changed.
fn read(path: &Path) -> Result<Vec<u8>, String> {
    let read = || -> io::Result<Vec<u8>> {
        use std::io::Read;
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        let file = std::fs::File::open(path)?;
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) if bytes.len() as u64 > FILE_BYTES_MAX => {
            Err(format!("it is longer than {FILE_BYTES_MAX} bytes"))
        }
        Ok(bytes) => Ok(bytes),
        Err(error) => Err(error.to_string()),
    }
}
