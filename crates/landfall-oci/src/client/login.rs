//! A login, as the configuration holds it.

use std::fmt;

use secrecy::SecretString;

/// A user name and a password (or an access token in its place).
#[derive(Clone)]
pub struct Login {
    /// Who.
    pub username: String,
    /// The secret.
    pub password: SecretString,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}
