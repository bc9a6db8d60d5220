//! What a TLS peer must prove before we talk to it. Decides which certificates are trusted; does not open connections.

mod certs_d;
mod problem;
mod verifier;

use std::sync::Arc;

use rustls::crypto::{self, CryptoProvider};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::tls::verifier::CertificateVerifier;

pub use crate::tls::certs_d::{
    ClientIdentity, DirectoryProblem, RegistryCertificates, USUAL_CERTIFICATE_ROOTS, load_registry_certificates,
};
pub use crate::tls::problem::CertificateProblem;

/// How a registry's certificate is judged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsPolicy {
    /// No certificate is verified, and plain HTTP is spoken with a server that speaks no TLS (SPEC section 5).
    pub insecure: bool,
    /// Certificates in PEM that are trusted beside the system's: certification authorities, or the server's own.
    pub certificates: Vec<String>,
}

/// The cryptography that all our TLS uses.
#[must_use]
pub fn crypto_provider() -> Arc<CryptoProvider> {
    Arc::new(crypto::aws_lc_rs::default_provider())
}

/// The client side of TLS under a policy: HTTP/1.1 only, because one HTTP/2 connection makes all the blobs of a registry
/// share one window.
///
/// The system's roots are read anew for each configuration, so that a long-running agent sees changes. A system without
/// any is no error: then only the policy's own certificates count.
///
/// # Errors
/// When a certificate of the policy cannot be used.
pub fn client_config(policy: &TlsPolicy) -> Result<ClientConfig, CertificateProblem> {
    client_config_with(policy, &RegistryCertificates::default())
}

/// The same with the certificates of the registry's own directory.
///
/// # Errors
/// When a certificate cannot be used.
pub fn client_config_with(policy: &TlsPolicy, own: &RegistryCertificates) -> Result<ClientConfig, CertificateProblem> {
    let provider = crypto_provider();
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("the provider supports the default protocol versions");
    // Read even when nothing is verified: a certificate that cannot be used is worth an error today, not on the day when
    // `insecure` is taken away.
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
    // The system's are hundreds of files, which nobody needs to read who verifies nothing.
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
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match &own.identity {
        Some(identity) => certs_d::with_identity(builder, identity)?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
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

/// The certificates of a list, each with its place in the list, from 1.
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
