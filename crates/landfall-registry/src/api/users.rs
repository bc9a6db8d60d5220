//! The users of a registry, from the settings or from an htpasswd file.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use secrecy::{ExposeSecret, SecretString};

/// The users of a registry.
#[derive(Debug, Clone)]
pub enum Users {
    /// One user.
    User {
        /// The name.
        name: String,
        /// The password.
        password: SecretString,
    },
    /// The lines of an `htpasswd -B` file.
    Htpasswd(Htpasswd),
}

/// Users with bcrypt hashes, as `htpasswd -B` writes them.
#[derive(Clone)]
pub struct Htpasswd {
    users: Arc<ArcSwap<HtpasswdLines>>,
}

/// The lines of an htpasswd file: names and hashes.
struct HtpasswdLines {
    /// Counts how often they were replaced.
    generation: u64,
    users: Vec<(String, String)>,
}

/// A line of an htpasswd file is not one that we can use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the htpasswd text is not `user:` and a bcrypt hash: write it by `htpasswd -B`")]
pub struct UsersError {
    /// Which line, from 1.
    pub line: usize,
}

impl Users {
    /// Reads the text of an htpasswd file. Only bcrypt is accepted: the other kinds are broken or plain text.
    ///
    /// # Errors
    /// Names the line that is not one; never what is in it.
    pub fn parse_htpasswd(text: &str) -> Result<Users, UsersError> {
        let users = Arc::new(ArcSwap::from_pointee(parse_lines(text, 0)?));
        Ok(Users::Htpasswd(Htpasswd { users }))
    }

    /// Takes other users from the text of an htpasswd file, for this value and its clones.
    ///
    /// # Errors
    /// Names the line that is not one; the users stay as they were.
    pub fn replace(&self, text: &str) -> Result<(), UsersError> {
        if let Users::Htpasswd(Htpasswd { users }) = self {
            let lines = parse_lines(text, self.generation() + 1)?;
            users.store(Arc::new(lines));
        }
        Ok(())
    }

    /// Tells apart what was in force when a login was found good from what is in force now.
    pub(crate) fn generation(&self) -> u64 {
        match self {
            Users::User { .. } => 0,
            Users::Htpasswd(Htpasswd { users }) => users.load().generation,
        }
    }

    /// Whether name and password are those of a user. Blocks for a bcrypt hash.
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
