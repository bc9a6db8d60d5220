//! Who may ask for what.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use landfall_core::reference::Digest;
use secrecy::{ExposeSecret, SecretString};

use crate::digest::{Algorithm, Digester};
use crate::server::Policy;
use crate::server::error::{ApiError, Code};
use crate::server::route::Route;

/// How many logins are remembered as good, so that each is checked by bcrypt once and not for each request.
const REMEMBERED_MAX: usize = 256;

/// An empty name and an empty password: what skopeo sends, once it was asked for a login, when it has none.
const NOBODY: &str = "Basic Og==";

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
    users: Arc<[(String, String)]>,
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
        Ok(Users::Htpasswd(Htpasswd { users: users.into() }))
    }

    /// Whether name and password are those of a user. Blocks for a bcrypt hash.
    fn admits(&self, name: &str, password: &str) -> bool {
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
                .iter()
                .filter(|(user, _)| user == name)
                .any(|(_, hash)| bcrypt::verify(password, hash).unwrap_or(false)),
        }
    }
}

impl fmt::Debug for Htpasswd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Htpasswd")
            .field("users", &self.users.len())
            .finish_non_exhaustive()
    }
}

/// Lets requests in, or says why not.
pub(super) struct Gate {
    policy: Policy,
    /// Hashes of `Authorization` headers that were good, with a key that nobody else has.
    remembered: Mutex<HashSet<Digest>>,
    key: [u8; 32],
}

impl Gate {
    pub(super) fn new(policy: Policy) -> Gate {
        let mut key = [0; 32];
        rand::fill(&mut key).expect("the system gives random bytes");
        Gate {
            policy,
            remembered: Mutex::default(),
            key,
        }
    }

    pub(super) async fn admit(&self, method: &Method, headers: &HeaderMap, route: &Route) -> Result<(), ApiError> {
        let reads = matches!(*method, Method::GET | Method::HEAD);
        let authorization = headers.get(header::AUTHORIZATION).filter(|value| *value != NOBODY);
        if let Some(login) = &self.policy.login {
            // The ping asks for the login even where pulling needs none: skopeo and docker learn there, and only there,
            // how to log in for a push. containerd, which pulls, does not ping.
            let open = self.policy.anonymous_pull && reads && *route != Route::Ping;
            match authorization {
                Some(authorization) if self.knows(login, authorization).await => {}
                None if open => {}
                _ => return Err(unauthorized()),
            }
        }
        if self.policy.read_only && !reads {
            return Err(ApiError::new(
                StatusCode::FORBIDDEN,
                Code::Denied,
                "this registry is read-only",
            ));
        }
        Ok(())
    }

    async fn knows(&self, login: &Users, authorization: &HeaderValue) -> bool {
        let mut digester = Digester::new(Algorithm::Sha256);
        digester.update(&self.key);
        digester.update(authorization.as_bytes());
        let hash = digester.finish();
        if self.remembered().contains(&hash) {
            return true;
        }
        let Some((name, password)) = parse_basic(authorization) else {
            return false;
        };
        let login = login.clone();
        let admitted = tokio::task::spawn_blocking(move || login.admits(&name, password.expose_secret()))
            .await
            .unwrap_or(false);
        if admitted {
            let mut remembered = self.remembered();
            if remembered.len() >= REMEMBERED_MAX {
                remembered.clear();
            }
            remembered.insert(hash);
        }
        admitted
    }

    fn remembered(&self) -> std::sync::MutexGuard<'_, HashSet<Digest>> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

/// Name and password of a `Basic` header (RFC 7617).
fn parse_basic(authorization: &HeaderValue) -> Option<(String, SecretString)> {
    let (scheme, encoded) = authorization.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (name, password) = decoded.split_once(':')?;
    Some((name.to_owned(), password.into()))
}

fn unauthorized() -> ApiError {
    ApiError::new(
        StatusCode::UNAUTHORIZED,
        Code::Unauthorized,
        "this registry wants a user name and a password",
    )
    .with_header(
        header::WWW_AUTHENTICATE,
        HeaderValue::from_static("Basic realm=\"landfall\", charset=\"UTF-8\""),
    )
}
