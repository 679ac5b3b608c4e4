//! Whom a sink trusts when it speaks TLS: the authorities of its own file, or those of this machine.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

/// Authorities that sign the certificates of a receiver, and nobody else does.
#[derive(Clone, PartialEq, Eq)]
pub struct Authorities(Vec<CertificateDer<'static>>);

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authorities({})", self.0.len())
    }
}

/// A file that names no authorities.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthoritiesError {
    /// There is no `BEGIN CERTIFICATE` in it.
    #[error("there is no certificate in it")]
    Empty,
    /// One of its certificates cannot be read, or cannot be an authority: which one, from 1, and why.
    #[error("certificate {0} in it cannot be used: {1}")]
    Unusable(usize, String),
}

impl Authorities {
    /// Read the text of a PEM file.
    ///
    /// # Errors
    /// When there is none in it, or one of them cannot be used.
    pub fn from_pem(pem: &[u8]) -> Result<Self, AuthoritiesError> {
        let mut authorities = Vec::new();
        for (number, certificate) in CertificateDer::pem_slice_iter(pem).enumerate() {
            let unusable = |why: String| AuthoritiesError::Unusable(number + 1, why);
            let certificate: CertificateDer<'static> = certificate.map_err(|error| unusable(error.to_string()))?;
            let usable = RootCertStore::empty().add(certificate.clone());
            usable.map_err(|error| unusable(error.to_string()))?;
            authorities.push(certificate);
        }
        if authorities.is_empty() { Err(AuthoritiesError::Empty) } else { Ok(Self(authorities)) }
    }

    /// Those of this machine. Perhaps there are none, as in a bare container: then no certificate is accepted.
    #[must_use]
    pub fn of_this_machine() -> Self {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::debug!(%error, "an authority of this machine cannot be read");
        }
        Self(found.certs)
    }

    /// How a client that trusts them speaks TLS. The provider is named, so that no default of the process is needed.
    pub(super) fn client(self) -> Result<ClientConfig, rustls::Error> {
        let mut store = RootCertStore::empty();
        // Some that a machine has are of no use to anybody.
        store.add_parsable_certificates(self.0);
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        Ok(builder.with_safe_default_protocol_versions()?.with_root_certificates(store).with_no_client_auth())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_usable_certificate_says_so() {
        let wrong = |pem: &str| Authorities::from_pem(pem.as_bytes()).map(drop).expect_err("refused");
        assert_eq!(wrong(""), AuthoritiesError::Empty);
        assert_eq!(wrong("not PEM at all"), AuthoritiesError::Empty);
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(wrong(broken), AuthoritiesError::Unusable(1, _)));
        let cut = "-----BEGIN CERTIFICATE-----\nAAAA\n";
        assert!(matches!(wrong(cut), AuthoritiesError::Unusable(1, _)));
    }
}
