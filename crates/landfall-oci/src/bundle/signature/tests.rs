use aws_lc_rs::encoding::{AsDer, EcPrivateKeyRfc5915Der, Pkcs8V1Der};
use aws_lc_rs::rsa::{self, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use landfall_core::bundle::trust::{
    Evidence, HighestSeen, KeyId, KeyRefusal, OlderBundles, Refusal, SignatureAlgorithm, SignatureCheck, Trust,
    decide_trust, parse_key_document, render_key_document, render_signatures,
};
use landfall_core::failure::Hint;

use super::*;
use crate::digest::digest_of;

const DOCUMENT: &[u8] = br#"{"format":1,"images":[]}"#;

fn mk_pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .map(|line| str::from_utf8(line).unwrap())
        .collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn mk_rsa(size: KeySize) -> rsa::KeyPair {
    rsa::KeyPair::generate(size).unwrap()
}

fn mk_ecdsa() -> EcdsaKeyPair {
    EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap()
}

fn pem_of_rsa(pair: &rsa::KeyPair) -> String {
    mk_pem("PRIVATE KEY", AsDer::<Pkcs8V1Der>::as_der(pair).unwrap().as_ref())
}

fn mk_key(kind: KeyKind) -> PrivateKey {
    let pem = match kind {
        KeyKind::Rsa => pem_of_rsa(&mk_rsa(KeySize::Rsa2048)),
        KeyKind::Ed25519 => mk_pem(
            "PRIVATE KEY",
            Ed25519KeyPair::generate().unwrap().to_pkcs8v1().unwrap().as_ref(),
        ),
        KeyKind::EcdsaP256 => mk_pem("PRIVATE KEY", mk_ecdsa().to_pkcs8v1().unwrap().as_ref()),
        KeyKind::EcdsaP384 => panic!("no key on the curve P-384 signs bundles"),
    };
    PrivateKey::parse(&pem).unwrap()
}

fn public_pem(key: &PrivateKey) -> String {
    let pem = mk_pem("PUBLIC KEY", key.public_key().spki());
    assert_eq!(key.public_key().to_pem(), pem);
    pem
}

fn mk_keys() -> [PrivateKey; 3] {
    [KeyKind::Rsa, KeyKind::Ed25519, KeyKind::EcdsaP256].map(mk_key)
}

fn mk_host(keys: &[&PrivateKey], retired: &[&PrivateKey]) -> HostKeys {
    let public = keys.iter().map(|key| key.public_key().clone());
    HostKeys::new(public, retired.iter().map(|key| key.public_key().id().clone())).unwrap()
}

fn sign_list(keys: &[&PrivateKey]) -> String {
    let signatures: Vec<_> = keys.iter().map(|key| key.sign(DOCUMENT).unwrap()).collect();
    render_signatures(&signatures)
}

fn decide(host: &HostKeys, checked: &Checked) -> Result<Trust, Refusal> {
    decide_trust(&Evidence {
        keys: host.ring(),
        checks: &checked.checks,
        skipped: &checked.skipped,
        edition: None,
        seen: HighestSeen::default(),
        older: OlderBundles::Refuse,
    })
}

fn id(key: &PrivateKey) -> KeyId {
    key.public_key().id().clone()
}

#[test]
fn each_kind_of_key_signs_and_only_its_own_bytes_verify() {
    let keys = mk_keys();
    for key in &keys {
        let name = format!("{key:?}");
        let signature = key.sign(DOCUMENT).unwrap();
        assert_eq!(
            Some(signature.algorithm),
            key.public_key().kind().bundle_algorithm(),
            "{name}"
        );
        assert!(key.public_key().verifies(DOCUMENT, &signature.bytes), "{name}");
        assert!(!key.public_key().verifies(&DOCUMENT[1..], &signature.bytes), "{name}");
        for place in 0..signature.bytes.len() {
            let mut changed = signature.bytes.clone();
            changed[place] ^= 1;
            assert!(!key.public_key().verifies(DOCUMENT, &changed), "{name}: byte {place}");
        }
        for length in 0..signature.bytes.len() {
            assert!(
                !key.public_key().verifies(DOCUMENT, &signature.bytes[..length]),
                "{name}: {length} bytes"
            );
        }
        for other in keys.iter().filter(|other| id(other) != id(key)) {
            assert!(!other.public_key().verifies(DOCUMENT, &signature.bytes), "{name}");
        }
        let same = key.sign(DOCUMENT).unwrap() == signature;
        assert_eq!(same, key.public_key().kind() != KeyKind::EcdsaP256, "{name}");
    }
}

#[test]
fn a_made_key_signs_and_its_public_half_is_read_back() {
    let (key, _) = PrivateKey::generate().unwrap();
    let public = PublicKey::parse(&key.public_key().to_pem()).unwrap();
    assert_eq!((public.id(), public.kind()), (key.public_key().id(), KeyKind::Ed25519));
    let signature = key.sign(DOCUMENT).unwrap();
    assert!(public.verifies(DOCUMENT, &signature.bytes));
    assert!(
        !mk_key(KeyKind::Ed25519)
            .public_key()
            .verifies(DOCUMENT, &signature.bytes)
    );
}

#[test]
fn a_host_with_keys_takes_what_one_of_them_signed() {
    let [old, new, foreign] = mk_keys();
    let host = mk_host(&[&old, &new], &[]);
    let after_rotation = mk_host(&[&old, &new], &[&old]);
    let trusted = |key: &PrivateKey| {
        Ok(Trust::Key {
            key: id(key),
            newer_seen: None,
        })
    };
    for (name, host, list, expected) in [
        ("old", &host, Some(sign_list(&[&old])), trusted(&old)),
        ("new", &host, Some(sign_list(&[&new])), trusted(&new)),
        ("stripped", &host, None, Err(Refusal::Unsigned)),
        ("emptied", &host, Some(sign_list(&[])), Err(Refusal::Unsigned)),
        (
            "foreign",
            &host,
            Some(sign_list(&[&foreign])),
            Err(Refusal::UnknownKey(id(&foreign))),
        ),
        (
            "foreign and new",
            &host,
            Some(sign_list(&[&foreign, &new])),
            trusted(&new),
        ),
        (
            "retired",
            &after_rotation,
            Some(sign_list(&[&old])),
            Err(Refusal::RetiredKey(id(&old))),
        ),
        (
            "retired and new",
            &after_rotation,
            Some(sign_list(&[&old, &new])),
            trusted(&new),
        ),
    ] {
        let checked = host.check_bundle(DOCUMENT, list.as_deref().map(str::as_bytes)).unwrap();
        assert_eq!(decide(host, &checked), expected, "{name}");
        let changed = host
            .check_bundle(br#"{"format":1,"images":[1]}"#, list.as_deref().map(str::as_bytes))
            .unwrap();
        assert!(decide(host, &changed).is_err(), "{name}, with another document");
    }
    assert!(host.check_bundle(DOCUMENT, Some(b"{}")).is_err());
}

#[test]
fn a_signature_counts_only_for_the_key_and_the_algorithm_that_it_names() {
    let [rsa, ed25519, _] = mk_keys();
    let host = mk_host(&[&rsa, &ed25519], &[]);
    let mut signature = rsa.sign(DOCUMENT).unwrap();
    signature.algorithm = SignatureAlgorithm::EcdsaP256Sha256;
    let checked = host
        .check_bundle(DOCUMENT, Some(render_signatures(&[signature]).as_bytes()))
        .unwrap();
    assert_eq!(checked.checks, [SignatureCheck::Invalid(id(&rsa))]);
    let mut signature = rsa.sign(DOCUMENT).unwrap();
    signature.key = id(&ed25519);
    let checked = host
        .check_bundle(DOCUMENT, Some(render_signatures(&[signature]).as_bytes()))
        .unwrap();
    assert_eq!(decide(&host, &checked), Err(Refusal::BadSignature(id(&ed25519))));
}

#[test]
fn a_new_key_comes_with_the_signature_of_an_old_one_in_any_order() {
    let [first, second, third] = mk_keys();
    let foreign = mk_key(KeyKind::Ed25519);
    let document = |new: &PrivateKey, by: &PrivateKey| {
        let pem = public_pem(new);
        let signed = by.sign(pem.as_bytes()).unwrap();
        parse_key_document(render_key_document(&pem, &[signed]).as_bytes()).unwrap()
    };
    let documents = [
        document(&third, &second),
        document(&foreign, &foreign),
        document(&second, &first),
    ];
    let mut host = mk_host(&[&first], &[]);
    let not_signed = KeyDocumentError::Refused(KeyRefusal::NotSigned(id(&foreign)));
    assert_eq!(host.accept_all(&documents), [(1, not_signed)]);
    let checked = host
        .check_bundle(DOCUMENT, Some(sign_list(&[&third]).as_bytes()))
        .unwrap();
    assert_eq!(
        decide(&host, &checked),
        Ok(Trust::Key {
            key: id(&third),
            newer_seen: None
        })
    );

    let mut after = mk_host(&[&first], &[&second]);
    let refused: Vec<_> = after
        .accept_all(&documents)
        .into_iter()
        .map(|(place, _)| place)
        .collect();
    assert_eq!(
        refused,
        [0, 1, 2],
        "a retired key neither comes back nor brings another"
    );

    let mut changed = document(&second, &first);
    changed.key.push('\n');
    assert!(
        mk_host(&[&first], &[]).accept(&changed).is_err(),
        "the signature is over the whole text"
    );
    changed.key = "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----".to_owned();
    assert_eq!(
        host.accept(&changed),
        Err(KeyDocumentError::Key(KeyError::NotSupported))
    );
}

#[test]
fn a_detached_signature_is_over_the_whole_file_and_needs_no_name_of_a_key() {
    let file = b"NAME.tar.zst";
    let [rsa, ed25519, ecdsa] = mk_keys();
    let host = mk_host(&[&rsa, &ed25519, &ecdsa], &[]);
    for key in [&rsa, &ecdsa] {
        let signature = sign_detached(key, &digest_of(file)).unwrap();
        assert!(
            key.public_key().verifies(file, &signature),
            "{key:?}: it is the usual signature of the bytes"
        );
        let trusted = Ok(Trust::Key {
            key: id(key),
            newer_seen: None,
        });
        assert_eq!(
            decide(&host, &host.check_detached(&digest_of(file), &signature)),
            trusted
        );
        let others = mk_host(&[&ed25519], &[]);
        let other_file = host.check_detached(&digest_of(b"other"), &signature);
        let other_host = others.check_detached(&digest_of(file), &signature);
        assert_eq!(decide(&host, &other_file), Err(Refusal::Unmatched));
        assert_eq!(decide(&others, &other_host), Err(Refusal::Unmatched));
        let retired = mk_host(&[key], &[key]);
        let refused = Err(Refusal::RetiredKey(id(key)));
        assert_eq!(
            decide(&retired, &retired.check_detached(&digest_of(file), &signature)),
            refused
        );
    }
    let error = sign_detached(&ed25519, &digest_of(file)).unwrap_err();
    assert_eq!(error, NoDetachedSignature::Ed25519);
    assert!(error.hint().is_some());
    let sha512 = format!("sha512:{}", "0".repeat(128)).parse().unwrap();
    assert_eq!(
        sign_detached(&rsa, &sha512),
        Err(NoDetachedSignature::Failed(SigningFailed))
    );
    for (file, expected) in [
        ("shop.tar.zst", "shop.tar.sig.bin"),
        ("pack.zst", "pack.sig.bin"),
        ("edge.iso", "edge.iso.sig.bin"),
    ] {
        assert_eq!(detached_name(file), expected);
    }
}

#[test]
fn keys_are_read_in_the_forms_that_tools_write() {
    let rsa = mk_rsa(KeySize::Rsa3072);
    let ecdsa = mk_ecdsa();
    let sec1 = AsDer::<EcPrivateKeyRfc5915Der>::as_der(&ecdsa.private_key()).unwrap();
    let pkcs1 = pkcs1_of(&pem_of_rsa(&rsa));
    let parameters = mk_pem("EC PARAMETERS", &[6, 8, 42, 134, 72, 206, 61, 3, 1, 7]);
    for (name, private, kind) in [
        ("PKCS #8", pem_of_rsa(&rsa), KeyKind::Rsa),
        ("PKCS #1", mk_pem("RSA PRIVATE KEY", &pkcs1), KeyKind::Rsa),
        ("SEC 1", mk_pem("EC PRIVATE KEY", sec1.as_ref()), KeyKind::EcdsaP256),
        (
            "SEC 1 with parameters",
            parameters + &mk_pem("EC PRIVATE KEY", sec1.as_ref()),
            KeyKind::EcdsaP256,
        ),
    ] {
        let key = PrivateKey::parse(&private).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(key.public_key().kind(), kind, "{name}");
        assert!(
            key.public_key().verifies(DOCUMENT, &key.sign(DOCUMENT).unwrap().bytes),
            "{name}"
        );
    }
    let spki = rsa.public_key().as_der().unwrap();
    let pem = mk_pem("PUBLIC KEY", spki.as_ref());
    let id = digest_of(spki.as_ref()).hex().to_owned();
    for (name, text) in [
        ("PEM", pem.clone()),
        (
            "PEM with comments and Windows line ends",
            format!("key of the shop\r\n{}", pem.replace('\n', "\r\n")),
        ),
        ("base64 of PEM, as Palette writes it", STANDARD.encode(&pem)),
        (
            "base64 with line ends",
            format!("{}\n", STANDARD.encode(&pem).replace('A', "A\n")),
        ),
        ("PKCS #1", mk_pem("RSA PUBLIC KEY", rsa.public_key().as_ref())),
    ] {
        let key = PublicKey::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((key.id().as_str(), key.kind()), (id.as_str(), KeyKind::Rsa), "{name}");
    }
}

/// Makes the PKCS #1 form of a public key: a modulus of 1024 bits, and the exponent 65537.
fn mk_rsa_of_1024_bits() -> Vec<u8> {
    let header: &[u8] = &[0x30, 0x81, 0x89, 0x02, 0x81, 0x81, 0x00];
    [header, &[0xab; 128], &[0x02, 0x03, 0x01, 0x00, 0x01]].concat()
}

/// Takes the PKCS #1 key out of a PKCS #8 one: it is the octet string at the end.
fn pkcs1_of(pkcs8: &str) -> Vec<u8> {
    let der = pem::sections(pkcs8).next().unwrap().der().unwrap();
    // The header of PrivateKeyInfo: sequence, version, algorithm identifier, and the tag and length of the string.
    der[4 + 3 + 15 + 4..].to_vec()
}

#[test]
fn a_text_that_is_no_such_key_is_refused_with_advice_and_never_shown() {
    let ed25519 = mk_pem(
        "PRIVATE KEY",
        Ed25519KeyPair::generate().unwrap().to_pkcs8v1().unwrap().as_ref(),
    );
    let public = public_pem(&PrivateKey::parse(&ed25519).unwrap());
    let body = "AAAA";
    let old_form = format!("Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n{body}");
    let small = mk_pem("RSA PUBLIC KEY", &mk_rsa_of_1024_bits());
    let p384 = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING)
        .unwrap()
        .to_pkcs8v1()
        .unwrap();
    let section = |label: &str| format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n");
    for (text, as_public, as_private) in [
        (String::new(), KeyError::NoPublicKey, KeyError::NoPrivateKey),
        (section("CERTIFICATE"), KeyError::Certificate, KeyError::NoPrivateKey),
        (
            section("PUBLIC KEY"),
            KeyError::NotSupported,
            KeyError::PublicNotPrivate,
        ),
        (
            section("PRIVATE KEY"),
            KeyError::PrivateNotPublic,
            KeyError::NotSupported,
        ),
        (
            section("ENCRYPTED PRIVATE KEY"),
            KeyError::PrivateNotPublic,
            KeyError::Encrypted,
        ),
        (
            section("ENCRYPTED SIGSTORE PRIVATE KEY"),
            KeyError::PrivateNotPublic,
            KeyError::EncryptedByCosign,
        ),
        (
            section("RSA PRIVATE KEY").replace(body, &old_form),
            KeyError::PrivateNotPublic,
            KeyError::Encrypted,
        ),
        (
            ed25519.replace("-----END", "-----ENDE"),
            KeyError::NoPublicKey,
            KeyError::NoPrivateKey,
        ),
        (
            public.replace('A', "*"),
            KeyError::NotSupported,
            KeyError::PublicNotPrivate,
        ),
        (public.repeat(2), KeyError::SeveralKeys, KeyError::PublicNotPrivate),
        (
            " ".repeat(70_000) + &public,
            KeyError::NoPublicKey,
            KeyError::NoPrivateKey,
        ),
        (small, KeyError::RsaSize { bits: 1024 }, KeyError::PublicNotPrivate),
        (
            mk_pem("PRIVATE KEY", p384.as_ref()),
            KeyError::PrivateNotPublic,
            KeyError::NotSupported,
        ),
    ] {
        let found = (
            PublicKey::parse(&text).unwrap_err(),
            PrivateKey::parse(&text).unwrap_err(),
        );
        assert_eq!(found, (as_public, as_private), "{text}");
        assert!(found.0.hint().is_some() && found.1.hint().is_some());
    }
    let p384 = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING).unwrap();
    let p384 = mk_pem("PUBLIC KEY", p384.public_key().as_der().unwrap().as_ref());
    let for_bundles = HostKeys::new([PublicKey::parse(&p384).unwrap()], []);
    assert_eq!(for_bundles.unwrap_err(), KeyError::NotForBundles);
    let shown = format!("{:?}", PrivateKey::parse(&ed25519).unwrap());
    assert!(
        shown.starts_with("PrivateKey(of PublicKey(Ed25519 ") && shown.len() < 110,
        "{shown}"
    );
}
