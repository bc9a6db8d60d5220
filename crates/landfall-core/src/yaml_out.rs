//! Output of reports as YAML. Every YAML parser gets the same values back.

use serde::Serialize;
use serde_json::Value;

/// Error of a value that cannot be written as YAML.
#[derive(Debug, thiserror::Error)]
pub enum YamlWriteError {
    /// The value cannot be represented, e.g. because a map's keys are not strings.
    #[error("the report cannot be represented as JSON")]
    NotJson(#[source] serde_json::Error),
    /// The library refuses the value.
    #[error("the report cannot be written as YAML")]
    Writer(#[source] serde_saphyr::ser_error::Error),
}

/// Renders a value as YAML, in the same shape as its JSON.
///
/// # Errors
/// If the value has no JSON form, such as a map with keys that are not strings.
pub fn render_yaml(value: &impl Serialize) -> Result<String, YamlWriteError> {
    // By way of JSON, so that `-o yaml` and `-o json` cannot differ in shape.
    let value: Value = serde_json::to_value(value).map_err(YamlWriteError::NotJson)?;
    serde_saphyr::to_string(&value).map_err(YamlWriteError::Writer)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn strings_that_yaml_would_take_for_something_else_are_quoted() {
        let value = json!({
            "plain": "nginx:1.27",
            "number": "012",
            "bool": "y",
            "null": "null",
            "colon": "a: b",
            "template": "{{x}}",
            "lines": "a\nb\n",
            "list": [{"a": 1, "b": null}, []],
        });
        insta::assert_snapshot!(render_yaml(&value).unwrap(), @r#"
        plain: nginx:1.27
        number: "012"
        bool: "y"
        "null": "null"
        colon: "a: b"
        template: "{{x}}"
        lines: |
          a
          b
        list:
        - a: 1
          b: null
        - []
        "#);
    }
}
