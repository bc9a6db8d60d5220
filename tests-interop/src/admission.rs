//! Builds the AdmissionReview requests of an API server and reads the responses.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// Returns the review of a pod that is created, in its own namespace or in `default`.
#[must_use]
pub fn review_of(pod: &Value) -> Value {
    let namespace = pod["metadata"]["namespace"].as_str().unwrap_or("default");
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "1",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "operation": "CREATE",
            "namespace": namespace,
            "object": pod,
        },
    })
}

/// Returns the steps of the patch in a response.
///
/// # Panics
/// Panics if there is no patch.
#[must_use]
pub fn patch_of(response: &Value) -> Vec<Value> {
    serde_json::from_str(&decode(&response["patch"])).expect("a patch is a list of steps")
}

/// Decodes text that the Kubernetes API holds in base64.
///
/// # Panics
/// Panics if it is not base64 of UTF-8 text.
#[must_use]
pub fn decode(base64: &Value) -> String {
    let bytes = base64.as_str().and_then(|text| STANDARD.decode(text).ok());
    bytes
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .expect("it is text in base64")
}
