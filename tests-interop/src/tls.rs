//! A certificate authority of our own, as a site has one that no system store knows.

use camino::{Utf8Path, Utf8PathBuf};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// A private certificate authority.
#[derive(Debug)]
pub struct PrivateAuthority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl PrivateAuthority {
    /// Makes one.
    ///
    /// # Panics
    /// When no key can be made.
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

    /// The certificate to trust.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Writes `server.pem` and `server.key` for a server on 127.0.0.1.
    ///
    /// # Panics
    /// When they cannot be written.
    #[must_use]
    pub fn write_server_files(&self, directory: &Utf8Path) -> (Utf8PathBuf, Utf8PathBuf) {
        let key = KeyPair::generate().expect("a key of the default algorithm");
        let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()])
            .and_then(|params| params.signed_by(&key, &self.issuer))
            .expect("a certificate for an address");
        let files = (directory.join("server.pem"), directory.join("server.key"));
        fs_err::write(&files.0, certificate.pem()).expect("a file in our own directory");
        fs_err::write(&files.1, key.serialize_pem()).expect("a file in our own directory");
        files
    }
}
