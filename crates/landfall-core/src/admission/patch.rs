//! The JSON patch of an answer (RFC 6902): `test` and `replace` for an image, `add` for the annotation.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::pod::PodView;

/// One operation of a JSON patch.
#[derive(Serialize)]
pub(super) struct PatchOperation {
    op: &'static str,
    path: String,
    value: Value,
}

/// Returns a `test` that stops the patch if another pod of the same name has replaced this one.
pub(super) fn test_uid(uid: &str) -> PatchOperation {
    PatchOperation {
        op: "test",
        path: "/metadata/uid".to_owned(),
        value: Value::from(uid),
    }
}

/// Replaces an image, if it is still the one that the decision was made for.
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

/// The annotation's entry for one image.
#[derive(Serialize, Deserialize)]
pub(super) struct ImageNote {
    /// The user's image; in observe-only mode, the image that would have replaced it.
    pub(super) image: String,
    /// The reason for the change.
    pub(super) reason: String,
}

/// Reads the entries of one of our annotations; empty if the annotation is missing or is not valid JSON.
pub(super) fn notes(pod: &PodView, key: &str) -> BTreeMap<String, ImageNote> {
    pod.annotations()
        .flatten()
        .and_then(|annotations| annotations.get(key))
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default()
}

/// Adds entries to the annotation; entries of earlier requests stay. The path of `add` is the deepest object that is
/// missing, so nothing else changes.
pub(super) fn annotate(pod: &PodView, key: &str, notes: BTreeMap<String, ImageNote>) -> PatchOperation {
    let mut merged = self::notes(pod, key);
    merged.extend(notes);
    let value = json!(merged).to_string();
    let (path, value) = match pod.annotations() {
        Some(Some(_)) => (format!("/metadata/annotations/{}", escape(key)), Value::from(value)),
        Some(None) => ("/metadata/annotations".to_owned(), json!({ key: value })),
        None => ("/metadata".to_owned(), json!({ "annotations": { key: value } })),
    };
    PatchOperation { op: "add", path, value }
}

/// Escapes a key for use in a JSON pointer (RFC 6901, section 3).
fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
