//! The JSON patch of an answer (RFC 6902): `test` and `replace` for an image, `add` for the annotation.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::pod::PodView;

/// One operation of a patch.
#[derive(Serialize)]
pub(super) struct PatchOperation {
    op: &'static str,
    path: String,
    value: Value,
}

/// Goes on only if the pod still is this one, and not another of its name.
pub(super) fn test_uid(uid: &str) -> PatchOperation {
    PatchOperation {
        op: "test",
        path: "/metadata/uid".to_owned(),
        value: Value::from(uid),
    }
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

/// What the annotation says of one image.
#[derive(Serialize, Deserialize)]
pub(super) struct ImageNote {
    /// What the user wrote; in observe-only mode, what it would have become.
    pub(super) image: String,
    /// Why it was changed.
    pub(super) reason: String,
}

/// What an annotation of ours says of a pod's images; nothing where it is missing, or somebody spoilt it.
pub(super) fn notes(pod: &PodView, key: &str) -> BTreeMap<String, ImageNote> {
    (pod.annotations().flatten())
        .and_then(|annotations| annotations.get(key))
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default()
}

/// Adds to the annotation with the originals; what earlier requests put there stays. `add` makes the deepest object that
/// is missing and touches nothing else.
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

/// A key as a part of a JSON pointer (RFC 6901, section 3).
fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
