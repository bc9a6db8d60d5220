//! Messages of servers about failures, sanitised for display.

use std::fmt;

use landfall_core::{lenient, lenient_object};

/// Code of an upload whose bytes do not have the digest (distribution specification, "Error Codes").
pub(super) const DIGEST_INVALID: &str = "DIGEST_INVALID";

/// A server's message about a failure: codes and messages of the distribution's envelope, or the first line of the
/// body. Bounded, and free of control characters. Displays with a leading `: ` unless it is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerMessage(String);

const SERVER_MESSAGE_LENGTH_MAX: usize = 300;

impl ServerMessage {
    /// Extracts the message from the body of an error. HTML, which proxies send, is left out.
    #[must_use]
    pub fn from_body(body: &[u8]) -> ServerMessage {
        let text = match lenient::from_slice::<ErrorBody>(body) {
            Ok(body) => body.to_text(),
            Err(_) => {
                let text = String::from_utf8_lossy(body);
                let line = text.lines().map(str::trim).find(|line| !line.is_empty());
                line.filter(|line| !line.starts_with('<')).unwrap_or("").to_owned()
            }
        };
        let clean = text
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(SERVER_MESSAGE_LENGTH_MAX);
        ServerMessage(clean.collect::<String>().trim().to_owned())
    }

    /// Returns true if the message has this error code of the distribution specification.
    pub(super) fn has_code(&self, code: &str) -> bool {
        self.0
            .split("; ")
            .any(|error| error == code || error.starts_with(&format!("{code}:")))
    }

    /// Returns the message without a secret that the server echoes.
    #[must_use]
    pub fn without(&self, secret: &str) -> ServerMessage {
        if secret.is_empty() {
            return self.clone();
        }
        ServerMessage(self.0.replace(secret, "[redacted]"))
    }
}

impl fmt::Display for ServerMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        write!(f, ": {}", self.0)
    }
}

#[derive(Default)]
struct ErrorBody {
    errors: Vec<ErrorEntry>,
    // Form of the token specification, and of OAuth.
    details: String,
    error_description: String,
}

lenient_object!(ErrorBody {
    "errors" => errors,
    "details" => details,
    "error_description" => error_description,
});

#[derive(Default)]
struct ErrorEntry {
    code: String,
    message: String,
}

lenient_object!(ErrorEntry { "code" => code, "message" => message });

impl ErrorBody {
    fn to_text(&self) -> String {
        let entries = self.errors.iter().map(|entry| match entry.message.as_str() {
            "" => entry.code.clone(),
            message => format!("{}: {message}", entry.code),
        });
        let text = entries.collect::<Vec<_>>().join("; ");
        [text, self.details.clone(), self.error_description.clone()]
            .into_iter()
            .find(|text| !text.is_empty())
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_short_and_plain_whoever_wrote_it() {
        let long = "x".repeat(1000);
        let cases = [
            (
                r#"{"errors":[{"code":"DENIED","message":"no"},{"code":"UNKNOWN"}]}"#,
                ": DENIED: no; UNKNOWN",
            ),
            (
                r#"{"details":"incorrect username or password"}"#,
                ": incorrect username or password",
            ),
            (
                r#"{"error":"invalid_grant","error_description":"expired"}"#,
                ": expired",
            ),
            ("\n  404 page not found\nsecond line", ": 404 page not found"),
            ("<html><body>502</body></html>", ""),
            ("a\u{7}b", ": a b"),
            ("", ""),
            (r#"{"errors":"not a list"}"#, r#": {"errors":"not a list"}"#),
            (&long, &format!(": {}", "x".repeat(SERVER_MESSAGE_LENGTH_MAX))),
        ];
        for (body, expected) in cases {
            assert_eq!(
                ServerMessage::from_body(body.as_bytes()).to_string(),
                expected,
                "{body}"
            );
        }
    }
}
