//! Errors of certificates that the user gave.

use crate::tls::certs_d::DirectoryProblem;

/// A certificate of the user cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateProblem {
    #[error("certificate number {number} is not PEM text")]
    NotPem {
        /// Position in the list, counted from 1.
        number: usize,
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// The text is well-formed PEM and holds no certificate.
    #[error("certificate number {number} holds no `BEGIN CERTIFICATE` block")]
    Empty {
        /// Position in the list, counted from 1.
        number: usize,
    },
    /// Error of the registry's own directory (`certs.d`).
    #[error(transparent)]
    Directory(#[from] DirectoryProblem),
    /// Error of a file in the registry's own directory (`certs.d`).
    #[error("cannot use `{path}`")]
    InFile {
        path: camino::Utf8PathBuf,
        #[source]
        source: Box<CertificateProblem>,
    },
    /// The PEM block is not a certificate.
    #[error("certificate number {number} cannot be trusted as an authority")]
    NotACertificate {
        /// Position in the list, counted from 1.
        number: usize,
        #[source]
        source: rustls::Error,
    },
}
