//! Certificates for the webhook and the embedded registry, issued by an authority of the agent. They are kept in the
//! state directory and renewed in time. `landfall_core::certificate` decides when.

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use jiff::{SignedDuration, Timestamp};
use landfall_core::certificate::{Renewal, Validity, plan_renewal};
use landfall_core::jitter::fraction_of;
use landfall_host::files::write_atomic;
use landfall_net::certificate::{
    PemPair, issue_certificate, load_own_pair, make_authority, read_expiry, read_validity, write_pair,
};
use landfall_net::serve::tls::CertificateSlot;
use landfall_net::state_file::{SetAside, clear_for_writing};
use secrecy::ExposeSecret as _;

const DAY: SignedDuration = SignedDuration::from_hours(24);
const AUTHORITY_DAYS: i32 = 3650;
const LEAF_DAYS: i32 = 365;
/// A certificate that expires sooner than this is renewed.
const RENEW_DAYS: i32 = 30;
/// Part of [`RENEW_DAYS`] by which the renewal comes later on some hosts, in days [spec:agent.jitter].
const SPREAD_DAYS: f64 = 3.0;

/// The authority that issues a certificate.
#[derive(Debug)]
pub(crate) enum Authority {
    /// The authority in the directory, which is made if there is none or it cannot be used.
    Own {
        /// The name of a new authority.
        name: &'static str,
        /// The authority that this process used before. It stands in for files that could not be written.
        known: Option<PemPair>,
    },
    /// The authority of the cluster. Another process renews it.
    Given(PemPair),
}

/// A certificate for a server, with its authority.
#[derive(Debug)]
pub(crate) struct IssuedCertificate {
    pub(crate) pair: PemPair,
    pub(crate) authority: PemPair,
    /// The file with the certificate of the authority, for clients outside of this process.
    pub(crate) authority_file: Utf8PathBuf,
    pub(crate) expires: Timestamp,
    /// Damaged files that were set aside.
    pub(crate) aside: Vec<SetAside>,
}

/// Returns a certificate for these names from this directory. Issues a new one if there is none, if it expires soon or
/// is not valid yet, or if it is for other names. A certificate that cannot be written is served all the same. Blocks.
///
/// # Errors
///
/// If a certificate cannot be made.
pub(crate) fn ensure_certificate(
    directory: &Utf8Path,
    authority: Authority,
    names: &[&str],
    now: Timestamp,
) -> anyhow::Result<IssuedCertificate> {
    let mut aside = Vec::new();
    if let Err(error) = fs::create_dir_all(directory) {
        tracing::warn!(%error, "certificates cannot be kept");
    }
    let authority_file = directory.join("ca.crt");
    let authority_key = directory.join("ca.key");
    let mut load = |certificate: &Utf8Path, key: &Utf8Path| {
        let (pair, damaged) = load_own_pair(certificate, key);
        aside.extend(damaged);
        pair
    };
    let kept = load(&authority_file, &authority_key);
    let authority = match authority {
        Authority::Given(pair) => {
            if kept.is_none_or(|kept| !is_same(&kept, &pair)) {
                store_pair(&pair, &authority_file, &authority_key);
            }
            pair
        }
        Authority::Own { name, known } => {
            let usable = |pair: &PemPair| is_usable(pair, now);
            match kept.filter(usable) {
                Some(pair) => pair,
                None => {
                    let pair = match known.filter(usable) {
                        Some(known) => known,
                        None => make_authority(name, Validity::starting(now, DAY * AUTHORITY_DAYS))?,
                    };
                    store_pair(&pair, &authority_file, &authority_key);
                    pair
                }
            }
        }
    };
    let (leaf_file, leaf_key, names_file) = (
        directory.join("tls.crt"),
        directory.join("tls.key"),
        directory.join("names"),
    );
    let kept = load(&leaf_file, &leaf_key);
    aside.extend(clear_for_writing(&names_file));
    let names_text = names.join("\n");
    let same_names = fs::read(&names_file).is_ok_and(|kept| kept == names_text.as_bytes());
    let usable =
        |pair: &PemPair| same_names && pair.certificate.ends_with(&authority.certificate) && is_usable(pair, now);
    let pair = match kept.filter(usable) {
        Some(pair) => pair,
        None => {
            let pair = issue_certificate(&authority, names, Validity::starting(now, DAY * LEAF_DAYS))?;
            store_pair(&pair, &leaf_file, &leaf_key);
            if let Err(error) = write_atomic(&names_file, 0o600, names_text.as_bytes()) {
                tracing::warn!(error = %anyhow::Error::from(error), "the names of a certificate cannot be kept");
            }
            pair
        }
    };
    let expires = read_expiry(&pair.certificate)?;
    Ok(IssuedCertificate {
        pair,
        authority,
        authority_file,
        expires,
        aside,
    })
}

fn is_same(left: &PemPair, right: &PemPair) -> bool {
    left.certificate == right.certificate && left.key.expose_secret() == right.key.expose_secret()
}

/// Returns true if a certificate need not be renewed.
fn is_usable(pair: &PemPair, now: Timestamp) -> bool {
    // The part is the same at each look at the same certificate, and another one on another host.
    let part = fraction_of(pair.certificate.as_bytes());
    let renew_before = DAY * RENEW_DAYS - SignedDuration::from_secs_f64(part * SPREAD_DAYS * DAY.as_secs_f64());
    let keeps = read_validity(&pair.certificate)
        .is_ok_and(|validity| plan_renewal(&validity, now, renew_before) == Renewal::Keep);
    // A power cut between the two writes leaves a key that does not belong to the certificate.
    keeps && CertificateSlot::new(pair).is_ok()
}

/// Writes a pair. A failure is logged: the agent serves with the pair all the same.
fn store_pair(pair: &PemPair, certificate: &Utf8Path, key: &Utf8Path) {
    if let Err(error) = write_pair(pair, certificate, key) {
        let error = anyhow::Error::from(error);
        tracing::warn!(%certificate, error = format!("{error:#}"), "a certificate cannot be kept");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "test";

    fn own() -> Authority {
        Authority::Own {
            name: NAME,
            known: None,
        }
    }

    fn ensure(directory: &Utf8Path, names: &[&str], now: Timestamp) -> (String, String) {
        let issued = ensure_certificate(directory, own(), names, now).unwrap();
        assert!(issued.expires > now);
        (issued.authority.certificate, issued.pair.certificate)
    }

    fn mk_dir() -> (tempfile::TempDir, Utf8PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let directory = Utf8PathBuf::from_path_buf(dir.path().join("tls")).unwrap();
        (dir, directory)
    }

    #[test]
    fn certificate_is_renewed_before_it_ends_and_for_other_names_under_the_same_authority() {
        let (_dir, directory) = mk_dir();
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
        let early = now
            .checked_add(DAY * (LEAF_DAYS - RENEW_DAYS) - SignedDuration::from_secs(1))
            .unwrap();
        assert_eq!(ensure(&directory, &["localhost", "127.0.0.1"], early).1, other);
        let later = now.checked_add(DAY * (LEAF_DAYS - RENEW_DAYS + 3)).unwrap();
        let (same, renewed) = ensure(&directory, &["localhost", "127.0.0.1"], later);
        assert_eq!(same, authority);
        assert_ne!(renewed, other, "ends soon");
    }

    #[test]
    fn certificates_from_a_clock_that_was_ahead_are_issued_anew() {
        let (_dir, directory) = mk_dir();
        let now = Timestamp::now();
        let ahead = now.checked_add(DAY * 365 * 14).unwrap();
        let (future_authority, future) = ensure(&directory, &["localhost"], ahead);
        let (authority, leaf) = ensure(&directory, &["localhost"], now);
        assert_ne!((&authority, &leaf), (&future_authority, &future));
        for certificate in [&authority, &leaf] {
            assert!(read_validity(certificate).unwrap().not_before < now);
        }
        assert_eq!(
            ensure(&directory, &["localhost"], now),
            (authority.clone(), leaf.clone())
        );
        let a_little_behind = now.checked_sub(SignedDuration::from_hours(23)).unwrap();
        assert_eq!(ensure(&directory, &["localhost"], a_little_behind), (authority, leaf));
    }

    #[test]
    fn given_authority_is_used_whatever_this_clock_says() {
        let (_dir, directory) = mk_dir();
        let now = Timestamp::now();
        let ahead = now.checked_add(DAY * 100).unwrap();
        let given = make_authority("cluster", Validity::starting(ahead, DAY * 365)).unwrap();
        for _ in 0..2 {
            let issued = ensure_certificate(&directory, Authority::Given(given.clone()), &["localhost"], now).unwrap();
            assert_eq!(issued.authority.certificate, given.certificate);
            assert!(issued.pair.certificate.ends_with(&given.certificate));
        }
    }

    #[test]
    fn key_of_another_certificate_is_replaced_with_it() {
        let (_dir, directory) = mk_dir();
        let now = Timestamp::now();
        let (_, first) = ensure(&directory, &["localhost"], now);
        fs::copy(directory.join("ca.key"), directory.join("tls.key")).unwrap();
        let (_, second) = ensure(&directory, &["localhost"], now);
        assert_ne!(first, second);
    }

    #[test]
    fn damaged_files_are_set_aside_and_replaced() {
        let now = Timestamp::now();
        for name in ["ca.crt", "ca.key", "tls.crt", "tls.key", "names"] {
            for damage in ["garbage", "empty", "truncated", "directory"] {
                let (_dir, directory) = mk_dir();
                drop(ensure(&directory, &["localhost"], now));
                let path = directory.join(name);
                let whole = fs::read(&path).unwrap();
                match damage {
                    "garbage" => fs::write(&path, [0xff; 100]).unwrap(),
                    "empty" => fs::write(&path, "").unwrap(),
                    "truncated" => fs::write(&path, &whole[..whole.len() / 2]).unwrap(),
                    _ => {
                        fs::remove_file(&path).unwrap();
                        fs::create_dir(&path).unwrap();
                    }
                }
                let issued = ensure_certificate(&directory, own(), &["localhost"], now).unwrap();
                // The list of names is not parsed: another text means other names.
                let told = name != "names" || damage == "directory";
                assert_eq!(issued.aside.len(), usize::from(told), "{name} {damage}");
                let again = ensure_certificate(&directory, own(), &["localhost"], now).unwrap();
                assert_eq!(again.pair.certificate, issued.pair.certificate, "{name} {damage}");
                assert_eq!(again.aside, [], "{name} {damage}");
            }
        }
    }

    #[test]
    fn authority_that_cannot_be_written_is_kept_in_memory() {
        let (dir, _) = mk_dir();
        let file = Utf8PathBuf::from_path_buf(dir.path().join("file")).unwrap();
        fs::write(&file, "").unwrap();
        let directory = file.join("no-directory");
        let now = Timestamp::now();
        let first = ensure_certificate(&directory, own(), &["localhost"], now).unwrap();
        let known = Authority::Own {
            name: NAME,
            known: Some(first.authority.clone()),
        };
        let second = ensure_certificate(&directory, known, &["localhost"], now).unwrap();
        assert_eq!(second.authority.certificate, first.authority.certificate);
    }
}
