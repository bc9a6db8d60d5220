//! Trust in TLS peers: decides which certificates are trusted. It opens no connections.

mod certs_d;
mod fingerprint;
mod problem;
mod verifier;

use std::sync::Arc;

use rustls::client::WantsClientCert;
use rustls::crypto::{self, CryptoProvider};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};

use crate::tls::verifier::CertificateVerifier;

pub use crate::tls::certs_d::{
    ClientIdentity, DirectoryProblem, RegistryCertificates, USUAL_CERTIFICATE_ROOTS, load_registry_certificates,
};
pub use crate::tls::fingerprint::{Fingerprint, FingerprintError};
pub use crate::tls::problem::CertificateProblem;

/// Verification of a registry's certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsPolicy {
    /// No certificate is verified, and the client speaks plain HTTP with a server that does not speak TLS
    /// [spec:resolution.insecure].
    pub insecure: bool,
    /// PEM certificates that are trusted in addition to the system's: certification authorities, or the server's own
    /// certificate.
    pub certificates: Vec<String>,
}

/// Returns the cryptography that all TLS of Landfall uses.
#[must_use]
pub fn crypto_provider() -> Arc<CryptoProvider> {
    Arc::new(crypto::aws_lc_rs::default_provider())
}

/// Returns the client side of TLS under a policy. It offers HTTP/1.1 only, because over one HTTP/2 connection all blobs
/// of a registry would share one flow-control window.
///
/// It loads the system's roots anew for each configuration, so that a long-running agent sees changes. A system without
/// roots is no error: then only the policy's own certificates are trusted.
///
/// # Errors
/// Returns an error if a certificate of the policy cannot be used.
pub fn client_config(policy: &TlsPolicy) -> Result<ClientConfig, CertificateProblem> {
    client_config_with(policy, &RegistryCertificates::default())
}

/// Returns the client side of TLS under a policy, with the certificates of the registry's own directory.
///
/// # Errors
/// Returns an error if a certificate cannot be used.
pub fn client_config_with(policy: &TlsPolicy, own: &RegistryCertificates) -> Result<ClientConfig, CertificateProblem> {
    let provider = crypto_provider();
    // Parsed even if nothing is verified: an unusable certificate is an error now, not on the day `insecure` is
    // removed.
    let mut given = given_certificates(&policy.certificates)?;
    for (path, text) in &own.authorities {
        let in_file = |source| CertificateProblem::InFile {
            path: path.clone(),
            source: Box::new(source),
        };
        let certificates = given_certificates(std::slice::from_ref(text)).map_err(in_file)?;
        CertificateVerifier::signed_or_given(certificates.clone(), RootCertStore::empty(), &provider)
            .map_err(in_file)?;
        given.extend(certificates);
    }
    // The system's roots are hundreds of files. Without verification they are not needed.
    let roots = if policy.insecure {
        RootCertStore::empty()
    } else {
        system_roots()
    };
    let verifier = CertificateVerifier::signed_or_given(given, roots, &provider)?;
    let verifier = if policy.insecure {
        CertificateVerifier::any(&provider)
    } else {
        verifier
    };
    let builder = config_builder(provider, verifier);
    let config = match &own.identity {
        Some(identity) => certs_d::with_identity(builder, identity)?,
        None => builder.with_no_client_auth(),
    };
    Ok(with_http1(config))
}

/// Returns the client side of TLS that trusts one certificate by its fingerprint, and no other: the server's own, or
/// that of the authority that issued it. The authority is the server's own, so its certificates may have any name.
#[must_use]
pub fn client_config_pinned(pin: Fingerprint) -> ClientConfig {
    let provider = crypto_provider();
    let verifier = CertificateVerifier::pinned(pin, &provider);
    with_http1(config_builder(provider, verifier).with_no_client_auth())
}

fn config_builder(
    provider: Arc<CryptoProvider>,
    verifier: CertificateVerifier,
) -> ConfigBuilder<ClientConfig, WantsClientCert> {
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider supports the default protocol versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
}

fn with_http1(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}

fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::debug!(%error, "a system root certificate cannot be read");
    }
    roots.add_parsable_certificates(system.certs);
    roots
}

/// Parses the certificates of a list, each with its position in the list, counted from 1.
fn given_certificates(texts: &[String]) -> Result<Vec<(usize, CertificateDer<'static>)>, CertificateProblem> {
    let mut given = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let number = index + 1;
        let before = given.len();
        for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
            let certificate = certificate.map_err(|source| CertificateProblem::NotPem { number, source })?;
            given.push((number, certificate));
        }
        if given.len() == before {
            return Err(CertificateProblem::Empty { number });
        }
    }
    Ok(given)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_cannot_be_used_is_named_by_its_place_in_the_list() {
        let good = rcgen::generate_simple_self_signed(["localhost".to_owned()])
            .unwrap()
            .cert
            .pem();
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let cases = [
            ("hello", "certificate number 2 holds no `BEGIN CERTIFICATE` block"),
            (broken, "certificate number 2 cannot be trusted as an authority"),
            (
                "-----BEGIN CERTIFICATE-----\nAAAA",
                "certificate number 2 is not PEM text",
            ),
        ];
        for (text, expected) in cases {
            let policy = TlsPolicy {
                insecure: false,
                certificates: vec![good.clone(), text.to_owned()],
            };
            assert_eq!(client_config(&policy).unwrap_err().to_string(), expected);
        }
    }
}
