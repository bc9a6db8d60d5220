//! Certificates for the webhook and the embedded registry, issued by an authority of the agent. They are kept in the
//! state directory and renewed in time.

use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use jiff::{SignedDuration, Timestamp};
use landfall_host::files::write_atomic;
use landfall_net::certificate::{
    PemPair, Validity, issue_certificate, load_pair, make_authority, read_expiry, write_pair,
};
use landfall_net::serve::tls::CertificateSlot;

const AUTHORITY_DAYS: u32 = 3650;
const LEAF_DAYS: u32 = 365;
/// A leaf certificate that expires sooner than this is renewed.
const RENEW_DAYS: u32 = 30;
/// Certificates are valid from a little before now: the clocks of other hosts may be behind.
const CLOCK_SKEW: Duration = Duration::from_secs(3600);

/// A certificate for a server, with its authority.
#[derive(Debug)]
pub(crate) struct IssuedCertificate {
    pub(crate) pair: PemPair,
    /// The certificate of the authority in PEM, for clients in this process.
    pub(crate) authority: String,
    /// The file with the certificate of the authority, for all other clients.
    pub(crate) authority_file: Utf8PathBuf,
    pub(crate) expires: Timestamp,
}

/// Returns a certificate for these names from this directory. Issues a new one if there is none, if it expires soon, or
/// if it is for other names. Blocks.
///
/// # Errors
///
/// If a file cannot be read or written.
pub(crate) fn ensure_certificate(
    directory: &Utf8Path,
    authority_name: &str,
    names: &[&str],
    now: Timestamp,
) -> anyhow::Result<IssuedCertificate> {
    fs::create_dir_all(directory)?;
    let authority_file = directory.join("ca.crt");
    let authority_key = directory.join("ca.key");
    let authority = match load_valid(&authority_file, &authority_key, now) {
        Some(pair) => pair,
        None => {
            let pair = make_authority(authority_name, validity(now, AUTHORITY_DAYS)?)?;
            write_pair(&pair, &authority_file, &authority_key)?;
            pair
        }
    };
    let (leaf_file, leaf_key, names_file) = (
        directory.join("tls.crt"),
        directory.join("tls.key"),
        directory.join("names"),
    );
    let names_text = names.join("\n");
    let same_names = fs::read(&names_file).is_ok_and(|kept| kept == names_text.as_bytes());
    let usable = |pair: &PemPair| same_names && pair.certificate.ends_with(&authority.certificate);
    let pair = match load_valid(&leaf_file, &leaf_key, now).filter(usable) {
        Some(pair) => pair,
        None => {
            let pair = issue_certificate(&authority, names, validity(now, LEAF_DAYS)?)?;
            write_pair(&pair, &leaf_file, &leaf_key)?;
            write_atomic(&names_file, 0o600, names_text.as_bytes())?;
            pair
        }
    };
    let expires = read_expiry(&pair.certificate)?;
    Ok(IssuedCertificate {
        pair,
        authority: authority.certificate,
        authority_file,
        expires,
    })
}

fn load_valid(certificate: &Utf8Path, key: &Utf8Path, now: Timestamp) -> Option<PemPair> {
    let pair = load_pair(certificate, key).ok()?;
    let ends = read_expiry(&pair.certificate).ok()?;
    // A power cut between the two writes leaves a key that does not belong to the certificate.
    let fits = CertificateSlot::new(&pair).is_ok();
    (fits && ends.duration_since(now) > days(RENEW_DAYS)).then_some(pair)
}

fn validity(now: Timestamp, length: u32) -> anyhow::Result<Validity> {
    Ok(Validity {
        not_before: now.checked_sub(CLOCK_SKEW)?,
        not_after: now.checked_add(days(length))?,
    })
}

fn days(number: u32) -> SignedDuration {
    SignedDuration::from_secs(i64::from(number) * 24 * 3600)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ensure(directory: &Utf8Path, names: &[&str], now: Timestamp) -> (String, String) {
        let issued = ensure_certificate(directory, "test", names, now).unwrap();
        assert!(issued.expires > now);
        (issued.authority, issued.pair.certificate)
    }

    #[test]
    fn certificate_is_renewed_before_it_ends_and_for_other_names_under_the_same_authority() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Utf8Path::from_path(dir.path()).unwrap().join("tls");
        let now = Timestamp::now();
        let (authority, first) = ensure(&directory, &["localhost"], now);
        assert_eq!(
            ensure(&directory, &["localhost"], now),
            (authority.clone(), first.clone()),
            "kept while it is good"
        );
        let (same, other) = ensure(&directory, &["localhost", "127.0.0.1"], now);
        assert_eq!(same, authority);
        assert_ne!(other, first, "other names");
        let later = now.checked_add(days(LEAF_DAYS - RENEW_DAYS)).unwrap();
        let (same, renewed) = ensure(&directory, &["localhost", "127.0.0.1"], later);
        assert_eq!(same, authority);
        assert_ne!(renewed, other, "ends soon");
    }

    #[test]
    fn key_of_another_certificate_is_replaced_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Utf8Path::from_path(dir.path()).unwrap().join("tls");
        let now = Timestamp::now();
        let (_, first) = ensure(&directory, &["localhost"], now);
        fs::copy(directory.join("ca.key"), directory.join("tls.key")).unwrap();
        let (_, second) = ensure(&directory, &["localhost"], now);
        assert_ne!(first, second);
    }
}
