//! Login to a registry: answers its challenges and keeps its tokens. It decides about the `Authorization` of requests
//! to the registry itself; [`super::transport`] ensures that no other host sees it.

mod header;
pub(crate) mod scope;
pub(crate) mod token;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use http::HeaderValue;
use landfall_core::credential_file::Credential;
use landfall_core::reference::RegistryHost;
use landfall_core::sync::lock;
use reqwest::Url;
use secrecy::ExposeSecret;

use super::challenge::Challenge;
use super::error::Fault;
use super::login::Login;
use super::problem::ProtocolProblem;
use super::redirect_policy;
use super::server_message::ServerMessage;
use crate::client::auth::header::{basic, encoded};
use crate::client::auth::scope::Scope;
use crate::client::auth::token::{TokenRequest, TokenSlot};
use crate::keychain::Keychain;

/// The login of one registry, and its tokens.
pub(super) struct Authenticator {
    host: RegistryHost,
    login: Option<Credential>,
    keychain: Option<Arc<Keychain>>,
    listed: Vec<RegistryHost>,
    state: Mutex<AuthState>,
}

#[derive(Default)]
struct AuthState {
    /// The registry's last challenge. It saves a 401 for each new repository.
    challenge: Option<Challenge>,
    tokens: HashMap<Scope, TokenSlot>,
    /// The credential in use: named when it is refused, and redacted from the server's messages.
    used: Option<UsedLogin>,
}

#[derive(Clone)]
struct UsedLogin {
    credential: Credential,
    origin: Option<String>,
}

/// Instruction for a request's `Authorization` header.
pub(super) enum Authorization {
    /// Send this header, or none.
    Header(Option<HeaderValue>),
    /// Send the token in this slot. Fetch a new one if the slot is empty or holds the refused one.
    Token {
        slot: TokenSlot,
        refused: Option<HeaderValue>,
    },
}

impl Authenticator {
    pub(super) fn new(
        host: RegistryHost,
        login: Option<Login>,
        keychain: Option<Arc<Keychain>>,
        listed: Vec<RegistryHost>,
    ) -> Authenticator {
        Authenticator {
            host,
            login: login.map(|login| Credential::Password {
                username: login.username,
                password: login.password,
            }),
            keychain,
            listed,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, AuthState> {
        lock(&self.state)
    }

    /// Returns the credential for a scope: the configured one, or else that of the keychain.
    async fn credential(&self, scope: &Scope) -> Result<Option<Credential>, Fault> {
        let used = match (&self.login, &self.keychain) {
            (Some(credential), _) => UsedLogin {
                credential: credential.clone(),
                origin: None,
            },
            (None, None) => return Ok(None),
            (None, Some(keychain)) => match keychain.find(&self.host, scope.repository()).await? {
                None => return Ok(None),
                Some(found) => UsedLogin {
                    credential: found.credential,
                    origin: Some(found.origin),
                },
            },
        };
        let credential = used.credential.clone();
        self.state().used = Some(used);
        Ok(Some(credential))
    }

    /// Returns the authorization for a request, from what is known without asking.
    ///
    /// # Errors
    /// Fails if the login cannot be looked up.
    pub(super) async fn prepare(&self, scope: &Scope) -> Result<Authorization, Fault> {
        let challenge = self.state().challenge.clone();
        let basic_first = *scope == Scope::Login || challenge == Some(Challenge::Basic);
        if basic_first {
            return Ok(Authorization::Header(
                self.credential(scope).await?.as_ref().and_then(basic),
            ));
        }
        Ok(match challenge {
            None => Authorization::Header(None),
            Some(_) => self.token(scope, None),
        })
    }

    /// Answers the challenges of a 401. `refused` is the header that the request carried.
    ///
    /// # Errors
    /// Fails if no login answers any of the challenges, or it cannot be looked up.
    pub(super) async fn challenged(
        &self,
        scope: &Scope,
        challenges: Vec<Challenge>,
        refused: Option<HeaderValue>,
        message: ServerMessage,
    ) -> Result<Authorization, Fault> {
        let header = self.credential(scope).await?.as_ref().and_then(basic);
        let usable = challenges.iter().find(|challenge| match challenge {
            Challenge::Basic => header.is_some(),
            Challenge::Bearer { .. } => true,
        });
        let Some(challenge) = usable else {
            return Err(match challenges.is_empty() {
                true => Fault::from(ProtocolProblem::NoUsableChallenge),
                false => Fault::LoginMissing { message },
            });
        };
        self.state().challenge = Some(challenge.clone());
        Ok(match challenge {
            Challenge::Basic => Authorization::Header(header),
            Challenge::Bearer { .. } => self.token(scope, refused),
        })
    }

    fn token(&self, scope: &Scope, refused: Option<HeaderValue>) -> Authorization {
        let slot = self.state().tokens.entry(scope.clone()).or_default().clone();
        Authorization::Token { slot, refused }
    }

    /// Builds the request for a scope's token from the last challenge.
    ///
    /// # Errors
    /// Fails if the token server must not be used, or the login cannot be looked up.
    pub(super) async fn token_request(&self, base: &Url, scope: &Scope) -> Result<TokenRequest, Fault> {
        let challenge = self.state().challenge.clone();
        let Some(Challenge::Bearer {
            realm,
            service,
            scope: challenge_scope,
        }) = challenge
        else {
            return Err(Fault::from(ProtocolProblem::NoUsableChallenge));
        };
        let url = Url::parse(&realm).map_err(|_| Fault::from(ProtocolProblem::BadRealm))?;
        let credential = self.credential(scope).await?;
        redirect_policy::check_token_server(base, &url, credential.is_some(), &self.listed).map_err(|reason| {
            Fault::TokenServerNotTrusted {
                server: redirect_policy::shown_host(&url),
                reason,
            }
        })?;
        Ok(token::token_request(
            url,
            service.as_deref(),
            challenge_scope.as_deref(),
            scope,
            credential.as_ref(),
        ))
    }

    /// Returns the failure for a refused or missing login, and forgets the answers of helpers: they may have a newer
    /// login.
    pub(super) fn unauthorized(&self, message: ServerMessage) -> Fault {
        if let Some(keychain) = &self.keychain {
            keychain.forget();
        }
        match self.state().used.clone() {
            None => Fault::LoginMissing { message },
            Some(UsedLogin { credential, origin }) => Fault::LoginRefused {
                username: match credential {
                    Credential::Password { username, .. } => username,
                    Credential::IdentityToken(_) => "<token>".to_owned(),
                },
                origin,
                message,
            },
        }
    }

    /// Removes the secret from a message: the server may echo it, plain or encoded.
    pub(super) fn redact(&self, message: ServerMessage) -> ServerMessage {
        let state = self.state();
        let credential = state.used.as_ref().map(|used| &used.credential);
        match credential.or(self.login.as_ref()) {
            None => message,
            Some(credential) => {
                let (Credential::Password { password: secret, .. } | Credential::IdentityToken(secret)) = credential;
                let message = match encoded(credential) {
                    Some(encoded) => message.without(&encoded),
                    None => message,
                };
                message.without(secret.expose_secret())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;

    #[test]
    fn a_login_shows_no_password() {
        let login = Login {
            username: "ann".to_owned(),
            password: SecretString::from("canary"),
        };
        let credential = Credential::from_pair("ann", "canary").unwrap();
        assert_eq!(
            format!("{login:?} {:?}", basic(&credential)),
            "Login { username: \"ann\", .. } Some(Sensitive)"
        );
    }
}
