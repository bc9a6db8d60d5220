//! Names of hosts: the same text names a host of a site and its node in Kubernetes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest name in bytes (RFC 1123).
const LENGTH_MAX: usize = 253;
/// The longest label of a name in bytes (RFC 1035).
const LABEL_LENGTH_MAX: usize = 63;

/// A DNS name in lower case (RFC 1123), as Kubernetes wants the name of a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(String);

/// Reason to refuse a name of a host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not the name of a host: labels of a-z, 0-9 and `-`, with dots between them", crate::wording::excerpt(.0, LABEL_LENGTH_MAX))]
pub struct HostNameError(String);

impl HostName {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostName {
    type Err = HostNameError;

    fn from_str(text: &str) -> Result<HostName, HostNameError> {
        let is_label = |label: &str| {
            let is_allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
            (1..=LABEL_LENGTH_MAX).contains(&label.len())
                && label.bytes().all(is_allowed)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        match text.len() <= LENGTH_MAX && text.split('.').all(is_label) {
            true => Ok(HostName(text.to_owned())),
            false => Err(HostNameError(text.to_owned())),
        }
    }
}

impl TryFrom<String> for HostName {
    type Error = HostNameError;

    fn try_from(text: String) -> Result<HostName, HostNameError> {
        text.parse()
    }
}

impl From<HostName> for String {
    fn from(name: HostName) -> String {
        name.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_nodes() {
        let long = "a".repeat(64);
        for (text, is_name) in [
            ("edge-1", true),
            ("1", true),
            ("store-7.example.com", true),
            ("", false),
            ("Edge", false),
            ("-a", false),
            ("a-", false),
            ("a..b", false),
            ("a_b", false),
            ("a b", false),
            (&long, false),
        ] {
            assert_eq!(text.parse::<HostName>().is_ok(), is_name, "{text}");
        }
        assert!(vec!["a"; 127].join(".").parse::<HostName>().is_ok());
        assert!(vec!["a"; 128].join(".").parse::<HostName>().is_err());
    }
}
