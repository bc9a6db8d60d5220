//! The webhook's certificate authority as the cluster keeps it: in a Secret. `landfall_core::cluster::authority`
//! decides when a rotation step is due; this module carries it out on the values.

use std::collections::BTreeMap;

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use landfall_core::certificate::Validity;
use landfall_core::cluster::authority::{AuthorityFacts, RotationPolicy, RotationStep, merge_bundle};
use landfall_core::cluster::configuration::MANAGED_BY;
use landfall_core::cluster::{FIELD_MANAGER, ROTATE_ANNOTATION, SECRET_NAME};
use landfall_net::certificate::{PemPair, make_authority, read_validity};
use landfall_net::serve::tls::CertificateSlot;
use secrecy::ExposeSecret as _;

use super::serving::AUTHORITY_NAME;

const DAY: SignedDuration = SignedDuration::from_secs(24 * 3600);
const AUTHORITY_DAYS: i32 = 3650;
const RENEW_DAYS: i32 = 365;

/// Returns the intervals between the steps. Only the overlap is a setting.
pub(crate) fn rotation_policy(overlap_seconds: u32) -> RotationPolicy {
    RotationPolicy {
        renew_before: DAY * RENEW_DAYS,
        overlap: SignedDuration::from_secs(i64::from(overlap_seconds)),
        retire_after: DAY,
    }
}

/// The webhook's certificate authorities during a rotation.
#[derive(Debug, Clone)]
pub(crate) struct CertificateAuthority {
    /// The authority that signs.
    pub(crate) current: PemPair,
    /// The authority that signs next, and its validity.
    pub(crate) next: Option<(PemPair, Validity)>,
    /// The certificate of the authority that signed before.
    pub(crate) previous: Option<String>,
    /// The time of the last step.
    pub(crate) changed: Timestamp,
    /// True if an annotation asks for a new authority.
    pub(crate) wanted: bool,
    /// The validity of the signing authority.
    pub(crate) validity: Validity,
}

impl CertificateAuthority {
    /// Returns the first authority: a new one, or one that an agent already serves with.
    ///
    /// # Errors
    ///
    /// If its certificate cannot be read.
    pub(crate) fn first(current: PemPair, now: Timestamp) -> anyhow::Result<CertificateAuthority> {
        Ok(CertificateAuthority {
            validity: read_validity(&current.certificate)?,
            current,
            next: None,
            previous: None,
            changed: now,
            wanted: false,
        })
    }

    /// Parses the Secret.
    ///
    /// # Errors
    ///
    /// If a part is missing, or certificate and key do not belong together.
    pub(crate) fn parse(secret: &Secret) -> anyhow::Result<CertificateAuthority> {
        let text = |key: &str| -> anyhow::Result<Option<String>> {
            let bytes = secret.data.as_ref().and_then(|data| data.get(key));
            bytes
                .map(|ByteString(bytes)| String::from_utf8(bytes.clone()))
                .transpose()
                .ok()
                .with_context(|| format!("`{key}` is not text"))
        };
        let pair = |name: &str| -> anyhow::Result<Option<PemPair>> {
            let (certificate, key) = (text(&format!("{name}.crt"))?, text(&format!("{name}.key"))?);
            let (Some(certificate), Some(key)) = (certificate, key) else {
                return Ok(None);
            };
            let pair = PemPair {
                certificate,
                key: key.into(),
            };
            CertificateSlot::new(&pair).with_context(|| format!("`{name}.crt` or `{name}.key` cannot be used"))?;
            Ok(Some(pair))
        };
        let current = pair("ca")?.context("`ca.crt` or `ca.key` is missing")?;
        let annotations = secret.metadata.annotations.as_ref();
        Ok(CertificateAuthority {
            validity: read_validity(&current.certificate)?,
            current,
            next: match pair("next")? {
                Some(next) => Some(with_validity(next)?),
                None => None,
            },
            previous: text("previous.crt")?,
            changed: text("changed")?
                .and_then(|text| text.parse().ok())
                .unwrap_or(Timestamp::UNIX_EPOCH),
            wanted: annotations.is_some_and(|annotations| annotations.contains_key(ROTATE_ANNOTATION)),
        })
    }

    /// Renders the Secret over the existing one.
    pub(crate) fn render(&self, over: Option<&Secret>) -> Secret {
        let mut secret = over.cloned().unwrap_or_default();
        secret.metadata.name = Some(SECRET_NAME.to_owned());
        let labels = secret.metadata.labels.get_or_insert_default();
        labels.insert(MANAGED_BY.to_owned(), FIELD_MANAGER.to_owned());
        if let Some(annotations) = &mut secret.metadata.annotations
            && !self.wanted
        {
            annotations.remove(ROTATE_ANNOTATION);
        }
        let mut data = BTreeMap::new();
        let mut put = |key: &str, text: &str| data.insert(key.to_owned(), ByteString(text.as_bytes().to_vec()));
        put("ca.crt", &self.current.certificate);
        put("ca.key", self.current.key.expose_secret());
        if let Some((next, _)) = &self.next {
            put("next.crt", &next.certificate);
            put("next.key", next.key.expose_secret());
        }
        if let Some(previous) = &self.previous {
            put("previous.crt", previous);
        }
        put("changed", &self.changed.to_string());
        secret.data = Some(data);
        secret
    }

    /// Returns the facts for the plan of the rotation. `known` is the bundle in the registration at the API server.
    pub(crate) fn facts(&self, known: Option<&str>) -> AuthorityFacts {
        AuthorityFacts {
            current: self.validity,
            next: self.next.as_ref().map(|(_, validity)| *validity),
            has_previous: self.previous.is_some(),
            changed: self.changed,
            wanted: self.wanted,
            is_known: known == Some(self.bundle().as_str()),
        }
    }

    /// Returns the bundle that the API server is to trust.
    pub(crate) fn bundle(&self) -> String {
        merge_bundle(
            &self.current.certificate,
            self.next.as_ref().map(|(next, _)| next.certificate.as_str()),
            self.previous.as_deref(),
        )
    }

    /// Carries out a step of a rotation. [`RotationStep::Create`] is [`CertificateAuthority::first`].
    ///
    /// # Errors
    ///
    /// If a certificate cannot be made or parsed, or the step does not follow from the current state.
    pub(crate) fn advance(self, step: RotationStep, now: Timestamp) -> anyhow::Result<CertificateAuthority> {
        match step {
            RotationStep::Introduce => self.introduce(new_authority(now)?, now),
            RotationStep::Promote => self.promote(now),
            RotationStep::Retire => Ok(self.retire(now)),
            RotationStep::Keep | RotationStep::Create => Ok(self),
        }
    }

    /// Adds the next authority to the bundle.
    ///
    /// # Errors
    ///
    /// If its certificate cannot be read.
    fn introduce(mut self, next: PemPair, now: Timestamp) -> anyhow::Result<CertificateAuthority> {
        self.next = Some(with_validity(next)?);
        self.wanted = false;
        self.changed = now;
        Ok(self)
    }

    /// Makes the next authority the one that signs.
    ///
    /// # Errors
    ///
    /// If there is none, or its certificate cannot be read.
    fn promote(self, now: Timestamp) -> anyhow::Result<CertificateAuthority> {
        let (next, _) = self.next.context("no next authority was introduced")?;
        Ok(CertificateAuthority {
            previous: Some(self.current.certificate),
            wanted: self.wanted,
            ..CertificateAuthority::first(next, now)?
        })
    }

    /// Removes the authority that signed before.
    fn retire(mut self, now: Timestamp) -> CertificateAuthority {
        self.previous = None;
        self.changed = now;
        self
    }
}

/// Makes a new authority.
///
/// # Errors
///
/// If the library cannot make it.
pub(crate) fn new_authority(now: Timestamp) -> anyhow::Result<PemPair> {
    let validity = Validity::starting(now, DAY * AUTHORITY_DAYS);
    Ok(make_authority(AUTHORITY_NAME, validity)?)
}

fn with_validity(pair: PemPair) -> anyhow::Result<(PemPair, Validity)> {
    let validity = read_validity(&pair.certificate)?;
    Ok((pair, validity))
}

#[cfg(test)]
mod tests {
    use landfall_core::cluster::authority::plan_rotation;

    use super::*;

    fn mk_first(now: Timestamp) -> CertificateAuthority {
        CertificateAuthority::first(new_authority(now).unwrap(), now).unwrap()
    }

    #[test]
    fn authority_is_read_back_from_its_secret_through_a_whole_rotation() {
        let now = Timestamp::now();
        let first = mk_first(now);
        let mut secret = first.render(None);
        secret.metadata.resource_version = Some("7".to_owned());
        secret.metadata.annotations = Some([(ROTATE_ANNOTATION.to_owned(), "now".to_owned())].into());
        let wanted = CertificateAuthority::parse(&secret).unwrap();
        assert!(wanted.wanted);

        let introduced = wanted.introduce(new_authority(now).unwrap(), now).unwrap();
        let secret = introduced.render(Some(&secret));
        assert_eq!(secret.metadata.resource_version.as_deref(), Some("7"));
        assert_eq!(secret.metadata.annotations, Some(BTreeMap::new()), "asked for once");
        let introduced = CertificateAuthority::parse(&secret).unwrap();
        assert_eq!(introduced.bundle().matches("BEGIN CERTIFICATE").count(), 2);
        assert!(introduced.facts(Some(&introduced.bundle())).is_known);
        assert!(!introduced.facts(Some(&first.bundle())).is_known);

        let promoted = CertificateAuthority::parse(&introduced.promote(now).unwrap().render(Some(&secret))).unwrap();
        assert_eq!(promoted.previous.as_ref(), Some(&first.current.certificate));
        assert!(promoted.next.is_none());
        assert_eq!(promoted.bundle().matches("BEGIN CERTIFICATE").count(), 2);
        let retired = CertificateAuthority::parse(&promoted.retire(now).render(Some(&secret))).unwrap();
        assert_eq!(retired.bundle().matches("BEGIN CERTIFICATE").count(), 1);
    }

    /// Simulates three days, minute by minute.
    #[test]
    fn old_authority_leaves_the_bundle_a_day_after_it_signed_last() {
        let start = Timestamp::now();
        let old = new_authority(start).unwrap();
        let mut authority = CertificateAuthority::first(old.clone(), start).unwrap();
        authority.wanted = true;
        let mut steps = Vec::new();
        for minute in 0..3 * 24 * 60 {
            let now = start + SignedDuration::from_mins(minute);
            let before = authority.bundle();
            let step = plan_rotation(Some(&authority.facts(Some(&before))), now, &rotation_policy(60));
            authority = authority.advance(step, now).unwrap();
            let trusted = authority.bundle().contains(old.certificate.trim());
            assert_eq!(trusted, minute < 1 + 24 * 60, "{minute}");
            assert!(
                before.contains(authority.current.certificate.trim()),
                "who signs was known before: {minute}"
            );
            if step != RotationStep::Keep {
                steps.push((minute, step));
            }
        }
        assert_eq!(
            steps,
            [
                (0, RotationStep::Introduce),
                (1, RotationStep::Promote),
                (1 + 24 * 60, RotationStep::Retire),
            ]
        );
        assert_eq!(authority.bundle().trim(), authority.current.certificate.trim());
    }

    #[test]
    fn authority_from_a_clock_that_was_ahead_is_replaced_at_once() {
        let now = Timestamp::now();
        let future = new_authority(now.checked_add(DAY * 365 * 14).unwrap()).unwrap();
        let mut authority =
            CertificateAuthority::first(future.clone(), now.checked_add(DAY * 365 * 14).unwrap()).unwrap();
        let mut steps = Vec::new();
        loop {
            let facts = authority.facts(Some(&authority.bundle()));
            let step = plan_rotation(Some(&facts), now, &rotation_policy(3600));
            if step == RotationStep::Keep {
                break;
            }
            steps.push(step);
            authority = authority.advance(step, now).unwrap();
        }
        assert_eq!(steps, [RotationStep::Introduce, RotationStep::Promote]);
        assert!(authority.validity.not_before < now);
        assert_eq!(authority.previous, Some(future.certificate));
    }

    #[test]
    fn secret_that_somebody_spoilt_is_told_without_its_content() {
        let now = Timestamp::now();
        let good = mk_first(now).render(None);
        let other = mk_first(now).render(None);
        let with = |key: &str, value: Option<ByteString>| {
            let mut spoilt = good.clone();
            let data = spoilt.data.as_mut().unwrap();
            match value {
                Some(value) => data.insert(key.to_owned(), value),
                None => data.remove(key),
            };
            format!("{:#}", CertificateAuthority::parse(&spoilt).unwrap_err())
        };
        let foreign_key = other.data.as_ref().unwrap()["ca.key"].clone();
        assert_eq!(with("ca.key", None), "`ca.crt` or `ca.key` is missing");
        assert_eq!(with("ca.crt", Some(ByteString(vec![0xff]))), "`ca.crt` is not text");
        assert_eq!(
            with("ca.key", Some(foreign_key)),
            "`ca.crt` or `ca.key` cannot be used: the certificate and the key do not belong together: \
             keys may not be consistent: KeyMismatch"
        );
    }
}
