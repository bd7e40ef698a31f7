//! The client's side of TLS, for a health check on the same machine.
//!
//! The names in the server's certificate are those that its clients know it by, and not those of this machine; so the
//! certificate is only compared with the one in the server's file. It may be another, if the file has changed a moment
//! ago or cannot be used: the server works all the same, and only must not be told a password.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned};

use super::files::Files;
use crate::settings::TlsSettings;

/// What can be read and written.
pub(in crate::net) trait Stream: Read + Write {}
impl<S: Read + Write + ?Sized> Stream for S {}

/// How a check ended.
pub(in crate::net) enum Checked {
    /// With this answer.
    Answered(String),
    /// The server did not take the certificate that it was shown, or wanted one.
    Refused,
}

/// Shakes hands over `socket`, and has `converse` talk to the server; it is told whether the server has shown the
/// certificate that `settings` name. If the server asks for a certificate, it is shown its own.
pub(in crate::net) fn check_over(
    socket: TcpStream,
    settings: &TlsSettings,
    converse: impl FnOnce(&mut dyn Stream, bool) -> io::Result<String>,
) -> io::Result<Checked> {
    let files = Files::named(settings).and_then(|files| files.load().ok());
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().map_err(io::Error::other)?;
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)));
    let (shown, key) = files.map(|files| files.identity()).unzip();
    let config = match key.zip(shown.clone()) {
        Some((key, chain)) => builder.with_client_auth_cert(chain, key).map_err(io::Error::other)?,
        None => builder.with_no_client_auth(),
    };
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    let session = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(session, socket);
    let talked = stream.flush().and_then(|()| {
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        let theirs = stream.conn.peer_certificates().and_then(<[_]>::first);
        let is_known = theirs.is_some() && theirs == shown.as_ref().and_then(|chain| chain.first());
        converse(&mut stream, is_known)
    });
    match talked {
        Ok(answer) => Ok(Checked::Answered(answer)),
        Err(error) if is_alert(&error) => Ok(Checked::Refused),
        Err(error) => Err(error),
    }
}

/// Whether the server has ended the connection with words of TLS, which takes a worker that has its turns.
fn is_alert(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    matches!(inner, Some(Error::AlertReceived(_)))
}

/// Takes any certificate whose key the server has.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
