//! Names of uploaded files.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::failure::Hint;
use crate::wording::excerpt;

/// Bytes of the longest name: a receipt's name is longer, and a file system takes 255.
const LENGTH_MAX: usize = 200;
/// Endings of files that the host itself writes beside bundles.
const OWN_ENDINGS: [&str; 6] = [".json", ".sig", ".partial", ".copying", ".new", ".landfall"];
/// Characters of a name that a message shows.
const SHOWN_MAX: usize = 60;

/// The name of an uploaded file: a bundle, a piece of one, or a detached signature. It has no directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UploadName(String);

/// A name that a file in the directory of bundles cannot have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{shown}` is no name for an upload: {reason}")]
pub struct UploadNameError {
    shown: String,
    reason: &'static str,
}

impl Hint for UploadNameError {
    fn hint(&self) -> Option<Cow<'_, str>> {
        Some("name the file without its directory, for example `site.tar.zst` or `site.tar.zst_part00`".into())
    }
}

impl UploadName {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UploadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for UploadName {
    type Err = UploadNameError;

    fn from_str(text: &str) -> Result<UploadName, UploadNameError> {
        let reason = match text {
            "" => "it is empty",
            _ if text.len() > LENGTH_MAX => "it has more than 200 bytes",
            _ if text.starts_with('.') => "it begins with a dot",
            _ if text.contains(['/', '\\']) => "it has a directory",
            _ if text.chars().any(|letter| letter.is_control()) => "it has a control character",
            _ if text.trim() != text => "it begins or ends with a space",
            _ if OWN_ENDINGS.iter().any(|ending| text.ends_with(ending)) => {
                "the host itself writes files with this ending"
            }
            _ => return Ok(UploadName(text.to_owned())),
        };
        Err(UploadNameError {
            shown: excerpt(text, SHOWN_MAX),
            reason,
        })
    }
}

impl TryFrom<String> for UploadName {
    type Error = UploadNameError;

    fn try_from(text: String) -> Result<UploadName, UploadNameError> {
        text.parse()
    }
}

impl From<UploadName> for String {
    fn from(name: UploadName) -> String {
        name.0
    }
}
