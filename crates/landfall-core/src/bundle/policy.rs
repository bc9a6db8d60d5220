//! Policy of a host about bundles: the parts that its user decides [spec:bundles.signing].

use serde::Serialize;

use crate::bundle::trust::{Evidence, KeyRing, Refusal, Trust, decide_trust};

/// Decision about bundles without a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum UnsignedContent {
    Refuse,
    Allow,
}

/// Decision about images without a cosign signature by one of the image keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageSignatures {
    /// Signatures are not looked at.
    Ignore,
    /// The image is taken, and an event tells it.
    Warn,
    /// The image is not taken.
    Require,
}

/// Decides about a bundle by its signatures and by the host's policy about bundles without one.
///
/// # Errors
/// If the host must not take the bundle.
pub fn decide_trust_by_policy(evidence: &Evidence<'_>, unsigned: UnsignedContent) -> Result<Trust, Refusal> {
    let is_unsigned = evidence.checks.is_empty() && evidence.skipped.is_empty();
    match (evidence.keys.is_configured(), unsigned) {
        (false, UnsignedContent::Refuse) => Err(Refusal::Unsigned),
        // A wrong signature is refused all the same: a bundle with one was changed, or is someone else's.
        (true, UnsignedContent::Allow) if is_unsigned => decide_trust(&Evidence {
            keys: &KeyRing::default(),
            ..*evidence
        }),
        _ => decide_trust(evidence),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::trust::{Edition, HighestSeen, KeyId, OlderBundles, SignatureCheck};

    /// Name, keys, checks, policy, and the decision: true if the bundle is signed.
    type Case<'a> = (
        &'a str,
        &'a KeyRing,
        &'a [SignatureCheck],
        UnsignedContent,
        Result<bool, Refusal>,
    );

    #[test]
    fn policy_decides_about_bundles_without_a_signature_only() {
        use UnsignedContent::{Allow, Refuse};
        let key: KeyId = "a".repeat(64).parse().unwrap();
        let (none, one) = (KeyRing::default(), KeyRing::new([key.clone()], []));
        let good = [SignatureCheck::Valid(key.clone())];
        let bad = [SignatureCheck::Invalid(key.clone())];
        let cases: [Case<'_>; 7] = [
            ("no key, unsigned, allowed", &none, &[], Allow, Ok(false)),
            ("no key, unsigned, refused", &none, &[], Refuse, Err(Refusal::Unsigned)),
            ("no key, signed, refused", &none, &bad, Refuse, Err(Refusal::Unsigned)),
            ("key, unsigned, refused", &one, &[], Refuse, Err(Refusal::Unsigned)),
            ("key, unsigned, allowed", &one, &[], Allow, Ok(false)),
            ("key, signed", &one, &good, Refuse, Ok(true)),
            (
                "key, changed, allowed",
                &one,
                &bad,
                Allow,
                Err(Refusal::BadSignature(key.clone())),
            ),
        ];
        for (case, keys, checks, unsigned, wanted) in cases {
            let evidence = Evidence {
                keys,
                checks,
                skipped: &[],
                edition: None,
                seen: HighestSeen::default(),
                older: OlderBundles::Refuse,
            };
            let decided = decide_trust_by_policy(&evidence, unsigned);
            assert_eq!(decided.map(|trust| trust.is_signed()), wanted, "{case}");
        }
    }

    #[test]
    fn an_older_bundle_is_refused_also_where_unsigned_ones_are_allowed() {
        let keys = KeyRing::new(["a".repeat(64).parse().unwrap()], []);
        let edition = Edition {
            series: "site".to_owned(),
            sequence: 1,
        };
        let evidence = Evidence {
            keys: &keys,
            checks: &[],
            skipped: &[],
            edition: Some(&edition),
            seen: HighestSeen::default().with(2, true),
            older: OlderBundles::Refuse,
        };
        let refused = decide_trust_by_policy(&evidence, UnsignedContent::Allow);
        assert!(matches!(refused, Err(Refusal::Older { seen: 2, .. })), "{refused:?}");
    }
}
