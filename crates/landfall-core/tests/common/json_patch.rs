//! A simple implementation of the RFC 6902 operations that an admission answer uses.
#![expect(clippy::unwrap_used, reason = "test set-up")]

use serde_json::Value;

/// Applies a patch, or returns the operation that failed.
pub(crate) fn apply_patch(document: &mut Value, patch: &Value) -> Result<(), String> {
    for operation in patch.as_array().unwrap() {
        let path = operation["path"].as_str().unwrap();
        let value = &operation["value"];
        let fits = match operation["op"].as_str().unwrap() {
            "test" => document.pointer(path) == Some(value),
            "replace" => document.pointer_mut(path).map(|place| *place = value.clone()).is_some(),
            "add" => {
                let (parent, key) = path.rsplit_once('/').unwrap();
                let key = key.replace("~1", "/").replace("~0", "~");
                let parent = document.pointer_mut(parent).and_then(Value::as_object_mut);
                parent.map(|parent| parent.insert(key, value.clone())).is_some()
            }
            op => panic!("unknown operation `{op}`"),
        };
        if !fits {
            return Err(operation.to_string());
        }
    }
    Ok(())
}
