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
    /// Highest bcrypt cost of the hashes. Each wrong login takes as long as this one, so that its time does not show
    /// which users exist.
    cost_max: u32,
}

/// Longest password, in bytes. bcrypt ignores the bytes after it, so a longer password is wrong: else its end would
/// protect nothing.
const PASSWORD_LENGTH_MAX: usize = 72;
/// Cost of a wrong login where no hash can be read.
const COST_DEFAULT: u32 = 10;
/// Lowest cost of bcrypt.
const COST_MIN: u32 = 4;

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
            Users::Htpasswd(Htpasswd { users }) => users.load().admit(name, password),
        }
    }
}

impl HtpasswdLines {
    /// Checks a login. A wrong one takes the same time whether the user exists or not.
    fn admit(&self, name: &str, password: &str) -> bool {
        let mut rounds_left = 1_u64 << self.cost_max;
        // bcrypt repeats the password and a zero byte, so one that contains a zero byte could equal its beginning.
        if password.len() <= PASSWORD_LENGTH_MAX && !password.contains('\0') {
            for (_, hash) in self.users.iter().filter(|(user, _)| user == name) {
                if bcrypt::verify(password, hash).unwrap_or(false) {
                    return true;
                }
                if let Some(cost) = cost_of(hash) {
                    rounds_left = rounds_left.saturating_sub(1 << cost);
                }
            }
        }
        while let Some(cost) = rounds_left.checked_ilog2().filter(|cost| *cost >= COST_MIN) {
            // The result is of no use.
            drop(bcrypt::hash_with_salt("x", cost, [0; 16]));
            rounds_left -= 1 << cost;
        }
        false
    }
}

/// Returns the cost of a bcrypt hash, if bcrypt can read it.
fn cost_of(hash: &str) -> Option<u32> {
    let parts: bcrypt::HashParts = hash.parse().ok()?;
    Some(parts.get_cost()).filter(|cost| (COST_MIN..=31).contains(cost))
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
    let cost_max = users.iter().filter_map(|(_, hash)| cost_of(hash)).max();
    Ok(HtpasswdLines {
        generation,
        users,
        cost_max: cost_max.unwrap_or(COST_DEFAULT),
    })
}

impl fmt::Debug for Htpasswd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Htpasswd")
            .field("users", &self.users.load().users.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;

    fn users(lines: &[(&str, &str, u32)]) -> Users {
        let line =
            |(name, password, cost): &(&str, &str, u32)| format!("{name}:{}\n", bcrypt::hash(password, *cost).unwrap());
        Users::parse_htpasswd(&lines.iter().map(line).collect::<String>()).unwrap()
    }

    #[test]
    fn a_password_is_compared_whole() {
        let long = "p".repeat(72);
        let users = users(&[("ann", "canary", 4), ("bob", &long, 4)]);
        for (name, password, admitted) in [
            ("ann", "canary", true),
            ("ann", "canary\0", false),
            ("ann", "canary\0canary", false),
            ("ann", "canary ", false),
            ("ann", "", false),
            ("bob", &long, true),
            ("bob", &format!("{long}x"), false),
            ("bob", &long[1..], false),
            ("eve", "canary", false),
        ] {
            assert_eq!(users.admits(name, password), admitted, "{name} {password:?}");
        }
    }

    #[test]
    fn the_time_of_a_wrong_login_does_not_show_which_users_exist() {
        let users = users(&[("ann", "canary", 4), ("bob", "canary", 8)]);
        let time = |name: &str, password: &str| {
            let run = || {
                let begun = Instant::now();
                assert!(!users.admits(name, password));
                begun.elapsed()
            };
            (0..5).map(|_| run()).min().unwrap_or(Duration::ZERO)
        };
        let (low, high) = (time("ann", "wrong"), time("bob", "wrong"));
        let (unknown, long) = (time("nobody", "wrong"), time("bob", &"x".repeat(100)));
        for (what, time) in [
            ("a low cost", low),
            ("an unknown user", unknown),
            ("a long password", long),
        ] {
            // The best of five runs on a busy machine; a difference of the costs would be a factor of 16.
            assert!(time * 3 > high && time < high * 3, "{what}: {time:?} and {high:?}");
        }
    }
}
