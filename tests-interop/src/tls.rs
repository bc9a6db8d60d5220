//! A private certificate authority, which no system store knows.

use camino::{Utf8Path, Utf8PathBuf};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// A private certificate authority.
#[derive(Debug)]
pub struct PrivateAuthority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key, both PEM.
#[derive(Debug, Clone)]
pub struct Issued {
    pub certificate: String,
    pub key: String,
}

impl PrivateAuthority {
    /// # Panics
    /// Panics if no key can be made.
    #[must_use]
    pub fn generate(name: &str) -> PrivateAuthority {
        let key = KeyPair::generate().expect("a key of the default algorithm");
        let mut params = CertificateParams::new(Vec::new()).expect("no names to refuse");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("a certificate of our own parameters");
        PrivateAuthority {
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    /// Returns the certificate to trust.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Issues a certificate for a server at these names and addresses, or for a client, which needs none.
    /// Kubernetes reads `name` of a client's certificate as the user and `group` as its only group.
    ///
    /// # Panics
    /// Panics if one of the names is invalid.
    #[must_use]
    pub fn issue(&self, name: &str, group: Option<&str>, addresses: &[&str]) -> Issued {
        let key = KeyPair::generate().expect("a key of the default algorithm");
        let addresses: Vec<String> = addresses.iter().map(|&address| address.to_owned()).collect();
        let mut params = CertificateParams::new(addresses).expect("names and addresses");
        params.distinguished_name.push(DnType::CommonName, name);
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        let certificate = params
            .signed_by(&key, &self.issuer)
            .expect("a certificate of our own parameters");
        Issued {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    /// Writes `server.pem` and `server.key` for a server on 127.0.0.1.
    ///
    /// # Panics
    /// Panics if they cannot be written.
    #[must_use]
    pub fn write_server_files(&self, directory: &Utf8Path) -> (Utf8PathBuf, Utf8PathBuf) {
        let issued = self.issue("127.0.0.1", None, &["127.0.0.1"]);
        let files = (directory.join("server.pem"), directory.join("server.key"));
        fs_err::write(&files.0, issued.certificate).expect("a file in our own directory");
        fs_err::write(&files.1, issued.key).expect("a file in our own directory");
        files
    }
}
