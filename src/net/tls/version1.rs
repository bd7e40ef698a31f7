//! Certificates of X.509 version 1, as far as a server needs to read its own.
//!
//! webpki reads certificates of version 3 only, and rustls uses it to compare the key in a certificate with the
//! server's. A server with a certificate of version 1, as `openssl x509 -req` makes them, only has to know that both
//! keys are the same. Clients decide whether they accept such a certificate; those with OpenSSL do.

/// Tags of DER. Source: ITU-T X.690.
const INTEGER: u8 = 0x02;
const SEQUENCE: u8 = 0x30;
/// The longest length field of an element, in bytes; so an element has less than 16 MB.
const LENGTH_BYTES_MAX: usize = 3;

/// The public key (SubjectPublicKeyInfo, in DER) of a certificate of version 1; `None` if `certificate` is not one.
pub(super) fn public_key(certificate: &[u8]) -> Option<&[u8]> {
    let mut certificate = Elements(certificate);
    let mut signed = Elements(Elements(certificate.last(SEQUENCE)?.contents).next(SEQUENCE)?.contents);
    // A later version begins with the number of the version, whose tag is not INTEGER.
    let _serial_number = signed.next(INTEGER)?;
    let [_algorithm, _issuer, _validity, _subject] =
        [signed.next(SEQUENCE)?, signed.next(SEQUENCE)?, signed.next(SEQUENCE)?, signed.next(SEQUENCE)?];
    Some(signed.last(SEQUENCE)?.all)
}

/// A row of elements that are still to be read.
struct Elements<'a>(&'a [u8]);

struct Element<'a> {
    /// The element with its tag and length.
    all: &'a [u8],
    contents: &'a [u8],
}

impl<'a> Elements<'a> {
    /// The next element, if its tag is `tag`.
    fn next(&mut self, tag: u8) -> Option<Element<'a>> {
        let (&found, after_tag) = self.0.split_first()?;
        let (&first, after_first) = after_tag.split_first()?;
        let (length, after_length) = match usize::from(first) {
            short @ ..0x80 => (short, after_first),
            long => {
                let bytes = long - 0x80;
                let (digits, rest) = after_first.split_at_checked(bytes)?;
                let is_definite = (1..=LENGTH_BYTES_MAX).contains(&bytes);
                let length = digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit));
                (is_definite.then_some(length)?, rest)
            }
        };
        let (contents, rest) = after_length.split_at_checked(length)?;
        let all = &self.0[..self.0.len() - rest.len()];
        self.0 = rest;
        (found == tag).then_some(Element { all, contents })
    }

    /// The next element, if its tag is `tag` and it is the last.
    fn last(&mut self, tag: u8) -> Option<Element<'a>> {
        self.next(tag).filter(|_| self.0.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};
    use rustls::crypto::ring;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};

    use super::*;

    const VERSION_1: &[u8] = include_bytes!("../../../tests/tls/version1.pem");

    #[test]
    fn the_key_of_a_certificate_of_version_1_is_found() {
        let certificate = CertificateDer::from_pem_slice(VERSION_1).unwrap();
        let key = PrivateKeyDer::from_pem_slice(VERSION_1).unwrap();
        let key = ring::sign::any_supported_type(&key).unwrap();
        assert_eq!(public_key(&certificate), key.public_key().as_deref());
    }

    #[test]
    fn certificates_that_are_cut_off_or_too_long_or_of_another_version_have_no_key() {
        let certificate = CertificateDer::from_pem_slice(VERSION_1).unwrap();
        for end in 0..certificate.len() {
            assert_eq!(public_key(&certificate[..end]), None, "{end}");
        }
        assert_eq!(public_key(&[&certificate, &[0][..]].concat()), None);
        let key = KeyPair::generate().unwrap();
        let later = CertificateParams::default().self_signed(&key).unwrap();
        assert_eq!(public_key(later.der()), None, "it is of version 3");
        for garbage in [&[SEQUENCE, 0x80][..], &[SEQUENCE, 0x84, 0xff, 0xff, 0xff, 0xff], &[SEQUENCE, 0xff]] {
            assert_eq!(public_key(garbage), None);
        }
    }
}
