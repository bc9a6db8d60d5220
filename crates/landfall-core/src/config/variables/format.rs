//! Formats of the values of variables.

use std::net::{Ipv4Addr, Ipv6Addr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::config::version::is_semantic_version;

/// The words for the formats, as `spec.variables[].format` has them.
pub(super) const FORMATS: [&str; 8] = [
    "string", "number", "boolean", "ipv4", "ipv4cidr", "ipv6", "version", "base64",
];

/// The format of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    String,
    Number,
    Boolean,
    Ipv4,
    Ipv4Cidr,
    Ipv6,
    Version,
    Base64,
}

impl Format {
    pub(super) fn of_word(word: &str) -> Option<Format> {
        Some(match word {
            "string" => Format::String,
            "number" => Format::Number,
            "boolean" => Format::Boolean,
            "ipv4" => Format::Ipv4,
            "ipv4cidr" => Format::Ipv4Cidr,
            "ipv6" => Format::Ipv6,
            "version" => Format::Version,
            "base64" => Format::Base64,
            _ => return None,
        })
    }

    pub(super) fn accepts(self, value: &str) -> bool {
        match self {
            Format::String => true,
            Format::Number => is_number(value),
            Format::Boolean => matches!(value, "true" | "false"),
            Format::Ipv4 => value.parse::<Ipv4Addr>().is_ok(),
            Format::Ipv4Cidr => is_ipv4_cidr(value),
            Format::Ipv6 => value.parse::<Ipv6Addr>().is_ok(),
            Format::Version => is_semantic_version(value.strip_prefix('v').unwrap_or(value)),
            Format::Base64 => STANDARD.decode(value).is_ok(),
        }
    }

    /// Describes a value of this format, with an article.
    pub(super) fn describe(self) -> &'static str {
        match self {
            Format::String => "a string",
            Format::Number => "a number",
            Format::Boolean => "`true` or `false`",
            Format::Ipv4 => "an IPv4 address",
            Format::Ipv4Cidr => "an IPv4 network such as `10.0.0.0/24`",
            Format::Ipv6 => "an IPv6 address",
            Format::Version => "a version such as `1.2.3`",
            Format::Base64 => "base64",
        }
    }
}

/// Returns true for a decimal number: a sign, digits, and digits behind a point.
fn is_number(value: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let bare = value.strip_prefix(['-', '+']).unwrap_or(value);
    match bare.split_once('.') {
        Some((whole, fraction)) => digits(whole) && digits(fraction),
        None => digits(bare),
    }
}

fn is_ipv4_cidr(value: &str) -> bool {
    value.split_once('/').is_some_and(|(address, length)| {
        let is_plain = length.bytes().all(|byte| byte.is_ascii_digit()) && length.len() <= 2;
        address.parse::<Ipv4Addr>().is_ok() && is_plain && length.parse::<u8>().is_ok_and(|length| length <= 32)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_format_takes_its_values_and_no_others() {
        for (word, good, bad) in [
            ("string", vec!["", "a b", "é"], vec![]),
            (
                "number",
                vec!["0", "-12", "+3", "1.5"],
                vec!["1.", ".5", "1e3", "0x1", "a", "--1"],
            ),
            ("boolean", vec!["true", "false"], vec!["True", "yes", "1", "on"]),
            (
                "ipv4",
                vec!["10.0.0.1"],
                vec!["10.0.0", "10.0.0.256", "::1", "10.0.0.1/8"],
            ),
            (
                "ipv4cidr",
                vec!["10.0.0.0/8", "10.0.0.1/32", "0.0.0.0/0"],
                vec!["10.0.0.0", "10.0.0.0/33", "10.0.0.0/+8", "::/0"],
            ),
            ("ipv6", vec!["::1", "fd00::1"], vec!["10.0.0.1", "fd00::/8", "[::1]"]),
            (
                "version",
                vec!["1.2.3", "v1.2.3", "1.2.3-rc.1+b"],
                vec!["1.2", "v1", "1.02.3", "x"],
            ),
            ("base64", vec!["YQ==", "aGVsbG8="], vec!["YQ", "a b", "%"]),
        ] {
            let format = Format::of_word(word).unwrap();
            for value in good {
                assert!(format.accepts(value), "{word} {value}");
            }
            for value in bad {
                assert!(!format.accepts(value), "{word} {value}");
            }
        }
        assert!(FORMATS.iter().all(|word| Format::of_word(word).is_some()));
        assert_eq!(Format::of_word("ipv4Cidr"), None);
    }
}
