//! `Authorization` headers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use landfall_core::credential_file::Credential;
use secrecy::ExposeSecret;

/// Renders the value of an `Authorization` header (RFC 7617); `None` for an identity token, which is no password.
pub(crate) fn basic(credential: &Credential) -> Option<HeaderValue> {
    sensitive("Basic", &encoded(credential)?)
}

pub(crate) fn encoded(credential: &Credential) -> Option<String> {
    match credential {
        Credential::Password { username, password } => {
            Some(STANDARD.encode(format!("{username}:{}", password.expose_secret())))
        }
        Credential::IdentityToken(_) => None,
    }
}

pub(crate) fn sensitive(scheme: &str, secret: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("{scheme} {secret}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}
