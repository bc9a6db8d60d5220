//! JSON Schemas of user-data and profiles, generated from the table of keys, for completion in editors.

use serde_json::{Map, Value, json};

use crate::config::keys;
use crate::config::known_key::{Key, Shape, Unknown};

/// Returns the JSON Schema of a user-data file. It allows unknown keys under `stylus`, because Palette has many, and
/// none under `landfall`.
#[must_use]
pub fn user_data_schema() -> Value {
    document("Landfall user-data", &keys::USER_DATA)
}

/// Returns the JSON Schema of a cluster profile, as far as Landfall reads it.
#[must_use]
pub fn profile_schema() -> Value {
    document("Cluster profile", &keys::PROFILE)
}

fn document(title: &str, shape: &Shape) -> Value {
    let mut schema = schema_of(shape);
    if let Value::Object(fields) = &mut schema {
        fields.insert(
            "$schema".to_owned(),
            json!("https://json-schema.org/draft/2020-12/schema"),
        );
        fields.insert("title".to_owned(), json!(title));
    }
    schema
}

/// Sizes that [`ByteSize`] reads.
///
/// [`ByteSize`]: crate::quantity::ByteSize
const SIZE_PATTERN: &str = "^[0-9]+([.][0-9]+)? ?([kKmMgGtT][iI]?)?[bB]?$";
/// Durations that [`Seconds`] reads.
///
/// [`Seconds`]: crate::quantity::Seconds
const TIME_PATTERN: &str = "^[0-9].*$";

fn schema_of(shape: &Shape) -> Value {
    match shape {
        Shape::Any => json!({}),
        Shape::Foreign(inner) => foreign_schema(inner),
        Shape::Owner(_) => json!({"type": "integer", "minimum": 0, "maximum": u32::MAX}),
        Shape::MapOrValue(keys, unknown) => map_schema(keys, *unknown),
        Shape::Text => json!({"type": "string"}),
        Shape::Label => json!({"type": ["string", "number", "boolean", "null"]}),
        Shape::Bool => json!({"type": "boolean"}),
        Shape::Number(min, max) => json!({"type": "integer", "minimum": min, "maximum": max}),
        Shape::Size(min, _) => json!({"type": ["integer", "string"], "minimum": min, "pattern": SIZE_PATTERN}),
        Shape::Time(min, max) => {
            json!({"type": ["integer", "string"], "minimum": min, "maximum": max, "pattern": TIME_PATTERN})
        }
        Shape::Mode => json!({"type": ["integer", "string"], "pattern": "^(0o)?[0-7]{1,5}$"}),
        Shape::Word(words) => json!({"enum": words}),
        Shape::Map(keys, unknown) => map_schema(keys, *unknown),
        Shape::MapOf(inner) => json!({"type": ["object", "null"], "additionalProperties": schema_of(inner)}),
        Shape::List(inner) => json!({"type": ["array", "null"], "items": schema_of(inner)}),
        Shape::OneOrMany(inner) => {
            json!({"anyOf": [schema_of(inner), {"type": "array", "items": schema_of(inner)}]})
        }
        Shape::Steps(inner) => {
            json!({"anyOf": [{"type": ["array", "null"], "items": schema_of(inner)}, schema_of(inner)]})
        }
        Shape::Yaml => json!({"type": ["string", "object", "null"]}),
    }
}

/// Returns the schema of a value for another program. It names keys for completion, and has no type: the other program
/// checks that.
fn foreign_schema(inner: &Shape) -> Value {
    match inner {
        Shape::Map(keys, _) => {
            let properties = properties_of(keys);
            json!({"properties": properties, "items": {"properties": properties}})
        }
        Shape::MapOf(inner) => json!({"additionalProperties": schema_of(inner)}),
        _ => json!({}),
    }
}

fn map_schema(keys: &[Key], unknown: Unknown) -> Value {
    let mut schema = json!({"type": ["object", "null"], "properties": properties_of(keys)});
    if let (Value::Object(fields), Unknown::Error) = (&mut schema, unknown) {
        fields.insert("additionalProperties".to_owned(), json!(false));
    }
    schema
}

fn properties_of(keys: &[Key]) -> Map<String, Value> {
    let mut properties = Map::new();
    for key in keys {
        let mut schema = schema_of(&key.shape);
        if let Value::Object(fields) = &mut schema {
            fields.insert("description".to_owned(), json!(key.about));
            if key.replaced_by.is_some() {
                fields.insert("deprecated".to_owned(), json!(true));
            }
        }
        properties.insert(key.name.to_owned(), schema);
    }
    properties
}
