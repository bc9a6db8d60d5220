//! The JSON patch of an answer (RFC 6902): `test` and `replace` for an image, `add` for the annotation.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::pod::PodView;

/// One operation of a patch.
#[derive(Serialize)]
pub(super) struct PatchOperation {
    op: &'static str,
    path: String,
    value: Value,
}

/// Replaces an image, only if it still is the one that the decision was made on.
pub(super) fn replace_image(pointer: &str, from: &str, to: String) -> [PatchOperation; 2] {
    [
        PatchOperation {
            op: "test",
            path: pointer.to_owned(),
            value: Value::from(from),
        },
        PatchOperation {
            op: "replace",
            path: pointer.to_owned(),
            value: Value::from(to),
        },
    ]
}

/// Adds to the annotation with the originals; what earlier requests put there stays. `add` makes the deepest object that
/// is missing and touches nothing else.
pub(super) fn annotate(pod: &PodView, key: &str, originals: &BTreeMap<String, String>) -> PatchOperation {
    let before = (pod.annotations().flatten()).and_then(|annotations| annotations.get(key));
    let mut merged: BTreeMap<String, String> = before
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    merged.extend(originals.iter().map(|(name, image)| (name.clone(), image.clone())));
    let value = json!(merged).to_string();
    let (path, value) = match pod.annotations() {
        Some(Some(_)) => (format!("/metadata/annotations/{}", escape(key)), Value::from(value)),
        Some(None) => ("/metadata/annotations".to_owned(), json!({ key: value })),
        None => ("/metadata".to_owned(), json!({ "annotations": { key: value } })),
    };
    PatchOperation { op: "add", path, value }
}

/// A key as a part of a JSON pointer (RFC 6901, section 3).
fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
