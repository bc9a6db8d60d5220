//! Addresses to listen on, as people write them.

use std::borrow::Cow;

/// Completes an address: `5000` and `localhost:5000` are loopback, `:5000` is every address of the host. Any other text
/// is returned as it is.
#[must_use]
pub fn complete_listen_address(text: &str) -> Cow<'_, str> {
    let is_port = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.rsplit_once(':') {
        None if is_port(text) => Cow::Owned(format!("127.0.0.1:{text}")),
        Some(("localhost", port)) if is_port(port) => Cow::Owned(format!("127.0.0.1:{port}")),
        Some(("" | "*", port)) if is_port(port) => Cow::Owned(format!("0.0.0.0:{port}")),
        _ => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_forms_are_completed_and_others_stay() {
        for (text, complete) in [
            ("5000", "127.0.0.1:5000"),
            ("localhost:5000", "127.0.0.1:5000"),
            (":5000", "0.0.0.0:5000"),
            ("*:5000", "0.0.0.0:5000"),
            ("[::1]:5000", "[::1]:5000"),
            ("10.0.0.5:5000", "10.0.0.5:5000"),
            ("shop.example:5000", "shop.example:5000"),
            ("localhost", "localhost"),
            ("::", "::"),
            ("", ""),
        ] {
            assert_eq!(complete_listen_address(text), complete);
        }
    }
}
