use proptest::prelude::*;

use super::*;

const OLD: &str = "1111111111111111111111111111111111111111111111111111111111111111";
const NEW: &str = "2222222222222222222222222222222222222222222222222222222222222222";
const RETIRED: &str = "3333333333333333333333333333333333333333333333333333333333333333";
const FOREIGN: &str = "4444444444444444444444444444444444444444444444444444444444444444";

fn id(text: &str) -> KeyId {
    text.parse().unwrap()
}

fn ring() -> KeyRing {
    KeyRing::new([id(OLD), id(NEW), id(RETIRED)], [id(RETIRED)])
}

fn evidence<'a>(keys: &'a KeyRing, checks: &'a [SignatureCheck]) -> Evidence<'a> {
    Evidence {
        keys,
        checks,
        skipped: &[],
        edition: None,
        seen: HighestSeen::default(),
        older: OlderBundles::Refuse,
    }
}

fn by(key: &str) -> Trust {
    Trust::Key {
        key: id(key),
        newer_seen: None,
    }
}

#[test]
fn only_a_good_signature_of_a_key_in_use_is_trusted() {
    let valid = |key| SignatureCheck::Valid(id(key));
    let invalid = |key| SignatureCheck::Invalid(id(key));
    let unknown = |key| SignatureCheck::UnknownKey(id(key));
    let cases: &[(&str, &[SignatureCheck], Result<Trust, Refusal>)] = &[
        ("stripped", &[], Err(Refusal::Unsigned)),
        ("signed", &[valid(OLD)], Ok(by(OLD))),
        ("the other key", &[valid(NEW)], Ok(by(NEW))),
        ("foreign", &[unknown(FOREIGN)], Err(Refusal::UnknownKey(id(FOREIGN)))),
        (
            "verified with a key that is not of the host",
            &[valid(FOREIGN)],
            Err(Refusal::UnknownKey(id(FOREIGN))),
        ),
        ("changed", &[invalid(OLD)], Err(Refusal::BadSignature(id(OLD)))),
        ("retired", &[valid(RETIRED)], Err(Refusal::RetiredKey(id(RETIRED)))),
        (
            "retired and removed",
            &[unknown(RETIRED)],
            Err(Refusal::RetiredKey(id(RETIRED))),
        ),
        (
            "both halves of a rotation",
            &[unknown(FOREIGN), valid(NEW)],
            Ok(by(NEW)),
        ),
        ("retired and in use", &[valid(RETIRED), valid(OLD)], Ok(by(OLD))),
        ("changed beside good", &[invalid(NEW), valid(OLD)], Ok(by(OLD))),
        (
            "changed beside foreign",
            &[unknown(FOREIGN), invalid(OLD)],
            Err(Refusal::BadSignature(id(OLD))),
        ),
        (
            "retired beside foreign",
            &[unknown(FOREIGN), valid(RETIRED)],
            Err(Refusal::RetiredKey(id(RETIRED))),
        ),
        ("detached", &[SignatureCheck::Unmatched], Err(Refusal::Unmatched)),
    ];
    let keys = ring();
    for (name, checks, expected) in cases {
        assert_eq!(&decide_trust(&evidence(&keys, checks)), expected, "{name}");
    }
}

#[test]
fn a_host_without_keys_takes_every_bundle_and_one_whose_keys_are_all_retired_takes_none() {
    let taken = Ok(Trust::NoKey { newer_seen: None });
    let valid = [SignatureCheck::UnknownKey(id(FOREIGN))];
    let none = KeyRing::default();
    assert_eq!(decide_trust(&evidence(&none, &[])), taken);
    assert_eq!(decide_trust(&evidence(&none, &valid)), taken);
    let retired = KeyRing::new([id(OLD)], [id(OLD)]);
    assert_eq!(decide_trust(&evidence(&retired, &[])), Err(Refusal::Unsigned));
    let old = [SignatureCheck::Valid(id(OLD))];
    assert_eq!(
        decide_trust(&evidence(&retired, &old)),
        Err(Refusal::RetiredKey(id(OLD)))
    );
}

#[test]
fn an_older_bundle_of_a_series_is_refused_unless_it_is_allowed() {
    let seen = HighestSeen {
        signed: Some(7),
        unsigned: Some(9),
    };
    let signed = [SignatureCheck::Valid(id(OLD))];
    let (keys, none) = (ring(), KeyRing::default());
    for (name, keys, sequence, newer) in [
        ("signed, same", &keys, 7, None),
        ("signed, newer than signed ones", &keys, 8, None),
        ("signed, older", &keys, 6, Some(7)),
        ("first number", &keys, 0, Some(7)),
        ("no key, same", &none, 9, None),
        ("no key, older than unsigned ones", &none, 8, Some(9)),
    ] {
        let edition = Edition {
            series: "shop".to_owned(),
            sequence,
        };
        let mut facts = Evidence {
            edition: Some(&edition),
            seen,
            ..evidence(keys, &signed)
        };
        let refused = newer.map(|seen| Refusal::Older {
            series: "shop".to_owned(),
            sequence,
            seen,
        });
        assert_eq!(decide_trust(&facts).err(), refused, "{name}");
        facts.older = OlderBundles::Allow;
        let trust = decide_trust(&facts).unwrap();
        let (Trust::Key { newer_seen, .. } | Trust::NoKey { newer_seen }) = trust;
        assert_eq!(newer_seen, newer, "{name}");
        facts.edition = None;
        facts.older = OlderBundles::Refuse;
        assert!(
            decide_trust(&facts).is_ok(),
            "{name}: a bundle without a series has no age"
        );
    }
    let edition = Edition {
        series: "shop".to_owned(),
        sequence: 0,
    };
    let unsigned = Evidence {
        edition: Some(&edition),
        seen,
        ..evidence(&keys, &[])
    };
    assert_eq!(
        decide_trust(&unsigned),
        Err(Refusal::Unsigned),
        "the missing signature is told first"
    );
}

#[test]
fn a_number_of_an_unsigned_bundle_does_not_lock_out_signed_ones() {
    let seen = HighestSeen::default().with(u64::MAX, false).with(3, true).with(2, true);
    assert_eq!(
        seen,
        HighestSeen {
            signed: Some(3),
            unsigned: Some(u64::MAX)
        }
    );
    assert_eq!((seen.highest(true), seen.highest(false)), (Some(3), Some(u64::MAX)));
    let written = serde_json::to_string(&seen).unwrap();
    assert_eq!(serde_json::from_str::<HighestSeen>(&written).unwrap(), seen);
}

#[test]
fn a_new_key_is_taken_if_a_key_in_use_signed_it() {
    let mut ring = KeyRing::new([id(OLD)], [id(RETIRED)]);
    let valid = |key| [SignatureCheck::Valid(id(key))];
    let not_signed = Err(KeyRefusal::NotSigned(id(NEW)));
    assert_eq!(ring.accept(&id(NEW), &[]), not_signed);
    assert_eq!(ring.accept(&id(NEW), &valid(RETIRED)), not_signed);
    assert_eq!(ring.accept(&id(NEW), &valid(FOREIGN)), not_signed);
    assert_eq!(ring.accept(&id(NEW), &valid(NEW)), not_signed, "by itself");
    assert_eq!(ring.accept(&id(NEW), &[SignatureCheck::Invalid(id(OLD))]), not_signed);
    assert_eq!(
        ring.accept(&id(RETIRED), &valid(OLD)),
        Err(KeyRefusal::Retired(id(RETIRED)))
    );
    assert_eq!(ring.standing(&id(NEW)), Standing::Unknown);
    assert_eq!(ring.accept(&id(NEW), &valid(OLD)), Ok(()));
    assert_eq!(
        ring.accept(&id(FOREIGN), &valid(NEW)),
        Ok(()),
        "the new key signs the next one"
    );
    assert_eq!(ring.standing(&id(FOREIGN)), Standing::InUse);
}

#[test]
fn every_refusal_says_what_to_do() {
    let refusals = [
        Refusal::Unsigned,
        Refusal::Unreadable(vec![
            SkippedSignature::UnknownAlgorithm("ml-dsa-65".to_owned()),
            SkippedSignature::NoKeyId,
        ]),
        Refusal::UnknownKey(id(FOREIGN)),
        Refusal::Unmatched,
        Refusal::BadSignature(id(OLD)),
        Refusal::RetiredKey(id(RETIRED)),
        Refusal::Older {
            series: "shop".to_owned(),
            sequence: 6,
            seen: 7,
        },
    ];
    let lines: Vec<String> = refusals
        .iter()
        .map(|refusal| format!("{refusal}\n  hint: {}", refusal.hint().unwrap()))
        .collect();
    insta::assert_snapshot!(lines.join("\n"), @r"
    the bundle is not signed, and this host takes only signed ones
      hint: make the bundle with `--key`, and the private half of a key of this host
    the bundle has no signature that can be checked: the algorithm `ml-dsa-65` is not known; a signature has no `keyid` of 64 hexadecimal digits
      hint: update Landfall on this host, or sign the bundle with an RSA, Ed25519 or ECDSA P-256 key
    the bundle is signed by a key that this host does not have: `4444444444444444444444444444444444444444444444444444444444444444`
      hint: if you trust its owner, add the public key: by `--public-key`, on a host in `landfall.bundles.publicKeys` or by a key document that a key of this host signed
    none of the keys of this host made the signature, or the bundle was changed after it was signed
      hint: copy the bundle and its signature again from a source that you trust
    the bundle is not what the key `1111111111111111111111111111111111111111111111111111111111111111` signed
      hint: copy the bundle and its signature again from a source that you trust
    the bundle is signed by the key `3333333333333333333333333333333333333333333333333333333333333333`, which is retired
      hint: sign the bundle again with a key that is in use
    the bundle is number 6 of the series `shop`, and this host has seen number 7
      hint: bring the newest bundle of the series, or allow this one with `landfall.bundles.policy.allowOlder`
    ");
}

fn entry(keyid: &str, alg: &str, sig: &str) -> String {
    format!(r#"{{"keyid":"{keyid}","alg":"{alg}","sig":"{sig}"}}"#)
}

#[test]
fn entries_of_other_versions_are_skipped_with_a_word() {
    let unknown = |name: &str| SkippedSignature::UnknownAlgorithm(name.to_owned());
    for (other, expected) in [
        (entry(OLD, "ml-dsa-65", "AAAA"), unknown("ml-dsa-65")),
        (entry(OLD, "Ed25519", "AAAA"), unknown("Ed25519")),
        (entry(OLD, &"x".repeat(1000), "AAAA"), unknown(&"x".repeat(40))),
        (entry("12", "ed25519", "AAAA"), SkippedSignature::NoKeyId),
        (entry(&"g".repeat(64), "ed25519", "AAAA"), SkippedSignature::NoKeyId),
        (entry(OLD, "ed25519", "AA*A"), SkippedSignature::NotBase64),
        (entry(OLD, "ed25519", ""), SkippedSignature::NotBase64),
        (
            format!(r#"{{"keyid":"{OLD}","alg":"ed25519","sig":7}}"#),
            SkippedSignature::NotBase64,
        ),
        (
            r#"{"keyid":[],"alg":"ed25519","sig":"AAAA"}"#.to_owned(),
            SkippedSignature::NoKeyId,
        ),
        ("{}".to_owned(), unknown("")),
        ("7".to_owned(), unknown("")),
        ("null".to_owned(), unknown("")),
    ] {
        let good = entry(&OLD.to_uppercase(), "ed25519", "AA\\nAA").replace('{', r#"{"later":{"a":[1]},"#);
        let document = parse_signatures(format!("[{other},{good}]").as_bytes()).unwrap();
        assert_eq!(document.skipped, [expected], "{other}");
        let signature = Signature {
            key: id(OLD),
            algorithm: SignatureAlgorithm::Ed25519,
            bytes: vec![0; 3],
        };
        assert_eq!(document.signatures, [signature], "{other}");
    }
}

#[test]
fn documents_are_bounded() {
    let many = |count| format!("[{}]", vec![entry(OLD, "ed25519", "AAAA"); count].join(","));
    assert_eq!(
        parse_signatures(many(SIGNATURES_MAX).as_bytes())
            .unwrap()
            .signatures
            .len(),
        SIGNATURES_MAX
    );
    let padded = |size: usize| format!("[]{}", " ".repeat(size - 2));
    assert!(parse_signatures(padded(DOCUMENT_SIZE_MAX).as_bytes()).is_ok());
    for (text, expected) in [
        (many(SIGNATURES_MAX + 1), "it has 33 signatures, and 32 are allowed"),
        (
            padded(DOCUMENT_SIZE_MAX + 1),
            "it has 65537 bytes, and 65536 are allowed",
        ),
        ("{}".to_owned(), "it is not JSON of the right form"),
        ("null".to_owned(), "it is not JSON of the right form"),
        (String::new(), "it is not JSON of the right form"),
        ("[".repeat(60_000), "it is not JSON of the right form"),
    ] {
        assert_eq!(parse_signatures(text.as_bytes()).unwrap_err().to_string(), expected);
    }
}

#[test]
fn a_key_document_begins_with_a_public_key() {
    let key = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n";
    let signature = Signature {
        key: id(OLD),
        algorithm: SignatureAlgorithm::EcdsaP256Sha256,
        bytes: vec![1, 2],
    };
    let written = render_key_document(key, std::slice::from_ref(&signature));
    let read = parse_key_document(written.as_bytes()).unwrap();
    assert_eq!((read.key.as_str(), read.signatures.signatures), (key, vec![signature]));
    for key in [
        "{\\\"images\\\":[]}",
        "",
        " -----BEGIN PUBLIC KEY-----",
        "-----BEGIN PRIVATE KEY-----",
    ] {
        let text = format!(r#"{{"key":"{key}","signatures":[]}}"#);
        let problem = parse_key_document(text.as_bytes()).unwrap_err();
        assert!(matches!(problem, DocumentProblem::NoKey), "{key}: {problem}");
    }
    assert!(parse_key_document(b"[]").is_err());
    assert!(parse_key_document(&vec![b' '; DOCUMENT_SIZE_MAX + 1]).is_err());
}

#[test]
fn a_signature_has_a_line_of_its_own() {
    let signature = |algorithm| Signature {
        key: id(OLD),
        algorithm,
        bytes: b"sig".to_vec(),
    };
    let written = render_signatures(&[
        signature(SignatureAlgorithm::RsaPkcs1v15Sha256),
        signature(SignatureAlgorithm::Ed25519),
    ]);
    assert_eq!(
        written,
        format!(
            "[\n{{\"keyid\":\"{OLD}\",\"alg\":\"rsa-pkcs1v15-sha256\",\"sig\":\"c2ln\"}},\n\
             {{\"keyid\":\"{OLD}\",\"alg\":\"ed25519\",\"sig\":\"c2ln\"}}\n]\n"
        )
    );
}

proptest! {
    #[test]
    fn a_written_list_is_read_as_it_was(
        entries in prop::collection::vec(
            ("[0-9a-f]{64}", 0_usize..3, prop::collection::vec(any::<u8>(), 1..100)),
            0..4,
        ),
    ) {
        let algorithms = [
            SignatureAlgorithm::RsaPkcs1v15Sha256,
            SignatureAlgorithm::Ed25519,
            SignatureAlgorithm::EcdsaP256Sha256,
        ];
        let signatures: Vec<Signature> = entries
            .into_iter()
            .map(|(key, algorithm, bytes)| Signature { key: id(&key), algorithm: algorithms[algorithm], bytes })
            .collect();
        let read = parse_signatures(render_signatures(&signatures).as_bytes()).unwrap();
        prop_assert_eq!(read, Signatures { signatures, skipped: Vec::new() });
    }
}
