//! Who verifies the certificates of clients: webpki, but not for as long as a client likes.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

/// How many certificates of issuers a client may show with its own: two, and the root that need not be there. Each way
/// from the client's to a trusted one costs at least a signature to be checked, though there is none that is good; three
/// have 5 ways at most, four have 16. With as many as fit a handshake, webpki checks a hundred: 80 ms where the issuer's
/// key is of P-384, and all that time the worker does nothing else.
const ISSUERS_SHOWN_MAX: usize = 3;

/// One that leaves all to another once the chain is short enough.
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
