//! A login in the configuration.

use std::fmt;

use secrecy::SecretString;

/// User name and password; an access token may take the password's place.
#[derive(Clone)]
pub struct Login {
    pub username: String,
    pub password: SecretString,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}
