//! Certificates for one registry in `certs.d`, the layout of docker and podman: `<root>/<host[:port]>/`. `*.crt` are
//! authorities. `*.cert` with the `*.key` of the same name is the client certificate.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use landfall_core::reference::RegistryHost;
use rustls::ClientConfig;
use rustls::client::WantsClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::{ExposeSecret, SecretString};

/// Directories that docker and podman search, in podman's order.
pub const USUAL_CERTIFICATE_ROOTS: [&str; 2] = ["/etc/containers/certs.d", "/etc/docker/certs.d"];

/// Certificates of one registry.
#[derive(Debug, Clone, Default)]
pub struct RegistryCertificates {
    /// PEM texts of the authorities trusted for this registry, each with its file.
    pub authorities: Vec<(Utf8PathBuf, String)>,
    /// Client certificate for this registry.
    pub identity: Option<ClientIdentity>,
}

/// A client certificate that Landfall presents to a registry.
#[derive(Debug, Clone)]
pub struct ClientIdentity {
    /// File of the certificate.
    pub path: Utf8PathBuf,
    /// Certificate chain in PEM, leaf first.
    pub certificates: String,
    /// Private key in PEM.
    pub key: SecretString,
}

impl PartialEq for RegistryCertificates {
    fn eq(&self, other: &RegistryCertificates) -> bool {
        let identity = |this: &RegistryCertificates| {
            let identity = this.identity.as_ref();
            identity.map(|identity| (identity.certificates.clone(), identity.key.expose_secret().to_owned()))
        };
        self.authorities == other.authorities && identity(self) == identity(other)
    }
}

/// Error of a directory of certificates.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryProblem {
    #[error("cannot read `{path}`")]
    Read {
        /// File or directory.
        path: Utf8PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("`{path}` has no `{}` beside it", .path.with_extension("key").file_name().unwrap_or_default())]
    NoKey { path: Utf8PathBuf },
    #[error("`{path}` is not PEM text of {what}")]
    NotPem {
        path: Utf8PathBuf,
        /// Expected content of the file.
        what: &'static str,
    },
    #[error("`{path}` and its key cannot be used together")]
    Mismatch {
        path: Utf8PathBuf,
        #[source]
        source: rustls::Error,
    },
}

/// Loads the certificates for a registry from the first root that has a directory for it. Returns none if no root has
/// one.
///
/// # Errors
/// Returns an error if the directory exists and cannot be read, or if a certificate has no key.
pub fn load_registry_certificates(
    roots: &[Utf8PathBuf],
    host: &RegistryHost,
) -> Result<RegistryCertificates, DirectoryProblem> {
    for root in roots {
        let directory = root.join(host.as_str());
        let read = |source| DirectoryProblem::Read {
            path: directory.clone(),
            source,
        };
        let entries = match directory.read_dir_utf8() {
            Ok(entries) => entries,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => continue,
            Err(error) => return Err(read(error)),
        };
        let files = entries.map(|entry| entry.map(|entry| entry.path().to_owned()));
        let mut files = files.collect::<Result<Vec<_>, _>>().map_err(read)?;
        files.sort();
        return load_files(&files);
    }
    Ok(RegistryCertificates::default())
}

fn load_files(files: &[Utf8PathBuf]) -> Result<RegistryCertificates, DirectoryProblem> {
    let mut found = RegistryCertificates::default();
    for path in files {
        match path.extension() {
            Some("crt") => found.authorities.push((path.clone(), read(path)?)),
            // A TLS client presents one certificate: the first counts.
            Some("cert") if found.identity.is_none() => {
                let key = path.with_extension("key");
                if !files.contains(&key) {
                    return Err(DirectoryProblem::NoKey { path: path.clone() });
                }
                found.identity = Some(ClientIdentity {
                    certificates: read(path)?,
                    key: read(&key)?.into(),
                    path: path.clone(),
                });
            }
            _ => {}
        }
    }
    Ok(found)
}

fn read(path: &Utf8Path) -> Result<String, DirectoryProblem> {
    fs_err::read_to_string(path).map_err(|source| DirectoryProblem::Read {
        path: path.to_owned(),
        source,
    })
}

/// Finishes a configuration that presents this client certificate.
///
/// # Errors
/// Returns an error if certificate or key are not PEM, or do not belong together.
pub(super) fn with_identity(
    builder: rustls::ConfigBuilder<ClientConfig, WantsClientCert>,
    identity: &ClientIdentity,
) -> Result<ClientConfig, DirectoryProblem> {
    let not_pem = |path: Utf8PathBuf, what| DirectoryProblem::NotPem { path, what };
    let chain = CertificateDer::pem_slice_iter(identity.certificates.as_bytes()).collect::<Result<Vec<_>, _>>();
    let chain = chain.ok().filter(|chain| !chain.is_empty());
    let chain = chain.ok_or_else(|| not_pem(identity.path.clone(), "a certificate"))?;
    let key = PrivateKeyDer::from_pem_slice(identity.key.expose_secret().as_bytes())
        .map_err(|_| not_pem(identity.path.with_extension("key"), "a private key"))?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(|source| DirectoryProblem::Mismatch {
            path: identity.path.clone(),
            source,
        })
}
