//! The certificates of a server that speaks TLS, good and bad ones.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::{env, fs};

use rustls::ALL_VERSIONS;

use crate::certificates::{Authority, Identity, TlsClient, client_config, connect};
use crate::common::Result;

/// The files of one server, removed with the last that knows of them.
#[derive(Clone)]
pub(crate) struct Guarded(Arc<Files>);

struct Files {
    directory: PathBuf,
    authority: Authority,
    identity: Identity,
    /// Another one, whose key does not fit.
    other: Identity,
}

impl Guarded {
    pub(crate) fn new() -> Result<Guarded> {
        let directory = env::temp_dir().join(format!("ferrocached-bench-tls-{}", std::process::id()));
        fs::create_dir_all(&directory)?;
        let authority = Authority::new("the bench");
        let (identity, other) = (authority.identity(), authority.identity());
        let guarded = Guarded(Arc::new(Files { directory, authority, identity, other }));
        guarded.restore();
        Ok(guarded)
    }

    /// What the server is told of them.
    pub(crate) fn arguments(&self) -> String {
        let directory = self.0.directory.display();
        format!("-Z -o ssl_chain_cert={directory}/chain.pem,ssl_key={directory}/key.pem")
    }

    /// A connection to the server at `port`.
    pub(crate) fn connect(&self, port: u16) -> Result<TlsClient> {
        let config = client_config(&self.0.authority, None, ALL_VERSIONS);
        Ok(connect(&config, SocketAddr::from(([127, 0, 0, 1], port)))?)
    }

    /// How a client of the server at `port` begins its handshake.
    pub(crate) fn hello(&self, port: u16) -> Result<Vec<u8>> {
        let mut hello = Vec::new();
        self.connect(port)?.conn.write_tls(&mut hello)?;
        Ok(hello)
    }

    /// Puts something there that cannot be used, each time in another way.
    pub(crate) fn spoil(&self, number: usize) {
        let chain = match number % 3 {
            0 => "\0garbage \u{fffd}".repeat(1000),
            1 => self.0.identity.certificate[..self.0.identity.certificate.len() / 2].to_owned(),
            _ => self.0.other.certificate.clone(),
        };
        self.put("chain.pem", &chain);
    }

    /// Puts the good ones there.
    pub(crate) fn restore(&self) {
        self.put("chain.pem", &self.0.identity.certificate);
        self.put("key.pem", &self.0.identity.key);
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.0.directory.join(name), text)
            .expect("a temporary directory is there to be written to");
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // What is left there harms nobody.
        let _ = fs::remove_dir_all(&self.directory);
    }
}
