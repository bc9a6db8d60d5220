//! Decoding of input files: UTF-8 text of limited size [spec:profile.limits].

use std::borrow::Cow;

use crate::config::yaml::TEXT_BYTES_MAX;
use crate::failure::Hint;

/// The maximum size of an input file, in bytes. A reader needs one byte more to see that a file is larger.
pub const INPUT_BYTES_MAX: usize = TEXT_BYTES_MAX;

const UTF16_MARKS: [[u8; 2]; 2] = [[0xFF, 0xFE], [0xFE, 0xFF]];

/// The reason why the bytes of a file are no input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAnInput {
    #[error("it has more than {INPUT_BYTES_MAX} bytes")]
    TooLarge,
    #[error("it is UTF-16: it starts with the byte order mark of that encoding")]
    Utf16,
    #[error("it is no text: there is a zero byte in line {line}")]
    Binary {
        /// The line, from 1.
        line: usize,
    },
    #[error("it is not UTF-8: the byte 0x{byte:02X} in line {line}, column {column} starts no character")]
    NotUtf8 {
        byte: u8,
        /// The line, from 1.
        line: usize,
        /// The column in characters, from 1.
        column: usize,
    },
}

impl Hint for NotAnInput {
    fn hint(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(match self {
            NotAnInput::TooLarge => "name the right file, or remove what is generated",
            NotAnInput::Utf16 => "save the file as UTF-8; PowerShell does so with `Out-File -Encoding utf8`",
            NotAnInput::Binary { .. } => "name a YAML or JSON file, saved as UTF-8",
            NotAnInput::NotUtf8 { .. } => {
                "save the file as UTF-8; for a file in Latin-1: `iconv -f latin1 -t utf-8 FILE`"
            }
        }))
    }
}

/// Decodes the content of an input file.
///
/// # Errors
/// If it is larger than [`INPUT_BYTES_MAX`], or no text in UTF-8.
pub fn decode_input(bytes: Vec<u8>) -> Result<String, NotAnInput> {
    if UTF16_MARKS.iter().any(|mark| bytes.starts_with(mark)) {
        return Err(NotAnInput::Utf16);
    }
    let line = |end: usize| 1 + bytes[..end].iter().filter(|byte| **byte == b'\n').count();
    if let Some(at) = bytes.iter().position(|byte| *byte == 0) {
        // Also the end of a file that never ends, such as `/dev/zero`.
        return Err(match bytes.len() > INPUT_BYTES_MAX {
            true => NotAnInput::TooLarge,
            false => NotAnInput::Binary { line: line(at) },
        });
    }
    if bytes.len() > INPUT_BYTES_MAX {
        return Err(NotAnInput::TooLarge);
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let bytes = error.as_bytes();
        let start = bytes[..at]
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |newline| newline + 1);
        let before = String::from_utf8_lossy(&bytes[start..at]);
        NotAnInput::NotUtf8 {
            byte: bytes.get(at).copied().unwrap_or_default(),
            line: 1 + bytes[..at].iter().filter(|byte| **byte == b'\n').count(),
            column: before.chars().count() + 1,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(bytes: &[u8]) -> String {
        match decode_input(bytes.to_vec()) {
            Ok(text) => text,
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn only_text_in_utf_8_is_an_input() {
        for (bytes, expected) in [
            (&b"a: \xC3\xA4\n"[..], "a: \u{E4}\n"),
            (b"", ""),
            (b"\xEF\xBB\xBFa", "\u{FEFF}a"),
            (
                b"\xFF\xFEa\0:\0",
                "error: it is UTF-16: it starts with the byte order mark of that encoding",
            ),
            (
                b"\xFE\xFF\0a",
                "error: it is UTF-16: it starts with the byte order mark of that encoding",
            ),
            (b"a\n\0", "error: it is no text: there is a zero byte in line 2"),
            (
                b"a: b\nc\xC3\xA4: \xE4\n",
                "error: it is not UTF-8: the byte 0xE4 in line 2, column 5 starts no character",
            ),
        ] {
            assert_eq!(decoded(bytes), expected);
        }
        assert_eq!(
            decode_input(vec![b'a'; INPUT_BYTES_MAX]).map(|text| text.len()),
            Ok(INPUT_BYTES_MAX)
        );
        for byte in [0, b'a'] {
            assert_eq!(decode_input(vec![byte; INPUT_BYTES_MAX + 1]), Err(NotAnInput::TooLarge));
        }
    }
}
