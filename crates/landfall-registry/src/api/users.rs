//! Users of a registry, from the settings or from an htpasswd file.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use secrecy::{ExposeSecret, SecretString};

/// Users of a registry.
#[derive(Debug, Clone)]
pub enum Users {
    User { name: String, password: SecretString },
    Htpasswd(Htpasswd),
}

/// Users with bcrypt hashes, as `htpasswd -B` writes them.
#[derive(Clone)]
pub struct Htpasswd {
    users: Arc<ArcSwap<HtpasswdLines>>,
}

/// Names and hashes of an htpasswd file.
struct HtpasswdLines {
    /// Number of replacements so far.
    generation: u64,
    users: Vec<(String, String)>,
}

/// A line of an htpasswd file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the htpasswd text is not `user:` and a bcrypt hash: write it by `htpasswd -B`")]
pub struct UsersError {
    /// Line number, counted from 1.
    pub line: usize,
}

impl Users {
    /// Parses the text of an htpasswd file. Only bcrypt is accepted, because the other kinds are broken or plain text.
    ///
    /// # Errors
    /// Names the line that cannot be used, never its content.
    pub fn parse_htpasswd(text: &str) -> Result<Users, UsersError> {
        let users = Arc::new(ArcSwap::from_pointee(parse_lines(text, 0)?));
        Ok(Users::Htpasswd(Htpasswd { users }))
    }

    /// Replaces the users by those of the text of an htpasswd file, for this value and its clones.
    ///
    /// # Errors
    /// Names the line that cannot be used. The old users stay.
    pub fn replace(&self, text: &str) -> Result<(), UsersError> {
        if let Users::Htpasswd(Htpasswd { users }) = self {
            let lines = parse_lines(text, self.generation() + 1)?;
            users.store(Arc::new(lines));
        }
        Ok(())
    }

    /// Returns a number that changes when the users are replaced, so that cached logins of earlier users do not count.
    pub(crate) fn generation(&self) -> u64 {
        match self {
            Users::User { .. } => 0,
            Users::Htpasswd(Htpasswd { users }) => users.load().generation,
        }
    }

    /// Returns true if name and password belong to a user. Blocks for a bcrypt hash.
    pub(crate) fn admits(&self, name: &str, password: &str) -> bool {
        match self {
            Users::User {
                name: expected,
                password: secret,
            } => {
                let same_name = verify_slices_are_equal(expected.as_bytes(), name.as_bytes()).is_ok();
                let same_password =
                    verify_slices_are_equal(secret.expose_secret().as_bytes(), password.as_bytes()).is_ok();
                same_name & same_password
            }
            Users::Htpasswd(Htpasswd { users }) => users
                .load()
                .users
                .iter()
                .filter(|(user, _)| user == name)
                .any(|(_, hash)| bcrypt::verify(password, hash).unwrap_or(false)),
        }
    }
}

fn parse_lines(text: &str, generation: u64) -> Result<HtpasswdLines, UsersError> {
    let mut users = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match line.split_once(':') {
            Some((name, hash)) if !name.is_empty() && hash.starts_with("$2") => {
                users.push((name.to_owned(), hash.to_owned()));
            }
            _ => return Err(UsersError { line: index + 1 }),
        }
    }
    Ok(HtpasswdLines { generation, users })
}

impl fmt::Debug for Htpasswd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Htpasswd")
            .field("users", &self.users.load().users.len())
            .finish_non_exhaustive()
    }
}
