//! Server side of TLS: a certificate that can be replaced while connections are open.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use secrecy::ExposeSecret;
use tokio_rustls::TlsAcceptor;

use crate::certificate::{CertificateError, PemPair};
use crate::tls::crypto_provider;

/// Certificate for new connections. Open connections keep theirs.
pub struct CertificateSlot {
    current: ArcSwap<CertifiedKey>,
}

impl CertificateSlot {
    /// Returns a slot with its first certificate.
    ///
    /// # Errors
    /// Returns an error if the pair is not PEM, or if certificate and key do not belong together.
    pub fn new(pair: &PemPair) -> Result<Arc<CertificateSlot>, CertificateError> {
        Ok(Arc::new(CertificateSlot {
            current: ArcSwap::from_pointee(certified_key(pair)?),
        }))
    }

    /// Replaces the certificate. The old one stays if the new one cannot be used.
    ///
    /// # Errors
    /// See [`CertificateSlot::new`].
    pub fn replace(&self, pair: &PemPair) -> Result<(), CertificateError> {
        self.current.store(Arc::new(certified_key(pair)?));
        Ok(())
    }

    /// Returns an acceptor of TLS connections with this slot's certificate. It offers HTTP/2 and HTTP/1.1.
    #[must_use]
    pub fn acceptor(self: &Arc<CertificateSlot>) -> TlsAcceptor {
        let mut config = ServerConfig::builder_with_provider(crypto_provider())
            .with_safe_default_protocol_versions()
            .expect("the provider supports the default protocol versions")
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }
}

impl ResolvesServerCert for CertificateSlot {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

impl fmt::Debug for CertificateSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateSlot").finish_non_exhaustive()
    }
}

fn certified_key(pair: &PemPair) -> Result<CertifiedKey, CertificateError> {
    let chain = CertificateDer::pem_slice_iter(pair.certificate.as_bytes()).collect::<Result<Vec<_>, _>>()?;
    if chain.is_empty() {
        return Err(CertificateError::NotACertificate);
    }
    let key = PrivateKeyDer::from_pem_slice(pair.key.expose_secret().as_bytes())?;
    CertifiedKey::from_der(chain, key, &crypto_provider()).map_err(CertificateError::Mismatch)
}
