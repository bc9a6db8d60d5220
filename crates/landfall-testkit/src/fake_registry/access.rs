//! Authentication: none, user name and password with each request, or a token from `/token`.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Required authentication.
#[derive(Debug, Clone, Default)]
pub enum Access {
    #[default]
    Open,
    /// User name and password with each request.
    Basic { username: String, password: String },
    /// An access token from the token server.
    Bearer {
        /// User name and password for the token server; without them every client gets a token.
        login: Option<(String, String)>,
        /// The token server's URL; the registry's own `/token` if empty.
        realm: String,
    },
}

/// The issued tokens with their scopes.
#[derive(Default)]
pub(super) struct Tokens {
    scopes: HashMap<String, Vec<String>>,
    given: u64,
}

impl Tokens {
    pub(super) fn clear(&mut self) {
        self.scopes.clear();
    }

    pub(super) fn give(&mut self, scopes: Vec<String>) -> String {
        self.given += 1;
        let token = format!("token-{}", self.given);
        self.scopes.insert(token.clone(), scopes);
        token
    }

    fn allows(&self, token: &str, needed: Option<&(String, &str)>) -> bool {
        let Some(scopes) = self.scopes.get(token) else {
            return false;
        };
        let Some((repository, action)) = needed else {
            return true;
        };
        scopes.iter().any(|scope| {
            let actions = scope.strip_prefix(&format!("repository:{repository}:"));
            actions.is_some_and(|actions| actions.split(',').any(|found| found == *action))
        })
    }
}

/// Returns the challenge for a refused request.
pub(super) fn challenge(
    access: &Access,
    tokens: &Tokens,
    base: &str,
    authorization: Option<&str>,
    needed: Option<(String, &str)>,
) -> Option<String> {
    match access {
        Access::Open => None,
        Access::Basic { username, password } => {
            let right = authorization == Some(&basic(username, password));
            (!right).then(|| r#"Basic realm="fake""#.to_owned())
        }
        Access::Bearer { realm, .. } => {
            let token = authorization.and_then(|value| value.strip_prefix("Bearer "));
            if token.is_some_and(|token| tokens.allows(token, needed.as_ref())) {
                return None;
            }
            let own = format!("{base}/token");
            let realm = if realm.is_empty() { &own } else { realm };
            let scope = needed.map(|(repository, action)| format!(",scope=\"repository:{repository}:{action}\""));
            Some(format!(
                r#"Bearer realm="{realm}",service="fake"{}"#,
                scope.unwrap_or_default()
            ))
        }
    }
}

/// Returns true if the token server issues a token.
pub(super) fn may_have_token(access: &Access, authorization: Option<&str>) -> bool {
    match access {
        Access::Bearer { login: None, .. } => true,
        Access::Bearer {
            login: Some((username, password)),
            ..
        } => authorization == Some(&basic(username, password)),
        Access::Open | Access::Basic { .. } => false,
    }
}

fn basic(username: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{username}:{password}")))
}
