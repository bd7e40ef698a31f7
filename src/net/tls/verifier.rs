//! Verifying the certificates of clients with webpki, for a bounded time.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

/// How many certificates of issuers a client may send with its own: two, and the root, which it need not send. For each
/// path from the client's certificate to a trusted one webpki checks at least a signature, even if none is valid. Three
/// certificates make 5 paths at most, four make 16. With as many as fit a handshake, webpki checks a hundred
/// signatures: 80 ms with an issuer's key of P-384, in which the worker does nothing else.
const ISSUERS_SHOWN_MAX: usize = 3;

/// A verifier that rejects long chains, and leaves all others to the verifier in it.
#[derive(Debug)]
pub(super) struct ChainLengthLimit(pub(super) Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for ChainLengthLimit {
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if intermediates.len() > ISSUERS_SHOWN_MAX {
            let why = format!("more than {ISSUERS_SHOWN_MAX} certificates came with that of the client");
            return Err(Error::General(why));
        }
        self.0.verify_client_cert(end_entity, intermediates, now)
    }

    fn offer_client_auth(&self) -> bool {
        self.0.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.0.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
