//! What applies to the requests of all plugins.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject as _};

/// The longest file of certificates that is read, bytes.
const LONGEST_FILE: u64 = 8 << 20;

/// How requests are made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// Certificates that are trusted beside those that the system trusts, PEM.
    pub ca_file: Option<PathBuf>,
    /// Names that are not looked up, and their addresses.
    pub hosts: BTreeMap<String, Vec<IpAddr>>,
    /// How much there may be of everything.
    pub limits: Limits,
}

/// The bounds of what one plugin does. Sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// From the look-up of a name to the end of the TLS handshake.
    pub connect_timeout: Duration,
    /// Connections, idle ones included.
    pub max_connections: usize,
    /// Requests of one call that are under way at a time.
    pub max_requests: usize,
    /// The body of an answer.
    pub max_response: usize,
    /// The head of an answer.
    pub max_response_headers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            max_connections: 64,
            max_requests: 8,
            max_response: 8 << 20,
            max_response_headers: 64 << 10,
        }
    }
}

/// Certificates cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The system refused.
    #[error("cannot read the file: {0}")]
    Read(#[from] io::Error),
    /// Longer than any file of certificates.
    #[error("the file is longer than 8 MiB")]
    TooLong,
    /// Not PEM.
    #[error("the file is not PEM: {0}")]
    Pem(String),
    /// There is none in it.
    #[error("there is no certificate in the file")]
    Empty,
    /// One of them cannot be used.
    #[error("certificate {number} in the file cannot be used: {why}")]
    Unusable {
        /// Counted from one.
        number: usize,
        /// What is wrong with it.
        why: String,
    },
}

/// Read a file of certificates, all of which can be trusted as roots.
///
/// # Errors
/// When there is none, or one that cannot be used.
pub fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    use io::Read as _;
    let mut text = Vec::new();
    std::fs::File::open(file)?.take(LONGEST_FILE + 1).read_to_end(&mut text)?;
    if text.len() as u64 > LONGEST_FILE {
        return Err(CertificateError::TooLong);
    }
    let certificates = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, pem::Error>>();
    let certificates = certificates.map_err(|error| CertificateError::Pem(error.to_string()))?;
    let mut roots = rustls::RootCertStore::empty();
    for (number, certificate) in certificates.iter().enumerate() {
        let added = roots.add(certificate.clone());
        added.map_err(|error| CertificateError::Unusable { number: number + 1, why: error.to_string() })?;
    }
    if certificates.is_empty() { Err(CertificateError::Empty) } else { Ok(certificates) }
}
