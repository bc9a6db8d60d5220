//! Who may ask for what.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use landfall_core::reference::Digest;
use landfall_net::random::random_bytes;
use landfall_oci::digest::{Algorithm, Digester};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

use crate::api::Policy;
use crate::api::attempts::Attempts;
use crate::api::error::{ApiError, Code};
use landfall_core::registry_path::Route;

/// How many logins are remembered, so that each is checked by bcrypt once and not for each request.
const REMEMBERED_MAX: usize = 1024;

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
    users: Arc<ArcSwap<Lines>>,
}

/// The lines of an htpasswd file: names and hashes.
struct Lines {
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
    fn generation(&self) -> u64 {
        match self {
            Users::User { .. } => 0,
            Users::Htpasswd(Htpasswd { users }) => users.load().generation,
        }
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
                .load()
                .users
                .iter()
                .filter(|(user, _)| user == name)
                .any(|(_, hash)| bcrypt::verify(password, hash).unwrap_or(false)),
        }
    }
}

fn parse_lines(text: &str, generation: u64) -> Result<Lines, UsersError> {
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
    Ok(Lines { generation, users })
}

impl fmt::Debug for Htpasswd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Htpasswd")
            .field("users", &self.users.load().users.len())
            .finish_non_exhaustive()
    }
}

/// Lets requests in, or says why not.
pub(crate) struct Gate {
    login: Option<Users>,
    anonymous_pull: bool,
    read_only: bool,
    /// What was found of `Authorization` headers, by hashes with a key that nobody else has: bcrypt is slow on purpose.
    remembered: Mutex<HashMap<Digest, bool>>,
    attempts: Attempts,
    key: [u8; 32],
}

impl Gate {
    pub(crate) fn new(policy: &Policy) -> Gate {
        Gate {
            login: policy.login.clone(),
            anonymous_pull: policy.anonymous_pull,
            read_only: policy.read_only,
            remembered: Mutex::default(),
            attempts: Attempts::default(),
            key: random_bytes(),
        }
    }

    pub(crate) async fn admit(
        &self,
        method: &Method,
        headers: &HeaderMap,
        route: &Route,
        peer: IpAddr,
    ) -> Result<(), ApiError> {
        let reads = matches!(*method, Method::GET | Method::HEAD);
        let authorization = headers.get(header::AUTHORIZATION).filter(|value| *value != NOBODY);
        if let Some(login) = &self.login {
            // The ping asks for the login even where pulling needs none: skopeo and docker learn there, and only there,
            // how to log in for a push. containerd, which pulls, does not ping.
            let open = self.anonymous_pull && reads && *route != Route::Ping;
            match authorization {
                Some(authorization) if self.knows(login, authorization, peer).await? => {}
                None if open => {}
                _ => return Err(unauthorized()),
            }
        }
        if self.read_only && !reads {
            return Err(ApiError::new(
                StatusCode::FORBIDDEN,
                Code::Denied,
                "this registry is read-only",
            ));
        }
        Ok(())
    }

    /// Whether a login is one of ours. What was found once is not computed again; whoever tries many is slowed down.
    async fn knows(&self, login: &Users, authorization: &HeaderValue, peer: IpAddr) -> Result<bool, ApiError> {
        let mut digester = Digester::new(Algorithm::Sha256);
        digester.update(&self.key);
        digester.update(&login.generation().to_le_bytes());
        digester.update(authorization.as_bytes());
        let hash = digester.finish();
        if let Some(known) = self.remembered().get(&hash) {
            return Ok(*known);
        }
        let Some((name, password)) = parse_basic(authorization) else {
            return Ok(false);
        };
        let now = Instant::now();
        if let Some(wait) = self.attempts.must_wait(peer, now) {
            return Err(ApiError::new(
                StatusCode::TOO_MANY_REQUESTS,
                Code::TooManyRequests,
                "too many wrong logins came from your address",
            )
            .with_header(header::RETRY_AFTER, wait.as_secs().max(1).into()));
        }
        let login = login.clone();
        let admitted = tokio::task::spawn_blocking(move || login.admits(&name, password.expose_secret()))
            .await
            .unwrap_or(false);
        if !admitted {
            self.attempts.failed(peer, now);
        }
        let mut remembered = self.remembered();
        if remembered.len() >= REMEMBERED_MAX {
            remembered.clear();
        }
        remembered.insert(hash, admitted);
        Ok(admitted)
    }

    fn remembered(&self) -> std::sync::MutexGuard<'_, HashMap<Digest, bool>> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("login", &self.login)
            .field("anonymous_pull", &self.anonymous_pull)
            .field("read_only", &self.read_only)
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
