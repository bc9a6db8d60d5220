//! Logging in: answers a registry's challenge and keeps the tokens that it took. Decides what `Authorization` a request to
//! the registry itself carries; [`super::transport`] makes sure that nobody else sees it.

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

/// The login of one registry and what came of it.
pub(super) struct Authenticator {
    host: RegistryHost,
    login: Option<Credential>,
    keychain: Option<Arc<Keychain>>,
    listed: Vec<RegistryHost>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What the registry asked for last time: saves a 401 with each new repository.
    challenge: Option<Challenge>,
    tokens: HashMap<Scope, TokenSlot>,
    /// What was used last: to be named when it is refused, and taken out of what a server echoes.
    used: Option<UsedLogin>,
}

#[derive(Clone)]
struct UsedLogin {
    credential: Credential,
    origin: Option<String>,
}

/// What to do about a request's `Authorization`.
pub(super) enum Authorization {
    /// Send this, or nothing.
    Header(Option<HeaderValue>),
    /// Send the token that is or will be here. One that was just refused is as good as none.
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

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The login for a step: the configured one, or else what the keychain has.
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

    /// What a request sends, as far as we know without having asked.
    ///
    /// # Errors
    /// When the login cannot be looked up.
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

    /// What to send after a 401 with these challenges, which came although `refused` was sent.
    ///
    /// # Errors
    /// When there is no login that answers any of them, or it cannot be looked up.
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

    /// How the token for a step is asked for, by the last challenge.
    ///
    /// # Errors
    /// When the token server must not be used, or the login cannot be looked up.
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
                server: redirect_policy::host_and_port(&url),
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

    /// The failure of a login, or of having none. What a helper said is forgotten: it may know a newer one.
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

    /// The message without the secret that the server may have echoed, as it is or as it was sent.
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
