//! The verification of a server's certificate.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{self, CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};

use crate::tls::problem::CertificateProblem;

/// Judges a server's certificate. The handshake's signatures are always checked.
#[derive(Debug)]
pub(crate) struct CertificateVerifier {
    trust: TrustPolicy,
    algorithms: WebPkiSupportedAlgorithms,
}

#[derive(Debug)]
enum TrustPolicy {
    /// Every certificate.
    Any,
    /// Certificates that a trusted authority signed, or that the user gave as they are.
    ///
    /// The second is for what `openssl req -x509` makes and many registries show: an authority and a server in one. The
    /// usual verification refuses it as a server even where it trusts it as an authority.
    SignedOrGiven {
        /// `None` when nobody at all is trusted.
        signed: Option<Arc<WebPkiServerVerifier>>,
        given: Vec<CertificateDer<'static>>,
    },
}

impl CertificateVerifier {
    /// Accepts every certificate.
    pub(crate) fn any(provider: &CryptoProvider) -> CertificateVerifier {
        CertificateVerifier {
            trust: TrustPolicy::Any,
            algorithms: provider.signature_verification_algorithms,
        }
    }

    /// Trusts these roots, and these certificates (with their place in the user's list) as authorities and as they are.
    pub(crate) fn signed_or_given(
        given: Vec<(usize, CertificateDer<'static>)>,
        mut roots: RootCertStore,
        provider: &Arc<CryptoProvider>,
    ) -> Result<CertificateVerifier, CertificateProblem> {
        for (number, certificate) in &given {
            roots
                .add(certificate.clone())
                .map_err(|source| CertificateProblem::NotACertificate {
                    number: *number,
                    source,
                })?;
        }
        Ok(CertificateVerifier {
            trust: TrustPolicy::SignedOrGiven {
                signed: WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                    .build()
                    .ok(),
                given: given.into_iter().map(|(_, certificate)| certificate).collect(),
            },
            algorithms: provider.signature_verification_algorithms,
        })
    }
}

impl ServerCertVerifier for CertificateVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let TrustPolicy::SignedOrGiven { signed, given } = &self.trust else {
            return Ok(ServerCertVerified::assertion());
        };
        if given.contains(end_entity) {
            return verify_given(end_entity, server_name, now);
        }
        let Some(signed) = signed else {
            return Err(CertificateError::UnknownIssuer.into());
        };
        let verified = signed.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        // An authority that shows itself as a server, and that nobody gave us: unknown is what it is.
        verified.map_err(|error| match error {
            rustls::Error::InvalidCertificate(CertificateError::Other(_)) if is_authority(end_entity) => {
                CertificateError::UnknownIssuer.into()
            }
            error => error,
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn is_authority(certificate: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(certificate).is_ok_and(|(_, certificate)| certificate.is_ca())
}

/// Name and time still count for a certificate that was given as it is.
fn verify_given(
    certificate: &CertificateDer<'_>,
    server_name: &ServerName<'_>,
    now: UnixTime,
) -> Result<ServerCertVerified, rustls::Error> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let now = i64::try_from(now.as_secs())
        .ok()
        .and_then(|seconds| ASN1Time::from_timestamp(seconds).ok());
    let now = now.ok_or(CertificateError::BadEncoding)?;
    if now < parsed.validity().not_before {
        return Err(CertificateError::NotValidYet.into());
    }
    if now > parsed.validity().not_after {
        return Err(CertificateError::Expired.into());
    }
    verify_server_name(&ParsedCertificate::try_from(certificate)?, server_name)?;
    Ok(ServerCertVerified::assertion())
}
