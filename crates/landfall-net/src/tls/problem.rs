//! Certificates of the user that cannot be used.

use crate::tls::certs_d::DirectoryProblem;

/// A certificate that the user gave cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateProblem {
    /// The text is not PEM.
    #[error("certificate number {number} is not PEM text")]
    NotPem {
        /// Which one of the list, from 1.
        number: usize,
        /// What the reader says.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// The text is well-formed and holds no certificate.
    #[error("certificate number {number} holds no `BEGIN CERTIFICATE` block")]
    Empty {
        /// Which one of the list, from 1.
        number: usize,
    },
    /// One of the registry's own directory (`certs.d`).
    #[error(transparent)]
    Directory(#[from] DirectoryProblem),
    /// A file of the registry's own directory (`certs.d`).
    #[error("cannot use `{path}`")]
    InFile {
        /// The file.
        path: camino::Utf8PathBuf,
        /// Why not.
        #[source]
        source: Box<CertificateProblem>,
    },
    /// The block is not a certificate.
    #[error("certificate number {number} cannot be trusted as an authority")]
    NotACertificate {
        /// Which one of the list, from 1.
        number: usize,
        /// What the verifier says.
        #[source]
        source: rustls::Error,
    },
}
