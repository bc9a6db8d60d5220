//! Dates of HTTP headers.

use jiff::Timestamp;

/// Parses `Sun, 06 Nov 1994 08:49:37 GMT`, the form that RFC 9110 section 5.6.7 requires of senders. It is a case of
/// RFC 5322's form.
pub(crate) fn parse_http_date(text: &str) -> Option<Timestamp> {
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()
}
