//! The objects, and the log of their changes for watches.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// All objects by path.
#[derive(Debug, Default)]
pub(super) struct Objects {
    there: BTreeMap<String, Value>,
    log: Vec<Change>,
}

/// One change of one object.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) path: String,
    pub(super) before: Option<Value>,
    pub(super) after: Option<Value>,
}

impl Objects {
    /// Returns the resource version of the whole store: the number of changes.
    pub(super) fn version(&self) -> usize {
        self.log.len()
    }

    pub(super) fn get(&self, path: &str) -> Option<&Value> {
        self.there.get(path)
    }

    pub(super) fn put(&mut self, path: &str, mut object: Value) -> Value {
        let before = self.there.get(path).cloned();
        object["metadata"]["resourceVersion"] = json!((self.version() + 1).to_string());
        if let Some(name) = path.rsplit('/').next()
            && object["metadata"]["name"].is_null()
        {
            object["metadata"]["name"] = json!(name);
        }
        self.there.insert(path.to_owned(), object.clone());
        self.log.push(Change {
            path: path.to_owned(),
            before,
            after: Some(object.clone()),
        });
        object
    }

    pub(super) fn delete(&mut self, path: &str) {
        if let Some(before) = self.there.remove(path) {
            self.log.push(Change {
                path: path.to_owned(),
                before: Some(before),
                after: None,
            });
        }
    }

    /// Returns the objects of a collection, for example `/api/v1/pods` or `/api/v1/namespaces/web/pods`.
    pub(super) fn list<'a>(&'a self, collection: &'a str) -> impl Iterator<Item = &'a Value> {
        self.there
            .iter()
            .filter(move |(path, _)| is_in(collection, path))
            .map(|(_, object)| object)
    }

    pub(super) fn changes_since(&self, version: usize) -> impl Iterator<Item = &Change> {
        self.log.iter().skip(version)
    }
}

/// Returns true if an object belongs to a collection. A collection of the whole cluster has no namespace in its
/// path.
pub(super) fn is_in(collection: &str, path: &str) -> bool {
    let Some((parent, _name)) = path.rsplit_once('/') else {
        return false;
    };
    if parent == collection {
        return true;
    }
    let (Some((version, plural)), Some((place, same_plural))) = (collection.rsplit_once('/'), parent.rsplit_once('/'))
    else {
        return false;
    };
    let namespaced = place
        .strip_prefix(version)
        .and_then(|rest| rest.strip_prefix("/namespaces/"));
    plural == same_plural && namespaced.is_some_and(|namespace| !namespace.contains('/'))
}

/// The selectors of a list or watch.
#[derive(Debug, Default)]
pub(super) struct Selector {
    pub(super) fields: Option<String>,
    pub(super) labels: Option<String>,
}

impl Selector {
    /// Returns true if the selectors match. Supports `metadata.name=…` and `status.phase!=…` for fields, `=`
    /// and `in` for labels.
    pub(super) fn takes(&self, object: &Value) -> bool {
        let by_field = |term: &str| match (term.split_once("!="), term.split_once('=')) {
            (Some(("status.phase", phase)), _) => object["status"]["phase"] != phase,
            (None, Some(("metadata.name", name))) => object["metadata"]["name"] == name,
            _ => panic!("the fake API server does not know the field selector `{term}`"),
        };
        let label = |key: &str| object["metadata"]["labels"][key].as_str();
        let by_label = |selector: &str| match (selector.split_once(" in ("), selector.split_once('=')) {
            (Some((key, values)), _) => {
                label(key).is_some_and(|value| values.trim_end_matches(')').split(',').any(|one| one == value))
            }
            (None, Some((key, value))) => label(key) == Some(value),
            _ => panic!("the fake API server does not know the label selector `{selector}`"),
        };
        self.fields.iter().flat_map(|fields| fields.split(',')).all(by_field)
            && self.labels.iter().all(|labels| by_label(labels))
    }

    /// Returns the watch event of a change for this selector.
    pub(super) fn event_of(&self, change: &Change) -> Option<Value> {
        let taken = |object: &Option<Value>| object.as_ref().is_some_and(|object| self.takes(object));
        let (kind, object) = match (taken(&change.before), taken(&change.after)) {
            (false, true) => ("ADDED", change.after.as_ref()),
            (true, true) => ("MODIFIED", change.after.as_ref()),
            (true, false) => ("DELETED", change.after.as_ref().or(change.before.as_ref())),
            (false, false) => return None,
        };
        Some(json!({ "type": kind, "object": object? }))
    }
}

/// Applies a JSON patch (RFC 6902): `test`, `replace` and `add` of an object's member.
pub(super) fn apply_patch(document: &mut Value, patch: &Value) -> Result<(), String> {
    for operation in patch.as_array().into_iter().flatten() {
        let path = operation["path"].as_str().unwrap_or_default();
        let value = &operation["value"];
        let fits = match operation["op"].as_str() {
            Some("test") => document.pointer(path) == Some(value),
            Some("replace") => document.pointer_mut(path).map(|place| *place = value.clone()).is_some(),
            Some("add") => path.rsplit_once('/').is_some_and(|(parent, key)| {
                let key = key.replace("~1", "/").replace("~0", "~");
                let parent = document.pointer_mut(parent).and_then(Value::as_object_mut);
                parent.map(|parent| parent.insert(key, value.clone())).is_some()
            }),
            _ => false,
        };
        if !fits {
            return Err(operation.to_string());
        }
    }
    Ok(())
}
