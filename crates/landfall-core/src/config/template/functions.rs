//! Functions of templates, with the semantics of sprig, Helm's library: published packs use no others
//! [spec:profile.template-functions].
//!
//! Positions count bytes, as in Go. A result that would not be UTF-8 is an error.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The names of all functions.
pub(super) const FUNCTIONS: [&str; 17] = [
    "b64dec",
    "b64enc",
    "default",
    "indent",
    "lower",
    "nindent",
    "quote",
    "replace",
    "squote",
    "substr",
    "toString",
    "trim",
    "trimAll",
    "trimPrefix",
    "trimSuffix",
    "trunc",
    "upper",
];

/// A value of a pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Number(i64),
    Boolean(bool),
}

impl Value {
    /// Returns the text that Go prints.
    pub(super) fn into_text(self) -> String {
        match self {
            Value::Text(text) => text,
            Value::Number(number) => number.to_string(),
            Value::Boolean(value) => value.to_string(),
        }
    }

    /// Returns true for the values that `default` replaces.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Value::Text(text) => text.is_empty(),
            Value::Number(number) => *number == 0,
            Value::Boolean(value) => !value,
        }
    }
}

/// The reason why a function has no value, in a clause. It never holds an operand, which may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum FunctionError {
    #[error("there is no function `{name}`")]
    Unknown { name: String },
    #[error("`{name}` takes {takes}")]
    Operands { name: String, takes: &'static str },
    #[error("`{name}` goes beyond the end of the text")]
    Range { name: String },
    #[error("`{name}` gets a text that is not base64 of a text")]
    Base64 { name: String },
    #[error("`{name}` would make a text of more than {limit} bytes")]
    TooLarge { name: String, limit: usize },
}

/// Applies a function to its operands; the piped value is the last one. A result has at most `limit` bytes.
///
/// # Errors
/// If the function is not known, or does not take these operands.
pub(super) fn apply_function(name: &str, operands: Vec<Value>, limit: usize) -> Result<Value, FunctionError> {
    let wrong = |takes| FunctionError::Operands {
        name: name.to_owned(),
        takes,
    };
    let range = || FunctionError::Range { name: name.to_owned() };
    let texts = || operands.iter().cloned().map(Value::into_text).collect::<Vec<_>>();
    let one = || match texts().as_slice() {
        [text] => Ok(text.clone()),
        _ => Err(wrong("one text")),
    };
    let two = || match texts().as_slice() {
        [first, text] => Ok((first.clone(), text.clone())),
        _ => Err(wrong("two texts")),
    };
    let text = match name {
        "default" => {
            return match operands.as_slice() {
                [default] => Ok(default.clone()),
                [default, given] => Ok(if given.is_empty() {
                    default.clone()
                } else {
                    given.clone()
                }),
                _ => Err(wrong("a default and a value")),
            };
        }
        "substr" => match operands.as_slice() {
            [Value::Number(start), Value::Number(end), text] => {
                substring(*start, *end, &text.clone().into_text()).ok_or_else(range)?
            }
            _ => return Err(wrong("two numbers and a text")),
        },
        "trunc" => match operands.as_slice() {
            [Value::Number(length), text] => truncated(*length, &text.clone().into_text()).ok_or_else(range)?,
            _ => return Err(wrong("a number and a text")),
        },
        "indent" | "nindent" => match operands.as_slice() {
            [Value::Number(spaces), text] => {
                let text = indented(*spaces, &text.clone().into_text(), limit).ok_or(FunctionError::TooLarge {
                    name: name.to_owned(),
                    limit,
                })?;
                if name == "nindent" { format!("\n{text}") } else { text }
            }
            _ => return Err(wrong("a number and a text")),
        },
        "quote" => texts().iter().map(|text| go_quoted(text)).collect::<Vec<_>>().join(" "),
        "squote" => texts()
            .iter()
            .map(|text| format!("'{text}'"))
            .collect::<Vec<_>>()
            .join(" "),
        "toString" => one()?,
        "lower" => one()?.to_lowercase(),
        "upper" => one()?.to_uppercase(),
        "trim" => one()?.trim().to_owned(),
        "trimAll" => {
            let (cut, text) = two()?;
            text.trim_matches(|character| cut.contains(character)).to_owned()
        }
        "trimPrefix" => {
            let (cut, text) = two()?;
            text.strip_prefix(&cut).unwrap_or(&text).to_owned()
        }
        "trimSuffix" => {
            let (cut, text) = two()?;
            text.strip_suffix(&cut).unwrap_or(&text).to_owned()
        }
        "replace" => match texts().as_slice() {
            [old, new, text] => {
                let added = text.matches(old.as_str()).count().saturating_mul(new.len());
                if added > limit {
                    return Err(FunctionError::TooLarge {
                        name: name.to_owned(),
                        limit,
                    });
                }
                text.replace(old.as_str(), new)
            }
            _ => return Err(wrong("three texts")),
        },
        "b64enc" => STANDARD.encode(one()?),
        "b64dec" => {
            let decoded = STANDARD.decode(one()?).ok();
            let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
            text.ok_or_else(|| FunctionError::Base64 { name: name.to_owned() })?
        }
        _ => return Err(FunctionError::Unknown { name: name.to_owned() }),
    };
    if text.len() > limit {
        return Err(FunctionError::TooLarge {
            name: name.to_owned(),
            limit,
        });
    }
    Ok(Value::Text(text))
}

/// Returns the bytes from `start` to `end`. A negative start is 0, and an end beyond the text is its end.
fn substring(start: i64, end: i64, text: &str) -> Option<String> {
    let at = |position: i64| usize::try_from(position).ok();
    if start < 0 {
        return text.get(..at(end)?).map(str::to_owned);
    }
    match at(end).filter(|end| *end <= text.len()) {
        Some(end) => text.get(at(start)?..end),
        None => text.get(at(start)?..),
    }
    .map(str::to_owned)
}

/// Returns the first `length` bytes; with a negative length the last ones.
fn truncated(length: i64, text: &str) -> Option<String> {
    let count = usize::try_from(length.unsigned_abs()).unwrap_or(usize::MAX);
    if count >= text.len() {
        return Some(text.to_owned());
    }
    let kept = match length {
        ..0 => text.get(text.len() - count..),
        _ => text.get(..count),
    };
    kept.map(str::to_owned)
}

/// Returns the text with blanks in front of each line; `None` if the result has more than `limit` bytes.
fn indented(spaces: i64, text: &str, limit: usize) -> Option<String> {
    let spaces = usize::try_from(spaces).unwrap_or(0);
    let lines = text.matches('\n').count() + 1;
    if spaces.checked_mul(lines)?.checked_add(text.len())? > limit {
        return None;
    }
    let pad = " ".repeat(spaces);
    Some(format!("{pad}{}", text.replace('\n', &format!("\n{pad}"))))
}

/// Returns the text in double quotes, as Go's `%q` prints it.
fn go_quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{B}' => quoted.push_str("\\v"),
            '\u{C}' => quoted.push_str("\\f"),
            control if u32::from(control) < 0x80 && control.is_control() => {
                quoted.push_str(&format!("\\x{:02x}", u32::from(control)));
            }
            control if control.is_control() || control == '\u{FEFF}' => {
                quoted.push_str(&format!("\\u{:04x}", u32::from(control)));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    fn applied(name: &str, operands: &[Value]) -> String {
        match apply_function(name, operands.to_vec(), 100) {
            Ok(value) => value.into_text(),
            Err(error) => format!("error: {error}"),
        }
    }

    // The expected values are those of sprig 3.
    #[test]
    fn functions_give_the_values_of_sprig() {
        use Value::{Boolean, Number};
        for (name, operands, expected) in [
            ("substr", vec![Number(0), Number(4), text("1.33.6")], "1.33"),
            ("substr", vec![Number(2), Number(-1), text("1.33.6")], "33.6"),
            ("substr", vec![Number(0), Number(99), text("1.33")], "1.33"),
            ("substr", vec![Number(-1), Number(2), text("1.33")], "1."),
            (
                "substr",
                vec![Number(9), Number(12), text("1.33")],
                "error: `substr` goes beyond the end of the text",
            ),
            (
                "substr",
                vec![Number(0), Number(1), text("é")],
                "error: `substr` goes beyond the end of the text",
            ),
            ("trunc", vec![Number(3), text("hello")], "hel"),
            ("trunc", vec![Number(-3), text("hello")], "llo"),
            ("trunc", vec![Number(-9), text("hello")], "hello"),
            ("trunc", vec![Number(9), text("hello")], "hello"),
            ("default", vec![text("d"), text("")], "d"),
            ("default", vec![text("d"), text("v")], "v"),
            ("default", vec![Boolean(true), Boolean(false)], "true"),
            ("default", vec![text("d")], "d"),
            ("quote", vec![text("a \"b\"\n\u{1}")], "\"a \\\"b\\\"\\n\\x01\""),
            ("quote", vec![Number(5)], "\"5\""),
            ("squote", vec![text("a")], "'a'"),
            ("lower", vec![text("AbC")], "abc"),
            ("upper", vec![text("AbC")], "ABC"),
            ("trim", vec![text("  a ")], "a"),
            ("trimAll", vec![text("$"), text("$5.00$")], "5.00"),
            ("trimPrefix", vec![text("v"), text("v1")], "1"),
            ("trimSuffix", vec![text("-x"), text("a-x")], "a"),
            ("replace", vec![text("."), text("-"), text("1.2.3")], "1-2-3"),
            ("b64enc", vec![text("hello")], "aGVsbG8="),
            ("b64dec", vec![text("aGVsbG8=")], "hello"),
            ("indent", vec![Number(2), text("a\nb")], "  a\n  b"),
            ("nindent", vec![Number(2), text("a\nb")], "\n  a\n  b"),
            ("toString", vec![Number(7)], "7"),
        ] {
            assert_eq!(applied(name, &operands), expected, "{name} {operands:?}");
        }
    }

    #[test]
    fn each_name_is_a_function_and_no_other_is() {
        for name in FUNCTIONS {
            let error = apply_function(name, Vec::new(), 100).err();
            assert!(!matches!(error, Some(FunctionError::Unknown { .. })), "{name}");
        }
        assert_eq!(
            applied("genPrivateKey", &[text("rsa")]),
            "error: there is no function `genPrivateKey`"
        );
    }

    #[test]
    fn no_function_exceeds_the_limit() {
        for (name, operands) in [
            ("indent", vec![Value::Number(i64::MAX), text("a\nb")]),
            ("indent", vec![Value::Number(10), text(&"\n".repeat(20))]),
            ("replace", vec![text("a"), text("bbbbbbbbbbb"), text(&"a".repeat(20))]),
        ] {
            assert!(applied(name, &operands).ends_with("of more than 100 bytes"), "{name}");
        }
    }
}
