//! Laws about signatures of bundles and images.

use landfall_core::bundle::trust::{
    SIGNATURES_MAX, Signatures, parse_key_document, parse_signatures, render_key_document, render_signatures,
};
use landfall_core::cosign::{
    DOCUMENT_SIZE_MAX, Message, SignatureForm, SignedMessage, read_bundle, read_classic, select_signatures,
};
use landfall_core::oci_types::parse_manifest;
use landfall_core::reference::Digest;
use landfall_oci::bundle::signature::{HostKeys, PrivateKey, PublicKey};
use landfall_oci::digest::digest_of;

/// The image that the seeds sign.
const IMAGE: &str = "sha256:6e334fe9557b9485b4a2f84b0af1aa0ab86ad7888986cd30ccde6c2a28c176c9";

/// Checks a list of signatures and a key document: what was read is written and read again.
pub(super) fn check_signatures(data: &[u8]) {
    if let Ok(read) = parse_signatures(data) {
        check_list(&read);
        let again = parse_signatures(render_signatures(&read.signatures).as_bytes()).expect("our own form");
        assert_eq!(again.signatures, read.signatures);
        let checked = HostKeys::default()
            .check_bundle(b"{}", Some(data))
            .expect("a list that was read");
        assert_eq!(checked.checks.len(), read.signatures.len());
    }
    if let Ok(read) = parse_key_document(data) {
        check_list(&read.signatures);
        let written = render_key_document(&read.key, &read.signatures.signatures);
        let again = parse_key_document(written.as_bytes()).expect("our own form");
        assert_eq!(
            (&again.key, &again.signatures.signatures),
            (&read.key, &read.signatures.signatures)
        );
        assert!(
            HostKeys::default().accept(&read).is_err(),
            "no key of the host signed it"
        );
        check_key(&read.key);
    }
    if let Ok(text) = std::str::from_utf8(data) {
        check_key(text);
    }
}

fn check_list(read: &Signatures) {
    assert!(read.signatures.len() + read.skipped.len() <= SIGNATURES_MAX);
    assert!(read.signatures.iter().all(|signature| !signature.bytes.is_empty()));
}

/// Checks a key: it is named by its encoding, and is public or private.
fn check_key(text: &str) {
    if let Ok(key) = PublicKey::parse(text) {
        assert_eq!(key.id().as_str(), digest_of(key.spki()).hex());
        assert!(!key.verifies(b"", b""));
        assert!(PrivateKey::parse(text).is_err());
    }
}

/// Checks a manifest that may carry signatures of an image, and the documents of both forms.
pub(super) fn check_cosign(data: &[u8]) {
    if let Ok(manifest) = parse_manifest(data) {
        let (carried, _) = select_signatures(&manifest);
        assert!(carried.len() <= manifest.children().count());
        assert!(
            carried
                .iter()
                .all(|signature| signature.document().size <= DOCUMENT_SIZE_MAX)
        );
    }
    let image: Digest = IMAGE.parse().expect("a digest");
    if let Ok(SignedMessage { form, message, .. }) = read_classic(data, Vec::new(), &image) {
        assert_eq!((form, message), (SignatureForm::Classic, Message::Bytes(data.to_vec())));
    }
    if let Ok(SignedMessage {
        message: Message::Bytes(bytes),
        ..
    }) = read_bundle(data, &image)
    {
        assert!(bytes.starts_with(b"DSSEv1 28 application/vnd.in-toto+json "));
    }
}
