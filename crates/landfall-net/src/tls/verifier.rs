//! Verification of a server's certificate.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{self, CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};

use crate::tls::fingerprint::Fingerprint;
use crate::tls::problem::CertificateProblem;

/// Verifier of server certificates. It always checks the signatures of the handshake.
#[derive(Debug)]
pub(crate) struct CertificateVerifier {
    trust: TrustPolicy,
    algorithms: WebPkiSupportedAlgorithms,
}

#[derive(Debug)]
enum TrustPolicy {
    /// Trusts every certificate.
    Any,
    /// Trusts certificates that a trusted authority signed, and certificates that the user gave.
    ///
    /// `openssl req -x509` makes certificates that are authority and server in one, and many registries present them.
    /// webpki refuses such a certificate as a server even if it trusts it as an authority, so a given certificate is
    /// also accepted by equality.
    SignedOrGiven {
        /// `None` if no authority is trusted.
        signed: Option<Arc<WebPkiServerVerifier>>,
        given: Vec<CertificateDer<'static>>,
    },
    /// Trusts the certificate with this fingerprint, and what it signed, under any name.
    Pinned(Fingerprint),
}

impl CertificateVerifier {
    /// Returns a verifier that accepts every certificate.
    pub(crate) fn any(provider: &CryptoProvider) -> CertificateVerifier {
        CertificateVerifier {
            trust: TrustPolicy::Any,
            algorithms: provider.signature_verification_algorithms,
        }
    }

    /// Returns a verifier that accepts the certificate with this fingerprint, and those that it signed.
    pub(crate) fn pinned(pin: Fingerprint, provider: &CryptoProvider) -> CertificateVerifier {
        CertificateVerifier {
            trust: TrustPolicy::Pinned(pin),
            algorithms: provider.signature_verification_algorithms,
        }
    }

    /// Returns a verifier that trusts these roots, and the given certificates both as authorities and by equality. Each
    /// given certificate comes with its position in the user's list.
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
        let (signed, given) = match &self.trust {
            TrustPolicy::Any => return Ok(ServerCertVerified::assertion()),
            TrustPolicy::Pinned(pin) => {
                return verify_pinned(*pin, end_entity, intermediates, now, &self.algorithms);
            }
            TrustPolicy::SignedOrGiven { signed, given } => (signed, given),
        };
        if given.contains(end_entity) {
            return verify_given(end_entity, server_name, now);
        }
        let Some(signed) = signed else {
            return Err(CertificateError::UnknownIssuer.into());
        };
        let verified = signed.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        // webpki rejects an authority that presents itself as a server with an unspecific error. The user has not given
        // it, so its issuer is unknown.
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

/// Verifies that the server's certificate is the pinned one, or is signed by it. The server sends the pinned authority
/// in its chain.
fn verify_pinned(
    pin: Fingerprint,
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    now: UnixTime,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<ServerCertVerified, rustls::Error> {
    if Fingerprint::of(end_entity) == pin {
        return Ok(ServerCertVerified::assertion());
    }
    let pinned = intermediates.iter().find(|sent| Fingerprint::of(sent) == pin);
    let pinned = pinned.ok_or(CertificateError::UnknownIssuer)?;
    let mut roots = RootCertStore::empty();
    roots.add(pinned.clone().into_owned())?;
    let parsed = ParsedCertificate::try_from(end_entity)?;
    verify_server_cert_signed_by_trust_anchor(&parsed, &roots, intermediates, now, algorithms.all)?;
    Ok(ServerCertVerified::assertion())
}

/// Verifies the name and the validity period of a given certificate.
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
