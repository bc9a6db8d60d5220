//! Authentication and authorization of requests.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use landfall_core::reference::Digest;
use landfall_core::sync::lock;
use landfall_net::random::random_bytes;
use landfall_net::serve::budget::ClientAddress;
use landfall_net::serve::login_throttle::{LoginThrottle, UserKey};
use landfall_oci::digest::{Algorithm, Digester};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use crate::api::error::{ApiError, ErrorCode, too_many};
use crate::api::policy::Policy;
use crate::api::users::Users;
use crate::budget_limits::COME_AGAIN;
use landfall_core::registry_path::Route;

/// Cached logins at most, right and wrong ones each. The cache makes bcrypt run once per login, not once per request.
const CACHED_LOGINS_MAX: usize = 1024;
/// Logins that are checked at the same time. bcrypt takes the processor, and all requests share it.
const CHECKS_MAX: usize = 2;
/// Time that a login waits for its check.
const CHECK_WAIT_MAX: Duration = Duration::from_secs(10);

/// Empty user name and empty password. skopeo sends them after an authentication challenge if it has no login.
const EMPTY_LOGIN: &str = "Basic Og==";

/// Authorizes requests.
pub(crate) struct AccessControl {
    login: Option<Users>,
    anonymous_pull: bool,
    read_only: bool,
    /// Results of verified `Authorization` headers, because bcrypt is slow on purpose. The keys are hashes of the
    /// header and a random key of this process.
    cached_logins: Mutex<CachedLogins>,
    /// Logins that are being checked. The same login in several requests is checked once.
    checks: Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
    check_slots: Arc<Semaphore>,
    throttle: LoginThrottle,
    key: [u8; 32],
    name_hasher: RandomState,
    refusals: AtomicU64,
}

#[derive(Default)]
struct CachedLogins {
    right: HashMap<Digest, UserKey>,
    /// Kept apart, so that guesses do not push right logins out.
    wrong: HashSet<Digest>,
}

impl CachedLogins {
    /// Returns the user of a login, and `None` in it for a wrong one.
    fn get(&self, hash: &Digest) -> Option<Option<UserKey>> {
        match self.right.get(hash) {
            Some(user) => Some(Some(*user)),
            None => self.wrong.contains(hash).then_some(None),
        }
    }

    fn insert(&mut self, hash: Digest, user: Option<UserKey>) {
        if self.right.len() >= CACHED_LOGINS_MAX {
            self.right.clear();
        }
        if self.wrong.len() >= CACHED_LOGINS_MAX {
            self.wrong.clear();
        }
        match user {
            Some(user) => drop(self.right.insert(hash, user)),
            None => drop(self.wrong.insert(hash)),
        }
    }
}

/// Entry of a login in [`AccessControl::checks`]. It goes with the first request that has it, also with one that ends
/// early.
struct CheckEntry<'a>(&'a Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>, &'a Digest);

impl Drop for CheckEntry<'_> {
    fn drop(&mut self) {
        lock(self.0).remove(self.1);
    }
}

impl AccessControl {
    pub(crate) fn new(policy: &Policy) -> AccessControl {
        AccessControl {
            login: policy.login.clone(),
            anonymous_pull: policy.anonymous_pull,
            read_only: policy.read_only,
            cached_logins: Mutex::default(),
            checks: Mutex::default(),
            check_slots: Arc::new(Semaphore::new(CHECKS_MAX)),
            throttle: LoginThrottle::default(),
            key: random_bytes(),
            name_hasher: RandomState::new(),
            refusals: AtomicU64::new(0),
        }
    }

    /// Returns the user whose login the request has, if any.
    pub(crate) async fn authorize(
        &self,
        method: &Method,
        headers: &HeaderMap,
        route: &Route,
        client: ClientAddress,
    ) -> Result<Option<UserKey>, ApiError> {
        let mut user = None;
        let reads = matches!(*method, Method::GET | Method::HEAD);
        let authorization = headers.get(header::AUTHORIZATION).filter(|value| *value != EMPTY_LOGIN);
        if let Some(login) = &self.login {
            // The ping asks for a login even where pulls are anonymous. skopeo and docker learn only from the ping how
            // to log in for a push. containerd pulls without a ping.
            let open = self.anonymous_pull && reads && *route != Route::Ping;
            match authorization {
                Some(authorization) => {
                    user = self.verify_login(login, authorization, client).await?;
                    if user.is_none() {
                        return Err(unauthorized());
                    }
                }
                None if open => {}
                None => return Err(unauthorized()),
            }
        }
        if self.read_only && !reads {
            return Err(ApiError::new(
                StatusCode::FORBIDDEN,
                ErrorCode::Denied,
                "this registry is read-only",
            ));
        }
        Ok(user)
    }

    /// Returns the number of logins that were not checked.
    pub(crate) fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::Relaxed)
    }

    /// Returns the user of a login, if it is right. It caches the result, and throttles a client that tries many logins.
    async fn verify_login(
        &self,
        login: &Users,
        authorization: &HeaderValue,
        client: ClientAddress,
    ) -> Result<Option<UserKey>, ApiError> {
        let mut digester = Digester::new(Algorithm::Sha256);
        digester.update(&self.key);
        digester.update(&login.generation().to_le_bytes());
        digester.update(authorization.as_bytes());
        let hash = digester.finish();
        if let Some(known) = self.cached_logins().get(&hash) {
            return Ok(known);
        }
        let Some((name, password)) = parse_basic(authorization) else {
            return Ok(None);
        };
        let check = lock(&self.checks).entry(hash.clone()).or_default().clone();
        let _entry = CheckEntry(&self.checks, &hash);
        let _turn = check.lock().await;
        let known = self.cached_logins().get(&hash);
        let result = match known {
            Some(known) => Ok(known),
            None => self.check_login(login, name, password, client).await,
        };
        if let Ok(result) = &result {
            self.cached_logins().insert(hash.clone(), *result);
        }
        result
    }

    async fn check_login(
        &self,
        login: &Users,
        name: String,
        password: SecretString,
        client: ClientAddress,
    ) -> Result<Option<UserKey>, ApiError> {
        let user = self.name_hasher.hash_one(&name);
        let attempt = self.throttle.begin(client, user, Instant::now()).map_err(|wait| {
            self.refusals.fetch_add(1, Ordering::Relaxed);
            too_many("too many wrong logins came from your address", wait)
        })?;
        let slot = timeout(CHECK_WAIT_MAX, self.check_slots.clone().acquire_owned()).await;
        let Ok(Ok(slot)) = slot else {
            self.refusals.fetch_add(1, Ordering::Relaxed);
            return Err(too_many("too many logins are being checked", COME_AGAIN));
        };
        let login = login.clone();
        let admitted = tokio::task::spawn_blocking(move || {
            // The check goes on when its request has ended, and so does its use of a slot.
            let _slot = slot;
            login.admits(&name, password.expose_secret())
        });
        if admitted.await.unwrap_or(false) {
            attempt.succeed(Instant::now());
            Ok(Some(user))
        } else {
            Ok(None)
        }
    }

    fn cached_logins(&self) -> std::sync::MutexGuard<'_, CachedLogins> {
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
