use serde_json::json;

use super::sigstore_bundle::pre_authentication_encoding;
use super::*;
use crate::oci_types::parse_manifest;

const HEX: &str = "21c3e5ef753f7cfed96d2b762506a639fb8db077df184a20e269b4956776d910";
const EMPTY: &str = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

fn image() -> Digest {
    format!("sha256:{HEX}").parse().unwrap()
}

fn payload(kind: &str, digest: &str) -> String {
    json!({
        "critical": {
            "identity": {"docker-reference": "registry.example.com/app"},
            "image": {"docker-manifest-digest": digest},
            "type": kind,
        },
        "optional": null,
    })
    .to_string()
}

fn statement(kind: &str, predicate: &str, digests: &[&str]) -> String {
    let subjects: Vec<_> = digests.iter().map(|hex| json!({"digest": {"sha256": hex}})).collect();
    json!({"_type": kind, "subject": subjects, "predicateType": predicate, "predicate": {}}).to_string()
}

fn envelope(payload_type: &str, payload: &str, signatures: &[&str]) -> String {
    let signatures: Vec<_> = signatures
        .iter()
        .map(|sig| json!({"sig": STANDARD.encode(sig)}))
        .collect();
    json!({
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"publicKey": {"hint": "not read"}},
        "dsseEnvelope": {
            "payload": STANDARD.encode(payload),
            "payloadType": payload_type,
            "signatures": signatures,
        },
    })
    .to_string()
}

const V1: &str = "https://in-toto.io/Statement/v1";
const SIGN: &str = "https://sigstore.dev/cosign/sign/v1";
const IN_TOTO: &str = "application/vnd.in-toto+json";

#[test]
fn a_payload_must_name_the_image_and_is_signed_as_it_is() {
    const TYPE: &str = "cosign container image signature";
    let good = payload(TYPE, image().as_str());
    let spaced = good.replace(',', " ,\n");
    for text in [&good, &spaced] {
        let expected = SignedMessage {
            form: SignatureForm::Classic,
            message: Message::Bytes(text.clone().into_bytes()),
            signature: b"sig".to_vec(),
        };
        assert_eq!(read_classic(text.as_bytes(), b"sig".to_vec(), &image()), Ok(expected));
    }
    let other_image = |text: &str| SignatureProblem::OtherImage(text.to_owned());
    let other_kind = |text: &str| SignatureProblem::OtherStatement(text.to_owned());
    for (text, expected) in [
        (payload(TYPE, EMPTY), other_image(EMPTY)),
        (payload(TYPE, HEX), other_image(HEX)),
        (
            payload("atomic container signature", image().as_str()),
            other_kind("atomic container signature"),
        ),
        (good.replace("\"type\"", "\"Type\""), other_kind("")),
        (good.replace("image\":", "images\":"), other_image("")),
        ("[]".to_owned(), other_kind("")),
        (String::new(), SignatureProblem::Malformed("a payload is no JSON")),
        ("[".repeat(100_000), SignatureProblem::Malformed("a payload is no JSON")),
    ] {
        assert_eq!(
            read_classic(text.as_bytes(), Vec::new(), &image()),
            Err(expected),
            "{text:.200}"
        );
    }
}

#[test]
fn the_encoding_that_is_signed_is_that_of_the_protocol() {
    // DSSE protocol, the example of "Test Vectors".
    let encoded = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world");
    assert_eq!(encoded, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
}

#[test]
fn a_bundle_must_be_a_signature_of_the_image() {
    let good = statement(V1, SIGN, &[HEX]);
    let pae = |payload: &str| Message::Bytes(pre_authentication_encoding(IN_TOTO, payload.as_bytes()));
    let several = statement(
        "https://in-toto.io/Statement/v0.1",
        SIGN,
        &[&HEX.replace('2', "3"), HEX],
    );
    for payload in [&good, &several] {
        let expected = SignedMessage {
            form: SignatureForm::Bundle,
            message: pae(payload),
            signature: b"sig".to_vec(),
        };
        assert_eq!(
            read_bundle(envelope(IN_TOTO, payload, &["sig"]).as_bytes(), &image()),
            Ok(expected)
        );
    }
    let message = json!({"messageSignature": {
        "messageDigest": {"algorithm": "SHA2_256", "digest": "not read"},
        "signature": STANDARD.encode("sig"),
    }});
    let read = read_bundle(message.to_string().as_bytes(), &image()).unwrap();
    assert_eq!((read.message, read.signature), (Message::Manifest, b"sig".to_vec()));

    let malformed = SignatureProblem::Malformed;
    let other_kind = |text: &str| SignatureProblem::OtherStatement(text.to_owned());
    let other_image = |text: String| SignatureProblem::OtherImage(text);
    let sealed = |payload: &str| envelope(IN_TOTO, payload, &["sig"]);
    let foreign = EMPTY.replace("sha256:", "");
    for (text, expected) in [
        (sealed(&statement(V1, SIGN, &[&foreign])), other_image(EMPTY.to_owned())),
        (sealed(&statement(V1, SIGN, &[])), other_image("sha256:".to_owned())),
        (
            sealed(&good.replace("\"sha256\"", "\"sha512\"")),
            other_image("sha256:".to_owned()),
        ),
        (sealed(&statement("a", SIGN, &[HEX])), other_kind("a")),
        (
            sealed(&statement(V1, "https://slsa.dev/provenance/v1", &[HEX])),
            other_kind("https://slsa.dev/provenance/v1"),
        ),
        (sealed("{"), malformed("a statement is no JSON")),
        (envelope("text/plain", &good, &["sig"]), other_kind("text/plain")),
        (
            envelope(IN_TOTO, &good, &[]),
            malformed("an envelope has not exactly one signature"),
        ),
        (
            envelope(IN_TOTO, &good, &["a", "b"]),
            malformed("an envelope has not exactly one signature"),
        ),
        (
            sealed(&good).replace("\"sig\":\"", "\"sig\":\"*"),
            malformed("a part of a bundle is not base64"),
        ),
        (
            sealed(&good).replace("\"payload\":\"", "\"payload\":\"*"),
            malformed("a part of a bundle is not base64"),
        ),
        (
            sealed(&good).replacen('{', r#"{"messageSignature":{},"#, 1),
            malformed("a bundle has signatures of two kinds"),
        ),
        (
            r#"{"messageSignature":{}}"#.to_owned(),
            malformed("a part of a bundle is not base64"),
        ),
        ("{}".to_owned(), malformed("a bundle has no signature")),
        ("7".to_owned(), malformed("a bundle has no signature")),
        (String::new(), malformed("a bundle is no JSON")),
    ] {
        assert_eq!(read_bundle(text.as_bytes(), &image()), Err(expected), "{text}");
    }
}

fn layer(media_type: &str, size: u64, signature: Option<&str>) -> serde_json::Value {
    let annotations = signature.map(|text| json!({"dev.cosignproject.cosign/signature": text}));
    json!({"mediaType": media_type, "digest": EMPTY, "size": size, "annotations": annotations})
}

fn select(layers: &[serde_json::Value]) -> (Vec<CarriedSignature>, Vec<SignatureProblem>) {
    let config = json!({"mediaType": "application/vnd.oci.empty.v1+json", "digest": EMPTY, "size": 2});
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
    select_signatures(&parse_manifest(manifest.to_string().as_bytes()).unwrap())
}

#[test]
fn signatures_are_found_by_the_media_types_of_their_documents() {
    const CLASSIC: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
    const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
    let no_base64 = SignatureProblem::Malformed("a payload has no signature in base64");
    let too_large = SignatureProblem::TooLarge {
        size: DOCUMENT_SIZE_MAX + 1,
    };
    let cases: &[(&str, serde_json::Value, usize, &[SignatureProblem])] = &[
        ("classic", layer(CLASSIC, 7, Some("c2ln")), 1, &[]),
        ("bundle", layer(BUNDLE, DOCUMENT_SIZE_MAX, None), 1, &[]),
        (
            "older bundle",
            layer("application/vnd.dev.sigstore.bundle+json;version=0.1", 7, None),
            1,
            &[],
        ),
        (
            "no signature",
            layer(CLASSIC, 7, None),
            0,
            std::slice::from_ref(&no_base64),
        ),
        (
            "no base64",
            layer(CLASSIC, 7, Some("*")),
            0,
            std::slice::from_ref(&no_base64),
        ),
        (
            "large bundle",
            layer(BUNDLE, DOCUMENT_SIZE_MAX + 1, None),
            0,
            std::slice::from_ref(&too_large),
        ),
        (
            "layer",
            layer("application/vnd.oci.image.layer.v1.tar", u64::MAX, Some("c2ln")),
            0,
            &[],
        ),
    ];
    for (name, layer, count, problems) in cases {
        let found = select(std::slice::from_ref(layer));
        assert_eq!((found.0.len(), found.1.as_slice()), (*count, *problems), "{name}");
    }
    let (found, problems) = select(&vec![layer(CLASSIC, 7, Some("c2ln")); SIGNATURES_MAX + 9]);
    assert_eq!(
        (found.len(), problems),
        (
            SIGNATURES_MAX,
            vec![SignatureProblem::TooMany {
                looked_at: SIGNATURES_MAX
            }]
        )
    );
    let index = parse_manifest(br#"{"schemaVersion":2,"manifests":[]}"#).unwrap();
    assert_eq!(select_signatures(&index), (Vec::new(), Vec::new()));
}

#[test]
fn a_refusal_names_each_problem_once() {
    let refusal = ImageRefusal::NotTrusted(vec![
        SignatureProblem::OtherKey,
        SignatureProblem::OtherImage(EMPTY.to_owned()),
        SignatureProblem::OtherKey,
    ]);
    let expected = format!(
        "the image carries no signature by one of the given keys: a signature is made by none of the given keys; \
         a signature is for `{EMPTY}`"
    );
    assert_eq!(refusal.to_string(), expected);
    let many = (0..9).map(|n| SignatureProblem::OtherImage(n.to_string())).collect();
    let text = ImageRefusal::NotTrusted(many).to_string();
    assert!(text.ends_with("a signature is for `3`; and other problems"), "{text}");
    assert!(refusal.hint().is_some() && ImageRefusal::Unsigned.hint().is_some());
}
