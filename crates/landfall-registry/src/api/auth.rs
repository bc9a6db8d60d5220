//! Authentication and authorization of requests.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Mutex;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use landfall_core::reference::Digest;
use landfall_core::sync::lock;
use landfall_net::random::random_bytes;
use landfall_oci::digest::{Algorithm, Digester};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

use crate::api::error::{ApiError, ErrorCode};
use crate::api::login_throttle::LoginThrottle;
use crate::api::policy::Policy;
use crate::api::users::Users;
use landfall_core::registry_path::Route;

/// Cached logins at most. The cache makes bcrypt run once per login, not once per request.
const CACHED_LOGINS_MAX: usize = 1024;

/// Empty user name and empty password. skopeo sends them after an authentication challenge if it has no login.
const EMPTY_LOGIN: &str = "Basic Og==";

/// Authorizes requests.
pub(crate) struct AccessControl {
    login: Option<Users>,
    anonymous_pull: bool,
    read_only: bool,
    /// Results of verified `Authorization` headers, because bcrypt is slow on purpose. The keys are hashes of the
    /// header and a random key of this process.
    cached_logins: Mutex<HashMap<Digest, bool>>,
    throttle: LoginThrottle,
    key: [u8; 32],
}

impl AccessControl {
    pub(crate) fn new(policy: &Policy) -> AccessControl {
        AccessControl {
            login: policy.login.clone(),
            anonymous_pull: policy.anonymous_pull,
            read_only: policy.read_only,
            cached_logins: Mutex::default(),
            throttle: LoginThrottle::default(),
            key: random_bytes(),
        }
    }

    pub(crate) async fn authorize(
        &self,
        method: &Method,
        headers: &HeaderMap,
        route: &Route,
        peer: IpAddr,
    ) -> Result<(), ApiError> {
        let reads = matches!(*method, Method::GET | Method::HEAD);
        let authorization = headers.get(header::AUTHORIZATION).filter(|value| *value != EMPTY_LOGIN);
        if let Some(login) = &self.login {
            // The ping asks for a login even where pulls are anonymous. skopeo and docker learn only from the ping how
            // to log in for a push. containerd pulls without a ping.
            let open = self.anonymous_pull && reads && *route != Route::Ping;
            match authorization {
                Some(authorization) if self.verify_login(login, authorization, peer).await? => {}
                None if open => {}
                _ => return Err(unauthorized()),
            }
        }
        if self.read_only && !reads {
            return Err(ApiError::new(
                StatusCode::FORBIDDEN,
                ErrorCode::Denied,
                "this registry is read-only",
            ));
        }
        Ok(())
    }

    /// Returns true if a login is a user's. It caches the result, and throttles a client that tries many logins.
    async fn verify_login(&self, login: &Users, authorization: &HeaderValue, peer: IpAddr) -> Result<bool, ApiError> {
        let mut digester = Digester::new(Algorithm::Sha256);
        digester.update(&self.key);
        digester.update(&login.generation().to_le_bytes());
        digester.update(authorization.as_bytes());
        let hash = digester.finish();
        if let Some(known) = self.cached_logins().get(&hash) {
            return Ok(*known);
        }
        let Some((name, password)) = parse_basic(authorization) else {
            return Ok(false);
        };
        let now = Instant::now();
        if let Some(wait) = self.throttle.retry_after(peer, now) {
            return Err(ApiError::new(
                StatusCode::TOO_MANY_REQUESTS,
                ErrorCode::TooManyRequests,
                "too many wrong logins came from your address",
            )
            .with_header(header::RETRY_AFTER, wait.as_secs().max(1).into()));
        }
        let login = login.clone();
        let admitted = tokio::task::spawn_blocking(move || login.admits(&name, password.expose_secret()))
            .await
            .unwrap_or(false);
        if !admitted {
            self.throttle.record_failure(peer, now);
        }
        let mut cached_logins = self.cached_logins();
        if cached_logins.len() >= CACHED_LOGINS_MAX {
            cached_logins.clear();
        }
        cached_logins.insert(hash, admitted);
        Ok(admitted)
    }

    fn cached_logins(&self) -> std::sync::MutexGuard<'_, HashMap<Digest, bool>> {
        lock(&self.cached_logins)
    }
}

impl fmt::Debug for AccessControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessControl")
            .field("login", &self.login)
            .field("anonymous_pull", &self.anonymous_pull)
            .field("read_only", &self.read_only)
            .finish_non_exhaustive()
    }
}

/// Parses name and password of a `Basic` header (RFC 7617).
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
        ErrorCode::Unauthorized,
        "this registry wants a user name and a password",
    )
    .with_header(
        header::WWW_AUTHENTICATE,
        HeaderValue::from_static("Basic realm=\"landfall\", charset=\"UTF-8\""),
    )
}
