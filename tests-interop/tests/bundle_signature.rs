//! Signatures of bundles between Landfall and openssl, by the lines that the guide shows: openssl verifies Landfall's,
//! Landfall verifies openssl's, and each reads the keys that openssl writes.

use std::process::Command;

use camino::Utf8Path;
use landfall_core::bundle::trust::{
    Signature, SignatureCheck, parse_key_document, parse_signatures, render_key_document, render_signatures,
};
use landfall_core::failure::Hint;
use landfall_core::reference::Digest;
use landfall_oci::bundle::signature::{
    HostKeys, KeyError, KeyKind, PrivateKey, PublicKey, detached_name, sign_detached,
};
use landfall_oci::digest::{Algorithm, Digester};
use landfall_tests_interop::program::{Finished, run};
use tempfile::TempDir;

const DOCUMENT: &str = r#"{"format":1,"images":[],"blobs":[]}"#;

/// The lines of the guide that make a key pair.
const KEY_PAIRS: [(KeyKind, &str); 3] = [
    (
        KeyKind::Rsa,
        "openssl genpkey -quiet -algorithm rsa -pkeyopt rsa_keygen_bits:3072 -out bundle.key",
    ),
    (KeyKind::Ed25519, "openssl genpkey -algorithm ed25519 -out bundle.key"),
    (
        KeyKind::EcdsaP256,
        "openssl genpkey -algorithm ec -pkeyopt ec_paramgen_curve:P-256 -out bundle.key",
    ),
];
const PUBLIC_KEY: &str = "openssl pkey -in bundle.key -pubout -out bundle.pub";
const KEY_ID: &str = "openssl pkey -pubin -in bundle.pub -outform der | sha256sum";

/// The line that takes the first signature out of `landfall/bundle.sig`.
const TAKE_OUT: &str =
    r#"sed -n 's/.*"sig":"\([^"]*\)".*/\1/p' bundle.sig | head -n 1 | openssl base64 -d -A >sig.bin"#;

fn sign_line(kind: KeyKind) -> &'static str {
    match kind {
        KeyKind::Ed25519 => "openssl pkeyutl -sign -rawin -inkey bundle.key -in bundle.json -out sig.bin",
        _ => "openssl dgst -sha256 -sign bundle.key -out sig.bin bundle.json",
    }
}

fn verify_line(kind: KeyKind) -> &'static str {
    match kind {
        KeyKind::Ed25519 => "openssl pkeyutl -verify -rawin -pubin -inkey bundle.pub -sigfile sig.bin -in bundle.json",
        _ => "openssl dgst -sha256 -verify bundle.pub -signature sig.bin bundle.json",
    }
}

/// A directory with a key pair of openssl, and the document.
struct Desk {
    directory: TempDir,
}

impl Desk {
    fn new(key_pair: &str) -> Desk {
        let desk = Desk {
            directory: tempfile::tempdir().expect("a temporary directory"),
        };
        desk.write("bundle.json", DOCUMENT.as_bytes());
        desk.line(key_pair);
        desk.line(PUBLIC_KEY);
        desk
    }

    fn path(&self) -> &Utf8Path {
        Utf8Path::from_path(self.directory.path()).expect("a temporary directory with a UTF-8 name")
    }

    fn try_line(&self, line: &str) -> Finished {
        let mut command = Command::new("sh");
        command.args(["-euc", line]).current_dir(self.path());
        run(command)
    }

    fn line(&self, line: &str) -> String {
        self.try_line(line).succeeded().stdout()
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs_err::write(self.path().join(name), bytes).expect("a file in our own directory");
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs_err::read(self.path().join(name)).unwrap_or_else(|error| panic!("{error}"))
    }

    fn text(&self, name: &str) -> String {
        String::from_utf8(self.read(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn private_key(&self) -> PrivateKey {
        PrivateKey::parse(&self.text("bundle.key")).unwrap_or_else(|error| panic!("{error}"))
    }

    fn public_key(&self) -> PublicKey {
        PublicKey::parse(&self.text("bundle.pub")).unwrap_or_else(|error| panic!("{error}"))
    }

    fn host(&self) -> HostKeys {
        HostKeys::new([self.public_key()], []).unwrap_or_else(|error| panic!("{error}"))
    }
}

fn sha256_of(bytes: &[u8]) -> Digest {
    let mut digester = Digester::new(Algorithm::Sha256);
    digester.update(bytes);
    digester.finish()
}

#[test]
fn openssl_verifies_what_landfall_signed() {
    for (kind, key_pair) in KEY_PAIRS {
        let desk = Desk::new(key_pair);
        let key = desk.private_key();
        let id = desk.line(KEY_ID);
        assert_eq!(
            id.split_whitespace().next(),
            Some(key.public_key().id().as_str()),
            "{kind:?}"
        );
        let signature = key.sign(DOCUMENT.as_bytes()).expect("a signature");
        desk.write("bundle.sig", render_signatures(&[signature]).as_bytes());
        desk.line(TAKE_OUT);
        desk.line(verify_line(kind));
        desk.write("bundle.json", DOCUMENT.replace("[]", "[1]").as_bytes());
        let changed = desk.try_line(verify_line(kind));
        assert_ne!(changed.code(), Some(0), "{changed}");
    }
}

#[test]
fn landfall_verifies_what_openssl_signed() {
    for (kind, key_pair) in KEY_PAIRS {
        let desk = Desk::new(key_pair);
        let (host, key) = (desk.host(), desk.public_key());
        assert_eq!(key.kind(), kind);
        desk.line(sign_line(kind));
        let signature = Signature {
            key: key.id().clone(),
            algorithm: kind.bundle_algorithm().expect("a kind that signs bundles"),
            bytes: desk.read("sig.bin"),
        };
        let list = render_signatures(&[signature]);
        assert_eq!(parse_signatures(list.as_bytes()).unwrap().signatures.len(), 1);
        let checked = host.check_bundle(DOCUMENT.as_bytes(), Some(list.as_bytes())).unwrap();
        assert_eq!(checked.checks, [SignatureCheck::Valid(key.id().clone())], "{kind:?}");
        let changed = host.check_bundle(b"{}", Some(list.as_bytes())).unwrap();
        assert_eq!(changed.checks, [SignatureCheck::Invalid(key.id().clone())], "{kind:?}");
    }
}

#[test]
fn a_detached_signature_is_the_one_that_artifact_studio_documents() {
    const FILE: &str = "shop.tar.zst";
    const VERIFY: &str = "openssl dgst -sha256 -verify bundle.pub -signature shop.tar.sig.bin shop.tar.zst";
    const SIGN: &str = "openssl dgst -sha256 -sign bundle.key -out shop.tar.sig.bin shop.tar.zst";
    assert_eq!(detached_name(FILE), "shop.tar.sig.bin");
    for (kind, key_pair) in KEY_PAIRS {
        let desk = Desk::new(key_pair);
        let content: Vec<u8> = (0_u32..200_000).flat_map(u32::to_le_bytes).collect();
        desk.write(FILE, &content);
        let digest = sha256_of(&content);
        let made = sign_detached(&desk.private_key(), &digest);
        if kind == KeyKind::Ed25519 {
            assert!(made.unwrap_err().hint().is_some());
            continue;
        }
        desk.write("shop.tar.sig.bin", &made.unwrap());
        desk.line(VERIFY);
        desk.line(SIGN);
        let checked = desk.host().check_detached(&digest, &desk.read("shop.tar.sig.bin"));
        assert_eq!(
            checked.checks,
            [SignatureCheck::Valid(desk.public_key().id().clone())],
            "{kind:?}"
        );
        let other = desk
            .host()
            .check_detached(&sha256_of(b"other"), &desk.read("shop.tar.sig.bin"));
        assert_eq!(other.checks, [SignatureCheck::Unmatched], "{kind:?}");
    }
}

#[test]
fn a_new_key_that_openssl_signed_with_the_old_one_is_taken() {
    for (kind, key_pair) in KEY_PAIRS {
        let desk = Desk::new(key_pair);
        let mut host = desk.host();
        let old = desk.public_key();
        desk.line("openssl genpkey -algorithm ed25519 | openssl pkey -pubout -out bundle.json");
        desk.line(sign_line(kind));
        let signature = Signature {
            key: old.id().clone(),
            algorithm: kind.bundle_algorithm().expect("a kind that signs bundles"),
            bytes: desk.read("sig.bin"),
        };
        let written = render_key_document(&desk.text("bundle.json"), &[signature]);
        let document = parse_key_document(written.as_bytes()).unwrap();
        host.accept(&document)
            .unwrap_or_else(|error| panic!("{kind:?}: {error}"));
    }
}

#[test]
fn every_form_of_a_key_that_openssl_writes_is_read_or_refused_with_advice() {
    let desk = Desk::new(KEY_PAIRS[0].1);
    let rsa = desk.public_key();
    for line in [
        "openssl rsa -in bundle.key -traditional -out form.key",
        "openssl pkcs8 -topk8 -nocrypt -in bundle.key -out form.key",
        "openssl pkey -in bundle.key -text -out form.key",
    ] {
        desk.line(line);
        let key = PrivateKey::parse(&desk.text("form.key")).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!(key.public_key().id(), rsa.id(), "{line}");
    }
    for line in [
        "openssl rsa -in bundle.key -RSAPublicKey_out -out form.pub",
        "openssl pkey -pubin -in bundle.pub -text -out form.pub",
        "base64 bundle.pub >form.pub",
        "base64 -w0 bundle.pub >form.pub",
    ] {
        desk.line(line);
        let key = PublicKey::parse(&desk.text("form.pub")).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!(key.id(), rsa.id(), "{line}");
    }
    for line in [
        "openssl ecparam -genkey -name prime256v1 -out form.key",
        "openssl ecparam -genkey -name prime256v1 -noout -out form.key",
    ] {
        desk.line(line);
        let key = PrivateKey::parse(&desk.text("form.key")).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!(key.public_key().kind(), KeyKind::EcdsaP256, "{line}");
    }
    for (line, expected) in [
        (
            "openssl pkcs8 -topk8 -in bundle.key -passout pass:canary-key -out form.key",
            KeyError::Encrypted,
        ),
        (
            "openssl rsa -in bundle.key -traditional -aes256 -passout pass:canary-key -out form.key",
            KeyError::Encrypted,
        ),
        ("cp bundle.pub form.key", KeyError::PublicNotPrivate),
        (
            "openssl ecparam -genkey -name secp384r1 -noout -out form.key",
            KeyError::NotSupported,
        ),
        (
            "openssl ecparam -genkey -name secp521r1 -noout -out form.key",
            KeyError::NotSupported,
        ),
        ("openssl genpkey -algorithm ed448 -out form.key", KeyError::NotSupported),
        (
            "openssl genpkey -quiet -algorithm rsa -pkeyopt rsa_keygen_bits:1024 -out form.key",
            KeyError::NotSupported,
        ),
    ] {
        desk.line(line);
        let error = PrivateKey::parse(&desk.text("form.key")).expect_err(line);
        assert_eq!(error, expected, "{line}");
        assert!(error.hint().is_some(), "{line}");
    }
    for (line, expected) in [
        ("cp bundle.key form.pub", KeyError::PrivateNotPublic),
        (
            "openssl genpkey -quiet -algorithm rsa -pkeyopt rsa_keygen_bits:1024 | openssl pkey -pubout -out form.pub",
            KeyError::RsaSize { bits: 1024 },
        ),
        (
            "openssl req -x509 -key bundle.key -subj /CN=shop -out form.pub",
            KeyError::Certificate,
        ),
        (
            "openssl genpkey -algorithm ed448 | openssl pkey -pubout -out form.pub",
            KeyError::NotSupported,
        ),
        (
            "openssl ecparam -genkey -name prime256v1 -noout -conv_form compressed | \
             openssl ec -conv_form compressed -pubout -out form.pub",
            KeyError::NotSupported,
        ),
    ] {
        desk.line(line);
        assert_eq!(
            PublicKey::parse(&desk.text("form.pub")).expect_err(line),
            expected,
            "{line}"
        );
    }
}

#[test]
fn an_image_key_on_p384_verifies_both_hashes_that_cosign_signs_with_it() {
    let desk = Desk::new("openssl genpkey -algorithm ec -pkeyopt ec_paramgen_curve:P-384 -out bundle.key");
    let key = desk.public_key();
    assert_eq!(key.kind(), KeyKind::EcdsaP384);
    for (hash, verified) in [("sha256", true), ("sha384", true), ("sha512", false)] {
        desk.line(&format!(
            "openssl dgst -{hash} -sign bundle.key -out sig.bin bundle.json"
        ));
        assert_eq!(
            key.verifies(DOCUMENT.as_bytes(), &desk.read("sig.bin")),
            verified,
            "{hash}"
        );
        assert!(!key.verifies(b"other", &desk.read("sig.bin")), "{hash}");
    }
}
