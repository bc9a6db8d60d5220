//! Landfall's own certificates: a private authority, the server certificates that it issues to the registry, the
//! webhook and the UI, and their expiry. [`crate::tls`] decides which certificates are trusted.

use std::net::IpAddr;
use std::time::Duration;

use camino::Utf8Path;
use fs_err as fs;
use jiff::Timestamp;
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, DnsName, PrivateKeyDer};
use secrecy::{ExposeSecret, SecretString};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::durable;
use crate::state_file::{SetAside, StateFile, Unusable, load_state_file};

pub use landfall_core::certificate::Validity;

/// A certificate chain and its private key, both in PEM.
#[derive(Debug, Clone)]
pub struct PemPair {
    /// Leaf first, then the authorities above it.
    pub certificate: String,
    /// The private key, PKCS #8.
    pub key: SecretString,
}

/// Warms up the key generator, whose first use costs 25 ms of CPU time. Call it early, on a thread of its own, so that
/// no request waits for it.
pub fn warm_key_generator() {
    let _told_where_a_key_is_made = aws_lc_rs::rand::fill(&mut [0]);
}

/// Error of making or reading a certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("`{name}` is neither a DNS name nor an IP address")]
    Name { name: String },
    #[error("cannot make a certificate for `{subject}`")]
    Make {
        /// Name of the certificate that was to be made.
        subject: String,
        #[source]
        source: rcgen::Error,
    },
    #[error("the authority's certificate or key cannot be used to issue others")]
    Authority(#[source] rcgen::Error),
    #[error("the certificate or key is not PEM text")]
    Pem(#[from] pem::Error),
    #[error("the PEM text holds no certificate that can be read")]
    NotACertificate,
    #[error("the certificate and the key do not belong together")]
    Mismatch(#[source] rustls::Error),
    #[error("cannot read or write a certificate file")]
    File(#[from] std::io::Error),
}

/// Makes an authority that may issue certificates, but no further authorities.
///
/// # Errors
/// Returns an error if the library cannot make it.
pub fn make_authority(name: &str, validity: Validity) -> Result<PemPair, CertificateError> {
    let make = |source| CertificateError::Make {
        subject: name.to_owned(),
        source,
    };
    let mut params = params(name, validity);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().map_err(make)?;
    let certificate = params.self_signed(&key).map_err(make)?;
    Ok(PemPair {
        certificate: certificate.pem(),
        key: key.serialize_pem().into(),
    })
}

/// Issues a server certificate for DNS names or IP addresses. The first name is also the subject. The authority's
/// certificate follows in the chain.
///
/// # Errors
/// Returns an error if a name is neither a DNS name nor an IP address, or if the authority cannot be used.
pub fn issue_certificate(authority: &PemPair, names: &[&str], validity: Validity) -> Result<PemPair, CertificateError> {
    let subject = names.first().copied().unwrap_or("landfall");
    let make = |source| CertificateError::Make {
        subject: subject.to_owned(),
        source,
    };
    let authority_key = KeyPair::from_pem(authority.key.expose_secret()).map_err(CertificateError::Authority)?;
    let issuer =
        Issuer::from_ca_cert_pem(&authority.certificate, authority_key).map_err(CertificateError::Authority)?;
    let mut params = params(subject, validity);
    params.subject_alt_names = names
        .iter()
        .map(|name| alternative_name(name))
        .collect::<Result<_, _>>()?;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate().map_err(make)?;
    let certificate = params.signed_by(&key, &issuer).map_err(make)?;
    Ok(PemPair {
        certificate: certificate.pem() + &authority.certificate,
        key: key.serialize_pem().into(),
    })
}

/// Reads the expiry of the first certificate of a PEM text.
///
/// # Errors
/// Returns an error if the text holds no readable certificate.
pub fn read_expiry(pem: &str) -> Result<Timestamp, CertificateError> {
    Ok(read_validity(pem)?.not_after)
}

/// Reads the validity period of the first certificate of a PEM text.
///
/// # Errors
/// Returns an error if the text holds no readable certificate.
pub fn read_validity(pem: &str) -> Result<Validity, CertificateError> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes())?;
    let (_, certificate) = X509Certificate::from_der(&der).map_err(|_| CertificateError::NotACertificate)?;
    let time = |seconds| Timestamp::from_second(seconds).map_err(|_| CertificateError::NotACertificate);
    let validity = certificate.validity();
    Ok(Validity {
        not_before: time(validity.not_before.timestamp())?,
        not_after: time(validity.not_after.timestamp())?,
    })
}

/// Writes certificate and key, each atomically. The key's file has mode 0600 from its creation.
///
/// # Errors
/// Returns an error if a file cannot be written.
pub fn write_pair(pair: &PemPair, certificate: &Utf8Path, key: &Utf8Path) -> Result<(), CertificateError> {
    durable::replace_private_file(key, pair.key.expose_secret().as_bytes())?;
    durable::replace_file(certificate, pair.certificate.as_bytes())?;
    Ok(())
}

/// Loads certificate and key from their files.
///
/// # Errors
/// Returns an error if a file cannot be read.
pub fn load_pair(certificate: &Utf8Path, key: &Utf8Path) -> Result<PemPair, CertificateError> {
    Ok(PemPair {
        certificate: fs::read_to_string(certificate)?,
        key: fs::read_to_string(key)?.into(),
    })
}

/// Loads a pair of Landfall's own state. A file that is not a certificate or a key is set aside. `None` if one of them
/// is missing then.
#[must_use]
pub fn load_own_pair(certificate: &Utf8Path, key: &Utf8Path) -> (Option<PemPair>, Vec<SetAside>) {
    let damaged = |reason: &str| Unusable::Damaged(reason.to_owned());
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| damaged("it is not text"));
    let mut aside = Vec::new();
    let mut load = |path, parse: &dyn Fn(&[u8]) -> Result<String, Unusable>| match load_state_file(path, parse) {
        StateFile::Loaded(text) => Some(text),
        StateFile::Missing => None,
        StateFile::SetAside(told) => {
            aside.push(told);
            None
        }
    };
    let certificate = load(certificate, &|bytes| {
        let text = text(bytes)?;
        match read_validity(&text) {
            Ok(_) => Ok(text),
            Err(_) => Err(damaged("it is not a certificate")),
        }
    });
    let key = load(key, &|bytes| match PrivateKeyDer::from_pem_slice(bytes) {
        Ok(_) => text(bytes),
        Err(_) => Err(damaged("it is not a private key")),
    });
    let pair = certificate.zip(key).map(|(certificate, key)| PemPair {
        certificate,
        key: key.into(),
    });
    (pair, aside)
}

fn params(subject: &str, validity: Validity) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, subject);
    // rcgen's time type comes from a crate that is not a dependency of ours. It accepts a standard duration, so times
    // before 1970 become 1970.
    let time = |time: Timestamp| {
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from(time.as_second()).unwrap_or(0))
    };
    params.not_before = time(validity.not_before);
    params.not_after = time(validity.not_after);
    params
}

/// Returns true if a certificate can be issued for this name: a DNS name or an IP address.
#[must_use]
pub fn is_certificate_name(name: &str) -> bool {
    alternative_name(name).is_ok()
}

fn alternative_name(name: &str) -> Result<SanType, CertificateError> {
    let wrong = || CertificateError::Name { name: name.to_owned() };
    let bare = name
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(name);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    DnsName::try_from(name).map_err(|_| wrong())?;
    Ia5String::try_from(name).map(SanType::DnsName).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mk_validity() -> Validity {
        Validity {
            not_before: "2026-01-01T00:00:00Z".parse().unwrap(),
            not_after: "2027-06-05T04:03:02Z".parse().unwrap(),
        }
    }

    #[test]
    fn a_certificate_names_its_names_and_ends_when_it_was_told() {
        let authority = make_authority("Landfall", mk_validity()).unwrap();
        let pair = issue_certificate(&authority, &["edge.example", "10.1.2.3", "[::1]"], mk_validity()).unwrap();
        assert_eq!(read_validity(&pair.certificate).unwrap(), mk_validity());
        assert_eq!(
            pair.certificate.matches("BEGIN CERTIFICATE").count(),
            2,
            "the authority follows"
        );
        let der = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap();
        let (_, certificate) = X509Certificate::from_der(&der).unwrap();
        let names = certificate.subject_alternative_name().unwrap().unwrap();
        let names: Vec<String> = names.value.general_names.iter().map(ToString::to_string).collect();
        assert_eq!(names.len(), 3, "{names:?}");
        assert!(!certificate.is_ca());
    }

    #[test]
    fn what_is_not_a_name_is_refused_by_its_text() {
        let authority = make_authority("Landfall", mk_validity()).unwrap();
        for name in ["", "with space", "[nonsense]", "a..b"] {
            let error = issue_certificate(&authority, &[name], mk_validity()).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("`{name}` is neither a DNS name nor an IP address")
            );
        }
    }

    #[test]
    fn a_pair_is_read_back_as_it_was_written_and_its_key_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(directory.path()).unwrap();
        let pair = make_authority("Landfall", mk_validity()).unwrap();
        let (certificate, key) = (root.join("ca.pem"), root.join("ca.key"));
        write_pair(&pair, &certificate, &key).unwrap();
        let loaded = load_pair(&certificate, &key).unwrap();
        assert_eq!(loaded.certificate, pair.certificate);
        assert_eq!(loaded.key.expose_secret(), pair.key.expose_secret());
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!format!("{pair:?}").contains("PRIVATE KEY"));
        assert!(read_expiry("no PEM").is_err());
    }
}
